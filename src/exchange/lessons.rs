//! What the end of a try teaches about its deployment.
//!
//! A wait ends with the first token of a stream or with a whole answer. One that we cut short is
//! kept as what it is: it would have been longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{Job, Refusal, Served};
use super::race::Won;
use crate::lexicon::{Class, Failure};
use crate::protocol::{Call, Endpoint, Usage};
use crate::routing::latency::Seen;
use crate::routing::strategy::lowest_latency::is_penalized;
use crate::routing::{Kind, Shape};
use crate::stats::{Row, What};

/// A try that was answered or has failed after so long.
pub(super) fn of_try(
    row: &Arc<Row>,
    job: Job<'_>,
    result: &Result<Won, Box<Refusal>>,
    waited: Duration,
) {
    match result {
        // Nobody was asked for it.
        Ok(Won::Mock(_)) => {}
        Ok(Won::Stream(_) | Won::Whole(_)) => {
            wait(row, job.call, job.shape, waited, Seen::Answered);
        }
        // The caller would not wait as long as it takes.
        Err(refusal)
            if refusal.failure.class == Class::Timeout && job.call.wishes.timeout.is_some() =>
        {
            of_cut(row, job.call, job.shape, waited);
        }
        Err(refusal) => failed(row, job.shape.kind(), &refusal.failure),
    }
}

/// A try that lost, or whose client went away, after so long.
pub(super) fn of_cut(row: &Arc<Row>, call: &Call, shape: Shape, waited: Duration) {
    if waited >= LEAST_CUT {
        wait(row, call, shape, waited, Seen::Censored);
    }
}

/// No provider answers sooner, so that a shorter wait teaches nothing.
const LEAST_CUT: Duration = Duration::from_millis(100);

/// A stream that has ended; its first token was told when it came.
pub(super) fn of_stream(
    served: &Served,
    usage: Option<Usage>,
    failure: Option<Failure>,
    now: Instant,
) {
    let row = served.in_flight.row();
    if let Some(failure) = failure {
        return failed(row, served.kind, &failure);
    }
    let (Some(usage), Some(first_token)) = (usage, served.first_token) else { return };
    let tokens = u32::try_from(usage.completion).unwrap_or(u32::MAX);
    if tokens > 1 && !usage.estimated {
        let took = now.saturating_duration_since(served.since).saturating_sub(first_token);
        row.tell(served.kind, What::Pace { tokens: tokens - 1, took });
    }
}

fn wait(row: &Arc<Row>, call: &Call, shape: Shape, waited: Duration, seen: Seen) {
    // Counting tokens is no work of the model, and much faster.
    if call.endpoint != Endpoint::CountTokens {
        row.tell(shape.kind(), What::Waited { length: shape.length, waited, seen });
    }
}

fn failed(row: &Arc<Row>, kind: Kind, failure: &Failure) {
    if is_penalized(failure.class) {
        row.tell(kind, What::Failed { retry_after: failure.retry_after });
    }
}
