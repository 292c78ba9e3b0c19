//! A translated stream says what the provider's said, in a form its readers take, or is refused.

use bytes::BytesMut;
use pillion::protocol::anthropic::write::Key;
use pillion::protocol::turn::Bridge;
use pillion::protocol::{Garbled, Translator, anthropic, openai};
use serde_json::{Value, json};

use super::heard::{Heard, chat, data, messages};
use super::{cuts, events};

/// Chunks of a chat completion become events of a message.
pub fn openai_stream(bytes: &[u8]) {
    let bridge =
        || Bridge::new(openai::stream::Heard::default(), anthropic::stream::Said::new("public"));
    let Some(out) = told(bytes, bridge) else { return };
    let said = parsed(&out);
    let Some(said) = good(&said, "message_stop") else { return };
    check_message(said);
    agree(chat(bytes), messages(&out));
}

/// Events of a message become chunks of a chat completion.
pub fn anthropic_stream(bytes: &[u8]) {
    let bridge = || {
        Bridge::new(
            anthropic::stream::Heard::new(Key::default()),
            openai::stream::Said::new("public", 1, true),
        )
    };
    let Some(out) = told(bytes, bridge) else { return };
    let said = parsed(&out);
    let Some(said) = good(&said, "[DONE]") else { return };
    check_chunks(said);
    agree(messages(bytes), chat(&out));
}

/// What the client gets, which is the same wherever the bytes are cut; `None` where the stream is
/// refused.
fn told<T: Translator>(bytes: &[u8], bridge: impl Fn() -> T) -> Option<Vec<u8>> {
    let tell = |chunks: &[&[u8]]| -> Result<Vec<u8>, Garbled> {
        let (mut bridge, mut out) = (bridge(), BytesMut::new());
        for event in events(chunks) {
            bridge.event(&event, &mut out)?;
        }
        bridge.finish(&mut out)?;
        Ok(out.to_vec())
    };
    let whole = tell(&[bytes]);
    for cut in cuts(bytes) {
        assert_eq!(tell(&cut), whole, "where the bytes are cut matters");
    }
    // A whole answer is none of a stream's matter, but it must be JSON if there is one.
    if let Ok(answer) = bridge().answer(bytes) {
        assert!(serde_json::from_slice::<Value>(&answer).is_ok_and(|it| it.is_object()));
    }
    whole.ok()
}

/// The data of events that we wrote ourselves; the end mark as a text.
fn parsed(out: &[u8]) -> Vec<Value> {
    let parse = |event: &[u8]| match &*data(event).expect("each event has data") {
        b"[DONE]" => json!("[DONE]"),
        data => serde_json::from_slice(data).expect("each event is JSON"),
    };
    events(&[out]).iter().map(|event| parse(event)).collect()
}

/// The events before the end mark; `None` for a stream that ends with an error and without a mark.
fn good<'a>(said: &'a [Value], mark: &str) -> Option<&'a [Value]> {
    let is_mark = |event: &Value| event == mark || event["type"] == mark;
    let is_fault = |event: &Value| event["error"].is_object();
    let (last, before) = said.split_last().expect("something is said");
    assert!(!before.iter().any(|event| is_mark(event) || is_fault(event)), "{said:#?}");
    assert!(is_mark(last) || is_fault(last), "{said:#?}");
    is_mark(last).then_some(before)
}

/// The order that Anthropic's own SDKs rely on.
fn check_message(said: &[Value]) {
    let (mut started, mut open, mut next, mut ended) = (false, None, 0, false);
    for event in said {
        let kind = event["type"].as_str().expect("each event has a type");
        assert_eq!(kind != "message_start", started, "{said:#?}");
        assert!(!ended, "nothing but the mark is behind the reason to stop: {said:#?}");
        let index = event["index"].as_u64();
        match kind {
            "message_start" => started = true,
            "content_block_start" => {
                assert_eq!((index, open), (Some(next), None), "{said:#?}");
                open = index;
            }
            "content_block_delta" => assert!(open.is_some() && open == index, "{said:#?}"),
            "content_block_stop" => {
                assert!(open.is_some() && open == index, "{said:#?}");
                (open, next) = (None, next + 1);
            }
            "message_delta" => {
                assert!(open.is_none() && event["delta"]["stop_reason"].is_string());
                ended = true;
            }
            other => panic!("nobody knows {other}"),
        }
    }
    assert!(ended, "{said:#?}");
}

/// What OpenAI's own SDKs rely on: one id, calls that begin with their names, one reason to stop.
fn check_chunks(said: &[Value]) {
    let (mut calls, mut reasons) = (0, 0);
    for chunk in said {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["model"], "public");
        let choice = &chunk["choices"][0];
        reasons += usize::from(choice["finish_reason"].is_string());
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().expect("a call has an index");
            if index == calls {
                assert!(call["id"].is_string() && call["function"]["name"].is_string());
                calls += 1;
            }
            assert!(index < calls, "{said:#?}");
        }
    }
    assert_eq!(reasons, 1, "{said:#?}");
    assert!(said.last().is_some_and(|last| last["usage"].is_object()), "{said:#?}");
}

/// Nothing is lost. A provider's stream that is too odd to be read here says nothing.
fn agree(heard: Option<Heard>, said: Option<Heard>) {
    let Some(heard) = heard else { return };
    let said = said.expect("what we write can be read");
    assert_eq!(said.text, heard.text);
    let whole = |call: &String| if call.is_empty() { "{}".to_owned() } else { call.clone() };
    let [said, heard] =
        [said, heard].map(|it| it.calls.iter().map(|(_, call)| whole(call)).collect::<Vec<_>>());
    assert_eq!(said, heard);
}
