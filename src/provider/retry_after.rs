//! How long a provider asks to wait: one reader for everybody's headers and bodies.

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

/// The wait a provider asks for after an error, the most trusted source first: `retry-after-ms`,
/// `retry-after` in seconds or as a date, a wish in the body, the reset of an empty bucket.
///
/// A reset of a bucket that is not empty is no wish: it says when the bucket is full again.
pub fn of(headers: &HeaderMap, body: &[u8], unix_now: Duration) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    text("retry-after-ms")
        .and_then(|text| Duration::try_from_secs_f64(text.parse::<f64>().ok()? / 1000.0).ok())
        .or_else(|| text("retry-after").and_then(|text| seconds_or_date(text, unix_now)))
        .or_else(|| in_body(body))
        .or_else(|| of_empty_bucket(headers, unix_now))
}

fn seconds_or_date(text: &str, unix_now: Duration) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(unix_now))
}

/// Google's `RetryInfo`, or a `retry_after` of whoever puts it there.
fn in_body(body: &[u8]) -> Option<Duration> {
    memchr::memmem::find(body, b"etry")?;
    let json: Value = serde_json::from_slice(body).ok()?;
    let json = json.as_array().and_then(|list| list.first()).unwrap_or(&json);
    let error = json.get("error").unwrap_or(json);
    let details = error.get("details").and_then(Value::as_array);
    let delay = details.and_then(|details| {
        details.iter().find_map(|detail| detail.get("retryDelay")?.as_str().and_then(go_duration))
    });
    let plain = |value: &Value| {
        let wish = value.get("retry_after")?;
        let seconds = wish.as_f64().or_else(|| wish.as_str()?.parse().ok())?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    delay.or_else(|| plain(error)).or_else(|| plain(json))
}

fn of_empty_bucket(headers: &HeaderMap, unix_now: Duration) -> Option<Duration> {
    let value = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let is_empty = |name: &str| value(name).is_some_and(|left| left == "0");
    BUCKETS
        .iter()
        .filter(|(remaining, _)| is_empty(remaining))
        .filter_map(|(_, reset)| moment(value(reset)?, unix_now))
        .max()
}

/// Headers that say what is left in a bucket, and when it is filled.
const BUCKETS: [(&str, &str); 7] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
];

/// A reset: epoch milliseconds, epoch seconds, RFC 3339, or a duration.
fn moment(text: &str, unix_now: Duration) -> Option<Duration> {
    if let Ok(number) = text.parse::<f64>() {
        let seconds = if number > 1e12 {
            number / 1000.0 - unix_now.as_secs_f64()
        } else if number > 1e9 {
            number - unix_now.as_secs_f64()
        } else {
            number
        };
        return Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    }
    go_duration(text).or_else(|| Some(rfc3339(text)?.saturating_sub(unix_now)))
}

/// `1h2m3.5s`, `370ms`, `31s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let unit_end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = behind;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

/// `2025-01-12T23:11:59Z`, with an offset or a fraction.
fn rfc3339(text: &str) -> Option<Duration> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign, _, _, b':', _, _] => {
            let minutes =
                zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    // Days since the epoch by Howard Hinnant's `days_from_civil`.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds = days * 86_400 + hour * 3600 + (minute - offset) * 60 + second;
    Some(Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], body: &str, want: Option<f64>) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let now = Duration::from_secs(1_736_723_519 - 9);
        let got = of(&headers, body.as_bytes(), now).map(|wait| wait.as_secs_f64());
        assert_eq!(got, want);
    }

    #[test]
    fn waits_are_read_in_every_form() {
        check(&[("retry-after", "7")], "", Some(7.0));
        check(&[("retry-after", "0.5")], "", Some(0.5));
        check(&[("retry-after-ms", "250"), ("retry-after", "7")], "", Some(0.25));
        check(&[("retry-after", "Sun, 12 Jan 2025 23:11:59 GMT")], "", Some(9.0));
        check(&[("retry-after", "soon")], "", None);
        check(&[("retry-after", "-1")], "", None);
        check(&[], r#"{"error":{"details":[{"retryDelay":"31s"}]}}"#, Some(31.0));
        check(&[], r#"[{"error":{"details":[{"retryDelay":"0.1s"}]}}]"#, Some(0.1));
        check(&[], r#"{"retry_after":1}"#, Some(1.0));
        check(&[], "retry", None);
    }

    #[test]
    fn only_an_empty_bucket_says_when_to_come_back() {
        check(
            &[("x-ratelimit-remaining-tokens", "5"), ("x-ratelimit-reset-tokens", "6m0s")],
            "",
            None,
        );
        check(
            &[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "1m2.5s")],
            "",
            Some(62.5),
        );
        check(
            &[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "3")],
            "",
            Some(3.0),
        );
        check(
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1736723519000")],
            "",
            Some(9.0),
        );
        check(
            &[
                ("anthropic-ratelimit-requests-remaining", "0"),
                ("anthropic-ratelimit-requests-reset", "2025-01-12T23:11:59Z"),
            ],
            "",
            Some(9.0),
        );
    }

    #[test]
    fn dates_with_offsets_are_read() {
        assert_eq!(rfc3339("1970-01-01T01:00:00+01:00"), Some(Duration::ZERO));
        assert_eq!(rfc3339("2024-02-29T00:00:00.25Z"), Some(Duration::from_secs(1_709_164_800)));
        assert_eq!(rfc3339("yesterday"), None);
    }
}
