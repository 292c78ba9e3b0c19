//! The Kubernetes API, as little of it as the injector needs: get, apply, patch, delete, and
//! following a list as it changes.
//!
//! Objects are plain JSON. The token is read for each request, because the kubelet renews it.
//! Knows no kind and no name.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use json_patch::PatchOperation;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::protocol::{Rope, RopeBody};
use crate::upstream::{Answer, Client, Connections, Settings};

mod follow;

pub use follow::Change;

/// The API of one cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    base: String,
    token: PathBuf,
    client: Client,
}

/// No answer that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// It answers what cannot be understood.
    Garbled(String),
    /// It refuses.
    Refused {
        /// The status.
        code: u16,
        /// Its own words.
        message: String,
    },
    /// It does not answer.
    Unreachable(String),
}

impl Failed {
    /// Whether there is no such object.
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbled(what) => write!(f, "the API server's answer cannot be read: {what}"),
            Self::Refused { code, message } => {
                write!(f, "the API server answers {code}: {message}")
            }
            Self::Unreachable(why) => write!(f, "the API server cannot be reached: {why}"),
        }
    }
}

impl std::error::Error for Failed {}

/// The words of a query's value.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A value as it stands in a path or query.
pub fn escaped(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// How long one answer may take; watches last longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any object the API takes.
const LONGEST: usize = 64 * 1024 * 1024;

impl Cluster {
    /// The API at an address, with the token and the CA of a service account's folder.
    pub fn new(base: &Uri, account: &Path) -> Self {
        let authority = account.join("ca.crt");
        let settings = Settings {
            proxy_from_environment: false,
            only_authority: authority.is_file().then_some(authority),
            ..Settings::default()
        };
        let base = base.to_string().trim_end_matches('/').to_owned();
        let client = Client::new(&settings, Connections::default());
        Self { base, token: account.join("token"), client }
    }

    /// An object.
    pub async fn get(&self, path: &str) -> Result<Value, Failed> {
        self.ask(Method::GET, path, None).await
    }

    /// Server-side apply. Without `force` a field that belongs to somebody else is a conflict.
    pub async fn apply(
        &self,
        path: &str,
        by: Applier<'_>,
        object: &Value,
    ) -> Result<Value, Failed> {
        let (manager, force) = match by {
            Applier::Forcing(manager) => (manager, "true"),
            Applier::Yielding(manager) => (manager, "false"),
        };
        let path = format!("{path}?fieldManager={}&force={force}", escaped(manager));
        // JSON is YAML.
        let body = ("application/apply-patch+yaml", object.to_string());
        self.ask(Method::PATCH, &path, Some(body)).await
    }

    /// A JSON patch.
    pub async fn patch(
        &self,
        path: &str,
        manager: &str,
        operations: &[PatchOperation],
    ) -> Result<Value, Failed> {
        let path = format!("{path}?fieldManager={}", escaped(manager));
        let body = ("application/json-patch+json", json!(operations).to_string());
        self.ask(Method::PATCH, &path, Some(body)).await
    }

    /// Deletes an object, if it is still the one that was looked at.
    pub async fn delete(&self, path: &str, id: &str) -> Result<(), Failed> {
        let body = json!({"preconditions": {"uid": id}}).to_string();
        self.ask(Method::DELETE, path, Some(("application/json", body))).await.map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, String)>,
    ) -> Result<Value, Failed> {
        let asked = async {
            let answer = self.open(method, path, body).await?;
            let body = Limited::new(answer, LONGEST).collect().await;
            let body = body.map_err(|error| Failed::Unreachable(error.to_string()))?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| Failed::Garbled(error.to_string()))
        };
        let in_time = tokio::time::timeout(PATIENCE, asked).await;
        in_time
            .unwrap_or_else(|_| Err(Failed::Unreachable("it does not answer in time".to_owned())))
    }

    /// The body of an answer that is a success.
    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, String)>,
    ) -> Result<Answer, Failed> {
        let unsent = |why: String| Failed::Unreachable(why);
        let target: Uri = format!("{}{path}", self.base)
            .parse()
            .map_err(|_| unsent(format!("{path} is no path")))?;
        let host = target.authority().map(ToString::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json");
        if let Ok(token) = fs::read_to_string(&self.token) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let body = match body {
            None => RopeBody::default(),
            Some((kind, text)) => {
                request = request.header(header::CONTENT_TYPE, kind);
                Rope::from(Bytes::from(text)).into()
            }
        };
        let request = request.body(body).map_err(|error| unsent(error.to_string()))?;
        let answer = self.client.send(request).await.map_err(|error| unsent(error.to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let body = Limited::new(answer.into_body(), 1024 * 1024).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message =
            said.get("message").and_then(Value::as_str).unwrap_or(status.as_str()).to_owned();
        Err(Failed::Refused { code: status.as_u16(), message })
    }
}

/// Who applies, and whether fields of others are taken over.
#[derive(Debug, Clone, Copy)]
pub enum Applier<'a> {
    /// They are.
    Forcing(&'a str),
    /// They are not.
    Yielding(&'a str),
}
