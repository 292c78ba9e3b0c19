//! More requests than there is room for: who waits, in which order and how long, and who is turned
//! away, with which words.

#![cfg(test)]

use std::time::Duration;

use serde_json::Value;

use crate::support::script::{Gate, Step, send, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::wire::{Answer, Wire};
use crate::support::{chat, now, until};

/// What is at zero when nothing is left of any request.
const GAUGES: [&str; 3] =
    ["pillion_requests_in_flight", "pillion_tries_in_flight", "pillion_requests_queued"];

/// A provider that answers each request with its own number when its gate is opened.
async fn gated(gates: &[Gate]) -> Upstream {
    let gates = gates.to_vec();
    Upstream::start(move |_| {
        let gates = gates.clone();
        serve(move |request| {
            let number = (0..gates.len()).find(|number| request.says(&format!("call {number}.")));
            let number = number.expect("a call has a number");
            vec![Step::Gate(gates[number].clone()), send(chat::whole(&number.to_string()))]
        })
    })
    .await
}

fn shut(count: usize) -> Vec<Gate> {
    (0..count).map(|_| Gate::shut()).collect()
}

fn call(model: &str, number: usize) -> String {
    chat::post(&chat::body(model, &format!(",\"user\":\"call {number}.\"")))
}

/// A group `gpt` of one deployment with so many seats.
async fn sidecar(upstream: &Upstream, seats: u32, limits: &str) -> Pillion {
    let more = format!(", max_parallel_requests: {seats}");
    let config = format!(
        "router_settings: {{num_retries: 0}}\npillion: {{limits: {{{limits}}}}}\nmodel_list:\n{}",
        deployment("gpt", "d", &upstream.base(), &more)
    );
    Start::with(config).ready().await
}

/// Sends a call and waits until it stands in the line, which is then so long.
async fn line_up(sidecar: &Pillion, number: usize, length: u64) -> Wire {
    let mut wire = sidecar.wire().await;
    wire.send(call("gpt", number)).await;
    queued(sidecar, length).await;
    wire
}

async fn queued(sidecar: &Pillion, length: u64) {
    until("the line", async || {
        (sidecar.metrics().await.of("pillion_requests_queued") == length).then_some(())
    })
    .await;
}

/// The numbers of the calls that have come to the provider, in their order.
fn asked(upstream: &Upstream) -> Vec<usize> {
    let number = |body: &[u8]| (0..10).find(|number| says(body, &format!("call {number}.")));
    upstream.requests().iter().filter_map(|received| number(&received.request.body)).collect()
}

fn says(body: &[u8], text: &str) -> bool {
    memchr::memmem::find(body, text.as_bytes()).is_some()
}

#[track_caller]
fn check_refused(answer: &Answer, status: u16, kind: &str, words: &[&str]) {
    assert_eq!(answer.status(), status, "{answer:?}");
    let after: u64 = answer.head.header("retry-after").expect("it says when").parse().unwrap();
    assert!((1..=60).contains(&after), "{answer:?}");
    let body = answer.json();
    assert_eq!(body["error"]["type"], kind, "{body}");
    assert!(words.iter().all(|word| answer.message().contains(word)), "{}", answer.message());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_seat_waits_and_is_served_in_the_order_of_coming() {
    let gates = shut(4);
    let upstream = gated(&gates).await;
    let sidecar = sidecar(&upstream, 1, "queue_timeout: 60").await;
    let mut first = sidecar.wire().await;
    first.send(call("gpt", 0)).await;
    upstream.received(1).await;
    let mut waiting = Vec::new();
    for number in 1..4 {
        waiting.push(line_up(&sidecar, number, number as u64).await);
    }
    assert_eq!(asked(&upstream), [0]);
    gates[0].open();
    assert_eq!(first.answer().await.status(), 200);
    for (at, wire) in waiting.iter_mut().enumerate() {
        upstream.received(at + 2).await;
        queued(&sidecar, 2 - at as u64).await;
        gates[at + 1].open();
        let answer = wire.answer().await;
        assert_eq!(
            (answer.status(), answer.head.header("x-litellm-attempted-fallbacks")),
            (200, Some("0"))
        );
        assert!(answer.body.contains(&format!("\"content\":\"{}\"", at + 1)), "{answer:?}");
    }
    assert_eq!(asked(&upstream), [0, 1, 2, 3]);
    sidecar.falls_to_zero(&GAUGES).await;
    let metrics = sidecar.metrics().await;
    assert_eq!(metrics.of("pillion_queue_wait_seconds_count"), 3);
    let records = sidecar.recorded(4).await;
    let waited = |number: usize| records[number]["queued_ms"].as_f64();
    assert_eq!(waited(0), None);
    assert!((1..4).all(|number| waited(number) > Some(0.0)), "{records:#?}");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_longer_than_the_queue_or_the_request_allows() {
    let gates = shut(3);
    let upstream = gated(&gates).await;
    for (limits, total, least) in
        [("queue_timeout: 300ms", "", 300), ("", "x-pillion-timeout-total: 0.4\r\n", 400)]
    {
        let before = upstream.requests().len();
        let sidecar = sidecar(&upstream, 1, limits).await;
        let mut first = sidecar.wire().await;
        first.send(call("gpt", 0)).await;
        upstream.received(before + 1).await;
        let began = now();
        let late = call("gpt", 1).replacen("host:", &format!("{total}host:"), 1);
        let answer = sidecar.ask(late).await;
        let took = now().saturating_duration_since(began);
        assert!(took >= Duration::from_millis(least) && took < Duration::from_secs(5), "{took:?}");
        check_refused(
            &answer,
            429,
            "rate_limit_error",
            &["`gpt`", "max_parallel_requests", "queue_timeout"],
        );
        let record = sidecar.recorded(1).await.remove(0);
        assert_eq!((&record["shed"], &record["tries"]), (&"queue_timeout".into(), &0.into()));
        // The seat that comes free now is nobody's.
        drop(first);
        sidecar.falls_to_zero(&GAUGES).await;
        gates[2].open();
        assert_eq!(sidecar.ask(call("gpt", 2)).await.status(), 200);
        assert_eq!(upstream.requests().len(), before + 2);
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_the_line_full_or_closed_is_turned_away_at_once() {
    let gates = shut(3);
    let upstream = gated(&gates).await;
    let cases = [
        ("max_queued_requests: 1", 1, "1 requests wait already"),
        ("max_queued_requests: 0", 0, "allows; raise"),
        ("queue_timeout: 0", 0, "allows; raise"),
    ];
    for (limits, length, word) in cases {
        let before = upstream.requests().len();
        let sidecar = sidecar(&upstream, 1, limits).await;
        let mut first = sidecar.wire().await;
        first.send(call("gpt", 0)).await;
        upstream.received(before + 1).await;
        let waiting = if length == 1 { Some(line_up(&sidecar, 1, 1).await) } else { None };
        let answer = sidecar.ask(call("gpt", 2)).await;
        check_refused(&answer, 429, "rate_limit_error", &[word]);
        let record = sidecar.recorded(1).await.remove(0);
        assert_eq!(
            (&record["shed"], &record["queued_ms"]),
            (&"queue_full".into(), &Value::Null),
            "{record}"
        );
        let counted =
            sidecar.metrics().await.sum("pillion_requests_shed_total", &[("reason", "queue_full")]);
        assert_eq!(counted, 1);
        drop((first, waiting));
        sidecar.falls_to_zero(&GAUGES).await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_line_frees_the_place_and_starts_nothing() {
    let gates = shut(4);
    let upstream = gated(&gates).await;
    let sidecar = sidecar(&upstream, 1, "max_queued_requests: 2").await;
    let mut first = sidecar.wire().await;
    first.send(call("gpt", 0)).await;
    upstream.received(1).await;
    let leaver = line_up(&sidecar, 1, 1).await;
    let mut second = line_up(&sidecar, 2, 2).await;
    drop(leaver);
    queued(&sidecar, 1).await;
    // There is a place again, behind those who stayed.
    let third = line_up(&sidecar, 3, 2).await;
    gates[0].open();
    gates[2].open();
    assert!(first.answer().await.status() == 200 && second.answer().await.status() == 200);
    upstream.received(3).await;
    drop(third);
    sidecar.falls_to_zero(&GAUGES).await;
    assert_eq!(asked(&upstream), [0, 2, 3]);
    let records = sidecar.recorded(4).await;
    let left = &records[0];
    assert_eq!((&left["end"], &left["tries"]), (&"abandoned".into(), &0.into()));
    assert!(left["queued_ms"].as_f64() > Some(0.0), "{left}");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_with_room_is_asked_before_anybody_waits() {
    let gates = shut(3);
    let (own, other) = (gated(&gates).await, gated(&gates).await);
    let one = ", max_parallel_requests: 1";
    let config = format!(
        "router_settings: {{num_retries: 0, fallbacks: [{{gpt: [spare]}}]}}\nmodel_list:\n{}{}",
        deployment("gpt", "own", &own.base(), one),
        deployment("spare", "other", &other.base(), one),
    );
    let sidecar = Start::with(config).ready().await;
    let (mut first, mut second) = (sidecar.wire().await, sidecar.wire().await);
    first.send(call("gpt", 0)).await;
    own.received(1).await;
    second.send(call("gpt", 1)).await;
    other.received(1).await;
    // Both are busy: the group that was asked for is waited for, not the fallback.
    let mut third = line_up(&sidecar, 2, 1).await;
    gates[1].open();
    let answer = second.answer().await;
    assert_eq!(answer.head.header("x-litellm-model-group"), Some("spare"), "{answer:?}");
    assert_eq!(sidecar.metrics().await.of("pillion_requests_queued"), 1);
    gates[0].open();
    gates[2].open();
    let answer = third.answer().await;
    assert_eq!(answer.head.header("x-litellm-model-group"), Some("gpt"), "{answer:?}");
    assert_eq!((own.requests().len(), other.requests().len()), (2, 1));
    drop(first);
    sidecar.falls_to_zero(&GAUGES).await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_seat_is_lost_whatever_becomes_of_those_who_wait() {
    const CALLS: usize = 60;
    let gate = Gate::shut();
    let shut = gate.clone();
    let upstream = Upstream::start(move |_| {
        let gate = shut.clone();
        serve(move |request| {
            let mut steps = vec![Step::Gate(gate.clone())];
            steps.extend(chat::answer(request));
            steps
        })
    })
    .await;
    let sidecar = sidecar(&upstream, 2, "queue_timeout: 60").await;
    let mut wires = Vec::new();
    for number in 0..CALLS {
        let mut wire = sidecar.wire().await;
        let stream = number % 2 == 0;
        wire.send(if stream { chat::streamed("gpt") } else { chat::plain("gpt") }).await;
        wires.push(wire);
    }
    queued(&sidecar, CALLS as u64 - 2).await;
    gate.open();
    // Every third client leaves out of the middle of the line, which moves meanwhile.
    let mut calls = tokio::task::JoinSet::new();
    for (number, mut wire) in wires.into_iter().enumerate() {
        if number % 3 != 2 {
            calls.spawn(async move { wire.answer().await.status() });
        }
    }
    assert_eq!(calls.join_all().await, vec![200; CALLS - CALLS / 3]);
    sidecar.falls_to_zero(&GAUGES).await;
    let records = sidecar.recorded(CALLS).await;
    let tries: u64 = records.iter().filter_map(|record| record["tries"].as_u64()).sum();
    assert_eq!(tries, upstream.requests().len() as u64);
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    sidecar.stop().await;
}

fn messages(number: usize) -> String {
    let body = chat::body("gpt", &format!(",\"max_tokens\":9,\"user\":\"call {number}.\""));
    let head = "POST /v1/messages HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limit_of_the_sidecar_calls_are_turned_away_before_their_bodies() {
    let gates = shut(4);
    let upstream = gated(&gates).await;
    let deployment = deployment("gpt", "d", &upstream.base(), "");
    let limits = [
        "pillion: {limits: {max_parallel_requests: 2}}",
        "general_settings: {global_max_parallel_requests: 2}",
    ];
    for limit in limits {
        let before = upstream.requests().len();
        let sidecar = Start::with(format!("{limit}\nmodel_list:\n{deployment}")).ready().await;
        let (mut first, second) = (sidecar.wire().await, sidecar.wire().await);
        let mut second = second;
        first.send(call("gpt", 0)).await;
        second.send(call("gpt", 0)).await;
        upstream.received(before + 2).await;
        // Nothing of this body is ever sent.
        let mut third = sidecar.wire().await;
        third.send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5000\r\n\r\n").await;
        let answer = third.answer().await;
        check_refused(
            &answer,
            503,
            "internal_server_error",
            &["2 requests", "max_parallel_requests"],
        );
        assert_eq!(answer.json()["error"]["code"], "503");
        let answer = sidecar.ask(messages(1)).await;
        check_refused(&answer, 503, "overloaded_error", &["2 requests"]);
        assert_eq!(answer.json()["type"], "error");
        let record = sidecar.recorded(2).await.remove(1);
        assert_eq!(record["shed"], "max_parallel_requests", "{record}");
        // Who looks after the sidecar, and who only asks for names, is served.
        let models = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
        assert_eq!(sidecar.ask(models).await.status(), 200);
        assert_eq!(sidecar.get("/health/ready").await.status(), 200);
        let metrics = sidecar.metrics().await;
        assert_eq!(
            metrics.sum("pillion_requests_shed_total", &[("reason", "max_parallel_requests")]),
            2
        );
        // One that leaves makes room for one.
        drop(first);
        until("room", async || {
            (sidecar.metrics().await.of("pillion_requests_in_flight") == 1).then_some(())
        })
        .await;
        gates[3].open();
        assert_eq!(sidecar.ask(call("gpt", 3)).await.status(), 200);
        drop(second);
        sidecar.falls_to_zero(&GAUGES).await;
        assert_eq!(upstream.requests().len(), before + 3);
        sidecar.stop().await;
    }
}
