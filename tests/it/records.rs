//! Each request leaves exactly one line and is counted once, however it ends.

#![cfg(test)]

use serde_json::Value;

use crate::support::chat;
use crate::support::script::{Gate, Step, send, serve};
use crate::support::sidecar::{Pillion, Start, config};
use crate::support::upstream::Upstream;

/// A provider that does as the prompt says.
async fn obedient() -> Upstream {
    Upstream::start(|_| {
        serve(|request| {
            let cut = || send(chat::STREAM_HEAD.to_owned() + &chat::delta("w0"));
            if request.says("be cut") {
                vec![cut(), Step::Close]
            } else if request.says("be silent") {
                vec![]
            } else if request.says("begin") {
                vec![cut()]
            } else if request.says("refuse") {
                vec![send(chat::json(400, "{\"error\":{\"message\":\"no\"}}"))]
            } else if request.wants_stream() {
                chat::stream(2)
            } else {
                vec![send(chat::whole("hello"))]
            }
        })
    })
    .await
}

fn call(id: &str, wish: &str, more: &str) -> String {
    let body = format!(
        "{{\"model\":\"gpt\",\"messages\":[{{\"role\":\"user\",\"content\":\"{wish}\"}}]{more}}}"
    );
    chat::post(&body).replacen("\r\n", &format!("\r\nx-litellm-call-id: {id}\r\n"), 1)
}

const STREAM: &str = ",\"stream\":true";

async fn ask_all_ways(sidecar: &Pillion, upstream: &Upstream) {
    assert_eq!(sidecar.ask(call("plain", "answer", "")).await.status(), 200);
    assert!(sidecar.ask(call("stream", "answer", STREAM)).await.is_done());
    let wants_usage = ",\"stream\":true,\"stream_options\":{\"include_usage\":true}";
    assert!(sidecar.ask(call("usage", "answer", wants_usage)).await.is_done());
    assert_eq!(sidecar.ask(call("refused", "refuse", "")).await.status(), 400);
    assert_eq!(sidecar.ask(call("refused-stream", "refuse", STREAM)).await.status(), 400);
    assert_eq!(sidecar.ask(call("unread", "\\u12", "")).await.status(), 400);
    let truncated = sidecar.ask(call("truncated", "be cut", STREAM)).await;
    assert!(truncated.body.contains("w0") && !truncated.is_done(), "{truncated:?}");
    let before = upstream.requests().len();
    let mut wire = sidecar.wire().await;
    wire.send(call("left-early", "be silent", "")).await;
    upstream.received(before + 1).await;
    drop(wire);
    let mut wire = sidecar.wire().await;
    wire.send(call("left-midway", "begin", STREAM)).await;
    wire.until_text("w0").await;
    drop(wire);
}

const ENDS: [(&str, &str, u64); 9] = [
    ("plain", "complete", 200),
    ("stream", "complete", 200),
    ("usage", "complete", 200),
    ("refused", "refused", 400),
    ("refused-stream", "refused", 400),
    ("unread", "refused", 400),
    ("truncated", "truncated", 200),
    ("left-early", "abandoned", 499),
    ("left-midway", "abandoned", 499),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_has_one_record_that_says_how_it_ended() {
    let upstream = obedient().await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    ask_all_ways(&sidecar, &upstream).await;
    sidecar.recorded(ENDS.len()).await;
    let metrics = sidecar.metrics().await;
    let asked = upstream.requests().len() as u64;
    let records = sidecar.stop().await.records();

    for (id, end, status) in ENDS {
        let own: Vec<&Value> = records.iter().filter(|record| record["id"] == id).collect();
        let [record] = own[..] else { panic!("{id} has {} records", own.len()) };
        assert_eq!((&record["end"], &record["status"]), (&end.into(), &status.into()), "{record}");
    }
    assert_eq!(records.len(), ENDS.len());

    let requests = |end| metrics.sum("pillion_requests_total", &[("end", end)]);
    let ends = ["complete", "refused", "truncated", "abandoned"].map(requests);
    assert_eq!(ends, [3, 3, 1, 2]);
    assert_eq!(metrics.of("pillion_requests_total"), ENDS.len() as u64);
    assert_eq!(metrics.of("pillion_request_duration_seconds_count"), ENDS.len() as u64);
    let tries: u64 = records.iter().filter_map(|record| record["tries"].as_u64()).sum();
    assert_eq!((tries, metrics.of("pillion_tries_total")), (asked, asked));
    let used = |field: &str| -> u64 {
        let told = records.iter().filter(|record| record["end"] == "complete");
        told.filter_map(|record| record[field].as_u64()).sum()
    };
    assert_eq!(used("gen_ai.usage.input_tokens"), 3 * chat::INPUT);
    assert_eq!(used("gen_ai.usage.output_tokens"), 3 * chat::OUTPUT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_the_middle_of_a_stream_is_told_and_written_down() {
    let gate = Gate::shut();
    let begin = send(chat::STREAM_HEAD.to_owned() + &chat::delta("w0"));
    let script = vec![Step::Expect, begin, Step::Gate(gate.clone()), Step::Reset];
    let upstream = Upstream::start(move |_| script.clone()).await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::streamed("gpt")).await;
    wire.until_text("w0").await;
    gate.open();
    let answer = wire.answer().await;
    assert!(answer.body.contains("\"error\"") && !answer.is_done(), "{answer:?}");
    let records = sidecar.recorded(1).await;
    assert_eq!((&records[0]["end"], &records[0]["tries"]), (&"truncated".into(), &1.into()));
    assert_eq!(sidecar.stop().await.records().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_add_up_to_the_providers_own() {
    const CALLS: u64 = 200;
    let upstreams = [obedient().await, obedient().await];
    let sidecar = Start::with(config(&[&upstreams[0], &upstreams[1]])).ready().await;
    let mut wires = Vec::new();
    for _ in 0..8 {
        wires.push(sidecar.wire().await);
    }
    let asking = wires.into_iter().enumerate().map(|(lane, mut wire)| async move {
        for number in 0..CALLS / 8 {
            let more = if number % 2 == 0 { STREAM } else { "" };
            let answer = wire.ask(call(&format!("c{lane}-{number}"), "answer", more)).await;
            assert_eq!(answer.status(), 200, "{answer:?}");
        }
    });
    let mut lanes = tokio::task::JoinSet::new();
    asking.for_each(|lane| drop(lanes.spawn(lane)));
    lanes.join_all().await;

    sidecar.recorded(usize::try_from(CALLS).unwrap()).await;
    let metrics = sidecar.metrics().await;
    for (number, upstream) in upstreams.iter().enumerate() {
        let own = upstream.requests().len() as u64;
        let deployment = format!("d{number}");
        let of = |name, label, value| {
            metrics.sum(name, &[("deployment", deployment.as_str()), (label, value)])
        };
        assert_eq!(of("pillion_tries_total", "outcome", "success"), own);
        assert_eq!(of("pillion_tokens_total", "type", "input"), own * chat::INPUT);
        assert_eq!(of("pillion_tokens_total", "type", "output"), own * chat::OUTPUT);
    }
    assert_eq!(metrics.of("pillion_tries_total"), CALLS);
    assert_eq!(metrics.of("pillion_requests_in_flight"), 0);
    assert_eq!(metrics.of("pillion_access_log_dropped_total"), 0);
    assert_eq!(sidecar.stop().await.records().len() as u64, CALLS);
}
