//! Streams that are damaged on their way, by the real binary over real sockets: the client gets all
//! of the content or an error, and never a shorter answer that looks whole.
//!
//! Whole is what a [reader] takes for whole: every event can be read, every piece belongs to
//! something that has begun, and the end mark of the client's dialect is there.
//!
//! What nobody can know, and what is asked for in its place:
//!
//! * that a piece of words or of a call is missing, comes twice or too early, where the wire does
//!   not number its pieces: those of chat and text completions and of messages. The story says of
//!   each event whether it is one, and then the client has to get what the damaged stream says, and
//!   nothing less;
//! * the same of a response whose events have no numbers, as far as it does not have less in pieces
//!   than at last: a reader of pieces alone cannot know it;
//! * that the beginning of a call is missing in a chat, for which pieces would have to be parsed
//!   that pass by unread. Its pieces are passed on, and each reader fails on them;
//! * bytes that change and still are the JSON of an event. TCP and TLS have sums for those.

#![cfg(test)]

mod reader;
mod story;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use crate::support::chat;
use crate::support::script::{Step, send, serve};
use crate::support::sidecar::{Pillion, Start};
use crate::support::upstream::Upstream;
use crate::support::wire::Answer;

use reader::{Content, Outcome};
use story::{Event, Kind, Story, Wire};

/// How often each law is tried; each is a call through the whole sidecar.
const CASES: u32 = 200;

/// Who asks whom, and how.
#[derive(Debug, Clone, Copy)]
struct Route {
    client: Wire,
    provider: Wire,
    model: &'static str,
    /// Whether the client asks for an answer in one piece, and the sidecar carries it as a stream.
    carried: bool,
    /// How many choices are asked for, where there can be several.
    choices: usize,
}

const ROUTES: [Route; 9] = [
    Route::new(Wire::Chat, Wire::Chat, "openai"),
    Route::new(Wire::Completions, Wire::Completions, "openai"),
    Route::new(Wire::Messages, Wire::Messages, "claude"),
    Route::new(Wire::Responses, Wire::Responses, "openai"),
    Route::new(Wire::Chat, Wire::Messages, "claude"),
    Route::new(Wire::Messages, Wire::Chat, "openai"),
    Route::new(Wire::Chat, Wire::Chat, "carried").carried(),
    Route::new(Wire::Responses, Wire::Responses, "carried").carried(),
    Route::new(Wire::Messages, Wire::Messages, "carried-claude").carried(),
];

impl Route {
    const fn new(client: Wire, provider: Wire, model: &'static str) -> Self {
        Self { client, provider, model, carried: false, choices: 1 }
    }

    const fn carried(self) -> Self {
        Self { carried: true, ..self }
    }

    fn is_translated(self) -> bool {
        self.client != self.provider
    }

    fn request(self) -> String {
        let (path, more) = match self.client {
            Wire::Chat if self.choices == 1 => ("/v1/chat/completions", ""),
            Wire::Chat => ("/v1/chat/completions", ",\"n\":2"),
            Wire::Completions if self.choices == 1 => ("/v1/completions", ",\"prompt\":\"hi\""),
            Wire::Completions => ("/v1/completions", ",\"prompt\":\"hi\",\"n\":2"),
            Wire::Messages => ("/v1/messages", ",\"max_tokens\":9"),
            // What is stored is not carried.
            Wire::Responses => ("/v1/responses", ",\"input\":\"hi\",\"store\":false"),
        };
        let stream = if self.carried { "" } else { ",\"stream\":true" };
        let body = chat::body(self.model, &format!("{more}{stream}"));
        chat::post(&body).replacen("/v1/chat/completions", path, 1)
    }

    /// The story as it can be told, and the request for it. A translated answer has one choice, and
    /// a request for several is not carried.
    fn with(self, story: Story) -> (Self, Story) {
        let is_one = self.is_translated() || self.carried;
        let story = if is_one { story.of_one_choice() } else { story };
        (Self { choices: story.choices(), ..self }, story)
    }
}

fn route() -> impl Strategy<Value = Route> {
    prop::sample::select(ROUTES.to_vec())
}

/// How the bytes of a stream end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// As a body should.
    Clean,
    /// In the middle of the body.
    Torn,
}

/// A sidecar before a provider that sends what it is told to.
struct Bench {
    runtime: Runtime,
    sidecar: Pillion,
    script: Arc<Mutex<Vec<Step>>>,
    _upstream: Upstream,
}

impl Bench {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let script = Arc::new(Mutex::new(Vec::new()));
        let told = script.clone();
        let start = Upstream::start(move |_| {
            let told = told.clone();
            serve(move |_| told.lock().unwrap().clone())
        });
        let upstream = runtime.block_on(start);
        let sidecar = runtime.block_on(Start::with(config(&upstream)).ready());
        Self { runtime, sidecar, script, _upstream: upstream }
    }

    /// What a client gets when the provider sends these pieces of a body.
    fn ask(&self, route: Route, pieces: &[&[u8]], end: End) -> Answer {
        let mut body = chat::STREAM_HEAD.as_bytes().to_vec();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            body.extend_from_slice(piece);
            body.extend_from_slice(b"\r\n");
        }
        let mut steps = Vec::new();
        if end == End::Clean {
            body.extend_from_slice(chat::LAST_CHUNK.as_bytes());
        } else {
            steps.push(Step::Close);
        }
        steps.insert(0, send(body));
        *self.script.lock().unwrap() = steps;
        self.runtime.block_on(async {
            let mut wire = self.sidecar.wire().await;
            wire.send(route.request()).await;
            let head = wire.head().await;
            if head.header("transfer-encoding").is_none() {
                let body = wire.body(&head).await;
                return Answer { head, body };
            }
            // The bytes may end in the middle of a letter.
            let mut body = Vec::new();
            while let Some((chunk, _)) = wire.chunk().await {
                body.extend_from_slice(&chunk);
            }
            Answer { head, body: String::from_utf8_lossy(&body).into_owned() }
        })
    }

    fn read(&self, route: Route, bytes: &[u8], end: End) -> Outcome {
        reader::read(route.client, &self.ask(route, &[bytes], end))
    }

    fn stop(self) {
        self.runtime.block_on(self.sidecar.stop());
    }
}

/// Nothing is tried twice, and no damage keeps a provider from being asked again.
fn config(upstream: &Upstream) -> String {
    let mut text = "router_settings: {num_retries: 0, disable_cooldowns: true, routing_strategy: simple-shuffle}\n\
        pillion: {hedge: {mode: enabled, delay: 20s, budget: 1, stream_upstream: true}}\nmodel_list:\n"
        .to_owned();
    let entries = [
        ("openai", "openai/m", ""),
        ("claude", "anthropic/claude", ""),
        ("carried", "openai/m", ", weight: 1"),
        ("carried", "openai/m", ", weight: 0"),
        ("carried-claude", "anthropic/claude", ", weight: 1"),
        ("carried-claude", "anthropic/claude", ", weight: 0"),
    ];
    for (number, (group, model, weight)) in entries.into_iter().enumerate() {
        let base = upstream.base();
        let _ = write!(
            text,
            "  - model_name: {group}\n    litellm_params: {{model: {model}, api_base: \"{base}\", api_key: sk-x{weight}}}\n    model_info: {{id: d{number}}}\n"
        );
    }
    text
}

/// Tries a law with a sidecar of its own.
fn check<S: Strategy>(cases: S, law: impl Fn(&Bench, S::Value) -> Result<(), TestCaseError>) {
    let bench = Bench::new();
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let tried = TestRunner::new(config).run(&cases, |case| law(&bench, case));
    tried.unwrap_or_else(|why| panic!("{why}"));
    bench.stop();
}

fn bytes(events: &[Event]) -> Vec<u8> {
    events.iter().flat_map(|event| event.text.bytes()).collect()
}

/// The law of every damage: all of it, or an error.
fn all_or_error(outcome: &Outcome, whole: &Content) -> Result<(), TestCaseError> {
    match outcome {
        Outcome::Refused(_) => {}
        Outcome::Whole(content) => prop_assert_eq!(content, whole),
    }
    Ok(())
}

#[test]
fn a_whole_stream_is_told_whole_wherever_it_is_split() {
    let cuts = prop::collection::vec(any::<Index>(), 0..6);
    check((route(), story::story(), cuts, any::<bool>()), |bench, (route, story, cuts, single)| {
        let (route, story) = route.with(story);
        let stream = bytes(&story.told(route.provider));
        let whole = bench.ask(route, &[&stream], End::Clean);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([stream.len()]) {
            pieces.push(&stream[from..cut]);
            from = cut;
        }
        if single {
            pieces = stream.chunks(1).collect();
        }
        let split = bench.ask(route, &pieces, End::Clean);
        prop_assert_eq!(timeless(&split.body), timeless(&whole.body));
        let content = story.content(route.provider);
        prop_assert_eq!(reader::read(route.client, &whole), Outcome::Whole(content));
        Ok(())
    });
}

/// Without the second in which a translation was made.
fn timeless(body: &str) -> String {
    let mut parts = body.split("\"created\":");
    let mut out = parts.next().unwrap_or_default().to_owned();
    out.extend(parts.map(|part| part.trim_start_matches(|letter: char| letter.is_ascii_digit())));
    out
}

#[test]
fn a_stream_that_is_cut_is_whole_or_an_error() {
    let ends = prop::sample::select(vec![End::Clean, End::Torn]);
    check((route(), story::story(), any::<Index>(), ends), |bench, (route, story, cut, end)| {
        let (route, story) = route.with(story);
        let stream = bytes(&story.told(route.provider));
        let outcome = bench.read(route, &stream[..cut.index(stream.len())], end);
        let whole = story.content(route.provider);
        if let Outcome::Refused(content) = &outcome {
            prop_assert!(content.begins(&whole), "{content:?} does not begin {whole:?}");
        }
        all_or_error(&outcome, &whole)
    });
}

#[test]
fn an_event_that_cannot_be_read_does_not_vanish() {
    let how = (any::<Index>(), any::<Index>(), any::<bool>());
    check((route(), story::story(), how), |bench, (route, story, (which, at, short))| {
        let (route, story) = route.with(story);
        let mut events = story.told(route.provider);
        let with_data: Vec<usize> =
            (0..events.len()).filter(|at| events[*at].text.contains("data: ")).collect();
        let event = &mut events[*which.get(&with_data)].text;
        let from = event.find("data: ").unwrap() + "data: ".len();
        let end = event.trim_end().len();
        let mut at = from + 1 + at.index(end - from - 1);
        while !event.is_char_boundary(at) {
            at -= 1;
        }
        // No JSON is whole without its last letter, or holds this one.
        event.replace_range(at..if short { end } else { at }, if short { "" } else { "\u{1}" });
        let outcome = bench.read(route, &bytes(&events), End::Clean);
        all_or_error(&outcome, &story.content(route.provider))
    });
}

/// What the provider's own stream says, damaged as it is.
fn said(route: Route, events: &[Event]) -> Option<Content> {
    let body = String::from_utf8(bytes(events)).unwrap();
    let marked = match route.provider {
        Wire::Chat | Wire::Completions => body + "data: [DONE]\n\n",
        Wire::Messages | Wire::Responses => body,
    };
    match reader::read_stream(route.provider, &marked) {
        Outcome::Refused(_) => None,
        Outcome::Whole(content) => Some(content),
    }
}

fn check_pieces(
    route: Route,
    outcome: &Outcome,
    kind: Kind,
    (whole, damaged): (&Content, &[Event]),
) -> Result<(), TestCaseError> {
    match (outcome, kind) {
        (Outcome::Whole(content), Kind::Piece) if content != whole => {
            let said = said(route, damaged);
            prop_assert_eq!(Some(content), said.as_ref());
            Ok(())
        }
        (_, Kind::Other | Kind::Piece) => all_or_error(outcome, whole),
    }
}

#[test]
fn an_event_that_is_missing_takes_nothing_else_along() {
    check((route(), story::story(), any::<Index>()), |bench, (route, story, which)| {
        let (route, story) = route.with(story);
        let mut events = story.told(route.provider);
        let gone = events.remove(which.index(events.len()));
        let outcome = bench.read(route, &bytes(&events), End::Clean);
        check_pieces(route, &outcome, gone.kind, (&story.content(route.provider), &events))
    });
}

#[test]
fn an_event_that_comes_twice_adds_nothing_but_its_own_words() {
    check((route(), story::story(), any::<Index>()), |bench, (route, story, which)| {
        let (route, story) = route.with(story);
        let mut events = story.told(route.provider);
        let at = which.index(events.len());
        let twice = events[at].clone();
        let kind = twice.kind;
        events.insert(at, twice);
        let outcome = bench.read(route, &bytes(&events), End::Clean);
        check_pieces(route, &outcome, kind, (&story.content(route.provider), &events))
    });
}

#[test]
fn events_that_change_places_lose_nothing() {
    check((route(), story::story(), any::<Index>()), |bench, (route, story, which)| {
        let (route, story) = route.with(story);
        let mut events = story.told(route.provider);
        let Some(pairs) = events.len().checked_sub(1).filter(|pairs| *pairs > 0) else {
            return Ok(());
        };
        let at = which.index(pairs);
        events.swap(at, at + 1);
        let is_piece = events[at..=at + 1].iter().any(|event| event.kind == Kind::Piece);
        let kind = if is_piece { Kind::Piece } else { Kind::Other };
        let outcome = bench.read(route, &bytes(&events), End::Clean);
        check_pieces(route, &outcome, kind, (&story.content(route.provider), &events))
    });
}
