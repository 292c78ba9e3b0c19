//! Values as YAML text: in lines of their own, or between brackets on one line.

use std::fmt::Write as _;

use serde_json::Value;

use super::node::resolve;

/// How far lists stand to the right of their key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// Two columns.
    Indented,
    /// Not at all.
    Level,
}

/// A whole document.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0, Lists::Indented);
    text
}

/// A member of a mapping that stands at a column: its lines, each with its end.
pub(super) fn member(name: &str, value: &Value, column: usize, lists: Lists) -> String {
    let mut text = " ".repeat(column);
    entry(&mut text, name, value, column, lists);
    text
}

/// An item of a list whose dashes stand at a column.
pub(super) fn item(value: &Value, column: usize, lists: Lists) -> String {
    let mut text = " ".repeat(column);
    dash(&mut text, value, column, lists);
    text
}

/// On one line, as JSON, which is YAML too.
pub(super) fn inline(value: &Value) -> String {
    value.to_string()
}

/// A text, quoted where it must be.
pub(super) fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:-$()@".contains(c);
    let first = |c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_';
    // Readers differ about what else begins with a digit, such as 1_000 and 12:30.
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_safe = unit.len() == text.len() || matches!(unit, "m" | "Ki" | "Mi" | "Gi");
    let is_plain = text.starts_with(first)
        && text.chars().all(plain)
        && !text.ends_with(':')
        && is_safe
        && !matches!(text.as_str(), "y" | "Y" | "n" | "N")
        && resolve(text).is_string();
    if is_plain {
        return text.clone();
    }
    let is_quotable = text.chars().all(|c| c != '\'' && !c.is_control());
    if text.contains('"') && is_quotable { format!("'{text}'") } else { value.to_string() }
}

fn block(text: &mut String, value: &Value, column: usize, lists: Lists) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (at, (name, value)) in map.iter().enumerate() {
                if at > 0 || column == 0 {
                    text.push_str(&" ".repeat(column));
                }
                entry(text, name, value, column, lists);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, value) in items.iter().enumerate() {
                if at > 0 || column == 0 {
                    text.push_str(&" ".repeat(column));
                }
                dash(text, value, column, lists);
            }
        }
        other => {
            let _ = writeln!(text, "{}", scalar(other));
        }
    }
}

/// `name: value`, from where the text stands.
fn entry(text: &mut String, name: &str, value: &Value, column: usize, lists: Lists) {
    let name = scalar(&name.into());
    match value {
        Value::Object(map) if !map.is_empty() => {
            let _ = write!(text, "{name}:\n{}", " ".repeat(column + 2));
            block(text, value, column + 2, lists);
        }
        Value::Array(items) if !items.is_empty() => {
            let column = if lists == Lists::Level { column } else { column + 2 };
            let _ = write!(text, "{name}:\n{}", " ".repeat(column));
            for (at, value) in items.iter().enumerate() {
                if at > 0 {
                    text.push_str(&" ".repeat(column));
                }
                dash(text, value, column, lists);
            }
        }
        other => {
            let _ = writeln!(text, "{name}: {}", scalar(other));
        }
    }
}

/// `- value`, from where the text stands.
fn dash(text: &mut String, value: &Value, column: usize, lists: Lists) {
    text.push_str("- ");
    block(text, value, column + 2, lists);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::super::node;
    use super::*;

    #[test]
    fn it_reads_like_people_write_it() {
        let value = json!({"a": [{"b": 1, "c": ["x", {"d": {}}]}], "e": {"f": "yes", "g": []}});
        let want = "a:\n  - b: 1\n    c:\n      - x\n      - d: {}\ne:\n  f: \"yes\"\n  g: []\n";
        assert_eq!(document(&value), want);
        let level = member("a", &value["a"], 2, Lists::Level);
        assert_eq!(level, "  a:\n  - b: 1\n    c:\n    - x\n    - d: {}\n");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[ -~]{0,12}",
            prop::sample::select(vec![
                "yes",
                "null",
                "1e3",
                "0x1",
                "'",
                "\"",
                "- a",
                "a: b",
                "a:",
                "#",
                " a",
                "a ",
                "\n",
                "é",
                "0o7",
                "08",
                ".5",
                "~",
                "\\",
                "@a",
                "{\"a\":1}",
                "http://127.0.0.1:1/v1",
                "$(A):1",
                "\t",
            ])
            .prop_map(str::to_owned),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..4).prop_map(|entries| {
                    let entries = entries.into_iter().filter(|(key, _)| key != "<<");
                    Value::Object(entries.collect::<Map<_, _>>())
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_reads_back_the_same(value in any_value()) {
            let text = document(&value);
            let read = node::read(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(read.map_or(Value::Null, |node| node.value()), value.clone(), "{}", text);
            let nested = json!({"a": [value]});
            for lists in [Lists::Level, Lists::Indented] {
                let text = member("a", &nested["a"], 0, lists);
                let read = node::read(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
                prop_assert_eq!(&read.unwrap().value(), &nested, "{}", text);
            }
        }
    }
}
