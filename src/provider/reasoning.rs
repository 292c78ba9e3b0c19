//! What OpenAI's reasoning models do not take.
//!
//! Where parameters may be dropped these are; else they go as they are, and the provider's own
//! error names them. Observed by LiteLLM 1.109.1 for `o3` and `gpt-5.2`.

/// A family of models with the same rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Gpt5,
    OSeries,
}

/// The family of a model, if it is a reasoning model.
pub(super) fn family(model: &str) -> Option<Family> {
    let name = model.strip_prefix("ft:").unwrap_or(model);
    let starts_version = |series: &str| {
        let rest = name.strip_prefix(series);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', ':']))
    };
    if ["o1", "o3", "o4"].into_iter().any(starts_version) {
        return Some(Family::OSeries);
    }
    let chats = name.contains("-chat");
    (!chats && ["gpt-5", "gpt-6"].into_iter().any(starts_version)).then_some(Family::Gpt5)
}

impl Family {
    /// Whether a model of the family answers this parameter with an error.
    pub(super) fn refuses(self, name: &str, value: &[u8]) -> bool {
        match self {
            Self::OSeries => match name {
                "frequency_penalty"
                | "logprobs"
                | "parallel_tool_calls"
                | "presence_penalty"
                | "top_logprobs"
                | "top_p" => true,
                "temperature" => !matches!(value, b"1" | b"1.0" | b"null"),
                _ => false,
            },
            Self::Gpt5 => matches!(
                name,
                "audio"
                    | "frequency_penalty"
                    | "logit_bias"
                    | "modalities"
                    | "prediction"
                    | "presence_penalty"
                    | "stop"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_by_their_names() {
        assert_eq!(family("o3-mini"), Some(Family::OSeries));
        assert_eq!(family("gpt-5.2"), Some(Family::Gpt5));
        assert_eq!(family("gpt-5-chat-latest"), None);
        assert_eq!(family("gpt-4o"), None);
        assert_eq!(family("o3x"), None);
    }

    #[test]
    fn the_usual_temperature_is_no_offence() {
        assert!(!Family::OSeries.refuses("temperature", b"1"));
        assert!(Family::OSeries.refuses("temperature", b"0.2"));
    }
}
