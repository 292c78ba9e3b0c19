//! Which deployments get no traffic, as agreed by sidecars that do not trust each other blindly.
//!
//! An epoch counts the changes of a deployment from pause to recovery and back: odd is a pause,
//! even a recovery, and the later takes the place of the earlier. Within a pause every origin makes
//! a claim of its own, of which the latest counts. No clock but the receiver's own is compared: what
//! travels is what remains. On its way a claim looks longer than it is by what the way takes; of two
//! copies the shorter is therefore the truer, and what is passed on for an hour does not grow.
//!
//! What a pause is believed to be is not what is claimed. What this sidecar claims itself counts,
//! and what two others claim, for as long as both do. A lone claim counts for ten seconds at most:
//! then somebody asks, and either claims the same or tells that it has recovered. An origin whose
//! lone claim was disproved is not believed alone for a minute. Lone claims of trouble count only
//! after the fleet has seen the trouble, too: see [`evidence`](super::evidence).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::Heard;
use crate::gossip::identity::Origin;
use crate::gossip::rumor::hash;
use crate::lexicon::Fingerprint;
use crate::routing::fleet::{By, Cooldown, Pause, Why};

/// What is told of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which one.
    pub of: Fingerprint,
    /// Odd in a pause, even after it.
    pub epoch: u32,
    /// How long ago that was last changed.
    pub age: Duration,
    /// Who says how long; nobody after a recovery.
    pub claims: SmallVec<[Claimed; 2]>,
}

/// What one origin claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// Who says so.
    pub origin: Origin,
    /// How often it has said something else; the latest counts.
    pub turn: u32,
    /// For how long.
    pub remaining: Duration,
    /// Why.
    pub why: Why,
}

/// The cooldowns of all deployments.
#[derive(Debug)]
pub struct Cooldowns {
    me: Origin,
    by: HashMap<Fingerprint, Entry>,
}

/// What is known of one.
#[derive(Debug, Clone)]
struct Entry {
    epoch: u32,
    changed: Instant,
    /// By origin, the least first.
    claims: Vec<Claim>,
    /// How often this sidecar has claimed something in this epoch.
    own_turn: u32,
    /// Until when its last claim was, also that of an earlier epoch.
    own_until: Option<Instant>,
    verdict: Option<Verdict>,
    /// Whether the fleet has seen the trouble of this epoch.
    is_confirmed: bool,
    /// Who is not believed alone, until when.
    doubted: Vec<(Origin, Instant)>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    origin: Origin,
    turn: u32,
    until: Instant,
    why: Why,
    /// When this sidecar heard it first.
    heard: Instant,
}

/// The pause that this sidecar concludes from the evidence, as all others do.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    until: Instant,
    /// How many there were in this epoch.
    count: u32,
}

/// Claims that are kept for one deployment.
pub const MOST_CLAIMS: usize = 8;
/// For how long a lone claim is believed.
const ALONE: Duration = Duration::from_secs(10);
/// For how long who was wrong is not believed alone.
const DOUBT: Duration = Duration::from_secs(60);
/// For how long an epoch is remembered after its last change.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// A pause that is told anew is another one from this on.
const LONGER: Duration = Duration::from_millis(500);
/// The first pause by verdict; each further one of an epoch is twice as long, up to the longest.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);
/// Who is further ahead than this says nothing that can be.
const MOST_AHEAD: u32 = 100_000;
/// Deployments.
const MOST: usize = 1_024;

impl Cooldowns {
    /// Nothing, as `me` sees it.
    pub fn new(me: Origin) -> Self {
        Self { me, by: HashMap::new() }
    }

    /// Takes in the pause that this sidecar's own tries have begun. It may not have heard yet that
    /// the deployment has recovered: the pause it told of before that is no new one.
    pub fn claim(&mut self, of: Fingerprint, pause: Pause, now: Instant) -> Heard {
        let me = self.me;
        let Some(entry) = self.entry(of, now) else { return Heard::Old };
        let until = now + pause.remaining;
        let is_paused = entry.is_paused();
        if !is_paused && entry.was_claimed(until) {
            return Heard::Old;
        }
        let own = entry.claims.iter_mut().find(|claim| claim.origin == me);
        match own {
            Some(own) if is_paused && until < own.until + LONGER => Heard::Old,
            Some(own) if is_paused => {
                own.turn = own.turn.saturating_add(1);
                (entry.own_turn, own.until, own.why) = (own.turn, until, pause.why);
                entry.own_until = Some(until);
                entry.changed = now;
                Heard::News
            }
            Some(_) | None => {
                let Some(epoch) = entry.next_pause() else { return Heard::Old };
                entry.enter(epoch, now);
                entry.changed = now;
                entry.own_until = Some(until);
                entry.own_turn = entry.own_turn.saturating_add(1);
                let (turn, why) = (entry.own_turn, pause.why);
                entry.put(Claim { origin: me, turn, until, why, heard: now }, now)
            }
        }
    }

    /// Takes in that this sidecar's own probes have brought a deployment back.
    pub fn recover(&mut self, of: Fingerprint, now: Instant) -> Heard {
        let Some(entry) = self.by.get_mut(&of).filter(|entry| entry.is_paused()) else {
            return Heard::Old;
        };
        let Some(epoch) = entry.epoch.checked_add(1) else { return Heard::Old };
        entry.enter(epoch, now);
        Heard::News
    }

    /// Takes in that the fleet sees an outage. It is not told: all others see it, too. What fails
    /// while such a pause lasts began before it, and says nothing new.
    pub fn convict(&mut self, of: Fingerprint, now: Instant) {
        let Some(entry) = self.entry(of, now) else { return };
        if entry.verdict.is_some_and(|verdict| verdict.until > now) {
            return;
        }
        if !entry.is_paused() {
            let Some(epoch) = entry.next_pause() else { return };
            entry.enter(epoch, now);
        }
        let count = entry.verdict.map_or(0, |verdict| verdict.count);
        let pause = FIRST.saturating_mul(1 << count.min(8)).min(LONGEST);
        entry.verdict = Some(Verdict { until: now + pause, count: count.saturating_add(1) });
        entry.is_confirmed = true;
        entry.changed = now;
    }

    /// Takes in what somebody has told.
    pub fn hear(&mut self, told: &Told, now: Instant) -> Heard {
        let Some(changed) = now.checked_sub(told.age).filter(|_| told.age < REMEMBERED) else {
            return Heard::Old;
        };
        let me = self.me;
        let known = self.by.get(&told.of).map_or(0, |entry| entry.epoch);
        let is_ahead = told.epoch > known.saturating_add(MOST_AHEAD);
        if told.epoch < known || told.epoch == 0 || is_ahead {
            return Heard::Old;
        }
        let Some(entry) = self.entry(told.of, now) else { return Heard::Old };
        let mut heard = Heard::Old;
        if told.epoch > entry.epoch {
            entry.enter(told.epoch, changed);
            heard = Heard::News;
        }
        if !entry.is_paused() {
            return heard;
        }
        for claimed in &told.claims {
            if entry.join(*claimed, me, now) == Heard::News {
                entry.changed = entry.changed.max(changed);
                heard = Heard::News;
            }
        }
        entry.is_confirmed |= entry.troubled() > 1;
        heard
    }

    /// What is known of a deployment, for others.
    pub fn told(&self, of: Fingerprint, now: Instant) -> Option<Told> {
        let entry = self.by.get(&of).filter(|entry| entry.epoch > 0)?;
        let claims = entry.claims.iter().map(|claim| Claimed {
            origin: claim.origin,
            turn: claim.turn,
            remaining: claim.until.saturating_duration_since(now),
            why: claim.why,
        });
        let age = now.saturating_duration_since(entry.changed);
        Some(Told { of, epoch: entry.epoch, age, claims: claims.collect() })
    }

    /// All of that.
    pub fn all_told(&self, now: Instant) -> impl Iterator<Item = Told> {
        self.by.keys().filter_map(move |of| self.told(*of, now))
    }

    /// What is believed of a deployment; `None` where nothing was said.
    pub fn agreed(&self, of: Fingerprint, now: Instant) -> Option<Cooldown> {
        let entry = self.by.get(&of).filter(|entry| entry.epoch > 0)?;
        let epoch = entry.epoch;
        if !entry.is_paused() {
            return Some(Cooldown { epoch, until: None, why: Why::Trouble, by: By::Many });
        }
        let (until, why, by) = entry.believed(self.me, now)?;
        Some(Cooldown { epoch, until: Some(until), why, by })
    }

    /// How many deployments are paused.
    pub fn paused(&self, now: Instant) -> usize {
        let is_paused = |entry: &&Entry| {
            let believed = entry.believed(self.me, now).filter(|_| entry.is_paused());
            believed.is_some_and(|(until, _, _)| until > now)
        };
        self.by.values().filter(is_paused).count()
    }

    /// The same for those who know the same.
    pub fn digest(&self) -> u64 {
        let of = |(of, entry): (&Fingerprint, &Entry)| {
            let claims = entry
                .claims
                .iter()
                .map(|claim| hash(&[&of.0, &claim.origin.0, &claim.turn.to_be_bytes()]));
            claims.fold(hash(&[&of.0, &entry.epoch.to_be_bytes()]), |one, other| one ^ other)
        };
        self.by
            .iter()
            .filter(|(_, entry)| entry.epoch > 0)
            .map(of)
            .fold(0, |one, other| one ^ other)
    }

    /// Forgets what is long over.
    pub fn forget(&mut self, now: Instant) {
        self.by.retain(|_, entry| {
            entry.doubted.retain(|(_, until)| *until > now);
            let is_over = entry.claims.iter().all(|claim| claim.until <= now);
            !is_over || now.saturating_duration_since(entry.changed) < REMEMBERED
        });
    }

    fn entry(&mut self, of: Fingerprint, now: Instant) -> Option<&mut Entry> {
        if !self.by.contains_key(&of) && self.by.len() >= MOST {
            return None;
        }
        Some(self.by.entry(of).or_insert_with(|| Entry::new(now)))
    }
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            epoch: 0,
            changed: now,
            claims: Vec::new(),
            own_turn: 0,
            own_until: None,
            verdict: None,
            is_confirmed: false,
            doubted: Vec::new(),
        }
    }

    fn is_paused(&self) -> bool {
        self.epoch % 2 == 1
    }

    /// Whether this sidecar has told of a pause until then.
    fn was_claimed(&self, until: Instant) -> bool {
        self.own_until.is_some_and(|own| until < own + LONGER && own < until + LONGER)
    }

    /// The epoch of a pause that begins: this one, if it is one.
    fn next_pause(&self) -> Option<u32> {
        if self.is_paused() { Some(self.epoch) } else { self.epoch.checked_add(1) }
    }

    fn enter(&mut self, epoch: u32, changed: Instant) {
        if epoch == self.epoch {
            return;
        }
        // Who has said alone that it lasts longer was wrong.
        if epoch.is_multiple_of(2)
            && let [alone] = self.claims.as_slice()
            && alone.until > changed
        {
            self.doubted.retain(|(origin, _)| *origin != alone.origin);
            self.doubted.push((alone.origin, changed + DOUBT));
        }
        (self.epoch, self.changed, self.is_confirmed) = (epoch, changed, false);
        (self.verdict, self.own_turn) = (None, 0);
        self.claims.clear();
    }

    fn join(&mut self, claimed: Claimed, me: Origin, now: Instant) -> Heard {
        let Claimed { origin, turn, remaining, why } = claimed;
        let fresh = Claim { origin, turn, until: now + remaining, why, heard: now };
        // What is said in this sidecar's own name and was not said by it, it says otherwise.
        if origin == me && turn > self.own_turn {
            self.own_turn = turn.saturating_add(1);
            let denied = Claim { turn: self.own_turn, until: now, ..fresh };
            self.claims.retain(|known| known.origin != me);
            return self.put(denied, now);
        }
        match self.claims.iter_mut().find(|known| known.origin == origin) {
            Some(known) if turn > known.turn => {
                *known = fresh;
                Heard::News
            }
            Some(known) if turn == known.turn => {
                known.until = known.until.min(fresh.until);
                Heard::Old
            }
            Some(_) => Heard::Old,
            None => self.put(fresh, now),
        }
    }

    /// Keeps the claims that are not over, and of these the first by origin: who is left out is
    /// the same for everybody.
    fn put(&mut self, claim: Claim, now: Instant) -> Heard {
        let at = self.claims.partition_point(|known| known.origin < claim.origin);
        self.claims.insert(at, claim);
        if self.claims.len() <= MOST_CLAIMS {
            return Heard::News;
        }
        let over = self.claims.iter().rposition(|known| known.until <= now);
        let out = self.claims.remove(over.unwrap_or(MOST_CLAIMS));
        if out.origin == claim.origin { Heard::Old } else { Heard::News }
    }

    /// How many say that it is in trouble.
    fn troubled(&self) -> usize {
        self.claims.iter().filter(|claim| claim.why == Why::Trouble).count()
    }

    /// Until when, why and by whom; a moment in the past is a pause that is over.
    fn believed(&self, me: Origin, now: Instant) -> Option<(Instant, Why, By)> {
        let mut claims: SmallVec<[&Claim; MOST_CLAIMS]> = self.claims.iter().collect();
        claims.sort_by_key(|claim| std::cmp::Reverse(claim.until));
        let own = claims.iter().find(|claim| claim.origin == me);
        let own = own.map(|claim| (claim.until, claim.why, By::Many));
        let two = claims.get(1).map(|claim| (claim.until, claim.why, By::Many));
        let alone = claims.first().and_then(|claim| self.alone(claim, now));
        let verdict = self.verdict.map(|verdict| (verdict.until, Why::Trouble, By::Many));
        let all = [own, two, verdict, alone];
        // Of the same moment the first, which says more.
        all.into_iter().flatten().reduce(|one, other| if other.0 > one.0 { other } else { one })
    }

    fn alone(&self, claim: &Claim, now: Instant) -> Option<(Instant, Why, By)> {
        let doubted = self.doubted.iter().any(|(who, until)| *who == claim.origin && *until > now);
        let is_seen = self.is_confirmed || claim.why != Why::Trouble;
        (is_seen && !doubted).then(|| (claim.until.min(claim.heard + ALONE), claim.why, By::One))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lexicon::time;

    const OF: Fingerprint = Fingerprint([1; 8]);

    fn origin(name: u8) -> Origin {
        Origin([name; 6])
    }

    fn pause(seconds: u64, why: Why) -> Pause {
        Pause { remaining: Duration::from_secs(seconds), why }
    }

    /// What `name` tells after it has begun a pause of its own.
    fn claimed(name: u8, seconds: u64, why: Why, now: Instant) -> Told {
        let mut cooldowns = Cooldowns::new(origin(name));
        assert_eq!(cooldowns.claim(OF, pause(seconds, why), now), Heard::News);
        cooldowns.told(OF, now).unwrap()
    }

    /// For how many seconds `at` believes in a pause, and by whom.
    fn believed(at: &Cooldowns, now: Instant) -> Option<(u64, By)> {
        let cooldown = at.agreed(OF, now)?;
        let remaining = cooldown.until?.saturating_duration_since(now);
        (!remaining.is_zero()).then_some((remaining.as_secs(), cooldown.by))
    }

    #[test]
    fn a_lone_claim_is_believed_for_ten_seconds() {
        let now = time::now();
        let mut here = Cooldowns::new(origin(9));
        assert_eq!(here.hear(&claimed(1, 300, Why::Limit, now), now), Heard::News);
        assert_eq!(believed(&here, now), Some((10, By::One)));
        assert_eq!(believed(&here, now + ALONE), None);
        let later = now + Duration::from_secs(11);
        assert_eq!(here.hear(&claimed(2, 200, Why::Limit, later), later), Heard::News);
        assert_eq!(believed(&here, later), Some((200, By::Many)), "two agree on so long");
        let short = Duration::from_secs(3);
        let mut other = Cooldowns::new(origin(9));
        other.hear(&claimed(1, 3, Why::Account, now), now);
        assert_eq!(believed(&other, now), Some((short.as_secs(), By::One)));
    }

    #[test]
    fn its_own_pause_counts_whole() {
        let now = time::now();
        let mut here = Cooldowns::new(origin(9));
        here.hear(&claimed(1, 300, Why::Limit, now), now);
        here.claim(OF, pause(40, Why::Limit), now);
        assert_eq!(believed(&here, now), Some((40, By::Many)));
        assert_eq!(here.claim(OF, pause(40, Why::Limit), now), Heard::Old);
        assert_eq!(here.claim(OF, pause(50, Why::Limit), now), Heard::News);
        assert_eq!(here.told(OF, now).unwrap().claims[1].turn, 2);
    }

    #[test]
    fn a_lone_claim_of_trouble_needs_evidence() {
        let now = time::now();
        let mut here = Cooldowns::new(origin(9));
        here.hear(&claimed(1, 30, Why::Trouble, now), now);
        assert_eq!(believed(&here, now), None);
        here.convict(OF, now);
        assert_eq!(believed(&here, now), Some((10, By::One)));
        let mut other = Cooldowns::new(origin(9));
        other.hear(&claimed(1, 30, Why::Trouble, now), now);
        other.hear(&claimed(2, 20, Why::Trouble, now), now);
        assert_eq!(believed(&other, now), Some((20, By::Many)));
    }

    #[test]
    fn verdicts_double_within_an_epoch() {
        let mut now = time::now();
        let mut here = Cooldowns::new(origin(9));
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            here.convict(OF, now);
            assert_eq!(believed(&here, now), Some((seconds, By::Many)));
            now += Duration::from_secs(seconds);
            assert_eq!(believed(&here, now), None);
        }
        here.recover(OF, now);
        here.convict(OF, now);
        assert_eq!(believed(&here, now), Some((2, By::Many)));
    }

    #[test]
    fn more_of_the_same_outage_is_no_longer_one() {
        let now = time::now();
        let mut here = Cooldowns::new(origin(9));
        for late in [0, 300, 900] {
            here.convict(OF, now + Duration::from_millis(late));
            assert_eq!(believed(&here, now), Some((2, By::Many)), "{late}");
        }
        let over = now + FIRST;
        here.convict(OF, over);
        assert_eq!(believed(&here, over), Some((4, By::Many)));
    }

    #[test]
    fn who_has_not_heard_of_the_recovery_does_not_undo_it() {
        let now = time::now();
        let (mut here, mut there) = (Cooldowns::new(origin(9)), Cooldowns::new(origin(8)));
        here.claim(OF, pause(40, Why::Trouble), now);
        there.hear(&here.told(OF, now).unwrap(), now);
        let later = now + Duration::from_secs(5);
        there.recover(OF, later);
        here.hear(&there.told(OF, later).unwrap(), later);
        assert_eq!(here.claim(OF, pause(35, Why::Trouble), later), Heard::Old);
        assert_eq!(here.agreed(OF, later).unwrap().until, None);
        assert_eq!(here.claim(OF, pause(2, Why::Trouble), later), Heard::News, "another pause");
        assert_eq!(here.agreed(OF, later).unwrap().epoch, 3);
    }

    #[test]
    fn who_was_disproved_is_not_believed_alone() {
        let now = time::now();
        let mut here = Cooldowns::new(origin(9));
        here.hear(&claimed(1, 300, Why::Limit, now), now);
        assert_eq!(here.recover(OF, now), Heard::News);
        assert_eq!(here.agreed(OF, now).unwrap().until, None);
        let mut lie = claimed(1, 300, Why::Limit, now);
        lie.epoch = 3;
        assert_eq!(here.hear(&lie, now), Heard::News);
        assert_eq!(believed(&here, now), None);
        let later = now + DOUBT;
        lie.claims[0].turn = 2;
        here.hear(&lie, later);
        assert_eq!(believed(&here, later), Some((10, By::One)));
    }

    #[test]
    fn who_was_right_is_believed_again() {
        let now = time::now();
        let mut here = Cooldowns::new(origin(9));
        here.hear(&claimed(1, 5, Why::Limit, now), now);
        let over = now + Duration::from_secs(6);
        here.recover(OF, over);
        let mut next = claimed(1, 300, Why::Limit, over);
        next.epoch = 3;
        here.hear(&next, over);
        assert_eq!(believed(&here, over), Some((10, By::One)));
    }

    #[test]
    fn what_is_said_in_its_name_it_denies() {
        let now = time::now();
        let mut here = Cooldowns::new(origin(9));
        here.hear(&claimed(1, 300, Why::Limit, now), now);
        let forged = claimed(9, 300, Why::Limit, now);
        assert_eq!(here.hear(&forged, now), Heard::News);
        assert_eq!(believed(&here, now), Some((10, By::One)));
        let mut other = Cooldowns::new(origin(8));
        other.hear(&claimed(1, 300, Why::Limit, now), now);
        other.hear(&forged, now);
        assert_eq!(believed(&other, now), Some((300, By::Many)), "it cannot know");
        other.hear(&here.told(OF, now).unwrap(), now);
        assert_eq!(believed(&other, now), Some((10, By::One)));
    }

    #[test]
    fn a_recovery_ends_a_pause_and_old_news_do_not_bring_it_back() {
        let now = time::now();
        let old = claimed(1, 300, Why::Limit, now);
        let (mut here, mut there) = (Cooldowns::new(origin(9)), Cooldowns::new(origin(8)));
        here.hear(&old, now);
        there.hear(&old, now);
        there.recover(OF, now);
        assert_eq!(here.hear(&there.told(OF, now).unwrap(), now), Heard::News);
        assert_eq!(here.hear(&old, now), Heard::Old);
        assert_eq!(believed(&here, now), None);
        assert_eq!(here.digest(), there.digest());
        here.claim(OF, pause(30, Why::Limit), now);
        assert_eq!(here.agreed(OF, now).unwrap().epoch, 3);
    }

    #[test]
    fn what_is_passed_on_does_not_grow() {
        let mut now = time::now();
        let (mut one, mut other) = (Cooldowns::new(origin(1)), Cooldowns::new(origin(2)));
        one.claim(OF, pause(300, Why::Limit), now);
        for _ in 0..100 {
            let told = one.told(OF, now).unwrap();
            now += Duration::from_millis(200);
            other.hear(&told, now);
            let told = other.told(OF, now).unwrap();
            now += Duration::from_millis(200);
            one.hear(&told, now);
        }
        let left = other.told(OF, now).unwrap().claims[0].remaining;
        assert!(left <= Duration::from_millis(260_200), "{left:?}");
    }

    #[test]
    fn epochs_that_cannot_be_are_not_heard() {
        let now = time::now();
        let mut here = Cooldowns::new(origin(9));
        let mut told = claimed(1, 5, Why::Limit, now);
        told.epoch = u32::MAX;
        assert_eq!(here.hear(&told, now), Heard::Old);
        told.epoch = 0;
        assert_eq!(here.hear(&told, now), Heard::Old);
        assert_eq!(here.agreed(OF, now), None);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let now = time::now();
        let mut here = Cooldowns::new(origin(9));
        here.claim(OF, pause(7_200, Why::Limit), now);
        here.forget(now + REMEMBERED);
        assert_eq!(here.by.len(), 1, "it is paused");
        let old = here.told(OF, now + REMEMBERED).unwrap();
        here.forget(now + 2 * REMEMBERED);
        assert_eq!(here.by.len(), 0);
        assert_eq!(here.hear(&old, now + REMEMBERED), Heard::Old, "and stays so");
    }

    /// What cannot differ between two who know the same.
    fn known(at: &Cooldowns, now: Instant) -> (u64, Option<Told>) {
        (at.digest(), at.told(OF, now))
    }

    proptest! {
        #[test]
        fn joins_commute_associate_and_are_idempotent(
            all in proptest::collection::vec((1u32..6, 0u8..12, 1u32..4), 1..40),
            cut: proptest::sample::Index,
        ) {
            let now = time::now() + REMEMBERED;
            // What an origin claims is settled by its turn, and only grows.
            let all: Vec<_> = all.iter().map(|(epoch, by, turn)| {
                let remaining = Duration::from_secs(u64::from(*turn) * 10 + u64::from(*by));
                let claim = Claimed { origin: origin(*by), turn: *turn, remaining, why: Why::Limit };
                let claims = std::iter::once(claim).filter(|_| epoch % 2 == 1).collect();
                Told { of: OF, epoch: *epoch, age: Duration::ZERO, claims }
            }).collect();
            let told = |order: &mut dyn Iterator<Item = &Told>| {
                let mut cooldowns = Cooldowns::new(origin(99));
                order.for_each(|told| { cooldowns.hear(told, now); });
                cooldowns
            };
            let forth = told(&mut all.iter());
            let same = known(&forth, now);
            prop_assert_eq!(&same, &known(&told(&mut all.iter().rev()), now));
            prop_assert_eq!(&same, &known(&told(&mut all.iter().chain(&all)), now));
            let (first, second) = all.split_at(cut.index(all.len()));
            let (first, second) = (told(&mut first.iter()), told(&mut second.iter()));
            let of_both = [first.told(OF, now), second.told(OF, now)];
            let joined = told(&mut of_both.iter().flatten());
            prop_assert_eq!(&same, &known(&joined, now));
        }
    }
}
