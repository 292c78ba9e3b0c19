//! The events of a message.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{Fields, Holder, Object, Sign, Usage, has_reason, is_empty_list};

/// What has been seen of one message.
#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    has_content: bool,
    /// Whether the provider said why it stopped, or that it did.
    finished: bool,
}

impl Message {
    pub(super) fn is_whole(&self) -> bool {
        self.finished
    }

    /// Reads an event.
    pub(super) fn event(&mut self, event: Option<&Object<'_>>, used: &mut Option<Usage>) -> Sign {
        let Some(event) = event else { return Sign::Life };
        if self.has_content && event.get("type") == Some(b"\"content_block_delta\"") {
            return Sign::Content;
        }
        let Some(event) = event.parse::<Event<'_>>() else { return Sign::Life };
        if let Some(usage) = event.usage.or(event.message.and_then(|message| message.usage)) {
            let _ = used.get_or_insert_default().merge_anthropic(usage.get().as_bytes());
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
}

static STOP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"stop_reason\""));

/// Whether a whole message has neither content nor a reason.
pub(super) fn says_nothing(body: &[u8], fields: &Fields) -> bool {
    !has_reason(body, &STOP) && fields.get(body, "content").is_none_or(is_empty_list)
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
