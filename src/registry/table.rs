//! The table of models, searched as the text it is.
//!
//! Each line is one model: its name, its capability letters, its limits in tokens and its prices
//! in dollars per million tokens, divided by tabs; empty columns at the end are left out. Lines
//! are sorted by the bytes of the name. Nothing is parsed before a line is asked for, so the
//! table costs no memory of its own and no time at start. The file comes from the test in
//! `derive.rs`.

use std::cmp::Ordering;

use super::{Model, Price};
use crate::lexicon::PicoUsd;

/// The whole table.
pub(super) const TEXT: &str = include_str!("models.tsv");

/// One model as it stands in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row(&'static str);

/// Finds the line of `prefix/rest` by halving the text.
pub(super) fn row(prefix: &str, rest: &str) -> Option<Row> {
    let mut text = TEXT;
    while !text.is_empty() {
        let (before, line, after) = halves(text)?;
        text = match order(prefix, rest, name(line)) {
            Ordering::Less => before,
            Ordering::Equal => return Some(Row(line)),
            Ordering::Greater => after,
        };
    }
    None
}

/// The line in the middle of a text of whole lines, and the lines on either side of it.
fn halves(text: &'static str) -> Option<(&'static str, &'static str, &'static str)> {
    let start = text.get(..text.len() / 2)?.rfind('\n').map_or(0, |at| at + 1);
    let (before, rest) = text.split_at_checked(start)?;
    let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
    Some((before, line, after))
}

/// How `prefix/rest` compares with a name.
fn order(prefix: &str, rest: &str, name: &str) -> Ordering {
    prefix.bytes().chain([b'/']).chain(rest.bytes()).cmp(name.bytes())
}

/// The name that a line begins with.
pub(super) fn name(line: &str) -> &str {
    line.split_once('\t').map_or(line, |(name, _)| name)
}

impl Row {
    /// Reads the line; `None` where it is not in the table's form, which a test rules out.
    pub(super) fn model(self) -> Option<Model> {
        let mut columns = self.0.split('\t').skip(1);
        let mut next = || columns.next().unwrap_or("");
        Some(Model {
            capabilities: next(),
            max_input: optional(next(), |text| text.parse().ok())?,
            max_output: optional(next(), |text| text.parse().ok())?,
            price: Price {
                input: optional(next(), per_million)?,
                output: optional(next(), per_million)?,
                cache_read: optional(next(), per_million)?,
                cache_write: optional(next(), per_million)?,
                cache_write_1h: optional(next(), per_million)?,
                reasoning: optional(next(), per_million)?,
                audio_in: optional(next(), per_million)?,
                audio_out: optional(next(), per_million)?,
                tiers: next(),
            },
        })
    }
}

/// An empty column is no value; a column that says something else must be readable.
#[expect(clippy::option_option, reason = "absent and unreadable are two things")]
fn optional<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { read(text).map(Some) }
}

/// A price per token from the decimal that says what a million of them cost in dollars.
///
/// Exact: a millionth of 10⁻⁶ dollars is the unit, so six decimals are all there can be.
pub(super) fn per_million(text: &str) -> Option<PicoUsd> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let scale = 10u64.checked_pow(u32::try_from(6usize.checked_sub(part.len())?).ok()?)?;
    if !digits(whole) || !digits(part) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = part.parse().ok()?;
    Some(PicoUsd(whole.checked_mul(1_000_000)?.checked_add(part * scale)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_found_under_its_own_name() {
        for line in TEXT.lines() {
            let (prefix, rest) = name(line).split_once('/').unwrap();
            assert_eq!(row(prefix, rest), Some(Row(line)), "{line}");
        }
    }

    #[test]
    fn names_between_the_lines_are_not_found() {
        for line in TEXT.lines() {
            let (prefix, rest) = name(line).split_once('/').unwrap();
            assert_eq!(row(prefix, &format!("{rest}\t")), None, "{line}");
        }
        for (prefix, rest) in [("", ""), ("\0", ""), ("~", "~"), ("日本", "語"), ("zzz", "z")] {
            assert_eq!(row(prefix, rest), None, "{prefix}/{rest}");
        }
    }

    #[test]
    fn prices_are_read_exactly_or_not_at_all() {
        let cases = [
            ("2.5", Some(2_500_000)),
            ("0", Some(0)),
            ("0.000001", Some(1)),
            ("1.142857", Some(1_142_857)),
            ("9710", Some(9_710_000_000)),
            ("0.0000001", None),
            ("1e-6", None),
            ("-1", None),
            ("+1", None),
            ("1.", None),
            (".5", None),
            ("", None),
            ("99999999999999999999", None),
        ];
        for (text, want) in cases {
            assert_eq!(per_million(text), want.map(PicoUsd), "{text}");
        }
    }
}
