//! Messages: requests and answers, to and from the hub of [`turn`](super::turn).

pub mod answer;
pub mod blocks;
pub mod read;
pub mod schema;
pub mod stream;
pub mod write;

use super::turn::Stop;

/// The tool whose arguments are the answer, where a model takes no schema for its answers.
pub const JSON_TOOL: &str = "json_tool_call";

/// The stop for a stop reason; an unknown one is a plain end, as in LiteLLM.
fn stop_of(reason: &str, sequence: Option<&str>) -> Stop {
    match reason {
        "max_tokens" | "model_context_window_exceeded" | "pause_turn" | "compaction" => {
            Stop::Length
        }
        "tool_use" => Stop::Tools,
        "stop_sequence" => Stop::Sequence(sequence.map(str::to_owned)),
        "refusal" => Stop::Refused,
        _ => Stop::End,
    }
}

/// The stop reason for a stop, and the stop sequence.
fn stop_reason(stop: &Stop) -> (&'static str, Option<&str>) {
    match stop {
        Stop::End => ("end_turn", None),
        Stop::Length => ("max_tokens", None),
        Stop::Refused => ("refusal", None),
        Stop::Sequence(which) => ("stop_sequence", which.as_deref()),
        Stop::Tools => ("tool_use", None),
    }
}
