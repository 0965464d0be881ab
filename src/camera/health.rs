//! Checks that a frame can show the part: not frozen, black, over-exposed or out of focus.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::imaging::{Frame, exposure, sharpness};
use crate::settings::range;

/// What frames must be like: `[health]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSettings {
    /// Least mean brightness of a frame, 0 to 255. Below it the frame is black. 0: no check.
    pub black: f32,
    /// Largest share of values of 250 or more (of 255). Above it the frame is over-exposed. 1: no check.
    pub over_exposed: f32,
    /// Number of identical frames in a row that count as frozen: a sensor's noise never repeats. 0: no check.
    pub frozen: u32,
    /// Least sharpness of a frame, 0 to 255. Below it the frame is out of focus. 0: no check. `weakrest
    /// check` prints the camera's present value.
    pub sharpness: f32,
}

impl Default for HealthSettings {
    fn default() -> Self {
        HealthSettings { black: 4.0, over_exposed: 0.9, frozen: 2, sharpness: 0.0 }
    }
}

impl HealthSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        range("health.black", self.black, 0.0..=255.0)?;
        range("health.over_exposed", self.over_exposed, 0.0..=1.0)?;
        range("health.sharpness", self.sharpness, 0.0..=255.0)?;
        if self.frozen == 1 {
            let what = "1 would stop at every frame; set 0 for no check, or at least 2";
            return Err(Error::setting("health.frozen", what));
        }
        Ok(())
    }
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unhealthy {
    /// Identical to the frames before.
    Frozen,
    /// Black.
    Black,
    /// Over-exposed.
    OverExposed,
    /// Out of focus.
    Defocused,
}

impl std::fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unhealthy::Frozen => "the camera repeats the same picture; it hangs: restart it",
            Unhealthy::Black => "the picture is black: check the light, the lens cap and the exposure",
            Unhealthy::OverExposed => "the picture is over-exposed: check the light and the exposure",
            Unhealthy::Defocused => "the picture is out of focus: check the lens, dirt and vibration",
        })
    }
}

/// Checks frames in their order.
#[derive(Debug, Default)]
pub struct Health {
    settings: HealthSettings,
    previous: Vec<u8>,
    same: u32,
}

impl Health {
    /// A checker with these settings.
    pub fn new(settings: HealthSettings) -> Self {
        Health { settings, ..Health::default() }
    }

    /// Checks the next frame. `None`: the frame is healthy.
    pub fn check(&mut self, frame: &Frame) -> Option<Unhealthy> {
        let settings = &self.settings;
        if settings.frozen > 0 {
            if frame.pixels() == self.previous {
                self.same += 1;
            } else {
                self.same = 1;
                self.previous.clear();
                self.previous.extend_from_slice(frame.pixels());
            }
            if self.same >= settings.frozen {
                return Some(Unhealthy::Frozen);
            }
        }
        let (mean, bright) = exposure(frame);
        if mean < settings.black {
            Some(Unhealthy::Black)
        } else if bright > settings.over_exposed {
            Some(Unhealthy::OverExposed)
        } else if settings.sharpness > 0.0 && sharpness(frame) < settings.sharpness {
            Some(Unhealthy::Defocused)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Color;

    fn frame(value: impl Fn(usize, usize) -> u8) -> Frame {
        let pixels = (0..64 * 64).map(|i| value(i % 64, i / 64)).collect();
        Frame::new(64, 64, Color::Gray, pixels).unwrap()
    }

    #[test]
    fn what_is_wrong_with_a_frame_is_told() {
        let mut health = Health::new(HealthSettings { sharpness: 4.0, ..HealthSettings::default() });
        let sharp = |x: usize, _: usize| if x.is_multiple_of(2) { 60 } else { 160 };
        assert_eq!(health.check(&frame(sharp)), None);
        assert_eq!(health.check(&frame(|_, _| 2)), Some(Unhealthy::Black));
        assert_eq!(health.check(&frame(|_, _| 255)), Some(Unhealthy::OverExposed));
        assert_eq!(health.check(&frame(|x, _| 60 + x as u8)), Some(Unhealthy::Defocused));
        assert_eq!(health.check(&frame(sharp)), None);
        assert_eq!(health.check(&frame(sharp)), Some(Unhealthy::Frozen));
        assert_eq!(health.check(&frame(|x, y| sharp(x + 1, y))), None);
    }
}
