//! Recorded errors: each has a class that fits it and a message that people can read.
//!
//! Needs the corpus, which is no part of the repository; says so and passes where it is absent.

#![expect(clippy::unwrap_used, reason = "a test that reads wrongly should fail")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pillion::lexicon::{Class, DeploymentIx, Failure, time};
use pillion::protocol::Fault;
use pillion::provider::fault::blame;
use pillion::routing::cooldown::breaker::{self, Breaker};
use pillion::routing::{Action, Ask, Attempts, Member, Outcome, RouteTable, Settings, Shape};
use pillion::stats::Rows;
use serde_json::Value;

/// The recorded providers whose wire is `OpenAI`'s, Azure's or Anthropic's.
const PROVIDERS: &[&str] = &[
    "ai21",
    "alibaba",
    "anthropic",
    "avian",
    "azure",
    "cerebras",
    "chatgpt",
    "crusoe",
    "deepseek",
    "doubleword",
    "fireworks",
    "github_copilot",
    "gpustack",
    "groq",
    "heroku",
    "hyperbolic",
    "llamacpp",
    "llamafile",
    "lmstudio",
    "mistral",
    "mistralrs",
    "moonshot",
    "nebius",
    "novita",
    "openai",
    "openrouter",
    "perplexity",
    "sambanova",
    "snowflake",
    "together",
    "venice",
    "vercel_gateway",
    "vllm",
    "voyage",
    "writer",
    "xai",
    "zai",
];

struct Recorded {
    id: String,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

fn corpus() -> PathBuf {
    std::env::var_os("PILLION_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    )
}

fn errors(file: &Path) -> Vec<Recorded> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| recorded(&line)).collect()
}

fn recorded(line: &Value) -> Option<Recorded> {
    let response = &line["response"];
    let status = response["status"].as_u64().filter(|status| *status >= 400)?;
    let body = match &response["body"] {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        Value::Object(object) if object.contains_key("base64") => return None,
        json => json.to_string().into_bytes(),
    };
    let headers = response["headers"].as_object().into_iter().flatten();
    Some(Recorded {
        id: line["id"].as_str().unwrap().to_owned(),
        status: StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap(),
        headers: headers
            .filter_map(|(name, value)| {
                let name = HeaderName::try_from(name.as_str()).ok()?;
                Some((name, HeaderValue::from_str(value.as_str()?).ok()?))
            })
            .collect(),
        body,
    })
}

/// The classes that an error of this status may have.
fn fitting(status: u16) -> &'static [Class] {
    use Class::*;
    match status {
        400 => {
            &[Authentication, BadRequest, ContentPolicy, ContextWindow, NotFound, PaymentRequired]
        }
        401 => &[Authentication],
        402 => &[PaymentRequired],
        403 => &[ContentPolicy, PermissionDenied, QuotaExhausted, RateLimit],
        404 => &[NotFound],
        408 | 504 | 524 => &[Timeout],
        413 => &[BadRequest, ContextWindow, QuotaExhausted],
        422 => &[ContextWindow, NotFound, UnprocessableEntity],
        429 => &[QuotaExhausted, RateLimit],
        500 => &[ContextWindow, InternalServer, RateLimit, ServiceUnavailable, Timeout],
        502 => &[BadGateway],
        503 | 529 => &[ServiceUnavailable],
        405..=499 => &[BadRequest],
        _ => &[InternalServer],
    }
}

/// Words that leave no doubt, and the class they mean.
const PLAIN_WORDS: &[(&str, Class)] = &[
    ("maximum context length is", Class::ContextWindow),
    ("context_length_exceeded", Class::ContextWindow),
    ("prompt is too long", Class::ContextWindow),
    ("insufficient_quota", Class::QuotaExhausted),
    ("incorrect api key provided", Class::Authentication),
];

/// What becomes of a request after this failure, and of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Decision {
    /// Whether the same deployment is asked again, where there is no other.
    again: bool,
    /// Whether another deployment of the group is asked.
    other: bool,
    /// After how many of it in a row the deployment gets a pause; zero is never.
    cools_after: u32,
}

fn decide(failure: Failure) -> Decision {
    let (now, settings) = (time::now(), breaker::Settings::default());
    let mut breaker = Breaker::default();
    let cools_after = (1..=5).find(|_| {
        let (next, pause) = breaker.failed(&settings, &failure, None, now, 0);
        breaker = next;
        pause.is_some()
    });
    let (again, other) = (asks_again(1, failure), asks_again(2, failure));
    Decision { again, other, cools_after: cools_after.unwrap_or(0) }
}

/// Whether a second try is made in a group of so many.
fn asks_again(members: u16, failure: Failure) -> bool {
    let entry = |at| ("a".into(), format!("id{at}").into(), Member::new(DeploymentIx(at)));
    let table = RouteTable::build((0..members).map(entry).collect(), Settings::default());
    let target = table.resolve("a").unwrap();
    let mut attempts = Attempts::new(&table, Ask::new(&target, Shape::default())).unwrap();
    let (now, view) = (time::now(), Rows::default());
    let Action::Launch(first) = attempts.poll(now, 0, &view) else { panic!("nobody is asked") };
    attempts.on(first.id, Outcome::Failed(failure), now, 0, &view);
    match attempts.poll(now + Duration::from_secs(100), 0, &view) {
        Action::Launch(second) => {
            assert!(members == 1 || second.member.deployment != first.member.deployment);
            true
        }
        Action::Fail(_) => false,
        action @ (Action::Late(_) | Action::Queue(_) | Action::Wait(_)) => panic!("{action:?}"),
    }
}

/// What the table of faults says of an error of this status and class.
fn wanted(status: u16, class: Class, wish: Option<Duration>) -> Decision {
    let of = |again, other, cools_after| Decision { again, other, cools_after };
    let is_patient = wish.is_none_or(|wish| wish <= Duration::from_secs(60));
    match (status, class) {
        (_, Class::ContentPolicy | Class::ContextWindow) => of(false, false, 0),
        (401..=403, _)
        | (_, Class::Authentication | Class::PaymentRequired | Class::QuotaExhausted) => {
            of(false, true, 1)
        }
        (429, _) | (_, Class::RateLimit) => of(is_patient, true, 1),
        (404, _) | (_, Class::NotFound) => of(false, false, 3),
        (408 | 409 | 500.., _) => of(is_patient, true, if status == 409 { 0 } else { 3 }),
        _ => of(false, false, 0),
    }
}

#[test]
fn every_recorded_error_has_a_fitting_class_and_a_message() {
    let root = corpus();
    if !root.is_dir() {
        println!("skipped: there is no corpus at {}", root.display());
        return;
    }
    let mut counts: BTreeMap<(u16, &str), usize> = BTreeMap::new();
    let mut decisions: BTreeMap<Decision, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for provider in PROVIDERS {
        for error in errors(&root.join(format!("{provider}.jsonl"))) {
            let failure = blame(error.status, &error.headers, &error.body, Duration::ZERO);
            let status = error.status.as_u16();
            *counts.entry((status, failure.class.as_str())).or_default() += 1;
            let text = String::from_utf8_lossy(&error.body).to_ascii_lowercase();
            let plain = PLAIN_WORDS.iter().find(|(words, _)| text.contains(words));
            let is_plain = status == 401 || plain.is_none_or(|(_, class)| *class == failure.class);
            if !is_plain || !fitting(status).contains(&failure.class) {
                wrong.push(format!("{} {status} {:?} {text}", error.id, failure.class));
            }
            let (decision, want) =
                (decide(failure), wanted(status, failure.class, failure.retry_after));
            if decision != want {
                wrong
                    .push(format!("{} {status} {failure:?}: {decision:?}, not {want:?}", error.id));
            }
            *decisions.entry(decision).or_default() += 1;
            if Fault::read(&error.body).message.trim().is_empty() {
                wrong.push(format!("{} {status} says nothing: {text}", error.id));
            }
        }
    }
    for ((status, class), count) in &counts {
        println!("{status} {class:<20} {count:>4}");
    }
    for (decision, count) in &decisions {
        println!("{count:>4} {decision:?}");
    }
    println!("{} errors", counts.values().sum::<usize>());
    assert!(wrong.is_empty(), "{}\n{} wrong", wrong.join("\n"), wrong.len());
}
