use ndarray::{Array2, ArrayView2, Axis};
use posfar::pca::{Keep, Pca};
use proptest::prelude::*;

use crate::support::{Draw, Kind, KindOf, project, wide, with_threads};

/// Rows whose variance differs from direction to direction, somewhere away from the origin.
fn sample(count: usize, channels: usize, seed: u64) -> Array2<f32> {
    let mut draw = Draw::new(seed);
    let mixing = draw.reals(channels, channels);
    let mut rows = draw.reals(count, channels);
    for (j, mut column) in rows.columns_mut().into_iter().enumerate() {
        column.mapv_inplace(|v| v * 4.0 * 0.6f32.powi(j as i32));
    }
    let offset = draw.reals(1, channels) * 3.0;
    rows.dot(&mixing) + offset
}

fn covariance(rows: ArrayView2<f32>) -> Array2<f64> {
    let rows = wide(rows);
    let centered = &rows - &rows.mean_axis(Axis(0)).unwrap();
    let channels = rows.ncols();
    Array2::from_shape_fn((channels, channels), |(i, j)| {
        centered.rows().into_iter().map(|r| r[i] * r[j]).sum::<f64>() / rows.nrows() as f64
    })
}

/// Eigenvalues of a symmetric matrix by Jacobi's rotations, largest first.
fn eigenvalues(mut m: Array2<f64>) -> Vec<f64> {
    let n = m.nrows();
    for _ in 0..60 {
        for p in 0..n {
            for q in p + 1..n {
                if m[[p, q]].abs() < 1e-300 {
                    continue;
                }
                let angle = 0.5 * (2.0 * m[[p, q]]).atan2(m[[q, q]] - m[[p, p]]);
                let (s, c) = angle.sin_cos();
                for k in 0..n {
                    let (a, b) = (m[[k, p]], m[[k, q]]);
                    (m[[k, p]], m[[k, q]]) = (c * a - s * b, s * a + c * b);
                }
                for k in 0..n {
                    let (a, b) = (m[[p, k]], m[[q, k]]);
                    (m[[p, k]], m[[q, k]]) = (c * a - s * b, s * a + c * b);
                }
            }
        }
    }
    let mut values: Vec<f64> = m.diag().iter().map(|v| v.max(0.0)).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn components_are_orthonormal_and_their_largest_entry_is_positive(
        count in 1usize..300, channels in 1usize..12, keep in 1usize..14, seed: u64,
    ) {
        let pca = Pca::fit(sample(count, channels, seed).view(), Keep::Components(keep)).unwrap();
        prop_assert_eq!(pca.components.dim(), (channels, keep.min(channels)));
        let gram = wide(pca.components.view());
        let gram = gram.t().dot(&gram);
        for ((i, j), v) in gram.indexed_iter() {
            prop_assert!((v - f64::from(i == j)).abs() < 1e-5, "{gram}");
        }
        for column in pca.components.columns() {
            let largest = column.iter().fold(0.0f32, |m, &v| if v.abs() > m.abs() { v } else { m });
            prop_assert!(largest > 0.0);
        }
    }

    #[test]
    fn components_explain_the_largest_variances(count in 20usize..300, channels in 1usize..10, seed: u64) {
        let rows = sample(count, channels, seed);
        let covariance = covariance(rows.view());
        let values = eigenvalues(covariance.clone());
        let total: f64 = values.iter().sum();
        let pca = Pca::fit(rows.view(), Keep::Components(channels)).unwrap();
        let projected = wide(pca.transform(rows.view()).view());
        let components = wide(pca.components.view());
        for j in 0..channels {
            let column = projected.column(j);
            let mean = column.mean().unwrap();
            let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count as f64;
            prop_assert!(mean.abs() < 1e-4 * total.sqrt());
            prop_assert!((variance - values[j]).abs() < 1e-4 * total, "{j}: {variance} {values:?}");
            let direction = components.column(j);
            let turned = covariance.dot(&direction) - &direction * values[j];
            prop_assert!(turned.iter().all(|v| v.abs() < 1e-4 * total));
        }
    }

    #[test]
    fn as_few_components_are_kept_as_hold_the_share(
        count in 20usize..200, channels in 1usize..10, share in 0.05f64..1.0, seed: u64,
    ) {
        let rows = sample(count, channels, seed);
        let values = eigenvalues(covariance(rows.view()));
        let total: f64 = values.iter().sum();
        let kept = Pca::fit(rows.view(), Keep::Variance(share)).unwrap().dims();
        let held = |n: usize| values[..n].iter().sum::<f64>() / total;
        prop_assert!(held(kept) > share - 1e-5, "{kept} hold {}", held(kept));
        prop_assert!(held(kept - 1) < share + 1e-5, "{} hold {} already", kept - 1, held(kept - 1));
    }

    #[test]
    fn what_is_lost_in_projecting_is_the_variance_left_out(
        count in 20usize..200, channels in 2usize..10, left_out in 0usize..4, seed: u64,
    ) {
        let rows = sample(count, channels, seed);
        let values = eigenvalues(covariance(rows.view()));
        let total: f64 = values.iter().sum();
        let kept = channels.saturating_sub(left_out).max(1);
        let pca = Pca::fit(rows.view(), Keep::Components(kept)).unwrap();
        let back = pca.transform(rows.view()).dot(&pca.components.t()) + &pca.mean;
        let lost = (wide(rows.view()) - wide(back.view())).mapv(|v| v * v).sum() / count as f64;
        prop_assert!((lost - values[kept..].iter().sum::<f64>()).abs() < 1e-4 * total);
        let slow = project(wide(rows.view()).view(), &pca);
        let fast = wide(pca.transform(rows.view()).view());
        prop_assert!((slow - fast).iter().all(|v| v.abs() < 1e-4 * total.sqrt()));
    }
}

#[test]
fn a_fit_and_a_projection_do_not_depend_on_the_number_of_threads() {
    let rows = sample(9000, 7, 1);
    let results = with_threads(|| {
        let pca = Pca::fit(rows.view(), Keep::Variance(0.9)).unwrap();
        let projected = pca.transform(rows.view());
        (pca, projected)
    });
    assert!(results.iter().all(|r| *r == results[0]));
}

#[test]
fn rows_without_variance_keep_one_component() {
    for count in [1, 50] {
        let rows = Array2::from_elem((count, 4), 0.3);
        let pca = Pca::fit(rows.view(), Keep::Variance(0.95)).unwrap();
        assert_eq!(pca.dims(), 1);
        assert!(pca.transform(rows.view()).iter().all(|v| v.abs() < 1e-6));
    }
}

#[test]
fn what_is_not_finite_is_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [[0, 0], [4999, 2]] {
            let mut rows = sample(5000, 3, 2);
            rows[place] = bad;
            let error = Pca::fit(rows.view(), Keep::Components(2)).unwrap_err();
            assert_eq!(error.kind(), Kind::NotFinite);
        }
    }
    let mut both = sample(10, 3, 2);
    (both[[0, 0]], both[[1, 0]]) = (f32::INFINITY, f32::NEG_INFINITY);
    assert_eq!(Pca::fit(both.view(), Keep::Components(2)).unwrap_err().kind(), Kind::NotFinite);
}

/// Finite numbers whose squares are not: an eigenvalue solver may search forever in what comes of them.
#[test]
fn what_overflows_is_refused() {
    let rows = sample(50, 4, 3) * 1e25;
    assert!(rows.iter().all(|v| v.is_finite()));
    assert_eq!(Pca::fit(rows.view(), Keep::Variance(0.9)).unwrap_err().kind(), Kind::NotFinite);
}

#[test]
fn nothing_cannot_be_fitted() {
    for shape in [(0, 3), (3, 0), (0, 0)] {
        let rows = Array2::<f32>::zeros(shape);
        assert_eq!(Pca::fit(rows.view(), Keep::Components(1)).unwrap_err().kind(), Kind::InvalidArgument);
    }
}
