//! `pillion.hedge` and `pillion.groups`: when a second try is made for one that is late.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cursor::Cursor;
use super::fields;
use super::known::{Section, Standing::Acted};
use super::router::hint_for;
use crate::routing::hedge::{Across, After, Mode, Settings};

static HEDGE: Section = Section(&[
    ("across", Acted),
    ("budget", Acted),
    ("delay", Acted),
    ("holdout", Acted),
    ("max_copies", Acted),
    ("max_prompt_tokens", Acted),
    ("min_samples", Acted),
    ("mode", Acted),
    ("percentile", Acted),
    ("stream_upstream", Acted),
]);

static GROUP: Section = Section(&[("hedge", Acted), ("streams", Acted)]);

/// `pillion.hedge`.
pub(super) fn read(pillion: &Cursor<'_>) -> Settings {
    over(&pillion.get("hedge"), &Settings::default())
}

/// `pillion.groups`, by the name of the group; `groups` are those there are.
pub(super) fn of_groups(
    pillion: &Cursor<'_>,
    usual: &Settings,
    groups: &[Box<str>],
) -> BTreeMap<Box<str>, Settings> {
    let mut settings = BTreeMap::new();
    for (name, field) in pillion.get("groups").fields() {
        fields::check(&field, &GROUP);
        if !groups.iter().any(|group| &**group == name) {
            field.warn(format!("no model group is called `{name}`"), hint_for(name, groups));
        }
        settings.insert(name.into(), over(&field.get("hedge"), usual));
    }
    settings
}

/// What a section says, with what it leaves out from `usual`.
fn over(field: &Cursor<'_>, usual: &Settings) -> Settings {
    fields::check(field, &HEDGE);
    let share = |name: &str| portion(&field.get(name));
    let count = |name: &str| field.get(name).count();
    Settings {
        mode: field.get("mode").word(Mode::NAMES, Mode::named).unwrap_or(usual.mode),
        after: after(field).unwrap_or(usual.after),
        budget: share("budget").unwrap_or(usual.budget),
        max_prompt_tokens: count("max_prompt_tokens").unwrap_or(usual.max_prompt_tokens),
        max_copies: copies(&field.get("max_copies")).unwrap_or(usual.max_copies),
        min_samples: count("min_samples").unwrap_or(usual.min_samples),
        across: across(&field.get("across")).unwrap_or(usual.across),
        holdout: share("holdout").unwrap_or(usual.holdout),
        stream_upstream: field.get("stream_upstream").flag().unwrap_or(usual.stream_upstream),
    }
}

/// `percentile` as 95, 0.95 or `p95`, or `delay`; both would contradict each other.
fn after(field: &Cursor<'_>) -> Option<After> {
    let (percentile, delay) = (field.get("percentile"), field.get("delay"));
    if !percentile.is_absent() && !delay.is_absent() {
        let what = "a try is late after a `percentile` or after a `delay`, not after both";
        delay.error(what, Some("remove one of them".to_owned()));
        return None;
    }
    if !delay.is_absent() {
        return delay.duration().map(After::Delay);
    }
    if percentile.is_absent() {
        return None;
    }
    let text = match percentile.value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim_start_matches(['p', 'P']).to_owned(),
        Value::Array(_) | Value::Bool(_) | Value::Null | Value::Object(_) => String::new(),
    };
    let number = text.parse::<f64>().ok().map(|it| if it > 1.0 { it / 100.0 } else { it });
    match number.filter(|part| (0.5..=0.999).contains(part)) {
        Some(part) => Some(After::Percentile(part)),
        None => percentile.expected("a percentile from p50 to p99.9", percentile.value),
    }
}

pub(super) fn portion(field: &Cursor<'_>) -> Option<f64> {
    let share = field.amount()?;
    if share <= 1.0 { Some(share) } else { field.expected("a share from 0 to 1", field.value) }
}

/// More than one copy at a time brings next to nothing (§1.5 of the routing study), so nobody can
/// ask for a storm.
fn copies(field: &Cursor<'_>) -> Option<u32> {
    let copies = field.count()?;
    if copies <= 2 { Some(copies) } else { field.expected("0, 1 or 2", field.value) }
}

fn across(field: &Cursor<'_>) -> Option<Across> {
    field.word("one of deployment, provider, region", Across::named)
}
