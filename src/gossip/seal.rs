//! Datagrams that only those with a key can make or read, and that count once.
//!
//! `| version | key id | boot id 12 | counter 8 | AES-256-GCM | tag 16 |`: 38 bytes more than what
//! they carry. Each life of a process has a key of its own, derived from the shared one and its
//! boot id, so that its counter is a nonce nobody else uses. The cluster and the namespace go into
//! that key: who belongs to another one cannot read a byte. What nobody has sealed costs its
//! receiver one derivation and one check.
//!
//! A counter counts once within the last 1,024 of its boot id. A boot id that is not known yet has
//! no such window, so its first datagram is taken only if it was made within the last minute.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;

use super::identity::Boot;

/// Nothing longer is sent or read: it fits the path of every network without fragments.
pub const MTU: usize = 1_200;
/// What sealing adds.
pub const OVERHEAD: usize = HEAD + TAG;
const HEAD: usize = 1 + 1 + Boot::LENGTH + 8;
const TAG: usize = 16;
const VERSION: u8 = 1;
const PURPOSE: &[u8] = b"pillion-gossip-1";

/// The shared keys, by their ids, and the one that is sent with.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    active: u8,
    by_id: BTreeMap<u8, [u8; 32]>,
}

/// The key that shall be sent with is not among those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoKey {
    /// Its id.
    pub id: u8,
}

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} is the active one and not among the keys", self.id)
    }
}

impl std::error::Error for NoKey {}

impl Keys {
    /// Keys by id, of which one is active.
    pub fn new(active: u8, by_id: BTreeMap<u8, [u8; 32]>) -> Result<Self, NoKey> {
        if by_id.contains_key(&active) {
            Ok(Self { active, by_id })
        } else {
            Err(NoKey { id: active })
        }
    }

    /// The one that is sent with, once everybody has it.
    pub fn active(&self) -> u8 {
        self.active
    }

    /// All ids, the lowest first.
    pub fn ids(&self) -> impl Iterator<Item = u8> {
        self.by_id.keys().copied()
    }

    /// Whether it is there.
    pub fn has(&self, id: u8) -> bool {
        self.by_id.contains_key(&id)
    }
}

/// Says which keys there are and nothing about them.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.ids().collect();
        f.debug_struct("Keys")
            .field("active", &self.active)
            .field("ids", &ids)
            .finish_non_exhaustive()
    }
}

/// Why a datagram is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its seal is not one of ours: made with another key, for another cluster, or changed.
    Forged,
    /// Its counter was seen before, or is too old to tell.
    Replayed,
    /// Nobody knows its sender, and its clock says it is not from this minute.
    Stale,
    /// Nobody can seal so little, or send so much.
    Truncated,
    /// Its key is not here.
    UnknownKey,
    /// It is of a version of which nothing is known.
    Version,
}

impl Refused {
    /// All reasons, in the order of their positions.
    pub const ALL: [Self; 6] = [
        Self::Forged,
        Self::Replayed,
        Self::Stale,
        Self::Truncated,
        Self::UnknownKey,
        Self::Version,
    ];

    /// In a word, as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Stale => "stale",
            Self::Truncated => "truncated",
            Self::UnknownKey => "unknown_key",
            Self::Version => "version",
        }
    }
}

/// Seals what goes out and opens what comes in.
pub struct Seal {
    boot: Boot,
    /// Cluster and namespace, which nobody else's keys are derived with.
    scope: Vec<u8>,
    keys: Keys,
    sending: u8,
    own: Option<LessSafeKey>,
    counter: u64,
    windows: HashMap<Boot, Window>,
}

/// What was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'d> {
    /// Who has sealed it.
    pub boot: Boot,
    /// What it carries.
    pub carried: &'d [u8],
}

/// Which counters of a boot id were seen.
#[derive(Debug, Clone)]
struct Window {
    newest: u64,
    /// Of the last 1,024, by their remainder.
    seen: [u64; Window::WORDS],
    heard: Instant,
}

/// A sender that is not heard for so long is not known any more. Longer than [`FRESH`] in both
/// directions, so that nothing it has sent can come back as the first that is heard of it.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// How far the clock of an unknown sender may be from one's own.
const FRESH: Duration = Duration::from_secs(60);
/// How many senders are known at most; beyond, the unknown are refused.
const MOST_WINDOWS: usize = 16_384;

impl Seal {
    /// A seal for datagrams of `boot`.
    pub fn new(cluster: &str, namespace: &str, boot: Boot, keys: Keys) -> Self {
        // With their lengths, so that no two pairs read the same.
        let mut scope = Vec::new();
        for name in [cluster, namespace] {
            scope.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
            scope.extend_from_slice(name.as_bytes());
        }
        let sending = keys.active;
        let (own, windows) = (None, HashMap::new());
        let mut seal = Self { boot, scope, keys, sending, own, counter: 0, windows };
        seal.own = seal.key(sending, boot);
        seal
    }

    /// The keys there are.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The id of the key that is sent with.
    pub fn sending(&self) -> u8 {
        self.sending
    }

    /// Takes other keys. The one that was sent with goes on being it as long as it is there:
    /// [`Seal::send_with_active`] changes it when all have the next.
    pub fn set_keys(&mut self, keys: Keys) {
        if !keys.has(self.sending) {
            self.sending = keys.active;
        }
        self.keys = keys;
        self.own = self.key(self.sending, self.boot);
    }

    /// Sends with the active key from now on.
    pub fn send_with_active(&mut self) {
        self.sending = self.keys.active;
        self.own = self.key(self.sending, self.boot);
    }

    /// Seals `carried`; `None` where it is too long for a datagram.
    pub fn seal(&mut self, carried: &[u8]) -> Option<Vec<u8>> {
        let own = self.own.as_ref()?;
        if carried.len() + OVERHEAD > MTU {
            return None;
        }
        self.counter += 1;
        let mut datagram = Vec::with_capacity(carried.len() + OVERHEAD);
        datagram.extend_from_slice(&[VERSION, self.sending]);
        datagram.extend_from_slice(&self.boot.0);
        datagram.extend_from_slice(&self.counter.to_be_bytes());
        let aad = Aad::from(<[u8; HEAD]>::try_from(datagram.as_slice()).ok()?);
        datagram.extend_from_slice(carried);
        let body = datagram.get_mut(HEAD..)?;
        let tag = own.seal_in_place_separate_tag(nonce(self.counter), aad, body).ok()?;
        datagram.extend_from_slice(tag.as_ref());
        Some(datagram)
    }

    /// Opens a datagram in its place. Its first four bytes are the sender's clock in seconds,
    /// which is compared with `unix` where the sender is new.
    pub fn open<'d>(
        &mut self,
        datagram: &'d mut [u8],
        unix: Duration,
        now: Instant,
    ) -> Result<Opened<'d>, Refused> {
        if datagram.len() < OVERHEAD + CLOCK || datagram.len() > MTU {
            return Err(Refused::Truncated);
        }
        let (head, body) = datagram.split_at_mut(HEAD);
        let head = <[u8; HEAD]>::try_from(&*head).map_err(|_| Refused::Truncated)?;
        let [version, id, rest @ ..] = head;
        if version != VERSION {
            return Err(Refused::Version);
        }
        let (boot, counter) = rest.split_at(Boot::LENGTH);
        let boot = Boot(boot.try_into().map_err(|_| Refused::Truncated)?);
        let counter = u64::from_be_bytes(counter.try_into().map_err(|_| Refused::Truncated)?);
        let window = self.windows.get(&boot);
        if window.is_some_and(|window| window.has(counter)) {
            return Err(Refused::Replayed);
        }
        let key = self.key(id, boot).ok_or(Refused::UnknownKey)?;
        let opened = key.open_in_place(nonce(counter), Aad::from(head), body);
        let opened = opened.map_err(|_| Refused::Forged)?;
        let (clock, carried) = opened.split_at(CLOCK);
        if window.is_none() {
            let clock = u32::from_be_bytes(clock.try_into().map_err(|_| Refused::Truncated)?);
            let apart = Duration::from_secs(clock.into()).abs_diff(unix);
            if apart > FRESH || self.windows.len() >= MOST_WINDOWS {
                return Err(Refused::Stale);
            }
        }
        self.windows.entry(boot).or_insert_with(|| Window::new(now)).note(counter, now);
        Ok(Opened { boot, carried })
    }

    /// Forgets those who were not heard for long.
    pub fn forget(&mut self, now: Instant) {
        self.windows.retain(|_, window| now.saturating_duration_since(window.heard) < FORGOTTEN);
    }

    fn key(&self, id: u8, boot: Boot) -> Option<LessSafeKey> {
        let shared = self.keys.by_id.get(&id)?;
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, &boot.0).extract(shared);
        let info = [PURPOSE, &self.scope];
        let key = derived.expand(&info, &aead::AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }
}

/// The sender's clock before what is carried.
pub const CLOCK: usize = 4;

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boot, keys, sending, counter, .. } = self;
        f.debug_struct("Seal")
            .field("boot", boot)
            .field("keys", keys)
            .field("sending", sending)
            .field("counter", counter)
            .finish_non_exhaustive()
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; aead::NONCE_LEN];
    for (byte, from) in nonce.iter_mut().rev().zip(counter.to_be_bytes().iter().rev()) {
        *byte = *from;
    }
    Nonce::assume_unique_for_key(nonce)
}

impl Window {
    const WORDS: usize = 16;
    const SPAN: u64 = 1_024;

    fn new(now: Instant) -> Self {
        Self { newest: 0, seen: [0; Self::WORDS], heard: now }
    }

    /// Whether a counter was seen, or is so old that nobody knows.
    fn has(&self, counter: u64) -> bool {
        if counter > self.newest {
            return false;
        }
        let (word, bit) = Self::place(counter);
        counter == 0
            || self.newest - counter >= Self::SPAN
            || self.seen.get(word).is_none_or(|word| word & bit != 0)
    }

    fn note(&mut self, counter: u64, now: Instant) {
        self.heard = now;
        let fresh = counter.saturating_sub(self.newest);
        if fresh >= Self::SPAN {
            self.seen = [0; Self::WORDS];
        } else {
            for skipped in self.newest..self.newest + fresh {
                let (word, bit) = Self::place(skipped + 1);
                if let Some(word) = self.seen.get_mut(word) {
                    *word &= !bit;
                }
            }
        }
        self.newest = self.newest.max(counter);
        let (word, bit) = Self::place(counter);
        if let Some(word) = self.seen.get_mut(word) {
            *word |= bit;
        }
    }

    fn place(counter: u64) -> (usize, u64) {
        let at = counter % Self::SPAN;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lexicon::time;

    const UNIX: Duration = Duration::from_secs(1_800_000_000);

    fn keys(ids: &[u8], active: u8) -> Keys {
        Keys::new(active, ids.iter().map(|id| (*id, [*id; 32])).collect()).unwrap()
    }

    fn seal_of(name: u64, ids: &[u8], active: u8) -> Seal {
        Seal::new("shop", "prod", Boot::new(UNIX, name), keys(ids, active))
    }

    fn said(text: &str) -> Vec<u8> {
        let clock = u32::try_from(UNIX.as_secs()).unwrap().to_be_bytes();
        [&clock, text.as_bytes()].concat()
    }

    /// What `at` reads of a datagram, as text.
    fn read(at: &mut Seal, datagram: &[u8]) -> Result<String, Refused> {
        let mut datagram = datagram.to_vec();
        let opened = at.open(&mut datagram, UNIX, time::now())?;
        Ok(String::from_utf8(opened.carried.to_vec()).unwrap())
    }

    #[test]
    fn what_is_sealed_is_read_once() {
        let (mut one, mut other) = (seal_of(1, &[7], 7), seal_of(2, &[7], 7));
        let datagram = one.seal(&said("hello")).unwrap();
        assert_eq!(datagram.len(), "hello".len() + CLOCK + OVERHEAD);
        assert_eq!(read(&mut other, &datagram), Ok("hello".into()));
        assert_eq!(read(&mut other, &datagram), Err(Refused::Replayed));
    }

    #[test]
    fn the_order_in_which_datagrams_come_is_no_matter() {
        let (mut one, mut other) = (seal_of(1, &[7], 7), seal_of(2, &[7], 7));
        let sealed: Vec<_> = (0..3_000).map(|_| one.seal(&said("")).unwrap()).collect();
        for at in [1_500, 1_000, 1_499, 477, 1_501] {
            assert_eq!(read(&mut other, &sealed[at]), Ok(String::new()), "{at}");
            assert_eq!(read(&mut other, &sealed[at]), Err(Refused::Replayed), "{at}");
        }
        assert_eq!(read(&mut other, &sealed[476]), Err(Refused::Replayed));
        assert_eq!(read(&mut other, &sealed[2_999]), Ok(String::new()));
        assert_eq!(read(&mut other, &sealed[1_502]), Err(Refused::Replayed));
        assert_eq!(read(&mut other, &sealed[2_524]), Ok(String::new()), "a bit used before");
    }

    proptest! {
        #[test]
        fn a_counter_counts_once_within_its_span(
            steps in proptest::collection::vec((0u64..3, 0u64..1_500), 1..400),
        ) {
            let now = time::now();
            let (mut window, mut seen) = (Window::new(now), std::collections::HashSet::new());
            for (kind, step) in steps {
                let newest = window.newest;
                let counter = match kind {
                    0 => newest + step % 5,
                    1 => newest + step,
                    _ => newest.saturating_sub(step),
                };
                let is_old = newest.saturating_sub(counter) >= 1_024;
                let was_seen = counter == 0 || is_old || seen.contains(&counter);
                prop_assert_eq!(window.has(counter), was_seen, "{} of {}", counter, newest);
                if !was_seen {
                    window.note(counter, now);
                    seen.insert(counter);
                }
            }
        }
    }

    #[test]
    fn a_stranger_is_refused() {
        let mut other = seal_of(2, &[7], 7);
        let mut check = |mut stranger: Seal, want| {
            let datagram = stranger.seal(&said("hello")).unwrap();
            assert_eq!(read(&mut other, &datagram).unwrap_err(), want);
        };
        check(seal_of(1, &[8], 8), Refused::UnknownKey);
        let foreign = Keys::new(7, [(7, [9; 32])].into()).unwrap();
        check(Seal::new("shop", "prod", Boot::new(UNIX, 3), foreign), Refused::Forged);
        check(Seal::new("shop", "test", Boot::new(UNIX, 4), keys(&[7], 7)), Refused::Forged);
        check(Seal::new("shopp", "rod", Boot::new(UNIX, 5), keys(&[7], 7)), Refused::Forged);
    }

    #[test]
    fn an_unknown_sender_must_be_of_this_minute() {
        let (mut one, mut other) = (seal_of(1, &[7], 7), seal_of(2, &[7], 7));
        let (first, second) = (one.seal(&said("a")).unwrap(), one.seal(&said("b")).unwrap());
        let now = time::now();
        let late = UNIX + Duration::from_secs(61);
        assert_eq!(other.open(&mut first.clone(), late, now), Err(Refused::Stale));
        assert!(other.open(&mut second.clone(), UNIX, now).is_ok());
        assert!(other.open(&mut first.clone(), late, now).is_ok(), "it is known now");
        let later = now + FORGOTTEN;
        other.forget(later);
        assert_eq!(other.open(&mut second.clone(), late, later), Err(Refused::Stale));
    }

    #[test]
    fn keys_change_in_three_phases_and_nobody_is_lost() {
        let (mut one, mut other) = (seal_of(1, &[1], 1), seal_of(2, &[1], 1));
        let talk = |one: &mut Seal, other: &mut Seal| {
            let there = one.seal(&said("there")).unwrap();
            let back = other.seal(&said("back")).unwrap();
            assert_eq!(read(other, &there), Ok("there".into()));
            assert_eq!(read(one, &back), Ok("back".into()));
        };
        talk(&mut one, &mut other);
        one.set_keys(keys(&[1, 2], 2));
        assert_eq!(one.sending(), 1, "the other has not got it");
        talk(&mut one, &mut other);
        other.set_keys(keys(&[1, 2], 1));
        one.send_with_active();
        assert_eq!(one.sending(), 2);
        talk(&mut one, &mut other);
        other.set_keys(keys(&[2], 2));
        assert_eq!(other.sending(), 2, "the old one is gone");
        talk(&mut one, &mut other);
        one.set_keys(keys(&[2], 2));
        talk(&mut one, &mut other);
        assert_eq!(Keys::new(3, BTreeMap::new()), Err(NoKey { id: 3 }));
    }

    #[test]
    fn keys_are_not_written_down() {
        let text = format!("{:?} {:?}", keys(&[7], 7), seal_of(1, &[7], 7));
        assert!(!text.contains("7, 7"), "{text}");
    }

    proptest! {
        #[test]
        fn no_bytes_are_taken_for_ours(bytes in proptest::collection::vec(any::<u8>(), 0..1_300)) {
            let mut seal = seal_of(1, &[7], 7);
            prop_assert!(read(&mut seal, &bytes).is_err());
            let mut like_ours = bytes;
            if let [version, id, ..] = like_ours.as_mut_slice() {
                (*version, *id) = (VERSION, 7);
            }
            prop_assert!(read(&mut seal, &like_ours).is_err());
        }

        #[test]
        fn a_datagram_that_was_changed_is_refused(at in 0usize..60, by in 1u8.., cut in 1usize..60) {
            let (mut one, mut other) = (seal_of(1, &[7], 7), seal_of(2, &[7], 7));
            let datagram = one.seal(&said("a few words of it")).unwrap();
            let mut changed = datagram.clone();
            let at = at % changed.len();
            changed[at] ^= by;
            prop_assert!(read(&mut other, &changed).is_err());
            let shorter = datagram.len().saturating_sub(cut);
            prop_assert!(read(&mut other, &datagram[..shorter]).is_err());
            prop_assert_eq!(read(&mut other, &datagram), Ok("a few words of it".into()));
        }
    }
}
