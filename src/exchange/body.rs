//! The body of an answer: in one piece, or relayed as it comes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::relay::{Next, Recovering, Relay};

/// The body of every answer.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Recovering(Recovering),
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
            Kind::Recovering(_) | Kind::Relay(_) => Bytes::new(),
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
        loop {
            let next = match &mut self.0 {
                Kind::Recovering(recovering) => Kind::Relay(ready!(recovering.poll(cx))),
                Kind::Relay(relay) => match ready!(relay.poll(cx)) {
                    Next::Bytes(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Next::Broken => match std::mem::replace(&mut self.0, NOTHING) {
                        Kind::Relay(relay) => Kind::Recovering(Recovering::new(relay)),
                        other @ (Kind::Recovering(_) | Kind::Whole(_)) => other,
                    },
                    Next::End => return Poll::Ready(None),
                },
                Kind::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
                Kind::Whole(bytes) => {
                    return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))));
                }
            };
            self.0 = next;
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Recovering(_) | Kind::Relay(_) => false,
            Kind::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Recovering(_) | Kind::Relay(_) => SizeHint::default(),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

const NOTHING: Kind = Kind::Whole(Bytes::new());
