//! One sidecar's side of the gossip: the machine that joins the parts.
//!
//! Tell it what this sidecar has seen and which datagrams came; ask it which go out, when it is to
//! be asked again, and what all together know. It never waits and opens nothing.

mod hear;
mod rounds;
mod seen;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::rounds::Rounds;
pub use self::seen::{Counts, MemberSeen};
use super::fact::Heard;
use super::fact::card::{Card, Cards, Told};
use super::fact::cooldown::Cooldowns;
use super::fact::evidence::Evidence;
use super::fleet::{Fleet, Sources};
use super::identity::{Boot, Identity, Origin};
use super::limits::{Accounts, Usage};
use super::member::Members;
use super::push_sum::{PushSum, SlowPart};
use super::rumor::{About, Rumors};
use super::saved::{self, Saved, Unreadable};
use super::seal::{Keys, Seal};
use super::wire::{Mood, Packet, Record};
use crate::lexicon::Fingerprint;
use crate::lexicon::count::float;
use crate::routing::fleet::{FleetView, Limits, Witness};

/// How a node is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `cluster`: who belongs together; others with the same key do not hear a word.
    pub cluster: Box<str>,
    /// The namespace, likewise.
    pub namespace: Box<str>,
    /// `interval`: how often latency and load are passed on; 1 s by default.
    pub interval: Duration,
    /// How often tables are compared with those of a peer; 10 s by default.
    pub resync: Duration,
    /// How often a seed is asked for members, so that islands find each other; 10 s by default.
    pub reseed: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: "default".into(),
            namespace: "default".into(),
            interval: Duration::from_secs(1),
            resync: Duration::from_secs(10),
            reseed: Duration::from_secs(10),
        }
    }
}

/// The moment at which a node begins.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// By the clock that never goes back.
    pub now: Instant,
    /// By the wall clock.
    pub unix: Duration,
    /// What its dice begin with.
    pub entropy: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    seal: Seal,
    /// The wall clock, and the moment at which it showed that.
    unix: (Duration, Instant),
    members: Members,
    peers: HashMap<Boot, Peer>,
    seeds: Vec<SocketAddr>,
    push_sum: PushSum,
    cooldowns: Cooldowns,
    evidence: Evidence,
    cards: Cards,
    own_card: Told,
    rumors: Rumors,
    usage: Usage,
    accounts: Accounts,
    fleet: Fleet,
    own: HashMap<Fingerprint, Last>,
    told_at: Instant,
    keys_at: Instant,
    rounds: Rounds,
    dice: Rng,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    counts: Counts,
    has_left: bool,
}

/// What is known of somebody who was heard.
#[derive(Debug, Clone, Copy)]
struct Peer {
    heard: Instant,
    mood: Option<Mood>,
    /// When its last part was taken in.
    gave: Option<Instant>,
}

/// What this sidecar last said of a deployment.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    recoveries: u64,
    requests: u64,
}

/// Datagrams that wait to be sent.
const MOST_OUT: usize = 4_096;
/// Nobody is told to have run for longer than this between two reports.
const LONGEST_GAP: Duration = Duration::from_secs(2);

impl Node {
    /// A node that knows nobody.
    pub fn new(settings: Settings, me: Identity, keys: Keys, card: Card, start: Start) -> Self {
        let Start { now, unix, entropy } = start;
        let mut dice = Rng::with_seed(entropy);
        let ids = keys.ids().collect();
        let mut node = Self {
            seal: Seal::new(&settings.cluster, &settings.namespace, me.boot, keys),
            unix: (unix, now),
            members: Members::new(me, dice.u64(..)),
            peers: HashMap::new(),
            seeds: Vec::new(),
            push_sum: PushSum::new(now),
            cooldowns: Cooldowns::new(me.boot.origin()),
            evidence: Evidence::default(),
            cards: Cards::default(),
            own_card: Told { boot: me.boot, turn: 0, card: card.into(), keys: ids },
            rumors: Rumors::new(now),
            usage: Usage::default(),
            accounts: Accounts::default(),
            fleet: Fleet::default(),
            own: HashMap::new(),
            told_at: now,
            keys_at: now,
            rounds: Rounds::new(&settings, &mut dice, now),
            dice,
            out: VecDeque::new(),
            counts: Counts::default(),
            has_left: false,
            settings,
        };
        node.tell_card(now);
        node
    }

    /// Sets the wall clock, against which unknown senders are held.
    pub fn set_clock(&mut self, unix: Duration, now: Instant) {
        self.unix = (unix, now);
    }

    /// Takes what discovery has found last. Who finds nobody keeps those of before.
    pub fn seeds(&mut self, found: &[SocketAddr], now: Instant) {
        let me = self.members.me().address;
        let others: Vec<_> = found.iter().copied().filter(|seed| *seed != me).collect();
        if !others.is_empty() && self.seeds != others {
            self.seeds = others;
            self.rounds.seek(now);
        }
    }

    /// Takes other keys. It goes on sending with the key it has until all members have the next
    /// one, as long as it is among them.
    pub fn set_keys(&mut self, keys: Keys, now: Instant) {
        self.own_card.keys = keys.ids().collect();
        self.seal.set_keys(keys);
        self.keys_at = now;
        self.tell_card(now);
    }

    /// Says something else of itself.
    pub fn set_card(&mut self, card: Card, now: Instant) {
        if *self.own_card.card != card {
            self.own_card.card = card.into();
            self.tell_card(now);
        }
    }

    /// Takes in what this sidecar sees: one witness for every deployment that it calls.
    pub fn tell(&mut self, witnesses: &[Witness], now: Instant) {
        self.push_sum.own(witnesses.iter().map(|witness| witness.of));
        let named = |of: &Fingerprint| witnesses.iter().any(|witness| witness.of == *of);
        self.own.retain(|of, _| named(of));
        let witness_of = |of| witnesses.iter().find(|witness| witness.of == of);
        self.usage.keep(|of| witness_of(of).is_some_and(is_shared));
        let elapsed = now.saturating_duration_since(self.told_at).min(LONGEST_GAP);
        self.told_at = now;
        for witness in witnesses {
            self.witness(witness, elapsed, now);
        }
        self.report_usage(now);
        self.tell_rumors(now);
    }

    fn witness(&mut self, witness: &Witness, elapsed: Duration, now: Instant) {
        let Witness { of, used, .. } = *witness;
        for (kind, model) in &witness.taught {
            self.push_sum.learn(of, *kind, model, now);
        }
        let fresh = Last { recoveries: witness.recoveries, requests: used.requests };
        let last = self.own.insert(of, fresh).unwrap_or(fresh);
        let tries = float(used.requests.saturating_sub(last.requests));
        let in_flight = f64::from(witness.in_flight) * elapsed.as_secs_f64();
        self.push_sum.load(of, in_flight, tries, now);
        if let Some(quota) = witness.quota {
            self.push_sum.quota(of, quota.into(), now);
        }
        if is_shared(witness) {
            self.usage.note(witness, now);
        }
        if witness.recoveries > last.recoveries && self.cooldowns.recover(of, now) == Heard::News {
            self.evidence.judged(of, now);
            self.tell_cooldown(of, now);
        }
        if let Some(pause) = witness.pause
            && self.cooldowns.claim(of, pause, now) == Heard::News
        {
            self.tell_cooldown(of, now);
        }
        if let Some(told) = self.evidence.note(of, self.me(), witness.failures, now) {
            self.rumor(About::Failures(of, told.origin), Record::Failures(told), now);
        }
        self.judge(of, now);
    }

    /// Concludes from the evidence that a deployment is broken.
    fn judge(&mut self, of: Fingerprint, now: Instant) {
        let members = self.member_count();
        let (_, tries) = self.push_sum.running(of, members);
        if self.evidence.is_outage(of, tries, now) {
            self.evidence.judged(of, now);
            self.cooldowns.convict(of, now);
        }
    }

    /// What goes out next.
    pub fn outgoing(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    /// What all together know of the deployments that were told last.
    pub fn view(&mut self, now: Instant) -> FleetView {
        self.push_sum.age(now);
        let own: Vec<_> = self.own.keys().copied().collect();
        let Self { fleet, members, push_sum, cooldowns, usage, .. } = self;
        fleet.view(&own, Sources { members, push_sum, cooldowns, usage }, now)
    }

    /// Says goodbye; from then on it tells nothing more.
    pub fn leave(&mut self, now: Instant) {
        self.report_all_usage(now);
        self.members.leave(now);
        self.send_swim(now);
        self.has_left = true;
    }

    /// What shall outlive the process.
    pub fn save(&self, now: Instant) -> Vec<u8> {
        let peers = self.members.live().iter().map(|who| who.address).collect();
        let cooldowns = self.cooldowns.all_told(now).map(Record::Cooldown);
        let slow = self.push_sum.slow(self.member_count()).map(|part| Record::Slow(Box::new(part)));
        Saved { peers, records: cooldowns.chain(slow).collect() }.bytes()
    }

    /// Takes up what was saved `away` ago. What does not read leaves all as it is.
    pub fn restore(
        &mut self,
        saved: &[u8],
        away: Duration,
        now: Instant,
    ) -> Result<(), Unreadable> {
        let Saved { peers, records } = Saved::of(saved)?;
        if self.seeds.is_empty() {
            self.seeds(&peers, now);
        }
        for record in records {
            match record {
                Record::Cooldown(mut told) => {
                    told.age = told.age.saturating_add(away);
                    told.claims.retain(|claim| claim.remaining > away);
                    for claim in &mut told.claims {
                        claim.remaining -= away;
                    }
                    self.cooldowns.hear(&told, now);
                }
                Record::Slow(part) => {
                    let factor = saved::kept(part.slow.weight(), away);
                    let slow = part.slow.scaled(factor);
                    self.push_sum.restore(&SlowPart { slow, ..*part });
                }
                // Nothing else is saved.
                Record::Answer(_)
                | Record::Card(_)
                | Record::Digest(_)
                | Record::Failures(_)
                | Record::Mood(_)
                | Record::Quick(_)
                | Record::Report(_)
                | Record::Swim(_) => {}
            }
        }
        Ok(())
    }

    fn me(&self) -> Origin {
        self.members.me().boot.origin()
    }

    fn member_count(&self) -> u32 {
        u32::try_from(self.members.count()).unwrap_or(u32::MAX)
    }

    fn unix(&self, now: Instant) -> Duration {
        let (unix, at) = self.unix;
        unix + now.saturating_duration_since(at)
    }

    fn rumor(&mut self, about: About, record: Record, now: Instant) {
        self.rumors.add(about, record, self.members.count(), now);
    }

    fn tell_cooldown(&mut self, of: Fingerprint, now: Instant) {
        if let Some(told) = self.cooldowns.told(of, now) {
            self.rumor(About::Cooldown(of), Record::Cooldown(told), now);
        }
    }

    fn tell_card(&mut self, now: Instant) {
        self.own_card.turn += 1;
        self.cards.hear(self.own_card.clone(), now);
        self.rumor(About::Card(self.own_card.boot), Record::Card(self.own_card.clone()), now);
    }

    /// Seals a packet and lets it wait for the socket.
    fn send(&mut self, to: SocketAddr, packet: &Packet, now: Instant) {
        let seconds = u32::try_from(self.unix(now).as_secs()).unwrap_or(u32::MAX);
        let said = [&seconds.to_be_bytes(), packet.bytes()].concat();
        let Some(datagram) = self.seal.seal(&said) else { return };
        if self.out.len() >= MOST_OUT {
            self.counts.unsent += 1;
            return;
        }
        self.counts.sent(datagram.len());
        self.out.push_back((to, datagram));
    }
}

/// Whether others have to know what is used of a deployment.
fn is_shared(witness: &Witness) -> bool {
    witness.limits != Limits::default() || witness.has_budget
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lexicon::time;
    use crate::routing::fleet::{By, Pause, Quota, Why};
    use crate::routing::latency::{Model, Prior, Sample, Seen};
    use crate::routing::view::{Kind, Used};

    const OF: Fingerprint = Fingerprint([1; 8]);
    const UNIX: Duration = Duration::from_secs(1_800_000_000);

    /// Nodes on a network that loses nothing.
    struct Net {
        nodes: BTreeMap<SocketAddr, Node>,
        begin: Instant,
        now: Instant,
    }

    fn address(name: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, name], 7_300))
    }

    fn keys(ids: &[u8], active: u8) -> Keys {
        Keys::new(active, ids.iter().map(|id| (*id, [*id; 32])).collect()).unwrap()
    }

    fn witness() -> Witness {
        Witness::nothing(OF)
    }

    impl Net {
        fn of(count: u8) -> Self {
            let begin = time::now();
            let mut net = Self { nodes: BTreeMap::new(), begin, now: begin };
            for name in 1..=count {
                net.add(name, keys(&[7], 7));
            }
            net
        }

        fn add(&mut self, name: u8, keys: Keys) {
            let unix = UNIX + (self.now - self.begin);
            let me = Identity::new(address(name), unix, u64::from(name) * 7_919);
            let start = Start { now: self.now, unix, entropy: name.into() };
            let mut node = Node::new(Settings::default(), me, keys, Card::default(), start);
            node.seeds(&[address(1), address(2)], self.now);
            node.tell(&[witness()], self.now);
            self.nodes.insert(address(name), node);
        }

        fn at(&mut self, name: u8) -> &mut Node {
            self.nodes.get_mut(&address(name)).unwrap()
        }

        fn run(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.now += Duration::from_millis(50);
                self.step();
            }
        }

        fn step(&mut self) {
            let addresses: Vec<_> = self.nodes.keys().copied().collect();
            for from in &addresses {
                let mut out = Vec::new();
                let node = self.nodes.get_mut(from).unwrap();
                let next = node.poll(self.now);
                assert!(next > self.now, "it would be asked for ever");
                while let Some(datagram) = node.outgoing() {
                    out.push(datagram);
                }
                for (to, datagram) in out {
                    if let Some(node) = self.nodes.get_mut(&to) {
                        node.receive(*from, &datagram, self.now);
                    }
                }
            }
        }

        fn views(&mut self) -> Vec<FleetView> {
            let now = self.now;
            self.nodes.values_mut().map(|node| node.view(now)).collect()
        }
    }

    fn known(view: &FleetView) -> &crate::routing::fleet::Known {
        &view.deployments[&OF]
    }

    fn limited(seconds: u64) -> Witness {
        let remaining = Duration::from_secs(seconds);
        Witness { pause: Some(Pause { remaining, why: Why::Limit }), ..witness() }
    }

    #[test]
    fn those_with_one_seed_find_each_other() {
        let mut net = Net::of(12);
        net.run(Duration::from_secs(5));
        assert!(net.views().iter().all(|view| view.members == 12));
        net.run(Duration::from_secs(15));
        let now = net.now;
        let seen = net.at(5).members(now);
        assert_eq!(seen.len(), 12);
        assert!(seen[0].is_me && seen.iter().all(|member| member.card.is_some()));
        assert!(net.nodes.values().all(|node| node.counts().refused == [0; 6]));
    }

    #[test]
    fn a_pause_is_known_to_all_within_a_second() {
        let mut net = Net::of(12);
        net.run(Duration::from_secs(5));
        let now = net.now;
        net.at(4).tell(&[limited(300)], now);
        net.run(Duration::from_millis(600));
        for view in net.views() {
            let cooldown = known(&view).cooldown.unwrap();
            assert!(cooldown.until > Some(net.now), "{cooldown:?}");
        }
        let now = net.now;
        net.at(9).tell(&[limited(200)], now);
        net.run(Duration::from_millis(600));
        let agreed = known(&net.views()[0]).cooldown.unwrap();
        assert_eq!((agreed.by, agreed.epoch), (By::Many, 1));
        assert!(agreed.until > Some(net.now + Duration::from_secs(190)));
        let now = net.now;
        net.at(2).tell(&[Witness { recoveries: 1, ..witness() }], now);
        net.run(Duration::from_millis(600));
        for view in net.views() {
            let cooldown = known(&view).cooldown.unwrap();
            assert_eq!((cooldown.until, cooldown.epoch), (None, 2));
        }
    }

    #[test]
    fn failures_of_several_are_an_outage_for_all() {
        let mut net = Net::of(8);
        net.run(Duration::from_secs(5));
        for name in 1..=2 {
            let now = net.now;
            net.at(name).tell(&[Witness { failures: 1, ..witness() }], now);
        }
        net.run(Duration::from_millis(500));
        assert!(net.views().iter().all(|view| known(view).cooldown.is_none()), "two are few");
        let now = net.now;
        net.at(3).tell(&[Witness { failures: 1, ..witness() }], now);
        net.at(3).tell(&[Witness { failures: 2, ..witness() }], now);
        net.run(Duration::from_millis(500));
        for view in net.views() {
            let cooldown = known(&view).cooldown.unwrap();
            assert_eq!((cooldown.why, cooldown.by), (Why::Trouble, By::Many));
            assert!(cooldown.until > Some(net.now));
        }
    }

    #[test]
    fn what_some_have_learned_all_know() {
        let mut net = Net::of(8);
        net.run(Duration::from_secs(5));
        for _ in 0..60 {
            for name in 1..=7 {
                let now = net.now;
                let mut model = Model::new(now);
                let waited = Duration::from_millis(1_400 + 20 * u64::from(name));
                let sample = Sample { prompt_tokens: 1_000, waited, seen: Seen::Answered };
                model.learn(&sample, &Prior::default(), now);
                let taught = vec![(Kind::default(), model)];
                let quota = Some(Quota { left: 400, tokens: None, age: Duration::ZERO });
                let told = Witness { taught, in_flight: 3, quota, ..witness() };
                net.at(name).tell(&[told], now);
            }
            net.run(Duration::from_secs(1));
        }
        let now = net.now;
        let view = net.at(8).view(now);
        let known = known(&view);
        let model = known.models[Kind::default().at()].as_ref().unwrap();
        let latency = model.outlook(now).latency;
        assert!((1.3..1.7).contains(&latency), "{latency}");
        assert!(model.forecast(&Prior::default(), now).samples() > 50.0);
        assert!((10.0..32.0).contains(&known.in_flight), "{}", known.in_flight);
        assert_eq!(known.quota.map(|quota| quota.left), Some(400));
        assert!(known.heard.is_some());
    }

    #[test]
    fn limits_are_added_up() {
        let mut net = Net::of(6);
        net.run(Duration::from_secs(5));
        let limits = Limits { requests: Some(600), tokens: None };
        for second in 0..20u64 {
            for name in 1..=6 {
                let now = net.now;
                let used = Used { requests: second * u64::from(name), tokens: 0 };
                net.at(name).tell(&[Witness { used, limits, ..witness() }], now);
            }
            net.run(Duration::from_secs(1));
        }
        let views = net.views();
        let others = |at: usize| known(&views[at]).others.unwrap();
        // All have used 19 · 21.
        assert!((360..=420).contains(&others(0).used.requests), "{:?}", others(0));
        assert!((260..=300).contains(&others(5).used.requests), "{:?}", others(5));
        assert_eq!(others(3).sharers, 6);
    }

    #[test]
    fn who_leaves_is_gone_at_once_and_who_dies_before_long() {
        let mut net = Net::of(6);
        net.run(Duration::from_secs(5));
        let now = net.now;
        net.at(6).leave(now);
        net.run(Duration::from_secs(1));
        net.nodes.remove(&address(6));
        assert_eq!(net.at(3).members.count(), 5);
        net.nodes.remove(&address(5));
        net.run(Duration::from_secs(30));
        assert!(net.views().iter().all(|view| view.members == 4));
        net.add(5, keys(&[7], 7));
        net.run(Duration::from_secs(5));
        assert!(net.views().iter().all(|view| view.members == 5), "its address comes back");
    }

    #[test]
    fn keys_change_in_three_phases_and_nobody_is_lost() {
        let mut net = Net::of(6);
        net.run(Duration::from_secs(5));
        for ids in [[7, 8].as_slice(), &[8]] {
            for name in 1..=6 {
                let now = net.now;
                net.at(name).set_keys(keys(ids, 8), now);
                net.run(Duration::from_secs(3));
                assert!(net.views().iter().all(|view| view.members == 6));
                let is_early = ids.len() == 2 && name < 6;
                assert_eq!(net.at(name).sending_key() == 7, is_early, "{name}");
            }
            net.run(Duration::from_secs(5));
            assert!(net.nodes.values().all(|node| node.sending_key() == 8));
        }
        assert!(net.nodes.values().all(|node| node.counts().refused == [0; 6]));
    }

    #[test]
    fn who_has_another_key_learns_nothing_and_harms_nothing() {
        let mut net = Net::of(3);
        net.add(9, Keys::new(7, [(7, [66; 32])].into()).unwrap());
        let now = net.now;
        net.at(9).tell(&[limited(300)], now);
        net.run(Duration::from_secs(10));
        assert_eq!(net.views().iter().map(|view| view.members).collect::<Vec<_>>(), [3, 3, 3, 1]);
        assert!(net.views()[..3].iter().all(|view| known(view).cooldown.is_none()));
        let now = net.now;
        assert!(net.at(9).view(now).deployments[&OF].heard.is_none());
        assert!(net.at(1).counts().refused[0] > 0);
    }

    #[test]
    fn what_was_saved_is_taken_up() {
        let mut net = Net::of(3);
        net.run(Duration::from_secs(5));
        let now = net.now;
        let mut model = Model::new(now);
        let waited = Duration::from_secs(3);
        let sample = Sample { prompt_tokens: 1_000, waited, seen: Seen::Answered };
        (0..90).for_each(|_| model.learn(&sample, &Prior::default(), now));
        let taught = vec![(Kind::default(), model)];
        net.at(1).tell(&[Witness { taught, ..limited(300) }], now);
        let saved = net.at(1).save(now);

        let mut alone = Net::of(0);
        let away = Duration::from_secs(100);
        alone.now += Duration::from_secs(200);
        alone.add(4, keys(&[7], 7));
        let now = alone.now;
        alone.at(4).restore(&saved, away, now).unwrap();
        let view = alone.at(4).view(now);
        let cooldown = known(&view).cooldown.unwrap();
        assert!(cooldown.until > Some(now), "{cooldown:?}");
        let model = known(&view).models[Kind::default().at()].as_ref().unwrap();
        let samples = model.forecast(&Prior::default(), now).samples();
        assert!((20.0..31.0).contains(&samples), "{samples}");
        assert!(alone.at(4).seeds.contains(&address(2)));
        assert_eq!(alone.at(4).restore(b"what", away, now), Err(Unreadable::Foreign));
    }

    #[test]
    fn datagrams_of_before_are_refused() {
        let mut net = Net::of(2);
        net.run(Duration::from_secs(3));
        let now = net.now;
        net.at(1).tell(&[limited(300)], now);
        let (_, datagram) = net.at(1).outgoing().unwrap();
        net.at(2).receive(address(1), &datagram, now);
        let before = net.at(2).counts();
        net.at(2).receive(address(1), &datagram, now);
        net.at(2).receive(address(1), &datagram[..40], now);
        let after = net.at(2).counts();
        assert_eq!(before.refused, [0; 6]);
        assert_eq!(after.refused.iter().sum::<u64>(), 2);
        assert_eq!(after.datagrams_in, before.datagrams_in + 2);
    }
}
