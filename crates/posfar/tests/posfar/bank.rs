//! Fitting a bank and subtracting it, end to end.

use half::f16;
use ndarray::{Array2, Array3, ArrayView2, Axis};
use posfar::coreset::{greedy_k_center, random_projection};
use posfar::pca::{Keep, Pca};
use posfar::search::Neighbor;
use posfar::{
    Bank, BankParts, CoresetScope, Error, Grid, Matching, Parameters, Residuals, Scratch, TokenPlace,
    TokenStore, fit,
};
use proptest::prelude::*;

use crate::support::{
    Draw, Kind, KindOf, embedding_of, project, squared_distance, trimmed_mean, wide, window_means,
    with_threads,
};

/// Rows of the bank that may be matched once these images were retrieved: the one place that knows the rule.
fn candidates(parts: &BankParts, images: &[usize]) -> Vec<usize> {
    (0..parts.places.len()).filter(|&row| images.contains(&(parts.places[row].image as usize))).collect()
}

const CHANNELS: usize = 10;
const GRIDS: [Grid; 6] = [(6, 9), (9, 6), (8, 8), (3, 5), (12, 4), (1, 7)];

fn parameters() -> Parameters {
    Parameters {
        matching: Matching::Soft { weight: 0.3 },
        coreset: CoresetScope::Bank,
        coreset_share: 0.4,
        coreset_floor: 1,
        // Fewer than channels, so that the coreset's distances are projected.
        projection: 6,
        retrieval_channels: 4,
        retrieval_components: 3,
        images: 3,
        ..Parameters::default()
    }
}

/// Images of one product: a smooth pattern over the image's share that they have in common, and noise.
fn images(seed: u64) -> Vec<(Array2<f32>, Grid)> {
    let mut draw = Draw::new(seed);
    let waves = draw.reals(CHANNELS, 3) * 6.0;
    GRIDS
        .iter()
        .map(|&grid| {
            let shade = draw.real();
            let features = Array2::from_shape_fn((grid.0 * grid.1, CHANNELS), |(cell, channel)| {
                let (y, x) = ((cell / grid.1) as f32 / grid.0 as f32, (cell % grid.1) as f32 / grid.1 as f32);
                let wave = waves.row(channel);
                2.0 + (wave[0] * y + wave[1] * x + wave[2]).sin() + 0.3 * shade + 0.2 * draw.real()
            });
            (features, grid)
        })
        .collect()
}

fn store(images: &[(Array2<f32>, Grid)]) -> TokenStore {
    let mut store = TokenStore::default();
    for (features, grid) in images {
        store.push(features.view(), *grid).unwrap();
    }
    store
}

fn bank(store: &TokenStore, parameters: &Parameters) -> Bank {
    fit(store, parameters, &mut |_, _| true).unwrap().unwrap()
}

fn residuals(
    bank: &Bank,
    features: ArrayView2<f32>,
    grid: Grid,
    exclude: &[usize],
    neighbors: usize,
) -> Result<Residuals, Error> {
    let mut out = Residuals::default();
    bank.residuals(features, grid, exclude, neighbors, &mut Scratch::default(), &mut out)?;
    Ok(out)
}

fn amplitude(parts: &BankParts) -> f64 {
    match parts.parameters.matching {
        Matching::Soft { weight } => f64::from(weight) * f64::from(parts.feature_scale),
        Matching::Window { .. } => 0.0,
    }
}

/// Tokens with the position embedding that `parts` ask for.
fn placed(features: ArrayView2<f32>, grid: Grid, parts: &BankParts) -> Array2<f64> {
    let mut tokens = wide(features);
    for (cell, mut token) in tokens.axis_iter_mut(Axis(0)).enumerate() {
        token += &(embedding_of(cell / grid.1, cell % grid.1, features.ncols()) * amplitude(parts));
    }
    tokens
}

/// PosFAR's residuals in double precision and without a shortcut.
struct Slow {
    images: Vec<usize>,
    tokens: Array2<f64>,
    bank: Array2<f64>,
    /// For each token every row that it may match, with the squared distance in PCA space, nearest first.
    matches: Vec<Vec<(usize, f64)>>,
}

fn slow(whole: &Bank, features: ArrayView2<f32>, grid: Grid, exclude: &[usize]) -> Slow {
    let parts = whole.parts();
    let early = wide(features.slice(ndarray::s![.., ..parts.retrieval_pca.mean.len()]));
    let descriptor = project(window_means(early.view(), grid).view(), &parts.retrieval_pca);
    let mut order: Vec<(f64, usize)> = parts
        .descriptors
        .axis_iter(Axis(0))
        .enumerate()
        .filter(|(image, _)| !exclude.contains(image) && !candidates(parts, &[*image]).is_empty())
        .map(|(image, other)| (trimmed_mean(descriptor.view(), wide(other).view()), image))
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    order.truncate(parts.parameters.images);
    let mut images: Vec<usize> = order.into_iter().map(|(_, image)| image).collect();
    images.sort_unstable();

    let tokens = placed(features, grid, parts);
    let bank = parts.tokens.mapv(f64::from);
    let (queries, reduced) = (project(tokens.view(), &parts.pca), project(bank.view(), &parts.pca));
    // The index keeps 16 bits of each value, and neighbors are those of what it keeps.
    let kept = wide(whole.index().rows().view());
    let largest = reduced.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    assert!((&kept - &reduced).iter().all(|d| d.abs() <= largest / 32_767.0 + 1e-5));
    let reduced = kept;
    let candidates = candidates(parts, &images);
    let matches = (0..tokens.nrows())
        .map(|token| {
            let near: Vec<usize> = match parts.parameters.matching {
                Matching::Soft { .. } => candidates.clone(),
                Matching::Window { reach } => {
                    let reach = reach * grid.0.max(grid.1) as f32;
                    let inside = |row: &usize| {
                        let place = parts.places[*row];
                        let rows = (token / grid.1) as f32 - f32::from(place.row);
                        let cols = (token % grid.1) as f32 - f32::from(place.col);
                        rows.abs() <= reach && cols.abs() <= reach
                    };
                    let inside: Vec<usize> = candidates.iter().copied().filter(inside).collect();
                    if inside.is_empty() { candidates.clone() } else { inside }
                }
            };
            let query = queries.row(token).to_vec();
            let mut found: Vec<(usize, f64)> = near
                .into_iter()
                .map(|row| (row, squared_distance(&query, &reduced.row(row).to_vec())))
                .collect();
            found.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
            found
        })
        .collect();
    Slow { images, tokens, bank, matches }
}

/// Compares an image's residuals with the slow ones, as far as single precision can tell neighbors apart.
fn check(bank: &Bank, features: ArrayView2<f32>, grid: Grid, exclude: &[usize], neighbors: usize) {
    let fast = residuals(bank, features, grid, exclude, neighbors).unwrap();
    let slow = slow(bank, features, grid, exclude);
    let count = grid.0 * grid.1;
    assert_eq!(fast.images, slow.images);
    assert_eq!(fast.grid, grid);
    assert_eq!(fast.values.dim(), (neighbors, count, features.ncols()));
    assert_eq!((fast.norms.len(), fast.neighbors.len()), (count, count * neighbors));
    for (token, found) in fast.neighbors.chunks(neighbors).enumerate() {
        let matches = &slow.matches[token];
        let mut seen = Vec::new();
        for (rank, neighbor) in found.iter().enumerate() {
            let Some(&(_, distance)) = matches.get(rank) else {
                assert_eq!(*neighbor, Neighbor::NONE);
                assert_eq!(
                    fast.values.index_axis(Axis(0), rank).row(token),
                    fast.values.index_axis(Axis(0), rank - 1).row(token),
                    "the last neighbor is repeated"
                );
                continue;
            };
            let row = neighbor.index as usize;
            let really = matches.iter().find(|(r, _)| *r == row).expect("a row that may be matched").1;
            assert!((really - distance).abs() < 1e-4, "token {token} rank {rank}: {really} {distance}");
            assert!((f64::from(neighbor.distance) - distance).abs() < 1e-4);
            assert!(!seen.contains(&row));
            seen.push(row);
            let residual = fast.values.index_axis(Axis(0), rank);
            for (channel, value) in residual.row(token).iter().enumerate() {
                let expected = slow.bank[[row, channel]] - slow.tokens[[token, channel]];
                assert!((f64::from(*value) - expected).abs() < 1e-5, "{value} {expected}");
            }
        }
        let nearest = found[0].index as usize;
        let norm =
            squared_distance(&slow.bank.row(nearest).to_vec(), &slow.tokens.row(token).to_vec()).sqrt();
        assert!((f64::from(fast.norms[token]) - norm).abs() < 1e-4);
    }
}

fn scopes() -> impl Strategy<Value = CoresetScope> {
    prop_oneof![Just(CoresetScope::Image), Just(CoresetScope::Bank)]
}

fn rules() -> impl Strategy<Value = Matching> {
    prop_oneof![
        (0.0f32..1.0).prop_map(|weight| Matching::Soft { weight }),
        Just(Matching::Soft { weight: 0.0 }),
        (0.01f32..0.5).prop_map(|reach| Matching::Window { reach }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn residuals_are_those_of_the_slow_implementation(
        matching in rules(), coreset in scopes(), coreset_share in 0.02f32..1.0, k in 1usize..8, neighbors in 1usize..4,
        variance in 0.3f64..1.0, left_out: bool, seed: u64,
    ) {
        let images = images(seed);
        let parameters =
            Parameters { matching, coreset, coreset_share, images: k, variance, seed, coreset_floor: 6, ..parameters() };
        let bank = bank(&store(&images), &parameters);
        for (image, (features, grid)) in images.iter().enumerate() {
            // The image itself, and some others.
            let group = |i: &usize| left_out && (*i == image || seed >> (*i % 64) & 3 == 0);
            let mut exclude: Vec<usize> = (0..images.len()).filter(group).collect();
            if (0..images.len()).all(|i| exclude.contains(&i) || candidates(bank.parts(), &[i]).is_empty()) {
                exclude.clear();
            }
            check(&bank, features.view(), *grid, &exclude, neighbors);
        }
        // An image that the bank has never seen, on a grid of its own.
        let mut draw = Draw::new(seed);
        check(&bank, (draw.reals(5 * 11, CHANNELS) + 2.0).view(), (5, 11), &[], neighbors);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_bank_holds_what_it_was_fitted_on(matching in rules(), coreset_share in 0.02f32..1.0, floor in 0usize..400, seed: u64) {
        let images = images(seed);
        let store = store(&images);
        let parameters = Parameters { matching, coreset_share, coreset_floor: floor, seed, ..parameters() };
        let bank = bank(&store, &parameters);
        let parts = bank.parts();

        let all: usize = images.iter().map(|(_, grid)| grid.0 * grid.1).sum();
        let share = (all as f64 * f64::from(coreset_share)).ceil() as usize;
        prop_assert_eq!(store.tokens(), all);
        prop_assert_eq!(bank.len(), share.max(floor).min(all));
        prop_assert_eq!((bank.channels(), bank.images()), (CHANNELS, images.len()));
        prop_assert!(parts.places.is_sorted_by(|a, b| a < b));

        // The unit of the position weight.
        let pooled = ndarray::concatenate(
            Axis(0), &images.iter().map(|(f, _)| f.view()).collect::<Vec<_>>(),
        ).unwrap();
        let variance = wide(pooled.view()).var_axis(Axis(0), 0.0).mean().unwrap();
        prop_assert!((f64::from(parts.feature_scale) - variance.sqrt()).abs() < 1e-5);

        // Each token is the one of its place, in half precision.
        for (token, place) in parts.tokens.rows().into_iter().zip(&parts.places) {
            let (features, grid) = &images[place.image as usize];
            let cell = usize::from(place.row) * grid.1 + usize::from(place.col);
            let position = embedding_of(place.row.into(), place.col.into(), CHANNELS) * amplitude(parts);
            for ((kept, feature), position) in token.iter().zip(features.row(cell)).zip(&position) {
                let expected = f16::from_f32(*feature).to_f64() + position;
                prop_assert!((kept.to_f64() - expected).abs() < 2e-3, "{kept} {expected}");
            }
        }
        let kept = parts.tokens.mapv(f32::from);
        prop_assert_eq!(&parts.pca, &Pca::fit(kept.view(), Keep::Variance(parameters.variance)).unwrap());
        let early = pooled.mapv(|v| f16::from_f32(v).to_f32());
        let early = early.slice(ndarray::s![.., ..parameters.retrieval_channels]);
        let retrieval = Pca::fit(early, Keep::Components(parameters.retrieval_components)).unwrap();
        prop_assert!((wide(retrieval.components.view()) - wide(parts.retrieval_pca.components.view()))
            .iter().all(|v| v.abs() < 1e-4));
    }
}

/// In the random projection, with the position added.
#[test]
fn the_kept_tokens_are_the_coreset() {
    let images = images(3);
    let parameters = parameters();
    let bank = bank(&store(&images), &parameters);
    let parts = bank.parts();
    let mut tokens = Vec::new();
    let mut places = Vec::new();
    for (image, (features, grid)) in images.iter().enumerate() {
        let stored = features.mapv(|v| f16::from_f32(v).to_f32());
        tokens.push(placed(stored.view(), *grid, parts).mapv(|v| v as f32));
        places.extend((0..grid.0 * grid.1).map(|cell| TokenPlace {
            image: image as u32,
            row: (cell / grid.1) as u16,
            col: (cell % grid.1) as u16,
        }));
    }
    let tokens = ndarray::concatenate(Axis(0), &tokens.iter().map(|t| t.view()).collect::<Vec<_>>()).unwrap();
    let projected = tokens.dot(&random_projection(CHANNELS, parameters.projection, parameters.seed));
    let mut kept = greedy_k_center(projected.view(), bank.len(), parameters.seed, |_| true).unwrap().unwrap();
    kept.sort_unstable();
    assert_eq!(parts.places, kept.iter().map(|&t| places[t]).collect::<Vec<_>>());
}

/// With the coreset taken of each image, every image keeps its own share, chosen among its own tokens alone.
#[test]
fn each_image_keeps_a_coreset_of_its_own() {
    let images = images(4);
    let parameters = Parameters { coreset: CoresetScope::Image, coreset_share: 0.25, ..parameters() };
    let bank = bank(&store(&images), &parameters);
    let parts = bank.parts();
    let all: usize = images.iter().map(|(_, grid)| grid.0 * grid.1).sum();
    let share = (all as f64 * 0.25).ceil() / all as f64;
    let projection = random_projection(CHANNELS, parameters.projection, parameters.seed);
    let mut places = Vec::new();
    for (image, (features, grid)) in images.iter().enumerate() {
        let stored = features.mapv(|v| f16::from_f32(v).to_f32());
        let projected = placed(stored.view(), *grid, parts).mapv(|v| v as f32).dot(&projection);
        let keep = (projected.nrows() as f64 * share).ceil() as usize;
        let mut kept = greedy_k_center(projected.view(), keep, parameters.seed, |_| true).unwrap().unwrap();
        kept.sort_unstable();
        places.extend(kept.into_iter().map(|cell| TokenPlace {
            image: image as u32,
            row: (cell / grid.1) as u16,
            col: (cell % grid.1) as u16,
        }));
    }
    assert_eq!(parts.places, places);
}

#[test]
fn leave_one_out_never_matches_the_image_itself() {
    let images = images(1);
    for matching in [Matching::Soft { weight: 0.1 }, Matching::Window { reach: 0.15 }] {
        let parameters = Parameters { coreset_share: 1.0, images: 100, matching, ..parameters() };
        let bank = bank(&store(&images), &parameters);
        for (image, (features, grid)) in images.iter().enumerate() {
            // Everything was kept, so an image finds itself when it may.
            let itself = residuals(&bank, features.view(), *grid, &[], 1).unwrap();
            assert!(itself.norms.iter().all(|&n| n < 0.02));
            let without = residuals(&bank, features.view(), *grid, &[image], 3).unwrap();
            assert!(!without.images.contains(&image));
            assert_eq!(without.images.len(), images.len() - 1);
            for neighbor in without.neighbors.iter().filter(|n| n.is_some()) {
                assert_ne!(bank.parts().places[neighbor.index as usize].image as usize, image);
            }
            assert!(without.norms.iter().all(|&n| n > 0.05));
        }
    }
}

#[test]
fn a_window_lets_no_neighbor_in_from_beyond_unless_it_is_empty() {
    let images = images(8);
    let matching = Matching::Window { reach: 0.15 };
    let bank =
        bank(&store(&images), &Parameters { matching, coreset_share: 0.15, images: 100, ..parameters() });
    let parts = bank.parts();
    let (mut inside, mut beyond) = (0, 0);
    for (features, grid) in &images {
        let found = residuals(&bank, features.view(), *grid, &[], 1).unwrap();
        let reach = 0.15 * grid.0.max(grid.1) as f32;
        let apart = |token: usize, place: &TokenPlace| {
            let rows = (token / grid.1).abs_diff(usize::from(place.row));
            rows.max((token % grid.1).abs_diff(usize::from(place.col))) as f32
        };
        for (token, neighbor) in found.neighbors.iter().enumerate() {
            if apart(token, &parts.places[neighbor.index as usize]) <= reach {
                inside += 1;
            } else {
                beyond += 1;
                assert!(parts.places.iter().all(|p| apart(token, p) > reach));
            }
        }
    }
    assert!(inside > 50 && beyond > 5, "both ways were tried: {inside} {beyond}");
}

#[test]
fn without_position_a_window_as_large_as_the_image_changes_nothing() {
    let images = images(6);
    let store = store(&images);
    let soft = bank(&store, &Parameters { matching: Matching::Soft { weight: 0.0 }, ..parameters() });
    let window = bank(&store, &Parameters { matching: Matching::Window { reach: 100.0 }, ..parameters() });
    assert_eq!(soft.parts().tokens, window.parts().tokens);
    for (features, grid) in &images {
        let a = residuals(&soft, features.view(), *grid, &[], 3).unwrap();
        let b = residuals(&window, features.view(), *grid, &[], 3).unwrap();
        assert!(same(&a, &b));
    }
}

fn same(a: &Residuals, b: &Residuals) -> bool {
    let bits = |r: &Residuals| {
        let values: Vec<u32> = r.values.iter().chain(&r.norms).map(|v| v.to_bits()).collect();
        let neighbors: Vec<(u32, u32)> =
            r.neighbors.iter().map(|n| (n.index, n.distance.to_bits())).collect();
        (values, neighbors, r.images.clone(), r.grid)
    };
    bits(a) == bits(b)
}

fn all_residuals(bank: &Bank, images: &[(Array2<f32>, Grid)]) -> Vec<Residuals> {
    images
        .iter()
        .enumerate()
        .map(|(i, (features, grid))| residuals(bank, features.view(), *grid, &[i], 3).unwrap())
        .collect()
}

#[test]
fn bank_and_residuals_do_not_depend_on_the_number_of_threads() {
    // Enough tokens for several blocks and chunks everywhere.
    let mut draw = Draw::new(2);
    let images: Vec<_> = (0..12).map(|_| (draw.reals(20 * 24, CHANNELS), (20, 24))).collect();
    let store = store(&images);
    for matching in [Matching::Soft { weight: 0.2 }, Matching::Window { reach: 0.1 }] {
        let parameters = Parameters { matching, coreset_share: 0.2, images: 4, ..parameters() };
        let results = with_threads(|| {
            let bank = bank(&store, &parameters);
            let residuals = all_residuals(&bank, &images[..3]);
            (bank.parts().clone(), residuals)
        });
        for (parts, residuals) in &results {
            assert_eq!(*parts, results[0].0);
            assert!(residuals.iter().zip(&results[0].1).all(|(a, b)| same(a, b)));
        }
    }
}

#[test]
fn the_seed_alone_decides_the_bank() {
    let images = images(4);
    let store = store(&images);
    let one = bank(&store, &parameters());
    assert_eq!(one.parts(), bank(&store, &parameters()).parts());
    let other = bank(&store, &Parameters { seed: 6, ..parameters() });
    assert_ne!(one.parts().places, other.parts().places);
}

#[test]
fn a_stored_bank_gives_the_same_residuals_to_the_last_bit() {
    for (seed, matching) in [(1, Matching::Soft { weight: 0.3 }), (2, Matching::Window { reach: 0.2 })] {
        let images = images(seed);
        let parameters = Parameters { matching, ..parameters() };
        let fresh = bank(&store(&images), &parameters);
        let stored = Bank::from_parts(fresh.parts().clone()).unwrap();
        assert_eq!(fresh.parts(), stored.parts());
        assert_eq!(fresh.index().rows(), stored.index().rows());
        let (a, b) = (all_residuals(&fresh, &images), all_residuals(&stored, &images));
        assert!(a.iter().zip(&b).all(|(a, b)| same(a, b)));
    }
}

#[test]
fn memory_that_was_used_before_changes_nothing() {
    let images = images(7);
    for matching in [Matching::Soft { weight: 0.3 }, Matching::Window { reach: 0.2 }] {
        let bank = bank(&store(&images), &Parameters { matching, ..parameters() });
        let (mut scratch, mut out) = (Scratch::default(), Residuals::default());
        for (i, (features, grid)) in images.iter().chain(images.iter().rev()).enumerate() {
            let neighbors = 1 + i % 3;
            bank.residuals(features.view(), *grid, &[], neighbors, &mut scratch, &mut out).unwrap();
            assert!(same(&out, &residuals(&bank, features.view(), *grid, &[], neighbors).unwrap()));
        }
    }
}

#[test]
fn features_that_are_not_finite_are_refused() {
    let images = images(1);
    let bank = bank(&store(&images), &parameters());
    let (features, grid) = &images[2];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [[0, 0], [0, CHANNELS - 1], [grid.0 * grid.1 - 1, 5]] {
            let mut features = features.clone();
            features[place] = bad;
            let error = residuals(&bank, features.view(), *grid, &[], 1).unwrap_err();
            assert_eq!(error.kind(), Kind::NotFinite);
            let error = TokenStore::default().push(features.view(), *grid).unwrap_err();
            assert_eq!(error.kind(), Kind::NotFinite);
        }
    }
}

/// Distances that overflow find no neighbor. Nothing left over must not look like nothing wrong.
#[test]
fn features_too_large_to_measure_are_refused() {
    let images = images(1);
    for matching in [Matching::Soft { weight: 0.3 }, Matching::Window { reach: 0.2 }] {
        let bank = bank(&store(&images), &Parameters { matching, ..parameters() });
        let (features, grid) = &images[2];
        let (mut scratch, mut out) = (Scratch::default(), Residuals::default());
        bank.residuals(features.view(), *grid, &[], 1, &mut scratch, &mut out).unwrap();
        for huge in [3e38f32, -3e38, 1e38, 1e30, 1e20] {
            for channels in [0..1, 0..CHANNELS] {
                let mut features = features.clone();
                features.slice_mut(ndarray::s![3, channels]).fill(huge);
                let done = bank.residuals(features.view(), *grid, &[], 1, &mut scratch, &mut out);
                assert_eq!(done.map_err(|e| e.kind()), Err(Kind::NotFinite), "{huge}");
            }
        }
        // Large values that can be measured are just very strange.
        let mut features = features.clone();
        features.row_mut(3).fill(1e6);
        bank.residuals(features.view(), *grid, &[], 1, &mut scratch, &mut out).unwrap();
        assert!(out.norms[3] > 1e6);
    }
}

#[test]
fn features_that_half_precision_cannot_hold_are_not_enrolled() {
    let mut features = images(1).remove(2).0;
    features[[5, 5]] = 70_000.0;
    assert_eq!(TokenStore::default().push(features.view(), (8, 8)).unwrap_err().kind(), Kind::NotFinite);
}

#[test]
fn features_of_another_shape_are_refused() {
    let images = images(1);
    let bank = bank(&store(&images), &parameters());
    let (features, _) = &images[2];
    for (features, grid) in [
        (features.clone(), (8, 7)),
        (features.clone(), (0, 8)),
        (Array2::zeros((64, CHANNELS + 1)), (8, 8)),
        (Array2::zeros((64, 0)), (8, 8)),
    ] {
        assert_eq!(residuals(&bank, features.view(), grid, &[], 1).unwrap_err().kind(), Kind::ShapeMismatch);
        let mut store = store(&images);
        assert_eq!(store.push(features.view(), grid).unwrap_err().kind(), Kind::ShapeMismatch);
        assert_eq!(store.len(), images.len());
    }
    let narrow = Array2::zeros((70_000, 1));
    assert_eq!(
        TokenStore::default().push(narrow.view(), (70_000, 1)).unwrap_err().kind(),
        Kind::ShapeMismatch
    );
}

#[test]
fn other_numbers_of_neighbors_than_one_to_three_are_refused() {
    let images = images(1);
    let bank = bank(&store(&images), &parameters());
    for neighbors in [0, 4, usize::MAX] {
        let (features, grid) = &images[0];
        let error = residuals(&bank, features.view(), *grid, &[], neighbors).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
}

#[test]
fn leaving_the_only_image_out_is_refused() {
    let one = images(1).remove(0);
    let bank = bank(&store(std::slice::from_ref(&one)), &parameters());
    let (features, grid) = &one;
    assert!(residuals(&bank, features.view(), *grid, &[], 1).is_ok());
    let error = residuals(&bank, features.view(), *grid, &[0], 1).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.to_string().contains("leave no tokens"), "{error}");
}

#[test]
fn a_fit_tells_its_progress_and_can_be_stopped() {
    let mut draw = Draw::new(3);
    let images: Vec<_> = (0..3).map(|_| (draw.reals(400, CHANNELS), (20, 20))).collect();
    let store = store(&images);
    let parameters = Parameters { coreset_share: 0.5, ..parameters() };
    let mut told = Vec::new();
    let done = fit(&store, &parameters, &mut |n, of| {
        told.push((n, of));
        true
    });
    assert!(done.unwrap().is_some());
    assert!(!told.is_empty() && told.is_sorted() && told.iter().all(|&(n, of)| n <= of && of == 600));
    assert!(fit(&store, &parameters, &mut |_, _| false).unwrap().is_none());
}

#[test]
fn nothing_cannot_be_fitted() {
    let none = fit(&TokenStore::default(), &parameters(), &mut |_, _| true);
    assert_eq!(none.unwrap_err().kind(), Kind::InvalidArgument);
}

#[test]
fn impossible_parameters_are_refused() {
    let store = store(&images(1));
    let good = parameters();
    let soft = |weight| Parameters { matching: Matching::Soft { weight }, ..good.clone() };
    let window = |reach| Parameters { matching: Matching::Window { reach }, ..good.clone() };
    for bad in [
        soft(-0.1),
        soft(f32::NAN),
        soft(f32::INFINITY),
        window(0.0),
        window(-1.0),
        window(f32::NAN),
        Parameters { coreset_share: 0.0, ..good.clone() },
        Parameters { coreset_share: 1.1, ..good.clone() },
        Parameters { coreset_share: f32::NAN, ..good.clone() },
        Parameters { variance: 0.0, ..good.clone() },
        Parameters { variance: 1.5, ..good.clone() },
        Parameters { variance: f64::NAN, ..good.clone() },
        Parameters { images: 0, ..good.clone() },
        Parameters { projection: 0, ..good.clone() },
        Parameters { retrieval_channels: 0, ..good.clone() },
        Parameters { retrieval_components: 0, ..good.clone() },
    ] {
        let error = fit(&store, &bad, &mut |_, _| true).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{bad:?}");
    }
}

/// What a damaged or crafted file can hold.
#[test]
fn parts_that_do_not_fit_each_other_are_refused() {
    type Damage = fn(&mut BankParts);
    let good = bank(&store(&images(1)), &parameters());
    let broken: Vec<(&str, Kind, Damage)> = vec![
        ("no tokens", Kind::InvalidBank, |p| {
            p.tokens = Array2::from_elem((0, CHANNELS), f16::ZERO);
            p.places.clear();
        }),
        ("no channels", Kind::InvalidBank, |p| p.tokens = Array2::from_elem((p.places.len(), 0), f16::ZERO)),
        ("a place too few", Kind::InvalidBank, |p| {
            p.places.pop();
        }),
        ("places out of order", Kind::InvalidBank, |p| p.places.swap(0, 1)),
        ("a place twice", Kind::InvalidBank, |p| p.places[1] = p.places[0]),
        ("an image without descriptor", Kind::InvalidBank, |p| {
            p.places.last_mut().unwrap().image = GRIDS.len() as u32;
        }),
        ("too few windows", Kind::InvalidBank, |p| {
            p.descriptors = p.descriptors.slice(ndarray::s![.., ..63, ..]).to_owned();
        }),
        ("too few descriptor components", Kind::InvalidBank, |p| {
            p.descriptors = p.descriptors.slice(ndarray::s![.., .., ..2]).to_owned();
        }),
        ("no descriptor components", Kind::InvalidBank, |p| {
            p.retrieval_pca.components = Array2::zeros((4, 0));
            // No bytes on disk, however many images it claims to describe.
            p.descriptors = Array3::zeros((1 << 32, 64, 0));
        }),
        ("an early map of no channels", Kind::InvalidBank, |p| {
            p.retrieval_pca = Pca { mean: ndarray::Array1::zeros(0), components: Array2::zeros((0, 3)) };
        }),
        ("an early map of too many channels", Kind::InvalidBank, |p| {
            p.retrieval_pca = Pca { mean: ndarray::Array1::zeros(11), components: Array2::zeros((11, 3)) };
        }),
        ("a mean too long", Kind::InvalidBank, |p| p.retrieval_pca.mean = ndarray::Array1::zeros(5)),
        ("a PCA of other channels", Kind::InvalidBank, |p| {
            p.pca = Pca { mean: ndarray::Array1::zeros(9), components: Array2::zeros((9, 3)) };
        }),
        ("a PCA without components", Kind::InvalidBank, |p| p.pca.components = Array2::zeros((CHANNELS, 0))),
        ("NaN among the tokens", Kind::NotFinite, |p| p.tokens[[2, 3]] = f16::NAN),
        ("infinity among the tokens", Kind::NotFinite, |p| p.tokens[[2, 3]] = f16::INFINITY),
        ("NaN in the PCA", Kind::NotFinite, |p| p.pca.components[[1, 0]] = f32::NAN),
        ("NaN in the PCA's mean", Kind::NotFinite, |p| p.pca.mean[1] = f32::NAN),
        ("NaN in the retrieval's PCA", Kind::NotFinite, |p| p.retrieval_pca.mean[1] = f32::NAN),
        ("NaN among the descriptors", Kind::NotFinite, |p| p.descriptors[[1, 2, 1]] = f32::NAN),
        ("NaN for a scale", Kind::NotFinite, |p| p.feature_scale = f32::NAN),
        ("a PCA that overflows", Kind::NotFinite, |p| p.pca.components.fill(3e38)),
        ("distances that overflow", Kind::NotFinite, |p| p.pca.components.fill(1e20)),
        ("impossible parameters", Kind::InvalidArgument, |p| p.parameters.images = 0),
    ];
    assert!(Bank::from_parts(good.parts().clone()).is_ok());
    for (what, kind, damage) in broken {
        let mut parts = good.parts().clone();
        damage(&mut parts);
        assert_eq!(Bank::from_parts(parts).map(|_| ()).map_err(|e| e.kind()), Err(kind), "{what}");
    }
}
