//! What sidecars tell each other, and how what two of them know joins.
//!
//! Every join commutes, associates and is idempotent, so that it does not matter who hears what
//! from whom, how often and in which order. What is told by one about another is signed with an
//! [`Origin`](super::identity::Origin), not proven: facts are advice among those who share a key.

pub mod card;
pub mod cooldown;
pub mod evidence;
pub mod quota;

/// What hearing something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Something: others shall hear it, too.
    News,
    /// Nothing.
    Old,
}
