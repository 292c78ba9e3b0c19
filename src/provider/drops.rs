//! `additional_drop_params`: fields to leave out in any case, also deep ones.

use bytes::Bytes;
use serde_json::Value;

use super::Deployment;
use crate::protocol::{Call, Edits};

/// Notes the drops of the deployment and of the request: a field's name, or a path such as
/// `response_format.strict` or `tools[*].function.strict`.
pub(super) fn additional(call: &Call, to: &Deployment, edits: &mut Edits) {
    for path in to.additional_drop_params.iter().chain(&call.wishes.additional_drop_params) {
        match path.split_once(['.', '[']) {
            None => edits.drop(path),
            Some((field, _)) => {
                let rest = path.get(field.len()..).unwrap_or_default();
                let value = call.fields.parse::<Value>(&call.body, field);
                if let Some(mut value) = value {
                    remove(&mut value, rest);
                    edits.set(field, Bytes::from(value.to_string()));
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
            object.remove(name);
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
