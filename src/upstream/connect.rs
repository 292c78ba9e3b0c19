//! Making a connection: DNS, TCP with happy eyeballs, a forward proxy, TLS. Counts them.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::{Settings, tls};

/// Counts of connections to providers.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    opened: AtomicU64,
}

impl Connections {
    /// How many are open.
    pub fn open(&self) -> u64 {
        self.0.open.load(Ordering::Relaxed)
    }

    /// How many were ever opened.
    pub fn opened(&self) -> u64 {
        self.0.opened.load(Ordering::Relaxed)
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Connects to where a URI points. The roots are read when the first TLS connection is made, so
/// that a sidecar which needs none neither waits nor pays for them.
#[derive(Clone)]
pub struct Connector {
    via: Via,
    https: Arc<OnceLock<HttpsConnector<Via>>>,
    only_authority: Option<Arc<Path>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("connections", &self.via.connections)
            .finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(settings: &Settings, connections: Connections) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let proxies = settings.proxy_from_environment.then(Matcher::from_env).map(Arc::new);
        Self {
            via: Via { tcp, proxies, connections },
            https: Arc::default(),
            only_authority: settings.only_authority.as_deref().map(Arc::from),
        }
    }

    /// What a forward proxy wants to see in a plain request that goes through it. A tunnel's
    /// credentials are for its CONNECT alone.
    pub(super) fn credentials(&self, to: &Uri) -> Option<HeaderValue> {
        if to.scheme() == Some(&Scheme::HTTPS) {
            return None;
        }
        self.via.proxies.as_ref()?.intercept(to)?.basic_auth().cloned()
    }

    fn https(&self) -> Result<HttpsConnector<Via>, BoxError> {
        if let Some(made) = self.https.get() {
            return Ok(made.clone());
        }
        let made = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(self.only_authority.as_deref())?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(self.via.clone());
        Ok(self.https.get_or_init(|| made).clone())
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Hop>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        if to.scheme() == Some(&Scheme::HTTPS) {
            return match self.https() {
                Ok(mut https) => https.call(to),
                Err(error) => Box::pin(async { Err(error) }),
            };
        }
        let plain = self.via.call(to);
        Box::pin(async move { Ok(MaybeHttpsStream::Http(plain.await?)) })
    }
}

/// TCP to the host itself, or to the forward proxy that the environment names for it.
#[derive(Clone)]
struct Via {
    tcp: HttpConnector,
    proxies: Option<Arc<Matcher>>,
    connections: Connections,
}

impl Service<Uri> for Via {
    type Response = Hop;
    type Error = BoxError;
    type Future = Connecting<Hop>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let mut tcp = self.tcp.clone();
        let connections = self.connections.clone();
        let proxy = self.proxies.as_ref().and_then(|proxies| proxies.intercept(&to));
        Box::pin(async move {
            let Some(proxy) = proxy else {
                return Ok(Hop::new(tcp.call(to).await?, false, connections));
            };
            if to.scheme() != Some(&Scheme::HTTPS) {
                // A plain request goes to the proxy itself, with the whole address in its line.
                return Ok(Hop::new(tcp.call(proxy.uri().clone()).await?, true, connections));
            }
            let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
            if let Some(credentials) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(credentials.clone());
            }
            Ok(Hop::new(tunnel.call(to).await?, false, connections))
        })
    }
}

/// A TCP connection to a provider or a forward proxy, counted while it is open.
#[derive(Debug)]
pub struct Hop {
    io: TokioIo<TcpStream>,
    to_proxy: bool,
    connections: Connections,
    /// Reads since nothing was there to be read.
    in_a_row: u8,
}

/// After so many reads the thread is given back; hyper's are of up to 400 KB.
const MOST_IN_A_ROW: u8 = 2;

impl Hop {
    fn new(io: TokioIo<TcpStream>, to_proxy: bool, connections: Connections) -> Self {
        connections.0.open.fetch_add(1, Ordering::Relaxed);
        connections.0.opened.fetch_add(1, Ordering::Relaxed);
        Self { io, to_proxy, connections, in_a_row: 0 }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.connections.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection for Hop {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.to_proxy)
    }
}

impl Read for Hop {
    /// A provider that sends faster than it is read shall keep the one thread neither from other
    /// requests nor from the clock. Tokio's own budget of 128 reads is some 50 MB, for which the
    /// parsing of endless heads takes long.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.in_a_row == MOST_IN_A_ROW {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        self.in_a_row = if read.is_ready() { self.in_a_row + 1 } else { 0 };
        read
    }
}

impl Write for Hop {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
