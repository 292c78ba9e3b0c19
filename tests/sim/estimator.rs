//! How well a model knows its threshold: by traffic, by size of the prompt, and after a change.

use std::time::Duration;

use fastrand::Rng;
use pillion::lexicon::time;
use pillion::routing::latency::{Bounds, Forecast, Model, Prior, Sample, Seen};

use crate::table::{Table, quantile};
use crate::upstream::{Upstream, pause, prompt};

const PERCENTILE: f64 = 0.95;
const ARMED: f64 = 30.0;
const SHORT: u32 = 1_000;
const LONG: u32 = 6_000;

/// Requests of one kind, and those above their threshold.
#[derive(Default, Clone, Copy)]
struct Share {
    above: f64,
    all: f64,
}

impl Share {
    fn count(&mut self, above: bool) {
        self.all += 1.0;
        self.above += f64::from(u8::from(above));
    }

    fn percent(self) -> f64 {
        100.0 * self.above / self.all.max(1.0)
    }
}

/// What one run has shown.
#[derive(Default)]
struct Seeing {
    all: Share,
    short: Share,
    middle: Share,
    long: Share,
    /// After everything has become twice as slow: a minute, and five.
    minute: Share,
    five: Share,
    armed: Share,
    errors: Vec<f64>,
}

impl Seeing {
    fn observe(&mut self, forecast: &Forecast, tokens: u32, seconds: f64, truth: &Upstream) {
        self.armed.count(forecast.samples() >= ARMED);
        if forecast.samples() < ARMED {
            return;
        }
        let threshold = threshold(forecast, tokens);
        let above = seconds > threshold;
        self.all.count(above);
        let size = match tokens {
            ..SHORT => &mut self.short,
            SHORT..LONG => &mut self.middle,
            LONG.. => &mut self.long,
        };
        size.count(above);
        // Finding the truth is the costly part of it.
        if self.errors.len() < 2_000 {
            self.errors.push((threshold / truth.quantile(tokens, PERCENTILE)).ln().abs());
        }
    }

    fn error(&mut self) -> f64 {
        quantile(&mut self.errors, 0.5)
    }
}

fn threshold(forecast: &Forecast, tokens: u32) -> f64 {
    let bounds = Bounds { least: Duration::ZERO, most: Duration::from_secs(600) };
    forecast.threshold(tokens, PERCENTILE, bounds).as_secs_f64()
}

/// Requests of `hours` at `rate` per minute; then everything becomes twice as slow.
fn run(rate: f64, hours: f64, seed: u64) -> Seeing {
    let (mut dice, start, prior) = (Rng::with_seed(seed), time::now(), Prior::default());
    let mut model = Model::new(start);
    let mut seeing = Seeing::default();
    let change = hours * 3_600.0;
    let mut clock = 0.0;
    while clock < change + 300.0 {
        clock += pause(rate / 60.0, &mut dice);
        let now = start + Duration::from_secs_f64(clock);
        let slowdown = if clock < change { 1.0 } else { 2.0 };
        let upstream = Upstream { slowdown, ..Upstream::USUAL };
        let tokens = prompt(&mut dice);
        let seconds = upstream.sample(tokens, &mut dice);
        let forecast = model.forecast(&prior, now);
        if clock < change {
            seeing.observe(&forecast, tokens, seconds, &upstream);
        } else {
            let above = seconds > threshold(&forecast, tokens);
            seeing.five.count(above);
            if clock < change + 60.0 {
                seeing.minute.count(above);
            }
        }
        let waited = Duration::from_secs_f64(seconds);
        let sample = Sample { prompt_tokens: tokens, waited, seen: Seen::Answered };
        model.learn(&sample, &prior, now);
    }
    seeing
}

#[track_caller]
fn check_between(what: &str, got: f64, low: f64, high: f64) {
    assert!((low..=high).contains(&got), "{what} is {got}, not from {low} to {high}");
}

#[test]
fn every_size_of_prompt_is_hedged_alike() {
    let heads = ["requests per minute", "armed", "above", "error", "short/mid/long", "60 s/5 min"];
    let mut table = Table::new("threshold at p95, one model", &heads);
    let runs = [(10.0, 12.0), (60.0, 6.0), (300.0, 1.5)].map(|(rate, hours)| {
        let mut seeing = run(rate, hours, 7);
        let sizes = [seeing.short, seeing.middle, seeing.long].map(Share::percent);
        let error = seeing.error();
        table.row(&[
            format!("{rate}"),
            format!("{:.0} %", seeing.armed.percent()),
            format!("{:.1} %", seeing.all.percent()),
            format!("{error:.3}"),
            format!("{:.1}/{:.1}/{:.1} %", sizes[0], sizes[1], sizes[2]),
            format!("{:.0}/{:.0} %", seeing.minute.percent(), seeing.five.percent()),
        ]);
        (seeing, sizes, error)
    });
    table.print();
    for ((seeing, sizes, error), (most, fired)) in
        runs.into_iter().zip([(0.10, 30.0), (0.065, 34.0), (0.065, 22.0)])
    {
        check_between("the median error", error, 0.0, most);
        check_between("the share above", seeing.all.percent(), 4.0, 6.0);
        for size in sizes {
            check_between("the share of one size", size, 3.0, 8.0);
        }
        check_between("the share armed", seeing.armed.percent(), 99.0, 100.0);
        check_between("the share after a change", seeing.minute.percent(), 0.0, fired);
        check_between("the share five minutes later", seeing.five.percent(), 0.0, 16.0);
    }
}
