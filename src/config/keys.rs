//! A configuration out of nothing but provider keys in the environment.

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

#[cfg(test)]
mod tests {
    use super::*;

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
