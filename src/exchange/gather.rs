//! A plain call that is carried as a stream: its answer is read to the end and put together.
//!
//! Only a stream shows early that an answer is coming, so that a late try can be hedged and the
//! loser ended before it has written its whole answer. A client does not see it: the answer is
//! what the provider would have sent in one piece, a break before its end is a failed try as any
//! other, and the time a try may take is that of a whole answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;

use super::attempt::{self, Finished, Job, Refusal, RefusalBody, Stream, Whole};
use super::buffered::{Hold, NoRoom};
use super::live::Live;
use super::race::Won;
use super::silence::{self, Progress};
use super::used::Used;
use super::{lessons, opening};
use crate::account::TryEnd;
use crate::endpoint;
use crate::lexicon::{Class, HedgeMode, time};
use crate::protocol::watch::Sign;
use crate::protocol::{Assembly, Call, Edits, Fields, Garbled};
use crate::provider::Deployment;
use crate::routing::{Launch, Resolved};

/// The call as a stream, where `pillion.hedge.stream_upstream` asks for it, a hedge may be made,
/// and each deployment of the group can carry it; else `None`.
pub(super) fn as_stream(job: Job<'_>, target: &Resolved) -> Option<Call> {
    let Job { live, call, .. } = job;
    let group = live.routes.group(target.group)?;
    let mode = call.wishes.hedge.unwrap_or(group.hedge.mode);
    if !group.hedge.stream_upstream || mode == HedgeMode::Disabled || call.stream {
        return None;
    }
    let can_carry = |at| live.deployment(at).is_some_and(Deployment::can_carry);
    let is_worth_it = group.members.len() > 1
        && target.only.is_none()
        && group.members.iter().all(|member| can_carry(member.deployment));
    if !is_worth_it || Assembly::new(call.endpoint).is_none() || !endpoint::is_repeatable(call) {
        return None;
    }
    let mut edits = Edits::new();
    edits.set("stream", "true");
    let body = edits.apply(&call.body, &call.fields).to_bytes();
    let fields = Fields::of(&body).ok()?;
    Some(Call { stream: true, body, fields, ..call.clone() })
}

/// Reads a stream to its end.
///
/// Cancel safety: dropping the future ends the call at the wire; what it has used so far counts.
pub(super) async fn gather(job: Job<'_>, launch: Launch<'_>, stream: Stream) -> Finished {
    let job = job.at(launch.member.deployment);
    let left = launch.patience.whole.saturating_sub(super::since(stream.served.since));
    let mut gathering = Gathering::of(job, stream);
    let read = tokio::time::timeout(left, gathering.read()).await;
    let body = read.unwrap_or_else(|_| Err(attempt::too_late("no answer", launch.patience.whole)));
    let whole = body.and_then(|body| gathering.whole(body));
    let now = time::now();
    match whole {
        Ok(whole) => {
            let row = whole.served.in_flight.row();
            let pause = gathering.progress.longest;
            lessons::of_stream(&whole.served, whole.used.usage, None, (pause, now));
            row.succeeded(&whole.used.answer(&whole.served, now), now);
            Finished { result: Ok(Won::Whole(whole)), end: Some(TryEnd::Answered) }
        }
        Err(refusal) => {
            let end = gathering.fail(job, &launch, &refusal, now);
            Finished { result: Err(refusal), end }
        }
    }
}

/// A stream that is being read. Dropped before its end it charges what was used.
pub(super) struct Gathering<'a> {
    pub live: &'a Live,
    /// `None` when it is over.
    pub stream: Option<Box<Stream>>,
    progress: Progress,
    /// The memory its answer takes.
    hold: Hold,
}

impl<'a> Gathering<'a> {
    pub(super) fn of(job: Job<'a>, stream: Stream) -> Self {
        let live = job.live;
        let progress = Progress::new(stream.patience.stall, time::now());
        let hold = job.gateway.buffered.hold(live.limits.max_buffered_in_all());
        Self { live, stream: Some(Box::new(stream)), progress, hold }
    }

    /// The answer, put together.
    async fn read(&mut self) -> Result<Bytes, Box<Refusal>> {
        let gone = || cut("its deployment is gone");
        let stream = self.stream.as_mut().ok_or_else(gone)?;
        let deployment = self.live.deployment(stream.served.deployment).ok_or_else(gone)?;
        let mut assembly = Assembly::new(stream.endpoint).ok_or_else(gone)?;
        for (_, event) in std::mem::take(&mut stream.held) {
            assembly.event(&event).map_err(|why| garbled(&why))?;
        }
        let most = self.live.limits.max_answer_bytes;
        let mut room = most;
        loop {
            while let Some(event) = stream.framer.next() {
                let sign = add(&mut assembly, stream, &event, deployment)?;
                if sign == Sign::Content {
                    self.progress.made();
                }
                if sign == Sign::Done {
                    // Read to its end, its connection serves the next call.
                    let _ = tokio::time::timeout(GRACE, stream.body.frame()).await;
                    return assembly.whole().map_err(|why| garbled(&why));
                }
            }
            let Some(frame) = next(stream, &mut self.progress).await? else { break };
            let chunk = frame.into_data().unwrap_or_default();
            room = room.checked_sub(chunk.len() as u64).ok_or_else(|| {
                cut(&format!("the provider's answer is longer than {most} bytes"))
            })?;
            self.hold.grow(chunk.len() as u64).map_err(|NoRoom| Refusal::no_room())?;
            stream.framer.push(chunk).map_err(|_| cut("the provider sent an endless event"))?;
        }
        if let Some(event) = stream.framer.rest() {
            add(&mut assembly, stream, &event, deployment)?;
        }
        if !stream.watch.is_whole() {
            return Err(cut("the provider's stream ended before its answer was whole"));
        }
        assembly.whole().map_err(|why| garbled(&why))
    }

    /// The answer as if it had come in one piece.
    fn whole(&mut self, body: Bytes) -> Result<Box<Whole>, Box<Refusal>> {
        let fields = Fields::of(&body).map_err(|why| garbled(&Garbled(why.to_string())))?;
        let stream = self.stream.take().ok_or_else(|| cut("it was read before"))?;
        let Stream { headers, translator, endpoint, served, path, watch, .. } = *stream;
        if watch.has_no_reason() {
            served.in_flight.row().gave_no_reason();
        }
        let price = self.live.price(served.deployment);
        let used = Used::of_whole(endpoint, (&body, &fields), &served.prompt, price);
        let hold = self.hold.take();
        Ok(Box::new(Whole {
            headers,
            body,
            hold,
            fields,
            endpoint,
            translator,
            used,
            served,
            path,
        }))
    }

    /// Counts a failure of the deployment, and what was used for nothing.
    pub(super) fn fail(
        &mut self,
        job: Job<'_>,
        launch: &Launch<'_>,
        refusal: &Refusal,
        now: Instant,
    ) -> Option<TryEnd> {
        let stream = self.stream.take()?;
        let row = stream.served.in_flight.row();
        self.charge(&stream, now);
        if let RefusalBody::NoRoom = refusal.body {
            return Some(TryEnd::Failed { class: refusal.failure.class, cooled: false });
        }
        lessons::of_stream(&stream.served, None, Some(refusal.failure), (Duration::ZERO, now));
        job.count_failure(refusal.failure, row, launch, None)
    }

    fn charge(&self, stream: &Stream, now: Instant) {
        let price = self.live.price(stream.served.deployment);
        let used = Used::so_far(&stream.watch, &stream.served.prompt, price);
        stream.served.in_flight.row().charged(used.tokens(), used.cost, now);
    }
}

/// The next bytes; `None` at the end.
async fn next(
    stream: &mut Stream,
    progress: &mut Progress,
) -> Result<Option<Frame<Bytes>>, Box<Refusal>> {
    let frame = poll_fn(|cx| match Pin::new(&mut stream.body).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Ok(frame)),
        Poll::Pending => progress.poll(cx).map(Err),
    });
    let frame = frame.await.map_err(|limit| {
        Refusal::ours(Class::Timeout, 408, silence::said(limit)).of_one_that_may_have_run()
    })?;
    progress.now = time::now();
    frame.transpose().map_err(|_| cut("the provider's stream broke off"))
}

/// Adds one event, unless it is the provider's error.
fn add(
    assembly: &mut Assembly,
    stream: &mut Stream,
    event: &[u8],
    deployment: &Deployment,
) -> Result<Sign, Box<Refusal>> {
    let sign = read_event(stream, event, deployment)?;
    if sign != Sign::Noise {
        assembly.event(event).map_err(|why| garbled(&why))?;
    }
    Ok(sign)
}

/// What an event means that no client has seen yet: one that is an error, or of which something is
/// lost, fails the try.
pub(super) fn read_event(
    stream: &mut Stream,
    event: &[u8],
    deployment: &Deployment,
) -> Result<Sign, Box<Refusal>> {
    let sign = stream.watch.event(event);
    match sign {
        Sign::Content | Sign::Done | Sign::Life | Sign::Usage => {}
        Sign::Fault => {
            return Err(opening::fault_in_stream(deployment, stream.headers.clone(), event));
        }
        Sign::Garbled => return Err(cut(opening::GARBLED)),
        Sign::Lost => return Err(cut(opening::LOST)),
        Sign::Noise => stream.served.in_flight.row().skipped(),
    }
    Ok(sign)
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.charge(&stream, time::now());
        }
    }
}

/// How long to wait for a provider to close its body after its own end mark. It nearly always has
/// by then, and the client waits.
const GRACE: Duration = Duration::from_millis(5);

pub(super) fn cut(why: &str) -> Box<Refusal> {
    Refusal::ours(Class::Connection, 502, why).of_one_that_may_have_run()
}

fn garbled(why: &Garbled) -> Box<Refusal> {
    Refusal::ours(Class::BadGateway, 502, why.to_string())
}
