//! What a simulated deployment says where it is asked by the Responses API.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

const MESSAGE: &str = "msg_demo";

/// The answer in one piece.
pub(super) fn whole(words: &[String], asked: &Value) -> Value {
    let text = words.concat();
    response(asked, "completed", &[item("completed", &[part(&text)])], &usage(asked, words))
}

/// The same as a stream: each event, and the pause before it.
pub(super) fn events(
    words: &[String],
    asked: &Value,
    first_token: Duration,
    gap: impl Fn() -> Duration,
) -> Vec<(Duration, Bytes)> {
    let text = words.concat();
    let begun = json!({ "response": response(asked, "in_progress", &[], &Value::Null) });
    let place = |name: &str, value: Value| json!({ "item_id": MESSAGE, "output_index": 0, "content_index": 0, name: value });
    let of_item = |item: Value| json!({ "output_index": 0, "item": item });
    let now = Duration::ZERO;
    let mut told = vec![
        (now, "response.created", begun.clone()),
        (now, "response.in_progress", begun),
        (first_token, "response.output_item.added", of_item(item("in_progress", &[]))),
        (now, "response.content_part.added", place("part", part(""))),
    ];
    told.extend(
        words.iter().map(|word| {
            (gap(), "response.output_text.delta", place("delta", word.as_str().into()))
        }),
    );
    told.extend([
        (now, "response.output_text.done", place("text", text.as_str().into())),
        (now, "response.content_part.done", place("part", part(&text))),
        (now, "response.output_item.done", of_item(item("completed", &[part(&text)]))),
        (now, "response.completed", json!({ "response": whole(words, asked) })),
    ]);
    let numbered = told.into_iter().enumerate();
    numbered.map(|(number, (pause, kind, fields))| (pause, event(number, kind, fields))).collect()
}

fn event(number: usize, kind: &str, fields: Value) -> Bytes {
    let mut event = fields;
    if let Some(event) = event.as_object_mut() {
        event.insert("type".to_owned(), kind.into());
        event.insert("sequence_number".to_owned(), number.into());
    }
    Bytes::from(format!("event: {kind}\ndata: {event}\n\n"))
}

fn response(asked: &Value, status: &str, output: &[Value], usage: &Value) -> Value {
    json!({
        "id": "resp_demo",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": null,
        "incomplete_details": null,
        "model": asked.get("model"),
        "output": output,
        "parallel_tool_calls": true,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
        "usage": usage,
    })
}

fn item(status: &str, content: &[Value]) -> Value {
    json!({
        "type": "message",
        "id": MESSAGE,
        "status": status,
        "role": "assistant",
        "content": content,
    })
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [] })
}

fn usage(asked: &Value, words: &[String]) -> Value {
    let prompt = super::prompt_tokens(asked);
    json!({
        "input_tokens": prompt,
        "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": words.len(),
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": prompt + words.len(),
    })
}
