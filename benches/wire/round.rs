//! The comparison: every target in every round, one after another in rotated order, so that
//! whatever drifts hits all alike.

use pillion::lexicon::time;
use serde::Serialize;

use crate::load::Figures;
use crate::process;
use crate::target::{Places, Target, Up};

/// Which core does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Placement {
    /// Wherever the kernel likes.
    Loose,
    /// Everything on core 0: no wake-ups across cores, so the program's own cost shows.
    OneCore,
    /// The gateway on core 0, clients and provider on core 1.
    TwoCores,
}

impl Placement {
    /// Of gateways.
    pub(crate) fn gateway(self) -> Option<usize> {
        (self != Self::Loose).then_some(0)
    }

    /// Of clients and the provider.
    pub(crate) fn ends(self) -> Option<usize> {
        match self {
            Self::Loose => None,
            Self::OneCore => Some(0),
            Self::TwoCores => Some(1),
        }
    }

    /// Its name in tables.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Loose => "not pinned",
            Self::OneCore => "one core",
            Self::TwoCores => "two cores",
        }
    }
}

/// One kind of traffic.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Scenario {
    pub(crate) placement: Placement,
    pub(crate) connections: usize,
    /// In bytes.
    pub(crate) body: usize,
    pub(crate) stream: bool,
}

impl Scenario {
    /// Its name in tables.
    pub(crate) fn name(&self) -> String {
        let (what, where_) = (self.body >> 10, self.placement.as_str());
        let kind = if self.stream { "stream of 64 chunks" } else { "call" };
        format!("{kind}, {what} KB prompt, {} at once, {where_}", self.connections)
    }
}

/// One target under one scenario in one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) figures: Figures,
    /// Microseconds per call, of the gateway's processes.
    pub(crate) cpu: f64,
    /// What others used meanwhile, in cores.
    pub(crate) foreign: f64,
}

/// One target under one scenario, over all rounds that count. Medians; times in microseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) target: &'static str,
    pub(crate) cpu: f64,
    pub(crate) added_p50: f64,
    pub(crate) added_p99: f64,
    pub(crate) added_first_p50: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) per_second: f64,
    pub(crate) errors: u64,
    /// CPU per call relative to others, from the same rounds.
    pub(crate) to_floor: Option<f64>,
    pub(crate) to_floor_parse: Option<f64>,
    pub(crate) to_nginx: Option<f64>,
    pub(crate) to_shuffle: Option<f64>,
}

/// One scenario's outcome.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Table {
    pub(crate) scenario: Scenario,
    pub(crate) kept: usize,
    pub(crate) dropped: usize,
    /// The most that others used during a target's turn, per round, in cores.
    pub(crate) foreign: Vec<f64>,
    pub(crate) rows: Vec<Row>,
}

/// What all rounds share.
pub(crate) struct Bench<'a> {
    pub(crate) places: &'a Places,
    pub(crate) mock: &'a Up,
    pub(crate) targets: &'a [Up],
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// More foreign CPU use than this, in cores, and a round does not count.
    pub(crate) foreign: f64,
}

impl Bench<'_> {
    /// Measures one scenario; repeats disturbed rounds, but at most once each.
    pub(crate) fn table(&self, scenario: Scenario) -> Result<Table, String> {
        if let (Some(core), Some(id)) = (scenario.placement.ends(), self.mock.id()) {
            process::move_to(id, core).map_err(|error| error.to_string())?;
        }
        let (mut kept, mut dropped, mut foreign) = (Vec::new(), 0, Vec::new());
        for at in 0..self.rounds * 2 {
            if kept.len() == self.rounds {
                break;
            }
            let round = self.round(scenario, at)?;
            let most = round.iter().map(|run| run.foreign).fold(0.0, f64::max);
            foreign.push(most);
            if most > self.foreign {
                dropped += 1;
            } else {
                kept.push(round);
            }
        }
        let rows = (0..self.targets.len()).filter_map(|at| self.row(&kept, at)).collect();
        Ok(Table { scenario, kept: kept.len(), dropped, foreign, rows })
    }

    /// All targets once; the results in the order of the targets.
    fn round(&self, scenario: Scenario, at: usize) -> Result<Vec<Run>, String> {
        let count = self.targets.len();
        let mut runs: Vec<(usize, Run)> = Vec::with_capacity(count);
        for step in 0..count {
            let which = (at + step) % count;
            let target = self.targets.get(which).ok_or("no target")?;
            runs.push((which, self.run(scenario, target)?));
        }
        runs.sort_by_key(|(which, _)| *which);
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    fn run(&self, scenario: Scenario, target: &Up) -> Result<Run, String> {
        let ids: Vec<u32> = self.targets.iter().chain([self.mock]).filter_map(Up::id).collect();
        let own = || process::ticks_of_trees(&ids) + process::ticks(std::process::id());
        let (ours, spent) = (own(), target.cpu());
        let (began, machine) = (time::now(), process::machine());
        let seconds = ["--seconds".to_owned(), self.seconds.to_string()];
        let figures = load(self.places, scenario, target.port, &seconds)?;
        let (ended, machine) = (time::now(), process::machine().saturating_sub(machine));
        let (spent, ours) = (target.cpu().saturating_sub(spent), own().saturating_sub(ours));
        let others = machine.as_secs_f64() - ours.as_secs_f64() - figures.own_cpu;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let cpu = spent.as_secs_f64() * 1e6 / figures.calls.max(1) as f64;
        Ok(Run { figures, cpu, foreign: (others / (ended - began).as_secs_f64()).max(0.0) })
    }

    fn row(&self, rounds: &[Vec<Run>], at: usize) -> Option<Row> {
        let over = |value: &dyn Fn(&[Run], &Run) -> Option<f64>| {
            median(rounds.iter().filter_map(|round| value(round, round.get(at)?)).collect())
        };
        let place = |target: Target| self.targets.iter().position(|up| up.target == target);
        let direct = place(Target::Direct)?;
        let added = |of: fn(&Figures) -> f64| {
            over(&|round, run| Some(of(&run.figures) - of(&round.get(direct)?.figures)))
        };
        let ratio = |target: Target| {
            let base = place(target)?;
            over(&|round, run| Some(run.cpu / round.get(base)?.cpu).filter(|it| it.is_normal()))
        };
        let plain = |of: fn(&Figures) -> f64| over(&|_, run| Some(of(&run.figures)));
        Some(Row {
            target: self.targets.get(at)?.target.as_str(),
            cpu: over(&|_, run| Some(run.cpu))?,
            added_p50: added(|it| it.p50)?,
            added_p99: added(|it| it.p99)?,
            added_first_p50: added(|it| it.first_p50)?,
            p50: plain(|it| it.p50)?,
            p99: plain(|it| it.p99)?,
            per_second: plain(|it| it.per_second)?,
            errors: rounds.iter().filter_map(|round| Some(round.get(at)?.figures.errors)).sum(),
            to_floor: ratio(Target::Floor),
            to_floor_parse: ratio(Target::FloorParse),
            to_nginx: ratio(Target::Nginx),
            to_shuffle: ratio(Target::PillionShuffle),
        })
    }
}

/// Runs the clients in a process of their own.
pub(crate) fn load(
    places: &Places,
    scenario: Scenario,
    port: u16,
    until: &[String],
) -> Result<Figures, String> {
    let mut command = process::command(&places.own, scenario.placement.ends());
    command.args(["load", "--port", &port.to_string()]);
    command.args(["--connections", &scenario.connections.to_string()]);
    command.args(["--body", &scenario.body.to_string()]).args(until);
    if scenario.stream {
        command.arg("--stream");
    }
    let output = command.output().map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}
