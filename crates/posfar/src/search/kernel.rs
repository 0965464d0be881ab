//! The inner loops, one per instruction set: 16 candidates at a time, in whole numbers of eight bits.
//!
//! The arithmetic is exact, so all of them agree to the last bit.

/// The instruction set that a search uses. It changes the time, never the result.
///
/// ```
/// use posfar::search::{Instructions, Scratch};
///
/// let slow = Scratch::new(Instructions::Portable);
/// assert!(Instructions::available().contains(&Instructions::best()));
/// # let _ = slow;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// Plain Rust.
    Portable,
    /// AVX2 (x86-64 since about 2013).
    Avx2,
    /// AVX-512 with VNNI (x86-64 since about 2019).
    Avx512,
    /// NEON (every 64-bit ARM, such as Raspberry Pi 4).
    Neon,
    /// NEON with dot products (ARMv8.2 and later, such as Jetson Orin).
    DotProduct,
}

/// Candidates side by side.
pub const LANES: usize = 16;
/// Queries side by side.
pub const QUERIES: usize = 8;
/// Blocks of [`LANES`] candidates whose boxes are compared together.
pub const BLOCKS: usize = 16;
/// Leading dimensions of a box.
pub const BOX: usize = 8;

/// Four dimensions of sixteen candidates.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [[u8; 4]; LANES]);

/// One whole number for each of sixteen candidates.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Terms(pub [i32; LANES]);

/// Borders of 16 blocks in their leading dimensions, as unsigned values: 128 is added.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Boxes {
    pub low: [[u8; BLOCKS]; BOX],
    pub high: [[u8; BLOCKS]; BOX],
}

impl Boxes {
    pub const EMPTY: Boxes = Boxes { low: [[255; BLOCKS]; BOX], high: [[0; BLOCKS]; BOX] };

    /// The blocks within a squared distance of a box of queries: one bit each.
    #[inline(always)]
    pub fn within(&self, low: &[u8; BOX], high: &[u8; BOX], limit: u32) -> u16 {
        let mut squares = [0u32; BLOCKS];
        for dim in 0..BOX {
            for (block, square) in squares.iter_mut().enumerate() {
                let below = self.low[dim][block].saturating_sub(high[dim]);
                let above = low[dim].saturating_sub(self.high[dim][block]);
                let gap = u16::from(below | above);
                *square += u32::from(gap * gap);
            }
        }
        let mut alive = 0;
        for (block, square) in squares.iter().enumerate() {
            alive |= u16::from(*square <= limit) << block;
        }
        alive
    }
}

/// An instruction set's way of multiplying.
///
/// # Safety
/// Every function may only be called on a processor that has the instruction set.
pub trait Screen {
    /// Sixteen sums.
    type Sums: Copy;
    /// Added to a candidate's values: some instructions need them unsigned.
    const OFFSET: u8;
    /// Largest amount of a query's value for which sums cannot overflow.
    const LIMIT: f32;

    /// Terms divided by a power of two, rounded down.
    unsafe fn terms(terms: &Terms, shift: u32) -> Self::Sums;
    unsafe fn add(a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// Adds the products of four dimensions of a query, packed in `word`, with those of the candidates.
    unsafe fn dot(sums: Self::Sums, line: &Line, word: i32) -> Self::Sums;
    /// The sums of at least `bound`: one bit per candidate.
    unsafe fn at_least(sums: Self::Sums, bound: i32) -> u16;
    unsafe fn store(sums: Self::Sums) -> Terms;

    /// Hints that these values are needed soon.
    #[inline(always)]
    fn prefetch(_values: &[i16]) {}

    /// Squared differences of a query and a row in units, summed up over every eighth dimension.
    #[inline(always)]
    unsafe fn squares(query: &[[f32; 8]], row: &[[i16; 8]], unit: f32) -> [f32; 8] {
        let mut sums = [0.0; 8];
        for (query, row) in query.iter().zip(row) {
            for i in 0..8 {
                let difference = query[i] - f32::from(row[i]) * unit;
                sums[i] += difference * difference;
            }
        }
        sums
    }
}

/// Plain Rust.
pub struct Portable;

impl Screen for Portable {
    type Sums = [i32; LANES];
    const OFFSET: u8 = 0;
    const LIMIT: f32 = 127.0;

    #[inline(always)]
    unsafe fn terms(terms: &Terms, shift: u32) -> Self::Sums {
        terms.0.map(|t| t >> shift)
    }

    #[inline(always)]
    unsafe fn add(mut a: Self::Sums, b: Self::Sums) -> Self::Sums {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
        a
    }

    #[inline(always)]
    unsafe fn dot(mut sums: Self::Sums, line: &Line, word: i32) -> Self::Sums {
        let word = word.to_le_bytes().map(|b| i16::from(b.cast_signed()));
        for (sum, values) in sums.iter_mut().zip(&line.0) {
            let product = |i: usize| i16::from(values[i].cast_signed()) * word[i];
            *sum += i32::from(product(0) + product(1)) + i32::from(product(2) + product(3));
        }
        sums
    }

    #[inline(always)]
    unsafe fn at_least(sums: Self::Sums, bound: i32) -> u16 {
        let mut mask = 0;
        for (lane, sum) in sums.iter().enumerate() {
            mask |= u16::from(*sum >= bound) << lane;
        }
        mask
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums) -> Terms {
        Terms(sums)
    }
}

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::{Line, Screen, Terms, Work};

    /// AVX-512 with VNNI: sixty-four products in one instruction.
    pub struct Avx512;

    impl Screen for Avx512 {
        type Sums = __m512i;
        const OFFSET: u8 = 128;
        const LIMIT: f32 = 127.0;

        #[inline(always)]
        unsafe fn terms(terms: &Terms, shift: u32) -> __m512i {
            // SAFETY: the caller has the instruction set; `Terms` is as large and as aligned as a register.
            unsafe {
                let terms = _mm512_load_si512(std::ptr::from_ref(terms).cast());
                _mm512_sra_epi32(terms, _mm_cvtsi32_si128(shift as i32))
            }
        }

        #[inline(always)]
        unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: the caller has the instruction set.
            unsafe { _mm512_add_epi32(a, b) }
        }

        #[inline(always)]
        unsafe fn dot(sums: __m512i, line: &Line, word: i32) -> __m512i {
            // SAFETY: as in `terms`.
            unsafe {
                let values = _mm512_load_si512(std::ptr::from_ref(line).cast());
                _mm512_dpbusd_epi32(sums, values, _mm512_set1_epi32(word))
            }
        }

        #[inline(always)]
        unsafe fn at_least(sums: __m512i, bound: i32) -> u16 {
            // SAFETY: the caller has the instruction set.
            unsafe { _mm512_cmpge_epi32_mask(sums, _mm512_set1_epi32(bound)) }
        }

        #[inline(always)]
        unsafe fn store(sums: __m512i) -> Terms {
            let mut terms = Terms([0; 16]);
            // SAFETY: as in `terms`.
            unsafe { _mm512_store_si512(std::ptr::from_mut(&mut terms).cast(), sums) };
            terms
        }

        #[inline(always)]
        fn prefetch(values: &[i16]) {
            prefetch(values);
        }

        #[inline(always)]
        unsafe fn squares(query: &[[f32; 8]], row: &[[i16; 8]], unit: f32) -> [f32; 8] {
            // SAFETY: the caller has the instruction set.
            unsafe { squares(query, row, unit) }
        }
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
    pub unsafe fn avx512(work: impl Work) {
        // SAFETY: this function has the instructions.
        unsafe { work.run::<Avx512, 8>() }
    }

    #[target_feature(enable = "avx2")]
    pub unsafe fn avx2(work: impl Work) {
        // SAFETY: this function has the instructions.
        unsafe { work.run::<Avx2, 4>() }
    }

    #[inline(always)]
    fn prefetch(values: &[i16]) {
        for line in values.chunks(32) {
            // SAFETY: every x86-64 processor has the instruction, which reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }

    /// What the compiler does not see in the plain loop. Without fused products, for the same result everywhere.
    #[inline(always)]
    unsafe fn squares(query: &[[f32; 8]], row: &[[i16; 8]], unit: f32) -> [f32; 8] {
        // SAFETY: both callers have AVX2; loads and stores need no alignment.
        unsafe {
            let unit = _mm256_set1_ps(unit);
            let mut sums = _mm256_setzero_ps();
            for (query, row) in query.iter().zip(row) {
                let row = _mm256_cvtepi16_epi32(_mm_loadu_si128(std::ptr::from_ref(row).cast()));
                let row = _mm256_mul_ps(_mm256_cvtepi32_ps(row), unit);
                let difference = _mm256_sub_ps(_mm256_loadu_ps(query.as_ptr()), row);
                sums = _mm256_add_ps(sums, _mm256_mul_ps(difference, difference));
            }
            let mut stored = [0.0; 8];
            _mm256_storeu_ps(stored.as_mut_ptr(), sums);
            stored
        }
    }

    /// AVX2: products of unsigned and signed bytes are added in pairs of sixteen bits, which 7-bit queries cannot overflow.
    pub struct Avx2;

    impl Screen for Avx2 {
        type Sums = [__m256i; 2];
        const OFFSET: u8 = 128;
        const LIMIT: f32 = 64.0;

        #[inline(always)]
        unsafe fn terms(terms: &Terms, shift: u32) -> Self::Sums {
            // SAFETY: the caller has the instruction set; `Terms` is as large as two registers and aligned for them.
            unsafe {
                let terms: *const __m256i = std::ptr::from_ref(terms).cast();
                let shift = _mm_cvtsi32_si128(shift as i32);
                [
                    _mm256_sra_epi32(_mm256_load_si256(terms), shift),
                    _mm256_sra_epi32(_mm256_load_si256(terms.add(1)), shift),
                ]
            }
        }

        #[inline(always)]
        unsafe fn add(a: Self::Sums, b: Self::Sums) -> Self::Sums {
            // SAFETY: the caller has the instruction set.
            unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
        }

        #[inline(always)]
        unsafe fn dot(mut sums: Self::Sums, line: &Line, word: i32) -> Self::Sums {
            // SAFETY: as in `terms`.
            unsafe {
                let line: *const __m256i = std::ptr::from_ref(line).cast();
                let (word, ones) = (_mm256_set1_epi32(word), _mm256_set1_epi16(1));
                for (half, sum) in sums.iter_mut().enumerate() {
                    let pairs = _mm256_maddubs_epi16(_mm256_load_si256(line.add(half)), word);
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                }
                sums
            }
        }

        #[inline(always)]
        unsafe fn at_least(sums: Self::Sums, bound: i32) -> u16 {
            // SAFETY: the caller has the instruction set.
            unsafe {
                let bound = _mm256_set1_epi32(bound);
                let below = sums
                    .map(|s| _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(bound, s))) as u16);
                !(below[0] | below[1] << 8)
            }
        }

        #[inline(always)]
        unsafe fn store(sums: Self::Sums) -> Terms {
            let mut terms = Terms([0; 16]);
            let to: *mut __m256i = std::ptr::from_mut(&mut terms).cast();
            // SAFETY: as in `terms`.
            unsafe {
                _mm256_store_si256(to, sums[0]);
                _mm256_store_si256(to.add(1), sums[1]);
            }
            terms
        }

        #[inline(always)]
        fn prefetch(values: &[i16]) {
            prefetch(values);
        }

        #[inline(always)]
        unsafe fn squares(query: &[[f32; 8]], row: &[[i16; 8]], unit: f32) -> [f32; 8] {
            // SAFETY: the caller has the instruction set.
            unsafe { squares(query, row, unit) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub mod arm {
    use std::arch::aarch64::*;
    use std::arch::asm;

    use super::{Line, Screen, Terms, Work};

    /// NEON, with or without dot products: sixteen products in one instruction or in two, and two more to add them up.
    pub struct Neon<const DOT_PRODUCT: bool>;

    #[target_feature(enable = "neon,dotprod")]
    pub unsafe fn dot_product(work: impl Work) {
        // SAFETY: this function has the instructions.
        unsafe { work.run::<Neon<true>, 4>() }
    }

    #[target_feature(enable = "neon")]
    pub unsafe fn neon(work: impl Work) {
        // SAFETY: this function has the instructions.
        unsafe { work.run::<Neon<false>, 4>() }
    }

    impl<const DOT_PRODUCT: bool> Screen for Neon<DOT_PRODUCT> {
        type Sums = [int32x4_t; 4];
        const OFFSET: u8 = 0;
        const LIMIT: f32 = 127.0;

        #[inline(always)]
        unsafe fn terms(terms: &Terms, shift: u32) -> Self::Sums {
            // SAFETY: every aarch64 processor has NEON; `Terms` is as large as four registers.
            unsafe {
                let shift = vdupq_n_s32(-(shift as i32));
                let mut sums = [shift; 4];
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = vshlq_s32(vld1q_s32(terms.0.as_ptr().add(4 * i)), shift);
                }
                sums
            }
        }

        #[inline(always)]
        unsafe fn add(mut a: Self::Sums, b: Self::Sums) -> Self::Sums {
            for (a, b) in a.iter_mut().zip(b) {
                // SAFETY: every aarch64 processor has NEON.
                *a = unsafe { vaddq_s32(*a, b) };
            }
            a
        }

        #[inline(always)]
        unsafe fn dot(mut sums: Self::Sums, line: &Line, word: i32) -> Self::Sums {
            // SAFETY: the caller has the instruction; `Line` is as large as four registers.
            unsafe {
                let word = vreinterpretq_s8_s32(vdupq_n_s32(word));
                let line: *const i8 = std::ptr::from_ref(line).cast();
                for (i, sum) in sums.iter_mut().enumerate() {
                    let values = vld1q_s8(line.add(16 * i));
                    if !DOT_PRODUCT {
                        // Two products add up to at most 2 * 127 * 127, which sixteen bits hold.
                        let low = vmull_s8(vget_low_s8(values), vget_low_s8(word));
                        let pairs = vpaddq_s16(low, vmull_high_s8(values, word));
                        *sum = vpadalq_s16(*sum, pairs);
                        continue;
                    }
                    // The intrinsic is not stable yet.
                    asm!(
                        ".arch_extension dotprod",
                        "sdot {sum:v}.4s, {values:v}.16b, {word:v}.16b",
                        sum = inout(vreg) *sum, values = in(vreg) values, word = in(vreg) word,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                sums
            }
        }

        #[inline(always)]
        unsafe fn at_least(sums: Self::Sums, bound: i32) -> u16 {
            // SAFETY: every aarch64 processor has NEON.
            unsafe {
                let bound = vdupq_n_s32(bound);
                let mut mask = vdupq_n_u32(0);
                for (i, sum) in sums.into_iter().enumerate() {
                    let bits = vld1q_u32([1, 2, 4, 8].map(|bit| bit << (4 * i)).as_ptr());
                    mask = vorrq_u32(mask, vandq_u32(vcgeq_s32(sum, bound), bits));
                }
                // Sums across a register are slow: one for all lanes.
                vaddvq_u32(mask) as u16
            }
        }

        #[inline(always)]
        unsafe fn store(sums: Self::Sums) -> Terms {
            let mut terms = Terms([0; 16]);
            for (i, sum) in sums.into_iter().enumerate() {
                // SAFETY: every aarch64 processor has NEON; `Terms` is as large as four registers.
                unsafe { vst1q_s32(terms.0.as_mut_ptr().add(4 * i), sum) };
            }
            terms
        }
    }
}

/// Work that is compiled once per instruction set.
pub trait Work {
    /// Does it, with `Q` queries side by side: as many as fit in the registers.
    ///
    /// # Safety
    /// The processor must have the instruction set.
    unsafe fn run<S: Screen, const Q: usize>(self);
}

impl Instructions {
    /// The instruction sets of this processor, the fastest last.
    pub fn available() -> Vec<Instructions> {
        #[allow(unused_mut, reason = "other architectures have only the portable ones")]
        let mut available = vec![Instructions::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") {
                available.push(Instructions::Avx2);
            }
            if has!("avx2") && has!("avx512f") && has!("avx512bw") && has!("avx512vnni") {
                available.push(Instructions::Avx512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            available.push(Instructions::Neon);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                available.push(Instructions::DotProduct);
            }
        }
        available
    }

    /// The fastest of this processor.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Instructions::Portable)
    }

    /// Does work with these instructions.
    ///
    /// # Safety
    /// They must be among [`Instructions::available`].
    pub(super) unsafe fn run(self, work: impl Work) {
        // SAFETY: as the caller promised.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 => x86::avx2(work),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512 => x86::avx512(work),
                #[cfg(target_arch = "aarch64")]
                Instructions::Neon => arm::neon(work),
                #[cfg(target_arch = "aarch64")]
                Instructions::DotProduct => arm::dot_product(work),
                _ => work.run::<Portable, 4>(),
            }
        }
    }
}
