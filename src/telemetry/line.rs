//! One record as one line of JSON.
//!
//! Promises valid JSON whatever a client called its model, and numbers without rounding. Absent
//! facts are absent keys. Keys are those of OpenTelemetry's `gen_ai` conventions where they have
//! one.

use std::time::Duration;

use crate::account::{Record, Shed, TryEnd};
use crate::lexicon::PicoUsd;
use crate::protocol::{Endpoint, Usage};

/// Appends the line of a request that ended at `now`, in Unix time.
pub(super) fn append(out: &mut Vec<u8>, record: &Record, now: Duration) {
    out.extend_from_slice(b"{\"time\":\"");
    timestamp(out, now);
    out.push(b'"');
    text(out, "id", Some(&record.id));
    word(out, "endpoint", record.endpoint.map(Endpoint::as_str));
    number(out, "status", record.status.into());
    word(out, "end", Some(record.end.as_str()));
    flag(out, "stream", record.stream);
    text(out, "gen_ai.request.model", Some(&*record.model).filter(|model| !model.is_empty()));
    text(out, "group", record.group.as_deref());
    text(out, "deployment", record.deployment_id.as_deref());
    word(out, "provider", record.vendor);
    text(out, "gen_ai.response.model", record.upstream_model.as_deref());
    number(out, "tries", record.tries.into());
    number(out, "retries", record.retries.into());
    number(out, "fallbacks", record.fallbacks.into());
    if let Some(first_token) = record.first_token {
        milliseconds(out, "ttft_ms", first_token);
    }
    if let Some(queued) = record.queued {
        milliseconds(out, "queued_ms", queued);
    }
    milliseconds(out, "duration_ms", record.duration);
    milliseconds(out, "upstream_ms", record.upstream);
    if let Some(usage) = &record.usage {
        tokens(out, usage);
    }
    if let Some(cost) = record.cost {
        money(out, "cost_usd", cost);
    }
    word(out, "hedge", record.hedge);
    let wasted = record.attempts.iter().filter_map(|tried| match tried.end {
        TryEnd::Lost(wasted) => wasted.cost,
        TryEnd::Abandoned | TryEnd::Answered | TryEnd::Failed { .. } => None,
    });
    if let Some(cost) = wasted.reduce(|sum, cost| PicoUsd(sum.0.saturating_add(cost.0))) {
        money(out, "hedge_cost_usd", cost);
    }
    word(out, "shed", record.shed.map(Shed::as_str));
    word(out, "recovery", record.recovery);
    let beside = record.attempts.iter().filter_map(|tried| tried.beside?.cost);
    if let Some(cost) = beside.reduce(|sum, cost| PicoUsd(sum.0.saturating_add(cost.0))) {
        money(out, "recovery_cost_usd", cost);
    }
    word(out, "error.type", record.class.map(crate::lexicon::Class::as_str));
    out.extend_from_slice(b"}\n");
}

fn tokens(out: &mut Vec<u8>, usage: &Usage) {
    number(out, "gen_ai.usage.input_tokens", usage.prompt);
    number(out, "gen_ai.usage.output_tokens", usage.completion);
    number(out, "cached_tokens", usage.cache_read);
    number(out, "reasoning_tokens", usage.reasoning);
    flag(out, "estimated", usage.estimated);
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// One of our own words, which need no escaping.
fn word(out: &mut Vec<u8>, name: &str, word: Option<&str>) {
    if let Some(word) = word {
        key(out, name);
        out.push(b'"');
        out.extend_from_slice(word.as_bytes());
        out.push(b'"');
    }
}

/// Text from outside: escaped, and cut so that a line has a bound.
fn text(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    let Some(text) = text else { return };
    key(out, name);
    out.push(b'"');
    let cut = if text.len() <= LONGEST { text } else { cut(text) };
    // All of it, without an early end: the compiler looks at many bytes at once then.
    if cut.bytes().fold(false, |found, byte| found | must_escape(byte)) {
        escape(out, cut);
    } else {
        out.extend_from_slice(cut.as_bytes());
    }
    out.push(b'"');
}

/// The first characters of a text, as many as are kept.
fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(LONGEST).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}

/// How many characters of a text are kept.
const LONGEST: usize = 256;

/// All that JSON demands. Other bytes pass: the text is UTF-8.
const fn must_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escape(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0..0x20 => {
                let low = HEX.get(usize::from(byte & 15)).copied().unwrap_or(b'0');
                out.extend_from_slice(b"\\u00");
                out.extend([b'0' + (byte >> 4), low]);
            }
            _ => out.push(byte),
        }
    }
}

fn flag(out: &mut Vec<u8>, name: &str, is_set: bool) {
    key(out, name);
    out.extend_from_slice(if is_set { b"true" } else { b"false" });
}

fn number(out: &mut Vec<u8>, name: &str, number: u64) {
    key(out, name);
    digits(out, number);
}

fn digits(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Milliseconds with three decimals.
fn milliseconds(out: &mut Vec<u8>, name: &str, time: Duration) {
    key(out, name);
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    digits(out, micros / 1000);
    out.push(b'.');
    padded::<3>(out, micros % 1000);
}

/// Dollars as an exact decimal, as [`PicoUsd`] displays itself but without its allocations.
fn money(out: &mut Vec<u8>, name: &str, cost: PicoUsd) {
    key(out, name);
    digits(out, cost.0 / PicoUsd::PER_USD);
    out.push(b'.');
    let start = out.len() + 1;
    padded::<12>(out, cost.0 % PicoUsd::PER_USD);
    while out.len() > start && out.last() == Some(&b'0') {
        out.pop();
    }
}

/// The last `N` digits of a number, with leading zeros.
fn padded<const N: usize>(out: &mut Vec<u8>, number: u64) {
    let mut text = [b'0'; N];
    let mut rest = number;
    for digit in text.iter_mut().rev() {
        *digit = decimal(rest % 10);
        rest /= 10;
    }
    out.extend_from_slice(&text);
}

fn decimal(digit: u64) -> u8 {
    b'0' + u8::try_from(digit).unwrap_or(0)
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(out: &mut Vec<u8>, unix: Duration) {
    let seconds = unix.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    padded::<4>(out, year);
    out.push(b'-');
    padded::<2>(out, month);
    out.push(b'-');
    padded::<2>(out, day);
    out.push(b'T');
    padded::<2>(out, of_day / 3600);
    out.push(b':');
    padded::<2>(out, of_day / 60 % 60);
    out.push(b':');
    padded::<2>(out, of_day % 60);
    out.push(b'.');
    padded::<3>(out, unix.subsec_millis().into());
    out.push(b'Z');
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
///
/// Years begin in March here, so that the leap day is the last of a year, and are counted from
/// the year 0 in eras of 400 years, after which the calendar repeats.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leaps = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on have 31, 30, 31, 30, 31 days, twice and a half: 153 in five of them.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::telemetry::fixture;

    fn line(record: &Record) -> String {
        let mut out = Vec::new();
        append(&mut out, record, Duration::from_millis(1_795_265_760_007));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_says_all_that_is_known() {
        let parsed: Value = serde_json::from_str(&line(&fixture::stream())).unwrap();
        assert_eq!(
            parsed,
            json!({
                "time": "2026-11-21T12:56:00.007Z",
                "id": "00000000-0000-0000-0000-000000000007",
                "endpoint": "chat",
                "status": 200,
                "end": "complete",
                "stream": true,
                "gen_ai.request.model": "smart",
                "group": "smart",
                "deployment": "east",
                "provider": "openai",
                "gen_ai.response.model": "gpt-5",
                "tries": 2,
                "retries": 1,
                "fallbacks": 0,
                "ttft_ms": 210.5,
                "queued_ms": 30.0,
                "duration_ms": 1500.042,
                "upstream_ms": 1400.0,
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 20,
                "cached_tokens": 60,
                "reasoning_tokens": 5,
                "estimated": false,
                "cost_usd": 0.000_012_5,
                "hedge": "won", "hedge_cost_usd": 3e-6, "shed": "queue_timeout",
                "recovery": "restarted", "recovery_cost_usd": 2e-6, "error.type": "rate_limit",
            })
        );
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let line = line(&fixture::refused());
        let parsed: Value = serde_json::from_str(&line).unwrap();
        let keys: Vec<_> = parsed.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = "time id status end stream tries retries fallbacks duration_ms upstream_ms";
        assert_eq!(keys.join(" "), expected);
        assert!(line.ends_with("}\n"));
    }

    #[test]
    fn money_is_exact() {
        for cost in [0, 1, 10, 12_500_000, 999_999_999_999, 1_000_000_000_000, u64::MAX] {
            let mut out = Vec::new();
            money(&mut out, "x", PicoUsd(cost));
            assert_eq!(String::from_utf8(out).unwrap(), format!(",\"x\":{}", PicoUsd(cost)));
        }
    }

    #[test]
    fn days_become_dates() {
        for (day, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (20_453, (2025, 12, 31)),
            (20_454, (2026, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(day), date, "{day}");
        }
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let mut record = fixture::refused();
        record.model = "ü".repeat(1000).into();
        let parsed: Value = serde_json::from_str(&line(&record)).unwrap();
        assert_eq!(parsed["gen_ai.request.model"].as_str().unwrap().chars().count(), 256);
    }

    proptest! {
        #[test]
        fn any_name_comes_back_as_it_was(model in "[\\x00-\\u{7f}\\PC]{0,256}") {
            let mut record = fixture::refused();
            record.model = model.as_str().into();
            let line = line(&record);
            prop_assert_eq!(line.bytes().filter(|byte| *byte == b'\n').count(), 1);
            let parsed: Value = serde_json::from_str(&line).unwrap();
            let said = parsed.get("gen_ai.request.model").and_then(Value::as_str);
            prop_assert_eq!(said.unwrap_or_default(), model);
        }

        #[test]
        fn times_agree_with_another_calendar(seconds in 0..4_102_444_800_u64) {
            let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
            let mut out = Vec::new();
            timestamp(&mut out, Duration::from_secs(seconds));
            let ours = String::from_utf8(out).unwrap();
            let theirs = httpdate::HttpDate::from(time).to_string();
            prop_assert_eq!(&ours[..4], &theirs[12..16]);
            prop_assert_eq!(&ours[8..10], &theirs[5..7]);
            prop_assert_eq!(&ours[11..19], &theirs[17..25]);
        }
    }
}
