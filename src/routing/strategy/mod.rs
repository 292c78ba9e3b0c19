//! Who of the candidates is asked: the strategies by `LiteLLM`'s names.
//!
//! A strategy is a variant of [`Strategy`] that holds its checked arguments, and a file with one
//! function. It sees the candidates that the filters left, the [`View`], what is known of the call
//! and entropy; it returns one of the candidates and leaves nothing behind. Where several are
//! equally good, chance decides.

use std::time::Instant;

use smallvec::SmallVec;

use super::chance::one_of;
use super::table::Member;
use super::view::{Effort, Kind, View};
use crate::lexicon::Tokens;

pub mod adaptive;
mod cost;
mod least_busy;
pub mod lowest_latency;
mod simple_shuffle;
pub mod usage;

pub use lowest_latency::LowestLatency;
pub use usage::Usage;

/// `routing_strategy` with its `routing_strategy_args`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Strategy {
    /// `adaptive`, Pillion's own: the better of two by what was learned, most of the time.
    Adaptive,
    /// `cost-based-routing`: the cheapest.
    Cost,
    /// `least-busy`: the one with the fewest tries that run.
    LeastBusy,
    /// `latency-based-routing`: the one that was fastest lately.
    LowestLatency(LowestLatency),
    /// `simple-shuffle`: at random, by weight.
    #[default]
    SimpleShuffle,
    /// `usage-based-routing`: the one that used the fewest tokens lately.
    Usage(Usage),
    /// `usage-based-routing-v2`: the same with `LiteLLM`'s newer name.
    UsageV2(Usage),
}

/// What is known of a call before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// Whether it wants a stream.
    pub stream: bool,
    /// About how many tokens its prompt has; zero where nobody needs to know.
    pub prompt_tokens: Tokens,
    /// A quarter of the bytes of its body: what waits are measured against. Rough, but of no cost,
    /// and a line through it is as straight as one through tokens.
    pub length: u32,
    /// How hard the model is asked to think.
    pub effort: Effort,
}

impl Shape {
    /// Which answers teach about this call.
    pub const fn kind(&self) -> Kind {
        Kind { stream: self.stream, effort: self.effort }
    }
}

/// What a choice is made from besides the candidates.
#[derive(Debug)]
pub struct Scene<'a, V> {
    /// The state of the deployments.
    pub view: &'a V,
    /// The call.
    pub shape: Shape,
    /// The moment.
    pub now: Instant,
    /// The dice.
    pub entropy: u64,
}

/// The members of a group that are left after the filters.
pub(super) type Candidates<'g> = SmallVec<[&'g Member; 8]>;

impl Strategy {
    /// The name it is configured by.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Cost => "cost-based-routing",
            Self::LeastBusy => "least-busy",
            Self::LowestLatency(_) => "latency-based-routing",
            Self::SimpleShuffle => "simple-shuffle",
            Self::Usage(_) => "usage-based-routing",
            Self::UsageV2(_) => "usage-based-routing-v2",
        }
    }

    /// Whether it passes over deployments beyond their `rpm` or `tpm`, as it does in `LiteLLM`.
    pub const fn minds_limits(&self) -> bool {
        match self {
            Self::Adaptive
            | Self::Cost
            | Self::LowestLatency(_)
            | Self::Usage(_)
            | Self::UsageV2(_) => true,
            Self::LeastBusy | Self::SimpleShuffle => false,
        }
    }

    /// Whether it looks at the tokens of calls that run, and so needs an estimate of each prompt.
    pub const fn weighs_prompts(&self) -> bool {
        match self {
            Self::Usage(_) | Self::UsageV2(_) => true,
            Self::Adaptive
            | Self::Cost
            | Self::LeastBusy
            | Self::LowestLatency(_)
            | Self::SimpleShuffle => false,
        }
    }

    /// Whether it prefers others to who has failed, so that it would leave no call for a probe.
    pub const fn shuns_failures(&self) -> bool {
        match self {
            Self::Adaptive | Self::LowestLatency(_) => true,
            Self::Cost
            | Self::LeastBusy
            | Self::SimpleShuffle
            | Self::Usage(_)
            | Self::UsageV2(_) => false,
        }
    }

    /// One of the candidates; `None` only where there are none.
    pub(super) fn choose<'g>(
        &self,
        left: &Candidates<'g>,
        scene: &Scene<'_, impl View>,
    ) -> Option<&'g Member> {
        match self {
            Self::Adaptive => adaptive::choose_member(left, scene),
            Self::Cost => cost::choose(left, scene.entropy),
            Self::LeastBusy => least_busy::choose(left, scene),
            Self::LowestLatency(args) => args.choose(left, scene),
            Self::SimpleShuffle => simple_shuffle::choose(left, scene.entropy),
            Self::Usage(args) | Self::UsageV2(args) => args.choose(left, scene),
        }
    }
}

/// Any of those whose `measure` is the least.
fn least<'g, M: PartialOrd + Copy>(
    left: &Candidates<'g>,
    entropy: u64,
    measure: impl Fn(&Member) -> M,
) -> Option<&'g Member> {
    let mut lowest: Option<M> = None;
    let mut best = Candidates::new();
    for &member in left {
        let own = measure(member);
        if lowest.is_none_or(|lowest| own < lowest) {
            lowest = Some(own);
            best.clear();
        }
        if lowest.is_none_or(|lowest| own <= lowest) {
            best.push(member);
        }
    }
    one_of(&best, entropy)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Strategy, *};
    use crate::lexicon::DeploymentIx;
    use crate::routing::fixture::World;
    use crate::routing::view::{Sample, Used};

    fn all(list_size: usize, buffer: f64, percentile: Option<f64>) -> [Strategy; 7] {
        let latency = LowestLatency {
            lowest_latency_buffer: buffer,
            max_latency_list_size: list_size,
            ttft_percentile: percentile,
            ..LowestLatency::default()
        };
        [
            Strategy::Adaptive,
            Strategy::Cost,
            Strategy::LeastBusy,
            Strategy::LowestLatency(latency),
            Strategy::SimpleShuffle,
            Strategy::Usage(Usage::default()),
            Strategy::UsageV2(Usage::default()),
        ]
    }

    proptest! {
        #[test]
        fn a_strategy_chooses_one_of_the_candidates(
            candidates in prop::collection::vec(0u16..8, 1..6),
            busy in prop::collection::vec(0u32..4, 8),
            samples in prop::collection::vec(prop::collection::vec((prop::option::of(0.0f64..9.0), 0u64..9000), 0..4), 8),
            tokens in prop::collection::vec(any::<u64>(), 8),
            weights in prop::collection::vec(prop::option::of(0.0f64..5.0), 8),
            (list_size, buffer, percentile) in (1usize..12, 0.0f64..3.0, prop::option::of(0.01f64..=1.0)),
            (stream, entropy) in (any::<bool>(), any::<u64>()),
        ) {
            let mut world = World::default();
            for at in 0..8u16 {
                let place = usize::from(at);
                world.set_busy(at, busy[place]);
                world.set_used(at, Used { requests: 1, tokens: tokens[place] });
                world.set_samples(at, samples[place].iter().map(|(seconds, age)| Sample {
                    seconds: *seconds,
                    age: Duration::from_secs(*age),
                }));
            }
            let members: Vec<_> = candidates.iter().map(|at| {
                let mut member = Member::new(DeploymentIx(*at));
                member.weight = weights[usize::from(*at)];
                member
            }).collect();
            let left: Candidates<'_> = members.iter().collect();
            let mut scene = world.scene(entropy);
            scene.shape.stream = stream;
            for strategy in all(list_size, buffer, percentile) {
                let chosen = strategy.choose(&left, &scene).expect("there are candidates");
                prop_assert!(left.iter().any(|member| std::ptr::eq(*member, chosen)));
            }
        }
    }

    #[test]
    fn nobody_is_chosen_where_nobody_is_left() {
        let world = World::default();
        for strategy in all(10, 0.0, None) {
            assert_eq!(strategy.choose(&Candidates::new(), &world.scene(7)), None);
        }
    }
}
