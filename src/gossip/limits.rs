//! Limits and budgets that hold for all: who uses such a deployment tells two owners what it has
//! used, and they tell it what the others have.
//!
//! Owners are chosen by rendezvous, so that everybody knows them without asking. A report says all:
//! what was used since the reporter began, which tells old reports from new ones, and what of it in
//! the last minute. So an owner that has just become one knows all after one report of each, the
//! one that is gone leaves nothing behind, and reports join in any order. A report goes out when
//! more was used than a twentieth of what the limit gives each, and every few seconds anyway: who
//! is silent does not hear what the others use.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::identity::Boot;
use super::rumor::hash;
use crate::lexicon::count::{float, whole};
use crate::lexicon::{Fingerprint, PicoUsd};
use crate::routing::fleet::{Limits, Others, Witness};
use crate::routing::view::Used;

/// What a member has used of a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Of which deployment.
    pub of: Fingerprint,
    /// Since it began.
    pub total: Used,
    /// Within the last minute.
    pub minute: Used,
    /// How fast that grows.
    pub growth: Growth,
    /// Money since it began.
    pub spent: PicoUsd,
}

/// How fast what was used within the last minute grows, per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Growth {
    /// Requests.
    pub requests: f64,
    /// Tokens.
    pub tokens: f64,
}

/// What an owner tells one of those who use a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// Of which deployment.
    pub of: Fingerprint,
    /// What the others have used within the last minute.
    pub others: Used,
    /// How fast that grows.
    pub growth: Growth,
    /// How many use it, the asker included.
    pub sharers: u32,
    /// Money of the others since they began, also of those that are gone.
    pub spent: PicoUsd,
}

/// What this sidecar has used of limits, and what it was told of the others.
#[derive(Debug, Default)]
pub struct Usage {
    by: HashMap<Fingerprint, Own>,
}

#[derive(Debug)]
struct Own {
    limits: Limits,
    total: Used,
    spent: PicoUsd,
    /// The most that was heard of the others' money.
    spent_by_others: PicoUsd,
    seconds: Seconds,
    /// What was told last, and when.
    told: Option<(Used, Instant)>,
    /// By rank of the owner.
    answers: [Option<(Answer, Instant)>; OWNERS],
}

/// Uses per second of the last minute.
#[derive(Debug)]
struct Seconds {
    used: [Used; 60],
    /// Of the second that began here.
    newest: Instant,
    at: usize,
}

/// What others have reported, where this sidecar is an owner.
#[derive(Debug, Default)]
pub struct Accounts {
    by: HashMap<Fingerprint, HashMap<Boot, (Report, Instant)>>,
}

/// How many owners a limit has.
pub const OWNERS: usize = 2;
/// Reports come so often at least,
const AT_LEAST: Duration = Duration::from_secs(4);
/// and at most.
const AT_MOST: Duration = Duration::from_millis(250);
/// A report goes out when more was used than one in so many of what the limit gives each.
const PARTS: u64 = 20;
/// Growth is told from so many seconds at either end of the minute.
const ENDS: usize = 5;
/// Growth is believed for so long after a report; from then on what was reported fades.
const GROWS: Duration = Duration::from_secs(10);
const FADES: Duration = Duration::from_secs(50);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// Deployments and reporters that are kept.
const MOST: usize = 1_024;
const MOST_REPORTERS: usize = 16_384;

impl Usage {
    /// Takes in what this sidecar has used since it began.
    pub fn note(&mut self, witness: &Witness, now: Instant) {
        let Witness { of, limits, used: total, spent, .. } = *witness;
        let own = self.by.entry(of).or_insert_with(|| Own::new(limits, total, now));
        (own.limits, own.spent) = (limits, spent);
        let fresh = Used {
            requests: total.requests.saturating_sub(own.total.requests),
            tokens: total.tokens.saturating_sub(own.total.tokens),
        };
        own.total = total;
        own.seconds.add(fresh, now);
    }

    /// Forgets limits that are not kept any more.
    pub fn keep(&mut self, is_kept: impl Fn(Fingerprint) -> bool) {
        self.by.retain(|of, _| is_kept(*of));
    }

    /// The limits of which a report is due, in a fleet of so many.
    pub fn due(&self, members: usize, now: Instant) -> Vec<Fingerprint> {
        let is_due = |(_, own): &(&Fingerprint, &Own)| own.is_due(members, now);
        let mut due: Vec<_> = self.by.iter().filter(is_due).map(|(of, _)| *of).collect();
        due.sort_unstable();
        due
    }

    /// All limits.
    pub fn all(&self) -> Vec<Fingerprint> {
        self.by.keys().copied().collect()
    }

    /// What to report of one. It counts as reported.
    pub fn report(&mut self, of: Fingerprint, now: Instant) -> Option<Report> {
        let own = self.by.get_mut(&of)?;
        own.told = Some((own.total, now));
        own.seconds.turn(now);
        let (minute, growth) = (own.seconds.minute(), own.seconds.growth());
        Some(Report { of, total: own.total, minute, growth, spent: own.spent })
    }

    /// Takes in what the owner of this rank answers.
    pub fn hear(&mut self, answer: Answer, rank: usize, now: Instant) {
        let Some(own) = self.by.get_mut(&answer.of) else { return };
        if let Some(place) = own.answers.get_mut(rank) {
            *place = Some((answer, now));
            // An owner that has just become one has not heard of those that are gone.
            own.spent_by_others = own.spent_by_others.max(answer.spent);
        }
    }

    /// What the others have used, as the owner says who knows of most; `None` without one.
    pub fn others(&self, of: Fingerprint) -> Option<Others> {
        let own = self.by.get(&of)?;
        let answers = own.answers.iter().flatten();
        let newest = answers.clone().map(|(_, at)| *at).max()?;
        let fresh = answers.filter(|(_, at)| newest.saturating_duration_since(*at) <= GROWS);
        let (answer, as_of) = fresh.max_by_key(|(answer, _)| answer.others.requests)?;
        Some(Others {
            used: answer.others,
            requests_per_second: answer.growth.requests,
            tokens_per_second: answer.growth.tokens,
            as_of: *as_of,
            sharers: answer.sharers,
            spent: own.spent_by_others,
        })
    }

    /// When the next report may be due.
    pub fn next(&self) -> Option<Instant> {
        self.by
            .values()
            .map(|own| own.told.map_or(own.seconds.newest, |(_, at)| at + AT_LEAST))
            .min()
    }
}

impl Own {
    fn new(limits: Limits, total: Used, now: Instant) -> Self {
        let seconds = Seconds { used: [Used::default(); 60], newest: now, at: 0 };
        let (spent, spent_by_others) = (PicoUsd::ZERO, PicoUsd::ZERO);
        let (told, answers) = (None, [None; OWNERS]);
        Self { limits, total, spent, spent_by_others, seconds, told, answers }
    }

    fn is_due(&self, members: usize, now: Instant) -> bool {
        let Some((told, at)) = self.told else { return true };
        let age = now.saturating_duration_since(at);
        let parts = PARTS * (members as u64).max(1);
        let is_much = |limit: Option<u64>, total: u64, told: u64| {
            limit.is_some_and(|limit| total > told && total - told > limit / parts)
        };
        age >= AT_LEAST
            || age >= AT_MOST
                && (is_much(self.limits.requests, self.total.requests, told.requests)
                    || is_much(self.limits.tokens, self.total.tokens, told.tokens))
    }
}

impl Seconds {
    fn add(&mut self, used: Used, now: Instant) {
        self.turn(now);
        if let Some(place) = self.used.get_mut(self.at) {
            place.requests += used.requests;
            place.tokens += used.tokens;
        }
    }

    /// Begins new seconds until this is `now`.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.newest).as_secs();
        for _ in 0..passed.min(60) {
            self.at = (self.at + 1) % 60;
            if let Some(place) = self.used.get_mut(self.at) {
                *place = Used::default();
            }
        }
        self.newest += Duration::from_secs(passed);
    }

    fn minute(&self) -> Used {
        self.used.iter().fold(Used::default(), added)
    }

    /// What comes in less what is about to leave the minute.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn growth(&self) -> Growth {
        let from = |first: usize| {
            let ends = (first..first + ENDS).filter_map(|at| self.used.get((self.at + at) % 60));
            ends.fold(Used::default(), added)
        };
        let (oldest, newest) = (from(1), from(61 - ENDS));
        let per_second =
            |newest: u64, oldest: u64| (newest.saturating_sub(oldest)) as f64 / ENDS as f64;
        Growth {
            requests: per_second(newest.requests, oldest.requests),
            tokens: per_second(newest.tokens, oldest.tokens),
        }
    }
}

fn added(sum: Used, more: &Used) -> Used {
    Used {
        requests: sum.requests.saturating_add(more.requests),
        tokens: sum.tokens.saturating_add(more.tokens),
    }
}

impl Accounts {
    /// Takes in a report; of one reporter the one that tells of more counts, or the later of two
    /// that tell the same.
    pub fn hear(&mut self, by: Boot, report: Report, now: Instant) {
        if !self.by.contains_key(&report.of) && self.by.len() >= MOST {
            return;
        }
        let all = self.by.entry(report.of).or_default();
        if !all.contains_key(&by) && all.len() >= MOST_REPORTERS {
            return;
        }
        let is_old = all.get(&by).is_some_and(|(known, _)| {
            (report.total.requests, report.total.tokens, report.spent)
                < (known.total.requests, known.total.tokens, known.spent)
        });
        if !is_old {
            all.insert(by, (report, now));
        }
    }

    /// What `asker` is told.
    pub fn answer(&self, of: Fingerprint, asker: Boot, now: Instant) -> Answer {
        let all = self.by.get(&of).into_iter().flatten();
        let spent = all.clone().filter(|(boot, _)| **boot != asker);
        let spent = spent.map(|(_, (report, _))| report.spent).sum();
        let all = all.filter(|(_, (_, at))| now.saturating_duration_since(*at) < MINUTE);
        let sharers = u32::try_from(all.clone().count()).unwrap_or(u32::MAX);
        let (mut requests, mut tokens, mut growth) = (0.0, 0.0, Growth::default());
        for (_, (report, at)) in all.filter(|(boot, _)| **boot != asker) {
            let age = now.saturating_duration_since(*at);
            requests += report.requests(age);
            tokens += report.tokens(age);
            if age < GROWS {
                growth.requests += report.growth.requests;
                growth.tokens += report.growth.tokens;
            }
        }
        let others = Used { requests: whole(requests.round()), tokens: whole(tokens.round()) };
        Answer { of, others, growth, sharers, spent }
    }

    /// Forgets those who were not heard for a day; until then their money counts.
    pub fn forget(&mut self, now: Instant) {
        self.by.retain(|_, all| {
            all.retain(|_, (_, at)| now.saturating_duration_since(*at) < DAY);
            !all.is_empty()
        });
    }
}

impl Report {
    fn requests(&self, age: Duration) -> f64 {
        since(float(self.minute.requests), self.growth.requests, age)
    }

    fn tokens(&self, age: Duration) -> f64 {
        since(float(self.minute.tokens), self.growth.tokens, age)
    }
}

/// What was used in a minute, so long after it was told: it grows for some seconds, and then
/// fades as the minute passes.
fn since(used: f64, growth: f64, age: Duration) -> f64 {
    let grown = used + growth * age.min(GROWS).as_secs_f64();
    let silent = age.saturating_sub(GROWS).as_secs_f64() / FADES.as_secs_f64();
    grown * (1.0 - silent).max(0.0)
}

/// Who owns a limit, by rank: those of all members whose lots for it are the highest.
pub fn owners(of: Fingerprint, members: impl Iterator<Item = Boot>) -> [Option<Boot>; OWNERS] {
    let mut ranks = [None; OWNERS];
    for boot in members {
        let mut own = Some((hash(&[&of.0, &boot.0]), boot));
        for rank in &mut ranks {
            if own > *rank {
                std::mem::swap(&mut own, rank);
            }
        }
    }
    ranks.map(|rank| rank.map(|(_, boot)| boot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::time;

    const OF: Fingerprint = Fingerprint([1; 8]);
    const LIMITS: Limits = Limits { requests: Some(600), tokens: None };

    fn used(requests: u64) -> Used {
        Used { requests, tokens: requests * 100 }
    }

    fn report(total: u64, minute: u64, growth: f64) -> Report {
        let growth = Growth { requests: growth, tokens: 0.0 };
        let spent = PicoUsd(total);
        Report { of: OF, total: used(total), minute: used(minute), growth, spent }
    }

    fn note(usage: &mut Usage, requests: u64, now: Instant) {
        let witness = Witness {
            used: used(requests),
            spent: PicoUsd(requests),
            limits: LIMITS,
            has_budget: true,
            ..Witness::nothing(OF)
        };
        usage.note(&witness, now);
    }

    #[test]
    fn a_report_tells_the_minute_and_how_it_grows() {
        let (mut usage, mut now) = (Usage::default(), time::now());
        note(&mut usage, 1_000, now);
        assert_eq!(usage.report(OF, now).unwrap().minute, used(0), "it counts from now on");
        for second in 1..=30 {
            now += Duration::from_secs(1);
            note(&mut usage, 1_000 + 2 * second, now);
        }
        let grows = usage.report(OF, now).unwrap();
        assert_eq!((grows.minute.requests, grows.total.requests), (60, 1_060));
        assert!((grows.growth.requests - 2.0).abs() < 1e-9);
        for second in 31..=90 {
            now += Duration::from_secs(1);
            note(&mut usage, 1_000 + 2 * second, now);
        }
        let steady = usage.report(OF, now).unwrap();
        assert_eq!(steady.minute.requests, 120);
        assert!(steady.growth.requests.abs() < 1e-9, "as much leaves the minute as comes");
        let idle = usage.report(OF, now + MINUTE).unwrap();
        assert_eq!(idle.minute.requests, 0);
    }

    #[test]
    fn a_report_is_due_when_much_was_used_and_every_few_seconds() {
        let (mut usage, now) = (Usage::default(), time::now());
        note(&mut usage, 0, now);
        assert_eq!(usage.due(10, now), [OF]);
        usage.report(OF, now);
        assert!(usage.due(10, now).is_empty());
        let soon = now + AT_MOST;
        note(&mut usage, 3, soon);
        assert!(usage.due(10, soon).is_empty(), "three of six hundred among ten");
        note(&mut usage, 4, soon);
        assert_eq!(usage.due(10, soon), [OF]);
        assert!(usage.due(10, now).is_empty(), "not twice at once");
        assert_eq!(usage.due(1, now + AT_LEAST), [OF]);
    }

    #[test]
    fn an_owner_adds_up_the_others() {
        let (mut accounts, now) = (Accounts::default(), time::now());
        let boots = [1, 2, 3].map(|name| Boot([name; 12]));
        for (boot, minute) in boots.iter().zip([10, 20, 40]) {
            accounts.hear(*boot, report(minute, minute, 0.5), now);
            accounts.hear(*boot, report(minute - 1, 999, 0.5), now);
        }
        let told = accounts.answer(OF, boots[0], now);
        assert_eq!((told.others.requests, told.sharers), (60, 3));
        assert_eq!(told.spent, PicoUsd(60));
        assert!((told.growth.requests - 1.0).abs() < 1e-9);
        let stranger = accounts.answer(OF, Boot([9; 12]), now + Duration::from_secs(4));
        assert_eq!(stranger.others.requests, 70 + 6);
        let faded = accounts.answer(OF, boots[0], now + Duration::from_secs(35));
        assert_eq!(faded.others.requests, 35, "half of seventy");
        let gone = now + MINUTE;
        accounts.forget(gone);
        let told = accounts.answer(OF, boots[0], gone);
        assert_eq!((told.sharers, told.others, told.spent), (0, used(0), PicoUsd(60)));
        accounts.forget(now + DAY);
        assert_eq!(accounts.answer(OF, boots[0], gone).spent, PicoUsd::ZERO);
    }

    #[test]
    fn the_owner_who_knows_most_is_believed() {
        let (mut usage, now) = (Usage::default(), time::now());
        note(&mut usage, 0, now);
        assert_eq!(usage.others(OF), None);
        let answer = |requests, sharers| Answer {
            of: OF,
            others: used(requests),
            growth: Growth::default(),
            sharers,
            spent: PicoUsd(requests),
        };
        usage.hear(answer(50, 2), 0, now);
        usage.hear(answer(80, 3), 1, now);
        assert_eq!(usage.others(OF).map(|others| others.sharers), Some(3));
        let later = now + GROWS + Duration::from_secs(1);
        usage.hear(answer(10, 2), 0, later);
        let others = usage.others(OF).unwrap();
        assert_eq!((others.used, others.spent), (used(10), PicoUsd(80)), "money never falls");
        usage.hear(answer(10, 2), OWNERS, later);
    }

    #[test]
    fn owners_are_the_same_for_all_and_change_little() {
        let all: Vec<_> = (0..50u8).map(|name| Boot([name; 12])).collect();
        let first = owners(OF, all.iter().copied());
        assert_eq!(first, owners(OF, all.iter().rev().copied()));
        let [Some(one), Some(other)] = first else { panic!("{first:?}") };
        assert_ne!(one, other);
        let left = all.iter().copied().filter(|boot| *boot != one);
        assert_eq!(owners(OF, left)[0], Some(other), "the next takes over");
        assert_eq!(owners(OF, all.into_iter().take(1)), [Some(Boot([0; 12])), None]);
    }
}
