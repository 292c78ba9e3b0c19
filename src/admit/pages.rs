//! Which pages of a browser may ask: on a machine with a browser any page of the Internet reaches
//! what listens on loopback, by a form that posts there or by a name that leads there.
//!
//! Pure. Two headers tell, which no page can set: `Host`, the name that the browser was led by, and
//! `Origin`, the page that posts. A name is one of this machine's where nobody on the Internet can
//! own it: an address, a name without a dot, or one below `localhost` or `internal`. Whoever sends
//! neither header is no browser.

use std::fmt;

use http::{HeaderMap, HeaderValue, header};

/// Which pages may ask.
#[derive(Debug, Default)]
pub struct Pages(Option<Box<[Box<str>]>>);

/// Why a request may not ask. Answered with status 403.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// It was led here by this name.
    Host(Box<str>),
    /// This page sends it.
    Page(Box<str>),
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(
                f,
                "`{name}` is no name of this machine, and a page in a browser may have led here by it: ask by an IP address or localhost, or add the name to pillion.allowed_hosts"
            ),
            Self::Page(origin) => write!(
                f,
                "a page of `{origin}` may not ask the gateway of this machine: add its host to pillion.allowed_hosts if it may"
            ),
        }
    }
}

impl std::error::Error for Foreign {}

impl Pages {
    /// Everybody's.
    pub const fn all() -> Self {
        Self(None)
    }

    /// Those of this machine and of these hosts; `*` is everybody's.
    pub fn of(hosts: &[Box<str>]) -> Self {
        if hosts.iter().any(|host| **host == *"*") { Self(None) } else { Self(Some(hosts.into())) }
    }

    /// Refuses what a foreign page sends.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Foreign> {
        let Some(allowed) = &self.0 else { return Ok(()) };
        let is_allowed = |name: &[u8]| {
            allowed.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(name))
        };
        let host = headers.get(header::HOST).map_or(&[][..], HeaderValue::as_bytes);
        let name = name_of(host);
        if !is_private(name) && !is_allowed(name) {
            return Err(Foreign::Host(shown(name)));
        }
        let Some(origin) = headers.get(header::ORIGIN).map(HeaderValue::as_bytes) else {
            return Ok(());
        };
        let is_known = match authority(origin) {
            Page::None => true,
            Page::Nameless => false,
            Page::Of(page) => {
                let name = name_of(page);
                is_loopback(name) || page.eq_ignore_ascii_case(host) || is_allowed(name)
            }
        };
        if is_known || is_vouched_for(headers) { Ok(()) } else { Err(Foreign::Page(shown(origin))) }
    }
}

/// Whose an origin is.
enum Page<'a> {
    /// Of no page but of a program: an extension of the browser, or an application built on one.
    None,
    /// Of one that does not say whose it is, such as a frame that is shut in.
    Nameless,
    /// Of one at this host and port.
    Of(&'a [u8]),
}

fn authority(origin: &[u8]) -> Page<'_> {
    match (origin.strip_prefix(b"http://"), origin.strip_prefix(b"https://")) {
        (Some(page), _) | (_, Some(page)) => Page::Of(page),
        (None, None) if origin.windows(3).any(|part| part == b"://") => Page::None,
        (None, None) => Page::Nameless,
    }
}

/// Whether the browser has sent it to the page's own server, which has passed it on.
fn is_vouched_for(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin")
}

/// A host without its port, and without the dot that may end it.
fn name_of(authority: &[u8]) -> &[u8] {
    let colon = authority.iter().rposition(|byte| *byte == b':');
    let name = match colon {
        Some(at) if !authority.ends_with(b"]") => authority.get(..at).unwrap_or_default(),
        Some(_) | None => authority,
    };
    name.strip_suffix(b".").unwrap_or(name)
}

/// Whether nobody on the Internet can own a name.
fn is_private(name: &[u8]) -> bool {
    is_address(name)
        || !name.contains(&b'.')
        || is_below(name, b"localhost")
        || is_below(name, b"internal")
}

fn is_address(name: &[u8]) -> bool {
    name.starts_with(b"[") || name.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// Whether a name is this machine's and nobody else's.
fn is_loopback(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"localhost")
        || is_below(name, b"localhost")
        || name == b"[::1]"
        || (name.starts_with(b"127.") && is_address(name))
}

fn is_below(name: &[u8], top: &[u8]) -> bool {
    let at = name.len().saturating_sub(top.len());
    let (below, last) = name.split_at(at);
    last.eq_ignore_ascii_case(top) && below.ends_with(b".")
}

/// As much of it as a message needs: no name is longer.
fn shown(name: &[u8]) -> Box<str> {
    String::from_utf8_lossy(name.get(..253).unwrap_or(name)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pages: &Pages, headers: &[(&'static str, &'static str)], want: &Result<(), Foreign>) {
        let all: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            })
            .collect();
        assert_eq!(&pages.admit(&all), want, "{headers:?}");
    }

    fn own() -> Pages {
        Pages::of(&["llm.example.com".into()])
    }

    #[test]
    fn a_name_that_somebody_may_own_is_refused() {
        for host in [
            "127.0.0.1:24080",
            "127.0.0.1",
            "[::1]:24080",
            "[::1]",
            "10.0.3.7:24081",
            "localhost:24080",
            "LocalHost",
            "localhost.:24080",
            "app.localhost:24080",
            "host.docker.internal:24080",
            "gateway:24080",
            "llm.example.com",
            "LLM.Example.com.:443",
            "",
        ] {
            check(&own(), &[("host", host)], &Ok(()));
        }
        check(&own(), &[], &Ok(()));
        for (host, name) in [
            ("evil.example:24080", "evil.example"),
            ("evil.example", "evil.example"),
            ("evil.example.:24080", "evil.example"),
            ("localhost.evil.example", "localhost.evil.example"),
            ("127.0.0.1.evil.example:24080", "127.0.0.1.evil.example"),
            ("notlocalhost.example", "notlocalhost.example"),
            ("evil.xlocalhost", "evil.xlocalhost"),
            ("evil.llm.example.com", "evil.llm.example.com"),
        ] {
            check(&own(), &[("host", host)], &Err(Foreign::Host(name.into())));
            check(&Pages::all(), &[("host", host)], &Ok(()));
            check(&Pages::of(&["*".into()]), &[("host", host)], &Ok(()));
        }
    }

    #[test]
    fn a_page_of_somebody_elses_is_refused() {
        let from = |origin, want: &Result<(), Foreign>| {
            check(&own(), &[("host", "127.0.0.1:24080"), ("origin", origin)], want);
        };
        for origin in [
            "http://localhost:3000",
            "https://app.localhost",
            "http://127.0.0.1:24080",
            "http://127.8.8.8",
            "http://[::1]:5173",
            "https://llm.example.com",
            "app://obsidian.md",
            "vscode-webview://1a2b",
        ] {
            from(origin, &Ok(()));
        }
        for origin in [
            "https://evil.example",
            "http://evil.example:24080",
            "http://203.0.113.7",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://gateway:24080",
            "null",
            "",
        ] {
            from(origin, &Err(Foreign::Page(origin.into())));
        }
    }

    #[test]
    fn a_page_may_ask_where_it_comes_from() {
        let host = ("host", "gateway:24080");
        check(&own(), &[host, ("origin", "http://gateway:24080")], &Ok(()));
        let other = &Err(Foreign::Page("http://gateway:3000".into()));
        check(&own(), &[host, ("origin", "http://gateway:3000")], other);
        // A server in the pod passes on what its own page has sent to it.
        let passed_on = [
            ("host", "127.0.0.1"),
            ("origin", "https://app.example"),
            ("sec-fetch-site", "same-origin"),
        ];
        check(&own(), &passed_on, &Ok(()));
        let across = &Err(Foreign::Page("https://evil.example".into()));
        check(
            &own(),
            &[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")],
            across,
        );
        let led_here = [("host", "evil.example"), ("sec-fetch-site", "same-origin")];
        check(&own(), &led_here, &Err(Foreign::Host("evil.example".into())));
    }

    #[test]
    fn a_long_name_is_not_told_back_whole() {
        let long: &'static str = "a.".repeat(300).leak();
        let Err(Foreign::Host(name)) =
            own().admit(&HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(long))]))
        else {
            panic!()
        };
        assert_eq!(name.len(), 253);
    }
}
