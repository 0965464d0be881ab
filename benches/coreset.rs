//! The coreset of all good parts' tokens, on pictures: `cargo bench --bench coreset -- PICTURES`
//!
//! Times it with one thread and with all, and leaves tokens and choices in target/coreset for tools/bench_coreset.py, which
//! runs another program's loop on the same tokens.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use ndarray::{Array2, ArrayView2, Axis, concatenate, s};
use posfar::coreset::{greedy_k_center, random_projection};
use posfar::{Matching, position};
use rayon::ThreadPoolBuilder;
use weakrest::enroll::{Settings, enroll, find_pictures};
use weakrest::inspector::{Features, Options};
use weakrest::package::Backbone;
use weakrest::{Frame, Inspector};

type Outcome<T> = Result<T, Box<dyn Error>>;

const FOLDER: &str = "target/coreset";

/// The tokens that enrolling thins, in the space in which it measures distances.
fn tokens(pictures: &Path) -> Outcome<Array2<f32>> {
    let pictures = find_pictures(pictures)?;
    let options = Options::default();
    let done =
        enroll(&pictures, &Backbone::built_in()?, &Settings::default(), &options, &mut |_, _, _| true)?
            .ok_or("stopped")?;
    let parts = done.package.bank.parts();
    let (parameters, scale) = (parts.parameters.clone(), parts.feature_scale);
    let projection = random_projection(parts.tokens.ncols(), parameters.projection, parameters.seed);
    let (mut stage, ..) = Inspector::with_options(done.package, &options)?.into_stages();
    let mut features = Features::default();
    let mut projected = Vec::new();
    for (picture, _) in &done.scores {
        stage.run(&Frame::open(picture)?, &mut features)?;
        let mut tokens = features.tokens.clone();
        if let Matching::Soft { weight } = parameters.matching {
            let embedding = position::embedding(features.placement.grid, tokens.ncols());
            tokens.scaled_add(weight * scale, &embedding);
        }
        projected.push(tokens.dot(&projection));
    }
    let views: Vec<ArrayView2<f32>> = projected.iter().map(|t| t.view()).collect();
    Ok(concatenate(Axis(0), &views)?)
}

fn measure(name: &str, tokens: ArrayView2<f32>) -> Outcome<()> {
    let keep = tokens.nrows() / 10;
    let mut choices = Vec::new();
    for threads in [1, 0] {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let start = Instant::now();
        let kept = pool.install(|| greedy_k_center(tokens, keep, 0, |_| true))?.ok_or("stopped")?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{} tokens to {keep}, {} threads: {seconds:.2} s",
            tokens.nrows(),
            pool.current_num_threads()
        );
        fs::write(format!("{FOLDER}/{name}-{}.seconds", pool.current_num_threads()), seconds.to_string())?;
        choices.push(kept);
    }
    assert_eq!(choices[0], choices[1], "the choice depends on the number of threads");
    let bytes: Vec<u8> = tokens.iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(format!("{FOLDER}/{name}-{}.f32", tokens.ncols()), bytes)?;
    let bytes: Vec<u8> = choices[0].iter().flat_map(|&i| (i as u64).to_le_bytes()).collect();
    fs::write(format!("{FOLDER}/{name}.kept"), bytes)?;
    Ok(())
}

fn main() -> Outcome<()> {
    // Cargo adds `--bench`.
    let pictures =
        std::env::args_os().skip(1).find(|a| a != "--bench").ok_or("which folder of good parts?")?;
    fs::create_dir_all(FOLDER)?;
    let all = tokens(Path::new(&pictures))?;
    measure("share", all.slice(s![..;10, ..]))?;
    measure("all", all.view())
}
