//! What a node does by the clock: who is told what, and when.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::super::identity::Boot;
use super::super::limits::{Answer, OWNERS};
use super::super::rumor::{LISTENERS, Purse};
use super::super::wire::{Packet, Record};
use super::{Node, Settings};
use crate::lexicon::Fingerprint;

/// When things are due, and what is kept between two rounds.
#[derive(Debug)]
pub(super) struct Rounds {
    push: Instant,
    seek: Instant,
    resync: Instant,
    tidy: Instant,
    swim: Instant,
    /// For changes of membership, and the probes that tell them, too.
    swim_purse: Purse,
    compared: Instant,
    /// What peers said last of how many there are.
    counts: [u32; Rounds::COUNTS],
    counted: usize,
    owners: HashMap<Fingerprint, (u64, [Option<Boot>; OWNERS])>,
    answers: Vec<(SocketAddr, Answer)>,
}

/// Peers who are given a part in each round.
const GIVEN: usize = 2;
/// Seeds that are asked at once by who knows nobody.
const ASKED: usize = 3;
/// How often that is, and how often who lacks members asks for more.
const SEEK_ALONE: Duration = Duration::from_secs(1);
const TIDY: Duration = Duration::from_secs(2);
/// Changes of membership are told so often.
const SWIM: Duration = Duration::from_millis(200);
/// Tables that differ are compared so often at most; news take less than that.
const COMPARE: Duration = Duration::from_secs(2);
/// A key that not all have is sent with all the same after this.
const KEY_PATIENCE: Duration = Duration::from_secs(600);
/// Who was not heard for so long is no peer any more.
const SILENT: Duration = Duration::from_secs(600);
/// Answers that wait to go out together.
const MOST_ANSWERS: usize = 1_024;

impl Rounds {
    const COUNTS: usize = 9;

    pub(super) fn new(settings: &Settings, dice: &mut Rng, now: Instant) -> Self {
        Self {
            push: now + settings.interval.mul_f64(dice.f64()),
            seek: now,
            resync: now + settings.resync.mul_f64(dice.f64()),
            tidy: now + TIDY,
            swim: now,
            swim_purse: Purse::new(now),
            compared: now,
            counts: [0; Self::COUNTS],
            counted: 0,
            owners: HashMap::new(),
            answers: Vec::new(),
        }
    }

    fn swim_due(&self) -> Instant {
        self.swim.max(self.swim_purse.ready())
    }

    pub(super) fn seek(&mut self, now: Instant) {
        self.seek = self.seek.min(now);
    }

    pub(super) fn note_count(&mut self, members: u32) {
        if let Some(place) = self.counts.get_mut(self.counted % Self::COUNTS) {
            *place = members;
        }
        self.counted = (self.counted + 1) % Self::COUNTS;
    }

    /// How many there are, as half of those say who spoke last.
    fn usual_count(&self) -> u32 {
        let mut sorted = self.counts;
        sorted.sort_unstable();
        sorted.get(Self::COUNTS / 2).copied().unwrap_or_default()
    }

    pub(super) fn may_compare(&mut self, now: Instant) -> bool {
        let may = now.saturating_duration_since(self.compared) >= COMPARE;
        if may {
            self.compared = now;
        }
        may
    }

    pub(super) fn answer(&mut self, to: SocketAddr, answer: Answer) {
        if self.answers.len() < MOST_ANSWERS {
            self.answers.push((to, answer));
        }
    }

    pub(super) fn owners(&self, of: Fingerprint, changes: u64) -> Option<[Option<Boot>; OWNERS]> {
        self.owners.get(&of).filter(|(as_of, _)| *as_of == changes).map(|(_, owners)| *owners)
    }

    pub(super) fn set_owners(
        &mut self,
        of: Fingerprint,
        changes: u64,
        owners: [Option<Boot>; OWNERS],
    ) {
        self.owners.insert(of, (changes, owners));
    }
}

impl Node {
    /// Does what is due; says when to come again, if nothing comes before.
    pub fn poll(&mut self, now: Instant) -> Instant {
        if self.has_left {
            return now + self.settings.resync;
        }
        let swim = self.members.poll(now);
        if self.rounds.push <= now {
            self.rounds.push = now + self.jittered(self.settings.interval);
            self.push(now);
        }
        if self.rounds.seek <= now {
            self.seek(now);
        }
        if self.rounds.resync <= now {
            self.rounds.resync = now + self.jittered(self.settings.resync);
            if let Some(to) = self.somebody() {
                self.compare_with(to, 0, now);
            }
        }
        if self.rounds.tidy <= now {
            self.rounds.tidy = now + TIDY;
            self.tidy(now);
        }
        if self.members.has_news() && self.rounds.swim_due() <= now {
            self.rounds.swim = now + SWIM;
            self.members.gossip(now);
        }
        self.send_swim(now);
        self.report_usage(now);
        self.tell_rumors(now);
        self.next(swim, now)
    }

    fn next(&self, swim: Option<Instant>, now: Instant) -> Instant {
        let Rounds { push, seek, resync, tidy, .. } = self.rounds;
        let news = self.members.has_news().then_some(self.rounds.swim_due().max(now + LEAST_WAIT));
        let rumors = self.rumors.due(now).map(|due| due.max(now + LEAST_WAIT));
        let rumors = rumors.filter(|_| !self.members.live().is_empty());
        let usage = self.usage.next().map(|due| due.max(now + LEAST_WAIT));
        let others = [swim, news, rumors, usage].into_iter().flatten();
        [push, seek, resync, tidy].into_iter().chain(others).min().unwrap_or(now + TIDY)
    }

    /// Gives parts of what is known to a few peers.
    fn push(&mut self, now: Instant) {
        let to = self.some_of(GIVEN);
        if to.is_empty() {
            return;
        }
        let mut packet = Packet::default();
        // Between packing and sending nothing can go wrong, so what is given up is sent.
        let _ = packet.add(&Record::Mood(self.mood(now)));
        self.push_sum.split(u32::try_from(to.len()).unwrap_or_default(), &mut packet, now);
        self.rumors.pack_cards(&mut packet, now);
        for to in to {
            self.send(to, &packet, now);
        }
    }

    /// Asks for members: seeds, so that islands find each other, or members where many are unknown.
    fn seek(&mut self, now: Instant) {
        let is_alone = self.members.live().is_empty();
        let count = self.members.count();
        let lacks = self.rounds.usual_count() as usize > count + count / 20;
        let wait = if is_alone || lacks { SEEK_ALONE } else { self.settings.reseed };
        self.rounds.seek = now + self.jittered(wait);
        let to = if lacks && !is_alone && self.dice.bool() {
            self.some_of(1)
        } else {
            let count = if is_alone { ASKED } else { 1 };
            let mut seeds = self.seeds.clone();
            self.dice.shuffle(&mut seeds);
            seeds.truncate(count);
            seeds
        };
        for to in to {
            self.members.announce(to, now);
        }
    }

    fn tidy(&mut self, now: Instant) {
        self.push_sum.forget(now);
        self.cooldowns.forget(now);
        self.evidence.forget(self.me(), now);
        self.accounts.forget(now);
        self.seal.forget(now);
        let Self { members, cards, peers, own, .. } = self;
        let me = members.me().boot;
        cards.forget(|boot| *boot == me || members.of(boot).is_some(), now);
        peers.retain(|_, peer| now.saturating_duration_since(peer.heard) < SILENT);
        self.rounds.owners.retain(|of, _| own.contains_key(of));
        self.rotate(now);
    }

    /// Sends with the active key as soon as all have it.
    fn rotate(&mut self, now: Instant) {
        let active = self.seal.keys().active();
        if self.seal.sending() == active {
            return;
        }
        let has = |who: &super::Identity| {
            self.cards.of(&who.boot).is_some_and(|told| told.keys.contains(&active))
        };
        let is_late = now.saturating_duration_since(self.keys_at) >= KEY_PATIENCE;
        if is_late || self.members.live().iter().all(has) {
            self.seal.send_with_active();
        }
    }

    /// Sends what foca has said; rumours go with it where there is room.
    pub(super) fn send_swim(&mut self, now: Instant) {
        let all: Vec<_> = self.members.outgoing().collect();
        for (to, said) in all {
            let mut packet = Packet::default();
            if packet.add(&Record::Swim(said)).is_ok() {
                self.rounds.swim_purse.spend(packet.bytes().len(), now);
                self.rumors.pack(&mut packet, now);
                self.rumors.pack_cards(&mut packet, now);
                self.send(to, &packet, now);
            }
        }
    }

    /// Tells rumours to a few members.
    pub(super) fn tell_rumors(&mut self, now: Instant) {
        let is_due = self.rumors.due(now).is_some_and(|due| due <= now);
        if !is_due || self.members.live().is_empty() {
            return;
        }
        let mut bytes = 0;
        for to in self.some_of(LISTENERS) {
            let mut packet = Packet::default();
            self.rumors.pack(&mut packet, now);
            if packet.is_empty() {
                break;
            }
            self.rumors.pack_cards(&mut packet, now);
            bytes += packet.bytes().len();
            self.send(to, &packet, now);
        }
        self.rumors.told(bytes, now);
    }

    pub(super) fn report_usage(&mut self, now: Instant) {
        let due = self.usage.due(self.members.count(), now);
        self.report(&due, now);
        let mut packets: BTreeMap<SocketAddr, Packet> = BTreeMap::new();
        for (to, answer) in std::mem::take(&mut self.rounds.answers) {
            self.pack(&mut packets, to, &Record::Answer(answer), now);
        }
        for (to, packet) in packets {
            self.send(to, &packet, now);
        }
    }

    /// The last word of one that leaves.
    pub(super) fn report_all_usage(&mut self, now: Instant) {
        let all = self.usage.all();
        self.report(&all, now);
    }

    fn report(&mut self, all: &[Fingerprint], now: Instant) {
        let me = self.members.me().boot;
        let mut packets: BTreeMap<SocketAddr, Packet> = BTreeMap::new();
        for of in all {
            let Some(report) = self.usage.report(*of, now) else { continue };
            for (rank, owner) in self.owners_of(*of).into_iter().enumerate() {
                let Some(owner) = owner else { continue };
                if owner == me {
                    self.accounts.hear(me, report, now);
                    let answer = self.accounts.answer(*of, me, now);
                    self.usage.hear(answer, rank, now);
                } else if let Some(who) = self.members.of(&owner) {
                    let to = who.address;
                    self.pack(&mut packets, to, &Record::Report(report), now);
                }
            }
        }
        for (to, packet) in packets {
            self.send(to, &packet, now);
        }
    }

    /// Adds to the packet for an address; one that is full goes out.
    fn pack(
        &mut self,
        packets: &mut BTreeMap<SocketAddr, Packet>,
        to: SocketAddr,
        record: &Record,
        now: Instant,
    ) {
        let packet = packets.entry(to).or_default();
        if packet.add(record).is_err() {
            let full = std::mem::take(packet);
            let _ = packet.add(record);
            self.send(to, &full, now);
        }
    }

    fn somebody(&mut self) -> Option<SocketAddr> {
        let live = self.members.live();
        let at = self.dice.usize(..live.len().max(1));
        live.get(at).map(|who| who.address)
    }

    /// So many members by lot, or all where there are fewer.
    fn some_of(&mut self, count: usize) -> Vec<SocketAddr> {
        let live = self.members.live();
        if live.len() <= count {
            return live.iter().map(|who| who.address).collect();
        }
        let mut chosen: Vec<usize> = Vec::with_capacity(count);
        while chosen.len() < count {
            let at = self.dice.usize(..live.len());
            if !chosen.contains(&at) {
                chosen.push(at);
            }
        }
        chosen.into_iter().filter_map(|at| live.get(at)).map(|who| who.address).collect()
    }

    fn jittered(&mut self, time: Duration) -> Duration {
        time.mul_f64(0.9 + 0.2 * self.dice.f64())
    }
}

/// Nobody is asked to come again at once.
const LEAST_WAIT: Duration = Duration::from_millis(5);
