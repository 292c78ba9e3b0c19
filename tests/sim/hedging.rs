//! Hedging by the real machine of tries: what it buys, what it costs, and that it does no harm.
//!
//! A group of equal deployments. Some answers take several times as long, part of these because
//! of the request itself, which no other deployment mends. With slots and a queue, a try that
//! loses gives its slot back at once, as a provider does that a call is cancelled at.

#![expect(clippy::indexing_slicing, reason = "every index is one that the simulation made")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pillion::lexicon::{Class, DeploymentIx, Failure, time};
use pillion::routing::hedge::{Bucket, Mode, Petition, Settings as Hedge, permit};
use pillion::routing::latency::{self, Forecast, Model, Prior, Sample};
use pillion::routing::{
    Action, Ask, Attempts, Hedged, Kind, Launch, Member, Outcome, Resolved, RouteTable, Settings,
    Shape, TryId, View, Vitals,
};

use crate::clock::{nanoseconds, seconds};
use crate::table::{Table, quantile};
use crate::upstream::{Upstream, log_normal, pause, prompt};

/// Median seconds from the first token to the last, and their spread.
const OUTPUT: (f64, f64) = (3.4, 0.6);
/// How much slower a deployment is when all its slots are taken.
const STRAIN: f64 = 0.15;
/// What was learned is told to requests this often, in seconds.
const TELL: f64 = 1.0;

/// A world to hedge in.
#[derive(Clone, Copy)]
struct Scenario {
    deployments: u16,
    /// Requests per second.
    rate: f64,
    requests: u32,
    /// The length of all prompts; `None` where they differ as prompts do.
    length: Option<u32>,
    /// The part of slowness that is the request's own.
    shared: f64,
    /// Slots of a deployment; a waiting line of half as many.
    slots: usize,
    hedge: Mode,
    budget: f64,
    seed: u64,
}

/// Two deployments that never are full, and requests at a usual pace.
const OPEN: Scenario = Scenario {
    deployments: 2,
    rate: 5.0,
    requests: 40_000,
    length: Some(1_000),
    shared: 0.0,
    slots: usize::MAX / 2,
    hedge: Mode::Enabled,
    budget: 0.05,
    seed: 11,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    FirstToken(usize),
    Done(usize),
    Wake(usize),
    Tell,
}

struct Request<'t> {
    attempts: Attempts<'t>,
    arrived: f64,
    tokens: u32,
    /// How many times as long every try of it takes.
    slow: f64,
    tries: Vec<usize>,
    over: bool,
}

struct Try {
    request: usize,
    id: TryId,
    deployment: usize,
    sent: f64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Over,
    Running,
    Waiting,
}

#[derive(Default)]
struct Deployment {
    running: usize,
    waiting: VecDeque<usize>,
}

/// What was told to requests.
struct Told(Vec<Arc<Forecast>>);

impl View for Told {
    fn vitals(&self, _: DeploymentIx) -> Vitals {
        Vitals::default()
    }

    fn forecast(&self, of: DeploymentIx, _: Kind) -> Option<Arc<Forecast>> {
        self.0.get(usize::from(of.0)).cloned()
    }
}

/// What came of a run.
#[derive(Default)]
struct Seen {
    waits: Vec<f64>,
    tries: f64,
    refused: f64,
    failed: usize,
    wins: f64,
    hedges: f64,
    /// Hedged and all requests with prompts below 1,000, below 6,000 and above.
    sizes: [(f64, f64); 3],
}

struct World<'t> {
    scenario: Scenario,
    table: &'t RouteTable,
    target: &'t Resolved,
    hedge: Hedge,
    dice: Rng,
    /// The dice of routing, apart, so that looking does not change the world.
    chance: Rng,
    start: Instant,
    clock: f64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    deployments: Vec<Deployment>,
    models: Vec<Model>,
    told: Told,
    bucket: Bucket,
    requests: Vec<Request<'t>>,
    tries: Vec<Try>,
    seen: Seen,
}

fn run(scenario: Scenario) -> Seen {
    let hedge =
        Hedge { mode: scenario.hedge, budget: scenario.budget, holdout: 0.0, ..Hedge::default() };
    let settings = Settings { hedge: hedge.clone(), num_retries: 2, ..Settings::default() };
    let entry = |at: u16| {
        let member = Member::new(DeploymentIx(at));
        ("g".into(), format!("id{at}").into(), member)
    };
    let table = RouteTable::build((0..scenario.deployments).map(entry).collect(), settings);
    let target = table.resolve("g").expect("the group is there");
    let start = time::now();
    let models = vec![Model::new(start); usize::from(scenario.deployments)];
    let mut world = World {
        scenario,
        table: &table,
        target: &target,
        hedge,
        dice: Rng::with_seed(scenario.seed),
        chance: Rng::with_seed(!scenario.seed),
        start,
        clock: 0.0,
        events: BinaryHeap::new(),
        deployments: (0..scenario.deployments).map(|_| Deployment::default()).collect(),
        models,
        told: Told(Vec::new()),
        bucket: Bucket::default(),
        requests: Vec::new(),
        tries: Vec::new(),
        seen: Seen::default(),
    };
    world.tell();
    world.after(0.0, Event::Arrival);
    world.run();
    world.seen
}

impl World<'_> {
    fn run(&mut self) {
        while let Some(Reverse((at, event))) = self.events.pop() {
            self.clock = seconds(at);
            match event {
                Event::Arrival => self.arrive(),
                Event::FirstToken(at) => self.answer(at),
                Event::Done(at) => self.leave(at),
                Event::Wake(request) => self.step(request),
                Event::Tell => self.tell(),
            }
            if self.seen.waits.len() + self.seen.failed >= self.scenario.requests as usize {
                break;
            }
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.clock)
    }

    fn after(&mut self, pause: f64, event: Event) {
        self.events.push(Reverse((nanoseconds(self.clock + pause), event)));
    }

    fn tell(&mut self) {
        let (now, prior) = (self.now(), Prior::default());
        let forecasts = self.models.iter().map(|model| Arc::new(model.forecast(&prior, now)));
        self.told = Told(forecasts.collect());
        self.after(TELL, Event::Tell);
    }

    fn arrive(&mut self) {
        let pause = pause(self.scenario.rate, &mut self.dice);
        self.after(pause, Event::Arrival);
        let tokens = self.scenario.length.unwrap_or_else(|| prompt(&mut self.dice));
        let usual = Upstream::USUAL;
        let late = self.dice.f64() < usual.stragglers * self.scenario.shared;
        let (least, most) = usual.times;
        let slow = if late { least + (most - least) * self.dice.f64() } else { 1.0 };
        let shape = Shape { stream: true, length: tokens, ..Shape::default() };
        let attempts = Attempts::new(self.table, Ask::new(self.target, shape))
            .expect("the target is of this table");
        #[expect(clippy::cast_precision_loss, reason = "a cost")]
        self.bucket.fill(tokens as f32, self.hedge.budget);
        let arrived = self.clock;
        let tries = Vec::new();
        self.requests.push(Request { attempts, arrived, tokens, slow, tries, over: false });
        self.step(self.requests.len() - 1);
    }

    /// Does what the machine of a request wants.
    fn step(&mut self, at: usize) {
        while !self.requests[at].over {
            let (now, entropy) = (self.now(), self.chance.u64(..));
            let tokens = self.requests[at].tokens;
            match self.requests[at].attempts.poll(now, entropy, &self.told) {
                Action::Fail(_) => {
                    self.seen.failed += 1;
                    self.requests[at].over = true;
                }
                Action::Queue(_) => unreachable!("there is no limit"),
                Action::Late(_) => {
                    let petition = Petition {
                        settings: &self.hedge,
                        mode: self.hedge.mode,
                        eligible: true,
                        prompt_tokens: tokens,
                        failing: 0.0,
                        pair: true,
                        entropy,
                    };
                    #[expect(clippy::cast_precision_loss, reason = "a cost")]
                    let granted = permit(&petition, || self.bucket.pay(tokens as f32));
                    self.requests[at].attempts.permit(granted);
                }
                Action::Launch(launch) => self.send(at, &launch),
                Action::Wait(None) => return,
                Action::Wait(Some(until)) => {
                    let pause = until.saturating_duration_since(now).as_secs_f64();
                    // A microsecond later, so that rounding does not make it too early for ever.
                    return self.after(pause + 1e-6, Event::Wake(at));
                }
            }
        }
    }

    fn send(&mut self, request: usize, launch: &Launch<'_>) {
        let to = usize::from(launch.member.deployment.0);
        self.seen.tries += 1.0;
        let own = &mut self.deployments[to];
        let fits = own.running < self.scenario.slots;
        if !fits && own.waiting.len() >= self.scenario.slots / 2 {
            self.seen.refused += 1.0;
            let full = Outcome::Failed(Failure::new(Class::RateLimit, 429));
            let (now, entropy) = (self.now(), self.chance.u64(..));
            return self.requests[request].attempts.on(launch.id, full, now, entropy, &self.told);
        }
        let at = self.tries.len();
        let state = if fits { State::Running } else { State::Waiting };
        self.tries.push(Try { request, id: launch.id, deployment: to, sent: self.clock, state });
        self.requests[request].tries.push(at);
        if fits {
            self.begin(at);
        } else {
            self.deployments[to].waiting.push_back(at);
        }
    }

    fn begin(&mut self, at: usize) {
        self.tries[at].state = State::Running;
        let (to, request) = (self.tries[at].deployment, self.tries[at].request);
        self.deployments[to].running += 1;
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let busy = self.deployments[to].running as f64 / self.scenario.slots as f64;
        let usual = Upstream::USUAL;
        let upstream = Upstream {
            stragglers: usual.stragglers * (1.0 - self.scenario.shared),
            slowdown: self.requests[request].slow * (1.0 + STRAIN * busy),
            ..usual
        };
        let first = upstream.sample(self.requests[request].tokens, &mut self.dice);
        self.after(first, Event::FirstToken(at));
    }

    /// A first token came: the others of its request have lost.
    fn answer(&mut self, at: usize) {
        let Try { request, id, sent, state, .. } = self.tries[at];
        if state != State::Running {
            return;
        }
        let (now, entropy) = (self.now(), self.chance.u64(..));
        self.requests[request].attempts.on(id, Outcome::Committed, now, entropy, &self.told);
        self.learn(at, sent, latency::Seen::Answered);
        for loser in std::mem::take(&mut self.requests[request].tries) {
            if loser != at && self.tries[loser].state != State::Over {
                self.learn(loser, self.tries[loser].sent, latency::Seen::Censored);
                self.leave(loser);
            }
        }
        self.note(request, id);
        let output = log_normal(OUTPUT.0, OUTPUT.1, &mut self.dice);
        self.after(output, Event::Done(at));
    }

    fn note(&mut self, at: usize, winner: TryId) {
        let request = &mut self.requests[at];
        request.over = true;
        let hedged = request.attempts.hedged() == Hedged::Made;
        let size = match request.tokens {
            ..1_000 => 0,
            1_000..6_000 => 1,
            6_000.. => 2,
        };
        let seen = &mut self.seen;
        seen.waits.push(self.clock - request.arrived);
        seen.hedges += f64::from(u8::from(hedged));
        seen.wins += f64::from(u8::from(hedged && winner.0 > 0));
        if request.tokens <= self.hedge.max_prompt_tokens {
            seen.sizes[size].0 += f64::from(u8::from(hedged));
            seen.sizes[size].1 += 1.0;
        }
    }

    fn learn(&mut self, at: usize, sent: f64, seen: latency::Seen) {
        let (now, of) = (self.now(), &self.tries[at]);
        let prompt_tokens = self.requests[of.request].tokens;
        let waited = Duration::from_secs_f64(self.clock - sent);
        let sample = Sample { prompt_tokens, waited, seen };
        self.models[of.deployment].learn(&sample, &Prior::default(), now);
    }

    /// A try gives its slot back, or its place in the line.
    fn leave(&mut self, at: usize) {
        let Try { deployment, state, .. } = self.tries[at];
        self.tries[at].state = State::Over;
        let own = &mut self.deployments[deployment];
        match state {
            State::Over => {}
            State::Waiting => own.waiting.retain(|other| *other != at),
            State::Running => {
                own.running -= 1;
                if let Some(next) = own.waiting.pop_front() {
                    self.begin(next);
                }
            }
        }
    }
}

/// A row of the table.
struct Summary {
    /// Seconds at the 50th, 95th, 99th and 99.9th percentile.
    waits: [f64; 4],
    hedged: f64,
    sizes: [f64; 3],
    refused: f64,
}

fn row(table: &mut Table, name: &str, scenario: Scenario) -> Summary {
    let mut seen = run(scenario);
    let requests = f64::from(scenario.requests);
    let percent = |part: f64, all: f64| 100.0 * part / all.max(1.0);
    let summary = Summary {
        waits: [0.5, 0.95, 0.99, 0.999].map(|part| quantile(&mut seen.waits, part)),
        hedged: percent(seen.hedges, requests),
        sizes: seen.sizes.map(|(hedged, all)| percent(hedged, all)),
        refused: percent(seen.refused, seen.tries),
    };
    let [p50, p95, p99, p999] = summary.waits;
    let [short, middle, long] = summary.sizes;
    table.row(&[
        name.to_owned(),
        format!("{p50:.2}/{p95:.2}"),
        format!("{p99:.2}/{p999:.2}"),
        format!("{:.1} %", summary.hedged),
        format!("{:.0} %", percent(seen.wins, seen.hedges)),
        format!("{short:.1}/{middle:.1}/{long:.1} %"),
        format!("{:.2} %", summary.refused),
    ]);
    summary
}

const HEADS: [&str; 7] = ["", "p50/p95 s", "p99/p99.9 s", "hedged", "won", "short/mid/long", "429"];

#[test]
fn a_second_try_cuts_the_tail_within_its_budget() {
    let mut table = Table::new("hedging at p95, two deployments, 2.5 % stragglers", &HEADS);
    let off = Scenario { hedge: Mode::Disabled, ..OPEN };
    let without = row(&mut table, "without", off);
    let with = row(&mut table, "with", OPEN);
    let half = Scenario { shared: 0.5, ..OPEN };
    let half_without =
        row(&mut table, "half is shared, without", Scenario { hedge: Mode::Disabled, ..half });
    let half_with = row(&mut table, "half is shared, with", half);
    let mixed = Scenario { length: None, ..OPEN };
    row(&mut table, "all sizes, without", Scenario { hedge: Mode::Disabled, ..mixed });
    row(&mut table, "all sizes, with", mixed);
    let free = row(&mut table, "all sizes, no budget", Scenario { budget: 1.0, ..mixed });
    let observed = row(&mut table, "observed", Scenario { hedge: Mode::Observe, ..OPEN });
    table.print();
    let cut = |with: &Summary, without: &Summary| 1.0 - with.waits[2] / without.waits[2];
    assert!(cut(&with, &without) >= 0.60, "p99 is cut by {}", cut(&with, &without));
    assert!(with.hedged <= 5.5, "{} % are hedged", with.hedged);
    let shared = cut(&half_with, &half_without);
    assert!(shared >= 0.35, "with half of the slowness shared p99 is cut by {shared}");
    assert!(half_with.hedged <= 5.5);
    for size in free.sizes {
        assert!((3.0..=8.0).contains(&size), "{size} % of a size are hedged");
    }
    assert_eq!(
        (observed.hedged, observed.waits),
        (0.0, without.waits),
        "observing changes nothing"
    );
}

#[test]
fn under_load_the_budget_keeps_hedges_from_doing_harm() {
    let mut table = Table::new("hedging under load, three deployments of 150 slots", &HEADS);
    // A request takes some five seconds, so that 90 of them per second fill all slots.
    for (load, rate) in [("62 %", 56.0), ("98 %", 88.0)] {
        let loaded = Scenario {
            deployments: 3,
            rate,
            length: None,
            slots: 150,
            hedge: Mode::Disabled,
            ..OPEN
        };
        let hedged = Scenario { hedge: Mode::Enabled, ..loaded };
        let without = row(&mut table, &format!("{load}, without"), loaded);
        let with = row(&mut table, &format!("{load}, with"), hedged);
        row(&mut table, &format!("{load}, no budget"), Scenario { budget: 1.0, ..hedged });
        assert!(with.refused <= without.refused + 0.5, "{} % refused", with.refused);
        assert!(with.waits[2] < without.waits[2], "the tail is no longer than without");
        assert!(with.hedged <= 5.5, "{} % hedged", with.hedged);
    }
    table.print();
}
