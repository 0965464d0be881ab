//! The coreset of all good parts' tokens: `cargo bench --bench coreset -- [FEATURES.safetensors [FOLDER]]`
//!
//! Times it with one thread and with all. FEATURES is what `weakrest bench --dump-features` writes; without it the tokens
//! are made up. Tokens, choices and times go to FOLDER, for tools/bench_coreset.py, which runs another program's loop on
//! the same tokens.

mod features;

use std::fs;
use std::path::Path;
use std::time::Instant;

use features::Outcome;
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};
use posfar::coreset::{greedy_k_center, random_projection};
use posfar::{Matching, Parameters, TokenStore, fit, position};
use rayon::ThreadPoolBuilder;

/// The tokens that `fit` thins, in the space in which it measures distances.
fn tokens(file: &Path) -> Outcome<Array2<f32>> {
    let parameters =
        Parameters { images: 1, coreset_share: 0.001, coreset_floor: 1, ..Parameters::default() };
    let images = features::read(file)?;
    let mut store = TokenStore::default();
    for (features, grid) in &images {
        store.push(features.view(), *grid)?;
    }
    let bank = fit(&store, &parameters, &mut |_, _| true)?.ok_or("stopped")?;
    let scale = bank.parts().feature_scale;
    let projection = random_projection(bank.channels(), parameters.projection, parameters.seed);
    let mut projected = Vec::new();
    for (mut tokens, grid) in images {
        if let Matching::Soft { weight } = parameters.matching {
            let embedding = position::embedding(grid, tokens.ncols());
            tokens.scaled_add(weight * scale, &embedding);
        }
        projected.push(tokens.dot(&projection));
    }
    let views: Vec<ArrayView2<f32>> = projected.iter().map(|t| t.view()).collect();
    Ok(concatenate(Axis(0), &views)?)
}

/// Points near 500 centers.
fn made_up() -> Array2<f32> {
    let noise = |n: usize| {
        let bits = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((bits ^ (bits >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    Array2::from_shape_fn((40_000, 64), |(i, j)| 4.0 * noise(i % 500 * 64 + j) + noise(40_000 + i * 64 + j))
}

fn measure(name: &str, tokens: ArrayView2<f32>, folder: Option<&Path>) -> Outcome<()> {
    let keep = tokens.nrows() / 10;
    let mut choices = Vec::new();
    for threads in [1, 0] {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let start = Instant::now();
        let kept = pool.install(|| greedy_k_center(tokens, keep, 0, |_| true))?.ok_or("stopped")?;
        let (seconds, threads) = (start.elapsed().as_secs_f64(), pool.current_num_threads());
        println!("{} tokens to {keep}, {threads} threads: {seconds:.2} s", tokens.nrows());
        if let Some(folder) = folder {
            fs::write(folder.join(format!("{name}-{threads}.seconds")), seconds.to_string())?;
        }
        choices.push(kept);
    }
    assert_eq!(choices[0], choices[1], "the choice depends on the number of threads");
    if let Some(folder) = folder {
        let bytes: Vec<u8> = tokens.iter().flat_map(|v| v.to_le_bytes()).collect();
        fs::write(folder.join(format!("{name}-{}.f32", tokens.ncols())), bytes)?;
        let bytes: Vec<u8> = choices[0].iter().flat_map(|&i| (i as u64).to_le_bytes()).collect();
        fs::write(folder.join(format!("{name}.kept")), bytes)?;
    }
    Ok(())
}

fn main() -> Outcome<()> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [file, folder] = [0, 1].map(|i| arguments.get(i).map(Path::new));
    let Some(file) = file else { return measure("made-up", made_up().view(), None) };
    let all = tokens(file)?;
    measure("share", all.slice(s![..;10, ..]), folder)?;
    measure("all", all.view(), folder)
}
