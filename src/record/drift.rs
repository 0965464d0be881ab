//! Slow changes of the pictures and of the good parts' scores.

use serde::Serialize;
use utoipa::ToSchema;

/// What can change without any part being bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// Mean brightness of the pictures, 0 to 255.
    Light,
    /// Their sharpness: the mean difference between neighbors in the sharpest lines.
    Focus,
    /// Standard deviation of their noise, in values of 0 to 255.
    Noise,
    /// Scores of the parts that pass.
    Scores,
}

impl Quantity {
    /// Every quantity.
    pub const ALL: [Quantity; 4] = [Quantity::Light, Quantity::Focus, Quantity::Noise, Quantity::Scores];

    /// Name for people and machines.
    pub fn name(self) -> &'static str {
        match self {
            Quantity::Light => "light",
            Quantity::Focus => "focus",
            Quantity::Noise => "noise",
            Quantity::Scores => "scores",
        }
    }

    /// The least change that counts: in standard deviations of single parts, and as a share of the usual
    /// mean.
    fn least(self) -> (f64, f64) {
        match self {
            Quantity::Light => (2.0, 0.05),
            Quantity::Focus => (2.0, 0.1),
            Quantity::Noise => (2.0, 0.2),
            // Most good parts pass, so their mean cannot move by much before many are rejected.
            Quantity::Scores => (1.0, 0.1),
        }
    }
}

/// One quantity, as usual with this package and now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Drift {
    /// What is compared.
    pub quantity: Quantity,
    /// Mean over the first passed parts of the package.
    pub usual: f64,
    /// Mean over the latest passed parts.
    pub now: f64,
    /// Standard deviation of the first passed parts.
    pub deviation: f64,
    /// Whether the change is too large to be chance.
    pub alarm: bool,
}

impl Drift {
    /// Compares two means.
    pub(crate) fn new(quantity: Quantity, usual: f64, deviation: f64, now: f64) -> Drift {
        let change = (now - usual).abs();
        let (deviations, share) = quantity.least();
        // Less noise harms nothing; it comes with less light, or with blur that is told as such.
        let harmless = quantity == Quantity::Noise && now < usual;
        let alarm = !harmless && change > deviations * deviation && change > share * usual.abs();
        Drift { quantity, usual, now, deviation, alarm }
    }

    /// Withdraws what another change explains: strong noise hides edges, so the focus cannot be measured.
    pub(crate) fn explained(mut all: Vec<Drift>) -> Vec<Drift> {
        if all.iter().any(|drift| drift.quantity == Quantity::Noise && drift.alarm) {
            all.iter_mut()
                .filter(|drift| drift.quantity == Quantity::Focus)
                .for_each(|drift| drift.alarm = false);
        }
        all
    }

    /// The change as a share of the usual mean.
    pub fn change(&self) -> f64 {
        if self.usual.abs() > f64::EPSILON { self.now / self.usual - 1.0 } else { 0.0 }
    }
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.quantity {
            Quantity::Light => "the light changed: brightness",
            Quantity::Focus => "the focus changed: sharpness",
            Quantity::Noise => "the pictures' noise changed: deviation",
            Quantity::Scores => "the good parts' scores changed: mean",
        };
        let percent = self.change() * 1e2;
        write!(f, "{what} {:.2} instead of {:.2} ({percent:+.0} %)", self.now, self.usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_is_neither_chance_nor_small() {
        let light = |deviation, now| Drift::new(Quantity::Light, 100.0, deviation, now).alarm;
        assert!(!light(0.1, 101.0), "one percent is nobody's trouble");
        assert!(!light(10.0, 115.0), "parts differ as much");
        assert!(light(2.0, 80.0) && light(2.0, 120.0));
        let noise = |now| Drift::new(Quantity::Noise, 2.0, 0.1, now);
        assert!(noise(3.0).alarm && !noise(1.0).alarm, "less noise is welcome");
        let focus = Drift::new(Quantity::Focus, 4.0, 0.1, 3.0);
        let alarms =
            |all| Drift::explained(all).iter().filter(|d| d.alarm).map(|d| d.quantity).collect::<Vec<_>>();
        assert_eq!(alarms(vec![focus, noise(3.0)]), [Quantity::Noise]);
        assert_eq!(alarms(vec![focus, noise(2.0)]), [Quantity::Focus]);
        let told = Drift::new(Quantity::Light, 100.0, 2.0, 80.0).to_string();
        assert_eq!(told, "the light changed: brightness 80.00 instead of 100.00 (-20 %)");
    }
}
