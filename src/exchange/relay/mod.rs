//! A stream on its way to the client. It is polled from the provider when the client's connection
//! polls it: no task, no channel, and the socket's own back-pressure.
//!
//! Promises that a stream that breaks off never looks whole: it ends with an error event in the
//! client's dialect and without the dialect's end mark.

mod end;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::attempt::{Served, Stream};
use super::body::Body;
use super::head;
use super::live::Live;
use super::opening::GARBLED;
use super::silence::{Progress, Silence};
use crate::account::{End, Ledger};
use crate::lexicon::{Class, Failure, time};
use crate::protocol::sse::Framer;
use crate::protocol::watch::{Sign, Watch, payload};
use crate::protocol::{Dialect, Endpoint, Fault, Translator, name};
use crate::upstream::Answer;
use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http_body::{Body as _, Frame};

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
    body: Answer,
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
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
            body: stream.body,
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
            ledger,
        }
    }

    /// The next bytes for the client; `None` at the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut out = BytesMut::new();
        loop {
            if self.phase == Phase::Flowing {
                self.pump(&mut out);
            }
            if !out.is_empty() {
                return Poll::Ready(Some(out.freeze()));
            }
            if self.phase == Phase::Over {
                return Poll::Ready(None);
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.take(frame, &mut out),
                Poll::Ready(Some(Err(_))) => self.cut("the provider's stream broke off", &mut out),
                Poll::Ready(None) => self.end_of_body(&mut out),
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
            Sign::Noise => self.served.in_flight.row().skipped(),
            Sign::Usage if self.usage_is_ours && self.translator.is_none() => {}
            Sign::Content | Sign::Done | Sign::Life | Sign::Usage => {
                match &mut self.translator {
                    None => name::rewrite(event, &self.served.name, out),
                    Some(translator) => {
                        if let Err(garbled) = translator.event(event, out) {
                            return self.cut(&garbled.to_string(), out);
                        }
                    }
                }
                if sign == Sign::Done {
                    self.done(out);
                }
            }
        }
    }

    /// The provider's end mark has come.
    fn done(&mut self, out: &mut BytesMut) {
        if let Some(translator) = &mut self.translator
            && let Err(garbled) = translator.finish(out)
        {
            return self.cut(&garbled.to_string(), out);
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
        if let Some(mut rest) = self.framer.rest() {
            let sign = self.watch.event(&rest);
            // Without its blank line a client would lose the event.
            let mut whole = BytesMut::from(&rest[..]);
            whole.extend_from_slice(b"\n\n");
            rest = whole.freeze();
            self.pass(sign, &rest, out);
            if self.phase != Phase::Flowing {
                self.phase = Phase::Over;
                return;
            }
        }
        if !self.watch.is_whole() {
            return self.cut("the provider's stream ended before its answer was whole", out);
        }
        self.done(out);
        if self.translator.is_none() {
            out.extend_from_slice(self.end_mark());
        }
        self.phase = Phase::Over;
    }

    /// What ends a whole stream, for providers that end it without.
    fn end_mark(&self) -> &'static [u8] {
        match self.ledger.record.endpoint {
            Some(Endpoint::ChatCompletions | Endpoint::Completions) => b"data: [DONE]\n\n",
            Some(Endpoint::Messages) => {
                b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
            }
            Some(Endpoint::CountTokens | Endpoint::Embeddings | Endpoint::Responses) | None => b"",
        }
    }

    fn fell_silent(&mut self, out: &mut BytesMut) {
        if self.phase == Phase::Closing {
            self.phase = Phase::Over;
        } else {
            self.stalled(self.silence.limit, out);
        }
    }

    /// Nothing, or nothing of the answer, has come for so long.
    fn stalled(&mut self, limit: Duration, out: &mut BytesMut) {
        let why = format!("the provider fell silent for {} s", limit.as_secs_f64());
        self.fail(Failure::new(Class::Timeout, 408), Fault::new(self.dialect, 408, why), out);
    }

    /// The provider reports an error in the middle of its stream.
    fn fault(&mut self, event: &[u8], out: &mut BytesMut) {
        let body = payload(event).map(|data| Bytes::copy_from_slice(&data)).unwrap_or_default();
        let body = match self.live.deployment(self.served.deployment) {
            Some(deployment) => deployment.without_keys(body),
            None => body,
        };
        let failure = crate::provider::fault::in_good_answer(&body)
            .unwrap_or(Failure::new(Class::InternalServer, 500));
        let mut fault = Fault::read(&body);
        if fault.kind.is_empty() || self.dialect == Dialect::Anthropic {
            fault.kind = Fault::new(self.dialect, failure.status, "").kind;
        }
        self.fail(failure, fault, out);
    }

    fn cut(&mut self, why: &str, out: &mut BytesMut) {
        let fault = Fault::new(self.dialect, 502, format!("{why}; the answer so far is not whole"));
        self.fail(Failure::new(Class::Connection, 502), fault, out);
    }

    fn fail(&mut self, failure: Failure, mut fault: Fault, out: &mut BytesMut) {
        fault.code.get_or_insert_with(|| failure.status.to_string());
        out.extend_from_slice(&fault.event(self.dialect));
        self.phase = Phase::Over;
        self.close(End::Truncated, Some(failure));
    }
}
