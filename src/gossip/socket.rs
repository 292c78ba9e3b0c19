//! The UDP socket of the gossip, for both families where the machine has them.
//!
//! Addresses of IPv4 go in and out as such, however the socket has to say them. Nothing waits: what
//! the network does not take at once is an error.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Type};
use tokio::net::UdpSocket;

/// What the kernel may keep while this thread is busy, in bytes.
const BUFFER: usize = 1 << 20;

/// A socket that is bound.
#[derive(Debug)]
pub struct Socket {
    udp: UdpSocket,
    is_v6: bool,
}

impl Socket {
    /// Binds an address. Where that is any of IPv6, IPv4 is heard too, and alone on a machine
    /// without IPv6.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let any_v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        Self::bind_one(address).or_else(|error| match address.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() && error.kind() != io::ErrorKind::AddrInUse => {
                Self::bind_one(any_v4)
            }
            IpAddr::V4(_) | IpAddr::V6(_) => Err(error),
        })
    }

    fn bind_one(address: SocketAddr) -> io::Result<Self> {
        let socket = plain(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // As much of it as the system allows.
        let _ = socket.set_recv_buffer_size(BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(Self { udp: UdpSocket::from_std(socket.into())?, is_v6: address.is_ipv6() })
    }

    /// Where it is bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr().map(canonical)
    }

    /// Waits until the network takes datagrams: before it has said so for the first time, none can
    /// be handed to it.
    ///
    /// Cancel safety: nothing is lost.
    pub async fn writable(&self) -> io::Result<()> {
        self.udp.writable().await
    }

    /// Waits until there may be something to receive.
    ///
    /// Cancel safety: nothing is lost.
    pub async fn readable(&self) -> io::Result<()> {
        self.udp.readable().await
    }

    /// A datagram, and from whom.
    pub fn receive(&self, bytes: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.udp.try_recv_from(bytes).map(|(length, from)| (length, canonical(from)))
    }

    /// Hands a datagram to the network.
    pub fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        let to = match (to.ip(), self.is_v6) {
            (IpAddr::V4(ip), true) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            (IpAddr::V6(_), false) => return Err(io::ErrorKind::NetworkUnreachable.into()),
            (IpAddr::V4(_), false) | (IpAddr::V6(_), true) => to,
        };
        self.udp.try_send_to(datagram, to)
    }
}

/// The address of one's own that leads to another. Nothing is sent.
pub fn towards(other: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match other {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = plain(other)?;
    socket.bind(&SocketAddr::new(any, 0).into())?;
    socket.connect(&other.into())?;
    let own = socket.local_addr()?.as_socket();
    own.map(|own| own.ip()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn plain(address: SocketAddr) -> io::Result<socket2::Socket> {
    socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
}

/// An IPv4 address as one, also where an IPv6 socket has met it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_families_hear_each_other_by_their_own_addresses() {
        let any = Socket::bind("[::]:0".parse().unwrap()).unwrap();
        let v4 = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = any.address().unwrap().port();
        any.writable().await.unwrap();
        v4.writable().await.unwrap();
        v4.send(b"one", SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).unwrap();
        let mut bytes = [0; 8];
        let (length, from) = next(&any, &mut bytes).await;
        assert_eq!((&bytes[..length], from), (&b"one"[..], v4.address().unwrap()));
        any.send(b"two", from).unwrap();
        let (length, from) = next(&v4, &mut bytes).await;
        assert_eq!((&bytes[..length], from.port()), (&b"two"[..], port));
        assert!(from.is_ipv4());
        assert!(v4.send(b"three", "[::1]:9".parse().unwrap()).is_err());
    }

    async fn next(socket: &Socket, bytes: &mut [u8]) -> (usize, SocketAddr) {
        loop {
            socket.readable().await.unwrap();
            if let Ok(got) = socket.receive(bytes) {
                return got;
            }
        }
    }

    #[test]
    fn the_way_to_another_tells_ones_own_address() {
        assert_eq!(towards("127.0.0.9:7".parse().unwrap()).unwrap(), Ipv4Addr::LOCALHOST);
    }
}
