//! What a part should look like: each block comes from the enrolled picture with the block's nearest good
//! token.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbaImage;
use posfar::{Bank, TokenPlace};
use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame, Geometry};
use crate::inspector::Prepared;
use crate::labels;

/// Longest side of the shown picture.
const SIDE: u32 = 1024;
/// Decoded pictures that are kept: about as many as the search of one part uses.
const KEPT: usize = 24;

/// The enrolled pictures, by their number in the bank.
pub struct Nearest {
    folder: PathBuf,
    geometry: Geometry,
    digests: Vec<[u8; 32]>,
    files: Files,
    decoded: VecDeque<(u32, Arc<Frame>)>,
}

/// The files of the enrolled pictures, by their number in the bank. `None` if the file is missing.
pub type Files = Vec<Option<PathBuf>>;

impl Nearest {
    /// The pictures in `folder` that have one of these digests.
    pub fn new(folder: &Path, geometry: Geometry, digests: Vec<[u8; 32]>) -> Self {
        let folder = folder.to_path_buf();
        Nearest { folder, geometry, digests, files: Vec::new(), decoded: VecDeque::new() }
    }

    /// A job that finds the enrolled pictures. It decodes every picture of the folder.
    ///
    /// The job fails with [`ErrorKind::Usage`] when it finds none, or as [`labels::find`].
    pub fn search(&self) -> impl FnOnce() -> Result<Files> + Send + use<> {
        let (folder, digests) = (self.folder.clone(), self.digests.clone());
        move || {
            let (all, _) = labels::find(&folder, &Default::default())?;
            let found: HashMap<[u8; 32], PathBuf> = all
                .par_iter()
                .filter_map(|found| Some((Frame::open(&found.path).ok()?.digest(), found.path.clone())))
                .collect();
            let files: Files = digests.iter().map(|d| found.get(d).cloned()).collect();
            if files.iter().all(Option::is_none) {
                let text = format!(
                    "{} has none of the {} enrolled pictures: name the folder that was enrolled",
                    folder.display(),
                    files.len()
                );
                return Err(Error::new(ErrorKind::Usage, text));
            }
            Ok(files)
        }
    }

    /// Takes the result of the search.
    pub fn set(&mut self, files: Files) {
        self.files = files;
    }

    fn good(&mut self, number: u32) -> Option<Arc<Frame>> {
        if let Some(at) = self.decoded.iter().position(|(n, _)| *n == number) {
            let hit = self.decoded.remove(at)?;
            let frame = Arc::clone(&hit.1);
            self.decoded.push_back(hit);
            return Some(frame);
        }
        let path = self.files.get(number as usize)?.as_ref()?;
        let frame = Frame::open(path).map_err(|e| log::warn!("{}", e.chain())).ok()?;
        let small = Geometry { native: false, longest_side: SIDE, ..self.geometry.clone() };
        let frame = match frame.width().max(frame.height()) > SIDE {
            true => small.scale(&frame).ok()?,
            false => frame,
        };
        let frame = Arc::new(frame);
        self.decoded.push_back((number, Arc::clone(&frame)));
        if self.decoded.len() > KEPT {
            self.decoded.pop_front();
        }
        Some(frame)
    }

    /// A picture of the nearest good blocks in one scale, blended from center to center, at the part's size or
    /// smaller. Blocks without their enrolled picture are transparent.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] when the pixels do not fill a picture.
    pub fn compose(&mut self, prepared: &Prepared, bank: &Bank, scale: usize) -> Result<RgbaImage> {
        let placement = &prepared.residuals.placement;
        let (rows, cols) = placement.grid;
        let neighbors = prepared.residuals.scales.get(scale).map_or(&[][..], |found| &found.neighbors);
        let per_token = (neighbors.len() / (rows * cols).max(1)).max(1);
        let cells: Vec<Option<TokenPlace>> = neighbors
            .iter()
            .step_by(per_token)
            .map(|n| bank.parts().places.get(n.index as usize).copied())
            .collect();
        let goods: HashMap<u32, (Arc<Frame>, (f32, f32))> = cells
            .iter()
            .flatten()
            .map(|place| place.image)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .filter_map(|number| {
                let frame = self.good(number)?;
                let content = self.geometry.place(frame.width(), frame.height()).content;
                let scale =
                    (frame.width() as f32 / content.0 as f32, frame.height() as f32 / content.1 as f32);
                Some((number, (frame, scale)))
            })
            .collect();

        let (frame_w, frame_h) = placement.frame;
        let shrink = (SIDE as f32 / frame_w.max(frame_h) as f32).min(1.0);
        let (width, height) = (
            ((frame_w as f32 * shrink).round() as u32).max(1),
            ((frame_h as f32 * shrink).round() as u32).max(1),
        );
        let to_content =
            (placement.content.0 as f32 / width as f32, placement.content.1 as f32 / height as f32);
        let stride = placement.stride as f32;
        let mut pixels = vec![0u8; width as usize * height as usize * 4];
        pixels.par_chunks_exact_mut(width as usize * 4).enumerate().for_each(|(y, line)| {
            let v = (y as f32 + 0.5) * to_content.1;
            for (x, pixel) in line.chunks_exact_mut(4).enumerate() {
                let u = (x as f32 + 0.5) * to_content.0;
                let (mut sum, mut total) = ([0.0f32; 3], 0.0f32);
                for (row, weight_y) in taps(v / stride, rows) {
                    for (col, weight_x) in taps(u / stride, cols) {
                        let weight = weight_x * weight_y;
                        let Some(place) = cells.get(row * cols + col).copied().flatten() else { continue };
                        let Some((good, scale)) = goods.get(&place.image) else { continue };
                        if weight <= 0.0 {
                            continue;
                        }
                        // The same place within the good block.
                        let at_x = (u + (f32::from(place.col) - col as f32) * stride) * scale.0;
                        let at_y = (v + (f32::from(place.row) - row as f32) * stride) * scale.1;
                        let color = pixel_at(good, at_x, at_y);
                        sum.iter_mut().zip(color).for_each(|(s, c)| *s += weight * f32::from(c));
                        total += weight;
                    }
                }
                if total > 0.0 {
                    for (p, s) in pixel.iter_mut().zip(sum) {
                        *p = (s / total).round() as u8;
                    }
                    pixel[3] = 255;
                }
            }
        });
        RgbaImage::from_raw(width, height, pixels)
            .ok_or_else(|| Error::new(ErrorKind::Image, "cannot compose the good part"))
    }
}

/// The two cells on both sides of a coordinate, with their weights.
fn taps(at: f32, cells: usize) -> [(usize, f32); 2] {
    let center = (at - 0.5).clamp(0.0, (cells.max(1) - 1) as f32);
    let low = center.floor() as usize;
    let fraction = center - low as f32;
    [(low, 1.0 - fraction), ((low + 1).min(cells.max(1) - 1), fraction)]
}

fn pixel_at(frame: &Frame, x: f32, y: f32) -> [u8; 3] {
    let (w, h) = (frame.width() as usize, frame.height() as usize);
    let (x, y) = ((x.max(0.0) as usize).min(w - 1), (y.max(0.0) as usize).min(h - 1));
    let at = (y * w + x) * frame.color().channels();
    match frame.color() {
        Color::Gray => [frame.pixels()[at]; 3],
        Color::Rgb => [frame.pixels()[at], frame.pixels()[at + 1], frame.pixels()[at + 2]],
    }
}
