//! Rounding to screening values, for rows and queries.

/// Dimensions that are rounded together.
pub const CHUNK: usize = 16;

/// Most stages of screening.
pub const STAGES: usize = 4;

/// Numbers of lines after which a block is compared with the bounds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stages {
    pub count: usize,
    ends: [usize; STAGES],
}

impl Stages {
    /// The leading dimensions usually decide. A comparison costs about as much as two lines.
    pub fn of(depth: usize) -> Self {
        let mut stages = Stages::default();
        let length = if depth < 8 { 2 } else { depth.div_ceil(STAGES).next_multiple_of(2).max(4) };
        for stage in 0..STAGES {
            let end = if stage + 1 == STAGES || depth < (stage + 1) * length + 2 {
                depth
            } else {
                (stage + 1) * length
            };
            stages.ends[stage] = end;
            stages.count = stage + 1;
            if end == depth {
                break;
            }
        }
        stages
    }

    #[inline(always)]
    pub fn ends(&self) -> &[usize] {
        &self.ends[..self.count]
    }
}

/// The values, filled up with zeros.
#[inline(always)]
pub fn filled_up<T: Copy + Default>(values: &[T]) -> [T; CHUNK] {
    let mut chunk = [T::default(); CHUNK];
    for (to, from) in chunk.iter_mut().zip(values) {
        *to = *from;
    }
    chunk
}

/// Adds the squares of four screening values to each sum.
#[inline(always)]
pub fn add_squares<const N: usize>(sums: &mut [i32; N], values: &[[u8; 4]; N], offset: u8) {
    for (sum, values) in sums.iter_mut().zip(values) {
        for value in values {
            let value = i32::from((value ^ offset).cast_signed());
            *sum += value * value;
        }
    }
}
