//! The proof of effect by the real binary: what `/report`, `/metrics` and `pillion report` tell is
//! what the providers saw.

#![cfg(test)]

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::metrics::Metrics;
use crate::support::script::{Step, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::{chat, until};

const LATE: Duration = Duration::from_millis(300);
/// When a hedge is made.
const DELAY: f64 = 0.06;
const CALLS: usize = 80;
/// Of ten calls two are late and may be hedged, and two are late and must not.
const HEDGED: [usize; 2] = [3, 6];
const HELD_OUT: [usize; 2] = [4, 7];

/// Dollars for a token of a prompt.
const PRICE: f64 = 0.000_001;

struct World {
    slow: Upstream,
    other: Upstream,
    sidecar: Pillion,
}

/// `slow` is always asked first and `other` only as a hedge.
async fn world(mode: &str) -> World {
    let count = Arc::new(AtomicUsize::new(0));
    let slow = Upstream::start(move |_| {
        let count = count.clone();
        serve(move |request| {
            let call = count.fetch_add(1, Ordering::Relaxed) % 10;
            let is_late = HEDGED.contains(&call) || HELD_OUT.contains(&call);
            let mut steps = vec![];
            steps.extend(is_late.then_some(Step::Pause(LATE)));
            steps.extend(chat::answer(request));
            steps
        })
    })
    .await;
    let other = Upstream::start(|_| serve(chat::answer)).await;
    let price = format!("input_cost_per_token: {PRICE:.6}, output_cost_per_token: 0.000002");
    let config = format!(
        "router_settings: {{routing_strategy: simple-shuffle, num_retries: 0}}\n\
         pillion: {{hedge: {{mode: {mode}, delay: {DELAY}s, holdout: 0, budget: 1}}}}\n\
         model_list:\n{}{}{}",
        deployment("gpt", "slow", &slow.base(), &format!(", weight: 1, {price}")),
        deployment("gpt", "other", &other.base(), &format!(", weight: 0, {price}")),
        deployment("idle", "idle", &other.base(), ""),
    );
    let sidecar = Start::with(config).ready().await;
    World { slow, other, sidecar }
}

impl World {
    /// Makes all calls and waits until they are told.
    async fn run(&self) -> Value {
        for number in 0..CALLS {
            let is_stream = number / 10 % 2 == 1;
            let call = if is_stream { chat::streamed("gpt") } else { chat::plain("gpt") };
            let header = if HELD_OUT.contains(&(number % 10)) { "disabled" } else { "" };
            let line = format!("\r\nx-pillion-hedge: {header}\r\n");
            let call = if header.is_empty() { call } else { call.replacen("\r\n", &line, 1) };
            assert_eq!(self.sidecar.ask(call).await.status(), 200);
        }
        self.sidecar.recorded(CALLS).await;
        self.sidecar.rests().await;
        assert_eq!(self.slow.requests().len(), CALLS);
        let (mut before, mut rounds) = ((Value::Null, 0.0), 0);
        until("all calls to be told", async || {
            let report = self.report().await;
            let explained = self.sidecar.get("/explain?model=gpt").await.json();
            // It fades from one round of the learner to the next: so rounds are told apart, and
            // one that was complete has brought all that there is.
            let fading = explained.pointer("/candidates/0/outlook/samples")?.as_f64()?;
            let told = sum(&report, "/requests");
            rounds = match &before {
                (known, faded) if *known == report => rounds + i32::from(*faded > fading),
                _ => 0,
            };
            before = (report.clone(), fading);
            // Not all are told: until a few answers have taught what to expect, none is.
            (rounds > 2 && told > CALLS as u64 / 2).then_some(report)
        })
        .await
    }

    async fn report(&self) -> Value {
        let answer = self.sidecar.get("/report").await;
        assert_eq!(answer.status(), 200);
        answer.json()
    }

    fn admin(&self) -> String {
        format!("http://{}", self.sidecar.admin)
    }
}

fn routes(report: &Value) -> Vec<&Value> {
    report["routes"].as_array().expect("a list of routes").iter().collect()
}

/// The sum of a number over all routes.
fn sum(report: &Value, pointer: &str) -> u64 {
    let of = |route: &&Value| route.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    routes(report).iter().map(of).sum()
}

#[track_caller]
fn near(got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-4 * want.abs(), "{got} is not {want}");
}

/// The one sample with these labels.
#[track_caller]
fn sample(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |line: &&str| {
        let label = |(label, value): &(&str, &str)| line.contains(&format!("{label}=\"{value}\""));
        line.split('{').next() == Some(name) && labels.iter().all(label)
    };
    let lines: Vec<_> = metrics.0.lines().filter(fits).collect();
    let [line] = lines.as_slice() else { panic!("{name} {labels:?}: {lines:?}") };
    line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok()).expect("a number")
}

/// Every number of the report that is a metric too.
fn check_metrics(report: &Value, metrics: &Metrics) {
    for route in routes(report) {
        let stream = route["stream"].to_string();
        let place = [("model_group", "gpt"), ("stream", &stream)];
        for (hedging, name) in [("with", "0.5"), ("without", "0.95"), ("without", "0.99")] {
            let percentile = &route[hedging]
                [["p50", "p95", "p99"][usize::from(name > "0.5") + usize::from(name > "0.95")]];
            for (bound, field) in [("estimate", "value"), ("low", "low"), ("high", "high")] {
                let labels =
                    [&place[..], &[("hedging", hedging), ("quantile", name), ("bound", bound)]];
                let shown = sample(metrics, "pillion_hedge_wait_seconds", &labels.concat());
                near(shown, percentile[field].as_f64().expect("a bounded percentile"));
            }
        }
        for hedges in ["made", "observed"] {
            let worth = &route[hedges];
            if worth.is_null() {
                continue;
            }
            let labels = [&place[..], &[("hedges", hedges)]].concat();
            for (metric, field) in [
                ("pillion_hedge_win_ratio", "/win_rate/value"),
                ("pillion_hedge_saved_seconds", "/seconds_saved/value"),
                ("pillion_hedge_extra_tokens_total", "/extra_tokens"),
                ("pillion_hedge_extra_cost_usd_total", "/extra_cost_usd"),
                ("pillion_hedge_usd_per_saved_second", "/usd_per_second_saved/value"),
            ] {
                let told = worth.pointer(field).and_then(Value::as_f64).expect(field);
                near(sample(metrics, metric, &labels), told);
            }
        }
    }
}

fn pillion(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .arg("report")
        .args(arguments)
        .env_clear()
        .output()
        .expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_says_what_the_providers_saw() {
    let world = world("enabled").await;
    let report = world.run().await;
    assert_eq!((routes(&report).len(), &report["without_requests"]), (2, &vec!["idle"].into()));
    let extra = world.other.requests().len() as u64;
    assert_eq!(extra, (HEDGED.len() * CALLS / 10) as u64);
    assert_eq!(sum(&report, "/made/extra_requests"), extra);
    assert_eq!(sum(&report, "/made/won"), extra);
    assert_eq!(sum(&report, "/made/extra_tokens"), extra * chat::INPUT);
    let metrics = world.sidecar.metrics().await;
    for outcome in ["won", "lost", "failed", "observed", "budget"] {
        let counted = metrics.sum("pillion_hedges_total", &[("outcome", outcome)]);
        assert_eq!(sum(&report, &format!("/outcomes/{outcome}")), counted, "{outcome}");
    }
    assert_eq!(metrics.of("pillion_hedge_tokens_total"), extra * chat::INPUT);
    check_metrics(&report, &metrics);
    for route in routes(&report) {
        assert_eq!(
            (&route["with"]["basis"], &route["without"]["basis"]),
            (&"measured".into(), &"estimated".into())
        );
        let made = &route["made"];
        let tokens = made["extra_tokens"].as_f64().unwrap_or_default();
        near(made["extra_cost_usd"].as_f64().unwrap_or_default(), tokens * PRICE);
        let each = &made["seconds_saved_per_win"];
        let true_saving = LATE.as_secs_f64() - DELAY;
        assert!(each["low"].as_f64().is_some_and(|low| low < true_saving), "{each}");
        assert!(each["high"].as_f64().is_none_or(|high| high > true_saving), "{each}");
        let [without, with] =
            ["without", "with"].map(|it| route[it]["p99"]["high"].as_f64().unwrap_or(f64::MAX));
        assert!(without >= LATE.as_secs_f64() && with >= DELAY, "{route}");
        assert_eq!(route["observed"], Value::Null);
    }
    world.check_command(&report, "hedging saved");
    world.sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_observes_says_what_hedging_would_do() {
    let world = world("observe").await;
    let report = world.run().await;
    assert_eq!(world.other.requests().len(), 0, "nobody is asked twice");
    let late = (HEDGED.len() * CALLS / 10) as u64;
    assert_eq!(sum(&report, "/observed/hedges"), late);
    assert_eq!(sum(&report, "/observed/extra_requests"), late);
    assert_eq!(sum(&report, "/observed/extra_tokens"), late * chat::INPUT);
    let metrics = world.sidecar.metrics().await;
    assert_eq!(metrics.sum("pillion_hedges_total", &[("outcome", "observed")]), late);
    check_metrics(&report, &metrics);
    for route in routes(&report) {
        assert_eq!(
            (&route["with"]["basis"], &route["without"]["basis"]),
            (&"estimated".into(), &"measured".into())
        );
        assert_eq!((&route["made"], &route["observed"]["won"]), (&Value::Null, &Value::Null));
        let [without, with] =
            ["without", "with"].map(|it| route[it]["p95"]["value"].as_f64().unwrap_or_default());
        assert!(with <= without && without >= 0.9 * LATE.as_secs_f64(), "{route}");
        let saved = route["observed"]["seconds_saved"]["value"].as_f64().unwrap_or_default();
        assert!(saved > 0.0 && saved < 100.0 * LATE.as_secs_f64(), "{route}");
    }
    world.check_command(&report, "hedging would have saved");
    world.sidecar.stop().await;
}

impl World {
    /// The command says the same from the address, from a file, and as JSON; and draws it.
    fn check_command(&self, report: &Value, sentence: &str) {
        let folder = tempfile::tempdir().expect("there is room for files");
        let [saved, drawn] = ["report.json", "waits.svg"].map(|name| folder.path().join(name));
        let [saved_at, drawn_at] = [&saved, &drawn].map(|path| path.to_str().expect("a name"));
        let (code, table, said) = pillion(&["--from", &self.admin()]);
        assert_eq!((code, &*said), (Some(0), ""));
        for wanted in [sentence, "gpt, streams: ", "gpt, whole answers: ", "No request yet: idle."]
        {
            assert!(table.contains(wanted), "no `{wanted}` in\n{table}");
        }
        println!("{table}");
        let (code, json, _) =
            pillion(&["--from", &format!("{}/report", self.admin()), "--format", "json"]);
        assert_eq!((code, serde_json::from_str(&json).ok().as_ref()), (Some(0), Some(report)));
        fs::write(&saved, json).expect("a file can be written");
        let (code, from_file, _) = pillion(&["--from", saved_at, "--svg", drawn_at]);
        assert_eq!((code, from_file), (Some(0), table));
        let svg = fs::read_to_string(&drawn).expect("there is a picture");
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for wanted in
            ["gpt, streams", "gpt, whole answers", sentence, "p99", "measured", "estimated"]
        {
            assert!(svg.contains(wanted), "no `{wanted}` in the picture");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_gets_a_sentence() {
    let other = Upstream::start(|_| serve(chat::answer)).await;
    let text = String::from("model_list:\n") + &deployment("gpt", "d", &other.base(), "");
    let sidecar = Start::with(text).ready().await;
    let folder = tempfile::tempdir().expect("there is room for files");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        path.to_str().expect("a name").to_owned()
    };
    let admin = format!("http://{}", sidecar.admin);
    let young = sidecar.get("/report").await.body;
    let young = file("young.json", &young);
    let no_folder = format!("{}/none/x.svg", folder.path().display());
    let picture = format!("{}/x.svg", folder.path().display());
    for (arguments, code, sentence) in [
        (vec!["--from", "http://127.0.0.1:1"], 1, "cannot ask http://127.0.0.1:1/report: "),
        (vec!["--from", "http://"], 1, "`http://` is no address"),
        (vec!["--from", &format!("http://{}", sidecar.api)], 1, "is that the admin port"),
        (vec!["--from", &format!("{admin}/metrics")], 1, "is no JSON"),
        (vec!["--from", &format!("{admin}/readyz")], 1, "is no report: missing field `report`"),
        (vec!["--from", &file("a.json", "{\"report\": ")], 1, "a.json is no JSON: EOF"),
        (vec!["--from", &file("b.json", "[1]")], 1, "b.json is no report"),
        (vec!["--from", "/nowhere/report.json"], 1, "cannot read /nowhere/report.json: No such"),
        (vec!["--from", &young, "--svg", &picture], 1, "cannot draw: no route has waits"),
        (vec!["--from", &young, "--svg", &no_folder], 1, "cannot draw: no route has waits"),
        (vec!["--form", &young], 2, "--form"),
        (vec!["--from"], 2, "--from"),
    ] {
        let (got, out, said) = pillion(&arguments);
        assert_eq!(got, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(sentence), "{arguments:?}: {said}");
        let is_young = arguments.contains(&"--svg");
        assert_eq!(out.contains("No request yet: gpt."), is_young, "{arguments:?}: {out}");
    }
    sidecar.stop().await;
}
