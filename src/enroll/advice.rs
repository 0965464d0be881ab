//! Why a package may not find defects, as far as its good pictures tell, and what to do.

use image::imageops::{FilterType, resize};
use image::{GrayImage, ImageBuffer, Luma, Rgb};

use super::Enrollment;
use crate::imaging::{Color, DefectKind, Frame};

/// Fewer parts hardly show how parts vary.
const FEW: usize = 10;
/// Pictures that are compared, each with the next one.
const SAMPLE: usize = 13;
/// Side of the compared pictures in pixels.
const SIDE: u32 = 48;
/// Turns that are tried, in degrees, and shifts, in pixels of the small picture.
const TURN: usize = 15;
const SHIFT: usize = 3;
const FARTHEST: i32 = 12;
/// A gain in correlation that means that parts lie differently. On seven products it was 0.19 where parts are turned
/// (metal plates), 0.17 where they are shifted (tiles), and at most 0.07 elsewhere.
const POSE: f32 = 0.1;
/// A standard deviation of the mean brightness, as a share of it, that matters: 0.14 and 0.09 on tiles and wood, at most
/// 0.04 on five others.
const LIGHT: f32 = 0.06;
/// Least number of used gray levels, of 256.
const LEVELS: u8 = 64;

/// How good pictures differ among each other.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Spread {
    /// Median gain in correlation of a picture with the next one if it is turned.
    turned: f32,
    /// The same if it is shifted.
    shifted: f32,
    /// Standard deviation of the mean brightness, as a share of it.
    light: f32,
    /// Gray levels between the darkest and the brightest hundredth.
    levels: u8,
}

/// Sentences for people, the most important first. Empty if nothing is wrong.
pub(crate) fn advice(done: &Enrollment) -> Vec<String> {
    let images = done.package.manifest.images;
    let mut advice = Vec::new();
    if done.parts.len() < FEW {
        advice.push(format!(
            "The {images} pictures show only {} different parts, as far as they can be told apart. Other parts may be \
             rejected. Take pictures of at least {FEW} parts, better 20.",
            done.parts.len()
        ));
    }
    let step = done.parts.len().div_ceil(SAMPLE).max(1);
    let sample = done.parts.iter().step_by(step).filter_map(|part| small(part.first()?));
    let spread = spread(&sample.collect::<Vec<_>>());
    if spread.levels < LEVELS {
        advice.push(format!(
            "The pictures use only {} of 256 gray levels. Use more light, a longer exposure or a wider aperture.",
            spread.levels
        ));
    }
    // The last spot is the largest.
    let spot = done.package.manifest.forecast.iter().rfind(|info| info.kind == DefectKind::Spot);
    if spot.is_some_and(|spot| 2 * spot.rejected < spot.painted) {
        advice.push("Even large painted defects mostly pass.".to_owned());
        advice.extend(causes(spread));
    }
    advice
}

/// What differs too much, and what to do about it.
fn causes(spread: Spread) -> Vec<String> {
    let mut causes = Vec::new();
    if spread.turned > POSE && spread.turned >= spread.shifted {
        causes.push("The parts lie turned: guide them, so that they all lie alike.".to_owned());
    } else if spread.shifted > POSE {
        causes.push("The parts lie shifted: guide them, or trigger at the same place.".to_owned());
    }
    if spread.light > LIGHT {
        causes.push(format!(
            "The brightness differs by {:.0} % from picture to picture: shut out other light, and switch automatic exposure off.",
            100.0 * spread.light
        ));
    }
    causes.push(
        "Look at the good pictures with the highest scores, take a higher quality, hide what varies with ignored areas, \
         or label some defects."
            .to_owned(),
    );
    causes
}

/// A picture of [`SIDE`] pixels in gray. `None` if it cannot be read any more.
fn small(path: &std::path::PathBuf) -> Option<GrayImage> {
    let frame = Frame::open(path).ok()?;
    let (width, height, pixels) = (frame.width(), frame.height(), frame.pixels());
    match frame.color() {
        Color::Gray => {
            let picture: ImageBuffer<Luma<u8>, &[u8]> = ImageBuffer::from_raw(width, height, pixels)?;
            Some(resize(&picture, SIDE, SIDE, FilterType::Triangle))
        }
        Color::Rgb => {
            let picture: ImageBuffer<Rgb<u8>, &[u8]> = ImageBuffer::from_raw(width, height, pixels)?;
            let picture = resize(&picture, SIDE, SIDE, FilterType::Triangle);
            Some(image::DynamicImage::ImageRgb8(picture).into_luma8())
        }
    }
}

fn spread(pictures: &[GrayImage]) -> Spread {
    let pairs = || pictures.iter().zip(pictures.iter().skip(1));
    let turned = median(pairs().map(|(a, b)| gain_of_turns(a, b)));
    let shifted = median(pairs().map(|(a, b)| gain_of_shifts(a, b)));
    let mean = |picture: &GrayImage| {
        picture.as_raw().iter().map(|&v| f64::from(v)).sum::<f64>() / picture.as_raw().len() as f64
    };
    let means: Vec<f64> = pictures.iter().map(mean).collect();
    let count = means.len().max(1) as f64;
    let center = means.iter().sum::<f64>() / count;
    let deviation = (means.iter().map(|m| (m - center).powi(2)).sum::<f64>() / count).sqrt();
    let mut values: Vec<u8> = pictures.iter().flat_map(|picture| picture.as_raw().iter().copied()).collect();
    values.sort_unstable();
    let at = |share: usize| values.get(values.len() * share / 100).copied().unwrap_or(0);
    let levels = if values.is_empty() { u8::MAX } else { at(99) - at(1) };
    Spread { turned, shifted, light: (deviation / center.max(1.0)) as f32, levels }
}

fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut values: Vec<f32> = values.collect();
    values.sort_unstable_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The correlation of pairs of values, -1 to 1; 1 for plain pictures.
fn correlation(pairs: impl Iterator<Item = (f32, f32)> + Clone) -> f32 {
    let (mut count, mut a, mut b) = (0.0f64, 0.0, 0.0);
    for (x, y) in pairs.clone() {
        (count, a, b) = (count + 1.0, a + f64::from(x), b + f64::from(y));
    }
    let (a, b) = (a / count, b / count);
    let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        let (x, y) = (f64::from(x) - a, f64::from(y) - b);
        (both, of_a, of_b) = (both + x * y, of_a + x * x, of_b + y * y);
    }
    let norm = (of_a * of_b).sqrt();
    if norm > 0.0 { (both / norm) as f32 } else { 1.0 }
}

fn value(picture: &GrayImage, x: i32, y: i32) -> f32 {
    f32::from(picture.get_pixel(x as u32, y as u32).0[0])
}

/// How much better two pictures fit, within the largest circle, if one is turned.
fn gain_of_turns(a: &GrayImage, b: &GrayImage) -> f32 {
    let side = SIDE as i32;
    let center = (SIDE as f32 - 1.0) / 2.0;
    let radius = center - 1.5;
    let inside = move |x: i32, y: i32| (x as f32 - center).hypot(y as f32 - center) < radius;
    let circle = (0..side).flat_map(|y| (0..side).map(move |x| (x, y))).filter(move |&(x, y)| inside(x, y));
    let turned = |degrees: usize| {
        let (sin, cos) = (degrees as f32).to_radians().sin_cos();
        let pairs = circle.clone().map(move |(x, y)| {
            let (dx, dy) = (x as f32 - center, y as f32 - center);
            (value(a, x, y), between(b, center + dx * cos - dy * sin, center + dx * sin + dy * cos))
        });
        correlation(pairs)
    };
    let best = (TURN..360).step_by(TURN).map(turned).fold(f32::MIN, f32::max);
    (best - turned(0)).max(0.0)
}

/// Bilinear interpolation.
fn between(picture: &GrayImage, x: f32, y: f32) -> f32 {
    let most = SIDE as i32 - 1;
    let (left, top) = (x.floor(), y.floor());
    let (fx, fy) = (x - left, y - top);
    let at = |x: i32, y: i32| value(picture, x.clamp(0, most), y.clamp(0, most));
    let (left, top) = (left as i32, top as i32);
    let upper = at(left, top) * (1.0 - fx) + at(left + 1, top) * fx;
    let lower = at(left, top + 1) * (1.0 - fx) + at(left + 1, top + 1) * fx;
    upper * (1.0 - fy) + lower * fy
}

/// How much better two pictures fit if one is shifted.
fn gain_of_shifts(a: &GrayImage, b: &GrayImage) -> f32 {
    let side = SIDE as i32;
    let shifted = |dx: i32, dy: i32| {
        let (columns, rows) = (dx.max(0)..side + dx.min(0), dy.max(0)..side + dy.min(0));
        let places = rows.flat_map(move |y| columns.clone().map(move |x| (x, y)));
        correlation(places.map(move |(x, y)| (value(a, x, y), value(b, x - dx, y - dy))))
    };
    let steps = || (-FARTHEST..=FARTHEST).step_by(SHIFT);
    let best = steps().flat_map(|dy| steps().map(move |dx| (dx, dy))).map(|(dx, dy)| shifted(dx, dy));
    (best.fold(f32::MIN, f32::max) - shifted(0, 0)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An L of two bars, turned by `degrees` and moved.
    fn bars(degrees: f32, (dx, dy): (f32, f32), light: f32) -> GrayImage {
        let (sin, cos) = degrees.to_radians().sin_cos();
        GrayImage::from_fn(SIDE, SIDE, |x, y| {
            let (x, y) = (x as f32 - 23.5 - dx, y as f32 - 23.5 - dy);
            let (x, y) = (x * cos + y * sin, y * cos - x * sin);
            let bar = (-14.0..14.0).contains(&x) && (-3.0..3.0).contains(&y);
            let foot = (8.0..14.0).contains(&x) && (-3.0..12.0).contains(&y);
            Luma([(light * if bar || foot { 200.0 } else { 40.0 }) as u8])
        })
    }

    #[test]
    fn what_differs_among_parts_is_told_apart() {
        let many = |picture: &dyn Fn(f32) -> GrayImage| -> Vec<GrayImage> {
            (0..SAMPLE).map(|i| picture(i as f32)).collect()
        };
        let still = spread(&many(&|i| bars(i % 2.0, (0.0, 0.0), 1.0)));
        assert!(still.turned < POSE && still.shifted < POSE && still.light < LIGHT, "{still:?}");
        assert_eq!(still.levels, 160);
        let turned = spread(&many(&|i| bars(77.0 * i, (0.0, 0.0), 1.0)));
        assert!(turned.turned > POSE && turned.turned > turned.shifted, "{turned:?}");
        let shifted = spread(&many(&|i| bars(0.0, (9.0 * (i % 2.0), 0.0), 1.0)));
        assert!(shifted.shifted > POSE && shifted.shifted > shifted.turned, "{shifted:?}");
        let flickering = spread(&many(&|i| bars(0.0, (0.0, 0.0), 1.0 - 0.2 * (i % 2.0))));
        assert!(flickering.light > LIGHT && flickering.turned < POSE, "{flickering:?}");
        assert!(spread(&many(&|_| bars(0.0, (0.0, 0.0), 0.3))).levels < LEVELS);

        let said = |spread| causes(spread).join(" ");
        assert!(said(turned).contains("lie turned") && !said(turned).contains("shifted"));
        assert!(said(shifted).contains("lie shifted"));
        assert!(said(flickering).contains("brightness differs by 11 %"), "{}", said(flickering));
        assert!(said(still).starts_with("Look at the good pictures"));
    }

    #[test]
    fn no_pictures_and_plain_ones_are_no_trouble() {
        assert_eq!(spread(&[]), Spread { levels: u8::MAX, ..Spread::default() });
        let plain = vec![GrayImage::new(SIDE, SIDE); 3];
        assert_eq!(spread(&plain), Spread::default());
    }
}
