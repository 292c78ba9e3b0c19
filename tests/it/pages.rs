//! What a page in a browser can make it send to a sidecar on the same machine.

#![cfg(test)]

use crate::support::config_map::ConfigMap;
use crate::support::script::{send, serve};
use crate::support::sidecar::{Pillion, Start, config};
use crate::support::upstream::Upstream;
use crate::support::wire::{Answer, Wire};
use crate::support::{chat, until};

async fn provider() -> Upstream {
    Upstream::start(|_| serve(|_| vec![send(chat::whole("hello"))])).await
}

/// What a page posts without asking before: plain text, of which the browser says whence it is.
fn posted(path: &str, host: &str, more: &str) -> String {
    let body = chat::body("gpt", ",\"max_tokens\":9");
    format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\n{more}content-type: text/plain;charset=UTF-8\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

const FOREIGN: &str = "origin: https://evil.example\r\n";

async fn asked(sidecar: &Pillion, host: &str, more: &str) -> Answer {
    sidecar.ask(posted("/v1/chat/completions", host, more)).await
}

/// What the admin port says under a name.
async fn readiness(sidecar: &Pillion, host: &str) -> Answer {
    let mut wire = Wire::open(sidecar.admin).await;
    wire.ask(format!("GET /health/ready HTTP/1.1\r\nhost: {host}\r\n\r\n")).await
}

fn is_refused(answer: &Answer, names: &str) -> bool {
    let message = answer.message();
    answer.status() == 403 && message.contains(names) && message.contains("pillion.allowed_hosts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_asks_nobody_for_anything() {
    let upstream = provider().await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let here = sidecar.api.to_string();
    let led_here = format!("evil.example:{}", sidecar.api.port());
    for (host, more) in [(&*here, FOREIGN), (&*led_here, ""), (&*led_here, FOREIGN)] {
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let answer = sidecar.ask(posted(path, host, more)).await;
            assert!(is_refused(&answer, "evil.example"), "{path} {host} {more}: {answer:?}");
            assert_eq!(answer.json()["type"] == "error", path == "/v1/messages", "{answer:?}");
        }
    }
    let answer = readiness(&sidecar, "evil.example").await;
    assert!(is_refused(&answer, "evil.example"), "{answer:?}");
    assert!(upstream.requests().is_empty());
    let own = "origin: http://localhost:3000\r\n";
    for (host, more) in [(&*here, ""), ("localhost", own), ("host.docker.internal:24080", "")] {
        assert_eq!(asked(&sidecar, host, more).await.status(), 200, "{host} {more}");
        assert_eq!(readiness(&sidecar, host).await.status(), 200, "{host}");
    }
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_is_open_or_asks_for_a_key_refuses_no_name() {
    let upstream = provider().await;
    let open = Start::with(config(&[&upstream])).listen("0.0.0.0:0").admin("0.0.0.0:0");
    let open = open.ready().await;
    assert_eq!(asked(&open, "llm.default.svc.cluster.local", FOREIGN).await.status(), 200);
    assert_eq!(readiness(&open, "pods.example").await.status(), 200);
    open.stop().await;
    let keyed = config(&[&upstream]) + "general_settings: {master_key: sk-own}\n";
    let keyed = Start::with(keyed).ready().await;
    let key = "authorization: Bearer sk-own\r\n";
    assert_eq!(asked(&keyed, "app.example", key).await.status(), 200);
    assert_eq!(asked(&keyed, "app.example", FOREIGN).await.status(), 401);
    assert_eq!(readiness(&keyed, "evil.example").await.status(), 403);
    keyed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_allowed_is_taken_up_while_it_runs() {
    let upstream = provider().await;
    let text = config(&[&upstream]);
    let mut mount = ConfigMap::new(&text);
    let sidecar = Start::from_file(mount.file()).ready().await;
    let (name, page) = ("evil.example", FOREIGN);
    assert_eq!(asked(&sidecar, name, page).await.status(), 403);
    mount.swap(&(text + "pillion: {allowed_hosts: [evil.example]}\n"));
    until("the host to be allowed", async || {
        (asked(&sidecar, name, page).await.status() == 200).then_some(())
    })
    .await;
    assert_eq!(asked(&sidecar, "localhost", page).await.status(), 200);
    assert_eq!(asked(&sidecar, "other.example", "").await.status(), 403);
    assert_eq!(readiness(&sidecar, name).await.status(), 200);
    assert_eq!(readiness(&sidecar, "other.example").await.status(), 403);
    sidecar.stop().await;
}
