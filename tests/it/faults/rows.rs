//! The faults, and what is to be seen of each.

use super::forms::{Form, Words};
use crate::support::chat;
use crate::support::script::{Step, send};

/// How the faulty deployment plays its part.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// On its n-th request.
    Answer(fn(Form, usize) -> Vec<Step>),
    /// On each connection, from its first byte.
    Connection(fn(Form) -> Vec<Step>),
    /// There is nobody at this address.
    Nowhere(&'static str),
    /// It is asked for TLS and does not speak it.
    Unsecured,
}

/// What the client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Half an answer, and the news that it is no more.
    Cut,
    Error(u16),
    Whole,
}

/// The same for answers in one piece and for streams, or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Each<T> {
    pub(crate) whole: T,
    pub(crate) streamed: T,
}

const fn both<T: Copy>(it: T) -> Each<T> {
    Each { whole: it, streamed: it }
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// In which forms it can occur.
    pub(crate) knows: fn(Form) -> bool,
    pub(crate) fault: Fault,
    /// How many of its two pieces a stream says before it breaks off; `None` where it does not.
    pub(crate) said: Option<usize>,
    /// What stands under `pillion` besides.
    pub(crate) settings: &'static str,
    pub(crate) alone: Each<Want>,
    /// Where a good deployment stands beside it.
    pub(crate) beside: Each<Want>,
    /// How often the faulty deployment is asked.
    pub(crate) asked_alone: Each<usize>,
    pub(crate) asked_beside: Each<usize>,
    /// What both deployments are called.
    pub(crate) model: fn(Form) -> &'static str,
    /// What stands beside the faulty one, where that is not a good one.
    pub(crate) other: Option<fn() -> Vec<Step>>,
    /// What the client is told then, and what it never hears.
    pub(crate) shows: &'static str,
    pub(crate) hides: &'static str,
}

impl Row {
    /// A fault that the same deployment does not get over, and another one answers.
    const fn new(name: &'static str, fault: Fault, status: u16) -> Self {
        Self {
            name,
            knows: |_| true,
            fault,
            said: None,
            settings: "",
            alone: both(Want::Error(status)),
            beside: both(Want::Whole),
            asked_alone: both(3),
            asked_beside: both(1),
            model: |form| if form.provider == Words::OpenAi { "openai/m" } else { "anthropic/m" },
            other: None,
            shows: "",
            hides: "\0",
        }
    }

    /// It is not asked again.
    const fn once(self) -> Self {
        Self { asked_alone: both(1), ..self }
    }

    /// Nobody else is asked either.
    const fn for_all(self) -> Self {
        Self { beside: self.alone, ..self.once() }
    }

    /// A fault that is got over, after so many calls.
    const fn mended(self, calls: usize) -> Self {
        Self { alone: both(Want::Whole), asked_alone: both(calls), ..self }
    }

    const fn with(self, settings: &'static str) -> Self {
        Self { settings, ..self }
    }

    /// It can only happen to streams.
    const fn streamed(self) -> Self {
        Self { knows: |form| form.stream, ..self }
    }

    /// All has been said when it happens.
    const fn at_its_end(self) -> Self {
        Self { said: Some(2), ..self }
    }

    /// Only Anthropic, or only the others, say it like this.
    const fn said_by(self, knows: fn(Form) -> bool) -> Self {
        Self { knows, ..self }
    }

    /// Streams have begun when it happens: they end as cut, and nobody is asked again.
    const fn midway(self) -> Self {
        Self {
            alone: Each { streamed: Want::Cut, ..self.alone },
            beside: Each { streamed: Want::Cut, ..self.beside },
            asked_alone: Each { streamed: 1, ..self.asked_alone },
            said: Some(1),
            ..self
        }
    }

    /// A stream that has begun and is asked for once more; where a good deployment stands beside it
    /// the client gets the rest, behind this mark.
    const fn recovered(self, mark: &'static str, settings: &'static str) -> Self {
        let row = self.streamed().midway().with(settings);
        Self { beside: both(Want::Whole), asked_alone: both(2), shows: mark, ..row }
    }

    /// It is asked for once more in vain.
    const fn in_vain(self) -> Self {
        Self { beside: both(Want::Cut), shows: "the answer so far is not whole", ..self }
    }

    /// Both can be asked to write on.
    const fn writing_on(self) -> Self {
        Self {
            model: |form| {
                let is_openai = matches!(form.provider, Words::OpenAi);
                if is_openai { "hosted_vllm/m" } else { "anthropic/claude-sonnet-4-5" }
            },
            ..self
        }
    }

    /// Nobody can be asked once more.
    const fn once_in_all(self) -> Self {
        Self { asked_alone: both(1), ..self }
    }

    /// The other one answers so, and nothing of that reaches the client.
    const fn beside(self, other: fn() -> Vec<Step>, hides: &'static str) -> Self {
        Self { other: Some(other), hides, ..self }
    }
}

/// What becomes of streams that break off where `pillion.streams.recovery` is set.
pub(crate) const RECOVERED: &[Row] = &[
    Row::new("cut in what is held", Fault::Answer(cut), 502)
        .streamed()
        .with(", streams: {recovery: hold, hold_tokens: 3, hold_time: 60s}"),
    Row::new("cut, restarted", Fault::Answer(cut), 502).recovered(": pillion restarted", RESTART),
    Row::new("cut, restarted, another answer", Fault::Answer(cut_otherwise), 502)
        .recovered("", RESTART)
        .in_vain(),
    Row::new("cut, restarted, a prompt too long", Fault::Answer(cut), 502)
        .recovered("", RESTART)
        .in_vain()
        .beside(|| vec![send(chat::json(400, TOO_LONG))], "context"),
    Row::new("cut, continued", Fault::Answer(cut_late), 502)
        .recovered(": pillion continued", CONTINUE)
        .writing_on(),
    Row::new("a block without its end, continued", Fault::Answer(unended_late), 502)
        .recovered(": pillion continued", CONTINUE)
        .writing_on()
        .said_by(|form| form.stream && form.provider == Words::Anthropic),
    Row::new("cut, the other rejects a prefill", Fault::Answer(cut_late), 502)
        .recovered("", CONTINUE)
        .in_vain()
        .writing_on()
        .beside(|| vec![send(chat::json(400, NO_PREFILL))], "prefill"),
    Row::new("cut, nobody writes on", Fault::Answer(cut_late), 502)
        .recovered("", CONTINUE)
        .in_vain()
        .once_in_all(),
];

const RESTART: &str = ", streams: {recovery: restart}";
const CONTINUE: &str = ", streams: {recovery: continue}";

/// Anthropic's words; vLLM says other ones, and they are hidden all the same.
pub(crate) const NO_PREFILL: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"This model does not support assistant message prefill. The conversation must end with a user message."}}"#;
const TOO_LONG: &str = r#"{"error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"maximum context length is 5"}}"#;

const SHORT: &str = ", timeouts: {ttft: 0.3, stall: 0.3}";

pub(crate) const ALL: &[Row] = &[
    Row::new("429 that asks for 0.2 s, twice", Fault::Answer(limited), 429).mended(3),
    Row::new("429 for ever", Fault::Answer(|form, _| error(form, 429, LIMIT)), 429),
    Row::new("429, the quota is used up", Fault::Answer(|form, _| error(form, 429, QUOTA)), 429)
        .once(),
    Row::new("402", Fault::Answer(|form, _| error(form, 402, BILLING)), 402).once(),
    Row::new("500 once", Fault::Answer(once), 500).mended(2),
    Row::new("503 for ever", Fault::Answer(|form, _| error(form, 503, BUSY)), 503),
    Row::new("529 for ever", Fault::Answer(overloaded), 529)
        .said_by(|form| form.provider == Words::Anthropic),
    Row::new("connection refused", Fault::Nowhere("http://127.0.0.1:9"), 502),
    Row::new("no such host", Fault::Nowhere("http://nowhere.invalid"), 502),
    Row::new("no TLS there", Fault::Unsecured, 502),
    Row::new("reset before the head", Fault::Connection(|_| vec![Step::Expect, Step::Reset]), 502),
    Row::new("closed before the head", Fault::Connection(|_| vec![Step::Expect, Step::Close]), 502),
    Row::new("accepts and never answers", Fault::Answer(silent), 408).streamed().with(SHORT),
    Row::new("head, then no content", Fault::Answer(head_only), 408).streamed().with(SHORT),
    Row::new("cut after content", Fault::Answer(cut), 502).midway(),
    Row::new("ended after content", Fault::Answer(ended), 502).streamed().midway(),
    Row::new("stalls after content", Fault::Answer(stalls), 408).streamed().with(SHORT).midway(),
    Row::new("an event is garbled", Fault::Answer(garbled), 502).streamed().midway(),
    Row::new("an end mark without a reason", Fault::Answer(unreasoned), 502)
        .streamed()
        .midway()
        .at_its_end(),
    Row::new("a block without its end", Fault::Answer(unended), 502)
        .midway()
        .at_its_end()
        .said_by(|form| form.stream && form.provider == Words::Anthropic),
    Row::new("a block without its beginning", Fault::Answer(unbegun), 502)
        .said_by(|form| form.stream && form.provider == Words::Anthropic),
    Row::new("noise between events", Fault::Answer(noise), 502).streamed().mended(1),
    Row::new("no end mark", Fault::Answer(unmarked), 502).streamed().mended(1),
    Row::new("no blank line at the end", Fault::Answer(unfinished), 502).streamed().mended(1),
    Row::new("comments, CRLF, single bytes", Fault::Answer(odd), 502).streamed().mended(1),
    Row::new("200 with an error first", Fault::Answer(error_first), 503).streamed(),
    Row::new("200 with an error after content", Fault::Answer(error_later), 503)
        .streamed()
        .midway(),
    Row::new("200 with an error as JSON", Fault::Answer(error_in_200), 503),
    Row::new("JSON error as a stream", Fault::Answer(bare_error), 503).streamed(),
    Row::new("200 with HTML", Fault::Answer(html), 502),
    Row::new(
        "500 with plain text",
        Fault::Answer(|_, _| vec![send(text(500, "text/plain", "oh no"))]),
        500,
    ),
    Row::new("empty answer", Fault::Answer(empty), 502),
    Row::new("prompt too long", Fault::Answer(too_long), 400).for_all(),
    Row::new("content filter", Fault::Answer(filtered), 400)
        .said_by(|form| form.provider == Words::OpenAi)
        .for_all(),
    Row::new("bad chunking", Fault::Answer(bad_chunks), 502).streamed().midway(),
];

/// Kind and code of an error in OpenAI's words, in Anthropic's, and what it says.
type Said = (&'static str, &'static str, &'static str, &'static str);

const LIMIT: Said = ("requests", "rate_limit_exceeded", "rate_limit_error", "slow down");
const QUOTA: Said = (
    "insufficient_quota",
    "insufficient_quota",
    "rate_limit_error",
    "You exceeded your current quota, please check your plan and billing details.",
);
const BILLING: Said = ("billing", "payment_required", "billing_error", "no credit is left");
const BROKEN: Said = ("server_error", "500", "api_error", "internal server error");
const BUSY: Said = ("server_error", "503", "overloaded_error", "overloaded");

fn fault(form: Form, (kind, code, other, message): Said) -> String {
    let kind = if form.provider == Words::OpenAi { kind } else { other };
    form.fault(kind, code, message)
}

fn error(form: Form, status: u16, said: Said) -> Vec<Step> {
    vec![send(chat::json(status, &fault(form, said)))]
}

fn text(status: u16, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn limited(form: Form, turn: usize) -> Vec<Step> {
    if turn >= 2 {
        return form.good();
    }
    let limited = chat::json(429, &fault(form, LIMIT));
    vec![send(limited.replacen("\r\n", "\r\nretry-after-ms: 200\r\n", 1))]
}

fn once(form: Form, turn: usize) -> Vec<Step> {
    if turn == 0 { error(form, 500, BROKEN) } else { form.good() }
}

fn overloaded(form: Form, _: usize) -> Vec<Step> {
    error(form, 529, BUSY)
}

/// How long a whole answer may take is LiteLLM's `timeout`; nothing shorter is sure of it, so this
/// is about streams.
fn silent(_: Form, _: usize) -> Vec<Step> {
    Vec::new()
}

fn head_only(form: Form, _: usize) -> Vec<Step> {
    let [begin, ..] = form.events();
    vec![send(chat::STREAM_HEAD), send(begin)]
}

/// The beginning of a stream with its first content.
fn begun(form: Form) -> Vec<Step> {
    let [begin, first, ..] = form.events();
    vec![send(chat::STREAM_HEAD), send(begin), send(first)]
}

/// The same of whatever is asked for.
fn half(form: Form) -> Vec<Step> {
    if form.stream {
        return begun(form);
    }
    let whole = chat::json(200, &form.whole(&form.words().concat(), "stop"));
    vec![send(whole[..whole.len() - 20].to_owned())]
}

fn cut(form: Form, _: usize) -> Vec<Step> {
    let mut steps = half(form);
    steps.push(Step::Close);
    steps
}

fn cut_otherwise(form: Form, _: usize) -> Vec<Step> {
    let [begin, ..] = form.events();
    vec![send(chat::STREAM_HEAD), send(begin), send(form.content("Howdy")), Step::Close]
}

/// So much that another model can write on behind it.
fn long(form: Form) -> String {
    form.content("What is said to begin with: ")
}

fn cut_late(form: Form, _: usize) -> Vec<Step> {
    let [begin, ..] = form.events();
    vec![send(chat::STREAM_HEAD), send(begin), send(long(form)), Step::Close]
}

fn ended(form: Form, _: usize) -> Vec<Step> {
    let mut steps = begun(form);
    steps.push(send(chat::LAST_CHUNK));
    steps
}

fn stalls(form: Form, _: usize) -> Vec<Step> {
    begun(form)
}

fn garbled(form: Form, _: usize) -> Vec<Step> {
    let [_, _, second, end, done] = form.events();
    let mut steps = begun(form);
    let data = second.split_once("\r\n").unwrap().1.trim_end();
    let broken = format!("{}\n\n", &data[..data.len() - 2]);
    steps.extend([send(chat::chunk(&broken)), send(end), send(done), send(chat::LAST_CHUNK)]);
    steps
}

fn unreasoned(form: Form, _: usize) -> Vec<Step> {
    let [_, _, second, _, done] = form.events();
    let mut steps = begun(form);
    steps.extend([send(second), send(done), send(chat::LAST_CHUNK)]);
    steps
}

/// The stream of a message without its event of this kind.
fn without(events: &str, kind: &str) -> Vec<Step> {
    let is_kept = |line: &&str| !line.contains(&format!("{{\"type\":\"{kind}\""));
    let data = events.lines().filter(|line| line.starts_with("data:"));
    let kept = data.filter(is_kept).map(|line| chat::chunk(&format!("{line}\n\n")));
    let kept: String = kept.collect();
    vec![send(chat::STREAM_HEAD), send(kept), send(chat::LAST_CHUNK)]
}

fn unended(form: Form, _: usize) -> Vec<Step> {
    without(&form.events().concat(), "content_block_stop")
}

fn unended_late(form: Form, _: usize) -> Vec<Step> {
    let [begin, _, _, end, done] = form.events();
    without(&[begin, long(form), end, done].concat(), "content_block_stop")
}

fn unbegun(form: Form, _: usize) -> Vec<Step> {
    without(&form.events().concat(), "content_block_start")
}

fn noise(form: Form, _: usize) -> Vec<Step> {
    let [_, _, second, end, done] = form.events();
    let mut steps = begun(form);
    steps.push(send(chat::event("not an event") + &chat::event("")));
    steps.push(send(chat::chunk("event: ping\ndata: {\"type\": \"ping\"}\n\n")));
    steps.extend([send(second), send(end), send(done), send(chat::LAST_CHUNK)]);
    steps
}

fn unmarked(form: Form, _: usize) -> Vec<Step> {
    let [_, _, second, end, _] = form.events();
    let mut steps = begun(form);
    steps.extend([send(second), send(end), send(chat::LAST_CHUNK)]);
    steps
}

fn unfinished(form: Form, _: usize) -> Vec<Step> {
    let [_, _, second, end, done] = form.events();
    let mut steps = begun(form);
    let data = done.split_once("\r\n").unwrap().1.trim_end();
    steps.extend([send(second), send(end), send(chat::chunk(data)), send(chat::LAST_CHUNK)]);
    steps
}

/// The good stream with comments, in CRLF and byte by byte.
fn odd(form: Form, _: usize) -> Vec<Step> {
    let mut steps = vec![send(chat::STREAM_HEAD)];
    for event in form.events() {
        for line in event.lines().filter(|line| line.starts_with("data:")) {
            let text = format!(": keep-alive\r\n\r\n{line}\r\n\r\n");
            let bytes = text.chars().map(|byte| chat::chunk(&byte.to_string()));
            steps.push(send(bytes.collect::<String>()));
        }
    }
    steps.push(send(chat::LAST_CHUNK));
    steps
}

fn error_event(form: Form) -> String {
    chat::event(&fault(form, BUSY))
}

fn error_first(form: Form, _: usize) -> Vec<Step> {
    vec![send(chat::STREAM_HEAD), send(error_event(form)), send(chat::LAST_CHUNK)]
}

fn error_later(form: Form, _: usize) -> Vec<Step> {
    let mut steps = begun(form);
    steps.extend([send(error_event(form)), send(chat::LAST_CHUNK)]);
    steps
}

fn error_in_200(form: Form, _: usize) -> Vec<Step> {
    error(form, 200, BUSY)
}

fn bare_error(form: Form, _: usize) -> Vec<Step> {
    let error = chat::chunk(&fault(form, BUSY));
    vec![send(chat::STREAM_HEAD), send(error), send(chat::LAST_CHUNK)]
}

fn html(_: Form, _: usize) -> Vec<Step> {
    vec![send(text(200, "text/html", "<html><body>Bad gateway</body></html>"))]
}

fn empty(form: Form, _: usize) -> Vec<Step> {
    if !form.stream {
        return vec![send(chat::json(200, &form.whole("", "")))];
    }
    let [begin, .., done] = form.events();
    vec![send(chat::STREAM_HEAD), send(begin), send(done), send(chat::LAST_CHUNK)]
}

fn too_long(form: Form, _: usize) -> Vec<Step> {
    let said = match form.provider {
        Words::OpenAi => (
            "invalid_request_error",
            "context_length_exceeded",
            "",
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        ),
        Words::Anthropic => {
            ("", "", "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
        }
    };
    error(form, 400, said)
}

fn filtered(form: Form, _: usize) -> Vec<Step> {
    let words =
        "The response was filtered due to the prompt triggering the content management policy.";
    let said = ("invalid_request_error", "content_filter", "invalid_request_error", words);
    error(form, 400, said)
}

fn bad_chunks(form: Form, _: usize) -> Vec<Step> {
    let mut steps = begun(form);
    steps.push(send("not a length\r\n\r\n"));
    steps
}
