//! Medians and quartiles of rounds, and ratios of rounds that ran side by side.

use serde::{Deserialize, Serialize};

/// The middle of some values, and where the middle half of them lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` for no values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<_> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            low: quantile(&sorted, 0.25)?,
            median: quantile(&sorted, 0.5)?,
            high: quantile(&sorted, 0.75)?,
        })
    }

    /// Of the ratios of values that belong to the same round: what the machine did to both of them cancels out.
    pub(crate) fn paired(values: &[f64], baseline: &[f64]) -> Option<Self> {
        let ratios = values.iter().zip(baseline).filter(|(_, base)| **base > 0.0);
        Self::of(&ratios.map(|(value, base)| value / base).collect::<Vec<_>>())
    }
}

/// Between two values, in proportion.
fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let place = at * (sorted.len().checked_sub(1)?) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
    let below = place.floor() as usize;
    let low = sorted.get(below)?;
    let high = sorted.get(below + 1).unwrap_or(low);
    Some(low + (high - low) * (place - place.floor()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_values() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(spread, Spread { low: 1.75, median: 2.5, high: 3.25 });
        assert_eq!(Spread::of(&[7.0]).unwrap(), Spread { low: 7.0, median: 7.0, high: 7.0 });
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_slow_round_does_not_move_a_paired_ratio() {
        let spread = Spread::paired(&[80.0, 8.0, 81.0], &[100.0, 10.0, 100.0]).unwrap();
        assert_eq!(spread.median, 0.8);
        assert!(spread.high < 0.82);
    }
}
