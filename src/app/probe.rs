//! The admin port: what a running sidecar tells of itself.

use std::sync::atomic::Ordering;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{Control, gossip};
use crate::admin::{self, Asked, Probe, State};
use crate::lexicon::{DeploymentIx, time};
use crate::telemetry::{self, Scrape};

/// Answers one request.
pub(super) fn answer(
    request: &Request<Incoming>,
    control: &Control,
) -> Response<Full<bytes::Bytes>> {
    if let Err(foreign) = control.pages.load().admit(request.headers()) {
        return admin::refuse(request.method(), &foreign.to_string());
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    admin::answer(request.method(), target, control)
}

impl Probe for Control {
    fn explain(&self, asked: &Asked<'_>) -> Option<String> {
        let explained = self.gateway.live().explain(&asked.model, &asked.tags, time::now())?;
        Some(explained.to_string())
    }

    fn fleet(&self) -> String {
        gossip::told(self, time::now()).to_string()
    }

    fn report(&self) -> String {
        self.gateway.live().report().to_json()
    }

    fn status(&self) -> admin::Status {
        let status = self.status.borrow();
        let draining = self.draining.load(Ordering::Relaxed);
        admin::Status {
            state: match (draining, status.is_awaiting()) {
                (true, _) => State::Draining,
                (false, true) => State::Starting,
                (false, false) => State::Ready,
            },
            generation: status.loaded_generation,
            hash: status.loaded_hash.clone(),
            in_sync: status.in_sync,
            last_error: status.last_error.clone(),
            last_success_unix: status.last_success_unix,
        }
    }

    fn metrics(&self) -> String {
        let live = self.gateway.live();
        let now = time::now();
        let running = live.deployments.iter().enumerate().filter_map(|(at, deployment)| {
            let at = DeploymentIx(u16::try_from(at).ok()?);
            let row = live.rows.get(at)?;
            Some(telemetry::Running {
                id: deployment.id.clone(),
                in_flight: row.vitals().in_flight,
                cooldown: live.cooldown(at, now),
                panics: row.forced(),
                events_skipped: row.events_skipped(),
                streams_without_reason: row.streams_without_reason(),
            })
        });
        let status = self.status.borrow();
        let scrape = Scrape {
            deployments: running.collect(),
            queued: self.stats.queued(),
            requests_in_flight: self.gateway.in_flight(),
            buffered_bytes: self.gateway.buffered_bytes(),
            connections_open: u32::try_from(self.connections.open()).unwrap_or(u32::MAX),
            connections_opened: self.connections.opened(),
            lessons_dropped: self.stats.lessons().dropped(),
            hedging: live.worth_of_hedging(),
            gossip: self
                .gossip
                .as_ref()
                .and_then(|shared| gossip::scraped(shared, &live.deployments, now)),
            config: telemetry::Config {
                generation: status.loaded_generation,
                in_sync: status.in_sync,
                last_reload_success: status.last_error.is_none(),
                last_success_unix: status.last_success_unix,
                reloads: status.reloads,
                failed_reloads: status.refusals,
            },
        };
        drop(status);
        self.telemetry.render(&scrape)
    }
}
