//! The chunks of chats and of text completions.

use serde_json::{Map, Value, json};

use super::parts::{Left, Mark, Part};
use crate::protocol::Endpoint;
use crate::protocol::assemble::says_something;

/// The field in which a text completion has its text.
pub(super) const TEXT: &str = "text";

pub(super) fn of_chat(event: &Map<String, Value>) -> Vec<Part<'_>> {
    parts(event, |choice, parts| {
        let delta = choice.get("delta").and_then(Value::as_object);
        for (name, value) in delta.into_iter().flatten().filter(|(_, value)| says_something(value))
        {
            match (&**name, value) {
                ("role", _) => {}
                ("tool_calls", Value::Array(calls)) => parts.extend(calls.iter().flat_map(of_call)),
                (name, Value::String(text)) if is_text(name) => {
                    parts.push(Part::Text(name.into(), text));
                }
                _ => parts.push(Part::Other),
            }
        }
    })
}

pub(super) fn of_text(event: &Map<String, Value>) -> Vec<Part<'_>> {
    parts(event, |choice, parts| {
        match choice.get(TEXT) {
            Some(Value::String(text)) if !text.is_empty() => {
                parts.push(Part::Text(TEXT.into(), text));
            }
            Some(value) if says_something(value) => parts.push(Part::Other),
            Some(_) | None => {}
        }
        // Some fill in the middle in the words of a chat.
        if choice.get("delta").is_some_and(says_something) {
            parts.push(Part::Other);
        }
    })
}

/// The parts of the one choice that there may be; `add` knows where its words are.
fn parts<'a>(
    event: &'a Map<String, Value>,
    add: impl Fn(&'a Map<String, Value>, &mut Vec<Part<'a>>),
) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let choices = event.get("choices").and_then(Value::as_array);
    for choice in choices.into_iter().flatten().filter_map(Value::as_object) {
        if choice.get("index").and_then(Value::as_u64).unwrap_or(0) != 0
            || choice.get("logprobs").is_some_and(says_something)
        {
            parts.push(Part::Other);
        }
        add(choice, &mut parts);
        if choice.get("finish_reason").is_some_and(says_something) {
            parts.push(Part::End);
        }
    }
    parts
}

/// The fields of a delta that hold a piece of text or thought.
fn is_text(name: &str) -> bool {
    matches!(name, "content" | "reasoning" | "reasoning_content" | "text" | "thinking")
}

/// A piece of a call: its beginning has a name, and the rest has more of the arguments.
fn of_call(call: &Value) -> Vec<Part<'_>> {
    read_call(call).unwrap_or_else(|| vec![Part::Other])
}

fn read_call(call: &Value) -> Option<Vec<Part<'_>>> {
    let call = call.as_object()?;
    let index = call.get("index")?.as_u64()?;
    let is_known = |(name, value): (&String, &Value)| match &**name {
        "type" => matches!(value, Value::Null) || value == "" || value == "function",
        "function" | "id" | "index" => true,
        _ => !says_something(value),
    };
    let function = call.get("function").and_then(Value::as_object);
    let has_more = |(name, value): (&String, &Value)| {
        !matches!(&**name, "arguments" | "name") && says_something(value)
    };
    if !call.iter().all(is_known) || function.into_iter().flatten().any(has_more) {
        return None;
    }
    let text = |name: &str| match function.and_then(|function| function.get(name)) {
        None | Some(Value::Null) => Some(""),
        Some(value) => value.as_str(),
    };
    let (name, arguments) = (text("name")?, text("arguments")?);
    let mut parts = Vec::new();
    if !name.is_empty() {
        parts.push(Part::Mark(Mark::new(begun(index, name)).called(call, &["id"])));
    }
    if !arguments.is_empty() {
        parts.push(Part::Text(of_arguments(index), arguments));
    }
    // A name of its own without a call's: what it begins is not known yet.
    let is_blank = parts.is_empty() && call.get("id").is_some_and(says_something);
    (!is_blank).then_some(parts)
}

fn begun(index: u64, name: &str) -> String {
    format!("call {index} {name}")
}

fn of_arguments(index: u64) -> Box<str> {
    format!("call {index}").into()
}

pub(super) fn add_text(endpoint: Endpoint, event: &mut Map<String, Value>, text: &str) {
    let choice = event.get_mut("choices").and_then(|list| list.get_mut(0));
    let Some(choice) = choice.and_then(Value::as_object_mut) else { return };
    let (place, name) = if endpoint == Endpoint::Completions {
        (Some(choice), TEXT)
    } else {
        let delta = choice.entry("delta").or_insert_with(|| json!({}));
        (delta.as_object_mut(), "content")
    };
    if let Some(place) = place {
        let own = place.get(name).and_then(Value::as_str).unwrap_or_default();
        let whole = format!("{text}{own}");
        place.insert(name.to_owned(), whole.into());
    }
}

pub(super) fn put(event: &mut Map<String, Value>, left: &mut Left) {
    let choices = event.get_mut("choices").and_then(Value::as_array_mut);
    for choice in choices.into_iter().flatten().filter_map(Value::as_object_mut) {
        put_texts(choice, left, |name| name == TEXT);
        let Some(delta) = choice.get_mut("delta").and_then(Value::as_object_mut) else { continue };
        put_texts(delta, left, is_text);
        let calls = delta.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
            put_call(call, left);
        }
    }
}

fn put_texts(place: &mut Map<String, Value>, left: &mut Left, is_text: impl Fn(&str) -> bool) {
    for (name, value) in place {
        if is_text(name)
            && value.as_str().is_some_and(|text| !text.is_empty())
            && let Some(text) = left.text(name)
        {
            *value = text.into();
        }
    }
}

/// Clients put the pieces of a call together: what they have must not come again.
fn put_call(call: &mut Map<String, Value>, left: &mut Left) {
    let Some(index) = call.get("index").and_then(Value::as_u64) else { return };
    let Some(function) = call.get_mut("function").and_then(Value::as_object_mut) else { return };
    let has = |function: &Map<String, Value>, name: &str| {
        function.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty())
    };
    if has(function, "arguments")
        && let Some(text) = left.text(&of_arguments(index))
    {
        function.insert("arguments".to_owned(), text.into());
    }
    let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
    if left.has_dropped(&begun(index, name)) {
        function.shift_remove("name");
        call.shift_remove("id");
        call.shift_remove("type");
    }
}

/// Puts an event under the names of the first stream: those of the whole answer, and of calls.
pub(super) fn rename<'n>(
    event: &mut Map<String, Value>,
    labels: &Map<String, Value>,
    name: impl Fn(&str) -> Option<&'n str>,
) {
    for (label, value) in labels {
        if let Some(own) = event.get_mut(label) {
            own.clone_from(value);
        }
    }
    let choices = event.get_mut("choices").and_then(Value::as_array_mut);
    for delta in choices.into_iter().flatten().filter_map(|it| it.get_mut("delta")) {
        let Some(delta) = delta.as_object_mut() else { continue };
        // Said before; clients would put it together with that.
        delta.shift_remove("role");
        let calls = delta.get_mut("tool_calls").and_then(Value::as_array_mut);
        for id in calls.into_iter().flatten().filter_map(|call| call.get_mut("id")) {
            if let Some(first) = id.as_str().and_then(&name) {
                *id = first.into();
            }
        }
    }
}
