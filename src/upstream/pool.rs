//! Connections to providers that wait for their next call: per origin a stack of idle HTTP/1.1
//! connections, or one HTTP/2 connection for all.
//!
//! Promises that a call never waits for a connection that others use, and that what is lent comes
//! back only when its answer was read to the end. Makes no connection itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};

use crate::protocol::RopeBody;

/// All origins that were ever called. A configuration names few, so none is forgotten.
#[derive(Debug, Default)]
pub(super) struct Pool {
    plain: Mutex<HashMap<Box<str>, Arc<Origin>>>,
    secure: Mutex<HashMap<Box<str>, Arc<Origin>>>,
}

impl Pool {
    /// The origin of a URI; `new` makes one that is not known yet. `None` where the URI has no
    /// host.
    pub(super) fn origin(&self, of: &Uri, new: impl FnOnce(Uri) -> Origin) -> Option<Arc<Origin>> {
        let authority = of.authority()?;
        let secure = of.scheme() == Some(&Scheme::HTTPS);
        let known = if secure { &self.secure } else { &self.plain };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(origin) = known.get(authority.as_str()) {
            return Some(origin.clone());
        }
        let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
        let root = Uri::builder().scheme(scheme).authority(authority.clone()).path_and_query("/");
        let origin = Arc::new(new(root.build().ok()?));
        known.insert(authority.as_str().into(), origin.clone());
        Some(origin)
    }

    /// Closes connections that were idle for longer than the limit.
    pub(super) fn prune(&self, idle_timeout: Duration, now: Instant) {
        for known in [&self.plain, &self.secure] {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            for origin in known.values() {
                origin.prune(idle_timeout, now);
            }
        }
    }
}

/// Where connections lead: scheme, host and port.
#[derive(Debug)]
pub(super) struct Origin {
    /// Scheme and authority, with `/` as the path.
    pub(super) root: Uri,
    /// What HTTP/1.1 names it by.
    host: HeaderValue,
    /// What a forward proxy wants to see in a plain request.
    credentials: Option<HeaderValue>,
    open: Mutex<Open>,
}

/// Connections that are open and free for a call.
#[derive(Debug)]
enum Open {
    /// The one used last is on top; it is the least likely to have been closed.
    H1(Vec<Idle>),
    H2(http2::SendRequest<RopeBody>),
}

#[derive(Debug)]
struct Idle {
    line: Line,
    since: Instant,
}

/// One HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) sender: http1::SendRequest<RopeBody>,
    /// Whether it leads to a forward proxy, which wants whole addresses.
    pub(super) to_proxy: bool,
}

/// A connection for one call.
#[derive(Debug)]
pub(super) enum Connection {
    H1(Line),
    H2(http2::SendRequest<RopeBody>),
}

impl Origin {
    pub(super) fn new(root: Uri, credentials: Option<HeaderValue>) -> Self {
        let port = root.port().filter(|port| {
            let usual = if root.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
            port.as_u16() != usual
        });
        let host = root.host().unwrap_or_default();
        let host = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        // A host that a URI may hold may stand in a header.
        let host = HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static(""));
        Self { root, host, credentials, open: Mutex::new(Open::H1(Vec::new())) }
    }

    /// A connection that is open and free, where there is one.
    pub(super) fn take(&self, idle_timeout: Duration, now: Instant) -> Option<Connection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *open {
            Open::H2(sender) if !sender.is_closed() => Some(Connection::H2(sender.clone())),
            Open::H2(_) => {
                *open = Open::H1(Vec::new());
                None
            }
            Open::H1(idle) => {
                let top = idle.iter().rposition(|idle| idle.is_ready(idle_timeout, now))?;
                // Those above are closed, or still write a request that the provider answered before
                // it had come whole. Pruning finds out.
                Some(Connection::H1(idle.remove(top).line))
            }
        }
    }

    /// Takes a connection back whose answer was read to the end.
    pub(super) fn put(&self, line: Line, now: Instant) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Open::H1(idle) = &mut *open
            && !line.sender.is_closed()
        {
            idle.push(Idle { line, since: now });
        }
    }

    /// Shares a new connection with all calls to come.
    pub(super) fn share(&self, sender: http2::SendRequest<RopeBody>) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Open::H2(sender);
    }

    fn prune(&self, idle_timeout: Duration, now: Instant) {
        if let Open::H1(idle) = &mut *self.open.lock().unwrap_or_else(PoisonError::into_inner) {
            idle.retain(|idle| idle.is_good(idle_timeout, now));
        }
    }

    /// Puts the address of a call as an HTTP/1.1 connection wants it.
    fn address(&self, request: &mut Request<RopeBody>, to_proxy: bool) {
        let headers = request.headers_mut();
        headers.entry(http::header::HOST).or_insert_with(|| self.host.clone());
        if to_proxy && let Some(credentials) = &self.credentials {
            headers.insert(http::header::PROXY_AUTHORIZATION, credentials.clone());
        }
        if !to_proxy {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
        }
    }
}

impl Idle {
    fn is_ready(&self, idle_timeout: Duration, now: Instant) -> bool {
        self.line.sender.is_ready() && self.is_good(idle_timeout, now)
    }

    fn is_good(&self, idle_timeout: Duration, now: Instant) -> bool {
        !self.line.sender.is_closed() && now.saturating_duration_since(self.since) < idle_timeout
    }
}

impl Connection {
    /// Sends a request and waits for the head of the answer. An error gives the request back if
    /// nothing of it was sent.
    pub(super) async fn send(
        self,
        mut request: Request<RopeBody>,
        origin: &Origin,
    ) -> Result<(Response<Incoming>, Option<Line>), TrySendError<Request<RopeBody>>> {
        match self {
            Self::H1(mut line) => {
                origin.address(&mut request, line.to_proxy);
                let response = line.sender.try_send_request(request).await?;
                Ok((response, Some(line)))
            }
            Self::H2(mut sender) => Ok((sender.try_send_request(request).await?, None)),
        }
    }
}
