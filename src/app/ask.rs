//! Asking the admin port of a sidecar that runs, here or elsewhere.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};

use crate::protocol::RopeBody;
use crate::upstream::{self, Client, Connections};

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// It is no address.
    Address(String),
    /// Whoever answers there is no sidecar's admin port, or an old one's.
    Answered(Uri, StatusCode),
    /// Nobody answers there.
    Mute(Uri, String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => write!(
                f,
                "`{text}` is no address; it looks like http://127.0.0.1:24081, the admin port of a sidecar"
            ),
            Self::Answered(uri, status) => write!(
                f,
                "{uri} answers with {status}: is that the admin port of a sidecar? It is 24081 unless told otherwise"
            ),
            Self::Mute(uri, why) => write!(f, "cannot ask {uri}: {why}"),
        }
    }
}

/// What a sidecar answers at an address, or at `path` where that names none.
pub(super) async fn ask(text: &str, path: &'static str) -> Result<Bytes, Unanswered> {
    fetch(address(text, path)?).await
}

fn address(text: &str, path: &'static str) -> Result<Uri, Unanswered> {
    let wrong = || Unanswered::Address(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    if uri.host().is_none_or(str::is_empty) || uri.scheme().is_none() {
        return Err(wrong());
    }
    let mut parts = uri.into_parts();
    if parts.path_and_query.as_ref().is_none_or(|path| path.as_str() == "/") {
        parts.path_and_query = Some(PathAndQuery::from_static(path));
    }
    Uri::from_parts(parts).map_err(|_| wrong())
}

/// How long a sidecar may take to answer; it needs a millisecond.
const PATIENCE: Duration = Duration::from_secs(10);
/// A route takes a few kilobytes.
const LONGEST: usize = 64 * 1024 * 1024;

async fn fetch(uri: Uri) -> Result<Bytes, Unanswered> {
    // Admin ports are on this machine or in this cluster; a proxy does not know them.
    let settings =
        upstream::Settings { proxy_from_environment: false, ..upstream::Settings::default() };
    let client = Client::new(&settings, Connections::default());
    let mute = |why: String| Unanswered::Mute(uri.clone(), why);
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(uri.clone()).header(header::HOST, host);
    let request = request.body(RopeBody::default()).map_err(|why| mute(why.to_string()))?;
    let answer = async {
        let response = client.send(request).await.map_err(|why| mute(why.to_string()))?;
        if response.status() != StatusCode::OK {
            return Err(Unanswered::Answered(uri.clone(), response.status()));
        }
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        Ok(body.map_err(|why| mute(why.to_string()))?.to_bytes())
    };
    let in_time = tokio::time::timeout(PATIENCE, answer).await;
    in_time.unwrap_or_else(|_| Err(mute(format!("no answer within {} s", PATIENCE.as_secs()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_path_means_what_is_asked_for() {
        for (text, want) in [
            ("http://127.0.0.1:24081", Some("http://127.0.0.1:24081/report")),
            ("http://127.0.0.1:24081/", Some("http://127.0.0.1:24081/report")),
            ("https://[::1]:1/a/report?x=1", Some("https://[::1]:1/a/report?x=1")),
            ("127.0.0.1:24081", None),
            ("http://", None),
            ("http://a b", None),
            ("http:///report", None),
        ] {
            let got = address(text, "/report").ok().map(|uri| uri.to_string());
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }
}
