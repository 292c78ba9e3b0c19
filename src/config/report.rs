//! Problems for people and for machines: what `pillion check` prints.

use std::fmt::Write as _;
use std::io::IsTerminal;

use super::problem::{Problem, Severity};
use crate::provider::Environment;

/// How problems are rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object: `{"errors": n, "warnings": n, "problems": […]}`.
    Json,
    /// For a terminal.
    Colored,
    /// For a pipe, or under `NO_COLOR`.
    Plain,
}

impl Format {
    /// Text, with colours where standard output is a terminal and nobody forbids them.
    pub fn text(environment: Environment<'_>) -> Self {
        let forbidden = environment("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stdout().is_terminal() && !forbidden { Self::Colored } else { Self::Plain }
    }
}

/// Renders the problems, with a closing line that counts them.
pub fn render(problems: &[Problem], format: Format) -> String {
    match format {
        Format::Json => json(problems),
        Format::Colored => text(problems, with_colors),
        Format::Plain => text(problems, without_colors),
    }
}

/// 1 where there is an error, else 0.
pub fn exit_code(problems: &[Problem]) -> u8 {
    u8::from(problems.iter().any(Problem::is_error))
}

fn json(problems: &[Problem]) -> String {
    let (errors, warnings) = counts(problems);
    let report = serde_json::json!({
        "errors": errors,
        "warnings": warnings,
        "problems": problems,
    });
    format!("{report:#}\n")
}

fn text(problems: &[Problem], paint: fn(Severity) -> (&'static str, &'static str)) -> String {
    let mut out = String::new();
    for problem in problems {
        let (on, off) = paint(problem.severity);
        let word = problem.severity.as_str();
        let _ = write!(out, "{}: {on}{word}{off}: {}", problem.place(), problem.what);
        if !problem.path.is_empty() {
            let _ = write!(out, " ({})", problem.path);
        }
        out.push('\n');
        if let Some(hint) = &problem.hint {
            let _ = writeln!(out, "  hint: {hint}");
        }
    }
    let (errors, warnings) = counts(problems);
    let _ = writeln!(out, "{}, {}", count(errors, "error"), count(warnings, "warning"));
    out
}

fn counts(problems: &[Problem]) -> (usize, usize) {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    (errors, problems.len() - errors)
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

const fn with_colors(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Error => ("\x1b[1;31m", "\x1b[0m"),
        Severity::Warning => ("\x1b[1;33m", "\x1b[0m"),
    }
}

const fn without_colors(_: Severity) -> (&'static str, &'static str) {
    ("", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems() -> Vec<Problem> {
        vec![
            Problem::of_file("a.yaml", "is wrong").at((2, 1)).with_hint("mend it"),
            Problem::of_file("a.yaml", "is odd").as_warning(),
        ]
    }

    #[test]
    fn plain_text_has_a_line_per_fact_and_no_escape() {
        assert_eq!(
            render(&problems(), Format::Plain),
            "a.yaml:2:1: error: is wrong\n  hint: mend it\na.yaml: warning: is odd\n1 error, 1 warning\n"
        );
        assert!(render(&problems(), Format::Colored).contains('\x1b'));
    }

    #[test]
    fn json_reads_back_with_every_field() {
        let report: serde_json::Value =
            serde_json::from_str(&render(&problems(), Format::Json)).unwrap();
        assert_eq!(report["errors"], 1);
        assert_eq!(report["problems"][0]["line"], 2);
        assert_eq!(report["problems"][0]["severity"], "error");
        assert_eq!(report["problems"][1]["hint"], serde_json::Value::Null);
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_problem() {
        assert_eq!(exit_code(&problems()), 1);
        assert_eq!(exit_code(&problems()[1..]), 0);
        assert_eq!(exit_code(&[]), 0);
    }
}
