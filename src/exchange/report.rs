//! What hedging was worth, as the admin port tells it and metrics do.
//!
//! The sums are those of [`Hedges`](crate::stats::Hedges); here they become a
//! [`Report`] with names, percentiles and prices.

use super::live::Live;
use crate::lexicon::HedgeMode;
use crate::lexicon::count::{float, whole};
use crate::report::{Basis, Distribution, Estimate, Report, Route, Waits, Worth, rounded};
use crate::routing::latency::effect::Basis as Told;
use crate::routing::latency::histogram::{BINS, edge};
use crate::routing::latency::{self, Effect, Observed};
use crate::routing::{Group, Kind};
use crate::stats::{self, Extra};

impl Live {
    /// What hedging was worth in every model group that hedges or observes.
    pub fn report(&self) -> Report {
        let (mut routes, mut idle) = (Vec::new(), Vec::new());
        for group in self.routes.groups() {
            let before = routes.len();
            routes.extend(self.known(group).map(|(route, effect)| Route {
                distribution: effect.as_ref().map(distribution),
                ..route
            }));
            if routes.len() == before && group.hedge.mode != HedgeMode::Disabled {
                idle.push(group.name.to_string());
            }
        }
        Report::new(routes, idle)
    }

    /// The same without distributions, for metrics.
    pub fn worth_of_hedging(&self) -> Vec<Route> {
        let groups = self.routes.groups().iter();
        groups.flat_map(|group| self.known(group)).map(|(route, _)| route).collect()
    }

    fn known(&self, group: &Group) -> impl Iterator<Item = (Route, Option<Effect>)> {
        let hedges = self.hedges.get(group.at);
        Kind::answers().into_iter().filter_map(move |kind| {
            let worth = hedges?.worth(kind)?;
            let effect = Effect::of(&worth.trial);
            Some((route(group, kind, &worth, effect.as_ref()), effect))
        })
    }
}

fn route(group: &Group, kind: Kind, worth: &stats::Worth, effect: Option<&Effect>) -> Route {
    let outcomes = worth.outcomes.iter().map(|(word, count)| ((*word).to_owned(), *count));
    Route {
        model_group: group.name.to_string(),
        stream: kind.stream,
        mode: group.hedge.mode.as_str().to_owned(),
        requests: effect.map_or(0, |effect| whole(effect.requests)),
        outcomes: outcomes.collect(),
        with: effect.map(|effect| waits(&effect.with)),
        without: effect.map(|effect| waits(&effect.without)),
        made: made(worth, effect),
        observed: observed(worth, effect),
        distribution: None,
    }
}

fn waits(told: &latency::Waits) -> Waits {
    let basis = match told.basis {
        Told::Estimated => Basis::Estimated,
        Told::Measured => Basis::Measured,
    };
    let [p50, p95, p99] = told.percentiles.map(about);
    Waits { basis, p50, p95, p99 }
}

/// Hedges that were made; `None` where none was.
fn made(worth: &stats::Worth, effect: Option<&Effect>) -> Option<Worth> {
    let count = |word| worth.outcomes.get(word).copied().unwrap_or_default();
    let won = count("won");
    let hedges = won + count("lost") + count("failed");
    if worth.made == Extra::default() {
        return None;
    }
    let rate = (hedges > 0).then(|| latency::Estimate::of_share(float(won), float(hedges)));
    let each = effect.and_then(|effect| effect.saved);
    let saved = each.zip(effect).map(|(each, effect)| each.times(effect.wins));
    Some(Worth { won: Some(won), ..priced(hedges, rate, (each, saved), worth.made) })
}

/// Hedges that would have been made; `None` where none would.
fn observed(worth: &stats::Worth, effect: Option<&Effect>) -> Option<Worth> {
    let hedges = worth.outcomes.get("observed").copied().filter(|hedges| *hedges > 0)?;
    let observed = effect.and_then(|effect| effect.observed);
    let rate = observed.as_ref().map(Observed::win_rate);
    let each = observed.as_ref().and_then(Observed::saved);
    let saved = observed.as_ref().and_then(Observed::saved_by_all);
    Some(priced(hedges, rate, (each, saved), worth.unmade))
}

fn priced(
    hedges: u64,
    win_rate: Option<latency::Estimate>,
    (each, saved): (Option<latency::Estimate>, Option<latency::Estimate>),
    extra: Extra,
) -> Worth {
    let cost = (extra.priced > 0 && extra.unpriced == 0).then_some(extra.cost);
    let saved = saved.map(about);
    Worth {
        hedges,
        won: None,
        win_rate: win_rate.map(about),
        extra_requests: extra.tries,
        extra_tokens: extra.tokens,
        extra_cost_usd: cost,
        seconds_saved_per_win: each.map(about),
        seconds_saved: saved,
        usd_per_second_saved: Worth::price_of_second(cost, saved),
    }
}

fn about(told: latency::Estimate) -> Estimate {
    let high = Some(told.high).filter(|high| high.is_finite()).map(rounded);
    Estimate { value: rounded(told.value), low: rounded(told.low), high }
}

/// From the last point at which everybody waits to the first at which nobody does.
fn distribution(effect: &Effect) -> Distribution {
    let (with, without) = (&effect.with.longer, &effect.without.longer);
    let both = || with.iter().zip(without);
    let all = both().take_while(|(with, without)| with.min(**without) >= 1.0).count();
    let some = both().take_while(|(with, without)| with.max(**without) > 0.0).count();
    let range = all.saturating_sub(1)..(some + 1).min(BINS + 1);
    let cut = |shares: &[f64]| {
        shares.get(range.clone()).unwrap_or_default().iter().copied().map(rounded).collect()
    };
    Distribution {
        seconds: range.clone().map(|at| rounded(edge(at))).collect(),
        with: cut(with),
        without: cut(without),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lexicon::PicoUsd;
    use crate::routing::latency::{Trial, Unmade};

    fn worth() -> stats::Worth {
        stats::Worth { trial: Trial::default(), ..stats::Worth::default() }
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let mut worth = worth();
        assert_eq!((made(&worth, None), observed(&worth, None)), (None, None));
        worth.made = Extra { tries: 1, tokens: 7, cost: PicoUsd(5), priced: 1, unpriced: 1 };
        worth.outcomes = [("won", 1)].into();
        let some_unpriced = made(&worth, None).unwrap();
        assert_eq!((some_unpriced.won, some_unpriced.extra_tokens), (Some(1), 7));
        assert_eq!((some_unpriced.extra_cost_usd, some_unpriced.seconds_saved), (None, None));
        assert_eq!(some_unpriced.usd_per_second_saved, None);
        worth.made = Extra { tries: 1, ..Extra::default() };
        worth.outcomes.clear();
        // It runs still: nobody has won or lost.
        let running = made(&worth, None).unwrap();
        assert_eq!((running.hedges, running.win_rate, running.extra_cost_usd), (0, None, None));
    }

    #[test]
    fn what_was_saved_is_paid_for() {
        let mut worth = worth();
        let milliseconds = Duration::from_millis;
        for at in 0..1_000 {
            match at % 100 {
                0 => worth.trial.answered(milliseconds(5_000), milliseconds(500)),
                1..10 => worth.trial.won(milliseconds(1_000), milliseconds(500)),
                _ => worth.trial.answered(milliseconds(500), milliseconds(500)),
            }
        }
        worth.outcomes = [("won", 90), ("lost", 10), ("holdout", 10)].into();
        let cost = PicoUsd::from_usd(3.6).unwrap();
        worth.made = Extra { tries: 100, tokens: 700, cost, priced: 100, unpriced: 0 };
        let effect = Effect::of(&worth.trial).unwrap();
        let made = made(&worth, Some(&effect)).unwrap();
        let near = |got: Option<Estimate>, want: f64| {
            let got = got.unwrap();
            assert!((got.value / want - 1.0).abs() < 0.05, "{got:?} is not {want}");
            assert!(got.low <= got.value && got.high.is_none_or(|high| got.value <= high));
        };
        near(made.win_rate, 0.9);
        near(made.seconds_saved_per_win, 4.0);
        near(made.seconds_saved, 360.0);
        near(made.usd_per_second_saved, 0.01);
        assert_eq!(waits(&effect.without).basis, Basis::Estimated);
    }

    #[test]
    fn distributions_begin_and_end_where_something_happens() {
        let mut trial = Trial::default();
        let unmade =
            Unmade { after: Duration::from_millis(300), prediction: Duration::from_millis(100) };
        for wait in 100..200 {
            trial.answered(Duration::from_millis(wait), Duration::from_millis(100));
        }
        trial.observed(Duration::from_secs(2), Duration::from_millis(100), unmade);
        let drawn = distribution(&Effect::of(&trial).unwrap());
        assert!(drawn.seconds.len() < 50 && drawn.seconds.is_sorted(), "{drawn:?}");
        assert_eq!(drawn.seconds.len(), drawn.with.len());
        for shares in [&drawn.with, &drawn.without] {
            assert!(shares.is_sorted_by(|one, next| one >= next), "{shares:?}");
            assert!(shares[0] >= 1.0 && shares[shares.len() - 1] <= 0.0, "{shares:?}");
        }
        let late = drawn.seconds.iter().position(|at| *at > 1.0).unwrap();
        assert!(drawn.without[late] > 0.005 && drawn.with[late] < 0.001, "{drawn:?}");
    }
}
