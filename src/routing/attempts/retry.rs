//! Another try in the same group after a failed one: whether, and after how long.

use std::time::{Duration, Instant};

use super::{Attempts, Phase, TryId, Verdict};
use crate::lexicon::{Class, DeploymentIx, Failure};
use crate::routing::table::Member;
use crate::routing::view::View;
use crate::routing::{chance, cooldown};

/// `pillion.retries`: what pays for the extra tries of a model group, its retries and hedges together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Income {
    /// `budget`: for each request; 0.2 by default.
    pub share: f64,
    /// `per_second`: and by time; 10 by default.
    pub per_second: f64,
}

impl Default for Income {
    fn default() -> Self {
        Self { share: 0.2, per_second: 10.0 }
    }
}

impl Attempts<'_> {
    /// What to do now that no try runs any more and the last one failed.
    pub(super) fn after_failure(
        &mut self,
        (id, deployment): (TryId, DeploymentIx),
        failure: Failure,
        now: Instant,
        entropy: u64,
        view: &impl View,
    ) {
        let verdict = Verdict::Tried(id, failure);
        if !self.may_retry(deployment, failure) {
            return self.leave(verdict);
        }
        let next = match self.pick(now, entropy, view) {
            Ok(next) => next.deployment,
            Err(nobody) if self.may_line_up_to_retry(nobody) => self.other_than(deployment),
            Err(_) => return self.leave(verdict),
        };
        self.hop.retries += 1;
        match self.wait_before(deployment, next, failure, entropy) {
            None => self.leave(verdict),
            Some(wait) if self.ask.deadline.is_some_and(|deadline| now + wait >= deadline) => {
                self.out_of_time();
            }
            Some(wait) if wait.is_zero() => self.phase = Phase::Pick,
            Some(wait) => self.phase = Phase::Waiting(now + wait),
        }
    }

    /// Whether the group may be asked again after this failure, as §2.6 of `LiteLLM` says.
    pub(super) fn may_retry(&self, failed: DeploymentIx, failure: Failure) -> bool {
        let policy = self
            .hop
            .group
            .retry_policy
            .as_ref()
            .and_then(|policy| cooldown::allowed(policy, failure.class).or(policy.other))
            .filter(|_| self.ask.num_retries != Some(0));
        if let Some(retries) = policy {
            return self.hop.retries < retries && (is_retryable(failure) || self.has_others());
        }
        let own = |member: &&Member| member.deployment == failed;
        let configured =
            self.hop.group.members.iter().find(own).and_then(|member| member.num_retries);
        let retries =
            self.ask.num_retries.or(configured).unwrap_or(self.table.settings().num_retries);
        self.hop.retries < retries && self.class_may_retry(failure)
    }

    pub(super) fn class_may_retry(&self, failure: Failure) -> bool {
        match Fault::of(failure) {
            Fault::Account => self.has_others(),
            Fault::Moment => true,
            Fault::Request => failure.class == Class::ContextWindow && self.has_larger(),
        }
    }

    /// Leaves only those of the group who are known to take longer prompts than this one.
    pub(super) fn exclude_smaller(&mut self, failed: DeploymentIx) {
        let members = &self.hop.group.members;
        let own = members.iter().find(|member| member.deployment == failed);
        let longest = own.and_then(|member| member.longest_prompt);
        let is_larger = |member: &&Member| {
            longest.is_some_and(|own| member.longest_prompt.is_some_and(|other| other > own))
        };
        let smaller = members.iter().filter(|member| !is_larger(member));
        self.hop.excluded.extend(smaller.map(|member| member.deployment));
    }

    /// Whether somebody of the group may take a prompt that was too long for others, and no
    /// fallback is named for that.
    fn has_larger(&self) -> bool {
        let own = self.ask.context_window_fallbacks.or(self.ask.fallbacks);
        let named = own.or(self.hop.group.context_window_fallbacks.as_deref());
        let is_left = |member: &Member| !self.hop.excluded.contains(&member.deployment);
        named.is_none_or(<[_]>::is_empty)
            && self.hop.only.is_none()
            && self.hop.group.members.iter().any(is_left)
    }

    pub(super) fn has_others(&self) -> bool {
        self.hop.group.members.len() > 1 && self.hop.only.is_none()
    }

    /// The pause before the next try: none when it goes to another deployment, else the
    /// provider's wish or exponential back-off; `None` where the provider asks for more patience
    /// than a request has.
    pub(super) fn wait_before(
        &self,
        failed: DeploymentIx,
        next: DeploymentIx,
        failure: Failure,
        entropy: u64,
    ) -> Option<Duration> {
        if failed != next {
            return Some(Duration::ZERO);
        }
        let jitter = JITTER.mul_f64(chance::unit(entropy.rotate_left(32)));
        match failure.retry_after {
            Some(wish) if wish > LONGEST_WAIT => None,
            Some(wish) if !wish.is_zero() => Some(wish + jitter),
            _ => {
                let doublings = self.hop.retries.saturating_sub(1).min(10);
                let backoff = FIRST_WAIT * 2u32.pow(doublings);
                Some(backoff.max(self.table.settings().retry_after).min(LONGEST_BACKOFF) + jitter)
            }
        }
    }
}

/// Back-off before the first retry of the same deployment; doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Back-off never grows beyond this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// A provider's wish beyond this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Added to every wait, times a random number in [0, 1).
const JITTER: Duration = Duration::from_millis(750);

/// Whether the same deployment may give another answer to the same request.
pub(super) fn is_retryable(failure: Failure) -> bool {
    Fault::of(failure) == Fault::Moment
}

/// Where a failure lies, which decides who else may do better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// In the key or the account; another deployment has another one.
    Account,
    /// In the moment; the same deployment may answer the next time.
    Moment,
    /// In the request; nobody of the group will take it.
    Request,
}

impl Fault {
    pub(super) fn of(failure: Failure) -> Self {
        match failure.class {
            Class::Authentication
            | Class::PaymentRequired
            | Class::PermissionDenied
            | Class::QuotaExhausted => Self::Account,
            Class::BadGateway
            | Class::Connection
            | Class::InternalServer
            | Class::RateLimit
            | Class::ServiceUnavailable
            | Class::Timeout => Self::Moment,
            // A conflict with another call, which will be over.
            Class::BadRequest if failure.status == 409 => Self::Moment,
            Class::BadRequest
            | Class::ContentPolicy
            | Class::ContextWindow
            | Class::NotFound
            | Class::UnprocessableEntity => Self::Request,
        }
    }
}
