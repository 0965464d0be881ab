//! CVAT XML 1.1, for images.

use roxmltree::{Document, Node};

use super::{Collected, Log, Shelf, wrong};
use crate::error::{Error, ErrorKind, Result};
use crate::labels::runs::bits_from_runs;
use crate::labels::shapes::{Point, clipped_box, is_number};

/// The labels in a file.
pub fn read(text: &str, shelf: &Shelf, log: &mut Log) -> Result<Vec<Collected>> {
    let document = Document::parse(text)
        .map_err(|e| Error::new(ErrorKind::Usage, format!("is not XML: {e}: export again")))?;
    let root = document.root_element();
    let children = |name: &'static str| root.children().filter(move |c| c.has_tag_name(name));
    if !root.has_tag_name("annotations") || children("track").next().is_some() {
        return Err(wrong("is not CVAT for images: export the task as 'CVAT for images 1.1'"));
    }
    let mut pictures: Vec<Collected> = Vec::new();
    for (at, image) in (1..).zip(children("image")) {
        let place = format!("image[{at}]");
        let mut picture = match picture(image, shelf) {
            Ok(picture) => picture,
            Err(e) => {
                log.bad.push(e.within(place));
                continue;
            }
        };
        if pictures.iter().any(|p| p.found == picture.found) {
            return Err(wrong(format!("{place}: {} appears twice: remove one", picture.found.name)));
        }
        for (number, node) in (1..).zip(image.children().filter(Node::is_element)) {
            let kind = node.tag_name().name();
            if !SHAPES.contains(&kind) {
                log.ignore(&format!("<{kind}>"));
                continue;
            }
            picture.marked = true;
            let place = format!("{place} ({}), shape {number} <{kind}>", picture.found.name);
            let first = picture.shapes.len();
            match shape(&mut picture, node) {
                Ok(name) => picture.name(first..picture.shapes.len(), name),
                Err(e) => picture.spoil(e.within(place), log),
            }
        }
        pictures.push(picture);
    }
    Ok(pictures)
}

fn picture(image: Node, shelf: &Shelf) -> Result<Collected> {
    let size = (side(image, "width")?, side(image, "height")?);
    Collected::new(shelf.find(&[text(image, "name")?.to_owned()])?, Some(size))
}

/// Elements of shapes and tags.
const SHAPES: [&str; 9] =
    ["box", "polygon", "ellipse", "mask", "tag", "polyline", "points", "cuboid", "skeleton"];

/// Adds a shape. Returns its name.
fn shape<'a>(picture: &mut Collected, node: Node<'a, '_>) -> Result<&'a str> {
    let name = text(node, "label")?;
    let degrees = if node.has_attribute("rotation") { number(node, "rotation")? } else { 0.0 };
    match node.tag_name().name() {
        "box" => {
            let [left, top, right, bottom] = numbers(node, ["xtl", "ytl", "xbr", "ybr"])?;
            let center = [(left + right) / 2.0, (top + bottom) / 2.0];
            picture.boxed([left, top, right - left, bottom - top], degrees, center)
        }
        "polygon" => picture.polygon(&points(text(node, "points")?)?),
        "ellipse" => picture.ellipse(numbers(node, ["cx", "cy", "rx", "ry"])?, degrees),
        "mask" => {
            let bits = mask(node, picture.size)?;
            picture.paint(bits)
        }
        "tag" => Ok(()),
        _ => Err(wrong("cannot import this shape: draw boxes, polygons, ellipses or masks")),
    }
    .map(|()| name)
}

/// `x,y;x,y;…`
fn points(text: &str) -> Result<Vec<Point>> {
    let point = |pair: &str| -> Option<Point> {
        let (x, y) = pair.split_once(',')?;
        let point = [x.trim().parse().ok()?, y.trim().parse().ok()?];
        point.iter().all(|v| is_number(*v)).then_some(point)
    };
    let points: Option<Vec<Point>> = text.split(';').map(point).collect();
    points
        .filter(|points| points.len() > 2)
        .ok_or_else(|| wrong("points must be the x,y of at least three corners: export again"))
}

/// A mask of a part of the picture, extended to the whole picture.
fn mask(node: Node, size: (u32, u32)) -> Result<Vec<bool>> {
    let (width, height) = (side(node, "width")?, side(node, "height")?);
    let [left, top] = numbers(node, ["left", "top"])?;
    let [left, top, right, bottom] =
        clipped_box(&[left, top, left + f64::from(width), top + f64::from(height)], size)?;
    let counts: Option<Vec<u64>> = text(node, "rle")?.split(',').map(|run| run.trim().parse().ok()).collect();
    let part = counts.and_then(|counts| bits_from_runs(&counts, width as usize * height as usize));
    let part =
        part.ok_or_else(|| wrong(format!("the runs do not make {width}×{height} pixels: export again")))?;
    let mut whole = vec![false; size.0 as usize * size.1 as usize];
    let columns = left as usize..right as usize;
    for (row, run) in (top as usize..bottom as usize).zip(part.chunks_exact(width as usize)) {
        let line = &mut whole[row * size.0 as usize..][columns.clone()];
        line.copy_from_slice(&run[..line.len()]);
    }
    Ok(whole)
}

fn text<'a>(node: Node<'a, '_>, key: &str) -> Result<&'a str> {
    let text = node.attribute(key).filter(|text| !text.trim().is_empty());
    text.ok_or_else(|| wrong(format!("{key} must be a text, not empty: export again")))
}

fn number(node: Node, key: &str) -> Result<f64> {
    let text = text(node, key)?;
    let number = text.trim().parse().ok().filter(|v| is_number(*v));
    number.ok_or_else(|| wrong(format!("{key} must be a number, not {text:?}: export again")))
}

fn numbers<const N: usize>(node: Node, keys: [&str; N]) -> Result<[f64; N]> {
    let mut found = [0.0; N];
    for (found, key) in found.iter_mut().zip(keys) {
        *found = number(node, key)?;
    }
    Ok(found)
}

fn side(node: Node, key: &str) -> Result<u32> {
    let text = text(node, key)?;
    let side = text.trim().parse().ok().filter(|side| *side > 0);
    side.ok_or_else(|| wrong(format!("{key} must be a number of pixels, not {text:?}: export again")))
}
