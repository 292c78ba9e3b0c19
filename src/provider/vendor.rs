//! What is known of one provider: a row of the [catalogue](super::catalog).

use crate::protocol::Endpoint;

/// One provider.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact of a table row")]
pub struct Vendor {
    /// The prefix in `provider/model`.
    pub prefix: &'static str,
    /// Whose words it speaks.
    pub wire: Wire,
    /// Its usual address; empty where there is none and the configuration must say it.
    pub base: &'static str,
    /// The variables that may say another address, in order.
    pub base_env: &'static [&'static str],
    /// The variables that may hold its key, in order.
    pub key_env: &'static [&'static str],
    /// Whether it can be called without a key.
    pub key: Key,
    /// How the key is sent.
    pub auth: Auth,
    /// What it serves.
    pub serves: Serves,
    /// The path of chat completions below the base.
    pub chat_path: &'static str,
    /// The path of text completions below the base.
    pub completions_path: &'static str,
    /// Whether all paths begin with `/v1`, because the base is a bare host.
    pub v1_paths: bool,
    /// Parameters of chats that LiteLLM knows it not to take: left out where that is allowed.
    pub refuses: &'static [&'static str],
    /// Whether the provider's own documents say the same. If so, a request with one of them is
    /// refused here; else it is sent, and the provider's own error names what it does not take.
    pub strict: bool,
    /// Parameters that mean nothing to the answer and that it answers with an error; left out.
    pub ignores: &'static [&'static str],
    /// Parameters it knows by another name.
    pub renames: &'static [(&'static str, &'static str)],
    /// Whether it takes `stream_options`.
    pub stream_options: bool,
    /// Whether it takes the role `developer`; others get `system`.
    pub developer: bool,
    /// Whether `tool_choice: required` is `any` there.
    pub required_is_any: bool,
    /// Headers of every call.
    pub headers: &'static [(&'static str, &'static str)],
}

/// Whose words a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's, at Azure's addresses.
    Azure,
    /// OpenAI's.
    OpenAi,
}

/// Whether a key is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Servers in one's own house often ask for none.
    Optional,
    /// Without one nothing is sent.
    Required,
}

/// How a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `x-api-key`, but `Authorization: Bearer` for OAuth tokens.
    Anthropic,
    /// `Authorization: Bearer`.
    Bearer,
    /// A header of its own.
    Header(&'static str),
}

/// A set of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serves(u8);

impl Serves {
    /// Chat completions.
    pub const CHAT: Self = Self::only(Endpoint::ChatCompletions);
    /// Text completions.
    pub const COMPLETIONS: Self = Self::only(Endpoint::Completions);
    /// Embeddings.
    pub const EMBEDDINGS: Self = Self::only(Endpoint::Embeddings);
    /// Messages and the counting of their tokens.
    pub const MESSAGES: Self =
        Self::only(Endpoint::Messages).and(Self::only(Endpoint::CountTokens));
    /// Responses.
    pub const RESPONSES: Self = Self::only(Endpoint::Responses);

    const fn only(endpoint: Endpoint) -> Self {
        Self(1 << endpoint.at())
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the endpoint is one of them.
    pub const fn has(self, endpoint: Endpoint) -> bool {
        self.0 & Self::only(endpoint).0 != 0
    }
}

/// A provider that speaks OpenAI's words and differs in nothing: the rest of most rows.
pub const fn like_openai(prefix: &'static str, base: &'static str) -> Vendor {
    Vendor {
        prefix,
        wire: Wire::OpenAi,
        base,
        base_env: &[],
        key_env: &[],
        key: Key::Required,
        auth: Auth::Bearer,
        serves: Serves::CHAT,
        chat_path: "/chat/completions",
        completions_path: "/completions",
        v1_paths: false,
        refuses: &[],
        strict: false,
        ignores: &[],
        renames: &[],
        stream_options: true,
        developer: false,
        required_is_any: false,
        headers: &[],
    }
}

impl Vendor {
    /// The path of an endpoint below the base.
    pub const fn path(&self, endpoint: Endpoint) -> &'static str {
        match endpoint {
            Endpoint::ChatCompletions => self.chat_path,
            Endpoint::Completions if self.v1_paths => "/v1/completions",
            Endpoint::Completions => self.completions_path,
            Endpoint::Embeddings if self.v1_paths => "/v1/embeddings",
            Endpoint::Responses if self.v1_paths => "/v1/responses",
            Endpoint::CountTokens
            | Endpoint::Embeddings
            | Endpoint::Messages
            | Endpoint::Responses => endpoint.path(),
        }
    }
}

/// Whether a provider goes on, and is paid, when a call is cancelled (§1.6 of the routing study,
/// after the list that `OpenRouter` keeps). Those that are not named stop.
pub fn runs_to_end(prefix: &str) -> bool {
    const GO_ON: [&str; 11] = [
        "ai21",
        "bedrock",
        "dashscope",
        "gemini",
        "groq",
        "minimax",
        "mistral",
        "nebius",
        "perplexity",
        "sambanova",
        "vertex_ai",
    ];
    GO_ON.contains(&prefix)
}
