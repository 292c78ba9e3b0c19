//! What was learned about a deployment, as requests read it: published whole, read without waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::lesson::Lessons;
use crate::routing::latency::Forecast;
use crate::routing::{Kind, Outlook};

/// What answers have taught about one deployment.
#[derive(Debug, Clone, Default)]
pub(super) struct Taught {
    /// By the position of the kind of call; `None` where there was none yet.
    pub(super) forecasts: [Option<Arc<Forecast>>; Kind::COUNT],
    /// How streams go on after their first token, likewise.
    pub(super) paces: [Pace; Kind::COUNT],
    /// Of all kinds together.
    pub(super) outlook: Outlook,
}

/// How streams go on after their first token; `None` where too few have told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// What a token takes.
    pub(super) per_token: Option<Duration>,
    /// See [`View::pause`](crate::routing::View::pause).
    pub(super) pause: Option<Duration>,
}

/// A row's side of learning: where it tells, and what it was taught.
#[derive(Debug)]
pub(super) struct Learning {
    /// When the deployment was first named.
    pub(super) began: Instant,
    pub(super) lessons: Arc<Lessons>,
    /// What those who share its group have in common.
    group: ArcSwap<Box<str>>,
    taught: ArcSwap<Taught>,
}

impl Learning {
    /// Of a deployment that is new at `now`.
    pub(super) fn new(lessons: Arc<Lessons>, now: Instant) -> Self {
        let outlook = Outlook { age: Some(0.0), ..Outlook::default() };
        let taught = Taught { outlook, ..Taught::default() };
        let (group, taught) = (ArcSwap::default(), ArcSwap::from_pointee(taught));
        Self { began: now, lessons, group, taught }
    }

    pub(super) fn set_group(&self, name: &str) {
        if ***self.group.load() != *name {
            self.group.store(Arc::new(name.into()));
        }
    }

    pub(super) fn group(&self) -> Arc<Box<str>> {
        self.group.load_full()
    }

    pub(super) fn publish(&self, taught: Taught) {
        self.taught.store(Arc::new(taught));
    }

    pub(super) fn outlook(&self) -> Outlook {
        self.taught.load().outlook
    }

    pub(super) fn forecast(&self, kind: Kind) -> Option<Arc<Forecast>> {
        self.taught.load().forecasts.get(kind.at())?.clone()
    }

    pub(super) fn pace(&self, kind: Kind) -> Pace {
        self.taught.load().paces.get(kind.at()).copied().unwrap_or_default()
    }

    pub(super) fn forecasts(&self) -> [Option<Arc<Forecast>>; Kind::COUNT] {
        self.taught.load().forecasts.clone()
    }
}
