//! Measures of a whole picture that tell light, focus and noise apart.

use super::Frame;

/// Measures of one picture. They need no reference; compare them between pictures of the same part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measures {
    /// Mean value, 0 to 255.
    pub brightness: f32,
    /// Root mean square difference between horizontal neighbors, in percent of the brightness and without
    /// that of the noise: so neither light nor noise change it.
    pub sharpness: f32,
    /// Standard deviation of the sensor's noise, in values.
    pub noise: f32,
}

/// Lines that are looked at, evenly spread: the cost must not grow with the camera's resolution.
const LINES: usize = 64;
/// Median of the absolute value of a normal variable, over its deviation.
const NORMAL: f32 = 0.674_49;
/// Standard deviation of `a - 2 b + c`, over that of a value: the root of 6.
const SECOND: f32 = 2.449_49;

impl Measures {
    /// The measures of a picture.
    pub fn of(frame: &Frame) -> Measures {
        let (width, channels) = (frame.width() as usize, frame.color().channels());
        let step = (frame.height() as usize).div_ceil(LINES).max(1);
        let (mut sum, mut values) = (0u64, 0u64);
        // Squares of the differences between neighbors, and the second differences by their size.
        let (mut squares, mut pairs, mut seconds) = (0u64, 0u64, [0u32; 511]);
        let mut green: Vec<i32> = Vec::with_capacity(width);
        for line in frame.pixels().chunks_exact(width.max(1) * channels).step_by(step) {
            sum += line.iter().map(|v| u64::from(*v)).sum::<u64>();
            values += line.len() as u64;
            green.clear();
            green.extend(line.chunks_exact(channels).map(|pixel| i32::from(pixel[channels / 2])));
            squares += green.windows(2).map(|w| u64::from((w[1] - w[0]).unsigned_abs().pow(2))).sum::<u64>();
            pairs += green.len().saturating_sub(1) as u64;
            for w in green.windows(3) {
                // Clipped values have no noise.
                if w[1] > 2 && w[1] < 253 {
                    // At most 2 · 255.
                    seconds[(w[0] - 2 * w[1] + w[2]).unsigned_abs() as usize] += 1;
                }
            }
        }
        let brightness = sum as f32 / values.max(1) as f32;
        // The median: edges and slow changes of light do not move it.
        let noise = median(&seconds) / (NORMAL * SECOND);
        // Noise adds twice its variance to the squares.
        let edges = (squares as f32 / pairs.max(1) as f32 - 2.0 * noise * noise).max(0.0).sqrt();
        Measures { brightness, sharpness: 1e2 * edges / brightness.max(1.0), noise }
    }
}

/// The median of whole values, by their counts. Each stands for all that are rounded to it, so the median lies
/// within its step.
fn median(counts: &[u32]) -> f32 {
    let half = counts.iter().sum::<u32>() as f32 / 2.0;
    let mut below = 0f32;
    for (value, &count) in counts.iter().enumerate() {
        let count = count as f32;
        if count > 0.0 && below + count >= half {
            let (start, step) = if value == 0 { (0.0, 0.5) } else { (value as f32 - 0.5, 1.0) };
            return start + step * (half - below) / count;
        }
        below += count;
    }
    0.0
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Color;

    /// Roughly normal noise of this deviation on a bright field with an edge.
    fn noisy(deviation: f32, brightness: f32, contrast: f32) -> Frame {
        let mut state = 7u64;
        let mut uniform = || {
            // Splitmix: successive values are independent, as a sensor's noise is.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (mixed >> 40) as f32 / (1 << 24) as f32 - 0.5
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
            let found = Measures::of(&noisy(deviation, 120.0, 60.0)).noise;
            assert!((found / deviation - 1.0).abs() < 0.08, "{deviation}: {found}");
        }
        let usual = Measures::of(&noisy(2.0, 120.0, 60.0));
        let darker = Measures::of(&noisy(2.0, 96.0, 48.0));
        assert!((darker.brightness / usual.brightness - 0.8).abs() < 0.01);
        assert!((darker.noise / usual.noise - 1.0).abs() < 0.1);
        let noisier = Measures::of(&noisy(4.0, 120.0, 60.0));
        for same in [darker, noisier] {
            assert!((same.sharpness / usual.sharpness - 1.0).abs() < 0.1, "{same:?} {usual:?}");
        }
        let blurred = Measures::of(&noisy(2.0, 120.0, 40.0));
        assert!(blurred.sharpness < 0.8 * usual.sharpness);
        let flat = Frame::new(1, 1, Color::Gray, vec![9]).unwrap();
        assert_eq!(Measures::of(&flat), Measures { brightness: 9.0, sharpness: 0.0, noise: 0.0 });
        let plain = Frame::new(64, 64, Color::Rgb, vec![90; 64 * 64 * 3]).unwrap();
        assert!(Measures::of(&plain).noise < 0.3);
    }
}
