//! What a provider's error means, from its words first and its status second.
//!
//! Words come first since providers disagree on statuses: a missing key is a 400 at xAI, a prompt
//! that is too long a 500 at llama.cpp, an empty purse a 429 at OpenAI. Promises a class for any
//! bytes. Knows no clock: the time is an argument.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::lexicon::{Class, Failure};
use crate::protocol::{Fault, Fields};

use super::retry_after;

/// What an answer with an error status means.
pub fn blame(status: StatusCode, headers: &HeaderMap, body: &[u8], unix_now: Duration) -> Failure {
    let status = status.as_u16();
    let class = Words::of(body).class(status).unwrap_or_else(|| by_status(status));
    let retry_after = retry_after::of(headers, body, unix_now);
    Failure { retry_after, ..Failure::new(class, status) }
}

/// The failure that a body with a good status, or the data of an event, reports; `None` where it
/// reports none.
pub fn in_good_answer(body: &[u8]) -> Option<Failure> {
    // Nearly every answer ends here, after one search.
    memchr::memmem::find(body, b"\"error\"")?;
    let body = body.trim_ascii();
    let object = body.strip_prefix(b"[").map_or(body, |list| list.trim_ascii_start());
    let object = if object.len() == body.len() { body } else { first_object(object)? };
    let fields = Fields::of(object).ok()?;
    let kind = fields.parse::<&str>(object, "type");
    let says_error = matches!(kind, Some("error" | "response.failed"))
        || fields.parse::<&str>(object, "status") == Some("failed");
    let error = fields.get(object, "error").unwrap_or(b"null");
    if !says_error && matches!(error, b"null" | b"false" | b"\"\"" | b"{}") {
        return None;
    }
    let words = Words::of(object);
    let said = words.status().unwrap_or(0);
    let class = words.class(said).or_else(|| (said >= 400).then(|| by_status(said)));
    let class = class.unwrap_or(Class::InternalServer);
    let status = if said >= 400 { said } else { usual_status(class) };
    Some(Failure::new(class, status))
}

/// The first object of a list whose bracket is already gone.
fn first_object(list: &[u8]) -> Option<&[u8]> {
    let mut values =
        serde_json::Deserializer::from_slice(list).into_iter::<&serde_json::value::RawValue>();
    values.next()?.ok().map(|value| value.get().as_bytes())
}

/// The words of an error, in small letters.
struct Words {
    message: String,
    kind: String,
    code: String,
}

impl Words {
    fn of(body: &[u8]) -> Self {
        let fault = Fault::read(body);
        Self {
            message: fault.message.to_ascii_lowercase(),
            kind: fault.kind.to_ascii_lowercase(),
            code: fault.code.unwrap_or_default().to_ascii_lowercase(),
        }
    }

    fn says(&self, any: &[&str]) -> bool {
        any.iter().any(|word| self.message.contains(word))
    }

    fn calls_it(&self, any: &[&str]) -> bool {
        any.iter().any(|word| self.code == *word || self.kind == *word)
    }

    /// The status that stands in the body.
    fn status(&self) -> Option<u16> {
        self.code.parse().ok().filter(|status| (400..600).contains(status))
    }

    /// The class that the words tell whatever the status is, within reason: the words of a 401
    /// about a context window are about something else.
    fn class(&self, status: u16) -> Option<Class> {
        if matches!(status, 401 | 404) {
            return None;
        }
        self.about_money(status)
            .or_else(|| self.about_the_prompt(status))
            .or_else(|| self.about_the_model(status))
            .or_else(|| self.about_the_key(status))
            .or_else(|| self.about_load(status))
    }

    fn about_money(&self, status: u16) -> Option<Class> {
        if status == 402 || self.calls_it(&["billing_error", "insufficient_credits"]) {
            return Some(Class::PaymentRequired);
        }
        if self.calls_it(&["insufficient_quota", "quota_exceeded", "token_quota_reached"]) {
            return Some(Class::QuotaExhausted);
        }
        if self.says(&["credit balance is too low", "insufficient balance", "insufficient credits"])
        {
            return Some(Class::PaymentRequired);
        }
        // A request bigger than the whole bucket: no wait makes it fit.
        let oversized = status == 413 && self.calls_it(&["rate_limit_exceeded"]);
        let spent = matches!(status, 0 | 403 | 429) && self.says(SPENT);
        (oversized || spent).then_some(Class::QuotaExhausted)
    }

    fn about_the_prompt(&self, status: u16) -> Option<Class> {
        let too_long = self.calls_it(&["context_length_exceeded", "exceed_context_size_error"])
            || (status != 429 && self.is_too_long());
        if too_long && !self.is_about_another_length() {
            return Some(Class::ContextWindow);
        }
        let filtered = self.calls_it(FILTER_CODES) || (status < 500 && self.says(FILTERED));
        let refused = status == 0 && self.calls_it(BAD_INPUT_CODES);
        filtered.then_some(Class::ContentPolicy).or_else(|| refused.then_some(Class::BadRequest))
    }

    fn is_too_long(&self) -> bool {
        self.says(TOO_LONG)
            || TOO_LONG_PAIRS.iter().any(|(left, right)| self.says(&[left]) && self.says(&[right]))
    }

    /// `user` and other fields have lengths of their own.
    fn is_about_another_length(&self) -> bool {
        self.code == "string_above_max_length"
            || self.says(&["string_above_max_length"])
            || (self.says(&["invalid 'user'"]) && self.says(&["string too long"]))
    }

    fn about_the_model(&self, status: u16) -> Option<Class> {
        let unknown = self.calls_it(&[
            "deploymentnotfound",
            "invalid_model",
            "model_decommissioned",
            "model_not_found",
            "not_found_error",
        ]);
        (unknown && status < 500).then_some(Class::NotFound)
    }

    fn about_the_key(&self, status: u16) -> Option<Class> {
        let told = self.calls_it(&["invalid_api_key", "authentication_error"])
            || self.says(&["incorrect api key provided", "invalid api key", "api key not valid"]);
        (told && status < 500 && status != 403 && status != 429).then_some(Class::Authentication)
    }

    fn about_load(&self, status: u16) -> Option<Class> {
        if self.calls_it(&["overloaded_error", "server_overloaded"])
            || (matches!(status, 0 | 429 | 500..=599) && self.says(&["overloaded"]))
        {
            // A 429 says itself how to treat it: wait.
            return Some(if status == 429 { Class::RateLimit } else { Class::ServiceUnavailable });
        }
        if self.calls_it(&["rate_limit_exceeded", "rate_limit_error", "too_many_requests"])
            || (matches!(status, 0 | 500..=599) && self.says(&["rate limit", "rate-limit"]))
            || (status != 413 && self.says(&["request too large for"]))
        {
            return Some(Class::RateLimit);
        }
        let timed_out = self.calls_it(&["timeout_error"])
            || (matches!(status, 0 | 400 | 500..=599)
                && self.says(&["a timeout occurred", "request timed out", "request timeout"]));
        if timed_out {
            return Some(Class::Timeout);
        }
        let status_is_unknown = status == 0;
        match self.kind.as_str() {
            "invalid_request_error" if status_is_unknown => Some(Class::BadRequest),
            "permission_error" if status_is_unknown => Some(Class::PermissionDenied),
            _ => None,
        }
    }
}

/// A limit that a minute does not refill.
const SPENT: &[&str] = &[
    "per day",
    "perday",
    "per-day",
    "daily limit",
    "exceeded your current quota",
    "monthly spending limit",
    "used all available credits",
    "monthly limit",
];

const TOO_LONG: &[&str] = &[
    "exceed context limit",
    "maximum context length",
    "maximum prompt length is",
    "model's maximum context limit",
    "requested token count exceeds",
    "string too long. expected a string with maximum length",
    "longer than the model's context length",
    "input tokens exceed the configured limit",
    "`inputs` tokens + `max_new_tokens` must be",
    "exceeds the available context size",
    "exceeds the context size",
    "exceeds the maximum number of tokens allowed",
    "exceeds the context window",
    "exceeds model context window",
    "exceeded model token limit",
    "exceeds the model's context",
    "context length exceeded",
    "context_length_exceeded",
    "context window exceeded",
    "prompt is too long",
    "prompt: length",
    "prompt too long",
    "input is too long",
    "input is longer than",
    "too many tokens",
    "reduce the length of the messages",
    "larger than the maximum context size",
];

const TOO_LONG_PAIRS: &[(&str, &str)] = &[
    ("current length is", "while limit is"),
    ("maximum input length is", "tokens"),
    ("input too long:", "input tokens, limit is"),
    ("input (", "is too large to process"),
    ("prompt contains", "too large for model with"),
];

const FILTER_CODES: &[&str] = &[
    "bio_policy",
    "content_filter",
    "content_policy_violation",
    "cyber_policy",
    "image_content_policy_violation",
];

/// What a response says that failed over its input; it has no status of its own.
const BAD_INPUT_CODES: &[&str] = &[
    "empty_image_file",
    "failed_to_download_image",
    "image_file_not_found",
    "image_file_too_large",
    "image_parse_error",
    "image_too_large",
    "image_too_small",
    "invalid_base64_image",
    "invalid_image",
    "invalid_image_format",
    "invalid_image_mode",
    "invalid_image_url",
    "invalid_prompt",
    "unsupported_image_media_type",
];

const FILTERED: &[&str] = &[
    "content_policy_violation",
    "content filtering policy",
    "content management policy",
    "azure openai's content management",
    "content_filter_policy",
    "responsibleaipolicyviolation",
    "violating our usage policy",
    "violates usage guidelines",
    "rejected as a result of our safety system",
    "rejected as a result of the safety system",
    "failed as a result of our safety system",
    "the model produced invalid content",
    "requires moderation on",
    "data_inspection_failed",
    "contain inappropriate content",
];

/// The class of a status whose words tell nothing.
pub fn by_status(status: u16) -> Class {
    match status {
        401 => Class::Authentication,
        402 => Class::PaymentRequired,
        403 => Class::PermissionDenied,
        404 => Class::NotFound,
        408 | 504 | 524 => Class::Timeout,
        422 => Class::UnprocessableEntity,
        429 => Class::RateLimit,
        502 => Class::BadGateway,
        503 | 529 => Class::ServiceUnavailable,
        400..=499 => Class::BadRequest,
        _ => Class::InternalServer,
    }
}

/// The status that goes with a class where the provider gave none.
fn usual_status(class: Class) -> u16 {
    match class {
        Class::Authentication => 401,
        Class::BadGateway | Class::Connection => 502,
        Class::BadRequest | Class::ContentPolicy | Class::ContextWindow => 400,
        Class::InternalServer => 500,
        Class::NotFound => 404,
        Class::PaymentRequired => 402,
        Class::PermissionDenied => 403,
        Class::QuotaExhausted | Class::RateLimit => 429,
        Class::ServiceUnavailable => 503,
        Class::Timeout => 504,
        Class::UnprocessableEntity => 422,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, want: Class) {
        let status = StatusCode::from_u16(status).unwrap();
        let got = blame(status, &HeaderMap::new(), body.as_bytes(), Duration::ZERO);
        assert_eq!((got.class, got.status), (want, status.as_u16()), "{body}");
    }

    #[test]
    fn words_come_before_the_status() {
        let error = |message: &str, code: &str| {
            serde_json::json!({"error": {"message": message, "code": code}}).to_string()
        };
        for (status, message, code, want) in [
            (429, "You exceeded your current quota", "insufficient_quota", Class::QuotaExhausted),
            (
                429,
                "Limit 100 on tokens per day (TPD)",
                "rate_limit_exceeded",
                Class::QuotaExhausted,
            ),
            (429, "Limit 100 on tokens per minute", "rate_limit_exceeded", Class::RateLimit),
            (413, "Request too large for model", "rate_limit_exceeded", Class::QuotaExhausted),
            (400, "This model's maximum context length is 8192 tokens.", "", Class::ContextWindow),
            (400, "too long", "context_length_exceeded", Class::ContextWindow),
            (400, "string too long", "string_above_max_length", Class::BadRequest),
            (500, "the request exceeds the available context size", "", Class::ContextWindow),
            (400, "filtered", "content_filter", Class::ContentPolicy),
            (400, "no such model", "model_not_found", Class::NotFound),
            (400, "Incorrect API key provided: x", "", Class::Authentication),
            (401, "maximum context length", "", Class::Authentication),
            (500, "The model is overloaded.", "", Class::ServiceUnavailable),
            (429, "temporarily overloaded", "1305", Class::RateLimit),
            (400, "Your credit balance is too low", "", Class::PaymentRequired),
            (500, "A timeout occurred", "", Class::Timeout),
            (403, "You have used all available credits", "", Class::QuotaExhausted),
        ] {
            check(status, &error(message, code), want);
        }
    }

    #[test]
    fn a_status_without_words_tells_the_class() {
        for (status, want) in [
            (400, Class::BadRequest),
            (402, Class::PaymentRequired),
            (403, Class::PermissionDenied),
            (408, Class::Timeout),
            (413, Class::BadRequest),
            (422, Class::UnprocessableEntity),
            (500, Class::InternalServer),
            (502, Class::BadGateway),
            (503, Class::ServiceUnavailable),
            (504, Class::Timeout),
            (524, Class::Timeout),
            (529, Class::ServiceUnavailable),
        ] {
            check(status, "", want);
            check(status, "<html><body>nginx</body></html>", want);
        }
    }

    #[test]
    fn an_error_in_a_good_answer_is_found_and_a_good_answer_has_none() {
        let found = |body: &str| in_good_answer(body.as_bytes()).map(|it| (it.class, it.status));
        assert_eq!(found(r#"{"choices":[{"message":{"content":"\"error\""}}]}"#), None);
        assert_eq!(found(r#"{"id":"r","error":null,"output":[]}"#), None);
        assert_eq!(found(r#"{"a":{"error":{"message":"deep"}}}"#), None);
        assert_eq!(
            found(r#"{"error":{"message":"slow down","code":429}}"#),
            Some((Class::RateLimit, 429))
        );
        for (error, want) in [
            (r#"{"code":"rate_limit_exceeded","message":"x"}"#, (Class::RateLimit, 429)),
            (r#"{"code":"server_error","message":"x"}"#, (Class::InternalServer, 500)),
            (r#"{"code":"invalid_prompt","message":"x"}"#, (Class::BadRequest, 400)),
            (r#"{"code":"bio_policy","message":"x"}"#, (Class::ContentPolicy, 400)),
            ("null", (Class::InternalServer, 500)),
        ] {
            let response = format!(r#"{{"status":"failed","error":{error},"output":[]}}"#);
            assert_eq!(found(&response), Some(want), "{error}");
            let event = format!(r#"{{"type":"response.failed","response":{response}}}"#);
            assert_eq!(found(&event), Some(want), "{error}");
        }
        assert_eq!(found(r#"{"error":"broken"}"#), Some((Class::InternalServer, 500)));
        assert_eq!(
            found(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
            Some((Class::ServiceUnavailable, 503))
        );
        assert_eq!(
            found(r#"[{"error":{"code":503,"message":"x"}}]"#),
            Some((Class::ServiceUnavailable, 503))
        );
    }
}
