//! JSON schemas in the subset that Anthropic's structured output takes.
//!
//! Objects must be closed, and keywords for sizes are refused. Such keywords move into the
//! description, where the model still reads them.

use serde_json::{Map, Value};

/// The schema in the subset, or `None` where it asks for an object with open fields.
pub fn closed(schema: &Value) -> Option<Value> {
    match schema {
        Value::Object(map) => object(map).map(Value::Object),
        Value::Array(list) => list.iter().map(closed).collect::<Option<_>>().map(Value::Array),
        other => Some(other.clone()),
    }
}

fn object(map: &Map<String, Value>) -> Option<Map<String, Value>> {
    let is_object =
        map.get("type").is_some_and(|kind| names(kind, "object")) || map.contains_key("properties");
    if is_object && !is_closable(map) {
        return None;
    }
    let mut out = Map::new();
    let mut moved = Vec::new();
    for (name, value) in map {
        match name.as_str() {
            "properties" | "$defs" | "definitions" => {
                let inner = value.as_object()?.iter();
                let inner = inner.map(|(name, value)| Some((name.clone(), closed(value)?)));
                out.insert(name.clone(), Value::Object(inner.collect::<Option<_>>()?));
            }
            "items" | "anyOf" | "allOf" | "oneOf" | "not" => {
                out.insert(name.clone(), closed(value)?);
            }
            "minItems" if value.as_u64().is_some_and(|count| count <= 1) => {
                out.insert(name.clone(), value.clone());
            }
            size if SIZES.contains(&size) => moved.push(format!("{size}: {value}")),
            _ => {
                out.insert(name.clone(), value.clone());
            }
        }
    }
    if is_object {
        out.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if !moved.is_empty() {
        let note = format!("({})", moved.join(", "));
        let text = match out.get("description").and_then(Value::as_str) {
            Some(text) => format!("{text} {note}"),
            None => note,
        };
        out.insert("description".to_owned(), Value::String(text));
    }
    Some(out)
}

/// Whether closing the object takes nothing from it.
fn is_closable(map: &Map<String, Value>) -> bool {
    match map.get("additionalProperties") {
        None => map.get("properties").and_then(Value::as_object).is_some_and(|it| !it.is_empty()),
        Some(value) => value == &Value::Bool(false),
    }
}

fn names(kind: &Value, wanted: &str) -> bool {
    kind.as_str() == Some(wanted)
        || kind.as_array().is_some_and(|list| list.iter().any(|it| it.as_str() == Some(wanted)))
}

/// Keywords that the API refuses.
const SIZES: [&str; 13] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_closed_and_sizes_move_into_the_description() {
        let schema = json!({"type": "object", "properties": {
            "age": {"type": "integer", "minimum": 0, "description": "years"},
            "minimum": {"type": "string"},
        }});
        assert_eq!(
            closed(&schema).unwrap(),
            json!({"type": "object", "properties": {
                "age": {"type": "integer", "description": "years (minimum: 0)"},
                "minimum": {"type": "string"},
            }, "additionalProperties": false})
        );
    }

    #[test]
    fn an_object_with_open_fields_is_not_in_the_subset() {
        assert_eq!(closed(&json!({"type": "object"})), None);
        let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
        assert_eq!(closed(&map), None);
        assert_eq!(closed(&json!({"type": "array", "items": map})), None);
    }
}
