//! The words of Responses: a stream of them, and a call that asks for one.

use serde_json::{Value, json};

use super::chat;
use super::script::{Step, send};

/// A stream of Responses with one message, whose names all end so.
pub(crate) fn response(
    of: &str,
    words: &[&str],
    then: impl IntoIterator<Item = Step>,
) -> Vec<Step> {
    let mut events = vec![
        json!({ "type": "response.created",
            "response": { "id": format!("resp_{of}"), "created_at": 1, "model": "m", "output": [] } }),
        json!({ "type": "response.output_item.added", "output_index": 0,
            "item": { "id": format!("msg_{of}"), "type": "message", "role": "assistant",
                "status": "in_progress", "content": [] } }),
        json!({ "type": "response.content_part.added", "item_id": format!("msg_{of}"),
            "output_index": 0, "content_index": 0,
            "part": { "type": "output_text", "text": "", "annotations": [] } }),
    ];
    events.extend(words.iter().map(|word| {
        json!({ "type": "response.output_text.delta", "item_id": format!("msg_{of}"),
            "output_index": 0, "content_index": 0, "delta": word })
    }));
    let mut steps = vec![send(chat::STREAM_HEAD)];
    steps.extend(events.iter().enumerate().map(|(number, event)| numbered(number, event)));
    steps.extend(then);
    steps
}

pub(crate) fn numbered(number: usize, event: &Value) -> Step {
    let mut event = event.clone();
    event["sequence_number"] = number.into();
    let name = event["type"].as_str().unwrap();
    send(chat::chunk(&format!("event: {name}\ndata: {event}\n\n")))
}

pub(crate) fn whole_response(of: &str, words: &[&str]) -> Vec<Step> {
    let text = words.concat();
    let part = json!({ "type": "output_text", "text": text, "annotations": [] });
    let item = json!({ "id": format!("msg_{of}"), "type": "message", "role": "assistant",
        "status": "completed", "content": [part] });
    let place = |kind: &str, name: &str, value: Value| {
        json!({ "type": kind, "item_id": format!("msg_{of}"), "output_index": 0,
            "content_index": 0, name: value })
    };
    let ending = [
        place("response.output_text.done", "text", text.into()),
        place("response.content_part.done", "part", part),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": item }),
        json!({ "type": "response.completed", "response": { "id": format!("resp_{of}"),
            "created_at": 2, "model": "m", "status": "completed", "output": [item],
            "usage": { "input_tokens": 7, "output_tokens": 3, "total_tokens": 10 } } }),
    ];
    let from = 3 + words.len();
    let ending = ending.iter().enumerate().map(|(at, event)| numbered(from + at, event));
    response(of, words, ending.chain([send(chat::LAST_CHUNK)]).collect::<Vec<_>>())
}

pub(crate) fn asked(more: &str) -> String {
    let body = format!("{{\"model\":\"gpt\",\"input\":\"hi\",\"stream\":true{more}}}");
    chat::post(&body).replace("/v1/chat/completions", "/v1/responses")
}
