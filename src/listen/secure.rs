//! The same with TLS: for the admission webhook, which an API server calls from outside.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::server::graceful::Watcher;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::{Settings, Stop, converse, serve_each};

/// How long a client may take to greet.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// As [`run`](super::run), over TLS.
pub async fn run<H, F, B>(
    listeners: Vec<TcpListener>,
    (settings, tls): (Settings, Arc<ServerConfig>),
    handler: H,
    stop: watch::Receiver<Stop>,
    drain: Duration,
) -> usize
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let most = settings.max_connections;
    let acceptor = TlsAcceptor::from(tls);
    let serve = move |stream: TcpStream, watcher: Watcher| {
        let (acceptor, settings, handler) = (acceptor.clone(), settings.clone(), handler.clone());
        // In the connection's own task: who greets slowly keeps nobody else waiting.
        async move {
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => converse(stream, &settings, handler, watcher).await,
                Ok(Err(error)) => debug!(%error, "a client does not speak our TLS"),
                Err(_) => debug!("a client takes too long to greet"),
            }
        }
    };
    serve_each(listeners, most, serve, stop, drain).await
}
