//! The tries of one request: retries within a group, then fallbacks to other groups.
//!
//! A machine without IO. Tell it what became of a try with [`Attempts::on`], ask it what to do
//! with [`Attempts::poll`]. It always ends: every group is asked a bounded number of times, and
//! every group at most once.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::chance;
use super::cooldown::{self, Rule};
use super::pick::{self, Narrow, NoCandidate};
use super::strategy::{Scene, Shape};
use super::table::{Group, Member, Resolved, RouteTable};
use super::view::View;
use crate::lexicon::{Class, DeploymentIx, Failure, Substitute, Tokens};

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
    /// Body fields to set, for a fallback that has some.
    pub fields: &'a [(Box<str>, bytes::Bytes)],
    /// How long it may take to the whole answer, or to a stream's first event with content;
    /// for a stream also how long it may be silent later.
    pub timeout: Duration,
    /// How many retries were made in this group, this one included.
    pub retries: u32,
    /// How many groups were asked before.
    pub fallbacks: u32,
    /// About how many tokens its prompt has, where that is known.
    pub prompt_tokens: Tokens,
}

/// What to do next.
#[derive(Debug)]
pub enum Action<'a> {
    /// Give up.
    Fail(Verdict),
    /// Make a call.
    Launch(Launch<'a>),
    /// Ask again at this moment, not before.
    Wait(Instant),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No call could be made in the group that was asked for.
    NoCandidate(NoCandidate),
    /// Every try failed; the answer is this one's error.
    Tried(TryId, Failure),
}

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its answer is being given to the client.
    Committed,
    /// It failed; nothing was given to the client.
    Failed(Failure),
}

/// The machine. See the [module](self).
#[derive(Debug)]
pub struct Attempts<'a> {
    table: &'a RouteTable,
    ask: Ask<'a>,
    hop: Hop<'a>,
    phase: Phase,
    /// Groups still to be asked, the next one last.
    queue: Vec<Target<'a>>,
    /// Names already asked or queued and gone.
    visited: SmallVec<[&'a str; 4]>,
    /// Why the group that was asked for failed.
    original: Option<Verdict>,
    next_id: u32,
    hops: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Over,
    Pick,
    Running(TryId, DeploymentIx),
    Waiting(Instant),
}

/// One group being asked.
#[derive(Debug)]
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
            excluded: SmallVec::new(),
            avoided: SmallVec::new(),
            last: None,
        };
        Some(Self {
            table,
            ask,
            hop,
            phase: Phase::Pick,
            queue: Vec::new(),
            visited: SmallVec::from_slice(&[&*group.name]),
            original: None,
            next_id: 0,
            hops: 0,
        })
    }

    /// What to do at `now`. After [`Action::Launch`] it answers nothing new until [`on`](Self::on)
    /// was told the outcome; asked all the same, it says to wait.
    pub fn poll(&mut self, now: Instant, entropy: u64, view: &impl View) -> Action<'a> {
        loop {
            match self.phase {
                Phase::Over => return Action::Fail(self.verdict()),
                Phase::Running(..) => return Action::Wait(now + Duration::from_secs(3600)),
                Phase::Waiting(until) if until > now => return Action::Wait(until),
                Phase::Pick | Phase::Waiting(_) => {}
            }
            match self.pick(now, entropy, view) {
                Ok(member) => return Action::Launch(self.launch(member)),
                Err(nobody) => self.end_hop(nobody),
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
        let Phase::Running(running, deployment) = self.phase else { return };
        if running != id {
            return;
        }
        match outcome {
            Outcome::Committed => self.phase = Phase::Over,
            Outcome::Failed(failure) => {
                self.hop.last = Some((id, failure));
                self.after_failure(deployment, failure, now, entropy, view);
            }
        }
    }

    fn pick(
        &self,
        now: Instant,
        entropy: u64,
        view: &impl View,
    ) -> Result<&'a Member, NoCandidate> {
        let shape = self.ask.shape;
        let narrow = Narrow {
            only: self.hop.only,
            order: self.hop.order,
            tags: self.ask.tags,
            excluded: &self.hop.excluded,
            avoided: &self.hop.avoided,
        };
        let scene = Scene { view, shape, now, entropy };
        let (group, settings) = (self.hop.group, self.table.settings());
        match pick::pick(group, settings, &narrow, &scene) {
            Err(NoCandidate::AllCooling(_)) if !self.has_elsewhere() => {
                pick::least_bad(group, settings, &narrow, &scene)
            }
            picked => picked,
        }
    }

    /// Whether another group can be asked where nobody is left in this one.
    fn has_elsewhere(&self) -> bool {
        let class = self.hop.last.map_or(Class::RateLimit, |(_, failure)| failure.class);
        let own = if self.may_fall_back() { self.fallbacks_for(class) } else { &[] };
        let queued = self.queue.iter().filter_map(|target| match target {
            Target::Order(..) => None,
            Target::Other(to, _) => Some(*to),
        });
        own.iter().chain(queued).any(|to| {
            !self.visited.contains(&&*to.model) && self.table.resolve(&to.model).is_some()
        })
    }

    /// Not behind a later order of a group that was asked before: that group queued its fallbacks
    /// then.
    fn may_fall_back(&self) -> bool {
        let too_deep = self.hop.depth >= self.table.settings().max_fallbacks;
        !self.ask.disable_fallbacks && !too_deep && self.hop.order.is_none()
    }

    fn launch(&mut self, member: &'a Member) -> Launch<'a> {
        let id = TryId(self.next_id);
        self.next_id += 1;
        self.phase = Phase::Running(id, member.deployment);
        Launch {
            id,
            group: self.hop.group,
            name: self.hop.name,
            captures: self.hop.captures.clone(),
            member,
            fields: self.hop.fields,
            timeout: self.timeout(member),
            retries: self.hop.retries,
            fallbacks: self.hops,
            prompt_tokens: self.ask.shape.prompt_tokens,
        }
    }

    /// §2.5 of `LiteLLM`, the first that is set.
    fn timeout(&self, member: &Member) -> Duration {
        let settings = self.table.settings();
        let whole = self.ask.timeout.or(member.timeout).unwrap_or(settings.timeout);
        if !self.ask.shape.stream {
            return whole;
        }
        self.ask
            .stream_timeout
            .or(member.stream_timeout)
            .or(settings.stream_timeout)
            .unwrap_or(whole)
    }

    fn after_failure(
        &mut self,
        deployment: DeploymentIx,
        failure: Failure,
        now: Instant,
        entropy: u64,
        view: &impl View,
    ) {
        if is_retryable(failure) {
            self.hop.avoided.push(deployment);
        } else {
            self.hop.excluded.push(deployment);
        }
        if !self.may_retry(deployment, failure) {
            return self.leave(Verdict::Tried(TryId(self.next_id.saturating_sub(1)), failure));
        }
        match self.pick(now, entropy, view) {
            Err(_) => self.leave(Verdict::Tried(TryId(self.next_id.saturating_sub(1)), failure)),
            Ok(next) => {
                self.hop.retries += 1;
                let wait = self.wait_before(deployment, next.deployment, failure, entropy);
                match wait {
                    None => {
                        self.leave(Verdict::Tried(TryId(self.next_id.saturating_sub(1)), failure));
                    }
                    Some(wait) if wait.is_zero() => self.phase = Phase::Pick,
                    Some(wait) => self.phase = Phase::Waiting(now + wait),
                }
            }
        }
    }

    /// Whether the group may be asked again after this failure, as §2.6 of `LiteLLM` says.
    fn may_retry(&self, failed: DeploymentIx, failure: Failure) -> bool {
        let policy = self
            .hop
            .group
            .retry_policy
            .as_ref()
            .and_then(|policy| cooldown::allowed(policy, failure.class).or(policy.other))
            .filter(|_| self.ask.num_retries != Some(0));
        if let Some(retries) = policy {
            return self.hop.retries < retries && (is_retryable(failure) || self.has_others());
        }
        let own = |member: &&Member| member.deployment == failed;
        let configured =
            self.hop.group.members.iter().find(own).and_then(|member| member.num_retries);
        let retries =
            self.ask.num_retries.or(configured).unwrap_or(self.table.settings().num_retries);
        self.hop.retries < retries && self.class_may_retry(failure)
    }

    fn class_may_retry(&self, failure: Failure) -> bool {
        match Fault::of(failure) {
            Fault::Account => self.has_others(),
            Fault::Moment => true,
            Fault::Request => false,
        }
    }

    fn has_others(&self) -> bool {
        self.hop.group.members.len() > 1 && self.hop.only.is_none()
    }

    /// The pause before the next try: none when it goes to another deployment, else the
    /// provider's wish or exponential back-off; `None` where the provider asks for more patience
    /// than a request has.
    fn wait_before(
        &self,
        failed: DeploymentIx,
        next: DeploymentIx,
        failure: Failure,
        entropy: u64,
    ) -> Option<Duration> {
        if failed != next {
            return Some(Duration::ZERO);
        }
        let jitter = JITTER.mul_f64(chance::unit(entropy.rotate_left(32)));
        match failure.retry_after {
            Some(wish) if wish > LONGEST_WAIT => None,
            Some(wish) if !wish.is_zero() => Some(wish + jitter),
            _ => {
                let doublings = self.hop.retries.saturating_sub(1).min(10);
                let backoff = FIRST_WAIT * 2u32.pow(doublings);
                Some(backoff.max(self.table.settings().retry_after).min(LONGEST_BACKOFF) + jitter)
            }
        }
    }

    fn end_hop(&mut self, nobody: NoCandidate) {
        let verdict = match self.hop.last {
            Some((id, failure)) => Verdict::Tried(id, failure),
            None => Verdict::NoCandidate(nobody),
        };
        self.leave(verdict);
    }

    /// Leaves the group for the next one on the list, or ends.
    fn leave(&mut self, verdict: Verdict) {
        if !self.is_passed_over(verdict) {
            self.original.get_or_insert(verdict);
        }
        self.enqueue(verdict);
        while let Some(target) = self.queue.pop() {
            if let Some(hop) = self.enter(target) {
                self.hop = hop;
                self.hops += 1;
                self.phase = Phase::Pick;
                return;
            }
        }
        self.phase = Phase::Over;
    }

    /// Whether the group was left for others that can be asked, which then have the last word.
    fn is_passed_over(&self, verdict: Verdict) -> bool {
        matches!(verdict, Verdict::NoCandidate(NoCandidate::AllCooling(_)))
            && self.hop.group.cooldown == Rule::Pillion
    }

    /// Queues whom the failed group names, before those that were queued by groups before it.
    fn enqueue(&mut self, verdict: Verdict) {
        if !self.may_fall_back() {
            return;
        }
        let depth = self.hop.depth + 1;
        let class = match verdict {
            Verdict::NoCandidate(NoCandidate::NoTagMatch) => Class::Authentication,
            Verdict::NoCandidate(_) => Class::RateLimit,
            Verdict::Tried(_, failure) => failure.class,
        };
        let targets = self.fallbacks_for(class);
        self.queue.extend(targets.iter().rev().map(|target| Target::Other(target, depth)));
        let special = matches!(class, Class::ContentPolicy | Class::ContextWindow);
        if self.hop.only.is_none() && !special {
            let group = self.hop.group;
            let later = group.orders.iter().skip(1).rev();
            self.queue.extend(later.map(|order| Target::Order(group, *order, self.hop.depth)));
        }
    }

    fn fallbacks_for(&self, class: Class) -> &'a [Substitute] {
        let group = self.hop.group;
        if let Some(own) = self.ask.fallbacks {
            return own;
        }
        let special = match class {
            Class::ContextWindow => {
                self.ask.context_window_fallbacks.or(group.context_window_fallbacks.as_deref())
            }
            Class::ContentPolicy => {
                self.ask.content_policy_fallbacks.or(group.content_policy_fallbacks.as_deref())
            }
            _ => None,
        };
        special.unwrap_or(&group.fallbacks)
    }

    /// `None` where the target was asked already or does not exist.
    fn enter(&mut self, target: Target<'a>) -> Option<Hop<'a>> {
        let (group, name, captures, only, order, fields, depth) = match target {
            Target::Order(group, order, depth) => {
                let hop = &self.hop;
                (group, hop.name, hop.captures.clone(), None, Some(order), hop.fields, depth)
            }
            Target::Other(to, depth) => {
                if self.visited.contains(&&*to.model) {
                    return None;
                }
                self.visited.push(&to.model);
                let found = self.table.resolve(&to.model)?;
                let group = self.table.group(found.group)?;
                let name = Some(&*to.model);
                (group, name, found.captures, found.only, None, to.fields.as_slice(), depth)
            }
        };
        Some(Hop {
            group,
            name,
            captures,
            only,
            order,
            fields,
            retries: 0,
            depth,
            excluded: SmallVec::new(),
            avoided: SmallVec::new(),
            last: None,
        })
    }

    fn verdict(&self) -> Verdict {
        self.original.unwrap_or(Verdict::NoCandidate(NoCandidate::Exhausted))
    }
}

/// Back-off before the first retry of the same deployment; doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Back-off never grows beyond this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// A provider's wish beyond this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Added to every wait, times a random number in [0, 1).
const JITTER: Duration = Duration::from_millis(750);

/// Whether the same deployment may give another answer to the same request.
fn is_retryable(failure: Failure) -> bool {
    Fault::of(failure) == Fault::Moment
}

/// Where a failure lies, which decides who else may do better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// In the key or the account; another deployment has another one.
    Account,
    /// In the moment; the same deployment may answer the next time.
    Moment,
    /// In the request; nobody of the group will take it.
    Request,
}

impl Fault {
    fn of(failure: Failure) -> Self {
        match failure.class {
            Class::Authentication
            | Class::PaymentRequired
            | Class::PermissionDenied
            | Class::QuotaExhausted => Self::Account,
            Class::BadGateway
            | Class::Connection
            | Class::InternalServer
            | Class::RateLimit
            | Class::ServiceUnavailable
            | Class::Timeout => Self::Moment,
            // A conflict with another call, which will be over.
            Class::BadRequest if failure.status == 409 => Self::Moment,
            Class::BadRequest
            | Class::ContentPolicy
            | Class::ContextWindow
            | Class::NotFound
            | Class::UnprocessableEntity => Self::Request,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::table::Settings;
    use super::super::view::Vitals;
    use super::*;
    use crate::lexicon::time;

    #[derive(Default)]
    struct World(RefCell<HashMap<u16, Instant>>);

    impl View for World {
        fn vitals(&self, of: DeploymentIx) -> Vitals {
            Vitals { cooling_until: self.0.borrow().get(&of.0).copied(), ..Vitals::default() }
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
        Ask {
            target,
            tags: &[],
            shape: Shape::default(),
            num_retries: None,
            fallbacks: None,
            context_window_fallbacks: None,
            content_policy_fallbacks: None,
            disable_fallbacks: false,
            timeout: None,
            stream_timeout: None,
        }
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
                    waits.push((until - now).as_millis());
                    now = until;
                }
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
        let shape = Shape { stream: true, prompt_tokens: 0 };
        let seconds = |n| Some(Duration::from_secs(n));
        let settings = Settings { stream_timeout: seconds(7), ..Settings::default() };
        let table = table_with(&[("a", 1)], settings, |_, member| member.timeout = seconds(9));
        let target = table.resolve("a").unwrap();
        let timeout = |ask: Ask<'_>| {
            let mut attempts = Attempts::new(&table, ask).unwrap();
            match attempts.poll(time::now(), 0, &World::default()) {
                Action::Launch(launch) => launch.timeout.as_secs(),
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
        ) {
            let names = ["a", "b", "c", "d", "e", "missing"];
            let groups: Vec<_> = sizes.iter().zip(names).map(|(size, name)| (name, *size)).collect();
            let fallbacks = links.iter().map(|(from, targets)| {
                (names[*from].into(), targets.iter().map(|at| Substitute::model(names[*at])).collect())
            }).collect();
            let table = table(&groups, Settings { num_retries: retries, fallbacks, ..Settings::default() });
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
            let (asked, waits, verdict) = run(&table, ask(&target), &World::default(), answer);
            prop_assert!(verdict.is_some());
            prop_assert!(asked.len() <= groups.len() * (retries as usize + 1));
            prop_assert!(waits.iter().all(|wait| *wait <= 8750));
        }
    }
}
