//! Messages events, to and from the steps of the hub.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::write::Key;
use super::{JSON_TOOL, answer, stop_of, stop_reason};
use crate::protocol::turn::{Answer, Delta, Listener, Speaker, Stop};
use crate::protocol::{Dialect, Fault, Garbled, Usage, sse};

/// Understands Messages.
#[derive(Debug)]
pub struct Heard {
    key: Key,
    calls: usize,
    /// The block that is open, with its index where the provider tells it.
    open: Option<(Option<u64>, Block)>,
    /// The index of the last block that began.
    last: Option<u64>,
    usage: Usage,
    counted: bool,
    started: bool,
    stopped: bool,
}

/// What a block is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Call {
        number: usize,
        empty: bool,
    },
    Json,
    Plain,
    /// A block of the provider's own tools.
    Skipped,
}

impl Heard {
    /// `key` comes from the request; see [`super::write::Spoken`].
    pub fn new(key: Key) -> Self {
        Self {
            key,
            calls: 0,
            open: None,
            last: None,
            usage: Usage::default(),
            counted: false,
            started: false,
            stopped: false,
        }
    }

    /// A block that begins ends the one before: some servers leave that unsaid.
    fn opened(
        &mut self,
        at: Option<u64>,
        block: &Value,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), Garbled> {
        if at.is_some() && self.open.is_some_and(|(open, _)| open == at) {
            return Err(garbled(at, "began twice"));
        }
        self.closed(deltas);
        self.last = at.or(self.last);
        self.open = Some((at, self.begun(block, deltas)));
        Ok(())
    }

    fn begun(&mut self, block: &Value, deltas: &mut Vec<Delta>) -> Block {
        let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        match text("type") {
            "text" => deltas.extend(filled(text("text")).map(Delta::Text)),
            "thinking" => {
                deltas.extend(filled(text("thinking")).map(Delta::Thought));
                deltas.extend(filled(text("signature")).map(Delta::Signature));
            }
            "redacted_thinking" => deltas.push(Delta::Redacted(text("data").to_owned())),
            "tool_use" if self.key.json_tool && text("name") == JSON_TOOL => {
                deltas.extend(whole_input(block).map(Delta::Text));
                return Block::Json;
            }
            "tool_use" => {
                let number = self.calls;
                self.calls += 1;
                let name = self.key.names.known(text("name")).to_owned();
                deltas.push(Delta::Call { number, id: text("id").to_owned(), name });
                let whole = whole_input(block);
                let empty = whole.is_none();
                deltas.extend(whole.map(|whole| Delta::Arguments(number, whole)));
                return Block::Call { number, empty };
            }
            _ => return Block::Skipped,
        }
        Block::Plain
    }

    fn more(
        &mut self,
        at: Option<u64>,
        delta: &Value,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), Garbled> {
        let text = |name: &str| {
            let text = delta.get(name).and_then(Value::as_str).unwrap_or_default();
            (!text.is_empty()).then(|| text.to_owned())
        };
        match delta.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text_delta" => deltas.extend(text("text").map(Delta::Text)),
            "thinking_delta" => deltas.extend(text("thinking").map(Delta::Thought)),
            "signature_delta" => deltas.extend(text("signature").map(Delta::Signature)),
            "input_json_delta" => {
                let Some(more) = text("partial_json") else { return Ok(()) };
                // The call they belong to is lost, or they are lost to it.
                let is_other = |open: Option<u64>| open.is_some() && at.is_some() && open != at;
                match &mut self.open {
                    None => return Err(garbled(at, "has arguments and is not open")),
                    Some((open, _)) if is_other(*open) => {
                        return Err(garbled(at, "has arguments and is not open"));
                    }
                    Some((_, Block::Json)) => deltas.push(Delta::Text(more)),
                    Some((_, Block::Call { number, empty })) => {
                        *empty = false;
                        deltas.push(Delta::Arguments(*number, more));
                    }
                    Some((_, Block::Plain | Block::Skipped)) => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends a block. One that ended before may end again, but not one that never began: what it
    /// was is lost. Before the message begins, nothing of it can be.
    fn ended(&mut self, at: Option<u64>, deltas: &mut Vec<Delta>) -> Result<(), Garbled> {
        if self.started && at.is_some() && at > self.last {
            return Err(garbled(at, "ends and never began"));
        }
        self.closed(deltas);
        Ok(())
    }

    fn closed(&mut self, deltas: &mut Vec<Delta>) {
        if let Some((_, Block::Call { number, empty: true })) = self.open.take() {
            deltas.push(Delta::Arguments(number, "{}".to_owned()));
        }
    }

    /// Reads the stop reason, where there is one; it comes with the last count of tokens.
    fn stop(&mut self, says: &Value, deltas: &mut Vec<Delta>) {
        let text = |name: &str| says.get(name).and_then(Value::as_str);
        let Some(reason) = text("stop_reason") else { return };
        self.closed(deltas);
        if !std::mem::replace(&mut self.stopped, true) {
            let stop = stop_of(reason, text("stop_sequence"));
            deltas.push(Delta::Stop(answer::settled(stop, &self.key, self.calls > 0)));
        }
        if self.counted {
            deltas.push(Delta::Usage(self.usage));
        }
    }

    fn count(&mut self, usage: Option<&Value>) {
        if let Some(usage) = usage {
            self.counted |= self.usage.merge_anthropic(usage.to_string().as_bytes());
        }
    }
}

fn garbled(at: Option<u64>, why: &str) -> Garbled {
    let at = at.map_or_else(String::new, |at| format!(" {at}"));
    Garbled(format!("content block{at} {why}"))
}

/// The input of a call that came whole with its block, as compatible servers send it.
fn whole_input(block: &Value) -> Option<String> {
    let input = block.get("input")?.as_object()?;
    (!input.is_empty()).then(|| Value::Object(input.clone()).to_string())
}

impl Listener for Heard {
    fn answer(&mut self, body: &[u8]) -> Result<Answer, Garbled> {
        answer::read(body, &self.key)
    }

    fn event(&mut self, event: &[u8]) -> Result<Vec<Delta>, Garbled> {
        let mut deltas = Vec::new();
        let Some(data) = sse::data(event).filter(|data| !data.trim_ascii().is_empty()) else {
            return Ok(deltas);
        };
        let json: Value =
            serde_json::from_slice(&data).map_err(|error| Garbled(error.to_string()))?;
        let none = Value::Null;
        let at = json.get("index").and_then(Value::as_u64);
        match json.get("type").and_then(Value::as_str).unwrap_or_default() {
            "message_start" => {
                // What the client has read cannot be taken back.
                if std::mem::replace(&mut self.started, true) {
                    return Err(Garbled("the message began twice".to_owned()));
                }
                let message = json.get("message").unwrap_or(&none);
                self.count(message.get("usage"));
                let id = message.get("id").and_then(Value::as_str).unwrap_or_default();
                deltas.push(Delta::Start(id.to_owned()));
                // A turn that only hands on calls from running code comes whole in its beginning.
                let blocks = message.get("content").and_then(Value::as_array);
                for block in blocks.into_iter().flatten() {
                    self.opened(None, block, &mut deltas)?;
                    self.closed(&mut deltas);
                }
                self.stop(message, &mut deltas);
            }
            "content_block_start" => {
                self.opened(at, json.get("content_block").unwrap_or(&none), &mut deltas)?;
            }
            "content_block_delta" => {
                self.more(at, json.get("delta").unwrap_or(&none), &mut deltas)?;
            }
            "content_block_stop" => self.ended(at, &mut deltas)?,
            "message_delta" => {
                self.count(json.get("usage"));
                self.stop(json.get("delta").unwrap_or(&none), &mut deltas);
            }
            "error" => deltas.push(Delta::Fault(Fault::read(&data))),
            // `ping`, `message_stop`, and whatever comes later.
            _ => {}
        }
        Ok(deltas)
    }
}

/// Says Messages.
#[derive(Debug)]
pub struct Said {
    model: Box<str>,
    /// How many blocks are closed.
    index: usize,
    open: Option<Open>,
    /// Calls that began while another was still being said.
    waiting: VecDeque<Waiting>,
    stop: Stop,
    usage: Usage,
}

#[derive(Debug, PartialEq, Eq)]
enum Open {
    Call { number: usize, so_far: String },
    Text,
    Thought,
}

#[derive(Debug)]
struct Waiting {
    number: usize,
    id: String,
    name: String,
    arguments: String,
}

impl Said {
    /// For a client that asked for `model`.
    pub fn new(model: &str) -> Self {
        Self {
            model: model.into(),
            index: 0,
            open: None,
            waiting: VecDeque::new(),
            stop: Stop::End,
            usage: Usage::default(),
        }
    }

    /// Closes what is open and opens a block, unless one of its kind is open already.
    fn turn_to(&mut self, open: Open, block: &Value, out: &mut BytesMut) {
        if self.open.as_ref() == Some(&open) {
            return;
        }
        self.flush(out);
        self.start(open, block, out);
    }

    fn start(&mut self, open: Open, block: &Value, out: &mut BytesMut) {
        self.close(out);
        let index = self.index;
        say("content_block_start", &json!({"index": index, "content_block": block}), out);
        self.open = Some(open);
    }

    fn more(&self, delta: &Value, out: &mut BytesMut) {
        say("content_block_delta", &json!({"index": self.index, "delta": delta}), out);
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            say("content_block_stop", &json!({"index": self.index}), out);
            self.index += 1;
        }
    }

    /// Blocks come one after the other, but calls may come mixed: the later ones wait.
    fn call(&mut self, call: Waiting, out: &mut BytesMut) {
        let busy = match &self.open {
            Some(Open::Call { so_far, .. }) => !is_whole(so_far),
            Some(Open::Text | Open::Thought) | None => false,
        };
        if busy || !self.waiting.is_empty() {
            self.waiting.push_back(call);
        } else {
            self.start_call(&call, out);
        }
    }

    fn start_call(&mut self, call: &Waiting, out: &mut BytesMut) {
        let block = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
        let so_far = call.arguments.clone();
        self.start(Open::Call { number: call.number, so_far }, &block, out);
        if !call.arguments.is_empty() {
            self.more_arguments(&call.arguments, out);
        }
    }

    /// A block that is closed cannot be said on, and a shorter call must not look whole.
    fn arguments(&mut self, number: usize, more: &str, out: &mut BytesMut) -> Result<(), Garbled> {
        match &mut self.open {
            Some(Open::Call { number: open, so_far }) if *open == number => {
                so_far.push_str(more);
                self.more_arguments(more, out);
            }
            _ => match self.waiting.iter_mut().find(|call| call.number == number) {
                Some(call) => call.arguments.push_str(more),
                None if more.trim().is_empty() => {}
                None => {
                    let why = format!("tool call {number} goes on behind its end");
                    return Err(Garbled(why));
                }
            },
        }
        Ok(())
    }

    fn more_arguments(&self, more: &str, out: &mut BytesMut) {
        self.more(&json!({"type": "input_json_delta", "partial_json": more}), out);
    }

    fn flush(&mut self, out: &mut BytesMut) {
        while let Some(call) = self.waiting.pop_front() {
            self.start_call(&call, out);
        }
    }
}

fn is_whole(json: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok()
}

fn say(name: &str, fields: &Value, out: &mut BytesMut) {
    let mut event = json!({"type": name});
    if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
        event.extend(fields.clone());
    }
    out.extend_from_slice(format!("event: {name}\ndata: {event}\n\n").as_bytes());
}

impl Speaker for Said {
    fn answer(&mut self, answer: Answer) -> Bytes {
        Bytes::from(answer::write(&answer, &self.model).to_string())
    }

    fn delta(&mut self, delta: Delta, out: &mut BytesMut) -> Result<(), Garbled> {
        let thinking = json!({"type": "thinking", "thinking": "", "signature": ""});
        match delta {
            Delta::Start(theirs) => {
                let mut message = answer::write(
                    &Answer {
                        id: theirs,
                        parts: Vec::new(),
                        stop: Stop::End,
                        usage: Some(Usage::default()),
                    },
                    &self.model,
                );
                if let Some(reason) = message.get_mut("stop_reason") {
                    *reason = Value::Null;
                }
                say("message_start", &json!({"message": message}), out);
            }
            Delta::Text(text) => {
                self.turn_to(Open::Text, &json!({"type": "text", "text": ""}), out);
                self.more(&json!({"type": "text_delta", "text": text}), out);
            }
            Delta::Thought(text) => {
                self.turn_to(Open::Thought, &thinking, out);
                self.more(&json!({"type": "thinking_delta", "thinking": text}), out);
            }
            Delta::Signature(seal) => {
                self.turn_to(Open::Thought, &thinking, out);
                self.more(&json!({"type": "signature_delta", "signature": seal}), out);
                // What is sealed is complete.
                self.close(out);
            }
            Delta::Redacted(data) => {
                self.flush(out);
                let block = json!({"type": "redacted_thinking", "data": data});
                self.start(Open::Thought, &block, out);
                self.close(out);
            }
            Delta::Call { number, id, name } => {
                self.call(Waiting { number, id, name, arguments: String::new() }, out);
            }
            Delta::Arguments(number, more) => self.arguments(number, &more, out)?,
            Delta::Stop(stop) => self.stop = stop,
            Delta::Usage(usage) => self.usage = usage,
            Delta::Fault(fault) => {
                let kind = if fault.kind.is_empty() { "api_error" } else { &fault.kind };
                let fault = Fault { kind: kind.to_owned(), ..fault };
                out.extend_from_slice(&fault.event(Dialect::Anthropic));
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut BytesMut) {
        self.flush(out);
        self.close(out);
        let (reason, sequence) = stop_reason(&self.stop);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        let usage = answer::usage(&self.usage);
        say("message_delta", &json!({"delta": delta, "usage": usage}), out);
        say("message_stop", &json!({}), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Translator as _;
    use crate::protocol::openai;
    use crate::protocol::turn::{Bridge, Kind};

    /// The data of the events that `bridge` makes of these, and of its end.
    #[track_caller]
    fn through<L: Listener, S: Speaker>(mut bridge: Bridge<L, S>, data: &[Value]) -> Vec<Value> {
        let mut out = BytesMut::new();
        for data in data {
            bridge.event(format!("data: {data}\n\n").as_bytes(), &mut out).unwrap();
        }
        bridge.finish(&mut out).unwrap();
        let text = String::from_utf8(out.to_vec()).unwrap();
        text.lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data)))
            .collect()
    }

    fn to_chat(key: Key, include_usage: bool) -> Bridge<Heard, openai::stream::Said> {
        Bridge::new(Heard::new(key), openai::stream::Said::new("public", 7, include_usage))
    }

    fn start() -> Value {
        json!({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3}}})
    }

    fn end(reason: &str) -> Value {
        json!({"type": "message_delta", "delta": {"stop_reason": reason},
            "usage": {"output_tokens": 2}})
    }

    #[test]
    fn chunks_begin_with_the_role_and_end_with_usage_only_if_asked() {
        let events = [start(), json!({"type": "ping"}), end("end_turn")];
        let chunk = |choices: Value| {
            json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7,
                "model": "public", "choices": choices})
        };
        let role = chunk(json!([{"index": 0, "delta": {"role": "assistant", "content": ""},
            "finish_reason": null}]));
        let stop = chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]));
        let got = through(to_chat(Key::default(), false), &events);
        assert_eq!(got, [role, stop, json!("[DONE]")]);
        let got = through(to_chat(Key::default(), true), &events);
        assert_eq!(got[2]["choices"], json!([]));
        assert_eq!(got[2]["usage"]["total_tokens"], 5);
        assert_eq!(got[3], json!("[DONE]"));
    }

    #[test]
    fn a_call_begins_with_its_name_and_one_without_arguments_gets_an_empty_object() {
        let block = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
        let events = [
            start(),
            json!({"type": "content_block_start", "index": 0, "content_block": block}),
            json!({"type": "content_block_stop", "index": 0}),
            end("tool_use"),
        ];
        let got = through(to_chat(Key::default(), false), &events);
        let calls = |at: usize| got[at]["choices"][0]["delta"]["tool_calls"].clone();
        assert_eq!(
            calls(1),
            json!([{"index": 0, "id": "t", "type": "function",
                "function": {"name": "f", "arguments": ""}}])
        );
        assert_eq!(calls(2), json!([{"index": 0, "function": {"arguments": "{}"}}]));
        assert_eq!(got[3]["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn arguments_of_the_json_tool_are_the_answer() {
        let key = Key { json_tool: true, ..Key::default() };
        let block = json!({"type": "tool_use", "id": "t", "name": JSON_TOOL, "input": {}});
        let delta = |text: &str| json!({"type": "input_json_delta", "partial_json": text});
        let events = [
            start(),
            json!({"type": "content_block_start", "index": 0, "content_block": block}),
            json!({"type": "content_block_delta", "index": 0, "delta": delta("{\"a\":")}),
            json!({"type": "content_block_delta", "index": 0, "delta": delta("1}")}),
            json!({"type": "content_block_stop", "index": 0}),
            end("tool_use"),
        ];
        let got = through(to_chat(key.clone(), false), &events);
        let text: String = got
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, r#"{"a":1}"#);
        assert_eq!(got[3]["choices"][0]["finish_reason"], "stop");
        let whole = json!({"id": "m", "stop_reason": "tool_use", "content": [
            {"type": "tool_use", "id": "t", "name": JSON_TOOL, "input": {"a": 1}}]});
        let answer = answer::read(whole.to_string().as_bytes(), &key).unwrap();
        assert_eq!(answer.parts, [Kind::Text(r#"{"a":1}"#.to_owned())]);
        assert_eq!(answer.stop, Stop::End);
    }

    #[test]
    fn a_turn_that_comes_whole_in_its_beginning_is_read() {
        let block = json!({"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}});
        let message = json!({"id": "m", "content": [block], "stop_reason": "tool_use"});
        let events = [json!({"type": "message_start", "message": message})];
        let got = through(to_chat(Key::default(), false), &events);
        let call = &got[2]["choices"][0]["delta"]["tool_calls"][0];
        assert_eq!(call["function"]["arguments"], r#"{"x":1}"#);
    }

    #[test]
    fn an_error_in_the_stream_is_said_and_nothing_after_it() {
        let error = json!({"type": "error",
            "error": {"type": "overloaded_error", "message": "Overloaded"}});
        let got = through(to_chat(Key::default(), true), &[start(), error, end("end_turn")]);
        assert_eq!(got.len(), 2);
        assert_eq!(got[1]["error"]["type"], "overloaded_error");
        let to_messages = Bridge::new(openai::stream::Heard::default(), Said::new("public"));
        let error = json!({"error": {"message": "no"}});
        let got = through(to_messages, &[error]);
        assert_eq!(
            got,
            [json!({"type": "error", "error": {"type": "api_error", "message": "no"}})]
        );
    }

    #[test]
    fn a_stream_without_a_stop_reason_is_garbled() {
        let mut bridge = to_chat(Key::default(), false);
        let mut out = BytesMut::new();
        bridge.event(format!("data: {}\n\n", start()).as_bytes(), &mut out).unwrap();
        assert!(bridge.finish(&mut out).is_err());
        assert!(bridge.event(format!("data: {}\n\n", start()).as_bytes(), &mut out).is_err());
    }

    /// The reason why one of these events is refused.
    #[track_caller]
    fn refused<L: Listener, S: Speaker>(mut bridge: Bridge<L, S>, data: &[Value], why: &str) {
        let mut out = BytesMut::new();
        let told = data
            .iter()
            .find_map(|data| bridge.event(format!("data: {data}\n\n").as_bytes(), &mut out).err());
        let told = told.map(|garbled| garbled.to_string()).unwrap_or_default();
        assert!(told.contains(why), "{told}");
    }

    #[test]
    fn a_call_of_which_an_event_is_lost_is_refused() {
        let block = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
        let begin =
            |at: u8| json!({"type": "content_block_start", "index": at, "content_block": block});
        let delta = json!({"type": "input_json_delta", "partial_json": "{\"a\":1}"});
        let more = |at: u8| json!({"type": "content_block_delta", "index": at, "delta": delta});
        let stop = |at: u8| json!({"type": "content_block_stop", "index": at});
        let check = |events: &[Value], why| refused(to_chat(Key::default(), false), events, why);
        check(&[start(), more(0)], "block 0 has arguments and is not open");
        check(&[start(), begin(0), stop(0), more(1)], "block 1 has arguments and is not open");
        check(&[start(), begin(0), more(1)], "block 1 has arguments and is not open");
        check(&[start(), begin(0), stop(0), stop(1)], "block 1 ends and never began");
        check(&[start(), begin(0), begin(0)], "block 0 began twice");
    }

    #[test]
    fn a_block_ends_where_the_next_begins_or_the_message_does() {
        let block = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
        let begin = |at: u8| json!({"type": "content_block_start", "index": at, "content_block": block("t")});
        let events = [start(), begin(0), begin(1), end("tool_use")];
        let got = through(to_chat(Key::default(), false), &events);
        let arguments: String = got
            .iter()
            .filter_map(|chunk| {
                chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str()
            })
            .collect();
        assert_eq!(arguments, "{}{}");
    }

    #[test]
    fn arguments_behind_the_end_of_their_call_are_refused() {
        let chunk = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
        let call = |name: Option<&str>, more: &str| {
            chunk(json!({"tool_calls": [
                {"index": 0, "id": name, "function": {"name": name, "arguments": more}}]}))
        };
        let to_messages = Bridge::new(openai::stream::Heard::default(), Said::new("public"));
        let words = chunk(json!({"content": "wait"}));
        let events = [call(Some("a"), "{\"x\""), words, call(None, ":1}")];
        refused(to_messages, &events, "tool call 0 goes on behind its end");
    }

    #[test]
    fn blocks_of_a_chat_stream_come_one_after_the_other() {
        let call = |at: u8, name: Option<&str>, more: &str| {
            let id = name.map(|name| format!("c_{name}"));
            json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"tool_calls": [
                {"index": at, "id": id, "function": {"name": name, "arguments": more}}]}}]})
        };
        let text = |field: &str| json!({"choices": [{"index": 0, "delta": {field: "x"}}]});
        let stop = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]});
        let events = [
            text("reasoning"),
            text("content"),
            call(0, Some("a"), "{\"x\""),
            call(1, Some("b"), "{\"y\":2"),
            call(0, None, ":1}"),
            call(1, None, "}"),
            stop,
        ];
        let to_messages = Bridge::new(openai::stream::Heard::default(), Said::new("public"));
        let got = through(to_messages, &events);
        let story: Vec<String> = got
            .iter()
            .map(|event| {
                let kind = event["type"].as_str().unwrap();
                let index = event["index"].as_u64().map_or(String::new(), |it| it.to_string());
                let more = event["delta"]["partial_json"].as_str().unwrap_or_default();
                format!("{}{index}{more}", kind.trim_start_matches("content_block_"))
            })
            .collect();
        assert_eq!(
            story,
            [
                "message_start",
                "start0",
                "delta0",
                "stop0",
                "start1",
                "delta1",
                "stop1",
                "start2",
                "delta2{\"x\"",
                "delta2:1}",
                "stop2",
                "start3",
                "delta3{\"y\":2}",
                "stop3",
                "message_delta",
                "message_stop",
            ]
        );
    }
}
