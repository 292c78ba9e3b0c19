//! The newest samples of one measure: a ring in which each sample is one atomic.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::routing::strategy::lowest_latency::MOST_SAMPLES;
use crate::routing::view::{Sample, Samples};

/// The samples. Times are since the epoch of the row.
#[derive(Debug)]
pub(super) struct Recent {
    next: AtomicU32,
    /// When, in tenths of a second plus one, above the bits of the seconds as a float; zero
    /// means never, infinite seconds mean that the try failed.
    slots: [AtomicU64; MOST_SAMPLES],
}

impl Default for Recent {
    fn default() -> Self {
        Self { next: AtomicU32::new(0), slots: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Recent {
    /// Keeps a sample; `None` is a failure.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for a mean")]
    pub(super) fn push(&self, seconds: Option<f64>, now: Duration) {
        let bits = seconds.map_or(f32::INFINITY, |seconds| seconds as f32).to_bits();
        let sample = (u64::from(stamp(now)) << 32) | u64::from(bits);
        let at = self.next.fetch_add(1, Ordering::Relaxed) as usize % MOST_SAMPLES;
        if let Some(slot) = self.slots.get(at) {
            slot.store(sample, Ordering::Relaxed);
        }
    }

    /// The newest `most` samples, the newest first.
    pub(super) fn newest(&self, most: usize, now: Duration) -> Samples {
        let next = self.next.load(Ordering::Relaxed) as usize;
        let (newer, older) = self.slots.split_at(next % MOST_SAMPLES);
        (newer.iter().rev().chain(older.iter().rev()))
            .map(|slot| slot.load(Ordering::Relaxed))
            // Also the place of a sample that is being written.
            .filter(|sample| *sample != 0)
            .take(most)
            .map(|sample| read(sample, now))
            .collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of one number")]
fn read(sample: u64, now: Duration) -> Sample {
    let (at, seconds) = ((sample >> 32) as u32, f32::from_bits(sample as u32));
    let tenths = stamp(now).saturating_sub(at);
    Sample {
        seconds: seconds.is_finite().then_some(f64::from(seconds)),
        age: Duration::from_millis(u64::from(tenths) * 100),
    }
}

fn stamp(now: Duration) -> u32 {
    u32::try_from(now.as_millis() / 100).unwrap_or(u32::MAX - 1).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_with_their_age() {
        let recent = Recent::default();
        assert!(recent.newest(10, Duration::ZERO).is_empty());
        for (at, seconds) in [(0, Some(0.5)), (1, None), (2, Some(0.25))] {
            recent.push(seconds, Duration::from_secs(at));
        }
        let got = recent.newest(2, Duration::from_secs(12));
        let age = Duration::from_secs;
        let want =
            [Sample { seconds: Some(0.25), age: age(10) }, Sample { seconds: None, age: age(11) }];
        assert_eq!(got.as_slice(), want);
    }

    #[test]
    fn the_oldest_make_room() {
        let recent = Recent::default();
        for at in 0..300u32 {
            recent.push(Some(f64::from(at)), Duration::ZERO);
        }
        let got = recent.newest(usize::MAX, Duration::ZERO);
        assert_eq!(got.len(), MOST_SAMPLES);
        assert_eq!((got[0].seconds, got[127].seconds), (Some(299.0), Some(172.0)));
    }
}
