//! Facts about models that are compiled in: limits, capabilities and prices.
//!
//! Promises one lookup by name and no state. Prices change; a configuration's own prices win
//! (see [`crate::config`]).

use crate::lexicon::{PicoUsd, Tokens};

/// What is known about a model. Absent means: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Model {
    /// The longest prompt it takes.
    pub max_input: Option<Tokens>,
    /// The longest answer it gives.
    pub max_output: Option<Tokens>,
    /// Capability letters as in the table, for [`Model::can`].
    pub capabilities: &'static str,
    /// What it costs.
    pub price: Price,
}

impl Model {
    /// Whether the table names a capability by its letter: `v` vision, `t` tools, `k`
    /// `tool_choice`, `p` parallel tool calls, `j` JSON schema, `r` reasoning, `c` prompt cache,
    /// `a`/`A` audio in/out, `d` PDF, `w` web search, `u` computer use, `f` prefill, `s` system
    /// messages, `V` video.
    pub fn can(&self, letter: char) -> bool {
        self.capabilities.contains(letter)
    }
}

/// Prices per token. Absent means: not known; a part without a price of its own costs what its
/// whole costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    /// Prompt.
    pub input: Option<PicoUsd>,
    /// Answer.
    pub output: Option<PicoUsd>,
    /// Prompt from the cache.
    pub cache_read: Option<PicoUsd>,
    /// Prompt into the cache, for minutes.
    pub cache_write: Option<PicoUsd>,
    /// Prompt into the cache, for an hour.
    pub cache_write_1h: Option<PicoUsd>,
    /// Reasoning.
    pub reasoning: Option<PicoUsd>,
    /// Audio in the prompt.
    pub audio_in: Option<PicoUsd>,
    /// Audio in the answer.
    pub audio_out: Option<PicoUsd>,
    /// Prices of long prompts, for the whole request, in the table's form:
    /// `threshold:i=..;o=..;cr=..`, several joined by `|`.
    pub tiers: &'static str,
}
