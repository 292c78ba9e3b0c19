//! How many extra tries a model group may make: its retries and hedges together, as a share of its
//! requests and a few more per second, so that an outage is not doubled by what is done about it.
//!
//! A few per second, whatever the traffic: a sidecar that serves ten requests a minute could else
//! not retry the second of them. Lock-free, because every request fills it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use crate::routing::Income;

/// It counts in thousandths of a try.
const UNIT: f64 = 1e3;
/// It holds at most so many tries, and so many at the start.
const MOST: i64 = 100 * 1_000;

/// What is left. Outlives a reload.
#[derive(Debug)]
pub struct Reserve {
    left: AtomicI64,
    began: OnceLock<Instant>,
    /// Up to when it was filled by time, in microseconds since it began.
    filled: AtomicU64,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { left: AtomicI64::new(MOST), began: OnceLock::new(), filled: AtomicU64::new(0) }
    }
}

impl Reserve {
    /// Takes in a request.
    pub fn fill(&self, income: Income) {
        self.add(thousandths(income.share));
    }

    /// Whether another try may be made at `now`. It is paid for when it is made.
    pub fn has_some(&self, income: Income, now: Instant) -> bool {
        let passed = now.saturating_duration_since(*self.began.get_or_init(|| now));
        let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        let before = self.filled.fetch_max(micros, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let seconds = micros.saturating_sub(before) as f64 / 1e6;
        self.add(thousandths(seconds * income.per_second));
        self.left.load(Ordering::Relaxed) >= thousandths(1.0)
    }

    /// Pays for a try. Several that ask at once may overdraw it by a few.
    pub fn pay(&self) {
        self.left.fetch_sub(thousandths(1.0), Ordering::Relaxed);
    }

    fn add(&self, amount: i64) {
        // Two at once may push it over the rim together; the next one takes that back.
        if self.left.fetch_add(amount, Ordering::Relaxed).saturating_add(amount) > MOST {
            self.left.fetch_min(MOST, Ordering::Relaxed);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a float that is too large saturates")]
fn thousandths(tries: f64) -> i64 {
    ((tries * UNIT) as i64).min(MOST)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lexicon::time;

    const NONE: Income = Income { share: 0.0, per_second: 0.0 };

    /// Pays as long as there is something, and says how often.
    fn drain(reserve: &Reserve, income: Income, now: Instant) -> usize {
        (0..1_000).take_while(|_| reserve.has_some(income, now)).map(|_| reserve.pay()).count()
    }

    #[test]
    fn it_begins_full_and_runs_dry() {
        let (reserve, now) = (Reserve::default(), time::now());
        assert_eq!(drain(&reserve, NONE, now), 100);
        assert!(!reserve.has_some(NONE, now + Duration::from_secs(3_600)));
    }

    #[test]
    fn requests_and_time_fill_it_up_to_the_rim() {
        let (reserve, now) = (Reserve::default(), time::now());
        drain(&reserve, NONE, now);
        let income = Income::default();
        (0..50).for_each(|_| reserve.fill(income));
        assert_eq!(drain(&reserve, income, now), 10);
        assert_eq!(drain(&reserve, income, now + Duration::from_secs(2)), 20);
        assert_eq!(drain(&reserve, income, now + Duration::from_secs(2)), 0);
        assert_eq!(drain(&reserve, income, now + Duration::from_secs(3_600)), 100);
    }
}
