//! Cameras. Each kind implements the same two small traits, and none knows about parts.

mod command;
mod folder;
mod formats;
mod genicam;
mod health;
mod pixels;
mod simulated;
mod v4l2;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use command::CommandOpener;
pub use command::CommandSettings;
use folder::FolderOpener;
pub use formats::{Bayer, PixelFormat, Samples};
use genicam::GenicamOpener;
pub use genicam::{Feature, GenicamSettings};
pub use health::HealthSettings;
pub(crate) use health::{Health, Unhealthy};
pub use simulated::{Scene, SimulatedOpener};
use v4l2::V4l2Opener;
pub use v4l2::{ControlValue, V4l2Settings};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame};
use crate::settings::range;

/// The cameras of this machine and on its networks, for people: kind and description. Takes most of a second.
pub(crate) fn list() -> impl Iterator<Item = (&'static str, String)> {
    let named = |kind| move |description| (kind, description);
    v4l2::list().into_iter().map(named("v4l2")).chain(genicam::list().into_iter().map(named("genicam")))
}

/// Time and state of a captured frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    /// Time of capture: the driver's stamp on the monotonic clock. `None` if the driver gives none. Such a
    /// frame belongs to no trigger.
    pub at: Option<Instant>,
    /// Number of frames lost since the previous frame.
    pub lost: u64,
    /// Whether the driver marks the frame as damaged. Do not read such a frame.
    pub damaged: bool,
}

impl Captured {
    /// An undamaged frame, captured at `at`.
    pub fn at(at: Instant) -> Self {
        Captured { at: Some(at), lost: 0, damaged: false }
    }
}

/// A camera's timing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Time between two frames.
    pub period: Option<Duration>,
    /// Exposure time of one frame.
    pub exposure: Option<Duration>,
}

/// An open camera that captures frames. Drop it to close it.
pub trait Camera: Send {
    /// Waits for the next frame, at most `timeout`. `None`: no frame came.
    ///
    /// # Errors
    /// [`ErrorKind::Camera`] if the camera is gone. Open it again.
    fn wait(&mut self, timeout: Duration) -> Result<Option<Captured>>;

    /// The camera's timing, as far as it is known.
    fn timing(&self) -> Timing {
        Timing::default()
    }

    /// Decodes the frame of the last [`Camera::wait`].
    ///
    /// # Errors
    /// [`ErrorKind::Image`] if the frame is damaged, [`ErrorKind::Camera`] if the camera is gone.
    fn read(&mut self, frame: &mut Frame) -> Result<()>;
}

/// Opens a camera. The pipeline calls it again whenever the camera was lost.
pub trait OpenCamera: Send {
    /// Opens the camera.
    ///
    /// # Errors
    /// [`ErrorKind::Camera`] if the camera is missing or refuses its settings.
    fn open(&mut self) -> Result<Box<dyn Camera>>;

    /// Name of the camera in messages.
    fn describe(&self) -> String;
}

/// Cropping and rotation of each frame, before anything else: `[framing]` of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Framing {
    /// The region of interest in the camera's pixels: left, top, width, height. Default: the whole frame.
    pub region: Option<[u32; 4]>,
    /// Clockwise rotation in degrees, after cropping: 0, 90, 180 or 270.
    #[serde(default)]
    pub rotation: u32,
}

impl Framing {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        if !matches!(self.rotation, 0 | 90 | 180 | 270) {
            let what = format!("{} is no quarter turn; set 0, 90, 180 or 270", self.rotation);
            return Err(Error::setting("framing.rotation", what));
        }
        if self.region.is_some_and(|[_, _, width, height]| width == 0 || height == 0) {
            let what = "has no area; set width and height to 1 pixel or more";
            return Err(Error::setting("framing.region", what));
        }
        Ok(())
    }

    /// Crops and rotates `from` into `to`.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] if the region exceeds the frame.
    pub fn apply(&self, from: &Frame, to: &mut Frame) -> Result<()> {
        let [left, top, width, height] = self.region.unwrap_or([0, 0, from.width(), from.height()]);
        let inside =
            |start: u32, length: u32, all: u32| start.checked_add(length).is_some_and(|end| end <= all);
        if !inside(left, width, from.width()) || !inside(top, height, from.height()) {
            return Err(Error::new(
                ErrorKind::Image,
                format!(
                    "framing.region {left}, {top}, {width}, {height} reaches beyond the frame of {}×{} pixels",
                    from.width(),
                    from.height()
                ),
            ));
        }
        let (out_width, out_height) =
            if self.rotation.is_multiple_of(180) { (width, height) } else { (height, width) };
        let channels = from.color().channels();
        let line = from.width() as usize * channels;
        let (w, h) = (width as usize, height as usize);
        let corner = top as usize * line + left as usize * channels;
        to.refill(out_width, out_height, from.color(), |pixels| {
            if self.rotation == 0 {
                for (target, y) in pixels.chunks_exact_mut(w * channels).zip(0..h) {
                    target.copy_from_slice(&from.pixels()[corner + y * line..][..w * channels]);
                }
                return Ok(());
            }
            let columns = out_width as usize;
            for (i, target) in pixels.chunks_exact_mut(channels).enumerate() {
                let (x, y) = (i % columns, i / columns);
                let (source_x, source_y) = match self.rotation {
                    90 => (y, h - 1 - x),
                    180 => (w - 1 - x, h - 1 - y),
                    _ => (w - 1 - y, x),
                };
                target.copy_from_slice(
                    &from.pixels()[corner + source_y * line + source_x * channels..][..channels],
                );
            }
            Ok(())
        })
    }

    /// Whether frames stay unchanged.
    pub(crate) fn is_identity(&self) -> bool {
        self.region.is_none() && self.rotation == 0
    }
}

/// The camera and its kind: `[camera]` of the configuration.
///
/// ```no_run
/// use weakrest::camera::{ControlValue, PixelFormat, Source, V4l2Settings};
/// use weakrest::clock::Clock;
///
/// let camera = Source::V4l2(V4l2Settings {
///     device: "/dev/video0".into(),
///     format: Some(PixelFormat::Grey),
///     width: Some(1280),
///     height: Some(1024),
///     rate: Some(30.0),
///     color: None,
///     buffers: 4,
///     controls: [("exposure_time_absolute".into(), ControlValue::Number(50))].into(),
/// });
/// let opened = camera.opener(&Clock::system()).open()?;
/// # Ok::<(), weakrest::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A program that writes raw frames.
    Command(CommandSettings),
    /// Pictures of a folder, in the order of their names. For trials and tests.
    Folder(FolderSettings),
    /// A GigE Vision camera.
    Genicam(GenicamSettings),
    /// A Video4Linux camera.
    V4l2(V4l2Settings),
}

/// A folder of pictures: `[camera]` of the configuration with `kind = "folder"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSettings {
    /// The folder.
    pub path: PathBuf,
    /// Frames per second.
    pub rate: f64,
    /// Whether to start again after the last picture. Otherwise no frames follow.
    #[serde(default = "yes")]
    pub repeat: bool,
}

fn yes() -> bool {
    true
}

/// Checks a camera's frames per second.
fn check_rate(rate: f64) -> Result<()> {
    // The longest period that a clock can add to a moment is far beyond this.
    range("camera.rate", rate, 0.001..=1000.0)
}

impl Source {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        match self {
            Source::Command(settings) => settings.validate(),
            Source::Folder(settings) => range("camera.rate", settings.rate, 0.001..=1000.0),
            Source::Genicam(settings) => settings.validate(),
            Source::V4l2(settings) => settings.validate(),
        }
    }

    /// Time between two frames, if the settings tell it.
    pub(crate) fn period(&self) -> Option<Duration> {
        let rate = match self {
            Source::Command(settings) => settings.rate,
            Source::Folder(settings) => Some(settings.rate),
            Source::Genicam(_) => None,
            Source::V4l2(settings) => settings.rate,
        };
        rate.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok())
    }

    /// The same camera with a default color. A color in its settings wins.
    #[must_use]
    pub(crate) fn of_color(mut self, color: Color) -> Self {
        match &mut self {
            Source::Command(CommandSettings { color: own, .. })
            | Source::Genicam(GenicamSettings { color: own, .. })
            | Source::V4l2(V4l2Settings { color: own, .. }) => {
                own.get_or_insert(color);
            }
            Source::Folder(_) => {}
        }
        self
    }

    /// Returns the opener of this camera.
    pub fn opener(&self, clock: &Clock) -> Box<dyn OpenCamera> {
        match self {
            Source::Command(settings) => Box::new(CommandOpener { settings: settings.clone() }),
            Source::Folder(settings) => {
                Box::new(FolderOpener { settings: settings.clone(), clock: clock.clone() })
            }
            Source::Genicam(settings) => Box::new(GenicamOpener { settings: settings.clone() }),
            Source::V4l2(settings) => Box::new(V4l2Opener { settings: settings.clone() }),
        }
    }
}
