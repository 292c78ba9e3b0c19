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

    /// The event that ends a broken stream whose events are numbered, as those of Responses are.
    ///
    /// Its schema has the fields beside the type; the API itself puts them into `error`, and SDKs
    /// look there.
    pub fn numbered_event(&self, number: u64) -> Bytes {
        let json = json!({
            "type": "error",
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "sequence_number": number,
            "error": self.details(),
        });
        Bytes::from(format!("event: error\ndata: {json}\n\n"))
    }

    fn to_json(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::Anthropic => json!({
                "type": "error",
                "error": { "type": self.kind, "message": self.message },
            }),
            Dialect::OpenAi => json!({ "error": self.details() }),
        }
    }

    /// `OpenAI`'s error object.
    fn details(&self) -> Value {
        json!({
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        })
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
        // A response that failed is told with all that is known of it.
        let response = json.get("response").filter(|response| response.is_object());
        let errors = [Some(json), response].into_iter().flatten().filter_map(|it| it.get("error"));
        let error = errors.into_iter().find(|error| !error.is_null());
        if error.is_none() && json.get("response").unwrap_or(json)["status"] == "failed" {
            return Self::from_text(b"");
        }
        let error = error.unwrap_or(json);
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
        // An event that is one itself says of what kind it is only that it is one.
        let kind = text(error, "type").filter(|kind| kind != "error");
        Self {
            message: shortened(&message),
            kind: kind.or_else(|| text(error, "status")).unwrap_or_default(),
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
    fn an_error_of_responses_is_an_event_as_its_schema_and_its_sdks_want_it() {
        let fault = Fault::new(Dialect::OpenAi, 502, "broke off");
        let event = fault.numbered_event(7);
        let event = std::str::from_utf8(&event).unwrap();
        let data = event.strip_prefix("event: error\ndata: ").unwrap();
        let json: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&json["type"], &json["sequence_number"]), (&json!("error"), &json!(7)));
        for name in ["code", "message", "param"] {
            assert_eq!(json[name], json["error"][name], "{name}");
        }
        assert_eq!(json["error"]["message"], "broke off");
        assert_eq!(Fault::read(data.as_bytes()), fault);
    }

    #[test]
    fn the_words_of_a_response_that_failed_are_found() {
        let read = |body: Value| Fault::read(body.to_string().as_bytes());
        let error = json!({"code": "server_error", "message": "it broke"});
        let response = json!({"status": "failed", "error": error});
        for body in [json!({"type": "response.failed", "response": response}), response] {
            let fault = read(body);
            assert_eq!(
                (&*fault.message, fault.code.as_deref()),
                ("it broke", Some("server_error"))
            );
        }
        let silent = json!({"status": "failed", "error": null});
        for body in [json!({"type": "response.failed", "response": silent}), silent] {
            assert_eq!(read(body).message, "the provider gave no reason");
        }
        let flat = json!({"type": "error", "code": "server_error", "message": "it broke"});
        assert_eq!((&*read(flat.clone()).kind, &*read(flat).message), ("", "it broke"));
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
