//! One request from its first byte to its last.
//!
//! Promises that every request gets one answer and one record, that nothing is sent to a client
//! before an answer is worth sending, and that a client that goes away ends everything that ran
//! for it. Holds no policy: who is asked and when is [`crate::routing`]'s, what is said to a
//! provider is [`crate::provider`]'s.

mod again;
mod attempt;
mod body;
mod buffered;
pub mod explain;
mod fan;
mod gather;
mod head;
mod hedging;
mod hold;
mod lessons;
mod live;
mod mock;
mod model_list;
mod opening;
mod queue;
mod race;
mod reject;
mod relay;
mod report;
mod silence;
mod tries;
mod used;
mod whole;

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::error::Elapsed;
use uuid::Uuid;

use crate::account::{Ledger, Sink};
use crate::endpoint::{self, Route};
use crate::lexicon::time;
use crate::protocol::{Call, Dialect, Endpoint};
use crate::upstream::Client;

pub use body::Body;
pub use live::{Limits, Live};

use attempt::Job;
use buffered::{Buffered, Hold, NoRoom};
use race::Won;
use reject::Rejection;
use tries::Notes;

/// What serves requests: the configuration in force, the client for providers, and the sink of
/// records.
#[derive(Debug)]
pub struct Gateway {
    live: ArcSwap<Live>,
    client: Client,
    sink: Arc<dyn Sink>,
    in_flight: Arc<AtomicU32>,
    buffered: Arc<Buffered>,
}

impl Gateway {
    /// A gateway that serves `live`.
    pub fn new(live: Live, client: Client, sink: Arc<dyn Sink>) -> Self {
        let (in_flight, buffered) = (Arc::default(), Arc::default());
        Self { live: ArcSwap::from_pointee(live), client, sink, in_flight, buffered }
    }

    /// How many requests are being served.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many bytes of bodies are held in memory.
    pub fn buffered_bytes(&self) -> u64 {
        self.buffered.bytes()
    }

    /// What is served now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Serves `next` from now on. Requests that run keep what they began with.
    pub fn publish(&self, next: Live) {
        self.live.store(Arc::new(next));
    }

    /// The whole life of one request. If you read one function in this crate, read this one.
    ///
    /// Its record is opened before there is a future: a client that sends its request and closes at
    /// once has it dropped before it is ever polled.
    ///
    /// Cancel safety: dropping the future, as happens when the client goes away, ends the calls
    /// that run for it; the record says so.
    pub fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send {
        let (head, body) = request.into_parts();
        let mut ledger =
            Ledger::open(self.sink.clone(), &self.in_flight, call_id(&head.headers), time::now());
        async move {
            let live = self.live.load_full();
            match self.converse(&live, &head, body, &mut ledger).await {
                Ok(Said::Listed(list)) => model_list::response(list, ledger),
                Ok(Said::Won(Won::Mock(mocked))) => mock::response(*mocked, &live, ledger),
                Ok(Said::Won(Won::Stream(stream))) => relay::response(*stream, &live, ledger),
                Ok(Said::Won(Won::Whole(answer))) => whole::response(answer, &live, ledger),
                Err(rejection) => {
                    let dialect = endpoint::dialect_at(head.uri.path());
                    reject::response(dialect, *rejection, &live, ledger)
                }
            }
        }
    }

    /// From the head of a request to the beginning of its answer.
    async fn converse(
        self: &Arc<Self>,
        live: &Arc<Live>,
        head: &request::Parts,
        body: Incoming,
        ledger: &mut Ledger,
    ) -> Result<Said, Box<Rejection>> {
        check_head(head, &live.limits)?;
        live.pages.admit(&head.headers).map_err(|foreign| Rejection::foreign(&foreign))?;
        live.keyring.admit(&head.headers).map_err(Rejection::denied)?;
        match endpoint::route(&head.method, head.uri.path()) {
            Err(no_route) => Err(Rejection::no_route(no_route, head.uri.path()).into()),
            Ok(Route::Models) => {
                Ok(Said::Listed(model_list::all(&live.routes, client_dialect(&head.headers))))
            }
            Ok(Route::Model(id)) => model_list::one(&live.routes, &id)
                .map(Said::Listed)
                .ok_or_else(|| Rejection::no_model(&id, &live.routes, 404).into()),
            Ok(Route::Call(endpoint, model)) => {
                ledger.record.endpoint = Some(endpoint);
                self.check_room(&live.limits)?;
                let hold = self.buffered.hold(live.limits.max_buffered_bytes);
                let (body, hold) = collect(body, &head.headers, &live.limits, hold).await?;
                let mut call = endpoint::decode(endpoint, model.as_deref(), &head.headers, body)
                    .map_err(|bad| Rejection::bad_call(&bad, &live.routes))?;
                call.body = hold.keep(call.body);
                note(&call, ledger);
                let headers = &head.headers;
                let job = Job::new(self, live, &call, headers);
                let legs = fan::legs(&call, live)?;
                let copies = legs.as_deref().map(|legs| self.hold_copies(legs, &live.limits));
                let _copies = copies.transpose()?;
                match legs {
                    None => race::race(job, Notes::of(ledger)).await.map(Said::Won),
                    Some(legs) if call.wishes.fastest_response => {
                        fan::fastest(job, &legs, ledger).await.map(Said::Won)
                    }
                    Some(legs) => Ok(Said::Listed(fan::all(job, &legs, &self.sink, ledger).await)),
                }
            }
        }
    }
}

impl Gateway {
    /// The memory of a call's copies for several models, each of which has a body of its own.
    fn hold_copies(&self, legs: &[Call], limits: &Limits) -> Result<Hold, Box<Rejection>> {
        let copies = legs.iter().map(|leg| leg.body.len() as u64);
        let mut hold = self.buffered.hold(limits.max_buffered_bytes);
        let no_room = |NoRoom| Rejection::no_room(limits.max_buffered_bytes);
        hold.grow_to(copies.sum()).map_err(no_room)?;
        Ok(hold)
    }

    /// Turns a request away while as many as may be are served. It counts itself.
    fn check_room(&self, limits: &Limits) -> Result<(), Box<Rejection>> {
        match limits.max_parallel_requests {
            Some(most) if self.in_flight() > most => Err(Rejection::too_many_calls(most).into()),
            Some(_) | None => Ok(()),
        }
    }
}

/// What is answered when nothing was rejected.
#[derive(Debug)]
enum Said {
    Listed(Bytes),
    Won(Won),
}

fn note(call: &Call, ledger: &mut Ledger) {
    ledger.record.model = call.model.clone();
    ledger.record.stream = call.stream;
}

/// Anthropic's clients say which version of its API they speak.
fn client_dialect(headers: &HeaderMap) -> Dialect {
    if headers.contains_key("anthropic-version") { Dialect::Anthropic } else { Dialect::OpenAi }
}

/// The client's own `x-litellm-call-id`, where it is short and plain, else a new UUID.
fn call_id(headers: &HeaderMap) -> Box<str> {
    let own = headers.get("x-litellm-call-id").and_then(|id| id.to_str().ok());
    if let Some(id) = own.filter(|id| (1..=MAX_CALL_ID).contains(&id.len())) {
        return id.into();
    }
    let random = fastrand::u128(..).to_ne_bytes();
    let mut text = Uuid::encode_buffer();
    let id = uuid::Builder::from_random_bytes(random).into_uuid();
    (*id.hyphenated().encode_lower(&mut text)).into()
}

/// An id goes into every log line about its request.
const MAX_CALL_ID: usize = 128;

/// Refuses a head that is longer than the limit. The listener's own limit is the size of its
/// read buffer, which is larger: a small one would cut bodies into small reads.
fn check_head(head: &request::Parts, limits: &Limits) -> Result<(), Box<Rejection>> {
    let most = limits.max_head_bytes.max(LEAST_HEAD_BYTES);
    let line = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if line + headers.sum::<usize>() > most {
        Err(Rejection::long_head(most).into())
    } else {
        Ok(())
    }
}

/// A smaller limit would refuse ordinary clients.
const LEAST_HEAD_BYTES: usize = 8 * 1024;

/// Reads the body, at most as much and for as long as the limits say. Where its length is
/// announced there is room for all of it, or nothing is read.
async fn collect(
    body: Incoming,
    headers: &HeaderMap,
    limits: &Limits,
    mut hold: Hold,
) -> Result<(Bytes, Hold), Box<Rejection>> {
    let announced = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limits.max_body_bytes) {
        return Err(Rejection::too_large(limits.max_body_bytes).into());
    }
    let no_room = || Rejection::no_room(limits.max_buffered_bytes);
    hold.grow(announced.unwrap_or_default()).map_err(|NoRoom| no_room())?;
    match in_time(limits.body_timeout, read(body, limits.max_body_bytes, &mut hold)).await {
        Err(_) => Err(Rejection::slow_body(limits.body_timeout).into()),
        Ok(Err(Unread::Broken)) => Err(Rejection::broken_body().into()),
        Ok(Err(Unread::Gone)) => Err(Rejection::broken_body().for_nobody().into()),
        Ok(Err(Unread::TooLong)) => Err(Rejection::too_large(limits.max_body_bytes).into()),
        Ok(Err(Unread::NoRoom)) => Err(no_room().into()),
        Ok(Ok(bytes)) => Ok((bytes, hold)),
    }
}

/// A future with a deadline that costs nothing where the future is ready at once, as the body of
/// a small request is: it came with its head.
async fn in_time<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = std::pin::pin!(future);
    match poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => tokio::time::timeout(limit, future).await,
    }
}

/// Why a body could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    Broken,
    /// Who sent it has closed the connection.
    Gone,
    NoRoom,
    TooLong,
}

/// Reads a body to its end. One that comes in one piece is not copied.
async fn read(
    mut body: impl http_body::Body<Data = Bytes, Error = hyper::Error> + Unpin,
    most: u64,
    hold: &mut Hold,
) -> Result<Bytes, Unread> {
    let mut pieces = crate::protocol::Rope::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|why| if is_gone(&why) { Unread::Gone } else { Unread::Broken })?;
        if let Ok(piece) = frame.into_data() {
            pieces.push(piece);
            if pieces.len() as u64 > most {
                return Err(Unread::TooLong);
            }
            hold.grow_to(pieces.len() as u64).map_err(|NoRoom| Unread::NoRoom)?;
        }
    }
    Ok(pieces.to_bytes())
}

/// Whether a body broke off because its connection did.
fn is_gone(why: &hyper::Error) -> bool {
    let cause = std::error::Error::source(why).and_then(|it| it.downcast_ref::<io::Error>());
    let kind = cause.map(io::Error::kind);
    why.is_incomplete_message()
        || matches!(kind, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof))
}

/// Whole milliseconds with three decimals: `12.345`.
fn milliseconds(time: Duration) -> String {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (mut whole, mut part) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (whole, part) = (whole.format(micros / 1000), part.format(micros % 1000));
    [whole, ".", "00".get(part.len() - 1..).unwrap_or(""), part].concat()
}

/// Time since `start`.
fn since(start: Instant) -> Duration {
    time::now().saturating_duration_since(start)
}

/// Endpoints whose answers name their model at the top.
const fn names_model(endpoint: Endpoint) -> bool {
    !matches!(endpoint, Endpoint::CountTokens)
}
