//! Plain calls that are carried as streams: the client sees the answer of a plain call, a hedge is
//! decided at the first content, and a break before the end is a failed try as any other.

#![cfg(test)]

use std::time::Duration;

use crate::support::script::{Gate, Step, send};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::{chat, now};

/// `first` is always asked first, `other` only as a hedge or after a failure.
fn config(hedge: &str, router: &str, first: &Upstream, other: &Upstream) -> String {
    format!(
        "router_settings: {{routing_strategy: simple-shuffle, num_retries: 0{router}}}\n\
         pillion: {{hedge: {{mode: enabled, delay: 50ms, holdout: 0, budget: 1, stream_upstream: true{hedge}}}}}\nmodel_list:\n{}{}",
        deployment("gpt", "first", &first.base(), ", weight: 1"),
        deployment("gpt", "other", &other.base(), ", weight: 0"),
    )
}

async fn start(router: &str, first: &Upstream, other: &Upstream) -> Pillion {
    Start::with(config("", router, first, other)).ready().await
}

/// Begins to answer at once and ends when the gate is opened.
async fn gated(gate: &Gate) -> Upstream {
    Upstream::playing(vec![
        send(chat::STREAM_HEAD),
        send(chat::delta("one ")),
        Step::Gate(gate.clone()),
        send(chat::delta("two")),
        send(chat::ending()),
    ])
    .await
}

fn content(answer: &serde_json::Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_gets_the_answer_of_a_plain_call() {
    let (first, other) =
        (Upstream::answering_after(Duration::ZERO).await, Upstream::silent().await);
    let sidecar = start("", &first, &other).await;
    let answer = sidecar.ask(chat::plain("gpt")).await;
    assert_eq!(
        (answer.status(), answer.head.header("content-type")),
        (200, Some("application/json"))
    );
    assert!(answer.head.header("x-litellm-response-duration-ms").is_some(), "{answer:?}");
    let json = answer.json();
    assert_eq!((content(&json), &json["object"]), ("w0 w1 w2 ", &"chat.completion".into()));
    assert_eq!(
        (&json["model"], &json["choices"][0]["finish_reason"]),
        (&"gpt".into(), &"stop".into())
    );
    assert_eq!(json["usage"]["total_tokens"], chat::INPUT + chat::OUTPUT);
    let sent = &first.requests()[0].request;
    assert!(sent.wants_stream() && sent.says("\"include_usage\":true"), "{sent:?}");
    let record = &sidecar.recorded(1).await[0];
    assert_eq!(
        (&record["stream"], &record["end"]),
        (&false.into(), &"complete".into()),
        "{record}"
    );
    assert_eq!(record["gen_ai.usage.output_tokens"], chat::OUTPUT);
    // Its connection serves the next call.
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    assert_eq!(first.connections().len(), 1);
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loser_is_ended_at_the_first_content_of_the_winner() {
    let gate = Gate::shut();
    let (slow, other) = (Upstream::silent().await, gated(&gate).await);
    let sidecar = start("", &slow, &other).await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::plain("gpt")).await;
    // The winner cannot end before the gate is open, and that is after this.
    slow.closed(0).await;
    gate.open();
    let answer = wire.answer().await;
    assert_eq!((answer.status(), content(&answer.json())), (200, "one two"));
    let record = &sidecar.recorded(1).await[0];
    assert_eq!((&record["hedge"], &record["deployment"]), (&"won".into(), &"other".into()));
    let metrics = sidecar.metrics().await;
    assert_eq!(metrics.sum("pillion_hedge_tokens_total", &[("deployment", "other")]), 0);
    assert_eq!(metrics.sum("pillion_hedge_tokens_total", &[("deployment", "first")]), chat::INPUT);
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_is_a_failed_try() {
    let broken = [
        vec![send(chat::STREAM_HEAD), send(chat::delta("half")), Step::Close],
        vec![send(chat::STREAM_HEAD), send(chat::delta("half")), send(chat::LAST_CHUNK)],
        vec![
            send(chat::STREAM_HEAD),
            send(chat::delta("half")),
            send(chat::event("{\"error\":{\"message\":\"overloaded\",\"code\":503}}")),
        ],
        vec![send(chat::STREAM_HEAD), send(chat::delta("half")), send(chat::event("{broken"))],
    ];
    for steps in broken {
        let first = Upstream::playing(steps).await;
        let other = Upstream::answering_after(Duration::ZERO).await;
        let sidecar = start(", num_retries: 1", &first, &other).await;
        let answer = sidecar.ask(chat::plain("gpt")).await;
        assert_eq!((answer.status(), content(&answer.json())), (200, "w0 w1 w2 "), "{answer:?}");
        assert_eq!(answer.head.header("x-litellm-attempted-retries"), Some("1"));
        let record = &sidecar.recorded(1).await[0];
        assert_eq!((&record["tries"], &record["deployment"]), (&2.into(), &"other".into()));
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_try_is_that_of_the_whole_answer() {
    let gate = Gate::shut();
    let (first, other) = (gated(&gate).await, Upstream::silent().await);
    let more = ", timeout: 0.3, stream_timeout: 60";
    let sidecar = start(more, &first, &other).await;
    let answer = sidecar.ask(chat::plain("gpt")).await;
    assert_eq!(answer.status(), 408, "{answer:?}");
    first.closed(0).await;
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_to_the_first_content_is_not_that_of_the_whole_answer() {
    let steps = vec![
        send(chat::STREAM_HEAD),
        send(chat::delta("one ")),
        Step::Pause(Duration::from_millis(600)),
        send(chat::delta("two")),
        send(chat::ending()),
    ];
    let (first, other) = (Upstream::playing(steps).await, Upstream::silent().await);
    let text = config("", "", &first, &other)
        .replace("pillion: {", "pillion: {timeouts: {ttft: 0.3, stall: none}, ");
    let sidecar = Start::with(text).ready().await;
    let answer = sidecar.ask(chat::plain("gpt")).await;
    assert_eq!((answer.status(), content(&answer.json())), (200, "one two"), "{answer:?}");
    assert!(first.requests()[0].request.wants_stream());
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_the_rest_of_the_answer() {
    let gate = Gate::shut();
    let (slow, other) = (Upstream::silent().await, gated(&gate).await);
    let sidecar = start("", &slow, &other).await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::plain("gpt")).await;
    slow.closed(0).await;
    let left = now();
    drop(wire);
    assert!(other.closed(0).await.saturating_duration_since(left) < Duration::from_secs(1));
    let record = &sidecar.recorded(1).await[0];
    assert_eq!((&record["end"], &record["tries"]), (&"abandoned".into(), &2.into()), "{record}");
    assert_eq!(sidecar.tries("first", "lost").await, 1);
    assert_eq!(sidecar.tries("other", "abandoned").await, 1);
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_hedged_goes_as_it_came() {
    let first = Upstream::answering_after(Duration::ZERO).await;
    let other = Upstream::answering_after(Duration::ZERO).await;
    let sidecar = start("", &first, &other).await;
    let off = chat::plain("gpt").replacen("\r\n", "\r\nx-pillion-hedge: disabled\r\n", 1);
    let searching = chat::post(&chat::body("gpt", ",\"web_search_options\":{}"));
    for call in [off, searching] {
        let answer = sidecar.ask(call).await;
        assert_eq!((answer.status(), content(&answer.json())), (200, "hello"), "{answer:?}");
    }
    assert!(first.requests().iter().all(|received| !received.request.wants_stream()));
    sidecar.stop().await;
    let text = config("", "", &first, &other);
    let (alone, _) = text.rsplit_once("  - model_name").unwrap();
    let sidecar = Start::with(alone).ready().await;
    let answer = sidecar.ask(chat::plain("gpt")).await;
    assert_eq!((answer.status(), content(&answer.json())), (200, "hello"), "{answer:?}");
    sidecar.stop().await;
}

/// Anthropic's words for an answer, as a stream.
fn message() -> String {
    let events = [
        r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"bon"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"jour"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":4}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let mut text = chat::STREAM_HEAD.to_owned();
    for event in events {
        text += &chat::event(event);
    }
    text + chat::LAST_CHUNK
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_put_together_before_it_is_translated() {
    let first = Upstream::playing(vec![send(message())]).await;
    let other = Upstream::silent().await;
    let text = config("", "", &first, &other).replace("model: openai/", "model: anthropic/");
    let sidecar = Start::with(text).ready().await;
    let answer = sidecar.ask(chat::plain("gpt")).await;
    let json = answer.json();
    assert_eq!((answer.status(), content(&json)), (200, "bonjour"), "{answer:?}");
    assert_eq!(json["usage"]["completion_tokens"], 4);
    let body = chat::body("gpt", ",\"max_tokens\":9");
    let call = chat::post(&body).replace("/v1/chat/completions", "/v1/messages");
    let json = sidecar.ask(call).await.json();
    assert_eq!((&json["content"][0]["text"], &json["model"]), (&"bonjour".into(), &"gpt".into()));
    assert_eq!(json["usage"], serde_json::json!({ "input_tokens": 9, "output_tokens": 4 }));
    assert!(first.requests().iter().all(|received| received.request.wants_stream()));
    sidecar.stop().await;
}
