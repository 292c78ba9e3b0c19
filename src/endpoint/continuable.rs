//! Which calls another model may write on for, once their answer has broken off.

use serde::Deserialize;

use crate::protocol::{Call, Endpoint};

/// Whether the answer to this call is plain text alone, so that a second model can write on behind
/// its first half: no tools, no form that it must have, no thoughts, and nothing that counts from
/// its beginning.
pub fn is_continuable(call: &Call) -> bool {
    let said = |name| {
        let value = call.fields.get(&call.body, name);
        value.filter(|value| !matches!(*value, b"null" | b"[]" | b"false"))
    };
    let is_open = match call.endpoint {
        Endpoint::ChatCompletions | Endpoint::Messages => ends_with_a_question(call),
        Endpoint::Completions => is_one_text(call),
        // An answer of Responses is always a new one: there is no way to begin it.
        Endpoint::CountTokens | Endpoint::Embeddings | Endpoint::Responses => false,
    };
    let is_plain = said("response_format").is_none_or(|format| {
        serde_json::from_slice::<Format<'_>>(format).is_ok_and(|format| format.kind == "text")
    });
    let thinks_not = said("thinking").is_none_or(|thinking| {
        serde_json::from_slice::<Format<'_>>(thinking).is_ok_and(|it| it.kind == "disabled")
    });
    let is_free = HINDERS.iter().all(|name| said(name).is_none());
    is_open && is_plain && thinks_not && is_free
}

/// Fields that make of an answer more than text, or bind its whole.
const HINDERS: [&str; 25] = [
    "audio",
    "echo",
    "functions",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "logit_bias",
    "logprobs",
    "min_tokens",
    "output_config",
    "output_format",
    "prediction",
    "prompt_logprobs",
    "reasoning",
    "reasoning_effort",
    "seed",
    "stop",
    "stop_sequences",
    "structured_outputs",
    "suffix",
    "tools",
    "top_logprobs",
    "use_beam_search",
];

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: &'a str,
}

/// Whether the last message is not the assistant's already.
fn ends_with_a_question(call: &Call) -> bool {
    let messages = call.fields.parse::<Vec<Message<'_>>>(&call.body, "messages");
    messages.and_then(|list| Some(list.last()?.role != "assistant")).unwrap_or(false)
}

/// Whether a text completion is of one prompt in words, and the first that comes.
fn is_one_text(call: &Call) -> bool {
    let prompt = call.fields.get(&call.body, "prompt");
    let best_of = call.fields.get(&call.body, "best_of");
    prompt.is_some_and(|prompt| prompt.starts_with(b"\""))
        && best_of.is_none_or(|best_of| matches!(best_of, b"1" | b"null"))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[track_caller]
    fn check(more: &str, want: bool) {
        let body = format!(
            "{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"q\"}}{more}}}"
        );
        let headers = HeaderMap::new();
        let call = crate::endpoint::decode(Endpoint::ChatCompletions, None, &headers, body.into())
            .unwrap();
        assert_eq!(is_continuable(&call), want, "{more}");
    }

    #[test]
    fn only_one_prompt_in_words_is_continuable() {
        let check = |endpoint, fields: &str, want: bool| {
            let body = format!("{{\"model\":\"m\",{fields}}}");
            let call =
                crate::endpoint::decode(endpoint, None, &HeaderMap::new(), body.into()).unwrap();
            assert_eq!(is_continuable(&call), want, "{fields}");
        };
        for more in ["", ",\"best_of\":1,\"echo\":false,\"suffix\":null,\"logprobs\":null"] {
            check(Endpoint::Completions, &format!("\"prompt\":\"q\"{more}"), true);
        }
        for more in [
            "\"prompt\":[\"q\"]",
            "\"prompt\":[1,2]",
            "\"prompt\":\"q\",\"echo\":true",
            "\"prompt\":\"q\",\"suffix\":\"s\"",
            "\"prompt\":\"q\",\"logprobs\":1",
            "\"prompt\":\"q\",\"best_of\":2",
            "\"prompt\":\"q\",\"stop\":\"s\"",
            "\"prompt\":\"q\",\"min_tokens\":9",
        ] {
            check(Endpoint::Completions, more, false);
        }
        check(Endpoint::Responses, "\"input\":\"q\"", false);
    }

    #[test]
    fn only_plain_text_is_continuable() {
        for more in [
            "]",
            "],\"tools\":[]",
            "],\"response_format\":{\"type\":\"text\"}",
            "],\"thinking\":{\"type\":\"disabled\"},\"max_tokens\":9",
        ] {
            check(more, true);
        }
        for more in [
            "],\"tools\":[{}]",
            "],\"response_format\":{\"type\":\"json_object\"}",
            "],\"thinking\":{\"type\":\"enabled\"}",
            "],\"reasoning_effort\":\"high\"",
            "],\"stop\":\"x\"",
            "],\"seed\":1",
            "],\"logprobs\":true",
            ",{\"role\":\"assistant\",\"content\":\"so\"}]",
        ] {
            check(more, false);
        }
    }
}
