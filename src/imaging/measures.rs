//! Measures of a whole picture that tell light, focus and noise apart.

use super::Frame;

/// Measures of one picture. They need no reference; compare them between pictures of the same part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measures {
    /// Mean value, 0 to 255.
    pub brightness: f32,
    /// As [`sharpness`], 0 to 64.
    pub sharpness: f32,
    /// Standard deviation of the sensor's noise, in values.
    pub noise: f32,
}

impl Measures {
    /// The measures of a picture.
    pub fn of(frame: &Frame) -> Measures {
        Measures { brightness: exposure(frame).0, sharpness: sharpness(frame), noise: noise(frame) }
    }
}

/// Returns the mean brightness, 0 to 255, and the share of values of 250 or more.
pub(crate) fn exposure(frame: &Frame) -> (f32, f32) {
    // A prime step prefers no column and no channel.
    const STEP: usize = 7;
    let (mut sum, mut bright, mut count) = (0u64, 0u64, 0u64);
    for &value in frame.pixels().iter().step_by(STEP) {
        sum += u64::from(value);
        bright += u64::from(value >= 250);
        count += 1;
    }
    let count = count.max(1) as f32;
    (sum as f32 / count, bright as f32 / count)
}

/// Sharpness, 0 to 64: the mean difference between horizontal neighbors, in the sharpest tenth of the lines.
/// So edges count and plain surfaces do not.
pub(crate) fn sharpness(frame: &Frame) -> f32 {
    let (width, channels) = (frame.width() as usize, frame.color().channels());
    let green = channels / 2;
    if width < 2 {
        return 0.0;
    }
    // Every fourth line is as good as all of them.
    let mut lines = [0u32; 256];
    let mut total = 0u32;
    for line in frame.pixels().chunks_exact(width * channels).step_by(4) {
        let values = line.iter().skip(green).step_by(channels);
        let next = line.iter().skip(green + channels).step_by(channels);
        let sum: u64 = values.zip(next).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        // Quarters of a step, up to 64.
        let strength = (sum * 4 / (width as u64 - 1)).min(255) as usize;
        lines[strength] += 1;
        total += 1;
    }
    let wanted = total.div_ceil(10).max(1);
    let (mut taken, mut sum) = (0u32, 0f32);
    for (strength, &count) in lines.iter().enumerate().rev() {
        let take = count.min(wanted - taken);
        taken += take;
        sum += take as f32 * strength as f32 / 4.0;
        if taken == wanted {
            break;
        }
    }
    sum / wanted as f32
}

/// Standard deviation of the noise, in values: from the median of the second differences along a line, which
/// edges and slow changes of light do not move.
pub(crate) fn noise(frame: &Frame) -> f32 {
    /// Median of the absolute value of a normal variable, over its deviation.
    const NORMAL: f32 = 0.674_49;
    /// Standard deviation of `a - 2 b + c`, over that of a value: the root of 6.
    const SECOND: f32 = 2.449_49;
    let (width, channels) = (frame.width() as usize, frame.color().channels());
    let green = channels / 2;
    let mut counts = [0u32; 511];
    let mut total = 0u32;
    for line in frame.pixels().chunks_exact(width.max(1) * channels).step_by(8) {
        let of = |offset: usize| {
            line.iter().skip(green + offset * channels).step_by(channels).map(|v| i32::from(*v))
        };
        for ((a, b), c) in of(0).zip(of(1)).zip(of(2)) {
            // Clipped values have no noise.
            if b > 2 && b < 253 {
                counts[(a - 2 * b + c).unsigned_abs() as usize] += 1;
                total += 1;
            }
        }
    }
    let half = total as f32 / 2.0;
    let mut below = 0f32;
    for (value, &count) in counts.iter().enumerate() {
        let count = count as f32;
        if count > 0.0 && below + count >= half {
            // A value stands for all that are rounded to it, so the median lies within its step.
            let (start, step) = if value == 0 { (0.0, 0.5) } else { (value as f32 - 0.5, 1.0) };
            return (start + step * (half - below) / count) / (NORMAL * SECOND);
        }
        below += count;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Color;

    /// Roughly normal noise of this deviation on a bright field with an edge.
    fn noisy(deviation: f32, brightness: f32, contrast: f32) -> Frame {
        let mut state = 7u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let pixels = (0..200 * 160)
            .map(|i| {
                // The sum of 12 uniform values has the variance 1.
                let normal: f32 = (0..12).map(|_| uniform()).sum();
                let edge = if i % 200 > 90 { contrast } else { 0.0 };
                (brightness + edge + deviation * normal).round().clamp(0.0, 255.0) as u8
            })
            .collect();
        Frame::new(200, 160, Color::Gray, pixels).unwrap()
    }

    #[test]
    fn each_measure_follows_its_own_cause() {
        for deviation in [1.0, 2.0, 4.0, 8.0] {
            let found = noise(&noisy(deviation, 120.0, 60.0));
            assert!((found / deviation - 1.0).abs() < 0.12, "{deviation}: {found}");
        }
        let usual = Measures::of(&noisy(2.0, 120.0, 60.0));
        let darker = Measures::of(&noisy(2.0, 100.0, 60.0));
        assert!((usual.brightness - darker.brightness - 20.0).abs() < 1.0);
        assert!((usual.noise - darker.noise).abs() < 0.1 && (usual.sharpness - darker.sharpness).abs() < 0.3);
        let flat = Frame::new(1, 1, Color::Gray, vec![9]).unwrap();
        assert_eq!(Measures::of(&flat), Measures { brightness: 9.0, sharpness: 0.0, noise: 0.0 });
        let plain = Frame::new(64, 64, Color::Rgb, vec![90; 64 * 64 * 3]).unwrap();
        assert!(noise(&plain) < 0.2);
    }
}
