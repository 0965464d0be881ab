//! Video4Linux cameras: USB cameras, frame grabbers, sensors of boards.
//!
//! The crate `v4l` serves for devices and controls. It panics on unknown answers of a driver; `guarded` turns these
//! panics into errors.

mod capture;

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use v4l::buffer::{Flags as BufferFlags, Metadata};
use v4l::capability::Flags as CapabilityFlags;
use v4l::control::{self, Control};
use v4l::device::Device;
use v4l::{FourCC, Fraction};

use super::formats::{self, PixelFormat};
use super::pixels::{Layout, Range};
use super::{Camera, Captured, OpenCamera, Timing};
use crate::clock::at_monotonic;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame};
use crate::settings::{self, range};
use capture::{Given, Place, Port, Stream};

/// Largest difference between the requested and the given rate: 29.97 passes for 30.
const RATE_TOLERANCE: f64 = 0.01;

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
    /// Pixel format. Default: the first in the order of [`PixelFormat`] that the camera has and that can give
    /// `color`.
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

/// Checks that the device captures. Returns whether its frames come in memory planes.
fn captures_planes(device: &Path, handle: &Device) -> Result<bool> {
    let found = match guarded(|| handle.query_caps()) {
        Ok(found) => found,
        Err(e) if is(&e, Errno::NODEV) => {
            return Err(camera_error(device, UNPLUGGED).with_source(e));
        }
        // What the crate does not understand has one plane, as nearly all have.
        Err(e) if e.raw_os_error().is_none() => return Ok(false),
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
        return Ok(false);
    }
    if can.contains(CapabilityFlags::VIDEO_CAPTURE_MPLANE | CapabilityFlags::STREAMING) {
        return Ok(true);
    }
    let what = "gives no pictures: it is the camera's second device, for metadata; use the one that ends with index0";
    Err(camera_error(device, format_args!("({}) {what}", found.card)))
}

/// The cameras of this machine, for people.
pub(super) fn list() -> Vec<String> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let is_video =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"video"));
    let mut devices: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_video).collect();
    devices.sort();
    let described = |device: PathBuf| {
        let handle = match open_device(&device) {
            Ok(handle) => handle,
            Err(e) => return Some(e.chain()),
        };
        // Other devices have such names, too.
        captures_planes(&device, &handle).ok()?;
        let name = guarded(|| handle.query_caps()).map_or_else(|_| "camera".into(), |found| found.card);
        Some(format!("{}, {name}", device.display()))
    };
    devices.into_iter().filter_map(described).collect()
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
        None => PixelFormat::all().filter(|f| f.can_give(color)).find_map(code_of),
    };
    found.ok_or_else(|| {
        let names: Vec<String> = has
            .iter()
            .map(|&code| {
                PixelFormat::of(code.repr).map_or_else(|| code_name(code), |format| format.to_string())
            })
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
                format!("has no format that is supported ({}), {names}", formats::names())
            }
        }
    })
}

/// A format code as text.
fn code_name(code: FourCC) -> String {
    String::from_utf8_lossy(&code.repr).trim_end().escape_debug().to_string()
}

/// `V4L2_FIELD_ANY`, `NONE`, `INTERLACED`, `INTERLACED_TB` and `INTERLACED_BT`: whole pictures.
const WHOLE: [u32; 5] = [0, 1, 4, 8, 9];

/// Checks the camera's answer to a request. Returns where the bytes of a picture lie, and where its memory planes go among
/// them. `Err` completes "the camera DEVICE …".
fn accept(
    (width, height, code): (u32, u32, FourCC),
    given: &Given,
    format: PixelFormat,
) -> Result<(Layout, Vec<Place>), String> {
    if (width, height, code.repr) != (given.width, given.height, given.code.repr) {
        let name = |w: u32, h: u32, code: FourCC| format!("{w}×{h} pixels of {}", code_name(code));
        return Err(format!(
            "gives {} instead of {}: set camera.format, camera.width and camera.height to what \
             `v4l2-ctl --list-formats-ext` lists for it",
            name(given.width, given.height, given.code),
            name(width, height, code)
        ));
    }
    if !(1..=Frame::MAX_PIXELS).contains(&(u64::from(width) * u64::from(height))) {
        return Err(format!(
            "gives {width}×{height} pixels, which a frame cannot have: set camera.width and camera.height"
        ));
    }
    if !WHOLE.contains(&given.field) {
        return Err("gives interlaced pictures (fields); they are not supported".into());
    }
    let too_large = || "gives frames that are too large for this machine".to_owned();
    let size = |side: u32| usize::try_from(side).map_err(|_| too_large());
    let (wide, high) = (size(width)?, size(height)?);
    let lines = format.lines(wide);
    let mut strides = given.strides.iter().map(|&stride| size(stride)).collect::<Result<Vec<_>, _>>()?;
    for (stride, line) in strides.iter_mut().zip(&lines) {
        // Some drivers leave it out when lines lie side by side.
        if *stride == 0 {
            *stride = *line;
        }
        if *stride < *line {
            return Err(format!("reports only {stride} bytes for a line of {width} pixels"));
        }
    }
    match (&strides[..], lines.len()) {
        // A compressed picture fills its plane as far as it goes.
        ([_], 0) => Ok((format.layout(wide, high, &[]), vec![Place { offset: 0, least: 0 }])),
        (&[stride], _) => Ok((format.in_one_buffer(wide, high, stride), vec![Place { offset: 0, least: 0 }])),
        (strides, planes) if strides.len() == planes => {
            let layout = format.layout(wide, high, strides);
            let place =
                |plane: usize| Place { offset: layout.offsets[plane], least: format.least(&layout, plane) };
            Ok((layout, (0..planes).map(place).collect()))
        }
        (strides, planes) => {
            Err(format!("gives {} memory planes for {format}, which has {planes}", strides.len()))
        }
    }
}

/// Range of the brightness, by the rule of the kernel's `V4L2_MAP_QUANTIZATION_DEFAULT`.
fn range_of(format: &Given) -> Range {
    const FULL: u32 = 1;
    const JPEG: u32 = 7;
    match (format.quantization, format.colorspace) {
        (FULL, _) | (0, JPEG) => Range::Full,
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

fn set_rate(device: &Path, port: &Port, rate: f64) -> Result<()> {
    let given = port.set_interval(interval_of(rate)).map_err(|e| {
        camera_error(device, format_args!("has a fixed rate: remove camera.rate ({rate})")).with_source(e)
    })?;
    match rate_of(given) {
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
fn timing_of(handle: &Device, port: &Port) -> Timing {
    /// `V4L2_CID_EXPOSURE_ABSOLUTE`, in units of 100 µs.
    const EXPOSURE_ABSOLUTE: u32 = 0x009a_0902;
    let seconds = |seconds: f64| (0.0..=60.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds));
    let rate = port.interval().ok().and_then(rate_of);
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
    /// `None` in tests only.
    stream: Option<Stream>,
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
        let port = Port::new(&handle, captures_planes(device, &handle)?);
        let failed = |what: &'static str| {
            move |e: io::Error| {
                let busy = e.kind() == io::ErrorKind::ResourceBusy;
                let what = if busy { "is in use: stop the other program" } else { what };
                camera_error(device, what).with_source(e)
            }
        };
        let present = port.format().map_err(failed("does not report its format"))?;
        let has = port.formats().map_err(failed("does not list its formats"))?;
        let (format, code) =
            choose(&has, settings.format, settings.color).map_err(|what| camera_error(device, what))?;
        let (width, height) =
            (settings.width.unwrap_or(present.width), settings.height.unwrap_or(present.height));
        let given = port.set_format(width, height, code).map_err(failed("refuses its format"))?;
        let (layout, places) =
            accept((width, height, code), &given, format).map_err(|what| camera_error(device, what))?;
        if let Some(rate) = settings.rate {
            set_rate(device, &port, rate)?;
        }
        set_controls(device, &handle, &settings.controls)?;
        let timing = timing_of(&handle, &port);
        let stream = Stream::start(port, settings.buffers, places).map_err(|(starting, e)| {
            let what = match starting {
                false => "gives no buffers: lower camera.buffers or the picture size",
                true if is(&e, Errno::NOSPC) => {
                    "gets no bandwidth: use another USB controller, a smaller size, a lower rate or mjpeg"
                }
                true => "does not start",
            };
            failed(what)(e)
        })?;
        let camera = V4l2Camera {
            device: device.clone(),
            stream: Some(stream),
            format,
            color: format.given(settings.color),
            layout,
            range: range_of(&given),
            bytes: Vec::with_capacity(layout.bytes),
            sequence: Sequence::default(),
            timing,
        };
        log::info!(
            "the camera {} gives {width}×{height} pixels of {format} as {} frames",
            device.display(),
            camera.color
        );
        Ok(camera)
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
            let Some(stream) = &mut self.stream else { return Ok(None) };
            match stream.take(left, &mut self.bytes) {
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

#[cfg(test)]
mod tests;
