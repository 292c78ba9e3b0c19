//! From the bytes of a body to a [`Call`].

use std::fmt;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;

use super::wishes;
use crate::protocol::{Call, Edits, Endpoint, Fields, NotAnObject};

/// A request that cannot be a call. Answered with status 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadCall {
    /// A field holds something it cannot hold.
    Field {
        /// Which.
        name: Box<str>,
        /// What it must be.
        wanted: &'static str,
    },
    /// A field that a client may not set.
    Forbidden(Box<str>),
    /// The body is no JSON object.
    NotAnObject(NotAnObject),
    /// A field that must be there is not.
    Missing(&'static str),
}

impl BadCall {
    /// The parameter that the error is about.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Field { name, .. } | Self::Forbidden(name) => Some(name),
            Self::NotAnObject(_) => None,
            Self::Missing(name) => Some(name),
        }
    }
}

impl fmt::Display for BadCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { name, wanted } => write!(f, "`{name}` must be {wanted}"),
            Self::Forbidden(name) => write!(
                f,
                "`{name}` cannot be set by a request; addresses and keys belong in the gateway's configuration"
            ),
            Self::NotAnObject(why) => write!(f, "the request body is {why}"),
            // OpenAI's own words, which clients may look for.
            Self::Missing(name) => write!(f, "Missing required parameter: '{name}'."),
        }
    }
}

impl std::error::Error for BadCall {}

/// Reads a body for `endpoint`. A model in the path goes before one in the body.
///
/// Fields that only a gateway acts on become [`Wishes`](crate::protocol::Wishes) and are taken
/// out of the body; all others stay as they came.
pub fn decode(
    endpoint: Endpoint,
    path_model: Option<&str>,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Call, BadCall> {
    let fields = Fields::of(&body).map_err(BadCall::NotAnObject)?;
    let model = match path_model {
        Some(model) => model.into(),
        None => text(&body, &fields, "model")?.ok_or(BadCall::Missing("model"))?,
    };
    for name in required(endpoint) {
        if fields.get(&body, name).is_none_or(|value| value == b"null") {
            return Err(BadCall::Missing(name));
        }
    }
    let stream = flag(&body, &fields, "stream")?.unwrap_or(false);
    let include_usage = stream && include_usage(&body, &fields)?;
    let mut wishes = wishes::of_headers(headers)?;
    let mut edits = Edits::new();
    wishes::of_body(&body, &fields, endpoint, &model, &mut wishes, &mut edits)?;
    let (body, fields) = if edits.is_empty() {
        (body, fields)
    } else {
        let body = edits.apply(&body, &fields).to_bytes();
        let fields = Fields::of(&body).map_err(BadCall::NotAnObject)?;
        (body, fields)
    };
    Ok(Call { endpoint, model, stream, include_usage, body, fields, wishes })
}

const fn required(endpoint: Endpoint) -> &'static [&'static str] {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::CountTokens | Endpoint::Messages => &["messages"],
        Endpoint::Completions => &["prompt"],
        Endpoint::Embeddings => &["input"],
        Endpoint::Responses => &[],
    }
}

fn text(body: &[u8], fields: &Fields, name: &str) -> Result<Option<Box<str>>, BadCall> {
    let found: Option<Box<str>> = typed(body, fields, name, "a string")?;
    Ok(found.filter(|text| !text.is_empty()))
}

fn flag(body: &[u8], fields: &Fields, name: &str) -> Result<Option<bool>, BadCall> {
    typed(body, fields, name, "true or false")
}

/// The value of a field in its type; `None` where it is absent or null.
pub(super) fn typed<'t, T: Deserialize<'t>>(
    body: &'t [u8],
    fields: &Fields,
    name: &str,
    wanted: &'static str,
) -> Result<Option<T>, BadCall> {
    match fields.get(body, name) {
        None => Ok(None),
        Some(value) => serde_json::from_slice::<Option<T>>(value)
            .map_err(|_| BadCall::Field { name: name.into(), wanted }),
    }
}

fn include_usage(body: &[u8], fields: &Fields) -> Result<bool, BadCall> {
    #[derive(Deserialize)]
    struct StreamOptions {
        #[serde(default)]
        include_usage: Option<bool>,
    }
    let options: Option<StreamOptions> = typed(body, fields, "stream_options", "an object")?;
    Ok(options.and_then(|options| options.include_usage).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Result<Call, BadCall> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        decode(Endpoint::ChatCompletions, None, &HeaderMap::new(), body)
    }

    #[test]
    fn a_call_keeps_its_body_and_knows_its_model() {
        let body = r#"{"model":"a","messages":[],"x":1,"stream":true,"stream_options":{"include_usage":true}}"#;
        let call = chat(body).unwrap();
        assert_eq!(&*call.model, "a");
        assert!(call.stream && call.include_usage);
        assert_eq!(call.body, body);
    }

    #[test]
    fn the_model_of_the_path_goes_first() {
        let body = Bytes::from_static(br#"{"messages":[]}"#);
        let call = decode(Endpoint::ChatCompletions, Some("p"), &HeaderMap::new(), body).unwrap();
        assert_eq!(&*call.model, "p");
    }

    #[track_caller]
    fn refused(body: &str, say: &str) {
        let error = chat(body).unwrap_err().to_string();
        assert!(error.contains(say), "{error}");
    }

    #[test]
    fn what_is_no_call_is_refused_with_a_reason() {
        refused("", "not valid JSON");
        refused("[]", "not an object");
        refused(r#"{"messages":[]}"#, "'model'");
        refused(r#"{"model":"","messages":[]}"#, "'model'");
        refused(r#"{"model":7,"messages":[]}"#, "`model` must be a string");
        refused(r#"{"model":"a"}"#, "'messages'");
        refused(r#"{"model":"a","messages":[],"stream":"yes"}"#, "`stream` must be true or false");
        refused(r#"{"model":"a","messages":[],"api_base":"http://x"}"#, "`api_base`");
        refused(r#"{"model":"a","messages":[],"timeout":"soon"}"#, "`timeout`");
    }
}
