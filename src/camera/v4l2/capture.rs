//! The kernel's interface for capturing, with one memory plane per frame or several.
//!
//! The crate `v4l` has no formats and streams of several planes, and panics on answers of a driver that it does not know.
//! Its device, controls and bindings serve here.

use std::ffi::c_void;
use std::io;
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use v4l::buffer::{Flags, Metadata, Type};
use v4l::device::{Device, Handle};
use v4l::v4l_sys::{
    v4l2_buffer, v4l2_fmtdesc, v4l2_format, v4l2_fract, v4l2_plane, v4l2_requestbuffers, v4l2_streamparm,
};
use v4l::v4l2::{self, vidioc};
use v4l::{FourCC, Fraction};

/// `V4L2_MEMORY_MMAP`.
const MEMORY_MMAP: u32 = 1;
/// `VIDEO_MAX_PLANES`.
const MOST_PLANES: usize = 8;
/// No camera has more formats. A driver that never ends its list must not hold up the line.
const MOST_FORMATS: u32 = 256;
/// Flag of `poll`: a frame is ready.
const POLLIN: i16 = 1;

/// A format as the driver gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The kernel's code.
    pub code: FourCC,
    /// `enum v4l2_field`.
    pub field: u32,
    /// `enum v4l2_colorspace`.
    pub colorspace: u32,
    /// `enum v4l2_quantization`.
    pub quantization: u32,
    /// Bytes from line to line of each memory plane; 0 if the driver leaves it out.
    pub strides: Vec<u32>,
}

/// A capturing device.
pub struct Port {
    handle: Arc<Handle>,
    kind: Type,
}

impl Port {
    /// `planes`: whether frames come in memory planes, as the device's capabilities say.
    pub fn new(device: &Device, planes: bool) -> Port {
        Port {
            handle: device.handle(),
            kind: if planes { Type::VideoCaptureMplane } else { Type::VideoCapture },
        }
    }

    fn has_planes(&self) -> bool {
        matches!(self.kind, Type::VideoCaptureMplane)
    }

    /// Calls the driver.
    ///
    /// # Safety
    /// `T` is the structure of `request`, and its pointers are valid.
    unsafe fn ask<T>(&self, request: vidioc::_IOC_TYPE, value: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: the caller's promise; the kernel writes no more than the size in `request`.
            match unsafe { v4l2::ioctl(self.handle.fd(), request, ptr::from_mut(value).cast::<c_void>()) } {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// The codes of all formats.
    pub fn formats(&self) -> io::Result<Vec<FourCC>> {
        let mut codes = Vec::new();
        for index in 0..MOST_FORMATS {
            // SAFETY: all bits zero is valid for this structure of numbers.
            let mut format: v4l2_fmtdesc = unsafe { mem::zeroed() };
            (format.index, format.type_) = (index, self.kind as u32);
            // SAFETY: it is the structure of this request, without pointers.
            match unsafe { self.ask(vidioc::VIDIOC_ENUM_FMT, &mut format) } {
                Ok(()) => codes.push(FourCC::from(format.pixelformat)),
                Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(codes)
    }

    /// The present format.
    pub fn format(&self) -> io::Result<Given> {
        let mut format = self.any_format();
        // SAFETY: it is the structure of this request; the formats of both kinds have no pointers.
        unsafe { self.ask(vidioc::VIDIOC_G_FMT, &mut format) }?;
        Ok(self.given(&format))
    }

    /// Asks for a format. The driver may give another one.
    pub fn set_format(&self, width: u32, height: u32, code: FourCC) -> io::Result<Given> {
        let mut format = self.any_format();
        if self.has_planes() {
            let mut asked = self.planar(&format);
            (asked.width, asked.height, asked.pixelformat) = (width, height, code.into());
            format.fmt.pix_mp = asked;
        } else {
            // SAFETY: all bits zero is valid for this structure of numbers.
            let mut asked: v4l::v4l_sys::v4l2_pix_format = unsafe { mem::zeroed() };
            (asked.width, asked.height, asked.pixelformat) = (width, height, code.into());
            format.fmt.pix = asked;
        }
        // SAFETY: as in `format`.
        unsafe { self.ask(vidioc::VIDIOC_S_FMT, &mut format) }?;
        Ok(self.given(&format))
    }

    fn any_format(&self) -> v4l2_format {
        // SAFETY: all bits zero is valid for this structure of numbers; its pointers belong to other kinds.
        let mut format: v4l2_format = unsafe { mem::zeroed() };
        format.type_ = self.kind as u32;
        format
    }

    fn planar(&self, format: &v4l2_format) -> v4l::v4l_sys::v4l2_pix_format_mplane {
        // SAFETY: `format` has this kind, or is all zero; both are numbers only.
        unsafe { format.fmt.pix_mp }
    }

    fn given(&self, format: &v4l2_format) -> Given {
        if self.has_planes() {
            let given = self.planar(format);
            let planes = usize::from(given.num_planes).min(MOST_PLANES);
            // Copied, because the structure is packed.
            let all = given.plane_fmt;
            return Given {
                width: given.width,
                height: given.height,
                code: FourCC::from(given.pixelformat),
                field: given.field,
                colorspace: given.colorspace,
                quantization: u32::from(given.quantization),
                strides: all[..planes].iter().map(|plane| plane.bytesperline).collect(),
            };
        }
        // SAFETY: `format` has this kind.
        let given = unsafe { format.fmt.pix };
        Given {
            width: given.width,
            height: given.height,
            code: FourCC::from(given.pixelformat),
            field: given.field,
            colorspace: given.colorspace,
            quantization: given.quantization,
            strides: vec![given.bytesperline],
        }
    }

    /// The time between two frames.
    pub fn interval(&self) -> io::Result<Fraction> {
        let mut parameters = self.any_parameters();
        // SAFETY: it is the structure of this request, without pointers.
        unsafe { self.ask(vidioc::VIDIOC_G_PARM, &mut parameters) }?;
        // SAFETY: the kind is one of capturing.
        Ok(Fraction::from(unsafe { parameters.parm.capture.timeperframe }))
    }

    /// Asks for a time between two frames. The driver may give another one.
    pub fn set_interval(&self, interval: Fraction) -> io::Result<Fraction> {
        let mut parameters = self.any_parameters();
        parameters.parm.capture.timeperframe =
            v4l2_fract { numerator: interval.numerator, denominator: interval.denominator };
        // SAFETY: as in `interval`.
        unsafe { self.ask(vidioc::VIDIOC_S_PARM, &mut parameters) }?;
        // SAFETY: the kind is one of capturing.
        Ok(Fraction::from(unsafe { parameters.parm.capture.timeperframe }))
    }

    fn any_parameters(&self) -> v4l2_streamparm {
        // SAFETY: all bits zero is valid for this structure of numbers.
        let mut parameters: v4l2_streamparm = unsafe { mem::zeroed() };
        parameters.type_ = self.kind as u32;
        parameters
    }
}

/// Memory that is shared with the driver.
struct Mapped {
    start: *mut c_void,
    length: usize,
}

// SAFETY: the mapping belongs to the process, and `Stream` alone reads it.
unsafe impl Send for Mapped {}

impl Mapped {
    /// # Safety
    /// The driver must not write meanwhile: the buffer is not queued.
    unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has this length and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.cast::<u8>(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing refers to it any more. Fails only for other values.
        let _ = unsafe { v4l2::munmap(self.start, self.length) };
    }
}

/// Where a memory plane goes among the bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub offset: usize,
    /// Least bytes of a whole plane: the last line may end early.
    pub least: usize,
}

/// A device that captures, until it is dropped.
pub struct Stream {
    port: Port,
    buffers: Vec<Vec<Mapped>>,
    places: Vec<Place>,
}

impl Stream {
    /// Maps buffers, gives all to the driver and starts it. `places`: one for each memory plane.
    ///
    /// # Errors
    /// Of the driver, with whether it refused the buffers (`false`) or to start (`true`).
    pub fn start(port: Port, count: u32, places: Vec<Place>) -> Result<Stream, (bool, io::Error)> {
        let mut stream = Stream { port, buffers: Vec::new(), places };
        let count = stream.request(count).map_err(|e| (false, e))?;
        for index in 0..count {
            stream.map(index).map_err(|e| (false, e))?;
        }
        for index in 0..count {
            stream.queue(index).map_err(|e| (true, e))?;
        }
        let mut kind = stream.port.kind as libc::c_int;
        // SAFETY: a number of this type is what this request takes.
        unsafe { stream.port.ask(vidioc::VIDIOC_STREAMON, &mut kind) }.map_err(|e| (true, e))?;
        Ok(stream)
    }

    /// Asks for buffers; 0 returns all. Gives their number.
    fn request(&self, count: u32) -> io::Result<u32> {
        // SAFETY: all bits zero is valid for this structure of numbers.
        let mut request: v4l2_requestbuffers = unsafe { mem::zeroed() };
        (request.count, request.type_, request.memory) = (count, self.port.kind as u32, MEMORY_MMAP);
        // SAFETY: it is the structure of this request, without pointers.
        unsafe { self.port.ask(vidioc::VIDIOC_REQBUFS, &mut request) }?;
        if count > 0 && request.count == 0 {
            return Err(Errno::NOMEM.into());
        }
        Ok(request.count)
    }

    /// Calls the driver with a buffer and its planes. Returns the buffer, without its pointer to the planes.
    fn with_buffer(
        &self,
        request: vidioc::_IOC_TYPE,
        index: u32,
        planes: &mut [v4l2_plane; MOST_PLANES],
    ) -> io::Result<v4l2_buffer> {
        // SAFETY: all bits zero is valid for this structure of numbers and a null pointer.
        let mut buffer: v4l2_buffer = unsafe { mem::zeroed() };
        (buffer.index, buffer.type_, buffer.memory) = (index, self.port.kind as u32, MEMORY_MMAP);
        if self.port.has_planes() {
            buffer.m.planes = planes.as_mut_ptr();
            buffer.length = MOST_PLANES as u32;
        }
        // SAFETY: it is the structure of all requests of this module with buffers. It points to `planes`, of this length.
        unsafe { self.port.ask(request, &mut buffer) }?;
        Ok(buffer)
    }

    fn map(&mut self, index: u32) -> io::Result<()> {
        let mut planes = no_planes();
        let buffer = self.with_buffer(vidioc::VIDIOC_QUERYBUF, index, &mut planes)?;
        let found: Vec<(u32, u32)> = if self.port.has_planes() {
            // SAFETY: buffers of this memory have offsets.
            planes.iter().take(self.places.len()).map(|p| (unsafe { p.m.mem_offset }, p.length)).collect()
        } else {
            // SAFETY: as above.
            vec![(unsafe { buffer.m.offset }, buffer.length)]
        };
        let mut mapped = Vec::with_capacity(found.len());
        for (offset, length) in found {
            let length = usize::try_from(length).map_err(|_| io::Error::from(Errno::OVERFLOW))?;
            // SAFETY: a new mapping at an address of the kernel's choice.
            let start = unsafe {
                v4l2::mmap(
                    ptr::null_mut(),
                    length,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED,
                    self.port.handle.fd(),
                    libc::off_t::from(offset),
                )
            }?;
            mapped.push(Mapped { start, length });
        }
        self.buffers.push(mapped);
        Ok(())
    }

    fn queue(&self, index: u32) -> io::Result<()> {
        self.with_buffer(vidioc::VIDIOC_QBUF, index, &mut no_planes()).map(|_| ())
    }

    /// Takes the next frame, if one comes within `patience`, and copies it. In order, that is the fastest way to read the
    /// uncached buffers of many boards. A frame that the driver marks as damaged has no bytes.
    pub fn take(&mut self, patience: Duration, bytes: &mut Vec<u8>) -> io::Result<Option<Metadata>> {
        // Rounded up: otherwise the last part of a millisecond would be a busy loop.
        let millis = i32::try_from(patience.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        if self.port.handle.poll(POLLIN, millis)? == 0 {
            return Ok(None);
        }
        let mut planes = no_planes();
        let buffer = self.with_buffer(vidioc::VIDIOC_DQBUF, 0, &mut planes)?;
        let mut meta = Metadata {
            bytesused: buffer.bytesused,
            flags: Flags::from(buffer.flags),
            field: buffer.field,
            timestamp: buffer.timestamp.into(),
            sequence: buffer.sequence,
        };
        bytes.clear();
        let mapped = usize::try_from(buffer.index).ok().and_then(|index| self.buffers.get(index));
        let Some(mapped) = mapped else {
            return Err(io::Error::other("the driver gives a buffer that it does not have"));
        };
        if !meta.flags.contains(Flags::ERROR) {
            let used: Vec<(usize, usize)> = if self.port.has_planes() {
                meta.bytesused = planes.iter().map(|plane| plane.bytesused).fold(0, u32::saturating_add);
                planes.iter().map(|plane| (plane.data_offset as usize, plane.bytesused as usize)).collect()
            } else {
                vec![(0, buffer.bytesused as usize)]
            };
            // SAFETY: the buffer is not queued.
            let parts = mapped.iter().zip(used).map(|(mapped, (from, to))| {
                let all = unsafe { mapped.bytes() };
                all.get(from..to.min(all.len())).unwrap_or_default()
            });
            join(parts, &self.places, bytes);
        }
        self.queue(buffer.index)?;
        Ok(Some(meta))
    }
}

/// Puts the memory planes of a frame to their places. Stops at one that is cut short, so that no old bytes stand for it.
fn join<'a>(parts: impl Iterator<Item = &'a [u8]>, places: &[Place], bytes: &mut Vec<u8>) {
    for (part, place) in parts.zip(places) {
        if bytes.len() < place.offset {
            bytes.resize(place.offset, 0);
        }
        bytes.truncate(place.offset);
        bytes.extend_from_slice(part);
        if part.len() < place.least {
            return;
        }
    }
}

fn no_planes() -> [v4l2_plane; MOST_PLANES] {
    // SAFETY: all bits zero is valid for this structure of numbers.
    unsafe { mem::zeroed() }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut kind = self.port.kind as libc::c_int;
        // SAFETY: a number of this type is what this request takes.
        if let Err(e) = unsafe { self.port.ask(vidioc::VIDIOC_STREAMOFF, &mut kind) }
            && Errno::from_io_error(&e) != Some(Errno::NODEV)
        {
            log::error!("a camera did not stop: {e}");
        }
        self.buffers.clear();
        // A driver without this refuses it; closing the device returns the buffers, too.
        let _ = self.request(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_go_to_their_places_and_none_follows_one_that_is_cut_short() {
        let places = [Place { offset: 0, least: 7 }, Place { offset: 8, least: 3 }];
        let joined = |parts: [&[u8]; 2]| {
            let mut bytes = vec![9; 30];
            bytes.clear();
            join(parts.into_iter(), &places, &mut bytes);
            bytes
        };
        assert_eq!(joined([&[1; 8], &[2; 4]]), [[1; 8].as_slice(), &[2; 4]].concat());
        // The last line without its padding, and a driver that counts more than there is.
        assert_eq!(joined([&[1; 7], &[2; 3]]), [&[1; 7][..], &[0], &[2; 3]].concat());
        assert_eq!(joined([&[1; 12], &[2; 3]]), [&[1; 8][..], &[2; 3]].concat());
        assert_eq!(joined([&[1; 6], &[2; 4]]), [1; 6]);
    }
}
