//! What one event of a stream holds of its answer, in the client's dialect.

use serde_json::{Map, Value};

use super::{chunk, message, response};
use crate::protocol::{Endpoint, Usage};

/// A part of an event that belongs to the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// The reason why the answer ends.
    End,
    /// A border, such as the beginning of a block.
    Mark(Mark),
    /// What cannot be told to be the same: a second choice, a signature, what nobody knows.
    Other,
    /// Text of a kind, such as the arguments of a call.
    Text(Box<str>, &'a str),
}

/// A border between two parts of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which, and all that it says but for names.
    pub(super) what: Box<str>,
    /// The names by which what begins here is called later; each answer has its own.
    pub(super) ids: Vec<Box<str>>,
}

impl Mark {
    pub(super) fn new(what: String) -> Self {
        Self { what: what.into(), ids: Vec::new() }
    }

    /// The same with the names that stand in these fields of an object.
    pub(super) fn called(mut self, object: &Map<String, Value>, fields: &[&str]) -> Self {
        let names = fields.iter().filter_map(|field| object.get(*field)?.as_str());
        self.ids = names.filter(|name| !name.is_empty()).map(Into::into).collect();
        self
    }
}

/// What is left of an event when all is taken out that the client has.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Of each text, by its kind, in the order of the event.
    texts: Vec<(Box<str>, String)>,
    /// The borders that it has.
    gone: Vec<Box<str>>,
}

impl Left {
    pub(super) fn keep(&mut self, kind: Box<str>, text: String) {
        self.texts.push((kind, text));
    }

    pub(super) fn drop_mark(&mut self, what: Box<str>) {
        self.gone.push(what);
    }

    /// What is left of the next text of this kind.
    pub(super) fn text(&mut self, kind: &str) -> Option<String> {
        let at = self.texts.iter().position(|(of, _)| **of == *kind)?;
        Some(self.texts.remove(at).1)
    }

    /// What is left of the only text of an event.
    pub(super) fn only(&mut self) -> Option<String> {
        self.texts.pop().map(|(_, text)| text)
    }

    pub(super) fn has_dropped(&self, what: &str) -> bool {
        self.gone.iter().any(|gone| **gone == *what)
    }

    pub(super) fn has_text(&self) -> bool {
        self.texts.iter().any(|(_, text)| !text.is_empty())
    }
}

/// The parts of an event, in their order.
pub(super) fn of(endpoint: Endpoint, event: &Map<String, Value>) -> Vec<Part<'_>> {
    match endpoint {
        Endpoint::ChatCompletions => chunk::of_chat(event),
        Endpoint::Messages => message::of(event),
        Endpoint::Responses => response::of(event),
        Endpoint::Completions | Endpoint::CountTokens | Endpoint::Embeddings => {
            chunk::of_text(event)
        }
    }
}

/// Whether an event only opens the answer, which a client wants once.
pub(super) fn is_opening(endpoint: Endpoint, event: &Map<String, Value>) -> bool {
    match endpoint {
        Endpoint::Messages => kind(event) == "message_start",
        Endpoint::Responses => response::is_opening(kind(event)),
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::CountTokens
        | Endpoint::Embeddings => false,
    }
}

/// Whether an event holds nothing of the answer and shows that somebody is there.
pub(super) fn is_sign_of_life(endpoint: Endpoint, event: &Map<String, Value>) -> bool {
    endpoint == Endpoint::Messages && kind(event) == "ping"
}

/// The kind of the one text of a plain answer.
pub(super) const fn plain_text(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Messages => message::FIRST_TEXT,
        Endpoint::Completions => chunk::TEXT,
        Endpoint::ChatCompletions
        | Endpoint::CountTokens
        | Endpoint::Embeddings
        | Endpoint::Responses => "content",
    }
}

/// Puts a text before the end that an event tells; returns the event that carries it, where that
/// is another one.
pub(super) fn add_text(
    endpoint: Endpoint,
    event: &mut Map<String, Value>,
    text: &str,
) -> Option<Map<String, Value>> {
    match endpoint {
        Endpoint::Messages => message::more(text),
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::CountTokens
        | Endpoint::Embeddings
        | Endpoint::Responses => {
            chunk::add_text(endpoint, event, text);
            None
        }
    }
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

/// Leaves in an event what of it is new to the client.
pub(super) fn put(endpoint: Endpoint, event: &mut Map<String, Value>, mut left: Left) {
    match endpoint {
        Endpoint::Messages => message::put(event, &mut left),
        Endpoint::Responses => response::put(event, &mut left),
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::CountTokens
        | Endpoint::Embeddings => chunk::put(event, &mut left),
    }
}

pub(super) fn kind(event: &Map<String, Value>) -> &str {
    event.get("type").and_then(Value::as_str).unwrap_or_default()
}
