//! The same with TLS, and with HTTP/2 for who offers it: for the admission webhook, which an API
//! server calls from outside, over a connection that it keeps. HTTP/2 can say which requests it
//! takes no more; with HTTP/1.1 one that is just on its way is lost when an idle connection ends.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::{Settings, Stop, converse, serve_each};

/// What is spoken over TLS, by the names of ALPN; who offers both gets the first.
pub const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];
const HTTP_2: &[u8] = b"h2";

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
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(HTTP_2) => {
                    converse_in_streams(stream, &settings, handler, watcher).await;
                }
                Ok(Ok(stream)) => converse(stream, &settings, handler, watcher).await,
                Ok(Err(error)) => debug!(%error, "a client does not speak our TLS"),
                Err(_) => debug!("a client takes too long to greet"),
            }
        }
    };
    serve_each(listeners, most, serve, stop, drain).await
}

/// One connection of HTTP/2 from its first request to its end.
async fn converse_in_streams<H, F, B>(
    stream: TlsStream<TcpStream>,
    settings: &Settings,
    handler: H,
    watcher: Watcher,
) where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service_fn(move |request| handler(request).map(Ok::<_, Infallible>));
    // Who is gone without a word does not answer.
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.head_timeout)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "connection ended early");
    }
}
