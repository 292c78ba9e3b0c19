//! What hedging does to a heavy tail, by the real binary: answers of sixty milliseconds, and one
//! of thirty-three that takes more than a second.

#![cfg(test)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::script::{Request, Step, send, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::{chat, now, until};

const USUAL: Duration = Duration::from_millis(60);
const LATE: Duration = Duration::from_millis(1_300);
/// One of so many is late, whoever asks.
const ONE_OF: usize = 33;
const REQUESTS: usize = 3_000;
const CLIENTS: usize = 30;

fn answer(request: &Request, count: &AtomicUsize) -> Vec<Step> {
    let is_late = count.fetch_add(1, Ordering::Relaxed) % ONE_OF == ONE_OF / 2;
    let pause = Step::Pause(if is_late { LATE } else { USUAL });
    if request.wants_stream() {
        // The head and the role come at once; only content ends the wait.
        let role = "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}";
        let mut steps = vec![send(chat::STREAM_HEAD.to_owned() + &chat::event(role)), pause];
        steps.extend([send(chat::delta("w")), send(chat::ending())]);
        steps
    } else {
        vec![pause, send(chat::whole("hello"))]
    }
}

async fn heavy() -> Upstream {
    let count = Arc::new(AtomicUsize::new(0));
    Upstream::start(move |_| {
        let count = count.clone();
        serve(move |request| answer(request, &count))
    })
    .await
}

async fn sidecar(mode: &str, upstreams: &[Upstream; 2]) -> Pillion {
    let [one, other] = upstreams;
    let config = format!(
        "pillion: {{hedge: {{mode: {mode}}}}}\nmodel_list:\n{}{}",
        deployment("gpt", "one", &one.base(), ""),
        deployment("gpt", "other", &other.base(), ""),
    );
    Start::with(config).ready().await
}

/// Waits for the first content of this many calls, by some clients at once.
async fn waits(sidecar: &Pillion, requests: usize) -> Vec<Duration> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut wire = sidecar.wire().await;
        clients.spawn(async move {
            let mut waits = Vec::new();
            for number in 0..requests / CLIENTS {
                let call = if (client + number) % 2 == 0 {
                    chat::plain("gpt")
                } else {
                    chat::streamed("gpt")
                };
                let began = now();
                let answer = wire.ask(call).await;
                assert_eq!(answer.status(), 200, "{answer:?}");
                waits.push(now().saturating_duration_since(began));
            }
            waits
        });
    }
    let mut all: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    all.sort_unstable();
    all
}

fn percentile(waits: &[Duration], percent: usize) -> Duration {
    waits[waits.len() * percent / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hedging_halves_the_tail_for_a_few_calls_more() {
    let upstreams = [heavy().await, heavy().await];
    let asked = || upstreams.iter().map(|upstream| upstream.requests().len()).sum::<usize>();
    let without = sidecar("observe", &upstreams).await;
    let plain = waits(&without, REQUESTS).await;
    assert_eq!(asked(), REQUESTS, "who only observes asks nobody twice");
    let with = sidecar("enabled", &upstreams).await;
    let hedged = waits(&with, REQUESTS).await;
    let extra = asked() - 2 * REQUESTS;
    println!(
        "p50 {:?} and {:?}, p99 without hedging {:?}, with {:?}; {extra} calls more for {REQUESTS}",
        percentile(&plain, 50),
        percentile(&hedged, 50),
        percentile(&plain, 99),
        percentile(&hedged, 99),
    );
    assert!(percentile(&hedged, 99) * 2 <= percentile(&plain, 99));
    assert!(extra * 100 <= 6 * REQUESTS && extra > 0, "{extra} calls more");
    check_sums(&with, extra).await;
    check_effect(&with, percentile(&plain, 99), percentile(&hedged, 99)).await;
    let observed = without.metrics().await.sum("pillion_hedges_total", &[("outcome", "observed")]);
    assert!(observed > 0, "what would have been hedged is counted");
    without.stop().await;
    with.stop().await;
}

/// What the sidecar tells of the worth of hedging is what the clients saw, and what they would have
/// seen without it.
async fn check_effect(sidecar: &Pillion, without: Duration, with: Duration) {
    let effect = until("all requests to be told", async || {
        let explained = sidecar.get("/explain?model=gpt").await.json();
        let effect = explained["hedge_effect"].clone();
        // Nine of ten: nothing is told before a few answers have taught what to expect.
        let enough = effect["requests"].as_f64()? > 2_700.0;
        enough.then_some(effect)
    })
    .await;
    println!("{effect}");
    // Of the tail without hedging a handful of hold-outs tell, so its interval is what counts.
    let check = |told: &Value, seen: f64| {
        let end = |name: &str| told[name].as_f64().unwrap_or(f64::INFINITY);
        let reaches = end("low") <= 1.5 * seen && end("high") >= 0.7 * seen;
        assert!(reaches, "{told} is not {seen}: {effect}");
    };
    check(&effect["seconds_without"]["p99"], without.as_secs_f64());
    check(&effect["seconds_with"]["p99"], with.as_secs_f64());
    check(&effect["seconds_saved_per_win"], without.saturating_sub(with).as_secs_f64());
}

/// Every call of the upstreams is in the books, and nothing is left open.
async fn check_sums(sidecar: &Pillion, extra: usize) {
    sidecar.rests().await;
    let metrics = sidecar.metrics().await;
    let (requests, extra) = (REQUESTS as u64, extra as u64);
    let tries = |outcome| metrics.sum("pillion_tries_total", &[("outcome", outcome)]);
    assert_eq!((tries("success"), tries("lost")), (requests, extra));
    let tokens = |kind| metrics.sum("pillion_tokens_total", &[("type", kind)]);
    assert_eq!(tokens("input"), requests * chat::INPUT);
    assert_eq!(tokens("output"), requests * chat::OUTPUT);
    assert_eq!(metrics.of("pillion_hedge_tokens_total"), extra * chat::INPUT);
    let outcome = |of| metrics.sum("pillion_hedges_total", &[("outcome", of)]);
    assert_eq!(outcome("won") + outcome("lost"), extra);
}
