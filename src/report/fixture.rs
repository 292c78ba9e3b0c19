//! A report with a route that hedges, one that observes, and one of which little is known.

use super::rounded;
use super::{Basis, Distribution, Estimate, Report, Route, Waits, Worth};
use crate::lexicon::PicoUsd;

fn about(value: f64) -> Estimate {
    Estimate { value, low: rounded(value * 0.8), high: Some(rounded(value * 1.25)) }
}

fn waits(basis: Basis, [p50, p95, p99]: [f64; 3]) -> Waits {
    Waits { basis, p50: about(p50), p95: about(p95), p99: about(p99) }
}

/// A body around so many seconds, and where nobody is hedged a tail of one of thirty.
fn distribution(median: f64) -> Distribution {
    let seconds: Vec<_> = (0..60).map(|at| rounded(median / 6.0 * 1.1_f64.powi(at))).collect();
    let body = |seconds: f64| 1.0 / (1.0 + (seconds / median).powi(6));
    let with = seconds.iter().map(|at| rounded(0.98 * body(*at) + 0.02 * body(at / 1.3)));
    let without = seconds.iter().map(|at| rounded(0.97 * body(*at) + 0.03 * body(at / 5.0)));
    let (with, without) = (with.collect(), without.collect());
    Distribution { seconds, with, without }
}

fn worth() -> Worth {
    Worth {
        hedges: 52,
        won: Some(41),
        win_rate: Some(Estimate { value: 0.788, low: 0.66, high: Some(0.877) }),
        extra_requests: 52,
        extra_tokens: 15_364,
        extra_cost_usd: PicoUsd::from_usd(0.0312),
        seconds_saved_per_win: Some(about(18.0)),
        seconds_saved: Some(about(738.0)),
        usd_per_second_saved: Some(about(0.000_042_3)),
    }
}

pub(crate) fn report() -> Report {
    let hedged = Route {
        model_group: "smart".into(),
        stream: true,
        mode: "enabled".into(),
        requests: 1_480,
        outcomes: [("won", 41), ("lost", 11), ("holdout", 3), ("budget", 1)]
            .map(|(word, count)| (word.into(), count))
            .into(),
        with: Some(waits(Basis::Measured, [0.3, 0.5, 0.68])),
        without: Some(waits(Basis::Estimated, [0.3, 0.57, 1.68])),
        made: Some(worth()),
        observed: None,
        distribution: Some(distribution(0.3)),
    };
    let observed = Route {
        model_group: "cheap <b>&".into(),
        stream: false,
        mode: "observe".into(),
        outcomes: [("observed".into(), 52)].into(),
        with: Some(waits(Basis::Estimated, [1.2, 2.0, 2.7])),
        without: Some(Waits {
            p99: Estimate { value: 6.7, low: 5.5, high: None },
            ..waits(Basis::Measured, [1.2, 2.3, 6.7])
        }),
        made: None,
        observed: Some(Worth {
            won: None,
            extra_cost_usd: None,
            usd_per_second_saved: None,
            ..worth()
        }),
        distribution: Some(distribution(1.2)),
        ..hedged.clone()
    };
    let young = Route {
        model_group: "new".into(),
        requests: 0,
        outcomes: [("no_candidate".into(), 2)].into(),
        with: None,
        without: None,
        made: None,
        observed: None,
        distribution: None,
        ..hedged.clone()
    };
    Report::new(vec![hedged, observed, young], vec!["idle".into()])
}
