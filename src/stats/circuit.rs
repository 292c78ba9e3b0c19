//! The live state of a breaker, and the tries that are made while it is not closed.
//!
//! Promises that the place of a probe is given back whatever becomes of it: it is a guard. Two
//! threads that pick at the same moment may both send a probe.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::routing::cooldown::Breaker;
use crate::routing::cooldown::breaker::{Settings, Ticket};
use crate::routing::fleet::Cooldown;

/// A breaker that many threads read and few change.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    breaker: ArcSwap<Breaker>,
    /// Tries that were made though there was a reason to pass the deployment over.
    forced: AtomicU64,
    /// How often probes of this sidecar have closed it.
    recoveries: AtomicU64,
}

impl Circuit {
    pub(super) fn read(&self) -> Breaker {
        **self.breaker.load()
    }

    pub(super) fn forced(&self) -> u64 {
        self.forced.load(Ordering::Relaxed)
    }

    pub(super) fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Relaxed)
    }

    /// Takes in what the fleet has agreed on.
    pub(super) fn advise(&self, by: &Cooldown, now: Instant) {
        if self.read().advised(by, now).is_some() {
            self.change(|breaker| Some((breaker.advised(by, now)?, ())));
        }
    }

    /// Puts a state in the place of the one it was made of; `None` changes nothing. What is
    /// returned besides belongs to the state that came to stay.
    pub(super) fn change<T: Default>(&self, step: impl Fn(Breaker) -> Option<(Breaker, T)>) -> T {
        let mut told = T::default();
        self.breaker.rcu(|now| {
            let (next, more) = step(**now).unwrap_or_else(|| (**now, T::default()));
            told = more;
            next
        });
        told
    }

    /// A try that begins. It takes a place among the probes where the breaker is not closed.
    pub(super) fn enter(&self, settings: &Settings, now: Instant) -> Trial<'_> {
        // All there is to do on nearly every call.
        if self.read().entered(settings, now).is_none() {
            return Trial { circuit: self, ticket: None };
        }
        let ticket: Option<Ticket> = self.change(|breaker| {
            let (next, ticket) = breaker.entered(settings, now)?;
            Some((next, Some(ticket)))
        });
        if ticket.is_some_and(|ticket| ticket.is_forced) {
            self.forced.fetch_add(1, Ordering::Relaxed);
        }
        Trial { circuit: self, ticket }
    }

    /// Any success.
    pub(super) fn succeeded(&self, now: Instant) {
        if self.read().succeeded(now).is_some() {
            self.change(|breaker| Some((breaker.succeeded(now)?, ())));
        }
    }
}

/// A try, as the breaker of its deployment sees it. Its place is free when this is dropped.
#[must_use = "the place among the probes is free when this is dropped"]
#[derive(Debug)]
pub struct Trial<'a> {
    circuit: &'a Circuit,
    ticket: Option<Ticket>,
}

impl Trial<'_> {
    /// Notes that it succeeded: that its answer, or the first content of its stream, has come.
    /// Says whether that ended the cooldown.
    pub fn passed(&self, settings: &Settings, now: Instant) -> bool {
        let Some(ticket) = self.ticket else { return false };
        let (closed, proved) = self.circuit.change(|breaker| {
            let next = breaker.passed(settings, ticket, now);
            let closed = next.is_closed() && !breaker.is_closed();
            Some((next, (closed, closed && breaker.probes().is_some())))
        });
        if proved {
            self.circuit.recoveries.fetch_add(1, Ordering::Relaxed);
        }
        closed
    }

    /// Whether it was made while the breaker was not closed, and in which opening.
    pub fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.circuit.change(|breaker| Some((breaker.left(ticket), ())));
        }
    }
}
