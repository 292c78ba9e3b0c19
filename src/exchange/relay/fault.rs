//! A stream that fails: what the client hears of it, unless it goes on elsewhere.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::super::{opening, silence};
use super::recovery::Recovery;
use super::{Phase, Relay};
use crate::account::End;
use crate::lexicon::{Class, Failure};
use crate::protocol::{Dialect, Fault};

impl Relay {
    /// Nothing, or nothing of the answer, has come for so long.
    pub(super) fn stalled(&mut self, limit: Duration, out: &mut BytesMut) {
        let fault = Fault::new(self.dialect, 408, silence::said(limit));
        self.fail(Failure::new(Class::Timeout, 408), fault, out);
    }

    /// The provider reports an error in the middle of its stream.
    pub(super) fn fault(&mut self, event: &[u8], out: &mut BytesMut) {
        let deployment = self.live.deployment(self.served.deployment);
        let (failure, body) = opening::read_fault(deployment, event);
        let mut fault = Fault::read(&body);
        if fault.kind.is_empty() || self.dialect == Dialect::Anthropic {
            fault.kind = Fault::new(self.dialect, failure.status, "").kind;
        }
        self.fail(failure, fault, out);
    }

    pub(super) fn cut(&mut self, why: &str, out: &mut BytesMut) {
        let fault = Fault::new(self.dialect, 502, format!("{why}; the answer so far is not whole"));
        self.fail(Failure::new(Class::Connection, 502), fault, out);
    }

    /// Holds the memory of what is kept of it: half an event, and what was sent where that may be
    /// compared. It ends where there is none, and its deployment is not to blame.
    pub(super) fn hold_kept(&mut self, out: &mut BytesMut) {
        let sent = self.recovery.as_ref().map_or(0, Recovery::kept);
        if self.phase != Phase::Flowing
            || self.served.hold.fit((self.framer.kept() + sent) as u64).is_ok()
        {
            return;
        }
        let failure = Failure::new(Class::ServiceUnavailable, 503);
        let most = self.live.limits.max_buffered_bytes;
        let why = format!(
            "the gateway has no memory left for this stream: bodies take twice the {most} bytes of pillion.limits.max_buffered_bytes"
        );
        if self.leave_joining() {
            return;
        }
        out.extend_from_slice(&self.said(&Fault::new(self.dialect, 503, why)));
        self.phase = Phase::Over;
        self.settle_blameless(failure);
    }

    pub(super) fn fail(&mut self, failure: Failure, mut fault: Fault, out: &mut BytesMut) {
        fault.code.get_or_insert_with(|| failure.status.to_string());
        let said = self.said(&fault);
        if self.may_recover(failure, &said) {
            return;
        }
        out.extend_from_slice(&said);
        self.phase = Phase::Over;
        self.close(End::Truncated, Some(failure));
    }

    /// The event that tells the client of it.
    fn said(&self, fault: &Fault) -> Bytes {
        let number = match &self.recovery {
            Some(Recovery::Joined(seam, _)) => seam.next_number(),
            None | Some(_) => self.watch.next_number(),
        };
        number.map_or_else(|| fault.event(self.dialect), |number| fault.numbered_event(number))
    }
}
