//! A Messages request, read into the hub.

use serde_json::{Map, Value};

use crate::protocol::turn::{
    Ask, Call, Choice, Format, Kind, Part, Role, Source, Thinking, Tool, Turn, Unsaid,
};

/// Reads a request. Fields that the hub has no place for are in [`Ask::rest`].
pub fn ask(mut body: Map<String, Value>) -> Result<Ask, Unsaid> {
    body.retain(|_, value| !value.is_null());
    body.shift_remove("model");
    let mut ask = Ask::default();
    if let Some(system) = body.shift_remove("system") {
        ask.turns.push(Turn { role: Role::System, parts: parts(&system, "system")? });
    }
    let messages = body.shift_remove("messages").unwrap_or_default();
    let messages = messages.as_array().ok_or_else(|| wrong("messages", "it must be a list"))?;
    for (at, message) in messages.iter().enumerate() {
        let role = match message.get("role").and_then(Value::as_str) {
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            Some("user") => Role::User,
            _ => return Err(wrong(&format!("messages[{at}].role"), "no such role")),
        };
        let content = message.get("content").unwrap_or(&Value::Null);
        let parts = parts(content, &format!("messages[{at}].content"))?;
        ask.turns.push(Turn { role, parts });
    }
    let tools = body.shift_remove("tools").unwrap_or_default();
    for (at, tool) in tools.as_array().into_iter().flatten().enumerate() {
        ask.tools.push(read_tool(tool, at)?);
    }
    if let Some(choice) = body.shift_remove("tool_choice") {
        ask.choice = Some(read_choice(&choice)?);
        let single = choice.get("disable_parallel_tool_use").and_then(Value::as_bool);
        ask.parallel = single.map(|single| !single);
    }
    effort_and_format(&mut body, &mut ask)?;
    ask.max_tokens = body.shift_remove("max_tokens").and_then(|value| value.as_u64());
    if let Some(stop) = body.shift_remove("stop_sequences") {
        ask.stop = serde_json::from_value(stop)
            .map_err(|_| wrong("stop_sequences", "it must be a list of texts"))?;
    }
    let metadata = body.shift_remove("metadata").unwrap_or_default();
    ask.user = metadata.get("user_id").and_then(Value::as_str).map(str::to_owned);
    ask.stream = body.shift_remove("stream").and_then(|value| value.as_bool()).unwrap_or(false);
    // Marks the whole prompt for the cache, which is a hint.
    body.shift_remove("cache_control");
    ask.rest = body;
    Ok(ask)
}

/// `thinking`, `output_config` and `output_format`.
fn effort_and_format(body: &mut Map<String, Value>, ask: &mut Ask) -> Result<(), Unsaid> {
    let mut config = body.shift_remove("output_config").unwrap_or_default();
    let nested = config.get_mut("format").map(Value::take);
    if let Some(format) = body.shift_remove("output_format").or(nested).filter(|it| !it.is_null()) {
        let schema = format.get("schema").filter(|schema| schema.is_object());
        ask.format = Some(Format::Schema {
            name: None,
            schema: schema
                .ok_or_else(|| wrong("output_format", "its `schema` is missing"))?
                .clone(),
        });
    }
    let thinking = body.shift_remove("thinking").map(Thinking::Native);
    let off = matches!(&thinking, Some(Thinking::Native(it))
        if it.get("type").and_then(Value::as_str) == Some("disabled"));
    let effort = config.get("effort").and_then(Value::as_str);
    ask.thinking = match effort {
        Some(word) if !off => Some(Thinking::Effort(word.to_owned())),
        _ => thinking,
    };
    Ok(())
}

fn parts(content: &Value, path: &str) -> Result<Vec<Part>, Unsaid> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Part::new(Kind::Text(text.clone()), path)]),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(at, block)| part(block, format!("{path}[{at}]")))
            .collect(),
        _ => Err(wrong(path, "it must be a text or a list of blocks")),
    }
}

fn part(block: &Value, path: String) -> Result<Part, Unsaid> {
    let text = |name: &str| block.get(name).and_then(Value::as_str).map(str::to_owned);
    let need =
        |name: &str| text(name).ok_or_else(|| wrong(&path, &format!("its `{name}` is missing")));
    let none = Value::Null;
    let kind = match text("type").as_deref().unwrap_or_default() {
        "text" => Kind::Text(need("text")?),
        "image" => Kind::Image(source(block, &path)?),
        "document" => {
            let source = match block.pointer("/source/content") {
                Some(content) => Source::Text(text_of(content).ok_or_else(|| {
                    wrong(&path, "a document of other blocks than text cannot be carried")
                })?),
                None => source(block, &path)?,
            };
            Kind::Document { source, title: text("title") }
        }
        "thinking" => Kind::Thought { text: need("thinking")?, signature: text("signature") },
        "redacted_thinking" => Kind::Redacted(need("data")?),
        "tool_use" => Kind::Call(Call {
            id: need("id")?,
            name: need("name")?,
            arguments: block.get("input").cloned().unwrap_or_default(),
        }),
        "tool_result" => Kind::Outcome {
            id: need("tool_use_id")?,
            parts: parts(block.get("content").unwrap_or(&none), &format!("{path}.content"))?,
            failed: block.get("is_error").and_then(Value::as_bool).unwrap_or(false),
        },
        _ => Kind::Native(block.clone()),
    };
    let cache = block.get("cache_control").filter(|mark| !mark.is_null()).cloned();
    Ok(Part { kind, cache, path })
}

/// The words of a document that is given in blocks.
fn text_of(content: &Value) -> Option<String> {
    if let Some(text) = content.as_str() {
        return Some(text.to_owned());
    }
    let words = |block: &Value| block.get("text").and_then(Value::as_str).map(str::to_owned);
    let all: Option<Vec<String>> = content.as_array()?.iter().map(words).collect();
    all.map(|all| all.join("\n\n"))
}

fn source(block: &Value, path: &str) -> Result<Source, Unsaid> {
    let text = |name: &str| {
        block.pointer(&format!("/source/{name}")).and_then(Value::as_str).map(str::to_owned)
    };
    let read = match text("type").as_deref() {
        Some("base64") => match (text("media_type"), text("data")) {
            (Some(media), Some(data)) => Some(Source::Base64 { media, data }),
            _ => None,
        },
        Some("file") => text("file_id").map(Source::File),
        Some("text") => text("data").map(Source::Text),
        Some("url") => text("url").map(Source::Url),
        _ => None,
    };
    read.ok_or_else(|| wrong(&format!("{path}.source"), "it is no known source"))
}

fn read_tool(tool: &Value, at: usize) -> Result<Tool, Unsaid> {
    let text = |name: &str| tool.get(name).and_then(Value::as_str).map(str::to_owned);
    match text("type").as_deref() {
        None | Some("custom") => Ok(Tool::Function {
            name: text("name")
                .ok_or_else(|| wrong(&format!("tools[{at}]"), "its `name` is missing"))?,
            description: text("description"),
            schema: tool.get("input_schema").cloned(),
            strict: tool.get("strict").and_then(Value::as_bool),
            cache: tool.get("cache_control").cloned(),
        }),
        Some(_) => Ok(Tool::Hosted(tool.clone())),
    }
}

fn read_choice(choice: &Value) -> Result<Choice, Unsaid> {
    let text = |name: &str| choice.get(name).and_then(Value::as_str);
    match (text("type"), text("name")) {
        (Some("auto"), _) => Ok(Choice::Auto),
        (Some("any"), _) => Ok(Choice::Required),
        (Some("none"), _) => Ok(Choice::None),
        (Some("tool"), Some(name)) => Ok(Choice::Named(name.to_owned())),
        _ => Err(wrong("tool_choice", "it is none of `auto`, `any`, `none` and a tool")),
    }
}

fn wrong(path: &str, why: &str) -> Unsaid {
    Unsaid::Content(path.to_owned(), why.to_owned())
}
