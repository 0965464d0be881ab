//! What differs between the ways in which a camera is connected: how it is found and opened, and how its frames come.

use std::time::Duration;

use viva_genicam::genapi::RegisterIo;
use viva_genicam::gige::{DeviceInfo, DiscoveryOptions};
use viva_genicam::u3v::{self, U3vDeviceInfo, UsbTransfer};
use viva_genicam::{
    Camera as Device, ControlState, Frame as Block, FrameStream, GenicamError, GigeRegisterIo, StreamOptions,
    U3vFrameStream, U3vRegisterIo, U3vStreamOptions, blocking,
};

use super::{ANSWER, GenicamSettings};

/// A way in which a camera is connected.
pub(super) trait Link: RegisterIo + Sized + Send + 'static {
    /// Its stream of frames.
    type Frames: Send;

    /// Opens the stream. Incomplete frames come, too.
    fn open_stream(
        device: &mut Device<Self>,
        settings: &GenicamSettings,
    ) -> Result<Self::Frames, GenicamError>;

    /// Waits for a frame. `None` if the stream has ended.
    fn next(frames: &mut Self::Frames, timeout: Duration) -> Result<Option<Block>, GenicamError>;

    /// Whether the camera is gone, or another program controls it.
    fn is_lost(&self) -> bool;
}

impl Link for GigeRegisterIo {
    type Frames = FrameStream;

    fn open_stream(
        device: &mut Device<Self>,
        settings: &GenicamSettings,
    ) -> Result<FrameStream, GenicamError> {
        let mut options = StreamOptions::new();
        options = match settings.packet_size {
            Some(size) => options.packet_size(size),
            None => options.auto_packet_size(),
        };
        if let Some(delay) = settings.packet_delay_us {
            options = options.packet_delay(Duration::from_micros(delay.into()));
        }
        let mut frames = device.open_stream(options)?;
        frames.set_deliver_incomplete(true);
        Ok(frames)
    }

    fn next(frames: &mut FrameStream, timeout: Duration) -> Result<Option<Block>, GenicamError> {
        frames.next_frame_blocking(timeout)
    }

    fn is_lost(&self) -> bool {
        matches!(self.control_state(), ControlState::Lost | ControlState::Released)
    }
}

impl<T: UsbTransfer + 'static> Link for U3vRegisterIo<T> {
    type Frames = U3vFrameStream;

    fn open_stream(device: &mut Device<Self>, _: &GenicamSettings) -> Result<U3vFrameStream, GenicamError> {
        let mut frames = device.open_stream(U3vStreamOptions::default())?;
        frames.set_deliver_incomplete(true);
        Ok(frames)
    }

    fn next(frames: &mut U3vFrameStream, timeout: Duration) -> Result<Option<Block>, GenicamError> {
        frames.next_frame_blocking(timeout)
    }

    fn is_lost(&self) -> bool {
        U3vRegisterIo::is_lost(self)
    }
}

/// A camera that was found.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// On the network.
    Network(DeviceInfo),
    /// On a USB port.
    Usb(U3vDeviceInfo),
}

impl Found {
    pub(super) fn serial(&self) -> Option<&str> {
        match self {
            Found::Network(device) => device.serial.as_deref(),
            Found::Usb(device) => device.serial.as_deref(),
        }
    }

    /// The name that a person gave it. It is known of network cameras only.
    pub(super) fn user_name(&self) -> Option<&str> {
        match self {
            Found::Network(device) => device.user_name.as_deref().filter(|name| !name.is_empty()),
            Found::Usb(_) => None,
        }
    }
}

/// For people.
impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let model = match self {
            Found::Network(device) => &device.model,
            Found::Usb(device) => &device.model,
        };
        f.write_str(model.as_deref().unwrap_or("camera"))?;
        if let Some(serial) = self.serial() {
            write!(f, ", serial number {serial}")?;
        }
        if let Some(name) = self.user_name() {
            write!(f, ", named {name:?}")?;
        }
        match self {
            Found::Network(device) => write!(f, ", at {}", device.ip),
            Found::Usb(device) => match device.speed.filter(|speed| speed.is_below_superspeed()) {
                Some(speed) => write!(f, ", on USB at {speed} only: use a USB 3 port and cable"),
                None => f.write_str(", on USB"),
            },
        }
    }
}

/// The cameras on USB ports.
pub(super) fn on_usb() -> Vec<Found> {
    match u3v::discover() {
        Ok(devices) => devices.into_iter().map(Found::Usb).collect(),
        Err(e) => {
            log::debug!("USB cannot be searched for cameras: {e}");
            Vec::new()
        }
    }
}

/// The cameras that answer on a network interface, or on all.
pub(super) fn on_network(interface: Option<&str>) -> Result<Vec<Found>, GenicamError> {
    let mut options = DiscoveryOptions::new().include_loopback(true);
    if let Some(interface) = interface {
        options = options.interface(interface);
    }
    let mut all = blocking::discover_with(ANSWER, &options)?;
    // A camera can answer on several interfaces.
    all.sort_by_key(|device| (device.ip, device.mac));
    all.dedup_by_key(|device| device.mac);
    Ok(all.into_iter().map(Found::Network).collect())
}
