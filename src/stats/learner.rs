//! Learns from what tries tell, and publishes what to expect of each deployment.
//!
//! One [`Model`] per deployment and kind of call; requests read only what was published. A round
//! is a function of the lessons, the rows and the moment. Models survive a reload as rows do, and
//! go when nobody holds their row any more. What a deployment has not shown itself is borrowed
//! from what the fleet knows of it, and from the others of its group.

use std::borrow::Cow;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::lesson::{Lesson, What};
use super::taught::{Pace, Taught};
use super::{Row, StatsTable};
use crate::lexicon::time;
use crate::routing::fleet::{FleetView, Known};
use crate::routing::latency::{Forecast, Model, Prior, REFERENCE_TOKENS, Sample};
use crate::routing::{Kind, Outlook};

/// How often lessons are taken up.
const ROUND: Duration = Duration::from_millis(250);
/// Forgetting is time too: what nobody tells about is published anew after so long.
const OUTLOOK_HOLDS: Duration = Duration::from_secs(1);
const FORECAST_HOLDS: Duration = Duration::from_secs(5);
/// The same for what the members of a group have in common.
const GROUP_HOLDS: Duration = Duration::from_secs(5);
/// At most so many forecasts without news, and so many groups, are made anew in one round, so that
/// it takes the thread of the requests no more than a millisecond or two.
const MOST_STALE: usize = 32;
const MOST_GROUPS: usize = 8;
/// Providers count in windows or buckets of a minute.
const REFILL: Duration = Duration::from_secs(60);
/// Who has been there for so long is not new.
const LONG_AGO: Duration = Duration::from_secs(60);

impl StatsTable {
    /// Learns from what tries tell. Runs until it is dropped, and then forgets.
    pub async fn learn(&self) {
        let mut learner = Learner::default();
        let mut ticks = tokio::time::interval(ROUND);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let lessons = self.lessons.waiting().filter(|lesson| !self.hedges.take(lesson));
            let view = self.view.load();
            learner.round(lessons, &self.all(), view.as_deref(), time::now());
        }
    }
}

/// One thing per kind of call.
type ByKind<T> = [T; Kind::COUNT];

/// Everything that was learned.
#[derive(Debug, Default)]
pub(super) struct Learner {
    /// By the address of the row, which is held and so stays its own.
    pupils: HashMap<usize, Pupil>,
    groups: HashMap<Box<str>, Common>,
    /// What is assumed of groups that were not compared yet.
    usual: ByKind<Prior>,
}

/// One deployment.
#[derive(Debug)]
struct Pupil {
    row: Weak<Row>,
    models: ByKind<Option<Box<Model>>>,
    /// The same of all sidecars together, as they say.
    fleet: ByKind<Option<Arc<Model>>>,
    /// What its provider said of its limits, and when.
    quota: Option<(Quota, Instant)>,
    /// Which kinds have news.
    heard: ByKind<bool>,
    /// When its outlook and its forecasts were published last.
    outlook_at: Instant,
    forecasts_at: Instant,
}

/// What is left of a provider's limits, from 0 to 1, and how many tokens it takes.
#[derive(Debug, Clone, Copy)]
struct Quota {
    left: f32,
    tokens: Option<u32>,
}

impl Quota {
    /// What is left after so long: limits refill evenly, within a minute.
    fn left_after(self, elapsed: Duration) -> f32 {
        let refilled = elapsed.as_secs_f32() / REFILL.as_secs_f32();
        (self.left + refilled).min(1.0)
    }
}

/// What the members of a group have in common.
#[derive(Debug)]
struct Common {
    as_of: Instant,
    priors: ByKind<Prior>,
    /// By how much the waits of a kind are stretched, so that those of all kinds compare.
    factors: ByKind<f64>,
}

impl Learner {
    /// Takes in lessons and publishes what they change, and what time does. `rows` are those in
    /// force, `view` what the fleet knows.
    pub(super) fn round(
        &mut self,
        lessons: impl Iterator<Item = Lesson>,
        rows: &[Arc<Row>],
        view: Option<&FleetView>,
        now: Instant,
    ) {
        for row in rows {
            let known = view.and_then(|view| view.deployments.get(&row.fleet.tie()?.of));
            self.pupil(row, now).hear(known, now);
        }
        for lesson in lessons {
            self.take(&lesson, now);
        }
        self.pupils.retain(|_, pupil| pupil.row.strong_count() > 0);
        self.compare(now);
        self.publish(now);
    }

    fn pupil(&mut self, row: &Arc<Row>, now: Instant) -> &mut Pupil {
        self.pupils.entry(address(row)).or_insert_with(|| Pupil::new(row, now))
    }

    fn take(&mut self, lesson: &Lesson, now: Instant) {
        let common = self.groups.get(&**lesson.row.learning.group());
        let priors = common.map_or(&self.usual, |it| &it.priors);
        let Some(prior) = priors.get(lesson.kind.at()) else { return };
        let key = address(&lesson.row);
        let pupil = self.pupils.entry(key).or_insert_with(|| Pupil::new(&lesson.row, now));
        pupil.take(lesson, prior, now);
    }

    /// Compares the members of the groups that were not compared for a while.
    fn compare(&mut self, now: Instant) {
        let mut members: HashMap<Arc<Box<str>>, Vec<&Pupil>> = HashMap::default();
        for pupil in self.pupils.values().filter(|pupil| pupil.knows()) {
            if let Some(row) = pupil.row.upgrade() {
                members.entry(row.learning.group()).or_default().push(pupil);
            }
        }
        self.groups.retain(|name, _| members.contains_key(name));
        let known = &self.groups;
        let is_due = |name: &str| {
            known.get(name).is_none_or(|it| now.saturating_duration_since(it.as_of) >= GROUP_HOLDS)
        };
        let due: Vec<_> =
            members.iter().filter(|(name, _)| is_due(name)).take(MOST_GROUPS).collect();
        let fresh: Vec<_> =
            due.into_iter().map(|(name, all)| ((***name).into(), Common::of(all, now))).collect();
        self.groups.extend(fresh);
    }

    fn publish(&mut self, now: Instant) {
        let mut stale = MOST_STALE;
        for pupil in self.pupils.values_mut() {
            let Some(row) = pupil.row.upgrade() else { continue };
            let news = pupil.heard.contains(&true);
            let aged = now.saturating_duration_since(pupil.forecasts_at) >= FORECAST_HOLDS
                && pupil.knows();
            let all = aged && stale > 0;
            let age = age(&row, now);
            let due = now.saturating_duration_since(pupil.outlook_at) >= OUTLOOK_HOLDS;
            if !(news || all || due || age.is_some()) {
                continue;
            }
            if all {
                stale -= 1;
                pupil.forecasts_at = now;
            }
            let common = self.groups.get(&**row.learning.group());
            let priors = common.map_or(&self.usual, |it| &it.priors);
            let forecasts = pupil.forecasts(row.learning.forecasts(), all, priors, now);
            let outlook = Outlook { age, ..pupil.outlook(common, now) };
            let paces = pupil.paces(now);
            row.learning.publish(Taught { forecasts, paces, outlook });
            pupil.heard = [false; Kind::COUNT];
            pupil.outlook_at = now;
        }
    }
}

impl Pupil {
    fn new(row: &Arc<Row>, now: Instant) -> Self {
        Self {
            row: Arc::downgrade(row),
            models: [const { None }; Kind::COUNT],
            fleet: [const { None }; Kind::COUNT],
            quota: None,
            heard: [false; Kind::COUNT],
            outlook_at: now,
            forecasts_at: now,
        }
    }

    /// Takes in what the fleet says.
    fn hear(&mut self, known: Option<&Known>, now: Instant) {
        let Some(known) = known else { return };
        for ((own, told), heard) in self.fleet.iter_mut().zip(&known.models).zip(&mut self.heard) {
            *heard |= own.is_none() && told.is_some();
            own.clone_from(told);
        }
        let Some(quota) = &known.quota else { return };
        let said = now.checked_sub(quota.age).unwrap_or(now);
        if self.quota.is_none_or(|(_, own)| own < said) {
            self.quota = Some((Quota { left: share(quota.left), tokens: quota.tokens }, said));
        }
    }

    fn knows(&self) -> bool {
        self.models.iter().any(Option::is_some) || self.fleet.iter().any(Option::is_some)
    }

    /// What is known of calls of one kind, seen here and told.
    fn model(&self, at: usize, now: Instant) -> Option<Cow<'_, Model>> {
        let own = self.models.get(at).and_then(Option::as_deref);
        match (own, self.fleet.get(at).and_then(Option::as_deref)) {
            (None, None) => None,
            (None, Some(told)) => Some(Cow::Owned(Model::new(now).advised(told, now))),
            (Some(own), None) => Some(Cow::Borrowed(own)),
            (Some(own), Some(told)) => Some(Cow::Owned(own.advised(told, now))),
        }
    }

    fn take(&mut self, lesson: &Lesson, prior: &Prior, now: Instant) {
        let at = lesson.kind.at();
        let (Some(model), Some(heard)) = (self.models.get_mut(at), self.heard.get_mut(at)) else {
            return;
        };
        *heard = true;
        if let What::Quota { left, tokens } = lesson.what {
            self.quota = Some((Quota { left: share(left), tokens }, now));
            lesson.row.fleet.quota(left, tokens, now);
            return;
        }
        let model = model.get_or_insert_with(|| Box::new(Model::new(now)));
        teach(model, &lesson.what, prior, now);
        lesson.row.fleet.learn(lesson.kind, now, |untold| teach(untold, &lesson.what, prior, now));
    }

    /// The forecasts of the kinds with news, or of all; the others as they were.
    fn forecasts(
        &self,
        mut before: ByKind<Option<Arc<Forecast>>>,
        all: bool,
        priors: &ByKind<Prior>,
        now: Instant,
    ) -> ByKind<Option<Arc<Forecast>>> {
        for (at, place) in before.iter_mut().enumerate() {
            let heard = self.heard.get(at) == Some(&true);
            if let (Some(prior), true) = (priors.get(at), all || heard)
                && let Some(model) = self.model(at, now)
            {
                *place = Some(Arc::new(model.forecast(prior, now)));
            }
        }
        before
    }

    fn paces(&self, now: Instant) -> ByKind<Pace> {
        let of = |at: usize| {
            let model = self.model(at, now)?;
            Some(Pace { per_token: model.time_per_token(), pause: model.longest_pause() })
        };
        std::array::from_fn(|at| of(at).unwrap_or_default())
    }

    fn outlook(&self, common: Option<&Common>, now: Instant) -> Outlook {
        let factor = |at: usize| common.and_then(|it| it.factors.get(at)).copied().unwrap_or(1.0);
        let models = (0..Kind::COUNT).filter_map(|at| Some((self.model(at, now)?, factor(at))));
        let models: Vec<_> = models.collect();
        let each = models.iter().map(|(model, factor)| (&**model, *factor));
        let mut outlook = Model::joint_outlook(each, now);
        if let Some((quota, told)) = self.quota {
            outlook.quota_left = quota.left_after(now.saturating_duration_since(told));
            outlook.capacity = quota.tokens.map(single);
        }
        outlook
    }
}

impl Common {
    /// All waits of a group are told as those of the kind that it serves most: a whole answer
    /// takes many times as long as a first token, and nobody shall look slow for serving more of
    /// these than the others do.
    fn of(members: &[&Pupil], now: Instant) -> Self {
        let usual = Prior::default();
        let mut priors = std::array::from_fn(|_| usual.clone());
        let mut waits: ByKind<Option<(f64, f64)>> = [None; Kind::COUNT];
        for (at, (prior, wait)) in priors.iter_mut().zip(&mut waits).enumerate() {
            let mut models = members.iter().filter_map(|pupil| pupil.model(at, now));
            let Some(first) = models.next() else { continue };
            let mut all = first.into_owned();
            models.for_each(|model| all.merge(&model, now));
            let forecast = all.forecast(&usual, now);
            // Its line alone: residuals remember what was predicted while little was known.
            *wait = Some((forecast.samples(), forecast.line().at(REFERENCE_TOKENS)));
            *prior = all.prior(&usual, now);
        }
        let most = waits.iter().flatten().copied().max_by(|one, other| one.0.total_cmp(&other.0));
        let factor = |wait: Option<(f64, f64)>| match (most, wait) {
            (Some((_, most)), Some((_, own))) if own > 0.0 => most / own,
            (Some(_) | None, Some(_) | None) => 1.0,
        };
        Self { as_of: now, priors, factors: waits.map(factor) }
    }
}

/// Teaches a model what a try has shown.
fn teach(model: &mut Model, what: &What, prior: &Prior, now: Instant) {
    match *what {
        What::Failed { retry_after } => model.fail(retry_after, now),
        What::Primary { .. } | What::Quota { .. } => {}
        What::Pace { tokens, took, pause } => model.learn_pace(tokens, took, pause, now),
        What::Waited { length, waited, seen } => {
            model.learn(&Sample { prompt_tokens: length, waited, seen }, prior, now);
        }
    }
}

/// From thousandths, 1 at most.
fn share(left: u16) -> f32 {
    (f32::from(left) / 1_000.0).min(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "a limit is a round number")]
fn single(tokens: u32) -> f32 {
    tokens as f32
}

fn address(row: &Arc<Row>) -> usize {
    Arc::as_ptr(row).addr()
}

/// Seconds since the deployment was new; `None` is long ago. Who comes back from a cooldown is
/// warmed up where it is picked, by every strategy alike.
fn age(row: &Row, now: Instant) -> Option<f32> {
    let age = now.saturating_duration_since(row.learning.began);
    (age < LONG_AGO).then_some(age.as_secs_f32())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::{DeploymentIx, Fingerprint};
    use crate::routing::View;
    use crate::routing::cooldown::Rule;
    use crate::routing::fleet::Limits;
    use crate::routing::latency::{Bounds, Seen};
    use crate::stats::fleet::Tie;
    use crate::stats::{Named, Rows};

    const STREAM: Kind = Kind { stream: true, effort: crate::routing::Effort::Unset };
    const WHOLE: Kind = Kind { stream: false, ..STREAM };
    const FIRST: DeploymentIx = DeploymentIx(0);
    const SECOND: DeploymentIx = DeploymentIx(1);

    /// A table, its learner and the moment.
    struct School {
        table: StatsTable,
        learner: Learner,
        now: Instant,
    }

    impl School {
        fn new() -> Self {
            let now = time::now();
            Self { table: StatsTable::new(now), learner: Learner::default(), now }
        }

        fn rows(&self, ids: &[&str]) -> Rows {
            let named = ids.iter().map(|id| Named {
                id,
                group: "g",
                provider: "p",
                budget_period: None,
                provider_budget_period: None,
                tie: Some(tie(id)),
            });
            self.table.rows(named, self.now)
        }

        /// What was told is learned, `after` so long.
        fn round(&mut self, after: Duration) {
            self.now += after;
            let view = self.table.view.load_full();
            let lessons = self.table.lessons.waiting();
            self.learner.round(lessons, &self.table.all(), view.as_deref(), self.now);
        }
    }

    /// Tells `count` waits of so many milliseconds.
    fn wait(rows: &Rows, of: DeploymentIx, kind: Kind, count: u32, millis: u64) {
        let waited = Duration::from_millis(millis);
        for _ in 0..count {
            let what = What::Waited { length: 1_000, waited, seen: Seen::Answered };
            rows.get(of).unwrap().tell(kind, what);
        }
    }

    fn expected(rows: &Rows, of: DeploymentIx, kind: Kind) -> f64 {
        rows.forecast(of, kind).unwrap().expected(1_000).as_secs_f64()
    }

    fn tie(id: &str) -> Tie {
        let limits = Limits { requests: Some(100), tokens: None };
        Tie { of: of(id), limits, has_budget: false, rule: Rule::Pillion }
    }

    fn of(id: &str) -> Fingerprint {
        Fingerprint([id.as_bytes()[0]; 8])
    }

    #[track_caller]
    fn check(got: impl Into<f64>, want: f64, part: f64) {
        let got = got.into();
        assert!((got / want - 1.0).abs() < part, "{got} is not {want}");
    }

    #[test]
    fn nothing_is_known_before_the_first_lesson() {
        let mut school = School::new();
        let rows = school.rows(&["a"]);
        school.round(ROUND);
        assert_eq!(rows.forecast(FIRST, STREAM), None);
        assert_eq!(Outlook { age: None, ..rows.outlook(FIRST) }, Outlook::default());
    }

    #[test]
    fn what_tries_waited_is_forecast_by_deployment_and_kind() {
        let mut school = School::new();
        let rows = school.rows(&["a", "b"]);
        wait(&rows, FIRST, STREAM, 100, 400);
        wait(&rows, SECOND, STREAM, 100, 2_000);
        wait(&rows, SECOND, WHOLE, 600, 9_000);
        school.round(ROUND);
        check(expected(&rows, FIRST, STREAM), 0.4, 0.1);
        check(expected(&rows, SECOND, STREAM), 2.0, 0.1);
        check(expected(&rows, SECOND, WHOLE), 9.0, 0.1);
        assert_eq!(rows.forecast(FIRST, WHOLE), None);
        check(rows.forecast(FIRST, STREAM).unwrap().samples(), 100.0, 0.01);
    }

    #[test]
    fn the_pace_of_streams_is_told_by_kind() {
        let mut school = School::new();
        let rows = school.rows(&["a"]);
        let row = rows.get(FIRST).unwrap();
        row.tell(
            STREAM,
            What::Pace { tokens: 100, took: Duration::from_secs(1), pause: Duration::ZERO },
        );
        row.tell(
            STREAM,
            What::Pace { tokens: 300, took: Duration::from_secs(5), pause: Duration::ZERO },
        );
        school.round(ROUND);
        assert_eq!(row.pace(STREAM), Some(Duration::from_millis(15)));
        assert_eq!(row.pace(WHOLE), None);
    }

    #[test]
    fn tries_cut_short_raise_the_threshold() {
        let threshold = |cut: usize| {
            let mut school = School::new();
            let rows = school.rows(&["a"]);
            wait(&rows, FIRST, STREAM, 270, 400);
            let waited = Duration::from_millis(900);
            for _ in 0..cut {
                let what = What::Waited { length: 1_000, waited, seen: Seen::Censored };
                rows.get(FIRST).unwrap().tell(STREAM, what);
            }
            school.round(ROUND);
            let bounds = Bounds::up_to(Duration::from_secs(60));
            rows.forecast(FIRST, STREAM).unwrap().threshold(1_000, 0.95, bounds)
        };
        assert!(threshold(30) > threshold(0).mul_f64(1.4), "{:?}", threshold(30));
    }

    #[test]
    fn failures_and_recent_waits_make_the_outlook() {
        let mut school = School::new();
        let rows = school.rows(&["a"]);
        wait(&rows, FIRST, STREAM, 20, 400);
        let retry_after = Some(Duration::from_secs(30));
        rows.get(FIRST).unwrap().tell(STREAM, What::Failed { retry_after });
        school.round(ROUND);
        let outlook = rows.outlook(FIRST);
        check(outlook.latency, 0.4, 0.01);
        check(outlook.samples, 20.0, 0.01);
        check(outlook.failure_cost, 30.0, 0.01);
        assert!(outlook.failure_share > 0.1, "{outlook:?}");
    }

    #[test]
    fn who_serves_more_whole_answers_does_not_look_slow() {
        let mut school = School::new();
        let rows = school.rows(&["a", "b"]);
        wait(&rows, FIRST, STREAM, 300, 500);
        wait(&rows, FIRST, WHOLE, 10, 5_000);
        wait(&rows, SECOND, STREAM, 10, 500);
        wait(&rows, SECOND, WHOLE, 200, 5_000);
        school.round(ROUND);
        let (first, second) = (rows.outlook(FIRST).latency, rows.outlook(SECOND).latency);
        check(first, second.into(), 0.1);
        check(first, 0.5, 0.1);
    }

    #[test]
    fn what_is_left_of_a_limit_refills_within_a_minute() {
        let mut school = School::new();
        let rows = school.rows(&["a"]);
        let tokens = Some(200_000);
        rows.get(FIRST).unwrap().tell(STREAM, What::Quota { left: 50, tokens });
        school.round(ROUND);
        check(rows.outlook(FIRST).quota_left, 0.05, 0.01);
        assert_eq!(rows.outlook(FIRST).capacity, Some(200_000.0));
        assert_eq!(rows.forecast(FIRST, STREAM), None);
        school.round(Duration::from_secs(30));
        check(rows.outlook(FIRST).quota_left, 0.55, 0.01);
        school.round(Duration::from_secs(40));
        check(rows.outlook(FIRST).quota_left, 1.0, 0.001);
    }

    #[test]
    fn time_alone_forgets() {
        let mut school = School::new();
        let rows = school.rows(&["a"]);
        wait(&rows, FIRST, STREAM, 100, 400);
        school.round(ROUND);
        school.round(Duration::from_secs(10));
        check(rows.outlook(FIRST).samples, 100.0 / std::f64::consts::E, 0.01);
        school.round(Duration::from_secs(110));
        check(rows.forecast(FIRST, STREAM).unwrap().samples(), 74.0, 0.1);
    }

    #[test]
    fn models_outlive_a_reload_and_go_with_their_rows() {
        let mut school = School::new();
        let rows = school.rows(&["a", "b"]);
        wait(&rows, FIRST, STREAM, 100, 400);
        school.round(ROUND);
        let reloaded = school.rows(&["c", "a"]);
        check(expected(&reloaded, SECOND, STREAM), 0.4, 0.1);
        drop(rows);
        wait(&reloaded, SECOND, STREAM, 100, 400);
        school.round(ROUND);
        check(reloaded.forecast(SECOND, STREAM).unwrap().samples(), 200.0, 0.01);
        assert_eq!(school.learner.pupils.len(), 2);
        school.rows(&[]);
        drop(reloaded);
        school.round(ROUND);
        assert_eq!(school.learner.pupils.len(), 0);
        assert_eq!(school.learner.groups.len(), 0);
    }

    #[test]
    fn the_group_lends_what_a_deployment_does_not_know_yet() {
        let mut school = School::new();
        let rows = school.rows(&["a", "b"]);
        wait(&rows, FIRST, STREAM, 300, 4_000);
        school.round(ROUND);
        wait(&rows, SECOND, STREAM, 1, 4_000);
        school.round(ROUND);
        check(expected(&rows, SECOND, STREAM), 4.0, 0.1);
    }

    #[test]
    fn what_is_new_is_as_old_as_that() {
        let mut school = School::new();
        let rows = school.rows(&["a"]);
        assert_eq!(rows.outlook(FIRST).age, Some(0.0));
        school.round(Duration::from_secs(10));
        assert_eq!(rows.outlook(FIRST).age, Some(10.0));
        school.round(Duration::from_secs(50));
        assert_eq!(rows.outlook(FIRST).age, None);
    }

    /// What the fleet says of `id`: so many answers of so many milliseconds.
    fn told(id: &str, count: u32, millis: u64, now: Instant) -> FleetView {
        let mut model = Model::new(now);
        let waited = Duration::from_millis(millis);
        let sample = Sample { prompt_tokens: 1_000, waited, seen: Seen::Answered };
        (0..count).for_each(|_| model.learn(&sample, &Prior::default(), now));
        let mut known = Known::default();
        known.models[STREAM.at()] = Some(Arc::new(model));
        FleetView { as_of: Some(now), members: 9, deployments: [(of(id), known)].into() }
    }

    #[test]
    fn what_others_have_seen_is_known_before_the_first_try() {
        let mut school = School::new();
        let rows = school.rows(&["a", "b"]);
        let now = school.now;
        school.table.advise(told("b", 300, 3_000, now).into(), now);
        school.round(ROUND);
        check(expected(&rows, SECOND, STREAM), 3.0, 0.1);
        check(rows.outlook(SECOND).latency, 3.0, 0.01);
        assert_eq!(rows.forecast(FIRST, STREAM), None);
        let forecast = rows.forecast(SECOND, STREAM).unwrap();
        assert!(forecast.samples() >= 100.0, "enough for a hedge: {}", forecast.samples());
    }

    #[test]
    fn what_was_taught_is_told_once_and_only_what_was_seen_here() {
        let mut school = School::new();
        let rows = school.rows(&["a", "b"]);
        let now = school.now;
        school.table.advise(told("b", 300, 3_000, now).into(), now);
        wait(&rows, FIRST, STREAM, 20, 400);
        school.round(ROUND);
        let of_each = |school: &School| {
            let mut all = school.table.witness(school.now);
            all.sort_by_key(|one| one.of);
            all
        };
        let first = of_each(&school);
        assert_eq!(first.iter().map(|one| one.of).collect::<Vec<_>>(), [of("a"), of("b")]);
        let [(kind, model)] = first[0].taught.as_slice() else { panic!("{first:?}") };
        assert_eq!(*kind, STREAM);
        check(model.outlook(school.now).samples, 20.0, 0.01);
        assert!(first[1].taught.is_empty());
        assert!(of_each(&school).iter().all(|one| one.taught.is_empty()));
    }

    #[test]
    fn the_newest_word_of_a_provider_counts_whoever_heard_it() {
        let mut school = School::new();
        let rows = school.rows(&["a"]);
        rows.get(FIRST).unwrap().tell(STREAM, What::Quota { left: 500, tokens: None });
        school.round(ROUND);
        let now = school.now;
        for (age, want) in [(30, 0.5), (0, 0.05)] {
            let mut view = told("a", 0, 1, now);
            let age = Duration::from_secs(age);
            let quota = crate::routing::fleet::Quota { left: 50, tokens: Some(9), age };
            view.deployments.get_mut(&of("a")).unwrap().quota = Some(quota);
            school.table.advise(view.into(), now);
            // Each kind is published when its outlook is due.
            school.round(Duration::from_millis(if age.is_zero() { 1_000 } else { 0 }));
            let left = rows.outlook(FIRST).quota_left;
            assert!((left - want).abs() < 0.03, "{left} is not {want}");
        }
        assert_eq!(school.table.witness(school.now)[0].quota.unwrap().left, 500);
    }
}
