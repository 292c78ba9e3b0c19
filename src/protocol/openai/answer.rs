//! Whole chat completions, to and from the hub, and the words that streams share with them.

use serde_json::{Map, Value, json};

use super::{finish_reason, stop_of};
use crate::protocol::turn::{Answer, Call, Kind, Stop};
use crate::protocol::{Fault, Garbled, Usage};

/// Reads a whole answer; of several choices the first.
pub fn read(body: &[u8]) -> Result<Answer, Garbled> {
    let json: Value = serde_json::from_slice(body).map_err(|error| Garbled(error.to_string()))?;
    let choice = json.pointer("/choices/0");
    let Some(choice) = choice.filter(|choice| choice.is_object()) else {
        return Err(Garbled(match json.get("error") {
            Some(_) => Fault::read(body).message,
            None => "there are no choices".to_owned(),
        }));
    };
    let none = Value::Null;
    let message = choice.get("message").unwrap_or(&none);
    let mut parts = thoughts(message);
    let text = text_of(message.get("content").unwrap_or(&none));
    if !text.is_empty() {
        parts.push(Kind::Text(text));
    }
    let mut stop = stop_of(choice.get("finish_reason").and_then(Value::as_str).unwrap_or("stop"));
    if let Some(refusal) = message.get("refusal").and_then(Value::as_str) {
        parts.push(Kind::Text(refusal.to_owned()));
        stop = Stop::Refused;
    }
    let before = parts.len();
    let calls = message.get("tool_calls").and_then(Value::as_array);
    for (at, call) in calls.into_iter().flatten().enumerate() {
        parts.push(Kind::Call(called(call, at)?));
    }
    // Some vendors say `stop` though there are calls.
    if parts.len() > before && stop == Stop::End {
        stop = Stop::Tools;
    }
    Ok(Answer {
        id: json.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        parts,
        stop,
        usage: json.get("usage").and_then(|usage| Usage::from_openai(usage.to_string().as_bytes())),
    })
}

fn thoughts(message: &Value) -> Vec<Kind> {
    let text = |block: &Value, name: &str| {
        block.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    if let Some(blocks) = message.get("thinking_blocks").and_then(Value::as_array) {
        return blocks
            .iter()
            .map(|block| match text(block, "type").as_str() {
                "redacted_thinking" => Kind::Redacted(text(block, "data")),
                _ => Kind::Thought {
                    text: text(block, "thinking"),
                    signature: Some(text(block, "signature")).filter(|seal| !seal.is_empty()),
                },
            })
            .collect();
    }
    let thought = thought_of(message).filter(|thought| !thought.is_empty());
    thought.into_iter().map(|text| Kind::Thought { text, signature: None }).collect()
}

/// The thinking of a message or a chunk, in the vendors' two spellings and in Mistral's list.
pub(super) fn thought_of(message: &Value) -> Option<String> {
    let field = message.get("reasoning_content").filter(|it| it.is_string());
    let field = field.or_else(|| message.get("reasoning"));
    if let Some(text) = field.and_then(Value::as_str) {
        return Some(text.to_owned());
    }
    let list = message.get("content").and_then(Value::as_array)?;
    let thinking = list.iter().filter_map(|part| part.get("thinking"));
    Some(thinking.map(text_of).collect())
}

/// The words of a content, be it a text or a list of parts.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            list.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        _ => String::new(),
    }
}

fn called(call: &Value, at: usize) -> Result<Call, Garbled> {
    let text = |pointer: &str| call.pointer(pointer).and_then(Value::as_str);
    let name = text("/function/name")
        .ok_or_else(|| Garbled(format!("tool call {at} names no function")))?
        .to_owned();
    let arguments = match call.pointer("/function/arguments") {
        // What the limit of tokens has cut off, or a small model has bungled, stays a text, so
        // that the client can see it.
        Some(Value::String(text)) if !text.trim().is_empty() => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
        }
        Some(object @ Value::Object(_)) => object.clone(),
        _ => Value::Object(Map::new()),
    };
    let id = text("/id").map_or_else(|| format!("call_{at}"), str::to_owned);
    Ok(Call { id, name, arguments })
}

/// A whole answer as the client sees it, with the model name it asked for.
pub fn write(answer: Answer, model: &str, created: u64) -> Value {
    let mut text = String::new();
    let mut calls = Vec::new();
    let mut thought = String::new();
    let mut blocks = Vec::new();
    for part in answer.parts {
        match part {
            Kind::Text(more) => text.push_str(&more),
            Kind::Thought { text: more, signature } => {
                thought.push_str(&more);
                blocks.push(json!({
                    "type": "thinking", "thinking": more, "signature": signature.unwrap_or_default(),
                }));
            }
            Kind::Redacted(data) => blocks.push(json!({"type": "redacted_thinking", "data": data})),
            Kind::Call(call) => calls.push(json!({
                "index": calls.len(),
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": arguments(&call.arguments)},
            })),
            Kind::Document { .. } | Kind::Image(_) | Kind::Native(_) | Kind::Outcome { .. } => {}
        }
    }
    let empty = text.is_empty() && !calls.is_empty();
    let mut message = json!({
        "role": "assistant",
        "content": if empty { Value::Null } else { Value::String(text) },
    });
    if !calls.is_empty() {
        put(&mut message, "tool_calls", Value::Array(calls));
    }
    if !thought.is_empty() {
        put(&mut message, "reasoning_content", Value::String(thought));
    }
    if !blocks.is_empty() {
        put(&mut message, "thinking_blocks", Value::Array(blocks));
    }
    json!({
        "id": id(&answer.id),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{
            "index": 0,
            "message": message,
            "finish_reason": finish_reason(&answer.stop),
            "logprobs": null,
        }],
        "usage": usage(&answer.usage.unwrap_or_default()),
    })
}

fn arguments(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Adds a field to an object.
pub(super) fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert(name.to_owned(), value);
    }
}

/// An id that looks like one of OpenAI's.
pub(super) fn id(theirs: &str) -> String {
    if theirs.starts_with("chatcmpl-") {
        return theirs.to_owned();
    }
    format!("chatcmpl-{}", theirs.strip_prefix("msg_").unwrap_or(theirs))
}

/// The `usage` object, with the cache fields of LiteLLM's clients.
pub(super) fn usage(usage: &Usage) -> Value {
    let written = usage.cache_write + usage.cache_write_1h;
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total(),
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_creation_tokens": written,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": written,
    })
}
