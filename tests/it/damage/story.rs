//! An answer that is made up, and the stream by which a provider tells it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::reader::Content;

/// Whose events they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Chat,
    Completions,
    Messages,
    Responses,
}

/// What is said, in the pieces in which it comes, and how.
#[derive(Debug, Clone)]
pub(super) struct Story {
    thought: Vec<String>,
    text: Vec<String>,
    /// Of a second choice, where there can be one.
    second: Vec<String>,
    calls: Vec<(String, Vec<String>)>,
    usage: bool,
    /// Whether there is an end mark where one may be left out.
    mark: bool,
    comments: bool,
    /// How lines end.
    newline: &'static str,
}

/// One event with its blank line.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// What is lost with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Words or a call, and nothing tells that they were there: no number, no length, no sum.
    Piece,
    /// Something that shows when it is missing, or that nobody misses.
    Other,
}

pub(super) fn story() -> impl Strategy<Value = Story> {
    let words = || prop::collection::vec(word(), 0..4);
    let calls = prop::collection::vec(("[a-z]{1,4}", input()), 0..3);
    let how = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (words(), words(), words(), calls, how).prop_map(
        |(thought, text, second, calls, (usage, mark, comments, crlf))| Story {
            thought,
            text,
            second,
            calls,
            usage,
            mark,
            comments,
            newline: if crlf { "\r\n" } else { "\n" },
        },
    )
}

/// Words that look like the wire, and any others.
fn word() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "\"finish_reason\":\"stop\"",
        "data: [DONE]\n\n",
        "{\"error\":{\"message\":\"no\"}}",
        "event: message_stop\r\n",
        "\"type\":\"response.completed\"",
        "response.output_text.delta",
        "🪁",
    ]);
    prop_oneof![odd.prop_map(str::to_owned), "[a-z ]{1,8}", "\\PC{1,6}"]
}

/// The arguments of a call in pieces; none for a call without arguments.
fn input() -> impl Strategy<Value = Vec<String>> {
    let fields = prop::collection::btree_map("[a-c]", "\\PC{0,4}", 0..3);
    (fields, 1usize..9).prop_map(|(fields, size)| {
        if fields.is_empty() {
            return Vec::new();
        }
        let text: Vec<char> = json!(fields).to_string().chars().collect();
        text.chunks(size).map(|piece| piece.iter().collect()).collect()
    })
}

impl Story {
    /// All that a client of this wire is to get.
    pub(super) fn content(&self, wire: Wire) -> Content {
        let mut content = Content::default();
        content.texts.insert(0, self.text.concat());
        if matches!(wire, Wire::Chat | Wire::Completions) && !self.second.is_empty() {
            content.texts.insert(1, self.second.concat());
        }
        if matches!(wire, Wire::Chat | Wire::Messages) {
            content.thought = self.thought.concat();
            for (name, pieces) in &self.calls {
                content.calls.push((name.clone(), pieces.concat()));
            }
        }
        content.settled()
    }

    /// The same without what an answer of one choice cannot say.
    pub(super) fn of_one_choice(mut self) -> Self {
        self.second.clear();
        self
    }

    /// The events of the whole stream.
    pub(super) fn told(&self, wire: Wire) -> Vec<Event> {
        let mut teller = Teller { events: Vec::new(), numbered: false };
        match wire {
            Wire::Chat => self.chat(&mut teller),
            Wire::Completions => self.completions(&mut teller),
            Wire::Messages => self.messages(&mut teller),
            Wire::Responses => self.responses(&mut teller),
        }
        let mut events = teller.events;
        if self.comments {
            let comment = || Event { text: ": one moment\n\n".to_owned(), kind: Kind::Other };
            events.insert(0, comment());
            events.insert(events.len() / 2, comment());
        }
        for event in &mut events {
            event.text = event.text.replace('\n', self.newline);
        }
        events
    }

    fn chat(&self, out: &mut Teller) {
        let mut chunk = |index: u8, delta: Value, finish: Option<&str>, kind| {
            let choice = json!({"index": index, "delta": delta, "finish_reason": finish});
            out.data(&json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}), kind);
        };
        chunk(0, json!({"role": "assistant", "content": ""}), None, Kind::Other);
        for piece in &self.thought {
            chunk(0, json!({"reasoning_content": piece}), None, Kind::Piece);
        }
        for at in 0..self.text.len().max(self.second.len()) {
            for (index, pieces) in [(0, &self.text), (1, &self.second)] {
                if let Some(piece) = pieces.get(at) {
                    chunk(index, json!({"content": piece}), None, Kind::Piece);
                }
            }
        }
        for call in self.chat_calls() {
            chunk(0, json!({"tool_calls": [call]}), None, Kind::Piece);
        }
        let finish = if self.calls.is_empty() { "stop" } else { "tool_calls" };
        chunk(0, json!({}), Some(finish), Kind::Other);
        if !self.second.is_empty() {
            chunk(1, json!({}), Some("length"), Kind::Other);
        }
        self.chunks_end(out);
    }

    /// First all calls begin, then their arguments come mixed.
    fn chat_calls(&self) -> Vec<Value> {
        let begin = |(at, (name, _)): (usize, &(String, Vec<String>))| {
            let function = json!({"name": name, "arguments": ""});
            json!({"index": at, "id": format!("c{at}"), "type": "function", "function": function})
        };
        let mut told: Vec<Value> = self.calls.iter().enumerate().map(begin).collect();
        let rounds = self.calls.iter().map(|(_, pieces)| pieces.len()).max().unwrap_or(0);
        for round in 0..rounds {
            for (at, (_, pieces)) in self.calls.iter().enumerate() {
                if let Some(piece) = pieces.get(round) {
                    told.push(json!({"index": at, "function": {"arguments": piece}}));
                }
            }
        }
        told
    }

    fn completions(&self, out: &mut Teller) {
        let mut chunk = |index: u8, text: &str, finish: Option<&str>, kind| {
            let choice = json!({"text": text, "index": index, "finish_reason": finish});
            out.data(&json!({"id": "cmpl-1", "object": "text_completion", "created": 1, "choices": [choice], "model": "m"}), kind);
        };
        for at in 0..self.text.len().max(self.second.len()) {
            for (index, pieces) in [(0, &self.text), (1, &self.second)] {
                if let Some(piece) = pieces.get(at) {
                    chunk(index, piece, None, Kind::Piece);
                }
            }
        }
        chunk(0, "", Some("stop"), Kind::Other);
        if !self.second.is_empty() {
            chunk(1, "", Some("stop"), Kind::Other);
        }
        self.chunks_end(out);
    }

    fn chunks_end(&self, out: &mut Teller) {
        if self.usage {
            let usage = json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10});
            out.data(&json!({"id": "1", "choices": [], "usage": usage}), Kind::Other);
        }
        if self.mark {
            out.events.push(Event { text: "data: [DONE]\n\n".to_owned(), kind: Kind::Other });
        }
    }

    fn messages(&self, out: &mut Teller) {
        let usage = json!({"input_tokens": 7, "output_tokens": 1});
        let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage});
        out.named(json!({"type": "message_start", "message": message}), Kind::Other);
        out.named(json!({"type": "ping"}), Kind::Other);
        let mut index = 0;
        let mut block = |out: &mut Teller, block: Value, deltas: Vec<Value>| {
            let event =
                json!({"type": "content_block_start", "index": index, "content_block": block});
            out.named(event, Kind::Other);
            for delta in deltas {
                let event = json!({"type": "content_block_delta", "index": index, "delta": delta});
                out.named(event, Kind::Piece);
            }
            out.named(json!({"type": "content_block_stop", "index": index}), Kind::Other);
            index += 1;
        };
        if !self.thought.is_empty() {
            let delta = |text| json!({"type": "thinking_delta", "thinking": text});
            let mut deltas: Vec<Value> = self.thought.iter().map(delta).collect();
            deltas.push(json!({"type": "signature_delta", "signature": "c2VhbA=="}));
            block(out, json!({"type": "thinking", "thinking": "", "signature": ""}), deltas);
        }
        let delta = |text| json!({"type": "text_delta", "text": text});
        block(out, json!({"type": "text", "text": ""}), self.text.iter().map(delta).collect());
        for (at, (name, pieces)) in self.calls.iter().enumerate() {
            let delta = |piece| json!({"type": "input_json_delta", "partial_json": piece});
            let call =
                json!({"type": "tool_use", "id": format!("t{at}"), "name": name, "input": {}});
            block(out, call, pieces.iter().map(delta).collect());
        }
        let stop = if self.calls.is_empty() { "end_turn" } else { "tool_use" };
        let delta = json!({"stop_reason": stop, "stop_sequence": null});
        let end = json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}});
        out.named(end, Kind::Other);
        out.named(json!({"type": "message_stop"}), Kind::Other);
    }

    fn responses(&self, out: &mut Teller) {
        out.numbered = true;
        let response = |status: &str, output: Value, usage: Value| json!({"id": "resp_1", "object": "response", "model": "m", "status": status, "output": output, "usage": usage});
        let begun = response("in_progress", json!([]), Value::Null);
        out.named(json!({"type": "response.created", "response": begun}), Kind::Other);
        for piece in &self.text {
            let event = json!({"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": piece});
            // The last event says it again.
            out.named(event, Kind::Other);
        }
        let text = self.text.concat();
        let part = json!({"type": "output_text", "text": text, "annotations": []});
        out.named(json!({"type": "response.output_text.done", "item_id": "i", "output_index": 0, "content_index": 0, "text": text}), Kind::Other);
        let item = json!({"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [part]});
        let usage = json!({"input_tokens": 7, "output_tokens": 3, "total_tokens": 10});
        let ended = response("completed", json!([item]), usage);
        out.named(json!({"type": "response.completed", "response": ended}), Kind::Other);
    }
}

struct Teller {
    events: Vec<Event>,
    /// Whether events carry their number.
    numbered: bool,
}

impl Teller {
    fn data(&mut self, data: &Value, kind: Kind) {
        self.events.push(Event { text: format!("data: {data}\n\n"), kind });
    }

    fn named(&mut self, mut data: Value, kind: Kind) {
        if self.numbered {
            data["sequence_number"] = self.events.len().into();
        }
        let name = data["type"].as_str().unwrap_or_default();
        let text = format!("event: {name}\ndata: {data}\n\n");
        self.events.push(Event { text, kind });
    }
}
