//! Masks as run lengths, the form of the page and of other tools.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Frame, Mask};

/// A mask as run lengths along its rows from the top left: the number of background pixels, of defective
/// pixels, of background pixels, and so on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rle {
    /// Height and width in pixels.
    pub size: [u32; 2],
    /// Lengths of the runs.
    pub counts: Vec<u64>,
}

/// Run lengths of bits. The first run is of `false`.
pub fn runs(bits: impl IntoIterator<Item = bool>) -> Vec<u64> {
    let (mut counts, mut current) = (vec![0], false);
    for bit in bits {
        if bit != current {
            counts.push(0);
            current = bit;
        }
        if let Some(last) = counts.last_mut() {
            *last += 1;
        }
    }
    counts
}

/// The bits of run lengths; `None` if they are not `count` bits.
pub fn bits_from_runs(counts: &[u64], count: usize) -> Option<Vec<bool>> {
    let total = counts.iter().try_fold(0u64, |sum, n| sum.checked_add(*n))?;
    if total != count as u64 {
        return None;
    }
    let mut bits = Vec::with_capacity(count);
    for (i, &n) in counts.iter().enumerate() {
        bits.resize(bits.len() + n as usize, i % 2 == 1);
    }
    Some(bits)
}

impl From<&Mask> for Rle {
    fn from(mask: &Mask) -> Rle {
        Rle { size: [mask.height(), mask.width()], counts: runs(mask.bits().iter().copied()) }
    }
}

impl Rle {
    /// The mask of a picture of `width` × `height` pixels.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when its size differs or its runs do not fill it.
    pub fn mask(&self, (width, height): (u32, u32)) -> Result<Mask> {
        let [h, w] = self.size;
        if (w, h) != (width, height) || u64::from(w) * u64::from(h) > Frame::MAX_PIXELS {
            let text = format!("the mask has {w}×{h} pixels, but its picture {width}×{height}");
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let bits = bits_from_runs(&self.counts, w as usize * h as usize).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("the mask's runs do not make {w}×{h} pixels"))
        })?;
        Mask::new(w, h, bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::imaging::png_from_mask;

    #[test]
    fn runs_begin_with_what_is_not_defective() {
        let mask = Mask::new(3, 2, vec![true, true, false, false, false, true]).unwrap();
        assert_eq!(Rle::from(&mask), Rle { size: [2, 3], counts: vec![0, 2, 3, 1] });
        assert_eq!(Rle::from(&Mask::empty(3, 2)).counts, [6]);
    }

    #[test]
    fn runs_that_do_not_fit_are_refused() {
        for (size, counts) in [
            ([2, 3], vec![5]),
            ([2, 3], vec![7]),
            ([2, 3], vec![]),
            ([2, 3], vec![u64::MAX, 7]),
            ([3, 2], vec![6]),
            ([u32::MAX, u32::MAX], vec![6]),
        ] {
            assert!(Rle { size, counts: counts.clone() }.mask((3, 2)).is_err(), "{size:?} {counts:?}");
        }
    }

    proptest! {
        #[test]
        fn masks_survive_runs_and_files(width in 1u32..20, bits in prop::collection::vec(any::<bool>(), 1..200)) {
            let height = bits.len() as u32 / width;
            prop_assume!(height > 0);
            let mask = Mask::new(width, height, bits[..(width * height) as usize].to_vec()).unwrap();
            prop_assert_eq!(&Rle::from(&mask).mask((width, height)).unwrap(), &mask);
            let frame = Frame::decode(&png_from_mask(&mask).unwrap()).unwrap();
            let read: Vec<bool> = frame.pixels().iter().map(|&v| v > 127).collect();
            prop_assert_eq!(read.as_slice(), mask.bits());
        }
    }
}
