//! How long a stream may be silent, and how long it may say nothing of the answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::lexicon::time;

/// What is said of a provider that has fallen silent for so long.
pub(super) fn said(limit: Duration) -> String {
    format!("the provider fell silent for {} s", limit.as_secs_f64())
}

/// How the answer gets on: the longest pause between two contents, and a limit on it.
#[derive(Debug)]
pub(super) struct Progress {
    /// When bytes came last.
    pub now: Instant,
    /// When content came last.
    last: Instant,
    pub longest: Duration,
    limit: Option<Silence>,
}

impl Progress {
    pub(super) fn new(limit: Option<Duration>, now: Instant) -> Self {
        let limit = limit.map(|limit| Silence::new(limit, now));
        Self { now, last: now, longest: Duration::ZERO, limit }
    }

    /// Content has come with the last bytes.
    pub(super) fn made(&mut self) {
        self.longest = self.longest.max(self.now.saturating_duration_since(self.last));
        self.last = self.now;
        if let Some(limit) = &mut self.limit {
            limit.broken(self.now);
        }
    }

    /// Ready, with the limit, when there was no content for so long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        match &mut self.limit {
            None => Poll::Pending,
            Some(limit) => limit.poll(cx).map(|()| limit.limit),
        }
    }
}

/// A limit on the time between two reads. Reading only notes the time; the timer is set anew
/// when it fires, so that a busy stream never touches it.
pub(super) struct Silence {
    pub limit: Duration,
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

impl std::fmt::Debug for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Silence").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Silence {
    pub(super) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, last: now, timer: Box::pin(tokio::time::sleep_until((now + limit).into())) }
    }

    pub(super) fn broken(&mut self, now: Instant) {
        self.last = now;
    }

    /// Ready when nothing was read for as long as the limit.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let until = self.last + self.limit;
            if until <= time::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until.into());
        }
    }
}
