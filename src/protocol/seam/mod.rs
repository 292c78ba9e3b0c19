//! Where a second stream takes the place of one that broke off.
//!
//! [`Sent`] keeps what the client has seen, [`Seam`] passes of the second stream only what the
//! client has not. Both read events in the client's own dialect. Promises that the client gets one
//! answer under one id, or that it learns of the [difference](Differs): a seam passes nothing
//! before it knows that what comes belongs behind what was sent.

mod chunk;
mod joint;
mod message;
mod parts;
mod response;
mod sent;

use std::collections::{HashMap, VecDeque};

use bytes::BytesMut;
use serde_json::{Map, Value};

use super::Endpoint;
use super::Usage;
use super::watch::payload;
use joint::Joint;
use message::{FIRST_BLOCK, FIRST_BLOCK_END};
use parts::{Left, Part};
use sent::{NUMBER, Piece};

pub use sent::Sent;

/// The second stream is not the first one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Differs;

/// Joins a second stream to what was sent. See the [module](self).
#[derive(Debug)]
pub struct Seam {
    endpoint: Endpoint,
    labels: Map<String, Value>,
    /// What the client calls that which the second stream has another name for.
    names: HashMap<Box<str>, Box<str>>,
    /// The number of the last event that was passed, where they are numbered.
    number: Option<u64>,
    /// What must come again before anything is passed.
    expected: VecDeque<Piece>,
    /// Where the second stream writes on, and has not begun to.
    joint: Option<Joint>,
    /// What the first stream used, where the client gets both.
    before: Option<Usage>,
}

impl Seam {
    /// For a second stream that says from its beginning what was sent.
    pub fn restart(sent: Sent) -> Self {
        let Sent { endpoint, labels, number, pieces: expected, .. } = sent;
        let names = HashMap::new();
        Self { endpoint, labels, names, number, expected, joint: None, before: None }
    }

    /// For a second stream that writes on behind what was sent, which used `before`.
    pub fn write_on(mut sent: Sent, before: Usage) -> Self {
        let text = std::mem::take(&mut sent.pieces).into_iter().find_map(|piece| match piece {
            Piece::Mark(_) => None,
            Piece::Text(_, text) => Some(text),
        });
        let text = text.unwrap_or_default();
        let joint = match sent.endpoint {
            Endpoint::Completions => Joint::in_prompt(&text),
            Endpoint::ChatCompletions
            | Endpoint::CountTokens
            | Endpoint::Embeddings
            | Endpoint::Messages
            | Endpoint::Responses => Joint::behind(&text),
        };
        Self { joint: Some(joint), before: Some(before), ..Self::restart(sent) }
    }

    /// Whether what comes belongs behind what was sent.
    pub fn is_joined(&self) -> bool {
        self.expected.is_empty() && self.joint.is_none()
    }

    /// Whether the client gets the first stream and the second one behind it.
    pub fn writes_on(&self) -> bool {
        self.before.is_some()
    }

    /// How many bytes are kept of what must come again.
    pub fn kept(&self) -> usize {
        let kept = self.expected.iter().map(|piece| match piece {
            Piece::Mark(mark) => mark.what.len(),
            Piece::Text(_, text) => text.len(),
        });
        kept.sum()
    }

    /// Takes one event of the second stream and appends to `out` what of it is new.
    pub fn event(&mut self, event: &[u8], out: &mut BytesMut) -> Result<(), Differs> {
        let Some(data) = payload(event) else {
            out.extend_from_slice(event);
            return Ok(());
        };
        let Ok(mut json) = serde_json::from_slice::<Map<String, Value>>(&data) else {
            if self.is_joined() {
                out.extend_from_slice(event);
                return Ok(());
            }
            return Err(Differs);
        };
        let is_new = if self.joint.is_some() {
            self.write(&mut json, out)?
        } else if self.is_joined() {
            !parts::is_opening(self.endpoint, &json)
        } else {
            self.compare(&mut json)?
        };
        if is_new {
            self.pass(json, out);
        }
        Ok(())
    }

    /// Takes out of an event what was sent before; whether anything is left.
    fn compare(&mut self, json: &mut Map<String, Value>) -> Result<bool, Differs> {
        let mut is_new = parts::is_sign_of_life(self.endpoint, json);
        let mut left = Left::default();
        for part in parts::of(self.endpoint, json) {
            match part {
                Part::Mark(mark) => match self.expected.pop_front() {
                    Some(Piece::Mark(first)) if first.what == mark.what => {
                        self.names.extend(mark.ids.into_iter().zip(first.ids));
                        left.drop_mark(mark.what);
                    }
                    Some(Piece::Mark(_) | Piece::Text(..)) => return Err(Differs),
                    None => is_new = true,
                },
                Part::Text(kind, text) => {
                    let tail = self.behind(&kind, text)?.to_owned();
                    is_new |= !tail.is_empty();
                    left.keep(kind, tail);
                }
                Part::End | Part::Other if self.is_joined() => is_new = true,
                Part::End | Part::Other => return Err(Differs),
            }
        }
        parts::put(self.endpoint, json, left);
        Ok(is_new)
    }

    /// Takes out of an event what only repeats what was sent; whether anything is left.
    fn write(
        &mut self,
        json: &mut Map<String, Value>,
        out: &mut BytesMut,
    ) -> Result<bool, Differs> {
        let Some(joint) = &mut self.joint else { return Ok(true) };
        let (mut is_new, mut ends) = (parts::is_sign_of_life(self.endpoint, json), false);
        let mut left = Left::default();
        for part in parts::of(self.endpoint, json) {
            match part {
                Part::Mark(mark) if *mark.what == *FIRST_BLOCK => {}
                Part::End => ends = true,
                Part::Mark(mark) if *mark.what == *FIRST_BLOCK_END => ends = true,
                Part::Text(kind, text) if *kind == *parts::plain_text(self.endpoint) => {
                    left.keep(kind, joint.add(text));
                }
                Part::Mark(_) | Part::Other | Part::Text(..) => return Err(Differs),
            }
        }
        is_new |= ends || left.has_text();
        parts::put(self.endpoint, json, left);
        if ends {
            let kept = joint.end();
            if !kept.is_empty()
                && let Some(event) = parts::add_text(self.endpoint, json, &kept)
            {
                self.pass(event, out);
            }
        }
        if ends || self.joint.as_ref().is_some_and(Joint::is_over) {
            self.joint = None;
        }
        Ok(is_new)
    }

    /// What of a text comes behind what was sent.
    fn behind<'t>(&mut self, kind: &str, text: &'t str) -> Result<&'t str, Differs> {
        let mut left = text;
        while !left.is_empty() {
            let Some(Piece::Text(of, rest)) = self.expected.front_mut() else {
                return if self.is_joined() { Ok(left) } else { Err(Differs) };
            };
            if **of != *kind {
                return Err(Differs);
            }
            if let Some(behind) = left.strip_prefix(rest.as_str()) {
                left = behind;
                self.expected.pop_front();
            } else if rest.starts_with(left) {
                rest.drain(..left.len());
                left = "";
            } else {
                return Err(Differs);
            }
        }
        Ok(left)
    }

    /// The number of an event that comes behind all of them, where they are numbered.
    pub fn next_number(&self) -> Option<u64> {
        self.number.map(|last| last + 1)
    }

    /// Passes an event under the names of the first stream.
    fn pass(&mut self, mut json: Map<String, Value>, out: &mut BytesMut) {
        if let Some(before) = &self.before {
            parts::add_usage(self.endpoint, &mut json, before);
        }
        let name = |second: &str| self.names.get(second).map(|first| &**first);
        match self.endpoint {
            Endpoint::Messages => {}
            Endpoint::Responses => response::rename(&mut json, &self.labels, name),
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::CountTokens
            | Endpoint::Embeddings => chunk::rename(&mut json, &self.labels, name),
        }
        if let (Some(last), Some(number)) = (&mut self.number, json.get_mut(NUMBER)) {
            *last += 1;
            *number = (*last).into();
        }
        if let Endpoint::Messages | Endpoint::Responses = self.endpoint {
            out.extend_from_slice(format!("event: {}\n", parts::kind(&json)).as_bytes());
        }
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(Value::Object(json).to_string().as_bytes());
        out.extend_from_slice(b"\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(deltas: &[&str]) -> Vec<String> {
        let event = |delta: &&str| {
            format!(
                "data: {{\"id\":\"b\",\"created\":2,\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n"
            )
        };
        deltas.iter().map(event).collect()
    }

    fn words(words: &[&str]) -> Vec<String> {
        let deltas: Vec<_> =
            words.iter().map(|word| format!("{{\"content\":\"{word}\"}}")).collect();
        chat(&deltas.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn end() -> String {
        "data: {\"id\":\"b\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
            .to_owned()
    }

    /// What a client of `first` gets of `second`, or that they differ.
    fn join(endpoint: Endpoint, first: &[String], second: &[String]) -> Result<String, Differs> {
        let mut sent = Sent::new(endpoint).unwrap();
        for event in first {
            sent.note(event.as_bytes());
        }
        assert!(sent.is_open(), "{sent:?}");
        let mut seam = Seam::restart(sent);
        let mut out = BytesMut::new();
        for event in second {
            seam.event(event.as_bytes(), &mut out)?;
        }
        Ok(String::from_utf8(out.to_vec()).unwrap())
    }

    #[track_caller]
    fn check(first: &[&str], second: &[&str], want: Result<&str, Differs>) {
        let first: Vec<_> = words(first).iter().map(|it| it.replace("\"b\"", "\"a\"")).collect();
        let mut second = words(second);
        second.push(end());
        let got = join(Endpoint::ChatCompletions, &first, &second).map(|out| {
            assert!(!out.contains("\"b\""), "under the first id: {out}");
            let events =
                out.split("data: ").filter_map(|it| serde_json::from_str::<Value>(it).ok());
            let content = |event: Value| {
                event.pointer("/choices/0/delta/content").and_then(Value::as_str).map(str::to_owned)
            };
            events.filter_map(content).collect::<String>()
        });
        assert_eq!(got.as_deref().map_err(|differs| *differs), want);
    }

    #[test]
    fn the_same_text_goes_on_wherever_it_is_cut() {
        check(&["one ", "two"], &["one ", "two", " three"], Ok(" three"));
        check(&["one ", "two"], &["o", "ne two th", "ree"], Ok(" three"));
        check(&["one"], &["one two three"], Ok(" two three"));
        check(&["one"], &["one"], Ok(""));
        check(&["ä"], &["äö"], Ok("ö"));
    }

    #[test]
    fn another_text_is_told_and_nothing_of_it_is_passed() {
        check(&["one ", "two"], &["one ", "to"], Err(Differs));
        check(&["one two"], &["one"], Err(Differs));
        check(&["ä"], &["a"], Err(Differs));
        let first = words(&["one"]);
        let called = chat(&["{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\"}}]}"]);
        assert_eq!(join(Endpoint::ChatCompletions, &first, &called), Err(Differs));
        let thought = chat(&["{\"reasoning_content\":\"one\"}"]);
        assert_eq!(join(Endpoint::ChatCompletions, &first, &thought), Err(Differs));
        let done = vec!["data: [DONE]\n\n".to_owned()];
        assert_eq!(join(Endpoint::ChatCompletions, &first, &done), Err(Differs));
    }

    #[test]
    fn thoughts_are_compared_too() {
        let first = chat(&["{\"reasoning_content\":\"Hm\"}", "{\"content\":\"I\"}"]);
        let same =
            chat(&["{\"role\":\"assistant\",\"reasoning_content\":\"Hm\",\"content\":\"I am\"}"]);
        let out = join(Endpoint::ChatCompletions, &first, &same).unwrap();
        assert!(out.contains("\"content\":\" am\"") && !out.contains("Hm"), "{out}");
        let fewer = chat(&["{\"content\":\"I am\"}"]);
        assert_eq!(join(Endpoint::ChatCompletions, &first, &fewer), Err(Differs));
        let more = chat(&["{\"reasoning_content\":\"Hm!\"}"]);
        assert_eq!(join(Endpoint::ChatCompletions, &first, &more), Err(Differs));
    }

    fn message(text: &str) -> Vec<String> {
        [
            r#"{"type":"message_start","message":{"id":"m"}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"ping"}"#,
        ]
        .iter()
        .map(|it| (*it).to_owned())
        .chain([format!(
            r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
        )])
        .map(|data| format!("event: x\ndata: {data}\n\n"))
        .collect()
    }

    #[test]
    fn messages_are_joined_within_their_block() {
        let mut second = message("one two");
        let stop = r#"{"type":"content_block_stop","index":0}"#;
        second.push(format!("data: {stop}\n\n"));
        let out = join(Endpoint::Messages, &message("one"), &second).unwrap();
        assert_eq!(out.matches("message_start").count(), 0, "{out}");
        assert!(out.contains("event: content_block_delta\n") && out.contains("\" two\""), "{out}");
        assert!(out.ends_with(&format!("event: content_block_stop\ndata: {stop}\n\n")), "{out}");
        let other = message("one")
            .iter()
            .map(|it| it.replace("\"text\",", "\"thinking\","))
            .collect::<Vec<_>>();
        assert_eq!(join(Endpoint::Messages, &message("one"), &other), Err(Differs));
    }

    const SENT: &str = "This is long enough to go on.";

    /// What a client gets behind [`SENT`] and some spaces.
    #[track_caller]
    fn write_on(spaces: &str, second: &[&str], want: &str) {
        let mut sent = Sent::new(Endpoint::ChatCompletions).unwrap();
        for event in words(&[SENT, spaces]) {
            sent.note(event.replace("\"b\"", "\"a\"").as_bytes());
        }
        assert_eq!(sent.text(), Some(SENT));
        let mut seam = Seam::write_on(sent, Usage { completion: 8, ..Usage::default() });
        let mut out = BytesMut::new();
        let mut events = words(second);
        events.insert(0, chat(&["{\"role\":\"assistant\"}"]).remove(0));
        events.push(end());
        events.push("data: {\"id\":\"b\",\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":3,\"total_tokens\":23}}\n\n".to_owned());
        for event in events {
            seam.event(event.as_bytes(), &mut out).unwrap();
        }
        let out = String::from_utf8(out.to_vec()).unwrap();
        let events: Vec<_> =
            out.split("data: ").filter_map(|it| serde_json::from_str::<Value>(it).ok()).collect();
        let content = |event: &Value| {
            event.pointer("/choices/0/delta/content").and_then(Value::as_str).map(str::to_owned)
        };
        assert_eq!(events.iter().filter_map(content).collect::<String>(), want, "{out}");
        assert!(!out.contains("\"b\"") && !out.contains("role"), "{out}");
        assert_eq!(out.matches("\"stop\"").count(), 1, "{out}");
        let usage = &events.last().unwrap()["usage"];
        let want =
            serde_json::json!({ "prompt_tokens": 0, "completion_tokens": 11, "total_tokens": 11 });
        assert_eq!(usage, &want);
    }

    #[test]
    fn a_model_writes_on_and_nothing_is_said_twice() {
        write_on("", &[" So it", " does."], " So it does.");
        // The spaces that were sent, and that the model says too.
        write_on(" ", &[" So"], "So");
        write_on("  ", &[" ", " So"], "So");
        write_on(" ", &["So"], "So");
        // The beginning again, in pieces.
        write_on("", &["This is ", "long enough to go on. So"], " So");
        write_on(" ", &[SENT, " So"], "So");
        // What only looks like it, to the end and for a while.
        write_on("", &["This is"], "This is");
        write_on("", &["This ", "was"], "This was");
        write_on("", &[], "");
    }

    #[test]
    fn only_one_long_text_is_written_on() {
        let text = |endpoint, events: &[String]| {
            let mut sent = Sent::new(endpoint).unwrap();
            for event in events {
                sent.note(event.as_bytes());
            }
            sent.text().map(str::to_owned)
        };
        let chats = |deltas: &[&str]| text(Endpoint::ChatCompletions, &chat(deltas));
        let long = format!("{{\"content\":\"{SENT}\"}}");
        assert_eq!(chats(&[&long]).as_deref(), Some(SENT));
        assert_eq!(chats(&["{\"content\":\"short\"}"]), None);
        assert_eq!(chats(&["{\"reasoning\":\"Hm\"}", &long]), None);
        assert_eq!(text(Endpoint::Messages, &message(SENT)).as_deref(), Some(SENT));
        let mut closed = message(SENT);
        closed.push("data: {\"type\":\"content_block_stop\",\"index\":0}\n\n".to_owned());
        assert_eq!(text(Endpoint::Messages, &closed), None);
    }

    #[test]
    fn nothing_follows_a_second_choice_what_nobody_knows_or_the_end() {
        for event in [
            chat(&[r#"{"tool_calls":[{"index":0,"function":{"name":"f"},"extra":{"signed":1}}]}"#]),
            chat(&[r#"{"tool_calls":[{"index":0,"id":"unnamed"}]}"#]),
            chat(&[r#"{"function_call":{"name":"f"}}"#]),
            vec![words(&["x"]).remove(0).replace("\"index\":0", "\"index\":1")],
            vec![end()],
            vec!["data: [DONE]\n\n".to_owned()],
        ] {
            let mut sent = Sent::new(Endpoint::ChatCompletions).unwrap();
            sent.note(event[0].as_bytes());
            assert!(!sent.is_open(), "{event:?}");
        }
        assert!(Sent::new(Endpoint::Embeddings).is_none());
    }

    /// Pieces of calls of a chat: index, id, name and arguments.
    fn calls(pieces: &[(u8, &str, &str, &str)]) -> Vec<String> {
        let delta = |(index, id, name, arguments): &(u8, &str, &str, &str)| {
            let mut call = serde_json::json!({ "index": index, "function": {} });
            if !name.is_empty() {
                call["id"] = (*id).into();
                call["type"] = "function".into();
                call["function"]["name"] = (*name).into();
            }
            call["function"]["arguments"] = (*arguments).into();
            serde_json::json!({ "role": "assistant", "tool_calls": [call] }).to_string()
        };
        let deltas: Vec<_> = pieces.iter().map(delta).collect();
        chat(&deltas.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn a_call_goes_on_where_it_is_the_same() {
        let join = |first: &[_], second: &[_]| {
            join(Endpoint::ChatCompletions, &calls(first), &calls(second))
        };
        let first = [(0, "a0", "f", "{\"x\":"), (0, "", "", "1")];
        // Its name, id and first arguments are with the client already.
        let out = join(&first, &[(0, "b0", "f", "{\"x\":12"), (0, "", "", "}")]).unwrap();
        assert!(!out.contains("\"f\"") && !out.contains("b0") && !out.contains("role"), "{out}");
        assert!(!out.contains("\"type\""), "{out}");
        assert!(out.contains(r#""arguments":"2""#) && out.contains(r#""arguments":"}""#), "{out}");
        // A call that is over, and another behind it under its own id.
        let whole = [(0, "a0", "f", "{}")];
        let out = join(&whole, &[(0, "b0", "f", "{}"), (1, "b1", "g", "{}")]).unwrap();
        assert!(
            out.contains(r#""name":"g""#) && out.contains("b1") && !out.contains("b0"),
            "{out}"
        );
        for other in [
            [(0, "b0", "g", "{\"x\":1")],
            [(0, "b0", "f", "{\"x\":2")],
            [(0, "b0", "f", "{ \"x\":1")],
            [(1, "b0", "f", "{\"x\":1")],
        ] {
            assert_eq!(join(&first, &other), Err(Differs), "{other:?}");
        }
        // Some say the id in each piece.
        let mut again = calls(&[(0, "b0", "f", "{\"x\":1"), (0, "", "", "3}")]);
        again[1] = again[1].replace("[{\"index\":0,\"f", "[{\"index\":0,\"id\":\"b0\",\"f");
        let out = tests::join(Endpoint::ChatCompletions, &calls(&first), &again).unwrap();
        assert!(out.contains("a0") && !out.contains("b0"), "{out}");
    }

    #[test]
    fn a_call_of_messages_goes_on_in_its_block() {
        let call = |id: &str, name: &str, pieces: &[&str]| {
            let start = serde_json::json!({ "type": "content_block_start", "index": 0,
                "content_block": { "type": "tool_use", "id": id, "name": name, "input": {} } });
            let delta = |piece: &&str| {
                serde_json::json!({ "type": "content_block_delta", "index": 0,
                    "delta": { "type": "input_json_delta", "partial_json": piece } })
            };
            let events = [start].into_iter().chain(pieces.iter().map(delta));
            events.map(|event| format!("data: {event}\n\n")).collect::<Vec<_>>()
        };
        let first = call("a", "f", &["", "{\"x\"", ":1"]);
        let out = join(Endpoint::Messages, &first, &call("b", "f", &["{\"x\":12", "}"])).unwrap();
        assert!(out.contains(r#""partial_json":"2""#) && out.contains(r#""}""#), "{out}");
        assert!(!out.contains("content_block_start") && !out.contains("\"b\""), "{out}");
        for other in [call("b", "g", &["{\"x\":1"]), call("b", "f", &["{\"y\""])] {
            assert_eq!(join(Endpoint::Messages, &first, &other), Err(Differs));
        }
    }

    fn texts(words: &[&str]) -> Vec<String> {
        let event = |word: &&str| {
            format!(
                "data: {{\"id\":\"b\",\"choices\":[{{\"index\":0,\"text\":\"{word}\",\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
            )
        };
        words.iter().map(event).collect()
    }

    #[test]
    fn a_text_completion_goes_on() {
        let first: Vec<_> =
            texts(&["one ", "two"]).iter().map(|it| it.replace("\"b\"", "\"a\"")).collect();
        let out = join(Endpoint::Completions, &first, &texts(&["one", " two three"])).unwrap();
        assert!(out.contains(r#""text":" three""#) && !out.contains("one"), "{out}");
        assert!(out.contains("\"a\"") && !out.contains("\"b\""), "{out}");
        assert_eq!(join(Endpoint::Completions, &first, &texts(&["one", "two"])), Err(Differs));
        let rated =
            texts(&["one"])[0].replace("\"logprobs\":null", "\"logprobs\":{\"tokens\":[1]}");
        let mut sent = Sent::new(Endpoint::Completions).unwrap();
        sent.note(rated.as_bytes());
        assert!(!sent.is_open());
    }

    #[test]
    fn a_prompt_goes_on_behind_what_was_written() {
        let write_on = |second: &[&str]| {
            let mut sent = Sent::new(Endpoint::Completions).unwrap();
            for event in texts(&[SENT, " "]) {
                sent.note(event.as_bytes());
            }
            assert_eq!(sent.text(), Some(SENT));
            let mut seam = Seam::write_on(sent, Usage::default());
            let mut out = BytesMut::new();
            for event in texts(second) {
                seam.event(event.as_bytes(), &mut out).unwrap();
            }
            let out = String::from_utf8(out.to_vec()).unwrap();
            let events =
                out.split("data: ").filter_map(|it| serde_json::from_str::<Value>(it).ok());
            events.filter_map(|it| Some(it["choices"][0]["text"].as_str()?.to_owned())).collect()
        };
        let out: String = write_on(&[" So it", " does."]);
        assert_eq!(out, "So it does.");
        // Whoever says the same again means it: the beginning is in the prompt.
        let out: String = write_on(&[SENT]);
        assert_eq!(out, SENT);
    }

    /// Events of Responses with one message, each with the ids of an answer.
    fn response(of: &str, words: &[&str]) -> Vec<String> {
        let mut events = vec![
            format!(
                r#"{{"type":"response.created","response":{{"id":"resp_{of}","created_at":1,"output":[]}}}}"#
            ),
            format!(r#"{{"type":"response.in_progress","response":{{"id":"resp_{of}"}}}}"#),
            format!(
                r#"{{"type":"response.output_item.added","output_index":0,"item":{{"id":"msg_{of}","type":"message","status":"in_progress","role":"assistant","content":[]}}}}"#
            ),
            format!(
                r#"{{"type":"response.content_part.added","item_id":"msg_{of}","output_index":0,"content_index":0,"part":{{"type":"output_text","text":"","annotations":[]}}}}"#
            ),
        ];
        events.extend(words.iter().map(|word| {
            format!(r#"{{"type":"response.output_text.delta","item_id":"msg_{of}","output_index":0,"content_index":0,"delta":"{word}","logprobs":[]}}"#)
        }));
        numbered(&events)
    }

    /// The same with its ending.
    fn whole_response(of: &str, words: &[&str]) -> Vec<String> {
        let text = words.concat();
        let part = format!(r#"{{"type":"output_text","text":"{text}","annotations":[]}}"#);
        let item = format!(
            r#"{{"id":"msg_{of}","type":"message","status":"completed","role":"assistant","content":[{part}]}}"#
        );
        let place = format!(r#""item_id":"msg_{of}","output_index":0,"content_index":0"#);
        let ending = [
            format!(r#"{{"type":"response.output_text.done",{place},"text":"{text}"}}"#),
            format!(r#"{{"type":"response.content_part.done",{place},"part":{part}}}"#),
            format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{item}}}"#),
            format!(
                r#"{{"type":"response.completed","response":{{"id":"resp_{of}","created_at":2,"output":[{item}],"usage":{{"input_tokens":1}}}}}}"#
            ),
        ];
        let begun = response(of, words).into_iter().map(|event| {
            let mut json: Map<String, Value> =
                serde_json::from_slice(&payload(event.as_bytes()).unwrap()).unwrap();
            json.shift_remove(NUMBER);
            Value::Object(json).to_string()
        });
        numbered(&begun.chain(ending).collect::<Vec<_>>())
    }

    fn numbered(events: &[String]) -> Vec<String> {
        let number = |(number, event): (usize, &String)| {
            let event = event.replacen('{', &format!("{{\"sequence_number\":{number},"), 1);
            format!("event: x\ndata: {event}\n\n")
        };
        events.iter().enumerate().map(number).collect()
    }

    #[test]
    fn a_response_goes_on_under_its_own_names_and_numbers() {
        let first = response("a", &["one ", "two"]);
        let second = whole_response("b", &["one", " two", " three"]);
        let out = join(Endpoint::Responses, &first, &second).unwrap();
        assert!(!out.contains("_b\"") && !out.contains("\"created_at\":2"), "{out}");
        assert!(out.contains("\"delta\":\" three\"") && !out.contains("response.created"), "{out}");
        let ending = ["output_text.delta", "output_text.done", "content_part.done"];
        let ending = ending.into_iter().chain(["output_item.done", "completed"]);
        let names: Vec<_> =
            out.lines().filter_map(|it| it.strip_prefix("event: response.")).collect();
        assert_eq!(names, ending.collect::<Vec<_>>());
        let events = out.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> = events.map(|it| serde_json::from_str(it).unwrap()).collect();
        let numbers: Vec<_> = events.iter().map(|it| it[NUMBER].as_u64().unwrap()).collect();
        // The client has those up to 5.
        assert_eq!(numbers, [6, 7, 8, 9, 10]);
        assert_eq!(events[4]["response"]["output"][0]["id"], "msg_a");
        assert_eq!(events[4]["response"]["id"], "resp_a");
        assert_eq!(join(Endpoint::Responses, &first, &whole_response("b", &["one"])), Err(Differs));
        // Cut behind what is said of a part that is over, which must be the same too.
        let most = whole_response("a", &["one"]);
        let out = join(Endpoint::Responses, &most[..7], &whole_response("b", &["one"])).unwrap();
        assert!(out.starts_with("event: response.output_item.done\n"), "{out}");
        let other = whole_response("b", &["one"])
            .iter()
            .map(|it| it.replace("\"annotations\":[]", "\"annotations\":[1]"))
            .collect::<Vec<_>>();
        assert_eq!(join(Endpoint::Responses, &most[..7], &other), Err(Differs));
    }

    #[test]
    fn a_call_within_a_response_goes_on() {
        let call = |of: &str, pieces: &[&str]| {
            let begun = format!(
                r#"{{"type":"response.output_item.added","output_index":0,"item":{{"id":"fc_{of}","call_id":"call_{of}","type":"function_call","name":"f","arguments":"","status":"in_progress"}}}}"#
            );
            let delta = |piece: &&str| {
                serde_json::json!({ "type": "response.function_call_arguments.delta",
                    "item_id": format!("fc_{of}"), "output_index": 0, "delta": piece })
                .to_string()
            };
            numbered(&[begun].into_iter().chain(pieces.iter().map(delta)).collect::<Vec<_>>())
        };
        let over = r#"data: {"type":"response.output_item.done","output_index":0,"item":{"id":"fc_b","call_id":"call_b","type":"function_call","name":"f","arguments":"{}","status":"completed"}}"#;
        let mut second = call("b", &["{", "}"]);
        second.push(format!("{over}\n\n"));
        let out = join(Endpoint::Responses, &call("a", &["{"]), &second).unwrap();
        assert!(out.contains("fc_a") && out.contains("call_a") && !out.contains("_b\""), "{out}");
        let sealed = r#"data: {"type":"response.output_item.added","output_index":0,"item":{"id":"rs","type":"reasoning","summary":[],"encrypted_content":"x"}}"#;
        let mut sent = Sent::new(Endpoint::Responses).unwrap();
        sent.note(format!("{sealed}\n\n").as_bytes());
        assert!(!sent.is_open());
    }
}
