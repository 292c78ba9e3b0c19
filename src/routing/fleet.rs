//! What sidecars tell each other about deployments: the shape between those who see and those who
//! carry it.
//!
//! A [`Witness`] is what this sidecar has seen of one deployment; a [`FleetView`] is what all of
//! them have seen. The view is advice: a deployment that it does not name is known by local
//! knowledge alone, and nothing in it can take the last candidate away. Knows nothing of how it
//! travels.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::latency::Model;
use super::view::{Kind, Used};
use crate::lexicon::{Fingerprint, PicoUsd};

/// What this sidecar has seen of one deployment. Counts never fall while the process runs: who
/// misses one report learns the same from the next.
#[derive(Debug, Clone)]
pub struct Witness {
    /// Which deployment.
    pub of: Fingerprint,
    /// What tries have taught since the last report, by kind of call.
    pub taught: Vec<(Kind, Model)>,
    /// Tries running there now.
    pub in_flight: u32,
    /// Failures that speak against it, since the sidecar began; rate limits are not among them.
    pub failures: u64,
    /// How often its own probes have brought it back, since the sidecar began.
    pub recoveries: u64,
    /// The pause that the sidecar's own tries have begun; `None` where there is none, or where it
    /// only follows the advice of others.
    pub pause: Option<Pause>,
    /// Tries and tokens since the sidecar began.
    pub used: Used,
    /// Money since the sidecar began.
    pub spent: PicoUsd,
    /// The limits that the configuration wants kept, per minute.
    pub limits: Limits,
    /// Whether there is a budget, of it or of its provider.
    pub has_budget: bool,
    /// What its provider said last of its own limits.
    pub quota: Option<Quota>,
}

impl Witness {
    /// Says that it has seen nothing of a deployment: what a sidecar tells that has just begun.
    pub const fn nothing(of: Fingerprint) -> Self {
        Self {
            of,
            taught: Vec::new(),
            in_flight: 0,
            failures: 0,
            recoveries: 0,
            pause: None,
            used: Used { requests: 0, tokens: 0 },
            spent: PicoUsd::ZERO,
            limits: Limits { requests: None, tokens: None },
            has_budget: false,
            quota: None,
        }
    }
}

/// A time in which a deployment shall get no traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// How much of it is left.
    pub remaining: Duration,
    /// Why.
    pub why: Why,
}

/// Why a deployment gets no traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// Its key is not taken, or there is no money left.
    Account,
    /// Its provider has said that it had enough for now.
    Limit,
    /// It seems to be broken.
    Trouble,
}

/// Limits of a deployment that are kept, per minute; `None` is as many as come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// `rpm`.
    pub requests: Option<u64>,
    /// `tpm`.
    pub tokens: Option<u64>,
}

/// What a provider says is left of its limits for the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Of the limit of which the least is left, in thousandths.
    pub left: u16,
    /// How many tokens the provider takes in its window.
    pub tokens: Option<u32>,
    /// How long ago it said so.
    pub age: Duration,
}

/// What all sidecars together know, this one included.
#[derive(Debug, Clone, Default)]
pub struct FleetView {
    /// When it was made; `None` before there was anybody.
    pub as_of: Option<Instant>,
    /// How many sidecars are alive, this one included.
    pub members: u32,
    /// By deployment.
    pub deployments: HashMap<Fingerprint, Known>,
}

/// What is known of one deployment.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What the tries of all sidecars have taught, weighing as much as all of them together, by the
    /// position of the kind of call; `None` where nobody has made one.
    pub models: [Option<Arc<Model>>; Kind::COUNT],
    /// Tries of all sidecars running there, as an estimate.
    pub in_flight: f64,
    /// When a peer was last heard about it; `None` where no peer was.
    pub heard: Option<Instant>,
    /// Its cooldown, as agreed.
    pub cooldown: Option<Cooldown>,
    /// Whether this sidecar is the one, or one of those, to probe it now, once its pause is over.
    pub may_probe: bool,
    /// What the others have used; `None` where neither limits nor a budget are shared.
    pub others: Option<Others>,
    /// What its provider said last, to whomever.
    pub quota: Option<Quota>,
}

/// An agreed cooldown. A later epoch takes the place of an earlier one; within an epoch the longer
/// pause does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cooldown {
    /// Counts the changes from pause to recovery and back.
    pub epoch: u32,
    /// Until when; `None` is the news that it has recovered.
    pub until: Option<Instant>,
    /// Why.
    pub why: Why,
    /// Who says so.
    pub by: By,
}

/// Who speaks for a cooldown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// Several sidecars, this one included where it does.
    Many,
    /// One other, which is not believed for long: who asks after the pause probes whether it is so.
    One,
}

/// What other sidecars have used of a shared limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Others {
    /// In the minute before `as_of`.
    pub used: Used,
    /// Requests and tokens per second since, as a forecast.
    pub requests_per_second: f64,
    /// See there.
    pub tokens_per_second: f64,
    /// When that was so.
    pub as_of: Instant,
    /// How many sidecars use the limit, this one included.
    pub sharers: u32,
    /// Money of all others since they began, also of those that are gone, as far as it was heard.
    /// Never falls.
    pub spent: PicoUsd,
}
