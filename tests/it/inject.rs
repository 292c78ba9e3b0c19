//! What is added to pods: some sixty of them with what becomes of each, and laws for pods by
//! chance.
//!
//! `tests/fixtures/inject/<case>.yaml` holds two documents: what is known around the pod, and the
//! pod. `<case>.json` beside it is what becomes of it, written anew with `UPDATE=1`.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pillion::inject::{Ask, Decision, OptIn, Settings, Version, Workload, plan, undo};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/inject")
}

/// A pod and what is known around it.
struct Case {
    name: String,
    pod: Value,
    around: Value,
    settings: Settings,
}

impl Case {
    fn read(path: &Path) -> Self {
        use serde::Deserialize as _;
        let text = fs::read_to_string(path).unwrap();
        let mut documents = serde_yaml::Deserializer::from_str(&text);
        let mut next = || Value::deserialize(documents.next().unwrap()).unwrap();
        let (around, pod) = (next(), next());
        let settings = Settings::read(around["settings"].clone()).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Self { name, pod, around, settings }
    }

    fn all() -> Vec<Self> {
        let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
        paths.sort();
        assert!(paths.len() >= 40, "{} cases", paths.len());
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn decide(&self, pod: &Value) -> Result<Decision, pillion::inject::Refused> {
        let namespace = &self.around["namespace"];
        let opt_in = match namespace {
            Value::Null => OptIn::Asked,
            namespace => OptIn::of(&json!({"metadata": namespace})),
        };
        let defaults = namespace["annotations"].as_object().cloned().unwrap_or_default();
        plan(&Ask {
            pod,
            workload: Workload::of(pod),
            defaults: &defaults,
            opt_in,
            server: self.around["server"].as_str().and_then(Version::read),
            settings: &self.settings,
        })
    }
}

/// What is no fact about the pod: the version, and the hash of all that was said.
fn steady(text: &str) -> String {
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let (mut steady, mut rest) = (String::new(), &*text);
    while let Some((before, after)) = rest.split_once("\\\"hash\\\":\\\"") {
        steady.push_str(before);
        steady.push_str("\\\"hash\\\":\\\"HASH");
        rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    steady + rest
}

#[test]
fn every_pod_becomes_what_its_fixture_says() {
    let update = std::env::var_os("UPDATE").is_some();
    for case in Case::all() {
        let became = match case.decide(&case.pod) {
            Ok(Decision::Inject(plan)) => {
                // One operation per line, so that a difference is read at a glance.
                let operations: Vec<_> =
                    plan.operations.iter().map(|it| json!(it).to_string()).collect();
                let (mode, warnings) = (plan.mode.as_str(), json!(plan.warnings));
                let operations = operations.join(",\n");
                format!(
                    "{{\"mode\": \"{mode}\", \"warnings\": {warnings}, \"patch\": [\n{operations}\n]}}\n"
                )
            }
            Ok(Decision::Skip(why)) => format!("{}\n", json!({"skipped": why.as_str()})),
            Err(why) => {
                format!("{:#}\n", json!({"refused": why.as_str(), "message": why.to_string()}))
            }
        };
        let became = steady(&became);
        let path = folder().join(format!("{}.json", case.name));
        if update {
            fs::write(&path, became).unwrap();
        } else {
            let known = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                known == became,
                "{}: run with UPDATE=1 and look at the difference; it became\n{became}",
                case.name
            );
        }
    }
}

#[test]
fn no_fixture_is_without_its_case() {
    let names = |extension: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
        let meant = entries.filter(|path| path.extension().is_some_and(|it| it == extension));
        meant.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names("yaml"), names("json"));
}

#[test]
fn every_fixture_that_is_injected_keeps_the_laws() {
    let mut injected = 0;
    for case in Case::all() {
        if let Ok(Decision::Inject(_)) = case.decide(&case.pod) {
            injected += 1;
            laws(&case);
        }
    }
    assert!(injected >= 35, "{injected}");
}

/// The pod with the plan's operations applied.
fn patched(case: &Case) -> Value {
    let Ok(Decision::Inject(plan)) = case.decide(&case.pod) else {
        panic!("{} is not injected", case.name)
    };
    let mut pod = case.pod.clone();
    json_patch::patch(&mut pod, &plan.operations).unwrap();
    pod
}

/// What must be so for every pod that is injected.
fn laws(case: &Case) {
    let pod = patched(case);
    let Ok(Decision::Inject(second)) = case.decide(&pod) else {
        panic!("{} is not taken a second time", case.name)
    };
    assert!(second.operations.is_empty(), "{}: {:?}", case.name, second.operations);
    nothing_is_there_twice(&case.name, &pod);
    assert_eq!(without_ours(&pod, &case.settings), without_ours(&case.pod, &case.settings));
    is_restricted(&case.name, sidecar(&pod, &case.settings));
    for volume in list(&pod["spec"], "volumes") {
        let is_ours = volume["name"].as_str().unwrap().starts_with("pillion-");
        let kinds = ["emptyDir", "projected", "secret"];
        let is_allowed = kinds.iter().any(|kind| volume.get(*kind).is_some());
        assert!(!is_ours || is_allowed, "{}: {volume}", case.name);
    }
    let mut undone = pod.clone();
    json_patch::patch(&mut undone, &undo(&pod)).unwrap();
    assert_eq!(trimmed(undone), trimmed(case.pod.clone()), "{}: undone", case.name);
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map_or(&[], Vec::as_slice)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["spec"], "initContainers").iter().chain(list(&pod["spec"], "containers"))
}

fn sidecar<'a>(pod: &'a Value, settings: &Settings) -> &'a Value {
    let is_ours = |it: &&Value| it["name"] == settings.sidecar.container_name;
    containers(pod).find(is_ours).expect("there is a sidecar")
}

fn nothing_is_there_twice(case: &str, pod: &Value) {
    let once = |what: &str, names: Vec<String>| {
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{case}: {what} twice: {names:?}");
    };
    let names = |values: &[Value]| values.iter().map(|it| it["name"].to_string()).collect();
    once("a volume", names(list(&pod["spec"], "volumes")));
    once("a container", containers(pod).map(|it| it["name"].to_string()).collect());
    for container in containers(pod) {
        once("a variable", names(list(container, "env")));
    }
    let ports = containers(pod).flat_map(|it| list(it, "ports"));
    let ports = ports.map(|port| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        format!("{} {protocol}", port["containerPort"])
    });
    once("a port", ports.collect());
}

const OURS: [&str; 9] = [
    "OPENAI_BASE_URL",
    "OPENAI_API_BASE",
    "OPENAI_API_KEY",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_API_KEY",
    "NO_PROXY",
    "no_proxy",
    "pillion.dev/status",
    "pillion.dev/injected",
];

/// The pod without all that we may touch.
fn without_ours(pod: &Value, settings: &Settings) -> Value {
    let mut pod = pod.clone();
    for part in ["labels", "annotations"] {
        if let Some(map) = pod["metadata"][part].as_object_mut() {
            map.retain(|key, _| {
                !OURS.contains(&&**key) && key != "kubectl.kubernetes.io/default-container"
            });
        }
    }
    let Some(spec) = pod["spec"].as_object_mut() else { return pod };
    if let Some(Value::Array(volumes)) = spec.get_mut("volumes") {
        volumes.retain(|it| !it["name"].as_str().unwrap().starts_with("pillion-"));
    }
    for part in ["initContainers", "containers"] {
        let Some(Value::Array(containers)) = spec.get_mut(part) else { continue };
        containers.retain(|it| it["name"] != settings.sidecar.container_name);
        for container in containers {
            if let Some(Value::Array(env)) = container.get_mut("env") {
                env.retain(|it| !OURS.contains(&it["name"].as_str().unwrap()));
            }
        }
    }
    trimmed(pod)
}

/// Without members that hold nothing.
fn trimmed(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let members = map.into_iter().map(|(key, value)| (key, trimmed(value)));
            let full = members.filter(|(_, value)| {
                !(value.is_null() || *value == json!({}) || *value == json!([]))
            });
            Value::Object(full.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(trimmed).collect()),
        other => other,
    }
}

/// The profile `restricted` of the Pod Security Standards, for one container of ours.
fn is_restricted(case: &str, container: &Value) {
    let security = &container["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false, "{case}");
    assert_eq!(security["runAsNonRoot"], true, "{case}");
    assert_ne!(security["runAsUser"], 0, "{case}");
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{case}");
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{case}");
    assert_eq!(security["readOnlyRootFilesystem"], true, "{case}");
    assert!(security.get("privileged").is_none(), "{case}");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert!(container[probe]["httpGet"].get("host").is_none(), "{case}: {probe}");
    }
    for port in list(container, "ports") {
        assert!(port.get("hostPort").is_none(), "{case}");
        assert!(port["name"].as_str().unwrap().len() <= 15, "{case}: {port}");
    }
    let token = "/var/run/secrets/kubernetes.io/serviceaccount";
    let mounts = list(container, "volumeMounts");
    assert!(mounts.iter().any(|it| it["mountPath"] == token), "{case}: no token must be there");
    assert!(mounts.iter().all(|it| it["readOnly"] == true), "{case}");
}

#[test]
fn a_container_that_comes_later_is_equipped_and_nothing_else() {
    let case = Case::read(&folder().join("plain-pod.yaml"));
    let mut pod = patched(&case);
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late"}));
    let Ok(Decision::Inject(plan)) = case.decide(&pod) else { panic!() };
    let paths: BTreeSet<_> = plan.operations.iter().map(|it| it.path().to_string()).collect();
    let strange = |path: &&String| {
        !path.starts_with("/spec/containers/1/env") && !path.ends_with("pillion.dev~1status")
    };
    assert_eq!(paths.iter().filter(strange).collect::<Vec<_>>(), Vec::<&String>::new());
    json_patch::patch(&mut pod, &plan.operations).unwrap();
    let status = pod["metadata"]["annotations"]["pillion.dev/status"].as_str().unwrap();
    let status: Value = serde_json::from_str(status).unwrap();
    assert_eq!(status["env"]["late"], status["env"]["chat"]);
}

#[test]
fn what_was_changed_after_us_is_left_when_it_is_undone() {
    let case = Case::read(&folder().join("http-proxy.yaml"));
    let mut pod = patched(&case);
    let env = pod["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    env.iter_mut().find(|it| it["name"] == "NO_PROXY").unwrap()["value"] = "theirs".into();
    let operations = undo(&pod);
    json_patch::patch(&mut pod, &operations).unwrap();
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(env.contains(&json!({"name": "NO_PROXY", "value": "theirs"})), "{env:?}");
    assert!(undo(&pod).is_empty());
}

fn variable() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "OPENAI_BASE_URL",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "HTTP_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "LOG",
        "OTHER",
    ]);
    let value = prop::sample::select(vec!["", "a", "a,127.0.0.1", "localhost,", "*", "$(LOG)"]);
    (name, value, prop::bool::weighted(0.2)).prop_map(|(name, value, is_hidden)| {
        if is_hidden {
            let secret = json!({"secretKeyRef": {"name": "s", "key": "k"}});
            json!({"name": name, "valueFrom": secret})
        } else {
            json!({"name": name, "value": value})
        }
    })
}

fn container(names: Vec<&'static str>) -> impl Strategy<Value = Value> {
    let env = prop::collection::vec(variable(), 0..6);
    (prop::sample::select(names), env, 0u16..4).prop_map(|(name, mut env, port)| {
        let mut seen = BTreeSet::new();
        env.retain(|it| seen.insert(it["name"].to_string()));
        let mut container = json!({"name": name, "image": "x:1", "newField": {"deep": [1, null]}});
        if !env.is_empty() {
            container["env"] = env.into();
        }
        if port > 0 {
            container["ports"] = json!([{"containerPort": 8000 + port}]);
        }
        container
    })
}

fn once(mut containers: Vec<Value>) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    containers.retain(|it| seen.insert(it["name"].to_string()));
    // Ports are distinct too, as in a pod that an API server takes.
    let mut ports = BTreeSet::new();
    for container in &mut containers {
        let port = container["ports"][0]["containerPort"].as_u64();
        if port.is_some_and(|port| !ports.insert(port)) {
            container.as_object_mut().unwrap().remove("ports");
        }
    }
    containers
}

prop_compose! {
    fn any_case()(
        containers in prop::collection::vec(
            container(vec!["chat", "worker", "istio-proxy", "daprd"]), 1..4),
        init in prop::collection::vec(
            container(vec!["migrate", "istio-init", "linkerd-init", "seed"]), 0..4),
        volumes in prop::option::of(prop::sample::subsequence(vec!["data", "cache"], 1..=2)),
        labels in prop::option::of(Just(json!({"app": "chat"}))),
        has_metadata in prop::bool::weighted(0.8),
        override_env in any::<bool>(),
        gossip in any::<bool>(),
        server in prop::option::of(prop::sample::select(vec!["1.29", "1.32", "1.33", "1.37"])),
    ) -> Case {
        let mut pod = json!({
            "metadata": {"name": "chat"},
            "spec": {"containers": once(containers), "unheardOf": {"a": 1}},
        });
        let init: Vec<_> = once(init).into_iter().map(|mut it| {
            it.as_object_mut().unwrap().remove("ports");
            it
        }).collect();
        if !init.is_empty() {
            pod["spec"]["initContainers"] = init.into();
        }
        if let Some(volumes) = volumes {
            let volumes: Vec<_> = volumes.iter().map(|it| json!({"name": it, "emptyDir": {}})).collect();
            pod["spec"]["volumes"] = volumes.into();
        }
        if let Some(labels) = labels {
            pod["metadata"]["labels"] = labels;
        }
        if !has_metadata {
            pod.as_object_mut().unwrap().remove("metadata");
        }
        if override_env {
            pod["metadata"]["annotations"] = json!({"pillion.dev/override-env": "true"});
        }
        let settings = Settings::read(json!({"gossip": {"enabled": gossip}})).unwrap();
        let around = json!({"server": server});
        Case { name: format!("by chance: {pod}"), pod, around, settings }
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.pod, self.around, Map::<String, Value>::new())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pod_by_chance_keeps_the_laws(case in any_case()) {
        laws(&case);
        let pod = patched(&case);
        let order: Vec<_> = list(&pod["spec"], "initContainers").iter().map(|it| it["name"].clone()).collect();
        if let Some(at) = order.iter().position(|name| name == "pillion") {
            for (other, name) in order.iter().enumerate() {
                let is_mesh = name == "istio-init" || name == "linkerd-init";
                prop_assert!(!is_mesh || other < at, "a mesh's container comes after ours: {order:?}");
            }
        } else {
            prop_assert_eq!(&pod["spec"]["containers"][0]["name"], "pillion");
        }
    }
}
