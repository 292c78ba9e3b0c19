//! Who is kept away from traffic, for how long, and how it comes back.

#![cfg(test)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::config_map::ConfigMap;
use crate::support::metrics::Metrics;
use crate::support::script::{Gate, Step, send, serve};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::wire::{Answer, Wire};
use crate::support::{chat, now, until};

/// A provider whose answers follow one another by their number.
async fn provider(answer: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Upstream {
    let (answer, asked) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    Upstream::start(move |_| {
        let (answer, asked) = (answer.clone(), asked.clone());
        serve(move |_| answer(asked.fetch_add(1, Ordering::SeqCst)))
    })
    .await
}

/// A provider that answers every call as it wants to be answered.
async fn healthy() -> Upstream {
    Upstream::start(|_| serve(|call| if call.wants_stream() { chat::stream(3) } else { good() }))
        .await
}

/// A provider that is down for so many calls.
async fn down_for(calls: usize) -> Upstream {
    provider(move |number| if number < calls { refuse(500) } else { good() }).await
}

fn good() -> Vec<Step> {
    vec![send(chat::whole("hello"))]
}

fn refuse(status: u16) -> Vec<Step> {
    vec![send(chat::json(status, "{\"error\":{\"message\":\"no\"}}"))]
}

/// Deployments of one group, of which the first gets nearly all the traffic it may have.
fn config(router: &str, cooldown: &str, upstreams: &[&Upstream]) -> String {
    let mut text = format!(
        "pillion: {{cooldown: {{{cooldown}}}}}\nrouter_settings: {{{router}}}\nmodel_list:\n"
    );
    for (number, upstream) in upstreams.iter().enumerate() {
        let weight = if number == 0 { ", weight: 1000000000" } else { ", weight: 1" };
        text += &deployment("gpt", &format!("d{number}"), &upstream.base(), weight);
    }
    text
}

/// Asks once, and expects this status.
#[track_caller]
fn ask(sidecar: &Pillion, status: u16) -> impl Future<Output = Answer> {
    let place = std::panic::Location::caller();
    async move {
        let answer = sidecar.ask(chat::plain("gpt")).await;
        assert_eq!(answer.status(), status, "{place}: {answer:?}");
        answer
    }
}

/// Asks, with success each time, until a provider has been asked so often.
async fn ask_until(sidecar: &Pillion, upstream: &Upstream, calls: usize) {
    until("calls at the provider", async || {
        ask(sidecar, 200).await;
        (upstream.requests().len() >= calls).then_some(())
    })
    .await;
}

fn counts(upstreams: &[&Upstream]) -> Vec<usize> {
    upstreams.iter().map(|upstream| upstream.requests().len()).collect()
}

fn state_of(metrics: &Metrics, id: &str) -> &'static str {
    let is = |state: &&str| {
        let labels = [("deployment", id), ("state", *state)];
        metrics.sum("pillion_deployment_cooldown_state", &labels) == 1
    };
    ["closed", "half_open", "open"].into_iter().find(is).expect("it is in a state")
}

fn cooldowns(metrics: &Metrics, id: &str) -> u64 {
    metrics.sum("pillion_cooldowns_total", &[("deployment", id)])
}

/// Short enough to wait for.
const SHORT: &str = "base: 100ms, max: 200ms, ramp: 0s";
/// Longer than any test takes.
const LONG: &str = "base: 1h, max: 1h";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_failures_lead_to_the_others_and_probes_lead_back() {
    let (bad, other) = (down_for(5).await, healthy().await);
    let sidecar = Start::with(config("num_retries: 1", LONG, &[&bad, &other])).ready().await;
    for _ in 0..10 {
        ask(&sidecar, 200).await;
    }
    assert_eq!(counts(&[&bad, &other]), [3, 10]);
    let metrics = sidecar.metrics().await;
    assert_eq!((state_of(&metrics, "d0"), state_of(&metrics, "d1")), ("open", "closed"));
    assert_eq!((cooldowns(&metrics, "d0"), cooldowns(&metrics, "d1")), (1, 0));
    assert_eq!(metrics.sum("pillion_deployment_in_cooldown", &[("deployment", "d0")]), 1);
    sidecar.stop().await;

    // The fourth and the fifth are probes that fail; who asks gets an answer all the same.
    let (bad, other) = (down_for(5).await, healthy().await);
    let sidecar = Start::with(config("num_retries: 1", SHORT, &[&bad, &other])).ready().await;
    ask_until(&sidecar, &bad, 7).await;
    let metrics = sidecar.metrics().await;
    assert_eq!((state_of(&metrics, "d0"), cooldowns(&metrics, "d0")), ("closed", 3));
    let before = counts(&[&bad, &other]);
    for _ in 0..5 {
        ask(&sidecar, 200).await;
    }
    assert_eq!(counts(&[&bad, &other]), [before[0] + 5, before[1]]);
    assert_eq!(sidecar.metrics().await.of("pillion_cooldown_panics_total"), 0);
    let log = sidecar.log();
    assert!(log.contains("deployment goes into cooldown"), "{log}");
    assert_eq!(log.matches("deployment is back from cooldown").count(), 1, "{log}");
    sidecar.stop().await;
}

/// The outage of a minute, in a tenth of its time: one deployment with a fallback, steady traffic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_served_by_the_fallback_with_few_probes_and_ends_soon() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = is_up.clone();
    let primary = provider(move |_| if up.load(Ordering::SeqCst) { good() } else { refuse(503) });
    let (primary, other) = (primary.await, healthy().await);
    let text = format!(
        "pillion: {{cooldown: {{base: 200ms, max: 1s, ramp: 0s}}}}\n\
         router_settings: {{num_retries: 0, fallbacks: [{{gpt: [other]}}]}}\nmodel_list:\n{}{}",
        deployment("gpt", "primary", &primary.base(), ""),
        deployment("other", "other", &other.base(), ""),
    );
    let sidecar = Start::with(text).ready().await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let (mut asked, began) = (0, now());
    while now().saturating_duration_since(began) < Duration::from_secs(6) {
        pace.tick().await;
        ask(&sidecar, 200).await;
        asked += 1;
    }
    let seen = primary.requests();
    // Three failures open it; then probes, whose pauses double up to 1 s, give or take a fifth.
    println!("{asked} requests, of which the primary saw {}", seen.len());
    assert!(asked > 60 && (5..=16).contains(&seen.len()), "{} of {asked}", seen.len());
    // The fallback has answered each, also those for which the primary was probed.
    assert_eq!(other.requests().len(), asked);
    // A tenth of 2 s for each probe.
    let least = Duration::from_millis(200) * u32::try_from(seen.len() - 3).unwrap();
    assert!(least <= now().saturating_duration_since(began), "{} probes", seen.len() - 3);
    for pair in seen[2..].windows(2) {
        let pause = pair[1].at.saturating_duration_since(pair[0].at);
        assert!(pause > Duration::from_millis(150), "{pause:?} between two probes");
    }
    is_up.store(true, Ordering::SeqCst);
    let back = now();
    until("the primary to serve again", async || {
        pace.tick().await;
        let route = ask(&sidecar, 200).await.head.header("x-litellm-model-id").map(str::to_owned);
        (route.as_deref() == Some("primary")).then_some(())
    })
    .await;
    let took = now().saturating_duration_since(back);
    println!("back after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    ask_until(&sidecar, &primary, seen.len() + 10).await;
    assert_eq!(state_of(&sidecar.metrics().await, "primary"), "closed");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_keeps_its_deployment_away_for_as_long_as_it_says() {
    let limit = chat::json(429, "{\"error\":{\"message\":\"slow down\"}}");
    let limit = limit.replacen("\r\n", "\r\nretry-after: 2\r\n", 1);
    let limited = provider(move |number| match number {
        0 => vec![send(limit.clone())],
        _ => good(),
    });
    let (limited, other, third) = (limited.await, healthy().await, healthy().await);
    let text = config("num_retries: 1", "", &[&limited, &other, &third]);
    let sidecar = Start::with(text).ready().await;
    ask(&sidecar, 200).await;
    let metrics = sidecar.metrics().await;
    let states = ["d0", "d1", "d2"].map(|id| state_of(&metrics, id));
    assert_eq!(states, ["open", "closed", "closed"]);
    ask_until(&sidecar, &limited, 2).await;
    let [first, second, ..] = &limited.requests()[..] else { panic!("two calls") };
    let away = second.at - first.at;
    assert!(away >= Duration::from_secs(2) && away < Duration::from_secs(4), "{away:?}");
    // The provider has said when there is room: all traffic is back, without probes.
    for _ in 0..5 {
        ask(&sidecar, 200).await;
    }
    assert_eq!(limited.requests().len(), 7);
    assert_eq!(sidecar.metrics().await.of("pillion_cooldowns_total"), 1);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_ones_of_a_group_are_asked_whatever_happens() {
    let (one, other) = (down_for(usize::MAX).await, down_for(usize::MAX).await);
    let sidecar = Start::with(config("num_retries: 0", LONG, &[&one, &other])).ready().await;
    for _ in 0..12 {
        ask(&sidecar, 500).await;
    }
    assert_eq!(counts(&[&one, &other]).iter().sum::<usize>(), 12);
    let metrics = sidecar.metrics().await;
    assert_eq!((state_of(&metrics, "d0"), state_of(&metrics, "d1")), ("open", "open"));
    assert_eq!(metrics.of("pillion_cooldown_panics_total"), 6);
    sidecar.stop().await;

    let alone = provider(|_| refuse(401)).await;
    let sidecar = Start::with(config("num_retries: 0", "", &[&alone])).ready().await;
    for _ in 0..5 {
        ask(&sidecar, 401).await;
    }
    assert_eq!(alone.requests().len(), 5);
    assert_eq!(sidecar.metrics().await.of("pillion_cooldowns_total"), 0);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_in_cooldown_is_left_for_its_fallback() {
    let (one, spare) = (down_for(usize::MAX).await, healthy().await);
    let router = "num_retries: 0, fallbacks: [{gpt: [spare]}]";
    let text = config(router, LONG, &[&one, &one]) + &deployment("spare", "s", &spare.base(), "");
    let sidecar = Start::with(text).ready().await;
    for _ in 0..12 {
        ask(&sidecar, 200).await;
    }
    assert_eq!(counts(&[&one, &spare]), [6, 12]);
    assert_eq!(sidecar.metrics().await.of("pillion_cooldown_panics_total"), 0);
    sidecar.stop().await;

    // Where the fallback fails too, its error is answered: nobody is told to come back later.
    let text = config(router, LONG, &[&one, &one]) + &deployment("spare", "s", &one.base(), "");
    let sidecar = Start::with(text).ready().await;
    for _ in 0..12 {
        ask(&sidecar, 500).await;
    }
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_of_litellm_brings_back_its_rule() {
    let refusing = provider(|_| refuse(401)).await;
    let both = [&refusing, &refusing];
    let of_deployment = config("num_retries: 0", "", &both).replacen(
        "weight: 1}",
        "weight: 1, cooldown_time: 20}",
        1,
    );
    for text in [
        config("num_retries: 0, cooldown_time: 20", "", &both),
        config("num_retries: 0, disable_cooldowns: false", "", &both),
        config("num_retries: 0", "", &both) + "litellm_settings: {cooldown_time: 20}\n",
        config("num_retries: 0", "rule: litellm", &both),
        of_deployment,
    ] {
        let before = refusing.requests().len();
        let sidecar = Start::with(&text).ready().await;
        for _ in 0..2 {
            ask(&sidecar, 401).await;
        }
        let refused = ask(&sidecar, 429).await;
        assert!(refused.message().contains("in cooldown"), "{text}: {refused:?}");
        assert_eq!(refusing.requests().len(), before + 2, "{text}");
        sidecar.stop().await;
    }
    for text in [
        config("num_retries: 0, cooldown_time: 20", "rule: pillion", &both),
        config("num_retries: 0", "rule: none", &both),
    ] {
        let sidecar = Start::with(text).ready().await;
        for _ in 0..5 {
            ask(&sidecar, 401).await;
        }
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_key_is_let_alone_and_told_also_after_a_reload() {
    let (refusing, other) = (provider(|_| refuse(401)).await, healthy().await);
    let text = config("num_retries: 1", "", &[&refusing, &other]);
    let mut mount = ConfigMap::new(&text);
    let sidecar = Start::from_file(mount.file()).ready().await;
    ask(&sidecar, 200).await;
    mount.swap(&format!("# again\n{text}"));
    until("the reload", async || {
        (sidecar.readiness().await["generation"].as_u64()? > 1).then_some(())
    })
    .await;
    for _ in 0..5 {
        ask(&sidecar, 200).await;
    }
    assert_eq!(counts(&[&refusing, &other]), [1, 6]);
    assert_eq!(state_of(&sidecar.metrics().await, "d0"), "open");
    let log = sidecar.log();
    assert!(log.contains("look after its key or its account"), "{log}");
    sidecar.stop().await;
}

/// Sends calls until the first provider has had so many; the connection of the last one.
async fn last_of(sidecar: &Pillion, call: &str, upstreams: [&Upstream; 2], calls: usize) -> Wire {
    until("the call to reach the first provider", async || {
        let mut wire = sidecar.wire().await;
        let before = counts(&upstreams);
        wire.send(call).await;
        until("the call at a provider", async || (counts(&upstreams) != before).then_some(()))
            .await;
        if counts(&upstreams)[0] == calls {
            return Some(wire);
        }
        assert_eq!(wire.answer().await.status(), 200);
        None
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_makes_room_for_the_next_probe() {
    let gate = Gate::shut();
    let holding = provider(move |number| match number {
        0..3 => refuse(500),
        3 => vec![Step::Gate(gate.clone())],
        _ => good(),
    });
    let (holding, other) = (holding.await, healthy().await);
    let sidecar = Start::with(config("num_retries: 1", SHORT, &[&holding, &other])).ready().await;
    for _ in 0..3 {
        ask(&sidecar, 200).await;
    }
    let probe = last_of(&sidecar, &chat::plain("gpt"), [&holding, &other], 4).await;
    assert_eq!(state_of(&sidecar.metrics().await, "d0"), "half_open");
    for _ in 0..5 {
        ask(&sidecar, 200).await;
    }
    assert_eq!(holding.requests().len(), 4);
    drop(probe);
    ask_until(&sidecar, &holding, 6).await;
    assert_eq!(state_of(&sidecar.metrics().await, "d0"), "closed");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_a_good_probe_as_soon_as_it_has_content() {
    let gate = Gate::shut();
    let holding = provider(move |number| match number {
        0..3 => refuse(500),
        _ => vec![send(chat::STREAM_HEAD), send(chat::delta("w0 ")), Step::Gate(gate.clone())],
    });
    let (holding, other) = (holding.await, healthy().await);
    let sidecar = Start::with(config("num_retries: 1", SHORT, &[&holding, &other])).ready().await;
    for _ in 0..3 {
        ask(&sidecar, 200).await;
    }
    let mut streams = Vec::new();
    for calls in [4, 5] {
        let mut wire = last_of(&sidecar, &chat::streamed("gpt"), [&holding, &other], calls).await;
        wire.until_text("w0").await;
        streams.push(wire);
    }
    assert_eq!(state_of(&sidecar.metrics().await, "d0"), "closed");
    drop(streams);
    sidecar.stop().await;
}
