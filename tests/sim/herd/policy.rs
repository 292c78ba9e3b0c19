//! How a sidecar chooses: the code of `routing`, and what it is held against.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pillion::lexicon::time;
use pillion::routing::latency::{Line, Model, Prior, Sample, Seen};
use pillion::routing::strategy::adaptive::{Candidate, Overdue, choose};

use super::DEPLOYMENTS;

/// What a sidecar hears of its own requests.
#[derive(Clone, Copy)]
pub(crate) enum Told {
    Answered { id: usize, tokens: u32, waited: f64 },
    Done,
    Refused,
    Sent(Pending),
}

/// A request without a first token.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    pub(crate) id: usize,
    pub(crate) tokens: u32,
    pub(crate) sent: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Adaptive,
    AdaptiveBlind,
    LeastBusy,
    LeastOfTen,
    LeastOfTenShared,
    PeakEwma,
    Random,
}

/// What one sidecar knows about one deployment, whichever policy it follows.
struct Known {
    running: u32,
    pending: Vec<Pending>,
    /// `LiteLLM`'s: the last waits.
    last: VecDeque<f64>,
    /// Finagle's: seconds, and when that was.
    peak: (f64, f64),
    model: Model,
}

/// A policy and the memory of all sidecars.
pub(crate) struct Policy {
    kind: Kind,
    start: Instant,
    prior: Prior,
    known: Vec<[Known; DEPLOYMENTS]>,
}

impl Policy {
    pub(crate) fn adaptive(pods: usize) -> Self {
        Self::new(Kind::Adaptive, pods)
    }

    pub(crate) fn adaptive_blind(pods: usize) -> Self {
        Self::new(Kind::AdaptiveBlind, pods)
    }

    pub(crate) fn least_busy(pods: usize) -> Self {
        Self::new(Kind::LeastBusy, pods)
    }

    pub(crate) fn least_of_ten(pods: usize) -> Self {
        Self::new(Kind::LeastOfTen, pods)
    }

    pub(crate) fn least_of_ten_shared(pods: usize) -> Self {
        Self::new(Kind::LeastOfTenShared, pods)
    }

    pub(crate) fn peak_ewma(pods: usize) -> Self {
        Self::new(Kind::PeakEwma, pods)
    }

    pub(crate) fn random(pods: usize) -> Self {
        Self::new(Kind::Random, pods)
    }

    fn new(kind: Kind, pods: usize) -> Self {
        let start = time::now();
        let known = || Known {
            running: 0,
            pending: Vec::new(),
            last: VecDeque::new(),
            peak: (0.0, 0.0),
            model: Model::new(start),
        };
        let known = (0..pods).map(|_| [known(), known(), known()]).collect();
        Self { kind, start, prior: Prior::default(), known }
    }

    /// One of `left`.
    pub(crate) fn choose(
        &self,
        pod: usize,
        left: &[usize],
        tokens: u32,
        clock: f64,
        entropy: u64,
    ) -> usize {
        let own = &self.known[pod];
        let shared = &self.known[0];
        let now = self.start + Duration::from_secs_f64(clock);
        let better = |score: &dyn Fn(usize) -> f64| {
            let (one, other) = pair(left, entropy);
            if score(other) < score(one) { other } else { one }
        };
        let least = |known: &[Known; DEPLOYMENTS]| {
            let recent = |at: usize| {
                let last = &known[at].last;
                last.iter().sum::<f64>() / f64::from(u32::try_from(last.len()).unwrap_or(1).max(1))
            };
            let order = |one: &&usize, other: &&usize| recent(**one).total_cmp(&recent(**other));
            left.iter().min_by(order).copied().unwrap_or_default()
        };
        match self.kind {
            Kind::Random => pair(left, entropy).0,
            Kind::LeastBusy => better(&|at| f64::from(own[at].running)),
            Kind::LeastOfTen => least(own),
            Kind::LeastOfTenShared => least(shared),
            Kind::PeakEwma => better(&|at| {
                let (peak, then) = own[at].peak;
                peak * ((then - clock) / 10.0).exp() * f64::from(own[at].running + 1)
            }),
            Kind::Adaptive | Kind::AdaptiveBlind => {
                let sees = self.kind == Kind::Adaptive;
                let candidates: Vec<_> =
                    left.iter().map(|at| candidate(&own[*at], sees, clock, now)).collect();
                let choice = choose(&candidates, tokens, entropy).expect("somebody is left");
                left[choice.index]
            }
        }
    }

    pub(crate) fn told(&mut self, pod: usize, of: usize, clock: f64, told: Told) {
        let now = self.start + Duration::from_secs_f64(clock);
        let own = &mut self.known[pod][of];
        match told {
            Told::Sent(pending) => {
                own.running += 1;
                own.pending.push(pending);
            }
            Told::Done => own.running -= 1,
            Told::Refused => own.model.fail(None, now),
            Told::Answered { id, tokens, waited } => {
                own.pending.retain(|pending| pending.id != id);
                let faded = own.peak.0 * ((own.peak.1 - clock) / 10.0).exp();
                let smooth = faded + waited * (1.0 - ((own.peak.1 - clock) / 10.0).exp());
                own.peak = (smooth.max(waited), clock);
                let sample = Sample {
                    prompt_tokens: tokens,
                    waited: Duration::from_secs_f64(waited),
                    seen: Seen::Answered,
                };
                if matches!(self.kind, Kind::Adaptive | Kind::AdaptiveBlind) {
                    own.model.learn(&sample, &self.prior, now);
                }
                let whose = if self.kind == Kind::LeastOfTenShared { 0 } else { pod };
                let last = &mut self.known[whose][of].last;
                last.push_back(waited);
                if last.len() > 10 {
                    last.pop_front();
                }
            }
        }
    }
}

/// Two different ones; the same twice where there is only one.
fn pair(left: &[usize], entropy: u64) -> (usize, usize) {
    let count = u64::try_from(left.len()).unwrap_or(1);
    let one = entropy % count;
    let other = (one + 1 + entropy / 64 % count.saturating_sub(1).max(1)) % count;
    let at = |position: u64| left[usize::try_from(position).unwrap_or_default()];
    (at(one), at(other))
}

/// What `routing` is given of one deployment.
fn candidate(known: &Known, sees: bool, clock: f64, now: Instant) -> Candidate {
    let outlook = known.model.outlook(now);
    let mut candidate = Candidate { in_flight: known.running, ..Candidate::new(outlook) };
    if sees {
        for pending in &known.pending {
            let waited = Line::SHIPPED.at_reference(clock - pending.sent, pending.tokens);
            if waited > f64::from(outlook.latency) {
                let Overdue { count, waited: others } = candidate.overdue;
                candidate.overdue = Overdue { count: count + 1, waited: others + waited };
            }
        }
    }
    candidate
}
