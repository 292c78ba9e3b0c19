//! What a client has seen of a stream.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::parts::{self, Part};
use crate::protocol::Endpoint;
use crate::protocol::sse::Framer;
use crate::protocol::watch::payload;

/// What was sent to a client so far, where another stream could go on behind it: texts and
/// thoughts of a single answer.
#[derive(Debug)]
pub struct Sent {
    pub(super) endpoint: Endpoint,
    framer: Framer,
    /// What each event of the answer repeats.
    pub(super) labels: Map<String, Value>,
    pub(super) pieces: VecDeque<Piece>,
    bytes: usize,
    /// Whether nothing can follow: something else was sent, or the end.
    closed: bool,
}

/// A part of what was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A border between two parts of the answer.
    Mark(Box<str>),
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
        let can_join = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Messages);
        can_join.then(|| Self {
            endpoint,
            framer: Framer::new(),
            labels: Map::new(),
            pieces: VecDeque::new(),
            bytes: 0,
            closed: false,
        })
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
            (Endpoint::ChatCompletions, [Piece::Text(kind, text)]) if **kind == *"content" => text,
            (Endpoint::Messages, [Piece::Mark(mark), Piece::Text(kind, text)])
                if **mark == *parts::FIRST_BLOCK && **kind == *parts::FIRST_TEXT =>
            {
                text
            }
            _ => return None,
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
        }
    }

    fn event(&mut self, event: &[u8]) {
        let Some(data) = payload(event) else { return };
        let Ok(json) = serde_json::from_slice::<Map<String, Value>>(&data) else {
            self.closed = true;
            return;
        };
        for name in LABELS {
            if let Some(value) = json.get(name) {
                self.labels.entry(name).or_insert_with(|| value.clone());
            }
        }
        for part in parts::of(self.endpoint, &json) {
            match part {
                Part::End | Part::Other => self.closed = true,
                Part::Mark(mark) => self.pieces.push_back(Piece::Mark(mark)),
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

/// What every chunk of a chat says of the whole answer.
const LABELS: [&str; 2] = ["id", "created"];
