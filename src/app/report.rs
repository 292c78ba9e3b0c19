//! `pillion report`: a report from a running sidecar, a file or a pipe, as a table and a picture.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::ask::{Unanswered, ask};
use super::{complain, print};
use crate::cli;
use crate::report::plot::{self, Undrawn};
use crate::report::{Report, table};

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
    /// Some bytes that are no JSON.
    Garbled(String, serde_json::Error),
    /// JSON of something else.
    Other(String, serde_json::Error),
    /// The sidecar does not tell.
    Unanswered(Unanswered),
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
            Self::Garbled(from, why) => write!(f, "{from} is no JSON: {why}"),
            Self::Other(from, why) => write!(
                f,
                "{from} is no report: {why}; save one with `curl http://127.0.0.1:24081/report`"
            ),
            Self::Unanswered(why) => write!(f, "{why}"),
            Self::Undrawn(why) => write!(f, "cannot draw: {why}"),
            Self::Unread(from, why) => write!(f, "cannot read {from}: {why}"),
            Self::Unwritten(file, why) => write!(f, "cannot write {}: {why}", file.display()),
        }
    }
}

async fn read(from: &str) -> Result<Report, Failed> {
    let bytes = if from.starts_with("http://") || from.starts_with("https://") {
        ask(from, "/report").await.map_err(Failed::Unanswered)?
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

fn draw(report: &Report, file: PathBuf) -> Result<(), Failed> {
    let text = plot::svg(report).map_err(Failed::Undrawn)?;
    fs::write(Path::new(&file), text).map_err(|why| Failed::Unwritten(file, why))
}
