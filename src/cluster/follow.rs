//! Following a list: its objects as they are, then every change, for ever.
//!
//! A watch that ends goes on from where it was; one whose place is forgotten (410) begins again
//! with a list. Failures are waited out with a growing pause.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tracing::{debug, warn};

use super::{Cluster, Failed};

/// What became of the objects.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// This is all of them; what is not here is gone.
    All(Vec<Value>),
    /// One is gone.
    Gone(Value),
    /// One is there, or another than before.
    Put(Value),
}

impl Change {
    /// Takes it up in what is known `of` each object, by its `name`. True where these are all now.
    pub fn take<T>(
        self,
        known: &mut BTreeMap<String, T>,
        name: impl Fn(&Value) -> String,
        of: impl Fn(Value) -> T,
    ) -> bool {
        match self {
            Self::All(all) => {
                *known = all.into_iter().map(|it| (name(&it), of(it))).collect();
                true
            }
            Self::Gone(gone) => {
                known.remove(&name(&gone));
                false
            }
            Self::Put(put) => {
                known.insert(name(&put), of(put));
                false
            }
        }
    }
}

/// How long the API server keeps one watch open.
const WATCH: u64 = 300;
/// How much later than that it has failed.
const MARGIN: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A watch is over.
enum Over {
    /// It failed.
    Failed(Failed),
    /// The place it began at is forgotten.
    Forgotten,
    /// Its time is over.
    Time,
}

impl Cluster {
    /// Tells every change of the objects at a path, which may have a query.
    ///
    /// Cancel safety: dropped midway, changes are not told; another call begins with all.
    pub async fn follow(&self, path: &str, mut tell: impl FnMut(Change) + Send) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.list(path).await {
                Ok((objects, mut version)) => {
                    pause = FIRST_PAUSE;
                    tell(Change::All(objects));
                    self.watch(path, &mut version, &mut tell).await;
                }
                Err(error) => {
                    warn!(%error, path, "a list cannot be followed; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn list(&self, path: &str) -> Result<(Vec<Value>, String), Failed> {
        let mut list = self.get(path).await?;
        let version = list
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
            .unwrap_or("0")
            .to_owned();
        match list.get_mut("items").map(Value::take).unwrap_or_default() {
            Value::Array(items) => Ok((items, version)),
            Value::Null => Ok((Vec::new(), version)),
            _ => Err(Failed::Garbled("a list has no items".to_owned())),
        }
    }

    /// Watches until the place is forgotten or watching fails again and again.
    async fn watch(
        &self,
        path: &str,
        version: &mut String,
        tell: &mut (impl FnMut(Change) + Send),
    ) {
        let mut pause = FIRST_PAUSE;
        loop {
            let before = version.clone();
            let most = Duration::from_secs(WATCH) + MARGIN;
            let watched = tokio::time::timeout(most, self.watch_once(path, version, tell)).await;
            match watched.unwrap_or(Over::Time) {
                Over::Time => pause = FIRST_PAUSE,
                Over::Forgotten => return,
                Over::Failed(error) => {
                    if *version != before {
                        pause = FIRST_PAUSE;
                    }
                    debug!(%error, path, "a watch ended early");
                    tokio::time::sleep(pause).await;
                    // What was missed is found by a list, after some failures in a row.
                    if pause > FIRST_PAUSE * 4 {
                        return;
                    }
                    pause *= 2;
                }
            }
        }
    }

    async fn watch_once(
        &self,
        path: &str,
        version: &mut String,
        tell: &mut (impl FnMut(Change) + Send),
    ) -> Over {
        let and = if path.contains('?') { '&' } else { '?' };
        let path = format!(
            "{path}{and}watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH}&resourceVersion={version}"
        );
        let mut body = match self.open(Method::GET, &path, None).await {
            Ok(body) => body,
            Err(Failed::Refused { code: 410, .. }) => return Over::Forgotten,
            Err(error) => return Over::Failed(error),
        };
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Over::Failed(Failed::Unreachable(error.to_string())),
            };
            let Ok(data) = frame.into_data() else { continue };
            rest.extend_from_slice(&data);
            if rest.len() > super::LONGEST {
                return Over::Failed(Failed::Garbled("an event has no end".to_owned()));
            }
            while let Some(end) = memchr::memchr(b'\n', &rest) {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if let Some(over) = take(&line, version, tell) {
                    return over;
                }
            }
        }
        Over::Time
    }
}

/// One line of a watch.
fn take(line: &[u8], version: &mut String, tell: &mut impl FnMut(Change)) -> Option<Over> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    let mut event: Value = match serde_json::from_slice(line) {
        Ok(event) => event,
        Err(error) => return Some(Over::Failed(Failed::Garbled(error.to_string()))),
    };
    let object = event.get_mut("object").map(Value::take).unwrap_or_default();
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind == "ERROR" {
        let code = object
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or(500);
        let message = object.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        return Some(match code {
            410 => Over::Forgotten,
            code => Over::Failed(Failed::Refused { code, message }),
        });
    }
    if let Some(known) = object.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
        known.clone_into(version);
    }
    match kind {
        "ADDED" | "MODIFIED" => tell(Change::Put(object)),
        "DELETED" => tell(Change::Gone(object)),
        _ => {}
    }
    None
}
