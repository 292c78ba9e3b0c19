//! `pillion.retries`: how many extra tries a model group may make.

use super::cursor::Cursor;
use super::fields;
use super::hedge::portion;
use super::known::{Section, Standing::Acted};
use crate::routing::Income;

static RETRIES: Section = Section(&[("budget", Acted), ("per_second", Acted)]);

/// `pillion.retries`.
pub(super) fn read(pillion: &Cursor<'_>) -> Income {
    let field = pillion.get("retries");
    fields::check(&field, &RETRIES);
    let usual = Income::default();
    Income {
        share: portion(&field.get("budget")).unwrap_or(usual.share),
        per_second: field.get("per_second").amount().unwrap_or(usual.per_second),
    }
}
