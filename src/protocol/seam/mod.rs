//! Where a second stream takes the place of one that broke off.
//!
//! [`Sent`] keeps what the client has seen, [`Seam`] passes of the second stream only what the
//! client has not. Both read events in the client's own dialect. Promises that the client gets one
//! answer under one id, or that it learns of the [difference](Differs): a seam passes nothing
//! before it knows that what comes belongs behind what was sent.

mod joint;
mod parts;
mod sent;

use std::collections::VecDeque;

use bytes::BytesMut;
use serde_json::{Map, Value};

use super::Endpoint;
use super::Usage;
use super::watch::payload;
use joint::Joint;
use parts::Part;
use sent::Piece;

pub use sent::Sent;

/// The second stream is not the first one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Differs;

/// Joins a second stream to what was sent. See the [module](self).
#[derive(Debug)]
pub struct Seam {
    endpoint: Endpoint,
    labels: Map<String, Value>,
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
        let Sent { endpoint, labels, pieces: expected, .. } = sent;
        Self { endpoint, labels, expected, joint: None, before: None }
    }

    /// For a second stream that writes on behind what was sent, which used `before`.
    pub fn write_on(sent: Sent, before: Usage) -> Self {
        let text = sent.pieces.into_iter().find_map(|piece| match piece {
            Piece::Mark(_) => None,
            Piece::Text(_, text) => Some(text),
        });
        let joint = Some(Joint::behind(&text.unwrap_or_default()));
        let Sent { endpoint, labels, .. } = sent;
        Self { endpoint, labels, expected: VecDeque::new(), joint, before: Some(before) }
    }

    /// Whether what comes belongs behind what was sent.
    pub fn is_joined(&self) -> bool {
        self.expected.is_empty() && self.joint.is_none()
    }

    /// Whether the client gets the first stream and the second one behind it.
    pub fn writes_on(&self) -> bool {
        self.before.is_some()
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
        let mut tails = Vec::new();
        for part in parts::of(self.endpoint, json) {
            match part {
                Part::Mark(mark) => match self.expected.pop_front() {
                    Some(Piece::Mark(want)) if want == mark => {}
                    Some(Piece::Mark(_) | Piece::Text(..)) => return Err(Differs),
                    None => is_new = true,
                },
                Part::Text(kind, text) => {
                    let tail = self.behind(&kind, text)?.to_owned();
                    is_new |= !tail.is_empty();
                    tails.push(tail);
                }
                Part::End | Part::Other if self.is_joined() => is_new = true,
                Part::End | Part::Other => return Err(Differs),
            }
        }
        parts::put(self.endpoint, json, tails);
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
        let mut tails = Vec::new();
        for part in parts::of(self.endpoint, json) {
            match part {
                Part::Mark(mark) if *mark == *parts::FIRST_BLOCK => {}
                Part::End => ends = true,
                Part::Mark(mark) if *mark == *parts::FIRST_BLOCK_END => ends = true,
                Part::Text(kind, text) if matches!(&*kind, "content" | parts::FIRST_TEXT) => {
                    tails.push(joint.add(text));
                }
                Part::Mark(_) | Part::Other | Part::Text(..) => return Err(Differs),
            }
        }
        is_new |= ends || tails.iter().any(|tail| !tail.is_empty());
        parts::put(self.endpoint, json, tails);
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

    /// Passes an event under the names of the first stream.
    fn pass(&self, mut json: Map<String, Value>, out: &mut BytesMut) {
        if let Some(before) = &self.before {
            parts::add_usage(self.endpoint, &mut json, before);
        }
        if self.endpoint == Endpoint::Messages {
            let kind = json.get("type").and_then(Value::as_str).unwrap_or_default();
            out.extend_from_slice(format!("event: {kind}\n").as_bytes());
        } else {
            for (name, value) in &self.labels {
                if let Some(own) = json.get_mut(name) {
                    own.clone_from(value);
                }
            }
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
        let called = chat(&["{\"tool_calls\":[{\"index\":0}]}"]);
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
    fn nothing_follows_a_call_of_a_tool_a_second_choice_or_the_end() {
        for event in [
            chat(&["{\"tool_calls\":[{\"index\":0}]}"]).remove(0),
            words(&["x"]).remove(0).replace("\"index\":0", "\"index\":1"),
            end(),
            "data: [DONE]\n\n".to_owned(),
        ] {
            let mut sent = Sent::new(Endpoint::ChatCompletions).unwrap();
            sent.note(event.as_bytes());
            assert!(!sent.is_open(), "{event}");
        }
        assert!(Sent::new(Endpoint::Responses).is_none());
    }
}
