//! `pillion report`: a report from a running sidecar, a file or a pipe, as a table and a picture.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use serde::de::IgnoredAny;

use super::{complain, print};
use crate::cli;
use crate::protocol::RopeBody;
use crate::report::plot::{self, Undrawn};
use crate::report::{Report, table};
use crate::upstream::{self, Client, Connections};

/// Prints the report, and draws it where a picture is asked for.
pub(super) async fn run(asked: cli::Report) -> ExitCode {
    let report = match read(&asked.from).await {
        Ok(report) => report,
        Err(why) => return complain(&why.to_string()),
    };
    print(&match asked.format {
        cli::Format::Json => report.to_json() + "\n",
        cli::Format::Text => table::text(&report),
    });
    match asked.svg.map(|file| draw(&report, file)).transpose() {
        Ok(_) => ExitCode::SUCCESS,
        Err(why) => complain(&why.to_string()),
    }
}

/// Why there is no report, or no picture of it.
#[derive(Debug)]
enum Failed {
    /// It is no address.
    Address(String),
    /// Whoever answers there is no sidecar's admin port, or an old one's.
    Answered(Uri, StatusCode),
    /// Some bytes that are no JSON.
    Garbled(String, serde_json::Error),
    /// Nobody answers there.
    Mute(Uri, String),
    /// JSON of something else.
    Other(String, serde_json::Error),
    /// There is nothing to draw.
    Undrawn(Undrawn),
    /// The file cannot be read.
    Unread(String, io::Error),
    /// The picture cannot be written.
    Unwritten(PathBuf, io::Error),
}

impl fmt::Display for Failed {
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
            Self::Garbled(from, why) => write!(f, "{from} is no JSON: {why}"),
            Self::Mute(uri, why) => write!(f, "cannot ask {uri}: {why}"),
            Self::Other(from, why) => write!(
                f,
                "{from} is no report: {why}; save one with `curl http://127.0.0.1:24081/report`"
            ),
            Self::Undrawn(why) => write!(f, "cannot draw: {why}"),
            Self::Unread(from, why) => write!(f, "cannot read {from}: {why}"),
            Self::Unwritten(file, why) => write!(f, "cannot write {}: {why}", file.display()),
        }
    }
}

async fn read(from: &str) -> Result<Report, Failed> {
    let bytes = if from.starts_with("http://") || from.starts_with("https://") {
        fetch(address(from)?).await?
    } else {
        let unread = |why| Failed::Unread(from.to_owned(), why);
        load(from).map(Bytes::from).map_err(unread)?
    };
    let from = || from.to_owned();
    serde_json::from_slice::<IgnoredAny>(&bytes).map_err(|why| Failed::Garbled(from(), why))?;
    serde_json::from_slice(&bytes).map_err(|why| Failed::Other(from(), why))
}

fn load(from: &str) -> io::Result<Vec<u8>> {
    if from != "-" {
        return fs::read(from);
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The address with the path of the report, where it names none.
fn address(text: &str) -> Result<Uri, Failed> {
    let wrong = || Failed::Address(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    let mut parts = uri.into_parts();
    if parts.path_and_query.as_ref().is_none_or(|path| path.as_str() == "/") {
        parts.path_and_query = Some(PathAndQuery::from_static("/report"));
    }
    Uri::from_parts(parts).map_err(|_| wrong())
}

/// How long a sidecar may take to answer; it needs a millisecond.
const PATIENCE: Duration = Duration::from_secs(10);
/// A route takes a few kilobytes.
const LONGEST: usize = 64 * 1024 * 1024;

async fn fetch(uri: Uri) -> Result<Bytes, Failed> {
    // Admin ports are on this machine or in this cluster; a proxy does not know them.
    let settings =
        upstream::Settings { proxy_from_environment: false, ..upstream::Settings::default() };
    let client = Client::new(&settings, Connections::default());
    let mute = |why: String| Failed::Mute(uri.clone(), why);
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(uri.clone()).header(header::HOST, host);
    let request = request.body(RopeBody::default()).map_err(|why| mute(why.to_string()))?;
    let answer = async {
        let response = client.send(request).await.map_err(|why| mute(why.to_string()))?;
        if response.status() != StatusCode::OK {
            return Err(Failed::Answered(uri.clone(), response.status()));
        }
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        Ok(body.map_err(|why| mute(why.to_string()))?.to_bytes())
    };
    let in_time = tokio::time::timeout(PATIENCE, answer).await;
    in_time.unwrap_or_else(|_| Err(mute(format!("no answer within {} s", PATIENCE.as_secs()))))
}

fn draw(report: &Report, file: PathBuf) -> Result<(), Failed> {
    let text = plot::svg(report).map_err(Failed::Undrawn)?;
    fs::write(Path::new(&file), text).map_err(|why| Failed::Unwritten(file, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_path_means_the_report() {
        for (text, want) in [
            ("http://127.0.0.1:24081", Some("http://127.0.0.1:24081/report")),
            ("http://127.0.0.1:24081/", Some("http://127.0.0.1:24081/report")),
            ("https://[::1]:1/a/report?x=1", Some("https://[::1]:1/a/report?x=1")),
            ("http://", None),
            ("http://a b", None),
            ("http:///report", None),
        ] {
            let got = address(text).ok().map(|uri| uri.to_string());
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }
}
