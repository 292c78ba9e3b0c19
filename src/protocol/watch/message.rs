//! The events of a message, and the order in which they come.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::{Fields, Holder, Object, Reason, Sign, Usage, is_empty_list, number};

/// What has been seen of one message.
#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    has_content: bool,
    order: Order,
}

impl Message {
    pub(super) fn is_whole(&self) -> bool {
        self.order.is_whole()
    }

    /// Reads an event.
    pub(super) fn event(&mut self, event: Option<Object<'_>>, used: &mut Option<Usage>) -> Sign {
        let Some(event) = event else { return Sign::Life };
        let [kind, index] = event.pick(["type", "index"]);
        let index = index.and_then(number);
        if self.has_content && kind == Some(b"\"content_block_delta\"") {
            return if self.order.is_open(index) { Sign::Content } else { Sign::Lost };
        }
        let Some(event) = event.parse::<Event<'_>>() else { return Sign::Life };
        if let Some(usage) = event.usage.or(event.message.and_then(|message| message.usage)) {
            let _ = used.get_or_insert_default().merge_anthropic(usage.get().as_bytes());
        }
        let stops = event.delta.as_ref().is_some_and(|delta| delta.stop_reason.is_some());
        let is_in_order = match &*event.kind {
            "message_delta" if stops => self.order.stop(),
            kind => self.order.keeps(kind, index),
        };
        match &*event.kind {
            "error" => return Sign::Fault,
            "message_stop" if is_in_order || !self.has_content => return Sign::Done,
            "message_delta" => self.has_content |= stops,
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
        match (is_in_order, self.has_content) {
            (false, _) => Sign::Lost,
            (true, true) => Sign::Content,
            (true, false) => Sign::Life,
        }
    }
}

/// In which order the events of a message come: one out of its order shows that others are missing.
#[derive(Debug, Clone, Default)]
struct Order {
    begun: bool,
    /// How many blocks have begun.
    blocks: u64,
    /// Which of them have not ended. They come one after the other with every provider that was
    /// seen, but nothing says that they must.
    open: SmallVec<[u64; 4]>,
    /// Whether the provider said why it stopped.
    stopped: bool,
}

/// More blocks at once are no answer.
const MOST_OPEN: usize = 64;

impl Order {
    /// Whether all that has begun has ended, for a reason.
    fn is_whole(&self) -> bool {
        self.stopped && self.open.is_empty()
    }

    /// Whether a piece of this block may come. Without a number it is one of the last block.
    fn is_open(&self, index: Option<u64>) -> bool {
        match index {
            None => !self.open.is_empty(),
            Some(index) => self.open.contains(&index),
        }
    }

    /// Takes note of an event; says whether it may come here. Pings and what nobody knows may come
    /// anywhere.
    fn keeps(&mut self, kind: &str, index: Option<u64>) -> bool {
        match kind {
            "message_start" => {
                // In the middle it is another answer, of which the first knows nothing.
                self.begun = true;
                self.blocks == 0
            }
            "content_block_start" => {
                let index = index.unwrap_or(self.blocks);
                let is_next = index == self.blocks && self.open.len() < MOST_OPEN;
                if is_next {
                    self.open.push(index);
                    self.blocks += 1;
                }
                self.begun && is_next
            }
            "content_block_delta" => self.is_open(index),
            // An end before the beginning is none of this message.
            "content_block_stop" => !self.begun || self.close(index),
            "message_stop" => self.is_whole(),
            _ => true,
        }
    }

    /// Takes note of the reason to stop. A client may take an answer that has one for whole.
    fn stop(&mut self) -> bool {
        self.stopped = true;
        self.begun && self.open.is_empty()
    }

    fn close(&mut self, index: Option<u64>) -> bool {
        let is_open = self.is_open(index);
        let index = index.or(self.open.last().copied());
        self.open.retain(|open| Some(*open) != index);
        is_open
    }
}

static STOP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"stop_reason\""));

/// Whether a whole message has neither content nor a reason.
pub(super) fn says_nothing(body: &[u8], fields: &Fields) -> bool {
    Reason::of(body, &STOP) != Reason::Given
        && fields.get(body, "content").is_none_or(is_empty_list)
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Option<Holder<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    stop_reason: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Endpoint;
    use crate::protocol::watch::Watch;

    /// Events in few letters: `M` begins the message, `0` a block, `.0` is a piece of it and `/0`
    /// its end, `=` the reason to stop, `!` the mark, `?` what nobody knows.
    fn signs(story: &str) -> (Vec<Sign>, bool) {
        let mut watch = Watch::new(Endpoint::Messages);
        let event = |word: &str| match word.split_at(word.len() - 1) {
            ("", "M") => r#"{"type":"message_start","message":{"usage":{}}}"#.to_owned(),
            ("", "=") => {
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#.to_owned()
            }
            ("", "-") => r#"{"type":"message_delta","delta":{"stop_reason":null}}"#.to_owned(),
            ("", "!") => r#"{"type":"message_stop"}"#.to_owned(),
            ("", "?") => r#"{"type":"future","index":7}"#.to_owned(),
            (".", "x") => r#"{"type":"content_block_delta","delta":{}}"#.to_owned(),
            ("/", "x") => r#"{"type":"content_block_stop"}"#.to_owned(),
            (".", at) => format!(r#"{{"index":{at},"type":"content_block_delta","delta":{{}}}}"#),
            ("/", at) => format!(r#"{{"type":"content_block_stop","index":{at}}}"#),
            (_, at) => format!(
                r#"{{"type":"content_block_start","index":{at},"content_block":{{"type":"text"}}}}"#
            ),
        };
        let signs = story
            .split(' ')
            .map(|word| watch.event(format!("data: {}\n\n", event(word)).as_bytes()));
        (signs.collect(), watch.is_whole())
    }

    #[track_caller]
    fn check(story: &str, last: Sign, whole: bool) {
        let (signs, is_whole) = signs(story);
        let (end, before) = signs.split_last().unwrap();
        assert_eq!((*end, is_whole), (last, whole), "{story}");
        assert!(!before.contains(&Sign::Lost), "{story}: {signs:?}");
    }

    #[test]
    fn what_comes_in_its_order_is_whole() {
        check("M 0 .0 /0 = !", Sign::Done, true);
        check("M 0 .0 .0 /0 1 .1 /1 2 /2 = !", Sign::Done, true);
        check("M 0 .0 ? /0 - = !", Sign::Done, true);
        check("M M 0 .0 /0 =", Sign::Content, true);
        // Nothing says that blocks may not come mixed.
        check("M 0 1 .0 .1 .0 /0 .1 /1 = !", Sign::Done, true);
        // An end of something before the beginning, and blocks without a number.
        check("? /0 M 0 .0 /0 = !", Sign::Done, true);
        check("M 0 .x .0 /x 1 .x /1 = !", Sign::Done, true);
    }

    #[test]
    fn what_is_missing_shows_at_the_next_event_that_needs_it() {
        check("M 1", Sign::Lost, false);
        check("M 0 .0 /0 2", Sign::Lost, false);
        check("M 0 .0 0", Sign::Lost, false);
        check("M .0", Sign::Lost, false);
        check("M 0 .0 .1", Sign::Lost, false);
        check("M 0 .0 /0 .0", Sign::Lost, false);
        check("M 0 .0 /0 .x", Sign::Lost, false);
        check("M 0 .0 /0 /0", Sign::Lost, false);
        check("M 0 .0 /1", Sign::Lost, false);
        check("0", Sign::Lost, false);
        check("=", Sign::Lost, false);
    }

    #[test]
    fn a_message_ends_when_its_blocks_have_ended_for_a_reason() {
        check("M 0 .0 /0 !", Sign::Lost, false);
        check("M 0 .0 /0 - !", Sign::Lost, false);
        check("M 0 .0 =", Sign::Lost, false);
        check("M 0 .0 /0 1 .1 =", Sign::Lost, false);
        check("M 0 .0 /0", Sign::Content, false);
    }

    #[test]
    fn another_message_in_the_middle_is_none_of_the_first() {
        check("M 0 .0 /0 1 .1 M", Sign::Lost, false);
    }

    #[test]
    fn an_answer_that_says_nothing_ends_as_such() {
        check("M !", Sign::Done, false);
        check("M 0 !", Sign::Done, false);
        check("M 0 /0 !", Sign::Done, false);
    }

    #[test]
    fn an_endless_number_of_open_blocks_is_not_kept() {
        let story: Vec<String> = (0..65).map(|at| at.to_string()).collect();
        let mut watch = Watch::new(Endpoint::Messages);
        watch.event(b"data: {\"type\":\"message_start\",\"message\":{}}\n\n");
        let signs = story.iter().map(|at| {
            let start = format!(
                r#"{{"type":"content_block_start","index":{at},"content_block":{{"type":"text"}}}}"#
            );
            watch.event(format!("data: {start}\n\n").as_bytes())
        });
        assert_eq!(signs.filter(|sign| *sign == Sign::Lost).count(), 1);
    }
}
