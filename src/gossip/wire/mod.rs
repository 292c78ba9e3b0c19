//! The records that datagrams carry: `| tag | length | what it says |`, one after the other.
//!
//! A record whose tag is unknown is passed over, so that a newer sidecar may say more; one that
//! does not read is dropped and counted, and those after it are read all the same. Times are ages
//! or what remains: no clock but the receiver's own is ever compared.

mod bytes;
mod record;

pub use bytes::{Garbled, Reader, Writer, rounded};
pub use record::{Digest, Mood, Record};

use super::seal::{CLOCK, MTU, OVERHEAD};

/// How many bytes the records of one datagram may take.
pub const ROOM: usize = MTU - OVERHEAD - CLOCK;
/// What a record takes besides what it says.
pub const RECORD_HEAD: usize = 3;

/// Records on their way into one datagram.
#[derive(Debug, Default)]
pub struct Packet {
    bytes: Vec<u8>,
}

impl Packet {
    /// Adds a record, where there is room for it.
    pub fn add(&mut self, record: &Record) -> Result<(), NoRoom> {
        let mut writer = Writer::default();
        record.frame(&mut writer);
        let framed = writer.done();
        if framed.len() > self.room() {
            return Err(NoRoom);
        }
        self.bytes.extend_from_slice(&framed);
        Ok(())
    }

    /// How many bytes fit in.
    pub fn room(&self) -> usize {
        ROOM.saturating_sub(self.bytes.len())
    }

    /// Whether it carries nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A datagram is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// The records in what a datagram carries.
#[derive(Debug)]
pub struct Records<'d> {
    rest: Reader<'d>,
}

impl<'d> Records<'d> {
    /// Those in `carried`.
    pub fn of(carried: &'d [u8]) -> Self {
        Self { rest: Reader::new(carried) }
    }
}

/// Each record, or that it does not read; a tag that is not known is passed over.
impl Iterator for Records<'_> {
    type Item = Result<Record, Garbled>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let framed = self.rest.byte().and_then(|tag| {
                let length = self.rest.short()?;
                Ok((tag, self.rest.take(length.into())?))
            });
            let Ok((tag, said)) = framed else {
                self.rest = Reader::new(&[]);
                return Some(Err(Garbled));
            };
            match Record::read(tag, said) {
                Ok(Some(record)) => return Some(Ok(record)),
                Ok(None) => {}
                Err(garbled) => return Some(Err(garbled)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use smallvec::SmallVec;

    use super::*;
    use crate::gossip::fact::{card, cooldown, evidence, quota};
    use crate::gossip::identity::{Boot, Origin};
    use crate::gossip::limits::{Answer, Growth, Report};
    use crate::gossip::push_sum::{Load, QuickPart, SlowPart};
    use crate::lexicon::{Fingerprint, PicoUsd};
    use crate::routing::Kind;
    use crate::routing::fleet::Why;
    use crate::routing::latency::{Histogram, Quick, Seen, Slow};
    use crate::routing::view::Used;

    fn half() -> impl Strategy<Value = f64> {
        (0.0..1e9f64).prop_map(rounded)
    }

    fn single() -> impl Strategy<Value = f64> {
        (0.0..1e9f32).prop_map(f64::from)
    }

    fn of() -> impl Strategy<Value = Fingerprint> {
        any::<[u8; 8]>().prop_map(Fingerprint)
    }

    fn age() -> impl Strategy<Value = Duration> {
        (0u64..4_000_000).prop_map(Duration::from_millis)
    }

    fn kind() -> impl Strategy<Value = Kind> {
        (0..Kind::COUNT).prop_map(|at| Kind::all().nth(at).unwrap())
    }

    fn used() -> impl Strategy<Value = Used> {
        any::<(u64, u64)>().prop_map(|(requests, tokens)| Used { requests, tokens })
    }

    fn growth() -> impl Strategy<Value = Growth> {
        (single(), single()).prop_map(|(requests, tokens)| Growth { requests, tokens })
    }

    fn quick() -> impl Strategy<Value = Record> {
        let sums = vec(half(), Quick::SUMS);
        let kinds = vec((kind(), sums), 0..8);
        let quota = (0u16..=1_000, any::<Option<u16>>(), age());
        (of(), [half(), half(), half()], kinds, proptest::option::of(quota)).prop_map(
            |(of, [weight, in_flight, tries], kinds, quota)| {
                let kinds = kinds.into_iter();
                let kinds =
                    kinds.map(|(kind, sums)| (kind, Quick::of(sums.try_into().unwrap()))).collect();
                let quota = quota.map(|(left, tokens, age)| quota::Told {
                    left,
                    tokens: tokens.map(u32::from),
                    age,
                });
                let load = Load { in_flight, tries };
                Record::Quick(QuickPart { of, weight, load, kinds, quota })
            },
        )
    }

    fn slow() -> impl Strategy<Value = Record> {
        let bins = vec((0usize..96, half(), any::<bool>()), 0..60);
        (of(), kind(), half(), vec(single(), Slow::SUMS), bins).prop_map(
            |(of, kind, weight, sums, bins)| {
                let (mut recent, mut seen) =
                    (Histogram::default(), std::collections::HashSet::new());
                for (at, weight, is_answered) in bins {
                    if seen.insert((at, is_answered)) {
                        let side = if is_answered { Seen::Answered } else { Seen::Censored };
                        recent.put(at, weight, side);
                    }
                }
                let slow = Slow::of(sums.try_into().unwrap(), recent);
                Record::Slow(Box::new(SlowPart { of, kind, weight, slow }))
            },
        )
    }

    fn cooldown() -> impl Strategy<Value = Record> {
        let why = prop_oneof![Just(Why::Account), Just(Why::Limit), Just(Why::Trouble)];
        let claim = (any::<[u8; 6]>(), any::<u32>(), age(), why);
        let claims = vec(claim, 0..=cooldown::MOST_CLAIMS);
        (of(), any::<u32>(), age(), claims).prop_map(|(of, epoch, age, claims)| {
            let claims = claims.into_iter().map(|(origin, turn, remaining, why)| {
                cooldown::Claimed { origin: Origin(origin), turn, remaining, why }
            });
            let claims: SmallVec<_> = claims.collect();
            Record::Cooldown(cooldown::Told { of, epoch, age, claims })
        })
    }

    fn card() -> impl Strategy<Value = Record> {
        let texts = ("[a-z0-9.-]{0,20}", "[a-z0-9-]{0,20}");
        (
            any::<[u8; 12]>(),
            any::<u32>(),
            texts,
            any::<u64>(),
            any::<[u8; 8]>(),
            vec(any::<u8>(), 0..9),
        )
            .prop_map(|(boot, turn, (version, zone), generation, hash, keys)| {
                let (version, zone) = (version.into(), zone.into());
                let card = card::Card { version, zone, generation, hash }.into();
                Record::Card(card::Told { boot: Boot(boot), turn, card, keys: keys.into() })
            })
    }

    fn record() -> impl Strategy<Value = Record> {
        let failures = (of(), any::<[u8; 6]>(), any::<u64>(), half());
        let digest = any::<(u64, u64, u32, u8)>();
        prop_oneof![
            quick(),
            slow(),
            cooldown(),
            card(),
            failures.prop_map(|(of, origin, count, recent)| {
                Record::Failures(evidence::Told { of, origin: Origin(origin), count, recent })
            }),
            digest.prop_map(|(table, cards, card_count, turn)| {
                Record::Digest(Digest { table, cards, card_count, turn })
            }),
            any::<(u32, u16, u64)>().prop_map(|(members, paused, table)| {
                Record::Mood(Mood { members, paused, table })
            }),
            (of(), used(), used(), growth(), any::<u64>()).prop_map(
                |(of, total, minute, growth, spent)| {
                    Record::Report(Report { of, total, minute, growth, spent: PicoUsd(spent) })
                }
            ),
            (of(), used(), growth(), any::<(u32, u64)>()).prop_map(
                |(of, others, growth, (sharers, spent))| {
                    let spent = PicoUsd(spent);
                    Record::Answer(Answer { of, others, growth, sharers, spent })
                }
            ),
            vec(any::<u8>(), 0..200).prop_map(Record::Swim),
        ]
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(all in vec(record(), 0..6)) {
            let mut packet = Packet::default();
            let fits: Vec<_> = all.into_iter().filter(|it| packet.add(it).is_ok()).collect();
            prop_assert!(packet.bytes().len() <= ROOM);
            let heard: Result<Vec<_>, _> = Records::of(packet.bytes()).collect();
            prop_assert_eq!(heard, Ok(fits));
        }

        #[test]
        fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..ROOM)) {
            prop_assert!(Records::of(&bytes).count() <= bytes.len());
        }

        #[test]
        fn one_that_does_not_read_takes_no_other_with_it(
            before in record(), after in record(), tag in 1u8..=10,
        ) {
            let (mut packet, mut framed) = (Packet::default(), Writer::default());
            prop_assume!(packet.add(&before).is_ok());
            let garbled = [tag, 0, 2, 0xFF, 0xFF];
            after.frame(&mut framed);
            let bytes = [packet.bytes(), &garbled, &framed.done()].concat();
            let heard: Vec<_> = Records::of(&bytes).collect();
            // Any bytes are words of foca's, until foca looks at them.
            let between = if tag == 1 { Ok(Record::Swim(vec![0xFF; 2])) } else { Err(Garbled) };
            prop_assert_eq!(heard, [Ok(before), between, Ok(after)]);
        }
    }

    #[test]
    fn what_is_newer_is_passed_over() {
        let mood = Record::Mood(Mood { members: 3, paused: 0, table: 9 });
        let mut framed = Writer::default();
        mood.frame(&mut framed);
        let framed = framed.done();
        let bytes = [&[200, 0, 3, 1, 2, 3], framed.as_slice()].concat();
        assert_eq!(Records::of(&bytes).collect::<Vec<_>>(), [Ok(mood.clone())]);
        let mut longer = framed;
        longer.push(77);
        longer[2] += 1;
        assert_eq!(Records::of(&longer).collect::<Vec<_>>(), [Ok(mood)], "it says more");
    }
}
