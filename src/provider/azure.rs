//! OpenAI's words at Azure's addresses: deployment paths with an `api-version`, and the v1 style.

use std::fmt;

use http::Uri;

use super::build::Place;
use super::{Deployment, Environment, Spec};
use crate::protocol::Endpoint;

/// The version that LiteLLM 1.109.1 asks for where nothing says another.
const USUAL_VERSION: &str = "2025-02-01-preview";

/// The query of every call: the version, behind what the base brought along.
pub(super) fn query(spec: &Spec, place: &Place, environment: Environment<'_>) -> Box<str> {
    let version = spec.api_version.as_deref().map(str::to_owned);
    let version = version
        .or_else(|| environment("AZURE_API_VERSION"))
        .map(|version| version.trim().to_owned())
        .filter(|version| !version.is_empty());
    let version = version.as_deref().unwrap_or(USUAL_VERSION);
    match &place.query {
        Some(query) if query.contains("api-version=") => query.clone(),
        Some(query) => format!("{query}&api-version={version}").into(),
        None => format!("api-version={version}").into(),
    }
}

/// Where an endpoint is. The base may be the resource's host, an `/openai/v1` address, or
/// already name the deployment.
pub(super) fn address(deployment: &Deployment, endpoint: Endpoint, model: &str) -> Option<Uri> {
    let prefix = deployment.base.path().trim_end_matches('/');
    let path = endpoint.path();
    if is_v1(deployment) || endpoint == Endpoint::Responses {
        let v1 = if prefix.ends_with("/v1") {
            ""
        } else if prefix.ends_with("/openai") {
            "/v1"
        } else {
            "/openai/v1"
        };
        return without_dated_version(deployment, &format!("{v1}{path}"));
    }
    if prefix.contains("/deployments/") {
        return deployment.at(path);
    }
    if is_foundry(deployment) {
        return deployment.at(&format!("/models{path}"));
    }
    let openai = if prefix.ends_with("/openai") { "" } else { "/openai" };
    deployment.at(&format!("{openai}/deployments/{}{path}", Segment(model)))
}

/// A name as one segment of a path: it may come from a client and must not lead elsewhere.
struct Segment<'a>(&'a str);

impl fmt::Display for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `..` is a step up even when its dots are escaped, so none of it is sent.
        let name = if matches!(self.0, "." | "..") { "-" } else { self.0 };
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    write!(f, "{}", char::from(byte))?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

/// The body of these addresses names the model; elsewhere the path does.
fn is_v1(deployment: &Deployment) -> bool {
    let version = version(deployment);
    matches!(version, "v1" | "preview" | "latest") || deployment.base.path().contains("/openai/v1")
}

/// Azure AI Foundry's inference addresses take the model in the body.
fn is_foundry(deployment: &Deployment) -> bool {
    let host = deployment.base.host().unwrap_or("");
    deployment.vendor.prefix == "azure_ai" && host.ends_with(".services.ai.azure.com")
}

/// The v1 addresses know `preview` and no dates.
fn without_dated_version(deployment: &Deployment, path: &str) -> Option<Uri> {
    let whole = deployment.at(path)?;
    if version(deployment).starts_with("20") || version(deployment) == "v1" {
        let (bare, _) = whole.path_and_query()?.as_str().split_once('?')?;
        let mut parts = whole.clone().into_parts();
        parts.path_and_query = Some(bare.parse().ok()?);
        return Uri::from_parts(parts).ok();
    }
    Some(whole)
}

fn version(deployment: &Deployment) -> &str {
    let query = deployment.query.as_deref().unwrap_or("");
    query.split('&').find_map(|pair| pair.strip_prefix("api-version=")).unwrap_or(USUAL_VERSION)
}

#[cfg(test)]
mod tests {
    use super::super::build::build;
    use super::*;
    use crate::provider::Spec;
    use crate::provider::fixture::spec;

    #[track_caller]
    fn check(base: &str, version: Option<&str>, endpoint: Endpoint, want: &str) {
        check_named("azure/d", base, version, endpoint, want);
    }

    #[track_caller]
    fn check_named(name: &str, base: &str, version: Option<&str>, endpoint: Endpoint, want: &str) {
        let spec = Spec {
            api_base: Some(base.into()),
            api_version: version.map(Into::into),
            ..spec(name)
        };
        let deployment = build(spec, &|_| None).unwrap();
        assert_eq!(deployment.headers["api-key"], "k");
        assert_eq!(deployment.uris[endpoint.at()].as_ref().unwrap().to_string(), want);
    }

    #[test]
    fn deployments_stand_in_the_path() {
        use Endpoint::{ChatCompletions, Embeddings, Responses};
        let host = "https://r.openai.azure.com/";
        check(
            host,
            None,
            ChatCompletions,
            "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2025-02-01-preview",
        );
        check(
            host,
            Some("2024-06-01"),
            Embeddings,
            "https://r.openai.azure.com/openai/deployments/d/embeddings?api-version=2024-06-01",
        );
        check(
            host,
            Some("2024-06-01"),
            Responses,
            "https://r.openai.azure.com/openai/v1/responses",
        );
        check(
            "https://r.openai.azure.com/openai/deployments/x?api-version=1",
            None,
            ChatCompletions,
            "https://r.openai.azure.com/openai/deployments/x/chat/completions?api-version=1",
        );
        check(
            "https://r.openai.azure.com/openai",
            None,
            ChatCompletions,
            "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2025-02-01-preview",
        );
    }

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        let sent = |name| Segment(name).to_string();
        assert_eq!(sent("a/../../x?y=1"), "a%2F..%2F..%2Fx%3Fy%3D1");
        assert_eq!(sent(".."), "-");
        assert_eq!(sent("gpt-4o_x.1"), "gpt-4o_x.1");
    }

    #[test]
    fn the_v1_style_names_the_model_in_the_body() {
        use Endpoint::ChatCompletions;
        check(
            "https://r.openai.azure.com",
            Some("v1"),
            ChatCompletions,
            "https://r.openai.azure.com/openai/v1/chat/completions",
        );
        check(
            "https://r.openai.azure.com",
            Some("preview"),
            ChatCompletions,
            "https://r.openai.azure.com/openai/v1/chat/completions?api-version=preview",
        );
        check(
            "https://r.openai.azure.com/openai/v1/",
            None,
            ChatCompletions,
            "https://r.openai.azure.com/openai/v1/chat/completions",
        );
        check_named(
            "azure_ai/m",
            "https://r.services.ai.azure.com",
            None,
            ChatCompletions,
            "https://r.services.ai.azure.com/models/chat/completions?api-version=2025-02-01-preview",
        );
    }
}
