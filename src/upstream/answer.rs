//! The body of a provider's answer, which gives its connection back when it has been read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::{Line, Origin};
use crate::lexicon::time;

/// An answer's body. Dropped before its end it ends the call at the wire: an HTTP/1.1 connection
/// is closed, an HTTP/2 stream reset.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    lent: Option<(Line, Arc<Origin>)>,
}

impl Answer {
    pub(super) fn new(body: Incoming, line: Option<Line>, origin: Arc<Origin>) -> Self {
        let mut answer = Self { body, lent: line.map(|line| (line, origin)) };
        answer.give_back_at_end();
        answer
    }

    fn give_back_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some((line, origin)) = self.lent.take()
        {
            origin.put(line, time::now());
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => self.give_back_at_end(),
            Some(Err(_)) => self.lent = None,
            None => {
                if let Some((line, origin)) = self.lent.take() {
                    origin.put(line, time::now());
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
