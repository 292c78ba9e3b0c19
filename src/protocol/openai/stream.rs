//! Chat completion chunks, to and from the steps of the hub.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::answer::{self, put, text_of, thought_of};
use super::{finish_reason, stop_of};
use crate::protocol::turn::{Answer, Delta, Listener, Speaker, Stop};
use crate::protocol::{Fault, Garbled, Usage, sse};

/// Understands chat completions.
#[derive(Debug, Default)]
pub struct Heard {
    started: bool,
    /// The vendor's index of each call so far; its place here is the call's number.
    calls: Vec<u64>,
    refused: bool,
    stopped: bool,
}

impl Listener for Heard {
    fn answer(&mut self, body: &[u8]) -> Result<Answer, Garbled> {
        answer::read(body)
    }

    fn event(&mut self, event: &[u8]) -> Result<Vec<Delta>, Garbled> {
        let Some(data) = sse::data(event) else { return Ok(Vec::new()) };
        if data.trim_ascii() == b"[DONE]" || data.trim_ascii().is_empty() {
            return Ok(Vec::new());
        }
        let chunk: Value =
            serde_json::from_slice(&data).map_err(|error| Garbled(error.to_string()))?;
        let mut deltas = Vec::new();
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            deltas.push(Delta::Fault(Fault::read(&data)));
            return Ok(deltas);
        }
        if !self.started {
            self.started = true;
            let id = chunk.get("id").and_then(Value::as_str).unwrap_or_default();
            deltas.push(Delta::Start(id.to_owned()));
        }
        let choices = chunk.get("choices").and_then(Value::as_array);
        let first = |choice: &&Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
        for choice in choices.into_iter().flatten().filter(first) {
            self.choice(choice, &mut deltas)?;
        }
        let usage = chunk.get("usage").or_else(|| chunk.pointer("/x_groq/usage"));
        let usage = usage.and_then(|usage| Usage::from_openai(usage.to_string().as_bytes()));
        deltas.extend(usage.map(Delta::Usage));
        Ok(deltas)
    }
}

impl Heard {
    fn choice(&mut self, choice: &Value, deltas: &mut Vec<Delta>) -> Result<(), Garbled> {
        let none = Value::Null;
        let delta = choice.get("delta").unwrap_or(&none);
        let filled = |text: &String| !text.is_empty();
        deltas.extend(thought_of(delta).filter(filled).map(Delta::Thought));
        let blocks = delta.get("thinking_blocks").and_then(Value::as_array);
        for block in blocks.into_iter().flatten() {
            let text = |name: &str| block.get(name).and_then(Value::as_str).map(str::to_owned);
            deltas.extend(text("signature").filter(filled).map(Delta::Signature));
            deltas.extend(text("data").filter(filled).map(Delta::Redacted));
        }
        let text = delta.get("content").map(text_of);
        deltas.extend(text.filter(filled).map(Delta::Text));
        if let Some(refusal) = delta.get("refusal").and_then(Value::as_str) {
            self.refused = true;
            deltas.push(Delta::Text(refusal.to_owned()));
        }
        let calls = delta.get("tool_calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten() {
            self.call(call, deltas)?;
        }
        let reason = choice.get("finish_reason").and_then(Value::as_str);
        if let Some(reason) = reason.filter(|_| !std::mem::replace(&mut self.stopped, true)) {
            let stop = match stop_of(reason) {
                Stop::End if self.refused => Stop::Refused,
                Stop::End if !self.calls.is_empty() => Stop::Tools,
                stop => stop,
            };
            deltas.push(Delta::Stop(stop));
        }
        Ok(())
    }

    fn call(&mut self, call: &Value, deltas: &mut Vec<Delta>) -> Result<(), Garbled> {
        let text = |pointer: &str| {
            call.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
        };
        // Without an index, a call with a name is a new one.
        let index = call.get("index").and_then(Value::as_u64);
        let name = text("/function/name");
        let index = index.unwrap_or_else(|| {
            let last = self.calls.last().copied();
            if name.is_some() { last.map_or(0, |at| at + 1) } else { last.unwrap_or(0) }
        });
        let known = self.calls.iter().position(|known| *known == index);
        let number = if let Some(number) = known {
            number
        } else {
            let name = name.ok_or_else(|| Garbled("a tool call has no name".to_owned()))?;
            let number = self.calls.len();
            self.calls.push(index);
            let id = text("/id").map_or_else(|| format!("call_{number}"), str::to_owned);
            deltas.push(Delta::Call { number, id, name: name.to_owned() });
            number
        };
        let more = match call.pointer("/function/arguments") {
            Some(Value::String(more)) => more.clone(),
            Some(object @ Value::Object(_)) => object.to_string(),
            _ => String::new(),
        };
        if !more.is_empty() {
            deltas.push(Delta::Arguments(number, more));
        }
        Ok(())
    }
}

/// Says chat completions.
#[derive(Debug)]
pub struct Said {
    model: Box<str>,
    created: u64,
    include_usage: bool,
    id: String,
    usage: Option<Usage>,
}

impl Said {
    /// For a client that asked for `model`; `created` is in seconds since 1970.
    pub fn new(model: &str, created: u64, include_usage: bool) -> Self {
        Self { model: model.into(), created, include_usage, id: String::new(), usage: None }
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>, out: &mut BytesMut) {
        self.say(json!([{"index": 0, "delta": delta, "finish_reason": finish}]), None, out);
    }

    fn say(&self, choices: Value, usage: Option<Value>, out: &mut BytesMut) {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
        });
        put(&mut chunk, "choices", choices);
        if let Some(usage) = usage {
            put(&mut chunk, "usage", usage);
        }
        out.extend_from_slice(format!("data: {chunk}\n\n").as_bytes());
    }
}

impl Speaker for Said {
    fn answer(&mut self, answer: Answer) -> Bytes {
        Bytes::from(answer::write(answer, &self.model, self.created).to_string())
    }

    fn delta(&mut self, delta: Delta, out: &mut BytesMut) -> Result<(), Garbled> {
        let thinking = |text: &str, seal: &str| json!([{"type": "thinking", "thinking": text, "signature": seal}]);
        let said = match delta {
            Delta::Start(theirs) => {
                self.id = answer::id(&theirs);
                json!({"role": "assistant", "content": ""})
            }
            Delta::Text(text) => json!({"content": text}),
            Delta::Thought(text) => {
                let blocks = thinking(&text, "");
                json!({"reasoning_content": text, "thinking_blocks": blocks})
            }
            Delta::Signature(seal) => json!({"thinking_blocks": thinking("", &seal)}),
            Delta::Redacted(data) => {
                json!({"thinking_blocks": [{"type": "redacted_thinking", "data": data}]})
            }
            Delta::Call { number, id, name } => json!({"tool_calls": [{
                "index": number,
                "id": id,
                "type": "function",
                "function": {"name": name, "arguments": ""},
            }]}),
            Delta::Arguments(number, more) => json!({"tool_calls": [{
                "index": number,
                "function": {"arguments": more},
            }]}),
            Delta::Stop(stop) => {
                self.chunk(&json!({}), Some(finish_reason(&stop)), out);
                return Ok(());
            }
            Delta::Usage(usage) => {
                self.usage = Some(usage);
                return Ok(());
            }
            Delta::Fault(fault) => {
                out.extend_from_slice(&fault.event(crate::protocol::Dialect::OpenAi));
                return Ok(());
            }
        };
        self.chunk(&said, None, out);
        Ok(())
    }

    fn finish(&mut self, out: &mut BytesMut) {
        if self.include_usage {
            let usage = answer::usage(&self.usage.unwrap_or_default());
            self.say(json!([]), Some(usage), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}
