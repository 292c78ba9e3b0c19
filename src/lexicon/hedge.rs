//! Whether late requests are hedged.

/// A mode of hedging, as the configuration and a request's header name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeMode {
    /// No, and nothing is said about them.
    Disabled,
    /// Yes.
    Enabled,
    /// No, but it is counted who would have been.
    Observe,
}

impl HedgeMode {
    /// All names. None is `on` or `off`: YAML 1.1 reads those as booleans.
    pub const NAMES: &'static str = "one of disabled, enabled, observe";

    /// A mode by its name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "disabled" => Some(Self::Disabled),
            "enabled" => Some(Self::Enabled),
            "observe" => Some(Self::Observe),
            _ => None,
        }
    }
}
