//! A stream on its way to the client. It is polled from the provider when the client's connection
//! polls it: no task, no channel, and the socket's own back-pressure.
//!
//! Promises that a stream that breaks off never looks whole: it ends with an error event in the
//! client's dialect and without the dialect's end mark.

mod end;
mod fault;
mod recovery;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::attempt::{Served, Stream};
use super::body::Body;
use super::head;
use super::live::Live;
use super::opening::{GARBLED, LOST};
use super::silence::{Progress, Silence};
use crate::account::{End, Ledger, Record};
use crate::lexicon::time;
use crate::protocol::sse::{Framer, closed};
use crate::protocol::watch::{Sign, Watch};
use crate::protocol::{Dialect, Endpoint, Translator, name};
use crate::upstream::Answer;
use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http_body::{Body as _, Frame};
use recovery::Recovery;

pub(super) use recovery::Recovering;

/// The answer that relays `stream`.
pub(super) fn response(stream: Stream, live: &Arc<Live>, mut ledger: Ledger) -> Response<Body> {
    ledger.record.status = 200;
    let mut headers = http::HeaderMap::new();
    head::copy_providers(&stream.headers, &mut headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    head::add_ours(&mut headers, live, &ledger, &stream.path);
    let relay = Relay::new(stream, live.clone(), ledger);
    let mut response = Response::new(Body::relay(relay));
    *response.headers_mut() = headers;
    response
}

/// A stream on its way to the client.
#[derive(Debug)]
pub(super) struct Relay {
    /// `None` once nothing more is wanted of it.
    body: Option<Answer>,
    framer: Framer,
    watch: Watch,
    held: VecDeque<(Sign, Bytes)>,
    translator: Option<Box<dyn Translator>>,
    usage_is_ours: bool,
    dialect: Dialect,
    silence: Silence,
    progress: Progress,
    served: Served,
    phase: Phase,
    live: Arc<Live>,
    ledger: Ledger,
    /// What becomes of it if it breaks off; `None` where it ends then.
    recovery: Option<Recovery>,
    /// The notes of the try for a second stream.
    second: Option<Box<Record>>,
    /// What the client hears last.
    parting: Bytes,
}

/// What comes next of a stream.
#[derive(Debug)]
pub(super) enum Next {
    /// It broke off and goes on as [`Recovering`].
    Broken,
    /// Bytes for the client.
    Bytes(Bytes),
    /// Nothing more.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It broke off, and another stream may take its place.
    Broken,
    /// Events come and go.
    Flowing,
    /// The end mark has gone out; the provider may still close its body, which keeps the
    /// connection for the next call.
    Closing,
    /// Nothing more goes out.
    Over,
}

/// How long to wait for a provider to close its body after its own end mark.
const GRACE: Duration = Duration::from_millis(100);

impl Relay {
    fn new(stream: Stream, live: Arc<Live>, ledger: Ledger) -> Self {
        let dialect = ledger.record.endpoint.map_or(Dialect::OpenAi, Endpoint::dialect);
        Self {
            body: Some(stream.body),
            framer: stream.framer,
            watch: stream.watch,
            held: stream.held.into(),
            translator: stream.translator,
            usage_is_ours: stream.usage_is_ours,
            dialect,
            silence: Silence::new(stream.patience.silence, time::now()),
            progress: Progress::new(stream.patience.stall, time::now()),
            served: stream.served,
            phase: Phase::Flowing,
            live,
            recovery: Recovery::of(stream.again, ledger.record.endpoint),
            second: None,
            parting: Bytes::new(),
            ledger,
        }
    }

    /// Goes on with another stream.
    fn take_up(&mut self, stream: Stream) {
        let now = time::now();
        self.body = Some(stream.body);
        self.framer = stream.framer;
        self.watch = stream.watch;
        self.held = stream.held.into();
        self.translator = stream.translator;
        self.usage_is_ours = stream.usage_is_ours;
        self.silence = Silence::new(stream.patience.silence, now);
        self.progress = Progress::new(stream.patience.stall, now);
        // The client goes on to see the name that it saw first.
        let name = std::mem::take(&mut self.served.name);
        self.served = Served { name, ..stream.served };
        self.phase = Phase::Flowing;
    }

    /// What comes next for the client.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut out = BytesMut::new();
        loop {
            if self.phase == Phase::Flowing {
                self.pump(&mut out);
                self.hold_kept(&mut out);
            }
            if !self.parting.is_empty() {
                out.extend_from_slice(&std::mem::take(&mut self.parting));
            }
            if !out.is_empty() {
                return Poll::Ready(Next::Bytes(out.freeze()));
            }
            if self.phase == Phase::Broken {
                return Poll::Ready(Next::Broken);
            }
            let body = self.body.as_mut().filter(|_| self.phase != Phase::Over);
            let Some(body) = body else { return Poll::Ready(Next::End) };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.take(frame, &mut out),
                // The answer is whole already; only its connection is lost.
                Poll::Ready(Some(Err(_))) if self.phase == Phase::Closing => {
                    self.phase = Phase::Over;
                }
                Poll::Ready(Some(Err(_))) if !self.watch.is_over() => {
                    self.cut("the provider's stream broke off", &mut out);
                }
                Poll::Ready(None | Some(Err(_))) => self.end_of_body(&mut out),
                Poll::Pending => match self.silence.poll(cx) {
                    Poll::Pending if self.phase == Phase::Closing => return Poll::Pending,
                    Poll::Pending => match self.progress.poll(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(limit) => self.stalled(limit, &mut out),
                    },
                    Poll::Ready(()) => self.fell_silent(&mut out),
                },
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>, out: &mut BytesMut) {
        let Ok(chunk) = frame.into_data() else { return };
        let now = time::now();
        self.silence.broken(now);
        self.progress.now = now;
        if self.phase == Phase::Flowing && self.framer.push(chunk).is_err() {
            self.cut("the provider sent an endless event", out);
        }
    }

    /// Hands over every whole event there is.
    fn pump(&mut self, out: &mut BytesMut) {
        while self.phase == Phase::Flowing {
            let (sign, event) = match self.held.pop_front() {
                Some(held) => held,
                None => match self.framer.next() {
                    None => return,
                    Some(event) => (self.watch.event(&event), event),
                },
            };
            self.pass(sign, &event, out);
        }
    }

    fn pass(&mut self, sign: Sign, event: &Bytes, out: &mut BytesMut) {
        if sign == Sign::Content {
            self.progress.made();
        }
        match sign {
            Sign::Fault => self.fault(event, out),
            Sign::Garbled => self.cut(GARBLED, out),
            Sign::Lost => self.cut(LOST, out),
            Sign::Noise => self.served.in_flight.row().skipped(),
            Sign::Usage if self.usage_is_ours && self.translator.is_none() => {}
            Sign::Content | Sign::Done | Sign::Life | Sign::Usage => {
                let from = out.len();
                match &mut self.translator {
                    None => name::rewrite(event, &self.served.name, out),
                    Some(translator) => {
                        if let Err(garbled) = translator.event(event, out) {
                            if self.join(from, out) {
                                self.cut(&garbled.to_string(), out);
                            }
                            return;
                        }
                    }
                }
                if self.join(from, out) && sign == Sign::Done {
                    self.done(out);
                }
            }
        }
    }

    /// The provider's end mark has come.
    fn done(&mut self, out: &mut BytesMut) {
        let from = out.len();
        if let Some(translator) = &mut self.translator
            && let Err(garbled) = translator.finish(out)
        {
            return self.cut(&garbled.to_string(), out);
        }
        if !self.join(from, out) {
            return;
        }
        if !self.is_joined() {
            return self.differs();
        }
        if self.watch.has_no_reason() {
            self.served.in_flight.row().gave_no_reason();
        }
        self.phase = Phase::Closing;
        self.silence = Silence::new(GRACE, time::now());
        self.close(End::Complete, None);
    }

    /// The provider's body has ended, with or without its end mark.
    fn end_of_body(&mut self, out: &mut BytesMut) {
        if self.phase == Phase::Closing {
            self.phase = Phase::Over;
            return;
        }
        if let Some(rest) = self.framer.rest() {
            let rest = closed(&rest);
            let sign = self.watch.event(&rest);
            self.pass(sign, &rest, out);
            if self.phase == Phase::Closing {
                self.phase = Phase::Over;
            }
            if self.phase != Phase::Flowing {
                return;
            }
        }
        if !self.watch.is_whole() {
            return self.cut("the provider's stream ended before its answer was whole", out);
        }
        self.done(out);
        if self.phase == Phase::Closing {
            if self.translator.is_none() {
                out.extend_from_slice(self.end_mark());
            }
            self.phase = Phase::Over;
        }
    }

    fn fell_silent(&mut self, out: &mut BytesMut) {
        if self.phase == Phase::Closing {
            self.phase = Phase::Over;
        } else {
            self.stalled(self.silence.limit, out);
        }
    }
}
