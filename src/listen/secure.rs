//! The same with TLS: for the admission webhook, which an API server calls from outside.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::{Settings, Stop, accept, finish};

/// How long a client may take to greet.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// As [`run`](super::run), over TLS.
pub async fn run<H, F, B>(
    listeners: Vec<TcpListener>,
    (settings, tls): (Settings, Arc<ServerConfig>),
    handler: H,
    mut stop: watch::Receiver<Stop>,
    drain: Duration,
) -> usize
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let (acceptor, graceful) = (TlsAcceptor::from(tls), GracefulShutdown::new());
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop >= Stop::Drain) => break,
            accepted = accept(&listeners, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let (acceptor, handler, watcher) = (acceptor.clone(), handler.clone(), graceful.watcher());
        let settings = settings.clone();
        connections.spawn(async move {
            let _place = place;
            // In the connection's own task: who greets slowly keeps nobody else waiting.
            let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%error, "a client does not speak our TLS"),
                Err(_) => return debug!("a client takes too long to greet"),
            };
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(settings.head_timeout)
                .max_headers(settings.max_headers)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection).await {
                debug!(%error, "connection ended early");
            }
        });
    }
    drop(listeners);
    finish(graceful, connections, stop, drain).await
}
