//! What a sidecar is started with: its flags over its files over their defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::listed;
use super::stop::Linger;
use crate::cli;
use crate::config::{self, Files, Loaded};
use crate::provider::catalog;

/// What is served, from where, and to whom.
pub(super) struct Plan {
    pub(super) loaded: Loaded,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) admin: Vec<SocketAddr>,
    pub(super) state_dir: Option<PathBuf>,
    /// The files to watch, if there are any.
    pub(super) files: Option<Files>,
    /// Why there is nothing to serve yet.
    pub(super) awaits: Option<String>,
    /// Whether a call may end the sidecar.
    pub(super) may_quit: bool,
    /// How it goes on after a signal before it drains.
    pub(super) linger: Option<Linger>,
    pub(super) access_log: bool,
}

/// The environment of a configuration: its folder of keys over the process's own.
pub(super) fn environment(files: &Files) -> impl Fn(&str) -> Option<String> + Send + Sync + use<> {
    of(files.keys.clone())
}

fn of(keys: Option<PathBuf>) -> impl Fn(&str) -> Option<String> + Send + Sync {
    move |name| {
        let own = keys.as_deref().and_then(|keys| config::from_folder(keys, name));
        own.or_else(|| config::process_environment(name))
    }
}

/// The configuration of the files; or nothing, and why, where that can be waited for.
fn load(
    files: &Files,
    state_dir: Option<&Path>,
    may_wait: bool,
) -> Result<(Loaded, Option<String>), String> {
    let problems = match config::load_or_last_good(files, state_dir, &environment(files)) {
        Ok(loaded) => return Ok((loaded, None)),
        Err(problems) => problems,
    };
    let name = files.path.display().to_string();
    if !may_wait {
        return Err(listed(&name, &problems));
    }
    let first = problems.iter().find(|problem| problem.is_fatal()).or(problems.first());
    let why = first.map_or(name, ToString::to_string);
    let nothing = config::load_text("{}", "nothing", &|_| None);
    nothing.map(|loaded| (loaded, Some(why))).map_err(|problems| listed("nothing", &problems))
}

fn from_environment(keys: Option<&Path>) -> Result<Loaded, String> {
    let vendors = catalog::primary().map(|vendor| (vendor.prefix, vendor.key_env));
    let vendors: Vec<_> = vendors.collect();
    let environment = of(keys.map(Path::to_owned));
    config::from_environment(&vendors, &environment).ok_or_else(|| NOTHING_TO_SERVE.to_owned())
}

pub(super) fn plan(serve: cli::Serve) -> Result<Plan, String> {
    let (overlay, keys) = (serve.overlay, serve.keys_dir);
    let files = serve.config.map(|path| Files { path, overlay, keys: keys.clone() });
    let (mut loaded, awaits) = match &files {
        Some(files) => load(files, serve.state_dir.as_deref(), serve.await_config)?,
        None => (from_environment(keys.as_deref())?, None),
    };
    if let Some(level) = serve.log_level {
        loaded.snapshot.settings.log.level = level.into();
    }
    let settings = &loaded.snapshot.settings;
    let or = |own: Vec<SocketAddr>, file: &[SocketAddr]| {
        if own.is_empty() { file.to_vec() } else { own }
    };
    let plan = Plan {
        listen: or(serve.listen, &settings.listen),
        admin: or(serve.admin, &settings.admin),
        state_dir: serve.state_dir.or_else(|| settings.state_dir.clone()),
        files,
        awaits,
        may_quit: serve.quit,
        linger: Linger::of(serve.drain, serve.drain_idle),
        access_log: true,
        loaded,
    };
    match loop_through(&plan) {
        None => Ok(plan),
        Some(id) => Err(format!(
            "deployment `{id}` points at this very sidecar, and its calls would go round for ever; \
             mend its api_base, or the variable (such as OPENAI_BASE_URL) that names its address"
        )),
    }
}

/// A deployment whose address is the sidecar's own, as happens where the application's
/// `OPENAI_BASE_URL` is also set for the sidecar.
fn loop_through(plan: &Plan) -> Option<&str> {
    let own = |host: &str, port: u16| {
        let local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
        local && plan.listen.iter().any(|address| address.port() == port)
    };
    plan.loaded.snapshot.deployments.iter().find_map(|deployment| {
        let (host, port) = (deployment.base.host()?, deployment.base.port_u16()?);
        own(host, port).then_some(&*deployment.id)
    })
}

impl Plan {
    /// A plan without files.
    pub(super) fn plain(loaded: Loaded, listen: Vec<SocketAddr>, admin: Vec<SocketAddr>) -> Self {
        Self {
            loaded,
            listen,
            admin,
            state_dir: None,
            files: None,
            awaits: None,
            may_quit: false,
            linger: None,
            access_log: false,
        }
    }

    /// Says when everybody who reaches an address may ask.
    pub(super) fn warn_of_open_door(&self) {
        let open = self.listen.iter().find(|address| !address.ip().is_loopback());
        if let (Some(address), None) = (open, &self.loaded.snapshot.master_key) {
            warn!(%address, "anybody who reaches this address may use every key: set general_settings.master_key or listen on loopback");
        }
    }
}

const NOTHING_TO_SERVE: &str = "nothing to serve: give a LiteLLM configuration with `pillion serve -c config.yaml`, \
or set a provider's key such as OPENAI_API_KEY; `pillion demo` needs neither";
