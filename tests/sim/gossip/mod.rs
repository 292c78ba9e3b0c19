//! Fleets of the real nodes of `gossip`: how fast news reach all of them, what that costs, and how
//! well they know what they have learned together.
//!
//! Small fleets belong to every run. For large ones build with optimisation and name the sizes, and
//! the shares of datagrams that are lost where it shall not be all of them:
//! `GOSSIP_SIZES=1000 GOSSIP_LOSSES=0.05 cargo test --profile sim --test sim gossip -- --nocapture`.

#![expect(clippy::indexing_slicing, reason = "every index is one that the simulation made")]
#![expect(clippy::cast_precision_loss, reason = "counts of a simulation")]

mod outage;
mod traffic;
mod world;

use std::time::Duration;

use pillion::routing::Kind;
use pillion::routing::fleet::{Pause, Why};
use pillion::routing::latency::{Bounds, Model, Prior, Sample, Seen};

use self::traffic::Traffic;
use self::world::{Weather, World, deployment};
use crate::table::{Table, quantile};

const STEP: Duration = Duration::from_millis(10);

/// A fleet to simulate, and how long it lives.
struct Trial {
    size: usize,
    loss: f64,
}

/// Those of every run, or those that were asked for.
fn trials() -> Vec<Trial> {
    let Some(sizes) = large() else {
        return [10, 100].map(|size| Trial { size, loss: 0.05 }).into();
    };
    let losses = wanted("GOSSIP_LOSSES").unwrap_or_else(|| vec![0.0, 0.05, 0.2]);
    let trials = |size| losses.iter().map(move |loss| Trial { size, loss: *loss });
    sizes.into_iter().flat_map(trials).collect()
}

/// Sizes that were asked for.
fn large() -> Option<Vec<usize>> {
    wanted("GOSSIP_SIZES")
}

/// Numbers that a variable names.
fn wanted<T: std::str::FromStr>(name: &str) -> Option<Vec<T>> {
    let said = std::env::var_os(name)?;
    let said = said.to_str().expect("numbers are text");
    let number = |it: &str| it.trim().parse().ok().expect("numbers, with commas between them");
    Some(said.split(',').map(number).collect())
}

/// How long a fleet of this size takes to have found itself and to be calm again.
fn settled(size: usize) -> Duration {
    Duration::from_secs(match size {
        0..=100 => 25,
        101..=300 => 90,
        301..=1_000 => 120,
        // Each hears of all others at the rate that it allows itself.
        _ => 240,
    })
}

/// When half, 99 of 100 and all nodes believe in a pause that one has begun, in seconds.
struct Reach {
    half: f64,
    most: f64,
    all: f64,
}

/// Lets one node begin a pause; the deployment had none before.
fn spread(world: &mut World, mut traffic: impl FnMut(&mut World, usize), of: usize) -> Reach {
    let pauses = world.up().next().expect("somebody is up");
    let began = world.now;
    let remaining = Duration::from_secs(300);
    world.nodes[pauses].witnesses[of].pause = Some(Pause { remaining, why: Why::Limit });
    world.tell_now(pauses);
    let mut reach = Reach { half: f64::INFINITY, most: f64::INFINITY, all: f64::INFINITY };
    while world.now < began + Duration::from_secs(15) && !reach.all.is_finite() {
        let until = world.now + STEP;
        world.run(until, &mut traffic);
        let now = world.instant();
        let knows = |at: &usize| {
            // Who was told is told no more: it is the epoch that says so, also after ten seconds.
            world.nodes[*at].node.cooldown(deployment(of), now).is_some()
        };
        let (count, total) = (world.up().filter(knows).count(), world.up().count());
        let time = world.now.saturating_sub(began).as_secs_f64();
        for (share, reached) in
            [(0.5, &mut reach.half), (0.99, &mut reach.most), (1.0, &mut reach.all)]
        {
            if count as f64 >= share * total as f64 {
                *reached = reached.min(time);
            }
        }
    }
    world.nodes[pauses].witnesses[of].pause = None;
    reach
}

/// Bytes that a node sends per second, headers of UDP and IP included.
fn cost(world: &mut World, traffic: impl FnMut(&mut World, usize), time: Duration) -> f64 {
    let before = world.bytes;
    world.run(world.now + time, traffic);
    (world.bytes - before) as f64 / world.up().count() as f64 / time.as_secs_f64()
}

fn seconds(seconds: f64) -> String {
    if seconds.is_finite() { format!("{seconds:.2} s") } else { "never".into() }
}

#[test]
fn a_cooldown_reaches_all_at_a_price_that_does_not_grow() {
    let heads = ["fleet", "50 %", "99 %", "all", "bytes/s per node", "members known"];
    let mut table = Table::new("A cooldown that one node begins; ten deployments", &heads);
    let mut missed = Vec::new();
    for Trial { size, loss } in trials() {
        let mut world = World::new(size, 10, Weather { loss, slow: 0.05 }, size as u64);
        let mut traffic = Traffic::new(0.5, 10, 1);
        world.run(settled(size), |world, at| traffic.live(world, at));
        let time = Duration::from_secs(5);
        let bytes = cost(&mut world, |world, at| traffic.live(world, at), time);
        let reach = spread(&mut world, |world, at| traffic.live(world, at), 0);
        let known = members_known(&world);
        row(&mut table, format!("{size} nodes, loss {:.0} %", loss * 100.0), &reach, bytes, known);
        let soon = if loss > 0.05 { 2.0 } else { 1.0 };
        if bytes > 4_096.0 || reach.all > 12.0 || reach.most > soon || known < 0.95 {
            missed.push(format!("{size} nodes, loss {loss}"));
        }
    }
    table.print();
    assert!(missed.is_empty(), "{missed:?}");
}

fn row(table: &mut Table, name: String, reach: &Reach, bytes: f64, known: f64) {
    table.row(&[
        name,
        seconds(reach.half),
        seconds(reach.most),
        seconds(reach.all),
        format!("{bytes:.0}"),
        format!("{:.1} %", known * 100.0),
    ]);
}

#[test]
fn halves_that_were_cut_apart_become_one_again() {
    let heads = ["fleet", "one again after", "pause known to all after"];
    let mut table = Table::new("A network that is cut in two for 40 s; loss 5 %", &heads);
    for size in large().unwrap_or_else(|| vec![20]) {
        let mut world = World::new(size, 3, Weather { loss: 0.05, slow: 0.0 }, 3);
        world.run(settled(size), |_, _| ());
        world.cut = Some(size / 2);
        world.run(world.now + Duration::from_secs(40), |_, _| ());
        let apart = members_known(&world);
        assert!(apart < 0.75, "each half has taken the other for dead: {apart}");
        // One that is still paused when they meet again.
        let remaining = Duration::from_secs(600);
        world.nodes[0].witnesses[0].pause = Some(Pause { remaining, why: Why::Limit });
        world.tell_now(0);
        world.nodes[0].witnesses[0].pause = None;
        world.run(world.now + Duration::from_secs(5), |_, _| ());
        let healed = world.now;
        world.cut = None;
        let (mut one, mut pause) = (None, None);
        while world.now < healed + Duration::from_secs(120) && (one.is_none() || pause.is_none()) {
            world.run(world.now + 10 * STEP, |_, _| ());
            let (now, time) = (world.instant(), world.now.saturating_sub(healed).as_secs_f64());
            let knows = |at: usize| world.nodes[at].node.cooldown(deployment(0), now).is_some();
            if pause.is_none() && world.up().all(knows) {
                pause = Some(time);
            }
            if one.is_none() && members_known(&world) > 0.99 {
                one = Some(time);
            }
        }
        let [one, pause] = [one, pause].map(|time| time.unwrap_or(f64::INFINITY));
        table.row(&[format!("{size} nodes"), seconds(one), seconds(pause)]);
        assert!(one.is_finite() && pause.is_finite(), "{one} {pause}");
    }
    table.print();
}

#[test]
fn a_fleet_in_which_many_come_and_go_keeps_together() {
    let heads = ["fleet", "50 %", "99 %", "all", "bytes/s per node", "members known"];
    let mut table =
        Table::new("1 % of the nodes a second die and others come; half reuse an address", &heads);
    for size in large().unwrap_or_else(|| vec![40]) {
        let mut world = World::new(size, 10, Weather { loss: 0.05, slow: 0.05 }, 4);
        let mut traffic = Traffic::new(0.5, 10, 1);
        world.run(settled(size), |world, at| traffic.live(world, at));
        let (mut dead, before) = (0.0, world.bytes);
        let mut fresh = size;
        for _ in 0..20 {
            dead += size as f64 / 100.0;
            while dead >= 1.0 {
                dead -= 1.0;
                let up: Vec<_> = world.up().collect();
                let lot = world.dice.usize(..up.len());
                let gone = world.kill(up[lot]);
                fresh += 1;
                let comes = if world.dice.bool() { gone } else { world::address(fresh) };
                world.start(comes, size);
            }
            world.run(world.now + Duration::from_secs(1), |world, at| traffic.live(world, at));
        }
        let bytes = (world.bytes - before) as f64 / size as f64 / 20.0;
        let reach = spread(&mut world, |world, at| traffic.live(world, at), 0);
        let known = members_known(&world);
        row(&mut table, format!("{size} nodes"), &reach, bytes, known);
        assert!(reach.all <= 15.0, "all after {}", reach.all);
    }
    table.print();
}

/// How far the 95th percentile that nodes know is from that of all answers, for each of them.
fn errors(world: &mut World, traffic: &Traffic, tokens: u32) -> Vec<f64> {
    let bounds = Bounds { least: Duration::ZERO, most: Duration::from_secs(900) };
    let (now, prior) = (world.instant(), Prior::default());
    let of =
        |model: &Model| model.forecast(&prior, now).threshold(tokens, 0.95, bounds).as_secs_f64();
    let truth: Vec<_> = traffic.pooled.iter().map(|pooled| of(&pooled.model(now))).collect();
    let mut errors = Vec::new();
    for at in world.up().collect::<Vec<_>>() {
        let view = world.nodes[at].node.view(now);
        for (deployment, truth) in truth.iter().enumerate() {
            let known = &view.deployments[&world::deployment(deployment)];
            let known =
                known.models[Kind::default().at()].as_ref().map_or(f64::INFINITY, |it| of(it));
            errors.push((known / truth - 1.0).abs());
        }
    }
    errors
}

#[test]
fn nodes_know_the_percentiles_of_all_answers() {
    let heads = ["fleet", "median error", "90 % below", "95 % below"];
    let mut table =
        Table::new("The 95th percentile a node knows beside that of all answers", &heads);
    let is_large = large().is_some();
    let mut outcomes = Vec::new();
    let trials = if is_large { vec![(50, 1.0, 120), (500, 0.1, 240)] } else { vec![(20, 4.0, 60)] };
    for (size, rate, time) in trials {
        let mut world = World::new(size, 3, Weather { loss: 0.05, slow: 0.05 }, 5);
        let mut traffic = Traffic::new(rate, 3, 2);
        world.run(Duration::from_secs(time), |world, at| traffic.live(world, at));
        let mut errors = errors(&mut world, &traffic, 1_000);
        let [middle, most, nearly_all] = [0.5, 0.9, 0.95].map(|part| quantile(&mut errors, part));
        table.row(&[
            format!("{size} nodes, {:.0} requests/min", rate * 60.0),
            format!("{:.1} %", middle * 100.0),
            format!("{:.1} %", most * 100.0),
            format!("{:.1} %", nearly_all * 100.0),
        ]);
        outcomes.push(most);
    }
    table.print();
    assert!(outcomes.iter().all(|error| *error <= 0.2), "{outcomes:?}");
}

#[test]
fn one_that_lies_takes_nothing_from_the_others() {
    let mut world = World::new(20, 3, Weather { loss: 0.0, slow: 0.0 }, 6);
    let mut traffic = Traffic::new(1.0, 3, 2);
    world.run(Duration::from_secs(30), |world, at| traffic.live(world, at));
    let liar = 7;
    let (mut paused, mut seen) = (Duration::ZERO, 0.0_f64);
    for second in 0..60 {
        let now = world.instant();
        // Another pause and a thousand failures each second, and answers that take a minute.
        let witness = &mut world.nodes[liar].witnesses[0];
        let remaining = Duration::from_secs(600 + second * 60);
        witness.pause = Some(Pause { remaining, why: Why::Limit });
        witness.failures += 1_000;
        let mut lie = Model::new(now);
        for _ in 0..2_000 {
            let waited = Duration::from_secs(60);
            let sample = Sample { prompt_tokens: 1_000, waited, seen: Seen::Answered };
            lie.learn(&sample, &Prior::default(), now);
        }
        witness.taught.push((Kind::default(), lie));
        world.run(world.now + Duration::from_secs(1), |world, at| {
            if at != liar {
                traffic.live(world, at);
            }
        });
        let now = world.instant();
        let cooldown = world.nodes[1].node.cooldown(deployment(0), now);
        let is_paused = cooldown.and_then(|it| it.until).is_some_and(|until| until > now);
        paused += if is_paused { Duration::from_secs(1) } else { Duration::ZERO };
        if is_paused && second % 10 == 9 {
            // Who asks nevertheless, as the last of a group is asked, finds it well.
            world.nodes[2].witnesses[0].recoveries += 1;
        }
        seen =
            seen.max(cooldown.map_or(0.0, |it| {
                f64::from(u8::from(it.why == Why::Trouble && it.until.is_some()))
            }));
    }
    let now = world.instant();
    let view = world.nodes[1].node.view(now);
    let latency = |of: usize| {
        let known = &view.deployments[&deployment(of)];
        known.models[Kind::default().at()].as_ref().expect("it was called").outlook(now).latency
    };
    let mut table = Table::new("One of twenty lies", &["what", "it did"]);
    table.row(&["others paused, of 60 s".into(), format!("{paused:?}")]);
    table.row(&["latency of its deployment".into(), format!("{:.2} s", latency(0))]);
    table.row(&["latency of another".into(), format!("{:.2} s", latency(1))]);
    table.print();
    assert!(paused <= Duration::from_secs(25), "{paused:?}");
    assert!(seen.abs() < f64::EPSILON, "nobody else saw it fail");
}

/// How far one that lies among a few moves what a sidecar with 6 requests a minute believes.
struct Moved {
    /// The latency of the deployment it lies about beside that of one that is alike, as the fleet
    /// tells it: what somebody believes who has not called it yet.
    told: f64,
    /// The same as the choice sees it, with what was seen here.
    latency: f64,
    /// Its 95th percentile, likewise.
    threshold: f64,
    /// Its chance of being chosen, of two that are alike.
    chance: f64,
}

/// A fleet in which one says all the time that a deployment has answered so slowly, if it lies.
fn lied_to(size: usize, lie: Option<f64>) -> Moved {
    let mut world = World::new(size, 2, Weather { loss: 0.0, slow: 0.0 }, 12);
    let mut traffic = Traffic::new(0.1, 2, 3);
    let (me, liar, prior) = (0, 1, Prior::default());
    let mut own: Vec<Model> = (0..2).map(|_| Model::new(world.instant())).collect();
    let bounds = Bounds { least: Duration::ZERO, most: Duration::from_secs(3_600) };
    let (mut heard, mut seen, mut worst) = (Vec::new(), Vec::new(), Vec::new());
    for second in 0..600 {
        let now = world.instant();
        if let (Some(lie), true) = (lie, second >= 240) {
            let mut told = Model::new(now);
            let waited = Duration::from_secs_f64(lie);
            let sample = Sample { prompt_tokens: 1_000, waited, seen: Seen::Answered };
            (0..2_000).for_each(|_| told.learn(&sample, &prior, now));
            world.nodes[liar].witnesses[0].taught.push((Kind::default(), told));
        }
        world.run(world.now + Duration::from_secs(1), |world, at| {
            if at == liar && lie.is_some() {
                return;
            }
            traffic.live(world, at);
            let now = world.instant();
            if at == me {
                for (own, witness) in own.iter_mut().zip(&world.nodes[at].witnesses) {
                    witness.taught.iter().for_each(|(_, model)| own.merge(model, now));
                }
            }
        });
        if second < 300 || second % 10 > 0 {
            continue;
        }
        let now = world.instant();
        let view = world.nodes[me].node.view(now);
        let both = |of: usize| {
            let told = view.deployments[&deployment(of)].models[Kind::default().at()].clone();
            told.map_or_else(|| own[of].clone(), |told| own[of].advised(&told, now))
        };
        let of = |model: &Model| model.forecast(&prior, now).threshold(1_000, 0.95, bounds);
        let alone = |of: usize| {
            let told = &view.deployments[&deployment(of)].models[Kind::default().at()];
            told.as_ref().map_or(f64::NAN, |told| f64::from(told.outlook(now).latency))
        };
        let latencies = [both(0), both(1)].map(|it| f64::from(it.outlook(now).latency));
        seen.push(latencies[0] / latencies[1]);
        heard.push(alone(0) / alone(1));
        worst.push(of(&both(0)).as_secs_f64() / of(&traffic.pooled[1].model(now)).as_secs_f64());
    }
    let [told, latency, threshold] = [heard, seen, worst].map(|mut all| quantile(&mut all, 0.5));
    Moved { told, latency, threshold, chance: 1.0 / (1.0 + latency.powi(8)) }
}

#[test]
fn one_that_lies_among_few_moves_them_by_a_bounded_factor() {
    let heads = ["fleet", "it says", "latency, told", "believed", "95th percentile", "chance"];
    let title = "One lies about a deployment; what a sidecar with 6 requests a minute believes";
    let mut table = Table::new(title, &heads);
    for size in [2, 3, 8, 20] {
        for (lie, name) in [(None, "the truth"), (Some(0.001), "1 ms"), (Some(3_600.0), "1 h")] {
            let Moved { told, latency, threshold, chance } = lied_to(size, lie);
            table.row(&[
                format!("{size} nodes"),
                name.into(),
                format!("{told:.3} times"),
                format!("{latency:.2} times"),
                format!("{threshold:.2} times"),
                format!("{chance:.3}"),
            ]);
            assert!((0.1..8.0).contains(&latency), "{latency} at {size}, which says {name}");
            assert!((0.05..4.0).contains(&threshold), "{threshold} at {size}, which says {name}");
        }
    }
    table.print();
}

/// What share of the fleet its nodes know on average.
fn members_known(world: &World) -> f64 {
    let now = world.instant();
    let up = world.up().count() as f64;
    let known = |at: usize| {
        let members = world.nodes[at].node.members(now);
        members.iter().filter(|it| it.health != pillion::gossip::Health::Down).count() as f64
    };
    world.up().map(|at| known(at) / up).sum::<f64>() / up
}
