//! Who is there: SWIM by the foca crate, which has no IO of its own either.
//!
//! Members probe each other, suspect who does not answer and take for dead who does not object;
//! what changes is told along with probes and in rounds that [`Members::gossip`] makes. Who is taken
//! for dead while it lives comes back by itself. Knows nothing of what members tell each other.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use foca::{Config, Foca, Header, Member, Message, NoCustomBroadcast, Notification, State, Timer};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::identity::{Boot, Identity};
use super::wire::{Garbled, RECORD_HEAD, ROOM, Reader, Writer};

/// The members of the fleet, as far as they are known.
pub struct Members {
    foca: Foca<Identity, Codec, SmallRng, NoCustomBroadcast>,
    live: Vec<Identity>,
    /// Where each of them stands in `live`.
    places: HashMap<Boot, usize>,
    timers: BTreeMap<(Instant, u64), Timer<Identity>>,
    timer_count: u64,
    out: Vec<(SocketAddr, Vec<u8>)>,
    /// For how many the settings are.
    sized_for: u32,
    changes: u64,
}

/// One member, as it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub identity: Identity,
    /// How it is.
    pub state: Health,
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    /// It answers.
    Alive,
    /// It does not answer, and may still object.
    Suspect,
    /// It has left, or was taken for dead.
    Down,
}

/// Somebody is probed so often. What is told by gossip is advice, so that nobody must know at once
/// who has died; and who is suspected because it is slow costs everybody a few words.
const PROBED: Duration = Duration::from_secs(2);
/// From then on others are asked to probe, too.
const ANSWERED: Duration = Duration::from_secs(1);
/// The dead are remembered so long: whoever speaks of them as living is told otherwise.
const REMEMBERED: Duration = Duration::from_secs(3_600);

impl Members {
    /// Nobody but `me`.
    pub fn new(me: Identity, entropy: u64) -> Self {
        let sized_for = 8;
        let random = SmallRng::seed_from_u64(entropy);
        Self {
            foca: Foca::new(me, config(sized_for), random, Codec),
            live: Vec::new(),
            places: HashMap::new(),
            timers: BTreeMap::new(),
            timer_count: 0,
            out: Vec::new(),
            sized_for,
            changes: 0,
        }
    }

    /// Who this is, in its present life.
    pub fn me(&self) -> Identity {
        *self.foca.identity()
    }

    /// All others that are alive, in no order.
    pub fn live(&self) -> &[Identity] {
        &self.live
    }

    /// One of them.
    pub fn of(&self, boot: &Boot) -> Option<&Identity> {
        self.live.get(*self.places.get(boot)?)
    }

    /// How many are alive, this one included.
    pub fn count(&self) -> usize {
        self.live.len() + 1
    }

    /// How often somebody came or went.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// All that are known, also those that are gone.
    pub fn all(&self) -> impl Iterator<Item = Seen> {
        self.foca.iter_membership_state().map(|member| {
            let state = match member.state() {
                State::Alive => Health::Alive,
                State::Suspect => Health::Suspect,
                State::Down => Health::Down,
            };
            Seen { identity: *member.id(), state }
        })
    }

    /// Asks whoever is at an address for the members it knows.
    pub fn announce(&mut self, to: SocketAddr, now: Instant) {
        self.with(now, |foca, heard| foca.announce(Identity::anybody(to), heard));
    }

    /// Whether there are changes that others shall hear.
    pub fn has_news(&self) -> bool {
        self.foca.updates_backlog() > 0 && !self.live.is_empty()
    }

    /// Tells changes to a few members.
    pub fn gossip(&mut self, now: Instant) {
        self.with(now, |foca, heard| foca.gossip(heard));
    }

    /// Says goodbye.
    pub fn leave(&mut self, now: Instant) {
        self.with(now, |foca, heard| foca.leave_cluster(heard));
    }

    /// Takes in what was said by the process `boot`.
    pub fn hear(&mut self, said: &[u8], boot: Boot, now: Instant) -> Result<(), Garbled> {
        let mut answer = Err(Garbled);
        // Nobody speaks for another.
        if Identity::read(&mut Reader::new(said))?.boot == boot {
            self.with(now, |foca, heard| {
                let done = foca.handle_data(said, heard);
                answer = match &done {
                    Err(foca::Error::Decode(_) | foca::Error::MalformedPacket) => Err(Garbled),
                    Ok(()) | Err(_) => Ok(()),
                };
                done
            });
        }
        answer
    }

    /// Does what is due; says when there is more.
    pub fn poll(&mut self, now: Instant) -> Option<Instant> {
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                return Some(first.key().0);
            }
            let timer = first.remove();
            self.with(now, |foca, heard| foca.handle_timer(timer, heard));
        }
        None
    }

    /// What is to be sent.
    pub fn outgoing(&mut self) -> impl Iterator<Item = (SocketAddr, Vec<u8>)> {
        self.out.drain(..)
    }

    /// What foca refuses, it refuses without harm: there is nothing to be done about it.
    fn with(
        &mut self,
        now: Instant,
        act: impl FnOnce(
            &mut Foca<Identity, Codec, SmallRng, NoCustomBroadcast>,
            &mut Heard,
        ) -> Result<(), foca::Error>,
    ) {
        let mut heard = Heard::default();
        let _ = act(&mut self.foca, &mut heard);
        self.out.append(&mut heard.out);
        for (after, timer) in heard.timers {
            self.timer_count += 1;
            self.timers.insert((now + after, self.timer_count), timer);
        }
        for change in heard.changes {
            self.changes += 1;
            match change {
                Change::Up(who) => self.add(who),
                Change::Down(who) => self.remove(who.boot),
                Change::Renamed(before, after) => {
                    if self.places.contains_key(&before.boot) {
                        self.remove(before.boot);
                        self.add(after);
                    }
                }
            }
        }
        self.resize();
    }

    fn add(&mut self, who: Identity) {
        if let Some(known) = self.places.get(&who.boot).and_then(|at| self.live.get_mut(*at)) {
            *known = who;
            return;
        }
        self.places.insert(who.boot, self.live.len());
        self.live.push(who);
    }

    fn remove(&mut self, boot: Boot) {
        let Some(at) = self.places.remove(&boot) else { return };
        self.live.swap_remove(at);
        if let Some(moved) = self.live.get(at) {
            self.places.insert(moved.boot, at);
        }
    }

    /// How often a change is told, and how long a suspect may object, depends on how many there are.
    fn resize(&mut self) {
        let count = u32::try_from(self.count()).unwrap_or(u32::MAX);
        if count > self.sized_for.saturating_mul(2) || count < self.sized_for / 4 {
            self.sized_for = count;
            // Only what may change while it runs does.
            let _ = self.foca.set_config(config(count));
        }
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("me", &self.me())
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

/// Nothing longer is said at once: when a whole fleet starts, every probe is as long as it may be.
const LONGEST: usize = 600;
const _: () = assert!(LONGEST + RECORD_HEAD <= ROOM, "it fits into a datagram");

fn config(members: u32) -> Config {
    let members = NonZeroU32::new(members).unwrap_or(NonZeroU32::MIN);
    Config {
        max_packet_size: NonZeroUsize::new(LONGEST).unwrap_or(NonZeroUsize::MIN),
        probe_period: PROBED,
        probe_rtt: ANSWERED,
        remove_down_after: Some(REMEMBERED),
        // The node has its own clocks for these, and one purse for all that is told.
        periodic_announce: None,
        periodic_gossip: None,
        ..Config::new_lan(members)
    }
}

/// What foca wants done.
#[derive(Default)]
struct Heard {
    out: Vec<(SocketAddr, Vec<u8>)>,
    timers: Vec<(Duration, Timer<Identity>)>,
    changes: Vec<Change>,
}

enum Change {
    Down(Identity),
    Renamed(Identity, Identity),
    Up(Identity),
}

impl foca::Runtime<Identity> for Heard {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::MemberUp(who) => self.changes.push(Change::Up(*who)),
            Notification::MemberDown(who) => self.changes.push(Change::Down(*who)),
            Notification::Rename(before, after) => {
                self.changes.push(Change::Renamed(*before, *after));
            }
            Notification::Active
            | Notification::Idle
            | Notification::Defunct
            | Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: Identity, said: &[u8]) {
        self.out.push((to.address, said.to_vec()));
    }

    fn submit_after(&mut self, timer: Timer<Identity>, after: Duration) {
        self.timers.push((after, timer));
    }
}

/// How foca's words are written.
struct Codec;

impl Codec {
    fn put(writer: Writer, mut to: impl BufMut) -> Result<(), Garbled> {
        let bytes = writer.done();
        if to.remaining_mut() < bytes.len() {
            return Err(Garbled);
        }
        to.put_slice(&bytes);
        Ok(())
    }

    /// Reads from the front of what is left, which lies in one piece, as foca is given it.
    fn take<T>(
        mut from: impl Buf,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, Garbled>,
    ) -> Result<T, Garbled> {
        let mut reader = Reader::new(from.chunk());
        let read = read(&mut reader)?;
        let taken = from.chunk().len() - reader.rest().len();
        from.advance(taken);
        Ok(read)
    }
}

impl foca::Codec<Identity> for Codec {
    type Error = Garbled;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        buf: impl BufMut,
    ) -> Result<(), Garbled> {
        let mut writer = Writer::default();
        header.src.write(&mut writer);
        writer.short(header.src_incarnation);
        header.dst.write(&mut writer);
        write_message(&header.message, &mut writer);
        Self::put(writer, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, Garbled> {
        Self::take(buf, |reader| {
            Ok(Header {
                src: Identity::read(reader)?,
                src_incarnation: reader.short()?,
                dst: Identity::read(reader)?,
                message: read_message(reader)?,
            })
        })
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        buf: impl BufMut,
    ) -> Result<(), Garbled> {
        let mut writer = Writer::default();
        member.id().write(&mut writer);
        writer.short(member.incarnation());
        writer.byte(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        Self::put(writer, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, Garbled> {
        Self::take(buf, |reader| {
            let (id, incarnation) = (Identity::read(reader)?, reader.short()?);
            let state = match reader.byte()? {
                0 => State::Alive,
                1 => State::Suspect,
                2 => State::Down,
                _ => return Err(Garbled),
            };
            Ok(Member::new(id, incarnation, state))
        })
    }
}

fn write_message(message: &Message<Identity>, to: &mut Writer) {
    let mut numbered = |tag: u8, who: Option<&Identity>, number: u8| {
        to.byte(tag);
        if let Some(who) = who {
            who.write(to);
        }
        to.byte(number);
    };
    match message {
        Message::Ping(number) => numbered(1, None, *number),
        Message::Ack(number) => numbered(2, None, *number),
        Message::PingReq { target, probe_number } => numbered(3, Some(target), *probe_number),
        Message::IndirectPing { origin, probe_number } => numbered(4, Some(origin), *probe_number),
        Message::IndirectAck { target, probe_number } => numbered(5, Some(target), *probe_number),
        Message::ForwardedAck { origin, probe_number } => numbered(6, Some(origin), *probe_number),
        Message::Announce => to.byte(7),
        Message::Feed => to.byte(8),
        Message::Gossip => to.byte(9),
        Message::Broadcast => to.byte(10),
        Message::TurnUndead => to.byte(11),
    }
}

fn read_message(from: &mut Reader<'_>) -> Result<Message<Identity>, Garbled> {
    let tag = from.byte()?;
    let mut who = || Identity::read(from);
    Ok(match tag {
        1 => Message::Ping(from.byte()?),
        2 => Message::Ack(from.byte()?),
        3 => Message::PingReq { target: who()?, probe_number: from.byte()? },
        4 => Message::IndirectPing { origin: who()?, probe_number: from.byte()? },
        5 => Message::IndirectAck { target: who()?, probe_number: from.byte()? },
        6 => Message::ForwardedAck { origin: who()?, probe_number: from.byte()? },
        7 => Message::Announce,
        8 => Message::Feed,
        9 => Message::Gossip,
        10 => Message::Broadcast,
        11 => Message::TurnUndead,
        _ => return Err(Garbled),
    })
}
