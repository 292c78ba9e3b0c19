//! Changing a document in its text, so that what is not changed keeps its bytes.
//!
//! Each operation is done at the positions of the text as it is then. Whole lines come and go;
//! a comment stays with what it stands above or behind. `None` where the text has no place for an
//! operation, as behind an alias.

use json_patch::PatchOperation;
use json_patch::jsonptr::Pointer;
use serde_json::Value;

use super::emit::{self, Lists};
use super::node::{self, Kind, Node, Style};

/// Applies the operations, each to what those before it left.
pub(super) fn apply(text: &str, operations: &[PatchOperation]) -> Option<String> {
    let mut text = text.to_owned();
    for operation in operations {
        let document = node::read(&text).ok()??;
        text = match operation {
            PatchOperation::Add(it) => Doing::new(&text, &document).add(&it.path, &it.value),
            PatchOperation::Remove(it) => Doing::new(&text, &document).remove(&it.path),
            PatchOperation::Replace(it) => replace(&text, &document, &it.path, &it.value),
            PatchOperation::Copy(_) | PatchOperation::Move(_) | PatchOperation::Test(_) => None,
        }?;
    }
    Some(text)
}

fn replace(text: &str, document: &Node, path: &Pointer, value: &Value) -> Option<String> {
    let doing = Doing::new(text, document);
    let old = doing.find(path)?;
    if let (Value::Object(before), Value::Object(after)) = (old.value(), value) {
        let is_same_shape = before.len() == after.len() && before.keys().eq(after.keys());
        if is_same_shape && matches!(old.kind, Kind::Mapping { .. }) {
            let mut text = text.to_owned();
            for (name, value) in
                after.iter().filter(|(name, value)| before.get(*name) != Some(value))
            {
                let document = node::read(&text).ok()??;
                text = replace(&text, &document, &path.with_trailing_token(&**name), value)?;
            }
            return Some(text);
        }
    }
    let is_small = !value.is_object() && !value.is_array();
    if matches!(old.kind, Kind::Scalar) && is_small && old.start < old.end {
        return doing.splice(old.start, doing.last_byte(old), &emit::scalar(value));
    }
    let removed = doing.remove(path)?;
    let document = node::read(&removed).ok()??;
    Doing::new(&removed, &document).add(path, value)
}

/// One operation on one text.
struct Doing<'a> {
    text: &'a str,
    document: &'a Node,
    lists: Lists,
}

impl<'a> Doing<'a> {
    fn new(text: &'a str, document: &'a Node) -> Self {
        let lists = if has_level_lists(document) { Lists::Level } else { Lists::Indented };
        Self { text, document, lists }
    }

    fn find(&self, path: &Pointer) -> Option<&'a Node> {
        path.tokens().try_fold(self.document, |node, token| node.child(&token.decoded()))
    }

    fn add(&self, path: &Pointer, value: &Value) -> Option<String> {
        let (parent, last) = path.split_back()?;
        let parent = self.find(parent)?;
        let name = last.decoded();
        match &parent.kind {
            Kind::Mapping { entries, .. } if entries.iter().any(|(key, _)| key.is(&name)) => {
                self.fill(entries, &name, value)
            }
            Kind::Mapping { entries, style: Style::Flow } => {
                let key = Value::from(&*name);
                let member = format!("{}: {}", emit::inline(&key), emit::inline(value));
                self.add_to_flow(
                    parent,
                    entries.last().map(|(key, value)| key.end.max(value.end)),
                    &member,
                )
            }
            Kind::Mapping { entries, style: Style::Block } => {
                let (key, held) = entries.last()?;
                let lines = emit::member(&name, value, parent.column, self.lists);
                self.insert_lines(self.line_after(key.end.max(self.last_byte(held))), &lines)
            }
            Kind::Sequence { items, style } => {
                let at = if name == "-" { items.len() } else { name.parse().ok()? };
                self.add_item(parent, items, *style, at, value)
            }
            Kind::Alias | Kind::Scalar => None,
        }
    }

    fn add_item(
        &self,
        parent: &Node,
        items: &[Node],
        style: Style,
        at: usize,
        value: &Value,
    ) -> Option<String> {
        if style == Style::Flow {
            let next = items.get(at);
            return match next {
                Some(next) => {
                    self.splice(next.start, next.start, &format!("{}, ", emit::inline(value)))
                }
                None => {
                    self.add_to_flow(parent, items.last().map(|it| it.end), &emit::inline(value))
                }
            };
        }
        let lines = emit::item(value, parent.column, self.lists);
        let from = match at.checked_sub(1) {
            Some(before) => self.line_after(self.last_byte(items.get(before)?)),
            // Before what is said above the first item.
            None => self.line_after(self.before(items.first()?)),
        };
        self.insert_lines(from, &lines)
    }

    /// Puts a value behind a key that has none.
    fn fill(&self, entries: &[(Node, Node)], name: &str, value: &Value) -> Option<String> {
        let (key, old) = entries.iter().find(|(key, _)| key.is(name))?;
        if old.value() != Value::Null || !matches!(old.kind, Kind::Scalar) {
            return None;
        }
        let colon = key.end + self.text.get(key.end..)?.find(':')? + 1;
        let end = if old.start < old.end { self.last_byte(old) } else { colon };
        self.splice(colon, end.max(colon), &format!(" {}", emit::inline(value)))
    }

    fn add_to_flow(&self, parent: &Node, last: Option<usize>, member: &str) -> Option<String> {
        match last {
            Some(end) => self.splice(end, end, &format!(", {member}")),
            None => self.splice(parent.start + 1, parent.start + 1, member),
        }
    }

    fn remove(&self, path: &Pointer) -> Option<String> {
        let (parent, last) = path.split_back()?;
        let parent = self.find(parent)?;
        let name = last.decoded();
        match &parent.kind {
            Kind::Mapping { entries, style } => {
                let at = entries.iter().position(|(key, _)| key.is(&name))?;
                let (key, value) = entries.get(at)?;
                let next = entries.get(at + 1).map(|(key, _)| key.start);
                let end = key.end.max(self.last_byte(value));
                let before = at.checked_sub(1).and_then(|at| entries.get(at));
                match style {
                    Style::Flow => {
                        let before = before.map(|(key, value)| key.end.max(value.end));
                        self.take_from_flow(key.start, end, before, next)
                    }
                    Style::Block if self.is_first(key.start) => {
                        let end = end.max(self.colon(key)?);
                        self.splice(self.line_of(key.start), self.line_after(end), "")
                    }
                    // It shares its line with a dash, which is for the next one then.
                    Style::Block => self.splice(key.start, next?, ""),
                }
            }
            Kind::Sequence { items, style } => {
                let at: usize = name.parse().ok()?;
                let item = items.get(at)?;
                match style {
                    Style::Flow => {
                        let before =
                            at.checked_sub(1).and_then(|at| items.get(at)).map(|it| it.end);
                        let next = items.get(at + 1).map(|it| it.start);
                        self.take_from_flow(item.start, item.end, before, next)
                    }
                    Style::Block => {
                        let dash = self.dash(item, parent.column)?;
                        self.splice(self.line_of(dash), self.line_after(self.last_byte(item)), "")
                    }
                }
            }
            Kind::Alias | Kind::Scalar => None,
        }
    }

    fn take_from_flow(
        &self,
        start: usize,
        end: usize,
        before: Option<usize>,
        next: Option<usize>,
    ) -> Option<String> {
        match (before, next) {
            (_, Some(next)) => self.splice(start, next, ""),
            (Some(before), None) => self.splice(before, end, ""),
            (None, None) => self.splice(start, end, ""),
        }
    }

    fn colon(&self, key: &Node) -> Option<usize> {
        Some(key.end + self.text.get(key.end..)?.find(':')? + 1)
    }

    /// The dash of an item of a list that stands at a column.
    fn dash(&self, item: &Node, column: usize) -> Option<usize> {
        let mut line = self.line_of(item.start);
        loop {
            let dash = line + column;
            let before = self.text.get(line..dash)?;
            let is_dash = before.bytes().all(|byte| byte == b' ')
                && self.text.as_bytes().get(dash) == Some(&b'-');
            if is_dash {
                return Some(dash);
            }
            line = self.line_of(line.checked_sub(1)?);
        }
    }

    /// The last byte with meaning before the first item of a list: that of its key.
    fn before(&self, first: &Node) -> usize {
        let mut line = self.line_of(first.start);
        // Comments and blank lines above the first item belong to it.
        while let Some(above) = line.checked_sub(1).map(|end| self.line_of(end)) {
            let said = self.text.get(above..line).unwrap_or_default().trim();
            line = above;
            if !said.is_empty() && !said.starts_with('#') {
                break;
            }
        }
        let said = self.text.get(line..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        line + said.len()
    }

    /// Behind the last byte of a node that is no white space: the ends of scalars in blocks are
    /// told as the beginning of what follows.
    fn last_byte(&self, node: &Node) -> usize {
        let own = self.text.get(node.start..node.end).unwrap_or_default();
        node.start + own.trim_end().len()
    }

    fn line_of(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        before.rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Where the line after this position begins.
    fn line_after(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.find('\n').map_or(self.text.len(), |newline| at + newline + 1)
    }

    fn is_first(&self, at: usize) -> bool {
        self.text.get(self.line_of(at)..at).is_some_and(|before| before.trim().is_empty())
    }

    fn insert_lines(&self, at: usize, lines: &str) -> Option<String> {
        let before = self.text.get(..at)?;
        let ending = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut lines = lines.replace('\n', ending);
        if !before.is_empty() && !before.ends_with('\n') {
            lines.insert_str(0, ending);
        }
        self.splice(at, at, &lines)
    }

    fn splice(&self, start: usize, end: usize, with: &str) -> Option<String> {
        let (before, after) = (self.text.get(..start)?, self.text.get(end..)?);
        Some([before, with, after].concat())
    }
}

/// Whether lists stand below their key and not to the right of it.
fn has_level_lists(node: &Node) -> bool {
    match &node.kind {
        Kind::Mapping { entries, .. } => entries.iter().any(|(_, value)| {
            let is_level = matches!(&value.kind, Kind::Sequence { style: Style::Block, .. })
                && value.column == node.column;
            is_level || has_level_lists(value)
        }),
        Kind::Sequence { items, .. } => items.iter().any(has_level_lists),
        Kind::Alias | Kind::Scalar => false,
    }
}
