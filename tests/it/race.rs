//! Several models in one call: the first good answer, or all of them, over real sockets.

#![cfg(test)]

use std::time::Duration;

use serde_json::Value;

use crate::support::script::{Request, Step, send, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::{chat, now};

const FASTEST: &str = ",\"fastest_response\":true";

async fn start(a: &Upstream, b: &Upstream) -> Pillion {
    let config = format!(
        "router_settings: {{num_retries: 0}}\nmodel_list:\n{}{}",
        deployment("a", "da", &a.base(), ""),
        deployment("b", "db", &b.base(), ""),
    );
    Start::with(config).ready().await
}

async fn playing(play: impl Fn(&Request) -> Vec<Step> + Clone + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |_| serve(play.clone())).await
}

fn late(request: &Request) -> Vec<Step> {
    let mut steps = vec![Step::Pause(Duration::from_millis(150))];
    steps.extend(chat::answer(request));
    steps
}

fn refused(_: &Request) -> Vec<Step> {
    vec![send(chat::json(500, "{\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}"))]
}

/// The model itself says no.
fn unwilling(request: &Request) -> Vec<Step> {
    if request.wants_stream() {
        let delta = "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\"I will not\"},\"finish_reason\":null}]}";
        vec![send(chat::STREAM_HEAD), send(chat::event(delta)), send(chat::ending())]
    } else {
        let no = chat::whole("x").replace("\"content\":\"x\"", "\"refusal\": \"no\"");
        let body = no.split_once("\r\n\r\n").unwrap().1;
        vec![send(chat::json(200, body))]
    }
}

fn calls(more: &str) -> [String; 2] {
    let of = |stream: &str| chat::post(&chat::body("a, b", &format!("{more}{stream}")));
    [of(""), of(",\"stream\":true")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_good_answer_wins_and_the_loser_is_closed() {
    let (slow, fast) = (Upstream::silent().await, playing(chat::answer).await);
    let sidecar = start(&slow, &fast).await;
    for (number, call) in calls(FASTEST).into_iter().enumerate() {
        let answer = sidecar.ask(call).await;
        let answered = now();
        assert_eq!((answer.status(), answer.is_done()), (200, number == 1), "{answer:?}");
        assert!(answer.body.contains("\"model\":\"b\""), "{answer:?}");
        let header = answer.head.header("x-litellm-fastest_response_batch_completion");
        assert_eq!(header, Some("True"));
        let lag = slow.closed(number).await.saturating_duration_since(answered);
        println!("closed {lag:?} after the answer");
        assert!(lag < Duration::from_secs(1), "{lag:?}");
    }
    sidecar.rests().await;
    let records = sidecar.recorded(2).await;
    assert!(records.iter().all(|it| it["deployment"] == "db" && it["tries"] == 2), "{records:?}");
    let metrics = sidecar.metrics().await;
    let lost = [("deployment", "da"), ("outcome", "lost")];
    assert_eq!(metrics.sum("pillion_tries_total", &lost), 2);
    assert_eq!(metrics.of("pillion_hedge_tokens_total"), 2 * chat::INPUT);
    assert_eq!(metrics.of("pillion_tokens_total"), 2 * (chat::INPUT + chat::OUTPUT));
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_an_error_nor_a_refusal_wins_while_another_lives() {
    for early in [refused as fn(&Request) -> Vec<Step>, unwilling] {
        let (bad, good) = (playing(early).await, playing(late).await);
        let sidecar = start(&bad, &good).await;
        for call in calls(FASTEST) {
            let answer = sidecar.ask(call).await;
            assert!(
                answer.status() == 200 && answer.body.contains("\"model\":\"b\""),
                "{answer:?}"
            );
        }
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_is_answered_when_nobody_does_better() {
    let (a, b) = (playing(unwilling).await, playing(refused).await);
    let sidecar = start(&a, &b).await;
    let answer = sidecar.ask(&calls(FASTEST)[0]).await;
    assert!(answer.status() == 200 && answer.body.contains("refusal"), "{answer:?}");
    sidecar.stop().await;

    let (a, b) = (playing(refused).await, playing(refused).await);
    let sidecar = start(&a, &b).await;
    for call in calls(FASTEST) {
        assert_eq!(sidecar.ask(call).await.status(), 500);
    }
    sidecar.rests().await;
    let records = sidecar.recorded(2).await;
    assert!(records.iter().all(|it| it["end"] == "refused" && it["tries"] == 2), "{records:?}");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_all_of_them() {
    let (a, b) = (Upstream::silent().await, Upstream::silent().await);
    let sidecar = start(&a, &b).await;
    let mut wire = sidecar.wire().await;
    wire.send(&calls(FASTEST)[1]).await;
    a.received(1).await;
    b.received(1).await;
    drop(wire);
    a.closed(0).await;
    b.closed(0).await;
    sidecar.rests().await;
    let records = sidecar.recorded(1).await;
    assert_eq!(records[0]["end"], "abandoned");
    let metrics = sidecar.metrics().await;
    assert_eq!(metrics.sum("pillion_tries_total", &[("outcome", "abandoned")]), 2);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_flag_all_answers_come_as_a_list() {
    let (a, b) = (playing(late).await, playing(refused).await);
    let sidecar = start(&a, &b).await;
    let [plain, streamed] = calls("");
    let answer = sidecar.ask(plain).await;
    let list: Vec<Value> = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!((&list[0]["model"], &list[0]["object"]), (&"a".into(), &"chat.completion".into()));
    assert_eq!(list[1]["error"]["message"], "no");
    let answer = sidecar.ask(streamed).await;
    let why = answer.message();
    assert!(answer.status() == 400 && why.contains("fastest_response"), "{answer:?}");
    let records = sidecar.recorded(4).await;
    let of = |id: &str| records.iter().find(|it| it["deployment"] == id).unwrap();
    assert_eq!((&of("da")["status"], &of("db")["status"]), (&200.into(), &500.into()));
    assert_eq!(of("da")["gen_ai.usage.output_tokens"], chat::OUTPUT);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_nobody_has_are_told() {
    let (a, b) = (playing(chat::answer).await, playing(chat::answer).await);
    let sidecar = start(&a, &b).await;
    let ask = async |model: &str| sidecar.ask(chat::post(&chat::body(model, FASTEST))).await;
    assert_eq!(ask("a,nobody").await.status(), 200);
    let answer = ask("nobody,none").await;
    assert!(answer.status() == 400 && answer.message().contains("nobody"), "{answer:?}");
    assert_eq!(ask("a,").await.status(), 400);
    let many = ask("a,a,a,a,a,a,a,a,a").await;
    assert!(many.status() == 400 && many.message().contains("8 models"), "{many:?}");
    sidecar.stop().await;
}
