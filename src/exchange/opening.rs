//! The beginning of a stream, up to its first event with content.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt as _;

use super::attempt::{Refusal, RefusalBody, Served, Stream};
use super::head::Path;
use super::race::Won;
use crate::lexicon::{Class, Failure};
use crate::protocol::sse::{Framer, MAX_EVENT_BYTES, closed};
use crate::protocol::watch::{Sign, Watch, payload};
use crate::protocol::{Endpoint, Translator};
use crate::provider::{self, Deployment};
use crate::routing::Patience;
use crate::routing::streams::Window;
use crate::upstream::Answer;

/// What a stream that is being opened carries along.
pub(super) struct Opening {
    pub headers: HeaderMap,
    pub translator: Option<Box<dyn Translator>>,
    pub usage_is_ours: bool,
    pub patience: Patience,
    pub served: Served,
    pub endpoint: Endpoint,
    pub watch: Watch,
    pub window: Option<Window>,
}

/// Reads a stream up to its first event with content.
///
/// Not the 200: some providers open the stream before they know that they are overloaded.
pub(super) async fn open(
    mut parts: Opening,
    mut body: Answer,
    deployment: &Deployment,
) -> Result<Won, Box<Refusal>> {
    let mut framer = Framer::new();
    let mut held = Vec::new();
    // What is no event; if nothing else comes, it may say why.
    let mut noise = BytesMut::new();
    let mut room = MOST_HELD_BYTES;
    loop {
        let ended = match body.frame().await {
            None => true,
            Some(Err(_)) => {
                let why = "the provider's stream broke off before any content";
                return Err(Refusal::ours(Class::Connection, 502, why).of_one_that_may_have_run());
            }
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data() {
                    framer.push(chunk).map_err(|_| {
                        Refusal::ours(Class::BadGateway, 502, "the provider sent an endless event")
                    })?;
                }
                false
            }
        };
        while let Some(event) = framer.next().or_else(|| last(&mut framer, ended)) {
            let sign = parts.watch.event(&event);
            match sign {
                Sign::Fault => return Err(fault_in_stream(deployment, parts.headers, &event)),
                Sign::Done => return Err(empty()),
                Sign::Garbled => return Err(Refusal::ours(Class::BadGateway, 502, GARBLED)),
                Sign::Lost => return Err(Refusal::ours(Class::BadGateway, 502, LOST)),
                Sign::Noise => {
                    parts.served.in_flight.row().skipped();
                    if noise.len() < LONGEST_NOISE {
                        noise.extend_from_slice(&event);
                    }
                }
                Sign::Content => {
                    held.push((sign, event));
                    return Ok(Won::Stream(Box::new(Stream {
                        headers: parts.headers,
                        body,
                        framer,
                        watch: parts.watch,
                        held,
                        translator: parts.translator,
                        usage_is_ours: parts.usage_is_ours,
                        endpoint: parts.endpoint,
                        patience: parts.patience,
                        window: parts.window,
                        served: parts.served,
                        path: Path::default(),
                        again: None,
                    })));
                }
                Sign::Life | Sign::Usage => {
                    room = room.saturating_sub(event.len());
                    if room == 0 || held.len() == MOST_HELD {
                        let why = "the provider's stream goes on and on without any content";
                        return Err(Refusal::ours(Class::BadGateway, 502, why));
                    }
                    held.push((sign, event));
                }
            }
        }
        let kept = framer.kept() + (MOST_HELD_BYTES - room) + noise.len();
        if parts.served.hold.fit(kept as u64).is_err() {
            return Err(Refusal::no_room());
        }
        if ended {
            return Err(said_without_events(deployment, parts.headers, noise.freeze()));
        }
    }
}

/// The last event of a body that has ended, if it has no blank line.
fn last(framer: &mut Framer, ended: bool) -> Option<Bytes> {
    let rest = ended.then(|| framer.rest()).flatten()?;
    Some(closed(&rest))
}

/// What is said of an event that was to be part of an answer and cannot be read.
pub(super) const GARBLED: &str = "the provider sent an event that cannot be read";

/// What is said of a stream in which events are missing.
pub(super) const LOST: &str = "something is missing in the provider's stream";

/// The failure of a stream that ended without content: the error it holds where that is no event,
/// as some servers send it under the content type of a stream.
fn said_without_events(deployment: &Deployment, headers: HeaderMap, body: Bytes) -> Box<Refusal> {
    match provider::fault::in_good_answer(&body) {
        None => empty(),
        Some(failure) => {
            let body = deployment.without_keys(body);
            let body = RefusalBody::Theirs(body, deployment.adapter.dialect());
            Box::new(Refusal { failure, headers, body })
        }
    }
}

/// An error is not longer.
const LONGEST_NOISE: usize = 64 * 1024;

/// How much is kept of a stream before its first content: pings of many minutes, and an opening
/// event that repeats a long request.
const MOST_HELD: usize = 4096;
pub(super) const MOST_HELD_BYTES: usize = MAX_EVENT_BYTES;

fn empty() -> Box<Refusal> {
    Refusal::ours(Class::BadGateway, 502, "the provider's stream ended before any content")
}

pub(super) fn fault_in_stream(
    deployment: &Deployment,
    headers: HeaderMap,
    event: &[u8],
) -> Box<Refusal> {
    let (failure, body) = read_fault(Some(deployment), event);
    let body = RefusalBody::Theirs(body, deployment.adapter.dialect());
    Box::new(Refusal { failure, headers, body })
}

/// What an event means that is an error, and its body without our keys.
pub(super) fn read_fault(deployment: Option<&Deployment>, event: &[u8]) -> (Failure, Bytes) {
    let body = payload(event).map(|data| Bytes::copy_from_slice(&data)).unwrap_or_default();
    let body = match deployment {
        Some(deployment) => deployment.without_keys(body),
        None => body,
    };
    let failure = provider::fault::in_good_answer(&body);
    (failure.unwrap_or(Failure::new(Class::InternalServer, 500)), body)
}
