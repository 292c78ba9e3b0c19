//! The adapter behind the catalogue: OpenAI's words, spliced in and passed through.
//!
//! A body is never parsed and written anew: fields are replaced, renamed, added or left out in
//! place, and every other byte goes as it came.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use memchr::memmem;

use super::vendor::{Vendor, Wire};
use super::{Adapter, Deployment, Outgoing, Unsayable, anthropic, build, drops, fault, reasoning};
use crate::lexicon::Failure;
use crate::protocol::{Call, Dialect, Edits, Endpoint, Fields, json_list};
use crate::registry;

/// Speaks OpenAI's dialect.
#[derive(Debug)]
pub struct Compatible;

impl Adapter for Compatible {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    fn serves(&self, vendor: &Vendor, endpoint: Endpoint) -> bool {
        vendor.serves.has(endpoint)
    }

    fn request(&self, call: &Call, to: &Deployment, model: &str) -> Result<Outgoing, Unsayable> {
        if let Some(why) = &to.unusable {
            return Err(Unsayable::Unusable(why.clone()));
        }
        let endpoint = call.endpoint;
        if endpoint == Endpoint::Messages && self.serves(to.vendor, Endpoint::ChatCompletions) {
            return over_chat(call, to, model);
        }
        if !self.serves(to.vendor, endpoint) {
            return Err(Unsayable::Endpoint { vendor: to.vendor.prefix, endpoint });
        }
        let uri = match to.uris.get(endpoint.at()) {
            Some(Some(uri)) => uri.clone(),
            Some(None) | None => build::address(to, endpoint, model)
                .ok_or(Unsayable::Endpoint { vendor: to.vendor.prefix, endpoint })?,
        };
        let mut edits = Edits::new();
        put_model(call, to, model, &mut edits);
        fit(call, to, model, &mut edits)?;
        let usage_is_ours = ask_for_usage(call, to.vendor, &mut edits);
        add_defaults(call, to, &mut edits);
        let body = edits.apply(&call.body, &call.fields);
        Ok(Outgoing {
            uri,
            headers: to.headers.clone(),
            body,
            endpoint,
            choices: choices(call, &edits),
            usage_is_ours,
            translator: None,
        })
    }

    fn blame(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        unix_now: std::time::Duration,
    ) -> Failure {
        fault::blame(status, headers, body, unix_now)
    }
}

/// A Messages call, for a provider that speaks chat completions.
fn over_chat(call: &Call, to: &Deployment, model: &str) -> Result<Outgoing, Unsayable> {
    let known = registry::lookup(to.vendor.prefix, model);
    let reasons = known.is_some_and(|model| model.can('r')) || reasoning::family(model).is_some();
    let (body, translator) = anthropic::messages_over_chat(call, to, model, reasons)?;
    let fields = Fields::of(&body).unwrap_or_default();
    let endpoint = Endpoint::ChatCompletions;
    let chat = Call { endpoint, body, fields, include_usage: false, ..call.clone() };
    let mut outgoing = Compatible.request(&chat, to, model)?;
    outgoing.translator = Some(translator);
    Ok(outgoing)
}

fn put_model(call: &Call, to: &Deployment, model: &str, edits: &mut Edits) {
    let json = if *model == *to.model {
        to.model_json.clone()
    } else {
        Bytes::from(serde_json::Value::from(model).to_string())
    };
    if call.fields.get(&call.body, "model") != Some(&json) {
        edits.set("model", json);
    }
}

/// Renames, leaves out or refuses what the provider does not take as it is.
fn fit(call: &Call, to: &Deployment, model: &str, edits: &mut Edits) -> Result<(), Unsayable> {
    let vendor = to.vendor;
    let may_drop = drops::may_drop(call, to);
    let native = matches!(vendor.wire, Wire::Azure) || vendor.prefix == "openai";
    let family = if native { reasoning::family(model) } else { None };
    let mut refused = Vec::new();
    let (unwanted, renames) = match call.endpoint {
        Endpoint::ChatCompletions => (vendor.refuses, vendor.renames),
        Endpoint::Completions
        | Endpoint::CountTokens
        | Endpoint::Embeddings
        | Endpoint::Messages
        | Endpoint::Responses => (&[][..], &[][..]),
    };
    for (name, value) in call.fields.iter(&call.body) {
        if vendor.ignores.contains(&name) || (name == "stream_options" && !vendor.stream_options) {
            edits.drop(name.to_owned());
        } else if unwanted.contains(&name) && value != b"null" && !is_allowed(call, to, name) {
            if may_drop {
                edits.drop(name.to_owned());
            } else if vendor.strict {
                refused.push(name.into());
            }
        } else if let Some((_, other)) = renames.iter().find(|(from, _)| *from == name) {
            move_to(call, name, other, edits);
        } else if name == "messages" && !vendor.developer {
            with_system_role(value, edits);
        } else if name == "tool_choice" && vendor.required_is_any && value == b"\"required\"" {
            edits.set("tool_choice", "\"any\"");
        } else if let Some(family) = family {
            if name == "max_tokens" && call.endpoint == Endpoint::ChatCompletions {
                move_to(call, name, "max_completion_tokens", edits);
            } else if may_drop && family.refuses(name, value) && !is_allowed(call, to, name) {
                edits.drop(name.to_owned());
            }
        }
    }
    drops::additional(call, to, edits);
    if refused.is_empty() {
        Ok(())
    } else {
        Err(Unsayable::Params { vendor: vendor.prefix, names: refused })
    }
}

/// Renames a field; where both names are there, `max_completion_tokens` wins as in LiteLLM, and
/// else the name that the provider knows.
fn move_to(call: &Call, name: &str, other: &str, edits: &mut Edits) {
    let value = |name| call.fields.get(&call.body, name).filter(|value| *value != b"null");
    match (value(name), value(other)) {
        (Some(newer), Some(_)) if name == "max_completion_tokens" => {
            edits.set(other.to_owned(), Bytes::copy_from_slice(newer));
            edits.drop(name.to_owned());
        }
        (None | Some(_), Some(_)) => edits.drop(name.to_owned()),
        (_, None) => {
            edits.drop(other.to_owned());
            edits.rename(name.to_owned(), other);
        }
    }
}

fn is_allowed(call: &Call, to: &Deployment, name: &str) -> bool {
    drops::allowed(call, to).any(|allowed| &**allowed == name)
}

/// Gives messages of the role `developer` the role `system`. The list is read only if the word
/// stands in it.
fn with_system_role(messages: &[u8], edits: &mut Edits) {
    if memmem::find(messages, b"\"developer\"").is_none() {
        return;
    }
    let Ok(list) = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(messages) else {
        return;
    };
    let mut changed = false;
    let mut parts = Vec::with_capacity(list.len());
    for message in list {
        let text = message.get().as_bytes();
        let fields = Fields::of(text).unwrap_or_default();
        if fields.get(text, "role") == Some(b"\"developer\"") {
            let mut role = Edits::new();
            role.set("role", "\"system\"");
            parts.push(role.apply(&Bytes::copy_from_slice(text), &fields).to_bytes());
            changed = true;
        } else {
            parts.push(Bytes::copy_from_slice(text));
        }
    }
    if changed {
        edits.set("messages", json_list(&parts));
    }
}

/// Asks a stream for its usage; says whether the client did not.
fn ask_for_usage(call: &Call, vendor: &Vendor, edits: &mut Edits) -> bool {
    let has_usage = matches!(call.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    if !call.stream || !has_usage || call.include_usage || !vendor.stream_options {
        return false;
    }
    let options = call.fields.get(&call.body, "stream_options").filter(|value| *value != b"null");
    let with_usage = options.and_then(|options| {
        let fields = Fields::of(options).ok()?;
        let mut edit = Edits::new();
        edit.set("include_usage", "true");
        Some(edit.apply(&Bytes::copy_from_slice(options), &fields).to_bytes())
    });
    edits.set(
        "stream_options",
        with_usage.unwrap_or(Bytes::from_static(b"{\"include_usage\":true}")),
    );
    true
}

/// Adds the configured fields that the request does not have. Tools of both are joined, the
/// configured ones first, and `extra_body` stands for the fields in it.
fn add_defaults(call: &Call, to: &Deployment, edits: &mut Edits) {
    for (name, json) in &to.defaults {
        let own = call.fields.get(&call.body, name).filter(|value| *value != b"null");
        match (&**name, own) {
            ("extra_body", _) => {
                let fields = Fields::of(json).unwrap_or_default();
                for (name, value) in fields.iter(json) {
                    if call.fields.get(&call.body, name).is_none() {
                        edits.set(name.to_owned(), Bytes::copy_from_slice(value));
                    }
                }
            }
            ("tools", Some(own)) => {
                let list = |json| serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(json);
                if let (Ok(ours), Ok(theirs)) = (list(json), list(own)) {
                    let both = ours.iter().chain(&theirs);
                    let both: Vec<Bytes> =
                        both.map(|tool| Bytes::copy_from_slice(tool.get().as_bytes())).collect();
                    edits.set("tools", json_list(&both));
                }
            }
            (_, Some(_)) => {}
            (name, None) => {
                let name = to
                    .vendor
                    .renames
                    .iter()
                    .find(|(from, _)| *from == name)
                    .map_or(name, |(_, other)| other);
                if !edits.drops(name) && call.fields.get(&call.body, name).is_none() {
                    edits.set(name.to_owned(), json.clone());
                }
            }
        }
    }
}

/// How many choices of an answer the edited request asks for.
fn choices(call: &Call, edits: &Edits) -> u32 {
    let wanted = edits.outcome(&call.body, &call.fields, "n");
    wanted.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::decode;
    use crate::provider::fixture::spec;
    use crate::provider::{Spec, build};

    fn deployment(name: &str, set: impl FnOnce(&mut Spec)) -> Deployment {
        let mut spec = spec(name);
        set(&mut spec);
        build(spec, &|_| None).unwrap()
    }

    fn say(to: &Deployment, endpoint: Endpoint, body: &str) -> Result<(String, bool), Unsayable> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let call = decode(endpoint, None, &HeaderMap::new(), body).unwrap();
        let said = Compatible.request(&call, to, &to.model)?;
        let body = String::from_utf8(said.body.to_bytes().to_vec()).unwrap();
        Ok((body, said.usage_is_ours))
    }

    #[track_caller]
    fn check(name: &str, body: &str, want: &str) {
        let to = deployment(name, |_| ());
        assert_eq!(say(&to, Endpoint::ChatCompletions, body).unwrap().0, want);
    }

    #[test]
    fn the_choices_that_are_asked_for_are_those_that_are_sent() {
        #[track_caller]
        fn check(more: &str, set: impl FnOnce(&mut Spec), want: u32) {
            let body = format!(r#"{{"model":"m","messages":[],"stream":true{more}}}"#);
            let deployment = deployment("openai/gpt-4.1", set);
            let path = Endpoint::ChatCompletions;
            let call = decode(path, None, &HeaderMap::new(), body.into()).unwrap();
            let outgoing = Compatible.request(&call, &deployment, "gpt-4.1").unwrap();
            assert_eq!(outgoing.choices, want, "{more}");
        }
        let by_default = |spec: &mut Spec| spec.defaults = vec![("n".into(), "3".into())];
        check("", |_| {}, 1);
        check(r#","n":2"#, |_| {}, 2);
        check(r#","n":"two""#, |_| {}, 1);
        check("", by_default, 3);
        check(r#","n":2"#, by_default, 2);
        check(r#","n":2"#, |spec| spec.additional_drop_params = vec!["n".into()], 1);
    }

    #[test]
    fn only_the_model_changes_and_unknown_fields_pass() {
        check(
            "groq/llama",
            r#"{"model":"g", "messages":[ ],"zz":{"a":1}}"#,
            r#"{"model":"llama", "messages":[ ],"zz":{"a":1}}"#,
        );
        check("groq/g", r#"{"messages":[],"model":"g"}"#, r#"{"messages":[],"model":"g"}"#);
    }

    #[test]
    fn a_stream_is_asked_for_its_usage_where_the_provider_takes_that() {
        let stream = r#"{"model":"m","messages":[],"stream":true}"#;
        let to = deployment("groq/m", |_| ());
        let want =
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(say(&to, Endpoint::ChatCompletions, stream).unwrap(), (want.into(), true));
        let own = r#"{"model":"m","messages":[],"stream":true,"stream_options":{"x":1}}"#;
        let want = r#"{"model":"m","messages":[],"stream":true,"stream_options":{"x":1,"include_usage":true}}"#;
        assert_eq!(say(&to, Endpoint::ChatCompletions, own).unwrap(), (want.into(), true));
        let asked =
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(say(&to, Endpoint::ChatCompletions, asked).unwrap(), (asked.into(), false));
        let mistral = deployment("mistral/m", |_| ());
        assert_eq!(
            say(&mistral, Endpoint::ChatCompletions, stream).unwrap(),
            (stream.into(), false)
        );
        let want = stream.to_owned();
        assert_eq!(say(&mistral, Endpoint::ChatCompletions, asked).unwrap(), (want, false));
    }

    #[test]
    fn fields_get_the_providers_names() {
        check(
            "mistral/m",
            r#"{"model":"m","messages":[],"seed":1,"max_completion_tokens":5,"user":"u","tool_choice":"required"}"#,
            r#"{"model":"m","messages":[],"random_seed":1,"max_tokens":5,"tool_choice":"required"}"#,
        );
        check(
            "groq/m",
            r#"{"model":"m","messages":[],"max_tokens":4,"max_completion_tokens":5}"#,
            r#"{"model":"m","messages":[],"max_tokens":5}"#,
        );
        check(
            "openai/gpt-5",
            r#"{"model":"gpt-5","messages":[],"max_tokens":5,"max_completion_tokens":null}"#,
            r#"{"model":"gpt-5","messages":[],"max_completion_tokens":5}"#,
        );
        check(
            "openai/o3",
            r#"{"model":"o3","messages":[],"max_tokens":4}"#,
            r#"{"model":"o3","messages":[],"max_completion_tokens":4}"#,
        );
    }

    #[test]
    fn developers_become_system_where_the_role_is_unknown() {
        let body = r#"{"model":"m","messages":[{"role":"developer","content":"a"},{"role":"user","content":"\"developer\""}]}"#;
        check("groq/m", body, &body.replacen("\"developer\"", "\"system\"", 1));
        check("openai/m", body, body);
    }

    #[test]
    fn what_a_provider_does_not_take_is_named_or_dropped() {
        let body =
            r#"{"model":"m","messages":[],"logprobs":true,"logit_bias":null,"top_logprobs":2}"#;
        let refused =
            say(&deployment("groq/m", |_| ()), Endpoint::ChatCompletions, body).unwrap_err();
        assert_eq!(
            refused,
            Unsayable::Params {
                vendor: "groq",
                names: vec!["logprobs".into(), "top_logprobs".into()]
            }
        );
        let dropping = deployment("groq/m", |spec| spec.drop_params = true);
        let want = r#"{"model":"m","messages":[],"logit_bias":null}"#;
        assert_eq!(say(&dropping, Endpoint::ChatCompletions, body).unwrap().0, want);
        let allowing = deployment("groq/m", |spec| {
            spec.allowed_openai_params = vec!["logprobs".into(), "top_logprobs".into()];
        });
        assert_eq!(say(&allowing, Endpoint::ChatCompletions, body).unwrap().0, body);
    }

    #[test]
    fn configured_fields_are_added_but_never_override() {
        let to = deployment("groq/m", |spec| {
            spec.defaults = vec![
                ("temperature".into(), "0.1".into()),
                ("max_completion_tokens".into(), "9".into()),
                ("extra_body".into(), r#"{"x":1,"y":2}"#.into()),
                ("tools".into(), r#"[{"a":1}]"#.into()),
            ];
        });
        let body = r#"{"model":"m","messages":[],"temperature":1,"y":3,"tools":[{"b":2}]}"#;
        let want = r#"{"model":"m","messages":[],"temperature":1,"y":3,"tools":[{"a":1},{"b":2}],"max_tokens":9,"x":1}"#;
        assert_eq!(say(&to, Endpoint::ChatCompletions, body).unwrap().0, want);
    }

    #[test]
    fn an_endpoint_that_is_not_served_is_refused() {
        let to = deployment("groq/m", |_| ());
        let refused = say(&to, Endpoint::Embeddings, r#"{"model":"m","input":"a"}"#).unwrap_err();
        assert!(refused.to_string().contains("does not serve /v1/embeddings"));
    }
}
