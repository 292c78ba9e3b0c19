//! The providers: they play what a prompt wishes, and write down what a whole answer of theirs
//! would say. No two answers say the same.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::errand::{Group, Wish, Words as Say, model, site_of};
use crate::faults::forms::{ALL, Form, Words};
use crate::faults::rows::{self, Fault};
use crate::support::script::{Request, Step, send, serve};
use crate::support::upstream::Upstream;
use crate::support::{chat, now};

/// The answers to requests that are not over.
#[derive(Debug, Default)]
pub(crate) struct Book {
    marks: AtomicU32,
    answers: Mutex<HashMap<u32, Vec<Told>>>,
}

/// One answer as it would be if it were whole.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    form: Form,
    pieces: usize,
    /// How many of them it says before it breaks off; `None` where it does not.
    said: Option<usize>,
    by: Player,
    /// Behind what it was asked to write on; `None` where it was asked to begin.
    pub(crate) behind: Option<String>,
    /// When it was asked for.
    came: Instant,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Player {
    /// The one who plays faults.
    Actor,
    Good,
}

impl Told {
    pub(crate) fn text(&self) -> String {
        self.first(self.pieces)
    }

    /// What it has said where it breaks off.
    pub(crate) fn begun(&self) -> Option<String> {
        self.said.map(|said| self.first(said))
    }

    /// All that is known of it, for a request that began then.
    pub(crate) fn line(&self, began: Instant) -> String {
        let Self { form, pieces, said, by, behind, came } = self;
        let [first, _] = form.words();
        let after = came.saturating_duration_since(began);
        let kind = if form.stream { "a stream" } else { "an answer in one piece" };
        let behind = behind.as_ref().map_or_else(String::new, |text| format!(" behind {text:?}"));
        let breaks = said.map_or_else(String::new, |said| format!(", breaks off after {said}"));
        format!(
            "{by:?} was asked after {after:?} for {kind}{behind}: \
             begins with {first:?}, has {pieces} pieces if it is whole{breaks}"
        )
    }

    fn first(&self, pieces: usize) -> String {
        let [first, more] = self.form.words();
        first + &more.repeat(pieces - 1)
    }
}

impl Book {
    /// The answers to a request that is over.
    pub(crate) fn take(&self, id: u32) -> Vec<Told> {
        self.answers.lock().unwrap().remove(&id).unwrap_or_default()
    }

    /// What is played on a request.
    fn steps(&self, by: Player, request: &Request) -> Vec<Step> {
        let wish = Wish::read(request);
        let is_messages = request.head.lines().next().unwrap().contains("/messages");
        let provider = if is_messages { Words::Anthropic } else { Words::OpenAi };
        let mark = match wish.words {
            Say::Apart | Say::Long => self.marks.fetch_add(1, Ordering::Relaxed),
            Say::Same => OF_REQUESTS + wish.id,
        };
        let long = wish.words == Say::Long;
        let stream = request.wants_stream();
        let form = Form { provider, stream, mark: Some(mark), long, ..ALL[0] };
        let play = wish.fault.filter(|_| by == Player::Actor).and_then(|row| {
            let row = &rows::ALL[row];
            let Fault::Answer(play) = row.fault else { return None };
            (row.knows)(form).then_some((play, row.said))
        });
        let (pieces, said) = play.map_or((wish.pieces, None), |(_, said)| (2, said));
        let behind = long.then(|| prefill(request)).flatten();
        let turn = self.note(wish.id, Told { form, pieces, said, by, behind, came: now() });
        play.map_or_else(|| good(form, &wish), |(play, _)| play(form, turn))
    }

    /// Writes an answer down; how many there were before from the same player.
    fn note(&self, id: u32, told: Told) -> usize {
        let mut answers = self.answers.lock().unwrap();
        let own = answers.entry(id).or_default();
        let turn = own.iter().filter(|other| other.by == told.by).count();
        own.push(told);
        turn
    }
}

/// The text that an answer is to write on behind: the last message, where that is the model's own.
fn prefill(request: &Request) -> Option<String> {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let last = body["messages"].as_array()?.last().filter(|last| last["role"] == "assistant")?;
    let content = &last["content"];
    Some(content.as_str().or_else(|| content[0]["text"].as_str()).unwrap_or_default().to_owned())
}

/// Marks of requests are above those of answers.
const OF_REQUESTS: u32 = 100_000_000;

/// A good answer of as many pieces as are wished for.
fn good(form: Form, wish: &Wish) -> Vec<Step> {
    let [first, more] = form.words();
    let mut steps = vec![Step::Pause(wish.pause)];
    if !form.stream {
        let text = first + &more.repeat(wish.pieces - 1);
        steps.push(send(chat::json(200, &form.whole(&text, "stop"))));
        return steps;
    }
    let [begin, first, more, end, done] = form.events();
    steps.extend([send(chat::STREAM_HEAD), send(begin), send(first)]);
    let rest = wish.pieces - 1;
    steps.extend(
        (0..rest.div_ceil(AT_ONCE))
            .map(|write| send(more.repeat(AT_ONCE.min(rest - write * AT_ONCE)))),
    );
    steps.extend([send(end), send(done), send(chat::LAST_CHUNK)]);
    steps
}

/// How many events of a long stream are in one write.
const AT_ONCE: usize = 16;

/// All providers, by the sites of the faults.
pub(crate) struct Providers {
    pub(crate) book: Arc<Book>,
    sites: Vec<Site>,
    good: Upstream,
}

/// An address at which faults are met.
struct Site {
    number: usize,
    base: String,
    upstream: Option<Upstream>,
    counts: bool,
}

impl Providers {
    pub(crate) async fn start() -> Self {
        let book = Arc::<Book>::default();
        let mut sites = vec![Site::new(0, playing(Player::Actor, &book).await)];
        for (row, fault) in rows::ALL.iter().enumerate() {
            sites.extend(Site::of(site_of(Some(row)), fault.fault).await);
        }
        let good = playing(Player::Good, &book).await;
        let providers = Self { book, sites, good };
        providers.upstreams().for_each(Upstream::forget);
        providers
    }

    fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.sites.iter().filter_map(|site| site.upstream.as_ref()).chain([&self.good])
    }

    /// How many connections are open at their ends. A script that is through has closed its own:
    /// none here ends by waiting.
    pub(crate) fn open(&self) -> usize {
        let connections = self.upstreams().flat_map(Upstream::connections);
        connections.filter(|it| it.closed.is_none() && !it.played).count()
    }

    /// How often those were asked who can count.
    pub(crate) fn asked(&self) -> usize {
        self.counting()
            .filter_map(|site| site.upstream.as_ref())
            .chain([&self.good])
            .map(Upstream::asked)
            .sum()
    }

    /// The deployments that lead to those.
    pub(crate) fn counted(&self) -> Vec<String> {
        let mut names: Vec<_> = PREFIXES.map(|prefix| format!("good-{prefix}")).into();
        for (group, prefix, number) in groups() {
            let name = model(group, prefix, number);
            names.push(format!("{name}-good"));
            if self.counting().any(|site| site.number == number) {
                names.push(format!("{name}-faulty"));
            }
        }
        names
    }

    fn counting(&self) -> impl Iterator<Item = &Site> {
        self.sites.iter().filter(|site| site.counts)
    }

    /// The configuration that leads here.
    pub(crate) fn config(&self) -> String {
        let (mut settings, mut fallbacks, mut list) = (String::new(), String::new(), String::new());
        for (group, prefix, number) in groups() {
            let name = model(group, prefix, number);
            let site = self.sites.iter().find(|site| site.number == number).unwrap();
            let spoken = spoken(group, prefix);
            list += &entry(&name, spoken, &format!("{name}-faulty"), &site.base, 3);
            let good = entry(&name, spoken, &format!("{name}-good"), &self.good.base(), 1);
            match group {
                Group::Alone => {}
                Group::Beside => list += &good,
                Group::Carried => {
                    list += &good;
                    let hedge = "hedge: {mode: enabled, stream_upstream: true}";
                    let _ = write!(settings, "{name}: {{{hedge}}}, ");
                }
                Group::Fallback => {
                    // To a provider of the other dialect.
                    let other = if prefix == "openai" { "anthropic" } else { "openai" };
                    let _ = write!(fallbacks, "{{{name}: [good-{other}]}}, ");
                }
                Group::Hedged => {
                    list += &good;
                    let _ = write!(settings, "{name}: {{hedge: {{mode: enabled}}}}, ");
                }
                Group::Continue | Group::Hold | Group::Restart => {
                    list += &good;
                    let recovery = format!("recovery: {}, hold_tokens: 3", group.name());
                    let _ = write!(settings, "{name}: {{streams: {{{recovery}}}}}, ");
                }
            }
        }
        for prefix in PREFIXES {
            let name = format!("good-{prefix}");
            list += &entry(&name, spoken(Group::Alone, prefix), &name, &self.good.base(), 1);
        }
        format!(
            "router_settings: {{routing_strategy: simple-shuffle, num_retries: 2, timeout: {TRY_S}, fallbacks: [{fallbacks}]}}\n\
             pillion: {{{SETTINGS}, groups: {{{settings}}}}}\nmodel_list:\n{list}"
        )
    }
}

/// How long one try may take.
const TRY_S: u64 = 5;

/// How long all tries of a request may take; no answer takes longer than this to be read.
pub(crate) const TOTAL: Duration = Duration::from_secs(12);

const SETTINGS: &str = "timeouts: {ttft: 1.5, stall: 1.5, total: 12}, \
     cooldown: {base: 200ms, max: 1s, ramp: 1s, credentials: 500ms}, \
     hedge: {mode: disabled, delay: 50ms, holdout: 0, budget: 1}";

const PREFIXES: [&str; 2] = ["anthropic", "openai"];

/// Every group with every provider's dialect at every site.
fn groups() -> impl Iterator<Item = (Group, &'static str, usize)> {
    let rows = (0..rows::ALL.len()).map(|row| site_of(Some(row))).filter(|number| *number > 0);
    let sites = [0].into_iter().chain(rows);
    sites.flat_map(|site| {
        Group::ALL.into_iter().flat_map(move |group| PREFIXES.map(|prefix| (group, prefix, site)))
    })
}

/// What a deployment is called: in `continue` one that is known to write on.
fn spoken(group: Group, prefix: &str) -> &'static str {
    match (group, prefix) {
        (Group::Continue, "openai") => "hosted_vllm/m",
        (Group::Continue, _) => "anthropic/claude-sonnet-4-5",
        (_, "openai") => "openai/m",
        (_, _) => "anthropic/m",
    }
}

fn entry(group: &str, spoken: &str, id: &str, base: &str, weight: u8) -> String {
    format!(
        "  - model_name: {group}\n    litellm_params: {{model: {spoken}, api_base: \"{base}\", api_key: sk-x, weight: {weight}}}\n    model_info: {{id: {id}}}\n"
    )
}

async fn playing(by: Player, book: &Arc<Book>) -> Upstream {
    let book = book.clone();
    Upstream::start(move |_| {
        let book = book.clone();
        serve(move |request| book.steps(by, request))
    })
    .await
}

impl Site {
    fn new(number: usize, upstream: Upstream) -> Self {
        Self { number, base: upstream.base(), upstream: Some(upstream), counts: true }
    }

    /// Where a fault is met that is no answer.
    async fn of(number: usize, fault: Fault) -> Option<Self> {
        match fault {
            Fault::Answer(_) => None,
            Fault::Connection(play) => {
                Some(Self::new(number, Upstream::start(move |_| play(ALL[0])).await))
            }
            Fault::Nowhere(base) => {
                Some(Self { number, base: base.to_owned(), upstream: None, counts: false })
            }
            Fault::Unsecured => {
                let upstream =
                    Upstream::start(|_| vec![send("220 mail.example\r\n"), Step::Close]).await;
                let base = upstream.base().replace("http:", "https:");
                Some(Self { number, base, upstream: Some(upstream), counts: false })
            }
        }
    }
}
