//! What is thought of recorded streams, as they were recorded and with an event gone: none that was
//! whole is taken for cut, and what is missing is noticed where the wire lets anybody notice.
//!
//! The recordings are not part of the repository; without them nothing is tried.

#![cfg(test)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use pillion::protocol::Endpoint;
use pillion::protocol::sse::Framer;
use pillion::protocol::watch::{Sign, Watch, payload};
use serde_json::Value;

struct Recorded {
    id: String,
    endpoint: Endpoint,
    events: Vec<Bytes>,
    choices: u32,
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn corpus() -> PathBuf {
    std::env::var("PILLION_CORPUS").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    )
}

/// All streams that were recorded of the endpoints that have some; `None` where there is no corpus.
fn recorded() -> Option<Vec<Recorded>> {
    let Ok(files) = std::fs::read_dir(corpus()) else {
        println!("skipped: there is no corpus at {}", corpus().display());
        return None;
    };
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "jsonl"));
    paths.sort();
    let texts = paths.iter().map(|path| std::fs::read_to_string(path).unwrap());
    Some(texts.flat_map(|text| text.lines().filter_map(stream).collect::<Vec<_>>()).collect())
}

fn stream(line: &str) -> Option<Recorded> {
    // Reading all of the others takes most of the time.
    if !line.contains("\"streaming\":true") && !line.contains("\"streaming\": true") {
        return None;
    }
    let exchange: Value = serde_json::from_str(line).unwrap();
    let endpoint = match exchange["api"].as_str()? {
        "chat_completions" => Endpoint::ChatCompletions,
        "completions" => Endpoint::Completions,
        "messages" => Endpoint::Messages,
        "responses" => Endpoint::Responses,
        _ => return None,
    };
    let id = exchange["id"].as_str()?.to_owned();
    let body = exchange["response"]["body"].as_str()?;
    if exchange["response"]["status"].as_u64()? >= 400 || OTHER_WIRE.contains(&&*id) {
        return None;
    }
    let mut framer = Framer::new();
    framer.push(Bytes::copy_from_slice(body.as_bytes())).unwrap();
    let mut events: Vec<Bytes> = std::iter::from_fn(|| framer.next()).collect();
    events.extend(framer.rest());
    let choices = exchange["request"]["body"]["n"].as_u64().unwrap_or(1);
    Some(Recorded { id, endpoint, events, choices: u32::try_from(choices).unwrap() })
}

/// They were recorded where another wire is spoken: chunks of a chat in the place of a response, and
/// completions of a form of their own.
const OTHER_WIRE: [&str; 2] =
    ["azure.responses.s.68bae94d283f", "writer.completions.s.e20289f04edd"];

impl Recorded {
    fn is_whole<'e>(&self, events: impl IntoIterator<Item = &'e Bytes>) -> bool {
        let mut watch = Watch::of_choices(self.endpoint, self.choices);
        for event in events {
            match watch.event(event) {
                Sign::Fault | Sign::Garbled | Sign::Lost => return false,
                // One that says nothing is refused as such.
                Sign::Done => return watch.content_events > 0,
                Sign::Content | Sign::Life | Sign::Noise | Sign::Usage => {}
            }
        }
        watch.is_whole()
    }

    /// The data of the events up to the end of the first answer: some recordings hold several.
    fn data(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for event in &self.events {
            let data = payload(event).unwrap_or_default();
            let data = match data.trim_ascii() {
                b"[DONE]" => Value::from("[DONE]"),
                data => serde_json::from_slice(data).unwrap_or_default(),
            };
            all.push(data);
            if ENDS.contains(&kind(all.last().unwrap())) {
                break;
            }
        }
        all
    }
}

const ENDS: [&str; 4] = ["[DONE]", "message_stop", "response.completed", "response.incomplete"];

fn kind(data: &Value) -> &str {
    data.as_str().or(data["type"].as_str()).unwrap_or_default()
}

fn reasons(data: &Value) -> impl Iterator<Item = &Value> {
    data["choices"].as_array().into_iter().flatten().filter_map(|it| it.get("finish_reason"))
}

fn gives_reason(data: &Value) -> bool {
    reasons(data).any(|reason| reason.as_str().is_some_and(|reason| !reason.is_empty()))
}

/// Whether it has an end and no error, in the plainest reading.
fn seems_whole(data: &[Value]) -> bool {
    let fails = |data: &Value| {
        data["error"].is_object() || data["type"] == "error" || data["type"] == "response.failed"
    };
    let ends = |data: &Value| ENDS.contains(&kind(data)) || gives_reason(data);
    data.iter().any(ends) && !data.iter().any(fails)
}

/// Whole by its looks, and yet it is not: a second answer begins in the middle of the first.
const SPLICED: &str = "anthropic.messages.s.340c98f4618c";

#[test]
fn no_recorded_stream_that_is_whole_is_taken_for_cut() {
    let Some(all) = recorded() else { return };
    let (mut whole, mut cut, mut wrong) = (0, Vec::new(), Vec::new());
    for recorded in &all {
        let is_whole = recorded.is_whole(&recorded.events);
        if is_whole {
            whole += 1;
        } else {
            cut.push(&*recorded.id);
        }
        let data = recorded.data();
        if is_whole != (seems_whole(&data) && recorded.id != SPLICED) {
            wrong.push(&*recorded.id);
        }
    }
    println!("{whole} recorded streams are whole, {} are not: {}", cut.len(), cut.join(" "));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether nobody can know that this event is missing, or nothing of the answer is missing with it.
fn may_vanish(recorded: &Recorded, all: &[Value], at: usize) -> bool {
    let (data, others) = (&all[at], [&all[..at], &all[at + 1..]].concat());
    match recorded.endpoint {
        // Pieces are not numbered. A reason is missed unless it is told twice, or a mark speaks for
        // it where no chunk has a place for one.
        Endpoint::ChatCompletions | Endpoint::Completions => {
            !gives_reason(data)
                || others.iter().any(gives_reason)
                || others.last().is_some_and(|last| last == "[DONE]")
                    && !others.iter().flat_map(reasons).any(|it| it == "" || it.is_null())
        }
        Endpoint::Messages => ["", "content_block_delta", "future_event", "message_stop", "ping"]
            .contains(&kind(data)),
        // All that carries some of the answer is told again by the parts and at the end. Whether
        // anything comes before the first number nobody knows, nor, without numbers, what is told
        // only once.
        Endpoint::Responses => {
            let (before, last) = kind(data).rsplit_once('.').unwrap_or_default();
            let carries = match last {
                "delta" | "completed" | "incomplete" => !before.contains("_call"),
                "done" => !before.ends_with("part"),
                "added" => before.ends_with("item"),
                _ => false,
            };
            !carries || at == 0 || data["sequence_number"].is_null()
        }
        Endpoint::CountTokens | Endpoint::Embeddings => false,
    }
}

#[test]
fn an_event_that_is_missing_in_a_recorded_stream_is_noticed() {
    let Some(all) = recorded() else { return };
    let (mut table, mut wrong) = (BTreeMap::<_, (usize, usize)>::new(), Vec::new());
    for recorded in &all {
        let data = recorded.data();
        let length: usize = recorded.events.iter().map(Bytes::len).sum();
        if length > LONGEST || !seems_whole(&data) || !recorded.is_whole(&recorded.events) {
            continue;
        }
        // As many of long streams as of short ones, and all of their ends.
        let step = data.len() / MOST_GONE + 1;
        let ends = data.len().saturating_sub(6)..data.len();
        for at in (0..ends.start).step_by(step).chain(ends) {
            let before = &recorded.events[..at];
            let goes_unseen = recorded.is_whole(before.iter().chain(&recorded.events[at + 1..]));
            let row = table.entry((recorded.endpoint.as_str(), kind(&data[at]).to_owned()));
            let (gone, unseen) = row.or_default();
            (*gone, *unseen) = (*gone + 1, *unseen + usize::from(goes_unseen));
            if goes_unseen && !may_vanish(recorded, &data, at) {
                wrong.push(format!("{} {at}: {}", recorded.id, data[at]));
            }
        }
    }
    println!("| endpoint | event | gone | unseen |");
    for ((endpoint, kind), (gone, unseen)) in &table {
        println!("| {endpoint} | {kind} | {gone} | {unseen} |");
    }
    assert!(wrong.is_empty(), "{}\n{} wrong", wrong.join("\n"), wrong.len());
}

/// Of each stream so many events are taken away, one at a time.
const MOST_GONE: usize = 8;

/// Longer ones only take longer.
const LONGEST: usize = 40_000;
