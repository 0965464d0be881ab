//! `pictures.sha256`: which pictures are in the bank, and which of them show the same part.

use std::collections::HashMap;

use crate::files;

/// SHA-256 of a picture's pixels.
pub(crate) type Digest = [u8; 32];

/// The pictures in the bank, in its order. A varied copy follows its original and has its digest and part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pictures {
    digests: Vec<Digest>,
    parts: Vec<usize>,
    /// The pictures of each part, ascending.
    of_part: Vec<Vec<usize>>,
}

impl Pictures {
    /// Pictures with a number for the part that they show. Equal numbers: the same part.
    pub fn new(pictures: impl IntoIterator<Item = (Digest, usize)>) -> Self {
        let mut all = Pictures::default();
        let mut numbers: HashMap<usize, usize> = HashMap::new();
        for (picture, (digest, part)) in pictures.into_iter().enumerate() {
            let next = all.of_part.len();
            let part = *numbers.entry(part).or_insert(next);
            if part == next {
                all.of_part.push(Vec::new());
            }
            all.of_part[part].push(picture);
            all.digests.push(digest);
            all.parts.push(part);
        }
        all
    }

    /// One line per picture: its digest in hexadecimal, two spaces, the number of its part.
    pub fn from_text(bytes: &[u8]) -> Option<Self> {
        let picture = |line: &str| -> Option<(Digest, usize)> {
            let (digest, part) = line.split_once("  ")?;
            let pairs = digest.as_bytes().chunks(2).map(|p| std::str::from_utf8(p).ok());
            let bytes: Option<Vec<u8>> = pairs.map(|p| u8::from_str_radix(p?, 16).ok()).collect();
            Some((bytes?.try_into().ok()?, part.parse().ok()?))
        };
        let lines: Option<Vec<_>> = std::str::from_utf8(bytes).ok()?.lines().map(picture).collect();
        lines.map(Pictures::new)
    }

    pub fn to_text(&self) -> String {
        let lines = self.digests.iter().zip(&self.parts);
        lines.map(|(digest, part)| format!("{}  {part}\n", files::hex(digest))).collect()
    }

    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// SHA-256 of each picture's pixels.
    #[cfg(feature = "workshop")]
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Each digest's picture.
    pub fn numbers(&self) -> HashMap<Digest, usize> {
        let mut numbers = HashMap::new();
        for (picture, digest) in self.digests.iter().enumerate() {
            numbers.entry(*digest).or_insert(picture);
        }
        numbers
    }

    /// The number of the part that a picture shows, from 0.
    pub fn part(&self, picture: usize) -> usize {
        self.parts[picture]
    }

    /// All pictures of the part that a picture shows, with itself, ascending. None without a picture.
    pub fn of_same_part(&self, picture: Option<usize>) -> &[usize] {
        picture.map_or(&[], |picture| &self.of_part[self.parts[picture]])
    }

    /// The pictures of each part.
    pub fn parts(&self) -> &[Vec<usize>] {
        &self.of_part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_they_were_when_written() {
        let pictures = Pictures::new([(3, 7), (4, 2), (5, 7), (6, 9)].map(|(d, part)| ([d; 32], part)));
        assert_eq!(pictures.parts(), [vec![0, 2], vec![1], vec![3]]);
        assert_eq!(pictures.of_same_part(Some(2)), [0, 2]);
        assert_eq!(pictures.of_same_part(None), [0; 0]);
        assert_eq!(pictures.numbers()[&[6; 32]], 3);
        assert_eq!(Pictures::from_text(pictures.to_text().as_bytes()), Some(pictures));
        for wrong in
            ["00  0", "zz  0", &format!("{}\n", "00".repeat(32)), &format!("{}  -1\n", "00".repeat(32))]
        {
            assert_eq!(Pictures::from_text(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
