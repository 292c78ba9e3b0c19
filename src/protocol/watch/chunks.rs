//! The chunks of a chat or text completion.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Holder, Object, Sign, Usage, has_reason, is_empty_list};

/// Every event is searched for these: to make a search is as much as to search a short event.
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
static INDEX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"index\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// What has been seen of the choices of one answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunks {
    has_content: bool,
    /// Whether the provider said why it stopped, or that it did.
    finished: bool,
    /// Which choices have begun, and which of them have ended, bit by bit.
    begun: u128,
    ended: u128,
}

impl Chunks {
    pub(super) fn is_whole(&self) -> bool {
        self.finished
    }

    /// Reads a chunk, or the end mark.
    pub(super) fn event(&mut self, chunk: Option<&Object<'_>>, used: &mut Option<Usage>) -> Sign {
        let Some(chunk) = chunk else {
            self.finished = true;
            return Sign::Done;
        };
        if ERROR.find(chunk.data).is_some() && has_error(chunk) {
            return Sign::Fault;
        }
        let usage = usage(chunk);
        let is_only_usage = usage.is_some() && chunk.get("choices").is_some_and(is_empty_list);
        *used = usage.or(*used);
        let ends = self.ends(chunk);
        if is_only_usage {
            return Sign::Usage;
        }
        if !(self.has_content || ends || has_content(chunk.data)) {
            return Sign::Life;
        }
        self.has_content = true;
        Sign::Content
    }

    /// Keeps which choices have ended; says whether one does here. The answer is whole when all have
    /// that have begun, and a chunk that cannot be read ends none.
    fn ends(&mut self, chunk: &Object<'_>) -> bool {
        // The first choice needs no look: nothing is whole before one has ended.
        if !names_another(chunk.data) && !has_reason(chunk.data, &FINISH) {
            return false;
        }
        let Some(chunk) = chunk.parse::<Reasons<'_>>() else { return false };
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
}

/// Whether a choice, or a call, other than the first may be in it.
fn names_another(data: &[u8]) -> bool {
    INDEX.find_iter(data).any(|at| {
        let behind = data.get(at + 7..).unwrap_or_default();
        let digit = behind.iter().find(|byte| !matches!(byte, b' ' | b':' | b'\t'));
        matches!(digit, Some(b'1'..=b'9'))
    })
}

/// Whether it has an `error` that is something.
fn has_error(chunk: &Object<'_>) -> bool {
    let nothing = [&b"null"[..], b"false", b"\"\"", b"{}"];
    chunk.get("error").is_some_and(|error| !nothing.contains(&error))
}

/// The usage that a chunk tells.
fn usage(chunk: &Object<'_>) -> Option<Usage> {
    let behind = chunk.data.get(USAGE.find(chunk.data)? + 7..).unwrap_or_default();
    let value = behind.iter().find(|byte| !matches!(byte, b' ' | b':' | b'\t'));
    if value != Some(&b'{') {
        return None;
    }
    let own = chunk.get("usage").and_then(Usage::from_openai);
    own.or_else(|| nested_usage(chunk.data, &chunk.fields))
}

/// Where some providers put the usage: Groq in `x_groq`, Moonshot in the choice.
fn nested_usage(data: &[u8], fields: &Fields) -> Option<Usage> {
    let of = |holder: Holder<'_>| Usage::from_openai(holder.usage?.get().as_bytes());
    let groq = fields.parse::<Holder<'_>>(data, "x_groq").and_then(of);
    groq.or_else(|| fields.parse::<Vec<Holder<'_>>>(data, "choices")?.into_iter().find_map(of))
}

/// Whether a whole completion has neither content nor a reason.
pub(super) fn says_nothing(body: &[u8]) -> bool {
    !has_reason(body, &FINISH) && !has_content(body)
}

/// Whether a chunk of a chat or text completion, or a whole one, carries anything but a role.
fn has_content(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow, default)]
        choices: Option<Vec<Choice<'a>>>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow, default)]
        delta: Option<&'a RawValue>,
        #[serde(borrow, default)]
        message: Option<&'a RawValue>,
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
