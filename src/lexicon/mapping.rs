//! What a mapping of a YAML document means, whoever reads it: keys are text, the last of two equal
//! ones counts, and merge keys are resolved.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The key that adds the entries of other mappings.
const MERGE: &str = "<<";

/// A mapping on its way in.
#[derive(Debug, Default)]
pub struct Mapping {
    own: Map<String, Value>,
    merged: Vec<Value>,
}

impl Mapping {
    /// Adds an entry.
    pub fn add(&mut self, key: &Value, value: Value) {
        match key_text(key).into_owned() {
            name if name == MERGE => self.merged.push(value),
            name => drop(self.own.insert(name, value)),
        }
    }

    /// What it comes to once all entries are there.
    pub fn finish(self) -> Value {
        let Self { mut own, merged } = self;
        for value in merged {
            merge(&mut own, value);
        }
        Value::Object(own)
    }
}

/// A key that is no string is the text that JSON has for it.
pub fn key_text(key: &Value) -> Cow<'_, str> {
    match key {
        Value::String(text) => text.into(),
        other => other.to_string().into(),
    }
}

/// A merge key adds what is not there; the first of several mappings wins.
fn merge(own: &mut Map<String, Value>, value: Value) {
    match value {
        Value::Object(other) => {
            for (key, value) in other {
                own.entry(key).or_insert(value);
            }
        }
        Value::Array(several) => several.into_iter().for_each(|one| merge(own, one)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(entries: &[(Value, Value)], want: &Value) {
        let mut mapping = Mapping::default();
        for (key, value) in entries {
            mapping.add(key, value.clone());
        }
        assert_eq!(&mapping.finish(), want);
    }

    #[test]
    fn a_mapping_is_its_own_entries_and_what_they_add() {
        check(&[], &json!({}));
        check(&[(json!("a"), json!(1)), (json!("a"), json!(2))], &json!({"a": 2}));
        check(
            &[(json!(1), json!(0)), (json!(true), json!(0)), (json!(null), json!(0))],
            &json!({"1": 0, "true": 0, "null": 0}),
        );
        let several = json!([{"a": 1, "b": 1}, {"b": 2, "c": 2}]);
        check(
            &[(json!("<<"), several), (json!("<<"), json!({"d": 3})), (json!("a"), json!(0))],
            &json!({"a": 0, "b": 1, "c": 2, "d": 3}),
        );
        check(&[(json!("<<"), json!("nothing"))], &json!({}));
    }
}
