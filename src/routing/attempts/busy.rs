//! What a request does where everybody who could serve it has all its `max_parallel_requests`.
//!
//! A free seat elsewhere is taken at once, as `LiteLLM` does: of a later order, then of a fallback.
//! Only where there is none the request waits, for the group that was the first to have no seat,
//! once and for a bounded time. So does a retry, as long as no other group can be asked.

use std::time::Instant;

use super::{Attempts, Hop, Phase, Verdict};
use crate::lexicon::DeploymentIx;
use crate::routing::pick::NoCandidate;
use crate::routing::table::Group;

/// A wait for a seat.
#[derive(Debug, Clone, Copy)]
pub struct Busy<'a> {
    /// The group whose seats are waited for.
    pub group: &'a Group,
    /// How long, at most.
    pub until: Instant,
}

/// Whether the request may still line up.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// Nobody was busy so far. Variants are in the order of time.
    Open,
    /// This group was, after so many others were asked.
    Busy(Box<Hop<'a>>, u32),
    /// It has waited.
    Left,
}

impl<'a> Attempts<'a> {
    /// Tells where a seat is kept for this request, until the next launch or the next call of
    /// this.
    pub fn offer(&mut self, seat: Option<DeploymentIx>) {
        self.held = seat;
    }

    /// Tells that there is no place left in the line.
    pub fn turn_away(&mut self) {
        if let Phase::Queued(_) = self.phase {
            let busy = Verdict::NoCandidate(NoCandidate::AllBusy);
            let tried = self.hop.last.map(|(id, failure)| Verdict::Tried(id, failure));
            self.original.get_or_insert(tried.unwrap_or(busy));
            self.phase = Phase::Over;
        }
    }

    /// Whether a retry waits for a seat: the one that the failed try left may have gone to somebody
    /// who waited. Where others can be asked instead, they are.
    pub(super) fn may_line_up_to_retry(&self, nobody: NoCandidate) -> bool {
        nobody == NoCandidate::AllBusy
            && self.hop.last.is_some()
            && matches!(self.line, Line::Open)
            && !self.ask.queue_timeout.is_zero()
            && self.hop.group.orders.len() < 2
            && !self.has_elsewhere()
    }

    /// Lines up for a retry that is due, if it may.
    pub(super) fn lines_up_to_retry(&mut self, nobody: NoCandidate) -> bool {
        let may = self.may_line_up_to_retry(nobody);
        if may {
            (self.line, self.phase) = (Line::Left, Phase::Busy);
        }
        may
    }

    /// Who is likely to have a seat first, for a retry: somebody else, where there is somebody.
    pub(super) fn other_than(&self, failed: DeploymentIx) -> DeploymentIx {
        let all = self.hop.group.members.iter().map(|member| member.deployment);
        let mut others = all.filter(|other| *other != failed && self.has_others());
        others.next().unwrap_or(failed)
    }

    /// Keeps the group that answers for the request if it has no seat, to come back to it.
    pub(super) fn remember_busy(&mut self, verdict: Verdict) {
        let is_busy = verdict == Verdict::NoCandidate(NoCandidate::AllBusy);
        if is_busy && matches!(self.line, Line::Open) && !self.ask.queue_timeout.is_zero() {
            self.line = Line::Busy(Box::new(self.hop.clone()), self.hops);
        }
    }

    /// Goes back to the group that had no seat, where there is one and nobody has waited yet.
    pub(super) fn go_back(&mut self) -> bool {
        match std::mem::replace(&mut self.line, Line::Left) {
            Line::Busy(hop, hops) => {
                (self.hop, self.hops, self.original) = (*hop, hops, None);
                true
            }
            Line::Left | Line::Open => false,
        }
    }

    /// How long a wait that begins now may last.
    pub(super) fn queue_until(&self, now: Instant) -> Instant {
        let until = now + self.ask.queue_timeout;
        self.ask.deadline.map_or(until, |deadline| deadline.min(until))
    }

    /// The wait that goes on, if that is why nobody was picked.
    pub(super) fn busy(&self, nobody: NoCandidate, now: Instant) -> Option<Busy<'a>> {
        match self.phase {
            Phase::Queued(until) if nobody == NoCandidate::AllBusy && now < until => {
                Some(Busy { group: self.hop.group, until })
            }
            Phase::Busy
            | Phase::Over
            | Phase::Pick
            | Phase::Queued(_)
            | Phase::Running
            | Phase::Waiting(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::fixture::World;
    use super::super::super::table::{Member, RouteTable, Settings};
    use super::*;
    use crate::lexicon::{Class, Failure, Substitute};
    use crate::routing::Resolved;
    use crate::routing::attempts::{Action, Ask, Outcome};
    use crate::routing::strategy::Shape;

    /// What a request in the group `a` meets, by the moments at which something changes.
    struct Play<'a> {
        world: World,
        attempts: Attempts<'a>,
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Groups of deployments with one seat each; `a` falls back to all others.
    fn table(groups: &[&str], set: impl Fn(u16, &mut Member)) -> RouteTable {
        let entries = (0..).zip(groups).map(|(at, group)| {
            let mut member = Member::new(DeploymentIx(at));
            member.max_parallel_requests = Some(1);
            set(at, &mut member);
            ((*group).into(), format!("id{at}").into(), member)
        });
        let mut others: Vec<_> = groups.iter().copied().filter(|group| *group != "a").collect();
        others.dedup();
        let others = others.into_iter().map(Substitute::model).collect();
        let fallbacks = vec![("a".into(), others)];
        let settings = Settings { num_retries: 0, fallbacks, ..Settings::default() };
        RouteTable::build(entries.collect(), settings)
    }

    impl<'a> Play<'a> {
        fn new(table: &'a RouteTable, ask: Ask<'a>, busy: &[u16]) -> Self {
            let mut world = World::default();
            for at in busy {
                world.set_busy(*at, 1);
            }
            Self { world, attempts: Attempts::new(table, ask).unwrap() }
        }

        /// The first try fails, and its seat is somebody else's at once.
        fn fail(&mut self) {
            let launch = self.attempts.poll(self.world.now, 0, &self.world);
            let Action::Launch(launch) = launch else { panic!("{launch:?}") };
            self.world.set_busy(launch.member.deployment.0, 1);
            let failed = Outcome::Failed(Failure::new(Class::InternalServer, 500));
            self.attempts.on(launch.id, failed, self.world.now, 0, &self.world);
        }

        /// What is done after so many seconds: `queue NAME SECONDS`, `ask N` or why it failed.
        fn after(&mut self, seconds: u64) -> String {
            self.world.now += Duration::from_secs(seconds);
            match self.attempts.poll(self.world.now, 0, &self.world) {
                Action::Fail(Verdict::NoCandidate(why)) => format!("{why:?}"),
                Action::Fail(Verdict::Tried(id, failure)) => {
                    format!("try {} {}", id.0, failure.status)
                }
                Action::Launch(launch) => {
                    let failure = Failure::new(Class::InternalServer, 500);
                    let (id, outcome) = (launch.id, Outcome::Failed(failure));
                    self.attempts.on(id, outcome, self.world.now, 0, &self.world);
                    format!("ask {} after {}", launch.member.deployment.0, launch.fallbacks)
                }
                Action::Queue(busy) => {
                    let left = busy.until.saturating_duration_since(self.world.now);
                    format!("queue {} {}", busy.group.name, left.as_secs())
                }
                Action::Wait(Some(until)) => {
                    let left = until.saturating_duration_since(self.world.now);
                    format!("wait {}", left.as_millis())
                }
                Action::Late(_) | Action::Wait(None) => "other".to_owned(),
            }
        }
    }

    fn patient(target: &Resolved) -> Ask<'_> {
        Ask { queue_timeout: PATIENCE, ..Ask::new(target, Shape::default()) }
    }

    #[test]
    fn who_finds_all_busy_waits_once_and_no_longer_than_it_may() {
        let table = table(&["a", "a"], |_, _| ());
        let target = table.resolve("a").unwrap();
        let mut play = Play::new(&table, patient(&target), &[0, 1]);
        assert_eq!(play.after(0), "queue a 10");
        assert_eq!(play.after(7), "queue a 3");
        assert_eq!(play.after(3), "AllBusy");
        assert_eq!(play.after(0), "AllBusy");
    }

    #[test]
    fn nobody_waits_beyond_the_deadline_of_the_request_or_without_patience() {
        let table = table(&["a"], |_, _| ());
        let target = table.resolve("a").unwrap();
        let mut play = Play::new(&table, patient(&target), &[0]);
        play.attempts.ask.deadline = Some(play.world.now + Duration::from_secs(4));
        assert_eq!([play.after(0), play.after(4)], ["queue a 4", "AllBusy"]);
        let mut hasty = Play::new(&table, Ask::new(&target, Shape::default()), &[0]);
        assert_eq!(hasty.after(0), "AllBusy");
    }

    #[test]
    fn a_seat_that_is_kept_counts_as_free_for_this_request_alone() {
        let table = table(&["a", "a"], |_, _| ());
        let target = table.resolve("a").unwrap();
        let mut play = Play::new(&table, patient(&target), &[0, 1]);
        assert_eq!(play.after(0), "queue a 10");
        play.attempts.offer(Some(DeploymentIx(1)));
        assert_eq!([play.after(1), play.after(0)], ["ask 1 after 0", "try 0 500"]);
        let mut other = Play::new(&table, patient(&target), &[0, 1]);
        assert_eq!(other.after(0), "queue a 10");
        other.attempts.offer(None);
        assert_eq!(other.after(0), "queue a 10");
    }

    #[test]
    fn a_seat_that_does_not_fit_is_of_no_use() {
        let table = table(&["a", "a"], |at, member| member.order = Some(at.into()));
        let target = table.resolve("a").unwrap();
        let mut play = Play::new(&table, patient(&target), &[0, 1]);
        assert_eq!(play.after(0), "queue a 10");
        // The first order is left again only where nobody of it fits.
        play.attempts.offer(Some(DeploymentIx(1)));
        assert_eq!(play.after(0), "queue a 10");
        play.attempts.offer(Some(DeploymentIx(0)));
        assert_eq!(play.after(0), "ask 0 after 0");
    }

    #[test]
    fn a_free_seat_elsewhere_comes_before_waiting() {
        let table = table(&["a", "b", "c"], |_, _| ());
        let target = table.resolve("a").unwrap();
        let mut play = Play::new(&table, patient(&target), &[0, 1]);
        assert_eq!(play.after(0), "ask 2 after 2");
        // That try has failed, and the group that was asked for is still to be heard.
        assert_eq!(play.after(0), "queue a 10");
        play.world.set_busy(0, 0);
        assert_eq!([play.after(1), play.after(0)], ["ask 0 after 0", "try 1 500"]);
    }

    #[test]
    fn where_all_groups_are_busy_the_first_is_waited_for() {
        let table = table(&["a", "b"], |_, _| ());
        let target = table.resolve("a").unwrap();
        let mut play = Play::new(&table, patient(&target), &[0, 1]);
        assert_eq!(play.after(0), "queue a 10");
        play.world.set_busy(1, 0);
        assert_eq!(play.after(1), "queue a 9");
        play.world.set_busy(0, 0);
        assert_eq!(play.after(1), "ask 0 after 0");
    }

    #[test]
    fn who_is_turned_away_is_refused() {
        let table = table(&["a"], |_, _| ());
        let target = table.resolve("a").unwrap();
        let mut play = Play::new(&table, patient(&target), &[0]);
        assert_eq!(play.after(0), "queue a 10");
        play.attempts.turn_away();
        play.world.set_busy(0, 0);
        assert_eq!(play.after(0), "AllBusy");
    }

    #[test]
    fn a_retry_waits_for_a_seat_after_its_pause() {
        let table = table(&["a"], |_, _| ());
        let target = table.resolve("a").unwrap();
        for (seat, last) in [(Some(0), "ask 0 after 0"), (None, "try 0 500")] {
            let mut play = Play::new(&table, patient(&target), &[]);
            play.attempts.ask.num_retries = Some(1);
            play.fail();
            assert_eq!([play.after(0), play.after(1)], ["wait 500", "queue a 10"]);
            play.attempts.offer(seat.map(DeploymentIx));
            assert_eq!(play.after(if seat.is_some() { 1 } else { 10 }), last);
        }
    }

    #[test]
    fn a_retry_goes_to_a_fallback_rather_than_wait() {
        let table = table(&["a", "b"], |_, _| ());
        let target = table.resolve("a").unwrap();
        let mut play = Play::new(&table, patient(&target), &[]);
        play.attempts.ask.num_retries = Some(1);
        play.fail();
        assert_eq!(play.after(0), "ask 1 after 1");
    }

    #[test]
    fn a_failed_try_is_no_reason_to_wait() {
        let table = table(&["a", "a"], |_, _| ());
        let target = table.resolve("a").unwrap();
        let mut play = Play::new(&table, patient(&target), &[1]);
        assert_eq!([play.after(0), play.after(0)], ["ask 0 after 0", "try 0 500"]);
    }

    #[test]
    fn a_deployment_named_by_its_id_is_waited_for_too() {
        let table = table(&["a", "a"], |_, _| ());
        let target = table.resolve("id1").unwrap();
        let mut play = Play::new(&table, patient(&target), &[1]);
        assert_eq!(play.after(0), "queue a 10");
        play.attempts.offer(Some(DeploymentIx(0)));
        assert_eq!(play.after(0), "queue a 10");
        play.attempts.offer(Some(DeploymentIx(1)));
        assert_eq!(play.after(0), "ask 1 after 0");
    }
}
