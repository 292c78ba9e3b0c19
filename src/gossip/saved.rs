//! What outlives the process: peers, cooldowns and the last minutes of deployments, as bytes.
//!
//! `| magic | version | checksum 8 | addresses | records |`. The records are those of the wire, so
//! that what reads them is the same. Bytes that are foreign, cut or changed are refused whole.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ring::digest;

use super::identity::{read_address, write_address};
use super::wire::{Garbled, Reader, Record, Records, Writer};

/// What is saved.
#[derive(Debug, Default, PartialEq)]
pub struct Saved {
    /// Where members were heard.
    pub peers: Vec<SocketAddr>,
    /// What was known.
    pub records: Vec<Record>,
}

/// What was saved does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It was changed or cut.
    Damaged,
    /// It is something else.
    Foreign,
    /// It was saved by a version that says it otherwise.
    Version(u8),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("the saved state is damaged"),
            Self::Foreign => f.write_str("the file is no saved state of Pillion"),
            Self::Version(version) => {
                write!(f, "the saved state is of version {version}, which is not known here")
            }
        }
    }
}

impl std::error::Error for Unreadable {}

const MAGIC: &[u8; 4] = b"PLNG";
const VERSION: u8 = 1;
const CHECKSUM: usize = 8;
/// No file is longer.
pub const MOST_BYTES: usize = 256 * 1_024;
/// Peers that are saved.
const MOST_PEERS: usize = 256;
/// A sketch that was saved counts as so many samples at most,
const MOST_SAMPLES: f64 = 30.0;
/// and fades by e in this time.
const FADES: Duration = Duration::from_secs(3_600);

impl Saved {
    /// As bytes; what does not fit is left out.
    pub fn bytes(&self) -> Vec<u8> {
        let mut body = Writer::default();
        let peers = self.peers.get(..MOST_PEERS).unwrap_or(&self.peers);
        body.varint(peers.len() as u64);
        for peer in peers {
            write_address(*peer, &mut body);
        }
        let mut body = body.done();
        for record in &self.records {
            let mut writer = Writer::default();
            record.frame(&mut writer);
            let framed = writer.done();
            if body.len() + framed.len() + MAGIC.len() + 1 + CHECKSUM > MOST_BYTES {
                break;
            }
            body.extend_from_slice(&framed);
        }
        [MAGIC.as_slice(), &[VERSION], &checksum(&body), &body].concat()
    }

    /// From bytes.
    pub fn of(bytes: &[u8]) -> Result<Self, Unreadable> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(Unreadable::Foreign)?;
        let (version, rest) = rest.split_first().ok_or(Unreadable::Damaged)?;
        if *version != VERSION {
            return Err(Unreadable::Version(*version));
        }
        let (sum, body) = rest.split_at_checked(CHECKSUM).ok_or(Unreadable::Damaged)?;
        if sum != checksum(body) {
            return Err(Unreadable::Damaged);
        }
        Self::read(&mut Reader::new(body)).map_err(|Garbled| Unreadable::Damaged)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        let count = from.number::<usize>()?;
        let peers = (0..count).map(|_| read_address(from)).collect::<Result<_, _>>()?;
        let records = Records::of(from.rest()).collect::<Result<_, _>>()?;
        Ok(Self { peers, records })
    }
}

/// By which a sketch of this weight is scaled when it is taken up so long after it was saved.
pub fn kept(weight: f64, away: Duration) -> f64 {
    let faded = (-away.as_secs_f64() / FADES.as_secs_f64()).exp();
    faded * (MOST_SAMPLES / weight.max(f64::MIN_POSITIVE)).min(1.0)
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let digest = digest::digest(&digest::SHA256, body);
    let mut sum = [0; CHECKSUM];
    sum.iter_mut().zip(digest.as_ref()).for_each(|(byte, from)| *byte = *from);
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::Mood;
    use super::*;

    fn saved() -> Saved {
        let peers = vec!["10.0.0.1:7300".parse().unwrap(), "[fd00::1]:7300".parse().unwrap()];
        let mood = Mood { members: 3, paused: 1, table: 7 };
        Saved { peers, records: vec![Record::Mood(mood), Record::Swim(vec![1, 2, 3])] }
    }

    #[test]
    fn it_comes_back_as_it_was() {
        assert_eq!(Saved::of(&saved().bytes()), Ok(saved()));
        assert_eq!(Saved::of(&Saved::default().bytes()), Ok(Saved::default()));
    }

    #[test]
    fn it_has_a_longest_size() {
        let peers = vec!["10.0.0.1:7300".parse().unwrap(); 100_000];
        let records = vec![Record::Swim(vec![7; 1_000]); 1_000];
        let bytes = Saved { peers, records }.bytes();
        assert!(bytes.len() <= MOST_BYTES, "{}", bytes.len());
        assert_eq!(Saved::of(&bytes).map(|saved| saved.peers.len()), Ok(MOST_PEERS));
    }

    #[test]
    fn what_is_not_its_own_is_refused() {
        assert_eq!(Saved::of(b""), Err(Unreadable::Foreign));
        assert_eq!(Saved::of(b"{\"a\": 1}"), Err(Unreadable::Foreign));
        assert_eq!(Saved::of(b"PLNG"), Err(Unreadable::Damaged));
        let mut newer = saved().bytes();
        newer[4] = 2;
        assert_eq!(Saved::of(&newer), Err(Unreadable::Version(2)));
    }

    #[test]
    fn a_sketch_fades_and_weighs_little() {
        assert!((kept(300.0, Duration::ZERO) - 0.1).abs() < 1e-9);
        assert!((kept(3.0, FADES) - (-1.0_f64).exp()).abs() < 1e-9);
        assert!(kept(0.0, Duration::ZERO) <= 1.0);
    }

    proptest! {
        #[test]
        fn damage_is_seen(at: proptest::sample::Index, by in 1u8..) {
            let mut bytes = saved().bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert!(Saved::of(&bytes).is_err());
            prop_assert!(Saved::of(&saved().bytes()[..at]).is_err());
        }
    }
}
