//! Whether a call may be made twice at the same time.
//!
//! A hedge is a second call for the same answer. Calls that leave something behind at the
//! provider, or do something out in the world, must not be made twice; where that cannot be seen,
//! they are not.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::protocol::{Call, Endpoint, Fields};

/// Whether nothing but tokens is lost when the call is made twice and one answer thrown away
/// (§1.7 of the routing study).
pub fn is_repeatable(call: &Call) -> bool {
    let value = |name| call.fields.get(&call.body, name).filter(|value| *value != b"null");
    match call.endpoint {
        Endpoint::CountTokens | Endpoint::Embeddings => true,
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Messages => {
            let single = value("n").is_none_or(|n| n == b"1");
            let silent = ONE_AT_A_TIME.iter().all(|name| value(name).is_none());
            let stored = value("store").is_some_and(|store| store != b"false");
            single && silent && !stored && !speaks(call) && has_only_own_tools(value("tools"))
        }
        // Responses are stored unless the request says otherwise.
        Endpoint::Responses => {
            let stateless = value("store") == Some(b"false");
            let alone = STATEFUL.iter().all(|name| value(name).is_none());
            let waits = value("background").is_none_or(|background| background == b"false");
            stateless && alone && waits && has_only_own_tools(value("tools"))
        }
    }
}

/// Whether the call may be made again after a try that may have been carried out, of which nobody
/// knows. Most may: an answer that nobody got is only money. One that goes on with a conversation
/// that the provider keeps, that runs on without us, or whose tools act in the world at the
/// provider's hand, may not.
pub fn is_repeatable_after_failure(call: &Call) -> bool {
    let value = |name| call.fields.get(&call.body, name).filter(|value| *value != b"null");
    let lasts = call.endpoint == Endpoint::Responses
        && (value("conversation").is_some() || value("background") == Some(b"true"));
    let acts = ["container", "mcp_servers"].iter().any(|name| value(name).is_some());
    !lasts && !acts && tools_are(value("tools"), |kind| is_own(kind) || only_reads(kind))
}

/// Searches of the web, sandboxes and servers of the provider's, and audio sessions.
const ONE_AT_A_TIME: [&str; 5] =
    ["audio", "container", "mcp_servers", "web_search_options", "plugins"];

/// What ties a response to others.
const STATEFUL: [&str; 3] = ["conversation", "previous_response_id", "prompt"];

/// Whether the answer is to be spoken or drawn.
fn speaks(call: &Call) -> bool {
    let modalities = call.fields.parse::<Vec<Box<str>>>(&call.body, "modalities");
    modalities.is_some_and(|list| list.iter().any(|it| &**it != "text"))
}

/// Whether every tool is run by the client, after the answer was chosen. A tool of a type that
/// nobody knows may be run by the provider.
fn has_only_own_tools(tools: Option<&[u8]>) -> bool {
    tools_are(tools, is_own)
}

fn is_own(kind: &str) -> bool {
    kind == "function" || kind == "custom"
}

/// A provider's own tool that changes nothing, `web_search_preview` or `file_search`.
fn only_reads(kind: &str) -> bool {
    ["web_search", "web_fetch", "file_search"].iter().any(|name| kind.starts_with(name))
}

/// Whether this is so of the types of all tools; those without a type are the client's own.
fn tools_are(tools: Option<&[u8]>, so: impl Fn(&str) -> bool) -> bool {
    let Some(tools) = tools else { return true };
    let Ok(list) = serde_json::from_slice::<Vec<&RawValue>>(tools) else { return false };
    list.iter().all(|tool| {
        let text = tool.get().as_bytes();
        let kind = Fields::of(text).ok().map(|fields| fields.parse::<Value>(text, "type"));
        match kind {
            None => false,
            // Anthropic's own tools of the client have no type.
            Some(None) => true,
            Some(Some(kind)) => kind.as_str().is_some_and(&so),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::decode;
    use bytes::Bytes;
    use http::HeaderMap;

    #[track_caller]
    fn check(endpoint: Endpoint, more: &str, want: bool) {
        let body = format!(r#"{{"model":"m","messages":[],"input":"x","prompt_":1{more}}}"#);
        let call = decode(endpoint, None, &HeaderMap::new(), Bytes::from(body)).unwrap();
        assert_eq!(is_repeatable(&call), want, "{more}");
    }

    #[test]
    fn chats_are_repeatable_unless_they_act() {
        use Endpoint::{ChatCompletions, Messages};
        check(ChatCompletions, "", true);
        check(ChatCompletions, r#","n":1,"store":false,"stream":true"#, true);
        check(ChatCompletions, r#","n":2"#, false);
        check(ChatCompletions, r#","store":true"#, false);
        check(ChatCompletions, r#","modalities":["text"]"#, true);
        check(ChatCompletions, r#","modalities":["text","audio"]"#, false);
        check(ChatCompletions, r#","web_search_options":{}"#, false);
        let own = r#","tools":[{"type":"function","function":{"name":"f"}}]"#;
        check(ChatCompletions, own, true);
        check(ChatCompletions, r#","tools":[{"type":"web_search"}]"#, false);
        check(ChatCompletions, r#","tools":"all""#, false);
        check(Messages, r#","tools":[{"name":"f","input_schema":{}}]"#, true);
        check(Messages, r#","tools":[{"type":"bash_20250124","name":"bash"}]"#, false);
        check(Messages, r#","mcp_servers":[{}]"#, false);
    }

    #[test]
    fn a_call_that_may_have_run_is_made_again_unless_it_acts() {
        use Endpoint::{ChatCompletions, Messages, Responses};
        let check = |endpoint, more: &str, want: bool| {
            let body = format!(r#"{{"model":"m","messages":[],"input":"x"{more}}}"#);
            let call = decode(endpoint, None, &HeaderMap::new(), Bytes::from(body)).unwrap();
            assert_eq!(is_repeatable_after_failure(&call), want, "{more}");
        };
        check(ChatCompletions, r#","n":2,"store":true,"web_search_options":{}"#, true);
        check(Responses, "", true);
        check(Responses, r#","previous_response_id":"r","tools":[{"type":"file_search"}]"#, true);
        check(Responses, r#","tools":[{"type":"web_search_preview"}]"#, true);
        check(Responses, r#","conversation":"c""#, false);
        check(Responses, r#","background":true"#, false);
        check(Responses, r#","tools":[{"type":"code_interpreter"}]"#, false);
        check(Messages, r#","mcp_servers":[{}]"#, false);
        check(Messages, r#","tools":[{"name":"f","input_schema":{}}]"#, true);
    }

    #[test]
    fn responses_are_repeatable_only_without_a_trace() {
        use Endpoint::{Embeddings, Responses};
        check(Responses, "", false);
        check(Responses, r#","store":false"#, true);
        check(Responses, r#","store":false,"previous_response_id":"r""#, false);
        check(Responses, r#","store":false,"background":true"#, false);
        check(Responses, r#","store":false,"tools":[{"type":"code_interpreter"}]"#, false);
        check(Embeddings, "", true);
    }
}
