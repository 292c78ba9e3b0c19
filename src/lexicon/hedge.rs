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
        [Self::Disabled, Self::Enabled, Self::Observe].into_iter().find(|it| it.as_str() == name)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Observe => "observe",
        }
    }
}
