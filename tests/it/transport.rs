//! The way to a provider: TLS, HTTP/2, forward proxies, reuse, and what is said when there is
//! no way.

#![cfg(test)]

use std::net::Ipv6Addr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use pillion::protocol::{Rope, RopeBody};
use pillion::upstream::{Client, Connections, Settings};

use crate::support::forward::Forward;
use crate::support::script::{Step, send, serve};
use crate::support::secure::{Authority, H2Upstream};
use crate::support::sidecar::{Pillion, Start, config, deployment};
use crate::support::upstream::Upstream;
use crate::support::{chat, now, until};

/// A configuration with one deployment, `gpt`, at `base`.
fn config_at(base: &str) -> String {
    format!(
        "router_settings: {{num_retries: 0}}\nmodel_list:\n{}",
        deployment("gpt", "d", base, "")
    )
}

async fn friendly() -> Upstream {
    Upstream::start(|_| serve(chat::answer)).await
}

async fn check_served(sidecar: &Pillion) {
    let answer = sidecar.ask(chat::plain("gpt")).await;
    assert!(answer.status() == 200 && answer.body.contains("hello"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_calls_one_after_the_other_need_one_connection() {
    let upstream = friendly().await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let mut wire = sidecar.wire().await;
    for number in 0..100 {
        let is_stream = number % 2 == 1;
        let call = if is_stream { chat::streamed("gpt") } else { chat::plain("gpt") };
        let answer = wire.ask(call).await;
        assert!(answer.status() == 200 && answer.is_done() == is_stream, "{answer:?}");
    }
    assert_eq!(upstream.requests().len(), 100);
    assert_eq!(upstream.connections().len(), 1);
    assert!(upstream.requests().iter().all(|received| received.connection == 0));
    let metrics = sidecar.metrics().await;
    assert_eq!(metrics.of("pillion_upstream_connections_opened_total"), 1);
    assert_eq!(metrics.of("pillion_upstream_connections_open"), 1);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_provider_closed_while_idle_costs_no_request() {
    let upstream =
        Upstream::start(|_| vec![Step::Expect, send(chat::whole("hello")), Step::Close]).await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    for _ in 0..20 {
        check_served(&sidecar).await;
    }
    assert_eq!(upstream.connections().len(), 20);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_idle_for_too_long_is_closed_and_not_used_again() {
    let upstream = friendly().await;
    let connections = Connections::default();
    let settings = Settings { idle_timeout: Duration::from_millis(50), ..Settings::default() };
    let client = Client::new(&settings, connections.clone());
    let call = async || {
        let body = Rope::from(Bytes::from(chat::plain("gpt")));
        let request = http::Request::post(format!("http://{}/v1/x", upstream.address));
        let answer = client.send(request.body(RopeBody::from(body)).unwrap()).await.unwrap();
        let whole = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(whole.starts_with(b"{"), "{whole:?}");
    };
    call().await;
    assert_eq!((connections.open(), connections.opened()), (1, 1));
    let pruning = client.clone().prune();
    let closed =
        until("the idle connection to be closed", async || (connections.open() == 0).then_some(()));
    tokio::select! {
        () = pruning => unreachable!("pruning never ends"),
        () = closed => {}
    }
    call().await;
    assert_eq!(connections.opened(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_stays_open_behind_its_end_mark_holds_nobody_up() {
    let upstream = Upstream::start(|_| {
        serve(|_| {
            let ending = chat::ending();
            let open = ending.strip_suffix(chat::LAST_CHUNK).unwrap().to_owned();
            vec![send(chat::STREAM_HEAD.to_owned() + &chat::delta("w0") + &open)]
        })
    })
    .await;
    let sidecar = Start::with(config(&[&upstream])).ready().await;
    let asked = now();
    let answer = sidecar.ask(chat::streamed("gpt")).await;
    assert!(answer.is_done() && asked.elapsed() < Duration::from_secs(5), "{answer:?}");
    upstream.closed(0).await;
    assert_eq!(sidecar.recorded(1).await[0]["end"], "complete");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_is_spoken_over_tls_where_nothing_else_is_offered() {
    let authority = Authority::new();
    for protocols in [&["http/1.1"][..], &[]] {
        let upstream =
            Upstream::start_secure(authority.acceptor(protocols), |_| serve(chat::answer)).await;
        let base = format!("https://localhost:{}/v1", upstream.address.port());
        let sidecar = Start::with(config_at(&base))
            .environment("SSL_CERT_FILE", authority.file())
            .ready()
            .await;
        check_served(&sidecar).await;
        assert!(sidecar.ask(chat::streamed("gpt")).await.is_done());
        assert_eq!(upstream.connections().len(), 1);
        let head = &upstream.requests()[0].request.head;
        assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_http_2_call_resets_its_stream_and_keeps_the_connection() {
    let authority = Authority::new();
    let upstream = H2Upstream::start(authority.acceptor(&["h2", "http/1.1"])).await;
    let sidecar = Start::with(config_at(&format!("https://{}/v1", upstream.address)))
        .environment("SSL_CERT_FILE", authority.file())
        .ready()
        .await;
    check_served(&sidecar).await;
    for number in 1..=5 {
        let mut wire = sidecar.wire().await;
        wire.send(chat::streamed("gpt")).await;
        wire.until_text("w0").await;
        let left = now();
        drop(wire);
        let took = upstream.reset(number).await.saturating_duration_since(left);
        println!("HTTP/2 stream reset {took:?} after the client left");
        assert!(took < Duration::from_secs(1), "{took:?}");
        check_served(&sidecar).await;
    }
    assert_eq!((upstream.connections(), upstream.open(), upstream.requests()), (1, 1, 11));
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_untrusted_certificate_is_refused_and_said() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let upstream = Upstream::start_secure(theirs.acceptor(&[]), |_| serve(chat::answer)).await;
    let sidecar = Start::with(config_at(&format!("https://{}/v1", upstream.address)))
        .environment("SSL_CERT_FILE", ours.file())
        .ready()
        .await;
    let answer = sidecar.ask(chat::plain("gpt")).await;
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert!(answer.message().contains("certificate"), "{}", answer.message());
    assert!(upstream.requests().is_empty());
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_proxy_gets_a_tunnel_with_its_credentials() {
    let authority = Authority::new();
    let upstream = Upstream::start_secure(authority.acceptor(&[]), |_| serve(chat::answer)).await;
    let proxy = Forward::start(upstream.address).await;
    let url = proxy.url().replace("http://", "http://user:secret@");
    let sidecar = Start::with(config_at("https://localhost:4433/v1"))
        .environment("SSL_CERT_FILE", authority.file())
        .environment("HTTPS_PROXY", url)
        .ready()
        .await;
    check_served(&sidecar).await;
    check_served(&sidecar).await;
    let asked = proxy.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].starts_with("CONNECT localhost:4433 HTTP/1.1\r\n"), "{asked:?}");
    let head = asked[0].to_ascii_lowercase();
    assert!(head.contains("proxy-authorization: basic dxnlcjpzzwnyzxq="), "{asked:?}");
    // What is for the proxy is not for the provider.
    let head = upstream.requests()[0].request.head.to_ascii_lowercase();
    assert!(!head.contains("proxy-"), "{head}");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_proxy_gets_the_whole_address_with_its_credentials() {
    let upstream = friendly().await;
    let proxy = Forward::start(upstream.address).await;
    let url = proxy.url().replace("http://", "http://user:secret@");
    let sidecar = Start::with(config_at("http://provider.invalid/v1"))
        .environment("HTTP_PROXY", url)
        .ready()
        .await;
    check_served(&sidecar).await;
    let asked = proxy.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let line = "POST http://provider.invalid/v1/chat/completions HTTP/1.1\r\n";
    assert!(asked[0].starts_with(line), "{asked:?}");
    let head = asked[0].to_ascii_lowercase();
    assert!(head.contains("proxy-authorization: basic dxnlcjpzzwnyzxq="), "{asked:?}");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_proxy_leads_past_the_proxy() {
    let upstream = friendly().await;
    let proxy = Forward::start(upstream.address).await;
    let base = format!("http://localhost:{}/v1", upstream.address.port());
    for name in ["HTTP_PROXY", "ALL_PROXY"] {
        for exempt in ["localhost", "other.test, localhost", "*"] {
            let sidecar = Start::with(config_at(&base))
                .environment(name, proxy.url())
                .environment("NO_PROXY", exempt)
                .ready()
                .await;
            check_served(&sidecar).await;
            assert!(proxy.asked().is_empty(), "{name} {exempt}");
            sidecar.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_refuses_the_tunnel_is_a_bad_gateway() {
    let refusing = Upstream::start(|_| {
        vec![Step::Expect, send("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), Step::Close]
    })
    .await;
    let authority = Authority::new();
    let sidecar = Start::with(config_at("https://localhost:4433/v1"))
        .environment("SSL_CERT_FILE", authority.file())
        .environment("HTTPS_PROXY", format!("http://{}", refusing.address))
        .ready()
        .await;
    let answer = sidecar.ask(chat::plain("gpt")).await;
    assert_eq!(answer.status(), 502);
    assert!(answer.message().contains("proxy auth"), "{}", answer.message());
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_cannot_be_reached_is_a_bad_gateway_that_says_why() {
    let gone = friendly().await.address;
    let cases = [
        (format!("http://{gone}/v1"), "refused"),
        ("http://there-is-no-such-name.invalid/v1".to_owned(), "dns error"),
    ];
    for (base, why) in cases {
        let sidecar = Start::with(config_at(&base)).ready().await;
        for call in [chat::plain("gpt"), chat::streamed("gpt")] {
            let answer = sidecar.ask(call).await;
            let message = answer.message();
            assert_eq!(answer.status(), 502, "{answer:?}");
            assert!(message.contains("cannot be reached"), "{message}");
            assert!(message.to_ascii_lowercase().contains(why), "{message}");
        }
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_loopback_serves_on_both_sides() {
    let address = (Ipv6Addr::LOCALHOST, 0).into();
    let Ok(upstream) = Upstream::start_at(address, |_| serve(chat::answer)).await else {
        println!("skipped: this machine has no IPv6 loopback");
        return;
    };
    let sidecar = Start::with(config(&[&upstream])).listen("[::1]:0").ready().await;
    assert!(sidecar.api.is_ipv6());
    check_served(&sidecar).await;
    assert!(sidecar.ask(chat::streamed("gpt")).await.is_done());
    assert_eq!(upstream.requests().len(), 2);
    sidecar.stop().await;
}
