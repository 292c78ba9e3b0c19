//! The compiled configuration: everything a request needs, resolved once.

use super::settings::Settings;
use crate::lexicon::Secret;
use crate::provider::Deployment;
use crate::registry::{self, Price};
use crate::routing::RouteTable;

/// One configuration, whole and immutable. A reload makes another one.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the configurations of this process; [`load`](super::load) says 1, and
    /// [`watch`](super::watch) numbers the later ones.
    pub generation: u64,
    /// The hash of the content of all files it was read from, in hex.
    pub hash: Box<str>,
    /// The names that callers may use.
    pub routes: RouteTable,
    /// The deployments, by [`DeploymentIx`](crate::lexicon::DeploymentIx).
    pub deployments: Box<[Deployment]>,
    /// What each deployment costs; `None` where nobody knows.
    pub prices: Box<[Option<Price>]>,
    /// The key that callers must show; `None` asks for none.
    pub master_key: Option<Secret>,
    /// What the sidecar itself is told.
    pub settings: Settings,
}

/// What the list prices say about a model of a vendor.
pub(super) fn listed_price(vendor: &str, model: &str) -> Option<Price> {
    registry::lookup(vendor, model).map(|model| model.price)
}
