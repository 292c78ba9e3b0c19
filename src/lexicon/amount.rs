//! Amounts that are added up: tokens and money. Both are integers, so that sums are exact.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// A number of tokens.
pub type Tokens = u64;

/// Money in units of 10⁻¹² US dollars; the cheapest priced token is still a whole number of these.
///
/// Additions saturate: 2⁶⁴ of these are 18 million dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PicoUsd(pub u64);

impl PicoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// How many of these make one dollar.
    pub const PER_USD: u64 = 1_000_000_000_000;

    /// Dollars as a float, for display and for metrics only.
    #[expect(clippy::cast_precision_loss, reason = "display only")]
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / Self::PER_USD as f64
    }

    /// From dollars, rounded to the nearest unit; `None` for negative, infinite or huge amounts.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "bounded just above"
    )]
    pub fn from_usd(usd: f64) -> Option<Self> {
        let units = (usd * Self::PER_USD as f64).round();
        (0.0..1.8e19).contains(&units).then_some(Self(units as u64))
    }

    /// This price, `count` times.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl Add for PicoUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for PicoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for PicoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// Dollars as an exact decimal without trailing zeros: `0.0000125`.
impl fmt::Display for PicoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / Self::PER_USD, self.0 % Self::PER_USD);
        if part == 0 {
            return write!(f, "{whole}.0");
        }
        let digits = format!("{part:012}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_prints_as_an_exact_decimal() {
        assert_eq!(PicoUsd(12_500_000).to_string(), "0.0000125");
        assert_eq!(PicoUsd(0).to_string(), "0.0");
        assert_eq!(PicoUsd(3 * PicoUsd::PER_USD).to_string(), "3.0");
    }

    #[test]
    fn money_from_floats_refuses_what_is_no_price() {
        assert_eq!(PicoUsd::from_usd(0.000_002_5), Some(PicoUsd(2_500_000)));
        assert_eq!(PicoUsd::from_usd(-1.0), None);
        assert_eq!(PicoUsd::from_usd(f64::NAN), None);
    }
}
