//! Which parts of a JSON body the model reads, found in one pass that builds nothing.
//!
//! The fields that hold text are named here; all others count nothing. So no base64 is taken for
//! text, whatever a vendor calls the field it is in. Promises never to fail.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::text::Count;
use crate::lexicon::Tokens;

/// How a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Text, or parts that hold text in known fields.
    Content,
    /// JSON that the model reads as it is: names, values and the signs between them.
    Json,
    /// Text, or tokens as numbers.
    Plain,
    /// Where media come from: only its detail and its text are wanted, and an address has neither.
    Source,
    /// A list of turns with their framing, or one text.
    Turns,
}

/// The sum over the bodies read so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) count: Count,
}

impl Tally {
    /// Adds a JSON text. One that breaks off, or that nests too deep, counts up to there.
    pub(super) fn read(&mut self, json: &[u8], reading: Reading) {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let _ = Walk { tally: self, reading, in_turns: false }.deserialize(&mut reader);
    }

    fn string(&mut self, text: &str, reading: Reading) {
        if is_embedded(text) {
            return self.media(Media::Image, false);
        }
        self.count.text(text);
        if reading == Reading::Json {
            self.count.hundredths(SIGNS);
        }
    }

    fn media(&mut self, kind: Media, low: bool) {
        self.count.whole(match kind {
            Media::Audio => AUDIO,
            Media::File => FILE,
            Media::Image => {
                if low {
                    IMAGE_LOW
                } else {
                    IMAGE
                }
            }
            Media::Video => VIDEO,
        });
    }
}

/// Whether a text is a `data:` address, which is most often an image.
fn is_embedded(text: &str) -> bool {
    let head = text.strip_prefix("data:").map(|rest| rest.split(',').next().unwrap_or_default());
    head.is_some_and(|head| head.len() < 200 && head.ends_with(";base64"))
}

/// What stands between two texts of a JSON object: one run of punctuation such as `":"`.
const SIGNS: u64 = 85;

/// What a turn has around it: three tokens of delimiters and one for the role.
const TURN: Tokens = 4;

/// An image at low detail, and one of 1024 × 1024 at high detail: four tiles of 170 and the 85
/// that every image has.
const IMAGE_LOW: Tokens = 85;
const IMAGE: Tokens = 765;
/// Half a minute of speech at ten tokens a second.
const AUDIO: Tokens = 300;
/// One page as text and image; most of the files that are sent are longer, some are shorter.
const FILE: Tokens = 2000;
/// Eight seconds at about 260 tokens a second.
const VIDEO: Tokens = 2100;

/// A value and how to read it. Says what kind of thing it was, for the object around it.
struct Walk<'w> {
    tally: &'w mut Tally,
    reading: Reading,
    /// Whether this is an element of a list of turns.
    in_turns: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Media {
    Audio,
    File,
    Image,
    Video,
}

/// What an object says about the object around it.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// It asked for an image at low detail.
    low: bool,
    /// It is the source of a document that is text, and has been counted as such.
    text: bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Seen;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Seen, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Seen, E> {
        if self.reading != Reading::Source {
            self.tally.string(text, self.reading);
        }
        Ok(Seen::default())
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(self.number())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(self.number())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Seen, E> {
        Ok(self.number())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(self.number())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Seen, A::Error> {
        let Self { tally, reading, .. } = self;
        let in_turns = reading == Reading::Turns;
        let reading = if in_turns { Reading::Content } else { reading };
        while list.next_element_seed(Walk { tally: &mut *tally, reading, in_turns })?.is_some() {}
        Ok(Seen::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Seen, A::Error> {
        if self.in_turns {
            self.tally.count.whole(TURN);
        }
        match self.reading {
            Reading::Json => names_and_values(self.tally, map),
            Reading::Content | Reading::Plain | Reading::Source | Reading::Turns => {
                let is_source = self.reading == Reading::Source;
                Part { is_source, ..Part::default() }.read(self.tally, map)
            }
        }
    }
}

impl Walk<'_> {
    /// A number is one token where tokens are written as numbers, and nearly so in JSON.
    fn number(self) -> Seen {
        match self.reading {
            Reading::Plain => self.tally.count.whole(1),
            Reading::Json => self.tally.count.hundredths(100 + SIGNS),
            Reading::Content | Reading::Source | Reading::Turns => {}
        }
        Seen::default()
    }
}

fn names_and_values<'de, A: MapAccess<'de>>(
    tally: &mut Tally,
    mut map: A,
) -> Result<Seen, A::Error> {
    let reading = Reading::Json;
    while map.next_key_seed(Walk { tally: &mut *tally, reading, in_turns: false })?.is_some() {
        map.next_value_seed(Walk { tally: &mut *tally, reading, in_turns: false })?;
    }
    tally.count.hundredths(SIGNS);
    Ok(Seen::default())
}

/// An object with known fields: a turn, a part of its content, a choice, a block.
#[derive(Debug, Default)]
struct Part<'de> {
    /// Whether it says where something comes from; what comes is counted around it.
    is_source: bool,
    kind: Option<&'de RawValue>,
    media: Option<Media>,
    /// The content of a source, which is text only where its type says so.
    payload: Option<&'de RawValue>,
    seen: Seen,
    /// Vendors that give the reasoning under two names give it twice.
    reasoned: bool,
}

impl<'de> Part<'de> {
    fn read<A: MapAccess<'de>>(mut self, tally: &mut Tally, mut map: A) -> Result<Seen, A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            self.field(&name, tally, &mut map)?;
        }
        Ok(self.close(tally))
    }

    fn field<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        tally: &mut Tally,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let before = tally.count;
        let mut walk =
            |reading| map.next_value_seed(Walk { tally: &mut *tally, reading, in_turns: false });
        match name {
            "type" => self.kind = Some(map.next_value()?),
            "detail" => self.seen.low |= word(map.next_value()?) == "low",
            "data" => self.payload = Some(map.next_value()?),
            "arguments" | "input" => {
                walk(Reading::Json)?;
            }
            "reasoning" | "reasoning_content" if self.reasoned => {
                map.next_value::<IgnoredAny>()?;
            }
            "reasoning" | "reasoning_content" => {
                walk(Reading::Content)?;
                self.reasoned = tally.count != before;
            }
            _ if TEXTS.contains(&name) => {
                walk(Reading::Content)?;
            }
            _ => match MEDIA.iter().find(|(field, _)| *field == name) {
                Some(&(_, media)) => {
                    let inner = walk(Reading::Source)?;
                    self.media = self.media.or(media);
                    self.seen.low |= inner.low;
                    self.seen.text |= inner.text;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            },
        }
        Ok(())
    }

    fn close(self, tally: &mut Tally) -> Seen {
        let kind = self.kind.map_or("", word);
        if let ("text", Some(text)) = (kind, self.payload)
            && text.get().starts_with('"')
        {
            tally.read(text.get().as_bytes(), Reading::Content);
        }
        // Some clients send all fields of all types, with nulls: the type goes before the fields.
        let media = match self.kind {
            Some(_) => KINDS.iter().find(|(name, _)| *name == kind).map(|&(_, media)| media),
            None => self.media,
        };
        if let Some(media) = media.filter(|_| !self.is_source && !self.seen.text) {
            tally.media(media, self.seen.low);
        }
        Seen { low: self.seen.low, text: matches!(kind, "text" | "content") }
    }
}

/// The text that a value is, where it is one without escapes.
fn word(json: &RawValue) -> &str {
    json.get().trim_matches('"')
}

/// Reads a name without copying it.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// The fields of turns, parts and answers that hold text, or parts that do.
const TEXTS: [&str; 16] = [
    "code",
    "content",
    "function",
    "function_call",
    "message",
    "name",
    "output",
    "partial_json",
    "query",
    "refusal",
    "summary",
    "text",
    "thinking",
    "title",
    "tool_calls",
    "transcript",
];

/// Fields that hold something else than text, and what; a source may be of anything.
const MEDIA: [(&str, Option<Media>); 7] = [
    // Of an answer: its transcript is text, its sound is not counted twice.
    ("audio", None),
    ("file", Some(Media::File)),
    ("image_url", Some(Media::Image)),
    ("input_audio", Some(Media::Audio)),
    ("source", None),
    ("video", Some(Media::Video)),
    ("video_url", Some(Media::Video)),
];

/// Types of parts that hold something else than text.
const KINDS: [(&str, Media); 10] = [
    ("audio", Media::Audio),
    ("document", Media::File),
    ("file", Media::File),
    ("image", Media::Image),
    ("image_url", Media::Image),
    ("input_audio", Media::Audio),
    ("input_file", Media::File),
    ("input_image", Media::Image),
    ("video", Media::Video),
    ("video_url", Media::Video),
];
