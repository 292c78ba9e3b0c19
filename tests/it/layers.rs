//! The shape of the house: who may import whom, how long a file may be, and what may be named
//! in one place only.
//!
//! The table is that of the documentation of `src/lib.rs`, so that the two cannot part.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest a file may be without its tests.
const LONGEST: usize = 600;
/// Tables: one row per provider, one row per field. A second idea is a reason to split, length
/// alone is not.
const TABLES: [&str; 2] = ["config/known.rs", "provider/catalog.rs"];
/// The modules that never wait, lock or open a socket.
const PURE: [&str; 9] = [
    "account", "admit", "endpoint", "lexicon", "protocol", "provider", "registry", "report",
    "routing",
];

const OPEN: &str = "<!-- layers -->\n";
const CLOSE: &str = "<!-- /layers -->";

/// What one file says, without its comments and its tests.
struct File {
    /// Below `src`.
    path: String,
    /// The first part of the path.
    module: String,
    /// As it is.
    text: String,
    /// Lines with their numbers.
    code: Vec<(usize, String)>,
}

impl File {
    fn lines_that(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let meant = self.code.iter().filter(|(_, line)| is_meant(line));
        meant.map(|(at, line)| format!("src/{}:{at}: {}", self.path, line.trim())).collect()
    }
}

/// All files below `src` but those that are compiled for tests only.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let files = paths.iter().map(|path| {
        let text = fs::read_to_string(path).expect("a source file is text");
        let path = path.strip_prefix(&root).expect("it is below src").display().to_string();
        let module = path.split(['/', '.']).next().unwrap_or_default().to_owned();
        let numbered = text.lines().map(str::to_owned).enumerate().map(|(at, line)| (at + 1, line));
        let code = numbered
            .take_while(|(_, line)| line != "mod tests {")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .collect();
        File { path, module, text, code }
    });
    files.collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("a folder of sources can be listed");
    let paths: Vec<_> = entries.map(|entry| entry.expect("an entry has a path").path()).collect();
    let index = fs::read_to_string(folder.join("mod.rs")).unwrap_or_default();
    for path in paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if index.contains(&format!("#[cfg(test)]\nmod {stem};")) {
            continue;
        }
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What a module may import.
#[derive(Debug)]
struct Row {
    layer: u32,
    /// `None` is everything.
    may: Option<Vec<String>>,
}

/// The table in the documentation of `src/lib.rs`.
fn table(files: &[File]) -> BTreeMap<String, Row> {
    let map = files.iter().find(|file| file.path == "lib.rs").expect("there is a src/lib.rs");
    let mut rows = BTreeMap::new();
    for line in map.text.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<_> = line.trim_end_matches('|').split('|').map(str::trim).collect();
        let [layer, modules, may] = cells.as_slice() else { panic!("three cells: {line}") };
        let Ok(layer) = layer.parse() else { continue };
        for module in names(modules) {
            let may = (*may != "everything").then(|| names(may));
            let row = Row { layer, may };
            assert!(rows.insert(module.clone(), row).is_none(), "`{module}` has two rows");
        }
    }
    rows
}

/// The names between backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The modules a line names: `crate::a::…` and `crate::{a, b::…}`.
fn imports(line: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let mut found = Vec::new();
    for (_, rest) in line.match_indices("crate::").map(|(at, text)| (at, &line[at + text.len()..]))
    {
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list.split([',', '}']).map(|part| name(part.trim()))),
            None => found.push(name(rest)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn the_guide_shows_the_same_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/CONTRIBUTING.md");
    let guide = fs::read_to_string(path).expect("there is a CONTRIBUTING.md");
    let map = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs"))
        .expect("there is a src/lib.rs");
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! ")).map(str::trim_end);
    let table: Vec<_> = rows.filter(|line| line.starts_with('|')).collect();
    let (before, rest) = guide.split_once(OPEN).expect("it has a place for the table");
    let (_, after) = rest.split_once(CLOSE).expect("that place has an end");
    let fresh = format!("{before}{OPEN}{}\n{CLOSE}{after}", table.join("\n"));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, fresh).expect("CONTRIBUTING.md can be written");
    } else {
        assert!(guide == fresh, "CONTRIBUTING.md is out of date; run this test with UPDATE=1");
    }
}

#[test]
fn every_module_has_a_row_and_every_row_a_module() {
    let files = files();
    let table = table(&files);
    for file in files.iter().filter(|file| file.module != "lib") {
        assert!(table.contains_key(&file.module), "src/{} has no row in src/lib.rs", file.path);
    }
    for module in table.keys() {
        assert!(files.iter().any(|file| file.module == *module), "there is no module `{module}`");
    }
}

#[test]
fn the_table_points_down_only() {
    let table = table(&files());
    for (module, row) in &table {
        for other in row.may.iter().flatten() {
            let below = table.get(other).unwrap_or_else(|| panic!("`{other}` has no row"));
            assert!(below.layer < row.layer, "`{other}` is not below `{module}`");
        }
    }
}

#[test]
fn no_file_imports_what_its_layer_may_not() {
    let files = files();
    let table = table(&files);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.module != "lib") {
        let may = table.get(&file.module).and_then(|row| row.may.as_ref());
        let Some(may) = may else { continue };
        wrong.extend(file.lines_that(|line| {
            let foreign = |name: &String| {
                *name != file.module && table.contains_key(name) && !may.contains(name)
            };
            imports(line).iter().any(foreign)
        }));
    }
    assert!(wrong.is_empty(), "not in the table of src/lib.rs:\n{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_every_form() {
    assert_eq!(imports("use crate::lexicon::{Class, time};"), ["lexicon"]);
    assert_eq!(imports("use crate::{config, routing::View};"), ["config", "routing"]);
    assert_eq!(imports("let x: crate::a::B = crate::c();"), ["a", "c"]);
    assert_eq!(imports("use std::fmt;"), [""; 0]);
}

#[test]
fn the_pure_half_waits_for_nothing() {
    let words =
        [".await", "async fn", "tokio::", "Mutex", "RwLock", "std::net", "std::fs", "sleep("];
    let wrong: Vec<_> = files()
        .iter()
        .filter(|file| PURE.contains(&&*file.module))
        .flat_map(|file| file.lines_that(|line| words.iter().any(|word| line.contains(word))))
        .collect();
    assert!(wrong.is_empty(), "a pure module does so:\n{}", wrong.join("\n"));
}

#[test]
fn the_pure_half_is_told_the_time() {
    // The record of a request takes its time when it is dropped, where nobody can hand it one; a
    // translated answer carries the moment of its creation.
    let excused = ["account/mod.rs", "lexicon/time.rs", "provider/anthropic.rs"];
    let wrong: Vec<_> = files()
        .iter()
        .filter(|file| PURE.contains(&&*file.module) && !excused.contains(&&*file.path))
        .flat_map(|file| {
            file.lines_that(|line| line.contains("time::now(") || line.contains("unix_now("))
        })
        .collect();
    assert!(wrong.is_empty(), "take `now` as an argument:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_reader_bears() {
    for file in files().iter().filter(|file| !TABLES.contains(&&*file.path)) {
        let lines = file.text.lines().take_while(|line| *line != "mod tests {").count();
        assert!(lines <= LONGEST, "src/{} has {lines} lines without its tests", file.path);
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    walk(&root.join("../tests/it"), &mut paths);
    for path in paths {
        let text = fs::read_to_string(&path).expect("a source file is text");
        assert!(text.starts_with("//! "), "{} does not begin with //!", path.display());
    }
}

#[track_caller]
fn check_only_in(words: &[&str], is_home: impl Fn(&str) -> bool) {
    let wrong: Vec<_> = files()
        .iter()
        .filter(|file| !is_home(&file.path))
        .flat_map(|file| file.lines_that(|line| words.iter().any(|word| line.contains(word))))
        .collect();
    assert!(wrong.is_empty(), "{words:?} has another home:\n{}", wrong.join("\n"));
}

#[test]
fn yaml_is_read_in_one_file() {
    check_only_in(&["serde_yaml"], |path| path == "config/raw.rs");
}

#[test]
fn the_environment_is_read_in_one_file() {
    check_only_in(&["env::var", "env::vars"], |path| path == "config/reference.rs");
}

#[test]
fn sockets_have_few_homes() {
    check_only_in(&["tokio::net", "std::net::Tcp", "std::net::Udp"], |path| {
        path.starts_with("listen/")
            || path.starts_with("demo/")
            || matches!(path, "app/mod.rs" | "gossip/socket.rs" | "upstream/connect.rs")
    });
}

#[test]
fn the_clock_is_read_in_one_file() {
    check_only_in(&["Instant::now(", "SystemTime::now("], |path| path == "lexicon/time.rs");
}
