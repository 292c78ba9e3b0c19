//! What each deployment is doing now: a row of atomics per deployment.
//!
//! Rows are keyed by the deployment's id and live outside the snapshot, so that they survive a
//! reload. Reading never writes and nothing here waits; the lines of those who do are kept here.
//! What other sidecars have seen is advice: see [`fleet`].

mod circuit;
pub mod fleet;
pub mod hedges;
mod learner;
pub mod lesson;
mod minute;
mod purse;
pub mod queue;
mod recent;
mod reserve;
mod taught;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::lexicon::count::float;
use crate::lexicon::{DeploymentIx, Failure, PicoUsd, Tokens};
use crate::routing::cooldown::breaker::{self, Ticket};
use crate::routing::cooldown::{Evidence, Rule, judge};
use crate::routing::fleet::{FleetView, Why};
use crate::routing::latency::Forecast;
use crate::routing::strategy::adaptive::FleetLoad;
use crate::routing::strategy::lowest_latency;
use crate::routing::view::{Counted, Demand, Measure, Payer, Samples, Spent, Used};
use crate::routing::{Group, Kind, Member, Outlook, Settings, View, Vitals};
use circuit::Circuit;
pub use circuit::Trial;
use fleet::{DEMAND_WINDOW, Fleet, Tie};
pub use hedges::{Extra, GroupHedges, Hedges, Noted, Worth};
use lesson::Lesson;
pub use lesson::{Fate, Lessons, What};
use minute::{MINUTE, Minute};
use purse::Purse;
pub use queue::{Place, Queue, Seat};
use recent::Recent;
use taught::Learning;

/// The rows of all deployments that there are or were.
#[derive(Debug)]
pub struct StatsTable {
    epoch: Instant,
    known: Mutex<Known>,
    hedges: hedges::Known,
    lessons: Arc<Lessons>,
    /// What the fleet knows, once there is one.
    view: ArcSwapOption<FleetView>,
}

#[derive(Debug, Default)]
struct Known {
    rows: HashMap<Box<str>, Arc<Row>>,
    /// What each provider was paid.
    providers: HashMap<Box<str>, Arc<Purse>>,
    /// Who waits for a seat, by model group.
    queues: HashMap<Box<str>, Arc<Queue>>,
}

/// A deployment as the configuration names it.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Its id.
    pub id: &'a str,
    /// The model group it belongs to: its members teach about each other.
    pub group: &'a str,
    /// The prefix of its provider.
    pub provider: &'a str,
    /// How long a window of its budget is; `None` where it has none.
    pub budget_period: Option<Duration>,
    /// The same for its provider.
    pub provider_budget_period: Option<Duration>,
    /// What ties it to other sidecars; `None` where nobody shall be told.
    pub tie: Option<Tie>,
}

impl StatsTable {
    /// An empty table. Times are kept relative to `now`.
    pub fn new(now: Instant) -> Self {
        let (known, hedges) = (Mutex::default(), hedges::Known::default());
        let view = ArcSwapOption::empty();
        Self { epoch: now, known, hedges, lessons: Arc::default(), view }
    }

    /// What tries tell, until it is learned from.
    pub fn lessons(&self) -> &Arc<Lessons> {
        &self.lessons
    }

    /// The hedges of the groups of one snapshot, in its order.
    pub fn hedges<'n>(&self, groups: impl Iterator<Item = &'n str>) -> GroupHedges {
        self.hedges.of(groups)
    }

    /// The rows of one snapshot, in its order. A known id keeps its row unless it is now another
    /// provider's; rows of ids that are not named any more go as soon as no request holds them.
    /// What is new begins at `now`.
    pub fn rows<'n>(&self, named: impl Iterator<Item = Named<'n>>, now: Instant) -> Rows {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut next, mut queues) = (HashMap::new(), HashMap::new());
        let rows = named.map(|named| {
            // Providers stay when nobody names them: what they were paid is not undone by that.
            let provider = known.providers.entry(named.provider.into()).or_default().clone();
            provider.set_period(named.provider_budget_period);
            let row = (known.rows.remove(named.id))
                .filter(|row| Arc::ptr_eq(&row.provider, &provider))
                .unwrap_or_else(|| {
                    let learning = Learning::new(self.lessons.clone(), now);
                    Arc::new(Row::new(self.epoch, provider, learning))
                });
            row.own.set_period(named.budget_period);
            row.learning.set_group(named.group);
            row.fleet.set_tie(named.tie);
            let queue = queues.entry(named.group.into());
            let known = || known.queues.remove(named.group).unwrap_or_default();
            row.queue.store(queue.or_insert_with(known).clone());
            next.insert(named.id.into(), row.clone());
            row
        });
        let rows = Rows(rows.collect());
        (known.rows, known.queues) = (next, queues);
        rows
    }

    /// How many requests wait for a seat, by model group.
    pub fn queued(&self) -> Vec<(Box<str>, u32)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.queues.iter().map(|(group, queue)| (group.clone(), queue.length())).collect()
    }

    /// The rows that are in force.
    fn all(&self) -> Vec<Arc<Row>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.rows.values().cloned().collect()
    }
}

/// The rows of one snapshot's deployments, by their position.
#[derive(Debug, Default)]
pub struct Rows(Box<[Arc<Row>]>);

impl Rows {
    /// One row.
    pub fn get(&self, of: DeploymentIx) -> Option<&Arc<Row>> {
        self.0.get(of.at())
    }
}

impl View for Rows {
    fn vitals(&self, of: DeploymentIx) -> Vitals {
        self.get(of).map_or_else(Vitals::default, |row| row.vitals())
    }

    fn outlook(&self, of: DeploymentIx) -> Outlook {
        self.get(of).map_or_else(Outlook::default, |row| row.learning.outlook())
    }

    fn forecast(&self, of: DeploymentIx, kind: Kind) -> Option<Arc<Forecast>> {
        self.get(of)?.learning.forecast(kind)
    }

    fn pause(&self, of: DeploymentIx, kind: Kind) -> Option<Duration> {
        self.get(of)?.learning.pace(kind).pause
    }

    fn fleet_load(&self, of: DeploymentIx, now: Instant) -> Option<FleetLoad> {
        self.get(of)?.fleet.load(now)
    }

    fn demand(&self, of: DeploymentIx, now: Instant) -> Option<Demand> {
        let row = self.get(of)?;
        let time = row.time(now);
        row.fleet.demand(|| row.last_minute.used(DEMAND_WINDOW, time), now, time)
    }

    fn used(&self, of: DeploymentIx, window: Duration, now: Instant) -> Used {
        self.get(of).map_or_else(Used::default, |row| row.used(window, now))
    }

    fn eases(&self, of: DeploymentIx, what: Counted, most: u64, now: Instant) -> Instant {
        self.get(of).map_or(now, |row| row.eases(what, most, now))
    }

    fn samples(&self, of: DeploymentIx, measure: Measure, most: usize, now: Instant) -> Samples {
        let Some(row) = self.get(of) else { return Samples::new() };
        match measure {
            Measure::FirstToken => row.first_tokens.newest(most, row.time(now)),
            Measure::PerToken => row.per_token.newest(most, row.time(now)),
        }
    }

    fn spent(&self, of: DeploymentIx, payer: Payer, now: Instant) -> Option<Spent> {
        let row = self.get(of)?;
        let purse = match payer {
            Payer::Deployment => &row.own,
            Payer::Provider => &row.provider,
        };
        let (amount, ends) = purse.spent(row.time(now))?;
        Some(Spent { amount, until: row.epoch + ends })
    }
}

/// A good answer, as the statistics see it: what one try used, took and cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was streamed.
    pub stream: bool,
    /// Tokens of the prompt; zero where nobody told and nothing was estimated.
    pub prompt_tokens: Tokens,
    /// Tokens of the answer.
    pub completion_tokens: Tokens,
    /// From the call to the first event with content; `None` where it was not streamed.
    pub first_token: Option<Duration>,
    /// From the call to the last byte.
    pub took: Duration,
    /// What it cost; `None` where no price is known.
    pub cost: Option<PicoUsd>,
}

/// A try that failed, as the statistics see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// What went wrong.
    pub failure: Failure,
    /// Whether that is the timeout that the caller itself set.
    pub callers_timeout: bool,
    /// The ticket of its [`Trial`].
    pub ticket: Option<Ticket>,
    /// For the jitter of a back-off.
    pub entropy: u64,
}

/// The live numbers of one deployment.
#[derive(Debug)]
pub struct Row {
    epoch: Instant,
    in_flight: AtomicU32,
    /// Who waits for a seat here or at another deployment of the group.
    queue: ArcSwap<Queue>,
    /// By `LiteLLM`'s rule, in microseconds since the epoch; zero means never.
    cooling_until: AtomicU64,
    /// By Pillion's rule.
    circuit: Circuit,
    minute: Window,
    /// Failures within the cooldown time, for `allowed_fails`.
    recent: Window,
    /// Estimated tokens of the prompts of tries that run.
    pending: AtomicU64,
    /// Events of its streams that were passed over.
    skipped: AtomicU64,
    /// Streams that were taken for whole though they gave no reason why they ended.
    without_reason: AtomicU64,
    last_minute: Minute,
    first_tokens: Recent,
    per_token: Recent,
    own: Purse,
    provider: Arc<Purse>,
    learning: Learning,
    fleet: Fleet,
}

/// Fewer samples say nothing about what to expect.
const LEAST_SAMPLES: f64 = 10.0;

impl Row {
    fn new(epoch: Instant, provider: Arc<Purse>, learning: Learning) -> Self {
        Self {
            epoch,
            in_flight: AtomicU32::new(0),
            queue: ArcSwap::default(),
            cooling_until: AtomicU64::new(0),
            circuit: Circuit::default(),
            minute: Window::default(),
            recent: Window::default(),
            pending: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            without_reason: AtomicU64::new(0),
            last_minute: Minute::default(),
            first_tokens: Recent::default(),
            per_token: Recent::default(),
            own: Purse::default(),
            provider,
            learning,
            fleet: Fleet::default(),
        }
    }

    /// How long an answer to a prompt of this length is expected to take; `None` where too little
    /// was learned.
    pub fn expected(&self, kind: Kind, length: u32) -> Option<Duration> {
        let forecast = self.learning.forecast(kind)?;
        (forecast.samples() >= LEAST_SAMPLES).then(|| forecast.expected(length))
    }

    /// Tells the learner what a try has shown.
    pub fn tell(self: &Arc<Self>, kind: Kind, what: What) {
        self.learning.lessons.tell(Lesson { row: self.clone(), kind, what });
    }

    /// The numbers that routing may know.
    pub fn vitals(&self) -> Vitals {
        let moment = |stored: &AtomicU64| {
            let micros = stored.load(Ordering::Relaxed);
            (micros > 0).then(|| self.epoch + Duration::from_micros(micros))
        };
        let own = moment(&self.cooling_until);
        let breaker = self.circuit.read();
        let elsewhere = moment(&self.fleet.probed_elsewhere_until);
        Vitals {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            // Of both rules only where a reload has changed it; then the later counts.
            cooling_until: own.max(moment(&self.fleet.advised_until)).max(breaker.cooling_until()),
            probes: breaker.probes(),
            warm_since: breaker.warm_since(),
            own_until: own.max(breaker.own_until()),
            // Who has begun to prove that it is well goes on.
            probed_elsewhere_until: elsewhere.filter(|_| !breaker.is_recovering()),
        }
    }

    /// How many tries were made there while a breaker was against it, because nobody else was left
    /// or because the request named the deployment.
    pub fn forced(&self) -> u64 {
        self.circuit.forced()
    }

    /// Counts an event of a stream that was passed over.
    pub fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many events were passed over.
    pub fn events_skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Counts a stream that was taken for whole though it gave no reason why it ended.
    pub fn gave_no_reason(&self) {
        self.without_reason.fetch_add(1, Ordering::Relaxed);
    }

    /// How many streams gave none.
    pub fn streams_without_reason(&self) -> u64 {
        self.without_reason.load(Ordering::Relaxed)
    }

    /// A try that begins, as the breaker sees it.
    pub fn trial(&self, settings: &breaker::Settings, now: Instant) -> Trial<'_> {
        self.circuit.enter(settings, now)
    }

    fn used(&self, window: Duration, now: Instant) -> Used {
        let mut used = self.last_minute.used(window, self.time(now));
        used.tokens = used.tokens.saturating_add(self.pending.load(Ordering::Relaxed));
        let others = self.fleet.used_by_others(window, now);
        used.requests = used.requests.saturating_add(others.requests);
        used.tokens = used.tokens.saturating_add(others.tokens);
        used
    }

    /// When there is room under a limit. Where others have used it up, what they used is taken to
    /// be spread over the minute.
    fn eases(&self, what: Counted, most: u64, now: Instant) -> Instant {
        let others = self.fleet.used_by_others(MINUTE, now);
        let others = match what {
            Counted::Requests => others.requests,
            Counted::Tokens => others.tokens,
        };
        let time = self.time(now);
        let own = self.last_minute.eases(what, most.saturating_sub(others), time);
        let excess = others.saturating_sub(most);
        let spread = if excess == 0 {
            time
        } else {
            let part = float(excess) / float(others);
            time + MINUTE.mul_f64(part)
        };
        self.epoch + own.max(spread)
    }

    /// Counts a request that a limit has turned away.
    pub fn refused(&self, now: Instant) {
        self.fleet.refused(self.time(now));
    }

    /// Counts a try, as running until the guard is dropped, and so long its prompt as used. It
    /// runs in the seat that was kept for it, else in another one.
    pub fn enter(
        self: &Arc<Self>,
        seat: Option<Seat>,
        prompt_tokens: Tokens,
        now: Instant,
    ) -> InFlight {
        self.pending.fetch_add(prompt_tokens, Ordering::Relaxed);
        self.last_minute.request(self.time(now));
        self.fleet.asked();
        InFlight { seat: seat.unwrap_or_else(|| Seat::of(self)), prompt_tokens }
    }

    /// The line of those who wait for a seat here or at another deployment of the group.
    pub fn queue(&self) -> Arc<Queue> {
        self.queue.load_full()
    }

    fn count_taken(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    fn count_free(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts a success.
    pub fn succeeded(&self, answer: &Answer, now: Instant) {
        self.minute.at(self.micros(now), MINUTE).0.fetch_add(1, Ordering::Relaxed);
        self.circuit.succeeded(now);
        if answer.stream {
            if let Some(first_token) = answer.first_token {
                self.first_tokens.push(Some(first_token.as_secs_f64()), self.time(now));
            }
        } else {
            let tokens = float(answer.completion_tokens.max(1));
            self.per_token.push(Some(answer.took.as_secs_f64() / tokens), self.time(now));
        }
        let tokens = answer.prompt_tokens.saturating_add(answer.completion_tokens);
        self.charged(tokens, answer.cost, now);
    }

    /// Counts what was used and spent, for an answer that broke off too.
    pub fn charged(&self, tokens: Tokens, cost: Option<PicoUsd>, now: Instant) {
        let time = self.time(now);
        self.last_minute.tokens(tokens, time);
        self.fleet.charged(tokens, cost);
        if let Some(cost) = cost {
            self.own.add(cost, time);
            self.provider.add(cost, time);
        }
    }

    /// Counts a failure and applies the group's cooldown rule. Says how long the deployment gets
    /// no traffic, if this failure is what began or prolonged a cooldown.
    pub fn failed(
        &self,
        settings: &Settings,
        who: (&Group, &Member),
        failed: &Failed,
        now: Instant,
    ) -> Option<Duration> {
        if lowest_latency::is_penalized(failed.failure.class) && !failed.callers_timeout {
            self.first_tokens.push(None, self.time(now));
            self.per_token.push(None, self.time(now));
        }
        if !failed.callers_timeout {
            self.fleet.failed(breaker::why(failed.failure.class));
        }
        match who.0.cooldown {
            Rule::LiteLlm => self.judged(settings, who, failed, now),
            Rule::None => None,
            Rule::Pillion if failed.callers_timeout || !who.0.cools() => None,
            Rule::Pillion => self.circuit.change(|breaker| {
                let Failed { failure, ticket, entropy, .. } = failed;
                Some(breaker.failed(&settings.breaker, failure, *ticket, now, *entropy))
            }),
        }
    }

    /// `LiteLLM`'s rule.
    fn judged(
        &self,
        settings: &Settings,
        (group, member): (&Group, &Member),
        failed: &Failed,
        now: Instant,
    ) -> Option<Duration> {
        let micros = self.micros(now);
        let (successes, fails) = self.minute.at(micros, MINUTE);
        let kept = member.cooldown_time.unwrap_or(settings.cooldown_time);
        let recent = self.recent.at(micros, kept).1;
        let evidence = Evidence {
            successes: successes.load(Ordering::Relaxed),
            fails: fails.fetch_add(1, Ordering::Relaxed).saturating_add(1),
            recent_fails: recent.fetch_add(1, Ordering::Relaxed).saturating_add(1),
            callers_timeout: failed.callers_timeout,
        };
        let pause = judge(settings, group, member, &failed.failure, &evidence)?;
        self.fleet.paused(breaker::why(failed.failure.class).unwrap_or(Why::Trouble));
        let until = self.micros(now + pause);
        let before = self.cooling_until.fetch_max(until, Ordering::Relaxed);
        (before < until).then_some(pause)
    }

    /// What a token of a stream takes after the first; `None` where nobody has seen one.
    pub fn pace(&self, kind: Kind) -> Option<Duration> {
        self.learning.pace(kind).per_token
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(self.time(now).as_micros()).unwrap_or(u64::MAX).max(1)
    }

    fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }
}

/// Two counts that begin anew some time after the first of them, as a key with a lifetime does.
#[derive(Debug, Default)]
struct Window {
    began: AtomicU64,
    successes: AtomicU32,
    fails: AtomicU32,
}

impl Window {
    /// The counts at `now`. Of several threads that find the window over, one begins it anew.
    fn at(&self, now: u64, length: Duration) -> (&AtomicU32, &AtomicU32) {
        let began = self.began.load(Ordering::Relaxed);
        let length = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let over = began == 0 || now.saturating_sub(began) >= length;
        let ours = over
            && self
                .began
                .compare_exchange(began, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if ours {
            self.successes.store(0, Ordering::Relaxed);
            self.fails.store(0, Ordering::Relaxed);
        }
        (&self.successes, &self.fails)
    }
}

/// A running try. The count falls when this is dropped, whatever happened.
#[must_use = "the try counts as running while this lives"]
#[derive(Debug)]
pub struct InFlight {
    seat: Seat,
    prompt_tokens: Tokens,
}

impl InFlight {
    /// The row it counts in.
    pub fn row(&self) -> &Arc<Row> {
        self.seat.row()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.row().pending.fetch_sub(self.prompt_tokens, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::{Class, GroupIx, time};
    use crate::routing::RouteTable;

    fn group_of(count: u16, settings: Settings) -> RouteTable {
        let entry = |at: u16| ("g".into(), format!("{at}").into(), Member::new(DeploymentIx(at)));
        RouteTable::build((0..count).map(entry).collect(), settings)
    }

    fn litellms() -> Settings {
        Settings { cooldown: Some(Rule::LiteLlm), ..Settings::default() }
    }

    fn failed(class: Class) -> Failed {
        let failure = Failure::new(class, 500);
        Failed { failure, callers_timeout: false, ticket: None, entropy: 0 }
    }

    /// Rows of deployments of the provider `p` with budgets of a minute.
    fn rows(table: &StatsTable, ids: &[&str]) -> Rows {
        rows_of(table, ids, "p")
    }

    fn rows_of(table: &StatsTable, ids: &[&str], provider: &str) -> Rows {
        let (budget_period, provider_budget_period) = (Some(MINUTE), Some(MINUTE));
        let named = ids.iter().map(|id| Named {
            id,
            group: "g",
            provider,
            budget_period,
            provider_budget_period,
            tie: None,
        });
        table.rows(named, table.epoch)
    }

    const FIRST: DeploymentIx = DeploymentIx(0);
    const SECOND: DeploymentIx = DeploymentIx(1);

    fn answer() -> Answer {
        Answer {
            stream: false,
            prompt_tokens: 30,
            completion_tokens: 10,
            first_token: None,
            took: Duration::from_secs(2),
            cost: Some(PicoUsd(7)),
        }
    }

    #[test]
    fn a_row_survives_a_reload_and_an_unnamed_one_goes() {
        let now = time::now();
        let table = StatsTable::new(now);
        let before = rows(&table, &["a", "b"]);
        let running = before.get(SECOND).unwrap().enter(None, 0, now);
        before.get(SECOND).unwrap().succeeded(&answer(), now);
        let after = rows(&table, &["b", "c"]);
        assert_eq!(after.vitals(FIRST).in_flight, 1);
        assert_eq!(after.used(FIRST, MINUTE, now), Used { requests: 1, tokens: 40 });
        assert_eq!(after.samples(FIRST, Measure::PerToken, 9, now).len(), 1);
        assert_eq!(after.spent(FIRST, Payer::Deployment, now).unwrap().amount, PicoUsd(7));
        drop(running);
        assert_eq!(after.vitals(FIRST).in_flight, 0);
        assert!(!table.known.lock().unwrap().rows.contains_key("a"));
    }

    #[test]
    fn a_provider_is_paid_by_all_its_deployments() {
        let now = time::now();
        let table = StatsTable::new(now);
        let rows = rows(&table, &["a", "b"]);
        rows.get(FIRST).unwrap().charged(0, Some(PicoUsd(5)), now);
        rows.get(SECOND).unwrap().charged(0, Some(PicoUsd(6)), now);
        let spent = |of, payer| rows.spent(of, payer, now).map(|spent| spent.amount.0);
        assert_eq!(spent(FIRST, Payer::Provider), Some(11));
        assert_eq!(spent(SECOND, Payer::Provider), Some(11));
        assert_eq!(spent(SECOND, Payer::Deployment), Some(6));
        let moved = rows_of(&table, &["a"], "q");
        assert_eq!(moved.spent(FIRST, Payer::Provider, now), None);
        assert_eq!(moved.spent(FIRST, Payer::Deployment, now), None);
    }

    #[test]
    fn a_prompt_counts_while_its_try_runs_and_its_answer_afterwards() {
        let now = time::now();
        let rows = rows(&StatsTable::new(now), &["a"]);
        let row = rows.get(FIRST).unwrap();
        let running = row.enter(None, 25, now);
        assert_eq!(rows.used(FIRST, MINUTE, now), Used { requests: 1, tokens: 25 });
        row.succeeded(&answer(), now);
        drop(running);
        assert_eq!(rows.used(FIRST, MINUTE, now), Used { requests: 1, tokens: 40 });
        drop(row.enter(None, 25, now));
        assert_eq!(rows.used(FIRST, MINUTE, now), Used { requests: 2, tokens: 40 });
    }

    #[test]
    fn streams_and_whole_answers_are_measured_apart() {
        let now = time::now();
        let rows = rows(&StatsTable::new(now), &["a"]);
        let row = rows.get(FIRST).unwrap();
        row.succeeded(&answer(), now);
        let first_token = Some(Duration::from_millis(500));
        row.succeeded(&Answer { stream: true, first_token, ..answer() }, now);
        row.succeeded(&Answer { completion_tokens: 0, ..answer() }, now);
        let got = |measure| -> Vec<_> {
            let samples = rows.samples(FIRST, measure, 9, now);
            samples.iter().map(|it| (it.seconds.unwrap() * 1000.0).round()).collect()
        };
        assert_eq!(got(Measure::FirstToken), [500.0]);
        assert_eq!(got(Measure::PerToken), [2000.0, 200.0]);
    }

    #[test]
    fn a_failure_is_a_sample_unless_the_request_is_to_blame() {
        let now = time::now();
        let routes = group_of(2, Settings::default());
        let group = routes.group(GroupIx(0)).unwrap();
        let rows = rows(&StatsTable::new(now), &["a"]);
        let row = rows.get(FIRST).unwrap();
        let fail = |class, callers_timeout| {
            let who = (group, &group.members[0]);
            let failed = Failed { callers_timeout, ..failed(class) };
            row.failed(routes.settings(), who, &failed, now);
            rows.samples(FIRST, Measure::FirstToken, 9, now).len()
        };
        assert_eq!(fail(Class::Connection, false), 1);
        assert_eq!(fail(Class::BadRequest, false), 1);
        assert_eq!(fail(Class::Timeout, true), 1);
        assert_eq!(fail(Class::Timeout, false), 2);
        assert_eq!(rows.samples(FIRST, Measure::PerToken, 1, now)[0].seconds, None);
    }

    #[test]
    fn a_rate_limit_begins_a_cooldown_that_ends() {
        let now = time::now();
        let routes = group_of(2, litellms());
        let group = routes.group(GroupIx(0)).unwrap();
        let rows = rows(&StatsTable::new(now), &["a", "b"]);
        let row = rows.get(DeploymentIx(0)).unwrap();
        let failure = failed(Class::RateLimit);
        let pause = row.failed(routes.settings(), (group, &group.members[0]), &failure, now);
        assert_eq!(pause, Some(Duration::from_secs(5)));
        assert!(row.vitals().is_cooling(now + Duration::from_millis(4_900)));
        assert!(!row.vitals().is_cooling(now + Duration::from_secs(6)));
        // A shorter wish does not shorten it.
        let again = row.failed(routes.settings(), (group, &group.members[0]), &failure, now);
        assert_eq!(again, None);
    }

    #[test]
    fn a_breaker_and_its_probes_survive_a_reload() {
        let start = time::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let routes = group_of(2, Settings::default());
        let (settings, group) = (routes.settings(), routes.group(GroupIx(0)).unwrap());
        let table = StatsTable::new(start);
        let before = rows(&table, &["a", "b"]);
        let row = before.get(FIRST).unwrap();
        let fail =
            || row.failed(settings, (group, &group.members[0]), &failed(Class::Timeout), start);
        let pause = [fail(), fail(), fail()][2].expect("the third one opens it");
        let after = rows(&table, &["b", "a"]);
        assert_eq!(after.vitals(SECOND).cooling_until, Some(start + pause));
        let row = after.get(SECOND).unwrap();
        let forced = row.trial(&settings.breaker, later(1));
        assert_eq!((after.vitals(SECOND).probes, row.forced()), (Some(1), 1));
        drop(forced);
        for probes in [Some(0), None] {
            let trial = row.trial(&settings.breaker, later(9));
            assert_eq!(after.vitals(SECOND).probes, Some(1));
            assert_eq!(trial.passed(&settings.breaker, later(9)), probes.is_none());
            drop(trial);
            assert_eq!(after.vitals(SECOND).probes, probes);
        }
        let closed = Vitals { warm_since: Some(later(9)), ..Vitals::default() };
        assert_eq!((after.vitals(SECOND), row.forced()), (closed, 1));
    }

    #[test]
    fn nobody_is_kept_away_from_a_group_of_one_or_by_no_rule() {
        let now = time::now();
        let none = Settings { cooldown: Some(Rule::None), ..Settings::default() };
        for routes in [group_of(1, Settings::default()), group_of(2, none)] {
            let (settings, group) = (routes.settings(), routes.group(GroupIx(0)).unwrap());
            let rows = rows(&StatsTable::new(now), &["a", "b"]);
            let row = rows.get(FIRST).unwrap();
            for class in [Class::Authentication, Class::RateLimit] {
                let who = (group, &group.members[0]);
                assert_eq!(row.failed(settings, who, &failed(class), now), None);
            }
            assert_eq!(row.vitals(), Vitals::default());
        }
    }

    #[test]
    fn counts_begin_anew_after_a_minute() {
        let start = time::now();
        let routes = group_of(2, litellms());
        let group = routes.group(GroupIx(0)).unwrap();
        let rows = rows(&StatsTable::new(start), &["a", "b"]);
        let row = rows.get(DeploymentIx(0)).unwrap();
        let failure = failed(Class::InternalServer);
        let fail = |second| {
            let now = start + Duration::from_secs(second);
            row.failed(routes.settings(), (group, &group.members[0]), &failure, now)
        };
        assert_eq!([fail(1), fail(2), fail(3), fail(4)], [None; 4]);
        assert_eq!(fail(62), None);
        assert_eq!([fail(63), fail(64), fail(65)], [None; 3]);
        assert_eq!(fail(66), Some(Duration::from_secs(5)));
    }
}
