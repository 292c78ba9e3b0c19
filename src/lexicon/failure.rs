//! What a failed try means, in one word that routing, accounting and answers share.

use std::time::Duration;

/// The class of a failure: `LiteLLM`'s exception names without their `Error`, and two of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 401: the provider does not take our key.
    Authentication,
    /// 502, or an answer that is no answer: HTML, half a JSON text, an empty completion.
    BadGateway,
    /// Any other 4xx: the request itself is wrong.
    BadRequest,
    /// No answer came: refused, reset, cut, DNS, TLS.
    Connection,
    /// The provider's filter refused the prompt.
    ContentPolicy,
    /// The prompt is too long for the model.
    ContextWindow,
    /// 500 and other 5xx.
    InternalServer,
    /// 404: no such model or path there.
    NotFound,
    /// 402: no money left there.
    PaymentRequired,
    /// 403.
    PermissionDenied,
    /// A quota that waiting a minute does not refill (`insufficient_quota`, per-day limits).
    QuotaExhausted,
    /// 429.
    RateLimit,
    /// 503 and 529: overloaded.
    ServiceUnavailable,
    /// 408, 504, or no answer within our own limit.
    Timeout,
    /// 422.
    UnprocessableEntity,
}

impl Class {
    /// The word for labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::BadGateway => "bad_gateway",
            Self::BadRequest => "bad_request",
            Self::Connection => "connection",
            Self::ContentPolicy => "content_policy",
            Self::ContextWindow => "context_window",
            Self::InternalServer => "internal_server",
            Self::NotFound => "not_found",
            Self::PaymentRequired => "payment_required",
            Self::PermissionDenied => "permission_denied",
            Self::QuotaExhausted => "quota_exhausted",
            Self::RateLimit => "rate_limit",
            Self::ServiceUnavailable => "service_unavailable",
            Self::Timeout => "timeout",
            Self::UnprocessableEntity => "unprocessable_entity",
        }
    }
}

/// A failed try, as routing sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// What kind it is.
    pub class: Class,
    /// The provider's status, or the one we would answer with where there was none.
    pub status: u16,
    /// How long the provider asked us to wait, from its headers or its body.
    pub retry_after: Option<Duration>,
    /// Whether the request reached the provider, which never said that it failed: it may have been
    /// carried out.
    pub may_have_run: bool,
}

impl Failure {
    /// A failure without a wish from the provider.
    pub const fn new(class: Class, status: u16) -> Self {
        Self { class, status, retry_after: None, may_have_run: false }
    }

    /// The same of a request that may have been carried out.
    #[must_use]
    pub const fn may_have_run(self) -> Self {
        Self { may_have_run: true, ..self }
    }
}
