//! Which dialect a client and a provider speak, and whether the answer is streamed: the words of
//! each, good ones and errors.

use serde_json::Value;

use crate::support::chat;
use crate::support::script::{Step, send};
use crate::support::wire::Answer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    Anthropic,
    OpenAi,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) client: Words,
    pub(crate) provider: Words,
    pub(crate) stream: bool,
    /// Sets the words of one answer apart from those of all others; they are `Hello world` without.
    pub(crate) mark: Option<u32>,
    /// Its first piece is as long as another model needs to write on behind it.
    pub(crate) long: bool,
}

/// Every client with every provider, streamed and not.
pub(crate) const ALL: [Form; 8] = [
    Form::new(Words::OpenAi, Words::OpenAi, false),
    Form::new(Words::OpenAi, Words::OpenAi, true),
    Form::new(Words::Anthropic, Words::Anthropic, false),
    Form::new(Words::Anthropic, Words::Anthropic, true),
    Form::new(Words::OpenAi, Words::Anthropic, false),
    Form::new(Words::OpenAi, Words::Anthropic, true),
    Form::new(Words::Anthropic, Words::OpenAi, false),
    Form::new(Words::Anthropic, Words::OpenAi, true),
];

impl Form {
    const fn new(client: Words, provider: Words, stream: bool) -> Self {
        Self { client, provider, stream, mark: None, long: false }
    }

    /// `o>a s`: an OpenAI client, a provider that speaks Anthropic's, streamed.
    pub(crate) fn name(self) -> String {
        let letter = |words| if words == Words::OpenAi { "o" } else { "a" };
        let stream = if self.stream { "-s" } else { "" };
        format!("{}-{}{stream}", letter(self.client), letter(self.provider))
    }

    /// The prefix of the provider.
    pub(crate) fn prefix(self) -> &'static str {
        if self.provider == Words::OpenAi { "openai" } else { "anthropic" }
    }

    pub(crate) fn call(self, model: &str) -> String {
        self.call_saying(model, "hi")
    }

    pub(crate) fn call_saying(self, model: &str, prompt: &str) -> String {
        let stream = if self.stream { ",\"stream\":true" } else { "" };
        let body = chat::body_saying(model, prompt, &format!(",\"max_tokens\":50{stream}"));
        let path = if self.client == Words::OpenAi { "chat/completions" } else { "messages" };
        chat::post(&body).replace("chat/completions", path)
    }

    /// What a good answer says, in two pieces.
    pub(crate) fn words(self) -> [String; 2] {
        self.mark.map_or_else(
            || ["Hello".to_owned(), " world".to_owned()],
            |mark| {
                let more = if self.long { " is long enough to go on behind it" } else { "" };
                [format!("m{mark}{more}"), format!(" and m{mark}")]
            },
        )
    }

    /// A good answer.
    pub(crate) fn good(self) -> Vec<Step> {
        if self.stream {
            vec![send(chat::STREAM_HEAD), send(self.events().concat()), send(chat::LAST_CHUNK)]
        } else {
            vec![send(chat::json(200, &self.whole(&self.words().concat(), "stop")))]
        }
    }

    /// The body of an answer with this text that ended for this reason, in OpenAI's words.
    pub(crate) fn whole(self, text: &str, reason: &str) -> String {
        match self.provider {
            Words::OpenAi => format!(
                r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"{reason}"}}],"usage":{{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}}}"#
            ),
            Words::Anthropic => {
                let content = if text.is_empty() {
                    String::new()
                } else {
                    format!(r#"{{"type":"text","text":"{text}"}}"#)
                };
                let reason = match reason {
                    "stop" => "\"end_turn\"",
                    "content_filter" => "\"refusal\"",
                    _ => "null",
                };
                format!(
                    r#"{{"id":"c","type":"message","role":"assistant","model":"m","content":[{content}],"stop_reason":{reason},"stop_sequence":null,"usage":{{"input_tokens":7,"output_tokens":3}}}}"#
                )
            }
        }
    }

    /// The events of a good stream, each in its chunk: the beginning, two of content, the ending,
    /// the end mark.
    pub(crate) fn events(self) -> [String; 5] {
        let [first, second] = self.words();
        let (first, second) = (self.content(&first), self.content(&second));
        match self.provider {
            Words::OpenAi => {
                let usage = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;
                let begin = delta(r#"{"role":"assistant","content":""}"#, "null");
                let end = delta("{}", "\"stop\"") + &chat::event(usage);
                [begin, first, second, end, chat::event("[DONE]")]
            }
            Words::Anthropic => {
                let start = r#"{"type":"message_start","message":{"id":"c","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":7,"output_tokens":1}}}"#;
                let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
                let stop = r#"{"type":"content_block_stop","index":0}"#;
                let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":3}}"#;
                let begin = chat::event(start) + &chat::event(block);
                let end = chat::event(stop) + &chat::event(delta);
                [begin, first, second, end, chat::event(r#"{"type":"message_stop"}"#)]
            }
        }
    }

    /// The event of some more content.
    pub(crate) fn content(self, text: &str) -> String {
        match self.provider {
            Words::OpenAi => delta(&format!(r#"{{"content":"{text}"}}"#), "null"),
            Words::Anthropic => chat::event(&format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
            )),
        }
    }

    /// The provider's own words for an error.
    pub(crate) fn fault(self, kind: &str, code: &str, message: &str) -> String {
        match self.provider {
            Words::OpenAi => format!(
                r#"{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":"{code}"}}}}"#
            ),
            Words::Anthropic => {
                format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#)
            }
        }
    }

    /// Whether the client has the whole of a good answer, with its end and its usage.
    pub(crate) fn has_all(self, answer: &Answer) -> bool {
        let body = &answer.body;
        answer.status() == 200
            && !self.has_error(answer)
            && (!self.stream || answer.events().is_some())
            && match (self.client, self.stream) {
                (Words::OpenAi, false) => {
                    let json = answer.json();
                    json["choices"][0]["message"]["content"] == "Hello world"
                        && json["choices"][0]["finish_reason"] == "stop"
                        && json["usage"]["completion_tokens"] == 3
                }
                (Words::Anthropic, false) => {
                    let json = answer.json();
                    json["content"][0]["text"] == "Hello world"
                        && json["stop_reason"] == "end_turn"
                        && json["usage"]["output_tokens"] == 3
                }
                (Words::OpenAi, true) => {
                    body.matches("\"Hello\"").count() == 1
                        && body.matches("\" world\"").count() == 1
                        && body.matches("\"stop\"").count() == 1
                        && body.trim_end().ends_with("data: [DONE]")
                }
                (Words::Anthropic, true) => {
                    body.matches("\"Hello\"").count() == 1
                        && body.matches("\" world\"").count() == 1
                        && body.matches("end_turn").count() == 1
                        && body.matches("message_stop\"}").count() == 1
                }
            }
    }

    /// The pieces of text that a stream brought; `None` where a client could not read an event.
    pub(crate) fn pieces(self, answer: &Answer) -> Option<Vec<String>> {
        let text = |event: Value| {
            let piece = match self.client {
                Words::Anthropic => &event["delta"]["text"],
                Words::OpenAi => &event["choices"][0]["delta"]["content"],
            };
            piece.as_str().filter(|piece| !piece.is_empty()).map(str::to_owned)
        };
        Some(answer.events()?.into_iter().filter_map(text).collect())
    }

    /// Whether the client was told that the answer is not whole, and of no end.
    pub(crate) fn is_cut(self, answer: &Answer) -> bool {
        let end = ["[DONE]", "message_stop", "finish_reason\":\"", "end_turn"];
        answer.status() == 200
            && self.has_error(answer)
            && end.iter().all(|mark| !answer.body.contains(mark))
    }

    pub(crate) fn has_error(self, answer: &Answer) -> bool {
        match self.client {
            Words::OpenAi => answer.body.contains("\"error\":{"),
            Words::Anthropic => answer.body.contains("\"type\":\"error\""),
        }
    }

    /// Whether the client has an error in its own dialect with this status.
    pub(crate) fn is_refused(self, answer: &Answer, status: u16) -> bool {
        let json = answer.json();
        let of_client = match self.client {
            Words::OpenAi => json["error"]["type"].is_string(),
            Words::Anthropic => json["type"] == "error" && json["error"]["type"].is_string(),
        };
        answer.status() == status && of_client && !answer.message().is_empty()
    }
}

fn delta(delta: &str, reason: &str) -> String {
    chat::event(&format!(
        r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]}}"#
    ))
}
