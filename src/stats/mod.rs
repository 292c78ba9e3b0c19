//! What each deployment is doing now: a row of atomics per deployment.
//!
//! Rows are keyed by the deployment's id and live outside the snapshot, so that they survive a
//! reload. Reading never writes and nothing here waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::lexicon::{DeploymentIx, Failure};
use crate::routing::cooldown::{Evidence, judge};
use crate::routing::{Group, Member, Settings, View, Vitals};

/// The rows of all deployments that there are or were.
#[derive(Debug)]
pub struct StatsTable {
    epoch: Instant,
    rows: Mutex<HashMap<Box<str>, Arc<Row>>>,
}

impl StatsTable {
    /// An empty table. Times are kept relative to `now`.
    pub fn new(now: Instant) -> Self {
        Self { epoch: now, rows: Mutex::default() }
    }

    /// The rows of one snapshot, in the order of `ids`. A known id keeps its row; rows of ids
    /// that are not named any more go as soon as no request holds them.
    pub fn rows<'i>(&self, ids: impl Iterator<Item = &'i str>) -> Rows {
        let mut known = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = HashMap::new();
        let rows = ids
            .map(|id| {
                let row = known.remove(id).unwrap_or_else(|| Arc::new(Row::new(self.epoch)));
                next.insert(id.into(), row.clone());
                row
            })
            .collect();
        *known = next;
        Rows(rows)
    }
}

/// The rows of one snapshot's deployments, by their position.
#[derive(Debug, Default)]
pub struct Rows(Box<[Arc<Row>]>);

impl Rows {
    /// One row.
    pub fn get(&self, of: DeploymentIx) -> Option<&Arc<Row>> {
        self.0.get(of.at())
    }
}

impl View for Rows {
    fn vitals(&self, of: DeploymentIx) -> Vitals {
        self.get(of).map_or_else(Vitals::default, |row| row.vitals())
    }
}

/// The live numbers of one deployment.
#[derive(Debug)]
pub struct Row {
    epoch: Instant,
    in_flight: AtomicU32,
    /// Microseconds since the epoch; zero means never.
    cooling_until: AtomicU64,
    minute: Window,
    /// Failures within the cooldown time, for `allowed_fails`.
    recent: Window,
}

/// The counts of `LiteLLM`'s percentage rule are kept for this long.
const MINUTE: Duration = Duration::from_secs(60);

impl Row {
    fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            in_flight: AtomicU32::new(0),
            cooling_until: AtomicU64::new(0),
            minute: Window::default(),
            recent: Window::default(),
        }
    }

    /// The numbers that routing may know.
    pub fn vitals(&self) -> Vitals {
        let until = self.cooling_until.load(Ordering::Relaxed);
        Vitals {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            cooling_until: (until > 0).then(|| self.epoch + Duration::from_micros(until)),
        }
    }

    /// Counts a try as running until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Counts a success.
    pub fn succeeded(&self, now: Instant) {
        self.minute.at(self.micros(now), MINUTE).0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failure and applies routing's cooldown rule. Says how long the deployment gets
    /// no traffic, if this failure is what began or prolonged a cooldown.
    pub fn failed(
        &self,
        settings: &Settings,
        (group, member): (&Group, &Member),
        failure: &Failure,
        callers_timeout: bool,
        now: Instant,
    ) -> Option<Duration> {
        let micros = self.micros(now);
        let (successes, fails) = self.minute.at(micros, MINUTE);
        let kept = member.cooldown_time.unwrap_or(settings.cooldown_time);
        let recent = self.recent.at(micros, kept).1;
        let evidence = Evidence {
            successes: successes.load(Ordering::Relaxed),
            fails: fails.fetch_add(1, Ordering::Relaxed).saturating_add(1),
            recent_fails: recent.fetch_add(1, Ordering::Relaxed).saturating_add(1),
            callers_timeout,
        };
        let pause = judge(settings, group, member, failure, &evidence)?;
        let until = self.micros(now + pause);
        let before = self.cooling_until.fetch_max(until, Ordering::Relaxed);
        (before < until).then_some(pause)
    }

    /// Ends a cooldown.
    pub fn warm_up(&self) {
        self.cooling_until.store(0, Ordering::Relaxed);
    }

    fn micros(&self, now: Instant) -> u64 {
        let micros = now.saturating_duration_since(self.epoch).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX).max(1)
    }
}

/// Two counts that begin anew some time after the first of them, as a key with a lifetime does.
#[derive(Debug, Default)]
struct Window {
    began: AtomicU64,
    successes: AtomicU32,
    fails: AtomicU32,
}

impl Window {
    /// The counts at `now`. Of several threads that find the window over, one begins it anew.
    fn at(&self, now: u64, length: Duration) -> (&AtomicU32, &AtomicU32) {
        let began = self.began.load(Ordering::Relaxed);
        let length = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let over = began == 0 || now.saturating_sub(began) >= length;
        let ours = over
            && self
                .began
                .compare_exchange(began, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if ours {
            self.successes.store(0, Ordering::Relaxed);
            self.fails.store(0, Ordering::Relaxed);
        }
        (&self.successes, &self.fails)
    }
}

/// A running try. The count falls when this is dropped, whatever happened.
#[must_use = "the try counts as running while this lives"]
#[derive(Debug)]
pub struct InFlight(Arc<Row>);

impl InFlight {
    /// The row it counts in.
    pub fn row(&self) -> &Arc<Row> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::{Class, GroupIx, time};
    use crate::routing::RouteTable;

    fn group_of(count: u16, settings: Settings) -> RouteTable {
        let entry = |at: u16| ("g".into(), format!("{at}").into(), Member::new(DeploymentIx(at)));
        RouteTable::build((0..count).map(entry).collect(), settings)
    }

    #[test]
    fn a_row_survives_a_reload_and_an_unnamed_one_goes() {
        let table = StatsTable::new(time::now());
        let before = table.rows(["a", "b"].into_iter());
        let running = before.get(DeploymentIx(1)).unwrap().enter();
        let after = table.rows(["b", "c"].into_iter());
        assert_eq!(after.vitals(DeploymentIx(0)).in_flight, 1);
        drop(running);
        assert_eq!(after.vitals(DeploymentIx(0)).in_flight, 0);
        assert!(!table.rows.lock().unwrap().contains_key("a"));
    }

    #[test]
    fn a_rate_limit_begins_a_cooldown_that_ends() {
        let now = time::now();
        let routes = group_of(2, Settings::default());
        let group = routes.group(GroupIx(0)).unwrap();
        let rows = StatsTable::new(now).rows(["a", "b"].into_iter());
        let row = rows.get(DeploymentIx(0)).unwrap();
        let failure = Failure::new(Class::RateLimit, 429);
        let pause = row.failed(routes.settings(), (group, &group.members[0]), &failure, false, now);
        assert_eq!(pause, Some(Duration::from_secs(5)));
        assert!(row.vitals().is_cooling(now + Duration::from_millis(4_900)));
        assert!(!row.vitals().is_cooling(now + Duration::from_secs(6)));
        // A shorter wish does not shorten it.
        let again = row.failed(routes.settings(), (group, &group.members[0]), &failure, false, now);
        assert_eq!(again, None);
    }

    #[test]
    fn counts_begin_anew_after_a_minute() {
        let start = time::now();
        let routes = group_of(2, Settings::default());
        let group = routes.group(GroupIx(0)).unwrap();
        let rows = StatsTable::new(start).rows(["a", "b"].into_iter());
        let row = rows.get(DeploymentIx(0)).unwrap();
        let failure = Failure::new(Class::InternalServer, 500);
        let fail = |second| {
            let now = start + Duration::from_secs(second);
            row.failed(routes.settings(), (group, &group.members[0]), &failure, false, now)
        };
        assert_eq!([fail(1), fail(2), fail(3), fail(4)], [None; 4]);
        assert_eq!(fail(62), None);
        assert_eq!([fail(63), fail(64), fail(65)], [None; 3]);
        assert_eq!(fail(66), Some(Duration::from_secs(5)));
    }
}
