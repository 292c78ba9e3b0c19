//! One line of JSON per request, written by a thread that no request waits for.
//!
//! Promises that [`AccessLog::write`] never waits for the reader of the log: lines go into one
//! buffer, and a line that does not fit is dropped whole and counted. What the lines say is
//! `line.rs`'s; where they go is the caller's.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::line;
use crate::account::Record;

/// Lines on their way to a writer.
pub struct AccessLog {
    /// Held while a line is formatted or the buffers are exchanged; never over IO or an await.
    lines: Mutex<Vec<u8>>,
    most: usize,
    begun: Notify,
    half_full: Notify,
    dropped: AtomicU64,
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl AccessLog {
    /// A log that keeps at most `most` bytes for its writer.
    pub fn with_room(most: usize) -> Self {
        Self {
            lines: Mutex::default(),
            most,
            begun: Notify::new(),
            half_full: Notify::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Adds the line of a request that ended at `now`, in Unix time.
    pub fn write(&self, record: &Record, now: Duration) {
        let mut lines = self.lines();
        let before = lines.len();
        line::append(&mut lines, record, now);
        let after = lines.len();
        if after > self.most {
            lines.truncate(before);
            drop(lines);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(lines);
        // Only the line that crosses a border rings, so that most cost no more than their bytes.
        if before == 0 {
            self.begun.notify_one();
        }
        if before < self.most / 2 && after >= self.most / 2 {
            self.half_full.notify_one();
        }
    }

    /// How many lines were lost so far, for want of room or because writing failed.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Hands the lines to `out`, at the latest 100 ms after they were written, until `stop` is
    /// over; then hands over what is left and returns. Sleeps while there is nothing to write.
    ///
    /// A writer that blocks holds up this future, not the requests; give its end a deadline.
    ///
    /// Cancel safety: dropping the future loses the lines that are being written.
    pub async fn run(self: Arc<Self>, out: Box<dyn Write + Send>, stop: impl Future<Output = ()>) {
        let mut pen = Pen { out, spare: Vec::new() };
        let mut stop = std::pin::pin!(stop);
        loop {
            let is_over = tokio::select! {
                biased;
                () = &mut stop => true,
                () = self.ripe() => false,
            };
            let Some(next) = self.flush(pen).await else { return };
            pen = next;
            if is_over {
                return;
            }
        }
    }

    /// Returns when there are lines and they have waited long enough.
    async fn ripe(&self) {
        self.begun.notified().await;
        // Too early or too late does no harm: an old ring of either bell ends in a short write.
        let _ = tokio::time::timeout(LONGEST_WAIT, self.half_full.notified()).await;
    }

    /// Writes what there is on a thread that may block; `None` where that thread died.
    async fn flush(&self, mut pen: Pen) -> Option<Pen> {
        std::mem::swap(&mut *self.lines(), &mut pen.spare);
        if pen.spare.is_empty() {
            return Some(pen);
        }
        let (pen, lost) = tokio::task::spawn_blocking(move || pen.put()).await.ok()?;
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        Some(pen)
    }

    fn lines(&self) -> MutexGuard<'_, Vec<u8>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer, and the buffer that is exchanged with the one being filled.
struct Pen {
    out: Box<dyn Write + Send>,
    spare: Vec<u8>,
}

impl Pen {
    /// Writes the buffer and empties it. Returns how many lines could not be written.
    fn put(mut self) -> (Self, u64) {
        let written = self.out.write_all(&self.spare).and_then(|()| self.out.flush());
        let lost = match written {
            Ok(()) => 0,
            // Some of them may have been written, but which is not known.
            Err(_) => memchr::memchr_iter(b'\n', &self.spare).count() as u64,
        };
        self.spare.clear();
        (self, lost)
    }
}

/// Half a thousand lines: a tenth of a second of a busy sidecar.
const ROOM: usize = 256 * 1024;

/// How long a line waits for company.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::telemetry::fixture;

    const NOW: Duration = Duration::from_secs(1_795_265_760);

    /// Tells each write, and waits for leave where it is told to.
    struct Told(mpsc::Sender<Vec<u8>>, Option<mpsc::Receiver<()>>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(leave) = &self.1 {
                leave.recv().map_err(io::Error::other)?;
            }
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(bytes: &[u8]) -> usize {
        memchr::memchr_iter(b'\n', bytes).count()
    }

    async fn stopped(stop: oneshot::Receiver<()>) {
        // An error means that nobody will stop it any more, which also is an end.
        let _ = stop.await;
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_come_together_are_written_together() {
        let log = Arc::new(AccessLog::default());
        let (told, heard) = mpsc::channel();
        let (stop, stopping) = oneshot::channel();
        let run = log.clone().run(Box::new(Told(told, None)), stopped(stopping));
        let both = async {
            log.write(&fixture::stream(), NOW);
            log.write(&fixture::refused(), NOW);
            tokio::time::sleep(LONGEST_WAIT * 2).await;
            assert_eq!(heard.try_iter().map(|bytes| lines(&bytes)).collect::<Vec<_>>(), [2]);
            log.write(&fixture::stream(), NOW);
            drop(stop);
        };
        tokio::join!(run, both);
        let last: Vec<_> = heard.try_iter().map(|bytes| lines(&bytes)).collect();
        assert_eq!((last, log.dropped()), (vec![1], 0), "what is left is written at the end");
    }

    #[tokio::test]
    async fn half_a_buffer_does_not_wait_for_the_clock() {
        let log = Arc::new(AccessLog::with_room(4096));
        for _ in 0..6 {
            log.write(&fixture::stream(), NOW);
        }
        assert!(log.lines().len() > 2048);
        let ripe = tokio::time::timeout(LONGEST_WAIT / 2, log.ripe());
        assert!(ripe.await.is_ok());
    }

    #[tokio::test]
    async fn a_slow_reader_costs_lines_and_no_time() {
        let log = Arc::new(AccessLog::with_room(4096));
        let (told, heard) = mpsc::channel();
        let (leave, may_write) = mpsc::channel();
        let (stop, stopping) = oneshot::channel();
        for _ in 0..100 {
            log.write(&fixture::stream(), NOW);
        }
        let dropped = log.dropped();
        assert!(dropped > 80, "{dropped}");
        drop(stop);
        leave.send(()).unwrap();
        log.clone().run(Box::new(Told(told, Some(may_write))), stopped(stopping)).await;
        let written = heard.try_iter().map(|bytes| lines(&bytes)).sum::<usize>();
        assert_eq!(written as u64 + dropped, 100, "each line is written whole or counted");
    }

    #[tokio::test]
    async fn lines_that_cannot_be_written_are_counted() {
        let log = Arc::new(AccessLog::default());
        let (told, heard) = mpsc::channel();
        drop(heard);
        log.write(&fixture::stream(), NOW);
        log.write(&fixture::stream(), NOW);
        log.clone().run(Box::new(Told(told, None)), async {}).await;
        assert_eq!(log.dropped(), 2);
    }
}
