//! Manifests as people write them: the pods in them get their sidecar, and the rest stays as it
//! was, comments and order too.
//!
//! A document is changed in its text, at the positions that the reader of events tells. What comes
//! out is read again and must mean what the plan says; where it does not (anchors that are shared,
//! a block scalar that ends in blank lines), the document is written anew, which is told. A
//! document without a pod passes byte for byte.

mod edit;
mod emit;
mod node;

use std::fmt;

use json_patch::PatchOperation;
use json_patch::jsonptr::PointerBuf;
use serde_json::{Map, Value};

use crate::inject::{Ask, Decision, OptIn, Settings, Version, Workload, field, plan, undo};

/// What is done to the pods.
#[derive(Debug, Clone, Copy)]
pub enum Task<'a> {
    /// They get a sidecar.
    Inject {
        /// What there is to add.
        settings: &'a Settings,
        /// The version of the cluster they are for.
        server: Option<Version>,
    },
    /// It is taken out again.
    Uninject,
}

/// Text and what there is to say about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edited {
    /// All documents.
    pub text: String,
    /// One line per thing that was done or left.
    pub notes: Vec<Note>,
}

/// What was done to one object, or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Kind and name.
    pub object: String,
    /// A sentence.
    pub what: String,
    /// Whether it stands in the way of using the text.
    pub is_error: bool,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.what)
    }
}

/// The text is no YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotYaml {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for NotYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: not YAML: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for NotYaml {}

/// Does the task to all pods of a text with any number of documents.
pub fn change(text: &str, task: Task<'_>) -> Result<Edited, NotYaml> {
    let mut edited = Edited::default();
    let mut line = 0;
    for document in documents(text) {
        let below = |error: NotYaml| NotYaml { line: error.line + line, ..error };
        let changed = one(document, task, &mut edited.notes).map_err(below)?;
        edited.text.push_str(changed.as_deref().unwrap_or(document));
        line += document.lines().count();
    }
    Ok(edited)
}

/// The documents, each with the marker before it.
fn documents(text: &str) -> Vec<&str> {
    let mut cuts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let is_marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if is_marker && at > 0 {
            cuts.push(at);
        }
        at += line.len();
    }
    cuts.push(text.len());
    let pairs = cuts.windows(2).filter_map(|pair| text.get(*pair.first()?..*pair.last()?));
    pairs.filter(|document| !document.is_empty()).collect()
}

/// One document; `None` where nothing changes.
fn one(text: &str, task: Task<'_>, notes: &mut Vec<Note>) -> Result<Option<String>, NotYaml> {
    let blank = |line: &str| line.is_empty() || line.starts_with(['#', '%']) || line == "---";
    if text.lines().all(|line| blank(line.trim())) {
        return Ok(None);
    }
    let Some(document) = node::read(text)? else { return Ok(None) };
    let value = document.value();
    let mut operations = Vec::new();
    let mut path = Vec::new();
    walk(&value, &mut path, task, &mut operations, notes);
    if operations.is_empty() {
        return Ok(None);
    }
    let mut wanted = value.clone();
    let name = object(&value);
    if json_patch::patch(&mut wanted, &operations).is_err() {
        debug_assert!(false, "a plan fits its pod");
        return Ok(None);
    }
    let in_place = edit::apply(text, &operations);
    if let Some(changed) = in_place.filter(|changed| means(changed, &wanted)) {
        return Ok(Some(changed));
    }
    let what = "it is written anew, without its comments, because it cannot be changed in place";
    notes.push(Note { object: name, what: what.to_owned(), is_error: false });
    let marker = if text.starts_with("---") { "---\n" } else { "" };
    Ok(Some(format!("{marker}{}", emit::document(&wanted))))
}

fn means(text: &str, wanted: &Value) -> bool {
    matches!(node::read(text), Ok(Some(document)) if document.value() == *wanted)
}

/// Collects what is to be done to the pods of one object.
fn walk(
    object: &Value,
    path: &mut Vec<String>,
    task: Task<'_>,
    operations: &mut Vec<PatchOperation>,
    notes: &mut Vec<Note>,
) {
    let kind = field(object, "/kind").as_str().unwrap_or_default();
    if let (true, Some(items)) = (kind.ends_with("List"), field(object, "/items").as_array()) {
        for (at, item) in items.iter().enumerate() {
            path.extend(["items".to_owned(), at.to_string()]);
            walk(item, path, task, operations, notes);
            path.truncate(path.len() - 2);
        }
        return;
    }
    let template: &[&str] = match kind {
        "Pod" => &[],
        "CronJob" => &["spec", "jobTemplate", "spec", "template"],
        "DaemonSet"
        | "Deployment"
        | "Job"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet" => &["spec", "template"],
        _ => return,
    };
    let pod = template.iter().fold(object, |value, name| value.get(*name).unwrap_or(&Value::Null));
    let found = decide(object, kind, pod, task, notes);
    let before = path.iter().map(String::as_str).chain(template.iter().copied());
    let before = PointerBuf::from_tokens(before);
    operations.extend(found.into_iter().map(|operation| below(&before, operation)));
}

fn decide(
    object: &Value,
    kind: &str,
    pod: &Value,
    task: Task<'_>,
    notes: &mut Vec<Note>,
) -> Vec<PatchOperation> {
    let name = self::object(object);
    let mut note = |what: String, is_error: bool| {
        notes.push(Note { object: name.clone(), what, is_error });
    };
    let Task::Inject { settings, server } = task else {
        let operations = undo(pod);
        if !operations.is_empty() {
            note("the sidecar is taken out".to_owned(), false);
        }
        return operations;
    };
    let workload = Workload {
        kind: kind.to_owned(),
        name: field(object, "/metadata/name").as_str().unwrap_or_default().to_owned(),
    };
    let defaults = Map::new();
    let ask = Ask { pod, workload, defaults: &defaults, opt_in: OptIn::Asked, server, settings };
    match plan(&ask) {
        Ok(Decision::Inject(plan)) => {
            for warning in plan.warnings {
                note(warning, false);
            }
            let what = match plan.operations.len() {
                0 => "it has its sidecar already".to_owned(),
                _ => format!("it gets a sidecar ({})", plan.mode.as_str()),
            };
            note(what, false);
            plan.operations
        }
        Ok(Decision::Skip(why)) => {
            note(format!("it is left as it is ({})", why.as_str()), false);
            Vec::new()
        }
        Err(why) => {
            note(why.to_string(), true);
            Vec::new()
        }
    }
}

fn object(value: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{}/{}", text(field(value, "/kind")), text(field(value, "/metadata/name")))
}

/// The operation as one of the whole object.
fn below(before: &PointerBuf, mut operation: PatchOperation) -> PatchOperation {
    let path = match &mut operation {
        PatchOperation::Add(it) => &mut it.path,
        PatchOperation::Remove(it) => &mut it.path,
        PatchOperation::Replace(it) => &mut it.path,
        PatchOperation::Move(it) => &mut it.path,
        PatchOperation::Copy(it) => &mut it.path,
        PatchOperation::Test(it) => &mut it.path,
    };
    *path = before.concat(path);
    operation
}

#[cfg(test)]
mod tests;
