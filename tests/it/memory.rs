//! What the sidecar holds in memory: bodies within their bound, whatever clients and providers do.

#![cfg(test)]

use crate::limits::peak_memory;
use crate::support::script::{Gate, Step, send, serve};
use crate::support::sidecar::{Pillion, Start, config, deployment};
use crate::support::upstream::Upstream;
use crate::support::wire::Answer;
use crate::support::{chat, until};

const MB: usize = 1 << 20;

const BUFFERED: &str = "pillion_buffered_bytes";

async fn with_limits(upstream: &Upstream, limits: &str) -> Pillion {
    let config = config(&[upstream]) + &format!("pillion: {{limits: {{{limits}}}}}\n");
    Start::with(config).ready().await
}

/// A call whose body has about so many bytes.
fn large(bytes: usize, more: &str) -> String {
    chat::post(&chat::body("gpt", &format!(",\"user\":\"{}\"{more}", "a".repeat(bytes))))
}

async fn held(upstream: Gate) -> Upstream {
    Upstream::start(move |_| {
        let gate = upstream.clone();
        serve(move |request| {
            let mut steps = vec![Step::Gate(gate.clone())];
            steps.extend(chat::answer(request));
            steps
        })
    })
    .await
}

fn is_shed(answer: &Answer) -> bool {
    let says = answer.message().contains("max_buffered_bytes");
    answer.status() == 503 && says && answer.head.header("retry-after").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_beyond_the_bound_are_turned_away_and_small_ones_served() {
    let gate = Gate::shut();
    let upstream = held(gate.clone()).await;
    let limits = "max_body_bytes: 1048576, max_buffered_bytes: 2500000";
    let sidecar = with_limits(&upstream, limits).await;
    let mut running = Vec::new();
    for count in 1..3 {
        let mut wire = sidecar.wire().await;
        wire.send(large(1_000_000, "")).await;
        upstream.received(count).await;
        running.push(wire);
    }
    let bytes = sidecar.metrics().await.of(BUFFERED);
    assert!((2_000_000..2_001_000).contains(&bytes), "{bytes}");
    // Announced: nothing of it need be sent. In chunks: as soon as there is no room for one.
    let mut announced = sidecar.wire().await;
    announced
        .send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        .await;
    let answer = announced.answer().await;
    assert!(is_shed(&answer), "{answer:?}");
    let body = "a".repeat(600_000);
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = sidecar.ask(format!("{head}{:x}\r\n{body}\r\n", body.len())).await;
    assert!(is_shed(&answer), "{answer:?}");
    let anthropic =
        large(1_000_000, ",\"max_tokens\":9").replacen("chat/completions", "messages", 1);
    let answer = sidecar.ask(anthropic).await;
    assert!(is_shed(&answer), "{answer:?}");
    assert_eq!(answer.json()["error"]["type"], "overloaded_error");
    assert_eq!(sidecar.get("/health/ready").await.status(), 200);
    let mut small = sidecar.wire().await;
    small.send(chat::plain("gpt")).await;
    upstream.received(3).await;
    gate.open();
    running.push(small);
    for wire in &mut running {
        assert_eq!(wire.answer().await.status(), 200);
    }
    let shed = sidecar
        .metrics()
        .await
        .sum("pillion_requests_shed_total", &[("reason", "max_buffered_bytes")]);
    assert_eq!(shed, 3);
    sidecar.falls_to_zero(&[BUFFERED, "pillion_requests_in_flight"]).await;
    assert_eq!(sidecar.ask(large(1_000_000, "")).await.status(), 200);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_uploads_at_once_stay_within_the_bound() {
    const CLIENTS: usize = 60;
    let gate = Gate::shut();
    let upstream = held(gate.clone()).await;
    let sidecar =
        with_limits(&upstream, "max_body_bytes: 5000000, max_buffered_bytes: 17000000").await;
    let call: std::sync::Arc<str> = large(4 * MB, "").into();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (mut wire, call) = (sidecar.wire().await, call.clone());
        clients.spawn(async move { wire.ask(call.as_bytes()).await });
    }
    let mut shed = 0;
    while shed < CLIENTS - 4 {
        let answer = clients.join_next().await.unwrap().unwrap();
        assert!(is_shed(&answer), "{answer:?}");
        shed += 1;
    }
    upstream.received(4).await;
    let bytes = sidecar.metrics().await.of(BUFFERED);
    assert!(bytes <= 17_000_000, "{bytes}");
    gate.open();
    while let Some(answer) = clients.join_next().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    let peak = peak_memory(sidecar.id());
    println!("{CLIENTS} uploads of 4 MiB: {} MiB at most", peak >> 20);
    // 240 MiB were sent. What is held may be copied once when it is put together, and once more
    // where a connection has read ahead.
    assert!(peak < 96 * MB as u64, "{peak}");
    sidecar.falls_to_zero(&[BUFFERED]).await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_does_not_hold_on_to_the_long_prompt_it_came_from() {
    let first = send(chat::STREAM_HEAD.to_owned() + &chat::delta("w0"));
    let upstream = Upstream::start(move |_| vec![Step::Expect, first.clone()]).await;
    let sidecar = with_limits(&upstream, "").await;
    let mut wire = sidecar.wire().await;
    wire.send(large(4 * MB, ",\"stream\":true")).await;
    wire.until_text("w0").await;
    sidecar.falls_to_zero(&[BUFFERED]).await;
    assert_eq!(sidecar.metrics().await.of("pillion_tries_in_flight"), 1);
    drop(wire);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_counts_until_its_client_has_it_or_is_gone() {
    let text = "a".repeat(24 * MB);
    let upstream = Upstream::start(move |_| {
        let answer = chat::whole(&text);
        serve(move |_| vec![send(answer.clone())])
    })
    .await;
    let sidecar = with_limits(&upstream, "").await;
    for leaves in [false, true] {
        let mut wire = sidecar.wire().await;
        wire.send(chat::plain("gpt")).await;
        wire.until_text("HTTP/1.1 200").await;
        // The provider is through and the client has not read it.
        let bytes = sidecar.metrics().await.of(BUFFERED);
        assert!(bytes > 24 * MB as u64, "{bytes}");
        if leaves {
            drop(wire);
        } else {
            assert_eq!(wire.answer().await.body.matches('a').count() >> 20, 24);
        }
        sidecar.falls_to_zero(&[BUFFERED]).await;
    }
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_for_which_there_is_no_memory_is_an_error_and_nobody_elses_fault() {
    let text = "a".repeat(4 * MB);
    let upstream = Upstream::start(move |_| {
        let answer = chat::whole(&text);
        serve(move |_| vec![send(answer.clone())])
    })
    .await;
    // Two, since one that is alone is never in cooldown.
    let limits = "pillion: {limits: {max_body_bytes: 1048576, max_buffered_bytes: 1048576}}\n";
    let sidecar = Start::with(config(&[&upstream, &upstream]) + limits).ready().await;
    for _ in 0..8 {
        let answer = sidecar.ask(chat::plain("gpt")).await;
        assert!(is_shed(&answer), "{answer:?}");
    }
    let cooled = sidecar.metrics().await.of("pillion_cooldowns_total");
    assert_eq!((cooled, upstream.requests().len()), (0, 8));
    sidecar.falls_to_zero(&[BUFFERED]).await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_counts_twice_only_where_it_is_there_twice() {
    let answer = chat::whole(&"a".repeat(4 * MB));
    let upstream = Upstream::start(move |_| {
        let answer = answer.clone();
        serve(move |_| vec![send(answer.clone())])
    })
    .await;
    // The provider calls its model `m`. Answers have twice the room: one of 4 MiB fits in once.
    let entries = ["gpt", "m"].map(|name| deployment(name, name, &upstream.base(), ""));
    let limits = "pillion: {limits: {max_body_bytes: 1048576, max_buffered_bytes: 3000000}}\n";
    let text = format!("model_list:\n{}{limits}", entries.concat());
    let sidecar = Start::with(text).ready().await;
    for (name, status) in [("gpt", 503), ("m", 200)] {
        let answer = sidecar.ask(chat::plain(name)).await;
        assert_eq!((answer.status(), is_shed(&answer)), (status, status == 503), "{name}");
        sidecar.falls_to_zero(&[BUFFERED]).await;
    }
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_another_dialect_counts_twice_until_it_is_answered() {
    let (head, rest) = (Gate::shut(), Gate::shut());
    let steps = [
        Step::Gate(head.clone()),
        send(chat::STREAM_HEAD.to_owned() + &chat::delta("w0")),
        Step::Gate(rest.clone()),
        send(chat::ending()),
    ];
    let upstream = Upstream::playing(steps.into()).await;
    let sidecar = with_limits(&upstream, "").await;
    let more = ",\"max_tokens\":9,\"stream\":true";
    let translated = chat::post(&chat::body_saying("gpt", &"a".repeat(4 * MB), more)).replacen(
        "chat/completions",
        "messages",
        1,
    );
    let mut wire = sidecar.wire().await;
    wire.send(translated).await;
    upstream.received(1).await;
    let bytes = sidecar.metrics().await.of(BUFFERED);
    assert!((8 * MB as u64..9 * MB as u64).contains(&bytes), "{bytes}");
    head.open();
    wire.until_text("w0").await;
    sidecar.falls_to_zero(&[BUFFERED]).await;
    assert_eq!(sidecar.metrics().await.of("pillion_tries_in_flight"), 1);
    rest.open();
    assert_eq!(wire.answer().await.status(), 200);
    sidecar.stop().await;
}

/// A stream of one long event, or of its first half.
fn of_one_event(bytes: usize, is_whole: bool, then: Gate) -> Vec<Step> {
    let long = chat::delta(&"a".repeat(bytes));
    let (first, rest) = long.split_at(long.len() / 2);
    let mut steps = vec![send(chat::STREAM_HEAD), send(chat::delta("w0")), send(first.to_owned())];
    if is_whole {
        steps.push(send(rest.to_owned()));
    }
    steps.push(Step::Gate(then));
    if !is_whole {
        steps.push(send(rest.to_owned()));
    }
    steps.push(send(chat::ending()));
    steps
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_of_a_stream_counts() {
    let held = "streams: {recovery: hold, hold_tokens: 3, hold_time: 60s}";
    let sent = "streams: {recovery: restart}";
    // An event in what is held; half an event; what was sent and may be compared.
    for (streams, is_whole, bytes) in
        [(held, true, 4 * MB), ("", false, 4 * MB), (sent, true, MB / 2)]
    {
        let gate = Gate::shut();
        let upstream = Upstream::playing(of_one_event(bytes, is_whole, gate.clone())).await;
        let text = config(&[&upstream]) + &format!("pillion: {{{streams}}}\n");
        let sidecar = Start::with(text).ready().await;
        let mut wire = sidecar.wire().await;
        wire.send(chat::streamed("gpt")).await;
        let least = if is_whole { bytes } else { bytes / 2 - 1_000 };
        let look = async {
            until("the memory to count", async || {
                let counted = sidecar.metrics().await.of(BUFFERED);
                assert!(counted < (2 * bytes) as u64, "{counted}");
                (counted >= least as u64).then_some(())
            })
            .await;
            gate.open();
        };
        let (answer, ()) = futures_util::future::join(wire.answer(), look).await;
        assert!(answer.is_done(), "{}", answer.status());
        assert_eq!(answer.body.matches('a').count() / bytes, 1);
        sidecar.falls_to_zero(&[BUFFERED]).await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_for_which_there_is_no_memory_ends_as_cut_and_is_nobody_elses_fault() {
    let limits = "limits: {max_body_bytes: 1048576, max_buffered_bytes: 1048576}";
    let held = ", streams: {recovery: hold, hold_tokens: 3, hold_time: 60s}";
    for (more, status) in [("", 200), (held, 503)] {
        let upstream = Upstream::playing(of_one_event(8 * MB, status == 503, Gate::shut())).await;
        // Two, since one that is alone is never in cooldown.
        let text = config(&[&upstream, &upstream]) + &format!("pillion: {{{limits}{more}}}\n");
        let sidecar = Start::with(text).ready().await;
        for _ in 0..8 {
            let answer = sidecar.ask(chat::streamed("gpt")).await;
            assert_eq!(answer.status(), status, "{answer:?}");
            assert!(answer.body.contains("max_buffered_bytes") && !answer.is_done(), "{answer:?}");
            assert_eq!(answer.body.contains("w0"), status == 200);
        }
        let cooled = sidecar.metrics().await.of("pillion_cooldowns_total");
        assert_eq!((cooled, upstream.requests().len()), (0, 8));
        let end = if status == 200 { "truncated" } else { "refused" };
        let records = sidecar.recorded(8).await;
        assert!(records.iter().all(|record| record["end"] == end), "{records:?}");
        assert!(peak_memory(sidecar.id()) < 64 * MB as u64);
        sidecar.falls_to_zero(&[BUFFERED, "pillion_requests_in_flight"]).await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_says_before_any_content_counts() {
    // A whole event that has no content, half of one, and what is no event at all.
    let empty = |bytes: usize| {
        let (filling, delta) = ("a".repeat(bytes), "{\"content\":\"\"}");
        format!(
            "data: {{\"x\":\"{filling}\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let half = empty(MB).trim_end().trim_end_matches('}').to_owned();
    let noise = format!("data: {}\n\n", "a".repeat(60 * 1024));
    for (said, least) in [(empty(MB), MB), (half, MB), (noise, 60 * 1024)] {
        let gate = Gate::shut();
        let steps = vec![
            send(chat::STREAM_HEAD),
            send(chat::chunk(&said)),
            Step::Gate(gate.clone()),
            Step::Close,
        ];
        let upstream = Upstream::playing(steps).await;
        let sidecar = Start::with(config(&[&upstream])).ready().await;
        let mut wire = sidecar.wire().await;
        wire.send(chat::streamed("gpt")).await;
        until("the memory to count", async || {
            (sidecar.metrics().await.of(BUFFERED) >= least as u64).then_some(())
        })
        .await;
        drop(wire);
        sidecar.falls_to_zero(&[BUFFERED, "pillion_requests_in_flight"]).await;
        gate.open();
        sidecar.stop().await;
    }
    let limits = "{max_body_bytes: 1048576, max_buffered_bytes: 1048576}";
    let steps =
        vec![send(chat::STREAM_HEAD), send(chat::chunk(&empty(3 * MB))), Step::Gate(Gate::shut())];
    let upstream = Upstream::playing(steps).await;
    let text = config(&[&upstream, &upstream]) + &format!("pillion: {{limits: {limits}}}\n");
    let sidecar = Start::with(text).ready().await;
    let answer = sidecar.ask(chat::streamed("gpt")).await;
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(answer.message().contains("max_buffered_bytes"), "{answer:?}");
    assert_eq!(sidecar.metrics().await.of("pillion_cooldowns_total"), 0);
    sidecar.falls_to_zero(&[BUFFERED]).await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_slows_the_provider_down() {
    const READERS: usize = 8;
    let words = chat::delta(&"more ".repeat(2_000));
    let script = vec![Step::Expect, send(chat::STREAM_HEAD), Step::Endless(words.into())];
    let upstream = Upstream::start(move |_| script.clone()).await;
    let sidecar = with_limits(&upstream, "").await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut wire = sidecar.wire().await;
        wire.send(chat::streamed("gpt")).await;
        readers.push(wire);
    }
    upstream.received(READERS).await;
    // One of them reads as fast as it can, and gets what the others might have had.
    let reader = readers.first_mut().unwrap();
    assert_eq!(reader.head().await.status, 200);
    let (mut read, mut halfway) = (0, Vec::new());
    let flood = || {
        let mut sent: Vec<_> = upstream.connections().iter().map(|it| it.flood).collect();
        sent.sort_unstable();
        sent
    };
    while read < 96 * MB {
        read += reader.chunk().await.expect("there is more").0.len();
        if read >= 64 * MB && halfway.is_empty() {
            halfway = flood();
        }
    }
    let sent = flood();
    let peak = peak_memory(sidecar.id());
    println!("slow readers: {sent:?} bytes were sent, {} MiB held at most", peak >> 20);
    // Two sockets' buffers and ours; the kernel alone may keep some megabytes in each of them.
    let (fastest, slow) = sent.split_last().unwrap();
    assert!(*fastest >= 96 * MB, "{sent:?}");
    assert!(slow.iter().all(|bytes| (1..32 * MB).contains(bytes)), "{sent:?}");
    // Who does not read holds its provider up: it writes no more while another one writes on.
    let more: usize = slow.iter().zip(&halfway).map(|(now, then)| now - then).sum();
    assert!(more < MB, "{more} bytes more: {halfway:?}, {sent:?}");
    assert!(peak < 64 * MB as u64, "{peak}");
    drop(readers);
    for number in 0..READERS {
        upstream.closed(number).await;
    }
    sidecar.falls_to_zero(&["pillion_requests_in_flight", "pillion_tries_in_flight"]).await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_answer_that_nobody_asked_for_is_refused_unread() {
    // The first bytes of a gzip file, which could unfold to anything.
    let bomb = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".repeat(1_000);
    for (kind, call) in
        [("application/json", chat::plain("gpt")), ("text/event-stream", chat::streamed("gpt"))]
    {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
            bomb.len()
        );
        let mut piece = bomb.clone();
        piece.extend_from_slice(format!("\r\n{:x}\r\n", bomb.len()).as_bytes());
        let script = vec![Step::Expect, send(head), Step::Endless(piece.into())];
        let upstream = Upstream::start(move |_| script.clone()).await;
        let sidecar = with_limits(&upstream, "").await;
        let answer = sidecar.ask(call).await;
        assert_eq!(answer.status(), 502, "{answer:?}");
        assert!(answer.message().contains("compressed"), "{}", answer.message());
        assert!(
            !upstream.requests()[0]
                .request
                .head
                .to_ascii_lowercase()
                .contains("accept-encoding: gzip")
        );
        upstream.closed(0).await;
        assert!(peak_memory(sidecar.id()) < 64 * MB as u64);
        sidecar.stop().await;
    }
}
