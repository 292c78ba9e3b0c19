//! A pod that is being changed, and the RFC 6902 operations that say how.
//!
//! Each operation is applied to a copy at once, so that the next one sees its effect: positions
//! in lists are right by construction.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Map, Value};

/// The copy and what was done to it.
#[derive(Debug)]
pub(super) struct Edit {
    pod: Value,
    operations: Vec<PatchOperation>,
}

impl Edit {
    pub(super) fn of(pod: &Value) -> Self {
        Self { pod: pod.clone(), operations: Vec::new() }
    }

    /// The pod as it is now.
    pub(super) const fn pod(&self) -> &Value {
        &self.pod
    }

    pub(super) fn is_untouched(&self) -> bool {
        self.operations.is_empty()
    }

    pub(super) fn into_operations(self) -> Vec<PatchOperation> {
        self.operations
    }

    /// Adds a member, or an item before the one at its position.
    pub(super) fn add(&mut self, path: &[&str], value: Value) {
        let path = pointer(path);
        self.apply(PatchOperation::Add(AddOperation { path, value }));
    }

    /// Adds an item at the end of a list, which is made where it is not there.
    pub(super) fn push(&mut self, path: &[&str], value: Value) {
        let list = self.pod.pointer(&pointer(path).to_string());
        match list.and_then(Value::as_array).map(Vec::len) {
            Some(_) => self.add(&[path, &["-"]].concat(), value),
            None => self.add(path, Value::Array(vec![value])),
        }
    }

    /// Adds an item at a position of a list, which is made where it is not there.
    pub(super) fn insert(&mut self, path: &[&str], at: usize, value: Value) {
        let list = self.pod.pointer(&pointer(path).to_string());
        match list.and_then(Value::as_array) {
            Some(_) => self.add(&[path, &[&at.to_string()]].concat(), value),
            None => self.add(path, Value::Array(vec![value])),
        }
    }

    /// Sets a member of a mapping, which is made where it is not there.
    pub(super) fn set(&mut self, path: &[&str], name: &str, value: Value) {
        let mapping = self.pod.pointer(&pointer(path).to_string());
        match mapping.and_then(Value::as_object).map(|mapping| mapping.get(name)) {
            Some(Some(there)) if *there == value => {}
            Some(Some(_)) => self.replace(&[path, &[name]].concat(), value),
            Some(None) => self.add(&[path, &[name]].concat(), value),
            None => {
                let mapping = Value::Object(Map::from_iter([(name.to_owned(), value)]));
                match path.split_last() {
                    Some((last, before)) if !before.is_empty() => self.set(before, last, mapping),
                    Some(_) | None => self.add(path, mapping),
                }
            }
        }
    }

    pub(super) fn replace(&mut self, path: &[&str], value: Value) {
        let path = pointer(path);
        self.apply(PatchOperation::Replace(ReplaceOperation { path, value }));
    }

    pub(super) fn remove(&mut self, path: &[&str]) {
        let path = pointer(path);
        self.apply(PatchOperation::Remove(RemoveOperation { path }));
    }

    /// Takes an item out of a list, and the list with its last item.
    pub(super) fn take(&mut self, path: &[&str], at: usize) {
        let list = self.pod.pointer(&pointer(path).to_string());
        match list.and_then(Value::as_array).map(Vec::len) {
            Some(1) => self.remove(path),
            Some(_) => self.remove(&[path, &[&at.to_string()]].concat()),
            None => {}
        }
    }

    /// Takes a member out of a mapping, and the mapping with its last member.
    pub(super) fn unset(&mut self, path: &[&str], name: &str) {
        let mapping = self.pod.pointer(&pointer(path).to_string());
        let Some(mapping) = mapping.and_then(Value::as_object) else { return };
        match (mapping.contains_key(name), mapping.len()) {
            (false, _) => {}
            (true, 1) => match path.split_last() {
                Some((last, before)) if !before.is_empty() => self.unset(before, last),
                Some(_) | None => self.remove(path),
            },
            (true, _) => self.remove(&[path, &[name]].concat()),
        }
    }

    fn apply(&mut self, operation: PatchOperation) {
        // What does not fit the copy would not fit the pod either, and is left out. Callers look
        // at the copy first, so this does not come to pass.
        let one = std::slice::from_ref(&operation);
        if json_patch::patch(&mut self.pod, one).is_ok() {
            self.operations.push(operation);
        } else {
            debug_assert!(false, "{operation} does not fit");
        }
    }
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_operation_sees_those_before_it() {
        let mut edit = Edit::of(&json!({"a": [1], "b": null}));
        edit.insert(&["a"], 0, json!(0));
        edit.push(&["a"], json!(2));
        edit.push(&["b"], json!("x"));
        edit.set(&["c"], "d/e", json!(1));
        edit.set(&["c"], "d/e", json!(1));
        edit.set(&["c"], "d/e", json!(2));
        edit.set(&["f", "g"], "h", json!(1));
        let want = json!({"a": [0, 1, 2], "b": ["x"], "c": {"d/e": 2}, "f": {"g": {"h": 1}}});
        assert_eq!(*edit.pod(), want);
        let operations = edit.into_operations();
        assert_eq!(operations.len(), 6);
        let mut pod = json!({"a": [1], "b": null});
        json_patch::patch(&mut pod, &operations).unwrap();
        assert_eq!(pod, want);
    }

    #[test]
    fn what_held_only_our_own_goes_with_it() {
        let mut edit = Edit::of(&json!({"a": [1, 2], "c": {"d": 1}, "e": {"f": 1, "g": 2}}));
        edit.take(&["a"], 0);
        edit.take(&["a"], 0);
        edit.unset(&["c"], "d");
        edit.unset(&["e"], "f");
        edit.unset(&["e"], "nothing");
        assert_eq!(*edit.pod(), json!({"e": {"g": 2}}));
    }
}
