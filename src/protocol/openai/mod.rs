//! Chat completions: requests and answers, to and from the hub of [`turn`](super::turn).

pub mod answer;
pub mod read;
pub mod stream;
pub mod write;

use super::turn::Stop;

/// The finish reason for a stop.
const fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Sequence(_) => "stop",
        Stop::Length => "length",
        Stop::Refused => "content_filter",
        Stop::Tools => "tool_calls",
    }
}

/// The stop for a finish reason; an unknown one is a plain end, as in LiteLLM.
fn stop_of(reason: &str) -> Stop {
    match reason {
        "length" | "max_tokens" | "model_length" => Stop::Length,
        "tool_calls" | "tool_use" | "function_call" => Stop::Tools,
        "content_filter" | "refusal" => Stop::Refused,
        _ => Stop::End,
    }
}
