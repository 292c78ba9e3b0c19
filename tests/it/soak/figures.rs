//! What was seen in all, by the clients and in the access log, and whether it is the same.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::client::{Done, Outcome};
use crate::faults::rows;

/// The figures of a soak.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    clients: HashMap<u32, Seen>,
    records: HashMap<u32, Record>,
    /// The tries that the access log tells of.
    pub(crate) tries: u64,
    slowest: Option<Done>,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
}

/// A request as its client saw it.
#[derive(Debug)]
struct Seen {
    end: &'static str,
    fault: Option<usize>,
    /// All about it, for who has to find out what was wrong.
    story: String,
}

/// A line of the access log.
#[derive(Debug)]
struct Record {
    end: String,
    line: String,
}

/// How a request can end, as the access log says it, and what must not be.
const ENDS: [&str; 5] = ["complete", "truncated", "refused", "abandoned", "wrong"];

impl Figures {
    pub(crate) fn add(&mut self, done: Done) {
        let end = match &done.outcome {
            Outcome::Cut => "truncated",
            Outcome::Left => "abandoned",
            Outcome::Refused => "refused",
            Outcome::Whole => "complete",
            Outcome::Wrong(_) => "wrong",
        };
        let wish = done.errand.wish;
        self.clients.insert(wish.id, Seen { end, fault: wish.fault, story: done.story() });
        if self.slowest.as_ref().is_none_or(|slowest| slowest.took < done.took) {
            self.slowest = Some(done);
        }
    }

    /// Takes lines of the access log up.
    pub(crate) fn note(&mut self, lines: Vec<Value>) {
        for line in lines {
            self.tries += line["tries"].as_u64().unwrap_or_default();
            let id = line["id"].as_str().and_then(|id| id.strip_prefix("soak-")?.parse().ok());
            let end = line["end"].as_str().unwrap_or_default().to_owned();
            let record = Record { end, line: line.to_string() };
            let before = id.map(|id: u32| self.records.insert(id, record));
            if !matches!(before, Some(None)) {
                self.wrong.push(format!("a request has two records, or one is nobody's: {line}"));
            }
        }
    }

    /// How many requests were made.
    pub(crate) fn made(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn recorded(&self) -> usize {
        self.records.len()
    }

    /// Looks at both books. Who leaves cannot know how it would have ended.
    pub(crate) fn compare(&mut self) {
        for (id, seen) in &self.clients {
            let record = self.records.get(id);
            let fits = match seen.end {
                "wrong" => false,
                "abandoned" => record.is_some(),
                end => record.is_some_and(|record| record.end == end),
            };
            if !fits {
                let line = record.map_or("nothing", |record| &*record.line);
                let (end, story) = (seen.end, &seen.story);
                self.wrong
                    .push(format!("request {id} is {end}: {story}\nthe access log has {line}\n"));
            }
        }
    }

    /// The table of faults, by how their requests ended for the clients.
    pub(crate) fn by_fault(&self) -> String {
        let mut table = format!("| fault | requests | {} |", ENDS.join(" | "));
        let faults = [None].into_iter().chain((0..rows::ALL.len()).map(Some));
        for fault in faults {
            let name = fault.map_or("none", |row| rows::ALL[row].name);
            let _ = write!(table, "\n{}", self.line(name, |seen| seen.fault == fault));
        }
        table + "\n" + &self.line("all", |_| true)
    }

    fn line(&self, name: &str, is_meant: impl Fn(&Seen) -> bool) -> String {
        let meant = || self.clients.values().filter(|seen| is_meant(seen));
        let mut line = format!("| {name} | {} |", meant().count());
        for end in ENDS {
            let _ = write!(line, " {} |", meant().filter(|seen| seen.end == end).count());
        }
        line
    }

    pub(crate) fn slowest(&self) -> String {
        let slowest = self.slowest.as_ref();
        let told =
            slowest.map(|done| format!("{:.2} s, {:?}", done.took.as_secs_f64(), done.errand));
        told.unwrap_or_default()
    }
}
