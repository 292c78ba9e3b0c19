//! What the hedges of each model group may cost and how they do.
//!
//! The budget is lock-free, because every request fills it; how pairs of deployments do is behind
//! a lock that only hedges take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lesson::{Lesson, What};
use crate::lexicon::GroupIx;
use crate::routing::hedge::{Bucket, Pair};
use crate::routing::latency::{Effect, Trial};

/// The hedges of one model group. Outlives a reload.
#[derive(Debug, Default)]
pub struct Hedges {
    /// What they may cost.
    pub budget: Bucket,
    pairs: Mutex<HashMap<PairIds, Pair>>,
    /// What is known of their worth; made when the first try tells something.
    trial: Mutex<Option<Box<Trial>>>,
}

/// The ids of the late deployment and of the other one.
type PairIds = (Box<str>, Box<str>);

impl Hedges {
    /// Whether one may be made from the deployment `first` to `second`.
    pub fn may_hedge(&self, first: &str, second: &str, now: Instant, entropy: u64) -> bool {
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = pairs.get(&(first.into(), second.into()));
        pair.is_none_or(|pair| pair.may_hedge(now, entropy))
    }

    /// What they were worth since the start; `None` where nothing is known.
    pub fn effect(&self) -> Option<Effect> {
        Effect::of(self.trial.lock().unwrap_or_else(PoisonError::into_inner).as_deref()?)
    }

    fn learn(&self, waited: Duration, expected: Duration, beaten: bool) {
        let mut trial = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        let trial = trial.get_or_insert_default();
        if beaten {
            trial.won(waited, expected);
        } else {
            trial.answered(waited, expected);
        }
    }

    /// Takes in how one ended.
    pub fn ended(&self, first: &str, second: &str, won: bool, now: Instant) {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        pairs.entry((first.into(), second.into())).or_default().ended(won, now);
    }
}

/// The hedges of all groups that there are or were.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<Box<str>, Arc<Hedges>>>);

impl Known {
    /// Whether a lesson was about the worth of hedging, and was taken in.
    pub(super) fn take(&self, lesson: &Lesson) -> bool {
        let What::Primary { waited, expected, beaten } = lesson.what else { return false };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hedges) = known.get(&**lesson.row.learning.group()) {
            hedges.learn(waited, expected, beaten);
        }
        true
    }

    /// Those of the groups of one snapshot, in its order. A group that is not named any more is
    /// forgotten.
    pub(super) fn of<'n>(&self, groups: impl Iterator<Item = &'n str>) -> GroupHedges {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = HashMap::new();
        let hedges = groups.map(|name| {
            let hedges = known.remove(name).unwrap_or_default();
            next.insert(name.into(), hedges.clone());
            hedges
        });
        let hedges = GroupHedges(hedges.collect());
        *known = next;
        hedges
    }
}

/// The hedges of one snapshot's groups, by their position.
#[derive(Debug, Default)]
pub struct GroupHedges(Box<[Arc<Hedges>]>);

impl GroupHedges {
    /// Those of one group.
    pub fn get(&self, of: GroupIx) -> Option<&Arc<Hedges>> {
        self.0.get(of.at())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::time;

    #[test]
    fn a_group_keeps_its_budget_and_pairs_over_a_reload() {
        let (known, now) = (Known::default(), time::now());
        let before = known.of(["a", "b"].into_iter());
        let group = before.get(GroupIx(1)).unwrap();
        assert!(group.budget.pay(1.0));
        for _ in 0..20 {
            group.ended("x", "y", false, now);
        }
        let after = known.of(["b"].into_iter());
        let group = after.get(GroupIx(0)).unwrap();
        assert!((group.budget.left() - 1.0).abs() < 1e-9);
        assert!(!group.may_hedge("x", "y", now, 7));
        assert!(group.may_hedge("y", "x", now, 7));
        let anew = known.of(["a"].into_iter());
        assert!((anew.get(GroupIx(0)).unwrap().budget.left() - 2.0).abs() < 1e-9);
    }
}
