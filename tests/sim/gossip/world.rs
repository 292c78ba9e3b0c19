//! Many nodes on a network of their own: it loses, delays, cuts and brings back, and is the same
//! each time for the same seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pillion::gossip::{Card, Identity, Keys, Node, Settings, Start};
use pillion::lexicon::{Fingerprint, time};
use pillion::routing::fleet::Witness;

/// What is wrong with the network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// The share of datagrams that is lost.
    pub(super) loss: f64,
    /// The share of nodes that take long to answer: a quarter of a second each way.
    pub(super) slow: f64,
}

/// Nodes and what is on its way between them.
pub(super) struct World {
    pub(super) nodes: Vec<Sidecar>,
    at: HashMap<SocketAddr, usize>,
    events: BinaryHeap<Reverse<Event>>,
    count: u64,
    weather: Weather,
    /// Nodes below this position and those from it on do not hear each other.
    pub(super) cut: Option<usize>,
    pub(super) dice: Rng,
    begin: Instant,
    pub(super) now: Duration,
    deployments: Vec<Fingerprint>,
    /// A datagram of ours costs the network this much more: headers of UDP and IP.
    pub(super) bytes: u64,
}

/// A sidecar and what it would tell.
pub(super) struct Sidecar {
    pub(super) node: Node,
    pub(super) witnesses: Vec<Witness>,
    address: SocketAddr,
    is_slow: bool,
    pub(super) is_up: bool,
    /// When it is to be asked next; earlier moments in the queue are of the past.
    due: Duration,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Duration,
    count: u64,
    what: What,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrives { to: SocketAddr, from: SocketAddr, datagram: Vec<u8> },
    Polls(usize),
    Tells(usize),
}

/// The headers of UDP and IP.
pub(super) const HEADERS: u64 = 28;
const TELLS: Duration = Duration::from_millis(250);
const UNIX: Duration = Duration::from_secs(1_800_000_000);

pub(super) fn deployment(at: usize) -> Fingerprint {
    Fingerprint((at as u64 + 1).to_be_bytes())
}

impl World {
    /// So many sidecars that begin within two seconds and call so many deployments.
    pub(super) fn new(size: usize, deployments: usize, weather: Weather, seed: u64) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            at: HashMap::new(),
            events: BinaryHeap::new(),
            count: 0,
            weather,
            cut: None,
            dice: Rng::with_seed(seed),
            begin: time::now(),
            now: Duration::ZERO,
            deployments: (0..deployments).map(deployment).collect(),
            bytes: 0,
        };
        for at in 0..size {
            world.now = Duration::from_secs(2).mul_f64(at as f64 / size as f64);
            world.start(address(at), size);
        }
        world
    }

    /// Starts a sidecar at an address, which may have been that of another.
    pub(super) fn start(&mut self, address: SocketAddr, seeds: usize) -> usize {
        let (now, unix) = (self.instant(), UNIX + self.now);
        let me = Identity::new(address, unix, self.dice.u64(..));
        let keys = Keys::new(1, [(1, [7; 32])].into()).expect("the key is there");
        let entropy = self.dice.u64(..);
        let start = Start { now, unix, entropy };
        let mut node = Node::new(Settings::default(), me, keys, card(), start);
        let seeds: Vec<_> = (0..5).map(|_| self::address(self.dice.usize(..seeds))).collect();
        node.seeds(&seeds, now);
        let witnesses = self.deployments.iter().copied().map(Witness::nothing).collect();
        let is_slow = self.dice.f64() < self.weather.slow;
        let at = self.nodes.len();
        self.nodes.push(Sidecar {
            node,
            witnesses,
            address,
            is_slow,
            is_up: true,
            due: Duration::MAX,
        });
        self.at.insert(address, at);
        let tells = self.now + TELLS.mul_f64(self.dice.f64());
        self.schedule(tells, What::Tells(at));
        self.settle(at);
        at
    }

    /// The power fails.
    pub(super) fn kill(&mut self, at: usize) -> SocketAddr {
        self.nodes[at].is_up = false;
        self.nodes[at].address
    }

    /// Nodes that are up.
    pub(super) fn up(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(|(_, it)| it.is_up).map(|(at, _)| at)
    }

    pub(super) fn instant(&self) -> Instant {
        self.begin + self.now
    }

    /// Lets time pass. Before each report of a sidecar, `live` says what it has done since.
    pub(super) fn run(&mut self, until: Duration, mut live: impl FnMut(&mut Self, usize)) {
        while let Some(Reverse(event)) = self.events.peek() {
            if event.at > until {
                break;
            }
            let Some(Reverse(Event { at, what, .. })) = self.events.pop() else { break };
            self.now = at;
            match what {
                What::Arrives { to, from, datagram } => self.arrive(to, from, &datagram),
                What::Polls(at) => {
                    if self.nodes[at].due == self.now {
                        self.settle(at);
                    }
                }
                What::Tells(at) => self.tell(at, &mut live),
            }
        }
        self.now = until;
    }

    fn tell(&mut self, at: usize, live: &mut impl FnMut(&mut Self, usize)) {
        if !self.nodes[at].is_up {
            return;
        }
        self.schedule(self.now + TELLS, What::Tells(at));
        live(self, at);
        self.tell_now(at);
    }

    /// A report out of turn, as after a try that has failed.
    pub(super) fn tell_now(&mut self, at: usize) {
        let now = self.instant();
        let sidecar = &mut self.nodes[at];
        sidecar.node.tell(&sidecar.witnesses, now);
        sidecar.witnesses.iter_mut().for_each(|witness| witness.taught.clear());
        self.settle(at);
    }

    fn arrive(&mut self, to: SocketAddr, from: SocketAddr, datagram: &[u8]) {
        let Some(at) = self.at.get(&to).copied().filter(|at| self.nodes[*at].is_up) else { return };
        let now = self.instant();
        self.nodes[at].node.receive(from, datagram, now);
        self.settle(at);
    }

    /// Asks a node what is due, sends what it wants sent, and notes when it is to be asked again.
    pub(super) fn settle(&mut self, at: usize) {
        let now = self.instant();
        let sidecar = &mut self.nodes[at];
        let due = sidecar.node.poll(now).saturating_duration_since(self.begin);
        sidecar.due = due;
        let from = sidecar.address;
        let mut out = Vec::new();
        while let Some(datagram) = sidecar.node.outgoing() {
            out.push(datagram);
        }
        self.schedule(due, What::Polls(at));
        for (to, datagram) in out {
            self.bytes += datagram.len() as u64 + HEADERS;
            let there = self.at.get(&to).copied();
            let is_lost = self.dice.f64() < self.weather.loss
                || there.is_none_or(|there| self.is_cut(at, there));
            if let Some(there) = there.filter(|_| !is_lost) {
                let way = self.way(at) + self.way(there);
                self.schedule(self.now + way, What::Arrives { to, from, datagram });
            }
        }
    }

    /// Whether a wall stands between two.
    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cut.is_some_and(|cut| (one < cut) != (other < cut))
    }

    fn way(&mut self, at: usize) -> Duration {
        let usual = Duration::from_micros(self.dice.u64(100..1_000));
        if self.nodes[at].is_slow { usual + Duration::from_millis(250) } else { usual }
    }

    fn schedule(&mut self, at: Duration, what: What) {
        self.count += 1;
        self.events.push(Reverse(Event { at, count: self.count, what }));
    }
}

pub(super) fn address(at: usize) -> SocketAddr {
    let [_, b, c, d] = u32::try_from(at).expect("a fleet").to_be_bytes();
    SocketAddr::from(([10, b, c, d], 7_300))
}

fn card() -> Card {
    Card { version: "0.1.0".into(), zone: "zone-a".into(), generation: 1, hash: [1; 8] }
}
