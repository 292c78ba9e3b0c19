//! An API server of Kubernetes, as far as an injector can tell: objects with versions, lists,
//! watches that end, server-side apply with its conflicts, and a record of who wrote what.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::until;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The server.
pub(crate) struct Cluster {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

struct State {
    kept: Mutex<Kept>,
    /// Counts up with every event, and with every cut.
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    version: u64,
    /// By path.
    objects: BTreeMap<String, Object>,
    events: Vec<(u64, &'static str, String, Value)>,
    /// Watches that begin before this have lost their place.
    forgotten: u64,
    /// Watches that were opened before this are cut.
    cut: u64,
    writes: Vec<Write>,
}

struct Object {
    value: Value,
    manager: String,
    /// The keys of its data that were applied; others are whoever put them there's.
    applied: BTreeSet<String>,
}

/// What somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
}

impl Cluster {
    /// A cluster of this version.
    pub(crate) async fn start(version: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { kept: Mutex::default(), news: watch::channel(0).0 });
        let serving = state.clone();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let state = serving.clone();
                let service = service_fn(move |request| answer(state.clone(), version, request));
                connections.spawn(async move {
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, state, _accepting: accepting }
    }

    /// Puts an object there, as somebody else does.
    pub(crate) fn put(&self, path: &str, value: Value) {
        self.state.put(path, value, "somebody");
    }

    pub(crate) fn delete(&self, path: &str) {
        self.state.delete(path);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state.kept.lock().unwrap().objects.get(path).map(|object| object.value.clone())
    }

    /// Waits until an object is as wanted.
    pub(crate) async fn becomes(&self, path: &str, want: impl Fn(&Value) -> bool) -> Value {
        until(path, async || self.get(path).filter(|value| want(value))).await
    }

    /// Cuts every watch, without a word.
    pub(crate) fn cut(&self) {
        let mut kept = self.state.kept.lock().unwrap();
        kept.cut = self.state.news.borrow().wrapping_add(1);
        drop(kept);
        self.state.news.send_modify(|news| *news += 1);
    }

    /// Forgets what was, so that every watch must begin with a list.
    pub(crate) fn forget(&self) {
        let mut kept = self.state.kept.lock().unwrap();
        kept.version += 1;
        kept.forgotten = kept.version;
        drop(kept);
        self.cut();
    }

    pub(crate) fn writes(&self) -> Vec<Write> {
        self.state.kept.lock().unwrap().writes.clone()
    }
}

impl State {
    fn put(&self, path: &str, mut value: Value, manager: &str) -> Value {
        let mut kept = self.kept.lock().unwrap();
        kept.version += 1;
        let version = kept.version;
        let known = kept.objects.get(path).map(|it| it.value["metadata"]["uid"].clone());
        let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
        value["metadata"]["resourceVersion"] = version.to_string().into();
        value["metadata"]["uid"] = known.unwrap_or_else(|| format!("uid-{version}").into());
        kept.events.push((version, kind, path.to_owned(), value.clone()));
        let applied = kept.objects.remove(path).map(|it| it.applied).unwrap_or_default();
        let object = Object { value: value.clone(), manager: manager.to_owned(), applied };
        kept.objects.insert(path.to_owned(), object);
        drop(kept);
        self.news.send_modify(|news| *news += 1);
        value
    }

    fn delete(&self, path: &str) {
        let mut kept = self.kept.lock().unwrap();
        kept.version += 1;
        let version = kept.version;
        if let Some(gone) = kept.objects.remove(path) {
            kept.events.push((version, "DELETED", path.to_owned(), gone.value));
        }
        drop(kept);
        self.news.send_modify(|news| *news += 1);
    }
}

/// The parts of a query.
fn query(request: &Request<Incoming>, name: &str) -> Option<String> {
    let query = request.uri().query()?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(percent_decode_str(value).decode_utf8().unwrap().into_owned())
}

/// Whether an object is in a list.
fn is_in(list: &str, name: Option<&str>, path: &str) -> bool {
    let (folder, own) = path.rsplit_once('/').unwrap();
    let plural = list.rsplit('/').next().unwrap();
    // A list over all namespaces has the namespace in the paths of its objects.
    let is_there = folder == list
        || folder.ends_with(&format!("/{plural}"))
            && folder.contains("/namespaces/")
            && plural != "namespaces";
    is_there && name.is_none_or(|name| name == own)
}

async fn answer(
    state: Arc<State>,
    version: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    assert!(request.headers().get("host").is_some());
    if path == "/version" {
        return Ok(said(200, &json!({"gitVersion": version})));
    }
    if request.method() == Method::GET {
        return Ok(read(&state, &path, &request));
    }
    let method = request.method().clone();
    let manager = query(&request, "fieldManager").unwrap_or_default();
    let is_forced = query(&request, "force").as_deref() == Some("true");
    let kind = request.headers().get("content-type").unwrap().to_str().unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let response = match (method.as_str(), &*kind) {
        ("PATCH", "application/apply-patch+yaml") => {
            apply(&state, &path, body, &manager, is_forced)
        }
        ("PATCH", "application/json-patch+json") => patch(&state, &path, body, &manager),
        ("DELETE", _) => {
            let known = state.kept.lock().unwrap().objects.get(&path).map(|it| it.value.clone());
            match known {
                Some(known) if known["metadata"]["uid"] == body["preconditions"]["uid"] => {
                    state.delete(&path);
                    said(200, &json!({}))
                }
                Some(_) => said(409, &json!({"message": "another one"})),
                None => said(404, &json!({"message": "none"})),
            }
        }
        _ => said(415, &json!({"message": kind})),
    };
    let status = response.status().as_u16();
    let write = Write { method: method.to_string(), path, status };
    state.kept.lock().unwrap().writes.push(write);
    Ok(response)
}

fn apply(state: &State, path: &str, body: Value, manager: &str, is_forced: bool) -> Response<Body> {
    let conflict = {
        let kept = state.kept.lock().unwrap();
        let asked = &body["metadata"]["resourceVersion"];
        kept.objects.get(path).is_some_and(|there| {
            let is_stale = !asked.is_null() && *asked != there.value["metadata"]["resourceVersion"];
            let is_theirs = there.manager != manager && there.value["data"] != body["data"];
            is_stale || (is_theirs && !is_forced)
        })
    };
    if conflict {
        return said(409, &json!({"message": "conflict with somebody else"}));
    }
    let applied: BTreeSet<_> = keys(&body).cloned().collect();
    let body = with_those_of_others(state, path, body);
    let kept = state.put(path, body, manager);
    if let Some(object) = state.kept.lock().unwrap().objects.get_mut(path) {
        object.applied = applied;
    }
    said(200, &kept)
}

fn keys(object: &Value) -> impl Iterator<Item = &String> {
    object["data"].as_object().into_iter().flatten().map(|(key, _)| key)
}

/// What is applied, and beside it what others have put into the data.
fn with_those_of_others(state: &State, path: &str, mut body: Value) -> Value {
    let kept = state.kept.lock().unwrap();
    let Some(there) = kept.objects.get(path) else { return body };
    for key in keys(&there.value).filter(|key| !there.applied.contains(*key)) {
        if body["data"].get(key).is_none() {
            body["data"][key] = there.value["data"][key].clone();
        }
    }
    body
}

fn patch(state: &State, path: &str, body: Value, manager: &str) -> Response<Body> {
    let known = state.kept.lock().unwrap().objects.get(path).map(|it| it.value.clone());
    let Some(mut known) = known else { return said(404, &json!({"message": "none"})) };
    let operations: json_patch::Patch = serde_json::from_value(body).unwrap();
    match json_patch::patch(&mut known, &operations) {
        Ok(()) => said(200, &state.put(path, known, manager)),
        Err(error) => said(422, &json!({"message": error.to_string()})),
    }
}

fn read(state: &Arc<State>, path: &str, request: &Request<Incoming>) -> Response<Body> {
    let kept = state.kept.lock().unwrap();
    if let Some(object) = kept.objects.get(path) {
        return said(200, &object.value);
    }
    let name = query(request, "fieldSelector");
    let name = name.map(|it| it.strip_prefix("metadata.name=").unwrap().to_owned());
    let is_list = ["namespaces", "configmaps", "mutatingwebhookconfigurations"]
        .iter()
        .any(|plural| path.ends_with(&format!("/{plural}")));
    if !is_list {
        return said(404, &json!({"message": format!("{path} not found")}));
    }
    if query(request, "watch").is_none() {
        let items: Vec<_> = kept
            .objects
            .iter()
            .filter(|(at, _)| is_in(path, name.as_deref(), at))
            .map(|(_, object)| &object.value)
            .collect();
        let version = kept.version.to_string();
        return said(200, &json!({"metadata": {"resourceVersion": version}, "items": items}));
    }
    let from: u64 = query(request, "resourceVersion").unwrap().parse().unwrap();
    if from < kept.forgotten {
        return said(410, &json!({"code": 410, "message": "too old"}));
    }
    drop(kept);
    Response::new(BodyExt::boxed_unsync(StreamBody::new(Box::pin(events(
        state.clone(),
        path.to_owned(),
        name,
        from,
    )))))
}

fn events(
    state: Arc<State>,
    list: String,
    name: Option<String>,
    from: u64,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
    let opened = *state.news.borrow();
    let news = state.news.subscribe();
    futures_util::stream::unfold((state, news, from), move |(state, mut news, from)| {
        let (list, name) = (list.clone(), name.clone());
        async move {
            loop {
                news.mark_unchanged();
                {
                    let kept = state.kept.lock().unwrap();
                    if kept.cut > opened {
                        return None;
                    }
                    let next = kept.events.iter().find(|(version, _, path, _)| {
                        *version > from && is_in(&list, name.as_deref(), path)
                    });
                    if let Some((version, kind, _, object)) = next {
                        let line = format!("{}\n", json!({"type": kind, "object": object}));
                        let (version, frame) = (*version, Frame::data(Bytes::from(line)));
                        drop(kept);
                        return Some((Ok(frame), (state, news, version)));
                    }
                }
                news.changed().await.ok()?;
            }
        }
    })
}

fn said(status: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
