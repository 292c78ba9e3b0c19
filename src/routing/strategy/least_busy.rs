//! `least-busy`: the candidate with the fewest tries that run now.
//!
//! The count is that of guards which fall with their try, so it cannot drift and needs no
//! lifetime; `LiteLLM` keeps a counter that expires after an hour.

use super::super::table::Member;
use super::super::view::View;
use super::{Candidates, Scene, least};

pub(super) fn choose<'g>(
    left: &Candidates<'g>,
    scene: &Scene<'_, impl View>,
) -> Option<&'g Member> {
    least(left, scene.entropy, |member| scene.view.vitals(member.deployment).in_flight)
}

#[cfg(test)]
mod tests {
    use super::super::{Shape, Strategy};
    use crate::routing::fixture::{World, members};

    #[track_caller]
    fn check(busy: &[u32], want: &[u16]) {
        let mut world = World::default();
        for (at, in_flight) in (0..).zip(busy) {
            world.set_busy(at, *in_flight);
        }
        let members = members(u16::try_from(busy.len()).unwrap());
        assert_eq!(world.chosen(Strategy::LeastBusy, &members, Shape::default()), want);
    }

    #[test]
    fn the_least_busy_is_chosen_and_of_several_any() {
        check(&[3, 1, 2], &[1]);
        check(&[1, 0, 0], &[1, 2]);
        check(&[0, 0, 0], &[0, 1, 2]);
        check(&[9], &[0]);
    }
}
