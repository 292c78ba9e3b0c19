//! What an answer used and cost, told by the provider or estimated.

use bytes::Bytes;

use crate::account::{Record, cost, estimate};
use crate::lexicon::Tokens;
use crate::protocol::{Call, Endpoint, Fields, Usage};
use crate::registry::Price;

/// What was asked. Prompts are kept until it is known whether an estimate is needed; only huge
/// ones are counted at once, so that a stream does not hold on to them.
#[derive(Debug)]
pub(super) enum Prompt {
    Counted(Tokens),
    Kept(Endpoint, Bytes),
}

/// Counting costs a few milliseconds per megabyte, which most calls need not pay.
const LONGEST_KEPT: usize = 1024 * 1024;

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

/// Writes down what was used and what it cost, where the price is known.
pub(super) fn note(record: &mut Record, usage: Option<Usage>, price: Option<&Price>) {
    record.usage = usage;
    let price = price.copied().unwrap_or_default();
    record.cost = usage.and_then(|usage| cost::cost(&price, &usage)).map(|cost| cost.total);
}
