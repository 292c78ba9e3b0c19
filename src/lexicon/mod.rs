//! The nouns every other module shares.
//!
//! Promises plain data with no IO and no clock but the one in [`time`]. Imports nothing of ours.

pub mod amount;
pub mod cooldown;
pub mod count;
pub mod failure;
pub mod hedge;
pub mod id;
pub mod mapping;
pub mod secret;
pub mod substitute;
pub mod time;

pub use amount::{PicoUsd, Tokens};
pub use cooldown::CooldownState;
pub use failure::{Class, Failure};
pub use hedge::HedgeMode;
pub use id::{DeploymentIx, Fingerprint, GroupIx};
pub use secret::Secret;
pub use substitute::Substitute;
