//! The chunks of a chat or text completion.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Holder, Object, Reason, Sign, Usage, is_empty_list};

/// Every event is searched for these: to make a search is as much as to search a short event.
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
static INDEX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"index\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// What has been seen of the choices of one answer.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    has_content: bool,
    /// How many choices were asked for.
    asked: u32,
    /// Which choices have begun, and which of them have ended, bit by bit.
    begun: u128,
    ended: u128,
    /// Whether the provider writes a `finish_reason` into its chunks even while there is none.
    promises: bool,
    /// Whether the end mark has come.
    marked: bool,
}

impl Chunks {
    /// Nothing yet, of an answer of so many choices.
    pub(super) fn of(asked: u32) -> Self {
        let asked = asked.min(u128::BITS);
        Self { has_content: false, asked, begun: 0, ended: 0, promises: false, marked: false }
    }

    /// Whether all choices have ended. Behind an end mark it does not matter how many were asked
    /// for: there are providers who give one whatever is wanted.
    pub(super) fn is_whole(&self) -> bool {
        self.marked || self.all_have_ended() && self.begun.count_ones() >= self.asked
    }

    /// Whether the end mark is all that says that the answer is whole.
    pub(super) fn has_no_reason(&self) -> bool {
        self.marked && self.ended == 0
    }

    /// Reads a chunk, or the end mark.
    pub(super) fn event(&mut self, chunk: Option<Object<'_>>, used: &mut Option<Usage>) -> Sign {
        let Some(chunk) = chunk else { return self.mark() };
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

    fn all_have_ended(&self) -> bool {
        self.ended != 0 && self.begun & !self.ended == 0
    }

    /// The end mark. Where no choice has ended it speaks for all of them, unless the provider's
    /// chunks had a place for a reason: who writes it always fills it at last.
    fn mark(&mut self) -> Sign {
        let is_whole = self.all_have_ended() || self.ended == 0 && !self.promises;
        if !is_whole && self.has_content {
            return Sign::Lost;
        }
        self.marked = true;
        Sign::Done
    }

    /// Keeps which choices have begun and ended; says whether one ends here. A chunk that cannot be
    /// read ends none.
    fn ends(&mut self, chunk: Object<'_>) -> bool {
        let reason = Reason::of(chunk.data, &FINISH);
        self.promises |= reason == Reason::Open;
        if !names_another(chunk.data) && reason != Reason::Given {
            if self.begun & 1 == 0 && chunk.get("choices").is_some_and(|it| !is_empty_list(it)) {
                self.begun |= 1;
            }
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
fn has_error(chunk: Object<'_>) -> bool {
    let nothing = [&b"null"[..], b"false", b"\"\"", b"{}"];
    chunk.get("error").is_some_and(|error| !nothing.contains(&error))
}

/// The usage that a chunk tells.
fn usage(chunk: Object<'_>) -> Option<Usage> {
    let behind = chunk.data.get(USAGE.find(chunk.data)? + 7..).unwrap_or_default();
    let value = behind.iter().find(|byte| !matches!(byte, b' ' | b':' | b'\t'));
    if value != Some(&b'{') {
        return None;
    }
    let own = chunk.get("usage").and_then(Usage::from_openai);
    own.or_else(|| nested_usage(chunk.data, chunk.fields))
}

/// Where some providers put the usage: Groq in `x_groq`, Moonshot in the choice.
fn nested_usage(data: &[u8], fields: &Fields) -> Option<Usage> {
    let of = |holder: Holder<'_>| Usage::from_openai(holder.usage?.get().as_bytes());
    let groq = fields.parse::<Holder<'_>>(data, "x_groq").and_then(of);
    groq.or_else(|| fields.parse::<Vec<Holder<'_>>>(data, "choices")?.into_iter().find_map(of))
}

/// Whether a whole completion has neither content nor a reason.
pub(super) fn says_nothing(body: &[u8]) -> bool {
    Reason::of(body, &FINISH) != Reason::Given && !has_content(body)
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
    choices: Option<Vec<Ending<'a>>>,
}

#[derive(Deserialize)]
struct Ending<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Endpoint;
    use crate::protocol::watch::Watch;

    /// Chunks in few letters: `0` is a piece of the first choice with a place for a reason, `0-`
    /// one without, `0_` one with a blank there, `0!` its end, `u` the usage, `=` the end mark.
    fn watched(asked: u32, story: &str) -> (Sign, Watch) {
        let mut watch = Watch::of_choices(Endpoint::ChatCompletions, asked);
        let chunk = |word: &str| {
            let (index, more) = word.split_at(1);
            let reason = match more {
                "" => r#","finish_reason":null"#,
                "-" => "",
                "_" => r#","finish_reason":"""#,
                _ => r#","finish_reason":"stop""#,
            };
            match index {
                "=" => "[DONE]".to_owned(),
                "u" => r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#.into(),
                _ => format!(
                    r#"{{"choices":[{{"index":{index},"delta":{{"content":"a"}}{reason}}}]}}"#
                ),
            }
        };
        let mut last = Sign::Life;
        for word in story.split(' ') {
            assert_ne!(last, Sign::Lost, "{story}");
            last = watch.event(format!("data: {}\n\n", chunk(word)).as_bytes());
        }
        (last, watch)
    }

    #[track_caller]
    fn check(asked: u32, story: &str, last: Sign, whole: bool) {
        let (sign, watch) = watched(asked, story);
        assert_eq!((sign, watch.is_whole()), (last, whole), "{story}");
    }

    #[test]
    fn an_answer_is_whole_when_the_choices_that_began_have_ended() {
        check(1, "0 0 0!", Sign::Content, true);
        check(1, "0 0! u =", Sign::Done, true);
        check(2, "0 1 1! 0! =", Sign::Done, true);
        check(2, "0 1 0! 1!", Sign::Content, true);
        check(2, "0 1 0! =", Sign::Lost, false);
        check(2, "0 1 1! =", Sign::Lost, false);
        check(1, "0 1 1! u", Sign::Usage, false);
        check(2, "0- 1- 1! =", Sign::Lost, false);
        check(1, "0 0! 0 u =", Sign::Done, true);
    }

    #[test]
    fn a_choice_that_never_began_is_missed_where_no_mark_says_that_all_is_told() {
        check(2, "0 0!", Sign::Content, false);
        check(2, "0 0! u", Sign::Usage, false);
        check(2, "0 0! u =", Sign::Done, true);
        check(200, "0 0! =", Sign::Done, true);
        assert_eq!(Chunks::of(200).asked, 128);
    }

    #[test]
    fn a_mark_without_a_reason_is_an_end_only_where_none_was_promised() {
        check(1, "0 0 =", Sign::Lost, false);
        check(1, "0- 0_ =", Sign::Lost, false);
        check(1, "0 u =", Sign::Lost, false);
        check(1, "0- 0- u =", Sign::Done, true);
        check(1, "0- 0- u", Sign::Usage, false);
        assert!(watched(1, "0- =").1.has_no_reason());
        assert!(!watched(1, "0- 0! =").1.has_no_reason());
        assert!(!watched(1, "0-").1.has_no_reason());
        // What says nothing at all is no half answer.
        check(1, "=", Sign::Done, true);
    }
}
