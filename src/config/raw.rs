//! YAML text to plain values, with the leniency that LiteLLM's own reader has.
//!
//! The only file that names `serde_yaml`. Anchors and merge keys are resolved, tags are ignored,
//! the last of two equal keys wins, and keys that are no strings become strings. What a value
//! means is not decided here.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::{Number, Value};

use crate::lexicon::mapping::Mapping;

/// Why a text is not YAML, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotYaml {
    /// What the reader says, without the place.
    pub what: String,
    /// Line and column, counted from 1; zeros where unknown.
    pub place: (usize, usize),
}

/// Reads one document.
pub(super) fn read(text: &str) -> Result<Value, NotYaml> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match serde_yaml::from_str::<Node>(text) {
        Ok(Node(value)) => Ok(value),
        Err(error) => {
            let place = error.location().map_or((0, 0), |at| (at.line(), at.column()));
            let said = error.to_string();
            let what = said.split(" at line ").next().unwrap_or(&said).to_owned();
            Err(NotYaml { what, place })
        }
    }
}

/// Writes one document.
pub(super) fn write(value: &Value) -> Option<String> {
    serde_yaml::to_string(value).ok()
}

/// A value on its way in.
struct Node(Value);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Build).map(Node)
    }
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // JSON has no infinity; the text keeps what was written for the message about it.
        Ok(Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Node(item)) = from.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut mapping = Mapping::default();
        while let Some((Node(key), Node(value))) = from.next_entry()? {
            mapping.add(&key, value);
        }
        Ok(mapping.finish())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<Value, A::Error> {
        let (_tag, content): (Node, _) = from.variant()?;
        content.newtype_variant::<Node>().map(|node| node.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(yaml: &str, json: &str) {
        let want: Value = serde_json::from_str(json).unwrap();
        assert_eq!(read(yaml).unwrap(), want, "{yaml}");
    }

    #[test]
    fn yaml_reads_as_litellm_reads_it() {
        check("a: 1\nb: [x, 2.5, true, null, ~]", r#"{"a":1,"b":["x",2.5,true,null,null]}"#);
        check("a: 1\r\nb:\r\n  - c\r\n", r#"{"a":1,"b":["c"]}"#);
        check("a: 1\na: 2", r#"{"a":2}"#);
        check("1: x\ntrue: y", r#"{"1":"x","true":"y"}"#);
        check("a: !python/name:x 5", r#"{"a":5}"#);
        check("\u{feff}a: 1", r#"{"a":1}"#);
        check("", "null");
        check("a: .inf", r#"{"a":"inf"}"#);
    }

    #[test]
    fn merge_keys_add_what_is_absent_and_the_first_wins() {
        check("b: &b {x: 1, y: 2}\na: {<<: *b, y: 3}", r#"{"b":{"x":1,"y":2},"a":{"y":3,"x":1}}"#);
        check("a:\n  <<: [{x: 1}, {x: 2, z: 4}]\n  <<: {w: 5}\n", r#"{"a":{"x":1,"z":4,"w":5}}"#);
    }

    #[test]
    fn a_syntax_error_keeps_its_place() {
        let error = read("a:\n  - b\n c: [").unwrap_err();
        assert!(error.place.0 >= 2, "{error:?}");
        assert!(!error.what.contains("line"), "{error:?}");
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let value = read("a: ['1', 1, 'true', null, {b: 0.000002}]").unwrap();
        assert_eq!(read(&write(&value).unwrap()).unwrap(), value);
    }
}
