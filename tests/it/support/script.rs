//! What a fake provider does on one connection, step by step.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

/// One step. Behind the last one the connection stays open until the peer closes it.
#[derive(Clone)]
pub(crate) enum Step {
    /// Closes the connection in an orderly way.
    Close,
    /// Sends the bytes again and again until the peer goes away.
    Endless(Bytes),
    /// Reads one request, head and body.
    Expect,
    /// Goes on when the test opens the gate.
    Gate(Gate),
    /// Lets time pass.
    Pause(Duration),
    /// Closes the connection with a reset.
    Reset,
    /// Sends bytes as they are, in one write.
    Send(Bytes),
    /// Answers each request with the steps that are made for it.
    Serve(Answer),
}

/// Makes the steps that answer a request.
pub(crate) type Answer = Arc<dyn Fn(&Request) -> Vec<Step> + Send + Sync>;

/// A request as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The first line and the headers, as they came.
    pub(crate) head: String,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn wants_stream(&self) -> bool {
        memchr::memmem::find(&self.body, b"\"stream\":true").is_some()
    }

    pub(crate) fn says(&self, text: &str) -> bool {
        memchr::memmem::find(&self.body, text.as_bytes()).is_some()
    }
}

/// Holds up a script until the test opens it, once per opening.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn shut() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets as many pass as come.
    pub(crate) fn open(&self) {
        self.0.close();
    }

    pub(super) async fn pass(&self) {
        // An error means that it is open for good.
        let _ = self.0.acquire().await;
    }
}

pub(crate) fn send(bytes: impl Into<Bytes>) -> Step {
    Step::Send(bytes.into())
}

/// One script for every request.
pub(crate) fn serve(answer: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Vec<Step> {
    vec![Step::Serve(Arc::new(answer))]
}
