//! A second stream in the place of one that broke off in the client's hands.
//!
//! Promises one more try and no splice but the one that was asked for: nothing of a second stream
//! reaches the client before it has said again what was sent of the first, unless it was asked to
//! write on behind it; and where it does not, the client hears how the first one failed.
//! The try is a future that is polled and dropped with the body: no task, and a client that leaves
//! ends it at the wire.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::super::again::Again;
use super::super::attempt::Stream;
use super::super::race::Won;
use super::super::tries::Notes;
use super::{Phase, Relay};
use crate::account::{End, Record, TryEnd};
use crate::lexicon::{Class, Failure};
use crate::protocol::Endpoint;
use crate::protocol::seam::{Seam, Sent};
use crate::protocol::sse::Framer;
use crate::provider::Prefill;

/// How far the recovery of a stream is.
#[derive(Debug)]
pub(super) enum Recovery {
    /// The first stream flows.
    Ready(Box<Again>, Sent),
    /// It broke off, and another one is to be asked for.
    Due(Box<Again>, Sent, Box<Broken>),
    /// Another one is asked for.
    Asked,
    /// The second stream says what the first one said.
    Joining(Seam, Framer, Box<Broken>),
    /// It has gone beyond that.
    Joined(Seam, Framer),
}

/// The end of the first stream.
#[derive(Debug)]
pub(super) struct Broken {
    failure: Failure,
    /// What the client hears of it.
    said: Bytes,
    /// Where the record has its try.
    at: usize,
}

impl Recovery {
    /// How many bytes are kept to be compared.
    pub(super) fn kept(&self) -> usize {
        match self {
            Self::Ready(_, sent) | Self::Due(_, sent, _) => sent.kept(),
            Self::Joining(seam, framer, _) | Self::Joined(seam, framer) => {
                seam.kept() + framer.kept()
            }
            Self::Asked => 0,
        }
    }

    /// `None` where a stream of this endpoint cannot be joined.
    pub(super) fn of(again: Option<Box<Again>>, endpoint: Option<Endpoint>) -> Option<Self> {
        Some(Self::Ready(again?, Sent::new(endpoint?)?))
    }
}

/// A relay that waits for its second stream.
pub(in super::super) struct Recovering(Pin<Box<dyn Future<Output = Box<Relay>> + Send>>);

impl Recovering {
    pub(in super::super) fn new(relay: Box<Relay>) -> Self {
        Self(Box::pin(recover(relay)))
    }

    pub(in super::super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Box<Relay>> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Recovering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recovering")
    }
}

/// Asks for the second stream.
///
/// Cancel safety: dropping the future ends the try at the wire and notes it as abandoned.
async fn recover(mut relay: Box<Relay>) -> Box<Relay> {
    let due = relay.recovery.replace(Recovery::Asked);
    let Some(Recovery::Due(again, sent, broken)) = due else { return relay };
    // What still comes of it is for nobody.
    relay.body = None;
    let before = relay.sent_so_far();
    let asked = {
        let relay = &mut *relay;
        let (opened, id) = (relay.ledger.opened(), relay.ledger.record.id.clone());
        let record = relay.second.insert(Box::new(Record::new(id)));
        let notes = Notes { record, opened, rest: TryEnd::Abandoned };
        let text = sent.text().filter(|_| again.writes_on).map(str::to_owned);
        let prefill = text.map(|text| Prefill { text, spent: before.completion });
        again.ask(&relay.live, (relay.served.deployment, prefill.as_ref()), notes).await
    };
    relay.add_tries();
    match asked {
        Ok(Won::Stream(stream)) => {
            let seam =
                if again.writes_on { Seam::write_on(sent, before) } else { Seam::restart(sent) };
            relay.go_on(*stream, seam, broken);
        }
        Ok(Won::Mock(_) | Won::Whole(_)) | Err(_) => relay.give_up(*broken, "failed"),
    }
    relay
}

impl Relay {
    /// Whether a stream that failed so is asked for once more; if so it is not over yet.
    pub(super) fn may_recover(&mut self, failure: Failure, said: &Bytes) -> bool {
        match self.recovery.take() {
            Some(Recovery::Ready(again, sent)) if may_go_on(&again, &sent, failure) => {
                self.settle(Some(failure));
                let at = self.ledger.record.attempts.len().saturating_sub(1);
                let broken = Box::new(Broken { failure, said: said.clone(), at });
                self.recovery = Some(Recovery::Due(again, sent, broken));
                self.phase = Phase::Broken;
                true
            }
            Some(Recovery::Ready(..)) => {
                self.ledger.record.recovery = Some("ineligible");
                false
            }
            Some(Recovery::Joining(_, _, broken)) => {
                self.settle_beside(Some(failure));
                self.give_up(*broken, "failed");
                true
            }
            other => {
                self.recovery = other;
                false
            }
        }
    }

    /// Notes what was written behind `from` for the client, or replaces it by what is new to it.
    /// False where it is not the same answer, which ends the stream.
    pub(super) fn join(&mut self, from: usize, out: &mut BytesMut) -> bool {
        match &mut self.recovery {
            None | Some(Recovery::Asked | Recovery::Due(..)) => return true,
            Some(Recovery::Ready(_, sent)) => {
                sent.note(out.get(from..).unwrap_or_default());
                return true;
            }
            Some(Recovery::Joining(seam, framer, _) | Recovery::Joined(seam, framer)) => {
                let mut fresh = BytesMut::new();
                let mut same = framer.push(out.split_off(from).freeze()).is_ok();
                while let Some(event) = framer.next().filter(|_| same) {
                    same = seam.event(&event, &mut fresh).is_ok();
                }
                if same && !seam.is_joined() {
                    out.unsplit(fresh);
                    return true;
                }
                if same {
                    self.adopt(out);
                    out.unsplit(fresh);
                    return true;
                }
            }
        }
        self.differs();
        false
    }

    /// Whether all of the first stream has come again, where there is a second.
    pub(super) fn is_joined(&self) -> bool {
        !matches!(self.recovery, Some(Recovery::Joining(..)))
    }

    /// The second stream is another answer.
    pub(super) fn differs(&mut self) {
        if let Some(Recovery::Joining(_, _, broken)) = self.recovery.take() {
            self.settle_beside(None);
            self.give_up(*broken, "differed");
        }
    }

    /// Gives up a second stream that has not gone on yet; false where there is none.
    pub(super) fn leave_joining(&mut self) -> bool {
        match self.recovery.take() {
            Some(Recovery::Joining(_, _, broken)) => {
                self.settle_beside(None);
                self.give_up(*broken, "failed");
                true
            }
            other => {
                self.recovery = other;
                false
            }
        }
    }

    /// Takes up the second stream.
    fn go_on(&mut self, stream: Stream, seam: Seam, broken: Box<Broken>) {
        self.take_up(stream);
        self.recovery = Some(Recovery::Joining(seam, Framer::new(), broken));
    }

    /// From here on the record tells of the second stream.
    fn adopt(&mut self, out: &mut BytesMut) {
        match self.recovery.take() {
            Some(Recovery::Joining(seam, framer, broken)) => {
                let outcome = if seam.writes_on() { "continued" } else { "restarted" };
                self.recovery = Some(Recovery::Joined(seam, framer));
                self.tell_of_second(broken.at, outcome);
                let id = self.ledger.record.deployment_id.as_deref().unwrap_or_default();
                let shown = id.chars().filter(|it| !it.is_control()).collect::<String>();
                out.put_slice(format!(": pillion {outcome} deployment={shown}\n\n").as_bytes());
            }
            other => self.recovery = other,
        }
    }

    /// Ends the stream as the first one ended.
    fn give_up(&mut self, broken: Broken, outcome: &'static str) {
        let Broken { failure, said, .. } = broken;
        let record = &mut self.ledger.record;
        record.recovery = Some(outcome);
        record.end = End::Truncated;
        record.class = Some(failure.class);
        self.recovery = None;
        self.body = None;
        self.parting = said;
        self.phase = Phase::Over;
    }
}

/// Whether another stream can take the place of one that failed so.
fn may_go_on(again: &Again, sent: &Sent, failure: Failure) -> bool {
    let fits = if again.writes_on { sent.text().is_some() } else { sent.is_open() };
    fits && may_help(failure.class)
}

/// Whether another deployment may do better.
const fn may_help(class: Class) -> bool {
    matches!(
        class,
        Class::BadGateway
            | Class::Connection
            | Class::InternalServer
            | Class::RateLimit
            | Class::ServiceUnavailable
            | Class::Timeout
    )
}
