//! Streams that break off in a call of the client's own tool, or behind it.

use serde_json::{Value, json};

use super::{CONTINUE, RESTART, config, errors, events, messages, start};
use crate::support::chat;
use crate::support::script::{Step, send};
use crate::support::sidecar::Start;
use crate::support::upstream::Upstream;
use crate::support::wire::Answer;

const TOOLS: &str = ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]";

/// A stream of a chat that calls tools: index, id and name, or more of the arguments.
fn chat_calls(pieces: &[(u8, &str, &str)], then: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let piece = |(index, id, text): &(u8, &str, &str)| {
        let call = if id.is_empty() {
            json!({ "index": index, "function": { "arguments": text } })
        } else {
            json!({ "index": index, "id": id, "type": "function",
                "function": { "name": text, "arguments": "" } })
        };
        let event = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1,
            "model": "m", "choices": [{ "index": 0, "delta": { "tool_calls": [call] },
            "finish_reason": null }] });
        send(chat::event(&event.to_string()))
    };
    let mut steps = vec![send(chat::STREAM_HEAD)];
    steps.extend(pieces.iter().map(piece));
    steps.extend(then);
    steps
}

fn ended() -> Step {
    let reason = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }] });
    let events = [chat::event(&reason.to_string()), chat::event("[DONE]")].concat();
    send(events + chat::LAST_CHUNK)
}

/// What a client puts together as OpenAI's SDKs do: id, name and arguments of each call.
fn put_together(answer: &Answer) -> Vec<[String; 3]> {
    let mut calls: Vec<[String; 3]> = Vec::new();
    for event in events(answer) {
        let pieces = event.pointer("/choices/0/delta/tool_calls").and_then(Value::as_array);
        for piece in pieces.into_iter().flatten() {
            let at = usize::try_from(piece["index"].as_u64().unwrap()).unwrap();
            calls.resize(calls.len().max(at + 1), Default::default());
            let said = [&piece["id"], &piece["function"]["name"], &piece["function"]["arguments"]];
            for (whole, more) in calls[at].iter_mut().zip(said) {
                *whole += more.as_str().unwrap_or_default();
            }
        }
    }
    calls
}

fn asked(more: &str) -> String {
    chat::post(&chat::body("gpt", &format!(",\"stream\":true{TOOLS}{more}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_call_goes_on_and_each_is_made_once() {
    let second =
        [(0, "b0", "f"), (0, "", "{\"x\":"), (0, "", "12}"), (1, "b1", "g"), (1, "", "{}")];
    let want = [["a0", "f", "{\"x\":12}"], ["b1", "g", "{}"]];
    let (open, over) =
        (&[(0, "a0", "f"), (0, "", "{\"x\":1")][..], &[(0, "a0", "f"), (0, "", "{\"x\":12}")][..]);
    for begun in [open, over, &open[..1]] {
        let first = Upstream::playing(chat_calls(begun, [Step::Close])).await;
        let other = Upstream::playing(chat_calls(&second, [ended()])).await;
        let sidecar = start(RESTART, &first, &other).await;
        let answer = sidecar.ask(asked("")).await;
        assert!(answer.is_done() && errors(&answer).is_empty(), "{answer:?}");
        assert_eq!(put_together(&answer), want, "{answer:?}");
        assert_eq!(answer.body.matches("\"finish_reason\":\"tool_calls\"").count(), 1);
        assert_eq!(sidecar.recorded(1).await[0]["recovery"], "restarted");
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_another_call_is_told() {
    let first = [(0, "a0", "f"), (0, "", "{\"x\":1")];
    let first = Upstream::playing(chat_calls(&first, [Step::Close])).await;
    for second in [
        &[(0, "b0", "f"), (0, "", "{\"x\":2}")][..],
        &[(0, "b0", "g"), (0, "", "{\"x\":1}")],
        &[(0, "b0", "f"), (0, "", "{\"x\":")],
    ] {
        let other = Upstream::playing(chat_calls(second, [ended()])).await;
        let sidecar = start(RESTART, &first, &other).await;
        let answer = sidecar.ask(asked("")).await;
        assert_eq!(put_together(&answer), [["a0", "f", "{\"x\":1"]], "{answer:?}");
        assert!(!answer.is_done() && errors(&answer).len() == 1, "{answer:?}");
        assert_eq!(sidecar.recorded(1).await[0]["recovery"], "differed");
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

/// A stream of Messages that calls a tool.
fn message_call(id: &str, pieces: &[&str], is_whole: bool) -> Vec<Step> {
    let mut events = vec![
        json!({ "type": "message_start", "message": { "id": "m", "type": "message",
            "role": "assistant", "model": "m", "content": [], "stop_reason": null,
            "usage": { "input_tokens": 9, "output_tokens": 1 } } }),
        json!({ "type": "content_block_start", "index": 0,
            "content_block": { "type": "tool_use", "id": id, "name": "f", "input": {} } }),
    ];
    events.extend(pieces.iter().map(|piece| {
        json!({ "type": "content_block_delta", "index": 0,
            "delta": { "type": "input_json_delta", "partial_json": piece } })
    }));
    if is_whole {
        events.extend([
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" },
                "usage": { "output_tokens": 4 } }),
            json!({ "type": "message_stop" }),
        ]);
    }
    let mut steps = vec![send(chat::STREAM_HEAD)];
    steps.extend(events.iter().map(|event| send(chat::event(&event.to_string()))));
    steps.push(if is_whole { send(chat::LAST_CHUNK) } else { Step::Close });
    steps
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_on_in_messages_and_where_it_is_translated() {
    let first = Upstream::playing(message_call("a", &["", "{\"x\":"], false)).await;
    let other = Upstream::playing(message_call("b", &["", "{\"x\":1", "}"], true)).await;
    let text = config(RESTART, "", &first, &other).replace("model: openai/", "model: anthropic/");
    let sidecar = Start::with(text).ready().await;
    let tools = ",\"tools\":[{\"name\":\"f\",\"input_schema\":{\"type\":\"object\"}}]";
    let answer = sidecar.ask(messages(tools)).await;
    let all = events(&answer);
    let pieces = all.iter().filter_map(|it| it["delta"]["partial_json"].as_str());
    assert_eq!(pieces.collect::<String>(), "{\"x\":1}", "{answer:?}");
    assert_eq!(answer.body.matches("tool_use\"").count(), 2, "{answer:?}");
    assert!(!answer.body.contains("\"b\"") && errors(&answer).is_empty(), "{answer:?}");
    let answer = sidecar.ask(asked("")).await;
    assert_eq!(put_together(&answer), [["a", "f", "{\"x\":1}"]], "{answer:?}");
    assert!(answer.is_done(), "{answer:?}");
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_writes_on_behind_a_call() {
    let call = [(0, "a0", "f"), (0, "", "{\"x\":\"long enough to be written on\"")];
    let first = Upstream::playing(chat_calls(&call, [Step::Close])).await;
    let other = Upstream::silent().await;
    let text = config(CONTINUE, "", &first, &other).replace("openai/m", "hosted_vllm/m");
    let sidecar = Start::with(text).ready().await;
    for call in [asked(""), chat::streamed("gpt")] {
        let answer = sidecar.ask(call).await;
        assert!(!answer.is_done() && errors(&answer).len() == 1, "{answer:?}");
    }
    assert!(other.requests().is_empty());
    sidecar.rests().await;
    sidecar.stop().await;
}
