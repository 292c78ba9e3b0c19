//! How `models.tsv` comes from the project's list of models, as a test.
//!
//! `UPDATE=1 cargo test registry` writes the file anew. Otherwise the test compares, where the
//! list is at hand: below `PILLION_SHARED`, or in `../shared`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{lookup, table, tier};

/// What the columns of the list are called, in the order of the table's.
const COLUMNS: [&str; 13] = [
    "id",
    "caps",
    "max_in",
    "max_out",
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio_in",
    "audio_out",
    "tiers",
];

/// The kinds of models that an endpoint of ours can reach; all are paid by the token.
const MODES: [&str; 4] = ["chat", "completion", "embedding", "responses"];

fn list() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("PILLION_SHARED").map_or(here.join("../shared"), PathBuf::from);
    shared.join("data/models.csv")
}

fn derived(csv: &str) -> String {
    let mut lines = csv.lines().map(cells);
    let head = lines.next().unwrap();
    let mut rows = BTreeMap::new();
    for cells in lines {
        let at = |name: &str| head.iter().position(|column| column == name).unwrap();
        if MODES.contains(&&*cells[at("mode")]) {
            let row = COLUMNS.map(|name| column(name, &cells[at(name)], &cells[at("id")]));
            assert!(rows.insert(row[0].clone(), row.join("\t")).is_none(), "{} twice", row[0]);
        }
    }
    rows.into_values().fold(String::new(), |mut text, row| {
        writeln!(text, "{}", row.trim_end_matches('\t')).unwrap();
        text
    })
}

fn column(name: &str, cell: &str, id: &str) -> String {
    match name {
        "id" | "caps" | "max_in" | "max_out" => cell.into(),
        "tiers" => tiers(cell, id),
        _ => per_million(cell),
    }
}

fn tiers(cell: &str, id: &str) -> String {
    let tier = |text: &str| {
        let (threshold, prices) = text.split_once(':').unwrap();
        let threshold: u64 = threshold.parse().unwrap();
        // xAI's long prompts begin at the threshold, everyone else's behind it.
        let threshold = threshold - u64::from(id.starts_with("xai/"));
        let prices = prices.split(';').map(|entry| {
            let (name, price) = entry.split_once('=').unwrap();
            format!("{name}={}", per_million(price))
        });
        format!("{threshold}:{}", prices.collect::<Vec<_>>().join(";"))
    };
    let all: Vec<_> = cell.split('|').filter(|text| !text.is_empty()).map(tier).collect();
    all.join("|")
}

/// Dollars per token to dollars per million tokens, rounded to our unit of money.
fn per_million(cell: &str) -> String {
    if cell.is_empty() {
        return String::new();
    }
    let (whole, part) = cell.split_once('.').unwrap_or((cell, ""));
    let digits: u64 = format!("{whole}{part:0<13.13}").parse().unwrap();
    let units = (digits + 5) / 10;
    let text = format!("{}.{:06}", units / 1_000_000, units % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// The cells of one line; a quoted cell may hold commas and doubled quotes.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for sign in line.chars() {
        match sign {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            _ => cells.last_mut().unwrap().push(sign),
        }
    }
    cells
}

#[test]
fn the_table_is_what_the_list_of_models_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/registry/models.tsv");
    let Ok(csv) = std::fs::read_to_string(list()) else {
        println!("no comparison: {} is not here", list().display());
        return;
    };
    let want = derived(&csv);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, want).unwrap();
        return;
    }
    assert!(table::TEXT == want, "stale: write it anew with UPDATE=1 and build again");
}

#[test]
fn the_table_is_sorted_and_small_and_says_each_name_once() {
    assert!(table::TEXT.is_ascii() && table::TEXT.ends_with('\n'));
    assert!(table::TEXT.len() < 300_000, "{} bytes", table::TEXT.len());
    let names: Vec<_> = table::TEXT.lines().map(table::name).collect();
    assert!(names.len() > 3000, "{} models", names.len());
    for pair in names.windows(2) {
        assert!(pair[0] < pair[1], "{} before {}", pair[0], pair[1]);
    }
}

#[test]
fn every_line_of_the_table_can_be_read() {
    for line in table::TEXT.lines() {
        let (vendor, model) = table::name(line).split_once('/').unwrap();
        let facts = lookup(vendor, model).unwrap_or_else(|| panic!("unreadable: {line}"));
        assert!(line.split('\t').count() <= COLUMNS.len(), "{line}");
        let tiers = facts.price.tiers;
        let whole: Vec<_> = tiers.split('|').filter(|text| !text.is_empty()).collect();
        assert_eq!(tier::tiers(tiers).count(), whole.len(), "{line}");
        for (_, prices) in tier::tiers(tiers) {
            let known = ["i", "o", "cr", "cw", "ch", "r"];
            let readable = tier::entries(prices).filter(|(name, _)| known.contains(name));
            assert_eq!(readable.count(), prices.split(';').count(), "{line}");
        }
    }
}

#[test]
fn prices_per_token_become_prices_per_million_without_floats() {
    let cases = [
        ("0.0000025", "2.5"),
        ("0", "0"),
        ("0.0032", "3200"),
        ("0.00000114285714286", "1.142857"),
        ("0.000000285714285714", "0.285714"),
        ("0.0000000000005", "0.000001"),
        ("1", "1000000"),
        ("", ""),
    ];
    for (cell, want) in cases {
        assert_eq!(per_million(cell), want, "{cell}");
    }
}
