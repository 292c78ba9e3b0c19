//! What is kept of requests to tell the effect of hedging: sums, which merge by addition.
//!
//! A primary is the first try of a request. What it shows depends on what became of it: it was
//! answered, a hedge cut it short, or a hedge would have been made and was not, because hedging is
//! only observed. Of the last nobody can see what the hedge would have taken, so it is spread over
//! all that it may have taken: what primaries take, in proportion to what is expected of the other
//! deployment.

use std::time::Duration;

use super::histogram::{BINS, Histogram, Seen, edge};
use super::survival::Curve;

/// What is kept of requests to tell the effect.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trial {
    /// Primaries, as multiples of their prediction.
    pub(super) residuals: Histogram,
    /// Their predictions, in seconds.
    pub(super) predictions: Histogram,
    /// What callers waited, in seconds.
    pub(super) served: Histogram,
    /// The same if the observed had been hedged.
    pub(super) hedged: Histogram,
    /// Primaries that a winning hedge cut short, by residual, weighted by prediction.
    pub(super) saved: Histogram,
    /// How many these are.
    pub(super) wins: f64,
    /// Requests in the histograms.
    weight: f64,
    pub(super) totals: Totals,
}

/// What is counted and never faded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) requests: f64,
    pub(super) wins: f64,
    pub(super) observed: Observed,
}

/// Hedges that were not made, because hedging is only observed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Observed {
    /// How many.
    pub hedges: f64,
    /// How many of them are expected to have been first.
    pub wins: f64,
    /// The seconds they are expected to have saved.
    pub seconds: f64,
    /// The squares of the seconds that each may have saved, by their chance.
    pub(super) squares: f64,
}

/// A hedge that was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmade {
    /// When it would have been made, after the primary's beginning.
    pub after: Duration,
    /// What was expected of it.
    pub prediction: Duration,
}

impl Trial {
    /// A primary that was answered: nobody was hedged, or it was first, or it is a hold-out.
    pub fn answered(&mut self, waited: Duration, prediction: Duration) {
        self.primary(waited, prediction, Seen::Answered);
        self.served.add(waited.as_secs_f64(), 1.0, Seen::Answered);
        self.hedged.add(waited.as_secs_f64(), 1.0, Seen::Answered);
    }

    /// A primary that was cut short because its hedge was first, at the moment `waited`.
    pub fn won(&mut self, waited: Duration, prediction: Duration) {
        let residual = self.primary(waited, prediction, Seen::Censored);
        self.served.add(waited.as_secs_f64(), 1.0, Seen::Answered);
        self.hedged.add(waited.as_secs_f64(), 1.0, Seen::Answered);
        self.saved.add(residual, prediction.as_secs_f64(), Seen::Censored);
        self.wins += 1.0;
        self.totals.wins += 1.0;
    }

    /// A primary that was answered and would have been hedged.
    pub fn observed(&mut self, waited: Duration, prediction: Duration, unmade: Unmade) {
        self.primary(waited, prediction, Seen::Answered);
        let waited = waited.as_secs_f64();
        self.served.add(waited, 1.0, Seen::Answered);
        let curve = Curve::of(&self.residuals);
        let (after, scale) = (unmade.after.as_secs_f64(), unmade.prediction.as_secs_f64());
        let observed = &mut self.totals.observed;
        let mut rest = 1.0;
        for at in 0..BINS {
            let hedge = after + middle(at) * scale;
            if hedge >= waited {
                break;
            }
            let share = curve.survival(edge(at)) - curve.survival(edge(at + 1));
            self.hedged.add(hedge, share, Seen::Answered);
            rest -= share;
            observed.wins += share;
            observed.seconds += share * (waited - hedge);
            observed.squares += share * (waited - hedge).powi(2);
        }
        self.hedged.add(waited, rest, Seen::Answered);
        observed.hedges += 1.0;
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (own, more) in self.histograms().into_iter().zip(other.clone().histograms()) {
            own.merge(more, 1.0);
        }
        self.wins += other.wins;
        self.weight += other.weight;
        self.totals.merge(&other.totals);
    }

    /// Multiplies what distributions are made of, so that the past counts less. What is counted
    /// stays: requests, wins and what was observed.
    pub fn scale(&mut self, factor: f64) {
        for histogram in self.histograms() {
            histogram.scale(factor);
        }
        self.wins *= factor;
        self.weight *= factor;
    }

    fn histograms(&mut self) -> [&mut Histogram; 5] {
        let Self { residuals, predictions, served, hedged, saved, .. } = self;
        [residuals, predictions, served, hedged, saved]
    }

    fn primary(&mut self, waited: Duration, prediction: Duration, seen: Seen) -> f64 {
        if self.weight >= HEAVIEST {
            self.scale(0.5);
        }
        self.weight += 1.0;
        self.totals.requests += 1.0;
        let residual = waited.as_secs_f64() / prediction.as_secs_f64().max(f64::MIN_POSITIVE);
        self.residuals.add(residual, 1.0, seen);
        self.predictions.add(prediction.as_secs_f64(), 1.0, Seen::Answered);
        residual
    }
}

/// Histograms count in single precision, where 2²⁴ and one more are the same.
const HEAVIEST: f64 = 4_000_000.0;

impl Totals {
    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.wins += other.wins;
        let (own, other) = (&mut self.observed, &other.observed);
        own.hedges += other.hedges;
        own.wins += other.wins;
        own.seconds += other.seconds;
        own.squares += other.squares;
    }
}

pub(super) fn middle(at: usize) -> f64 {
    f64::midpoint(edge(at), edge(at + 1))
}
