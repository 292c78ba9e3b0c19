//! `pillion wait-ready` and `pillion sleep`: what a shell would do in an image that has none.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use http::{Request, Uri, header};

use super::complain;
use crate::cli;
use crate::protocol::RopeBody;
use crate::upstream::{self, Client, Connections};

/// Waits.
pub(super) async fn sleep(asked: cli::Sleep) -> ExitCode {
    tokio::time::sleep(asked.time).await;
    ExitCode::SUCCESS
}

/// Waits until the sidecar says that it is ready.
pub(super) async fn ready(asked: cli::WaitReady) -> ExitCode {
    let base = match asked.from.map_or_else(|| own(&asked.admin), Ok) {
        Ok(base) => base,
        Err(error) => return complain(&format!("no address to ask: {error}")),
    };
    let settings = upstream::Settings {
        connect_timeout: Duration::from_secs(1),
        proxy_from_environment: false,
        ..upstream::Settings::default()
    };
    let client = Client::new(&settings, Connections::default());
    let mut last = "nobody answers".to_owned();
    let asking = async {
        loop {
            // A try has an end too: a socket that is bound and not served never answers.
            let asked = tokio::time::timeout(EACH, ask(&client, &base)).await;
            match asked.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
                Ok(()) => return,
                Err(why) => last = why,
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let in_time = tokio::time::timeout(asked.timeout, asking).await.is_ok();
    if in_time { ExitCode::SUCCESS } else { complain(&format!("{base} is not ready: {last}")) }
}

const EACH: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// The admin port on loopback: an address for all is asked on the one that is always there.
fn own(admin: &[SocketAddr]) -> Result<Uri, http::uri::InvalidUri> {
    let address = admin.first().copied().unwrap_or_else(|| ([127, 0, 0, 1], 24081).into());
    let address = if address.ip().is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    } else {
        address
    };
    format!("http://{address}").parse()
}

async fn ask(client: &Client, base: &Uri) -> Result<(), String> {
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/health/ready"));
    parts.scheme.get_or_insert(http::uri::Scheme::HTTP);
    let target = Uri::from_parts(parts).map_err(|error| error.to_string())?;
    let host = target.authority().map(ToString::to_string).unwrap_or_default();
    let request = Request::get(target).header(header::HOST, host);
    let request = request.body(RopeBody::default()).map_err(|error| error.to_string())?;
    let answer = client.send(request).await.map_err(|error| error.to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_is_asked_on_loopback() {
        for (admin, want) in [
            (vec![], "http://127.0.0.1:24081/"),
            (vec!["[::]:30081"], "http://127.0.0.1:30081/"),
            (vec!["10.0.0.3:1", "[::1]:2"], "http://10.0.0.3:1/"),
            (vec!["[::1]:2"], "http://[::1]:2/"),
        ] {
            let admin: Vec<_> = admin.iter().map(|it| it.parse().unwrap()).collect();
            assert_eq!(own(&admin).unwrap().to_string(), want);
        }
    }
}
