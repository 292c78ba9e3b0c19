//! A chat completions request, read into the hub.

use serde_json::{Map, Value};

use crate::protocol::turn::{
    Ask, Call, Choice, Format, Kind, Part, Role, Source, Thinking, Tool, Turn, Unsaid,
};

/// Reads a request. Fields that the hub has no place for are in [`Ask::rest`].
pub fn ask(mut body: Map<String, Value>) -> Result<Ask, Unsaid> {
    body.retain(|_, value| !value.is_null());
    body.shift_remove("model");
    body.shift_remove("stream_options");
    let mut ask = Ask::default();
    let messages = body.shift_remove("messages").unwrap_or_default();
    let messages = messages.as_array().ok_or_else(|| wrong("messages", "it must be a list"))?;
    for (at, message) in messages.iter().enumerate() {
        ask.turns.push(turn(message, at)?);
    }
    ask.tools = tools(body.shift_remove("tools"))?;
    ask.choice = choice(body.shift_remove("tool_choice"))?;
    ask.parallel = body.shift_remove("parallel_tool_calls").and_then(|value| value.as_bool());
    ask.format = format(body.shift_remove("response_format"))?;
    ask.thinking = thinking(&mut body)?;
    let plain = body.shift_remove("max_tokens");
    let completion = body.shift_remove("max_completion_tokens");
    ask.max_tokens = completion.or(plain).map(|value| count(&value)).transpose()?;
    ask.stop = stop(body.shift_remove("stop"))?;
    ask.user = body.shift_remove("user").and_then(|user| user.as_str().map(str::to_owned));
    ask.stream = body.shift_remove("stream").and_then(|value| value.as_bool()).unwrap_or(false);
    ask.rest = body;
    Ok(ask)
}

fn turn(message: &Value, at: usize) -> Result<Turn, Unsaid> {
    let path = format!("messages[{at}]");
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
    let content = message.get("content").unwrap_or(&Value::Null);
    let mut turn = match role {
        "system" | "developer" => Turn { role: Role::System, parts: parts(content, &path)? },
        "user" => Turn { role: Role::User, parts: parts(content, &path)? },
        "tool" | "function" => Turn { role: Role::User, parts: vec![outcome(message, &path)?] },
        "assistant" => Turn { role: Role::Assistant, parts: assistant(message, &path)? },
        _ => return Err(wrong(&format!("{path}.role"), "no such role")),
    };
    // A mark on the message means its last part.
    if let (Some(mark), Some(last)) = (message.get("cache_control"), turn.parts.last_mut()) {
        last.cache.get_or_insert_with(|| mark.clone());
    }
    Ok(turn)
}

fn outcome(message: &Value, path: &str) -> Result<Part, Unsaid> {
    let id = message.get("tool_call_id").or_else(|| message.get("name")).and_then(Value::as_str);
    let id = id.ok_or_else(|| wrong(path, "`tool_call_id` is missing"))?.to_owned();
    let parts = parts(message.get("content").unwrap_or(&Value::Null), path)?;
    Ok(Part::new(Kind::Outcome { id, parts, failed: false }, path))
}

fn assistant(message: &Value, path: &str) -> Result<Vec<Part>, Unsaid> {
    let mut said = Vec::new();
    let thoughts = message.get("thinking_blocks").and_then(Value::as_array);
    for (at, block) in thoughts.into_iter().flatten().enumerate() {
        let path = format!("{path}.thinking_blocks[{at}]");
        let text = |name: &str| block.get(name).and_then(Value::as_str).map(str::to_owned);
        let kind = match text("type").as_deref() {
            Some("redacted_thinking") => Kind::Redacted(text("data").unwrap_or_default()),
            _ => Kind::Thought {
                text: text("thinking").unwrap_or_default(),
                signature: text("signature").filter(|seal| !seal.is_empty()),
            },
        };
        said.push(Part::new(kind, path));
    }
    said.extend(parts(message.get("content").unwrap_or(&Value::Null), path)?);
    if let Some(refusal) = message.get("refusal").and_then(Value::as_str) {
        said.push(Part::new(Kind::Text(refusal.to_owned()), format!("{path}.refusal")));
    }
    if message.get("audio").is_some_and(|audio| !audio.is_null()) {
        return Err(wrong(
            &format!("{path}.audio"),
            "audio is not taken; send what it says as text",
        ));
    }
    let calls = message.get("tool_calls").and_then(Value::as_array);
    for (at, call) in calls.into_iter().flatten().enumerate() {
        let path = format!("{path}.tool_calls[{at}]");
        said.push(Part::new(Kind::Call(tool_call(call, &path)?), path));
    }
    if let Some(call) = message.get("function_call").filter(|call| call.is_object()) {
        let path = format!("{path}.function_call");
        let mut call = called(call, &path)?;
        // The result names the function, not the call.
        call.id.clone_from(&call.name);
        said.push(Part::new(Kind::Call(call), path));
    }
    Ok(said)
}

fn tool_call(call: &Value, path: &str) -> Result<Call, Unsaid> {
    let function = call.get("function").ok_or_else(|| {
        wrong(path, "only calls of functions can be carried; `function` is missing")
    })?;
    let mut read = called(function, path)?;
    let id = call.get("id").and_then(Value::as_str);
    id.ok_or_else(|| wrong(path, "`id` is missing"))?.clone_into(&mut read.id);
    Ok(read)
}

fn called(function: &Value, path: &str) -> Result<Call, Unsaid> {
    let name = function.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| wrong(path, "the function's `name` is missing"))?.to_owned();
    let arguments = match function.get("arguments") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Map::new()),
        Some(Value::String(text)) => serde_json::from_str(text)
            .map_err(|_| wrong(path, "the arguments are not valid JSON"))?,
        Some(other) => other.clone(),
    };
    if !arguments.is_object() {
        return Err(wrong(path, "the arguments are no JSON object"));
    }
    Ok(Call { id: String::new(), name, arguments })
}

fn parts(content: &Value, path: &str) -> Result<Vec<Part>, Unsaid> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => {
            Ok(vec![Part::new(Kind::Text(text.clone()), format!("{path}.content"))])
        }
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(at, item)| part(item, format!("{path}.content[{at}]")))
            .collect(),
        _ => Err(wrong(&format!("{path}.content"), "it must be a text or a list of parts")),
    }
}

fn part(item: &Value, path: String) -> Result<Part, Unsaid> {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("text");
    let inner = item.get(kind).unwrap_or(&Value::Null);
    let read = match kind {
        "text" | "refusal" | "input_text" | "output_text" => {
            let text = inner.as_str().or_else(|| item.get("text").and_then(Value::as_str));
            Kind::Text(text.ok_or_else(|| wrong(&path, "its text is missing"))?.to_owned())
        }
        "image_url" => {
            let url = inner.as_str().or_else(|| inner.get("url").and_then(Value::as_str));
            Kind::Image(located(url.ok_or_else(|| wrong(&path, "its `url` is missing"))?, &path)?)
        }
        "file" => file(inner, &path)?,
        // Mistral's way.
        "document_url" => {
            let url = inner.as_str().or_else(|| inner.get("url").and_then(Value::as_str));
            let source =
                located(url.ok_or_else(|| wrong(&path, "its address is missing"))?, &path)?;
            let title = item.get("document_name").and_then(Value::as_str).map(str::to_owned);
            Kind::Document { source, title }
        }
        "input_audio" => return Err(wrong(&path, "audio is not taken; send a transcript as text")),
        "video_url" | "input_video" => return Err(wrong(&path, "video is not taken")),
        // Clients that know what is behind send its own blocks.
        "thinking" | "redacted_thinking" | "document" | "search_result" | "container_upload"
        | "image" | "tool_reference" => Kind::Native(item.clone()),
        _ => return Err(wrong(&path, &format!("content of type `{kind}` is not known"))),
    };
    let mut part = Part::new(read, path);
    if !matches!(part.kind, Kind::Native(_)) {
        part.cache = item.get("cache_control").filter(|mark| !mark.is_null()).cloned();
    }
    Ok(part)
}

fn file(file: &Value, path: &str) -> Result<Kind, Unsaid> {
    let text = |name: &str| file.get(name).and_then(Value::as_str);
    let source = match (text("file_data"), text("file_id")) {
        (Some(data), _) => located(data, path)?,
        (None, Some(id)) if id.starts_with("http") || id.starts_with("data:") => located(id, path)?,
        (None, Some(id)) => Source::File(id.to_owned()),
        (None, None) => return Err(wrong(path, "`file_data` or `file_id` is missing")),
    };
    match &source {
        Source::Base64 { media, .. } if media.starts_with("image/") => Ok(Kind::Image(source)),
        Source::Base64 { media, .. } if media != "application/pdf" => Err(wrong(
            path,
            &format!("files of type `{media}` are not taken; send a PDF, an image or text"),
        )),
        _ => Ok(Kind::Document { source, title: text("filename").map(str::to_owned) }),
    }
}

fn located(url: &str, path: &str) -> Result<Source, Unsaid> {
    let Some(inline) = url.strip_prefix("data:") else {
        return if url.starts_with("https://") || url.starts_with("http://") {
            Ok(Source::Url(url.to_owned()))
        } else {
            Err(wrong(path, "it is neither an http address nor a data URI"))
        };
    };
    let (head, data) =
        inline.split_once(',').ok_or_else(|| wrong(path, "the data URI has no data"))?;
    let media = head
        .strip_suffix(";base64")
        .ok_or_else(|| wrong(path, "a data URI must be in base64"))?
        .split(';')
        .next()
        .unwrap_or_default();
    // The one common misspelling, refused upstream.
    let media = if media == "image/jpg" { "image/jpeg" } else { media };
    Ok(Source::Base64 { media: media.to_owned(), data: data.to_owned() })
}

fn tools(tools: Option<Value>) -> Result<Vec<Tool>, Unsaid> {
    let Some(tools) = tools else { return Ok(Vec::new()) };
    let list = tools.as_array().ok_or_else(|| wrong("tools", "it must be a list"))?;
    list.iter()
        .enumerate()
        .map(|(at, tool)| match tool.get("function") {
            Some(function) => {
                let text = |name: &str| function.get(name).and_then(Value::as_str);
                let name = text("name").ok_or_else(|| {
                    wrong(&format!("tools[{at}].function"), "its `name` is missing")
                })?;
                let mark = tool.get("cache_control").or_else(|| function.get("cache_control"));
                Ok(Tool::Function {
                    name: name.to_owned(),
                    description: text("description").map(str::to_owned),
                    schema: function.get("parameters").filter(|it| !it.is_null()).cloned(),
                    strict: function.get("strict").and_then(Value::as_bool),
                    cache: mark.filter(|mark| !mark.is_null()).cloned(),
                })
            }
            None => Ok(Tool::Hosted(tool.clone())),
        })
        .collect()
}

fn choice(choice: Option<Value>) -> Result<Option<Choice>, Unsaid> {
    let Some(choice) = choice else { return Ok(None) };
    let name = choice.pointer("/function/name").or_else(|| choice.get("name"));
    let word = choice.as_str().or_else(|| choice.get("type").and_then(Value::as_str));
    match (word, name.and_then(Value::as_str)) {
        (_, Some(name)) => Ok(Some(Choice::Named(name.to_owned()))),
        (Some("auto"), None) => Ok(Some(Choice::Auto)),
        (Some("none"), None) => Ok(Some(Choice::None)),
        (Some("required" | "any"), None) => Ok(Some(Choice::Required)),
        _ => Err(wrong("tool_choice", "it is none of `auto`, `none`, `required` and a function")),
    }
}

fn format(format: Option<Value>) -> Result<Option<Format>, Unsaid> {
    let Some(format) = format else { return Ok(None) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Format::Object)),
        Some("json_schema") => {
            let schema = format.pointer("/json_schema/schema");
            let schema = schema.or_else(|| format.get("schema")).filter(|it| it.is_object());
            let name = format.pointer("/json_schema/name").and_then(Value::as_str);
            Ok(Some(Format::Schema {
                name: name.map(str::to_owned),
                schema: schema
                    .ok_or_else(|| wrong("response_format", "its `schema` is missing"))?
                    .clone(),
            }))
        }
        _ => Err(wrong("response_format", "its `type` is not known")),
    }
}

fn thinking(body: &mut Map<String, Value>) -> Result<Option<Thinking>, Unsaid> {
    let effort = body.shift_remove("reasoning_effort");
    if let Some(native) = body.shift_remove("thinking") {
        return Ok(Some(Thinking::Native(native)));
    }
    let Some(effort) = effort else { return Ok(None) };
    // Some clients send the Responses form here.
    let word = effort.as_str().or_else(|| effort.get("effort").and_then(Value::as_str));
    match word {
        Some(
            word @ ("none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max" | "default"),
        ) => Ok((word != "default").then(|| Thinking::Effort(word.to_owned()))),
        _ => Err(wrong("reasoning_effort", "it is no known effort")),
    }
}

fn stop(stop: Option<Value>) -> Result<Vec<String>, Unsaid> {
    match stop {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(list) => serde_json::from_value(list)
            .map_err(|_| wrong("stop", "it must be a text or a list of texts")),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked before")]
fn count(value: &Value) -> Result<u64, Unsaid> {
    let whole = value.as_u64();
    // Some clients send 1024.0.
    let float = || value.as_f64().filter(|f| (1.0..1e15).contains(f)).map(|f| f.round() as u64);
    whole.or_else(float).ok_or_else(|| wrong("max_tokens", "it must be a positive number"))
}

fn wrong(path: &str, why: &str) -> Unsaid {
    Unsaid::Content(path.to_owned(), why.to_owned())
}
