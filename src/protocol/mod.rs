//! What the wires say: endpoints, bodies, events, usage and errors of each dialect.
//!
//! Pure: bytes in, facts out, and back. Knows no provider, no configuration and no socket.

pub mod anthropic;
pub mod assemble;
pub mod fault;
pub mod fields;
pub mod list;
pub mod name;
pub mod openai;
pub mod rope;
mod scan;
pub mod seam;
pub mod sse;
pub mod turn;
pub mod usage;
pub mod watch;

use std::time::Duration;

use bytes::Bytes;

use crate::lexicon::{HedgeMode, Substitute};

pub use assemble::Assembly;
pub use fault::Fault;
pub use fields::{Edits, Fields, NotAnObject};
pub use list::json_list;
pub use rope::{Rope, RopeBody};
pub use usage::Usage;

/// Whose rules a body, an event or an error follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Anthropic's Messages API.
    Anthropic,
    /// `OpenAI`'s API.
    OpenAi,
}

/// An operation that a deployment may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/responses`
    Responses,
}

impl Endpoint {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 6] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::CountTokens,
        Self::Embeddings,
        Self::Messages,
        Self::Responses,
    ];

    /// Position in [`ALL`](Self::ALL), for tables by endpoint.
    pub const fn at(self) -> usize {
        self as usize
    }

    /// The dialect its callers speak.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::CountTokens | Self::Messages => Dialect::Anthropic,
            Self::ChatCompletions | Self::Completions | Self::Embeddings | Self::Responses => {
                Dialect::OpenAi
            }
        }
    }

    /// The path below `/v1`, which also names it in messages and labels.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::CountTokens => "/messages/count_tokens",
            Self::Embeddings => "/embeddings",
            Self::Messages => "/messages",
            Self::Responses => "/responses",
        }
    }

    /// The word for labels and logs, after OpenTelemetry's `gen_ai.operation.name` where it has
    /// one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat",
            Self::Completions => "text_completion",
            Self::CountTokens => "count_tokens",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::Responses => "responses",
        }
    }
}

/// A request as its body says it, read but not parsed. The fields that only a gateway acts on
/// are already taken out of `body`.
#[derive(Debug, Clone)]
pub struct Call {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The model name the client sent.
    pub model: Box<str>,
    /// Whether the client wants the answer as a stream of events.
    pub stream: bool,
    /// Whether a streaming client asked for the usage event itself.
    pub include_usage: bool,
    /// The JSON body.
    pub body: Bytes,
    /// The fields of `body`.
    pub fields: Fields,
    /// What the request wants of the gateway.
    pub wishes: Wishes,
}

/// What a request wants of the gateway beyond its configuration. Absent means: as configured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// Models to try instead, in order; `Some(empty)` means none at all.
    pub fallbacks: Option<Vec<Substitute>>,
    /// The same, for prompts that are too long.
    pub context_window_fallbacks: Option<Vec<Substitute>>,
    /// The same, for prompts that a filter refused.
    pub content_policy_fallbacks: Option<Vec<Substitute>>,
    /// Of several models the first that answers, `fastest_response`.
    pub fastest_response: bool,
    /// No fallbacks of any kind.
    pub disable_fallbacks: bool,
    /// How many retries each model group gets.
    pub num_retries: Option<u32>,
    /// How long one try may take.
    pub timeout: Option<Duration>,
    /// How long a stream may be silent.
    pub stream_timeout: Option<Duration>,
    /// Whether the request is hedged when it is late, from `x-pillion-hedge`.
    pub hedge: Option<HedgeMode>,
    /// How long all tries may take together, from `x-pillion-timeout-total`.
    pub total_timeout: Option<Duration>,
    /// Tags from `tags`, `metadata.tags` and `x-litellm-tags`.
    pub tags: Vec<Box<str>>,
    /// Leave out what a provider does not take, instead of refusing the request.
    pub drop_params: Option<bool>,
    /// Fields to leave out in any case.
    pub additional_drop_params: Vec<Box<str>>,
    /// Fields to pass on though the provider is not known to take them.
    pub allowed_openai_params: Vec<Box<str>>,
}

/// Turns a provider's answer into the client's dialect. One per try; no IO.
pub trait Translator: Send + std::fmt::Debug {
    /// A whole answer.
    fn answer(&mut self, body: &[u8]) -> Result<Bytes, Garbled>;

    /// One event of the provider's stream; appends the client's events to `out`, if any.
    fn event(&mut self, event: &[u8], out: &mut bytes::BytesMut) -> Result<(), Garbled>;

    /// The provider's stream ended as it should; appends the client's closing events.
    fn finish(&mut self, out: &mut bytes::BytesMut) -> Result<(), Garbled>;
}

/// A provider's answer that does not follow its own dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbled(pub String);

impl std::fmt::Display for Garbled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the provider's answer is garbled: {}", self.0)
    }
}

impl std::error::Error for Garbled {}
