//! `pillion.timeouts`: how long tries are waited for, beside LiteLLM's own timeouts.

use serde_json::Value;

use super::cursor::Cursor;
use super::fields;
use super::known::{Section, Standing::Acted};
use crate::routing::attempts::patience::{Limit, Timeouts};

static TIMEOUTS: Section = Section(&[("stall", Acted), ("total", Acted), ("ttft", Acted)]);

/// `pillion.timeouts`.
pub(super) fn read(pillion: &Cursor<'_>) -> Timeouts {
    let field = pillion.get("timeouts");
    fields::check(&field, &TIMEOUTS);
    Timeouts {
        ttft: limit(&field.get("ttft")),
        stall: limit(&field.get("stall")),
        total: field.get("total").duration().filter(|total| !total.is_zero()),
    }
}

/// A duration, `learned` or `none`; zero is none, as for other timeouts.
fn limit(field: &Cursor<'_>) -> Limit {
    match field.value {
        Value::String(word) if word == "learned" => Limit::Learned,
        Value::String(word) if word == "none" => Limit::None,
        _ => match field.duration() {
            None => Limit::Learned,
            Some(limit) if limit.is_zero() => Limit::None,
            Some(limit) => Limit::Fixed(limit),
        },
    }
}
