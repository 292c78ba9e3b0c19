//! All that was heard, as one view for routing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fact::cooldown::Cooldowns;
use super::identity::Boot;
use super::limits::Usage;
use super::member::Members;
use super::push_sum::PushSum;
use super::rumor::hash;
use crate::lexicon::Fingerprint;
use crate::routing::Kind;
use crate::routing::fleet::{Cooldown, FleetView, Known};
use crate::routing::latency::Model;

/// Where a view comes from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Who is there.
    pub members: &'a Members,
    /// Latency and load.
    pub push_sum: &'a PushSum,
    /// Pauses.
    pub cooldowns: &'a Cooldowns,
    /// Limits.
    pub usage: &'a Usage,
}

/// Makes views, and keeps of the last one what costs most to make.
#[derive(Debug, Default)]
pub struct Fleet {
    models: HashMap<Fingerprint, Kept>,
}

#[derive(Debug)]
struct Kept {
    models: [Option<Arc<Model>>; Kind::COUNT],
    as_of: Instant,
}

/// Models change with each round of push-sum; between two they only fade, which they do by
/// themselves.
const HOLDS: Duration = Duration::from_millis(500);
/// Whoever shall probe has so long, before as many again may.
const PROBE_STEP: Duration = Duration::from_secs(2);

impl Fleet {
    /// The view of the deployments `own`.
    pub fn view(&mut self, own: &[Fingerprint], from: Sources<'_>, now: Instant) -> FleetView {
        let members = u32::try_from(from.members.count()).unwrap_or(u32::MAX);
        self.models.retain(|of, _| own.contains(of));
        let known = |of: &Fingerprint| {
            let models = self.models(*of, members, from.push_sum, now);
            (*of, known(*of, models, members, from, now))
        };
        let deployments = own.iter().map(known).collect();
        FleetView { as_of: Some(now), members, deployments }
    }

    fn models(
        &mut self,
        of: Fingerprint,
        members: u32,
        from: &PushSum,
        now: Instant,
    ) -> [Option<Arc<Model>>; Kind::COUNT] {
        if let Some(kept) = self.models.get(&of)
            && now.saturating_duration_since(kept.as_of) < HOLDS
        {
            return kept.models.clone();
        }
        let mut models = [const { None }; Kind::COUNT];
        for (kind, model) in from.models(of, members, now) {
            if let Some(place) = models.get_mut(kind.at()) {
                *place = Some(Arc::new(model));
            }
        }
        self.models.insert(of, Kept { models: models.clone(), as_of: now });
        models
    }
}

fn known(
    of: Fingerprint,
    models: [Option<Arc<Model>>; Kind::COUNT],
    members: u32,
    from: Sources<'_>,
    now: Instant,
) -> Known {
    let cooldown = from.cooldowns.agreed(of, now);
    let live = from.members.live().iter().map(|who| who.boot);
    Known {
        models,
        in_flight: from.push_sum.running(of, members).0,
        heard: from.push_sum.last_heard(of),
        cooldown,
        may_probe: may_probe(of, cooldown, from.members.me().boot, live, now),
        others: from.usage.others(of),
        quota: from.push_sum.last_quota(of).and_then(|quota| quota.quota(now)),
    }
}

/// Whether `me` is among those who shall ask a deployment after its pause: one at first, chosen by
/// lot, and twice as many after each step without news, because who is chosen may have nothing to
/// ask. Without a pause all may.
fn may_probe(
    of: Fingerprint,
    cooldown: Option<Cooldown>,
    me: Boot,
    others: impl ExactSizeIterator<Item = Boot>,
    now: Instant,
) -> bool {
    let Some((epoch, until)) = cooldown.and_then(|it| Some((it.epoch, it.until?))) else {
        return true;
    };
    if until > now {
        return false;
    }
    let step = now.saturating_duration_since(until).as_secs() / PROBE_STEP.as_secs();
    let chosen = 1usize.checked_shl(u32::try_from(step).unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
    if chosen > others.len() {
        return true;
    }
    let lot = |boot: Boot| hash(&[&of.0, &epoch.to_be_bytes(), &step.to_be_bytes(), &boot.0]);
    let own = lot(me);
    others.filter(|boot| lot(*boot) > own).take(chosen).count() < chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::time;
    use crate::routing::fleet::{By, Why};

    const OF: Fingerprint = Fingerprint([1; 8]);

    /// How many of `members` may probe so long after a pause.
    fn probers(members: u8, after: Duration) -> usize {
        let until = time::now();
        let all: Vec<_> = (0..members).map(|name| Boot([name; 12])).collect();
        let cooldown =
            Some(Cooldown { epoch: 3, until: Some(until), why: Why::Trouble, by: By::Many });
        let may = |me: &&Boot| {
            let others: Vec<_> = all.iter().copied().filter(|boot| boot != *me).collect();
            may_probe(OF, cooldown, **me, others.into_iter(), until + after)
        };
        all.iter().filter(may).count()
    }

    #[test]
    fn probers_double_with_each_step() {
        for (seconds, want) in [(0, 1), (1, 1), (2, 2), (4, 4), (8, 16), (14, 100), (900, 100)] {
            assert_eq!(probers(100, Duration::from_secs(seconds)), want, "{seconds}");
        }
        assert_eq!(probers(1, Duration::ZERO), 1);
    }

    #[test]
    fn nobody_probes_in_a_pause_and_all_may_without_one() {
        let now = time::now();
        let until = Some(now + Duration::from_secs(1));
        let cooldown = Cooldown { epoch: 1, until, why: Why::Limit, by: By::One };
        let others = || [Boot([2; 12])].into_iter();
        let me = Boot([1; 12]);
        assert!(!may_probe(OF, Some(cooldown), me, others(), now));
        assert!(may_probe(OF, Some(Cooldown { until: None, ..cooldown }), me, others(), now));
        assert!(may_probe(OF, None, me, others(), now));
    }
}
