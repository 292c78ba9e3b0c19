//! Facts about models that are compiled in: limits, capabilities and prices.
//!
//! Promises one lookup by name and no state. Prices change; a configuration's own prices win
//! (see [`crate::config`]).

mod name;
mod table;
mod tier;

#[cfg(test)]
mod derive;

use crate::lexicon::{PicoUsd, Tokens};

/// What is known about a model that a vendor serves; `None` where the table has no such name.
///
/// Tried in this order: `vendor/model`, the same under the vendor's other names, `model` where
/// it carries a prefix of its own, and then all of them without a date at the end of the name.
/// Allocates nothing.
pub fn lookup(vendor: &str, model: &str) -> Option<Model> {
    let known = |model| {
        name::keys(vendor, model).find_map(|(prefix, rest)| table::row(prefix, rest)?.model())
    };
    known(model).or_else(|| known(name::undated(model)?))
}

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
    /// `threshold:i=..;o=..;cr=..`, several joined by `|`, in dollars per million tokens.
    /// [`Price::of_prompt`] reads it.
    pub tiers: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(vendor: &str, model: &str, want: Option<(u64, u64)>) {
        let got = lookup(vendor, model).map(|found| {
            (found.price.input.unwrap_or_default().0, found.price.output.unwrap_or_default().0)
        });
        assert_eq!(got, want, "{vendor} {model}");
    }

    #[test]
    fn a_model_is_found_under_every_name_it_goes_by() {
        let gpt_4o = Some((2_500_000, 10_000_000));
        check("openai", "gpt-4o", gpt_4o);
        check("openai", "openai/gpt-4o", gpt_4o);
        check("azure", "azure/gpt-4o", gpt_4o);
        check("litellm_proxy", "openai/gpt-4o", gpt_4o);
        check("openai", "gpt-4o-2031-01-01", gpt_4o);
        check("cohere", "command-a-03-2025", Some((2_500_000, 10_000_000)));
        check("cohere_chat", "embed-v4.0", Some((120_000, 0)));
        check("anthropic", "claude-sonnet-4-5", Some((3_000_000, 15_000_000)));
    }

    #[test]
    fn a_date_that_is_known_has_its_own_price() {
        check("azure", "gpt-4o-2024-05-13", Some((5_000_000, 15_000_000)));
    }

    #[test]
    fn what_only_looks_like_a_model_has_no_price() {
        check("openai", "gpt-4o-2024-99-99", None);
        check("custom_openai", "gpt-4o", None);
        check("litellm_proxy", "gpt-4o", None);
        check("openai", "", None);
        check("", "gpt-4o", None);
        check("", "", None);
    }

    #[test]
    fn limits_and_capabilities_come_along() {
        let model = lookup("openai", "gpt-4o").unwrap();
        assert_eq!((model.max_input, model.max_output), (Some(128_000), Some(16_384)));
        assert!(model.can('v') && model.can('t') && !model.can('A'));
        assert_eq!(model.price.cache_read, Some(PicoUsd(1_250_000)));
    }

    #[test]
    fn a_long_prompt_of_grok_begins_at_the_threshold() {
        let grok = lookup("xai", "grok-4.5").unwrap().price;
        assert_eq!(grok.of_prompt(199_999).input, grok.input);
        assert_ne!(grok.of_prompt(200_000).input, grok.input);
        let gemini = lookup("gemini", "gemini-2.5-pro").unwrap().price;
        assert_eq!(gemini.of_prompt(200_000).input, gemini.input);
        assert_eq!(gemini.of_prompt(200_001).input, Some(PicoUsd(2_500_000)));
    }

    proptest! {
        #[test]
        fn no_name_is_too_strange_to_look_up(vendor in "\\PC{0,12}", model in "\\PC{0,40}") {
            lookup(&vendor, &model);
            lookup("azure", &format!("{model}-2024-01-01"));
        }
    }
}
