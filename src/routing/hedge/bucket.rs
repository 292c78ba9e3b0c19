//! What hedges may cost: a bucket that every request fills a little.
//!
//! Its unit is the cost of a mean request of the group. It never runs dry by time alone: with the
//! ten seconds that other budgets last, a sidecar of sixty requests a minute would never hedge
//! (§1.5 of the routing study). Lock-free, because every request fills it.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

/// No more than so many mean requests are saved up.
const MOST: f64 = 5.0;
/// And so many are there at the start.
const START: f64 = 2.0;
/// The bucket counts in millionths.
const UNIT: f64 = 1e6;
/// The weight of the newest request in the mean.
const NEWEST: f32 = 0.02;

/// The budget of one group.
#[derive(Debug)]
pub struct Bucket {
    balance: AtomicI64,
    /// The mean cost of a request, as the bits of a float; zero before the first.
    mean: AtomicU32,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { balance: AtomicI64::new(units(START)), mean: AtomicU32::new(0) }
    }
}

impl Bucket {
    /// A request that costs `cost`, in any unit that the group's requests share, adds its `share`.
    pub fn fill(&self, cost: f32, share: f64) {
        let before = f32::from_bits(self.mean.load(Ordering::Relaxed));
        let mean = if before > 0.0 { before + NEWEST * (cost - before) } else { cost };
        self.mean.store(mean.to_bits(), Ordering::Relaxed);
        let added = units(share * relative(cost, mean));
        let full = units(MOST);
        // Two requests at once may push it over the rim together; the next one takes that back.
        if self.balance.fetch_add(added, Ordering::Relaxed) + added > full {
            self.balance.fetch_min(full, Ordering::Relaxed);
        }
    }

    /// Takes the cost of a hedge out, if there is as much.
    pub fn pay(&self, cost: f32) -> bool {
        let mean = f32::from_bits(self.mean.load(Ordering::Relaxed));
        let price = units(relative(cost, mean));
        let spend = |balance: i64| (balance >= price).then(|| balance - price);
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }

    /// How many mean requests it would pay for.
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    pub fn left(&self) -> f64 {
        self.balance.load(Ordering::Relaxed) as f64 / UNIT
    }
}

/// A cost in mean requests. Where nothing is known, every request is a mean one.
fn relative(cost: f32, mean: f32) -> f64 {
    if mean > 0.0 { f64::from(cost / mean) } else { 1.0 }
}

#[expect(clippy::cast_possible_truncation, reason = "a float that is too large saturates")]
fn units(requests: f64) -> i64 {
    (requests * UNIT) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn twenty_requests_pay_for_one_hedge() {
        let bucket = Bucket::default();
        assert!(bucket.pay(100.0) && bucket.pay(100.0) && !bucket.pay(100.0));
        for _ in 0..19 {
            bucket.fill(100.0, 0.05);
            assert!(!bucket.pay(100.0));
        }
        bucket.fill(100.0, 0.0501);
        assert!(bucket.pay(100.0));
    }

    #[test]
    fn a_dear_hedge_needs_more() {
        let bucket = Bucket::default();
        bucket.fill(100.0, 0.0);
        assert!(!bucket.pay(201.0));
        assert!(bucket.pay(199.0));
        assert!(!bucket.pay(2.0));
    }

    #[test]
    fn nothing_is_saved_beyond_the_rim() {
        let bucket = Bucket::default();
        for _ in 0..1_000 {
            bucket.fill(10.0, 0.05);
        }
        let paid = (0..100).filter(|_| bucket.pay(10.0)).count();
        assert_eq!(paid, 5);
    }

    proptest! {
        #[test]
        fn the_budget_is_never_exceeded(
            costs in prop::collection::vec(1.0f32..1000.0, 1..400),
            share in 0.0f64..0.3,
        ) {
            let bucket = Bucket::default();
            let (mut filled, mut paid, mut mean) = (START, 0.0, 0.0f32);
            for cost in costs {
                bucket.fill(cost, share);
                mean = if mean > 0.0 { mean + NEWEST * (cost - mean) } else { cost };
                filled += share * f64::from(cost / mean);
                if bucket.pay(cost) {
                    paid += f64::from(cost / mean);
                }
                prop_assert!(paid <= filled + 1e-3, "{} of {}", paid, filled);
                prop_assert!(bucket.left() >= 0.0);
            }
        }
    }
}
