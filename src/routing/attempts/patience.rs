//! How long a try is waited for: what is configured, and less where its deployment is known to
//! answer sooner and another one can be asked.

use std::time::{Duration, Instant};

use super::{Attempts, Start};
use crate::lexicon::{Class, Failure};
use crate::routing::latency::Bounds;
use crate::routing::table::Member;
use crate::routing::view::{Effort, View};

/// `pillion.timeouts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// `ttft`: how long a try may take to its first content.
    pub ttft: Limit,
    /// `stall`: how long a stream may pause between two contents.
    pub stall: Limit,
    /// `total`: how long all tries of a request may take together; `None` is as long as each of
    /// them may.
    pub total: Option<Duration>,
}

/// A limit of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit {
    /// As it is configured.
    Fixed(Duration),
    /// As the deployment's own answers teach.
    #[default]
    Learned,
    /// None but the timeouts that LiteLLM's fields set.
    None,
}

/// How long one try is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// To the whole answer, or to a stream's first event with content.
    pub answer: Duration,
    /// How long a stream may send nothing at all later.
    pub silence: Duration,
    /// How long a stream may send nothing of the answer.
    pub stall: Option<Duration>,
    /// To the end of an answer in one piece, also of one that is carried as a stream.
    pub whole: Duration,
}

/// A try that took this many times as long as all but one of a hundred is not expected any more.
const BEYOND: u32 = 4;
/// No learned limit is below these: a provider under load is slow and answers.
const LEAST_TTFT: Duration = Duration::from_secs(10);
const LEAST_WHOLE: Duration = Duration::from_secs(60);
const LEAST_STALL: Duration = Duration::from_secs(30);
/// The limit for streams of deployments that have taught too little, where nobody thinks: nearly
/// all first tokens come within a few seconds.
const UNKNOWN_TTFT: Duration = Duration::from_secs(60);
/// The 99th percentile of fewer samples is a guess.
const LEAST_SAMPLES: f64 = 30.0;

impl Attempts<'_> {
    /// How long a try of this deployment is waited for, and no more than is left of the whole.
    pub(super) fn patience(&self, start: &Start<'_, '_, impl View>) -> Patience {
        let Start { member, now, view, .. } = *start;
        let settings = self.table.settings();
        let wishes = (self.ask.timeout, self.ask.stream_timeout);
        let stream = self.ask.shape.stream && !self.ask.is_carried;
        let silence = settings.timeout_of(member, stream, wishes);
        let left = self.ask.deadline.map(|deadline| deadline.saturating_duration_since(now));
        let whole = left.map_or(silence, |left| silence.min(left));
        let first = self.first_content(start);
        let answer = first.map_or(whole, |first| whole.min(first));
        Patience { answer, silence, stall: self.stall(member, view), whole }
    }

    /// How long to wait for the first content, or for an answer in one piece.
    fn first_content(&self, start: &Start<'_, '_, impl View>) -> Option<Duration> {
        let Start { member, now, view, .. } = *start;
        let shape = self.ask.shape;
        match self.table.settings().timeouts.ttft {
            Limit::Fixed(limit) => shape.stream.then_some(limit),
            Limit::None => None,
            // Giving up is only worth something where somebody else can be asked.
            Limit::Learned if !self.can_go_elsewhere(member, now, view) => None,
            Limit::Learned => {
                let least = if shape.stream { LEAST_TTFT } else { LEAST_WHOLE };
                let known = start.forecast().filter(|forecast| forecast.samples() >= LEAST_SAMPLES);
                let bounds = Bounds { least: Duration::ZERO, most: Duration::MAX };
                let is_quick = match shape.effort {
                    Effort::Unset => shape.stream && !member.reasons,
                    Effort::Low => shape.stream,
                    Effort::Medium | Effort::High => false,
                };
                known.map_or_else(
                    || is_quick.then_some(UNKNOWN_TTFT),
                    |it| {
                        let usual = it.threshold(shape.length, 0.99, bounds);
                        Some(usual.saturating_mul(BEYOND).max(least))
                    },
                )
            }
        }
    }

    fn stall(&self, member: &Member, view: &impl View) -> Option<Duration> {
        if !self.ask.shape.stream {
            return None;
        }
        match self.table.settings().timeouts.stall {
            Limit::Fixed(limit) => Some(limit),
            Limit::Learned => {
                let pause = view.pause(member.deployment, self.ask.shape.kind())?;
                Some(pause.saturating_mul(BEYOND).max(LEAST_STALL))
            }
            Limit::None => None,
        }
    }

    /// Whether a failure of this try would be followed by a try of another deployment.
    fn can_go_elsewhere(&self, member: &Member, now: Instant, view: &impl View) -> bool {
        let is_free = |other: &&Member| {
            let at = other.deployment;
            at != member.deployment
                && !self.hop.excluded.contains(&at)
                && !self.hop.avoided.contains(&at)
                && !view.vitals(at).is_cooling(now)
        };
        let late = Failure::new(Class::Timeout, 408);
        let group = &self.hop.group.members;
        (self.hop.only.is_none()
            && group.iter().any(|other| is_free(&other))
            && self.may_retry(member.deployment, late))
            || self.has_elsewhere()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::lexicon::{DeploymentIx, Substitute, time};
    use crate::routing::Shape;
    use crate::routing::attempts::{Action, Ask};
    use crate::routing::latency::{Forecast, Model, Prior, Sample, Seen};
    use crate::routing::table::{RouteTable, Settings};
    use crate::routing::view::{Kind, Vitals};

    /// Deployments that have answered so often within so many milliseconds.
    struct Taught(u32, u64);

    impl View for Taught {
        fn vitals(&self, _: DeploymentIx) -> Vitals {
            Vitals::default()
        }

        fn forecast(&self, _: DeploymentIx, _: Kind) -> Option<Arc<Forecast>> {
            let (mut model, prior, now) = (Model::new(time::now()), Prior::default(), time::now());
            let waited = Duration::from_millis(self.1);
            for _ in 0..self.0 {
                let sample = Sample { prompt_tokens: 1_000, waited, seen: Seen::Answered };
                model.learn(&sample, &prior, now);
            }
            Some(Arc::new(model.forecast(&prior, now)))
        }

        fn pause(&self, _: DeploymentIx, _: Kind) -> Option<Duration> {
            (self.0 > 30).then_some(Duration::from_millis(self.1))
        }
    }

    const STREAM: Shape =
        Shape { stream: true, length: 1_000, prompt_tokens: 0, effort: Effort::Unset };

    #[track_caller]
    fn of(members: u16, settings: Settings, shape: Shape, view: &Taught) -> Patience {
        let entry = |at: u16| ("g".into(), format!("id{at}").into(), Member::new(DeploymentIx(at)));
        let table = RouteTable::build((0..members).map(entry).collect(), settings);
        let target = table.resolve("g").unwrap();
        let mut attempts = Attempts::new(&table, Ask::new(&target, shape)).unwrap();
        let Action::Launch(launch) = attempts.poll(time::now(), 0, view) else { panic!("no try") };
        launch.patience
    }

    #[track_caller]
    fn check(members: u16, shape: Shape, view: &Taught, want: u64) {
        let told = of(members, Settings::default(), shape, view).answer;
        assert_eq!(told.as_secs(), want, "{told:?}");
    }

    #[test]
    fn a_deployment_is_given_up_when_it_is_far_beyond_its_own_standard() {
        let whole = Shape { stream: false, ..STREAM };
        check(2, STREAM, &Taught(200, 500), 10);
        check(2, whole, &Taught(200, 500), 60);
        let slow = of(2, Settings::default(), STREAM, &Taught(5_000, 8_000)).answer;
        assert!((30..40).contains(&slow.as_secs()), "{slow:?}");
    }

    #[test]
    fn one_that_has_taught_little_is_given_up_after_a_minute_unless_it_thinks() {
        let thinks = Shape { effort: Effort::High, ..STREAM };
        let whole = Shape { stream: false, ..STREAM };
        check(2, STREAM, &Taught(3, 500), 60);
        check(2, thinks, &Taught(3, 500), 600);
        check(2, whole, &Taught(3, 500), 600);
        let entry = |at: u16| {
            let member = Member { reasons: true, ..Member::new(DeploymentIx(at)) };
            ("g".into(), format!("id{at}").into(), member)
        };
        let table = RouteTable::build([0, 1].map(entry).to_vec(), Settings::default());
        let target = table.resolve("g").unwrap();
        for (effort, seconds) in [(Effort::Unset, 600), (Effort::Low, 60)] {
            let ask = Ask::new(&target, Shape { effort, ..STREAM });
            let mut attempts = Attempts::new(&table, ask).unwrap();
            let action = attempts.poll(time::now(), 0, &Taught(3, 500));
            let Action::Launch(launch) = action else { panic!("no try") };
            assert_eq!(launch.patience.answer.as_secs(), seconds);
        }
    }

    #[test]
    fn where_nobody_else_can_be_asked_nobody_is_given_up() {
        check(1, STREAM, &Taught(200, 500), 600);
        let no_retry = Settings { num_retries: 0, ..Settings::default() };
        assert_eq!(of(2, no_retry.clone(), STREAM, &Taught(200, 500)).answer.as_secs(), 600);
        let entries = ["g", "other"].map(|name| {
            let at = u16::from(name == "other");
            (name.into(), name.into(), Member::new(DeploymentIx(at)))
        });
        let fallbacks = vec![("g".into(), vec![Substitute::model("other")])];
        let table = RouteTable::build(entries.to_vec(), Settings { fallbacks, ..no_retry });
        let target = table.resolve("g").unwrap();
        let mut attempts = Attempts::new(&table, Ask::new(&target, STREAM)).unwrap();
        let action = attempts.poll(time::now(), 0, &Taught(200, 500));
        let Action::Launch(launch) = action else { panic!("no try") };
        assert_eq!(launch.patience.answer.as_secs(), 10);
    }

    #[test]
    fn what_is_configured_goes_before_what_was_learned() {
        let fixed = Limit::Fixed(Duration::from_secs(3));
        let timeouts = Timeouts { ttft: fixed, stall: fixed, total: None };
        let settings = Settings { timeouts, ..Settings::default() };
        let told = of(1, settings.clone(), STREAM, &Taught(200, 500));
        assert_eq!((told.answer.as_secs(), told.silence.as_secs()), (3, 600));
        assert_eq!(told.stall, Some(Duration::from_secs(3)));
        let whole = Shape { stream: false, ..STREAM };
        assert_eq!(of(1, settings, whole, &Taught(200, 500)).answer.as_secs(), 600);
        let timeouts = Timeouts { ttft: Limit::None, stall: Limit::None, total: None };
        let settings = Settings { timeouts, ..Settings::default() };
        let told = of(2, settings, STREAM, &Taught(200, 500));
        assert_eq!((told.answer.as_secs(), told.stall), (600, None));
    }

    #[test]
    fn a_pause_may_last_longer_than_any_before() {
        let stall = |view: &Taught| of(2, Settings::default(), STREAM, view).stall;
        assert_eq!(stall(&Taught(3, 500)), None);
        assert_eq!(stall(&Taught(200, 500)), Some(Duration::from_secs(30)));
        assert_eq!(stall(&Taught(200, 20_000)), Some(Duration::from_secs(80)));
    }
}
