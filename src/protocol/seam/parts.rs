//! What one event of a stream holds of its answer, in the client's dialect.

use serde_json::{Map, Value, json};

use crate::protocol::assemble::says_something;
use crate::protocol::{Endpoint, Usage};

/// A part of an event that belongs to the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// The reason why the answer ends.
    End,
    /// A border, such as the beginning of a block.
    Mark(Box<str>),
    /// What is neither text nor thought: a call of a tool, a second choice, a signature.
    Other,
    /// Text of a kind.
    Text(Box<str>, &'a str),
}

/// The parts of an event, in their order.
pub(super) fn of(endpoint: Endpoint, event: &Map<String, Value>) -> Vec<Part<'_>> {
    match endpoint {
        Endpoint::Messages => of_message(event),
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::CountTokens
        | Endpoint::Embeddings
        | Endpoint::Responses => {
            let choices = event.get("choices").and_then(Value::as_array);
            choices.into_iter().flatten().flat_map(of_choice).collect()
        }
    }
}

/// Whether an event only opens the answer, which a client wants once.
pub(super) fn is_opening(endpoint: Endpoint, event: &Map<String, Value>) -> bool {
    endpoint == Endpoint::Messages && kind(event) == "message_start"
}

/// Whether an event holds nothing of the answer and shows that somebody is there.
pub(super) fn is_sign_of_life(endpoint: Endpoint, event: &Map<String, Value>) -> bool {
    endpoint == Endpoint::Messages && kind(event) == "ping"
}

/// The marks and the kind of the one text of a plain message.
pub(super) const FIRST_BLOCK: &str = "start 0 text";
pub(super) const FIRST_BLOCK_END: &str = "stop 0";
pub(super) const FIRST_TEXT: &str = "0 text";

/// Puts a text before the end that an event tells; returns the event that carries it, where that
/// is another one.
pub(super) fn add_text(
    endpoint: Endpoint,
    event: &mut Map<String, Value>,
    text: &str,
) -> Option<Map<String, Value>> {
    if endpoint == Endpoint::Messages {
        let delta = json!({ "type": "content_block_delta", "index": 0,
            "delta": { "type": "text_delta", "text": text } });
        return delta.as_object().cloned();
    }
    let choice = event.get_mut("choices")?.get_mut(0)?.as_object_mut()?;
    let delta = choice.entry("delta").or_insert_with(|| json!({})).as_object_mut()?;
    let own = delta.get("content").and_then(Value::as_str).unwrap_or_default();
    let whole = format!("{text}{own}");
    delta.insert("content".to_owned(), whole.into());
    None
}

/// Adds what the first stream used to what the second one tells: the prompt counts once.
pub(super) fn add_usage(endpoint: Endpoint, event: &mut Map<String, Value>, before: &Usage) {
    let Some(usage) = event.get_mut("usage").and_then(Value::as_object_mut) else { return };
    let told = |usage: &Map<String, Value>, name: &str| usage.get(name).and_then(Value::as_u64);
    let is_message = endpoint == Endpoint::Messages;
    let (input, output) = if is_message {
        ("input_tokens", "output_tokens")
    } else {
        ("prompt_tokens", "completion_tokens")
    };
    let completion = told(usage, output).map(|own| own.saturating_add(before.completion));
    let prompt = told(usage, input).map(|own| {
        // The second prompt is the first one and what was sent.
        let guess = own.saturating_sub(before.completion);
        if before.estimated { guess } else { before.prompt }
    });
    for (name, tokens) in [(input, prompt), (output, completion)] {
        if let Some(tokens) = tokens {
            usage.insert(name.to_owned(), tokens.into());
        }
    }
    if let (Some(prompt), Some(completion), true) =
        (prompt, completion, usage.contains_key("total_tokens"))
    {
        usage.insert("total_tokens".to_owned(), prompt.saturating_add(completion).into());
    }
}

/// Puts other texts in the place of those that [`of`] found, in the same order.
pub(super) fn put(endpoint: Endpoint, event: &mut Map<String, Value>, texts: Vec<String>) {
    let mut texts = texts.into_iter();
    let places = match endpoint {
        Endpoint::Messages => event.get_mut("delta").into_iter().collect(),
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::CountTokens
        | Endpoint::Embeddings
        | Endpoint::Responses => {
            let choices = event.get_mut("choices").and_then(Value::as_array_mut);
            let deltas = choices.into_iter().flatten().filter_map(|it| it.get_mut("delta"));
            deltas.collect::<Vec<_>>()
        }
    };
    for (name, value) in places.into_iter().filter_map(Value::as_object_mut).flatten() {
        if is_text(name)
            && value.as_str().is_some_and(|text| !text.is_empty())
            && let Some(text) = texts.next()
        {
            *value = text.into();
        }
    }
}

/// The fields of a delta that hold a piece of text or thought.
fn is_text(name: &str) -> bool {
    matches!(name, "content" | "reasoning" | "reasoning_content" | "text" | "thinking")
}

fn of_choice(choice: &Value) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    if choice.get("index").and_then(Value::as_u64).unwrap_or(0) != 0
        || choice.get("logprobs").is_some_and(says_something)
    {
        parts.push(Part::Other);
    }
    let delta = choice.get("delta").and_then(Value::as_object);
    for (name, value) in delta.into_iter().flatten().filter(|(_, value)| says_something(value)) {
        match (&**name, value) {
            ("role", _) => {}
            (name, Value::String(text)) if is_text(name) => {
                parts.push(Part::Text(name.into(), text));
            }
            _ => parts.push(Part::Other),
        }
    }
    if choice.get("finish_reason").is_some_and(says_something) {
        parts.push(Part::End);
    }
    parts
}

fn of_message(event: &Map<String, Value>) -> Vec<Part<'_>> {
    let index = event.get("index").and_then(Value::as_u64).unwrap_or(0);
    match kind(event) {
        "content_block_start" => match event.get("content_block").and_then(Value::as_object) {
            Some(block) if is_empty_text(block) => {
                vec![Part::Mark(format!("start {index} {}", kind(block)).into())]
            }
            Some(_) | None => vec![Part::Other],
        },
        "content_block_delta" => {
            let delta = event.get("delta").and_then(Value::as_object);
            let text = delta.and_then(|delta| {
                let name = match kind(delta) {
                    "text_delta" => "text",
                    "thinking_delta" => "thinking",
                    _ => return None,
                };
                Some(Part::Text(format!("{index} {name}").into(), delta.get(name)?.as_str()?))
            });
            match text {
                Some(Part::Text(_, "")) => Vec::new(),
                Some(part) => vec![part],
                None => vec![Part::Other],
            }
        }
        "content_block_stop" => vec![Part::Mark(format!("stop {index}").into())],
        "message_start" | "ping" => Vec::new(),
        "message_delta" | "message_stop" => vec![Part::End],
        _ => vec![Part::Other],
    }
}

/// Whether a block is text or thought, with all of it still to come.
fn is_empty_text(block: &Map<String, Value>) -> bool {
    let mut others = block.iter().filter(|(name, _)| **name != "type");
    matches!(kind(block), "text" | "thinking") && others.all(|(_, value)| !says_something(value))
}

fn kind(event: &Map<String, Value>) -> &str {
    event.get("type").and_then(Value::as_str).unwrap_or_default()
}
