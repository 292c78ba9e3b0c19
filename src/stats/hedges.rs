//! What the hedges of each model group may cost and how they do.
//!
//! The budget is lock-free, because every request fills it; how pairs of deployments do is behind
//! a lock that only hedges take.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::lesson::{Fate, Lesson, What};
use super::reserve::Reserve;
use crate::lexicon::{GroupIx, PicoUsd, Tokens};
use crate::routing::Kind;
use crate::routing::hedge::{Bucket, Pair};
use crate::routing::latency::{Effect, Trial, Unmade};

/// The hedges of one model group. Outlives a reload.
#[derive(Debug, Default)]
pub struct Hedges {
    /// What they may cost.
    pub budget: Bucket,
    /// How many extra tries there may be, retries among them.
    pub extra: Reserve,
    pairs: Mutex<HashMap<PairIds, Pair>>,
    /// What is known of their worth, for whole answers and for streams, which are never mixed;
    /// made when there is something to know.
    worth: [Mutex<Option<Box<Worth>>>; 2],
}

/// What is known of the worth of hedges since the start.
#[derive(Debug, Clone, Default)]
pub struct Worth {
    /// What first tries have shown.
    pub trial: Trial,
    /// What became of hedges: how many by the word of a record.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// What hedges have used beside the answers.
    pub made: Extra,
    /// What those would have used that were only observed.
    pub unmade: Extra,
}

/// What second tries use beside the answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extra {
    /// How many there are.
    pub tries: u64,
    /// Tokens, of those where it is known.
    pub tokens: Tokens,
    /// What these cost.
    pub cost: PicoUsd,
    /// How many of them have a price, and how many have none.
    pub priced: u64,
    pub unpriced: u64,
}

/// What is told of a hedge when it happens. All of it is rare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// One was started.
    Made,
    /// What became of a request's hedges, in the word of its record.
    Outcome(&'static str),
    /// One would have been started, and have used so many tokens.
    Unmade(Tokens, Option<PicoUsd>),
    /// A try that lost has used so many tokens.
    Wasted(Tokens, Option<PicoUsd>),
}

impl Worth {
    fn note(&mut self, noted: Noted) {
        match noted {
            Noted::Made => self.made.tries += 1,
            Noted::Outcome(word) => *self.outcomes.entry(word).or_default() += 1,
            Noted::Unmade(tokens, cost) => {
                self.unmade.tries += 1;
                self.unmade.add(tokens, cost);
            }
            Noted::Wasted(tokens, cost) => self.made.add(tokens, cost),
        }
    }

    fn learn(&mut self, (waited, expected): (Duration, Duration), fate: Fate) {
        match fate {
            Fate::Answered => self.trial.answered(waited, expected),
            Fate::Beaten => self.trial.won(waited, expected),
            Fate::Unhedged { after_us, expected_us } => {
                let [after, prediction] =
                    [after_us, expected_us].map(|us| Duration::from_micros(us.into()));
                self.trial.observed(waited, expected, Unmade { after, prediction });
            }
        }
    }
}

impl Extra {
    fn add(&mut self, tokens: Tokens, cost: Option<PicoUsd>) {
        self.tokens = self.tokens.saturating_add(tokens);
        match cost {
            Some(cost) => {
                self.cost += cost;
                self.priced += 1;
            }
            None => self.unpriced += 1,
        }
    }
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

    /// What they were worth since the start, of all requests together; `None` where nothing is
    /// known.
    pub fn effect(&self) -> Option<Effect> {
        let mut all = Trial::default();
        for worth in Kind::answers().into_iter().filter_map(|kind| self.worth(kind)) {
            all.merge(&worth.trial);
        }
        Effect::of(&all)
    }

    /// The same for streams or for whole answers, with what it took. The effort does not matter.
    pub fn worth(&self, of: Kind) -> Option<Worth> {
        self.lock(of).as_deref().cloned()
    }

    /// Takes in what happens to a hedge.
    pub fn note(&self, of: Kind, noted: Noted) {
        self.lock(of).get_or_insert_default().note(noted);
    }

    fn lock(&self, of: Kind) -> MutexGuard<'_, Option<Box<Worth>>> {
        let [whole, stream] = &self.worth;
        let worth = if of.stream { stream } else { whole };
        worth.lock().unwrap_or_else(PoisonError::into_inner)
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
        let What::Primary { waited, expected, fate } = lesson.what else { return false };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hedges) = known.get(&**lesson.row.learning.group()) {
            let mut worth = hedges.lock(lesson.kind);
            worth.get_or_insert_default().learn((waited, expected), fate);
        }
        true
    }

    /// Those of the groups of one snapshot, in its order. A group that is not named any more is
    /// forgotten.
    pub(super) fn of<'n>(&self, groups: impl Iterator<Item = &'n str>) -> GroupHedges {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = HashMap::default();
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
    fn streams_and_whole_answers_are_counted_apart() {
        let hedges = Hedges::default();
        let [whole, stream] = Kind::answers();
        let cost = Some(PicoUsd(5));
        for noted in [
            Noted::Made,
            Noted::Wasted(7, cost),
            Noted::Outcome("won"),
            Noted::Made,
            Noted::Wasted(1, None),
            Noted::Outcome("won"),
        ] {
            hedges.note(stream, noted);
        }
        hedges.note(whole, Noted::Unmade(3, cost));
        let (of_stream, of_whole) = (hedges.worth(stream).unwrap(), hedges.worth(whole).unwrap());
        let extra = Extra { tries: 2, tokens: 8, cost: PicoUsd(5), priced: 1, unpriced: 1 };
        assert_eq!((of_stream.made, of_stream.unmade), (extra, Extra::default()));
        assert_eq!(of_stream.outcomes, [("won", 2)].into());
        assert_eq!((of_whole.unmade.tokens, of_whole.made), (3, Extra::default()));
    }

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
