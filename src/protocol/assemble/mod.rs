//! The whole answer that the events of a stream are pieces of.
//!
//! Some calls that want their answer in one piece are carried as streams, because only a stream
//! shows early that an answer is coming. Promises that nothing of the answer is lost: fields that
//! nobody here knows are put together by the same rules as those that everybody knows.

mod chunks;
mod message;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::watch::payload;
use super::{Endpoint, Garbled};

/// Puts the events of one stream together. See the [module](self).
#[derive(Debug)]
pub struct Assembly(Kind);

#[derive(Debug)]
enum Kind {
    Chunks(chunks::Chunks),
    Message(message::Message),
    /// The last event of a stream of Responses holds the whole of it.
    Response(Option<Value>),
}

impl Assembly {
    /// For a stream of `endpoint`; `None` where it has no streams.
    pub fn new(endpoint: Endpoint) -> Option<Self> {
        match endpoint {
            Endpoint::ChatCompletions => {
                Some(Self(Kind::Chunks(chunks::Chunks::new("chat.completion"))))
            }
            Endpoint::Completions => {
                Some(Self(Kind::Chunks(chunks::Chunks::new("text_completion"))))
            }
            Endpoint::Messages => Some(Self(Kind::Message(message::Message::default()))),
            Endpoint::Responses => Some(Self(Kind::Response(None))),
            Endpoint::CountTokens | Endpoint::Embeddings => None,
        }
    }

    /// Adds one event, with its `data:` and its blank line. Comments and end marks add nothing.
    pub fn event(&mut self, event: &[u8]) -> Result<(), Garbled> {
        let Some(data) = payload(event).filter(|data| !data.starts_with(b"[DONE]")) else {
            return Ok(());
        };
        let mut event: Map<String, Value> = serde_json::from_slice(&data)
            .map_err(|why| Garbled(format!("an event is no JSON object: {why}")))?;
        match &mut self.0 {
            Kind::Chunks(chunks) => chunks.add(event),
            Kind::Message(message) => message.add(event)?,
            Kind::Response(whole) => {
                let last = matches!(
                    event.get("type").and_then(Value::as_str),
                    Some("response.completed" | "response.incomplete")
                );
                if last {
                    *whole = event.remove("response");
                }
            }
        }
        Ok(())
    }

    /// The answer as the provider would have sent it in one piece.
    pub fn whole(self) -> Result<Bytes, Garbled> {
        let whole = match self.0 {
            Kind::Chunks(chunks) => chunks.whole()?,
            Kind::Message(message) => message.whole()?,
            Kind::Response(whole) => whole,
        };
        whole
            .map(|whole| Bytes::from(whole.to_string()))
            .ok_or_else(|| Garbled("its stream holds no answer".to_owned()))
    }
}

/// Whether a value says something; some providers fill fields they have nothing for.
pub(super) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Sets a field that comes whole: the last value that says something stays.
fn set(fields: &mut Map<String, Value>, name: String, value: Value) {
    if says_something(&value) || !fields.contains_key(&name) {
        fields.insert(name, value);
    }
}

/// Adds a piece of a field that comes in pieces.
fn add(fields: &mut Map<String, Value>, name: String, piece: Value) {
    if let Some(whole) = fields.get_mut(&name).filter(|whole| !whole.is_null()) {
        grow(whole, &name, piece);
    } else if let Value::Array(pieces) = piece {
        // Its items may be pieces of each other too.
        let mut whole = Vec::with_capacity(pieces.len());
        for piece in pieces {
            grow_list(&mut whole, &name, piece);
        }
        fields.insert(name, whole.into());
    } else {
        fields.insert(name, piece);
    }
}

fn grow(whole: &mut Value, name: &str, piece: Value) {
    match (whole, piece) {
        (_, Value::Null) => {}
        (Value::String(whole), Value::String(piece)) => grow_text(whole, name, &piece),
        (Value::Array(whole), Value::Array(pieces)) => {
            for piece in pieces {
                grow_list(whole, name, piece);
            }
        }
        // Contents that begin as a list of thoughts and go on as a text.
        (Value::Array(whole), Value::String(text)) => {
            grow_list(whole, name, json!({ "type": "text", "text": text }));
        }
        (whole @ Value::String(_), Value::Array(pieces)) => {
            let text = std::mem::replace(whole, Value::Array(Vec::new()));
            if says_something(&text) {
                grow(whole, name, text);
            }
            grow(whole, name, Value::Array(pieces));
        }
        (Value::Object(whole), Value::Object(pieces)) => {
            for (name, piece) in pieces {
                add(whole, name, piece);
            }
        }
        (whole, piece) => *whole = piece,
    }
}

fn grow_list(whole: &mut Vec<Value>, name: &str, piece: Value) {
    match place(whole, name, &piece).and_then(|at| whole.get_mut(at)) {
        Some(item) => grow(item, "", piece),
        None => whole.push(piece),
    }
}

/// Texts come in pieces, but for the words that say what a thing is: they come whole, and some
/// providers repeat them.
fn grow_text(whole: &mut String, name: &str, piece: &str) {
    let is_label = matches!(name, "format" | "id" | "object" | "role" | "type");
    let is_repeated = name == "name" && whole == piece;
    if whole.is_empty() || !(is_label || is_repeated) {
        whole.push_str(piece);
    }
}

/// Which item of a list a piece belongs to; `None` for a new one.
///
/// Its `index` says so; but some providers give every tool call the same, or none at all.
fn place(list: &[Value], name: &str, piece: &Value) -> Option<usize> {
    let text = |value: &Value| {
        value.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned)
    };
    let id = text(piece);
    let is_other = |item: &Value| id.is_some() && text(item).is_some_and(|own| Some(own) != id);
    let index = piece.get("index").filter(|index| index.is_number());
    let found = match (index, &id) {
        (Some(_), _) => list.iter().rposition(|item| item.get("index") == index),
        (None, Some(_)) => list.iter().rposition(|item| text(item) == id),
        (None, None) if name == "tool_calls" || goes_on(list, piece) => list.len().checked_sub(1),
        (None, None) => None,
    };
    found.filter(|at| list.get(*at).is_some_and(|item| !is_other(item)))
}

/// Whether a part of a content is the next piece of the last one: a text or thought of its type.
fn goes_on(list: &[Value], piece: &Value) -> bool {
    let Some(part) = piece.as_object() else { return false };
    let is_text = part
        .keys()
        .all(|name| matches!(&**name, "reasoning" | "summary" | "text" | "thinking" | "type"));
    let before = list.last().and_then(|part| part.get("type"));
    is_text && before.is_some() && before == part.get("type")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts events together, each given as its data.
    #[track_caller]
    fn check(endpoint: Endpoint, events: &[Value], want: &Value) {
        let mut assembly = Assembly::new(endpoint).unwrap();
        for event in events {
            assembly.event(format!("event: x\ndata: {event}\n\n").as_bytes()).unwrap();
        }
        assembly.event(b": ping\n\n").unwrap();
        assembly.event(b"data: [DONE]\n\n").unwrap();
        let whole: Value = serde_json::from_slice(&assembly.whole().unwrap()).unwrap();
        assert_eq!(&whole, want, "{whole:#}");
    }

    fn delta(delta: &Value) -> Value {
        json!({ "id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
    }

    fn stop(reason: &str) -> Value {
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
    }

    fn chat(message: &Value, reason: &str) -> Value {
        json!({ "id": "c", "object": "chat.completion", "created": 7, "model": "m",
            "choices": [{ "index": 0, "message": message, "finish_reason": reason }] })
    }

    #[test]
    fn texts_are_put_together_with_usage_and_fields_that_nobody_knows() {
        let usage = json!({ "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 });
        let mut want = chat(
            &json!({ "role": "assistant", "content": "Hello", "reasoning_content": "Hm.",
                "mood": { "level": 2, "word": "gay" } }),
            "stop",
        );
        want["usage"] = usage.clone();
        want["service_tier"] = json!("flex");
        check(
            Endpoint::ChatCompletions,
            &[
                delta(&json!({ "role": "assistant", "content": "" })),
                delta(&json!({ "reasoning_content": "H" })),
                delta(&json!({ "reasoning_content": "m.", "mood": { "level": 1, "word": "ga" } })),
                delta(&json!({ "role": "assistant", "content": "Hel" })),
                delta(&json!({ "content": "lo", "mood": { "level": 2, "word": "y" } })),
                stop("stop"),
                json!({ "id": "", "created": 0, "choices": [], "usage": usage, "service_tier": "flex" }),
            ],
            &want,
        );
    }

    #[test]
    fn tool_calls_are_told_apart_by_index_or_id() {
        let call = |id: &str, name: &str, arguments: &str| {
            json!({ "id": id, "type": "function",
                "function": { "name": name, "arguments": arguments } })
        };
        let both = chat(
            &json!({ "role": "assistant", "content": null,
                "tool_calls": [call("1", "f", "{\"a\":1}"), call("2", "g", "{}")] }),
            "tool_calls",
        );
        let with = |index: Value, mut call: Value| {
            if !index.is_null() {
                call["index"] = index;
            }
            delta(&json!({ "tool_calls": [call] }))
        };
        let more = |index: Value, arguments: &str| {
            with(index, json!({ "function": { "arguments": arguments } }))
        };
        let ordinary = [
            delta(&json!({ "role": "assistant", "content": null })),
            with(json!(0), call("1", "f", "")),
            more(json!(0), "{\"a\""),
            with(json!(1), call("2", "g", "{")),
            more(json!(0), ":1}"),
            more(json!(1), "}"),
            stop("tool_calls"),
        ];
        check(Endpoint::ChatCompletions, &ordinary, &both);
        let repeated = [
            with(json!(0), call("1", "f", "{\"a\"")),
            with(json!(0), call("1", "f", ":1}")),
            with(json!(1), call("2", "g", "{}")),
            stop("tool_calls"),
        ];
        check(Endpoint::ChatCompletions, &repeated, &both);
        let same_index = [
            with(json!(0), call("1", "f", "{\"a\":1}")),
            with(json!(0), call("2", "g", "{}")),
            stop("tool_calls"),
        ];
        check(Endpoint::ChatCompletions, &same_index, &both);
        let without_index = [
            with(Value::Null, call("1", "f", "{\"a\"")),
            more(Value::Null, ":1}"),
            with(Value::Null, call("2", "g", "{}")),
            stop("tool_calls"),
        ];
        check(Endpoint::ChatCompletions, &without_index, &both);
        let together = [
            delta(&json!({ "tool_calls": [call("1", "f", "{\"a\":1}"), call("2", "g", "{}")] })),
            stop("tool_calls"),
        ];
        check(Endpoint::ChatCompletions, &together, &both);
    }

    #[test]
    fn contents_in_parts_grow_by_their_type() {
        let thought = |text: &str| {
            json!({ "content": [{ "type": "reasoning",
                "summary": [{ "type": "summary_text", "text": text }] }] })
        };
        let cited = |url: &str| json!({ "annotations": [{ "type": "url_citation", "url": url }] });
        check(
            Endpoint::ChatCompletions,
            &[
                delta(&json!({ "content": "" })),
                delta(&thought("We")),
                delta(&thought(" need")),
                delta(&json!({ "content": "1," })),
                delta(&json!({ "content": " 2" })),
                delta(&cited("a")),
                delta(&cited("b")),
                stop("stop"),
            ],
            &chat(
                &json!({ "role": "assistant",
                    "content": [
                        { "type": "reasoning",
                            "summary": [{ "type": "summary_text", "text": "We need" }] },
                        { "type": "text", "text": "1, 2" },
                    ],
                    "annotations": [{ "type": "url_citation", "url": "a" },
                        { "type": "url_citation", "url": "b" }] }),
                "stop",
            ),
        );
    }

    #[test]
    fn what_is_said_twice_is_taken_once() {
        let both = json!({ "content": "a", "tool_calls": null });
        let mut chunk = delta(&both);
        chunk["choices"][0]["message"] = both;
        chunk["choices"][0]["usage"] = Value::Null;
        let text = json!({ "object": "completion.chunk", "choices": [
            { "index": 0, "text": "a", "delta": { "content": "a" }, "finish_reason": "stop" }] });
        let message = json!({ "role": "assistant", "content": "a", "tool_calls": null });
        check(Endpoint::ChatCompletions, &[chunk, stop("stop")], &chat(&message, "stop"));
        check(
            Endpoint::Completions,
            &[text],
            &json!({ "object": "text_completion", "choices": [
                { "index": 0, "text": "a", "finish_reason": "stop" }] }),
        );
    }

    #[test]
    fn numbers_stay_as_they_came() {
        let mut usage = stop("stop");
        usage["usage"] = json!({ "tokens_per_second": 0.0 });
        let text = usage.to_string().replace("0.0", "95.86165722454177");
        let mut assembly = Assembly::new(Endpoint::ChatCompletions).unwrap();
        assembly.event(format!("data: {text}\n\n").as_bytes()).unwrap();
        let whole = String::from_utf8(assembly.whole().unwrap().to_vec()).unwrap();
        assert!(whole.contains("95.86165722454177"), "{whole}");
    }

    #[test]
    fn choices_log_probabilities_and_texts_grow() {
        let piece = |index: u32, text: &str, reason: Value| {
            json!({ "id": "c", "object": "text_completion", "choices": [{ "index": index,
                "text": text, "finish_reason": reason, "logprobs": { "tokens": [text] } }] })
        };
        check(
            Endpoint::Completions,
            &[
                piece(1, "x", Value::Null),
                piece(0, "a", Value::Null),
                piece(0, "b", json!("length")),
                piece(1, "y", json!("stop")),
            ],
            &json!({ "id": "c", "object": "text_completion", "choices": [
                { "index": 0, "text": "ab", "finish_reason": "length",
                    "logprobs": { "tokens": ["a", "b"] } },
                { "index": 1, "text": "xy", "finish_reason": "stop",
                    "logprobs": { "tokens": ["x", "y"] } },
            ] }),
        );
    }

    #[test]
    fn usage_is_found_where_providers_put_it() {
        let usage = json!({ "prompt_tokens": 3, "completion_tokens": 2 });
        let mut want = chat(&json!({ "role": "assistant", "content": "a" }), "stop");
        want["usage"] = usage.clone();
        want["x_groq"] = json!({ "id": "r" });
        let mut last = stop("stop");
        last["x_groq"] = json!({ "id": "r", "usage": usage });
        check(Endpoint::ChatCompletions, &[delta(&json!({ "content": "a" })), last], &want);
        let mut last = stop("stop");
        last["choices"][0]["usage"] = usage;
        want.as_object_mut().unwrap().remove("x_groq");
        check(Endpoint::ChatCompletions, &[delta(&json!({ "content": "a" })), last], &want);
    }

    #[test]
    fn messages_are_put_together() {
        let start = |index: u32, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
        let delta = |index: u32, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
        let end = |index: u32| json!({ "type": "content_block_stop", "index": index });
        check(
            Endpoint::Messages,
            &[
                json!({ "type": "message_start", "message": { "id": "m", "type": "message",
                    "role": "assistant", "model": "c", "content": [], "stop_reason": null,
                    "stop_sequence": null, "usage": { "input_tokens": 9, "output_tokens": 1 } } }),
                json!({ "type": "ping" }),
                start(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
                delta(0, json!({ "type": "thinking_delta", "thinking": "H" })),
                delta(0, json!({ "type": "thinking_delta", "thinking": "m" })),
                delta(0, json!({ "type": "signature_delta", "signature": "s" })),
                end(0),
                start(1, json!({ "type": "text", "text": "" })),
                delta(1, json!({ "type": "text_delta", "text": "a" })),
                delta(1, json!({ "type": "citations_delta", "citation": { "n": 1 } })),
                delta(1, json!({ "type": "text_delta", "text": "b" })),
                end(1),
                start(2, json!({ "type": "tool_use", "id": "t", "name": "f", "input": {} })),
                delta(2, json!({ "type": "input_json_delta", "partial_json": "" })),
                delta(2, json!({ "type": "input_json_delta", "partial_json": "{\"a\":" })),
                delta(2, json!({ "type": "input_json_delta", "partial_json": "1}" })),
                end(2),
                start(3, json!({ "type": "tool_use", "id": "u", "name": "g", "input": {} })),
                end(3),
                json!({ "type": "message_delta", "usage": { "output_tokens": 5 },
                    "delta": { "stop_reason": "tool_use", "stop_sequence": null } }),
                json!({ "type": "message_stop" }),
            ],
            &json!({ "id": "m", "type": "message", "role": "assistant", "model": "c",
                "content": [
                    { "type": "thinking", "thinking": "Hm", "signature": "s" },
                    { "type": "text", "text": "ab", "citations": [{ "n": 1 }] },
                    { "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } },
                    { "type": "tool_use", "id": "u", "name": "g", "input": {} },
                ],
                "stop_reason": "tool_use", "stop_sequence": null,
                "usage": { "input_tokens": 9, "output_tokens": 5 } }),
        );
    }

    #[test]
    fn what_comes_before_a_message_is_no_part_of_it() {
        let message = json!({ "id": "m", "type": "message", "content": [] });
        let events = [
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_start", "message": message }),
            json!({ "type": "message_stop" }),
        ];
        check(Endpoint::Messages, &events, &message);
    }

    #[test]
    fn responses_end_with_the_whole() {
        let response = json!({ "id": "r", "status": "completed", "output": [] });
        check(
            Endpoint::Responses,
            &[
                json!({ "type": "response.created", "response": { "id": "r" } }),
                json!({ "type": "response.output_text.delta", "delta": "a" }),
                json!({ "type": "response.completed", "response": response }),
            ],
            &response,
        );
    }

    #[test]
    fn a_block_whose_end_is_unsaid_keeps_its_input() {
        let block = json!({ "type": "tool_use", "id": "t", "name": "f", "input": {} });
        let delta = json!({ "type": "input_json_delta", "partial_json": "{\"a\":1}" });
        check(
            Endpoint::Messages,
            &[
                json!({ "type": "message_start", "message": { "id": "m" } }),
                json!({ "type": "content_block_start", "index": 0, "content_block": block }),
                json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
            ],
            &json!({ "id": "m", "content": [
                { "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } }] }),
        );
    }

    #[test]
    fn what_is_no_answer_is_garbled() {
        let garbled = |endpoint, events: &[&str]| {
            let mut assembly = Assembly::new(endpoint).unwrap();
            let added = events
                .iter()
                .try_for_each(|data| assembly.event(format!("data: {data}\n\n").as_bytes()));
            added.and_then(|()| assembly.whole()).unwrap_err().to_string()
        };
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Messages, Endpoint::Responses] {
            assert!(garbled(endpoint, &[]).contains("holds no answer"));
            assert!(garbled(endpoint, &["[1]"]).contains("no JSON object"));
            assert!(garbled(endpoint, &["{"]).contains("no JSON object"));
        }
        let late = r#"{"type":"content_block_delta","index":4,"delta":{"type":"text_delta"}}"#;
        assert!(garbled(Endpoint::Messages, &[late]).contains("content block 4"));
        let broken = [
            r#"{"type":"message_start","message":{"id":"m"}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"partial_json":"{\"a"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
        ];
        assert!(garbled(Endpoint::Messages, &broken).contains("content block 0"));
        let call =
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#;
        assert!(garbled(Endpoint::ChatCompletions, &[call]).contains("names no function"));
        let begin = r#"{"type":"message_start","message":{"id":"m"}}"#;
        assert!(garbled(Endpoint::Messages, &[begin, begin]).contains("began twice"));
        let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text"}}"#;
        assert!(garbled(Endpoint::Messages, &[begin, block, block]).contains("began twice"));
        assert!(Assembly::new(Endpoint::Embeddings).is_none());
    }
}
