//! Golden images: they test the machine, and the threshold.

use super::damaged;
use super::manifest::GoldenInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Frame;

/// The file of the most ordinary good picture.
pub(crate) const ORDINARY: &str = "golden/ordinary.png";
/// The file of the good picture with the highest score.
pub(crate) const STRANGEST: &str = "golden/strangest.png";
/// The file of the ordinary picture with a [`painted`] defect.
pub(crate) const PAINTED: &str = "golden/painted.png";

/// Tolerance of a golden image's score, as a share of the threshold. Half-precision providers stay well
/// within.
const GOLDEN_TOLERANCE: f32 = 0.05;

/// Tolerance of a head's scores. They are probabilities: one may be 0.5 although the threshold is tiny.
const PROBABILITY_TOLERANCE: f32 = 0.02;

/// Side of the squares of [`painted`] in pixels.
const SQUARE: usize = 4;

/// A golden image and its score.
#[derive(Debug, Clone)]
pub struct Golden {
    /// The picture, at the scaled size.
    pub frame: Frame,
    /// Its entry in the manifest.
    pub info: GoldenInfo,
    /// Tolerance of the score, in its own unit.
    pub tolerance: f32,
}

impl Golden {
    /// Checks a score of the picture.
    ///
    /// # Errors
    /// [`ErrorKind::Package`] if it is out of tolerance.
    pub fn check(&self, score: f32) -> Result<()> {
        let expected = self.info.score;
        if (score - expected).abs() <= self.tolerance {
            return Ok(());
        }
        Err(damaged(format!(
            "golden image {} scores {score:.4}, but must score {expected:.4} (± {:.4}): this machine \
             computes something else than the one that made the package; enroll on this machine",
            self.info.file, self.tolerance
        )))
    }
}

/// The tolerance of golden images' scores.
pub(crate) fn golden_tolerance(threshold: f32, probabilities: bool) -> f32 {
    let least = if probabilities { PROBABILITY_TOLERANCE } else { f32::MIN_POSITIVE };
    (GOLDEN_TOLERANCE * threshold.abs()).max(least)
}

/// Scores of an ordinary good picture and of the same picture with a painted defect. A threshold must lie
/// between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standard {
    pub ordinary: f32,
    pub painted: f32,
}

impl Standard {
    /// Refuses a threshold that rejects the ordinary picture or passes the painted one. The error has this
    /// kind and ends in `advice`.
    pub fn check(&self, threshold: f32, kind: ErrorKind, advice: &str) -> Result<()> {
        let Standard { ordinary, painted } = *self;
        // No comparison with NaN holds.
        let (passes, rejects) = (ordinary <= threshold, painted > threshold);
        let what = match painted > ordinary {
            true if passes && rejects => return Ok(()),
            true if passes => "this passes defects",
            true => "this rejects good parts",
            false => "no threshold can judge",
        };
        Err(Error::new(
            kind,
            format!(
                "the threshold is {}, but an ordinary good picture scores {}, and with a painted defect {}: {what}; \
                 {advice}",
                number(threshold),
                number(ordinary),
                number(painted)
            ),
        ))
    }
}

/// A score in a few digits.
fn number(value: f32) -> String {
    match value.abs() {
        0.0 | 0.001..1e6 => format!("{value:.4}"),
        _ => format!("{value:e}"),
    }
}

/// Paints a defect that looks like no product: in the middle, a third of the longest side wide, a chessboard
/// beside a plain area, which is black on a light product and white on a dark one. Networks that see texture
/// find the chessboard, those that see brightness the area; `benches/README.md` has scores on real products.
pub(crate) fn painted(frame: &Frame) -> Result<Frame> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let channels = frame.color().channels();
    let side = (width.max(height) / 3).max(1);
    let (wide, high) = (side.min(width), side.min(height));
    let (left, top) = ((width - wide) / 2, (height - high) / 2);
    let mut pixels = frame.pixels().to_vec();
    let row = |y: usize| ((top + y) * width + left) * channels..((top + y) * width + left + wide) * channels;
    let brightness: u64 = (0..high).flat_map(|y| &pixels[row(y)]).map(|&v| u64::from(v)).sum();
    let light = brightness > 127 * (wide * high * channels) as u64;
    for y in 0..high {
        for (x, pixel) in pixels[row(y)].chunks_exact_mut(channels).enumerate() {
            let black = if x < wide / 2 { (x / SQUARE + y / SQUARE).is_multiple_of(2) } else { light };
            pixel.fill(if black { 0 } else { 255 });
        }
    }
    Frame::new(frame.width(), frame.height(), frame.color(), pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Color;

    #[test]
    fn every_frame_can_be_painted_and_only_its_middle_is() {
        for (width, height, color) in
            [(1, 1, Color::Gray), (2, 90, Color::Rgb), (90, 2, Color::Gray), (97, 64, Color::Rgb)]
        {
            let bytes = width as usize * height as usize * color.channels();
            let gray = Frame::new(width, height, color, vec![130; bytes]).unwrap();
            let changed = painted(&gray).unwrap();
            assert_eq!((changed.width(), changed.height(), changed.color()), (width, height, color));
            assert_eq!(changed, painted(&gray).unwrap());
            let count = changed.pixels().iter().filter(|&&v| v != 130).count();
            assert!(count > 0 && count <= bytes.div_ceil(2).max(1), "{count} of {bytes}");
        }
    }

    #[test]
    fn a_threshold_must_lie_between_the_two_scores() {
        let standard = Standard { ordinary: 2.0, painted: 50.0 };
        let told = |standard: Standard, threshold: f32| {
            standard.check(threshold, ErrorKind::Usage, "do this").map_err(|e| e.to_string())
        };
        for threshold in [2.0, 30.0, 49.9] {
            told(standard, threshold).unwrap();
        }
        for (threshold, says) in [
            (50.0, "this passes defects; do this"),
            (3e38, "the threshold is 3e38, but an ordinary good picture scores 2.0000"),
            (1.9, "this rejects good parts; do this"),
            (-5.0, "this rejects good parts"),
            (f32::NAN, "this rejects good parts"),
        ] {
            let told = told(standard, threshold).unwrap_err();
            assert!(told.contains(says), "{told}");
        }
        for (ordinary, painted) in [(1.0, 1.0), (2.0, 1.0), (f32::NAN, 2.0), (1.0, f32::NAN)] {
            let told = told(Standard { ordinary, painted }, 1.5).unwrap_err();
            assert!(told.contains("no threshold can judge"), "{told}");
        }
    }
}
