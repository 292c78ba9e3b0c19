//! A body whose pieces come one by one, each after a pause.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Sleep;

/// The body: pieces, and how long to wait before each.
#[derive(Debug)]
pub struct Paced {
    pieces: VecDeque<(Duration, Bytes)>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    /// Pieces, each with the pause before it.
    pub fn new(pieces: impl IntoIterator<Item = (Duration, Bytes)>) -> Self {
        Self { pieces: pieces.into_iter().collect(), pause: None }
    }

    /// One piece without a pause.
    pub fn at_once(bytes: Bytes) -> Self {
        Self::new([(Duration::ZERO, bytes)])
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(&(pause, _)) = self.pieces.front() else { return Poll::Ready(None) };
        if !pause.is_zero() {
            let sleep = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(sleep.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(self.pieces.pop_front().map(|(_, bytes)| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }
}
