//! How each provider is spoken to: where, with which key, in which words.
//!
//! Pure: turns a [`Call`] into a request for one [`Deployment`] and says what an answer means.
//! Knows no socket, no clock and no other deployment.

pub mod anthropic;
mod azure;
mod build;
pub mod catalog;
pub mod compatible;
mod drops;
pub mod fault;
mod fingerprint;
#[cfg(test)]
mod fixture;
mod prefill;
mod reasoning;
pub mod retry_after;
pub mod vendor;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use memchr::memmem;

use crate::lexicon::{Failure, Secret};
use crate::protocol::{Call, Dialect, Endpoint, Rope, Translator};

pub use build::{build, infer};
pub use prefill::Prefill;
pub use vendor::{Vendor, runs_to_end};

/// One `model_list` entry, ready to be called.
#[derive(Debug)]
pub struct Deployment {
    /// `model_info.id`, or a hash of what the deployment is; stable across reloads.
    pub id: Box<str>,
    /// The public model name it serves.
    pub group: Box<str>,
    /// `litellm_params.model` as configured, such as `openai/gpt-4o`.
    pub name: Box<str>,
    /// Who serves it.
    pub vendor: &'static Vendor,
    /// How it is spoken to.
    pub adapter: &'static dyn Adapter,
    /// What the provider calls the model; may hold `*`s that a wildcard name fills.
    pub model: Box<str>,
    /// Where it is; scheme, authority and path prefix without a trailing slash, no query.
    pub base: Uri,
    /// The model's name as JSON, where it holds no `*`.
    pub model_json: Bytes,
    /// The address of each endpoint by [`Endpoint::at`], where the model's name holds no `*`.
    pub uris: [Option<Uri>; 6],
    /// The query that every call carries, such as `api-version=2025-02-01-preview`.
    pub query: Option<Box<str>>,
    /// Headers of every call: authorization, version, organization and the configured extra
    /// ones. Values that hold a key are marked sensitive.
    pub headers: HeaderMap,
    /// Why it cannot be called at all, such as a missing key; said to callers as it stands.
    pub unusable: Option<Box<str>>,
    /// Body fields from the configuration (`temperature: 0.1`) that the request may override.
    pub defaults: Vec<(Box<str>, Bytes)>,
    /// `drop_params`: leave out what the provider does not take.
    pub drop_params: bool,
    /// `additional_drop_params`: leave these out in any case.
    pub additional_drop_params: Vec<Box<str>>,
    /// `allowed_openai_params`: pass these on though the provider is not known to take them.
    pub allowed_openai_params: Vec<Box<str>>,
    /// `mock_response`: answer with this text instead of calling anyone.
    pub mock: Option<Box<str>>,
}

impl Deployment {
    /// The address of `path` (with its leading slash) below the base, with the query of every
    /// call; `None` where they do not make an address.
    pub fn at(&self, path: &str) -> Option<Uri> {
        let prefix = self.base.path().trim_end_matches('/');
        let whole = match &self.query {
            None => format!("{prefix}{path}"),
            Some(query) => format!("{prefix}{path}?{query}"),
        };
        Uri::builder()
            .scheme(self.base.scheme()?.clone())
            .authority(self.base.authority()?.clone())
            .path_and_query(whole)
            .build()
            .ok()
    }
}

impl Deployment {
    /// Whether a stream of it can stand for a whole answer: it tells what was used.
    pub fn can_carry(&self) -> bool {
        let tells_usage = match self.vendor.wire {
            vendor::Wire::Anthropic => true,
            vendor::Wire::Azure | vendor::Wire::OpenAi => self.vendor.stream_options,
        };
        tells_usage && self.mock.is_none()
    }

    /// The text without this deployment's keys, which some providers repeat in their errors.
    pub fn without_keys(&self, text: Bytes) -> Bytes {
        let mut text = text;
        for value in self.headers.values().filter(|value| value.is_sensitive()) {
            let key = value.as_bytes();
            let key = key.strip_prefix(b"Bearer ").unwrap_or(key);
            if key.len() < SHORTEST_KEY || memmem::find(&text, key).is_none() {
                continue;
            }
            let mut clean = Vec::with_capacity(text.len());
            let mut kept = 0;
            for at in memmem::find_iter(&text, key) {
                clean.extend_from_slice(text.get(kept..at).unwrap_or_default());
                clean.extend_from_slice(b"***");
                kept = at + key.len();
            }
            clean.extend_from_slice(text.get(kept..).unwrap_or_default());
            text = Bytes::from(clean);
        }
        text
    }
}

/// A shorter one is a word such as `any`, given to servers that ask for none.
const SHORTEST_KEY: usize = 8;

/// What the configuration says about a deployment; [`build()`] makes the deployment of it.
#[derive(Debug)]
pub struct Spec {
    /// See [`Deployment::id`].
    pub id: Box<str>,
    /// See [`Deployment::group`].
    pub group: Box<str>,
    /// See [`Deployment::name`].
    pub name: Box<str>,
    /// `custom_llm_provider`, which wins over the prefix of the name.
    pub provider: Option<Box<str>>,
    /// `api_base` or `base_url`.
    pub api_base: Option<Box<str>>,
    /// `api_key`; where absent, the provider's own variables are asked.
    pub api_key: Option<Secret>,
    /// `api_version`.
    pub api_version: Option<Box<str>>,
    /// `organization`.
    pub organization: Option<Box<str>>,
    /// `extra_headers` and `headers`.
    pub extra_headers: Vec<(Box<str>, Box<str>)>,
    /// See [`Deployment::defaults`].
    pub defaults: Vec<(Box<str>, Bytes)>,
    /// See [`Deployment::drop_params`].
    pub drop_params: bool,
    /// See [`Deployment::additional_drop_params`].
    pub additional_drop_params: Vec<Box<str>>,
    /// See [`Deployment::allowed_openai_params`].
    pub allowed_openai_params: Vec<Box<str>>,
    /// See [`Deployment::mock`].
    pub mock: Option<Box<str>>,
}

/// Asks the environment for a variable; `None` where it is not set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a [`Spec`] makes no deployment. Each names the field to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The base address is missing and the provider has no usual one.
    BaseMissing {
        /// The provider's prefix.
        vendor: &'static str,
        /// The variables that could name it.
        variables: &'static [&'static str],
    },
    /// The base address is no `http` or `https` address.
    BaseInvalid(Box<str>),
    /// The base address carries a user or a password.
    BaseWithUser,
    /// A header of `extra_headers` cannot be one.
    HeaderInvalid(Box<str>),
    /// Pillion knows the provider and does not speak its wire yet.
    NotSpoken(&'static str),
    /// No provider has this prefix.
    UnknownProvider {
        /// The prefix.
        prefix: Box<str>,
        /// The nearest known one.
        nearest: Option<&'static str>,
    },
    /// The model has no prefix and its name tells no provider.
    NoProvider(Box<str>),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BaseMissing { vendor, variables } => {
                write!(f, "provider `{vendor}` has no usual address; set `api_base`")?;
                if variables.is_empty() {
                    Ok(())
                } else {
                    write!(f, " or {}", variables.join(" or "))
                }
            }
            Self::BaseInvalid(base) => write!(f, "`{base}` is not an http or https address"),
            Self::BaseWithUser => f.write_str(
                "its address carries a user or a password, which would show; use `api_key` or `extra_headers`",
            ),
            Self::HeaderInvalid(name) => write!(f, "`{name}` cannot be sent as an HTTP header"),
            Self::NotSpoken(vendor) => write!(f, "provider `{vendor}` is not served yet"),
            Self::UnknownProvider { prefix, nearest } => {
                write!(f, "no provider is called `{prefix}`")?;
                nearest.map_or(Ok(()), |nearest| write!(f, "; did you mean `{nearest}`?"))
            }
            Self::NoProvider(model) => write!(
                f,
                "`{model}` does not say its provider; write `provider/{model}`, such as `openai/{model}`"
            ),
        }
    }
}

impl std::error::Error for Misfit {}

/// A request for a provider.
#[derive(Debug)]
pub struct Outgoing {
    /// Where to.
    pub uri: Uri,
    /// All headers but those of the connection and the length.
    pub headers: HeaderMap,
    /// The body.
    pub body: Rope,
    /// The endpoint that will answer; decides how the answer is read.
    pub endpoint: Endpoint,
    /// Whether the usage event of a stream was asked for here and not by the client.
    pub usage_is_ours: bool,
    /// How the answer becomes the client's; `None` where it is already.
    pub translator: Option<Box<dyn Translator>>,
}

/// Why a call cannot be said to a provider. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsayable {
    /// The deployment cannot be called at all; see [`Deployment::unusable`].
    Unusable(Box<str>),
    /// The provider does not serve the endpoint.
    Endpoint {
        /// The provider's prefix.
        vendor: &'static str,
        /// What was asked for.
        endpoint: Endpoint,
    },
    /// The provider does not take these parameters.
    Params {
        /// The provider's prefix.
        vendor: &'static str,
        /// Their names.
        names: Vec<Box<str>>,
    },
    /// Something in the request has no words in the provider's dialect.
    Content {
        /// The provider's prefix.
        vendor: &'static str,
        /// Where it stands, such as `messages[2].content[0]`.
        param: Box<str>,
        /// What it is and what to do.
        why: Box<str>,
    },
}

impl Unsayable {
    /// The parameter it is about.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Content { param, .. } => Some(param),
            Self::Params { names, .. } => names.first().map(|name| &**name),
            Self::Endpoint { .. } | Self::Unusable(_) => None,
        }
    }
}

impl fmt::Display for Unsayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(why) => f.write_str(why),
            Self::Endpoint { vendor, endpoint } => {
                write!(f, "provider `{vendor}` does not serve /v1{}", endpoint.path())
            }
            Self::Params { vendor, names } => write!(
                f,
                "provider `{vendor}` does not take {}; leave it out, or set `drop_params: true` to have it left out",
                names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ),
            Self::Content { vendor, param, why } => {
                write!(f, "{param} cannot be sent to provider `{vendor}`: {why}")
            }
        }
    }
}

impl std::error::Error for Unsayable {}

/// Speaks one wire.
pub trait Adapter: Send + Sync + fmt::Debug {
    /// Whose words the provider's errors and events use.
    fn dialect(&self) -> Dialect;

    /// Whether a deployment of this provider can serve the endpoint.
    fn serves(&self, vendor: &Vendor, endpoint: Endpoint) -> bool;

    /// The request that carries `call`, with `model` as the provider calls it.
    fn request(&self, call: &Call, to: &Deployment, model: &str) -> Result<Outgoing, Unsayable>;

    /// What an answer with an error status, or an error object in a good one, means.
    fn blame(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        unix_now: Duration,
    ) -> Failure;
}
