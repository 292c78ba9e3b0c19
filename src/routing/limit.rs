//! `rpm` and `tpm` as limits: who has had enough in the last minute is passed over.
//!
//! Minutes are any sixty seconds, per deployment, by the monotonic clock. The last request of a
//! minute is used. A prompt that is longer than the whole limit is let through when nothing else
//! was used: our estimate does not decide what the provider may.
//!
//! Where several sidecars share a limit, [`View::used`] holds what the others have used and are
//! thought to have used since they told. With news of age d, and R asked for per minute, all of
//! them together exceed a limit L by R·d/L at most, and by what the forecast is off in fact: a few
//! per cent of what is asked in a second. Two parts in a hundred are kept free for that. Where much
//! more is asked than there is, each request is let through by chance, in the share that there is
//! room for: then nobody has to know exactly.

use std::time::{Duration, Instant};

use super::chance;
use super::strategy::Scene;
use super::table::Member;
use super::view::{Counted, Demand, View};
use crate::lexicon::DeploymentIx;
use crate::lexicon::count::whole;

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
/// Of a limit that several share, so much is used.
const SHARED: f64 = 0.98;
/// Who asks for more than so many times a limit is let through by chance.
const HOT: f64 = 1.2;
/// After so long a request that had no luck may try again.
const AGAIN: Duration = Duration::from_secs(1);

/// The rate limit that `member` would exceed with one more call, if any.
pub(super) fn exceeded(member: &Member, scene: &Scene<'_, impl View>) -> Option<Exceeded> {
    if member.rpm.is_none() && member.tpm.is_none() {
        return None;
    }
    let (of, now) = (member.deployment, scene.now);
    let used = scene.view.used(of, MINUTE, now);
    let demand = scene.view.demand(of, now);
    if let Some(unlucky) = demand.and_then(|demand| paced(member, &demand, scene)) {
        return Some(unlucky);
    }
    let whole = |limit: f64| whole(if demand.is_some() { (limit * SHARED).ceil() } else { limit });
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

/// The limit that a call has no luck with, where the fleet asks for much more than there is.
fn paced(member: &Member, demand: &Demand, scene: &Scene<'_, impl View>) -> Option<Exceeded> {
    let asked = [
        (Limit::Requests, member.rpm, demand.requests_per_second),
        (Limit::Tokens, member.tpm, demand.tokens_per_second),
    ];
    let of = member.deployment;
    let luck = chance::unit(chance::salted(scene.entropy, LUCK | u64::from(of.0)));
    asked.into_iter().find_map(|(limit, most, asked)| {
        let there_is = most? * SHARED / MINUTE.as_secs_f64();
        let unlucky = asked > HOT * there_is && luck >= there_is / asked;
        unlucky.then(|| Exceeded { limit, of, until: scene.now + AGAIN })
    })
}

/// Tells these dice from those that others throw for the same deployment.
const LUCK: u64 = 1 << 32;

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
    fn of_a_shared_limit_a_little_is_kept_free() {
        let left = |rpm: f64, used: u64, asked: f64| {
            let mut world = World::default();
            world.set_used(3, Used { requests: used, tokens: 0 });
            world.set_demand(3, Demand { requests_per_second: asked, tokens_per_second: 0.0 });
            let member = Member { rpm: Some(rpm), ..Member::new(DeploymentIx(3)) };
            let passes = |step: u64| exceeded(&member, &world.scene(step << 54)).is_none();
            (0..1_000).filter(|step| passes(*step)).count()
        };
        assert_eq!((left(600.0, 587, 10.0), left(600.0, 588, 10.0)), (1_000, 0));
        assert_eq!((left(10.0, 9, 0.1), left(10.0, 10, 0.1)), (1_000, 0), "less than one is none");
        // Of five times as much as there is a fifth is let through, while there is room.
        let some = left(600.0, 0, 49.0);
        assert!((170..=230).contains(&some), "{some}");
        assert_eq!(left(600.0, 600, 49.0), 0);
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
