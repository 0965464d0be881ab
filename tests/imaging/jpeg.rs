//! A JPEG is taken when all of its picture is there.

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use proptest::prelude::*;
use proptest::sample::select;
use weakrest::{ErrorKind, Frame};

use crate::by_hand::encoded;
use crate::jpeg_by_hand::{Picture, Scan};

/// Why bytes are not taken.
fn reason(bytes: &[u8]) -> String {
    match Frame::decode(bytes) {
        Ok(_) => panic!("this was taken"),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Image, "{}", e.chain());
            e.chain()
        }
    }
}

#[track_caller]
fn damaged(what: &str, bytes: &[u8]) {
    let reason = reason(bytes);
    assert!(reason.contains("damaged or cut short"), "{what}: {reason}");
}

fn noise(i: u32) -> u8 {
    (i.wrapping_mul(2_654_435_761) >> 24) as u8
}

/// A picture with texture, as photographs have it.
fn photograph() -> Vec<u8> {
    let pixel =
        |x: u32, y: u32, c: u32| ((x * (c + 1) + y * 2) % 160) as u8 + noise(x * 977 + y * 131 + c) / 8;
    let picture = RgbImage::from_fn(200, 150, |x, y| Rgb([pixel(x, y, 0), pixel(x, y, 1), pixel(x, y, 2)]));
    encoded(&DynamicImage::from(picture), ImageFormat::Jpeg)
}

/// Where the compressed data begin; they end two bytes before the end.
fn data(jpeg: &[u8]) -> usize {
    let at = jpeg.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
    at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]))
}

#[test]
fn data_that_were_cut_and_closed_are_refused() {
    let whole = photograph();
    let (from, to) = (data(&whole), whole.len() - 2);
    for end in (from..to).step_by(7).chain(to - 20..to) {
        damaged("cut and closed", &[&whole[..end], &[0xff, 0xd9]].concat());
    }
}

/// Of every 150 bytes that are removed, overwritten or given twice.
#[test]
fn holes_are_refused() {
    let whole = photograph();
    let (from, to) = (data(&whole), whole.len() - 2);
    for at in (from..to - 150).step_by(41) {
        let (before, hole, after) = (&whole[..at], &whole[at..at + 150], &whole[at + 150..]);
        damaged("bytes removed", &[before, after].concat());
        damaged("zeros", &[before, &[0; 150], after].concat());
        damaged("ones", &[before, &[0xff; 150], after].concat());
        damaged("twice", &[before, hole, hole, after].concat());
    }
}

#[test]
fn what_stands_around_a_picture_does_not_matter() {
    let whole = photograph();
    let frame = Frame::decode(&whole).unwrap();
    let (body, end) = whole.split_at(whole.len() - 2);
    for (what, file) in [
        ("zeros behind", [&whole[..], &[0; 999]].concat()),
        ("another picture behind", [&whole[..], &whole].concat()),
        ("a piece of one behind", [&whole[..], &whole[..500]].concat()),
        ("two beginnings", [&whole[..2], &whole].concat()),
        ("fill bytes", [body, &[0xff; 9], end].concat()),
        ("zeros in front of the end", [body, &[0; 9], end].concat()),
        ("a preview", {
            let mut file = whole[..2].to_vec();
            file.extend([0xff, 0xe1]);
            let preview = encoded(&DynamicImage::from(GrayImage::new(16, 16)), ImageFormat::Jpeg);
            file.extend((preview.len() as u16 + 2).to_be_bytes());
            file.extend(preview);
            file.extend(&whole[2..]);
            file
        }),
    ] {
        assert!(Frame::decode(&file).unwrap_or_else(|e| panic!("{what}: {}", e.chain())) == frame, "{what}");
    }
    damaged("no end", body);
    damaged("data go on", &[body, &[0x12, 0x34], end].concat());
    damaged("the beginning of one, then another", &[&whole[..whole.len() / 2], &whole].concat());
}

/// As many cameras send them: the tables that all use are left out.
#[test]
fn missing_huffman_tables_are_those_of_the_standard() {
    for picture in [
        photograph(),
        encoded(
            &DynamicImage::from(GrayImage::from_fn(60, 33, |x, y| Luma([(x * y) as u8]))),
            ImageFormat::Jpeg,
        ),
    ] {
        let mut bare = picture.clone();
        while let Some(at) = bare.windows(2).position(|w| w == [0xff, 0xc4]) {
            let length = usize::from(u16::from_be_bytes([bare[at + 2], bare[at + 3]]));
            bare.drain(at..at + 2 + length);
        }
        assert!(bare.len() < picture.len() - 100);
        assert_eq!(Frame::decode(&bare).unwrap(), Frame::decode(&picture).unwrap());
        let middle = bare.len() / 2;
        damaged("a hole", &[&bare[..middle], &bare[middle + 150..]].concat());
    }
}

#[test]
fn kinds_that_are_not_read_are_not_called_damaged() {
    let whole = photograph();
    let frame = whole.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    for (at, value, says) in [
        (frame + 1, 0xc3, "a lossless JPEG is not supported"),
        (frame + 1, 0xc9, "arithmetic coding is not supported"),
        (frame + 1, 0xf7, "a JPEG-LS is not supported"),
        (frame + 1, 0xc5, "a hierarchical JPEG is not supported"),
        (frame + 4, 12, "12 bits per value is not supported"),
        (frame + 9, 2, "damaged"),
    ] {
        let mut file = whole.clone();
        file[at] = value;
        let reason = reason(&file);
        assert!(reason.contains(says), "{reason}");
    }
}

/// A few bytes may stand for all of a large picture, many times over.
#[test]
fn pictures_of_very_many_scans_are_refused() {
    let each = |bits| (1..64).map(move |k| scan(&[0], (k, k), bits));
    let scans: Vec<Scan> = std::iter::once(scan(&[0], (0, 0), (0, 0))).chain(each((0, 1))).collect();
    let picture = |scans: Vec<Scan>| Picture::new((8, 8), &[(1, 1)], true, scans).encode();
    damaged("each without its last bit", &picture(scans.clone()));
    let reason = reason(&picture(scans.into_iter().chain(each((1, 0))).collect()));
    assert!(reason.contains("a JPEG with too many scans is not supported"), "{reason}");
}

fn scan(components: &[usize], spectrum: (usize, usize), bits: (u8, u8)) -> Scan {
    Scan { components: components.to_vec(), spectrum, bits }
}

/// How encoders divide a picture of so many components.
fn scripts(components: usize, progressive: bool) -> Vec<Vec<Scan>> {
    let all: Vec<usize> = (0..components).collect();
    let each = |spectrum, bits| all.iter().map(move |c| scan(&[*c], spectrum, bits)).collect::<Vec<_>>();
    if !progressive {
        return vec![vec![scan(&all, (0, 63), (0, 0))], each((0, 63), (0, 0))];
    }
    vec![
        [vec![scan(&all, (0, 0), (0, 0))], each((1, 63), (0, 0))].concat(),
        [
            vec![scan(&all, (0, 0), (0, 1))],
            each((1, 5), (0, 2)),
            each((6, 63), (0, 2)),
            each((1, 63), (2, 1)),
            vec![scan(&all, (0, 0), (1, 0))],
            each((1, 63), (1, 0)),
        ]
        .concat(),
        [
            each((0, 0), (0, 3)),
            each((0, 0), (3, 2)),
            each((1, 63), (0, 1)),
            each((0, 0), (2, 1)),
            each((0, 0), (1, 0)),
            each((1, 63), (1, 0)),
        ]
        .concat(),
    ]
}

/// Pictures of all kinds, with whatever is in them.
fn pictures() -> impl Strategy<Value = Picture> {
    let samplings: Vec<Vec<(usize, usize)>> = vec![
        vec![(1, 1)],
        vec![(1, 1); 3],
        vec![(2, 1), (1, 1), (1, 1)],
        vec![(1, 2), (1, 1), (1, 1)],
        vec![(2, 2), (1, 1), (1, 1)],
    ];
    (select(samplings), any::<bool>(), 1u16..50, 1u16..50, 0usize..5, any::<prop::sample::Index>())
        .prop_flat_map(|(sampling, progressive, width, height, restart, script)| {
            let scripts = scripts(sampling.len(), progressive);
            let mut picture =
                Picture::new((width, height), &sampling, progressive, script.get(&scripts).clone());
            picture.restart = restart;
            let count = picture.blocks.iter().map(Vec::len).sum::<usize>();
            // Place and value of some coefficients.
            let coefficients = prop::collection::vec((0..64usize, -60..60i32), 0..8);
            prop::collection::vec(coefficients, count).prop_map(move |values| {
                let mut picture = picture.clone();
                for (block, values) in picture.blocks.iter_mut().flatten().zip(values) {
                    for (k, value) in values {
                        block[k] = value;
                    }
                }
                picture
            })
        })
}

fn readable() -> impl Strategy<Value = Picture> {
    pictures().prop_filter("not read", |p| p.progressive || p.scans.len() == 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever the scans, the pixels are those of the plainest file.
    #[test]
    fn whole_pictures_of_every_kind_are_read(picture in pictures()) {
        let plain = Picture {
            progressive: false,
            scans: scripts(picture.sampling.len(), false).swap_remove(0),
            restart: 0,
            keep: vec![usize::MAX],
            ..picture.clone()
        };
        let read = |file: &[u8]| Frame::decode(file).map_err(|e| TestCaseError::fail(e.chain()));
        let frame = read(&plain.encode())?;
        prop_assert_eq!((frame.width(), frame.height()), (picture.size.0.into(), picture.size.1.into()));
        if !picture.progressive && picture.scans.len() > 1 {
            prop_assert!(reason(&picture.encode()).contains("baseline JPEG with several scans"));
        } else {
            let other = read(&picture.encode())?;
            let differ = frame.pixels().iter().zip(other.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
            let how = (&picture.sampling, picture.progressive, picture.restart, picture.scans.len());
            prop_assert!(other == frame, "{:?} by {:?}: {:?}", how, differ, picture.size);
        }
    }

    /// Even where all that is there is in order.
    #[test]
    fn a_missing_block_or_scan_is_told(picture in readable(), which: prop::sample::Index, length: prop::sample::Index) {
        let which = which.index(picture.scans.len());
        let mut cut = picture.clone();
        cut.keep[which] = length.index(picture.length(which));
        // The lowest bits of the last blocks may be taken from the padding.
        let (cut, whole) = (cut.encode(), picture.encode());
        if picture.scans[which].bits.0 == 0 || cut.len() < whole.len() {
            damaged("too few blocks", &cut);
        }
        let mut fewer = picture.clone();
        fewer.scans.remove(which);
        fewer.keep.remove(which);
        damaged("too few scans", &fewer.encode());
    }

    #[test]
    fn restart_markers_come_in_their_order(picture in readable(), which: prop::sample::Index, change in 1u8..8) {
        let file = picture.encode();
        let begin = data(&file);
        let markers: Vec<usize> = (begin..file.len() - 1)
            .filter(|&i| file[i] == 0xff && (0xd0..0xd8).contains(&file[i + 1]))
            .collect();
        prop_assume!(!markers.is_empty());
        let at = *which.get(&markers);
        let mut other = file.clone();
        other[at + 1] = 0xd0 + (file[at + 1] - 0xd0 + change) % 8;
        damaged("another number", &other);
        damaged("a lost marker", &[&file[..at], &file[at + 2..]].concat());
        let next = markers.iter().copied().find(|&next| next > at).unwrap_or(file.len() - 2);
        damaged("a lost part", &[&file[..at], &file[next..]].concat());
    }
}
