//! The configuration in every namespace that has sidecars: one `ConfigMap`, copied by server-side
//! apply. Keys are never copied, and a `ConfigMap` that is not ours is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use json_patch::jsonptr::PointerBuf;
use json_patch::{PatchOperation, RemoveOperation};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::{Webhook, stirred_or_soon};
use crate::cluster::{Applier, Change, Failed, escaped};
use crate::config;
use crate::inject::OptIn;
use crate::inject::field;

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const MANAGER: &str = "pillion-injector";
const LOOK: Duration = Duration::from_secs(60);
/// Changes come in bunches: a list of namespaces, a Helm release.
const SETTLE: Duration = Duration::from_millis(200);

/// What is where.
#[derive(Debug, Default)]
pub(super) struct Copies {
    found: Mutex<BTreeMap<String, Value>>,
    listed: AtomicBool,
    /// Namespaces that have had a pod with a sidecar since the start.
    injected: Mutex<BTreeSet<String>>,
    unsound: AtomicBool,
    stirred: Notify,
}

impl Copies {
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// A pod of the namespace has a sidecar.
    pub(super) fn wanted_in(&self, namespace: &str) {
        let is_new =
            self.injected.lock().is_ok_and(|mut injected| injected.insert(namespace.to_owned()));
        if is_new {
            self.stir();
        }
    }

    pub(super) fn count(&self) -> usize {
        self.found.lock().map_or(0, |found| found.values().filter(|it| is_ours(it)).count())
    }

    pub(super) fn is_sound(&self) -> bool {
        !self.unsound.load(Ordering::Relaxed)
    }

    fn take(&self, change: Change) {
        let Ok(mut found) = self.found.lock() else { return };
        let place =
            |it: &Value| field(it, "/metadata/namespace").as_str().unwrap_or_default().to_owned();
        if change.take(&mut found, place, |it| it) {
            self.listed.store(true, Ordering::Relaxed);
        }
        self.stirred.notify_one();
    }
}

fn is_ours(copy: &Value) -> bool {
    field(copy, "/metadata/labels").get(MANAGED_BY).is_some_and(|it| it == MANAGER)
}

/// What is to be done in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// There is none yet.
    Add(String),
    /// There is an old one of ours.
    Change(String),
    /// It is not wanted any more.
    Delete(String),
}

/// What brings the copies to where they should be.
fn steps(
    own: &str,
    copies: &BTreeMap<String, Value>,
    namespaces: &BTreeMap<String, OptIn>,
    injected: &BTreeSet<String>,
) -> Vec<Step> {
    let Some(source) = copies.get(own) else { return Vec::new() };
    let others = namespaces.iter().filter(|(name, _)| *name != own);
    let step = |(name, opt_in): (&String, &OptIn)| {
        let copy = copies.get(name);
        match (opt_in, copy) {
            // One that is there and not ours is the namespace's own choice.
            (_, Some(copy)) if !is_ours(copy) => None,
            (OptIn::Disabled, Some(_)) => Some(Step::Delete(name.clone())),
            (OptIn::Disabled, None) => None,
            // Where nobody asks any more, pods may still use it.
            (_, Some(copy)) => {
                let is_equal = field(copy, "/data") == field(source, "/data")
                    && field(copy, "/binaryData") == field(source, "/binaryData");
                (!is_equal).then(|| Step::Change(name.clone()))
            }
            (OptIn::Enabled, None) => Some(Step::Add(name.clone())),
            (OptIn::Asked | OptIn::Selected | OptIn::Unset, None) => {
                injected.contains(name).then(|| Step::Add(name.clone()))
            }
        }
    };
    others.filter_map(step).collect()
}

impl Webhook {
    /// Follows the configuration and its copies.
    pub(super) async fn follow_copies(&self) {
        let name = escaped(&self.settings.config.name);
        let path = format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{name}");
        self.cluster.follow(&path, |change| self.copies.take(change)).await;
    }

    /// Brings the copies to where they should be, whenever they are not.
    pub(super) async fn distribute(&self) {
        let mut told = None;
        loop {
            stirred_or_soon(&self.copies.stirred, LOOK).await;
            tokio::time::sleep(SETTLE).await;
            if !self.copies.listed.load(Ordering::Relaxed) || !self.namespaces.are_known() {
                continue;
            }
            let Ok(found) = self.copies.found.lock().map(|found| found.clone()) else { return };
            let Ok(injected) = self.copies.injected.lock().map(|it| it.clone()) else { return };
            let source = found.get(&self.own.namespace);
            let why = source.and_then(fault);
            self.copies.unsound.store(why.is_some(), Ordering::Relaxed);
            if let Some(why) = why {
                if told.as_ref() != Some(&why) {
                    warn!(error = why, "the configuration cannot be served and is not copied");
                }
                told = Some(why);
                continue;
            }
            told = None;
            let steps = steps(&self.own.namespace, &found, &self.namespaces.all(), &injected);
            for step in steps {
                self.take_step(&step, &found).await;
            }
        }
    }

    async fn take_step(&self, step: &Step, found: &BTreeMap<String, Value>) {
        let (namespace, done) = match step {
            // Whoever made one a moment ago keeps it.
            Step::Add(name) => (name, self.copy_to(name, Applier::Yielding(MANAGER), found).await),
            Step::Change(name) => {
                (name, self.copy_to(name, Applier::Forcing(MANAGER), found).await)
            }
            Step::Delete(name) => {
                let id = found.get(name).and_then(|it| field(it, "/metadata/uid").as_str());
                (name, self.cluster.delete(&self.copy_in(name), id.unwrap_or_default()).await)
            }
        };
        match done {
            Ok(()) => {
                info!(namespace, step = ?step, "the configuration is copied");
                self.meters.applied();
            }
            Err(error) => {
                warn!(namespace, %error, "the configuration cannot be copied");
                self.meters.apply_failed();
            }
        }
    }

    fn copy_in(&self, namespace: &str) -> String {
        let name = escaped(&self.settings.config.name);
        format!("/api/v1/namespaces/{}/configmaps/{name}", escaped(namespace))
    }

    async fn copy_to(
        &self,
        namespace: &str,
        by: Applier<'_>,
        found: &BTreeMap<String, Value>,
    ) -> Result<(), Failed> {
        let Some(source) = found.get(&self.own.namespace) else { return Ok(()) };
        let name = &self.settings.config.name;
        let mut copy = Map::new();
        copy.insert("apiVersion".to_owned(), "v1".into());
        copy.insert("kind".to_owned(), "ConfigMap".into());
        let metadata = json!({
            "name": name, "namespace": namespace,
            "labels": {MANAGED_BY: MANAGER},
            "annotations": {"pillion.dev/source": format!("{}/{name}", self.own.namespace)},
        });
        copy.insert("metadata".to_owned(), metadata);
        for part in ["data", "binaryData"] {
            if let Some(held) = source.get(part) {
                copy.insert(part.to_owned(), held.clone());
            }
        }
        let path = self.copy_in(namespace);
        let kept = self.cluster.apply(&path, by, &Value::Object(copy)).await?;
        let surplus = surplus(source, &kept);
        if !surplus.is_empty() {
            self.cluster.patch(&path, MANAGER, &surplus).await?;
        }
        Ok(())
    }
}

/// What takes out of a copy what its source does not have: apply leaves alone what others added.
fn surplus(source: &Value, copy: &Value) -> Vec<PatchOperation> {
    let mut operations = Vec::new();
    for part in ["data", "binaryData"] {
        let there = copy.get(part).and_then(Value::as_object).into_iter().flatten();
        for (key, _) in
            there.filter(|(key, _)| source.get(part).and_then(|it| it.get(key)).is_none())
        {
            let path = PointerBuf::from_tokens([part, key]);
            operations.push(PatchOperation::Remove(RemoveOperation { path }));
        }
    }
    operations
}

/// Why no sidecar could serve the configuration.
fn fault(source: &Value) -> Option<String> {
    let data = field(source, "/data").as_object().into_iter().flatten();
    let mut files =
        data.filter(|(name, _)| Path::new(name).extension().is_some_and(|it| it == "yaml"));
    files.find_map(|(name, text)| {
        let why = config::fault_of(text.as_str()?)?;
        Some(format!("{name}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(copy: Option<Value>, opt_in: OptIn, injected: bool, want: &[Step]) {
        let source = json!({"data": {"config.yaml": "new"}});
        let mut copies = BTreeMap::from([("own".to_owned(), source)]);
        copies.extend(copy.map(|copy| ("a".to_owned(), copy)));
        let namespaces =
            BTreeMap::from([("own".to_owned(), OptIn::Enabled), ("a".to_owned(), opt_in)]);
        let injected = injected.then(|| "a".to_owned()).into_iter().collect();
        assert_eq!(steps("own", &copies, &namespaces, &injected), want);
    }

    #[test]
    fn copies_are_where_sidecars_are_and_only_ours_are_touched() {
        let ours = |text: &str| {
            Some(json!({
                "metadata": {"labels": {MANAGED_BY: MANAGER}}, "data": {"config.yaml": text},
            }))
        };
        let theirs = || Some(json!({"metadata": {}, "data": {"config.yaml": "old"}}));
        let a = || "a".to_owned();
        check(None, OptIn::Enabled, false, &[Step::Add(a())]);
        check(None, OptIn::Unset, false, &[]);
        check(None, OptIn::Unset, true, &[Step::Add(a())]);
        check(None, OptIn::Disabled, true, &[]);
        check(ours("old"), OptIn::Enabled, false, &[Step::Change(a())]);
        check(ours("old"), OptIn::Unset, false, &[Step::Change(a())]);
        check(ours("new"), OptIn::Enabled, true, &[]);
        check(ours("new"), OptIn::Disabled, false, &[Step::Delete(a())]);
        for opt_in in [OptIn::Enabled, OptIn::Unset, OptIn::Disabled] {
            check(theirs(), opt_in, true, &[]);
        }
        assert_eq!(steps("none", &BTreeMap::new(), &BTreeMap::new(), &BTreeSet::new()), []);
    }

    #[test]
    fn what_others_put_into_a_copy_is_taken_out() {
        let source = json!({"data": {"config.yaml": "a"}});
        let mut copy =
            json!({"data": {"config.yaml": "a", "x~/y.yaml": "b"}, "binaryData": {"z": "eA=="}});
        assert_eq!(surplus(&source, &source), []);
        let operations = surplus(&source, &copy);
        json_patch::patch(&mut copy, &operations).unwrap();
        assert_eq!(copy, json!({"data": {"config.yaml": "a"}, "binaryData": {}}));
    }

    #[test]
    fn a_configuration_that_no_sidecar_could_serve_is_found() {
        let of = |text: &str| fault(&json!({"data": {"config.yaml": text, "notes.txt": "["}}));
        assert_eq!(
            of(
                "model_list:\n  - model_name: a\n    litellm_params: {model: openai/a, api_key: os.environ/K}\n"
            ),
            None
        );
        assert!(of("model_list: [").unwrap().contains("config.yaml"));
        assert!(of("router_settings: 5\n").is_some());
        assert_eq!(fault(&json!({})), None);
    }
}
