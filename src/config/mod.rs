//! The configuration: LiteLLM's `config.yaml` and one section of our own, to a [`Snapshot`].
//!
//! The way: `source` reads the files and joins them, [`reference`](mod@reference) puts in what stands in the
//! environment, `check` turns the document into parts, and [`load`] those into a snapshot. All problems are collected, each with its line.
//!
//! What an error does when the file is *served* depends on its [`Scope`]; `pillion check` fails
//! on every error alike.
//!
//! | scope | example | served |
//! |---|---|---|
//! | [`File`](Scope::File) | no YAML, a section of the wrong type, a wrong timeout, a wrong address | the file is refused; the last good one stays |
//! | [`Entry`](Scope::Entry) | a deployment without a model, with a wrong `rpm`, with an unknown provider | without that deployment, while any other is left |
//! | [`Field`](Scope::Field) | a field that nobody knows | without that field, so that an old sidecar survives a new file |
//!
//! A field that nobody knows is an error where it looks like a slip for a known one, and a
//! warning else: LiteLLM ignores it too, and a file that works there must pass here. A field that
//! LiteLLM knows and Pillion does not act on is a warning.
//!
//! Refuses to know: how a provider is spoken to, and what a strategy does with the numbers.

mod budget;
mod check;
mod cooldown;
// One way to swap a mount, here and in the tests of the whole sidecar.
#[cfg(test)]
#[path = "../../tests/it/support/config_map.rs"]
mod config_map;
mod cursor;
mod entry;
mod fallback;
mod fields;
pub mod gossip;
mod hedge;
mod identity;
mod keys;
mod known;
mod last_good;
mod locate;
mod price;
pub mod problem;
mod raw;
pub mod reference;
pub mod report;
mod retries;
mod router;
#[cfg(test)]
mod rules;
pub mod settings;
pub mod snapshot;
mod source;
mod strategy;
mod streams;
mod timeouts;
pub mod watch;

use std::path::Path;

use crate::provider::{self, Deployment, Environment};
use crate::registry::{self, Price};
use crate::routing::RouteTable;

pub use gossip::Gossip;
pub use keys::{from_environment, from_folder};
pub use problem::{Problem, Scope, Severity};
pub use raw::NotYaml;
pub use reference::process_environment;
pub use settings::{Limits, Log, LogFormat, Settings};
pub use snapshot::Snapshot;

use check::Parts;
pub use source::Files;

use source::Source;

/// A configuration that can be served, and what there is to say about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub snapshot: Snapshot,
    /// Warnings, and the errors of deployments and fields that were left out.
    pub warnings: Vec<Problem>,
}

/// Reads the file, all it includes, and what is laid over it.
///
/// Errs where the file as a whole is wrong, and where it names deployments and none of them can
/// be used; the list then holds warnings too, and at least one error.
pub fn load(files: &Files, environment: Environment<'_>) -> Result<Loaded, Vec<Problem>> {
    let (source, problems) = Source::read_all(files);
    compile(&source, problems, environment)
}

/// Compiles a JSON document that is in memory; `name` stands for its file in problems.
pub fn load_text(
    text: &str,
    name: &str,
    environment: Environment<'_>,
) -> Result<Loaded, Vec<Problem>> {
    match serde_json::from_str(text) {
        Ok(root) => compile(&Source::of(root, name), Vec::new(), environment),
        Err(error) => Err(vec![Problem::of_file(name, error.to_string())]),
    }
}

/// [`load`], and where that fails, the last good configuration from `state_dir`.
///
/// The first warning says so then, with [`Severity::Error`] so that it is logged loudly.
pub fn load_or_last_good(
    files: &Files,
    state_dir: Option<&Path>,
    environment: Environment<'_>,
) -> Result<Loaded, Vec<Problem>> {
    let problems = match load(files, environment) {
        Ok(loaded) => return Ok(loaded),
        Err(problems) => problems,
    };
    let Some(kept) = state_dir.map(last_good::file) else { return Err(problems) };
    let kept = Files::from(kept);
    let Ok(mut loaded) = load(&kept, environment) else { return Err(problems) };
    let what = format!(
        "cannot be used: the last good configuration is served instead, from {}",
        kept.path.display()
    );
    let mut warnings = vec![Problem::of_file(files.path.display().to_string(), what)];
    warnings.extend(problems);
    warnings.append(&mut loaded.warnings);
    Ok(Loaded { warnings, snapshot: loaded.snapshot })
}

/// Why nobody could serve a text, whatever the variables it names hold.
pub fn fault_of(text: &str) -> Option<Problem> {
    const NAME: &str = "config.yaml";
    let root = match raw::read(text) {
        Ok(serde_json::Value::Object(root)) => root,
        Ok(_) => return Some(Problem::of_file(NAME, "expected a mapping")),
        Err(error) => {
            return Some(
                Problem::of_file(NAME, format!("not YAML: {}", error.what)).at(error.place),
            );
        }
    };
    let source = Source::of(root, NAME);
    // A variable may stand for a text or for a number; what both make impossible is wrong. Whether
    // a deployment can be used depends on variables, and is for each sidecar to say. Those that a
    // pod has over the file are no part of the file.
    let first = |value: &'static str| {
        let environment =
            |name: &str| (!name.starts_with(gossip::VARIABLES)).then(|| value.to_owned());
        let (_, found) = check::compile(&source, &environment, &provider::build);
        found.into_iter().find(Problem::is_fatal)
    };
    first("1").and(first("x"))
}

/// Reads a YAML document that is no configuration of ours, as plain values.
pub fn read_yaml(text: &str) -> Result<serde_json::Value, NotYaml> {
    raw::read(text)
}

/// Every problem of the file, errors first, else in the order of the lines.
pub fn check(path: &Path, environment: Environment<'_>) -> Vec<Problem> {
    let (source, mut problems) = Source::read(path);
    if !problems.iter().any(Problem::is_fatal) {
        problems.extend(check::compile(&source, environment, &provider::build).1);
    }
    sorted(problems)
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| {
        (a.severity, &a.file, a.line, a.column).cmp(&(b.severity, &b.file, b.line, b.column))
    });
    problems.dedup();
    problems
}

fn compile(
    source: &Source,
    mut problems: Vec<Problem>,
    environment: Environment<'_>,
) -> Result<Loaded, Vec<Problem>> {
    if problems.iter().any(Problem::is_fatal) {
        return Err(sorted(problems));
    }
    let (parts, found) = check::compile(source, environment, &provider::build);
    problems.extend(found);
    if parts.deployments.is_empty() && parts.listed > 0 {
        let name = source.files.first().map(|file| file.path.display().to_string());
        let what = format!("none of the {} deployments can be used", parts.listed);
        problems.push(Problem::of_file(name.unwrap_or_default(), what));
    }
    let problems = sorted(problems);
    if problems.iter().any(Problem::is_fatal) {
        return Err(problems);
    }
    Ok(Loaded { snapshot: snapshot(parts, &source.hash), warnings: problems })
}

fn snapshot(mut parts: Parts<Deployment>, hash: &str) -> Snapshot {
    let prices = parts.deployments.iter().zip(parts.prices).map(|(deployment, (own, base))| {
        let model = base.as_deref().unwrap_or(&deployment.model);
        price::merged(own, snapshot::listed_price(deployment.vendor.prefix, model))
    });
    let prices: Box<[Option<Price>]> = prices.collect();
    let known = parts.deployments.iter().zip(&prices);
    for ((_, _, member), (deployment, price)) in parts.entries.iter_mut().zip(known) {
        member.domain.provider = deployment.vendor.prefix.into();
        if member.domain.region.is_empty() {
            member.domain.region = deployment.base.host().unwrap_or_default().into();
        }
        let listed = registry::lookup(deployment.vendor.prefix, &deployment.model);
        let longest = listed.and_then(|model| model.max_input);
        member.longest_prompt = member.longest_prompt.or(longest);
        member.reasons = listed.is_some_and(|model| model.can('r'));
        member.input_cost = price.and_then(|price| price.input);
        member.output_cost = price.and_then(|price| price.output);
        member.provider_budget =
            parts.router.provider_budgets.get(deployment.vendor.prefix).copied();
    }
    Snapshot {
        generation: 1,
        hash: hash.into(),
        prices,
        routes: RouteTable::build(parts.entries, parts.router),
        deployments: parts.deployments.into(),
        master_key: parts.master_key,
        settings: parts.settings,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn load(path: &Path, environment: Environment<'_>) -> Result<Loaded, Vec<Problem>> {
        super::load(&path.to_owned().into(), environment)
    }

    #[test]
    fn a_file_that_is_not_there_is_one_error() {
        let problems = load(Path::new("/nowhere/config.yaml"), &|_| None).unwrap_err();
        assert!(matches!(problems.as_slice(), [only] if only.is_fatal()), "{problems:?}");
        assert_eq!(check(Path::new("/nowhere/config.yaml"), &|_| None), problems);
    }

    #[test]
    fn a_file_of_which_no_deployment_can_be_used_is_refused() {
        let (_folder, path) = file(
            "model_list:\n  - model_name: a\n    litellm_params: {model: nobody-is-called-so/x}\n",
        );
        let problems = load(&path, &|_| None).unwrap_err();
        assert!(problems.iter().any(|it| it.what.contains("none of the 1")), "{problems:?}");
    }

    #[test]
    fn a_slip_in_a_field_is_an_error_for_check_and_does_not_stop_serving() {
        let (_folder, path) = file("router_settings: {num_retrys: 3}\n");
        assert_eq!(report::exit_code(&check(&path, &|_| None)), 1);
        let loaded = load(&path, &|_| None).unwrap();
        assert!(loaded.warnings.iter().any(Problem::is_error));
        assert_eq!((loaded.snapshot.generation, loaded.snapshot.hash.len()), (1, 64));
    }

    #[test]
    fn broken_yaml_keeps_its_line_and_column() {
        let (_folder, path) = file("model_list:\n  - model_name: a\n bad: [\n");
        let problems = check(&path, &|_| None);
        let [only] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(only.is_fatal() && only.line >= 3 && only.column > 0, "{only}");
    }

    #[test]
    fn errors_come_first_and_then_lines_count() {
        let (_folder, path) = file("banana: 1\nrouter_settings: {num_retrys: 3}\nmodel_list: []\n");
        let lines: Vec<_> = check(&path, &|_| None).iter().map(|it| it.line).collect();
        assert_eq!(lines, [2, 1, 3]);
    }
}
