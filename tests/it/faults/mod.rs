//! What callers and providers see of every way in which a provider can misbehave, for every
//! client with every provider, streamed and not; a table of it is printed.
//!
//! Each case is asked twice: once where the faulty deployment is alone, once where a good one
//! stands beside it.

#![cfg(test)]

pub(crate) mod forms;
pub(crate) mod rows;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;

use crate::support::script::{Step, send, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::wire::Answer;
use crate::support::{chat, now};
use forms::Form;
use rows::{Fault, Row, Want};

/// A deployment that misbehaves, alone or with a good one beside it.
struct Case {
    form: Form,
    model: &'static str,
    beside: bool,
    faulty: Faulty,
    /// Who stands beside it, where that is not a good one.
    other: Option<Upstream>,
}

/// Who misbehaves.
enum Faulty {
    Upstream(Upstream),
    /// Nobody is there.
    Nowhere(&'static str),
    /// It does not speak TLS.
    Unsecured(Upstream),
}

impl Case {
    async fn new(form: Form, beside: bool, row: &Row) -> Self {
        let faulty = match row.fault {
            Fault::Nowhere(base) => Faulty::Nowhere(base),
            Fault::Unsecured => {
                let steps = vec![send("220 mail.example\r\n"), Step::Close];
                Faulty::Unsecured(Upstream::start(move |_| steps.clone()).await)
            }
            Fault::Connection(play) => {
                let steps = play(form);
                Faulty::Upstream(Upstream::start(move |_| steps.clone()).await)
            }
            Fault::Answer(play) => {
                let turn = Arc::new(AtomicUsize::new(0));
                let script = move |_| {
                    let turn = turn.clone();
                    serve(move |_| play(form, turn.fetch_add(1, Ordering::Relaxed)))
                };
                Faulty::Upstream(Upstream::start(script).await)
            }
        };
        let other = match row.other.filter(|_| beside) {
            Some(other) => Some(Upstream::playing(other()).await),
            None => None,
        };
        Self { form, model: (row.model)(form), beside, faulty, other }
    }

    fn group(&self) -> String {
        format!("{}-{}", self.form.name(), if self.beside { "beside" } else { "alone" })
    }

    fn entries(&self, good: &str) -> String {
        let base = match &self.faulty {
            Faulty::Upstream(upstream) => upstream.base(),
            Faulty::Nowhere(base) => (*base).to_owned(),
            Faulty::Unsecured(upstream) => upstream.base().replace("http:", "https:"),
        };
        let entry = |id: &str, base: &str, weight: u8| {
            let (group, model) = (self.group(), self.model);
            format!(
                "  - model_name: {group}\n    litellm_params: {{model: {model}, api_base: \"{base}\", api_key: sk-x, weight: {weight}}}\n    model_info: {{id: {group}-{id}}}\n"
            )
        };
        let other = self.other.as_ref().map(Upstream::base);
        let good = other.as_deref().unwrap_or(good);
        let other = if self.beside { entry("good", good, 0) } else { String::new() };
        entry("faulty", &base, 1) + &other
    }

    /// How often it was asked; `None` where nobody can count.
    fn asked(&self) -> Option<usize> {
        match &self.faulty {
            Faulty::Nowhere(_) => None,
            Faulty::Unsecured(upstream) => Some(upstream.connections().len()),
            Faulty::Upstream(upstream) => Some(upstream.requests().len()),
        }
    }

    /// What is wrong with what the client and the provider saw; nothing where all is well.
    fn judge(&self, row: &Row, answer: &Answer, took: Duration) -> Option<String> {
        let want = if self.beside { row.beside } else { row.alone };
        let want = if self.form.stream { want.streamed } else { want.whole };
        let is_so = match want {
            Want::Whole => self.form.has_all(answer),
            Want::Cut => self.form.is_cut(answer),
            Want::Error(status) => self.form.is_refused(answer, status),
        };
        let tries = if self.beside { row.asked_beside } else { row.asked_alone };
        let tries = if self.form.stream { tries.streamed } else { tries.whole };
        let asked = self.asked().unwrap_or(tries);
        // All that was said before a break reaches the client, where there is one try of it.
        let said = row.said.filter(|_| want == Want::Cut && tries == 1);
        let pieces = || self.form.pieces(answer).map(|pieces| pieces.len());
        let is_said = said.is_none() || pieces() == said;
        let is_told = answer.body.contains(row.shows) && !answer.body.contains(row.hides);
        if !is_said {
            Some(format!("{said:?} pieces wanted, got {}", answer.body))
        } else if !is_so || (self.beside && !is_told) {
            Some(format!("{want:?} wanted, got {} {}", answer.status(), answer.body))
        } else if asked != tries {
            Some(format!("asked {asked} times, not {tries}"))
        } else if took > Duration::from_secs(12) {
            Some(format!("took {took:?}"))
        } else {
            None
        }
    }
}

/// The sidecar of one row, with a group for each of its cases.
async fn start(row: &Row, cases: &[Case], good: &[(Form, Upstream)]) -> Pillion {
    let mut text = format!(
        "router_settings: {{routing_strategy: simple-shuffle, num_retries: 2}}\npillion: {{hedge: {{mode: disabled}}{}}}\nmodel_list:\n",
        row.settings
    );
    for case in cases {
        let name = case.form.name();
        let (_, upstream) = good.iter().find(|(form, _)| form.name() == name).unwrap();
        text += &case.entries(&upstream.base());
    }
    Start::with(text).ready().await
}

async fn play(row: &Row, good: &[(Form, Upstream)]) -> (String, Vec<String>) {
    let mut cases = Vec::new();
    for form in forms::ALL.into_iter().filter(|form| (row.knows)(*form)) {
        for beside in [false, true] {
            cases.push(Case::new(form, beside, row).await);
        }
    }
    let sidecar = start(row, &cases, good).await;
    let outcomes = join_all(cases.iter().map(async |case| {
        let began = now();
        let answer = sidecar.ask(case.form.call(&case.group())).await;
        case.judge(row, &answer, now().saturating_duration_since(began))
    }))
    .await;
    sidecar.rests().await;
    let records = sidecar.recorded(cases.len()).await;
    assert_eq!(records.len(), cases.len(), "each request is recorded once");
    sidecar.stop().await;
    let (mut line, mut wrong) = (format!("| {} |", row.name), Vec::new());
    for form in forms::ALL {
        let of_form = |(case, _): &(&Case, &Option<String>)| case.form.name() == form.name();
        let verdicts: Vec<_> = cases.iter().zip(&outcomes).filter(of_form).collect();
        let verdict = match verdicts.iter().filter(|(_, outcome)| outcome.is_some()).count() {
            _ if verdicts.is_empty() => "–",
            0 => "ok",
            _ => "WRONG",
        };
        let _ = write!(line, " {verdict} |");
        for (case, outcome) in verdicts {
            wrong.extend(outcome.iter().map(|why| format!("{} {}: {why}", row.name, case.group())));
        }
    }
    (line, wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_met_for_every_client_and_provider() {
    let mut good = Vec::new();
    for form in forms::ALL {
        good.push((form, Upstream::start(move |_| serve(move |_| form.good())).await));
    }
    let mut table = String::from("| fault |");
    for form in forms::ALL {
        let _ = write!(table, " {} |", form.name());
    }
    let mut wrong = Vec::new();
    let rows = rows::ALL.iter().chain(rows::RECOVERED);
    let mut lines =
        futures_util::stream::iter(rows).map(|row| play(row, &good)).buffered(ROWS_AT_ONCE);
    while let Some((line, more)) = lines.next().await {
        let _ = write!(table, "\n{line}");
        wrong.extend(more);
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Most of the time is spent waiting for back-off.
const ROWS_AT_ONCE: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_rejects_the_clients_own_prefill_hides_no_other_failure() {
    let busy = "{\"error\":{\"message\":\"overloaded\",\"type\":\"overloaded_error\"}}";
    let down = Upstream::playing(vec![send(chat::json(503, busy))]).await;
    let other = Upstream::playing(vec![send(chat::json(400, rows::NO_PREFILL))]).await;
    let begun = "{\"model\":\"gpt\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"It\"}]";
    // In the same group, asked second, and in the group that is the fallback.
    for (group, router) in
        [("gpt", "num_retries: 2"), ("other", "num_retries: 0, fallbacks: [{gpt: [other]}]")]
    {
        let text = format!(
            "router_settings: {{routing_strategy: simple-shuffle, disable_cooldowns: true, {router}}}\nmodel_list:\n{}{}",
            deployment("gpt", "d", &down.base(), ", weight: 1"),
            deployment(group, "e", &other.base(), ", weight: 0").replace("openai/m", "anthropic/m"),
        );
        let sidecar = Start::with(text).ready().await;
        for path in ["chat/completions", "messages"] {
            for stream in ["", ",\"stream\":true"] {
                let call = chat::post(&format!("{begun}{stream}}}"));
                let answer = sidecar.ask(call.replace("chat/completions", path)).await;
                assert_eq!(
                    (answer.status(), &*answer.message()),
                    (503, "overloaded"),
                    "{answer:?}"
                );
            }
        }
        sidecar.stop().await;
    }
    assert_eq!((down.requests().len(), other.requests().len()), (8, 8));
    // Where nobody else has failed it is the answer.
    let text = format!("model_list:\n{}", deployment("gpt", "e", &other.base(), ""));
    let sidecar = Start::with(text).ready().await;
    let answer = sidecar.ask(chat::post(&format!("{begun}}}"))).await;
    assert!(answer.status() == 400 && answer.message().contains("prefill"), "{answer:?}");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_run_is_not_made_again_where_that_does_harm() {
    let broken = Upstream::start(|_| vec![Step::Expect, Step::Reset]).await;
    let text = format!(
        "router_settings: {{num_retries: 1, disable_cooldowns: true}}\nmodel_list:\n{}",
        deployment("gpt", "d", &broken.base(), "")
    );
    let sidecar = Start::with(text).ready().await;
    let mut seen = 0;
    for (more, asked) in [("", 2), (",\"conversation\":\"c\"", 1)] {
        let body = format!("{{\"model\":\"gpt\",\"input\":\"hi\"{more}}}");
        let call = chat::post(&body).replace("/v1/chat/completions", "/v1/responses");
        assert_eq!(sidecar.ask(call).await.status(), 502);
        assert_eq!(broken.requests().len() - seen, asked, "{more}");
        seen += asked;
    }
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_not_doubled_by_retries() {
    let down = Upstream::start(|_| serve(|_| vec![send(chat::json(500, "{}"))])).await;
    let text = format!(
        "router_settings: {{num_retries: 1, disable_cooldowns: true}}\n\
         pillion: {{retries: {{budget: 0.1, per_second: 0}}}}\nmodel_list:\n{}{}",
        deployment("gpt", "a", &down.base(), ""),
        deployment("gpt", "b", &down.base(), ", weight: 1"),
    );
    let sidecar = Start::with(text).ready().await;
    for _ in 0..200 {
        assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 500);
    }
    let records = sidecar.recorded(200).await;
    let retries: u64 = records.iter().filter_map(|record| record["retries"].as_u64()).sum();
    let denied = sidecar.metrics().await.of("pillion_retries_denied_total");
    // A hundred are there at the start, and each request adds a tenth.
    assert!((118..=120).contains(&retries), "{retries}");
    assert_eq!((retries + denied, down.requests().len() as u64), (200, 200 + retries));
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_believed_as_far_as_the_provider_tells_of_ends() {
    let chunk = |more: &str| {
        chat::event(&format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}}{more}}}]}}"#))
    };
    let silent = [chunk(""), chat::event("[DONE]"), chat::LAST_CHUNK.to_owned()].concat();
    let single = [chunk(r#","finish_reason":"stop""#), chat::LAST_CHUNK.to_owned()].concat();
    let play = |events: String| {
        let steps = vec![send(chat::STREAM_HEAD), send(events)];
        Upstream::start(move |_| {
            let steps = steps.clone();
            serve(move |_| steps.clone())
        })
    };
    let (silent, single) = (play(silent).await, play(single).await);
    let text = format!(
        "model_list:\n{}{}",
        deployment("silent", "silent", &silent.base(), ""),
        deployment("single", "single", &single.base(), ""),
    );
    let sidecar = Start::with(text).ready().await;
    let ask = async |model: &str, more: &str| {
        let body = chat::body(model, &format!(",\"stream\":true{more}"));
        sidecar.ask(chat::post(&body)).await.body
    };
    // Who writes no reasons at all may end without one; that is counted.
    assert!(ask("silent", "").await.ends_with("data: [DONE]\n\n"));
    assert_eq!(sidecar.metrics().await.of("pillion_streams_without_reason_total"), 1);
    // One choice is all of the answer only where one was asked for.
    assert!(ask("single", "").await.ends_with("data: [DONE]\n\n"));
    let cut = ask("single", ",\"n\":2").await;
    assert!(cut.contains("\"error\":{") && !cut.contains("[DONE]"), "{cut}");
    assert_eq!(sidecar.metrics().await.of("pillion_streams_without_reason_total"), 1);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_only_event_without_its_blank_line_does_not_run_into_the_next() {
    let only = r#"data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#;
    let steps = vec![send(chat::STREAM_HEAD), send(chat::chunk(only)), send(chat::LAST_CHUNK)];
    let upstream = Upstream::start(move |_| {
        let steps = steps.clone();
        serve(move |_| steps.clone())
    });
    let upstream = upstream.await;
    let text = format!("model_list:\n{}", deployment("gpt", "d", &upstream.base(), ""));
    let sidecar = Start::with(text).ready().await;
    let answer = sidecar.ask(chat::post(&chat::body("gpt", ",\"stream\":true"))).await;
    assert_eq!(answer.body, format!("{only}\n\ndata: [DONE]\n\n"));
    sidecar.stop().await;
}
