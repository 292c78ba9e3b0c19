//! A client that believes nothing: it takes a stream for whole only where each event can be read,
//! each piece belongs to something that has begun, and the end mark has come.

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
    let mut reader = Reader { wire, content: Content::default(), open: Vec::new(), end: End::Open };
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
        End::Fault | End::Garbled => Outcome::Refused(content),
        End::Mark => Outcome::Whole(content),
        End::Open => panic!("neither an end nor an error: {body}"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fault,
    /// What SDKs stumble over, whatever comes behind it.
    Garbled,
    Mark,
    Open,
}

struct Reader {
    wire: Wire,
    content: Content,
    /// Blocks that have begun, and for a call its place.
    open: Vec<(u64, Option<usize>)>,
    end: End,
}

impl Reader {
    fn data(&mut self, data: &str) {
        match self.end {
            End::Garbled => return,
            End::Fault => panic!("{data} behind an error"),
            End::Mark | End::Open => {}
        }
        if data == "[DONE]" {
            return self.ended();
        }
        let Ok(event) = serde_json::from_str::<Value>(data) else {
            self.end = End::Garbled;
            return;
        };
        if event["error"].is_object() {
            assert_eq!(self.end, End::Open, "an error behind the end");
            assert!(event["error"]["message"].is_string() && event["error"]["type"].is_string());
            assert_eq!(event["type"] == "error", self.wire == Wire::Messages);
            self.end = End::Fault;
            return;
        }
        let taken = match self.wire {
            Wire::Chat | Wire::Completions => self.chunk(&event),
            Wire::Messages => self.message_event(&event),
            Wire::Responses => self.response_event(&event),
        };
        if taken.is_none() {
            self.end = End::Garbled;
        }
    }

    fn ended(&mut self) {
        self.end = End::Mark;
    }

    fn chunk(&mut self, chunk: &Value) -> Option<()> {
        for choice in chunk["choices"].as_array()? {
            let delta = &choice["delta"];
            let text = choice["text"].as_str().or(delta["content"].as_str()).unwrap_or_default();
            *self.content.texts.entry(choice["index"].as_u64()?).or_default() += text;
            self.content.thought += delta["reasoning_content"].as_str().unwrap_or_default();
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let index = call["index"].as_u64()?;
                let known = self.open.iter().find(|(known, _)| *known == index);
                let at = match (known, call["function"]["name"].as_str()) {
                    (Some((_, at)), _) => (*at)?,
                    (None, name) => self.call(index, name?),
                };
                self.content.calls[at].1 += call["function"]["arguments"].as_str()?;
            }
        }
        Some(())
    }

    fn call(&mut self, index: u64, name: &str) -> usize {
        let at = self.content.calls.len();
        self.content.calls.push((name.to_owned(), String::new()));
        self.open.push((index, Some(at)));
        at
    }

    fn message_event(&mut self, event: &Value) -> Option<()> {
        let index = event["index"].as_u64();
        let known = self.open.iter().find(|(known, _)| Some(*known) == index).copied();
        match event["type"].as_str()? {
            "content_block_start" => {
                let (index, block) = (index?, &event["content_block"]);
                match known {
                    Some(_) => return None,
                    None if block["type"] == "tool_use" => {
                        self.call(index, block["name"].as_str()?);
                    }
                    None => self.open.push((index, None)),
                }
            }
            "content_block_delta" => {
                let (_, call) = known?;
                let delta = &event["delta"];
                let text = |name: &str| delta[name].as_str().unwrap_or_default();
                *self.content.texts.entry(0).or_default() += text("text");
                self.content.thought += text("thinking");
                if let Some(piece) = delta["partial_json"].as_str() {
                    self.content.calls[call?].1 += piece;
                }
            }
            "content_block_stop" => {
                known?;
            }
            "message_stop" => self.ended(),
            _ => {}
        }
        Some(())
    }

    fn response_event(&mut self, event: &Value) -> Option<()> {
        if event["type"] == "response.completed" {
            let text = event["response"]["output"][0]["content"][0]["text"].as_str()?;
            self.content.texts.insert(0, text.to_owned());
            self.ended();
        }
        Some(())
    }
}

/// What an answer in one piece says, in either dialect.
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
    if let Some(said) = answer["output"][0]["content"][0]["text"].as_str() {
        content.texts.insert(0, said.to_owned());
    }
    content.settled()
}
