//! What one request is about, drawn by chance: who asks whom, which fault is met, and how the
//! client behaves.

use std::time::Duration;

use fastrand::Rng;

use crate::faults::forms::{self, Form};
use crate::faults::rows::{self, Fault, Row};
use crate::support::script::Request;

/// One request of one client.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    pub(crate) form: Form,
    pub(crate) group: Group,
    pub(crate) manner: Manner,
    pub(crate) prompt_bytes: usize,
    pub(crate) wish: Wish,
}

/// What the provider is told in the prompt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// The number of the request.
    pub(crate) id: u32,
    /// Which row of the table of faults is played; a good answer without.
    pub(crate) fault: Option<usize>,
    /// Of how many pieces a good answer is.
    pub(crate) pieces: usize,
    /// How long a good answer is waited for.
    pub(crate) pause: Duration,
    pub(crate) words: Words,
}

/// What answers to one request say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// Each something else.
    Apart,
    /// Each something else, with a long beginning.
    Long,
    /// All the same.
    Same,
}

/// Who stands beside the deployment that plays the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Alone,
    /// A good one, from which hedges are not made.
    Beside,
    /// As `Hedged`, and plain calls are carried as streams.
    Carried,
    /// A good one, that writes on behind a stream that breaks off.
    Continue,
    /// A good one in another group.
    Fallback,
    Hedged,
    /// A good one, and the beginning of streams is held back.
    Hold,
    /// A good one, that says the same again behind a stream that breaks off.
    Restart,
}

impl Group {
    pub(crate) const ALL: [Self; 8] = [
        Self::Alone,
        Self::Beside,
        Self::Carried,
        Self::Continue,
        Self::Fallback,
        Self::Hedged,
        Self::Hold,
        Self::Restart,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Beside => "beside",
            Self::Carried => "carried",
            Self::Continue => "continue",
            Self::Fallback => "fallback",
            Self::Hedged => "hedged",
            Self::Hold => "hold",
            Self::Restart => "restart",
        }
    }

    fn words(self) -> Words {
        match self {
            Self::Alone
            | Self::Beside
            | Self::Carried
            | Self::Fallback
            | Self::Hedged
            | Self::Hold => Words::Apart,
            Self::Continue => Words::Long,
            Self::Restart => Words::Same,
        }
    }
}

/// How a client behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// It goes away after this time.
    pub(crate) leaves: Option<Duration>,
    /// It reads so many bytes at once.
    pub(crate) sips: Option<usize>,
    /// It goes away when so many per mille of its prompt are sent.
    pub(crate) stops_at: Option<usize>,
}

impl Errand {
    pub(crate) fn draw(id: u32, chance: &mut Rng) -> Self {
        let form = forms::ALL[chance.usize(..forms::ALL.len())];
        let group = Group::ALL[chance.usize(..Group::ALL.len())];
        let pieces = if one_of(20, chance) { 2_000 } else { chance.usize(2..60) };
        let wait = if one_of(10, chance) { 60..200 } else { 0..20 };
        let pause = Duration::from_millis(chance.u64(wait));
        let fault = (chance.usize(..100) >= GOOD_PERCENT).then(|| draw_fault(form, group, chance));
        let longest = if one_of(10, chance) { 200_000 } else { 10_000 };
        Self {
            form,
            group,
            manner: Manner::draw(pieces, chance),
            prompt_bytes: chance.usize(1_000..longest),
            wish: Wish { id, fault, pieces, pause, words: group.words() },
        }
    }

    pub(crate) fn row(&self) -> Option<&'static Row> {
        Some(&rows::ALL[self.wish.fault?])
    }

    /// The name of the model that is asked for.
    pub(crate) fn model(&self) -> String {
        model(self.group, self.form.prefix(), site_of(self.wish.fault))
    }

    /// The call as it stands on the wire.
    pub(crate) fn call(&self) -> String {
        let mut prompt = self.wish.text();
        let filling = "the quick brown fox jumps over the lazy dog \\u00e9\\n ";
        prompt.extend(
            filling.chars().cycle().take(self.prompt_bytes / filling.len() * filling.len()),
        );
        let call = self.form.call_saying(&self.model(), &prompt);
        call.replacen("\r\n", &format!("\r\nx-litellm-call-id: soak-{}\r\n", self.wish.id), 1)
    }
}

/// Most answers are good, as those of real providers are.
const GOOD_PERCENT: usize = 70;

pub(crate) fn model(group: Group, prefix: &str, site: usize) -> String {
    format!("{}-{prefix}-{site}", group.name())
}

/// At which of the addresses a fault is met: at the first all that are answers, and each other one
/// at its own.
pub(crate) fn site_of(fault: Option<usize>) -> usize {
    fault.filter(|row| !matches!(rows::ALL[*row].fault, Fault::Answer(_))).map_or(0, |row| row + 1)
}

fn one_of(count: usize, chance: &mut Rng) -> bool {
    chance.usize(..count) == 0
}

/// A fault that the form knows. What is carried is a stream for the provider.
fn draw_fault(form: Form, group: Group, chance: &mut Rng) -> usize {
    let at_provider = Form { stream: form.stream || group == Group::Carried, ..form };
    let known: Vec<_> =
        (0..rows::ALL.len()).filter(|row| (rows::ALL[*row].knows)(at_provider)).collect();
    known[chance.usize(..known.len())]
}

impl Manner {
    fn draw(pieces: usize, chance: &mut Rng) -> Self {
        // Long answers are read in larger sips: their readers are slow, not their time.
        let sip = (pieces * 2).max(128);
        let soon = Duration::from_millis(chance.u64(..15));
        let late = Duration::from_millis(chance.u64(..600));
        let (leaves, sips, stops_at) = match chance.u8(..100) {
            0..4 => (Some(soon), None, None),
            4..8 => (Some(late), None, None),
            8..12 => (Some(late), Some(sip), None),
            12..20 => (None, Some(sip), None),
            20..22 => (None, None, Some(chance.usize(..1_000))),
            _ => (None, None, None),
        };
        Self { leaves, sips, stops_at }
    }
}

impl Wish {
    fn text(self) -> String {
        let fault = self.fault.map_or(0, |row| row + 1);
        let words = match self.words {
            Words::Apart => 0,
            Words::Long => 1,
            Words::Same => 2,
        };
        format!("[soak {} {fault} {} {} {words}]", self.id, self.pieces, self.pause.as_millis())
    }

    /// What a request asks for.
    pub(crate) fn read(request: &Request) -> Self {
        let from = memchr::memmem::find(&request.body, MARK).unwrap() + MARK.len();
        let text = &request.body[from..];
        let text = &text[..memchr::memchr(b']', text).unwrap()];
        let numbers: Vec<u32> = str::from_utf8(text)
            .unwrap()
            .split(' ')
            .map(|number| number.parse().unwrap())
            .collect();
        let [id, fault, pieces, pause, words] = numbers[..] else { panic!("{numbers:?}") };
        Self {
            id,
            fault: (fault as usize).checked_sub(1),
            pieces: pieces as usize,
            pause: Duration::from_millis(pause.into()),
            words: [Words::Apart, Words::Long, Words::Same][words as usize],
        }
    }
}

const MARK: &[u8] = b"[soak ";
