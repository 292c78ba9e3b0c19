//! Budgets: who has spent its money, or its provider's, is passed over until the window ends.
//!
//! A filter that works with every strategy. What a call will cost is not guessed, so that the
//! last one may exceed the budget, as it does in `LiteLLM`.

use std::time::{Duration, Instant};

use super::limit::{Exceeded, Limit};
use super::table::Member;
use super::view::{Payer, View};
use crate::lexicon::PicoUsd;

/// So much in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// `max_budget`.
    pub most: PicoUsd,
    /// `budget_duration`: the window, which begins with the first money spent.
    pub period: Duration,
}

/// The budget that is used up and ends last, if any.
pub(super) fn exceeded(member: &Member, view: &impl View, now: Instant) -> Option<Exceeded> {
    let budgets = [
        (member.budget, Payer::Deployment, Limit::DeploymentBudget),
        (member.provider_budget, Payer::Provider, Limit::ProviderBudget),
    ];
    let used_up = budgets.into_iter().filter_map(|(budget, payer, limit)| {
        let Budget { most, period } = budget?;
        let spent = view.spent(member.deployment, payer, now);
        let (amount, until) =
            spent.map_or((PicoUsd::ZERO, now + period), |spent| (spent.amount, spent.until));
        (amount >= most).then_some(Exceeded { limit, of: member.deployment, until })
    });
    used_up.max_by_key(|exceeded| exceeded.until)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;
    use super::*;
    use crate::lexicon::DeploymentIx;
    use crate::routing::view::Spent;

    /// What is used up where the deployment has 10 and its provider 100.
    #[track_caller]
    fn check(own: Option<(u64, u64)>, providers: Option<(u64, u64)>, want: Option<(Limit, u64)>) {
        let mut world = World::default();
        let now = world.now;
        for (spent, payer) in [(own, Payer::Deployment), (providers, Payer::Provider)] {
            if let Some((amount, seconds)) = spent {
                let until = now + Duration::from_secs(seconds);
                world.set_spent(0, payer, Spent { amount: PicoUsd(amount), until });
            }
        }
        let budget = |most| Some(Budget { most: PicoUsd(most), period: Duration::from_secs(60) });
        let mut member = Member::new(DeploymentIx(0));
        assert_eq!(exceeded(&member, &world, now), None);
        member.budget = budget(10);
        member.provider_budget = budget(100);
        let got = exceeded(&member, &world, now);
        let got = got.map(|it| (it.limit, it.until.saturating_duration_since(now).as_secs()));
        assert_eq!(got, want);
    }

    #[test]
    fn a_budget_is_used_up_when_all_of_it_is_spent() {
        check(None, None, None);
        check(Some((9, 30)), Some((99, 40)), None);
        check(Some((10, 30)), Some((99, 40)), Some((Limit::DeploymentBudget, 30)));
        check(Some((9, 30)), Some((100, 40)), Some((Limit::ProviderBudget, 40)));
        check(Some((10, 30)), Some((100, 20)), Some((Limit::DeploymentBudget, 30)));
    }

    #[test]
    fn a_budget_of_nothing_is_used_up_at_once() {
        let world = World::default();
        let mut member = Member::new(DeploymentIx(0));
        member.budget = Some(Budget { most: PicoUsd::ZERO, period: Duration::from_secs(60) });
        assert!(exceeded(&member, &world, world.now).is_some());
    }
}
