//! What a provider said last of its limits, to whomever: the newest wins.

use std::time::{Duration, Instant};

use crate::routing::fleet::Quota;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latest {
    left: u16,
    tokens: Option<u32>,
    at: Instant,
}

/// What travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// In thousandths.
    pub left: u16,
    /// See [`Quota`].
    pub tokens: Option<u32>,
    /// How long ago it was said.
    pub age: Duration,
}

/// What is older says nothing about now.
const LONGEST: Duration = Duration::from_secs(120);
/// On its way a word looks younger than it is by what the way took. Who takes over only what is
/// newer by more than that does not hear its own word again as news.
const WAY: Duration = Duration::from_secs(1);

impl Latest {
    /// As it was told; `None` where that is too long ago.
    pub fn of(told: Told, now: Instant) -> Option<Self> {
        let Told { left, tokens, age } = told;
        (age < LONGEST).then(|| now.checked_sub(age))?.map(|at| Self { left, tokens, at })
    }

    /// The newer of the two.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        if other.at > self.at + WAY { other } else { self }
    }

    /// For others; `None` where it is too old.
    pub fn told(&self, now: Instant) -> Option<Told> {
        let Self { left, tokens, at } = *self;
        let age = now.saturating_duration_since(at);
        (age < LONGEST).then_some(Told { left, tokens, age })
    }

    /// For routing.
    pub fn quota(&self, now: Instant) -> Option<Quota> {
        self.told(now).map(|Told { left, tokens, age }| Quota { left, tokens, age })
    }
}

impl From<Quota> for Told {
    fn from(Quota { left, tokens, age }: Quota) -> Self {
        Self { left: left.min(1_000), tokens, age }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::time;

    #[test]
    fn the_newest_word_wins() {
        let now = time::now() + LONGEST;
        let told = |left, age| {
            Latest::of(Told { left, tokens: None, age: Duration::from_secs(age) }, now).unwrap()
        };
        let (new, old) = (told(100, 3), told(900, 30));
        assert_eq!(new.join(old), new);
        assert_eq!(old.join(new), new);
        assert_eq!(new.join(new), new);
        let echo = told(100, 2);
        assert_eq!(new.join(echo), new, "its own word on its way back");
        assert_eq!(new.told(now + LONGEST), None);
    }
}
