//! What a provider's error means: LiteLLM's rules by text first, then by status.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::retry_after;
use crate::lexicon::{Class, Failure};

/// What an answer with an error status means.
pub fn blame(status: StatusCode, headers: &HeaderMap, body: &[u8], unix_now: Duration) -> Failure {
    let status = status.as_u16();
    let text = String::from_utf8_lossy(body).to_lowercase();
    Failure {
        class: by_text(status, &text).unwrap_or_else(|| by_status(status)),
        status: answered(status),
        retry_after: retry_after::of(headers, body, unix_now),
    }
}

/// What an `error` in a good answer or in a stream's event means; `None` where there is none.
pub fn in_good_answer(body: &[u8]) -> Option<Failure> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let json = json.as_array().and_then(|list| list.first()).unwrap_or(&json);
    let is_event = json.get("type").and_then(Value::as_str) == Some("error");
    let error = json.get("error").filter(|error| is_something(error));
    let error = error.or(is_event.then_some(json))?;
    let code = |name: &str| {
        let value = error.get(name)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
        u16::try_from(number).ok().filter(|status| (400..600).contains(status))
    };
    let text = json.to_string().to_lowercase();
    let stated = ["code", "status", "status_code", "http_code"].into_iter().find_map(code);
    let status = stated.unwrap_or_else(|| by_type(&text));
    let class = by_text(status, &text).unwrap_or_else(|| by_status(status));
    Some(Failure {
        class,
        status: answered(status),
        retry_after: retry_after::of(&HeaderMap::new(), body, Duration::ZERO),
    })
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(object) => !object.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Array(_) => true,
    }
}

/// The status that the words of an error without one stand for.
fn by_type(text: &str) -> u16 {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["overloaded"]) {
        503
    } else if says(&["rate_limit", "rate limit", "too many requests", "resource_exhausted"]) {
        429
    } else if says(&["authentication_error", "invalid_api_key", "unauthorized"]) {
        401
    } else if says(&["permission_error"]) {
        403
    } else if says(&["not_found_error", "model_not_found"]) {
        404
    } else if says(&["invalid_request_error", "invalid_argument", "content_filter"]) {
        400
    } else {
        500
    }
}

/// The status to answer with: the provider's, but what is no error becomes 502.
const fn answered(status: u16) -> u16 {
    if matches!(status, 400..=599) { status } else { 502 }
}

/// By the status alone.
const fn by_status(status: u16) -> Class {
    match status {
        401 | 407 => Class::Authentication,
        402 => Class::PaymentRequired,
        403 => Class::PermissionDenied,
        404 | 410 => Class::NotFound,
        408 | 504 | 524 => Class::Timeout,
        422 => Class::UnprocessableEntity,
        429 => Class::RateLimit,
        400..=499 => Class::BadRequest,
        502 => Class::BadGateway,
        503 | 529 => Class::ServiceUnavailable,
        500..=599 => Class::InternalServer,
        _ => Class::BadGateway,
    }
}

/// By what the lower-cased body says, in LiteLLM's order; `None` where only the status tells.
fn by_text(status: u16, text: &str) -> Option<Class> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if status == 413 && says(&["rate_limit_exceeded"]) {
        // One prompt larger than the whole bucket: waiting does not help, a larger model may.
        return Some(Class::ContextWindow);
    }
    if matches!(status, 400 | 403 | 413 | 422 | 500) && is_too_long(text) {
        return Some(Class::ContextWindow);
    }
    if matches!(status, 400 | 403 | 422 | 451) && says(REFUSED_PROMPT) {
        return Some(Class::ContentPolicy);
    }
    if matches!(status, 400 | 402 | 403 | 429) && says(NO_QUOTA) {
        return Some(Class::QuotaExhausted);
    }
    if status == 400 && says(&["api key not valid", "api_key_invalid", "incorrect api key"]) {
        return Some(Class::Authentication);
    }
    if status == 400 && says(&["\"model_not_found\""]) {
        return Some(Class::NotFound);
    }
    if status >= 500 && says(&["overloaded"]) {
        return Some(Class::ServiceUnavailable);
    }
    (status >= 500 && says(&["resource_exhausted", "quota exceeded"])).then_some(Class::RateLimit)
}

/// The words of all providers for a prompt that does not fit.
fn is_too_long(text: &str) -> bool {
    let says = |word: &str| text.contains(word);
    if says("string_above_max_length") {
        return false;
    }
    TOO_LONG.iter().any(|word| says(word))
        || (says("current length is") && says("while limit is"))
        || (says("maximum input length is") && says("tokens"))
        || (says("input too long:") && says("input tokens, limit is"))
        || (says("maximum context length") && says("tokens"))
}

const TOO_LONG: &[&str] = &[
    "\"context_length_exceeded\"",
    "exceed context limit",
    "exceeds the available context size",
    "exceeds the context window",
    "exceeds the maximum number of tokens allowed",
    "input is too long for requested model",
    "input token count exceeds",
    "input tokens exceed the configured limit",
    "is longer than the model's context length",
    "model's maximum context limit",
    "please reduce the length of the messages",
    "prompt is too long",
    "prompt: length",
    "requested token count exceeds the model's maximum context length",
    "string too long. expected a string with maximum length",
    "this model's maximum context length is",
    "too many tokens",
    "`inputs` tokens + `max_new_tokens` must be",
];

const REFUSED_PROMPT: &[&str] = &[
    "\"content_filter\"",
    "content_filter_policy",
    "content_policy_violation",
    "cyber_policy",
    "data_inspection_failed",
    "output blocked by content filtering policy",
    "rejected as a result of our safety system",
    "rejected as a result of the safety system",
    "responsibleaipolicyviolation",
    "the model produced invalid content",
    "the response was filtered due to the prompt triggering",
    "violating our usage policy",
];

const NO_QUOTA: &[&str] = &[
    "billing_hard_limit_reached",
    "credit balance is too low",
    "exceeded your current quota",
    "exceeded your monthly",
    "insufficient_quota",
    "insufficient balance",
    "insufficient credits",
    "perday",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, class: Class, answered: u16) {
        let status = StatusCode::from_u16(status).unwrap();
        let failure = blame(status, &HeaderMap::new(), body.as_bytes(), Duration::ZERO);
        assert_eq!((failure.class, failure.status), (class, answered), "{body}");
    }

    #[test]
    fn the_status_decides_where_the_text_says_nothing() {
        check(400, "{}", Class::BadRequest, 400);
        check(401, "", Class::Authentication, 401);
        check(404, "<html>", Class::NotFound, 404);
        check(409, "", Class::BadRequest, 409);
        check(429, "", Class::RateLimit, 429);
        check(500, "", Class::InternalServer, 500);
        check(504, "", Class::Timeout, 504);
        check(529, "", Class::ServiceUnavailable, 529);
    }

    #[test]
    fn the_text_tells_what_the_status_hides() {
        check(400, r#"{"error":{"code":"context_length_exceeded"}}"#, Class::ContextWindow, 400);
        check(
            400,
            r#"{"error":{"message":"prompt is too long: 9 > 8"}}"#,
            Class::ContextWindow,
            400,
        );
        check(400, r#"{"error":{"code":"content_filter"}}"#, Class::ContentPolicy, 400);
        check(429, r#"{"error":{"code":"insufficient_quota"}}"#, Class::QuotaExhausted, 429);
        check(413, r#"{"error":{"code":"rate_limit_exceeded"}}"#, Class::ContextWindow, 413);
        check(500, r#"{"error":{"type":"overloaded_error"}}"#, Class::ServiceUnavailable, 500);
    }

    #[track_caller]
    fn hidden(body: &str, want: Option<(Class, u16)>) {
        let found = in_good_answer(body.as_bytes()).map(|failure| (failure.class, failure.status));
        assert_eq!(found, want, "{body}");
    }

    #[test]
    fn errors_hide_in_good_answers() {
        hidden(r#"{"choices":[]}"#, None);
        hidden(r#"{"error":null}"#, None);
        hidden(r#"{"error":{"message":"x","code":429}}"#, Some((Class::RateLimit, 429)));
        hidden(r#"{"error":{"message":"x","code":"503"}}"#, Some((Class::ServiceUnavailable, 503)));
        hidden(r#"{"error":"boom"}"#, Some((Class::InternalServer, 500)));
        hidden(
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Some((Class::ServiceUnavailable, 503)),
        );
        hidden(
            r#"[{"error":{"code":400,"status":"INVALID_ARGUMENT"}}]"#,
            Some((Class::BadRequest, 400)),
        );
    }
}
