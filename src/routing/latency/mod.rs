//! What the answers of a deployment teach about the next ones.
//!
//! One [`Model`] per deployment and kind of call, owned by one thread that learns; what requests
//! read is the [`Forecast`] and the [`Outlook`] it makes from time to time. All that a model keeps
//! is decayed sums, so that models of several sidecars merge by addition.
//!
//! A wait is split into what the prompt explains, a [`Line`] over its tokens, and a residual,
//! wait over prediction, whose distribution is one histogram for prompts of all sizes. A try that
//! was cancelled is kept as what it is, a wait that would have been longer: see
//! [`survival`].

pub mod advice;
pub mod effect;
pub mod forecast;
pub mod histogram;
pub mod lately;
pub mod parts;
pub mod regression;
pub mod survival;
pub mod trial;

use std::time::{Duration, Instant};

pub use effect::{Basis, Effect, Estimate, Waits};
pub use forecast::{Bounds, Forecast};
pub use histogram::{Histogram, Seen};
pub use parts::{Quick, Slow};
pub use regression::{Line, REFERENCE_TOKENS};
pub use trial::{Observed, Trial, Unmade};

use self::lately::Lately;
use self::regression::Regression;
use self::survival::Curve;
use super::view::Outlook;

/// The line, and the time per output token, forget half in this time.
const LINE_HALF_LIFE: Duration = Duration::from_secs(600);
/// The residuals forget half in this time.
const RECENT_HALF_LIFE: Duration = Duration::from_secs(120);
/// The residuals hold at most so many samples, so that a busy deployment forgets faster.
const RECENT_CAP: f64 = 300.0;
/// The residuals that a sudden change is held against forget half in this time.
const HOUR_HALF_LIFE: Duration = Duration::from_secs(3_600);
/// A prior weighs as many samples as this, and nothing once [`SETTLED`] are known.
const PRIOR_SAMPLES: f64 = 50.0;
const SETTLED: f64 = 100.0;
/// Fewer streams say nothing about how long a pause may be.
const LEAST_PAUSES: f64 = 30.0;
/// The spread of the shipped prior, a log-normal.
const SHIPPED_SIGMA: f64 = 0.4;

/// A wait for a first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Tokens of the prompt, without those expected in the provider's cache.
    pub prompt_tokens: u32,
    /// From the request sent to the first token, or to when we gave up.
    pub waited: Duration,
    /// Which of the two it was. A failure is neither: see [`Model::fail`].
    pub seen: Seen,
}

/// What is assumed where a deployment has taught little itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Prior {
    line: Line,
    /// Residuals, of total weight 1.
    shape: Histogram,
}

/// The shipped prior: 0.6 s and 0.2 ms per token, log-normal with σ = 0.4.
impl Default for Prior {
    fn default() -> Self {
        Self { line: Line::SHIPPED, shape: Histogram::log_normal(SHIPPED_SIGMA) }
    }
}

/// Everything learned about one deployment and kind of call.
#[derive(Debug, Clone)]
pub struct Model {
    /// The moment that the sums are decayed to.
    as_of: Instant,
    line: Regression,
    recent: Histogram,
    hour: Histogram,
    lately: Lately,
    output_tokens: f64,
    output_seconds: f64,
    /// The longest pause of each stream, in seconds; forgets as `hour` does.
    /// `None` where there were none, as for whole answers.
    pauses: Option<Box<Histogram>>,
}

impl Model {
    /// Knows nothing.
    pub fn new(now: Instant) -> Self {
        Self {
            as_of: now,
            line: Regression::default(),
            recent: Histogram::default(),
            hour: Histogram::default(),
            lately: Lately::default(),
            output_tokens: 0.0,
            output_seconds: 0.0,
            pauses: None,
        }
    }

    /// Takes in one wait. The prior is that of the forecasts: residuals are multiples of what
    /// would have been predicted.
    pub fn learn(&mut self, sample: &Sample, prior: &Prior, now: Instant) {
        self.age(now);
        let line = self.line.fit(&prior.line);
        let seconds = sample.waited.as_secs_f64();
        let residual = seconds / line.at(sample.prompt_tokens);
        self.recent.add(residual, 1.0, sample.seen);
        self.cap();
        self.hour.add(residual, 1.0, sample.seen);
        // Of one that was cut short the least it would have taken is known. The line is a little
        // too low for it, and the residuals, which are relative to it, as much too high.
        self.line.add(sample.prompt_tokens, seconds, &line);
        self.lately.wait(line.at_reference(seconds, sample.prompt_tokens), sample.seen);
    }

    /// Takes in a failure, and how long the provider asked to be left alone. How fast it failed
    /// says nothing about how fast it answers.
    pub fn fail(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.age(now);
        self.lately.fail(retry_after);
    }

    /// Takes in how long `tokens` of output took after the first one, and the longest pause
    /// between two of its events.
    pub fn learn_pace(&mut self, tokens: u32, took: Duration, pause: Duration, now: Instant) {
        self.age(now);
        let pauses = self.pauses.get_or_insert_default();
        pauses.add(pause.as_secs_f64(), 1.0, Seen::Answered);
        self.output_tokens += f64::from(tokens);
        self.output_seconds += took.as_secs_f64();
    }

    /// The mean time per output token, weighted by tokens; `None` where none were seen.
    pub fn time_per_token(&self) -> Option<Duration> {
        (self.output_tokens > 0.0).then(|| seconds(self.output_seconds / self.output_tokens))
    }

    /// The longest pause of all but one of a hundred streams; `None` where fewer than 30 have told.
    pub fn longest_pause(&self) -> Option<Duration> {
        let pauses = self.pauses.as_ref().filter(|it| it.total() >= LEAST_PAUSES)?;
        Some(seconds(Curve::of(pauses).quantile(0.99)))
    }

    /// Adds what another model has learned, as from another sidecar or for the whole group.
    pub fn merge(&mut self, other: &Self, now: Instant) {
        self.age(now);
        let mut other = other.clone();
        other.age(now);
        self.line.merge(&other.line);
        self.recent.merge(&other.recent, 1.0);
        self.cap();
        self.hour.merge(&other.hour, 1.0);
        self.lately.merge(&other.lately);
        self.output_tokens += other.output_tokens;
        self.output_seconds += other.output_seconds;
        if let Some(pauses) = &other.pauses {
            self.pauses.get_or_insert_default().merge(pauses, 1.0);
        }
    }

    /// This model as the prior of others, as that of a group for its deployments.
    pub fn prior(&self, beneath: &Prior, now: Instant) -> Prior {
        let aged = self.aged(now);
        Prior { line: aged.line.fit(&beneath.line), shape: aged.hour_over(beneath).1 }
    }

    /// What to expect of the next answers.
    ///
    /// The recent residuals lean on those of the last hour, and these on the prior, each with
    /// the weight of `50 · max(0, 1 − n/100)` samples.
    pub fn forecast(&self, prior: &Prior, now: Instant) -> Forecast {
        let aged = self.aged(now);
        let (hour_samples, hour) = aged.hour_over(prior);
        let own = aged.recent.total();
        let lent = prior_weight(own);
        let mut recent = aged.recent;
        recent.merge(&hour, lent);
        let borrowed = lent * hour_samples / (hour_samples + prior_weight(hour_samples)).max(1.0);
        Forecast::new(
            own + borrowed.min((hour_samples - own).max(0.0)),
            aged.line.fit(&prior.line),
            Curve::of(&recent),
            Curve::of(&hour),
        )
    }

    /// What the choice of a deployment looks at; what the sidecar does not learn from answers is
    /// left as unknown.
    pub fn outlook(&self, now: Instant) -> Outlook {
        let mut lately = self.lately;
        lately.age(now.saturating_duration_since(self.as_of));
        lately.outlook()
    }

    /// The outlook of several models together, as of one deployment's kinds of call. Each comes
    /// with a factor that makes its waits comparable with those of the others.
    pub fn joint_outlook<'m>(
        models: impl Iterator<Item = (&'m Self, f64)>,
        now: Instant,
    ) -> Outlook {
        let mut all = Lately::default();
        for (model, factor) in models {
            let mut lately = model.lately;
            lately.age(now.saturating_duration_since(model.as_of));
            lately.stretch(factor);
            all.merge(&lately);
        }
        all.outlook()
    }

    /// The residuals of the last hour with the prior beneath, of total weight 1, and how many
    /// samples there are.
    fn hour_over(&self, prior: &Prior) -> (f64, Histogram) {
        let samples = self.hour.total();
        let lent = prior_weight(samples);
        let mut shape = self.hour.clone();
        shape.merge(&prior.shape, lent);
        shape.scale(1.0 / (samples + lent));
        (samples, shape)
    }

    fn aged(&self, now: Instant) -> Self {
        let mut aged = self.clone();
        aged.age(now);
        aged
    }

    fn age(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.as_of);
        if elapsed.is_zero() {
            return;
        }
        self.as_of = now;
        let line = halved(elapsed, LINE_HALF_LIFE);
        self.line.scale(line);
        self.output_tokens *= line;
        self.output_seconds *= line;
        self.recent.scale(halved(elapsed, RECENT_HALF_LIFE));
        self.hour.scale(halved(elapsed, HOUR_HALF_LIFE));
        if let Some(pauses) = &mut self.pauses {
            pauses.scale(halved(elapsed, HOUR_HALF_LIFE));
        }
        self.lately.age(elapsed);
    }

    fn cap(&mut self) {
        let total = self.recent.total();
        if total > RECENT_CAP {
            self.recent.scale(RECENT_CAP / total);
        }
    }
}

/// How many samples a prior counts as beside `samples` of one's own.
fn prior_weight(samples: f64) -> f64 {
    PRIOR_SAMPLES * (1.0 - samples / SETTLED).max(0.0)
}

/// What is left after `elapsed`.
fn halved(elapsed: Duration, half_life: Duration) -> f64 {
    (-elapsed.as_secs_f64() / half_life.as_secs_f64()).exp2()
}

/// Seconds as a duration; nonsense is as long as can be.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::time;

    const WIDE: Bounds = Bounds { least: Duration::from_millis(1), most: Duration::from_secs(900) };

    fn wait(milliseconds: u64, seen: Seen) -> Sample {
        let waited = Duration::from_millis(milliseconds);
        Sample { prompt_tokens: REFERENCE_TOKENS, waited, seen }
    }

    /// A model that saw these waits, one per second, and the moment after the last.
    fn taught(waits: impl Iterator<Item = Sample>) -> (Model, Instant) {
        let (mut now, prior) = (time::now(), Prior::default());
        let mut model = Model::new(now);
        for sample in waits {
            now += Duration::from_secs(1);
            model.learn(&sample, &prior, now);
        }
        (model, now)
    }

    #[track_caller]
    fn check(got: f64, want: f64, within: f64) {
        assert!((got / want).ln().abs() <= within, "{got} is not {want}");
    }

    fn threshold(model: &Model, now: Instant) -> f64 {
        let forecast = model.forecast(&Prior::default(), now);
        forecast.threshold(REFERENCE_TOKENS, 0.95, WIDE).as_secs_f64()
    }

    #[test]
    fn nothing_learned_is_the_shipped_prior() {
        let now = time::now();
        let forecast = Model::new(now).forecast(&Prior::default(), now);
        check(forecast.expected(2_000).as_secs_f64(), 1.0 * (0.08_f64).exp(), 0.02);
        // The 95th percentile of a log-normal with σ = 0.4.
        check(threshold(&Model::new(now), now), 0.8 * (1.645 * 0.4_f64).exp(), 0.02);
        assert!(forecast.samples() < f64::EPSILON);
    }

    #[test]
    fn samples_count_each_wait_once() {
        let (model, now) = taught((0..20).map(|_| wait(800, Seen::Answered)));
        let soon = model.forecast(&Prior::default(), now).samples();
        assert!((18.0..=20.0).contains(&soon), "{soon}");
        let idle = now + Duration::from_secs(1_801);
        let late = model.forecast(&Prior::default(), idle).samples();
        assert!((2.0..14.2).contains(&late), "{late}");
    }

    #[test]
    fn a_rare_visitor_is_known_by_its_hour() {
        // One request per minute: hardly three of them in the residuals of two minutes.
        let (mut now, prior) = (time::now(), Prior::default());
        let mut model = Model::new(now);
        for step in 0..240 {
            now += Duration::from_secs(60);
            model.learn(&wait(700 + step % 10 * 60, Seen::Answered), &prior, now);
        }
        let forecast = model.forecast(&prior, now);
        assert!(forecast.samples() > 30.0, "{}", forecast.samples());
        check(forecast.threshold(REFERENCE_TOKENS, 0.95, WIDE).as_secs_f64(), 1.24, 0.08);
    }

    #[test]
    fn waits_cut_short_raise_the_threshold_that_answers_alone_would_set() {
        let ends = |at: u64| if at.is_multiple_of(10) { Seen::Censored } else { Seen::Answered };
        let all =
            |at: u64| wait(500 + at % 10 * 20 + 700 * u64::from(at.is_multiple_of(10)), ends(at));
        let (kept, now) = taught((0..300).map(all));
        let (dropped, then) = taught((0..300).map(all).filter(|one| one.seen == Seen::Answered));
        assert!(threshold(&kept, now) > 1.4 * threshold(&dropped, then));
        // As completions they would set the 95th percentile to about 1.2 s; it is at least that.
        assert!(threshold(&kept, now) > 1.15);
    }

    #[test]
    fn a_sudden_change_is_held_against_the_hour() {
        let (mut model, mut now) = taught((0..2_000).map(|_| wait(800, Seen::Answered)));
        let before = threshold(&model, now);
        for _ in 0..40 {
            now += Duration::from_millis(500);
            model.learn(&wait(8_000, Seen::Answered), &Prior::default(), now);
        }
        let line = model.line.fit(&Line::SHIPPED).at(REFERENCE_TOKENS);
        check(threshold(&model, now), before / 0.8 * 1.5 * line, 0.1);
    }

    #[test]
    fn merged_models_know_what_both_learned() {
        let (fast, now) = taught((0..200).map(|_| wait(400, Seen::Answered)));
        let (slow, _) = taught((0..200).map(|_| wait(1_200, Seen::Answered)));
        let mut both = fast;
        both.merge(&slow, now);
        let expected = both.forecast(&Prior::default(), now).expected(REFERENCE_TOKENS);
        check(expected.as_secs_f64(), 0.8, 0.1);
    }

    #[test]
    fn a_group_is_the_prior_of_its_newest_deployment() {
        let (group, now) = taught((0..300).map(|_| wait(3_000, Seen::Answered)));
        let prior = group.prior(&Prior::default(), now);
        let forecast = Model::new(now).forecast(&prior, now);
        check(forecast.expected(REFERENCE_TOKENS).as_secs_f64(), 3.0, 0.1);
        check(forecast.threshold(REFERENCE_TOKENS, 0.95, WIDE).as_secs_f64(), 3.0, 0.15);
    }

    #[test]
    fn bounds_hold() {
        let (model, now) = taught((0..100).map(|_| wait(800, Seen::Answered)));
        let forecast = model.forecast(&Prior::default(), now);
        let within = |least, most| {
            let bounds =
                Bounds { least: Duration::from_secs(least), most: Duration::from_secs(most) };
            forecast.threshold(REFERENCE_TOKENS, 0.95, bounds)
        };
        assert_eq!(within(5, 9), Duration::from_secs(5));
        assert_eq!(within(0, 0), Duration::ZERO);
    }

    #[test]
    fn who_waits_longer_than_anybody_is_expected_to_wait_as_long_again() {
        let (model, now) = taught((0..300).map(|_| wait(800, Seen::Answered)));
        let forecast = model.forecast(&Prior::default(), now);
        let rest = |milliseconds| {
            forecast.rest(REFERENCE_TOKENS, Duration::from_millis(milliseconds)).as_secs_f64()
        };
        check(rest(0), 0.8, 0.05);
        check(rest(400), 0.4, 0.1);
        check(rest(2_000), 2.0, 0.05);
        // One that took a second tells of 300; a wait just below it is not as good as over.
        let (model, now) =
            taught((0..300).map(|at| wait(if at == 290 { 1_000 } else { 800 }, Seen::Answered)));
        let forecast = model.forecast(&Prior::default(), now);
        let late = forecast.rest(REFERENCE_TOKENS, Duration::from_millis(950)).as_secs_f64();
        assert!(late > 0.3, "{late}");
        let survival =
            |milliseconds| forecast.survival(REFERENCE_TOKENS, Duration::from_millis(milliseconds));
        assert!(survival(400) > 0.99);
        assert!(survival(2_000) < 0.01);
    }

    #[test]
    fn the_outlook_is_of_the_last_seconds() {
        let (mut model, mut now) = taught((0..100).map(|_| wait(500, Seen::Answered)));
        check(f64::from(model.outlook(now).latency), 0.5, 0.01);
        for _ in 0..20 {
            now += Duration::from_secs(1);
            model.learn(&wait(2_000, Seen::Answered), &Prior::default(), now);
        }
        // After two time constants e⁻² of the past is left.
        check(f64::from(model.outlook(now).latency), 1.8, 0.02);
        assert!(model.outlook(now + Duration::from_secs(60)).samples < 0.1);
    }

    #[test]
    fn failures_are_a_share_with_a_cost() {
        let (mut model, now) = taught((0..60).map(|_| wait(500, Seen::Answered)));
        assert!(model.outlook(now).failure_share < 1e-9);
        model.fail(None, now);
        let one = model.outlook(now);
        assert!((0.1..0.2).contains(&one.failure_share), "{one:?}");
        check(f64::from(one.failure_cost), 5.0, 1e-6);
        for _ in 0..4 {
            model.fail(None, now);
        }
        let many = model.outlook(now);
        assert!((0.45..0.55).contains(&many.failure_share), "{many:?}");
        model.fail(Some(Duration::from_secs(35)), now);
        check(f64::from(model.outlook(now).failure_cost), 12.5, 0.01);
        check(f64::from(model.outlook(now).latency), 0.5, 0.01);
    }

    #[test]
    fn pace_is_the_mean_over_tokens() {
        let now = time::now();
        let mut model = Model::new(now);
        assert_eq!(model.time_per_token(), None);
        model.learn_pace(100, Duration::from_secs(1), Duration::ZERO, now);
        model.learn_pace(300, Duration::from_secs(7), Duration::ZERO, now);
        assert_eq!(model.time_per_token(), Some(Duration::from_millis(20)));
    }
}
