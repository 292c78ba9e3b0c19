//! A stream that is put together to one answer says what its pieces say.

use bytes::Bytes;
use pillion::protocol::{Assembly, Endpoint, Fields};
use serde_json::Value;

use super::heard::{Heard, chat, messages};
use super::{cuts, events};

/// The assembly of a whole answer, for every endpoint that has streams.
pub fn assemble(bytes: &[u8]) {
    for endpoint in Endpoint::ALL {
        let Some(whole) = put_together(endpoint, &[bytes]) else { continue };
        for cut in cuts(bytes) {
            assert_eq!(put_together(endpoint, &cut), Some(whole.clone()));
        }
        assert!(whole.starts_with(b"{") == Fields::of(&whole).is_ok());
        let answer: Value = serde_json::from_slice(&whole).expect("an answer is JSON");
        match endpoint {
            Endpoint::ChatCompletions => check_chat(&answer, chat(bytes)),
            Endpoint::Messages => check_message(&answer, messages(bytes)),
            Endpoint::Completions
            | Endpoint::CountTokens
            | Endpoint::Embeddings
            | Endpoint::Responses => {}
        }
    }
}

/// `None` where there is no answer in it.
fn put_together(endpoint: Endpoint, chunks: &[&[u8]]) -> Option<Bytes> {
    let mut assembly = Assembly::new(endpoint)?;
    for event in events(chunks) {
        assembly.event(&event).ok()?;
    }
    assembly.whole().ok()
}

fn check_chat(answer: &Value, heard: Option<Heard>) {
    let Some(heard) = heard else { return };
    let choices = answer["choices"].as_array().expect("there are choices");
    let Some(first) = choices.iter().find(|choice| choice["index"] == 0) else { return };
    let message = &first["message"];
    let text = |name: &str| message[name].as_str().unwrap_or_default().len();
    // Refusals and contents may come mixed.
    assert_eq!(text("content") + text("refusal"), heard.text.len(), "{answer:#}");
}

fn check_message(answer: &Value, heard: Option<Heard>) {
    let Some(heard) = heard else { return };
    let blocks = answer["content"].as_array().expect("there is a content");
    let texts = blocks.iter().filter(|block| block["type"] == "text");
    let text: usize = texts.filter_map(|block| Some(block["text"].as_str()?.len())).sum();
    assert_eq!(text, heard.text.len(), "{answer:#}");
    let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
    assert_eq!(calls.count(), heard.calls.len(), "{answer:#}");
}
