//! The line of requests that wait for a seat at one of a group's deployments.
//!
//! A seat that comes free goes to whoever waits longest and has none yet, without being free in
//! between: nobody who comes later takes it away. Who has no use for it passes it on to those
//! behind, and who leaves does so by itself. The lock is taken only while somebody waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Row;

/// The line of one model group. Outlives a reload.
#[derive(Debug, Default)]
pub struct Queue {
    /// How many wait; written under the lock.
    length: AtomicU32,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// In the order in which they came, and so of their numbers.
    waiting: VecDeque<Waiting>,
    last: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// Where a seat is kept for it.
    seat: Option<Arc<Row>>,
    waker: Option<Waker>,
}

impl Line {
    fn at(&self, number: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&number, |waiting| waiting.number).ok()
    }
}

impl Queue {
    /// How many wait.
    pub fn length(&self) -> u32 {
        self.length.load(Ordering::SeqCst)
    }

    /// A place at the end; `None` where so many wait already. Look for a free seat afterwards: one
    /// that came free just before goes to nobody in the line.
    pub fn join(self: &Arc<Self>, most: u32) -> Option<Place> {
        let mut line = self.lock();
        if line.waiting.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            return None;
        }
        line.last += 1;
        let number = line.last;
        line.waiting.push_back(Waiting { number, seat: None, waker: None });
        self.length.fetch_add(1, Ordering::SeqCst);
        drop(line);
        // Whoever frees a seat counts it as free and then looks for us; we look the other way
        // round. One of the two sees the other.
        fence(Ordering::SeqCst);
        Some(Place { queue: self.clone(), number })
    }

    /// Gives a seat that is still counted as taken to the first behind a number who has none, or
    /// counts it as free.
    pub(super) fn hand(&self, row: Arc<Row>, behind: u64) {
        let mut line = self.lock();
        let next = line.waiting.iter_mut().find(|it| it.number > behind && it.seat.is_none());
        let Some(next) = next else { return row.count_free() };
        next.seat = Some(row);
        let waker = next.waker.take();
        drop(line);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line. Dropping it leaves, and gives a seat that is kept for it to the next.
#[must_use = "the request waits while this lives"]
#[derive(Debug)]
pub struct Place {
    queue: Arc<Queue>,
    number: u64,
}

impl Place {
    /// Waits until a seat is kept here.
    pub fn poll_seat(&self, cx: &mut Context<'_>) -> Poll<Arc<Row>> {
        let mut line = self.queue.lock();
        let at = line.at(self.number);
        let Some(own) = at.and_then(|at| line.waiting.get_mut(at)) else { return Poll::Pending };
        if let Some(row) = &own.seat {
            return Poll::Ready(row.clone());
        }
        own.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Gives the seat that is kept here to those behind, and waits on. Says whether there was one.
    pub fn pass_on(&self) -> bool {
        let mut line = self.queue.lock();
        let at = line.at(self.number);
        let seat = at.and_then(|at| line.waiting.get_mut(at)?.seat.take());
        drop(line);
        let Some(row) = seat else { return false };
        self.queue.hand(row, self.number);
        true
    }

    /// Leaves the line with the seat that is kept here, if that is one of this row.
    pub fn take(self, of: &Arc<Row>) -> Option<Seat> {
        let mut line = self.queue.lock();
        let at = line.at(self.number);
        let own = at.and_then(|at| line.waiting.get_mut(at))?;
        own.seat.take_if(|row| Arc::ptr_eq(row, of)).map(Seat)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.queue.lock();
        let own = line.at(self.number).and_then(|at| line.waiting.remove(at));
        self.queue.length.fetch_sub(1, Ordering::SeqCst);
        drop(line);
        if let Some(row) = own.and_then(|own| own.seat) {
            self.queue.hand(row, self.number);
        }
    }
}

/// A seat at a deployment, counted as a try that runs there. Dropping it gives it to whoever waits
/// longest, or frees it.
#[must_use = "the seat is taken while this lives"]
#[derive(Debug)]
pub struct Seat(Arc<Row>);

impl Seat {
    /// Takes one without asking whether it is free.
    pub(super) fn of(row: &Arc<Row>) -> Self {
        row.count_taken();
        Self(row.clone())
    }

    /// Where it is.
    pub fn row(&self) -> &Arc<Row> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let queue = self.0.queue.load();
        if queue.length() == 0 {
            self.0.count_free();
            if queue.length() == 0 {
                return;
            }
            // Somebody has lined up since and may have looked before it was free.
            self.0.count_taken();
        }
        queue.hand(self.0.clone(), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::time::{Duration, Instant};

    use super::super::{InFlight, Named, Rows, StatsTable};
    use super::*;
    use crate::lexicon::{DeploymentIx, time};
    use crate::routing::View;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Two deployments of one group, and somebody who counts how often they are woken.
    struct World {
        rows: Rows,
        woken: Arc<Woken>,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let now = time::now();
            let named = ["a", "b"].map(|id| Named {
                id,
                group: "g",
                provider: "p",
                budget_period: None,
                provider_budget_period: None,
                tie: None,
            });
            let rows = StatsTable::new(now).rows(named.into_iter(), now);
            Self { rows, woken: Arc::default(), now }
        }

        fn row(&self, at: u16) -> &Arc<Row> {
            self.rows.get(DeploymentIx(at)).unwrap()
        }

        fn enter(&self, at: u16) -> InFlight {
            self.row(at).enter(None, 0, self.now)
        }

        fn join(&self) -> Place {
            let place = self.row(0).queue().join(3).unwrap();
            assert_eq!(self.seat(&place), None);
            place
        }

        /// Where a seat is kept for a place.
        fn seat(&self, place: &Place) -> Option<u16> {
            let waker = Waker::from(self.woken.clone());
            match place.poll_seat(&mut Context::from_waker(&waker)) {
                Poll::Ready(row) => (0..2).find(|at| Arc::ptr_eq(self.row(*at), &row)),
                Poll::Pending => None,
            }
        }

        fn woken(&self) -> usize {
            self.woken.0.load(Ordering::SeqCst)
        }

        /// Seats taken at each deployment, and the length of the line.
        #[track_caller]
        fn check(&self, taken: [u32; 2], length: u32) {
            let of = |at| self.rows.vitals(DeploymentIx(at)).in_flight;
            assert_eq!(([of(0), of(1)], self.row(1).queue().length()), (taken, length));
        }
    }

    #[test]
    fn who_waits_keeps_the_place_over_a_reload() {
        let now = time::now();
        let table = StatsTable::new(now);
        let named = |id, group| Named {
            id,
            group,
            provider: "p",
            budget_period: None,
            provider_budget_period: None,
            tie: None,
        };
        let before = table.rows([named("a", "g"), named("z", "h")].into_iter(), now);
        let running = before.get(DeploymentIx(0)).unwrap().enter(None, 0, now);
        let place = before.get(DeploymentIx(0)).unwrap().queue().join(9).unwrap();
        let after = table.rows([named("b", "g"), named("a", "g")].into_iter(), now);
        assert_eq!(table.queued(), [("g".into(), 1)]);
        drop(running);
        let seat = place.take(after.get(DeploymentIx(1)).unwrap());
        assert_eq!(after.vitals(DeploymentIx(1)).in_flight, 1);
        drop(seat);
        assert_eq!(after.vitals(DeploymentIx(1)).in_flight, 0);
    }

    #[test]
    fn a_seat_goes_to_who_waits_longest_and_is_never_free_between() {
        let world = World::new();
        let (first, second) = (world.enter(0), world.enter(1));
        let (early, late) = (world.join(), world.join());
        drop(second);
        world.check([1, 1], 2);
        assert_eq!((world.seat(&early), world.seat(&late), world.woken()), (Some(1), None, 1));
        drop(first);
        assert_eq!((world.seat(&early), world.seat(&late), world.woken()), (Some(1), Some(0), 2));
        let seat = early.take(world.row(1));
        let runs = world.row(1).enter(seat, 0, world.now);
        world.check([1, 1], 1);
        drop((runs, late));
        world.check([0, 0], 0);
    }

    #[test]
    fn who_leaves_gives_a_seat_to_the_next_and_the_last_frees_it() {
        let world = World::new();
        let running = world.enter(0);
        let places = [world.join(), world.join(), world.join()];
        assert!(world.row(0).queue().join(3).is_none());
        drop(running);
        let [first, second, third] = places;
        drop(second);
        world.check([1, 0], 2);
        drop(first);
        assert_eq!((world.seat(&third), world.woken()), (Some(0), 2));
        drop(third);
        world.check([0, 0], 0);
    }

    #[test]
    fn a_seat_that_is_of_no_use_is_passed_on_once_along_the_line() {
        let world = World::new();
        let running = world.enter(0);
        let (first, second) = (world.join(), world.join());
        drop(running);
        assert!(first.pass_on() && !first.pass_on());
        assert_eq!((world.seat(&first), world.seat(&second)), (None, Some(0)));
        world.check([1, 0], 2);
        assert!(second.pass_on());
        assert_eq!((world.seat(&first), world.seat(&second)), (None, None));
        world.check([0, 0], 2);
        // It is free now, and the next one to come free is for the first again.
        drop(world.enter(1));
        assert_eq!((world.seat(&first), world.seat(&second)), (Some(1), None));
    }

    #[test]
    fn a_seat_of_another_deployment_stays_behind() {
        let world = World::new();
        let running = world.enter(0);
        let (first, second) = (world.join(), world.join());
        drop(running);
        assert!(first.take(world.row(1)).is_none());
        assert_eq!(world.seat(&second), Some(0));
        world.check([1, 0], 1);
    }

    /// A seat, got as a request gets it: look, line up, look again, wait.
    fn seat(row: &Arc<Row>, most: u32) -> Seat {
        let mut place: Option<Place> = None;
        let mut kept = false;
        loop {
            let room = |taken: u32| (taken < most).then_some(taken + 1);
            let is_ours = kept && row.in_flight.load(Ordering::SeqCst) <= most;
            if let Some(place) = place.take_if(|_| is_ours) {
                return place.take(row).unwrap();
            }
            if row.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).is_ok() {
                return Seat(row.clone());
            }
            let Some(place) = &place else {
                place = row.queue().join(100);
                continue;
            };
            kept = false;
            if place.pass_on() {
                continue;
            }
            let began = time::now();
            while place.poll_seat(&mut Context::from_waker(Waker::noop())).is_pending() {
                std::thread::yield_now();
                assert!(time::now() < began + Duration::from_secs(10), "a seat was lost");
            }
            kept = true;
        }
    }

    #[test]
    fn no_seat_is_lost_or_given_twice_among_threads() {
        const MOST: u32 = 2;
        let world = World::new();
        let (served, inside) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let seat = seat(world.row(0), MOST);
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < MOST, "given twice");
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(seat);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(served.into_inner(), 12_000);
        world.check([0, 0], 0);
    }
}
