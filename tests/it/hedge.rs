//! A second try beside a late one, over real sockets: who is asked, who wins, what becomes of the
//! loser, and that nothing is left behind however it ends.

#![cfg(test)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::config_map::ConfigMap;
use crate::support::script::{Gate, Step, send, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::{chat, now, until};

/// `slow` is always asked first, `other` only as a hedge or after a failure.
fn config(hedge: &str, slow: &Upstream, other: &Upstream) -> String {
    format!(
        "router_settings: {{routing_strategy: simple-shuffle, num_retries: 0}}\n\
         pillion: {{hedge: {{mode: enabled, delay: 50ms, holdout: 0{hedge}}}}}\nmodel_list:\n{}{}",
        deployment("gpt", "slow", &slow.base(), ", weight: 1"),
        deployment("gpt", "other", &other.base(), ", weight: 0"),
    )
}

async fn start(hedge: &str, slow: &Upstream, other: &Upstream) -> Pillion {
    Start::with(config(hedge, slow, other)).ready().await
}

async fn prompt() -> Upstream {
    Upstream::start(|_| serve(chat::answer)).await
}

/// Answers each call when the gate is opened.
async fn gated(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::start(move |_| {
        let gate = gate.clone();
        serve(move |request| {
            let mut steps = vec![Step::Gate(gate.clone())];
            steps.extend(chat::answer(request));
            steps
        })
    })
    .await
}

/// A call with one more header.
fn with_header(call: &str, header: &str) -> String {
    call.replacen("\r\n", &format!("\r\n{header}\r\n"), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_answer_wins_and_the_losers_connection_is_closed() {
    let (slow, other) = (Upstream::silent().await, prompt().await);
    let sidecar = start(", budget: 1", &slow, &other).await;
    let mut lags = Vec::new();
    for number in 0..6 {
        let is_stream = number % 2 == 1;
        let call = if is_stream { chat::streamed("gpt") } else { chat::plain("gpt") };
        let answer = sidecar.ask(call).await;
        let answered = now();
        assert_eq!((answer.status(), answer.is_done()), (200, is_stream), "{answer:?}");
        let route = answer.head.header("x-pillion-route").unwrap();
        assert!(route.contains("deployment=other") && route.contains("hedge=won"), "{route}");
        lags.push(slow.closed(number).await.saturating_duration_since(answered));
    }
    println!("closed after the answer: {lags:?}");
    assert!(lags.iter().all(|lag| *lag < Duration::from_secs(1)), "{lags:?}");
    assert!(lags.iter().any(|lag| *lag < Duration::from_millis(50)), "{lags:?}");
    sidecar.rests().await;
    let records = sidecar.recorded(6).await;
    for record in &records {
        assert_eq!((&record["hedge"], &record["tries"]), (&"won".into(), &2.into()), "{record}");
        assert_eq!((&record["deployment"], &record["retries"]), (&"other".into(), &0.into()));
    }
    let metrics = sidecar.metrics().await;
    assert_eq!(metrics.sum("pillion_hedges_total", &[("outcome", "won")]), 6);
    assert_eq!(sidecar.tries("slow", "lost").await, 6);
    assert_eq!(sidecar.tries("other", "success").await, 6);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_losers_tokens_are_counted_apart_from_the_clients() {
    let (slow, other) = (Upstream::silent().await, prompt().await);
    let sidecar = start(", budget: 1", &slow, &other).await;
    for _ in 0..3 {
        assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    }
    sidecar.recorded(3).await;
    let metrics = sidecar.metrics().await;
    let of = |name: &str, deployment| metrics.sum(name, &[("deployment", deployment)]);
    // A provider that is cancelled stops: of the loser only the prompt is paid.
    assert_eq!(of("pillion_hedge_tokens_total", "slow"), 3 * chat::INPUT);
    assert_eq!(of("pillion_tokens_total", "slow"), 0);
    assert_eq!(of("pillion_tokens_total", "other"), 3 * (chat::INPUT + chat::OUTPUT));
    assert_eq!(of("pillion_hedge_tokens_total", "other"), 0);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_try_may_still_win() {
    let gate = Gate::shut();
    let (slow, other) = (gated(&gate).await, Upstream::silent().await);
    let sidecar = start("", &slow, &other).await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::streamed("gpt")).await;
    other.received(1).await;
    gate.open();
    let answer = wire.answer().await;
    assert!(answer.is_done(), "{answer:?}");
    other.closed(0).await;
    let records = sidecar.recorded(1).await;
    assert_eq!((&records[0]["hedge"], &records[0]["deployment"]), (&"lost".into(), &"slow".into()));
    assert_eq!(sidecar.tries("other", "lost").await, 1);
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_hedge_does_not_end_the_request_and_two_failures_do_once() {
    let refuse = send(chat::json(500, "{\"error\":{\"message\":\"no\"}}"));
    let (gate, refused) = (Gate::shut(), refuse.clone());
    let slow = gated(&gate).await;
    let other = Upstream::start(move |_| {
        let refused = refused.clone();
        serve(move |_| vec![refused.clone()])
    })
    .await;
    let sidecar = start("", &slow, &other).await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::plain("gpt")).await;
    other.received(1).await;
    until("the hedge to fail", async || {
        (sidecar.metrics().await.of("pillion_tries_in_flight") == 1).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(wire.answer().await.status(), 200);
    sidecar.stop().await;

    let late = vec![Step::Pause(Duration::from_millis(200)), refuse.clone()];
    let slow = Upstream::start(move |_| {
        let late = late.clone();
        serve(move |_| late.clone())
    })
    .await;
    let sidecar = start("", &slow, &other).await;
    let answer = sidecar.ask(chat::plain("gpt")).await;
    assert_eq!(answer.status(), 500, "{answer:?}");
    let records = sidecar.recorded(1).await;
    assert_eq!((&records[0]["hedge"], &records[0]["tries"]), (&"failed".into(), &2.into()));
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_during_a_hedge_ends_both() {
    let (slow, other) = (Upstream::silent().await, Upstream::silent().await);
    let sidecar = start("", &slow, &other).await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::streamed("gpt")).await;
    other.received(1).await;
    let left = now();
    drop(wire);
    for closed in [slow.closed(0).await, other.closed(0).await] {
        assert!(closed.saturating_duration_since(left) < Duration::from_secs(1));
    }
    sidecar.rests().await;
    let records = sidecar.recorded(1).await;
    assert_eq!((&records[0]["end"], &records[0]["tries"]), (&"abandoned".into(), &2.into()));
    assert_eq!(sidecar.tries("slow", "abandoned").await, 1);
    assert_eq!(sidecar.tries("other", "abandoned").await, 1);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_holds_for_both() {
    let (slow, other) = (Upstream::silent().await, Upstream::silent().await);
    let sidecar = start("", &slow, &other).await;
    let began = now();
    let call = with_header(&chat::plain("gpt"), "x-pillion-timeout-total: 0.4");
    let answer = sidecar.ask(call).await;
    assert_eq!(answer.status(), 408, "{answer:?}");
    let took = now().saturating_duration_since(began);
    assert!(took >= Duration::from_millis(400), "{took:?}");
    slow.closed(0).await;
    other.closed(0).await;
    assert_eq!((slow.requests().len(), other.requests().len()), (1, 1));
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_during_a_hedge_changes_nothing_for_it() {
    let gate = Gate::shut();
    let (slow, other) = (Upstream::silent().await, gated(&gate).await);
    let mut mount = ConfigMap::new(&config("", &slow, &other));
    let sidecar = Start::from_file(mount.file()).ready().await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::streamed("gpt")).await;
    other.received(1).await;
    mount.swap(&config(", percentile: 99", &slow, &other).replace("delay: 50ms, ", ""));
    until("the new configuration", async || {
        (sidecar.metrics().await.of("pillion_config_generation") == 2).then_some(())
    })
    .await;
    gate.open();
    let answer = wire.answer().await;
    assert!(answer.is_done(), "{answer:?}");
    slow.closed(0).await;
    sidecar.rests().await;
    sidecar.stop().await;
}

/// Good, late, failing, broken and silent in turns.
async fn flapping() -> Upstream {
    let turn = Arc::new(AtomicUsize::new(0));
    Upstream::start(move |_| {
        let turn = turn.clone();
        serve(move |request| match turn.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => chat::answer(request),
            1 => {
                let mut steps = vec![Step::Pause(Duration::from_millis(120))];
                steps.extend(chat::answer(request));
                steps
            }
            2 => vec![send(chat::json(500, "{\"error\":{\"message\":\"no\"}}"))],
            3 => vec![Step::Reset],
            _ => Vec::new(),
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_deployment_is_never_seen_by_the_clients() {
    for stream_upstream in [false, true] {
        let (flapping, good) = (flapping().await, prompt().await);
        let hedge = format!(", budget: 1, stream_upstream: {stream_upstream}");
        // A try that hangs where no hedge is permitted ends by its own time.
        let text = config(&hedge, &flapping, &good)
            .replace("num_retries: 0", "num_retries: 3, timeout: 0.4, disable_cooldowns: true");
        let sidecar = Start::with(text).ready().await;
        let mut clients = JoinSet::new();
        for client in 0..6 {
            let mut wire = sidecar.wire().await;
            clients.spawn(async move {
                for number in 0..20 {
                    let is_stream = (client + number) % 2 == 0;
                    let call = if is_stream { chat::streamed("gpt") } else { chat::plain("gpt") };
                    let answer = wire.ask(call).await;
                    assert_eq!((answer.status(), answer.is_done()), (200, is_stream), "{answer:?}");
                }
            });
        }
        clients.join_all().await;
        sidecar.rests().await;
        let records = sidecar.recorded(120).await;
        assert!(records.iter().all(|it| it["end"] == "complete"), "{records:?}");
        let asked = flapping.requests().len() + good.requests().len();
        let tries: u64 = records.iter().filter_map(|record| record["tries"].as_u64()).sum();
        assert_eq!(tries, asked as u64, "each call is in the books, and none is in twice");
        let hedges = sidecar.metrics().await.sum("pillion_hedges_total", &[("outcome", "won")]);
        assert!(hedges > 0 && flapping.requests().len() > 20, "{hedges}");
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_be_hedged_is_not_and_the_record_says_why() {
    let gate = Gate::shut();
    let (slow, other) = (gated(&gate).await, prompt().await);
    let sidecar = start("", &slow, &other).await;
    let two = chat::post(&chat::body("gpt", ",\"n\":2"));
    let off = with_header(&chat::plain("gpt"), "x-pillion-hedge: disabled");
    let seen = with_header(&chat::plain("gpt"), "x-pillion-hedge: observe");
    let mut wires = Vec::new();
    for call in [&two, &off, &seen] {
        let mut wire = sidecar.wire().await;
        wire.send(call).await;
        wires.push(wire);
    }
    slow.received(3).await;
    // Twice the delay after the last of them came, all would have been late.
    until("the delay", async || {
        let last = slow.requests().into_iter().map(|received| received.at).max()?;
        (now().saturating_duration_since(last) > Duration::from_millis(100)).then_some(())
    })
    .await;
    gate.open();
    for wire in &mut wires {
        assert_eq!(wire.answer().await.status(), 200);
    }
    assert!(other.requests().is_empty());
    let mut hedges: Vec<_> =
        sidecar.recorded(3).await.iter().map(|record| record["hedge"].to_string()).collect();
    hedges.sort();
    assert_eq!(hedges, ["\"ineligible\"", "\"observed\"", "null"]);
    let wrong = with_header(&chat::plain("gpt"), "x-pillion-hedge: on");
    let answer = sidecar.ask(wrong).await;
    assert!(answer.status() == 400 && answer.message().contains("disabled, enabled"), "{answer:?}");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_budget_ends_hedging() {
    let gate = Gate::shut();
    let (slow, other) = (gated(&gate).await, prompt().await);
    let sidecar = start(", budget: 0", &slow, &other).await;
    // Two hedges are saved up from the start.
    for _ in 0..2 {
        assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    }
    let mut wire = sidecar.wire().await;
    wire.send(chat::plain("gpt")).await;
    slow.received(3).await;
    until("the try to be late", async || {
        let last = slow.requests().last()?.at;
        (now().saturating_duration_since(last) > Duration::from_millis(100)).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(wire.answer().await.status(), 200);
    assert_eq!(other.requests().len(), 2);
    let records = sidecar.recorded(3).await;
    assert_eq!(records[2]["hedge"], "budget", "{records:?}");
    sidecar.stop().await;
}
