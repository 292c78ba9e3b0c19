//! What a record says, and how it is written.

use smallvec::SmallVec;

use super::bytes::{Garbled, Reader, Writer};
use crate::gossip::fact::{card, cooldown, evidence, quota};
use crate::gossip::identity::{Boot, Origin};
use crate::gossip::limits::{Answer, Growth, Report};
use crate::gossip::push_sum::{Load, QuickPart, SlowPart};
use crate::lexicon::{Fingerprint, PicoUsd};
use crate::routing::Kind;
use crate::routing::fleet::Why;
use crate::routing::latency::histogram::BINS;
use crate::routing::latency::{Histogram, Quick, Seen, Slow};
use crate::routing::view::Used;

/// One thing that is said.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// How an owner adds up what others have used.
    Answer(Answer),
    /// What a member says of itself.
    Card(card::Told),
    /// A deployment gets no traffic, or does again.
    Cooldown(cooldown::Told),
    /// Whether two know the same.
    Digest(Digest),
    /// A deployment fails.
    Failures(evidence::Told),
    /// What its sender believes.
    Mood(Mood),
    /// A part of what is known of the last seconds.
    Quick(QuickPart),
    /// What a member has used of a limit, for its owner.
    Report(Report),
    /// A part of what is known of the last minutes.
    Slow(Box<SlowPart>),
    /// Who is there, in the words of foca.
    Swim(Vec<u8>),
}

/// What somebody knows, in a few bytes; who knows something else answers with what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Of the cooldowns.
    pub table: u64,
    /// Of the cards.
    pub cards: u64,
    /// How many cards there are.
    pub card_count: u32,
    /// How often the two have answered each other.
    pub turn: u8,
}

/// What somebody believes, for others to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mood {
    /// How many members are alive, it included.
    pub members: u32,
    /// How many deployments are paused.
    pub paused: u16,
    /// Of the cooldowns, as in [`Digest`].
    pub table: u64,
}

mod tag {
    pub(super) const SWIM: u8 = 1;
    pub(super) const QUICK: u8 = 2;
    pub(super) const SLOW: u8 = 3;
    pub(super) const COOLDOWN: u8 = 4;
    pub(super) const FAILURES: u8 = 5;
    pub(super) const CARD: u8 = 6;
    pub(super) const DIGEST: u8 = 7;
    pub(super) const MOOD: u8 = 8;
    pub(super) const REPORT: u8 = 9;
    pub(super) const ANSWER: u8 = 10;
}

impl Record {
    pub(super) fn tag(&self) -> u8 {
        match self {
            Self::Answer(_) => tag::ANSWER,
            Self::Card(_) => tag::CARD,
            Self::Cooldown(_) => tag::COOLDOWN,
            Self::Digest(_) => tag::DIGEST,
            Self::Failures(_) => tag::FAILURES,
            Self::Mood(_) => tag::MOOD,
            Self::Quick(_) => tag::QUICK,
            Self::Report(_) => tag::REPORT,
            Self::Slow(_) => tag::SLOW,
            Self::Swim(_) => tag::SWIM,
        }
    }

    pub(super) fn write(&self, to: &mut Writer) {
        match self {
            Self::Answer(answer) => write_answer(answer, to),
            Self::Card(told) => write_card(told, to),
            Self::Cooldown(told) => write_cooldown(told, to),
            Self::Digest(digest) => write_digest(digest, to),
            Self::Failures(told) => write_failures(told, to),
            Self::Mood(mood) => write_mood(mood, to),
            Self::Quick(part) => write_quick(part, to),
            Self::Report(report) => write_report(report, to),
            Self::Slow(part) => write_slow(part, to),
            Self::Swim(bytes) => to.bytes(bytes),
        }
    }

    /// With its tag and its length before it.
    pub(in crate::gossip) fn frame(&self, to: &mut Writer) {
        let mut said = Writer::default();
        self.write(&mut said);
        let said = said.done();
        to.byte(self.tag());
        // No record is longer than a datagram has room for.
        to.short(u16::try_from(said.len()).unwrap_or_default());
        to.bytes(&said);
    }

    /// `None` of a tag that is not known. More bytes than expected are what a newer one adds.
    pub(super) fn read(tag: u8, said: &[u8]) -> Result<Option<Self>, Garbled> {
        let from = &mut Reader::new(said);
        Ok(Some(match tag {
            tag::ANSWER => Self::Answer(read_answer(from)?),
            tag::CARD => Self::Card(read_card(from)?),
            tag::COOLDOWN => Self::Cooldown(read_cooldown(from)?),
            tag::DIGEST => Self::Digest(read_digest(from)?),
            tag::FAILURES => Self::Failures(read_failures(from)?),
            tag::MOOD => Self::Mood(read_mood(from)?),
            tag::QUICK => Self::Quick(read_quick(from)?),
            tag::REPORT => Self::Report(read_report(from)?),
            tag::SLOW => Self::Slow(Box::new(read_slow(from)?)),
            tag::SWIM => Self::Swim(from.rest().to_vec()),
            _ => return Ok(None),
        }))
    }
}

fn read_of(from: &mut Reader<'_>) -> Result<Fingerprint, Garbled> {
    from.array().map(Fingerprint)
}

fn write_digest(digest: &Digest, to: &mut Writer) {
    to.bytes(&digest.table.to_be_bytes());
    to.bytes(&digest.cards.to_be_bytes());
    to.varint(digest.card_count.into());
    to.byte(digest.turn);
}

fn read_digest(from: &mut Reader<'_>) -> Result<Digest, Garbled> {
    let table = from.array().map(u64::from_be_bytes)?;
    let cards = from.array().map(u64::from_be_bytes)?;
    Ok(Digest { table, cards, card_count: from.number()?, turn: from.byte()? })
}

fn write_mood(mood: &Mood, to: &mut Writer) {
    to.varint(mood.members.into());
    to.varint(mood.paused.into());
    to.bytes(&mood.table.to_be_bytes());
}

fn read_mood(from: &mut Reader<'_>) -> Result<Mood, Garbled> {
    let (members, paused) = (from.number()?, from.number()?);
    Ok(Mood { members, paused, table: from.array().map(u64::from_be_bytes)? })
}

fn write_quick(part: &QuickPart, to: &mut Writer) {
    let QuickPart { of, weight, load, kinds, quota } = part;
    to.bytes(&of.0);
    to.half(*weight);
    to.half(load.in_flight);
    to.half(load.tries);
    // Kinds take three bits and more are never there; the highest bit says that a quota follows.
    let count = u8::try_from(kinds.len()).unwrap_or(u8::MAX) & 0x0F;
    to.byte(count | if quota.is_some() { QUOTA } else { 0 });
    for (kind, quick) in kinds.iter().take(count.into()) {
        write_kind(*kind, to);
        quick.sums().iter().for_each(|sum| to.half(*sum));
    }
    if let Some(quota::Told { left, tokens, age }) = quota {
        to.short(*left);
        to.varint(tokens.map_or(0, |tokens| u64::from(tokens) + 1));
        to.duration(*age);
    }
}

const QUOTA: u8 = 0x80;

fn read_quick(from: &mut Reader<'_>) -> Result<QuickPart, Garbled> {
    let (of, weight) = (read_of(from)?, from.half()?);
    let load = Load { in_flight: from.half()?, tries: from.half()? };
    let head = from.byte()?;
    let mut kinds = SmallVec::new();
    for _ in 0..head & 0x0F {
        let kind = read_kind(from)?;
        let mut sums = [0.0; Quick::SUMS];
        for sum in &mut sums {
            *sum = from.half()?;
        }
        kinds.push((kind, Quick::of(sums)));
    }
    let quota = if head & QUOTA == 0 { None } else { Some(read_quota(from)?) };
    Ok(QuickPart { of, weight, load, kinds, quota })
}

fn read_quota(from: &mut Reader<'_>) -> Result<quota::Told, Garbled> {
    let left = from.short()?;
    let tokens = from.number::<u32>()?.checked_sub(1);
    if left > 1_000 {
        return Err(Garbled);
    }
    Ok(quota::Told { left, tokens, age: from.duration()? })
}

fn write_kind(kind: Kind, to: &mut Writer) {
    to.byte(u8::try_from(kind.at()).unwrap_or_default());
}

fn read_kind(from: &mut Reader<'_>) -> Result<Kind, Garbled> {
    let at = from.byte()?;
    Kind::all().nth(at.into()).ok_or(Garbled)
}

fn write_slow(part: &SlowPart, to: &mut Writer) {
    to.bytes(&part.of.0);
    write_kind(part.kind, to);
    to.half(part.weight);
    part.slow.sums().iter().for_each(|sum| to.single(*sum));
    let (answered, censored): (Vec<_>, Vec<_>) = part.slow.recent().bins().unzip();
    write_side(&answered, to);
    write_side(&censored, to);
}

/// Where the first weight is, how many follow, and the weights; those in between that are nothing
/// cost two bytes each, and are few: waits lie together.
fn write_side(weights: &[f64], to: &mut Writer) {
    let first = weights.iter().position(|weight| *weight > 0.0);
    let last = weights.iter().rposition(|weight| *weight > 0.0);
    let (Some(first), Some(last)) = (first, last) else { return to.varint(0) };
    to.varint((last - first + 1) as u64);
    to.varint(first as u64);
    weights.iter().take(last + 1).skip(first).for_each(|weight| to.half(*weight));
}

fn read_slow(from: &mut Reader<'_>) -> Result<SlowPart, Garbled> {
    let (of, kind, weight) = (read_of(from)?, read_kind(from)?, from.half()?);
    let mut sums = [0.0; Slow::SUMS];
    for sum in &mut sums {
        *sum = from.single()?;
    }
    let mut recent = Histogram::default();
    read_side(&mut recent, Seen::Answered, from)?;
    read_side(&mut recent, Seen::Censored, from)?;
    Ok(SlowPart { of, kind, weight, slow: Slow::of(sums, recent) })
}

fn read_side(into: &mut Histogram, seen: Seen, from: &mut Reader<'_>) -> Result<(), Garbled> {
    let count = from.number::<usize>()?;
    if count == 0 {
        return Ok(());
    }
    let first = from.number::<usize>()?;
    let end = first.checked_add(count).filter(|end| *end <= BINS).ok_or(Garbled)?;
    for at in first..end {
        into.put(at, from.half()?, seen);
    }
    Ok(())
}

fn write_cooldown(told: &cooldown::Told, to: &mut Writer) {
    to.bytes(&told.of.0);
    to.varint(told.epoch.into());
    to.duration(told.age);
    to.varint(told.claims.len() as u64);
    for claim in &told.claims {
        to.bytes(&claim.origin.0);
        to.varint(claim.turn.into());
        to.duration(claim.remaining);
        to.byte(match claim.why {
            Why::Account => 1,
            Why::Limit => 2,
            Why::Trouble => 3,
        });
    }
}

fn read_cooldown(from: &mut Reader<'_>) -> Result<cooldown::Told, Garbled> {
    let (of, epoch, age) = (read_of(from)?, from.number()?, from.duration()?);
    let count = from.number::<usize>()?;
    if count > cooldown::MOST_CLAIMS {
        return Err(Garbled);
    }
    let mut claims = SmallVec::new();
    for _ in 0..count {
        let (origin, turn) = (Origin(from.array()?), from.number()?);
        let remaining = from.duration()?;
        let why = match from.byte()? {
            1 => Why::Account,
            2 => Why::Limit,
            3 => Why::Trouble,
            _ => return Err(Garbled),
        };
        claims.push(cooldown::Claimed { origin, turn, remaining, why });
    }
    Ok(cooldown::Told { of, epoch, age, claims })
}

fn write_failures(told: &evidence::Told, to: &mut Writer) {
    to.bytes(&told.of.0);
    to.bytes(&told.origin.0);
    to.varint(told.count);
    to.half(told.recent);
}

fn read_failures(from: &mut Reader<'_>) -> Result<evidence::Told, Garbled> {
    let (of, origin) = (read_of(from)?, Origin(from.array()?));
    Ok(evidence::Told { of, origin, count: from.varint()?, recent: from.half()? })
}

fn write_card(told: &card::Told, to: &mut Writer) {
    let card::Card { version, zone, generation, hash } = &*told.card;
    to.bytes(&told.boot.0);
    to.varint(told.turn.into());
    to.text(version);
    to.text(zone);
    to.varint(*generation);
    to.bytes(hash);
    to.byte(u8::try_from(told.keys.len()).unwrap_or(u8::MAX));
    told.keys.iter().take(u8::MAX.into()).for_each(|id| to.byte(*id));
}

fn read_card(from: &mut Reader<'_>) -> Result<card::Told, Garbled> {
    let (boot, turn) = (Boot(from.array()?), from.number()?);
    let (version, zone) = (from.text()?, from.text()?);
    let card = card::Card { version, zone, generation: from.varint()?, hash: from.array()? };
    let count = from.byte()?;
    let keys = from.take(count.into())?.into();
    Ok(card::Told { boot, turn, card: card.into(), keys })
}

fn write_used(used: Used, to: &mut Writer) {
    to.varint(used.requests);
    to.varint(used.tokens);
}

fn read_used(from: &mut Reader<'_>) -> Result<Used, Garbled> {
    Ok(Used { requests: from.varint()?, tokens: from.varint()? })
}

fn write_growth(growth: Growth, to: &mut Writer) {
    to.single(growth.requests);
    to.single(growth.tokens);
}

fn read_growth(from: &mut Reader<'_>) -> Result<Growth, Garbled> {
    Ok(Growth { requests: from.single()?, tokens: from.single()? })
}

fn write_report(report: &Report, to: &mut Writer) {
    to.bytes(&report.of.0);
    write_used(report.total, to);
    write_used(report.minute, to);
    write_growth(report.growth, to);
    to.varint(report.spent.0);
}

fn read_report(from: &mut Reader<'_>) -> Result<Report, Garbled> {
    let (of, total) = (read_of(from)?, read_used(from)?);
    let (minute, growth) = (read_used(from)?, read_growth(from)?);
    Ok(Report { of, total, minute, growth, spent: PicoUsd(from.varint()?) })
}

fn write_answer(answer: &Answer, to: &mut Writer) {
    to.bytes(&answer.of.0);
    write_used(answer.others, to);
    write_growth(answer.growth, to);
    to.varint(answer.sharers.into());
    to.varint(answer.spent.0);
}

fn read_answer(from: &mut Reader<'_>) -> Result<Answer, Garbled> {
    let (of, others, growth) = (read_of(from)?, read_used(from)?, read_growth(from)?);
    let sharers = from.number()?;
    Ok(Answer { of, others, growth, sharers, spent: PicoUsd(from.varint()?) })
}
