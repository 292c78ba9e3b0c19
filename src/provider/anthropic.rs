//! Anthropic's Messages API: spoken as it is, or for clients that speak chat completions.
//!
//! A Messages call passes with its model spliced in and every other byte as it came. A chat call
//! goes through the hub of [`crate::protocol::turn`] and so does its answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use super::{Adapter, Deployment, Outgoing, Unsayable, Vendor, drops, fault};
use crate::lexicon::Failure;
use crate::protocol::anthropic::write::{Abilities, Spoken};
use crate::protocol::turn::{Bridge, Leniency, Unsaid};
use crate::protocol::{Call, Dialect, Edits, Endpoint, Rope, Translator, anthropic, openai};
use crate::registry::{self, Model};

/// Speaks Messages.
#[derive(Debug)]
pub struct Anthropic;

impl Adapter for Anthropic {
    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn serves(&self, _: &Vendor, endpoint: Endpoint) -> bool {
        match endpoint {
            Endpoint::ChatCompletions | Endpoint::CountTokens | Endpoint::Messages => true,
            Endpoint::Completions | Endpoint::Embeddings | Endpoint::Responses => false,
        }
    }

    fn request(&self, call: &Call, to: &Deployment, model: &str) -> Result<Outgoing, Unsayable> {
        if let Some(why) = &to.unusable {
            return Err(Unsayable::Unusable(why.clone()));
        }
        match call.endpoint {
            Endpoint::ChatCompletions => translated(call, to, model),
            Endpoint::CountTokens | Endpoint::Messages => {
                let body = spliced(call, to, model);
                outgoing(call.endpoint, to, body, &[], None)
            }
            endpoint @ (Endpoint::Completions | Endpoint::Embeddings | Endpoint::Responses) => {
                Err(Unsayable::Endpoint { vendor: to.vendor.prefix, endpoint })
            }
        }
    }

    fn blame(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        unix_now: Duration,
    ) -> Failure {
        fault::blame(status, headers, body, unix_now)
    }
}

fn translated(call: &Call, to: &Deployment, model: &str) -> Result<Outgoing, Unsayable> {
    let unsaid = |why| unsayable(why, to.vendor.prefix);
    let mut body = parsed(call).map_err(unsaid)?;
    prepare(&mut body, call, to);
    let ask = openai::read::ask(body).map_err(unsaid)?;
    let allowed: Vec<Box<str>> = drops::allowed(call, to).cloned().collect();
    let leniency = Leniency { drop: drops::may_drop(call, to), allowed: &allowed };
    let known = registry::lookup(to.vendor.prefix, model);
    let abilities = abilities(model, known.as_ref());
    let spoken = anthropic::write::body(&ask, model, abilities, leniency).map_err(unsaid)?;
    let Spoken { body, betas, key } = spoken;
    // Made here and not by the provider: Anthropic dates no answer.
    let created = crate::lexicon::time::unix_now().as_secs();
    let bridge = Bridge::new(
        anthropic::stream::Heard::new(key),
        openai::stream::Said::new(&call.model, created, call.include_usage),
    );
    let body = Rope::from(Bytes::from(Value::Object(body).to_string()));
    outgoing(Endpoint::Messages, to, body, &betas, Some(Box::new(bridge)))
}

/// Carries a Messages call to a deployment that speaks chat completions: the chat body, and what
/// turns the chat answer back into a Messages answer. `reasoning` is whether the model takes
/// `reasoning_effort`.
///
/// The body follows OpenAI's own rules; what a vendor says differently (`max_completion_tokens`,
/// streams without `stream_options`) is mended as for any chat call. Dropped fields and defaults
/// of the deployment are applied before the translation, so they are named as in Messages.
pub fn messages_over_chat(
    call: &Call,
    to: &Deployment,
    model: &str,
    reasoning: bool,
) -> Result<(Bytes, Box<dyn Translator>), Unsayable> {
    let unsaid = |why| unsayable(why, to.vendor.prefix);
    let mut body = parsed(call).map_err(unsaid)?;
    prepare(&mut body, call, to);
    let ask = anthropic::read::ask(body).map_err(unsaid)?;
    let allowed: Vec<Box<str>> = drops::allowed(call, to).cloned().collect();
    let leniency = Leniency { drop: drops::may_drop(call, to), allowed: &allowed };
    let body = openai::write::body(&ask, model, reasoning, leniency).map_err(unsaid)?;
    let bridge =
        Bridge::new(openai::stream::Heard::default(), anthropic::stream::Said::new(&call.model));
    Ok((Bytes::from(Value::Object(body).to_string()), Box::new(bridge)))
}

fn parsed(call: &Call) -> Result<Map<String, Value>, Unsaid> {
    serde_json::from_slice(&call.body)
        .map_err(|error| Unsaid::Content("body".to_owned(), error.to_string()))
}

/// Adds the deployment's defaults and takes out what is never to be sent.
fn prepare(body: &mut Map<String, Value>, call: &Call, to: &Deployment) {
    for (name, json) in &to.defaults {
        let value = || serde_json::from_slice(json).ok();
        if let Some(value) = (!body.contains_key(&**name)).then(value).flatten() {
            body.insert(name.to_string(), value);
        }
    }
    drops::take_out(body, call, to);
}

fn unsayable(why: Unsaid, vendor: &'static str) -> Unsayable {
    match why {
        Unsaid::Content(param, why) => {
            Unsayable::Content { vendor, param: param.into(), why: why.into() }
        }
        Unsaid::Params(names) => Unsayable::Params { vendor, names },
    }
}

fn spliced(call: &Call, to: &Deployment, model: &str) -> Rope {
    let mut edits = Edits::new();
    for (name, json) in &to.defaults {
        if call.fields.get(&call.body, name).is_none() {
            edits.set(name.to_string(), json.clone());
        }
    }
    drops::additional(call, to, &mut edits);
    edits.set("model", Value::from(model).to_string());
    edits.apply(&call.body, &call.fields)
}

fn outgoing(
    endpoint: Endpoint,
    to: &Deployment,
    body: Rope,
    betas: &[&str],
    translator: Option<Box<dyn Translator>>,
) -> Result<Outgoing, Unsayable> {
    let versioned = to.base.path().trim_end_matches('/').ends_with("/v1");
    let path = format!("{}{}", if versioned { "" } else { "/v1" }, endpoint.path());
    let nowhere = || Unsayable::Unusable("its address and query make no URL".into());
    let uri = to.at(&path).ok_or_else(nowhere)?;
    let mut headers = to.headers.clone();
    headers.entry("anthropic-version").or_insert(HeaderValue::from_static("2023-06-01"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !betas.is_empty() {
        let configured = headers.get("anthropic-beta").and_then(|it| it.to_str().ok());
        let all: Vec<&str> = configured.into_iter().chain(betas.iter().copied()).collect();
        if let Ok(all) = HeaderValue::from_str(&all.join(",")) {
            headers.insert("anthropic-beta", all);
        }
    }
    Ok(Outgoing { uri, headers, body, endpoint, choices: 1, usage_is_ours: false, translator })
}

/// What a model can do, from the registry where it is known and from its name else.
///
/// Names are read so that a family newer than the registry works: since 4.6 models think
/// adaptively, since 4.5 (and Opus 4.1) they take schemas, and since Opus 4.7 none samples.
pub fn abilities(model: &str, known: Option<&Model>) -> Abilities {
    let version = version(model);
    let adaptive = version >= (4, 6);
    let opus = model.contains("opus");
    Abilities {
        max_output: known.and_then(|model| model.max_output),
        reasoning: version >= (3, 7) || known.is_some_and(|model| model.can('r')),
        adaptive_thinking: adaptive,
        json_schema: version >= (4, 5) || (opus && version == (4, 1)),
        sampling: version < (4, 7),
    }
}

/// The version in a name such as `claude-sonnet-4-5-20250929` or `claude-3-7-sonnet-latest`.
/// Longer numbers are dates.
fn version(model: &str) -> (u32, u32) {
    let Some(at) = model.find("claude") else { return (0, 0) };
    let name = model.get(at..).unwrap_or_default();
    let mut numbers = name
        .split(['-', '.', '@', ':'])
        .skip_while(|word| !is_version(word))
        .take_while(|word| is_version(word))
        .map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn is_version(word: &str) -> bool {
    !word.is_empty() && word.len() <= 2 && word.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::Class;
    use crate::protocol::{Fields, Wishes};
    use crate::provider::fixture::spec;
    use crate::provider::{Spec, build};
    use serde_json::json;

    fn deployment(base: &str) -> Deployment {
        let spec = Spec {
            api_base: Some(base.into()),
            defaults: vec![("temperature".into(), Bytes::from_static(b"0.1"))],
            additional_drop_params: vec!["seed".into(), "metadata.trace".into()],
            ..spec("anthropic/claude-sonnet-4-5")
        };
        build(spec, &|_| None).unwrap()
    }

    fn call(endpoint: Endpoint, body: &str) -> Call {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Call {
            endpoint,
            model: "claude".into(),
            stream: false,
            include_usage: false,
            fields: Fields::of(&body).unwrap(),
            body,
            wishes: Wishes::default(),
        }
    }

    fn ask(endpoint: Endpoint, body: &str, to: &Deployment) -> Result<Outgoing, Unsayable> {
        Anthropic.request(&call(endpoint, body), to, "claude-sonnet-4-5")
    }

    #[test]
    fn a_messages_call_passes_with_only_its_model_changed() {
        let body = r#"{ "model" : "claude", "x": [1, 2 ], "seed":1, "messages": [], "metadata": {"trace":1,"user_id":"u"} }"#;
        let to = deployment("https://api.anthropic.com");
        let out = ask(Endpoint::Messages, body, &to).unwrap();
        assert_eq!(out.uri, "https://api.anthropic.com/v1/messages");
        assert_eq!(
            std::str::from_utf8(&out.body.to_bytes()).unwrap(),
            r#"{ "model" : "claude-sonnet-4-5", "x": [1, 2 ], "messages": [], "metadata": {"user_id":"u"},"temperature":0.1 }"#
        );
        assert_eq!(out.headers["anthropic-version"], "2023-06-01");
        assert!(out.translator.is_none() && !out.headers.contains_key("anthropic-beta"));
        let out = ask(Endpoint::CountTokens, body, &deployment("http://h/v1/")).unwrap();
        assert_eq!(out.uri, "http://h/v1/messages/count_tokens");
    }

    #[test]
    fn a_chat_call_is_translated_with_defaults_and_betas() {
        let body = r#"{"model":"claude","seed":3,"messages":[{"role":"user","content":"hi"}],
            "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":
            {"type":"object","properties":{"a":{"type":"string"}}}}}}"#;
        let mut to = deployment("https://api.anthropic.com");
        to.headers.insert("anthropic-beta", HeaderValue::from_static("mine-1"));
        let out = ask(Endpoint::ChatCompletions, body, &to).unwrap();
        assert_eq!(out.endpoint, Endpoint::Messages);
        assert_eq!(out.headers["anthropic-beta"], "mine-1,structured-outputs-2025-11-13");
        let sent: Value = serde_json::from_slice(&out.body.to_bytes()).unwrap();
        assert_eq!(sent["model"], "claude-sonnet-4-5");
        assert_eq!(sent["temperature"], 0.1);
        assert_eq!(sent.get("seed"), None);
        let whole = json!({"id": "msg_1", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "{}"}]});
        let answer = out.translator.unwrap().answer(whole.to_string().as_bytes()).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["model"], "claude");
        assert_eq!(answer["choices"][0]["message"]["content"], "{}");
    }

    #[test]
    fn all_refused_parameters_are_named_unless_they_may_be_dropped() {
        let body = r#"{"model":"claude","n":2,"logprobs":true,"messages":[{"role":"user","content":"hi"}]}"#;
        let mut to = deployment("https://api.anthropic.com");
        let refused = ask(Endpoint::ChatCompletions, body, &to).unwrap_err();
        let names = vec!["n".into(), "logprobs".into()];
        assert_eq!(refused, Unsayable::Params { vendor: "anthropic", names });
        to.drop_params = true;
        assert!(ask(Endpoint::ChatCompletions, body, &to).is_ok());
        let mut strict = call(Endpoint::ChatCompletions, body);
        strict.wishes.drop_params = Some(false);
        assert!(Anthropic.request(&strict, &to, "m").is_err());
    }

    #[test]
    fn a_messages_call_can_be_carried_over_chat() {
        let body =
            r#"{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
        let to = deployment("https://api.openai.com");
        let (chat, mut translator) =
            messages_over_chat(&call(Endpoint::Messages, body), &to, "gpt-4o", false).unwrap();
        let chat: Value = serde_json::from_slice(&chat).unwrap();
        assert_eq!((&chat["model"], &chat["max_tokens"]), (&json!("gpt-4o"), &json!(9)));
        let whole = json!({"id": "chatcmpl-1", "choices": [
            {"message": {"content": "ho"}, "finish_reason": "length"}]});
        let answer = translator.answer(whole.to_string().as_bytes()).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["content"], json!([{"type": "text", "text": "ho"}]));
        assert_eq!(answer["stop_reason"], "max_tokens");
        assert_eq!((&answer["id"], &answer["model"]), (&json!("msg_1"), &json!("claude")));
    }

    #[track_caller]
    fn check(status: u16, kind: &str, message: &str, class: Class, want: u16) {
        let body = json!({"type": "error", "error": {"type": kind, "message": message}});
        let status = StatusCode::from_u16(status).unwrap();
        let got =
            Anthropic.blame(status, &HeaderMap::new(), body.to_string().as_bytes(), Duration::ZERO);
        assert_eq!((got.class, got.status), (class, want));
    }

    #[test]
    fn errors_are_classed_by_their_words_and_then_by_their_status() {
        check(529, "overloaded_error", "Overloaded", Class::ServiceUnavailable, 529);
        check(429, "rate_limit_error", "slow down", Class::RateLimit, 429);
        check(
            400,
            "invalid_request_error",
            "prompt is too long: 210000 tokens > 200000 maximum",
            Class::ContextWindow,
            400,
        );
        check(
            400,
            "invalid_request_error",
            "Output blocked by content filtering policy",
            Class::ContentPolicy,
            400,
        );
        check(
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API",
            Class::PaymentRequired,
            400,
        );
        check(401, "authentication_error", "invalid x-api-key", Class::Authentication, 401);
        check(403, "permission_error", "no", Class::PermissionDenied, 403);
        check(404, "not_found_error", "model: x", Class::NotFound, 404);
        check(413, "request_too_large", "too large", Class::BadRequest, 413);
        check(500, "api_error", "Internal server error", Class::InternalServer, 500);
    }
    #[test]
    fn abilities_follow_the_version_in_the_name() {
        let read = |name: &str| {
            let it = abilities(name, None);
            (it.reasoning, it.adaptive_thinking, it.json_schema, it.sampling)
        };
        assert_eq!(read("claude-3-5-sonnet-20241022"), (false, false, false, true));
        assert_eq!(read("claude-3-7-sonnet-latest"), (true, false, false, true));
        assert_eq!(read("claude-sonnet-4-20250514"), (true, false, false, true));
        assert_eq!(read("claude-opus-4-1-20250805"), (true, false, true, true));
        assert_eq!(read("claude-haiku-4-5"), (true, false, true, true));
        assert_eq!(read("claude-sonnet-4-6"), (true, true, true, true));
        assert_eq!(read("claude-opus-5"), (true, true, true, false));
        assert_eq!(read("someone-elses-model"), (false, false, false, true));
    }
}
