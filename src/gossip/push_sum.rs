//! Latency and load of the fleet by decaying push-sum: each splits what it has, keeps a part and
//! gives the others to two of its peers, so that before long everybody has the mean.
//!
//! What a sidecar learns is added to what it has; all of it fades. How much somebody has is chance:
//! who was given three parts in this round has more than who was given none. So a weight wanders
//! with the sums, of which everybody who knows a deployment makes one, and only ratios are read: a
//! part that is lost takes numerator and denominator alike. What is sent is rounded, and what was sent is what the sender gives
//! up: no mass is made or lost but on the way. For its weight no part may have more than twice the
//! samples that are usual, so that nobody's word counts for more than that of two others; who lies
//! all the time is still heard like anybody else, which is much among few.
//!
//! A round is one datagram at most, however many deployments there are: the last seconds first, and
//! then of the last minutes what was not sent for the longest.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::fact::quota;
use super::wire::{Packet, Record, rounded};
use crate::lexicon::Fingerprint;
use crate::routing::Kind;
use crate::routing::latency::{Histogram, Model, Quick, Seen, Slow};

/// Sums of what runs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Seconds of tries running.
    pub in_flight: f64,
    /// Tries that began.
    pub tries: f64,
}

/// A part of what is known of a deployment's last seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct QuickPart {
    /// Which deployment.
    pub of: Fingerprint,
    /// Of the sidecars that know it.
    pub weight: f64,
    /// What runs there.
    pub load: Load,
    /// By kind of call.
    pub kinds: SmallVec<[(Kind, Quick); 2]>,
    /// What its provider said last: not a part but the newest word.
    pub quota: Option<quota::Told>,
}

/// A part of what is known of the last minutes of a deployment and a kind of call.
#[derive(Debug, Clone, PartialEq)]
pub struct SlowPart {
    /// Which deployment.
    pub of: Fingerprint,
    /// Which kind.
    pub kind: Kind,
    /// Of the sidecars that know it.
    pub weight: f64,
    /// The part.
    pub slow: Slow,
}

/// All that this sidecar has.
#[derive(Debug)]
pub struct PushSum {
    by: HashMap<Fingerprint, Mass>,
    as_of: Instant,
    smoothed_at: Instant,
    /// Where the next round begins, so that all get their turn.
    turn: usize,
}

#[derive(Debug)]
struct Mass {
    weight: f64,
    load: Load,
    kinds: [Option<Box<OfKind>>; Kind::COUNT],
    quota: Option<quota::Latest>,
    /// Of tries, waits and outcomes.
    usual: [Usual; 3],
    /// When a peer last said something about it.
    heard: Option<Instant>,
    /// Whether this sidecar calls it, too.
    is_own: bool,
}

#[derive(Debug)]
struct OfKind {
    quick: Quick,
    slow: Slow,
    /// That of the slow, which takes other ways.
    weight: f64,
    smooth: Smooth,
    usual: Usual,
    sent: Option<Instant>,
}

/// What was there over the last rounds. A sample weighs as much as many where it was just seen, or
/// given; over some rounds every one gets its turn, and none speaks for the fleet.
#[derive(Debug, Default)]
struct Smooth {
    slow: Slow,
    weight: f64,
}

/// How many samples the parts that were heard last had for their weight.
#[derive(Debug, Default)]
struct Usual {
    last: [f32; Usual::COUNT],
    count: usize,
}

/// The time constant of the load.
const LOAD_TIME: Duration = Duration::from_secs(10);
/// That of the weight which goes with the last minutes.
const SLOW_TIME: Duration = Duration::from_secs(100);
/// Over how long that is smoothed.
const SMOOTH_TIME: Duration = Duration::from_secs(60);
/// What is known of the last minutes is sent so often at most: what the network loses on the way is
/// forgotten early, and of what travels all the time that would be nearly all.
const SLOW_EVERY: Duration = Duration::from_secs(5);
/// Deployments that only others call.
const MOST_FOREIGN: usize = 64;
/// What weighs less is not sent; it fades where it is.
const LEAST: f64 = 1e-4;
/// The same of a bin. Far below what is usual: what stays where it is is not lost on the way, and
/// would weigh more than it should.
const LEAST_BIN: f64 = 1e-4;
/// Where all have fewer samples than this, nothing is clipped.
const LIGHT: f64 = 3.0;
/// No part weighs more: whoever has so much in one piece has not come by it honestly, or keeps
/// enough for itself.
const MOST_WEIGHT: f64 = 1.0;
/// No part has more samples for its weight.
const HEAVIEST: f64 = 100_000.0;

impl PushSum {
    /// Nothing.
    pub fn new(now: Instant) -> Self {
        Self { by: HashMap::new(), as_of: now, smoothed_at: now, turn: 0 }
    }

    /// Takes up what was saved of the last minutes.
    pub fn restore(&mut self, part: &SlowPart) {
        self.by.entry(part.of).or_default().add_slow(part.kind, &part.slow);
    }

    /// Says which deployments this sidecar calls; what it knows of others makes room for theirs.
    pub fn own(&mut self, own: impl Iterator<Item = Fingerprint>) {
        self.by.values_mut().for_each(|mass| mass.is_own = false);
        for of in own {
            self.by.entry(of).or_default().is_own = true;
        }
    }

    /// Adds what this sidecar has learned.
    pub fn learn(&mut self, of: Fingerprint, kind: Kind, model: &Model, now: Instant) {
        self.age(now);
        let (quick, slow) = model.parts(now);
        let mass = self.by.entry(of).or_default();
        mass.add_quick(kind, &quick);
        mass.add_slow(kind, &slow);
    }

    /// Adds what ran here: `in_flight` tries for `elapsed`, and `tries` that began.
    pub fn load(&mut self, of: Fingerprint, in_flight: f64, tries: f64, now: Instant) {
        self.age(now);
        let load = &mut self.by.entry(of).or_default().load;
        load.in_flight += in_flight;
        load.tries += tries;
    }

    /// Takes in what its provider has said.
    pub fn quota(&mut self, of: Fingerprint, told: quota::Told, now: Instant) {
        self.by.entry(of).or_default().join(told, now);
    }

    /// Packs a part for each of so many peers, and gives it up: all get the same.
    pub fn split(&mut self, peers: u32, packet: &mut Packet, now: Instant) {
        self.smooth(now);
        if peers == 0 {
            return;
        }
        let mut all: Vec<Fingerprint> = self.by.keys().copied().collect();
        all.sort_unstable();
        self.turn = self.turn.wrapping_add(1);
        let middle = self.turn.checked_rem(all.len()).unwrap_or_default();
        all.rotate_left(middle);
        all.sort_by_key(|of| self.by.get(of).is_none_or(|mass| !mass.is_own));
        let (part, given) = (1.0 / f64::from(peers + 1), f64::from(peers));
        for of in &all {
            let Some(mass) = self.by.get_mut(of) else { continue };
            let Some(quick) = mass.quick_part(*of, part, now) else { continue };
            if packet.add(&Record::Quick(quick.clone())).is_ok() {
                mass.give_quick(&quick, given);
            }
        }
        self.split_slow(part, given, packet, now);
    }

    fn split_slow(&mut self, part: f64, given: f64, packet: &mut Packet, now: Instant) {
        let is_due = |sent: Option<Instant>| {
            sent.is_none_or(|sent| now.saturating_duration_since(sent) >= SLOW_EVERY)
        };
        let of_kind = |of: Fingerprint, kind: Kind, mass: &Mass| {
            let sent = mass.kinds.get(kind.at())?.as_ref()?.sent;
            is_due(sent).then_some((sent, of, kind))
        };
        let all = self.by.iter();
        let all = all.flat_map(|(of, mass)| Kind::all().map(move |kind| (*of, kind, mass)));
        let mut due: Vec<_> = all.filter_map(|(of, kind, mass)| of_kind(of, kind, mass)).collect();
        due.sort_by_key(|(sent, of, kind)| (*sent, *of, kind.at()));
        for (_, of, kind) in due {
            let known = self.by.get_mut(&of).and_then(|mass| mass.kinds.get_mut(kind.at()));
            let Some(Some(own)) = known else { continue };
            let (slow, weight) = (rounded_part(&own.slow, part), rounded(own.weight * part));
            if slow.is_empty() {
                continue;
            }
            let record = Record::Slow(Box::new(SlowPart { of, kind, weight, slow }));
            if packet.add(&record).is_ok()
                && let Record::Slow(part) = record
            {
                own.slow.add(&part.slow.scaled(-given));
                own.weight -= weight * given;
                own.sent = Some(now);
            }
        }
    }

    /// Takes in a part; says whether there was room for it.
    pub fn hear_quick(&mut self, part: &QuickPart, now: Instant) -> bool {
        self.age(now);
        let Some(mass) = self.heard(part.of) else { return false };
        let kinds = || part.kinds.iter().filter(|(_, quick)| is_sane(quick));
        let whole = whole(part.weight);
        mass.weight += part.weight * whole;
        let waits = kinds().map(|(_, quick)| quick.waits()).sum();
        let outcomes = kinds().map(|(_, quick)| quick.outcomes()).sum();
        let counts = [part.load.tries, waits, outcomes];
        let clips =
            mass.usual.iter_mut().zip(counts).map(|(it, count)| it.clip(count, part.weight));
        let clip = clips.fold(1.0, f64::min) * whole;
        mass.load.in_flight += part.load.in_flight.min(HEAVIEST) * clip;
        mass.load.tries += part.load.tries * clip;
        for (kind, quick) in kinds() {
            mass.add_quick(*kind, &quick.scaled(clip));
        }
        if let Some(told) = part.quota {
            mass.join(told, now);
        }
        mass.heard = Some(now);
        true
    }

    /// The same of the last minutes.
    pub fn hear_slow(&mut self, part: &SlowPart, now: Instant) -> bool {
        self.age(now);
        if !is_sane_slow(&part.slow) {
            return false;
        }
        let Some(mass) = self.heard(part.of) else { return false };
        mass.heard = Some(now);
        let Some(own) = mass.kind(part.kind) else { return false };
        let sums = part.slow.sums().into_iter().take(2);
        let whole = whole(part.weight);
        own.weight += part.weight * whole;
        let clip = own.usual.clip(sums.fold(part.slow.weight(), f64::max), part.weight);
        own.slow.add(&part.slow.scaled(clip * whole));
        true
    }

    /// What all members know, if there are so many: one model per kind of call.
    pub fn models(
        &self,
        of: Fingerprint,
        members: u32,
        now: Instant,
    ) -> impl Iterator<Item = (Kind, Model)> {
        let mass = self.by.get(&of);
        Kind::all().filter_map(move |kind| {
            let mass = mass?;
            let own = mass.kinds.get(kind.at())?.as_ref()?;
            let quick = own.quick.scaled(scale(mass.weight, members));
            let slow = own.smoothed(members);
            Some((kind, Model::of_parts(&quick, &slow, now)))
        })
    }

    /// Tries running at a deployment, and how many begin per second, if there are so many members.
    pub fn running(&self, of: Fingerprint, members: u32) -> (f64, f64) {
        let Some(mass) = self.by.get(&of) else { return (0.0, 0.0) };
        let scale = scale(mass.weight, members) / LOAD_TIME.as_secs_f64();
        (mass.load.in_flight * scale, mass.load.tries * scale)
    }

    /// When a peer last said something about a deployment.
    pub fn last_heard(&self, of: Fingerprint) -> Option<Instant> {
        self.by.get(&of)?.heard
    }

    /// What its provider said last.
    pub fn last_quota(&self, of: Fingerprint) -> Option<quota::Latest> {
        self.by.get(&of)?.quota
    }

    /// All that is known of the last minutes, of so many members together.
    pub fn slow(&self, members: u32) -> impl Iterator<Item = SlowPart> {
        let of_kind = move |of: Fingerprint, mass: &Mass, kind: Kind| {
            let own = mass.kinds.get(kind.at())?.as_ref()?;
            let slow = own.slow.scaled(scale(own.weight, members));
            Some(SlowPart { of, kind, weight: 0.0, slow })
        };
        self.by.iter().flat_map(move |(of, mass)| {
            Kind::all().filter_map(move |kind| of_kind(*of, mass, kind))
        })
    }

    /// Forgets deployments of which nothing is left.
    pub fn forget(&mut self, now: Instant) {
        self.age(now);
        self.by.retain(|_, mass| mass.is_own || mass.sum() > LEAST);
    }

    /// Ends a round.
    fn smooth(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.smoothed_at).as_secs_f64();
        self.smoothed_at = now;
        self.age(now);
        let kept = (-elapsed / SMOOTH_TIME.as_secs_f64()).exp();
        for own in self.by.values_mut().flat_map(|mass| mass.kinds.iter_mut().flatten()) {
            own.smooth.slow = own.smooth.slow.scaled(kept);
            own.smooth.slow.add(&own.slow.scaled(1.0 - kept));
            own.smooth.weight = own.smooth.weight * kept + own.weight * (1.0 - kept);
        }
    }

    /// Lets all fade until `now`.
    pub fn age(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.as_of);
        if elapsed.is_zero() {
            return;
        }
        self.as_of = now;
        let kept = |time: Duration| (-elapsed.as_secs_f64() / time.as_secs_f64()).exp();
        let (load, slow) = (kept(LOAD_TIME), kept(SLOW_TIME));
        for mass in self.by.values_mut() {
            mass.load.in_flight *= load;
            mass.load.tries *= load;
            // It makes as much weight as fades of its own.
            mass.weight = mass.weight * load + 1.0 - load;
            for own in mass.kinds.iter_mut().flatten() {
                own.quick.age(elapsed);
                own.slow.age(elapsed);
                own.weight = own.weight * slow + 1.0 - slow;
            }
        }
    }

    fn heard(&mut self, of: Fingerprint) -> Option<&mut Mass> {
        let foreign = self.by.values().filter(|mass| !mass.is_own).count();
        match self.by.entry(of) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(place) if foreign < MOST_FOREIGN => Some(place.insert(Mass::default())),
            Entry::Vacant(_) => None,
        }
    }
}

impl Default for Mass {
    fn default() -> Self {
        Self {
            weight: 1.0,
            load: Load::default(),
            kinds: [const { None }; Kind::COUNT],
            quota: None,
            usual: Default::default(),
            heard: None,
            is_own: false,
        }
    }
}

impl Default for OfKind {
    fn default() -> Self {
        let (quick, slow, usual) = Default::default();
        Self { quick, slow, weight: 1.0, smooth: Smooth::default(), usual, sent: None }
    }
}

impl OfKind {
    /// What all know of the last minutes, if there are so many.
    fn smoothed(&self, members: u32) -> Slow {
        let Self { slow, weight, smooth, .. } = self;
        if smooth.weight > LEAST && !smooth.slow.is_empty() {
            smooth.slow.scaled(scale(smooth.weight, members))
        } else {
            slow.scaled(scale(*weight, members))
        }
    }
}

/// The factor that makes a part of this weight one that may be.
fn whole(weight: f64) -> f64 {
    if weight > MOST_WEIGHT { MOST_WEIGHT / weight } else { 1.0 }
}

/// How many times the sums of all are those that come with this weight.
fn scale(weight: f64, members: u32) -> f64 {
    if weight > LEAST { f64::from(members) / weight } else { 0.0 }
}

impl Mass {
    fn kind(&mut self, kind: Kind) -> Option<&mut OfKind> {
        Some(self.kinds.get_mut(kind.at())?.get_or_insert_default())
    }

    fn add_quick(&mut self, kind: Kind, quick: &Quick) {
        if let Some(own) = self.kind(kind) {
            own.quick.add(quick);
        }
    }

    fn add_slow(&mut self, kind: Kind, slow: &Slow) {
        if let Some(own) = self.kind(kind) {
            own.slow.add(slow);
        }
    }

    fn join(&mut self, told: quota::Told, now: Instant) {
        let Some(fresh) = quota::Latest::of(told, now) else { return };
        self.quota = Some(self.quota.map_or(fresh, |known| known.join(fresh)));
    }

    fn quick_part(&self, of: Fingerprint, part: f64, now: Instant) -> Option<QuickPart> {
        let (in_flight, tries) =
            (rounded(self.load.in_flight * part), rounded(self.load.tries * part));
        let of_kind = |kind: Kind| {
            let quick = self.kinds.get(kind.at())?.as_ref()?.quick.scaled(part);
            let quick = Quick::of(quick.sums().map(rounded));
            (quick.weight() > LEAST).then_some((kind, quick))
        };
        let kinds: SmallVec<_> = Kind::all().filter_map(of_kind).collect();
        let quota = self.quota.and_then(|quota| quota.told(now));
        let is_nothing = kinds.is_empty() && quota.is_none() && in_flight + tries < LEAST;
        let (load, weight) = (Load { in_flight, tries }, rounded(self.weight * part));
        (!is_nothing).then_some(QuickPart { of, weight, load, kinds, quota })
    }

    fn give_quick(&mut self, part: &QuickPart, given: f64) {
        self.weight -= part.weight * given;
        self.load.in_flight -= part.load.in_flight * given;
        self.load.tries -= part.load.tries * given;
        for (kind, quick) in &part.kinds {
            self.add_quick(*kind, &quick.scaled(-given));
        }
    }

    fn sum(&self) -> f64 {
        let of_kinds = self.kinds.iter().flatten();
        let kinds: f64 = of_kinds.map(|own| own.quick.weight() + own.slow.weight()).sum();
        self.load.in_flight + self.load.tries + kinds
    }
}

impl Usual {
    const COUNT: usize = 9;

    /// The factor that makes the samples of a part no more than they may be for its weight.
    fn clip(&mut self, samples: f64, weight: f64) -> f64 {
        if samples <= 0.0 {
            return 1.0;
        }
        let density = samples / weight.max(LEAST);
        let mut most = HEAVIEST;
        if self.count >= Self::COUNT {
            let mut sorted = self.last;
            sorted.sort_by(f32::total_cmp);
            let median = sorted.get(Self::COUNT / 2).copied().unwrap_or_default();
            most = most.min((2.0 * f64::from(median)).max(LIGHT));
        }
        #[expect(clippy::cast_possible_truncation, reason = "a weight of some digits")]
        if let Some(place) = self.last.get_mut(self.count % Self::COUNT) {
            *place = density.min(HEAVIEST) as f32;
        }
        // After the first round only the remainder counts.
        self.count = if self.count + 1 >= 2 * Self::COUNT { Self::COUNT } else { self.count + 1 };
        (most / density).min(1.0)
    }
}

/// A part as it will be read, without bins of which next to nothing is left.
fn rounded_part(slow: &Slow, part: f64) -> Slow {
    #[expect(clippy::cast_possible_truncation, reason = "as it is sent")]
    let sums = slow.sums().map(|sum| f64::from((sum * part) as f32));
    let mut recent = Histogram::default();
    for (at, (answered, censored)) in slow.recent().bins().enumerate() {
        for (weight, seen) in [(answered, Seen::Answered), (censored, Seen::Censored)] {
            let weight = rounded(weight * part);
            if weight >= LEAST_BIN {
                recent.put(at, weight, seen);
            }
        }
    }
    Slow::of(sums, recent)
}

/// Whether these sums can be: no wait is longer than an hour, no failure costs more.
fn is_sane(quick: &Quick) -> bool {
    let [waits, waited, _, failures, cost] = quick.sums();
    waited <= waits * 3_600.0 && cost <= failures * 3_600.0
}

/// The same of the line and the pace; prompts have a length, too.
fn is_sane_slow(slow: &Slow) -> bool {
    let [_, weight, x, y, xx, xy, tokens, seconds] = slow.sums();
    let (wait, length) = (3_600.0, 1e8);
    y <= weight * wait
        && x <= weight * length
        && xx <= x * length
        && xy <= x * wait
        && seconds <= tokens * wait
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gossip::wire::Records;
    use crate::lexicon::time;
    use crate::routing::latency::{Prior, Sample};

    const OF: Fingerprint = Fingerprint([1; 8]);
    const KIND: Kind = Kind { stream: true, effort: crate::routing::Effort::Unset };

    fn taught(waits: &[u64], now: Instant) -> Model {
        let mut model = Model::new(now);
        for wait in waits {
            let waited = Duration::from_millis(*wait);
            let sample = Sample { prompt_tokens: 900, waited, seen: Seen::Answered };
            model.learn(&sample, &Prior::default(), now);
        }
        model.fail(None, now);
        model
    }

    fn receive(at: &mut PushSum, packet: &Packet, now: Instant) {
        for record in Records::of(packet.bytes()) {
            match record.unwrap() {
                Record::Quick(part) => assert!(at.hear_quick(&part, now)),
                Record::Slow(part) => assert!(at.hear_slow(&part, now)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// All sums of a deployment, added up.
    fn sums(of: &[PushSum]) -> Vec<f64> {
        let mut quick = Quick::default();
        let mut slow = Slow::default();
        let (mut in_flight, mut tries, mut weight, mut slow_weight) = (0.0, 0.0, 0.0, 0.0);
        for own in of {
            let Some(mass) = own.by.get(&OF) else { continue };
            weight += mass.weight;
            in_flight += mass.load.in_flight;
            tries += mass.load.tries;
            if let Some(kind) = &mass.kinds[KIND.at()] {
                quick.add(&kind.quick);
                slow.add(&kind.slow);
                slow_weight += kind.weight;
            }
        }
        let bins = slow.recent().bins().flat_map(|(one, other)| [one, other]);
        let (quick, slow) = (quick.sums(), slow.sums());
        let loads = [in_flight, tries, weight, slow_weight];
        loads.into_iter().chain(quick).chain(slow).chain(bins).collect()
    }

    proptest! {
        #[test]
        fn no_mass_is_made_or_lost(
            waits in proptest::collection::vec(20u64..60_000, 1..200), peers in 1u32..4,
        ) {
            let now = time::now();
            let mut all: Vec<_> = (0..=peers).map(|_| PushSum::new(now)).collect();
            for own in &mut all {
                own.own([OF].into_iter());
                own.learn(OF, KIND, &Model::new(now), now);
            }
            all[0].learn(OF, KIND, &taught(&waits, now), now);
            all[0].load(OF, 3.7, 12.0, now);
            let before = sums(&all);
            let mut packet = Packet::default();
            all[0].split(peers, &mut packet, now);
            for peer in &mut all[1..] {
                receive(peer, &packet, now);
            }
            for (at, (before, after)) in before.iter().zip(sums(&all)).enumerate() {
                prop_assert!((before - after).abs() <= before.abs() * 1e-5, "{at}: {before} {after}");
            }
            let kept = sums(&all[..1]);
            prop_assert!(kept.iter().all(|sum| *sum >= 0.0), "{kept:?}");
        }
    }

    #[test]
    fn everybody_comes_to_know_the_same() {
        let mut now = time::now();
        let mut all: Vec<_> = (0..8).map(|_| PushSum::new(now)).collect();
        let waits: Vec<_> = (0..100).map(|at| 300 + at * 10).collect();
        for own in &mut all {
            own.own([OF].into_iter());
        }
        all[3].load(OF, 100.0, 100.0, now);
        all[3].learn(OF, KIND, &taught(&waits, now), now);
        let mut dice = fastrand::Rng::with_seed(7);
        for _ in 0..60 {
            now += Duration::from_secs(1);
            for from in 0..all.len() {
                let mut packet = Packet::default();
                all[from].split(2, &mut packet, now);
                for _ in 0..2 {
                    let to = (from + dice.usize(1..all.len())) % all.len();
                    receive(&mut all[to], &packet, now);
                }
            }
        }
        let prior = Prior::default();
        let truth = taught(&waits, now).forecast(&prior, now).expected(1_000).as_secs_f64();
        for own in &all {
            let (_, model) = own.models(OF, 8, now).next().unwrap();
            let known = model.forecast(&prior, now);
            assert!((known.expected(1_000).as_secs_f64() / truth).ln().abs() < 0.1);
            // 100 samples, as they faded over the last minute; each node is off by a third at most.
            assert!((known.samples() / 85.0).ln().abs() < 1.0 / 3.0, "{}", known.samples());
        }
    }

    #[test]
    fn nobody_weighs_more_than_twice_the_usual() {
        let now = time::now();
        let mut here = PushSum::new(now);
        let part = |samples: f64| QuickPart {
            of: OF,
            weight: 0.25,
            load: Load::default(),
            kinds: [(KIND, Quick::of([samples, samples, 0.0, 0.0, 0.0]))].into_iter().collect(),
            quota: None,
        };
        for _ in 0..9 {
            here.hear_quick(&part(10.0), now);
        }
        here.hear_quick(&part(90_000.0), now);
        assert!((sums(&[here])[4] - 110.0).abs() < 1e-6);
    }

    #[test]
    fn waits_that_cannot_be_are_left_out() {
        let now = time::now();
        let mut here = PushSum::new(now);
        let quick = Quick::of([1.0, 4_000.0, 0.0, 0.0, 0.0]);
        let kinds = [(KIND, quick)].into_iter().collect();
        let part = QuickPart { of: OF, weight: 1.0, load: Load::default(), kinds, quota: None };
        here.hear_quick(&part, now);
        assert_eq!(here.models(OF, 2, now).count(), 0);
    }

    #[test]
    fn a_round_is_one_datagram_and_all_get_their_turn() {
        let mut now = time::now();
        let mut here = PushSum::new(now);
        for of in 0..100u8 {
            let of = Fingerprint([of; 8]);
            let waits: Vec<_> = (0..60).map(|at| 40 + at * at * 9).collect();
            here.learn(of, KIND, &taught(&waits, now), now);
        }
        let mut seen = std::collections::HashSet::new();
        for _ in 0..60 {
            now += Duration::from_secs(1);
            let mut packet = Packet::default();
            here.split(2, &mut packet, now);
            for record in Records::of(packet.bytes()) {
                if let Record::Quick(part) = record.unwrap() {
                    seen.insert(part.of);
                }
            }
        }
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn what_only_others_call_has_a_bound() {
        let now = time::now();
        let mut here = PushSum::new(now);
        let part = |of: u8| QuickPart {
            of: Fingerprint([of; 8]),
            weight: 0.0,
            load: Load { in_flight: 1.0, tries: 1.0 },
            kinds: SmallVec::new(),
            quota: None,
        };
        here.own([Fingerprint([200; 8])].into_iter());
        let heard = (0..=u8::MAX).filter(|of| here.hear_quick(&part(*of), now)).count();
        assert_eq!(heard, MOST_FOREIGN + 1);
        here.forget(now + Duration::from_secs(600));
        assert_eq!(here.by.len(), 1);
    }
}
