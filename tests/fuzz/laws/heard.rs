//! What a stream says, read a second time in the plainest way, to compare with.
//!
//! `None` stands for streams whose meaning is a matter of taste: lists where one reads texts, calls
//! without their numbers, blocks that begin twice, words for a block that is no text.

use std::borrow::Cow;

use serde_json::Value;

use super::events;

/// The words of an answer, and the number and the arguments of each of its calls in their order.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) text: String,
    pub(super) calls: Vec<(u64, String)>,
}

impl Heard {
    fn call(&mut self, number: u64) -> Option<&mut String> {
        self.calls.iter_mut().find(|(known, _)| *known == number).map(|(_, text)| text)
    }
}

/// The data of an event, `None` where it has none to speak of.
pub(super) fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    pillion::protocol::sse::data(event).filter(|data| !data.trim_ascii().is_empty())
}

fn json(bytes: &[u8]) -> Option<Vec<Value>> {
    let events = events(&[bytes]);
    let data = events.iter().filter_map(|event| data(event));
    data.filter(|data| data.trim_ascii() != b"[DONE]")
        .map(|data| serde_json::from_slice(&data).ok())
        .collect()
}

/// The text of a field that may be absent or null.
fn text<'v>(object: &'v Value, name: &str) -> Option<&'v str> {
    match &object[name] {
        Value::Null => Some(""),
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// The first choice of a chat completion.
pub(super) fn chat(bytes: &[u8]) -> Option<Heard> {
    let mut heard = Heard::default();
    for chunk in json(bytes)? {
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            if choice["index"].as_u64().is_some_and(|index| index != 0) {
                continue;
            }
            let delta = &choice["delta"];
            heard.text += text(delta, "content")?;
            heard.text += text(delta, "refusal")?;
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let index = call["index"].as_u64()?;
                if heard.call(index).is_none() {
                    heard.calls.push((index, String::new()));
                }
                *heard.call(index)? += text(&call["function"], "arguments")?;
            }
        }
    }
    Some(heard)
}

/// The blocks of a message.
pub(super) fn messages(bytes: &[u8]) -> Option<Heard> {
    let mut heard = Heard::default();
    let mut begun: Vec<(u64, String)> = Vec::new();
    for event in json(bytes)? {
        match event["type"].as_str()? {
            "message_start" if event["message"]["content"] != Value::Array(Vec::new()) => {
                return None;
            }
            "content_block_start" => {
                let (index, block) = (event["index"].as_u64()?, &event["content_block"]);
                if begun.iter().any(|(known, _)| *known == index) {
                    return None;
                }
                let kind = block["type"].as_str()?;
                begun.push((index, kind.to_owned()));
                match kind {
                    "text" => heard.text += text(block, "text")?,
                    "tool_use" if block["input"].as_object().is_some_and(|it| !it.is_empty()) => {
                        return None;
                    }
                    "tool_use" => heard.calls.push((index, String::new())),
                    _ => {}
                }
            }
            "content_block_delta" => {
                let (index, delta) = (event["index"].as_u64()?, &event["delta"]);
                let (_, kind) = begun.iter().find(|(known, _)| *known == index)?;
                match (kind.as_str(), delta["type"].as_str()?) {
                    ("text", "text_delta") => heard.text += text(delta, "text")?,
                    ("tool_use", "input_json_delta") => {
                        *heard.call(index)? += text(delta, "partial_json")?;
                    }
                    (_, other) if WORDLESS.contains(&other) => {}
                    _ => return None,
                }
            }
            _ => {}
        }
    }
    Some(heard)
}

/// Deltas that add nothing to the words of a text or to a call.
const WORDLESS: [&str; 4] =
    ["citations_delta", "input_json_delta", "signature_delta", "thinking_delta"];
