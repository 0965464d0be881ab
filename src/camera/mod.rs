//! Where frames come from. Each kind of camera is behind the same two small traits, and none knows of parts.

mod folder;
mod health;
mod pixels;
mod simulated;
mod v4l2;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use folder::FolderOpener;
pub use health::HealthSettings;
pub(crate) use health::{Health, Unhealthy};
pub use simulated::{Scene, SimulatedOpener};
use v4l2::V4l2Opener;
pub use v4l2::{ControlValue, PixelFormat, V4l2Settings};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame};
use crate::settings::range;

/// When a frame was taken, and what the camera says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    /// When the frame was taken, by the driver's stamp on the monotonic clock. `None` when the driver does not tell:
    /// such a frame belongs to no trigger.
    pub at: Option<Instant>,
    /// Frames that the camera took and that never arrived, since the one before.
    pub lost: u64,
    /// Whether the driver marks the frame as damaged. It must not be read.
    pub damaged: bool,
}

impl Captured {
    /// A whole frame that was taken at `at`.
    pub fn at(at: Instant) -> Self {
        Captured { at: Some(at), lost: 0, damaged: false }
    }
}

/// What a camera tells of its timing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Time between two frames.
    pub period: Option<Duration>,
    /// Time of exposure of one frame.
    pub exposure: Option<Duration>,
}

/// An open camera that is taking frames. Dropping it closes it.
pub trait Camera: Send {
    /// Waits for the next frame, at most `timeout`. `None` when none came.
    ///
    /// # Errors
    /// [`ErrorKind::Camera`] when the camera is gone; it has to be opened again.
    fn wait(&mut self, timeout: Duration) -> Result<Option<Captured>>;

    /// What it tells of its timing.
    fn timing(&self) -> Timing {
        Timing::default()
    }

    /// Decodes the frame that [`Camera::wait`] told of.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] when it is damaged; [`ErrorKind::Camera`] when the camera is gone.
    fn read(&mut self, frame: &mut Frame) -> Result<()>;
}

/// Opens a camera, again and again if need be.
pub trait OpenCamera: Send {
    /// Opens it.
    ///
    /// # Errors
    /// [`ErrorKind::Camera`] when it is not there or refuses its settings.
    fn open(&mut self) -> Result<Box<dyn Camera>>;

    /// What it is, for people.
    fn describe(&self) -> String;
}

/// How frames are cut and turned before anything looks at them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Framing {
    /// The region of interest in the camera's pixels: left, top, width, height. The whole frame without it.
    pub region: Option<[u32; 4]>,
    /// Clockwise rotation in degrees after cutting: 0, 90, 180 or 270.
    #[serde(default)]
    pub rotation: u32,
}

impl Framing {
    /// Checks that the numbers make sense.
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

    /// Cuts and turns `from` into `to`.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] when the region reaches beyond the frame.
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

    /// Whether frames stay as they are.
    pub(crate) fn is_identity(&self) -> bool {
        self.region.is_none() && self.rotation == 0
    }
}

/// What kind of camera: `[camera]` of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Pictures of a folder in the order of their names: for trials and tests.
    Folder(FolderSettings),
    /// A camera of Linux.
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
    /// Whether to begin again after the last picture; otherwise the camera then gives nothing more.
    #[serde(default = "yes")]
    pub repeat: bool,
}

fn yes() -> bool {
    true
}

impl Source {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        match self {
            Source::Folder(settings) => range("camera.rate", settings.rate, 0.001..=1000.0),
            Source::V4l2(settings) => settings.validate(),
        }
    }

    /// The same camera, giving frames of this color unless its settings ask for one.
    #[must_use]
    pub(crate) fn of_color(mut self, color: Color) -> Self {
        if let Source::V4l2(settings) = &mut self {
            settings.color.get_or_insert(color);
        }
        self
    }

    /// What opens this camera.
    pub fn opener(&self, clock: &Clock) -> Box<dyn OpenCamera> {
        match self {
            Source::Folder(settings) => {
                Box::new(FolderOpener { settings: settings.clone(), clock: clock.clone() })
            }
            Source::V4l2(settings) => Box::new(V4l2Opener { settings: settings.clone() }),
        }
    }
}
