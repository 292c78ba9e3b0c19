//! The words of OpenAI's chat API that flow tests exchange.

use std::fmt::Write as _;

use super::script::{Request, Step, send};

/// A call of `/v1/chat/completions` as it stands on the wire.
pub(crate) fn plain(model: &str) -> String {
    post(&body(model, ""))
}

pub(crate) fn streamed(model: &str) -> String {
    post(&body(model, ",\"stream\":true"))
}

/// The JSON of a call; `more` stands behind the messages.
pub(crate) fn body(model: &str, more: &str) -> String {
    body_saying(model, "hi", more)
}

pub(crate) fn body_saying(model: &str, prompt: &str, more: &str) -> String {
    format!(
        "{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]{more}}}"
    )
}

pub(crate) fn post(body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What a provider charges for every answer here.
pub(crate) const INPUT: u64 = 7;
pub(crate) const OUTPUT: u64 = 3;

/// A provider's answer in one piece.
pub(crate) fn whole(text: &str) -> String {
    let body = format!(
        "{{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{}}}",
        usage()
    );
    json(200, &body)
}

pub(crate) fn json(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn usage() -> String {
    let total = INPUT + OUTPUT;
    format!("{{\"prompt_tokens\":{INPUT},\"completion_tokens\":{OUTPUT},\"total_tokens\":{total}}}")
}

/// The head of a provider's stream.
pub(crate) const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// The end of a body in chunks.
pub(crate) const LAST_CHUNK: &str = "0\r\n\r\n";

/// One event in one chunk.
pub(crate) fn event(data: &str) -> String {
    chunk(&format!("data: {data}\n\n"))
}

pub(crate) fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

pub(crate) fn delta(text: &str) -> String {
    event(&format!(
        "{{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}"
    ))
}

/// The reason for the end, the usage, the end mark, and the end of the body.
pub(crate) fn ending() -> String {
    let mut text = event(
        "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}",
    );
    let told = format!(
        "{{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{}}}",
        usage()
    );
    let _ = write!(text, "{}{}{LAST_CHUNK}", event(&told), event("[DONE]"));
    text
}

/// A good answer in the form that a request wants.
pub(crate) fn answer(request: &Request) -> Vec<Step> {
    if request.wants_stream() { stream(3) } else { vec![send(whole("hello"))] }
}

/// A whole stream of some words, without a pause.
pub(crate) fn stream(words: usize) -> Vec<Step> {
    let mut steps = vec![send(STREAM_HEAD)];
    steps.extend((0..words).map(|word| send(delta(&format!("w{word} ")))));
    steps.push(send(ending()));
    steps
}
