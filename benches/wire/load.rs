//! The clients: so many keep-alive connections, each with one call at a time.
//!
//! An answer counts only if it is a 200 and whole, so that nothing gets fast by answering less.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;
use pillion::lexicon::time;
use serde::{Deserialize, Serialize};

use crate::http::Connection;
use crate::{mock, process};

/// What to send, and how much of it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Load {
    /// Port of the target
    #[arg(long)]
    pub(crate) port: u16,
    /// Calls at once
    #[arg(long)]
    pub(crate) connections: usize,
    /// Length of the request's body in bytes
    #[arg(long)]
    pub(crate) body: usize,
    /// Ask for streams
    #[arg(long)]
    pub(crate) stream: bool,
    /// Stop after so many seconds
    #[arg(long, default_value_t = 60.0)]
    pub(crate) seconds: f64,
    /// Stop after so many calls
    #[arg(long, default_value_t = u64::MAX)]
    pub(crate) calls: u64,
}

/// What came of it; times in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    /// To the first byte of the answer's body.
    pub(crate) first_p50: f64,
    pub(crate) first_p99: f64,
    /// Of this process, in seconds.
    pub(crate) own_cpu: f64,
}

/// Runs it to the end.
pub(crate) fn run(load: &Load) -> Figures {
    let request = request(load.body, load.stream);
    let started = time::now();
    let until = started + Duration::from_secs_f64(load.seconds);
    let left = AtomicU64::new(load.calls);
    let worker = || client(load, &request, until, &left);
    let clients: Vec<Client> = thread::scope(|scope| {
        let threads: Vec<_> = (0..load.connections).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let elapsed = time::now() - started;
    let (mut whole, mut first, mut errors) = (Vec::new(), Vec::new(), 0);
    for client in clients {
        whole.extend(client.whole);
        first.extend(client.first);
        errors += client.errors;
    }
    whole.sort_unstable();
    first.sort_unstable();
    let calls = whole.len() as u64;
    Figures {
        calls,
        errors,
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        per_second: calls as f64 / elapsed.as_secs_f64(),
        p50: percentile(&whole, 50),
        p90: percentile(&whole, 90),
        p99: percentile(&whole, 99),
        first_p50: percentile(&first, 50),
        first_p99: percentile(&first, 99),
        own_cpu: process::ticks(std::process::id()).as_secs_f64(),
    }
}

#[derive(Default)]
struct Client {
    whole: Vec<Duration>,
    first: Vec<Duration>,
    errors: u64,
}

/// A client that meets this many errors gives up.
const TOO_MANY: u64 = 20;

fn client(load: &Load, request: &[u8], until: Instant, left: &AtomicU64) -> Client {
    let mut client = Client::default();
    let mut connection = None;
    let mut answer = Vec::new();
    let take = |left: u64| left.checked_sub(1);
    while time::now() < until && client.errors < TOO_MANY {
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            break;
        }
        let Some(open) = connection.take().or_else(|| Connection::open(load.port).ok()) else {
            client.errors += 1;
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        match call(open, request, load.stream, &mut answer) {
            Some((kept, first, whole)) => {
                client.first.push(first);
                client.whole.push(whole);
                connection = Some(kept);
            }
            None => client.errors += 1,
        }
    }
    client
}

/// One call: the connection back, the time to the first byte of the body and that to the last.
pub(crate) fn call(
    mut connection: Connection,
    request: &[u8],
    stream: bool,
    answer: &mut Vec<u8>,
) -> Option<(Connection, Duration, Duration)> {
    answer.clear();
    let started = time::now();
    connection.send(request).ok()?;
    let head = connection.head().ok()??;
    let mut first = None;
    let sink = |part: &[u8]| {
        first.get_or_insert_with(|| time::now() - started);
        answer.extend_from_slice(part);
    };
    connection.body(head, sink).ok()?;
    let whole = time::now() - started;
    (head.status == 200 && is_whole(answer, stream)).then_some((connection, first?, whole))
}

fn is_whole(answer: &[u8], stream: bool) -> bool {
    if !stream {
        return memmem::find(answer, b"\"usage\"").is_some();
    }
    let events = memmem::find_iter(answer, b"data: ").count();
    events > mock::CHUNKS && memmem::rfind(answer, b"[DONE]").is_some()
}

/// A chat call whose body has `length` bytes or a few more.
pub(crate) fn request(length: usize, stream: bool) -> Vec<u8> {
    let mut body = format!("{{\"model\":\"mock-model\",\"stream\":{stream},\"messages\":[");
    body.push_str("{\"role\":\"system\",\"content\":\"Answer in one line.\"}");
    while body.len() + 4 < length {
        let text = "Say in a few words what the \\\"tide\\\" does to a harbour.\\n".repeat(8);
        let room = (length - body.len()).saturating_sub(34).max(1);
        let text = if room < text.len() { "w".repeat(room) } else { text };
        let _ = write!(body, ",{{\"role\":\"user\",\"content\":\"{text}\"}}");
    }
    body.push_str("]}");
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer dummy\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Of sorted times, in microseconds; zero where there are none.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
