use posfar::position::embedding;
use proptest::prelude::*;

use crate::support::embedding_of;

proptest! {
    #[test]
    fn every_cell_has_the_value_of_the_formula(rows in 1usize..20, cols in 1usize..20, channels in 1usize..40) {
        let fast = embedding((rows, cols), channels);
        prop_assert_eq!(fast.dim(), (rows * cols, channels));
        for row in 0..rows {
            for col in 0..cols {
                let slow = embedding_of(row, col, channels);
                for (channel, (&f, s)) in fast.row(row * cols + col).iter().zip(&slow).enumerate() {
                    prop_assert!((-1.0..=1.0).contains(&f));
                    prop_assert!((f64::from(f) - s).abs() < 1e-6, "cell {row},{col} channel {channel}: {f} {s}");
                }
            }
        }
    }

    #[test]
    fn a_cell_is_the_same_on_every_grid(
        small in (1usize..12, 1usize..12), more in (0usize..12, 0usize..12), channels in 1usize..24,
    ) {
        let large = (small.0 + more.0, small.1 + more.1);
        let (a, b) = (embedding(small, channels), embedding(large, channels));
        for row in 0..small.0 {
            for col in 0..small.1 {
                prop_assert_eq!(a.row(row * small.1 + col), b.row(row * large.1 + col));
            }
        }
    }

    #[test]
    fn the_first_half_tells_the_row_and_the_second_the_column(grid in (2usize..12, 2usize..12), quarter in 1usize..8) {
        let half = 2 * quarter;
        let values = embedding(grid, 4 * quarter);
        for row in 0..grid.0 {
            for col in 0..grid.1 {
                let cell = values.row(row * grid.1 + col).to_vec();
                prop_assert_eq!(&cell[..half], &values.row(row * grid.1).to_vec()[..half]);
                prop_assert_eq!(&cell[half..], &values.row(col).to_vec()[half..]);
            }
        }
        // Transposing the grid exchanges the halves.
        let turned = embedding((grid.1, grid.0), 4 * quarter);
        for row in 0..grid.0 {
            for col in 0..grid.1 {
                let (a, b) = (values.row(row * grid.1 + col).to_vec(), turned.row(col * grid.0 + row).to_vec());
                prop_assert_eq!((&a[..half], &a[half..]), (&b[half..], &b[..half]));
            }
        }
    }
}

#[test]
fn fewer_than_four_channels_carry_no_position() {
    for channels in 1..4 {
        assert!(embedding((3, 3), channels).iter().all(|&v| v == 0.0));
    }
}
