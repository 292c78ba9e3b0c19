//! Whether a failure takes its deployment out of traffic, and for how long.
//!
//! Two rules, one per model group: Pillion's [`breaker`], and `LiteLLM`'s where the file sets a
//! field of that rule. They know nothing of each other.

use std::time::Duration;

pub mod breaker;
mod litellm;

pub use breaker::Breaker;
pub(super) use litellm::allowed;
pub use litellm::{Evidence, judge};

/// Who decides about cooldowns in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// `litellm`: a pause of fixed length; a group may be without anybody.
    LiteLlm,
    /// `none`: nobody.
    None,
    /// `pillion`: the [`breaker`]; never the last one of a group.
    #[default]
    Pillion,
}

/// A provider that asks for more than this is asked again after it all the same.
const LONGEST_WISH: Duration = Duration::from_secs(3600);
