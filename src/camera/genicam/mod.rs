//! GigE Vision and USB3 Vision cameras: `kind = "genicam"`.
//!
//! The protocols and the pixel formats are those of the crate `viva-genicam`. Here are the choice of a camera, its settings,
//! and what a part needs to know of a frame: when it was taken, whether it is whole, and how many came before it.

mod links;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde::Deserialize;
use viva_genicam::pfnc::convert::Converter;
use viva_genicam::{Camera as Device, Frame as Block, GenicamError, blocking, connect_u3v};

use links::{Found, Link};

use super::pixels::{self, Layout};
use super::{Camera, Captured, OpenCamera, Timing};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame};
use crate::settings::{self, range};

/// A GigE Vision or USB3 Vision camera: `[camera]` of the configuration with `kind = "genicam"`.
///
/// ```
/// use weakrest::camera::{Feature, GenicamSettings, Source};
///
/// let camera = Source::Genicam(GenicamSettings {
///     camera: Some("24021337".into()),
///     format: Some("Mono8".into()),
///     controls: [("ExposureTime".into(), Feature::Real(250.0))].into(),
///     ..GenicamSettings::default()
/// });
/// # assert!(matches!(camera, Source::Genicam(_)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenicamSettings {
    /// Serial number, or of a network camera its user-defined name or IPv4 address. Default: the only camera.
    pub camera: Option<String>,
    /// Network interface to search, such as `eth1`. Default: all, and the USB ports.
    pub interface: Option<String>,
    /// Pixel format by its name in the camera (PFNC), such as `Mono8` or `BayerRG8`. Default: the camera's present one.
    pub format: Option<String>,
    /// Color of the frames, gray or rgb. Default: rgb. Formats of brightness always give gray.
    pub color: Option<Color>,
    /// On a network: bytes of a packet, headers included: 576 to 16000. Default: the largest that passes the network.
    pub packet_size: Option<u32>,
    /// On a network: pause between two packets, in microseconds, at most 10000. For switches that lose packets. Default: as in the
    /// camera.
    pub packet_delay_us: Option<u32>,
    /// Features by their names in the camera (SFNC): `ExposureTime`, `Gain`, `TriggerMode`, `Width` … Names that end with
    /// `Selector` are set first.
    #[serde(default)]
    pub controls: BTreeMap<String, Feature>,
}

/// Value of a camera's feature.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "is no feature's value; set a number, text, true or false")]
pub enum Feature {
    /// On or off.
    Switch(bool),
    /// A whole number.
    Whole(i64),
    /// A number.
    Real(f64),
    /// A name, such as `Line1`.
    Text(String),
}

impl std::fmt::Display for Feature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Feature::Switch(on) => on.fmt(f),
            Feature::Whole(number) => number.fmt(f),
            Feature::Real(number) => number.fmt(f),
            Feature::Text(text) => text.fmt(f),
        }
    }
}

impl GenicamSettings {
    /// Checks the values, as far as possible without the camera.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        for (key, text) in [
            ("camera.camera", &self.camera),
            ("camera.interface", &self.interface),
            ("camera.format", &self.format),
        ] {
            if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
                return Err(Error::setting(key, "is empty; set a name, or leave it out"));
            }
        }
        range("camera.packet_size", self.packet_size.unwrap_or(1500), 576..=16_000)?;
        range("camera.packet_delay_us", self.packet_delay_us.unwrap_or(0), 0..=10_000)
    }
}

/// Opens a GenICam camera.
#[derive(Debug, Clone)]
pub struct GenicamOpener {
    /// The camera and its settings.
    pub settings: GenicamSettings,
}

impl OpenCamera for GenicamOpener {
    fn open(&mut self) -> Result<Box<dyn Camera>> {
        let found = find(&self.settings)?;
        let name = found.to_string();
        let failed = |e| {
            camera_error(format!(
                "{name}: cannot be controlled; another program may have it, or this user no access"
            ))
            .with_source(e)
        };
        match &found {
            Found::Network(info) => {
                let device = blocking::connect(info).map_err(failed)?;
                Ok(Box::new(GenicamCamera::start(name, device, &self.settings)?))
            }
            Found::Usb(info) => {
                let device = connect_u3v(info).map_err(failed)?;
                Ok(Box::new(GenicamCamera::start(name, device, &self.settings)?))
            }
        }
    }

    fn describe(&self) -> String {
        match &self.settings.camera {
            Some(name) => format!("the camera {name}"),
            None => "the GenICam camera".to_owned(),
        }
    }
}

/// Time for cameras to answer.
const ANSWER: Duration = Duration::from_millis(700);

fn camera_error(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Camera, what)
}

/// Finds the camera that the settings name.
fn find(settings: &GenicamSettings) -> Result<Found> {
    let failed = |e| camera_error("the network cannot be searched for cameras").with_source(e);
    if let Some(address) = settings.camera.as_ref().and_then(|name| name.parse::<Ipv4Addr>().ok()) {
        let found = blocking::discover_ip(address, ANSWER).map_err(failed)?;
        return found.map(Found::Network).ok_or_else(|| {
            camera_error(format!(
                "no camera answers at {address}: check cable, power and that its address fits this machine's network"
            ))
            .with_key("camera.camera")
        });
    }
    let interface = settings.interface.as_deref();
    let mut all = if interface.is_none() { links::on_usb() } else { Vec::new() };
    let wanted = settings.camera.as_deref();
    // The network takes its time to answer.
    if wanted.is_none() || !all.iter().any(|found| found.serial() == wanted) {
        match links::on_network(interface) {
            Ok(found) => all.extend(found),
            // A USB camera needs no network.
            Err(_) if !all.is_empty() => {}
            Err(e) => return Err(failed(e)),
        }
    }
    choose(&all, wanted)
}

/// The cameras on USB ports and on the network, for people. Takes as long as a camera may need to answer.
pub(super) fn list() -> Vec<String> {
    // Without a network there is none.
    let network = links::on_network(None).unwrap_or_default();
    links::on_usb().into_iter().chain(network).map(|found| found.to_string()).collect()
}

/// The camera with a serial number or name, or the only one.
fn choose(all: &[Found], wanted: Option<&str>) -> Result<Found> {
    let list: Vec<String> = all.iter().map(Found::to_string).collect();
    let list = if list.is_empty() { "none answers".to_owned() } else { list.join("; ") };
    let fits = |device: &&Found| {
        wanted.is_none_or(|name| [device.serial(), device.user_name()].contains(&Some(name)))
    };
    let mut found = all.iter().filter(fits);
    let what = match (found.next(), found.next(), wanted) {
        (Some(device), None, _) => return Ok(device.clone()),
        (Some(_), Some(_), None) => format!("there are several cameras, name one: {list}"),
        (Some(_), Some(_), Some(name)) => {
            format!("several cameras are {name:?}, set the serial number or address of one: {list}")
        }
        (None, _, Some(name)) => format!("no camera {name:?} is on the network or a USB port: {list}"),
        (None, _, None) => {
            format!("no camera is on the network or a USB port: {list}; check cable, power and address")
        }
    };
    Err(camera_error(what).with_key("camera.camera"))
}

/// An open camera.
struct GenicamCamera<L: Link> {
    name: String,
    frames: L::Frames,
    device: Device<L>,
    block: Option<Block>,
    ticks: Ticks,
    numbers: Numbers,
    converter: Converter,
    color: Color,
    timing: Timing,
}

impl<L: Link> GenicamCamera<L> {
    /// Sets a camera and starts its frames.
    fn start(name: String, mut device: Device<L>, settings: &GenicamSettings) -> Result<Self> {
        let failed = |what: &str, e: GenicamError| camera_error(format!("{name}: {what}")).with_source(e);
        // A camera that a killed program left running refuses most settings.
        let _ = device.acquisition_stop();
        if device.nodemap().node("AcquisitionMode").is_some()
            && !settings.controls.contains_key("AcquisitionMode")
        {
            device
                .set("AcquisitionMode", "Continuous")
                .map_err(|e| failed("gives no continuous pictures", e))?;
        }
        if let Some(format) = &settings.format {
            device.set("PixelFormat", format).map_err(|e| {
                let has = device.enum_entries("PixelFormat").unwrap_or_default().join(", ");
                failed(&format!("does not take the pixel format {format}; it has {has}"), e)
                    .with_key("camera.format")
            })?;
        }
        set_all(&mut device, &name, &settings.controls)?;
        let frequency = device.get_integer("GevTimestampTickFrequency").ok().filter(|hertz| *hertz > 0);
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok().filter(|d| d.as_secs() < 60);
        let rate = ["ResultingFrameRate", "AcquisitionFrameRate"];
        let rate = rate.iter().find_map(|feature| device.get_float(feature).ok());
        let timing = Timing {
            period: rate.and_then(|rate| seconds(1.0 / rate)),
            exposure: device.get_float("ExposureTime").ok().and_then(|us| seconds(us * 1e-6)),
        };
        let format = device.get("PixelFormat").map_err(|e| failed("does not report its pixel format", e))?;
        let has_color = !format.starts_with("Mono");
        let frames =
            L::open_stream(&mut device, settings).map_err(|e| failed("opens no stream of pictures", e))?;
        device.acquisition_start().map_err(|e| failed("does not start", e))?;
        // Gray frames for an inspector of colors are faults that say so.
        let color = if has_color { settings.color.unwrap_or(Color::Rgb) } else { Color::Gray };
        log::info!("{name}: gives {format} as {color} frames");
        Ok(GenicamCamera {
            name,
            frames,
            device,
            block: None,
            // Newer cameras count nanoseconds.
            ticks: Ticks::new(frequency.map_or(1e9, |hertz| hertz as f64)),
            numbers: Numbers::default(),
            converter: Converter::new(),
            color,
            timing,
        })
    }
}

/// Sets features. One can depend on another, as the exposure time on automatic exposure, so what is refused is tried again
/// after the others.
fn set_all<L: Link>(device: &mut Device<L>, name: &str, wanted: &BTreeMap<String, Feature>) -> Result<()> {
    let mut left: Vec<(&String, &Feature)> = wanted.iter().collect();
    left.sort_by_key(|(feature, _)| !feature.ends_with("Selector"));
    while !left.is_empty() {
        let before = left.len();
        let mut refused = None;
        left.retain(|(feature, value)| match device.set(feature, &value.to_string()) {
            Ok(()) => false,
            Err(e) => {
                refused.get_or_insert((feature.to_string(), e));
                true
            }
        });
        if let (Some((feature, e)), true) = (refused, left.len() == before) {
            let key = settings::path(&["camera", "controls", &feature]);
            let what = format!("{name}: refuses {key}");
            return Err(camera_error(what).with_source(e).with_key(key));
        }
    }
    Ok(())
}

impl<L: Link> Camera for GenicamCamera<L> {
    fn wait(&mut self, timeout: Duration) -> Result<Option<Captured>> {
        match L::next(&mut self.frames, timeout) {
            Ok(Some(block)) => {
                let now = Instant::now();
                let captured = Captured {
                    at: Some(block.ts_dev.filter(|ticks| *ticks > 0).map_or(now, |t| self.ticks.at(t, now))),
                    lost: self.numbers.missing(block.block_id),
                    damaged: !block.is_complete() || ended_early(&block),
                };
                self.block = Some(block);
                Ok(Some(captured))
            }
            Ok(None) => Err(camera_error(format!("{}: its stream has ended", self.name))),
            Err(GenicamError::Timeout(_)) if !self.device.transport().is_lost() => Ok(None),
            Err(_) if self.device.transport().is_lost() => Err(camera_error(format!(
                "{}: is gone, or another program controls it: check cable and power",
                self.name
            ))),
            Err(e) => Err(camera_error(format!("{}: failed", self.name)).with_source(e)),
        }
    }

    fn timing(&self) -> Timing {
        self.timing
    }

    fn read(&mut self, frame: &mut Frame) -> Result<()> {
        let bad = |what: String| Error::new(ErrorKind::Image, format!("the camera's frame {what}"));
        let Some(block) = self.block.as_ref().filter(|block| block.is_complete() && !ended_early(block))
        else {
            return Err(bad("is incomplete".into()));
        };
        let (width, height, stride) = (block.width, block.height, block.row_stride());
        let too_large = u64::from(width) * u64::from(height) > Frame::MAX_PIXELS;
        if too_large {
            return Err(bad(format!("has {width}×{height} pixels, more than a frame can have")));
        }
        let (converter, color) = (&mut self.converter, self.color);
        let unfit = |e| bad(format!("of {width}×{height} pixels cannot be read")).with_source(e);
        let is_gray = block.pixel_format.to_string().starts_with("Mono");
        let from = match is_gray && color == Color::Gray {
            true => converter.gray8(block.pixel_format, width, height, stride, &block.payload),
            false => converter.rgb8(block.pixel_format, width, height, stride, &block.payload),
        };
        let from = from.map_err(unfit)?;
        frame.refill(width, height, color, |to| {
            if is_gray || color == Color::Rgb {
                let pixels = from.get(..to.len()).ok_or_else(|| bad("is cut short".into()))?;
                to.copy_from_slice(pixels);
                return Ok(());
            }
            let (wide, high) = (width as usize, height as usize);
            pixels::gray_from_rgb(from, Layout::of_lines(wide, high, wide * 3), false, to)
        })
    }
}

impl<L: Link> Drop for GenicamCamera<L> {
    fn drop(&mut self) {
        // A camera that is gone cannot be stopped.
        let _ = self.device.acquisition_stop();
    }
}

/// Whether a whole picture has fewer lines than announced. Some cameras announce none at the end.
fn ended_early(block: &Block) -> bool {
    block.delivered_height.is_some_and(|height| (1..block.height).contains(&height))
}

/// Turns a camera's clock into this machine's. A frame arrives later than it was taken, never earlier: the shortest delay
/// among the latest frames is the difference of the clocks and the transfer of a frame.
struct Ticks {
    hertz: f64,
    begin: Instant,
    /// Of the frame before.
    last: u64,
    /// Arrival minus capture of the latest frames, in seconds.
    delays: VecDeque<f64>,
}

impl Ticks {
    /// Frames whose shortest delay counts. Clocks that drift by 50 millionths differ by 0.2 ms after 128 frames at 30 a
    /// second.
    const LATEST: usize = 128;
    /// A larger difference means that the camera's clock was set, in seconds.
    const JUMP: f64 = 1.0;

    fn new(hertz: f64) -> Ticks {
        Ticks { hertz, begin: Instant::now(), last: 0, delays: VecDeque::with_capacity(Self::LATEST) }
    }

    /// Time of capture of a frame that has arrived.
    fn at(&mut self, ticks: u64, arrived: Instant) -> Instant {
        let taken = ticks as f64 / self.hertz;
        let delay = arrived.saturating_duration_since(self.begin).as_secs_f64() - taken;
        let least = |delays: &VecDeque<f64>| delays.iter().copied().fold(f64::INFINITY, f64::min);
        // A clock that was set back would make all later frames seem older than they are.
        if ticks < self.last || (delay - least(&self.delays)).abs() > Self::JUMP {
            self.delays.clear();
        }
        self.last = ticks;
        if self.delays.len() == Self::LATEST {
            self.delays.pop_front();
        }
        self.delays.push_back(delay);
        let late = Duration::try_from_secs_f64(delay - least(&self.delays)).unwrap_or_default();
        arrived.checked_sub(late).unwrap_or(arrived)
    }
}

/// Counts gaps in the numbers of a camera's frames. Older cameras count to 65535 and go on with 1.
#[derive(Debug, Default)]
struct Numbers {
    last: Option<u64>,
}

impl Numbers {
    /// Number of frames missing before this number. A number out of order counts as one.
    fn missing(&mut self, number: u64) -> u64 {
        const LAST: u64 = 65_535;
        let Some(last) = self.last.replace(number) else { return 0 };
        match number.checked_sub(last) {
            Some(0) => 1,
            Some(ahead) => ahead - 1,
            None if last <= LAST && last - number > LAST / 2 => LAST - last + number.saturating_sub(1),
            None => 1,
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod usb_tests;
