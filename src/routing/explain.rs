//! Why each member of a group would be asked or not: the filters and the strategy, told step by
//! step for a request that nobody has made.
//!
//! Promises what the next pick does, because it is made of the same filters. Changes nothing.

use std::time::Instant;

use super::limit::Exceeded;
use super::pick::{Filter, Narrow, sift};
use super::strategy::adaptive::{self, Score};
use super::strategy::{Candidates, Scene, Strategy};
use super::table::{Group, Member, Settings};
use super::view::View;
use super::{budget, limit};

/// A member and what becomes of it.
#[derive(Debug)]
pub struct Considered<'g> {
    /// Which.
    pub member: &'g Member,
    /// What keeps it from being asked; `None` where it may be.
    pub dropped: Option<Dropped>,
    /// The chance that it is asked first.
    pub chance: f64,
    /// What an adaptive choice is made by.
    pub score: Option<Score>,
}

/// Why a member is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It runs as many requests as it may.
    Busy,
    /// It is in cooldown until then.
    Cooling(Instant),
    /// A limit or a budget is used up.
    Limited(Exceeded),
    /// It has another order than those that are asked first.
    Order,
    /// It lacks the tags.
    Tags,
}

/// What would become of a request of this shape, member by member.
pub fn explain<'g>(
    group: &'g Group,
    settings: &Settings,
    scene: &Scene<'_, impl View>,
) -> Vec<Considered<'g>> {
    let mut left: Candidates<'g> = group.members.iter().collect();
    let mut lost: Vec<(&Member, Filter)> = Vec::new();
    let narrow =
        Narrow { only: None, order: None, tags: &[], excluded: &[], avoided: &[], held: None };
    let note = |filter, left: &Candidates<'g>| {
        let same = |one: &Member, other: &Member| std::ptr::eq(one, other);
        let stays = |member: &Member| left.iter().any(|other| same(other, member));
        let known = |member: &Member| lost.iter().any(|(other, _)| same(other, member));
        let gone = group.members.iter().filter(|member| !stays(member) && !known(member));
        let fresh: Vec<_> = gone.collect();
        lost.extend(fresh.into_iter().map(|member| (member, filter)));
    };
    // Nobody left is an answer, too.
    let nobody = sift(&mut left, group, settings, &narrow, scene, note).is_err();
    if nobody {
        left.clear();
    }
    let chances = chances(group.strategy, &left, scene);
    let scores = scores(group.strategy, &left, scene.view);
    let considered = group.members.iter().map(|member| {
        let at = left.iter().position(|other| std::ptr::eq(*other, member));
        let filter = lost.iter().find(|(other, _)| std::ptr::eq(*other, member));
        Considered {
            member,
            dropped: filter.map(|(_, filter)| reason(*filter, member, scene)),
            chance: at.and_then(|at| chances.get(at)).copied().unwrap_or_default(),
            score: at.and_then(|at| scores.get(at)).copied(),
        }
    });
    considered.collect()
}

/// None but of an adaptive choice.
fn scores(strategy: Strategy, left: &Candidates<'_>, view: &impl View) -> adaptive::Scores {
    match strategy {
        Strategy::Adaptive => adaptive::score(&adaptive::candidates(left, view)),
        Strategy::Cost
        | Strategy::LeastBusy
        | Strategy::LowestLatency(_)
        | Strategy::SimpleShuffle
        | Strategy::Usage(_)
        | Strategy::UsageV2(_) => adaptive::Scores::new(),
    }
}

fn reason(filter: Filter, member: &Member, scene: &Scene<'_, impl View>) -> Dropped {
    let limited = |exceeded: Option<Exceeded>| exceeded.map_or(Dropped::Busy, Dropped::Limited);
    match filter {
        Filter::Budget => limited(budget::exceeded(member, scene.view, scene.now)),
        Filter::Cooldown => {
            let until = scene.view.vitals(member.deployment).cooling_until;
            Dropped::Cooling(until.unwrap_or(scene.now))
        }
        Filter::Limits => limited(limit::exceeded(member, scene)),
        Filter::Order => Dropped::Order,
        Filter::Room => Dropped::Busy,
        Filter::Tags => Dropped::Tags,
    }
}

/// How many throws of the dice tell the chances of a strategy that does not tell them itself.
const THROWS: u32 = 1_000;

/// The chance of each to be chosen: exact where the choice is adaptive, and else to a thousandth.
fn chances(strategy: Strategy, left: &Candidates<'_>, scene: &Scene<'_, impl View>) -> Vec<f64> {
    if strategy == Strategy::Adaptive {
        let candidates = adaptive::candidates(left, scene.view);
        return adaptive::chances(&candidates, scene.shape.length).to_vec();
    }
    let mut chances = vec![0.0; left.len()];
    for throw in 0..THROWS {
        let entropy = u64::MAX / u64::from(THROWS) * u64::from(throw);
        let scene = Scene { view: scene.view, shape: scene.shape, now: scene.now, entropy };
        let chosen = strategy.choose(left, &scene);
        let at = left.iter().position(|it| chosen.is_some_and(|other| std::ptr::eq(*it, other)));
        if let Some(chance) = at.and_then(|at| chances.get_mut(at)) {
            *chance += 1.0 / f64::from(THROWS);
        }
    }
    chances
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::lexicon::DeploymentIx;
    use crate::routing::fixture::{World, members};
    use crate::routing::pick::pick;
    use crate::routing::table::{Rates, RouteTable};

    fn table(members: Vec<Member>, strategy: Strategy) -> RouteTable {
        let settings = Settings {
            strategy,
            rates: Rates::Limits,
            enable_tag_filtering: true,
            ..Settings::default()
        };
        let entry = |it: Member| ("g".into(), format!("{}", it.deployment.0).into(), it);
        RouteTable::build(members.into_iter().map(entry).collect(), settings)
    }

    /// What is told of each, and that picks do so.
    #[track_caller]
    fn check(members: Vec<Member>, world: &World, strategy: Strategy) -> Vec<Option<Dropped>> {
        let table = table(members, strategy);
        let (group, settings) = (&table.groups()[0], table.settings());
        let told = explain(group, settings, &world.scene(0));
        let narrow =
            Narrow { only: None, order: None, tags: &[], excluded: &[], avoided: &[], held: None };
        let mut picked: BTreeMap<u16, f64> = BTreeMap::new();
        for entropy in 0..20_000u64 {
            let scene = world.scene(entropy.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if let Ok(member) = pick(group, settings, &narrow, &scene) {
                *picked.entry(member.deployment.0).or_default() += 1.0 / 20_000.0;
            }
        }
        for one in &told {
            let got = picked.get(&one.member.deployment.0).copied().unwrap_or_default();
            assert!((got - one.chance).abs() < 0.015, "{got} {told:?}");
            assert_eq!(one.dropped.is_some(), one.score.is_none(), "{told:?}");
        }
        told.into_iter().map(|one| one.dropped).collect()
    }

    #[test]
    fn each_filter_is_named_and_chances_are_those_of_picks() {
        let mut world = World::default();
        let mut all = members(7);
        let until = world.now + Duration::from_secs(5);
        world.set_cooling(0, until);
        all[1].rpm = Some(0.0);
        for at in [2, 4, 5, 6] {
            all[at].order = Some(1);
        }
        all[3].order = Some(2);
        all[2].max_parallel_requests = Some(1);
        world.set_busy(2, 1);
        for one in &mut all[..6] {
            one.tags = vec!["default".into()];
        }
        world.set_busy(5, 1);
        let told = check(all, &world, Strategy::Adaptive);
        assert_eq!(told[0], Some(Dropped::Cooling(until)));
        assert!(matches!(told[1], Some(Dropped::Order | Dropped::Limited(_))), "{told:?}");
        assert_eq!(
            told[2..],
            [Some(Dropped::Busy), Some(Dropped::Order), None, None, Some(Dropped::Tags)]
        );
    }

    #[test]
    fn a_used_up_rate_is_told_with_its_end() {
        let mut all = members(2);
        all[1].rpm = Some(0.0);
        let told = check(all, &World::default(), Strategy::Adaptive);
        assert!(matches!(told[1], Some(Dropped::Limited(it)) if it.of == DeploymentIx(1)));
    }

    #[test]
    fn where_nobody_is_left_everybody_has_a_reason() {
        let mut world = World::default();
        world.set_cooling(0, world.now + Duration::from_secs(1));
        world.set_cooling(1, world.now + Duration::from_secs(2));
        let told = check(members(2), &world, Strategy::Adaptive);
        assert!(told.iter().all(Option::is_some), "{told:?}");
    }

    #[test]
    fn weights_are_chances_where_they_are_shares() {
        let mut all = members(2);
        (all[0].weight, all[1].weight) = (Some(3.0), Some(1.0));
        let table = table(all, Strategy::SimpleShuffle);
        let world = World::default();
        let told = explain(&table.groups()[0], table.settings(), &world.scene(0));
        assert!((told[0].chance - 0.75).abs() < 0.002 && told[0].score.is_none(), "{told:?}");
    }
}
