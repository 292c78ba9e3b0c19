//! The headers of an answer: the provider's own, `LiteLLM`'s, and the route in one line.

use std::fmt::Write as _;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::live::{Live, value};
use crate::account::Ledger;
use crate::lexicon::{Class, PicoUsd};
use crate::provider::Deployment;

/// What an answer's headers tell about the way it came.
#[derive(Debug, Default)]
pub(super) struct Path {
    /// Ids and failures of the tries before the last one.
    pub failed: Vec<(Box<str>, Class)>,
    /// Whether it was the first of several models.
    pub fastest: bool,
}

/// How many headers are ours, with the content type and what hyper adds.
pub(super) const OURS: usize = 16;

// Made once: the name of a header is checked and hashed whenever it comes as a text.
const CALL_ID: HeaderName = HeaderName::from_static("x-litellm-call-id");
const RETRIES: HeaderName = HeaderName::from_static("x-litellm-attempted-retries");
const FALLBACKS: HeaderName = HeaderName::from_static("x-litellm-attempted-fallbacks");
const VERSION: HeaderName = HeaderName::from_static("x-litellm-version");
const MODEL_GROUP: HeaderName = HeaderName::from_static("x-litellm-model-group");
const MODEL_ID: HeaderName = HeaderName::from_static("x-litellm-model-id");
const API_BASE: HeaderName = HeaderName::from_static("x-litellm-model-api-base");
const MODEL_NAME: HeaderName = HeaderName::from_static("x-litellm-model-name");
const FASTEST: HeaderName = HeaderName::from_static("x-litellm-fastest_response_batch_completion");
const ROUTE: HeaderName = HeaderName::from_static("x-pillion-route");
const COST: HeaderName = HeaderName::from_static("x-litellm-response-cost");
const DURATION: HeaderName = HeaderName::from_static("x-litellm-response-duration-ms");
const OVERHEAD: HeaderName = HeaderName::from_static("x-litellm-overhead-duration-ms");

/// Copies what a client may see of the provider's headers into `to`: as they came, and as
/// `LiteLLM` names them.
pub(super) fn copy_providers(from: &HeaderMap, to: &mut HeaderMap) {
    let mut prefixed = String::from(PREFIX);
    for (name, value) in from {
        if is_kept_back(name) {
            continue;
        }
        prefixed.truncate(PREFIX.len());
        prefixed.push_str(name.as_str());
        if let Ok(prefixed) = HeaderName::from_bytes(prefixed.as_bytes()) {
            to.append(prefixed, value.clone());
        }
        to.append(name.clone(), value.clone());
    }
}

/// What `LiteLLM` puts before the names of the provider's headers.
const PREFIX: &str = "llm_provider-";

/// Headers of the connection, of the body that Pillion writes anew, of the browser's world, and
/// those that only mean something between a provider and its own clients.
fn is_kept_back(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "alt-svc"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-type"
            | "cache-control"
            | "date"
            | "keep-alive"
            | "nel"
            | "proxy-authenticate"
            | "report-to"
            | "server"
            | "set-cookie"
            | "strict-transport-security"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "vary"
            | "via"
            | "x-accel-buffering"
            | "x-pillion-route"
    ) || name.as_str().starts_with("access-control-")
        || name.as_str().starts_with("x-litellm-")
}

/// Adds `x-litellm-*` and `x-pillion-route`.
pub(super) fn add_ours(to: &mut HeaderMap, live: &Live, ledger: &Ledger, path: &Path) {
    let record = &*ledger.record;
    to.insert(CALL_ID, value(&record.id));
    to.insert(RETRIES, small(record.retries));
    to.insert(FALLBACKS, small(record.fallbacks));
    to.insert(VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    if let Some(group) = &record.group {
        to.insert(MODEL_GROUP, value(group));
    }
    if path.fastest {
        to.insert(FASTEST, HeaderValue::from_static("True"));
    }
    let Some(at) = record.deployment else { return };
    if let Some(badge) = live.badge(at) {
        to.insert(MODEL_ID, badge.model_id.clone());
        to.insert(API_BASE, badge.api_base.clone());
        let name = live.deployment(at).filter(|deployment| deployment.name.contains('*'));
        let name = name.and_then(|deployment| {
            let model = record.upstream_model.as_deref()?;
            Some(value(&format!("{}/{model}", deployment.vendor.prefix)))
        });
        to.insert(MODEL_NAME, name.unwrap_or_else(|| badge.model_name.clone()));
        let route = if record.tries == 1 && path.failed.is_empty() && record.hedge.is_none() {
            badge.route.clone()
        } else {
            live.deployment(at).map_or(badge.route.clone(), |deployment| {
                let strategy = live.member(at).map_or("", |(group, _)| group.strategy.name());
                let mut route = route_line(deployment, strategy, record.tries, &path.failed);
                if let Some(hedge) = record.hedge {
                    let _ = write!(route, " hedge={hedge}");
                }
                value(&route)
            })
        };
        to.insert(ROUTE, route);
    }
}

/// A count, which is nearly always zero.
fn small(count: u32) -> HeaderValue {
    if count == 0 { HeaderValue::from_static("0") } else { HeaderValue::from(count) }
}

/// The way to an answer in one line.
pub(super) fn route_line(
    deployment: &Deployment,
    strategy: &str,
    tries: u32,
    failed: &[(Box<str>, Class)],
) -> String {
    let mut line = format!(
        "deployment={} provider={} tries={tries} strategy={strategy}",
        deployment.id, deployment.vendor.prefix
    );
    for (at, (id, class)) in failed.iter().enumerate() {
        let _ = write!(line, "{}{id}:{}", if at == 0 { " failed=" } else { "," }, class.as_str());
    }
    line
}

/// Adds what is only known when the answer is whole.
pub(super) fn add_cost(to: &mut HeaderMap, cost: Option<PicoUsd>) {
    if let Some(cost) = cost {
        to.insert(COST, value(&cost.to_string()));
    }
}

/// Adds how long it took, and how much of that was spent here.
pub(super) fn add_times(to: &mut HeaderMap, ledger: &Ledger) {
    let took = super::since(ledger.opened());
    to.insert(DURATION, value(&super::milliseconds(took)));
    let ours = took.saturating_sub(ledger.record.upstream);
    to.insert(OVERHEAD, value(&super::milliseconds(ours)));
}

/// `content-type: application/json`.
pub(super) fn json(to: &mut HeaderMap) {
    to.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_headers_come_as_they_are_and_as_litellm_names_them() {
        let mut from = HeaderMap::new();
        let sent = [("x-request-id", "1"), ("set-cookie", "2"), ("retry-after", "3")];
        for (name, said) in sent.into_iter().chain([("x-request-id", "4")]) {
            from.append(HeaderName::from_static(name), HeaderValue::from_static(said));
        }
        let mut to = HeaderMap::new();
        copy_providers(&from, &mut to);
        let mut shown: Vec<_> =
            to.iter().map(|(name, said)| format!("{name}: {}", said.to_str().unwrap())).collect();
        shown.sort_unstable();
        assert_eq!(
            shown,
            [
                "llm_provider-retry-after: 3",
                "llm_provider-x-request-id: 1",
                "llm_provider-x-request-id: 4",
                "retry-after: 3",
                "x-request-id: 1",
                "x-request-id: 4",
            ]
        );
    }
}
