//! `simple-shuffle`: at random, in proportion to what the configuration says.

use super::super::chance::{one_of, unit};
use super::super::table::Member;
use super::Candidates;

/// `simple-shuffle`: proportional to weight, else rpm, else tpm, else uniform. The first of
/// these that anybody has decides; members without it are never picked then.
pub(in crate::routing) fn choose<'g>(left: &Candidates<'g>, entropy: u64) -> Option<&'g Member> {
    let shares: [fn(&Member) -> Option<f64>; 3] =
        [|member| member.weight, |member| member.rpm, |member| member.tpm];
    let share =
        |of: fn(&Member) -> Option<f64>, member: &Member| of(member).unwrap_or(0.0).max(0.0);
    let point = unit(entropy);
    for of in shares {
        let total: f64 = left.iter().map(|member| share(of, member)).sum();
        if total > 0.0 {
            let mut reached = point * total;
            let found = left.iter().find(|member| {
                reached -= share(of, member);
                reached < 0.0
            });
            let last = left.iter().rev().find(|member| share(of, member) > 0.0);
            return found.or(last).copied();
        }
    }
    one_of(left, entropy)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lexicon::DeploymentIx;

    /// How often each was picked over evenly spread entropy.
    fn shares(count: u16, set: impl Fn(u16, &mut Member)) -> BTreeMap<u16, u32> {
        let members: Vec<_> = (0..count)
            .map(|at| {
                let mut member = Member::new(DeploymentIx(at));
                set(at, &mut member);
                member
            })
            .collect();
        let left: Candidates<'_> = members.iter().collect();
        let mut counts = BTreeMap::new();
        for step in 0..1000u64 {
            let picked = choose(&left, step * (u64::MAX / 1000) + u64::MAX / 2000).unwrap();
            *counts.entry(picked.deployment.0).or_default() += 1;
        }
        counts
    }

    #[test]
    fn shares_follow_the_first_measure_anybody_has() {
        let got =
            shares(3, |at, member| member.weight = [Some(3.0), Some(1.0), None][usize::from(at)]);
        assert_eq!(got, [(0, 750), (1, 250)].into());
        let got = shares(2, |at, member| member.rpm = [Some(10.0), Some(30.0)][usize::from(at)]);
        assert_eq!(got, [(0, 250), (1, 750)].into());
        let got = shares(2, |at, member| member.tpm = [Some(10.0), Some(10.0)][usize::from(at)]);
        assert_eq!(got, [(0, 500), (1, 500)].into());
        assert_eq!(shares(4, |_, _| ()).values().copied().collect::<Vec<_>>(), [250; 4]);
    }
}
