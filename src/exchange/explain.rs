//! What would become of a request for a model, as JSON and as a table: who would be asked, with
//! which chance, and why the others would not.
//!
//! The decisions are those of [`routing::explain`](explain); here they get names and words.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::live::Live;
use super::race::resolve;
use crate::routing::explain::{Considered, Dropped, explain};
use crate::routing::hedge::{self, After};
use crate::routing::latency::{Bounds, Effect, Estimate, Forecast, REFERENCE_TOKENS};
use crate::routing::limit::Limit;
use crate::routing::strategy::Scene;
use crate::routing::strategy::adaptive::Score;
use crate::routing::{Effort, Group, Kind, Outlook, Shape, View as _};

impl Live {
    /// What would become of a request for `model` with these tags at `now`; `None` where there is
    /// no such model.
    pub fn explain(&self, model: &str, tags: &[Box<str>], now: Instant) -> Option<Value> {
        let target = resolve(self, model)?;
        let group = self.routes.group(target.group)?;
        let shape = Shape { stream: true, length: REFERENCE_TOKENS, ..Shape::default() };
        let scene = Scene { view: &self.rows, shape, now, entropy: 0 };
        let considered = explain(&self.routes, group, tags, &scene);
        let told = considered.iter().map(|one| self.candidate(group, one, now));
        let hedges = self.hedges.get(group.at);
        let left = hedges.map(|hedges| hedges.budget.left());
        let effect = hedges.and_then(|hedges| hedges.effect());
        let fallbacks = group.fallbacks.iter().map(|fallback| &*fallback.model);
        Some(json!({
            "model": model,
            "model_group": &*group.name,
            "tags": tags,
            "strategy": group.strategy.name(),
            "reference_tokens": REFERENCE_TOKENS,
            "candidates": told.collect::<Vec<_>>(),
            "hedge": hedge(&group.hedge, left),
            "hedge_effect": effect.as_ref().map(worth),
            "fallbacks": fallbacks.collect::<Vec<_>>(),
        }))
    }

    fn candidate(&self, group: &Group, one: &Considered<'_>, now: Instant) -> Value {
        let at = one.member.deployment;
        let deployment = self.deployment(at);
        let forecasts = Kind::all().filter_map(|kind| {
            let forecast = self.rows.forecast(at, kind)?;
            let settings = self.routes.settings();
            let longest = settings.timeout_of(one.member, kind.stream, (None, None));
            let pace = self.rows.get(at).and_then(|row| row.pace(kind));
            Some(told(&forecast, pace, kind, &group.hedge, longest))
        });
        json!({
            "deployment": deployment.map_or("", |it| &*it.id),
            "provider": deployment.map_or("", |it| it.vendor.prefix),
            "kept": one.dropped.is_none(),
            "dropped": one.dropped.map(|why| dropped(why, one, now)),
            "forced": one.forced.map(|until| dropped(Dropped::Cooling(until), one, now)),
            "chance": rounded(one.chance),
            "in_flight": self.rows.vitals(at).in_flight,
            "score": one.score.as_ref().map(score),
            "outlook": outlook(&self.rows.outlook(at)),
            "forecasts": forecasts.collect::<Vec<_>>(),
        })
    }
}

fn dropped(why: Dropped, one: &Considered<'_>, now: Instant) -> Value {
    let left = |until: Instant| rounded(until.saturating_duration_since(now).as_secs_f64());
    match why {
        Dropped::Busy => json!({
            "reason": "busy",
            "max_parallel_requests": one.member.max_parallel_requests,
        }),
        Dropped::Cooling(until) => json!({"reason": "cooling", "seconds": left(until)}),
        Dropped::Limited(exceeded) => {
            let limit = match exceeded.limit {
                Limit::DeploymentBudget => "max_budget",
                Limit::ProviderBudget => "provider_budget",
                Limit::Requests => "rpm",
                Limit::Tokens => "tpm",
            };
            json!({"reason": "limited", "limit": limit, "seconds": left(exceeded.until)})
        }
        Dropped::Order => json!({"reason": "order", "order": one.member.order}),
        Dropped::Tags => json!({"reason": "tags", "tags": one.member.tags}),
    }
}

fn score(score: &Score) -> Value {
    json!({
        "expected_seconds": rounded(score.expected),
        "load": rounded(score.load),
        "fleet": rounded(score.fleet),
        "quota": rounded(score.quota),
        "ramp": rounded(score.ramp),
        "affinity": rounded(score.affinity),
        "total": rounded(score.total),
    })
}

fn outlook(outlook: &Outlook) -> Value {
    json!({
        "samples": rounded(outlook.samples.into()),
        "latency_seconds": rounded(outlook.latency.into()),
        "failure_share": rounded(outlook.failure_share.into()),
        "failure_cost_seconds": rounded(outlook.failure_cost.into()),
        "quota_left": rounded(outlook.quota_left.into()),
        "age_seconds": outlook.age.map(|age| rounded(age.into())),
    })
}

fn told(
    forecast: &Forecast,
    pace: Option<Duration>,
    kind: Kind,
    hedge: &hedge::Settings,
    longest: Duration,
) -> Value {
    let enough = forecast.samples() >= f64::from(hedge.min_samples);
    let late = match hedge.after {
        After::Delay(delay) => Some(delay),
        After::Percentile(part) => {
            enough.then(|| forecast.threshold(REFERENCE_TOKENS, part, Bounds::up_to(longest / 2)))
        }
    };
    let effort = match kind.effort {
        Effort::High => "high",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::Unset => "unset",
    };
    json!({
        "stream": kind.stream,
        "effort": effort,
        "samples": rounded(forecast.samples()),
        "expected_seconds": rounded(forecast.expected(REFERENCE_TOKENS).as_secs_f64()),
        "seconds_per_token": pace.map(|pace| rounded(pace.as_secs_f64())),
        "hedge_after_seconds": late.map(|late| rounded(late.as_secs_f64())),
    })
}

fn hedge(settings: &hedge::Settings, left: Option<f64>) -> Value {
    let (percentile, delay) = match settings.after {
        After::Delay(delay) => (None, Some(delay.as_secs_f64())),
        After::Percentile(part) => (Some(part), None),
    };
    json!({
        "mode": settings.mode.as_str(),
        "percentile": percentile,
        "delay_seconds": delay,
        "budget": settings.budget,
        "budget_left": left.map(rounded),
        "max_prompt_tokens": settings.max_prompt_tokens,
        "max_copies": settings.max_copies,
        "min_samples": settings.min_samples,
        "across": settings.across.as_str(),
        "holdout": settings.holdout,
        "stream_upstream": settings.stream_upstream,
    })
}

/// What hedging was worth since the sidecar began: waits in seconds, each with its interval of 95 %.
fn worth(effect: &Effect) -> Value {
    let told = |estimate: &Estimate| {
        let high = Some(estimate.high).filter(|high| high.is_finite()).map(rounded);
        json!({ "value": rounded(estimate.value), "low": rounded(estimate.low), "high": high })
    };
    let waits = |[p50, p95, p99]: &[Estimate; 3]| json!({ "p50": told(p50), "p95": told(p95), "p99": told(p99) });
    json!({
        "requests": rounded(effect.requests),
        "hedges_won": rounded(effect.wins),
        "seconds_with": waits(&effect.with.percentiles),
        "seconds_without": waits(&effect.without.percentiles),
        "seconds_saved_per_win": effect.saved.as_ref().map(told),
    })
}

/// Nobody reads more than four digits behind the point.
fn rounded(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

/// What [`Live::explain`] says, for people.
pub fn as_table(explained: &Value) -> String {
    let [model, group, strategy] = ["model", "model_group", "strategy"].map(|it| &explained[it]);
    let mut rows = vec![["DEPLOYMENT", "PROVIDER", "CHANCE", "SCORE", "WHY"].map(str::to_owned)];
    rows.extend(explained["candidates"].as_array().into_iter().flatten().map(row));
    let hedge = &explained["hedge"];
    let after = hedge["percentile"].as_f64().map_or_else(
        || format!("{} s", hedge["delay_seconds"]),
        |part| format!("p{}", rounded(part * 100.0)),
    );
    let fallbacks: Vec<_> =
        explained["fallbacks"].as_array().into_iter().flatten().map(text).collect();
    let others = if fallbacks.is_empty() { "nobody".to_owned() } else { fallbacks.join(", ") };
    format!(
        "{}: model group {}, strategy {}\n\n{}\n\
         hedges: {}, after {after}, at most {} per request\n\
         when all fail: {others}\n",
        text(model),
        text(group),
        text(strategy),
        aligned(&rows),
        text(&hedge["mode"]),
        hedge["max_copies"],
    )
}

/// One line of the table.
fn row(candidate: &Value) -> [String; 5] {
    let chance = candidate["chance"].as_f64().unwrap_or_default() * 100.0;
    let score = candidate.pointer("/score/total").and_then(Value::as_f64);
    [
        text(&candidate["deployment"]),
        text(&candidate["provider"]),
        format!("{chance:.1} %"),
        score.map_or_else(|| "-".to_owned(), |score| format!("{score:.3}")),
        why(candidate),
    ]
}

fn aligned(rows: &[[String; 5]]) -> String {
    let mut widths = [0; 5];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut table = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    table
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn why(candidate: &Value) -> String {
    if !candidate["forced"].is_null() {
        let until = reason(&candidate["forced"]).unwrap_or_default();
        return format!("asked all the same, nobody else is left ({until})");
    }
    reason(&candidate["dropped"]).unwrap_or_else(|| "may be asked".to_owned())
}

/// A reason with what there is to say of it.
fn reason(why: &Value) -> Option<String> {
    let fields = why.as_object()?;
    let reason = why["reason"].as_str().unwrap_or_default();
    let more = fields.iter().filter(|(name, value)| *name != "reason" && !value.is_null());
    let more: Vec<_> = more.map(|(name, value)| format!("{name} {value}")).collect();
    Some(if more.is_empty() { reason.to_owned() } else { format!("{reason}: {}", more.join(", ")) })
}
