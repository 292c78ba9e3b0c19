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
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
pub(super) struct Story {
    thought: Vec<String>,
    text: Vec<String>,
    /// Of a second choice, where there can be one.
    second: Vec<String>,
    calls: Vec<(String, Vec<String>)>,
    /// Whether choices are told side by side, or one after the other.
    mixed: bool,
    usage: bool,
    /// Whether there is an end mark where one may be left out.
    mark: bool,
    comments: bool,
    /// Whether events carry their number where they may.
    numbered: bool,
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
    let how = prop::array::uniform6(any::<bool>());
    (words(), words(), words(), calls, how).prop_map(
        |(thought, text, second, calls, [mixed, usage, mark, comments, numbered, crlf])| Story {
            thought,
            text,
            second,
            calls,
            mixed,
            usage,
            mark,
            comments,
            numbered,
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
        if wire != Wire::Completions {
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

    /// How many choices there are, where there can be several.
    pub(super) fn choices(&self) -> usize {
        if self.second.is_empty() { 1 } else { 2 }
    }

    /// The pieces of both choices in the order in which they are told, each with its number.
    fn pieces(&self) -> Vec<(u8, &String)> {
        let (first, second) =
            (self.text.iter().map(|it| (0, it)), self.second.iter().map(|it| (1, it)));
        if !self.mixed {
            return first.chain(second).collect();
        }
        let (mut pieces, mut first, mut second) = (Vec::new(), first.fuse(), second.fuse());
        for _ in 0..self.text.len().max(self.second.len()) {
            pieces.extend(first.next());
            pieces.extend(second.next());
        }
        pieces
    }

    /// The events of the whole stream.
    pub(super) fn told(&self, wire: Wire) -> Vec<Event> {
        let mut teller = Teller { events: Vec::new() };
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
        let finish = if self.calls.is_empty() { "stop" } else { "tool_calls" };
        let (first, second): (Vec<_>, Vec<_>) =
            self.pieces().into_iter().partition(|(index, _)| self.mixed || *index == 0);
        for (index, piece) in first {
            chunk(index, json!({"content": piece}), None, Kind::Piece);
        }
        for call in self.chat_calls() {
            chunk(0, json!({"tool_calls": [call]}), None, Kind::Piece);
        }
        chunk(0, json!({}), Some(finish), Kind::Other);
        for (index, piece) in second {
            chunk(index, json!({"content": piece}), None, Kind::Piece);
        }
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
        for (index, piece) in self.pieces() {
            chunk(index, piece, None, Kind::Piece);
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
        out.named(&json!({"type": "message_start", "message": message}), Kind::Other);
        out.named(&json!({"type": "ping"}), Kind::Other);
        let mut index = 0;
        let mut block = |out: &mut Teller, block: Value, deltas: Vec<Value>| {
            let event =
                json!({"type": "content_block_start", "index": index, "content_block": block});
            out.named(&event, Kind::Other);
            for delta in deltas {
                let event = json!({"type": "content_block_delta", "index": index, "delta": delta});
                out.named(&event, Kind::Piece);
            }
            out.named(&json!({"type": "content_block_stop", "index": index}), Kind::Other);
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
        out.named(&end, Kind::Other);
        out.named(&json!({"type": "message_stop"}), Kind::Other);
    }

    fn responses(&self, out: &mut Teller) {
        let response = |status: &str, output: Value, usage: Value| json!({"id": "resp_1", "object": "response", "model": "m", "status": status, "output": output, "usage": usage});
        let begun = response("in_progress", json!([]), Value::Null);
        let mut events = vec![
            json!({"type": "response.created", "response": begun}),
            json!({"type": "response.in_progress", "response": begun}),
        ];
        let mut output = Vec::new();
        if !self.thought.is_empty() {
            let part = json!({"type": "summary_text", "text": self.thought.concat()});
            let item = json!({"type": "reasoning", "id": "i", "summary": [part]});
            let piece = ("reasoning_summary_text", "text");
            output.push(said(item, piece, &self.thought, (output.len(), &mut events)));
        }
        let part = json!({"type": "output_text", "text": self.text.concat(), "annotations": []});
        let item = json!({"type": "message", "id": "i", "role": "assistant", "content": [part]});
        let piece = ("output_text", "text");
        output.push(said(item, piece, &self.text, (output.len(), &mut events)));
        for (at, (name, pieces)) in self.calls.iter().enumerate() {
            let (id, given) = (format!("c{at}"), pieces.concat());
            let item =
                json!({"type": "function_call", "call_id": id, "name": name, "arguments": given});
            let piece = ("function_call_arguments", "arguments");
            output.push(said(item, piece, pieces, (output.len(), &mut events)));
        }
        let usage = json!({"input_tokens": 7, "output_tokens": 3, "total_tokens": 10});
        let ended = response("completed", json!(output), usage);
        events.push(json!({"type": "response.completed", "response": ended}));
        for (at, mut event) in events.into_iter().enumerate() {
            let mut kind = Kind::Piece;
            if self.numbered {
                event["sequence_number"] = at.into();
                kind = Kind::Other;
            }
            out.named(&event, kind);
        }
    }
}

/// One item of a response with its events: it begins without its words, says them in pieces, and
/// then all of them again.
fn said(
    item: Value,
    (kind, field): (&str, &str),
    pieces: &[String],
    (at, events): (usize, &mut Vec<Value>),
) -> Value {
    let whole = pieces.concat();
    let mut begun = item.clone();
    for name in ["summary", "content"] {
        if begun[name].is_array() {
            begun[name] = json!([]);
        }
    }
    if begun["arguments"].is_string() {
        begun["arguments"] = json!("");
    }
    let mut event = |kind: &str, mut more: Value| {
        more["type"] = json!(format!("response.{kind}"));
        more["output_index"] = at.into();
        events.push(more);
    };
    event("output_item.added", json!({"item": begun}));
    let has_part = kind == "output_text";
    if has_part {
        event("content_part.added", json!({"part": {"type": kind, "text": ""}}));
    }
    for piece in pieces {
        event(&format!("{kind}.delta"), json!({"delta": piece}));
    }
    event(&format!("{kind}.done"), json!({field: whole}));
    if has_part {
        event("content_part.done", json!({"part": {"type": kind, "text": whole}}));
    }
    event("output_item.done", json!({"item": item}));
    item
}

struct Teller {
    events: Vec<Event>,
}

impl Teller {
    fn data(&mut self, data: &Value, kind: Kind) {
        self.events.push(Event { text: format!("data: {data}\n\n"), kind });
    }

    fn named(&mut self, data: &Value, kind: Kind) {
        let name = data["type"].as_str().unwrap_or_default();
        let text = format!("event: {name}\ndata: {data}\n\n");
        self.events.push(Event { text, kind });
    }
}
