//! Whether hedging helps: what callers waited, beside what they would have waited without it.
//!
//! A hedge that wins cuts its primary short, so the wait it saved is never seen. Kaplan and Meier
//! recover it, helped by hold-outs, which are requests that were due a hedge and got none. Their
//! estimate takes for granted that being cut short says nothing about the rest. Over prompts of
//! all sizes it does: short prompts are cut early, and who is then still waiting has a long
//! prompt. So the curve is that of residuals, wait over prediction, where all prompts are alike,
//! and predictions turn it back into seconds.

use super::histogram::{BINS, Histogram, bin, edge};
use super::survival::{Curve, Risk, risks};
use super::trial::{Observed, Trial, middle};
use crate::lexicon::count::float;

/// The percentiles that are told.
pub const PERCENTILES: [f64; 3] = [0.5, 0.95, 0.99];
/// How many standard errors make an interval of 95 %.
const SPREAD: f64 = 1.96;

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

impl Estimate {
    /// A share of so many, with Wilson's interval, which holds for few and for none, too.
    pub fn of_share(count: f64, all: f64) -> Self {
        let share = count / all;
        let square = SPREAD * SPREAD / all;
        let center = share + square / 2.0;
        let reach = (square * (share * (1.0 - share) + square / 4.0)).sqrt();
        let end = |reach: f64| ((center + reach) / (1.0 + square)).clamp(0.0, 1.0);
        Self { value: share, low: end(-reach).min(share), high: end(reach).max(share) }
    }

    /// So many times as much.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        let Self { value, low, high } = self;
        Self { value: value * factor, low: low * factor, high: high * factor }
    }

    /// From its logarithm's standard error.
    fn by_logarithm(value: f64, error: f64) -> Self {
        let times = (SPREAD * error).exp();
        Self { value, low: value / times, high: value * times }
    }
}

/// Where numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// What would have been is told from what was.
    Estimated,
    /// It was so.
    Measured,
}

/// What callers waited, or would have.
#[derive(Debug, Clone, PartialEq)]
pub struct Waits {
    /// Whether they did.
    pub basis: Basis,
    /// Seconds, at each of [`PERCENTILES`].
    pub percentiles: [Estimate; 3],
    /// The share that waits longer, at every [`edge`].
    pub longer: [f64; BINS + 1],
}

/// What hedging did, and what it would have done.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Requests it was told from.
    pub requests: f64,
    /// Hedges that were first.
    pub wins: f64,
    /// To the first token, as callers see it with hedging; estimated where hedges were observed.
    pub with: Waits,
    /// Without hedging; estimated where hedges were first.
    pub without: Waits,
    /// Seconds that a winning hedge saved on average; `None` where none has won.
    pub saved: Option<Estimate>,
    /// Hedges that were not made; `None` where there are none.
    pub observed: Option<Observed>,
}

impl Effect {
    /// The effect; `None` of nothing.
    pub fn of(trial: &Trial) -> Option<Self> {
        if trial.totals.requests <= 0.0 {
            return None;
        }
        let unhedged = Unhedged::of(trial);
        let observed = Some(trial.totals.observed).filter(|observed| observed.hedges > 0.0);
        let served = || Waits::of(Basis::Measured, &Served::of(&trial.served).shares());
        let with = observed.map_or_else(served, |_| {
            Waits::of(Basis::Estimated, &Served::of(&trial.hedged).shares())
        });
        let is_cut = trial.totals.wins > 0.0;
        let without =
            if is_cut { Waits::of(Basis::Estimated, &unhedged.shares()) } else { served() };
        Some(Self {
            requests: trial.totals.requests,
            wins: trial.totals.wins,
            with,
            without,
            saved: saved(trial, &unhedged),
            observed,
        })
    }
}

impl Observed {
    /// The share of them that would have been first.
    pub fn win_rate(&self) -> Estimate {
        Estimate::of_share(self.wins, self.hedges)
    }

    /// Seconds that each of these would have saved on average; `None` where none would.
    pub fn saved(&self) -> Option<Estimate> {
        let each = self.seconds / self.wins;
        // A mean errs as what each adds beyond it.
        let error = (self.squares - each * self.seconds).max(0.0).sqrt() / self.seconds;
        (self.seconds > 0.0).then(|| Estimate::by_logarithm(each, error))
    }

    /// What all of them would have saved. How many would have been first is chance, too.
    pub fn saved_by_all(&self) -> Option<Estimate> {
        let error = self.squares.sqrt() / self.seconds;
        (self.seconds > 0.0).then(|| Estimate::by_logarithm(self.seconds, error))
    }
}

/// A share and its standard error.
type Share = (f64, f64);

/// One at every edge.
type Shares = [Share; BINS + 1];

impl Waits {
    fn of(basis: Basis, shares: &Shares) -> Self {
        let percentiles = PERCENTILES.map(|part| quantile(part, shares));
        Self { basis, percentiles, longer: shares.map(|(share, _)| share) }
    }
}

/// Where the share that waits longer falls to `1 − part`, and where its interval does, which is
/// that of `ln(−ln S)`: small shares err upwards more than downwards.
fn quantile(part: f64, shares: &Shares) -> Estimate {
    let level = 1.0 - part;
    let bounds = |errors: f64| {
        shares.map(|(share, error)| {
            let shift = errors * error / (share * share.ln());
            if shift.is_finite() { share.powf(shift.exp()) } else { share }
        })
    };
    // Where next to nobody or next to all are waiting, bounds are poor and may cross the level
    // again: what counts is the crossing next to that of the shares themselves.
    let upper = |bounds: [f64; BINS + 1]| {
        let after = bounds.iter().position(|share| *share <= level);
        after.map_or(f64::INFINITY, |after| crossing(level, &bounds, after))
    };
    let lower = |bounds: [f64; BINS + 1]| {
        let before = bounds.iter().rposition(|share| *share > level);
        crossing(level, &bounds, before.map_or(0, |before| before + 1))
    };
    Estimate { value: upper(bounds(0.0)), low: lower(bounds(-SPREAD)), high: upper(bounds(SPREAD)) }
}

/// Where shares fall to a level before this edge.
fn crossing(level: f64, shares: &[f64; BINS + 1], after: usize) -> f64 {
    let Some(before) = after.checked_sub(1) else { return edge(0) };
    let [above, below] = [before, after].map(|at| shares.get(at).copied().unwrap_or_default());
    let along = if above > below { (above - level) / (above - below) } else { 1.0 };
    edge(before) + (edge(after) - edge(before)) * along
}

/// What callers waited: every wait ended, so the error is that of a share.
struct Served {
    curve: Curve,
    requests: f64,
}

impl Served {
    fn of(waits: &Histogram) -> Self {
        Self { curve: Curve::of(waits), requests: waits.total() }
    }

    fn shares(&self) -> Shares {
        std::array::from_fn(|at| {
            let share = self.curve.survival(edge(at));
            (share, (share * (1.0 - share) / self.requests).max(0.0).sqrt())
        })
    }
}

/// What primaries would have taken if none had been cut short: what callers waited, and what of it
/// is missing. Two curves of residuals tell what is missing, one that takes a cut for what it is,
/// and one that takes it for an answer; who was not cut short is measured, not estimated.
struct Unhedged {
    served: Served,
    curve: Curve,
    ended: Curve,
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
        let (curve, ended) =
            (Curve::of(&trial.residuals), Curve::of(&trial.residuals.all_answered()));
        let served = Served::of(&trial.served);
        Self { served, curve, ended, risks, greenwood, predictions, requests }
    }

    fn shares(&self) -> Shares {
        let mut shares = std::array::from_fn(|at| self.survival(edge(at)));
        never_rise(&mut shares);
        shares
    }

    /// The share that waits longer: what is missing is that of residuals, mixed over predictions.
    /// Residuals err together, so their errors add up; which predictions there were is chance, too.
    fn survival(&self, seconds: f64) -> Share {
        let (mut missing, mut share, mut error, mut squares) = (0.0, 0.0, 0.0, 0.0);
        for (prediction, part) in &self.predictions {
            let residual = seconds / prediction;
            let own = self.curve.survival(residual);
            let variance = self.greenwood.get(bin(residual)).copied().unwrap_or_default();
            missing += part * (own - self.ended.survival(residual)).max(0.0);
            share += part * own;
            error += part * own * variance.sqrt();
            squares += part * own * own;
        }
        let chance = ((squares - share * share) / self.requests).max(0.0);
        let served = self.served.curve.survival(seconds);
        ((served + missing).min(1.0), (error * error + chance).sqrt())
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
    // Greenwood's sum knows nothing of what lies beyond the last answer. What is beyond the cuts is
    // told by answers there alone, and the mean of so many errs by one over their root at least.
    let least = 1.0 / answered_beyond_cuts(trial).max(0.25).sqrt();
    Some(Estimate::by_logarithm(value, (variance.sqrt() / value).max(least)))
}

/// Primaries that were answered later, by residual, than the usual one was cut short.
fn answered_beyond_cuts(trial: &Trial) -> f64 {
    let mut cut = 0.0;
    let half = trial.saved.total() / 2.0;
    let beyond = trial.saved.bins().zip(trial.residuals.bins()).filter(|((_, weight), _)| {
        cut += weight;
        cut > half
    });
    beyond.skip(1).map(|(_, (answered, _))| answered).sum()
}

/// One term of Greenwood's sum. The last bin has none: beyond it there is nothing to be unsure of.
fn hazard_variance(risk: &Risk) -> f64 {
    let left = risk.waiting - risk.answered;
    if left > 0.0 { risk.answered / (risk.waiting * left) } else { 0.0 }
}

/// Changes shares as little as it takes to make them fall or stay, as the share that waits longer
/// does: what is missing is the difference of two curves, and may grow faster than what was measured
/// falls. Neighbours that rise share their mean (isotonic regression by pooling).
fn never_rise(shares: &mut Shares) {
    let mut pools: Vec<(f64, u64)> = Vec::with_capacity(shares.len());
    for (share, _) in &*shares {
        let mut pool = (*share, 1);
        while let Some((mean, length)) = pools.pop_if(|(mean, _)| *mean < pool.0) {
            let both = length + pool.1;
            pool = ((mean * float(length) + pool.0 * float(pool.1)) / float(both), both);
        }
        pools.push(pool);
    }
    let means = pools.into_iter().flat_map(|(mean, length)| (0..length).map(move |_| mean));
    for ((share, _), mean) in shares.iter_mut().zip(means) {
        *share = mean;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::trial::Unmade;
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
        for (with, without) in effect.with.percentiles.iter().zip(&effect.without.percentiles) {
            check(without, with.value);
            check(with, without.value);
        }
        check(&effect.with.percentiles[0], 1.0);
        check(&effect.with.percentiles[1], 1.9);
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
        check(&effect.without.percentiles[1], 5.0);
        check(&effect.with.percentiles[1], 1.0);
        check(&effect.saved.unwrap(), 4.0);
    }

    proptest! {
        #[test]
        fn the_share_that_waits_longer_never_rises(
            calls in prop::collection::vec((50..2_000_u64, 100..1_000_u64, 0..4_u8), 1..200),
        ) {
            let mut trial = Trial::default();
            for (wait, prediction, is_won) in calls {
                let (wait, prediction) = (milliseconds(wait), milliseconds(prediction));
                match is_won {
                    0 => trial.won(wait, prediction),
                    _ => trial.answered(wait, prediction),
                }
            }
            let effect = Effect::of(&trial).unwrap();
            for waits in [&effect.with, &effect.without] {
                prop_assert!(waits.longer.is_sorted_by(|before, after| before >= after));
                prop_assert!(waits.longer.iter().all(|share| (0.0..=1.0).contains(share)));
            }
        }
    }

    #[test]
    fn what_rises_shares_its_mean_and_all_else_stays() {
        let mut shares = [(0.0, 0.1); BINS + 1];
        let given = [1.0, 0.5, 0.2, 0.4, 0.3, 0.1];
        shares.iter_mut().zip(given).for_each(|(share, given)| share.0 = given);
        never_rise(&mut shares);
        for ((share, _), want) in shares.iter().zip([1.0, 0.5, 0.3, 0.3, 0.3, 0.1, 0.0]) {
            assert!((share - want).abs() < 1e-12, "{share} is not {want}");
        }
    }

    #[test]
    fn one_hold_out_tells_little() {
        let trial = |held_out: u64| {
            let mut trial = Trial::default();
            for at in 0..10_000 {
                match at % 100 {
                    0 if at / 100 < held_out => {
                        trial.answered(milliseconds(4_000 + at), milliseconds(500));
                    }
                    0..10 => trial.won(milliseconds(1_000), milliseconds(500)),
                    _ => trial.answered(milliseconds(500), milliseconds(500)),
                }
            }
            Effect::of(&trial).and_then(|effect| effect.saved).unwrap()
        };
        let (one, many) = (trial(1), trial(100));
        assert!(one.high > 5.0 * one.value && one.low < one.value / 5.0, "{one:?}");
        assert!(many.high < 1.3 * many.value, "{many:?}");
    }

    #[test]
    fn merged_halves_and_faded_wholes_have_the_same_effect() {
        let (whole, mut halves) = (hedged(), hedged());
        halves.scale(0.5);
        let half = halves.clone();
        halves.merge(&half);
        let (whole, halves) = (Effect::of(&whole).unwrap(), Effect::of(&halves).unwrap());
        check(&halves.without.percentiles[2], whole.without.percentiles[2].value);
        check(&halves.saved.unwrap(), whole.saved.unwrap().value);
    }

    #[test]
    fn what_is_only_observed_tells_what_hedging_would_do() {
        // As `hedged`, but that nobody is: a tenth is late at 1 s and waits 5 s; a hedge would take
        // 0.5 s, and nine times of ten it is one of those that do.
        let mut trial = Trial::default();
        let unmade = Unmade { after: milliseconds(1_000), prediction: milliseconds(500) };
        for at in 0..10_000 {
            if at % 10 == 0 {
                trial.observed(milliseconds(5_000), milliseconds(500), unmade);
            } else {
                trial.answered(milliseconds(500), milliseconds(500));
            }
        }
        let effect = Effect::of(&trial).unwrap();
        assert_eq!((effect.with.basis, effect.without.basis), (Basis::Estimated, Basis::Measured));
        check(&effect.without.percentiles[1], 5.0);
        check(&effect.with.percentiles[1], 1.5);
        let observed = effect.observed.unwrap();
        assert!((observed.hedges - 1_000.0).abs() < 1e-9 && effect.wins.abs() < 1e-9);
        check(&observed.win_rate(), 0.9);
        check(&observed.saved().unwrap(), 3.5);
        let all = observed.saved_by_all().unwrap();
        check(&all, 3_150.0);
        assert!((all.high / all.value - 1.0) > 0.05, "{all:?}");
        assert_eq!(effect.saved, None);
    }

    #[test]
    fn a_share_has_an_interval_even_of_none_and_of_all() {
        for (count, all, low, high) in
            [(0.0, 10.0, 0.0, 0.28), (10.0, 10.0, 0.72, 1.0), (50.0, 100.0, 0.40, 0.60)]
        {
            let got = Estimate::of_share(count, all);
            assert!((got.low - low).abs() < 0.01 && (got.high - high).abs() < 0.01, "{got:?}");
        }
    }

    #[test]
    fn millions_of_requests_are_still_counted() {
        let mut trial = Trial::default();
        let few = hedged();
        for _ in 0..20 {
            trial.merge(&few);
        }
        // Single precision would stop at 2²⁴.
        for _ in 0..40 {
            let all = trial.clone();
            if Effect::of(&trial).unwrap().requests < 2e7 {
                trial.merge(&all);
            }
            trial.won(milliseconds(1_000), milliseconds(500));
        }
        let effect = Effect::of(&trial).unwrap();
        assert!(effect.requests > 2e7 && effect.wins > 1.8e6, "{effect:?}");
        check(&effect.saved.unwrap(), 4.0);
        let before = trial.clone();
        trial.answered(milliseconds(500), milliseconds(500));
        assert!(trial.served != before.served, "one more changes nothing any more");
    }

    #[test]
    fn medians_are_not_changed_by_what_happens_in_the_tail() {
        let mut trial = Trial::default();
        for at in 0..3_000_u64 {
            // A prediction at the lower end of its bin, and answers on both of its sides.
            let (prediction, usual) = (milliseconds(135), milliseconds(90 + at * 7 % 100));
            match at % 500 {
                0 | 1 => trial.answered(prediction * 9, prediction),
                at if at % 20 == 0 => trial.won(prediction * 3, prediction),
                _ => trial.answered(usual, prediction),
            }
        }
        let effect = Effect::of(&trial).unwrap();
        let (with, without) = (effect.with.percentiles, effect.without.percentiles);
        let [median, _, p99] = without;
        assert!((median.value / with[0].value - 1.0).abs() < 0.01, "{median:?} {:?}", with[0]);
        assert!(median.low > 0.9 * median.value && median.high < 1.1 * median.value, "{median:?}");
        assert!(p99.value > 1.5 * with[2].value && p99.low > with[1].value, "{p99:?}");
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
