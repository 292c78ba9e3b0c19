//! One entry of `model_list` to what makes a deployment of it.
//!
//! An entry with a wrong value is left out and the others are not: LiteLLM does the same. Where
//! a value should come from a variable that is not set, that is a warning, because the file may
//! be right and only this machine lack the variable.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::cursor::Cursor;
use super::known::{self, Standing};
use super::problem::Scope;
use super::{budget, fields, identity, price, router};
use crate::lexicon::{DeploymentIx, Secret};
use crate::provider::Spec;
use crate::registry::Price;
use crate::routing::{Domain, Member};

/// What an entry says, one per deployment it makes.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    /// For the provider; with the id that LiteLLM would give it where none is configured.
    pub(super) spec: Spec,
    /// For routing; its position is not known yet.
    pub(super) member: Member,
    /// The configured price.
    pub(super) price: Price,
    /// `base_model`: the model to look prices up for.
    pub(super) base_model: Option<Box<str>>,
    /// Whether `model_info.id` names it.
    pub(super) is_named: bool,
    /// The entry, for messages.
    pub(super) at: Cursor<'a>,
}

/// What holds for every entry.
#[derive(Debug)]
pub(super) struct Common<'a> {
    /// `credential_list`, by name.
    pub(super) credentials: HashMap<&'a str, &'a Map<String, Value>>,
    /// `litellm_settings.drop_params`.
    pub(super) drop_params: bool,
    /// `router_settings.default_max_parallel_requests`.
    pub(super) max_parallel_requests: Option<u32>,
}

/// Reads one entry; empty where it makes no deployment, which has been told then.
pub(super) fn read<'a>(entry: &Cursor<'a>, common: &Common<'_>) -> Vec<Draft<'a>> {
    if !entry.value.is_object() {
        entry.expected::<()>("a mapping", entry.value);
        return Vec::new();
    }
    fields::check(entry, &known::ENTRY);
    let name = entry.get("model_name");
    let Some(group) = name.full_text() else {
        required(&name, "model_name");
        return Vec::new();
    };
    let field = entry.get("litellm_params");
    let Value::Object(own) = field.value else {
        field.expected::<()>("a mapping with a `model`", field.value);
        return Vec::new();
    };
    let mut whole = own.clone();
    complete(&mut whole, entry, &field, common);
    let mut drafts = Vec::new();
    for params in per_organization(whole) {
        let id = identity::of(&group, &params);
        let params = Value::Object(params);
        let params = field.over(&params);
        if drafts.is_empty() {
            tell(&params, &entry.get("model_info"));
        }
        drafts.extend(draft(entry, &params, (&group, &id), common));
    }
    drafts
}

fn required(field: &Cursor<'_>, name: &str) {
    match field.missing_variable() {
        Some(variable) => field.warn(
            format!("the variable {variable} is not set: this deployment is left out"),
            Some(format!("set {variable}")),
        ),
        None => field.error(format!("`{name}` is missing"), None),
    }
}

/// Fills in what stands beside `litellm_params`, and the credentials it names.
fn complete(
    params: &mut Map<String, Value>,
    entry: &Cursor<'_>,
    field: &Cursor<'_>,
    common: &Common<'_>,
) {
    for name in ["tpm", "rpm"] {
        let beside = entry.get(name);
        if !beside.is_absent() && params.get(name).is_none_or(Value::is_null) {
            params.insert(name.to_owned(), beside.value.clone());
        }
    }
    let wanted = field.get("litellm_credential_name");
    let Some(name) = wanted.full_text() else { return };
    let Some(values) = common.credentials.get(&*name) else {
        let near = known::nearest(&name, common.credentials.keys().copied());
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        wanted.error(format!("`credential_list` has no `{name}`"), hint);
        return;
    };
    for (name, value) in *values {
        if params.get(name).is_none_or(Value::is_null) {
            params.insert(name.clone(), value.clone());
        }
    }
}

/// One set of parameters per organization where there is a list of them.
fn per_organization(params: Map<String, Value>) -> Vec<Map<String, Value>> {
    let several = match params.get("organization") {
        Some(Value::Array(several)) if !several.is_empty() => several,
        Some(Value::Array(_)) => {
            return vec![params.into_iter().filter(|(name, _)| name != "organization").collect()];
        }
        _ => return vec![params],
    };
    let with = |organization: &Value| {
        let mut params = params.clone();
        params.insert("organization".to_owned(), organization.clone());
        params
    };
    several.iter().map(with).collect()
}

/// Warnings about the parameters as such; they are the same for every organization.
fn tell(params: &Cursor<'_>, info: &Cursor<'_>) {
    for (name, field) in params.fields() {
        let field = field.with_scope(Scope::Field);
        if name != "model" {
            fields::absent_here(name, &field);
        }
        match known::PARAMS.standing(name) {
            Some(standing) => fields::known_but(name, &field, standing),
            None => {
                if let Some(near) = known::PARAMS.nearest(name) {
                    let what =
                        format!("nobody knows `{name}`; it is sent to the provider as it is");
                    field.warn(what, Some(format!("did you mean `{near}`?")));
                }
            }
        }
    }
    for (name, field) in info.fields() {
        if let Some(standing) = known::INFO.standing(name) {
            fields::known_but(name, &field.with_scope(Scope::Field), standing);
        }
    }
}

fn draft<'a>(
    entry: &Cursor<'a>,
    params: &Cursor<'_>,
    (group, id): (&str, &str),
    common: &Common<'_>,
) -> Option<Draft<'a>> {
    let info = entry.get("model_info");
    let model = params.get("model");
    let Some(name) = model.full_text() else {
        required(&model, "model");
        return None;
    };
    let configured = info.get("id").full_text();
    let text = |name: &str| params.get(name).full_text();
    let spec = Spec {
        id: configured.clone().unwrap_or_else(|| id.into()),
        group: group.into(),
        name,
        provider: text("custom_llm_provider"),
        api_base: text("api_base").or_else(|| text("base_url")),
        api_key: text("api_key").map(Secret::new),
        api_version: text("api_version"),
        organization: text("organization"),
        extra_headers: headers(params),
        defaults: defaults(params),
        drop_params: params.get("drop_params").flag().unwrap_or(common.drop_params),
        additional_drop_params: params.get("additional_drop_params").texts(),
        allowed_openai_params: params.get("allowed_openai_params").texts(),
        mock: mock(&params.get("mock_response")),
    };
    Some(Draft {
        spec,
        member: member(params, &info, common.max_parallel_requests),
        price: price::configured(params, &info),
        base_model: info.get("base_model").full_text().or_else(|| text("base_model")),
        is_named: configured.is_some(),
        at: entry.clone(),
    })
}

fn member(params: &Cursor<'_>, info: &Cursor<'_>, usual: Option<u32>) -> Member {
    let (rpm, tpm) = (params.get("rpm").amount(), params.get("tpm").amount());
    let either = |name: &str| {
        Some(info.get(name)).filter(|it| !it.is_absent()).unwrap_or_else(|| params.get(name))
    };
    let timeout = |name: &str| router::positive(&params.get(name));
    Member {
        deployment: DeploymentIx(0),
        // The provider and its address are known when it is built.
        domain: Domain { provider: "".into(), region: region(params) },
        weight: params.get("weight").amount(),
        rpm,
        tpm,
        longest_prompt: info.get("max_input_tokens").count().map(u64::from),
        // Known when the provider is.
        input_cost: None,
        output_cost: None,
        budget: budget::of_deployment(params),
        provider_budget: None,
        order: params.get("order").number().or_else(|| info.get("order").number()).map(whole),
        tags: params.get("tags").texts(),
        timeout: timeout("timeout").or_else(|| timeout("request_timeout")),
        stream_timeout: timeout("stream_timeout"),
        max_parallel_requests: (params.get("max_parallel_requests").count())
            .or_else(|| seats(rpm, tpm))
            .or(usual),
        num_retries: params.get("num_retries").count(),
        cooldown_time: either("cooldown_time").seconds(),
        allowed_fails: info.get("allowed_fails").count(),
    }
}

/// The configured region; empty where there is none.
fn region(params: &Cursor<'_>) -> Box<str> {
    let names = ["region_name", "aws_region_name", "vertex_location", "watsonx_region_name"];
    names.iter().find_map(|name| params.get(name).full_text()).unwrap_or_default()
}

/// How many requests at a time `rpm` or `tpm` allow by LiteLLM's rule.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn seats(rpm: Option<f64>, tpm: Option<f64>) -> Option<u32> {
    rpm.map(|rpm| rpm as u32).or_else(|| tpm.map(|tpm| ((tpm / 1000.0 * 6.0) as u32).max(1)))
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn whole(number: f64) -> i64 {
    number as i64
}

fn headers(params: &Cursor<'_>) -> Vec<(Box<str>, Box<str>)> {
    let mut headers: Vec<(Box<str>, Box<str>)> = Vec::new();
    for field in ["headers", "extra_headers"] {
        for (name, value) in params.get(field).fields() {
            let Some(value) = value.text() else { continue };
            headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            headers.push((name.into(), value));
        }
    }
    headers
}

/// Body fields: those of `extra_body`, and every parameter that nobody else takes.
fn defaults(params: &Cursor<'_>) -> Vec<(Box<str>, Bytes)> {
    let mut defaults: Vec<(Box<str>, Bytes)> = Vec::new();
    let mut set = |name: &str, value: &Value| {
        defaults.retain(|(other, _)| &**other != name);
        if !value.is_null() {
            defaults.push((name.into(), Bytes::from(value.to_string())));
        }
    };
    for (name, field) in params.fields() {
        match known::PARAMS.standing(name) {
            None | Some(Standing::Body) => set(name, field.value),
            Some(Standing::Acted | Standing::Inert | Standing::Known) => {}
        }
    }
    for (name, field) in params.get("extra_body").fields() {
        set(name, field.value);
    }
    defaults
}

fn mock(field: &Cursor<'_>) -> Option<Box<str>> {
    match field.value {
        Value::Null => None,
        Value::String(text) => Some(text.as_str().into()),
        other => Some(other.to_string().into()),
    }
}
