//! Events of Anthropic's Messages.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Garbled, add};

/// What has come so far.
#[derive(Debug, Default)]
pub(super) struct Message {
    fields: Map<String, Value>,
    blocks: BTreeMap<u64, Block>,
}

/// One content block, and its input as far as it has come as text.
#[derive(Debug, Default)]
struct Block {
    fields: Map<String, Value>,
    input: String,
}

impl Message {
    pub(super) fn add(&mut self, mut event: Map<String, Value>) -> Result<(), Garbled> {
        let at = event.remove("index").and_then(|index| index.as_u64()).unwrap_or(0);
        let kind = event.remove("type");
        match kind.as_ref().and_then(Value::as_str).unwrap_or_default() {
            "message_start" => {
                // The pieces of two answers do not make one.
                let before = std::mem::replace(&mut self.fields, part(&mut event, "message"));
                if !before.is_empty() {
                    return Err(Garbled("the message began twice".to_owned()));
                }
            }
            "content_block_start" => {
                let fields = part(&mut event, "content_block");
                let block = Block { fields, input: String::new() };
                if self.blocks.insert(at, block).is_some() {
                    return Err(garbled(at, "began twice"));
                }
            }
            "content_block_delta" => {
                let delta = part(&mut event, "delta");
                self.blocks.get_mut(&at).ok_or_else(|| garbled(at, "never began"))?.add(delta);
            }
            // Before the message begins, nothing of it can end.
            "content_block_stop" if self.fields.is_empty() => {}
            "content_block_stop" => {
                self.blocks.get_mut(&at).ok_or_else(|| garbled(at, "never began"))?.end(at)?;
            }
            "message_delta" => {
                let mut delta = part(&mut event, "delta");
                self.fields.append(&mut delta);
                for (name, value) in event {
                    add(&mut self.fields, name, value);
                }
            }
            // The end mark, pings, and what is yet to be invented.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn whole(mut self) -> Result<Option<Value>, Garbled> {
        if self.fields.is_empty() {
            return Ok(None);
        }
        // Some servers leave the end of a block unsaid.
        for (at, block) in &mut self.blocks {
            block.end(*at)?;
        }
        let blocks: Vec<Value> = self.blocks.into_values().map(|it| it.fields.into()).collect();
        self.fields.insert("content".to_owned(), blocks.into());
        Ok(Some(self.fields.into()))
    }
}

impl Block {
    /// A delta carries a piece of the field of its name, but for these two.
    fn add(&mut self, delta: Map<String, Value>) {
        for (name, piece) in delta {
            match (&*name, piece) {
                ("type", _) => {}
                ("partial_json", Value::String(piece)) => self.input.push_str(&piece),
                ("citation", piece) => {
                    add(&mut self.fields, "citations".to_owned(), Value::Array(vec![piece]));
                }
                (_, piece) => add(&mut self.fields, name, piece),
            }
        }
    }

    fn end(&mut self, at: u64) -> Result<(), Garbled> {
        if !self.input.is_empty() {
            let input = serde_json::from_str(&std::mem::take(&mut self.input))
                .map_err(|why| garbled(at, &format!("has no whole input: {why}")))?;
            self.fields.insert("input".to_owned(), input);
        }
        Ok(())
    }
}

fn part(event: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match event.remove(name) {
        Some(Value::Object(part)) => part,
        Some(_) | None => Map::new(),
    }
}

fn garbled(at: u64, why: &str) -> Garbled {
    Garbled(format!("content block {at} {why}"))
}
