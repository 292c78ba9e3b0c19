//! What one configuration looks like to a request: the snapshot's parts and the rows beside it.

use std::time::{Duration, Instant};

use http::HeaderValue;

use crate::admit::{Keyring, Pages};
use crate::lexicon::{CooldownState, DeploymentIx};
use crate::provider::Deployment;
use crate::registry::Price;
use crate::routing::{Group, Member, RouteTable, View};
use crate::stats::{GroupHedges, Hedges, Rows};

/// What a request may cost in bytes and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest head of a request; 64 KiB by default, and never less than 8 KiB.
    pub max_head_bytes: usize,
    /// The longest request body; 32 MiB by default.
    pub max_body_bytes: u64,
    /// How long a request body may take to arrive; 60 s by default.
    pub body_timeout: Duration,
    /// The longest answer that is not streamed; 64 MiB by default.
    pub max_answer_bytes: u64,
    /// How many requests are served at once; `None`, the default, is as many as come.
    pub max_parallel_requests: Option<u32>,
    /// How much memory bodies may take before further requests are turned away; 256 MiB by
    /// default. Answers in one piece may take as much again.
    pub max_buffered_bytes: u64,
    /// How many requests wait for a seat of one model group; 100 by default.
    pub max_queued_requests: u32,
    /// How long a request waits for one; 10 s by default, and zero is not at all.
    pub queue_timeout: Duration,
}

impl Limits {
    /// How much memory there is for bodies when answers are among them: room for what runs to end,
    /// where requests alone have used up theirs.
    pub(super) fn max_buffered_in_all(&self) -> u64 {
        self.max_buffered_bytes.saturating_mul(2)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head_bytes: 64 * 1024,
            max_body_bytes: 32 * 1024 * 1024,
            body_timeout: Duration::from_secs(60),
            max_answer_bytes: 64 * 1024 * 1024,
            max_parallel_requests: None,
            max_buffered_bytes: 256 * 1024 * 1024,
            max_queued_requests: 100,
            queue_timeout: Duration::from_secs(10),
        }
    }
}

/// One configuration in force. Lists run parallel to the deployments.
#[derive(Debug)]
pub struct Live {
    /// Names to candidates.
    pub routes: RouteTable,
    /// The deployments.
    pub deployments: Box<[Deployment]>,
    /// Their prices.
    pub prices: Box<[Option<Price>]>,
    /// Their live numbers.
    pub rows: Rows,
    /// Who may ask.
    pub keyring: Keyring,
    /// Which pages of a browser may.
    pub pages: Pages,
    /// What a request may cost.
    pub limits: Limits,
    /// What may be spent on hedges, by group.
    pub hedges: GroupHedges,
    badges: Box<[Badge]>,
}

/// What every answer of a deployment says about it.
#[derive(Debug)]
pub(super) struct Badge {
    pub(super) model_id: HeaderValue,
    pub(super) model_name: HeaderValue,
    pub(super) api_base: HeaderValue,
    /// `x-pillion-route` of an answer at the first try.
    pub(super) route: HeaderValue,
}

impl Live {
    /// Puts the parts together.
    pub fn new(
        routes: RouteTable,
        deployments: Box<[Deployment]>,
        prices: Box<[Option<Price>]>,
        rows: Rows,
        keyring: Keyring,
        limits: Limits,
    ) -> Self {
        let badges = deployments.iter().enumerate();
        let badges = badges.map(|(at, it)| Badge::of(it, strategy_of(&routes, at))).collect();
        let (hedges, pages) = (GroupHedges::default(), Pages::all());
        Self { routes, deployments, prices, rows, keyring, pages, limits, hedges, badges }
    }

    /// The same with what its groups may spend on hedges; without, they may spend nothing.
    #[must_use]
    pub fn with_hedges(self, hedges: GroupHedges) -> Self {
        Self { hedges, ..self }
    }

    /// The same for these pages; without, all may ask.
    #[must_use]
    pub fn with_pages(self, pages: Pages) -> Self {
        Self { pages, ..self }
    }

    pub(super) fn deployment(&self, at: DeploymentIx) -> Option<&Deployment> {
        self.deployments.get(at.at())
    }

    /// The group and the member that a deployment is.
    pub(super) fn member(&self, at: DeploymentIx) -> Option<(&Group, &Member)> {
        self.routes.groups().iter().find_map(|group| {
            Some((group, group.members.iter().find(|member| member.deployment == at)?))
        })
    }

    /// The hedges of the group of a deployment.
    pub(super) fn hedges_of(&self, at: DeploymentIx) -> Option<&Hedges> {
        let (group, _) = self.member(at)?;
        self.hedges.get(group.at).map(|hedges| &**hedges)
    }

    /// How far a deployment is kept away from traffic.
    pub fn cooldown(&self, at: DeploymentIx, now: Instant) -> CooldownState {
        let group = self.member(at).map(|(group, _)| group);
        group.map_or_else(CooldownState::default, |group| group.state(&self.rows.vitals(at), now))
    }

    pub(super) fn price(&self, at: DeploymentIx) -> Option<&Price> {
        self.prices.get(at.at())?.as_ref()
    }

    pub(super) fn badge(&self, at: DeploymentIx) -> Option<&Badge> {
        self.badges.get(at.at())
    }
}

/// The strategy by which a deployment is chosen.
fn strategy_of(routes: &RouteTable, at: usize) -> &'static str {
    let has = |group: &&Group| group.members.iter().any(|it| it.deployment.at() == at);
    let group = routes.groups().iter().find(has);
    group.map_or(routes.settings().strategy, |group| group.strategy).name()
}

impl Badge {
    fn of(deployment: &Deployment, strategy: &str) -> Self {
        let base = deployment.base.to_string();
        Self {
            model_id: value(&deployment.id),
            model_name: value(&deployment.name),
            api_base: value(base.trim_end_matches('/')),
            route: value(&super::head::route_line(deployment, strategy, 1, &[])),
        }
    }
}

/// A header value of visible text; what cannot stand in a header becomes `?`.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| {
        let safe: String =
            text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        HeaderValue::from_str(&safe).unwrap_or(HeaderValue::from_static("?"))
    })
}
