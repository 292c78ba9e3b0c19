//! `mock_response`: an answer that nobody was asked for, as LiteLLM gives it.

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use super::attempt::{Refusal, Served};
use super::body::Body;
use super::head::{self, Path};
use super::live::Live;
use super::race::Won;
use super::used::Used;
use crate::account::{End, Ledger};
use crate::lexicon::Class;
use crate::protocol::{Call, Endpoint, Usage};

/// A canned answer.
#[derive(Debug)]
pub(super) struct Mocked {
    body: Bytes,
    stream: bool,
    served: Served,
    pub path: Path,
}

/// What LiteLLM says a mocked answer used.
const PROMPT: u64 = 10;
const COMPLETION: u64 = 20;

/// The answer for a call: `text`, or the failure that the text names.
pub(super) fn answer(
    text: &str,
    call: &Call,
    model: &str,
    served: Served,
) -> Result<Won, Box<Refusal>> {
    if let Some((class, status)) = failure(text) {
        return Err(Refusal::ours(class, status, format!("mock_response asks for this: {text}")));
    }
    let body = match (call.endpoint, call.stream) {
        (Endpoint::ChatCompletions, false) => chat(text, model).to_string(),
        (Endpoint::ChatCompletions, true) => chat_events(text, call, model),
        (Endpoint::Completions, false) => completion(text, model).to_string(),
        (Endpoint::Messages, false) => message(text, model).to_string(),
        (Endpoint::Completions | Endpoint::Messages, true)
        | (Endpoint::CountTokens | Endpoint::Embeddings | Endpoint::Responses, _) => {
            let why =
                "mock_response answers chats, and text completions and messages without a stream";
            return Err(Refusal::ours(Class::BadRequest, 400, why));
        }
    };
    let stream = call.stream;
    Ok(Won::Mock(Box::new(Mocked {
        body: Bytes::from(body),
        stream,
        served,
        path: Path::default(),
    })))
}

fn failure(text: &str) -> Option<(Class, u16)> {
    match text {
        "litellm.ContentPolicyViolationError" => Some((Class::ContentPolicy, 400)),
        "litellm.ContextWindowExceededError" => Some((Class::ContextWindow, 400)),
        "litellm.InternalServerError" => Some((Class::InternalServer, 500)),
        "litellm.RateLimitError" => Some((Class::RateLimit, 429)),
        _ => None,
    }
}

fn usage() -> Value {
    json!({ "prompt_tokens": PROMPT, "completion_tokens": COMPLETION, "total_tokens": PROMPT + COMPLETION })
}

fn chat(text: &str, model: &str) -> Value {
    json!({
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": crate::lexicon::time::unix_now().as_secs(),
        "model": model,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": text },
            "finish_reason": "stop",
        }],
        "usage": usage(),
    })
}

fn chat_events(text: &str, call: &Call, model: &str) -> String {
    let created = crate::lexicon::time::unix_now().as_secs();
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": "chatcmpl-mock",
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "choices": choices,
        });
        if let (Some(usage), Some(chunk)) = (usage, chunk.as_object_mut()) {
            chunk.insert("usage".to_owned(), usage);
        }
        format!("data: {chunk}\n\n")
    };
    let delta = json!([{
        "index": 0,
        "delta": { "role": "assistant", "content": text },
        "finish_reason": null,
    }]);
    let stop = json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]);
    let last = if call.include_usage { chunk(json!([]), Some(usage())) } else { String::new() };
    format!("{}{}{last}data: [DONE]\n\n", chunk(delta, None), chunk(stop, None))
}

fn completion(text: &str, model: &str) -> Value {
    json!({
        "id": "cmpl-mock",
        "object": "text_completion",
        "created": crate::lexicon::time::unix_now().as_secs(),
        "model": model,
        "choices": [{ "index": 0, "text": text, "logprobs": null, "finish_reason": "stop" }],
        "usage": usage(),
    })
}

fn message(text: &str, model: &str) -> Value {
    json!({
        "id": "msg_mock",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{ "type": "text", "text": text }],
        "stop_reason": "end_turn",
        "stop_sequence": null,
        "usage": { "input_tokens": PROMPT, "output_tokens": COMPLETION },
    })
}

/// The answer for the client.
pub(super) fn response(mocked: Mocked, live: &Live, mut ledger: Ledger) -> Response<Body> {
    let record = &mut ledger.record;
    record.status = 200;
    record.end = End::Complete;
    let usage = Usage { prompt: PROMPT, completion: COMPLETION, ..Usage::default() };
    Used::of(Some(usage), live.price(mocked.served.deployment)).note(record, live);
    let mut response = Response::new(Body::whole(mocked.body));
    let headers = response.headers_mut();
    let kind = if mocked.stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    head::add_ours(headers, live, &ledger, &mocked.path);
    if !mocked.stream {
        head::add_cost(headers, ledger.record.cost);
    }
    response
}
