//! A deployment's part in the fleet: what its row tells other sidecars, and what they tell it.
//!
//! Promises that the path of requests only adds to atomics and reads what was published, and that
//! news which are not renewed are forgotten within seconds: then only what was seen here counts.
//! Knows nothing of how news travel.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::minute::Minute;
use super::{MINUTE, Row, StatsTable};
use crate::lexicon::count::{float, whole};
use crate::lexicon::{Fingerprint, PicoUsd, Tokens};
use crate::routing::Kind;
use crate::routing::cooldown::Rule;
use crate::routing::fleet::{FleetView, Known, Limits, Others, Pause, Quota, Why, Witness};
use crate::routing::latency::Model;
use crate::routing::strategy::adaptive::FleetLoad;
use crate::routing::view::{Demand, Used};

/// What ties a deployment to the same one of other sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tie {
    /// What it is.
    pub of: Fingerprint,
    /// The limits that the configuration wants kept.
    pub limits: Limits,
    /// Whether its money, or its provider's, is bounded.
    pub has_budget: bool,
    /// Whose rule says when it gets no traffic; `None` where it always gets some.
    pub rule: Rule,
}

/// What was used by others counts for so long after it was told, and so does the fleet's load.
const NEWS_HOLD: Duration = Duration::from_secs(10);
/// So long a probe is left to another sidecar without being told so again.
const PROBE_HOLDS: Duration = Duration::from_secs(2);
/// Over so long it is measured how much of what is asked is let through.
const ASKED: Duration = Duration::from_secs(10);
/// Where nearly all is turned away, what was asked is not told more exactly.
const MOST_ASKED: f64 = 50.0;

/// The part of one row. Times are since the epoch of the row.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    tie: Mutex<Option<Tie>>,
    failures: AtomicU64,
    requests: AtomicU64,
    tokens: AtomicU64,
    /// In pico-dollars.
    spent: AtomicU64,
    /// What others have spent in all, plus one; zero where nobody has told.
    spent_by_others: AtomicU64,
    /// Requests that limits have turned away.
    refused: Minute,
    /// Why the last pause by `LiteLLM`'s rule was begun.
    why: AtomicU8,
    /// By `LiteLLM`'s rule, until when others want it left alone, in microseconds; zero is never.
    pub(super) advised_until: AtomicU64,
    /// Until when probes are left to another sidecar, likewise.
    pub(super) probed_elsewhere_until: AtomicU64,
    news: ArcSwapOption<News>,
    /// Whether there are any, which costs nothing to ask: mostly nobody tells.
    has_news: AtomicBool,
    /// What tries have taught and nobody was told yet.
    untold: Mutex<Untold>,
    quota: Mutex<Option<(u16, Option<u32>, Instant)>>,
}

type Untold = [Option<Box<Model>>; Kind::COUNT];

/// What was told last.
#[derive(Debug)]
struct News {
    as_of: Instant,
    in_flight: f64,
    others: Option<Others>,
}

impl Fleet {
    pub(super) fn set_tie(&self, tie: Option<Tie>) {
        *locked(&self.tie) = tie;
        if tie.is_none() {
            self.set_news(None);
        }
    }

    fn set_news(&self, news: Option<News>) {
        self.has_news.store(news.is_some(), Ordering::Relaxed);
        self.news.store(news.map(Arc::new));
    }

    /// Reads what was told last.
    fn news<T>(&self, read: impl FnOnce(&News) -> Option<T>) -> Option<T> {
        if !self.has_news.load(Ordering::Relaxed) {
            return None;
        }
        self.news.load().as_deref().and_then(read)
    }

    pub(super) fn tie(&self) -> Option<Tie> {
        *locked(&self.tie)
    }

    pub(super) fn asked(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn charged(&self, tokens: Tokens, cost: Option<PicoUsd>) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        self.spent.fetch_add(cost.unwrap_or_default().0, Ordering::Relaxed);
    }

    /// Counts a failure; rate limits are no evidence that it is broken.
    pub(super) fn failed(&self, why: Option<Why>) {
        if why == Some(Why::Trouble) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn paused(&self, why: Why) {
        self.why.store(why as u8, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, now: Duration) {
        self.refused.request(now);
    }

    /// Adds to what others are to be told, where there is anybody to tell.
    pub(super) fn learn(&self, kind: Kind, now: Instant, lesson: impl FnOnce(&mut Model)) {
        if self.tie().is_some()
            && let Some(model) = locked(&self.untold).get_mut(kind.at())
        {
            lesson(model.get_or_insert_with(|| Box::new(Model::new(now))));
        }
    }

    pub(super) fn quota(&self, left: u16, tokens: Option<u32>, now: Instant) {
        *locked(&self.quota) = Some((left, tokens, now));
    }

    /// What others use, where they told so lately.
    fn others(&self, now: Instant) -> Option<Others> {
        let others = self.news(|news| news.others)?;
        (now.saturating_duration_since(others.as_of) <= NEWS_HOLD).then_some(others)
    }

    /// What others have used in a window, with what they are thought to have used since they told.
    pub(super) fn used_by_others(&self, window: Duration, now: Instant) -> Used {
        let Some(others) = self.others(now) else { return Used::default() };
        let part = window.min(MINUTE).as_secs_f64() / MINUTE.as_secs_f64();
        let age = now.saturating_duration_since(others.as_of).as_secs_f64();
        let since = |known: u64, rate: f64| whole(float(known) * part + rate * age);
        Used {
            requests: since(others.used.requests, others.requests_per_second),
            tokens: since(others.used.tokens, others.tokens_per_second),
        }
    }

    /// What all ask: what they use, and as much more of it as is turned away here.
    /// Nothing is counted up where nobody shares.
    pub(super) fn demand(
        &self,
        own: impl FnOnce() -> Used,
        now: Instant,
        time: Duration,
    ) -> Option<Demand> {
        let others = self.others(now).filter(|others| others.sharers >= 2)?;
        let own = own();
        let refused = float(self.refused.used(ASKED, time).requests);
        let let_through = float(own.requests);
        let asked = ((let_through + refused) / let_through.max(1.0)).clamp(1.0, MOST_ASKED);
        let all = |others: f64, own: u64| (others + float(own) / ASKED.as_secs_f64()) * asked;
        Some(Demand {
            requests_per_second: all(others.requests_per_second, own.requests),
            tokens_per_second: all(others.tokens_per_second, own.tokens),
        })
    }

    pub(super) fn load(&self, now: Instant) -> Option<FleetLoad> {
        self.news(|news| {
            let age = now.saturating_duration_since(news.as_of);
            let in_flight = news.in_flight;
            (age <= NEWS_HOLD).then_some(FleetLoad { in_flight, age: age.as_secs_f64() })
        })
    }
}

/// Over which time [`Fleet::demand`] wants to know what was used here.
pub(super) const DEMAND_WINDOW: Duration = ASKED;

impl StatsTable {
    /// What this sidecar has seen of each deployment that is tied to the fleet, since the last
    /// time. Entries of the same deployment are one.
    pub fn witness(&self, now: Instant) -> Vec<Witness> {
        let mut all: Vec<Witness> = Vec::new();
        for row in self.all() {
            let Some(tie) = row.fleet.tie() else { continue };
            let witness = row.witness(&tie, now);
            match all.iter_mut().find(|other| other.of == tie.of) {
                Some(other) => join(other, witness),
                None => all.push(witness),
            }
        }
        all
    }

    /// Takes in what the fleet knows. Advice: see the module.
    pub fn advise(&self, view: Arc<FleetView>, now: Instant) {
        let mut paid = HashSet::new();
        for row in self.all() {
            let Some(tie) = row.fleet.tie() else { continue };
            row.advise(&tie, &view, now);
            let grown = row.spent_by_others(view.deployments.get(&tie.of));
            row.own.add(grown, row.time(now));
            // Entries of the same deployment have the same provider, who was paid once.
            if paid.insert(tie.of) {
                row.provider.add(grown, row.time(now));
            }
        }
        self.view.store(Some(view));
    }
}

impl Row {
    fn witness(&self, tie: &Tie, now: Instant) -> Witness {
        let fleet = &self.fleet;
        let untold = std::mem::take(&mut *locked(&fleet.untold));
        let taught = Kind::all().zip(untold).filter_map(|(kind, model)| Some((kind, *model?)));
        let quota = *locked(&fleet.quota);
        Witness {
            of: tie.of,
            taught: taught.collect(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            failures: fleet.failures.load(Ordering::Relaxed),
            recoveries: self.circuit.recoveries(),
            pause: self.own_pause(tie.rule, now),
            used: Used {
                requests: fleet.requests.load(Ordering::Relaxed),
                tokens: fleet.tokens.load(Ordering::Relaxed),
            },
            spent: PicoUsd(fleet.spent.load(Ordering::Relaxed)),
            limits: tie.limits,
            has_budget: tie.has_budget,
            quota: quota.map(|(left, tokens, told)| Quota {
                left,
                tokens,
                age: now.saturating_duration_since(told),
            }),
        }
    }

    /// What others have spent since they last told; what was before the first time is over.
    fn spent_by_others(&self, known: Option<&Known>) -> PicoUsd {
        let Some(others) = known.and_then(|known| known.others) else { return PicoUsd::ZERO };
        let told = others.spent.0.saturating_add(1);
        let before = self.fleet.spent_by_others.fetch_max(told, Ordering::Relaxed);
        if before == 0 { PicoUsd::ZERO } else { PicoUsd(told.saturating_sub(before)) }
    }

    fn own_pause(&self, rule: Rule, now: Instant) -> Option<Pause> {
        match rule {
            Rule::LiteLlm => {
                let until = Duration::from_micros(self.cooling_until.load(Ordering::Relaxed));
                let remaining = until.saturating_sub(self.time(now));
                let why = why(self.fleet.why.load(Ordering::Relaxed));
                (!remaining.is_zero()).then_some(Pause { remaining, why })
            }
            Rule::None => None,
            Rule::Pillion => self.circuit.read().pause(now),
        }
    }

    fn advise(&self, tie: &Tie, view: &FleetView, now: Instant) {
        let known = view.deployments.get(&tie.of);
        let as_of = view.as_of.unwrap_or(now);
        // Of what nobody speaks of only this sidecar has anything running.
        let own = f64::from(self.in_flight.load(Ordering::Relaxed));
        let in_flight = known.map_or(own, |it| it.in_flight).max(own);
        let others = known.and_then(|known| known.others).filter(is_sane);
        let peers = view.members > 1 && in_flight.is_finite();
        self.fleet.set_news(peers.then_some(News { as_of, in_flight, others }));
        self.advise_cooldown(tie.rule, known, now);
    }

    fn advise_cooldown(&self, rule: Rule, known: Option<&Known>, now: Instant) {
        let fleet = &self.fleet;
        let agreed = known.and_then(|known| known.cooldown);
        let elsewhere = known.is_some_and(|known| !known.may_probe) && agreed.is_some();
        let until = if elsewhere { self.micros(now + PROBE_HOLDS) } else { 0 };
        fleet.probed_elsewhere_until.store(until, Ordering::Relaxed);
        match (rule, agreed) {
            (Rule::LiteLlm, Some(agreed)) => {
                let until = agreed.until.filter(|until| *until > now);
                let until = until.map_or(0, |until| self.micros(until.min(now + LONGEST)));
                fleet.advised_until.store(until, Ordering::Relaxed);
            }
            (Rule::LiteLlm, None) => fleet.advised_until.store(0, Ordering::Relaxed),
            (Rule::Pillion, Some(agreed)) => self.circuit.advise(&agreed, now),
            (Rule::Pillion, None) | (Rule::None, _) => {}
        }
    }
}

/// Nobody's word keeps a deployment out of traffic for longer.
const LONGEST: Duration = Duration::from_secs(3600);

fn is_sane(others: &Others) -> bool {
    let rates = [others.requests_per_second, others.tokens_per_second];
    rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0)
}

/// Adds what another entry of the same deployment has seen.
fn join(all: &mut Witness, more: Witness) {
    all.taught.extend(more.taught);
    all.in_flight += more.in_flight;
    all.failures += more.failures;
    all.recoveries += more.recoveries;
    all.used.requests += more.used.requests;
    all.used.tokens += more.used.tokens;
    all.spent += more.spent;
    all.has_budget |= more.has_budget;
    all.pause = all.pause.into_iter().chain(more.pause).max_by_key(|pause| pause.remaining);
    all.limits = Limits {
        requests: all.limits.requests.max(more.limits.requests),
        tokens: all.limits.tokens.max(more.limits.tokens),
    };
    let newer = |quota: &Quota| all.quota.is_none_or(|own| quota.age < own.age);
    all.quota = more.quota.filter(newer).or(all.quota);
}

fn why(stored: u8) -> Why {
    let all = [Why::Account, Why::Limit, Why::Trouble];
    all.into_iter().find(|why| *why as u8 == stored).unwrap_or(Why::Trouble)
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::{Class, DeploymentIx, Failure, GroupIx, time};
    use crate::routing::fleet::{By, Cooldown};
    use crate::routing::view::{Counted, Payer};
    use crate::routing::{RouteTable, Settings, View};
    use crate::stats::{Failed, Named, Rows};

    const OF: Fingerprint = Fingerprint([7; 8]);
    const FIRST: DeploymentIx = DeploymentIx(0);
    const SECOND: DeploymentIx = DeploymentIx(1);

    /// Two deployments, of which the second may have the first one's fingerprint.
    fn rows(table: &StatsTable, rule: Rule, twice: bool, now: Instant) -> Rows {
        let limits = Limits { requests: Some(60), tokens: None };
        let tie = |of| Some(Tie { of, limits, has_budget: true, rule });
        let other = if twice { tie(OF) } else { None };
        let named = [("a", tie(OF)), ("b", other)].map(|(id, tie)| Named {
            id,
            group: "g",
            provider: "p",
            budget_period: Some(MINUTE),
            provider_budget_period: Some(MINUTE),
            tie,
        });
        table.rows(named.into_iter(), now)
    }

    fn view(known: Known, now: Instant) -> Arc<FleetView> {
        FleetView { as_of: Some(now), members: 3, deployments: [(OF, known)].into() }.into()
    }

    fn paused(until: Option<Instant>, may_probe: bool) -> Known {
        let cooldown = Some(Cooldown { epoch: 1, until, why: Why::Trouble, by: By::Many });
        Known { cooldown, may_probe, ..Known::default() }
    }

    fn fail(rows: &Rows, rule: Rule, class: Class, now: Instant) {
        let settings = Settings { cooldown: Some(rule), ..Settings::default() };
        let entry = |at: u16| {
            ("g".into(), format!("{at}").into(), crate::routing::Member::new(DeploymentIx(at)))
        };
        let routes = RouteTable::build((0..2).map(entry).collect(), settings);
        let group = routes.group(GroupIx(0)).unwrap();
        let failure = Failure::new(class, 500);
        let failed = Failed { failure, callers_timeout: false, ticket: None, entropy: 0 };
        let who = (group, &group.members[0]);
        rows.get(FIRST).unwrap().failed(routes.settings(), who, &failed, now);
    }

    #[test]
    fn a_pause_of_others_is_followed_by_either_rule_and_not_told_on() {
        for rule in [Rule::Pillion, Rule::LiteLlm] {
            let now = time::now();
            let table = StatsTable::new(now);
            let rows = rows(&table, rule, false, now);
            let until = now + Duration::from_secs(30);
            table.advise(view(paused(Some(until), false), now), now);
            let vitals = rows.vitals(FIRST);
            assert!(vitals.is_cooling(now + Duration::from_secs(29)), "{rule:?}: {vitals:?}");
            assert!(!vitals.is_cooling(now + Duration::from_secs(31)), "{rule:?}: {vitals:?}");
            assert!(!vitals.is_cooling_by_own_evidence(now), "{rule:?}: {vitals:?}");
            assert_eq!(table.witness(now)[0].pause, None);
            assert!(!rows.vitals(SECOND).is_cooling(now), "nobody spoke of it");
        }
        let now = time::now();
        let table = StatsTable::new(now);
        let rows = rows(&table, Rule::None, false, now);
        table.advise(view(paused(Some(now + Duration::from_secs(9)), false), now), now);
        assert!(!rows.vitals(FIRST).is_cooling(now));
    }

    #[test]
    fn own_failures_and_pauses_are_told() {
        for (rule, class, why) in [
            (Rule::Pillion, Class::Authentication, Why::Account),
            (Rule::LiteLlm, Class::RateLimit, Why::Limit),
            (Rule::LiteLlm, Class::NotFound, Why::Trouble),
        ] {
            let now = time::now();
            let table = StatsTable::new(now);
            let rows = rows(&table, rule, false, now);
            fail(&rows, rule, class, now);
            let told = &table.witness(now)[0];
            assert_eq!(told.pause.map(|pause| pause.why), Some(why), "{rule:?} {class:?}");
            assert_eq!(told.failures, u64::from(why == Why::Trouble));
            let later = table.witness(now + Duration::from_secs(3_600));
            assert_eq!(later[0].pause, None);
        }
    }

    #[test]
    fn probes_are_left_to_others_while_they_say_so() {
        let now = time::now();
        let table = StatsTable::new(now);
        let rows = rows(&table, Rule::Pillion, false, now);
        let elsewhere = |at| rows.vitals(FIRST).is_probed_elsewhere(at);
        table.advise(view(paused(Some(now), false), now), now);
        assert!(elsewhere(now));
        assert!(!elsewhere(now + Duration::from_secs(3)), "nobody has said so again");
        table.advise(view(paused(Some(now), true), now), now);
        assert!(!elsewhere(now));
    }

    #[test]
    fn entries_of_one_deployment_are_told_as_one() {
        let now = time::now();
        let table = StatsTable::new(now);
        let rows = rows(&table, Rule::Pillion, true, now);
        let _first = rows.get(FIRST).unwrap().enter(None, 5, now);
        let _second = rows.get(SECOND).unwrap().enter(None, 5, now);
        rows.get(SECOND).unwrap().charged(40, Some(PicoUsd(3)), now);
        let told = table.witness(now);
        let [only] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((only.in_flight, only.used), (2, Used { requests: 2, tokens: 40 }));
        assert_eq!((only.spent, only.limits.requests), (PicoUsd(3), Some(60)));
    }

    #[test]
    fn what_others_spend_counts_once_and_is_not_told_on() {
        let now = time::now();
        let table = StatsTable::new(now);
        let rows = rows(&table, Rule::Pillion, true, now);
        let told = |dollars: u64| {
            let others = Others {
                used: Used::default(),
                requests_per_second: 0.0,
                tokens_per_second: 0.0,
                as_of: now,
                sharers: 2,
                spent: PicoUsd(dollars),
            };
            table.advise(view(Known { others: Some(others), ..Known::default() }, now), now);
            let spent = |of, payer| rows.spent(of, payer, now).map_or(0, |it| it.amount.0);
            (spent(FIRST, Payer::Deployment), spent(SECOND, Payer::Provider))
        };
        assert_eq!(told(100), (0, 0), "that was before");
        assert_eq!(told(130), (30, 30));
        assert_eq!(told(130), (30, 30));
        assert_eq!(told(120), (30, 30), "another owner knows less");
        assert_eq!(told(150), (50, 50));
        assert_eq!(table.witness(now)[0].spent, PicoUsd::ZERO);
        assert!(table.witness(now)[0].has_budget);
    }

    #[test]
    fn what_others_use_counts_while_they_tell_of_it() {
        let now = time::now();
        let table = StatsTable::new(now);
        let rows = rows(&table, Rule::Pillion, false, now);
        let used = Used { requests: 30, tokens: 600 };
        let (requests_per_second, tokens_per_second) = (2.0, 40.0);
        let others = Others {
            used,
            requests_per_second,
            tokens_per_second,
            as_of: now,
            sharers: 3,
            spent: PicoUsd::ZERO,
        };
        let known = Known { others: Some(others), in_flight: 4.0, ..Known::default() };
        table.advise(view(known.clone(), now), now);
        let _try = rows.get(FIRST).unwrap().enter(None, 0, now);
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(rows.used(FIRST, MINUTE, now), Used { requests: 31, tokens: 600 });
        assert_eq!(rows.used(FIRST, MINUTE, after(5)), Used { requests: 41, tokens: 800 });
        assert_eq!(rows.used(FIRST, MINUTE, after(11)).requests, 1, "they have fallen silent");
        assert_eq!(rows.used(FIRST, MINUTE / 2, now), Used { requests: 16, tokens: 300 });
        // Of 31 the own one goes after a minute; of the others' 30 a third after twenty seconds.
        let eases = |most| rows.eases(FIRST, Counted::Requests, most, now);
        assert!(eases(30) >= after(60) && eases(30) <= after(62));
        assert_eq!(rows.eases(SECOND, Counted::Requests, 0, now), now);
        let load = rows.fleet_load(FIRST, after(2)).unwrap();
        assert!((load.in_flight - 4.0).abs() < 1e-9 && (load.age - 2.0).abs() < 1e-9);
        assert_eq!(rows.fleet_load(FIRST, after(11)), None);
        let demand = rows.demand(FIRST, now).unwrap().requests_per_second;
        assert!((demand - 2.1).abs() < 1e-9, "{demand}");
        (0..3).for_each(|_| rows.get(FIRST).unwrap().refused(now));
        let demand = rows.demand(FIRST, now).unwrap().requests_per_second;
        assert!((demand - 8.4).abs() < 1e-9, "of four one is let through: {demand}");
        let absurd = Others { requests_per_second: f64::NAN, ..others };
        table.advise(view(Known { others: Some(absurd), ..known }, now), now);
        assert_eq!(rows.used(FIRST, MINUTE, now).requests, 1);
    }
}
