//! Wires the parts together: start, reload, drain, stop. The one place where all of them are
//! named, and where long work is spawned and joined.

mod ask;
mod door;
mod fleet;
mod gossip;
mod inject;
mod plan;
mod probe;
mod report;
mod signals;
mod stop;
mod wait;
mod webhook;

use std::collections::HashMap;
use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Request;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::admit::{Keyring, Pages};
use crate::cli::{self, Cli, Command};
use crate::config::{self, Files, Problem, Snapshot};
use crate::exchange::{Gateway, Limits, Live};
use crate::lexicon::time;
use crate::listen::Stop;
use crate::stats::{self, StatsTable};
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::meters::Named;
use crate::upstream::{self, Client, Connections};
use crate::{demo, exchange, listen, logs};
use gossip::Shared;

use door::Door;
use plan::Plan;
use signals::Signals;
use stop::Linger;

/// Runs a command to its end.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Check(check) => self::check(&check),
        Command::Demo(demo) => with_runtime(run_demo(demo)),
        Command::Explain(explain) => self::explain(&explain),
        Command::Fleet(asked) => with_runtime(fleet::run(asked)),
        Command::Inject(asked) => inject::run(&asked),
        Command::Report(asked) => with_runtime(report::run(asked)),
        Command::Serve(serve) => with_runtime(run_serve(serve)),
        Command::Sleep(asked) => with_runtime(wait::sleep(asked)),
        Command::WaitReady(asked) => with_runtime(wait::ready(asked)),
        Command::Webhook(asked) => with_runtime(webhook::run(asked)),
    }
}

/// One thread for all requests: a second one costs a tenth of CPU per call and a sidecar has
/// little to share. Blocking work (files, names) has threads of its own.
///
/// Timers and sockets have their turn after so few tasks that a provider that floods one of them
/// holds up the others by no more than milliseconds.
fn with_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().event_interval(16).enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            runtime.shutdown_background();
            code
        }
        Err(error) => complain(&format!("cannot start: {error}")),
    }
}

fn complain(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "pillion: {message}");
    ExitCode::from(1)
}

fn print(text: &str) {
    // A closed pipe is the reader's wish, not an error.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn check(check: &cli::Check) -> ExitCode {
    let environment = config::process_environment;
    let mut code = 0;
    for file in &check.files {
        let problems = config::check(file, &environment);
        let format = match check.format {
            cli::Format::Json => config::report::Format::Json,
            cli::Format::Text => config::report::Format::text(&environment),
        };
        print(&config::report::render(&problems, format));
        code = code.max(config::report::exit_code(&problems));
    }
    ExitCode::from(code)
}

/// What a request would meet if the sidecar had just begun.
fn explain(explain: &cli::Explain) -> ExitCode {
    let file = &explain.config;
    let loaded = match config::load(&file.clone().into(), &config::process_environment) {
        Ok(loaded) => loaded,
        Err(problems) => return complain(&listed(&file.display().to_string(), &problems)),
    };
    let now = time::now();
    let live =
        live(loaded.snapshot, Place::default(), &StatsTable::new(now), &Telemetry::new(None));
    let Some(explained) = live.explain(&explain.model, &explain.tags, now) else {
        let names = live.routes.listed().join(", ");
        return complain(&format!(
            "there is no model `{}` here; there are: {names}",
            explain.model
        ));
    };
    print(&match explain.format {
        cli::Format::Json => format!("{explained:#}\n"),
        cli::Format::Text => exchange::explain::as_table(&explained),
    });
    ExitCode::SUCCESS
}

async fn run_serve(serve: cli::Serve) -> ExitCode {
    let plan = match plan::plan(serve) {
        Ok(plan) => plan,
        Err(message) => return complain(&message),
    };
    logs::start(&plan.loaded.snapshot.settings.log);
    for problem in &plan.loaded.warnings {
        warn_of(problem);
    }
    if let Some(why) = &plan.awaits {
        warn!(error = %why, "waiting for a configuration that can be served");
    }
    plan.warn_of_open_door();
    match Sidecar::start(plan).await {
        Ok(sidecar) => sidecar.run().await,
        Err(message) => complain(&message),
    }
}

fn listed(file: &str, problems: &[Problem]) -> String {
    let report = config::report::render(problems, config::report::Format::Plain);
    format!("{file} cannot be served\n{report}")
}

fn warn_of(problem: &Problem) {
    let hint = problem.hint.as_deref().unwrap_or("");
    if problem.is_error() {
        error!(place = %problem.place(), hint, "{}", problem.what);
    } else {
        warn!(place = %problem.place(), hint, "{}", problem.what);
    }
}

async fn run_demo(demo: cli::Demo) -> ExitCode {
    logs::start(&config::Log { level: "warn".into(), format: config::LogFormat::Text });
    let upstreams = match demo::bind().await {
        Ok(upstreams) => upstreams,
        Err(error) => return complain(&format!("cannot bind the simulated providers: {error}")),
    };
    let places: Vec<_> = upstreams
        .iter()
        .filter_map(|(character, listener)| Some((*character, listener.local_addr().ok()?)))
        .collect();
    let text = demo::configuration(&places);
    let loaded = match config::load_text(&text, "demo", &|_| None) {
        Ok(loaded) => loaded,
        Err(problems) => return complain(&listed("the demo", &problems)),
    };
    let plan = Plan::plain(loaded, vec![demo.listen], vec![demo.admin]);
    match Sidecar::start(plan).await {
        Err(message) => complain(&message),
        Ok(mut sidecar) => {
            let stop = sidecar.stop.subscribe();
            for (character, listener) in upstreams {
                let answer = move |request| demo::answer(character, request);
                let settings = listen::Settings::default();
                let served =
                    listen::run(vec![listener], settings, answer, stop.clone(), Duration::ZERO);
                sidecar.work.spawn(async move {
                    served.await;
                });
            }
            print(&demo::welcome(demo.listen, demo.admin));
            sidecar.run().await
        }
    }
}

/// A running sidecar.
struct Sidecar {
    gateway: Arc<Gateway>,
    control: Arc<Control>,
    api: Vec<TcpListener>,
    door: Option<Door>,
    stop: watch::Sender<Stop>,
    /// Long work that ends by itself when a stop is asked for.
    work: JoinSet<()>,
    /// The gossip, and how it is told to end.
    plane: JoinSet<()>,
    quiet: watch::Sender<bool>,
    access_log: Option<Arc<AccessLog>>,
    listen: listen::Settings,
    /// How it goes on after a signal before it drains.
    linger: Option<Linger>,
    drain: Duration,
}

/// What the admin listener and the watcher share with the gateway.
struct Control {
    gateway: Arc<Gateway>,
    telemetry: Arc<Telemetry>,
    stats: StatsTable,
    connections: Connections,
    status: watch::Receiver<config::watch::Status>,
    /// What is shared with other sidecars; `None` where nothing is.
    gossip: Option<Shared>,
    /// Which pages may ask at the admin port.
    pages: ArcSwap<Pages>,
    is_loopback: IsLoopback,
    draining: AtomicBool,
}

/// Whether nobody but this machine reaches a port.
#[derive(Debug, Clone, Copy)]
struct IsLoopback {
    admin: bool,
    api: bool,
}

impl Sidecar {
    async fn start(plan: Plan) -> Result<Self, String> {
        let api = bind(&plan.listen).await?;
        let admin = bind(&plan.admin).await?;
        let access_log = plan.access_log.then(|| Arc::new(AccessLog::default()));
        let telemetry = Arc::new(Telemetry::new(access_log.clone()));
        let connections = Connections::default();
        let stats = StatsTable::new(time::now());
        let begun = match plan.awaits.clone() {
            Some(why) => config::watch::Status::awaiting(why),
            None => config::watch::Status::of(&plan.loaded),
        };
        let (report, known) = watch::channel(begun);
        let settings = plan.loaded.snapshot.settings.clone();
        let gossip = settings.gossip.as_ref();
        let gossip = gossip.map(|gossip| Shared::new(gossip, plan.state_dir.as_deref()));
        let cluster = gossip.as_ref().map(|shared| &*shared.cluster);
        let door = Door::of(&plan, known.clone());
        let is_loopback = IsLoopback { api: is_loopback(&api), admin: is_loopback(&admin) };
        let here = Place { cluster, is_loopback: is_loopback.api };
        let live = live(plan.loaded.snapshot, here, &stats, &telemetry);
        let client = Client::new(&upstream::Settings::default(), connections.clone());
        let gateway = Arc::new(Gateway::new(live, client.clone(), telemetry.clone()));
        let control = Arc::new(Control {
            gateway: gateway.clone(),
            telemetry,
            stats,
            connections,
            status: known,
            gossip,
            pages: ArcSwap::from_pointee(pages(&settings, is_loopback.admin)),
            is_loopback,
            draining: AtomicBool::new(false),
        });
        let (stop, _) = watch::channel(Stop::Not);
        let mut work = JoinSet::new();
        let upkeep = control.clone();
        work.spawn(async move { upkeep.telemetry.upkeep().await });
        let learner = control.clone();
        work.spawn(async move { learner.stats.learn().await });
        work.spawn(client.prune());
        let (quiet, silence) = watch::channel(false);
        let mut plane = JoinSet::new();
        if control.gossip.is_some() {
            plane.spawn(gossip::keep_running(control.clone(), silence));
        }
        let admin_addresses: Vec<_> = admin.iter().map(TcpListener::local_addr).collect();
        work.spawn(serve_admin(admin, control.clone()));
        if let Some(files) = plan.files {
            work.spawn(follow(files, plan.state_dir, control.clone(), report));
        }
        for listener in &api {
            if let Ok(address) = listener.local_addr() {
                info!(%address, "serving the LLM API");
            }
        }
        for address in admin_addresses.into_iter().flatten() {
            info!(%address, "serving health and metrics");
        }
        let listen = listen::Settings {
            head_timeout: settings.limits.head_timeout,
            max_headers: settings.limits.max_headers,
            ..listen::Settings::default()
        };
        let drain = settings.drain_timeout;
        let linger = plan.linger;
        Ok(Self {
            gateway,
            control,
            api,
            door,
            stop,
            work,
            plane,
            quiet,
            access_log,
            listen,
            linger,
            drain,
        })
    }

    /// Serves until a signal, then drains. A second signal ends at once.
    async fn run(mut self) -> ExitCode {
        let Ok(mut signals) = Signals::new() else {
            return complain("cannot listen for signals");
        };
        let (written, log_stop) = watch::channel(false);
        let mut writer = JoinSet::new();
        if let Some(log) = self.access_log.take() {
            let stop = wait(log_stop);
            writer.spawn(log.run(Box::new(std::io::stdout()), stop));
        }
        let quit = self.door.as_ref().and_then(Door::knocked);
        let served = serve_api(
            self.gateway.clone(),
            self.door,
            self.api,
            self.listen,
            self.stop.subscribe(),
            self.drain,
        );
        let mut served = std::pin::pin!(served);
        tokio::select! {
            _ = &mut served => return complain("the listener ended by itself"),
            () = signals.next() => {}
            () = door::quit(quit) => info!("asked to end"),
        }
        self.control.draining.store(true, Ordering::Relaxed);
        let left = match self.linger {
            Some(linger) => linger.out(served.as_mut(), &self.stop, &mut signals).await,
            None => None,
        };
        // Others are told at once: what runs here still ends, and nothing new begins.
        let _ = self.quiet.send(true);
        let (cut, code) = match left {
            Some(cut) => (cut, ExitCode::SUCCESS),
            None => stop::finish(served.as_mut(), &self.stop, &mut signals, self.drain).await,
        };
        if cut > 0 {
            warn!(connections = cut, "connections were cut before their requests were over");
        }
        let _ = written.send(true);
        let flushed = async {
            while writer.join_next().await.is_some() {}
            while self.plane.join_next().await.is_some() {}
        };
        let _ = tokio::time::timeout(LAST_LINES, flushed).await;
        self.work.shutdown().await;
        info!("stopped");
        code
    }
}

/// Serves the LLM API. Where nothing stands before it, nothing is asked on the way.
async fn serve_api(
    gateway: Arc<Gateway>,
    door: Option<Door>,
    api: Vec<TcpListener>,
    settings: listen::Settings,
    stop: watch::Receiver<Stop>,
    drain: Duration,
) -> usize {
    match door {
        None => {
            let answer = move |request| gateway.clone().serve(request);
            listen::run(api, settings, answer, stop, drain).await
        }
        Some(door) => {
            let answer = move |request| door.clone().answer(gateway.clone(), request);
            Box::pin(listen::run(api, settings, answer, stop, drain)).await
        }
    }
}

/// How long the access log may take to write its last lines, and the gossip to say goodbye.
const LAST_LINES: Duration = Duration::from_secs(2);

async fn wait(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await;
}

/// Binds every address. Loopback of a family that the machine does not have is passed over,
/// while another address is bound.
async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, String> {
    let mut bound = Vec::new();
    let mut failed = None;
    for &address in addresses {
        match listen::bind(address).await {
            Ok(listener) => bound.push(listener),
            // A machine without IPv6 has all its addresses in the other family.
            Err(error)
                if address.is_ipv6()
                    && address.ip().is_unspecified()
                    && error.kind() != std::io::ErrorKind::AddrInUse =>
            {
                let instead = SocketAddr::from(([0, 0, 0, 0], address.port()));
                let listener = listen::bind(instead).await;
                bound.push(
                    listener.map_err(|error| format!("cannot listen on {instead}: {error}"))?,
                );
            }
            Err(error) => {
                let spare = address.is_ipv6() && address.ip().is_loopback();
                if !spare || error.kind() == std::io::ErrorKind::AddrInUse {
                    return Err(format!("cannot listen on {address}: {error}"));
                }
                failed = Some(format!("cannot listen on {address}: {error}"));
            }
        }
    }
    if bound.is_empty() {
        Err(failed.unwrap_or_else(|| "no address to listen on".to_owned()))
    } else {
        Ok(bound)
    }
}

/// Where a snapshot is served: what it does not say itself.
#[derive(Debug, Clone, Copy, Default)]
struct Place<'a> {
    /// The cluster of the gossip, if there is any.
    cluster: Option<&'a str>,
    /// Whether nobody but this machine reaches the LLM API.
    is_loopback: bool,
}

/// A snapshot as requests see it, its rows beside it and its series made.
fn live(snapshot: Snapshot, place: Place<'_>, stats: &StatsTable, telemetry: &Telemetry) -> Live {
    let named: Vec<Named<'_>> = snapshot
        .deployments
        .iter()
        .map(|deployment| Named { id: &deployment.id, group: &deployment.group })
        .collect();
    telemetry.publish(&named);
    let members = snapshot.routes.groups().iter().flat_map(|group| &group.members);
    let members: HashMap<_, _> = members.map(|member| (member.deployment.at(), member)).collect();
    let named = snapshot.deployments.iter().enumerate().map(|(at, deployment)| {
        let member = members.get(&at);
        stats::Named {
            id: &deployment.id,
            group: &deployment.group,
            provider: deployment.vendor.prefix,
            budget_period: member.and_then(|it| Some(it.budget?.period)),
            provider_budget_period: member.and_then(|it| Some(it.provider_budget?.period)),
            tie: member.zip(place.cluster).and_then(|(it, cluster)| {
                Some(gossip::tie(deployment.fingerprint(cluster)?, it, &snapshot.routes))
            }),
        }
    });
    let rows = stats.rows(named, time::now());
    let limits = &snapshot.settings.limits;
    let limits = Limits {
        max_body_bytes: limits.max_body_bytes as u64,
        body_timeout: limits.body_timeout,
        max_head_bytes: limits.max_header_bytes,
        max_parallel_requests: limits.max_parallel_requests,
        max_buffered_bytes: limits.max_buffered_bytes,
        max_queued_requests: limits.max_queued_requests,
        queue_timeout: limits.queue_timeout,
        ..Limits::default()
    };
    let keyring = Keyring::new(snapshot.master_key.as_ref());
    let hedges = stats.hedges(snapshot.routes.groups().iter().map(|group| &*group.name));
    // Whoever is asked for a key cannot be led here without one.
    let is_open = snapshot.master_key.is_none();
    let pages = pages(&snapshot.settings, place.is_loopback && is_open);
    Live::new(snapshot.routes, snapshot.deployments, snapshot.prices, rows, keyring, limits)
        .with_hedges(hedges)
        .with_pages(pages)
}

/// Which pages may ask at a port: all, but where it is guarded.
fn pages(settings: &config::Settings, is_guarded: bool) -> Pages {
    if is_guarded { Pages::of(&settings.allowed_hosts) } else { Pages::all() }
}

/// Whether nobody but this machine reaches what is bound.
fn is_loopback(bound: &[TcpListener]) -> bool {
    bound.iter().all(|it| it.local_addr().is_ok_and(|address| address.ip().is_loopback()))
}

/// Takes up changes of the file while the sidecar runs.
async fn follow(
    files: Files,
    state_dir: Option<PathBuf>,
    control: Arc<Control>,
    status: watch::Sender<config::watch::Status>,
) {
    let load: config::watch::Load =
        Arc::new(|files| config::load(files, &plan::environment(files)));
    let watch = config::watch::Watch { state_dir, ..config::watch::Watch::new(files, load) };
    config::watch::run(watch, status, |loaded| {
        for problem in &loaded.warnings {
            warn_of(problem);
        }
        let settings = &loaded.snapshot.settings;
        control.pages.store(Arc::new(pages(settings, control.is_loopback.admin)));
        let cluster = control.gossip.as_ref().map(|shared| &*shared.cluster);
        let place = Place { cluster, is_loopback: control.is_loopback.api };
        control.gateway.publish(live(loaded.snapshot, place, &control.stats, &control.telemetry));
    })
    .await;
}

async fn serve_admin(listeners: Vec<TcpListener>, control: Arc<Control>) {
    let answer = move |request: Request<Incoming>| {
        let control = control.clone();
        async move { probe::answer(&request, &control) }
    };
    // Probes and scrapes go on while requests drain, so this ends only with the process.
    let (_open, never) = watch::channel(Stop::Not);
    listen::run(listeners, listen::Settings::default(), answer, never, Duration::ZERO).await;
}
