//! What sidecars do meanwhile: they call deployments and learn from the answers.

use std::time::Duration;

use fastrand::Rng;
use pillion::lexicon::Fingerprint;
use pillion::routing::Kind;
use pillion::routing::fleet::FleetView;
use pillion::routing::latency::{Model, Prior, Quick, Sample, Seen, Slow};

use super::world::World;
use crate::upstream::{Upstream, prompt};

/// Calls of all sidecars alike, and what all of them together have learned.
pub(super) struct Traffic {
    /// Requests per second of one sidecar.
    pub(super) rate: f64,
    pub(super) upstream: Upstream,
    pub(super) pooled: Vec<Pooled>,
    dice: Rng,
}

/// What somebody would know who heard of every answer at once.
#[derive(Default)]
pub(super) struct Pooled {
    quick: Quick,
    slow: Slow,
    as_of: Duration,
}

/// Sidecars report so often.
const TELLS: f64 = 0.25;

impl Traffic {
    pub(super) fn new(rate: f64, deployments: usize, seed: u64) -> Self {
        let pooled = (0..deployments).map(|_| Pooled::default()).collect();
        Self { rate, upstream: Upstream::USUAL, pooled, dice: Rng::with_seed(seed) }
    }

    /// What a sidecar does between two reports.
    pub(super) fn live(&mut self, world: &mut World, at: usize) {
        let mut calls = 0;
        while self.dice.f64() < self.rate * TELLS / (1.0 + self.rate * TELLS) {
            calls += 1;
        }
        if calls == 0 {
            return;
        }
        let now = world.instant();
        let view = world.nodes[at].node.view(now);
        for _ in 0..calls {
            let deployment = self.dice.usize(..self.pooled.len());
            let prompt_tokens = prompt(&mut self.dice);
            let seconds = self.upstream.sample(prompt_tokens, &mut self.dice);
            let waited = Duration::from_secs_f64(seconds);
            let sample = Sample { prompt_tokens, waited, seen: Seen::Answered };
            let witness = &mut world.nodes[at].witnesses[deployment];
            let mut model = Model::new(now);
            model.learn(&sample, &prior(&view, witness.of, now), now);
            self.pooled[deployment].add(&model, world.now, now);
            witness.used.requests += 1;
            witness.taught.push((Kind::default(), model));
        }
    }
}

/// What is predicted, which residuals are multiples of.
fn prior(view: &FleetView, of: Fingerprint, now: std::time::Instant) -> Prior {
    let known = view.deployments.get(&of).and_then(|it| it.models[Kind::default().at()].as_ref());
    known.map_or_else(Prior::default, |model| model.prior(&Prior::default(), now))
}

impl Pooled {
    fn add(&mut self, model: &Model, at: Duration, now: std::time::Instant) {
        let elapsed = at.saturating_sub(self.as_of);
        self.quick.age(elapsed);
        self.slow.age(elapsed);
        self.as_of = at;
        let (quick, slow) = model.parts(now);
        self.quick.add(&quick);
        self.slow.add(&slow);
    }

    /// The model of all answers.
    pub(super) fn model(&self, now: std::time::Instant) -> Model {
        Model::of_parts(&self.quick, &self.slow, now)
    }
}
