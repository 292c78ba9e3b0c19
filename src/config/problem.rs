//! What is wrong with a configuration: where, how badly, and what to do.
//!
//! A [`Problem`] is a fact for people and for machines. It never carries the value of a variable
//! or of a key, so it may be printed anywhere.

use std::fmt;

use serde::Serialize;

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// `pillion check` exits with 1.
    Error,
    /// Worth reading; nothing is refused for it.
    Warning,
}

impl Severity {
    /// The word in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// How far a [`Problem`] reaches when the file is served; see [`crate::config`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One deployment: an error leaves it out and the others are served.
    Entry,
    /// One field that changes nothing else: it is left out.
    Field,
    /// The whole file: an error refuses it.
    File,
}

/// One thing that is wrong or surprising.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// Counted from 1; 0 where no line is to blame.
    pub line: usize,
    /// Counted from 1; 0 where no column is to blame.
    pub column: usize,
    /// The field, such as `model_list[2].litellm_params.rpm`; empty for the whole file.
    pub path: String,
    /// How bad it is.
    pub severity: Severity,
    /// How far it reaches.
    pub scope: Scope,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// An error about a file as a whole.
    pub fn of_file(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            path: String::new(),
            severity: Severity::Error,
            scope: Scope::File,
            what: what.into(),
            hint: None,
        }
    }

    /// The same as a warning.
    #[must_use]
    pub fn as_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with a place in the file.
    #[must_use]
    pub(super) fn at(self, (line, column): (usize, usize)) -> Self {
        Self { line, column, ..self }
    }

    /// Whether `pillion check` fails for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Whether it refuses the whole file.
    pub fn is_fatal(&self) -> bool {
        self.is_error() && self.scope == Scope::File
    }

    /// `file:line:column`, as far as they are known.
    pub fn place(&self) -> String {
        match (self.line, self.column) {
            (0, _) => self.file.clone(),
            (line, 0) => format!("{}:{line}", self.file),
            (line, column) => format!("{}:{line}:{column}", self.file),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place(), self.severity.as_str(), self.what)?;
        if !self.path.is_empty() {
            write!(f, " ({})", self.path)?;
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_prints_its_place_its_path_and_its_hint() {
        let mut problem = Problem::of_file("a.yaml", "expected a number").at((3, 7));
        problem.path = "router_settings.timeout".to_owned();
        let problem = problem.with_hint("write seconds");
        assert_eq!(
            problem.to_string(),
            "a.yaml:3:7: error: expected a number (router_settings.timeout)\n  hint: write seconds"
        );
    }

    #[test]
    fn a_problem_without_a_place_prints_the_file_alone() {
        assert_eq!(Problem::of_file("a.yaml", "x").as_warning().to_string(), "a.yaml: warning: x");
    }
}
