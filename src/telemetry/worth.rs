//! What hedging was worth, as metrics: the numbers of a [`Report`](crate::report::Report).
//!
//! Set when scraped. A number that is not known has no series; one that is not known any more is
//! not a number, since a series that stays at its last value would lie.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::meters::Meters;
use super::table::{self, Row};
use crate::report::{Estimate, Route, Waits, Worth};

/// The gauges that have been set, by the position of their row and by their labels.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<BTreeSet<(&'static str, Vec<String>)>>);

impl Shown {
    /// Shows these routes, and of all others that they are not known.
    pub(super) fn set(&self, meters: &Meters, routes: &[Route]) {
        let mut now = BTreeSet::new();
        let mut set = |row: &'static Row, labels: &[&str], value: Option<f64>| {
            if let Some(value) = value {
                meters.set(row, labels, value);
                now.insert((row.name, labels.iter().map(|&label| label.to_owned()).collect()));
            }
        };
        for route in routes {
            let place = [&*route.model_group, if route.stream { "true" } else { "false" }];
            for (hedging, waits) in [("with", &route.with), ("without", &route.without)] {
                set_waits(&mut set, place, hedging, waits.as_ref());
            }
            for (hedges, worth) in [("made", &route.made), ("observed", &route.observed)] {
                let Some(worth) = worth else { continue };
                let labels = [place[0], place[1], hedges];
                meters.raise(&table::HEDGE_EXTRA_TOKENS, &labels, worth.extra_tokens);
                set_worth(&mut set, labels, worth);
            }
        }
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, labels) in shown.difference(&now) {
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            if let Some(row) = GAUGES.iter().find(|row| row.name == *name) {
                meters.set(row, &labels, f64::NAN);
            }
        }
        shown.append(&mut now);
    }
}

/// What may be forgotten; a counter stays.
const GAUGES: [&Row; 4] =
    [&table::HEDGE_WAIT, &table::HEDGE_WIN_RATIO, &table::HEDGE_SAVED, &table::HEDGE_PRICE];

fn set_waits(
    set: &mut impl FnMut(&'static Row, &[&str], Option<f64>),
    [group, stream]: [&str; 2],
    hedging: &str,
    waits: Option<&Waits>,
) {
    let percentiles = waits.into_iter().flat_map(Waits::percentiles);
    for ((_, estimate), quantile) in percentiles.zip(["0.5", "0.95", "0.99"]) {
        let Estimate { value, low, high } = estimate;
        for (bound, value) in [("estimate", Some(value)), ("low", Some(low)), ("high", high)] {
            set(&table::HEDGE_WAIT, &[group, stream, hedging, quantile, bound], value);
        }
    }
}

fn set_worth(
    set: &mut impl FnMut(&'static Row, &[&str], Option<f64>),
    labels: [&str; 3],
    worth: &Worth,
) {
    let value = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.value);
    let cost = worth.extra_cost_usd.map(crate::lexicon::PicoUsd::as_usd);
    set(&table::HEDGE_WIN_RATIO, &labels, value(worth.win_rate));
    set(&table::HEDGE_SAVED, &labels, value(worth.seconds_saved));
    set(&table::HEDGE_EXTRA_COST, &labels, cost);
    set(&table::HEDGE_PRICE, &labels, value(worth.usd_per_second_saved));
}
