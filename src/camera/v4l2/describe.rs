//! What a camera is and can do, for people who set it up.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use v4l::control;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::video::Capture;

use super::{PixelFormat, camera_error, capabilities, code_name, controls_of, guarded, open_device, rate_of};
use crate::error::Result;

/// A camera of Linux, as it describes itself. Its [`Display`](fmt::Display) is several lines for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceDescription {
    /// The camera's name.
    pub card: String,
    /// The driver's name.
    pub driver: String,
    /// Where it is plugged in.
    pub bus: String,
    /// The formats that it has.
    pub formats: Vec<FormatDescription>,
    /// Its controls.
    pub controls: Vec<ControlDescription>,
}

/// A format that a camera has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FormatDescription {
    /// The kernel's code of four letters.
    pub code: String,
    /// The driver's name for it.
    pub name: String,
    /// What to set `camera.format` to. `None` when it is not supported.
    pub format: Option<PixelFormat>,
    /// Sizes, each with its rates if the camera tells them: "640×480 at 30, 15 frames/s".
    pub sizes: Vec<String>,
}

/// A control that a camera has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControlDescription {
    /// What to write in `camera.controls`.
    pub name: String,
    /// Its kind: "Integer", "Boolean", "Menu"…
    pub kind: String,
    /// The least value.
    pub minimum: i64,
    /// The greatest value.
    pub maximum: i64,
    /// The step between values.
    pub step: u64,
    /// The value that the driver starts with.
    pub default: i64,
    /// The present value, if it can be read.
    pub value: Option<i64>,
    /// A menu's items.
    pub items: Vec<(u32, String)>,
    /// Whether it has no effect now, because another one governs it.
    pub inactive: bool,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// Asks a camera what it is and can do. Does not disturb another program that uses it.
///
/// # Errors
/// [`ErrorKind::Camera`](crate::ErrorKind::Camera) when there is none.
pub fn describe_device(device: &Path) -> Result<DeviceDescription> {
    let handle = open_device(device)?;
    let found = capabilities(device, &handle)?;
    let unknown = || "unknown".to_owned();
    let formats = guarded(|| handle.enum_formats())
        .map_err(|e| camera_error(device, "does not list its formats").with_source(e))?;
    let formats = formats
        .into_iter()
        .map(|format| FormatDescription {
            code: code_name(format.fourcc),
            name: format.description,
            format: PixelFormat::of(format.fourcc),
            sizes: guarded(|| handle.enum_framesizes(format.fourcc))
                .unwrap_or_default()
                .iter()
                .map(|size| match &size.size {
                    FrameSizeEnum::Discrete(size) => {
                        let rates =
                            guarded(|| handle.enum_frameintervals(format.fourcc, size.width, size.height));
                        let rates = rates.unwrap_or_default();
                        format!(
                            "{}×{}{}",
                            size.width,
                            size.height,
                            rates_of(rates.iter().map(|r| &r.interval))
                        )
                    }
                    FrameSizeEnum::Stepwise(s) => format!(
                        "{}×{} to {}×{} in steps of {}×{}",
                        s.min_width, s.min_height, s.max_width, s.max_height, s.step_width, s.step_height
                    ),
                })
                .collect(),
        })
        .collect();
    let controls = controls_of(&handle).unwrap_or_else(|e| {
        log::warn!("{}", camera_error(device, "does not list its controls").with_source(e).chain());
        Vec::new()
    });
    let controls = controls
        .into_iter()
        .map(|(name, control)| {
            let value = guarded(|| handle.control(control.id)).ok().and_then(|now| match now.value {
                control::Value::Integer(number) => Some(number),
                control::Value::Boolean(on) => Some(i64::from(on)),
                _ => None,
            });
            describe_control(name, &control, value)
        })
        .collect();
    let (card, driver, bus) =
        found.map_or_else(|| (unknown(), unknown(), unknown()), |c| (c.card, c.driver, c.bus));
    Ok(DeviceDescription { card, driver, bus, formats, controls })
}

pub(super) fn describe_control(
    name: String,
    control: &control::Description,
    value: Option<i64>,
) -> ControlDescription {
    ControlDescription {
        name,
        kind: control.typ.to_string(),
        minimum: control.minimum,
        maximum: control.maximum,
        step: control.step,
        default: control.default,
        value,
        items: control.items.iter().flatten().map(|(index, item)| (*index, item.to_string())).collect(),
        inactive: control.flags.contains(control::Flags::INACTIVE),
        read_only: control.flags.contains(control::Flags::READ_ONLY),
    }
}

/// " at 30, 15 frames/s", or nothing when no rates are known.
pub(super) fn rates_of<'a>(intervals: impl Iterator<Item = &'a FrameIntervalEnum>) -> String {
    let text = |rate: f64| {
        let text = format!("{rate:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let rates: Vec<String> = intervals
        .filter_map(|interval| match interval {
            FrameIntervalEnum::Discrete(interval) => rate_of(*interval).map(text),
            // The longest interval is the lowest rate.
            FrameIntervalEnum::Stepwise(s) => {
                Some(format!("{} to {}", text(rate_of(s.max)?), text(rate_of(s.min)?)))
            }
        })
        .collect();
    if rates.is_empty() { String::new() } else { format!(" at {} frames/s", rates.join(", ")) }
}

impl fmt::Display for DeviceDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (driver {}, at {})", self.card, self.driver, self.bus)?;
        for format in &self.formats {
            match format.format {
                Some(supported) => {
                    writeln!(f, "  format \"{supported}\" ({}, {})", format.code, format.name)?
                }
                None => writeln!(f, "  not supported: {}, {}", format.code, format.name)?,
            }
            for size in &format.sizes {
                writeln!(f, "    {size}")?;
            }
        }
        for control in &self.controls {
            write!(f, "  {control}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ControlDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "control {} ({}): ", self.name, self.kind)?;
        if let Some(value) = self.value {
            write!(f, "is {value}, ")?;
        }
        write!(f, "{} to {}", self.minimum, self.maximum)?;
        if self.step > 1 {
            write!(f, " in steps of {}", self.step)?;
        }
        write!(f, ", by default {}", self.default)?;
        if self.inactive {
            write!(f, ", without effect now")?;
        }
        if self.read_only {
            write!(f, ", can only be read")?;
        }
        writeln!(f)?;
        for (index, item) in &self.items {
            writeln!(f, "    {index}: {item}")?;
        }
        Ok(())
    }
}
