//! The proof of effect: what hedging did to waits, and what it cost, per model group and by
//! streamed or not.
//!
//! The same types are written on the admin port and read by `pillion report`, so that the two
//! cannot part. A number that is not known is absent, never a zero. Knows neither where numbers
//! come from nor where a report is read from.

#[cfg(test)]
pub(crate) mod fixture;
pub mod plot;
pub mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lexicon::{PicoUsd, Tokens};

/// All routes of one sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it is a report of; tells it from other JSON.
    pub report: Subject,
    /// The version of the sidecar.
    pub version: String,
    /// Model groups that hedge or observe, by streamed or not.
    pub routes: Vec<Route>,
    /// Those of them that had no request yet.
    pub without_requests: Vec<String>,
}

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Hedging.
    Hedging,
}

/// One model group's streams, or its whole answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Its name.
    pub model_group: String,
    /// Whether waits end with the first token of a stream, or with a whole answer.
    pub stream: bool,
    /// Its mode of hedging.
    pub mode: String,
    /// Answered requests that waits are told from.
    pub requests: u64,
    /// Late requests by what became of their hedge, as `pillion_hedges_total` has it.
    pub outcomes: BTreeMap<String, u64>,
    /// Waits with hedging.
    pub with: Option<Waits>,
    /// Waits without.
    pub without: Option<Waits>,
    /// Hedges that were made.
    pub made: Option<Worth>,
    /// Hedges that would have been made.
    pub observed: Option<Worth>,
    /// Both distributions.
    pub distribution: Option<Distribution>,
}

/// Whether a number was seen or is told from what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// It follows from what was seen.
    Estimated,
    /// It was seen.
    Measured,
}

impl Basis {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Estimated => "estimated",
            Self::Measured => "measured",
        }
    }
}

/// What callers waited, or would have, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// Which of the two.
    pub basis: Basis,
    /// The median.
    pub p50: Estimate,
    /// What 95 % do not exceed.
    pub p95: Estimate,
    /// What 99 % do not exceed.
    pub p99: Estimate,
}

/// A number with its interval of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end; `None` where nothing bounds it.
    pub high: Option<f64>,
}

/// What some hedges were worth, or would have been.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    /// Requests that had one.
    pub hedges: u64,
    /// Of those made how many were first.
    pub won: Option<u64>,
    /// The share that was, or would have been.
    pub win_rate: Option<Estimate>,
    /// Second tries beside the first ones.
    pub extra_requests: u64,
    /// Estimated tokens of the tries that lost.
    pub extra_tokens: Tokens,
    /// What these cost; absent where a price is not known.
    #[serde(with = "dollars")]
    pub extra_cost_usd: Option<PicoUsd>,
    /// Seconds that each hedge saved that was first.
    pub seconds_saved_per_win: Option<Estimate>,
    /// All of them together.
    pub seconds_saved: Option<Estimate>,
    /// What a second cost; absent where none was saved or a price is not known.
    pub usd_per_second_saved: Option<Estimate>,
}

/// Shares of requests that wait longer, point by point.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Distribution {
    /// Than so many seconds, rising.
    pub seconds: Vec<f64>,
    /// With hedging.
    pub with: Vec<f64>,
    /// Without.
    pub without: Vec<f64>,
}

impl Report {
    /// Of this version.
    pub fn new(routes: Vec<Route>, without_requests: Vec<String>) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { report: Subject::Hedging, version, routes, without_requests }
    }

    /// The JSON of the admin port and of files.
    pub fn to_json(&self) -> String {
        // Texts, numbers and lists: nothing that JSON has no word for.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Route {
    /// What its waits end with.
    pub const fn ends_with(&self) -> &'static str {
        if self.stream { "first token" } else { "whole answer" }
    }

    /// The hedges that were made or else those that would have been.
    pub fn worth(&self) -> Option<(Basis, &Worth)> {
        let made = self.made.as_ref().map(|made| (Basis::Measured, made));
        made.or_else(|| self.observed.as_ref().map(|observed| (Basis::Estimated, observed)))
    }
}

impl Waits {
    /// The percentiles by their names.
    pub const fn percentiles(&self) -> [(&'static str, Estimate); 3] {
        [("p50", self.p50), ("p95", self.p95), ("p99", self.p99)]
    }
}

impl Worth {
    /// What a second cost that was saved: the dearest where the fewest were.
    pub fn price_of_second(cost: Option<PicoUsd>, saved: Option<Estimate>) -> Option<Estimate> {
        let (usd, saved) = (cost?.as_usd(), saved?);
        let per = |seconds: f64| Some(usd / seconds).filter(|_| seconds > 0.0);
        let low = saved.high.and_then(per).unwrap_or_default();
        Some(Estimate { value: per(saved.value)?, low, high: per(saved.low) })
    }
}

/// Nobody reads more than five digits, and a report of many routes is long enough.
pub fn rounded(number: f64) -> f64 {
    format!("{number:.4e}").parse().unwrap_or(number)
}

/// Dollars as an exact decimal.
mod dollars {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::value::RawValue;

    use crate::lexicon::PicoUsd;

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        cost: &Option<PicoUsd>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let raw = cost.map(|cost| RawValue::from_string(cost.to_string())).transpose();
        raw.map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        deserializer: D,
    ) -> Result<Option<PicoUsd>, D::Error> {
        let usd = Option::<f64>::deserialize(deserializer)?;
        let is_money = |usd| PicoUsd::from_usd(usd).ok_or_else(|| D::Error::custom("no amount"));
        usd.map(is_money).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = fixture::report();
        let json = report.to_json();
        assert!(json.contains(r#""extra_cost_usd":0.0312,"#), "{json}");
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn a_second_is_dearest_where_the_fewest_were_saved() {
        let usd = PicoUsd::from_usd(6.0);
        let saved = |low, high| Some(Estimate { value: 2.0, low, high });
        let check = |cost, saved, want: Option<(f64, f64, Option<f64>)>| {
            let want = want.map(|(value, low, high)| Estimate { value, low, high });
            assert_eq!(Worth::price_of_second(cost, saved), want);
        };
        check(usd, saved(1.0, Some(3.0)), Some((3.0, 2.0, Some(6.0))));
        check(usd, saved(0.0, None), Some((3.0, 0.0, None)));
        check(None, saved(1.0, None), None);
        check(usd, None, None);
        check(usd, Some(Estimate { value: 0.0, low: 0.0, high: None }), None);
    }
}
