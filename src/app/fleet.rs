//! `pillion fleet`: what one sidecar knows of all, as a table.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::ask::ask;
use super::{complain, print};
use crate::cli;

/// Asks and prints.
pub(super) async fn run(asked: cli::Fleet) -> ExitCode {
    let bytes = match ask(&asked.admin, "/fleet").await {
        Ok(bytes) => bytes,
        Err(why) => return complain(&why.to_string()),
    };
    let told: Value = match serde_json::from_slice(&bytes) {
        Ok(told) => told,
        Err(why) => return complain(&format!("{} says no JSON: {why}", asked.admin)),
    };
    print(&match asked.format {
        cli::Format::Json => format!("{told:#}\n"),
        cli::Format::Text => as_table(&told),
    });
    ExitCode::SUCCESS
}

const OFF: &str =
    "gossip is off at this sidecar: set pillion.gossip.key_file and pillion.gossip.seeds\n";
const STARTING: &str = "gossip has not begun at this sidecar: its log says what it waits for\n";

/// For people.
fn as_table(told: &Value) -> String {
    match told["gossip"].as_str() {
        Some("on") => {}
        Some("starting") => return STARTING.to_owned(),
        Some(_) | None => return OFF.to_owned(),
    }
    let list = |name: &str| told[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let own = list("members").iter().find(|member| member["is_me"] == true);
    let hash = own.map(|own| &own["hash"]);
    let head = ["MEMBER", "HEALTH", "HEARD", "ZONE", "VERSION", "CONFIG", "KEYS", "SEES", "PAUSED"];
    let members = list("members").iter().map(|member| member_row(member, hash));
    let mut text = aligned(std::iter::once(head.map(str::to_owned)).chain(members));
    if !list("deployments").is_empty() {
        let head = ["DEPLOYMENT", "FINGERPRINT", "IN FLIGHT", "WEIGHT", "COOLDOWN", "OTHERS USE"];
        let rows = list("deployments").iter().map(deployment_row);
        text.push('\n');
        text.push_str(&aligned(std::iter::once(head.map(str::to_owned)).chain(rows)));
    }
    text
}

fn member_row(member: &Value, own_hash: Option<&Value>) -> [String; 9] {
    let word = |name: &str| text(&member[name]);
    let believes = &member["believes"];
    let mark = if member["is_me"] == true { " (this)" } else { "" };
    let differs = own_hash.is_some_and(|own| !member["hash"].is_null() && *own != member["hash"]);
    let hash = member["hash"].as_str().and_then(|hash| hash.get(..8)).unwrap_or("-");
    let keys: Vec<_> =
        member["keys"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    [
        format!("{}{mark}", word("address")),
        word("health"),
        if mark.is_empty() { seconds(&member["heard_seconds"]) } else { "-".to_owned() },
        word("zone"),
        word("version"),
        format!("{hash}{} #{}", if differs { "*" } else { "" }, word("generation")),
        keys.join(","),
        text(&believes["members"]),
        text(&believes["paused"]),
    ]
}

fn deployment_row(deployment: &Value) -> [String; 6] {
    let cooldown = &deployment["cooldown"];
    let rest = match (cooldown["seconds"].as_f64(), deployment["may_probe"] == true) {
        (None, _) => "-".to_owned(),
        (Some(left), _) if left > 0.0 => {
            format!("{left:.1} s, {} by {}", text(&cooldown["why"]), text(&cooldown["by"]))
        }
        (Some(_), true) => "to be probed here".to_owned(),
        (Some(_), false) => "to be probed elsewhere".to_owned(),
    };
    let others = &deployment["others"];
    let used = if others.is_null() {
        "-".to_owned()
    } else {
        format!("{} requests, {} tokens", text(&others["requests"]), text(&others["tokens"]))
    };
    [
        text(&deployment["deployment"]),
        text(&deployment["fingerprint"]),
        text(&deployment["in_flight"]),
        text(&deployment["weight"]),
        rest,
        used,
    ]
}

fn seconds(value: &Value) -> String {
    value.as_f64().map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.1} s"))
}

/// What a value says; nothing is a dash.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn aligned<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut all = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        // Writing to a string cannot fail.
        let _ = writeln!(all, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told() -> Value {
        let member = |address: &str, is_me: bool, hash: &str| {
            json!({
                "is_me": is_me, "address": address, "health": "alive", "zone": "eu-1a",
                "version": "0.1.0", "generation": 2, "hash": hash, "keys": [1, 2],
                "heard_seconds": if is_me { json!(null) } else { json!(0.25) },
                "believes": {"members": 2, "paused": 1},
            })
        };
        let deployment = |cooldown: Value, others: Value| {
            json!({
                "deployment": "east", "fingerprint": "0011", "in_flight": 3.5, "weight": 20.0,
                "cooldown": cooldown, "may_probe": false, "others": others,
            })
        };
        json!({
            "gossip": "on",
            "members": [
                member("10.0.0.1:24082", true, "0123456789abcdef"),
                member("10.0.0.2:24082", false, "fedcba9876543210"),
            ],
            "deployments": [
                deployment(json!({"seconds": 3.25, "why": "limit", "by": "one"}), json!(null)),
                deployment(json!({"seconds": 0.0, "why": "trouble"}), json!({"requests": 5, "tokens": 60})),
                deployment(json!(null), json!(null)),
            ],
        })
    }

    #[test]
    fn a_table_says_who_there_is_and_what_they_agree_on() {
        assert_eq!(
            as_table(&told()),
            "MEMBER                 HEALTH  HEARD  ZONE   VERSION  CONFIG        KEYS  SEES  PAUSED\n\
             10.0.0.1:24082 (this)  alive   -      eu-1a  0.1.0    01234567 #2   1,2   2     1\n\
             10.0.0.2:24082         alive   0.2 s  eu-1a  0.1.0    fedcba98* #2  1,2   2     1\n\
             \n\
             DEPLOYMENT  FINGERPRINT  IN FLIGHT  WEIGHT  COOLDOWN                OTHERS USE\n\
             east        0011         3.5        20.0    3.2 s, limit by one     -\n\
             east        0011         3.5        20.0    to be probed elsewhere  5 requests, 60 tokens\n\
             east        0011         3.5        20.0    -                       -\n"
        );
    }

    #[test]
    fn a_sidecar_that_shares_nothing_says_so() {
        assert_eq!(as_table(&json!({"gossip": "off"})), OFF);
        assert_eq!(as_table(&json!({"gossip": "starting"})), STARTING);
        assert_eq!(as_table(&json!("what?")), OFF);
        assert!(as_table(&json!({"gossip": "on"})).starts_with("MEMBER"));
    }
}
