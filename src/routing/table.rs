//! Names to candidates: every public name resolved once, when the configuration is loaded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::attempts::patience::Timeouts;
use super::attempts::retry::Income;
use super::budget::Budget;
use super::cooldown::{Rule, breaker};
use super::strategy::Strategy;
use super::view::Vitals;
use super::{hedge, streams};
use crate::lexicon::{CooldownState, DeploymentIx, GroupIx, PicoUsd, Substitute, Tokens};

/// What routing may know about one deployment from the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Which deployment.
    pub deployment: DeploymentIx,
    /// What it shares its failures with.
    pub domain: Domain,
    /// `weight`: its share under simple-shuffle.
    pub weight: Option<f64>,
    /// `rpm`: the share where nobody has a weight; a limit where [`Settings::minds_limits`].
    pub rpm: Option<f64>,
    /// `tpm`: the share where nobody has a weight or an rpm; a limit likewise.
    pub tpm: Option<f64>,
    /// The longest prompt it takes, in tokens; `None` where nobody knows it.
    pub longest_prompt: Option<Tokens>,
    /// Whether its model is known to think before it answers, or to be able to.
    pub reasons: bool,
    /// The price of a token of the prompt; `None` where nobody knows it.
    pub input_cost: Option<PicoUsd>,
    /// The price of a token of the answer.
    pub output_cost: Option<PicoUsd>,
    /// `max_budget` and `budget_duration`.
    pub budget: Option<Budget>,
    /// What `provider_budget_config` says of its provider.
    pub provider_budget: Option<Budget>,
    /// `order`: the lowest order that is left is used.
    pub order: Option<i64>,
    /// `tags`.
    pub tags: Vec<Box<str>>,
    /// `timeout` of one try.
    pub timeout: Option<Duration>,
    /// `stream_timeout`: how long a stream may be silent.
    pub stream_timeout: Option<Duration>,
    /// `max_parallel_requests` as §2.10 of `LiteLLM` resolves it; `None` is unlimited.
    pub max_parallel_requests: Option<u32>,
    /// `num_retries` of this deployment.
    pub num_retries: Option<u32>,
    /// `cooldown_time` of this deployment; zero never cools it.
    pub cooldown_time: Option<Duration>,
    /// `allowed_fails` of this deployment.
    pub allowed_fails: Option<u32>,
}

impl Member {
    /// A member of which nothing but its position is configured.
    pub fn new(deployment: DeploymentIx) -> Self {
        Self {
            deployment,
            domain: Domain::default(),
            weight: None,
            rpm: None,
            tpm: None,
            longest_prompt: None,
            reasons: false,
            input_cost: None,
            output_cost: None,
            budget: None,
            provider_budget: None,
            order: None,
            tags: Vec::new(),
            timeout: None,
            stream_timeout: None,
            max_parallel_requests: None,
            num_retries: None,
            cooldown_time: None,
            allowed_fails: None,
        }
    }
}

/// What deployments fail and slow down with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domain {
    /// The prefix of the provider.
    pub provider: Box<str>,
    /// The configured region, else the address.
    pub region: Box<str>,
}

/// A number per class of failure: `retry_policy` (retries) or `allowed_fails_policy` (failures).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// `AuthenticationError…`
    pub authentication: Option<u32>,
    /// `BadRequestError…`
    pub bad_request: Option<u32>,
    /// `ContentPolicyViolationError…`
    pub content_policy: Option<u32>,
    /// `InternalServerError…`, and `BadGatewayError…` where that is absent.
    pub internal_server: Option<u32>,
    /// `BadGatewayError…`
    pub bad_gateway: Option<u32>,
    /// `NotFoundError…`
    pub not_found: Option<u32>,
    /// `RateLimitError…`
    pub rate_limit: Option<u32>,
    /// `ServiceUnavailableError…`
    pub service_unavailable: Option<u32>,
    /// `TimeoutError…`
    pub timeout: Option<u32>,
    /// `DefaultRetries`
    pub other: Option<u32>,
}

/// `router_settings`, and those of `litellm_settings` that routing acts on, with the defaults of
/// `LiteLLM` 1.109.1.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `num_retries`; 2 by default.
    pub num_retries: u32,
    /// `retry_policy`.
    pub retry_policy: Option<Policy>,
    /// `model_group_retry_policy`.
    pub model_group_retry_policy: BTreeMap<Box<str>, Policy>,
    /// `retry_after`: the least wait before a retry; zero by default.
    pub retry_after: Duration,
    /// `max_fallbacks`: how deep fallbacks of fallbacks go; 5 by default.
    pub max_fallbacks: u32,
    /// `fallbacks`, with `default_fallbacks` under `*`; empty by default.
    pub fallbacks: Vec<(Box<str>, Vec<Substitute>)>,
    /// `context_window_fallbacks`.
    pub context_window_fallbacks: Vec<(Box<str>, Vec<Substitute>)>,
    /// `content_policy_fallbacks`.
    pub content_policy_fallbacks: Vec<(Box<str>, Vec<Substitute>)>,
    /// `model_group_alias`: alias to group, and whether it is hidden from the model list.
    pub aliases: Vec<(Box<str>, Box<str>, bool)>,
    /// `timeout`, else `request_timeout`, else 600 s: how long one try may take.
    pub timeout: Duration,
    /// `stream_timeout`: how long a stream may be silent; as `timeout` by default.
    pub stream_timeout: Option<Duration>,
    /// `pillion.cooldown.rule`, else `LiteLLM`'s where a field of that rule is set; `None` is
    /// `LiteLLM`'s for groups with such a field at a deployment, and Pillion's for the others.
    pub cooldown: Option<Rule>,
    /// `pillion.cooldown`.
    pub breaker: breaker::Settings,
    /// `allowed_fails`; `None` is `LiteLLM`'s percentage rule.
    pub allowed_fails: Option<u32>,
    /// `allowed_fails_policy`.
    pub allowed_fails_policy: Option<Policy>,
    /// `cooldown_time`; 5 s by default.
    pub cooldown_time: Duration,
    /// `disable_cooldowns`.
    pub disable_cooldowns: bool,
    /// `enable_tag_filtering`.
    pub enable_tag_filtering: bool,
    /// `tag_filtering_match_any`; true by default.
    pub tag_filtering_match_any: bool,
    /// `routing_strategy` and `routing_strategy_args`, or `pillion.routing.strategy`.
    pub strategy: Strategy,
    /// Of groups that have another one.
    pub group_strategies: BTreeMap<Box<str>, Strategy>,
    /// `enforce_model_rate_limits` among `optional_pre_call_checks`; by default they are shares.
    pub rates: Rates,
    /// `provider_budget_config`, by the prefix of the provider.
    pub provider_budgets: BTreeMap<Box<str>, Budget>,
    /// `pillion.hedge`.
    pub hedge: hedge::Settings,
    /// `pillion.groups.NAME.hedge`, with what it leaves out from `pillion.hedge`.
    pub group_hedges: BTreeMap<Box<str>, hedge::Settings>,
    /// `pillion.streams`.
    pub streams: streams::Settings,
    /// `pillion.groups.NAME.streams`, with what it leaves out from `pillion.streams`.
    pub group_streams: BTreeMap<Box<str>, streams::Settings>,
    /// `pillion.timeouts`.
    pub timeouts: Timeouts,
    /// `pillion.retries`.
    pub retries: Income,
}

/// What `rpm` and `tpm` mean where the strategy says nothing about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rates {
    /// No deployment is asked for more.
    Limits,
    /// They are weights, where there are no others.
    #[default]
    Shares,
}

impl Settings {
    /// How long a try may take, by §2.5 of `LiteLLM` the first that is set: to the whole answer, or
    /// for a stream how long it may be silent. `whole` and `silence` are the request's own wishes.
    pub fn timeout_of(
        &self,
        member: &Member,
        stream: bool,
        (whole, silence): (Option<Duration>, Option<Duration>),
    ) -> Duration {
        let whole = whole.or(member.timeout).unwrap_or(self.timeout);
        if !stream {
            return whole;
        }
        silence.or(member.stream_timeout).or(self.stream_timeout).unwrap_or(whole)
    }

    /// Whether `rpm` and `tpm` are limits under this strategy, and not shares alone.
    pub const fn minds_limits(&self, strategy: &Strategy) -> bool {
        matches!(self.rates, Rates::Limits) || strategy.minds_limits()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            num_retries: 2,
            retry_policy: None,
            model_group_retry_policy: BTreeMap::new(),
            retry_after: Duration::ZERO,
            max_fallbacks: 5,
            fallbacks: Vec::new(),
            context_window_fallbacks: Vec::new(),
            content_policy_fallbacks: Vec::new(),
            aliases: Vec::new(),
            timeout: Duration::from_secs(600),
            stream_timeout: None,
            cooldown: None,
            breaker: breaker::Settings::default(),
            allowed_fails: None,
            allowed_fails_policy: None,
            cooldown_time: Duration::from_secs(5),
            disable_cooldowns: false,
            enable_tag_filtering: false,
            tag_filtering_match_any: true,
            strategy: Strategy::default(),
            group_strategies: BTreeMap::new(),
            rates: Rates::default(),
            provider_budgets: BTreeMap::new(),
            hedge: hedge::Settings::default(),
            group_hedges: BTreeMap::new(),
            streams: streams::Settings::default(),
            group_streams: BTreeMap::new(),
            timeouts: Timeouts::default(),
            retries: Income::default(),
        }
    }
}

/// All deployments behind one public name.
#[derive(Debug)]
pub struct Group {
    /// Its position in the table.
    pub at: GroupIx,
    /// The public name; may hold `*`s.
    pub name: Box<str>,
    /// Its deployments, in the order of the file.
    pub members: Vec<Member>,
    /// The distinct `order`s, lowest first; fewer than two mean that order decides nothing.
    pub orders: Vec<i64>,
    /// Whom to ask when it fails, resolved as §2.7 of `LiteLLM` says; empty means nobody.
    pub fallbacks: Vec<Substitute>,
    /// The same for prompts that are too long; `None` where nothing is configured at all.
    pub context_window_fallbacks: Option<Vec<Substitute>>,
    /// The same for prompts a filter refused; `None` where nothing is configured at all.
    pub content_policy_fallbacks: Option<Vec<Substitute>>,
    /// How often which failure is retried.
    pub retry_policy: Option<Policy>,
    /// Who of its deployments is asked.
    pub strategy: Strategy,
    /// When a second try is made for one that is late.
    pub hedge: hedge::Settings,
    /// What becomes of a stream that breaks off.
    pub streams: streams::Settings,
    /// Whether the name is a pattern.
    pub wildcard: bool,
    /// Who decides about cooldowns of its deployments.
    pub cooldown: Rule,
}

impl Group {
    /// Whether its deployments can be in cooldown: not those of a pattern, since a failure may
    /// speak of one of many models, nor by Pillion's rule one that stands alone, without a fallback.
    pub fn cools(&self) -> bool {
        let by_rule = match self.cooldown {
            Rule::LiteLlm => true,
            Rule::None => false,
            Rule::Pillion => self.members.len() > 1 || !self.fallbacks.is_empty(),
        };
        by_rule && !self.wildcard
    }

    /// What keeps a deployment of this state away from traffic.
    pub fn state(&self, vitals: &Vitals, now: Instant) -> CooldownState {
        if !self.cools() {
            CooldownState::Closed
        } else if vitals.is_cooling(now) {
            CooldownState::Open
        } else if self.cooldown == Rule::Pillion && vitals.is_half_open(now) {
            CooldownState::HalfOpen
        } else {
            CooldownState::Closed
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The group.
    pub group: GroupIx,
    /// What the `*`s of the group's name stood for, in order.
    pub captures: Vec<Box<str>>,
    /// The one deployment, where the name was a deployment's id.
    pub only: Option<DeploymentIx>,
}

/// The compiled names. Made by [`RouteTable::build`].
#[derive(Debug)]
pub struct RouteTable {
    names: HashMap<Box<str>, GroupIx>,
    ids: HashMap<Box<str>, (GroupIx, DeploymentIx)>,
    /// Groups with a `*`, the most specific first.
    patterns: Vec<GroupIx>,
    groups: Vec<Group>,
    hidden: Vec<Box<str>>,
    weighs_prompts: bool,
    settings: Settings,
}

impl RouteTable {
    /// Compiles the `model_list`: one `(model_name, deployment id, member)` per entry, in the
    /// order of the file.
    pub fn build(entries: Vec<(Box<str>, Box<str>, Member)>, settings: Settings) -> Self {
        let mut table = Self {
            names: HashMap::default(),
            ids: HashMap::default(),
            patterns: Vec::new(),
            groups: Vec::new(),
            hidden: Vec::new(),
            weighs_prompts: false,
            settings,
        };
        for (name, id, member) in entries {
            let group = table.group_named(&name);
            table.ids.insert(id, (group, member.deployment));
            if let Some(group) = table.groups.get_mut(group.at()) {
                group.members.push(member);
            }
        }
        for group in &mut table.groups {
            group.orders = group.members.iter().filter_map(|member| member.order).collect();
            group.orders.sort_unstable();
            group.orders.dedup();
            let litellms = |it: &Member| it.cooldown_time.is_some() || it.allowed_fails.is_some();
            let own =
                if group.members.iter().any(litellms) { Rule::LiteLlm } else { Rule::Pillion };
            group.cooldown = table.settings.cooldown.unwrap_or(own);
        }
        table.weighs_prompts = table.groups.iter().any(|group| {
            group.strategy.weighs_prompts()
                || table.settings.minds_limits(&group.strategy)
                    && group.members.iter().any(|member| member.tpm.is_some())
        });
        table.sort_patterns();
        table.add_aliases();
        table
    }

    /// The settings it was compiled with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether picks need to know about how many tokens a prompt has.
    pub const fn weighs_prompts(&self) -> bool {
        self.weighs_prompts
    }

    /// One group.
    pub fn group(&self, at: GroupIx) -> Option<&Group> {
        self.groups.get(at.at())
    }

    /// All groups, in the order of the file.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// What a name stands for: a model name or an alias, else a deployment's id, else a pattern.
    pub fn resolve(&self, name: &str) -> Option<Resolved> {
        if let Some(&group) = self.names.get(name) {
            return Some(Resolved { group, captures: Vec::new(), only: None });
        }
        if let Some(&(group, deployment)) = self.ids.get(name) {
            return Some(Resolved { group, captures: Vec::new(), only: Some(deployment) });
        }
        self.patterns.iter().find_map(|&group| {
            let captures = captures(&self.group(group)?.name, name)?;
            Some(Resolved { group, captures, only: None })
        })
    }

    /// The names a client may be shown, sorted: groups and aliases that are not hidden.
    pub fn listed(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.names.keys().map(|name| &**name).filter(|name| !self.hides(name)).collect();
        names.sort_unstable();
        names
    }

    fn hides(&self, name: &str) -> bool {
        self.hidden.iter().any(|hidden| &**hidden == name)
    }

    fn group_named(&mut self, name: &str) -> GroupIx {
        if let Some(&known) = self.names.get(name) {
            return known;
        }
        let at = GroupIx(u16::try_from(self.groups.len()).unwrap_or(u16::MAX));
        let settings = &self.settings;
        let configured = |list: &[(Box<str>, Vec<Substitute>)]| {
            (!list.is_empty()).then(|| substitutes(list, name).unwrap_or_default())
        };
        self.groups.push(Group {
            at,
            name: name.into(),
            members: Vec::new(),
            orders: Vec::new(),
            fallbacks: substitutes(&settings.fallbacks, name).unwrap_or_default(),
            context_window_fallbacks: configured(&settings.context_window_fallbacks),
            content_policy_fallbacks: configured(&settings.content_policy_fallbacks),
            retry_policy: settings
                .model_group_retry_policy
                .get(name)
                .or(settings.retry_policy.as_ref())
                .cloned(),
            strategy: *settings.group_strategies.get(name).unwrap_or(&settings.strategy),
            hedge: settings.group_hedges.get(name).unwrap_or(&settings.hedge).clone(),
            streams: settings.group_streams.get(name).unwrap_or(&settings.streams).clone(),
            wildcard: name.contains('*'),
            cooldown: Rule::default(),
        });
        self.names.insert(name.into(), at);
        at
    }

    /// Longer patterns are more specific; among equals those with fewer stars.
    fn sort_patterns(&mut self) {
        let all = (0..self.groups.len()).filter_map(|at| u16::try_from(at).ok()).map(GroupIx);
        self.patterns =
            all.filter(|at| self.group(*at).is_some_and(|group| group.wildcard)).collect();
        let groups = &self.groups;
        let rank = |at: &GroupIx| {
            let name = groups.get(at.at()).map_or("", |group| &group.name);
            (std::cmp::Reverse(name.len()), name.matches('*').count())
        };
        self.patterns.sort_by_key(rank);
    }

    fn add_aliases(&mut self) {
        for (alias, target, hidden) in std::mem::take(&mut self.settings.aliases) {
            if let Some(&group) = self.names.get(&target) {
                self.names.entry(alias.clone()).or_insert(group);
                if hidden {
                    self.hidden.push(alias.clone());
                }
            }
            self.settings.aliases.push((alias, target, hidden));
        }
    }
}

/// The list that applies to a group: its own name, then the name with the provider's prefix cut
/// off, then a key that carries a prefix the group lacks, then `*`.
fn substitutes(list: &[(Box<str>, Vec<Substitute>)], group: &str) -> Option<Vec<Substitute>> {
    let find = |matches: &dyn Fn(&str) -> bool| {
        list.iter().find(|(key, _)| matches(key)).map(|(_, targets)| targets.clone())
    };
    find(&|key| key == group)
        .or_else(|| {
            let (_, bare) = group.split_once('/')?;
            find(&|key| key == bare)
        })
        .or_else(|| find(&|key| key.split_once('/').is_some_and(|(_, bare)| bare == group)))
        .or_else(|| find(&|key| key == "*"))
}

/// What the stars of `pattern` stand for in `name`; the first star takes as much as it can.
fn captures(pattern: &str, name: &str) -> Option<Vec<Box<str>>> {
    let Some((before, after)) = pattern.split_once('*') else {
        return (pattern == name).then(Vec::new);
    };
    let rest = name.strip_prefix(before)?;
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]).rev();
    ends.into_iter().find_map(|end| {
        let (taken, left) = rest.split_at(end);
        let mut more = captures(after, left)?;
        more.insert(0, taken.into());
        Some(more)
    })
}

/// The provider's name of a model for a request: the template's stars replaced by what the
/// request's name put in their place.
///
/// As `LiteLLM`: without stars the template stands as it is, and where the request filled more
/// stars than there are, `asked` itself is the name.
pub fn fill<'t>(template: &'t str, captures: &[Box<str>], asked: &'t str) -> Cow<'t, str> {
    let stars = template.matches('*').count();
    if stars == 0 {
        return Cow::Borrowed(template);
    }
    if captures.len() > stars {
        return Cow::Borrowed(asked);
    }
    let mut filled = String::with_capacity(template.len() + asked.len());
    let mut captures = captures.iter();
    for piece in template.split_inclusive('*') {
        match piece.strip_suffix('*') {
            None => filled.push_str(piece),
            Some(before) => {
                filled.push_str(before);
                filled.push_str(captures.next().map_or("*", |text| text));
            }
        }
    }
    Cow::Owned(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[&str], settings: Settings) -> RouteTable {
        let entry = |(at, name): (usize, &&str)| {
            let deployment = DeploymentIx(u16::try_from(at).unwrap());
            ((*name).into(), format!("id-{at}").into(), Member::new(deployment))
        };
        RouteTable::build(names.iter().enumerate().map(entry).collect(), settings)
    }

    #[track_caller]
    fn check(names: &[&str], ask: &str, want: Option<(&str, &[&str])>) {
        let table = table(names, Settings::default());
        let got = table.resolve(ask).map(|found| {
            let group = table.group(found.group).unwrap().name.to_string();
            (group, found.captures.iter().map(ToString::to_string).collect::<Vec<_>>())
        });
        let want = want.map(|(group, captures)| {
            (group.to_owned(), captures.iter().map(ToString::to_string).collect())
        });
        assert_eq!(got, want);
    }

    #[test]
    fn a_group_may_have_a_strategy_of_its_own() {
        let usage = Strategy::Usage(crate::routing::strategy::Usage::default());
        let group_strategies = [("b".into(), usage)].into();
        let settings = Settings { group_strategies, ..Settings::default() };
        let entry = |at: u16, group: &str| {
            (group.into(), format!("{at}").into(), Member::new(DeploymentIx(at)))
        };
        let table = RouteTable::build(vec![entry(0, "a"), entry(1, "b")], settings.clone());
        let names: Vec<_> = table.groups().iter().map(|group| group.strategy.name()).collect();
        assert_eq!(names, ["simple-shuffle", "usage-based-routing"]);
        assert!(table.weighs_prompts());
        assert!(!RouteTable::build(vec![entry(0, "a")], settings).weighs_prompts());
    }

    #[test]
    fn exact_names_win_over_patterns_and_long_patterns_over_short() {
        let names = ["*", "openai/*", "openai/gpt-*", "openai/gpt-4o"];
        check(&names, "openai/gpt-4o", Some(("openai/gpt-4o", &[])));
        check(&names, "openai/gpt-5", Some(("openai/gpt-*", &["5"])));
        check(&names, "openai/o3", Some(("openai/*", &["o3"])));
        check(&names, "what", Some(("*", &["what"])));
        check(&["a"], "b", None);
    }

    #[test]
    fn stars_take_as_much_as_they_can_and_the_end_must_match() {
        check(&["a*b*"], "aXbYbZ", Some(("a*b*", &["XbY", "Z"])));
        check(&["gpt-*-mini"], "gpt-4-mini", Some(("gpt-*-mini", &["4"])));
        check(&["gpt-*-mini"], "gpt-4-mini-2", None);
        check(&["ü*"], "üß", Some(("ü*", &["ß"])));
    }

    #[test]
    fn a_deployment_is_found_by_its_id() {
        let table = table(&["a", "b"], Settings::default());
        assert_eq!(table.resolve("id-1").unwrap().only, Some(DeploymentIx(1)));
    }

    #[test]
    fn templates_are_filled_as_litellm_fills_them() {
        let filled = |template: &str, captures: &[&str]| {
            let captures: Vec<Box<str>> = captures.iter().map(|text| (*text).into()).collect();
            fill(template, &captures, "asked").into_owned()
        };
        assert_eq!(filled("*", &["gpt-4o"]), "gpt-4o");
        assert_eq!(filled("gpt-4o", &["x"]), "gpt-4o");
        assert_eq!(filled("a-*-b-*", &["1", "2"]), "a-1-b-2");
        assert_eq!(filled("a-*", &["1", "2"]), "asked");
        assert_eq!(filled("a-*", &[]), "a-*");
    }

    #[test]
    fn aliases_lead_to_their_group_and_may_hide() {
        let settings = Settings {
            aliases: vec![("x".into(), "a".into(), false), ("y".into(), "a".into(), true)],
            ..Settings::default()
        };
        let table = table(&["a"], settings);
        assert_eq!(table.resolve("y").unwrap().group, GroupIx(0));
        assert_eq!(table.listed(), ["a", "x"]);
    }

    #[test]
    fn fallbacks_are_found_by_name_then_bare_name_then_star() {
        let to = |name: &str| vec![Substitute::model(name)];
        let settings = Settings {
            fallbacks: vec![
                ("*".into(), to("any")),
                ("gpt-4".into(), to("bare")),
                ("a".into(), to("own")),
            ],
            ..Settings::default()
        };
        let table = table(&["a", "openai/gpt-4", "z"], settings);
        let target = |at: u16| table.group(GroupIx(at)).unwrap().fallbacks[0].model.to_string();
        assert_eq!([target(0), target(1), target(2)], ["own", "bare", "any"]);
        assert_eq!(table.group(GroupIx(0)).unwrap().context_window_fallbacks, None);
    }
}
