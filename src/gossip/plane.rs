//! The [`Node`] at work: a socket, timers, the key file, the DNS and the state on disk around it.
//!
//! Promises that nothing waits for it: it reads what the sidecar has seen and publishes what the
//! fleet knows, four times a second, and whoever it cannot reach or understand changes nothing.
//! Datagrams are read up to a bound; what comes beyond it waits in the kernel's buffer and is
//! dropped there.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::discovery::Discovery;
use super::key_file::{self, NoKeys};
use super::seal::MTU;
use super::socket::{Socket, towards};
use super::state::Place;
use super::{Card, Counts, Identity, Keys, MemberSeen, Node, Settings, Start};
use crate::lexicon::time;
use crate::routing::fleet::{FleetView, Witness};

/// What the plane is told at its start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the node is told.
    pub node: Settings,
    /// The UDP address.
    pub listen: SocketAddr,
    /// The address by which others reach it; `None` is found out.
    pub advertise: Option<SocketAddr>,
    /// Hosts and ports of seeds.
    pub seeds: Vec<(Box<str>, u16)>,
    /// How often their names are looked up.
    pub discovery_interval: Duration,
    /// The file with the keys.
    pub key_file: PathBuf,
    /// Where its state is kept, if anywhere.
    pub state: Option<Place>,
}

/// The sidecar as the plane needs it.
pub trait Host: Send + Sync {
    /// What was seen since the last time.
    fn witness(&self, now: Instant) -> Vec<Witness>;
    /// Takes in what the fleet knows.
    fn advise(&self, view: Arc<FleetView>, now: Instant);
    /// What it says of itself.
    fn card(&self) -> Card;
}

/// What can be seen of the plane from outside.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When that was.
    pub as_of: Instant,
    /// Who it is.
    pub me: Identity,
    /// Who there is, itself included.
    pub members: Vec<MemberSeen>,
    /// What it has counted.
    pub counts: Counts,
    /// Datagrams that could not be handed to the network.
    pub unsent: u64,
    /// What the fleet knows.
    pub view: Arc<FleetView>,
    /// How many addresses the seeds stand for.
    pub seeds: usize,
    /// The id of the key it sends with.
    pub sending_key: u8,
}

/// A plane, which may be run again where it has died.
#[derive(Debug)]
pub struct Plane {
    plan: Plan,
    seen: ArcSwapOption<Seen>,
    /// The state as it was kept last, and when.
    kept: Mutex<Option<(Vec<u8>, Instant)>>,
}

/// How often the sidecar is asked what it has seen, and told what the fleet knows.
const ROUND: Duration = Duration::from_millis(250);
/// Every so many rounds what can be seen from outside is renewed.
const SHOWN: u32 = 4;
/// How often the state is kept.
const KEPT: Duration = Duration::from_secs(15);
/// How often the key file is looked at: rotation waits for its mount, which takes a minute.
const KEYS: Duration = Duration::from_secs(5);
/// How long until what failed at the start is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// At most so many datagrams are read in one go, and so many in one round: 4,000 a second, of which
/// the fleet of an owner of limits with a thousand sidecars needs half.
const IN_ONE_GO: u32 = 32;
const IN_ONE_ROUND: u32 = 1_000;
/// How long the last datagrams may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// What comes from beside.
enum News {
    Keys(Keys),
    Seeds(Vec<SocketAddr>),
}

impl Plane {
    /// One that does not run yet.
    pub fn new(plan: Plan) -> Self {
        Self { plan, seen: ArcSwapOption::empty(), kept: Mutex::default() }
    }

    /// What was to be seen last; `None` before it has begun.
    pub fn seen(&self) -> Option<Arc<Seen>> {
        self.seen.load_full()
    }

    /// Takes part until `stop` says so, then says goodbye.
    ///
    /// Cancel safety: dropped midway, others find out after some seconds that it is gone.
    pub async fn run(&self, host: &dyn Host, mut stop: watch::Receiver<bool>) {
        let begun = tokio::select! {
            begun = self.begin(host) => begun,
            () = stopped(&mut stop) => return,
        };
        let (sender, news) = mpsc::channel(4);
        let keys = begun.keys.clone();
        let talking = async {
            let mut talk = Talk { plane: self, host, begun, allowance: IN_ONE_ROUND, unsent: 0 };
            talk.on(news, stop).await;
        };
        let looking = self.look(sender.clone());
        let reading = self.read_keys(keys, sender);
        tokio::select! {
            () = talking => {}
            () = looking => {}
            () = reading => {}
        }
    }

    /// Waits for all that is needed: a key, a socket, an address of one's own.
    async fn begin(&self, host: &dyn Host) -> Begun {
        let keys = self.first_keys().await;
        let socket = self.first_socket().await;
        let (found, address) = self.first_address(&socket).await;
        let (now, unix) = (time::now(), time::unix_now());
        let me = Identity::new(address, unix, random());
        let start = Start { now, unix, entropy: random() };
        let mut node = Node::new(self.plan.node.clone(), me, keys.clone(), host.card(), start);
        self.restore(&mut node, now, unix).await;
        node.seeds(&found, now);
        info!(%address, cluster = %self.plan.node.cluster, seeds = found.len(), "gossip begins");
        Begun { node, socket, me, keys, seeds: found.len() }
    }

    async fn first_keys(&self) -> Keys {
        let mut said = String::new();
        loop {
            match read(&self.plan.key_file).await {
                Ok(keys) => return keys,
                Err(why) if why.to_string() != said => {
                    let file = self.plan.key_file.display();
                    error!(%file, error = %why, "gossip is off until there is a key");
                    said = why.to_string();
                }
                Err(_) => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn first_socket(&self) -> Socket {
        let mut said = false;
        loop {
            match Socket::bind(self.plan.listen) {
                Ok(socket) => return socket,
                Err(error) if !said => {
                    let address = self.plan.listen;
                    error!(%address, %error, "gossip is off until it can listen");
                    said = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What the seeds stand for, and the address of one's own. Without one in the configuration it
    /// is the one from which a seed is reached.
    async fn first_address(&self, socket: &Socket) -> (Vec<SocketAddr>, SocketAddr) {
        let bound = socket.address().unwrap_or(self.plan.listen);
        let with_port = |address: SocketAddr| match address.port() {
            0 => SocketAddr::new(address.ip(), bound.port()),
            _ => address,
        };
        let known = self.plan.advertise.map(with_port);
        let known = known.or_else(|| Some(bound).filter(|it| !it.ip().is_unspecified()));
        let mut discovery = Discovery::new(self.plan.seeds.iter().cloned());
        loop {
            say_lost(&discovery.look().await);
            let found = discovery.found();
            if let Some(address) = known {
                return (found, address);
            }
            for seed in &found {
                if let Ok(ip) = towards(*seed) {
                    return (found, SocketAddr::new(ip, bound.port()));
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Takes up what was known before, from memory where the plane has died, else from the disk.
    async fn restore(&self, node: &mut Node, now: Instant, unix: Duration) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (bytes, away) = match (kept, &self.plan.state) {
            (Some((bytes, when)), _) => (bytes, now.saturating_duration_since(when)),
            (None, None) => return,
            (None, Some(place)) => {
                let (place, file) = (place.clone(), place.file());
                match spawn_blocking(move || place.kept(unix)).await {
                    Ok(Ok(Some(kept))) => (kept.bytes, kept.away),
                    Ok(Ok(None)) | Err(_) => return,
                    Ok(Err(why)) => {
                        let file = file.display();
                        warn!(%file, error = %why, "the kept state of gossip is not used");
                        return;
                    }
                }
            }
        };
        match node.restore(&bytes, away, now) {
            Ok(()) => info!(seconds = away.as_secs(), "gossip goes on with what was kept"),
            Err(why) => warn!(error = %why, "the kept state of gossip is not used"),
        }
    }

    /// Looks for seeds, again and again.
    async fn look(&self, tell: mpsc::Sender<News>) {
        let mut discovery = Discovery::new(self.plan.seeds.iter().cloned());
        loop {
            // Half as long or half longer, so that a fleet does not ask all at once.
            let part = 0.5 + fastrand::f64();
            tokio::time::sleep(self.plan.discovery_interval.mul_f64(part)).await;
            say_lost(&discovery.look().await);
            let found = discovery.found();
            if !found.is_empty() && tell.send(News::Seeds(found)).await.is_err() {
                return;
            }
        }
    }

    /// Reads the key file, again and again, and tells of other keys.
    async fn read_keys(&self, mut known: Keys, tell: mpsc::Sender<News>) {
        let mut said = String::new();
        loop {
            tokio::time::sleep(KEYS).await;
            match read(&self.plan.key_file).await {
                Ok(keys) if keys != known => {
                    info!(active = keys.active(), keys = ?keys.ids().collect::<Vec<_>>(), "gossip has other keys");
                    known = keys.clone();
                    said.clear();
                    if tell.send(News::Keys(keys)).await.is_err() {
                        return;
                    }
                }
                Ok(_) => said.clear(),
                Err(why) if why.to_string() != said => {
                    let file = self.plan.key_file.display();
                    warn!(%file, error = %why, "the keys of gossip stay as they were");
                    said = why.to_string();
                }
                Err(_) => {}
            }
        }
    }
}

/// All that is needed to talk.
struct Begun {
    node: Node,
    socket: Socket,
    me: Identity,
    keys: Keys,
    seeds: usize,
}

/// A node on a socket.
struct Talk<'a> {
    plane: &'a Plane,
    host: &'a dyn Host,
    begun: Begun,
    /// How many datagrams may still be read in this round.
    allowance: u32,
    unsent: u64,
}

impl Talk<'_> {
    async fn on(&mut self, mut news: mpsc::Receiver<News>, mut stop: watch::Receiver<bool>) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut round, mut keeping) = (0u32, Keeping::default());
        // It says so at once; an error is met again where something is sent.
        let _ = self.begun.socket.writable().await;
        loop {
            let now = time::now();
            self.begun.node.set_clock(time::unix_now(), now);
            let wake = self.begun.node.poll(now);
            self.flush();
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                _ = rounds.tick() => {
                    self.round(round);
                    round = round.wrapping_add(1);
                    if keeping.is_due(time::now()) {
                        self.keep(&mut keeping);
                    }
                }
                Some(news) = news.recv() => self.hear(news),
                () = tokio::time::sleep_until(wake.into()) => {}
                Ok(()) = self.begun.socket.readable(), if self.allowance > 0 => self.receive(),
            }
        }
        self.leave(&mut keeping).await;
    }

    fn round(&mut self, round: u32) {
        let now = time::now();
        self.allowance = IN_ONE_ROUND;
        let node = &mut self.begun.node;
        node.tell(&self.host.witness(now), now);
        let view = Arc::new(node.view(now));
        self.host.advise(view.clone(), now);
        if round.is_multiple_of(SHOWN) {
            node.set_card(self.host.card(), now);
            let members = node.members(now);
            self.say_company(members.len());
            self.plane.seen.store(Some(Arc::new(Seen {
                as_of: now,
                me: self.begun.me,
                members,
                counts: self.begun.node.counts(),
                unsent: self.unsent,
                view,
                seeds: self.begun.seeds,
                sending_key: self.begun.node.sending_key(),
            })));
        }
    }

    /// Says when the first other one is there, and when the last one is gone.
    fn say_company(&self, members: usize) {
        let before = self.plane.seen.load().as_ref().map_or(1, |seen| seen.members.len());
        if before <= 1 && members > 1 {
            info!(members, "gossip has found others");
        } else if before > 1 && members <= 1 {
            warn!("gossip hears of nobody any more: this sidecar goes by what it sees itself");
        }
    }

    fn hear(&mut self, news: News) {
        let now = time::now();
        match news {
            News::Keys(keys) => self.begun.node.set_keys(keys, now),
            News::Seeds(found) => {
                self.begun.seeds = found.len();
                self.begun.node.seeds(&found, now);
            }
        }
    }

    fn receive(&mut self) {
        // One byte more than may come, so that what is longer is seen to be.
        let mut bytes = [0; MTU + 1];
        for _ in 0..IN_ONE_GO.min(self.allowance) {
            match self.begun.socket.receive(&mut bytes) {
                Ok((length, from)) => {
                    self.allowance -= 1;
                    let datagram = bytes.get(..length).unwrap_or_default();
                    self.begun.node.receive(from, datagram, time::now());
                }
                // Somebody's port is closed; who that is, a probe finds out.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    /// Hands over what is to be sent. What the network does not take at once is lost, as it might
    /// be on its way.
    fn flush(&mut self) {
        while let Some((to, datagram)) = self.begun.node.outgoing() {
            self.unsent += u64::from(self.begun.socket.send(&datagram, to).is_err());
        }
    }

    fn keep(&mut self, keeping: &mut Keeping) {
        let now = time::now();
        let bytes = self.begun.node.save(now);
        let kept = Some((bytes.clone(), now));
        *self.plane.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        keeping.keep(self.plane.plan.state.clone(), bytes, now);
    }

    /// Tells the last of what was seen, and says goodbye.
    async fn leave(&mut self, keeping: &mut Keeping) {
        let now = time::now();
        self.begun.node.tell(&self.host.witness(now), now);
        self.begun.node.poll(now);
        self.flush();
        self.keep(keeping);
        self.begun.node.leave(now);
        let until = now + FAREWELL;
        while time::now() < until {
            let wake = self.begun.node.poll(time::now());
            self.flush();
            tokio::time::sleep_until(wake.min(until).max(time::now() + STEP).into()).await;
        }
        keeping.done().await;
    }
}

/// The least sleep while the last datagrams go out.
const STEP: Duration = Duration::from_millis(10);

/// Keeping the state on disk, one at a time.
#[derive(Debug, Default)]
struct Keeping {
    last: Option<Instant>,
    at_work: Option<JoinHandle<()>>,
    said: Arc<Mutex<String>>,
}

impl Keeping {
    /// The first time is only a beginning.
    fn is_due(&mut self, now: Instant) -> bool {
        let last = *self.last.get_or_insert(now);
        now.saturating_duration_since(last) >= KEPT
    }

    fn keep(&mut self, place: Option<Place>, bytes: Vec<u8>, now: Instant) {
        self.last = Some(now);
        let Some(place) = place else { return };
        if self.at_work.as_ref().is_some_and(|work| !work.is_finished()) {
            return;
        }
        let said = Arc::clone(&self.said);
        self.at_work = Some(spawn_blocking(move || {
            let done = place.keep(&bytes, time::unix_now());
            let why = done.err().map(|why| why.to_string()).unwrap_or_default();
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if !why.is_empty() && *said != why {
                let file = place.file();
                warn!(file = %file.display(), error = %why, "the state of gossip is not kept");
            }
            *said = why;
        }));
    }

    async fn done(&mut self) {
        if let Some(work) = self.at_work.take() {
            let _ = work.await;
        }
    }
}

impl fmt::Debug for dyn Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

/// Sixty-four bits that nobody can guess: a boot id must never come again.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        // The system has none, which Linux does not know; the moment is in the id besides.
        Err(_) => fastrand::u64(..),
    }
}

/// Whoever could say stop and is gone has said it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn read(file: &Path) -> Result<Keys, NoKeys> {
    let file = file.to_owned();
    let ended = |why| NoKeys::Unread(io::Error::other(why));
    spawn_blocking(move || key_file::read(&file)).await.unwrap_or_else(|why| Err(ended(why)))
}

fn say_lost(lost: &[super::discovery::Lost]) {
    for lost in lost {
        warn!(seed = %lost.host, error = %lost.why, "a seed is not found; what was known of it stays");
    }
}
