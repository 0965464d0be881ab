//! The nearest-neighbor search: `cargo bench --bench search -- [THREADS [SEARCHES.safetensors …]]`
//!
//! Prints one line of JSON per file of `weakrest bench --dump`, and writes the neighbors of the first search beside the
//! file, for tools/bench_search.py, which runs other programs on the same arrays. Without a file, the rows are made up.
//! The last line has the processor's peak and the search's speed if nothing can be skipped, in GFLOP/s.

#![allow(clippy::single_range_in_vec_init, reason = "one range of rows is a usual search")]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, s};
use posfar::search::{Index, Instructions, Neighbor, Scratch};
use rayon::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

const ROUNDS: usize = 15;
const MADE_UP: &str = "made-up rows";

/// Median milliseconds, each round on another search.
fn time(searches: usize, mut work: impl FnMut(usize)) -> f64 {
    (0..searches.min(3)).for_each(&mut work);
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let start = Instant::now();
            work(round % searches);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn nearest(index: &Index, queries: ArrayView2<f32>, scratch: &mut Scratch) -> Vec<Neighbor> {
    let mut found = vec![Neighbor::NONE; queries.nrows()];
    index.nearest(queries, &[0..index.len()], |_, _| true, scratch, &mut found);
    found
}

/// The obvious loop.
fn plain_loop(queries: ArrayView2<f32>, bank: ArrayView2<f32>) -> Vec<usize> {
    let nearest = |query: ndarray::ArrayView1<f32>| {
        let mut best = (f32::INFINITY, 0);
        for (row, token) in bank.rows().into_iter().enumerate() {
            let distance = query.iter().zip(token).map(|(q, t)| (q - t) * (q - t)).sum();
            if distance < best.0 {
                best = (distance, row);
            }
        }
        best.1
    };
    queries.axis_iter(Axis(0)).into_par_iter().map(nearest).collect()
}

/// The usual way: products of blocks by the crate `matrixmultiply`, and the smallest value of each row.
fn products(queries: ArrayView2<f32>, bank: ArrayView2<f32>, norms: &[f32]) -> Vec<usize> {
    const QUERIES: usize = 64;
    const CANDIDATES: usize = 256;
    let mut out = vec![(f32::INFINITY, 0); queries.nrows()];
    out.par_chunks_mut(QUERIES).enumerate().for_each_init(
        || Array2::<f32>::zeros((QUERIES, CANDIDATES)),
        |products, (block, out)| {
            let queries = queries.slice(s![block * QUERIES..block * QUERIES + out.len(), ..]);
            for start in (0..bank.nrows()).step_by(CANDIDATES) {
                let end = bank.nrows().min(start + CANDIDATES);
                let mut products = products.slice_mut(s![..out.len(), ..end - start]);
                general_mat_mul(-2.0, &queries, &bank.slice(s![start..end, ..]).t(), 0.0, &mut products);
                for (line, best) in products.rows().into_iter().zip(out.iter_mut()) {
                    for ((offset, product), norm) in line.iter().enumerate().zip(&norms[start..end]) {
                        if product + norm < best.0 {
                            *best = (product + norm, start + offset);
                        }
                    }
                }
            }
        },
    );
    out.into_iter().map(|(_, row)| row).collect()
}

/// Queries, rows, their index, and the rows' squared norms.
type Search = (Array2<f32>, Array2<f32>, Index, Vec<f32>);

fn search(queries: Array2<f32>, bank: Array2<f32>) -> Outcome<Search> {
    let index = Index::new(bank.view())?;
    let norms = bank.rows().into_iter().map(|r| r.dot(&r)).collect();
    Ok((queries, bank, index, norms))
}

fn read(file: &str) -> Outcome<Vec<Search>> {
    let bytes = std::fs::read(file)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let array = |name: String| -> Outcome<Array2<f32>> {
        let tensor = tensors.tensor(&name)?;
        let values = tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Ok(Array2::from_shape_vec((tensor.shape()[0], tensor.shape()[1]), values)?)
    };
    let pair =
        |number| search(array(format!("queries.{number:03}"))?, array(format!("candidates.{number:03}"))?);
    (0..tensors.len() / 2).map(pair).collect()
}

/// Rows of 200 clusters, with less variance in each further dimension, as after PCA.
fn made_up() -> Outcome<Vec<Search>> {
    let mut normal = normal();
    let centers = Array2::from_shape_fn((200, 32), |(_, dim)| 4.0 * normal() / (1.0 + dim as f32));
    let mut rows = |count: usize| {
        Array2::from_shape_fn((count, 32), |(row, dim)| {
            centers[[row * 37 % 200, dim]] + normal() / (2.0 + dim as f32)
        })
    };
    let bank = rows(16_384);
    Ok(vec![search(rows(2_048), bank)?])
}

fn measure(name: &str, searches: &[Search]) -> Outcome<Value> {
    let mut times = Map::new();
    for instructions in Instructions::available() {
        let mut scratch = Scratch::new(instructions);
        let ms = time(searches.len(), |i| {
            black_box(nearest(&searches[i].2, searches[i].0.view(), &mut scratch));
        });
        times.insert(format!("{instructions:?}"), ms.into());
    }
    let ms = time(searches.len(), |i| {
        black_box(products(searches[i].0.view(), searches[i].1.view(), &searches[i].3));
    });
    times.insert("matrixmultiply".into(), ms.into());
    let start = Instant::now();
    let slow = plain_loop(searches[0].0.view(), searches[0].1.view());
    times.insert("plain loop".into(), (start.elapsed().as_secs_f64() * 1e3).into());

    let (queries, bank, index, _) = &searches[0];
    let found = nearest(index, queries.view(), &mut Scratch::default());
    for (query, (found, slow)) in queries.rows().into_iter().zip(found.iter().zip(slow)) {
        let distance = |row: usize| -> f64 {
            query.iter().zip(bank.row(row)).map(|(q, t)| f64::from(q - t).powi(2)).sum()
        };
        let (ours, best) = (distance(found.index as usize), distance(slow));
        if ours > best * (1.0 + 1e-5) {
            return Err(format!("{name}: found a neighbor at {ours}, but one is at {best}").into());
        }
    }
    if name != MADE_UP {
        let found: Vec<u8> = found.iter().flat_map(|n| n.index.to_le_bytes()).collect();
        std::fs::write(format!("{name}.found"), found)?;
    }
    let (count, candidates, dims) = (queries.nrows(), bank.nrows(), bank.ncols());
    Ok(json!({ "file": name, "queries": count, "candidates": candidates, "dims": dims, "ms": times }))
}

/// Billions of single-precision operations per second: independent fused multiply-adds in registers, on all threads.
#[cfg(target_arch = "x86_64")]
fn peak() -> f64 {
    use std::arch::x86_64::*;
    const STEPS: usize = 4_000_000;
    #[target_feature(enable = "avx512f")]
    fn avx512() -> f32 {
        let mut sums = [_mm512_set1_ps(1.0); 16];
        let (a, b) = (black_box(_mm512_set1_ps(0.999)), black_box(_mm512_set1_ps(0.001)));
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        sums.into_iter().map(|s| _mm512_reduce_add_ps(s)).sum()
    }
    #[target_feature(enable = "avx2,fma")]
    fn avx2() -> f32 {
        let mut sums = [_mm256_set1_ps(1.0); 12];
        let (a, b) = (black_box(_mm256_set1_ps(0.999)), black_box(_mm256_set1_ps(0.001)));
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        sums.into_iter().map(|s| _mm256_cvtss_f32(s)).sum()
    }
    let threads = rayon::current_num_threads();
    let (work, operations): (fn() -> f32, usize) = if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions.
        (|| unsafe { avx512() }, 16 * 16 * 2)
    } else if is_x86_feature_detected!("fma") {
        // SAFETY: the processor has the instructions.
        (|| unsafe { avx2() }, 12 * 8 * 2)
    } else {
        return f64::NAN;
    };
    let mut best: f64 = 0.0;
    for _ in 0..5 {
        let start = Instant::now();
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
            black_box(work());
        });
        best = best.max((threads * STEPS * operations) as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

#[cfg(not(target_arch = "x86_64"))]
fn peak() -> f64 {
    f64::NAN
}

/// Nearly normal values: sums of twelve uniform ones.
fn normal() -> impl FnMut() -> f32 {
    let mut state = 1u64;
    move || {
        (0..12)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u32 << 24) as f32
            })
            .sum::<f32>()
            - 6.0
    }
}

/// Billions of operations per second that a search without bounds would need, on independent normal values: there, no
/// bound excludes a row.
fn dense() -> f64 {
    let (queries, candidates, dims) = (2048, 16_384, 64);
    let mut draw = normal();
    let bank = Array2::from_shape_simple_fn((candidates, dims), &mut draw);
    let queries = Array2::from_shape_simple_fn((queries, dims), &mut draw);
    let index = Index::new(bank.view()).unwrap_or_else(|e| panic!("{e}"));
    let mut scratch = Scratch::default();
    let ms = time(1, |_| {
        black_box(nearest(&index, queries.view(), &mut scratch));
    });
    (2 * queries.len() * candidates) as f64 / ms / 1e6
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    // 0: one per core.
    let threads = arguments.next().map_or(Ok(0), |threads| threads.parse())?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let files: Vec<String> = arguments.collect();
    if files.is_empty() {
        println!("{}", measure(MADE_UP, &made_up()?)?);
    }
    for file in files {
        println!("{}", measure(&file, &read(&file)?)?);
    }
    println!("{}", json!({ "peak": peak(), "dense": dense() }));
    Ok(())
}
