//! What a gateway weighs: memory idle and after many calls, the binary, the time to the first
//! answer. Each figure comes from a fresh process.

use std::fs;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::process;
use crate::round::{self, Placement, Scenario};
use crate::target::{Places, Start, Target, Up};

/// Of one gateway. Memory and size in bytes, time in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Footprint {
    pub(crate) target: &'static str,
    pub(crate) idle: u64,
    pub(crate) after: u64,
    /// How many calls came before `after`, at 64 at once.
    pub(crate) calls: u64,
    pub(crate) binary: u64,
    pub(crate) start: f64,
}

/// How much to do for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) calls: u64,
    pub(crate) starts: usize,
}

/// Weighs a gateway; `None` for the provider itself.
pub(crate) fn weigh(
    places: &Places,
    mock: &Up,
    target: Target,
    placement: Placement,
    effort: Effort,
) -> Result<Option<Footprint>, String> {
    let prepared = places.prepare(target, mock.port).map_err(|error| error.to_string())?;
    let Some(start) = prepared else { return Ok(None) };
    let (idle, after, calls) = memory(places, &start, target, placement, effort.calls)?;
    let mut times = Vec::with_capacity(effort.starts);
    for _ in 0..effort.starts {
        times.push(start.first_answer(placement.gateway())?.as_secs_f64() * 1e3);
    }
    let program = places.program(target)?;
    Ok(Some(Footprint {
        target: target.as_str(),
        idle,
        after,
        calls,
        binary: fs::metadata(program).map_err(|error| error.to_string())?.len(),
        start: round::median(times).unwrap_or_default(),
    }))
}

/// Resident before the first call and after the last one, and how many there were.
fn memory(
    places: &Places,
    start: &Start,
    target: Target,
    placement: Placement,
    calls: u64,
) -> Result<(u64, u64, u64), String> {
    let up = start.up(target, placement.gateway())?;
    let id = up.id().ok_or("no process")?;
    thread::sleep(SETTLE);
    let idle = process::resident(id);
    let scenario = Scenario { placement, connections: 64, body: 1 << 10, stream: false };
    let until = ["--calls".to_owned(), calls.to_string()];
    let figures = round::load(places, scenario, up.port, &until)?;
    thread::sleep(SETTLE);
    Ok((idle, process::resident(id), figures.calls))
}

/// For work that starts or ends a little later than the answers.
const SETTLE: Duration = Duration::from_millis(500);
