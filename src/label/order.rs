//! The order in which pictures are labeled.

/// A picture, as far as the order depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing<'a> {
    /// Path below the folder.
    pub name: &'a str,
    /// Image score, if known.
    pub score: Option<f32>,
    /// Whether it has a label.
    pub done: bool,
    /// Whether it can be shown.
    pub usable: bool,
}

/// How sure the detector is of a picture: the distance from its score to the threshold as a ratio. 0 is least
/// sure. Twice the threshold is as sure as half of it. An unknown score is infinitely sure, and so is a
/// threshold of zero.
pub fn sureness(score: Option<f32>, threshold: f32) -> f32 {
    match score {
        Some(score) if score > 0.0 && threshold > 0.0 => (score / threshold).ln().abs(),
        _ => f32::INFINITY,
    }
}

/// Indices of the pictures in the order of work: pictures without a label first, the least sure ones at the
/// start and those without a score at the end, by name.
pub fn order(pictures: &[Standing], threshold: f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pictures.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&pictures[a], &pictures[b]);
        let unsure = |p: &Standing| if p.done { 0.0 } else { sureness(p.score, threshold) };
        (!a.usable, a.done)
            .cmp(&(!b.usable, b.done))
            .then(unsure(a).total_cmp(&unsure(b)))
            .then_with(|| a.name.cmp(b.name))
    });
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_least_sure_comes_first() {
        let of = |name, score, done, usable| Standing { name, score, done, usable };
        let pictures = [
            of("sure", Some(40.0), false, true),
            of("unknown", None, false, true),
            of("labeled", Some(10.0), true, true),
            of("doubtful", Some(9.0), false, true),
            of("gone", Some(10.0), false, false),
            of("half", Some(5.1), false, true),
            of("double", Some(20.1), false, true),
        ];
        let names: Vec<&str> = order(&pictures, 10.0).into_iter().map(|i| pictures[i].name).collect();
        assert_eq!(names, ["doubtful", "half", "double", "sure", "unknown", "labeled", "gone"]);
    }

    proptest! {
        #[test]
        fn every_picture_is_in_the_order_once_and_labels_come_last(
            states in prop::collection::vec((prop::option::of(0.0f32..50.0), any::<bool>()), 0..30),
        ) {
            let names: Vec<String> = (0..states.len()).map(|i| format!("{i:03}")).collect();
            let pictures: Vec<Standing> = states
                .iter()
                .zip(&names)
                .map(|(&(score, done), name)| Standing { name, score, done, usable: true })
                .collect();
            let found = order(&pictures, 10.0);
            let mut sorted = found.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..pictures.len()).collect::<Vec<_>>());
            prop_assert!(found.is_sorted_by_key(|&i| pictures[i].done));
            let todo: Vec<f32> =
                found.iter().filter(|&&i| !states[i].1).map(|&i| sureness(states[i].0, 10.0)).collect();
            prop_assert!(todo.is_sorted());
        }
    }
}
