//! The model's name in an event, replaced by the one the client knows.

use std::sync::LazyLock;

use bytes::BytesMut;
use memchr::memmem::{self, Finder};

/// Appends `event` to `out` with the value of its `model` replaced by `name`, a JSON string.
///
/// The name of a chunk stands at the top of its object; in Anthropic's `message_start` and in
/// the events of responses it stands in the one object they carry. Deeper ones are content and
/// stay as they are, as does an event without any.
pub fn rewrite(event: &[u8], name: &[u8], out: &mut BytesMut) {
    out.reserve(event.len() + name.len());
    match find(event) {
        None => out.extend_from_slice(event),
        Some((from, to)) => {
            out.extend_from_slice(event.get(..from).unwrap_or_default());
            out.extend_from_slice(name);
            out.extend_from_slice(event.get(to..).unwrap_or_default());
        }
    }
}

const KEY: &[u8] = b"\"model\"";

/// Every event is searched for it: to make a search is as much as to search a short event.
static FIND_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));

/// The span of the first `model` value that is a string and not deeper than one object.
///
/// The key cannot stand inside a string: a quote in a string is escaped, so that the seven bytes
/// would not follow each other there.
fn find(event: &[u8]) -> Option<(usize, usize)> {
    let data = start_of_data(event)?;
    let start = data + memchr::memchr(b'{', event.get(data..)?)?;
    for at in FIND_KEY.find_iter(event.get(start..)?).map(|at| start + at) {
        let Some(from) = value_behind(event, at + KEY.len()) else { continue };
        if is_deep(event.get(start..at)?) {
            continue;
        }
        let length = string_length(event.get(from..)?)?;
        return Some((from, from + length));
    }
    None
}

/// Where the first `data:` begins; what stands before it is a name or a comment.
fn start_of_data(event: &[u8]) -> Option<usize> {
    // Most events are nothing else.
    if event.starts_with(DATA) {
        return Some(0);
    }
    let is_line = |at: &usize| at.checked_sub(1).is_none_or(|before| is_break(event.get(before)));
    memmem::find_iter(event, DATA).find(is_line)
}

const DATA: &[u8] = b"data:";

fn is_break(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b'\n' | b'\r'))
}

/// Where the string begins that follows a colon.
fn value_behind(event: &[u8], at: usize) -> Option<usize> {
    let is_space = |byte: &&u8| matches!(**byte, b' ' | b'\t');
    let colon = at + event.get(at..)?.iter().take_while(is_space).count();
    if event.get(colon) != Some(&b':') {
        return None;
    }
    let from = colon + 1 + event.get(colon + 1..)?.iter().take_while(is_space).count();
    (event.get(from) == Some(&b'"')).then_some(from)
}

/// The length of a JSON string with its quotes; `None` where its line ends before it does.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr3(b'"', b'\\', b'\n', text.get(at..)?)?;
        match text.get(at)? {
            b'"' => break,
            b'\n' => return None,
            _ => at += 2,
        }
    }
    let length = at + 1;
    memchr::memchr(b'\r', text.get(..length)?).is_none().then_some(length)
}

/// Whether more than two objects, or any list, are open at the end of `text`.
fn is_deep(text: &[u8]) -> bool {
    let (mut objects, mut lists, mut at) = (0i32, 0i32, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'{' => objects += 1,
            b'}' => objects -= 1,
            b'[' => lists += 1,
            b']' => lists -= 1,
            b'"' => match text.get(at..).and_then(string_length) {
                Some(length) => at += length - 1,
                None => return true,
            },
            _ => {}
        }
        at += 1;
    }
    objects > 2 || lists > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(event: &str, want: &str) {
        let mut out = BytesMut::new();
        rewrite(event.as_bytes(), b"\"mine\"", &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), want);
    }

    #[test]
    fn the_name_at_the_top_is_replaced() {
        check(
            "data: {\"id\":\"x\",\"model\":\"gpt\",\"choices\":[]}\n\n",
            "data: {\"id\":\"x\",\"model\":\"mine\",\"choices\":[]}\n\n",
        );
        check(
            "data: {\"choices\":[{\"delta\":{\"content\":\"{[\"}}], \"model\" : \"g\\\"p\"}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"{[\"}}], \"model\" : \"mine\"}\n\n",
        );
    }

    #[test]
    fn the_name_in_the_one_object_of_an_event_is_replaced() {
        check(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude\"}}\n\n",
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"mine\"}}\n\n",
        );
    }

    #[test]
    fn a_deep_name_before_it_does_not_hide_the_one_at_the_top() {
        check(
            "data: {\"choices\":[{\"model\":\"a\"}],\"model\":\"gpt\"}\n\n",
            "data: {\"choices\":[{\"model\":\"a\"}],\"model\":\"mine\"}\n\n",
        );
    }

    #[test]
    fn content_is_left_alone() {
        for event in [
            "data: [DONE]\n\n",
            ": comment \"model\":\"a\"\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"model\\\":\\\"a\\\"\"}}]}\n\n",
            "data: {\"choices\":[{\"model\":\"a\"}]}\n\n",
            "data: {\"a\":{\"b\":{\"model\":\"a\"}}}\n\n",
            "data: {\"model\":null}\n\n",
            "data: {\"model\":\"unfinished",
            "data: {\"model\":\"unfinished\ndata: \"}\n\n",
            ": {\"model\":\"a\"}\ndata: {}\n\n",
            "data: {\"a\":{\"text\":\"say data: {\"}}\n\n",
        ] {
            check(event, event);
        }
    }
}
