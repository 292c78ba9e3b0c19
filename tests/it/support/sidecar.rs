//! The real binary on ports of its own, started, watched and ended by its own id.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use super::metrics::Metrics;
use super::until;
use super::upstream::Upstream;
use super::wire::{Answer, Wire};

/// How a sidecar is to be started.
#[derive(Debug, Default)]
pub(crate) struct Start {
    config: String,
    file: Option<PathBuf>,
    environment: Vec<(&'static str, String)>,
    arguments: Vec<String>,
    listen: Option<&'static str>,
    admin: Option<&'static str>,
}

impl Start {
    pub(crate) fn with(config: impl Into<String>) -> Self {
        Self { config: config.into(), ..Self::default() }
    }

    /// Starts from a file that the test looks after.
    pub(crate) fn from_file(file: PathBuf) -> Self {
        Self { file: Some(file), ..Self::default() }
    }

    pub(crate) fn environment(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    pub(crate) fn argument(mut self, text: impl Into<String>) -> Self {
        self.arguments.push(text.into());
        self
    }

    pub(crate) fn listen(mut self, address: &'static str) -> Self {
        self.listen = Some(address);
        self
    }

    pub(crate) fn admin(mut self, address: &'static str) -> Self {
        self.admin = Some(address);
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn ready(self) -> Pillion {
        let sidecar = self.started().await;
        until("readiness", async || {
            (sidecar.get("/health/ready").await.status() == 200).then_some(())
        })
        .await;
        sidecar
    }

    /// Starts it and waits until its ports are bound.
    pub(crate) async fn started(self) -> Pillion {
        self.spawn().bound("serving the LLM API").await
    }

    /// Starts it; waits for nothing.
    pub(crate) fn spawn(self) -> Pillion {
        let home = tempfile::tempdir().unwrap();
        let file = self.file.unwrap_or_else(|| {
            let file = home.path().join("config.yaml");
            std::fs::write(&file, &self.config).unwrap();
            file
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
        command
            .arg("serve")
            .arg("-c")
            .arg(&file)
            .args(["--listen", self.listen.unwrap_or("127.0.0.1:0")])
            .args(["--admin", self.admin.unwrap_or("127.0.0.1:0")])
            .args(&self.arguments)
            // Only this environment: a key or a proxy of the developer's own must not matter.
            .env_clear()
            .envs(self.environment);
        Pillion::launch(&mut command, home)
    }
}

/// A configuration with one deployment per upstream, all in the group `gpt`, without retries.
pub(crate) fn config(upstreams: &[&Upstream]) -> String {
    let mut text = String::from("router_settings: {num_retries: 0}\nmodel_list:\n");
    for (number, upstream) in upstreams.iter().enumerate() {
        text += &deployment("gpt", &format!("d{number}"), &upstream.base(), "");
    }
    text
}

/// One entry of `model_list`; `more` stands among its parameters.
pub(crate) fn deployment(group: &str, id: &str, base: &str, more: &str) -> String {
    format!(
        "  - model_name: {group}\n    litellm_params: {{model: openai/m, api_base: \"{base}\", api_key: sk-x{more}}}\n    model_info: {{id: {id}}}\n"
    )
}

/// A running sidecar. End it with [`stop`](Self::stop); dropping it kills it.
pub(crate) struct Pillion {
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Mutex<Child>,
    out: Lines,
    err: Lines,
    readers: Vec<JoinHandle<()>>,
    _home: tempfile::TempDir,
}

/// What a sidecar has said when it is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
}

impl Ended {
    /// The access log.
    pub(crate) fn records(&self) -> Vec<Value> {
        records(&self.out)
    }
}

fn records(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Pillion {
    /// Starts a command that logs as the sidecar does.
    pub(crate) fn launch(command: &mut Command, home: tempfile::TempDir) -> Self {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let (out, err) = (Lines::default(), Lines::default());
        let readers =
            vec![out.read(child.stdout.take().unwrap()), err.read(child.stderr.take().unwrap())];
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let (api, admin) = (unknown, unknown);
        Self { api, admin, child: Mutex::new(child), out, err, readers, _home: home }
    }

    /// Waits until its ports are bound, of which the first is told by this message.
    pub(crate) async fn bound(mut self, message: &str) -> Self {
        (self.api, self.admin) = until("the addresses in the log", async || {
            self.assert_runs();
            Some((self.address(message)?, self.address("serving health")?))
        })
        .await;
        self
    }

    /// The address that a line of its log tells.
    fn address(&self, message: &str) -> Option<SocketAddr> {
        self.err.all().iter().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let said = line["message"].as_str()?;
            said.starts_with(message).then(|| line["address"].as_str()?.parse().ok())?
        })
    }

    pub(crate) async fn wire(&self) -> Wire {
        Wire::open(self.api).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        self.wire().await.ask(request).await
    }

    /// Asks the admin listener.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        Wire::open(self.admin).await.ask(request).await
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics(self.get("/metrics").await.body)
    }

    /// Waits until these gauges are at zero together.
    pub(crate) async fn falls_to_zero(&self, gauges: &[&str]) {
        until("the gauges to fall", async || {
            let metrics = self.metrics().await;
            gauges.iter().all(|name| metrics.of(name) == 0).then_some(())
        })
        .await;
    }

    /// Waits until nothing runs any more.
    pub(crate) async fn rests(&self) {
        self.falls_to_zero(&["pillion_requests_in_flight", "pillion_tries_in_flight"]).await;
    }

    /// How many tries of a deployment ended so.
    pub(crate) async fn tries(&self, deployment: &str, outcome: &str) -> u64 {
        let labels = [("deployment", deployment), ("outcome", outcome)];
        self.metrics().await.sum("pillion_tries_total", &labels)
    }

    /// The body of the readiness probe.
    pub(crate) async fn readiness(&self) -> Value {
        self.get("/health/ready").await.json()
    }

    /// The access log so far.
    pub(crate) fn records(&self) -> Vec<Value> {
        records(&self.out.all())
    }

    /// The lines of the access log that came since it was last asked; nobody keeps them.
    pub(crate) fn take_records(&self) -> Vec<Value> {
        records(&std::mem::take(&mut *self.out.0.lock().unwrap()))
    }

    /// Waits for so many lines of the access log.
    pub(crate) async fn recorded(&self, count: usize) -> Vec<Value> {
        until("lines of the access log", async || {
            let records = self.records();
            (records.len() >= count).then_some(records)
        })
        .await
    }

    pub(crate) fn log(&self) -> String {
        self.err.all().join("\n")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own `kill`: the crate forbids the unsafe code that a system call needs.
        let command = format!("kill -{name} {}", self.id());
        assert!(Command::new("/bin/sh").args(["-c", &command]).status().unwrap().success());
    }

    pub(crate) fn has_ended(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    fn assert_runs(&self) {
        if let Some(status) = self.has_ended() {
            panic!("the sidecar ended with {status}:\n{}", self.log());
        }
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = until("the end of the process", async || self.has_ended()).await;
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let (out, err) = (self.out.all(), self.err.all());
        assert!(!err.iter().any(|line| line.contains("panicked")), "{}", err.join("\n"));
        Ended { status, out, err }
    }

    /// Ends it in an orderly way, as every test should at its end.
    pub(crate) async fn stop(self) -> Ended {
        self.assert_runs();
        self.signal("TERM");
        let ended = self.ended().await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.err.join("\n"));
        ended
    }
}

impl Drop for Pillion {
    fn drop(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        if std::thread::panicking() {
            eprintln!("the sidecar's log:\n{}", self.log());
        }
        let Ok(mut child) = self.child.lock() else { return };
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Lines as they come out of a pipe.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn read(&self, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.0.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        })
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
