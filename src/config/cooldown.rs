//! `pillion.cooldown`, and which rule of cooldown a file asks for.
//!
//! A file that sets a field of LiteLLM's rule keeps that rule, so that it means the same to both;
//! `rule` overrides it. A wrong value refuses the file.

use std::time::Duration;

use super::cursor::Cursor;
use super::fields;
use super::known::Section;
use super::known::Standing::Acted;
use super::problem::Scope;
use crate::routing::cooldown::{Rule, breaker};

static COOLDOWN: Section = Section(&[
    ("base", Acted),
    ("credentials", Acted),
    ("failures", Acted),
    ("jitter", Acted),
    ("max", Acted),
    ("probes", Acted),
    ("ramp", Acted),
    ("rule", Acted),
    ("window", Acted),
]);

/// The fields of LiteLLM's rule.
const ROUTER: [&str; 4] =
    ["allowed_fails", "allowed_fails_policy", "cooldown_time", "disable_cooldowns"];
const LITELLM: [&str; 2] = ["allowed_fails", "cooldown_time"];

/// Nothing may last longer; as long as a wish of a provider counts.
const HOUR: Duration = Duration::from_secs(3600);

/// The rule for all groups; `None` where each group decides.
pub(super) fn rule(field: &Cursor<'_>, router: &Cursor<'_>, litellm: &Cursor<'_>) -> Option<Rule> {
    fields::check(field, &COOLDOWN);
    let word = field.get("rule");
    match word.text().as_deref() {
        None => {
            let asks = first(router, &ROUTER).or_else(|| first(litellm, &LITELLM))?;
            if field.value.as_object().is_some_and(|own| !own.is_empty()) {
                let what = format!("`{}` asks for LiteLLM's rule of cooldown", asks.path);
                let hint = "set `pillion.cooldown.rule: pillion`, or leave that field out";
                field.with_scope(Scope::Field).warn(what, Some(hint.to_owned()));
            }
            Some(Rule::LiteLlm)
        }
        Some("litellm") => Some(Rule::LiteLlm),
        Some("none") => Some(Rule::None),
        Some("pillion") => Some(Rule::Pillion),
        Some(_) => word.expected("pillion, litellm or none", word.value),
    }
}

fn first<'a>(section: &Cursor<'a>, names: &[&str]) -> Option<Cursor<'a>> {
    names.iter().map(|name| section.get(name)).find(|field| !field.is_absent())
}

/// The numbers of Pillion's rule.
pub(super) fn breaker(field: &Cursor<'_>) -> breaker::Settings {
    let usual = breaker::Settings::default();
    let some = |name: &str| count(&field.get(name));
    let time = |name: &str| lasting(&field.get(name));
    let base = time("base").unwrap_or(usual.base);
    let max = time("max").unwrap_or(usual.max.max(base));
    if max < base {
        field.get("max").error("the longest back-off is shorter than `base`", None);
    }
    breaker::Settings {
        failures: some("failures").unwrap_or(usual.failures),
        window: time("window").unwrap_or(usual.window),
        base,
        max,
        jitter: share(&field.get("jitter")).unwrap_or(usual.jitter),
        probes: some("probes").unwrap_or(usual.probes),
        probes_at_once: usual.probes_at_once,
        ramp: bounded(&field.get("ramp")).unwrap_or(usual.ramp),
        credentials: time("credentials").unwrap_or(usual.credentials),
    }
}

fn count(field: &Cursor<'_>) -> Option<u32> {
    let count = field.count()?;
    if count == 0 { field.expected("at least 1", field.value) } else { Some(count) }
}

fn bounded(field: &Cursor<'_>) -> Option<Duration> {
    let time = field.duration()?;
    if time > HOUR { field.expected("an hour at most", field.value) } else { Some(time) }
}

fn lasting(field: &Cursor<'_>) -> Option<Duration> {
    let time = bounded(field)?;
    if time.is_zero() { field.expected("more than zero", field.value) } else { Some(time) }
}

fn share(field: &Cursor<'_>) -> Option<f64> {
    let share = field.number()?;
    if (0.0..1.0).contains(&share) {
        Some(share)
    } else {
        field.expected("a share from 0 up to, but not including, 1", field.value)
    }
}
