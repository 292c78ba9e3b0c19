//! Reading a document field by field: each reading says what it expects, and what else it finds
//! becomes a problem with its place.
//!
//! Lenient where LiteLLM is: quoted numbers, digits grouped by underscores, `yes` and `no`, null
//! for absent. Messages never quote a value that came from a variable or that may be a key.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use serde_json::{Map, Value};

use super::locate::{child, item};
use super::problem::{Problem, Scope, Severity};
use super::reference::Origins;
use super::source::{Source, kind};

/// Where problems are collected while a document is read.
#[derive(Debug)]
pub(super) struct Issues<'a> {
    source: &'a Source,
    origins: &'a Origins,
    found: RefCell<Vec<Problem>>,
    of_entries: Cell<usize>,
}

impl<'a> Issues<'a> {
    /// Nothing found yet.
    pub(super) fn new(source: &'a Source, origins: &'a Origins) -> Self {
        Self { source, origins, found: RefCell::default(), of_entries: Cell::new(0) }
    }

    /// How many errors there are so far that leave a deployment out.
    pub(super) fn errors_of_entries(&self) -> usize {
        self.of_entries.get()
    }

    /// Everything that was found.
    pub(super) fn into_found(self) -> Vec<Problem> {
        self.found.into_inner()
    }

    fn tell(&self, path: &str, what: String, manner: (Severity, Scope), hint: Option<String>) {
        let (file, (line, column)) = self.source.locate(path);
        let (severity, scope) = manner;
        if manner == (Severity::Error, Scope::Entry) {
            self.of_entries.set(self.of_entries.get() + 1);
        }
        let path = path.to_owned();
        let problem = Problem { file, line, column, path, severity, scope, what, hint };
        self.found.borrow_mut().push(problem);
    }
}

/// One value of the document, and how to speak about it.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    /// The value; null where the field is absent.
    pub(super) value: &'a Value,
    /// Its path.
    pub(super) path: String,
    issues: &'a Issues<'a>,
    scope: Scope,
}

impl<'a> Cursor<'a> {
    /// The field `key` of the whole document; errors below it reach as far as `scope` says.
    pub(super) fn top(
        root: &'a Map<String, Value>,
        key: &str,
        scope: Scope,
        issues: &'a Issues<'a>,
    ) -> Self {
        let value = root.get(key).unwrap_or(&Value::Null);
        Self { value, path: key.to_owned(), issues, scope }
    }

    /// The same value; errors reach as far as `scope` says.
    pub(super) fn with_scope(&self, scope: Scope) -> Self {
        Self { scope, ..self.clone() }
    }

    /// Another value in the place of this one, for a field that was completed.
    pub(super) fn over<'b>(&self, value: &'b Value) -> Cursor<'b>
    where
        'a: 'b,
    {
        Cursor { value, path: self.path.clone(), issues: self.issues, scope: self.scope }
    }

    /// The field `key`, null where it is absent.
    pub(super) fn get(&self, key: &str) -> Self {
        let value = self.value.get(key).unwrap_or(&Value::Null);
        Self { value, path: child(&self.path, key), issues: self.issues, scope: self.scope }
    }

    /// Whether there is no value.
    pub(super) fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// The variable the value was read from, set or not.
    pub(super) fn variable(&self) -> Option<&str> {
        self.issues.origins.variable(&self.path)
    }

    /// The variable the value should have been read from and that is not set.
    pub(super) fn missing_variable(&self) -> Option<&str> {
        if self.is_absent() { self.variable() } else { None }
    }

    /// The fields of a mapping; anything else is an error and has none.
    pub(super) fn fields(&self) -> Vec<(&'a str, Self)> {
        match self.value {
            Value::Object(map) => map.keys().map(|key| (key.as_str(), self.get(key))).collect(),
            Value::Null => Vec::new(),
            other => {
                self.expected::<()>("a mapping", other);
                Vec::new()
            }
        }
    }

    /// The items of a list; anything else is an error and has none.
    pub(super) fn items(&self) -> Vec<Self> {
        match self.value {
            Value::Array(items) => (items.iter().enumerate())
                .map(|(at, value)| Self { value, path: item(&self.path, at), ..self.clone() })
                .collect(),
            Value::Null => Vec::new(),
            other => {
                self.expected::<()>("a list", other);
                Vec::new()
            }
        }
    }

    /// A text; numbers and booleans are taken as they are written.
    pub(super) fn text(&self) -> Option<Box<str>> {
        match self.value {
            Value::Null => None,
            Value::String(text) => Some(text.as_str().into()),
            Value::Number(number) => Some(number.to_string().into()),
            Value::Bool(flag) => Some(flag.to_string().into()),
            other => self.expected("a string", other),
        }
    }

    /// One of the words that are `wanted`.
    pub(super) fn word<T>(&self, wanted: &str, named: impl Fn(&str) -> Option<T>) -> Option<T> {
        named(&self.text()?).or_else(|| self.expected(wanted, self.value))
    }

    /// A text that says something; the empty one counts as absent.
    pub(super) fn full_text(&self) -> Option<Box<str>> {
        self.text().filter(|text| !text.trim().is_empty())
    }

    /// A finite number.
    pub(super) fn number(&self) -> Option<f64> {
        let found = match self.value {
            Value::Null => return None,
            Value::Number(number) => number.as_f64(),
            Value::String(text) => plain_number(text),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        found.or_else(|| self.expected("a number", self.value))
    }

    /// A number that is not negative.
    pub(super) fn amount(&self) -> Option<f64> {
        let number = self.number()?;
        if number >= 0.0 { Some(number) } else { self.expected("zero or more", self.value) }
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self) -> Option<u32> {
        let number = self.number()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        let count = number as u32;
        if f64::from(count).to_bits() == number.abs().to_bits() && number >= 0.0 {
            Some(count)
        } else {
            self.expected("a whole number from zero up", self.value)
        }
    }

    /// Seconds.
    pub(super) fn seconds(&self) -> Option<Duration> {
        let seconds = self.amount()?;
        Duration::try_from_secs_f64(seconds)
            .ok()
            .or_else(|| self.expected("a number of seconds", self.value))
    }

    /// Seconds, or a number with a unit: `500ms`, `30s`, `5m`, `1h`, `1d`, `1w`, and `1mo` for
    /// thirty days.
    pub(super) fn duration(&self) -> Option<Duration> {
        let Value::String(text) = self.value else { return self.seconds() };
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let scale = match unit.trim() {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 7.0 * 86_400.0,
            "mo" => 30.0 * 86_400.0,
            _ => f64::NAN,
        };
        plain_number(number)
            .and_then(|number| Duration::try_from_secs_f64(number * scale).ok())
            .or_else(|| self.expected("a duration such as `30s`", self.value))
    }

    /// A yes or no.
    pub(super) fn flag(&self) -> Option<bool> {
        match self.value {
            Value::Null => None,
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => self.expected("true or false", self.value),
            },
            Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
            Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
            other => self.expected("true or false", other),
        }
    }

    /// A list of texts; one text stands for a list of itself.
    pub(super) fn texts(&self) -> Vec<Box<str>> {
        match self.value {
            Value::String(one) => vec![one.as_str().into()],
            _ => self.items().iter().filter_map(Self::text).collect(),
        }
    }

    /// Where another field stands, for messages.
    pub(super) fn place_of(&self, path: &str) -> String {
        let (file, (line, column)) = self.issues.source.locate(path);
        format!("{file}:{line}:{column}")
    }

    /// Collects the error that something else was expected; always `None`.
    pub(super) fn expected<T>(&self, wanted: &str, found: &Value) -> Option<T> {
        self.error(format!("expected {wanted}, found {}", self.found(found)), None);
        None
    }

    /// Collects an error.
    pub(super) fn error(&self, what: impl Into<String>, hint: Option<String>) {
        self.issues.tell(&self.path, what.into(), (Severity::Error, self.scope), hint);
    }

    /// Collects a warning.
    pub(super) fn warn(&self, what: impl Into<String>, hint: Option<String>) {
        self.issues.tell(&self.path, what.into(), (Severity::Warning, self.scope), hint);
    }

    fn found(&self, value: &Value) -> String {
        if let Some(variable) = self.variable() {
            return format!("{} in the variable {variable}", kind(value));
        }
        match value {
            Value::String(text) if text.len() <= 40 && !self.may_be_secret() => {
                format!("the string `{text}`")
            }
            Value::Number(number) => format!("{number}"),
            Value::Bool(flag) => format!("{flag}"),
            other => kind(other).to_owned(),
        }
    }

    fn may_be_secret(&self) -> bool {
        let name = self.path.rsplit('.').next().unwrap_or_default();
        ["key", "secret", "token", "password", "credential", "header"]
            .iter()
            .any(|word| name.contains(word) && !name.contains("tokens"))
    }
}

/// A number as people write it: `80_000`, ` 5 `, `1e-6`. No infinity and no NaN.
fn plain_number(text: &str) -> Option<f64> {
    let text = text.trim();
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return None;
    }
    let grouped = text.contains('_') && !text.ends_with('_');
    let parsed = if grouped { text.replace('_', "").parse() } else { text.parse() };
    parsed.ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `value` as the field `router_settings.x`; the reading, and what was found wrong.
    fn read<T>(value: &str, take: fn(&Cursor<'_>) -> T) -> (T, Vec<String>) {
        let root = serde_json::from_str(&format!(r#"{{"router_settings":{{"x":{value}}}}}"#));
        let source = Source::of(root.unwrap(), "test");
        let origins = Origins::default();
        let issues = Issues::new(&source, &origins);
        let taken =
            take(&Cursor::top(&source.root, "router_settings", Scope::File, &issues).get("x"));
        (taken, issues.into_found().into_iter().map(|problem| problem.what).collect())
    }

    // Named, because a method of a type with a lifetime is no function of any lifetime.
    fn number(it: &Cursor<'_>) -> Option<f64> {
        it.number()
    }
    fn count(it: &Cursor<'_>) -> Option<u32> {
        it.count()
    }
    fn flag(it: &Cursor<'_>) -> Option<bool> {
        it.flag()
    }
    fn duration(it: &Cursor<'_>) -> Option<Duration> {
        it.duration()
    }
    fn seconds(it: &Cursor<'_>) -> Option<Duration> {
        it.seconds()
    }
    fn texts(it: &Cursor<'_>) -> Vec<Box<str>> {
        it.texts()
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (value, want) in [
            ("5", 5.0),
            ("\"6379\"", 6379.0),
            ("\"80_000\"", 80_000.0),
            ("\"1e-6\"", 1e-6),
            ("2.5", 2.5),
            ("\" 7 \"", 7.0),
        ] {
            assert_eq!(read(value, number), (Some(want), vec![]), "{value}");
        }
        assert_eq!(read("null", number), (None, vec![]));
        for value in ["\"abc\"", "\"inf\"", "\"\"", "true", "[1]", "{}", "\"1_\"", "\"NaN\""] {
            let (taken, problems) = read(value, number);
            assert_eq!((taken, problems.len()), (None, 1), "{value}");
        }
    }

    #[test]
    fn what_was_found_and_what_was_expected_are_both_told() {
        let (_, problems) = read("\"abc\"", number);
        assert_eq!(problems, ["expected a number, found the string `abc`"]);
        let (_, problems) = read("-1", count);
        assert_eq!(problems, ["expected a whole number from zero up, found -1"]);
        let (_, problems) = read("1.5", count);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn flags_take_the_words_of_yaml() {
        for (value, want) in [
            ("true", true),
            ("\"yes\"", true),
            ("\"Off\"", false),
            ("0", false),
            ("\"True\"", true),
        ] {
            assert_eq!(read(value, flag), (Some(want), vec![]), "{value}");
        }
        assert_eq!(read("\"maybe\"", flag).1.len(), 1);
        assert_eq!(read("2", flag).1.len(), 1);
    }

    #[test]
    fn durations_take_units_and_plain_seconds() {
        for (value, want) in [
            ("30", 30_000),
            ("\"500ms\"", 500),
            ("\"2m\"", 120_000),
            ("\"1h\"", 3_600_000),
            ("0.5", 500),
            ("\"2w\"", 1_209_600_000),
            ("\"1mo\"", 2_592_000_000),
        ] {
            let want = Some(Duration::from_millis(want));
            assert_eq!(read(value, duration), (want, vec![]), "{value}");
        }
        assert_eq!(read("\"5 weeks\"", duration).1.len(), 1);
        assert_eq!(read("1e300", seconds).1.len(), 1);
        assert_eq!(read("-5", seconds).1.len(), 1);
    }

    #[test]
    fn one_text_stands_for_a_list_of_it() {
        assert_eq!(read("\"a\"", texts).0, ["a".into()]);
        assert_eq!(read("[\"a\", 5]", texts).0, ["a".into(), "5".into()]);
        assert_eq!(read("{}", texts).1.len(), 1);
    }
}
