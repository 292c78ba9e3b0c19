//! A certificate authority of the test's own, and a provider that speaks HTTP/2 behind it.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{chat, now, until};

/// An authority, whose certificate is in a file for `SSL_CERT_FILE`, and a server's key.
pub(crate) struct Authority {
    file: tempfile::NamedTempFile,
    config: ServerConfig,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut own = CertificateParams::new(Vec::new()).unwrap();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own_key = KeyPair::generate().unwrap();
        let own_certificate = own.self_signed(&own_key).unwrap();
        let issuer = Issuer::new(own, own_key);
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), own_certificate.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self { file, config }
    }

    pub(crate) fn file(&self) -> String {
        self.file.path().display().to_string()
    }

    /// TLS that offers these protocols.
    pub(crate) fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let mut config = self.config.clone();
        config.alpn_protocols =
            protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }
}

/// A provider that speaks HTTP/2 over TLS: a plain call is answered, a stream never ends.
pub(crate) struct H2Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    _accepting: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    resets: Mutex<Vec<Instant>>,
}

impl H2Upstream {
    pub(crate) async fn start(tls: TlsAcceptor) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let mut accepting = JoinSet::new();
        let book = seen.clone();
        accepting.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                book.connections.fetch_add(1, Ordering::SeqCst);
                let (tls, book) = (tls.clone(), book.clone());
                open.spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    book.open.fetch_add(1, Ordering::SeqCst);
                    let answers = book.clone();
                    let service = service_fn(move |request| answer(request, answers.clone()));
                    let _ = http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    book.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen, _accepting: accepting }
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Waits until so many streams were reset; when the last one was.
    pub(crate) async fn reset(&self, count: usize) -> Instant {
        until("the stream to be reset", async || {
            self.seen.resets.lock().unwrap().get(count - 1).copied()
        })
        .await
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Seen>,
) -> Result<Response<Pin<Box<dyn Body<Data = Bytes, Error = hyper::Error> + Send>>>, hyper::Error> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    assert_eq!(request.version(), Version::HTTP_2);
    let asked = request.into_body().collect().await?.to_bytes();
    let is_stream = memchr::memmem::find(&asked, b"\"stream\":true").is_some();
    let text = if is_stream { chat::delta("w0") } else { chat::whole("hello") };
    // The framing of HTTP/1.1 is not HTTP/2's: what remains is what it framed.
    let bytes = if is_stream {
        text.split("\r\n").nth(1).unwrap_or_default().to_owned()
    } else {
        text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()
    };
    let kind = if is_stream { "text/event-stream" } else { "application/json" };
    let bytes = Bytes::from(bytes);
    let body: Pin<Box<dyn Body<Data = Bytes, Error = hyper::Error> + Send>> = if is_stream {
        Box::pin(Forever { first: Some(bytes), seen })
    } else {
        Box::pin(http_body_util::Full::new(bytes).map_err(|never| match never {}))
    };
    Ok(Response::builder().header("content-type", kind).body(body).unwrap())
}

/// A body that sends something and never ends; it notes when nobody wants it any more.
struct Forever {
    first: Option<Bytes>,
    seen: Arc<Seen>,
}

impl Body for Forever {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Poll::Pending,
        }
    }
}

impl Drop for Forever {
    fn drop(&mut self) {
        self.seen.resets.lock().unwrap().push(now());
    }
}
