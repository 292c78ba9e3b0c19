//! Records for the tests of this folder.

use std::time::Duration;

use smallvec::smallvec;

use crate::account::{End, Record, Shed, Try, TryEnd, Wasted};
use crate::lexicon::{Class, DeploymentIx, PicoUsd};
use crate::protocol::{Endpoint, Usage};

/// A stream that `east` answered after `west` was asked and failed.
pub(super) fn stream() -> Record {
    Record {
        endpoint: Some(Endpoint::ChatCompletions),
        model: "smart".into(),
        group: Some("smart".into()),
        deployment: Some(DeploymentIx(0)),
        deployment_id: Some("east".into()),
        vendor: Some("openai"),
        upstream_model: Some("gpt-5".into()),
        stream: true,
        status: 200,
        end: End::Complete,
        class: Some(Class::RateLimit),
        tries: 2,
        attempts: smallvec![
            Try {
                beside: Some(Wasted { tokens: 50, cost: Some(PicoUsd(2_000_000)) }),
                ..tried("west", TryEnd::Failed { class: Class::RateLimit, cooled: true })
            },
            tried("west", TryEnd::Lost(Wasted { tokens: 100, cost: Some(PicoUsd(3_000_000)) })),
            tried("east", TryEnd::Answered)
        ],
        retries: 1,
        unpaid: true,
        hedge: Some("won"),
        queued: Some(Duration::from_millis(30)),
        shed: Some(Shed::QueueTimeout),
        recovery: Some("restarted"),
        first_token: Some(Duration::from_micros(210_500)),
        upstream: Duration::from_millis(1400),
        duration: Duration::from_micros(1_500_042),
        usage: Some(Usage {
            prompt: 100,
            completion: 20,
            cache_read: 60,
            cache_write: 3,
            cache_write_1h: 4,
            reasoning: 5,
            ..Usage::default()
        }),
        cost: Some(PicoUsd(12_500_000)),
        ..refused()
    }
}

/// A request without a key.
pub(super) fn refused() -> Record {
    Record {
        status: 401,
        end: End::Refused,
        duration: Duration::from_micros(80),
        ..Record::new("00000000-0000-0000-0000-000000000007".into())
    }
}

fn tried(id: &str, end: TryEnd) -> Try {
    let took = Duration::from_millis(700);
    Try { deployment: DeploymentIx(0), id: id.into(), end, took, beside: None }
}
