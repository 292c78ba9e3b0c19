//! A request's wait for a seat: its place in the line of its group, and the timer.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use super::live::Live;
use crate::lexicon::{DeploymentIx, time};
use crate::routing::{Busy, Group};
use crate::stats::{Place, Row, Seat};

/// How a request stands in the line. Dropping it leaves the line.
#[derive(Debug, Default)]
pub(super) enum Waiting {
    /// It has not waited.
    #[default]
    Not,
    /// It waits.
    In(Place),
    /// There was no place for it.
    TurnedAway,
    /// It has waited, for a seat or in vain.
    Over,
}

/// There is no place left in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Waiting {
    /// Lines up, or waits for something to have changed: then it tells where a seat is kept, if
    /// that is it. Ask routing again in both cases.
    ///
    /// Cancel safety: dropping the future changes nothing; the place stays.
    pub(super) async fn wait(
        &mut self,
        live: &Live,
        busy: &Busy<'_>,
    ) -> Result<Option<DeploymentIx>, Full> {
        let place = match self {
            Self::In(place) => place,
            Self::Not | Self::Over | Self::TurnedAway => {
                let place = line_up(live, busy.group);
                *self = place.map_or(Self::TurnedAway, Self::In);
                // A seat may have come free before there was a place to keep it for.
                return if let Self::In(_) = self { Ok(None) } else { Err(Full) };
            }
        };
        if place.pass_on() {
            // What came free meanwhile was not kept for a place that had a seat.
            return Ok(None);
        }
        let until = busy.until.min(time::now() + LOOK_AGAIN);
        let seat = poll_fn(|cx| place.poll_seat(cx));
        let seat = tokio::time::timeout_at(until.into(), seat).await;
        Ok(seat.ok().and_then(|row| at(live, busy.group, &row)))
    }

    /// Leaves the line for a call to a deployment, with the seat that is kept there.
    pub(super) fn leave(&mut self, live: &Live, to: DeploymentIx) -> Option<Seat> {
        let place = match std::mem::take(self) {
            Self::In(place) => place,
            other @ (Self::Not | Self::Over | Self::TurnedAway) => {
                *self = other;
                return None;
            }
        };
        *self = Self::Over;
        place.take(live.rows.get(to)?)
    }
}

/// Where no seat comes free there may be room all the same: a cooldown or a limit has ended, or a
/// reload has moved a deployment to another group. Nobody is woken for that.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A place in the line of a group, which all its deployments share.
fn line_up(live: &Live, group: &Group) -> Option<Place> {
    let row = group.members.iter().find_map(|member| live.rows.get(member.deployment))?;
    row.queue().join(live.limits.max_queued_requests)
}

/// Which deployment of the group a row is.
fn at(live: &Live, group: &Group, row: &Arc<Row>) -> Option<DeploymentIx> {
    let is_it = |of: &DeploymentIx| live.rows.get(*of).is_some_and(|own| Arc::ptr_eq(own, row));
    group.members.iter().map(|member| member.deployment).find(is_it)
}
