//! All that routing may know about the deployments at this moment.

use std::time::Instant;

use crate::lexicon::DeploymentIx;

/// The state of one deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vitals {
    /// Tries running there now.
    pub in_flight: u32,
    /// Until when it gets no traffic; `None` or a moment in the past means it does.
    pub cooling_until: Option<Instant>,
}

impl Vitals {
    /// Whether it is in cooldown at `now`.
    pub fn is_cooling(&self, now: Instant) -> bool {
        self.cooling_until.is_some_and(|until| until > now)
    }
}

/// The state of all deployments.
pub trait View {
    /// The state of one; the default for a position it does not know.
    fn vitals(&self, of: DeploymentIx) -> Vitals;
}
