//! Who speaks: an address, and one life of a process there.
//!
//! Addresses come back: a new pod may get that of one that is gone. So what a sidecar counts is
//! counted by its boot id, which no other process has, and an address belongs to whoever came last.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::wire::{Garbled, Reader, Writer};

/// A life of a process: six bytes of the moment it began, so that a later one wins an address, and
/// six that are random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Boot(pub [u8; Boot::LENGTH]);

/// Whose observation a fact is: the random bytes of a boot id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Origin(pub [u8; Origin::LENGTH]);

/// A member of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Where it is heard.
    pub address: SocketAddr,
    /// Which process that is.
    pub boot: Boot,
    /// How often it has come back after it was taken for dead.
    pub(super) life: u16,
}

impl Boot {
    /// Bytes of one.
    pub const LENGTH: usize = 12;

    /// Of a process that begins at `unix`.
    pub fn new(unix: Duration, entropy: u64) -> Self {
        let began = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX).to_be_bytes();
        let mut bytes = [0; Self::LENGTH];
        let random = entropy.to_be_bytes();
        for (byte, from) in bytes.iter_mut().zip(began.iter().skip(2).chain(random.iter().skip(2)))
        {
            *byte = *from;
        }
        Self(bytes)
    }

    /// What facts are signed with.
    pub fn origin(&self) -> Origin {
        let mut random = [0; Origin::LENGTH];
        for (byte, from) in random.iter_mut().rev().zip(self.0.iter().rev()) {
            *byte = *from;
        }
        Origin(random)
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Origin {
    /// Bytes of one.
    pub const LENGTH: usize = 6;
}

impl Identity {
    /// Of a process that begins at `unix`.
    pub fn new(address: SocketAddr, unix: Duration, entropy: u64) -> Self {
        Self { address, boot: Boot::new(unix, entropy), life: 0 }
    }

    /// Somebody at this address, whoever it is.
    pub(super) fn anybody(address: SocketAddr) -> Self {
        Self { address, boot: Boot::default(), life: 0 }
    }

    pub(super) fn write(&self, to: &mut Writer) {
        write_address(self.address, to);
        to.bytes(&self.boot.0);
        to.varint(self.life.into());
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        let address = read_address(from)?;
        let boot = Boot(from.array()?);
        let life = u16::try_from(from.varint()?).map_err(|_| Garbled)?;
        Ok(Self { address, boot, life })
    }
}

/// Who is taken for dead while it lives comes back as the same process with another life.
impl foca::Identity for Identity {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(Self { life: self.life.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Lives before the moment of the start: a process whose clock is behind that of its
    /// predecessor is told that it is dead, and wins with its next life.
    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.life, self.boot) > (other.life, other.boot)
    }
}

pub(super) fn write_address(address: SocketAddr, to: &mut Writer) {
    match address.ip() {
        IpAddr::V4(ip) => {
            to.byte(4);
            to.bytes(&ip.octets());
        }
        IpAddr::V6(ip) => {
            to.byte(6);
            to.bytes(&ip.octets());
        }
    }
    to.short(address.port());
}

pub(super) fn read_address(from: &mut Reader<'_>) -> Result<SocketAddr, Garbled> {
    let ip = match from.byte()? {
        4 => IpAddr::V4(Ipv4Addr::from(from.array::<4>()?)),
        6 => IpAddr::V6(Ipv6Addr::from(from.array::<16>()?)),
        _ => return Err(Garbled),
    };
    Ok(SocketAddr::new(ip, from.short()?))
}

#[cfg(test)]
mod tests {
    use foca::Identity as _;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn identities_come_back_as_they_were(
            v4: bool, ip: u128, port: u16, boot: [u8; 12], life: u16,
        ) {
            let ip = if v4 {
                IpAddr::V4(Ipv4Addr::from(u32::try_from(ip >> 96).unwrap()))
            } else {
                IpAddr::V6(Ipv6Addr::from(ip))
            };
            let identity = Identity { address: SocketAddr::new(ip, port), boot: Boot(boot), life };
            let mut writer = Writer::default();
            identity.write(&mut writer);
            let bytes = writer.done();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Identity::read(&mut reader), Ok(identity));
            prop_assert!(reader.is_empty());
        }
    }

    #[test]
    fn an_address_belongs_to_whoever_came_last() {
        let address = "10.0.0.1:7300".parse().unwrap();
        let first = Identity::new(address, Duration::from_secs(1_000), u64::MAX);
        let second = Identity::new(address, Duration::from_secs(1_001), 0);
        assert!(second.win_addr_conflict(&first) && !first.win_addr_conflict(&second));
        let again = first.renew().unwrap();
        assert!(again.win_addr_conflict(&second) && again.boot == first.boot);
    }
}
