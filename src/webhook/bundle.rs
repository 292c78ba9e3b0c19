//! The caBundle of our webhook configuration: whom the API server trusts when it calls us.
//!
//! It is written at run time and kept right for ever, because an upgrade may wipe it.

use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, TestOperation};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::{Webhook, stirred_or_soon};
use crate::cluster::{Change, escaped};
use crate::inject::field;

/// Our webhooks end so; others in the same configuration are not ours to touch.
const OURS: &str = ".inject.pillion.dev";
const LOOK: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(2);

/// What there is and what there should be.
#[derive(Debug)]
pub(super) struct Bundle {
    found: Mutex<Option<Value>>,
    wanted: Mutex<Option<String>>,
    right: watch::Sender<bool>,
    stirred: Notify,
}

impl Default for Bundle {
    fn default() -> Self {
        let (right, _) = watch::channel(false);
        Self { found: Mutex::default(), wanted: Mutex::default(), right, stirred: Notify::new() }
    }
}

impl Bundle {
    /// From now on this is to be trusted, in PEM.
    pub(super) fn want(&self, trusted: String) {
        let encoded = STANDARD.encode(trusted);
        if let Ok(mut wanted) = self.wanted.lock()
            && wanted.replace(encoded.clone()) != Some(encoded)
        {
            self.right.send_replace(false);
        }
        self.stirred.notify_one();
    }

    pub(super) fn is_right(&self) -> bool {
        *self.right.borrow()
    }

    /// Waits until it is.
    pub(super) async fn becomes_right(&self) {
        let _ = self.right.subscribe().wait_for(|right| *right).await;
    }

    fn found(&self, configuration: Option<Value>) {
        if let Ok(mut found) = self.found.lock() {
            *found = configuration;
        }
        self.stirred.notify_one();
    }

    /// What puts it right; `None` where that cannot be said yet.
    fn due(&self) -> Option<Vec<PatchOperation>> {
        let wanted = self.wanted.lock().ok()?.clone()?;
        let found = self.found.lock().ok()?;
        operations(found.as_ref()?, &wanted)
    }
}

/// What puts a configuration right; nothing where it is, `None` where it has no webhook of ours.
fn operations(configuration: &Value, wanted: &str) -> Option<Vec<PatchOperation>> {
    let webhooks = field(configuration, "/webhooks").as_array()?;
    let ours = webhooks.iter().enumerate().filter_map(|(at, webhook)| {
        let name = field(webhook, "/name").as_str().filter(|name| name.ends_with(OURS))?;
        Some((at.to_string(), name, field(webhook, "/clientConfig/caBundle") == wanted))
    });
    let ours: Vec<_> = ours.collect();
    if ours.is_empty() {
        return None;
    }
    let mut operations = Vec::new();
    for (at, name, _) in ours.into_iter().filter(|(_, _, is_right)| !is_right) {
        // Positions are by what was seen; whoever moves them makes the whole patch fail.
        operations.push(PatchOperation::Test(TestOperation {
            path: PointerBuf::from_tokens(["webhooks", &at, "name"]),
            value: name.into(),
        }));
        operations.push(PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(["webhooks", &at, "clientConfig", "caBundle"]),
            value: wanted.into(),
        }));
    }
    Some(operations)
}

const KIND: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

impl Webhook {
    /// Follows our webhook configuration.
    pub(super) async fn follow_bundle(&self) {
        let name = escaped(&self.settings.certs.webhook);
        let tell = |change| match change {
            Change::All(all) => self.bundle.found(all.into_iter().next()),
            Change::Put(put) => self.bundle.found(Some(put)),
            Change::Gone(_) => self.bundle.found(None),
        };
        self.cluster.follow(&format!("{KIND}?fieldSelector=metadata.name%3D{name}"), tell).await;
    }

    /// Puts its caBundle right whenever it is not.
    pub(super) async fn keep_bundle(&self) {
        loop {
            let pause = match self.bundle.due() {
                None => {
                    self.bundle.right.send_replace(false);
                    LOOK
                }
                Some(operations) if operations.is_empty() => {
                    self.bundle.right.send_replace(true);
                    LOOK
                }
                Some(operations) => self.patch_bundle(&operations).await,
            };
            stirred_or_soon(&self.bundle.stirred, pause).await;
        }
    }

    async fn patch_bundle(&self, operations: &[PatchOperation]) -> Duration {
        self.bundle.right.send_replace(false);
        let path = format!("{KIND}/{}", escaped(&self.settings.certs.webhook));
        match self.cluster.patch(&path, "pillion-injector", operations).await {
            Ok(patched) => {
                info!("the caBundle is put right");
                self.meters.bundle_patched();
                self.bundle.found(Some(patched));
            }
            Err(error) => warn!(%error, "the caBundle cannot be put right; trying again"),
        }
        AGAIN
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(webhooks: &Value, want: Option<usize>) {
        let found = operations(&json!({"webhooks": webhooks}), "new");
        assert_eq!(found.map(|it| it.len()), want, "{webhooks}");
    }

    #[test]
    fn only_our_own_webhooks_are_put_right() {
        let ours = |bundle: &str| json!({"name": "pod.inject.pillion.dev", "clientConfig": {"caBundle": bundle}});
        let bare = json!({"name": "namespace.inject.pillion.dev", "clientConfig": {}});
        let other = json!({"name": "x.example.com", "clientConfig": {}});
        check(&json!([ours("new")]), Some(0));
        check(&json!([other, ours("old"), bare]), Some(4));
        check(&json!([other]), None);
        check(&Value::Null, None);
        let found = operations(&json!({"webhooks": [other, bare]}), "new").unwrap();
        let mut configuration = json!({"webhooks": [other, bare]});
        json_patch::patch(&mut configuration, &found).unwrap();
        assert_eq!(configuration["webhooks"][1]["clientConfig"]["caBundle"], "new");
        assert_eq!(configuration["webhooks"][0], other);
    }
}
