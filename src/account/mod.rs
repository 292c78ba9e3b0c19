//! What a request used and cost, and exactly one record of it.
//!
//! Promises that a [`Ledger`] emits one [`Record`] whatever becomes of the request, and that
//! sums of money are exact. Knows no metric and no log; it hands records to a [`Sink`].

pub mod cost;
pub mod estimate;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::lexicon::{Class, DeploymentIx, PicoUsd, Tokens};
use crate::protocol::{Endpoint, Usage};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The client went away first.
    Abandoned,
    /// The whole answer was handed over.
    Complete,
    /// An error was answered instead.
    Refused,
    /// The answer broke off after it had begun.
    Truncated,
}

impl End {
    /// The word for labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Complete => "complete",
            Self::Refused => "refused",
            Self::Truncated => "truncated",
        }
    }
}

/// Why a request was turned away for want of room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shed {
    /// Bodies take all the memory they may.
    MaxBufferedBytes,
    /// So many requests as may are served already.
    MaxParallelRequests,
    /// So many requests as may wait for the model group already.
    QueueFull,
    /// It has waited for the model group as long as it may.
    QueueTimeout,
}

impl Shed {
    /// The word for labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxBufferedBytes => "max_buffered_bytes",
            Self::MaxParallelRequests => "max_parallel_requests",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
        }
    }
}

/// Everything that is kept of one request. No content, no key.
#[derive(Debug, Clone)]
pub struct Record {
    /// `x-litellm-call-id`.
    pub id: Box<str>,
    /// What was asked for; `None` where the path said nothing.
    pub endpoint: Option<Endpoint>,
    /// The model name the client sent; empty where it sent none.
    pub model: Box<str>,
    /// The group that answered or was asked last; `None` where no group has that name.
    pub group: Option<Box<str>>,
    /// The deployment that answered or was asked last.
    pub deployment: Option<DeploymentIx>,
    /// Its id.
    pub deployment_id: Option<Box<str>>,
    /// Its provider's prefix.
    pub vendor: Option<&'static str>,
    /// What the provider calls the model.
    pub upstream_model: Option<Box<str>>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The status answered; 499 where the client went away before.
    pub status: u16,
    /// How it ended.
    pub end: End,
    /// What went wrong, where something did.
    pub class: Option<Class>,
    /// Calls made to deployments.
    pub tries: u32,
    /// Those calls that are over, in the order in which they ended; all, when the record is.
    pub attempts: SmallVec<[Try; 2]>,
    /// Tries after a failed one in the same group.
    pub retries: u32,
    /// Whether a retry was not made because its group has made too many.
    pub unpaid: bool,
    /// Other groups asked after one had failed.
    pub fallbacks: u32,
    /// What became of its hedge: `won`, `lost` or `failed` where one was made, else why there was
    /// none; `None` where no try was late.
    pub hedge: Option<&'static str>,
    /// How long it waited for a deployment to have room; `None` where it did not.
    pub queued: Option<Duration>,
    /// What turned it away before anybody was asked, where that was for want of room.
    pub shed: Option<Shed>,
    /// Who would have been asked as a hedge, where hedging is only observed.
    pub unhedged: Option<DeploymentIx>,
    /// What became of its stream that broke off, where it was to go on: `unseen`,
    /// `restarted`, `continued`, `differed`, `failed` or `ineligible`.
    pub recovery: Option<&'static str>,
    /// From the request's first byte to the first event with content.
    pub first_token: Option<Duration>,
    /// Time spent waiting for deployments.
    pub upstream: Duration,
    /// From the request's head to the last byte of the answer.
    pub duration: Duration,
    /// What was used; `None` where nothing was answered.
    pub usage: Option<Usage>,
    /// What it cost; `None` where the price is not known.
    pub cost: Option<PicoUsd>,
}

impl Record {
    /// The record of a request that is not answered: what stays if its client goes away now.
    pub fn new(id: Box<str>) -> Self {
        Self {
            id,
            endpoint: None,
            model: "".into(),
            group: None,
            deployment: None,
            deployment_id: None,
            vendor: None,
            upstream_model: None,
            stream: false,
            status: 499,
            end: End::Abandoned,
            class: None,
            tries: 0,
            attempts: SmallVec::new(),
            retries: 0,
            unpaid: false,
            fallbacks: 0,
            hedge: None,
            queued: None,
            shed: None,
            unhedged: None,
            recovery: None,
            first_token: None,
            upstream: Duration::ZERO,
            duration: Duration::ZERO,
            usage: None,
            cost: None,
        }
    }
}

/// One call to one deployment, when it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    /// The deployment.
    pub deployment: DeploymentIx,
    /// Its id, because positions mean nothing outside their snapshot.
    pub id: Box<str>,
    /// How it ended.
    pub end: TryEnd,
    /// From its launch to its end.
    pub took: Duration,
    /// What it used, where its stream was one of two and not the one that the record tells of.
    pub beside: Option<Wasted>,
}

/// How a call to a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryEnd {
    /// The client went away first.
    Abandoned,
    /// With a whole answer.
    Answered,
    /// With a failure.
    Failed {
        /// What went wrong.
        class: Class,
        /// Whether it put the deployment into cooldown.
        cooled: bool,
    },
    /// Another try of the same request was first.
    Lost(Wasted),
}

/// What a lost try used, as far as one can tell: the provider says nothing about a call that was
/// cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wasted {
    /// Estimated tokens: those of the prompt, and where the provider goes on all the same also
    /// those of the answer.
    pub tokens: Tokens,
    /// What they cost; `None` where the price is not known.
    pub cost: Option<PicoUsd>,
}

impl TryEnd {
    /// The word for labels: `success`, the class of the failure, or what cut it short.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Answered => "success",
            Self::Failed { class, .. } => class.as_str(),
            Self::Lost(_) => "lost",
        }
    }
}

/// Takes records. Must not block.
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// Takes one record.
    fn take(&self, record: &Record);
}

/// Holds the record while the request lives and emits it once, when closed or dropped.
#[derive(Debug)]
pub struct Ledger {
    /// The facts so far.
    pub record: Box<Record>,
    sink: Arc<dyn Sink>,
    /// Counts the ledgers that are open, which are the requests that are served.
    running: Arc<AtomicU32>,
    opened: Instant,
}

impl Ledger {
    /// Opens a ledger for a request that began at `now`.
    pub fn open(sink: Arc<dyn Sink>, running: &Arc<AtomicU32>, id: Box<str>, now: Instant) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        let record = Box::new(Record::new(id));
        Self { record, sink, running: running.clone(), opened: now }
    }

    /// Opens a ledger for a call that is made for this request and has a record of its own, with
    /// the same id.
    #[must_use]
    pub fn another(&self, sink: Arc<dyn Sink>, now: Instant) -> Self {
        Self::open(sink, &self.running, self.record.id.clone(), now)
    }

    /// When the request began.
    pub fn opened(&self) -> Instant {
        self.opened
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.record.duration = crate::lexicon::time::now().saturating_duration_since(self.opened);
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.sink.take(&self.record);
    }
}
