//! What an answer used, in one form for every dialect.

use serde::Deserialize;

use crate::lexicon::{PicoUsd, Tokens};

/// Tokens of one answer. Parts are included in their wholes: `prompt` contains the cached,
/// the newly cached and the audio tokens, `completion` contains reasoning and audio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All tokens of the prompt.
    pub prompt: Tokens,
    /// All tokens of the answer.
    pub completion: Tokens,
    /// Prompt tokens read from the provider's cache.
    pub cache_read: Tokens,
    /// Prompt tokens written to the provider's cache for minutes.
    pub cache_write: Tokens,
    /// Prompt tokens written to the provider's cache for an hour; not part of `cache_write`.
    pub cache_write_1h: Tokens,
    /// Answer tokens spent on reasoning.
    pub reasoning: Tokens,
    /// Prompt tokens of audio.
    pub audio_in: Tokens,
    /// Answer tokens of audio.
    pub audio_out: Tokens,
    /// What the provider itself says it costs (`OpenRouter`, Perplexity).
    pub cost: Option<PicoUsd>,
    /// Whether these are our guess because the provider did not say.
    pub estimated: bool,
}

impl Usage {
    /// Reads the `usage` object of an OpenAI-dialect answer: chat, completions, embeddings and
    /// responses all in one. `None` where it is null or no object.
    pub fn from_openai(json: &[u8]) -> Option<Self> {
        let raw: OpenAiUsage = serde_json::from_slice::<Option<_>>(json).ok()??;
        let prompt_details =
            raw.prompt_tokens_details.or(raw.input_tokens_details).unwrap_or_default();
        let completion_details =
            raw.completion_tokens_details.or(raw.output_tokens_details).unwrap_or_default();
        let prompt = raw.prompt_tokens.or(raw.input_tokens);
        let completion = raw.completion_tokens.or(raw.output_tokens);
        if prompt.is_none() && completion.is_none() && raw.total_tokens.is_none() {
            return None;
        }
        let completion = completion.unwrap_or(0);
        let prompt =
            prompt.unwrap_or_else(|| raw.total_tokens.unwrap_or(0).saturating_sub(completion));
        Some(Self {
            prompt,
            completion,
            cache_read: prompt_details
                .cached_tokens
                .or(raw.prompt_cache_hit_tokens)
                .or(raw.cache_read_input_tokens)
                .unwrap_or(0),
            cache_write: prompt_details
                .cache_creation_tokens
                .or(raw.cache_creation_input_tokens)
                .unwrap_or(0),
            cache_write_1h: 0,
            reasoning: completion_details.reasoning_tokens.unwrap_or(0),
            audio_in: prompt_details.audio_tokens.unwrap_or(0),
            audio_out: completion_details.audio_tokens.unwrap_or(0),
            cost: raw.cost.and_then(Cost::usd).and_then(PicoUsd::from_usd),
            estimated: false,
        })
    }

    /// Adds what an Anthropic `usage` object says; later numbers of a stream replace earlier
    /// ones, and absent ones leave them. Returns whether the object was one.
    pub fn merge_anthropic(&mut self, json: &[u8]) -> bool {
        let Ok(Some(raw)) = serde_json::from_slice::<Option<AnthropicUsage>>(json) else {
            return false;
        };
        let before = self.cache_read + self.cache_write + self.cache_write_1h;
        let fresh = raw.input_tokens.unwrap_or(self.prompt.saturating_sub(before));
        if let Some(read) = raw.cache_read_input_tokens {
            self.cache_read = read;
        }
        if let Some(written) = raw.cache_creation_input_tokens {
            let hour = raw.cache_creation.and_then(|by| by.ephemeral_1h_input_tokens).unwrap_or(0);
            self.cache_write_1h = hour.min(written);
            self.cache_write = written - self.cache_write_1h;
        }
        self.prompt = fresh + self.cache_read + self.cache_write + self.cache_write_1h;
        if let Some(output) = raw.output_tokens {
            self.completion = output;
        }
        if let Some(thinking) =
            raw.output_tokens_details.and_then(|details| details.thinking_tokens)
        {
            self.reasoning = thinking;
        }
        true
    }

    /// All tokens.
    pub const fn total(&self) -> Tokens {
        self.prompt.saturating_add(self.completion)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OpenAiUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    input_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    output_tokens_details: Option<CompletionDetails>,
    prompt_cache_hit_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cost: Option<Cost>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the wire's own names")]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_creation_tokens: Option<u64>,
    audio_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
}

/// `OpenRouter` says a number, Perplexity an object; what is neither is not read as a price.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Cost {
    Usd(f64),
    Parts { total_cost: f64 },
    Other(serde::de::IgnoredAny),
}

impl Cost {
    fn usd(self) -> Option<f64> {
        match self {
            Self::Usd(usd) | Self::Parts { total_cost: usd } => Some(usd),
            Self::Other(_) => None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AnthropicUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    output_tokens_details: Option<AnthropicOutputDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AnthropicOutputDetails {
    thinking_tokens: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openai_usage_is_read_in_all_its_spellings() {
        let chat = br#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,
            "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":1},
            "completion_tokens_details":{"reasoning_tokens":3}}"#;
        let usage = Usage::from_openai(chat).unwrap();
        assert_eq!((usage.prompt, usage.completion, usage.cache_read), (10, 5, 4));
        assert_eq!((usage.reasoning, usage.audio_in), (3, 1));
        let responses =
            br#"{"input_tokens":7,"output_tokens":2,"input_tokens_details":{"cached_tokens":1}}"#;
        let usage = Usage::from_openai(responses).unwrap();
        assert_eq!((usage.prompt, usage.completion, usage.cache_read), (7, 2, 1));
        assert_eq!(Usage::from_openai(b"null"), None);
        assert_eq!(Usage::from_openai(b"{}"), None);
    }

    #[test]
    fn a_price_in_the_usage_is_read_as_number_or_object() {
        let cost = |json: &str| Usage::from_openai(json.as_bytes()).unwrap().cost;
        assert_eq!(cost(r#"{"prompt_tokens":1,"cost":0.5}"#), PicoUsd::from_usd(0.5));
        assert_eq!(
            cost(r#"{"prompt_tokens":1,"cost":{"total_cost":0.25,"x":1}}"#),
            PicoUsd::from_usd(0.25)
        );
        assert_eq!(cost(r#"{"prompt_tokens":1,"cost":"free"}"#), None);
    }

    #[test]
    fn anthropic_usage_adds_its_parts_and_merges_over_a_stream() {
        let mut usage = Usage::default();
        assert!(usage.merge_anthropic(
            br#"{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":6,
                "cache_creation":{"ephemeral_1h_input_tokens":2},"output_tokens":1}"#
        ));
        assert_eq!((usage.prompt, usage.completion), (19, 1));
        assert_eq!((usage.cache_write, usage.cache_write_1h), (4, 2));
        assert!(usage.merge_anthropic(br#"{"output_tokens":40}"#));
        assert_eq!((usage.prompt, usage.completion), (19, 40));
    }
}
