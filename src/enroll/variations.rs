//! Copies of good pictures in another light and with noise. They are in the bank only.

use std::f32::consts::TAU;

use posfar::random::SplitMix64;

use crate::error::Result;
use crate::imaging::{Frame, Light};
use crate::package::Variation;

/// Range of the gain.
const GAIN: (f32, f32) = (0.8, 1.25);
/// Largest gradient, from the middle to the edge.
const GRADIENT: f32 = 0.25;
/// Largest standard deviation of the noise, in gray levels of the camera's picture.
const NOISE: f32 = 4.0;

/// The varied copy of an enrolled picture. `scaled` is the picture at the size for the network, and `shrunk` how many
/// times the camera's picture is larger: scaling averages the camera's noise.
pub(super) fn copy(
    scaled: &Frame,
    shrunk: f32,
    variations: &[Variation],
    seed: u64,
    number: usize,
) -> Result<Frame> {
    // Mixed, so that pictures of neighboring seeds share no numbers.
    let seed = SplitMix64::new(seed).next_u64().wrapping_add(number as u64);
    let mut random = SplitMix64::new(SplitMix64::new(seed).next_u64());
    // Always drawn, so that each kind is the same with and without the other.
    let (gain, angle, amount, noise) = (random.unit(), random.unit(), random.unit(), random.unit());
    let mut light = Light { gain: 1.0, slope: [0.0; 2], noise: 0.0 };
    if variations.contains(&Variation::Light) {
        // Even on a logarithmic scale: half as bright is as likely as twice.
        light.gain = GAIN.0 * (GAIN.1 / GAIN.0).powf(gain);
        light.slope = [(TAU * angle).cos(), (TAU * angle).sin()].map(|part| GRADIENT * amount * part);
    }
    if variations.contains(&Variation::Noise) {
        light.noise = NOISE * noise / shrunk.max(1.0);
    }
    light.paint(scaled, || random.normal())
}
