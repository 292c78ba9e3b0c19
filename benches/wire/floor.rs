//! The least a gateway on hyper can cost: a reverse proxy that does nothing but pass on.
//!
//! One thread, one list of idle connections. The plain variant streams the bodies through; the
//! parsing one collects the request's body and reads its model, as any gateway that routes must.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};

type Failure = Box<dyn Error + Send + Sync>;
type Outgoing = Either<Incoming, Full<Bytes>>;

/// What the proxy does with a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Collects it and finds the model.
    Parse,
    /// Passes it on as it comes.
    Stream,
}

/// Serves until the process ends.
pub(crate) fn serve(port: u16, upstream: u16, variant: Variant) -> io::Result<()> {
    let pool = Arc::new(Pool { upstream, idle: Mutex::default() });
    Builder::new_current_thread().enable_io().build()?.block_on(accept(port, pool, variant))
}

async fn accept(port: u16, pool: Arc<Pool>, variant: Variant) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pool = Arc::clone(&pool);
        Handle::current().spawn(async move {
            let service = service_fn(|request| forward(request, Arc::clone(&pool), variant));
            // A client that goes away is no news.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn forward(
    request: Request<Incoming>,
    pool: Arc<Pool>,
    variant: Variant,
) -> Result<Response<Lent>, Failure> {
    let (mut head, body) = request.into_parts();
    head.headers.remove(CONNECTION);
    let body = match variant {
        Variant::Stream => Either::Left(body),
        Variant::Parse => {
            let whole = body.collect().await?.to_bytes();
            peek(&whole)?;
            head.headers.remove(CONTENT_LENGTH);
            head.headers.remove(TRANSFER_ENCODING);
            Either::Right(Full::new(whole))
        }
    };
    let mut sender = pool.take().await?;
    let answer = sender.send_request(Request::from_parts(head, body)).await?;
    Ok(answer.map(|body| Lent { body, back: Some((sender, pool)) }))
}

#[derive(serde::Deserialize)]
struct Peeked<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    stream: Option<bool>,
}

fn peek(body: &[u8]) -> Result<(), serde_json::Error> {
    let peeked: Peeked<'_> = serde_json::from_slice(body)?;
    std::hint::black_box((&peeked.model, peeked.stream));
    Ok(())
}

struct Pool {
    upstream: u16,
    idle: Mutex<Vec<SendRequest<Outgoing>>>,
}

impl Pool {
    async fn take(&self) -> Result<SendRequest<Outgoing>, Failure> {
        while let Some(mut sender) = self.pop() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.upstream)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Handle::current().spawn(connection);
        Ok(sender)
    }

    fn pop(&self) -> Option<SendRequest<Outgoing>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, sender: SendRequest<Outgoing>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
    }
}

/// An answer's body that gives its connection back when it has been read to the end.
struct Lent {
    body: Incoming,
    back: Option<(SendRequest<Outgoing>, Arc<Pool>)>,
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if (frame.is_none() || self.body.is_end_stream())
            && let Some((sender, pool)) = self.back.take()
        {
            pool.put(sender);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
