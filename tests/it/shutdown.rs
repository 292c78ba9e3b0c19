//! How the sidecar ends: what runs finishes, nothing new begins, and patience has an end.

#![cfg(test)]

use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::script::{Gate, Step, send, serve};
use crate::support::sidecar::{Start, config};
use crate::support::upstream::Upstream;
use crate::support::{chat, now, until};

/// A provider that sends the beginning of an answer and the rest when the gate is opened.
async fn held_up(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::start(move |_| {
        let gate = gate.clone();
        serve(move |request| {
            if !request.wants_stream() {
                return vec![Step::Gate(gate.clone()), send(chat::whole("late"))];
            }
            let mut steps = chat::stream(4);
            steps.insert(2, Step::Gate(gate.clone()));
            steps
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_what_runs_finish_and_refuses_the_rest() {
    let gate = Gate::shut();
    let upstream = held_up(&gate).await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let mut idle = sidecar.wire().await;
    idle.send("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(idle.answer().await.status(), 200);
    let (mut stream, mut plain) = (sidecar.wire().await, sidecar.wire().await);
    stream.send(chat::streamed("gpt")).await;
    stream.until_text("w0").await;
    plain.send(chat::plain("gpt")).await;
    upstream.received(2).await;

    sidecar.signal("TERM");
    until("readiness to turn", async || {
        let ready = sidecar.get("/health/ready").await;
        (ready.status() == 503 && ready.json()["state"] == "draining").then_some(())
    })
    .await;
    until("connections to be refused", async || {
        TcpStream::connect(sidecar.api).await.is_err().then_some(())
    })
    .await;
    // A connection that waits for its next request ends without one.
    let (rest, _) = idle.rest().await;
    assert_eq!(rest, "");
    assert_eq!(sidecar.get("/health/live").await.status(), 200);
    assert_eq!(sidecar.metrics().await.of("pillion_requests_in_flight"), 2);
    assert!(sidecar.has_ended().is_none());

    gate.open();
    let answer = stream.answer().await;
    assert!(answer.is_done(), "{answer:?}");
    for word in ["w0", "w1", "w2", "w3"] {
        assert!(answer.body.contains(word), "{answer:?}");
    }
    let answer = plain.answer().await;
    assert_eq!((answer.status(), answer.body.contains("late")), (200, true));
    let ended = sidecar.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.err);
    assert_eq!(ended.records().len(), 3, "{:?}", ended.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_body_is_on_its_way_is_still_served() {
    let upstream = Upstream::start(|_| serve(|_| vec![send(chat::whole("hello"))])).await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let mut wire = sidecar.wire().await;
    let call = chat::plain("gpt");
    let (first, second) = call.split_at(call.len() - 10);
    wire.send(first).await;
    until("the request", async || {
        (sidecar.metrics().await.of("pillion_requests_in_flight") == 1).then_some(())
    })
    .await;
    sidecar.signal("TERM");
    until("readiness to turn", async || {
        (sidecar.get("/health/ready").await.status() == 503).then_some(())
    })
    .await;
    wire.send(second).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 200);
    assert_eq!(wire.rest().await.0, "");
    assert_eq!(sidecar.ended().await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_at_once_and_keeps_the_record() {
    let upstream = held_up(&Gate::shut()).await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let mut stream = sidecar.wire().await;
    stream.send(chat::streamed("gpt")).await;
    stream.until_text("w0").await;
    sidecar.signal("TERM");
    until("readiness to turn", async || {
        (sidecar.get("/health/ready").await.status() == 503).then_some(())
    })
    .await;
    let asked = now();
    sidecar.signal("TERM");
    let ended = sidecar.ended().await;
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(ended.status.code(), Some(1));
    let (rest, _) = stream.rest().await;
    assert!(!rest.contains("[DONE]"), "{rest}");
    let records = ended.records();
    assert_eq!(records.len(), 1, "{:?}", ended.out);
    assert_eq!(records[0]["end"], "abandoned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_timeout_cuts_what_does_not_end() {
    let upstream = held_up(&Gate::shut()).await;
    let config = config(&[&upstream]) + "pillion: {shutdown: {drain_timeout: 1}}\n";
    let sidecar = Start::with(config).ready().await;
    let mut stream = sidecar.wire().await;
    stream.send(chat::streamed("gpt")).await;
    stream.until_text("w0").await;
    let asked = now();
    sidecar.signal("TERM");
    let (rest, cut) = stream.rest().await;
    let waited = cut.saturating_duration_since(asked);
    assert!(waited >= Duration::from_millis(900) && !rest.contains("[DONE]"), "{waited:?} {rest}");
    let ended = sidecar.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.err);
    assert!(ended.err.iter().any(|line| line.contains("connections were cut")));
    assert_eq!(ended.records()[0]["end"], "abandoned");
    upstream.closed(0).await;
}
