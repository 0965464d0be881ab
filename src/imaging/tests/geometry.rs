//! Pixels to model input, and back.

use crate::imaging::{Geometry, Placement};
use crate::{Color, ErrorKind, Frame};
use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use ndarray::Array4;
use proptest::prelude::*;

fn geometry(longest_side: u32, multiple: u32, stride: u32) -> Geometry {
    Geometry {
        longest_side,
        native: false,
        multiple,
        stride,
        mean: [0.5, 0.4, 0.3],
        std: [0.5, 0.25, 0.2],
        ignore: Vec::new(),
    }
}

/// Geometries that are valid, small enough to try many.
fn geometries() -> impl Strategy<Value = Geometry> {
    // Those of convolutions, and the patch of a vision transformer, which divides no usual size of a picture.
    let strides = prop_oneof![(1u32..5).prop_map(|quarter| 4 * quarter), Just(14)];
    (strides, 1u32..5, 0u32..200)
        .prop_map(|(stride, times, more)| geometry(stride * times + more, stride * times, stride))
}

fn sides() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..20, 20u32..3000, 3000u32..100_000]
}

fn noise(width: u32, height: u32, color: Color, seed: u32) -> Frame {
    let count = width as usize * height as usize * color.channels();
    let pixels =
        (0..count as u32).map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 23) as u8).collect();
    Frame::new(width, height, color, pixels).unwrap()
}

fn colors() -> impl Strategy<Value = Color> {
    prop_oneof![Just(Color::Gray), Just(Color::Rgb)]
}

/// Model input by its definition, one value at a time.
fn slow_input(geometry: &Geometry, content: &Frame, placement: &Placement) -> Array4<f32> {
    let (w, h) = (placement.canvas.0 as usize, placement.canvas.1 as usize);
    let channels = content.color().channels();
    Array4::from_shape_fn((1, 3, h, w), |(_, c, y, x)| {
        let (x, y) = (x.min(content.width() as usize - 1), y.min(content.height() as usize - 1));
        let pixel = &content.pixels()[(y * content.width() as usize + x) * channels..][..channels];
        let value = f64::from(pixel[if channels == 1 { 0 } else { c }]) / 255.0;
        ((value - f64::from(geometry.mean[c])) / f64::from(geometry.std[c])) as f32
    })
}

#[test]
fn native_frames_beyond_the_limit_are_refused() {
    let native = Geometry { native: true, ..geometry(64, 16, 8) };
    let frame = |side| Frame::new(side, 1, Color::Gray, vec![0; side as usize]).unwrap();
    assert_eq!(native.scale(&frame(4096)).unwrap(), frame(4096));
    let error = native.scale(&frame(4097)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Image);
    assert!(error.to_string().contains("4097×1 pixels are too many without scaling"), "{error}");
}

proptest! {
    #[test]
    fn native_frames_keep_their_size(geometry in geometries(), width in sides(), height in sides()) {
        let placement = Geometry { native: true, ..geometry.clone() }.place(width, height);
        prop_assert_eq!(placement.content, (width, height));
        // As if just this side had been configured.
        prop_assert_eq!(placement, Geometry { longest_side: width.max(height), ..geometry }.place(width, height));
    }

    #[test]
    fn every_frame_has_its_place(geometry in geometries(), width in sides(), height in sides()) {
        prop_assert!(geometry.validate().is_ok());
        let placement = geometry.place(width, height);
        let (content, canvas, grid) = (placement.content, placement.canvas, placement.grid);
        prop_assert_eq!((placement.frame, placement.stride), ((width, height), geometry.stride));

        // The longest side is the configured one, the other keeps the aspect to the nearest pixel.
        prop_assert_eq!(content.0.max(content.1), geometry.longest_side);
        let scale = f64::from(geometry.longest_side) / f64::from(width.max(height));
        for (side, scaled) in [(width, content.0), (height, content.1)] {
            let exact = f64::from(side) * scale;
            prop_assert!(scaled >= 1);
            prop_assert!((f64::from(scaled) - exact.max(1.0)).abs() <= 0.5 + 1e-6, "{exact} {scaled}");
        }

        // The canvas is the smallest that the network takes.
        for (side, canvas) in [(content.0, canvas.0), (content.1, canvas.1)] {
            prop_assert_eq!(canvas % geometry.multiple, 0);
            prop_assert!(canvas >= side && canvas - side < geometry.multiple);
        }

        // The grid covers the content, no cell of it is pure padding, and none is beyond the canvas.
        let stride = geometry.stride as usize;
        for (cells, side, canvas) in [(grid.0, content.1, canvas.1), (grid.1, content.0, canvas.0)] {
            prop_assert!(cells * stride >= side as usize);
            prop_assert!((cells - 1) * stride < side as usize);
            prop_assert!(cells * stride <= canvas as usize);
        }

        // Content has its own place already.
        let again = geometry.place(content.0, content.1);
        prop_assert_eq!((again.content, again.canvas, again.grid), (content, canvas, grid));
    }

    #[test]
    fn turning_a_frame_turns_its_place(geometry in geometries(), width in sides(), height in sides()) {
        let (a, b) = (geometry.place(width, height), geometry.place(height, width));
        let turned = |(x, y): (u32, u32)| (y, x);
        prop_assert_eq!((a.content, a.canvas), (turned(b.content), turned(b.canvas)));
        prop_assert_eq!(a.grid, (b.grid.1, b.grid.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn scaling_once_is_enough(
        geometry in geometries(), width in 1u32..300, height in 1u32..300, color in colors(), seed: u32,
    ) {
        let frame = noise(width, height, color, seed);
        let once = geometry.scale(&frame).unwrap();
        prop_assert_eq!((once.width(), once.height()), geometry.place(width, height).content);
        prop_assert_eq!(once.color(), color);
        prop_assert_eq!(geometry.scale(&once).unwrap(), once);
    }

    #[test]
    fn scaling_is_what_the_generic_function_does(
        geometry in geometries(), width in 1u32..300, height in 1u32..300, color in colors(), seed: u32,
    ) {
        let frame = noise(width, height, color, seed);
        let kind = match color {
            Color::Gray => PixelType::U8,
            Color::Rgb => PixelType::U8x3,
        };
        let (to_width, to_height) = geometry.place(width, height).content;
        let from = Image::from_vec_u8(width, height, frame.pixels().to_vec(), kind).unwrap();
        let mut to = Image::new(to_width, to_height, kind);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        Resizer::new().resize(&from, &mut to, &options).unwrap();
        let scaled = geometry.scale(&frame).unwrap();
        prop_assert_eq!(scaled.pixels(), to.buffer());
    }

    #[test]
    fn scaling_keeps_brightness(
        geometry in geometries(), width in 1u32..300, height in 1u32..300, value: u8, color in colors(), seed: u32,
    ) {
        let count = width as usize * height as usize * color.channels();
        let flat = Frame::new(width, height, color, vec![value; count]).unwrap();
        prop_assert!(geometry.scale(&flat).unwrap().pixels().iter().all(|&v| v == value));
        let noise = noise(width, height, color, seed);
        let range = |f: &Frame| {
            let sorted = f.pixels().iter().copied();
            (sorted.clone().min().unwrap(), sorted.max().unwrap())
        };
        let (a, b) = (range(&noise), range(&geometry.scale(&noise).unwrap()));
        prop_assert!(b.0 >= a.0 && b.1 <= a.1, "{a:?} {b:?}");
    }

    #[test]
    fn the_input_is_the_slow_one(
        geometry in geometries(), width in 1u32..200, height in 1u32..200, color in colors(), seed: u32,
    ) {
        let frame = noise(width, height, color, seed);
        let placement = geometry.place(width, height);
        let content = geometry.scale(&frame).unwrap();
        let slow = slow_input(&geometry, &content, &placement);
        // Whatever the buffer held before.
        let mut input = Array4::from_elem(placement.input(), 7.0);
        geometry.fill_input(&content, &placement, input.view_mut()).unwrap();
        prop_assert_eq!(input.dim(), slow.dim());
        prop_assert!(input.iter().zip(&slow).all(|(a, b)| (a - b).abs() < 1e-5));
        let mut other = Array4::zeros((1, 3, 5, 5));
        prop_assert!(slow.dim() == other.dim() || geometry.fill_input(&content, &placement, other.view_mut()).is_err());
    }

    #[test]
    fn gray_is_color_without_color(geometry in geometries(), width in 1u32..100, height in 1u32..100, seed: u32) {
        let gray = noise(width, height, Color::Gray, seed);
        let color = Frame::new(width, height, Color::Rgb, gray.to_rgb().into_raw()).unwrap();
        let placement = geometry.place(width, height);
        let (mut a, mut b) = (Array4::zeros(placement.input()), Array4::zeros(placement.input()));
        geometry.fill_input(&geometry.scale(&gray).unwrap(), &placement, a.view_mut()).unwrap();
        geometry.fill_input(&geometry.scale(&color).unwrap(), &placement, b.view_mut()).unwrap();
        prop_assert_eq!(a, b);
    }
}

#[test]
fn an_edge_stays_where_it_is() {
    let geometry = geometry(64, 16, 8);
    let step = Frame::new(
        256,
        128,
        Color::Gray,
        (0..256 * 128).map(|i| if i % 256 < 96 { 0 } else { 200 }).collect(),
    )
    .unwrap();
    let scaled = geometry.scale(&step).unwrap();
    assert_eq!((scaled.width(), scaled.height()), (64, 32));
    for line in scaled.pixels().chunks(64) {
        assert!(line[..23].iter().all(|&v| v == 0), "{line:?}");
        assert!(line[25..].iter().all(|&v| v == 200), "{line:?}");
        assert!(line[23] < 100 && line[24] > 100, "{line:?}");
    }
}

#[test]
fn impossible_geometries_are_refused() {
    let good = geometry(256, 16, 8);
    assert!(good.validate().is_ok());
    for bad in [
        geometry(256, 0, 8),
        geometry(256, 16, 0),
        geometry(256, 12, 8),
        geometry(15, 16, 8),
        geometry(Geometry::MAX_LONGEST_SIDE + 1, 16, 8),
        Geometry { mean: [0.0, f32::NAN, 0.0], ..good.clone() },
        Geometry { std: [1.0, 0.0, 1.0], ..good.clone() },
        Geometry { std: [1.0, -1.0, 1.0], ..good.clone() },
        Geometry { std: [1.0, f32::NAN, 1.0], ..good.clone() },
        Geometry { std: [1.0, f32::INFINITY, 1.0], ..good.clone() },
    ] {
        assert_eq!(bad.validate().unwrap_err().kind(), ErrorKind::Usage, "{bad:?}");
    }
}

proptest! {
    /// Pixels whose centers lie in an ignored area do not reach the network, and all others do as without the area.
    #[test]
    fn ignored_areas_hide_what_is_in_them_and_nothing_else(
        (width, height) in (4u32..40, 4u32..40),
        color in colors(),
        [left, top, wide, high] in prop::array::uniform4(0.0f64..0.6),
        seed in any::<u32>(),
    ) {
        let open = geometry(64, 16, 8);
        let (right, bottom) = (left + wide * 0.6, top + high * 0.6);
        let area = vec![[left, top], [right, top], [right, bottom], [left, bottom]];
        let closed = Geometry { ignore: vec![area], ..open.clone() };
        closed.validate().unwrap();
        let placement = open.place(width, height);
        prop_assert_eq!(placement, closed.place(width, height));
        let content = open.scale(&noise(width, height, color, seed)).unwrap();
        let (mut seen, mut hidden) = (Array4::zeros(placement.input()), Array4::zeros(placement.input()));
        open.fill_input(&content, &placement, seen.view_mut()).unwrap();
        closed.fill_input(&content, &placement, hidden.view_mut()).unwrap();
        let (wide, high) = (f64::from(placement.content.0), f64::from(placement.content.1));
        for ((_, c, y, x), &value) in hidden.indexed_iter() {
            // The padding repeats the last row and column.
            let (at_x, at_y) = ((x as f64).min(wide - 1.0) + 0.5, (y as f64).min(high - 1.0) + 0.5);
            let inside =
                (left * wide..right * wide).contains(&at_x) && (top * high..bottom * high).contains(&at_y);
            // An edge through a center may count either way.
            let near = |v: f64, edges: [f64; 2]| edges.iter().any(|e| (v - e).abs() < 1e-9);
            if near(at_x, [left * wide, right * wide]) || near(at_y, [top * high, bottom * high]) {
                continue;
            }
            prop_assert_eq!(value, if inside { 0.0 } else { seen[[0, c, y, x]] }, "{} {}", x, y);
        }
    }
}
