//! A certificate authority of the injector's own, kept in one Secret.
//!
//! The Secret is the lock: whoever applies it first has made it, and the others take what is
//! there. A certificate is renewed after two thirds of its life; of an authority that is renewed,
//! the one before stays trusted until the next renewal.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tracing::{info, warn};

use super::Webhook;
use crate::cluster::{Applier, Failed};
use crate::inject::field;
use crate::lexicon::time::unix_now;

const DAY: u64 = 24 * 60 * 60;
/// How long an authority lives.
const AUTHORITY: u64 = 3650 * DAY;
/// How long a certificate lives.
const LEAF: u64 = 90 * DAY;
/// Clocks differ; a certificate is valid a little before it is made.
const SKEW: u64 = 60 * 60;

/// How often the Secret is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How soon again where something failed.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a new authority may take to be trusted before its certificate is shown all the same.
const TRUST: Duration = Duration::from_secs(60);

/// An authority and the certificate it has signed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Issued {
    authority: String,
    authority_key: String,
    /// The authority before this one, while certificates of it may be about.
    previous: Option<String>,
    leaf: String,
    leaf_key: String,
    times: Times,
}

/// Lives, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Times {
    authority: (u64, u64),
    leaf: (u64, u64),
}

/// What is to be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Authority,
    Leaf,
    Nothing,
}

fn is_old((from, to): (u64, u64), now: u64) -> bool {
    now >= from + (to.saturating_sub(from)) / 3 * 2
}

impl Issued {
    fn due(&self, now: u64) -> Due {
        if is_old(self.times.authority, now) {
            Due::Authority
        } else if is_old(self.times.leaf, now) {
            Due::Leaf
        } else {
            Due::Nothing
        }
    }

    /// A certificate for these names, of the authority of `old` where that is young enough.
    fn make(names: &[String], old: Option<&Self>, now: u64) -> Result<Self, rcgen::Error> {
        let kept = old.filter(|old| old.due(now) != Due::Authority);
        let (mut authority, key, lives) = if let Some(old) = kept {
            let key = KeyPair::from_pem(&old.authority_key)?;
            (authority(old.times.authority)?, key, old.times.authority)
        } else {
            let lives = (now.saturating_sub(SKEW), now + AUTHORITY);
            (authority(lives)?, KeyPair::generate()?, lives)
        };
        let (pem, previous) = match (kept, old) {
            (Some(old), _) => (old.authority.clone(), None),
            (None, old) => {
                (authority.self_signed(&key)?.pem(), old.map(|old| old.authority.clone()))
            }
        };
        // Its serial number is of no use to those it signs.
        authority.serial_number = None;
        let authority_key = key.serialize_pem();
        let issuer = Issuer::new(authority, key);
        let life = (now.saturating_sub(SKEW), now + LEAF);
        let mut leaf = CertificateParams::new(names.to_vec())?;
        leaf.distinguished_name.push(DnType::CommonName, "pillion injector");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.use_authority_key_identifier_extension = true;
        (leaf.not_before, leaf.not_after) = span(life);
        let leaf_key = KeyPair::generate()?;
        Ok(Self {
            authority: pem,
            authority_key,
            previous,
            leaf: leaf.signed_by(&leaf_key, &issuer)?.pem(),
            leaf_key: leaf_key.serialize_pem(),
            times: Times { authority: lives, leaf: life },
        })
    }

    /// Whom to trust.
    fn trusted(&self) -> String {
        format!("{}{}", self.authority, self.previous.as_deref().unwrap_or_default())
    }

    fn of_secret(secret: &Value) -> Option<Self> {
        let data = |name: &str| {
            let bytes = STANDARD.decode(field(secret, "/data").get(name)?.as_str()?).ok()?;
            String::from_utf8(bytes).ok()
        };
        Some(Self {
            authority: data("ca.crt")?,
            authority_key: data("ca.key")?,
            previous: data("previous-ca.crt").filter(|text| !text.is_empty()),
            leaf: data("tls.crt")?,
            leaf_key: data("tls.key")?,
            times: serde_json::from_str(&data("times.json")?).ok()?,
        })
    }

    fn to_secret(&self, name: &str, namespace: &str, version: Option<&str>) -> Value {
        let times = serde_json::to_string(&self.times).unwrap_or_default();
        let data: Map<String, Value> = [
            ("ca.crt", self.authority.as_str()),
            ("ca.key", &self.authority_key),
            ("previous-ca.crt", self.previous.as_deref().unwrap_or_default()),
            ("tls.crt", &self.leaf),
            ("tls.key", &self.leaf_key),
            ("times.json", &times),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), STANDARD.encode(text).into()))
        .collect();
        let labels = json!({"app.kubernetes.io/managed-by": "pillion-injector"});
        let own = [("name", name.into()), ("namespace", namespace.into()), ("labels", labels)];
        let version = version.map(|version| ("resourceVersion", version.into()));
        let own = own.into_iter().chain(version);
        let metadata: Map<String, Value> =
            own.map(|(name, value)| (name.to_owned(), value)).collect();
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": metadata,
            "data": data,
        })
    }
}

/// The authority's own words; made again from its life, they are the same, so that its certificate
/// need not be read.
fn authority(life: (u64, u64)) -> Result<CertificateParams, rcgen::Error> {
    let mut own = CertificateParams::new(Vec::new())?;
    own.distinguished_name.push(DnType::CommonName, "pillion injector authority");
    own.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    own.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (own.not_before, own.not_after) = span(life);
    Ok(own)
}

fn span((from, to): (u64, u64)) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let at = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        time::OffsetDateTime::from_unix_timestamp(seconds)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    (at(from), at(to))
}

impl Webhook {
    /// Keeps a certificate that the API server can trust.
    pub(super) async fn keep_authority(&self) {
        let mut shown = None;
        loop {
            let pause = match self.issued().await {
                Ok(issued) if shown.as_ref() == Some(&issued) => LOOK,
                Ok(issued) => {
                    self.take_up(&issued, shown.is_some()).await;
                    shown = Some(issued);
                    LOOK
                }
                Err(error) => {
                    warn!(%error, "the certificate's Secret cannot be kept");
                    AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Shows it, after it is trusted: where another one is shown already, that goes on until then.
    async fn take_up(&self, issued: &Issued, is_another_shown: bool) {
        self.bundle.want(issued.trusted());
        if is_another_shown {
            let _ = tokio::time::timeout(TRUST, self.bundle.becomes_right()).await;
        }
        let (leaf, key) = (issued.leaf.as_bytes(), issued.leaf_key.as_bytes());
        match self.held.show(leaf, key, Some(issued.times.leaf.1)) {
            Ok(()) => info!(until = issued.times.leaf.1, "a certificate of our own is shown"),
            Err(error) => warn!(%error, "the Secret's certificate and key do not belong together"),
        }
    }

    /// What the Secret holds, made or renewed where that is due. Of several that try at once one
    /// succeeds, and the others find its work.
    async fn issued(&self) -> Result<Issued, Failed> {
        let (name, namespace) = (&self.settings.certs.secret_name, &self.own.namespace);
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        let secret = match self.cluster.get(&path).await {
            Ok(secret) => Some(secret),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error),
        };
        let now = unix_now().as_secs();
        let old = secret.as_ref().and_then(Issued::of_secret);
        if let Some(old) = old.as_ref().filter(|old| old.due(now) == Due::Nothing) {
            return Ok(old.clone());
        }
        let made = Issued::make(&self.names(), old.as_ref(), now)
            .map_err(|error| Failed::Garbled(format!("no certificate can be made: {error}")))?;
        let version =
            secret.as_ref().and_then(|it| field(it, "/metadata/resourceVersion").as_str());
        let object = made.to_secret(name, namespace, version);
        // One that is there belongs to whoever made it; its version says that nobody else renews
        // it at this moment.
        let manager = format!("pillion-injector-{}", self.own.pod);
        let by = match version {
            Some(_) => Applier::Forcing(&manager),
            None => Applier::Yielding(&manager),
        };
        match self.cluster.apply(&path, by, &object).await {
            Ok(kept) => {
                info!(renewed = secret.is_some(), "a certificate was made");
                Ok(Issued::of_secret(&kept).unwrap_or(made))
            }
            // Somebody else was faster: theirs is it, at the next look.
            Err(error) => Err(error),
        }
    }

    /// The names by which the API server calls.
    fn names(&self) -> Vec<String> {
        let host = format!("{}.{}.svc", self.settings.certs.service, self.own.namespace);
        let mut names = vec![host.clone(), format!("{host}.cluster.local"), "localhost".to_owned()];
        names.extend(self.settings.certs.names.iter().cloned());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn names() -> Vec<String> {
        vec!["a.b.svc".to_owned()]
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life_by_the_same_authority() {
        let first = Issued::make(&names(), None, NOW).unwrap();
        assert_eq!(first.due(NOW), Due::Nothing);
        assert_eq!(first.due(NOW + 59 * DAY), Due::Nothing);
        assert_eq!(first.due(NOW + 61 * DAY), Due::Leaf);
        let second = Issued::make(&names(), Some(&first), NOW + 61 * DAY).unwrap();
        assert_eq!(second.authority, first.authority);
        assert_ne!(second.leaf, first.leaf);
        assert_eq!((second.previous.as_ref(), second.due(NOW + 61 * DAY)), (None, Due::Nothing));
    }

    #[test]
    fn an_old_authority_stays_trusted_beside_the_new_one_until_the_next_renewal() {
        let first = Issued::make(&names(), None, NOW).unwrap();
        let late = NOW + 2434 * DAY;
        assert_eq!(first.due(late), Due::Authority);
        let second = Issued::make(&names(), Some(&first), late).unwrap();
        assert_ne!(second.authority, first.authority);
        assert!(second.trusted().contains(&first.authority));
        assert!(second.trusted().starts_with(&second.authority));
        let third = Issued::make(&names(), Some(&second), late + 61 * DAY).unwrap();
        assert_eq!(third.trusted(), second.authority);
    }

    #[test]
    fn a_secret_holds_all_of_it_and_a_broken_one_nothing() {
        let issued = Issued::make(&names(), None, NOW).unwrap();
        let mut secret = issued.to_secret("n", "s", Some("7"));
        assert_eq!(secret["metadata"]["resourceVersion"], "7");
        assert_eq!(Issued::of_secret(&secret).as_ref(), Some(&issued));
        secret["data"]["ca.key"] = "!".into();
        assert_eq!(Issued::of_secret(&secret), None);
        assert_eq!(Issued::of_secret(&json!({})), None);
    }
}
