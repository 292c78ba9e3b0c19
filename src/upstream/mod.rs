//! Calling providers: pooled connections, HTTP/1.1 and HTTP/2, TLS, forward proxies.
//!
//! Promises that a dropped call ends at the wire: an HTTP/2 stream is reset, an HTTP/1.1
//! connection closed. Knows no provider and retries nothing that may have been sent.

pub mod connect;
mod tls;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::header::PROXY_AUTHORIZATION;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::protocol::RopeBody;

pub use connect::{Connections, Connector};

/// How connections are made and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a connection may take to be made, TLS not included; 5 s by default, as `LiteLLM`.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept; 90 s by default. Providers close theirs after one
    /// to several minutes.
    pub idle_timeout: Duration,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are followed; true by
    /// default.
    pub proxy_from_environment: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(90),
            proxy_from_environment: true,
        }
    }
}

/// The one client for all providers. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: legacy::Client<Connector, RopeBody>,
    connector: Connector,
}

/// No response came.
#[derive(Debug)]
pub struct Unreachable {
    /// Whether the request may have reached the provider.
    pub may_have_been_sent: bool,
    why: String,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Error for Unreachable {}

impl Client {
    /// A client without connections. They are counted in `connections`.
    pub fn new(settings: &Settings, connections: Connections) -> Self {
        let connector = Connector::new(settings, connections);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(settings.idle_timeout)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .build(connector.clone());
        Self { inner, connector }
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// Cancel safety: dropping the future or the response's body ends the call at the wire.
    pub async fn send(
        &self,
        mut request: Request<RopeBody>,
    ) -> Result<Response<Incoming>, Unreachable> {
        if let Some(credentials) = self.connector.credentials(request.uri()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, credentials);
        }
        self.inner.request(request).await.map_err(|error| Unreachable {
            may_have_been_sent: !error.is_connect(),
            why: reason(&error),
        })
    }
}

/// The last cause says what happened; those above it only that something did.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    let mut kept = Vec::new();
    while let Some(source) = deepest.source() {
        deepest = source;
        kept.push(deepest.to_string());
    }
    kept.dedup();
    match kept.as_slice() {
        [] => error.to_string(),
        [.., before, last] if !before.contains(last.as_str()) => format!("{before}: {last}"),
        [.., last] => last.clone(),
    }
}
