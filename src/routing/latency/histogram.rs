//! Decayed counts per logarithmic bin, of answers and of waits that were cut short.
//!
//! Bins grow by 10 %, so that a quantile is off by less than sampling makes it anyway. All that
//! is kept is sums: histograms of several sidecars merge by addition and age by multiplication.
//! The unit is the user's: seconds, or multiples of a prediction; the range suits both.

/// How many bins there are.
pub const BINS: usize = 96;
/// The lower edge of the first bin, which also takes everything below.
pub const LOWEST: f64 = 0.02;
/// How much wider each bin is than the one before; the last ends at about 188.
const GROWTH: f64 = 1.10;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The first token came.
    Answered,
    /// We gave up before it came: it would have taken at least this long.
    Censored,
}

/// Weights of waits by their length.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    answered: [f32; BINS],
    censored: [f32; BINS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { answered: [0.0; BINS], censored: [0.0; BINS] }
    }
}

impl Histogram {
    /// The log-normal shape with median 1, of total weight 1.
    pub fn log_normal(sigma: f64) -> Self {
        let below = |at: usize| match at {
            0 => 0.0,
            BINS => 1.0,
            inner => normal(edge(inner).ln() / sigma),
        };
        let mut shape = Self::default();
        for (at, count) in shape.answered.iter_mut().enumerate() {
            *count = single(below(at + 1) - below(at));
        }
        shape
    }

    /// Counts one wait with a weight; what is no number counts as the shortest.
    pub fn add(&mut self, value: f64, weight: f64, seen: Seen) {
        self.put(bin(value), weight, seen);
    }

    /// Counts a weight in a bin by its position; where there is no such bin, nothing.
    pub fn put(&mut self, at: usize, weight: f64, seen: Seen) {
        let side = match seen {
            Seen::Answered => &mut self.answered,
            Seen::Censored => &mut self.censored,
        };
        if let Some(count) = side.get_mut(at) {
            *count += single(weight);
        }
    }

    /// Adds `weight` times what another has counted.
    pub fn merge(&mut self, other: &Self, weight: f64) {
        let weight = single(weight);
        let others = [&other.answered, &other.censored];
        for (own, more) in self.sides_mut().into_iter().zip(others) {
            for (own, more) in own.iter_mut().zip(more) {
                *own += weight * more;
            }
        }
    }

    /// Multiplies every count: how it ages, and how it gives a part of itself away.
    pub fn scale(&mut self, factor: f64) {
        let factor = single(factor);
        for side in self.sides_mut() {
            for count in side {
                *count *= factor;
            }
        }
    }

    /// The same as if what was cut short had been answered then.
    #[must_use]
    pub fn all_answered(&self) -> Self {
        let mut all = Self::default();
        for (sum, (answered, censored)) in all.answered.iter_mut().zip(self.bins()) {
            *sum = single(answered + censored);
        }
        all
    }

    /// The weight of all that it holds.
    pub fn total(&self) -> f64 {
        self.bins().map(|(answered, censored)| answered + censored).sum()
    }

    /// Weights of the answered and of the censored, bin by bin, the shortest first.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64)> {
        self.answered
            .iter()
            .zip(&self.censored)
            .map(|(answered, censored)| (f64::from(*answered), f64::from(*censored)))
    }

    /// Apart, because the compiler counts several at once only within one array.
    fn sides_mut(&mut self) -> [&mut [f32; BINS]; 2] {
        [&mut self.answered, &mut self.censored]
    }
}

/// The bin a value falls into.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and the bounds follow"
)]
pub fn bin(value: f64) -> usize {
    let mut at = ((value / LOWEST).ln() / GROWTH.ln()) as usize;
    at = at.min(BINS - 1);
    // The logarithm rounds; the edges decide.
    if edge(at) > value {
        at.saturating_sub(1)
    } else if at + 1 < BINS && edge(at + 1) <= value {
        at + 1
    } else {
        at
    }
}

/// The lower edge of a bin; of [`BINS`], the end of the last.
pub fn edge(at: usize) -> f64 {
    EDGES.get(at).copied().unwrap_or(f64::INFINITY)
}

static EDGES: [f64; BINS + 1] = edges();

#[expect(clippy::indexing_slicing, reason = "evaluated when it is compiled")]
const fn edges() -> [f64; BINS + 1] {
    let mut edges = [LOWEST; BINS + 1];
    let mut at = 1;
    while at <= BINS {
        edges[at] = edges[at - 1] * GROWTH;
        at += 1;
    }
    edges
}

/// Half the memory for what is counted to six digits.
#[expect(clippy::cast_possible_truncation, reason = "the precision is meant to be single")]
pub(super) fn single(value: f64) -> f32 {
    value as f32
}

/// The share of a standard normal variable below `z`: Abramowitz and Stegun 26.2.17, to 10⁻⁷.
fn normal(z: f64) -> f64 {
    const BY_POWER: [f64; 5] =
        [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let step = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = BY_POWER.iter().rev().fold(0.0, |sum, factor| (sum + factor) * step);
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if z < 0.0 { density * series } else { 1.0 - density * series }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(value: f64, want: usize) {
        assert_eq!(bin(value), want, "{value}");
    }

    #[test]
    fn a_value_falls_between_the_edges_of_its_bin() {
        check(0.0, 0);
        check(-1.0, 0);
        check(f64::NAN, 0);
        check(0.02, 0);
        check(0.022_01, 1);
        check(1.0, 41);
        check(180.0, 95);
        check(1e9, 95);
        check(f64::INFINITY, 95);
        for at in 0..BINS {
            check(edge(at), at);
            check(edge(at) * 1.0999, at);
        }
    }

    #[test]
    fn the_log_normal_shape_has_its_quantiles() {
        let shape = Histogram::log_normal(0.4);
        assert!((shape.total() - 1.0).abs() < 1e-5);
        let below = |value: f64| -> f64 { shape.bins().take(bin(value)).map(|(own, _)| own).sum() };
        // The edges of the bins around the median and the 95th percentile, e^(0.4 · 1.645).
        assert!((0.40..0.5).contains(&below(1.0)));
        assert!((0.92..0.95).contains(&below(1.93)));
    }

    fn filled(values: &[(f64, bool)]) -> Histogram {
        let mut filled = Histogram::default();
        for (value, answered) in values {
            filled.add(*value, 1.0, if *answered { Seen::Answered } else { Seen::Censored });
        }
        filled
    }

    proptest! {
        #[test]
        fn merging_counts_what_both_counted(
            one in prop::collection::vec((0.0f64..300.0, any::<bool>()), 0..50),
            other in prop::collection::vec((0.0f64..300.0, any::<bool>()), 0..50),
        ) {
            let mut merged = filled(&one);
            merged.merge(&filled(&other), 1.0);
            let all: Vec<_> = one.iter().chain(&other).copied().collect();
            prop_assert_eq!(merged, filled(&all));
        }

        #[test]
        fn ageing_and_merging_may_trade_places(
            one in prop::collection::vec((0.0f64..300.0, any::<bool>()), 0..50),
            other in prop::collection::vec((0.0f64..300.0, any::<bool>()), 0..50),
            factor in 0.0f64..1.0,
        ) {
            let (mut before, mut after) = (filled(&one), filled(&one));
            let mut aged = filled(&other);
            aged.scale(factor);
            before.scale(factor);
            before.merge(&aged, 1.0);
            after.merge(&filled(&other), 1.0);
            after.scale(factor);
            for (before, after) in before.bins().zip(after.bins()) {
                prop_assert!((before.0 - after.0).abs() < 1e-4);
                prop_assert!((before.1 - after.1).abs() < 1e-4);
            }
        }
    }
}
