//! The fields of one JSON object, found without parsing their values, and edits by splicing.
//!
//! Reading validates the whole text as JSON but builds nothing: each field is its name and the
//! span of its value. Edits keep every byte that they do not replace, unknown fields with them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::rope::Rope;
use super::scan::Scan;

/// The fields of an object in the order of the text. Spans count from the start of that text.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    list: Vec<Field>,
    /// Just behind the opening brace.
    start: usize,
}

#[derive(Debug, Clone)]
struct Field {
    name: Name,
    value: Range<usize>,
}

#[derive(Debug, Clone)]
enum Name {
    /// The name stands in the text as it is.
    Plain(Range<usize>),
    /// The name was written with escapes; this is what it says.
    Escaped(Box<str>),
}

/// Why a text has no fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAnObject {
    /// Not JSON at all; says what and where.
    Invalid(String),
    /// JSON, but not an object.
    OtherType,
    /// The same name twice where that would leave its meaning open.
    Repeated(Box<str>),
}

impl fmt::Display for NotAnObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "not valid JSON: {why}"),
            Self::OtherType => f.write_str("valid JSON, but not an object"),
            Self::Repeated(name) => write!(f, "the field `{name}` stands there twice"),
        }
    }
}

impl std::error::Error for NotAnObject {}

impl Fields {
    /// Finds the fields of the object that `text` is; white space around it is allowed.
    ///
    /// Refuses a second `model` or `stream`, so that a gateway and the server behind it can
    /// never read different ones. Other repeated names are kept as they are.
    pub fn of(text: &[u8]) -> Result<Self, NotAnObject> {
        let text = utf8(text)?;
        let mut fields = Self::default();
        if fields.see(text).is_none() {
            fields = Self::parsed(text)?;
        }
        for name in ["model", "stream"] {
            if fields.positions(text.as_bytes(), name).nth(1).is_some() {
                return Err(NotAnObject::Repeated(name.into()));
            }
        }
        Ok(fields)
    }

    /// Finds them by a look, which is quick but refuses without a reason; some may be found then.
    fn see(&mut self, text: &str) -> Option<()> {
        let mut scan = Scan::new(text);
        scan.pass(b'{')?;
        self.start = scan.at();
        if scan.peek()? == b'}' {
            scan.pass(b'}')?;
        } else {
            self.list.reserve(USUAL_FIELDS);
            loop {
                let name = scan.name()?;
                let value = scan.value()?;
                if self.list.len() == MAX_FIELDS {
                    return None;
                }
                self.list.push(Field { name: Name::at(name, text)?, value });
                if scan.peek()? == b'}' {
                    scan.pass(b'}')?;
                    break;
                }
                scan.pass(b',')?;
            }
        }
        scan.peek().is_none().then_some(())
    }

    /// Found by a parser, which says what is wrong.
    fn parsed(text: &str) -> Result<Self, NotAnObject> {
        let first = text.bytes().position(|byte| !byte.is_ascii_whitespace());
        let Some(open) = first.filter(|&at| text.as_bytes().get(at) == Some(&b'{')) else {
            return match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => Err(NotAnObject::OtherType),
                Err(error) => Err(NotAnObject::Invalid(error.to_string())),
            };
        };
        let mut fields = Self { list: Vec::new(), start: open + 1 };
        let mut reader = serde_json::Deserializer::from_str(text);
        (&mut reader)
            .deserialize_map(Collect { text, into: &mut fields })
            .and_then(|()| reader.end())
            .map_err(|error| NotAnObject::Invalid(error.to_string()))?;
        Ok(fields)
    }

    /// The span of the value of `name`; of the last one where a name is repeated, as parsers do.
    pub fn span(&self, text: &[u8], name: &str) -> Option<Range<usize>> {
        let at = self.positions(text, name).last()?;
        self.list.get(at).map(|field| field.value.clone())
    }

    /// The JSON text of the value of `name`.
    pub fn get<'t>(&self, text: &'t [u8], name: &str) -> Option<&'t [u8]> {
        text.get(self.span(text, name)?)
    }

    /// The same of several names, by one look at each field.
    #[inline]
    pub fn pick<'t, const N: usize>(
        &self,
        text: &'t [u8],
        names: [&str; N],
    ) -> [Option<&'t [u8]>; N] {
        let mut found = [None; N];
        for field in &self.list {
            for (slot, name) in found.iter_mut().zip(names) {
                if field.is(text, name) {
                    *slot = text.get(field.value.clone());
                }
            }
        }
        found
    }

    /// The value of `name` where it is there, not null, and of the wanted type.
    pub fn parse<'t, T: serde::Deserialize<'t>>(&self, text: &'t [u8], name: &str) -> Option<T> {
        serde_json::from_slice::<Option<T>>(self.get(text, name)?).ok().flatten()
    }

    /// Names and value texts in order.
    pub fn iter<'t>(&'t self, text: &'t [u8]) -> impl Iterator<Item = (&'t str, &'t [u8])> {
        self.list
            .iter()
            .map(move |field| (field.name(text), text.get(field.value.clone()).unwrap_or_default()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn positions<'t>(&'t self, text: &'t [u8], name: &'t str) -> impl Iterator<Item = usize> + 't {
        let named = self.list.iter().enumerate().filter(move |(_, field)| field.is(text, name));
        named.map(|(at, _)| at)
    }
}

/// The text, where it is UTF-8. The common case takes a tenth of the standard library's time, which
/// is a tenth of the whole for a prompt of 20 KB; the other one says what is wrong and where.
fn utf8(text: &[u8]) -> Result<&str, NotAnObject> {
    simdutf8::basic::from_utf8(text).or_else(|_| {
        std::str::from_utf8(text)
            .map_err(|error| NotAnObject::Invalid(format!("{error} (it must be UTF-8)")))
    })
}

impl Name {
    /// The name that stands there between quotes; `None` where its escapes say nothing.
    fn at(span: Range<usize>, text: &str) -> Option<Self> {
        // No search that begins with a look at the processor: names are short.
        if !text.as_bytes().get(span.clone())?.contains(&b'\\') {
            return Some(Self::Plain(span));
        }
        let quoted = text.get(span.start - 1..=span.end)?;
        serde_json::from_str(quoted).ok().map(Self::Escaped)
    }
}

impl Field {
    #[inline]
    fn is(&self, text: &[u8], name: &str) -> bool {
        match &self.name {
            Name::Plain(span) => text.get(span.clone()) == Some(name.as_bytes()),
            Name::Escaped(own) => **own == *name,
        }
    }

    fn name<'t>(&'t self, text: &'t [u8]) -> &'t str {
        match &self.name {
            Name::Plain(span) => {
                text.get(span.clone()).and_then(|raw| std::str::from_utf8(raw).ok()).unwrap_or("")
            }
            Name::Escaped(name) => name,
        }
    }
}

struct Collect<'t, 'f> {
    text: &'t str,
    into: &'f mut Fields,
}

impl<'t> Visitor<'t> for Collect<'t, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        let base = self.text.as_ptr() as usize;
        let span = |part: &str| {
            let from = part.as_ptr() as usize - base;
            from..from + part.len()
        };
        while let Some(name) = map.next_key_seed(NameSeed)? {
            let value: &'t RawValue = map.next_value()?;
            let name = match name {
                Cow::Borrowed(name) => Name::Plain(span(name)),
                Cow::Owned(name) => Name::Escaped(name.into()),
            };
            if self.into.list.len() == MAX_FIELDS {
                return Err(A::Error::custom(format!("more than {MAX_FIELDS} fields")));
            }
            self.into.list.push(Field { name, value: span(value.get()) });
        }
        Ok(())
    }
}

/// Few objects have more.
const USUAL_FIELDS: usize = 16;

/// No API has this many parameters; a body that has is an attack on the lists kept per field.
const MAX_FIELDS: usize = 1024;

struct NameSeed;

impl<'t> DeserializeSeed<'t> for NameSeed {
    type Value = Cow<'t, str>;
    fn deserialize<D: serde::Deserializer<'t>>(self, from: D) -> Result<Self::Value, D::Error> {
        struct Text;
        impl<'t> Visitor<'t> for Text {
            type Value = Cow<'t, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }
            fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        from.deserialize_str(Text)
    }
}

/// Changes to make to an object's fields, applied in one pass by [`Edits::apply`].
///
/// A later change of the same field replaces an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    list: SmallVec<[(Cow<'static, str>, Edit); 4]>,
}

#[derive(Debug, Clone)]
enum Edit {
    Drop,
    Rename(Box<str>),
    Set(Bytes),
}

impl Edits {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Leaves the field out.
    pub fn drop(&mut self, name: impl Into<Cow<'static, str>>) {
        self.put(name.into(), Edit::Drop);
    }

    /// Gives the field another name and keeps its value.
    pub fn rename(&mut self, name: impl Into<Cow<'static, str>>, to: &str) {
        self.put(name.into(), Edit::Rename(to.into()));
    }

    /// Replaces the value by `json`, or adds the field at the end where it is absent.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, json: impl Into<Bytes>) {
        self.put(name.into(), Edit::Set(json.into()));
    }

    /// Whether the field will be left out.
    pub fn drops(&self, name: &str) -> bool {
        self.list.iter().any(|(known, edit)| known == name && matches!(edit, Edit::Drop))
    }

    /// The value that `name` will have in `text`; none where it is absent, left out or renamed.
    pub fn outcome<'a>(&'a self, text: &'a [u8], fields: &Fields, name: &str) -> Option<&'a [u8]> {
        match self.list.iter().find(|(known, _)| known == name) {
            None => fields.get(text, name),
            Some((_, Edit::Drop | Edit::Rename(_))) => None,
            Some((_, Edit::Set(json))) => Some(json),
        }
    }

    fn put(&mut self, name: Cow<'static, str>, edit: Edit) {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot)) => *slot = edit,
            None => self.list.push((name, edit)),
        }
    }

    /// The edited text. `fields` must be the fields of `text`.
    ///
    /// Bytes outside the edited fields stay as they are. Where a name is repeated, all of its
    /// fields are dropped, renamed or set.
    pub fn apply(&self, text: &Bytes, fields: &Fields) -> Rope {
        if self.is_empty() {
            return Rope::from(text.clone());
        }
        let mut out = Splicer { text, rope: Rope::new(), kept: 0, first: true };
        out.kept_until(fields.start);
        let mut end_of_previous = fields.start;
        for field in &fields.list {
            let edit = self.list.iter().find(|(known, _)| field.is(text, known));
            match edit.map(|(_, edit)| edit) {
                None => out.keep(end_of_previous, &field.value),
                Some(Edit::Drop) => out.skip(end_of_previous, field.value.end),
                Some(Edit::Rename(to)) => out.rename(end_of_previous, &field.value, to),
                Some(Edit::Set(json)) => out.set(end_of_previous, &field.value, json),
            }
            end_of_previous = field.value.end;
        }
        for (name, edit) in &self.list {
            if let Edit::Set(json) = edit
                && !fields.list.iter().any(|field| field.is(text, name))
            {
                out.add(end_of_previous, name, json);
            }
        }
        out.finish()
    }
}

/// Copies spans of a text into a rope, and joins neighbouring ones.
struct Splicer<'t> {
    text: &'t Bytes,
    rope: Rope,
    /// Where the run of kept bytes that is not in the rope yet begins.
    kept: usize,
    first: bool,
}

impl Splicer<'_> {
    fn kept_until(&mut self, end: usize) {
        // The run grows by itself; only a skip ends it.
        debug_assert!(self.kept <= end, "spans come in order");
    }

    fn flush(&mut self, end: usize) {
        if self.kept < end {
            self.rope.push(self.text.slice(self.kept..end));
        }
        self.kept = end;
    }

    /// A kept field: its comma goes when everything before it was dropped.
    fn keep(&mut self, gap: usize, value: &Range<usize>) {
        self.separate(gap);
        self.kept_until(value.end);
    }

    fn skip(&mut self, gap: usize, end: usize) {
        self.flush(gap);
        self.kept = end;
    }

    fn set(&mut self, gap: usize, value: &Range<usize>, json: &Bytes) {
        self.separate(gap);
        self.flush(value.start);
        self.rope.push(json.clone());
        self.kept = value.end;
    }

    fn rename(&mut self, gap: usize, value: &Range<usize>, to: &str) {
        self.flush(gap);
        self.open_field(to);
        self.kept = value.start;
    }

    fn add(&mut self, end: usize, name: &str, json: &Bytes) {
        self.flush(end);
        self.open_field(name);
        self.rope.push(json.clone());
    }

    /// Ends the run before a field and drops that field's comma if it is now the first.
    fn separate(&mut self, gap: usize) {
        if !self.first {
            return;
        }
        self.first = false;
        let comma = self.text.get(gap..).and_then(|rest| {
            let at = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
            (rest.get(at) == Some(&b',')).then_some(gap + at + 1)
        });
        if let Some(behind) = comma {
            self.flush(gap);
            self.kept = behind;
        }
    }

    fn open_field(&mut self, name: &str) {
        let comma = if std::mem::take(&mut self.first) { "" } else { "," };
        let name = serde_json::Value::from(name);
        self.rope.push(Bytes::from(format!("{comma}{name}:")));
    }

    fn finish(mut self) -> Rope {
        self.flush(self.text.len());
        self.rope.settled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn edited(text: &str, edit: impl FnOnce(&mut Edits), want: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let fields = Fields::of(&bytes).unwrap();
        let mut edits = Edits::new();
        edit(&mut edits);
        let got = edits.apply(&bytes, &fields).to_bytes();
        assert_eq!(std::str::from_utf8(&got).unwrap(), want);
    }

    #[test]
    fn several_fields_are_found_as_each_alone() {
        let text = br#"{"b":1,"a":[2],"b":{"a":3},"\u0063":"4"}"#;
        let fields = Fields::of(text).unwrap();
        let names = ["a", "b", "c", "d"];
        assert_eq!(fields.pick(text, names), names.map(|name| fields.get(text, name)));
        assert_eq!(
            fields.pick(text, names),
            [Some(&b"[2]"[..]), Some(br#"{"a":3}"#), Some(b"\"4\""), None]
        );
    }

    #[test]
    fn a_value_is_replaced_and_every_other_byte_stays() {
        edited(
            r#"{ "model" : "a" , "x":[1, 2 ] }"#,
            |e| e.set("model", r#""b""#),
            r#"{ "model" : "b" , "x":[1, 2 ] }"#,
        );
    }

    #[test]
    fn dropped_fields_take_their_comma_along() {
        edited(r#"{"a":1,"b":2,"c":3}"#, |e| e.drop("a"), r#"{"b":2,"c":3}"#);
        edited(r#"{"a":1,"b":2,"c":3}"#, |e| e.drop("b"), r#"{"a":1,"c":3}"#);
        edited(r#"{"a":1,"b":2,"c":3}"#, |e| e.drop("c"), r#"{"a":1,"b":2}"#);
        edited(r#"{"a":1}"#, |e| e.drop("a"), "{}");
        edited(
            r#"{"a":1, "b":2}"#,
            |e| {
                e.drop("a");
                e.set("b", "3");
            },
            r#"{ "b":3}"#,
        );
    }

    #[test]
    fn absent_fields_are_added_at_the_end() {
        edited(r#"{"a":1}"#, |e| e.set("b", "2"), r#"{"a":1,"b":2}"#);
        edited(
            "{}",
            |e| {
                e.set("b", "2");
                e.set("c", "3");
            },
            r#"{"b":2,"c":3}"#,
        );
        edited(
            r#"{"a":1}"#,
            |e| {
                e.drop("a");
                e.set("b", "2");
            },
            r#"{"b":2}"#,
        );
    }

    #[test]
    fn a_renamed_field_keeps_its_value() {
        edited(r#"{"a": [1] ,"b":2}"#, |e| e.rename("a", "z"), r#"{"z":[1] ,"b":2}"#);
        edited(r#"{"a":1,"b":2}"#, |e| e.rename("b", "z"), r#"{"a":1,"z":2}"#);
    }

    #[test]
    fn what_is_no_object_is_refused_with_a_reason() {
        assert!(matches!(Fields::of(b"[1]"), Err(NotAnObject::OtherType)));
        assert!(matches!(Fields::of(b""), Err(NotAnObject::Invalid(_))));
        assert!(matches!(Fields::of(b"{\"a\":1} x"), Err(NotAnObject::Invalid(_))));
        assert!(matches!(Fields::of(b"{\"a\":\"\xff\"}"), Err(NotAnObject::Invalid(_))));
        assert_eq!(
            Fields::of(br#"{"model":"a","mo\u0064el":"b"}"#).unwrap_err(),
            NotAnObject::Repeated("model".into())
        );
    }

    #[test]
    fn deep_nesting_is_skipped_without_a_crash() {
        let text = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(Fields::of(text.as_bytes()).unwrap().len(), 1);
        assert!(Fields::of(&text.as_bytes()[..150_000]).is_err());
    }

    /// Names, spans and where they begin, by the look and by the parser.
    #[track_caller]
    fn alike(text: &str) {
        let facts = |fields: Fields| {
            let list = fields.list.iter();
            let list = list.map(|it| (it.name(text.as_bytes()).to_owned(), it.value.clone()));
            (fields.start, list.collect::<Vec<_>>())
        };
        let mut seen = Fields::default();
        let seen = seen.see(text).map(|()| facts(seen));
        assert_eq!(seen, Fields::parsed(text).ok().map(facts), "{text}");
    }

    #[test]
    fn a_look_finds_what_the_parser_finds() {
        for text in [
            "{}",
            "\n\t\r {\"a\" : [1, {\"b\":2}] , \"\\u0061\\\\\":\"x\" }  ",
            "{\"a\":1}x",
            "{\"a\":1,}",
            "{,}",
            "{\"\\ud800\":1}",
            "{\"\\ud83d\\ude00\":1}",
            "\u{c}{}",
            "[]",
            "",
        ] {
            alike(text);
        }
    }

    fn object() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
            Just(json!({"model": ["x", {"stream": "}"}]})),
        ];
        prop::collection::btree_map("[a-e\"\\\\]{1,2}", leaf, 0..6)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn edits_by_splicing_equal_edits_on_the_parsed_object(
            object in object(),
            pretty in any::<bool>(),
            changes in prop::collection::vec(("[a-e]{1,2}", 0u8..3), 0..5),
        ) {
            let text = if pretty {
                serde_json::to_string_pretty(&object).unwrap()
            } else {
                object.to_string()
            };
            let bytes = Bytes::from(text);
            let fields = Fields::of(&bytes).unwrap();
            alike(std::str::from_utf8(&bytes).unwrap());
            let mut want = object.as_object().unwrap().clone();
            let mut edits = Edits::new();
            let mut seen = std::collections::BTreeSet::new();
            for (name, what) in changes {
                if !seen.insert(name.clone()) {
                    continue;
                }
                match what {
                    0 => { edits.drop(name.clone()); want.remove(&name); }
                    1 => { edits.set(name.clone(), "[7]"); want.insert(name, json!([7])); }
                    _ => {
                        edits.rename(name.clone(), &format!("r_{name}"));
                        if let Some(value) = want.remove(&name) {
                            want.insert(format!("r_{name}"), value);
                        }
                    }
                }
            }
            let got = edits.apply(&bytes, &fields).to_bytes();
            let got: Value = serde_json::from_slice(&got).unwrap();
            prop_assert_eq!(got, Value::Object(want));
        }
    }
}
