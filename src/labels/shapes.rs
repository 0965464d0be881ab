//! Shapes in pictures, and the label file's rules for them. Coordinates are pixel edges, x to the right and y
//! down, from (0, 0) to (width, height).

use super::file::Form;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Mask, Polygon, filled};

pub use crate::imaging::Point;

/// Left, top, right, bottom.
pub type Box = [f64; 4];
/// Four corners of a convex shape, in order.
pub type Rotated = [Point; 4];

/// A box may reach this many pixels outside of its picture, and is clipped: labeling tools round.
const ROUNDING: f64 = 1.0;

/// More corners of a polygon are a mask.
pub const MOST_CORNERS: usize = 1000;

fn wrong(text: String) -> Error {
    Error::new(ErrorKind::Usage, text)
}

/// Whether the label file allows this number.
pub fn is_number(value: f64) -> bool {
    value.is_finite() && value.abs() < 1e9
}

/// Rounded to a thousandth of a pixel. More digits would be noise in the file.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Checks a box without its picture.
///
/// # Errors
/// [`ErrorKind::Usage`] unless left < right and top < bottom.
pub fn check_box(shape: &Box) -> Result<()> {
    let [left, top, right, bottom] = *shape;
    if !shape.iter().all(|&v| is_number(v)) || left >= right || top >= bottom {
        return Err(wrong(format!(
            "the box {shape:?} must be [left, top, right, bottom], left < right and top < bottom"
        )));
    }
    Ok(())
}

/// A box, clipped to a picture of `width` × `height` pixels.
///
/// # Errors
/// As [`check_box`]; [`ErrorKind::Usage`] when it reaches outside by a pixel or more, or nothing is left of
/// it.
pub fn clipped_box(shape: &Box, (width, height): (u32, u32)) -> Result<Box> {
    check_box(shape)?;
    let [left, top, right, bottom] = *shape;
    let (w, h) = (f64::from(width), f64::from(height));
    if left.min(top) <= -ROUNDING || right >= w + ROUNDING || bottom >= h + ROUNDING {
        return Err(wrong(format!(
            "the box {shape:?} reaches outside of the picture, which is {width}×{height}: is it in pixels of this picture?"
        )));
    }
    let clipped = [left.max(0.0), top.max(0.0), right.min(w), bottom.min(h)].map(rounded);
    check_box(&clipped)
        .map(|()| clipped)
        .map_err(|_| wrong(format!("the box {shape:?} has no area: remove it or draw it again")))
}

/// Checks a rotated box without its picture.
///
/// # Errors
/// [`ErrorKind::Usage`] when it is not convex.
pub fn check_rotated(shape: &Rotated) -> Result<()> {
    if !shape.iter().flatten().all(|&v| is_number(v)) || !is_convex(shape) {
        return Err(wrong(format!(
            "the rotated box {shape:?} is twisted, dented or has no area: give the corners in order"
        )));
    }
    Ok(())
}

/// A rotated box in a picture of `width` × `height` pixels. Its center must be inside. Corners may be
/// outside, as of the smallest box around something at the rim.
///
/// # Errors
/// As [`check_rotated`]; [`ErrorKind::Usage`] when its center is outside.
pub fn placed_rotated(shape: &Rotated, (width, height): (u32, u32)) -> Result<Rotated> {
    check_rotated(shape)?;
    let near = shape.map(|p| p.map(rounded));
    check_rotated(&near)?;
    let center = |axis: usize| near.iter().map(|p| p[axis]).sum::<f64>() / 4.0;
    let inside = |v: f64, side: u32| (0.0..=f64::from(side)).contains(&v);
    if !inside(center(0), width) || !inside(center(1), height) {
        return Err(wrong(format!(
            "the rotated box {shape:?} lies outside of the picture, which is {width}×{height}: is it in pixels of \
             this picture?"
        )));
    }
    Ok(near)
}

/// Whether four corners make a convex shape with an area. A twisted shape is not convex.
pub fn is_convex(corners: &Rotated) -> bool {
    let side = |i: usize| {
        let (a, b) = (corners[i % 4], corners[(i + 1) % 4]);
        [b[0] - a[0], b[1] - a[1]]
    };
    let turns: [f64; 4] = std::array::from_fn(|i| {
        let (a, b) = (side(i), side(i + 1));
        a[0] * b[1] - a[1] * b[0]
    });
    turns.iter().all(|&t| t > 0.0) || turns.iter().all(|&t| t < 0.0)
}

/// Points turned clockwise on the screen.
pub fn turned(points: &[Point], about: Point, degrees: f64) -> Vec<Point> {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let turn = |p: &Point| {
        let (x, y) = (p[0] - about[0], p[1] - about[1]);
        [x * cos - y * sin + about[0], x * sin + y * cos + about[1]]
    };
    points.iter().map(turn).collect()
}

/// The corners of an upright box, clockwise from the top left.
pub fn corners([left, top, right, bottom]: Box) -> Rotated {
    [[left, top], [right, top], [right, bottom], [left, bottom]]
}

/// Checks a polygon without its picture.
///
/// # Errors
/// [`ErrorKind::Usage`] unless it has 3 to [`MOST_CORNERS`] corners.
pub fn check_polygon(corners: &[Point]) -> Result<()> {
    if !(3..=MOST_CORNERS).contains(&corners.len()) || !corners.iter().flatten().all(|&v| is_number(v)) {
        return Err(wrong(format!(
            "a polygon must have 3 to {MOST_CORNERS} corners [x, y], not {}",
            corners.len()
        )));
    }
    Ok(())
}

/// A polygon, clipped to a picture of `width` × `height` pixels.
///
/// # Errors
/// As [`check_polygon`]; [`ErrorKind::Usage`] when it reaches outside by a pixel or more, or holds the center
/// of no pixel.
pub fn placed_polygon(corners: &[Point], size: (u32, u32)) -> Result<Polygon> {
    check_polygon(corners)?;
    clipped_polygon(corners, size)
}

/// A polygon of any number of corners, clipped to a picture of `width` × `height` pixels.
///
/// # Errors
/// As [`placed_polygon`].
pub fn clipped_polygon(corners: &[Point], size: (u32, u32)) -> Result<Polygon> {
    let (w, h) = (f64::from(size.0), f64::from(size.1));
    let out = |v: f64, side: f64| v <= -ROUNDING || v >= side + ROUNDING;
    if corners.iter().any(|p| out(p[0], w) || out(p[1], h)) {
        return Err(wrong(format!(
            "the polygon reaches outside of the picture, which is {}×{}: does it belong to this picture?",
            size.0, size.1
        )));
    }
    let placed: Polygon =
        corners.iter().map(|p| [p[0].clamp(0.0, w), p[1].clamp(0.0, h)].map(rounded)).collect();
    if !filled(&placed, size).contains(&true) {
        return Err(wrong("the polygon covers no pixel: remove it or draw it again".into()));
    }
    Ok(placed)
}

/// The pixels of a shape, in a picture of `width` × `height` pixels.
pub fn painted(form: &Form<Mask>, size: (u32, u32)) -> Vec<bool> {
    match form {
        Form::Box(shape) => filled(&corners(*shape), size),
        Form::Rotated(shape) => filled(shape, size),
        Form::Polygon(shape) => filled(shape, size),
        Form::Mask(mask) => mask.bits().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_box_covers_the_pixels_whose_centers_it_holds() {
        let bits = filled(&corners([1.0, 0.0, 3.0, 1.4]), (4, 3));
        assert_eq!(bits, [0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0].map(|v| v == 1));
    }

    #[test]
    fn what_reaches_out_is_clipped_or_refused() {
        assert_eq!(clipped_box(&[-0.5, 0.0, 4.9, 3.0], (4, 3)).unwrap(), [0.0, 0.0, 4.0, 3.0]);
        for bad in
            [[-1.0, 0.0, 2.0, 2.0], [0.0, 0.0, 5.0, 2.0], [2.0, 0.0, 2.0, 2.0], [f64::NAN, 0.0, 1.0, 1.0]]
        {
            assert!(clipped_box(&bad, (4, 3)).is_err(), "{bad:?}");
        }
        let twisted = [[0.0, 0.0], [2.0, 2.0], [2.0, 0.0], [0.0, 2.0]];
        assert!(placed_rotated(&twisted, (4, 3)).is_err());
        assert!(placed_rotated(&corners([9.0, 9.0, 11.0, 11.0]), (4, 3)).is_err());
    }

    proptest! {
        #[test]
        fn filling_asks_each_center(
            points in prop::collection::vec(prop::array::uniform2(-3.0f64..12.0), 3..7),
        ) {
            let (width, height) = (9u32, 8u32);
            let bits = filled(&points, (width, height));
            for (i, &bit) in bits.iter().enumerate() {
                let (x, y) = ((i % 9) as f64 + 0.5, (i / 9) as f64 + 0.5);
                let crossed = (0..points.len()).filter(|&i| {
                    let ([x0, y0], [x1, y1]) = (points[i], points[(i + 1) % points.len()]);
                    (y0 <= y) != (y1 <= y) && x > x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                });
                prop_assert_eq!(bit, crossed.count() % 2 == 1);
            }
        }
    }
}
