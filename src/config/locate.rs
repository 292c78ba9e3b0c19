//! Where in a text each field stands: paths such as `model_list[2].litellm_params` to line and
//! column.
//!
//! Built from the events of a second reader, because the one that reads values forgets places. A
//! text that is no YAML gives the places up to the fault. Never fails.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, Span};

/// The places of one text.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: HashMap<String, (usize, usize)>,
    /// Keys that a mapping names twice, with the place of the later one.
    pub(super) repeated: Vec<(String, (usize, usize))>,
}

impl Index {
    /// Reads the places of `text`.
    pub(super) fn of(text: &str) -> Self {
        let mut walk = Walk::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for step in Parser::new_from_str(text) {
            let Ok((event, span)) = step else { break };
            walk.take(&event, span);
            if walk.frames.len() > DEEPEST {
                break;
            }
        }
        walk.index
    }

    /// The place of the field, else of the nearest field around it.
    pub(super) fn find(&self, path: &str) -> Option<(usize, usize)> {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(*place);
            }
            let cut = path.rfind(['.', '['])?;
            path = path.get(..cut)?;
        }
    }
}

// As deep as the reader of values goes; below that a text is refused, and paths would only grow.
const DEEPEST: usize = 128;

/// The path of a key below `path`.
pub(super) fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The path of an item below `path`.
pub(super) fn item(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}

/// What encloses the next event.
enum Frame {
    /// A key itself may be a collection; what is in it has no path.
    ComplexKey {
        depth: usize,
    },
    Mapping {
        path: String,
        key: Option<String>,
    },
    Sequence {
        path: String,
        next: usize,
    },
}

#[derive(Default)]
struct Walk {
    index: Index,
    frames: Vec<Frame>,
}

impl Walk {
    fn take(&mut self, event: &Event<'_>, span: Span) {
        let place = (span.start.line(), span.start.col() + 1);
        match event {
            Event::Scalar(text, ..) => self.leaf(Some(text), place),
            Event::Alias(_) => self.leaf(None, place),
            Event::SequenceStart(..) => self.open(place, |path| Frame::Sequence { path, next: 0 }),
            Event::MappingStart(..) => self.open(place, |path| Frame::Mapping { path, key: None }),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
    }

    /// A scalar or an alias: either a key, or a whole value.
    fn leaf(&mut self, text: Option<&str>, place: (usize, usize)) {
        match self.frames.last_mut() {
            Some(Frame::Mapping { path, key: key @ None }) => {
                let name = text.unwrap_or("*").to_owned();
                let whole = child(path, &name);
                let before = self.index.places.insert(whole.clone(), place);
                if before.is_some() && name != "<<" {
                    self.index.repeated.push((whole, place));
                }
                *key = Some(name);
            }
            Some(Frame::ComplexKey { .. }) | None => {}
            Some(Frame::Mapping { .. } | Frame::Sequence { .. }) => {
                self.value(place);
            }
        }
    }

    /// The path of the value that begins here; the frame around it moves on.
    fn value(&mut self, place: (usize, usize)) -> String {
        match self.frames.last_mut() {
            Some(Frame::Mapping { path, key }) => child(path, &key.take().unwrap_or_default()),
            Some(Frame::Sequence { path, next }) => {
                let whole = item(path, *next);
                *next += 1;
                self.index.places.insert(whole.clone(), place);
                whole
            }
            Some(Frame::ComplexKey { .. }) | None => String::new(),
        }
    }

    fn open(&mut self, place: (usize, usize), frame: impl FnOnce(String) -> Frame) {
        match self.frames.last_mut() {
            Some(Frame::ComplexKey { depth }) => *depth += 1,
            Some(Frame::Mapping { key: None, .. }) => {
                self.frames.push(Frame::ComplexKey { depth: 1 });
            }
            Some(Frame::Mapping { .. } | Frame::Sequence { .. }) | None => {
                let path = self.value(place);
                self.frames.push(frame(path));
            }
        }
    }

    fn close(&mut self) {
        match self.frames.last_mut() {
            Some(Frame::ComplexKey { depth }) if *depth > 1 => *depth -= 1,
            Some(Frame::ComplexKey { .. }) => {
                self.frames.pop();
                if let Some(Frame::Mapping { key, .. }) = self.frames.last_mut() {
                    *key = Some("?".to_owned());
                }
            }
            Some(Frame::Mapping { .. } | Frame::Sequence { .. }) | None => {
                self.frames.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "model_list:\n  - model_name: a\n    litellm_params: {model: x, rpm: 5}\n  - &b\n    model_name: c\n? [k, {z: 1}]\n: v\nlast: *b\n";

    #[track_caller]
    fn check(text: &str, path: &str, want: Option<(usize, usize)>) {
        assert_eq!(Index::of(text).find(path), want, "{path}");
    }

    #[test]
    fn every_field_has_the_place_of_its_key() {
        check(TEXT, "model_list", Some((1, 1)));
        check(TEXT, "model_list[0]", Some((2, 5)));
        check(TEXT, "model_list[0].model_name", Some((2, 5)));
        check(TEXT, "model_list[0].litellm_params.rpm", Some((3, 32)));
        check(TEXT, "model_list[1].model_name", Some((5, 5)));
        check(TEXT, "last", Some((8, 1)));
    }

    #[test]
    fn a_field_that_is_not_there_has_the_place_of_what_is_around_it() {
        check(TEXT, "model_list[0].litellm_params.tpm", Some((3, 5)));
        check(TEXT, "last.model_name", Some((8, 1)));
        check(TEXT, "nowhere", None);
    }

    #[test]
    fn a_text_that_ends_in_a_fault_keeps_the_places_before_it() {
        check("a: 1\nb: [\nc: }", "a", Some((1, 1)));
    }

    #[test]
    fn a_repeated_key_is_told() {
        let index = Index::of("a: {x: 1}\nb: 2\na: 3\n");
        assert_eq!(index.repeated, [("a".to_owned(), (3, 1))]);
    }
}
