//! The admission webhook as a process, against an API server that is a fake: what it answers over
//! TLS, and what it keeps right.

#![cfg(test)]

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::cluster::Cluster;
use crate::support::sidecar::Pillion;
use crate::support::{soon, until};

const SECRET: &str = "/api/v1/namespaces/pillion-system/secrets/pillion-injector-tls";
const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/pillion-injector";
const GOOD: &str = "model_list: []\n";
const BETTER: &str = "model_list: []\nrouter_settings: {num_retries: 1}\n";

fn namespace(cluster: &Cluster, name: &str, label: Option<&str>, annotations: &Value) {
    let mut labels = json!({"kubernetes.io/metadata.name": name});
    if let Some(label) = label {
        labels["pillion.dev/inject"] = label.into();
    }
    let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
    cluster.put(&format!("/api/v1/namespaces/{name}"), json!({"metadata": metadata}));
}

fn copy_in(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/pillion-config")
}

fn config_map(namespace: &str, text: &str) -> Value {
    json!({
        "metadata": {"name": "pillion-config", "namespace": namespace},
        "data": {"config.yaml": text},
    })
}

/// A cluster with what the chart puts there.
async fn cluster() -> Cluster {
    let cluster = Cluster::start("v1.33.2").await;
    namespace(&cluster, "pillion-system", None, &json!({}));
    namespace(&cluster, "team-a", Some("enabled"), &json!({}));
    let webhook = |name: &str| json!({"name": name, "clientConfig": {"service": {}}});
    let webhooks = json!([
        webhook("namespace.inject.pillion.dev"),
        webhook("pod.inject.pillion.dev"),
        webhook("other.example.com"),
    ]);
    let metadata = json!({"name": "pillion-injector"});
    cluster.put(CONFIGURATION, json!({"metadata": metadata, "webhooks": webhooks}));
    cluster.put(&copy_in("pillion-system"), config_map("pillion-system", GOOD));
    cluster
}

struct Start {
    settings: Value,
    folder: Option<std::path::PathBuf>,
}

impl Start {
    fn with(settings: Value) -> Self {
        Self { settings, folder: None }
    }

    async fn bound(self, cluster: &Cluster, pod: &str) -> Pillion {
        let home = tempfile::tempdir().unwrap();
        let settings = home.path().join("injector.yaml");
        fs::write(&settings, self.settings.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
        command
            .args(["webhook", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--namespace", "pillion-system", "--pod", pod])
            .args(["--api-server", &format!("http://{}", cluster.address)])
            .arg("--config")
            .arg(&settings)
            .arg("--tls-dir")
            .arg(self.folder.as_deref().unwrap_or(home.path()))
            .env_clear();
        Pillion::launch(&mut command, home).bound("serving reviews").await
    }
}

async fn injector(cluster: &Cluster, pod: &str) -> Pillion {
    let injector = Start::with(json!({})).bound(cluster, pod).await;
    is_ready(&injector).await;
    injector
}

async fn is_ready(injector: &Pillion) {
    until("readiness", async || (injector.get("/readyz").await.status() == 200).then_some(()))
        .await;
}

/// Whom the API server trusts.
fn bundle(cluster: &Cluster) -> Vec<u8> {
    let configuration = cluster.get(CONFIGURATION).unwrap();
    let encoded = configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap();
    STANDARD.decode(encoded).unwrap()
}

/// Greets as the API server does, trusting only `authority`, and offers these protocols.
async fn greet(
    injector: &Pillion,
    authority: &[u8],
    protocols: &[&str],
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("pillion-injector.pillion-system.svc").unwrap();
    let stream = TcpStream::connect(injector.api).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| error.to_string())
}

/// Sends a request over a connection of its own.
async fn call(
    injector: &Pillion,
    authority: &[u8],
    request: &[u8],
) -> Result<(u16, String), String> {
    let mut stream = greet(injector, authority, &[]).await?;
    stream.write_all(request).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // Who closes without a farewell has answered all the same.
    let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, body.to_owned()))
}

fn post(path: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn review(namespace: &str) -> Vec<u8> {
    post("/mutate", "application/json", &reviewed(namespace).to_string())
}

fn reviewed(namespace: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "42", "namespace": namespace, "operation": "CREATE",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "object": {
                "metadata": {"generateName": "chat-"},
                "spec": {"containers": [{"name": "chat"}]},
            },
        },
    })
}

/// The patch for a pod of a namespace, as text.
async fn patch(injector: &Pillion, cluster: &Cluster, namespace: &str) -> String {
    let (status, body) = call(injector, &bundle(cluster), &review(namespace)).await.unwrap();
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let patch = answer["response"]["patch"].as_str().unwrap_or_default();
    String::from_utf8(STANDARD.decode(patch).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_makes_its_certificate_is_trusted_and_injects() {
    let cluster = cluster().await;
    let injector = injector(&cluster, "one").await;
    let secret = cluster.get(SECRET).unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let configuration = cluster.get(CONFIGURATION).unwrap();
    let webhooks = &configuration["webhooks"];
    assert_eq!(webhooks[0]["clientConfig"], webhooks[1]["clientConfig"]);
    assert_eq!(webhooks[2]["clientConfig"], json!({"service": {}}));
    assert!(patch(&injector, &cluster, "team-a").await.contains("/spec/initContainers"));
    let metrics = injector.metrics().await;
    let labels = [("outcome", "injected"), ("reason", "native")];
    assert_eq!(metrics.sum("pillion_webhook_reviews_total", &labels), 1);
    assert_eq!(metrics.of("pillion_webhook_ready"), 1);
    cluster.becomes(&copy_in("team-a"), |_| true).await;
    let allowed = [SECRET.to_owned(), CONFIGURATION.to_owned(), copy_in("team-a")];
    for write in cluster.writes() {
        assert!(allowed.contains(&write.path), "{write:?}");
    }
    // Nobody else is trusted, and nobody else's word for it.
    let stranger = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let refused = call(&injector, stranger.cert.pem().as_bytes(), &review("team-a")).await;
    assert!(refused.unwrap_err().contains("UnknownIssuer"));
    let ended = injector.stop().await;
    assert!(!ended.err.iter().any(|line| line.contains("PRIVATE KEY")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_begin_at_once_one_makes_the_certificate_and_both_show_it() {
    let cluster = cluster().await;
    let (one, two) = tokio::join!(injector(&cluster, "one"), injector(&cluster, "two"));
    for injector in [&one, &two] {
        assert!(patch(injector, &cluster, "team-a").await.contains("initContainers"));
    }
    let made = cluster.writes().into_iter().filter(|it| it.path == SECRET && it.status == 200);
    assert_eq!(made.count(), 1, "{:?}", cluster.writes());
    tokio::join!(one.stop(), two.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_wiped_is_written_again() {
    let cluster = cluster().await;
    let injector = injector(&cluster, "one").await;
    let right = cluster.get(CONFIGURATION).unwrap();
    let mut wiped = right.clone();
    wiped["webhooks"][0]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    wiped["webhooks"][1]["clientConfig"]["caBundle"] = "eA==".into();
    // Helm replaces the whole object; once with watches as they are, once while they are cut.
    for is_cut in [false, true] {
        if is_cut {
            cluster.forget();
        }
        cluster.put(CONFIGURATION, wiped.clone());
        let again = cluster
            .becomes(CONFIGURATION, |it| it["webhooks"][1]["clientConfig"]["caBundle"] != "eA==")
            .await;
        assert_eq!(again["webhooks"], right["webhooks"]);
        is_ready(&injector).await;
    }
    injector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_are_followed_through_cuts_and_lost_places() {
    let cluster = cluster().await;
    let injector = injector(&cluster, "one").await;
    let plain = json!({"pillion.dev/native": "never"});
    for (round, name) in ["b", "c", "d"].into_iter().enumerate() {
        match round {
            0 => {}
            1 => cluster.cut(),
            _ => cluster.forget(),
        }
        namespace(&cluster, name, Some("enabled"), &plain);
        assert!(patch(&injector, &cluster, name).await.contains("/spec/containers/0"));
        // A change of one that is known comes by the watch alone.
        namespace(&cluster, name, Some("disabled"), &plain);
        until("the change", async || {
            patch(&injector, &cluster, name).await.is_empty().then_some(())
        })
        .await;
    }
    namespace(&cluster, "slip", Some("enabled"), &json!({"pillion.dev/log-levle": "x"}));
    let (_, body) = call(&injector, &bundle(&cluster), &review("slip")).await.unwrap();
    assert!(body.contains("the namespace's annotation pillion.dev/log-levle"), "{body}");
    injector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_is_where_sidecars_are_and_nothing_else_is_touched() {
    let cluster = cluster().await;
    namespace(&cluster, "own-config", Some("enabled"), &json!({}));
    namespace(&cluster, "bare", None, &json!({}));
    cluster.put(&copy_in("own-config"), config_map("own-config", "mine"));
    let injector = injector(&cluster, "one").await;
    let says = |text: &'static str| move |it: &Value| it["data"]["config.yaml"] == text;
    cluster.becomes(&copy_in("team-a"), says(GOOD)).await;
    // A pod asks for itself: a try of it leaves nothing behind, however much goes on elsewhere.
    let text = String::from_utf8(review("bare")).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let mut pod: Value = serde_json::from_str(body).unwrap();
    pod["request"]["object"]["metadata"]["labels"] = json!({"pillion.dev/inject": "true"});
    for is_dry_run in [true, false] {
        pod["request"]["dryRun"] = is_dry_run.into();
        let request = post("/mutate", "application/json", &pod.to_string());
        assert_eq!(call(&injector, &bundle(&cluster), &request).await.unwrap().0, 200);
        if is_dry_run {
            cluster.put(&copy_in("pillion-system"), config_map("pillion-system", BETTER));
            cluster.becomes(&copy_in("team-a"), says(BETTER)).await;
            assert!(cluster.get(&copy_in("bare")).is_none());
            cluster.put(&copy_in("pillion-system"), config_map("pillion-system", GOOD));
            cluster.becomes(&copy_in("team-a"), says(GOOD)).await;
        }
    }
    cluster.becomes(&copy_in("bare"), says(GOOD)).await;
    // A change is spread, a broken one is not, and a copy that is changed is put right.
    cluster.put(&copy_in("pillion-system"), config_map("pillion-system", BETTER));
    cluster.becomes(&copy_in("team-a"), says(BETTER)).await;
    cluster.put(&copy_in("pillion-system"), config_map("pillion-system", "model_list: ["));
    until("the fault to be told", async || {
        (injector.metrics().await.of("pillion_webhook_config_valid") == 0).then_some(())
    })
    .await;
    assert_eq!(cluster.get(&copy_in("team-a")).unwrap()["data"]["config.yaml"], BETTER);
    cluster.put(&copy_in("pillion-system"), config_map("pillion-system", GOOD));
    cluster.becomes(&copy_in("team-a"), says(GOOD)).await;
    let mut changed = cluster.get(&copy_in("team-a")).unwrap();
    changed["data"] = json!({"config.yaml": "changed", "more.yaml": "x"});
    cluster.put(&copy_in("team-a"), changed);
    let right = json!({"config.yaml": GOOD});
    cluster.becomes(&copy_in("team-a"), |it| it["data"] == right).await;
    cluster.delete(&copy_in("team-a"));
    cluster.becomes(&copy_in("team-a"), says(GOOD)).await;
    namespace(&cluster, "team-a", Some("disabled"), &json!({}));
    until("the copy to go", async || cluster.get(&copy_in("team-a")).is_none().then_some(())).await;
    assert_eq!(cluster.get(&copy_in("own-config")).unwrap()["data"]["config.yaml"], "mine");
    let theirs = copy_in("own-config");
    assert!(!cluster.writes().iter().any(|it| it.path == theirs));
    injector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_review_is_told_so_and_harms_nobody() {
    let cluster = cluster().await;
    let injector = injector(&cluster, "one").await;
    let authority = bundle(&cluster);
    let json = "application/json";
    let large = format!("\"{}\"", "x".repeat(9 * 1024 * 1024));
    for (request, status) in [
        (post("/mutate", "text/plain", "{}"), 415),
        (post("/mutate", json, "{"), 400),
        (post("/mutate", json, "{}"), 400),
        (post("/mutate", json, "[[[[[[[[[[[[[[[["), 400),
        (post("/other", json, "{}"), 404),
        (b"GET /mutate HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(), 405),
    ] {
        assert_eq!(call(&injector, &authority, &request).await.unwrap().0, status);
    }
    // The answer may be lost where the sender is still sending; a second one tells.
    if let Ok((status, _)) = call(&injector, &authority, &post("/mutate", json, &large)).await {
        assert_eq!(status, 413);
    }
    // Plain text, half a greeting, and nothing at all.
    let mut idle = Vec::new();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", b""] {
        let mut stream = TcpStream::connect(injector.api).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        idle.push(stream);
    }
    assert!(patch(&injector, &cluster, "team-a").await.contains("initContainers"));
    assert!(injector.metrics().await.of("pillion_webhook_bad_requests_total") >= 6);
    drop(idle);
    injector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_files_is_swapped_while_it_serves() {
    let cluster = cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let names = vec!["pillion-injector.pillion-system.svc".to_owned()];
    let write = || {
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        fs::write(folder.path().join("tls.crt"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        made.cert.pem()
    };
    let first = write();
    let settings = json!({"certs": {"mode": "existing"}});
    let start = Start { folder: Some(folder.path().to_owned()), ..Start::with(settings) };
    let injector = start.bound(&cluster, "one").await;
    is_ready(&injector).await;
    assert_eq!(call(&injector, first.as_bytes(), &review("team-a")).await.unwrap().0, 200);
    let second = write();
    until("the other certificate", async || {
        call(&injector, second.as_bytes(), &review("team-a")).await.ok()
    })
    .await;
    // Nothing of it is written anywhere, and files that are broken change nothing.
    fs::write(folder.path().join("tls.key"), "broken").unwrap();
    until("the fault to be told", async || {
        injector.log().contains("no certificate with its key").then_some(())
    })
    .await;
    assert_eq!(call(&injector, second.as_bytes(), &review("team-a")).await.unwrap().0, 200);
    let copy = copy_in("team-a");
    assert!(cluster.writes().iter().all(|it| it.path == copy), "{:?}", cluster.writes());
    injector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_answers_until_nobody_is_sent_to_it_and_ends() {
    let cluster = cluster().await;
    let injector = injector(&cluster, "one").await;
    injector.signal("TERM");
    until("readiness to turn", async || {
        (injector.get("/readyz").await.status() == 503).then_some(())
    })
    .await;
    assert!(patch(&injector, &cluster, "team-a").await.contains("initContainers"));
    let ended = tokio::time::timeout(Duration::from_secs(30), injector.ended()).await.unwrap();
    assert_eq!(ended.status.code(), Some(0));
}

/// An API server keeps a connection and asks over it until it is told not to: no request of those is
/// lost, or pods would be refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_no_request_is_lost_when_it_ends() {
    let cluster = cluster().await;
    let injector = injector(&cluster, "one").await;
    let stream = greet(&injector, &bundle(&cluster), &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let executor = TokioExecutor::new();
    let (mut sender, connection) = http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    let mut carried = JoinSet::from_iter([connection]);
    let body = reviewed("team-a").to_string();
    let mut answered = 0;
    while sender.ready().await.is_ok() {
        if answered == 10 {
            injector.signal("TERM");
        }
        let request = Request::post("https://x/mutate").header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.clone()))).unwrap();
        match sender.send_request(request).await {
            Ok(answer) => assert_eq!(answer.status(), 200),
            // It was not sent, or it was told that it will not be looked at.
            Err(error) if error.is_canceled() || error.is_closed() => break,
            Err(error) => panic!("lost after {answered}: {error:?}"),
        }
        answered += 1;
    }
    assert!(answered > 100, "{answered}");
    let ended = tokio::time::timeout(Duration::from_secs(30), injector.ended()).await.unwrap();
    assert_eq!(ended.status.code(), Some(0));
    carried.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_keeps_a_connection_of_http_1_is_sent_elsewhere() {
    let cluster = cluster().await;
    let injector = injector(&cluster, "one").await;
    let body = reviewed("team-a").to_string();
    let kept = post("/mutate", "application/json", &body);
    let kept = String::from_utf8(kept).unwrap().replace("connection: close\r\n", "");
    let mut stream = greet(&injector, &bundle(&cluster), &[]).await.unwrap();
    stream.write_all(kept.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    soon("an answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    injector.signal("TERM");
    until("readiness to turn", async || {
        (injector.get("/readyz").await.status() == 503).then_some(())
    })
    .await;
    stream.write_all(kept.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut rest)).await;
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.contains("connection: close\r\n"), "{rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_namespace_or_an_api_server_it_says_what_is_missing() {
    for (arguments, says) in [
        (&["--namespace", "x"][..], "--api-server"),
        (&["--api-server", "http://127.0.0.1:1"], "--namespace"),
        (&["--config", "/nowhere"], "/nowhere"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
            .arg("webhook")
            .args(arguments)
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(says), "{said}");
    }
}
