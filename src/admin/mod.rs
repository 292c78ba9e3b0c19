//! What operators and their machines ask the sidecar itself: is it alive, is it ready, what does
//! it count.
//!
//! Promises pure answers: the same path and state give the same bytes. Readiness never depends
//! on a provider, because a pod that is taken out of service when a provider is down helps
//! nobody. Knows neither configuration nor metrics, only a [`Probe`] that tells of them.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use percent_encoding::percent_decode_str;

/// What the answers are made of.
pub trait Probe {
    /// Where the sidecar is in its life, and what it serves.
    fn status(&self) -> Status;
    /// The metrics, in Prometheus's text format.
    fn metrics(&self) -> String;
    /// What would become of a request for a model, as JSON; `None` where there is no such model.
    fn explain(&self, asked: &Asked<'_>) -> Option<String>;
    /// The sidecars that share what they see, as JSON.
    fn fleet(&self) -> String;
    /// What hedging was worth, as JSON.
    fn report(&self) -> String;
}

/// A request that nobody has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The model, as a request would name it.
    pub model: Cow<'a, str>,
    /// The tags it would carry.
    pub tags: Vec<Box<str>>,
}

/// Where a sidecar is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It finishes what it has begun and takes nothing new.
    Draining,
    /// It serves a valid configuration.
    Ready,
    /// It has none yet.
    Starting,
}

impl State {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Ready => "ready",
            Self::Starting => "starting",
        }
    }
}

/// The state of the sidecar and of its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where it is in its life.
    pub state: State,
    /// The generation of the configuration that is served.
    pub generation: u64,
    /// The hash of its content.
    pub hash: String,
    /// Whether it is what is on the disk.
    pub in_sync: bool,
    /// Why what is on the disk is not served.
    pub last_error: Option<String>,
    /// When what is served was loaded, in Unix time.
    pub last_success_unix: u64,
}

/// What can be asked: the path, another name for it, and what it says.
const PAGES: [(&str, Option<&str>, Page, &str); 8] = [
    ("/", None, Page::Index, "this list"),
    (
        "/explain",
        None,
        Page::Explain,
        "?model=NAME[&tags=A,B]: who would be asked, and why, as JSON",
    ),
    (
        "/fleet",
        None,
        Page::Fleet,
        "the sidecars that share what they see, and what they agree on, as JSON; `pillion fleet` prints it",
    ),
    ("/health/live", Some("/livez"), Page::Live, "200 while the process answers"),
    (
        "/health/ready",
        Some("/readyz"),
        Page::Ready,
        "200 while a valid configuration is served, 503 before that and while draining",
    ),
    (
        "/health/started",
        Some("/startupz"),
        Page::Started,
        "200 once its ports are bound; whether it has a configuration is for readiness to say",
    ),
    ("/metrics", None, Page::Metrics, "metrics for Prometheus"),
    ("/report", None, Page::Report, "what hedging was worth, as JSON; `pillion report` draws it"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Explain,
    Fleet,
    Index,
    Live,
    Metrics,
    Ready,
    Report,
    Started,
}

/// Answers one request. The target is a path, with or without a query.
pub fn answer(method: &Method, target: &str, probe: &dyn Probe) -> Response<Full<Bytes>> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_named = |name: &str, other: Option<&str>| name == path || other == Some(path);
    let page = PAGES.iter().find(|(name, other, _, _)| is_named(name, *other));
    let Some((_, _, page, _)) = page else { return sent(method, nothing_there(path)) };
    if method != Method::GET && method != Method::HEAD {
        return wrong_method(method);
    }
    let said = match page {
        Page::Explain => explain(query, probe),
        Page::Fleet => Said::new(StatusCode::OK, JSON, format!("{}\n", probe.fleet())),
        Page::Index => Said::new(StatusCode::OK, TEXT, index()),
        Page::Live => Said::new(StatusCode::OK, JSON, "{\"state\":\"live\"}\n".to_owned()),
        Page::Metrics => Said::new(StatusCode::OK, PROMETHEUS, probe.metrics()),
        Page::Ready => health(&probe.status(), |state| state == State::Ready),
        Page::Report => Said::new(StatusCode::OK, JSON, format!("{}\n", probe.report())),
        // A sidecar that never starts would keep its pod from starting for ever.
        Page::Started => health(&probe.status(), |_| true),
    };
    sent(method, said)
}

/// Tells who may not ask why.
pub fn refuse(method: &Method, why: &str) -> Response<Full<Bytes>> {
    sent(method, error(StatusCode::FORBIDDEN, "permission_denied", why))
}

/// An answer before it is known whether its body is wanted.
struct Said {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Said {
    const fn new(status: StatusCode, kind: &'static str, body: String) -> Self {
        Self { status, kind, body }
    }
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn health(status: &Status, is_well: impl Fn(State) -> bool) -> Said {
    let code = if is_well(status.state) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "state": status.state.as_str(),
        "generation": status.generation,
        "hash": status.hash,
        "in_sync": status.in_sync,
        "last_error": status.last_error,
        "last_success_unix": status.last_success_unix,
    });
    Said::new(code, JSON, format!("{body}\n"))
}

fn explain(query: &str, probe: &dyn Probe) -> Said {
    let field =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let Some(model) = field("model").filter(|model| !model.is_empty()) else {
        return error(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "say which model: /explain?model=NAME",
        );
    };
    let tags = unescaped(field("tags").unwrap_or_default());
    let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    let asked = Asked { model: unescaped(model), tags: tags.map(Box::from).collect() };
    let explained = probe.explain(&asked).map(|body| Said::new(StatusCode::OK, JSON, body + "\n"));
    explained.unwrap_or_else(|| {
        let message = format!("there is no model `{}` here", asked.model);
        error(StatusCode::NOT_FOUND, "not_found", &message)
    })
}

/// A value of a query without its escapes; a broken one stays as it is.
fn unescaped(value: &str) -> Cow<'static, str> {
    let spaced = value.replace('+', " ");
    let plain = percent_decode_str(&spaced).decode_utf8();
    plain.map_or_else(|_| value.to_owned(), Cow::into_owned).into()
}

fn error(status: StatusCode, kind: &str, message: &str) -> Said {
    let body = serde_json::json!({"error": {"message": message, "type": kind}});
    Said::new(status, JSON, format!("{body}\n"))
}

fn index() -> String {
    let mut text = format!("Pillion {}\n\n", env!("CARGO_PKG_VERSION"));
    for (name, other, _, what) in PAGES {
        let names = other.map_or_else(|| name.to_owned(), |other| format!("{name} {other}"));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{names:<28}{what}");
    }
    text
}

fn nothing_there(path: &str) -> Said {
    let paths: Vec<_> = PAGES.iter().map(|(name, _, _, _)| name).collect();
    let body = serde_json::json!({
        "error": {
            "message": "there is nothing at this path; the LLM API listens on another port",
            "type": "not_found",
            "path": path,
            "paths": paths,
        }
    });
    Said::new(StatusCode::NOT_FOUND, JSON, format!("{body}\n"))
}

fn wrong_method(method: &Method) -> Response<Full<Bytes>> {
    let message = "only GET and HEAD are answered here";
    let said = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut response = sent(method, said);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn sent(method: &Method, said: Said) -> Response<Full<Bytes>> {
    let length = said.body.len();
    let body = if method == Method::HEAD { Bytes::new() } else { said.body.into() };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = said.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(said.kind));
    // Said outright, because of HEAD: the length is that of the body it leaves out.
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    struct Fixed(State);

    impl Probe for Fixed {
        fn status(&self) -> Status {
            Status {
                state: self.0,
                generation: 3,
                hash: "abc".to_owned(),
                in_sync: false,
                last_error: Some("line 2: \"x\" is unknown".to_owned()),
                last_success_unix: 1_790_000_000,
            }
        }

        fn metrics(&self) -> String {
            "pillion_build_info 1\n".to_owned()
        }

        fn explain(&self, asked: &Asked<'_>) -> Option<String> {
            let Asked { model, tags } = asked;
            (model == "openai/a b").then(|| format!("{{\"model\":\"{model}\",\"tags\":{tags:?}}}"))
        }

        fn fleet(&self) -> String {
            "{\"gossip\":\"off\"}".to_owned()
        }

        fn report(&self) -> String {
            "{\"report\":\"hedging\"}".to_owned()
        }
    }

    async fn ask(method: Method, path: &str, state: State) -> (u16, http::HeaderMap, String) {
        let (head, body) = answer(&method, path, &Fixed(state)).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test]
    async fn each_probe_answers_by_the_state_and_under_both_names() {
        let cases = [
            (State::Starting, 200, 503, 200),
            (State::Ready, 200, 200, 200),
            (State::Draining, 200, 503, 200),
        ];
        for (state, live, ready, started) in cases {
            for (path, expected) in [
                ("/health/live", live),
                ("/livez", live),
                ("/health/ready", ready),
                ("/readyz", ready),
                ("/health/started", started),
                ("/startupz", started),
            ] {
                let (status, headers, body) = ask(Method::GET, path, state).await;
                assert_eq!(status, expected, "{path} while {}", state.as_str());
                assert_eq!(headers[header::CONTENT_TYPE], JSON);
                serde_json::from_str::<serde_json::Value>(&body).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn readiness_says_what_is_served_and_what_is_wrong() {
        let (_, _, body) = ask(Method::GET, "/readyz", State::Ready).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "state": "ready", "generation": 3, "hash": "abc", "in_sync": false,
                "last_error": "line 2: \"x\" is unknown", "last_success_unix": 1_790_000_000,
            })
        );
    }

    #[tokio::test]
    async fn metrics_come_with_the_version_of_their_format() {
        let (status, headers, body) = ask(Method::GET, "/metrics", State::Ready).await;
        assert_eq!((status, &*body), (200, "pillion_build_info 1\n"));
        let kind = headers[header::CONTENT_TYPE].to_str().unwrap();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    }

    #[tokio::test]
    async fn the_report_and_the_fleet_are_json() {
        for (path, says) in
            [("/report", "{\"report\":\"hedging\"}\n"), ("/fleet", "{\"gossip\":\"off\"}\n")]
        {
            let (status, headers, body) = ask(Method::GET, path, State::Draining).await;
            assert_eq!((status, &*body), (200, says));
            assert_eq!(headers[header::CONTENT_TYPE], JSON);
        }
    }

    #[tokio::test]
    async fn a_model_is_explained_by_its_name() {
        for (query, status, says) in [
            ("?model=openai%2Fa+b", 200, "openai/a b"),
            ("?x=1&model=openai/a%20b", 200, "openai/a b"),
            ("?model=openai/a+b", 200, "\"tags\":[]"),
            ("?tags=a%2C+!b,,%26c&model=openai/a+b", 200, "[\"a\", \"!b\", \"&c\"]"),
            ("?model=nosuch", 404, "there is no model `nosuch`"),
            ("?model=%zz", 404, "`%zz`"),
            ("?model=", 400, "/explain?model=NAME"),
            ("", 400, "/explain?model=NAME"),
        ] {
            let (got, headers, body) =
                ask(Method::GET, &format!("/explain{query}"), State::Ready).await;
            assert_eq!((got, &headers[header::CONTENT_TYPE]), (status, &JSON.parse().unwrap()));
            assert!(body.contains(says), "{query}: {body}");
            serde_json::from_str::<serde_json::Value>(&body).unwrap();
        }
    }

    #[tokio::test]
    async fn an_unknown_path_learns_the_known_ones() {
        let (status, _, body) = ask(Method::GET, "/v1/\"models", State::Ready).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["error"]["path"]), (404, &"/v1/\"models".into()));
        assert!(body["error"]["paths"].as_array().unwrap().contains(&"/metrics".into()));
        let (_, _, index) = ask(Method::GET, "/", State::Ready).await;
        for (name, other, _, _) in PAGES {
            assert!(index.contains(name) && other.is_none_or(|other| index.contains(other)));
        }
    }

    #[tokio::test]
    async fn other_methods_are_refused_with_those_that_are_not() {
        let (status, headers, _) = ask(Method::POST, "/metrics", State::Ready).await;
        assert_eq!((status, headers[header::ALLOW].to_str().unwrap()), (405, "GET, HEAD"));
    }

    #[tokio::test]
    async fn a_head_request_gets_the_head_of_the_same_answer() {
        for path in ["/", "/readyz", "/metrics", "/nowhere"] {
            let (status, headers, body) = ask(Method::GET, path, State::Draining).await;
            let (head_status, head_headers, head_body) =
                ask(Method::HEAD, path, State::Draining).await;
            assert_eq!((status, headers), (head_status, head_headers.clone()), "{path}");
            assert_eq!(head_headers[header::CONTENT_LENGTH], body.len().to_string());
            assert!(head_body.is_empty());
        }
    }
}
