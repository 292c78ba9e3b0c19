//! How far a deployment is kept away from traffic.

/// The state of a deployment's cooldown, in the words of circuit breakers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CooldownState {
    /// It gets its traffic.
    #[default]
    Closed,
    /// Its pause is over, and probes have to show that it is well.
    HalfOpen,
    /// It gets no traffic.
    Open,
}

impl CooldownState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The word for labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}
