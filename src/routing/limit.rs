//! `rpm` and `tpm` as limits: who has had enough in the last minute is passed over.
//!
//! Minutes are any sixty seconds, per deployment, by the monotonic clock. The last request of a
//! minute is used. A prompt that is longer than the whole limit is let through when nothing else
//! was used: our estimate does not decide what the provider may.

use std::time::{Duration, Instant};

use super::strategy::Scene;
use super::table::Member;
use super::view::{Counted, View};
use crate::lexicon::DeploymentIx;

/// What keeps a deployment from being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Its `max_budget`.
    DeploymentBudget,
    /// The budget of its provider.
    ProviderBudget,
    /// Its `rpm`.
    Requests,
    /// Its `tpm`.
    Tokens,
}

/// A limit that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Which.
    pub limit: Limit,
    /// Whose.
    pub of: DeploymentIx,
    /// When there is room again.
    pub until: Instant,
}

const MINUTE: Duration = Duration::from_secs(60);

/// The rate limit that `member` would exceed with one more call, if any.
pub(super) fn exceeded(member: &Member, scene: &Scene<'_, impl View>) -> Option<Exceeded> {
    if member.rpm.is_none() && member.tpm.is_none() {
        return None;
    }
    let (of, now) = (member.deployment, scene.now);
    let used = scene.view.used(of, MINUTE, now);
    if let Some(most) = member.rpm.map(whole)
        && used.requests >= most
    {
        let until = match most {
            0 => now + MINUTE,
            most => scene.view.eases(of, Counted::Requests, most - 1, now),
        };
        return Some(Exceeded { limit: Limit::Requests, of, until });
    }
    let most = whole(member.tpm?);
    let prompt = scene.shape.prompt_tokens;
    let full = used.tokens >= most;
    if !full && (used.tokens == 0 || used.tokens.saturating_add(prompt) <= most) {
        return None;
    }
    let until = match most {
        0 => now + MINUTE,
        most => {
            scene.view.eases(of, Counted::Tokens, most.saturating_sub(prompt).min(most - 1), now)
        }
    };
    Some(Exceeded { limit: Limit::Tokens, of, until })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(limit: f64) -> u64 {
    limit as u64
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;
    use super::*;
    use crate::routing::view::Used;

    /// What is exceeded by a call of 100 tokens where `rpm` and `tpm` are limits.
    #[track_caller]
    fn check(rpm: Option<f64>, tpm: Option<f64>, used: (u64, u64), want: Option<Limit>) {
        let mut world = World::default();
        world.set_used(3, Used { requests: used.0, tokens: used.1 });
        let member = Member { rpm, tpm, ..Member::new(DeploymentIx(3)) };
        let mut scene = world.scene(0);
        scene.shape.prompt_tokens = 100;
        let got = exceeded(&member, &scene);
        assert_eq!(got.map(|exceeded| exceeded.limit), want);
        assert!(got.is_none_or(|exceeded| exceeded.until > world.now));
    }

    #[test]
    fn the_last_request_of_a_minute_is_used() {
        check(Some(2.0), None, (0, 0), None);
        check(Some(2.0), None, (1, 9000), None);
        check(Some(2.0), None, (2, 0), Some(Limit::Requests));
        check(Some(2.9), None, (2, 0), Some(Limit::Requests));
        check(Some(0.0), None, (0, 0), Some(Limit::Requests));
        check(None, None, (9000, 9000), None);
    }

    #[test]
    fn a_prompt_has_to_fit_unless_it_is_alone() {
        check(None, Some(500.0), (9, 400), None);
        check(None, Some(500.0), (9, 401), Some(Limit::Tokens));
        check(None, Some(500.0), (9, 500), Some(Limit::Tokens));
        check(None, Some(50.0), (9, 0), None);
        check(None, Some(50.0), (9, 1), Some(Limit::Tokens));
        check(None, Some(0.0), (0, 0), Some(Limit::Tokens));
        check(Some(9.0), Some(500.0), (9, 500), Some(Limit::Requests));
    }
}
