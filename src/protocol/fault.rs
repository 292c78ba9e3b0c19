//! Errors in the words of each dialect.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Dialect;

/// What an error body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The sentence for people.
    pub message: String,
    /// `OpenAI`'s or Anthropic's `type`.
    pub kind: String,
    /// The parameter it is about.
    pub param: Option<String>,
    /// The machine's word for it.
    pub code: Option<String>,
}

impl Fault {
    /// A fault with the usual type for `status` in `dialect`.
    pub fn new(dialect: Dialect, status: u16, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind: kind_of(dialect, status).into(),
            param: None,
            code: None,
        }
    }

    /// The body of an error answer.
    pub fn body(&self, dialect: Dialect) -> Bytes {
        Bytes::from(self.to_json(dialect).to_string())
    }

    /// The event that ends a broken stream.
    pub fn event(&self, dialect: Dialect) -> Bytes {
        let json = self.to_json(dialect);
        Bytes::from(match dialect {
            Dialect::Anthropic => format!("event: error\ndata: {json}\n\n"),
            Dialect::OpenAi => format!("data: {json}\n\n"),
        })
    }

    fn to_json(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::Anthropic => json!({
                "type": "error",
                "error": { "type": self.kind, "message": self.message },
            }),
            Dialect::OpenAi => json!({
                "error": {
                    "message": self.message,
                    "type": self.kind,
                    "param": self.param,
                    "code": self.code,
                },
            }),
        }
    }

    /// An error body in `dialect` with the fields its clients look for added where they are
    /// missing, and every other field kept; `None` where it is no error in that dialect.
    pub fn completed(dialect: Dialect, status: u16, body: &[u8]) -> Option<Bytes> {
        let mut json: Value = serde_json::from_slice(body).ok()?;
        let usual = Self::new(dialect, status, "");
        let is_anthropic = dialect == Dialect::Anthropic;
        if is_anthropic && json.get("type").and_then(Value::as_str) != Some("error") {
            return None;
        }
        let error = json.get_mut("error")?.as_object_mut()?;
        error.get("message").and_then(Value::as_str).filter(|message| !message.is_empty())?;
        let missing = |name: &str| error.get(name).is_none_or(Value::is_null);
        let lacks_type = missing("type") || !error.get("type").is_some_and(Value::is_string);
        let lacks_code = !is_anthropic && error.get("code").is_none();
        let lacks_param = !is_anthropic && error.get("param").is_none();
        if !(lacks_type || lacks_code || lacks_param) {
            return Some(Bytes::copy_from_slice(body));
        }
        if lacks_type {
            error.insert("type".to_owned(), usual.kind.into());
        }
        if lacks_code {
            error.insert("code".to_owned(), status.to_string().into());
        }
        if lacks_param {
            error.insert("param".to_owned(), Value::Null);
        }
        Some(Bytes::from(json.to_string()))
    }

    /// Reads an error body of any provider as well as it can be read; never fails.
    pub fn read(body: &[u8]) -> Self {
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return Self::from_text(body);
        };
        // Google answers streams with an array that holds the error.
        let json = json.as_array().and_then(|list| list.first()).unwrap_or(&json);
        let error = json.get("error").filter(|error| !error.is_null()).unwrap_or(json);
        let text = |value: &Value, name: &str| match value.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let mut message = error
            .as_str()
            .map(str::to_owned)
            .or_else(|| text(error, "message"))
            .or_else(|| text(json, "message"))
            .or_else(|| json.get("detail").map(complaints))
            .or_else(|| text(error, "msg"))
            .or_else(|| json.get("errors").map(complaints))
            .unwrap_or_else(|| json.to_string());
        // An aggregator quotes the provider behind it, whose words tell more than its own.
        if let Some(quoted) = error.pointer("/metadata/raw").and_then(Value::as_str) {
            message = format!("{message}: {}", Self::read(quoted.as_bytes()).message);
        }
        Self {
            message: shortened(&message),
            kind: text(error, "type").or_else(|| text(error, "status")).unwrap_or_default(),
            param: text(error, "param"),
            code: text(error, "code").or_else(|| text(json, "code")),
        }
    }

    fn from_text(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        let message = if text.is_empty() {
            "the provider gave no reason".to_owned()
        } else if text.starts_with('<') {
            format!("the provider answered with a web page: {}", page_text(text))
        } else {
            text.to_owned()
        };
        Self { message: shortened(&message), kind: String::new(), param: None, code: None }
    }
}

/// What a validator lists, as one sentence: `messages.0.content: Field required; …`.
fn complaints(list: &Value) -> String {
    let one = |item: &Value| {
        let said = item.get("msg").or_else(|| item.get("message")).and_then(Value::as_str)?;
        let steps = item.get("loc").and_then(Value::as_array).into_iter().flatten();
        let steps = steps.map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned));
        let place = steps.skip_while(|step| step == "body").collect::<Vec<_>>().join(".");
        Some(if place.is_empty() { said.to_owned() } else { format!("{place}: {said}") })
    };
    let all = list.as_array().and_then(|items| items.iter().map(one).collect::<Option<Vec<_>>>());
    match (list.as_str(), all) {
        (Some(text), _) => text.to_owned(),
        (None, Some(all)) if !all.is_empty() => all.join("; "),
        (None, _) => list.to_string(),
    }
}

/// The words of a web page without its tags, styles and scripts.
fn page_text(page: &str) -> String {
    let mut words = String::new();
    let mut rest = page;
    while let Some(open) = rest.find('<') {
        words.push_str(rest.get(..open).unwrap_or_default());
        words.push(' ');
        rest = rest.get(open..).unwrap_or_default();
        let lower = rest.get(..8).unwrap_or(rest).to_ascii_lowercase();
        let close = if lower.starts_with("<style") {
            "</style>"
        } else if lower.starts_with("<script") {
            "</script>"
        } else {
            ">"
        };
        rest = rest.find(close).and_then(|at| rest.get(at + close.len()..)).unwrap_or_default();
    }
    words.push_str(rest);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An error message is read by people; what is longer than this is a dump.
const LONGEST_MESSAGE: usize = 4000;

fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        None => message.to_owned(),
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
    }
}

/// The type that goes with a status. `OpenAI`'s as `LiteLLM` names them, Anthropic's as its API does.
fn kind_of(dialect: Dialect, status: u16) -> &'static str {
    match (dialect, status) {
        (_, 401) => "authentication_error",
        (_, 403) => "permission_error",
        (Dialect::Anthropic, 402) => "billing_error",
        (Dialect::Anthropic, 404) => "not_found_error",
        (Dialect::Anthropic, 413) => "request_too_large",
        (_, 429) => "rate_limit_error",
        (_, 400..=499) => "invalid_request_error",
        (Dialect::Anthropic, 503 | 529) => "overloaded_error",
        (Dialect::Anthropic, 504) => "timeout_error",
        (Dialect::Anthropic, _) => "api_error",
        (Dialect::OpenAi, _) => "internal_server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, want: &str) {
        assert_eq!(Fault::read(body.as_bytes()).message, want);
    }

    #[test]
    fn the_words_of_every_shape_of_error_are_found() {
        check(r#"{"error":{"message":"a"}}"#, "a");
        check(r#"{"error":"a","code":"b"}"#, "a");
        check(r#"{"message":"a","object":"error"}"#, "a");
        check(r#"{"detail":"a"}"#, "a");
        check(
            r#"{"detail":[{"loc":["body","n"],"msg":"a"},{"loc":["m",0],"msg":"b"}]}"#,
            "n: a; m.0: b",
        );
        check(r#""a""#, "a");
        check("a\n", "a");
        check("", "the provider gave no reason");
        check(r#"[{"error":{"message":"a"}}]"#, "a");
    }

    #[test]
    fn the_words_of_the_provider_behind_an_aggregator_are_kept() {
        check(
            r#"{"error":{"message":"Provider returned error","metadata":{"raw":"{\"error\":\"a\"}"}}}"#,
            "Provider returned error: a",
        );
    }
}
