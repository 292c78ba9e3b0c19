//! What happened, for machines: metrics that Prometheus scrapes and one line per request.
//!
//! Promises that taking a record never blocks and never allocates a series for what a client
//! sent. Knows nothing of configuration, connections or requests that run; whoever renders the
//! metrics brings those numbers as a [`Scrape`].

pub mod access_log;
#[cfg(test)]
mod fixture;
mod line;
pub mod meters;
mod process;
pub mod table;
mod worth;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::account::{Record, Sink};
use crate::lexicon::CooldownState;
use crate::lexicon::count::float;
use crate::lexicon::time::unix_now;
use crate::report::Route;
use access_log::AccessLog;
use meters::{Meters, Named};
use process::Process;
use worth::Shown;

/// Takes records and shows what they add up to.
#[derive(Debug)]
pub struct Telemetry {
    meters: Meters,
    access_log: Option<Arc<AccessLog>>,
    started: Duration,
    worth: Shown,
}

impl Telemetry {
    /// Metrics alone, or with an access log. Call it once, when the process starts: that is the
    /// start time it shows.
    pub fn new(access_log: Option<Arc<AccessLog>>) -> Self {
        Self { meters: Meters::new(), access_log, started: unix_now(), worth: Shown::default() }
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
        self.meters.set_deployments(|id| by_id.get(id).copied());
        let queued: HashMap<_, _> = scrape.queued.iter().map(|(name, it)| (&**name, *it)).collect();
        self.meters.set_queued(|group| queued.get(group).copied().unwrap_or_default());
        self.worth.set(&self.meters, &scrape.hedging);
        let set = |row, value| self.meters.set(row, &[], value);
        set(&table::REQUESTS_IN_FLIGHT, f64::from(scrape.requests_in_flight));
        set(&table::BUFFERED, float(scrape.buffered_bytes));
        set(&table::CONNECTIONS_OPEN, f64::from(scrape.connections_open));
        self.meters.raise(&table::CONNECTIONS_OPENED, &[], scrape.connections_opened);
        self.meters.raise(&table::LESSONS_DROPPED, &[], scrape.lessons_dropped);
        if let Some(gossip) = &scrape.gossip {
            self.set_gossip(gossip);
        }
        let config = &scrape.config;
        set(&table::CONFIG_GENERATION, float(config.generation));
        set(&table::CONFIG_IN_SYNC, flag(config.in_sync));
        set(&table::CONFIG_LAST_RELOAD_SUCCESS, flag(config.last_reload_success));
        set(&table::CONFIG_LAST_RELOAD_TIMESTAMP, float(config.last_success_unix));
        self.meters.raise(&table::CONFIG_RELOADS, &["success"], config.reloads);
        self.meters.raise(&table::CONFIG_RELOADS, &["failure"], config.failed_reloads);
        let dropped = self.access_log.as_deref().map_or(0, AccessLog::dropped);
        self.meters.raise(&table::ACCESS_LOG_DROPPED, &[], dropped);
    }

    fn set_gossip(&self, gossip: &Gossip) {
        let set = |row, labels: &[&str], value| self.meters.set(row, labels, value);
        let raise = |row, label, total| self.meters.raise(row, &[label], total);
        set(&table::GOSSIP_MEMBERS, &[], f64::from(gossip.members));
        let age = gossip.heard.map_or(f64::INFINITY, |age| age.as_secs_f64());
        set(&table::GOSSIP_VIEW_AGE, &[], age);
        for (direction, (datagrams, bytes)) in [("in", gossip.received), ("out", gossip.sent)] {
            raise(&table::GOSSIP_DATAGRAMS, direction, datagrams);
            raise(&table::GOSSIP_BYTES, direction, bytes);
        }
        for (reason, total) in &gossip.dropped {
            raise(&table::GOSSIP_DROPPED, reason, *total);
        }
        self.meters.raise(&table::GOSSIP_RECORDS_DROPPED, &[], gossip.records_dropped);
        for (deployment, weight) in &gossip.weights {
            set(&table::GOSSIP_WEIGHT, &[deployment], *weight);
        }
    }

    fn set_process(&self) {
        let set = |row, value| self.meters.set(row, &[], value);
        self.meters.set(&table::BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
        set(&table::START_TIME, self.started.as_secs_f64());
        let process = Process::read();
        if let Some(bytes) = process.resident_bytes {
            set(&table::RESIDENT_MEMORY, float(bytes));
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
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scrape {
    /// The deployments of the configuration that is served.
    pub deployments: Vec<Running>,
    /// How many requests wait for a seat, by model group.
    pub queued: Vec<(Box<str>, u32)>,
    /// Requests being served.
    pub requests_in_flight: u32,
    /// Bytes of bodies held in memory.
    pub buffered_bytes: u64,
    /// Connections to providers that are open.
    pub connections_open: u32,
    /// Connections to providers opened since the start.
    pub connections_opened: u64,
    /// What tries told that was not learned, since the start.
    pub lessons_dropped: u64,
    /// What hedging was worth.
    pub hedging: Vec<Route>,
    /// What is shared with other sidecars; `None` where nothing is.
    pub gossip: Option<Gossip>,
    /// The state of the configuration.
    pub config: Config,
}

/// What is shared with other sidecars.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gossip {
    /// How many there are, this one included.
    pub members: u32,
    /// How long ago another was heard; `None` is never.
    pub heard: Option<Duration>,
    /// Datagrams that came, and their bytes.
    pub received: (u64, u64),
    /// Datagrams that went out, and their bytes.
    pub sent: (u64, u64),
    /// Datagrams that were dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Records that were dropped.
    pub records_dropped: u64,
    /// How much the fleet's word stands for, by deployment of the configuration.
    pub weights: Vec<(Box<str>, f64)>,
}

/// What a deployment does at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its id.
    pub id: Box<str>,
    /// Tries running there.
    pub in_flight: u32,
    /// How far it is kept away from traffic.
    pub cooldown: CooldownState,
    /// Tries that were made there against its cooldown, since the start.
    pub panics: u64,
    /// Events of its streams that were passed over, since the start.
    pub events_skipped: u64,
    /// Streams that were taken for whole though they gave no reason why they ended, since the start.
    pub streams_without_reason: u64,
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

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighed() -> Gossip {
        Gossip { weights: vec![("east".into(), 1.0)], ..Gossip::default() }
    }

    fn telemetry() -> Telemetry {
        let telemetry = Telemetry::new(None);
        telemetry
            .publish(&[Named { id: "east", group: "smart" }, Named { id: "west", group: "smart" }]);
        telemetry
    }

    #[track_caller]
    fn check(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|said| said == *line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_record_becomes_numbers() {
        let telemetry = telemetry();
        telemetry.take(&fixture::stream());
        let text = telemetry.render(&Scrape::default());
        check(
            &text,
            &[
                r#"pillion_requests_total{endpoint="chat",model_group="smart",status="2xx",end="complete"} 1"#,
                r#"pillion_request_duration_seconds_bucket{endpoint="chat",model_group="smart",le="1"} 0"#,
                r#"pillion_request_duration_seconds_bucket{endpoint="chat",model_group="smart",le="2"} 1"#,
                r#"pillion_request_duration_seconds_sum{endpoint="chat",model_group="smart"} 1.500042"#,
                r#"pillion_first_token_seconds_bucket{model_group="smart",deployment="east",le="0.25"} 1"#,
                r#"pillion_tokens_total{deployment="east",model_group="smart",type="input"} 100"#,
                r#"pillion_tokens_total{deployment="east",model_group="smart",type="output"} 20"#,
                r#"pillion_tokens_total{deployment="east",model_group="smart",type="cache_read"} 60"#,
                r#"pillion_tokens_total{deployment="east",model_group="smart",type="cache_write"} 7"#,
                r#"pillion_tokens_total{deployment="east",model_group="smart",type="reasoning"} 5"#,
                r#"pillion_cost_usd_total{deployment="east",model_group="smart"} 0.0000125"#,
                r"# TYPE pillion_cost_usd_total counter",
                r#"pillion_tries_total{deployment="east",outcome="success"} 1"#,
                r#"pillion_tries_total{deployment="west",outcome="success"} 0"#,
                r#"pillion_tries_total{deployment="west",outcome="rate_limit"} 1"#,
                r#"pillion_cooldowns_total{deployment="west",class="rate_limit"} 1"#,
                r#"pillion_retries_total{model_group="smart"} 1"#,
                r#"pillion_queue_wait_seconds_sum{model_group="smart"} 0.03"#,
                r#"pillion_requests_shed_total{reason="queue_timeout"} 1"#,
                r#"pillion_retries_denied_total{model_group="smart"} 1"#,
                r#"pillion_fallbacks_total{model_group="smart"} 0"#,
            ],
        );
    }

    #[test]
    fn clients_cannot_create_series() {
        let telemetry = telemetry();
        telemetry.take(&fixture::refused());
        let before = telemetry.render(&Scrape::default()).lines().count();
        for name in 0..100 {
            let mut record = fixture::refused();
            record.model = format!("model-{name}").into();
            record.group = Some(format!("group-{name}").into());
            record.status = 401;
            telemetry.take(&record);
        }
        let text = telemetry.render(&Scrape::default());
        assert_eq!(text.lines().count(), before);
        let line = r#"pillion_requests_total{endpoint="other",model_group="unknown",status="401",end="refused"} 101"#;
        check(&text, &[line]);
    }

    #[test]
    fn counts_survive_a_reload_and_the_end_of_their_deployment() {
        let telemetry = telemetry();
        telemetry.take(&fixture::stream());
        telemetry.publish(&[Named { id: "north", group: "smart" }]);
        telemetry.take(&fixture::stream());
        let text = telemetry.render(&Scrape::default());
        check(
            &text,
            &[
                r#"pillion_tokens_total{deployment="east",model_group="smart",type="input"} 200"#,
                r#"pillion_cost_usd_total{deployment="east",model_group="smart"} 0.000025"#,
                r#"pillion_tries_total{deployment="north",outcome="success"} 0"#,
            ],
        );
        assert!(!text.contains("unknown"), "{text}");
    }

    #[test]
    fn money_adds_up_when_a_deployment_moves_and_comes_back() {
        let telemetry = telemetry();
        for group in ["smart", "cheap", "smart"] {
            telemetry.publish(&[Named { id: "east", group }]);
            telemetry.take(&fixture::stream());
        }
        let mut nobody = fixture::stream();
        nobody.deployment_id = Some("south".into());
        telemetry.take(&nobody);
        check(
            &telemetry.render(&Scrape::default()),
            &[
                r#"pillion_cost_usd_total{deployment="east",model_group="smart"} 0.000025"#,
                r#"pillion_cost_usd_total{deployment="east",model_group="cheap"} 0.0000125"#,
                r#"pillion_cost_usd_total{deployment="unknown",model_group="unknown"} 0.0000125"#,
            ],
        );
    }

    #[test]
    fn a_scrape_shows_this_moment() {
        let telemetry = telemetry();
        let busy = Running {
            id: "west".into(),
            in_flight: 3,
            cooldown: CooldownState::Open,
            panics: 8,
            events_skipped: 5,
            streams_without_reason: 2,
        };
        let config = Config {
            generation: 4,
            in_sync: true,
            last_reload_success: true,
            last_success_unix: 1_795_265_760,
            reloads: 3,
            failed_reloads: 1,
        };
        let deployments = vec![busy];
        let (requests_in_flight, connections_open, connections_opened) = (5, 6, 7);
        let scrape = Scrape {
            queued: vec![("smart".into(), 3)],
            deployments,
            requests_in_flight,
            buffered_bytes: 9,
            connections_open,
            connections_opened,
            gossip: Some(Gossip {
                members: 8,
                heard: Some(Duration::from_millis(500)),
                received: (10, 1_000),
                sent: (20, 2_000),
                dropped: vec![("forged", 3)],
                records_dropped: 4,
                weights: vec![("east".into(), 12.5)],
            }),
            lessons_dropped: 8,
            hedging: Vec::new(),
            config,
        };
        check(
            &telemetry.render(&scrape),
            &[
                r#"pillion_tries_in_flight{deployment="west"} 3"#,
                r#"pillion_tries_in_flight{deployment="east"} 0"#,
                r#"pillion_deployment_in_cooldown{deployment="west"} 1"#,
                r#"pillion_deployment_cooldown_state{deployment="west",state="open"} 1"#,
                r#"pillion_deployment_cooldown_state{deployment="west",state="closed"} 0"#,
                r#"pillion_deployment_cooldown_state{deployment="east",state="closed"} 1"#,
                r#"pillion_cooldown_panics_total{deployment="west"} 8"#,
                r#"pillion_stream_events_skipped_total{deployment="west"} 5"#,
                r#"pillion_streams_without_reason_total{deployment="west"} 2"#,
                r#"pillion_cooldown_panics_total{deployment="east"} 0"#,
                r"pillion_requests_in_flight 5",
                r"pillion_buffered_bytes 9",
                r#"pillion_requests_queued{model_group="smart"} 3"#,
                r"pillion_upstream_connections_open 6",
                r"pillion_upstream_connections_opened_total 7",
                r"pillion_lessons_dropped_total 8",
                r"pillion_gossip_members 8",
                r"pillion_gossip_view_age_seconds 0.5",
                r#"pillion_gossip_datagrams_total{direction="in"} 10"#,
                r#"pillion_gossip_bytes_total{direction="out"} 2000"#,
                r#"pillion_gossip_datagrams_dropped_total{reason="forged"} 3"#,
                r"pillion_gossip_records_dropped_total 4",
                r#"pillion_gossip_weight{deployment="east"} 12.5"#,
                r"pillion_config_generation 4",
                r"pillion_config_in_sync 1",
                r"pillion_config_last_reload_timestamp_seconds 1795265760",
                r#"pillion_config_reloads_total{result="failure"} 1"#,
            ],
        );
        let text = telemetry.render(&Scrape::default());
        let west = [
            r#"pillion_tries_in_flight{deployment="west"} 0"#,
            r#"pillion_requests_queued{model_group="smart"} 0"#,
            r#"pillion_deployment_cooldown_state{deployment="west",state="open"} 0"#,
            r#"pillion_cooldown_panics_total{deployment="west"} 8"#,
        ];
        check(&text, &west);
    }

    #[test]
    fn what_hedging_was_worth_is_shown_while_it_is_known() {
        let telemetry = telemetry();
        let text = telemetry.render(&Scrape::default());
        assert!(!text.contains("pillion_hedge_saved_seconds{"), "{text}");
        let hedging = crate::report::fixture::report().routes;
        let text = telemetry.render(&Scrape { hedging, ..Scrape::default() });
        check(
            &text,
            &[
                r#"pillion_hedge_wait_seconds{model_group="smart",stream="true",hedging="without",quantile="0.99",bound="estimate"} 1.68"#,
                r#"pillion_hedge_wait_seconds{model_group="smart",stream="true",hedging="with",quantile="0.5",bound="low"} 0.24"#,
                r#"pillion_hedge_win_ratio{model_group="smart",stream="true",hedges="made"} 0.788"#,
                r#"pillion_hedge_saved_seconds{model_group="smart",stream="true",hedges="made"} 738"#,
                r#"pillion_hedge_extra_tokens_total{model_group="smart",stream="true",hedges="made"} 15364"#,
                r#"pillion_hedge_extra_cost_usd_total{model_group="smart",stream="true",hedges="made"} 0.0312"#,
                r#"pillion_hedge_usd_per_saved_second{model_group="smart",stream="true",hedges="made"} 0.0000423"#,
                r#"pillion_hedge_saved_seconds{model_group="cheap <b>&",stream="false",hedges="observed"} 738"#,
            ],
        );
        // The price of the one that observes is not known, nor the upper end of one of its waits.
        let absent = [
            r#"pillion_hedge_usd_per_saved_second{model_group="cheap"#,
            r#"hedging="without",quantile="0.99",bound="high"} inf"#,
            r#"model_group="new""#,
        ];
        assert!(!absent.iter().any(|it| text.contains(it)), "{text}");
        check(
            &telemetry.render(&Scrape::default()),
            &[
                r#"pillion_hedge_saved_seconds{model_group="smart",stream="true",hedges="made"} NaN"#,
                r#"pillion_hedge_extra_tokens_total{model_group="smart",stream="true",hedges="made"} 15364"#,
                r#"pillion_hedge_extra_cost_usd_total{model_group="smart",stream="true",hedges="made"} 0.0312"#,
            ],
        );
    }

    #[test]
    fn the_table_and_the_text_name_the_same_metrics() {
        let telemetry = telemetry();
        telemetry.take(&fixture::stream());
        let hedging = crate::report::fixture::report().routes;
        let gossip = Some(Gossip { dropped: vec![("stale", 1)], ..weighed() });
        let text = telemetry.render(&Scrape { hedging, gossip, ..Scrape::default() });
        let mut shown: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let mut listed: Vec<_> =
            table::TABLE.iter().map(|row| format!("{} {}", row.name, row.kind.as_str())).collect();
        shown.sort_unstable();
        listed.sort_unstable();
        assert_eq!(shown, listed);
        for row in table::TABLE {
            assert!(text.contains(&format!("# HELP {} {}\n", row.name, row.help)), "{}", row.name);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn upkeep_loses_no_duration() {
        let telemetry = telemetry();
        let work = async {
            for _ in 0..1000 {
                telemetry.take(&fixture::stream());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = telemetry.upkeep() => {}
            () = work => {}
        }
        let line =
            r#"pillion_request_duration_seconds_count{endpoint="chat",model_group="smart"} 1000"#;
        check(&telemetry.render(&Scrape::default()), &[line]);
    }
}
