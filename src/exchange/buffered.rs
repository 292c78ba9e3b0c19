//! The memory that bodies take: of requests from their first byte until nobody can be asked again,
//! and of answers that come in one piece until the client has them.
//!
//! Promises that the sum is bounded: a request is let in only where its body fits, and what runs
//! may take as much again. Part of that are the copies that are made on the way: of a request in
//! another dialect or with a prefill, until its answer begins, and of an answer in another dialect
//! or under another name; and what a stream keeps: the events before its first content, the
//! beginning that is held, half an event, and what was sent where it is to be compared.
//!
//! Not counted, and bounded otherwise: what is taken apart while it is translated, which no task
//! waits in the middle of, so that there are as many as there are threads; what a connection reads
//! ahead, by its buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// All bytes that are held.
#[derive(Debug, Default)]
pub(super) struct Buffered(AtomicU64);

/// There is no memory left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Buffered {
    /// How many.
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Nothing yet; it grows as long as no more than `most` are held by all together.
    pub(super) fn hold(self: &Arc<Self>, most: u64) -> Hold {
        Hold { all: self.clone(), own: 0, most }
    }
}

/// The bytes of one body. Dropping it gives them back.
#[must_use = "the bytes count as held while this lives"]
#[derive(Debug)]
pub(super) struct Hold {
    all: Arc<Buffered>,
    own: u64,
    most: u64,
}

impl Hold {
    /// Holds some more, if there is room.
    pub(super) fn grow(&mut self, more: u64) -> Result<(), NoRoom> {
        let before = self.all.0.fetch_add(more, Ordering::Relaxed);
        // Counted first and checked then, so that two can never both take the last room.
        if before.saturating_add(more) > self.most {
            self.all.0.fetch_sub(more, Ordering::Relaxed);
            return Err(NoRoom);
        }
        self.own += more;
        Ok(())
    }

    /// Holds at least so many.
    pub(super) fn grow_to(&mut self, bytes: u64) -> Result<(), NoRoom> {
        match bytes.checked_sub(self.own) {
            None | Some(0) => Ok(()),
            Some(more) => self.grow(more),
        }
    }

    /// Holds exactly so many.
    pub(super) fn fit(&mut self, bytes: u64) -> Result<(), NoRoom> {
        match self.own.checked_sub(bytes) {
            None => self.grow_to(bytes),
            Some(0) => Ok(()),
            Some(less) => {
                self.all.0.fetch_sub(less, Ordering::Relaxed);
                self.own = bytes;
                Ok(())
            }
        }
    }

    /// What it holds, in a hold of its own; nothing is left in this one.
    pub(super) fn take(&mut self) -> Self {
        Self { all: self.all.clone(), own: std::mem::take(&mut self.own), most: self.most }
    }

    /// These bytes, held as long as any part of them lives. What was held is corrected to their
    /// length: they are there already.
    pub(super) fn keep(mut self, bytes: Bytes) -> Bytes {
        let length = bytes.len() as u64;
        match length.checked_sub(self.own) {
            Some(0) => {}
            Some(more) => _ = self.all.0.fetch_add(more, Ordering::Relaxed),
            None => _ = self.all.0.fetch_sub(self.own - length, Ordering::Relaxed),
        }
        self.own = length;
        Bytes::from_owner(Kept { bytes, _hold: self })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Most streams hold nothing, and the count is shared by all.
        if self.own > 0 {
            self.all.0.fetch_sub(self.own, Ordering::Relaxed);
        }
    }
}

/// Bytes with their hold.
struct Kept {
    bytes: Bytes,
    _hold: Hold,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let all = Arc::new(Buffered::default());
        let (mut one, mut other) = (all.hold(100), all.hold(100));
        assert_eq!((one.grow(60), other.grow(40), other.grow(1)), (Ok(()), Ok(()), Err(NoRoom)));
        assert_eq!(all.bytes(), 100);
        assert_eq!((one.grow_to(60), one.grow_to(61)), (Ok(()), Err(NoRoom)));
        drop(one);
        assert_eq!((all.bytes(), other.grow_to(100)), (100 - 60, Ok(())));
        let mut fitting = all.hold(100);
        assert_eq!((fitting.fit(1), other.fit(60), fitting.fit(40)), (Err(NoRoom), Ok(()), Ok(())));
        assert_eq!((all.bytes(), fitting.fit(41), fitting.fit(0)), (100, Err(NoRoom), Ok(())));
        assert_eq!(other.fit(100), Ok(()));
        let mut answer = all.hold(200);
        assert_eq!((answer.grow(100), answer.grow(1)), (Ok(()), Err(NoRoom)));
        drop((other, answer));
        assert_eq!(all.bytes(), 0);
    }

    #[test]
    fn bytes_are_held_until_their_last_part_is_gone() {
        let all = Arc::new(Buffered::default());
        let mut hold = all.hold(100);
        hold.grow(50).unwrap();
        let bytes = hold.keep(Bytes::from_static(b"0123456789"));
        assert_eq!((all.bytes(), &bytes[..]), (10, &b"0123456789"[..]));
        let part = bytes.slice(2..4);
        drop(bytes);
        assert_eq!((all.bytes(), &part[..]), (10, &b"23"[..]));
        drop(part);
        assert_eq!(all.bytes(), 0);
    }
}
