//! The conversation of a Messages request, written from the hub's turns.
//!
//! Turns of one side merge, and what the API would refuse only for its form is mended: empty
//! texts, blank space at the end of a prefill, ids and names with characters it does not take.

use serde_json::{Map, Value, json};

use super::write::Names;
use crate::protocol::turn::{Ask, Kind, Part, Role, Source, Turn, Unsaid};

/// `system` and `messages`.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) system: Vec<Value>,
    pub(super) messages: Vec<(Role, Vec<Value>)>,
    /// Whether a file is named by its id, which is a beta feature.
    pub(super) files: bool,
    /// The tools that the conversation calls.
    pub(super) called: Vec<String>,
}

pub(super) fn conversation(ask: &Ask, names: &mut Names) -> Result<Written, Unsaid> {
    let mut out = Written::default();
    for turn in &ask.turns {
        match turn.role {
            Role::System if out.messages.is_empty() => out.lead(turn)?,
            Role::System => out.interject(turn)?,
            role @ (Role::Assistant | Role::User) => {
                let mut blocks = Vec::new();
                for part in &turn.parts {
                    blocks.extend(out.block(part, names)?);
                }
                out.add(role, blocks);
            }
        }
    }
    out.mend();
    Ok(out)
}

impl Written {
    fn lead(&mut self, turn: &Turn) -> Result<(), Unsaid> {
        for part in &turn.parts {
            let text = words(part)?;
            if !text.trim().is_empty() {
                self.system.push(text_block(text, part));
            }
        }
        Ok(())
    }

    /// The API has no system message behind the first turn, so the user says it.
    fn interject(&mut self, turn: &Turn) -> Result<(), Unsaid> {
        let mut blocks = vec![json!({"type": "text", "text": INTERJECTION})];
        for part in &turn.parts {
            let text = words(part)?;
            if !text.trim().is_empty() {
                blocks.push(text_block(text, part));
            }
        }
        if blocks.len() > 1 {
            self.add(Role::User, blocks);
        }
        Ok(())
    }

    fn add(&mut self, role: Role, blocks: Vec<Value>) {
        match self.messages.last_mut() {
            Some((last, before)) if *last == role => before.extend(blocks),
            _ => self.messages.push((role, blocks)),
        }
    }

    fn block(&mut self, part: &Part, names: &mut Names) -> Result<Option<Value>, Unsaid> {
        let mut block = match &part.kind {
            Kind::Text(text) if text.trim().is_empty() => return Ok(None),
            Kind::Text(text) => json!({"type": "text", "text": text}),
            Kind::Image(source) => {
                json!({"type": "image", "source": self.source(source)})
            }
            Kind::Document { source, title } => {
                let mut block = json!({"type": "document", "source": self.source(source)});
                if let Some(title) = title {
                    set(&mut block, "title", Value::String(title.clone()));
                }
                block
            }
            Kind::Native(block) => block.clone(),
            // Unsigned thinking comes from another vendor, and the API refuses it.
            Kind::Thought { signature: None, .. } => return Ok(None),
            Kind::Thought { text, signature: Some(seal) } => {
                json!({"type": "thinking", "thinking": text, "signature": seal})
            }
            Kind::Redacted(data) => json!({"type": "redacted_thinking", "data": data}),
            Kind::Call(call) => {
                let name = names.sendable(&call.name);
                if !self.called.contains(&name) {
                    self.called.push(name.clone());
                }
                json!({"type": "tool_use", "id": clean(&call.id), "name": name, "input": call.arguments})
            }
            Kind::Outcome { id, parts, failed } => {
                let mut content = Vec::new();
                for part in parts {
                    content.extend(self.block(part, names)?);
                }
                let mut block = json!({
                    "type": "tool_result", "tool_use_id": clean(id), "content": content,
                });
                if *failed {
                    set(&mut block, "is_error", Value::Bool(true));
                }
                block
            }
        };
        if let Some(mark) = &part.cache {
            set(&mut block, "cache_control", mark.clone());
        }
        Ok(Some(block))
    }

    fn source(&mut self, source: &Source) -> Value {
        match source {
            Source::Base64 { media, data } => {
                json!({"type": "base64", "media_type": media, "data": data})
            }
            Source::File(id) => {
                self.files = true;
                json!({"type": "file", "file_id": id})
            }
            Source::Text(text) => json!({"type": "text", "media_type": "text/plain", "data": text}),
            Source::Url(url) => json!({"type": "url", "url": url}),
        }
    }

    fn mend(&mut self) {
        let last = self.messages.len().saturating_sub(1);
        for (at, (role, blocks)) in self.messages.iter_mut().enumerate() {
            if *role == Role::User {
                // Results must come first in their turn.
                blocks.sort_by_key(|block| kind(block) != Some("tool_result"));
            }
            if at == last && *role == Role::Assistant {
                trim_prefill(blocks);
            }
            if blocks.is_empty() {
                blocks.push(json!({"type": "text", "text": EMPTY}));
            }
        }
    }
}

/// The API refuses a prefill that ends with blank space.
fn trim_prefill(blocks: &mut [Value]) {
    if let Some(Value::String(text)) = blocks.last_mut().and_then(|block| block.get_mut("text")) {
        text.truncate(text.trim_end().len());
    }
}

fn words(part: &Part) -> Result<&str, Unsaid> {
    match &part.kind {
        Kind::Text(text) => Ok(text),
        _ => Err(part.unsaid("a system message holds only text")),
    }
}

fn text_block(text: &str, part: &Part) -> Value {
    let mut block = json!({"type": "text", "text": text});
    if let Some(mark) = &part.cache {
        set(&mut block, "cache_control", mark.clone());
    }
    block
}

fn kind(block: &Value) -> Option<&str> {
    block.get("type").and_then(Value::as_str)
}

/// Adds a field to an object.
pub(super) fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert(name.to_owned(), value);
    }
}

/// An id in the characters that the API takes.
pub(super) fn clean(id: &str) -> String {
    let ok = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    if id.is_empty() { "_".to_owned() } else { id.chars().map(ok).collect() }
}

/// A schema that takes any arguments.
pub(super) fn anything() -> Value {
    Value::Object(Map::from_iter([("type".to_owned(), Value::from("object"))]))
}

const INTERJECTION: &str = "The next text is an instruction of the operator, not of the user:";

/// A turn must not be empty; this says the least.
const EMPTY: &str = ".";
