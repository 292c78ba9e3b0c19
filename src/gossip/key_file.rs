//! The file with the keys that all sidecars share: one key, or several while they are changed.
//!
//! One key is 32 bytes in base64 on a line, as `openssl rand -base64 32` prints them; it has the
//! id 1. Several stand in a JSON object: `{"active": 2, "keys": {"1": "…", "2": "…"}}`. Nothing of
//! a key is ever said.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode::Indifferent;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::{Keys, NoKey};

/// The id of a key that stands alone.
const ALONE: u8 = 1;
/// Nobody needs a longer file for a handful of keys.
const LONGEST: u64 = 64 * 1024;

/// Why there are no keys.
#[derive(Debug)]
pub enum NoKeys {
    /// Keys are 32 bytes.
    Length {
        /// Which key.
        id: u8,
        /// How many bytes it has.
        bytes: usize,
    },
    /// The active one is not there.
    NoActive(NoKey),
    /// It is no base64.
    NotBase64 {
        /// Which key.
        id: u8,
    },
    /// It is neither of the two forms.
    Strange(String),
    /// There is nothing to read.
    Unread(io::Error),
}

impl fmt::Display for NoKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { id, bytes } => write!(
                f,
                "key {id} has {bytes} bytes and must have 32; `openssl rand -base64 32` makes one"
            ),
            Self::NoActive(none) => write!(f, "{none}"),
            Self::NotBase64 { id } => write!(f, "key {id} is not base64"),
            Self::Strange(why) => write!(
                f,
                "it is neither a key nor an object such as {{\"active\": 1, \"keys\": {{\"1\": \"…\"}}}}: {why}"
            ),
            Self::Unread(why) => write!(f, "it cannot be read: {why}"),
        }
    }
}

impl std::error::Error for NoKeys {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    active: u8,
    keys: BTreeMap<u8, String>,
}

/// Reads the file. Blocks.
pub fn read(path: &Path) -> Result<Keys, NoKeys> {
    let length = std::fs::metadata(path).map_err(NoKeys::Unread)?.len();
    if length > LONGEST {
        return Err(NoKeys::Strange(format!("it has {length} bytes")));
    }
    parse(&std::fs::read_to_string(path).map_err(NoKeys::Unread)?)
}

/// The keys of a text.
pub fn parse(text: &str) -> Result<Keys, NoKeys> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let several = if text.starts_with('{') {
        // Where it is wrong, and nothing of what stands there.
        let place = |error: serde_json::Error| {
            NoKeys::Strange(format!("line {}, column {}", error.line(), error.column()))
        };
        serde_json::from_str(text).map_err(place)?
    } else if text.is_empty() {
        return Err(NoKeys::Strange("it is empty".to_owned()));
    } else {
        Several { active: ALONE, keys: [(ALONE, text.to_owned())].into() }
    };
    let keys = several.keys.iter().map(|(id, text)| Ok((*id, decoded(*id, text)?)));
    let keys: BTreeMap<u8, [u8; 32]> = keys.collect::<Result<_, NoKeys>>()?;
    Keys::new(several.active, keys).map_err(NoKeys::NoActive)
}

/// Either alphabet, with or without padding.
fn decoded(id: u8, text: &str) -> Result<[u8; 32], NoKeys> {
    let text = text.trim();
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let bytes = GeneralPurpose::new(alphabet, lenient).decode(text);
    let bytes = bytes.map_err(|_| NoKeys::NotBase64 { id })?;
    <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| NoKeys::Length { id, bytes: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    #[track_caller]
    fn check(text: &str, want: Result<(u8, &[u8]), &str>) {
        match (parse(text), want) {
            (Ok(keys), Ok((active, ids))) => {
                assert_eq!(keys.active(), active, "{text}");
                assert_eq!(keys.ids().collect::<Vec<_>>(), ids, "{text}");
            }
            (Err(why), Err(want)) => assert!(why.to_string().contains(want), "{text}: {why}"),
            (got, want) => panic!("{text}: {got:?} is not {want:?}"),
        }
    }

    #[test]
    fn one_key_or_several_are_read() {
        check(ONE, Ok((1, &[1])));
        check(&format!("\u{feff}{ONE}\r\n"), Ok((1, &[1])));
        check(ONE.trim_end_matches('='), Ok((1, &[1])));
        check("__________________________________________8", Ok((1, &[1])));
        let several = format!(r#"{{"active": 7, "keys": {{"1": "{ONE}", "7": " {ONE} "}}}}"#);
        check(&several, Ok((7, &[1, 7])));
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_of_a_key() {
        check("", Err("it is empty"));
        check("hunter2!", Err("key 1 is not base64"));
        check("aHVudGVyMg==", Err("key 1 has 7 bytes"));
        check(r#"{"active": 2, "keys": {"1": "#, Err("line 1"));
        check(&format!(r#"{{"active": 2, "keys": {{"1": "{ONE}"}}}}"#), Err("key 2"));
        check(&format!(r#"{{"active": 1, "keys": {{"300": "{ONE}"}}}}"#), Err("column"));
        check(r#"{"active": 1, "keys": {"1": "x", "2": "y"}, "more": 1}"#, Err("column"));
        for wrong in ["hunter2", r#"{"active": "hunter2", "keys": {}}"#] {
            let said = parse(wrong).unwrap_err();
            assert!(!format!("{said} {said:?}").contains("hunter2"), "{said:?}");
        }
        assert!(matches!(read(Path::new("/nowhere/key")), Err(NoKeys::Unread(_))));
    }
}
