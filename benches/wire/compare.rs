//! The command line, and the order of a run: start, measure, weigh, tell.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::{Parser, Subcommand};

use crate::footprint::{self, Effort};
use crate::load::Load;
use crate::report::Report;
use crate::round::{Bench, Placement, Scenario};
use crate::target::{self, Places, Target, Up};
use crate::{floor, load, mock, process};

/// Measures Pillion beside bare proxies and nginx, over the loopback
#[derive(Debug, Parser)]
#[command(name = "wire")]
struct Options {
    /// Rounds of each kind of traffic
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds per target and round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Two short rounds, one placement: whether it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Only these, separated by commas; `direct` always takes part
    #[arg(long, value_delimiter = ',')]
    only: Vec<Target>,
    /// Drop rounds in which others used more cores than this
    #[arg(long, default_value_t = 0.5)]
    foreign: f64,
    /// Write all figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the tables to this file too
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// The gateway's binary; beside this one by default
    #[arg(long, env = "PILLION_BIN")]
    pillion: Option<PathBuf>,
    /// Measure; `cargo bench` passes it by itself
    #[arg(long)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program also is, for itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// A reverse proxy on bare hyper
    Floor {
        port: u16,
        upstream: u16,
        #[arg(long)]
        parse: bool,
    },
    /// Clients; prints their figures as JSON
    Load(Load),
    /// A provider
    Mock { port: u16 },
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.part {
        // `cargo test --all-targets` runs this too, and means no measurement.
        None if !options.bench => print("nothing is measured without --bench"),
        None => compare(&options),
        Some(Part::Load(load)) => print(&serde_json::json!(load::run(load)).to_string()),
        Some(Part::Mock { port }) => {
            end_with_parent();
            mock::serve(*port).map_err(|error| error.to_string())
        }
        Some(Part::Floor { port, upstream, parse }) => {
            end_with_parent();
            let variant = if *parse { floor::Variant::Parse } else { floor::Variant::Stream };
            floor::serve(*port, *upstream, variant).map_err(|error| error.to_string())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "wire: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process when whoever started it closes our input, by intention or by dying.
fn end_with_parent() {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

fn compare(options: &Options) -> Result<(), String> {
    process::end_all_on_signal().map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let places = places(options, folder.path())?;
    let pinned = process::can_pin();
    let first = if pinned { Placement::OneCore } else { Placement::Loose };
    let mock = target::provider(&places, first.ends())?;
    let mut notes = Vec::new();
    if !pinned {
        notes.push("Nothing is pinned to a core: there is no taskset.".to_owned());
    }
    let targets = start(options, &places, &mock, first, &mut notes);
    let bench = Bench {
        places: &places,
        mock: &mock,
        targets: &targets,
        rounds: if options.quick { 2 } else { options.rounds },
        seconds: if options.quick { 0.4 } else { options.seconds },
        foreign: options.foreign,
    };
    let mut tables = Vec::new();
    for scenario in scenarios(first, options.quick) {
        progress(&scenario.name());
        tables.push(bench.table(scenario)?);
    }
    let chosen: Vec<Target> = targets.iter().map(|up| up.target).collect();
    drop(targets);
    let effort = Effort {
        calls: if options.quick { 20_000 } else { 100_000 },
        starts: if options.quick { 3 } else { 10 },
    };
    let mut footprints = Vec::new();
    // The others are Pillion too.
    let is_other = |it: &Target| !matches!(it, Target::PillionHedge | Target::PillionShuffle);
    for target in chosen.into_iter().filter(is_other) {
        progress(&format!("footprint of {}", target.as_str()));
        footprints.extend(weigh(&places, &mock, target, first, effort, &mut notes));
    }
    tell(options, &Report::new(notes, tables, footprints))
}

fn places(options: &Options, folder: &Path) -> Result<Places, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = own.ancestors().nth(2).map(|release| release.join("pillion"));
    let pillion = options.pillion.clone().or(beside).unwrap_or_default();
    Ok(Places { own, pillion, nginx: process::on_path("nginx"), folder: folder.to_owned() })
}

/// Starts what was asked for; notes what cannot be started, and goes on without it.
fn start(
    options: &Options,
    places: &Places,
    mock: &Up,
    placement: Placement,
    notes: &mut Vec<String>,
) -> Vec<Up> {
    let mut targets = vec![Up { target: Target::Direct, port: mock.port, process: None }];
    for target in Target::GATEWAYS {
        if !options.only.is_empty() && !options.only.contains(&target) {
            continue;
        }
        let up = places.program(target).and_then(|_| {
            let start = places.prepare(target, mock.port).map_err(|error| error.to_string())?;
            start.ok_or("nothing to start")?.up(target, placement.gateway())
        });
        match up {
            Ok(up) => targets.push(up),
            Err(why) => notes.push(format!("{} is left out: {why}.", target.as_str())),
        }
    }
    targets
}

fn scenarios(first: Placement, quick: bool) -> Vec<Scenario> {
    let kinds = [(1, 1, false), (1, 64, false), (20, 1, false), (200, 1, false), (1, 32, true)];
    let mut placements = vec![first];
    if first == Placement::OneCore && process::cores() > 1 && !quick {
        placements.push(Placement::TwoCores);
    }
    let scenario = |placement| {
        move |(body, connections, stream): (usize, usize, bool)| Scenario {
            placement,
            connections,
            body: body << 10,
            stream,
        }
    };
    placements.into_iter().flat_map(|placement| kinds.map(scenario(placement))).collect()
}

fn weigh(
    places: &Places,
    mock: &Up,
    target: Target,
    placement: Placement,
    effort: Effort,
    notes: &mut Vec<String>,
) -> Option<footprint::Footprint> {
    footprint::weigh(places, mock, target, placement, effort)
        .inspect_err(|why| notes.push(format!("{} was not weighed: {why}.", target.as_str())))
        .ok()
        .flatten()
}

fn tell(options: &Options, report: &Report) -> Result<(), String> {
    let markdown = report.markdown();
    print(&markdown)?;
    if let Some(file) = &options.markdown {
        fs::write(file, &markdown).map_err(|error| error.to_string())?;
    }
    if let Some(file) = &options.json {
        let json = serde_json::to_vec_pretty(report).map_err(|error| error.to_string())?;
        fs::write(file, json).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn print(text: &str) -> Result<(), String> {
    writeln!(io::stdout(), "{text}").map_err(|error| error.to_string())
}

fn progress(what: &str) {
    let _ = writeln!(io::stderr(), "{what} …");
}
