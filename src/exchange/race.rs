//! The async driver of [`Attempts`]: launches tries, waits, and stops at the first good answer.
//! Holds no policy of its own.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::again::Again;
use super::attempt::{self, Job, Refusal, RefusalBody};
use super::head::Path;
use super::live::Live;
use super::mock;
use super::queue::{Full, Waiting};
use super::reject::{Rejection, Say};
use super::tries::{Notes, Tries};
use super::{gather, hedging};
use crate::account::estimate;
use crate::endpoint;
use crate::lexicon::{Class, Failure, time};
use crate::protocol::{Call, Fault, Fields};
use crate::routing::hedge::Forgone;
use crate::routing::{
    Action, Ask, Attempts, Effort, Launch, NoCandidate, Outcome, Resolved, Shape, TryId, Verdict,
};

/// An answer worth giving to the client.
#[derive(Debug)]
pub(super) enum Won {
    Mock(Box<mock::Mocked>),
    Stream(Box<attempt::Stream>),
    Whole(Box<attempt::Whole>),
}

/// Makes tries until one is worth answering with, or nobody is left.
///
/// Cancel safety: dropping the future ends the running try at the wire and starts no other.
pub(super) async fn race(job: Job<'_>, notes: Notes<'_>) -> Result<Won, Box<Rejection>> {
    let Job { live, call, .. } = job;
    let Some(target) = resolve(live, &call.model) else {
        return Err(Rejection::no_model(&call.model, &live.routes, 400).into());
    };
    notes.record.group = live.routes.group(target.group).map(|group| group.name.clone());
    let carried = gather::as_stream(job, &target);
    let job = job.carried_as(carried.as_ref());
    let Some(mut attempts) = Attempts::new(&live.routes, ask(job, &target, notes.opened)) else {
        return Err(Rejection::no_model(&call.model, &live.routes, 400).into());
    };
    let mut tries = Tries::new(job, notes);
    let mut lost = Lost::default();
    let mut waiting = Waiting::default();
    loop {
        let (now, entropy) = (time::now(), fastrand::u64(..));
        match attempts.poll(now, entropy, &live.rows) {
            Action::Fail(verdict) => {
                tries.note_hedge(attempts.hedged(), None);
                return Err(reject(verdict, lost, &waiting, job, &target).into());
            }
            Action::Late(late) => {
                let permit = hedging::permit(live, call, job.shape, &late, (now, entropy));
                if permit == Err(Forgone::Observed) {
                    tries.note_unhedged(&late, now);
                }
                attempts.permit(permit);
            }
            Action::Launch(launch) => {
                hedging::fill(live, &launch, job.shape);
                let seat = waiting.leave(live, launch.member.deployment);
                tries.start(launch, seat);
            }
            Action::Queue(busy) => match Box::pin(waiting.wait(live, &busy)).await {
                Err(Full) => attempts.turn_away(),
                Ok(seat) => {
                    tries.note_queued();
                    attempts.offer(seat);
                }
            },
            Action::Wait(until) => {
                let Some((launch, result)) = tries.next(until).await else { continue };
                match result {
                    Ok(Won::Stream(stream)) if !call.stream || stream.window.is_some() => {
                        attempts.choose(launch.id);
                        tries.read_on(launch, *stream);
                    }
                    Ok(mut won) => {
                        tries.end_rest();
                        tries.note_hedge(attempts.hedged(), Some(&launch));
                        won.path().failed = lost.failed;
                        if let Won::Stream(stream) = &mut won {
                            stream.again = Again::of(job, &launch);
                        }
                        return Ok(won);
                    }
                    Err(refusal) => {
                        let outcome = outcome(refusal.failure, job, &launch);
                        lost.add(&launch, *refusal, live);
                        attempts.on(launch.id, outcome, time::now(), fastrand::u64(..), &live.rows);
                        tries.note_unpaid(attempts.lacked_budget());
                    }
                }
            }
        }
    }
}

fn outcome(failure: Failure, job: Job<'_>, launch: &Launch<'_>) -> Outcome {
    if failure.may_have_run && !endpoint::is_repeatable_after_failure(job.call) {
        Outcome::Unsure(failure)
    } else if !hedging::may_add(job.live, launch.group, time::now()) {
        Outcome::Unpaid(failure)
    } else {
        Outcome::Failed(failure)
    }
}

impl Won {
    pub(super) fn path(&mut self) -> &mut Path {
        match self {
            Self::Mock(mocked) => &mut mocked.path,
            Self::Stream(stream) => &mut stream.path,
            Self::Whole(whole) => &mut whole.path,
        }
    }
}

/// What a name stands for; a bare model name is also looked for under its provider's prefix, as
/// a wildcard such as `openai/*` names it.
pub(super) fn resolve(live: &Live, model: &str) -> Option<Resolved> {
    live.routes.resolve(model).or_else(|| {
        let prefix = crate::provider::infer(model)?;
        live.routes.resolve(&format!("{prefix}/{model}"))
    })
}

/// What is known of a call before it is made.
pub(super) fn shape(call: &Call, live: &Live) -> Shape {
    // Reading a long prompt takes its time, and most configurations need not know.
    let prompt_tokens = if live.routes.weighs_prompts() {
        estimate::prompt(call.endpoint, &call.body, &call.fields)
    } else {
        0
    };
    Shape {
        stream: call.stream,
        prompt_tokens,
        length: u32::try_from(call.body.len() / 4).unwrap_or(u32::MAX),
        effort: effort(call),
    }
}

fn ask<'a>(job: Job<'a>, target: &'a Resolved, opened: Instant) -> Ask<'a> {
    let wishes = &job.call.wishes;
    let limits = &job.live.limits;
    let may_queue = limits.max_queued_requests > 0;
    Ask {
        target,
        tags: &wishes.tags,
        shape: job.shape,
        num_retries: wishes.num_retries,
        fallbacks: wishes.fallbacks.as_deref(),
        context_window_fallbacks: wishes.context_window_fallbacks.as_deref(),
        content_policy_fallbacks: wishes.content_policy_fallbacks.as_deref(),
        disable_fallbacks: wishes.disable_fallbacks,
        timeout: wishes.timeout,
        stream_timeout: wishes.stream_timeout,
        hedge: wishes.hedge,
        deadline: wishes
            .total_timeout
            .or(job.live.routes.settings().timeouts.total)
            .map(|total| opened + total),
        queue_timeout: if may_queue { limits.queue_timeout } else { Duration::ZERO },
        is_carried: job.carried.is_some(),
        avoid: job.behind.map(|behind| behind.after),
        exclude: job.behind.map_or(&[], |behind| behind.exclude),
    }
}

/// How hard the model is asked to think, as OpenAI and Anthropic spell it.
fn effort(call: &Call) -> Effort {
    let field = |name| call.fields.get(&call.body, name);
    if let Some(name) = call.fields.parse::<Cow<'_, str>>(&call.body, "reasoning_effort") {
        return Effort::named(&name);
    }
    if let Some(reasoning) = field("reasoning").or_else(|| field("output_config")) {
        let fields = Fields::of(reasoning).unwrap_or_default();
        let name = fields.parse::<Cow<'_, str>>(reasoning, "effort");
        return name.map_or(Effort::Unset, |name| Effort::named(&name));
    }
    if field("thinking").is_some() { Effort::High } else { Effort::Unset }
}

/// The failed tries so far.
#[derive(Debug, Default)]
struct Lost {
    failed: Vec<(Box<str>, Class)>,
    refusals: Vec<(TryId, Refusal)>,
}

impl Lost {
    fn add(&mut self, launch: &Launch<'_>, refusal: Refusal, live: &Live) {
        let id = live.deployment(launch.member.deployment).map(|deployment| deployment.id.clone());
        self.failed.push((id.unwrap_or_default(), refusal.failure.class));
        // The client hears of one group's last failure; earlier ones of the same group are over.
        self.refusals.retain(|(id, _)| id.0 + 1 != launch.id.0 || launch.retries == 0);
        self.refusals.push((launch.id, refusal));
    }
}

fn reject(
    verdict: Verdict,
    lost: Lost,
    waiting: &Waiting,
    job: Job<'_>,
    target: &Resolved,
) -> Rejection {
    let Job { live, call, .. } = job;
    let group = live.routes.group(target.group).map_or("", |group| &group.name);
    let path = Path { failed: lost.failed, ..Path::default() };
    match verdict {
        Verdict::NoCandidate(NoCandidate::AllBusy) => {
            Rejection::all_busy(group, waiting, &live.limits)
        }
        Verdict::NoCandidate(NoCandidate::AllLimited(exceeded)) => {
            if let Some(row) = live.rows.get(exceeded.of) {
                row.refused(time::now());
            }
            Rejection::all_limited(group, &exceeded, live, time::now())
        }
        Verdict::NoCandidate(NoCandidate::AllCooling(until)) => {
            Rejection::all_cooling(group, until.saturating_duration_since(time::now()))
        }
        Verdict::NoCandidate(NoCandidate::Exhausted) => Rejection::nobody(group),
        Verdict::NoCandidate(NoCandidate::OutOfTime) => Rejection::out_of_time(),
        Verdict::NoCandidate(NoCandidate::NoTagMatch) => {
            Rejection::no_tag_match(group, &call.wishes.tags)
        }
        Verdict::Tried(id, failure) => {
            let refusal = lost.refusals.into_iter().find(|(tried, _)| *tried == id);
            refused(failure, refusal.map(|(_, refusal)| refusal), job)
        }
    }
    .with_path(path)
}

/// The provider's refusal in the client's dialect: as it came where it is in that dialect, else
/// read and written anew.
fn refused(failure: Failure, refusal: Option<Refusal>, job: Job<'_>) -> Rejection {
    let (call, most) = (job.call, job.live.limits.max_buffered_bytes);
    let client = call.endpoint.dialect();
    let Some(refusal) = refusal else {
        let fault = Fault::new(client, failure.status, "the deployment failed");
        return Rejection::new(failure.status, failure.class, Say::Read(fault));
    };
    let say = match refusal.body {
        RefusalBody::Ours(fault) => Say::Read(fault),
        RefusalBody::NoRoom => return Rejection::no_room(most),
        RefusalBody::Theirs(body, dialect) => {
            let same = (dialect == client).then_some(client);
            let whole = same.and_then(|client| Fault::completed(client, failure.status, &body));
            whole.map_or_else(|| Say::Read(Fault::read(&body)), Say::Theirs)
        }
    };
    Rejection::new(failure.status, failure.class, say).with_headers(refusal.headers)
}
