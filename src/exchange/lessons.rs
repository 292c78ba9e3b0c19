//! What the end of a try teaches about its deployment.
//!
//! A wait ends with the first token of a stream or with a whole answer. One that we cut short is
//! kept as what it is: it would have been longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use smallvec::SmallVec;

use super::attempt::{Job, Refusal, Served};
use super::race::Won;
use crate::lexicon::{Class, Failure};
use crate::protocol::{Call, Endpoint, Usage};
use crate::routing::latency::Seen;
use crate::routing::strategy::lowest_latency::is_penalized;
use crate::routing::{Kind, Shape};
use crate::stats::{Fate, Row, What};

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
        Ok(Won::Stream(stream)) => {
            wait(row, job.call, job.shape, waited, Seen::Answered);
            quota(row, job.shape.kind(), &stream.headers);
        }
        Ok(Won::Whole(whole)) => {
            wait(row, job.call, job.shape, waited, Seen::Answered);
            quota(row, job.shape.kind(), &whole.headers);
        }
        // The caller would not wait as long as it takes.
        Err(refusal)
            if refusal.failure.class == Class::Timeout && job.call.wishes.timeout.is_some() =>
        {
            of_cut(row, job.call, job.shape, waited);
        }
        Err(refusal) => {
            failed(row, job.shape.kind(), &refusal.failure);
            // Or a deployment that has become slower would be given up too soon for ever.
            if refusal.failure.class == Class::Timeout {
                of_cut(row, job.call, job.shape, waited);
            }
        }
    }
}

/// The first try of a request that was answered, by it or by its hedge.
pub(super) fn of_primary(row: &Arc<Row>, shape: Shape, waited: Duration, fate: Fate) {
    let kind = shape.kind();
    if let Some(expected) = row.expected(kind, shape.length) {
        row.tell(kind, What::Primary { waited, expected, fate });
    }
}

/// A first try that has answered and would have been hedged `after` so long. Who has taught nothing
/// yet is taken to be as fast as the first.
pub(super) fn of_unhedged(
    row: &Arc<Row>,
    other: Option<&Arc<Row>>,
    shape: Shape,
    (waited, after): (Duration, Duration),
) {
    let expected = |row: &Arc<Row>| row.expected(shape.kind(), shape.length);
    let Some(other) = other.and_then(expected).or_else(|| expected(row)) else { return };
    let [after_us, expected_us] =
        [after, other].map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    of_primary(row, shape, waited, Fate::Unhedged { after_us, expected_us });
}

/// A try that lost, or whose client went away, after so long.
pub(super) fn of_cut(row: &Arc<Row>, call: &Call, shape: Shape, waited: Duration) {
    if waited >= LEAST_CUT {
        wait(row, call, shape, waited, Seen::Censored);
    }
}

/// No provider answers sooner, so that a shorter wait teaches nothing.
const LEAST_CUT: Duration = Duration::from_millis(100);

/// A stream that has ended; its first token was told when it came. `pause` is the longest between
/// two of its events with content.
pub(super) fn of_stream(
    served: &Served,
    usage: Option<Usage>,
    failure: Option<Failure>,
    (pause, now): (Duration, Instant),
) {
    let row = served.in_flight.row();
    if let Some(failure) = failure {
        return failed(row, served.kind, &failure);
    }
    let Some(first_token) = served.first_token else { return };
    let told = usage.filter(|usage| usage.completion > 1 && !usage.estimated);
    let tokens = told.map_or(0, |usage| u32::try_from(usage.completion - 1).unwrap_or(u32::MAX));
    let took = now.saturating_duration_since(served.since).saturating_sub(first_token);
    let took = if tokens > 0 { took } else { Duration::ZERO };
    row.tell(served.kind, What::Pace { tokens, took, pause });
}

fn wait(row: &Arc<Row>, call: &Call, shape: Shape, waited: Duration, seen: Seen) {
    // Counting tokens is no work of the model, and much faster.
    if call.endpoint != Endpoint::CountTokens {
        row.tell(shape.kind(), What::Waited { length: shape.length, waited, seen });
    }
}

fn quota(row: &Arc<Row>, kind: Kind, headers: &HeaderMap) {
    if let Some(what) = left(headers) {
        row.tell(kind, what);
    }
}

/// What an answer says is left of its provider's limits; `None` where it says nothing.
fn left(headers: &HeaderMap) -> Option<What> {
    let mut said: SmallVec<[Said<'_>; 4]> = SmallVec::new();
    // One look at each header is cheaper than a search for every name there may be.
    for (name, value) in headers {
        let Some((what, place)) = limit_of(name.as_str()) else { continue };
        let Some(number) = value.to_str().ok().and_then(|text| text.trim().parse().ok()) else {
            continue;
        };
        let at = said.iter().position(|said| said.0 == what).unwrap_or_else(|| {
            said.push((what, None, None));
            said.len() - 1
        });
        if let Some(said) = said.get_mut(at) {
            match place {
                Place::Limit => said.1 = Some(number),
                Place::Remaining => said.2 = Some(number),
            }
        }
    }
    let share = |said: &Said<'_>| {
        let limit = said.1.filter(|limit| *limit > 0)?;
        u16::try_from(said.2?.min(limit).saturating_mul(1_000) / limit).ok()
    };
    let left = said.iter().filter_map(share).min()?;
    let tokens = said.iter().find(|said| said.0 == "tokens").and_then(|said| said.1);
    Some(What::Quota { left, tokens: tokens.and_then(|it| u32::try_from(it).ok()) })
}

/// What is limited, its limit, and what remains of it.
type Said<'h> = (&'h str, Option<u64>, Option<u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Limit,
    Remaining,
}

/// What a header tells of, as OpenAI and Anthropic spell it: `x-ratelimit-limit-tokens`,
/// `anthropic-ratelimit-tokens-limit`.
fn limit_of(name: &str) -> Option<(&str, Place)> {
    if let Some(rest) = name.strip_prefix("x-ratelimit-") {
        let limit = rest.strip_prefix("limit-").map(|what| (what, Place::Limit));
        return limit
            .or_else(|| rest.strip_prefix("remaining-").map(|what| (what, Place::Remaining)));
    }
    let rest = name.strip_prefix("anthropic-ratelimit-")?;
    let limit = rest.strip_suffix("-limit").map(|what| (what, Place::Limit));
    limit.or_else(|| rest.strip_suffix("-remaining").map(|what| (what, Place::Remaining)))
}

fn failed(row: &Arc<Row>, kind: Kind, failure: &Failure) {
    if is_penalized(failure.class) {
        row.tell(kind, What::Failed { retry_after: failure.retry_after });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], want: Option<(u16, Option<u32>)>) {
        let headers = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        let want = want.map(|(left, tokens)| What::Quota { left, tokens });
        assert_eq!(left(&headers.collect()), want);
    }

    #[test]
    fn the_least_that_is_left_of_any_limit_is_told() {
        let requests =
            [("x-ratelimit-limit-requests", "500"), ("x-ratelimit-remaining-requests", "450")];
        let tokens =
            [("x-ratelimit-limit-tokens", "30000"), ("x-ratelimit-remaining-tokens", "1500")];
        check(&requests, Some((900, None)));
        check(&[requests, tokens].concat(), Some((50, Some(30_000))));
        check(
            &[
                ("anthropic-ratelimit-tokens-remaining", "0"),
                ("anthropic-ratelimit-tokens-limit", "80000"),
                ("anthropic-ratelimit-tokens-reset", "2026-01-01T00:00:00Z"),
            ],
            Some((0, Some(80_000))),
        );
    }

    #[test]
    fn half_said_or_senseless_limits_say_nothing() {
        check(&[], None);
        check(&[("x-ratelimit-limit-tokens", "30000")], None);
        check(&[("x-ratelimit-remaining-tokens", "10")], None);
        let limit =
            |limit| [("x-ratelimit-limit-tokens", limit), ("x-ratelimit-remaining-tokens", "9")];
        check(&limit("0"), None);
        check(&limit("many"), None);
        check(&limit("5"), Some((1_000, Some(5))));
    }
}
