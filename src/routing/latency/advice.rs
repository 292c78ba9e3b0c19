//! What a sidecar has learned itself, together with what the fleet says.
//!
//! The fleet's word weighs as much as it has seen, up to a bound, so that what was seen here always
//! counts; and of what was seen here it says at most [`MOST_OFF`] times more or less, and twice after
//! some dozens of answers. Held against it is what was seen within the last quarter of an hour or
//! so: who asks ten times a minute knows little of the last seconds, and would have to believe
//! anything. A word that is no number says nothing. So lies and faults of others make a forecast worse
//! by a bounded amount, and less with every answer of one's own. News that stop coming fade as all
//! that is learned does.

use std::time::Instant;

use super::{Model, RECENT_CAP};

/// By which factor the fleet may contradict one answer that was seen here, which may be a straggler.
pub const MOST_OFF: f64 = 8.0;
/// The same of many. The choice of a deployment is nearly settled by less, so that what the fleet sees
/// first is acted on all the same.
const LEAST_OFF: f64 = 2.0;

/// So many answers must have been seen here before the fleet is held against them.
pub(super) const FEWEST: f64 = 1.0;

impl Model {
    /// This model, with the fleet's word.
    #[must_use]
    pub fn advised(&self, by: &Self, now: Instant) -> Self {
        let (mut both, mut by) = (self.aged(now), by.aged(now));
        both.lately = both.lately.advised(&by.lately, both.line.usual());
        both.line = both.line.advised(&by.line);
        let told = by.recent.total();
        if told.is_finite() && told > 0.0 {
            by.recent.scale((RECENT_CAP / told).min(1.0));
            both.recent.merge(&by.recent, 1.0);
        }
        both.take_pace(by.output_tokens, by.output_seconds);
        both
    }

    fn take_pace(&mut self, tokens: f64, seconds: f64) {
        if !(tokens.is_finite() && seconds.is_finite() && tokens > 0.0 && seconds >= 0.0) {
            return;
        }
        let own = self.output_seconds / self.output_tokens;
        // Tokens of one answer are as good as one answer.
        let own = Own { mean: own, count: if self.output_tokens > 0.0 { FEWEST } else { 0.0 } };
        let pace = own.bounded(seconds / tokens);
        let tokens = tokens.min(MOST_TOKENS);
        self.output_tokens += tokens;
        self.output_seconds += tokens * pace;
    }
}

/// What the fleet says of the pace of streams weighs at most as much as so many tokens.
const MOST_TOKENS: f64 = 100_000.0;

/// What was seen here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    /// The mean.
    pub(super) mean: f64,
    /// Of so many answers, decayed.
    pub(super) count: f64,
}

impl Own {
    /// The least and the most that the fleet may say; `None` where too little was seen here.
    pub(super) fn bounds(self) -> Option<(f64, f64)> {
        let Self { mean, count } = self;
        let is_known = mean.is_finite() && mean > 0.0 && count >= FEWEST;
        is_known.then(|| {
            let off = (1.0 + (MOST_OFF - 1.0) / count.sqrt()).clamp(LEAST_OFF, MOST_OFF);
            (mean / off, mean * off)
        })
    }

    /// What the fleet says, no further from what was seen than it may be.
    pub(super) fn bounded(self, told: f64) -> f64 {
        self.bounds().map_or(told, |(least, most)| told.clamp(least, most))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Prior, REFERENCE_TOKENS, Sample, Seen};
    use super::*;
    use crate::lexicon::time;

    fn taught(count: u32, millis: u64, now: Instant) -> Model {
        let mut model = Model::new(now);
        let waited = Duration::from_millis(millis);
        let sample = Sample { prompt_tokens: REFERENCE_TOKENS, waited, seen: Seen::Answered };
        (0..count).for_each(|_| model.learn(&sample, &Prior::default(), now));
        model
    }

    fn expected(model: &Model, now: Instant) -> f64 {
        model.forecast(&Prior::default(), now).expected(REFERENCE_TOKENS).as_secs_f64()
    }

    #[test]
    fn who_has_seen_nothing_believes_the_fleet() {
        let now = time::now();
        let (none, fleet) = (Model::new(now), taught(400, 3_000, now));
        let both = none.advised(&fleet, now);
        assert!((expected(&both, now) / 3.0 - 1.0).abs() < 0.1, "{}", expected(&both, now));
        assert!((both.outlook(now).latency - 3.0).abs() < 0.1);
        assert!(both.forecast(&Prior::default(), now).samples() >= 100.0);
    }

    #[test]
    fn what_was_seen_here_always_counts() {
        let now = time::now();
        let (few, fleet) = (taught(5, 400, now), taught(100_000, 1_200, now));
        let both = few.advised(&fleet, now).outlook(now);
        assert!(both.latency < 1.17 && both.latency > 1.0, "{both:?}");
        let (many, fleet) = (taught(300, 400, now), taught(20, 1_200, now));
        assert!(many.advised(&fleet, now).outlook(now).latency < 0.46);
    }

    #[test]
    fn the_absurd_makes_it_worse_by_a_bounded_amount() {
        let now = time::now();
        let own = taught(50, 500, now);
        let (fair, seen) = (expected(&own, now), own.outlook(now));
        let absurd = [f64::NAN, f64::INFINITY, -1.0, 1e30, 1e300, 0.0];
        for mass in absurd {
            for value in absurd {
                let mut fleet = taught(100, 500, now);
                fleet.lately.set(mass, value);
                fleet.line.set(mass, value);
                #[expect(clippy::cast_possible_truncation, reason = "infinite is absurd enough")]
                fleet.recent.scale(f64::from(mass as f32));
                (fleet.output_tokens, fleet.output_seconds) = (mass, value);
                let both = own.advised(&fleet, now);
                let (outlook, told) = (both.outlook(now), expected(&both, now));
                let ratio = f64::from(outlook.latency / seen.latency);
                assert!((0.1..=MOST_OFF).contains(&ratio), "{mass} {value}: {outlook:?}");
                assert!(outlook.failure_share <= 0.99 && outlook.failure_cost <= 300.0);
                // The line and the residuals may both be off.
                assert!((fair / 80.0..fair * 80.0).contains(&told), "{mass} {value}: {told}");
            }
        }
    }

    #[test]
    fn what_was_seen_some_minutes_ago_is_held_against_it() {
        let now = time::now();
        let later = now + Duration::from_secs(120);
        let own = taught(30, 500, now);
        for (millis, least, most) in [(1, 0.2, 0.3), (3_600_000, 0.9, 1.4), (900, 0.85, 0.95)] {
            let both = own.advised(&taught(2_000, millis, later), later).outlook(later);
            assert!((least..most).contains(&both.latency), "{millis}: {both:?}");
        }
        let few = taught(2, 500, now);
        let both = few.advised(&taught(2_000, 2_500, later), later).outlook(later);
        assert!(both.latency > 2.4, "two answers are not enough to doubt it: {both:?}");
    }

    #[test]
    fn news_that_stop_fade() {
        let now = time::now();
        let fleet = taught(400, 3_000, now);
        let later = now + Duration::from_secs(60);
        let both = taught(3, 300, later).advised(&fleet, later).outlook(later);
        assert!(both.latency < 0.9, "{both:?}");
    }
}
