//! Who is asked next: names, candidates, retries, fallbacks, cooldown.
//!
//! Pure: no clock, no randomness and no IO of its own. Time and entropy are arguments, and all
//! it may know about the world is a [`View`]. Knows deployments only by their position.

pub mod attempts;
pub mod budget;
mod chance;
pub mod cooldown;
pub mod explain;
#[cfg(test)]
mod fixture;
pub mod fleet;
pub mod hedge;
pub mod latency;
pub mod limit;
pub mod pick;
pub mod strategy;
pub mod streams;
pub mod table;
pub mod view;

pub use attempts::patience::Patience;
pub use attempts::retry::Income;
pub use attempts::{
    Action, Ask, Attempts, Busy, Hedged, Late, Launch, Outcome, Role, TryId, Verdict,
};
pub use budget::Budget;
pub use limit::{Exceeded, Limit};
pub use pick::NoCandidate;
pub use strategy::{Shape, Strategy};
pub use table::{Domain, Group, Member, Policy, Rates, Resolved, RouteTable, Settings};
pub use view::{Effort, Kind, Outlook, View, Vitals};
