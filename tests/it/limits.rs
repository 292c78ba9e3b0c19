//! What one peer may ask of the sidecar: clients that are slow, long or wrong, and providers that
//! never come to an end.

#![cfg(test)]

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use pillion::listen;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::script::{Step, send, serve};
use crate::support::sidecar::{Pillion, Start, config, deployment};
use crate::support::upstream::Upstream;
use crate::support::wire::Wire;
use crate::support::{chat, now, soon};

async fn friendly() -> Upstream {
    Upstream::start(|_| serve(|_| vec![send(chat::whole("hello"))])).await
}

async fn with_limits(upstream: &Upstream, limits: &str) -> Pillion {
    let config = config(&[upstream]) + &format!("pillion: {{limits: {{{limits}}}}}\n");
    Start::with(config).ready().await
}

async fn check_served(sidecar: &Pillion) {
    let answer = sidecar.ask(chat::plain("gpt")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
}

const MODELS: &str = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";

fn models_with(headers: &str) -> String {
    format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

fn headers(count: usize) -> String {
    "x-more: y\r\n".repeat(count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_long_gets_431() {
    let upstream = friendly().await;
    let cases = [
        // A word, the length that passes and the length that does not.
        ("max_header_bytes: 16384", 14_000, 40_000),
        ("max_header_bytes: 100", 50, 40_000),
        ("", 60_000, 200_000),
    ];
    for (limits, short, long) in cases {
        let sidecar = with_limits(&upstream, limits).await;
        let padded = |length| models_with(&format!("x-long: {}\r\n", "a".repeat(length)));
        assert_eq!(sidecar.ask(padded(short)).await.status(), 200, "{limits}");
        let mut wire = sidecar.wire().await;
        wire.send(padded(long)).await;
        assert_eq!(wire.head().await.status, 431, "{limits}");
        check_served(&sidecar).await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_too_many_headers_gets_431() {
    let upstream = friendly().await;
    for (limits, few, many) in
        [("", 95, 105), ("max_headers: 20", 15, 30), ("max_headers: 300", 290, 310)]
    {
        let sidecar = with_limits(&upstream, limits).await;
        assert_eq!(sidecar.ask(models_with(&headers(few))).await.status(), 200, "{limits}");
        assert_eq!(sidecar.ask(models_with(&headers(many))).await.status(), 431, "{limits}");
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_slow_ends_the_connection() {
    let upstream = friendly().await;
    let sidecar = with_limits(&upstream, "head_timeout: 1").await;
    let silent = sidecar.wire().await;
    let mut halting = sidecar.wire().await;
    halting.send("POST /v1/chat").await;
    let dripping = sidecar.wire().await;
    let mut idle = sidecar.wire().await;
    assert_eq!(idle.ask(MODELS).await.status(), 200);
    let asked = now();
    // Each byte is in time; the head as a whole is not.
    let head = MODELS.replace('\r', "x");
    let drip = dripping.drip(head.as_bytes(), Duration::from_millis(100));
    let (silent, halting, idle, dripping) =
        tokio::join!(silent.rest(), halting.rest(), idle.rest(), drip);
    for (text, closed) in [silent, halting, idle, dripping] {
        let took = closed.saturating_duration_since(asked);
        assert!(took > Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    }
    check_served(&sidecar).await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_slow_gets_408() {
    let upstream = friendly().await;
    let sidecar = with_limits(&upstream, "body_timeout: 1").await;
    let call = chat::plain("gpt");
    let mut wire = sidecar.wire().await;
    wire.send(&call[..call.len() - 1]).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 408, "{answer:?}");
    assert!(answer.message().contains("within 1 s"), "{}", answer.message());
    // What is left of the body must not be taken for another request.
    assert_eq!(wire.rest().await.0, "");
    assert!(upstream.requests().is_empty());
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_long_gets_413_even_while_it_is_sent() {
    let upstream = friendly().await;
    let sidecar = with_limits(&upstream, "max_body_bytes: 1000").await;
    check_served(&sidecar).await;
    let long = chat::body("gpt", &format!(",\"user\":\"{}\"", "a".repeat(8_000_000)));
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n";
    let announced = format!("{head}content-length: {}\r\n\r\n{long}", long.len());
    let chunked =
        format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    for _ in 0..10 {
        for call in [&announced, &chunked] {
            let mut wire = sidecar.wire().await;
            wire.send(call).await;
            let answer = wire.answer().await;
            assert_eq!(answer.status(), 413, "{answer:?}");
            assert!(answer.message().contains("1000 bytes"), "{}", answer.message());
            assert_eq!(wire.rest().await.0, "", "one answer");
        }
    }
    // Who asks first need not send anything.
    let mut wire = sidecar.wire().await;
    wire.send(format!("{head}expect: 100-continue\r\ncontent-length: 5000\r\n\r\n")).await;
    assert_eq!(wire.answer().await.status(), 413);
    assert_eq!(wire.rest().await.0, "");
    assert_eq!(upstream.requests().len(), 1);
    check_served(&sidecar).await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn further_connections_wait_for_a_place() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = listen::Settings { max_connections: 2, ..listen::Settings::default() };
    let (stop, stopped) = watch::channel(listen::Stop::Not);
    let answer = |_| async { Response::new(Full::new(Bytes::from_static(b"served"))) };
    let mut serving = JoinSet::new();
    serving.spawn(listen::run(vec![listener], settings, answer, stopped, Duration::from_secs(1)));
    let (mut first, mut second) = (Wire::open(address).await, Wire::open(address).await);
    assert_eq!(first.ask(MODELS).await.body, "served");
    assert_eq!(second.ask(MODELS).await.body, "served");
    let mut third = Wire::open(address).await;
    third.send(MODELS).await;
    // The two that have places are served as before; the third is not.
    assert_eq!(first.ask(MODELS).await.body, "served");
    let early = tokio::time::timeout(Duration::from_millis(100), third.answer()).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    assert_eq!(third.answer().await.body, "served");
    stop.send(listen::Stop::Drain).unwrap();
    assert_eq!(soon("the end", serving.join_next()).await.unwrap().unwrap(), 0);
    assert_eq!(second.rest().await.0, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_serves_one_request_after_the_other_in_order() {
    let upstream = Upstream::start(|_| {
        serve(|request| {
            let name = ["one", "two", "three"].into_iter().find(|name| request.says(name));
            vec![send(chat::whole(name.unwrap_or("none")))]
        })
    })
    .await;
    let sidecar = with_limits(&upstream, "").await;
    let call = |name: &str| chat::post(&chat::body("gpt", &format!(",\"user\":\"{name}\"")));
    let mut wire = sidecar.wire().await;
    wire.send(call("one") + MODELS + &call("two") + &call("three")).await;
    for part in ["one", "\"object\":\"list\"", "two", "three"] {
        let answer = wire.answer().await;
        assert!(answer.status() == 200 && answer.body.contains(part), "{part}: {answer:?}");
    }
    assert!(wire.ask(call("one")).await.body.contains("one"));
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusual_but_right_requests_are_served() {
    let upstream = friendly().await;
    let sidecar = with_limits(&upstream, "").await;
    let body = chat::body("gpt", "");
    let length = body.len();
    let cases = [
        format!(
            "POST http://gateway:1/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
        format!(
            "POST /v1/chat/completions?a=b HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
        format!("POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}"),
        format!("POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}"),
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{{\r\n{:x};x=y\r\n{}\r\n0\r\na: b\r\n\r\n",
            length - 1,
            &body[1..]
        ),
        format!(
            "\r\n\r\nPOST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
    ];
    for case in cases {
        assert_eq!(sidecar.ask(&case).await.status(), 200, "{case}");
    }
    let mut wire = sidecar.wire().await;
    for method in ["HEAD", "OPTIONS", "DELETE"] {
        wire.send(format!("{method} /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let head = wire.head().await;
        assert_eq!((head.status, head.header("allow")), (405, Some("POST")), "{method}");
        if method != "HEAD" {
            wire.body(&head).await;
        }
    }
    assert_eq!(wire.ask(MODELS).await.status(), 200);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_end_their_connection_and_nothing_else() {
    let upstream = friendly().await;
    let sidecar = with_limits(&upstream, "").await;
    let cases: [&[u8]; 7] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"GET /v1/mo dels HTTP/1.1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ];
    for case in cases {
        let mut wire = sidecar.wire().await;
        wire.send(case).await;
        let (text, _) = wire.rest().await;
        let shown = String::from_utf8_lossy(case);
        assert!(text.starts_with("HTTP/1.1 400 "), "{shown:?} got {text:?}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{shown:?} got {text:?}");
    }
    check_served(&sidecar).await;
    assert_eq!(upstream.requests().len(), 1);
    sidecar.stop().await;
}

/// Answers that never come to an end, or to the point.
fn endless() -> Vec<(&'static str, Vec<Step>)> {
    let again = |text: &str| Step::Endless(text.repeat(16_384 / text.len()).into());
    let json =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let stream = chat::STREAM_HEAD;
    vec![
        ("a status line", vec![send("HTTP/1.1 200 "), again("a")]),
        ("a header", vec![send("HTTP/1.1 200 OK\r\nx: "), again("a")]),
        ("headers", vec![send("HTTP/1.1 200 OK\r\n"), again("x: y\r\n")]),
        ("zeros", vec![again("\0")]),
        ("a chunk extension", vec![send(stream), send("5;"), again("a")]),
        ("a wrong chunk size", vec![send(stream), send("zz\r\n")]),
        ("a huge chunk size", vec![send(stream), send("fffffffffffffffffff\r\n"), again("a")]),
        ("a chunk size", vec![send(stream), send("0".repeat(1_000_000))]),
        ("an event", vec![send(stream), again(&chat::chunk(&"a".repeat(8_000)))]),
        ("comments", vec![send(stream), again(&chat::chunk(&": ping\n\n".repeat(1_000)))]),
        ("a body", vec![send(json), again(&chat::chunk(&"[".repeat(8_000)))]),
        (
            "an error",
            vec![send(json.replace("200", "500")), again(&chat::chunk(&"x".repeat(8_000)))],
        ),
        ("trailers", vec![send(json), send("2\r\n{}\r\n0\r\n"), again("x: y\r\n")]),
        ("interim answers", vec![again("HTTP/1.1 102 Processing\r\n\r\n")]),
    ]
}

/// What the process may take at most while a provider never ends.
const MOST_MEMORY: u64 = 256 * 1024 * 1024;

pub(crate) fn peak_memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kilobytes.unwrap_or(0_u64) * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_never_ends_is_a_bad_gateway_and_costs_little() {
    for (name, script) in endless() {
        let is_bounded_by_time = matches!(name, "a chunk size" | "interim answers");
        let seconds = if is_bounded_by_time { 1 } else { 15 };
        let upstream = Upstream::start(move |_| {
            let mut steps = vec![Step::Expect];
            steps.extend(script.clone());
            steps
        })
        .await;
        let good = friendly().await;
        let config = format!(
            "router_settings: {{num_retries: 0}}\nmodel_list:\n{}{}",
            deployment("gpt", "good", &good.base(), ""),
            deployment("bad", "bad", &upstream.base(), &format!(", stream_timeout: {seconds}")),
        );
        let sidecar = Start::with(config).ready().await;
        let asked = now();
        let answer = sidecar.ask(chat::streamed("bad")).await;
        let peak = peak_memory(sidecar.id());
        println!("{name}: {} in {:?} with {} MiB", answer.status(), asked.elapsed(), peak >> 20);
        let is_late = is_bounded_by_time && answer.status() == 408;
        let is_error = name == "an error" && answer.status() == 500;
        assert!(answer.status() == 502 || is_late || is_error, "{name}: {answer:?}");
        assert!(peak < MOST_MEMORY, "{name}: {peak} bytes");
        upstream.closed(0).await;
        check_served(&sidecar).await;
        sidecar.stop().await;
    }
}
