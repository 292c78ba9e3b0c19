//! What is known of namespaces: whether they ask for sidecars, and their annotations, which are
//! the defaults of their pods.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Webhook;
use crate::cluster::{Change, escaped};
use crate::inject::field;
use crate::inject::review::Around;
use crate::inject::{OptIn, PREFIX, Settings, Version};

/// What is known of all namespaces.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    known: Mutex<BTreeMap<String, Known>>,
    listed: AtomicBool,
}

/// What is known of one.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) opt_in: OptIn,
    annotations: Map<String, Value>,
}

impl Known {
    fn of(namespace: &Value) -> Self {
        let annotations =
            field(namespace, "/metadata/annotations").as_object().into_iter().flatten();
        let ours = annotations.filter(|(name, _)| name.starts_with(PREFIX));
        Self {
            opt_in: OptIn::of(namespace),
            annotations: ours.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    pub(super) fn around(self, settings: &Settings, server: Option<Version>) -> Around<'_> {
        Around { opt_in: self.opt_in, defaults: self.annotations, server, settings }
    }
}

fn name(namespace: &Value) -> String {
    field(namespace, "/metadata/name").as_str().unwrap_or_default().to_owned()
}

impl Namespaces {
    fn take(&self, change: Change) {
        let Ok(mut known) = self.known.lock() else { return };
        if change.take(&mut known, name, |it| Known::of(&it)) {
            self.listed.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn are_known(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    /// What each namespace asks for.
    pub(super) fn all(&self) -> BTreeMap<String, OptIn> {
        let Ok(known) = self.known.lock() else { return BTreeMap::new() };
        known.iter().map(|(name, known)| (name.clone(), known.opt_in)).collect()
    }

    fn get(&self, name: &str) -> Option<Known> {
        self.known.lock().ok()?.get(name).cloned()
    }
}

impl Webhook {
    /// Follows all namespaces.
    pub(super) async fn follow_namespaces(&self) {
        let tell = |change| {
            self.namespaces.take(change);
            self.copies.stir();
        };
        self.cluster.follow("/api/v1/namespaces", tell).await;
    }

    /// What is known of the namespace that a review is about. One that was made a moment ago is
    /// asked for; where that fails, the API server's selectors have spoken.
    pub(super) async fn known(&self, body: &[u8]) -> Known {
        #[derive(Deserialize)]
        struct Review {
            request: Asked,
        }
        #[derive(Deserialize)]
        struct Asked {
            namespace: String,
        }
        let selected = || Known { opt_in: OptIn::Selected, annotations: Map::new() };
        let Ok(Review { request }) = serde_json::from_slice(body) else { return selected() };
        if let Some(known) = self.namespaces.get(&request.namespace) {
            return known;
        }
        let path = format!("/api/v1/namespaces/{}", escaped(&request.namespace));
        self.cluster.get(&path).await.map_or_else(|_| selected(), |it| Known::of(&it))
    }
}
