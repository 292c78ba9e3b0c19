//! `usage-based-routing` and `usage-based-routing-v2`: the candidate that used the fewest tokens
//! lately.
//!
//! The prompts of calls that run count, by their estimate, so that calls which come together do
//! not all meet the same lowest number.

use std::time::Duration;

use super::super::table::Member;
use super::super::view::View;
use super::{Candidates, Scene, least};

/// The arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// `ttl`: for how long an answer's tokens count; a minute by default, and at most.
    pub ttl: Duration,
}

impl Default for Usage {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(60) }
    }
}

impl Usage {
    pub(super) fn choose<'g>(
        &self,
        left: &Candidates<'g>,
        scene: &Scene<'_, impl View>,
    ) -> Option<&'g Member> {
        let tokens =
            |member: &Member| scene.view.used(member.deployment, self.ttl, scene.now).tokens;
        least(left, scene.entropy, tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Shape, Strategy};
    use super::*;
    use crate::routing::fixture::{World, members};
    use crate::routing::view::Used;

    #[track_caller]
    fn check(tokens: &[u64], want: &[u16]) {
        let mut world = World::default();
        for (at, tokens) in (0..).zip(tokens) {
            world.set_used(at, Used { requests: 1, tokens: *tokens });
        }
        let members = members(u16::try_from(tokens.len()).unwrap());
        for strategy in [Strategy::Usage(Usage::default()), Strategy::UsageV2(Usage::default())] {
            assert_eq!(world.chosen(strategy, &members, Shape::default()), want);
        }
    }

    #[test]
    fn the_fewest_tokens_are_chosen_and_of_several_any() {
        check(&[30, 10, 20], &[1]);
        check(&[10, 0, 0], &[1, 2]);
        check(&[0, 0], &[0, 1]);
    }
}
