//! Who may ask: the master key, where one is configured, and else no page of somebody else's.
//!
//! Pure. Without a master key everybody who reaches the listener may ask: it is bound to
//! loopback unless told otherwise, and what a browser on the same machine is made to send there is
//! refused by [`Pages`].

mod pages;

use std::fmt;

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::lexicon::Secret;
pub use pages::{Foreign, Pages};

/// Who may ask. `Debug` shows nothing of the key.
#[derive(Default)]
pub struct Keyring(Option<[u8; 32]>);

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Keyring(one key)" } else { "Keyring(open)" })
    }
}

/// Why a request may not ask. Answered with status 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It carries no key.
    NoKey,
    /// It carries another key.
    WrongKey,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoKey => {
                "no API key passed in; this gateway has a master_key, send it as `Authorization: Bearer …`"
            }
            Self::WrongKey => "the API key is not the gateway's master_key",
        })
    }
}

impl std::error::Error for Denied {}

impl Keyring {
    /// A keyring for `general_settings.master_key`.
    pub fn new(master_key: Option<&Secret>) -> Self {
        Self(master_key.map(|key| Sha256::digest(key.reveal()).into()))
    }

    /// Checks the key of a request, in the headers `LiteLLM` reads and in its order. Takes the
    /// same time for every wrong key.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let Some(wanted) = &self.0 else { return Ok(()) };
        let sent = sent_key(headers).ok_or(Denied::NoKey)?;
        let sent: [u8; 32] = Sha256::digest(sent).into();
        if bool::from(sent.ct_eq(wanted)) { Ok(()) } else { Err(Denied::WrongKey) }
    }
}

fn sent_key(headers: &HeaderMap) -> Option<&[u8]> {
    let bare = |value: &'_ http::HeaderValue| -> Option<usize> {
        let text = value.as_bytes();
        let scheme = text.get(..7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(7)
    };
    let names = ["x-litellm-api-key", header::AUTHORIZATION.as_str(), "api-key", "x-api-key"];
    names.into_iter().find_map(|name| {
        let value = headers.get(name)?;
        let key = value.as_bytes().get(bare(value).unwrap_or(0)..)?.trim_ascii();
        (!key.is_empty()).then_some(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], want: Result<(), Denied>) {
        let keyring = Keyring::new(Some(&Secret::new("sk-master")));
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            })
            .collect();
        assert_eq!(keyring.admit(&headers), want);
    }

    #[test]
    fn the_master_key_opens_in_every_header_that_carries_keys() {
        check(&[("authorization", "Bearer sk-master")], Ok(()));
        check(&[("authorization", "bearer sk-master")], Ok(()));
        check(&[("x-api-key", "sk-master")], Ok(()));
        check(&[("api-key", "sk-master")], Ok(()));
        check(&[("x-litellm-api-key", "sk-master"), ("authorization", "Bearer other")], Ok(()));
        check(&[], Err(Denied::NoKey));
        check(&[("authorization", "Bearer ")], Err(Denied::NoKey));
        check(&[("authorization", "Bearer sk-other")], Err(Denied::WrongKey));
    }

    #[test]
    fn without_a_master_key_everybody_may_ask() {
        assert_eq!(Keyring::new(None).admit(&HeaderMap::new()), Ok(()));
    }
}
