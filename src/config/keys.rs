//! Keys of providers: a configuration out of nothing but them, and a folder that holds them.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};

use super::source::Source;
use super::{Loaded, compile};
use crate::provider::Environment;

/// Makes `prefix/*` routable for each vendor that has a key in the environment; `None` where none
/// has, unless the sidecar shall take part in gossip all the same, as a seed of others. `vendors` lists each prefix with the variables that may hold its key.
pub fn from_environment(
    vendors: &[(&str, &[&str])],
    environment: Environment<'_>,
) -> Option<Loaded> {
    let root = document(vendors, environment)?;
    compile(&Source::of(root, "environment"), Vec::new(), environment).ok()
}

/// The document that says so. Keys stay references, so the document may be kept and shown.
fn document(
    vendors: &[(&str, &[&str])],
    environment: Environment<'_>,
) -> Option<Map<String, Value>> {
    let is_set = |name: &str| environment(name).is_some_and(|key| !key.trim().is_empty());
    let models: Vec<Value> = vendors
        .iter()
        .filter_map(|(prefix, keys)| Some((prefix, keys.iter().find(|name| is_set(name))?)))
        .map(|(prefix, key)| {
            let name = format!("{prefix}/*");
            let params = json!({"model": name, "api_key": format!("os.environ/{key}")});
            json!({"model_name": name, "litellm_params": params, "model_info": {"id": name}})
        })
        .collect();
    let is_seed = is_set("PILLION_GOSSIP_KEY_FILE") && is_set("PILLION_GOSSIP_SEEDS");
    if models.is_empty() && !is_seed {
        return None;
    }
    Some(Map::from_iter([("model_list".to_owned(), Value::Array(models))]))
}

/// The value of a variable in a folder with one file per variable, as a Secret is mounted. A
/// newline at its end was put there by an editor.
pub fn from_folder(folder: &Path, name: &str) -> Option<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.starts_with('.') || !name.chars().all(is_name) {
        return None;
    }
    let text = fs::read_to_string(folder.join(name)).ok()?;
    Some(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// What tells one content of the folder from another, without a word of it: names, numbers, sizes, times
/// and where links lead.
pub(super) fn identity(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let mut identity = String::from("keys");
    for path in paths {
        let (Ok(facts), Ok(place)) = (fs::metadata(&path), path.canonicalize()) else { continue };
        if !facts.is_file() {
            continue;
        }
        let changed = facts.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let changed = changed.unwrap_or_default().as_nanos();
        // The clock of a file system is coarse: two files of one moment differ in their number.
        let (number, size) = (facts.ino(), facts.len());
        // Writing to a string cannot fail.
        let _ = write!(
            identity,
            "\0{}\0{}\0{number}\0{size}\0{changed}",
            path.display(),
            place.display()
        );
    }
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_keys_is_read_by_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("keys");
        fs::create_dir(&inner).unwrap();
        fs::write(folder.path().join("outside"), "no").unwrap();
        fs::write(inner.join("OPENAI_API_KEY"), "sk-1\n").unwrap();
        fs::write(inner.join(".hidden"), "no").unwrap();
        assert_eq!(from_folder(&inner, "OPENAI_API_KEY").as_deref(), Some("sk-1"));
        for name in ["../outside", ".hidden", "OTHER", "", "."] {
            assert_eq!(from_folder(&inner, name), None, "{name}");
        }
    }

    #[test]
    fn another_content_is_told_apart_and_no_content_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = identity(folder.path());
        assert_eq!(identity(&folder.path().join("none")), nothing);
        fs::write(folder.path().join("KEY"), "sk-1").unwrap();
        let one = identity(folder.path());
        assert!(one != nothing && !one.contains("sk-1") && identity(folder.path()) == one);
        fs::write(folder.path().join("fresh"), "sk-2").unwrap();
        fs::rename(folder.path().join("fresh"), folder.path().join("KEY")).unwrap();
        assert_ne!(identity(folder.path()), one);
    }

    const VENDORS: &[(&str, &[&str])] =
        &[("openai", &["OPENAI_API_KEY"]), ("groq", &["GROQ_API_KEY", "GROQ_KEY"])];

    #[test]
    fn each_key_makes_its_provider_routable() {
        let environment = |name: &str| (name == "GROQ_KEY").then(|| "k".to_owned());
        let root = document(VENDORS, &environment).unwrap();
        let list = root["model_list"].as_array().unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0]["model_name"], "groq/*");
        assert_eq!(list[0]["litellm_params"]["api_key"], "os.environ/GROQ_KEY");
    }

    #[test]
    fn a_seed_of_gossip_needs_no_models() {
        let seed = |name: &str| match name {
            "PILLION_GOSSIP_KEY_FILE" | "PILLION_GOSSIP_SEEDS" => Some("x".to_owned()),
            _ => None,
        };
        let loaded = from_environment(VENDORS, &seed).unwrap();
        assert!(loaded.snapshot.deployments.is_empty());
        assert!(
            from_environment(VENDORS, &|name| seed(name).filter(|_| name.ends_with("SEEDS")))
                .is_none()
        );
    }

    #[test]
    fn no_key_makes_nothing_and_an_empty_one_is_none() {
        assert_eq!(document(VENDORS, &|_| None), None);
        assert_eq!(document(VENDORS, &|_| Some(" ".to_owned())), None);
    }
}
