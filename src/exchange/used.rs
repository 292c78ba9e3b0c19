//! What an answer used and cost, told by the provider or estimated.

use std::time::Instant;

use bytes::Bytes;

use super::attempt::Served;
use super::live::Live;
use crate::account::{Record, TryEnd, Wasted, cost, estimate};
use crate::lexicon::{DeploymentIx, PicoUsd, Tokens, time};
use crate::protocol::watch::Watch;
use crate::protocol::{Call, Endpoint, Fields, Usage};
use crate::provider::runs_to_end;
use crate::registry::Price;
use crate::routing::Kind;
use crate::stats::{Answer, Noted};

/// What was asked. Prompts are kept until it is known whether an estimate is needed; only huge
/// ones are counted at once, so that a stream does not hold on to them.
#[derive(Debug)]
pub(super) enum Prompt {
    Counted(Tokens),
    Kept(Endpoint, Bytes),
}

/// What is longer is not kept beyond the call. Counting costs a few milliseconds per megabyte, which most calls need not pay.
pub(super) const LONGEST_KEPT: usize = 1024 * 1024;

impl Prompt {
    pub(super) fn of(call: &Call) -> Self {
        if call.body.len() <= LONGEST_KEPT {
            Self::Kept(call.endpoint, call.body.clone())
        } else {
            Self::Counted(estimate::prompt(call.endpoint, &call.body, &call.fields))
        }
    }

    /// The usage of an answer of so many tokens, marked as an estimate.
    pub(super) fn estimate(&self, completion: Tokens) -> Usage {
        let prompt = match self {
            Self::Counted(tokens) => *tokens,
            Self::Kept(endpoint, body) => {
                let fields = Fields::of(body).unwrap_or_default();
                estimate::prompt(*endpoint, body, &fields)
            }
        };
        Usage { prompt, completion, estimated: true, ..Usage::default() }
    }
}

/// What one answer used and cost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    /// `None` where nothing was answered.
    pub usage: Option<Usage>,
    /// `None` where the price is not known.
    pub cost: Option<PicoUsd>,
}

impl Used {
    /// Prices what was used.
    pub(super) fn of(usage: Option<Usage>, price: Option<&Price>) -> Self {
        let price = price.copied().unwrap_or_default();
        let cost = usage.and_then(|usage| cost::cost(&price, &usage)).map(|cost| cost.total);
        Self { usage, cost }
    }

    /// What an answer in one piece used: as the provider tells it, else estimated.
    pub(super) fn of_whole(
        endpoint: Endpoint,
        (body, fields): (&Bytes, &Fields),
        prompt: &Prompt,
        price: Option<&Price>,
    ) -> Self {
        let usage =
            told(endpoint, body, fields).or_else(|| guessed(endpoint, body, fields, prompt));
        Self::of(usage, price)
    }

    /// What a stream has used so far: as the provider tells it, else estimated.
    pub(super) fn so_far(watch: &Watch, prompt: &Prompt, price: Option<&Price>) -> Self {
        let answered = watch.content_events;
        let guess = || (answered > 0).then(|| prompt.estimate(answered));
        Self::of(watch.usage.or_else(guess), price)
    }

    /// Writes it down, and what the tries that lost have used beside it.
    pub(super) fn note(self, record: &mut Record, live: &Live) {
        record.usage = self.usage;
        record.cost = self.cost;
        for tried in &mut record.attempts {
            if let TryEnd::Lost(wasted) = &mut tried.end {
                *wasted = self.wasted(tried.deployment, live);
            }
        }
        if record.hedge.is_some() {
            self.note_hedge(record, live);
        }
    }

    /// Tells the group what its hedge has used, or would have used. Tries that lost in other groups
    /// are those of several models at once.
    fn note_hedge(&self, record: &Record, live: &Live) {
        let asked = record.deployment.and_then(|at| Some((at, live.hedges_of(at)?)));
        let Some((asked, hedges)) = asked else { return };
        let group = |at: DeploymentIx| live.member(at).map(|(group, _)| group.at);
        let kind = Kind { stream: record.stream, ..Kind::default() };
        for tried in record.attempts.iter().filter(|tried| group(tried.deployment) == group(asked))
        {
            if let TryEnd::Lost(wasted) = tried.end {
                hedges.note(kind, Noted::Wasted(wasted.tokens, wasted.cost));
            }
        }
        if let (Some(second), Some(_)) = (record.unhedged, self.usage) {
            let used = self.beside(second, live);
            hedges.note(kind, Noted::Unmade(used.tokens(), used.cost));
        }
    }

    /// What a try of the same request used that was cut short. It counts against the deployment's
    /// limits and budgets.
    fn wasted(&self, at: DeploymentIx, live: &Live) -> Wasted {
        let used = self.beside(at, live);
        if let (Some(row), Some(_)) = (live.rows.get(at), used.usage) {
            row.charged(used.tokens(), used.cost, time::now());
        }
        Wasted { tokens: used.tokens(), cost: used.cost }
    }

    /// What the same request uses at a deployment where it is cut short: its prompt, and the answer
    /// too where the provider goes on.
    fn beside(&self, at: DeploymentIx, live: &Live) -> Self {
        let usage = self.usage.map(|own| {
            let vendor = live.deployment(at).map_or("", |deployment| deployment.vendor.prefix);
            let completion = if runs_to_end(vendor) { own.completion } else { 0 };
            Usage { prompt: own.prompt, completion, ..Usage::default() }
        });
        Self::of(usage, live.price(at))
    }

    /// The same as what was used for nothing.
    pub(super) fn as_wasted(&self) -> Wasted {
        Wasted { tokens: self.tokens(), cost: self.cost }
    }

    /// All tokens.
    pub(super) fn tokens(&self) -> Tokens {
        self.usage.map_or(0, |usage| usage.prompt.saturating_add(usage.completion))
    }

    /// What the statistics want to know of a good answer that is over at `now`.
    pub(super) fn answer(&self, served: &Served, now: Instant) -> Answer {
        let usage = self.usage.unwrap_or_default();
        Answer {
            stream: served.first_token.is_some(),
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            first_token: served.first_token,
            took: now.saturating_duration_since(served.since),
            cost: self.cost,
        }
    }
}

fn told(endpoint: Endpoint, body: &Bytes, fields: &Fields) -> Option<Usage> {
    let json = fields.get(body, "usage")?;
    match endpoint {
        Endpoint::CountTokens => None,
        Endpoint::Messages => {
            let mut usage = Usage::default();
            usage.merge_anthropic(json).then_some(usage)
        }
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::Responses => Usage::from_openai(json),
    }
}

/// Where the provider told no usage. A count of tokens uses none.
fn guessed(endpoint: Endpoint, body: &Bytes, fields: &Fields, prompt: &Prompt) -> Option<Usage> {
    if endpoint == Endpoint::CountTokens {
        return None;
    }
    let answered = estimate::completion(endpoint, body, fields);
    Some(prompt.estimate(answered))
}
