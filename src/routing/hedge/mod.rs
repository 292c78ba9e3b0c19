//! A second try for a request whose first one is late: when, for whom, and who pays for it.
//!
//! A try is late when it has waited longer than the configured percentile of its own deployment's
//! answers to prompts of that length. What helps in the tail costs tokens, so each hedge needs a
//! permit: [`permit`] says no in the order of [`Forgone`], and its reason is kept. Knows neither
//! tries nor connections; the tries of a request are [`attempts`](super::attempts)'.

pub mod bucket;
pub mod pair;

use std::time::Duration;

use super::chance::unit;

pub use crate::lexicon::HedgeMode as Mode;
pub use bucket::Bucket;
pub use pair::Pair;

/// `pillion.hedge`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `mode`; `observe` by default: tails differ too much between providers to promise anything
    /// before they were looked at.
    pub mode: Mode,
    /// `percentile` or `delay`: when a try is late; the 95th percentile by default.
    pub after: After,
    /// `budget`: what hedges may cost, as a share of what all requests cost; 0.05 by default.
    pub budget: f64,
    /// `max_prompt_tokens`: longer prompts are not hedged; 8,000 by default.
    pub max_prompt_tokens: u32,
    /// `max_copies`: how many hedges one request may have; 1 by default.
    pub max_copies: u32,
    /// `min_samples`: no hedge before a deployment has taught so many; 30 by default.
    pub min_samples: u32,
    /// `across`: what the second deployment must not share with the first.
    pub across: Across,
    /// `holdout`: the share of late requests that get no hedge, to know what hedging is worth;
    /// 0.05 by default.
    pub holdout: f64,
    /// `stream_upstream`: plain calls that may be hedged go to the provider as streams, which
    /// show early that an answer is coming; false by default, since the answer that a client gets
    /// is then put together here.
    pub stream_upstream: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            after: After::Percentile(0.95),
            budget: 0.05,
            max_prompt_tokens: 8_000,
            max_copies: 1,
            min_samples: 30,
            across: Across::Deployment,
            holdout: 0.05,
            stream_upstream: false,
        }
    }
}

/// When a try is late.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum After {
    /// After so long, whatever was learned.
    Delay(Duration),
    /// When it has waited longer than this share of its deployment's answers, from 0.5 to 0.999.
    Percentile(f64),
}

/// What two tries of a request must not share. Hedges help only across what fails together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// The deployment.
    Deployment,
    /// The provider.
    Provider,
    /// The provider's region, or its address where no region is configured.
    Region,
}

impl Across {
    /// One of them by its name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Deployment, Self::Provider, Self::Region].into_iter().find(|it| it.as_str() == name)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::Provider => "provider",
            Self::Region => "region",
        }
    }
}

/// Why a late request got no hedge; the reasons in the order in which they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forgone {
    /// Nobody else is free, or who is shares too much with the first.
    NoCandidate,
    /// The first would probably still be first.
    Unlikely,
    /// It does something that must not be done twice.
    Ineligible,
    /// Its prompt is longer than `max_prompt_tokens`.
    LongPrompt,
    /// Many of the group's tries fail now: a hedge would be one more of them.
    BrownOut,
    /// Hedges from the one to the other hardly ever won.
    Pair,
    /// The mode is `observe`.
    Observed,
    /// It was drawn to show what happens without.
    Holdout,
    /// The budget is used up.
    Budget,
}

impl Forgone {
    /// The word for labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrownOut => "brown_out",
            Self::Budget => "budget",
            Self::Holdout => "holdout",
            Self::Ineligible => "ineligible",
            Self::LongPrompt => "long_prompt",
            Self::NoCandidate => "no_candidate",
            Self::Observed => "observed",
            Self::Pair => "pair",
            Self::Unlikely => "unlikely",
        }
    }
}

/// What a permit is asked for with.
#[derive(Debug, Clone, Copy)]
pub struct Petition<'a> {
    /// What is configured for the group.
    pub settings: &'a Settings,
    /// The mode, which the request may have chosen itself.
    pub mode: Mode,
    /// Whether the request may be made twice at all.
    pub eligible: bool,
    /// About how many tokens its prompt has.
    pub prompt_tokens: u32,
    /// The share of the group's recent tries that failed, from 0 to 1.
    pub failing: f64,
    /// Whether hedges from the first to the second deployment may be made now.
    pub pair: bool,
    /// The dice.
    pub entropy: u64,
}

/// Beyond this share of failures a group is in a brown-out: hedges off. Above 2 % the budget fills
/// half as fast (§1.5 of the routing study); what is between is left to the budget.
const BROWN_OUT: f64 = 0.2;

/// Whether a late request is hedged; `pay` takes the hedge's cost from the budget, or says that
/// there is not enough in it, and is asked last.
pub fn permit(petition: &Petition<'_>, pay: impl FnOnce() -> bool) -> Result<(), Forgone> {
    let settings = petition.settings;
    if !petition.eligible {
        return Err(Forgone::Ineligible);
    }
    if petition.prompt_tokens > settings.max_prompt_tokens {
        return Err(Forgone::LongPrompt);
    }
    if petition.failing > BROWN_OUT {
        return Err(Forgone::BrownOut);
    }
    if !petition.pair {
        return Err(Forgone::Pair);
    }
    if petition.mode != Mode::Enabled {
        return Err(Forgone::Observed);
    }
    if unit(petition.entropy) < settings.holdout {
        return Err(Forgone::Holdout);
    }
    if pay() { Ok(()) } else { Err(Forgone::Budget) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request of usual length that nothing speaks against.
    fn petition(settings: &Settings) -> Petition<'_> {
        Petition {
            settings,
            mode: Mode::Enabled,
            eligible: true,
            prompt_tokens: 900,
            failing: 0.0,
            pair: true,
            entropy: u64::MAX,
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Petition<'_>), want: Result<(), Forgone>) {
        let settings = Settings::default();
        let mut petition = petition(&settings);
        change(&mut petition);
        assert_eq!(permit(&petition, || true), want);
        let unpaid = want.and(Err(Forgone::Budget));
        assert_eq!(permit(&petition, || false), unpaid);
    }

    #[test]
    fn a_permit_needs_all_of_them() {
        let short = Settings { max_prompt_tokens: 10, ..Settings::default() };
        check(|_| (), Ok(()));
        check(|it| it.eligible = false, Err(Forgone::Ineligible));
        check(|it| it.prompt_tokens = 8_001, Err(Forgone::LongPrompt));
        check(|it| it.failing = 0.3, Err(Forgone::BrownOut));
        check(|it| it.pair = false, Err(Forgone::Pair));
        check(|it| it.entropy = 0, Err(Forgone::Holdout));
        check(|it| it.mode = Mode::Observe, Err(Forgone::Observed));
        for paid in [true, false] {
            assert_eq!(permit(&petition(&short), || paid), Err(Forgone::LongPrompt));
        }
    }

    #[test]
    fn about_the_configured_share_is_held_out() {
        let settings = Settings::default();
        let held = (0..10_000u64).filter(|step| {
            let entropy = (2 * step + 1) * (u64::MAX / 20_000);
            let petition = Petition { entropy, ..petition(&settings) };
            permit(&petition, || true) == Err(Forgone::Holdout)
        });
        assert_eq!(held.count(), 500);
    }

    #[test]
    fn a_forgone_hedge_does_not_cost_anything() {
        let settings = Settings::default();
        let petition = Petition { mode: Mode::Observe, ..petition(&settings) };
        let refused = permit(&petition, || panic!("nobody pays for what is only observed"));
        assert_eq!(refused, Err(Forgone::Observed));
    }
}
