//! Reading a stream that passes by: when it has content, what it used, whether it is whole.
//!
//! The watch follows a provider's own events, before any translation. Of every event it finds the
//! fields; it parses them only until the first content has come, and later only where they carry
//! usage, an error or an end.

mod chunks;
mod message;
mod response;

use std::borrow::Cow;

use memchr::memmem::{self, Finder};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Endpoint, Fields, Usage, sse};
use chunks::Chunks;
use message::Message;
use response::Response;

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
    /// An event that does not follow from those before it: others are missing, and something of the
    /// answer with them.
    Lost,
    /// Broken or no event at all, and nothing of the answer is lost with it. No client could read
    /// it, so it is passed over.
    Noise,
    /// The event that only carries usage, which a client sees only if it asked.
    Usage,
}

/// Follows one stream. See the [module](self).
#[derive(Debug, Clone)]
pub struct Watch {
    /// What the provider says was used, so far.
    pub usage: Option<Usage>,
    /// Events with content so far. Where a provider tells no usage this is the best guess at the
    /// tokens of the answer: most send one by one.
    pub content_events: u64,
    /// Whether something of the answer is known to be lost.
    has_gap: bool,
    course: Course,
}

/// What has been seen of a stream, in the way of its endpoint.
#[derive(Debug, Clone)]
enum Course {
    Chunks(Chunks),
    Message(Message),
    Response(Response),
}

impl Watch {
    /// A watch over the events of `endpoint`, of which one answer was asked for.
    pub fn new(endpoint: Endpoint) -> Self {
        Self::of_choices(endpoint, 1)
    }

    /// The same where so many choices of an answer were asked for.
    pub fn of_choices(endpoint: Endpoint, choices: u32) -> Self {
        let course = match endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => {
                Course::Chunks(Chunks::of(choices))
            }
            Endpoint::CountTokens | Endpoint::Messages => Course::Message(Message::default()),
            Endpoint::Embeddings | Endpoint::Responses => Course::Response(Response::default()),
        };
        Self { usage: None, content_events: 0, has_gap: false, course }
    }

    /// Whether the answer is whole if the stream ends now.
    pub fn is_whole(&self) -> bool {
        !self.has_gap
            && match &self.course {
                Course::Chunks(chunks) => chunks.is_whole(),
                Course::Message(message) => message.is_whole(),
                Course::Response(response) => response.is_whole(),
            }
    }

    /// Whether a whole answer has an end mark and no reason why it ended, as some providers send it.
    pub fn has_no_reason(&self) -> bool {
        match &self.course {
            Course::Chunks(chunks) => chunks.has_no_reason(),
            Course::Message(_) | Course::Response(_) => false,
        }
    }

    /// Whether nothing of the answer can come any more, though its body has not ended: the end of a
    /// response is its own last event.
    pub fn is_over(&self) -> bool {
        match &self.course {
            Course::Chunks(_) | Course::Message(_) => false,
            Course::Response(response) => response.is_whole(),
        }
    }

    /// The number of an event that comes behind all of them, where events have numbers.
    pub fn next_number(&self) -> Option<u64> {
        match &self.course {
            Course::Chunks(_) | Course::Message(_) => None,
            Course::Response(response) => Some(response.next_number()),
        }
    }

    /// Reads one event.
    pub fn event(&mut self, event: &[u8]) -> Sign {
        let Some(data) = payload(event) else {
            return if is_comment(event) { Sign::Life } else { Sign::Noise };
        };
        let sign = self.data(data.trim_ascii());
        self.content_events += u64::from(sign == Sign::Content);
        self.has_gap |= matches!(sign, Sign::Garbled | Sign::Lost);
        sign
    }

    /// Reads what an event holds: an object, but for the end mark.
    fn data(&mut self, data: &[u8]) -> Sign {
        match data.first() {
            Some(b'{') => match &Fields::of(data) {
                Ok(fields) => self.follow(Some(Object { data, fields })),
                // Once the provider has said why it stopped, only its usage is still to come.
                Err(_) if self.is_whole() || memmem::find(data, b"\"ping\"").is_some() => {
                    Sign::Noise
                }
                Err(_) => Sign::Garbled,
            },
            Some(_) if data.starts_with(b"[DONE]") => self.follow(None),
            // Clients take even an empty text for an event, and fail to read it.
            None | Some(_) => Sign::Noise,
        }
    }

    fn follow(&mut self, event: Option<Object<'_>>) -> Sign {
        let usage = &mut self.usage;
        match &mut self.course {
            Course::Chunks(chunks) => chunks.event(event, usage),
            Course::Message(message) => message.event(event, usage),
            Course::Response(response) => response.event(event, usage),
        }
    }
}

/// The object that an event is.
#[derive(Debug, Clone, Copy)]
struct Object<'d> {
    data: &'d [u8],
    /// Not its own: to move them costs as much as to look for one.
    fields: &'d Fields,
}

impl<'d> Object<'d> {
    /// The JSON text of a field.
    fn get(&self, name: &str) -> Option<&'d [u8]> {
        self.fields.get(self.data, name)
    }

    /// The JSON texts of several fields.
    fn pick<const N: usize>(&self, names: [&str; N]) -> [Option<&'d [u8]>; N] {
        self.fields.pick(self.data, names)
    }

    /// The whole of it, where it has this form.
    fn parse<T: Deserialize<'d>>(&self) -> Option<T> {
        serde_json::from_slice(self.data).ok()
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

/// Whether an event holds comments alone, as keep-alives do. One with a name and no data is half an
/// event, and SDKs fail on it.
fn is_comment(event: &[u8]) -> bool {
    event
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .all(|line| matches!(line.first(), None | Some(b':')))
}

/// What stands where a reason to stop is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Given,
    /// There is a place for it, and nothing in it.
    Open,
    /// Not even a place.
    Unknown,
}

impl Reason {
    /// What stands behind the name, of which there may be several.
    fn of(data: &[u8], name: &Finder<'_>) -> Self {
        let mut found = Self::Unknown;
        for at in name.find_iter(data) {
            let behind = data.get(at + name.needle().len()..).unwrap_or_default();
            let mut behind = behind.iter().filter(|byte| !matches!(byte, b' ' | b':' | b'\t'));
            if behind.next() == Some(&b'"') && behind.next() != Some(&b'"') {
                return Self::Given;
            }
            found = Self::Open;
        }
        found
    }
}

/// The value of a number without sign or fraction; none that is longer than any count can be.
fn number(json: &[u8]) -> Option<u64> {
    if json.is_empty() || json.len() > 18 {
        return None;
    }
    json.iter().try_fold(0, |sum, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
    })
}

fn is_empty_list(json: &[u8]) -> bool {
    json.iter().filter(|byte| !byte.is_ascii_whitespace()).eq(b"[]")
}

/// Whether a whole answer holds nothing: no content, and no reason why it has ended. One that was
/// ended for a reason may well be empty.
pub fn says_nothing(endpoint: Endpoint, body: &[u8], fields: &Fields) -> bool {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => chunks::says_nothing(body),
        Endpoint::Messages => message::says_nothing(body, fields),
        Endpoint::CountTokens | Endpoint::Embeddings | Endpoint::Responses => false,
    }
}

/// Where the parts of an answer tell what it used.
#[derive(Debug, Deserialize)]
struct Holder<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
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
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
                r#"{"type":"message_stop"}"#,
            ],
        );
        let (life, content) = (Sign::Life, Sign::Content);
        assert_eq!(signs, [life, life, life, content, content, content, Sign::Done]);
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
        let start = r#"{"type":"content_block_start","content_block":{"type":"tool_use"}}"#;
        let half = &start[..start.len() - 3];
        assert_eq!(signs(Endpoint::Messages, &[half]).0, [Sign::Garbled]);
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

    #[test]
    fn a_number_is_digits_and_not_endless() {
        let check =
            |text: &str, want: Option<u64>| assert_eq!(number(text.as_bytes()), want, "{text}");
        check("0", Some(0));
        check("4711", Some(4711));
        check("999999999999999999", Some(999_999_999_999_999_999));
        for none in ["", "-1", "1.5", "1e3", "null", "\"7\"", "18446744073709551616"] {
            check(none, None);
        }
    }
}
