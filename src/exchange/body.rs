//! The body of an answer: in one piece, or relayed as it comes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::relay::Relay;

/// The body of every answer.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Relay(Box<Relay>),
    Whole(Bytes),
}

impl Body {
    /// A body in one piece.
    pub fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(bytes))
    }

    /// A stream.
    pub(super) fn relay(relay: Relay) -> Self {
        Self(Kind::Relay(Box::new(relay)))
    }

    /// The bytes of a body in one piece; none of one that is relayed.
    pub(super) fn into_whole(self) -> Bytes {
        match self.0 {
            Kind::Relay(_) => Bytes::new(),
            Kind::Whole(bytes) => bytes,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Kind::Relay(relay) => {
                relay.poll(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Kind::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Relay(_) => false,
            Kind::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Relay(_) => SizeHint::default(),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
