//! What sidecars spare themselves in an outage by telling each other: the numbers of `stats`, the
//! rule of `routing` and the nodes of `gossip` as they are, with gossip on and off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pillion::lexicon::{Class, DeploymentIx, Failure, GroupIx, time};
use pillion::routing::cooldown::Rule;
use pillion::routing::fleet::Limits;
use pillion::routing::pick::{Narrow, least_bad, pick};
use pillion::routing::strategy::Scene;
use pillion::routing::{Member, RouteTable, Settings, Shape};
use pillion::stats::fleet::Tie;
use pillion::stats::{Answer, Failed, Named, Rows, StatsTable};

use super::world::{Weather, World, deployment};
use super::{large, settled};
use crate::table::Table;

const DEPLOYMENTS: u16 = 3;
/// How long the first of them answers nobody.
const OUTAGE: Duration = Duration::from_secs(60);
/// Requests per second and sidecar.
const RATE: f64 = 0.1;
const TELLS: f64 = 0.25;

/// A sidecar's numbers, and whether it shares them.
struct Pods {
    tables: Vec<(StatsTable, Rows)>,
    routes: RouteTable,
    is_telling: bool,
    /// While it is out.
    is_out: bool,
    /// The share of its tries that fail all the time.
    errors: f64,
    failed: u64,
    asked: u64,
}

impl Pods {
    fn new(size: usize, is_telling: bool, errors: f64, now: Instant) -> Self {
        let entry = |at: u16| ("g".into(), format!("{at}").into(), Member::new(DeploymentIx(at)));
        let settings = Settings { cooldown: Some(Rule::Pillion), ..Settings::default() };
        let routes = RouteTable::build((0..DEPLOYMENTS).map(entry).collect(), settings);
        let tables = (0..size).map(|_| numbers(now)).collect();
        let (is_out, failed, asked) = (false, 0, 0);
        Self { tables, routes, is_telling, is_out, errors, failed, asked }
    }

    /// What a sidecar does between two reports.
    fn live(&mut self, world: &mut World, at: usize) {
        let now = world.instant();
        while world.dice.f64() < RATE * TELLS / (1.0 + RATE * TELLS) {
            self.request(world, at, now);
        }
        if self.is_telling {
            let (table, _) = &self.tables[at];
            world.nodes[at].witnesses = table.witness(now);
            // The view of the report before: this one is told when this returns.
            table.advise(Arc::new(world.nodes[at].node.view(now)), now);
        }
    }

    /// One request: tries until somebody answers.
    fn request(&mut self, world: &mut World, at: usize, now: Instant) {
        let (_, rows) = &self.tables[at];
        let group = self.routes.group(GroupIx(0)).expect("it is the only one");
        let settings = self.routes.settings();
        let mut excluded = Vec::new();
        for _ in 0..DEPLOYMENTS {
            let scene =
                Scene { view: rows, shape: Shape::default(), now, entropy: world.dice.u64(..) };
            let narrow = Narrow {
                only: None,
                order: None,
                tags: &[],
                excluded: &excluded,
                avoided: &[],
                held: None,
            };
            let picked = pick(group, settings, &narrow, &scene);
            let picked = picked.or_else(|_| least_bad(group, settings, &narrow, &scene));
            let Ok(member) = picked else { return };
            let row = rows.get(member.deployment).expect("it is a row");
            let (_running, trial) = (row.enter(None, 0, now), row.trial(&settings.breaker, now));
            let is_first = member.deployment == DeploymentIx(0);
            self.asked += u64::from(is_first);
            if is_first && (self.is_out || world.dice.f64() < self.errors) {
                self.failed += 1;
                let failure = Failure::new(Class::ServiceUnavailable, 503);
                let (ticket, entropy) = (trial.ticket(), world.dice.u64(..));
                let failed = Failed { failure, callers_timeout: false, ticket, entropy };
                row.failed(settings, (group, member), &failed, now);
                excluded.push(member.deployment);
            } else {
                trial.passed(&settings.breaker, now);
                row.succeeded(&answer(), now);
                return;
            }
        }
    }
}

fn numbers(now: Instant) -> (StatsTable, Rows) {
    let table = StatsTable::new(now);
    let ids = ["a", "b", "c"];
    let named = ids.iter().enumerate().map(|(at, id)| Named {
        id,
        group: "g",
        provider: "p",
        budget_period: None,
        provider_budget_period: None,
        tie: Some(Tie {
            of: deployment(at),
            limits: Limits::default(),
            rule: Rule::Pillion,
            has_budget: false,
        }),
    });
    let rows = table.rows(named, now);
    (table, rows)
}

fn answer() -> Answer {
    let took = Duration::from_secs(1);
    Answer {
        stream: true,
        prompt_tokens: 0,
        completion_tokens: 0,
        first_token: Some(took),
        took,
        cost: None,
    }
}

/// Tries that failed while the first deployment was out, and how long after its end it was asked
/// half as often again as before.
fn run(size: usize, is_telling: bool) -> (u64, f64) {
    let mut world = World::new(size, 0, Weather { loss: 0.05, slow: 0.05 }, 8);
    let mut pods = Pods::new(size, is_telling, 0.0, time::now());
    let warm = settled(size).max(Duration::from_secs(30));
    world.run(warm.saturating_sub(Duration::from_secs(20)), |world, at| pods.live(world, at));
    pods.asked = 0;
    world.run(warm, |world, at| pods.live(world, at));
    let usual = pods.asked as f64 / 20.0;
    assert_eq!(pods.failed, 0);
    pods.is_out = true;
    world.run(warm + OUTAGE, |world, at| pods.live(world, at));
    pods.is_out = false;
    let failed = pods.failed;
    let mut back = f64::INFINITY;
    for second in (0..120).step_by(5) {
        pods.asked = 0;
        world.run(world.now + Duration::from_secs(5), |world, at| pods.live(world, at));
        if pods.asked as f64 / 5.0 >= usual / 2.0 {
            back = f64::from(second);
            break;
        }
    }
    (failed, back)
}

#[test]
fn in_an_outage_few_tries_fail() {
    let heads =
        ["fleet", "failed, gossip off", "failed, gossip on", "ratio", "back after, off", "on"];
    let mut table = Table::new(
        "One of three deployments is out for 60 s; each sidecar has 6 requests a minute",
        &heads,
    );
    for size in large().unwrap_or_else(|| vec![100]) {
        let ((off, back_off), (on, back_on)) = (run(size, false), run(size, true));
        let ratio = on as f64 / off as f64;
        table.row(&[
            format!("{size} nodes"),
            off.to_string(),
            on.to_string(),
            format!("{ratio:.3}"),
            format!("{back_off:.0} s"),
            format!("{back_on:.0} s"),
        ]);
        let most = if size >= 500 { 0.1 } else { 0.4 };
        assert!(ratio <= most, "{on} of {off}");
        assert!(back_on.is_finite(), "it comes back");
    }
    table.print();
}

#[test]
fn a_few_errors_are_no_outage() {
    let size = 60;
    let mut world = World::new(size, 0, Weather { loss: 0.05, slow: 0.0 }, 9);
    let mut pods = Pods::new(size, true, 0.05, time::now());
    let mut paused = 0;
    for _ in 0..60 {
        world.run(world.now + Duration::from_secs(1), |world, at| pods.live(world, at));
        let now = world.instant();
        let cooldown = world.nodes[0].node.cooldown(deployment(0), now);
        paused += u32::from(cooldown.and_then(|it| it.until).is_some_and(|until| until > now));
    }
    assert!(pods.failed > 0);
    assert!(paused <= 3, "it was paused for {paused} s of 60");
}
