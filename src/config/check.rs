//! The document to a configuration, collecting every problem on the way.
//!
//! Whatever can be read is read, even after an error, so that all problems are told at once.
//! Generic over what is built of a [`Spec`], because this rule book does not care.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::cursor::{Cursor, Issues};
use super::entry::{self, Common, Draft};
use super::problem::{Problem, Scope};
use super::reference::{self, Overlay};
use super::source::Source;
use super::{fields, hedge, known, retries, router, settings, strategy, streams, timeouts};
use crate::lexicon::{DeploymentIx, Secret};
use crate::provider::{Environment, Misfit, Spec};
use crate::registry::Price;
use crate::routing::{self, Member};

/// Makes something of a [`Spec`]; in earnest, [`provider::build`](crate::provider::build).
pub(super) type Build<'a, D> = &'a dyn Fn(Spec, Environment<'_>) -> Result<D, Misfit>;

/// A configuration in parts.
#[derive(Debug)]
pub(super) struct Parts<D> {
    /// `(model_name, id, member)` of each deployment.
    pub(super) entries: Vec<(Box<str>, Box<str>, Member)>,
    /// What was built, in the same order.
    pub(super) deployments: Vec<D>,
    /// The configured prices and `base_model`s, in the same order.
    pub(super) prices: Vec<(Price, Option<Box<str>>)>,
    /// How many entries `model_list` has.
    pub(super) listed: usize,
    /// The settings of routing.
    pub(super) router: routing::Settings,
    /// The master key.
    pub(super) master_key: Option<Secret>,
    /// The settings of the sidecar.
    pub(super) settings: settings::Settings,
}

/// Reads the whole document.
pub(super) fn compile<D>(
    source: &Source,
    environment: Environment<'_>,
    build: Build<'_, D>,
) -> (Parts<D>, Vec<Problem>) {
    let overlay = Overlay::of(&source.root, environment);
    let mut root = source.root.clone();
    let origins = reference::resolve(&mut root, &overlay);
    let issues = Issues::new(source, &origins);
    let environment = |name: &str| overlay.ask(name);
    let parts = document(&root, &issues, &environment, build);
    (parts, issues.into_found())
}

fn document<D>(
    root: &Map<String, Value>,
    issues: &Issues<'_>,
    environment: Environment<'_>,
    build: Build<'_, D>,
) -> Parts<D> {
    let top = |name: &str| Cursor::top(root, name, Scope::File, issues);
    for name in root.keys() {
        let section = Cursor::top(root, name, Scope::Field, issues);
        fields::check_top(name, &section);
        shell_style(&section);
    }
    let (litellm, general) = (top("litellm_settings"), top("general_settings"));
    let (router, pillion) = (top("router_settings"), top("pillion"));
    fields::check(&litellm, &known::LITELLM);
    fields::check(&general, &known::GENERAL);
    fields::check(&router, &known::ROUTER);
    fields::check(&pillion, &known::PILLION);
    top("environment_variables").fields();
    let mut parts = Parts {
        entries: Vec::new(),
        deployments: Vec::new(),
        prices: Vec::new(),
        listed: 0,
        router: router::settings(&router, &litellm, &pillion),
        master_key: settings::master_key(&general, environment),
        settings: settings::read(&pillion, &general, environment),
    };
    settings::check_open(&parts.settings, parts.master_key.as_ref(), &pillion);
    let drop_params = litellm.get("drop_params").flag();
    let common = Common {
        credentials: credentials(&top("credential_list")),
        drop_params: drop_params.unwrap_or_else(|| is_on(environment("LITELLM_DROP_PARAMS"))),
        max_parallel_requests: router.get("default_max_parallel_requests").count(),
    };
    models(&mut parts, &top("model_list"), &common, &|spec| build(spec, environment), issues);
    let groups: Vec<Box<str>> = groups(&top("model_list"));
    (parts.router.strategy, parts.router.group_strategies) =
        strategy::choose(&router, &pillion, &parts.entries);
    parts.router.hedge = hedge::read(&pillion);
    parts.router.group_hedges = hedge::of_groups(&pillion, &parts.router.hedge, &groups);
    parts.router.streams = streams::read(&pillion);
    parts.router.group_streams = streams::of_groups(&pillion, &parts.router.streams);
    parts.router.timeouts = timeouts::read(&pillion);
    parts.router.retries = retries::read(&pillion);
    router::check_names(&parts.router, &groups, &router);
    parts
}

fn is_on(variable: Option<String>) -> bool {
    variable.is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// The public names, those of deployments that were left out too.
fn groups(list: &Cursor<'_>) -> Vec<Box<str>> {
    let entries = list.value.as_array().into_iter().flatten();
    entries.filter_map(|entry| entry.get("model_name")?.as_str()).map(Into::into).collect()
}

fn credentials<'a>(list: &Cursor<'a>) -> HashMap<&'a str, &'a Map<String, Value>> {
    let mut credentials = HashMap::new();
    for item in list.items() {
        let name = item.value.get("credential_name").and_then(Value::as_str);
        let values = item.value.get("credential_values").and_then(Value::as_object);
        match (name, values) {
            (Some(name), Some(values)) => {
                fields::check_variables(&item.get("credential_values"));
                credentials.insert(name, values);
            }
            _ => item.error("a credential needs `credential_name` and `credential_values`", None),
        }
    }
    credentials
}

fn models<D>(
    parts: &mut Parts<D>,
    list: &Cursor<'_>,
    common: &Common<'_>,
    build: &dyn Fn(Spec) -> Result<D, Misfit>,
    issues: &Issues<'_>,
) {
    let entries = list.items();
    parts.listed = entries.len();
    if entries.is_empty() && list.value.as_array().is_none_or(Vec::is_empty) {
        list.warn("there are no models: every request is refused", None);
    }
    let mut ids = HashMap::new();
    for entry in entries {
        let entry = entry.with_scope(Scope::Entry);
        let before = issues.errors_of_entries();
        let drafts = entry::read(&entry, common);
        if issues.errors_of_entries() > before {
            continue;
        }
        for mut draft in drafts {
            if unique(&mut draft, &mut ids) {
                add(parts, draft, build);
            }
        }
    }
}

/// Whether the deployment may stay: two may not call themselves the same. Ids that are made here
/// are counted apart instead.
fn unique(draft: &mut Draft<'_>, ids: &mut HashMap<Box<str>, String>) -> bool {
    let place = draft.at.path.clone();
    let id = draft.spec.id.clone();
    let Some(other) = ids.get(&id) else {
        ids.insert(id, place);
        return true;
    };
    if draft.is_named && *other != place {
        let at = draft.at.get("model_info").get("id");
        let hint = format!("{other} has it already, at {}", at.place_of(other));
        at.error(format!("the id `{id}` is there twice"), Some(hint));
        return false;
    }
    if !draft.is_named {
        let what = format!("the same as {other}: its share of the traffic counts twice");
        draft.at.with_scope(Scope::Field).warn(what, None);
    }
    let free = (2..=u16::MAX).map(|n| format!("{id}-{n}").into()).find(|id| !ids.contains_key(id));
    draft.spec.id = free.unwrap_or(id);
    ids.insert(draft.spec.id.clone(), place);
    true
}

fn add<D>(parts: &mut Parts<D>, draft: Draft<'_>, build: &dyn Fn(Spec) -> Result<D, Misfit>) {
    let Draft { spec, mut member, price, base_model, at, .. } = draft;
    let Ok(position) = u16::try_from(parts.deployments.len()) else {
        at.error("there are more than 65,536 deployments", None);
        return;
    };
    member.deployment = DeploymentIx(position);
    let (group, id) = (spec.group.clone(), spec.id.clone());
    match build(spec) {
        Ok(deployment) => {
            parts.entries.push((group, id, member));
            parts.deployments.push(deployment);
            parts.prices.push((price, base_model));
        }
        Err(misfit) => tell(&at.get("litellm_params"), &misfit),
    }
}

/// A misfit is an error unless another machine, or a later Pillion, would take the same file.
fn tell(params: &Cursor<'_>, misfit: &Misfit) {
    let (field, here_only) = match misfit {
        Misfit::BaseMissing { variables, .. } => {
            let base = params.get("api_base");
            let unset = base.missing_variable().is_some();
            (base, unset || !variables.is_empty())
        }
        Misfit::BaseInvalid(_) | Misfit::BaseWithUser => {
            let base = params.get("api_base");
            let varies = base.variable().is_some();
            (base, varies)
        }
        Misfit::HeaderInvalid(_) => (params.get("extra_headers"), false),
        Misfit::NotSpoken(_) => (params.get("model"), true),
        Misfit::UnknownProvider { .. } | Misfit::NoProvider(_) => {
            let model = params.get("model");
            let varies = model.variable().is_some();
            (model, varies)
        }
    };
    // The address may hold a password, and what a variable holds is not for logs.
    let said = match (misfit, field.variable()) {
        (Misfit::BaseInvalid(_), Some(variable)) => {
            format!("the variable {variable} is not an http or https address")
        }
        _ => misfit.to_string(),
    };
    if here_only {
        field.warn(format!("{said}: this deployment is left out"), None);
    } else {
        field.error(said, None);
    }
}

/// Warns about `${NAME}`, which LiteLLM does not expand either.
fn shell_style(section: &Cursor<'_>) {
    match section.value {
        Value::String(text) => {
            if let Some(name) =
                reference::shell_variable(text).filter(|_| section.variable().is_none())
            {
                let hint = format!("write os.environ/{name}");
                section.warn("`${…}` is not expanded and counts as it stands", Some(hint));
            }
        }
        Value::Array(_) => section.items().iter().for_each(shell_style),
        Value::Object(_) => section.fields().iter().for_each(|(_, field)| shell_style(field)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
