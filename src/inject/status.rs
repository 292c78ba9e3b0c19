//! What the injector did to a pod, as it writes it into the pod's annotation: for people, for a
//! second pass, and for taking it back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::field;
use super::pod;

/// The annotation that holds it.
pub(super) const ANNOTATION: &str = "pillion.dev/status";

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) mode: String,
    pub(super) container: String,
    /// The volumes that were added.
    pub(super) volumes: Vec<String>,
    /// The variables that were added, per container.
    pub(super) env: Map<String, Value>,
    /// Variables as they were before they were changed, per container.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) replaced: Map<String, Value>,
    /// Whether the annotation with the default container is ours.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) default_container: bool,
    /// Of the settings and annotations it was done by.
    pub(super) hash: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Status {
    /// What the pod says of an earlier pass.
    pub(super) fn of(pod: &Value) -> Option<Self> {
        let text = pod::annotations(pod)?.get(ANNOTATION)?.as_str()?;
        serde_json::from_str(text).ok()
    }

    pub(super) fn added(&mut self, container: &str, variable: &str) {
        push(&mut self.env, container, variable.into());
    }

    /// A variable as it was before.
    pub(super) fn replaced(&mut self, container: &str, before: Value) {
        let env = self.env.get(container).and_then(Value::as_array);
        let is_ours = env.is_some_and(|env| env.contains(field(&before, "/name")));
        let list = self.replaced.get(container).and_then(Value::as_array);
        let is_known = list.is_some_and(|list| {
            list.iter().any(|it| field(it, "/name") == field(&before, "/name"))
        });
        // What counts is how it was before us.
        if !is_ours && !is_known {
            push(&mut self.replaced, container, before);
        }
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn push(map: &mut Map<String, Value>, key: &str, value: Value) {
    let list = map.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}
