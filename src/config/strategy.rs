//! `routing_strategy`, `routing_strategy_args` and `optional_pre_call_checks`; and
//! `pillion.routing`, which says what LiteLLM has no word for.

use std::collections::{BTreeMap, BTreeSet};

use super::cursor::Cursor;
use super::fields;
use super::known::{self, Section, Standing, nearest};
use super::problem::Scope;
use crate::routing::strategy::lowest_latency::MOST_SAMPLES;
use crate::routing::strategy::{LowestLatency, Usage};
use crate::routing::{Member, Rates, Strategy};

static ROUTING: Section = Section(&[("strategy", Standing::Acted)]);

/// The strategy of all groups, and of those that have another one.
///
/// Without a name in either place a group is `adaptive`, unless somebody in it has a weight or a
/// rate: these ask for shares, as LiteLLM gives them.
pub(super) fn choose(
    router: &Cursor<'_>,
    pillion: &Cursor<'_>,
    entries: &[(Box<str>, Box<str>, Member)],
) -> (Strategy, BTreeMap<Box<str>, Strategy>) {
    let section = pillion.get("routing");
    fields::check(&section, &ROUTING);
    let (own, named) = (section.get("strategy"), router.get("routing_strategy"));
    let args = router.get("routing_strategy_args");
    if !own.is_absent() {
        let name = own.text();
        let is_ours = name.as_deref() == Some(Strategy::Adaptive.name());
        let strategy = if is_ours { Strategy::Adaptive } else { read(&own, &args) };
        return (strategy, BTreeMap::new());
    }
    if !named.is_absent() {
        return (read(&named, &args), BTreeMap::new());
    }
    let asks = |it: &Member| it.weight.is_some() || it.rpm.is_some() || it.tpm.is_some();
    let shared: BTreeSet<_> =
        entries.iter().filter(|(.., it)| asks(it)).map(|(name, ..)| name).collect();
    let others = entries.iter().filter(|(name, ..)| !shared.contains(name));
    let groups = others.map(|(name, ..)| (name.clone(), Strategy::Adaptive)).collect();
    (read(&named, &args), groups)
}

/// Reads one of LiteLLM's strategies with its arguments.
fn read(field: &Cursor<'_>, args: &Cursor<'_>) -> Strategy {
    let usual = Strategy::default();
    let name = field.text().unwrap_or_else(|| usual.name().into());
    let (strategy, own): (_, &[&str]) = match &*name {
        "cost-based-routing" => (Strategy::Cost, &[]),
        "latency-based-routing" => (Strategy::LowestLatency(latency(args)), &LATENCY_ARGS),
        "lar1" => {
            field.warn("`lar1` is not acted on by Pillion yet: simple-shuffle is used", None);
            return usual;
        }
        "least-busy" => (Strategy::LeastBusy, &[]),
        // Budgets hold under every strategy; LiteLLM shuffles here too.
        "provider-budget-routing" | "simple-shuffle" => (Strategy::SimpleShuffle, &[]),
        "usage-based-routing" => (Strategy::Usage(usage(args)), &USAGE_ARGS),
        "usage-based-routing-v2" => (Strategy::UsageV2(usage(args)), &USAGE_ARGS),
        _ => {
            unknown(field, &name);
            return usual;
        }
    };
    fields::check(args, &known::STRATEGY_ARGS);
    let given = args.value.as_object().into_iter().flat_map(|map| map.keys());
    for arg in given.filter(|arg| !own.contains(&arg.as_str())) {
        if known::STRATEGY_ARGS.standing(arg).is_some() {
            let what = format!("`{name}` does not read `{arg}`");
            args.get(arg).with_scope(Scope::Field).warn(what, None);
        }
    }
    strategy
}

const LATENCY_ARGS: [&str; 4] =
    ["lowest_latency_buffer", "max_latency_list_size", "ttft_percentile", "ttl"];
const USAGE_ARGS: [&str; 1] = ["ttl"];

fn unknown(field: &Cursor<'_>, name: &str) {
    if name == Strategy::Adaptive.name() {
        let hint = "LiteLLM does not know it: say `pillion: {routing: {strategy: adaptive}}`";
        return field.error("`adaptive` is Pillion's own strategy", Some(hint.to_owned()));
    }
    // Where ours may stand it may also be meant.
    let own = field.path.starts_with("pillion").then(|| Strategy::Adaptive.name());
    let known: Vec<_> = own.into_iter().chain(known::STRATEGIES.iter().copied()).collect();
    let all = known.join(", ");
    let hint = nearest(name, known.into_iter()).map_or_else(
        || format!("one of {all}"),
        |near| format!("did you mean `{near}`? All: {all}"),
    );
    field.error(format!("no routing strategy is called `{name}`"), Some(hint));
}

fn latency(args: &Cursor<'_>) -> LowestLatency {
    let usual = LowestLatency::default();
    LowestLatency {
        ttl: lifetime(args).unwrap_or(usual.ttl),
        lowest_latency_buffer: (args.get("lowest_latency_buffer").amount())
            .unwrap_or(usual.lowest_latency_buffer),
        max_latency_list_size: list_size(&args.get("max_latency_list_size"))
            .unwrap_or(usual.max_latency_list_size),
        ttft_percentile: percentile(&args.get("ttft_percentile")),
    }
}

fn usage(args: &Cursor<'_>) -> Usage {
    lifetime(args).map_or_else(Usage::default, |ttl| Usage { ttl })
}

fn lifetime(args: &Cursor<'_>) -> Option<std::time::Duration> {
    let field = args.get("ttl");
    let ttl = field.seconds()?;
    if ttl.is_zero() { field.expected("more than zero seconds", field.value) } else { Some(ttl) }
}

fn list_size(field: &Cursor<'_>) -> Option<usize> {
    let size = field.count()? as usize;
    if size == 0 {
        return field.expected("a list of at least 1", field.value);
    }
    if size > MOST_SAMPLES {
        field.warn(format!("no more than {MOST_SAMPLES} samples are kept"), None);
    }
    Some(size.min(MOST_SAMPLES))
}

fn percentile(field: &Cursor<'_>) -> Option<f64> {
    let share = field.number()?;
    if share > 0.0 && share <= 1.0 {
        Some(share)
    } else {
        field.expected("a share above 0 and up to 1, such as 0.5", field.value)
    }
}

/// What `optional_pre_call_checks` make of `rpm` and `tpm`; tells about the other checks.
pub(super) fn rates(router: &Cursor<'_>) -> Rates {
    let mut rates = Rates::Shares;
    for check in router.get("optional_pre_call_checks").items() {
        let Some(name) = check.text() else { continue };
        let check = check.with_scope(Scope::Field);
        match known::PRE_CALL_CHECKS.standing(&name) {
            Some(Standing::Acted | Standing::Body) => {
                if &*name == "enforce_model_rate_limits" {
                    rates = Rates::Limits;
                }
            }
            Some(standing) => fields::known_but(&name, &check, standing),
            None => match known::PRE_CALL_CHECKS.nearest(&name) {
                Some(near) => check.error(
                    format!("nobody knows `{name}`"),
                    Some(format!("did you mean `{near}`?")),
                ),
                None => check.warn(format!("nobody knows `{name}`; LiteLLM ignores it too"), None),
            },
        }
    }
    rates
}
