//! Gossip: what peers send, whatever it is.

use std::net::SocketAddr;
use std::time::Duration;

use pillion::gossip::seal::{CLOCK, OVERHEAD, Seal};
use pillion::gossip::wire::{Packet, Records};
use pillion::gossip::{Boot, Card, Identity, Keys, Node, Settings, Start};
use pillion::lexicon::{Fingerprint, time};
use pillion::routing::fleet::{Limits, Witness};
use pillion::routing::latency::Prior;

const UNIX: Duration = Duration::from_secs(1_800_000_000);

/// A node takes in bytes as they come from the network, and as what somebody with the key has
/// sealed: it goes on, it knows no more members than spoke, and its views stay numbers. Records that
/// read are written again as they were.
pub fn gossip(bytes: &[u8]) {
    let now = time::now();
    let from: SocketAddr = ([10, 0, 0, 2], 7_300).into();
    let me = Identity::new(([10, 0, 0, 1], 7_300).into(), UNIX, 1);
    let start = Start { now, unix: UNIX, entropy: 1 };
    let mut node = Node::new(Settings::default(), me, keys(), Card::default(), start);
    node.tell(&[witness(bytes)], now);
    node.receive(from, bytes, now);
    assert_eq!(node.counts().refused.iter().sum::<u64>(), 1, "nobody has sealed it");

    let settings = Settings::default();
    let boot = Boot::new(UNIX, 2);
    let mut seal = Seal::new(&settings.cluster, &settings.namespace, boot, keys());
    let clock = u32::try_from(UNIX.as_secs()).expect("it fits").to_be_bytes();
    for carried in bytes.chunks(1_200 - OVERHEAD - CLOCK) {
        let datagram = seal.seal(&[&clock, carried].concat()).expect("it fits");
        node.receive(from, &datagram, now);
        read_again(carried);
    }
    for seconds in 0..3 {
        let now = now + Duration::from_secs(seconds);
        assert!(node.poll(now) > now);
        while let Some((_, datagram)) = node.outgoing() {
            assert!(datagram.len() <= 1_200);
        }
        let view = node.view(now);
        for known in view.deployments.values() {
            assert!(known.in_flight.is_finite() && known.in_flight >= 0.0);
            for model in known.models.iter().flatten() {
                let outlook = model.outlook(now);
                assert!(outlook.latency.is_finite() && outlook.failure_share <= 1.0);
                let line = model.forecast(&Prior::default(), now).line();
                assert!(line.intercept.is_finite() && line.slope.is_finite());
            }
        }
    }
    let saved = node.save(now);
    node.restore(&saved, Duration::from_secs(1), now).expect("what was saved is read");
    let _ = node.restore(bytes, Duration::ZERO, now);
}

/// What reads is the same when it is written and read once more.
fn read_again(carried: &[u8]) {
    for record in Records::of(carried).flatten() {
        let mut packet = Packet::default();
        if packet.add(&record).is_ok() {
            let again = Records::of(packet.bytes()).next();
            assert_eq!(again, Some(Ok(record)));
        }
    }
}

fn keys() -> Keys {
    Keys::new(1, [(1, [7; 32])].into()).expect("the key is there")
}

/// This node calls whatever the bytes speak of.
fn witness(bytes: &[u8]) -> Witness {
    let mut of = [0; 8];
    of.iter_mut().zip(bytes.iter().skip(3)).for_each(|(byte, from)| *byte = *from);
    Witness {
        in_flight: 1,
        failures: 1,
        limits: Limits { requests: Some(60), tokens: None },
        has_budget: true,
        ..Witness::nothing(Fingerprint(of))
    }
}
