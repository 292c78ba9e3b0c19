//! What becomes of the threshold when losers are cancelled: kept as censored, or dropped.

use std::time::Duration;

use fastrand::Rng;
use pillion::lexicon::time;
use pillion::routing::latency::{Bounds, Model, Prior, Sample, Seen};

use crate::table::Table;
use crate::upstream::{Upstream, prompt};

const REQUESTS: u32 = 12_000;

/// What is told of a cancelled primary.
#[derive(Clone, Copy, PartialEq)]
enum Losers {
    Completed,
    Dropped,
    Kept,
}

/// The mean of threshold over truth in the second half, and the share hedged there.
fn run(percentile: f64, losers: Losers, seed: u64) -> (f64, f64) {
    let (mut dice, mut now, prior) = (Rng::with_seed(seed), time::now(), Prior::default());
    let mut model = Model::new(now);
    let upstream = Upstream::USUAL;
    let bounds = Bounds { least: Duration::ZERO, most: Duration::from_secs(600) };
    let (mut ratios, mut hedged, mut counted) = (0.0, 0.0, 0.0);
    for at in 0..REQUESTS {
        now += Duration::from_millis(200);
        let tokens = prompt(&mut dice);
        let forecast = model.forecast(&prior, now);
        let threshold = forecast.threshold(tokens, percentile, bounds).as_secs_f64();
        let primary = upstream.sample(tokens, &mut dice);
        let hedge = threshold + upstream.sample(tokens, &mut dice);
        let late_half = at >= REQUESTS / 2;
        if late_half {
            counted += 1.0;
            hedged += f64::from(u8::from(primary > threshold));
        }
        // Truth at one size of prompt: it is the same in units of the prediction for all.
        if late_half && at % 10 == 0 {
            let learned = forecast.threshold(900, percentile, bounds).as_secs_f64();
            ratios += 10.0 * learned / upstream.quantile(900, percentile);
        }
        let ended = match losers {
            _ if primary <= hedge => Seen::Answered,
            Losers::Completed => Seen::Answered,
            Losers::Kept => Seen::Censored,
            Losers::Dropped => continue,
        };
        let waited = Duration::from_secs_f64(primary.min(hedge));
        model.learn(&Sample { prompt_tokens: tokens, waited, seen: ended }, &prior, now);
    }
    (ratios / counted, 100.0 * hedged / counted)
}

#[test]
fn cancelled_primaries_do_not_pull_the_threshold_down() {
    let heads = ["losers", "p90", "p95", "p99"];
    let mut table = Table::new(
        "threshold / truth, and the share hedged, when every late one is hedged",
        &heads,
    );
    let all = |losers| [0.90, 0.95, 0.99].map(|percentile| run(percentile, losers, 11));
    let told = |name: &str, row: &[(f64, f64); 3]| {
        let cells = row.map(|(ratio, hedged)| format!("{ratio:.2}, {hedged:.1} %"));
        [name.to_owned(), cells[0].clone(), cells[1].clone(), cells[2].clone()]
    };
    let (dropped, completed, kept) =
        (all(Losers::Dropped), all(Losers::Completed), all(Losers::Kept));
    table.row(&told("dropped", &dropped));
    table.row(&told("as completions", &completed));
    table.row(&told("kept as censored", &kept));
    table.print();
    for ((ratio, hedged), (percentile, low, high)) in
        kept.iter().zip([(10.0, 0.95, 1.08), (5.0, 0.95, 1.12), (1.0, 0.75, 1.25)])
    {
        assert!((low..=high).contains(ratio), "{ratio} at the best {percentile} %");
        assert!((0.6 * percentile..1.5 * percentile).contains(hedged), "{hedged} % are hedged");
    }
    let off = |row: &[(f64, f64); 3]| row[2].0.ln().abs();
    assert!(off(&kept) < 0.5 * off(&completed), "an age is no answer at p99");
    assert!(dropped[1].1 > kept[1].1 + 1.0, "dropping losers hedges more at p95");
    assert!(dropped[2].0 < 0.6 * kept[2].0, "dropping losers ruins p99");
}
