//! The tries of one request: retries within a group, hedges beside a late try, then fallbacks to
//! other groups, and a wait where all of them are busy.
//!
//! A machine without IO. Tell it what became of a try with [`Attempts::on`], ask it what to do
//! with [`Attempts::poll`]. It always ends: every group is asked a bounded number of times, and
//! every group at most once.

mod busy;
mod fallback;
pub mod patience;
pub mod retry;
mod second;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use self::patience::Patience;
use super::hedge::{Forgone, Mode};
use super::latency::Forecast;
use super::pick::{self, Narrow, NoCandidate};
use super::strategy::{Scene, Shape};
use super::table::{Group, Member, Resolved, RouteTable};
use super::view::{Kind, View};
use crate::lexicon::{Class, DeploymentIx, Failure, Substitute, Tokens};
pub use busy::Busy;
use busy::Line;

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What its model name stands for.
    pub target: &'a Resolved,
    /// Its tags.
    pub tags: &'a [Box<str>],
    /// Whether it wants a stream, and how long its prompt is.
    pub shape: Shape,
    /// Retries per group; `None` is as configured.
    pub num_retries: Option<u32>,
    /// Its own fallbacks, for every kind of failure; `None` is as configured.
    pub fallbacks: Option<&'a [Substitute]>,
    /// Its own fallbacks for long prompts.
    pub context_window_fallbacks: Option<&'a [Substitute]>,
    /// Its own fallbacks for refused prompts.
    pub content_policy_fallbacks: Option<&'a [Substitute]>,
    /// No fallbacks at all.
    pub disable_fallbacks: bool,
    /// How long one try may take; `None` is as configured.
    pub timeout: Option<Duration>,
    /// How long a stream may be silent; `None` is as configured.
    pub stream_timeout: Option<Duration>,
    /// Whether it is hedged when it is late; `None` is as configured.
    pub hedge: Option<Mode>,
    /// When all its tries must be over; `None` where only each of them has a limit.
    pub deadline: Option<Instant>,
    /// How long it waits for a seat where everybody is busy; zero is not at all.
    pub queue_timeout: Duration,
    /// Whether a try's time is that of a whole answer though it comes as a stream.
    pub is_carried: bool,
    /// Who is only asked where nobody else can be.
    pub avoid: Option<DeploymentIx>,
    /// Who is not asked at all.
    pub exclude: &'a [DeploymentIx],
}

impl<'a> Ask<'a> {
    /// A request that has no wishes of its own.
    pub const fn new(target: &'a Resolved, shape: Shape) -> Self {
        Self {
            target,
            tags: &[],
            shape,
            num_retries: None,
            fallbacks: None,
            context_window_fallbacks: None,
            content_policy_fallbacks: None,
            disable_fallbacks: false,
            timeout: None,
            stream_timeout: None,
            hedge: None,
            deadline: None,
            queue_timeout: Duration::ZERO,
            is_carried: false,
            avoid: None,
            exclude: &[],
        }
    }
}

/// Number of a try within its request, from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TryId(pub u32);

/// One call to make.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// Its number.
    pub id: TryId,
    /// The group it is made for.
    pub group: &'a Group,
    /// The name it is asked by in place of the client's; `None` where that is the client's own.
    pub name: Option<&'a str>,
    /// What the group's stars stand for.
    pub captures: Vec<Box<str>>,
    /// Whom to call.
    pub member: &'a Member,
    /// Why it is made.
    pub role: Role,
    /// Body fields to set, for a fallback that has some.
    pub fields: &'a [(Box<str>, bytes::Bytes)],
    /// How long it is waited for.
    pub patience: Patience,
    /// How many retries were made in this group, this one included.
    pub retries: u32,
    /// How many groups were asked before.
    pub fallbacks: u32,
    /// About how many tokens its prompt has, where that is known.
    pub prompt_tokens: Tokens,
}

/// Why a try is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Beside one that is late.
    Hedge,
    /// To get an answer.
    Lead,
}

/// What to do next.
#[derive(Debug)]
pub enum Action<'a> {
    /// Give up.
    Fail(Verdict),
    /// A try is late. Find out whether it may be hedged and tell it to [`Attempts::permit`].
    Late(Late<'a>),
    /// Make a call.
    Launch(Launch<'a>),
    /// Everybody is busy. Line up for a seat, tell it to [`Attempts::offer`] and ask again; where
    /// the line is full, tell that to [`Attempts::turn_away`].
    Queue(Busy<'a>),
    /// Ask again at this moment, not before; `None`: when a try has come to something.
    Wait(Option<Instant>),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No call could be made in the group that was asked for.
    NoCandidate(NoCandidate),
    /// Every try failed; the answer is this one's error.
    Tried(TryId, Failure),
}

/// A try that is late, and who would be asked beside it.
#[derive(Debug, Clone, Copy)]
pub struct Late<'a> {
    /// The group of both.
    pub group: &'a Group,
    /// Who is late.
    pub first: &'a Member,
    /// Who would be asked.
    pub second: &'a Member,
}

/// What became of the hedge of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hedged {
    /// No try was late.
    #[default]
    No,
    /// One was late, and there was no hedge for this reason.
    Forgone(Forgone),
    /// One was made.
    Made,
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its answer is being given to the client.
    Committed,
    /// It failed; nothing was given to the client.
    Failed(Failure),
    /// It failed, and the group may make no extra try now.
    Unpaid(Failure),
    /// It failed, may have been carried out all the same, and must not be made again.
    Unsure(Failure),
}

/// The machine. See the [module](self).
#[derive(Debug)]
pub struct Attempts<'a> {
    table: &'a RouteTable,
    ask: Ask<'a>,
    hop: Hop<'a>,
    phase: Phase,
    running: SmallVec<[Running<'a>; 2]>,
    hedge: Hedge<'a>,
    hedged: Hedged,
    copies: u32,
    /// Groups still to be asked, the next one last.
    queue: Vec<Target<'a>>,
    /// Names already asked or queued and gone.
    visited: SmallVec<[&'a str; 4]>,
    /// Why the group that was asked for failed.
    original: Option<Verdict>,
    line: Line<'a>,
    /// Where a seat is kept for the next pick.
    held: Option<DeploymentIx>,
    next_id: u32,
    hops: u32,
    lacked_budget: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everybody was busy, and nobody has waited yet.
    Busy,
    Over,
    Pick,
    /// Waits for a seat until this moment.
    Queued(Instant),
    Running,
    Waiting(Instant),
}

#[derive(Debug, Clone, Copy)]
struct Running<'a> {
    id: TryId,
    member: &'a Member,
    since: Instant,
}

/// The next hedge of what runs.
#[derive(Debug, Clone, Copy)]
enum Hedge<'a> {
    /// A permit was asked for.
    Asked(&'a Member),
    /// The try is late from this moment on.
    Due(Instant),
    /// There is a permit.
    Granted(&'a Member),
    /// There will be none.
    None,
}

/// One group being asked.
#[derive(Debug, Clone)]
struct Hop<'a> {
    group: &'a Group,
    name: Option<&'a str>,
    captures: Vec<Box<str>>,
    only: Option<DeploymentIx>,
    order: Option<i64>,
    fields: &'a [(Box<str>, bytes::Bytes)],
    retries: u32,
    depth: u32,
    excluded: SmallVec<[DeploymentIx; 4]>,
    avoided: SmallVec<[DeploymentIx; 4]>,
    last: Option<(TryId, Failure)>,
}

#[derive(Debug, Clone, Copy)]
enum Target<'a> {
    /// A later order of a group that was asked already.
    Order(&'a Group, i64, u32),
    /// Another group by its name.
    Other(&'a Substitute, u32),
}

impl<'a> Attempts<'a> {
    /// The machine for one request. `None` where the target is not of this table.
    pub fn new(table: &'a RouteTable, ask: Ask<'a>) -> Option<Self> {
        let group = table.group(ask.target.group)?;
        let hop = Hop {
            group,
            name: None,
            captures: ask.target.captures.clone(),
            only: ask.target.only,
            order: None,
            fields: &[],
            retries: 0,
            depth: 0,
            excluded: SmallVec::from_slice(ask.exclude),
            avoided: ask.avoid.into_iter().collect(),
            last: None,
        };
        Some(Self {
            table,
            ask,
            hop,
            phase: Phase::Pick,
            running: SmallVec::new(),
            hedge: Hedge::None,
            hedged: Hedged::No,
            copies: 0,
            queue: Vec::new(),
            visited: SmallVec::from_slice(&[&*group.name]),
            original: None,
            line: Line::Open,
            held: None,
            next_id: 0,
            hops: 0,
            lacked_budget: false,
        })
    }

    /// What to do at `now`. While a try runs it says to wait, until [`on`](Self::on) is told what
    /// became of it.
    pub fn poll(&mut self, now: Instant, entropy: u64, view: &impl View) -> Action<'a> {
        loop {
            match self.phase {
                Phase::Over => return Action::Fail(self.verdict()),
                Phase::Running => return self.while_running(now, entropy, view),
                Phase::Waiting(until) if until > now => return Action::Wait(Some(until)),
                Phase::Busy => self.phase = Phase::Queued(self.queue_until(now)),
                Phase::Pick | Phase::Queued(_) | Phase::Waiting(_) => {}
            }
            match self.pick(now, entropy, view) {
                Ok(member) if !self.has_time_for(member, now, view) => self.out_of_time(),
                Ok(member) => {
                    return Action::Launch(self.launch(member, Role::Lead, now, view));
                }
                Err(nobody) => match self.busy(nobody, now) {
                    Some(busy) => return Action::Queue(busy),
                    None if self.lines_up_to_retry(nobody) => {}
                    None => self.end_hop(nobody),
                },
            }
        }
    }

    /// Tells what became of a try. An outcome of a try that is not running changes nothing.
    pub fn on(
        &mut self,
        id: TryId,
        outcome: Outcome,
        now: Instant,
        entropy: u64,
        view: &impl View,
    ) {
        let Some(at) = self.running.iter().position(|running| running.id == id) else { return };
        let deployment = self.running.remove(at).member.deployment;
        match outcome {
            Outcome::Committed => {
                self.running.clear();
                self.phase = Phase::Over;
            }
            Outcome::Unsure(failure) => {
                self.running.clear();
                self.original.get_or_insert(Verdict::Tried(id, failure));
                self.phase = Phase::Over;
            }
            Outcome::Failed(failure) | Outcome::Unpaid(failure) => {
                self.hop.last = Some((id, failure));
                if failure.class == Class::ContextWindow {
                    self.exclude_smaller(deployment);
                }
                // Who was silent is not asked again, where somebody else can be.
                let is_silent = failure.class == Class::Timeout && self.has_others();
                if retry::is_retryable(failure) && !is_silent {
                    self.hop.avoided.push(deployment);
                } else {
                    self.hop.excluded.push(deployment);
                }
                // While another one lives it may still answer, and takes no retry away.
                if self.running.is_empty() {
                    self.hedge = Hedge::None;
                    if let Outcome::Unpaid(_) = outcome {
                        self.lacked_budget |= self.may_retry(deployment, failure);
                        self.leave(Verdict::Tried(id, failure));
                    } else {
                        self.after_failure((id, deployment), failure, now, entropy, view);
                    }
                }
            }
        }
    }

    /// Whether a retry was not made because the group may make no extra try.
    pub fn lacked_budget(&self) -> bool {
        self.lacked_budget
    }

    /// Tells that of all tries that run this one goes on alone: its answer has begun. It may still
    /// fail, as any other.
    pub fn choose(&mut self, id: TryId) {
        self.running.retain(|running| running.id == id);
        self.hedge = Hedge::None;
    }

    /// Whether a try may be expected to answer before the deadline. The first one always may.
    fn has_time_for(&self, member: &Member, now: Instant, view: &impl View) -> bool {
        let Some(deadline) = self.ask.deadline else { return true };
        let left = deadline.saturating_duration_since(now);
        if self.next_id == 0 {
            return !left.is_zero();
        }
        let shape = self.ask.shape;
        let forecast = view.forecast(member.deployment, shape.kind());
        let expected = forecast.map_or(LEAST_WAIT, |forecast| forecast.expected(shape.length));
        expected <= left
    }

    /// The deadline leaves no room for another try.
    fn out_of_time(&mut self) {
        let verdict = match self.hop.last {
            Some((id, failure)) => Verdict::Tried(id, failure),
            None => Verdict::NoCandidate(NoCandidate::OutOfTime),
        };
        self.original.get_or_insert(verdict);
        self.phase = Phase::Over;
    }

    /// Who is asked next. Where all are in cooldown and no other group can be asked, the one that
    /// is back first.
    fn pick(
        &self,
        now: Instant,
        entropy: u64,
        view: &impl View,
    ) -> Result<&'a Member, NoCandidate> {
        let scene = Scene { view, shape: self.ask.shape, now, entropy };
        match self.pick_without(&self.hop.excluded, &scene) {
            Err(NoCandidate::AllCooling(_)) if !self.has_elsewhere() => {
                let narrow = self.narrow(&self.hop.excluded);
                pick::least_bad(self.hop.group, self.table.settings(), &narrow, &scene)
            }
            picked => picked,
        }
    }

    /// Who is asked if it must be none of these.
    fn pick_without(
        &self,
        excluded: &[DeploymentIx],
        scene: &Scene<'_, impl View>,
    ) -> Result<&'a Member, NoCandidate> {
        pick::pick(self.hop.group, self.table.settings(), &self.narrow(excluded), scene)
    }

    fn narrow<'n>(&'n self, excluded: &'n [DeploymentIx]) -> Narrow<'n> {
        Narrow {
            only: self.hop.only,
            order: self.hop.order,
            tags: self.ask.tags,
            excluded,
            avoided: &self.hop.avoided,
            held: self.held,
        }
    }

    fn launch(
        &mut self,
        member: &'a Member,
        role: Role,
        now: Instant,
        view: &impl View,
    ) -> Launch<'a> {
        let id = TryId(self.next_id);
        self.next_id += 1;
        self.phase = Phase::Running;
        self.held = None;
        let known = OnceCell::new();
        let start = Start { member, now, view, kind: self.ask.shape.kind(), known };
        let patience = self.patience(&start);
        self.hedge = self.due(&start, patience.answer);
        self.running.push(Running { id, member, since: now });
        Launch {
            id,
            group: self.hop.group,
            name: self.hop.name,
            captures: self.hop.captures.clone(),
            member,
            role,
            fields: self.hop.fields,
            patience,
            retries: self.hop.retries,
            fallbacks: self.hops,
            prompt_tokens: self.ask.shape.prompt_tokens,
        }
    }

    fn verdict(&self) -> Verdict {
        self.original.unwrap_or(Verdict::NoCandidate(NoCandidate::Exhausted))
    }
}

/// A try that is about to start, and what is known of such tries.
struct Start<'a, 'v, V> {
    member: &'a Member,
    now: Instant,
    view: &'v V,
    kind: Kind,
    known: OnceCell<Option<Arc<Forecast>>>,
}

impl<V: View> Start<'_, '_, V> {
    /// How long it will take, as far as that is known. The view is asked once.
    fn forecast(&self) -> Option<&Forecast> {
        let ask = || self.view.forecast(self.member.deployment, self.kind);
        self.known.get_or_init(ask).as_deref()
    }
}

/// No provider answers faster than this, whatever is known of it.
const LEAST_WAIT: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::cooldown::Rule;
    use super::super::table::Settings;
    use super::super::view::Vitals;
    use super::*;
    use crate::lexicon::time;

    #[derive(Default)]
    struct World(RefCell<HashMap<u16, Instant>>);

    impl View for World {
        fn vitals(&self, of: DeploymentIx) -> Vitals {
            let until = self.0.borrow().get(&of.0).copied();
            Vitals { cooling_until: until, own_until: until, ..Vitals::default() }
        }
    }

    fn table(groups: &[(&str, u16)], settings: Settings) -> RouteTable {
        table_with(groups, settings, |_, _| ())
    }

    fn table_with(
        groups: &[(&str, u16)],
        settings: Settings,
        set: impl Fn(u16, &mut Member),
    ) -> RouteTable {
        let mut entries = Vec::new();
        for (name, count) in groups {
            for _ in 0..*count {
                let at = u16::try_from(entries.len()).unwrap();
                let mut member = Member::new(DeploymentIx(at));
                set(at, &mut member);
                entries.push(((*name).into(), format!("id{at}").into(), member));
            }
        }
        RouteTable::build(entries, settings)
    }

    fn ask(target: &Resolved) -> Ask<'_> {
        Ask::new(target, Shape::default())
    }

    fn failed(class: Class, status: u16) -> Outcome {
        Outcome::Failed(Failure::new(class, status))
    }

    /// Runs a request to its end in virtual time; every deployment answers what `answer` says.
    /// Gives the deployments in the order they were asked, the waits, and the verdict.
    fn run(
        table: &RouteTable,
        ask: Ask<'_>,
        world: &World,
        answer: impl Fn(u16, u32) -> Outcome,
    ) -> (Vec<u16>, Vec<u128>, Option<Verdict>) {
        let mut attempts = Attempts::new(table, ask).unwrap();
        let (mut asked, mut waits, mut now) = (Vec::new(), Vec::new(), time::now());
        for _ in 0..1000 {
            match attempts.poll(now, 0, world) {
                Action::Fail(verdict) => return (asked, waits, Some(verdict)),
                Action::Wait(until) => {
                    let until = until.expect("nothing runs, so there is a moment");
                    waits.push((until - now).as_millis());
                    now = until;
                }
                Action::Late(_) => unreachable!("nothing is known about waits"),
                Action::Queue(busy) => now = busy.until,
                Action::Launch(launch) => {
                    let (id, deployment) = (launch.id, launch.member.deployment.0);
                    asked.push(deployment);
                    let outcome = answer(deployment, id.0);
                    attempts.on(id, outcome, now, 0, world);
                    if outcome == Outcome::Committed {
                        return (asked, waits, None);
                    }
                }
            }
        }
        panic!("the attempts did not settle");
    }

    fn to(names: &[&str]) -> Vec<Substitute> {
        names.iter().map(|name| Substitute::model(*name)).collect()
    }

    #[test]
    fn a_good_answer_ends_it() {
        let table = table(&[("a", 1)], Settings::default());
        let target = table.resolve("a").unwrap();
        let (asked, waits, verdict) =
            run(&table, ask(&target), &World::default(), |_, _| Outcome::Committed);
        assert_eq!((asked, waits, verdict), (vec![0], vec![], None));
    }

    #[test]
    fn one_deployment_is_retried_with_growing_waits_and_none_after_the_last() {
        let table = table(&[("a", 1)], Settings { num_retries: 5, ..Settings::default() });
        let target = table.resolve("a").unwrap();
        let broken = |_, _| failed(Class::InternalServer, 500);
        let (asked, waits, verdict) = run(&table, ask(&target), &World::default(), broken);
        assert_eq!(asked, [0; 6]);
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000]);
        let failure = Failure::new(Class::InternalServer, 500);
        assert_eq!(verdict, Some(Verdict::Tried(TryId(5), failure)));
    }

    #[test]
    fn without_a_budget_there_is_no_retry_and_the_fallback_is_asked() {
        let fallbacks = vec![("a".into(), to(&["b"]))];
        let table = table(&[("a", 3), ("b", 1)], Settings { fallbacks, ..Settings::default() });
        let target = table.resolve("a").unwrap();
        let unpaid = |at, _| match at {
            3 => Outcome::Committed,
            _ => Outcome::Unpaid(Failure::new(Class::InternalServer, 500)),
        };
        let (asked, waits, verdict) = run(&table, ask(&target), &World::default(), unpaid);
        assert_eq!((asked.len(), asked.last(), waits, verdict), (2, Some(&3), vec![], None));
    }

    #[test]
    fn a_call_that_must_not_run_twice_ends_with_its_first_doubt() {
        let fallbacks = vec![("a".into(), to(&["b"]))];
        let table = table(&[("a", 3), ("b", 1)], Settings { fallbacks, ..Settings::default() });
        let target = table.resolve("a").unwrap();
        let failure = Failure::new(Class::Connection, 502);
        let unsure = |_, _| Outcome::Unsure(failure);
        let (asked, _, verdict) = run(&table, ask(&target), &World::default(), unsure);
        assert_eq!((asked.len(), verdict), (1, Some(Verdict::Tried(TryId(0), failure))));
    }

    #[test]
    fn a_prompt_that_is_too_long_goes_to_a_larger_model_of_the_group() {
        let sizes = [Some(8_000), Some(200_000), Some(8_000), None];
        let with = |settings: Settings| {
            let set = |at: u16, it: &mut Member| {
                it.longest_prompt = sizes.get(usize::from(at)).copied().flatten();
                it.weight = Some(if at == 0 { 1.0 } else { 0.0 });
            };
            let table = table_with(&[("a", 4), ("c", 1)], settings, set);
            let target = table.resolve("a").unwrap();
            let too_long = |at, _| match at {
                1 | 4 => Outcome::Committed,
                _ => failed(Class::ContextWindow, 400),
            };
            run(&table, ask(&target), &World::default(), too_long).0
        };
        assert_eq!(with(Settings::default()), [0, 1]);
        let context_window_fallbacks = vec![("a".into(), to(&["c"]))];
        assert_eq!(with(Settings { context_window_fallbacks, ..Settings::default() }), [0, 4]);
        assert_eq!(with(Settings { num_retries: 0, ..Settings::default() }), [0]);
    }

    #[test]
    fn a_retry_goes_elsewhere_at_once_where_there_is_an_elsewhere() {
        let table = table(&[("a", 3)], Settings::default());
        let target = table.resolve("a").unwrap();
        let broken = |_, _| failed(Class::ServiceUnavailable, 503);
        let (mut asked, waits, _) = run(&table, ask(&target), &World::default(), broken);
        asked.sort_unstable();
        assert_eq!((asked, waits), (vec![0, 1, 2], vec![]));
    }

    #[test]
    fn the_providers_wish_is_the_wait_unless_it_is_too_long() {
        let table = table(&[("a", 1)], Settings { num_retries: 1, ..Settings::default() });
        let target = table.resolve("a").unwrap();
        let wish = |seconds| {
            let mut failure = Failure::new(Class::RateLimit, 429);
            failure.retry_after = Some(Duration::from_secs(seconds));
            let (asked, waits, _) =
                run(&table, ask(&target), &World::default(), |_, _| Outcome::Failed(failure));
            (asked.len(), waits)
        };
        assert_eq!(wish(2), (2, vec![2000]));
        assert_eq!(wish(0), (2, vec![500]));
        assert_eq!(wish(61), (1, vec![]));
    }

    #[test]
    fn a_bad_request_is_not_retried() {
        let table = table(&[("a", 2)], Settings::default());
        let target = table.resolve("a").unwrap();
        for class in [Class::BadRequest, Class::ContextWindow, Class::NotFound] {
            let (asked, ..) =
                run(&table, ask(&target), &World::default(), |_, _| failed(class, 400));
            assert_eq!(asked.len(), 1, "{class:?}");
        }
        let conflict = |_, _| failed(Class::BadRequest, 409);
        assert_eq!(run(&table, ask(&target), &World::default(), conflict).0.len(), 3);
    }

    #[test]
    fn a_refused_key_or_an_empty_account_leads_to_another_deployment_only() {
        for class in [Class::Authentication, Class::QuotaExhausted] {
            let answer = |_, _| failed(class, 401);
            let pair = table(&[("a", 2)], Settings::default());
            let target = pair.resolve("a").unwrap();
            let (mut asked, ..) = run(&pair, ask(&target), &World::default(), answer);
            asked.sort_unstable();
            assert_eq!(asked, [0, 1]);
            let single = table(&[("a", 1)], Settings::default());
            let target = single.resolve("a").unwrap();
            assert_eq!(run(&single, ask(&target), &World::default(), answer).0, [0]);
        }
    }

    #[test]
    fn fallbacks_are_walked_in_depth_and_the_first_error_is_the_verdict() {
        let settings = Settings {
            num_retries: 0,
            fallbacks: vec![("a".into(), to(&["b", "c"])), ("b".into(), to(&["d", "a"]))],
            ..Settings::default()
        };
        let table = table(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)], settings);
        let target = table.resolve("a").unwrap();
        let answer = |at, _| failed(Class::InternalServer, 500 + at);
        let (asked, _, verdict) = run(&table, ask(&target), &World::default(), answer);
        assert_eq!(asked, [0, 1, 3, 2]);
        let first = Failure::new(Class::InternalServer, 500);
        assert_eq!(verdict, Some(Verdict::Tried(TryId(0), first)));
    }

    #[test]
    fn each_kind_of_failure_has_its_own_fallbacks() {
        let settings = Settings {
            num_retries: 0,
            fallbacks: vec![("a".into(), to(&["b"]))],
            context_window_fallbacks: vec![("a".into(), to(&["c"])), ("z".into(), to(&["c"]))],
            content_policy_fallbacks: vec![("z".into(), to(&["c"]))],
            ..Settings::default()
        };
        let table = table(&[("a", 1), ("b", 1), ("c", 1)], settings);
        let target = table.resolve("a").unwrap();
        let asked = |class| {
            let answer = |at, _| if at == 0 { failed(class, 400) } else { Outcome::Committed };
            run(&table, ask(&target), &World::default(), answer).0
        };
        assert_eq!(asked(Class::InternalServer), [0, 1]);
        assert_eq!(asked(Class::BadRequest), [0, 1]);
        assert_eq!(asked(Class::ContextWindow), [0, 2]);
        // Configured, but not for this group: nobody is asked, not even the general fallbacks.
        assert_eq!(asked(Class::ContentPolicy), [0]);
    }

    #[test]
    fn a_request_may_bring_its_own_fallbacks_or_refuse_all() {
        let settings = Settings {
            num_retries: 0,
            fallbacks: vec![("a".into(), to(&["b"]))],
            ..Settings::default()
        };
        let table = table(&[("a", 1), ("b", 1), ("c", 1)], settings);
        let target = table.resolve("a").unwrap();
        let asked = |ask: Ask<'_>| {
            run(&table, ask, &World::default(), |_, _| failed(Class::Timeout, 408)).0
        };
        let own = to(&["c", "nobody"]);
        assert_eq!(asked(Ask { fallbacks: Some(&own), ..ask(&target) }), [0, 2]);
        assert_eq!(asked(Ask { fallbacks: Some(&[]), ..ask(&target) }), [0]);
        assert_eq!(asked(Ask { disable_fallbacks: true, ..ask(&target) }), [0]);
    }

    #[test]
    fn higher_orders_are_asked_before_other_groups() {
        let settings = Settings {
            num_retries: 0,
            fallbacks: vec![("a".into(), to(&["b"]))],
            ..Settings::default()
        };
        let table = table_with(&[("a", 3), ("b", 1)], settings, |at, member| {
            member.order = (at < 3).then_some(3 - i64::from(at));
        });
        let target = table.resolve("a").unwrap();
        let broken = |_, _| failed(Class::InternalServer, 500);
        assert_eq!(run(&table, ask(&target), &World::default(), broken).0, [2, 1, 0, 3]);
    }

    #[test]
    fn a_group_in_cooldown_is_passed_over_for_its_fallback() {
        let fallbacks = vec![("a".into(), to(&["b"]))];
        let settings = Settings { fallbacks, cooldown: Some(Rule::LiteLlm), ..Settings::default() };
        let table = table(&[("a", 1), ("b", 1)], settings);
        let target = table.resolve("a").unwrap();
        let world = World::default();
        let until = time::now() + Duration::from_secs(60);
        world.0.borrow_mut().insert(0, until);
        assert_eq!(run(&table, ask(&target), &world, |_, _| Outcome::Committed).0, [1]);
        world.0.borrow_mut().insert(1, until);
        let (asked, _, verdict) = run(&table, ask(&target), &world, |_, _| Outcome::Committed);
        assert!(asked.is_empty());
        assert_eq!(verdict, Some(Verdict::NoCandidate(NoCandidate::AllCooling(until))));
    }

    /// Whom a request for `a` asks where all deployments are in cooldown, the first one longest.
    #[track_caller]
    fn check_panic(groups: &[(&str, u16)], fallbacks: &[(&str, &[&str])], want: &[u16]) {
        let fallbacks = fallbacks.iter().map(|(from, names)| ((*from).into(), to(names))).collect();
        let table = table(groups, Settings { fallbacks, num_retries: 1, ..Settings::default() });
        let target = table.resolve("a").unwrap();
        let world = World::default();
        for at in 0..groups.iter().map(|(_, count)| count).sum() {
            let pause = Duration::from_secs(60 - u64::from(at));
            world.0.borrow_mut().insert(at, time::now() + pause);
        }
        let broken = |_, _| failed(Class::InternalServer, 500);
        let (asked, _, verdict) = run(&table, ask(&target), &world, broken);
        assert_eq!(asked, want);
        assert!(matches!(verdict, Some(Verdict::Tried(..))), "{verdict:?}");
    }

    #[test]
    fn the_first_to_be_back_is_asked_where_no_group_is_left() {
        check_panic(&[("a", 3)], &[], &[2, 1]);
        check_panic(&[("a", 2), ("b", 2)], &[("a", &["b"])], &[3, 2]);
        check_panic(&[("a", 2)], &[("a", &["missing"])], &[1, 0]);
        check_panic(&[("a", 2), ("b", 2)], &[("a", &["b"]), ("b", &["a"])], &[3, 2]);
        check_panic(&[("a", 2), ("b", 2), ("c", 2)], &[("a", &["b", "c"])], &[5, 4]);
    }

    #[test]
    fn a_retry_policy_decides_by_class() {
        let policy = super::super::table::Policy {
            timeout: Some(0),
            rate_limit: Some(3),
            ..Default::default()
        };
        let settings = Settings { retry_policy: Some(policy), ..Settings::default() };
        let table = table(&[("a", 1)], settings);
        let target = table.resolve("a").unwrap();
        let tries = |class, retries| {
            let ask = Ask { num_retries: retries, ..ask(&target) };
            run(&table, ask, &World::default(), |_, _| failed(class, 500)).0.len()
        };
        assert_eq!(tries(Class::Timeout, None), 1);
        assert_eq!(tries(Class::RateLimit, None), 4);
        assert_eq!(tries(Class::RateLimit, Some(0)), 1);
        assert_eq!(tries(Class::InternalServer, None), 3);
    }

    #[test]
    fn timeouts_are_the_first_that_is_set() {
        let shape = Shape { stream: true, ..Shape::default() };
        let seconds = |n| Some(Duration::from_secs(n));
        let settings = Settings { stream_timeout: seconds(7), ..Settings::default() };
        let table = table_with(&[("a", 1)], settings, |_, member| member.timeout = seconds(9));
        let target = table.resolve("a").unwrap();
        let timeout = |ask: Ask<'_>| {
            let mut attempts = Attempts::new(&table, ask).unwrap();
            match attempts.poll(time::now(), 0, &World::default()) {
                Action::Launch(launch) => launch.patience.answer.as_secs(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(timeout(ask(&target)), 9);
        assert_eq!(timeout(Ask { timeout: seconds(1), ..ask(&target) }), 1);
        assert_eq!(timeout(Ask { shape, ..ask(&target) }), 7);
        assert_eq!(timeout(Ask { shape, stream_timeout: seconds(2), ..ask(&target) }), 2);
    }

    #[test]
    fn an_outcome_of_another_try_changes_nothing() {
        let table = table(&[("a", 1)], Settings::default());
        let target = table.resolve("a").unwrap();
        let (world, now) = (World::default(), time::now());
        let mut attempts = Attempts::new(&table, ask(&target)).unwrap();
        let Action::Launch(launch) = attempts.poll(now, 0, &world) else { panic!() };
        attempts.on(TryId(7), failed(Class::Timeout, 408), now, 0, &world);
        assert!(matches!(attempts.poll(now, 0, &world), Action::Wait(_)));
        attempts.on(launch.id, Outcome::Committed, now, 0, &world);
        attempts.on(launch.id, failed(Class::Timeout, 408), now, 0, &world);
        assert!(matches!(attempts.poll(now, 0, &world), Action::Fail(_)));
    }

    proptest! {
        #[test]
        fn attempts_always_settle_within_their_bounds(
            sizes in prop::collection::vec(1u16..4, 1..5),
            links in prop::collection::vec((0usize..5, prop::collection::vec(0usize..6, 0..4)), 0..6),
            retries in 0u32..4,
            classes in prop::collection::vec(0usize..8, 1..20),
            full in prop::collection::vec(any::<bool>(), 15),
        ) {
            let names = ["a", "b", "c", "d", "e", "missing"];
            let groups: Vec<_> = sizes.iter().zip(names).map(|(size, name)| (name, *size)).collect();
            let fallbacks = links.iter().map(|(from, targets)| {
                (names[*from].into(), targets.iter().map(|at| Substitute::model(names[*at])).collect())
            }).collect();
            let settings = Settings { num_retries: retries, fallbacks, ..Settings::default() };
            let table = table_with(&groups, settings, |at, member| {
                member.max_parallel_requests = full[usize::from(at)].then_some(0);
            });
            let kinds = [
                (Class::InternalServer, 500), (Class::RateLimit, 429), (Class::Timeout, 408),
                (Class::Authentication, 401), (Class::BadRequest, 400), (Class::ContextWindow, 400),
                (Class::QuotaExhausted, 429), (Class::Connection, 502),
            ];
            let target = table.resolve("a").unwrap();
            let answer = |_, id: u32| {
                let (class, status) = kinds[classes[id as usize % classes.len()]];
                failed(class, status)
            };
            let ask = Ask { queue_timeout: Duration::from_secs(10), ..ask(&target) };
            let (asked, waits, verdict) = run(&table, ask, &World::default(), answer);
            prop_assert!(verdict.is_some());
            prop_assert!(asked.len() <= groups.len() * (retries as usize + 1));
            prop_assert!(waits.iter().all(|wait| *wait <= 8750));
        }
    }
}
