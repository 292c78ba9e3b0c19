//! Minutes of steady load with faults by chance, by the real binary: nothing hangs, nothing that
//! is not whole looks whole, and nothing is left behind.
//!
//! `SOAK=600` makes it so many seconds, `SEED=…` draws the same requests again. In the middle and
//! at the end the clients pause until the sidecar rests; that is when memory is compared.

#![cfg(test)]

mod client;
mod errand;
mod figures;
mod lanes;
mod process;
mod providers;

use std::time::Duration;

use crate::support::metrics::Metrics;
use crate::support::sidecar::{Pillion, Start};
use crate::support::{PATIENCE, until};
use figures::Figures;
use process::Process;
use providers::Providers;

/// How long the clients come, in `tests/run`; two waits for the last answers come on top.
const USUAL_SECONDS: u64 = 10;
/// From this length on it is waited until idle connections are closed for their age.
const LONG_SECONDS: u64 = 120;
/// How long the sidecar keeps an idle connection, and how long it takes it to notice; less than
/// is waited for anyway.
const IDLE: Duration = Duration::from_secs(120);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var_os(variable)?;
    Some(text.to_str().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_false_or_left_behind_after_minutes_of_faults() {
    let seconds = number("SOAK").unwrap_or(USUAL_SECONDS);
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("SOAK={seconds} SEED={seed}");
    let providers = Providers::start().await;
    let sidecar = Start::with(providers.config()).ready().await;
    let before = Process::read(sidecar.id());
    let mut figures = Figures::default();
    let half = Duration::from_millis(seconds * 500);
    lanes::play(0, seed, half, (&sidecar, &providers), &mut figures).await;
    sidecar.rests().await;
    let middle = Process::read(sidecar.id());
    lanes::play(1, seed, half, (&sidecar, &providers), &mut figures).await;
    sidecar.rests().await;
    let end = Process::read(sidecar.id());
    read_log(&sidecar, &mut figures).await;
    let metrics = sidecar.metrics().await;
    check_books(&metrics, &providers, &mut figures);
    check_memory([middle, end], seconds, &mut figures);
    print(&figures, &metrics, [before, middle, end]);
    let wrong = &figures.wrong[..figures.wrong.len().min(20)];
    assert!(wrong.is_empty(), "SEED={seed}: wrong {}:\n{}", figures.wrong.len(), wrong.join("\n"));
    check_connections(&sidecar, providers, seconds).await;
    until("all files to be closed", async || {
        (Process::read(sidecar.id()).files <= before.files).then_some(())
    })
    .await;
    sidecar.stop().await;
}

/// Reads the rest of the log: each request has a record, however soon its client left.
async fn read_log(sidecar: &Pillion, figures: &mut Figures) {
    let complete = until("a record of each request that was made", async || {
        figures.note(sidecar.take_records());
        (figures.recorded() >= figures.made()).then_some(())
    });
    // Whose is missing is told where both books are compared.
    let _ = tokio::time::timeout(PATIENCE / 2, complete).await;
}

/// Each request is recorded once, each try too, and each call of the providers is one of them.
fn check_books(metrics: &Metrics, providers: &Providers, figures: &mut Figures) {
    figures.compare();
    let (records, told) = (figures.recorded() as u64, figures.tries);
    let mut check = |is_so: bool, what: String| {
        if !is_so {
            figures.wrong.push(what);
        }
    };
    let requests = metrics.of("pillion_requests_total");
    check(requests == records, format!("{requests} requests in the metrics, {records} records"));
    let tries = metrics.of("pillion_tries_total");
    check(tries == told, format!("{tries} tries in the metrics, {told} in the records"));
    let of = |name: &String| metrics.sum("pillion_tries_total", &[("deployment", name)]);
    let (counted, asked) =
        (providers.counted().iter().map(of).sum::<u64>(), providers.asked() as u64);
    // A try that was given up may not have come to its provider.
    let given_up =
        ["abandoned", "lost"].map(|it| metrics.sum("pillion_tries_total", &[("outcome", it)]));
    let fits = (asked..=asked + given_up.iter().sum::<u64>()).contains(&counted);
    check(fits, format!("{counted} tries, and providers saw {asked}; {given_up:?} were given up"));
    println!("tries {tries}, of which {counted} to providers who count, and they saw {asked}");
}

/// Memory does not grow by more than a tenth. The middle of a short run is early: it is given some
/// more, for what is only learned later.
fn check_memory([middle, end]: [Process; 2], seconds: u64, figures: &mut Figures) {
    let early = if seconds < LONG_SECONDS { 2_048 } else { 0 };
    let most = middle.resident_kib + middle.resident_kib / 10 + early;
    if end.resident_kib > most {
        figures.wrong.push(format!("memory grew from {middle:?} to {end:?}"));
    }
}

fn print(figures: &Figures, metrics: &Metrics, moments: [Process; 3]) {
    println!("{}", figures.by_fault());
    println!("\n| figure | |");
    for name in [
        "retries_total",
        "fallbacks_total",
        "cooldowns_total",
        "cooldown_panics_total",
        "stream_events_skipped_total",
        "access_log_dropped_total",
        "upstream_connections_opened_total",
    ] {
        println!("| {name} | {} |", metrics.of(&format!("pillion_{name}")));
    }
    for outcome in ["won", "lost", "failed"] {
        let hedges = metrics.sum("pillion_hedges_total", &[("outcome", outcome)]);
        println!("| hedges {outcome} | {hedges} |");
    }
    for outcome in ["unseen", "restarted", "continued", "differed", "failed", "ineligible"] {
        let labels = [("outcome", outcome)];
        let streams = metrics.sum("pillion_stream_recoveries_total", &labels);
        println!("| broken streams {outcome} | {streams} |");
    }
    println!("| slowest | {} |", figures.slowest());
    let [resident, files] = [
        moments.map(|moment| moment.resident_kib.to_string()).join(", "),
        moments.map(|moment| moment.files.to_string()).join(", "),
    ];
    println!("| KiB resident before, in the middle, at the end | {resident} |");
    println!("| files then | {files} |");
}

/// All connections are idle ones, that the providers see too, and they are closed when they are
/// old, or when their provider closes them.
async fn check_connections(sidecar: &Pillion, providers: Providers, seconds: u64) {
    const OPEN: &str = "pillion_upstream_connections_open";
    let idle = until("the connections to be those that the providers see", async || {
        let open = providers.open();
        (sidecar.metrics().await.of(OPEN) == open as u64).then_some(open)
    })
    .await;
    println!("| idle connections at the end | {idle} |");
    if seconds >= LONG_SECONDS {
        tokio::time::sleep(IDLE).await;
        sidecar.falls_to_zero(&[OPEN]).await;
    }
    drop(providers);
    sidecar.falls_to_zero(&[OPEN]).await;
}
