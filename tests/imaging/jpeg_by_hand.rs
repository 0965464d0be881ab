//! An encoder of JPEG that is slow, plain and obeys: it writes the scans that it is told to, with all or some of their
//! blocks, from coefficients that the caller gives.

/// The coefficients of one block, in zigzag order.
pub type Block = [i32; 64];

/// One scan of a picture.
#[derive(Debug, Clone)]
pub struct Scan {
    pub components: Vec<usize>,
    /// First and last coefficient.
    pub spectrum: (usize, usize),
    /// The bit above that of the scan before, or 0; the lowest bit of this one.
    pub bits: (u8, u8),
}

/// A picture: its coefficients, and how they are to be written.
#[derive(Debug, Clone)]
pub struct Picture {
    pub size: (u16, u16),
    pub progressive: bool,
    /// Blocks of an MCU, of each component.
    pub sampling: Vec<(usize, usize)>,
    /// Of each component, as many as whole MCUs have.
    pub blocks: Vec<Vec<Block>>,
    pub scans: Vec<Scan>,
    /// MCUs between restart markers.
    pub restart: usize,
    /// MCUs that are written of each scan.
    pub keep: Vec<usize>,
}

impl Picture {
    /// A picture without blocks yet, all of it to be kept.
    pub fn new(size: (u16, u16), sampling: &[(usize, usize)], progressive: bool, scans: Vec<Scan>) -> Self {
        let keep = vec![usize::MAX; scans.len()];
        let mut picture = Picture {
            size,
            progressive,
            sampling: sampling.to_vec(),
            blocks: Vec::new(),
            scans,
            restart: 0,
            keep,
        };
        let mcus = picture.mcus();
        picture.blocks = sampling.iter().map(|(h, v)| vec![[0; 64]; mcus.0 * h * mcus.1 * v]).collect();
        picture
    }

    fn most(&self) -> (usize, usize) {
        self.sampling.iter().fold((1, 1), |m, s| (m.0.max(s.0), m.1.max(s.1)))
    }

    fn mcus(&self) -> (usize, usize) {
        let most = self.most();
        (usize::from(self.size.0).div_ceil(8 * most.0), usize::from(self.size.1).div_ceil(8 * most.1))
    }

    /// The places of a scan's blocks, MCU by MCU: which of its components, and which of that one's blocks.
    fn places(&self, scan: &Scan) -> Vec<Vec<(usize, usize)>> {
        let (mcus, most) = (self.mcus(), self.most());
        if let [c] = scan.components[..] {
            let (h, v) = self.sampling[c];
            let blocks = |pixels: u16, factor: usize, most: usize| {
                (usize::from(pixels) * factor).div_ceil(most).div_ceil(8)
            };
            let (across, down) = (blocks(self.size.0, h, most.0), blocks(self.size.1, v, most.1));
            let place = |i: usize| vec![(c, i / across * mcus.0 * h + i % across)];
            return (0..across * down).map(place).collect();
        }
        let mcu = |i: usize| {
            let (row, column) = (i / mcus.0, i % mcus.0);
            let mut places = Vec::new();
            for &c in &scan.components {
                let (h, v) = self.sampling[c];
                for y in 0..v {
                    for x in 0..h {
                        places.push((c, (row * v + y) * mcus.0 * h + column * h + x));
                    }
                }
            }
            places
        };
        (0..mcus.0 * mcus.1).map(mcu).collect()
    }

    /// MCUs of a scan.
    pub fn length(&self, scan: usize) -> usize {
        self.places(&self.scans[scan]).len()
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut file = vec![0xff, 0xd8];
        segment(&mut file, 0xdb, &[&[0][..], &[1; 64]].concat());
        let mut header = vec![8];
        header.extend(self.size.1.to_be_bytes());
        header.extend(self.size.0.to_be_bytes());
        header.push(self.sampling.len() as u8);
        for (i, (h, v)) in self.sampling.iter().enumerate() {
            header.extend([i as u8 + 1, (h << 4 | v) as u8, 0]);
        }
        segment(&mut file, if self.progressive { 0xc2 } else { 0xc0 }, &header);
        // Symbol s has the code s of nine bits, but for 255, which would be all ones.
        for (class, symbols) in [(0x00, 12), (0x10, 255)] {
            let mut lengths = [0; 16];
            lengths[8] = symbols;
            segment(&mut file, 0xc4, &[&[class], &lengths[..], &(0..symbols).collect::<Vec<u8>>()].concat());
        }
        segment(&mut file, 0xdd, &(self.restart as u16).to_be_bytes());
        for (scan, keep) in self.scans.iter().zip(&self.keep) {
            let mut header = vec![scan.components.len() as u8];
            header.extend(scan.components.iter().flat_map(|c| [*c as u8 + 1, 0]));
            header.extend([scan.spectrum.0 as u8, scan.spectrum.1 as u8, scan.bits.0 << 4 | scan.bits.1]);
            segment(&mut file, 0xda, &header);
            file.extend(self.data(scan, *keep));
        }
        file.extend([0xff, 0xd9]);
        file
    }

    fn data(&self, scan: &Scan, keep: usize) -> Vec<u8> {
        let mut out = Writer::default();
        let mut before = [0; 4];
        for (i, places) in self.places(scan).iter().enumerate().take(keep) {
            if self.restart > 0 && i > 0 && i % self.restart == 0 {
                out.end_run();
                out.pad();
                out.bytes.extend([0xff, 0xd0 + (i / self.restart - 1) as u8 % 8]);
                before = [0; 4];
            }
            for &(c, block) in places {
                let block = &self.blocks[c][block];
                if !self.progressive {
                    out.difference(block[0], &mut before[c]);
                    out.first(block, 1, 63, 0);
                    out.end_run();
                } else if scan.spectrum.0 == 0 && scan.bits.0 == 0 {
                    out.difference(block[0] >> scan.bits.1, &mut before[c]);
                } else if scan.spectrum.0 == 0 {
                    out.put((block[0] >> scan.bits.1 & 1) as u32, 1);
                } else if scan.bits.0 == 0 {
                    out.first(block, scan.spectrum.0, scan.spectrum.1, scan.bits.1);
                } else {
                    out.refine(block, scan.spectrum.0, scan.spectrum.1, scan.bits.1);
                }
            }
        }
        out.end_run();
        out.pad();
        out.bytes
    }
}

fn segment(file: &mut Vec<u8>, marker: u8, content: &[u8]) {
    file.extend([0xff, marker]);
    file.extend((content.len() as u16 + 2).to_be_bytes());
    file.extend(content);
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    bits: Vec<bool>,
    /// Blocks without further coefficients, and the bits that belong behind them.
    run: u32,
    behind: Vec<bool>,
}

impl Writer {
    fn put(&mut self, value: u32, count: u32) {
        self.bits.extend((0..count).rev().map(|i| value >> i & 1 == 1));
    }

    fn symbol(&mut self, symbol: u32) {
        self.put(symbol, 9);
    }

    fn value(&mut self, value: i32, size: u32) {
        let bits = if value < 0 { value + (1 << size) - 1 } else { value };
        self.put(bits as u32, size);
    }

    /// Ones up to a whole byte, and zeros that tell data from markers.
    fn pad(&mut self) {
        while !self.bits.len().is_multiple_of(8) {
            self.bits.push(true);
        }
        for byte in std::mem::take(&mut self.bits).chunks(8) {
            let byte = byte.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
            self.bytes.push(byte);
            if byte == 0xff {
                self.bytes.push(0);
            }
        }
    }

    fn difference(&mut self, value: i32, before: &mut i32) {
        let difference = value - *before;
        *before = value;
        let size = u32::BITS - difference.unsigned_abs().leading_zeros();
        self.symbol(size);
        self.value(difference, size);
    }

    fn end_run(&mut self) {
        if self.run > 0 {
            let size = self.run.ilog2();
            self.symbol(size << 4);
            self.put(self.run - (1 << size), size);
            self.run = 0;
            let behind = std::mem::take(&mut self.behind);
            self.bits.extend(behind);
        }
    }

    fn first(&mut self, block: &Block, from: usize, to: usize, low: u8) {
        let mut zeros = 0;
        for &coefficient in &block[from..=to] {
            let value = coefficient.signum() * (coefficient.abs() >> low);
            if value == 0 {
                zeros += 1;
                continue;
            }
            self.end_run();
            while zeros > 15 {
                self.symbol(0xf0);
                zeros -= 16;
            }
            let size = u32::BITS - value.unsigned_abs().leading_zeros();
            self.symbol(zeros << 4 | size);
            self.value(value, size);
            zeros = 0;
        }
        self.run += u32::from(zeros > 0);
    }

    fn refine(&mut self, block: &Block, from: usize, to: usize, low: u8) {
        let values = &block[from..=to];
        let last = values.iter().rposition(|v| v.abs() >> low == 1);
        let (mut zeros, mut own) = (0, Vec::new());
        for (k, &value) in values.iter().enumerate() {
            let size = value.abs() >> low;
            if size == 0 {
                zeros += 1;
                continue;
            }
            while zeros > 15 && last.is_some_and(|last| k <= last) {
                self.end_run();
                self.symbol(0xf0);
                zeros -= 16;
                self.bits.append(&mut own);
            }
            if size > 1 {
                own.push(size & 1 == 1);
                continue;
            }
            self.end_run();
            self.symbol(zeros << 4 | 1);
            self.put(u32::from(value > 0), 1);
            self.bits.append(&mut own);
            zeros = 0;
        }
        if zeros > 0 || !own.is_empty() {
            self.run += 1;
            self.behind.extend(own);
        }
    }
}
