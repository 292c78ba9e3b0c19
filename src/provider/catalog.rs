//! Placeholder.

/// A provider.
#[derive(Debug)]
pub struct Vendor {
    /// The prefix in `provider/model`.
    pub prefix: &'static str,
}
