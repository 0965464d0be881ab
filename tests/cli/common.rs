//! What all tests of the command line share: made-up parts, folders that go away, and running the real program.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Runs the program: `weakrest!("inspect", package, "--json")`.
macro_rules! weakrest {
    ($($argument:expr),+ $(,)?) => {
        $crate::common::Ran::of(std::process::Command::new($crate::common::PROGRAM)
            $(.arg(AsRef::<std::ffi::OsStr>::as_ref(&$argument)))+)
    };
}

/// The program that is tested.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_weakrest");

/// Width and height of the made-up parts: not square, and larger than what they are enrolled at.
pub const SIZE: (u32, u32) = (96, 80);

/// What the program did.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Ran {
        command.stdin(Stdio::null());
        loop {
            match command.output() {
                // A program that a test has just copied, and that another test's child still holds open for writing.
                Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                output => return Ran::from(output.unwrap()),
            }
        }
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Checks that every text is in what was printed.
    #[track_caller]
    pub fn prints(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.out.contains(text), "{text:?} is not printed\n{self}");
        }
        self
    }

    /// Checks that every text is in the messages.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "{text:?} is not said\n{self}");
        }
        self
    }

    /// What was printed, as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}\n{self}"))
    }

    /// What was printed, as one JSON value per line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{self}"));
        self.out.lines().map(parse).collect()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        // Whatever a user does: no panic, and no progress bar or color where no terminal is.
        assert!(!ran.err.contains("panicked"), "{ran}");
        assert!(!(ran.out.clone() + &ran.err).contains(['\u{1b}', '\r']), "{ran:?}");
        ran
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n--- printed\n{}--- said\n{}---", self.code, self.out, self.err)
    }
}

/// A folder that is deleted afterwards.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(TempDir::new().unwrap())
    }

    /// A place in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, and the folders that it lies in.
    pub fn file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Makes a folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Writes a picture in the format that the name says.
    pub fn picture(&self, name: impl AsRef<Path>, picture: &DynamicImage) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(&path).unwrap();
        path
    }

    /// Writes `count` good parts `00.png`, `01.png`, … into a folder. Other first seeds give other parts.
    pub fn good_parts(&self, name: &str, first_seed: u64, count: u64) -> PathBuf {
        for i in 0..count {
            self.picture(format!("{name}/{i:02}.png"), &part(first_seed + i));
        }
        self.path(name)
    }

    /// A copy of the ready-made package.
    pub fn package(&self, name: &str) -> PathBuf {
        let (from, to) = (ready_package(), self.folder(name));
        for file in files(from) {
            let copy = to.join(&file);
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(from.join(&file), copy).unwrap();
        }
        to
    }

    /// Every file and folder in it, hidden ones included, with a file's hash: equal only if nothing was changed.
    pub fn contents(&self) -> BTreeMap<PathBuf, String> {
        contents(self.0.path())
    }
}

/// Every file and folder below `root` with a file's hash.
pub fn contents(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let what = if path.is_dir() {
                walk(root, &path, found);
                "folder".to_owned()
            } else {
                // A link to nothing or a device is told apart by being there.
                let bytes = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
                sha256(&bytes)
            };
            found.insert(path.strip_prefix(root).unwrap().to_path_buf(), what);
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// Every file below `root`, relative to it.
pub fn files(root: &Path) -> Vec<PathBuf> {
    contents(root).into_keys().filter(|p| root.join(p).is_file()).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A package of twelve good parts at 64 pixels, enrolled once per test file.
pub fn ready_package() -> &'static Path {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| {
        let program =
            Path::new(std::env::args_os().next().unwrap().as_os_str()).file_name().unwrap().to_owned();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program);
        let _ = std::fs::remove_dir_all(&folder);
        for i in 0..12 {
            let path = folder.join(format!("good/{i:02}.png"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            part(i).save(path).unwrap();
        }
        let package = folder.join("disc.weakrest");
        enroll(&folder.join("good"), &package, &[]).exits(0);
        package
    })
}

/// Enrolls a folder at 64 pixels.
pub fn enroll(images: &Path, package: &Path, more: &[&str]) -> Ran {
    Ran::of(enroll_command(images, package).args(more))
}

/// The command that enrolls a folder at 64 pixels.
pub fn enroll_command(images: &Path, package: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["enroll", "--quality", "fast", "--size", "64", "--images"])
        .arg(images)
        .arg("--output")
        .arg(package);
    command
}

/// Writes a package's manifest after `change`, with a fitting `package.sha256`: what someone can do who knows how.
pub fn forge(package: &Path, change: impl FnOnce(String) -> String) {
    let manifest = package.join("package.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed, "nothing was changed");
    std::fs::write(&manifest, &changed).unwrap();
    let line = format!("{}  package.toml\n", sha256(changed.as_bytes()));
    std::fs::write(package.join("package.sha256"), line).unwrap();
}

/// Puts other bytes in the place of a package's file, listed in the manifest with their hash and length.
pub fn forge_file(package: &Path, name: &str, bytes: &[u8]) {
    let old = std::fs::read(package.join(name)).unwrap();
    std::fs::write(package.join(name), bytes).unwrap();
    forge(package, |text| {
        text.replace(&sha256(&old), &sha256(bytes))
            .replace(&format!("bytes = {}\n", old.len()), &format!("bytes = {}\n", bytes.len()))
    });
}

/// SplitMix64: the same numbers everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly between -1 and 1.
    pub fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A good part: a turned copper disc on a dark table. Every seed gives another one: a little off its place, a little
/// brighter or darker, with other noise.
pub fn part(seed: u64) -> DynamicImage {
    part_of_size(seed, SIZE.0, SIZE.1)
}

/// As [`part`], in another size.
pub fn part_of_size(seed: u64, width: u32, height: u32) -> DynamicImage {
    let mut random = Random(seed);
    let unit = width.min(height) as f32;
    let center_x = width as f32 / 2.0 + 0.01 * unit * random.signed();
    let center_y = height as f32 / 2.0 + 0.01 * unit * random.signed();
    let light = 1.0 + 0.03 * random.signed();
    let mut picture = RgbImage::new(width, height);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (dx, dy) = (x as f32 - center_x, y as f32 - center_y);
        let radius = dx.hypot(dy) / unit;
        let (color, groove) = if radius < 0.42 {
            ([200.0, 120.0, 70.0], 1.0 + 0.15 * (radius * 90.0).sin() + 0.1 * (dx / unit))
        } else {
            ([40.0, 45.0, 55.0], 1.0 + 0.2 * (dy / unit))
        };
        *pixel = Rgb(color.map(|c| (c * groove * light + 4.0 * random.signed()).clamp(0.0, 255.0) as u8));
    }
    DynamicImage::ImageRgb8(picture)
}

/// A defective part: a dark dent with a bright rim in the disc, right of its middle.
pub fn dented_part(seed: u64) -> DynamicImage {
    let mut picture = part(seed).into_rgb8();
    let (at_x, at_y) = (SIZE.0 as f32 * 0.6, SIZE.1 as f32 * 0.45);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let far = (x as f32 - at_x).hypot(y as f32 - at_y);
        if far < 9.0 {
            *pixel = if far < 7.0 { Rgb([15, 20, 35]) } else { Rgb([250, 250, 245]) };
        }
    }
    DynamicImage::ImageRgb8(picture)
}

/// Which pixels [`dented_part`] spoils, in white.
#[cfg(feature = "workshop")]
pub fn dent_mask() -> DynamicImage {
    let (at_x, at_y) = (SIZE.0 as f32 * 0.6, SIZE.1 as f32 * 0.45);
    DynamicImage::ImageLuma8(image::GrayImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        image::Luma([if (x as f32 - at_x).hypot(y as f32 - at_y) < 9.0 { 255 } else { 0 }])
    }))
}

/// A file's bytes in a format.
pub fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Files that are no usable pictures though they are called so, and a part of what is to be said of each. All can be
/// told by their headers but the last two.
pub fn bad_pictures() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (png, tiff) = (encoded(&part(0), ImageFormat::Png), encoded(&part(0), ImageFormat::Tiff));
    let mut corrupt = encoded(&part(1), ImageFormat::Png);
    let jpeg = encoded(&part(0), ImageFormat::Jpeg);
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 64].fill(0x55);
    vec![
        ("empty.png", Vec::new(), "the file is empty"),
        ("text.png", b"not a picture".to_vec(), "not a PNG, JPEG, BMP or TIFF picture"),
        ("animated.gif", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(), "a GIF picture is not supported"),
        ("animated.png", with_chunk(&png, b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0]), "animated"),
        ("pages.tiff", with_second_page(&tiff), "several pages"),
        ("huge.png", of_size(&png, 30_000, 30_000), "30000×30000 pixels are more than"),
        ("header.png", png[..20].to_vec(), "damaged or cut short"),
        ("closed.jpg", [&jpeg[..jpeg.len() * 3 / 5], &[0xff, 0xd9]].concat(), "damaged or cut short"),
        (
            "hole.jpg",
            [&jpeg[..jpeg.len() / 2], &jpeg[jpeg.len() / 2 + 150..]].concat(),
            "damaged or cut short",
        ),
        ("web.jpg", b"RIFF\x1a\0\0\0WEBPVP8L".to_vec(), "a WebP picture is not supported"),
        ("corrupt.png", corrupt, "damaged or cut short"),
        ("truncated.png", png[..png.len() / 2].to_vec(), "damaged or cut short"),
        ("12-bits.png", twelve_bits(), "only 12 are in use"),
    ]
}

/// A part as a camera of 12 bits gives it, in 16.
fn twelve_bits() -> Vec<u8> {
    let mut deep = part(0).into_rgb16();
    deep.iter_mut().for_each(|value| *value >>= 4);
    encoded(&deep.into(), ImageFormat::Png)
}

/// A PNG with one more chunk, after its header.
fn with_chunk(png: &[u8], kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    const END_OF_HEADER: usize = 33;
    let body = [kind.as_slice(), data].concat();
    let chunk = [&(data.len() as u32).to_be_bytes(), body.as_slice(), &crc32(&body).to_be_bytes()].concat();
    [&png[..END_OF_HEADER], chunk.as_slice(), &png[END_OF_HEADER..]].concat()
}

/// A PNG whose header claims another size.
fn of_size(png: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut changed = png.to_vec();
    changed[16..20].copy_from_slice(&width.to_be_bytes());
    changed[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&changed[12..29]);
    changed[29..33].copy_from_slice(&checksum.to_be_bytes());
    changed
}

/// A little-endian TIFF whose only page appears a second time.
fn with_second_page(tiff: &[u8]) -> Vec<u8> {
    assert_eq!(tiff[..4], *b"II*\0");
    let mut changed = tiff.to_vec();
    let page = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
    let next = page + 2 + 12 * usize::from(u16::from_le_bytes([tiff[page], tiff[page + 1]]));
    changed[next..next + 4].copy_from_slice(&(tiff.len() as u32).to_le_bytes());
    changed.extend_from_slice(&tiff[page..next + 4]);
    changed
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    })
}

/// An ONNX file that keeps a weight in another file.
pub fn external_data() -> Vec<u8> {
    let place = [field(1, b"location"), field(2, b"/etc/hostname")].concat();
    let tensor = [field(8, b"weight"), field(13, &place)].concat();
    field(7, &field(5, &tensor))
}

/// An ONNX file with a node that runs compiled code from another file.
pub fn context_node() -> Vec<u8> {
    let path = [field(1, b"ep_cache_context"), field(4, b"../engine.bin"), vec![0xa0, 1, 3]].concat();
    let node =
        [field(2, b"out"), field(4, b"EPContext"), field(5, &path), field(7, b"com.microsoft")].concat();
    field(7, &field(1, &node))
}

/// A valid ONNX network, which hands on vectors of three numbers.
pub fn vector_network() -> Vec<u8> {
    // Of the format's version 8 and operators of version 13.
    let versions = [vec![1 << 3, 8], field(8, &[2 << 3, 13])].concat();
    let node = [field(1, b"in"), field(2, b"out"), field(4, b"Identity")].concat();
    let outlet = |name: &[u8]| {
        let (float, shape) = (vec![1 << 3, 1], field(2, &field(1, &[1 << 3, 3])));
        [field(1, name), field(2, &field(1, &[float, shape].concat()))].concat()
    };
    let graph = [field(1, &node), field(2, b"g"), field(11, &outlet(b"in")), field(12, &outlet(b"out"))];
    [versions, field(7, &graph.concat())].concat()
}

/// A valid ONNX backbone that never ends: it hands on its picture, after a loop whose condition stays true.
pub fn endless_network() -> Vec<u8> {
    const FLOAT: u8 = 1;
    const INT64: u8 = 7;
    const BOOL: u8 = 9;
    // Four dimensions of any size, or none.
    let outlet = |name: &[u8], kind: u8, dimensions: usize| {
        let shape = field(2, &field(1, &field(2, b"n")).repeat(dimensions));
        [field(1, name), field(2, &field(1, &[vec![1 << 3, kind], shape].concat()))].concat()
    };
    let same =
        |from: &[u8], to: &[u8]| field(1, &[field(1, from), field(2, to), field(4, b"Identity")].concat());
    let body = [
        same(b"on", b"still"),
        same(b"seen", b"kept"),
        field(2, b"body"),
        field(11, &outlet(b"step", INT64, 0)),
        field(11, &outlet(b"on", BOOL, 0)),
        field(11, &outlet(b"seen", FLOAT, 4)),
        field(12, &outlet(b"still", BOOL, 0)),
        field(12, &outlet(b"kept", FLOAT, 4)),
    ];
    // An attribute whose type, the field 20, is a graph.
    let attribute = [field(1, b"body"), field(6, &body.concat()), vec![0xA0, 1, 5]].concat();
    let (inlets, name) = ([field(1, b""), field(1, b"true"), field(1, b"in")], field(4, b"Loop"));
    let node = [inlets.concat(), field(2, b"out"), name, field(5, &attribute)].concat();
    let yes = [vec![2 << 3, BOOL], field(8, b"true"), field(9, &[1])].concat();
    let versions = [vec![1 << 3, 8], field(8, &[2 << 3, 13])].concat();
    let graph = [
        field(1, &node),
        field(2, b"g"),
        field(5, &yes),
        field(11, &outlet(b"in", FLOAT, 4)),
        field(12, &outlet(b"out", FLOAT, 4)),
    ];
    [versions, field(7, &graph.concat())].concat()
}

/// A field of a protocol-buffer message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(number < 16 && bytes.len() < 1 << 14);
    let length = match bytes.len() {
        short @ 0..128 => vec![short as u8],
        long => vec![long as u8 | 0x80, (long >> 7) as u8],
    };
    [&[number << 3 | 2], length.as_slice(), bytes].concat()
}

/// A test that cannot run here says so, and leaves a line where `make` prints it after everything else.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIP {test}: {why}");
    eprintln!("{line}");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut list =
        std::fs::OpenOptions::new().create(true).append(true).open(target.join("skipped.txt")).unwrap();
    writeln!(list, "{line}").unwrap();
}
