//! A Messages request, written from the hub.
//!
//! Every parameter that the API does not take is named in one refusal, or left out where the
//! caller wished so. Fields that OpenAI does not know pass as they came.

use serde_json::{Map, Value, json};

use super::blocks::{self, anything, set};
use super::{JSON_TOOL, schema};
use crate::protocol::turn::{Ask, Choice, Format, Leniency, Refused, Role, Thinking, Tool, Unsaid};

/// What a model can do, as far as a request depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
pub struct Abilities {
    /// The longest answer it gives.
    pub max_output: Option<u64>,
    /// Whether it can think before it answers.
    pub reasoning: bool,
    /// Whether it decides itself how much to think, and is told only an effort.
    pub adaptive_thinking: bool,
    /// Whether it takes a schema for its answer.
    pub json_schema: bool,
    /// Whether it takes `temperature`, `top_p` and `top_k`.
    pub sampling: bool,
}

/// A request, and what must be known to send it and to read its answer.
#[derive(Debug)]
pub struct Spoken {
    /// The body.
    pub body: Map<String, Value>,
    /// For the `anthropic-beta` header.
    pub betas: Vec<&'static str>,
    /// How to read the answer.
    pub key: Key,
}

/// What must be undone in an answer.
#[derive(Debug, Clone, Default)]
pub struct Key {
    /// Whether calls of [`JSON_TOOL`] are the answer itself.
    pub json_tool: bool,
    /// The names that were changed.
    pub names: Names,
}

/// Tool names as sent and as the client knows them, where they differ.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<(String, String)>);

impl Names {
    /// The name in the characters and the length that the API takes.
    pub(super) fn sendable(&mut self, name: &str) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(fits) {
            return name.to_owned();
        }
        if let Some((sent, _)) = self.0.iter().find(|(_, known)| known == name) {
            return sent.clone();
        }
        // The number keeps two names apart that differ only in what was replaced.
        let kept: String = blocks::clean(name).chars().take(LONGEST_NAME - 5).collect();
        let sent = format!("{kept}_{}", self.0.len());
        self.0.push((sent.clone(), name.to_owned()));
        sent
    }

    /// The client's name for a sent one.
    pub fn known<'n>(&'n self, sent: &'n str) -> &'n str {
        self.0.iter().find(|(name, _)| name == sent).map_or(sent, |(_, known)| known)
    }
}

/// The beta feature of schemas that answers and arguments must follow.
const STRUCTURED: &str = "structured-outputs-2025-11-13";

/// The beta features that a field of the request needs.
const FIELD_BETAS: [(&str, &str); 2] = [
    ("context_management", "context-management-2025-06-27"),
    ("mcp_servers", "mcp-client-2025-04-04"),
];

/// The beta features that a tool needs, by its type.
const TOOL_BETAS: [(&str, &str); 6] = [
    ("code_execution_20250522", "code-execution-2025-05-22"),
    ("code_execution_20250825", "code-execution-2025-08-25"),
    ("computer_20241022", "computer-use-2024-10-22"),
    ("computer_20250124", "computer-use-2025-01-24"),
    ("computer_20251124", "computer-use-2025-11-24"),
    ("web_fetch_20250910", "web-fetch-2025-09-10"),
];

const LONGEST_NAME: usize = 128;

/// Writes the request that says what `ask` says.
pub fn body(
    ask: &Ask,
    model: &str,
    abilities: Abilities,
    leniency: Leniency<'_>,
) -> Result<Spoken, Unsaid> {
    let mut refused = Refused::default();
    let mut key = Key::default();
    let mut betas = Vec::new();
    let talk = blocks::conversation(ask, &mut key.names)?;
    if talk.messages.is_empty() {
        return Err(Unsaid::Content(
            "messages".to_owned(),
            "at least one message must not be a system message".to_owned(),
        ));
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), Value::from(model));
    for (field, beta) in FIELD_BETAS {
        betas.extend(ask.rest.contains_key(field).then_some(beta));
    }
    let thought = thinking(ask, abilities, &mut body, &mut refused);
    let mut system = talk.system;
    let mut tools = tools(&ask.tools, abilities, &mut key.names, &mut betas)?;
    tools.extend(ask.rest.get("web_search_options").map(web_search));
    let offered = !tools.is_empty();
    if !offered {
        // The API wants the tools of the history declared.
        tools = talk.called.iter().map(|name| past_tool(name)).collect();
    }
    let mut choice = choice(ask, offered, !tools.is_empty(), &mut key.names);
    match &ask.format {
        None => {}
        Some(Format::Object) => system.push(json!({"type": "text", "text": SPEAK_JSON})),
        Some(Format::Schema { name, schema }) => {
            let native = abilities.json_schema.then(|| schema::closed(schema)).flatten();
            if let Some(schema) = native {
                betas.push(STRUCTURED);
                let format = json!({"type": "json_schema", "schema": schema});
                body.insert("output_format".to_owned(), format);
            } else {
                let tool = json_tool(name.as_deref(), schema)?;
                choice = Some(forced(choice, !offered, thought));
                tools.push(tool);
                key.json_tool = true;
            }
        }
    }
    if talk.files {
        betas.push("files-api-2025-04-14");
    }
    rest(ask, abilities, thought, leniency, &mut body, &mut refused);
    refused.settle(leniency)?;
    betas.sort_unstable();
    betas.dedup();
    let optional = [("system", system), ("tools", tools)];
    for (name, list) in optional.into_iter().filter(|(_, list)| !list.is_empty()) {
        body.insert(name.to_owned(), Value::Array(list));
    }
    if let Some(choice) = choice {
        body.insert("tool_choice".to_owned(), choice);
    }
    body.insert("messages".to_owned(), talk.messages.into_iter().map(message).collect());
    Ok(Spoken { body, betas, key })
}

fn message((role, blocks): (Role, Vec<Value>)) -> Value {
    let role = if role == Role::Assistant { "assistant" } else { "user" };
    json!({"role": role, "content": blocks})
}

/// Writes `thinking` and `max_tokens`, which depend on each other; whether the model thinks.
fn thinking(
    ask: &Ask,
    abilities: Abilities,
    body: &mut Map<String, Value>,
    refused: &mut Refused,
) -> bool {
    let limit = ask.max_tokens;
    // 4096 is the most that every model takes; a guess above is an error on the small ones.
    let most = abilities.max_output.unwrap_or(4096);
    let mut max_tokens = limit.unwrap_or(most);
    let mut native = None;
    match &ask.thinking {
        None => {}
        Some(Thinking::Native(value)) => native = Some(value.clone()),
        Some(Thinking::Effort(word)) if word == "none" => {}
        Some(Thinking::Effort(_)) if !abilities.reasoning => refused.add("reasoning_effort"),
        Some(Thinking::Effort(word)) if abilities.adaptive_thinking => {
            native = Some(json!({"type": "adaptive", "display": "summarized"}));
            let effort = match word.as_str() {
                "minimal" => "low",
                // New with the generation that no longer takes samples; refused by the one before.
                "xhigh" if abilities.sampling => "high",
                word => word,
            };
            body.insert("output_config".to_owned(), json!({"effort": effort}));
        }
        Some(Thinking::Effort(word)) => {
            let budget = budget(word);
            if limit.is_none() {
                max_tokens = abilities.max_output.unwrap_or(budget + 4096).max(budget + 1);
            }
            // The budget is a part of the answer's tokens and must leave at least one.
            if max_tokens <= LEAST_BUDGET {
                refused.add("reasoning_effort");
            } else {
                let budget = budget.min(max_tokens - 1);
                native = Some(json!({"type": "enabled", "budget_tokens": budget}));
            }
        }
    }
    if limit.is_none() {
        let budget = native.as_ref().and_then(|it| it.get("budget_tokens")).and_then(Value::as_u64);
        if let Some(budget) = budget.filter(|budget| *budget >= max_tokens) {
            max_tokens = budget + 4096;
        }
    }
    body.insert("max_tokens".to_owned(), Value::from(max_tokens));
    let on = native.as_ref().is_some_and(|it| {
        it.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "disabled")
    });
    if let Some(native) = native {
        body.insert("thinking".to_owned(), native);
    }
    on
}

const LEAST_BUDGET: u64 = 1024;

fn budget(effort: &str) -> u64 {
    match effort {
        "medium" => 2048,
        "high" => 4096,
        "xhigh" => 8192,
        "max" => 16384,
        _ => LEAST_BUDGET,
    }
}

fn tools(
    tools: &[Tool],
    abilities: Abilities,
    names: &mut Names,
    betas: &mut Vec<&'static str>,
) -> Result<Vec<Value>, Unsaid> {
    let mut write = |(at, tool): (usize, &Tool)| match tool {
        Tool::Function { name, description, schema, strict, cache } => {
            let mut json = json!({"type": "custom", "name": names.sendable(name)});
            if let Some(text) = description {
                set(&mut json, "description", Value::from(text.as_str()));
            }
            let mut schema = schema.clone().unwrap_or_else(anything);
            if schema.get("type").is_none() {
                set(&mut schema, "type", Value::from("object"));
            }
            // Without the ability it stays a wish: the model reads the schema all the same.
            let strict = *strict == Some(true) && abilities.json_schema;
            let subset = strict.then(|| schema::closed(&schema)).flatten();
            if let Some(subset) = subset {
                schema = subset;
                set(&mut json, "strict", Value::Bool(true));
                betas.push(STRUCTURED);
            }
            set(&mut json, "input_schema", schema);
            if let Some(mark) = cache {
                set(&mut json, "cache_control", mark.clone());
            }
            Ok(json)
        }
        Tool::Hosted(json) => match json.get("type").and_then(Value::as_str) {
            // Anthropic's own tools carry a date in their type, or a schema.
            Some(kind) if kind.ends_with(|c: char| c.is_ascii_digit()) || kind == "mcp_toolset" => {
                betas.extend(TOOL_BETAS.iter().filter(|(it, _)| *it == kind).map(|(_, beta)| beta));
                Ok(json.clone())
            }
            _ if json.get("input_schema").is_some() => Ok(json.clone()),
            kind => Err(Unsaid::Content(
                format!("tools[{at}]"),
                format!("tools of type `{}` are not taken", kind.unwrap_or("unknown")),
            )),
        },
    };
    tools.iter().enumerate().map(&mut write).collect()
}

fn past_tool(name: &str) -> Value {
    json!({"type": "custom", "name": name, "input_schema": anything()})
}

fn choice(ask: &Ask, offered: bool, declared: bool, names: &mut Names) -> Option<Value> {
    if !offered {
        return declared.then(|| json!({"type": "none"}));
    }
    let mut json = match &ask.choice {
        None => ask.parallel.map(|_| json!({"type": "auto"}))?,
        Some(Choice::Auto) => json!({"type": "auto"}),
        Some(Choice::None) => return Some(json!({"type": "none"})),
        Some(Choice::Required) => json!({"type": "any"}),
        Some(Choice::Named(name)) => json!({"type": "tool", "name": names.sendable(name)}),
    };
    if let Some(parallel) = ask.parallel {
        set(&mut json, "disable_parallel_tool_use", Value::Bool(!parallel));
    }
    Some(json)
}

fn json_tool(name: Option<&str>, schema: &Value) -> Result<Value, Unsaid> {
    if schema.get("type").is_some_and(|kind| kind != "object") {
        return Err(Unsaid::Content(
            "response_format.json_schema.schema".to_owned(),
            "this model needs a schema whose type is `object`".to_owned(),
        ));
    }
    let mut schema = schema.clone();
    set(&mut schema, "type", Value::from("object"));
    let about = name.map(|name| format!(" (`{name}`)")).unwrap_or_default();
    let description =
        format!("Gives the final answer{about}. Call it once, when the answer is known.");
    Ok(json!({
        "type": "custom", "name": JSON_TOOL, "description": description, "input_schema": schema,
    }))
}

/// The choice that makes the model answer by the JSON tool, besides the client's own tools.
fn forced(choice: Option<Value>, alone: bool, thought: bool) -> Value {
    let says = |kind: &str| {
        choice.as_ref().and_then(|it| it.get("type")).and_then(Value::as_str) == Some(kind)
    };
    // A model that thinks must not be forced.
    if thought {
        return json!({"type": "auto"});
    }
    if alone || says("none") {
        // Two answers would not be one JSON text.
        return json!({"type": "tool", "name": JSON_TOOL, "disable_parallel_tool_use": true});
    }
    match choice {
        Some(named) if named.get("type").and_then(Value::as_str) == Some("tool") => named,
        Some(mut other) => {
            set(&mut other, "type", Value::from("any"));
            other
        }
        None => json!({"type": "any"}),
    }
}

/// The API has no mode for any JSON object, so it is asked for in words.
const SPEAK_JSON: &str =
    "Answer with exactly one JSON object and nothing else: no prose around it, no code fence.";

fn rest(
    ask: &Ask,
    abilities: Abilities,
    thought: bool,
    leniency: Leniency<'_>,
    body: &mut Map<String, Value>,
    refused: &mut Refused,
) {
    let stops: Vec<&String> = ask.stop.iter().filter(|it| !it.trim().is_empty()).collect();
    if !leniency.drop && stops.len() < ask.stop.len() {
        refused.add("stop");
    }
    if !stops.is_empty() {
        body.insert("stop_sequences".to_owned(), json!(stops));
    }
    if ask.stream {
        body.insert("stream".to_owned(), Value::Bool(true));
    }
    let mut user = ask.user.as_deref().filter(|user| !names_a_person(user)).map(str::to_owned);
    for (name, value) in &ask.rest {
        let allowed = leniency.allowed.iter().any(|known| **known == **name);
        match name.as_str() {
            _ if allowed && name != "web_search_options" => {}
            // The rest of it is for the gateway's own records.
            "metadata" => {
                let id = value.get("user_id").and_then(Value::as_str);
                user = id.map(str::to_owned).or(user);
                continue;
            }
            "web_search_options" => continue,
            "service_tier" => match value.as_str() {
                Some("auto" | "standard_only") => {}
                Some("default") => {
                    body.insert(name.clone(), Value::from("standard_only"));
                    continue;
                }
                _ => {
                    refused.add(name);
                    continue;
                }
            },
            "temperature" | "top_p" | "top_k" if !samples(name, value, abilities, thought) => {
                refused.add(name);
                continue;
            }
            _ if OPENAI_ONLY.contains(&name.as_str()) => {
                if !is_neutral(name, value) {
                    refused.add(name);
                }
                continue;
            }
            _ => {}
        }
        merge(body, name, value);
    }
    if let Some(user) = user {
        body.insert("metadata".to_owned(), json!({"user_id": user}));
    }
}

/// Adds a field; two objects of the same name become one.
fn merge(body: &mut Map<String, Value>, name: &str, value: &Value) {
    match (body.get_mut(name), value) {
        (Some(Value::Object(ours)), Value::Object(theirs)) => ours.extend(theirs.clone()),
        _ => {
            body.insert(name.to_owned(), value.clone());
        }
    }
}

/// The API asks for opaque ids and not for addresses.
fn names_a_person(user: &str) -> bool {
    let digits = user.chars().filter(char::is_ascii_digit).count();
    user.contains('@')
        || (digits >= 7 && user.chars().all(|c| c.is_ascii_digit() || " +-().".contains(c)))
}

/// Whether the API takes this value here: it goes from 0 to 1, and a model that thinks samples
/// as it likes.
fn samples(name: &str, value: &Value, abilities: Abilities, thought: bool) -> bool {
    let number = value.as_f64().unwrap_or(0.0);
    let usual = name != "top_k" && (number - 1.0).abs() < f64::EPSILON;
    let fits = name == "top_k" || (0.0..=1.0).contains(&number);
    let thinks = !thought || (name == "top_p" && number >= 0.95);
    usual || (abilities.sampling && fits && thinks)
}

fn web_search(options: &Value) -> Value {
    let uses = match options.get("search_context_size").and_then(Value::as_str) {
        Some("low") => 1,
        Some("high") => 10,
        _ => 5,
    };
    let mut tool = json!({"type": "web_search_20250305", "name": "web_search", "max_uses": uses});
    let place = options.pointer("/user_location/approximate").filter(|it| it.is_object());
    if let Some(place) = place {
        let mut place = place.clone();
        set(&mut place, "type", Value::from("approximate"));
        set(&mut tool, "user_location", place);
    }
    tool
}

/// Whether the value asks for nothing but what happens anyway.
fn is_neutral(name: &str, value: &Value) -> bool {
    match name {
        "n" => value.as_u64() == Some(1),
        "modalities" => value.as_array().is_some_and(|it| it.iter().all(|one| one == "text")),
        "logit_bias" => value.as_object().is_some_and(Map::is_empty),
        "verbosity" => value == "medium",
        _ => value.as_f64() == Some(0.0) || value == &Value::Bool(false),
    }
}

/// OpenAI's parameters that have no counterpart.
const OPENAI_ONLY: [&str; 18] = [
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "modalities",
    "n",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "seed",
    "store",
    "top_logprobs",
    "verbosity",
    "web_search",
];
