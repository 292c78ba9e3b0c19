//! What a client has seen of a stream.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::message::FIRST_BLOCK;
use super::parts::{self, Mark, Part};
use crate::protocol::Endpoint;
use crate::protocol::sse::Framer;
use crate::protocol::watch::payload;

/// What was sent to a client so far, where another stream could go on behind it: texts, thoughts
/// and calls of a single answer.
#[derive(Debug)]
pub struct Sent {
    pub(super) endpoint: Endpoint,
    framer: Framer,
    /// What each event of the answer repeats.
    pub(super) labels: Map<String, Value>,
    /// The number of the last event, where they are numbered.
    pub(super) number: Option<u64>,
    pub(super) pieces: VecDeque<Piece>,
    bytes: usize,
    /// Whether nothing can follow: something else was sent, or the end.
    closed: bool,
}

/// A part of what was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A border between two parts of the answer.
    Mark(Mark),
    /// Text of one kind, however many events it came in.
    Text(Box<str>, String),
}

/// A shorter text is not written on: a model may repeat it by chance, which could not be told from
/// a provider that says it again, and little is lost with it.
const LEAST_BYTES: usize = 24;

/// A longer answer is not kept.
const MOST_BYTES: usize = 1024 * 1024;

impl Sent {
    /// For a stream of `endpoint`; `None` where its events cannot be joined.
    pub fn new(endpoint: Endpoint) -> Option<Self> {
        let can_join = !matches!(endpoint, Endpoint::CountTokens | Endpoint::Embeddings);
        can_join.then(|| Self {
            endpoint,
            framer: Framer::new(),
            labels: Map::new(),
            number: None,
            pieces: VecDeque::new(),
            bytes: 0,
            closed: false,
        })
    }

    /// How many bytes are kept.
    pub fn kept(&self) -> usize {
        self.bytes
    }

    /// Whether another stream can go on here.
    pub fn is_open(&self) -> bool {
        !self.closed
    }

    /// What was sent, where it is one plain text that is not over and another model can write on
    /// behind it.
    pub fn text(&self) -> Option<&str> {
        let pieces: Vec<_> = self.pieces.iter().collect();
        let text = match (self.endpoint, pieces.as_slice()) {
            (Endpoint::Messages, [Piece::Mark(mark), text]) if *mark.what == *FIRST_BLOCK => text,
            (Endpoint::ChatCompletions | Endpoint::Completions, [text]) => text,
            _ => return None,
        };
        let text = match text {
            Piece::Text(kind, text) if **kind == *parts::plain_text(self.endpoint) => text,
            Piece::Mark(_) | Piece::Text(..) => return None,
        };
        // No model takes a beginning that ends with a space.
        let text = text.trim_end();
        (self.is_open() && text.len() >= LEAST_BYTES).then_some(text)
    }

    /// Notes bytes that went to the client.
    pub fn note(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.closed |= self.framer.push(Bytes::copy_from_slice(bytes)).is_err();
        while let Some(event) = self.framer.next() {
            self.event(&event);
        }
        if self.closed || self.bytes > MOST_BYTES {
            self.closed = true;
            self.pieces.clear();
            self.bytes = 0;
        }
    }

    fn event(&mut self, event: &[u8]) {
        let Some(data) = payload(event) else { return };
        let Ok(json) = serde_json::from_slice::<Map<String, Value>>(&data) else {
            self.closed = true;
            return;
        };
        let (place, labels) = match self.endpoint {
            Endpoint::Responses => (json.get("response").and_then(Value::as_object), RESPONSE),
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::CountTokens
            | Endpoint::Embeddings
            | Endpoint::Messages => (Some(&json), CHUNK),
        };
        for (name, value) in labels.iter().filter_map(|name| Some((*name, place?.get(*name)?))) {
            self.labels.entry(name).or_insert_with(|| value.clone());
        }
        self.number = json.get(NUMBER).and_then(Value::as_u64).or(self.number);
        for part in parts::of(self.endpoint, &json) {
            match part {
                Part::End | Part::Other => self.closed = true,
                Part::Mark(mark) => {
                    self.bytes += mark.what.len();
                    self.pieces.push_back(Piece::Mark(mark));
                }
                Part::Text(kind, text) => self.add(kind, text),
            }
        }
    }

    fn add(&mut self, kind: Box<str>, text: &str) {
        self.bytes += text.len();
        match self.pieces.back_mut() {
            Some(Piece::Text(last, whole)) if *last == kind => whole.push_str(text),
            Some(Piece::Mark(_) | Piece::Text(..)) | None => {
                self.pieces.push_back(Piece::Text(kind, text.to_owned()));
            }
        }
    }
}

/// What every chunk says of the whole answer.
const CHUNK: [&str; 2] = ["id", "created"];
/// What an event of Responses says of it, where it carries it.
const RESPONSE: [&str; 2] = ["id", "created_at"];
/// By this the events of Responses are numbered.
pub(super) const NUMBER: &str = "sequence_number";
