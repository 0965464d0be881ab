//! One picture of the report: its pictures, verdict, score and regions.

use std::io::{self, Write};

use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

use super::text::{Text, milliseconds, multiple, number};
use super::{Entry, Truth, contradiction};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::ratio;
use crate::inspector::{Region, Verdict};

/// The longest side of an embedded picture. Two fill a wide screen, and a report of a thousand parts still
/// opens.
const LONGEST_SIDE: u32 = 480;
const JPEG_QUALITY: u8 = 82;
/// The most regions listed in words. The picture shows all.
const MAX_REGIONS: usize = 6;

/// A JPEG and its size in pixels.
pub(super) struct Embedded {
    width: u32,
    height: u32,
    jpeg: Vec<u8>,
}

/// Scales and encodes a picture; `None` for a picture without pixels.
pub(super) fn embedded(picture: &RgbImage) -> Result<Option<Embedded>> {
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 {
        return Ok(None);
    }
    let longest = width.max(height);
    let scaled =
        |side: u32| (u64::from(side) * u64::from(LONGEST_SIDE)).div_ceil(u64::from(longest)).max(1) as u32;
    let smaller =
        (longest > LONGEST_SIDE).then(|| image::imageops::thumbnail(picture, scaled(width), scaled(height)));
    let picture = smaller.as_ref().unwrap_or(picture);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)
        .encode_image(picture)
        .map_err(|e| Error::new(ErrorKind::Image, "cannot encode a picture for the report").with_source(e))?;
    Ok(Some(Embedded { width: picture.width(), height: picture.height(), jpeg }))
}

fn write_picture(out: &mut impl Write, picture: &Embedded, what: &str, name: &str) -> io::Result<()> {
    let Embedded { width, height, jpeg } = picture;
    write!(out, r#"<img width="{width}" height="{height}" decoding="async" alt="{what} {}" "#, Text(name))?;
    write!(out, r#"src="data:image/jpeg;base64,"#)?;
    let mut encoder = base64::write::EncoderWriter::new(&mut *out, &STANDARD);
    encoder.write_all(jpeg)?;
    encoder.finish()?;
    drop(encoder);
    writeln!(out, r#"" />"#)
}

pub(super) fn write_card(
    out: &mut impl Write,
    entry: &Entry,
    anchor: &str,
    original: Option<&Embedded>,
    overlay: Option<&Embedded>,
) -> io::Result<()> {
    let kind = entry.kind().word();
    let wrong = contradiction(entry.kind(), entry.label());
    let bare = original.is_none() && overlay.is_none();
    write!(out, r#"<article id="{anchor}" class="card {kind}"#)?;
    write!(out, "{}{}", if wrong.is_some() { " wrong" } else { "" }, if bare { " bare" } else { "" })?;
    writeln!(out, r#"">"#)?;
    if !bare {
        // Side by side, long flat parts such as boards would be strips, and tall ones would fill a screen
        // each.
        let shape = match original.or(overlay) {
            Some(p) if p.width > p.height * 2 => " wide",
            Some(p) if p.height * 4 > p.width * 5 => " tall",
            _ => "",
        };
        writeln!(out, r#"<div class="pictures{shape}">"#)?;
        if let Some(picture) = original {
            write_picture(out, picture, "Picture", entry.name)?;
        }
        if let Some(picture) = overlay {
            write_picture(out, picture, "Anomaly map over", entry.name)?;
        }
        writeln!(out, "</div>")?;
    }
    writeln!(out, r#"<div class="words">"#)?;
    writeln!(out, "<h3><bdi>{}</bdi></h3>", Text(entry.name))?;
    write!(out, r#"<p class="badges"><span class="badge {kind}">{kind}</span>"#)?;
    if let Some(wrong) = wrong {
        write!(out, r#"<span class="badge wrong">{wrong}</span>"#)?;
    }
    match entry.truth {
        None => {}
        Some(Truth::Good) => write!(out, r#"<span class="truth">labeled good</span>"#)?,
        Some(Truth::Defective(defect)) => {
            write!(out, r#"<span class="truth">labeled defective: <bdi>{}</bdi></span>"#, Text(defect))?;
        }
    }
    writeln!(out, "</p>")?;
    if let Verdict::Fault(reason) = entry.verdict {
        writeln!(out, r#"<p class="reason">{}</p>"#, Text(reason))?;
    }
    write_score(out, entry)?;
    write_regions(out, entry.regions, entry.score.map(|(_, threshold)| threshold))?;
    if let Some(times) = entry.times {
        writeln!(
            out,
            r#"<p class="small">features {} · residuals {} · classify {} ms</p>"#,
            milliseconds(times.features),
            milliseconds(times.residuals),
            milliseconds(times.classify)
        )?;
    }
    writeln!(out, "</div>\n</article>")
}

fn write_score(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let (Some((score, threshold)), Some(ratio)) = (entry.score, entry.ratio()) else {
        return Ok(());
    };
    // The threshold is the middle of the bar: passes end left of it, rejects right of it.
    let filled = (ratio * 50.0).clamp(0.0, 100.0);
    let multiple = multiple(ratio);
    writeln!(
        out,
        r#"<div class="ratio"><b>{multiple}</b><div class="meter" role="img" aria-label="{multiple} the threshold"><i style="width:{filled:.1}%"></i></div></div>"#
    )?;
    let (score, threshold) = (number(score), number(threshold));
    writeln!(out, r#"<p class="small">score {score} · threshold {threshold}</p>"#)
}

fn write_regions(out: &mut impl Write, regions: &[Region], threshold: Option<f32>) -> io::Result<()> {
    if regions.is_empty() {
        return Ok(());
    }
    writeln!(out, r#"<ul class="regions">"#)?;
    for Region { x, y, width, height, peak, .. } in regions.iter().take(MAX_REGIONS) {
        write!(out, "<li>{width} × {height} px at x {x}, y {y}")?;
        let peak = threshold.map(|t| ratio(*peak, t)).filter(|r| r.is_finite());
        if let Some(peak) = peak {
            write!(out, ", peak {}×", number(peak))?;
        }
        writeln!(out, "</li>")?;
    }
    if regions.len() > MAX_REGIONS {
        writeln!(out, "<li>and {} more</li>", regions.len() - MAX_REGIONS)?;
    }
    writeln!(out, "</ul>")
}
