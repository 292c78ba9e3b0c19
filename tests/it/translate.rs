//! Recorded exchanges: what is translated says what was recorded.
//!
//! Needs the corpus, which is no part of the repository; says so and passes where it is absent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::BytesMut;
use pillion::protocol::anthropic::write::{Abilities, Key};
use pillion::protocol::turn::{Bridge, Leniency, Unsaid};
use pillion::protocol::{Translator as _, Usage, anthropic, openai, sse};
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
    said.finish = match message["stop_reason"].as_str().unwrap_or_default() {
        "max_tokens" | "model_context_window_exceeded" | "pause_turn" | "compaction" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        _ => "stop",
    }
    .to_owned();
    let usage = |name: &str| message["usage"][name].as_u64().unwrap_or(0);
    let (read, written) = (usage("cache_read_input_tokens"), usage("cache_creation_input_tokens"));
    said.usage =
        [usage("input_tokens") + read + written, usage("output_tokens"), read, written];
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
#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
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
