//! Where traffic goes under each routing strategy, and what keeps it away.

#![cfg(test)]

use std::time::Duration;

use crate::support::config_map::ConfigMap;
use crate::support::script::{Gate, Step, send, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::wire::Answer;
use crate::support::{chat, until};

/// Long enough to tell a slow provider from a busy machine.
const SLOW: Duration = Duration::from_millis(300);

/// A provider that says that every answer used so many tokens.
async fn expensive(tokens: u64) -> Upstream {
    let body = format!(
        "{{\"object\":\"chat.completion\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"hello\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":{tokens},\"completion_tokens\":0,\"total_tokens\":{tokens}}}}}"
    );
    let answer = chat::json(200, &body);
    Upstream::start(move |_| {
        let answer = answer.clone();
        serve(move |_| vec![send(answer.clone())])
    })
    .await
}

async fn failing() -> Upstream {
    let body = "{\"error\":{\"message\":\"down\"}}";
    Upstream::start(move |_| serve(move |_| vec![send(chat::json(500, body))])).await
}

/// A configuration with one deployment per upstream, each with parameters of its own.
fn config(router: &str, deployments: &[(&Upstream, &str)]) -> String {
    let mut text = format!("router_settings: {{num_retries: 0, {router}}}\nmodel_list:\n");
    for (number, (upstream, more)) in deployments.iter().enumerate() {
        text += &deployment("gpt", &format!("d{number}"), &upstream.base(), more);
    }
    text
}

/// Asks so often, one after the other, and expects answers.
#[track_caller]
fn ask(sidecar: &Pillion, call: String, times: usize) -> impl Future<Output = Vec<Answer>> {
    let place = std::panic::Location::caller();
    async move {
        let mut answers = Vec::new();
        for _ in 0..times {
            let answer = sidecar.ask(&call).await;
            assert_eq!(answer.status(), 200, "{place}: {answer:?}");
            answers.push(answer);
        }
        answers
    }
}

fn counts(upstreams: &[&Upstream]) -> Vec<usize> {
    upstreams.iter().map(|upstream| upstream.requests().len()).collect()
}

fn strategy_of(answer: &Answer) -> &str {
    let route = answer.head.header("x-pillion-route").unwrap_or_default();
    route.split(' ').find_map(|word| word.strip_prefix("strategy=")).unwrap_or_default()
}

/// Asserts a 429 that says what is used up, and that its wait is at most so long.
#[track_caller]
fn check_refused(answer: &Answer, says: &str, longest: u64) {
    assert_eq!(answer.status(), 429, "{answer:?}");
    assert!(answer.message().contains(says), "{answer:?}");
    let wait = answer.head.header("retry-after").and_then(|wait| wait.parse().ok());
    assert!(wait.is_some_and(|wait: u64| (1..=longest).contains(&wait)), "{answer:?}");
    assert!(answer.message().contains(&format!("in {} seconds", wait.unwrap())), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_moves_traffic_to_the_fastest_and_outlives_a_reload() {
    for call in [chat::plain("gpt"), chat::streamed("gpt")] {
        let (slow, fast) = (
            Upstream::answering_after(SLOW).await,
            Upstream::answering_after(Duration::ZERO).await,
        );
        let text = config("routing_strategy: latency-based-routing", &[(&slow, ""), (&fast, "")]);
        let mut mount = ConfigMap::new(&text);
        let sidecar = Start::from_file(mount.file()).ready().await;
        let answers = ask(&sidecar, call.clone(), 8).await;
        assert_eq!(counts(&[&slow, &fast]), [1, 7]);
        assert_eq!(strategy_of(&answers[7]), "latency-based-routing");

        mount.swap(&format!("# again\n{text}"));
        until("the reload", async || {
            (sidecar.readiness().await["generation"].as_u64()? > 1).then_some(())
        })
        .await;
        ask(&sidecar, call, 4).await;
        assert_eq!(counts(&[&slow, &fast]), [1, 11]);
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_quickly_does_not_look_fast() {
    let (broken, good) = (failing().await, Upstream::answering_after(SLOW).await);
    let router = "routing_strategy: latency-based-routing, disable_cooldowns: true";
    let text =
        config(router, &[(&broken, ""), (&good, "")]).replace("num_retries: 0", "num_retries: 1");
    let sidecar = Start::with(text).ready().await;
    ask(&sidecar, chat::plain("gpt"), 6).await;
    // Asked first or second, because nobody knows it; never again.
    assert_eq!(counts(&[&broken, &good]), [1, 6]);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_never_answers_does_not_get_every_call() {
    let silent = Upstream::start(|_| serve(|_| Vec::new())).await;
    let good = Upstream::answering_after(Duration::ZERO).await;
    let text = config("routing_strategy: latency-based-routing", &[(&silent, ""), (&good, "")]);
    let sidecar = Start::with(text).ready().await;
    // Chance decides who is asked first; then it is the other's turn.
    for call in 1..=2 {
        let mut wire = sidecar.wire().await;
        wire.send(chat::plain("gpt")).await;
        until("the call at a provider", async || {
            (counts(&[&silent, &good]).iter().sum::<usize>() == call).then_some(())
        })
        .await;
        if good.requests().len() == call {
            assert_eq!(wire.answer().await.status(), 200);
        } else {
            // Who waits in vain leaves.
            drop(wire);
            break;
        }
    }
    until("the call to be given up", async || {
        (sidecar.metrics().await.of("pillion_tries_in_flight") == 0).then_some(())
    })
    .await;
    ask(&sidecar, chat::plain("gpt"), 5).await;
    assert_eq!(silent.requests().len(), 1);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_busy_gets_the_next_call() {
    let gate = Gate::shut();
    let held = || {
        let gate = gate.clone();
        Upstream::start(move |_| {
            let gate = gate.clone();
            serve(move |_| vec![Step::Gate(gate.clone()), send(chat::whole("hello"))])
        })
    };
    let (one, other) = (held().await, held().await);
    let text = config("routing_strategy: least-busy", &[(&one, ""), (&other, "")]);
    let sidecar = Start::with(text).ready().await;
    let mut wires = Vec::new();
    for running in 1..=6 {
        let mut wire = sidecar.wire().await;
        wire.send(chat::plain("gpt")).await;
        wires.push(wire);
        until("the call at a provider", async || {
            (counts(&[&one, &other]).iter().sum::<usize>() == running).then_some(())
        })
        .await;
    }
    assert_eq!(counts(&[&one, &other]), [3, 3]);
    gate.open();
    for mut wire in wires {
        assert_eq!(strategy_of(&wire.answer().await), "least-busy");
    }
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_balances_tokens_and_not_calls() {
    for strategy in ["usage-based-routing", "usage-based-routing-v2"] {
        let (much, little) = (expensive(1000).await, expensive(10).await);
        let text = config(&format!("routing_strategy: {strategy}"), &[(&much, ""), (&little, "")]);
        let sidecar = Start::with(text).ready().await;
        let answers = ask(&sidecar, chat::plain("gpt"), 20).await;
        assert_eq!(counts(&[&much, &little]), [1, 19], "{strategy}");
        assert_eq!(strategy_of(&answers[0]), strategy);
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cheapest_is_used_up_to_its_rate() {
    let (dear, cheap) = (expensive(10).await, expensive(10).await);
    let text = config(
        "routing_strategy: cost-based-routing",
        &[
            (&dear, ", input_cost_per_token: 0.00001, output_cost_per_token: 0.00001"),
            (&cheap, ", rpm: 3, input_cost_per_token: 0.000001, output_cost_per_token: 0.00001"),
        ],
    );
    let sidecar = Start::with(text).ready().await;
    let answers = ask(&sidecar, chat::plain("gpt"), 5).await;
    assert_eq!(counts(&[&dear, &cheap]), [2, 3]);
    assert_eq!(strategy_of(&answers[0]), "cost-based-routing");
    sidecar.stop().await;
}

const ENFORCE: &str = "optional_pre_call_checks: [enforce_model_rate_limits]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_beyond_an_enforced_rate_is_refused_also_after_a_reload() {
    let upstream = Upstream::answering_after(Duration::ZERO).await;
    let text = config(ENFORCE, &[(&upstream, ", rpm: 2")]);
    let mut mount = ConfigMap::new(&text);
    let sidecar = Start::from_file(mount.file()).ready().await;
    ask(&sidecar, chat::plain("gpt"), 2).await;
    check_refused(&sidecar.ask(chat::plain("gpt")).await, "rpm of 2", 61);
    // Asked for by its id it is not another deployment.
    check_refused(&sidecar.ask(chat::plain("d0")).await, "rpm of 2", 61);

    mount.swap(&format!("# again\n{text}"));
    until("the reload", async || {
        (sidecar.readiness().await["generation"].as_u64()? > 1).then_some(())
    })
    .await;
    check_refused(&sidecar.ask(chat::plain("gpt")).await, "rpm of 2", 61);
    let body = chat::body("gpt", ",\"max_tokens\":5");
    let call = chat::post(&body).replace("/v1/chat/completions", "/v1/messages");
    let answer = sidecar.ask(call).await;
    check_refused(&answer, "rpm of 2", 61);
    assert_eq!(answer.json()["type"], "error", "{answer:?}");
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error", "{answer:?}");
    assert_eq!(upstream.requests().len(), 2);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_come_together_do_not_pass_an_enforced_rate_together() {
    let upstream = Upstream::answering_after(SLOW).await;
    let text = config(ENFORCE, &[(&upstream, ", rpm: 5, max_parallel_requests: 100")]);
    let sidecar = Start::with(text).ready().await;
    let mut wires = Vec::new();
    for _ in 0..20 {
        let mut wire = sidecar.wire().await;
        wire.send(chat::plain("gpt")).await;
        wires.push(wire);
    }
    let mut answered = 0;
    for mut wire in wires {
        let answer = wire.answer().await;
        if answer.status() == 200 {
            answered += 1;
        } else {
            check_refused(&answer, "rpm of 5", 61);
        }
    }
    assert_eq!((answered, upstream.requests().len()), (5, 5));
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_broke_off_is_paid_for() {
    let price = ", input_cost_per_token: 0.01, output_cost_per_token: 0.01";
    let router = "provider_budget_config: {openai: {budget_limit: 0.01, time_period: 1h}}";
    let begun = || {
        let words = (0..3).map(|word| send(chat::delta(&format!("w{word} "))));
        [send(chat::STREAM_HEAD)].into_iter().chain(words)
    };
    let broken =
        Upstream::start(move |_| serve(move |_| begun().chain([Step::Close]).collect())).await;
    let sidecar = Start::with(config(router, &[(&broken, price)])).ready().await;
    let answer = sidecar.ask(chat::streamed("gpt")).await;
    assert!(answer.body.contains("w2") && !answer.is_done(), "{answer:?}");
    check_refused(&sidecar.ask(chat::plain("gpt")).await, "its provider openai", 3600);
    sidecar.stop().await;

    // It goes on and on, and the client leaves.
    let endless = Upstream::start(move |_| serve(move |_| begun().collect())).await;
    let sidecar = Start::with(config(router, &[(&endless, price)])).ready().await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::streamed("gpt")).await;
    wire.until_text("w2").await;
    drop(wire);
    sidecar.recorded(1).await;
    check_refused(&sidecar.ask(chat::plain("gpt")).await, "its provider openai", 3600);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enforced_tokens_are_refused_and_lead_to_others_first() {
    let (one, other) = (expensive(60).await, Upstream::answering_after(Duration::ZERO).await);
    let mut text = config(
        &format!("{ENFORCE}, fallbacks: [{{gpt: [spare]}}]"),
        &[(&one, ", tpm: 100, order: 1")],
    );
    text += &deployment("spare", "s", &other.base(), ", tpm: 10");
    let sidecar = Start::with(text).ready().await;
    // 60 tokens and a short prompt fit once more; 120 are enough. Then 10 at the other are.
    ask(&sidecar, chat::plain("gpt"), 3).await;
    assert_eq!(counts(&[&one, &other]), [2, 1]);
    check_refused(&sidecar.ask(chat::plain("gpt")).await, "tpm of 100", 61);
    assert_eq!(counts(&[&one, &other]), [2, 1]);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_that_is_not_enforced_is_a_share() {
    let upstream = Upstream::answering_after(Duration::ZERO).await;
    let text = config("", &[(&upstream, ", rpm: 2, tpm: 5")]);
    let sidecar = Start::with(text).ready().await;
    let answers = ask(&sidecar, chat::plain("gpt"), 4).await;
    assert_eq!(strategy_of(&answers[0]), "simple-shuffle");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_budget_leads_to_the_other_provider() {
    let (dear, free) = (expensive(10).await, expensive(10).await);
    let price = ", weight: 1000000000, input_cost_per_token: 0.01, output_cost_per_token: 0.01";
    // Ten cents each, so that the third call exceeds a quarter.
    for (router, own) in [
        ("provider_budget_config: {openai: {budget_limit: 0.25, time_period: 1h}}", ""),
        ("routing_strategy: provider-budget-routing", ", max_budget: 0.25, budget_duration: 1h"),
    ] {
        let before = counts(&[&dear, &free]);
        let text = config(router, &[(&dear, &format!("{price}{own}")), (&free, ", weight: 1")]);
        let text = text.replacen("openai/m", "OPENAI", 1).replace("openai/m", "hosted_vllm/m");
        let sidecar = Start::with(text.replace("OPENAI", "openai/m")).ready().await;
        let answers = ask(&sidecar, chat::plain("gpt"), 6).await;
        assert_eq!(counts(&[&dear, &free]), [before[0] + 3, before[1] + 3], "{router}");
        assert_eq!(strategy_of(&answers[5]), "simple-shuffle");
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_every_budget_is_spent_the_refusal_says_until_when() {
    let upstream = expensive(10).await;
    let price = ", input_cost_per_token: 0.01, output_cost_per_token: 0.01";
    let router = "provider_budget_config: {openai: {budget_limit: 0.1, time_period: 1h}}";
    let text = config(router, &[(&upstream, price), (&upstream, price)]);
    let sidecar = Start::with(text).ready().await;
    ask(&sidecar, chat::plain("gpt"), 1).await;
    check_refused(
        &sidecar.ask(chat::plain("gpt")).await,
        "the budget of its provider openai, 0.1 dollars in 3600 s",
        3600,
    );
    assert_eq!(upstream.requests().len(), 1);
    sidecar.stop().await;
}
