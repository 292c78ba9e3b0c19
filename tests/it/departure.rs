//! A client that goes away ends what runs for it, at once and at the wire.

#![cfg(test)]

use std::time::{Duration, Instant};

use crate::support::script::{Step, send};
use crate::support::sidecar::{Pillion, Start, config, deployment};
use crate::support::upstream::Upstream;
use crate::support::wire::Wire;
use crate::support::{PATIENCE, chat, now, until};

/// Measured are some milliseconds; asserted is what a busy machine keeps.
const AT_ONCE: Duration = Duration::from_secs(1);

/// So many exchanges with the sidecar, one after the other, are over before what a departure ends
/// is closed. There is nothing in between but the sidecar itself, so that it is slow where they are:
/// a timer or a poll would show on any machine, and a busy machine does not.
const EXCHANGES: usize = 16;

/// How often a departure is looked at.
const DEPARTURES: usize = 31;

/// Lets clients leave at a moment, and counts for each how many exchanges there were before the
/// provider's connection was closed.
async fn check_before_others(
    what: &str,
    (sidecar, upstream): (&Pillion, &Upstream),
    begin: impl AsyncFn() -> Wire,
) {
    let mut witness = sidecar.wire().await;
    let (mut counts, mut times) = (Vec::new(), Vec::new());
    for _ in 0..DEPARTURES {
        let wire = begin().await;
        let number = upstream.connections().len() - 1;
        let left = now();
        drop(wire);
        let mut count = 0;
        let closed = loop {
            if let Some(closed) = upstream.connections()[number].closed {
                break closed;
            }
            assert!(now() < left + PATIENCE, "{what}: it is never closed");
            witness.ask("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await;
            count += 1;
        };
        counts.push(count);
        times.push(closed.saturating_duration_since(left));
    }
    counts.sort_unstable();
    times.sort_unstable();
    let (middle, most) = (DEPARTURES / 2, DEPARTURES - 1);
    println!(
        "{what}: closed after {} exchanges ({} at most), {:?} ({:?} at most)",
        counts[middle], counts[most], times[middle], times[most]
    );
    assert!(counts[middle] <= EXCHANGES, "{what}: {counts:?}, {times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_departure_ends_the_call_before_others_are_served() {
    let first = send(chat::STREAM_HEAD.to_owned() + &chat::delta("w0"));
    let begun = Upstream::start(move |_| vec![Step::Expect, first.clone()]).await;
    let silent = Upstream::silent().await;
    let text = config(&[&begun]) + &deployment("silent", "silent", &silent.base(), "");
    let sidecar = Start::with(text).ready().await;
    check_before_others("in a stream", (&sidecar, &begun), async || {
        let mut wire = sidecar.wire().await;
        wire.send(chat::streamed("gpt")).await;
        wire.until_text("w0").await;
        wire
    })
    .await;
    for (what, call) in
        [("before a stream", chat::streamed("silent")), ("before an answer", chat::plain("silent"))]
    {
        check_before_others(what, (&sidecar, &silent), async || {
            let (mut wire, before) = (sidecar.wire().await, silent.requests().len());
            wire.send(&call).await;
            silent.received(before + 1).await;
            wire
        })
        .await;
    }
    check_nothing_is_left(&sidecar).await;
    sidecar.stop().await;
}

fn check_at_once(what: &str, left: Instant, closed: Instant) {
    let took = closed.saturating_duration_since(left);
    println!("{what}: closed {took:?} after the client left");
    assert!(took < AT_ONCE, "{what}: {took:?}");
}

async fn check_nothing_is_left(sidecar: &Pillion) {
    let gauges = [
        "pillion_requests_in_flight",
        "pillion_tries_in_flight",
        "pillion_upstream_connections_open",
    ];
    sidecar.falls_to_zero(&gauges).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_in_the_middle_of_a_stream_closes_the_providers_connection() {
    let first = send(chat::STREAM_HEAD.to_owned() + &chat::delta("w0"));
    let upstream = Upstream::start(move |_| vec![Step::Expect, first.clone()]).await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    for number in 0..5 {
        let mut wire = sidecar.wire().await;
        wire.send(chat::streamed("gpt")).await;
        wire.until_text("w0").await;
        let left = now();
        drop(wire);
        check_at_once("in a stream", left, upstream.closed(number).await);
    }
    check_nothing_is_left(&sidecar).await;
    let records = sidecar.recorded(5).await;
    assert!(records.iter().all(|record| record["end"] == "abandoned" && record["status"] == 499));
    assert_eq!(upstream.requests().len(), 5);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_a_busy_stream_closes_the_providers_connection() {
    let endless = Step::Endless(chat::delta("more and more").into());
    let script = vec![Step::Expect, send(chat::STREAM_HEAD), endless];
    let upstream = Upstream::start(move |_| script.clone()).await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::streamed("gpt")).await;
    wire.until_text("more").await;
    let left = now();
    drop(wire);
    check_at_once("in a busy stream", left, upstream.closed(0).await);
    check_nothing_is_left(&sidecar).await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_before_the_answer_closes_the_connection_and_starts_no_other_try() {
    let slow = Upstream::start(|_| vec![Step::Expect]).await;
    let config = format!(
        "router_settings: {{num_retries: 3, fallbacks: [{{gpt: [other]}}]}}\nmodel_list:\n{}{}",
        deployment("gpt", "slow", &slow.base(), ""),
        deployment("other", "other", &slow.base(), ""),
    );
    let sidecar = Start::with(config).ready().await;
    for (number, call) in [chat::plain("gpt"), chat::streamed("gpt")].into_iter().enumerate() {
        let mut wire = sidecar.wire().await;
        wire.send(call).await;
        slow.received(number + 1).await;
        let left = now();
        drop(wire);
        check_at_once("before the answer", left, slow.closed(number).await);
        assert!(slow.requests().iter().all(|received| received.at < left));
    }
    check_nothing_is_left(&sidecar).await;
    let records = sidecar.recorded(2).await;
    assert!(records.iter().all(|record| record["end"] == "abandoned" && record["tries"] == 1));
    // The records are out and no request runs: nothing is left that could start a try.
    assert_eq!(slow.requests().len(), 2);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_between_two_tries_starts_no_other_try() {
    let refuse = send(chat::json(500, "{\"error\":{\"message\":\"no\"}}"));
    let upstream = Upstream::start(move |_| vec![Step::Expect, refuse.clone()]).await;
    let config = format!(
        "router_settings: {{num_retries: 3, retry_after: 30}}\nmodel_list:\n{}",
        deployment("gpt", "d", &upstream.base(), ""),
    );
    let sidecar = Start::with(config).ready().await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::plain("gpt")).await;
    upstream.received(1).await;
    until("the try to be over", async || {
        let metrics = sidecar.metrics().await;
        let over = metrics.of("pillion_tries_in_flight") == 0;
        (over && metrics.of("pillion_requests_in_flight") == 1).then_some(())
    })
    .await;
    drop(wire);
    let records = sidecar.recorded(1).await;
    assert_eq!((&records[0]["end"], &records[0]["tries"]), (&"abandoned".into(), &1.into()));
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(sidecar.metrics().await.of("pillion_requests_in_flight"), 0);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_while_the_body_is_sent_asks_nobody() {
    let upstream = Upstream::start(|_| vec![Step::Expect]).await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let mut wire = sidecar.wire().await;
    let call = chat::plain("gpt");
    wire.send(&call[..call.len() - 5]).await;
    until("the request", async || {
        (sidecar.metrics().await.of("pillion_requests_in_flight") == 1).then_some(())
    })
    .await;
    drop(wire);
    let records = sidecar.recorded(1).await;
    assert_eq!((&records[0]["end"], &records[0]["status"]), (&"abandoned".into(), &499.into()));
    assert_eq!(records[0]["tries"], 0, "{records:?}");
    check_nothing_is_left(&sidecar).await;
    assert!(upstream.connections().is_empty());
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_at_once_leaves_one_record_of_each_request() {
    const ROUNDS: usize = 300;
    let upstream = Upstream::silent().await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let long = chat::post(&chat::body_saying("gpt", &"a".repeat(300_000), ""));
    let calls = [chat::plain("gpt"), chat::streamed("gpt"), long];
    for round in 0..ROUNDS {
        let call = &calls[round % calls.len()];
        let call = call.replacen("\r\n", &format!("\r\nx-litellm-call-id: r{round}\r\n"), 1);
        // Sometimes no more than the head comes, or half of the body.
        let head = call.find("\r\n\r\n").unwrap() + 4;
        let end = [call.len(), head, head + (call.len() - head) / 2, call.len()][round % 4];
        let mut wire = sidecar.wire().await;
        wire.send(&call[..end]).await;
        // Together with what was sent: mostly it is read in one go.
        drop(wire);
    }
    let records = sidecar.recorded(ROUNDS).await;
    check_nothing_is_left(&sidecar).await;
    let mut ids: Vec<_> = records.iter().map(|record| record["id"].to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), records.len()), (ROUNDS, ROUNDS));
    assert!(records.iter().all(|it| it["end"] == "abandoned" && it["status"] == 499));
    assert_eq!(sidecar.metrics().await.of("pillion_requests_total"), ROUNDS as u64);
    assert_eq!(sidecar.stop().await.records().len(), ROUNDS);
}
