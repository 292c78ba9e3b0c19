//! What routing is told of a late request: whether it may be made twice, and whether its group can
//! pay for that. The decision is [`hedge::permit`]'s.

use std::time::Instant;

use super::live::Live;
use crate::endpoint;
use crate::protocol::Call;
use crate::provider;
use crate::routing::hedge::{self, Forgone, Mode, Petition};
use crate::routing::{Group, Late, Launch, Member, Role, Shape, View as _};

/// Fills the group's budgets for a request that is about to be made, or pays for an extra try.
pub(super) fn fill(live: &Live, launch: &Launch<'_>, shape: Shape) {
    let settings = &launch.group.hedge;
    let Some(hedges) = live.hedges.get(launch.group.at) else { return };
    if launch.role == Role::Hedge || launch.retries > 0 {
        return hedges.extra.pay();
    }
    hedges.extra.fill(live.routes.settings().retries);
    if settings.mode != Mode::Disabled {
        let slow = failing(live, launch.group.members.iter()) > MANY;
        let added = if slow { settings.budget / 2.0 } else { settings.budget };
        hedges.budget.fill(tokens(shape.length), added);
    }
}

/// Above this share of failures the budget fills half as fast (§1.5 of the routing study).
const MANY: f64 = 0.02;

/// Whether a late request is hedged.
pub(super) fn permit(
    live: &Live,
    call: &Call,
    shape: Shape,
    late: &Late<'_>,
    (now, entropy): (Instant, u64),
) -> Result<(), Forgone> {
    let hedges = live.hedges.get(late.group.at).ok_or(Forgone::Budget)?;
    let settings = &late.group.hedge;
    let id = |member: &Member| live.deployment(member.deployment).map_or("", |it| &*it.id);
    let petition = Petition {
        settings,
        mode: call.wishes.hedge.unwrap_or(settings.mode),
        eligible: endpoint::is_repeatable(call),
        prompt_tokens: shape.length,
        failing: failing(live, late.group.members.iter()),
        pair: hedges.may_hedge(id(late.first), id(late.second), now, entropy),
        entropy,
    };
    let pay = || may_add(live, late.group, now) && hedges.budget.pay(cost(live, call, shape, late));
    hedge::permit(&petition, pay)
}

/// Whether the group may make an extra try.
pub(super) fn may_add(live: &Live, group: &Group, now: Instant) -> bool {
    let income = live.routes.settings().retries;
    live.hedges.get(group.at).is_none_or(|hedges| hedges.extra.has_some(income, now))
}

/// The share of recent tries that failed, over all of these.
fn failing<'m>(live: &Live, members: impl ExactSizeIterator<Item = &'m Member>) -> f64 {
    let count = members.len().max(1);
    let shares = members.map(|it| f64::from(live.rows.outlook(it.deployment).failure_share));
    #[expect(clippy::cast_precision_loss, reason = "a short list")]
    let count = count as f64;
    shares.sum::<f64>() / count
}

/// What the hedge costs beside a request that fills the budget: its prompt, at the price of the
/// second deployment. Where either provider goes on when a call is cancelled, the whole answer is
/// paid twice.
#[expect(clippy::cast_possible_truncation, reason = "a ratio of prices")]
fn cost(live: &Live, call: &Call, shape: Shape, late: &Late<'_>) -> f32 {
    let dearer = match (late.first.input_cost, late.second.input_cost) {
        (Some(first), Some(second)) if first.0 > 0 => (second.as_usd() / first.as_usd()) as f32,
        (Some(_) | None, Some(_) | None) => 1.0,
    };
    let goes_on = [late.first, late.second].iter().any(|member| {
        let deployment = live.deployment(member.deployment);
        deployment.is_some_and(|it| provider::runs_to_end(it.vendor.prefix))
    });
    let answer = if goes_on { OUTPUT_PRICE * longest_answer(call) } else { 0.0 };
    tokens(shape.length) * dearer + answer
}

/// A token of an answer costs about so many of a prompt.
const OUTPUT_PRICE: f32 = 4.0;

/// How many tokens an answer may have; where the request does not say, as many as a long one has.
fn longest_answer(call: &Call) -> f32 {
    let names = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    let most = names.iter().find_map(|name| call.fields.parse::<u32>(&call.body, name));
    tokens(most.unwrap_or(1_000))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn tokens(count: u32) -> f32 {
    count.max(1) as f32
}
