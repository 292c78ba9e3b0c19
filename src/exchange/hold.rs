//! The beginning of a stream that is kept back, so that a break in it is a failed try as any
//! other: the client has seen nothing, and another deployment can be asked.
//!
//! Promises that what is kept back is bounded in events, bytes and time, counts as
//! [buffered](super::buffered), and that nothing of it
//! reaches a client unless the whole of it does.

use http_body_util::BodyExt as _;

use super::attempt::{Finished, Job, Refusal, Stream};
use super::buffered::NoRoom;
use super::gather::{Gathering, cut, read_event};
use super::opening::{self, MOST_HELD_BYTES};
use super::race::Won;
use crate::lexicon::time;
use crate::protocol::watch::Sign;
use crate::provider::Deployment;
use crate::routing::Launch;

/// Reads a stream up to the end of its window.
///
/// Cancel safety: dropping the future ends the call at the wire; what it has used so far counts.
pub(super) async fn hold(job: Job<'_>, launch: Launch<'_>, mut stream: Stream) -> Finished {
    let Some(window) = stream.window.take() else {
        return Finished { result: Ok(Won::Stream(Box::new(stream))), end: None };
    };
    let mut reading = Gathering::of(job, stream);
    let held = tokio::time::timeout(window.time, reading.hold(u64::from(window.tokens))).await;
    // Whoever is slow is released as he is.
    let held = held.unwrap_or(Ok(()));
    match held.and_then(|()| reading.stream.take().ok_or_else(gone)) {
        Ok(stream) => Finished { result: Ok(Won::Stream(stream)), end: None },
        Err(refusal) => {
            let end = reading.fail(job, &launch, &refusal, time::now());
            Finished { result: Err(refusal), end }
        }
    }
}

impl Gathering<'_> {
    /// Reads until there are so many events with content, or the stream has ended as it should.
    ///
    /// Cancel safety: nothing is lost, all that was read is in the stream.
    async fn hold(&mut self, tokens: u64) -> Result<(), Box<Refusal>> {
        let stream = self.stream.as_mut().ok_or_else(gone)?;
        let deployment = self.live.deployment(stream.served.deployment).ok_or_else(gone)?;
        let mut room = MOST_HELD_BYTES;
        loop {
            while stream.watch.content_events < tokens {
                let Some(event) = stream.framer.next() else { break };
                room = room.saturating_sub(event.len());
                let sign = read_event(stream, &event, deployment)?;
                if sign != Sign::Noise {
                    stream.held.push((sign, event));
                }
                if sign == Sign::Done || room == 0 {
                    return Ok(());
                }
            }
            if stream.watch.content_events >= tokens {
                return Ok(());
            }
            let Some(frame) = stream.body.frame().await else {
                return ended(stream, deployment);
            };
            let frame = frame.map_err(|_| cut("the provider's stream broke off"))?;
            let chunk = frame.into_data().unwrap_or_default();
            stream.framer.push(chunk).map_err(|_| cut("the provider sent an endless event"))?;
            stream.hold_kept().map_err(|NoRoom| Refusal::no_room())?;
        }
    }
}

/// Whether a stream whose body has ended is whole. What is left in its framer stays there.
fn ended(stream: &mut Stream, deployment: &Deployment) -> Result<(), Box<Refusal>> {
    let mut ahead = stream.watch.clone();
    if let Some(rest) = stream.framer.rest() {
        if ahead.event(&rest) == Sign::Fault {
            return Err(opening::fault_in_stream(deployment, stream.headers.clone(), &rest));
        }
        stream.framer.push(rest).map_err(|_| cut("the provider sent an endless event"))?;
    }
    if ahead.is_whole() {
        Ok(())
    } else {
        Err(cut("the provider's stream ended before its answer was whole"))
    }
}

fn gone() -> Box<Refusal> {
    cut("its deployment is gone")
}
