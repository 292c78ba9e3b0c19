//! Names to candidates: every public name resolved once, when the configuration is loaded.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::lexicon::{DeploymentIx, Substitute};

/// What routing may know about one deployment from the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Which deployment.
    pub deployment: DeploymentIx,
    /// `weight`: its share under simple-shuffle.
    pub weight: Option<f64>,
    /// `rpm`: the share where nobody has a weight.
    pub rpm: Option<f64>,
    /// `tpm`: the share where nobody has a weight or an rpm.
    pub tpm: Option<f64>,
    /// `order`: the lowest order that is left is used.
    pub order: Option<i64>,
    /// `tags`.
    pub tags: Vec<Box<str>>,
    /// `timeout` of one try.
    pub timeout: Option<Duration>,
    /// `stream_timeout`: how long a stream may be silent.
    pub stream_timeout: Option<Duration>,
    /// `max_parallel_requests` as §2.10 of LiteLLM resolves it; `None` is unlimited.
    pub max_parallel_requests: Option<u32>,
    /// `num_retries` of this deployment.
    pub num_retries: Option<u32>,
    /// `cooldown_time` of this deployment; zero never cools it.
    pub cooldown_time: Option<Duration>,
    /// `allowed_fails` of this deployment.
    pub allowed_fails: Option<u32>,
}

impl Member {
    /// A member of which nothing but its position is configured.
    pub fn new(deployment: DeploymentIx) -> Self {
        Self {
            deployment,
            weight: None,
            rpm: None,
            tpm: None,
            order: None,
            tags: Vec::new(),
            timeout: None,
            stream_timeout: None,
            max_parallel_requests: None,
            num_retries: None,
            cooldown_time: None,
            allowed_fails: None,
        }
    }
}

/// A number per class of failure: `retry_policy` (retries) or `allowed_fails_policy` (failures).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// `AuthenticationError…`
    pub authentication: Option<u32>,
    /// `BadRequestError…`
    pub bad_request: Option<u32>,
    /// `ContentPolicyViolationError…`
    pub content_policy: Option<u32>,
    /// `InternalServerError…`, and `BadGatewayError…` where that is absent.
    pub internal_server: Option<u32>,
    /// `BadGatewayError…`
    pub bad_gateway: Option<u32>,
    /// `NotFoundError…`
    pub not_found: Option<u32>,
    /// `RateLimitError…`
    pub rate_limit: Option<u32>,
    /// `ServiceUnavailableError…`
    pub service_unavailable: Option<u32>,
    /// `TimeoutError…`
    pub timeout: Option<u32>,
    /// `DefaultRetries`
    pub other: Option<u32>,
}

/// `router_settings`, and those of `litellm_settings` that routing acts on, with the defaults of
/// LiteLLM 1.109.1.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `num_retries`; 2 by default.
    pub num_retries: u32,
    /// `retry_policy`.
    pub retry_policy: Option<Policy>,
    /// `model_group_retry_policy`.
    pub model_group_retry_policy: BTreeMap<Box<str>, Policy>,
    /// `retry_after`: the least wait before a retry; zero by default.
    pub retry_after: Duration,
    /// `max_fallbacks`: how deep fallbacks of fallbacks go; 5 by default.
    pub max_fallbacks: u32,
    /// `fallbacks`, with `default_fallbacks` under `*`; empty by default.
    pub fallbacks: Vec<(Box<str>, Vec<Substitute>)>,
    /// `context_window_fallbacks`.
    pub context_window_fallbacks: Vec<(Box<str>, Vec<Substitute>)>,
    /// `content_policy_fallbacks`.
    pub content_policy_fallbacks: Vec<(Box<str>, Vec<Substitute>)>,
    /// `model_group_alias`: alias to group, and whether it is hidden from the model list.
    pub aliases: Vec<(Box<str>, Box<str>, bool)>,
    /// `timeout`, else `request_timeout`, else 600 s: how long one try may take.
    pub timeout: Duration,
    /// `stream_timeout`: how long a stream may be silent; as `timeout` by default.
    pub stream_timeout: Option<Duration>,
    /// `allowed_fails`; `None` is LiteLLM's percentage rule.
    pub allowed_fails: Option<u32>,
    /// `allowed_fails_policy`.
    pub allowed_fails_policy: Option<Policy>,
    /// `cooldown_time`; 5 s by default.
    pub cooldown_time: Duration,
    /// `disable_cooldowns`.
    pub disable_cooldowns: bool,
    /// `enable_tag_filtering`.
    pub enable_tag_filtering: bool,
    /// `tag_filtering_match_any`; true by default.
    pub tag_filtering_match_any: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            num_retries: 2,
            retry_policy: None,
            model_group_retry_policy: BTreeMap::new(),
            retry_after: Duration::ZERO,
            max_fallbacks: 5,
            fallbacks: Vec::new(),
            context_window_fallbacks: Vec::new(),
            content_policy_fallbacks: Vec::new(),
            aliases: Vec::new(),
            timeout: Duration::from_secs(600),
            stream_timeout: None,
            allowed_fails: None,
            allowed_fails_policy: None,
            cooldown_time: Duration::from_secs(5),
            disable_cooldowns: false,
            enable_tag_filtering: false,
            tag_filtering_match_any: true,
        }
    }
}

/// The compiled names. Made by [`RouteTable::build`], read by [`decide`](super::decide).
#[derive(Debug)]
pub struct RouteTable {
    names: HashMap<Box<str>, u16>,
    settings: Settings,
}

impl RouteTable {
    /// Compiles the `model_list`: one `(model_name, deployment id, member)` per entry, in the
    /// order of the file.
    pub fn build(entries: Vec<(Box<str>, Box<str>, Member)>, settings: Settings) -> Self {
        let _ = entries;
        Self { names: HashMap::new(), settings }
    }
}
