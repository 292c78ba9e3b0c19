//! A client that believes nothing: it takes a stream for whole only where each event can be read,
//! each piece belongs to something that has begun and all that has begun has ended, and the end mark
//! has come.
//!
//! What no stream should hold that a gateway lets pass is no outcome here, but a panic. One thing is
//! let pass and still refused by any reader: the pieces of a call whose beginning is missing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::story::Wire;
use crate::support::wire::Answer;

/// What an answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// By choice.
    pub(super) texts: BTreeMap<u64, String>,
    pub(super) thought: String,
    /// Names and arguments.
    pub(super) calls: Vec<(String, String)>,
    /// What a response is at last, where that is something else than its pieces.
    pub(super) at_last: Option<Box<Self>>,
}

/// How an answer ends for its reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With an error, or with something no reader can take for a whole answer; and what was said
    /// before.
    Refused(Content),
    Whole(Content),
}

impl Content {
    /// In the form in which contents are compared: a call without arguments says `{}`, and a
    /// choice that says nothing is none.
    pub(super) fn settled(mut self) -> Self {
        for (_, arguments) in &mut self.calls {
            if arguments.is_empty() {
                "{}".clone_into(arguments);
            }
        }
        self.texts.retain(|_, text| !text.is_empty());
        self
    }

    /// Whether this can be the beginning of `whole`.
    pub(super) fn begins(&self, whole: &Self) -> bool {
        let of = |text: &str, choice| {
            whole.texts.get(choice).is_some_and(|whole| whole.starts_with(text))
        };
        let texts = self.texts.iter().all(|(choice, text)| of(text, choice));
        texts && whole.thought.starts_with(&self.thought) && self.calls.len() <= whole.calls.len()
    }
}

/// Reads a whole answer of a client's wire.
pub(super) fn read(wire: Wire, answer: &Answer) -> Outcome {
    if answer.status() != 200 {
        let error = &answer.json()["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{answer:?}");
        return Outcome::Refused(Content::default());
    }
    if !answer.head.header("content-type").is_some_and(|it| it.starts_with("text/event-stream")) {
        return Outcome::Whole(whole(&answer.json()));
    }
    read_stream(wire, &answer.body)
}

/// Reads a stream; one that stops without an error and without an end mark is nobody's.
pub(super) fn read_stream(wire: Wire, body: &str) -> Outcome {
    let mut reader = Reader {
        wire,
        content: Content::default(),
        begun: BTreeMap::new(),
        ended: Vec::new(),
        stopped: false,
        end: End::Open,
    };
    let text = body.replace("\r\n", "\n");
    for event in text.split("\n\n").filter(|event| !event.is_empty()) {
        let data = event.lines().filter_map(|line| line.strip_prefix("data:"));
        let data: Vec<&str> = data.map(|data| data.strip_prefix(' ').unwrap_or(data)).collect();
        if !data.is_empty() {
            reader.data(&data.join("\n"));
        }
    }
    let content = reader.content.settled();
    match reader.end {
        End::Fault | End::Unbegun => Outcome::Refused(content),
        End::Mark => Outcome::Whole(content),
        End::Open => panic!("neither an end nor an error: {body}"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fault,
    Mark,
    Open,
    /// Pieces came of a call that has not begun, whatever comes behind them.
    Unbegun,
}

#[derive(Debug, Clone, Copy)]
enum Begun {
    /// A call, with its place among them.
    Call(usize),
    Words,
}

struct Reader {
    wire: Wire,
    content: Content,
    /// Blocks, items and calls that have begun, by their numbers.
    begun: BTreeMap<u64, Begun>,
    /// Blocks, items and choices that have ended.
    ended: Vec<u64>,
    /// Whether a reason for the end was told.
    stopped: bool,
    end: End,
}

impl Reader {
    fn data(&mut self, data: &str) {
        match self.end {
            End::Unbegun => return,
            End::Fault => panic!("{data} behind an error"),
            End::Mark | End::Open => {}
        }
        if data == "[DONE]" {
            let choices = self.content.texts.keys();
            assert!(self.stopped && choices.eq(&self.ended), "an end before the end");
            return self.mark();
        }
        let event: Value =
            serde_json::from_str(data).unwrap_or_else(|why| panic!("{why}: {data:?}"));
        if event["error"].is_object() {
            assert_eq!(self.end, End::Open, "an error behind the end");
            assert!(event["error"]["message"].is_string() && event["error"]["type"].is_string());
            let has_type = matches!(self.wire, Wire::Messages | Wire::Responses);
            assert_eq!(event["type"] == "error", has_type);
            self.end = End::Fault;
            return;
        }
        match self.wire {
            Wire::Chat | Wire::Completions => self.chunk(&event),
            Wire::Messages => self.message_event(&event),
            Wire::Responses => self.response_event(&event),
        }
    }

    fn mark(&mut self) {
        self.end = End::Mark;
    }

    fn chunk(&mut self, chunk: &Value) {
        for choice in chunk["choices"].as_array().expect("a chunk has choices") {
            let delta = &choice["delta"];
            let text = choice["text"].as_str().or(delta["content"].as_str()).unwrap_or_default();
            let index = choice["index"].as_u64().expect("a choice has a number");
            *self.content.texts.entry(index).or_default() += text;
            self.content.thought += delta["reasoning_content"].as_str().unwrap_or_default();
            if choice["finish_reason"].is_string() {
                self.stopped = true;
                self.ended.retain(|ended| *ended != index);
                self.ended.push(index);
                self.ended.sort_unstable();
            }
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let index = call["index"].as_u64().expect("a call has a number");
                if !self.begun.contains_key(&index) {
                    let Some(name) = call["function"]["name"].as_str() else {
                        self.end = End::Unbegun;
                        return;
                    };
                    self.call(index, name);
                }
                self.add_to_call(index, &call["function"]["arguments"]);
            }
        }
    }

    fn call(&mut self, index: u64, name: &str) {
        let at = self.content.calls.len();
        self.content.calls.push((name.to_owned(), String::new()));
        self.begun.insert(index, Begun::Call(at));
    }

    fn add_to_call(&mut self, index: u64, piece: &Value) {
        let Some(Begun::Call(at)) = self.begun.get(&index) else { panic!("{index} is no call") };
        self.content.calls[*at].1 += piece.as_str().expect("a piece is a text");
    }

    fn message_event(&mut self, event: &Value) {
        let index = event["index"].as_u64().unwrap_or_default();
        let is_open = self.begun.contains_key(&index) && !self.ended.contains(&index);
        match event["type"].as_str().expect("an event has a type") {
            "content_block_start" => {
                assert_eq!(index, self.begun.len() as u64, "a block is missing");
                let block = &event["content_block"];
                if block["type"] == "tool_use" {
                    self.call(index, block["name"].as_str().expect("a call has a name"));
                } else {
                    self.begun.insert(index, Begun::Words);
                }
            }
            "content_block_delta" => {
                assert!(is_open, "the beginning of a block is missing");
                let delta = &event["delta"];
                let text = |name: &str| delta[name].as_str().unwrap_or_default();
                *self.content.texts.entry(0).or_default() += text("text");
                self.content.thought += text("thinking");
                if delta["partial_json"].is_string() {
                    self.add_to_call(index, &delta["partial_json"]);
                }
            }
            "content_block_stop" => {
                assert!(is_open, "the beginning of a block is missing");
                self.ended.push(index);
            }
            "message_delta" => self.stopped |= event["delta"]["stop_reason"].is_string(),
            "message_stop" => {
                assert!(self.stopped, "an end without a reason");
                assert_eq!(self.begun.len(), self.ended.len(), "the end of a block is missing");
                self.mark();
            }
            _ => {}
        }
    }

    /// What is said in pieces; it is told at the end whether that was all.
    fn response_event(&mut self, event: &Value) {
        let index = event["output_index"].as_u64().unwrap_or_default();
        let delta = event["delta"].as_str().unwrap_or_default();
        match event["type"].as_str().expect("an event has a type") {
            "response.output_item.added" if event["item"]["type"] == "function_call" => {
                self.call(index, event["item"]["name"].as_str().expect("a call has a name"));
            }
            "response.function_call_arguments.delta" if !self.begun.contains_key(&index) => {
                self.end = End::Unbegun;
            }
            "response.function_call_arguments.delta" => self.add_to_call(index, &event["delta"]),
            "response.output_text.delta" => {
                *self.content.texts.entry(0).or_default() += delta;
            }
            "response.reasoning_summary_text.delta" => self.content.thought += delta,
            "response.completed" => {
                let last = whole(&event["response"]);
                let differs = self.content.clone().settled() != last;
                self.content.at_last = differs.then(|| Box::new(last));
                self.mark();
            }
            _ => {}
        }
    }
}

/// What an answer in one piece says, in any dialect.
fn whole(answer: &Value) -> Content {
    let mut content = Content::default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for choice in answer["choices"].as_array().into_iter().flatten() {
        let (message, index) = (&choice["message"], choice["index"].as_u64().unwrap_or_default());
        let said = choice["text"].as_str().or(message["content"].as_str()).unwrap_or_default();
        content.texts.insert(index, said.to_owned());
        content.thought += message["reasoning_content"].as_str().unwrap_or_default();
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            content.calls.push((text(&function["name"]), text(&function["arguments"])));
        }
    }
    for block in answer["content"].as_array().into_iter().flatten() {
        *content.texts.entry(0).or_default() += block["text"].as_str().unwrap_or_default();
        content.thought += block["thinking"].as_str().unwrap_or_default();
        if block["type"] == "tool_use" {
            content.calls.push((text(&block["name"]), block["input"].to_string()));
        }
    }
    for item in answer["output"].as_array().into_iter().flatten() {
        *content.texts.entry(0).or_default() += &text(&item["content"][0]["text"]);
        content.thought += &text(&item["summary"][0]["text"]);
        if item["type"] == "function_call" {
            content.calls.push((text(&item["name"]), text(&item["arguments"])));
        }
    }
    content.settled()
}
