//! Who is asked next: names, candidates, retries, fallbacks, cooldown.
//!
//! Pure: no clock, no randomness and no IO of its own. Time and entropy are arguments, and all
//! it may know about the world is a [`View`]. Knows deployments only by their position.

pub mod attempts;
mod chance;
pub mod cooldown;
pub mod pick;
pub mod strategy;
pub mod table;
pub mod view;

pub use attempts::{Action, Ask, Attempts, Launch, Outcome, TryId, Verdict};
pub use pick::NoCandidate;
pub use table::{Group, Member, Policy, Resolved, RouteTable, Settings};
pub use view::{View, Vitals};
