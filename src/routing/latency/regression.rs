//! The time to first token as a line over prompt tokens: decayed weighted least squares.
//!
//! The prompt explains more of the wait than anything else, and a threshold that does not know
//! it hedges the longest prompts of all. Kept are six sums, which merge by addition.
//!
//! Deviations are proportional to the wait, so a sample weighs `1/pred²`, here relative to the
//! reference prompt: without that a deployment that has become four times slower would be
//! believed sixteen times less than its own past.

use super::advice::Own;

/// The prompt that latencies of deployments are compared at, in tokens.
pub const REFERENCE_TOKENS: u32 = 1_000;
/// A wait counts as at most so many times what was expected: stragglers have the residuals.
const CLIP: f64 = 3.0;
/// The slope is at most this many seconds per token.
const STEEPEST: f64 = 0.005;
/// The least intercept, in seconds.
const LEAST: f64 = 0.001;
/// The prior weighs as many samples as this, and fades until [`SETTLED`] are known.
const PRIOR_SAMPLES: f64 = 10.0;
/// It never fades below this: prompts that are all alike say nothing about the slope.
const LEAST_PRIOR_SAMPLES: f64 = 2.0;
const SETTLED: f64 = 100.0;
/// Nobody waits longer on average, whatever the fleet says.
const MOST_SECONDS: f64 = 600.0;
/// Where the prior speaks, in tokens.
const PRIOR_AT: [f64; 2] = [0.0, 4_000.0];

/// Seconds to the first token over prompt tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Seconds for a prompt without tokens; more than zero.
    pub intercept: f64,
    /// Seconds per token, from 0 to 5 ms.
    pub slope: f64,
}

impl Line {
    /// What is assumed of a model nobody has heard of: 0.6 s and 0.2 ms per token.
    pub const SHIPPED: Self = Self { intercept: 0.6, slope: 0.000_2 };

    /// Seconds expected for a prompt of `tokens`.
    pub fn at(&self, tokens: u32) -> f64 {
        self.over(f64::from(tokens))
    }

    /// What a wait for `tokens` would have been for the reference prompt, in seconds.
    pub fn at_reference(&self, seconds: f64, tokens: u32) -> f64 {
        seconds * self.at(REFERENCE_TOKENS) / self.at(tokens)
    }

    fn over(&self, tokens: f64) -> f64 {
        self.slope.mul_add(tokens, self.intercept)
    }
}

/// The sums of a fit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Regression {
    count: f64,
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Regression {
    /// How many sums there are.
    pub(super) const SUMS: usize = 6;

    /// From its sums, in the order of [`Regression::sums`].
    pub(super) fn of([count, weight, x, y, xx, xy]: [f64; Self::SUMS]) -> Self {
        Self { count, weight, x, y, xx, xy }
    }

    /// Count, weight, and the weighted sums of x, y, x² and x·y.
    pub(super) fn sums(&self) -> [f64; Self::SUMS] {
        [self.count, self.weight, self.x, self.y, self.xx, self.xy]
    }

    /// Adds a wait that `expected` was the forecast of.
    pub fn add(&mut self, tokens: u32, seconds: f64, expected: &Line) {
        let predicted = expected.at(tokens);
        let weight = (expected.at(REFERENCE_TOKENS) / predicted).powi(2);
        self.count += 1.0;
        self.point(f64::from(tokens), seconds.min(CLIP * predicted), weight);
    }

    /// Multiplies every sum.
    pub fn scale(&mut self, factor: f64) {
        for sum in self.sums_mut() {
            *sum *= factor;
        }
    }

    /// Adds what another has summed.
    pub fn merge(&mut self, other: &Self) {
        let mut other = *other;
        for (sum, more) in self.sums_mut().into_iter().zip(other.sums_mut()) {
            *sum += *more;
        }
    }

    /// How long answers took at the reference prompt, if prompts mattered as much as is assumed:
    /// nothing else is assumed, so that it says what was seen, also where that is little.
    pub(super) fn usual(&self) -> Own {
        let Line { intercept, slope } = Line::SHIPPED;
        let assumed = intercept * self.weight + slope * self.x;
        let mean = Line::SHIPPED.at(REFERENCE_TOKENS) * self.y / assumed;
        Own { mean, count: self.count }
    }

    /// This with what the fleet says, within [bounds](super::advice).
    #[must_use]
    pub fn advised(&self, by: &Self) -> Self {
        let (mut both, mut told) = (*self, *by);
        let sane = told.sums_mut().iter().all(|sum| sum.is_finite() && **sum >= 0.0);
        if !sane || told.count <= 0.0 || told.weight <= 0.0 {
            return both;
        }
        told.scale((SETTLED / told.count).min(1.0).min(SETTLED / told.weight));
        let level = |of: &Self| of.y / of.weight;
        let own = Own { mean: level(self), count: self.count };
        let change = own.bounded(level(&told).min(MOST_SECONDS)) / level(&told);
        if change.is_finite() {
            told.y *= change;
            told.xy *= change;
            both.merge(&told);
        }
        both
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, mass: f64, value: f64) {
        let (count, weight) = (mass, mass);
        *self = Self { count, weight, x: value, y: value, xx: value, xy: value };
    }

    /// The line, leaning on `prior` while little is known.
    ///
    /// The prior is first scaled to the level that was seen, so that it speaks of the ratio of
    /// intercept and slope, and of the level only while there are few samples.
    pub fn fit(&self, prior: &Line) -> Line {
        let doubt = PRIOR_SAMPLES * (1.0 - self.count / SETTLED).max(0.0);
        let assumed = prior.intercept * self.weight + prior.slope * self.x;
        let level = if assumed > 0.0 {
            (self.count * self.y / assumed + doubt) / (self.count + doubt)
        } else {
            1.0
        };
        let reference = prior.at(REFERENCE_TOKENS);
        let mut sums = *self;
        for at in PRIOR_AT {
            let share = doubt.max(LEAST_PRIOR_SAMPLES) / 2.0;
            let weight = share * (reference / prior.over(at)).powi(2);
            sums.point(at, level * prior.over(at), weight);
        }
        sums.solve()
    }

    /// Never divides by zero: the two points of the prior are apart.
    fn solve(&self) -> Line {
        let spread = self.weight * self.xx - self.x * self.x;
        let slope = (self.weight * self.xy - self.x * self.y) / spread;
        let slope = slope.clamp(0.0, STEEPEST);
        let intercept = (self.y - slope * self.x) / self.weight;
        if intercept >= LEAST {
            return Line { intercept, slope };
        }
        let through_least = (self.xy - LEAST * self.x) / self.xx;
        Line { intercept: LEAST, slope: through_least.clamp(0.0, STEEPEST) }
    }

    fn point(&mut self, x: f64, y: f64, weight: f64) {
        self.weight += weight;
        self.x += weight * x;
        self.y += weight * y;
        self.xx += weight * x * x;
        self.xy += weight * x * y;
    }

    fn sums_mut(&mut self) -> [&mut f64; Self::SUMS] {
        [&mut self.count, &mut self.weight, &mut self.x, &mut self.y, &mut self.xx, &mut self.xy]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is learned of waits that are exactly on a line.
    fn learned(truth: Line, prompts: impl Iterator<Item = u32>) -> Line {
        let mut sums = Regression::default();
        for tokens in prompts {
            let expected = sums.fit(&Line::SHIPPED);
            sums.add(tokens, truth.at(tokens), &expected);
        }
        sums.fit(&Line::SHIPPED)
    }

    #[track_caller]
    fn check(got: Line, want: Line, tokens: u32, within: f64) {
        let off = (got.at(tokens) / want.at(tokens)).ln().abs();
        assert!(off < within, "{got:?} at {tokens} is off by {off}");
    }

    #[test]
    fn nothing_learned_is_the_prior() {
        check(Regression::default().fit(&Line::SHIPPED), Line::SHIPPED, 0, 1e-9);
        check(Regression::default().fit(&Line::SHIPPED), Line::SHIPPED, 9_000, 1e-9);
    }

    #[test]
    fn a_line_is_found_at_any_level() {
        for truth in [
            Line { intercept: 0.2, slope: 0.000_05 },
            Line { intercept: 0.4, slope: 0.000_18 },
            Line { intercept: 8.0, slope: 0.003 },
        ] {
            let got = learned(truth, (0..400).map(|step| step * 37 % 200 * 50));
            check(got, truth, 100, 0.05);
            check(got, truth, 1_000, 0.05);
            check(got, truth, 9_000, 0.05);
        }
    }

    #[test]
    fn prompts_that_are_all_alike_keep_the_slope_of_the_prior_in_proportion() {
        let truth = Line { intercept: 3.0, slope: 0.0 };
        let got = learned(truth, std::iter::repeat_n(500, 300));
        check(got, truth, 500, 0.01);
        let shipped = Line::SHIPPED;
        let ratio = |line: Line| line.at(4_000) / line.at(500);
        assert!((ratio(got) / ratio(shipped)).ln().abs() < 0.1, "{got:?}");
    }

    #[test]
    fn stragglers_do_not_bend_the_line() {
        let truth = Line::SHIPPED;
        let mut sums = Regression::default();
        for step in 0..400 {
            let tokens = step * 10;
            let late = if step % 40 == 0 { 100.0 } else { 1.0 };
            sums.add(tokens, truth.at(tokens) * late, &truth);
        }
        check(sums.fit(&truth), truth, 2_000, 0.06);
    }

    #[test]
    fn what_has_become_slower_is_believed_as_much_as_what_was_fast() {
        let (fast, slow) = (Line::SHIPPED, Line { intercept: 1.2, slope: 0.000_4 });
        let mut sums = Regression::default();
        for line in [fast, slow] {
            for step in 0..200 {
                let tokens = step * 20;
                let expected = sums.fit(&Line::SHIPPED);
                sums.add(tokens, line.at(tokens), &expected);
            }
        }
        check(sums.fit(&fast), Line { intercept: 0.9, slope: 0.000_3 }, 1_000, 0.05);
    }

    proptest! {
        #[test]
        fn a_line_is_never_nonsense(
            waits in prop::collection::vec((0u32..2_000_000, 0.0f64..1e4), 0..60),
        ) {
            let mut sums = Regression::default();
            for (tokens, seconds) in waits {
                let expected = sums.fit(&Line::SHIPPED);
                sums.add(tokens, seconds, &expected);
                let line = sums.fit(&Line::SHIPPED);
                prop_assert!(line.intercept >= LEAST && line.intercept.is_finite());
                prop_assert!((0.0..=STEEPEST).contains(&line.slope));
            }
        }

        #[test]
        fn merging_sums_is_learning_both(
            one in prop::collection::vec((0u32..20_000, 0.0f64..20.0), 0..30),
            other in prop::collection::vec((0u32..20_000, 0.0f64..20.0), 0..30),
        ) {
            let learn = |waits: &[(u32, f64)]| {
                let mut sums = Regression::default();
                for (tokens, seconds) in waits {
                    sums.add(*tokens, *seconds, &Line::SHIPPED);
                }
                sums
            };
            let all: Vec<_> = one.iter().chain(&other).copied().collect();
            let mut merged = learn(&one);
            merged.merge(&learn(&other));
            let (merged, whole) = (merged.fit(&Line::SHIPPED), learn(&all).fit(&Line::SHIPPED));
            prop_assert!((merged.at(900) / whole.at(900) - 1.0).abs() < 1e-6);
        }
    }
}
