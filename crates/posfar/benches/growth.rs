//! A picture's residuals and the memory against the number of good images:
//! `cargo bench --bench growth -- GOOD.safetensors PICTURES.safetensors TABLE.json`
//!
//! Both files are what `weakrest bench --dump-features` writes. The banks of 100 to 10,000 images are made of the good
//! ones: each image is a real one's tokens and descriptor with a little noise. Every bank is searched for PICTURES. The
//! table goes to TABLE.json too, for tools/plot_growth.py.

mod features;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use features::{Features, Outcome};
use half::f16;
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, s};
use posfar::{Bank, BankParts, Parameters, Residuals, Scratch, TokenPlace, TokenStore, fit, retrieval};
use rayon::ThreadPoolBuilder;
use serde_json::{Value, json};

const IMAGES: [usize; 5] = [100, 300, 1_000, 3_000, 10_000];
const THREADS: [usize; 2] = [1, 2];
/// Times each picture is measured.
const ROUNDS: usize = 20;
/// Standard deviation of the noise in units of a channel's own.
const NOISE: f32 = 0.1;
const SEED: u64 = 7;
/// Channels of the built-in network's first layers.
const EARLY: usize = 24;

/// The same noise on every machine (SplitMix64 and Box-Muller).
struct Noise {
    state: u64,
    spare: Option<f32>,
}

impl Noise {
    /// In (0, 1].
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((bits ^ (bits >> 31)) >> 40) + 1) as f32 / (1 << 24) as f32
    }

    fn normal(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }
}

/// Each column's standard deviation.
fn deviations(rows: ArrayView2<f32>) -> Array1<f32> {
    rows.std_axis(Axis(0), 0.0)
}

/// A bank of so many images that look like the real ones. Nothing is held twice, so that memory can be measured.
fn enlarge(real: &BankParts, images: usize) -> Outcome<Bank> {
    let channels = real.tokens.ncols();
    let (windows, components) = (real.descriptors.len_of(Axis(1)), real.descriptors.len_of(Axis(2)));
    let enrolled = real.descriptors.len_of(Axis(0));
    let token_noise = deviations(real.tokens.mapv(f16::to_f32).view()) * NOISE;
    let descriptors = real.descriptors.view().into_shape_with_order((enrolled * windows, components))?;
    let descriptor_noise = deviations(descriptors) * NOISE;
    let range = |image: usize| {
        let first = |image: usize| real.places.partition_point(|p| (p.image as usize) < image);
        first(image % enrolled)..first(image % enrolled + 1)
    };

    let count = (0..images).map(|image| range(image).len()).sum();
    let mut tokens = Array2::from_elem((count, channels), f16::ZERO);
    let mut places = Vec::with_capacity(count);
    let mut descriptors = Array3::zeros((images, windows, components));
    let mut noise = Noise { state: SEED, spare: None };
    for image in 0..images {
        for source in range(image) {
            let mut row = tokens.row_mut(places.len());
            for ((to, from), scale) in row.iter_mut().zip(real.tokens.row(source)).zip(&token_noise) {
                *to = f16::from_f32(from.to_f32() + scale * noise.normal());
            }
            places.push(TokenPlace { image: image as u32, ..real.places[source] });
        }
        let mut target = descriptors.index_axis_mut(Axis(0), image);
        let source = real.descriptors.index_axis(Axis(0), image % enrolled);
        for (mut to, from) in target.rows_mut().into_iter().zip(source.rows()) {
            for ((to, from), scale) in to.iter_mut().zip(from).zip(&descriptor_noise) {
                // As packages store them.
                *to = f16::from_f32(from + scale * noise.normal()).to_f32();
            }
        }
    }
    let parameters = real.parameters.clone();
    let (pca, retrieval_pca) = (real.pca.clone(), real.retrieval_pca.clone());
    let feature_scale = real.feature_scale;
    Ok(Bank::from_parts(BankParts {
        parameters,
        feature_scale,
        tokens,
        places,
        pca,
        retrieval_pca,
        descriptors,
    })?)
}

/// Memory of this process that is in use, in bytes.
fn resident() -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? * 1024.0)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Median times in milliseconds: all, the retrieval of images, and the rest.
fn times(bank: &Bank, queries: &[Features], threads: usize) -> Outcome<[f64; 3]> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
    let parts = bank.parts();
    let (early, k) = (parts.retrieval_pca.mean.len(), parts.parameters.images);
    let (mut scratch, mut residuals) = (Scratch::default(), Residuals::default());
    let (mut kept, mut chosen) = (retrieval::Scratch::default(), Vec::new());
    let mut measured: [Vec<f64>; 3] = Default::default();
    for round in 0..=ROUNDS {
        for query in queries {
            let (tokens, grid) = (query.0.view(), query.1);
            let start = Instant::now();
            pool.install(|| bank.residuals(tokens, grid, &[], 1, &mut scratch, &mut residuals))?;
            let whole = start.elapsed().as_secs_f64() * 1e3;
            let start = Instant::now();
            pool.install(|| {
                let found = retrieval::descriptor(tokens.slice(s![.., ..early]), grid, &parts.retrieval_pca);
                retrieval::most_similar(
                    found.view(),
                    parts.descriptors.view(),
                    k,
                    |_| true,
                    &mut kept,
                    &mut chosen,
                );
            });
            let retrieving = start.elapsed().as_secs_f64() * 1e3;
            assert_eq!(chosen, residuals.images, "what is timed is not what the bank does");
            // The first round fills buffers.
            if round > 0 {
                for (all, time) in measured.iter_mut().zip([whole, retrieving, whole - retrieving]) {
                    all.push(time);
                }
            }
        }
    }
    Ok(measured.map(median))
}

fn measure(good: &Path, pictures: &Path, images: usize) -> Outcome<Value> {
    let mut store = TokenStore::default();
    for (features, grid) in features::read(good)? {
        store.push(features.view(), grid)?;
    }
    let parameters = Parameters { retrieval_channels: EARLY, ..Parameters::default() };
    let real = fit(&store, &parameters, &mut |_, _| true)?.ok_or("stopped")?;
    drop(store);
    let queries = features::read(pictures)?;
    let before = resident()?;
    let bank = enlarge(real.parts(), images)?;
    let memory = resident()? - before;
    let threads = THREADS.iter().map(|&n| times(&bank, &queries, n)).collect::<Outcome<Vec<[f64; 3]>>>()?;
    let parts = bank.parts();
    Ok(json!({
        "images": images,
        "tokens": bank.len(),
        "channels": bank.channels(),
        "dims": bank.dims(),
        "k": parts.parameters.images,
        "memory": memory,
        "bytes_per_token": 2 * bank.channels() + 2 * bank.dims() + size_of::<TokenPlace>(),
        "bytes_per_descriptor": 4 * parts.descriptors.len() / images,
        "milliseconds": THREADS.iter().zip(threads).map(|(n, t)| json!({
            "threads": n, "whole": t[0], "retrieval": t[1], "rest": t[2],
        })).collect::<Vec<_>>(),
    }))
}

fn main() -> Outcome<()> {
    // Cargo adds `--bench`.
    let arguments: Vec<_> = std::env::args_os().skip(1).filter(|a| a != "--bench").collect();
    match arguments.as_slice() {
        [good, pictures, images] if images.to_str().is_some_and(|n| n.parse::<usize>().is_ok()) => {
            let images = images.to_string_lossy().parse()?;
            println!("{}", measure(Path::new(good), Path::new(pictures), images)?);
            Ok(())
        }
        [good, pictures, table] => {
            let cores = std::thread::available_parallelism()?;
            println!(
                "images   tokens  threads  residuals  retrieval     rest   memory  per image  per token"
            );
            println!(
                "                              ms         ms          ms       MB         KB          B"
            );
            let mut banks = Vec::new();
            for images in IMAGES {
                // One process each: memory left by an earlier bank would count as this one's.
                let child = Command::new(std::env::current_exe()?)
                    .args([good, pictures])
                    .arg(images.to_string())
                    // Freed memory goes back to the system at once, so that it does not hide the bank's.
                    .env("MALLOC_MMAP_THRESHOLD_", "65536")
                    .stderr(Stdio::inherit())
                    .output()?;
                if !child.status.success() {
                    return Err(format!("{images} images: {}", child.status).into());
                }
                let bank: Value = serde_json::from_slice(&child.stdout)?;
                let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
                let (tokens, memory) = (number(&bank["tokens"]), number(&bank["memory"]));
                for times in bank["milliseconds"].as_array().into_iter().flatten() {
                    println!(
                        "{images:6} {tokens:8} {:8} {:10.2} {:10.2} {:8.2} {:8.1} {:10.1} {:10.0}",
                        times["threads"],
                        number(&times["whole"]),
                        number(&times["retrieval"]),
                        number(&times["rest"]),
                        memory / 1e6,
                        memory / 1e3 / images as f64,
                        memory / tokens,
                    );
                }
                banks.push(bank);
            }
            let machine = format!("{}, {cores} cores", std::env::consts::ARCH);
            fs::write(table, format!("{:#}\n", json!({ "machine": machine, "banks": banks })))?;
            Ok(())
        }
        _ => Err("usage: growth GOOD.safetensors PICTURES.safetensors TABLE.json".into()),
    }
}
