//! Geometry: from pixels to model input, and from grid positions back to pixels.
//!
//! A frame is scaled to the configured longest side, with its aspect ratio, or keeps its size. It is placed
//! into the top left corner of a canvas; the canvas sides are multiples of the network's step. The rest of
//! the canvas repeats the frame's last column and row. Grid cells outside of the frame are *padding*: they
//! are not in bank, map or score.

use std::ops::Range;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use ndarray::ArrayViewMut4;

use super::polygon::{Point, Polygon, inside};
use super::{Color, Frame};
use crate::error::{Error, ErrorKind, Result};

/// How frames become model input.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    /// Longest side of a frame after scaling, in pixels. For native frames, a typical longest side.
    pub longest_side: u32,
    /// Frames keep their own size.
    pub native: bool,
    /// The sides of the network's input are multiples of this.
    pub multiple: u32,
    /// Pixels per grid cell.
    pub stride: u32,
    /// Mean of each channel, for pixel values in 0..1, red first.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, for pixel values in 0..1, red first.
    pub std: [f32; 3],
    /// Areas that the network does not see: they get the mean color. Corners are shares of the frame's width and height,
    /// 0 to 1.
    pub ignore: Vec<Polygon>,
}

/// Where a frame of some size lies on the model's canvas and grid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placement {
    /// The frame's own size in pixels.
    pub frame: (u32, u32),
    /// Width and height of the scaled frame on the canvas, in pixels.
    pub content: (u32, u32),
    /// Width and height of the canvas, in pixels.
    pub canvas: (u32, u32),
    /// Rows and columns of grid cells with a part of the frame.
    pub grid: (usize, usize),
    /// Pixels per grid cell.
    pub stride: u32,
}

impl Placement {
    /// Sizes of the backbone's input, `[1, 3, canvas height, canvas width]`.
    pub fn input(&self) -> [usize; 4] {
        [1, 3, self.canvas.1 as usize, self.canvas.0 as usize]
    }

    /// The same frame on a finer grid with cells of `stride` pixels. `stride` divides this grid's stride.
    pub fn refined(self, stride: u32) -> Placement {
        let times = (self.stride / stride.max(1)) as usize;
        Placement { grid: (self.grid.0 * times, self.grid.1 * times), stride, ..self }
    }
}

/// Buffers of scaling, reused from frame to frame.
#[derive(Default)]
pub struct Scaler {
    resizer: Resizer,
    content: Frame,
}

impl Geometry {
    /// Largest configurable side, in pixels.
    pub const MAX_LONGEST_SIDE: u32 = 4096;

    /// Checks all values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the wrong value.
    pub fn validate(&self) -> Result<()> {
        let bad = |m: String| Err(Error::new(ErrorKind::Usage, m));
        if self.multiple == 0 || self.stride == 0 || !self.multiple.is_multiple_of(self.stride) {
            return bad(format!(
                "the input multiple ({}) must be a multiple of the grid stride ({})",
                self.multiple, self.stride
            ));
        }
        if self.longest_side < self.multiple || self.longest_side > Self::MAX_LONGEST_SIDE {
            return bad(format!(
                "the longest side must be {} to {} pixels, not {}",
                self.multiple,
                Self::MAX_LONGEST_SIDE,
                self.longest_side
            ));
        }
        if self.mean.iter().any(|v| !v.is_finite()) || self.std.iter().any(|v| !v.is_finite() || *v <= 0.0) {
            return bad("the channels' mean must be finite and their standard deviation positive".into());
        }
        let outside = |v: &f64| !(0.0..=1.0).contains(v);
        if self.ignore.iter().any(|area| area.len() < 3 || area.iter().flatten().any(outside)) {
            return bad(
                "an ignored area needs 3 corners or more, in shares of width and height, 0 to 1".into()
            );
        }
        Ok(())
    }

    /// Where a `width` × `height` frame lies.
    pub fn place(&self, width: u32, height: u32) -> Placement {
        let longest = u64::from(width.max(height)).max(1);
        let scaled = |side: u32| {
            if self.native {
                return side.max(1);
            }
            let v = (u64::from(side) * u64::from(self.longest_side) * 2 + longest) / (2 * longest);
            (v as u32).max(1)
        };
        let content = (scaled(width), scaled(height));
        let canvas = (content.0.next_multiple_of(self.multiple), content.1.next_multiple_of(self.multiple));
        let grid = (content.1.div_ceil(self.stride) as usize, content.0.div_ceil(self.stride) as usize);
        Placement { frame: (width, height), content, canvas, grid, stride: self.stride }
    }

    /// Scales a frame to its content size. A frame of this size is returned unchanged.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] when a native frame is larger than [`Geometry::MAX_LONGEST_SIDE`], and when the
    /// resizer refuses the buffers.
    pub fn scale(&self, frame: &Frame) -> Result<Frame> {
        self.scale_with(frame, &mut Scaler::default()).cloned()
    }

    /// As [`Geometry::scale`], with reused buffers.
    ///
    /// # Errors
    /// As [`Geometry::scale`].
    pub fn scale_with<'a>(&self, frame: &'a Frame, scaler: &'a mut Scaler) -> Result<&'a Frame> {
        let (width, height) = self.place(frame.width(), frame.height()).content;
        if width.max(height) > Self::MAX_LONGEST_SIDE {
            return Err(Error::new(
                ErrorKind::Image,
                format!(
                    "{width}×{height} pixels are too many without scaling: the limit is {} per side",
                    Self::MAX_LONGEST_SIDE
                ),
            ));
        }
        if (width, height) == (frame.width(), frame.height()) {
            return Ok(frame);
        }
        let Scaler { resizer, content } = scaler;
        content.refill(width, height, frame.color(), |pixels| match frame.color() {
            Color::Gray => resize::<U8>(resizer, frame, (width, height), pixels),
            Color::Rgb => resize::<U8x3>(resizer, frame, (width, height), pixels),
        })?;
        Ok(content)
    }

    /// Writes a normalized frame of content size into `input`, whose sizes are [`Placement::input`].
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if it has other sizes.
    pub fn fill_input(
        &self,
        content: &Frame,
        placement: &Placement,
        mut input: ArrayViewMut4<f32>,
    ) -> Result<()> {
        let [_, _, canvas_h, canvas_w] = placement.input();
        let out = (input.shape() == placement.input()).then(|| input.as_slice_mut()).flatten();
        let out = out.ok_or_else(|| Error::new(ErrorKind::Model, "the input is not of the canvas' size"))?;
        let (w, h) = (content.width() as usize, content.height() as usize);
        let channels = content.color().channels();
        let plane = canvas_w * canvas_h;
        for c in 0..3 {
            let table: [f32; 256] = std::array::from_fn(|v| (v as f32 / 255.0 - self.mean[c]) / self.std[c]);
            let source = if channels == 1 { 0 } else { c };
            for y in 0..canvas_h {
                let line = &content.pixels()[y.min(h - 1) * w * channels..][..w * channels];
                let target = &mut out[c * plane + y * canvas_w..][..canvas_w];
                for (t, pixel) in target.iter_mut().zip(line.chunks_exact(channels)) {
                    *t = table[usize::from(pixel[source])];
                }
                let last = target[w - 1];
                target[w..].fill(last);
            }
            self.hide(placement, |row, columns| {
                // The padding repeats the last row and column, hidden or not.
                let rows = if row + 1 == h { row..canvas_h } else { row..row + 1 };
                let end = if columns.end == w { canvas_w } else { columns.end };
                rows.for_each(|row| out[c * plane + row * canvas_w..][columns.start..end].fill(0.0));
            });
        }
        Ok(())
    }

    /// Passes on the ignored pixels of a scaled frame.
    fn hide(&self, placement: &Placement, mut pass: impl FnMut(usize, Range<usize>)) {
        let (width, height) = placement.content;
        for area in &self.ignore {
            let corner = |[x, y]: &Point| [x * f64::from(width), y * f64::from(height)];
            let area: Polygon = area.iter().map(corner).collect();
            inside(&area, placement.content, &mut pass);
        }
    }
}

/// Scales a frame of pixels of type `P` into `pixels`. `Resizer::resize` would link code for thirteen pixel
/// types, 2 MB of the program.
fn resize<P: PixelTrait + InnerPixel>(
    resizer: &mut Resizer,
    frame: &Frame,
    (width, height): (u32, u32),
    pixels: &mut [u8],
) -> Result<()> {
    let refuse =
        |e: &dyn std::fmt::Display| Error::new(ErrorKind::Image, format!("cannot scale the frame: {e}"));
    let from = TypedImageRef::<P>::from_buffer(frame.width(), frame.height(), frame.pixels())
        .map_err(|e| refuse(&e))?;
    let mut to = TypedImage::<P>::from_buffer(width, height, pixels).map_err(|e| refuse(&e))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    resizer.resize_typed(&from, &mut to, &options).map_err(|e| refuse(&e))
}
