//! The table of all metrics: their names, kinds, help texts and labels.
//!
//! Promises that no metric exists outside it: handles are made from its rows, and the reference
//! in the README is written from it. Knows no value and no recorder.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; a whole number.
    Counter,
    /// Only grows, in fractions. The recorder's counters hold whole numbers, so these are set
    /// from exact sums when scraped, and told apart from gauges only in the text.
    FractionCounter,
    /// Goes up and down.
    Gauge,
    /// Counts of durations by [`BUCKETS`].
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter | Self::FractionCounter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it counts or measures.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
}

impl Row {
    const fn new(
        name: &'static str,
        kind: Kind,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind, help, labels }
    }
}

/// Upper bounds of the histograms' buckets in seconds: fine where an embedding answers, coarse
/// where a long chat does, and the last one is the longest timeout anybody sets.
pub const BUCKETS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// All metrics, in the order in which the README lists them.
pub const TABLE: [&Row; 53] = [
    &REQUESTS,
    &REQUEST_DURATION,
    &REQUESTS_IN_FLIGHT,
    &QUEUED,
    &QUEUE_WAIT,
    &SHED,
    &BUFFERED,
    &FIRST_TOKEN,
    &TOKENS,
    &COST,
    &USAGE_ESTIMATED,
    &TRIES,
    &TRIES_IN_FLIGHT,
    &RETRIES,
    &RETRIES_DENIED,
    &FALLBACKS,
    &HEDGES,
    &HEDGE_TOKENS,
    &HEDGE_COST,
    &HEDGE_WAIT,
    &HEDGE_WIN_RATIO,
    &HEDGE_SAVED,
    &HEDGE_EXTRA_TOKENS,
    &HEDGE_EXTRA_COST,
    &HEDGE_PRICE,
    &RECOVERIES,
    &RECOVERY_TOKENS,
    &RECOVERY_COST,
    &COOLDOWNS,
    &IN_COOLDOWN,
    &COOLDOWN_STATE,
    &PANICS,
    &EVENTS_SKIPPED,
    &CONNECTIONS_OPEN,
    &CONNECTIONS_OPENED,
    &LESSONS_DROPPED,
    &GOSSIP_MEMBERS,
    &GOSSIP_VIEW_AGE,
    &GOSSIP_DATAGRAMS,
    &GOSSIP_BYTES,
    &GOSSIP_DROPPED,
    &GOSSIP_RECORDS_DROPPED,
    &GOSSIP_WEIGHT,
    &CONFIG_GENERATION,
    &CONFIG_IN_SYNC,
    &CONFIG_LAST_RELOAD_SUCCESS,
    &CONFIG_LAST_RELOAD_TIMESTAMP,
    &CONFIG_RELOADS,
    &ACCESS_LOG_DROPPED,
    &BUILD,
    &RESIDENT_MEMORY,
    &CPU,
    &START_TIME,
];

pub(super) const REQUESTS: Row = Row::new(
    "pillion_requests_total",
    Kind::Counter,
    &["endpoint", "model_group", "status", "end"],
    "Requests that are over, by the status answered and by how they ended (complete, refused, truncated, abandoned).",
);

pub(super) const REQUEST_DURATION: Row = Row::new(
    "pillion_request_duration_seconds",
    Kind::Histogram,
    &["endpoint", "model_group"],
    "Time from a request's head to the last byte of its answer.",
);

pub(super) const REQUESTS_IN_FLIGHT: Row =
    Row::new("pillion_requests_in_flight", Kind::Gauge, &[], "Requests being served now.");

pub(super) const QUEUED: Row = Row::new(
    "pillion_requests_queued",
    Kind::Gauge,
    &["model_group"],
    "Requests that wait now because all deployments of the group are at their max_parallel_requests.",
);

pub(super) const QUEUE_WAIT: Row = Row::new(
    "pillion_queue_wait_seconds",
    Kind::Histogram,
    &["model_group"],
    "How long requests waited for that, served or not; those that did not wait are not counted.",
);

pub(super) const SHED: Row = Row::new(
    "pillion_requests_shed_total",
    Kind::Counter,
    &["reason"],
    "Requests turned away for want of room, by what was used up (max_parallel_requests, max_buffered_bytes, queue_full, queue_timeout).",
);

pub(super) const BUFFERED: Row = Row::new(
    "pillion_buffered_bytes",
    Kind::Gauge,
    &[],
    "Memory that bodies take: of requests as long as they may be asked for again, and of answers in one piece.",
);

pub(super) const FIRST_TOKEN: Row = Row::new(
    "pillion_first_token_seconds",
    Kind::Histogram,
    &["model_group", "deployment"],
    "Time from a request's head to the first event with content, for streams.",
);

pub(super) const TOKENS: Row = Row::new(
    "pillion_tokens_total",
    Kind::Counter,
    &["deployment", "model_group", "type"],
    "Tokens used. Input contains cache_read and cache_write, output contains reasoning.",
);

pub(super) const COST: Row = Row::new(
    "pillion_cost_usd_total",
    Kind::FractionCounter,
    &["deployment", "model_group"],
    "Money spent, in US dollars, where the price is known.",
);

pub(super) const USAGE_ESTIMATED: Row = Row::new(
    "pillion_usage_estimated_total",
    Kind::Counter,
    &["deployment", "model_group"],
    "Answers whose tokens are a guess because the provider did not say.",
);

pub(super) const TRIES: Row = Row::new(
    "pillion_tries_total",
    Kind::Counter,
    &["deployment", "outcome"],
    "Calls to a deployment that are over, by success, the class of the failure, lost where another try of the request was first or had said something else, or abandoned where the client went away.",
);

pub(super) const TRIES_IN_FLIGHT: Row = Row::new(
    "pillion_tries_in_flight",
    Kind::Gauge,
    &["deployment"],
    "Calls to a deployment that run now.",
);

pub(super) const RETRIES_DENIED: Row = Row::new(
    "pillion_retries_denied_total",
    Kind::Counter,
    &["model_group"],
    "Requests that were not tried again in a group for want of budget (pillion.retries).",
);

pub(super) const RETRIES: Row = Row::new(
    "pillion_retries_total",
    Kind::Counter,
    &["model_group"],
    "Tries after a failed one in the same group, by the group asked last.",
);

pub(super) const FALLBACKS: Row = Row::new(
    "pillion_fallbacks_total",
    Kind::Counter,
    &["model_group"],
    "Other groups asked after one had failed, by the group asked last.",
);

pub(super) const HEDGES: Row = Row::new(
    "pillion_hedges_total",
    Kind::Counter,
    &["model_group", "outcome"],
    "Requests whose first try was late, by what became of their hedge: won, lost or failed, or why there was none (observed, holdout, budget, no_candidate, unlikely, ineligible, long_prompt, brown_out, pair).",
);

pub(super) const HEDGE_TOKENS: Row = Row::new(
    "pillion_hedge_tokens_total",
    Kind::Counter,
    &["deployment", "model_group"],
    "Estimated tokens of tries that lost against another one of the same request. Not part of pillion_tokens_total.",
);

pub(super) const HEDGE_COST: Row = Row::new(
    "pillion_hedge_cost_usd_total",
    Kind::FractionCounter,
    &["deployment", "model_group"],
    "What those tokens are estimated to have cost, in US dollars. Not part of pillion_cost_usd_total.",
);

pub(super) const HEDGE_WAIT: Row = Row::new(
    "pillion_hedge_wait_seconds",
    Kind::Gauge,
    &["model_group", "stream", "hedging", "quantile", "bound"],
    "Time to the first token of a stream or to a whole answer since the start, with and without hedging. The bound is the estimate or an end of its interval of 95 % (estimate, low, high).",
);

pub(super) const HEDGE_WIN_RATIO: Row = Row::new(
    "pillion_hedge_win_ratio",
    Kind::Gauge,
    &["model_group", "stream", "hedges"],
    "Share of hedges that were first; of those only observed, that would have been (made, observed).",
);

pub(super) const HEDGE_SAVED: Row = Row::new(
    "pillion_hedge_saved_seconds",
    Kind::Gauge,
    &["model_group", "stream", "hedges"],
    "Seconds that hedges are estimated to have saved since the start; of those only observed, that they would have. Falls where the estimate does.",
);

pub(super) const HEDGE_EXTRA_TOKENS: Row = Row::new(
    "pillion_hedge_extra_tokens_total",
    Kind::Counter,
    &["model_group", "stream", "hedges"],
    "Estimated tokens of tries that lost against or as a hedge; of those only observed, that they would have used.",
);

pub(super) const HEDGE_EXTRA_COST: Row = Row::new(
    "pillion_hedge_extra_cost_usd_total",
    Kind::FractionCounter,
    &["model_group", "stream", "hedges"],
    "What those tokens cost, in US dollars, where all prices are known.",
);

pub(super) const HEDGE_PRICE: Row = Row::new(
    "pillion_hedge_usd_per_saved_second",
    Kind::Gauge,
    &["model_group", "stream", "hedges"],
    "What a second costs that is saved, in US dollars; absent where none is or a price is not known.",
);

pub(super) const RECOVERIES: Row = Row::new(
    "pillion_stream_recoveries_total",
    Kind::Counter,
    &["model_group", "outcome"],
    "Streams that broke off where pillion.streams.recovery is set, by what became of them: unseen (in the window that was held, and another try answered), restarted (a second stream went on behind the first), continued (it was asked to write on), differed (it did not begin as the first), failed, or ineligible (more than text was sent).",
);

pub(super) const RECOVERY_TOKENS: Row = Row::new(
    "pillion_recovery_tokens_total",
    Kind::Counter,
    &["deployment", "model_group"],
    "Tokens, mostly estimated, of streams beside the one that a request's record tells of: the one that broke off, or the second that did not go on behind it. Not part of pillion_tokens_total.",
);

pub(super) const RECOVERY_COST: Row = Row::new(
    "pillion_recovery_cost_usd_total",
    Kind::FractionCounter,
    &["deployment", "model_group"],
    "What those tokens cost, in US dollars. Not part of pillion_cost_usd_total.",
);

pub(super) const COOLDOWNS: Row = Row::new(
    "pillion_cooldowns_total",
    Kind::Counter,
    &["deployment", "class"],
    "Times a deployment was put into cooldown, by the class of the failure.",
);

pub(super) const IN_COOLDOWN: Row = Row::new(
    "pillion_deployment_in_cooldown",
    Kind::Gauge,
    &["deployment"],
    "1 while a deployment gets no traffic, else 0.",
);

pub(super) const COOLDOWN_STATE: Row = Row::new(
    "pillion_deployment_cooldown_state",
    Kind::Gauge,
    &["deployment", "state"],
    "1 for the state a deployment is in, else 0: closed (all its traffic), half_open (probes), open (none).",
);

pub(super) const PANICS: Row = Row::new(
    "pillion_cooldown_panics_total",
    Kind::Counter,
    &["deployment"],
    "Calls to a deployment against its cooldown, because nobody else was left or because they named it by its id.",
);

pub(super) const EVENTS_SKIPPED: Row = Row::new(
    "pillion_stream_events_skipped_total",
    Kind::Counter,
    &["deployment"],
    "Events of a deployment's streams that could not be read and were passed over, because nothing of an answer was lost with them.",
);

pub(super) const CONNECTIONS_OPEN: Row = Row::new(
    "pillion_upstream_connections_open",
    Kind::Gauge,
    &[],
    "Connections to providers that are open now.",
);

pub(super) const CONNECTIONS_OPENED: Row = Row::new(
    "pillion_upstream_connections_opened_total",
    Kind::Counter,
    &[],
    "Connections to providers opened so far.",
);

pub(super) const LESSONS_DROPPED: Row = Row::new(
    "pillion_lessons_dropped_total",
    Kind::Counter,
    &[],
    "Waits and failures of tries that were not learned from, because too many came at once.",
);

pub(super) const GOSSIP_MEMBERS: Row = Row::new(
    "pillion_gossip_members",
    Kind::Gauge,
    &[],
    "Sidecars that share what they see, this one included. Absent, like all that follows of gossip, where it is off or has no key yet.",
);

pub(super) const GOSSIP_VIEW_AGE: Row = Row::new(
    "pillion_gossip_view_age_seconds",
    Kind::Gauge,
    &[],
    "How long ago anything was last heard of another sidecar; infinite before that.",
);

pub(super) const GOSSIP_DATAGRAMS: Row = Row::new(
    "pillion_gossip_datagrams_total",
    Kind::Counter,
    &["direction"],
    "Datagrams of gossip, by direction (in, out).",
);

pub(super) const GOSSIP_BYTES: Row = Row::new(
    "pillion_gossip_bytes_total",
    Kind::Counter,
    &["direction"],
    "Bytes of these, without headers of UDP and IP.",
);

pub(super) const GOSSIP_DROPPED: Row = Row::new(
    "pillion_gossip_datagrams_dropped_total",
    Kind::Counter,
    &["reason"],
    "Datagrams that were dropped: unsealed by none of the keys or changed (forged), seen before (replayed), from a stranger whose clock is off (stale), cut or too long (truncated), under a key that is not here (unknown_key), of another version (version), or not taken by the network (unsent).",
);

pub(super) const GOSSIP_RECORDS_DROPPED: Row = Row::new(
    "pillion_gossip_records_dropped_total",
    Kind::Counter,
    &[],
    "Records of datagrams that could not be read, or said what cannot be, and news that waited with too many others.",
);

pub(super) const GOSSIP_WEIGHT: Row = Row::new(
    "pillion_gossip_weight",
    Kind::Gauge,
    &["deployment"],
    "How many answers of the last ten seconds or so the fleet's word on a deployment stands for.",
);

pub(super) const CONFIG_GENERATION: Row = Row::new(
    "pillion_config_generation",
    Kind::Gauge,
    &[],
    "The generation of the configuration that is served.",
);

pub(super) const CONFIG_IN_SYNC: Row = Row::new(
    "pillion_config_in_sync",
    Kind::Gauge,
    &[],
    "1 while the configuration served is the one on the disk, else 0.",
);

pub(super) const CONFIG_LAST_RELOAD_SUCCESS: Row = Row::new(
    "pillion_config_last_reload_success",
    Kind::Gauge,
    &[],
    "1 where the last attempt to load the configuration worked, else 0.",
);

pub(super) const CONFIG_LAST_RELOAD_TIMESTAMP: Row = Row::new(
    "pillion_config_last_reload_timestamp_seconds",
    Kind::Gauge,
    &[],
    "When the configuration that is served was loaded, in Unix time.",
);

pub(super) const CONFIG_RELOADS: Row = Row::new(
    "pillion_config_reloads_total",
    Kind::Counter,
    &["result"],
    "Attempts to load the configuration again, by result (success, failure).",
);

pub(super) const ACCESS_LOG_DROPPED: Row = Row::new(
    "pillion_access_log_dropped_total",
    Kind::Counter,
    &[],
    "Lines of the access log that were dropped because its reader is too slow.",
);

pub(super) const BUILD: Row = Row::new(
    "pillion_build_info",
    Kind::Gauge,
    &["version"],
    "Always 1; the version is in the label.",
);

pub(super) const RESIDENT_MEMORY: Row =
    Row::new("process_resident_memory_bytes", Kind::Gauge, &[], "Resident memory.");

pub(super) const CPU: Row = Row::new(
    "process_cpu_seconds_total",
    Kind::FractionCounter,
    &[],
    "CPU time of user and system.",
);

pub(super) const START_TIME: Row = Row::new(
    "process_start_time_seconds",
    Kind::Gauge,
    &[],
    "When the process started, in Unix time.",
);

/// The table as Markdown, for the README.
pub fn markdown() -> String {
    use std::fmt::Write;
    let mut text = String::from("| metric | kind | labels | what it says |\n|---|---|---|---|\n");
    for row in TABLE {
        let labels: Vec<_> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (row.name, row.kind.as_str(), labels.join(" "));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {} |", row.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "<!-- metrics -->\n";
    const CLOSE: &str = "<!-- /metrics -->";

    #[test]
    fn the_readme_lists_every_metric() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let (before, rest) = readme.split_once(OPEN).unwrap();
        let (_, after) = rest.split_once(CLOSE).unwrap();
        let fresh = format!("{before}{OPEN}{}{CLOSE}{after}", markdown());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, fresh).unwrap();
        } else {
            assert!(readme == fresh, "the README is out of date; run this test with UPDATE=1");
        }
    }

    #[test]
    fn names_are_unique_and_follow_the_rules_of_prometheus() {
        let mut seen = std::collections::HashSet::new();
        for row in TABLE {
            assert!(seen.insert(row.name), "{} twice", row.name);
            assert!(row.name.starts_with("pillion_") || row.name.starts_with("process_"));
            let counts = matches!(row.kind, Kind::Counter | Kind::FractionCounter);
            assert_eq!(row.name.ends_with("_total"), counts, "{}", row.name);
            let is_time = row.kind == Kind::Histogram;
            assert!(!is_time || row.name.ends_with("_seconds"), "{}", row.name);
            assert!(row.help.ends_with('.') && !row.help.contains('|'), "{}", row.help);
        }
    }

    #[test]
    fn buckets_rise() {
        assert!(BUCKETS.is_sorted());
    }
}
