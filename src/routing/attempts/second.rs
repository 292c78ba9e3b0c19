//! The second try beside a late one: when a try is late, and who would be asked.

use std::time::{Duration, Instant};

use super::{Action, Attempts, Hedge, Hedged, Late, Role, Start};
use crate::routing::hedge::{Across, After, Forgone, Mode};
use crate::routing::latency::Bounds;
use crate::routing::strategy::Scene;
use crate::routing::table::Member;
use crate::routing::view::View;

impl<'a> Attempts<'a> {
    /// Tells whether the late try that was reported may be hedged.
    pub fn permit(&mut self, permit: Result<(), Forgone>) {
        let Hedge::Asked(second) = self.hedge else { return };
        match permit {
            Ok(()) => self.hedge = Hedge::Granted(second),
            Err(why) => self.forgo(why),
        }
    }

    /// What became of the hedge.
    pub fn hedged(&self) -> Hedged {
        self.hedged
    }

    /// Waits for what runs, until it is late.
    pub(super) fn while_running(
        &mut self,
        now: Instant,
        entropy: u64,
        view: &impl View,
    ) -> Action<'a> {
        match self.hedge {
            Hedge::Due(at) if at > now => Action::Wait(Some(at)),
            Hedge::Due(_) => match self.second(now, entropy, view) {
                Err(why) => {
                    self.forgo(why);
                    Action::Wait(None)
                }
                Ok((first, second)) => {
                    self.hedge = Hedge::Asked(second);
                    Action::Late(Late { group: self.hop.group, first, second })
                }
            },
            Hedge::Granted(second) => {
                self.copies += 1;
                self.hedged = Hedged::Made;
                Action::Launch(self.launch(second, Role::Hedge, now, view))
            }
            Hedge::Asked(_) | Hedge::None => Action::Wait(None),
        }
    }

    pub(super) fn forgo(&mut self, why: Forgone) {
        self.hedge = Hedge::None;
        if self.hedged == Hedged::No {
            self.hedged = Hedged::Forgone(why);
        }
    }

    /// The try that is late, and who of the same order would be asked beside it.
    pub(super) fn second(
        &self,
        now: Instant,
        entropy: u64,
        view: &impl View,
    ) -> Result<(&'a Member, &'a Member), Forgone> {
        let late = self.running.last().ok_or(Forgone::NoCandidate)?;
        let settings = &self.hop.group.hedge;
        let shares = |other: &&Member| {
            self.running.iter().any(|running| shares(settings.across, running.member, other))
        };
        let mut excluded = self.hop.excluded.clone();
        excluded.extend_from_slice(&self.hop.avoided);
        excluded.extend(self.hop.group.members.iter().filter(shares).map(|it| it.deployment));
        let scene = Scene { view, shape: self.ask.shape, now, entropy };
        let second = self
            .pick_without(&excluded, &scene)
            .map_err(|_| Forgone::NoCandidate)
            .and_then(|second| {
                let in_time = self.has_time_for(second, now, view);
                if in_time { Ok(second) } else { Err(Forgone::Unlikely) }
            })?;
        let (kind, length) = (self.ask.shape.kind(), self.ask.shape.length);
        let forecast = |member: &Member| view.forecast(member.deployment, kind);
        if let After::Percentile(_) = settings.after
            && let (Some(own), Some(others)) = (forecast(late.member), forecast(second))
        {
            let rest = own.rest(length, now.saturating_duration_since(late.since));
            if rest < others.expected(length).mul_f64(WORTH_WHILE) {
                return Err(Forgone::Unlikely);
            }
        }
        Ok((late.member, second))
    }

    /// When a try that starts now is late.
    pub(super) fn due(&self, start: &Start<'_, '_, impl View>, timeout: Duration) -> Hedge<'a> {
        let group = self.hop.group;
        let settings = &group.hedge;
        let off = self.ask.hedge.unwrap_or(settings.mode) == Mode::Disabled;
        if off
            || self.copies >= settings.max_copies
            || self.hop.only.is_some()
            || group.members.len() < 2
        {
            return Hedge::None;
        }
        match settings.after {
            After::Delay(delay) => Hedge::Due(start.now + delay),
            After::Percentile(part) => start
                .forecast()
                .filter(|forecast| forecast.samples() >= f64::from(settings.min_samples))
                .map_or(Hedge::None, |forecast| {
                    let (length, bounds) = (self.ask.shape.length, Bounds::up_to(timeout / 2));
                    Hedge::Due(start.now + forecast.threshold(length, part, bounds))
                }),
        }
    }
}

/// Whether two deployments must not be asked together.
fn shares(across: Across, one: &Member, other: &Member) -> bool {
    let same_provider = one.domain.provider == other.domain.provider;
    one.deployment == other.deployment
        || match across {
            Across::Deployment => false,
            Across::Provider => same_provider,
            Across::Region => same_provider && one.domain.region == other.domain.region,
        }
}

/// A hedge is made only if the first try is expected to take this much longer than the second:
/// the gate on the mean residual life of §1.3 of the routing study.
const WORTH_WHILE: f64 = 1.2;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::lexicon::{Class, DeploymentIx, Failure, GroupIx, time};
    use crate::routing::Shape;
    use crate::routing::attempts::{Ask, Outcome, TryId, Verdict};
    use crate::routing::hedge::Settings as HedgeSettings;
    use crate::routing::latency::{Forecast, Model, Prior, Sample, Seen};
    use crate::routing::table::{RouteTable, Settings};
    use crate::routing::view::{Kind, Vitals};

    /// What the deployments have taught: the usual wait of each, in milliseconds. One of 33 takes
    /// six times as long.
    #[derive(Default)]
    struct Taught(Vec<(u16, Arc<Forecast>)>);

    impl Taught {
        fn with(mut self, of: u16, milliseconds: u64) -> Self {
            let (start, prior) = (time::now(), Prior::default());
            let mut model = Model::new(start);
            let mut now = start;
            for step in 0..200 {
                now += Duration::from_millis(500);
                let times = if step % 33 == 0 { 6 } else { 1 };
                let waited = Duration::from_millis(times * milliseconds * (90 + step % 21) / 100);
                let sample = Sample { prompt_tokens: 1_000, waited, seen: Seen::Answered };
                model.learn(&sample, &prior, now);
            }
            self.0.push((of, Arc::new(model.forecast(&prior, now))));
            self
        }
    }

    impl View for Taught {
        fn vitals(&self, _: DeploymentIx) -> Vitals {
            Vitals::default()
        }

        fn forecast(&self, of: DeploymentIx, _: Kind) -> Option<Arc<Forecast>> {
            self.0.iter().find(|(at, _)| *at == of.0).map(|(_, forecast)| forecast.clone())
        }
    }

    /// What a deployment does with its n-th call: after so many milliseconds this outcome.
    type Plays<'p> = &'p dyn Fn(u16, u32) -> (u64, Outcome);

    #[derive(Debug, Default, PartialEq)]
    struct Story {
        /// Who was asked when, in milliseconds, and whether as a hedge.
        asked: Vec<(u64, u16, bool)>,
        /// Who answered when.
        won: Option<(u64, u16)>,
        verdict: Option<Verdict>,
        hedged: Hedged,
    }

    /// Runs a request in virtual time.
    fn run(table: &RouteTable, ask: Ask<'_>, view: &impl View, plays: Plays<'_>) -> Story {
        run_permitted(table, ask, view, plays, Ok(()))
    }

    fn run_permitted(
        table: &RouteTable,
        ask: Ask<'_>,
        view: &impl View,
        plays: Plays<'_>,
        permit: Result<(), Forgone>,
    ) -> Story {
        let mut attempts = Attempts::new(table, ask).unwrap();
        let start = time::now();
        let (mut now, mut story) = (start, Story::default());
        let mut running: Vec<(Instant, TryId, u16, Outcome)> = Vec::new();
        let passed = |now: Instant| u64::try_from((now - start).as_millis()).unwrap();
        for _ in 0..500 {
            match attempts.poll(now, 0, view) {
                Action::Fail(verdict) => {
                    story.verdict = Some(verdict);
                    break;
                }
                Action::Late(late) => {
                    assert_ne!(late.first.deployment, late.second.deployment);
                    attempts.permit(permit);
                }
                Action::Queue(_) => unreachable!("nobody has a limit"),
                Action::Launch(launch) => {
                    let at = launch.member.deployment.0;
                    assert!(running.iter().all(|(_, _, other, _)| *other != at), "{at} twice");
                    story.asked.push((passed(now), at, launch.role == Role::Hedge));
                    let (mut after, mut outcome) = plays(at, launch.id.0);
                    let limit = u64::try_from(launch.patience.answer.as_millis()).unwrap();
                    if after > limit {
                        (after, outcome) = (limit, fails(Class::Timeout, 408));
                    }
                    running.push((now + Duration::from_millis(after), launch.id, at, outcome));
                }
                Action::Wait(until) => {
                    running.sort_by_key(|(ends, ..)| *ends);
                    let next = running.first().map(|(ends, ..)| *ends);
                    now = next.into_iter().chain(until).min().expect("something to wait for");
                    if next != Some(now) {
                        continue;
                    }
                    let (_, id, at, outcome) = running.remove(0);
                    attempts.on(id, outcome, now, 0, view);
                    if outcome == Outcome::Committed {
                        story.won = Some((passed(now), at));
                        break;
                    }
                }
            }
        }
        assert!(story.won.is_some() || story.verdict.is_some(), "it never settled: {story:?}");
        story.hedged = attempts.hedged();
        story
    }

    fn fails(class: Class, status: u16) -> Outcome {
        Outcome::Failed(Failure::new(class, status))
    }

    fn late_after(milliseconds: u64) -> HedgeSettings {
        let after = After::Delay(Duration::from_millis(milliseconds));
        HedgeSettings { mode: Mode::Enabled, after, ..HedgeSettings::default() }
    }

    /// A group of `count` of which the even ones are of one provider.
    fn group(count: u16, hedge: HedgeSettings) -> RouteTable {
        let entry = |at: u16| {
            let mut member = Member::new(DeploymentIx(at));
            member.domain.provider = ["openai", "azure"][usize::from(at % 2)].into();
            member.domain.region = format!("r{at}").into();
            ("g".into(), format!("id{at}").into(), member)
        };
        let settings = Settings { hedge, ..Settings::default() };
        RouteTable::build((0..count).map(entry).collect(), settings)
    }

    fn whole_story(table: &RouteTable, view: &impl View, plays: Plays<'_>) -> Story {
        let target = table.resolve("g").unwrap();
        run(table, Ask::new(&target, shape()), view, plays)
    }

    fn shape() -> Shape {
        Shape { stream: true, length: 1_000, ..Shape::default() }
    }

    const GOOD: Outcome = Outcome::Committed;

    #[test]
    fn a_late_try_gets_a_second_one_elsewhere_and_the_first_answer_wins() {
        let table = group(2, late_after(300));
        let slow_first = |at, _| if at == 0 { (5_000, GOOD) } else { (200, GOOD) };
        let story = whole_story(&table, &Taught::default(), &slow_first);
        assert_eq!(story.asked, [(0, 0, false), (300, 1, true)]);
        assert_eq!((story.won, story.hedged), (Some((500, 1)), Hedged::Made));
        let slow_second = |at, _| if at == 0 { (400, GOOD) } else { (200, GOOD) };
        assert_eq!(whole_story(&table, &Taught::default(), &slow_second).won, Some((400, 0)));
    }

    #[test]
    fn one_in_time_is_not_hedged() {
        let table = group(2, late_after(300));
        let story = whole_story(&table, &Taught::default(), &|_, _| (299, GOOD));
        assert_eq!((story.asked.len(), story.hedged), (1, Hedged::No));
    }

    #[test]
    fn without_a_permit_there_is_none_and_the_reason_stays() {
        let table = group(2, late_after(300));
        let target = table.resolve("g").unwrap();
        let ask = Ask::new(&target, shape());
        let denied = Err(Forgone::Budget);
        let story = run_permitted(&table, ask, &Taught::default(), &|_, _| (900, GOOD), denied);
        assert_eq!(story.asked.len(), 1);
        assert_eq!(story.hedged, Hedged::Forgone(Forgone::Budget));
    }

    #[test]
    fn an_error_never_wins_while_the_other_lives() {
        let table = group(2, late_after(300));
        let broken = |at, _| if at == 0 { (800, GOOD) } else { (100, fails(Class::Timeout, 408)) };
        let story = whole_story(&table, &Taught::default(), &broken);
        assert_eq!((story.asked.len(), story.won), (2, Some((800, 0))));
        let reverse =
            |at, _| if at == 0 { (400, fails(Class::InternalServer, 500)) } else { (900, GOOD) };
        let story = whole_story(&table, &Taught::default(), &reverse);
        assert_eq!((story.asked.len(), story.won), (2, Some((1_200, 1))));
    }

    #[test]
    fn a_chosen_try_goes_on_alone_and_may_still_fail() {
        let table = group(2, late_after(300));
        let target = table.resolve("g").unwrap();
        let mut attempts = Attempts::new(&table, Ask::new(&target, shape())).unwrap();
        let (view, now) = (Taught::default(), time::now());
        let Action::Launch(first) = attempts.poll(now, 0, &view) else { panic!("no try") };
        let late = now + Duration::from_millis(300);
        assert!(matches!(attempts.poll(late, 0, &view), Action::Late(_)));
        attempts.permit(Ok(()));
        let Action::Launch(hedge) = attempts.poll(late, 0, &view) else { panic!("no hedge") };
        attempts.choose(hedge.id);
        let much_later = late + Duration::from_secs(9);
        assert!(matches!(attempts.poll(much_later, 0, &view), Action::Wait(None)));
        attempts.on(hedge.id, fails(Class::Connection, 502), much_later, 0, &view);
        let Action::Launch(retry) = attempts.poll(much_later, 0, &view) else { panic!("no retry") };
        assert_eq!((retry.role, retry.retries, retry.member), (Role::Lead, 1, first.member));
    }

    #[test]
    fn the_time_of_a_carried_call_is_that_of_a_whole_answer() {
        let settings = Settings {
            timeout: Duration::from_secs(90),
            stream_timeout: Some(Duration::from_secs(5)),
            ..Settings::default()
        };
        let entry = ("g".into(), "id".into(), Member::new(DeploymentIx(0)));
        let table = RouteTable::build(vec![entry], settings);
        let target = table.resolve("g").unwrap();
        for (is_carried, seconds) in [(false, 5), (true, 90)] {
            let ask = Ask { is_carried, ..Ask::new(&target, shape()) };
            let mut attempts = Attempts::new(&table, ask).unwrap();
            let action = attempts.poll(time::now(), 0, &Taught::default());
            let Action::Launch(launch) = action else { panic!("no try") };
            assert_eq!(launch.patience.answer.as_secs(), seconds);
        }
    }

    #[test]
    fn a_hedge_takes_no_retry_away() {
        let table = group(3, late_after(100));
        let story = whole_story(&table, &Taught::default(), &|_, _| {
            (200, fails(Class::InternalServer, 500))
        });
        let hedges = story.asked.iter().filter(|(.., hedge)| *hedge).count();
        let leads = story.asked.len() - hedges;
        // Two retries, as configured, beside one hedge.
        assert_eq!((leads, hedges), (3, 1), "{story:?}");
    }

    #[test]
    fn a_failure_before_the_delay_is_a_retry_and_not_a_hedge() {
        let table = group(2, late_after(300));
        let story = whole_story(&table, &Taught::default(), &|at, _| {
            if at == 0 { (50, fails(Class::InternalServer, 500)) } else { (60, GOOD) }
        });
        assert_eq!(story.asked, [(0, 0, false), (50, 1, false)]);
        assert_eq!(story.hedged, Hedged::No);
    }

    #[test]
    fn who_shares_too_much_is_not_asked() {
        let slow = |at, _| if at == 0 { (5_000, GOOD) } else { (100, GOOD) };
        for (across, want) in
            [(Across::Deployment, Some(1)), (Across::Provider, Some(1)), (Across::Region, Some(1))]
        {
            let table = group(4, HedgeSettings { across, ..late_after(300) });
            let story = whole_story(&table, &Taught::default(), &slow);
            assert_eq!(story.won.map(|(_, at)| at), want, "{across:?}");
        }
        let same = |at: u16, set: &dyn Fn(&mut Member)| {
            let mut member = Member::new(DeploymentIx(at));
            member.domain.provider = "openai".into();
            set(&mut member);
            ("g".into(), format!("id{at}").into(), member)
        };
        let of = |across, set: &dyn Fn(&mut Member)| {
            let hedge = HedgeSettings { across, ..late_after(300) };
            let settings = Settings { hedge, ..Settings::default() };
            let table = RouteTable::build(vec![same(0, &|_| ()), same(1, set)], settings);
            whole_story(&table, &Taught::default(), &slow).hedged
        };
        let none = Hedged::Forgone(Forgone::NoCandidate);
        assert_eq!(of(Across::Provider, &|_| ()), none);
        assert_eq!(of(Across::Region, &|_| ()), none);
        assert_eq!(of(Across::Region, &|it| it.domain.region = "eu".into()), Hedged::Made);
        assert_eq!(of(Across::Deployment, &|_| ()), Hedged::Made);
    }

    #[test]
    fn nothing_is_late_before_enough_was_learned() {
        let percentile = HedgeSettings { mode: Mode::Enabled, ..HedgeSettings::default() };
        let table = group(2, percentile);
        let slow = |at, _| if at == 0 { (60_000, GOOD) } else { (100, GOOD) };
        assert_eq!(whole_story(&table, &Taught::default(), &slow).hedged, Hedged::No);
        let taught = Taught::default().with(0, 800).with(1, 800);
        let story = whole_story(&table, &taught, &slow);
        assert_eq!(story.hedged, Hedged::Made);
        let (late, ..) = story.asked[1];
        assert!((800..1_000).contains(&late), "{late} ms is not the 95th percentile");
    }

    #[test]
    fn no_hedge_where_the_first_would_probably_still_be_first() {
        let percentile = HedgeSettings { mode: Mode::Enabled, ..HedgeSettings::default() };
        let table = group(2, percentile);
        let slow = |at, _| if at == 0 { (60_000, GOOD) } else { (100, GOOD) };
        let taught = Taught::default().with(0, 500).with(1, 9_000);
        let story = whole_story(&table, &taught, &slow);
        assert_eq!(story.hedged, Hedged::Forgone(Forgone::Unlikely));
    }

    #[test]
    fn disabled_is_never_late_and_a_request_may_say_so() {
        let slow = |_, _| (5_000, GOOD);
        let off = HedgeSettings { mode: Mode::Disabled, ..late_after(300) };
        assert_eq!(whole_story(&group(2, off), &Taught::default(), &slow).hedged, Hedged::No);
        let table = group(2, late_after(300));
        let target = table.resolve("g").unwrap();
        let ask = Ask { hedge: Some(Mode::Disabled), ..Ask::new(&target, shape()) };
        assert_eq!(run(&table, ask, &Taught::default(), &slow).hedged, Hedged::No);
    }

    #[test]
    fn the_deadline_ends_all_tries() {
        let table = group(2, late_after(300));
        let target = table.resolve("g").unwrap();
        let ask = || Ask {
            deadline: Some(time::now() + Duration::from_secs(1)),
            ..Ask::new(&target, shape())
        };
        let story = run(&table, ask(), &Taught::default(), &|_, _| (9_000, GOOD));
        assert!(story.won.is_none() && story.asked.len() == 2, "{story:?}");
        let broken = |_, _| (700, fails(Class::InternalServer, 500));
        let story = run(&table, ask(), &Taught::default().with(0, 900).with(1, 900), &broken);
        // Nobody is asked, beside it or after it, who cannot answer in what is left.
        assert_eq!(story.asked.len(), 1, "{story:?}");
        let story = run(&table, ask(), &Taught::default().with(0, 90).with(1, 90), &broken);
        assert_eq!(story.asked.len(), 2, "{story:?}");
    }

    #[test]
    fn two_copies_where_they_are_allowed() {
        let table = group(4, HedgeSettings { max_copies: 2, ..late_after(300) });
        let story = whole_story(&table, &Taught::default(), &|_, _| (5_000, GOOD));
        assert_eq!(story.asked.iter().map(|(at, ..)| *at).collect::<Vec<_>>(), [0, 300, 600]);
    }

    proptest! {
        #[test]
        fn tries_settle_and_nobody_is_asked_twice_at_once(
            count in 1u16..5,
            delay in 1u64..2_000,
            copies in 0u32..3,
            deadline in prop::option::of(1u64..5_000),
            plays in prop::collection::vec((0u64..3_000, 0usize..4), 1..12),
        ) {
            let hedge = HedgeSettings { max_copies: copies, ..late_after(delay) };
            let table = group(count, hedge);
            let target = table.resolve("g").unwrap();
            let ask = Ask {
                deadline: deadline.map(|after| time::now() + Duration::from_millis(after)),
                ..Ask::new(&target, shape())
            };
            let outcomes = [
                GOOD,
                fails(Class::InternalServer, 500),
                fails(Class::RateLimit, 429),
                fails(Class::BadRequest, 400),
            ];
            let story = run(&table, ask, &Taught::default(), &|_, id| {
                let (after, outcome) = plays[id as usize % plays.len()];
                (after, outcomes[outcome])
            });
            let hedges = story.asked.iter().filter(|(.., hedge)| *hedge).count();
            prop_assert!(hedges <= copies as usize);
            prop_assert!(story.asked.len() - hedges <= 3);
            prop_assert_eq!(story.hedged == Hedged::Made, hedges > 0);
            prop_assert_eq!(table.group(GroupIx(0)).unwrap().members.len(), usize::from(count));
        }
    }
}
