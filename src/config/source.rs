//! The files of one configuration, read and joined: the named file and all it includes.
//!
//! As in LiteLLM, lists of an included file are appended, and everything else replaces what was
//! there. Each file counts once, so that cycles end. Remembers which line of which file every
//! field of the joined document came from. Even a broken file yields a hash, because the watcher
//! must know whether it has seen that break before.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::locate::{Index, item};
use super::problem::{Problem, Scope};
use super::{keys, raw};

/// A joined document.
#[derive(Debug)]
pub(super) struct Source {
    /// The document, references unresolved and `include` taken out.
    pub(super) root: Map<String, Value>,
    /// The files in the order they were read.
    pub(super) files: Vec<File>,
    /// The hash of the content of all files, in hex.
    pub(super) hash: String,
    stretches: Stretches,
}

/// One file that was read, or could not be.
#[derive(Debug)]
pub(super) struct File {
    /// Where it is.
    pub(super) path: PathBuf,
    index: Index,
}

/// For each top-level field, which stretch of it came from which file.
type Stretches = HashMap<String, Vec<Stretch>>;

#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// Position in the joined list where it begins.
    from: usize,
    /// Position in the list of its own file.
    own: usize,
    file: usize,
}

/// Where a configuration stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// The file.
    pub path: PathBuf,
    /// Another one that is joined to it where it is there: what a namespace adds to the
    /// configuration of all.
    pub overlay: Option<PathBuf>,
    /// A folder with one file per variable.
    pub keys: Option<PathBuf>,
}

impl From<PathBuf> for Files {
    fn from(path: PathBuf) -> Self {
        Self { path, ..Self::default() }
    }
}

impl Source {
    /// Reads all files.
    pub(super) fn read_all(files: &Files) -> (Self, Vec<Problem>) {
        let mut reading = Reading::new(&files.path);
        let (mut root, mut stretches) = reading.file(&files.path).unwrap_or_default();
        if let Some(overlay) = files.overlay.as_deref().filter(|overlay| overlay.is_file())
            && let Some((theirs, from)) = reading.file(overlay)
        {
            let number = reading.files.len() - 1;
            let mut laying = Laying { reading: &mut reading, number, overlay };
            let theirs = laying.unlocked(&root, theirs);
            lay_over(&mut root, &mut stretches, theirs, from);
        }
        if let Some(keys) = &files.keys {
            reading.hash.update(keys::identity(keys));
        }
        let hash = hex(&reading.hash.finalize());
        (Self { root, files: reading.files, hash, stretches }, reading.problems)
    }

    /// Reads `path` and what it includes. The problems are those of the files themselves: one
    /// that cannot be read, is no YAML or is no mapping.
    pub(super) fn read(path: &Path) -> (Self, Vec<Problem>) {
        Self::read_all(&path.to_owned().into())
    }

    /// A document that no file holds.
    pub(super) fn of(root: Map<String, Value>, name: &str) -> Self {
        let hash = hex(&Sha256::digest(Value::Object(root.clone()).to_string()));
        let files = vec![File { path: name.into(), index: Index::default() }];
        Self { root, files, hash, stretches: Stretches::new() }
    }

    /// The file, line and column of a field of the joined document.
    pub(super) fn locate(&self, path: &str) -> (String, (usize, usize)) {
        let (file, own) = self.origin(path);
        let Some(file) = self.files.get(file) else { return (String::new(), (0, 0)) };
        let place = file.index.find(&own).unwrap_or((0, 0));
        (file.path.display().to_string(), place)
    }

    /// Which file the field came from, and its path there.
    fn origin(&self, path: &str) -> (usize, String) {
        let (head, rest) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
        let Some(stretches) = self.stretches.get(head) else { return (0, path.to_owned()) };
        let numbered = rest
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
            .and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest)));
        let Some((at, rest)) = numbered else {
            return (stretches.first().map_or(0, |first| first.file), path.to_owned());
        };
        match stretches.iter().rev().find(|stretch| stretch.from <= at) {
            Some(found) => (found.file, item(head, at - found.from + found.own) + rest),
            None => (0, path.to_owned()),
        }
    }
}

/// The state of one reading.
struct Reading {
    root: PathBuf,
    seen: HashSet<PathBuf>,
    files: Vec<File>,
    hash: Sha256,
    problems: Vec<Problem>,
}

impl Reading {
    fn new(path: &Path) -> Self {
        Self {
            root: path.parent().map(Path::to_owned).unwrap_or_default(),
            seen: HashSet::new(),
            files: Vec::new(),
            hash: Sha256::new(),
            problems: Vec::new(),
        }
    }

    /// One file with all it includes; `None` where it was read before or cannot be.
    fn file(&mut self, path: &Path) -> Option<(Map<String, Value>, Stretches)> {
        let identity = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !self.seen.insert(identity) {
            return None;
        }
        let name = path.display().to_string();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.files.push(File { path: path.to_owned(), index: Index::default() });
                self.problems.push(Problem::of_file(name, format!("cannot be read: {error}")));
                return None;
            }
        };
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(&bytes);
        let number = self.files.len();
        let Ok(text) = String::from_utf8(bytes) else {
            self.files.push(File { path: path.to_owned(), index: Index::default() });
            self.problems.push(Problem::of_file(name, "is not UTF-8 text"));
            return None;
        };
        self.files.push(File { path: path.to_owned(), index: Index::of(&text) });
        let mut root = self.mapping(&name, &text)?;
        self.tell_repeated(number, &name);
        let mut stretches: Stretches =
            root.keys().map(|key| (key.clone(), vec![Stretch::whole(number)])).collect();
        if let Some(include) = root.remove("include") {
            for other in self.targets(&include, path) {
                if let Some((map, theirs)) = self.file(&other) {
                    join(&mut root, &mut stretches, map, theirs);
                }
            }
        }
        Some((root, stretches))
    }

    fn mapping(&mut self, name: &str, text: &str) -> Option<Map<String, Value>> {
        match raw::read(text) {
            Ok(Value::Object(root)) => Some(root),
            Ok(Value::Null) => {
                let problem = Problem::of_file(name, "the file is empty");
                // An empty file is one that is not written yet, not the wish to serve nothing. One
                // that is included takes nothing away.
                let is_included = self.files.len() > 1;
                self.problems.push(if is_included { problem.as_warning() } else { problem });
                is_included.then(Map::new)
            }
            Ok(other) => {
                let what = format!("expected a mapping, found {}", kind(&other));
                self.problems.push(Problem::of_file(name, what).at((1, 1)));
                None
            }
            Err(error) => {
                let what = format!("not YAML: {}", error.what);
                self.problems.push(Problem::of_file(name, what).at(error.place));
                None
            }
        }
    }

    fn tell_repeated(&mut self, number: usize, name: &str) {
        let Some(file) = self.files.get(number) else { return };
        for (path, place) in &file.index.repeated {
            let mut problem = Problem::of_file(name, "the key is there twice; the last one counts")
                .as_warning()
                .at(*place);
            problem.path.clone_from(path);
            self.problems.push(problem);
        }
    }

    /// The files that `include` names, relative to the file that says so, else to the first.
    fn targets(&mut self, include: &Value, from: &Path) -> Vec<PathBuf> {
        let names: Vec<&str> = match include {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
        };
        let expected = include.as_array().map_or(1, Vec::len);
        if names.len() != expected && !include.is_null() {
            let name = from.display().to_string();
            let mut problem = Problem::of_file(name, "expected a list of file names");
            "include".clone_into(&mut problem.path);
            self.problems.push(problem);
        }
        let near = from.parent().unwrap_or(Path::new(""));
        let resolve = |name: &&str| {
            let beside = near.join(name);
            if beside.exists() {
                beside
            } else {
                Some(self.root.join(name)).filter(|it| it.exists()).unwrap_or(beside)
            }
        };
        names.iter().map(resolve).collect()
    }
}

impl Stretch {
    const fn whole(file: usize) -> Self {
        Self { from: 0, own: 0, file }
    }
}

fn join(
    root: &mut Map<String, Value>,
    stretches: &mut Stretches,
    other: Map<String, Value>,
    mut theirs: Stretches,
) {
    for (key, value) in other {
        let added = theirs.remove(&key).unwrap_or_default();
        match (root.get_mut(&key), value) {
            (Some(Value::Array(mine)), Value::Array(more)) => {
                let base = mine.len();
                mine.extend(more);
                let moved = added.into_iter().map(|it| Stretch { from: it.from + base, ..it });
                stretches.entry(key).or_default().extend(moved);
            }
            (_, value) => {
                root.insert(key.clone(), value);
                stretches.insert(key, added);
            }
        }
    }
}

/// Puts an overlay over what there is: lists are appended, of mappings each member replaces its
/// own, so that a namespace that sets one number keeps the others.
fn lay_over(
    root: &mut Map<String, Value>,
    stretches: &mut Stretches,
    mut theirs: Map<String, Value>,
    from: Stretches,
) {
    for (key, value) in &mut theirs {
        if let (Some(Value::Object(below)), Value::Object(above)) = (root.get(key), value) {
            let mut joined = below.clone();
            joined.extend(std::mem::take(above));
            *above = joined;
        }
    }
    join(root, stretches, theirs, from);
}

/// The overlay, while it is read.
struct Laying<'a> {
    reading: &'a mut Reading,
    number: usize,
    overlay: &'a Path,
}

impl Laying<'_> {
    /// The overlay without the fields that the central file keeps for itself, each of which is
    /// told.
    fn unlocked(
        &mut self,
        root: &Map<String, Value>,
        mut theirs: Map<String, Value>,
    ) -> Map<String, Value> {
        let own = root.get("pillion").and_then(|pillion| pillion.get("locked"));
        let own = own
            .map_or(&[][..], |own| own.as_array().map_or(std::slice::from_ref(own), Vec::as_slice));
        let own = own.iter().filter_map(Value::as_str);
        for path in own.chain(ALWAYS_LOCKED) {
            if !take(&mut theirs, path) {
                continue;
            }
            let what = "the central configuration keeps this field for itself; it is left out here";
            let mut problem = Problem::of_file(self.overlay.display().to_string(), what);
            problem.scope = Scope::Field;
            path.clone_into(&mut problem.path);
            let index = self.reading.files.get(self.number).map(|file| &file.index);
            let place = index.and_then(|index| index.find(path)).unwrap_or((0, 0));
            self.reading.problems.push(problem.at(place));
        }
        theirs
    }
}

/// Who may ask, and what is locked, is never for an overlay to say.
const ALWAYS_LOCKED: [&str; 2] = ["general_settings.master_key", "pillion.locked"];

/// Takes a field out; tells whether it was there.
fn take(from: &mut Map<String, Value>, path: &str) -> bool {
    match path.split_once('.') {
        None => from.remove(path).is_some(),
        Some((head, rest)) => match from.get_mut(head) {
            Some(Value::Object(below)) => take(below, rest),
            Some(_) | None => false,
        },
    }
}

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Bytes in lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in list {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn included_lists_are_appended_and_everything_else_is_replaced() {
        let folder = files(&[
            (
                "a.yaml",
                "include: [sub/b.yaml]\nmodel_list:\n  - model_name: a\nrouter_settings: {x: 1}\n",
            ),
            (
                "sub/b.yaml",
                "include: [c.yaml]\nmodel_list:\n  - model_name: b\nrouter_settings:\n  y: 2\n",
            ),
            (
                "sub/c.yaml",
                "include: [../a.yaml]\n\nmodel_list:\n  - model_name: c\n  - model_name: d\n",
            ),
        ]);
        let (source, problems) = Source::read(&folder.path().join("a.yaml"));
        assert_eq!(problems, []);
        let names: Vec<_> = source.root["model_list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["model_name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!(source.root["router_settings"], serde_json::json!({"y": 2}));
        assert!(!source.root.contains_key("include"));
        let (file, place) = source.locate("model_list[3].model_name");
        assert!(file.ends_with("c.yaml"), "{file}");
        assert_eq!(place, (5, 5));
        let (file, place) = source.locate("router_settings.y");
        assert!(file.ends_with("b.yaml"), "{file}");
        assert_eq!(place, (5, 3));
    }

    fn laid(central: &str, overlay: &str) -> (Source, Vec<Problem>) {
        let folder = files(&[("config.yaml", central), ("overlay.yaml", overlay)]);
        let at = |name: &str| folder.path().join(name);
        Source::read_all(&Files {
            overlay: Some(at("overlay.yaml")),
            ..Files::from(at("config.yaml"))
        })
    }

    #[test]
    fn an_overlay_adds_to_lists_and_replaces_single_fields() {
        let (source, problems) = laid(
            "model_list:\n  - model_name: a\nrouter_settings: {x: 1, y: 1}\n",
            "model_list:\n  - model_name: b\nrouter_settings: {y: 2}\nlitellm_settings: {z: 3}\n",
        );
        assert_eq!(problems, []);
        let want = serde_json::json!({
            "model_list": [{"model_name": "a"}, {"model_name": "b"}],
            "router_settings": {"x": 1, "y": 2},
            "litellm_settings": {"z": 3},
        });
        assert_eq!(Value::Object(source.root.clone()), want);
        let (file, place) = source.locate("model_list[1].model_name");
        assert!(file.ends_with("overlay.yaml") && place == (2, 5), "{file} {place:?}");
    }

    #[test]
    fn an_overlay_does_not_touch_what_is_locked() {
        let (source, problems) = laid(
            "pillion: {locked: [router_settings.budget, litellm_settings]}\nrouter_settings: {budget: 1}\n",
            "router_settings:\n  budget: 2\n  more: 3\nlitellm_settings: {a: 1}\ngeneral_settings: {master_key: x}\npillion: {locked: []}\n",
        );
        let want = serde_json::json!({
            "pillion": {"locked": ["router_settings.budget", "litellm_settings"]},
            "router_settings": {"budget": 1, "more": 3},
            "general_settings": {},
        });
        assert_eq!(Value::Object(source.root), want);
        let told: Vec<_> = problems.iter().map(|it| (&*it.path, it.line, it.is_fatal())).collect();
        let want = [
            ("router_settings.budget", 2, false),
            ("litellm_settings", 4, false),
            ("general_settings.master_key", 5, false),
            ("pillion.locked", 6, false),
        ];
        assert_eq!(told, want);
    }

    #[test]
    fn an_overlay_that_is_not_there_is_nothing_and_one_that_is_broken_refuses() {
        let folder = files(&[("config.yaml", "model_list: []\n")]);
        let mut both = Files::from(folder.path().join("config.yaml"));
        let (alone, _) = Source::read_all(&both);
        both.overlay = Some(folder.path().join("overlay.yaml"));
        let (source, problems) = Source::read_all(&both);
        assert_eq!((source.hash, problems), (alone.hash.clone(), Vec::new()));
        std::fs::write(folder.path().join("overlay.yaml"), "a: [").unwrap();
        let (source, problems) = Source::read_all(&both);
        assert!(problems.iter().any(Problem::is_fatal) && source.hash != alone.hash);
    }

    #[test]
    fn a_missing_include_is_told_and_refuses_the_file() {
        let folder = files(&[("a.yaml", "include: [b.yaml]\nmodel_list: []\n")]);
        let (source, problems) = Source::read(&folder.path().join("a.yaml"));
        assert!(problems.iter().any(Problem::is_fatal), "{problems:?}");
        assert_eq!(source.files.len(), 2);
    }

    #[test]
    fn a_broken_file_has_a_hash_of_its_own() {
        let folder = files(&[("a.yaml", "a: ["), ("b.yaml", "a: ]")]);
        let (one, problems) = Source::read(&folder.path().join("a.yaml"));
        let (two, _) = Source::read(&folder.path().join("b.yaml"));
        assert_ne!(one.hash, two.hash);
        assert!(problems.first().unwrap().line > 0, "{problems:?}");
    }

    #[test]
    fn a_file_without_a_mapping_is_refused_unless_it_is_empty_and_included() {
        let main = "include: [empty.yaml]\nmodel_list: []\n";
        let folder =
            files(&[("list.yaml", "- a\n"), ("empty.yaml", "# nothing\n"), ("main.yaml", main)]);
        let first = |name: &str| Source::read(&folder.path().join(name)).1.remove(0);
        assert!(first("list.yaml").is_fatal());
        assert!(first("empty.yaml").is_fatal());
        assert!(!first("main.yaml").is_error());
    }
}
