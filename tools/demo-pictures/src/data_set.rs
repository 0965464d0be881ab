//! The data set: which pictures there are, where on the photographs they come from, and how they are written.

use std::fs;
use std::path::{Path, PathBuf};

use image::{GrayImage, Luma};

use crate::defects::{self, Kind};
use crate::plane::{Plane, Random};

const PHOTOGRAPHS: [&str; 3] = ["brick", "grass", "gravel"];
/// The photographs' size; larger ones work as well.
const SIDE: usize = 512;
/// A picture's side in pixels.
const TILE: usize = 256;
/// How far a panel may lie from its place under the camera, in pixels.
const PLAY: f32 = 5.0;
const TRAIN: usize = 36;
const GOOD: usize = 20;
const PER_KIND: usize = 5;

/// Begins `README.txt`, and so tells a folder that this program may replace from one that it must not touch.
const SIGNATURE: &str = "Demo pictures: photographed surfaces with painted defects";

/// Writes the data set.
///
/// The folder appears under its name only when it is complete. A folder of that name is replaced if this program
/// wrote it, and refused otherwise.
pub fn write(source: &Path, output: &Path) -> Result<(), String> {
    let mut photographs = Vec::new();
    for name in PHOTOGRAPHS {
        photographs.push((name, photograph(&source.join(format!("{name}.png")))?));
    }
    let old = match fs::read_to_string(output.join("README.txt")) {
        Ok(readme) if readme.starts_with(SIGNATURE) => true,
        _ if !output.exists() => false,
        _ => return Err(format!("{} exists and is not a set of demo pictures", output.display())),
    };

    let partial = beside(output, ".partial")?;
    remove(&partial)?;
    for (i, (name, photograph)) in photographs.iter().enumerate() {
        let others: Vec<&Plane> =
            (1..photographs.len()).map(|step| &photographs[(i + step) % photographs.len()].1).collect();
        surface(&partial.join(name), name, photograph, &others)?;
    }
    let readme = partial.join("README.txt");
    fs::write(&readme, readme_text()).map_err(|e| failed("write", &readme, e))?;

    let replaced = beside(output, ".replaced")?;
    remove(&replaced)?;
    if old {
        fs::rename(output, &replaced).map_err(|e| failed("move", output, e))?;
    }
    fs::rename(&partial, output).map_err(|e| failed("write", output, e))?;
    remove(&replaced)
}

fn failed(doing: &str, path: &Path, error: impl std::fmt::Display) -> String {
    format!("cannot {doing} {}: {error}", path.display())
}

fn beside(path: &Path, suffix: &str) -> Result<PathBuf, String> {
    let name = path.file_name().ok_or_else(|| format!("{} is not a name for a folder", path.display()))?;
    let mut name = name.to_os_string();
    name.push(suffix);
    Ok(path.with_file_name(name))
}

fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", folder, e)),
        _ => Ok(()),
    }
}

fn photograph(path: &Path) -> Result<Plane, String> {
    let picture = image::open(path)
        .map_err(|e| failed("read", path, e) + " (tools/fetch-photographs.sh gets the photographs)")?
        .into_luma8();
    if (picture.width() as usize) < SIDE || (picture.height() as usize) < SIDE {
        return Err(format!("{} must have at least {SIDE}×{SIDE} pixels", path.display()));
    }
    Ok(Plane::from_image(&picture))
}

/// Writes the folder of one photograph.
fn surface(folder: &Path, name: &str, photograph: &Plane, others: &[&Plane]) -> Result<(), String> {
    for (part, count) in [("train", TRAIN), ("test", GOOD)] {
        for number in 0..count {
            let place = format!("{part}/good/{number:03}.png");
            let mut random = Random::named(&format!("{name}/{place}"));
            let panel = placed(photograph, &mut random);
            save(&folder.join(&place), &photographed(&panel, &mut random))?;
        }
    }
    let rough = name != "brick";
    for kind in Kind::ALL {
        for number in 0..PER_KIND {
            let place = format!("test/{}/{number:03}.png", kind.name());
            let mut random = Random::named(&format!("{name}/{place}"));
            let panel = placed(photograph, &mut random);
            let painted = defects::paint(kind, &panel, others[number % others.len()], rough, &mut random)
                .ok_or_else(|| format!("no {} can be seen on {name}", kind.name()))?;
            let mask = GrayImage::from_fn(TILE as u32, TILE as u32, |x, y| {
                Luma([if painted.mask[y as usize * TILE + x as usize] { 255 } else { 0 }])
            });
            save(&folder.join(&place), &photographed(&painted.surface, &mut random))?;
            save(&folder.join(format!("ground_truth/{}/{number:03}_mask.png", kind.name())), &mask)?;
        }
    }
    Ok(())
}

fn save(path: &Path, picture: &GrayImage) -> Result<(), String> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| failed("make", folder, e))?;
    }
    picture.save(path).map_err(|e| failed("write", path, e))
}

/// A panel as it comes to lie under the camera: a little moved, turned (up to 1°), and nearer or farther (up to 1 %).
fn placed(photograph: &Plane, random: &mut Random) -> Plane {
    let middle = (TILE as f32 - 1.0) / 2.0;
    let mut place = |side: usize| (side as f32 - 1.0) / 2.0 + random.between(-PLAY, PLAY);
    let center = (place(photograph.width), place(photograph.height));
    // The tangent of half the angle gives its sine and cosine without a sine.
    let half = random.between(-0.0087, 0.0087);
    let scale = random.between(0.99, 1.01) / (1.0 + half * half);
    let (cosine, sine) = (scale * (1.0 - half * half), scale * 2.0 * half);
    Plane::from_fn(TILE, TILE, |x, y| {
        let (dx, dy) = (x - middle, y - middle);
        photograph.at(center.0 + cosine * dx - sine * dy, center.1 + sine * dx + cosine * dy)
    })
}

/// What a camera makes of a surface: exposure and light vary a little from part to part, and there is noise.
fn photographed(surface: &Plane, random: &mut Random) -> GrayImage {
    let exposure = random.between(0.97, 1.03);
    let (light_x, light_y) = (random.between(-0.02, 0.02), random.between(-0.02, 0.02));
    let middle = TILE as f32 / 2.0;
    Plane::from_fn(surface.width, surface.height, |x, y| {
        let light = exposure + light_x * (x / middle - 1.0) + light_y * (y / middle - 1.0);
        surface.values[y as usize * surface.width + x as usize] * light + 1.2 * random.bell()
    })
    .to_image()
}

fn readme_text() -> String {
    format!(
        "{SIGNATURE}\n\n\
         Each photograph stands for a pattern that is printed on panels, one picture per panel: moved by up to\n\
         {PLAY} pixels, turned, scaled, lit and exposed a little differently. No picture is used twice. The defects are\n\
         not photographed: a program painted them (tools/demo-pictures in the source of weakrest). The pictures show\n\
         how the inspector is used; numbers measured on them say nothing of real parts.\n\n\
         Layout: SURFACE/train/good, test/good, test/DEFECT, ground_truth/DEFECT/NAME_mask.png\n\
         Surfaces: brick, grass, gravel\n\
         Defects: scratch (grass and gravel: a white cord), stain (white paint), foreign (matter from another surface)\n\
         Masks: 255 where the painted defect covers the surface by at least one half, 0 elsewhere\n\n\
         Sources: the sample pictures brick, grass and gravel of scikit-image 0.25.2 (512x512, gray). Its documentation\n\
         (skimage/data/_fetchers.py) states for each that the original was licensed under the Creative Commons CC0\n\
         License: Bricks25 and Gravel04 of CC0Textures, Grass-01 of DeviantArt. These pictures are under CC0 as well.\n"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plane::Noise;

    /// A folder of its own for each test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("demo-pictures-{}-{test}", std::process::id()));
            remove(&path).unwrap();
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        /// With stand-ins for the photographs: noise of three grain sizes.
        fn with_photographs(test: &str) -> Self {
            let folder = Folder::new(test);
            for (name, grain) in PHOTOGRAPHS.into_iter().zip([4.0, 7.0, 12.0]) {
                let noise = Noise::new(&mut Random::named(name));
                let plane =
                    Plane::from_fn(SIDE, SIDE, |x, y| 120.0 + 90.0 * noise.rough(x / grain, y / grain));
                plane.to_image().save(folder.0.join(format!("{name}.png"))).unwrap();
            }
            folder
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        fn walk(folder: &Path, top: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, top, found);
                } else {
                    let name = path.strip_prefix(top).unwrap().to_string_lossy().replace('\\', "/");
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(folder, folder, &mut found);
        found
    }

    #[test]
    fn the_set_is_complete_labeled_and_the_same_every_time() {
        let folder = Folder::with_photographs("complete");
        let output = folder.0.join("out");
        write(&folder.0, &output).unwrap();
        let written = files(&output);
        fs::write(output.join("stray.txt"), "from an older version").unwrap();
        write(&folder.0, &output).unwrap();
        assert!(written == files(&output), "a second run must replace the first one's files with equal ones");
        assert_eq!(
            fs::read_dir(&folder.0).unwrap().count(),
            PHOTOGRAPHS.len() + 1,
            "something was left beside"
        );

        let good = TRAIN + GOOD;
        let defective = Kind::ALL.len() * PER_KIND;
        assert_eq!(written.len(), 1 + PHOTOGRAPHS.len() * (good + 2 * defective));
        assert!(written["README.txt"].starts_with(SIGNATURE.as_bytes()));
        for name in PHOTOGRAPHS {
            for kind in Kind::ALL {
                for number in 0..PER_KIND {
                    let kind = kind.name();
                    let open =
                        |place: String| image::load_from_memory(&written[&place]).unwrap().into_luma8();
                    let picture = open(format!("{name}/test/{kind}/{number:03}.png"));
                    let mask = open(format!("{name}/ground_truth/{kind}/{number:03}_mask.png"));
                    assert_eq!(picture.dimensions(), (TILE as u32, TILE as u32));
                    assert_eq!(mask.dimensions(), picture.dimensions());
                    assert!(mask.pixels().all(|p| p[0] == 0 || p[0] == 255));
                    let covered = mask.pixels().filter(|p| p[0] == 255).count();
                    assert!(
                        (40..TILE * TILE / 5).contains(&covered),
                        "{name} {kind} {number}: {covered} pixels"
                    );
                }
            }
        }
    }

    #[test]
    fn panels_lie_differently_but_within_their_play() {
        // Each pixel tells where it comes from.
        let across = Plane::from_fn(SIDE, SIDE, |x, _| x);
        let down = Plane::from_fn(SIDE, SIDE, |_, y| y);
        // A degree and a percent at the farthest corner, beside the play.
        let most = PLAY + TILE as f32 / 2.0 * (0.0175 + 0.011);
        let start = (SIDE - TILE) as f32 / 2.0;
        let mut corners = Vec::new();
        for number in 0..50 {
            let name = number.to_string();
            let (xs, ys) =
                (placed(&across, &mut Random::named(&name)), placed(&down, &mut Random::named(&name)));
            for i in 0..TILE * TILE {
                let (x, y) = (start + (i % TILE) as f32, start + (i / TILE) as f32);
                assert!((xs.values[i] - x).abs() <= most && (ys.values[i] - y).abs() <= most);
            }
            corners.push(xs.values[0]);
        }
        corners.sort_by(f32::total_cmp);
        assert!(corners[49] - corners[0] > PLAY);
        assert!(corners.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn defects_change_only_what_is_near_their_mask() {
        let surface =
            Plane::from_fn(TILE, TILE, |x, y| 90.0 + 40.0 * ((x as i32 / 6 + y as i32 / 9) % 3) as f32);
        let other = Plane::from_fn(SIDE, SIDE, |x, _| if (x as i32 / 4) % 2 == 0 { 30.0 } else { 210.0 });
        for kind in Kind::ALL {
            for seed in 0..10 {
                let mut random = Random::named(&seed.to_string());
                let painted = defects::paint(kind, &surface, &other, true, &mut random).unwrap();
                let near = |x: usize, y: usize| {
                    (y.saturating_sub(12)..(y + 13).min(TILE)).any(|v| {
                        (x.saturating_sub(12)..(x + 13).min(TILE)).any(|u| painted.mask[v * TILE + u])
                    })
                };
                for (i, (before, after)) in surface.values.iter().zip(&painted.surface.values).enumerate() {
                    assert!(after.is_finite());
                    if (before - after).abs() > 12.0 {
                        assert!(near(i % TILE, i / TILE), "{kind:?} {seed} at {},{}", i % TILE, i / TILE);
                    }
                }
            }
        }
    }

    #[test]
    fn a_folder_of_someone_else_is_left_alone() {
        let folder = Folder::with_photographs("someone");
        let output = folder.0.join("mine");
        fs::create_dir(&output).unwrap();
        fs::write(output.join("precious.txt"), "keep me").unwrap();
        assert!(write(&folder.0, &output).unwrap_err().contains("exists"));
        assert_eq!(files(&output).len(), 1);
    }

    #[test]
    fn missing_or_small_photographs_are_named() {
        let folder = Folder::with_photographs("missing");
        let output = folder.0.join("out");
        let grass = folder.0.join("grass.png");
        GrayImage::new(20, 20).save(&grass).unwrap();
        assert!(write(&folder.0, &output).unwrap_err().contains("512×512"));
        fs::remove_file(&grass).unwrap();
        let message = write(&folder.0, &output).unwrap_err();
        assert!(message.contains("grass.png") && message.contains("fetch-photographs"), "{message}");
        assert!(!output.exists());
    }
}
