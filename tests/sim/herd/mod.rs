//! Many sidecars before three deployments, one of which becomes four times slower for a minute.
//!
//! Every sidecar knows only what it saw itself. Deployments have slots and a short queue, and
//! refuse what does not fit; the busier they are the slower they answer.

#![expect(clippy::indexing_slicing, reason = "every index is one that the simulation made")]

mod policy;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use fastrand::Rng;

use self::policy::{Pending, Policy, Told};
use crate::clock::{nanoseconds, seconds};
use crate::table::{Table, quantile};
use crate::upstream::{Upstream, log_normal, pause, prompt};

const DEPLOYMENTS: usize = 3;
const BASES: [f64; DEPLOYMENTS] = [0.35, 0.45, 0.55];
/// Requests per second of all pods.
const RATE: f64 = 50.0;
const SLOTS: usize = 150;
const QUEUE: usize = 75;
/// How much slower a deployment is when all its slots are taken.
const STRAIN: f64 = 0.15;
/// Median seconds from the first token to the last, and their spread.
const OUTPUT: (f64, f64) = (3.4, 0.6);
/// Tries of one request, each somewhere else.
const TRIES: usize = 3;
const INCIDENT: (f64, f64) = (120.0, 180.0);
const SETTLED: f64 = 40.0;
const END: f64 = 240.0;

/// Something that happens, the least first; times are in nanoseconds so that they have an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    FirstToken(usize),
    Done(usize),
}

struct Request {
    pod: usize,
    tokens: u32,
    arrived: f64,
    sent: f64,
    deployment: usize,
}

#[derive(Default)]
struct Deployment {
    running: usize,
    waiting: VecDeque<usize>,
}

/// What happens to the first deployment in the incident.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    /// Half of its tries fail at once.
    Failing,
    /// Everything takes four times as long.
    Slow,
}

/// The world of one run.
struct World {
    dice: Rng,
    clock: f64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    deployments: [Deployment; DEPLOYMENTS],
    requests: Vec<Request>,
    pods: usize,
    trouble: Trouble,
    policy: Policy,
    seen: Seen,
}

/// What callers saw.
#[derive(Default)]
struct Seen {
    steady: Vec<f64>,
    incident: Vec<f64>,
    recovery: Vec<f64>,
    tries: f64,
    refused: f64,
    failed: f64,
    /// Requests of each second, and how many of these went to the first deployment.
    seconds: Vec<(f64, f64)>,
}

impl World {
    fn new(policy: Policy, pods: usize, trouble: Trouble, seed: u64) -> Self {
        let mut world = Self {
            dice: Rng::with_seed(seed),
            clock: 0.0,
            events: BinaryHeap::new(),
            deployments: <[Deployment; DEPLOYMENTS]>::default(),
            requests: Vec::new(),
            pods,
            trouble,
            policy,
            seen: Seen { seconds: vec![(0.0, 0.0); 241], ..Seen::default() },
        };
        world.after(0.0, Event::Arrival);
        world
    }

    fn run(mut self) -> Seen {
        while let Some(Reverse((at, event))) = self.events.pop() {
            self.clock = seconds(at);
            if self.clock > END {
                break;
            }
            match event {
                Event::Arrival => self.arrive(),
                Event::FirstToken(request) => self.answer(request),
                Event::Done(request) => self.finish(request),
            }
        }
        self.seen
    }

    fn after(&mut self, pause: f64, event: Event) {
        self.events.push(Reverse((nanoseconds(self.clock + pause), event)));
    }

    fn arrive(&mut self) {
        let pause = pause(RATE, &mut self.dice);
        self.after(pause, Event::Arrival);
        let pod = self.dice.usize(0..self.pods);
        let tokens = prompt(&mut self.dice);
        let mut left: Vec<usize> = (0..DEPLOYMENTS).collect();
        for attempt in 0..TRIES {
            let to = self.policy.choose(pod, &left, tokens, self.clock, self.dice.u64(..));
            if attempt == 0
                && let Some((all, first)) = self.seen.seconds.get_mut(second(self.clock))
            {
                *all += 1.0;
                *first += f64::from(u8::from(to == 0));
            }
            self.seen.tries += 1.0;
            if self.send(pod, tokens, to) {
                return;
            }
            self.seen.refused += 1.0;
            self.policy.told(pod, to, self.clock, Told::Refused);
            left.retain(|other| *other != to);
        }
        self.seen.failed += 1.0;
    }

    /// Whether the deployment takes it.
    fn send(&mut self, pod: usize, tokens: u32, to: usize) -> bool {
        let fails = self.is_troubled(to, Trouble::Failing) && self.dice.bool();
        let deployment = &mut self.deployments[to];
        let fits = deployment.running < SLOTS;
        if fails || !fits && deployment.waiting.len() > QUEUE {
            return false;
        }
        let id = self.requests.len();
        let (arrived, sent) = (self.clock, self.clock);
        self.requests.push(Request { pod, tokens, arrived, sent, deployment: to });
        self.policy.told(pod, to, self.clock, Told::Sent(Pending { id, tokens, sent }));
        if fits {
            self.begin(id);
        } else {
            self.deployments[to].waiting.push_back(id);
        }
        true
    }

    fn begin(&mut self, id: usize) {
        let (to, tokens) = (self.requests[id].deployment, self.requests[id].tokens);
        let slow = self.is_troubled(to, Trouble::Slow);
        let deployment = &mut self.deployments[to];
        deployment.running += 1;
        let busy = f64::from(u32::try_from(deployment.running).unwrap_or(u32::MAX)) / 150.0;
        let slowdown = if slow { 4.0 } else { 1.0 } * (1.0 + STRAIN * busy);
        let upstream = Upstream {
            base: BASES[to],
            slope: 0.000_15,
            sigma: 0.3,
            stragglers: 0.013,
            slowdown,
            ..Upstream::USUAL
        };
        let first = upstream.sample(tokens, &mut self.dice);
        let output = slowdown * log_normal(OUTPUT.0, OUTPUT.1, &mut self.dice);
        self.after(first, Event::FirstToken(id));
        self.after(first + output, Event::Done(id));
    }

    fn is_troubled(&self, deployment: usize, by: Trouble) -> bool {
        deployment == 0 && self.trouble == by && (INCIDENT.0..INCIDENT.1).contains(&self.clock)
    }

    fn answer(&mut self, id: usize) {
        let Request { pod, tokens, arrived, sent, deployment } = self.requests[id];
        let answered = Told::Answered { id, tokens, waited: self.clock - sent };
        self.policy.told(pod, deployment, self.clock, answered);
        let waited = self.clock - arrived;
        match arrived {
            ..SETTLED => {}
            _ if arrived < INCIDENT.0 => self.seen.steady.push(waited),
            _ if arrived < INCIDENT.1 => self.seen.incident.push(waited),
            _ => self.seen.recovery.push(waited),
        }
    }

    fn finish(&mut self, id: usize) {
        let Request { pod, deployment, .. } = self.requests[id];
        self.policy.told(pod, deployment, self.clock, Told::Done);
        self.deployments[deployment].running -= 1;
        if let Some(next) = self.deployments[deployment].waiting.pop_front() {
            self.begin(next);
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "minutes, from zero")]
fn second(seconds: f64) -> usize {
    seconds as usize
}

/// Milliseconds at the 50th, 95th and 99th percentile.
type Percentiles = [f64; 3];

/// A row of the table.
struct Summary {
    steady: Percentiles,
    incident: Percentiles,
    recovery: Percentiles,
    /// How much the share of the first deployment swings from second to second.
    swing: f64,
    /// Percent of tries refused.
    refused: f64,
}

fn simulate(policy: fn(usize) -> Policy, pods: usize, trouble: Trouble) -> Summary {
    let mut all = Seen::default();
    for seed in 0..SEEDS {
        let seen = World::new(policy(pods), pods, trouble, seed).run();
        all.steady.extend(seen.steady);
        all.incident.extend(seen.incident);
        all.recovery.extend(seen.recovery);
        all.tries += seen.tries;
        all.refused += seen.refused;
        all.seconds.extend(&seen.seconds[second(SETTLED)..second(INCIDENT.0)]);
    }
    let percentiles =
        |values: &mut Vec<f64>| [0.5, 0.95, 0.99].map(|part| 1_000.0 * quantile(values, part));
    Summary {
        steady: percentiles(&mut all.steady),
        incident: percentiles(&mut all.incident),
        recovery: percentiles(&mut all.recovery),
        swing: deviation(&all.seconds),
        refused: 100.0 * all.refused / all.tries,
    }
}

fn deviation(seconds: &[(f64, f64)]) -> f64 {
    let shares = seconds.iter().filter(|(all, _)| *all > 0.0).map(|(all, first)| first / all);
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for share in shares {
        count += 1.0;
        sum += share;
        squares += share * share;
    }
    (squares / count - (sum / count) * (sum / count)).sqrt()
}

const SEEDS: u64 = 3;

/// A policy by its name, and how many pods follow it.
type Row = (&'static str, fn(usize) -> Policy, usize);

fn summaries<const ROWS: usize>(
    title: &str,
    trouble: Trouble,
    rows: [Row; ROWS],
) -> [Summary; ROWS] {
    let heads = ["policy", "steady", "incident", "recovery", "swing", "refused"];
    let mut table = Table::new(title, &heads);
    let summaries = rows.map(|(name, policy, pods)| {
        let summary = simulate(policy, pods, trouble);
        let told = |all: Percentiles| format!("{:.0}/{:.0}/{:.0}", all[0], all[1], all[2]);
        table.row(&[
            name.to_owned(),
            told(summary.steady),
            told(summary.incident),
            told(summary.recovery),
            format!("{:.3}", summary.swing),
            format!("{:.2} %", summary.refused),
        ]);
        summary
    });
    table.print();
    summaries
}

#[track_caller]
fn check_at_most(got: Percentiles, most: Percentiles, times: f64) {
    let fits = got.iter().zip(most).all(|(got, most)| *got <= times * most);
    assert!(fits, "{got:.0?} is more than {times} of {most:.0?}");
}

/// What peak EWMA of two gave in the design's own simulation, where the upstreams were these but
/// for what it does not tell of them: the best that was found for what one sidecar sees alone.
const STEADY: Percentiles = [670.0, 1_617.0, 4_782.0];
const DEGRADED: Percentiles = [894.0, 3_727.0, 8_231.0];

#[test]
fn adaptive_leaves_the_slow_and_does_not_herd() {
    let title = "4x slower for a minute; ms to the first token at p50/p95/p99";
    let rows: [Row; 9] = [
        ("random", Policy::random, 50),
        ("least busy of two", Policy::least_busy, 50),
        ("least of last ten", Policy::least_of_ten, 50),
        ("least of last ten, shared", Policy::least_of_ten_shared, 50),
        ("peak EWMA of two", Policy::peak_ewma, 50),
        ("adaptive, late ones unseen", Policy::adaptive_blind, 50),
        ("adaptive", Policy::adaptive, 50),
        ("500 pods: peak EWMA of two", Policy::peak_ewma, 500),
        ("500 pods: adaptive", Policy::adaptive, 500),
    ];
    let [random, busy, ten, herd, peak, _, adaptive, sparse_peak, sparse] =
        summaries(title, Trouble::Slow, rows);
    check_at_most(adaptive.steady, STEADY, 1.12);
    check_at_most(adaptive.incident, DEGRADED, 1.0);
    check_at_most(adaptive.steady, random.steady, 1.03);
    check_at_most(adaptive.incident, peak.incident, 1.03);
    check_at_most(adaptive.recovery, peak.recovery, 1.03);
    check_at_most(sparse.incident, sparse_peak.incident, 1.0);
    for worse in [random.incident, busy.incident, ten.incident, herd.incident] {
        check_at_most([0.0, adaptive.incident[1], 0.0], worse, 0.9);
    }
    assert!(adaptive.swing < 0.08, "the share swings by {}", adaptive.swing);
    assert!(herd.swing > 0.3, "argmin over shared numbers herds");
    assert!(adaptive.refused < 0.05, "{} % refused", adaptive.refused);
}

#[test]
fn adaptive_leaves_what_fails_fast() {
    let title = "half of the tries fail at once for a minute";
    let rows: [Row; 4] = [
        ("random", Policy::random, 50),
        ("peak EWMA of two", Policy::peak_ewma, 50),
        ("adaptive", Policy::adaptive, 50),
        ("500 pods: adaptive", Policy::adaptive, 500),
    ];
    let [random, peak, adaptive, sparse] = summaries(title, Trouble::Failing, rows);
    assert!(adaptive.refused < 0.6 * random.refused.min(peak.refused));
    assert!(sparse.refused < 0.8 * random.refused);
    check_at_most(adaptive.incident, random.incident, 1.1);
}
