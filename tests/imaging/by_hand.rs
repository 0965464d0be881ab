//! Picture files written byte by byte, so that they hold what no encoder would write.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat};

/// A PNG whose chunks are all given by the caller, after the signature.
pub fn png_of(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in chunks {
        file.extend((data.len() as u32).to_be_bytes());
        let body = [kind.as_slice(), data].concat();
        file.extend(&body);
        file.extend(crc32(&body).to_be_bytes());
    }
    file
}

/// The header chunk. `color` is PNG's: 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha.
pub fn ihdr(width: u32, height: u32, bits: u8, color: u8) -> (&'static [u8; 4], Vec<u8>) {
    let mut data = Vec::new();
    data.extend(width.to_be_bytes());
    data.extend(height.to_be_bytes());
    data.extend([bits, color, 0, 0, 0]);
    (b"IHDR", data)
}

/// The pixels, as lines of bytes.
pub fn idat(lines: &[Vec<u8>]) -> (&'static [u8; 4], Vec<u8>) {
    let raw: Vec<u8> = lines.iter().flat_map(|line| [vec![0], line.clone()].concat()).collect();
    (b"IDAT", zlib_stored(&raw))
}

pub fn iend() -> (&'static [u8; 4], Vec<u8>) {
    (b"IEND", Vec::new())
}

/// A gray or color PNG from lines of bytes.
pub fn png(width: u32, bits: u8, color: u8, lines: &[Vec<u8>]) -> Vec<u8> {
    png_of(&[ihdr(width, lines.len() as u32, bits, color), idat(lines), iend()])
}

fn zlib_stored(raw: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = raw.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend(block);
    }
    out.extend(adler32(raw).to_be_bytes());
    out
}

/// A zlib stream of a few bytes that unpacks to `length` zeros, as far as 258 divides it, and then ends badly.
pub fn zlib_bomb(length: usize) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let (mut bits, mut held) = (0u64, 0);
    let mut push = |value: u64, count: u32, out: &mut Vec<u8>| {
        bits |= value << held;
        held += count;
        while held >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            held -= 8;
        }
    };
    // A last block with fixed codes: a literal zero, then copies of 258 bytes from one byte back.
    push(0b011, 3, &mut out);
    push(0b0000_1100, 8, &mut out);
    for _ in 0..length / 258 {
        push(0b1010_0011, 8, &mut out);
        push(0, 5, &mut out);
    }
    push(0, 15, &mut out);
    out
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    for &byte in bytes {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}

/// An encoder's file.
pub fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// EXIF data that only say how the picture is turned.
pub fn exif(orientation: u16) -> Vec<u8> {
    let mut data = b"II*\0\x08\0\0\0".to_vec();
    data.extend(1u16.to_le_bytes());
    data.extend(0x0112u16.to_le_bytes());
    data.extend(3u16.to_le_bytes());
    data.extend(1u32.to_le_bytes());
    data.extend(u32::from(orientation).to_le_bytes());
    data.extend(0u32.to_le_bytes());
    data
}

/// Puts EXIF data into a JPEG file, as cameras do.
pub fn jpeg_with(jpeg: &[u8], exif: &[u8]) -> Vec<u8> {
    let body = [b"Exif\0\0".as_slice(), exif].concat();
    let mut file = jpeg[..2].to_vec();
    file.extend([0xff, 0xe1]);
    file.extend((body.len() as u16 + 2).to_be_bytes());
    file.extend(body);
    file.extend(&jpeg[2..]);
    file
}

/// A gray TIFF file of one or more pages, uncompressed, 8 bits.
pub fn tiff(width: u16, height: u16, pixels: &[u8], pages: usize, big: bool, orientation: u16) -> Vec<u8> {
    let short = |v: u16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let long = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut file: Vec<u8> = if big { b"MM".to_vec() } else { b"II".to_vec() };
    file.extend(short(42));
    let first = 8 + pixels.len().next_multiple_of(2);
    file.extend(long(first as u32));
    file.extend(pixels);
    file.resize(first, 0);
    let tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (274, orientation),
        (277, 1),
        (278, height),
        (279, width.wrapping_mul(height)),
    ];
    for page in 0..pages {
        file.extend(short(tags.len() as u16));
        for (tag, value) in tags {
            file.extend(short(tag));
            file.extend(short(3));
            file.extend(long(1));
            file.extend(short(value));
            file.extend(short(0));
        }
        let next = if page + 1 < pages { file.len() as u32 + 4 } else { 0 };
        file.extend(long(next));
    }
    file
}

/// A little-endian TIFF file of one page with these tags, each a number of 16 bits; those that say where the pixels lie
/// are added.
pub fn tiff_of(pixels: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut file = b"II*\0".to_vec();
    let first = 8 + pixels.len().next_multiple_of(2);
    file.extend((first as u32).to_le_bytes());
    file.extend(pixels);
    file.resize(first, 0);
    let mut tags = [tags, &[(273, 8), (279, pixels.len() as u16)]].concat();
    tags.sort();
    file.extend((tags.len() as u16).to_le_bytes());
    for (tag, value) in tags {
        file.extend([tag, 3, 1, 0, value, 0].iter().flat_map(|v: &u16| v.to_le_bytes()));
    }
    file.extend([0; 4]);
    file
}
