//! `pillion webhook`: the injector as a process, from its settings to its end.

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Uri};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::signals::Signals;
use super::{bind, complain, inject};
use crate::cluster::Cluster;
use crate::inject::Settings;
use crate::listen::{self, Stop};
use crate::webhook::{Own, Webhook};
use crate::{cli, config, logs};

/// How long it goes on after it is asked to end: until nobody is sent here any more.
const LEAVING: Duration = Duration::from_secs(5);
/// How long what runs may take then.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs until a signal.
pub(super) async fn run(asked: cli::Webhook) -> ExitCode {
    match start(&asked) {
        Ok((settings, own, cluster)) => {
            logs::start(&config::Log {
                level: settings.log_level.as_str().into(),
                format: config::LogFormat::Json,
            });
            serve(&asked, Webhook::new(settings, own, cluster)).await
        }
        Err(why) => complain(&why),
    }
}

fn start(asked: &cli::Webhook) -> Result<(Settings, Own, Cluster), String> {
    let settings = match &asked.config {
        Some(file) => inject::read_settings(file)?,
        None => Settings::default(),
    };
    let told = fs::read_to_string(asked.service_account.join("namespace")).ok();
    let namespace = asked.namespace.clone().or(told).ok_or(
        "in which namespace is this? Give --namespace, or run it in a pod with a service account",
    )?;
    let base = asked.api_server.clone().or_else(in_cluster).ok_or(
        "where is the API server? Give --api-server, or run it in a pod (KUBERNETES_SERVICE_HOST is not set)",
    )?;
    let pod = asked.pod.clone().unwrap_or_else(|| format!("{}", std::process::id()));
    let own =
        Own { namespace: namespace.trim().to_owned(), pod, certificate: asked.tls_dir.clone() };
    Ok((settings, own, Cluster::new(&base, &asked.service_account)))
}

/// The API server that a pod is told of.
fn in_cluster() -> Option<Uri> {
    let host = config::process_environment("KUBERNETES_SERVICE_HOST")?;
    let port = config::process_environment("KUBERNETES_SERVICE_PORT_HTTPS")
        .or_else(|| config::process_environment("KUBERNETES_SERVICE_PORT"))
        .unwrap_or_else(|| "443".to_owned());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    format!("https://{host}:{port}").parse().ok()
}

async fn serve(asked: &cli::Webhook, webhook: Arc<Webhook>) -> ExitCode {
    let (api, admin) = match (bind(&asked.listen).await, bind(&asked.admin).await) {
        (Ok(api), Ok(admin)) => (api, admin),
        (Err(why), _) | (_, Err(why)) => return complain(&why),
    };
    let tls = match webhook.tls(&listen::secure::PROTOCOLS) {
        Ok(tls) => Arc::new(tls),
        Err(error) => return complain(&format!("no TLS: {error}")),
    };
    let Ok(mut signals) = Signals::new() else {
        return complain("cannot listen for signals");
    };
    for (listeners, what) in [(&api, "serving reviews"), (&admin, "serving health and metrics")] {
        for address in listeners.iter().filter_map(|it| it.local_addr().ok()) {
            info!(%address, "{what}");
        }
    }
    let mut work = JoinSet::new();
    work.spawn(webhook.clone().keep());
    let probed = webhook.clone();
    let (_open, never) = watch::channel(Stop::Not);
    let answer = move |request: Request<Incoming>| {
        let answer = probed.admin(request.method(), request.uri().path());
        async move { answer }
    };
    let settings = listen::Settings::default();
    work.spawn(async move {
        listen::run(admin, settings, answer, never, Duration::ZERO).await;
    });
    let (stop, stopped) = watch::channel(Stop::Not);
    let reviewing = webhook.clone();
    let answer = move |request| reviewing.clone().answer(request);
    let served =
        listen::secure::run(api, (listen::Settings::default(), tls), answer, stopped, DRAIN);
    let mut served = std::pin::pin!(served);
    tokio::select! {
        _ = &mut served => return complain("the listener ended by itself"),
        ended = work.join_next() => {
            return complain(&format!("what keeps everything right has ended: {ended:?}"));
        }
        () = signals.next() => {}
    }
    info!("stopping: going on until nobody is sent here");
    webhook.leave();
    tokio::select! {
        _ = &mut served => {}
        () = tokio::time::sleep(LEAVING) => {}
        () = signals.next() => {}
    }
    let _ = stop.send(Stop::Drain);
    let cut = served.await;
    if cut > 0 {
        warn!(connections = cut, "connections were cut before their reviews were over");
    }
    work.shutdown().await;
    info!("stopped");
    ExitCode::SUCCESS
}
