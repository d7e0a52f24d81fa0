//! Medians and quantiles of a few values.

use crate::harness::Result;

/// The middle and the ends of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// An even number of values has the mean of the middle two as its median. An error for no values, and for one that is
    /// no finite number.
    pub(crate) fn of(values: &[f64]) -> Result<Self> {
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(format!("measured {value}, which is no finite number").into());
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            return Err("nothing was measured".into());
        };
        let middle = |index: usize| sorted.get(index).copied().unwrap_or(max);
        let median = f64::midpoint(middle((sorted.len() - 1) / 2), middle(sorted.len() / 2));
        Ok(Self { min, median, max })
    }
}

/// The smallest of the sorted values that at least this part of them does not exceed (nearest rank).
pub(crate) fn quantile(sorted: &[f64], part: f64) -> Result<f64> {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().ok_or_else(|| "nothing was measured".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_middle_and_the_ends() {
        for (values, min, median, max) in [
            (&[3.0][..], 3.0, 3.0, 3.0),
            (&[4.0, 1.0], 1.0, 2.5, 4.0),
            (&[9.0, 1.0, 5.0], 1.0, 5.0, 9.0),
            (&[4.0, 3.0, 2.0, 100.0], 2.0, 3.5, 100.0),
            (&[1.0, 1.0, 1.0, 1.0, 50.0], 1.0, 1.0, 50.0),
        ] {
            assert_eq!(Summary::of(values).unwrap(), Summary { min, median, max }, "{values:?}");
        }
    }

    #[test]
    fn nothing_and_what_is_no_number_have_no_summary() {
        for values in [&[][..], &[1.0, f64::NAN], &[f64::INFINITY]] {
            assert!(Summary::of(values).is_err(), "{values:?}");
        }
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let fifty: Vec<f64> = (1..=50).map(f64::from).collect();
        for (values, part, expected) in [
            (&hundred, 0.5, 50.0),
            (&hundred, 0.99, 99.0),
            (&fifty, 0.5, 25.0),
            (&fifty, 0.99, 50.0),
            (&vec![7.0], 0.99, 7.0),
            (&vec![7.0, 8.0], 0.0, 7.0),
        ] {
            assert_eq!(quantile(values, part).unwrap(), expected, "{part} of {}", values.len());
        }
        assert!(quantile(&[], 0.5).is_err());
    }
}
