//! Checks that a JPEG is complete.
//!
//! Decoders fill missing parts with gray, and gray does not show the part. This check reads the compressed
//! data from the first to the last bit without decoding pixels. Every block of every component must be there
//! with all bits of its coefficients, and no data may remain before a marker. After missing bytes the data
//! soon have an invalid code, an impossible value, too few blocks or too many bits. The format has no
//! checksums: a change that keeps the number of blocks and gives possible values is not found.

use std::borrow::Cow;

use super::frame::{check_size, damaged, unsupported};
use crate::error::Result;

/// The JPEG at the start of `bytes`, as decoders read it: up to its end marker, with the standard Huffman
/// tables that many cameras omit. Data after the end marker do not matter.
///
/// # Errors
/// [`ErrorKind::Image`](crate::ErrorKind::Image) for an incomplete or invalid picture, a format that is not
/// read, and a picture that is too large.
pub(crate) fn whole_jpeg(bytes: &[u8]) -> Result<Cow<'_, [u8]>> {
    let mut bytes = bytes;
    // Some cameras write the start marker twice.
    while bytes.starts_with(&[0xff, 0xd8, 0xff, 0xd8]) {
        bytes = &bytes[2..];
    }
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return Err(damaged("it does not begin like a JPEG"));
    }
    let mut reader =
        Reader { frame: None, quantizers: [None; 4], dc: EMPTY, ac: EMPTY, interval: 0, standard: false };
    let end = reader.read(bytes)?;
    let whole = &bytes[..end];
    Ok(match reader.standard {
        false => Cow::Borrowed(whole),
        true => Cow::Owned([&whole[..2], &standard_tables(), &whole[2..]].concat()),
    })
}

/// A flaw of compressed data.
#[derive(Debug, Clone, Copy)]
struct Flaw(&'static str);

const ENDS_EARLY: Flaw = Flaw("its data end before its pixels");
const NO_CODE: Flaw = Flaw("its data are invalid");
const IMPOSSIBLE: Flaw = Flaw("its data give impossible values");
const BLANK: Flaw = Flaw("a part of its data is zeros");
const LEFT_OVER: Flaw = Flaw("its data continue after its pixels");
const RESTARTS: Flaw = Flaw("a part of its data is missing, or out of order");

/// Coefficients of a block.
const COEFFICIENTS: usize = 64;
/// No picture has more coefficients in a row with only zero bits; a hole has.
const MOST_BLANK: u32 = 24;
/// Limit of scans, the same as in decoders. Each scan covers the whole picture, even with few bytes.
const MOST_SCANS: usize = 100;

struct Reader {
    frame: Option<Header>,
    quantizers: [Option<Limits>; 4],
    dc: [Option<Box<Huffman>>; 4],
    ac: [Option<Box<Huffman>>; 4],
    /// MCUs between restart markers; 0 for none.
    interval: usize,
    /// Whether the file omits tables.
    standard: bool,
}

const EMPTY: [Option<Box<Huffman>>; 4] = [None, None, None, None];

/// The frame header, and the progress of its components.
struct Header {
    progressive: bool,
    /// MCUs in a row and in a column with interleaved components.
    mcus: (usize, usize),
    components: Vec<Component>,
}

struct Component {
    id: u8,
    /// Blocks of an MCU.
    sampling: (usize, usize),
    quantizer: usize,
    /// Blocks with pixels, in a row and in a column.
    blocks: (usize, usize),
    /// Blocks from one row to the next, for whole MCUs.
    stride: usize,
    /// The next bit of each coefficient, counted from 1 for the lowest bit; 0 if none is missing.
    missing: [u8; COEFFICIENTS],
    /// For progressive pictures: the coefficients of each block that are not zero so far.
    nonzero: Vec<u64>,
}

/// No bit of a coefficient was read yet.
const ALL: u8 = u8::MAX;

/// Limits of values, by a quantization table.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Most bits of each coefficient. For the first coefficient, of its difference to the block before.
    bits: [u8; COEFFICIENTS],
    brightness: i32,
}

impl Limits {
    /// `steps` are the table's values.
    fn of(steps: [u16; COEFFICIENTS]) -> Self {
        // The transform of 8 × 8 values from -128 to 127 is within ±1024. Some encoders add up to a fourth on
        // purpose. Rounding adds half a step.
        const MOST: u32 = 1024 + 256;
        let most = |twice: u32, step: u16, cap: u32| {
            let largest = twice * MOST / u32::from(step).max(1) + 1;
            (u32::BITS - largest.leading_zeros()).min(cap) as u8
        };
        let mut bits = steps.map(|step| most(1, step, 10));
        bits[0] = most(2, steps[0], 11);
        Limits { bits, brightness: (MOST / u32::from(steps[0]).max(1) + 1) as i32 }
    }
}

impl Reader {
    /// Reads to the end marker. Returns its end.
    fn read(&mut self, bytes: &[u8]) -> Result<usize> {
        let (mut at, mut scans) = (2, 0);
        loop {
            let (marker, after) = marker(bytes, at).ok_or_else(|| damaged(RESTARTS.0))?;
            at = after;
            if marker == 0xd9 {
                let complete =
                    |frame: &Header| frame.components.iter().all(|c| c.missing.iter().all(|&bit| bit == 0));
                return match self.frame.as_ref().is_some_and(complete) {
                    true => Ok(at),
                    false => Err(damaged(ENDS_EARLY.0)),
                };
            }
            let length = match bytes.get(at..at + 2) {
                Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
                _ => return Err(damaged(ENDS_EARLY.0)),
            };
            let segment = bytes.get(at + 2..at + length).ok_or_else(|| damaged(ENDS_EARLY.0))?;
            at += length;
            match marker {
                0xc4 => {
                    self.huffman(segment, true).ok_or_else(|| damaged("its Huffman tables are invalid"))?
                }
                0xdb => self.quantizers(segment).ok_or_else(|| damaged("its quantization is invalid"))?,
                0xdd => match segment {
                    &[high, low] => self.interval = u16::from_be_bytes([high, low]).into(),
                    _ => return Err(damaged(NO_CODE.0)),
                },
                0xc0..=0xc2 => self.begin(marker == 0xc2, segment)?,
                0xda => {
                    scans += 1;
                    if scans > MOST_SCANS {
                        return Err(unsupported("a JPEG with too many scans"));
                    }
                    at = self.scan(segment, bytes, at)?;
                }
                0xc3 => return Err(unsupported("a lossless JPEG")),
                0xf7 => return Err(unsupported("a JPEG-LS")),
                0xc9..=0xcb | 0xcd..=0xcf => return Err(unsupported("a JPEG with arithmetic coding")),
                0xc5..=0xc7 | 0xde | 0xdf => return Err(unsupported("a hierarchical JPEG")),
                // Restart markers, the start of another picture.
                0x00..=0xbf | 0xd0..=0xd8 => return Err(damaged(RESTARTS.0)),
                _ => {}
            }
        }
    }

    fn quantizers(&mut self, mut rest: &[u8]) -> Option<()> {
        while let [head, values @ ..] = rest {
            let wide = head >> 4 != 0;
            let (values, after) = values.split_at_checked(if wide { 2 } else { 1 } * COEFFICIENTS)?;
            let step = |k: usize| match wide {
                true => u16::from_be_bytes([values[2 * k], values[2 * k + 1]]),
                false => values[k].into(),
            };
            let steps = std::array::from_fn(step);
            if steps.contains(&0) {
                return None;
            }
            *self.quantizers.get_mut(usize::from(head & 15))? = Some(Limits::of(steps));
            rest = after;
        }
        Some(())
    }

    /// Reads tables. Existing tables are kept unless `replace`.
    fn huffman(&mut self, mut rest: &[u8], replace: bool) -> Option<()> {
        while let [head, after @ ..] = rest {
            let (lengths, after) = after.split_first_chunk::<16>()?;
            let count = lengths.iter().map(|&n| usize::from(n)).sum();
            let (values, after) = after.split_at_checked(count)?;
            let tables = match head >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return None,
            };
            let table = tables.get_mut(usize::from(head & 15))?;
            if replace || table.is_none() {
                *table = Some(Box::new(Huffman::new(lengths, values)?));
            }
            rest = after;
        }
        Some(())
    }

    /// Reads a frame header.
    fn begin(&mut self, progressive: bool, segment: &[u8]) -> Result<()> {
        let bad = || damaged("its header is invalid");
        let &[precision, h0, h1, w0, w1, count, ref rest @ ..] = segment else { return Err(bad()) };
        let (width, height) = (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
        if precision != 8 {
            return Err(unsupported(&format!("a JPEG with {precision} bits per value")));
        }
        if width > 0 && height == 0 {
            return Err(unsupported("a JPEG with its height after its pixels"));
        }
        check_size(width.into(), height.into())?;
        if self.frame.is_some() || rest.len() != 3 * usize::from(count) {
            return Err(bad());
        }
        if ![1, 3, 4].contains(&count) {
            return Err(unsupported(&format!("a JPEG with {count} colors")));
        }
        let factors: Vec<(usize, usize)> =
            rest.chunks_exact(3).map(|c| (usize::from(c[1] >> 4), usize::from(c[1] & 15))).collect();
        if factors.iter().any(|&(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(bad());
        }
        let most = factors.iter().fold((1, 1), |most, &(h, v)| (most.0.max(h), most.1.max(v)));
        let mcus = (usize::from(width).div_ceil(8 * most.0), usize::from(height).div_ceil(8 * most.1));
        let components = rest.chunks_exact(3).zip(factors).map(|(c, sampling)| {
            let blocks = |pixels: u16, factor: usize, most: usize| {
                (usize::from(pixels) * factor).div_ceil(most).div_ceil(8)
            };
            let stride = mcus.0 * sampling.0;
            Component {
                id: c[0],
                sampling,
                quantizer: c[2].into(),
                blocks: (blocks(width, sampling.0, most.0), blocks(height, sampling.1, most.1)),
                stride,
                missing: [ALL; COEFFICIENTS],
                nonzero: if progressive { vec![0; stride * mcus.1 * sampling.1] } else { Vec::new() },
            }
        });
        self.frame = Some(Header { progressive, mcus, components: components.collect() });
        Ok(())
    }

    /// Reads a scan with its data at `at`. Returns their end.
    fn scan(&mut self, header: &[u8], bytes: &[u8], at: usize) -> Result<usize> {
        let bad = || damaged("the header of its data is invalid");
        let frame = self.frame.as_mut().ok_or_else(bad)?;
        let [count, rest @ ..] = header else { return Err(bad()) };
        let count = usize::from(*count);
        if count == 0 {
            return Err(bad());
        }
        let Some((selectors, &[first, last, approximation])) = rest.split_at_checked(2 * count) else {
            return Err(bad());
        };
        // The decoder reads such files wrongly, with restart markers or subsampled color, without an error.
        if !frame.progressive && count < frame.components.len() {
            return Err(unsupported("a baseline JPEG with several scans"));
        }
        let part = match frame.progressive {
            // These header values are the same in all such files, or missing.
            false => Part { first: 0, last: 63, refines: false, low: 0 },
            true => Part {
                first: first.into(),
                last: last.into(),
                refines: approximation >> 4 != 0,
                low: approximation & 15,
            },
        };
        let spectrum = match part.first {
            0 => !frame.progressive || part.last == 0,
            _ => part.first <= part.last && part.last < COEFFICIENTS && count == 1,
        };
        if !spectrum || part.low > 13 || part.refines && approximation >> 4 != part.low + 1 {
            return Err(bad());
        }
        let mut tables = Vec::with_capacity(count);
        for selector in selectors.chunks_exact(2) {
            let index = frame.components.iter().position(|c| c.id == selector[0]).ok_or_else(bad)?;
            let component = &mut frame.components[index];
            for missing in &mut component.missing[part.first..=part.last] {
                // Each bit comes once, in order.
                if *missing != if part.refines { part.low + 1 } else { ALL } {
                    return Err(bad());
                }
                *missing = part.low;
            }
            let (dc, ac) = (usize::from(selector[1] >> 4), usize::from(selector[1] & 15));
            if dc > 3 || ac > 3 {
                return Err(bad());
            }
            let limits = self.quantizers.get(component.quantizer).copied().flatten();
            let limits = limits.ok_or_else(|| damaged("its quantization is missing"))?;
            tables.push((index, dc, ac, limits));
        }
        let needs = (part.first == 0 && !part.refines, part.last > 0);
        for &(_, dc, ac, _) in &tables {
            for (table, index, needed) in [(&mut self.dc, dc, needs.0), (&mut self.ac, ac, needs.1)] {
                if needed && table[index].is_none() {
                    if frame.progressive || index > 1 {
                        return Err(damaged("its Huffman tables are missing"));
                    }
                    self.standard = true;
                }
            }
        }
        if self.standard {
            let _ = self.huffman(&standard_tables()[4..], false);
        }
        let Some(frame) = &mut self.frame else { return Err(bad()) };
        let mut blocks = Vec::with_capacity(count);
        for &(index, dc, ac, limits) in &tables {
            blocks.push((
                index,
                Coder { dc: self.dc[dc].as_deref(), ac: self.ac[ac].as_deref(), limits, part },
            ));
        }
        let mut bits = Bits { bytes, at, held: 0, count: 0 };
        walk(&mut bits, frame, &blocks, self.interval).map_err(|flaw| damaged(flaw.0))?;
        Ok(bits.at)
    }
}

/// The marker at a position, after fill bytes, and its end.
fn marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = bytes.get(at..)?;
    let fill = rest.iter().take_while(|&&byte| byte == 0xff).count();
    match rest.get(fill) {
        Some(&code) if fill > 0 => Some((code, at + fill + 1)),
        _ => None,
    }
}

/// Reads all blocks of a scan, and the padding up to the next marker.
fn walk(
    bits: &mut Bits<'_>,
    frame: &mut Header,
    scan: &[(usize, Coder<'_>)],
    interval: usize,
) -> Result<(), Flaw> {
    let alone = scan.len() == 1;
    let (across, down) = match scan {
        [(index, _)] => frame.components[*index].blocks,
        _ => frame.mcus,
    };
    let (mut state, mut restart) = (State::default(), 0);
    for mcu in 0..across * down {
        if interval > 0 && mcu > 0 && mcu % interval == 0 {
            bits.restart(restart)?;
            restart = (restart + 1) % 8;
            if state.empty > 0 {
                return Err(LEFT_OVER);
            }
            state = State::default();
        }
        let (row, column) = (mcu / across, mcu % across);
        for (which, (index, coder)) in scan.iter().enumerate() {
            let component = &mut frame.components[*index];
            let (wide, high) = if alone { (1, 1) } else { component.sampling };
            for y in 0..high {
                for x in 0..wide {
                    let mut unused = 0;
                    let block = (row * high + y) * component.stride + column * wide + x;
                    let nonzero = component.nonzero.get_mut(block).unwrap_or(&mut unused);
                    coder.block(bits, &mut state, which, nonzero)?;
                }
            }
        }
    }
    if state.empty > 0 {
        return Err(LEFT_OVER);
    }
    bits.finish()?;
    // Some encoders end with a restart marker.
    if interval > 0
        && (across * down).is_multiple_of(interval)
        && let Some((code, after)) = marker(bits.bytes, bits.at)
        && code == 0xd0 + restart
    {
        bits.at = after;
    }
    Ok(())
}

/// The coefficients of a scan, and their bits.
#[derive(Debug, Clone, Copy)]
struct Part {
    first: usize,
    last: usize,
    /// Whether it refines earlier scans by one bit.
    refines: bool,
    /// Its lowest bit.
    low: u8,
}

/// The tables of a component in a scan.
struct Coder<'a> {
    dc: Option<&'a Huffman>,
    ac: Option<&'a Huffman>,
    limits: Limits,
    part: Part,
}

/// State from block to block.
#[derive(Default)]
struct State {
    /// For each component of the scan: the first coefficient of the block before.
    brightness: [i32; 4],
    /// The next blocks without further coefficients.
    empty: u32,
}

impl Coder<'_> {
    /// Reads a block. `which` is the component's number in the scan.
    #[inline]
    fn block(
        &self,
        bits: &mut Bits<'_>,
        state: &mut State,
        which: usize,
        nonzero: &mut u64,
    ) -> Result<(), Flaw> {
        match (self.part.first, self.part.refines) {
            (0, false) => {
                self.brightness(bits, &mut state.brightness[which])?;
                if self.part.last > 0 { self.sequential(bits) } else { Ok(()) }
            }
            (0, true) => bits.take(1).map(drop),
            (_, false) => self.first(bits, &mut state.empty, nonzero),
            (_, true) => self.refine(bits, &mut state.empty, nonzero),
        }
    }

    fn brightness(&self, bits: &mut Bits<'_>, before: &mut i32) -> Result<(), Flaw> {
        let size = bits.symbol(self.dc.ok_or(NO_CODE)?)?;
        if size > self.limits.bits[0] {
            return Err(IMPOSSIBLE);
        }
        let value = bits.take(size.into())? as i32;
        let negative = size > 0 && value < 1 << (size - 1);
        *before += if negative { value + 1 - (1 << size) } else { value };
        match (*before).abs() <= (self.limits.brightness >> self.part.low) + 1 {
            true => Ok(()),
            false => Err(IMPOSSIBLE),
        }
    }

    fn sequential(&self, bits: &mut Bits<'_>) -> Result<(), Flaw> {
        let table = self.ac.ok_or(NO_CODE)?;
        // A copy stays in registers.
        let (mut own, mut k, mut blank) = (*bits, 1, 0);
        while k < COEFFICIENTS {
            let (symbol, zeros) = own.coefficient(table)?;
            let (run, size) = (usize::from(symbol >> 4), symbol & 15);
            if size == 0 {
                match run {
                    0 => break,
                    15 => k += 16,
                    _ => return Err(NO_CODE),
                }
                if k >= COEFFICIENTS {
                    return Err(NO_CODE);
                }
                continue;
            }
            k += run;
            match self.limits.bits.get(k) {
                None => return Err(NO_CODE),
                Some(&most) if size > most => return Err(IMPOSSIBLE),
                _ => k += 1,
            }
            blank = if zeros { blank + 1 } else { 0 };
            if blank > MOST_BLANK {
                return Err(BLANK);
            }
        }
        *bits = own;
        Ok(())
    }

    /// Reads the upper bits of some coefficients.
    fn first(&self, bits: &mut Bits<'_>, empty: &mut u32, nonzero: &mut u64) -> Result<(), Flaw> {
        if *empty > 0 {
            *empty -= 1;
            return Ok(());
        }
        let table = self.ac.ok_or(NO_CODE)?;
        let mut k = self.part.first;
        while k <= self.part.last {
            let symbol = bits.symbol(table)?;
            let (run, size) = (usize::from(symbol >> 4), symbol & 15);
            match (run, size) {
                (15, 0) => k += 16,
                (run, 0) => {
                    *empty = (1 << run) - 1 + bits.take(run as u32)?;
                    return Ok(());
                }
                _ => {
                    k += run;
                    if k > self.part.last {
                        return Err(NO_CODE);
                    }
                    if u32::from(size) + u32::from(self.part.low) > self.limits.bits[k].into() {
                        return Err(IMPOSSIBLE);
                    }
                    bits.take(size.into())?;
                    *nonzero |= 1 << k;
                    k += 1;
                }
            }
        }
        match k > self.part.last + 1 {
            true => Err(NO_CODE),
            false => Ok(()),
        }
    }

    /// Reads one more bit of some coefficients. Nonzero coefficients get one bit each; others may become
    /// nonzero.
    fn refine(&self, bits: &mut Bits<'_>, empty: &mut u32, nonzero: &mut u64) -> Result<(), Flaw> {
        let table = self.ac.ok_or(NO_CODE)?;
        let (mut k, last) = (self.part.first, self.part.last);
        let begun = *nonzero;
        while *empty == 0 && k <= last {
            let symbol = bits.symbol(table)?;
            let (mut run, size) = (symbol >> 4, symbol & 15);
            match (run, size) {
                (15, 0) => {}
                (run, 0) => {
                    *empty = (1 << run) + bits.take(run.into())?;
                    break;
                }
                (_, 1) => bits.take(1).map(drop)?,
                _ => return Err(NO_CODE),
            }
            // Skips the zeros of the run.
            loop {
                if k > last {
                    return Err(NO_CODE);
                }
                if begun & 1 << k != 0 {
                    bits.take(1)?;
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            *nonzero |= u64::from(size) << k;
            k += 1;
        }
        if *empty > 0 {
            *empty -= 1;
            for k in k..=last {
                if begun & 1 << k != 0 {
                    bits.take(1)?;
                }
            }
        }
        Ok(())
    }
}

/// The bits of compressed data.
#[derive(Clone, Copy)]
struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte.
    at: usize,
    /// Bits that are read but not used yet, from the highest bit on; zeros below.
    held: u64,
    count: u32,
}

impl Bits<'_> {
    /// Reads ahead more than 32 bits, if there are as many before the next marker.
    #[inline]
    fn refill(&mut self) {
        if self.count > 32 {
            return;
        }
        if let Some(next) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<4>())
            && !next.contains(&0xff)
        {
            self.held |= u64::from(u32::from_be_bytes(*next)) << (32 - self.count);
            self.count += 32;
            self.at += 4;
            return;
        }
        while self.count <= 56 {
            let (byte, length) = match self.bytes.get(self.at..) {
                // A zero byte follows: it is not a marker.
                Some([0xff, 0x00, ..]) => (0xff, 2),
                Some([0xff, ..] | []) | None => return,
                Some([byte, ..]) => (*byte, 1),
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.at += length;
        }
    }

    /// Takes at most 16 bits.
    #[inline]
    fn take(&mut self, count: u32) -> Result<u32, Flaw> {
        if count > self.count {
            self.refill();
            if count > self.count {
                return Err(ENDS_EARLY);
            }
        }
        let value = (self.held >> 32 >> (32 - count)) as u32;
        self.held <<= count;
        self.count -= count;
        Ok(value)
    }

    /// Takes a symbol and its value. Returns whether all their bits are zeros, too.
    #[inline]
    fn coefficient(&mut self, table: &Huffman) -> Result<(u8, bool), Flaw> {
        self.refill();
        let next = (self.held >> 48) as u16;
        let (length, symbol) = self.find(table, next)?;
        let length = u32::from(length) + u32::from(symbol & 15);
        if length > self.count {
            return Err(ENDS_EARLY);
        }
        // A code is at least one bit long.
        let zeros = self.held >> (64 - length) == 0;
        self.held <<= length;
        self.count -= length;
        Ok((symbol, zeros))
    }

    #[inline]
    fn find(&self, table: &Huffman, next: u16) -> Result<(u8, u8), Flaw> {
        match table.short[usize::from(next >> (16 - SHORT))] {
            (0, _) => table.long(next).ok_or(if self.count < 16 { ENDS_EARLY } else { NO_CODE }),
            found => Ok(found),
        }
    }

    #[inline]
    fn symbol(&mut self, table: &Huffman) -> Result<u8, Flaw> {
        self.refill();
        let next = (self.held >> 48) as u16;
        let (length, symbol) = self.find(table, next)?;
        let length = u32::from(length);
        if length > self.count {
            return Err(ENDS_EARLY);
        }
        self.held <<= length;
        self.count -= length;
        Ok(symbol)
    }

    /// Ends at the next marker. Only padding may precede it: the rest of a byte, and zero bytes of some
    /// cameras.
    fn finish(&mut self) -> Result<(), Flaw> {
        let (rest, bytes) = (self.count % 8, self.count / 8);
        let padding = if rest == 0 { 0 } else { self.held >> (64 - rest) };
        // Ones by the standard; zeros from some encoders.
        let good = padding == 0 || padding + 1 == 1 << rest;
        let after = if rest == 0 { self.held } else { self.held << rest };
        let zeros = self.bytes[self.at..].iter().take_while(|&&byte| byte == 0).count();
        if !good || after != 0 {
            return Err(LEFT_OVER);
        }
        if bytes as usize + zeros > 0 {
            // After a last byte of zero, these bytes could be a hole that decodes by chance.
            let last = self.at - bytes as usize;
            if !matches!(self.bytes[..last], [.., 0xff, 0x00] | [.., 1..=0xff]) {
                return Err(LEFT_OVER);
            }
        }
        self.at += zeros;
        (self.held, self.count) = (0, 0);
        match self.bytes.get(self.at) {
            Some(0xff) => Ok(()),
            Some(_) => Err(LEFT_OVER),
            None => Err(ENDS_EARLY),
        }
    }

    /// Ends at the restart marker with this number and continues after it.
    fn restart(&mut self, number: u8) -> Result<(), Flaw> {
        self.finish()?;
        match marker(self.bytes, self.at) {
            Some((code, after)) if code == 0xd0 + number => {
                self.at = after;
                Ok(())
            }
            _ => Err(RESTARTS),
        }
    }
}

/// Length of codes with a direct lookup.
const SHORT: u32 = 9;

struct Huffman {
    /// By the next bits: length and symbol of their code; 0 for a longer code.
    short: [(u8, u8); 1 << SHORT],
    /// By length: the first 16 bits of a longer code.
    end: [u32; 17],
    /// By length: the offset from a code to its symbol's place, wrapping.
    place: [u32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// `lengths` has the number of codes with 1, 2, … 16 bits.
    fn new(lengths: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table =
            Huffman { short: [(0, 0); 1 << SHORT], end: [0; 17], place: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0_u32, 0_u32);
        for (length, &count) in (1_u32..).zip(lengths) {
            table.place[length as usize] = index.wrapping_sub(code);
            for _ in 0..count {
                if code >> length != 0 {
                    return None;
                }
                if length <= SHORT {
                    let entries =
                        (code << (SHORT - length)) as usize..((code + 1) << (SHORT - length)) as usize;
                    table.short[entries].fill((length as u8, *symbols.get(index as usize)?));
                }
                code += 1;
                index += 1;
            }
            table.end[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    fn long(&self, next: u16) -> Option<(u8, u8)> {
        let next = u32::from(next);
        let length = (SHORT as usize + 1..=16).find(|&length| next < self.end[length])?;
        let place = (next >> (16 - length)).wrapping_add(self.place[length]);
        Some((length as u8, *self.symbols.get(place as usize)?))
    }
}

/// The tables of annex K of the standard as a segment: brightness and color, each for the first and the other
/// coefficients.
fn standard_tables() -> Vec<u8> {
    const DC: [(u8, [u8; 16]); 2] = [
        (0x00, [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        (0x01, [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]),
    ];
    const AC: [(u8, [u8; 16], &[u8; 162]); 2] = [
        (0x10, [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d], AC_OF_BRIGHTNESS),
        (0x11, [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], AC_OF_COLOR),
    ];
    let mut body = Vec::new();
    for (head, lengths) in DC {
        body.push(head);
        body.extend(lengths);
        body.extend(0..12);
    }
    for (head, lengths, symbols) in AC {
        body.push(head);
        body.extend(lengths);
        body.extend(symbols);
    }
    let length = (body.len() as u16 + 2).to_be_bytes();
    [&[0xff, 0xc4], length.as_slice(), &body].concat()
}

#[rustfmt::skip]
const AC_OF_BRIGHTNESS: &[u8; 162] = &[
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
    0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[rustfmt::skip]
const AC_OF_COLOR: &[u8; 162] = &[
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
    0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
    0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];
