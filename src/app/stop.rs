//! How a sidecar ends: it goes on while its application may ask, then lets what runs finish.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::signals::Signals;
use crate::listen::Stop;

/// How a sidecar goes on after a signal, while its application may still ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linger {
    /// For this time at most.
    most: Duration,
    /// Until nobody was connected for this time.
    quiet: Duration,
}

impl Linger {
    /// As the command line says.
    pub(super) fn of(most: Option<Duration>, quiet: Option<Duration>) -> Option<Self> {
        most.map(|most| Self { most, quiet: quiet.unwrap_or(QUIET) })
    }

    /// Serves on until everybody has left, and says how many connections were cut; `None` where
    /// the time is over before, or a signal says so.
    pub(super) async fn out(
        self,
        served: Pin<&mut impl Future<Output = usize>>,
        stop: &watch::Sender<Stop>,
        signals: &mut Signals,
    ) -> Option<usize> {
        info!(seconds = self.most.as_secs(), "stopping: going on while somebody is connected");
        let _ = stop.send(Stop::Deserted(self.quiet));
        tokio::select! {
            cut = served => Some(cut),
            () = signals.next() => None,
            () = tokio::time::sleep(self.most) => None,
        }
    }
}

/// An application that has no connection asks for the last time within this time.
const QUIET: Duration = Duration::from_secs(2);

/// Lets what runs finish, and says how many connections were cut and how the process ends.
pub(super) async fn finish(
    mut served: Pin<&mut impl Future<Output = usize>>,
    stop: &watch::Sender<Stop>,
    signals: &mut Signals,
    drain: Duration,
) -> (usize, ExitCode) {
    info!(seconds = drain.as_secs(), "stopping: requests that run may finish");
    let _ = stop.send(Stop::Drain);
    tokio::select! {
        cut = &mut served => (cut, ExitCode::SUCCESS),
        () = signals.next() => {
            warn!("a second signal: ending at once");
            let _ = stop.send(Stop::Now);
            // Waits until what ran is dropped, so that each request has its record.
            (served.await, ExitCode::from(1))
        }
    }
}
