//! Video4Linux cameras: USB cameras, frame grabbers, sensors of boards.
//!
//! Three properties of the crate `v4l` shape this code. It lends a frame only while its stream is borrowed,
//! so [`Camera::wait`] copies the bytes. One pass in order is also the fastest way to read the uncached
//! buffers of many boards. After a time-out it would return a buffer twice and fail, so `poll` comes first.
//! It panics on unknown answers of a driver; `guarded` turns these panics into errors.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use v4l::buffer::{Flags as BufferFlags, Metadata, Type as BufferType};
use v4l::capability::{Capabilities, Flags as CapabilityFlags};
use v4l::control::{self, Control};
use v4l::device::Device;
use v4l::format::{Colorspace, FieldOrder, Quantization};
use v4l::io::mmap::Stream as MmapStream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Format, FourCC, Fraction};

use super::pixels::{self, Layout, Range};
use super::{Camera, Captured, OpenCamera, Timing};
use crate::clock::at_monotonic;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame};
use crate::settings::{self, range};

/// Flag of `poll`: a frame is ready.
const POLLIN: i16 = 1;

/// Largest difference between the requested and the given rate: 29.97 passes for 30.
const RATE_TOLERANCE: f64 = 0.01;

/// A pixel format of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelFormat {
    /// 8-bit brightness.
    Grey,
    /// Red, green, blue.
    Rgb24,
    /// Blue, green, red.
    Bgr24,
    /// Brightness of every pixel, color of every second one.
    Yuyv,
    /// One JPEG picture per frame. The inspection sees its artifacts, and lost bytes can stay unnoticed. Use
    /// it only if the camera is too fast for the other formats.
    Mjpeg,
}

impl PixelFormat {
    /// All formats, the best first: without conversion, then uncompressed.
    const ALL: [PixelFormat; 5] =
        [PixelFormat::Grey, PixelFormat::Rgb24, PixelFormat::Bgr24, PixelFormat::Yuyv, PixelFormat::Mjpeg];

    /// The kernel's codes, the usual one first.
    fn codes(self) -> &'static [&'static [u8; 4]] {
        match self {
            PixelFormat::Grey => &[b"GREY"],
            PixelFormat::Rgb24 => &[b"RGB3"],
            PixelFormat::Bgr24 => &[b"BGR3"],
            PixelFormat::Yuyv => &[b"YUYV"],
            PixelFormat::Mjpeg => &[b"MJPG", b"JPEG"],
        }
    }

    fn of(code: FourCC) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.codes().contains(&&code.repr))
    }

    /// Least number of bytes of a line. `None` for compressed formats.
    pub(super) fn line(self, width: usize) -> Option<usize> {
        match self {
            PixelFormat::Grey => Some(width),
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => Some(width * 3),
            PixelFormat::Yuyv => Some(pixels::yuyv_line(width)),
            PixelFormat::Mjpeg => None,
        }
    }

    /// Default color of its frames.
    pub(super) fn color(self) -> Color {
        match self {
            PixelFormat::Grey => Color::Gray,
            _ => Color::Rgb,
        }
    }

    /// Checks that it can give frames of a color.
    pub(super) fn check_color(self, color: Option<Color>) -> Result<()> {
        if self.can_give(color) {
            return Ok(());
        }
        let what = format!("{self} has no color; set camera.color to \"gray\", or another format");
        Err(Error::setting("camera.format", what))
    }

    /// Converts a picture to a frame.
    pub(super) fn decode(
        self,
        bytes: &[u8],
        layout: Layout,
        range: Range,
        color: Color,
        frame: &mut Frame,
    ) -> Result<()> {
        let size = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        frame.refill(size(layout.width), size(layout.height), color, |to| match (self, color) {
            (PixelFormat::Grey, _) => pixels::gray_from_gray(bytes, layout, to),
            (PixelFormat::Rgb24, Color::Rgb) => pixels::rgb_from_rgb(bytes, layout, false, to),
            (PixelFormat::Bgr24, Color::Rgb) => pixels::rgb_from_rgb(bytes, layout, true, to),
            (PixelFormat::Rgb24, Color::Gray) => pixels::gray_from_rgb(bytes, layout, false, to),
            (PixelFormat::Bgr24, Color::Gray) => pixels::gray_from_rgb(bytes, layout, true, to),
            (PixelFormat::Yuyv, Color::Rgb) => pixels::rgb_from_yuyv(bytes, layout, range, to),
            (PixelFormat::Yuyv, Color::Gray) => pixels::gray_from_yuyv(bytes, layout, to),
            (PixelFormat::Mjpeg, _) => pixels::decode_jpeg(bytes, layout.width, layout.height, color, to),
        })
    }

    fn can_give(self, color: Option<Color>) -> bool {
        !(self == PixelFormat::Grey && color == Some(Color::Rgb))
    }
}

impl std::fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PixelFormat::Grey => "grey",
            PixelFormat::Rgb24 => "rgb24",
            PixelFormat::Bgr24 => "bgr24",
            PixelFormat::Yuyv => "yuyv",
            PixelFormat::Mjpeg => "mjpeg",
        })
    }
}

/// Value of a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "is no control's value; set a whole number, true or false")]
pub enum ControlValue {
    /// On or off. `true` presses a button.
    Switch(bool),
    /// A number, or the number of a menu item.
    Number(i64),
}

impl std::fmt::Display for ControlValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ControlValue::Switch(on) => on.fmt(f),
            ControlValue::Number(number) => number.fmt(f),
        }
    }
}

/// A Video4Linux camera: `[camera]` of the configuration with `kind = "v4l2"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct V4l2Settings {
    /// The device. A path in `/dev/v4l/by-path` names the socket. It stays the same after unplugging and for
    /// a replacement of the same model. `/dev/video0` can name another camera after a restart.
    pub device: PathBuf,
    /// Pixel format. Default: the first of grey, rgb24, bgr24, yuyv, mjpeg that the camera has and that can
    /// give `color`.
    #[serde(default)]
    pub format: Option<PixelFormat>,
    /// Width in pixels, together with `height`. Default: the camera's present width.
    #[serde(default)]
    pub width: Option<u32>,
    /// Height in pixels.
    #[serde(default)]
    pub height: Option<u32>,
    /// Frames per second. Default: the camera's present rate.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Color of the frames, gray or rgb. Default: gray for the format grey, rgb for all others.
    #[serde(default)]
    pub color: Option<Color>,
    /// Number of buffers for the driver to fill.
    #[serde(default = "four")]
    pub buffers: u32,
    /// The camera's controls (exposure, gain, white balance…), by their names in `v4l2-ctl --list-ctrls`.
    #[serde(default)]
    pub controls: BTreeMap<String, ControlValue>,
}

fn four() -> u32 {
    4
}

impl V4l2Settings {
    /// Checks the values, as far as possible without the camera.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.device.as_os_str().is_empty() || self.device.as_os_str().as_encoded_bytes().contains(&0) {
            let what = format!("is no path; name a device, such as {BY_PATH}/…-video-index0");
            return Err(Error::setting("camera.device", what));
        }
        match (self.width, self.height) {
            (None, None) => {}
            (Some(width), Some(height)) => {
                let most = Frame::MAX_PIXELS;
                range("camera.width", u64::from(width), 1..=most)?;
                range("camera.height", u64::from(height), 1..=most / u64::from(width))?;
            }
            (Some(_), None) => {
                return Err(Error::setting("camera.height", "is missing; set width and height, or neither"));
            }
            (None, Some(_)) => {
                return Err(Error::setting("camera.width", "is missing; set width and height, or neither"));
            }
        }
        if let Some(rate) = self.rate {
            super::check_rate(rate)?;
        }
        range("camera.buffers", self.buffers, 2..=32)?;
        self.format.map_or(Ok(()), |format| format.check_color(self.color))?;
        for name in self.controls.keys() {
            let spelled = control_name(name);
            if *name != spelled {
                let what = format!("has no such name; write {spelled}");
                return Err(Error::setting(settings::path(&["camera", "controls", name]), what));
            }
        }
        Ok(())
    }
}

const UNPLUGGED: &str = "is gone: plug it in again";
const BY_PATH: &str = "/dev/v4l/by-path";

/// A control's name as `v4l2-ctl` spells it: "White Balance, Automatic" is `white_balance_automatic`.
fn control_name(label: &str) -> String {
    let words = label.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

/// Opens a Video4Linux camera.
#[derive(Debug, Clone)]
pub struct V4l2Opener {
    /// The camera and its settings.
    pub settings: V4l2Settings,
}

impl OpenCamera for V4l2Opener {
    fn open(&mut self) -> Result<Box<dyn Camera>> {
        Ok(Box::new(V4l2Camera::open(&self.settings)?))
    }

    fn describe(&self) -> String {
        format!("the camera {}", self.settings.device.display())
    }
}

/// Calls the crate `v4l` and turns its panics into errors. It panics on unexpected answers of a driver, such
/// as a new kind of control.
fn guarded<T>(ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(ask))
        .unwrap_or_else(|_| Err(io::Error::other("the driver gives an unknown answer")))
}

fn is(e: &io::Error, number: Errno) -> bool {
    Errno::from_io_error(e) == Some(number)
}

/// An error about a device. `what` completes "the camera DEVICE …".
fn camera_error(device: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Camera, format!("the camera {} {what}", device.display()))
}

fn open_device(device: &Path) -> Result<Device> {
    guarded(|| Device::with_path(device)).map_err(|e| {
        let advice = match e.kind() {
            io::ErrorKind::NotFound => {
                format!("is missing: plug it in, or set camera.device to one of `ls {BY_PATH} /dev/video*`")
            }
            io::ErrorKind::PermissionDenied => {
                "refuses access: add the user of this program to the group `video`".into()
            }
            io::ErrorKind::ResourceBusy => "is in use: stop the other program".into(),
            _ if is(&e, Errno::NODEV) || is(&e, Errno::NXIO) => UNPLUGGED.into(),
            _ => "cannot be opened".into(),
        };
        camera_error(device, advice).with_source(e)
    })
}

/// The device's description of itself. `None` if it cannot be read.
fn capabilities(device: &Path, handle: &Device) -> Result<Option<Capabilities>> {
    let found = match guarded(|| handle.query_caps()) {
        Ok(found) => found,
        Err(e) if is(&e, Errno::NODEV) => {
            return Err(camera_error(device, UNPLUGGED).with_source(e));
        }
        Err(e) if e.raw_os_error().is_none() => return Ok(None),
        Err(e) => {
            return Err(camera_error(
                device,
                format_args!("is no camera: set camera.device to one of `ls {BY_PATH} /dev/video*`"),
            )
            .with_source(e));
        }
    };
    let can = found.capabilities;
    if can.contains(CapabilityFlags::VIDEO_CAPTURE | CapabilityFlags::STREAMING) {
        return Ok(Some(found));
    }
    let what = if can.contains(CapabilityFlags::VIDEO_CAPTURE_MPLANE) {
        "sends pixels in several planes; this is not supported"
    } else {
        "gives no pictures: it is the camera's second device, for metadata; use the one that ends with index0"
    };
    Err(camera_error(device, format_args!("({}) {what}", found.card)))
}

/// Chooses the format to request from those of the camera.
fn choose(
    has: &[FourCC],
    format: Option<PixelFormat>,
    color: Option<Color>,
) -> Result<(PixelFormat, FourCC), String> {
    let code_of = |format: PixelFormat| {
        let code = format.codes().iter().find(|code| has.iter().any(|has| has.repr == ***code))?;
        Some((format, FourCC::new(code)))
    };
    let found = match format {
        Some(format) => code_of(format),
        None => PixelFormat::ALL.into_iter().filter(|f| f.can_give(color)).find_map(code_of),
    };
    found.ok_or_else(|| {
        let names: Vec<String> = has
            .iter()
            .map(|&code| PixelFormat::of(code).map_or_else(|| code_name(code), |format| format.to_string()))
            .collect();
        let names = if names.is_empty() {
            "none: is a source connected?".into()
        } else {
            format!("only {}", names.join(", "))
        };
        match (format, color) {
            (Some(format), _) => format!("does not have camera.format \"{format}\", {names}"),
            (None, Some(color)) => format!("has no format for {color} frames, {names}"),
            (None, None) => {
                format!("has no format that is supported (grey, rgb24, bgr24, yuyv, mjpeg), {names}")
            }
        }
    })
}

/// A format code as text.
fn code_name(code: FourCC) -> String {
    String::from_utf8_lossy(&code.repr).trim_end().escape_debug().to_string()
}

/// Checks the camera's answer to a request. `Err` completes "the camera DEVICE …".
fn accept(asked: &Format, given: &Format, format: PixelFormat) -> Result<Layout, String> {
    let same = |f: &Format| (f.width, f.height, f.fourcc.repr);
    if same(asked) != same(given) {
        let name = |f: &Format| format!("{}×{} pixels of {}", f.width, f.height, code_name(f.fourcc));
        return Err(format!(
            "gives {} instead of {}: set camera.format, camera.width and camera.height to what \
             `v4l2-ctl --list-formats-ext` lists for it",
            name(given),
            name(asked)
        ));
    }
    if !(1..=Frame::MAX_PIXELS).contains(&(u64::from(given.width) * u64::from(given.height))) {
        return Err(format!(
            "gives {}×{} pixels, which a frame cannot have: set camera.width and camera.height",
            given.width, given.height
        ));
    }
    if !matches!(
        given.field_order,
        FieldOrder::Any
            | FieldOrder::Progressive
            | FieldOrder::Interlaced
            | FieldOrder::InterlacedTB
            | FieldOrder::InterlacedBT
    ) {
        return Err("gives interlaced pictures (fields); they are not supported".into());
    }
    let (Ok(width), Ok(height), Ok(stride)) =
        (usize::try_from(given.width), usize::try_from(given.height), usize::try_from(given.stride))
    else {
        return Err("gives frames that are too large for this machine".into());
    };
    let line = format.line(width).unwrap_or(0);
    // Some drivers leave it out when lines lie side by side.
    let stride = if stride == 0 { line } else { stride };
    if stride < line {
        return Err(format!("reports only {stride} bytes for a line of {width} pixels"));
    }
    Ok(Layout { width, height, stride })
}

/// Range of the brightness, by the rule of the kernel's V4L2_MAP_QUANTIZATION_DEFAULT.
fn range_of(format: &Format) -> Range {
    match (format.quantization, format.colorspace) {
        (Quantization::FullRange, _) | (Quantization::Default, Colorspace::JPEG) => Range::Full,
        _ => Range::Limited,
    }
}

/// The time between two frames at a rate that [`V4l2Settings::validate`] accepted.
fn interval_of(rate: f64) -> Fraction {
    // At most 1 000 000 by the check.
    let in_thousandths = (rate * 1000.0).round().clamp(1.0, 1e6) as u32;
    if in_thousandths.is_multiple_of(1000) {
        Fraction::new(1, in_thousandths / 1000)
    } else {
        Fraction::new(1000, in_thousandths)
    }
}

fn rate_of(interval: Fraction) -> Option<f64> {
    (interval.numerator > 0 && interval.denominator > 0)
        .then(|| f64::from(interval.denominator) / f64::from(interval.numerator))
}

fn set_rate(device: &Path, handle: &Device, rate: f64) -> Result<()> {
    let given = guarded(|| handle.set_params(&Parameters::new(interval_of(rate)))).map_err(|e| {
        camera_error(device, format_args!("has a fixed rate: remove camera.rate ({rate})")).with_source(e)
    })?;
    match rate_of(given.interval) {
        Some(given) if (given - rate).abs() <= rate * RATE_TOLERANCE => Ok(()),
        given => {
            let given = given.map_or("an unknown number of".into(), |given| format!("{given:.3}"));
            Err(camera_error(
                device,
                format_args!(
                    "gives {given} frames per second instead of camera.rate {rate}: set what it has at this \
                     size and format, or leave camera.rate out"
                ),
            ))
        }
    }
}

/// Reads the camera's timing. Missing values are no error.
fn timing_of(handle: &Device) -> Timing {
    /// `V4L2_CID_EXPOSURE_ABSOLUTE`, in units of 100 µs.
    const EXPOSURE_ABSOLUTE: u32 = 0x009a_0902;
    let seconds = |seconds: f64| (0.0..=60.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds));
    let rate = guarded(|| handle.params()).ok().and_then(|params| rate_of(params.interval));
    let exposure = match guarded(|| handle.control(EXPOSURE_ABSOLUTE)) {
        Ok(Control { value: control::Value::Integer(units), .. }) => seconds(units as f64 * 1e-4),
        _ => None,
    };
    Timing { period: rate.and_then(|rate| seconds(1.0 / rate)), exposure }
}

/// All controls, with their names. Empty if the device has none.
fn controls_of(handle: &Device) -> io::Result<Vec<(String, control::Description)>> {
    match guarded(|| handle.query_controls()) {
        Ok(found) => Ok(found
            .into_iter()
            .filter(|c| c.typ != control::Type::CtrlClass && !c.flags.contains(control::Flags::DISABLED))
            .map(|c| (control_name(&c.name), c))
            .collect()),
        Err(e) if is(&e, Errno::INVAL) || is(&e, Errno::NOTTY) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Returns the value to send for a control. `Err` completes "camera.controls.NAME …".
fn value_for(control: &control::Description, value: ControlValue) -> Result<control::Value, String> {
    use control::{Flags, Type};
    if control.flags.contains(Flags::READ_ONLY) {
        return Err("is read-only".into());
    }
    if control.flags.contains(Flags::HAS_PAYLOAD) {
        return Err(format!("is a list of values ({}) and cannot be set here", control.typ));
    }
    let number = match (control.typ, value) {
        (Type::Boolean, ControlValue::Switch(on)) => return Ok(control::Value::Boolean(on)),
        (Type::Boolean, ControlValue::Number(number @ (0 | 1))) => {
            return Ok(control::Value::Boolean(number == 1));
        }
        (Type::Boolean, _) => return Err(format!("must be true or false, not {value}")),
        (Type::Button, ControlValue::Switch(true)) => return Ok(control::Value::Integer(1)),
        (Type::Button, _) => return Err(format!("is a button: only true presses it, not {value}")),
        (
            Type::Integer | Type::Integer64 | Type::Menu | Type::IntegerMenu | Type::Bitmask,
            ControlValue::Number(number),
        ) => number,
        (Type::Integer | Type::Integer64 | Type::Menu | Type::IntegerMenu | Type::Bitmask, _) => {
            return Err(format!("must be a number, not {value}"));
        }
        (other, _) => return Err(format!("is of a kind ({other}) that cannot be set here")),
    };
    if let Some(items) = &control.items {
        if items.iter().any(|(index, _)| i64::from(*index) == number) {
            return Ok(control::Value::Integer(number));
        }
        let items: Vec<String> = items.iter().map(|(index, item)| format!("{index} ({item})")).collect();
        return Err(format!("must be one of {}, not {number}", items.join(", ")));
    }
    if control.typ == Type::Bitmask {
        // Masks are unsigned, but come in a signed number.
        return if number & !(control.maximum & 0xffff_ffff) == 0 {
            Ok(control::Value::Integer(number))
        } else {
            Err(format!("must have no bits beside {:#x}, not {number:#x}", control.maximum & 0xffff_ffff))
        };
    }
    let range = control.minimum..=control.maximum;
    let step = i128::from(control.step.max(1));
    if !range.contains(&number) || (i128::from(number) - i128::from(control.minimum)) % step != 0 {
        return Err(format!(
            "must be {} to {} in steps of {step}, not {number}",
            control.minimum, control.maximum
        ));
    }
    Ok(control::Value::Integer(number))
}

/// The settings to send, in order. Switches and menus come first, because they enable other settings, as
/// automatic exposure does for the exposure. `Err` completes "the camera DEVICE …".
fn planned<'a>(
    known: &'a [(String, control::Description)],
    wanted: &BTreeMap<String, ControlValue>,
) -> Result<Vec<(&'a str, &'a control::Description, control::Value)>, String> {
    let mut plan = Vec::with_capacity(wanted.len());
    for (name, &value) in wanted {
        let Some((name, control)) = known.iter().find(|(n, _)| n == name) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
            let names = if names.is_empty() { "none".into() } else { names.join(", ") };
            return Err(format!("has no control camera.controls.{name}; it has: {names}"));
        };
        let value = value_for(control, value)
            .map_err(|reason| format!("refuses a setting: camera.controls.{name} {reason}"))?;
        plan.push((name.as_str(), control, value));
    }
    use control::Type::{Boolean, IntegerMenu, Menu};
    plan.sort_by_key(|(_, control, _)| !matches!(control.typ, Boolean | Menu | IntegerMenu));
    Ok(plan)
}

fn set_controls(device: &Path, handle: &Device, wanted: &BTreeMap<String, ControlValue>) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let unlisted =
        |e| camera_error(device, "does not list its controls: remove camera.controls").with_source(e);
    let known = controls_of(handle).map_err(unlisted)?;
    let plan = planned(&known, wanted).map_err(|what| camera_error(device, what))?;
    for (name, control, value) in &plan {
        let value = match value {
            control::Value::Integer(number) => control::Value::Integer(*number),
            control::Value::Boolean(on) => control::Value::Boolean(*on),
            _ => continue,
        };
        guarded(|| handle.set_control(Control { id: control.id, value })).map_err(|e| {
            camera_error(
                device,
                format_args!(
                    "refuses camera.controls.{name}: another one may govern it, such as automatic exposure"
                ),
            )
            .with_source(e)
        })?;
    }
    // Which of them have an effect is known only after all are set.
    let known = controls_of(handle).map_err(unlisted)?;
    for (name, control, value) in &plan {
        let flags = known.iter().find(|(_, c)| c.id == control.id).map_or(control.flags, |(_, c)| c.flags);
        if flags.contains(control::Flags::INACTIVE) {
            log::warn!(
                "the camera {} does not use camera.controls.{name} now: another one governs it, such as \
                 automatic exposure",
                device.display()
            );
        } else if !flags.intersects(control::Flags::VOLATILE | control::Flags::WRITE_ONLY)
            // Controls that cannot be read back count as set.
            && let Ok(now) = guarded(|| handle.control(control.id))
            && now.value != *value
        {
            return Err(camera_error(
                device,
                format_args!("set camera.controls.{name} to {:?} instead of {value:?}", now.value),
            ));
        }
    }
    Ok(())
}

/// Counts gaps in the driver's frame numbers.
#[derive(Debug, Default)]
struct Sequence {
    last: Option<u32>,
    /// Whether the driver counts. Some repeat one number.
    counts: bool,
}

impl Sequence {
    /// Number of frames missing before this number. A number out of order counts as at least one.
    fn missing(&mut self, number: u32) -> u64 {
        let Some(last) = self.last.replace(number) else { return 0 };
        match number.wrapping_sub(last) {
            0 if !self.counts => 0,
            0 | 0x8000_0000.. => 1,
            ahead => {
                self.counts = true;
                u64::from(ahead - 1)
            }
        }
    }
}

/// Time of capture, if the driver stamps with the monotonic clock. Some drivers do so without declaring it
/// (`UNKNOWN`, such as v4l2loopback). Then the stamp must be just before now on that clock, as the kernel's
/// documentation advises.
fn taken_at(meta: &Metadata) -> Option<Instant> {
    const SHORTLY: Duration = Duration::from_secs(10);
    let micros = u32::try_from(meta.timestamp.usec).ok().filter(|micros| *micros < 1_000_000)?;
    let stamp = Duration::new(u64::try_from(meta.timestamp.sec).ok()?, micros * 1000);
    let at = at_monotonic(stamp).filter(|_| stamp > Duration::ZERO)?;
    match meta.flags & BufferFlags::TIMESTAMP_MASK {
        BufferFlags::TIMESTAMP_MONOTONIC => Some(at),
        // No difference shows if the machine's time of day starts at boot.
        kind if kind.is_empty() && at.elapsed() < SHORTLY => {
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            (wall.abs_diff(stamp) > 2 * SHORTLY).then_some(at)
        }
        _ => None,
    }
}

/// Whether to repeat a call: nothing is there yet, or a signal interrupted it.
fn passing(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// An open Video4Linux camera.
struct V4l2Camera {
    device: PathBuf,
    /// Taken only to be dropped. It keeps device and mappings alive together.
    stream: Option<MmapStream<'static>>,
    /// Whether we hold a buffer. The stream returns it before it takes the next one.
    held: bool,
    format: PixelFormat,
    color: Color,
    layout: Layout,
    range: Range,
    /// The frame of the last wait.
    bytes: Vec<u8>,
    sequence: Sequence,
    timing: Timing,
}

impl V4l2Camera {
    fn open(settings: &V4l2Settings) -> Result<Self> {
        let device = &settings.device;
        let handle = open_device(device)?;
        capabilities(device, &handle)?;
        let failed = |what: &'static str| {
            move |e: io::Error| {
                let busy = e.kind() == io::ErrorKind::ResourceBusy;
                let what = if busy { "is in use: stop the other program" } else { what };
                camera_error(device, what).with_source(e)
            }
        };
        let present = guarded(|| handle.format()).map_err(failed("does not report its format"))?;
        let has: Vec<FourCC> = guarded(|| handle.enum_formats())
            .map_err(failed("does not list its formats"))?
            .iter()
            .map(|f| f.fourcc)
            .collect();
        let (format, code) =
            choose(&has, settings.format, settings.color).map_err(|what| camera_error(device, what))?;
        let (width, height) =
            (settings.width.unwrap_or(present.width), settings.height.unwrap_or(present.height));
        let asked = Format::new(width, height, code);
        let given = guarded(|| handle.set_format(&asked)).map_err(failed("refuses its format"))?;
        let layout = accept(&asked, &given, format).map_err(|what| camera_error(device, what))?;
        if let Some(rate) = settings.rate {
            set_rate(device, &handle, rate)?;
        }
        set_controls(device, &handle, &settings.controls)?;
        let timing = timing_of(&handle);

        let stream =
            guarded(|| MmapStream::with_buffers(&handle, BufferType::VideoCapture, settings.buffers))
                .map_err(failed("gives no buffers: lower camera.buffers or the picture size"))?;
        let mut camera = V4l2Camera {
            device: device.clone(),
            stream: Some(stream),
            held: false,
            format,
            color: settings.color.unwrap_or(format.color()),
            layout,
            range: range_of(&given),
            bytes: Vec::with_capacity(usize::try_from(given.size).unwrap_or(0)),
            sequence: Sequence::default(),
            timing,
        };
        camera.start().map_err(|e| {
            let full = is(&e, Errno::NOSPC);
            let what = if full {
                "gets no bandwidth: use another USB controller, a smaller size, a lower rate or mjpeg"
            } else {
                "does not start"
            };
            failed(what)(e)
        })?;
        log::info!(
            "the camera {} gives {width}×{height} pixels of {format} as {} frames",
            device.display(),
            camera.color
        );
        Ok(camera)
    }

    /// Gives all buffers to the driver and starts it. The crate does so at the first request for a frame, so
    /// this requests one before any can be there.
    fn start(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        stream.set_timeout(Duration::ZERO);
        match guarded(|| stream.next().map(drop)) {
            Ok(()) => self.held = true,
            Err(e) if passing(&e) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Takes the next frame from the driver, if one comes within `patience`. Returns its metadata.
    fn take(&mut self, patience: Duration) -> io::Result<Option<Metadata>> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        // Rounded up: otherwise the last part of a millisecond would be a busy loop.
        let millis = i32::try_from(patience.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        if guarded(|| stream.handle().poll(POLLIN, millis))? == 0 {
            return Ok(None);
        }
        if !self.held {
            // The stream lends a frame only in exchange for the previous one, and there is none.
            stream.dequeue()?;
            self.held = true;
            return Ok(None);
        }
        self.held = false;
        let bytes = &mut self.bytes;
        let meta = guarded(|| {
            let (buffer, meta) = stream.next()?;
            let used = usize::try_from(meta.bytesused).unwrap_or(usize::MAX).min(buffer.len());
            bytes.clear();
            if !meta.flags.contains(BufferFlags::ERROR) {
                bytes.extend_from_slice(&buffer[..used]);
            }
            Ok(*meta)
        })?;
        self.held = true;
        Ok(Some(meta))
    }

    fn gone(&self, e: io::Error) -> Error {
        let what = if is(&e, Errno::NODEV) { "was unplugged" } else { "failed" };
        camera_error(&self.device, what).with_source(e)
    }
}

impl Camera for V4l2Camera {
    fn wait(&mut self, timeout: Duration) -> Result<Option<Captured>> {
        let begin = Instant::now();
        loop {
            let left = timeout.saturating_sub(begin.elapsed());
            match self.take(left) {
                Ok(Some(meta)) => {
                    return Ok(Some(Captured {
                        at: taken_at(&meta),
                        lost: self.sequence.missing(meta.sequence),
                        damaged: meta.flags.contains(BufferFlags::ERROR),
                    }));
                }
                Ok(None) => {}
                // A driver that is ready but has no frame must not cause a busy loop.
                Err(e) if passing(&e) => std::thread::sleep(Duration::from_millis(1).min(left)),
                Err(e) => return Err(self.gone(e)),
            }
            if begin.elapsed() >= timeout {
                return Ok(None);
            }
        }
    }

    fn timing(&self) -> Timing {
        self.timing
    }

    fn read(&mut self, frame: &mut Frame) -> Result<()> {
        self.format.decode(&self.bytes, self.layout, self.range, self.color, frame)
    }
}

impl Drop for V4l2Camera {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            // The crate panics if the driver does not stop, unless it is gone.
            if let Err(e) = guarded(|| {
                drop(stream);
                Ok(())
            }) {
                log::error!("{}", camera_error(&self.device, "did not stop").with_source(e).chain());
            }
        }
    }
}

#[cfg(test)]
mod tests;
