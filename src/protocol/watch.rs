//! Reading a stream that passes by: when it has content, what it used, whether it is whole.
//!
//! The watch follows a provider's own events, before any translation. It parses an event only
//! until the first content has come, and later only those that carry usage or an error.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Endpoint, Fields, Usage, sse};

/// Every event is searched for these: to make a search is as much as to search a short event.
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
static INDEX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"index\""));
static STOP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"stop_reason\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// What one event means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Something the client waits for.
    Content,
    /// The provider's own end mark, `[DONE]` or `message_stop`.
    Done,
    /// An error; the event's data is its body.
    Fault,
    /// An event that is broken; what it held of the answer is lost.
    Garbled,
    /// A sign of life: a role, a ping, a comment.
    Life,
    /// Broken or no event at all, and nothing of the answer is lost with it. No client could read
    /// it, so it is passed over.
    Noise,
    /// The event that only carries usage, which a client sees only if it asked.
    Usage,
}

/// Follows one stream. See the [module](self).
#[derive(Debug, Clone)]
pub struct Watch {
    endpoint: Endpoint,
    /// What the provider says was used, so far.
    pub usage: Option<Usage>,
    /// Whether content has come.
    has_content: bool,
    /// Whether the provider said why it stopped, so that the answer is whole.
    finished: bool,
    /// Which choices have begun, and which of them have ended, bit by bit.
    begun: u128,
    ended: u128,
    /// Events with content so far. Where a provider tells no usage this is the best guess at the
    /// tokens of the answer: most send one by one.
    pub content_events: u64,
}

impl Watch {
    /// A watch over the events of `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            usage: None,
            has_content: false,
            finished: false,
            begun: 0,
            ended: 0,
            content_events: 0,
        }
    }

    /// Whether the answer is whole if the stream ends now.
    pub fn is_whole(&self) -> bool {
        self.finished
    }

    /// Reads one event.
    pub fn event(&mut self, event: &[u8]) -> Sign {
        let Some(data) = payload(event) else {
            return if is_comment(event) { Sign::Life } else { Sign::Noise };
        };
        if let Some(broken) = self.broken(&data) {
            return broken;
        }
        let sign = match self.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => self.chunk(&data),
            Endpoint::Messages | Endpoint::CountTokens => self.message_event(&data),
            Endpoint::Responses | Endpoint::Embeddings => self.response_event(&data),
        };
        self.content_events += u64::from(sign == Sign::Content);
        sign
    }

    /// What an event is that cannot be read; `None` for one that can. Every event is an object, but
    /// for the end mark.
    fn broken(&self, data: &[u8]) -> Option<Sign> {
        let data = data.trim_ascii();
        match data.first() {
            Some(b'{') if Fields::of(data).is_ok() => None,
            // Once the provider has said why it stopped, only its usage is still to come.
            Some(b'{') if self.finished || memmem::find(data, b"\"ping\"").is_some() => {
                Some(Sign::Noise)
            }
            Some(b'{') => Some(Sign::Garbled),
            Some(_) if data.starts_with(b"[DONE]") => None,
            // Clients take even an empty text for an event, and fail to read it.
            None | Some(_) => Some(Sign::Noise),
        }
    }

    fn chunk(&mut self, data: &[u8]) -> Sign {
        if data.starts_with(b"[DONE]") {
            self.finished = true;
            return Sign::Done;
        }
        if ERROR.find(data).is_some() && has_error(data) {
            return Sign::Fault;
        }
        let usage_only = self.chunk_usage(data);
        let ends = self.ends(data);
        if usage_only {
            return Sign::Usage;
        }
        if !(self.has_content || ends || chunk_has_content(data)) {
            return Sign::Life;
        }
        self.has_content = true;
        Sign::Content
    }

    /// Keeps which choices have ended; says whether one does here. The answer is whole when all have
    /// that have begun, and a chunk that cannot be read ends none.
    fn ends(&mut self, data: &[u8]) -> bool {
        // The first choice needs no look: nothing is whole before one has ended.
        let names_another = INDEX.find_iter(data).any(|at| {
            let behind = data.get(at + 7..).unwrap_or_default();
            let digit = behind.iter().find(|byte| !matches!(byte, b' ' | b':' | b'\t'));
            matches!(digit, Some(b'1'..=b'9'))
        });
        if !names_another && !has_reason(data, &FINISH) {
            return false;
        }
        let Ok(chunk) = serde_json::from_slice::<Reasons<'_>>(data) else { return false };
        let mut ends = false;
        for choice in chunk.choices.unwrap_or_default() {
            let bit = 1_u128 << choice.index.unwrap_or(0).min(127);
            self.begun |= bit;
            if choice.finish_reason.is_some_and(|reason| !reason.is_empty()) {
                self.ended |= bit;
                ends = true;
            }
        }
        self.finished |= ends;
        self.finished &= self.begun & !self.ended == 0;
        ends
    }

    /// Keeps the usage of a chunk; says whether there is nothing else in it.
    fn chunk_usage(&mut self, data: &[u8]) -> bool {
        let named = USAGE.find(data);
        let Some(at) = named else { return false };
        let behind = data.get(at + 7..).unwrap_or_default();
        let value = behind.iter().position(|byte| !matches!(byte, b' ' | b':' | b'\t'));
        if value.and_then(|at| behind.get(at)) != Some(&b'{') {
            return false;
        }
        let Ok(fields) = Fields::of(data) else { return false };
        let usage = fields.get(data, "usage").and_then(Usage::from_openai);
        let usage = usage.or_else(|| nested_usage(data, &fields));
        if usage.is_some() {
            self.usage = usage;
        }
        usage.is_some() && fields.get(data, "choices").is_some_and(is_empty_list)
    }

    fn message_event(&mut self, data: &[u8]) -> Sign {
        if self.has_content && type_at_once(data) == Some(b"content_block_delta") {
            return Sign::Content;
        }
        let Ok(event) = serde_json::from_slice::<MessageEvent<'_>>(data) else { return Sign::Life };
        if let Some(usage) = event.usage.or(event.message.and_then(|message| message.usage)) {
            let _ = self.usage.get_or_insert_default().merge_anthropic(usage.get().as_bytes());
        }
        match &*event.kind {
            "error" => return Sign::Fault,
            "message_stop" => {
                self.finished = true;
                return Sign::Done;
            }
            "message_delta" if event.delta.is_some_and(|delta| delta.stop_reason.is_some()) => {
                self.finished = true;
                self.has_content = true;
            }
            "content_block_delta" => self.has_content = true,
            "content_block_start" => {
                // A text block starts empty; a tool call or a hosted tool's result is content.
                let text = event
                    .content_block
                    .is_some_and(|block| matches!(&*block.kind, "text" | "thinking"));
                self.has_content |= !text;
            }
            _ => {}
        }
        if self.has_content { Sign::Content } else { Sign::Life }
    }

    fn response_event(&mut self, data: &[u8]) -> Sign {
        if data.starts_with(b"[DONE]") {
            return Sign::Done;
        }
        if self.has_content && type_at_once(data).is_some_and(|kind| kind.ends_with(b".delta")) {
            return Sign::Content;
        }
        let Ok(event) = serde_json::from_slice::<ResponseEvent<'_>>(data) else {
            return Sign::Life;
        };
        if let Some(usage) = event.response.and_then(|response| response.usage)
            && let Some(usage) = Usage::from_openai(usage.get().as_bytes())
        {
            self.usage = Some(usage);
        }
        match &*event.kind {
            "error" => return Sign::Fault,
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.finished = true;
                self.has_content = true;
            }
            kind => {
                let last = kind.rsplit('.').next();
                self.has_content |= matches!(last, Some("delta" | "done"));
            }
        }
        if self.has_content { Sign::Content } else { Sign::Life }
    }
}

/// The data of an event, without a copy in the usual case of one `data:` line.
pub fn payload(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    if let Some(rest) = event.strip_prefix(b"data:") {
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, behind) = rest.split_at(end);
        if behind.iter().all(u8::is_ascii_whitespace) {
            return Some(Cow::Borrowed(line.strip_prefix(b" ").unwrap_or(line)));
        }
    }
    sse::data(event)
}

/// The type of an event that begins with it, as those of the dialects' own providers do. Elsewhere
/// in the event the same words may be content.
fn type_at_once(data: &[u8]) -> Option<&[u8]> {
    let rest = data.strip_prefix(b"{\"type\":")?;
    let rest = rest.strip_prefix(b" ").unwrap_or(rest).strip_prefix(b"\"")?;
    rest.get(..memchr::memchr(b'"', rest)?)
}

/// Whether an event holds comments alone, as keep-alives do. One with a name and no data is half an
/// event, and SDKs fail on it.
fn is_comment(event: &[u8]) -> bool {
    event
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .all(|line| matches!(line.first(), None | Some(b':')))
}

/// Whether an object has an `error` that is something.
fn has_error(data: &[u8]) -> bool {
    let error = Fields::of(data).ok().and_then(|fields| {
        let value = fields.get(data, "error")?;
        Some(!matches!(value, b"null" | b"false" | b"\"\"" | b"{}"))
    });
    error.unwrap_or(false)
}

/// Whether the name is followed by a string that is not empty.
fn has_reason(data: &[u8], name: &Finder<'_>) -> bool {
    name.find_iter(data).any(|at| {
        let behind = data.get(at + name.needle().len()..).unwrap_or_default();
        let mut behind = behind.iter().filter(|byte| !matches!(byte, b' ' | b':' | b'\t'));
        behind.next() == Some(&b'"') && behind.next() != Some(&b'"')
    })
}

fn is_empty_list(json: &[u8]) -> bool {
    json.iter().filter(|byte| !byte.is_ascii_whitespace()).eq(b"[]")
}

/// Where some providers put the usage: Groq in `x_groq`, Moonshot in the choice.
fn nested_usage(data: &[u8], fields: &Fields) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Holder<'a> {
        #[serde(borrow)]
        usage: Option<&'a serde_json::value::RawValue>,
    }
    let of = |holder: Holder<'_>| Usage::from_openai(holder.usage?.get().as_bytes());
    let groq = fields.parse::<Holder<'_>>(data, "x_groq").and_then(of);
    groq.or_else(|| fields.parse::<Vec<Holder<'_>>>(data, "choices")?.into_iter().find_map(of))
}

/// Whether a whole answer holds nothing: no content, and no reason why it has ended. One that was
/// ended for a reason may well be empty.
pub fn says_nothing(endpoint: Endpoint, body: &[u8], fields: &Fields) -> bool {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => {
            !has_reason(body, &FINISH) && !chunk_has_content(body)
        }
        Endpoint::Messages => {
            !has_reason(body, &STOP) && fields.get(body, "content").is_none_or(is_empty_list)
        }
        Endpoint::CountTokens | Endpoint::Embeddings | Endpoint::Responses => false,
    }
}

/// Whether a chunk of a chat or text completion, or a whole one, carries anything but a role.
fn chunk_has_content(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow, default)]
        choices: Option<Vec<Choice<'a>>>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow, default)]
        delta: Option<&'a serde_json::value::RawValue>,
        #[serde(borrow, default)]
        message: Option<&'a serde_json::value::RawValue>,
        #[serde(borrow, default)]
        text: Option<Cow<'a, str>>,
    }
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return false };
    chunk.choices.unwrap_or_default().iter().any(|choice| {
        let text = choice.text.as_ref().is_some_and(|text| !text.is_empty());
        let mut parts = choice.delta.iter().chain(&choice.message);
        text || parts.any(|part| delta_has_content(part.get().as_bytes()))
    })
}

/// Any field of the delta but the role that is not null, `""`, `[]` or `{}`.
fn delta_has_content(delta: &[u8]) -> bool {
    Fields::of(delta).is_ok_and(|fields| {
        fields.iter(delta).any(|(name, value)| {
            name != "role" && !matches!(value, b"null" | b"\"\"" | b"[]" | b"{}")
        })
    })
}

#[derive(Deserialize)]
struct Reasons<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Reason<'a>>>,
}

#[derive(Deserialize)]
struct Reason<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct MessageEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Option<Holder<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a serde_json::value::RawValue>,
    #[serde(default)]
    delta: Option<MessageDelta>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
}

#[derive(Deserialize)]
struct Holder<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct MessageDelta {
    #[serde(default)]
    stop_reason: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ResponseEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    response: Option<Holder<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(endpoint: Endpoint, events: &[&str]) -> (Vec<Sign>, Watch) {
        let mut watch = Watch::new(endpoint);
        let signs = events.iter().map(|data| watch.event(format!("data: {data}\n\n").as_bytes()));
        (signs.collect(), watch)
    }

    #[test]
    fn a_role_is_life_and_text_is_content() {
        let (signs, watch) = signs(
            Endpoint::ChatCompletions,
            &[
                r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
                r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#,
                r#"{"choices":[{"delta":{},"finish_reason": "stop"}]}"#,
                r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
                "[DONE]",
            ],
        );
        assert_eq!(signs, [Sign::Life, Sign::Content, Sign::Content, Sign::Usage, Sign::Done]);
        assert!(watch.is_whole());
        assert_eq!(watch.usage.unwrap().total(), 5);
    }

    #[test]
    fn tool_calls_reasoning_and_refusals_are_content() {
        for delta in [
            r#"{"tool_calls":[{"index":0,"id":"x"}]}"#,
            r#"{"reasoning_content":"hm"}"#,
            r#"{"refusal":"no"}"#,
        ] {
            let chunk = format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#);
            assert_eq!(signs(Endpoint::ChatCompletions, &[&chunk]).0, [Sign::Content], "{delta}");
        }
        let text = r#"{"choices":[{"text":"a","finish_reason":null}]}"#;
        assert_eq!(signs(Endpoint::Completions, &[text]).0, [Sign::Content]);
    }

    #[test]
    fn an_answer_without_a_reason_to_stop_is_not_whole() {
        let chunk = r#"{"choices":[{"delta":{"content":"say \"finish_reason\":\"stop\""},"finish_reason":""}]}"#;
        let (_, watch) = signs(Endpoint::ChatCompletions, &[chunk]);
        assert!(!watch.is_whole());
    }

    #[test]
    fn an_answer_of_two_choices_is_whole_when_both_have_ended() {
        let chunk = |index: u8, reason: &str| {
            format!(r#"{{"choices":[{{"index":{index},"text":"a","finish_reason":{reason}}}]}}"#)
        };
        let whole = |chunks: &[String]| {
            let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
            signs(Endpoint::Completions, &chunks).1.is_whole()
        };
        let (first, second) = (chunk(0, "\"stop\""), chunk(1, "\"length\""));
        assert!(whole(std::slice::from_ref(&first)));
        assert!(!whole(&[chunk(0, "null"), chunk(1, "null"), first.clone()]));
        assert!(!whole(&[first.clone(), chunk(1, "null")]));
        assert!(whole(&[chunk(1, "null"), second, first]));
    }

    #[test]
    fn a_chunk_that_is_cut_behind_its_reason_ends_nothing() {
        let chunk = r#"{"choices":[{"finish_reason":"stop","delta":{"content":"the last"#;
        assert!(!signs(Endpoint::ChatCompletions, &[chunk]).1.is_whole());
    }

    #[test]
    fn content_that_looks_like_the_type_of_an_event_does_not_hide_the_end() {
        let (signs, watch) = signs(
            Endpoint::Responses,
            &[
                r#"{"type":"response.output_text.delta","delta":"a"}"#,
                r#"{"type":"response.completed","response":{"output":[{"text":"a.delta"}],"usage":{"input_tokens":1,"output_tokens":1}}}"#,
            ],
        );
        assert_eq!(signs, [Sign::Content, Sign::Content]);
        assert!(watch.is_whole() && watch.usage.is_some());
    }

    #[test]
    fn an_error_is_a_fault_and_a_null_error_is_not() {
        let fault = r#"{"error":{"message":"x"}}"#;
        assert_eq!(signs(Endpoint::ChatCompletions, &[fault]).0, [Sign::Fault]);
        let fine = r#"{"error":null,"choices":[{"delta":{"content":"a"}}]}"#;
        assert_eq!(signs(Endpoint::ChatCompletions, &[fine]).0, [Sign::Content]);
        let said = r#"{"choices":[{"delta":{"content":"{\"error\":1}"}}]}"#;
        assert_eq!(signs(Endpoint::ChatCompletions, &[said]).0, [Sign::Content]);
    }

    #[test]
    fn usage_is_found_where_providers_put_it() {
        let usage = r#"{"prompt_tokens":1,"completion_tokens":2}"#;
        for chunk in [
            format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"stop"}}],"usage":{usage}}}"#),
            format!(r#"{{"choices":[{{"delta":{{}}}}],"x_groq":{{"id":"r","usage":{usage}}}}}"#),
            format!(r#"{{"choices":[{{"delta":{{}},"usage":{usage}}}]}}"#),
        ] {
            let (signs, watch) = signs(Endpoint::ChatCompletions, &[&chunk]);
            assert_eq!(watch.usage.unwrap().total(), 3, "{chunk}");
            assert_ne!(signs, [Sign::Usage], "{chunk}");
        }
        let null = r#"{"choices":[{"delta":{"content":"a"}}],"usage":null}"#;
        assert_eq!(signs(Endpoint::ChatCompletions, &[null]).1.usage, None);
    }

    #[test]
    fn anthropic_streams_are_read_by_their_own_events() {
        let (signs, watch) = signs(
            Endpoint::Messages,
            &[
                r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}"#,
                r#"{"type":"ping"}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
                r#"{"type":"message_stop"}"#,
            ],
        );
        let (life, content) = (Sign::Life, Sign::Content);
        assert_eq!(signs, [life, life, life, content, content, Sign::Done]);
        assert!(watch.is_whole());
        assert_eq!(watch.usage.unwrap().total(), 14);
    }

    #[test]
    fn response_streams_are_read_by_their_own_events() {
        let (signs, watch) = signs(
            Endpoint::Responses,
            &[
                r#"{"type":"response.created","response":{"usage":null}}"#,
                r#"{"type":"response.output_text.delta","delta":"a"}"#,
                r#"{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":1}}}"#,
            ],
        );
        assert_eq!(signs, [Sign::Life, Sign::Content, Sign::Content]);
        assert!(watch.is_whole());
        assert_eq!(watch.usage.unwrap().total(), 2);
    }

    #[test]
    fn a_broken_event_is_noise_unless_something_of_the_answer_is_lost() {
        let content = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
        let end = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let broken = r#"{"choices":[{"delta":{"content":"a"#;
        let chat = |events: &[&str]| signs(Endpoint::ChatCompletions, events).0.pop().unwrap();
        assert_eq!(chat(&[content, broken]), Sign::Garbled);
        assert_eq!(chat(&[broken]), Sign::Garbled);
        assert_eq!(chat(&[content, r#"{"id":"#]), Sign::Garbled);
        assert_eq!(chat(&[content, end, broken]), Sign::Noise);
        for noise in ["", " ", "hello", "\"hello\"", "7", "<html>", r#"{"type":"ping",}"#] {
            assert_eq!(chat(&[content, noise]), Sign::Noise, "{noise}");
        }
        let delta = r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#;
        let half = &delta[..delta.len() - 3];
        assert_eq!(signs(Endpoint::Messages, &[delta, half]).0, [Sign::Content, Sign::Garbled]);
    }

    #[test]
    fn an_answer_says_nothing_without_content_and_reason() {
        use Endpoint::{ChatCompletions, Completions, Messages};
        let check = |endpoint, body: &str, want: bool| {
            let fields = Fields::of(body.as_bytes()).unwrap();
            assert_eq!(says_nothing(endpoint, body.as_bytes(), &fields), want, "{body}");
        };
        let chat = |message: &str, reason: &str| {
            format!(r#"{{"choices":[{{"message":{message},"finish_reason":{reason}}}]}}"#)
        };
        check(ChatCompletions, r#"{"choices":[]}"#, true);
        check(ChatCompletions, &chat(r#"{"role":"assistant","content":""}"#, "null"), true);
        check(ChatCompletions, &chat(r#"{"role":"assistant","content":null}"#, "\"\""), true);
        check(ChatCompletions, &chat(r#"{"role":"assistant","content":""}"#, "\"length\""), false);
        check(ChatCompletions, &chat(r#"{"role":"assistant","content":"a"}"#, "null"), false);
        check(ChatCompletions, &chat(r#"{"tool_calls":[{"id":"t"}]}"#, "null"), false);
        check(Completions, r#"{"choices":[{"text":"","finish_reason":null}]}"#, true);
        check(Completions, r#"{"choices":[{"text":"a","finish_reason":null}]}"#, false);
        check(Messages, r#"{"content":[ ],"stop_reason":null}"#, true);
        check(Messages, r#"{"content":[],"stop_reason":"end_turn"}"#, false);
        check(Messages, r#"{"content":[{"type":"text"}],"stop_reason":null}"#, false);
    }

    #[test]
    fn comments_and_named_events_are_told_apart_from_data() {
        let mut watch = Watch::new(Endpoint::ChatCompletions);
        assert_eq!(watch.event(b": keep-alive\n\n"), Sign::Life);
        assert_eq!(watch.event(b": one\r\n: two\r\n\r\n"), Sign::Life);
        for half in ["event: x\n\n", "event: x", "retry: 3\n\n", ": c\nid: 7\n\n"] {
            assert_eq!(watch.event(half.as_bytes()), Sign::Noise, "{half}");
        }
        let named = b"event: x\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        assert_eq!(watch.event(named), Sign::Content);
    }
}
