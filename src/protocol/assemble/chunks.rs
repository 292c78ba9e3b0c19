//! Chunks of chat and text completions.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Garbled, add, says_something, set};

/// What has come so far.
#[derive(Debug)]
pub(super) struct Chunks {
    /// What a whole answer calls itself.
    object: &'static str,
    fields: Map<String, Value>,
    choices: BTreeMap<u64, Choice>,
}

/// One choice; its message is empty where its answer is a text.
#[derive(Debug, Default)]
struct Choice {
    message: Map<String, Value>,
    fields: Map<String, Value>,
}

impl Chunks {
    pub(super) fn new(object: &'static str) -> Self {
        Self { object, fields: Map::new(), choices: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, chunk: Map<String, Value>) {
        for (name, value) in chunk {
            match (&*name, value) {
                ("choices", Value::Array(choices)) => {
                    for choice in choices {
                        self.add_choice(choice);
                    }
                }
                ("choices", _) => {}
                ("object", _) => set(&mut self.fields, name, self.object.into()),
                ("x_groq", Value::Object(mut own)) => {
                    self.add_usage(own.remove("usage"));
                    set(&mut self.fields, name, own.into());
                }
                (_, value) => set(&mut self.fields, name, value),
            }
        }
    }

    fn add_choice(&mut self, choice: Value) {
        let Value::Object(mut pieces) = choice else { return };
        let index = pieces.get("index").and_then(Value::as_u64).unwrap_or(0);
        self.add_usage(pieces.remove("usage"));
        let choice = self.choices.entry(index).or_default();
        // Writer sends each delta twice, once as a message.
        let message = pieces.remove("message");
        if let Some(Value::Object(delta)) = pieces.remove("delta").or(message) {
            for (name, piece) in delta {
                add(&mut choice.message, name, piece);
            }
        }
        for (name, piece) in pieces {
            match (&*name, piece) {
                ("index", _) => {}
                ("logprobs" | "text", piece) => add(&mut choice.fields, name, piece),
                (_, piece) => set(&mut choice.fields, name, piece),
            }
        }
    }

    /// The usage that some providers do not put at the top of a chunk.
    fn add_usage(&mut self, usage: Option<Value>) {
        if let Some(usage) = usage.filter(says_something) {
            set(&mut self.fields, "usage".to_owned(), usage);
        }
    }

    pub(super) fn whole(mut self) -> Result<Option<Value>, Garbled> {
        let is_chat = self.object == "chat.completion";
        let choices = std::mem::take(&mut self.choices);
        let whole = |(index, choice): (u64, Choice)| choice.whole(index, is_chat);
        let choices: Vec<Value> = choices.into_iter().map(whole).collect::<Result<_, _>>()?;
        if choices.is_empty() {
            return Ok(None);
        }
        let usage = self.fields.remove("usage");
        self.fields.insert("choices".to_owned(), choices.into());
        if let Some(usage) = usage {
            self.fields.insert("usage".to_owned(), usage);
        }
        Ok(Some(self.fields.into()))
    }
}

impl Choice {
    fn whole(mut self, index: u64, is_chat: bool) -> Result<Value, Garbled> {
        let mut whole = Map::new();
        whole.insert("index".to_owned(), index.into());
        if is_chat {
            whole.insert("message".to_owned(), message(self.message)?);
        }
        whole.append(&mut self.fields);
        Ok(whole.into())
    }
}

/// A message has a role and a content, and its tool calls have no index.
fn message(mut pieces: Map<String, Value>) -> Result<Value, Garbled> {
    let mut message = Map::new();
    let role = pieces.remove("role").filter(says_something);
    message.insert("role".to_owned(), role.unwrap_or_else(|| "assistant".into()));
    message.insert("content".to_owned(), pieces.remove("content").unwrap_or_default());
    message.append(&mut pieces);
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
        call.shift_remove("index");
        // Its beginning is lost: nobody could tell what is called.
        if call.get("function").is_some_and(|it| it.get("name").is_none_or(Value::is_null)) {
            return Err(Garbled("a tool call names no function".to_owned()));
        }
    }
    Ok(message.into())
}
