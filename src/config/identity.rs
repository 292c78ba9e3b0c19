//! The id of a deployment that has none in `model_info`.
//!
//! As LiteLLM makes it: SHA-256 over the model name and every parameter with its value, variables
//! resolved. So a new key, or any other change of a parameter, is another id, and sidecars with
//! different keys do not agree on ids; `model_info.id` settles it. No key can be read back from it.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::source::hex;

/// The id.
pub(super) fn of(model_name: &str, params: &Map<String, Value>) -> String {
    let mut hash = Sha256::new();
    hash.update(model_name);
    for (name, value) in params {
        hash.update(name);
        hash.update(spelled(value));
    }
    hex(&hash.finalize())
}

/// As Python spells the value: strings bare, mappings as JSON, the rest by `str()`.
fn spelled(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => json(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => repr(value),
    }
}

fn json(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), json(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(json).collect();
            format!("[{}]", items.join(", "))
        }
        // Python escapes what is not ASCII.
        Value::String(_) => value.to_string().chars().fold(String::new(), |mut text, c| {
            if c.is_ascii() {
                text.push(c);
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            text
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("'{text}'"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let fields: Vec<String> =
                map.iter().map(|(key, value)| format!("'{key}': {}", repr(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_changes_with_any_parameter_and_with_nothing_else() {
        let params = |json: &str| serde_json::from_str::<Map<String, Value>>(json).unwrap();
        let one = of("a", &params(r#"{"model":"openai/x","api_key":"sk-1"}"#));
        assert_eq!(one, of("a", &params(r#"{"model":"openai/x","api_key":"sk-1"}"#)));
        assert_ne!(one, of("a", &params(r#"{"model":"openai/x","api_key":"sk-2"}"#)));
        assert_ne!(one, of("b", &params(r#"{"model":"openai/x","api_key":"sk-1"}"#)));
        assert_eq!(one.len(), 64);
        assert!(!one.contains("sk-1"));
    }

    #[test]
    fn values_are_spelled_as_python_spells_them() {
        let check = |json: &str, want: &str| {
            assert_eq!(spelled(&serde_json::from_str(json).unwrap()), want, "{json}");
        };
        check("true", "True");
        check("null", "None");
        check("0.5", "0.5");
        check(r#"["a", 1, false]"#, "['a', 1, False]");
        check(r#"{"a":[1,"é"],"b":true}"#, r#"{"a": [1, "\u00e9"], "b": true}"#);
    }
}
