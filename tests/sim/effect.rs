//! Whether the effect that is told is the effect there was.

use std::time::Duration;

use fastrand::Rng;
use pillion::routing::latency::{Effect, Estimate, Trial, Unmade};

use crate::table::{Table, quantile};
use crate::upstream::{Upstream, prompt};

/// What really happened, beside what was told.
struct Run {
    told: Effect,
    /// Seconds at the 50th, 95th and 99th percentile.
    without: [f64; 3],
    with: [f64; 3],
    saved: f64,
    /// Hedges that were first.
    wins: f64,
    /// Kaplan and Meier over seconds instead of residuals.
    pooled_p99: f64,
    /// What is told where nobody is hedged.
    observed: Effect,
}

/// How a trial is predicted.
#[derive(Clone, Copy, PartialEq)]
enum Prediction {
    /// By the size of the prompt.
    Sized,
    /// The same for all, which is Kaplan and Meier over seconds.
    Pooled,
}

fn run(requests: u32, held_out: f64, seed: u64) -> Run {
    let mut dice = Rng::with_seed(seed);
    let upstream = Upstream::USUAL;
    let threshold = upstream.quantile(900, 0.95) / upstream.scale(900);
    let mut trials = [Trial::default(), Trial::default()];
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut saved, mut wins) = (0.0, 0.0);
    let mut observed = Trial::default();
    for _ in 0..requests {
        let tokens = prompt(&mut dice);
        let primary = upstream.sample(tokens, &mut dice);
        let due = threshold * upstream.scale(tokens);
        let hedge = due + upstream.sample(tokens, &mut dice);
        let held_out = dice.f64() < held_out;
        without.push(primary);
        let won = primary > hedge && !held_out;
        let waited = if won { hedge } else { primary };
        with.push(waited);
        if won {
            saved += primary - hedge;
            wins += 1.0;
        }
        let [alone, prediction, after] =
            [primary, upstream.scale(tokens), due].map(Duration::from_secs_f64);
        if primary > due {
            observed.observed(alone, prediction, Unmade { after, prediction });
        } else {
            observed.answered(alone, prediction);
        }
        for (trial, prediction) in trials.iter_mut().zip([Prediction::Sized, Prediction::Pooled]) {
            let prediction = match prediction {
                Prediction::Sized => upstream.scale(tokens),
                Prediction::Pooled => 1.0,
            };
            let (waited, prediction) =
                (Duration::from_secs_f64(waited), Duration::from_secs_f64(prediction));
            if won { trial.won(waited, prediction) } else { trial.answered(waited, prediction) }
        }
    }
    let percentiles = |values: &mut [f64]| [0.5, 0.95, 0.99].map(|part| quantile(values, part));
    let [told, pooled] = trials.map(|trial| Effect::of(&trial).expect("there were requests"));
    Run {
        told,
        without: percentiles(&mut without),
        with: percentiles(&mut with),
        saved: saved / wins,
        wins,
        observed: Effect::of(&observed).expect("there were requests"),
        pooled_p99: pooled.without.percentiles[2].value,
    }
}

fn told(estimate: &Estimate) -> String {
    format!("{:.2}±{:.2}", estimate.value, (estimate.high - estimate.low) / 2.0)
}

#[track_caller]
fn check(estimate: &Estimate, truth: f64, within: f64) {
    assert!((estimate.value / truth).ln().abs() < within, "{estimate:?} is not {truth}");
}

#[test]
fn the_effect_told_is_the_effect_there_was() {
    let heads =
        ["requests / held out", "p99 without", "told", "over seconds", "p99 with", "saved", "told"];
    let mut table = Table::new("the effect of hedging, in seconds", &heads);
    let cases = [(30_000, 0.05, 0.12), (200_000, 0.02, 0.06), (200_000, 0.05, 0.06)];
    let runs = cases.map(|(requests, held_out, within)| {
        let run = run(requests, held_out, 3);
        let saved = run.told.saved.expect("there were wins");
        table.row(&[
            format!("{requests} / {:.0} %", 100.0 * held_out),
            format!("{:.2}", run.without[2]),
            told(&run.told.without.percentiles[2]),
            format!("{:.2}", run.pooled_p99),
            format!("{:.2}", run.with[2]),
            format!("{:.2}", run.saved),
            told(&saved),
        ]);
        (run, saved, within)
    });
    table.print();
    for (run, saved, within) in runs {
        for at in 0..3 {
            check(&run.told.without.percentiles[at], run.without[at], within);
            check(&run.told.with.percentiles[at], run.with[at], within);
        }
        check(&saved, run.saved, within);
    }
}

#[test]
fn what_hedging_would_do_is_told_without_it() {
    let run = run(200_000, 0.0, 5);
    let (would, heads) = (&run.observed, ["", "p50", "p95", "p99", "wins", "saved each"]);
    let observed = would.observed.expect("some were late");
    let saved = observed.saved().expect("some would have won");
    let mut table = Table::new("what hedging would do, told by who only observes", &heads);
    let seconds = |all: [f64; 3]| all.map(|seconds| format!("{seconds:.2}"));
    let row = |name: &str, [p50, p95, p99]: [String; 3], wins: f64, saved: String| {
        [name.to_owned(), p50, p95, p99, format!("{wins:.0}"), saved]
    };
    table.row(&row("hedged", seconds(run.with), run.wins, format!("{:.2}", run.saved)));
    let told_of = would.with.percentiles.each_ref().map(told);
    table.row(&row("observed", told_of, observed.wins, told(&saved)));
    table.print();
    for at in 0..3 {
        check(&would.without.percentiles[at], run.without[at], 0.06);
        check(&would.with.percentiles[at], run.with[at], 0.06);
    }
    check(&saved, run.saved, 0.08);
    assert!((observed.wins / run.wins - 1.0).abs() < 0.05, "{} of {}", observed.wins, run.wins);
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let truth = run(300_000, 0.0, 1);
    let (mut held, mut held_saved, runs) = (0, 0, 40);
    let saved = run(300_000, 0.05, 2).saved;
    for seed in 0..runs {
        let run = run(8_000, 0.05, 100 + seed);
        let within = |estimate: &Estimate, truth: f64| {
            u64::from((estimate.low..=estimate.high).contains(&truth))
        };
        held += within(&run.told.without.percentiles[2], truth.without[2]);
        held_saved += within(&run.told.saved.expect("there were wins"), saved);
    }
    println!("the truth is within {held} (p99) and {held_saved} (saved) of {runs} intervals");
    assert!(held >= runs * 80 / 100, "p99: {held} of {runs}");
    assert!(held_saved >= runs * 80 / 100, "saved: {held_saved} of {runs}");
}
