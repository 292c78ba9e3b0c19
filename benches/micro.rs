//! What one request costs in the pure parts: reading and editing the body, watching a stream,
//! deciding whom to ask. Counts time and allocations; does no IO.
//!
//! `cargo bench --bench micro`, with a filter such as `splice` behind `--`.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use pillion::lexicon::{DeploymentIx, time};
use pillion::protocol::sse::Framer;
use pillion::protocol::watch::Watch;
use pillion::protocol::{Edits, Endpoint, Fields, name};
use pillion::routing::latency::Seen;
use pillion::routing::{
    Action, Ask, Attempts, Kind, Member, Resolved, RouteTable, Settings, Shape, View, Vitals,
};
use pillion::stats::{Named, StatsTable, What};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// The bodies: prompts of plain text, and an agent's turn with many tools and results.
const BODIES: [&str; 4] = ["1 KB", "20 KB", "56 KB tools", "200 KB"];

#[divan::bench(args = BODIES)]
fn peek(bencher: Bencher<'_, '_>, which: &str) {
    let body = body(which);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench_local(|| Fields::of(black_box(&body)).expect("the body is an object"));
}

#[divan::bench(args = BODIES)]
fn splice(bencher: Bencher<'_, '_>, which: &str) {
    let body = body(which);
    let fields = Fields::of(&body).expect("the body is an object");
    let model = Bytes::from_static(b"\"gpt-4.1-mini-2025-04-14\"");
    let options = Bytes::from_static(b"{\"include_usage\":true}");
    bencher.bench_local(|| {
        let mut edits = Edits::new();
        edits.set("model", model.clone());
        edits.set("stream_options", options.clone());
        edits.apply(black_box(&body), &fields)
    });
}

fn body(which: &str) -> Bytes {
    match which {
        "1 KB" => plain(1 << 10),
        "20 KB" => plain(20 << 10),
        "56 KB tools" => tools(56 << 10),
        _ => plain(200 << 10),
    }
}

/// A chat of `length` bytes or a little more: short turns, some of them with escapes.
fn plain(length: usize) -> Bytes {
    let mut text = String::from("{\"model\":\"fast\",\"stream\":true,\"temperature\":0.2,");
    text.push_str("\"messages\":[{\"role\":\"system\",\"content\":\"Answer in one line.\"}");
    for turn in 0.. {
        if text.len() + 4 >= length {
            break;
        }
        let role = if turn % 2 == 0 { "user" } else { "assistant" };
        let words =
            "Which of the two rivers is longer,\\nand by how much? \\u00dcber \\\"that\\\" ";
        let content = words.repeat(6);
        let _ = write!(text, ",{{\"role\":\"{role}\",\"content\":\"{content}\"}}");
    }
    text.push_str("]}");
    Bytes::from(text)
}

/// An agent's turn: half of it schemas of tools, half calls and what they gave back.
fn tools(length: usize) -> Bytes {
    let mut text = String::from("{\"model\":\"fast\",\"stream\":true,\"tools\":[");
    for at in 0.. {
        if text.len() > length / 2 {
            break;
        }
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(
            text,
            "{comma}{{\"type\":\"function\",\"function\":{{\"name\":\"tool_{at}\",\"parameters\":{{\
             \"type\":\"object\",\"required\":[\"path\"],\"properties\":{{\"path\":{{\"type\":\
             \"string\",\"description\":\"Where it lies, from the root.\"}},\"depth\":{{\
             \"type\":\"integer\",\"minimum\":0}}}}}}}}}}"
        );
    }
    text.push_str("],\"messages\":[{\"role\":\"user\",\"content\":\"Tidy this up.\"}");
    for at in 0.. {
        if text.len() > length {
            break;
        }
        let _ = write!(
            text,
            ",{{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{{\"id\":\"call_{at}\",\
             \"type\":\"function\",\"function\":{{\"name\":\"tool_{at}\",\"arguments\":\
             \"{{\\\"path\\\":\\\"/src/{at}\\\",\\\"depth\\\":2}}\"}}}}]}},{{\"role\":\"tool\",\
             \"tool_call_id\":\"call_{at}\",\"content\":\"fn main() {{\\n\\tlet x = \\\"{at}\\\";\\n}}\"}}"
        );
    }
    text.push_str("],\"tool_choice\":\"auto\"}");
    Bytes::from(text)
}

/// How a stream of 64 events arrives.
#[derive(Debug, Clone, Copy)]
enum Cut {
    OnePiece,
    PerEvent,
    Hundreds,
}

const EVENTS: usize = 64;

#[divan::bench(args = [Cut::OnePiece, Cut::PerEvent, Cut::Hundreds])]
fn stream(bencher: Bencher<'_, '_>, cut: Cut) {
    let pieces = pieces(cut);
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut framer = Framer::new();
        let mut watch = Watch::new(Endpoint::ChatCompletions);
        let mut out = BytesMut::new();
        let mut seen = 0;
        for piece in &pieces {
            framer.push(black_box(piece.clone())).expect("events are short");
            while let Some(event) = framer.next() {
                black_box(watch.event(&event));
                name::rewrite(&event, b"\"fast\"", &mut out);
                seen += 1;
            }
            // A relay would write this to the client here.
            out.clear();
        }
        assert_eq!(seen, EVENTS);
        watch.usage
    });
}

fn pieces(cut: Cut) -> Vec<Bytes> {
    let mut events: Vec<String> = (0..EVENTS - 3).map(|at| chunk(&delta(at), "null")).collect();
    events.push(chunk("{}", "\"stop\""));
    events.push(String::from(
        "data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4.1\",\
         \"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":61,\
         \"total_tokens\":73}}\n\n",
    ));
    events.push(String::from("data: [DONE]\n\n"));
    match cut {
        Cut::OnePiece => vec![Bytes::from(events.concat())],
        Cut::PerEvent => events.into_iter().map(Bytes::from).collect(),
        Cut::Hundreds => {
            events.concat().as_bytes().chunks(100).map(Bytes::copy_from_slice).collect()
        }
    }
}

fn delta(at: usize) -> String {
    if at == 0 {
        String::from("{\"role\":\"assistant\",\"content\":\"\"}")
    } else {
        format!("{{\"content\":\" word{at}\"}}")
    }
}

fn chunk(delta: &str, reason: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\
         \"model\":\"gpt-4.1\",\"choices\":[{{\"index\":0,\"delta\":{delta},\
         \"finish_reason\":{reason}}}]}}\n\n"
    )
}

/// Nobody is busy, nobody cools down.
struct Idle;

impl View for Idle {
    fn vitals(&self, _: DeploymentIx) -> Vitals {
        Vitals::default()
    }
}

#[divan::bench(args = [1, 3, 20])]
fn decide(bencher: Bencher<'_, '_>, deployments: u16) {
    let entries = (0..deployments)
        .map(|at| ("fast".into(), format!("id{at}").into(), Member::new(DeploymentIx(at))));
    let table = RouteTable::build(entries.collect(), Settings::default());
    let target = table.resolve("fast").expect("the group exists");
    let now = time::now();
    let mut entropy = 1u64;
    bencher.bench_local(|| {
        entropy = entropy.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut attempts = Attempts::new(black_box(&table), ask(&target)).expect("same table");
        match attempts.poll(now, entropy, &Idle) {
            Action::Launch(launch) => launch.member.deployment,
            Action::Fail(_) | Action::Late(_) | Action::Queue(_) | Action::Wait(_) => {
                panic!("somebody is free")
            }
        }
    });
}

/// Telling the learner what a try has shown, and taking it off the queue again.
#[divan::bench]
fn lesson(bencher: Bencher<'_, '_>) {
    let table = StatsTable::new(time::now());
    let named = Named {
        id: "west",
        group: "fast",
        provider: "openai",
        budget_period: None,
        provider_budget_period: None,
        tie: None,
    };
    let rows = table.rows([named].into_iter(), time::now());
    let row = rows.get(DeploymentIx(0)).expect("it was named");
    let waited = Duration::from_millis(700);
    bencher.bench_local(|| {
        let what = What::Waited { length: 900, waited, seen: Seen::Answered };
        row.tell(black_box(Kind::default()), black_box(what));
        table.lessons().take()
    });
}

fn ask(target: &Resolved) -> Ask<'_> {
    Ask::new(target, Shape { stream: true, ..Shape::default() })
}
