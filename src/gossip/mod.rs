//! Sidecars tell each other what they see: no leader, no store, nothing else to operate.
//!
//! At its core a machine without IO: [`Node`] is told what this sidecar has seen ([`Witness`]), which datagrams
//! came and how late it is; it says which datagrams go out and what all sidecars together know
//! ([`FleetView`]). Time, entropy and the wall clock are arguments.
//!
//! What is said is advice. Whoever hears nothing, or nonsense, decides by what it knows itself.
//! Nothing here grows with what others send: members by their number, deployments, rumours and
//! drops have bounds. What nobody says again fades or is forgotten.
//!
//! * [`identity`] who speaks: an address and a life of one process;
//! * [`seal`] datagrams that only those with a key can make or read, once;
//! * [`wire`] the records in them;
//! * [`member`] who is there, by the foca crate;
//! * [`push_sum`] latency and load: sums that wander until everybody has the mean;
//! * [`fact`] cooldowns, evidence of failures, cards: how each joins;
//! * [`rumor`] how news of them reach everybody within a second;
//! * [`limits`] rate limits that hold for all, by owners who add up;
//! * [`fleet`] all that was heard, as one view;
//! * [`saved`] what outlives the process;
//! * [`node`] joins them.
//!
//! Around it, what touches the world:
//!
//! * [`plane`] the timers, and what runs all of it;
//! * [`socket`] datagrams in and out;
//! * [`discovery`] where others are, by addresses and the DNS;
//! * [`key_file`] the shared keys;
//! * [`state`] what is kept on disk.
//!
//! [`Witness`]: crate::routing::fleet::Witness
//! [`FleetView`]: crate::routing::fleet::FleetView

pub mod discovery;
pub mod fact;
pub mod fleet;
pub mod identity;
pub mod key_file;
pub mod limits;
pub mod member;
pub mod node;
pub mod plane;
pub mod push_sum;
pub mod rumor;
pub mod saved;
pub mod seal;
pub mod socket;
pub mod state;
pub mod wire;

pub use fact::card::Card;
pub use identity::{Boot, Identity};
pub use member::Health;
pub use node::{Counts, MemberSeen, Node, Settings, Start};
pub use saved::Unreadable;
pub use seal::{Keys, NoKey, Refused};
pub use wire::Mood;
