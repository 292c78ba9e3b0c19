//! What must be true of any bytes from outside, as functions that panic where it is not.
//!
//! The fuzz targets call them with what they can think of, and `tests/it` with the seeds, so that
//! they are built and hold on every machine. An input that once broke one is kept as a seed.

mod answers;
mod config;
mod gossip;
mod heard;
mod peek;
mod sse;
mod streams;
mod watched;

pub use answers::assemble;
pub use config::config;
pub use gossip::gossip;
pub use peek::peek;
pub use sse::sse;
pub use streams::{anthropic_stream, openai_stream};
pub use watched::watch;

use bytes::Bytes;
use pillion::protocol::sse::Framer;

/// The events in `bytes` when they come all at once, or cut as `cuts` says; the last one may lack
/// its blank line.
fn events(chunks: &[&[u8]]) -> Vec<Bytes> {
    let mut framer = Framer::new();
    let mut events = Vec::new();
    for chunk in chunks {
        framer.push(Bytes::copy_from_slice(chunk)).expect("a fuzzer's inputs are short");
        while let Some(event) = framer.next() {
            events.push(event);
        }
    }
    events.extend(framer.rest());
    events
}

/// The bytes in pieces: one by one, and by lengths that the bytes themselves decide.
fn cuts(bytes: &[u8]) -> [Vec<&[u8]>; 2] {
    let mut seed = bytes.iter().fold(0x9E37_79B9_u32, |seed, byte| {
        (seed ^ u32::from(*byte)).wrapping_mul(0x0100_0193).rotate_left(5)
    });
    let mut rest = bytes;
    let mut uneven = Vec::new();
    while !rest.is_empty() {
        seed = seed.wrapping_mul(0x0019_660D).wrapping_add(0x3C6E_F35F);
        let length = usize::try_from(seed >> 27).unwrap_or(0).clamp(1, rest.len());
        let (piece, behind) = rest.split_at(length);
        uneven.push(piece);
        rest = behind;
    }
    [bytes.chunks(1).collect(), uneven]
}
