//! A response that fails, and what its caller sees of it.

#![cfg(test)]

use serde_json::{Value, json};

use crate::support::chat;
use crate::support::responses::{asked, numbered, response, whole_response};
use crate::support::script::{Step, send, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::wire::Answer;

/// What a provider says of a response that it could not finish.
fn failed(error: &Value) -> Value {
    json!({ "id": "resp_a", "object": "response", "created_at": 1, "model": "m",
        "status": "failed", "error": error, "output": [], "usage": null })
}

fn event(response: &Value) -> Value {
    json!({ "type": "response.failed", "response": response })
}

fn overloaded() -> Value {
    json!({ "code": "rate_limit_exceeded", "message": "slow down" })
}

/// A stream whose provider fails before it has said anything.
fn failing_at_once(error: &Value) -> Vec<Step> {
    let created = json!({ "type": "response.created", "response": { "output": [] } });
    vec![
        send(chat::STREAM_HEAD),
        numbered(0, &created),
        numbered(1, &event(&failed(error))),
        send(chat::LAST_CHUNK),
    ]
}

/// One deployment, which gets traffic, and where there is another one, it stands behind it.
async fn start(first: &Upstream, other: Option<&Upstream>) -> Pillion {
    let behind = other.map(|other| deployment("gpt", "b", &other.base(), ", order: 2"));
    let text = format!(
        "router_settings: {{num_retries: 1}}\nmodel_list:\n{}{}",
        deployment("gpt", "a", &first.base(), ", order: 1"),
        behind.unwrap_or_default(),
    );
    Start::with(text).ready().await
}

fn events(answer: &Answer) -> Vec<Value> {
    let data = answer.body.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn text(answer: &Answer) -> String {
    events(answer).iter().filter_map(|event| event["delta"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_fails_before_it_says_anything_is_asked_for_elsewhere() {
    let first = Upstream::playing(failing_at_once(&overloaded())).await;
    let other = Upstream::playing(whole_response("b", &["one ", "two"])).await;
    let sidecar = start(&first, Some(&other)).await;
    let answer = sidecar.ask(asked("")).await;
    assert_eq!((answer.status(), &*text(&answer)), (200, "one two"), "{answer:?}");
    assert!(!answer.body.contains("failed") && !answer.body.contains("slow down"), "{answer:?}");
    let record = &sidecar.recorded(1).await[0];
    assert_eq!(
        (&record["end"], &record["deployment"], &record["tries"]),
        (&"complete".into(), &"b".into(), &2.into()),
        "{record}"
    );
    assert_eq!(sidecar.tries("a", "rate_limit").await, 1);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_learns_why_where_nobody_else_is_there() {
    for (error, status, message) in [
        (overloaded(), 429, "slow down"),
        (json!({ "code": "invalid_prompt", "message": "not so" }), 400, "not so"),
        (Value::Null, 500, "the provider gave no reason"),
    ] {
        let first = Upstream::start(move |_| {
            let (streamed, whole) = (failing_at_once(&error), failed(&error).to_string());
            serve(move |request| {
                if request.wants_stream() {
                    streamed.clone()
                } else {
                    vec![send(chat::json(200, &whole))]
                }
            })
        })
        .await;
        let whole = chat::post("{\"model\":\"gpt\",\"input\":\"hi\"}");
        for call in [asked(""), whole.replace("/v1/chat/completions", "/v1/responses")] {
            let sidecar = start(&first, None).await;
            let answer = sidecar.ask(call).await;
            assert_eq!((answer.status(), &*answer.message()), (status, message), "{answer:?}");
            assert!(answer.json()["error"]["type"].is_string(), "{answer:?}");
            sidecar.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_fails_midway_ends_with_an_error_event_of_its_own_kind() {
    let failure = numbered(5, &event(&failed(&overloaded())));
    for (end, message) in [
        (failure, "slow down"),
        (Step::Close, "the provider's stream broke off; the answer so far is not whole"),
    ] {
        let first = Upstream::playing(response("a", &["one ", "two"], [end])).await;
        let other = Upstream::silent().await;
        let sidecar = start(&first, Some(&other)).await;
        let answer = sidecar.ask(asked("")).await;
        assert_eq!(text(&answer), "one two", "{answer:?}");
        assert!(answer.body.contains("event: error\n"), "{answer:?}");
        let all = events(&answer);
        let last = all.last().unwrap();
        assert_eq!(
            (&last["type"], &last["sequence_number"]),
            (&"error".into(), &(all.len() - 1).into()),
            "{last}"
        );
        assert_eq!(
            (&last["message"], &last["error"]["message"]),
            (&message.into(), &message.into())
        );
        let ends = |event: &&Value| event["type"].as_str().is_some_and(|it| it.ends_with("ed"));
        assert_eq!(all.iter().filter(ends).count(), 3, "{all:?}");
        let record = &sidecar.recorded(1).await[0];
        assert_eq!(record["end"], "truncated", "{record}");
        assert!(other.requests().is_empty());
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_lost_behind_the_end_takes_nothing_away() {
    let mut steps = whole_response("a", &["one ", "two"]);
    steps.pop();
    steps.push(Step::Reset);
    let first = Upstream::playing(steps).await;
    let sidecar = start(&first, None).await;
    let answer = sidecar.ask(asked("")).await;
    let last = events(&answer).pop().unwrap();
    assert_eq!(
        (&*text(&answer), &last["type"]),
        ("one two", &"response.completed".into()),
        "{answer:?}"
    );
    assert_eq!(sidecar.recorded(1).await[0]["end"], "complete");
    sidecar.stop().await;
}
