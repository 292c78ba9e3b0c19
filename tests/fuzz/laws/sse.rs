//! Events are the same wherever their bytes are cut, and the same that the standard says.

use bytes::BytesMut;
use pillion::protocol::watch::payload;
use pillion::protocol::{name, sse as events_of};
use serde_json::Value;

use super::{cuts, events};

/// The framer, the reading of events, and the change of a model's name in them.
pub fn sse(bytes: &[u8]) {
    let whole = events(&[bytes]);
    for cut in cuts(bytes) {
        assert_eq!(events(&cut), whole, "where the bytes are cut matters");
    }
    let kept: Vec<u8> = whole.concat();
    let lost = bytes.strip_prefix(&*kept).expect("events are the bytes, in their order");
    assert!(lost.iter().all(u8::is_ascii_whitespace), "lost {lost:?}");
    let read: Vec<Vec<u8>> =
        whole.iter().filter_map(|event| Some(events_of::data(event)?.into_owned())).collect();
    assert_eq!(read, by_the_standard(bytes));
    for event in &whole {
        assert_eq!(payload(event), events_of::data(event));
        renamed(event);
    }
}

/// The data of all events, line by line as the standard tells it; the last event counts without its
/// blank line too, and a mark of the byte order may stand at any line.
fn by_the_standard(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let width = if rest[at..].starts_with(b"\r\n") { 2 } else { 1 };
        lines.push(&rest[..at]);
        rest = &rest[at + width..];
    }
    lines.extend([rest, b""]);
    let (mut found, mut data) = (Vec::new(), None::<Vec<u8>>);
    for line in lines {
        if line.is_empty() {
            found.extend(data.take());
            continue;
        }
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            None => (line, &b""[..]),
            Some(at) => (&line[..at], &line[at + 1..]),
        };
        if field == b"data" {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut data {
                None => data = Some(value.to_vec()),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            }
        }
    }
    found
}

/// An event with another model's name says all else that it said.
fn renamed(event: &[u8]) {
    let mut out = BytesMut::new();
    name::rewrite(event, b"\"mine\"", &mut out);
    let parsed = |event: &[u8]| serde_json::from_slice::<Value>(&events_of::data(event)?).ok();
    let Some(before) = parsed(event) else { return };
    let after = parsed(&out).expect("what was JSON is JSON");
    assert_eq!(nameless(before), nameless(after));
}

/// Without the fields that may be renamed, which are not deeper than one object.
fn nameless(mut event: Value) -> Value {
    let Some(fields) = event.as_object_mut() else { return event };
    fields.remove("model");
    for field in fields.values_mut().filter_map(Value::as_object_mut) {
        field.remove("model");
    }
    event
}
