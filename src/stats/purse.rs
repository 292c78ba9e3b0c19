//! What was spent in the current window of a budget.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::lexicon::PicoUsd;

/// A sum that begins anew when its window is over. The window begins with the first money spent.
/// Times are since one epoch.
#[derive(Debug, Default)]
pub(super) struct Purse {
    /// The length of the window, in microseconds; zero means that nobody asks.
    period_us: AtomicU64,
    /// When the window began, in microseconds plus one; zero means never.
    began_us: AtomicU64,
    spent: AtomicU64,
}

impl Purse {
    /// Sets the length of the window; what was spent stays.
    pub(super) fn set_period(&self, period: Option<Duration>) {
        self.period_us.store(period.map_or(0, micros), Ordering::Relaxed);
    }

    /// Adds money that was spent at `now`.
    pub(super) fn add(&self, cost: PicoUsd, now: Duration) {
        let period = self.period_us.load(Ordering::Relaxed);
        if period == 0 || cost == PicoUsd::ZERO {
            return;
        }
        let (began, now) = (self.began_us.load(Ordering::Relaxed), micros(now) + 1);
        let over = began == 0 || now.saturating_sub(began) >= period;
        let ours = over
            && self
                .began_us
                .compare_exchange(began, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if ours {
            self.spent.store(0, Ordering::Relaxed);
        }
        let _ = self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spent| {
            Some(spent.saturating_add(cost.0))
        });
    }

    /// What was spent and when the window ends; `None` where none is open.
    pub(super) fn spent(&self, now: Duration) -> Option<(PicoUsd, Duration)> {
        let period = self.period_us.load(Ordering::Relaxed);
        let began = self.began_us.load(Ordering::Relaxed).checked_sub(1)?;
        let ends = began.saturating_add(period);
        (ends > micros(now))
            .then(|| (PicoUsd(self.spent.load(Ordering::Relaxed)), Duration::from_micros(ends)))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_with_the_first_money_and_ends_by_itself() {
        let second = Duration::from_secs;
        let purse = Purse::default();
        purse.add(PicoUsd(5), second(1));
        assert_eq!(purse.spent(second(1)), None);
        purse.set_period(Some(second(10)));
        purse.add(PicoUsd(5), second(3));
        purse.add(PicoUsd(6), second(12));
        assert_eq!(purse.spent(second(12)), Some((PicoUsd(11), second(13))));
        assert_eq!(purse.spent(second(13)), None);
        purse.add(PicoUsd(1), second(20));
        assert_eq!(purse.spent(second(20)), Some((PicoUsd(1), second(30))));
        purse.set_period(Some(second(60)));
        assert_eq!(purse.spent(second(20)), Some((PicoUsd(1), second(80))));
        purse.add(PicoUsd(u64::MAX), second(21));
        assert_eq!(purse.spent(second(21)).unwrap().0, PicoUsd(u64::MAX));
    }
}
