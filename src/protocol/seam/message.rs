//! The events of Messages.

use serde_json::{Map, Value, json};

use super::parts::{Left, Mark, Part, kind};
use crate::protocol::assemble::says_something;

/// The marks and the kind of the one text of a plain message.
pub(super) const FIRST_BLOCK: &str = "start 0 text";
pub(super) const FIRST_BLOCK_END: &str = "stop 0";
pub(super) const FIRST_TEXT: &str = "0 text";

pub(super) fn of(event: &Map<String, Value>) -> Vec<Part<'_>> {
    let index = event.get("index").and_then(Value::as_u64).unwrap_or(0);
    match kind(event) {
        "content_block_start" => vec![start(index, event).unwrap_or(Part::Other)],
        "content_block_delta" => match delta(index, event) {
            Some(Part::Text(_, "")) => Vec::new(),
            Some(part) => vec![part],
            None => vec![Part::Other],
        },
        "content_block_stop" => vec![Part::Mark(Mark::new(format!("stop {index}")))],
        "message_start" | "ping" => Vec::new(),
        "message_delta" | "message_stop" => vec![Part::End],
        _ => vec![Part::Other],
    }
}

/// The beginning of a block that is text, thought or a call, with all of it still to come.
fn start(index: u64, event: &Map<String, Value>) -> Option<Part<'_>> {
    let block = event.get("content_block")?.as_object()?;
    let kind = kind(block);
    let said = |known: &[&str]| {
        block.iter().any(|(name, value)| !known.contains(&&**name) && says_something(value))
    };
    match kind {
        "text" | "thinking" if !said(&["type"]) => {
            Some(Part::Mark(Mark::new(format!("start {index} {kind}"))))
        }
        "tool_use" if !said(&["type", "id", "name"]) => {
            let name = block.get("name")?.as_str()?;
            let mark = Mark::new(format!("start {index} {kind} {name}"));
            Some(Part::Mark(mark.called(block, &["id"])))
        }
        _ => None,
    }
}

fn delta(index: u64, event: &Map<String, Value>) -> Option<Part<'_>> {
    let delta = event.get("delta")?.as_object()?;
    let name = text_of(kind(delta))?;
    Some(Part::Text(format!("{index} {name}").into(), delta.get(name)?.as_str()?))
}

/// The field in which a delta of a type has its text.
fn text_of(kind: &str) -> Option<&'static str> {
    match kind {
        "input_json_delta" => Some("partial_json"),
        "text_delta" => Some("text"),
        "thinking_delta" => Some("thinking"),
        _ => None,
    }
}

/// An event with some more of the one text.
pub(super) fn more(text: &str) -> Option<Map<String, Value>> {
    let delta = json!({ "type": "content_block_delta", "index": 0,
        "delta": { "type": "text_delta", "text": text } });
    delta.as_object().cloned()
}

pub(super) fn put(event: &mut Map<String, Value>, left: &mut Left) {
    let Some(delta) = event.get_mut("delta").and_then(Value::as_object_mut) else { return };
    if let (Some(name), Some(text)) = (text_of(kind(delta)), left.only()) {
        delta.insert(name.to_owned(), text.into());
    }
}
