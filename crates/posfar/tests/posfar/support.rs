//! What the slow implementations share.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use posfar::pca::Pca;
use posfar::{Error, Grid};
use rayon::ThreadPoolBuilder;

/// A small seeded generator: the same numbers on every machine.
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Draw(seed ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let x = self.0 ^ (self.0 >> 33);
        x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 16
    }

    /// Uniform in 0..`n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Uniform in -1..1.
    pub fn real(&mut self) -> f32 {
        (self.bits() % (1 << 24)) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Small whole numbers from `-span` to `span`: sums of their products are exact in `f32`.
    pub fn integers(&mut self, rows: usize, cols: usize, span: usize) -> Array2<f32> {
        Array2::from_shape_simple_fn((rows, cols), || self.below(2 * span + 1) as f32 - span as f32)
    }

    pub fn reals(&mut self, rows: usize, cols: usize) -> Array2<f32> {
        Array2::from_shape_simple_fn((rows, cols), || self.real())
    }
}

/// The same work with 1, 2 and 5 threads.
pub fn with_threads<T: Send>(work: impl Fn() -> T + Sync) -> Vec<T> {
    [1, 2, 5]
        .iter()
        .map(|&n| ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(&work))
        .collect()
}

pub fn wide(rows: ArrayView2<f32>) -> Array2<f64> {
    rows.mapv(f64::from)
}

pub fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Projection in double precision, by its definition.
pub fn project(rows: ArrayView2<f64>, pca: &Pca) -> Array2<f64> {
    let mut out = Array2::zeros((rows.nrows(), pca.dims()));
    for (row, mut target) in rows.axis_iter(Axis(0)).zip(out.axis_iter_mut(Axis(0))) {
        for (j, t) in target.iter_mut().enumerate() {
            for (i, v) in row.iter().enumerate() {
                *t += (v - f64::from(pca.mean[i])) * f64::from(pca.components[[i, j]]);
            }
        }
    }
    out
}

/// The position embedding of one cell, written down from the paper's formula.
pub fn embedding_of(row: usize, col: usize, channels: usize) -> Array1<f64> {
    let quarter = channels / 4;
    let mut values = Vec::new();
    for place in [row, col] {
        for wave in [f64::sin, f64::cos] {
            for k in 0..quarter {
                let wavelength = 10_000f64.powf(k as f64 / quarter as f64);
                values.push(wave(place as f64 / wavelength));
            }
        }
    }
    values.resize(channels, 0.0);
    Array1::from_vec(values)
}

/// Means over the 8 × 8 windows: a cell belongs to every window that it shares some area with.
pub fn window_means(early: ArrayView2<f64>, grid: Grid) -> Array2<f64> {
    let shares = |cell: usize, window: usize, len: usize| {
        8 * cell < (window + 1) * len && 8 * (cell + 1) > window * len
    };
    let mut means = Array2::zeros((64, early.ncols()));
    for window in 0..64 {
        let mut cells = 0.0;
        for row in (0..grid.0).filter(|&r| shares(r, window / 8, grid.0)) {
            for col in (0..grid.1).filter(|&c| shares(c, window % 8, grid.1)) {
                cells += 1.0;
                for (m, v) in means.row_mut(window).iter_mut().zip(early.row(row * grid.1 + col)) {
                    *m += v;
                }
            }
        }
        means.row_mut(window).mapv_inplace(|m: f64| m / cells);
    }
    means
}

/// Mean of the nearest 80 % of the windows' distances, rounded up to whole windows: 52 of 64.
pub fn trimmed_mean(a: ArrayView2<f64>, b: ArrayView2<f64>) -> f64 {
    let mut distances: Vec<f64> = a
        .rows()
        .into_iter()
        .zip(b.rows())
        .map(|(a, b)| squared_distance(&a.to_vec(), &b.to_vec()).sqrt())
        .collect();
    distances.sort_by(f64::total_cmp);
    distances[..52].iter().sum::<f64>() / 52.0
}

/// The variants of [`Error`], without their messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    InvalidArgument,
    ShapeMismatch,
    InvalidBank,
    NotFinite,
    Storage,
}

pub trait KindOf {
    fn kind(&self) -> Kind;
}

impl KindOf for Error {
    fn kind(&self) -> Kind {
        match self {
            Error::InvalidArgument(_) => Kind::InvalidArgument,
            Error::ShapeMismatch(_) => Kind::ShapeMismatch,
            Error::InvalidBank(_) => Kind::InvalidBank,
            Error::NotFinite(_) => Kind::NotFinite,
            other => {
                assert!(matches!(other, Error::Storage(_)), "{other}");
                Kind::Storage
            }
        }
    }
}
