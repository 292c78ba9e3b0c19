//! Whether hedging helps: what callers waited, beside what they would have waited without it.
//!
//! A hedge that wins cuts its primary short, so the wait it saved is never seen. Kaplan and Meier
//! recover it, helped by hold-outs, which are requests that were due a hedge and got none. Their
//! estimate takes for granted that being cut short says nothing about the rest. Over prompts of
//! all sizes it does: short prompts are cut early, and who is then still waiting has a long
//! prompt. So the curve is that of residuals, wait over prediction, where all prompts are alike,
//! and predictions turn it back into seconds.

use std::time::Duration;

use super::histogram::{BINS, Histogram, Seen, bin, edge};
use super::survival::{Curve, Risk, risks};

/// The percentiles that are told.
pub const PERCENTILES: [f64; 3] = [0.5, 0.95, 0.99];
/// How many standard errors make an interval of 95 %.
const SPREAD: f64 = 1.96;

/// What is kept of requests to tell the effect: sums, which merge by addition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trial {
    /// Primaries, as multiples of their prediction.
    residuals: Histogram,
    /// Their predictions, in seconds.
    predictions: Histogram,
    /// What callers waited, in seconds.
    served: Histogram,
    /// Primaries that a winning hedge cut short, by residual, weighted by prediction.
    saved: Histogram,
    /// How many these are.
    wins: f64,
}

impl Trial {
    /// A primary that was answered: nobody was hedged, or it was first, or it is a hold-out.
    pub fn answered(&mut self, waited: Duration, prediction: Duration) {
        self.primary(waited, prediction, Seen::Answered);
        self.served.add(waited.as_secs_f64(), 1.0, Seen::Answered);
    }

    /// A primary that was cut short because its hedge was first, at the moment `waited`.
    pub fn won(&mut self, waited: Duration, prediction: Duration) {
        let residual = self.primary(waited, prediction, Seen::Censored);
        self.served.add(waited.as_secs_f64(), 1.0, Seen::Answered);
        self.saved.add(residual, prediction.as_secs_f64(), Seen::Censored);
        self.wins += 1.0;
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        self.residuals.merge(&other.residuals, 1.0);
        self.predictions.merge(&other.predictions, 1.0);
        self.served.merge(&other.served, 1.0);
        self.saved.merge(&other.saved, 1.0);
        self.wins += other.wins;
    }

    /// Multiplies everything, so that the past counts less.
    pub fn scale(&mut self, factor: f64) {
        self.residuals.scale(factor);
        self.predictions.scale(factor);
        self.served.scale(factor);
        self.saved.scale(factor);
        self.wins *= factor;
    }

    fn primary(&mut self, waited: Duration, prediction: Duration, seen: Seen) -> f64 {
        let residual = waited.as_secs_f64() / prediction.as_secs_f64().max(f64::MIN_POSITIVE);
        self.residuals.add(residual, 1.0, seen);
        self.predictions.add(prediction.as_secs_f64(), 1.0, Seen::Answered);
        residual
    }
}

/// A number with its interval of 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end; infinite where the data do not bound it.
    pub high: f64,
}

/// What hedging did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// Requests it was told from.
    pub requests: f64,
    /// Hedges that were first.
    pub wins: f64,
    /// Seconds to the first token as callers saw them, at each of [`PERCENTILES`].
    pub with: [Estimate; 3],
    /// What they would have been without hedging.
    pub without: [Estimate; 3],
    /// Seconds that a winning hedge saved on average; `None` where none has won.
    pub saved: Option<Estimate>,
}

impl Effect {
    /// The effect; `None` of nothing.
    pub fn of(trial: &Trial) -> Option<Self> {
        let requests = trial.residuals.total();
        if requests <= 0.0 {
            return None;
        }
        let (with, without) = (Served::of(trial), Unhedged::of(trial));
        Some(Self {
            requests,
            wins: trial.wins,
            with: PERCENTILES.map(|part| quantile(part, |seconds| with.survival(seconds))),
            without: PERCENTILES.map(|part| quantile(part, |seconds| without.survival(seconds))),
            saved: saved(trial, &without),
        })
    }
}

/// A share and its standard error.
type Share = (f64, f64);

/// Where the share that waits longer falls to `1 − part`, and where its interval does, which is
/// that of `ln(−ln S)`: small shares err upwards more than downwards.
fn quantile(part: f64, survival: impl Fn(f64) -> Share) -> Estimate {
    let crossing = |errors: f64| {
        let (mut low, mut high) = (0.0, edge(BINS));
        let above = |seconds: f64| {
            let (share, error) = survival(seconds);
            let shift = errors * error / (share * share.ln());
            let bound = if shift.is_finite() { share.powf(shift.exp()) } else { share };
            bound > 1.0 - part
        };
        if above(high) {
            return f64::INFINITY;
        }
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if above(middle) { low = middle } else { high = middle }
        }
        high
    };
    Estimate { value: crossing(0.0), low: crossing(-SPREAD), high: crossing(SPREAD) }
}

/// What callers waited: every wait ended, so the error is that of a share.
struct Served {
    curve: Curve,
    requests: f64,
}

impl Served {
    fn of(trial: &Trial) -> Self {
        Self { curve: Curve::of(&trial.served), requests: trial.served.total() }
    }

    fn survival(&self, seconds: f64) -> Share {
        let share = self.curve.survival(seconds);
        (share, (share * (1.0 - share) / self.requests).sqrt())
    }
}

/// What primaries would have taken if none had been cut short.
struct Unhedged {
    curve: Curve,
    risks: [Risk; BINS],
    /// Greenwood's sum up to the beginning of each bin.
    greenwood: [f64; BINS],
    /// Predictions in seconds and their shares.
    predictions: Vec<(f64, f64)>,
    requests: f64,
}

impl Unhedged {
    fn of(trial: &Trial) -> Self {
        let risks = risks(&trial.residuals);
        let mut greenwood = [0.0; BINS];
        let mut sum = 0.0;
        for (so_far, risk) in greenwood.iter_mut().zip(&risks) {
            *so_far = sum;
            sum += hazard_variance(risk);
        }
        let requests = trial.predictions.total();
        let predictions = trial.predictions.bins().enumerate();
        let predictions = predictions
            .filter(|(_, (count, _))| *count > 0.0)
            .map(|(at, (count, _))| (middle(at), count / requests))
            .collect();
        Self { curve: Curve::of(&trial.residuals), risks, greenwood, predictions, requests }
    }

    /// The share that waits longer: that of residuals, mixed over predictions. Residuals err
    /// together, so their errors add up; which predictions there were is chance, too.
    fn survival(&self, seconds: f64) -> Share {
        let (mut share, mut error, mut squares) = (0.0, 0.0, 0.0);
        for (prediction, part) in &self.predictions {
            let residual = seconds / prediction;
            let own = self.curve.survival(residual);
            let variance = self.greenwood.get(bin(residual)).copied().unwrap_or_default();
            share += part * own;
            error += part * own * variance.sqrt();
            squares += part * own * own;
        }
        let chance = ((squares - share * share) / self.requests).max(0.0);
        (share, (error * error + chance).sqrt())
    }
}

/// The mean of `prediction · E[R − r | R > r]` over the primaries cut short at `r`, with the
/// error that Greenwood's hazards give the areas under the curve.
fn saved(trial: &Trial, unhedged: &Unhedged) -> Option<Estimate> {
    if trial.wins <= 0.0 {
        return None;
    }
    let (mut value, mut variance, mut pull) = (0.0, 0.0, 0.0);
    for (at, ((_, weight), risk)) in trial.saved.bins().zip(&unhedged.risks).enumerate() {
        let residual = middle(at);
        let share = unhedged.curve.survival(residual);
        if share > 0.0 && weight > 0.0 {
            let each = weight / trial.wins / share;
            value += each * unhedged.curve.beyond(residual);
            pull += each;
        }
        variance += (pull * unhedged.curve.beyond(residual)).powi(2) * hazard_variance(risk);
    }
    let times = (SPREAD * variance.sqrt() / value).exp();
    Some(Estimate { value, low: value / times, high: value * times })
}

/// One term of Greenwood's sum. The last bin has none: beyond it there is nothing to be unsure of.
fn hazard_variance(risk: &Risk) -> f64 {
    let left = risk.waiting - risk.answered;
    if left > 0.0 { risk.answered / (risk.waiting * left) } else { 0.0 }
}

fn middle(at: usize) -> f64 {
    f64::midpoint(edge(at), edge(at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[track_caller]
    fn check(got: &Estimate, want: f64) {
        assert!((got.value / want).ln().abs() < 0.06, "{got:?} is not {want}");
        assert!(got.low <= got.value && got.value <= got.high, "{got:?}");
    }

    #[test]
    fn nothing_has_no_effect() {
        assert_eq!(Effect::of(&Trial::default()), None);
        let mut trial = Trial::default();
        trial.answered(milliseconds(100), milliseconds(100));
        assert_eq!(Effect::of(&trial).and_then(|effect| effect.saved), None);
    }

    #[test]
    fn without_a_win_both_are_the_same() {
        let mut trial = Trial::default();
        for wait in 1..=2_000 {
            trial.answered(milliseconds(wait), milliseconds(1_000));
        }
        let effect = Effect::of(&trial).unwrap();
        for (with, without) in effect.with.iter().zip(&effect.without) {
            check(without, with.value);
            check(with, without.value);
        }
        check(&effect.with[0], 1.0);
        check(&effect.with[1], 1.9);
    }

    /// Of 10 000, a tenth is late at 1 s; of these a tenth is held out, and waits 5 s.
    fn hedged() -> Trial {
        let mut trial = Trial::default();
        for at in 0..10_000 {
            match at % 100 {
                0 => trial.answered(milliseconds(5_000), milliseconds(500)),
                1..10 => trial.won(milliseconds(1_000), milliseconds(500)),
                _ => trial.answered(milliseconds(500), milliseconds(500)),
            }
        }
        trial
    }

    #[test]
    fn hold_outs_tell_what_the_cut_would_have_waited() {
        let effect = Effect::of(&hedged()).unwrap();
        assert!((effect.wins - 900.0).abs() < 1e-3);
        check(&effect.without[1], 5.0);
        check(&effect.with[1], 1.0);
        check(&effect.saved.unwrap(), 4.0);
    }

    #[test]
    fn merged_halves_and_faded_wholes_have_the_same_effect() {
        let (whole, mut halves) = (hedged(), hedged());
        halves.scale(0.5);
        let half = halves.clone();
        halves.merge(&half);
        let (whole, halves) = (Effect::of(&whole).unwrap(), Effect::of(&halves).unwrap());
        check(&halves.without[2], whole.without[2].value);
        check(&halves.saved.unwrap(), whole.saved.unwrap().value);
    }

    #[test]
    fn fewer_requests_are_less_sure() {
        let width = |trial: &Trial| {
            let saved = Effect::of(trial).and_then(|effect| effect.saved).unwrap();
            saved.high - saved.low
        };
        let spread = |count: u64| {
            let mut trial = hedged();
            (0..count).for_each(|at| trial.answered(milliseconds(2_000 + at), milliseconds(500)));
            trial
        };
        let mut few = spread(100);
        few.scale(0.01);
        assert!(width(&few) > 5.0 * width(&spread(100)));
    }
}
