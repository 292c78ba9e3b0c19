//! The tries of one request that run now, and their notes in its record.
//!
//! Promises that every try is noted once, however it ends: with an answer or a failure, because
//! another one was first, or because the client went away and all of this was dropped.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use smallvec::SmallVec;

use super::attempt::{Finished, Job, Refusal, Stream, over};
use super::race::Won;
use super::{gather, hold, lessons};
use crate::account::{Ledger, Record, TryEnd, Wasted};
use crate::lexicon::{DeploymentIx, HedgeMode, time};
use crate::routing::table::fill;
use crate::routing::{Hedged, Late, Launch, Role, Shape};
use crate::stats::{Fate, Noted, Seat};

/// The tries that run. Dropping it ends them at the wire.
pub(super) struct Tries<'a> {
    job: Job<'a>,
    notes: Notes<'a>,
    running: SmallVec<[Running<'a>; 2]>,
    /// Since when one runs without a break.
    since: Option<Instant>,
    /// Since when the request waits for a seat.
    queued: Option<Instant>,
    /// The hedge that was made last, and who was late.
    hedge: Option<(DeploymentIx, DeploymentIx)>,
    /// The hedge that was only observed: who would have been asked, and when.
    unhedged: Option<(DeploymentIx, Instant)>,
}

/// Where tries are noted.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    /// The record of the request.
    pub record: &'a mut Record,
    /// When the request began.
    pub opened: Instant,
    /// How tries end that are dropped before one has answered.
    pub rest: TryEnd,
}

impl<'a> Notes<'a> {
    /// Those of a request whose client may go away.
    pub(super) fn of(ledger: &'a mut Ledger) -> Self {
        let opened = ledger.opened();
        Self { record: &mut ledger.record, opened, rest: TryEnd::Abandoned }
    }
}

struct Running<'a> {
    launch: Launch<'a>,
    since: Instant,
    /// What its wait speaks of; `None` when the wait is over, because its content has begun.
    waits: Option<Shape>,
    future: Calling<'a>,
}

/// A call on its way.
type Calling<'a> = Pin<Box<dyn Future<Output = Finished> + Send + 'a>>;

impl<'a> Tries<'a> {
    pub(super) fn new(job: Job<'a>, notes: Notes<'a>) -> Self {
        let running = SmallVec::new();
        Self { job, notes, running, since: None, queued: None, hedge: None, unhedged: None }
    }

    /// Starts a try at `since`, in the seat that was kept for it.
    pub(super) fn start(&mut self, launch: Launch<'a>, seat: Option<Seat>, since: Instant) {
        self.note_seated();
        let record = &mut *self.notes.record;
        record.tries += 1;
        if launch.fallbacks > record.fallbacks {
            record.fallbacks = launch.fallbacks;
        }
        if launch.retries > 0 {
            record.retries += 1;
        }
        match (launch.role, self.running.last()) {
            (Role::Hedge, Some(late)) => {
                self.hedge = Some((late.launch.member.deployment, launch.member.deployment));
                if let Some(hedges) = self.job.live.hedges.get(launch.group.at) {
                    hedges.note(self.job.shape.kind(), Noted::Made);
                }
            }
            (Role::Hedge | Role::Lead, _) => note(record, &launch, self.job),
        }
        let job = self.job.at(launch.member.deployment);
        self.since.get_or_insert(since);
        let waits = Some(job.shape);
        let future = Box::pin(job.run(launch.clone(), seat, since));
        self.running.push(Running { launch, since, waits, future });
    }

    /// Goes on with a try whose answer has begun to come; all others have lost.
    pub(super) fn read_on(&mut self, launch: Launch<'a>, stream: Stream) {
        self.end_rest();
        let since = stream.served.since;
        self.since.get_or_insert(time::now());
        let job = self.job;
        let future: Calling<'a> = if job.call.stream {
            Box::pin(hold::hold(job, launch.clone(), stream))
        } else {
            Box::pin(gather::gather(job, launch.clone(), stream))
        };
        self.running.push(Running { launch, since, waits: None, future });
    }

    /// Ends all that run: another one was better.
    pub(super) fn end_rest(&mut self) {
        self.end_all(TryEnd::Lost(Wasted::default()));
    }

    /// The next try that came to something; `None` when the moment has come first.
    ///
    /// Cancel safety: nothing is lost, the tries go on when it is called again.
    pub(super) async fn next(
        &mut self,
        until: Option<Instant>,
    ) -> Option<(Launch<'a>, Result<Won, Box<Refusal>>)> {
        let (at, finished) = match until {
            None => poll_fn(|cx| self.poll(cx)).await,
            Some(until) => {
                let mut timer = pin!(tokio::time::sleep_until(until.into()));
                let first = poll_fn(|cx| match self.poll(cx) {
                    Poll::Ready(finished) => Poll::Ready(Some(finished)),
                    Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
                });
                first.await?
            }
        };
        let (over, now) = (self.running.remove(at), time::now());
        self.note_end(&over, finished.end, now);
        self.note_cut(&over, &finished.result);
        if let Ok(won) = &finished.result {
            self.teach_worth(&over, now);
            self.note_winner(&over, won, now);
        } else if self.running.is_empty() {
            self.notes.record.first_token = None;
            self.note_pause(now);
        }
        Some((over.launch, finished.result))
    }

    /// Notes what became of the hedge, and how the pair of deployments did.
    pub(super) fn note_hedge(&mut self, hedged: Hedged, winner: Option<&Launch<'_>>) {
        let record = &mut *self.notes.record;
        record.hedge = match (hedged, winner.map(|winner| winner.role)) {
            (Hedged::No, _) => None,
            (Hedged::Forgone(why), _) => Some(why.as_str()),
            (Hedged::Made, Some(Role::Hedge)) => Some("won"),
            (Hedged::Made, Some(Role::Lead)) => Some("lost"),
            (Hedged::Made, None) => Some("failed"),
        };
        let (Some(outcome), Some(asked)) = (record.hedge, record.deployment) else { return };
        let Some(books) = self.job.live.hedges_of(asked) else { return };
        books.note(self.job.shape.kind(), Noted::Outcome(outcome));
        let Some((first, second)) = self.hedge else { return };
        let live = self.job.live;
        let ids = (live.deployment(first), live.deployment(second));
        if let (Some(first), Some(second)) = ids {
            books.ended(&first.id, &second.id, outcome == "won", time::now());
        }
    }

    /// Notes that the request waits for a seat from now on, if it does not already.
    pub(super) fn note_queued(&mut self) {
        self.queued.get_or_insert_with(time::now);
    }

    /// Notes how long it has waited for a seat, if it did.
    fn note_seated(&mut self) {
        if let Some(since) = self.queued.take() {
            *self.notes.record.queued.get_or_insert_default() += super::since(since);
        }
    }

    /// Notes whether a failed try was not followed by another in its group for want of budget.
    pub(super) fn note_unpaid(&mut self, unpaid: bool) {
        self.notes.record.unpaid = unpaid;
    }

    /// Notes a break that no client has seen, because the beginning of the stream was kept back.
    fn note_cut(&mut self, over: &Running<'a>, result: &Result<Won, Box<Refusal>>) {
        let record = &mut *self.notes.record;
        match result {
            Err(_) if self.job.call.stream && over.waits.is_none() => {
                record.recovery = Some("failed");
            }
            Ok(_) if record.recovery.is_some() => record.recovery = Some("unseen"),
            Ok(_) | Err(_) => {}
        }
    }

    /// Notes that a late try would have been hedged, had hedging not only been observed.
    pub(super) fn note_unhedged(&mut self, late: &Late<'_>, now: Instant) {
        self.unhedged = Some((late.second.deployment, now));
        self.notes.record.unhedged = Some(late.second.deployment);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Finished)> {
        for (at, running) in self.running.iter_mut().enumerate() {
            if let Poll::Ready(finished) = running.future.as_mut().poll(cx) {
                return Poll::Ready((at, finished));
            }
        }
        Poll::Pending
    }

    /// Tells what the first try of the request shows of the worth of hedging.
    fn teach_worth(&self, winner: &Running<'a>, now: Instant) {
        let late = self.running.iter().find(|running| running.launch.role == Role::Lead);
        let (primary, fate) = match (winner.launch.role, late) {
            (Role::Lead, _) => (winner, Fate::Answered),
            (Role::Hedge, Some(late)) => (late, Fate::Beaten),
            // It has failed before; what it would have taken is not known.
            (Role::Hedge, None) => return,
        };
        let (launch, Some(shape)) = (&primary.launch, primary.waits) else { return };
        let is_first = launch.retries == 0 && launch.fallbacks == 0;
        if !is_first || launch.group.hedge.mode == HedgeMode::Disabled {
            return;
        }
        let rows = &self.job.live.rows;
        let Some(row) = rows.get(launch.member.deployment) else { return };
        let waited = now.saturating_duration_since(primary.since);
        match self.unhedged.filter(|_| fate == Fate::Answered) {
            None => lessons::of_primary(row, shape, waited, fate),
            Some((other, at)) => {
                let after = at.saturating_duration_since(primary.since);
                lessons::of_unhedged(row, rows.get(other), shape, (waited, after));
            }
        }
    }

    fn note_winner(&mut self, over: &Running<'a>, won: &Won, now: Instant) {
        self.note_pause(now);
        let record = &mut *self.notes.record;
        if record.tries > 1 {
            note(record, &over.launch, self.job);
        }
        if let Won::Stream(_) = won {
            record.first_token = Some(now.saturating_duration_since(self.notes.opened));
        }
    }

    fn end_all(&mut self, end: TryEnd) {
        if self.running.is_empty() {
            return;
        }
        for running in std::mem::take(&mut self.running) {
            let now = time::now();
            let row = self.job.live.rows.get(running.launch.member.deployment);
            if let (Some(row), Some(shape)) = (row, running.waits) {
                let waited = now.saturating_duration_since(running.since);
                lessons::of_cut(row, self.job.call, shape, waited);
            }
            self.note_end(&running, Some(end), now);
        }
    }

    fn note_end(&mut self, over_now: &Running<'_>, end: Option<TryEnd>, now: Instant) {
        let at = over_now.launch.member.deployment;
        let noted = end.and_then(|end| over(self.job.live, at, over_now.since, now, end));
        self.notes.record.attempts.extend(noted);
    }

    /// No try runs any more.
    fn note_pause(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.notes.record.upstream += now.saturating_duration_since(since);
        }
    }
}

impl Drop for Tries<'_> {
    fn drop(&mut self) {
        self.end_all(self.notes.rest);
        self.note_seated();
    }
}

/// Who was asked last, or who has answered.
fn note(record: &mut Record, launch: &Launch<'_>, job: Job<'_>) {
    if launch.fallbacks > 0 {
        record.group = Some(launch.group.name.clone());
    }
    record.deployment = Some(launch.member.deployment);
    if let Some(deployment) = job.live.deployment(launch.member.deployment) {
        let asked = launch.name.unwrap_or(&job.call.model);
        record.upstream_model = Some(fill(&deployment.model, &launch.captures, asked).into());
        record.deployment_id = Some(deployment.id.clone());
        record.vendor = Some(deployment.vendor.prefix);
    }
}
