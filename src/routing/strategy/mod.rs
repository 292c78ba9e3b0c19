//! Who of the candidates is asked.

use smallvec::SmallVec;

use super::table::Member;

pub(super) mod simple_shuffle;

/// The members of a group that are left after the filters.
pub(super) type Candidates<'g> = SmallVec<[&'g Member; 8]>;
