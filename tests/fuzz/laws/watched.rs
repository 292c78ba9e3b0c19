//! A stream is judged by its events, wherever they are cut, and what was lost stays lost.

use pillion::protocol::Endpoint;
use pillion::protocol::watch::{Sign, Watch};

use super::{cuts, events};

/// The watch over the streams of every endpoint.
pub fn watch(bytes: &[u8]) {
    for endpoint in Endpoint::ALL {
        let whole = judged(endpoint, &[bytes]);
        for cut in cuts(bytes) {
            assert_eq!(judged(endpoint, &cut), whole, "where the bytes are cut matters");
        }
        let (signs, is_whole) = whole;
        let loses = signs.iter().any(|sign| matches!(sign, Sign::Garbled | Sign::Lost));
        assert!(!(loses && is_whole), "{signs:?}");
    }
}

/// What each event means, up to the end mark, and whether the answer is whole then.
fn judged(endpoint: Endpoint, chunks: &[&[u8]]) -> (Vec<Sign>, bool) {
    let (mut watch, mut signs) = (Watch::new(endpoint), Vec::new());
    for event in events(chunks) {
        signs.push(watch.event(&event));
        if signs.last() == Some(&Sign::Done) {
            break;
        }
    }
    (signs, watch.is_whole())
}
