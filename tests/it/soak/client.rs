//! A client that runs its errand, and the verdict about what it got.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::Value;

use super::errand::{Errand, Group};
use super::providers::{Book, TOTAL, Told};
use crate::faults::forms::{Form, Words};
use crate::faults::rows::{Row, Want};
use crate::support::now;
use crate::support::wire::{Answer, Wire};

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Half an answer, and the news that it is no more.
    Cut,
    /// The client went away first.
    Left,
    Refused,
    Whole,
    /// What must not be.
    Wrong(String),
}

/// An errand that is over.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) errand: Errand,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
    /// What the providers did for it, a line for each of their answers.
    pub(crate) told: Vec<String>,
}

impl Done {
    /// What was asked and played, what came of it and what the providers did.
    pub(crate) fn story(&self) -> String {
        let Self { errand, outcome, took, told } = self;
        let (form, model) = (errand.form.name(), errand.model());
        let played = match errand.row() {
            None => "no fault is played".to_owned(),
            Some(row) => format!(
                "{:?} is played; alone {:?}, beside a good one {:?}",
                row.name, row.alone, row.beside
            ),
        };
        let mut story = format!("after {took:?}, {form} of {model}, {played}\n{errand:?}");
        for line in told {
            story += "\n";
            story += line;
        }
        match outcome {
            Outcome::Wrong(why) => story + "\n" + why,
            Outcome::Cut | Outcome::Left | Outcome::Refused | Outcome::Whole => story,
        }
    }
}

/// No request takes longer: all tries have their time, and so has who reads slowly on a machine
/// that is busy.
const HANG: Duration = TOTAL.saturating_add(Duration::from_secs(10));

/// Runs an errand, on the connection of the last one where there is one.
pub(crate) async fn run(
    errand: Errand,
    to: SocketAddr,
    kept: &mut Option<Wire>,
    book: &Book,
) -> Done {
    let began = now();
    let mut wire = match kept.take() {
        Some(wire) if errand.manner.sips.is_none() => wire,
        Some(_) | None => Wire::open(to).await,
    };
    if let Some(bytes) = errand.manner.sips {
        wire.sip(bytes);
    }
    // What breaks off in its framing fails an assertion of the wire's.
    let attended = AssertUnwindSafe(attend(&errand, &mut wire)).catch_unwind();
    let bounded = tokio::time::timeout(HANG, attended).await;
    let told = book.take(errand.wish.id);
    let outcome = match bounded {
        Err(_) => Outcome::Wrong(format!("hangs for {HANG:?}")),
        Ok(Err(panic)) => Outcome::Wrong(broken_off(&*panic).to_owned()),
        Ok(Ok(None)) => Outcome::Left,
        Ok(Ok(Some(answer))) => {
            let keeps = answer.head.header("connection") != Some("close");
            if keeps && errand.manner.sips.is_none() {
                *kept = Some(wire);
            }
            judge(&errand, &answer, &told)
        }
    };
    let told = told.iter().map(|told| told.line(began)).collect();
    Done { errand, outcome, took: now().saturating_duration_since(began), told }
}

/// The words of a failed assertion.
fn broken_off(panic: &(dyn Any + Send)) -> &str {
    let written = panic.downcast_ref::<String>().map(String::as_str);
    written.or_else(|| panic.downcast_ref().copied()).unwrap_or("a failed assertion")
}

/// The answer, where it is waited for.
async fn attend(errand: &Errand, wire: &mut Wire) -> Option<Answer> {
    let call = errand.call();
    if let Some(share) = errand.manner.stops_at {
        let head = call.find("\r\n\r\n").unwrap() + 4;
        wire.send(&call[..head + (call.len() - head) * share / 1_000]).await;
        return None;
    }
    let answer = wire.ask(call);
    match errand.manner.leaves {
        None => Some(answer.await),
        Some(after) => tokio::time::timeout(after, answer).await.ok(),
    }
}

fn judge(errand: &Errand, answer: &Answer, told: &[Told]) -> Outcome {
    let form = errand.form;
    let wrong = |why: &str| Outcome::Wrong(format!("{why}; the client got {}", shown(answer)));
    let status = answer.status();
    if status != 200 {
        return match errand.row() {
            _ if !form.is_refused(answer, status) => wrong("no error of the dialect"),
            None => wrong("nothing was wrong with the provider"),
            Some(row) if !has_error(row, status) => wrong("not the status of the fault"),
            Some(_) => Outcome::Refused,
        };
    }
    if form.is_cut(answer) {
        return match errand.row() {
            Some(row) if is_midway(row) => Outcome::Cut,
            Some(_) | None => wrong("nothing was to be cut"),
        };
    }
    match whole_text(form, answer) {
        None => wrong("neither whole nor an error"),
        Some(text) if is_told(errand, &text, told) => Outcome::Whole,
        Some(_) => wrong("a false success"),
    }
}

/// An answer for a reader: all of a short one, the beginning and the end of a long one.
fn shown(answer: &Answer) -> String {
    const MOST: usize = 2_000;
    let (bytes, status) = (answer.body.as_bytes(), answer.status());
    let (first, rest) = bytes.split_at(bytes.len().min(MOST));
    let (between, last) = rest.split_at(rest.len().saturating_sub(MOST));
    let [first, last] = [first, last].map(String::from_utf8_lossy);
    let kind = answer.head.header("content-type").unwrap_or_default();
    let left_out = match between.len() {
        0 => String::new(),
        count => format!("\n[{count} bytes more]\n"),
    };
    format!("{status} {kind}, {} bytes:\n{first}{left_out}{last}", bytes.len())
}

/// Whether a text is one answer, or of two what the group asks for.
fn is_told(errand: &Errand, text: &str, told: &[Told]) -> bool {
    let same = told.iter().filter(|told| told.behind.is_none() && told.text() == text).count();
    // All that one said before it broke off, and what another wrote who was told just that.
    let is_continued = || {
        told.iter().filter_map(Told::begun).any(|begun| {
            let rest = text.strip_prefix(&*begun);
            let knows = |second: &&Told| second.behind.as_deref() == Some(&*begun);
            told.iter().filter(knows).any(|second| Some(&*second.text()) == rest)
        })
    };
    match errand.group {
        Group::Continue => same == 1 || is_continued(),
        Group::Restart => same > 0,
        Group::Alone
        | Group::Beside
        | Group::Carried
        | Group::Fallback
        | Group::Hedged
        | Group::Hold => same == 1,
    }
}

fn wants(row: &Row) -> [Want; 4] {
    [row.alone.streamed, row.alone.whole, row.beside.streamed, row.beside.whole]
}

fn has_error(row: &Row, status: u16) -> bool {
    wants(row).contains(&Want::Error(status))
}

fn is_midway(row: &Row) -> bool {
    wants(row).contains(&Want::Cut)
}

/// The text of an answer that was said to be whole, in all the words that say so, once each.
fn whole_text(form: Form, answer: &Answer) -> Option<String> {
    if form.has_error(answer) {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let once = |mark: &str| answer.body.matches(mark).count() == 1;
    match (form.client, form.stream) {
        (Words::OpenAi, false) => {
            let json = answer.json();
            let choice = &json["choices"][0];
            (choice["finish_reason"] == "stop").then(|| text(&choice["message"]["content"]))
        }
        (Words::Anthropic, false) => {
            let json = answer.json();
            (json["stop_reason"] == "end_turn").then(|| text(&json["content"][0]["text"]))
        }
        (Words::OpenAi, true) => {
            let is_whole = once("\"finish_reason\":\"stop\"")
                && once("[DONE]")
                && answer.body.trim_end().ends_with("data: [DONE]");
            is_whole.then(|| Some(form.pieces(answer)?.concat()))?
        }
        (Words::Anthropic, true) => {
            // One block that is opened and closed, however many providers wrote in it.
            let is_whole = once("\"type\":\"content_block_start\"")
                && once("\"type\":\"content_block_stop\"")
                && once("\"end_turn\"")
                && once("{\"type\":\"message_stop\"}");
            is_whole.then(|| Some(form.pieces(answer)?.concat()))?
        }
    }
}
