//! Pillion's rule: a circuit breaker per deployment that opens on evidence and closes on proof.
//!
//! A machine without IO: tell it what became of a try, ask it who may be asked. It opens when
//! failures in a row or their decayed count say that the deployment is broken, for a back-off
//! that doubles with every failed recovery; then a few probes of real traffic close it or open it
//! again. It knows one deployment and not its group: whether others are left is for
//! [`pick`](super::super::pick) to see.
//!
//! Other sidecars advise it: a pause of theirs is kept, and a recovery they have proved ends one.
//! What was advised is never evidence of one's own: see [`Breaker::pause`].

use std::time::{Duration, Instant};

use super::LONGEST_WISH;
use crate::lexicon::{Class, Failure};
use crate::routing::chance;
use crate::routing::fleet::{By, Cooldown, Pause, Why};

/// `pillion.cooldown`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// `failures`: how many open it; 3 by default.
    pub failures: u32,
    /// `window`: the time constant by which evidence fades; 5 s by default.
    pub window: Duration,
    /// `base`: the first back-off; 2 s by default.
    pub base: Duration,
    /// `max`: the longest back-off, before jitter; 60 s by default.
    pub max: Duration,
    /// `jitter`: by which share a back-off varies either way; 0.2 by default.
    pub jitter: f64,
    /// `probes`: how many successes close it; 2 by default.
    pub probes: u32,
    /// How many probes may run at once; 1, because each sidecar decides for itself. Sidecars that
    /// know of each other may agree on another number.
    pub probes_at_once: u32,
    /// `ramp`: how long its share of the traffic grows from a tenth to the whole after it has
    /// closed; 20 s by default.
    pub ramp: Duration,
    /// `credentials`: for how long a key that is not taken, or an account without money, is let
    /// alone; 60 s by default.
    pub credentials: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            failures: 3,
            window: Duration::from_secs(5),
            base: Duration::from_secs(2),
            max: Duration::from_secs(60),
            jitter: 0.2,
            probes: 2,
            probes_at_once: 1,
            ramp: Duration::from_secs(20),
            credentials: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// The level from which on back-offs grow no more.
    fn highest_level(&self) -> u32 {
        (1..MOST_LEVELS)
            .find(|level| doubled(self.base, level - 1) >= self.max)
            .unwrap_or(MOST_LEVELS)
    }

    /// A back-off, with `entropy` for its jitter.
    fn back_off(&self, first: Duration, doublings: u32, entropy: u64) -> Duration {
        let swing = self.jitter * (2.0 * chance::unit(entropy) - 1.0);
        doubled(first, doublings).min(self.max).mul_f64((1.0 + swing).max(0.0))
    }
}

/// The state of one deployment. See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Breaker {
    state: State,
    /// How often it has opened; tells the tries of one opening from those of another.
    openings: u32,
    /// How many back-offs it has had, less one for every clean minute.
    level: u32,
    /// When the clean minutes began: with the last failure that counted, or when it closed.
    clean_since: Option<Instant>,
    /// Failures that no success interrupted.
    in_a_row: u32,
    failures: Faded,
    successes: Faded,
    /// The time constant of the evidence.
    window: Duration,
    warm_since: Option<Instant>,
    /// What the fleet's cooldowns up to this epoch were about is over.
    over: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Closed,
    Open(Open),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    until: Instant,
    then: Then,
    /// Probes that succeeded.
    passed: u32,
    /// Tries of this opening that run.
    running: u32,
    /// Until when what was seen here holds it, and why; `None` where others alone do.
    own: Option<(Instant, Why)>,
    /// The fleet's name for this pause, once others have told of it.
    epoch: Option<u32>,
}

/// What comes after the pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// All traffic: the provider has said when there is room again.
    Close,
    /// Probes: nobody knows whether it is well.
    Probe,
}

/// A try that was made while the breaker was not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    opening: u32,
    /// Whether there was a reason to pass the deployment over.
    pub is_forced: bool,
}

/// A count that fades.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Faded {
    count: f64,
    at: Option<Instant>,
}

/// `k` falls by one, and failures in a row are forgotten, for each minute without a failure.
///
/// As long as the longest usual back-off: traffic that is sparser is not spared anything by one.
const CLEAN: Duration = Duration::from_secs(60);
/// Back-offs double no more often than this.
const MOST_LEVELS: u32 = 32;

impl Breaker {
    /// Until when the deployment gets no traffic; `None` where nothing holds it back.
    pub fn cooling_until(&self) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::Open(open) => Some(open.until),
        }
    }

    /// How many probes run; `None` where none are wanted after the pause.
    pub fn probes(&self) -> Option<u32> {
        match self.state {
            State::Open(Open { then: Then::Probe, running, .. }) => Some(running),
            State::Closed | State::Open(_) => None,
        }
    }

    /// Until when it would get no traffic if nobody had advised; `None` where nothing was seen here.
    pub fn own_until(&self) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::Open(open) => open.own.map(|(until, _)| until),
        }
    }

    /// The pause that was begun by what was seen here, to tell others.
    pub fn pause(&self, now: Instant) -> Option<Pause> {
        let State::Open(Open { own: Some((until, why)), .. }) = self.state else { return None };
        let remaining = until.saturating_duration_since(now);
        (!remaining.is_zero()).then_some(Pause { remaining, why })
    }

    /// Whether a probe has succeeded and others are still wanted.
    pub fn is_recovering(&self) -> bool {
        matches!(self.state, State::Open(open) if open.passed > 0)
    }

    /// Takes in what the fleet has agreed on; `None` where that changes nothing.
    ///
    /// Nothing that is over comes back, a pause is an hour at most, and a recovery ends only a
    /// pause that the fleet has heard of: what was seen since is not known to it.
    pub fn advised(self, by: &Cooldown, now: Instant) -> Option<Self> {
        let mut next = self.settled(now);
        if by.epoch <= next.over {
            return None;
        }
        match (by.until, &mut next.state) {
            (Some(until), State::Open(open)) => {
                open.epoch = open.epoch.max(Some(by.epoch));
                open.prolong(until.min(now + LONGEST_WISH), Then::advised(by), now);
            }
            (Some(until), State::Closed) if until > now => {
                next.open(until.min(now + LONGEST_WISH) - now, Then::advised(by), None, now);
                if let State::Open(open) = &mut next.state {
                    open.epoch = Some(by.epoch);
                }
            }
            (None, State::Open(open)) if open.epoch.is_some() => {
                next.warm_since = (open.then == Then::Probe).then_some(now);
                next.clean_since = Some(now);
                next.state = State::Closed;
                next.over = by.epoch;
            }
            (Some(_), State::Closed) | (None, State::Open(_)) => {}
            (None, State::Closed) => next.over = by.epoch,
        }
        (next != self).then_some(next)
    }

    /// When it last closed after probes.
    pub fn warm_since(&self) -> Option<Instant> {
        self.warm_since
    }

    /// How many steps the next back-off is beyond the first.
    pub fn level(&self, now: Instant) -> u32 {
        let clean = match (self.state, self.clean_since) {
            (State::Closed, Some(since)) => now.saturating_duration_since(since),
            (State::Closed, None) | (State::Open(_), _) => Duration::ZERO,
        };
        let steps = clean.as_secs() / CLEAN.as_secs();
        self.level.saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX))
    }

    /// Notes that a try begins; `None` where the breaker is closed and nothing is to be noted.
    pub fn entered(self, settings: &Settings, now: Instant) -> Option<(Self, Ticket)> {
        let mut next = self.settled(now);
        let State::Open(open) = &mut next.state else { return None };
        let is_forced = open.until > now || open.running >= settings.probes_at_once;
        open.running = open.running.saturating_add(1);
        let ticket = Ticket { opening: next.openings, is_forced };
        Some((next, ticket))
    }

    /// Notes that a try is over, whatever became of it.
    #[must_use]
    pub fn left(mut self, ticket: Ticket) -> Self {
        if let State::Open(open) = &mut self.state
            && ticket.opening == self.openings
        {
            open.running = open.running.saturating_sub(1);
        }
        self
    }

    /// Whether nothing keeps traffic away.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Notes that a try with a ticket succeeded. Those of an earlier opening prove nothing.
    #[must_use]
    pub fn passed(mut self, settings: &Settings, ticket: Ticket, now: Instant) -> Self {
        if let State::Open(open) = &mut self.state
            && ticket.opening == self.openings
        {
            open.passed = open.passed.saturating_add(1);
            if open.passed >= settings.probes {
                self.warm_since = (open.then == Then::Probe).then_some(now);
                self.clean_since = Some(now);
                self.over = self.over.max(open.epoch.unwrap_or_default());
                self.state = State::Closed;
            }
        }
        self
    }

    /// Notes any success; `None` where there is no evidence that it could weaken.
    pub fn succeeded(self, now: Instant) -> Option<Self> {
        let mut next = self.settled(now);
        let is_worried = next.in_a_row > 0 || next.failures.now(next.window, now) > NOTHING;
        if next.state != State::Closed || !is_worried {
            return None;
        }
        next.in_a_row = 0;
        next.successes.add(next.window, now);
        Some(next)
    }

    /// Notes a failure; says how long the deployment gets no traffic, if this failure is what
    /// began or prolonged that.
    pub fn failed(
        self,
        settings: &Settings,
        failure: &Failure,
        ticket: Option<Ticket>,
        now: Instant,
        entropy: u64,
    ) -> (Self, Option<Duration>) {
        let mut next = self.settled(now);
        let ours = ticket.is_some_and(|ticket| ticket.opening == next.openings);
        let wish = failure.retry_after.filter(|wish| !wish.is_zero());
        let wish = wish.map(|wish| wish.min(LONGEST_WISH));
        let pause = match (Sign::of(failure.class), wish) {
            (Sign::Request, _) => None,
            (Sign::Account, wish) => {
                next.hold(settings.credentials.max(wish.unwrap_or_default()), Why::Account, now)
            }
            (Sign::Limit, Some(wish)) => next.hold(wish, Why::Limit, now),
            (Sign::Limit, None) => next.limited(settings, ours, now, entropy),
            (Sign::Trouble, wish) => {
                let wish = wish.unwrap_or_default().min(settings.max);
                next.troubled(settings, ours, wish, now, entropy)
            }
        };
        (next, pause)
    }

    /// Opens for so long, or stays open for longer.
    fn hold(&mut self, pause: Duration, why: Why, now: Instant) -> Option<Duration> {
        match &mut self.state {
            State::Open(open) if open.until > now => {
                open.see(now + pause, why);
                if !open.prolong(now + pause, Then::after(why), now) {
                    return None;
                }
            }
            // What was to prove that it is well has not.
            State::Open(_) => self.open(pause, Then::Probe, Some(why), now),
            State::Closed => self.open(pause, Then::after(why), Some(why), now),
        }
        Some(pause)
    }

    /// A rate limit that does not say when it ends.
    fn limited(
        &mut self,
        settings: &Settings,
        ours: bool,
        now: Instant,
        entropy: u64,
    ) -> Option<Duration> {
        if !self.may_open(ours, now) {
            return None;
        }
        let level = self.level(now);
        let pause = settings.back_off(settings.base / 2, level, entropy);
        self.level = (level + 1).min(settings.highest_level());
        self.open(pause, Then::Probe, Some(Why::Limit), now);
        Some(pause)
    }

    /// A failure that is evidence; `wish` is the least pause.
    fn troubled(
        &mut self,
        settings: &Settings,
        ours: bool,
        wish: Duration,
        now: Instant,
        entropy: u64,
    ) -> Option<Duration> {
        if self.state == State::Closed {
            self.note(settings.window, now);
        }
        if !self.may_open(ours, now) || self.state == State::Closed && !self.trips(settings, now) {
            return None;
        }
        self.level = (self.level(now) + 1).min(settings.highest_level());
        let pause = settings.back_off(settings.base, self.level - 1, entropy).max(wish);
        self.open(pause, Then::Probe, Some(Why::Trouble), now);
        Some(pause)
    }

    /// Not while it is open, because that it is broken is known then; and after the pause only by
    /// a try that began after it had opened.
    fn may_open(&self, ours: bool, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open(open) => ours && open.until <= now,
        }
    }

    fn note(&mut self, window: Duration, now: Instant) {
        self.level = self.level(now);
        let forgotten =
            self.clean_since.is_none_or(|since| now.saturating_duration_since(since) >= CLEAN);
        self.in_a_row = if forgotten { 1 } else { self.in_a_row.saturating_add(1) };
        self.clean_since = Some(now);
        self.window = window;
        self.failures.add(window, now);
    }

    /// In a row, however slowly they come: one sidecar may see a request every ten seconds, of
    /// which a count that fades in five would never make three. The count takes over where
    /// successes come in between, and then only while there are fewer of these: else a hundredth
    /// of much traffic would look like an outage.
    fn trips(&self, settings: &Settings, now: Instant) -> bool {
        let (failures, successes) =
            (self.failures.now(self.window, now), self.successes.now(self.window, now));
        self.in_a_row >= settings.failures
            || failures >= f64::from(settings.failures) && failures > successes
    }

    /// Opens for so long; `seen` is why, where that was seen here.
    fn open(&mut self, pause: Duration, then: Then, seen: Option<Why>, now: Instant) {
        let until = now + pause;
        let own = seen.map(|why| (until, why));
        let epoch = match self.state {
            State::Closed => None,
            State::Open(open) => open.epoch,
        };
        *self = Self {
            state: State::Open(Open { until, then, passed: 0, running: 0, own, epoch }),
            openings: self.openings.wrapping_add(1),
            level: self.level,
            window: self.window,
            over: self.over,
            ..Self::default()
        };
    }

    /// A pause that is followed by nothing ends by itself.
    fn settled(mut self, now: Instant) -> Self {
        if let State::Open(Open { until, then: Then::Close, .. }) = self.state
            && until <= now
        {
            self.state = State::Closed;
            self.clean_since = Some(until);
        }
        self
    }
}

impl Open {
    /// Stays open for longer; says whether it is.
    fn prolong(&mut self, until: Instant, then: Then, now: Instant) -> bool {
        if until <= self.until || until <= now {
            return false;
        }
        self.until = until;
        self.passed = 0;
        if then == Then::Probe {
            self.then = then;
        }
        true
    }

    /// Notes what was seen here; the longest pause counts.
    fn see(&mut self, until: Instant, why: Why) {
        if self.own.is_none_or(|(own, _)| own < until) {
            self.own = Some((until, why));
        }
    }
}

impl Then {
    /// Of a limit it is known when there is room again.
    fn after(why: Why) -> Self {
        match why {
            Why::Account | Why::Trouble => Self::Probe,
            Why::Limit => Self::Close,
        }
    }

    /// What a single other says has to be proved.
    fn advised(by: &Cooldown) -> Self {
        match by.by {
            By::Many => Self::after(by.why),
            By::One => Self::Probe,
        }
    }
}

/// What a failure says about its deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Its key is not taken, or there is no money left.
    Account,
    /// It had enough for now.
    Limit,
    /// Nothing: the request is to blame.
    Request,
    /// It may be broken.
    Trouble,
}

impl Sign {
    fn of(class: Class) -> Self {
        match class {
            Class::Authentication
            | Class::PaymentRequired
            | Class::PermissionDenied
            | Class::QuotaExhausted => Self::Account,
            Class::RateLimit => Self::Limit,
            Class::BadRequest
            | Class::ContentPolicy
            | Class::ContextWindow
            | Class::UnprocessableEntity => Self::Request,
            // A model that is gone answers 404 to every call, a call that names something that is
            // not there gets one among good answers: evidence, and no proof.
            Class::BadGateway
            | Class::Connection
            | Class::InternalServer
            | Class::NotFound
            | Class::ServiceUnavailable
            | Class::Timeout => Self::Trouble,
        }
    }
}

/// Why a failure of this class would pause its deployment; `None` where it never would.
pub fn why(class: Class) -> Option<Why> {
    match Sign::of(class) {
        Sign::Account => Some(Why::Account),
        Sign::Limit => Some(Why::Limit),
        Sign::Request => None,
        Sign::Trouble => Some(Why::Trouble),
    }
}

/// Whether the failure speaks of the key or the account, which a person has to look after.
pub fn is_credential(class: Class) -> bool {
    Sign::of(class) == Sign::Account
}

impl Faded {
    fn now(&self, window: Duration, now: Instant) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        let age = now.saturating_duration_since(at).as_secs_f64();
        self.count * (-age / window.as_secs_f64().max(f64::MIN_POSITIVE)).exp()
    }

    fn add(&mut self, window: Duration, now: Instant) {
        *self = Self { count: self.now(window, now) + 1.0, at: Some(now) };
    }
}

/// A count that has faded so far is none.
const NOTHING: f64 = 0.05;

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lexicon::time;

    /// A breaker and a clock.
    struct Play {
        breaker: Breaker,
        settings: Settings,
        start: Instant,
        now: Instant,
    }

    impl Play {
        /// Back-offs without jitter.
        fn new() -> Self {
            let settings = Settings { jitter: 0.0, ..Settings::default() };
            let now = time::now();
            Self { breaker: Breaker::default(), settings, start: now, now }
        }

        fn at(&mut self, seconds: f64) -> &mut Self {
            self.now = self.start + Duration::from_secs_f64(seconds);
            self
        }

        fn enter(&mut self) -> Option<Ticket> {
            let (next, ticket) = self.breaker.entered(&self.settings, self.now)?;
            self.breaker = next;
            Some(ticket)
        }

        /// A whole try; the pause in seconds that it began or prolonged.
        fn fail(&mut self, failure: Failure) -> Option<f64> {
            let ticket = self.enter();
            let (next, pause) = self.breaker.failed(&self.settings, &failure, ticket, self.now, 0);
            self.breaker = ticket.map_or(next, |ticket| next.left(ticket));
            pause.map(|pause| pause.as_secs_f64())
        }

        fn succeed(&mut self) {
            let ticket = self.enter();
            self.breaker = self.breaker.succeeded(self.now).unwrap_or(self.breaker);
            if let Some(ticket) = ticket {
                self.breaker = self.breaker.passed(&self.settings, ticket, self.now).left(ticket);
            }
        }

        fn is_closed(&self) -> bool {
            self.breaker.settled(self.now).is_closed()
        }

        /// What the fleet says: a pause until that second, or a recovery.
        fn advise(&mut self, epoch: u32, until: Option<f64>, why: Why) {
            let until = until.map(|second| self.start + Duration::from_secs_f64(second));
            let by = Cooldown { epoch, until, why, by: By::Many };
            self.breaker = self.breaker.advised(&by, self.now).unwrap_or(self.breaker);
        }

        /// Until which second it gets no traffic, and would get none if nobody had advised.
        fn held(&self) -> (Option<f64>, Option<f64>) {
            let second = |until: Instant| until.saturating_duration_since(self.start).as_secs_f64();
            (self.breaker.cooling_until().map(second), self.breaker.own_until().map(second))
        }

        fn told(&self) -> Option<(f64, Why)> {
            let pause = self.breaker.pause(self.now)?;
            Some((pause.remaining.as_secs_f64(), pause.why))
        }
    }

    fn broken() -> Failure {
        Failure::new(Class::InternalServer, 500)
    }

    /// What the last of some tries begins; each is a second and `F` or `S`.
    #[track_caller]
    fn check(tries: &[(f64, char)], want: Option<f64>) {
        let mut play = Play::new();
        let mut got = None;
        for (at, (second, what)) in tries.iter().enumerate() {
            assert_eq!(got, None, "before {at}");
            play.at(*second);
            match what {
                'F' => got = play.fail(broken()),
                _ => play.succeed(),
            }
        }
        assert_eq!(got, want, "{tries:?}");
    }

    #[test]
    fn three_failures_in_a_row_open_it_however_slowly_they_come() {
        check(&[(0.0, 'F'), (0.0, 'F')], None);
        check(&[(0.0, 'F'), (0.0, 'F'), (0.0, 'F')], Some(2.0));
        check(&[(0.0, 'F'), (50.0, 'F'), (100.0, 'F')], Some(2.0));
        check(&[(0.0, 'F'), (10.0, 'F'), (70.0, 'F')], None);
        check(&[(0.0, 'F'), (1.0, 'F'), (2.0, 'S'), (3.0, 'F'), (4.0, 'F')], None);
        check(
            &[(0.0, 'F'), (9.0, 'F'), (10.0, 'S'), (20.0, 'F'), (21.0, 'F'), (22.0, 'F')],
            Some(2.0),
        );
    }

    #[test]
    fn more_failures_than_successes_in_the_window_open_it() {
        let mixed = |pattern: &str, apart: f64| -> Vec<(f64, char)> {
            pattern.chars().zip(0u32..).map(|(what, at)| (f64::from(at) * apart, what)).collect()
        };
        check(&mixed("FFSFSF", 0.01), Some(2.0));
        check(&mixed("FSFSFSF", 0.01), Some(2.0));
        check(&mixed("FFSFSFF", 2.0), None);
        check(&mixed("FSSFSSFSSFSSFSSFSSFSSFSSF", 0.01), None);
    }

    /// What a single failure begins, and whether probes follow.
    #[track_caller]
    fn check_one(class: Class, wish: Option<u64>, want: Option<(f64, bool)>) {
        let mut play = Play::new();
        let retry_after = wish.map(Duration::from_secs);
        let got = play.fail(Failure { retry_after, ..Failure::new(class, 0) });
        let probes = play.breaker.probes().is_some();
        assert_eq!(got.map(|pause| (pause, probes)), want, "{class:?} {wish:?}");
    }

    #[test]
    fn a_limit_lasts_as_the_provider_says_and_credentials_for_a_minute() {
        check_one(Class::RateLimit, Some(7), Some((7.0, false)));
        check_one(Class::RateLimit, Some(1_000_000), Some((3600.0, false)));
        check_one(Class::RateLimit, Some(0), Some((1.0, true)));
        check_one(Class::RateLimit, None, Some((1.0, true)));
        for class in [
            Class::Authentication,
            Class::PermissionDenied,
            Class::PaymentRequired,
            Class::QuotaExhausted,
        ] {
            assert!(is_credential(class));
            check_one(class, None, Some((60.0, true)));
            check_one(class, Some(5), Some((60.0, true)));
            check_one(class, Some(600), Some((600.0, true)));
        }
    }

    #[test]
    fn what_the_request_is_to_blame_for_counts_for_nothing() {
        for class in [
            Class::BadRequest,
            Class::ContentPolicy,
            Class::ContextWindow,
            Class::UnprocessableEntity,
        ] {
            let mut play = Play::new();
            for _ in 0..50 {
                assert_eq!(play.fail(Failure::new(class, 400)), None);
            }
            assert_eq!(play.breaker, Breaker::default());
        }
    }

    #[test]
    fn each_trouble_is_evidence() {
        for class in [
            Class::BadGateway,
            Class::Connection,
            Class::InternalServer,
            Class::NotFound,
            Class::ServiceUnavailable,
            Class::Timeout,
        ] {
            let mut play = Play::new();
            let fails = [(); 3].map(|()| play.fail(Failure::new(class, 500)));
            assert_eq!(fails, [None, None, Some(2.0)], "{class:?}");
        }
    }

    #[test]
    fn a_wish_is_the_least_pause_of_trouble_but_no_more_than_the_longest() {
        for (wish, pause) in [(1, 2.0), (30, 30.0), (3600, 60.0)] {
            let mut play = Play::new();
            let retry_after = Some(Duration::from_secs(wish));
            let asks = Failure { retry_after, ..Failure::new(Class::ServiceUnavailable, 503) };
            assert_eq!([(); 3].map(|()| play.fail(asks)), [None, None, Some(pause)]);
        }
    }

    /// Opens it with the first three failures.
    fn opened() -> Play {
        let mut play = Play::new();
        for _ in 0..3 {
            play.fail(broken());
        }
        play
    }

    #[test]
    fn back_offs_double_with_every_failed_probe_up_to_the_longest() {
        let mut play = opened();
        let mut at = 2.0;
        for pause in [4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            assert_eq!(play.at(at).fail(broken()), Some(pause));
            at += pause;
        }
        // A long outage is forgotten as soon as one of a few minutes.
        assert_eq!(play.breaker.level, 6);
        let mut limited = Play::new();
        let limit = Failure::new(Class::RateLimit, 429);
        let mut at = 0.0;
        for pause in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            assert_eq!(limited.at(at).fail(limit), Some(pause));
            at += pause;
        }
        assert_eq!(limited.breaker.level, 6);
    }

    #[test]
    fn jitter_moves_a_back_off_by_a_fifth_either_way() {
        let settings = Settings::default();
        let base = settings.base;
        assert_eq!(settings.back_off(base, 0, 0).as_millis(), 1600);
        assert_eq!(settings.back_off(base, 0, 1 << 63).as_millis(), 2000);
        assert_eq!(settings.back_off(base, 0, u64::MAX).as_millis(), 2400);
        assert_eq!(settings.back_off(base, 99, u64::MAX).as_millis(), 72_000);
    }

    #[test]
    fn two_probes_close_it_and_it_is_warm_from_then_on() {
        let mut play = opened();
        play.at(2.5).succeed();
        assert!(!play.is_closed() && play.breaker.warm_since().is_none());
        play.at(3.0).succeed();
        assert!(play.is_closed());
        assert_eq!(play.breaker.warm_since(), Some(play.now));
        assert_eq!([(); 3].map(|()| play.fail(broken())), [None, None, Some(4.0)]);
        assert_eq!(play.breaker.warm_since(), None);
    }

    #[test]
    fn a_level_is_lost_for_each_clean_minute() {
        for (clean, pause) in [(59.0, 8.0), (60.0, 4.0), (119.0, 4.0), (120.0, 2.0), (900.0, 2.0)] {
            let mut play = opened();
            play.at(2.0).fail(broken());
            play.at(6.0).succeed();
            play.succeed();
            play.at(6.0 + clean);
            assert_eq!([(); 3].map(|()| play.fail(broken()))[2], Some(pause), "{clean}");
        }
    }

    #[test]
    fn a_limit_with_a_wish_ends_by_itself() {
        let mut play = Play::new();
        let retry_after = Some(Duration::from_secs(7));
        play.fail(Failure { retry_after, ..Failure::new(Class::RateLimit, 429) });
        assert!(!play.at(6.9).is_closed());
        assert!(play.at(7.0).is_closed());
        assert_eq!((play.enter(), play.breaker.warm_since()), (None, None));
        assert_eq!([(); 3].map(|()| play.fail(broken())), [None, None, Some(2.0)]);
    }

    #[test]
    fn only_the_tries_of_this_opening_prove_anything() {
        let mut play = opened();
        let before = play.enter();
        play.at(2.0).fail(broken());
        let old = |play: &Play| play.breaker.passed(&play.settings, before.unwrap(), play.now);
        assert_eq!(old(&play), play.breaker);
        play.at(9.0);
        for ticket in [None, before] {
            let failed = play.breaker.failed(&play.settings, &broken(), ticket, play.now, 0);
            assert_eq!(failed, (play.breaker, None));
        }
    }

    #[test]
    fn what_fails_while_it_is_open_prolongs_nothing_unless_it_says_for_how_long() {
        let mut play = opened();
        assert_eq!(play.at(1.0).fail(broken()), None);
        assert_eq!(play.fail(Failure::new(Class::RateLimit, 429)), None);
        let retry_after = Some(Duration::from_secs(30));
        let limit = Failure { retry_after, ..Failure::new(Class::RateLimit, 429) };
        assert_eq!([play.fail(limit), play.fail(limit)], [Some(30.0), None]);
        assert_eq!(play.breaker.probes(), Some(0));
        assert_eq!(play.fail(Failure::new(Class::Authentication, 401)), Some(60.0));
    }

    #[test]
    fn a_place_is_free_again_when_its_try_is_over() {
        let mut play = opened();
        play.at(2.0);
        let (first, second) = (play.enter().unwrap(), play.enter().unwrap());
        assert_eq!([first.is_forced, second.is_forced], [false, true]);
        assert_eq!(play.breaker.probes(), Some(2));
        play.breaker = play.breaker.left(first).left(second);
        assert_eq!(play.breaker.probes(), Some(0));
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Begin,
        Fail(usize, Class, Option<u64>),
        Leave(usize),
        Pass(usize),
        Wait(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let class = prop::sample::select(vec![
            Class::Authentication,
            Class::BadRequest,
            Class::Connection,
            Class::InternalServer,
            Class::RateLimit,
            Class::Timeout,
        ]);
        prop_oneof![
            3 => Just(Event::Begin),
            3 => (any::<usize>(), class, prop::option::of(0u64..9)).prop_map(|(at, class, wish)| Event::Fail(at, class, wish)),
            1 => any::<usize>().prop_map(Event::Leave),
            2 => any::<usize>().prop_map(Event::Pass),
            2 => (0u64..90_000).prop_map(Event::Wait),
        ]
    }

    /// Plays it with any number of tries at once; returns those that still run.
    fn play_out(play: &mut Play, events: &[Event], entropy: u64) -> Vec<Option<Ticket>> {
        let mut running: Vec<Option<Ticket>> = Vec::new();
        for event in events {
            let mut take =
                |at: usize| (!running.is_empty()).then(|| running.swap_remove(at % running.len()));
            let over = match *event {
                Event::Begin => {
                    running.push(play.enter());
                    None
                }
                Event::Wait(millis) => {
                    play.now += Duration::from_millis(millis);
                    None
                }
                Event::Leave(at) => take(at).flatten(),
                Event::Pass(at) => take(at).flatten().inspect(|ticket| {
                    play.breaker = play.breaker.passed(&play.settings, *ticket, play.now);
                }),
                Event::Fail(at, class, wish) => take(at).and_then(|ticket| {
                    let retry_after = wish.map(Duration::from_secs);
                    let failure = Failure { retry_after, ..Failure::new(class, 0) };
                    let failed =
                        play.breaker.failed(&play.settings, &failure, ticket, play.now, entropy);
                    play.breaker = failed.0;
                    ticket
                }),
            };
            if let Some(ticket) = over {
                play.breaker = play.breaker.left(ticket);
            }
        }
        running
    }

    proptest! {
        #[test]
        fn it_keeps_its_bounds_leaks_no_place_and_closes_under_successes(
            events in prop::collection::vec(event(), 0..80),
            (base, max) in (1u64..9, 9u64..200),
            (failures, probes) in (1u32..5, 1u32..5),
            entropy in any::<u64>(),
        ) {
            let mut play = Play::new();
            play.settings = Settings {
                base: Duration::from_secs(base),
                max: Duration::from_secs(max),
                failures,
                probes,
                ..Settings::default()
            };
            let running = play_out(&mut play, &events, entropy);
            let highest = play.settings.highest_level();
            prop_assert!(play.breaker.level <= highest);
            prop_assert!(doubled(play.settings.base, highest - 1) < play.settings.max * 2);
            let ours = running.iter().flatten().filter(|it| it.opening == play.breaker.openings);
            let held = u32::try_from(ours.count()).unwrap();
            if let Some(probes) = play.breaker.probes() {
                prop_assert_eq!(probes, held);
            }
            for ticket in running.into_iter().flatten() {
                play.breaker = play.breaker.left(ticket);
            }
            prop_assert!(play.breaker.probes().is_none_or(|probes| probes == 0));
            play.now += Duration::from_secs(3600);
            for _ in 0..probes {
                play.succeed();
            }
            prop_assert!(play.is_closed());
        }
    }

    #[test]
    fn what_others_say_is_kept_and_never_told_as_ones_own() {
        let mut play = Play::new();
        play.advise(1, Some(30.0), Why::Trouble);
        assert_eq!((play.held(), play.told()), ((Some(30.0), None), None));
        play.at(1.0).advise(1, Some(20.0), Why::Trouble);
        assert_eq!(play.held(), (Some(30.0), None));
        // A try that was running has the limit's own word: two have seen it now.
        let mut limit = Failure::new(Class::RateLimit, 429);
        limit.retry_after = Some(Duration::from_secs(5));
        assert_eq!(play.fail(limit), None);
        assert_eq!((play.held(), play.told()), ((Some(30.0), Some(6.0)), Some((5.0, Why::Limit))));
        limit.retry_after = Some(Duration::from_secs(60));
        assert_eq!(play.fail(limit), Some(60.0));
        assert_eq!(
            (play.held(), play.told()),
            ((Some(61.0), Some(61.0)), Some((60.0, Why::Limit)))
        );
    }

    #[test]
    fn an_advised_limit_ends_by_itself_and_trouble_with_probes() {
        let mut play = Play::new();
        play.advise(1, Some(5.0), Why::Limit);
        assert!(play.at(5.0).is_closed());
        play.advise(3, Some(9.0), Why::Trouble);
        play.at(10.0);
        assert_eq!(play.breaker.probes(), Some(0));
        play.succeed();
        assert!(play.breaker.is_recovering() && !play.is_closed());
        play.succeed();
        assert!(play.is_closed());
        assert_eq!(play.breaker.warm_since(), Some(play.now));
        // The fleet has not heard of that yet.
        play.advise(3, Some(60.0), Why::Trouble);
        assert!(play.is_closed());
    }

    #[test]
    fn what_a_single_other_says_has_to_be_proved() {
        let mut play = Play::new();
        let until = Some(play.now + Duration::from_secs(5));
        let by = Cooldown { epoch: 1, until, why: Why::Limit, by: By::One };
        play.breaker = play.breaker.advised(&by, play.now).unwrap();
        assert!(!play.at(6.0).is_closed());
        assert_eq!(play.breaker.probes(), Some(0));
    }

    #[test]
    fn a_recovery_ends_a_pause_that_the_fleet_knows_and_no_other() {
        let mut play = Play::new();
        for _ in 0..3 {
            play.fail(broken());
        }
        play.advise(2, None, Why::Trouble);
        assert!(!play.is_closed(), "the news is older than what was seen here");
        play.advise(3, Some(1.0), Why::Trouble);
        play.advise(4, None, Why::Trouble);
        assert!(play.is_closed());
        assert_eq!(play.breaker.warm_since(), Some(play.now));
        play.advise(3, Some(60.0), Why::Trouble);
        assert!(play.is_closed(), "that epoch is over");
        play.advise(5, Some(60.0), Why::Trouble);
        assert!(!play.is_closed());
    }

    #[test]
    fn a_pause_is_an_hour_at_most_whoever_asks_for_it() {
        let mut play = Play::new();
        play.advise(1, Some(1e6), Why::Account);
        assert_eq!(play.held().0, Some(3600.0));
        play.advise(u32::MAX, None, Why::Account);
        assert!(play.is_closed());
    }
}
