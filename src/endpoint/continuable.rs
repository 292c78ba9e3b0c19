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
    let is_text = matches!(call.endpoint, Endpoint::ChatCompletions | Endpoint::Messages);
    let is_plain = said("response_format").is_none_or(|format| {
        serde_json::from_slice::<Format<'_>>(format).is_ok_and(|format| format.kind == "text")
    });
    let thinks_not = said("thinking").is_none_or(|thinking| {
        serde_json::from_slice::<Format<'_>>(thinking).is_ok_and(|it| it.kind == "disabled")
    });
    let is_free = HINDERS.iter().all(|name| said(name).is_none());
    is_text && is_plain && thinks_not && is_free && ends_with_a_question(call)
}

/// Fields that make of an answer more than text, or bind its whole.
const HINDERS: [&str; 20] = [
    "audio",
    "functions",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "logit_bias",
    "logprobs",
    "output_config",
    "output_format",
    "prediction",
    "reasoning",
    "reasoning_effort",
    "seed",
    "stop",
    "stop_sequences",
    "structured_outputs",
    "tools",
    "top_logprobs",
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
