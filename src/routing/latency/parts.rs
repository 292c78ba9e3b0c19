//! The parts of a model that travel: sums that several sidecars share by adding them up.
//!
//! What a model knows of the last seconds is [`Quick`], what it knows of the last minutes is
//! [`Slow`]. Both are nothing but sums, so that a part may be split, sent, lost and added without
//! a bias in the ratios that are read. Caps are not theirs: who puts a model together applies them.
//! The hour and the pauses of streams stay at home.

use std::time::Duration;

use super::histogram::Histogram;
use super::lately::Lately;
use super::regression::Regression;
use super::{LINE_HALF_LIFE, Model, RECENT_HALF_LIFE, halved};

/// Sums of the last seconds: waits, seconds waited, answers, failures and what these cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quick {
    lately: Lately,
}

/// Sums of the last minutes: the line, the pace and the residuals.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slow {
    line: Regression,
    output_tokens: f64,
    output_seconds: f64,
    recent: Histogram,
}

impl Quick {
    /// How many sums there are.
    pub const SUMS: usize = 5;

    /// From its sums, in the order of [`Quick::sums`].
    pub fn of([waits, waited, answers, failures, cost]: [f64; Self::SUMS]) -> Self {
        Self { lately: Lately { waits, waited, answers, failures, cost } }
    }

    /// Waits, seconds waited, answers, failures, and their cost in seconds.
    pub fn sums(&self) -> [f64; Self::SUMS] {
        let Lately { waits, waited, answers, failures, cost } = self.lately;
        [waits, waited, answers, failures, cost]
    }

    /// How many waits there are.
    pub fn waits(&self) -> f64 {
        self.lately.waits
    }

    /// How many answers and failures.
    pub fn outcomes(&self) -> f64 {
        self.lately.answers + self.lately.failures
    }

    /// How much it weighs: waits and outcomes.
    pub fn weight(&self) -> f64 {
        self.waits() + self.outcomes()
    }

    /// Forgets as [`Model`] does.
    pub fn age(&mut self, elapsed: Duration) {
        self.lately.age(elapsed);
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        let (own, more) = (self.sums(), other.sums());
        *self = Self::of(std::array::from_fn(|at| {
            own.get(at).copied().unwrap_or_default() + more.get(at).copied().unwrap_or_default()
        }));
    }

    /// Multiplies every sum.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self::of(self.sums().map(|sum| sum * factor))
    }
}

impl Slow {
    /// How many sums there are besides the residuals.
    pub const SUMS: usize = Regression::SUMS + 2;

    /// From its sums, in the order of [`Slow::sums`].
    pub fn of(sums: [f64; Self::SUMS], recent: Histogram) -> Self {
        let [count, weight, x, y, xx, xy, output_tokens, output_seconds] = sums;
        let line = Regression::of([count, weight, x, y, xx, xy]);
        Self { line, output_tokens, output_seconds, recent }
    }

    /// The six of the line, the tokens that streams had after their first, and their seconds.
    pub fn sums(&self) -> [f64; Self::SUMS] {
        let [count, weight, x, y, xx, xy] = self.line.sums();
        [count, weight, x, y, xx, xy, self.output_tokens, self.output_seconds]
    }

    /// Waits as multiples of their prediction.
    pub fn recent(&self) -> &Histogram {
        &self.recent
    }

    /// How much it weighs: waits, or streams where nothing else was learned.
    pub fn weight(&self) -> f64 {
        self.recent.total()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.recent.total() <= 0.0 && self.sums().iter().all(|sum| *sum <= 0.0)
    }

    /// Forgets as [`Model`] does.
    pub fn age(&mut self, elapsed: Duration) {
        let line = halved(elapsed, LINE_HALF_LIFE);
        self.line.scale(line);
        self.output_tokens *= line;
        self.output_seconds *= line;
        self.recent.scale(halved(elapsed, RECENT_HALF_LIFE));
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.line.merge(&other.line);
        self.output_tokens += other.output_tokens;
        self.output_seconds += other.output_seconds;
        self.recent.merge(&other.recent, 1.0);
    }

    /// Multiplies every sum.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let mut scaled = self.clone();
        scaled.line.scale(factor);
        scaled.output_tokens *= factor;
        scaled.output_seconds *= factor;
        scaled.recent.scale(factor);
        scaled
    }
}

impl Model {
    /// Its parts as they are at `now`.
    pub fn parts(&self, now: std::time::Instant) -> (Quick, Slow) {
        let Self { line, recent, lately, output_tokens, output_seconds, .. } = self.aged(now);
        (Quick { lately }, Slow { line, output_tokens, output_seconds, recent })
    }

    /// A model of parts, at `now`. It has no hour of its own and leans on a prior instead.
    pub fn of_parts(quick: &Quick, slow: &Slow, now: std::time::Instant) -> Self {
        let mut model = Self::new(now);
        model.lately.merge(&quick.lately);
        model.line = slow.line;
        model.output_tokens = slow.output_tokens;
        model.output_seconds = slow.output_seconds;
        model.recent = slow.recent.clone();
        model.cap();
        model
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Prior, Sample, Seen};
    use super::*;
    use crate::lexicon::time;

    #[test]
    fn a_model_is_the_same_put_together_again() {
        let (mut now, prior) = (time::now(), Prior::default());
        let mut model = Model::new(now);
        for wait in 0..40 {
            now += Duration::from_millis(700);
            let waited = Duration::from_millis(400 + 37 * (wait % 9));
            let sample = Sample {
                prompt_tokens: 100 * u32::try_from(wait).unwrap(),
                waited,
                seen: Seen::Answered,
            };
            model.learn(&sample, &prior, now);
            model.learn_pace(20, Duration::from_secs(1), Duration::ZERO, now);
        }
        model.fail(None, now);
        let (quick, slow) = model.parts(now);
        let again = Model::of_parts(
            &Quick::of(quick.sums()),
            &Slow::of(slow.sums(), slow.recent().clone()),
            now,
        );
        assert_eq!(again.outlook(now), model.outlook(now));
        assert_eq!(again.time_per_token(), model.time_per_token());
        let line = |model: &Model| model.forecast(&prior, now).line();
        assert_eq!(line(&again), line(&model));
    }

    #[test]
    fn parts_age_as_the_model_does() {
        let (now, prior) = (time::now(), Prior::default());
        let mut model = Model::new(now);
        let waited = Duration::from_secs(1);
        model.learn(&Sample { prompt_tokens: 10, waited, seen: Seen::Censored }, &prior, now);
        model.fail(None, now);
        let later = Duration::from_secs(20);
        let (mut quick, mut slow) = model.parts(now);
        quick.age(later);
        slow.age(later);
        let aged = model.parts(now + later);
        assert_eq!((quick, slow), aged);
    }

    #[test]
    fn two_halves_are_the_whole() {
        let quick = Quick::of([4.0, 8.0, 2.0, 6.0, 30.0]);
        let mut sum = quick.scaled(0.5);
        sum.add(&quick.scaled(0.5));
        assert_eq!(sum, quick);
        let mut recent = Histogram::default();
        recent.add(1.0, 4.0, Seen::Answered);
        recent.add(3.0, 2.0, Seen::Censored);
        let slow = Slow::of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], recent);
        let mut sum = slow.scaled(0.5);
        sum.add(&slow.scaled(0.5));
        assert_eq!(sum, slow);
        assert!(!slow.is_empty() && Slow::default().is_empty());
    }
}
