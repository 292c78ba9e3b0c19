//! Taking back what was added, by what the status annotation says of it.

use json_patch::PatchOperation;
use serde_json::Value;

use super::application::{Place, entry, with_loopback};
use super::edit::Edit;
use super::field;
use super::status::{ANNOTATION, Status};
use super::{INJECTED, pod};

/// What takes the sidecar out of a pod again; nothing where none was put in.
pub fn undo(pod: &Value) -> Vec<PatchOperation> {
    let Some(status) = Status::of(pod) else { return Vec::new() };
    let mut edit = Edit::of(pod);
    for list in ["initContainers", "containers"] {
        let is_ours = |it: &Value| pod::name(it) == status.container;
        if let Some(at) = pod::list(edit.pod(), list).iter().position(is_ours) {
            edit.take(&["spec", list], at);
        }
    }
    for volume in &status.volumes {
        let volumes = pod::list(edit.pod(), "volumes");
        if let Some(at) = volumes.iter().position(|it| pod::name(it) == volume) {
            edit.take(&["spec", "volumes"], at);
        }
    }
    for list in ["initContainers", "containers"] {
        for at in 0..pod::list(edit.pod(), list).len() {
            strip(&mut edit, Place { list, at }, &status);
        }
    }
    edit.unset(&["metadata", "labels"], INJECTED);
    if status.default_container {
        edit.unset(&["metadata", "annotations"], "kubectl.kubernetes.io/default-container");
    }
    edit.unset(&["metadata", "annotations"], ANNOTATION);
    edit.into_operations()
}

/// Takes one container's variables back.
fn strip(edit: &mut Edit, place: Place, status: &Status) {
    let at = place.at.to_string();
    let path = ["spec", place.list, &at, "env"];
    let name = pod::name(place.container(edit.pod())).to_owned();
    let listed = |map: &serde_json::Map<String, Value>| {
        map.get(&name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    // From the end, in the opposite order of adding.
    for variable in listed(&status.env).iter().rev().filter_map(Value::as_str) {
        if let Some((at, _)) = entry(place.container(edit.pod()), variable) {
            edit.take(&path, at);
        }
    }
    for before in listed(&status.replaced) {
        let there = entry(place.container(edit.pod()), pod::name(&before));
        let Some((at, now)) = there else { continue };
        let is_a_list = pod::name(&before).eq_ignore_ascii_case("no_proxy");
        let ours = field(&before, "/value").as_str().and_then(with_loopback);
        // Somebody has changed it since: it is theirs.
        if is_a_list && field(now, "/value").as_str() != ours.as_deref() {
            continue;
        }
        edit.replace(&[&path[..], &[&at.to_string()]].concat(), before);
    }
}
