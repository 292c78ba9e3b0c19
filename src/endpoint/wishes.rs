//! What a request wants of the gateway: `LiteLLM`'s extra body fields and `x-litellm-*` headers.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use super::decode::{BadCall, typed};
use crate::lexicon::{HedgeMode, Substitute};
use crate::protocol::{Edits, Endpoint, Fields, Wishes};

/// Reads the wishes in the headers.
pub(super) fn of_headers(headers: &HeaderMap) -> Result<Wishes, BadCall> {
    let mut wishes = Wishes::default();
    // Most requests have none of them; one look at the names is cheaper than a search for each.
    for (name, value) in headers {
        let name_text = name.as_str();
        let Some(wish) = name_text
            .strip_prefix("x-litellm-")
            .or_else(|| name_text.starts_with("x-pillion-").then_some(name_text))
        else {
            continue;
        };
        let text = value.to_str().unwrap_or("").trim();
        let wrong = |wanted| BadCall::Field { name: name.as_str().into(), wanted };
        match wish {
            "timeout" => wishes.timeout = Some(seconds_text(text).ok_or(wrong(SECONDS))?),
            "stream-timeout" => {
                wishes.stream_timeout = Some(seconds_text(text).ok_or(wrong(SECONDS))?);
            }
            "num-retries" => {
                wishes.num_retries = Some(text.parse().map_err(|_| wrong(WHOLE_NUMBER))?);
            }
            "x-pillion-hedge" => {
                let known = HedgeMode::named(text).ok_or(wrong(HedgeMode::NAMES))?;
                wishes.hedge = Some(known);
            }
            "x-pillion-timeout-total" => {
                wishes.total_timeout = Some(seconds_text(text).ok_or(wrong(SECONDS))?);
            }
            "tags" => wishes.tags.extend(
                text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(Into::into),
            ),
            _ => {}
        }
    }
    Ok(wishes)
}

/// Reads the wishes in the body and notes in `edits` which fields are not for a provider.
pub(super) fn of_body(
    body: &Bytes,
    fields: &Fields,
    endpoint: Endpoint,
    model: &str,
    wishes: &mut Wishes,
    edits: &mut Edits,
) -> Result<(), BadCall> {
    for (name, value) in fields.iter(body) {
        match name {
            "fallbacks" => wishes.fallbacks = substitutes(name, value, model)?,
            "context_window_fallbacks" => {
                wishes.context_window_fallbacks = substitutes(name, value, model)?;
            }
            "content_policy_fallbacks" => {
                wishes.content_policy_fallbacks = substitutes(name, value, model)?;
            }
            "disable_fallbacks" => {
                wishes.disable_fallbacks =
                    typed(body, fields, name, "true or false")?.unwrap_or(false);
            }
            "fastest_response" => {
                wishes.fastest_response =
                    typed(body, fields, name, "true or false")?.unwrap_or(false);
            }
            "num_retries" | "max_retries" => {
                let number: Option<u32> = typed(body, fields, name, WHOLE_NUMBER)?;
                wishes.num_retries = number.or(wishes.num_retries);
            }
            "timeout" | "request_timeout" => {
                wishes.timeout = seconds(body, fields, name)?.or(wishes.timeout);
            }
            "stream_timeout" => {
                wishes.stream_timeout = seconds(body, fields, name)?.or(wishes.stream_timeout);
            }
            "tags" => add_tags(wishes, typed(body, fields, name, "a list of strings")?),
            "metadata" | "litellm_metadata" => {
                add_tags(wishes, tags_of(value));
                if name == "metadata" && keeps_metadata(endpoint, body, fields) {
                    continue;
                }
            }
            "drop_params" => wishes.drop_params = typed(body, fields, name, "true or false")?,
            "additional_drop_params" => {
                wishes.additional_drop_params =
                    typed(body, fields, name, "a list of strings")?.unwrap_or_default();
            }
            "allowed_openai_params" => {
                wishes.allowed_openai_params =
                    typed(body, fields, name, "a list of strings")?.unwrap_or_default();
            }
            "api_base"
            | "api_key"
            | "base_url"
            | "model_list"
            | "user_config"
            | "aws_access_key_id"
            | "aws_secret_access_key"
            | "vertex_credentials"
            | "azure_ad_token" => return Err(BadCall::Forbidden(name.into())),
            _ if name.starts_with("mock_testing_") => return Err(BadCall::Forbidden(name.into())),
            _ if is_gateways_own(name) => {}
            _ => continue,
        }
        edits.drop(name.to_owned());
    }
    Ok(())
}

/// Fields that `LiteLLM` takes out of a body and that ask for nothing Pillion does.
fn is_gateways_own(name: &str) -> bool {
    matches!(
        name,
        "cache"
            | "caching"
            | "guardrails"
            | "include_fallback_errors"
            | "keepalive_seconds"
            | "litellm_session_id"
            | "litellm_trace_id"
            | "mock_response"
            | "mock_tool_calls"
            | "no-log"
            | "no_log"
            | "proxy_server_request"
            | "weights"
    )
}

/// `OpenAI`'s own `metadata` goes with stored chats and with responses, Anthropic's with messages;
/// any other is `LiteLLM`'s bag for itself, which providers refuse.
fn keeps_metadata(endpoint: Endpoint, body: &[u8], fields: &Fields) -> bool {
    match endpoint {
        Endpoint::CountTokens | Endpoint::Messages | Endpoint::Responses => true,
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => {
            fields.get(body, "store") == Some(b"true")
        }
    }
}

fn tags_of(metadata: &[u8]) -> Option<Vec<Box<str>>> {
    #[derive(Deserialize)]
    struct Tagged {
        tags: Option<Vec<Box<str>>>,
    }
    serde_json::from_slice::<Tagged>(metadata).ok()?.tags
}

fn add_tags(wishes: &mut Wishes, tags: Option<Vec<Box<str>>>) {
    for tag in tags.unwrap_or_default() {
        if !wishes.tags.contains(&tag) {
            wishes.tags.push(tag);
        }
    }
}

const SECONDS: &str = "a number of seconds above zero";
const WHOLE_NUMBER: &str = "a whole number, zero or more";

fn seconds(body: &[u8], fields: &Fields, name: &str) -> Result<Option<Duration>, BadCall> {
    let wrong = || BadCall::Field { name: name.into(), wanted: SECONDS };
    match typed::<f64>(body, fields, name, SECONDS)? {
        None => Ok(None),
        Some(number) => positive(number).map(Some).ok_or_else(wrong),
    }
}

fn seconds_text(text: &str) -> Option<Duration> {
    text.parse().ok().and_then(positive)
}

fn positive(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

/// A fallback list in any of `LiteLLM`'s three forms: names, objects with a `model` and more
/// fields, or objects from a group to its names (of which the one for `model` counts).
fn substitutes(name: &str, json: &[u8], model: &str) -> Result<Option<Vec<Substitute>>, BadCall> {
    let wrong = || BadCall::Field {
        name: name.into(),
        wanted: "a list of model names, of objects with a `model`, or of `{group: [models]}`",
    };
    let list: Option<Vec<Value>> = serde_json::from_slice(json).map_err(|_| wrong())?;
    let Some(list) = list else { return Ok(None) };
    let mut found = Vec::new();
    for entry in list {
        match entry {
            Value::String(model) => found.push(Substitute::model(model)),
            Value::Object(object) if object.get("model").is_some_and(Value::is_string) => {
                found.push(with_fields(object));
            }
            Value::Object(object) => {
                let targets = object.get(model).or_else(|| object.get("*"));
                let targets = targets.map_or(Some(Vec::new()), names);
                found.extend(targets.ok_or_else(wrong)?);
            }
            _ => return Err(wrong()),
        }
    }
    Ok(Some(found))
}

fn names(list: &Value) -> Option<Vec<Substitute>> {
    list.as_array()?.iter().map(|name| Some(Substitute::model(name.as_str()?))).collect()
}

fn with_fields(object: serde_json::Map<String, Value>) -> Substitute {
    let mut substitute = Substitute::model("");
    for (name, value) in object {
        match value {
            Value::String(model) if name == "model" => substitute.model = model.into(),
            value => substitute.fields.push((name.into(), Bytes::from(value.to_string()))),
        }
    }
    substitute
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(body: &str) -> (Wishes, String) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let fields = Fields::of(&body).unwrap();
        let (mut wishes, mut edits) = (Wishes::default(), Edits::new());
        of_body(&body, &fields, Endpoint::ChatCompletions, "m", &mut wishes, &mut edits).unwrap();
        let left = edits.apply(&body, &fields).to_bytes();
        (wishes, String::from_utf8(left.to_vec()).unwrap())
    }

    #[test]
    fn wishes_are_read_and_taken_out() {
        let (wishes, left) = read(
            r#"{"a":1,"num_retries":3,"timeout":0.5,"tags":["x"],"metadata":{"tags":["x","y"]},"cache":{},"b":2}"#,
        );
        assert_eq!(left, r#"{"a":1,"b":2}"#);
        assert_eq!(wishes.num_retries, Some(3));
        assert_eq!(wishes.timeout, Some(Duration::from_millis(500)));
        assert_eq!(wishes.tags, ["x".into(), "y".into()]);
    }

    #[test]
    fn metadata_of_a_stored_chat_stays() {
        assert_eq!(read(r#"{"metadata":{"k":"v"}}"#).1, "{}");
        let stored = r#"{"store":true,"metadata":{"k":"v"}}"#;
        assert_eq!(read(stored).1, stored);
    }

    #[test]
    fn fallbacks_come_in_three_forms() {
        let models = |json: &str| {
            let wishes = read(&format!(r#"{{"fallbacks":{json}}}"#)).0;
            let list = wishes.fallbacks.unwrap();
            list.iter().map(|to| (to.model.to_string(), to.fields.len())).collect::<Vec<_>>()
        };
        assert_eq!(models(r#"["a","b"]"#), [("a".into(), 0), ("b".into(), 0)]);
        assert_eq!(models(r#"[{"model":"a","temperature":0}]"#), [("a".into(), 1)]);
        assert_eq!(models(r#"[{"m":["a"]},{"n":["b"]}]"#), [("a".into(), 0)]);
        assert_eq!(models("[]"), []);
        assert_eq!(read(r#"{"fallbacks":null}"#).0.fallbacks, None);
    }

    #[test]
    fn headers_wish_too_and_nonsense_is_refused() {
        let headers = |name: &'static str, value: &'static str| {
            of_headers(&HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]))
        };
        let wishes = headers("x-litellm-tags", "a, b,").unwrap();
        assert_eq!(wishes.tags, ["a".into(), "b".into()]);
        assert_eq!(
            headers("x-litellm-timeout", "2").unwrap().timeout,
            Some(Duration::from_secs(2))
        );
        assert!(headers("x-litellm-timeout", "-1").is_err());
        assert!(headers("x-litellm-num-retries", "many").is_err());
    }
}
