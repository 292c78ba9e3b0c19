//! One call to one deployment, up to the point where its answer is worth giving to a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};

use super::again::{Again, Behind};
use super::buffered::{Hold, NoRoom};
use super::head::Path;
use super::lessons;
use super::live::Live;
use super::mock;
use super::opening;
use super::race::{Won, shape};
use super::used::{LONGEST_KEPT, Prompt, Used};
use super::{Gateway, Unread, read};
use crate::account::{Try, TryEnd};
use crate::lexicon::{Class, DeploymentIx, Failure, time};
use crate::protocol::sse::Framer;
use crate::protocol::watch::{Sign, Watch, says_nothing};
use crate::protocol::{Call, Dialect, Edits, Endpoint, Fault, Fields, RopeBody, Translator};
use crate::provider::{self, Deployment, Outgoing};
use crate::routing::cooldown::breaker::{Ticket, is_credential};
use crate::routing::streams::Window;
use crate::routing::{Kind, Launch, Patience, Shape, table::fill};
use crate::stats::{Failed, InFlight, Row, Seat, Trial};
use crate::upstream::Answer;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Whole {
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The memory it takes.
    pub hold: Hold,
    /// The fields of the body, as the provider sent it.
    pub fields: Fields,
    pub endpoint: Endpoint,
    pub translator: Option<Box<dyn Translator>>,
    pub used: Used,
    pub served: Served,
    pub path: Path,
}

/// A stream whose first content has come.
#[derive(Debug)]
pub(super) struct Stream {
    pub headers: HeaderMap,
    pub body: Answer,
    pub framer: Framer,
    pub watch: Watch,
    /// Events up to the first with content, with what they mean.
    pub held: Vec<(Sign, Bytes)>,
    pub translator: Option<Box<dyn Translator>>,
    pub usage_is_ours: bool,
    /// Whose events they are.
    pub endpoint: Endpoint,
    /// How long it is waited for.
    pub patience: Patience,
    /// How much of it is still to be kept back.
    pub window: Option<Window>,
    pub served: Served,
    pub path: Path,
    /// How it is asked for once more if it breaks off.
    pub again: Option<Box<Again>>,
}

impl Stream {
    /// Holds the memory of what is kept of it.
    pub(super) fn hold_kept(&mut self) -> Result<(), NoRoom> {
        let held = self.held.iter().map(|(_, event)| event.len());
        self.served.hold.fit((self.framer.kept() + held.sum::<usize>()) as u64)
    }
}

/// Who serves an answer, and under which name the client knows the model.
#[derive(Debug)]
pub(super) struct Served {
    pub deployment: DeploymentIx,
    /// The name the answer shows, as JSON: what the client asked for, or the group a fallback
    /// led to.
    pub name: Bytes,
    pub in_flight: InFlight,
    /// When the try began.
    pub since: Instant,
    /// For a stream, how long its first content took.
    pub first_token: Option<Duration>,
    /// What was asked, for an estimate where the provider tells no usage.
    pub prompt: Prompt,
    /// Which calls its waits speak for.
    pub kind: Kind,
    /// The memory of what it was asked until it answers, and then of what is kept of its stream.
    pub hold: Hold,
}

/// A try that failed before anything was given to the client.
#[derive(Debug)]
pub(super) struct Refusal {
    pub failure: Failure,
    pub headers: HeaderMap,
    pub body: RefusalBody,
}

/// What was said to the failure.
#[derive(Debug)]
pub(super) enum RefusalBody {
    /// Ours, about the provider.
    Ours(Fault),
    /// Ours, about ourselves: there is no memory for the answer.
    NoRoom,
    Theirs(Bytes, Dialect),
}

impl Refusal {
    pub(super) fn ours(class: Class, status: u16, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            failure: Failure::new(class, status),
            headers: HeaderMap::new(),
            body: RefusalBody::Ours(Fault::new(Dialect::OpenAi, status, message)),
        })
    }

    /// An answer for which there is no memory. The provider is not to blame.
    pub(super) fn no_room() -> Box<Self> {
        Box::new(Self {
            failure: Failure::new(Class::ServiceUnavailable, 503),
            headers: HeaderMap::new(),
            body: RefusalBody::NoRoom,
        })
    }

    /// The same of a request that the provider may have carried out.
    pub(super) fn of_one_that_may_have_run(mut self: Box<Self>) -> Box<Self> {
        self.failure = self.failure.may_have_run();
        self
    }

    /// A call that cannot be put into the provider's words.
    fn unsaid(why: &provider::Unsayable) -> Box<Self> {
        let (class, status) = match why {
            provider::Unsayable::Unusable(_) => (Class::Authentication, 401),
            provider::Unsayable::Content { .. }
            | provider::Unsayable::Endpoint { .. }
            | provider::Unsayable::Params { .. } => (Class::BadRequest, 400),
        };
        let mut refusal = Self::ours(class, status, why.to_string());
        if let RefusalBody::Ours(fault) = &mut refusal.body {
            fault.param = why.param().map(str::to_owned);
        }
        refusal
    }
}

/// The longest error body that is read.
const LONGEST_ERROR: u64 = 1024 * 1024;

/// What all tries of a request share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    pub gateway: &'a Arc<Gateway>,
    pub live: &'a Arc<Live>,
    pub call: &'a Call,
    /// The same call as a stream, for deployments that can carry it as one.
    pub carried: Option<&'a Call>,
    pub headers: &'a HeaderMap,
    /// What stream it is to follow.
    pub behind: Option<Behind<'a>>,
    /// What is known of the call before it is made.
    pub shape: Shape,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        gateway: &'a Arc<Gateway>,
        live: &'a Arc<Live>,
        call: &'a Call,
        headers: &'a HeaderMap,
    ) -> Self {
        let shape = shape(call, live);
        Self { gateway, live, call, carried: None, headers, behind: None, shape }
    }

    /// The same behind a stream that has broken off.
    pub(super) fn behind(self, behind: Behind<'a>) -> Self {
        Self { behind: Some(behind), ..self }
    }

    /// The same for another call of the same request.
    pub(super) fn of(self, call: &'a Call) -> Self {
        Self { call, carried: None, shape: shape(call, self.live), ..self }
    }

    /// The same for a call that is carried as a stream where that is possible.
    pub(super) fn carried_as(self, carried: Option<&'a Call>) -> Self {
        let stream = self.shape.stream || carried.is_some();
        Self { carried, shape: Shape { stream, ..self.shape }, ..self }
    }

    /// The same as it is for one deployment.
    pub(super) fn at(self, deployment: DeploymentIx) -> Self {
        let Some(carried) = self.carried else { return self };
        let can_carry = self.live.deployment(deployment).is_some_and(Deployment::can_carry);
        let call = if can_carry { carried } else { self.call };
        Self { call, carried: None, shape: Shape { stream: call.stream, ..self.shape }, ..self }
    }
}

/// A try that came to something.
#[derive(Debug)]
pub(super) struct Finished {
    pub result: Result<Won, Box<Refusal>>,
    /// How it ended; `None` while a stream goes on, and where nobody was called.
    pub end: Option<TryEnd>,
}

impl Job<'_> {
    /// Makes the call at `since` to the deployment that the job is [for](Self::at), in the seat
    /// that was kept for it if there is one. On success the deployment's success is counted; on
    /// failure its failure, which may begin a cooldown.
    ///
    /// Cancel safety: dropping the future ends the call at the wire.
    pub(super) async fn run(
        self,
        launch: Launch<'_>,
        seat: Option<Seat>,
        since: Instant,
    ) -> Finished {
        let at = launch.member.deployment;
        let (Some(deployment), Some(row)) = (self.live.deployment(at), self.live.rows.get(at))
        else {
            let gone = Refusal::ours(Class::InternalServer, 500, "the deployment is gone");
            return Finished { result: Err(gone), end: None };
        };
        let said = self.say(deployment, &launch);
        let (outgoing, hold) = match said.and_then(|outgoing| self.hold_copy(outgoing)) {
            Ok(said) => said,
            Err(unsaid) => return Finished { result: Err(unsaid), end: None },
        };
        let trial = row.trial(&self.live.routes.settings().breaker, since);
        let served = Served {
            deployment: at,
            name: quoted(self.call, launch.name),
            in_flight: row.enter(seat, launch.prompt_tokens, since),
            since,
            first_token: None,
            prompt: Prompt::of(self.call),
            kind: self.shape.kind(),
            hold,
        };
        if let Some(text) = &deployment.mock {
            let asked = launch.name.unwrap_or(&self.call.model);
            return Finished { result: mock::answer(text, self.call, asked, served), end: None };
        }
        let Self { gateway, live, call, .. } = self;
        let (patience, window) = (launch.patience, launch.group.streams.held());
        let talk = Talk { gateway, live, deployment, stream: call.stream, patience, window };
        let awaited = if call.stream { "no first token" } else { "no answer" };
        let mut result = tokio::time::timeout(launch.patience.answer, talk.hold(outgoing, served))
            .await
            .unwrap_or_else(|_| Err(too_late(awaited, launch.patience.answer)));
        let end = self.count(&mut result, row, &launch, (since, trial));
        Finished { result, end }
    }

    /// Tells the statistics what became of a call.
    fn count(
        self,
        result: &mut Result<Won, Box<Refusal>>,
        row: &Arc<Row>,
        launch: &Launch<'_>,
        (since, trial): (Instant, Trial<'_>),
    ) -> Option<TryEnd> {
        if let Err(refusal) = result
            && let RefusalBody::NoRoom = refusal.body
        {
            return Some(TryEnd::Failed { class: refusal.failure.class, cooled: false });
        }
        let (now, settings) = (time::now(), self.live.routes.settings());
        let deployment = self.live.deployment(launch.member.deployment)?;
        lessons::of_try(row, self, result, now.saturating_duration_since(since));
        match result {
            // Nobody was asked for it.
            Ok(Won::Mock(_)) => None,
            Ok(Won::Whole(whole)) => {
                row.succeeded(&whole.used.answer(&whole.served, now), now);
                if trial.passed(&settings.breaker, now) {
                    tell_of_return(deployment);
                }
                Some(TryEnd::Answered)
            }
            // A stream has succeeded when it has ended; its relay counts it. As a probe it has with
            // its first content: nobody waits for minutes to know that the deployment is back.
            Ok(Won::Stream(stream)) => {
                if trial.passed(&settings.breaker, now) {
                    tell_of_return(deployment);
                }
                stream.served.first_token = Some(now.saturating_duration_since(since));
                None
            }
            Err(refusal) => self.count_failure(refusal.failure, row, launch, trial.ticket()),
        }
    }

    /// Tells the statistics that a call has failed.
    pub(super) fn count_failure(
        self,
        failure: Failure,
        row: &Arc<Row>,
        launch: &Launch<'_>,
        ticket: Option<Ticket>,
    ) -> Option<TryEnd> {
        let (now, settings) = (time::now(), self.live.routes.settings());
        let deployment = self.live.deployment(launch.member.deployment)?;
        let own_timeout = self.call.wishes.timeout.is_some();
        let failed = Failed {
            failure,
            callers_timeout: failure.class == Class::Timeout && own_timeout,
            ticket,
            entropy: fastrand::u64(..),
        };
        let cooled = row.failed(settings, (launch.group, launch.member), &failed, now);
        if let Some(pause) = cooled {
            warn_of(deployment, failure.class, pause);
        }
        Some(TryEnd::Failed { class: failure.class, cooled: cooled.is_some() })
    }

    /// The memory of what of a request is not a part of the client's own.
    fn hold_copy(self, outgoing: Outgoing) -> Result<(Outgoing, Hold), Box<Refusal>> {
        let mut hold = self.gateway.buffered.hold(self.live.limits.max_buffered_in_all());
        let copied = outgoing.body.len_beside(&self.call.body);
        hold.fit(copied as u64).map_err(|NoRoom| Refusal::no_room())?;
        Ok((outgoing, hold))
    }

    /// The request for the provider, with a fallback's own fields and the client's protocol
    /// headers.
    fn say(self, deployment: &Deployment, launch: &Launch<'_>) -> Result<Outgoing, Box<Refusal>> {
        let call = self.call;
        let model = fill(&deployment.model, &launch.captures, launch.name.unwrap_or(&call.model));
        let said = if launch.fields.is_empty() && launch.name.is_none() {
            deployment.adapter.request(call, deployment, &model)
        } else {
            let mut edits = Edits::new();
            for (name, json) in launch.fields {
                edits.set(name.to_string(), json.clone());
            }
            let mut changed = call.clone();
            changed.model = launch.name.unwrap_or(&call.model).into();
            changed.body = edits.apply(&call.body, &call.fields).to_bytes();
            changed.fields = Fields::of(&changed.body)
                .map_err(|why| Refusal::ours(Class::BadRequest, 400, why.to_string()))?;
            deployment.adapter.request(&changed, deployment, &model)
        };
        let mut outgoing = said.map_err(|unsayable| Refusal::unsaid(&unsayable))?;
        if let Some(prefill) = self.behind.and_then(|behind| behind.prefill) {
            let body = deployment.with_prefill(outgoing.endpoint, &outgoing.body, prefill);
            let why = "the answer cannot be written on";
            outgoing.body = body.ok_or_else(|| Refusal::ours(Class::BadRequest, 400, why))?;
        }
        // One look at the few headers there are is cheaper than a search for each wanted name.
        for (name, value) in self.headers {
            if PROTOCOL_HEADERS.contains(&name.as_str()) {
                outgoing.headers.insert(name, value.clone());
            }
        }
        Ok(outgoing)
    }
}

fn warn_of(deployment: &Deployment, failure: Class, pause: Duration) {
    let (deployment, seconds) = (&deployment.id, pause.as_secs_f64());
    let class = failure.as_str();
    if is_credential(failure) {
        tracing::warn!(
            %deployment, class, seconds,
            "deployment goes into cooldown: look after its key or its account"
        );
    } else {
        tracing::warn!(%deployment, class, seconds, "deployment goes into cooldown");
    }
}

fn tell_of_return(deployment: &Deployment) {
    tracing::info!(deployment = %deployment.id, "deployment is back from cooldown");
}

/// The name that an answer shows, as JSON. The client's own stands in its body already.
fn quoted(call: &Call, name: Option<&str>) -> Bytes {
    let own = call.fields.span(&call.body, "model").filter(|_| name.is_none());
    own.map_or_else(
        || Bytes::from(serde_json::Value::from(name.unwrap_or(&call.model)).to_string()),
        // A part of it would keep all of a long body for as long as its stream runs.
        |span| match call.body.get(span.clone()) {
            Some(own) if call.body.len() > LONGEST_KEPT => Bytes::copy_from_slice(own),
            Some(_) | None => call.body.slice(span),
        },
    )
}

/// The note of a try that is over.
pub(super) fn over(
    live: &Live,
    at: DeploymentIx,
    since: Instant,
    now: Instant,
    end: TryEnd,
) -> Option<Try> {
    let id = live.deployment(at)?.id.clone();
    let took = now.saturating_duration_since(since);
    Some(Try { deployment: at, id, end, took, beside: None })
}

pub(super) fn too_late(what: &str, limit: Duration) -> Box<Refusal> {
    Refusal::ours(
        Class::Timeout,
        408,
        format!("{what} from the deployment within {} s", limit.as_secs_f64()),
    )
    .of_one_that_may_have_run()
}

/// Headers that are part of the providers' protocols and come from the client.
const PROTOCOL_HEADERS: [&str; 4] =
    ["anthropic-beta", "anthropic-version", "idempotency-key", "openai-beta"];

/// One conversation with a provider.
struct Talk<'a> {
    gateway: &'a Gateway,
    live: &'a Live,
    deployment: &'a Deployment,
    stream: bool,
    patience: Patience,
    window: Option<Window>,
}

impl Talk<'_> {
    async fn hold(self, outgoing: Outgoing, mut served: Served) -> Result<Won, Box<Refusal>> {
        let Outgoing { uri, headers, body, endpoint, choices, usage_is_ours, translator } =
            outgoing;
        let mut request = Request::new(RopeBody::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let response = self.gateway.client.send(request).await.map_err(|unreachable| {
            let why = format!("the provider cannot be reached: {unreachable}");
            let refusal = Refusal::ours(Class::Connection, 502, why);
            if unreachable.may_have_been_sent {
                refusal.of_one_that_may_have_run()
            } else {
                refusal
            }
        })?;
        // Who answers has read the request.
        let _ = served.hold.fit(0);
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            let mut hold = self.gateway.buffered.hold(self.live.limits.max_buffered_in_all());
            let body = read(body, LONGEST_ERROR, &mut hold).await.unwrap_or_default();
            return Err(refusal(self.deployment, head.status, head.headers, body));
        }
        let headers = head.headers;
        if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            let why = "the provider compressed its answer though it was not asked to";
            return Err(Refusal::ours(Class::BadGateway, 502, why));
        }
        if self.stream && is_event_stream(&headers) {
            let Self { patience, window, .. } = self;
            let parts = opening::Opening {
                headers,
                translator,
                usage_is_ours,
                patience,
                served,
                watch: Watch::of_choices(endpoint, choices),
                endpoint,
                window,
            };
            let mut opened = opening::open(parts, body, self.deployment).await?;
            if let Won::Stream(stream) = &mut opened {
                stream.hold_kept().map_err(|NoRoom| Refusal::no_room())?;
            }
            return Ok(opened);
        }
        let (body, hold) = self.whole_body(body).await?;
        let fields = inspect(self.deployment, endpoint, &headers, &body)?;
        if self.stream {
            let why = "the provider was asked for a stream and answered without one";
            return Err(Refusal::ours(Class::BadGateway, 502, why));
        }
        let price = self.live.price(served.deployment);
        let used = Used::of_whole(endpoint, (&body, &fields), &served.prompt, price);
        let path = Path::default();
        let whole = Whole { headers, body, hold, fields, endpoint, translator, used, served, path };
        Ok(Won::Whole(Box::new(whole)))
    }

    async fn whole_body(&self, body: Answer) -> Result<(Bytes, Hold), Box<Refusal>> {
        let limits = &self.live.limits;
        let most = limits.max_answer_bytes;
        let mut hold = self.gateway.buffered.hold(limits.max_buffered_in_all());
        let read = read(body, most, &mut hold).await;
        read.map(|body| (body, hold)).map_err(|unread| match unread {
            Unread::Broken | Unread::Gone => {
                let why = "the provider's answer broke off before its end";
                Refusal::ours(Class::Connection, 502, why).of_one_that_may_have_run()
            }
            Unread::NoRoom => Refusal::no_room(),
            Unread::TooLong => {
                let why = format!("the provider's answer is longer than {most} bytes");
                Refusal::ours(Class::BadGateway, 502, why)
            }
        })
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.trim_start().starts_with("text/event-stream"))
}

/// An answer with an error status.
fn refusal(
    deployment: &Deployment,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
) -> Box<Refusal> {
    let mut failure = deployment.adapter.blame(status, &headers, &body, time::unix_now());
    if status.is_redirection() || status.is_informational() {
        failure = Failure::new(Class::BadGateway, 502);
    }
    let body = deployment.without_keys(body);
    Box::new(Refusal {
        failure,
        headers,
        body: RefusalBody::Theirs(body, deployment.adapter.dialect()),
    })
}

/// Whether a body with a good status is an answer at all; its fields if it is.
fn inspect(
    deployment: &Deployment,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Fields, Box<Refusal>> {
    let garbled = |why: String| {
        Refusal::ours(Class::BadGateway, 502, format!("the provider's answer is garbled: {why}"))
    };
    let fields = Fields::of(body).map_err(|why| garbled(why.to_string()))?;
    let name = match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => "choices",
        Endpoint::CountTokens => "input_tokens",
        Endpoint::Embeddings => "data",
        Endpoint::Messages => "content",
        Endpoint::Responses => "output",
    };
    // One that failed has the same form.
    let has_failed =
        endpoint == Endpoint::Responses && fields.parse::<&str>(body, "status") == Some("failed");
    if !has_failed && fields.get(body, name).is_some_and(|value| value != b"null") {
        if says_nothing(endpoint, body, &fields) {
            return Err(Refusal::ours(Class::BadGateway, 502, "the provider's answer is empty"));
        }
        return Ok(fields);
    }
    let silent = has_failed.then_some(Failure::new(Class::InternalServer, 500));
    match provider::fault::in_good_answer(body).or(silent) {
        None => Err(garbled(format!("it has no `{name}`"))),
        Some(failure) => Err(Box::new(Refusal {
            failure,
            headers: headers.clone(),
            body: RefusalBody::Theirs(
                deployment.without_keys(body.clone()),
                deployment.adapter.dialect(),
            ),
        })),
    }
}
