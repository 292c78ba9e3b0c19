//! What tries have shown is learned, survives a reload, moves traffic, and can be asked for.

#![cfg(test)]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::config_map::ConfigMap;
use crate::support::script::{Step, send, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::{chat, until};

const SLOW: Duration = Duration::from_millis(200);

/// What `/explain` says of the first candidate of a group.
async fn explained(sidecar: &Pillion, model: &str) -> Value {
    let answer = sidecar.get(&format!("/explain?model={model}")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

/// The forecast of the first candidate for one kind of call, once it speaks for so many answers.
async fn forecast(sidecar: &Pillion, model: &str, stream: bool, samples: f64) -> Value {
    until("a forecast", async || {
        let explained = explained(sidecar, model).await;
        let forecasts = explained["candidates"][0]["forecasts"].as_array()?.clone();
        let told = forecasts.into_iter().find(|it| it["stream"] == stream)?;
        (told["samples"].as_f64()? > samples).then_some(told)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_are_forecast_by_kind_and_outlive_a_reload() {
    let (slow, fast) =
        (Upstream::answering_after(SLOW).await, Upstream::answering_after(Duration::ZERO).await);
    let text = String::from("router_settings: {num_retries: 0}\nmodel_list:\n")
        + &deployment("slow", "s", &slow.base(), "")
        + &deployment("fast", "f", &fast.base(), "");
    let mut mount = ConfigMap::new(&text);
    let sidecar = Start::from_file(mount.file()).ready().await;
    assert_eq!(
        explained(&sidecar, "slow").await["candidates"][0]["forecasts"],
        Value::Array(vec![])
    );
    for _ in 0..6 {
        for model in ["slow", "fast"] {
            assert_eq!(sidecar.ask(chat::streamed(model)).await.status(), 200);
            assert_eq!(sidecar.ask(chat::plain(model)).await.status(), 200);
        }
    }
    for stream in [true, false] {
        let expected = async |model| {
            let told = forecast(&sidecar, model, stream, 5.5).await;
            assert_eq!(told["hedge_after_seconds"], Value::Null, "it takes 30 answers: {told}");
            told["expected_seconds"].as_f64().unwrap()
        };
        let (slow, fast) = (expected("slow").await, expected("fast").await);
        assert!(slow > fast + 0.1, "{slow} and {fast}");
    }
    let outlook = &explained(&sidecar, "slow").await["candidates"][0]["outlook"];
    assert!(outlook["latency_seconds"].as_f64().unwrap() >= SLOW.as_secs_f64(), "{outlook}");

    mount.swap(&format!("# again\n{text}"));
    until("the reload", async || {
        (sidecar.readiness().await["generation"].as_u64()? > 1).then_some(())
    })
    .await;
    assert_eq!(sidecar.ask(chat::streamed("slow")).await.status(), 200);
    forecast(&sidecar, "slow", true, 6.5).await;
    assert_eq!(sidecar.metrics().await.of("pillion_lessons_dropped_total"), 0);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adaptive_leaves_the_slow_and_says_why() {
    let (slow, fast) =
        (Upstream::answering_after(SLOW).await, Upstream::answering_after(Duration::ZERO).await);
    let text = String::from("router_settings: {num_retries: 0}\nmodel_list:\n")
        + &deployment("gpt", "s", &slow.base(), "")
        + &deployment("gpt", "f", &fast.base(), "");
    let sidecar = Start::with(text).ready().await;
    let slow_one = until("the slow one to be known", async || {
        let answer = sidecar.ask(chat::streamed("gpt")).await;
        let route = answer.head.header("x-pillion-route").unwrap_or_default();
        assert!(route.ends_with("strategy=adaptive"), "{route}");
        let explained = explained(&sidecar, "gpt").await;
        assert_eq!(explained["strategy"], "adaptive");
        let one = explained["candidates"][0].clone();
        let samples = one["outlook"]["samples"].as_f64()?;
        (samples > 1.0 && one["chance"].as_f64()? < 0.1).then_some(one)
    })
    .await;
    assert_eq!((&slow_one["kept"], &slow_one["dropped"]), (&true.into(), &Value::Null));
    assert!(slow_one["score"]["expected_seconds"].as_f64().unwrap() > 0.1, "{slow_one}");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pace_of_a_stream_is_learned_when_it_ends() {
    let steady = Upstream::start(move |_| {
        serve(move |_| {
            let mut steps = chat::stream(3);
            steps.insert(2, Step::Pause(SLOW));
            steps
        })
    })
    .await;
    let text = String::from("router_settings: {num_retries: 0}\nmodel_list:\n")
        + &deployment("gpt", "d", &steady.base(), "");
    let sidecar = Start::with(text).ready().await;
    assert!(sidecar.ask(chat::streamed("gpt")).await.is_done());
    let pace = until("a pace", async || {
        forecast(&sidecar, "gpt", true, 0.9).await["seconds_per_token"].as_f64()
    })
    .await;
    // Its answer has three tokens, and the first of them ends the wait.
    assert!(pace >= SLOW.as_secs_f64() / 2.0, "{pace}");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_limit_is_read_from_answers() {
    let limits = "\r\nx-ratelimit-limit-tokens: 30000\r\nx-ratelimit-remaining-tokens: 600\r\n\r\n";
    let answer = chat::whole("hello").replacen("\r\n\r\n", limits, 1);
    let scarce = Upstream::start(move |_| {
        let answer = answer.clone();
        serve(move |_| vec![send(answer.clone())])
    })
    .await;
    let text = String::from("router_settings: {num_retries: 0}\nmodel_list:\n")
        + &deployment("gpt", "d", &scarce.base(), "");
    let sidecar = Start::with(text).ready().await;
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    until("a limit that is nearly used up", async || {
        let explained = explained(&sidecar, "gpt").await;
        let left = explained["candidates"][0]["outlook"]["quota_left"].as_f64()?;
        ((0.02..0.5).contains(&left)).then_some(())
    })
    .await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_learned_too() {
    let body = "{\"error\":{\"message\":\"down\"}}";
    let broken = Upstream::start(move |_| serve(move |_| vec![send(chat::json(500, body))])).await;
    let text = String::from("router_settings: {num_retries: 0}\nmodel_list:\n")
        + &deployment("gpt", "b", &broken.base(), "");
    let sidecar = Start::with(text).ready().await;
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 500);
    until("a failure in the outlook", async || {
        let explained = explained(&sidecar, "gpt").await;
        let share = explained["candidates"][0]["outlook"]["failure_share"].as_f64()?;
        (share > 0.3).then_some(())
    })
    .await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_teaches_that_it_waited_so_long() {
    let gone = Upstream::answering_after(Duration::from_secs(60)).await;
    let text = String::from("router_settings: {num_retries: 0}\nmodel_list:\n")
        + &deployment("gpt", "g", &gone.base(), "");
    let sidecar = Start::with(text).ready().await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::streamed("gpt")).await;
    let began = crate::support::now();
    until("a while", async || (began.elapsed() > SLOW).then_some(())).await;
    drop(wire);
    let told = forecast(&sidecar, "gpt", true, 0.9).await;
    assert!(told["samples"].as_f64().unwrap() < 1.1, "{told}");
    let outlook = &explained(&sidecar, "gpt").await["candidates"][0]["outlook"];
    assert!(outlook["latency_seconds"].as_f64().unwrap() > 0.1, "{outlook}");
    sidecar.stop().await;
}

/// Runs `pillion explain` for a configuration: its exit code, and what it says and complains.
fn explain(mount: &ConfigMap, more: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .args(["explain", "-c"])
        .arg(mount.file())
        .args(more)
        .output()
        .expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_file_is_explained_without_traffic() {
    let text = String::from("router_settings: {fallbacks: [{gpt: [spare]}]}\nmodel_list:\n")
        + &deployment("gpt", "west", "http://127.0.0.1:9", ", order: 1")
        + &deployment("gpt", "east", "http://127.0.0.1:9", ", order: 1")
        + &deployment("gpt", "late", "http://127.0.0.1:9", ", order: 2")
        + &deployment("spare", "s", "http://127.0.0.1:9", "");
    let mount = ConfigMap::new(&text);
    let run = |more: &[&str]| explain(&mount, more);
    let (code, table, _) = run(&["--model", "gpt"]);
    assert_eq!(code, Some(0));
    for line in [
        "gpt: model group gpt, strategy adaptive",
        "west        openai    50.0 %",
        "late        openai    0.0 %   -      order: order 2",
        "hedges: observe, after p95, at most 1 per request",
        "when all fail: spare",
    ] {
        assert!(table.contains(line), "no `{line}` in\n{table}");
    }
    let (code, json, _) = run(&["--model", "gpt", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!((code, &json["candidates"][1]["chance"]), (Some(0), &0.5.into()));
    let (code, _, said) = run(&["--model", "nosuch"]);
    assert!(code == Some(1) && said.contains("there is no model `nosuch` here; there are: gpt"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_decide_who_is_explained_to_be_asked() {
    let text = String::from("router_settings: {enable_tag_filtering: true}\nmodel_list:\n")
        + &deployment("gpt", "dear", "http://127.0.0.1:9", ", tags: [fast, a b]")
        + &deployment("gpt", "cheap", "http://127.0.0.1:9", ", tags: [slow]");
    let mount = ConfigMap::new(&text);
    let (code, table, _) = explain(&mount, &["--model", "gpt", "--tags", "slow"]);
    assert!(code == Some(0) && table.contains("cheap       openai    100.0 %"), "{table}");
    let sidecar = Start::from_file(mount.file()).ready().await;
    for (tags, kept) in
        [("", [true, true]), ("&tags=slow", [false, true]), ("&tags=fast,a+b", [true, false])]
    {
        let told = sidecar.get(&format!("/explain?model=gpt{tags}")).await.json();
        let got = [0, 1].map(|at| told["candidates"][at]["kept"].as_bool());
        assert_eq!(got, kept.map(Some), "{told}");
    }
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_a_group_is_explained_to_be_asked() {
    let refuse = || async {
        let body = "{\"error\":{\"message\":\"slow down\"}}";
        let limited = chat::json(429, body).replacen("\r\n", "\r\nretry-after: 60\r\n", 1);
        Upstream::start(move |_| {
            let limited = limited.clone();
            serve(move |_| vec![send(limited.clone())])
        })
        .await
    };
    let upstreams = [refuse().await, refuse().await];
    let text = String::from("router_settings: {num_retries: 0}\nmodel_list:\n")
        + &deployment("gpt", "a", &upstreams[0].base(), "")
        + &deployment("gpt", "b", &upstreams[1].base(), "");
    let sidecar = Start::with(text).ready().await;
    let forced = until("both to be in cooldown", async || {
        assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 429);
        let told = explained(&sidecar, "gpt").await;
        let forced = told["candidates"].as_array()?.iter().find(|it| !it["forced"].is_null())?;
        Some(forced.clone())
    })
    .await;
    assert_eq!((&forced["kept"], &forced["chance"]), (&true.into(), &1.0.into()), "{forced}");
    let asked = usize::from(forced["deployment"] == "b");
    let before = upstreams[asked].requests().len();
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 429);
    assert_eq!(upstreams[asked].requests().len(), before + 1, "it is asked indeed");
    sidecar.stop().await;
}
