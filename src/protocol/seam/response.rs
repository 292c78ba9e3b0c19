//! The events of Responses. Each is about one place of the answer, and when a part of it is over
//! it is said again as a whole.

use serde_json::{Map, Value};

use super::parts::{Left, Mark, Part, kind};
use crate::protocol::assemble::says_something;

/// The texts that come in pieces, and the field in which each is said again as a whole.
const TEXTS: [(&str, &str); 6] = [
    ("response.custom_tool_call_input", "input"),
    ("response.function_call_arguments", "arguments"),
    ("response.output_text", "text"),
    ("response.reasoning_summary_text", "text"),
    ("response.reasoning_text", "text"),
    ("response.refusal", "refusal"),
];

pub(super) fn is_opening(kind: &str) -> bool {
    matches!(kind, "response.created" | "response.in_progress" | "response.queued")
}

pub(super) fn of(event: &Map<String, Value>) -> Vec<Part<'_>> {
    let kind = kind(event);
    let part = match kind {
        _ if is_opening(kind) => return Vec::new(),
        "response.completed" | "response.incomplete" => Some(Part::End),
        "response.output_item.added" => item_begun(event),
        "response.output_item.done" => whole(event, "item"),
        "response.content_part.added" | "response.reasoning_summary_part.added" => {
            part_begun(event)
        }
        "response.content_part.done" | "response.reasoning_summary_part.done" => {
            whole(event, "part")
        }
        _ => piece(event),
    };
    match part {
        Some(Part::Text(_, "")) => Vec::new(),
        Some(part) => vec![part],
        None => vec![Part::Other],
    }
}

/// Which place of the answer an event is about.
fn place(event: &Map<String, Value>) -> String {
    let number = |name| event.get(name).and_then(Value::as_u64);
    let inner = number("content_index").or_else(|| number("summary_index")).unwrap_or(0);
    format!("{} {inner}", number("output_index").unwrap_or(0))
}

/// The beginning of a message, a call of the client's own tool, or thoughts, with all of it still to
/// come.
fn item_begun(event: &Map<String, Value>) -> Option<Part<'_>> {
    let item = event.get("item")?.as_object()?;
    let kind = kind(item);
    let own = match kind {
        "message" => "role",
        "custom_tool_call" | "function_call" => "name",
        "reasoning" => "type",
        _ => return None,
    };
    let known = ["type", "id", "call_id", "status", own];
    let is_empty =
        |(name, value): (&String, &Value)| known.contains(&&**name) || !says_something(value);
    let what = format!("item {} {kind} {}", place(event), item.get(own)?.as_str()?);
    let mark = Mark::new(what).called(item, &["id", "call_id"]);
    item.iter().all(is_empty).then_some(Part::Mark(mark))
}

fn part_begun(event: &Map<String, Value>) -> Option<Part<'_>> {
    let part = event.get("part")?.as_object()?;
    let is_empty = |(name, value): (&String, &Value)| name == "type" || !says_something(value);
    let what = format!("part {} {}", place(event), kind(part));
    part.iter().all(is_empty).then(|| Part::Mark(Mark::new(what)))
}

/// A part that is over: what it says must be the same, but for its names.
fn whole<'a>(event: &'a Map<String, Value>, name: &str) -> Option<Part<'a>> {
    let mut own = event.get(name)?.as_object()?.clone();
    if own.get("encrypted_content").is_some_and(says_something) {
        return None;
    }
    for name in ["id", "call_id"] {
        own.shift_remove(name);
    }
    let mut own = Value::Object(own);
    own.sort_all_objects();
    Some(Part::Mark(Mark::new(format!("{name} over {} {own}", place(event)))))
}

fn piece(event: &Map<String, Value>) -> Option<Part<'_>> {
    if event.get("logprobs").is_some_and(says_something) {
        return None;
    }
    let (text, end) = kind(event).rsplit_once('.')?;
    let (_, field) = TEXTS.iter().find(|(name, _)| *name == text)?;
    let place = place(event);
    match end {
        "delta" => {
            Some(Part::Text(format!("{text} {place}").into(), event.get("delta")?.as_str()?))
        }
        "done" => {
            let whole = event.get(*field)?.as_str()?;
            Some(Part::Mark(Mark::new(format!("{text} over {place} {whole}"))))
        }
        _ => None,
    }
}

pub(super) fn put(event: &mut Map<String, Value>, left: &mut Left) {
    if let (true, Some(text)) = (event.contains_key("delta"), left.only()) {
        event.insert("delta".to_owned(), text.into());
    }
}

/// Puts an event under the names of the first stream: those of the whole answer, and of its items.
pub(super) fn rename<'n>(
    event: &mut Map<String, Value>,
    labels: &Map<String, Value>,
    name: impl Fn(&str) -> Option<&'n str>,
) {
    let set = |object: &mut Map<String, Value>| {
        for field in ["id", "item_id", "call_id"] {
            let first = object.get(field).and_then(Value::as_str).and_then(&name);
            if let Some(first) = first {
                object.insert(field.to_owned(), first.into());
            }
        }
    };
    set(event);
    if let Some(item) = event.get_mut("item").and_then(Value::as_object_mut) {
        set(item);
    }
    let Some(response) = event.get_mut("response").and_then(Value::as_object_mut) else { return };
    for (label, value) in labels {
        if let Some(own) = response.get_mut(label) {
            own.clone_from(value);
        }
    }
    let items = response.get_mut("output").and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut).for_each(set);
}
