//! All that routing may know about the deployments at this moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::latency::Forecast;
use super::strategy::adaptive::FleetLoad;
use crate::lexicon::{DeploymentIx, PicoUsd, Tokens};

/// The state of one deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vitals {
    /// Tries running there now.
    pub in_flight: u32,
    /// Until when it gets no traffic; `None` or a moment in the past means it does.
    pub cooling_until: Option<Instant>,
    /// How many probes run there, where its pause is followed by some; else `None`.
    pub probes: Option<u32>,
    /// When it came back after its last pause, where it has to be warmed up. Picks see to that:
    /// no strategy has to.
    pub warm_since: Option<Instant>,
    /// Until when it would get no traffic if this sidecar knew of no other: at most
    /// `cooling_until`.
    pub own_until: Option<Instant>,
    /// Until when its probes are left to another sidecar.
    pub probed_elsewhere_until: Option<Instant>,
}

impl Vitals {
    /// Whether it is in cooldown at `now`.
    pub fn is_cooling(&self, now: Instant) -> bool {
        self.cooling_until.is_some_and(|until| until > now)
    }

    /// Whether what this sidecar has seen itself keeps it in cooldown at `now`.
    pub fn is_cooling_by_own_evidence(&self, now: Instant) -> bool {
        self.own_until.is_some_and(|until| until > now)
    }

    /// Whether its probes are left to another sidecar at `now`.
    pub fn is_probed_elsewhere(&self, now: Instant) -> bool {
        self.probed_elsewhere_until.is_some_and(|until| until > now)
    }

    /// Whether its pause is over and probes have to show that it is well.
    pub fn is_half_open(&self, now: Instant) -> bool {
        self.probes.is_some() && !self.is_cooling(now)
    }
}

/// What a sidecar has learned about a deployment, for the choice between several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// How many recent answers `latency` is the mean of, decayed; zero means it is a guess.
    pub samples: f32,
    /// Seconds to the first token of the reference prompt, over the last ten seconds or so.
    pub latency: f32,
    /// The share of recent tries that failed, from 0 to 1.
    pub failure_share: f32,
    /// What a failure costs the caller, in seconds: 5, or as long as the provider asks for.
    pub failure_cost: f32,
    /// What is left of the provider's limits, from 0 to 1: the least of requests and tokens.
    pub quota_left: f32,
    /// How many requests may run there at once, or any measure that is proportional to it.
    pub capacity: Option<f32>,
    /// Seconds since it was new; `None` is long ago.
    pub age: Option<f32>,
}

/// Nothing known: the shipped prior's latency, no failures, all of its quota.
impl Default for Outlook {
    fn default() -> Self {
        Self {
            samples: 0.0,
            latency: 0.8,
            failure_share: 0.0,
            failure_cost: 5.0,
            quota_left: 1.0,
            capacity: None,
            age: None,
        }
    }
}

/// What waits depend on besides the deployment and the prompt: what is waited for, and how long a
/// model thinks before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kind {
    /// Whether the first event with content ends the wait, or the whole answer.
    pub stream: bool,
    /// How hard the model is asked to think.
    pub effort: Effort,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = 2 * Effort::COUNT;

    /// All kinds, in the order of their positions.
    pub fn all() -> impl Iterator<Item = Self> {
        let both = |effort| [false, true].map(|stream| Self { stream, effort });
        Effort::ALL.into_iter().flat_map(both)
    }

    /// One kind of whole answers and one of streams.
    pub fn answers() -> [Self; 2] {
        [false, true].map(|stream| Self { stream, ..Self::default() })
    }

    /// The position in tables by kind.
    pub const fn at(self) -> usize {
        self.effort as usize * 2 + self.stream as usize
    }
}

/// `reasoning_effort`, as coarse as waits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// Nothing was said.
    #[default]
    Unset,
    /// `none`, `minimal` or `low`.
    Low,
    /// `medium`.
    Medium,
    /// `high` or more.
    High,
}

impl Effort {
    const COUNT: usize = Self::ALL.len();

    /// All of them, from the least.
    const ALL: [Self; 4] = [Self::Unset, Self::Low, Self::Medium, Self::High];

    /// The effort by its name in OpenAI's API; a name that nobody knows is the highest.
    pub fn named(name: &str) -> Self {
        match name {
            "" => Self::Unset,
            "none" | "minimal" | "low" => Self::Low,
            "medium" => Self::Medium,
            _ => Self::High,
        }
    }
}

/// What the samples of a deployment measure. One is never compared with the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// From a call to the first content of its stream.
    FirstToken,
    /// What each token of a whole answer took; all of it where the answer has no tokens.
    PerToken,
}

/// One try that is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// What was measured, in seconds; `None` where the try failed.
    pub seconds: Option<f64>,
    /// How long ago that was.
    pub age: Duration,
}

/// The newest samples of a deployment, the newest first.
pub type Samples = SmallVec<[Sample; 10]>;

/// What was asked of a deployment within some time, calls that run included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Tries, failed ones too.
    pub requests: u64,
    /// Tokens of answers, and the estimated prompts of calls that run.
    pub tokens: Tokens,
}

/// What the fleet asks of a deployment, refused requests too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Requests.
    pub requests_per_second: f64,
    /// Tokens.
    pub tokens_per_second: f64,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Tries.
    Requests,
    /// Tokens.
    Tokens,
}

/// Whose money a budget is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payer {
    /// One deployment.
    Deployment,
    /// All deployments of its provider.
    Provider,
}

/// What was spent in the current window of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// How much.
    pub amount: PicoUsd,
    /// When the window ends and the sum begins anew.
    pub until: Instant,
}

/// The state of all deployments. What a view does not keep, it says nothing about.
pub trait View {
    /// The state of one; the default for a position it does not know.
    fn vitals(&self, of: DeploymentIx) -> Vitals;

    /// What the last seconds have taught.
    fn outlook(&self, _of: DeploymentIx) -> Outlook {
        Outlook::default()
    }

    /// What answers to calls of this kind have taught.
    fn forecast(&self, _of: DeploymentIx, _kind: Kind) -> Option<Arc<Forecast>> {
        None
    }

    /// The longest pause that a stream makes between two events with content: that of all but one
    /// of a hundred. `None` where too few have told.
    fn pause(&self, _of: DeploymentIx, _kind: Kind) -> Option<Duration> {
        None
    }

    /// What the fleet has running there; `None` where there is none, or nobody to tell.
    fn fleet_load(&self, _of: DeploymentIx, _now: Instant) -> Option<FleetLoad> {
        None
    }

    /// What the fleet asks of it, where others use the same limits.
    fn demand(&self, _of: DeploymentIx, _now: Instant) -> Option<Demand> {
        None
    }

    /// What was used in the last `window`, a minute at most, by all that are known to use the same
    /// limits.
    fn used(&self, _of: DeploymentIx, _window: Duration, _now: Instant) -> Used {
        Used::default()
    }

    /// When no more than `most` is left of what was used in the last minute, if nothing is added.
    fn eases(&self, _of: DeploymentIx, _what: Counted, _most: u64, now: Instant) -> Instant {
        now
    }

    /// The newest `most` samples of one measure.
    fn samples(
        &self,
        _of: DeploymentIx,
        _measure: Measure,
        _most: usize,
        _now: Instant,
    ) -> Samples {
        Samples::new()
    }

    /// What was spent; `None` where nothing was since the last window ended.
    fn spent(&self, _of: DeploymentIx, _payer: Payer, _now: Instant) -> Option<Spent> {
        None
    }
}
