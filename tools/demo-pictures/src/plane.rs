//! Gray pictures in floating point, random numbers and noise.
//!
//! Only `+ − × ÷ √` and rounding are used, here and in the files beside it: they give the same bits on every machine,
//! which sines and exponentials do not.

use image::GrayImage;

/// A gray picture whose values are not yet rounded to bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
}

impl Plane {
    pub fn from_fn(width: usize, height: usize, mut value: impl FnMut(f32, f32) -> f32) -> Self {
        let values = (0..width * height).map(|i| value((i % width) as f32, (i / width) as f32)).collect();
        Plane { width, height, values }
    }

    pub fn from_image(image: &GrayImage) -> Self {
        let values = image.as_raw().iter().map(|&v| f32::from(v)).collect();
        Plane { width: image.width() as usize, height: image.height() as usize, values }
    }

    pub fn to_image(&self) -> GrayImage {
        let byte = |x: u32, y: u32| self.values[y as usize * self.width + x as usize].round() as u8;
        GrayImage::from_fn(self.width as u32, self.height as u32, |x, y| image::Luma([byte(x, y)]))
    }

    /// The value between pixels; beyond the borders the last row and column go on.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (x.clamp(0.0, (self.width - 1) as f32), y.clamp(0.0, (self.height - 1) as f32));
        let (x0, y0) = (x as usize, y as usize);
        let (x1, y1) = ((x0 + 1).min(self.width - 1), (y0 + 1).min(self.height - 1));
        let value = |x: usize, y: usize| self.values[y * self.width + x];
        let fx = x - x0 as f32;
        let top = mix(value(x0, y0), value(x1, y0), fx);
        let bottom = mix(value(x0, y1), value(x1, y1), fx);
        mix(top, bottom, y - y0 as f32)
    }
}

pub fn mix(a: f32, b: f32, fraction: f32) -> f32 {
    a + (b - a) * fraction
}

/// 0 up to `from`, 1 beyond `to`, smooth between; falls instead of rising when `to` is below `from`.
pub fn ramp(from: f32, to: f32, value: f32) -> f32 {
    let t = ((value - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Random numbers (SplitMix64). Each picture has its own, named after it, so that one more picture changes no other.
pub struct Random(u64);

impl Random {
    pub fn named(name: &str) -> Self {
        // FNV-1a.
        Random(
            name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)),
        )
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        mix(low, high, (self.next() >> 40) as f32 / (1u64 << 24) as f32)
    }

    pub fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    /// Mean 0, standard deviation 1, near enough to a bell for camera noise.
    pub fn bell(&mut self) -> f32 {
        (0..3).map(|_| self.between(-1.0, 1.0)).sum()
    }

    /// A vector of length 1.
    pub fn direction(&mut self) -> (f32, f32) {
        loop {
            let (x, y) = (self.between(-1.0, 1.0), self.between(-1.0, 1.0));
            let length = (x * x + y * y).sqrt();
            if (0.1..=1.0).contains(&length) {
                return (x / length, y / length);
            }
        }
    }
}

fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Value noise: random values on a lattice of spacing 1, smoothly joined.
pub struct Noise(u64);

impl Noise {
    pub fn new(random: &mut Random) -> Self {
        Noise(random.next())
    }

    /// -1 to 1.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let lattice = |dx: i64, dy: i64| {
            let (i, j) = (left as i64 + dx, top as i64 + dy);
            let key =
                (i as u64).wrapping_mul(0x9e37_79b9).wrapping_add((j as u64).wrapping_mul(0x85eb_ca6b_c2b2));
            (scramble(self.0 ^ key) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let (fx, fy) = (ramp(0.0, 1.0, x - left), ramp(0.0, 1.0, y - top));
        mix(mix(lattice(0, 0), lattice(1, 0), fx), mix(lattice(0, 1), lattice(1, 1), fx), fy)
    }

    /// Four octaves, each of half the size and half the height: the raggedness of natural outlines.
    pub fn rough(&self, x: f32, y: f32) -> f32 {
        (0..4).map(|octave| (1 << octave) as f32).map(|f| self.at(x * f + 17.0 * f, y * f) / f).sum::<f32>()
            / 1.875
    }
}
