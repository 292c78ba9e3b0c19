//! The last seconds of a deployment: how fast it answers now, and how often it fails.
//!
//! Latency forgets with τ = 10 s: 5 s is hardly faster to see an incident and 30 s clearly slower.
//! Failures are a share of the last five outcomes or so, which forget with τ = 30 s. Where one of
//! three deployments fails half of its tries for a minute, sidecars with twenty tries a minute
//! each send it a fifth less than if all outcomes of those seconds counted; 60 s are no better. A
//! streak of failures is the affair of cooldown, which acts at once.

use std::time::Duration;

use super::advice::{FEWEST, Own};
use super::histogram::{Seen, single};
use crate::routing::view::Outlook;

const LATENCY_TIME: Duration = Duration::from_secs(10);
const FAILURE_TIME: Duration = Duration::from_secs(30);
/// Outcomes hold at most so many, so that the first failures of a busy deployment count.
const OUTCOMES: f64 = 5.0;
/// The least a failure costs its caller: it has to be noticed and tried elsewhere.
const LEAST_COST: Duration = Duration::from_secs(5);
/// The most, whatever the provider asks for.
const MOST_COST: Duration = Duration::from_secs(300);
/// What the fleet says of waits counts as so many answers at most.
const MOST_TOLD: f64 = 100.0;
/// A deployment nobody has heard of has answered this many times without a failure.
const TRUST: f64 = 1.0;

/// Decayed sums.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Lately {
    pub(super) waits: f64,
    /// Seconds at the reference prompt.
    pub(super) waited: f64,
    pub(super) answers: f64,
    pub(super) failures: f64,
    /// Seconds.
    pub(super) cost: f64,
}

impl Lately {
    /// Takes in a wait, in seconds at the reference prompt. One that was cut short took at least
    /// that long, and is no answer.
    pub(super) fn wait(&mut self, seconds: f64, seen: Seen) {
        self.waits += 1.0;
        self.waited += seconds;
        match seen {
            Seen::Answered => self.answers += 1.0,
            Seen::Censored => {}
        }
        self.cap();
    }

    pub(super) fn fail(&mut self, retry_after: Option<Duration>) {
        self.failures += 1.0;
        let cost = retry_after.unwrap_or_default().clamp(LEAST_COST, MOST_COST);
        self.cost += cost.as_secs_f64();
        self.cap();
    }

    pub(super) fn age(&mut self, elapsed: Duration) {
        let latency = faded(elapsed, LATENCY_TIME);
        let failure = faded(elapsed, FAILURE_TIME);
        self.waits *= latency;
        self.waited *= latency;
        self.answers *= failure;
        self.failures *= failure;
        self.cost *= failure;
    }

    /// Takes all waits as so many times longer.
    pub(super) fn stretch(&mut self, factor: f64) {
        self.waited *= factor;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.waits += other.waits;
        self.waited += other.waited;
        self.answers += other.answers;
        self.failures += other.failures;
        self.cost += other.cost;
        self.cap();
    }

    /// This with what the fleet says, within [bounds](super::advice) of what is usual here, or as
    /// far off as was seen here lately.
    pub(super) fn advised(&self, by: &Self, usual: Own) -> Self {
        let mut both = *self;
        let sums = [by.waits, by.waited, by.answers, by.failures, by.cost];
        if !sums.iter().all(|sum| sum.is_finite() && *sum >= 0.0) {
            return both;
        }
        if by.waits > 0.0 {
            let mut told = (by.waited / by.waits).min(MOST_COST.as_secs_f64());
            if let Some((least, most)) = usual.bounds() {
                let own = (self.waits >= FEWEST).then(|| self.waited / self.waits);
                let own = own.unwrap_or(usual.mean);
                told = told.clamp(least.min(own), most.max(own));
            }
            let waits = by.waits.min(MOST_TOLD);
            both.waits += waits;
            both.waited += waits * told;
        }
        // No more than as many outcomes as are kept of one's own.
        let part = (OUTCOMES / (by.answers + by.failures)).min(1.0);
        let failures = by.failures * part;
        both.answers += by.answers * part;
        both.failures += failures;
        let (least, most) = (LEAST_COST.as_secs_f64(), MOST_COST.as_secs_f64());
        if by.failures > 0.0 {
            both.cost += failures * (by.cost / by.failures).clamp(least, most);
        }
        both.cap();
        both
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, mass: f64, value: f64) {
        *self = Self { waits: mass, waited: value, answers: mass, failures: mass, cost: value };
    }

    pub(super) fn outlook(&self) -> Outlook {
        let mut outlook = Outlook::default();
        if self.waits > 0.0 {
            outlook.samples = single(self.waits);
            outlook.latency = single(self.waited / self.waits);
        }
        if self.failures > 0.0 {
            let outcomes = self.answers + self.failures + TRUST;
            outlook.failure_share = single(self.failures / outcomes);
            outlook.failure_cost = single(self.cost / self.failures);
        }
        outlook
    }

    fn cap(&mut self) {
        let outcomes = self.answers + self.failures;
        if outcomes > OUTCOMES {
            let factor = OUTCOMES / outcomes;
            self.answers *= factor;
            self.failures *= factor;
            self.cost *= factor;
        }
    }
}

/// What is left after `elapsed`: e^(−elapsed/τ).
fn faded(elapsed: Duration, time: Duration) -> f64 {
    (-elapsed.as_secs_f64() / time.as_secs_f64()).exp()
}
