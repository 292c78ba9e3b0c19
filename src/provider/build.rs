//! From what the configuration says to a deployment that can be called.
//!
//! A key is only ever sent where it belongs: one from the configuration to the address beside
//! it, one from the environment to its own provider.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Uri, uri};

use super::vendor::{Auth, Key, Vendor, Wire};
use super::{
    Adapter, Deployment, Environment, Misfit, Spec, anthropic, azure, catalog, compatible,
};
use crate::protocol::Endpoint;

/// Makes the deployment that `spec` describes.
///
/// A missing key is no misfit: the deployment is there and says why it is
/// [unusable](Deployment::unusable).
pub fn build(spec: Spec, environment: Environment<'_>) -> Result<Deployment, Misfit> {
    let (vendor, model) = provider(&spec)?;
    let place = place(&spec, vendor, environment)?;
    let mut headers = usual_headers(&spec, vendor, environment)?;
    let unusable = authorize(&mut headers, &spec, vendor, &place, environment);
    let query = match vendor.wire {
        Wire::Azure => Some(azure::query(&spec, &place, environment)),
        Wire::Anthropic | Wire::OpenAi => place.query.clone(),
    };
    let mut deployment = Deployment {
        id: spec.id,
        group: spec.group,
        name: spec.name,
        vendor,
        adapter: adapter(vendor.wire),
        model_json: Bytes::from(serde_json::Value::from(&*model).to_string()),
        model: model.as_str().into(),
        base: place.base,
        query,
        uris: Default::default(),
        headers,
        unusable,
        defaults: spec.defaults,
        drop_params: spec.drop_params,
        additional_drop_params: spec.additional_drop_params,
        allowed_openai_params: spec.allowed_openai_params,
        mock: spec.mock,
    };
    if !deployment.model.contains('*') {
        deployment.uris = Endpoint::ALL.map(|endpoint| address(&deployment, endpoint, &model));
    }
    Ok(deployment)
}

/// Where an endpoint of a deployment is, for one model name.
pub(super) fn address(deployment: &Deployment, endpoint: Endpoint, model: &str) -> Option<Uri> {
    match deployment.vendor.wire {
        Wire::Azure => azure::address(deployment, endpoint, model),
        Wire::Anthropic | Wire::OpenAi => deployment.at(deployment.vendor.path(endpoint)),
    }
}

/// The provider that a bare model name belongs to, by the names vendors give their models.
pub fn infer(model: &str) -> Option<&'static str> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| model.starts_with(prefix));
    let is_o_series = ["o1", "o3", "o4"].iter().any(|series| {
        model.strip_prefix(series).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    });
    if is_o_series
        || starts(&[
            "gpt-",
            "chatgpt-",
            "text-embedding-",
            "davinci-",
            "babbage-",
            "ft:gpt-",
            "codex-",
        ])
    {
        return Some("openai");
    }
    starts(&["claude-"]).then_some("anthropic")
}

fn adapter(wire: Wire) -> &'static dyn Adapter {
    match wire {
        Wire::Anthropic => &anthropic::Anthropic,
        Wire::Azure | Wire::OpenAi => &compatible::Compatible,
    }
}

/// The provider and what it calls the model.
fn provider(spec: &Spec) -> Result<(&'static Vendor, String), Misfit> {
    let known = |prefix: &str| match catalog::find(prefix) {
        Some(vendor) => Ok(Some(vendor)),
        None => {
            catalog::is_not_spoken(prefix).map_or(Ok(None), |known| Err(Misfit::NotSpoken(known)))
        }
    };
    let split = spec.name.split_once('/');
    if let Some(prefix) = &spec.provider {
        let unknown = || Misfit::UnknownProvider {
            prefix: prefix.clone(),
            nearest: catalog::nearest(prefix),
        };
        let vendor = known(prefix)?.ok_or_else(unknown)?;
        let rest =
            split.filter(|(own, _)| *own == vendor.prefix).map_or(&*spec.name, |(_, rest)| rest);
        return Ok((vendor, wire_name(vendor, rest)));
    }
    if let Some((prefix, rest)) = split
        && let Some(vendor) = known(prefix)?
    {
        return Ok((vendor, wire_name(vendor, rest)));
    }
    let inferred = infer(&spec.name).or_else(|| spec.api_base.is_some().then_some("custom_openai"));
    match inferred.and_then(catalog::find) {
        Some(vendor) => Ok((vendor, spec.name.to_string())),
        None => Err(match split {
            Some((prefix, _)) => {
                Misfit::UnknownProvider { prefix: prefix.into(), nearest: catalog::nearest(prefix) }
            }
            None => Misfit::NoProvider(spec.name.clone()),
        }),
    }
}

/// What a provider calls a model whose prefix is cut off.
fn wire_name(vendor: &Vendor, rest: &str) -> String {
    let bare = !rest.contains(['/', '*', '#']);
    match vendor.prefix {
        "openrouter" if bare => format!("openrouter/{rest}"),
        "fireworks_ai" if bare => format!("accounts/fireworks/models/{rest}"),
        "azure" => {
            let series =
                rest.strip_prefix("o_series/").or_else(|| rest.strip_prefix("gpt5_series/"));
            series.unwrap_or(rest).to_owned()
        }
        _ => rest.to_owned(),
    }
}

/// An address and how it came to be known.
pub(super) struct Place {
    pub base: Uri,
    pub query: Option<Box<str>>,
    /// Whether it is the provider's own or stands in the variable beside the provider's key.
    is_providers: bool,
}

fn place(spec: &Spec, vendor: &Vendor, environment: Environment<'_>) -> Result<Place, Misfit> {
    let set = |name: &&str| environment(name).filter(|base| !base.trim().is_empty());
    let (text, is_providers) = match (&spec.api_base, vendor.base_env.iter().find_map(set)) {
        (Some(base), _) => (base.to_string(), is_same_host(base, vendor.base)),
        (None, Some(base)) => (base, true),
        (None, None) if !vendor.base.is_empty() => (vendor.base.to_owned(), true),
        (None, None) => {
            return Err(Misfit::BaseMissing { vendor: vendor.prefix, variables: vendor.base_env });
        }
    };
    let text = text.trim();
    let (address, query) = match text.split_once('?') {
        Some((address, query)) => (address, Some(query.into())),
        None => (text, None),
    };
    let invalid = || {
        if text.contains('@') { Misfit::BaseWithUser } else { Misfit::BaseInvalid(text.into()) }
    };
    let base: Uri = tidied(address, vendor).parse().map_err(|_| invalid())?;
    let speaks_http = matches!(base.scheme_str(), Some("http" | "https"));
    if !speaks_http || base.authority().is_none() {
        return Err(invalid());
    }
    if base.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Misfit::BaseWithUser);
    }
    Ok(Place { base, query, is_providers: is_providers || vendor.base.is_empty() })
}

/// Without a trailing slash, without a path that an adapter adds itself, and with `/v1` where a
/// provider's users leave it out.
fn tidied(address: &str, vendor: &Vendor) -> String {
    let mut address = address.trim_end_matches('/');
    address = address.strip_suffix("/chat/completions").unwrap_or(address);
    if vendor.v1_paths {
        address = address.strip_suffix("/v1").unwrap_or(address);
    }
    if vendor.prefix == "mistral" && !address.ends_with("/v1") {
        return format!("{address}/v1");
    }
    address.to_owned()
}

fn is_same_host(one: &str, other: &str) -> bool {
    let host = |text: &str| text.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    host(one).is_some_and(|one| Some(one) == host(other))
}

fn usual_headers(
    spec: &Spec,
    vendor: &Vendor,
    environment: Environment<'_>,
) -> Result<HeaderMap, Misfit> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let agent = concat!("pillion/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    for (name, value) in vendor.headers {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    let own = matches!(vendor.prefix, "openai" | "text-completion-openai" | "aiohttp_openai");
    let variable = |names: [&str; 2]| {
        names.iter().find_map(|name| environment(name)).filter(|_| own && spec.api_base.is_none())
    };
    let organization = spec.organization.as_deref().map(str::to_owned);
    let organization = organization.or_else(|| variable(["OPENAI_ORGANIZATION", "OPENAI_ORG_ID"]));
    if let Some(organization) = organization {
        headers.insert("openai-organization", header_value("organization", &organization)?);
    }
    if let Some(project) = variable(["OPENAI_PROJECT_ID", "OPENAI_PROJECT"]) {
        headers.insert("openai-project", header_value("project", &project)?);
    }
    for (name, value) in &spec.extra_headers {
        let name_of =
            HeaderName::try_from(&**name).map_err(|_| Misfit::HeaderInvalid(name.clone()))?;
        let mut value = header_value(name, value)?;
        value.set_sensitive(true);
        headers.insert(name_of, value);
    }
    Ok(headers)
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, Misfit> {
    HeaderValue::from_str(value).map_err(|_| Misfit::HeaderInvalid(name.into()))
}

/// Adds the key; says why the deployment is unusable where there is none or it cannot be sent.
fn authorize(
    headers: &mut HeaderMap,
    spec: &Spec,
    vendor: &Vendor,
    place: &Place,
    environment: Environment<'_>,
) -> Option<Box<str>> {
    if spec.mock.is_some() {
        return None;
    }
    let set = |name: &&str| environment(name).filter(|key| !key.trim().is_empty());
    let from_environment = vendor.key_env.iter().find(|name| set(name).is_some());
    let key = match (&spec.api_key, from_environment) {
        (Some(key), _) => Some(key.reveal().trim().to_owned()),
        (None, Some(name)) if place.is_providers => set(name).map(|key| key.trim().to_owned()),
        (None, _) => None,
    };
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        let has_own = headers.contains_key(AUTHORIZATION) || headers.contains_key("x-api-key");
        // A server of one's own that speaks OpenAI's words often stands behind this prefix.
        let elsewhere = vendor.prefix == "openai" && !place.is_providers;
        if vendor.key == Key::Optional || elsewhere || has_own {
            return None;
        }
        return Some(no_key(vendor, place, from_environment.copied()).into());
    };
    let (name, text) = match vendor.auth {
        Auth::Anthropic if key.starts_with("sk-ant-oat") => {
            (AUTHORIZATION, format!("Bearer {key}"))
        }
        Auth::Anthropic => (HeaderName::from_static("x-api-key"), key),
        Auth::Bearer => (AUTHORIZATION, format!("Bearer {key}")),
        Auth::Header(name) => (HeaderName::from_static(name), key),
    };
    match HeaderValue::from_str(&text) {
        Err(_) => Some("its api_key holds characters that no header can carry".into()),
        Ok(mut value) => {
            value.set_sensitive(true);
            headers.insert(name, value);
            None
        }
    }
}

fn no_key(vendor: &Vendor, place: &Place, in_environment: Option<&str>) -> String {
    let prefix = vendor.prefix;
    match in_environment {
        Some(variable) => format!(
            "no key for provider `{prefix}` at {}: the one in {variable} belongs to the provider's own address; set litellm_params.api_key to send one there",
            place.base.authority().map_or("", uri::Authority::as_str)
        ),
        None => format!(
            "no key for provider `{prefix}`: set {} or litellm_params.api_key",
            vendor.key_env.first().unwrap_or(&"one")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::Secret;
    use crate::provider::fixture::spec;

    fn with(
        name: &str,
        set: impl FnOnce(&mut Spec),
        environment: &[(&str, &str)],
    ) -> Result<Deployment, Misfit> {
        let mut spec = Spec { api_key: None, ..spec(name) };
        set(&mut spec);
        let find = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        build(spec, &find)
    }

    fn chat_uri(deployment: &Deployment) -> String {
        deployment.uris[Endpoint::ChatCompletions.at()].as_ref().unwrap().to_string()
    }

    #[test]
    fn a_provider_has_its_address_and_its_key() {
        let groq = with("groq/llama", |_| (), &[("GROQ_API_KEY", " k\n"), ("OPENAI_API_KEY", "o")])
            .unwrap();
        assert_eq!(chat_uri(&groq), "https://api.groq.com/openai/v1/chat/completions");
        assert_eq!(groq.headers[AUTHORIZATION], "Bearer k");
        assert!(groq.headers[AUTHORIZATION].is_sensitive());
        assert_eq!(groq.model_json, "\"llama\"");
        assert_eq!(groq.unusable, None);
    }

    #[test]
    fn one_providers_key_never_goes_to_another() {
        let openai = &[("OPENAI_API_KEY", "sk-openai")];
        for vendor in catalog::all() {
            let name = format!("{}/m", vendor.prefix);
            let built = with(
                &name,
                |spec| spec.api_base = Some("https://elsewhere.example/v1".into()),
                openai,
            );
            let headers = format!(
                "{:?}",
                built
                    .unwrap()
                    .headers
                    .values()
                    .map(|value| { String::from_utf8_lossy(value.as_bytes()).into_owned() })
                    .collect::<Vec<_>>()
            );
            assert!(!headers.contains("sk-openai"), "{name}");
            if !vendor.base.is_empty() && !vendor.key_env.contains(&"OPENAI_API_KEY") {
                let built = with(&name, |_| (), openai).unwrap();
                assert!(!built.headers.contains_key(AUTHORIZATION), "{name}");
                assert!(built.unusable.is_some() || vendor.key == Key::Optional, "{name}");
            }
        }
    }

    #[test]
    fn a_missing_key_says_which_variable_to_set() {
        let groq = with("groq/llama", |_| (), &[]).unwrap();
        assert!(groq.unusable.unwrap().contains("GROQ_API_KEY"));
        let elsewhere = with(
            "anthropic/claude-x",
            |spec| spec.api_base = Some("https://elsewhere.example".into()),
            &[("ANTHROPIC_API_KEY", "k")],
        )
        .unwrap();
        assert!(elsewhere.unusable.unwrap().contains("belongs to the provider's own address"));
        let local = |spec: &mut Spec| spec.api_base = Some("http://127.0.0.1:1/v1".into());
        assert_eq!(with("openai/x", local, &[]).unwrap().unusable, None);
    }

    #[test]
    fn addresses_are_tidied() {
        let base = |name: &str, base: &str| {
            let built = with(
                name,
                |spec| {
                    spec.api_base = Some(base.into());
                    spec.api_key = Some(Secret::new("k"));
                },
                &[],
            );
            built.map_or_else(|misfit| misfit.to_string(), |deployment| chat_uri(&deployment))
        };
        assert_eq!(base("openai/x", "http://h:1/v1/"), "http://h:1/v1/chat/completions");
        assert_eq!(
            base("openai/x", "http://h:1/v1/chat/completions"),
            "http://h:1/v1/chat/completions"
        );
        assert_eq!(base("openai/x", "http://h:1/v1?a=b"), "http://h:1/v1/chat/completions?a=b");
        assert_eq!(base("mistral/x", "http://h:1"), "http://h:1/v1/chat/completions");
        assert_eq!(base("ollama/x", "http://h:1/v1"), "http://h:1/v1/chat/completions");
        assert_eq!(base("openai/x", "h:1"), "`h:1` is not an http or https address");
        assert_eq!(base("openai/x", "ftp://h"), "`ftp://h` is not an http or https address");
        assert!(!base("openai/x", "http://user:secret@h").contains("secret"));
    }

    #[test]
    fn names_lead_to_their_provider() {
        let model = |name: &str| {
            let built = with(
                name,
                |spec| {
                    spec.api_key = Some(Secret::new("k"));
                },
                &[],
            );
            built.map(|deployment| format!("{} {}", deployment.vendor.prefix, deployment.model))
        };
        assert_eq!(model("gpt-4o").unwrap(), "openai gpt-4o");
        assert_eq!(model("o3-mini").unwrap(), "openai o3-mini");
        assert_eq!(model("claude-x").unwrap(), "anthropic claude-x");
        assert_eq!(model("openrouter/a/b").unwrap(), "openrouter a/b");
        assert_eq!(model("openrouter/auto").unwrap(), "openrouter openrouter/auto");
        assert_eq!(model("fireworks_ai/x").unwrap(), "fireworks_ai accounts/fireworks/models/x");
        assert_eq!(model("openai/*").unwrap(), "openai *");
        assert_eq!(model("bedrock/x").unwrap_err(), Misfit::NotSpoken("bedrock"));
        assert!(model("nvidia/x/y").unwrap_err().to_string().contains("nvidia_nim"));
        assert_eq!(model("mystery").unwrap_err(), Misfit::NoProvider("mystery".into()));
        assert!(matches!(model("hosted_vllm/x"), Err(Misfit::BaseMissing { .. })));
    }

    #[test]
    fn extra_headers_go_along_and_bad_ones_are_named() {
        let extra = |name: &str, value: &str| {
            with(
                "openai/x",
                |spec| spec.extra_headers = vec![(name.into(), value.into())],
                &[("OPENAI_API_KEY", "k")],
            )
        };
        assert_eq!(extra("X-Team", "a").unwrap().headers["x-team"], "a");
        assert_eq!(extra("X Team", "a").unwrap_err(), Misfit::HeaderInvalid("X Team".into()));
    }
}
