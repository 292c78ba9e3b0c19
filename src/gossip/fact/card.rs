//! What a member says of itself: its version, its zone, its configuration and the keys it has.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Heard;
use crate::gossip::identity::Boot;

/// What a sidecar says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Card {
    /// Of Pillion.
    pub version: Box<str>,
    /// Where it runs; empty where nobody has said so.
    pub zone: Box<str>,
    /// How often its configuration has changed.
    pub generation: u64,
    /// Of its configuration: two with the same have the same file.
    pub hash: [u8; 8],
}

/// A card on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whose it is.
    pub boot: Boot,
    /// How often it has changed; the latest counts.
    pub turn: u32,
    /// The card.
    pub card: Arc<Card>,
    /// Ids of the keys it has.
    pub keys: Arc<[u8]>,
}

/// The cards of all.
#[derive(Debug, Default)]
pub struct Cards {
    by: HashMap<Boot, Kept>,
    digest: u64,
    once: Once<Card>,
    once_keys: Once<[u8]>,
}

/// What many say alike, kept once: nearly all of a fleet have the same version, file and keys.
#[derive(Debug)]
struct Once<T: ?Sized>(HashSet<Arc<T>>);

#[derive(Debug)]
struct Kept {
    told: Told,
    heard: Instant,
}

/// So many cards at most, whoever sends them.
const MOST: usize = 16_384;
/// A card may come before its member does.
const EARLY: Duration = Duration::from_secs(60);

impl Cards {
    /// Takes a card in.
    pub fn hear(&mut self, told: Told, now: Instant) -> Heard {
        let known = self.by.get(&told.boot);
        if known.map_or(self.by.len() >= MOST, |known| known.told.turn >= told.turn) {
            return Heard::Old;
        }
        self.digest ^= known.map_or(0, |known| mark(&known.told)) ^ mark(&told);
        let Told { boot, turn, card, keys } = told;
        let told = Told { boot, turn, card: self.once.same(card), keys: self.once_keys.same(keys) };
        self.by.insert(told.boot, Kept { told, heard: now });
        Heard::News
    }

    /// The card of one.
    pub fn of(&self, boot: &Boot) -> Option<&Told> {
        self.by.get(boot).map(|kept| &kept.told)
    }

    /// All cards.
    pub fn all(&self) -> impl Iterator<Item = &Told> {
        self.by.values().map(|kept| &kept.told)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by.len()
    }

    /// The same for the same cards.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Forgets those of members that are gone.
    pub fn forget(&mut self, is_alive: impl Fn(&Boot) -> bool, now: Instant) {
        let is_kept = |boot: &Boot, kept: &Kept| {
            is_alive(boot) || now.saturating_duration_since(kept.heard) < EARLY
        };
        self.by.retain(|boot, kept| is_kept(boot, kept));
        self.digest = self.by.values().fold(0, |digest, kept| digest ^ mark(&kept.told));
        self.once.forget();
        self.once_keys.forget();
    }
}

impl<T: ?Sized> Default for Once<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: ?Sized + Eq + Hash> Once<T> {
    /// The one that is kept and says the same.
    fn same(&mut self, said: Arc<T>) -> Arc<T> {
        if let Some(known) = self.0.get(&said) {
            return known.clone();
        }
        self.0.insert(said.clone());
        said
    }

    /// Forgets what nobody says any more.
    fn forget(&mut self) {
        self.0.retain(|said| Arc::strong_count(said) > 1);
    }
}

fn mark(told: &Told) -> u64 {
    crate::gossip::rumor::hash(&[&told.boot.0, &told.turn.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::time;

    fn told(boot: u8, turn: u32) -> Told {
        let (boot, card) = (Boot([boot; 12]), Card { generation: turn.into(), ..Card::default() });
        Told { boot, turn, card: card.into(), keys: [1].into() }
    }

    #[test]
    fn the_latest_card_counts_in_any_order() {
        let now = time::now();
        let all = [told(1, 1), told(2, 1), told(1, 3), told(1, 2)];
        let (mut forth, mut back) = (Cards::default(), Cards::default());
        for card in &all {
            forth.hear(card.clone(), now);
        }
        for card in all.iter().rev().chain(&all) {
            back.hear(card.clone(), now);
        }
        assert_eq!(forth.digest(), back.digest());
        for cards in [&forth, &back] {
            assert_eq!(cards.of(&Boot([1; 12])).map(|told| told.turn), Some(3));
            assert_eq!(cards.count(), 2);
        }
    }

    #[test]
    fn what_many_say_alike_is_kept_once() {
        let (mut cards, now) = (Cards::default(), time::now());
        for boot in 0..100 {
            cards.hear(told(boot, 1), now);
        }
        cards.hear(told(7, 2), now);
        assert_eq!((cards.once.0.len(), cards.once_keys.0.len()), (2, 1));
        cards.forget(|boot| boot.0[0] != 7, now + EARLY);
        assert_eq!((cards.once.0.len(), cards.once_keys.0.len()), (1, 1));
    }

    #[test]
    fn cards_of_the_gone_are_forgotten() {
        let (mut cards, now) = (Cards::default(), time::now());
        cards.hear(told(1, 1), now);
        cards.hear(told(2, 1), now);
        cards.forget(|boot| boot.0[0] == 1, now);
        assert_eq!(cards.count(), 2, "they may be early");
        cards.forget(|boot| boot.0[0] == 1, now + EARLY);
        assert_eq!(cards.count(), 1);
        let mut same = Cards::default();
        same.hear(told(1, 1), now);
        assert_eq!(cards.digest(), same.digest());
    }
}
