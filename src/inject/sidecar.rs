//! The container that is put into a pod, and the volumes it needs.
//!
//! It gets nothing of the pod's own: no Kubernetes token, no user, no writable disk. Keys of
//! providers are mounted here and nowhere else. It passes the profile `restricted`.

use serde_json::{Map, Value, json};

use super::field;
use super::pod::{self, Workload};
use super::refused::Refused;
use super::settings::{Gossip, Settings};
use super::wishes::Wishes;

/// How the sidecar stands in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// An init container with `restartPolicy: Always`: it starts before the application and ends
    /// after it.
    Native,
    /// The first of the containers.
    Plain,
}

impl Mode {
    /// The word in the status, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Plain => "container",
        }
    }
}

/// The name that the master key has among the files of keys: the variable that a configuration
/// without a master key of its own takes it from.
pub const MASTER_KEY: &str = "LITELLM_MASTER_KEY";

const CONFIG: &str = "pillion-config";
const GOSSIP: &str = "pillion-gossip";
const KEYS: &str = "pillion-keys";
const NO_TOKEN: &str = "pillion-no-token";

/// The container.
pub(super) fn container(
    settings: &Settings,
    wishes: &Wishes,
    mode: Mode,
    pod: &Value,
    workload: &Workload,
) -> Result<Value, Refused> {
    let mut container = json!({
        "name": settings.sidecar.container_name,
        "image": wishes.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["serve"],
        "env": environment(settings, wishes, mode, pod, workload),
        "ports": ports(settings, wishes),
        "startupProbe": probe("/startupz", wishes, &[("periodSeconds", 1), ("failureThreshold", 120)]),
        "readinessProbe": probe("/readyz", wishes, &[("periodSeconds", 10), ("timeoutSeconds", 2)]),
        "livenessProbe": probe(
            "/livez",
            wishes,
            &[("periodSeconds", 20), ("timeoutSeconds", 2), ("failureThreshold", 6)],
        ),
        "resources": wishes.resources,
        "securityContext": security(settings),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts(&settings.gossip),
    });
    if let Some(container) = container.as_object_mut() {
        match mode {
            Mode::Native => {
                container.insert("restartPolicy".to_owned(), "Always".into());
            }
            // The kubelet starts containers in order and waits for this one: the application
            // finds the sidecar ready.
            Mode::Plain => {
                let wait = json!(["/pillion", "wait-ready", "--timeout=120"]);
                let hook = json!({"postStart": {"exec": {"command": wait}}});
                container.insert("lifecycle".to_owned(), hook);
            }
        }
    }
    patched(container, wishes.patch.as_ref())
}

fn patched(mut container: Value, patch: Option<&json_patch::Patch>) -> Result<Value, Refused> {
    let Some(patch) = patch else { return Ok(container) };
    let name = field(&container, "/name").clone();
    json_patch::patch(&mut container, patch)
        .map_err(|error| Refused::PatchFails { what: error.to_string() })?;
    // The name is how the sidecar is found again.
    if *field(&container, "/name") == name {
        Ok(container)
    } else {
        Err(Refused::PatchFails { what: "the sidecar's name cannot be changed".to_owned() })
    }
}

fn environment(
    settings: &Settings,
    wishes: &Wishes,
    mode: Mode,
    pod: &Value,
    workload: &Workload,
) -> Vec<Value> {
    let ports = wishes.ports;
    let mut list = Variables::default();
    list.set("PILLION_CONFIG", "/etc/pillion/config/config.yaml");
    list.set("PILLION_OVERLAY", "/etc/pillion/config/overlay.yaml");
    list.set("PILLION_KEYS_DIR", "/etc/pillion/keys");
    list.set("PILLION_AWAIT_CONFIG", "true");
    list.set("PILLION_LISTEN", &format!("127.0.0.1:{0},[::1]:{0}", ports.llm));
    list.set("PILLION_ADMIN", &format!("[::]:{}", ports.admin));
    list.set("PILLION_LOG_LEVEL", &wishes.log_level);
    list.end(wishes, mode, pod, workload);
    list.field("PILLION_POD_NAME", "metadata.name");
    list.field("PILLION_POD_NAMESPACE", "metadata.namespace");
    list.field("PILLION_POD_UID", "metadata.uid");
    list.field("PILLION_POD_IP", "status.podIP");
    list.field("PILLION_NODE_NAME", "spec.nodeName");
    list.field("PILLION_SERVICE_ACCOUNT", "spec.serviceAccountName");
    // Empty before Kubernetes 1.35, which copies it from the node.
    list.field("PILLION_ZONE", "metadata.labels['topology.kubernetes.io/zone']");
    list.set("PILLION_WORKLOAD", &workload.to_string());
    if settings.gossip.enabled {
        list.set("PILLION_GOSSIP_LISTEN", &format!("[::]:{}", ports.gossip));
        // A variable may name those before it.
        list.set("PILLION_GOSSIP_ADVERTISE", &format!("$(PILLION_POD_IP):{}", ports.gossip));
        list.set("PILLION_GOSSIP_SEEDS", &settings.gossip.seeds.join(","));
        list.set("PILLION_GOSSIP_KEY_FILE", "/etc/pillion/gossip/key");
        list.set("PILLION_GOSSIP_CLUSTER", &settings.gossip.cluster);
    }
    for more in &settings.sidecar.extra_env {
        list.put(more.clone());
    }
    list.0
}

/// Variables, each name once.
#[derive(Default)]
struct Variables(Vec<Value>);

impl Variables {
    /// What is said of the end.
    fn end(&mut self, wishes: &Wishes, mode: Mode, pod: &Value, workload: &Workload) {
        // Five seconds are left for what runs at the end.
        let most = pod::grace(pod).saturating_sub(5);
        self.set("PILLION_DRAIN", &wishes.drain_seconds.min(most).to_string());
        match mode {
            // The kubelet tells it when the application has ended. Whoever tells it before meets
            // an application that is connected.
            Mode::Native => self.set("PILLION_DRAIN_IDLE", "0"),
            Mode::Plain if wishes.job_may_quit && pod::is_meant_to_end(pod, workload) => {
                self.set("PILLION_QUIT", "true");
            }
            Mode::Plain => {}
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.put(json!({"name": name, "value": value}));
    }

    fn field(&mut self, name: &str, path: &str) {
        self.put(json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}));
    }

    fn put(&mut self, variable: Value) {
        match self.0.iter_mut().find(|there| field(there, "/name") == field(&variable, "/name")) {
            Some(there) => *there = variable,
            None => self.0.push(variable),
        }
    }
}

fn ports(settings: &Settings, wishes: &Wishes) -> Vec<Value> {
    let port = |name: &str, number: u16, protocol: &str| json!({"name": name, "containerPort": number, "protocol": protocol});
    // The LLM port is on loopback, so it is not declared.
    let mut ports = vec![port("pillion-admin", wishes.ports.admin, "TCP")];
    if settings.gossip.enabled {
        ports.push(port("pillion-gossip", wishes.ports.gossip, "UDP"));
    }
    ports
}

fn probe(path: &str, wishes: &Wishes, pace: &[(&str, u32)]) -> Value {
    let mut probe = Map::new();
    probe.insert("httpGet".to_owned(), json!({"path": path, "port": wishes.ports.admin}));
    probe.extend(pace.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    Value::Object(probe)
}

fn security(settings: &Settings) -> Value {
    let mut security = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
    });
    if let Some(security) = security.as_object_mut() {
        if let Some(user) = settings.sidecar.run_as_user {
            security.insert("runAsUser".to_owned(), user.into());
            security.insert("runAsGroup".to_owned(), user.into());
        }
        security.insert("seccompProfile".to_owned(), json!({"type": "RuntimeDefault"}));
    }
    security
}

fn mounts(gossip: &Gossip) -> Vec<Value> {
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    let mut mounts = vec![mount(CONFIG, "/etc/pillion/config"), mount(KEYS, "/etc/pillion/keys")];
    if gossip.enabled {
        mounts.push(mount(GOSSIP, "/etc/pillion/gossip"));
    }
    // Without it the API server would mount the application's token here.
    mounts.push(mount(NO_TOKEN, "/var/run/secrets/kubernetes.io/serviceaccount"));
    mounts
}

/// The volumes, all of which may come later than the pod but the application's own key.
pub(super) fn volumes(settings: &Settings, wishes: &Wishes) -> Vec<Value> {
    let config = |name: &str, key: &str, path: &str| json!({"configMap": {"name": name, "optional": true, "items": [{"key": key, "path": path}]}});
    let sources = [
        config(&wishes.config, &format!("{}.yaml", wishes.profile), "config.yaml"),
        config(&wishes.overlay, "config.yaml", "overlay.yaml"),
    ];
    let mut volumes = vec![
        json!({"name": CONFIG, "projected": {"defaultMode": READABLE, "sources": sources}}),
        keys(settings, wishes),
    ];
    if settings.gossip.enabled {
        let name = &settings.gossip.key_secret_name;
        let secret = json!({"secretName": name, "optional": true, "defaultMode": READABLE});
        volumes.push(json!({"name": GOSSIP, "secret": secret}));
    }
    volumes.push(json!({"name": NO_TOKEN, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}));
    volumes
}

/// 0444: the sidecar's user owns none of its files.
const READABLE: u32 = 0o444;

fn keys(settings: &Settings, wishes: &Wishes) -> Value {
    let name = &wishes.keys_secret;
    let Some(auth) = &wishes.auth_secret else {
        let secret = json!({"secretName": name, "optional": true, "defaultMode": READABLE});
        return json!({"name": KEYS, "secret": secret});
    };
    // Not optional: without it the door would stand open.
    let item = json!({"key": settings.sidecar.auth.secret_key, "path": MASTER_KEY});
    let sources = json!([
        {"secret": {"name": name, "optional": true}},
        {"secret": {"name": auth, "items": [item]}},
    ]);
    json!({"name": KEYS, "projected": {"defaultMode": READABLE, "sources": sources}})
}
