//! References to the environment: `os.environ/NAME` anywhere in a document.
//!
//! The only file that reads environment variables. `environment_variables` of the document lies
//! over the environment of the process, for this load alone: nothing is exported. A missing
//! variable becomes null, as in LiteLLM; who reads the field decides how bad that is.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Value};

use super::locate::{child, item};
use crate::provider::Environment;

/// What a reference begins with.
pub(super) const PREFIX: &str = "os.environ/";

/// Asks the environment of the process; `None` where a variable is not set or not UTF-8.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The environment with `environment_variables` of the document over it.
pub(super) struct Overlay<'a> {
    added: HashMap<String, String>,
    below: Environment<'a>,
}

impl fmt::Debug for Overlay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").field("added", &self.added.len()).finish_non_exhaustive()
    }
}

impl<'a> Overlay<'a> {
    /// Takes the variables of `root`; those that refer to others are resolved from below.
    pub(super) fn of(root: &Map<String, Value>, below: Environment<'a>) -> Self {
        let mut added = HashMap::new();
        if let Some(Value::Object(variables)) = root.get("environment_variables") {
            for (name, value) in variables {
                let text = match value {
                    Value::String(text) => match text.strip_prefix(PREFIX) {
                        Some(other) => below(other),
                        None => Some(text.clone()),
                    },
                    Value::Bool(true) => Some("True".to_owned()),
                    Value::Bool(false) => Some("False".to_owned()),
                    Value::Number(number) => Some(number.to_string()),
                    Value::Null | Value::Array(_) | Value::Object(_) => None,
                };
                if let Some(text) = text {
                    added.insert(name.clone(), text);
                }
            }
        }
        Self { added, below }
    }

    /// The value of a variable.
    pub(super) fn ask(&self, name: &str) -> Option<String> {
        self.added.get(name).cloned().or_else(|| (self.below)(name))
    }
}

/// Which fields of a document came from which variable.
#[derive(Debug, Default)]
pub(super) struct Origins {
    variables: HashMap<String, String>,
}

impl Origins {
    /// The variable that the field was read from, set or not.
    pub(super) fn variable(&self, path: &str) -> Option<&str> {
        self.variables.get(path).map(String::as_str)
    }
}

/// Replaces every reference below `root`.
pub(super) fn resolve(root: &mut Map<String, Value>, overlay: &Overlay<'_>) -> Origins {
    let mut origins = Origins::default();
    for (key, value) in root.iter_mut() {
        walk(value, child("", key), overlay, &mut origins);
    }
    origins
}

// As deep as the YAML reader lets a document be, which bounds the recursion.
fn walk(value: &mut Value, path: String, overlay: &Overlay<'_>, origins: &mut Origins) {
    match value {
        Value::String(text) => {
            let Some(name) = text.strip_prefix(PREFIX) else { return };
            let name = name.to_owned();
            *value = overlay.ask(&name).map_or(Value::Null, typed);
            origins.variables.insert(path, name);
        }
        Value::Array(items) => {
            for (at, value) in items.iter_mut().enumerate() {
                walk(value, item(&path, at), overlay, origins);
            }
        }
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                walk(value, child(&path, key), overlay, origins);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn typed(text: String) -> Value {
    if text.eq_ignore_ascii_case("true") {
        Value::Bool(true)
    } else if text.eq_ignore_ascii_case("false") {
        Value::Bool(false)
    } else {
        Value::String(text)
    }
}

/// The variable that a text in shell style names: `${NAME}`, `${NAME:-default}`.
pub(super) fn shell_variable(text: &str) -> Option<&str> {
    let inner = text.split_once("${")?.1.split_once('}')?.0;
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    inner.get(..end).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("sk-1".to_owned()),
            "YES" => Some("True".to_owned()),
            _ => None,
        }
    }

    #[track_caller]
    fn check(before: &str, after: &str) {
        let mut root = serde_json::from_str(before).unwrap();
        let overlay = Overlay::of(&root, &environment);
        resolve(&mut root, &overlay);
        assert_eq!(root, serde_json::from_str(after).unwrap(), "{before}");
    }

    #[test]
    fn a_reference_becomes_the_value_of_its_variable() {
        check(r#"{"a":"os.environ/KEY"}"#, r#"{"a":"sk-1"}"#);
        check(r#"{"a":{"b":[{"c":"os.environ/KEY"}]}}"#, r#"{"a":{"b":[{"c":"sk-1"}]}}"#);
        check(r#"{"a":["os.environ/KEY"]}"#, r#"{"a":["sk-1"]}"#);
        check(r#"{"a":"os.environ/YES"}"#, r#"{"a":true}"#);
        check(r#"{"a":"os.environ/MISSING"}"#, r#"{"a":null}"#);
        check(r#"{"a":"see os.environ/KEY"}"#, r#"{"a":"see os.environ/KEY"}"#);
    }

    #[test]
    fn variables_of_the_document_lie_over_the_environment() {
        check(
            r#"{"environment_variables":{"KEY":"mine","N":5},"a":"os.environ/KEY","n":"os.environ/N"}"#,
            r#"{"environment_variables":{"KEY":"mine","N":5},"a":"mine","n":"5"}"#,
        );
        check(
            r#"{"environment_variables":{"OTHER":"os.environ/KEY"},"a":"os.environ/OTHER"}"#,
            r#"{"environment_variables":{"OTHER":"sk-1"},"a":"sk-1"}"#,
        );
    }

    #[test]
    fn the_variable_of_a_field_is_remembered() {
        let mut root = serde_json::from_str(r#"{"a":[{"b":"os.environ/MISSING"}]}"#).unwrap();
        let origins = resolve(&mut root, &Overlay::of(&Map::new(), &environment));
        assert_eq!(origins.variable("a[0].b"), Some("MISSING"));
        assert_eq!(origins.variable("a[0]"), None);
    }

    #[test]
    fn shell_style_is_recognised_and_nothing_else() {
        assert_eq!(shell_variable("${A_1}"), Some("A_1"));
        assert_eq!(shell_variable("x${KEY:-sk-1}"), Some("KEY"));
        assert_eq!(shell_variable("${}"), None);
        assert_eq!(shell_variable("$KEY"), None);
    }
}
