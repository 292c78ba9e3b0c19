//! A body in pieces: edits replace pieces instead of copying the whole.
//!
//! Cloning counts references, so every retry carries the same bytes.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;

/// Below this size one contiguous copy costs less than a vectored write.
const FLATTEN_BELOW: usize = 16 * 1024;

/// An ordered list of byte pieces that reads as one body.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    pieces: SmallVec<[Bytes; 5]>,
    length: usize,
}

impl Rope {
    /// An empty body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a piece at the end; empty pieces are not kept.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.pieces.push(piece);
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The same bytes in one piece; copies only if there are several.
    pub fn to_bytes(&self) -> Bytes {
        match self.pieces.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            pieces => {
                let mut whole = BytesMut::with_capacity(self.length);
                for piece in pieces {
                    whole.put_slice(piece);
                }
                whole.freeze()
            }
        }
    }

    /// How many of its bytes are not a part of `whole` in memory: what it takes beside that.
    pub fn len_beside(&self, whole: &Bytes) -> usize {
        let own = whole.as_ptr_range();
        let others = self.pieces.iter().filter(|piece| !own.contains(&piece.as_ptr()));
        others.map(Bytes::len).sum()
    }

    /// The same bytes in the form that is cheapest to write: short bodies in one piece.
    #[must_use]
    pub fn settled(self) -> Self {
        if self.pieces.len() > 1 && self.length < FLATTEN_BELOW {
            Self::from(self.to_bytes())
        } else {
            self
        }
    }
}

impl From<Bytes> for Rope {
    fn from(whole: Bytes) -> Self {
        let mut rope = Self::new();
        rope.push(whole);
        rope
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.first().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, piece) in into.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.length = self.length.saturating_sub(count);
        while let Some(first) = self.pieces.first_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.pieces.remove(0);
        }
    }
}

/// A rope as a request body: one frame, its length known. In a box, because a request is moved from
/// hand to hand before it is written.
#[derive(Debug, Clone, Default)]
pub struct RopeBody(Option<Box<Rope>>);

impl From<Rope> for RopeBody {
    fn from(rope: Rope) -> Self {
        Self((!rope.is_empty()).then(|| Box::new(rope)))
    }
}

impl Body for RopeBody {
    type Data = Rope;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Rope>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|rope| Ok(Frame::data(*rope))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |rope| rope.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rope_of(pieces: &[Vec<u8>]) -> Rope {
        let mut rope = Rope::new();
        for piece in pieces {
            rope.push(Bytes::from(piece.clone()));
        }
        rope
    }

    proptest! {
        #[test]
        fn a_rope_reads_as_its_pieces_in_any_steps(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..7),
            step in 1usize..5,
        ) {
            let whole: Vec<u8> = pieces.concat();
            let mut rope = rope_of(&pieces);
            prop_assert_eq!(rope.to_bytes(), whole.clone());
            prop_assert_eq!(rope.clone().settled().to_bytes(), whole.clone());
            let mut read = Vec::new();
            while rope.has_remaining() {
                let take = step.min(rope.chunk().len());
                read.extend_from_slice(&rope.chunk()[..take]);
                rope.advance(take);
            }
            prop_assert_eq!(read, whole);
        }
    }
}
