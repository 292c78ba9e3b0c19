//! Gossip, wired: what its plane is told at the start, what it asks the sidecar, what ties a
//! deployment to that of others, and how all of it is shown.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use super::Control;
use crate::config::Gossip;
use crate::gossip::plane::{Host, Plan, Plane, Seen};
use crate::gossip::state::Place;
use crate::gossip::{Card, Health, MemberSeen, Refused, Settings};
use crate::lexicon::count::whole;
use crate::lexicon::{Fingerprint, time};
use crate::provider::Deployment;
use crate::routing::cooldown::Rule;
use crate::routing::fleet::{By, Cooldown, FleetView, Known, Limits, Why, Witness};
use crate::routing::{Group, Member, RouteTable};
use crate::stats::fleet::Tie;
use crate::telemetry;

/// The gossip of a sidecar that takes part.
#[derive(Debug)]
pub(super) struct Shared {
    /// The plane, which may not run yet.
    pub(super) plane: Plane,
    /// The name of the cluster, which goes into fingerprints.
    pub(super) cluster: Box<str>,
    zone: Box<str>,
}

impl Shared {
    /// By what the configuration says.
    pub(super) fn new(gossip: &Gossip, state_dir: Option<&Path>) -> Self {
        let node = Settings {
            cluster: gossip.cluster.clone(),
            namespace: gossip.namespace.clone(),
            interval: gossip.interval,
            ..Settings::default()
        };
        let state = state_dir.map(|folder| Place {
            folder: folder.to_owned(),
            cluster: gossip.cluster.clone(),
            namespace: gossip.namespace.clone(),
        });
        let seeds = gossip.seeds.iter().map(|seed| (seed.host.clone(), seed.port));
        let plane = Plane::new(Plan {
            node,
            listen: gossip.listen,
            advertise: gossip.advertise,
            seeds: seeds.collect(),
            discovery_interval: gossip.discovery_interval,
            key_file: gossip.key_file.clone(),
            state,
        });
        Self { plane, cluster: gossip.cluster.clone(), zone: gossip.zone.clone() }
    }
}

/// What ties a deployment to the same one of other sidecars.
pub(super) fn tie(of: Fingerprint, member: &Member, routes: &RouteTable) -> Tie {
    let has = |group: &&Group| group.members.iter().any(|it| it.deployment == member.deployment);
    let group = routes.groups().iter().find(has);
    let limited = group.is_some_and(|group| routes.settings().minds_limits(&group.strategy));
    let kept = |limit: Option<f64>| limit.filter(|_| limited).map(whole);
    Tie {
        of,
        limits: Limits { requests: kept(member.rpm), tokens: kept(member.tpm) },
        has_budget: member.budget.is_some() || member.provider_budget.is_some(),
        rule: group.filter(|group| group.cools()).map_or(Rule::None, |group| group.cooldown),
    }
}

impl Host for Control {
    fn witness(&self, now: Instant) -> Vec<Witness> {
        self.stats.witness(now)
    }

    fn advise(&self, view: Arc<FleetView>, now: Instant) {
        self.stats.advise(view, now);
    }

    fn card(&self) -> Card {
        let status = self.status.borrow();
        Card {
            version: env!("CARGO_PKG_VERSION").into(),
            zone: self.gossip.as_ref().map(|shared| shared.zone.clone()).unwrap_or_default(),
            generation: status.loaded_generation,
            hash: short(&status.loaded_hash),
        }
    }
}

/// The first eight bytes of a hash in hex; fewer where it has fewer.
fn short(hex: &str) -> [u8; 8] {
    let mut bytes = [0; 8];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let digits = hex.get(2 * at..2 * at + 2);
        *byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok()).unwrap_or_default();
    }
    bytes
}

/// How long until a plane that has died begins again: the first time, and at most.
const REVIVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Who has lived for so long may begin again soon.
const HEALTHY: Duration = Duration::from_secs(300);

/// Runs the plane until `stop` says so. Where it dies it begins again with what it knew; requests
/// go on by what this sidecar sees itself.
pub(super) async fn keep_running(control: Arc<Control>, stop: watch::Receiver<bool>) {
    let live = |stopped| {
        let host = control.clone();
        async move {
            if let Some(shared) = &host.gossip {
                shared.plane.run(&*host, stopped).await;
            }
        }
    };
    revive(live, stop).await;
}

/// Lets something live until `stop` says so, again and again where it dies of itself.
async fn revive<F>(live: impl Fn(watch::Receiver<bool>) -> F, mut stop: watch::Receiver<bool>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (least, most) = REVIVAL;
    let mut pause = least;
    loop {
        let began = time::now();
        let mut work = JoinSet::new();
        work.spawn(live(stop.clone()));
        let ended = work.join_next().await;
        if *stop.borrow() {
            return;
        }
        if time::now().saturating_duration_since(began) >= HEALTHY {
            pause = least;
        }
        let why = ended.and_then(Result::err).map(|why| why.to_string());
        error!(
            error = why,
            seconds = pause.as_secs(),
            "gossip has ended by itself and begins again"
        );
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        pause = (pause * 2).min(most);
    }
}

/// What a scrape tells of it.
pub(super) fn scraped(
    shared: &Shared,
    deployments: &[Deployment],
    now: Instant,
) -> Option<telemetry::Gossip> {
    let seen = shared.plane.seen()?;
    let counts = &seen.counts;
    let refused = Refused::ALL.iter().map(|why| why.name()).zip(counts.refused);
    let unsent = ("unsent", counts.unsent + seen.unsent);
    let weights = deployments.iter().filter_map(|deployment| {
        let known = seen.view.deployments.get(&deployment.fingerprint(&shared.cluster)?)?;
        Some((deployment.id.clone(), weight(known, now)))
    });
    let since = now.saturating_duration_since(seen.as_of);
    Some(telemetry::Gossip {
        members: seen.view.members,
        heard: last_heard(&seen).map(|ago| ago + since),
        received: (counts.datagrams_in, counts.bytes_in),
        sent: (counts.datagrams_out, counts.bytes_out),
        dropped: refused.chain([unsent]).collect(),
        records_dropped: counts.records_dropped + counts.rumors_dropped,
        weights: weights.collect(),
    })
}

fn last_heard(seen: &Seen) -> Option<Duration> {
    seen.members.iter().filter(|member| !member.is_me).filter_map(|member| member.heard).min()
}

/// How many recent answers the fleet's word stands for.
fn weight(known: &Known, now: Instant) -> f64 {
    known.models.iter().flatten().map(|model| f64::from(model.outlook(now).samples)).sum()
}

/// What the admin port tells of it.
pub(super) fn told(control: &Control, now: Instant) -> Value {
    let Some(shared) = &control.gossip else {
        return json!({ "gossip": "off", "members": [], "deployments": [] });
    };
    let Some(seen) = shared.plane.seen() else {
        // What it waits for, the log says: a key, an address or a seed.
        return json!({ "gossip": "starting", "members": [], "deployments": [] });
    };
    let live = control.gateway.live();
    let deployments = live.deployments.iter().filter_map(|deployment| {
        let of = deployment.fingerprint(&shared.cluster)?;
        let known = seen.view.deployments.get(&of)?;
        Some(of_deployment(&deployment.id, of, known, now))
    });
    json!({
        "gossip": "on",
        "address": seen.me.address.to_string(),
        "boot": seen.me.boot.to_string(),
        "cluster": &*shared.cluster,
        "age_seconds": seconds(now.saturating_duration_since(seen.as_of)),
        "heard_seconds": last_heard(&seen).map(seconds),
        "seeds": seen.seeds,
        "sending_key": seen.sending_key,
        "members": seen.members.iter().map(of_member).collect::<Vec<_>>(),
        "deployments": deployments.collect::<Vec<_>>(),
    })
}

fn of_member(member: &MemberSeen) -> Value {
    let card = member.card.as_ref();
    json!({
        "is_me": member.is_me,
        "address": member.address.to_string(),
        "boot": member.boot.to_string(),
        "health": match member.health {
            Health::Alive => "alive",
            Health::Down => "down",
            Health::Suspect => "suspect",
        },
        "zone": card.map(|card| &*card.zone),
        "version": card.map(|card| &*card.version),
        "generation": card.map(|card| card.generation),
        "hash": card.map(|card| Fingerprint(card.hash).to_string()),
        "keys": &*member.keys,
        "heard_seconds": member.heard.map(seconds),
        "believes": member.mood.map(|mood| json!({
            "members": mood.members,
            "paused": mood.paused,
            "cooldowns": format!("{:016x}", mood.table),
        })),
    })
}

fn of_deployment(id: &str, of: Fingerprint, known: &Known, now: Instant) -> Value {
    let others = known.others.map(|others| {
        json!({
            "requests": others.used.requests,
            "tokens": others.used.tokens,
            "requests_per_second": rounded(others.requests_per_second),
            "tokens_per_second": rounded(others.tokens_per_second),
            "age_seconds": seconds(now.saturating_duration_since(others.as_of)),
            "sharers": others.sharers,
        })
    });
    json!({
        "deployment": id,
        "fingerprint": of.to_string(),
        "in_flight": rounded(known.in_flight),
        "weight": rounded(weight(known, now)),
        "heard_seconds": known.heard.map(|then| seconds(now.saturating_duration_since(then))),
        "cooldown": known.cooldown.map(|cooldown| of_cooldown(&cooldown, now)),
        "may_probe": known.may_probe,
        "others": others,
        "quota_left": known.quota.map(|quota| f64::from(quota.left) / 1_000.0),
    })
}

fn of_cooldown(cooldown: &Cooldown, now: Instant) -> Value {
    let left = cooldown.until.map(|until| seconds(until.saturating_duration_since(now)));
    json!({
        "epoch": cooldown.epoch,
        "seconds": left,
        "why": match cooldown.why {
            Why::Account => "account",
            Why::Limit => "limit",
            Why::Trouble => "trouble",
        },
        "by": match cooldown.by {
            By::Many => "many",
            By::One => "one",
        },
    })
}

fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64())
}

fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// A sidecar over which the plane dies when it first asks what was seen.
    #[derive(Default)]
    struct Deadly {
        asked: AtomicU32,
        advised: Notify,
    }

    impl Host for Deadly {
        fn witness(&self, _now: Instant) -> Vec<Witness> {
            assert!(self.asked.fetch_add(1, Ordering::Relaxed) > 0, "this is to be survived");
            Vec::new()
        }

        fn advise(&self, _view: Arc<FleetView>, _now: Instant) {
            self.advised.notify_one();
        }

        fn card(&self) -> Card {
            Card::default()
        }
    }

    fn plane(keys: &Path) -> Plane {
        let listen = "127.0.0.1:0".parse().unwrap();
        Plane::new(Plan {
            node: Settings::default(),
            listen,
            advertise: None,
            seeds: Vec::new(),
            discovery_interval: Duration::from_secs(60),
            key_file: keys.to_owned(),
            state: None,
        })
    }

    #[tokio::test]
    async fn a_plane_that_dies_begins_again_and_ends_when_it_shall() {
        let keys = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&keys, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
        let (plane, host) = (Arc::new(plane(keys.path())), Arc::new(Deadly::default()));
        let (stop, stopped) = watch::channel(false);
        let live = |stopped| {
            let (plane, host) = (plane.clone(), host.clone());
            async move { plane.run(&*host, stopped).await }
        };
        let advised = async {
            host.advised.notified().await;
            let _ = stop.send(true);
        };
        let both = async { tokio::join!(revive(live, stopped), advised) };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("it lives and ends");
        assert!(host.asked.load(Ordering::Relaxed) > 1);
        assert!(plane.seen().is_some());
    }

    #[test]
    fn a_hash_is_cut_to_eight_bytes_and_nonsense_is_zeros() {
        assert_eq!(short("0123456789abcdef0123"), [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        assert_eq!(short("ff"), [0xff, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(short("é!"), [0; 8]);
    }
}
