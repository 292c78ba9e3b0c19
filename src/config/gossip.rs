//! `pillion.gossip`, and the environment variables that say the same: whom the sidecar shares with.
//!
//! A pod differs from the next one by its address and its zone, which a file for all of them cannot
//! say: a variable wins over its field. Gossip is off until there are a key and a seed; where only
//! one of them is there, that is said.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::cursor::Cursor;
use super::fields;
use super::known::Section;
use super::known::Standing::Acted;
use crate::provider::Environment;

/// `pillion.gossip`, of a sidecar that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gossip {
    /// `listen`, `PILLION_GOSSIP_LISTEN`: the UDP address; port 24082 of every address by default.
    pub listen: SocketAddr,
    /// `advertise`, `PILLION_GOSSIP_ADVERTISE`: the address by which others reach it; by default
    /// the one it listens on, or from which it reaches its seeds.
    pub advertise: Option<SocketAddr>,
    /// `seeds`, `PILLION_GOSSIP_SEEDS`: where others are found; never empty.
    pub seeds: Vec<Seed>,
    /// `key_file`, `PILLION_GOSSIP_KEY_FILE`: the key that all share, or several with their ids.
    pub key_file: PathBuf,
    /// `cluster`, `PILLION_GOSSIP_CLUSTER`: who has another name is not heard; `default` by
    /// default.
    pub cluster: Box<str>,
    /// `namespace`, `PILLION_GOSSIP_NAMESPACE`: likewise; `default` by default.
    pub namespace: Box<str>,
    /// `zone`, `PILLION_GOSSIP_ZONE`: where the sidecar runs; nowhere by default.
    pub zone: Box<str>,
    /// `interval`: how often what was learned is passed on; 1 s by default.
    pub interval: Duration,
    /// `discovery_interval`: how often the names of seeds are looked up; 15 s by default.
    pub discovery_interval: Duration,
}

/// Where other sidecars are found: an address, or a name that stands for several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// An address without brackets, or a name.
    pub host: Box<str>,
    /// The port of all that are found there.
    pub port: u16,
}

/// The port of gossip, where nobody says another.
const PORT: u16 = 24082;
/// Names longer than this do not fit into what tells sidecars apart.
const LONGEST_NAME: usize = 63;

static GOSSIP: Section = Section(&[
    ("advertise", Acted),
    ("cluster", Acted),
    ("discovery_interval", Acted),
    ("interval", Acted),
    ("key_file", Acted),
    ("listen", Acted),
    ("namespace", Acted),
    ("seeds", Acted),
    ("zone", Acted),
]);

/// Reads the section; `None` is off.
pub(super) fn read(field: &Cursor<'_>, environment: Environment<'_>) -> Option<Gossip> {
    fields::check(field, &GOSSIP);
    let said = Said { field, environment };
    let listen = said.one("listen").and_then(|text| said.address("listen", &text, Some(PORT)));
    let listen = listen.unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT));
    let advertise = said.one("advertise").and_then(|text| said.advertised(&text, listen.port()));
    let port = if listen.port() == 0 { PORT } else { listen.port() };
    let texts = said.several("seeds");
    let seeds: Vec<_> = texts.iter().filter_map(|text| said.seed(text, port)).collect();
    let (cluster, namespace, zone) =
        (said.name("cluster"), said.name("namespace"), said.name("zone"));
    let interval = said.time("interval", Duration::from_secs(1), (TENTH, MINUTE));
    let discovery_interval =
        said.time("discovery_interval", Duration::from_secs(15), (SECOND, HOUR));
    let key_file = said.one("key_file").map(|path| PathBuf::from(&*path));
    let Some(key_file) = key_file else {
        if !texts.is_empty() || !field.is_absent() {
            let hint = "set `key_file`: `openssl rand -base64 32` makes a key for all sidecars";
            field.warn("gossip is off: there is no key", Some(hint.to_owned()));
        }
        return None;
    };
    if texts.is_empty() {
        let hint = "set `seeds` to the name of a headless Service, or to addresses of sidecars";
        field.warn("gossip is off: there are no seeds", Some(hint.to_owned()));
    }
    let or_default = |name: Option<Box<str>>| name.unwrap_or_else(|| "default".into());
    (!seeds.is_empty()).then(|| Gossip {
        listen,
        advertise,
        seeds,
        key_file,
        cluster: or_default(cluster),
        namespace: or_default(namespace),
        zone: zone.unwrap_or_default(),
        interval,
        discovery_interval,
    })
}

const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What the section and the environment say together.
struct Said<'a, 'f> {
    field: &'a Cursor<'f>,
    environment: Environment<'a>,
}

impl Said<'_, '_> {
    /// A text from the variable of a field, else from the field.
    fn one(&self, name: &str) -> Option<Box<str>> {
        self.variable(name).or_else(|| self.field.get(name).full_text())
    }

    fn several(&self, name: &str) -> Vec<Box<str>> {
        let listed = |text: Box<str>| -> Vec<Box<str>> {
            text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(Into::into).collect()
        };
        self.variable(name).map_or_else(|| self.field.get(name).texts(), listed)
    }

    fn variable(&self, name: &str) -> Option<Box<str>> {
        let text = (self.environment)(&variable_of(name))?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.into())
    }

    /// An IP address with a port, or with the one that is usual.
    fn address(&self, name: &str, text: &str, port: Option<u16>) -> Option<SocketAddr> {
        let with_port = text.parse().ok();
        let bare = text.trim_start_matches('[').trim_end_matches(']').parse().ok();
        // As `$(POD_IP):24082` makes of an IPv6 address: it has no brackets then.
        let unbracketed = text
            .rsplit_once(':')
            .and_then(|(ip, port)| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)));
        let address = with_port.or_else(|| Some(SocketAddr::new(bare?, port?))).or(unbracketed);
        if address.is_none() {
            let hint = "an IP address and a port, such as 10.0.3.7:24082 or [fd00::7]:24082";
            self.wrong(name, &format!("`{text}` is not an address"), hint);
        }
        address
    }

    fn advertised(&self, text: &str, port: u16) -> Option<SocketAddr> {
        let address = self.address("advertise", text, Some(port))?;
        if address.ip().is_unspecified() {
            let hint = "the pod's own address: `status.podIP` of the downward API";
            self.wrong("advertise", &format!("nobody can reach `{text}`"), hint);
            return None;
        }
        Some(address)
    }

    fn seed(&self, text: &str, port: u16) -> Option<Seed> {
        let seed = seed(text.trim(), port);
        if seed.is_none() {
            let hint = "host:port, or a DNS name such as pillion-gossip.my-namespace.svc";
            self.wrong("seeds", &format!("`{text}` is no seed"), hint);
        }
        seed
    }

    fn name(&self, name: &str) -> Option<Box<str>> {
        let text = self.one(name)?;
        if text.len() > LONGEST_NAME {
            let what = format!("`{name}` has more than {LONGEST_NAME} bytes");
            self.wrong(name, &what, "a short name, the same for all who share");
            return None;
        }
        Some(text)
    }

    fn time(&self, name: &str, usual: Duration, (least, most): (Duration, Duration)) -> Duration {
        let field = self.field.get(name);
        match field.duration() {
            None => usual,
            Some(time) if time < least || time > most => {
                let wanted = format!("{} s to {} s", least.as_secs_f64(), most.as_secs_f64());
                field.expected(&wanted, field.value).unwrap_or(usual)
            }
            Some(time) => time,
        }
    }

    /// Says what is wrong, and where: at the variable where that is what was read.
    fn wrong(&self, name: &str, what: &str, hint: &str) {
        let variable =
            self.variable(name).map(|_| format!(" (the variable {})", variable_of(name)));
        let what = format!("{what}{}", variable.unwrap_or_default());
        self.field.get(name).error(what, Some(hint.to_owned()));
    }
}

/// How the variables begin that a pod has over its file.
pub(super) const VARIABLES: &str = "PILLION_GOSSIP_";

fn variable_of(name: &str) -> String {
    format!("{VARIABLES}{}", name.to_ascii_uppercase())
}

/// `host:port`, a host alone, or an IPv6 address with or without brackets.
fn seed(text: &str, port: u16) -> Option<Seed> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Seed { host: address.ip().to_string().into(), port: address.port() });
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(Seed { host: ip.to_string().into(), port });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, number)) => (host, number.parse().ok().filter(|port| *port > 0)?),
        None => (text, port),
    };
    let fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_name = host.len() <= 253 && host.trim_end_matches('.').split('.').all(fits);
    is_name.then(|| Seed { host: host.into(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<(&str, u16)>) {
        let got = seed(text, 7);
        let got = got.as_ref().map(|seed| (&*seed.host, seed.port));
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn a_seed_is_an_address_or_a_name_with_or_without_a_port() {
        check("10.0.0.1:9", Some(("10.0.0.1", 9)));
        check("10.0.0.1", Some(("10.0.0.1", 7)));
        check("[fd00::7]:9", Some(("fd00::7", 9)));
        check("[fd00::7]", Some(("fd00::7", 7)));
        check("fd00::7", Some(("fd00::7", 7)));
        check("pillion.ns.svc", Some(("pillion.ns.svc", 7)));
        check("pillion.ns.svc.:9", Some(("pillion.ns.svc.", 9)));
        check("a_b-c:9", Some(("a_b-c", 9)));
        for wrong in ["", ":9", "a:b", "a:0", "a:70000", "http://a", "a b", "a..b", "."] {
            check(wrong, None);
        }
    }
}
