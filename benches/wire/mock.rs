//! The provider: answers every chat call at once, with JSON of 1 KB or a stream of 64 chunks.
//!
//! One blocking thread per connection, since the sleep of a thread is finer than the runtime's
//! timer, which counts whole milliseconds.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use memchr::memmem;

use crate::http::Connection;

/// Events of a stream that carry text.
pub(crate) const CHUNKS: usize = 64;
/// The pause before each of them but the first.
const GAP: Duration = Duration::from_micros(500);
/// How long the JSON answer is.
const ANSWER: usize = 1 << 10;

/// Serves until the process ends.
pub(crate) fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let answer: &'static [u8] = Box::leak(answer().into_boxed_slice());
    for stream in listener.incoming() {
        let stream = stream?;
        // A connection that breaks ends its thread and nothing else.
        thread::spawn(move || connection(stream, answer));
    }
    Ok(())
}

fn connection(stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut connection = Connection::over(stream)?;
    let mut body = Vec::new();
    while let Some(head) = connection.head()? {
        body.clear();
        connection.body(head, |part| body.extend_from_slice(part))?;
        if memmem::find(&body, b"\"stream\":true").is_some() {
            stream_answer(&mut connection, memmem::find(&body, b"include_usage").is_some())?;
        } else {
            connection.send(answer)?;
        }
    }
    Ok(())
}

/// The whole JSON answer with its head.
fn answer() -> Vec<u8> {
    let around = |content: &str| {
        format!(
            "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1760000000,\
             \"model\":\"mock\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
             \"content\":\"{content}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{USAGE}}}"
        )
    };
    let content: String = "all work and no play ".chars().cycle().take(ANSWER).collect();
    let room = ANSWER.saturating_sub(around("").len());
    let body = around(content.get(..room).unwrap_or_default());
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

const USAGE: &str = "{\"prompt_tokens\":200,\"completion_tokens\":64,\"total_tokens\":264}";

/// Each event is one chunk and one write, as providers send them.
fn stream_answer(connection: &mut Connection, usage: bool) -> io::Result<()> {
    connection.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    for at in 0..CHUNKS {
        if at > 0 {
            thread::sleep(GAP);
        }
        let last = at + 1 == CHUNKS;
        let delta = format!("{{\"content\":\" word {at}\"}}");
        let reason = if last { "\"stop\"" } else { "null" };
        let choice = format!("{{\"index\":0,\"delta\":{delta},\"finish_reason\":{reason}}}");
        let mut out = chunk(&event(&choice, ""));
        if last {
            if usage {
                out.push_str(&chunk(&event("", &format!(",\"usage\":{USAGE}"))));
            }
            out.push_str(&chunk("data: [DONE]\n\n"));
            out.push_str("0\r\n\r\n");
        }
        connection.send(out.as_bytes())?;
    }
    Ok(())
}

fn event(choice: &str, more: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\
         \"model\":\"mock\",\"choices\":[{choice}]{more}}}\n\n"
    )
}

fn chunk(event: &str) -> String {
    let mut chunk = String::with_capacity(event.len() + 8);
    let _ = write!(chunk, "{:x}\r\n{event}\r\n", event.len());
    chunk
}
