//! Looks over JSON without reading it: where a value ends, and that it is one.
//!
//! Promises to accept nothing that is no JSON. Refuses without a reason, and some JSON too: what
//! is nested very deeply. Whoever wants to know why asks a parser, which is slower.
//!
//! Strings make up most of a prompt, and their escapes most of a parser's time: each stops its
//! search for the end. Here 64 bytes are looked at at once, escapes and all, in registers as wide as
//! the processor has.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, u8x16, u8x64};

/// A position in a text that is valid UTF-8.
#[derive(Debug)]
pub(super) struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Scan<'t> {
    /// At the beginning.
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text: text.as_bytes(), at: 0 }
    }

    /// How many bytes lie behind.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// Passes white space; the byte behind it, `None` at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.at)?;
            // Mostly there is none, and one comparison says so.
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Passes white space and one byte, which must be this one.
    #[inline]
    pub(super) fn pass(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// Passes a field's name and the colon; the span of the name between its quotes.
    pub(super) fn name(&mut self) -> Option<Range<usize>> {
        self.pass(b'"')?;
        let name = self.string()?;
        self.pass(b':')?;
        Some(name)
    }

    /// Passes a value; its span.
    pub(super) fn value(&mut self) -> Option<Range<usize>> {
        self.peek()?;
        let start = self.at;
        let mut open = Open::default();
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    self.string()?;
                }
                b'{' => {
                    self.at += 1;
                    if self.peek()? != b'}' {
                        open.push(b'}')?;
                        self.name()?;
                        continue;
                    }
                    self.at += 1;
                }
                b'[' => {
                    self.at += 1;
                    if self.peek()? != b']' {
                        open.push(b']')?;
                        continue;
                    }
                    self.at += 1;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                b't' => self.word(b"true")?,
                _ => return None,
            }
            loop {
                let Some(end) = open.last() else { return Some(start..self.at) };
                let byte = self.peek()?;
                self.at += 1;
                if byte == b',' {
                    if end == b'}' {
                        self.name()?;
                    }
                    break;
                }
                if byte != end {
                    return None;
                }
                open.pop();
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text.get(self.at..)?.starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.text.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        (digits > 0).then_some(())
    }

    /// Passes what is left of a string behind its first quote; the span between the quotes.
    #[inline]
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        // Most strings are short; prompts are not.
        let end = match short_end(self.text.get(start..)?) {
            Some(end) => start + end,
            None => long_end(Level::new(), self.text, start)?,
        };
        self.at = end + 1;
        Some(start..end)
    }
}

/// How what is open ends, the innermost last: a set bit is an object.
#[derive(Debug, Default)]
struct Open {
    objects: u64,
    depth: u32,
}

impl Open {
    /// `None` where it is too deep.
    fn push(&mut self, end: u8) -> Option<()> {
        if self.depth == u64::BITS {
            return None;
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(end == b'}');
        Some(())
    }

    const fn last(&self) -> Option<u8> {
        match (self.depth, self.objects & 1) {
            (0, _) => None,
            (_, 0) => Some(b']'),
            _ => Some(b'}'),
        }
    }

    const fn pop(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }
}

/// Where a string ends, if that is soon and nothing in it needs a second look.
#[inline]
fn short_end(text: &[u8]) -> Option<usize> {
    let first: &[u8; 16] = text.first_chunk()?;
    // Registers of this width are everywhere, and need no look at the processor.
    let (quotes, others) = dispatch!(Level::baseline(), simd => {
        let bytes = u8x16::from_slice(simd, first);
        let others = bytes.simd_eq(b'\\') | bytes.simd_le(LAST_CONTROL);
        (bytes.simd_eq(b'"').to_bitmask(), others.to_bitmask())
    });
    let end = quotes.trailing_zeros();
    (end < others.trailing_zeros()).then_some(end as usize)
}

/// Where the string ends whose first byte is at `start`. Never inlined, so that short strings do not
/// pay for its registers.
#[inline(never)]
fn long_end(level: Level, text: &[u8], start: usize) -> Option<usize> {
    dispatch!(level, simd => long_end_by(simd, text, start))
}

/// The same for one kind of processor.
#[expect(clippy::inline_always, reason = "only where it is called are wider registers allowed")]
#[inline(always)]
fn long_end_by<S: Simd>(simd: S, text: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut carried) = (start, 0);
    loop {
        let rest = text.get(at..)?;
        let padded;
        let block = if let Some(block) = rest.first_chunk() {
            block
        } else {
            padded = padded_with_controls(rest);
            &padded
        };
        let block = u8x64::from_slice(simd, block);
        let all = |byte: u8| block.simd_eq(byte).to_bitmask();
        let (slashes, quotes) = (all(b'\\'), all(b'"'));
        let escaped;
        (escaped, carried) = escaped_by(slashes, carried);
        let ends = quotes & !escaped;
        // Up to the first end: all of the block where there is none.
        let inside = ends.wrapping_sub(1) & !ends;
        let controls = block.simd_le(LAST_CONTROL);
        if controls.any_true() && controls.to_bitmask() & inside != 0 {
            return None;
        }
        if escaped & inside != 0 {
            let rare = escaped & inside & !(quotes | slashes | all(b'n'));
            if rare != 0 {
                escapes(text, at, rare)?;
            }
        }
        // Told apart, so that the next block is looked at before it is known that there is one.
        if ends == 0 {
            at += 64;
        } else {
            return Some(at + ends.trailing_zeros() as usize);
        }
    }
}

/// No string may hold a control character.
const LAST_CONTROL: u8 = 0x1f;

/// Looks at bytes of the block at `from` that follow a backslash.
fn escapes(text: &[u8], from: usize, mut escaped: u64) -> Option<()> {
    while escaped != 0 {
        let at = from + escaped.trailing_zeros() as usize;
        match text.get(at)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
            b'u' => {
                let digits = text.get(at + 1..at + 5)?;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
            }
            _ => return None,
        }
        escaped &= escaped - 1;
    }
    Some(())
}

fn padded_with_controls(rest: &[u8]) -> [u8; 64] {
    let mut padded = [0; 64];
    padded.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    padded
}

/// What is escaped by these backslashes, of which `carried` already escapes the first byte; and
/// whether the last one escapes what comes behind.
///
/// A backslash escapes unless it is escaped itself, so every other one of a run does. The sum
/// carries through the runs that begin at an odd place and so tells the two kinds apart.
#[inline]
const fn escaped_by(slashes: u64, carried: u64) -> (u64, u64) {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let slashes = slashes & !carried;
    let follows = slashes << 1 | carried;
    let odd_starts = slashes & !EVEN & !follows;
    let (sum, over) = odd_starts.overflowing_add(slashes);
    (((sum << 1) ^ EVEN) & follows, over as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    fn scanned(text: &str) -> bool {
        let mut scan = Scan::new(text);
        scan.value().is_some() && scan.peek().is_none()
    }

    fn parsed(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[track_caller]
    fn check(text: &str, want: bool) {
        assert_eq!((scanned(text), parsed(text)), (want, want), "{text}");
    }

    #[test]
    fn values_are_what_a_parser_says() {
        for text in ["{}", "[]", " [ 1 , {\"a\" : [] , \"b\":null} ] ", "-0.5e+7", "0", "true"] {
            check(text, true);
        }
        for text in ["", "{", "[1,]", "{\"a\":1,}", "{\"a\"}", "{1:2}", "[1}", "nul", "'a'", "1 2"]
        {
            check(text, false);
        }
        for text in ["01", "-", "1.", ".5", "1e", "1e+", "+1", "-a", "0x1"] {
            check(text, false);
        }
    }

    #[test]
    fn strings_are_what_a_parser_says_wherever_a_block_ends() {
        let cases = [
            ("\\\\", true),
            ("\\\"", true),
            ("\\\\\\\"", true),
            ("\\\\\\\\\\\\\\n", true),
            ("\\u00e9\\/", true),
            ("\\uD800", true),
            ("ü\u{7f}\u{2028}", true),
            ("\\", false),
            ("\\\\\\", false),
            ("\\\\\"", false),
            ("\\x", false),
            ("\\u12g4", false),
            ("\\u12", false),
            ("\\u123g", false),
            ("\\\n", false),
            ("\u{1f}", false),
            ("\t", false),
        ];
        for (part, want) in cases {
            for before in 0..140 {
                for behind in [0, 1, 70] {
                    let text = [&"w".repeat(before), part, &"w".repeat(behind)].concat();
                    check(&format!("\"{text}\""), want);
                    check(&format!("[\"{text}\",7,\"\\n{text}{text}\"]"), want);
                }
            }
        }
    }

    #[test]
    fn a_value_ends_where_it_ends() {
        let text = r#" {"a":["}\"]",{}]} ,"b""#;
        let mut scan = Scan::new(text);
        assert_eq!(scan.value(), Some(1..18));
        assert_eq!((scan.at(), scan.peek()), (18, Some(b',')));
        assert_eq!(scan.pass(b','), Some(()));
        assert_eq!(scan.pass(b':'), None);
    }

    #[test]
    fn what_is_nested_very_deeply_is_left_to_a_parser() {
        let nested = |depth: usize| [&"[".repeat(depth)[..], &"]".repeat(depth)[..]].concat();
        assert!(scanned(&nested(64)));
        assert!(!scanned(&nested(66)));
        assert!(!scanned(&nested(100_000)));
    }

    #[test]
    fn every_processor_finds_the_same_end() {
        let simplest = Level::baseline();
        let parts = ["\\\"", "\\\\", "\\u00e9", "\\x", "\n", "w", "\\n"];
        for (before, part) in (0..200).flat_map(|at| parts.map(|part| (at, part))) {
            let text = format!("{}{part}{}\"", "w".repeat(before), part.repeat(50));
            let ends = [Level::new(), simplest].map(|it| long_end(it, text.as_bytes(), 0));
            assert_eq!(ends[0], ends[1], "{text}");
            let is_sound = parsed(&format!("\"{text}"));
            assert_eq!(ends[0], is_sound.then_some(text.len() - 1), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_parser_agrees(
            pieces in prop::collection::vec(
                prop_oneof![
                    3 => r#"["\\\\nu/]{1,4}"#,
                    2 => "[\\[\\]{}:, \n]",
                    1 => r"(-?[0-9]{1,2}(\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?|true|null)",
                    1 => r#""([ -~üé]{0,3}|\\\\[\"ntux]00e9?){0,40}""#,
                    1 => "[\\x00-\\x7fü]{1,3}",
                ],
                0..12,
            ),
        ) {
            let text = pieces.concat();
            prop_assert_eq!(scanned(&text), parsed(&text));
            let text = format!("{{\"a\":[\"{text}\"]}}");
            prop_assert_eq!(scanned(&text), parsed(&text));
        }

        #[test]
        fn a_parser_agrees_on_what_was_broken(
            words in prop::collection::vec(("\\PC{0,90}", any::<i16>(), any::<bool>()), 1..5),
            at in any::<prop::sample::Index>(),
            byte in "[\"\\\\{}\\[\\],:0ne\n ]",
            pretty in any::<bool>(),
        ) {
            let value = serde_json::json!({ "a": words, "b": { "c": [words, {}] } });
            let whole = if pretty { format!("{value:#}") } else { value.to_string() };
            prop_assert!(scanned(&whole));
            let places: Vec<_> = whole.char_indices().map(|(at, _)| at).collect();
            let place = *at.get(&places);
            let mut broken = whole.clone();
            broken.insert_str(place, &byte);
            prop_assert_eq!(scanned(&broken), parsed(&broken), "{}", broken);
            let mut broken = whole.clone();
            broken.remove(place);
            prop_assert_eq!(scanned(&broken), parsed(&broken), "{}", broken);
            broken.truncate(place);
            prop_assert_eq!(scanned(&broken), parsed(&broken), "{}", broken);
        }
    }
}
