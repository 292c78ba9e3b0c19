//! Events pass on as they come: nothing waits for a delayed acknowledgement.

#![cfg(test)]

use std::time::{Duration, Instant};

use crate::support::chat;
use crate::support::script::{Step, send, serve};
use crate::support::sidecar::{Start, config};
use crate::support::upstream::Upstream;
use crate::support::wire::Wire;

const CHUNKS: usize = 64;
const GAP: Duration = Duration::from_millis(5);

fn paced() -> Vec<Step> {
    let mut steps = vec![send(chat::STREAM_HEAD)];
    for word in 0..CHUNKS {
        steps.push(send(chat::delta(&format!("w{word} "))));
        steps.push(Step::Pause(GAP));
    }
    steps.push(send(chat::ending()));
    steps
}

/// The median gap between chunks.
async fn median_gap(mut wire: Wire, call: &str) -> Duration {
    wire.send(call).await;
    assert_eq!(wire.head().await.status, 200);
    let mut times: Vec<Instant> = Vec::new();
    let mut text = String::new();
    while let Some((chunk, at)) = wire.chunk().await {
        text += std::str::from_utf8(&chunk).unwrap();
        times.push(at);
    }
    assert!(text.contains(&format!("w{}", CHUNKS - 1)) && text.ends_with("data: [DONE]\n\n"));
    assert!(times.len() > CHUNKS / 2, "chunks were glued together: {}", times.len());
    let mut gaps: Vec<_> =
        times.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).collect();
    gaps.sort();
    gaps[gaps.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_no_step_of_40_ms() {
    let upstream = Upstream::start(|_| serve(|_| paced())).await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let call = chat::streamed("gpt");
    let direct = median_gap(Wire::open(upstream.address).await, &call).await;
    let through = median_gap(sidecar.wire().await, &call).await;
    let again = median_gap(sidecar.wire().await, &call).await;
    println!("median gap: {direct:?} direct, {through:?} and {again:?} through the gateway");
    let added = through.min(again).saturating_sub(direct);
    assert!(added < Duration::from_millis(20), "{direct:?} became {through:?} and {again:?}");
    sidecar.stop().await;
}
