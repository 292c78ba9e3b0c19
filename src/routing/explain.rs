//! Why each member of a group would be asked or not: the filters and the strategy, told step by
//! step for a request that nobody has made.
//!
//! Promises what the next pick does, because it is made of the same filters. Changes nothing.

use std::time::Instant;

use super::cooldown::Rule;
use super::limit::Exceeded;
use super::pick::{Filter, Narrow, NoCandidate, least_bad, pick, sift};
use super::strategy::adaptive::{self, Score};
use super::strategy::{Candidates, Scene, Strategy};
use super::table::{Group, Member, RouteTable};
use super::view::View;
use super::{budget, limit};
use crate::lexicon::CooldownState;

/// A member and what becomes of it.
#[derive(Debug)]
pub struct Considered<'g> {
    /// Which.
    pub member: &'g Member,
    /// What keeps it from being asked; `None` where it may be.
    pub dropped: Option<Dropped>,
    /// Until when it is in cooldown, where it is asked all the same because nobody else is left.
    pub forced: Option<Instant>,
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

/// What would become of a request of this shape and with these tags, member by member.
pub fn explain<'g>(
    table: &'g RouteTable,
    group: &'g Group,
    tags: &[Box<str>],
    scene: &Scene<'_, impl View>,
) -> Vec<Considered<'g>> {
    let is = |one: &Member, other: &Member| std::ptr::eq(one, other);
    let mut left: Candidates<'g> = group.members.iter().collect();
    let mut lost: Vec<(&Member, Filter)> = Vec::new();
    let narrow = Narrow { only: None, order: None, tags, excluded: &[], avoided: &[], held: None };
    let note = |filter, left: &Candidates<'g>| {
        let stays = |member: &Member| left.iter().any(|other| is(other, member));
        let known = |member: &Member| lost.iter().any(|(other, _)| is(other, member));
        let gone = group.members.iter().filter(|member| !stays(member) && !known(member));
        let fresh: Vec<_> = gone.collect();
        lost.extend(fresh.into_iter().map(|member| (member, filter)));
    };
    // Nobody left is an answer, too.
    let nobody = sift(&mut left, group, table.settings(), &narrow, scene, note).is_err();
    if nobody {
        left.clear();
    }
    let forced = forced(table, group, &narrow, scene);
    let chances = chances(table, group, &left, &narrow, scene);
    let scores = scores(group.strategy, &left, scene);
    let considered = group.members.iter().map(|member| {
        let at = left.iter().position(|other| is(other, member));
        let score = at.and_then(|at| scores.get(at)).copied();
        if forced.is_some_and(|other| is(other, member)) {
            let until = scene.view.vitals(member.deployment).cooling_until;
            let forced = Some(until.unwrap_or(scene.now));
            return Considered { member, dropped: None, forced, chance: 1.0, score };
        }
        let filter = lost.iter().find(|(other, _)| is(other, member));
        let dropped = filter.map(|(_, filter)| reason(*filter, member, scene));
        let chance = at.and_then(|at| chances.get(at)).copied().unwrap_or_default();
        Considered { member, dropped, forced: None, chance, score }
    });
    considered.collect()
}

/// Who is asked although all are in cooldown: nobody, where another group can be.
fn forced<'g>(
    table: &'g RouteTable,
    group: &'g Group,
    narrow: &Narrow<'_>,
    scene: &Scene<'_, impl View>,
) -> Option<&'g Member> {
    let settings = table.settings();
    let elsewhere = settings.max_fallbacks > 0
        && group
            .fallbacks
            .iter()
            .any(|to| to.model != group.name && table.resolve(&to.model).is_some());
    if elsewhere || group.cooldown != Rule::Pillion {
        return None;
    }
    match pick(group, settings, narrow, scene) {
        Err(NoCandidate::AllCooling(_)) => least_bad(group, settings, narrow, scene).ok(),
        Ok(_) | Err(_) => None,
    }
}

/// None but of an adaptive choice.
fn scores(
    strategy: Strategy,
    left: &Candidates<'_>,
    scene: &Scene<'_, impl View>,
) -> adaptive::Scores {
    match strategy {
        Strategy::Adaptive => adaptive::score(&adaptive::candidates(left, scene.view, scene.now)),
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

/// The chance of each to be chosen: to a thousandth, and exact where the choice is adaptive and
/// nobody is on its way back from a cooldown.
fn chances(
    table: &RouteTable,
    group: &Group,
    left: &Candidates<'_>,
    narrow: &Narrow<'_>,
    scene: &Scene<'_, impl View>,
) -> Vec<f64> {
    let is_back = |member: &&Member| {
        let vitals = scene.view.vitals(member.deployment);
        vitals.warm_since.is_some() || group.state(&vitals, scene.now) != CooldownState::Closed
    };
    let is_adaptive = group.strategy == Strategy::Adaptive;
    if is_adaptive && !left.iter().any(is_back) {
        let candidates = adaptive::candidates(left, scene.view, scene.now);
        return adaptive::chances(&candidates, scene.shape.length).to_vec();
    }
    // Evenly spread dice tell shares best. An adaptive choice throws several times, for which they
    // must not keep step: the golden ratio never does.
    let step = if is_adaptive { 0x9e37_79b9_7f4a_7c15 } else { u64::MAX / u64::from(THROWS) };
    let mut chances = vec![0.0; left.len()];
    for throw in 0..THROWS {
        let entropy = step.wrapping_mul(u64::from(throw));
        let scene = Scene { view: scene.view, shape: scene.shape, now: scene.now, entropy };
        let Ok(chosen) = pick(group, table.settings(), narrow, &scene) else { continue };
        let at = left.iter().position(|it| std::ptr::eq(*it, chosen));
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
    use crate::lexicon::{DeploymentIx, Substitute};
    use crate::routing::fixture::{World, members};
    use crate::routing::table::{Rates, Settings};
    use crate::routing::view::Vitals;

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
        check_tagged(members, world, strategy, &[])
    }

    #[track_caller]
    fn check_tagged(
        members: Vec<Member>,
        world: &World,
        strategy: Strategy,
        tags: &[Box<str>],
    ) -> Vec<Option<Dropped>> {
        let table = table(members, strategy);
        let (group, settings) = (&table.groups()[0], table.settings());
        let told = explain(&table, group, tags, &world.scene(0));
        let narrow =
            Narrow { only: None, order: None, tags, excluded: &[], avoided: &[], held: None };
        let mut picked: BTreeMap<u16, f64> = BTreeMap::new();
        for entropy in 0..20_000u64 {
            let scene = world.scene(entropy.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let chosen = match pick(group, settings, &narrow, &scene) {
                Err(NoCandidate::AllCooling(_)) => least_bad(group, settings, &narrow, &scene),
                chosen => chosen,
            };
            if let Ok(member) = chosen {
                *picked.entry(member.deployment.0).or_default() += 1.0 / 20_000.0;
            }
        }
        for one in &told {
            let got = picked.get(&one.member.deployment.0).copied().unwrap_or_default();
            assert!((got - one.chance).abs() < 0.015, "{got} {told:?}");
            let is_asked = one.score.is_some() || one.forced.is_some();
            assert_eq!(one.dropped.is_none(), is_asked, "{told:?}");
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
    fn where_all_are_in_cooldown_the_first_to_be_back_is_asked() {
        let mut world = World::default();
        world.set_cooling(0, world.now + Duration::from_secs(2));
        world.set_cooling(1, world.now + Duration::from_secs(1));
        let told = check(members(2), &world, Strategy::Adaptive);
        assert!(matches!(told[..], [Some(Dropped::Cooling(_)), None]), "{told:?}");
    }

    #[test]
    fn where_others_can_be_asked_nobody_is_forced() {
        let mut world = World::default();
        world.set_cooling(0, world.now + Duration::from_secs(2));
        world.set_cooling(1, world.now + Duration::from_secs(1));
        let other = Substitute::model("other");
        let settings =
            Settings { fallbacks: vec![("g".into(), vec![other])], ..Settings::default() };
        let names = ["g", "g", "other"];
        let entry =
            |(it, name): (Member, &str)| (name.into(), format!("{}", it.deployment.0).into(), it);
        let entries = members(3).into_iter().zip(names).map(entry).collect();
        let table = RouteTable::build(entries, settings);
        let told = explain(&table, &table.groups()[0], &[], &world.scene(0));
        assert!(told.iter().all(|one| one.dropped.is_some() && one.forced.is_none()), "{told:?}");
    }

    #[test]
    fn tags_are_those_of_the_request() {
        let mut all = members(3);
        all[0].tags = vec!["fast".into()];
        all[1].tags = vec!["cheap".into()];
        let told = check_tagged(all, &World::default(), Strategy::Adaptive, &["cheap".into()]);
        assert_eq!(told, [Some(Dropped::Tags), None, Some(Dropped::Tags)]);
    }

    #[test]
    fn who_comes_back_has_the_chance_that_picks_give_it() {
        let mut world = World::default();
        let warm_since = Some(world.now.checked_sub(Duration::from_secs(1)).unwrap());
        world.set_vitals(0, Vitals { warm_since, ..Vitals::default() });
        for strategy in [Strategy::Adaptive, Strategy::SimpleShuffle] {
            let table = table(members(2), strategy);
            let told = explain(&table, &table.groups()[0], &[], &world.scene(0));
            // A tenth of its turns and a little more, and every second of these.
            assert!((0.04..0.12).contains(&told[0].chance), "{told:?}");
        }
    }

    #[test]
    fn weights_are_chances_where_they_are_shares() {
        let mut all = members(2);
        (all[0].weight, all[1].weight) = (Some(3.0), Some(1.0));
        let table = table(all, Strategy::SimpleShuffle);
        let world = World::default();
        let told = explain(&table, &table.groups()[0], &[], &world.scene(0));
        assert!((told[0].chance - 0.75).abs() < 0.002 && told[0].score.is_none(), "{told:?}");
    }
}
