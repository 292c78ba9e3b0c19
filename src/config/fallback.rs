//! Fallback lists in the three forms that LiteLLM reads.
//!
//! `[{group: [model, …]}, …]` is the usual one. A list of names, or of request fields with a
//! `model`, holds for every group and every failure: it stands here under `*`.

use bytes::Bytes;
use serde_json::Value;

use super::cursor::Cursor;
use super::known::PARAMS;
use crate::lexicon::Substitute;

/// Which models stand in for which group.
pub(super) type Fallbacks = Vec<(Box<str>, Vec<Substitute>)>;

/// Reads a whole fallback setting.
pub(super) fn read(list: &Cursor<'_>) -> Fallbacks {
    let items = list.items();
    if is_for_all(&items) {
        let all = items.iter().filter_map(substitute).collect();
        return vec![("*".into(), all)];
    }
    let mut fallbacks = Vec::new();
    for item in items {
        if item.value.is_object() {
            for (group, targets) in item.fields() {
                fallbacks.push((group.into(), substitutes(&targets)));
            }
        } else {
            let hint = Some("write `- group: [model, …]`".to_owned());
            item.error("expected a mapping from a model group to a list of models", hint);
        }
    }
    fallbacks
}

/// Reads a list of models.
pub(super) fn substitutes(list: &Cursor<'_>) -> Vec<Substitute> {
    if let Value::String(one) = list.value {
        list.warn("expected a list of models; LiteLLM would read its letters", None);
        return vec![Substitute::model(one.as_str())];
    }
    list.items().iter().filter_map(substitute).collect()
}

/// LiteLLM's test for the forms that hold for every group.
fn is_for_all(items: &[Cursor<'_>]) -> bool {
    let names = items.iter().all(|item| item.value.is_string());
    let mappings = items.iter().all(|item| item.value.is_object());
    let request = items.iter().any(|item| {
        let Value::Object(map) = item.value else { return false };
        map.iter().any(|(key, value)| {
            !value.is_array() && (PARAMS.standing(key).is_some() || key == "messages")
        })
    });
    !items.is_empty() && (names || (mappings && request))
}

fn substitute(item: &Cursor<'_>) -> Option<Substitute> {
    match item.value {
        Value::String(name) => Some(Substitute::model(name.as_str())),
        Value::Object(fields) => {
            let Some(model) = item.get("model").full_text() else {
                item.error("a fallback needs a `model`", None);
                return None;
            };
            let fields = fields
                .iter()
                .filter(|(name, _)| name.as_str() != "model")
                .map(|(name, value)| (name.as_str().into(), Bytes::from(value.to_string())))
                .collect();
            Some(Substitute { model, fields })
        }
        other => item.expected("the name of a model group", other),
    }
}
