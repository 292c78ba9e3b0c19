//! What happened, for machines: metrics that Prometheus scrapes and one line per request.
//!
//! Promises that taking a record never blocks and never allocates a series for what a client
//! sent. Knows nothing of configuration, connections or requests that run; whoever renders the
//! metrics brings those numbers as a [`Scrape`].

pub mod access_log;
mod line;
pub mod meters;
mod process;
pub mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::account::{Record, Sink};
use crate::lexicon::time::unix_now;
use access_log::AccessLog;
use meters::{Meters, Named};
use process::Process;

/// Takes records and shows what they add up to.
#[derive(Debug)]
pub struct Telemetry {
    meters: Meters,
    access_log: Option<Arc<AccessLog>>,
    started: Duration,
}

impl Telemetry {
    /// Metrics alone, or with an access log. Call it once, when the process starts: that is the
    /// start time it shows.
    pub fn new(access_log: Option<Arc<AccessLog>>) -> Self {
        Self { meters: Meters::new(), access_log, started: unix_now() }
    }

    /// Makes the series of these deployments and their groups. Call it before the configuration
    /// that names them is served.
    pub fn publish(&self, deployments: &[Named<'_>]) {
        self.meters.publish(deployments);
    }

    /// The text that Prometheus reads, in its format 0.0.4.
    pub fn render(&self, scrape: &Scrape) -> String {
        self.set(scrape);
        self.set_process();
        self.meters.render()
    }

    /// Keeps the memory of histograms small. Runs until it is dropped.
    pub async fn upkeep(&self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.meters.drain();
        }
    }

    fn set(&self, scrape: &Scrape) {
        let by_id: HashMap<_, _> = scrape.deployments.iter().map(|row| (&*row.id, row)).collect();
        self.meters.set_deployments(|id| by_id.get(id).map(|row| (row.in_flight, row.is_cooling)));
        let set = |row, value| self.meters.set(row, &[], value);
        set(&table::REQUESTS_IN_FLIGHT, f64::from(scrape.requests_in_flight));
        set(&table::CONNECTIONS_OPEN, f64::from(scrape.connections_open));
        self.meters.raise(&table::CONNECTIONS_OPENED, &[], scrape.connections_opened);
        let config = &scrape.config;
        set(&table::CONFIG_GENERATION, whole(config.generation));
        set(&table::CONFIG_IN_SYNC, flag(config.in_sync));
        set(&table::CONFIG_LAST_RELOAD_SUCCESS, flag(config.last_reload_success));
        set(&table::CONFIG_LAST_RELOAD_TIMESTAMP, whole(config.last_success_unix));
        self.meters.raise(&table::CONFIG_RELOADS, &["success"], config.reloads);
        self.meters.raise(&table::CONFIG_RELOADS, &["failure"], config.failed_reloads);
        let dropped = self.access_log.as_deref().map_or(0, AccessLog::dropped);
        self.meters.raise(&table::ACCESS_LOG_DROPPED, &[], dropped);
    }

    fn set_process(&self) {
        let set = |row, value| self.meters.set(row, &[], value);
        self.meters.set(&table::BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
        set(&table::START_TIME, self.started.as_secs_f64());
        let process = Process::read();
        if let Some(bytes) = process.resident_bytes {
            set(&table::RESIDENT_MEMORY, whole(bytes));
        }
        if let Some(seconds) = process.cpu_seconds {
            set(&table::CPU, seconds);
        }
    }
}

impl Sink for Telemetry {
    fn take(&self, record: &Record) {
        self.meters.add(record);
        if let Some(log) = &self.access_log {
            log.write(record, unix_now());
        }
    }
}

/// How often durations are counted into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// What is true at the moment of a scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrape {
    /// The deployments of the configuration that is served.
    pub deployments: Vec<Running>,
    /// Requests being served.
    pub requests_in_flight: u32,
    /// Connections to providers that are open.
    pub connections_open: u32,
    /// Connections to providers opened since the start.
    pub connections_opened: u64,
    /// The state of the configuration.
    pub config: Config,
}

/// What a deployment does at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its id.
    pub id: Box<str>,
    /// Tries running there.
    pub in_flight: u32,
    /// Whether it gets no traffic.
    pub is_cooling: bool,
}

/// The state of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The generation that is served.
    pub generation: u64,
    /// Whether it is what is on the disk.
    pub in_sync: bool,
    /// Whether the last attempt to load it worked.
    pub last_reload_success: bool,
    /// When what is served was loaded, in Unix time.
    pub last_success_unix: u64,
    /// Reloads that worked.
    pub reloads: u64,
    /// Reloads that did not.
    pub failed_reloads: u64,
}

#[expect(clippy::cast_precision_loss, reason = "the exposition format knows only floats")]
fn whole(number: u64) -> f64 {
    number as f64
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}
