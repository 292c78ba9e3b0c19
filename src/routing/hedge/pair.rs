//! How hedges from one deployment to another have done.
//!
//! What is slow for both, a shared backend or a long prompt, makes the second as late as the
//! first; hedging from the one to the other then buys nothing (§1.5 of the routing study: 17 % of
//! hedges win where all slowness is shared, 49 % where none is).

use std::time::{Duration, Instant};

use crate::routing::chance::unit;

/// Over about so many hedges the share is taken.
const MEMORY: f64 = 100.0;
/// Fewer than these say nothing yet.
const FEWEST: f64 = 20.0;
/// Below this share of wins every second hedge is forgone.
const HALVED_BELOW: f64 = 0.2;
/// Below this share there are none for a while.
const STOPPED_BELOW: f64 = 0.1;
/// How long there are none.
const STOPPED_FOR: Duration = Duration::from_secs(600);

/// The hedges from one deployment to another.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pair {
    hedges: f64,
    wins: f64,
    stopped_until: Option<Instant>,
}

impl Pair {
    /// Whether one more may be made.
    pub fn may_hedge(&self, now: Instant, entropy: u64) -> bool {
        if self.stopped_until.is_some_and(|until| now < until) {
            return false;
        }
        // Other bits than those that draw the hold-outs.
        self.share().is_none_or(|share| share >= HALVED_BELOW || unit(entropy << 13) < 0.5)
    }

    /// Takes in how one ended.
    pub fn ended(&mut self, won: bool, now: Instant) {
        if self.hedges >= MEMORY {
            let kept = 1.0 - 1.0 / MEMORY;
            self.hedges *= kept;
            self.wins *= kept;
        }
        self.hedges += 1.0;
        self.wins += f64::from(u8::from(won));
        if self.share().is_some_and(|share| share < STOPPED_BELOW) {
            // After the pause it has to show itself anew.
            *self = Self { stopped_until: Some(now + STOPPED_FOR), ..Self::default() };
        }
    }

    /// The share of hedges that won; `None` where too few were made to say.
    pub fn share(&self) -> Option<f64> {
        (self.hedges >= FEWEST).then(|| self.wins / self.hedges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::time;

    /// How many of a hundred would be hedged after so many wins and losses.
    fn after(wins: u32, losses: u32) -> (usize, Pair, Instant) {
        let now = time::now();
        let mut pair = Pair::default();
        for at in 0..wins + losses {
            pair.ended(at < wins, now);
        }
        let dice = (0..100u64).map(|at| ((2 * at + 1) * (u64::MAX / 200)) >> 13);
        (dice.filter(|entropy| pair.may_hedge(now, *entropy)).count(), pair, now)
    }

    #[test]
    fn the_share_of_wins_decides() {
        assert_eq!(after(0, 0).0, 100);
        assert_eq!(after(0, 19).0, 100);
        assert_eq!(after(10, 10).0, 100);
        assert_eq!(after(6, 34).0, 50);
        assert_eq!(after(1, 19).0, 0);
    }

    #[test]
    fn a_hopeless_pair_is_tried_again_later() {
        let (_, pair, now) = after(0, 20);
        assert!(!pair.may_hedge(now + Duration::from_secs(599), 1));
        assert!(pair.may_hedge(now + Duration::from_secs(600), 1));
    }

    #[test]
    fn old_hedges_are_forgotten() {
        let (_, mut pair, now) = after(100, 0);
        for _ in 0..300 {
            pair.ended(false, now);
            if pair.share().is_none() {
                return;
            }
        }
        panic!("{pair:?} remembers for ever");
    }
}
