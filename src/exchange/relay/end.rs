//! How a stream ended: what it used, what that teaches, and its place in the record.

use super::super::attempt::over;
use super::super::lessons;
use super::super::used::Used;
use super::recovery::Recovery;
use super::{Phase, Relay};
use crate::account::{End, TryEnd, Wasted};
use crate::lexicon::{Failure, time};
use crate::protocol::{Endpoint, Usage};
use crate::stats::Failed;

impl Relay {
    /// Writes down how it ended; the record goes out when the relay is dropped.
    pub(super) fn close(&mut self, end: End, failure: Option<Failure>) {
        self.settle(failure);
        let record = &mut self.ledger.record;
        record.end = end;
        record.class = failure.map(|failure| failure.class);
    }

    /// What ends a whole stream, for providers that end it without.
    pub(super) fn end_mark(&self) -> &'static [u8] {
        match self.ledger.record.endpoint {
            Some(Endpoint::ChatCompletions | Endpoint::Completions) => b"data: [DONE]\n\n",
            Some(Endpoint::Messages) => {
                b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
            }
            Some(Endpoint::CountTokens | Endpoint::Embeddings | Endpoint::Responses) | None => b"",
        }
    }

    /// Writes down how its try ended, and what was used.
    pub(super) fn settle(&mut self, failure: Option<Failure>) {
        let used = self.used();
        self.note(used);
        let end = self.count(failure, used);
        self.note_try(end, None);
    }

    /// The same for a second stream that is not the answer: the record tells of the first.
    pub(super) fn settle_beside(&mut self, failure: Option<Failure>) {
        let used = self.used();
        let end = if failure.is_some() {
            self.count(failure, used)
        } else {
            self.charge(used);
            TryEnd::Lost(Wasted::default())
        };
        self.note_try(end, Some(used));
    }

    /// The same for a stream that ends for want of our own memory.
    pub(super) fn settle_blameless(&mut self, failure: Failure) {
        let used = self.used();
        self.note(used);
        self.charge(used);
        self.note_try(TryEnd::Failed { class: failure.class, cooled: false }, None);
        let record = &mut self.ledger.record;
        record.end = End::Truncated;
        record.class = Some(failure.class);
    }

    /// Tells the statistics, and what the try came to.
    fn count(&self, failure: Option<Failure>, used: Used) -> TryEnd {
        let now = time::now();
        let row = self.served.in_flight.row();
        lessons::of_stream(&self.served, used.usage, failure, (self.progress.longest, now));
        let Some(failure) = failure else {
            row.succeeded(&used.answer(&self.served, now), now);
            return TryEnd::Answered;
        };
        self.charge(used);
        let who = self.live.member(self.served.deployment);
        let settings = self.live.routes.settings();
        let entropy = fastrand::u64(..);
        let failed = Failed { failure, callers_timeout: false, ticket: None, entropy };
        let cooled = who.and_then(|who| row.failed(settings, who, &failed, now));
        TryEnd::Failed { class: failure.class, cooled: cooled.is_some() }
    }

    fn charge(&self, used: Used) {
        self.served.in_flight.row().charged(used.tokens(), used.cost, time::now());
    }

    /// What the answer used; what lost beside it is known since the first stream.
    fn note(&mut self, used: Used) {
        let record = &mut self.ledger.record;
        if matches!(self.recovery, Some(Recovery::Joined(..))) {
            (record.usage, record.cost) = (used.usage, used.cost);
        } else {
            used.note(record, &self.live);
        }
    }

    fn note_try(&mut self, end: TryEnd, beside: Option<Used>) {
        let (at, since) = (self.served.deployment, self.served.since);
        let mut noted = over(&self.live, at, since, time::now(), end);
        if let Some(noted) = &mut noted {
            noted.beside = beside.map(|used| used.as_wasted());
        }
        self.ledger.record.attempts.extend(noted);
    }

    /// Adds the tries that were made for a second stream.
    pub(super) fn add_tries(&mut self) {
        let Some(second) = &mut self.second else { return };
        let record = &mut self.ledger.record;
        record.tries += std::mem::take(&mut second.tries);
        record.upstream += std::mem::take(&mut second.upstream);
        record.attempts.extend(std::mem::take(&mut second.attempts));
    }

    /// The record tells of the second stream from now on, and of the first one as a try beside it.
    pub(super) fn tell_of_second(&mut self, first: usize, outcome: &'static str) {
        let Some(second) = self.second.take() else { return };
        let record = &mut self.ledger.record;
        let used = Used { usage: record.usage.take(), cost: record.cost.take() };
        if let Some(first) = record.attempts.get_mut(first) {
            first.beside = Some(used.as_wasted());
        }
        record.deployment = second.deployment;
        record.deployment_id = second.deployment_id;
        record.upstream_model = second.upstream_model;
        record.vendor = second.vendor;
        record.recovery = Some(outcome);
    }

    /// What the first stream used, and at least as many tokens as the client got.
    pub(super) fn sent_so_far(&self) -> Usage {
        let used = self.ledger.record.usage.unwrap_or_default();
        Usage { completion: used.completion.max(self.watch.content_events), ..used }
    }

    /// What was used so far.
    fn used(&self) -> Used {
        let price = self.live.price(self.served.deployment);
        Used::so_far(&self.watch, &self.served.prompt, price)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        match self.phase {
            Phase::Closing | Phase::Over => return,
            // The client went away; what the provider told so far is all there is.
            Phase::Flowing if self.is_joined() => {
                let used = self.used();
                self.note(used);
                self.charge(used);
                self.note_try(TryEnd::Abandoned, None);
            }
            Phase::Flowing => {
                let used = self.used();
                self.charge(used);
                self.note_try(TryEnd::Abandoned, Some(used));
            }
            Phase::Broken => self.add_tries(),
        }
        let record = &mut self.ledger.record;
        record.end = End::Abandoned;
        record.status = 499;
        if matches!(self.phase, Phase::Broken) || !self.is_joined() {
            self.ledger.record.recovery = Some("failed");
        }
    }
}
