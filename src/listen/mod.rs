//! Accepting connections: bounded in number, in patience and in memory, and drained at the end.
//!
//! Takes the handler as an argument and knows nothing of what it does.

pub mod secure;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// What a listener puts up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a client may take to send a request's head, and how long an idle connection is
    /// kept; 60 s by default.
    pub head_timeout: Duration,
    /// How many headers a request may have; 100 by default. More get status 431.
    pub max_headers: usize,
    /// How many connections are served at once; 4,096 by default. Further ones wait.
    pub max_connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { head_timeout: Duration::from_secs(60), max_headers: 100, max_connections: 4096 }
    }
}

/// Binds an address.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Whether a listener goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// It accepts and serves. Variants are in the order of time.
    #[default]
    Not,
    /// It accepts and serves until nobody was connected for this time.
    Deserted(Duration),
    /// It accepts nothing and lets what runs finish.
    Drain,
    /// It cuts what runs.
    Now,
}

/// Accepts and serves until `stop` says so, then lets what runs finish for at most `drain`.
///
/// Returns how many connections were cut because that time was over or `stop` said so.
pub async fn run<H, F, B>(
    listeners: Vec<TcpListener>,
    settings: Settings,
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
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut told = stop.clone();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop >= Stop::Drain) => break,
            accepted = accept(&listeners, &places) => accepted,
            () = deserted(&mut connections, &mut told) => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let service = {
            let handler = handler.clone();
            service_fn(move |request| handler(request).map(Ok::<_, Infallible>))
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.head_timeout)
            .max_headers(settings.max_headers)
            .serve_connection(TokioIo::new(stream), service);
        let watched = graceful.watch(connection);
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = watched.await {
                debug!(%error, "connection ended early");
            }
        });
    }
    drop(listeners);
    finish(graceful, connections, stop, drain).await
}

/// Ends where nobody is to be waited for any more; never before `stop` says so.
///
/// Cancel safety: what is lost is how long nobody was there, and somebody has come.
async fn deserted(connections: &mut JoinSet<()>, stop: &mut watch::Receiver<Stop>) {
    let told = stop.wait_for(|stop| *stop > Stop::Not).await;
    let quiet = told.ok().and_then(|stop| match *stop {
        Stop::Deserted(quiet) => Some(quiet),
        Stop::Not | Stop::Drain | Stop::Now => None,
    });
    let Some(quiet) = quiet else { return std::future::pending().await };
    while connections.join_next().await.is_some() {}
    tokio::time::sleep(quiet).await;
}

async fn finish(
    graceful: GracefulShutdown,
    mut connections: JoinSet<()>,
    mut stop: watch::Receiver<Stop>,
    drain: Duration,
) -> usize {
    let drained = async {
        graceful.shutdown().await;
        while connections.join_next().await.is_some() {}
    };
    let hurried = async {
        // Nobody is left to hurry where the sender is gone.
        if stop.wait_for(|stop| *stop == Stop::Now).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = drained => {}
        () = hurried => {}
        () = tokio::time::sleep(drain) => {}
    }
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

/// Waits for a place and for a connection. `None` where accepting failed.
async fn accept(
    listeners: &[TcpListener],
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    let accepted = std::future::poll_fn(|cx| {
        for listener in listeners {
            if let std::task::Poll::Ready(accepted) = listener.poll_accept(cx) {
                return std::task::Poll::Ready(accepted);
            }
        }
        std::task::Poll::Pending
    });
    match accepted.await {
        Ok((stream, _)) => {
            // Small frames must not wait for an acknowledgement: 40 ms on every stream.
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            warn!(%error, "cannot accept a connection");
            tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
            None
        }
    }
}

/// Out of file descriptors is the usual reason; trying again at once would only burn CPU.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);
