//! The way from one group to the next.

use smallvec::SmallVec;

use super::{Attempts, Hop, Phase, Target, Verdict};
use crate::lexicon::{Class, Substitute};
use crate::routing::cooldown::Rule;
use crate::routing::pick::NoCandidate;

impl<'a> Attempts<'a> {
    pub(super) fn end_hop(&mut self, nobody: NoCandidate) {
        let verdict = match self.hop.last {
            Some((id, failure)) => Verdict::Tried(id, failure),
            None => Verdict::NoCandidate(nobody),
        };
        self.leave(verdict);
    }

    /// Leaves the group for the next one on the list, or ends.
    pub(super) fn leave(&mut self, verdict: Verdict) {
        if !self.is_passed_over(verdict) && self.original.is_none() {
            self.original = Some(verdict);
            self.remember_busy(verdict);
        }
        self.enqueue(verdict);
        while let Some(target) = self.queue.pop() {
            if let Some(hop) = self.enter(target) {
                self.hop = hop;
                self.hops += 1;
                self.phase = Phase::Pick;
                return;
            }
        }
        self.phase = if self.go_back() { Phase::Busy } else { Phase::Over };
    }

    /// Whether another group can be asked where nobody is left in this one.
    pub(super) fn has_elsewhere(&self) -> bool {
        let class = self.hop.last.map_or(Class::RateLimit, |(_, failure)| failure.class);
        let own = if self.may_fall_back() { self.fallbacks_for(class) } else { &[] };
        let queued = self.queue.iter().filter_map(|target| match target {
            Target::Order(..) => None,
            Target::Other(to, _) => Some(*to),
        });
        own.iter().chain(queued).any(|to| {
            !self.visited.contains(&&*to.model) && self.table.resolve(&to.model).is_some()
        })
    }

    /// Not behind a later order of a group that was asked before: that group queued its fallbacks
    /// then.
    pub(super) fn may_fall_back(&self) -> bool {
        let too_deep = self.hop.depth >= self.table.settings().max_fallbacks;
        !self.ask.disable_fallbacks && !too_deep && self.hop.order.is_none()
    }

    /// Whether the group was left for others that can be asked, which then have the last word.
    fn is_passed_over(&self, verdict: Verdict) -> bool {
        matches!(verdict, Verdict::NoCandidate(NoCandidate::AllCooling(_)))
            && self.hop.group.cooldown == Rule::Pillion
    }

    /// Queues whom the failed group names, before those that were queued by groups before it.
    pub(super) fn enqueue(&mut self, verdict: Verdict) {
        if !self.may_fall_back() {
            return;
        }
        let depth = self.hop.depth + 1;
        let class = match verdict {
            Verdict::NoCandidate(NoCandidate::NoTagMatch) => Class::Authentication,
            Verdict::NoCandidate(_) => Class::RateLimit,
            Verdict::Tried(_, failure) => failure.class,
        };
        let targets = self.fallbacks_for(class);
        self.queue.extend(targets.iter().rev().map(|target| Target::Other(target, depth)));
        let special = matches!(class, Class::ContentPolicy | Class::ContextWindow);
        if self.hop.only.is_none() && !special {
            let group = self.hop.group;
            let later = group.orders.iter().skip(1).rev();
            self.queue.extend(later.map(|order| Target::Order(group, *order, self.hop.depth)));
        }
    }

    pub(super) fn fallbacks_for(&self, class: Class) -> &'a [Substitute] {
        let group = self.hop.group;
        if let Some(own) = self.ask.fallbacks {
            return own;
        }
        let special = match class {
            Class::ContextWindow => {
                self.ask.context_window_fallbacks.or(group.context_window_fallbacks.as_deref())
            }
            Class::ContentPolicy => {
                self.ask.content_policy_fallbacks.or(group.content_policy_fallbacks.as_deref())
            }
            _ => None,
        };
        special.unwrap_or(&group.fallbacks)
    }

    /// `None` where the target was asked already or does not exist.
    pub(super) fn enter(&mut self, target: Target<'a>) -> Option<Hop<'a>> {
        let (group, name, captures, only, order, fields, depth) = match target {
            Target::Order(group, order, depth) => {
                let hop = &self.hop;
                (group, hop.name, hop.captures.clone(), None, Some(order), hop.fields, depth)
            }
            Target::Other(to, depth) => {
                if self.visited.contains(&&*to.model) {
                    return None;
                }
                self.visited.push(&to.model);
                let found = self.table.resolve(&to.model)?;
                let group = self.table.group(found.group)?;
                let name = Some(&*to.model);
                (group, name, found.captures, found.only, None, to.fields.as_slice(), depth)
            }
        };
        Some(Hop {
            group,
            name,
            captures,
            only,
            order,
            fields,
            retries: 0,
            depth,
            excluded: SmallVec::new(),
            avoided: SmallVec::new(),
            last: None,
        })
    }
}
