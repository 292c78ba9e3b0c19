//! `LiteLLM`'s rule: a pause of fixed length after a share or a number of failures.
//!
//! See the README for where it differs: failures are counted once per try, not once per request,
//! and a wish of the provider is bounded.

use std::time::Duration;

use super::LONGEST_WISH;
use crate::lexicon::{Class, Failure};
use crate::routing::table::{Group, Member, Policy, Settings};

/// What is known about a deployment besides the failure itself. Counts include that failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Tries that succeeded there in the current minute.
    pub successes: u32,
    /// Tries that failed there in the current minute.
    pub fails: u32,
    /// Tries that failed there within the cooldown time.
    pub recent_fails: u32,
    /// Whether the failure is the timeout that the caller itself set.
    pub callers_timeout: bool,
}

/// In the percentage rule, how many tries a group of several needs before it decides.
const FEWEST_TRIES: u32 = 5;
/// The same for a deployment that stands alone, and then only if every try failed.
const FEWEST_TRIES_ALONE: u32 = 1000;

/// How long the deployment gets no traffic; `None` leaves it in.
pub fn judge(
    settings: &Settings,
    group: &Group,
    member: &Member,
    failure: &Failure,
    evidence: &Evidence,
) -> Option<Duration> {
    if settings.disable_cooldowns || group.wildcard || evidence.callers_timeout {
        return None;
    }
    let alone = group.members.len() < 2;
    let policy = settings.allowed_fails_policy.as_ref();
    let by_class = policy.and_then(|policy| allowed(policy, failure.class));
    if by_class.is_none() && !concerns_the_deployment(failure) {
        return None;
    }
    if failure.class == Class::PaymentRequired && alone {
        return None;
    }
    let allowed = member.allowed_fails.or(by_class).or(settings.allowed_fails);
    let trips = match allowed {
        Some(allowed) => {
            let spared = alone && group.fallbacks.is_empty() && by_class.is_none();
            !spared && evidence.recent_fails > allowed
        }
        None => trips_by_share(failure, evidence, alone),
    };
    let pause = member
        .cooldown_time
        .or(failure.retry_after.map(|wish| wish.min(LONGEST_WISH)))
        .unwrap_or(settings.cooldown_time);
    (trips && !pause.is_zero()).then_some(pause)
}

/// Only what the deployment is to blame for counts: no broken connection (as `LiteLLM`), and of
/// the 4xx only 401, 402, 404, 408 and 429.
fn concerns_the_deployment(failure: &Failure) -> bool {
    match failure.class {
        Class::Authentication
        | Class::BadGateway
        | Class::InternalServer
        | Class::NotFound
        | Class::PaymentRequired
        | Class::QuotaExhausted
        | Class::RateLimit
        | Class::ServiceUnavailable
        | Class::Timeout => true,
        Class::BadRequest
        | Class::Connection
        | Class::ContentPolicy
        | Class::ContextWindow
        | Class::PermissionDenied
        | Class::UnprocessableEntity => false,
    }
}

/// `LiteLLM`'s default rule, by the share of failures in the current minute.
fn trips_by_share(failure: &Failure, evidence: &Evidence, alone: bool) -> bool {
    let total = evidence.successes.saturating_add(evidence.fails);
    match failure.class {
        Class::RateLimit | Class::QuotaExhausted if !alone => true,
        Class::Authentication | Class::PaymentRequired | Class::NotFound => true,
        _ if alone => evidence.successes == 0 && total >= FEWEST_TRIES_ALONE,
        _ => evidence.fails > evidence.successes && total >= FEWEST_TRIES,
    }
}

/// What a policy says about a class.
pub(in crate::routing) fn allowed(policy: &Policy, class: Class) -> Option<u32> {
    match class {
        Class::Authentication | Class::PermissionDenied => policy.authentication,
        Class::BadGateway => policy.bad_gateway.or(policy.internal_server),
        Class::BadRequest | Class::ContextWindow | Class::UnprocessableEntity => policy.bad_request,
        Class::Connection | Class::InternalServer => policy.internal_server,
        // A kind of bad request in LiteLLM's family of exceptions, the specific one first.
        Class::ContentPolicy => policy.content_policy.or(policy.bad_request),
        Class::NotFound => policy.not_found,
        Class::PaymentRequired => None,
        Class::QuotaExhausted | Class::RateLimit => policy.rate_limit,
        Class::ServiceUnavailable => policy.service_unavailable,
        Class::Timeout => policy.timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::{DeploymentIx, GroupIx, Substitute};
    use crate::routing::RouteTable;

    struct Case {
        settings: Settings,
        members: u16,
        failure: Failure,
        evidence: Evidence,
    }

    /// A 500 in a group of two: the first failure of the minute.
    fn case() -> Case {
        Case {
            settings: Settings::default(),
            members: 2,
            failure: Failure::new(Class::InternalServer, 500),
            evidence: Evidence { fails: 1, recent_fails: 1, ..Evidence::default() },
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Case), want: Option<u64>) {
        check_member(change, |_| (), want);
    }

    #[track_caller]
    fn check_member(change: impl FnOnce(&mut Case), set: impl Fn(&mut Member), want: Option<u64>) {
        let mut case = case();
        change(&mut case);
        let entry = |at: u16| {
            let mut member = Member::new(DeploymentIx(at));
            set(&mut member);
            ("g".into(), format!("{at}").into(), member)
        };
        let table = RouteTable::build((0..case.members).map(entry).collect(), case.settings);
        let group = table.group(GroupIx(0)).unwrap();
        let got = judge(table.settings(), group, &group.members[0], &case.failure, &case.evidence);
        assert_eq!(got, want.map(Duration::from_secs));
    }

    fn fails(case: &mut Case, fails: u32, successes: u32) {
        case.evidence = Evidence { fails, successes, recent_fails: fails, callers_timeout: false };
    }

    #[test]
    fn a_rate_limit_cools_at_once_unless_alone() {
        let limit = |case: &mut Case| case.failure = Failure::new(Class::RateLimit, 429);
        check(limit, Some(5));
        check(
            |case| {
                limit(case);
                case.members = 1;
            },
            None,
        );
    }

    #[test]
    fn a_key_that_is_not_taken_cools_at_once_even_alone() {
        for (class, status) in [(Class::Authentication, 401), (Class::NotFound, 404)] {
            check(
                |case| {
                    case.failure = Failure::new(class, status);
                    case.members = 1;
                },
                Some(5),
            );
        }
        let broke = |case: &mut Case| case.failure = Failure::new(Class::PaymentRequired, 402);
        check(broke, Some(5));
        check(
            |case| {
                broke(case);
                case.members = 1;
            },
            None,
        );
    }

    #[test]
    fn other_failures_cool_above_half_of_five_tries() {
        check(|case| fails(case, 4, 0), None);
        check(|case| fails(case, 5, 0), Some(5));
        check(|case| fails(case, 3, 3), None);
        check(|case| fails(case, 4, 3), Some(5));
        check(
            |case| {
                fails(case, 999, 0);
                case.members = 1;
            },
            None,
        );
        check(
            |case| {
                fails(case, 1000, 0);
                case.members = 1;
            },
            Some(5),
        );
    }

    #[test]
    fn the_request_itself_is_never_the_deployments_fault() {
        for class in
            [Class::BadRequest, Class::ContextWindow, Class::ContentPolicy, Class::Connection]
        {
            check(
                |case| {
                    fails(case, 50, 0);
                    case.failure = Failure::new(class, 400);
                },
                None,
            );
        }
        check(
            |case| {
                fails(case, 50, 0);
                case.evidence.callers_timeout = true;
            },
            None,
        );
    }

    #[test]
    fn allowed_fails_counts_up_to_its_number() {
        let allow = |case: &mut Case| case.settings.allowed_fails = Some(2);
        check(
            |case| {
                allow(case);
                fails(case, 2, 0);
            },
            None,
        );
        check(
            |case| {
                allow(case);
                fails(case, 3, 90);
            },
            Some(5),
        );
        check(
            |case| {
                allow(case);
                fails(case, 3, 0);
                case.members = 1;
            },
            None,
        );
        check(
            |case| {
                allow(case);
                fails(case, 3, 0);
                case.members = 1;
                case.settings.fallbacks = vec![("g".into(), vec![Substitute::model("h")])];
            },
            Some(5),
        );
    }

    #[test]
    fn a_policy_counts_by_class() {
        let policy = Policy { bad_request: Some(0), ..Policy::default() };
        let set = |case: &mut Case| case.settings.allowed_fails_policy = Some(policy.clone());
        check(
            |case| {
                set(case);
                case.failure = Failure::new(Class::BadRequest, 400);
            },
            Some(5),
        );
        check(
            |case| {
                set(case);
                fails(case, 2, 0);
            },
            None,
        );
    }

    #[test]
    fn the_pause_is_the_deployments_then_the_providers_then_the_routers() {
        let limit = |case: &mut Case| {
            case.failure = Failure::new(Class::RateLimit, 429);
            case.failure.retry_after = Some(Duration::from_secs(30));
        };
        check(limit, Some(30));
        check_member(limit, |member| member.cooldown_time = Some(Duration::from_secs(7)), Some(7));
        check_member(limit, |member| member.cooldown_time = Some(Duration::ZERO), None);
        check(
            |case| {
                limit(case);
                case.failure.retry_after = Some(Duration::from_secs(1_000_000));
            },
            Some(3600),
        );
        check(
            |case| {
                limit(case);
                case.settings.disable_cooldowns = true;
            },
            None,
        );
    }
}
