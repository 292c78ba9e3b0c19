//! One candidate out of a group: filters in `LiteLLM`'s order, then the strategy.
//!
//! By Pillion's rule of cooldown a group always has somebody: [`pick`] says that all who fit are in
//! cooldown, and [`least_bad`] gives one of them where no other group can be asked. Who has just
//! come back from a cooldown is warmed up here, for all strategies.

use std::time::Instant;

use smallvec::SmallVec;

use super::cooldown::Rule;
use super::limit::Exceeded;
use super::strategy::{Candidates, Scene};
use super::table::{Group, Member, Rates, Settings};
use super::view::View;
use super::{budget, chance, limit};
use crate::lexicon::{CooldownState, DeploymentIx};

/// What narrows the candidates of one pick.
#[derive(Debug, Clone, Copy)]
pub struct Narrow<'a> {
    /// The only deployment allowed, where the client named one by its id.
    pub only: Option<DeploymentIx>,
    /// Only members of this `order`; `None` is the lowest one left.
    pub order: Option<i64>,
    /// The request's tags.
    pub tags: &'a [Box<str>],
    /// Deployments that are not asked again for this request.
    pub excluded: &'a [DeploymentIx],
    /// Deployments that are asked again only where nobody else is left.
    pub avoided: &'a [DeploymentIx],
    /// The deployment where a seat is kept for this request. It counts as taken for all others.
    pub held: Option<DeploymentIx>,
}

/// Why nobody is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCandidate {
    /// All that fit are in cooldown, the first of them until this moment.
    AllCooling(Instant),
    /// All that fit have as many requests as they may.
    AllBusy,
    /// All that fit have used up a limit, this one the first to have room again.
    AllLimited(Exceeded),
    /// No deployment carries the request's tags.
    NoTagMatch,
    /// Everyone who could serve it has refused it already.
    Exhausted,
    /// The request's deadline is past.
    OutOfTime,
}

/// Picks a member of `group`.
///
/// A deployment named by its id is asked even in cooldown, as `LiteLLM` does, but not beyond its
/// `max_parallel_requests`, its budget or an enforced limit.
pub fn pick<'g>(
    group: &'g Group,
    settings: &Settings,
    narrow: &Narrow<'_>,
    scene: &Scene<'_, impl View>,
) -> Result<&'g Member, NoCandidate> {
    if let Some(only) = narrow.only {
        let named = group.members.iter().find(|member| member.deployment == only);
        let named = named.filter(|member| !narrow.excluded.contains(&member.deployment));
        return by_name(named.ok_or(NoCandidate::Exhausted)?, settings, narrow, scene);
    }
    if let [member] = group.members.as_slice()
        && narrow.order.is_none()
        && !settings.enable_tag_filtering
    {
        return alone(member, group, settings, narrow, scene);
    }
    let (warm, cooling) = by_cooldown(group, settings, scene);
    match warmed_up(warm, group, settings, narrow, scene) {
        Ok(left) => choose(&left, group, scene),
        Err(NoCandidate::Exhausted | NoCandidate::NoTagMatch)
            if group.cooldown == Rule::Pillion
                && narrowed(cooling.clone(), group, settings, narrow, scene).is_ok() =>
        {
            Err(all_cooling(&cooling, scene))
        }
        Err(_) if cooling.len() == group.members.len() => Err(all_cooling(&cooling, scene)),
        Err(nobody) => Err(nobody),
    }
}

/// Who of those in cooldown is back first, for a request that nobody else is left for. By
/// `LiteLLM`'s rule nobody is.
pub fn least_bad<'g>(
    group: &'g Group,
    settings: &Settings,
    narrow: &Narrow<'_>,
    scene: &Scene<'_, impl View>,
) -> Result<&'g Member, NoCandidate> {
    let (_, cooling) = by_cooldown(group, settings, scene);
    match group.cooldown {
        Rule::LiteLlm | Rule::None => Err(all_cooling(&cooling, scene)),
        Rule::Pillion => {
            let left = narrowed(cooling, group, settings, narrow, scene)?;
            let back = |member: &&&Member| scene.view.vitals(member.deployment).cooling_until;
            left.iter().min_by_key(back).copied().ok_or(NoCandidate::Exhausted)
        }
    }
}

/// Lets the strategy choose; where it shuns who has failed, a probe that is due comes first.
fn choose<'g>(
    left: &Candidates<'g>,
    group: &Group,
    scene: &Scene<'_, impl View>,
) -> Result<&'g Member, NoCandidate> {
    let half_open = |member: &&&Member| {
        group.state(&scene.view.vitals(member.deployment), scene.now) == CooldownState::HalfOpen
    };
    let due = if group.strategy.shuns_failures() { left.iter().find(half_open) } else { None };
    due.copied().or_else(|| group.strategy.choose(left, scene)).ok_or(NoCandidate::Exhausted)
}

/// What takes candidates away, whatever the request has tried before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Budget,
    Cooldown,
    Limits,
    Order,
    Room,
    Tags,
}

/// Leaves those who may be asked. Tells who is left after each filter, also where that is nobody.
pub(super) fn sift<'g>(
    left: &mut Candidates<'g>,
    group: &'g Group,
    settings: &Settings,
    narrow: &Narrow<'_>,
    scene: &Scene<'_, impl View>,
    mut after: impl FnMut(Filter, &Candidates<'g>),
) -> Result<(), NoCandidate> {
    let (warm, cooling) = by_cooldown(group, settings, scene);
    *left = warm;
    after(Filter::Cooldown, left);
    if left.is_empty() {
        return Err(all_cooling(&cooling, scene));
    }
    narrow_down(left, group, settings, narrow, scene, after)
}

/// Those whom the filters after cooldown leave.
fn narrowed<'g>(
    mut left: Candidates<'g>,
    group: &'g Group,
    settings: &Settings,
    narrow: &Narrow<'_>,
    scene: &Scene<'_, impl View>,
) -> Result<Candidates<'g>, NoCandidate> {
    narrow_down(&mut left, group, settings, narrow, scene, |_, _| ())?;
    if left.is_empty() { Err(NoCandidate::Exhausted) } else { Ok(left) }
}

fn narrow_down<'g>(
    left: &mut Candidates<'g>,
    group: &'g Group,
    settings: &Settings,
    narrow: &Narrow<'_>,
    scene: &Scene<'_, impl View>,
    mut after: impl FnMut(Filter, &Candidates<'g>),
) -> Result<(), NoCandidate> {
    let done = by_limit(left, |member| budget::exceeded(member, scene.view, scene.now));
    after(Filter::Budget, left);
    done?;
    if settings.enable_tag_filtering {
        let done = by_tags(left, settings, narrow.tags);
        after(Filter::Tags, left);
        done?;
    }
    by_order(left, narrow.order);
    after(Filter::Order, left);
    left.retain(|member| !narrow.excluded.contains(&member.deployment));
    if left.is_empty() {
        return Err(NoCandidate::Exhausted);
    }
    left.retain(|member| has_room(member, narrow, scene.view));
    after(Filter::Room, left);
    if left.is_empty() {
        return Err(NoCandidate::AllBusy);
    }
    if settings.minds_limits(&group.strategy) {
        let done = by_limit(left, |member| limit::exceeded(member, scene));
        after(Filter::Limits, left);
        done?;
    }
    if left.iter().any(|member| !narrow.avoided.contains(&member.deployment)) {
        left.retain(|member| !narrow.avoided.contains(&member.deployment));
    }
    Ok(())
}

/// A deployment that was asked for by its id.
fn by_name<'g>(
    member: &'g Member,
    settings: &Settings,
    narrow: &Narrow<'_>,
    scene: &Scene<'_, impl View>,
) -> Result<&'g Member, NoCandidate> {
    within(member, budget::exceeded(member, scene.view, scene.now))?;
    if !has_room(member, narrow, scene.view) {
        return Err(NoCandidate::AllBusy);
    }
    match settings.rates {
        Rates::Limits => within(member, limit::exceeded(member, scene)),
        Rates::Shares => Ok(member),
    }
}

/// The common case of one deployment, without lists.
fn alone<'g>(
    member: &'g Member,
    group: &Group,
    settings: &Settings,
    narrow: &Narrow<'_>,
    scene: &Scene<'_, impl View>,
) -> Result<&'g Member, NoCandidate> {
    let vitals = scene.view.vitals(member.deployment);
    // By LiteLLM's rule a call is refused, which others shall not bring about.
    let until = match group.cooldown {
        Rule::LiteLlm => vitals.own_until,
        Rule::None | Rule::Pillion => vitals.cooling_until,
    };
    match until {
        Some(until) if until > scene.now && group.cools() => {
            return Err(NoCandidate::AllCooling(until));
        }
        _ if narrow.excluded.contains(&member.deployment) => return Err(NoCandidate::Exhausted),
        _ => {}
    }
    within(member, budget::exceeded(member, scene.view, scene.now))?;
    if !has_room(member, narrow, scene.view) {
        return Err(NoCandidate::AllBusy);
    }
    let limited = settings.minds_limits(&group.strategy);
    within(member, limited.then(|| limit::exceeded(member, scene)).flatten())
}

fn within(member: &Member, exceeded: Option<Exceeded>) -> Result<&Member, NoCandidate> {
    exceeded.map_or(Ok(member), |exceeded| Err(NoCandidate::AllLimited(exceeded)))
}

/// Those who may be asked, and those whom their cooldown, or the probes that run there, keep away.
///
/// By `LiteLLM`'s rule a group may be without anybody, but not because of what others say: where
/// nobody would be left, only what was seen here counts. By Pillion's there is always somebody.
fn by_cooldown<'g>(
    group: &'g Group,
    settings: &Settings,
    scene: &Scene<'_, impl View>,
) -> (Candidates<'g>, Candidates<'g>) {
    let (warm, cooling): (Candidates<'_>, Candidates<'_>) =
        group.members.iter().partition(|member| {
            let vitals = scene.view.vitals(member.deployment);
            match group.state(&vitals, scene.now) {
                CooldownState::Closed => true,
                CooldownState::HalfOpen => {
                    let most = settings.breaker.probes_at_once;
                    !vitals.is_probed_elsewhere(scene.now) && vitals.probes < Some(most)
                }
                CooldownState::Open => false,
            }
        });
    if !warm.is_empty() || group.cooldown != Rule::LiteLlm {
        return (warm, cooling);
    }
    let by_hearsay = |member: &&Member| {
        !scene.view.vitals(member.deployment).is_cooling_by_own_evidence(scene.now)
    };
    cooling.into_iter().partition(by_hearsay)
}

fn all_cooling(cooling: &Candidates<'_>, scene: &Scene<'_, impl View>) -> NoCandidate {
    let until = |member: &&Member| scene.view.vitals(member.deployment).cooling_until;
    NoCandidate::AllCooling(cooling.iter().filter_map(until).min().unwrap_or(scene.now))
}

/// The filters after cooldown, without those whose turn it is not yet while they warm up. They are
/// asked all the same where nobody else is, or only deployments that have failed for this request.
fn warmed_up<'g>(
    warm: Candidates<'g>,
    group: &'g Group,
    settings: &Settings,
    narrow: &Narrow<'_>,
    scene: &Scene<'_, impl View>,
) -> Result<Candidates<'g>, NoCandidate> {
    let kept: Candidates<'g> =
        warm.iter().filter(|member| takes_its_turn(member, settings, scene)).copied().collect();
    if kept.len() < warm.len()
        && let Ok(left) = narrowed(kept, group, settings, narrow, scene)
        && left.iter().any(|member| !narrow.avoided.contains(&member.deployment))
    {
        return Ok(left);
    }
    narrowed(warm, group, settings, narrow, scene)
}

/// Whether a member takes part in this pick: always, unless it has just come back.
fn takes_its_turn(member: &Member, settings: &Settings, scene: &Scene<'_, impl View>) -> bool {
    let Some(since) = scene.view.vitals(member.deployment).warm_since else { return true };
    let (age, ramp) = (scene.now.saturating_duration_since(since), settings.breaker.ramp);
    if age >= ramp {
        return true;
    }
    let share = FIRST_SHARE + (1.0 - FIRST_SHARE) * age.as_secs_f64() / ramp.as_secs_f64();
    chance::unit(chance::salted(scene.entropy, member.deployment.0.into())) < share
}

/// The share of its traffic that a deployment begins with when it comes back.
const FIRST_SHARE: f64 = 0.1;

/// Drops those who have used up a limit.
fn by_limit(
    left: &mut Candidates<'_>,
    exceeded: impl Fn(&Member) -> Option<Exceeded>,
) -> Result<(), NoCandidate> {
    let mut first: Option<Exceeded> = None;
    left.retain(|member| match exceeded(member) {
        None => true,
        Some(own) => {
            if first.is_none_or(|first| own.until < first.until) {
                first = Some(own);
            }
            false
        }
    });
    match first {
        Some(first) if left.is_empty() => Err(NoCandidate::AllLimited(first)),
        Some(_) | None => Ok(()),
    }
}

fn has_room(member: &Member, narrow: &Narrow<'_>, view: &impl View) -> bool {
    let Some(most) = member.max_parallel_requests else { return true };
    let own = u32::from(narrow.held == Some(member.deployment));
    view.vitals(member.deployment).in_flight.saturating_sub(own) < most
}

/// Tag filtering by §3.6 of `LiteLLM`: `!x` excludes, `&x` requires, others must overlap (or all
/// match); without a match, and without tags, the deployments tagged `default`.
fn by_tags(
    left: &mut Candidates<'_>,
    settings: &Settings,
    tags: &[Box<str>],
) -> Result<(), NoCandidate> {
    let has = |member: &Member, tag: &str| member.tags.iter().any(|own| &**own == tag);
    let plain: SmallVec<[&str; 4]> =
        tags.iter().map(|tag| &**tag).filter(|tag| !tag.starts_with(['!', '&'])).collect();
    let known = left.iter().any(|member| plain.iter().any(|tag| has(member, tag)));
    for tag in tags {
        if let Some(unwanted) = tag.strip_prefix('!') {
            left.retain(|member| !has(member, unwanted));
        } else if let Some(required) = tag.strip_prefix('&') {
            left.retain(|member| has(member, required));
        }
    }
    let matches = |member: &&Member| {
        if settings.tag_filtering_match_any {
            plain.iter().any(|tag| has(member, tag))
        } else {
            plain.iter().all(|tag| has(member, tag))
        }
    };
    let defaults = left.iter().any(|member| has(member, "default"));
    if plain.is_empty() {
        if defaults && tags.is_empty() {
            left.retain(|member| has(member, "default"));
        }
    } else if left.iter().any(&matches) {
        left.retain(|member| matches(&*member));
    } else if defaults && !known {
        left.retain(|member| has(member, "default"));
    } else {
        left.clear();
    }
    if left.is_empty() { Err(NoCandidate::NoTagMatch) } else { Ok(()) }
}

/// Keeps the members of one order; those without one go as soon as anybody has one.
fn by_order(left: &mut Candidates<'_>, order: Option<i64>) {
    let Some(wanted) = order.or_else(|| left.iter().filter_map(|member| member.order).min()) else {
        return;
    };
    left.retain(|member| member.order == Some(wanted));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::budget::Budget;
    use super::super::fixture::World;
    use super::super::limit::Limit;
    use super::super::strategy::{LowestLatency, Shape};
    use super::super::table::RouteTable;
    use super::super::view::{Measure, Payer, Spent, Used, Vitals};
    use super::*;
    use crate::lexicon::{GroupIx, PicoUsd, time};
    use crate::routing::Strategy;

    struct Fixed(Vec<Vitals>);
    impl View for Fixed {
        fn vitals(&self, of: DeploymentIx) -> Vitals {
            self.0.get(of.at()).copied().unwrap_or_default()
        }
    }

    fn members(count: u16, set: impl Fn(u16, &mut Member)) -> RouteTable {
        members_with(count, set, Settings::default())
    }

    fn members_with(count: u16, set: impl Fn(u16, &mut Member), settings: Settings) -> RouteTable {
        let entry = |at: u16| {
            let mut member = Member::new(DeploymentIx(at));
            set(at, &mut member);
            ("g".into(), format!("id{at}").into(), member)
        };
        RouteTable::build((0..count).map(entry).collect(), settings)
    }

    /// The rule by which a group may be without anybody.
    fn litellms() -> Settings {
        Settings { cooldown: Some(Rule::LiteLlm), ..Settings::default() }
    }

    fn narrow<'a>() -> Narrow<'a> {
        Narrow { only: None, order: None, tags: &[], excluded: &[], avoided: &[], held: None }
    }

    fn run(
        table: &RouteTable,
        narrow: &Narrow<'_>,
        view: &impl View,
        entropy: u64,
    ) -> Result<u16, NoCandidate> {
        let group = table.group(GroupIx(0)).unwrap();
        let scene = Scene { view, shape: Shape::default(), now: time::now(), entropy };
        pick(group, table.settings(), narrow, &scene).map(|member| member.deployment.0)
    }

    #[test]
    fn the_lowest_order_left_is_used() {
        let table =
            members(3, |at, member| member.order = [Some(2), Some(1), None][usize::from(at)]);
        assert_eq!(run(&table, &narrow(), &Fixed(vec![]), 0), Ok(1));
        let until = Some(time::now() + Duration::from_secs(9));
        let cold = Vitals { cooling_until: until, ..Vitals::default() };
        let view = Fixed(vec![Vitals::default(), cold, Vitals::default()]);
        assert_eq!(run(&table, &narrow(), &view, 0), Ok(0));
        assert_eq!(run(&table, &Narrow { order: Some(2), ..narrow() }, &Fixed(vec![]), 0), Ok(0));
    }

    #[test]
    fn cooldown_of_all_says_when_the_first_is_back() {
        let now = time::now();
        let until = |seconds| {
            let until = Some(now + Duration::from_secs(seconds));
            Vitals { cooling_until: until, own_until: until, ..Vitals::default() }
        };
        let view = Fixed(vec![until(9), until(5), until(7)]);
        let first = now + Duration::from_secs(5);
        let of = |count| members_with(count, |_, _| (), litellms());
        assert_eq!(run(&of(3), &narrow(), &view, 1), Err(NoCandidate::AllCooling(first)));
        let alone = Fixed(vec![until(5)]);
        assert_eq!(run(&of(1), &narrow(), &alone, 1), Err(NoCandidate::AllCooling(first)));
    }

    /// Who is picked over much entropy in a group by Pillion's rule, or why nobody is.
    #[track_caller]
    fn check_states(states: &[Vitals], narrow: &Narrow<'_>, want: Result<&[u16], NoCandidate>) {
        let table = members(u16::try_from(states.len()).unwrap(), |_, _| ());
        let view = Fixed(states.to_vec());
        let got: Result<BTreeSet<u16>, _> =
            (0..64).map(|step| run(&table, narrow, &view, step << 58)).collect();
        assert_eq!(got, want.map(|picked| picked.iter().copied().collect()));
    }

    fn open(seconds: u64) -> Vitals {
        let until = Some(time::now() + Duration::from_secs(seconds));
        Vitals { cooling_until: until, probes: Some(0), ..Vitals::default() }
    }

    fn half_open(probes: u32) -> Vitals {
        Vitals { cooling_until: Some(time::now()), probes: Some(probes), ..Vitals::default() }
    }

    #[test]
    fn one_probe_at_a_time_goes_to_who_is_half_open() {
        let well = Vitals::default();
        check_states(&[well, half_open(0)], &narrow(), Ok(&[0, 1]));
        check_states(&[well, half_open(1)], &narrow(), Ok(&[0]));
        check_states(&[open(9), half_open(0)], &narrow(), Ok(&[1]));
        let busy = half_open(1);
        let back = busy.cooling_until.unwrap();
        check_states(&[open(9), busy], &narrow(), Err(NoCandidate::AllCooling(back)));
        check_states(&[open(9)], &narrow(), Ok(&[0]));
        let only = Narrow { only: Some(DeploymentIx(1)), ..narrow() };
        check_states(&[well, open(9)], &only, Ok(&[1]));
    }

    #[test]
    fn a_probe_that_is_another_sidecars_is_not_made_here() {
        let (well, now) = (Vitals::default(), time::now());
        let until = |seconds| Some(now + Duration::from_secs(seconds));
        let elsewhere = Vitals { probed_elsewhere_until: until(60), ..half_open(0) };
        check_states(&[well, elsewhere], &narrow(), Ok(&[0]));
        let silent = Vitals { probed_elsewhere_until: Some(now), ..half_open(0) };
        check_states(&[well, silent], &narrow(), Ok(&[0, 1]));
        check_states(&[elsewhere], &narrow(), Ok(&[0]));
    }

    #[test]
    fn by_litellms_rule_others_do_not_leave_a_group_without_anybody() {
        let rule = Settings { cooldown: Some(Rule::LiteLlm), ..Settings::default() };
        let check = |own: &[bool], want: Result<&[u16], ()>| {
            let table = members_with(u16::try_from(own.len()).unwrap(), |_, _| (), rule.clone());
            let until = Some(time::now() + Duration::from_secs(60));
            let told = |own: &bool| Vitals {
                cooling_until: until,
                own_until: until.filter(|_| *own),
                ..Vitals::default()
            };
            let view = Fixed(own.iter().map(told).collect());
            let picked = |step: u64| run(&table, &narrow(), &view, step << 58).map_err(drop);
            let got: Result<BTreeSet<u16>, _> = (0..64).map(picked).collect();
            assert_eq!(got, want.map(|picked| picked.iter().copied().collect()), "{own:?}");
        };
        check(&[false], Ok(&[0]));
        check(&[true], Err(()));
        check(&[true, false], Ok(&[1]));
        check(&[false, false], Ok(&[0, 1]));
        check(&[true, true], Err(()));
    }

    #[test]
    fn who_is_in_cooldown_is_the_last_resort_of_this_request_too() {
        let (first, well) = ([DeploymentIx(0)], Vitals::default());
        let cold = open(9);
        let refused = Narrow { excluded: &first, ..narrow() };
        let back = NoCandidate::AllCooling(cold.cooling_until.unwrap());
        check_states(&[well, cold], &refused, Err(back));
        let failed = Narrow { avoided: &first, ..narrow() };
        check_states(&[well, cold], &failed, Ok(&[0]));
        let both = [DeploymentIx(0), DeploymentIx(1)];
        let all = Narrow { excluded: &both, ..narrow() };
        check_states(&[well, cold], &all, Err(NoCandidate::Exhausted));
    }

    #[test]
    fn a_probe_goes_even_where_the_strategy_shuns_who_has_failed() {
        let mut world = World::default();
        world.set_took(0, Measure::PerToken, &[0.1]);
        world.set_took(1, Measure::PerToken, &[900.0]);
        let latency = Strategy::LowestLatency(LowestLatency::default());
        let settings = Settings { strategy: latency, ..Settings::default() };
        let table = members_with(2, |_, _| (), settings);
        assert_eq!(run(&table, &narrow(), &world, 0), Ok(0));
        world.set_vitals(1, half_open(0));
        assert_eq!(run(&table, &narrow(), &world, 0), Ok(1));
        world.set_vitals(1, half_open(1));
        assert_eq!(run(&table, &narrow(), &world, 0), Ok(0));
    }

    /// How many of a thousand picks in a group of two go to the first, which came back so long
    /// ago.
    fn share_of_the_warming(strategy: Strategy, age: u64, narrow: &Narrow<'_>) -> u32 {
        let mut world = World::default();
        let warm_since = Some(world.now);
        world.now += Duration::from_secs(age);
        world.set_vitals(0, Vitals { warm_since, ..Vitals::default() });
        world.set_busy(1, 9);
        let settings = Settings { strategy, ..Settings::default() };
        let table = members_with(2, |_, member| member.weight = Some(1.0), settings);
        let group = table.group(GroupIx(0)).unwrap();
        let picks = (0..1000u64).map(|step| {
            let scene = world.scene(chance::salted(step, 7));
            pick(group, table.settings(), narrow, &scene).unwrap().deployment.0
        });
        u32::try_from(picks.filter(|picked| *picked == 0).count()).unwrap()
    }

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole_under_every_strategy() {
        for (strategy, whole) in [(Strategy::SimpleShuffle, 500), (Strategy::LeastBusy, 1000)] {
            for (age, share) in [(0, 0.1), (10, 0.55), (20, 1.0), (90, 1.0)] {
                let got = share_of_the_warming(strategy, age, &narrow());
                let want = f64::from(whole) * share;
                assert!((f64::from(got) - want).abs() < 60.0, "{strategy:?} {age}: {got}");
            }
        }
        let other = [DeploymentIx(1)];
        for narrow in
            [Narrow { excluded: &other, ..narrow() }, Narrow { avoided: &other, ..narrow() }]
        {
            assert_eq!(share_of_the_warming(Strategy::SimpleShuffle, 0, &narrow), 1000);
        }
    }

    #[test]
    fn full_deployments_are_passed_over() {
        let table = members(2, |_, member| member.max_parallel_requests = Some(2));
        let busy = |count| Vitals { in_flight: count, ..Vitals::default() };
        assert_eq!(run(&table, &narrow(), &Fixed(vec![busy(2), busy(1)]), 0), Ok(1));
        assert_eq!(
            run(&table, &narrow(), &Fixed(vec![busy(2), busy(2)]), 0),
            Err(NoCandidate::AllBusy)
        );
        let named = Narrow { only: Some(DeploymentIx(1)), ..narrow() };
        assert_eq!(run(&table, &named, &Fixed(vec![busy(2), busy(1)]), 0), Ok(1));
        let full = run(&table, &named, &Fixed(vec![busy(0), busy(2)]), 0);
        assert_eq!(full, Err(NoCandidate::AllBusy));
    }

    #[test]
    fn a_seat_that_is_kept_is_room_for_who_it_is_kept_for() {
        let busy = |count| Vitals { in_flight: count, ..Vitals::default() };
        for count in [1, 2] {
            let table = members(count, |_, member| member.max_parallel_requests = Some(2));
            let held = |at| Narrow { held: Some(DeploymentIx(at)), ..narrow() };
            let full = Fixed(vec![busy(2), busy(2)]);
            assert_eq!(run(&table, &held(count - 1), &full, 0), Ok(count - 1));
            assert_eq!(run(&table, &held(7), &full, 0), Err(NoCandidate::AllBusy));
            let beyond = Fixed(vec![busy(3), busy(3)]);
            assert_eq!(run(&table, &held(0), &beyond, 0), Err(NoCandidate::AllBusy));
        }
    }

    /// Which limit keeps all away, or who is picked; each deployment has used as much as is said.
    #[track_caller]
    fn check_limits(
        settings: Settings,
        narrow: &Narrow<'_>,
        requests: &[u64],
        want: Result<u16, Limit>,
    ) {
        let mut world = World::default();
        for (at, requests) in (0..).zip(requests) {
            world.set_used(at, Used { requests: *requests, tokens: 0 });
        }
        let count = u16::try_from(requests.len()).unwrap();
        let table = members_with(count, |_, member| member.rpm = Some(2.0), settings);
        match (run(&table, narrow, &world, 0), want) {
            (Err(NoCandidate::AllLimited(got)), Err(want)) => assert_eq!(got.limit, want),
            (got, want) => assert_eq!(got.ok(), want.ok()),
        }
    }

    #[test]
    fn who_is_over_its_rate_is_passed_over_where_rates_are_limits() {
        let enforcing = || Settings { rates: Rates::Limits, ..Settings::default() };
        check_limits(enforcing(), &narrow(), &[2, 1], Ok(1));
        check_limits(enforcing(), &narrow(), &[2, 2], Err(Limit::Requests));
        check_limits(enforcing(), &narrow(), &[2], Err(Limit::Requests));
        let only = Narrow { only: Some(DeploymentIx(0)), ..narrow() };
        check_limits(enforcing(), &only, &[2, 1], Err(Limit::Requests));
        check_limits(Settings::default(), &narrow(), &[2], Ok(0));
        check_limits(Settings::default(), &only, &[2, 1], Ok(0));
        let cheapest = || Settings { strategy: Strategy::Cost, ..Settings::default() };
        check_limits(cheapest(), &narrow(), &[2, 1], Ok(1));
        check_limits(cheapest(), &narrow(), &[2, 2], Err(Limit::Requests));
        check_limits(cheapest(), &only, &[2, 1], Ok(0));
    }

    #[test]
    fn of_several_limits_the_first_to_end_is_told() {
        let mut world = World::default();
        let later = |seconds| world.now + Duration::from_secs(seconds);
        let spent = |seconds| Spent { amount: PicoUsd(9), until: later(seconds) };
        let (first, second) = (spent(90), spent(30));
        world.set_spent(0, Payer::Deployment, first);
        world.set_spent(1, Payer::Deployment, second);
        let budget = Some(Budget { most: PicoUsd(9), period: Duration::from_secs(99) });
        let table = members(2, |_, member| member.budget = budget);
        let exceeded = |of: u16, until| {
            let of = DeploymentIx(of);
            Err(NoCandidate::AllLimited(Exceeded { limit: Limit::DeploymentBudget, of, until }))
        };
        assert_eq!(run(&table, &narrow(), &world, 0), exceeded(1, second.until));
        let only = Narrow { only: Some(DeploymentIx(0)), ..narrow() };
        assert_eq!(run(&table, &only, &world, 0), exceeded(0, first.until));
        let table = members(2, |at, member| member.budget = budget.filter(|_| at == 1));
        assert_eq!(run(&table, &narrow(), &world, u64::MAX), Ok(0));
    }

    #[test]
    fn the_avoided_are_asked_only_when_nobody_else_is_left() {
        let table = members(2, |_, _| ());
        let first = [DeploymentIx(0)];
        let both = [DeploymentIx(0), DeploymentIx(1)];
        for entropy in [0, u64::MAX] {
            let avoiding = Narrow { avoided: &first, ..narrow() };
            assert_eq!(run(&table, &avoiding, &Fixed(vec![]), entropy), Ok(1));
            let all = Narrow { avoided: &both, ..narrow() };
            assert!(run(&table, &all, &Fixed(vec![]), entropy).is_ok());
            let excluded = Narrow { excluded: &both, ..narrow() };
            assert_eq!(
                run(&table, &excluded, &Fixed(vec![]), entropy),
                Err(NoCandidate::Exhausted)
            );
        }
    }

    #[track_caller]
    fn tags(request: &[&str], any: bool, want: &[u16]) {
        let settings = Settings {
            enable_tag_filtering: true,
            tag_filtering_match_any: any,
            ..Settings::default()
        };
        let own: [&[&str]; 4] = [&["free"], &["paid", "eu"], &["default"], &[]];
        let table = members_with(
            4,
            |at, member| {
                member.tags = own[usize::from(at)].iter().map(|tag| (*tag).into()).collect();
            },
            settings,
        );
        let request: Vec<Box<str>> = request.iter().map(|tag| (*tag).into()).collect();
        let mut got: Vec<u16> = (0..64u64)
            .filter_map(|step| {
                let narrow = Narrow { tags: &request, ..narrow() };
                run(&table, &narrow, &Fixed(vec![]), step << 58).ok()
            })
            .collect();
        got.sort_unstable();
        got.dedup();
        assert_eq!(got, want);
    }

    #[test]
    fn tags_choose_as_litellm_documents() {
        tags(&[], true, &[2]);
        tags(&["free"], true, &[0]);
        tags(&["free", "paid"], true, &[0, 1]);
        tags(&["free", "paid"], false, &[]);
        tags(&["paid", "eu"], false, &[1]);
        tags(&["unheard"], true, &[2]);
        tags(&["!free"], true, &[1, 2, 3]);
        tags(&["&eu"], true, &[1]);
    }

    proptest! {
        #[test]
        fn by_pillions_rule_a_group_always_has_somebody(
            states in prop::collection::vec((0u64..4, prop::option::of(0u32..3), prop::option::of(0u64..30)), 1..6),
            orders in prop::collection::vec(prop::option::of(0i64..3), 6),
            elsewhere in any::<bool>(),
            entropy in any::<u64>(),
        ) {
            let now = time::now();
            let vitals = states.iter().map(|(pause, probes, age)| Vitals {
                in_flight: 0,
                cooling_until: (*pause > 0).then(|| now + Duration::from_secs(60 * (pause - 1))),
                probes: *probes,
                warm_since: age.and_then(|age| now.checked_sub(Duration::from_secs(age))),
                probed_elsewhere_until: elsewhere.then(|| now + Duration::from_secs(9)),
                own_until: None,
            });
            let view = Fixed(vitals.collect());
            let count = u16::try_from(states.len()).unwrap();
            let table = members(count, |at, member| member.order = orders[usize::from(at)]);
            let group = table.group(GroupIx(0)).unwrap();
            let scene = Scene { view: &view, shape: Shape::default(), now, entropy };
            let found = match pick(group, table.settings(), &narrow(), &scene) {
                Err(NoCandidate::AllCooling(_)) => least_bad(group, table.settings(), &narrow(), &scene),
                picked => picked,
            };
            prop_assert!(found.is_ok(), "{found:?}");
        }

        #[test]
        fn whoever_is_picked_was_allowed(
            weights in prop::collection::vec(prop::option::of(0.0f64..5.0), 1..6),
            cooling in prop::collection::vec(any::<bool>(), 6),
            excluded in prop::collection::vec(0u16..6, 0..3),
            entropy in any::<u64>(),
        ) {
            let count = u16::try_from(weights.len()).unwrap();
            let weigh = |at, member: &mut Member| member.weight = weights[usize::from(at)];
            let table = members_with(count, weigh, litellms());
            let later = time::now() + Duration::from_secs(60);
            let vitals =
                |cold: &bool| {
                    let until = cold.then_some(later);
                    Vitals { cooling_until: until, own_until: until, ..Vitals::default() }
                };
            let view = Fixed(cooling.iter().map(vitals).collect());
            let excluded: Vec<_> = excluded.into_iter().map(DeploymentIx).collect();
            let narrow = Narrow { excluded: &excluded, ..narrow() };
            let allowed = |at: &u16| {
                !cooling[usize::from(*at)] && !excluded.contains(&DeploymentIx(*at))
            };
            match run(&table, &narrow, &view, entropy) {
                Ok(picked) => prop_assert!(allowed(&picked)),
                Err(_) => prop_assert!((0..count).all(|at| !allowed(&at))),
            }
        }
    }
}
