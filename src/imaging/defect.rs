//! Synthetic defects of a known size.

use std::f32::consts::TAU;

use serde::{Deserialize, Serialize};

use super::Frame;
use crate::error::Result;

/// Looks of a synthetic defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefectKind {
    /// An even disk; its size is the diameter.
    Spot,
    /// A line, an eighth as wide as it is long and at least a pixel; its size is the length.
    Scratch,
    /// A faint disk that fades to its edge; its size is the diameter.
    Stain,
}

impl DefectKind {
    /// All kinds.
    pub(crate) const ALL: [DefectKind; 3] = [DefectKind::Spot, DefectKind::Scratch, DefectKind::Stain];

    /// The kind in a word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DefectKind::Spot => "spot",
            DefectKind::Scratch => "scratch",
            DefectKind::Stain => "stain",
        }
    }

    /// Change of the picture, in gray levels of 255.
    fn contrast(self) -> f32 {
        match self {
            DefectKind::Spot | DefectKind::Scratch => 60.0,
            DefectKind::Stain => 30.0,
        }
    }
}

/// A synthetic defect on a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Defect {
    pub kind: DefectKind,
    /// In pixels.
    pub size: f32,
    /// Across and down, in pixels.
    pub center: (f32, f32),
    /// Direction of a scratch, in turns.
    pub angle: f32,
}

impl Defect {
    /// The frame with this defect: dark where the frame is bright, and bright where it is dark.
    ///
    /// # Errors
    /// As [`Frame::new`].
    pub fn paint(&self, frame: &Frame) -> Result<Frame> {
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let channels = frame.color().channels();
        let mut pixels = frame.pixels().to_vec();
        let within = |center: f32, side: usize| {
            let reach = self.size / 2.0 + 1.0;
            let first = (center - reach).floor().clamp(0.0, side as f32) as usize;
            first..((center + reach).ceil().clamp(0.0, side as f32) as usize).max(first)
        };
        let (rows, columns) = (within(self.center.1, height), within(self.center.0, width));
        let inside = rows.clone().flat_map(|row| {
            let line = row * width * channels;
            &frame.pixels()[line + columns.start * channels..line + columns.end * channels]
        });
        let (sum, count) = inside.fold((0u64, 0u64), |(sum, count), &v| (sum + u64::from(v), count + 1));
        let change = if sum > 127 * count { -self.kind.contrast() } else { self.kind.contrast() };
        for row in rows {
            for column in columns.clone() {
                let opacity = self.opacity(column as f32 + 0.5, row as f32 + 0.5);
                let first = (row * width + column) * channels;
                for value in &mut pixels[first..first + channels] {
                    *value = (f32::from(*value) + change * opacity).round() as u8;
                }
            }
        }
        Frame::new(frame.width(), frame.height(), frame.color(), pixels)
    }

    /// 0 to 1 at a place.
    fn opacity(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (x - self.center.0, y - self.center.1);
        let edge = |half: f32, distance: f32| (half + 0.5 - distance).clamp(0.0, 1.0);
        match self.kind {
            DefectKind::Spot => edge(self.size / 2.0, x.hypot(y)),
            DefectKind::Scratch => {
                let (sin, cos) = (TAU * self.angle).sin_cos();
                let (along, across) = ((x * cos + y * sin).abs(), (y * cos - x * sin).abs());
                edge(self.size / 2.0, along) * edge((self.size / 8.0).max(1.0) / 2.0, across)
            }
            DefectKind::Stain => {
                let share = 2.0 * x.hypot(y) / self.size;
                // Two standard deviations at the edge.
                if share > 1.0 { 0.0 } else { (-2.0 * share * share).exp() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Color;

    fn changed(defect: Defect, value: u8) -> Vec<(usize, usize, i32)> {
        let frame = Frame::new(64, 48, Color::Rgb, vec![value; 64 * 48 * 3]).unwrap();
        let painted = defect.paint(&frame).unwrap();
        assert!(painted.pixels().chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
        let pixels = painted.pixels().chunks_exact(3).enumerate();
        pixels
            .map(|(at, pixel)| (at % 64, at / 64, i32::from(pixel[0]) - i32::from(value)))
            .filter(|(_, _, change)| *change != 0)
            .collect()
    }

    #[test]
    fn defects_have_their_size_and_stand_out() {
        for kind in DefectKind::ALL {
            for size in [4.0, 8.0, 16.0, 32.0] {
                let defect = Defect { kind, size, center: (30.5, 24.5), angle: 0.0 };
                let bright = changed(defect, 200);
                let strongest = bright.iter().map(|(.., change)| -change).max().unwrap();
                assert!(strongest as f32 > 0.8 * kind.contrast(), "{defect:?}: {strongest}");
                assert!(bright.iter().all(|(.., change)| *change < 0), "dark on a bright part");
                assert!(changed(defect, 50).iter().all(|(.., change)| *change > 0), "bright on a dark one");
                let (left, right) =
                    (bright.iter().map(|p| p.0).min().unwrap(), bright.iter().map(|p| p.0).max().unwrap());
                let extent = (right - left + 1) as f32;
                assert!((extent - size).abs() <= 2.0, "{defect:?}: {extent} wide");
            }
        }
    }

    #[test]
    fn a_scratch_is_thin_and_turns() {
        let scratch = |angle| {
            changed(Defect { kind: DefectKind::Scratch, size: 16.0, center: (30.0, 24.0), angle }, 200)
        };
        let high = |pixels: &[(usize, usize, i32)]| {
            pixels.iter().map(|p| p.1).max().unwrap() - pixels.iter().map(|p| p.1).min().unwrap() + 1
        };
        assert!(high(&scratch(0.0)) <= 4);
        assert!(high(&scratch(0.25)) >= 14);
    }

    #[test]
    fn a_defect_beyond_the_edge_is_cut() {
        for center in [(0.0, 0.0), (64.0, 48.0), (-100.0, 20.0)] {
            changed(Defect { kind: DefectKind::Spot, size: 8.0, center, angle: 0.0 }, 200);
        }
    }
}
