//! `router_settings`, what `litellm_settings` says where they are silent, and `pillion.cooldown`, to
//! [`routing::Settings`](Settings).
//!
//! As in LiteLLM: a number of `router_settings` wins, zero seconds count as unset, and 600 s
//! bound a try where nobody says anything. A wrong value refuses the file, since a gateway that
//! silently waits or retries by other numbers is worse than the last good configuration.

use std::time::Duration;

use serde_json::Value;

use super::cursor::Cursor;
use super::fallback::{self, Fallbacks};
use super::known::{FAILS, RETRIES, Section, nearest};
use super::{budget, cooldown, strategy};
use crate::lexicon::Substitute;
use crate::routing::{Policy, Settings};

/// Reads the settings of routing.
pub(super) fn settings(
    router: &Cursor<'_>,
    litellm: &Cursor<'_>,
    pillion: &Cursor<'_>,
) -> Settings {
    let either = |name: &str| Some(router.get(name)).filter(|it| !it.is_absent());
    let pick = |name: &str| either(name).unwrap_or_else(|| litellm.get(name));
    let usual = Settings::default();
    let request_timeout = positive(&litellm.get("request_timeout"));
    Settings {
        num_retries: pick("num_retries").count().unwrap_or(usual.num_retries),
        retry_policy: policy(&router.get("retry_policy"), &RETRIES, "Retries"),
        model_group_retry_policy: (router.get("model_group_retry_policy").fields().iter())
            .filter_map(|(group, it)| Some(((*group).into(), policy(it, &RETRIES, "Retries")?)))
            .collect(),
        retry_after: router.get("retry_after").seconds().unwrap_or(usual.retry_after),
        max_fallbacks: pick("max_fallbacks").count().unwrap_or(usual.max_fallbacks),
        fallbacks: fallbacks(router, litellm),
        context_window_fallbacks: listed("context_window_fallbacks", router, litellm),
        content_policy_fallbacks: listed("content_policy_fallbacks", router, litellm),
        aliases: aliases(&router.get("model_group_alias")),
        timeout: positive(&router.get("timeout")).or(request_timeout).unwrap_or(usual.timeout),
        stream_timeout: positive(&router.get("stream_timeout")).or(request_timeout),
        cooldown: cooldown::rule(&pillion.get("cooldown"), router, litellm),
        breaker: cooldown::breaker(&pillion.get("cooldown")),
        allowed_fails: pick("allowed_fails").count(),
        allowed_fails_policy: policy(&router.get("allowed_fails_policy"), &FAILS, "AllowedFails"),
        cooldown_time: pick("cooldown_time").seconds().unwrap_or(usual.cooldown_time),
        disable_cooldowns: router.get("disable_cooldowns").flag().unwrap_or(false),
        enable_tag_filtering: router.get("enable_tag_filtering").flag().unwrap_or(false),
        tag_filtering_match_any: router.get("tag_filtering_match_any").flag().unwrap_or(true),
        rates: strategy::rates(router),
        provider_budgets: budget::of_providers(&router.get("provider_budget_config")),
        // Said under `pillion`, or read where all groups are known.
        ..usual
    }
}

/// Seconds, where zero means unset.
pub(super) fn positive(seconds: &Cursor<'_>) -> Option<Duration> {
    seconds.seconds().filter(|time| !time.is_zero())
}

fn policy(field: &Cursor<'_>, table: &Section, suffix: &str) -> Option<Policy> {
    if field.is_absent() {
        return None;
    }
    super::fields::check(field, table);
    let of = |class: &str| field.get(&format!("{class}Error{suffix}")).count();
    Some(Policy {
        authentication: of("Authentication"),
        bad_request: of("BadRequest"),
        content_policy: of("ContentPolicyViolation"),
        internal_server: of("InternalServer"),
        bad_gateway: of("BadGateway"),
        not_found: of("NotFound"),
        rate_limit: of("RateLimit"),
        service_unavailable: of("ServiceUnavailable"),
        timeout: of("Timeout"),
        other: field.get(&format!("Default{suffix}")).count(),
    })
}

/// The setting of the router, else that of the library; an empty list counts as none.
fn listed(name: &str, router: &Cursor<'_>, litellm: &Cursor<'_>) -> Fallbacks {
    let own = fallback::read(&router.get(name));
    if own.is_empty() { fallback::read(&litellm.get(name)) } else { own }
}

fn fallbacks(router: &Cursor<'_>, litellm: &Cursor<'_>) -> Fallbacks {
    let mut all = listed("fallbacks", router, litellm);
    let own = fallback::substitutes(&router.get("default_fallbacks"));
    let usual =
        if own.is_empty() { fallback::substitutes(&litellm.get("default_fallbacks")) } else { own };
    if !usual.is_empty() {
        all.push(("*".into(), usual));
    }
    all
}

fn aliases(field: &Cursor<'_>) -> Vec<(Box<str>, Box<str>, bool)> {
    let mut aliases = Vec::new();
    for (alias, target) in field.fields() {
        let (group, hidden) = match target.value {
            Value::Object(_) => {
                let hidden = target.get("hidden").flag().unwrap_or(false);
                let group = target.get("model").full_text();
                if group.is_none() {
                    target.error("an alias needs a `model`", None);
                }
                (group, hidden)
            }
            Value::Array(list) => {
                target.warn("an alias stands for one group; the first of the list is used", None);
                (list.first().and_then(Value::as_str).map(Into::into), false)
            }
            _ => (target.full_text(), false),
        };
        if let Some(group) = group {
            aliases.push((alias.into(), group, hidden));
        }
    }
    aliases
}

/// Tells about fallbacks and aliases that name a group that is not there.
pub(super) fn check_names(settings: &Settings, groups: &[Box<str>], router: &Cursor<'_>) {
    let is_alias = |name: &str| settings.aliases.iter().any(|(alias, ..)| &**alias == name);
    let serves = |name: &str| is_alias(name) || groups.iter().any(|group| fits(group, name));
    for (alias, group, _) in &settings.aliases {
        if !serves(group) {
            let field = router.get("model_group_alias").get(alias);
            field.warn(format!("no model group is called `{group}`"), hint_for(group, groups));
        }
    }
    let lists = [
        ("fallbacks", &settings.fallbacks),
        ("context_window_fallbacks", &settings.context_window_fallbacks),
        ("content_policy_fallbacks", &settings.content_policy_fallbacks),
    ];
    for (name, list) in lists {
        let field = router.get(name);
        for (group, targets) in list {
            check_fallback(&field, (group, targets), groups, &serves);
        }
    }
}

fn check_fallback(
    field: &Cursor<'_>,
    (group, targets): (&str, &[Substitute]),
    groups: &[Box<str>],
    serves: &dyn Fn(&str) -> bool,
) {
    // LiteLLM finds the fallbacks of `openai/gpt-4` under `gpt-4` too, and the reverse.
    let bare = group.split_once('/').map_or(group, |(_, bare)| bare);
    let prefixed = groups.iter().any(|it| it.split_once('/').is_some_and(|(_, it)| it == bare));
    if group != "*" && !serves(group) && !serves(bare) && !prefixed {
        let what = format!("fallbacks for `{group}`, and no model group is called so");
        field.warn(what, hint_for(group, groups));
    }
    for target in targets.iter().filter(|target| !serves(&target.model)) {
        let what = format!("`{}` is a fallback, and no model group is called so", target.model);
        field.warn(what, hint_for(&target.model, groups));
    }
}

pub(super) fn hint_for(name: &str, groups: &[Box<str>]) -> Option<String> {
    nearest(name, groups.iter().map(|group| &**group)).map(|near| format!("did you mean `{near}`?"))
}

/// Whether a group serves a name; each `*` of a group stands for anything, and so does the end.
fn fits(group: &str, name: &str) -> bool {
    if !group.contains('*') {
        return group == name;
    }
    let mut parts = group.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    for part in parts {
        let Some((_, after)) = rest.split_once(part).or((part.is_empty()).then_some(("", rest)))
        else {
            return false;
        };
        rest = after;
    }
    true
}
