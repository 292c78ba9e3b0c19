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
use crate::provider::Prefill;
use crate::routing::Launch;
use crate::routing::streams::Recovery;
use crate::routing::table::fill;

/// A request that can be made once more. See the [module](self).
#[derive(Debug)]
pub(super) struct Again {
    gateway: Arc<Gateway>,
    call: Call,
    headers: HeaderMap,
    /// Whether the second model writes on behind what was sent, and does not begin anew.
    pub writes_on: bool,
}

/// The stream that a try follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behind<'a> {
    /// Whose it was; asked again only where nobody else can be.
    pub after: DeploymentIx,
    /// Who cannot follow it.
    pub exclude: &'a [DeploymentIx],
    /// What was sent of it, where the try writes on.
    pub prefill: Option<&'a Prefill>,
}

impl Again {
    /// `None` where the group does not ask for it, or a second call would not be the same.
    pub(super) fn of(job: Job<'_>, launch: &Launch<'_>) -> Option<Box<Self>> {
        let writes_on = match launch.group.streams.recovery {
            Recovery::Continue if !endpoint::is_continuable(job.call) => return None,
            Recovery::Continue => true,
            Recovery::Restart => false,
            Recovery::Hold | Recovery::None => return None,
        };
        // A fallback's own fields are not in the call.
        if !launch.fields.is_empty() || !endpoint::is_repeatable(job.call) {
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
        Some(Box::new(Self { gateway, call, headers, writes_on }))
    }

    /// Makes the call once more, at another deployment than `after` where there is one.
    ///
    /// Cancel safety: dropping the future ends the call at the wire, and its notes say so.
    pub(super) async fn ask(
        &self,
        live: &Arc<Live>,
        (after, prefill): (DeploymentIx, Option<&Prefill>),
        notes: Notes<'_>,
    ) -> Result<Won, Box<Rejection>> {
        let exclude = if prefill.is_some() { self.who_cannot_write_on(live) } else { Vec::new() };
        let behind = Behind { after, exclude: &exclude, prefill };
        let job = Job::new(&self.gateway, live, &self.call, &self.headers).behind(behind);
        race::race(job, notes).await
    }

    fn who_cannot_write_on(&self, live: &Live) -> Vec<DeploymentIx> {
        let Some(target) = race::resolve(live, &self.call.model) else { return Vec::new() };
        let members = live.routes.group(target.group).map_or(&[][..], |group| &group.members);
        let can = |at: DeploymentIx| {
            live.deployment(at).is_some_and(|deployment| {
                let model = fill(&deployment.model, &target.captures, &self.call.model);
                deployment.takes_prefill(self.call.endpoint, &model)
            })
        };
        members.iter().map(|member| member.deployment).filter(|at| !can(*at)).collect()
    }
}
