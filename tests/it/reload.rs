//! A configuration that changes under load: no request fails because of it, and what the sidecar
//! says about it is true.

#![cfg(test)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::config_map::ConfigMap;
use crate::support::script::{Gate, Step, send, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::wire::Wire;
use crate::support::{chat, until};

/// A provider that answers quickly, except for the stream of who asks for `slow`.
async fn provider(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::start(move |_| {
        let gate = gate.clone();
        serve(move |request| {
            if !request.wants_stream() {
                return vec![send(chat::whole("hello"))];
            }
            let mut steps = chat::stream(3);
            let pause = if request.says("slow") {
                Step::Gate(gate.clone())
            } else {
                Step::Pause(Duration::from_millis(5))
            };
            steps.insert(2, pause);
            steps
        })
    })
    .await
}

/// The nth configuration that can be served: `gpt` is always there, and nothing else stays.
fn good(number: usize, upstreams: &[Upstream]) -> String {
    let base = |at: usize| upstreams[at % upstreams.len()].base();
    let weight = format!(", weight: {}", 1 + number % 5);
    let mut text =
        format!("# version {number}\nrouter_settings: {{num_retries: 0}}\nmodel_list:\n");
    text += &deployment("gpt", &format!("d{}", number % 7), &base(number), &weight);
    if number.is_multiple_of(2) {
        text += &deployment("gpt", &format!("second{}", number % 3), &base(number + 1), "");
    }
    if number.is_multiple_of(3) {
        text += &deployment(&format!("group{number}"), &format!("g{number}"), &base(0), "");
    }
    text
}

/// The nth configuration that cannot be served.
fn broken(number: usize) -> String {
    match number % 5 {
        0 => format!("model_list: [ # {number}"),
        1 => format!(
            "model_list:\n  - model_name: gpt\n    litellm_params: {{model: nobody-knows-{number}/m}}\n"
        ),
        2 => String::new(),
        3 => format!("# nothing but a remark, {number}\n"),
        _ => format!("just words, {number}\n"),
    }
}

fn is_broken(swap: usize) -> bool {
    swap % 10 == 3 || swap % 10 == 8
}

/// Asks again and again until told to stop; returns what went wrong.
async fn ask_on(
    mut wire: Wire,
    lane: usize,
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let is_stream = (done.fetch_add(1, Ordering::SeqCst) + lane).is_multiple_of(2);
        let call = if is_stream { chat::streamed("gpt") } else { chat::plain("gpt") };
        let answer = wire.ask(call).await;
        if answer.status() != 200 || (is_stream && !answer.is_done()) {
            wrong.push(format!("{answer:?}"));
        }
    }
    wrong
}

async fn open_slow_stream(sidecar: &Pillion) -> Wire {
    let mut wire = sidecar.wire().await;
    let body = chat::body("gpt", ",\"stream\":true,\"user\":\"slow\"");
    wire.send(chat::post(&body)).await;
    wire.until_text("w0").await;
    wire
}

/// What the sidecar must say after a swap.
async fn check_truth(sidecar: &Pillion, swap: usize, generation: &mut u64) {
    let before = *generation;
    let ready = until("the swap to be noticed", async || {
        let ready = sidecar.readiness().await;
        let is_new = ready["generation"].as_u64()? > before;
        let is_refused = ready["in_sync"] == false && ready["last_error"].is_string();
        (if is_broken(swap) { is_refused } else { is_new && ready["in_sync"] == true })
            .then_some(ready)
    })
    .await;
    *generation = ready["generation"].as_u64().unwrap();
    assert_eq!(ready["state"], "ready");
    assert_eq!(ready["last_error"].is_null(), !is_broken(swap), "{ready}");
    let metrics = sidecar.metrics().await;
    let good = u64::from(!is_broken(swap));
    assert_eq!(metrics.of("pillion_config_generation"), *generation);
    assert_eq!(metrics.of("pillion_config_in_sync"), good);
    assert_eq!(metrics.of("pillion_config_last_reload_success"), good);
    let counted = |result| metrics.sum("pillion_config_reloads_total", &[("result", result)]);
    assert_eq!(counted("success"), *generation - 1);
    assert!(good == 1 || counted("failure") > 0);
    let models = sidecar.ask("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(models.body.contains("\"gpt\""), "{models:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_because_the_configuration_is_swapped() {
    const LANES: usize = 24;
    let gate = Gate::shut();
    let upstreams = [provider(&gate).await, provider(&gate).await, provider(&gate).await];
    let mut mount = ConfigMap::new(&good(0, &upstreams));
    let state = tempfile::tempdir().unwrap();
    let sidecar = Start::from_file(mount.file())
        .argument("--state-dir")
        .argument(state.path().display().to_string())
        .ready()
        .await;
    let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        lanes.spawn(ask_on(sidecar.wire().await, lane, done.clone(), stop.clone()));
    }
    let mut slow = Vec::new();
    let mut generation = 1;
    for swap in 1..=100 {
        if swap % 20 == 1 {
            slow.push(open_slow_stream(&sidecar).await);
        }
        mount.swap(&if is_broken(swap) { broken(swap / 5) } else { good(swap, &upstreams) });
        if swap % 10 == 8 || swap % 10 == 0 {
            check_truth(&sidecar, swap, &mut generation).await;
        }
        let before = done.load(Ordering::SeqCst);
        until("requests between two swaps", async || {
            (done.load(Ordering::SeqCst) >= before + 10).then_some(())
        })
        .await;
    }
    assert!(slow.len() == 5 && generation > 10, "{generation}");
    stop.store(true, Ordering::SeqCst);
    let wrong = lanes.join_all().await.concat();
    let done = done.load(Ordering::SeqCst);
    println!("{done} requests, 100 swaps, {generation} generations");
    assert!(wrong.is_empty(), "{} of {done} failed: {:?}", wrong.len(), wrong.first());
    assert!(done >= 1000, "{done}");
    gate.open();
    for mut wire in slow {
        let answer = wire.answer().await;
        assert!(answer.is_done() && answer.body.contains("w2"), "{answer:?}");
    }
    let asked: usize = upstreams.iter().map(|upstream| upstream.requests().len()).sum();
    assert_eq!(asked, done + 5);
    let metrics = sidecar.metrics().await;
    assert_eq!(metrics.of("pillion_tries_in_flight"), 0);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_swap_leaves_the_last_good_configuration_in_force() {
    let upstreams = [provider(&Gate::shut()).await];
    for number in 0..5 {
        let mut mount = ConfigMap::new(&good(0, &upstreams));
        let sidecar = Start::from_file(mount.file()).ready().await;
        // The first look must be over, or the sidecar meets the broken file before it watches.
        mount.swap(&good(1, &upstreams));
        check_truth(&sidecar, 1, &mut 1).await;
        mount.swap(&broken(number));
        check_truth(&sidecar, 3, &mut 2).await;
        assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200, "after {number}");
        sidecar.stop().await;
    }
}

async fn check_last_good(damage: impl FnOnce(&mut ConfigMap)) {
    let upstreams = [provider(&Gate::shut()).await];
    let mut mount = ConfigMap::new(&good(0, &upstreams));
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().display().to_string();
    let start = || Start::from_file(mount.file()).argument("--state-dir").argument(&folder);
    let sidecar = start().ready().await;
    until("the configuration to be kept", async || {
        state.path().join("last-good.yaml").is_file().then_some(())
    })
    .await;
    sidecar.stop().await;

    let start = start();
    damage(&mut mount);
    let sidecar = start.ready().await;
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    let ready = until("the truth about the file", async || {
        let ready = sidecar.readiness().await;
        (ready["in_sync"] == false && ready["last_error"].is_string()).then_some(ready)
    })
    .await;
    assert_eq!((&ready["state"], &ready["generation"]), (&"ready".into(), &1.into()));
    let metrics = sidecar.metrics().await;
    assert_eq!(metrics.of("pillion_config_in_sync"), 0);
    assert_eq!(metrics.of("pillion_config_last_reload_success"), 0);
    assert!(sidecar.log().contains("the last good configuration is served instead"));
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_configuration_serves_where_the_file_is_broken_or_gone() {
    check_last_good(|mount| mount.swap(&broken(0))).await;
    check_last_good(|mount| mount.swap("")).await;
    check_last_good(|mount| std::fs::remove_file(mount.file()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_last_good_configuration_a_broken_file_ends_the_start() {
    let ended = Start::with(broken(0)).spawn().ended().await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.err.join("\n").contains("cannot be served"), "{:?}", ended.err);
}
