//! The pictures that can be enrolled together.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

use rayon::prelude::*;

use super::{Settings, decoders, variations};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::imaging::{Color, Frame, Geometry};
use crate::package::{Digest, FrameSize};

/// A skipped picture, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPicture {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for BadPicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

const OTHER_SIZE: &str = "pixels instead of";

/// Color and size of the product, from the files' headers.
pub(super) struct Survey {
    pub color: Color,
    pub size: FrameSize,
    /// Mean longest side of the usable pictures, in pixels.
    pub longest_side: u32,
    pub usable: Vec<PathBuf>,
    pub bad: Vec<BadPicture>,
}

/// Reads every picture's header. The majority decides color and size.
pub(super) fn survey(pictures: &[PathBuf], settings: &Settings) -> Result<Survey> {
    let headers: Vec<Result<(u32, u32, Color)>> = pictures.par_iter().map(Frame::header).collect();
    let mut kinds: BTreeMap<(u32, u32, bool), usize> = BTreeMap::new();
    for (width, height, color) in headers.iter().flatten() {
        let (width, height) = if settings.any_size { (0, 0) } else { (*width, *height) };
        *kinds.entry((width, height, *color == Color::Rgb)).or_default() += 1;
    }
    let most = kinds.iter().max_by_key(|(_, count)| **count).map(|(kind, _)| *kind);
    let (width, height, rgb) = most.unwrap_or_default();
    let color = if rgb { Color::Rgb } else { Color::Gray };
    let size = if settings.any_size { FrameSize::Any } else { FrameSize::Fixed(width, height) };
    let (mut usable, mut bad) = (Vec::new(), Vec::new());
    let mut sides = 0_u64;
    for (path, header) in pictures.iter().zip(headers) {
        let reason = match &header {
            Err(e) => Some(e.reason()),
            Ok((_, _, c)) if *c != color => Some(format!("{c} instead of {color}")),
            Ok((w, h, _)) if !settings.any_size && (*w, *h) != (width, height) => {
                Some(format!("{w}×{h} {OTHER_SIZE} {width}×{height}"))
            }
            Ok((w, h, _)) => {
                sides += u64::from(*w.max(h));
                None
            }
        };
        match reason {
            Some(reason) => bad.push(BadPicture { path: path.clone(), reason }),
            None => usable.push(path.clone()),
        }
    }
    if !settings.skip_bad {
        refuse(&bad)?;
    }
    enough(usable.len(), &bad)?;
    let longest_side = (sides as f64 / usable.len() as f64).round() as u32;
    Ok(Survey { color, size, longest_side, usable, bad })
}

/// Used and unusable pictures.
pub(super) struct Reading {
    pub used: Vec<PathBuf>,
    /// [`Frame::digest`] of the used ones.
    pub digests: Vec<Digest>,
    pub bad: Vec<BadPicture>,
}

/// Decodes and scales the usable pictures, several at a time, and passes them to `take` in order, each followed by its
/// varied copy, if there is one.
///
/// The result is `None` if `take` returned `false`.
pub(super) fn read(
    survey: &Survey,
    geometry: &Geometry,
    settings: &Settings,
    mut take: impl FnMut(&[Frame]) -> Result<bool>,
) -> Result<Option<Reading>> {
    let (mut used, mut digests, mut bad) = (Vec::new(), Vec::new(), survey.bad.clone());
    let mut seen: HashMap<Digest, PathBuf> = HashMap::new();
    let varied = &settings.variations;
    let at_a_time = 4 * decoders().get();
    for (first, group) in (0..).step_by(at_a_time).zip(survey.usable.chunks(at_a_time)) {
        let frames: Vec<Result<(Vec<Frame>, Digest)>> = group
            .par_iter()
            .enumerate()
            .map(|(number, path)| {
                let frame = Frame::open(path)?;
                let digest = frame.digest();
                let scaled = geometry.scale(&frame)?;
                let shrunk =
                    frame.width().max(frame.height()) as f32 / scaled.width().max(scaled.height()) as f32;
                let mut frames = vec![scaled];
                if !varied.is_empty() {
                    frames.push(variations::copy(&frames[0], shrunk, varied, settings.seed, first + number)?);
                }
                Ok((frames, digest))
            })
            .collect();
        for (path, frames) in group.iter().zip(frames) {
            match frames {
                Err(e) => bad.push(BadPicture { path: path.clone(), reason: e.reason() }),
                Ok((frames, digest)) => {
                    // Leave-one-out would find the copy: a score of zero.
                    if let Some(first) = seen.get(&digest) {
                        bad.push(BadPicture {
                            path: path.clone(),
                            reason: format!("the same picture as {}", first.display()),
                        });
                        continue;
                    }
                    seen.insert(digest, path.clone());
                    // After a bad picture, only the search for more of them goes on.
                    if settings.skip_bad || bad.is_empty() {
                        if !take(&frames)? {
                            return Ok(None);
                        }
                        used.push(path.clone());
                        digests.push(digest);
                    }
                }
            }
        }
    }
    if !settings.skip_bad {
        refuse(&bad)?;
    }
    enough(used.len(), &bad)?;
    Ok(Some(Reading { used, digests, bad }))
}

fn refuse(bad: &[BadPicture]) -> Result<()> {
    let message = match bad.len() {
        0 => return Ok(()),
        1 => "a picture cannot be enrolled; fix or remove it:".to_owned(),
        n => format!("{n} pictures cannot be enrolled; fix or remove them:"),
    };
    let error = Error::new(ErrorKind::Image, with_list(message, bad)).with_hint(Hint::BadEntries);
    Err(match bad.iter().any(|b| b.reason.contains(OTHER_SIZE)) {
        true => error.with_hint(Hint::OtherSizes),
        false => error,
    })
}

fn enough(count: usize, bad: &[BadPicture]) -> Result<()> {
    const NEED: &str = "take at least 2, better 20 or more";
    match (count, bad.len()) {
        (2.., _) => Ok(()),
        (0, 0) => Err(Error::new(ErrorKind::Usage, format!("there are no pictures; {NEED}"))),
        (_, 0) => Err(Error::new(
            ErrorKind::Usage,
            format!("one picture does not show how good parts vary; {NEED}"),
        )),
        (_, n) => {
            let usable = if count == 0 { "none" } else { "only one" };
            let message = format!("{usable} of {} pictures can be enrolled; {NEED}:", count + n);
            Err(Error::new(ErrorKind::Image, with_list(message, bad)))
        }
    }
}

/// The message and the first bad pictures, one per line.
fn with_list(mut message: String, bad: &[BadPicture]) -> String {
    const SHOWN: usize = 10;
    for picture in bad.iter().take(SHOWN) {
        message.push_str(&format!("\n  {picture}"));
    }
    if bad.len() > SHOWN {
        message.push_str(&format!("\n  … and {} more", bad.len() - SHOWN));
    }
    message
}
