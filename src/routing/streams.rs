//! What becomes of a stream that breaks off after its first content: the settings.

use std::time::Duration;

/// `pillion.streams`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `recovery`.
    pub recovery: Recovery,
    /// How much of a stream is kept back where `recovery` is `hold`.
    pub window: Window,
}

/// How a stream that breaks off goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recovery {
    /// A model that can is asked to write on behind what was sent.
    Continue,
    /// Its beginning is kept back; a break before it is released is a failed try as any other.
    Hold,
    /// Not at all: it ends with an error.
    #[default]
    None,
    /// It is asked for once more, and goes on if the second begins with what was sent of the first.
    Restart,
}

impl Recovery {
    /// Their names, for those who wrote another one.
    pub const NAMES: &'static str = "one of continue, hold, none, restart";

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "continue" => Some(Self::Continue),
            "hold" => Some(Self::Hold),
            "none" => Some(Self::None),
            "restart" => Some(Self::Restart),
            _ => None,
        }
    }
}

/// The beginning of a stream that is kept back: it ends with the first of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// So many events with content, which of most providers are tokens.
    pub tokens: u32,
    /// So long after the first of them.
    pub time: Duration,
}

impl Settings {
    /// How much of a stream is kept back; `None` where nothing is.
    pub fn held(&self) -> Option<Window> {
        match self.recovery {
            Recovery::Hold => Some(self.window),
            Recovery::Continue | Recovery::None | Recovery::Restart => None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let window = Window { tokens: 16, time: Duration::from_millis(300) };
        Self { recovery: Recovery::default(), window }
    }
}
