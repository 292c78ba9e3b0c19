//! What was used in the last minute: a ring of seconds.
//!
//! Promises that no minute, wherever it begins, is counted short: a second counts until all of it
//! is a minute past. Two threads that meet a second first may lose the counts of one of them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::lexicon::Tokens;
use crate::routing::view::{Counted, Used};

/// The counts of the last minute, by the second. Times are since the epoch of the row.
#[derive(Debug)]
pub(super) struct Minute([Second; SLOTS]);

/// The longest window.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// A minute, and the second that has begun.
const SLOTS: usize = 61;

#[derive(Debug, Default)]
struct Second {
    /// Seconds since the epoch, plus one; zero means never.
    at: AtomicU32,
    requests: AtomicU32,
    tokens: AtomicU64,
}

impl Default for Minute {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Second::default()))
    }
}

impl Minute {
    /// Counts a try.
    pub(super) fn request(&self, now: Duration) {
        if let Some(second) = self.second(now) {
            second.requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts tokens.
    pub(super) fn tokens(&self, count: Tokens, now: Duration) {
        if let Some(second) = self.second(now) {
            second.tokens.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// What was used in the last `window`.
    pub(super) fn used(&self, window: Duration, now: Duration) -> Used {
        let mut used = Used::default();
        for (_, second) in self.since(window, now) {
            used.requests += u64::from(second.requests.load(Ordering::Relaxed));
            used.tokens += second.tokens.load(Ordering::Relaxed);
        }
        used
    }

    /// When no more than `most` is left of the last minute, if nothing is added.
    pub(super) fn eases(&self, what: Counted, most: u64, now: Duration) -> Duration {
        let mut counts: Vec<(u32, u64)> = (self.since(MINUTE, now))
            .map(|(at, second)| match what {
                Counted::Requests => (at, second.requests.load(Ordering::Relaxed).into()),
                Counted::Tokens => (at, second.tokens.load(Ordering::Relaxed)),
            })
            .collect();
        counts.sort_unstable();
        let mut left: u64 = counts.iter().map(|(_, count)| count).sum();
        let mut eases = now;
        for (at, count) in counts {
            if left <= most {
                break;
            }
            left -= count;
            // `at` is one ahead, and its second has to be over.
            eases = Duration::from_secs(at.into()) + MINUTE;
        }
        eases
    }

    fn since(&self, window: Duration, now: Duration) -> impl Iterator<Item = (u32, &Second)> {
        let (newest, length) = (stamp(now), window.min(MINUTE).as_secs());
        self.0.iter().filter_map(move |second| {
            let at = second.at.load(Ordering::Relaxed);
            let age = u64::from(newest.saturating_sub(at));
            (at > 0 && age <= length).then_some((at, second))
        })
    }

    /// The second of `now`, begun anew where it is an old one's place.
    fn second(&self, now: Duration) -> Option<&Second> {
        let stamp = stamp(now);
        let second = self.0.get(stamp as usize % SLOTS)?;
        let at = second.at.load(Ordering::Relaxed);
        let ours = at != stamp
            && second.at.compare_exchange(at, stamp, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if ours {
            second.requests.store(0, Ordering::Relaxed);
            second.tokens.store(0, Ordering::Relaxed);
        }
        Some(second)
    }
}

fn stamp(now: Duration) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX - 1).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts tries at these milliseconds; what is used at `now`, and when one or none is left.
    #[track_caller]
    fn check(tries: &[u64], window: u64, now: u64, want: u64) -> Duration {
        let minute = Minute::default();
        for at in tries {
            minute.request(Duration::from_millis(*at));
            minute.tokens(10, Duration::from_millis(*at));
        }
        let now = Duration::from_millis(now);
        let used = minute.used(Duration::from_secs(window), now);
        assert_eq!(used, Used { requests: want, tokens: want * 10 });
        let eases = minute.eases(Counted::Requests, 1, now);
        assert_eq!(minute.eases(Counted::Tokens, 19, now), eases);
        eases
    }

    #[test]
    fn a_second_counts_until_all_of_it_is_past() {
        check(&[0, 999, 1000], 60, 1000, 3);
        check(&[0, 999, 1000], 60, 60_999, 3);
        check(&[0, 999, 1000], 60, 61_000, 1);
        check(&[0, 999, 1000], 60, 62_000, 0);
        check(&[0, 61_000], 60, 61_000, 1);
        check(&[500, 400_000], 60, 400_900, 1);
    }

    #[test]
    fn a_shorter_window_forgets_sooner_and_a_longer_one_is_a_minute() {
        check(&[0, 5000], 3, 5000, 1);
        check(&[0, 5000], 5, 5000, 2);
        check(&[0, 5000], 3600, 61_500, 1);
    }

    #[test]
    fn it_is_told_when_there_is_room() {
        assert_eq!(check(&[0, 5500, 9000], 60, 9000, 3), Duration::from_secs(66));
        assert_eq!(check(&[9000], 60, 9000, 1), Duration::from_secs(9));
        assert_eq!(check(&[], 60, 9000, 0), Duration::from_secs(9));
    }
}
