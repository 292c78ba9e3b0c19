//! What another try of a request needs when its stream has broken off at the client's side.

use std::sync::Arc;

use http::HeaderMap;

use super::Gateway;
use super::attempt::Job;
use super::live::Live;
use super::race::{self, Won};
use super::reject::Rejection;
use super::tries::Notes;
use crate::endpoint;
use crate::lexicon::{DeploymentIx, HedgeMode};
use crate::protocol::Call;
use crate::routing::Launch;
use crate::routing::streams::Recovery;

/// A request that can be made once more. See the [module](self).
#[derive(Debug)]
pub(super) struct Again {
    gateway: Arc<Gateway>,
    call: Call,
    headers: HeaderMap,
}

impl Again {
    /// `None` where the group does not ask for it, or a second call would not be the same.
    pub(super) fn of(job: Job<'_>, launch: &Launch<'_>) -> Option<Box<Self>> {
        let wanted = match launch.group.streams.recovery {
            Recovery::Restart => true,
            Recovery::Hold | Recovery::None => false,
        };
        // A fallback's own fields are not in the call.
        if !wanted || !launch.fields.is_empty() || !endpoint::is_repeatable(job.call) {
            return None;
        }
        let mut call = job.call.clone();
        if let Some(name) = launch.name {
            call.model = name.into();
        }
        // One try, in the same group.
        call.wishes.num_retries = Some(0);
        call.wishes.disable_fallbacks = true;
        call.wishes.hedge = Some(HedgeMode::Disabled);
        let (gateway, headers) = (job.gateway.clone(), job.headers.clone());
        Some(Box::new(Self { gateway, call, headers }))
    }

    /// Makes the call once more, at another deployment than `after` where there is one.
    ///
    /// Cancel safety: dropping the future ends the call at the wire, and its notes say so.
    pub(super) async fn ask(
        &self,
        live: &Arc<Live>,
        after: DeploymentIx,
        notes: Notes<'_>,
    ) -> Result<Won, Box<Rejection>> {
        let job = Job::new(&self.gateway, live, &self.call, &self.headers).after(after);
        race::race(job, notes).await
    }
}
