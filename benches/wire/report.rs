//! The outcome as Markdown, ready for a README, and the targets it is held to.

use std::fmt::Write as _;
use std::fs;

use pillion::lexicon::time;
use serde::Serialize;

use crate::footprint::Footprint;
use crate::process;
use crate::round::{Placement, Row, Table};

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) cpu: String,
    pub(crate) kernel: String,
    pub(crate) date: String,
    /// What was left out, and why.
    pub(crate) notes: Vec<String>,
    pub(crate) tables: Vec<Table>,
    pub(crate) footprints: Vec<Footprint>,
    pub(crate) checks: Vec<Check>,
}

/// One target figure.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) limit: f64,
    /// `None` where it was not measured.
    pub(crate) value: Option<f64>,
}

impl Report {
    /// The report of a run on this machine, now.
    pub(crate) fn new(notes: Vec<String>, tables: Vec<Table>, footprints: Vec<Footprint>) -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let mut models = cpus.lines().filter_map(|line| line.strip_prefix("model name"));
        let model =
            models.next().map_or("unknown CPU", |rest| rest.trim_start_matches([' ', '\t', ':']));
        let checks = checks(&tables, &footprints);
        Self {
            cpu: format!("{model}, {} cores", process::cores()),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            date: httpdate::fmt_http_date(std::time::UNIX_EPOCH + time::unix_now()),
            notes,
            tables,
            footprints,
            checks,
        }
    }

    /// All of it.
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("Measured on {}, {}, {}.\n", self.cpu, self.kernel, self.date);
        out.push_str(
            "CPU is the gateway's per call; added is its latency less that of calling the provider \
             directly in the same round; medians over rounds; times in µs. With many at once on \
             one core the core is full, and latency is mostly waiting for it.\n",
        );
        for note in &self.notes {
            let _ = writeln!(out, "\n{note}");
        }
        for table in &self.tables {
            traffic(&mut out, table);
        }
        self.weights(&mut out);
        self.verdicts(&mut out);
        out
    }

    fn weights(&self, out: &mut String) {
        if self.footprints.is_empty() {
            return;
        }
        out.push_str(
            "\n### Footprint\n\n| | idle RSS, MiB | RSS after, MiB | calls before that | \
             binary, MB | start to first answer, ms |\n|---|--:|--:|--:|--:|--:|\n",
        );
        for it in &self.footprints {
            // The floors are part of the benchmark's own binary.
            let binary = if it.target.starts_with("floor") {
                "–".to_owned()
            } else {
                format!("{:.1}", megabytes(it.binary))
            };
            let _ = writeln!(
                out,
                "| {} | {:.1} | {:.1} | {} | {binary} | {:.1} |",
                it.target,
                mebibytes(it.idle),
                mebibytes(it.after),
                it.calls,
                it.start
            );
        }
    }

    fn verdicts(&self, out: &mut String) {
        if self.checks.iter().all(|check| check.value.is_none()) {
            return;
        }
        out.push_str("\n### Targets\n\n| | limit | measured | |\n|---|--:|--:|---|\n");
        for check in &self.checks {
            let (value, verdict) = match check.value {
                None => ("–".to_owned(), "not measured"),
                Some(value) if value <= check.limit => (format!("{value:.2}"), "pass"),
                Some(value) => (format!("{value:.2}"), "**fail**"),
            };
            let _ = writeln!(out, "| {} | {} | {value} | {verdict} |", check.what, check.limit);
        }
    }
}

fn traffic(out: &mut String, table: &Table) {
    let _ = writeln!(out, "\n### {}\n", table.scenario.name());
    if table.dropped > 0 {
        let _ = writeln!(
            out,
            "{} rounds did not count, since other programs used the machine; {} did.\n",
            table.dropped, table.kept
        );
    }
    if table.kept == 0 {
        return;
    }
    out.push_str(
        "| | CPU | × floor | × floor-parse | × nginx | × shuffle | added p50 | added p99 | added first byte | \
         p50 | p99 | calls/s | errors |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in &table.rows {
        line(out, row);
    }
}

fn line(out: &mut String, row: &Row) {
    let times = |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
    let direct = row.target == "direct";
    let unless_direct = |value: f64| if direct { "–".to_owned() } else { format!("{value:.1}") };
    let _ = writeln!(
        out,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} | {:.0} | {} |",
        row.target,
        unless_direct(row.cpu),
        times(row.to_floor),
        times(row.to_floor_parse),
        times(row.to_nginx),
        times(row.to_shuffle),
        unless_direct(row.added_p50),
        unless_direct(row.added_p99),
        unless_direct(row.added_first_p50),
        row.p50,
        row.p99,
        row.per_second,
        row.errors
    );
}

/// Against which floor a ratio is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Floor,
    FloorParse,
    Shuffle,
}

impl Base {
    /// What is held against it.
    const fn target(self) -> &'static str {
        match self {
            Self::Floor | Self::FloorParse => "pillion",
            Self::Shuffle => "pillion-hedge",
        }
    }
}

fn checks(tables: &[Table], footprints: &[Footprint]) -> Vec<Check> {
    let ratio = |body: usize, connections: usize, stream: bool, base: Base| {
        let fits = |table: &&Table| {
            let it = table.scenario;
            it.placement != Placement::TwoCores
                && (it.body, it.connections, it.stream) == (body << 10, connections, stream)
        };
        let row = tables.iter().find(fits)?.rows.iter().find(|row| row.target == base.target())?;
        match base {
            Base::Floor => row.to_floor,
            Base::FloorParse => row.to_floor_parse,
            Base::Shuffle => row.to_shuffle,
        }
    };
    let weight = footprints.iter().find(|it| it.target == "pillion");
    let weighed = |of: fn(&Footprint) -> f64| weight.map(of);
    let check =
        |what: &str, limit: f64, value: Option<f64>| Check { what: what.into(), limit, value };
    vec![
        check("CPU × floor, 1 KB, one at once", 1.8, ratio(1, 1, false, Base::Floor)),
        check("CPU × floor, 1 KB, 64 at once", 1.8, ratio(1, 64, false, Base::Floor)),
        check("CPU × floor, streams, 32 at once", 1.3, ratio(1, 32, true, Base::Floor)),
        check("CPU × floor-parse, 20 KB", 1.3, ratio(20, 1, false, Base::FloorParse)),
        check("CPU × floor-parse, 200 KB", 1.3, ratio(200, 1, false, Base::FloorParse)),
        check("CPU × shuffle, hedging, 1 KB, one at once", 1.05, ratio(1, 1, false, Base::Shuffle)),
        check("CPU × shuffle, hedging, 1 KB, 64 at once", 1.05, ratio(1, 64, false, Base::Shuffle)),
        check("CPU × shuffle, hedging, streams", 1.05, ratio(1, 32, true, Base::Shuffle)),
        check("Idle RSS, MiB", 10.0, weighed(|it| mebibytes(it.idle))),
        check("RSS after the calls, MiB", 20.0, weighed(|it| mebibytes(it.after))),
        check("Start to first answer, ms", 100.0, weighed(|it| it.start)),
        check("Binary, MB", 16.0, weighed(|it| megabytes(it.binary))),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
