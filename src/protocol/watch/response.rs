//! The events of a response.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Holder, Object, Sign, Usage};

/// What has been seen of one response.
#[derive(Debug, Clone, Default)]
pub(super) struct Response {
    has_content: bool,
    /// Whether the provider said how it ended.
    finished: bool,
}

impl Response {
    pub(super) fn is_whole(&self) -> bool {
        self.finished
    }

    /// Reads an event, or the end mark that some send.
    pub(super) fn event(&mut self, event: Option<&Object<'_>>, used: &mut Option<Usage>) -> Sign {
        let Some(event) = event else { return Sign::Done };
        if self.has_content && event.get("type").is_some_and(|kind| kind.ends_with(b".delta\"")) {
            return Sign::Content;
        }
        let Some(event) = event.parse::<Event<'_>>() else { return Sign::Life };
        if let Some(usage) = event.response.and_then(|response| response.usage)
            && let Some(usage) = Usage::from_openai(usage.get().as_bytes())
        {
            *used = Some(usage);
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

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    response: Option<Holder<'a>>,
}
