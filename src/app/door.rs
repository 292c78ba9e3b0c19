//! What stands before the LLM API of a sidecar in a pod: the answer while there is no
//! configuration yet, and the call that ends it.
//!
//! A sidecar that needs none of that has no door, and its requests do not pass here.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::plan::Plan;
use crate::config::watch::Status;
use crate::exchange::{Body, Gateway};

/// What stands before the LLM API.
#[derive(Clone)]
pub(super) struct Door {
    /// The file that is waited for.
    file: String,
    status: watch::Receiver<Status>,
    /// Told when a call asks the sidecar to end.
    quit: Option<watch::Sender<bool>>,
}

impl Door {
    /// The door that a plan needs, if it does.
    pub(super) fn of(plan: &Plan, status: watch::Receiver<Status>) -> Option<Self> {
        if plan.awaits.is_none() && !plan.may_quit {
            return None;
        }
        let file = plan.files.as_ref().map(|files| files.path.display().to_string());
        let quit = plan.may_quit.then(|| watch::channel(false).0);
        Some(Self { file: file.unwrap_or_default(), status, quit })
    }

    /// Tells when a call asks the sidecar to end.
    pub(super) fn knocked(&self) -> Option<watch::Receiver<bool>> {
        self.quit.as_ref().map(watch::Sender::subscribe)
    }

    /// Answers by itself, or lets the request through.
    pub(super) async fn answer(
        self,
        gateway: Arc<Gateway>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        if let Some(quit) = self.quit.as_ref().filter(|_| request.uri().path() == "/quitquitquit") {
            // A page in a browser may send a POST anywhere, and says where it comes from.
            if request.method() != Method::POST || request.headers().contains_key(header::ORIGIN) {
                let message = "only POST without an Origin ends the sidecar";
                return said(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
            }
            let _ = quit.send(true);
            return said(StatusCode::OK, "ending", "the sidecar ends when what runs is over");
        }
        let awaited = {
            let status = self.status.borrow();
            status.is_awaiting().then(|| status.last_error.clone().unwrap_or_default())
        };
        match awaited {
            None => gateway.serve(request).await,
            Some(why) => {
                let message = format!(
                    "Pillion has no configuration that can be served yet: {why}; it takes {} up as soon \
                     as it is there (in Kubernetes, look at the ConfigMap that is mounted there)",
                    self.file
                );
                let mut response =
                    said(StatusCode::SERVICE_UNAVAILABLE, "no_configuration", &message);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                response
            }
        }
    }
}

/// Ends when a call asks for it; never where none may.
pub(super) async fn quit(knocked: Option<watch::Receiver<bool>>) {
    if let Some(mut knocked) = knocked
        && knocked.wait_for(|asked| *asked).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

fn said(status: StatusCode, kind: &str, message: &str) -> Response<Body> {
    let field = if status.is_success() { "status" } else { "error" };
    let body = serde_json::json!({field: {"message": message, "type": kind, "code": kind}});
    let mut response = Response::new(Body::whole(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
