//! Defects painted onto a surface.
//!
//! Every defect is a *coverage* between 0 and 1 and what the surface looks like where it is covered. The mask is where
//! the coverage is at least one half: soft edges are cut in their middle, and the shadow of foreign matter and the lip
//! of a scratch do not count.

use crate::plane::{Noise, Plane, Random, mix, ramp};

/// What is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A thin, slightly curved groove of varying width, light or dark, the dark ones with a bright lip. On a rough
    /// surface, which hides such lines, a white cord.
    Scratch,
    /// A ragged spot that darkens the surface, darker toward its rim as dried liquids are. On a rough surface, which has
    /// dark spots of its own, a splash of white paint.
    Stain,
    /// A piece of another photograph with a ragged outline and a shadow; on a rough surface a bleached one.
    Foreign,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Scratch, Kind::Stain, Kind::Foreign];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Scratch => "scratch",
            Kind::Stain => "stain",
            Kind::Foreign => "foreign",
        }
    }
}

/// A surface with a defect, and where the defect is.
pub struct Painted {
    pub surface: Plane,
    pub mask: Vec<bool>,
}

/// Fewer gray levels than this, on average over the mask, and people argue whether there is a defect at all.
const VISIBLE: f32 = 9.0;
/// Fewer pixels than this are dust, not a defect.
const SMALLEST: usize = 40;
const TRIES: usize = 50;

/// Paints a visible defect, or gives up with `None` on a surface that hides everything. `other` is where foreign matter
/// comes from; a `rough` surface gets defects that stand out from its own disorder.
pub fn paint(
    kind: Kind,
    surface: &Plane,
    other: &Plane,
    rough: bool,
    random: &mut Random,
) -> Option<Painted> {
    (0..TRIES).find_map(|_| {
        let painted = match kind {
            Kind::Scratch => scratch(surface, rough, random),
            Kind::Stain => stain(surface, rough, random),
            Kind::Foreign => foreign(surface, other, rough, random),
        };
        let covered = painted.mask.iter().filter(|m| **m).count();
        let change: f32 = painted
            .mask
            .iter()
            .zip(surface.values.iter().zip(&painted.surface.values))
            .filter(|(covered, _)| **covered)
            .map(|(_, (before, after))| (before - after).abs())
            .sum();
        (covered >= SMALLEST && change / covered as f32 >= VISIBLE).then_some(painted)
    })
}

fn mask_of(coverage: &Plane) -> Vec<bool> {
    coverage.values.iter().map(|&c| c >= 0.5).collect()
}

/// A ragged spot.
struct Blob {
    center: (f32, f32),
    /// Half axes, the first along `direction`.
    radii: (f32, f32),
    direction: (f32, f32),
    /// Width of the soft edge in pixels.
    softness: f32,
    noise: Noise,
}

impl Blob {
    /// A blob well inside the surface, with half axes between the given fractions of the surface's width.
    fn within(surface: &Plane, radii: [(f32, f32); 2], softness: f32, random: &mut Random) -> Self {
        let (width, height) = (surface.width as f32, surface.height as f32);
        let mut radius = |(low, high): (f32, f32)| random.between(low, high) * width;
        let radii = (radius(radii[0]), radius(radii[1]));
        let margin = radii.0.max(radii.1) * 1.2;
        Blob {
            center: (random.between(margin, width - margin), random.between(margin, height - margin)),
            radii,
            direction: random.direction(),
            softness,
            noise: Noise::new(random),
        }
    }

    /// How far inside the outline a point is, in units of the smaller radius: 0 on it, negative outside.
    fn depth(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.center.0, y - self.center.1);
        let along = (dx * self.direction.0 + dy * self.direction.1) / self.radii.0;
        let across = (dy * self.direction.0 - dx * self.direction.1) / self.radii.1;
        let grain = self.radii.0.min(self.radii.1) * 0.9;
        1.0 - (along * along + across * across).sqrt() + 0.45 * self.noise.rough(x / grain, y / grain)
    }

    fn coverage(&self, surface: &Plane) -> Plane {
        let soft = self.softness / self.radii.0.min(self.radii.1) / 2.0;
        Plane::from_fn(surface.width, surface.height, |x, y| ramp(-soft, soft, self.depth(x, y)))
    }
}

fn stain(surface: &Plane, rough: bool, random: &mut Random) -> Painted {
    let blob = Blob::within(surface, [(0.09, 0.17), (0.07, 0.12)], random.between(4.0, 8.0), random);
    let strength = random.between(0.38, 0.58);
    let clouds = Noise::new(random);
    let coverage = blob.coverage(surface);
    let stained = Plane::from_fn(surface.width, surface.height, |x, y| {
        let i = y as usize * surface.width + x as usize;
        let rim = ramp(0.45, 0.05, blob.depth(x, y));
        let cloud = clouds.rough(x / 24.0, y / 24.0);
        let strength = (strength * (0.8 + 0.3 * rim + 0.25 * cloud)).min(1.0);
        if rough {
            return mix(surface.values[i], 235.0 + 15.0 * cloud, 0.95 * coverage.values[i]);
        }
        surface.values[i] * (1.0 - strength * coverage.values[i])
    });
    Painted { surface: stained, mask: mask_of(&coverage) }
}

fn foreign(surface: &Plane, other: &Plane, rough: bool, random: &mut Random) -> Painted {
    let blob = Blob::within(surface, [(0.08, 0.14), (0.06, 0.1)], 2.5, random);
    let coverage = blob.coverage(surface);
    let from = (
        random.between(0.0, (other.width - surface.width) as f32).floor(),
        random.between(0.0, (other.height - surface.height) as f32).floor(),
    );
    let covered = Plane::from_fn(surface.width, surface.height, |x, y| {
        let i = y as usize * surface.width + x as usize;
        let shadow = ramp(-0.25, 0.2, blob.depth(x - 2.0, y - 3.0));
        let ground = surface.values[i] * (1.0 - 0.45 * shadow);
        let matter = other.at(x + from.0, y + from.1);
        mix(ground, if rough { 150.0 + 0.6 * matter } else { matter }, coverage.values[i])
    });
    Painted { surface: covered, mask: mask_of(&coverage) }
}

/// One step along a scratch.
struct Step {
    x: f32,
    y: f32,
    half_width: f32,
    /// How deep the groove is here, 0 to 1.
    depth: f32,
}

fn scratch(surface: &Plane, rough: bool, random: &mut Random) -> Painted {
    const STEPS: usize = 160;
    let (width, height) = (surface.width as f32, surface.height as f32);
    let (dx, dy) = random.direction();
    let length = random.between(0.35, 0.7) * width;
    let bend = random.between(-0.1, 0.1) * length;
    let room = |half: f32, side: f32| (half.abs() + 0.06 * side, side - half.abs() - 0.06 * side);
    let (half_x, half_y) =
        (dx * length / 2.0 + dy.abs() * bend.abs(), dy * length / 2.0 + dx.abs() * bend.abs());
    let ((left, right), (top, bottom)) = (room(half_x, width), room(half_y, height));
    let center = (random.between(left, right), random.between(top, bottom));
    let widest = if rough { random.between(3.0, 4.2) } else { random.between(0.9, 1.6) };
    let noise = Noise::new(random);
    let light = rough || random.coin();
    let strength = if rough { 0.97 } else { random.between(0.7, 0.9) };

    let path: Vec<Step> = (0..=STEPS)
        .map(|i| {
            let t = i as f32 / STEPS as f32;
            // A parabola through both ends, and the hand's tremble.
            let aside = bend * 4.0 * t * (1.0 - t) + 1.3 * noise.at(t * 7.0, 0.5);
            let along = (t - 0.5) * length;
            let taper = ramp(0.0, 0.25, t) * ramp(1.0, 0.75, t);
            Step {
                x: center.0 + dx * along - dy * aside,
                y: center.1 + dy * along + dx * aside,
                half_width: (widest * (0.5 + 0.5 * taper) * (1.0 + 0.4 * noise.at(t * 11.0, 9.5))).max(0.5),
                // It skips where the tool jumped; a cord does not.
                depth: if rough { 1.0 } else { (0.75 + 0.6 * noise.at(t * 17.0, 20.5)).clamp(0.15, 1.0) },
            }
        })
        .collect();

    let mut coverage = Plane::from_fn(surface.width, surface.height, |_, _| 0.0);
    let scratched = Plane::from_fn(surface.width, surface.height, |x, y| {
        let i = y as usize * surface.width + x as usize;
        let before = surface.values[i];
        let distance = |s: &Step| (x - s.x) * (x - s.x) + (y - s.y) * (y - s.y);
        let Some(nearest) = path.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))) else {
            return before;
        };
        let away = distance(nearest).sqrt() - nearest.half_width;
        if away > 4.0 {
            return before;
        }
        let covered = ramp(0.8, -0.8, away);
        coverage.values[i] = covered;
        // A dark groove has a bright lip on the side that faces the light; a light one is a trace of powder and flat.
        let lip = !light && (x - nearest.x) * 0.6 + (y - nearest.y) * 0.8 > 0.0;
        let ground = if lip { before + 28.0 * ramp(2.6, 0.6, away) * nearest.depth } else { before };
        let groove = if light { mix(before, 240.0, strength) } else { before * (1.0 - strength) };
        mix(ground, groove, covered * nearest.depth)
    });
    Painted { surface: scratched, mask: mask_of(&coverage) }
}
