//! What flow tests stand on: the real binary, providers with real sockets that follow a script
//! to the byte, and a client that sends and sees every byte.
//!
//! Nothing here sleeps and hopes: it waits for a condition, and no longer than [`PATIENCE`].

#![cfg(test)]

pub(crate) mod chat;
pub(crate) mod cluster;
pub(crate) mod config_map;
pub(crate) mod forward;
pub(crate) mod metrics;
pub(crate) mod responses;
pub(crate) mod script;
pub(crate) mod secure;
pub(crate) mod sidecar;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::time::{Duration, Instant};

/// How long anything may take that should be over at once. Generous, for machines that are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// The time.
pub(crate) fn now() -> Instant {
    pillion::lexicon::time::now()
}

/// Looks until there is something, and returns it.
#[track_caller]
pub(crate) fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let end = now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(now() < end, "{place}: not within {PATIENCE:?}: {what}");
            tokio::time::sleep(GLANCE).await;
        }
    }
}

/// Waits for what should be over at once.
#[track_caller]
pub(crate) fn soon<T>(what: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let Ok(done) = tokio::time::timeout(PATIENCE, work).await else {
            panic!("{place}: not within {PATIENCE:?}: {what}");
        };
        done
    }
}
