//! Recorded exchanges: what is translated says what was recorded.
//!
//! Needs the corpus, which is no part of the repository; says so and passes where it is absent.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that reads wrongly should fail, and it reports what it left out"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::BytesMut;
use pillion::protocol::anthropic::write::{Abilities, Key};
use pillion::protocol::turn::{Bridge, Leniency, Unsaid};
use pillion::protocol::{Translator as _, Usage, anthropic, openai, sse};
use proptest::prelude::*;
use serde_json::{Value, json};

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn corpus(name: &str) -> Option<Vec<Value>> {
    let root = std::env::var("PILLION_CORPUS").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    );
    let path = root.join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: there is no corpus at {}", path.display());
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// What an answer says, whichever dialect it is in.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    thought: String,
    calls: Vec<(String, Value)>,
    finish: String,
    usage: [u64; 4],
}

fn numbers(usage: &Usage) -> [u64; 4] {
    let written = usage.cache_write + usage.cache_write_1h;
    [usage.prompt, usage.completion, usage.cache_read, written]
}

fn events(body: &str) -> Vec<Vec<u8>> {
    let mut framer = sse::Framer::new();
    framer.push(bytes::Bytes::copy_from_slice(body.as_bytes())).unwrap();
    let mut all = Vec::new();
    while let Some(event) = framer.next() {
        all.push(event.to_vec());
    }
    all.extend(framer.rest().map(|rest| rest.to_vec()));
    all
}

/// Puts the blocks of a recorded stream together, as Anthropic documents it.
fn assembled(body: &str) -> Value {
    let mut message = Value::Null;
    for event in events(body) {
        let Some(data) = sse::data(&event) else { continue };
        let event: Value = serde_json::from_slice(&data).unwrap();
        // Some SDKs test with strays before the beginning.
        if message.is_null() && event["type"] != "message_start" {
            continue;
        }
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                let mut block = event["content_block"].clone();
                block["json"] = json!("");
                message["content"].as_array_mut().unwrap().push(block);
            }
            "content_block_delta" => {
                let at = usize::try_from(event["index"].as_u64().unwrap()).unwrap();
                let block = &mut message["content"][at];
                for (from, to) in
                    [("text", "text"), ("thinking", "thinking"), ("partial_json", "json")]
                {
                    if let Some(more) = event["delta"][from].as_str() {
                        block[to] = json!(format!("{}{more}", block[to].as_str().unwrap_or("")));
                    }
                }
            }
            "content_block_stop" => {
                let at = usize::try_from(event["index"].as_u64().unwrap()).unwrap();
                let block = &mut message["content"][at];
                if let Some(text) = block["json"].as_str().filter(|text| !text.is_empty()) {
                    block["input"] = arguments_of(text);
                }
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                for (name, value) in event["usage"].as_object().into_iter().flatten() {
                    message["usage"][name] = value.clone();
                }
            }
            _ => {}
        }
    }
    message
}

/// Arguments that the limit of tokens has cut off stay a text.
fn arguments_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

fn recorded(message: &Value) -> Said {
    let mut said = Said::default();
    for block in message["content"].as_array().unwrap() {
        match block["type"].as_str().unwrap() {
            "text" => said.text.push_str(block["text"].as_str().unwrap()),
            "thinking" => said.thought.push_str(block["thinking"].as_str().unwrap()),
            "tool_use" => said
                .calls
                .push((block["name"].as_str().unwrap().to_owned(), block["input"].clone())),
            _ => {}
        }
    }
    let finish = match message["stop_reason"].as_str().unwrap_or_default() {
        "max_tokens" | "model_context_window_exceeded" | "pause_turn" | "compaction" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        _ => "stop",
    };
    finish.clone_into(&mut said.finish);
    let usage = |name: &str| message["usage"][name].as_u64().unwrap_or(0);
    let (read, written) = (usage("cache_read_input_tokens"), usage("cache_creation_input_tokens"));
    said.usage = [usage("input_tokens") + read + written, usage("output_tokens"), read, written];
    said
}

fn from_chat(chat: &Value) -> Said {
    let choice = &chat["choices"][0];
    let message = &choice["message"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    Said {
        text: text(&message["content"]),
        thought: text(&message["reasoning_content"]),
        calls: calls
            .map(|call| {
                let arguments = call["function"]["arguments"].as_str().unwrap();
                (text(&call["function"]["name"]), serde_json::from_str(arguments).unwrap())
            })
            .collect(),
        finish: text(&choice["finish_reason"]),
        usage: numbers(&Usage::from_openai(chat["usage"].to_string().as_bytes()).unwrap()),
    }
}

fn from_chunks(stream: &str) -> Said {
    assert!(stream.ends_with("data: [DONE]\n\n"), "a stream ends with [DONE]");
    let mut said = Said::default();
    let mut arguments: Vec<String> = Vec::new();
    for event in events(stream) {
        let data = sse::data(&event).unwrap();
        let Ok(chunk) = serde_json::from_slice::<Value>(&data) else { continue };
        if let Some(usage) = chunk.get("usage") {
            said.usage = numbers(&Usage::from_openai(usage.to_string().as_bytes()).unwrap());
            assert_eq!(chunk["choices"], json!([]));
            continue;
        }
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        said.text.push_str(delta["content"].as_str().unwrap_or_default());
        said.thought.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let at = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if at == said.calls.len() {
                assert!(call["id"].is_string() && call["type"] == "function");
                let name = call["function"]["name"].as_str().unwrap().to_owned();
                said.calls.push((name, Value::Null));
                arguments.push(String::new());
            }
            arguments[at].push_str(call["function"]["arguments"].as_str().unwrap());
        }
        if let Some(finish) = choice["finish_reason"].as_str() {
            finish.clone_into(&mut said.finish);
        }
    }
    for (call, arguments) in said.calls.iter_mut().zip(arguments) {
        call.1 = arguments_of(&arguments);
    }
    said
}

fn report(what: &str, passed: usize, excluded: &BTreeMap<String, usize>) {
    let mut text = String::new();
    for (why, count) in excluded {
        write!(text, "\n  excluded {count}: {why}").unwrap();
    }
    let out = excluded.values().sum::<usize>();
    println!("{what}: run {}, passed {passed}, excluded {out}{text}", passed + out);
}

#[test]
fn recorded_messages_say_the_same_as_chat() {
    let Some(exchanges) = corpus("anthropic.jsonl") else { return };
    let mut passed = 0;
    let mut excluded = BTreeMap::new();
    let messages = exchanges.iter().filter(|it| it["api"] == "messages");
    for exchange in messages.filter(|it| it["response"]["status"] == 200) {
        let id = exchange["id"].as_str().unwrap();
        let body = &exchange["response"]["body"];
        let bridge = || {
            Bridge::new(
                anthropic::stream::Heard::new(Key::default()),
                openai::stream::Said::new("public", 1, true),
            )
        };
        match body {
            Value::Object(message) if message.contains_key("content") => {
                let answer = bridge().answer(body.to_string().as_bytes()).unwrap();
                let chat: Value = serde_json::from_slice(&answer).unwrap();
                assert_eq!(from_chat(&chat), recorded(body), "{id}");
            }
            Value::String(text) if text.contains("event: error") => {
                let mut out = BytesMut::new();
                let mut bridge = bridge();
                for event in events(text) {
                    bridge.event(&event, &mut out).unwrap();
                }
                let out = String::from_utf8(out.to_vec()).unwrap();
                assert!(out.contains(r#"data: {"error":"#), "{id}");
            }
            Value::String(text) if text.matches("event: message_start").count() > 1 => {
                let mut bridge = bridge();
                let mut out = BytesMut::new();
                assert!(events(text).iter().any(|it| bridge.event(it, &mut out).is_err()), "{id}");
                *excluded.entry("the message begins twice; refused".to_owned()).or_insert(0) += 1;
                continue;
            }
            Value::String(text) if text.contains("message_stop") => {
                let mut out = BytesMut::new();
                let mut bridge = bridge();
                for event in events(text) {
                    bridge.event(&event, &mut out).unwrap();
                }
                bridge.finish(&mut out).unwrap();
                let out = String::from_utf8(out.to_vec()).unwrap();
                assert_eq!(from_chunks(&out), recorded(&assembled(text)), "{id}");
            }
            _ => {
                *excluded.entry("the record is no whole answer".to_owned()).or_insert(0) += 1;
                continue;
            }
        }
        passed += 1;
    }
    report("anthropic messages to chat", passed, &excluded);
    assert!(passed > 0);
}

#[test]
fn recorded_chat_requests_become_messages_or_say_why_not() {
    let mut excluded = BTreeMap::new();
    let mut passed = 0;
    let mut refused = BTreeMap::new();
    for name in ["openai", "groq", "mistral", "deepseek", "xai"] {
        let Some(exchanges) = corpus(&format!("{name}.jsonl")) else { return };
        for exchange in exchanges.iter().filter(|it| it["api"] == "chat_completions") {
            let Some(body) = exchange["request"]["body"].as_object() else {
                *excluded.entry("the request was not recorded".to_owned()).or_insert(0) += 1;
                continue;
            };
            let abilities = Abilities {
                reasoning: true,
                json_schema: true,
                sampling: true,
                ..Abilities::default()
            };
            let written = openai::read::ask(body.clone()).and_then(|ask| {
                anthropic::write::body(&ask, "claude", abilities, Leniency::default())
            });
            match written {
                Ok(spoken) => assert!(!spoken.body["messages"].as_array().unwrap().is_empty()),
                Err(Unsaid::Params(names)) => {
                    assert!(!names.is_empty());
                    *refused.entry(names.join(", ")).or_insert(0) += 1;
                }
                Err(Unsaid::Content(path, why)) => {
                    assert!(!path.is_empty() && !why.is_empty());
                    *refused.entry(format!("{path}: {why}")).or_insert(0) += 1;
                }
            }
            passed += 1;
        }
    }
    report("chat requests to messages", passed, &excluded);
    println!("refused by name: {refused:#?}");
}

#[test]
fn recorded_messages_requests_become_chat_or_say_why_not() {
    let Some(exchanges) = corpus("anthropic.jsonl") else { return };
    let mut passed = 0;
    let mut refused = BTreeMap::new();
    for exchange in exchanges.iter().filter(|it| it["api"] == "messages") {
        let Some(body) = exchange["request"]["body"].as_object() else { continue };
        let written = anthropic::read::ask(body.clone())
            .and_then(|ask| openai::write::body(&ask, "gpt", true, Leniency::default()));
        match written {
            Ok(body) => assert!(body["messages"].is_array()),
            Err(Unsaid::Params(names)) => *refused.entry(names.join(", ")).or_insert(0) += 1,
            Err(Unsaid::Content(path, why)) => {
                *refused.entry(format!("{path}: {why}")).or_insert(0) += 1;
            }
        }
        passed += 1;
    }
    report("messages requests to chat", passed, &BTreeMap::new());
    println!("refused by name: {refused:#?}");
}

/// Runs every case below a folder; `UPDATE=1` writes what comes out instead of comparing it.
fn golden(dialect: &str, input: &str, output: &str, say: impl Fn(Value) -> Result<Value, Unsaid>) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(dialect);
    let update = std::env::var_os("UPDATE").is_some();
    let mut count = 0;
    for case in std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(text) = std::fs::read_to_string(case.join(input)) else { continue };
        let got = match say(serde_json::from_str(&text).unwrap()) {
            Ok(json) => json,
            Err(Unsaid::Params(names)) => json!({"refused": names}),
            Err(Unsaid::Content(path, why)) => json!({"refused": path, "why": why}),
        };
        let got = format!("{}\n", serde_json::to_string_pretty(&got).unwrap());
        if update {
            std::fs::write(case.join(output), &got).unwrap();
        }
        let want = std::fs::read_to_string(case.join(output)).unwrap();
        assert_eq!(got, want, "{}", case.display());
        count += 1;
    }
    assert!(count > 0);
}

/// Takes a wish of the case itself out of its body.
fn wish(body: &mut Value, name: &str) -> Option<Value> {
    body.as_object_mut().unwrap().shift_remove(name)
}

#[test]
fn chat_requests_are_written_as_messages() {
    golden("anthropic", "chat.json", "messages.json", |mut body| {
        let leniency = Leniency { drop: wish(&mut body, "_drop").is_some(), allowed: &[] };
        let model = wish(&mut body, "_model").unwrap_or_else(|| body["model"].clone());
        let model = model.as_str().unwrap();
        let ask = openai::read::ask(body.as_object().unwrap().clone())?;
        let abilities = pillion::provider::anthropic::abilities(model, None);
        let spoken = anthropic::write::body(&ask, model, abilities, leniency)?;
        Ok(json!({"betas": spoken.betas, "body": spoken.body}))
    });
}

#[test]
fn messages_requests_are_written_as_chat() {
    golden("openai", "messages.json", "chat.json", |mut body| {
        let leniency = Leniency { drop: wish(&mut body, "_drop").is_some(), allowed: &[] };
        let reasoning = wish(&mut body, "_plain").is_none();
        let ask = anthropic::read::ask(body.as_object().unwrap().clone())?;
        Ok(Value::Object(openai::write::body(&ask, "gpt", reasoning, leniency)?))
    });
}

#[derive(Debug, Clone)]
enum Block {
    Call(String, Value),
    Redacted(String),
    Text(String),
    Thought(String, String),
}

fn input() -> impl Strategy<Value = Value> {
    let value = prop_oneof![any::<i32>().prop_map(Value::from), "\\PC{0,6}".prop_map(Value::from)];
    prop::collection::btree_map("[a-c]", value, 0..3)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

fn block() -> impl Strategy<Value = Block> {
    prop_oneof![
        ("[a-z]{1,5}", input()).prop_map(|(name, input)| Block::Call(name, input)),
        "[a-z]{1,5}".prop_map(Block::Redacted),
        "\\PC{1,12}".prop_map(Block::Text),
        ("\\PC{1,12}", "[a-z]{1,5}").prop_map(|(text, seal)| Block::Thought(text, seal)),
    ]
}

/// The text in pieces of a few characters.
fn pieces(text: &str, size: usize) -> Vec<String> {
    let all: Vec<char> = text.chars().collect();
    all.chunks(size).map(|piece| piece.iter().collect()).collect()
}

fn event(json: &Value) -> String {
    format!("event: {}\ndata: {json}\n\n", json["type"].as_str().unwrap())
}

/// A message whole and as a stream, in Anthropic's dialect.
fn message(blocks: &[Block], size: usize) -> (Value, String) {
    let usage = json!({"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 9});
    let calls = blocks.iter().any(|block| matches!(block, Block::Call(..)));
    let stop = if calls { "tool_use" } else { "end_turn" };
    let mut content = Vec::new();
    let start = json!({"id": "msg_1", "content": [], "usage": usage, "stop_reason": null});
    let mut stream = event(&json!({"type": "message_start", "message": start}));
    stream.push_str(&event(&json!({"type": "ping"})));
    for (at, block) in blocks.iter().enumerate() {
        let (whole, opened, deltas): (Value, Value, Vec<Value>) = match block {
            Block::Call(name, input) => {
                let text = if *input == json!({}) { String::new() } else { input.to_string() };
                let delta = |it| json!({"type": "input_json_delta", "partial_json": it});
                let call = |input: &Value| json!({"type": "tool_use", "id": format!("t{at}"), "name": name, "input": input});
                (
                    call(input),
                    call(&json!({})),
                    pieces(&text, size).into_iter().map(delta).collect(),
                )
            }
            Block::Redacted(data) => {
                let block = json!({"type": "redacted_thinking", "data": data});
                (block.clone(), block, Vec::new())
            }
            Block::Text(text) => {
                let delta = |it| json!({"type": "text_delta", "text": it});
                let deltas = pieces(text, size).into_iter().map(delta).collect();
                (json!({"type": "text", "text": text}), json!({"type": "text", "text": ""}), deltas)
            }
            Block::Thought(text, seal) => {
                let delta = |it| json!({"type": "thinking_delta", "thinking": it});
                let mut deltas: Vec<Value> = pieces(text, size).into_iter().map(delta).collect();
                deltas.push(json!({"type": "signature_delta", "signature": seal}));
                let whole = json!({"type": "thinking", "thinking": text, "signature": seal});
                (whole, json!({"type": "thinking", "thinking": "", "signature": ""}), deltas)
            }
        };
        content.push(whole);
        let open = json!({"type": "content_block_start", "index": at, "content_block": opened});
        stream.push_str(&event(&open));
        for delta in deltas {
            let delta = json!({"type": "content_block_delta", "index": at, "delta": delta});
            stream.push_str(&event(&delta));
        }
        stream.push_str(&event(&json!({"type": "content_block_stop", "index": at})));
    }
    let delta = json!({"stop_reason": stop, "stop_sequence": null});
    let end = json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}});
    stream.push_str(&event(&end));
    stream.push_str(&event(&json!({"type": "message_stop"})));
    (json!({"id": "msg_1", "content": content, "stop_reason": stop, "usage": usage}), stream)
}

/// A chat answer whole and as a stream; the arguments of its calls come mixed.
fn chat(thought: &str, text: &str, calls: &[(String, Value)], size: usize) -> (Value, String) {
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 2}});
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    let call = |(at, (name, input)): (usize, &(String, Value)), arguments: Option<String>| {
        json!({"index": at, "id": format!("c{at}"), "type": "function", "function": {
            "name": name, "arguments": arguments.unwrap_or_else(|| input.to_string())}})
    };
    let whole: Vec<Value> = calls.iter().enumerate().map(|it| call(it, None)).collect();
    let message = json!({"role": "assistant", "content": text, "reasoning_content": thought,
        "tool_calls": whole});
    let mut stream = String::new();
    let mut chunk = |delta: &Value, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = json!({"id": "chatcmpl-1", "choices": [choice]});
        write!(stream, "data: {chunk}\n\n").unwrap();
    };
    chunk(&json!({"role": "assistant", "content": ""}), None);
    for piece in pieces(thought, size) {
        chunk(&json!({"reasoning_content": piece}), None);
    }
    for piece in pieces(text, size) {
        chunk(&json!({"content": piece}), None);
    }
    for it in calls.iter().enumerate() {
        chunk(&json!({"tool_calls": [call(it, Some(String::new()))]}), None);
    }
    let arguments: Vec<_> = calls.iter().map(|(_, it)| pieces(&it.to_string(), size)).collect();
    for round in 0..arguments.iter().map(Vec::len).max().unwrap_or(0) {
        for (at, list) in arguments.iter().enumerate() {
            if let Some(piece) = list.get(round) {
                let delta = json!({"index": at, "function": {"arguments": piece}});
                chunk(&json!({"tool_calls": [delta]}), None);
            }
        }
    }
    chunk(&json!({}), Some(finish));
    write!(stream, "data: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage})).unwrap();
    let choice = json!({"index": 0, "message": message, "finish_reason": finish});
    (json!({"id": "chatcmpl-1", "choices": [choice], "usage": usage}), stream)
}

fn through(bridge: &mut impl pillion::protocol::Translator, stream: &str) -> String {
    let mut out = BytesMut::new();
    for event in events(stream) {
        bridge.event(&event, &mut out).unwrap();
    }
    bridge.finish(&mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

/// The seals and secrets of a chat answer's thinking.
fn seals<'v>(blocks: impl Iterator<Item = &'v Value>) -> Vec<String> {
    let filled = |it: &&str| !it.is_empty();
    blocks
        .filter_map(|it| it["signature"].as_str().or_else(|| it["data"].as_str()).filter(filled))
        .map(str::to_owned)
        .collect()
}

proptest! {
    #[test]
    fn a_streamed_message_says_what_the_whole_one_says(
        blocks in prop::collection::vec(block(), 0..6),
        size in 1usize..9,
    ) {
        let (whole, stream) = message(&blocks, size);
        let bridge = || Bridge::new(
            anthropic::stream::Heard::new(Key::default()),
            openai::stream::Said::new("public", 1, true),
        );
        let answer = bridge().answer(whole.to_string().as_bytes()).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let stream = through(&mut bridge(), &stream);
        prop_assert_eq!(from_chat(&answer), recorded(&whole));
        prop_assert_eq!(from_chunks(&stream), recorded(&whole));
        let chunks: Vec<Value> = events(&stream)
            .iter()
            .filter_map(|it| serde_json::from_slice(&sse::data(it).unwrap()).ok())
            .collect();
        let blocks = |value: &Value| value["thinking_blocks"].as_array().cloned().unwrap_or_default();
        let streamed: Vec<Value> =
            chunks.iter().flat_map(|it| blocks(&it["choices"][0]["delta"])).collect();
        let whole = blocks(&answer["choices"][0]["message"]);
        prop_assert_eq!(seals(streamed.iter()), seals(whole.iter()));
    }

    #[test]
    fn a_streamed_chat_answer_says_what_the_whole_one_says(
        thought in "\\PC{0,12}",
        text in "\\PC{0,12}",
        calls in prop::collection::vec(("[a-z]{1,5}", input()), 0..4),
        size in 1usize..9,
    ) {
        let (whole, stream) = chat(&thought, &text, &calls, size);
        let bridge =
            || Bridge::new(openai::stream::Heard::default(), anthropic::stream::Said::new("public"));
        let answer = bridge().answer(whole.to_string().as_bytes()).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let stream = through(&mut bridge(), &stream);
        let names: Vec<String> = events(&stream)
            .iter()
            .map(|it| String::from_utf8(sse::name(it).unwrap().to_vec()).unwrap())
            .collect();
        prop_assert_eq!(names.first().map(String::as_str), Some("message_start"));
        prop_assert_eq!(names.last().map(String::as_str), Some("message_stop"));
        prop_assert_eq!(recorded(&assembled(&stream)), recorded(&answer));
        prop_assert_eq!(recorded(&answer), from_chat(&whole));
    }
}
