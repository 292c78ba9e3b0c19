//! Whether a failure takes its deployment out of traffic, and for how long.

use std::time::Duration;

mod litellm;

pub(super) use litellm::allowed;
pub use litellm::{Evidence, judge};

/// A provider that asks for more than this is asked again after it all the same.
const LONGEST_WISH: Duration = Duration::from_secs(3600);
