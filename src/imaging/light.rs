//! Light and noise painted over a picture.

use super::Frame;
use crate::error::Result;

/// Another light and a noisier camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Light {
    /// Factor of all values.
    pub gain: f32,
    /// Largest change of that factor from the middle to a corner, as a share: `[across, down]`. The factor is linear in
    /// the position, and the shares add up.
    pub slope: [f32; 2],
    /// Standard deviation of the noise, in gray levels of 255.
    pub noise: f32,
}

impl Light {
    /// The frame in this light. `normal` draws standard normal numbers.
    ///
    /// # Errors
    /// As [`Frame::new`].
    pub fn paint(&self, frame: &Frame, mut normal: impl FnMut() -> f32) -> Result<Frame> {
        let (width, channels) = (frame.width() as usize, frame.color().channels());
        let along = |at: usize, side: u32| 2.0 * (at as f32 + 0.5) / side as f32 - 1.0;
        let mut pixels = Vec::with_capacity(frame.pixels().len());
        for (row, line) in frame.pixels().chunks_exact(width * channels).enumerate() {
            let down = self.slope[1] * along(row, frame.height());
            for (col, pixel) in line.chunks_exact(channels).enumerate() {
                let factor = self.gain * (1.0 + self.slope[0] * along(col, frame.width()) + down);
                for &value in pixel {
                    let noise = if self.noise > 0.0 { self.noise * normal() } else { 0.0 };
                    pixels.push((f32::from(value) * factor + noise).round() as u8);
                }
            }
        }
        Frame::new(frame.width(), frame.height(), frame.color(), pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Color;

    fn gray(value: u8) -> Frame {
        Frame::new(64, 48, Color::Gray, vec![value; 64 * 48]).unwrap()
    }

    #[test]
    fn light_changes_values_in_proportion_and_stays_in_range() {
        let light = Light { gain: 1.2, slope: [0.25, 0.0], noise: 0.0 };
        let painted = light.paint(&gray(100), || unreachable!()).unwrap();
        let row = &painted.pixels()[..64];
        assert_eq!((row[0], row[63]), (90, 150));
        assert!(row.is_sorted() && painted.pixels().chunks_exact(64).all(|other| other == row));
        let bright = light.paint(&gray(250), || unreachable!()).unwrap();
        assert_eq!(bright.pixels()[63], 255);
    }

    #[test]
    fn noise_has_the_deviation_that_it_was_given() {
        // Twelve uniform numbers: nearly normal.
        let mut state = 3u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 24) as f32
        };
        let light = Light { gain: 1.0, slope: [0.0; 2], noise: 4.0 };
        let painted = light.paint(&gray(100), || (0..12).map(|_| uniform()).sum::<f32>() - 6.0).unwrap();
        let off = painted.pixels().iter().map(|&v| f64::from(v) - 100.0);
        let count = painted.pixels().len() as f64;
        let (mean, square) = (off.clone().sum::<f64>() / count, off.map(|v| v * v).sum::<f64>() / count);
        assert!(mean.abs() < 0.25 && (square.sqrt() - 4.0).abs() < 0.25, "{mean} {square}");
    }
}
