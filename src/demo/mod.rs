//! Simulated deployments for `pillion demo`: real HTTP servers on loopback with real faults.
//!
//! They speak chat completions and Responses, as any client of OpenAI's does, and each says in its
//! answer who it is. Nothing here is reachable from [`crate::exchange`] but through its sockets.

mod paced;
mod responses;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub use paced::Paced;

/// What a simulated deployment is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Character {
    /// Fails now and then: every eighth call or so.
    Flaky,
    /// Answers in its own good time, always the same.
    Steady,
    /// Usually fast, sometimes four to twelve times slower.
    Tailed,
}

impl Character {
    /// All of them, in the order of the configuration.
    pub const ALL: [Self; 3] = [Self::Steady, Self::Tailed, Self::Flaky];

    /// Its name in the configuration and in its answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flaky => "flaky",
            Self::Steady => "steady",
            Self::Tailed => "tailed",
        }
    }

    /// How long its first token takes this time.
    fn first_token(self) -> Duration {
        let jitter = Duration::from_millis(fastrand::u64(0..40));
        match self {
            Self::Steady => Duration::from_millis(150) + jitter,
            Self::Tailed if fastrand::u32(0..1000) < 50 => {
                Duration::from_millis(80) * fastrand::u32(4..12) + jitter
            }
            Self::Flaky | Self::Tailed => Duration::from_millis(80) + jitter,
        }
    }

    fn fails(self) -> bool {
        self == Self::Flaky && fastrand::u32(0..8) == 0
    }
}

/// The configuration that puts the gateway in front of the simulated deployments.
pub fn configuration(deployments: &[(Character, SocketAddr)]) -> String {
    let list: Vec<Value> = deployments
        .iter()
        .map(|(character, address)| {
            json!({
                "model_name": "demo",
                "litellm_params": {
                    "model": format!("openai/{}", character.name()),
                    "api_base": format!("http://{address}/v1"),
                    "api_key": "sk-demo",
                    "input_cost_per_token": 0.000_000_15,
                    "output_cost_per_token": 0.000_000_6,
                },
                "model_info": { "id": character.name() },
            })
        })
        .collect();
    json!({
        "model_list": list,
        "router_settings": {
            "model_group_alias": { "gpt-4o-mini": "demo" },
        },
        // One of them has a heavy tail; here is what to do about it.
        "pillion": { "hedge": { "mode": "enabled" } },
    })
    .to_string()
}

/// What to paste into another terminal.
pub fn welcome(api: SocketAddr, admin: SocketAddr) -> String {
    format!(
        "\
Pillion is in front of three simulated deployments: steady, tailed and flaky.

  curl -s http://{api}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{\"model\":\"demo\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'

  from openai import OpenAI
  print(OpenAI(base_url=\"http://{api}/v1\", api_key=\"any\").chat.completions.create(model=\"demo\", messages=[{{\"role\": \"user\", \"content\": \"Hello\"}}]).choices[0].message.content)

Metrics: http://{admin}/metrics    Health: http://{admin}/health/ready
Who is asked, and why: http://{admin}/explain?model=demo    Stop: Ctrl-C
"
    )
}

/// Binds a port of its own for each character.
pub async fn bind() -> std::io::Result<Vec<(Character, TcpListener)>> {
    let mut bound = Vec::new();
    for character in Character::ALL {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        bound.push((character, TcpListener::bind(address).await?));
    }
    Ok(bound)
}

/// Answers one call in character.
pub async fn answer(character: Character, request: Request<Incoming>) -> Response<Paced> {
    let Some(way) = Way::of(request.uri().path()) else {
        let message = "the simulated deployments speak chat completions and Responses only";
        return error(StatusCode::NOT_FOUND, message);
    };
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let Ok(asked) = serde_json::from_slice::<Value>(&body.unwrap_or_default()) else {
        return error(StatusCode::BAD_REQUEST, "the body is not JSON");
    };
    if character.fails() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        return error(StatusCode::SERVICE_UNAVAILABLE, "the simulated deployment is overloaded");
    }
    let words = words(character, &asked);
    let first_token = character.first_token();
    if asked.get("stream") == Some(&Value::Bool(true)) {
        let pieces = match way {
            Way::Chat => stream(&words, &asked, first_token),
            Way::Responses => responses::events(&words, &asked, first_token, gap),
        };
        return reply(StatusCode::OK, "text/event-stream", Paced::new(pieces));
    }
    tokio::time::sleep(first_token).await;
    let whole = match way {
        Way::Chat => whole(&words, &asked),
        Way::Responses => responses::whole(&words, &asked),
    };
    reply(StatusCode::OK, "application/json", Paced::at_once(Bytes::from(whole.to_string())))
}

/// What it is asked by.
#[derive(Debug, Clone, Copy)]
enum Way {
    Chat,
    Responses,
}

impl Way {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::Chat),
            "/v1/responses" => Some(Self::Responses),
            _ => None,
        }
    }
}

/// The answer to a chat in one piece.
fn whole(words: &[String], asked: &Value) -> Value {
    json!({
        "id": "chatcmpl-demo",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": asked.get("model"),
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": words.concat() },
            "finish_reason": "stop",
        }],
        "usage": usage(asked, words),
    })
}

/// What was said last: a text, or the last message's, in one piece or in parts.
fn said(asked: &Value) -> Option<&str> {
    let turns = asked.get("messages").or_else(|| asked.get("input"))?;
    let Some(last) = turns.as_array().and_then(|turns| turns.last()) else {
        return turns.as_str();
    };
    let content = last.get("content")?;
    content.as_str().or_else(|| content.as_array()?.last()?.get("text")?.as_str())
}

fn words(character: Character, asked: &Value) -> Vec<String> {
    let said = said(asked).unwrap_or("nothing that is text");
    let quoted: String = said.chars().take(80).collect();
    format!(
        "This is the {} deployment of the Pillion demo. You said: “{quoted}”. \
         I am simulated, but the road here was real: a socket, a pool, a router and back.",
        character.name()
    )
    .split_inclusive(' ')
    .map(str::to_owned)
    .collect()
}

fn usage(asked: &Value, words: &[String]) -> Value {
    let prompt = prompt_tokens(asked);
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": words.len(),
        "total_tokens": prompt + words.len(),
    })
}

/// Four bytes make a token, or so.
fn prompt_tokens(asked: &Value) -> usize {
    asked.to_string().len() / 4
}

/// How long a token after the first takes.
fn gap() -> Duration {
    Duration::from_millis(fastrand::u64(5..25))
}

/// The same as a stream: each event, and the pause before it.
fn stream(words: &[String], asked: &Value, first_token: Duration) -> Vec<(Duration, Bytes)> {
    let event = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": "chatcmpl-demo",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": asked.get("model"),
            "choices": choices,
        });
        if let (Some(usage), Some(chunk)) = (usage, chunk.as_object_mut()) {
            chunk.insert("usage".to_owned(), usage);
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let delta = |delta: Value, reason: Option<&str>| {
        event(json!([{ "index": 0, "delta": delta, "finish_reason": reason }]), None)
    };
    let role = delta(json!({ "role": "assistant", "content": "" }), None);
    let mut pieces = vec![(first_token, role)];
    for word in words {
        pieces.push((gap(), delta(json!({ "content": word }), None)));
    }
    pieces.push((Duration::ZERO, delta(json!({}), Some("stop"))));
    if asked.pointer("/stream_options/include_usage") == Some(&Value::Bool(true)) {
        pieces.push((Duration::ZERO, event(json!([]), Some(usage(asked, words)))));
    }
    pieces.push((Duration::ZERO, Bytes::from_static(b"data: [DONE]\n\n")));
    pieces
}

fn error(status: StatusCode, message: &str) -> Response<Paced> {
    let body = json!({ "error": { "message": message, "type": "server_error", "code": null } });
    reply(status, "application/json", Paced::at_once(Bytes::from(body.to_string())))
}

fn reply(status: StatusCode, kind: &'static str, body: Paced) -> Response<Paced> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
