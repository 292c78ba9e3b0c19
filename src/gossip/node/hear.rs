//! What a node makes of a datagram.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::fact::Heard;
use super::super::identity::Boot;
use super::super::limits::{Answer, Report, owners};
use super::super::rumor::{About, hash};
use super::super::wire::{Digest, Mood, Packet, Record, Records};
use super::{Node, Peer};

/// The most datagrams that a difference of tables is answered with.
const MOST_ANSWERS: usize = 4;
/// The last turn of a comparison.
const LAST_TURN: u8 = 2;
/// Senders that are known at most.
const MOST_PEERS: usize = 16_384;

/// Who says something, and where it is answered.
#[derive(Debug, Clone, Copy)]
struct Speaker {
    boot: Boot,
    from: SocketAddr,
    /// Whether its parts are taken in: nobody gives more often than it should.
    may_give: bool,
}

impl Node {
    /// Takes in a datagram, whatever it is.
    pub fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) {
        self.counts.received(datagram.len());
        let unix = self.unix(now);
        let mut opened = datagram.to_vec();
        let (boot, records) = match self.seal.open(&mut opened, unix, now) {
            Ok(opened) => (opened.boot, Records::of(opened.carried)),
            Err(why) => return self.counts.refuse(why),
        };
        if boot == self.members.me().boot || self.has_left {
            return;
        }
        let speaker = Speaker { boot, from, may_give: self.may_give(boot, now) };
        let mut gives = false;
        for record in records {
            match record {
                Ok(record) => {
                    gives |= matches!(record, Record::Quick(_) | Record::Slow(_));
                    self.hear(speaker, record, now);
                }
                Err(_) => self.counts.records_dropped += 1,
            }
        }
        self.note(boot, gives && speaker.may_give, now);
        self.send_swim(now);
        self.tell_rumors(now);
    }

    fn may_give(&self, boot: Boot, now: Instant) -> bool {
        let gave = self.peers.get(&boot).and_then(|peer| peer.gave);
        gave.is_none_or(|gave| now.saturating_duration_since(gave) >= self.settings.interval / 3)
    }

    fn note(&mut self, boot: Boot, gave: bool, now: Instant) {
        if !self.peers.contains_key(&boot) && self.peers.len() >= MOST_PEERS {
            return;
        }
        let fresh = Peer { heard: now, mood: None, gave: None };
        let peer = self.peers.entry(boot).or_insert(fresh);
        peer.heard = now;
        if gave {
            peer.gave = Some(now);
        }
    }

    fn hear(&mut self, speaker: Speaker, record: Record, now: Instant) {
        match record {
            Record::Answer(answer) => self.hear_answer(speaker.boot, answer, now),
            Record::Card(told) => {
                let boot = told.boot;
                let is_mine = boot == self.own_card.boot;
                if !is_mine && self.cards.hear(told.clone(), now) == Heard::News {
                    self.rumor(About::Card(boot), Record::Card(told), now);
                }
            }
            Record::Cooldown(told) => {
                let of = told.of;
                if self.cooldowns.hear(&told, now) == Heard::News {
                    if told.epoch.is_multiple_of(2) {
                        self.evidence.judged(of, now);
                    }
                    self.tell_cooldown(of, now);
                }
            }
            Record::Digest(digest) => self.hear_digest(speaker, digest, now),
            Record::Failures(told) => {
                // What is said in its own name it knows better itself.
                if told.origin != self.me() && self.evidence.hear(&told, now) == Heard::News {
                    self.rumor(About::Failures(told.of, told.origin), Record::Failures(told), now);
                    self.judge(told.of, now);
                }
            }
            Record::Mood(mood) => self.hear_mood(speaker, mood, now),
            Record::Quick(part) => {
                let is_heard = speaker.may_give && self.push_sum.hear_quick(&part, now);
                self.counts.records_dropped += u64::from(!is_heard);
            }
            Record::Report(report) => self.hear_report(speaker, report, now),
            Record::Slow(part) => {
                let is_heard = speaker.may_give && self.push_sum.hear_slow(&part, now);
                self.counts.records_dropped += u64::from(!is_heard);
            }
            Record::Swim(said) => {
                if self.members.hear(&said, speaker.boot, now).is_err() {
                    self.counts.records_dropped += 1;
                }
            }
        }
    }

    fn hear_mood(&mut self, speaker: Speaker, mood: Mood, now: Instant) {
        self.note(speaker.boot, false, now);
        if let Some(peer) = self.peers.get_mut(&speaker.boot) {
            peer.mood = Some(mood);
        }
        self.rounds.note_count(mood.members);
        // Who knows something else for longer than news take is compared with at once.
        if mood.table != self.cooldowns.digest() && self.rounds.may_compare(now) {
            self.compare_with(speaker.from, 0, now);
        }
    }

    pub(super) fn compare_with(&mut self, to: SocketAddr, turn: u8, now: Instant) {
        let mut packet = Packet::default();
        if packet.add(&Record::Digest(self.digest(turn))).is_ok() {
            self.send(to, &packet, now);
        }
    }

    fn digest(&self, turn: u8) -> Digest {
        let card_count = u32::try_from(self.cards.count()).unwrap_or(u32::MAX);
        Digest { table: self.cooldowns.digest(), cards: self.cards.digest(), card_count, turn }
    }

    /// Answers who knows something else with what is known here, and asks for the same in turn.
    fn hear_digest(&mut self, speaker: Speaker, theirs: Digest, now: Instant) {
        let own = self.digest(theirs.turn.saturating_add(1));
        let mut records = Vec::new();
        if theirs.table != own.table {
            records.extend(self.cooldowns.all_told(now).map(Record::Cooldown));
        }
        if theirs.cards != own.cards {
            records.extend(self.some_cards(theirs.card_count));
        }
        let differs = theirs.table != own.table || theirs.cards != own.cards;
        let mut packets = vec![Packet::default()];
        if differs && theirs.turn < LAST_TURN {
            records.insert(0, Record::Digest(own));
        }
        for record in records {
            let is_full = packets.last_mut().is_none_or(|last| last.add(&record).is_err());
            if is_full {
                if packets.len() == MOST_ANSWERS {
                    break;
                }
                let mut next = Packet::default();
                if next.add(&record).is_ok() {
                    packets.push(next);
                }
            }
        }
        for packet in packets.iter().filter(|packet| !packet.is_empty()) {
            self.send(speaker.from, packet, now);
        }
    }

    /// Cards for somebody who has so many: all that fit where it lacks many, else a few of them,
    /// because nobody knows which ones differ.
    fn some_cards(&mut self, theirs: u32) -> Vec<Record> {
        let own = self.cards.count();
        let lacks_many = (theirs as usize) * 10 < own * 9;
        // No more than fit, by a lot that is the same for the same dice.
        let lot = self.dice.u64(..).to_be_bytes();
        let mut cards: Vec<_> = self.cards.all().collect();
        cards.sort_by_cached_key(|told| hash(&[&told.boot.0, &lot]));
        cards.truncate(if lacks_many { A_LOT } else { A_FEW });
        cards.into_iter().cloned().map(Record::Card).collect()
    }

    /// Who is no owner answers all the same: it knows of one report at least.
    fn hear_report(&mut self, speaker: Speaker, report: Report, now: Instant) {
        self.accounts.hear(speaker.boot, report, now);
        let answer = self.accounts.answer(report.of, speaker.boot, now);
        self.rounds.answer(speaker.from, answer);
    }

    fn hear_answer(&mut self, owner: Boot, answer: Answer, now: Instant) {
        let rank = self.owners_of(answer.of).iter().position(|rank| *rank == Some(owner));
        if let Some(rank) = rank {
            self.usage.hear(answer, rank, now);
        }
    }

    pub(super) fn owners_of(
        &mut self,
        of: crate::lexicon::Fingerprint,
    ) -> [Option<Boot>; super::super::limits::OWNERS] {
        let changes = self.members.changes();
        if let Some(known) = self.rounds.owners(of, changes) {
            return known;
        }
        let me = self.members.me().boot;
        let all = self.members.live().iter().map(|who| who.boot).chain([me]);
        let owners = owners(of, all);
        self.rounds.set_owners(of, changes, owners);
        owners
    }
}

/// Cards in an answer to somebody who has nearly all,
const A_FEW: usize = 8;
/// and to somebody who has not: more do not fit into its datagrams.
const A_LOT: usize = 128;
