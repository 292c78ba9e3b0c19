//! What the sidecar does in a pod: it waits for its configuration, reads keys from a folder, goes
//! on while its application ends; and the commands that a pod is made and started with.

#![cfg(test)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::chat;
use crate::support::script::{send, serve};
use crate::support::sidecar::{Start, config, deployment};
use crate::support::until;
use crate::support::upstream::Upstream;

async fn provider() -> Upstream {
    Upstream::start(|_| serve(|_| vec![send(chat::whole("hello"))])).await
}

/// As a mounted file changes: whole.
fn put(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

fn pillion(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // Who does not read it has ended, which the output tells.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_configuration_it_starts_says_so_and_waits() {
    let upstream = provider().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let sidecar =
        Start::from_file(file.clone()).environment("PILLION_AWAIT_CONFIG", "true").started().await;
    assert_eq!(sidecar.get("/startupz").await.status(), 200);
    assert_eq!(sidecar.get("/livez").await.status(), 200);
    let ready = sidecar.get("/readyz").await;
    assert_eq!((ready.status(), &ready.json()["state"]), (503, &"starting".into()));
    let answer = sidecar.ask(chat::plain("gpt")).await;
    assert_eq!(answer.status(), 503);
    let said = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(said.contains("config.yaml") && said.contains("ConfigMap"), "{said}");
    put(&file, "router_settings: [");
    until("the broken file to be told", async || {
        let why = sidecar.readiness().await["last_error"].to_string();
        why.contains("not YAML").then_some(())
    })
    .await;
    put(&file, &config(&[&upstream]));
    until("readiness", async || (sidecar.get("/readyz").await.status() == 200).then_some(())).await;
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_from_the_folder_and_are_rotated_while_it_runs() {
    let upstream = provider().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("keys")).unwrap();
    fs::write(at("keys/THE_KEY"), "sk-one\n").unwrap();
    let base = upstream.base();
    let entry = deployment("gpt", "d0", &base, "").replace("sk-x", "os.environ/THE_KEY");
    fs::write(at("config.yaml"), format!("model_list:\n{entry}")).unwrap();
    let sidecar = Start::from_file(at("config.yaml"))
        .environment("THE_KEY", "sk-of-the-environment")
        .argument("--keys-dir")
        .argument(at("keys").display().to_string())
        .argument("--overlay")
        .argument(at("overlay.yaml").display().to_string())
        .ready()
        .await;
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    put(&at("keys/THE_KEY"), "sk-two");
    until("the new key", async || {
        assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
        upstream.requests().iter().any(|it| it.request.head.contains("sk-two")).then_some(())
    })
    .await;
    assert!(upstream.requests()[0].request.head.contains("Bearer sk-one"));
    // What the namespace adds is served beside what the centre says.
    put(&at("overlay.yaml"), &format!("model_list:\n{}", deployment("own", "own", &base, "")));
    until("the overlay", async || {
        (sidecar.ask(chat::plain("own")).await.status() == 200).then_some(())
    })
    .await;
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    let ended = sidecar.stop().await;
    assert!(!ended.err.iter().any(|line| line.contains("sk-")), "{:?}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_the_application_is_asked_for_where_the_injector_mounts_one() {
    let upstream = provider().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(pillion::inject::MASTER_KEY), "sk-of-the-pod").unwrap();
    let sidecar = Start::with(config(&[&upstream]))
        .argument("--keys-dir")
        .argument(folder.path().display().to_string())
        .ready()
        .await;
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 401);
    let with = |key: &str| {
        let key = format!("\r\nauthorization: Bearer {key}\r\n");
        chat::plain("gpt").replacen("\r\n", &key, 1)
    };
    assert_eq!(sidecar.ask(with("sk-other")).await.status(), 401);
    assert_eq!(sidecar.ask(with("sk-of-the-pod")).await.status(), 200);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_container_serves_on_while_its_application_ends() {
    let upstream = provider().await;
    let sidecar = Start::with(config(&[&upstream]))
        .environment("PILLION_DRAIN", "600")
        .environment("PILLION_LOG_LEVEL", "debug")
        .ready()
        .await;
    sidecar.signal("TERM");
    until("readiness to turn", async || {
        (sidecar.get("/readyz").await.status() == 503).then_some(())
    })
    .await;
    // The application still has something to ask, on a connection of its own.
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    // Nobody is there any more: it ends long before its time is over.
    let ended = sidecar.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.err);
    assert_eq!(ended.records().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_connected_is_served_until_it_leaves() {
    let upstream = provider().await;
    let sidecar = Start::with(config(&[&upstream]))
        .environment("PILLION_DRAIN", "600")
        .environment("PILLION_DRAIN_IDLE", "0")
        .ready()
        .await;
    let mut application = sidecar.wire().await;
    assert_eq!(application.ask(chat::plain("gpt")).await.status(), 200);
    sidecar.signal("TERM");
    until("readiness to turn", async || {
        (sidecar.get("/readyz").await.status() == 503).then_some(())
    })
    .await;
    assert_eq!(application.ask(chat::plain("gpt")).await.status(), 200);
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    drop(application);
    let ended = sidecar.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.err);
    assert_eq!(ended.records().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_takes_too_long_is_over() {
    let upstream = provider().await;
    let sidecar =
        Start::with(config(&[&upstream])).environment("PILLION_DRAIN", "0.2").ready().await;
    let mut application = sidecar.wire().await;
    assert_eq!(application.ask(chat::plain("gpt")).await.status(), 200);
    sidecar.signal("TERM");
    // It is connected, and has nothing to ask.
    assert_eq!(sidecar.ended().await.status.code(), Some(0));
    assert_eq!(application.rest().await.0, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_ends_its_sidecar_by_a_call_and_a_browser_does_not() {
    let upstream = provider().await;
    let sidecar =
        Start::with(config(&[&upstream])).environment("PILLION_QUIT", "true").ready().await;
    let ask = |method: &str, more: &str| {
        format!("{method} /quitquitquit HTTP/1.1\r\nhost: x\r\n{more}content-length: 0\r\n\r\n")
    };
    assert_eq!(sidecar.ask(ask("GET", "")).await.status(), 405);
    assert_eq!(sidecar.ask(ask("POST", "origin: http://evil\r\n")).await.status(), 405);
    assert_eq!(sidecar.ask(chat::plain("gpt")).await.status(), 200);
    assert_eq!(sidecar.ask(ask("POST", "")).await.status(), 200);
    assert_eq!(sidecar.ended().await.status.code(), Some(0));
    let without = Start::with(config(&[&upstream])).ready().await;
    assert_eq!(without.ask(ask("POST", "")).await.status(), 404);
    without.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_ready_waits_and_says_what_it_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let sidecar = Start::from_file(file.clone())
        .environment("PILLION_AWAIT_CONFIG", "true")
        .admin("[::]:0")
        .started()
        .await;
    let from = format!("http://127.0.0.1:{}", sidecar.admin.port());
    let waiting = {
        let from = from.clone();
        tokio::task::spawn_blocking(move || pillion(&["wait-ready", "--from", &from], ""))
    };
    put(&file, "model_list: []\n");
    assert_eq!(waiting.await.unwrap().status.code(), Some(0));
    sidecar.stop().await;
    let late = tokio::task::spawn_blocking(move || {
        pillion(&["wait-ready", "--from", &from, "--timeout", "0.5"], "")
    });
    let late = late.await.unwrap();
    assert_eq!(late.status.code(), Some(1));
    assert!(text(&late.stderr).contains("is not ready"), "{}", text(&late.stderr));
}

#[test]
fn sleep_sleeps_and_reads_its_time() {
    let started = crate::support::now();
    assert_eq!(pillion(&["sleep", "0.3"], "").status.code(), Some(0));
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(pillion(&["sleep", "long"], "").status.code(), Some(2));
}

const POD: &str = "# mine\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n    - name: a\n";

#[test]
fn inject_goes_from_pipe_to_pipe_and_back() {
    let there = pillion(&["inject", "--image", "pillion:test"], POD);
    assert_eq!(there.status.code(), Some(0), "{}", text(&there.stderr));
    let manifest = text(&there.stdout);
    assert!(manifest.starts_with("# mine\n") && manifest.contains("image: pillion:test"));
    assert!(text(&there.stderr).contains("Pod/a: it gets a sidecar (native)"));
    let again = pillion(&["inject", "--image", "pillion:test"], &manifest);
    assert_eq!(text(&again.stdout), manifest);
    let back = pillion(&["inject", "--uninject"], &manifest);
    assert_eq!(text(&back.stdout), POD);
}

#[test]
fn inject_reads_files_settings_and_the_version_of_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("a.yaml"), POD).unwrap();
    fs::write(at("b.yaml"), POD.replace("name: a", "name: b")).unwrap();
    fs::write(at("settings.yaml"), "sidecar:\n  containerName: llm\n").unwrap();
    let both = pillion(
        &[
            "inject",
            "-f",
            &at("a.yaml"),
            "-f",
            &at("b.yaml"),
            "--config",
            &at("settings.yaml"),
            "--kube-version",
            "v1.31.2",
        ],
        "",
    );
    assert_eq!(both.status.code(), Some(0), "{}", text(&both.stderr));
    let manifest = text(&both.stdout);
    assert_eq!(manifest.matches("\n---\n").count(), 1);
    assert_eq!(manifest.matches("    - name: llm\n").count(), 2, "{manifest}");
    assert!(!manifest.contains("initContainers"));
}

#[test]
fn inject_prints_nothing_where_anything_is_wrong() {
    let hostile =
        "---\nkind: Pod\nmetadata: {name: b}\nspec: {hostNetwork: true, containers: [{name: b}]}\n";
    for (input, arguments, says) in [
        (format!("{POD}{hostile}"), &[][..], "Pod/b: the pod uses the node's network"),
        ("a: [".to_owned(), &[], "-:2:1: not YAML"),
        (POD.to_owned(), &["--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (POD.to_owned(), &["-f", "/nowhere.yaml"], "/nowhere.yaml: cannot be read"),
        (POD.to_owned(), &["--kube-version", "new"], "`new` is no version"),
    ] {
        let output = pillion(&[&["inject"], arguments].concat(), &input);
        assert_eq!(output.status.code(), Some(1), "{says}");
        assert_eq!(text(&output.stdout), "");
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
}
