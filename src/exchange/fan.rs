//! `model: "a,b"`: one call to several models at once. With `fastest_response` the first good answer
//! wins and the others are ended at the wire; without it all answers come as a list.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use memchr::memmem;

use super::attempt::Job;
use super::live::Live;
use super::race::{Won, race};
use super::reject::{self, Rejection};
use super::tries::Notes;
use super::whole;
use crate::account::{Ledger, Record, Sink, Try, TryEnd, Wasted};
use crate::lexicon::time;
use crate::protocol::{Call, Edits, Endpoint, Fields, json_list};

/// More models than this in one call are a mistake or an attack.
const MOST: usize = 8;

/// The calls of a chat that names several models; `None` where it names one.
pub(super) fn legs(call: &Call, live: &Live) -> Result<Option<Vec<Call>>, Box<Rejection>> {
    let is_chat = call.endpoint == Endpoint::ChatCompletions;
    if !is_chat || !call.model.contains(',') || live.routes.resolve(&call.model).is_some() {
        return Ok(None);
    }
    let names: Vec<&str> =
        call.model.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.len() < 2 {
        return Ok(None);
    }
    if names.len() > MOST {
        return Err(Rejection::too_many_models(MOST).into());
    }
    if call.stream && !call.wishes.fastest_response {
        return Err(Rejection::streams_of_several().into());
    }
    names.iter().map(|name| leg(call, name)).collect::<Option<Vec<_>>>().map_or_else(
        || Err(Rejection::no_model(&call.model, &live.routes, 400).into()),
        |legs| Ok(Some(legs)),
    )
}

fn leg(call: &Call, name: &str) -> Option<Call> {
    let mut edits = Edits::new();
    edits.set("model", Bytes::from(serde_json::Value::from(name).to_string()));
    let body = edits.apply(&call.body, &call.fields).to_bytes();
    let fields = Fields::of(&body).ok()?;
    Some(Call { model: name.into(), body, fields, ..call.clone() })
}

/// The tries of legs that are over or were dropped.
type Noted = Arc<Mutex<Vec<Try>>>;

/// What a leg writes down; its tries outlive it.
struct Scratch {
    record: Record,
    noted: Noted,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        lock(&self.noted).extend(std::mem::take(&mut self.record.attempts));
    }
}

/// What became of one leg, and what the record of the request would say if it decided.
type Over = (Result<Won, Box<Rejection>>, Record);

/// The legs that run. Dropping it ends them at the wire; their tries are noted all the same.
struct Race<'a> {
    running: FuturesUnordered<Pin<Box<dyn Future<Output = Over> + Send + 'a>>>,
    noted: Noted,
    ledger: &'a mut Ledger,
}

impl<'a> Race<'a> {
    fn start(job: Job<'a>, legs: &'a [Call], ledger: &'a mut Ledger) -> Self {
        let (noted, opened) = (Noted::default(), ledger.opened());
        let run = |call: &'a Call| run(job.of(call), opened, noted.clone());
        Self { running: legs.iter().map(run).collect(), noted, ledger }
    }

    /// The record of the leg that decided becomes that of the request.
    fn settle(mut self, mut record: Record) {
        self.running.clear();
        let tries = std::mem::take(&mut *lock(&self.noted));
        // Its own stream goes on and is no try that is over.
        let others = tries.len().saturating_sub(record.attempts.len());
        record.tries = record.tries.saturating_add(u32::try_from(others).unwrap_or(u32::MAX));
        record.attempts = tries.into();
        let own = &mut *self.ledger.record;
        let (id, model) = (std::mem::take(&mut own.id), std::mem::take(&mut own.model));
        *own = Record { id, model, endpoint: own.endpoint, stream: own.stream, ..record };
    }
}

impl Drop for Race<'_> {
    fn drop(&mut self) {
        self.running.clear();
        // Nothing is left of a race that was settled; of any other the client went away.
        let mut tries = std::mem::take(&mut *lock(&self.noted));
        for tried in &mut tries {
            if let TryEnd::Lost(_) = tried.end {
                tried.end = TryEnd::Abandoned;
            }
        }
        self.ledger.record.attempts.extend(tries);
    }
}

fn lock(noted: &Noted) -> MutexGuard<'_, Vec<Try>> {
    noted.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run<'a>(
    job: Job<'a>,
    opened: Instant,
    noted: Noted,
) -> Pin<Box<dyn Future<Output = Over> + Send + 'a>> {
    Box::pin(async move {
        let mut scratch = Scratch { record: Record::new("".into()), noted };
        let rest = TryEnd::Lost(Wasted::default());
        let result = race(job, Notes { record: &mut scratch.record, opened, rest }).await;
        let record = scratch.record.clone();
        (result, record)
    })
}

/// The first good answer. An error or a refusal of the model wins only when nobody else is left.
///
/// Cancel safety: dropping the future ends all calls at the wire.
pub(super) async fn fastest(
    job: Job<'_>,
    legs: &[Call],
    ledger: &mut Ledger,
) -> Result<Won, Box<Rejection>> {
    let mut race = Race::start(job, legs, ledger);
    let (mut answer, mut first_error) = (None, None);
    while let Some((result, record)) = race.running.next().await {
        match result {
            Ok(won) if won.is_refusal() && !race.running.is_empty() => {
                answer.get_or_insert((won, record));
            }
            Ok(won) => {
                answer = Some((won, record));
                break;
            }
            Err(rejection) => {
                first_error.get_or_insert((rejection, record));
            }
        }
    }
    match (answer, first_error) {
        (Some((mut won, record)), _) => {
            race.settle(record);
            won.path().fastest = true;
            Ok(won)
        }
        (None, Some((rejection, record))) => {
            race.settle(record);
            Err(rejection)
        }
        (None, None) => Err(Rejection::no_model(",", &job.live.routes, 400).into()),
    }
}

/// All answers as a JSON list, in the order of the models; one that failed is its error. Each is
/// a request of its own in the records.
pub(super) async fn all(
    job: Job<'_>,
    legs: &[Call],
    sink: &Arc<dyn Sink>,
    outer: &Ledger,
) -> Bytes {
    let answers: Vec<_> = legs
        .iter()
        .map(|call| {
            let job = job.of(call);
            let mut ledger = outer.another(sink.clone(), time::now());
            async move {
                ledger.record.endpoint = Some(call.endpoint);
                ledger.record.model = call.model.clone();
                let response = match race(job, Notes::of(&mut ledger)).await {
                    Ok(Won::Whole(answer)) => whole::response(answer, job.live, ledger),
                    Ok(Won::Mock(mocked)) => super::mock::response(*mocked, job.live, ledger),
                    Ok(Won::Stream(_)) => {
                        let garbled = Rejection::streams_of_several();
                        reject::response(call.endpoint.dialect(), garbled, job.live, ledger)
                    }
                    Err(rejection) => {
                        reject::response(call.endpoint.dialect(), *rejection, job.live, ledger)
                    }
                };
                response.into_body().into_whole()
            }
        })
        .collect();
    json_list(&join_all(answers).await)
}

impl Won {
    /// Whether the model itself refuses to answer.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Mock(_) => false,
            Self::Stream(stream) => {
                stream.held.last().is_some_and(|(_, event)| says_refusal(event))
            }
            Self::Whole(whole) => {
                whole.fields.get(&whole.body, "choices").is_some_and(says_refusal)
            }
        }
    }
}

/// Whether a field `refusal` holds a text.
fn says_refusal(json: &[u8]) -> bool {
    const NAME: &[u8] = b"\"refusal\"";
    memmem::find_iter(json, NAME).any(|at| {
        let rest = json.get(at + NAME.len()..).unwrap_or_default();
        let mut value = rest.iter().filter(|byte| !byte.is_ascii_whitespace());
        value.next() == Some(&b':') && value.next() == Some(&b'"')
    })
}
