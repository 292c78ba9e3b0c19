//! What is added to a pod so that Pillion rides in it: [`plan`] says so, or why not.
//!
//! Pure: a pod, its namespace and the settings in, RFC 6902 operations out. The admission webhook
//! and `pillion inject` share it, so that both do the same. A second pass over its own work finds
//! nothing to do, and one over a pod to which another webhook has added a container equips only
//! that. Pods stay plain JSON: fields that are newer than this code pass through untouched.
//!
//! Refuses to know: where manifests come from, who asks, and what a cluster is.

mod application;
mod edit;
mod pod;
mod refused;
pub mod review;
mod settings;
mod sidecar;
mod status;
mod undo;
mod wishes;

use json_patch::PatchOperation;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use pod::{Version, Workload, field};
pub use refused::{Refused, Skipped};
pub use settings::{CertMode, Certs, Distribution, Settings};
pub use sidecar::{MASTER_KEY, Mode};
pub use undo::undo;
pub use wishes::{ANNOTATIONS, PREFIX};

use application::Place;
use edit::Edit;
use status::Status;
use wishes::Wishes;

/// The label that asks for a sidecar, or for none: of a namespace and of a pod.
pub const LABEL: &str = "pillion.dev/inject";
/// The label that pods with a sidecar carry.
pub const INJECTED: &str = "pillion.dev/injected";

/// A pod, and what is known around it.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The pod, or the template of one.
    pub pod: &'a Value,
    /// What makes it.
    pub workload: Workload,
    /// The annotations of its namespace, which are the defaults of its own.
    pub defaults: &'a Map<String, Value>,
    /// Who says that it gets a sidecar.
    pub opt_in: OptIn,
    /// The cluster's version; a current one where it is not known.
    pub server: Option<Version>,
    /// What there is to add.
    pub settings: &'a Settings,
}

/// Who says that a pod gets a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptIn {
    /// Whoever runs the command: every pod but those that say no.
    Asked,
    /// The namespace says no.
    Disabled,
    /// The namespace says yes.
    Enabled,
    /// The API server, whose selectors have looked at labels that are not known here.
    Selected,
    /// The namespace says nothing: the pod itself must.
    Unset,
}

impl OptIn {
    /// What the labels of a namespace say.
    pub fn of(namespace: &Value) -> Self {
        match field(namespace, "/metadata/labels").get(LABEL).and_then(Value::as_str) {
            Some("enabled") => Self::Enabled,
            Some("disabled") => Self::Disabled,
            Some(_) | None => Self::Unset,
        }
    }
}

/// What becomes of a pod.
#[derive(Debug)]
pub enum Decision {
    /// It is changed; by nothing where all is there already.
    Inject(Plan),
    /// It passes as it is.
    Skip(Skipped),
}

/// What is added to a pod.
#[derive(Debug)]
pub struct Plan {
    /// How.
    pub operations: Vec<PatchOperation>,
    /// What its owner should know.
    pub warnings: Vec<String>,
    /// How the sidecar stands in it.
    pub mode: Mode,
}

/// Says what is added to the pod, or why it is refused.
pub fn plan(ask: &Ask<'_>) -> Result<Decision, Refused> {
    let pod = ask.pod;
    if let Some(skipped) = skipped(ask)? {
        return Ok(Decision::Skip(skipped));
    }
    if pod::list(pod, "containers").is_empty() {
        return Err(Refused::NotAPod);
    }
    let wishes = wishes::read(pod::annotations(pod), ask.defaults, ask.settings)?;
    let there = Place::of_sidecar(pod, ask.settings);
    let mode = there.map_or_else(|| mode(&wishes, ask.server), Place::mode);
    if there.is_none() {
        refuse(ask, &wishes, mode)?;
    }
    let mut warnings = warnings(pod, &wishes);
    let mut edit = Edit::of(pod);
    let mut status = Status::of(pod).unwrap_or_default();
    if there.is_none() {
        add_sidecar(&mut edit, ask, &wishes, mode, &mut status)?;
    }
    let variables = application::variables(ask.settings, &wishes);
    let (targets, unreachable) = targets(edit.pod(), &wishes, mode, ask.settings)?;
    warnings.extend(unreachable);
    for place in targets {
        let told = application::equip(&mut edit, place, &variables, &wishes, &mut status);
        warnings.extend(told);
    }
    if !edit.is_untouched() {
        sign(&mut edit, ask, &wishes, mode, status);
    }
    Ok(Decision::Inject(Plan { operations: edit.into_operations(), warnings, mode }))
}

fn skipped(ask: &Ask<'_>) -> Result<Option<Skipped>, Refused> {
    let pod = ask.pod;
    if pod::annotations(pod).is_some_and(|it| it.contains_key("kubernetes.io/config.mirror")) {
        return Ok(Some(Skipped::Mirror));
    }
    let own = match field(pod, "/metadata/labels").get(LABEL) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text == "true" => Some(true),
        Some(Value::String(text)) if text == "false" => Some(false),
        Some(Value::String(other)) => return Err(Refused::BadLabel { value: other.clone() }),
        Some(other) => return Err(Refused::BadLabel { value: other.to_string() }),
    };
    Ok(match (ask.opt_in, own) {
        (_, Some(false)) | (OptIn::Disabled, _) => Some(Skipped::Disabled),
        (OptIn::Unset, None) => Some(Skipped::NotAsked),
        (OptIn::Asked | OptIn::Enabled | OptIn::Selected, _) | (OptIn::Unset, Some(true)) => {
            pod::is_windows(pod).then_some(Skipped::Windows)
        }
    })
}

fn mode(wishes: &Wishes, server: Option<Version>) -> Mode {
    let is_native = match wishes.native {
        settings::Native::Always => true,
        settings::Native::Never => false,
        settings::Native::Auto => server.is_none_or(|server| server >= Version::NATIVE),
    };
    if is_native { Mode::Native } else { Mode::Plain }
}

/// What cannot work beside a sidecar.
fn refuse(ask: &Ask<'_>, wishes: &Wishes, mode: Mode) -> Result<(), Refused> {
    let pod = ask.pod;
    if field(pod, "/spec/hostNetwork") == true {
        return Err(Refused::HostNetwork);
    }
    let is_kept = mode == Mode::Plain && pod::is_meant_to_end(pod, &ask.workload);
    if is_kept && !wishes.job_may_quit {
        return Err(Refused::NeverEnds);
    }
    let needed = [
        ("llm-port", wishes.ports.llm, "TCP"),
        ("admin-port", wishes.ports.admin, "TCP"),
        ("gossip-port", wishes.ports.gossip, "UDP"),
    ];
    let needed = needed.into_iter().filter(|it| ask.settings.gossip.enabled || it.2 == "TCP");
    for (annotation, port, protocol) in needed {
        if let Some(container) = taken_by(pod, port, protocol) {
            return Err(Refused::PortTaken { container, port, annotation });
        }
    }
    let volumes = sidecar::volumes(ask.settings, wishes);
    let own = field(pod, "/spec/volumes").as_array().map_or(&[][..], Vec::as_slice);
    match own.iter().find(|own| volumes.iter().any(|it| field(it, "/name") == field(own, "/name")))
    {
        Some(own) => Err(Refused::VolumeTaken { name: pod::name(own).to_owned() }),
        None => Ok(()),
    }
}

/// The container that declares the port.
fn taken_by(pod: &Value, port: u16, protocol: &str) -> Option<String> {
    let containers = ["containers", "initContainers"].into_iter().flat_map(|it| pod::list(pod, it));
    let declares = |container: &&Value| {
        let ports = field(container, "/ports").as_array().map_or(&[][..], Vec::as_slice);
        ports.iter().any(|declared| {
            field(declared, "/containerPort") == port
                && field(declared, "/protocol").as_str().unwrap_or("TCP") == protocol
        })
    };
    containers.into_iter().find(declares).map(|container| pod::name(container).to_owned())
}

fn warnings(pod: &Value, wishes: &Wishes) -> Vec<String> {
    let mut warnings: Vec<_> = wishes
        .unknown
        .iter()
        .map(|name| format!("annotation {name} means nothing to Pillion"))
        .collect();
    if field(pod, "/spec/shareProcessNamespace") == true {
        warnings.push(
            "the pod shares process namespaces: its containers may read the sidecar's files, keys \
             of providers among them, where they run under the same user"
                .to_owned(),
        );
    }
    warnings
}

fn add_sidecar(
    edit: &mut Edit,
    ask: &Ask<'_>,
    wishes: &Wishes,
    mode: Mode,
    status: &mut Status,
) -> Result<(), Refused> {
    let container = sidecar::container(ask.settings, wishes, mode, ask.pod, &ask.workload)?;
    match mode {
        Mode::Native => {
            let init = pod::list(ask.pod, "initContainers");
            // Behind a mesh's own, without which nothing gets out.
            let at = init.iter().rposition(pod::is_of_mesh).map_or(0, |at| at + 1);
            edit.insert(&["spec", "initContainers"], at, container);
        }
        Mode::Plain => {
            edit.insert(&["spec", "containers"], 0, container);
            let key = "kubectl.kubernetes.io/default-container";
            let there = pod::annotations(ask.pod).is_some_and(|it| it.contains_key(key));
            let containers = pod::list(ask.pod, "containers");
            let own = containers.iter().find(|it| !pod::is_known_sidecar(it));
            if let (false, Some(own)) = (there, own.or(containers.first())) {
                edit.set(&["metadata", "annotations"], key, pod::name(own).into());
                status.default_container = true;
            }
        }
    }
    for volume in sidecar::volumes(ask.settings, wishes) {
        status.volumes.push(pod::name(&volume).to_owned());
        edit.push(&["spec", "volumes"], volume);
    }
    Ok(())
}

impl Place {
    /// Where the sidecar is already.
    fn of_sidecar(pod: &Value, settings: &Settings) -> Option<Self> {
        ["initContainers", "containers"].into_iter().find_map(|list| {
            let is_ours = |it: &Value| pod::name(it) == settings.sidecar.container_name;
            let at = pod::list(pod, list).iter().position(is_ours)?;
            Some(Self { list, at })
        })
    }

    fn mode(self) -> Mode {
        if self.list == "initContainers" { Mode::Native } else { Mode::Plain }
    }
}

/// The containers that get variables, and what there is to say of those that cannot.
fn targets(
    pod: &Value,
    wishes: &Wishes,
    mode: Mode,
    settings: &Settings,
) -> Result<(Vec<Place>, Vec<String>), Refused> {
    let sidecar = Place::of_sidecar(pod, settings);
    let from = match (mode, sidecar) {
        // Init containers before it run before it is there.
        (Mode::Native, Some(sidecar)) => sidecar.at + 1,
        (Mode::Native, None) | (Mode::Plain, _) => usize::MAX,
    };
    let all = |list: &'static str| {
        let count = pod::list(pod, list).len();
        (0..count).map(move |at| Place { list, at })
    };
    let is_sidecar =
        |place: &Place| pod::name(place.container(pod)) == settings.sidecar.container_name;
    let reached = all("initContainers").skip(from.min(pod::list(pod, "initContainers").len()));
    let mut places: Vec<_> =
        reached.chain(all("containers")).filter(|it| !is_sidecar(it)).collect();
    let Some(names) = &wishes.containers else {
        places.retain(|place| !pod::is_known_sidecar(place.container(pod)));
        return Ok((places, Vec::new()));
    };
    let mut told = Vec::new();
    for name in names {
        if places.iter().any(|place| pod::name(place.container(pod)) == name) {
            continue;
        }
        if pod::list(pod, "initContainers").iter().any(|it| pod::name(it) == name) {
            told.push(format!(
                "init container `{name}` runs before the sidecar and cannot reach it"
            ));
            continue;
        }
        let known = places.iter().map(|place| pod::name(place.container(pod)));
        let nearest = wishes::nearest(name, known).map(str::to_owned);
        return Err(Refused::NoSuchContainer { name: name.clone(), nearest });
    }
    places.retain(|place| names.iter().any(|name| pod::name(place.container(pod)) == name));
    Ok((places, told))
}

/// The label and the annotation that say what was done.
fn sign(edit: &mut Edit, ask: &Ask<'_>, wishes: &Wishes, mode: Mode, mut status: Status) {
    env!("CARGO_PKG_VERSION").clone_into(&mut status.version);
    mode.as_str().clone_into(&mut status.mode);
    status.container.clone_from(&ask.settings.sidecar.container_name);
    status.hash = hash(ask.settings, wishes);
    edit.set(&["metadata", "labels"], INJECTED, "true".into());
    edit.set(&["metadata", "annotations"], status::ANNOTATION, status.to_text().into());
}

/// Tells apart what was done by other settings.
fn hash(settings: &Settings, wishes: &Wishes) -> String {
    let digest = Sha256::digest(format!("{settings:?}{wishes:?}"));
    let first = digest.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    format!("{first:08x}")
}
