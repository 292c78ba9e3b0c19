//! A report as text, for people who have not seen one before.

use std::fmt::Write as _;

use super::{Basis, Estimate, Report, Route, Waits, Worth};

/// All routes, one below the other.
pub fn text(report: &Report) -> String {
    let mut parts: Vec<_> = report.routes.iter().map(route).collect();
    if !report.without_requests.is_empty() {
        parts.push(format!("No request yet: {}.\n", report.without_requests.join(", ")));
    }
    if parts.is_empty() {
        return "No model group hedges or observes: see `pillion.hedge.mode`.\n".to_owned();
    }
    let explained = report.routes.iter().any(|route| route.with.is_some());
    parts.join("\n") + if explained { LEGEND } else { "" }
}

const LEGEND: &str = "
Measured is what callers waited. Estimated is what they would have waited otherwise: without
hedging, told by requests held out and by how long the first tries had waited that a hedge cut
short; with hedging, told by what other tries took. In brackets: the interval of 95 %.
";

fn route(route: &Route) -> String {
    let kind = if route.stream { "streams" } else { "whole answers" };
    let mut text = format!("{}, {kind}: {}\n\n", route.model_group, sum(route));
    if let (Some(with), Some(without)) = (&route.with, &route.without) {
        text += &waits(route, with, without);
        text.push('\n');
    }
    for (name, value) in facts(route) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<14}{value}");
    }
    text
}

/// The sentence that sums a route up.
pub(super) fn sum(route: &Route) -> String {
    let (Some(with), Some(without)) = (&route.with, &route.without) else {
        return "too little is known yet".to_owned();
    };
    let p99 = format!("p99 {} -> {}", seconds(without.p99.value), seconds(with.p99.value));
    let Some((basis, worth)) = route.worth() else {
        return format!("no request was hedged; p99 {}", seconds(with.p99.value));
    };
    let verb = match basis {
        Basis::Estimated => "hedging would have saved",
        Basis::Measured => "hedging saved",
    };
    let saved = worth.seconds_saved.filter(|saved| saved.value > 0.0);
    let saved = saved.map_or_else(|| "nothing".to_owned(), |saved| seconds(saved.value));
    let cost = worth.extra_cost_usd.map(|cost| dollars(cost.as_usd()));
    let cost = cost.unwrap_or_else(|| format!("{} tokens", worth.extra_tokens));
    format!("{verb} {saved} for {cost}; {p99}")
}

fn waits(route: &Route, with: &Waits, without: &Waits) -> String {
    let head = |name: &str, basis: Basis| format!("{name} hedging, {}", basis.as_str());
    let mut text = format!(
        "  {:<14}{:<32}{}\n",
        route.ends_with(),
        head("with", with.basis),
        head("without", without.basis)
    );
    for ((name, with), (_, without)) in with.percentiles().iter().zip(without.percentiles()) {
        let (with, without) = (ranged(with, seconds), ranged(&without, seconds));
        let _ = writeln!(text, "  {name:<14}{with:<32}{without}");
    }
    text
}

/// What else there is to say, line by line.
fn facts(route: &Route) -> Vec<(&'static str, String)> {
    let mut facts = vec![("requests", format!("{} measured, mode {}", route.requests, route.mode))];
    for (basis, worth) in [(Basis::Measured, &route.made), (Basis::Estimated, &route.observed)] {
        if let Some(worth) = worth {
            facts.extend(of_worth(basis, worth));
        }
    }
    let told = ["won", "lost", "failed", "observed"];
    let others = route.outcomes.iter().filter(|(word, _)| !told.contains(&word.as_str()));
    let others: Vec<_> = others.map(|(word, count)| format!("{count} {word}")).collect();
    if !others.is_empty() {
        facts.push(("not hedged", others.join(", ")));
    }
    facts
}

fn of_worth(basis: Basis, worth: &Worth) -> Vec<(&'static str, String)> {
    let hedges = match (basis, worth.won) {
        (Basis::Measured, Some(won)) => format!("{} made, {won} first", worth.hedges),
        (Basis::Measured | Basis::Estimated, _) => {
            format!("{} would have been made", worth.hedges)
        }
    };
    let rate = worth.win_rate.map(|rate| format!("; win rate {}", ranged(&rate, percent)));
    let cost =
        worth.extra_cost_usd.map_or_else(|| "price unknown".to_owned(), |it| dollars(it.as_usd()));
    let (requests, tokens) = (worth.extra_requests, worth.extra_tokens);
    let mut facts = vec![
        ("hedges", hedges + &rate.unwrap_or_default()),
        ("extra", format!("{requests} requests, about {tokens} tokens, {cost}")),
    ];
    if let (Some(all), Some(each)) = (worth.seconds_saved, worth.seconds_saved_per_win) {
        let each = seconds(each.value);
        facts.push((
            "saved",
            format!("{}, {each} for each hedge that is first", ranged(&all, seconds)),
        ));
    }
    if let Some(price) = worth.usd_per_second_saved {
        facts.push(("price", format!("{} for a second saved", ranged(&price, dollars))));
    }
    facts
}

/// A number with its interval, such as `1.2 s (1.1 s to 1.4 s)`.
fn ranged(estimate: &Estimate, say: impl Fn(f64) -> String) -> String {
    let high = estimate.high.map_or_else(|| "?".to_owned(), &say);
    format!("{} ({} to {high})", say(estimate.value), say(estimate.low))
}

/// A time in the unit that suits it.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 0.999_5 {
        format!("{:.0} ms", seconds * 1_000.0)
    } else if seconds < 99.95 {
        format!("{} s", three_digits(seconds))
    } else if seconds < 2.0 * 3_600.0 {
        format!("{} min", three_digits(seconds / 60.0))
    } else {
        format!("{} h", three_digits(seconds / 3_600.0))
    }
}

fn three_digits(number: f64) -> String {
    if number < 9.995 {
        format!("{number:.2}")
    } else if number < 99.95 {
        format!("{number:.1}")
    } else {
        format!("{number:.0}")
    }
}

/// Dollars to cents, and to two digits where there are none.
fn dollars(usd: f64) -> String {
    if usd >= 0.995 || usd <= 0.0 {
        return format!("${usd:.2}");
    }
    let leading = (1..12_usize)
        .find(|digits| usd * 10_f64.powi(i32::try_from(*digits).unwrap_or(0)) >= 0.995);
    let digits = leading.map_or(12, |leading| leading + 1);
    format!("${usd:.digits$}")
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn a_newcomer_can_read_it() {
        insta::assert_snapshot!(text(&fixture::report()), @r"
        smart, streams: hedging saved 12.3 min for $0.031; p99 1.68 s -> 680 ms

          first token   with hedging, measured          without hedging, estimated
          p50           300 ms (240 ms to 375 ms)       300 ms (240 ms to 375 ms)
          p95           500 ms (400 ms to 625 ms)       570 ms (456 ms to 712 ms)
          p99           680 ms (544 ms to 850 ms)       1.68 s (1.34 s to 2.10 s)

          requests      1480 measured, mode enabled
          hedges        52 made, 41 first; win rate 79 % (66 % to 88 %)
          extra         52 requests, about 15364 tokens, $0.031
          saved         12.3 min (9.84 min to 15.4 min), 18.0 s for each hedge that is first
          price         $0.000042 ($0.000034 to $0.000053) for a second saved
          not hedged    1 budget, 3 holdout

        cheap <b>&, whole answers: hedging would have saved 12.3 min for 15364 tokens; p99 6.70 s -> 2.70 s

          whole answer  with hedging, estimated         without hedging, measured
          p50           1.20 s (960 ms to 1.50 s)       1.20 s (960 ms to 1.50 s)
          p95           2.00 s (1.60 s to 2.50 s)       2.30 s (1.84 s to 2.88 s)
          p99           2.70 s (2.16 s to 3.38 s)       6.70 s (5.50 s to ?)

          requests      1480 measured, mode observe
          hedges        52 would have been made; win rate 79 % (66 % to 88 %)
          extra         52 requests, about 15364 tokens, price unknown
          saved         12.3 min (9.84 min to 15.4 min), 18.0 s for each hedge that is first

        new, streams: too little is known yet

          requests      0 measured, mode enabled
          not hedged    2 no_candidate

        No request yet: idle.

        Measured is what callers waited. Estimated is what they would have waited otherwise: without
        hedging, told by requests held out and by how long the first tries had waited that a hedge cut
        short; with hedging, told by what other tries took. In brackets: the interval of 95 %.
        ");
    }

    #[test]
    fn nothing_to_report_says_why() {
        let text = text(&Report::new(vec![], vec![]));
        assert!(text.contains("pillion.hedge.mode"), "{text}");
    }

    #[test]
    fn numbers_have_the_unit_that_suits_them() {
        for (number, want) in [
            (0.0614, "61 ms"),
            (0.9996, "1.00 s"),
            (1.5649, "1.56 s"),
            (42.0, "42.0 s"),
            (738.0, "12.3 min"),
            (9_000.0, "2.50 h"),
            (900_000.0, "250 h"),
        ] {
            assert_eq!(seconds(number), want);
        }
        for (usd, want) in [
            (0.0, "$0.00"),
            (12.345, "$12.35"),
            (0.0312, "$0.031"),
            (0.000_042_3, "$0.000042"),
            (0.5, "$0.50"),
            (1e-14, "$0.000000000000"),
        ] {
            assert_eq!(dollars(usd), want);
        }
    }
}
