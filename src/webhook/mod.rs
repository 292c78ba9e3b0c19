//! The admission webhook: it answers the API server, and keeps right what that needs.
//!
//! Promises that a pod which asked for a sidecar gets it or is refused with a reason, and that
//! nothing but the names it was given is ever written: one Secret, one caBundle, one `ConfigMap`
//! per namespace. Every replica does the same; what they write is equal, so nobody leads.
//!
//! Refuses to know: what is added to a pod, which [`inject`](crate::inject) says, and sockets.

mod authority;
mod bundle;
mod certificate;
mod distribution;
mod meters;
mod namespaces;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::cluster::Cluster;
use crate::inject::field;
use crate::inject::review::{Outcome, review};
use crate::inject::{CertMode, Distribution, Settings, Version};
use crate::lexicon::time;

use certificate::Held;
use distribution::Copies;
use meters::Meters;
use namespaces::Namespaces;

/// Who this injector is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its namespace.
    pub namespace: String,
    /// Its pod, by which its own writes are told from those of its likes.
    pub pod: String,
    /// The folder with a certificate that somebody else brings.
    pub certificate: PathBuf,
}

/// An injector that runs.
pub struct Webhook {
    settings: Settings,
    own: Own,
    cluster: Cluster,
    server: ArcSwapOption<Version>,
    namespaces: Namespaces,
    copies: Copies,
    held: Arc<Held>,
    bundle: bundle::Bundle,
    meters: Meters,
    leaving: AtomicBool,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Webhook {
    /// An injector that knows nothing yet.
    pub fn new(settings: Settings, own: Own, cluster: Cluster) -> Arc<Self> {
        Arc::new(Self {
            settings,
            own,
            cluster,
            server: ArcSwapOption::empty(),
            namespaces: Namespaces::default(),
            copies: Copies::default(),
            held: Arc::default(),
            bundle: bundle::Bundle::default(),
            meters: Meters::default(),
            leaving: AtomicBool::new(false),
        })
    }

    /// TLS with the certificate that is held at the moment of each greeting, for these protocols of
    /// ALPN.
    pub fn tls(&self, protocols: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.held.clone());
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Ok(config)
    }

    /// Keeps everything right, for ever.
    pub async fn keep(self: Arc<Self>) {
        let is_ours = self.settings.certs.mode == CertMode::Auto;
        let certificates =
            async { if is_ours { self.keep_authority().await } else { self.follow_files().await } };
        let bundles = async {
            if is_ours {
                tokio::join!(self.follow_bundle(), self.keep_bundle());
            }
        };
        let copies = async {
            if self.settings.config.distribution == Distribution::Sync {
                tokio::join!(self.follow_copies(), self.distribute());
            }
        };
        tokio::join!(self.ask_version(), self.follow_namespaces(), certificates, bundles, copies);
    }

    /// Says from now on that it is not ready, so that nobody new comes.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Asks which version the cluster has, now and then: clusters are upgraded under us.
    async fn ask_version(&self) {
        loop {
            let read = match self.cluster.get("/version").await {
                Ok(said) => field(&said, "/gitVersion").as_str().and_then(Version::read),
                Err(error) => {
                    warn!(%error, "the cluster's version is not known");
                    None
                }
            };
            if let Some(version) = read {
                self.server.store(Some(Arc::new(version)));
            }
            tokio::time::sleep(if read.is_some() { OFTEN * 60 } else { OFTEN }).await;
        }
    }

    /// Answers one request of the API server.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let started = time::now();
        let version = request.version();
        let mut response = match self.review(request).await {
            Ok(answer) => said(StatusCode::OK, JSON, answer),
            Err((status, message)) => {
                self.meters.bad();
                warn!(status = status.as_u16(), error = %message, "a request that cannot be answered");
                said(status, TEXT, format!("{message}\n"))
            }
        };
        // The next request takes another connection, to somebody who stays; HTTP/2 says so itself.
        if self.leaving.load(Ordering::Relaxed) && version < http::Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.meters.took(time::now().saturating_duration_since(started));
        response
    }

    async fn review(&self, request: Request<Incoming>) -> Result<String, (StatusCode, String)> {
        let refuse = |status: StatusCode, message: &str| Err((status, message.to_owned()));
        if request.uri().path() != "/mutate" {
            return refuse(StatusCode::NOT_FOUND, "reviews are answered at /mutate");
        }
        if request.method() != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "a review is a POST");
        }
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with(JSON)) {
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a review is application/json");
        }
        let body = Limited::new(request.into_body(), LARGEST).collect();
        let body = match tokio::time::timeout(PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return refuse(StatusCode::PAYLOAD_TOO_LARGE, "a review has 8 MiB at most");
            }
            Ok(Err(error)) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
            Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body does not come"),
        };
        self.decide(&body).await
    }

    async fn decide(&self, body: &[u8]) -> Result<String, (StatusCode, String)> {
        let namespace = self.known(body).await;
        // A fault in the plan must not take the injector with it: others still wait for answers.
        let reviewed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            review(body, |_| {
                namespace.around(&self.settings, self.server.load().as_deref().copied())
            })
        }));
        let reviewed = match reviewed {
            Ok(Ok(reviewed)) => reviewed,
            Ok(Err(error)) => return Err((StatusCode::BAD_REQUEST, error.to_string())),
            Err(_) => {
                error!("the plan for a pod panicked");
                return Err((StatusCode::INTERNAL_SERVER_ERROR, "the injector has a fault".into()));
            }
        };
        let (outcome, reason) = reviewed.outcome.as_labels();
        self.meters.reviewed(outcome, reason);
        if let Some(why) = &reviewed.reason {
            warn!(pod = reviewed.pod, outcome, reason, why, "pod reviewed");
        } else {
            info!(pod = reviewed.pod, outcome, reason, "pod reviewed");
        }
        // A dry run must leave nothing behind, as the webhook's `sideEffects: None` says.
        if matches!(reviewed.outcome, Outcome::Injected(_)) && !reviewed.is_dry_run {
            self.copies.wanted_in(reviewed.pod.split('/').next().unwrap_or_default());
        }
        Ok(reviewed.answer.to_string())
    }

    /// Answers probes and scrapes.
    pub fn admin(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return said(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "only GET is answered here\n".into(),
            );
        }
        match path {
            "/livez" | "/startupz" => said(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" | "/healthz" => match self.unready() {
                None => said(StatusCode::OK, TEXT, "ok\n".to_owned()),
                Some(why) => said(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
            },
            "/metrics" => {
                let state = meters::State {
                    is_ready: self.unready().is_none(),
                    certificate_expiry: self.held.expiry(),
                    is_bundle_right: self.bundle.is_right(),
                    copies: self.copies.count(),
                    is_config_sound: self.copies.is_sound(),
                };
                said(StatusCode::OK, PROMETHEUS, self.meters.render(&state))
            }
            _ => said(
                StatusCode::NOT_FOUND,
                TEXT,
                "there are /livez, /readyz, /startupz, /healthz and /metrics\n".to_owned(),
            ),
        }
    }

    /// Why it cannot answer yet, or no longer.
    fn unready(&self) -> Option<&'static str> {
        if self.leaving.load(Ordering::Relaxed) {
            return Some("it ends");
        }
        if !self.held.is_there() {
            return Some("it has no certificate");
        }
        if self.settings.certs.mode == CertMode::Auto && !self.bundle.is_right() {
            return Some("the webhook configuration does not trust its certificate yet");
        }
        if self.server.load().is_none() {
            return Some("the cluster's version is not known");
        }
        (!self.namespaces.are_known()).then_some("namespaces are not known")
    }
}

/// How often what should not change is looked at.
const OFTEN: Duration = Duration::from_secs(10);
/// How long a body may take; the API server waits 30 s at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects have 3 MiB at most, and a review holds one twice.
const LARGEST: usize = 8 * 1024 * 1024;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn said(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Waits until something has changed, but not for ever.
async fn stirred_or_soon(stirred: &Notify, most: Duration) {
    let _ = tokio::time::timeout(most, stirred.notified()).await;
}
