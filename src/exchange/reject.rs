//! Any failure before the first byte of an answer, said in the client's dialect.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::body::Body;
use super::head::{self, Path};
use super::live::{Limits, Live};
use super::queue::Waiting;
use crate::account::{End, Ledger, Shed};
use crate::admit::{Denied, Foreign};
use crate::endpoint::{BadCall, NoRoute};
use crate::lexicon::Class;
use crate::protocol::{Dialect, Fault, Garbled};
use crate::routing::{Budget, Exceeded, Limit, Member, RouteTable};

/// What is answered instead of an answer.
#[derive(Debug)]
pub(super) struct Rejection {
    status: u16,
    class: Class,
    say: Say,
    /// The provider's headers, where it was the provider who refused.
    headers: HeaderMap,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    shed: Option<Shed>,
    path: Path,
    /// Whether nobody is there to hear it.
    unheard: bool,
}

/// The words of a rejection.
#[derive(Debug)]
pub(super) enum Say {
    /// Ours.
    Ours {
        /// The sentence.
        message: String,
        /// The parameter it is about.
        param: Option<String>,
        /// The machine's word for it.
        code: Option<&'static str>,
        /// `OpenAI`'s `type`, where it is not the usual one of the status.
        kind: Option<&'static str>,
    },
    /// The provider's, in the client's own dialect already.
    Theirs(Bytes),
    /// The provider's, read out of a body in another dialect or none.
    Read(Fault),
}

impl Rejection {
    pub(super) fn new(status: u16, class: Class, say: Say) -> Self {
        Self {
            status,
            class,
            say,
            headers: HeaderMap::new(),
            retry_after: None,
            allow: None,
            shed: None,
            path: Path::default(),
            unheard: false,
        }
    }

    fn ours(status: u16, class: Class, message: impl Into<String>) -> Self {
        Self::new(
            status,
            class,
            Say::Ours { message: message.into(), param: None, code: None, kind: None },
        )
    }

    fn about(mut self, name: &str) -> Self {
        if let Say::Ours { param, .. } = &mut self.say {
            *param = Some(name.to_owned());
        }
        self
    }

    fn coded(mut self, word: &'static str) -> Self {
        if let Say::Ours { code, .. } = &mut self.say {
            *code = Some(word);
        }
        self
    }

    fn typed(mut self, word: &'static str) -> Self {
        if let Say::Ours { kind, .. } = &mut self.say {
            *kind = Some(word);
        }
        self
    }

    pub(super) fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    pub(super) fn with_path(mut self, path: Path) -> Self {
        self.path = path;
        self
    }

    /// The same where the client has left: its record says that.
    pub(super) fn for_nobody(self) -> Self {
        Self { unheard: true, ..self }
    }

    pub(super) fn denied(denied: Denied) -> Self {
        Self::ours(401, Class::Authentication, denied.to_string()).coded("invalid_api_key")
    }

    pub(super) fn foreign(foreign: &Foreign) -> Self {
        Self::ours(403, Class::PermissionDenied, foreign.to_string())
    }

    pub(super) fn no_route(no_route: NoRoute, path: &str) -> Self {
        match no_route {
            NoRoute::Method(wanted) => {
                let mut rejection = Self::ours(
                    405,
                    Class::BadRequest,
                    format!("{path} does not take this method; use {wanted}"),
                );
                rejection.allow = Some(wanted);
                rejection
            }
            NoRoute::Path => Self::ours(
                404,
                Class::NotFound,
                format!(
                    "there is nothing at {path}; this is an LLM gateway, try POST /v1/chat/completions or GET /v1/models"
                ),
            ),
        }
    }

    pub(super) fn no_model(name: &str, routes: &RouteTable, status: u16) -> Self {
        Self::ours(
            status,
            Class::NotFound,
            format!("there is no model `{name}` here; {}", there_are(routes)),
        )
        .about("model")
        .coded("model_not_found")
        .typed("invalid_request_error")
    }

    pub(super) fn bad_call(bad: &BadCall, routes: &RouteTable) -> Self {
        let mut message = bad.to_string();
        if *bad == BadCall::Missing("model") {
            message = format!("{message} In this gateway {}.", there_are(routes));
        }
        let rejection = Self::ours(400, Class::BadRequest, message);
        match bad.param() {
            Some(name) => rejection.about(name),
            None => rejection,
        }
    }

    pub(super) fn too_large(most: u64) -> Self {
        Self::ours(
            413,
            Class::BadRequest,
            format!(
                "the request body is longer than {most} bytes; raise general_settings.max_request_size_mb if that is too little"
            ),
        )
    }

    pub(super) fn long_head(most: usize) -> Self {
        Self::ours(
            431,
            Class::BadRequest,
            format!(
                "the request's head is longer than {most} bytes; raise pillion.limits.max_header_bytes if that is too little"
            ),
        )
    }

    pub(super) fn slow_body(patience: Duration) -> Self {
        Self::ours(
            408,
            Class::Timeout,
            format!("the request body did not arrive within {} s", patience.as_secs_f64()),
        )
    }

    pub(super) fn broken_body() -> Self {
        Self::ours(400, Class::BadRequest, "the request body broke off before its end")
    }

    pub(super) fn garbled(garbled: &Garbled) -> Self {
        Self::ours(502, Class::BadGateway, garbled.to_string())
    }

    pub(super) fn all_cooling(group: &str, wait: Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil();
        let mut rejection = Self::ours(
            429,
            Class::RateLimit,
            format!(
                "No deployments available for selected model, Try again in {seconds} seconds. All deployments of `{group}` are in cooldown after failures."
            ),
        )
        .typed("all_deployments_in_cooldown");
        rejection.retry_after = Some(wait);
        rejection
    }

    /// 429, as `LiteLLM` says it: the limit is one of that model group, others may have room.
    pub(super) fn all_busy(group: &str, waiting: &Waiting, limits: &Limits) -> Self {
        let (shed, what) = match waiting {
            Waiting::Not => (Shed::QueueFull, String::new()),
            Waiting::TurnedAway => {
                let most = limits.max_queued_requests;
                let what = format!(
                    ", and {most} requests wait already, as many as pillion.limits.max_queued_requests allows"
                );
                (Shed::QueueFull, what)
            }
            Waiting::In(_) | Waiting::Over => {
                let most = limits.queue_timeout.as_secs_f64();
                let what = format!(
                    ", and none came free in the time to wait (pillion.limits.queue_timeout: {most} s)"
                );
                (Shed::QueueTimeout, what)
            }
        };
        let why = format!(
            "every deployment of `{group}` has as many requests as its max_parallel_requests allows{what}; raise these, or add a deployment or a fallback"
        );
        Self::ours(429, Class::RateLimit, why).shed(shed)
    }

    /// 503: the limit is the sidecar's own, whatever is asked for.
    pub(super) fn too_many_calls(most: u32) -> Self {
        let why = format!(
            "the gateway serves {most} requests already, as many as pillion.limits.max_parallel_requests allows; try again soon, or raise it"
        );
        Self::ours(503, Class::ServiceUnavailable, why).shed(Shed::MaxParallelRequests)
    }

    pub(super) fn no_room(most: u64) -> Self {
        let why = format!(
            "the gateway has no memory left for this request: bodies take the {most} bytes that pillion.limits.max_buffered_bytes allows; try again soon, or raise it"
        );
        Self::ours(503, Class::ServiceUnavailable, why).shed(Shed::MaxBufferedBytes)
    }

    /// Turned away for want of room, which there may be soon.
    fn shed(self, why: Shed) -> Self {
        Self { retry_after: Some(SOON), shed: Some(why), ..self }
    }

    /// `exceeded` is the first of the limits that ends.
    pub(super) fn all_limited(group: &str, exceeded: &Exceeded, live: &Live, now: Instant) -> Self {
        let wait = exceeded.until.saturating_duration_since(now);
        let (which, ends) = match live.member(exceeded.of) {
            Some((_, member)) => limit(exceeded.limit, member, live),
            None => ("a limit".to_owned(), "it ends"),
        };
        let deployment = live.deployment(exceeded.of).map_or("", |deployment| &deployment.id);
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        let mut rejection = Self::ours(
            429,
            Class::RateLimit,
            format!(
                "No deployments available for `{group}`: each has used up a limit. Try again in {seconds} seconds, when {ends} of `{deployment}`: {which}."
            ),
        );
        rejection.retry_after = Some(wait);
        rejection
    }

    pub(super) fn no_tag_match(group: &str, tags: &[Box<str>]) -> Self {
        Self::ours(
            401,
            Class::PermissionDenied,
            format!(
                "Not allowed to access model due to tags configuration. Passed model={group} and tags={tags:?}"
            ),
        )
    }

    pub(super) fn too_many_models(most: usize) -> Self {
        let why = format!("`model` names more than {most} models; send several calls instead");
        Self::ours(400, Class::BadRequest, why).about("model")
    }

    pub(super) fn streams_of_several() -> Self {
        let why = "a stream of several models needs `fastest_response: true`: without it all answers come as one list";
        Self::ours(400, Class::BadRequest, why).about("stream")
    }

    /// The deadline was past before anybody could be asked.
    pub(super) fn out_of_time() -> Self {
        let why = "the time that all tries may take together was over before the first one; raise `pillion.timeouts.total` or `x-pillion-timeout-total`";
        Self::ours(408, Class::Timeout, why)
    }

    pub(super) fn nobody(group: &str) -> Self {
        Self::ours(
            429,
            Class::RateLimit,
            format!(
                "No deployments available for `{group}`: none is left that could serve this request"
            ),
        )
    }
}

/// When to come again where room depends on what other requests do.
const SOON: Duration = Duration::from_secs(1);

/// A limit in words, and how its end is called.
fn limit(limit: Limit, member: &Member, live: &Live) -> (String, &'static str) {
    let rate = |most: Option<f64>| most.unwrap_or_default();
    let budget = |budget: Option<Budget>| {
        budget.map_or_else(String::new, |budget| {
            format!("{} dollars in {} s", budget.most, budget.period.as_secs())
        })
    };
    let (rpm, tpm) = (rate(member.rpm), rate(member.tpm));
    let provider = live.deployment(member.deployment).map_or("", |it| it.vendor.prefix);
    match limit {
        Limit::DeploymentBudget => {
            (format!("its budget of {}", budget(member.budget)), "the budget begins anew")
        }
        Limit::ProviderBudget => (
            format!("the budget of its provider {provider}, {}", budget(member.provider_budget)),
            "the budget begins anew",
        ),
        Limit::Requests => (format!("its rpm of {rpm}"), "there is room in the limit"),
        Limit::Tokens => (format!("its tpm of {tpm}"), "there is room in the limit"),
    }
}

/// The models there are, in a sentence; a long list is cut.
fn there_are(routes: &RouteTable) -> String {
    const MOST: usize = 20;
    let names = routes.listed();
    if names.is_empty() {
        return "no model is configured".to_owned();
    }
    let more = names.len().saturating_sub(MOST);
    let shown = names.into_iter().take(MOST).collect::<Vec<_>>().join(", ");
    if more == 0 {
        format!("there are: {shown}")
    } else {
        format!("there are: {shown} and {more} more")
    }
}

/// The answer.
pub(super) fn response(
    dialect: Dialect,
    rejection: Rejection,
    live: &Live,
    mut ledger: Ledger,
) -> Response<Body> {
    let status = StatusCode::from_u16(rejection.status)
        .ok()
        .filter(|status| status.as_u16() >= 400)
        .unwrap_or(StatusCode::BAD_GATEWAY);
    if !rejection.unheard {
        ledger.record.status = status.as_u16();
        ledger.record.end = End::Refused;
        ledger.record.class = Some(rejection.class);
    }
    ledger.record.shed = rejection.shed;
    let body = match rejection.say {
        Say::Theirs(body) => body,
        Say::Read(mut fault) => {
            let usual = Fault::new(dialect, status.as_u16(), "");
            if dialect == Dialect::Anthropic || fault.kind.is_empty() {
                fault.kind = usual.kind;
            }
            fault.code.get_or_insert_with(|| status.as_u16().to_string());
            fault.body(dialect)
        }
        Say::Ours { message, param, code, kind } => {
            let mut fault = Fault::new(dialect, status.as_u16(), message);
            fault.param = param;
            fault.code = code.map(str::to_owned).or_else(|| Some(status.as_u16().to_string()));
            if let Some(kind) = kind.filter(|_| dialect == Dialect::OpenAi) {
                kind.clone_into(&mut fault.kind);
            }
            fault.body(dialect)
        }
    };
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    head::copy_providers(&rejection.headers, headers);
    head::json(headers);
    head::add_ours(headers, live, &ledger, &rejection.path);
    head::add_cost(headers, Some(crate::lexicon::PicoUsd::ZERO));
    if let Some(method) = rejection.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(method));
    }
    if let Some(wait) = rejection.retry_after {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole seconds"
        )]
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
