//! What is compared: the provider itself, the floors, nginx and Pillion; how each is started.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use pillion::lexicon::time;

use crate::http::Connection;
use crate::load;
use crate::process::{self, Running};

/// One of the things compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// The provider, without anything in between
    Direct,
    /// A reverse proxy on bare hyper
    Floor,
    /// The same, but it collects the body and reads the model
    FloorParse,
    /// nginx as a reverse proxy
    Nginx,
    /// The gateway
    Pillion,
    /// The gateway before two deployments, with `adaptive` and hedging
    PillionHedge,
    /// The gateway before two deployments, with `simple-shuffle` and no hedging
    PillionShuffle,
}

impl Target {
    /// All but the provider itself, in the order of the tables.
    pub(crate) const GATEWAYS: [Self; 6] = [
        Self::Floor,
        Self::FloorParse,
        Self::Nginx,
        Self::Pillion,
        Self::PillionShuffle,
        Self::PillionHedge,
    ];

    /// Its name in tables.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::FloorParse => "floor-parse",
            Self::Nginx => "nginx",
            Self::Pillion => "pillion",
            Self::PillionHedge => "pillion-hedge",
            Self::PillionShuffle => "pillion-shuffle",
        }
    }
}

/// Where things lie.
#[derive(Debug)]
pub(crate) struct Places {
    /// This program, which also is the provider, the floors and the clients.
    pub(crate) own: PathBuf,
    pub(crate) pillion: PathBuf,
    pub(crate) nginx: Option<PathBuf>,
    /// For configurations and logs.
    pub(crate) folder: PathBuf,
}

/// A target that runs.
pub(crate) struct Up {
    pub(crate) target: Target,
    pub(crate) port: u16,
    pub(crate) process: Option<Running>,
}

/// How to start a target.
pub(crate) struct Start {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    port: u16,
}

impl Places {
    /// The program of a target; `Err` says why there is none.
    pub(crate) fn program(&self, target: Target) -> Result<&Path, String> {
        match target {
            Target::Direct | Target::Floor | Target::FloorParse => Ok(&self.own),
            Target::Nginx => self.nginx.as_deref().ok_or_else(|| "not installed".to_owned()),
            Target::Pillion | Target::PillionHedge | Target::PillionShuffle
                if self.pillion.is_file() =>
            {
                Ok(&self.pillion)
            }
            Target::Pillion | Target::PillionHedge | Target::PillionShuffle => {
                Err(format!("no binary at {}", self.pillion.display()))
            }
        }
    }

    /// Writes what the target needs to run before the provider on the port `mock`. `None` for
    /// the provider itself.
    pub(crate) fn prepare(&self, target: Target, mock: u16) -> io::Result<Option<Start>> {
        let port = free_port()?;
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let (own, upstream) = (port.to_string(), mock.to_string());
        let arguments: Vec<String> = match target {
            Target::Direct => return Ok(None),
            Target::Floor => words(&["floor", &own, &upstream]),
            Target::FloorParse => words(&["floor", &own, &upstream, "--parse"]),
            Target::Nginx => {
                let file = self.write("nginx.conf", &nginx(&self.folder, port, mock))?;
                words(&["-p", &self.folder.to_string_lossy(), "-c", &file])
            }
            Target::Pillion | Target::PillionHedge | Target::PillionShuffle => {
                let name = format!("{}.yaml", target.as_str());
                let file = self.write(&name, &pillion(target, mock))?;
                let listen = format!("127.0.0.1:{port}");
                let admin = format!("127.0.0.1:{}", free_port()?);
                words(&["serve", "-c", &file, "--listen", &listen, "--admin", &admin])
            }
        };
        let program = self.program(target).map_err(io::Error::other)?.to_owned();
        let log = self.folder.join(format!("{}.log", target.as_str()));
        Ok(Some(Start { program, arguments, log, port }))
    }

    fn write(&self, name: &str, text: &str) -> io::Result<String> {
        let file = self.folder.join(name);
        fs::write(&file, text)?;
        Ok(file.to_string_lossy().into_owned())
    }
}

impl Start {
    /// Starts it and waits until its port is open.
    pub(crate) fn up(&self, target: Target, core: Option<usize>) -> Result<Up, String> {
        let mut process = self.exec(core)?;
        let until = time::now() + Duration::from_secs(20);
        while Connection::open(self.port).is_err() {
            if process.has_ended() || time::now() > until {
                return Err(format!(
                    "it does not listen; its log ends with: {}",
                    self.last_words()
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Up { target, port: self.port, process: Some(process) })
    }

    /// Starts it and gives the time from there to its first good answer.
    pub(crate) fn first_answer(&self, core: Option<usize>) -> Result<Duration, String> {
        let request = load::request(1 << 10, false);
        let mut answer = Vec::new();
        let started = time::now();
        let mut process = self.exec(core)?;
        loop {
            let open = Connection::open(self.port).ok();
            if open.and_then(|open| load::call(open, &request, false, &mut answer)).is_some() {
                return Ok(time::now() - started);
            }
            if process.has_ended() || time::now() - started > Duration::from_secs(20) {
                return Err(format!(
                    "it does not answer; its log ends with: {}",
                    self.last_words()
                ));
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    fn exec(&self, core: Option<usize>) -> Result<Running, String> {
        Running::start(&self.program, &self.arguments, core, &self.log)
            .map_err(|error| format!("{}: {error}", self.program.display()))
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().last().unwrap_or("nothing").to_owned()
    }
}

/// Starts the provider.
pub(crate) fn provider(places: &Places, core: Option<usize>) -> Result<Up, String> {
    let port = free_port().map_err(|error| error.to_string())?;
    let start = Start {
        program: places.own.clone(),
        arguments: vec!["mock".to_owned(), port.to_string()],
        log: places.folder.join("mock.log"),
        port,
    };
    start.up(Target::Direct, core)
}

impl Up {
    /// Its process id; zero for the provider itself, which is nobody's gateway.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Running::id)
    }

    /// CPU time spent so far, by its process and all below.
    pub(crate) fn cpu(&self) -> Duration {
        self.id().map(process::cpu).unwrap_or_default()
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Two deployments are one provider under two of its names, or they would be one deployment.
fn pillion(target: Target, mock: u16) -> String {
    let (settings, hosts): (&str, &[&str]) = match target {
        Target::PillionHedge => {
            ("pillion: {hedge: {mode: enabled}}\n", &["127.0.0.1", "localhost"])
        }
        Target::PillionShuffle => (
            "router_settings: {routing_strategy: simple-shuffle}\npillion: {hedge: {mode: disabled}}\n",
            &["127.0.0.1", "localhost"],
        ),
        Target::Direct | Target::Floor | Target::FloorParse | Target::Nginx | Target::Pillion => {
            ("", &["127.0.0.1"])
        }
    };
    let entry = |host: &&str| {
        format!(
            "  - model_name: mock-model\n    litellm_params: {{model: openai/mock, \
             api_base: \"http://{host}:{mock}/v1\", api_key: dummy}}\n"
        )
    };
    let entries: String = hosts.iter().map(entry).collect();
    format!("{settings}model_list:\n{entries}")
}

/// One process that is worker and master at once, so that ending it leaves nothing behind.
fn nginx(folder: &Path, port: u16, mock: u16) -> String {
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {folder}/nginx.pid;\n\
         error_log stderr;\nevents {{ worker_connections 1024; }}\nhttp {{\n  access_log off;\n\
         {temporary}  keepalive_requests 1000000000;\n  client_body_buffer_size 512k;\n  \
         client_max_body_size 64m;\n  tcp_nodelay on;\n  upstream mock {{\n    \
         server 127.0.0.1:{mock};\n    keepalive 256;\n    keepalive_requests 1000000000;\n  }}\n  \
         server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      \
         proxy_pass http://mock;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      proxy_buffering off;\n    }}\n  }}\n}}\n"
    )
}
