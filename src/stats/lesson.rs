//! What tries tell the learner: a bounded queue from the path of requests to one reader.
//!
//! Promises that telling never waits and never grows: where the learner is behind, lessons are
//! dropped and counted. Knows nothing of what is learned from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::Row;
use crate::routing::Kind;
use crate::routing::latency::Seen;

/// What one try has shown.
#[derive(Debug)]
pub struct Lesson {
    /// Whose it is.
    pub(super) row: Arc<Row>,
    /// Which calls it speaks for.
    pub(super) kind: Kind,
    /// What was seen.
    pub(super) what: What,
}

/// What was seen of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It failed, and the deployment is to blame.
    Failed {
        /// How long the provider asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// How fast a stream went on after its first token.
    Pace {
        /// Tokens after the first; zero where the provider does not tell.
        tokens: u32,
        /// How long they took.
        took: Duration,
        /// The longest pause between two events with content.
        pause: Duration,
    },
    /// It was the first try of a request that a hedge might have been made for: what that tells of
    /// the worth of hedging.
    Primary {
        /// To its first token or answer, or to when a hedge had won.
        waited: Duration,
        /// What was expected of it.
        expected: Duration,
        /// What became of it.
        fate: Fate,
    },
    /// What its provider says is left of its limits.
    Quota {
        /// Of the limit of which the least is left, in thousandths.
        left: u16,
        /// How many tokens the provider takes in its window.
        tokens: Option<u32>,
    },
    /// It was waited for.
    Waited {
        /// The length of the prompt, as [`Shape::length`](crate::routing::Shape::length) has it.
        length: u32,
        /// To the first token of a stream, or to the whole answer; or to when we gave up.
        waited: Duration,
        /// Which of the two it was.
        seen: Seen,
    },
}

/// What became of the first try of a request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It answered.
    Answered,
    /// A hedge was first.
    Beaten,
    /// It answered; a hedge would have been made, but hedging is only observed. Times are in
    /// microseconds, so that lessons stay small.
    Unhedged {
        /// When the hedge would have been made, after its own beginning.
        after_us: u32,
        /// What was expected of the hedge.
        expected_us: u32,
    },
}

/// Lessons on their way to the learner.
#[derive(Debug)]
pub struct Lessons {
    queue: ArrayQueue<Lesson>,
    dropped: AtomicU64,
}

/// How many wait at most: as many as 8,000 tries a second tell between two rounds.
const MOST_WAITING: usize = 2_048;

impl Default for Lessons {
    fn default() -> Self {
        Self::holding(MOST_WAITING)
    }
}

impl Lessons {
    fn holding(most: usize) -> Self {
        Self { queue: ArrayQueue::new(most), dropped: AtomicU64::new(0) }
    }

    /// Adds one; where there is no room it is dropped and counted.
    pub(super) fn tell(&self, lesson: Lesson) {
        if self.queue.push(lesson).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest.
    pub fn take(&self) -> Option<Lesson> {
        self.queue.pop()
    }

    /// Those that wait now, the oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Lesson> {
        (0..self.queue.len()).map_while(|_| self.take())
    }

    /// How many were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::time;
    use crate::stats::taught::Learning;

    #[test]
    fn a_full_queue_drops_the_newest_and_counts_them() {
        let lessons = Arc::new(Lessons::holding(2));
        let learning = Learning::new(lessons.clone(), time::now());
        let row = Arc::new(Row::new(time::now(), Arc::default(), learning));
        for tokens in 1..=5 {
            row.tell(
                Kind::default(),
                What::Pace { tokens, took: Duration::ZERO, pause: Duration::ZERO },
            );
        }
        assert_eq!(lessons.dropped(), 3);
        let told: Vec<_> = lessons.waiting().map(|lesson| lesson.what).collect();
        let pace = |tokens| What::Pace { tokens, took: Duration::ZERO, pause: Duration::ZERO };
        assert_eq!(told, [pace(1), pace(2)]);
        row.tell(Kind::default(), pace(6));
        assert_eq!(lessons.dropped(), 3);
    }
}
