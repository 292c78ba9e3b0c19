//! Two candidates, and the better of them with the greater chance: latency and load together.
//!
//! Whoever always takes the best sends everybody to the same place, the more so the better the
//! numbers are shared; whoever compares two by chance, and takes the worse now and then, does
//! not. A score is a product of terms, seconds times factors around 1, and every term is handed
//! out, so that a choice can be explained.
//!
//! Pure numbers in, an index out; they are read off the members of a group beside it. What the
//! fleet knows enters as [`FleetLoad`], and without it the sidecar's own requests are all there is.

use std::time::Instant;

use smallvec::SmallVec;

use super::super::chance::unit;
use super::super::table::Member;
use super::super::view::{Outlook, View};
use super::{Candidates, Scene};

/// How sharply the better one is preferred: twice as good is taken 256 times of 257. Lower is
/// smoother and slower to leave a deployment that became slow.
const SHARPNESS: f64 = 8.0;
/// The mean of the group counts as this many answers of a deployment.
const GROUP_SAMPLES: f64 = 1.0;
/// How many choices are made by chance alone, so that the unloved are heard of.
const EXPLORED: f64 = 0.01;
/// Only prompts up to this many tokens explore: they cost little.
const EXPLORING_TOKENS: u32 = 4_000;
/// Seconds in which a deployment that is new or back comes from [`RAMP_START`] to its full share.
const RAMP: f64 = 20.0;
const RAMP_START: f64 = 0.1;
/// Below this much of its quota a deployment is avoided, in proportion.
const QUOTA_LOW: f64 = 0.1;
/// The least quota that is told apart from none.
const QUOTA_LEAST: f64 = 0.001;
/// A share of failures above this counts as this.
const FAILURE_MOST: f64 = 0.99;
/// What the fleet has in flight counts less the older the news: by e⁻¹ after so many seconds.
const FLEET_TIME: f64 = 2.0;
/// The most that a cached prompt is worth.
const AFFINITY_LEAST: f64 = 0.1;

/// One deployment that may be asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// What was learned about it.
    pub outlook: Outlook,
    /// Its configured weight; one without any is asked only where nobody has one.
    pub weight: f64,
    /// Tries of this sidecar running there.
    pub in_flight: u32,
    /// Which of these are late.
    pub overdue: Overdue,
    /// What all sidecars have running there; it counts where it is known of every candidate.
    pub fleet: Option<FleetLoad>,
    /// Seconds that the provider's prompt cache is expected to save there.
    pub cache_saves: f64,
}

impl Candidate {
    /// A candidate of which only this was learned.
    pub fn new(outlook: Outlook) -> Self {
        Self {
            outlook,
            weight: 1.0,
            in_flight: 0,
            overdue: Overdue::default(),
            fleet: None,
            cache_saves: 0.0,
        }
    }
}

/// Running tries without a first token that wait longer than the deployment's latency, by which
/// an incident shows before anything is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overdue {
    /// How many.
    pub count: u32,
    /// How long they have waited, added up, in seconds at the reference prompt.
    pub waited: f64,
}

/// News of the fleet about one deployment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FleetLoad {
    /// Tries of all sidecars running there.
    pub in_flight: f64,
    /// Seconds since that was so.
    pub age: f64,
}

/// Why a candidate stands where it stands. The least total is the best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Seconds expected to the first token of the reference prompt, failures included.
    pub expected: f64,
    /// The sidecar's own requests there, relative to the others; 1 is as many.
    pub load: f64,
    /// The fleet's, likewise; 1 where nothing is known.
    pub fleet: f64,
    /// 1, or more the closer the provider's limit is.
    pub quota: f64,
    /// 1, or more while it is new or just back.
    pub ramp: f64,
    /// 1, or less the more of the prompt it has in its cache.
    pub affinity: f64,
    /// The product.
    pub total: f64,
}

/// The scores of candidates, in their order.
pub type Scores = SmallVec<[Score; 8]>;

/// Who is asked, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The position among the candidates.
    pub index: usize,
    /// Whether it was by chance alone.
    pub explored: bool,
    /// What the choice was made by.
    pub scores: Scores,
}

/// The members as they are scored.
pub(in crate::routing) fn candidates(
    left: &Candidates<'_>,
    view: &impl View,
    now: Instant,
) -> SmallVec<[Candidate; 8]> {
    let weighted = left.iter().any(|member| member.weight.is_some());
    let of = |member: &&Member| Candidate {
        weight: member.weight.unwrap_or(if weighted { 0.0 } else { 1.0 }),
        in_flight: view.vitals(member.deployment).in_flight,
        fleet: view.fleet_load(member.deployment, now),
        ..Candidate::new(view.outlook(member.deployment))
    };
    left.iter().map(of).collect()
}

/// `adaptive`: one of the members.
pub(in crate::routing) fn choose_member<'g>(
    left: &Candidates<'g>,
    scene: &Scene<'_, impl View>,
) -> Option<&'g Member> {
    let choice =
        choose(&candidates(left, scene.view, scene.now), scene.shape.length, scene.entropy)?;
    left.get(choice.index).copied()
}

/// Chooses one; `None` where there are none.
pub fn choose(candidates: &[Candidate], prompt_tokens: u32, entropy: u64) -> Option<Choice> {
    let scores = score(candidates);
    let mut dice = Dice(entropy);
    let explored = dice.roll() < EXPLORED && prompt_tokens <= EXPLORING_TOKENS;
    let weights = weights(candidates);
    if explored {
        let even: Weights = weights.iter().map(|weight| weight.min(1.0).ceil()).collect();
        let index = draw(&even, dice.roll())?;
        return Some(Choice { index, explored, scores });
    }
    let first = draw(&weights, dice.roll())?;
    let mut others = weights;
    if let Some(weight) = others.get_mut(first) {
        *weight = 0.0;
    }
    let index = match draw(&others, dice.roll()) {
        Some(second) if dice.roll() >= preference(&scores, first, second) => second,
        Some(_) | None => first,
    };
    Some(Choice { index, explored, scores })
}

/// The chance of each candidate to be chosen, in their order; they add up to 1.
pub fn chances(candidates: &[Candidate], prompt_tokens: u32) -> SmallVec<[f64; 8]> {
    let scores = score(candidates);
    let weights = weights(candidates);
    let total: f64 = weights.iter().sum();
    let heavy = weights.iter().filter(|weight| **weight > 0.0).fold(0.0, |count, _| count + 1.0);
    let explored = if prompt_tokens <= EXPLORING_TOKENS { EXPLORED } else { 0.0 };
    let drawn = |one: f64, other: f64| {
        if one > 0.0 && other > 0.0 { one / total * other / (total - one) } else { 0.0 }
    };
    let compared = |(at, weight): (usize, &f64)| {
        if heavy <= 1.0 {
            return weight.min(1.0).ceil();
        }
        let others = weights.iter().enumerate().filter(|(other, _)| *other != at);
        let wins = others.map(|(other, theirs)| {
            (drawn(*weight, *theirs) + drawn(*theirs, *weight)) * preference(&scores, at, other)
        });
        (1.0 - explored) * wins.sum::<f64>() + explored * weight.min(1.0).ceil() / heavy
    };
    weights.iter().enumerate().map(compared).collect()
}

/// The scores of all candidates.
pub fn score(candidates: &[Candidate]) -> Scores {
    let group = group_latency(candidates);
    let capacity = mean(candidates.iter().filter_map(|one| one.outlook.capacity).map(f64::from));
    let running = |one: &Candidate| f64::from(one.in_flight) / relative_capacity(one, capacity);
    let usual_running = mean(candidates.iter().map(running));
    let fleet = |one: &Candidate| {
        one.fleet.map(|load| (load.in_flight + 1.0) / relative_capacity(one, capacity))
    };
    let known = candidates.iter().all(|one| one.fleet.is_some());
    let usual_fleet = mean(candidates.iter().filter_map(fleet));
    let of_one = |one: &Candidate| {
        let expected = expected(one, group);
        let load = (1.0 + running(one)) / (1.0 + usual_running);
        let fleet = match (one.fleet, fleet(one)) {
            (Some(news), Some(there)) if known => {
                (there / usual_fleet).powf((-news.age.max(0.0) / FLEET_TIME).exp())
            }
            (Some(_) | None, Some(_) | None) => 1.0,
        };
        let quota = (QUOTA_LOW / f64::from(one.outlook.quota_left).max(QUOTA_LEAST)).max(1.0);
        let ramp = ramp(one.outlook.age);
        let affinity = (1.0 - one.cache_saves / expected).clamp(AFFINITY_LEAST, 1.0);
        let total = expected * load * fleet * quota * ramp * affinity;
        Score { expected, load, fleet, quota, ramp, affinity, total }
    };
    candidates.iter().map(of_one).collect()
}

type Weights = SmallVec<[f64; 8]>;

/// The configured weights, or equal ones where nobody has any.
fn weights(candidates: &[Candidate]) -> Weights {
    let own: Weights = candidates.iter().map(|one| one.weight.max(0.0)).collect();
    if own.iter().any(|weight| *weight > 0.0) { own } else { own.iter().map(|_| 1.0).collect() }
}

/// The mean of all that is known of any candidate, in seconds.
fn group_latency(candidates: &[Candidate]) -> f64 {
    let of = |one: &Candidate| (f64::from(one.outlook.samples), f64::from(one.outlook.latency));
    let samples: f64 = candidates.iter().map(|one| of(one).0).sum();
    if samples > 0.0 {
        candidates.iter().map(of).map(|(samples, latency)| samples * latency).sum::<f64>() / samples
    } else {
        mean(candidates.iter().map(|one| of(one).1))
    }
}

/// Recent answers, tries that are late already, and the group's mean while there are few of
/// these; then what failures cost: `f/(1−f)` of them before each answer.
fn expected(one: &Candidate, group: f64) -> f64 {
    let outlook = &one.outlook;
    let samples = f64::from(outlook.samples);
    let waited = samples * f64::from(outlook.latency) + one.overdue.waited + GROUP_SAMPLES * group;
    let latency = waited / (samples + f64::from(one.overdue.count) + GROUP_SAMPLES);
    let failures = f64::from(outlook.failure_share).clamp(0.0, FAILURE_MOST);
    latency + failures / (1.0 - failures) * f64::from(outlook.failure_cost)
}

/// 1 is the mean of those known.
fn relative_capacity(one: &Candidate, usual: f64) -> f64 {
    one.outlook.capacity.map_or(1.0, |own| f64::from(own) / usual).max(f64::MIN_POSITIVE)
}

/// A factor of the score that multiplies the odds of being chosen by the part of the ramp that is
/// done. All of them new at once are equal, as they should be.
fn ramp(age: Option<f32>) -> f64 {
    let done = age.map_or(1.0, |age| f64::from(age) / RAMP).clamp(RAMP_START, 1.0);
    done.powf(-1.0 / SHARPNESS)
}

/// The chance that the first is taken: `1/(1 + (first/second)^γ)`.
fn preference(scores: &Scores, first: usize, second: usize) -> f64 {
    let total = |at: usize| scores.get(at).map_or(f64::INFINITY, |score| score.total);
    1.0 / (1.0 + (total(first) / total(second)).powf(SHARPNESS))
}

/// The position that `point`, from 0 to 1, falls on; `None` where nobody has a weight.
fn draw(weights: &Weights, point: f64) -> Option<usize> {
    let mut left = point * weights.iter().sum::<f64>();
    let reached = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    reached.or_else(|| weights.iter().rposition(|weight| *weight > 0.0))
}

/// The mean; 1 of nothing.
fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), one| (sum + one, count + 1.0));
    if count > 0.0 { sum / count } else { 1.0 }
}

/// Several independent numbers out of the entropy of one request: `SplitMix64`.
struct Dice(u64);

impl Dice {
    /// A number in `[0, 1)`.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        unit(mixed ^ (mixed >> 31))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routing::fixture::{World, members};

    const PROMPT: u32 = 900;

    fn known(latency: f32) -> Candidate {
        Candidate::new(Outlook { samples: 50.0, latency, ..Outlook::default() })
    }

    /// How often each is chosen.
    fn shares(candidates: &[Candidate], prompt_tokens: u32) -> Vec<f64> {
        let rounds = 40_000_u32;
        let mut counts = vec![0.0; candidates.len()];
        for round in 0..rounds {
            let choice = choose(candidates, prompt_tokens, u64::from(round)).unwrap();
            counts[choice.index] += 1.0 / f64::from(rounds);
        }
        counts
    }

    #[track_caller]
    fn check(candidates: &[Candidate], want: &[f64]) {
        let (got, told) = (shares(candidates, PROMPT), chances(candidates, PROMPT));
        for (at, want) in want.iter().enumerate() {
            assert!((got[at] - want).abs() < 0.012, "{got:?} is not {want:?}");
            assert!((got[at] - told[at]).abs() < 0.012, "{got:?}, but told were {told:?}");
        }
    }

    /// `count` alike, the first of them changed.
    fn changed(count: usize, change: impl Fn(&mut Candidate)) -> Vec<Candidate> {
        let mut candidates = vec![known(0.5); count];
        change(&mut candidates[0]);
        candidates
    }

    #[test]
    fn equals_share_equally() {
        check(&[known(0.5)], &[1.0]);
        check(&changed(2, |_| ()), &[0.5, 0.5]);
        check(&changed(4, |_| ()), &[0.25; 4]);
        check(&[Candidate::new(Outlook::default()); 3], &[1.0 / 3.0; 3]);
        assert_eq!(choose(&[], PROMPT, 1), None);
    }

    #[test]
    fn the_better_of_a_pair_has_the_better_odds() {
        // One fifth slower: 1.2^8 = 4.3 to one. The mean of the group takes a little off.
        check(&[known(0.5), known(0.6)], &[0.81, 0.19]);
        // Never in two thirds of the pairs it is drawn into, but for the explored.
        check(&[known(5.0), known(0.5), known(0.5)], &[0.003, 0.498, 0.498]);
        check(&[known(0.1), known(0.5), known(0.5)], &[0.663, 0.168, 0.168]);
    }

    #[test]
    fn every_term_moves_the_odds() {
        check(&changed(2, |one| one.in_flight = 1), &[0.009, 0.991]);
        check(&changed(2, |one| one.outlook.quota_left = 0.05), &[0.009, 0.991]);
        check(&changed(2, |one| one.outlook.quota_left = 0.2), &[0.5, 0.5]);
        check(&changed(2, |one| one.outlook.failure_share = 0.2), &[0.005, 0.995]);
        check(&changed(2, |one| one.cache_saves = 0.25), &[0.991, 0.009]);
        let late = Overdue { count: 10, waited: 50.0 };
        check(&changed(2, |one| one.overdue = late), &[0.005, 0.995]);
    }

    #[test]
    fn what_is_new_or_back_begins_with_a_tenth_of_its_odds() {
        check(&changed(2, |one| one.outlook.age = Some(0.0)), &[0.1 / 1.1, 1.0 / 1.1]);
        check(&changed(2, |one| one.outlook.age = Some(10.0)), &[1.0 / 3.0, 2.0 / 3.0]);
        check(&changed(2, |one| one.outlook.age = Some(20.0)), &[0.5, 0.5]);
        let all_new = Outlook { age: Some(0.0), ..Outlook::default() };
        check(&[Candidate::new(all_new); 2], &[0.5, 0.5]);
    }

    #[test]
    fn capacity_divides_what_runs_there() {
        let sized = |capacity, in_flight| Candidate {
            in_flight,
            outlook: Outlook { capacity: Some(capacity), ..known(0.5).outlook },
            ..known(0.5)
        };
        check(&[sized(100.0, 2), sized(300.0, 6)], &[0.5, 0.5]);
        check(&[sized(100.0, 2), sized(100.0, 6)], &[0.994, 0.006]);
    }

    #[test]
    fn the_fleet_counts_where_it_is_known_and_while_it_is_fresh() {
        let loaded =
            |in_flight, age| Candidate { fleet: Some(FleetLoad { in_flight, age }), ..known(0.5) };
        check(&[loaded(19.0, 0.0), loaded(9.0, 0.0)], &[0.009, 0.991]);
        check(&[loaded(19.0, 60.0), loaded(9.0, 60.0)], &[0.5, 0.5]);
        check(&[loaded(19.0, 0.0), known(0.5)], &[0.5, 0.5]);
    }

    #[test]
    fn members_are_scored_by_their_weight_and_what_runs_there() {
        let mut world = World::default();
        world.set_busy(0, 3);
        let mut all = members(2);
        let read = |all: &[Member]| -> Vec<_> {
            let candidates = candidates(&all.iter().collect(), &world, world.now);
            candidates.iter().map(|one| (one.in_flight, one.weight.to_bits())).collect()
        };
        let one = 1f64.to_bits();
        assert_eq!(read(&all), [(3, one), (0, one)]);
        all[1].weight = Some(2.0);
        assert_eq!(read(&all), [(3, 0), (0, 2f64.to_bits())]);
    }

    #[test]
    fn weights_decide_who_is_compared() {
        check(&changed(2, |one| one.weight = 0.0), &[0.0, 1.0]);
        check(&changed(3, |one| one.weight = 2.0), &[0.416, 0.291, 0.291]);
        let nobody = Candidate { weight: 0.0, ..known(0.5) };
        check(&[nobody; 2], &[0.5, 0.5]);
    }

    #[test]
    fn long_prompts_do_not_explore() {
        let candidates = [known(50.0), known(0.5)];
        assert!((0.003..0.007).contains(&shares(&candidates, 4_000)[0]));
        assert!(shares(&candidates, 4_001)[0] < 1e-9);
        assert!(chances(&candidates, 4_001)[0] < 1e-9);
    }

    #[test]
    fn nobody_known_is_as_good_as_the_group() {
        let unheard = Candidate::new(Outlook::default());
        check(&[unheard, known(5.0)], &[0.5, 0.5]);
        let scores = score(&[unheard, known(5.0)]);
        assert!((scores[0].expected - 5.0).abs() < 1e-6, "{scores:?}");
        // One answer counts as much as the group, whose mean over all 51 answers is 0.588 s.
        let once = Candidate::new(Outlook { samples: 1.0, latency: 5.0, ..Outlook::default() });
        let scores = score(&[once, known(0.5)]);
        assert!((scores[0].expected - f64::midpoint(5.0, 30.0 / 51.0)).abs() < 1e-6, "{scores:?}");
    }

    proptest! {
        #[test]
        fn a_choice_is_a_candidate_and_chances_add_up(
            latencies in prop::collection::vec((0.0f32..300.0, 0.0f32..20.0), 1..10),
            running in prop::collection::vec(0u32..500, 10),
            failing in prop::collection::vec((0.0f32..1.01, 0.0f32..300.0, 0.0f32..1.0), 10),
            weights in prop::collection::vec(0.0f64..3.0, 10),
            entropy in any::<u64>(),
        ) {
            let candidates: Vec<_> = latencies.iter().enumerate().map(|(at, (latency, samples))| {
                let (failure_share, failure_cost, quota_left) = failing[at];
                let outlook = Outlook {
                    latency: *latency, samples: *samples,
                    failure_share, failure_cost, quota_left,
                    ..Outlook::default()
                };
                Candidate {
                    in_flight: running[at], weight: weights[at], ..Candidate::new(outlook)
                }
            }).collect();
            let choice = choose(&candidates, PROMPT, entropy).unwrap();
            prop_assert!(choice.index < candidates.len());
            prop_assert_eq!(choice.scores.len(), candidates.len());
            let chances = chances(&candidates, PROMPT);
            prop_assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", chances);
        }
    }
}
