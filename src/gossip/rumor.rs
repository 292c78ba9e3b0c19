//! How news reach everybody: who hears something new tells three others, at once and then a few
//! times a second, until it has told it often enough.
//!
//! Beside foca's own broadcasts, because what is told here must be joined with what is known, must
//! not wait for a tick, and must not take the rest of a datagram with it where it does not read.
//! What is sent has a rate that it keeps at any size of the fleet: rumours wait, and where too many
//! wait the oldest is dropped, which the next comparison of tables mends. Cards are no reason to send
//! anything. They go along with what is sent anyway, a few at a time: a whole fleet that starts, or
//! takes up new keys, has one of each member to tell, and a pause must not wait behind them.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::identity::{Boot, Origin};
use super::wire::{Packet, Record};
use crate::lexicon::Fingerprint;

/// What a rumour is about; a newer one takes the place of an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Whose card.
    Card(Boot),
    /// Which deployment.
    Cooldown(Fingerprint),
    /// Which deployment, as whom.
    Failures(Fingerprint, Origin),
}

/// Rumours on their way.
#[derive(Debug)]
pub struct Rumors {
    /// The oldest first.
    waiting: Vec<Rumor>,
    /// Cards, likewise.
    cards: Vec<Rumor>,
    last: Option<Instant>,
    purse: Purse,
    dropped: u64,
}

#[derive(Debug)]
struct Rumor {
    about: About,
    record: Record,
    since: Instant,
    left: u32,
}

/// Bytes that may be sent: so many per second, and some in advance.
#[derive(Debug, Clone, Copy)]
pub struct Purse {
    bytes: f64,
    at: Instant,
}

/// How many are told at once.
pub const LISTENERS: usize = 3;
/// News wait so long for others to go with them.
const TICK: Duration = Duration::from_millis(100);
/// Cards that go along with one datagram.
const CARDS: usize = 1;
/// Rumours that wait.
const MOST: usize = 256;

impl Rumors {
    /// Nothing to tell.
    pub fn new(now: Instant) -> Self {
        let (waiting, cards) = (Vec::new(), Vec::new());
        Self { waiting, cards, last: None, purse: Purse::new(now), dropped: 0 }
    }

    /// Adds news, for a fleet of so many.
    pub fn add(&mut self, about: About, record: Record, members: usize, now: Instant) {
        let queue = match about {
            About::Card(_) => &mut self.cards,
            About::Cooldown(_) | About::Failures(..) => &mut self.waiting,
        };
        queue.retain(|rumor| rumor.about != about);
        if queue.len() >= MOST {
            queue.remove(0);
            self.dropped += 1;
        }
        queue.push(Rumor { about, record, since: now, left: times(members) });
    }

    /// When to tell next; `None` where there is nothing.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        Some(self.last.map_or(now, |last| last + TICK).max(self.purse.ready()))
    }

    /// Packs what one listener is told.
    pub fn pack(&mut self, packet: &mut Packet, now: Instant) {
        pack(&mut self.waiting, usize::MAX, packet, now);
    }

    /// Packs a few cards with something else.
    pub fn pack_cards(&mut self, packet: &mut Packet, now: Instant) {
        pack(&mut self.cards, CARDS, packet, now);
    }

    /// Notes that a round is over which took so many bytes.
    pub fn told(&mut self, bytes: usize, now: Instant) {
        self.last = Some(now);
        self.purse.spend(bytes, now);
    }

    /// How many were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Packs what was told least often first.
fn pack(queue: &mut Vec<Rumor>, most: usize, packet: &mut Packet, now: Instant) {
    queue.sort_by_key(|rumor| std::cmp::Reverse(rumor.left));
    for rumor in queue.iter_mut().take(most) {
        match rumor.told(now) {
            None => rumor.left = 0,
            Some(told) if packet.add(&told).is_ok() => rumor.left -= 1,
            Some(_) => {}
        }
    }
    queue.retain(|rumor| rumor.left > 0);
}

impl Rumor {
    /// What is told of it now; `None` where it is over.
    fn told(&self, now: Instant) -> Option<Cow<'_, Record>> {
        let Record::Failures(told) = &self.record else { return Some(Cow::Borrowed(&self.record)) };
        let told = told.after(now.saturating_duration_since(self.since))?;
        Some(Cow::Owned(Record::Failures(told)))
    }
}

/// How often each is to tell a rumour so that everybody hears it: each then hears it about as
/// often, and misses it with a chance of `e^−times`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a small number"
)]
fn times(members: usize) -> u32 {
    (4.0 * (members.max(1) as f64 + 1.0).log10()).ceil() as u32 + 2
}

impl Purse {
    const RATE: f64 = 750.0;
    const MOST: f64 = 20_000.0;

    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { bytes: Self::MOST, at: now }
    }

    /// Takes bytes out, also such as are not there.
    pub fn spend(&mut self, bytes: usize, now: Instant) {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        let earned = (self.bytes + since * Self::RATE).min(Self::MOST);
        #[expect(clippy::cast_precision_loss, reason = "some kilobytes")]
        let spent = bytes as f64;
        *self = Self { bytes: earned - spent, at: now };
    }

    /// From when on something is there.
    pub fn ready(&self) -> Instant {
        if self.bytes >= 0.0 {
            return self.at;
        }
        self.at + Duration::from_secs_f64(-self.bytes / Self::RATE)
    }
}

/// The same for the same bytes on every machine: FNV-1a, mixed once more.
pub fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    let mut mixed = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::time;

    fn rumor(of: u8, epoch: u32) -> (About, Record) {
        let of = Fingerprint([of; 8]);
        let told = super::super::fact::cooldown::Told {
            of,
            epoch,
            age: Duration::ZERO,
            claims: smallvec::SmallVec::new(),
        };
        (About::Cooldown(of), Record::Cooldown(told))
    }

    #[test]
    fn a_rumour_is_told_some_times_and_the_latest_of_its_kind() {
        let now = time::now();
        let mut rumors = Rumors::new(now);
        assert_eq!(rumors.due(now), None);
        for epoch in 1..=3 {
            let (about, record) = rumor(1, epoch);
            rumors.add(about, record, 9, now);
        }
        assert_eq!(rumors.due(now), Some(now));
        let mut told = 0;
        while rumors.due(now).is_some() {
            let mut packet = Packet::default();
            rumors.pack(&mut packet, now);
            let said: Vec<_> = super::super::wire::Records::of(packet.bytes()).collect();
            assert_eq!(said, [Ok(rumor(1, 3).1)]);
            told += 1;
        }
        assert_eq!(told, times(9));
        assert_eq!((times(9), times(999)), (6, 14));
    }

    #[test]
    fn too_many_rumours_wait_and_the_oldest_is_dropped() {
        let now = time::now();
        let mut rumors = Rumors::new(now);
        for of in 0..=u8::MAX {
            let (about, record) = rumor(of, 1);
            rumors.add(about, record, 9, now);
        }
        let of = Origin([1; 6]);
        let about = About::Failures(Fingerprint([0; 8]), of);
        rumors.add(about, rumor(0, 1).1, 9, now);
        assert_eq!((rumors.waiting.len(), rumors.dropped()), (MOST, 1));
        rumors.told(21_000, now);
        let due = rumors.due(now).unwrap().duration_since(now).as_secs_f64();
        assert!((due - 1_000.0 / Purse::RATE).abs() < 1e-6, "{due}");
    }

    #[test]
    fn cards_go_along_and_make_nobody_wait() {
        let now = time::now();
        let mut rumors = Rumors::new(now);
        for name in 0..9 {
            let told = super::super::fact::card::Told {
                boot: Boot([name; 12]),
                turn: 1,
                card: super::super::Card::default().into(),
                keys: [1].into(),
            };
            rumors.add(About::Card(told.boot), Record::Card(told), 9, now);
        }
        assert_eq!(rumors.due(now), None);
        let mut packet = Packet::default();
        rumors.pack_cards(&mut packet, now);
        assert_eq!(super::super::wire::Records::of(packet.bytes()).count(), CARDS);
    }
}
