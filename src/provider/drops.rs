//! What is left out of a request: `drop_params`, `allowed_openai_params`, and
//! `additional_drop_params`, which also lead to deep fields.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Deployment;
use crate::protocol::{Call, Edits};

/// Whether fields that the provider does not take may be left out rather than refused.
pub(super) fn may_drop(call: &Call, to: &Deployment) -> bool {
    call.wishes.drop_params.unwrap_or(to.drop_params)
}

/// Fields that are sent though the provider is said not to take them.
pub(super) fn allowed<'a>(
    call: &'a Call,
    to: &'a Deployment,
) -> impl Iterator<Item = &'a Box<str>> {
    to.allowed_openai_params.iter().chain(&call.wishes.allowed_openai_params)
}

/// What the deployment and the request drop: a field's name, or a path such as
/// `response_format.strict` or `tools[*].function.strict`.
fn paths<'a>(call: &'a Call, to: &'a Deployment) -> impl Iterator<Item = &'a Box<str>> {
    to.additional_drop_params.iter().chain(&call.wishes.additional_drop_params)
}

/// Takes the drops out of a body that was parsed.
pub(super) fn take_out(body: &mut Map<String, Value>, call: &Call, to: &Deployment) {
    for path in paths(call, to) {
        match path.split_once(['.', '[']) {
            None => {
                body.shift_remove(&**path);
            }
            Some((field, _)) => {
                if let Some(value) = body.get_mut(field) {
                    remove(value, path.get(field.len()..).unwrap_or_default());
                }
            }
        }
    }
}

/// Notes the drops for a body that is spliced.
pub(super) fn additional(call: &Call, to: &Deployment, edits: &mut Edits) {
    for path in paths(call, to) {
        match path.split_once(['.', '[']) {
            None => edits.drop(path.to_string()),
            Some((field, _)) => {
                let rest = path.get(field.len()..).unwrap_or_default();
                let value = call.fields.parse::<Value>(&call.body, field);
                if let Some(mut value) = value {
                    remove(&mut value, rest);
                    edits.set(field.to_owned(), Bytes::from(value.to_string()));
                }
            }
        }
    }
}

/// Removes what `path` leads to, such as `.a[*].b`; a path that leads nowhere removes nothing.
fn remove(value: &mut Value, path: &str) {
    if let Some(rest) = path.strip_prefix('.') {
        let (name, rest) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
        let Some(object) = value.as_object_mut() else { return };
        if rest.is_empty() {
            object.shift_remove(name);
        } else if let Some(inner) = object.get_mut(name) {
            remove(inner, rest);
        }
    } else if let Some((index, rest)) = path.strip_prefix('[').and_then(|rest| rest.split_once(']'))
    {
        let Some(list) = value.as_array_mut() else { return };
        if index == "*" {
            for item in list {
                remove(item, rest);
            }
        } else if let Some(item) = index.parse::<usize>().ok().and_then(|at| list.get_mut(at)) {
            remove(item, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_into_objects_and_lists() {
        let mut tools = serde_json::json!([{"f": {"strict": true, "x": 1}}, {"f": {}}, 3]);
        remove(&mut tools, "[*].f.strict");
        assert_eq!(tools, serde_json::json!([{"f": {"x": 1}}, {"f": {}}, 3]));
        remove(&mut tools, "[0].f");
        assert_eq!(tools[0], serde_json::json!({}));
        remove(&mut tools, "nonsense");
        remove(&mut tools, "[9].a");
    }
}
