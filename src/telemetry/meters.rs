//! The handles through which records become numbers.
//!
//! Promises that the path of a request only adds to handles that exist: those of a deployment
//! and a group are made when a configuration is published, those of a rare outcome when it
//! happens first. Label values are our own enums and names from the configuration; whatever
//! else a client sends counts as `unknown`, so that it can never create a series.
//!
//! A name that was once published stays for the life of the process, like its series: counters
//! must not vanish between two scrapes, and requests that outlive a reload still count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use foldhash::HashMap;
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use smallvec::SmallVec;

use super::Running;
use super::table::{self, BUCKETS, Kind, Row, TABLE};
use crate::account::{End, Record, Try, TryEnd};
use crate::lexicon::{Class, CooldownState, PicoUsd};
use crate::protocol::{Endpoint, Usage};

/// A deployment of the configuration, as far as labels go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'n> {
    /// Its id.
    pub id: &'n str,
    /// The model group it belongs to.
    pub group: &'n str,
}

/// All metrics of one gateway.
#[derive(Debug)]
pub struct Meters {
    maker: Maker,
    exporter: PrometheusHandle,
    handles: ArcSwap<Handles>,
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl Meters {
    /// Meters that know no deployment yet.
    pub fn new() -> Self {
        let maker = Maker::new();
        let exporter = maker.recorder.handle();
        Self { maker, exporter, handles: ArcSwap::default() }
    }

    /// Makes the handles of these deployments and their groups, next to those there are.
    pub fn publish(&self, deployments: &[Named<'_>]) {
        let mut next = Handles::clone(&self.handles.load());
        for named in deployments {
            next.name(*named, &self.maker);
            if !next.groups.contains_key(named.group) {
                let fresh = Arc::new(OfGroup::new(&self.maker, named.group));
                next.groups.insert(named.group.into(), fresh);
            }
        }
        self.handles.store(Arc::new(next));
    }

    /// Adds one record.
    pub fn add(&self, record: &Record) {
        let handles = self.handles.load();
        handles.group(record.group.as_deref(), &self.maker).add(record, &self.maker);
        if let Some(shed) = record.shed {
            self.maker.counter(&table::SHED, &[shed.as_str()]).increment(1);
        }
        for tried in &record.attempts {
            let of = handles.deployment(Some(&tried.id), &self.maker);
            of.tried(tried, &self.maker);
        }
        if record.first_token.is_none() && record.usage.is_none() && record.cost.is_none() {
            return;
        }
        handles.deployment(record.deployment_id.as_deref(), &self.maker).answered(record);
    }

    /// Sets a gauge or a counter without labels of a deployment or group.
    pub(super) fn set(&self, row: &'static Row, labels: &[&str], value: f64) {
        self.maker.gauge(row, labels).set(value);
    }

    /// Raises a counter to a total that is kept elsewhere.
    pub(super) fn raise(&self, row: &'static Row, labels: &[&str], total: u64) {
        self.maker.counter(row, labels).absolute(total);
    }

    /// Sets what each deployment does now; those that `now` does not know do nothing.
    pub(super) fn set_deployments<'r>(&self, now: impl Fn(&str) -> Option<&'r Running>) {
        let handles = self.handles.load();
        for of in handles.deployments.values().flatten() {
            of.show(now(&of.id));
            of.show_cost();
        }
        if let Some(unknown) = handles.unknown.deployment.get() {
            unknown.show_cost();
        }
    }

    /// Sets how many requests of each group wait.
    pub(super) fn set_queued(&self, now: impl Fn(&str) -> u32) {
        for (name, of) in &self.handles.load().groups {
            of.queued.set(f64::from(now(name)));
        }
    }

    /// The text that Prometheus reads.
    pub(super) fn render(&self) -> String {
        let mut text = self.exporter.render();
        for row in TABLE.iter().filter(|row| row.kind == Kind::FractionCounter) {
            let line = format!("# TYPE {} gauge\n", row.name);
            if let Some(at) = text.find(&line) {
                let fixed = format!("# TYPE {} {}\n", row.name, row.kind.as_str());
                text.replace_range(at..at + line.len(), &fixed);
            }
        }
        text
    }

    /// Counts the durations of the last seconds into their buckets; until then each takes eight
    /// bytes.
    pub(super) fn drain(&self) {
        self.exporter.run_upkeep();
    }
}

/// Makes handles from rows of the table.
struct Maker {
    recorder: PrometheusRecorder,
}

impl std::fmt::Debug for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Maker")
    }
}

impl Maker {
    /// With a recorder of its own: a global one would let only one gateway live per process.
    fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for row in TABLE.iter().filter(|row| row.kind == Kind::Histogram) {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(row.name.into()), &BUCKETS)
                .expect("there are buckets");
        }
        let recorder = builder.build_recorder();
        for row in TABLE {
            match row.kind {
                Kind::Counter => recorder.describe_counter(row.name.into(), None, row.help.into()),
                Kind::FractionCounter | Kind::Gauge => {
                    recorder.describe_gauge(row.name.into(), None, row.help.into());
                }
                Kind::Histogram => {
                    recorder.describe_histogram(row.name.into(), None, row.help.into());
                }
            }
        }
        Self { recorder }
    }

    fn counter(&self, row: &'static Row, labels: &[&str]) -> Counter {
        debug_assert_eq!(row.kind, Kind::Counter);
        self.recorder.register_counter(&key(row, labels), &METADATA)
    }

    fn gauge(&self, row: &'static Row, labels: &[&str]) -> Gauge {
        debug_assert!(matches!(row.kind, Kind::FractionCounter | Kind::Gauge));
        self.recorder.register_gauge(&key(row, labels), &METADATA)
    }

    fn histogram(&self, row: &'static Row, labels: &[&str]) -> Histogram {
        debug_assert_eq!(row.kind, Kind::Histogram);
        self.recorder.register_histogram(&key(row, labels), &METADATA)
    }
}

fn key(row: &'static Row, values: &[&str]) -> Key {
    debug_assert_eq!(row.labels.len(), values.len());
    let labels = row.labels.iter().zip(values);
    let labels: Vec<_> = labels.map(|(&name, &value)| Label::new(name, value.to_owned())).collect();
    Key::from_parts(row.name, labels)
}

static METADATA: Metadata<'static> = Metadata::new("pillion", Level::INFO, None);

/// The handles of everything that was ever published.
#[derive(Debug, Clone, Default)]
struct Handles {
    /// More than one where a deployment has moved between groups; the last is in force.
    deployments: HashMap<Box<str>, SmallVec<[Arc<OfDeployment>; 1]>>,
    groups: HashMap<Box<str>, Arc<OfGroup>>,
    unknown: Arc<Unknown>,
}

/// Made when first needed, so that a gateway that knows all names shows no empty series.
#[derive(Debug, Default)]
struct Unknown {
    deployment: OnceLock<OfDeployment>,
    group: OnceLock<OfGroup>,
}

impl Handles {
    /// Puts a deployment into force, with the handles it had before in this group.
    fn name(&mut self, named: Named<'_>, maker: &Maker) {
        let all = self.deployments.entry(named.id.into()).or_default();
        let known = all.iter().position(|of| *of.group == *named.group);
        let of =
            known.map_or_else(|| Arc::new(OfDeployment::new(maker, named)), |at| all.remove(at));
        all.push(of);
    }

    fn deployment(&self, id: Option<&str>, maker: &Maker) -> &OfDeployment {
        id.and_then(|id| self.deployments.get(id)?.last()).map_or_else(
            || {
                let named = Named { id: UNKNOWN, group: UNKNOWN };
                self.unknown.deployment.get_or_init(|| OfDeployment::new(maker, named))
            },
            |known| &**known,
        )
    }

    fn group(&self, name: Option<&str>, maker: &Maker) -> &OfGroup {
        name.and_then(|name| self.groups.get(name)).map_or_else(
            || self.unknown.group.get_or_init(|| OfGroup::new(maker, UNKNOWN)),
            |known| &**known,
        )
    }
}

/// The label of what the configuration does not name.
const UNKNOWN: &str = "unknown";

/// The handles of one model group.
#[derive(Debug)]
struct OfGroup {
    name: Box<str>,
    endpoints: [OnceLock<OfEndpoint>; ENDPOINTS],
    retries: Counter,
    retries_denied: Counter,
    fallbacks: Counter,
    queued: Gauge,
    queue_wait: OnceLock<Histogram>,
}

/// Our endpoints, and one more for requests that ask for none.
const ENDPOINTS: usize = Endpoint::ALL.len() + 1;

/// The handles of one endpoint of one model group.
#[derive(Debug)]
struct OfEndpoint {
    duration: Histogram,
    requests: Lazy<{ STATUSES.len() * ENDS }>,
}

impl OfGroup {
    fn new(maker: &Maker, name: &str) -> Self {
        Self {
            name: name.into(),
            endpoints: [const { OnceLock::new() }; ENDPOINTS],
            retries: maker.counter(&table::RETRIES, &[name]),
            retries_denied: maker.counter(&table::RETRIES_DENIED, &[name]),
            fallbacks: maker.counter(&table::FALLBACKS, &[name]),
            queued: maker.gauge(&table::QUEUED, &[name]),
            queue_wait: OnceLock::new(),
        }
    }

    fn add(&self, record: &Record, maker: &Maker) {
        if record.unpaid {
            self.retries_denied.increment(1);
        }
        if record.retries > 0 {
            self.retries.increment(record.retries.into());
        }
        if record.fallbacks > 0 {
            self.fallbacks.increment(record.fallbacks.into());
        }
        if let Some(outcome) = record.hedge {
            maker.counter(&table::HEDGES, &[&self.name, outcome]).increment(1);
        }
        if let Some(queued) = record.queued {
            let make = || maker.histogram(&table::QUEUE_WAIT, &[&self.name]);
            self.queue_wait.get_or_init(make).record(queued);
        }
        if let Some(outcome) = record.recovery {
            maker.counter(&table::RECOVERIES, &[&self.name, outcome]).increment(1);
        }
        let word = record.endpoint.map_or("other", Endpoint::as_str);
        let at = record.endpoint.map_or(Endpoint::ALL.len(), Endpoint::at);
        let Some(endpoint) = self.endpoints.get(at) else { return };
        let endpoint = endpoint.get_or_init(|| OfEndpoint {
            duration: maker.histogram(&table::REQUEST_DURATION, &[word, &self.name]),
            requests: Lazy::default(),
        });
        endpoint.duration.record(record.duration);
        let status = status_at(record.status);
        endpoint.requests.increment(status * ENDS + record.end as usize, || {
            let status = STATUSES.get(status).copied().unwrap_or(UNKNOWN);
            let labels = [word, &self.name, status, record.end.as_str()];
            maker.counter(&table::REQUESTS, &labels)
        });
    }
}

/// How many ways a request can end; the last variant's position tells.
const ENDS: usize = End::Truncated as usize + 1;

/// The statuses that have a label of their own, and the classes of all others.
const STATUSES: [&str; 13] =
    ["2xx", "400", "401", "404", "408", "413", "429", "499", "4xx", "502", "503", "5xx", "other"];

/// Position of a status in [`STATUSES`].
const fn status_at(status: u16) -> usize {
    match status {
        200..=299 => 0,
        400 => 1,
        401 => 2,
        404 => 3,
        408 => 4,
        413 => 5,
        429 => 6,
        499 => 7,
        402..=498 => 8,
        502 => 9,
        503 => 10,
        500..=599 => 11,
        _ => 12,
    }
}

/// The handles of one deployment.
#[derive(Debug)]
struct OfDeployment {
    id: Box<str>,
    group: Box<str>,
    first_token: Histogram,
    input: Counter,
    output: Counter,
    cache_read: Counter,
    cache_write: Counter,
    reasoning: Counter,
    estimated: Counter,
    success: Counter,
    failed: Lazy<CLASSES>,
    cooled: Lazy<CLASSES>,
    in_flight: Gauge,
    cooling: Gauge,
    states: [Gauge; CooldownState::ALL.len()],
    panics: Counter,
    events_skipped: Counter,
    streams_without_reason: Counter,
    /// In [`PicoUsd`], so that the sum stays exact; shown as dollars when scraped.
    cost: AtomicU64,
    cost_shown: Gauge,
    hedge_cost: AtomicU64,
    hedge_cost_shown: Gauge,
    recovery_cost: AtomicU64,
    recovery_cost_shown: Gauge,
}

/// How many classes of failures there are; the last variant's position tells.
const CLASSES: usize = Class::UnprocessableEntity as usize + 1;

impl OfDeployment {
    fn new(maker: &Maker, Named { id, group }: Named<'_>) -> Self {
        let tokens = |kind| maker.counter(&table::TOKENS, &[id, group, kind]);
        Self {
            id: id.into(),
            group: group.into(),
            first_token: maker.histogram(&table::FIRST_TOKEN, &[group, id]),
            input: tokens("input"),
            output: tokens("output"),
            cache_read: tokens("cache_read"),
            cache_write: tokens("cache_write"),
            reasoning: tokens("reasoning"),
            estimated: maker.counter(&table::USAGE_ESTIMATED, &[id, group]),
            success: maker.counter(&table::TRIES, &[id, "success"]),
            failed: Lazy::default(),
            cooled: Lazy::default(),
            in_flight: maker.gauge(&table::TRIES_IN_FLIGHT, &[id]),
            cooling: maker.gauge(&table::IN_COOLDOWN, &[id]),
            states: CooldownState::ALL
                .map(|state| maker.gauge(&table::COOLDOWN_STATE, &[id, state.as_str()])),
            panics: maker.counter(&table::PANICS, &[id]),
            events_skipped: maker.counter(&table::EVENTS_SKIPPED, &[id]),
            streams_without_reason: maker.counter(&table::STREAMS_WITHOUT_REASON, &[id]),
            cost: AtomicU64::new(0),
            cost_shown: maker.gauge(&table::COST, &[id, group]),
            hedge_cost: AtomicU64::new(0),
            hedge_cost_shown: maker.gauge(&table::HEDGE_COST, &[id, group]),
            recovery_cost: AtomicU64::new(0),
            recovery_cost_shown: maker.gauge(&table::RECOVERY_COST, &[id, group]),
        }
    }

    fn tried(&self, tried: &Try, maker: &Maker) {
        let end = tried.end;
        if let Some(beside) = tried.beside {
            let tokens = maker.counter(&table::RECOVERY_TOKENS, &[&self.id, &self.group]);
            tokens.increment(beside.tokens);
            if let Some(cost) = beside.cost {
                self.recovery_cost.fetch_add(cost.0, Ordering::Relaxed);
            }
        }
        let make = |row| maker.counter(row, &[&self.id, end.as_str()]);
        match end {
            TryEnd::Abandoned => make(&table::TRIES).increment(1),
            TryEnd::Answered => self.success.increment(1),
            TryEnd::Failed { class, cooled } => {
                self.failed.increment(class as usize, || make(&table::TRIES));
                if cooled {
                    self.cooled.increment(class as usize, || make(&table::COOLDOWNS));
                }
            }
            TryEnd::Lost(wasted) => {
                make(&table::TRIES).increment(1);
                maker
                    .counter(&table::HEDGE_TOKENS, &[&self.id, &self.group])
                    .increment(wasted.tokens);
                if let Some(cost) = wasted.cost {
                    self.hedge_cost.fetch_add(cost.0, Ordering::Relaxed);
                }
            }
        }
    }

    /// What it does now; nothing where it is not served any more.
    fn show(&self, now: Option<&Running>) {
        let is = now.map_or(CooldownState::Closed, |now| now.cooldown);
        self.in_flight.set(now.map_or(0.0, |now| f64::from(now.in_flight)));
        self.cooling.set(f64::from(u8::from(is == CooldownState::Open)));
        for (state, gauge) in CooldownState::ALL.iter().zip(&self.states) {
            gauge.set(f64::from(u8::from(*state == is)));
        }
        self.panics.absolute(now.map_or(0, |now| now.panics));
        self.events_skipped.absolute(now.map_or(0, |now| now.events_skipped));
        let without_reason = now.map_or(0, |now| now.streams_without_reason);
        self.streams_without_reason.absolute(without_reason);
    }

    fn show_cost(&self) {
        for (cost, shown) in [
            (&self.cost, &self.cost_shown),
            (&self.hedge_cost, &self.hedge_cost_shown),
            (&self.recovery_cost, &self.recovery_cost_shown),
        ] {
            shown.set(PicoUsd(cost.load(Ordering::Relaxed)).as_usd());
        }
    }

    fn answered(&self, record: &Record) {
        if let Some(first_token) = record.first_token {
            self.first_token.record(first_token);
        }
        if let Some(usage) = &record.usage {
            self.used(usage);
        }
        if let Some(cost) = record.cost {
            self.cost.fetch_add(cost.0, Ordering::Relaxed);
        }
    }

    fn used(&self, usage: &Usage) {
        self.input.increment(usage.prompt);
        self.output.increment(usage.completion);
        let written = usage.cache_write.saturating_add(usage.cache_write_1h);
        // Most answers have none of these, and an atomic addition of nothing is not free.
        for (handle, tokens) in [
            (&self.cache_read, usage.cache_read),
            (&self.cache_write, written),
            (&self.reasoning, usage.reasoning),
            (&self.estimated, u64::from(usage.estimated)),
        ] {
            if tokens > 0 {
                handle.increment(tokens);
            }
        }
    }
}

/// Counters by a small position, made when first needed: most outcomes never happen, and a
/// series for each would drown the rest.
#[derive(Debug)]
struct Lazy<const N: usize>([OnceLock<Counter>; N]);

impl<const N: usize> Default for Lazy<N> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; N])
    }
}

impl<const N: usize> Lazy<N> {
    fn increment(&self, at: usize, make: impl FnOnce() -> Counter) {
        debug_assert!(at < N);
        if let Some(counter) = self.0.get(at) {
            counter.get_or_init(make).increment(1);
        }
    }
}
