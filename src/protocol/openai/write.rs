//! A chat completions request, written from the hub.
//!
//! Says `max_tokens`; a model that wants another name for it gets that where all chat requests
//! do. Streams ask for their usage, which the other dialect always reports.

use serde_json::{Map, Value, json};

use super::answer::put;
use crate::protocol::turn::{
    Ask, Choice, Format, Kind, Leniency, Part, Refused, Role, Source, Thinking, Tool, Turn, Unsaid,
};

/// Writes the request that says what `ask` says. `reasoning` is whether the model can think
/// before it answers.
pub fn body(
    ask: &Ask,
    model: &str,
    reasoning: bool,
    leniency: Leniency<'_>,
) -> Result<Map<String, Value>, Unsaid> {
    let mut refused = Refused::default();
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    set("model", Value::from(model));
    set("messages", messages(&ask.turns)?);
    if !ask.tools.is_empty() {
        set("tools", tools(&ask.tools)?);
        ask.choice.as_ref().map(|choice| set("tool_choice", word(choice)));
        ask.parallel.map(|parallel| set("parallel_tool_calls", Value::Bool(parallel)));
    }
    match &ask.format {
        None => {}
        Some(Format::Object) => {
            set("response_format", json!({"type": "json_object"}));
        }
        Some(Format::Schema { name, schema }) => {
            let name = name.as_deref().unwrap_or("answer");
            let schema = json!({"name": name, "schema": schema, "strict": is_strict(schema)});
            set("response_format", json!({"type": "json_schema", "json_schema": schema}));
        }
    }
    match ask.thinking.as_ref().and_then(effort) {
        Some((word, _)) if reasoning => {
            set("reasoning_effort", Value::from(word));
        }
        Some((_, field)) => refused.add(field),
        None => {}
    }
    ask.max_tokens.map(|most| set("max_tokens", Value::from(most)));
    if !ask.stop.is_empty() {
        set("stop", json!(ask.stop));
    }
    ask.user.as_ref().map(|user| set("user", Value::from(user.as_str())));
    if ask.stream {
        set("stream", Value::Bool(true));
        set("stream_options", json!({"include_usage": true}));
    }
    for (name, value) in &ask.rest {
        let allowed = leniency.allowed.iter().any(|known| **known == **name);
        if ANTHROPIC_ONLY.contains(&name.as_str()) && !allowed {
            refused.add(name);
        } else if name == "service_tier" && value == "standard_only" {
            set(name, Value::from("default"));
        } else {
            set(name, value.clone());
        }
    }
    refused.settle(leniency)?;
    Ok(body)
}

/// Anthropic's parameters that have no counterpart.
const ANTHROPIC_ONLY: [&str; 6] =
    ["container", "context_management", "fallbacks", "inference_geo", "mcp_servers", "speed"];

/// The effort in OpenAI's words, and the field that asked for it.
fn effort(thinking: &Thinking) -> Option<(&'static str, &'static str)> {
    match thinking {
        Thinking::Effort(word) => Some((
            match word.as_str() {
                "none" => "none",
                "minimal" => "minimal",
                "low" => "low",
                "medium" => "medium",
                _ => "high",
            },
            "output_config",
        )),
        Thinking::Native(json) => {
            if json.get("type").is_some_and(|kind| kind == "disabled") {
                return None;
            }
            // The middle between the budgets that the other direction asks for.
            let budget = json.get("budget_tokens").and_then(Value::as_u64).unwrap_or(2048);
            let word = match budget {
                0..=1535 => "low",
                1536..=3071 => "medium",
                _ => "high",
            };
            Some((word, "thinking"))
        }
    }
}

/// Whether a schema follows the rules of OpenAI's strict mode: every object is closed, and all
/// of its fields are required. Others are refused there, and are only a guide without it.
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Array(list) => list.iter().all(is_strict),
        Value::Object(map) => {
            let inner = map.iter().all(|(name, value)| match (name.as_str(), value) {
                ("properties" | "$defs" | "definitions", Value::Object(fields)) => {
                    fields.values().all(is_strict)
                }
                ("enum" | "const" | "default" | "examples", _) => true,
                _ => is_strict(value),
            });
            let object = map.contains_key("properties")
                || map.get("type").and_then(Value::as_str) == Some("object");
            let fields = map.get("properties").and_then(Value::as_object);
            let count = map.get("required").and_then(Value::as_array).map_or(0, Vec::len);
            let closed = map.get("additionalProperties") == Some(&Value::Bool(false));
            inner && (!object || (closed && fields.is_some_and(|fields| fields.len() == count)))
        }
        _ => true,
    }
}

fn messages(turns: &[Turn]) -> Result<Value, Unsaid> {
    let mut out = Vec::new();
    for turn in turns {
        match turn.role {
            Role::Assistant => out.extend(assistant(turn)?),
            Role::System => {
                let parts = turn.parts.iter().map(content).collect::<Result<Vec<_>, _>>()?;
                out.extend(said("system", parts));
            }
            Role::User => user(turn, &mut out)?,
        }
    }
    Ok(Value::Array(out))
}

fn user(turn: &Turn, out: &mut Vec<Value>) -> Result<(), Unsaid> {
    let mut behind = Vec::new();
    for part in &turn.parts {
        match &part.kind {
            Kind::Outcome { id, parts, failed } => {
                let mut text = if *failed { FAILED.to_owned() } else { String::new() };
                for inner in parts {
                    match &inner.kind {
                        Kind::Text(more) | Kind::Document { source: Source::Text(more), .. } => {
                            text.push_str(more);
                        }
                        Kind::Image(_) | Kind::Document { .. } => {
                            let label = format!("From the result of tool call {id}:");
                            behind.push(json!({"type": "text", "text": label}));
                            behind.push(content(inner)?);
                        }
                        _ => return Err(inner.unsaid("a tool result holds text and images")),
                    }
                }
                out.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
            }
            _ => behind.push(content(part)?),
        }
    }
    out.extend(said("user", behind));
    Ok(())
}

const FAILED: &str = "The tool failed: ";

fn assistant(turn: &Turn) -> Result<Option<Value>, Unsaid> {
    let mut text = String::new();
    let mut calls = Vec::new();
    for part in &turn.parts {
        match &part.kind {
            Kind::Text(more) => text.push_str(more),
            Kind::Thought { .. } | Kind::Redacted(_) => {}
            Kind::Call(call) => calls.push(json!({
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments.to_string()},
            })),
            _ => return Err(part.unsaid("a chat assistant says text and calls functions")),
        }
    }
    if text.is_empty() && calls.is_empty() {
        return Ok(None);
    }
    let content = if text.is_empty() { Value::Null } else { Value::String(text) };
    let mut message = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        put(&mut message, "tool_calls", Value::Array(calls));
    }
    Ok(Some(message))
}

/// A message of these parts; a single text stands alone, which every server reads.
fn said(role: &str, parts: Vec<Value>) -> Option<Value> {
    let content = match parts.as_slice() {
        [] => return None,
        [only] if only.get("type").is_some_and(|kind| kind == "text") => {
            only.get("text").cloned().unwrap_or_default()
        }
        _ => Value::Array(parts),
    };
    Some(json!({"role": role, "content": content}))
}

fn content(part: &Part) -> Result<Value, Unsaid> {
    match &part.kind {
        Kind::Text(text) => Ok(json!({"type": "text", "text": text})),
        Kind::Image(Source::Url(url)) => {
            Ok(json!({"type": "image_url", "image_url": {"url": url}}))
        }
        Kind::Image(Source::Base64 { media, data }) => Ok(json!({
            "type": "image_url", "image_url": {"url": format!("data:{media};base64,{data}")},
        })),
        Kind::Document { source: Source::Base64 { media, data }, title } => Ok(json!({
            "type": "file",
            "file": {
                "filename": title.as_deref().unwrap_or("document.pdf"),
                "file_data": format!("data:{media};base64,{data}"),
            },
        })),
        Kind::Document { source: Source::Text(text), title } => {
            let text = title.as_ref().map_or_else(|| text.clone(), |it| format!("{it}\n\n{text}"));
            Ok(json!({"type": "text", "text": text}))
        }
        Kind::Document { source: Source::Url(_), .. } => {
            Err(part.unsaid("a document by address is not taken; send its bytes"))
        }
        Kind::Document { source: Source::File(_), .. } | Kind::Image(_) => {
            Err(part.unsaid("a file by id is known only to the provider that keeps it"))
        }
        Kind::Native(block) => {
            let kind = block.get("type").and_then(Value::as_str).unwrap_or("unknown");
            Err(part.unsaid(&format!("blocks of type `{kind}` are not taken")))
        }
        Kind::Call(_) | Kind::Outcome { .. } | Kind::Redacted(_) | Kind::Thought { .. } => {
            Err(part.unsaid("it cannot stand here"))
        }
    }
}

fn tools(tools: &[Tool]) -> Result<Value, Unsaid> {
    let write = |(at, tool): (usize, &Tool)| match tool {
        Tool::Function { name, description, schema, strict, .. } => {
            let mut function = json!({"name": name});
            let fields = [
                ("description", description.as_deref().map(Value::from)),
                ("parameters", schema.clone()),
                ("strict", strict.map(Value::Bool)),
            ];
            for (name, value) in fields {
                if let Some(value) = value {
                    put(&mut function, name, value);
                }
            }
            Ok(json!({"type": "function", "function": function}))
        }
        Tool::Hosted(json) => {
            let kind = json.get("type").and_then(Value::as_str).unwrap_or("unknown");
            let why = format!("tools of type `{kind}` are run only by Anthropic");
            Err(Unsaid::Content(format!("tools[{at}]"), why))
        }
    };
    tools.iter().enumerate().map(write).collect()
}

fn word(choice: &Choice) -> Value {
    match choice {
        Choice::Auto => Value::from("auto"),
        Choice::None => Value::from("none"),
        Choice::Required => Value::from("required"),
        Choice::Named(name) => json!({"type": "function", "function": {"name": name}}),
    }
}
