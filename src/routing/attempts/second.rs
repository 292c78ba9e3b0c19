//! The second try beside a late one: when a try is late, and who would be asked.

use std::time::{Duration, Instant};

use super::{Action, Attempts, Hedge, Hedged, Late, Role};
use crate::routing::hedge::{Across, After, Forgone, Mode};
use crate::routing::latency::Bounds;
use crate::routing::table::Member;
use crate::routing::view::View;

impl<'a> Attempts<'a> {
    /// Tells whether the late try that was reported may be hedged.
    pub fn permit(&mut self, permit: Result<(), Forgone>) {
        let Hedge::Asked(second) = self.hedge else { return };
        match permit {
            Ok(()) => self.hedge = Hedge::Granted(second),
            Err(why) => self.forgo(why),
        }
    }

    /// What became of the hedge.
    pub fn hedged(&self) -> Hedged {
        self.hedged
    }

    /// Waits for what runs, until it is late.
    pub(super) fn while_running(
        &mut self,
        now: Instant,
        entropy: u64,
        view: &impl View,
    ) -> Action<'a> {
        match self.hedge {
            Hedge::Due(at) if at > now => Action::Wait(Some(at)),
            Hedge::Due(_) => match self.second(now, entropy, view) {
                Err(why) => {
                    self.forgo(why);
                    Action::Wait(None)
                }
                Ok((first, second)) => {
                    self.hedge = Hedge::Asked(second);
                    Action::Late(Late { group: self.hop.group, first, second })
                }
            },
            Hedge::Granted(second) => {
                self.copies += 1;
                self.hedged = Hedged::Made;
                Action::Launch(self.launch(second, Role::Hedge, now, view))
            }
            Hedge::Asked(_) | Hedge::None => Action::Wait(None),
        }
    }

    pub(super) fn forgo(&mut self, why: Forgone) {
        self.hedge = Hedge::None;
        if self.hedged == Hedged::No {
            self.hedged = Hedged::Forgone(why);
        }
    }

    /// The try that is late, and who of the same order would be asked beside it.
    pub(super) fn second(
        &self,
        now: Instant,
        entropy: u64,
        view: &impl View,
    ) -> Result<(&'a Member, &'a Member), Forgone> {
        let late = self.running.last().ok_or(Forgone::NoCandidate)?;
        let settings = &self.hop.group.hedge;
        let shares = |other: &&Member| {
            self.running.iter().any(|running| shares(settings.across, running.member, other))
        };
        let mut excluded = self.hop.excluded.clone();
        excluded.extend_from_slice(&self.hop.avoided);
        excluded.extend(self.hop.group.members.iter().filter(shares).map(|it| it.deployment));
        let second = self
            .pick_without(&excluded, now, entropy, view)
            .map_err(|_| Forgone::NoCandidate)
            .and_then(|second| {
                let in_time = self.has_time_for(second, now, view);
                if in_time { Ok(second) } else { Err(Forgone::Unlikely) }
            })?;
        let (kind, length) = (self.ask.shape.kind(), self.ask.shape.length);
        let forecast = |member: &Member| view.forecast(member.deployment, kind);
        if let After::Percentile(_) = settings.after
            && let (Some(own), Some(others)) = (forecast(late.member), forecast(second))
        {
            let rest = own.rest(length, now.saturating_duration_since(late.since));
            if rest < others.expected(length).mul_f64(WORTH_WHILE) {
                return Err(Forgone::Unlikely);
            }
        }
        Ok((late.member, second))
    }

    /// When a try that starts now is late.
    pub(super) fn due(
        &self,
        member: &Member,
        timeout: Duration,
        now: Instant,
        view: &impl View,
    ) -> Hedge<'a> {
        let group = self.hop.group;
        let settings = &group.hedge;
        let off = self.ask.hedge.unwrap_or(settings.mode) == Mode::Disabled;
        if off
            || self.copies >= settings.max_copies
            || self.hop.only.is_some()
            || group.members.len() < 2
        {
            return Hedge::None;
        }
        match settings.after {
            After::Delay(delay) => Hedge::Due(now + delay),
            After::Percentile(part) => {
                let shape = self.ask.shape;
                let forecast = view.forecast(member.deployment, shape.kind());
                forecast
                    .filter(|forecast| forecast.samples() >= f64::from(settings.min_samples))
                    .map_or(Hedge::None, |forecast| {
                        let bounds = Bounds::up_to(timeout / 2);
                        Hedge::Due(now + forecast.threshold(shape.length, part, bounds))
                    })
            }
        }
    }
}

/// Whether two deployments must not be asked together.
fn shares(across: Across, one: &Member, other: &Member) -> bool {
    let same_provider = one.domain.provider == other.domain.provider;
    one.deployment == other.deployment
        || match across {
            Across::Deployment => false,
            Across::Provider => same_provider,
            Across::Region => same_provider && one.domain.region == other.domain.region,
        }
}

/// A hedge is made only if the first try is expected to take this much longer than the second:
/// the gate on the mean residual life of §1.3 of the routing study.
const WORTH_WHILE: f64 = 1.2;
