//! Budgets of providers and of deployments.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cursor::Cursor;
use super::fields;
use super::known;
use super::problem::Scope;
use crate::lexicon::PicoUsd;
use crate::provider::catalog;
use crate::routing::Budget;

/// `provider_budget_config`, by the prefix of the provider.
pub(super) fn of_providers(config: &Cursor<'_>) -> BTreeMap<Box<str>, Budget> {
    let mut budgets = BTreeMap::new();
    for (provider, field) in config.fields() {
        fields::check(&field, &known::PROVIDER_BUDGET);
        check_provider(provider, &field);
        let most = either(&field, "budget_limit", "max_budget");
        let period = either(&field, "time_period", "budget_duration");
        if let (Some(most), Some(period)) = (dollars(&most), window(&period)) {
            budgets.insert(provider.into(), Budget { most, period });
        } else if most.is_absent() || period.is_absent() {
            field.error("a budget needs a `budget_limit` and a `time_period`", None);
        }
    }
    budgets
}

/// `max_budget` and `budget_duration` of a deployment; one says nothing without the other.
pub(super) fn of_deployment(params: &Cursor<'_>) -> Option<Budget> {
    let (most, period) = (params.get("max_budget"), params.get("budget_duration"));
    if most.is_absent() != period.is_absent() {
        let (is, lacks) =
            if period.is_absent() { (&most, "budget_duration") } else { (&period, "max_budget") };
        let what = format!("this is no budget without a `{lacks}`");
        is.with_scope(Scope::Field).warn(what, None);
    }
    let (most, period) = (dollars(&most), window(&period));
    Some(Budget { most: most?, period: period? })
}

fn either<'a>(field: &Cursor<'a>, name: &str, other: &str) -> Cursor<'a> {
    Some(field.get(name)).filter(|it| !it.is_absent()).unwrap_or_else(|| field.get(other))
}

/// A budget of a provider that nobody calls so would hold nothing back.
fn check_provider(provider: &str, field: &Cursor<'_>) {
    if catalog::find(provider).is_some() || catalog::is_not_spoken(provider).is_some() {
        return;
    }
    let field = field.with_scope(Scope::Field);
    let what = format!("no provider is called `{provider}`");
    match catalog::nearest(provider) {
        Some(near) => field.error(what, Some(format!("did you mean `{near}`?"))),
        None => field.warn(what, None),
    }
}

fn dollars(field: &Cursor<'_>) -> Option<PicoUsd> {
    let usd = field.amount()?;
    let wanted = "dollars, 18 million at most";
    PicoUsd::from_usd(usd).or_else(|| field.expected(wanted, field.value))
}

fn window(field: &Cursor<'_>) -> Option<Duration> {
    let period = field.duration()?;
    if period.is_zero() {
        return field.expected("a time such as `1d`", field.value);
    }
    Some(period)
}
