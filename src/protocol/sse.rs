//! Server-sent events: finding their borders in a byte stream cut anywhere, and reading one.
//!
//! A framer hands out each event with the bytes it came in, blank line included, so that a relay
//! can pass it on untouched. Lines may end in LF, CRLF or CR. See the WHATWG HTML standard,
//! section 9.2 "Server-sent events".

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// An event longer than this is an attack or an accident, not an answer.
pub const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;

/// An event did not end within [`MAX_EVENT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Cuts a byte stream into events. Feed it with [`push`](Self::push), then take events with
/// [`next`](Self::next) until it has none, and at the end of the stream the
/// [`rest`](Self::rest).
#[derive(Debug, Default)]
pub struct Framer {
    /// Bytes that are not part of a whole event yet.
    pending: BytesMut,
    /// What came last, while nothing was pending: cut without a copy.
    fresh: Bytes,
    /// Up to where they were searched in vain.
    searched: Searched,
}

/// Where a search for the end of an event goes on. A line that is longer than what comes at once
/// would else be searched from its beginning each time.
#[derive(Debug, Clone, Copy, Default)]
struct Searched {
    /// Where the last line begins.
    line: usize,
    /// Where that line was not searched yet.
    from: usize,
}

impl Framer {
    /// A framer at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they came.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), TooLong> {
        if self.pending.is_empty() && self.fresh.is_empty() {
            self.fresh = chunk;
            self.searched = Searched::default();
            return Ok(());
        }
        if !self.fresh.is_empty() {
            self.pending.extend_from_slice(&self.fresh);
            self.fresh = Bytes::new();
        }
        if self.pending.len() + chunk.len() > MAX_EVENT_BYTES {
            return Err(TooLong);
        }
        self.pending.extend_from_slice(&chunk);
        Ok(())
    }

    /// The next whole event, with its closing blank line.
    #[expect(clippy::should_implement_trait, reason = "None means not yet, not the end")]
    pub fn next(&mut self) -> Option<Bytes> {
        if !self.fresh.is_empty() {
            let end = end_of_event(&self.fresh, self.searched);
            return match end {
                Ok(end) => {
                    self.searched = Searched::default();
                    Some(self.fresh.split_to(end))
                }
                Err(searched) => {
                    self.searched = searched;
                    None
                }
            };
        }
        match end_of_event(&self.pending, self.searched) {
            Ok(end) => {
                self.searched = Searched::default();
                Some(self.pending.split_to(end).freeze())
            }
            Err(searched) => {
                self.searched = searched;
                None
            }
        }
    }

    /// How many bytes it keeps that are not part of a whole event yet.
    pub fn kept(&self) -> usize {
        self.pending.len() + self.fresh.len()
    }

    /// What is left when the stream has ended: an event whose blank line is missing, or nothing.
    pub fn rest(&mut self) -> Option<Bytes> {
        self.searched = Searched::default();
        let rest = if self.fresh.is_empty() {
            std::mem::take(&mut self.pending).freeze()
        } else {
            std::mem::take(&mut self.fresh)
        };
        (!rest.iter().all(u8::is_ascii_whitespace)).then_some(rest)
    }
}

/// The [`rest`](Framer::rest) of a stream with the blank line without which a client would lose it.
pub fn closed(rest: &[u8]) -> Bytes {
    [rest, b"\n\n"].concat().into()
}

/// The end of the first event in `bytes`, or up to where there is certainly none.
///
/// The search goes on at `from`, which must be a value returned before for the same bytes.
fn end_of_event(bytes: &[u8], from: Searched) -> Result<usize, Searched> {
    let Searched { mut line, mut from } = from;
    loop {
        let rest = bytes.get(from..).unwrap_or_default();
        let Some(offset) = memchr2(b'\n', b'\r', rest) else {
            return Err(Searched { line, from: bytes.len() });
        };
        let at = from + offset;
        let next = match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'\r'), Some(b'\n')) => at + 2,
            // A CR at the very end may be half of a CRLF.
            (Some(b'\r'), None) => return Err(Searched { line, from: at }),
            _ => at + 1,
        };
        if at == line {
            return Ok(next);
        }
        (line, from) = (next, next);
    }
}

/// The data of an event: its `data:` lines joined by line feeds; `None` where it has none.
pub fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut found: Option<Cow<'_, [u8]>> = None;
    for (name, value) in lines(event) {
        if name != b"data" {
            continue;
        }
        found = Some(match found {
            None => Cow::Borrowed(value),
            Some(before) => {
                let mut joined = before.into_owned();
                joined.push(b'\n');
                joined.extend_from_slice(value);
                Cow::Owned(joined)
            }
        });
    }
    found
}

/// The name in the event's last `event:` line.
pub fn name(event: &[u8]) -> Option<&[u8]> {
    lines(event).filter(|(name, _)| *name == b"event").map(|(_, value)| value).last()
}

/// The event's lines as field name and value; comments have the empty name.
fn lines(event: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    event.split(|&byte| byte == b'\n' || byte == b'\r').filter(|line| !line.is_empty()).map(
        |line| {
            let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
            match memchr::memchr(b':', line) {
                None => (line, &[][..]),
                Some(colon) => {
                    let (name, value) = line.split_at(colon);
                    let value = value.get(1..).unwrap_or_default();
                    (name, value.strip_prefix(b" ").unwrap_or(value))
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut framer = Framer::new();
        let mut events = Vec::new();
        for chunk in chunks {
            framer.push(Bytes::copy_from_slice(chunk)).unwrap();
            while let Some(event) = framer.next() {
                events.push(event.to_vec());
            }
        }
        events.extend(framer.rest().map(|rest| rest.to_vec()));
        events
    }

    #[test]
    fn events_end_at_a_blank_line_however_lines_end() {
        let text = b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r\n: x\n\n";
        let events = frames(&[text]);
        assert_eq!(events.len(), 5);
        assert_eq!(events.concat(), text);
    }

    #[test]
    fn an_event_without_its_blank_line_is_the_rest() {
        assert_eq!(frames(&[b"data: a\n\ndata: b\n"]), [&b"data: a\n\n"[..], b"data: b\n"]);
        assert_eq!(frames(&[b"data: a\n\n\n"]), [&b"data: a\n\n"[..], b"\n"]);
    }

    #[test]
    fn data_and_name_are_read_as_the_standard_says() {
        let event = b"event: ping\ndata:one\ndata:  two\nid: 3\n: comment\n\n";
        assert_eq!(data(event).unwrap().as_ref(), b"one\n two");
        assert_eq!(name(event), Some(&b"ping"[..]));
        assert_eq!(data(b": only a comment\n\n"), None);
        assert_eq!(data(b"data\n\n").unwrap().as_ref(), b"");
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(
            lines in prop::collection::vec(("[a-c:]{0,4}", 0usize..3), 0..12),
            cuts in prop::collection::vec(0usize..64, 0..8),
        ) {
            let ends = ["\n", "\r\n", "\r"];
            let parts = lines.iter().flat_map(|(line, end)| [line.as_str(), ends[*end]]);
            let text: String = parts.collect();
            let text = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(frames(&chunks), frames(&[text]));
        }
    }
}
