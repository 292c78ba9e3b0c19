//! What README.md lists, it lists as the code has it. `UPDATE=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pillion::protocol::Endpoint;
use pillion::provider::vendor::Wire;
use pillion::provider::{Vendor, catalog};

const OPEN: &str = "<!-- providers -->\n";
const CLOSE: &str = "<!-- /providers -->";

#[test]
fn the_readme_lists_every_provider() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("there is a README.md");
    let (before, rest) = readme.split_once(OPEN).expect("it has a place for the providers");
    let (_, after) = rest.split_once(CLOSE).expect("that place has an end");
    let fresh = format!("{before}{OPEN}{}{CLOSE}{after}", markdown());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, fresh).expect("README.md can be written");
    } else {
        assert!(readme == fresh, "the README is out of date; run this test with UPDATE=1");
    }
}

#[test]
fn the_readme_lists_every_annotation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("there is a README.md");
    let (open, close) = ("<!-- annotations -->\n", "<!-- /annotations -->");
    let (before, rest) = readme.split_once(open).expect("it has a place for the annotations");
    let (_, after) = rest.split_once(close).expect("that place has an end");
    let mut rows = "| annotation | what it says |\n|---|---|\n".to_owned();
    for (name, says) in pillion::inject::ANNOTATIONS {
        // Writing to a string cannot fail.
        let _ = writeln!(rows, "| `{}{name}` | {says} |", pillion::inject::PREFIX);
    }
    let fresh = format!("{before}{open}{rows}{close}{after}");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, fresh).expect("README.md can be written");
    } else {
        assert!(readme == fresh, "the README is out of date; run this test with UPDATE=1");
    }
}

#[test]
fn the_example_in_the_readme_is_without_fault() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("there is a README.md");
    let (_, rest) = readme.split_once("<!-- example -->\n```yaml\n").expect("it has an example");
    let (example, _) = rest.split_once("```").expect("the example has an end");
    let folder = tempfile::tempdir().expect("there is room for a file");
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, example).expect("a file can be written");
    let keys = |name: &str| name.ends_with("_KEY").then(|| "sk-any".to_owned());
    let problems = pillion::config::check(&file, &keys);
    assert!(problems.is_empty(), "{problems:#?}");
}

/// One row for all providers that speak and serve the same.
fn markdown() -> String {
    let mut rows: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for vendor in catalog::all() {
        let mark = if vendor.base.is_empty() { "°" } else { "" };
        rows.entry((wire(vendor), serves(vendor)))
            .or_default()
            .push(format!("`{}`{mark}", vendor.prefix));
    }
    let mut text = "| speaks | serves | prefixes |\n|---|---|---|\n".to_owned();
    for ((wire, serves), prefixes) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {wire} | {serves} | {} |", prefixes.join(" "));
    }
    let count = catalog::all().len();
    let _ = writeln!(text, "\n{count} prefixes. °: needs `api_base`, there is no usual address.");
    text
}

fn wire(vendor: &Vendor) -> &'static str {
    match vendor.wire {
        Wire::Anthropic => "Anthropic",
        Wire::Azure => "OpenAI, at Azure",
        Wire::OpenAi => "OpenAI",
    }
}

fn serves(vendor: &Vendor) -> String {
    let served = Endpoint::ALL.into_iter().filter(|endpoint| vendor.serves.has(*endpoint));
    served.map(|endpoint| endpoint.path().trim_start_matches('/')).collect::<Vec<_>>().join(", ")
}
