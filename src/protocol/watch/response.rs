//! The events of a response, and what they tell of each other.
//!
//! Most providers number their events, and a number that does not follow shows that one is missing
//! or came twice. That is a doubt and no proof: Perplexity keeps events to itself that it has
//! numbered. It is settled when the answer ends, for then the provider has told it three times over:
//! in pieces, by each part when it was done, and as a whole.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Object, Sign, Usage};

/// What has been seen of one response.
#[derive(Debug, Clone, Default)]
pub(super) struct Response {
    has_content: bool,
    /// Whether the provider said how it ended.
    finished: bool,
    numbers: Numbers,
    sums: Sums,
}

impl Response {
    pub(super) fn is_whole(&self) -> bool {
        self.finished
    }

    /// The number of an event that comes behind all of them.
    pub(super) fn next_number(&self) -> u64 {
        match self.numbers {
            Numbers::Ascend(last)
            | Numbers::Fall(last)
            | Numbers::Leap(last)
            | Numbers::One(last) => last + 1,
            Numbers::None => 0,
        }
    }

    /// Reads an event, or the end mark that some send.
    pub(super) fn event(&mut self, event: Option<Object<'_>>, used: &mut Option<Usage>) -> Sign {
        let Some(event) = event else {
            return if self.has_content && !self.finished { Sign::Lost } else { Sign::Done };
        };
        let [kind, number, delta] = event.pick(["type", "sequence_number", "delta"]);
        let before = self.numbers;
        self.numbers.take(number.and_then(super::number));
        if kind.is_some_and(|kind| kind.ends_with(b".delta\"")) {
            self.sums.said += length(delta);
            if self.has_content {
                return Sign::Content;
            }
        }
        let Some(parsed) = event.parse::<Event<'_>>() else { return Sign::Life };
        let of_response = parsed.response.unwrap_or_default();
        let usage = of_response.usage.and_then(|usage| Usage::from_openai(usage.get().as_bytes()));
        *used = usage.or(*used);
        match &*parsed.kind {
            "error" | "response.failed" => {
                // The client gets another in its place.
                self.numbers = before;
                return Sign::Fault;
            }
            "response.completed" | "response.incomplete" => {
                if !self.finished && !self.sums.agree(self.numbers, of_response.output) {
                    return Sign::Lost;
                }
                self.finished = true;
            }
            kind => self.sums.take(kind, event),
        }
        self.has_content |= self.finished || matches!(last(&parsed.kind), "delta" | "done");
        if self.has_content { Sign::Content } else { Sign::Life }
    }
}

fn last(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or_default()
}

/// How the events of a stream are numbered, as far as they have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Numbers {
    /// Each has followed the one before, up to this one.
    Ascend(u64),
    /// One came before another that it should follow; the highest was this one.
    Fall(u64),
    /// One was left out or came twice, and then they went on up to this one.
    Leap(u64),
    /// There are none, or it is the same one each time.
    #[default]
    None,
    /// There is this one alone.
    One(u64),
}

impl Numbers {
    fn take(&mut self, number: Option<u64>) {
        let Some(next) = number else { return };
        *self = match *self {
            // Those who number begin with 0 or 1.
            Self::None if next <= 1 => Self::One(next),
            Self::Fall(last) => Self::Fall(last.max(next)),
            Self::Ascend(last) | Self::Leap(last) | Self::One(last) if next < last => {
                Self::Fall(last)
            }
            Self::One(last) if last == next => Self::One(last),
            Self::Ascend(last) | Self::One(last) if next - last == 1 => Self::Ascend(next),
            Self::Ascend(_) | Self::Leap(_) | Self::None | Self::One(_) => Self::Leap(next),
        };
    }
}

/// How much was said of an answer, in bytes of JSON: the same text is as long in pieces as it is
/// in one, and nothing need be read to see it.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    /// In pieces.
    said: u64,
    /// By parts that were done.
    done: u64,
    /// Items of the output that began, and that were done.
    items: (u64, u64),
}

impl Sums {
    /// Takes note of an event that is no piece.
    fn take(&mut self, kind: &str, event: Object<'_>) {
        match kind {
            "response.output_item.added" => self.items.0 += 1,
            "response.output_item.done" => self.items.1 += 1,
            kind if last(kind) == "done" => {
                let texts = ["text", "arguments", "input", "code", "refusal"];
                self.done += texts.iter().map(|name| length(event.get(name))).sum::<u64>();
            }
            _ => {}
        }
    }

    /// Whether nothing is missing when the answer ends with this output.
    fn agree(&self, numbers: Numbers, output: Option<&RawValue>) -> bool {
        match numbers {
            Numbers::Ascend(_) => true,
            // What comes in another order is as long and says something else.
            Numbers::Fall(_) => false,
            Numbers::Leap(_) => Output::of(output).is_some_and(|output| {
                self.said == self.done
                    && self.said == output.text
                    && self.items == (output.items, output.items)
            }),
            // Not every provider says everything in pieces, and some may tidy up what they say at
            // last: only less in pieces is certainly a loss.
            Numbers::None | Numbers::One(_) => {
                let told = self.done.max(Output::of(output).unwrap_or_default().text);
                self.said == 0 || self.said >= told
            }
        }
    }
}

/// The length of a text that is not read; nothing where there is none.
fn length(json: Option<&[u8]>) -> u64 {
    json.map_or(0, |json| match json {
        [b'"', text @ .., b'"'] => text.len() as u64,
        _ => 0,
    })
}

/// What the answer is at last.
#[derive(Debug, Clone, Copy, Default)]
struct Output {
    items: u64,
    /// The length of all that is said in pieces too.
    text: u64,
}

impl Output {
    /// `None` where it cannot be read.
    fn of(output: Option<&RawValue>) -> Option<Self> {
        let items: Vec<Item<'_>> = serde_json::from_str(output?.get()).ok()?;
        let text = items.iter().map(Item::length).sum();
        Some(Self { items: items.len() as u64, text })
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    response: Option<Holder<'a>>,
}

#[derive(Deserialize, Default)]
struct Holder<'a> {
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

/// One item of the output.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    summary: Option<&'a RawValue>,
}

impl Item<'_> {
    fn length(&self) -> u64 {
        let texts = [self.arguments, self.code, self.input].map(length_of);
        let parts = [self.content, self.summary].into_iter().flatten().map(|list| {
            let parts: Vec<Part<'_>> = serde_json::from_str(list.get()).unwrap_or_default();
            parts.iter().flat_map(|part| [part.refusal, part.text]).map(length_of).sum::<u64>()
        });
        texts.iter().sum::<u64>() + parts.sum::<u64>()
    }
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
}

fn length_of(text: Option<&RawValue>) -> u64 {
    length(text.map(|text| text.get().as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::Endpoint;
    use crate::protocol::watch::Watch;

    /// A thought, a text in two pieces with what JSON escapes in it, and a call.
    fn story() -> Vec<Value> {
        let text = |more: Value| with(&json!({"output_index": 1, "content_index": 0}), more);
        let items = [
            json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}),
            json!({"type": "message", "content": [{"type": "output_text", "text": "say \"é\"\n"}]}),
            json!({"type": "function_call", "name": "f", "arguments": "{\"a\":1}"}),
        ];
        let item = |kind: &str, at: usize| json!({"type": kind, "item": items[at]});
        let (added, done) = ("response.output_item.added", "response.output_item.done");
        vec![
            json!({"type": "response.created", "response": {"output": []}}),
            json!({"type": "response.in_progress", "response": {"output": []}}),
            item(added, 0),
            json!({"type": "response.reasoning_summary_text.delta", "delta": "hm"}),
            json!({"type": "response.reasoning_summary_text.done", "text": "hm"}),
            item(done, 0),
            item(added, 1),
            text(json!({"type": "response.content_part.added", "part": {"text": ""}})),
            text(json!({"type": "response.output_text.delta", "delta": "say \""})),
            text(json!({"type": "response.output_text.delta", "delta": "é\"\n"})),
            text(json!({"type": "response.output_text.done", "text": "say \"é\"\n"})),
            text(json!({"type": "response.content_part.done", "part": {"text": "say \"é\"\n"}})),
            item(done, 1),
            item(added, 2),
            json!({"type": "response.function_call_arguments.delta", "delta": "{\"a\":"}),
            json!({"type": "response.function_call_arguments.delta", "delta": "1}"}),
            json!({"type": "response.function_call_arguments.done", "arguments": "{\"a\":1}"}),
            item(done, 2),
            json!({"type": "response.completed", "response": {"output": items}}),
        ]
    }

    fn with(event: &Value, more: Value) -> Value {
        let mut all = more;
        all.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        all
    }

    fn numbered(from: u64) -> Vec<Value> {
        let number = |(at, event)| with(&json!({"sequence_number": at}), event);
        (from..).zip(story()).map(number).collect()
    }

    fn is_whole(events: &[Value]) -> bool {
        let mut watch = Watch::new(Endpoint::Responses);
        let signs = events.iter().map(|event| watch.event(format!("data: {event}\n\n").as_bytes()));
        let signs: Vec<Sign> = signs.collect();
        assert_eq!(signs.contains(&Sign::Lost), !watch.is_whole(), "{signs:?}");
        watch.is_whole()
    }

    /// What is whole with one event changed, by its place; the end is never one of them.
    fn forgiven(events: &[Value], change: impl Fn(&mut Vec<Value>, usize)) -> Vec<String> {
        let last = events.len() - 1;
        let survives = |at: &usize| {
            let mut events = events.to_vec();
            change(&mut events, *at);
            is_whole(&events)
        };
        let name = |at: usize| events[at]["type"].as_str().unwrap().replace("response.", "");
        (0..last).filter(survives).map(name).collect()
    }

    const WITHOUT_CONTENT: [&str; 4] =
        ["created", "in_progress", "content_part.added", "content_part.done"];

    #[test]
    fn what_is_numbered_without_a_gap_is_whole() {
        assert!(is_whole(&numbered(0)));
        assert!(is_whole(&numbered(1)));
        let chained: Vec<Value> = numbered(0).into_iter().chain(numbered(0)).collect();
        assert!(is_whole(&chained), "what comes behind the end is not judged");
    }

    #[test]
    fn numbers_are_believed_before_sums() {
        let mut events = numbered(0);
        events[10]["text"] = json!("something else, and longer");
        assert!(is_whole(&events));
    }

    #[test]
    fn a_gap_is_forgiven_only_where_nothing_of_the_answer_is_in_it() {
        for from in [0, 1] {
            let forgiven = forgiven(&numbered(from), |events, at| {
                events.remove(at);
            });
            assert_eq!(forgiven, WITHOUT_CONTENT);
        }
    }

    #[test]
    fn a_number_that_comes_twice_is_forgiven_only_where_nothing_is_said_twice() {
        let forgiven = forgiven(&numbered(0), |events, at| {
            let again = events[at].clone();
            events.insert(at, again);
        });
        assert_eq!(forgiven, WITHOUT_CONTENT);
    }

    #[test]
    fn events_that_change_places_are_never_forgiven() {
        let forgiven = forgiven(&numbered(1), |events, at| events.swap(at, at + 1));
        assert_eq!(forgiven, [""; 0]);
    }

    #[test]
    fn a_gap_is_not_forgiven_where_the_end_does_not_tell_the_whole() {
        for output in [json!([]), Value::Null, json!("x")] {
            let mut events = numbered(0);
            events.last_mut().unwrap()["response"]["output"] = output;
            assert!(is_whole(&events));
            events.remove(1);
            assert!(!is_whole(&events));
        }
    }

    #[test]
    fn many_events_that_are_gone_together_are_missed() {
        // All of the text: its pieces and its sum, but not its item.
        let mut events = numbered(0);
        events.drain(7..12);
        assert!(!is_whole(&events));
        // The whole item.
        let mut events = numbered(0);
        events.drain(6..13);
        assert!(!is_whole(&events));
    }

    #[test]
    fn without_numbers_less_in_pieces_than_at_last_is_a_loss() {
        let number = |number: i64| move |event| with(&json!({"sequence_number": number}), event);
        let constant: Vec<Value> = story().into_iter().map(number(-1)).collect();
        let zero: Vec<Value> = story().into_iter().map(number(0)).collect();
        for events in [story(), constant, zero] {
            assert!(is_whole(&events));
            let forgiven = forgiven(&events, |events, at| {
                events.remove(at);
            });
            assert!(!forgiven.iter().any(|kind| last(kind) == "delta"), "{forgiven:?}");
            // Some say nothing in pieces.
            let mut whole = events.clone();
            whole.retain(|event| last(event["type"].as_str().unwrap()) != "delta");
            assert!(is_whole(&whole));
        }
    }

    #[test]
    fn a_response_that_failed_is_a_fault_and_its_number_is_free() {
        for kind in ["error", "response.failed"] {
            let mut watch = Watch::new(Endpoint::Responses);
            for event in numbered(0).iter().take(10) {
                watch.event(format!("data: {event}\n\n").as_bytes());
            }
            let event = json!({"type": kind, "sequence_number": 10, "response": {"output": []}});
            assert_eq!(watch.event(format!("data: {event}\n\n").as_bytes()), Sign::Fault);
            assert!(!watch.is_whole() && !watch.is_over());
            assert_eq!(watch.next_number(), Some(10));
        }
    }

    #[test]
    fn an_end_mark_is_no_end_of_a_response() {
        let mut watch = Watch::new(Endpoint::Responses);
        for event in numbered(0).iter().take(10) {
            watch.event(format!("data: {event}\n\n").as_bytes());
        }
        assert_eq!(watch.event(b"data: [DONE]\n\n"), Sign::Lost);
        assert!(!watch.is_whole());
    }
}
