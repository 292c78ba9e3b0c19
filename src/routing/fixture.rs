//! A view that says what a test wants.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::strategy::{Candidates, Scene, Shape, Strategy};
use super::table::Member;
use super::view::{Counted, Demand, Measure, Payer, Sample, Samples, Spent, Used, View, Vitals};
use crate::lexicon::{DeploymentIx, time};

/// The state of some deployments; of all others nothing is known.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    vitals: HashMap<u16, Vitals>,
    used: HashMap<u16, Used>,
    first_tokens: HashMap<u16, Samples>,
    per_token: HashMap<u16, Samples>,
    spent: HashMap<(u16, bool), Spent>,
    demand: HashMap<u16, Demand>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            now: time::now(),
            vitals: HashMap::new(),
            used: HashMap::new(),
            first_tokens: HashMap::new(),
            per_token: HashMap::new(),
            spent: HashMap::new(),
            demand: HashMap::new(),
        }
    }
}

impl World {
    pub(super) fn set_busy(&mut self, of: u16, in_flight: u32) {
        self.vitals.insert(of, Vitals { in_flight, ..Vitals::default() });
    }

    pub(super) fn set_vitals(&mut self, of: u16, vitals: Vitals) {
        self.vitals.insert(of, vitals);
    }

    pub(super) fn set_cooling(&mut self, of: u16, until: Instant) {
        let (cooling_until, own_until) = (Some(until), Some(until));
        self.vitals.insert(of, Vitals { cooling_until, own_until, ..Vitals::default() });
    }

    pub(super) fn set_demand(&mut self, of: u16, demand: Demand) {
        self.demand.insert(of, demand);
    }

    pub(super) fn set_used(&mut self, of: u16, used: Used) {
        self.used.insert(of, used);
    }

    pub(super) fn set_spent(&mut self, of: u16, payer: Payer, spent: Spent) {
        self.spent.insert((of, payer == Payer::Provider), spent);
    }

    /// Samples of both measures, the newest first.
    pub(super) fn set_samples(&mut self, of: u16, samples: impl Iterator<Item = Sample>) {
        let samples: Samples = samples.collect();
        self.first_tokens.insert(of, samples.clone());
        self.per_token.insert(of, samples);
    }

    /// Fresh samples of one measure.
    pub(super) fn set_took(&mut self, of: u16, measure: Measure, seconds: &[f64]) {
        let fresh = |seconds: &f64| Sample { seconds: Some(*seconds), age: Duration::ZERO };
        let samples = seconds.iter().map(fresh).collect();
        match measure {
            Measure::FirstToken => self.first_tokens.insert(of, samples),
            Measure::PerToken => self.per_token.insert(of, samples),
        };
    }

    /// A call without a stream.
    pub(super) fn scene(&self, entropy: u64) -> Scene<'_, Self> {
        Scene { view: self, shape: Shape::default(), now: self.now, entropy }
    }

    /// All that a strategy chooses of `members` over evenly spread entropy.
    pub(super) fn chosen(&self, strategy: Strategy, members: &[Member], shape: Shape) -> Vec<u16> {
        let left: Candidates<'_> = members.iter().collect();
        let chosen: BTreeSet<u16> = (0..64u64)
            .filter_map(|step| {
                let scene = Scene { shape, ..self.scene(step << 58) };
                strategy.choose(&left, &scene).map(|member| member.deployment.0)
            })
            .collect();
        chosen.into_iter().collect()
    }
}

/// Members of which nothing is configured.
pub(super) fn members(count: u16) -> Vec<Member> {
    (0..count).map(|at| Member::new(DeploymentIx(at))).collect()
}

impl View for World {
    fn vitals(&self, of: DeploymentIx) -> Vitals {
        self.vitals.get(&of.0).copied().unwrap_or_default()
    }

    fn demand(&self, of: DeploymentIx, _now: Instant) -> Option<Demand> {
        self.demand.get(&of.0).copied()
    }

    fn used(&self, of: DeploymentIx, _window: Duration, _now: Instant) -> Used {
        self.used.get(&of.0).copied().unwrap_or_default()
    }

    fn eases(&self, of: DeploymentIx, _what: Counted, _most: u64, now: Instant) -> Instant {
        now + Duration::from_secs(10 + u64::from(of.0))
    }

    fn samples(&self, of: DeploymentIx, measure: Measure, most: usize, _now: Instant) -> Samples {
        let all = match measure {
            Measure::FirstToken => self.first_tokens.get(&of.0),
            Measure::PerToken => self.per_token.get(&of.0),
        };
        all.into_iter().flatten().take(most).copied().collect()
    }

    fn spent(&self, of: DeploymentIx, payer: Payer, _now: Instant) -> Option<Spent> {
        self.spent.get(&(of.0, payer == Payer::Provider)).copied()
    }
}
