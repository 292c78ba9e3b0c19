//! A document as values with their positions in the text.
//!
//! Values are resolved as Kubernetes resolves them (YAML 1.1: `yes` and `on` are true).

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};
use serde_json::{Number, Value};

use super::NotYaml;
use crate::lexicon::mapping::{Mapping, key_text};

/// A value and where it stands; positions are in bytes.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) start: usize,
    /// Behind its last byte; of a block collection, that of its last part.
    pub(super) end: usize,
    /// Where its lines begin, counted from 0: of a list in lines of its own that of its dashes, of
    /// such a mapping that of its keys.
    pub(super) column: usize,
    value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// It stands elsewhere.
    Alias,
    Mapping {
        entries: Vec<(Node, Node)>,
        style: Style,
    },
    Scalar,
    Sequence {
        items: Vec<Node>,
        style: Style,
    },
}

/// How a collection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// On lines of its own.
    Block,
    /// Between brackets.
    Flow,
}

impl Node {
    pub(super) fn value(&self) -> Value {
        self.value.clone()
    }

    /// The member or item below a token of a pointer.
    pub(super) fn child(&self, token: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Mapping { entries, .. } => {
                entries.iter().find(|(key, _)| key.is(token)).map(|(_, value)| value)
            }
            Kind::Sequence { items, .. } => items.get(token.parse::<usize>().ok()?),
            Kind::Alias | Kind::Scalar => None,
        }
    }

    /// Whether it is the key of this name.
    pub(super) fn is(&self, name: &str) -> bool {
        key_text(&self.value) == name
    }
}

/// Reads the first document of a text; `None` where there is none.
pub(super) fn read(text: &str) -> Result<Option<Node>, NotYaml> {
    let reader = Parser::new_from_str(text);
    let mut reading = Reading {
        reader,
        offsets: (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect()),
        text,
        anchors: HashMap::new(),
        size: 0,
    };
    loop {
        match reading.next()? {
            Some((Event::StreamEnd, _)) | None => return Ok(None),
            Some((
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd,
                _,
            )) => {}
            Some((event, span)) => return reading.node(&event, span, 0).map(Some),
        }
    }
}

/// More values than any manifest has; aliases of aliases grow without an end.
const MOST: usize = 1_000_000;
/// Deeper than any manifest is.
const DEEPEST: usize = 128;

struct Reading<'a> {
    reader: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// Where each character begins, where characters are not bytes.
    offsets: Option<Vec<usize>>,
    text: &'a str,
    anchors: HashMap<usize, (Value, usize)>,
    size: usize,
}

impl<'a> Reading<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, NotYaml> {
        match self.reader.next_event() {
            None => Ok(None),
            Some(Ok(next)) => Ok(Some(next)),
            Some(Err(error)) => Err(not_yaml(*error.marker(), error.info())),
        }
    }

    fn offset(&self, marker: Marker) -> usize {
        let at = marker.index();
        let known = self.offsets.as_ref().map_or(Some(at), |offsets| offsets.get(at).copied());
        known.unwrap_or(self.text.len()).min(self.text.len())
    }

    fn node(&mut self, event: &Event<'a>, span: Span, depth: usize) -> Result<Node, NotYaml> {
        self.size += 1;
        if depth > DEEPEST || self.size > MOST {
            return Err(not_yaml(span.start, "it is too deep or too large"));
        }
        let before = self.size;
        let start = self.offset(span.start);
        let mut column = span.start.col();
        let (kind, value, end, anchor) = match event {
            Event::Alias(anchor) => {
                let (value, size) = self.anchors.get(anchor).cloned().unwrap_or((Value::Null, 1));
                self.size += size;
                (Kind::Alias, value, self.offset(span.end), 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = *style != ScalarStyle::Plain
                    || tag.as_ref().is_some_and(|tag| tag.suffix == "str");
                let value = if is_text { Value::String(text.to_string()) } else { resolve(text) };
                (Kind::Scalar, value, self.scalar_end(*style, span), *anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let (kind, value, end) = self.sequence(span, depth)?;
                if let Kind::Sequence { items, style: Style::Block } = &kind {
                    column = self.dashes(start, items).unwrap_or(column);
                }
                (kind, value, end, *anchor)
            }
            Event::MappingStart(anchor, _) => {
                let (kind, value, end) = self.mapping(span, depth)?;
                if let Kind::Mapping { entries, style: Style::Block } = &kind {
                    column = entries.first().map_or(column, |(key, _)| key.column);
                }
                (kind, value, end, *anchor)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(not_yaml(span.start, "it ends too early")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), self.size - before + 1));
        }
        Ok(Node { kind, start, end: end.max(start), column, value })
    }

    /// The next node, or `None` at the end of the collection around it, with that end.
    fn part(&mut self, depth: usize) -> Result<Result<Node, usize>, NotYaml> {
        match self.next()? {
            Some((Event::SequenceEnd | Event::MappingEnd, span)) => Ok(Err(self.offset(span.end))),
            Some((event, span)) => self.node(&event, span, depth + 1).map(Ok),
            None => Err(NotYaml { line: 0, column: 0, what: "it ends too early".to_owned() }),
        }
    }

    /// A bracket is the last byte of what begins a collection, behind its anchor; a collection on
    /// lines of its own is told as empty, at its first part.
    fn style(&self, span: Span) -> Style {
        let (start, end) = (self.offset(span.start), self.offset(span.end));
        let head = self.text.get(start..end).unwrap_or_default();
        if head.ends_with(['{', '[']) { Style::Flow } else { Style::Block }
    }

    /// The column of the dashes: a list that is level with its key is told at its first item.
    fn dashes(&self, start: usize, items: &[Node]) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let is_dash = |at: usize| {
            let next = bytes.get(at + 1);
            bytes.get(at) == Some(&b'-') && next.is_none_or(u8::is_ascii_whitespace)
        };
        let first = start.min(items.first()?.start);
        let at = if is_dash(first) {
            first
        } else {
            let before = self.text.get(..first)?.trim_end();
            before.len().checked_sub(1).filter(|at| is_dash(*at))?
        };
        let line = self.text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
        Some(self.text.get(line..at)?.chars().count())
    }

    /// The end of a quoted text is told behind the comment that follows it.
    fn scalar_end(&self, style: ScalarStyle, span: Span) -> usize {
        let (start, end) = (self.offset(span.start), self.offset(span.end));
        let quote = match style {
            ScalarStyle::DoubleQuoted => '"',
            ScalarStyle::SingleQuoted => '\'',
            ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => return end,
        };
        let text = self.text.get(start..end).unwrap_or_default();
        let mut inside = text.char_indices().skip_while(|(_, c)| *c != quote).skip(1).peekable();
        while let Some((at, c)) = inside.next() {
            if c == '\\' && quote == '"' {
                inside.next();
            } else if c == quote {
                // Doubled it stands for itself.
                let is_doubled = quote == '\'' && inside.next_if(|(_, c)| *c == quote).is_some();
                if !is_doubled {
                    return start + at + 1;
                }
            }
        }
        end
    }

    fn sequence(&mut self, span: Span, depth: usize) -> Result<(Kind, Value, usize), NotYaml> {
        let style = self.style(span);
        let mut items = Vec::new();
        let end = loop {
            match self.part(depth)? {
                Ok(item) => items.push(item),
                Err(end) => break end,
            }
        };
        let end = match (style, items.last()) {
            (Style::Flow, _) | (_, None) => end,
            (Style::Block, Some(last)) => last.end,
        };
        let value = items.iter().map(Node::value).collect();
        Ok((Kind::Sequence { items, style }, Value::Array(value), end))
    }

    fn mapping(&mut self, span: Span, depth: usize) -> Result<(Kind, Value, usize), NotYaml> {
        let style = self.style(span);
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let end = loop {
            let key = match self.part(depth)? {
                Ok(key) => key,
                Err(end) => break end,
            };
            let Ok(value) = self.part(depth)? else {
                return Err(not_yaml(span.start, "a key has no value"));
            };
            entries.push((key, value));
        };
        let end = match (style, entries.last()) {
            (Style::Flow, _) | (_, None) => end,
            (Style::Block, Some((key, value))) => key.end.max(value.end),
        };
        let mut value = Mapping::default();
        for (key, held) in &entries {
            value.add(&key.value, held.value());
        }
        Ok((Kind::Mapping { entries, style }, value.finish(), end))
    }
}

fn not_yaml(at: Marker, what: &str) -> NotYaml {
    NotYaml { line: at.line(), column: at.col() + 1, what: what.to_owned() }
}

/// What a plain scalar means.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::String(text.to_owned());
    }
    number(text, digits).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str, digits: &str) -> Option<Number> {
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)];
    for (prefix, radix) in radix {
        if let Some(rest) = digits.strip_prefix(prefix) {
            let value = i64::from_str_radix(rest, radix).ok()?;
            return Some(if text.starts_with('-') { (-value).into() } else { value.into() });
        }
    }
    if digits.len() > 1 && digits.starts_with('0') && digits.chars().all(|c| c.is_digit(8)) {
        return i64::from_str_radix(digits, 8).ok().map(Into::into);
    }
    if let Ok(value) = text.trim_start_matches('+').parse::<i64>() {
        return Some(value.into());
    }
    let is_float = digits.chars().all(|c| c.is_ascii_digit() || ".eE+-".contains(c));
    text.parse::<f64>().ok().filter(|_| is_float).and_then(Number::from_f64)
}
