//! `pillion.streams`, for all groups and for one: what becomes of a stream that breaks off.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cursor::Cursor;
use super::fields;
use super::known::{Section, Standing::Acted};
use crate::routing::streams::{Recovery, Settings, Window};

static STREAMS: Section =
    Section(&[("hold_time", Acted), ("hold_tokens", Acted), ("recovery", Acted)]);

/// `pillion.streams`.
pub(super) fn read(pillion: &Cursor<'_>) -> Settings {
    over(&pillion.get("streams"), &Settings::default())
}

/// `pillion.groups.NAME.streams`, by the name of the group.
pub(super) fn of_groups(pillion: &Cursor<'_>, usual: &Settings) -> BTreeMap<Box<str>, Settings> {
    let groups = pillion.get("groups").fields();
    groups
        .into_iter()
        .map(|(name, field)| (name.into(), over(&field.get("streams"), usual)))
        .collect()
}

/// What a section says, with what it leaves out from `usual`.
fn over(field: &Cursor<'_>, usual: &Settings) -> Settings {
    fields::check(field, &STREAMS);
    let window = Window {
        tokens: tokens(&field.get("hold_tokens")).unwrap_or(usual.window.tokens),
        time: time(&field.get("hold_time")).unwrap_or(usual.window.time),
    };
    let recovery = field.get("recovery").word(Recovery::NAMES, Recovery::named);
    Settings { recovery: recovery.unwrap_or(usual.recovery), window }
}

/// What is held stays in memory, and a client sees nothing of it.
fn tokens(field: &Cursor<'_>) -> Option<u32> {
    let tokens = field.count()?;
    let is_fit = (1..=1024).contains(&tokens);
    if is_fit { Some(tokens) } else { field.expected("a number from 1 to 1024", field.value) }
}

fn time(field: &Cursor<'_>) -> Option<Duration> {
    let time = field.duration()?;
    let is_fit = !time.is_zero() && time <= Duration::from_secs(60);
    if is_fit { Some(time) } else { field.expected("a time of at most a minute", field.value) }
}
