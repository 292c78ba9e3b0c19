//! What a pod says of itself: where its parts are, who made it, whether it is meant to end.

use std::fmt;

use serde_json::{Map, Value};

/// What stands at a pointer of RFC 6901; null where nothing does.
pub fn field<'a>(of: &'a Value, pointer: &str) -> &'a Value {
    of.pointer(pointer).unwrap_or(&Value::Null)
}

/// The version of a cluster's API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second one.
    pub minor: u32,
}

impl Version {
    /// The first in which native sidecars are there for good.
    pub const NATIVE: Self = Self { major: 1, minor: 33 };

    /// Reads `v1.33.2`, `1.33` or `1.33+`.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.trim().trim_start_matches('v').split('.');
        let mut number = || {
            let part = parts.next()?;
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part.get(..digits)?.parse().ok()
        };
        Some(Self { major: number()?, minor: number()? })
    }
}

/// What makes the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl Workload {
    /// Of a pod that exists: its controller, where that is known by the pod alone.
    pub fn of(pod: &Value) -> Self {
        let metadata = field(pod, "/metadata");
        let owners = field(metadata, "/ownerReferences").as_array().map_or(&[][..], Vec::as_slice);
        let controller = owners.iter().find(|owner| field(owner, "/controller") == true);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let Some(owner) = controller.or(owners.first()) else {
            let name = field(metadata, "/name")
                .as_str()
                .or_else(|| field(metadata, "/generateName").as_str());
            let name = name.unwrap_or_default().trim_end_matches('-').to_owned();
            return Self { kind: "Pod".to_owned(), name };
        };
        let (kind, name) = (text(field(owner, "/kind")), text(field(owner, "/name")));
        let hash = field(metadata, "/labels/pod-template-hash").as_str().unwrap_or_default();
        match name.strip_suffix(hash).and_then(|name| name.strip_suffix('-')) {
            Some(name) if kind == "ReplicaSet" && !hash.is_empty() => {
                Self { kind: "Deployment".to_owned(), name: name.to_owned() }
            }
            Some(_) | None => Self { kind, name },
        }
    }
}

/// Whether the pod ends by itself one day, and a plain container beside it must not keep it.
pub(super) fn is_meant_to_end(pod: &Value, workload: &Workload) -> bool {
    let restart = field(pod, "/spec/restartPolicy").as_str().unwrap_or("Always");
    restart != "Always" || matches!(&*workload.kind, "Job" | "CronJob")
}

/// How long the pod may take to end.
pub(super) fn grace(pod: &Value) -> u64 {
    field(pod, "/spec/terminationGracePeriodSeconds").as_u64().unwrap_or(30)
}

pub(super) fn is_windows(pod: &Value) -> bool {
    let spec = field(pod, "/spec");
    field(spec, "/os/name") == "windows"
        || field(spec, "/nodeSelector/kubernetes.io~1os") == "windows"
}

pub(super) fn annotations(pod: &Value) -> Option<&Map<String, Value>> {
    field(pod, "/metadata/annotations").as_object()
}

/// The list of containers or init containers.
pub(super) fn list<'a>(pod: &'a Value, name: &str) -> &'a [Value] {
    field(pod, "/spec").get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The name of a container or a volume.
pub(super) fn name(of: &Value) -> &str {
    field(of, "/name").as_str().unwrap_or_default()
}

/// Containers of other sidecars and meshes, which neither ask models nor may have our variables.
const KNOWN: [&str; 20] = [
    "aws-appmesh-envoy",
    "cloud-sql-proxy",
    "cloudsql-proxy",
    "consul-connect-inject-init",
    "consul-dataplane",
    "daprd",
    "envoy-sidecar",
    "istio-init",
    "istio-proxy",
    "istio-validation",
    "kuma-init",
    "kuma-sidecar",
    "kuma-validation",
    "linkerd-debug",
    "linkerd-init",
    "linkerd-network-validator",
    "linkerd-proxy",
    "queue-proxy",
    "vault-agent",
    "vault-agent-init",
];

pub(super) fn is_known_sidecar(container: &Value) -> bool {
    KNOWN.contains(&name(container))
}

/// Those of a mesh, behind which our own traffic must start.
pub(super) fn is_of_mesh(container: &Value) -> bool {
    let meshes = ["consul-", "istio-", "kuma-", "linkerd-"];
    is_known_sidecar(container) && meshes.iter().any(|mesh| name(container).starts_with(mesh))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_read_as_api_servers_say_them() {
        for (text, want) in [
            ("v1.33.2", Some((1, 33))),
            ("1.33+", Some((1, 33))),
            ("v1.31.4-gke.100", Some((1, 31))),
            ("2.0", Some((2, 0))),
            ("1", None),
            ("", None),
            ("new", None),
        ] {
            let read = Version::read(text).map(|it| (it.major, it.minor));
            assert_eq!(read, want, "{text}");
        }
        assert!(Version::read("1.32").unwrap() < Version::NATIVE);
    }

    #[test]
    fn the_workload_is_told_by_the_owner() {
        let owner =
            |kind: &str, name: &str| json!([{"kind": kind, "name": name, "controller": true}]);
        for (metadata, want) in [
            (json!({"name": "a"}), "Pod/a"),
            (json!({"generateName": "a-"}), "Pod/a"),
            (json!({"ownerReferences": owner("Job", "j")}), "Job/j"),
            (
                json!({"ownerReferences": owner("ReplicaSet", "chat-7d9"), "labels": {"pod-template-hash": "7d9"}}),
                "Deployment/chat",
            ),
            (json!({"ownerReferences": owner("ReplicaSet", "chat-7d9")}), "ReplicaSet/chat-7d9"),
        ] {
            assert_eq!(Workload::of(&json!({"metadata": metadata})).to_string(), want);
        }
    }
}
