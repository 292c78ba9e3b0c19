//! A JSON list of texts that are JSON already.

use bytes::{BufMut, Bytes, BytesMut};

/// The list of these values, in their order; none is read.
pub fn json_list(values: &[Bytes]) -> Bytes {
    let length = values.iter().map(|value| value.len() + 1).sum::<usize>() + 2;
    let mut text = BytesMut::with_capacity(length);
    text.put_u8(b'[');
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            text.put_u8(b',');
        }
        text.put_slice(value);
    }
    text.put_u8(b']');
    text.freeze()
}
