//! Whether a deployment fails for the fleet, told from what each of its sidecars saw fail.
//!
//! One sidecar with six requests a minute needs half a minute to see three failures in a row; a
//! hundred of them see these within a second. What each has seen is a sum that fades in 5 s, and
//! the latest from an origin counts. Two things keep an outage apart from bad luck. No origin may
//! bring more than half of what is needed, so that one alone never suffices. And where the fleet
//! asks a deployment often, half of what it has asked within the last second must have failed: three
//! failures among a hundred answers are none.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Heard;
use crate::gossip::identity::Origin;
use crate::lexicon::Fingerprint;
use crate::lexicon::count::float;

/// What one sidecar saw fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// Where.
    pub of: Fingerprint,
    /// Who saw it.
    pub origin: Origin,
    /// How many failures since it began: what is told later says more.
    pub count: u64,
    /// Those of the last seconds, faded.
    pub recent: f64,
}

/// What all saw fail.
#[derive(Debug, Default)]
pub struct Evidence {
    by: HashMap<Fingerprint, Failing>,
}

#[derive(Debug, Default)]
struct Failing {
    seen: Vec<Seen>,
    /// Of the last second, faded.
    burst: Faded,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    origin: Origin,
    count: u64,
    recent: Faded,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Faded {
    sum: f64,
    at: Option<Instant>,
}

/// The time constant of evidence.
const WINDOW: Duration = Duration::from_secs(5);
/// That of the failures which are held against all tries.
const BURST: Duration = Duration::from_secs(1);
/// So many failures make an outage,
const ENOUGH: f64 = 3.0;
/// of so many origins,
const ORIGINS: usize = 2;
/// none of which brings more than this,
const MOST_OF_ONE: f64 = 1.5;
/// and which is more than this share of what was tried.
const SHARE: f64 = 0.5;
/// Less than this is nothing.
const NOTHING: f64 = 0.1;
/// Nobody has seen more than this fail within seconds.
const MOST_RECENT: f64 = 10_000.0;
/// Origins that are kept per deployment, and deployments.
const MOST_SEEN: usize = 64;
const MOST: usize = 1_024;

impl Evidence {
    /// Takes in what this sidecar saw: `count` since it began. Says what to tell, where it is new.
    pub fn note(
        &mut self,
        of: Fingerprint,
        origin: Origin,
        count: u64,
        now: Instant,
    ) -> Option<Told> {
        let known = self.by.get(&of).and_then(|failing| failing.of(origin));
        let (before, recent) = known.map_or((0, 0.0), |seen| (seen.count, seen.now(now)));
        let fresh = count.saturating_sub(before);
        if fresh == 0 {
            return None;
        }
        // The sidecar has just begun to tell: what it counted before may be long ago.
        let fresh = if known.is_none() { 1.0 } else { float(fresh) };
        let told = Told { of, origin, count, recent: recent + fresh };
        self.hear(&told, now);
        Some(told)
    }

    /// Takes in what somebody has told.
    pub fn hear(&mut self, told: &Told, now: Instant) -> Heard {
        if !self.by.contains_key(&told.of) && self.by.len() >= MOST {
            return Heard::Old;
        }
        let recent = Faded { sum: told.recent.min(MOST_RECENT), at: Some(now) };
        let Told { origin, count, .. } = *told;
        self.by.entry(told.of).or_default().hear(Seen { origin, count, recent }, now)
    }

    /// Whether the fleet sees an outage, where it tries so often per second.
    pub fn is_outage(&self, of: Fingerprint, tries_per_second: f64, now: Instant) -> bool {
        let Some(failing) = self.by.get(&of) else { return false };
        let all = failing.seen.iter().map(|seen| seen.now(now)).filter(|sum| *sum > NOTHING);
        let (origins, sum) =
            all.fold((0, 0.0), |(count, sum), own| (count + 1, sum + own.min(MOST_OF_ONE)));
        let burst = failing.burst.now(BURST, now);
        origins >= ORIGINS
            && sum >= ENOUGH
            && burst >= SHARE * tries_per_second * BURST.as_secs_f64()
    }

    /// Counts what was seen as judged: what fails from now on is new evidence. It is not forgotten
    /// yet, or a late rumour of it would be evidence once more.
    pub fn judged(&mut self, of: Fingerprint, now: Instant) {
        if let Some(failing) = self.by.get_mut(&of) {
            failing.burst = Faded::default();
            let nothing = Faded { sum: 0.0, at: Some(now) };
            failing.seen.iter_mut().for_each(|seen| seen.recent = nothing);
        }
    }

    /// Forgets what has faded.
    pub fn forget(&mut self, own: Origin, now: Instant) {
        self.by.retain(|_, failing| {
            failing.seen.retain(|seen| seen.origin == own || !seen.is_forgotten(now));
            !failing.seen.is_empty()
        });
    }
}

impl Told {
    /// The same after it has waited to be told; `None` where nothing of it is left. What is passed on
    /// for long would else be news to whoever has forgotten it, and go round for ever.
    pub fn after(&self, waited: Duration) -> Option<Self> {
        let recent = self.recent * (-waited.as_secs_f64() / WINDOW.as_secs_f64()).exp();
        (recent >= NOTHING).then_some(Self { recent, ..*self })
    }
}

impl Failing {
    fn of(&self, origin: Origin) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.origin == origin)
    }

    fn hear(&mut self, heard: Seen, now: Instant) -> Heard {
        if let Some(known) = self.seen.iter_mut().find(|seen| seen.origin == heard.origin) {
            if heard.count < known.count {
                return Heard::Old;
            }
            if heard.count == known.count {
                // Twice the same: the way makes it look younger, so the lesser is the truer.
                if heard.now(now) < known.now(now) {
                    known.recent = heard.recent;
                }
                return Heard::Old;
            }
            let fresh = (heard.recent.sum - known.now(now)).max(0.0);
            *known = heard;
            self.burst.add(fresh, BURST, now);
            return Heard::News;
        }
        if heard.now(now) < NOTHING {
            return Heard::Old;
        }
        if self.seen.len() >= MOST_SEEN {
            self.seen.retain(|seen| !seen.is_forgotten(now));
        }
        if self.seen.len() >= MOST_SEEN {
            return Heard::Old;
        }
        self.burst.add(heard.recent.sum, BURST, now);
        self.seen.push(heard);
        Heard::News
    }
}

impl Seen {
    fn now(&self, now: Instant) -> f64 {
        self.recent.now(WINDOW, now)
    }

    /// Kept a while longer than it counts, so that a late rumour of it is no news.
    fn is_forgotten(&self, now: Instant) -> bool {
        self.recent.at.is_none_or(|at| now.saturating_duration_since(at) > 12 * WINDOW)
    }
}

impl Faded {
    fn now(&self, window: Duration, now: Instant) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        let age = now.saturating_duration_since(at).as_secs_f64();
        self.sum * (-age / window.as_secs_f64()).exp()
    }

    fn add(&mut self, more: f64, window: Duration, now: Instant) {
        *self = Self { sum: self.now(window, now) + more, at: Some(now) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lexicon::time;

    const OF: Fingerprint = Fingerprint([1; 8]);

    fn told(origin: u8, count: u64, recent: f64) -> Told {
        Told { of: OF, origin: Origin([origin; 6]), count, recent }
    }

    /// Whether these make an outage where so much is tried.
    fn check(all: &[Told], tries: f64, want: bool) {
        let (mut evidence, now) = (Evidence::default(), time::now());
        for told in all {
            evidence.hear(told, now);
        }
        assert_eq!(evidence.is_outage(OF, tries, now), want, "{all:?} of {tries}");
    }

    #[test]
    fn an_outage_takes_three_failures_of_two() {
        check(&[told(1, 2, 2.0), told(2, 2, 2.0)], 0.0, true);
        check(&[told(1, 1, 1.0), told(2, 1, 1.0), told(3, 1, 1.0)], 0.0, true);
        check(&[told(1, 2, 2.0), told(2, 1, 1.0)], 0.0, false);
        check(&[told(1, 1_000, 1_000.0)], 0.0, false);
        check(&[told(1, 1_000, 1_000.0), told(2, 1, 1.0)], 0.0, false);
        check(&[told(1, 1_000, 1_000.0), told(2, 7, 0.05)], 0.0, false);
    }

    #[test]
    fn a_few_failures_among_many_tries_are_none() {
        let five: Vec<_> = (0..5).map(|origin| told(origin, 1, 1.0)).collect();
        check(&five, 9.0, true);
        check(&five, 11.0, false);
    }

    #[test]
    fn evidence_fades_and_is_judged_once() {
        let (mut evidence, now) = (Evidence::default(), time::now());
        for origin in 0..4 {
            assert_eq!(evidence.hear(&told(origin, 1, 1.0), now), Heard::News);
            assert_eq!(evidence.hear(&told(origin, 1, 1.0), now), Heard::Old);
        }
        assert!(evidence.is_outage(OF, 0.0, now));
        assert!(!evidence.is_outage(OF, 0.0, now + WINDOW));
        evidence.judged(OF, now);
        assert!(!evidence.is_outage(OF, 0.0, now));
        assert_eq!(evidence.hear(&told(1, 1, 1.0), now), Heard::Old, "it was judged");
        assert_eq!(evidence.hear(&told(1, 2, 1.0), now), Heard::News);
        evidence.forget(Origin([9; 6]), now + WINDOW);
        assert_eq!(evidence.hear(&told(3, 1, 1.0), now + WINDOW), Heard::Old, "a late rumour");
        evidence.forget(Origin([9; 6]), now + 13 * WINDOW);
        assert!(evidence.by.is_empty());
    }

    #[test]
    fn a_sidecar_tells_what_is_new() {
        let (mut evidence, now) = (Evidence::default(), time::now());
        let own = Origin([7; 6]);
        assert_eq!(evidence.note(OF, own, 0, now), None);
        let told = evidence.note(OF, own, 40, now).unwrap();
        assert_eq!((told.count, told.recent), (40, 1.0), "older ones may be long ago");
        assert_eq!(evidence.note(OF, own, 40, now), None);
        assert_eq!(evidence.note(OF, own, 42, now).map(|told| told.recent), Some(3.0));
    }

    #[test]
    fn what_waits_to_be_told_fades() {
        let told = told(1, 3, 3.0);
        let later = told.after(WINDOW).unwrap();
        assert!((later.recent - 3.0 / std::f64::consts::E).abs() < 1e-9 && later.count == 3);
        assert_eq!(told.after(4 * WINDOW), None);
    }

    proptest! {
        #[test]
        fn the_order_is_no_matter(
            all in proptest::collection::vec((0u8..6, 1u64..5), 1..40), swap: proptest::sample::Index,
        ) {
            let now = time::now();
            // What an origin tells is settled by its count.
            #[expect(clippy::cast_precision_loss, reason = "four at most")]
            let all: Vec<_> = all.iter().map(|(by, count)| told(*by, *count, *count as f64)).collect();
            let heard = |order: &mut dyn Iterator<Item = &Told>| {
                let mut evidence = Evidence::default();
                order.for_each(|told| {
                    evidence.hear(told, now);
                });
                let mut seen = evidence.by.remove(&OF).unwrap().seen;
                seen.sort_by_key(|seen| seen.origin);
                seen
            };
            let forth = heard(&mut all.iter());
            prop_assert_eq!(&forth, &heard(&mut all.iter().rev()));
            prop_assert_eq!(&forth, &heard(&mut all.iter().chain(&all)));
            let (first, second) = all.split_at(swap.index(all.len()));
            prop_assert_eq!(&forth, &heard(&mut second.iter().chain(first)));
        }
    }
}
