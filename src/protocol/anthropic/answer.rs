//! Whole Messages answers, to and from the hub, and the words that streams share with them.

use serde_json::{Value, json};

use super::write::Key;
use super::{JSON_TOOL, stop_of, stop_reason};
use crate::protocol::turn::{Answer, Call, Kind, Stop};
use crate::protocol::{Fault, Garbled, Usage};

/// Reads a whole answer.
pub fn read(body: &[u8], key: &Key) -> Result<Answer, Garbled> {
    let json: Value = serde_json::from_slice(body).map_err(|error| Garbled(error.to_string()))?;
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let Some(content) = json.get("content").and_then(Value::as_array) else {
        return Err(Garbled(match json.get("error") {
            Some(_) => Fault::read(body).message,
            None => "there is no content".to_owned(),
        }));
    };
    let stop = text("stop_reason").map_or(Stop::End, |why| stop_of(why, text("stop_sequence")));
    let parts: Vec<Kind> = content.iter().filter_map(|block| part(block, key)).collect();
    let calls = parts.iter().any(|part| matches!(part, Kind::Call(_)));
    let mut usage = Usage::default();
    let counted =
        json.get("usage").is_some_and(|it| usage.merge_anthropic(it.to_string().as_bytes()));
    Ok(Answer {
        id: text("id").unwrap_or_default().to_owned(),
        parts,
        stop: settled(stop, key, calls),
        usage: counted.then_some(usage),
    })
}

/// A call of the JSON tool alone is a plain end.
pub(super) fn settled(stop: Stop, key: &Key, calls: bool) -> Stop {
    if stop == Stop::Tools && key.json_tool && !calls { Stop::End } else { stop }
}

fn part(block: &Value, key: &Key) -> Option<Kind> {
    let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match block.get("type").and_then(Value::as_str)? {
        "text" => Some(Kind::Text(text("text"))),
        "thinking" => Some(Kind::Thought {
            text: text("thinking"),
            signature: Some(text("signature")).filter(|seal| !seal.is_empty()),
        }),
        "redacted_thinking" => Some(Kind::Redacted(text("data"))),
        "tool_use" => {
            let name = text("name");
            let arguments = block.get("input").cloned().unwrap_or_default();
            if key.json_tool && name == JSON_TOOL {
                return Some(Kind::Text(arguments.to_string()));
            }
            let name = key.names.known(&name).to_owned();
            Some(Kind::Call(Call { id: text("id"), name, arguments }))
        }
        // The provider's own tools: their results are in the words that follow.
        _ => Some(Kind::Native(block.clone())),
    }
}

/// A whole answer as the client sees it, with the model name it asked for.
pub fn write(answer: &Answer, model: &str) -> Value {
    let content: Vec<Value> = answer.parts.iter().filter_map(block).collect();
    let (reason, sequence) = stop_reason(&answer.stop);
    json!({
        "id": id(&answer.id),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage(&answer.usage.unwrap_or_default()),
    })
}

fn block(part: &Kind) -> Option<Value> {
    match part {
        Kind::Text(text) => Some(json!({"type": "text", "text": text})),
        Kind::Thought { text, signature } => Some(json!({
            "type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or(""),
        })),
        Kind::Redacted(data) => Some(json!({"type": "redacted_thinking", "data": data})),
        Kind::Call(call) => Some(json!({
            "type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments,
        })),
        Kind::Native(block) => Some(block.clone()),
        Kind::Document { .. } | Kind::Image(_) | Kind::Outcome { .. } => None,
    }
}

/// An id that looks like one of Anthropic's.
pub(super) fn id(theirs: &str) -> String {
    if theirs.starts_with("msg_") {
        return theirs.to_owned();
    }
    format!("msg_{}", theirs.strip_prefix("chatcmpl-").unwrap_or(theirs))
}

/// The `usage` object: here the parts of the prompt are counted apart.
pub(super) fn usage(usage: &Usage) -> Value {
    let written = usage.cache_write + usage.cache_write_1h;
    json!({
        "input_tokens": usage.prompt.saturating_sub(usage.cache_read + written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.completion,
    })
}
