//! What a node shows of itself and of the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::fact::card::Card;
use super::super::identity::Boot;
use super::super::member::Health;
use super::super::seal::Refused;
use super::super::wire::Mood;
use super::Node;
use crate::lexicon::Fingerprint;
use crate::routing::fleet::Cooldown;

/// What was sent and received since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Datagrams that went out.
    pub datagrams_out: u64,
    /// Their bytes, without headers of UDP and IP.
    pub bytes_out: u64,
    /// Datagrams that came, whatever became of them.
    pub datagrams_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Datagrams that were not read, by the position of the reason in [`Refused::ALL`].
    pub refused: [u64; Refused::ALL.len()],
    /// Records that did not read, or said what cannot be.
    pub records_dropped: u64,
    /// Rumours that were dropped because too many waited.
    pub rumors_dropped: u64,
    /// Datagrams that did not go out because too many waited.
    pub unsent: u64,
}

/// A member, as this one sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberSeen {
    /// Whether it is this one.
    pub is_me: bool,
    /// Where it is.
    pub address: SocketAddr,
    /// Which process.
    pub boot: Boot,
    /// How it is.
    pub health: Health,
    /// What it says of itself.
    pub card: Option<Arc<Card>>,
    /// Ids of the keys it has.
    pub keys: Arc<[u8]>,
    /// How long ago it was last heard directly.
    pub heard: Option<Duration>,
    /// What it believes.
    pub mood: Option<Mood>,
}

impl Counts {
    pub(super) fn sent(&mut self, bytes: usize) {
        self.datagrams_out += 1;
        self.bytes_out += bytes as u64;
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.datagrams_in += 1;
        self.bytes_in += bytes as u64;
    }

    pub(super) fn refuse(&mut self, why: Refused) {
        let at = Refused::ALL.iter().position(|known| *known == why);
        if let Some(count) = at.and_then(|at| self.refused.get_mut(at)) {
            *count += 1;
        }
    }
}

impl Node {
    /// All members that are known, this one first.
    pub fn members(&self, now: Instant) -> Vec<MemberSeen> {
        let me = self.members.me();
        let own = (me.address, me.boot, Health::Alive);
        let others = self.members.all();
        let others = others.map(|it| (it.identity.address, it.identity.boot, it.state));
        std::iter::once(own)
            .chain(others)
            .map(|(address, boot, health)| {
                let is_me = boot == me.boot;
                let peer = self.peers.get(&boot);
                let card = self.cards.of(&boot);
                let heard = peer.map(|peer| now.saturating_duration_since(peer.heard));
                let mood = if is_me { Some(self.mood(now)) } else { peer.and_then(|it| it.mood) };
                let keys = card.map_or_else(|| Arc::from([]), |told| told.keys.clone());
                let card = card.map(|told| told.card.clone());
                MemberSeen { is_me, address, boot, health, card, keys, heard, mood }
            })
            .collect()
    }

    /// What was sent and received.
    pub fn counts(&self) -> Counts {
        Counts { rumors_dropped: self.rumors.dropped(), ..self.counts }
    }

    /// The id of the key that is sent with.
    pub fn sending_key(&self) -> u8 {
        self.seal.sending()
    }

    /// What is agreed of a deployment, also of one that this sidecar does not call.
    pub fn cooldown(&self, of: Fingerprint, now: Instant) -> Option<Cooldown> {
        self.cooldowns.agreed(of, now)
    }

    pub(super) fn mood(&self, now: Instant) -> Mood {
        let paused = u16::try_from(self.cooldowns.paused(now)).unwrap_or(u16::MAX);
        Mood { members: self.member_count(), paused, table: self.cooldowns.digest() }
    }
}
