//! Calling providers: pooled connections, HTTP/1.1 and HTTP/2, TLS, forward proxies.
//!
//! Promises that a dropped call ends at the wire: an HTTP/2 stream is reset, an HTTP/1.1
//! connection closed. Knows no provider and retries nothing that may have been sent.

mod answer;
pub mod connect;
mod pool;
mod tls;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor as _;
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service as _;

use crate::lexicon::time;
use crate::protocol::RopeBody;

pub use answer::Answer;
pub use connect::{Connections, Connector};
use pool::{Connection, Line, Origin, Pool};

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
    /// A file with the only certificates that are trusted, in PEM; by default what the platform
    /// trusts.
    pub only_authority: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(90),
            proxy_from_environment: true,
            only_authority: None,
        }
    }
}

/// The one client for all providers. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Connector,
    pool: Arc<Pool>,
    idle_timeout: Duration,
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
        Self { connector, pool: Arc::default(), idle_timeout: settings.idle_timeout }
    }

    /// Sends a request and waits for the head of the response. A connection that turns out to be
    /// closed before anything was sent over it is replaced by another one.
    ///
    /// Cancel safety: dropping the future or the response's body ends the call at the wire.
    pub async fn send(
        &self,
        mut request: Request<RopeBody>,
    ) -> Result<Response<Answer>, Unreachable> {
        let uri = request.uri().clone();
        let new = |root: Uri| {
            let credentials = self.connector.credentials(&root);
            Origin::new(root, credentials)
        };
        let origin = self.pool.origin(&uri, new).ok_or_else(|| Unreachable {
            may_have_been_sent: false,
            why: format!("{uri} names no host"),
        })?;
        for _ in 0..MOST_STALE {
            let Some(idle) = origin.take(self.idle_timeout, time::now()) else { break };
            match idle.send(request, &origin).await {
                Ok((response, line)) => {
                    return Ok(response.map(|body| Answer::new(body, line, origin)));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Unreachable::sent(&failed.into_error())),
                },
            }
            *request.uri_mut() = uri.clone();
        }
        let fresh = Box::pin(self.connect(&origin)).await?;
        let sent = fresh.send(request, &origin).await;
        sent.map(|(response, line)| response.map(|body| Answer::new(body, line, origin)))
            .map_err(|failed| Unreachable::sent(&failed.into_error()))
    }

    /// A new connection, of the protocol that the provider chose.
    async fn connect(&self, origin: &Origin) -> Result<Connection, Unreachable> {
        let unsent = |error: &(dyn Error + 'static)| Unreachable {
            may_have_been_sent: false,
            why: reason(error),
        };
        let io = self.connector.clone().call(origin.root.clone()).await;
        let io = io.map_err(|error| unsent(&*error))?;
        let connected = io.connected();
        let executor = TokioExecutor::new();
        if connected.is_negotiated_h2() {
            let (sender, connection) = http2::Builder::new(executor.clone())
                .timer(TokioTimer::new())
                .adaptive_window(true)
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(10))
                .handshake(io)
                .await
                .map_err(|error| unsent(&error))?;
            executor.execute(until_closed(connection));
            origin.share(sender.clone());
            return Ok(Connection::H2(sender));
        }
        let to_proxy = connected.is_proxied();
        let (sender, connection) = http1::handshake(io).await.map_err(|error| unsent(&error))?;
        executor.execute(until_closed(connection));
        Ok(Connection::H1(Line { sender, to_proxy }))
    }

    /// Closes connections that nobody used for as long as the limit says; runs for ever.
    pub async fn prune(self) {
        let mut every = tokio::time::interval(self.idle_timeout / 2);
        loop {
            let now = every.tick().await;
            self.pool.prune(self.idle_timeout, now.into());
        }
    }
}

/// A provider that closes its idle connections may have closed several.
const MOST_STALE: usize = 8;

/// Drives a connection. What goes wrong with it is told to the call that uses it.
async fn until_closed(connection: impl Future<Output = hyper::Result<()>>) {
    let _ = connection.await;
}

impl Unreachable {
    /// The connection failed under a call.
    fn sent(error: &hyper::Error) -> Self {
        Self { may_have_been_sent: true, why: reason(error) }
    }
}

/// The last cause says what happened; those above it only that something did.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    let (mut before, mut last) = (String::new(), error.to_string());
    while let Some(source) = deepest.source() {
        deepest = source;
        let next = deepest.to_string();
        if next != last {
            before = std::mem::replace(&mut last, next);
        }
    }
    if before.is_empty() || before.contains(&last) { last } else { format!("{before}: {last}") }
}
