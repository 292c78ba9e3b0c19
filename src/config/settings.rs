//! What the sidecar itself is told: addresses, limits, logs, and how it stops.
//!
//! From the section `pillion`, which LiteLLM ignores, and from what `general_settings` says about
//! the same. Every default is written at its field. A wrong value refuses the file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::cursor::Cursor;
use super::fields;
use super::gossip::{self, Gossip};
use super::known::Section;
use super::known::Standing::Acted;
use crate::lexicon::Secret;
use crate::provider::Environment;

/// `pillion`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `listen`: where the LLM API is served; `127.0.0.1:24080` and `[::1]:24080` by default.
    pub listen: Vec<SocketAddr>,
    /// `admin`: where health, metrics and the dashboard are served; `127.0.0.1:24081` and
    /// `[::1]:24081` by default.
    pub admin: Vec<SocketAddr>,
    /// `allowed_hosts`: names besides its own by which a sidecar on loopback is asked, and whose
    /// pages may ask it; none by default.
    pub allowed_hosts: Vec<Box<str>>,
    /// `state_dir`: where the last good configuration is kept; nowhere by default.
    pub state_dir: Option<PathBuf>,
    /// `shutdown.drain_timeout`: how long requests may go on after a stop is asked for; 600 s by
    /// default, as long as LiteLLM lets one try take. The pod's grace period ends it earlier.
    pub drain_timeout: Duration,
    /// `gossip`; `None`, the default, shares nothing.
    pub gossip: Option<Gossip>,
    /// `limits`.
    pub limits: Limits,
    /// `log`.
    pub log: Log,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: loopback(24080),
            admin: loopback(24081),
            allowed_hosts: Vec::new(),
            state_dir: None,
            drain_timeout: Duration::from_secs(600),
            gossip: None,
            limits: Limits::default(),
            log: Log::default(),
        }
    }
}

/// `pillion.limits`: what one caller may ask of the sidecar's memory and patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `general_settings.max_request_size_mb`, else `max_body_bytes`; 32 MiB by default.
    pub max_body_bytes: usize,
    /// `max_header_bytes` of one request; 64 KiB by default, and never less than 8 KiB.
    pub max_header_bytes: usize,
    /// `max_headers` of one request; 100 by default, for which none of them needs the heap.
    pub max_headers: usize,
    /// `head_timeout`: how long the head of a request may take, and how long an idle connection
    /// is kept; 60 s by default.
    pub head_timeout: Duration,
    /// `body_timeout`: how long the body of a request may take; 60 s by default.
    pub body_timeout: Duration,
    /// `max_parallel_requests`, else `general_settings.global_max_parallel_requests`: how many
    /// requests are served at once; as many as come by default.
    pub max_parallel_requests: Option<u32>,
    /// `max_buffered_bytes`: how much memory bodies may take before further requests are turned
    /// away; 256 MiB by default, and never less than one body may have.
    pub max_buffered_bytes: u64,
    /// `max_queued_requests`: how many requests wait where all deployments of a model group are at
    /// their `max_parallel_requests`; 100 by default, and 0 is none.
    pub max_queued_requests: u32,
    /// `queue_timeout`: how long each of them waits; 10 s by default, and 0 is not at all.
    pub queue_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 32 << 20,
            max_header_bytes: 64 << 10,
            max_headers: 100,
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            max_parallel_requests: None,
            max_buffered_bytes: 256 << 20,
            max_queued_requests: 100,
            queue_timeout: Duration::from_secs(10),
        }
    }
}

/// `pillion.log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `level`: `error`, `warn`, `info`, `debug` or `trace`; `info` by default.
    pub level: Box<str>,
    /// `format`; JSON by default.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Json }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

static SHUTDOWN: Section = Section(&[("drain_timeout", Acted)]);

static LIMITS: Section = Section(&[
    ("body_timeout", Acted),
    ("head_timeout", Acted),
    ("max_body_bytes", Acted),
    ("max_buffered_bytes", Acted),
    ("max_header_bytes", Acted),
    ("max_headers", Acted),
    ("max_parallel_requests", Acted),
    ("max_queued_requests", Acted),
    ("queue_timeout", Acted),
]);

static LOG: Section = Section(&[("format", Acted), ("level", Acted)]);

/// Reads `pillion`, and of `general_settings` what limits the sidecar.
pub(super) fn read(
    pillion: &Cursor<'_>,
    general: &Cursor<'_>,
    environment: Environment<'_>,
) -> Settings {
    let usual = Settings::default();
    let shutdown = pillion.get("shutdown");
    fields::check(&shutdown, &SHUTDOWN);
    // It has done its work where files are joined; here it is only told when it is wrong.
    let _ = pillion.get("locked").texts();
    Settings {
        listen: addresses(&pillion.get("listen")).unwrap_or(usual.listen),
        admin: addresses(&pillion.get("admin")).unwrap_or(usual.admin),
        allowed_hosts: hosts(&pillion.get("allowed_hosts")),
        state_dir: pillion.get("state_dir").full_text().map(|path| PathBuf::from(&*path)),
        drain_timeout: shutdown.get("drain_timeout").duration().unwrap_or(usual.drain_timeout),
        gossip: gossip::read(&pillion.get("gossip"), environment),
        limits: limits(&pillion.get("limits"), general),
        log: log(&pillion.get("log")),
    }
}

/// Warns where the LLM API is open to other machines and asks nobody for a key.
pub(super) fn check_open(settings: &Settings, key: Option<&Secret>, pillion: &Cursor<'_>) {
    let beyond = settings.listen.iter().find(|address| !address.ip().is_loopback());
    if let Some(address) = beyond.filter(|_| key.is_none()) {
        let what = format!("{address} is open to other machines and asks nobody for a key");
        let hint = "set `general_settings.master_key`, or listen on 127.0.0.1";
        pillion.get("listen").warn(what, Some(hint.to_owned()));
    }
}

/// `general_settings.master_key`, else the variable `LITELLM_MASTER_KEY`.
pub(super) fn master_key(general: &Cursor<'_>, environment: Environment<'_>) -> Option<Secret> {
    let field = general.get("master_key");
    let own = field.full_text();
    let key = own.or_else(|| {
        environment("LITELLM_MASTER_KEY").filter(|key| !key.is_empty()).map(Into::into)
    });
    if key.is_none() && general.value.get("master_key").is_some() {
        let why = field.missing_variable().map_or_else(
            || "the master key is empty".to_owned(),
            |variable| format!("the variable {variable} is not set"),
        );
        field.warn(format!("{why}: callers are not asked for a key"), None);
    }
    key.map(Secret::new)
}

fn limits(field: &Cursor<'_>, general: &Cursor<'_>) -> Limits {
    fields::check(field, &LIMITS);
    let usual = Limits::default();
    let size = |name: &str| some(&field.get(name), field.get(name).count()).map(|it| it as usize);
    let time = |name: &str| some(&field.get(name), field.get(name).duration());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let megabytes = (general.get("max_request_size_mb").amount())
        .map(|mb| (mb * 1_048_576.0) as usize)
        .filter(|it| *it > 0);
    let own = some(&field.get("max_parallel_requests"), field.get("max_parallel_requests").count());
    let litellms = general.get("global_max_parallel_requests").count().filter(|most| *most > 0);
    let max_body_bytes =
        megabytes.or_else(|| size("max_body_bytes")).unwrap_or(usual.max_body_bytes);
    Limits {
        max_body_bytes,
        max_parallel_requests: own.or(litellms),
        max_buffered_bytes: buffered(&field.get("max_buffered_bytes"), max_body_bytes as u64),
        max_header_bytes: size("max_header_bytes").unwrap_or(usual.max_header_bytes),
        max_headers: size("max_headers").unwrap_or(usual.max_headers),
        head_timeout: time("head_timeout").unwrap_or(usual.head_timeout),
        body_timeout: time("body_timeout").unwrap_or(usual.body_timeout),
        max_queued_requests: (field.get("max_queued_requests").count())
            .unwrap_or(usual.max_queued_requests),
        queue_timeout: bounded(&field.get("queue_timeout")).unwrap_or(usual.queue_timeout),
    }
}

/// The memory for bodies, in which the longest body must have room: it would be turned away for
/// ever.
fn buffered(field: &Cursor<'_>, body: u64) -> u64 {
    let usual = Limits::default().max_buffered_bytes.max(body);
    match field.count().map(u64::from) {
        Some(bytes) if bytes < body => {
            let least = format!("at least the {body} bytes that one body may have");
            let hint = "lower `max_body_bytes`, or `general_settings.max_request_size_mb`";
            field.error(format!("expected {least}"), Some(hint.to_owned()));
            usual
        }
        Some(bytes) => bytes,
        None => usual,
    }
}

/// A wait that ends while somebody may still be there.
fn bounded(field: &Cursor<'_>) -> Option<Duration> {
    let time = field.duration()?;
    if time > HOUR { field.expected("an hour at most", field.value) } else { Some(time) }
}

const HOUR: Duration = Duration::from_secs(3600);

/// A limit that lets something through: with none at all every request would be refused.
fn some<T: Default + PartialEq>(field: &Cursor<'_>, limit: Option<T>) -> Option<T> {
    let limit = limit?;
    if limit == T::default() { field.expected("more than zero", field.value) } else { Some(limit) }
}

fn log(field: &Cursor<'_>) -> Log {
    fields::check(field, &LOG);
    let usual = Log::default();
    let level = field.get("level");
    let format = field.get("format");
    Log {
        level: match level.text().map(|text| text.to_ascii_lowercase()).as_deref() {
            None => usual.level,
            Some(word @ ("error" | "warn" | "info" | "debug" | "trace")) => word.into(),
            Some(_) => {
                let words = "one of error, warn, info, debug, trace";
                level.expected(words, level.value).unwrap_or(usual.level)
            }
        },
        format: match format.text().as_deref() {
            None => usual.format,
            Some("json") => LogFormat::Json,
            Some("text") => LogFormat::Text,
            Some(_) => format.expected("json or text", format.value).unwrap_or(usual.format),
        },
    }
}

fn addresses(field: &Cursor<'_>) -> Option<Vec<SocketAddr>> {
    if field.is_absent() {
        return None;
    }
    let mut addresses = Vec::new();
    for text in field.texts() {
        if let Ok(address) = text.parse() {
            addresses.push(address);
        } else {
            let hint = "an IP address and a port, such as 127.0.0.1:24080 or [::1]:24080";
            field.error(format!("`{text}` is not an address"), Some(hint.to_owned()));
        }
    }
    Some(addresses).filter(|addresses| !addresses.is_empty())
}

/// Names of hosts, without the scheme and the port that one may think of.
fn hosts(field: &Cursor<'_>) -> Vec<Box<str>> {
    let (hosts, others): (Vec<_>, Vec<_>) = field.texts().into_iter().partition(|host| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        **host == *"*" || (!host.is_empty() && host.chars().all(is_part))
    });
    for other in others {
        let hint = "a name without scheme and port, such as llm.example.com, or * for all";
        field.error(format!("`{other}` is not the name of a host"), Some(hint.to_owned()));
    }
    hosts
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
    ]
}
