//! Where other sidecars are: addresses of the configuration, and names of the DNS.
//!
//! The name of a headless Service stands for every pod behind it, in A and AAAA records, of which
//! hundreds need TCP. Each is looked up again and again; where that fails, as it does now and then
//! in large clusters, the last good answer stays.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use domain::base::name::UncertainName;
use domain::resolv::StubResolver;

/// A seed and what is known of it.
#[derive(Debug)]
struct Seed {
    host: Box<str>,
    port: u16,
    found: Vec<SocketAddr>,
    /// Whether the last look failed, which is said once.
    failing: bool,
}

/// The seeds.
#[derive(Debug)]
pub struct Discovery {
    seeds: Vec<Seed>,
}

/// A seed that was found before, or is for the first time not.
#[derive(Debug)]
pub struct Lost {
    /// Its name.
    pub host: Box<str>,
    /// Why.
    pub why: io::Error,
}

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// More addresses of one name are not kept: any of them leads to all others.
const MOST: usize = 1_024;

impl Discovery {
    /// Of hosts, each a name or an address, and their ports.
    pub fn new(seeds: impl Iterator<Item = (Box<str>, u16)>) -> Self {
        let seed = |(host, port)| Seed { host, port, found: Vec::new(), failing: false };
        Self { seeds: seeds.map(seed).collect() }
    }

    /// Looks for all seeds; says which could not be found though they could before.
    pub async fn look(&mut self) -> Vec<Lost> {
        // Made anew, so that a change of /etc/resolv.conf is seen. It is a small local file.
        let mut resolver = None;
        let mut lost = Vec::new();
        for seed in &mut self.seeds {
            if let Ok(ip) = seed.host.parse::<IpAddr>() {
                seed.found = vec![SocketAddr::new(ip, seed.port)];
                continue;
            }
            let resolver = resolver.get_or_insert_with(StubResolver::new);
            let looked = tokio::time::timeout(PATIENCE, addresses(resolver, &seed.host)).await;
            match looked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(ips) => {
                    seed.found = ips.iter().map(|ip| SocketAddr::new(*ip, seed.port)).collect();
                    seed.failing = false;
                }
                Err(why) if !seed.failing => {
                    seed.failing = true;
                    lost.push(Lost { host: seed.host.clone(), why });
                }
                Err(_) => {}
            }
        }
        lost
    }

    /// What was found last.
    pub fn found(&self) -> Vec<SocketAddr> {
        let all: BTreeSet<_> = self.seeds.iter().flat_map(|seed| &seed.found).copied().collect();
        all.into_iter().collect()
    }
}

/// The addresses of a name, searched for as the system does; an absolute one ends with a dot.
async fn addresses(resolver: &StubResolver, host: &str) -> io::Result<BTreeSet<IpAddr>> {
    let wrong = |why| io::Error::new(io::ErrorKind::InvalidInput, format!("{why}"));
    let name = UncertainName::<Vec<u8>>::from_str(host).map_err(wrong)?;
    let found: BTreeSet<IpAddr> = match name {
        UncertainName::Absolute(name) => {
            resolver.lookup_host(name).await?.iter().take(MOST).collect()
        }
        UncertainName::Relative(name) => {
            resolver.search_host(name).await?.iter().take(MOST).collect()
        }
    };
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it has no addresses"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use domain::base::iana::{Rcode, Rtype};
    use domain::base::{Message, MessageBuilder, Ttl};
    use domain::rdata::{A, Aaaa};
    use domain::resolv::stub::conf::{ResolvConf, ServerConf, Transport};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UdpSocket};
    use tokio::task::JoinSet;

    use super::*;

    /// So many A records has the name `many`; one A and one AAAA has `both`.
    const MANY: u8 = 250;

    /// An answer, cut after `most` bytes.
    fn answer(query: &[u8], most: usize) -> Vec<u8> {
        let query = Message::from_octets(query).unwrap();
        let question = query.first_question().unwrap();
        let (name, kind) = (question.qname().to_string(), question.qtype());
        let code = if name.starts_with("none") { Rcode::NXDOMAIN } else { Rcode::NOERROR };
        let mut answers = MessageBuilder::new_vec().start_answer(&query, code).unwrap();
        let ttl = Ttl::from_secs(5);
        let count = if name.starts_with("many") { MANY } else { 1 };
        if kind == Rtype::A && code == Rcode::NOERROR {
            for at in 0..count {
                answers.push((question.qname(), ttl, A::from_octets(10, 0, 0, at))).unwrap();
            }
        } else if kind == Rtype::AAAA && name.starts_with("both") {
            let ip = "fd00::7".parse().unwrap();
            answers.push((question.qname(), ttl, Aaaa::new(ip))).unwrap();
        }
        let whole = answers.finish();
        if whole.len() <= most {
            return whole;
        }
        let mut cut = MessageBuilder::new_vec().start_answer(&query, code).unwrap();
        cut.header_mut().set_tc(true);
        cut.finish()
    }

    /// A server of names, over UDP and TCP.
    async fn serve(work: &mut JoinSet<()>) -> StubResolver {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        work.spawn(async move {
            let mut query = [0; 1_500];
            loop {
                let (length, from) = udp.recv_from(&mut query).await.unwrap();
                udp.send_to(&answer(&query[..length], 1_200), from).await.unwrap();
            }
        });
        work.spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                while let Ok(length) = stream.read_u16().await {
                    let mut query = vec![0; length.into()];
                    stream.read_exact(&mut query).await.unwrap();
                    let said = answer(&query, usize::MAX);
                    stream.write_u16(u16::try_from(said.len()).unwrap()).await.unwrap();
                    stream.write_all(&said).await.unwrap();
                }
            }
        });
        let mut conf = ResolvConf::new();
        conf.servers = vec![ServerConf::new(address, Transport::UdpTcp)];
        conf.finalize();
        StubResolver::from_conf(conf)
    }

    #[tokio::test]
    async fn a_name_stands_for_all_its_addresses_of_both_families() {
        let mut work = JoinSet::new();
        let resolver = serve(&mut work).await;
        let both = addresses(&resolver, "both.svc.").await.unwrap();
        let want = ["10.0.0.0".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()];
        assert_eq!(both.into_iter().collect::<Vec<_>>(), want);
        let many = addresses(&resolver, "many.svc").await.unwrap();
        assert_eq!(many.len(), usize::from(MANY), "an answer that needs TCP");
        assert!(addresses(&resolver, "none.svc").await.is_err());
    }

    #[tokio::test]
    async fn addresses_need_nobody_and_each_counts_once() {
        let seeds = [("10.0.0.1", 7), ("fd00::7", 7), ("10.0.0.1", 7), ("10.0.0.1", 8)];
        let mut discovery =
            Discovery::new(seeds.into_iter().map(|(host, port)| (host.into(), port)));
        assert!(discovery.look().await.is_empty());
        let found: Vec<_> = discovery.found().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:7", "10.0.0.1:8", "[fd00::7]:7"]);
    }

    #[tokio::test]
    async fn what_is_not_found_any_more_stays_and_is_said_once() {
        let mut discovery = Discovery::new([("none.invalid.".into(), 7)].into_iter());
        let known: SocketAddr = "10.0.0.9:7".parse().unwrap();
        discovery.seeds[0].found = vec![known];
        assert_eq!(discovery.look().await.len(), 1);
        assert_eq!(discovery.look().await.len(), 0);
        assert_eq!(discovery.found(), [known]);
    }
}
