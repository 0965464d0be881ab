//! The input of training: residuals of pictures, exactly as the device gives them to a head.
//!
//! [`write_residuals`] writes shards, `residuals-00000.safetensors` and so on, and `index.json` last: a
//! folder without it is not complete. A tensor of residuals is `f16`, `[neighbors, rows, cols, channels]`:
//! neighbor minus token, scale by scale, each in the package's unit of its residuals. A tensor of the backbone's input is `f16`, `[3,
//! rows × stride, cols × stride]`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::Array4;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::NEIGHBORS;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::imaging::Frame;
use crate::inspector::{Features, FrameResiduals, Inspector, Options, join};
use crate::package::Package;

/// Version of the folder's format.
const FORMAT: u32 = 2;
/// Size at which a shard is written.
const SHARD_BYTES: usize = 256 << 20;

/// One picture of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The picture.
    image: PathBuf,
    /// The enrolled picture that must not match: the one under a synthetic defect. An enrolled picture never
    /// matches itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leave_out: Option<PathBuf>,
}

/// One picture of the index.
#[derive(Debug, Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    shard: String,
    tensor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<String>,
    grid: (usize, usize),
    content: (u32, u32),
    frame: (u32, u32),
}

/// The pictures of a list, with their line numbers.
fn read_list(path: &Path) -> Result<Vec<(usize, Entry)>> {
    let text = files::read_text(path)?;
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let entry = serde_json::from_str(line).map_err(|e| {
            let wrong = r#"not {"image": "PATH"} or {"image": "PATH", "leave_out": "PATH"}"#;
            Error::new(ErrorKind::Usage, wrong).with_source(e).within(format!("{}:{number}", path.display()))
        })?;
        entries.push((number, entry));
    }
    if entries.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "the list has no picture").within(path.display()));
    }
    Ok(entries)
}

/// Writes the residuals of the pictures in `list` to the empty folder `folder`.
///
/// `list` has one JSON object per line, `{"image": "PATH"}` or `{"image": "PATH", "leave_out": "PATH"}`,
/// relative to its folder. The enrolled picture `leave_out` and the others of its part do not match. With `pictures`, the backbone's
/// input is written, too. `progress` is called with (done, total).
///
/// # Errors
/// As [`Inspector::with_options`]; [`ErrorKind::Usage`] for an invalid line, an empty list, a `folder` with
/// content, and a `leave_out` that is not enrolled; [`ErrorKind::Image`] for a picture that cannot be used;
/// [`ErrorKind::StorageFull`] or [`ErrorKind::Io`] when writing fails. Messages name the list's line.
pub fn write_residuals(
    package: Package,
    list: &Path,
    folder: &Path,
    pictures: bool,
    options: &Options,
    mut progress: impl FnMut(usize, usize),
) -> Result<()> {
    let entries = read_list(list)?;
    let base = files::parent(list);
    prepare(folder)?;
    let hash = package.hash.clone();
    let units: Vec<f32> = package.manifest.scales.iter().map(|scale| scale.residual_scale).collect();
    let backbone = files::sha256(&package.backbone);
    let (stride, channels) = (package.manifest.geometry().stride, package.manifest.backbone.kind.channels());
    let scales: Vec<usize> =
        package.manifest.backbone.kind.scales.iter().map(|scale| scale.channels).collect();
    let known = package.pictures.clone();
    let enrolled = known.numbers();
    let (mut features, mut residuals, _) = Inspector::with_options(package, options)?.into_stages();
    features.keep_picture(pictures);

    let mut writer = Writer { folder, hash: &hash, shard: Vec::new(), bytes: 0, shards: 0 };
    let (mut tokens, mut found) = (Features::default(), FrameResiduals::default());
    let mut scaled = Vec::new();
    let mut written = Vec::new();
    let mut origins: HashMap<&Path, usize> = HashMap::new();
    for (done, (line, entry)) in entries.iter().enumerate() {
        let within = |e: Error| e.within(format!("{}:{line}", list.display()));
        let frame = Frame::open(base.join(&entry.image)).map_err(within)?;
        let exclude = match &entry.leave_out {
            None => enrolled.get(&frame.digest()).copied(),
            Some(path) => Some(match origins.get(path.as_path()) {
                Some(number) => *number,
                None => {
                    let origin = Frame::open(base.join(path)).map_err(within)?;
                    let number = *enrolled.get(&origin.digest()).ok_or_else(|| {
                        let wrong = format!("{} is not one of the enrolled pictures", path.display());
                        within(Error::new(ErrorKind::Usage, wrong))
                    })?;
                    origins.insert(path, number);
                    number
                }
            }),
        };
        let judged = |e: Error| within(e.within(entry.image.display()));
        features.run(&frame, &mut tokens).map_err(judged)?;
        residuals.run_without(&tokens, known.of_same_part(exclude), NEIGHBORS, &mut found).map_err(judged)?;
        let grid = tokens.placement.grid;
        scaled.clear();
        let mut joined = Array4::zeros((1, grid.0, grid.1, channels));
        for neighbor in 0..NEIGHBORS {
            join(&found.scales, &units, neighbor, (0, 0), grid, channels, joined.view_mut())?;
            scaled.extend(joined.iter());
        }
        let (rows, cols) = grid;
        let shape = vec![NEIGHBORS, rows, cols, channels];
        let seen = pictures.then(|| {
            let seen = tokens.picture.iter().copied().collect::<Vec<_>>();
            (tokens.picture.shape()[1..].to_vec(), in_half_precision(&seen))
        });
        let (shard, tensor, picture) = writer.add((shape, in_half_precision(&scaled)), seen)?;
        let (content, frame) = (tokens.placement.content, tokens.placement.frame);
        written.push(Written { entry, shard, tensor, picture, grid: (rows, cols), content, frame });
        progress(done + 1, entries.len());
    }
    writer.flush()?;
    let index = serde_json::json!({
        "format": FORMAT, "package": hash, "backbone": backbone, "scales": scales, "neighbors": NEIGHBORS,
        "stride": stride, "pictures": written,
    });
    files::write_file(&folder.join("index.json"), format!("{index:#}\n").as_bytes())
}

/// The values as little-endian `f16`.
pub(super) fn in_half_precision(values: &[f32]) -> Vec<u8> {
    let mut half = vec![f16::ZERO; values.len()];
    half.convert_from_f32_slice(values);
    half.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Creates the folder. It must be empty: files of another run would mix with this one's.
fn prepare(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    let mut entries = fs::read_dir(folder).map_err(|e| Error::io("list", folder, e))?;
    if entries.next().is_some() {
        let wrong = "the folder is not empty; give a new folder, or empty it";
        return Err(Error::new(ErrorKind::Usage, wrong).within(folder.display()));
    }
    Ok(())
}

/// Collects tensors and writes them in files of limited size.
struct Writer<'a> {
    folder: &'a Path,
    hash: &'a str,
    shard: Vec<(String, Vec<usize>, Vec<u8>)>,
    bytes: usize,
    shards: usize,
}

impl Writer<'_> {
    /// Adds a picture's residuals, and its pixels if given. Returns their file and their names.
    fn add(
        &mut self,
        residuals: (Vec<usize>, Vec<u8>),
        picture: Option<(Vec<usize>, Vec<u8>)>,
    ) -> Result<(String, String, Option<String>)> {
        let bytes = residuals.1.len() + picture.as_ref().map_or(0, |(_, bytes)| bytes.len());
        if self.bytes + bytes > SHARD_BYTES && !self.shard.is_empty() {
            self.flush()?;
        }
        self.bytes += bytes;
        let mut put = |(shape, bytes)| {
            let name = format!("{:06}", self.shard.len());
            self.shard.push((name.clone(), shape, bytes));
            name
        };
        let (tensor, picture) = (put(residuals), picture.map(&mut put));
        Ok((self.name(), tensor, picture))
    }

    fn name(&self) -> String {
        format!("residuals-{:05}.safetensors", self.shards)
    }

    fn flush(&mut self) -> Result<()> {
        let failed = |e| Error::new(ErrorKind::Package, "cannot store residuals").with_source(e);
        let views: Vec<(&str, TensorView)> = self
            .shard
            .iter()
            .map(|(name, shape, bytes)| {
                Ok((name.as_str(), TensorView::new(Dtype::F16, shape.clone(), bytes)?))
            })
            .collect::<std::result::Result<_, safetensors::SafeTensorError>>()
            .map_err(failed)?;
        let metadata = HashMap::from([("package".to_owned(), self.hash.to_owned())]);
        let file = safetensors::serialize(views, Some(metadata))
            .map_err(|e| Error::new(ErrorKind::Package, "cannot store residuals").with_source(e))?;
        files::write_file(&self.folder.join(self.name()), &file)?;
        self.shard.clear();
        self.bytes = 0;
        self.shards += 1;
        Ok(())
    }
}
