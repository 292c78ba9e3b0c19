//! How a stream ended: what it used, what that teaches, and its place in the record.

use super::super::attempt::over;
use super::super::lessons;
use super::super::used::Used;
use super::{Phase, Relay};
use crate::account::{End, TryEnd};
use crate::lexicon::{Failure, time};
use crate::stats::Failed;

impl Relay {
    /// Writes down how it ended; the record goes out when the relay is dropped.
    pub(super) fn close(&mut self, end: End, failure: Option<Failure>) {
        let now = time::now();
        let used = self.used();
        let record = &mut self.ledger.record;
        used.note(record, &self.live);
        record.end = end;
        record.class = failure.map(|failure| failure.class);
        let row = self.served.in_flight.row();
        lessons::of_stream(&self.served, used.usage, failure, (self.progress.longest, now));
        let end = match failure {
            None => {
                row.succeeded(&used.answer(&self.served, now), now);
                TryEnd::Answered
            }
            Some(failure) => {
                row.charged(used.tokens(), used.cost, now);
                let who = self.live.member(self.served.deployment);
                let settings = self.live.routes.settings();
                let failed = Failed {
                    failure,
                    callers_timeout: false,
                    ticket: None,
                    entropy: fastrand::u64(..),
                };
                let cooled = who.and_then(|who| row.failed(settings, who, &failed, now));
                TryEnd::Failed { class: failure.class, cooled: cooled.is_some() }
            }
        };
        let (at, since) = (self.served.deployment, self.served.since);
        record.attempts.extend(over(&self.live, at, since, now, end));
    }

    /// What was used so far.
    fn used(&self) -> Used {
        let price = self.live.price(self.served.deployment);
        Used::so_far(&self.watch, &self.served.prompt, price)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.phase == Phase::Flowing {
            // The client went away; what the provider told so far is all there is.
            let now = time::now();
            let used = self.used();
            let record = &mut self.ledger.record;
            record.end = End::Abandoned;
            record.status = 499;
            used.note(record, &self.live);
            self.served.in_flight.row().charged(used.tokens(), used.cost, now);
            let (at, since) = (self.served.deployment, self.served.since);
            record.attempts.extend(over(&self.live, at, since, now, TryEnd::Abandoned));
        }
    }
}
