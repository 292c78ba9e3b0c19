//! What a deployment is, for those who call the same one from other pods.
//!
//! A MAC with the provider's key as its key: sidecars whose files call the same deployment by other
//! names agree, sidecars with another key or another cluster do not, and nobody can tell the key
//! from it. It stays the same while the keys of gossip change.

use core::net::IpAddr;

use http::header::{AUTHORIZATION, HeaderValue};
use ring::hmac;

use super::Deployment;
use super::vendor::Auth;
use crate::lexicon::Fingerprint;

/// What the eight bytes are made of; another recipe gets another word.
const RECIPE: &str = "pillion-deployment-1";

impl Deployment {
    /// The fingerprint in a cluster; `None` where nobody else can call the same deployment: it is
    /// mocked, or its address is that of the pod itself.
    pub fn fingerprint(&self, cluster: &str) -> Option<Fingerprint> {
        if self.mock.is_some() || self.unusable.is_some() || is_own(self.base.host()?) {
            return None;
        }
        let base = self.base.to_string();
        let header = |name: &str| self.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        let parts: [&[u8]; 8] = [
            RECIPE.as_bytes(),
            cluster.as_bytes(),
            self.vendor.prefix.as_bytes(),
            base.trim_end_matches('/').as_bytes(),
            self.model.as_bytes(),
            self.query.as_deref().unwrap_or_default().as_bytes(),
            header("openai-organization"),
            header("openai-project"),
        ];
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.key()));
        for part in parts {
            // With its length before it, so that no two lists of parts look the same.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let tag = mac.sign();
        tag.as_ref().first_chunk().copied().map(Fingerprint)
    }

    /// The headers that say whose money it is.
    fn key(&self) -> Vec<u8> {
        let own = match self.vendor.auth {
            Auth::Header(name) => Some(name),
            Auth::Anthropic | Auth::Bearer => None,
        };
        let usual = [AUTHORIZATION.as_str(), "x-api-key"];
        let values = usual.into_iter().chain(own).filter_map(|name| self.headers.get(name));
        values.flat_map(HeaderValue::as_bytes).copied().collect()
    }
}

/// Whether the name means another machine in every pod.
fn is_own(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loops = bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    loops || bare.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::Secret;
    use crate::provider::fixture::spec;
    use crate::provider::{Spec, build};

    fn of(set: impl FnOnce(&mut Spec)) -> Option<Fingerprint> {
        let mut spec = spec("openai/gpt-4o");
        set(&mut spec);
        build(spec, &|_| None).unwrap().fingerprint("c")
    }

    #[test]
    fn names_and_wishes_of_a_file_do_not_matter() {
        let usual = of(|_| ()).unwrap();
        assert_eq!(of(|spec| spec.id = "other".into()), Some(usual));
        assert_eq!(of(|spec| spec.group = "other".into()), Some(usual));
        assert_eq!(of(|spec| spec.drop_params = true), Some(usual));
        assert_eq!(
            of(|spec| spec.api_base = Some("https://api.openai.com/v1/".into())),
            Some(usual)
        );
        let traced = of(|spec| spec.extra_headers.push(("x-pod".into(), "a".into())));
        assert_eq!(traced, Some(usual));
    }

    #[test]
    fn who_pays_and_what_is_called_make_another_one() {
        let several = [
            of(|_| ()),
            of(|spec| spec.api_key = Some(Secret::new("k2"))),
            of(|spec| spec.name = "openai/gpt-4o-mini".into()),
            of(|spec| spec.name = "groq/gpt-4o".into()),
            of(|spec| spec.api_base = Some("https://eu.api.openai.com/v1".into())),
            of(|spec| spec.organization = Some("o".into())),
            build(spec("openai/gpt-4o"), &|_| None).unwrap().fingerprint("d"),
        ];
        for (at, one) in several.iter().enumerate() {
            assert!(one.is_some(), "{at}");
            assert!(several[at + 1..].iter().all(|other| other != one), "{at}");
        }
    }

    #[test]
    fn what_only_the_pod_can_reach_has_none() {
        for base in ["http://127.0.0.1:8000/v1", "http://localhost:1/v1", "http://[::1]:1/v1"] {
            assert_eq!(of(|spec| spec.api_base = Some(base.into())), None, "{base}");
        }
        assert_eq!(of(|spec| spec.mock = Some("hi".into())), None);
        assert!(of(|spec| spec.api_base = Some("http://10.0.0.9:1/v1".into())).is_some());
    }
}
