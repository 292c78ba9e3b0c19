//! `latency-based-routing`: the candidate that was fastest lately.
//!
//! A stream is routed by the time to the first token, a whole answer by the time per token; the
//! two are never compared. Who was never asked is asked first, by one call at a time, since until
//! its answer nothing speaks for sending it more; and by one a minute where callers lose patience
//! before it answers. A failure counts as a very slow answer, but not for long: else nobody would
//! ever find out that it is over.

use std::time::Duration;

use smallvec::SmallVec;

use super::super::chance::one_of;
use super::super::table::Member;
use super::super::view::{Measure, View};
use super::{Candidates, Scene};
use crate::lexicon::Class;

/// The arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowestLatency {
    /// `ttl`: for how long a sample counts; an hour by default.
    pub ttl: Duration,
    /// `lowest_latency_buffer`: how much slower than the fastest is as good, as a share of the
    /// fastest; zero by default.
    pub lowest_latency_buffer: f64,
    /// `max_latency_list_size`: how many of the newest samples count; 10 by default, at most
    /// [`MOST_SAMPLES`].
    pub max_latency_list_size: usize,
    /// `ttft_percentile`: which of a stream's samples decides, above 0 and up to 1; their mean by
    /// default.
    pub ttft_percentile: Option<f64>,
}

/// More samples than these are not kept.
pub const MOST_SAMPLES: usize = 128;

/// What a failure counts as, in seconds; `LiteLLM`'s number for a timeout.
const PENALTY: f64 = 1000.0;
/// For how long a failure counts; afterwards the deployment is what its other samples say.
const PENALTY_LASTS: Duration = Duration::from_secs(60);

impl Default for LowestLatency {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3600),
            lowest_latency_buffer: 0.0,
            max_latency_list_size: 10,
            ttft_percentile: None,
        }
    }
}

impl LowestLatency {
    pub(super) fn choose<'g>(
        &self,
        left: &Candidates<'g>,
        scene: &Scene<'_, impl View>,
    ) -> Option<&'g Member> {
        let (mut known, mut unexplored) = (SmallVec::<[(&Member, f64); 8]>::new(), left.clone());
        unexplored.clear();
        for &member in left {
            match self.latency(member, scene) {
                Some(latency) => known.push((member, latency)),
                None if is_worth_a_call(member, scene) => unexplored.push(member),
                None => {}
            }
        }
        if !unexplored.is_empty() {
            return one_of(&unexplored, scene.entropy);
        }
        let lowest = known.iter().map(|(_, latency)| *latency).reduce(f64::min);
        let Some(lowest) = lowest else { return one_of(left, scene.entropy) };
        let enough = lowest + self.lowest_latency_buffer * lowest;
        let fast = known.iter().filter(|(_, latency)| *latency <= enough);
        let fast: Candidates<'g> = fast.map(|(member, _)| *member).collect();
        one_of(&fast, scene.entropy)
    }

    /// How slow it was lately, in seconds; `None` where nothing is known.
    fn latency(&self, member: &Member, scene: &Scene<'_, impl View>) -> Option<f64> {
        let measure = if scene.shape.stream { Measure::FirstToken } else { Measure::PerToken };
        let most = self.max_latency_list_size;
        let samples = scene.view.samples(member.deployment, measure, most, scene.now);
        let mut seconds: SmallVec<[f64; 10]> = (samples.iter())
            .filter(|sample| sample.age < self.ttl)
            .filter_map(|sample| match sample.seconds {
                Some(seconds) => Some(seconds),
                None => (sample.age < PENALTY_LASTS).then_some(PENALTY),
            })
            .collect();
        match self.ttft_percentile.filter(|_| scene.shape.stream) {
            None => mean(&seconds),
            Some(share) => nearest_rank(&mut seconds, share),
        }
    }
}

/// Whether a call may find out about a member of which nothing is known. Not while one does, nor
/// soon after one that led to no answer of any kind.
fn is_worth_a_call(member: &Member, scene: &Scene<'_, impl View>) -> bool {
    let (view, of, now) = (scene.view, member.deployment, scene.now);
    let answers = |measure| !view.samples(of, measure, 1, now).is_empty();
    view.vitals(of).in_flight == 0
        && (view.used(of, AGAIN_AFTER, now).requests == 0
            || answers(Measure::FirstToken)
            || answers(Measure::PerToken))
}

/// How long a deployment that gave no answer is let alone, where others are known.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

#[expect(clippy::cast_precision_loss, reason = "a short list")]
fn mean(seconds: &[f64]) -> Option<f64> {
    (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
}

/// The smallest sample that is not exceeded by `share` of all.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a position in a short list"
)]
fn nearest_rank(seconds: &mut [f64], share: f64) -> Option<f64> {
    seconds.sort_unstable_by(f64::total_cmp);
    let rank = (share * seconds.len() as f64).ceil() as usize;
    seconds.get(rank.saturating_sub(1)).copied()
}

/// Whether a failure of this class speaks against the deployment. Not where the request is to
/// blame: it would have failed elsewhere too.
pub const fn is_penalized(class: Class) -> bool {
    match class {
        Class::Authentication
        | Class::BadGateway
        | Class::Connection
        | Class::InternalServer
        | Class::NotFound
        | Class::PaymentRequired
        | Class::PermissionDenied
        | Class::QuotaExhausted
        | Class::RateLimit
        | Class::ServiceUnavailable
        | Class::Timeout => true,
        Class::BadRequest
        | Class::ContentPolicy
        | Class::ContextWindow
        | Class::UnprocessableEntity => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Shape, Strategy};
    use super::*;
    use crate::routing::fixture::{World, members};
    use crate::routing::view::{Effort, Sample, Used};

    const STREAM: Shape =
        Shape { stream: true, prompt_tokens: 0, length: 0, effort: Effort::Unset };
    const WHOLE: Shape = Shape { stream: false, ..STREAM };

    /// Who is chosen where each deployment took so many seconds for whole answers.
    #[track_caller]
    fn check(change: impl FnOnce(&mut LowestLatency), took: &[&[f64]], want: &[u16]) {
        let mut args = LowestLatency::default();
        change(&mut args);
        let mut world = World::default();
        for (at, seconds) in (0..).zip(took) {
            world.set_took(at, Measure::PerToken, seconds);
        }
        let members = members(u16::try_from(took.len()).unwrap());
        assert_eq!(world.chosen(Strategy::LowestLatency(args), &members, WHOLE), want);
    }

    #[test]
    fn the_lowest_mean_is_chosen_and_of_several_any() {
        check(|_| (), &[&[0.5], &[0.1, 0.3], &[0.3]], &[1]);
        check(|_| (), &[&[0.25], &[0.25], &[0.5]], &[0, 1]);
    }

    #[test]
    fn a_buffer_lets_the_nearly_fastest_in() {
        check(|args| args.lowest_latency_buffer = 0.5, &[&[1.0], &[1.5], &[1.6]], &[0, 1]);
    }

    #[test]
    fn only_the_newest_samples_count() {
        check(|args| args.max_latency_list_size = 2, &[&[0.1, 0.1, 9.0], &[0.2]], &[0]);
        check(|args| args.max_latency_list_size = 3, &[&[0.1, 0.1, 9.0], &[0.2]], &[1]);
    }

    #[test]
    fn who_was_never_asked_is_explored_by_one_call_at_a_time() {
        let strategy = Strategy::LowestLatency(LowestLatency::default());
        let mut world = World::default();
        let three = members(3);
        assert_eq!(world.chosen(strategy, &three, WHOLE), [0, 1, 2]);
        world.set_took(0, Measure::PerToken, &[0.5]);
        assert_eq!(world.chosen(strategy, &three, WHOLE), [1, 2]);
        world.set_busy(1, 1);
        assert_eq!(world.chosen(strategy, &three, WHOLE), [2]);
        world.set_busy(2, 1);
        assert_eq!(world.chosen(strategy, &three, WHOLE), [0]);
        assert_eq!(world.chosen(strategy, &three[1..], WHOLE), [1, 2]);
    }

    #[test]
    fn who_was_asked_and_gave_no_answer_is_let_alone_for_a_minute() {
        let strategy = Strategy::LowestLatency(LowestLatency::default());
        let asked = Used { requests: 1, tokens: 0 };
        let mut world = World::default();
        world.set_took(0, Measure::PerToken, &[0.5]);
        world.set_used(1, asked);
        assert_eq!(world.chosen(strategy, &members(2), WHOLE), [0]);
        assert_eq!(world.chosen(strategy, &members(2)[1..], WHOLE), [1]);
        // It answers streams, so that it may be asked for something else too.
        world.set_took(1, Measure::FirstToken, &[0.5]);
        assert_eq!(world.chosen(strategy, &members(2), WHOLE), [1]);
    }

    #[test]
    fn a_stream_is_routed_by_its_first_token_and_by_nothing_else() {
        let strategy = Strategy::LowestLatency(LowestLatency::default());
        let mut world = World::default();
        world.set_took(0, Measure::FirstToken, &[2.0]);
        world.set_took(0, Measure::PerToken, &[0.01]);
        world.set_took(1, Measure::FirstToken, &[1.0]);
        world.set_took(1, Measure::PerToken, &[0.02]);
        assert_eq!(world.chosen(strategy, &members(2), STREAM), [1]);
        assert_eq!(world.chosen(strategy, &members(2), WHOLE), [0]);
        // Its per-token seconds are low, and say nothing about a stream.
        world.set_took(2, Measure::PerToken, &[0.001]);
        world.set_busy(2, 1);
        assert_eq!(world.chosen(strategy, &members(3), STREAM), [1]);
    }

    #[test]
    fn a_percentile_decides_for_streams() {
        let mut args = LowestLatency { ttft_percentile: Some(0.5), ..LowestLatency::default() };
        let mut world = World::default();
        world.set_took(0, Measure::FirstToken, &[0.1, 0.1, 9.0]);
        world.set_took(1, Measure::FirstToken, &[0.2, 0.2, 0.2]);
        let mut chosen = |share| {
            args.ttft_percentile = share;
            world.chosen(Strategy::LowestLatency(args), &members(2), STREAM)
        };
        assert_eq!(chosen(Some(0.5)), [0]);
        assert_eq!(chosen(Some(0.66)), [0]);
        assert_eq!(chosen(Some(0.67)), [1]);
        assert_eq!(chosen(Some(1.0)), [1]);
        assert_eq!(chosen(None), [1]);
    }

    #[test]
    fn a_failure_is_slow_for_a_minute_and_old_samples_are_forgotten() {
        let sample = |seconds, age| Sample { seconds, age: Duration::from_secs(age) };
        let chosen = |own: &[Sample]| {
            let mut world = World::default();
            world.set_samples(0, own.iter().copied());
            world.set_took(1, Measure::PerToken, &[0.5]);
            let strategy = Strategy::LowestLatency(LowestLatency::default());
            world.chosen(strategy, &members(2), WHOLE)
        };
        assert_eq!(chosen(&[sample(None, 59), sample(Some(0.1), 70)]), [1]);
        assert_eq!(chosen(&[sample(None, 60), sample(Some(0.1), 70)]), [0]);
        assert_eq!(chosen(&[sample(None, 5)]), [1]);
        // Nothing is known of it any more, so it is explored.
        assert_eq!(chosen(&[sample(None, 60)]), [0]);
        assert_eq!(chosen(&[sample(Some(9.0), 3599)]), [1]);
        assert_eq!(chosen(&[sample(Some(9.0), 3600)]), [0]);
    }
}
