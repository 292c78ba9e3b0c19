//! The rules of the configuration, each with a document that follows or breaks it.
//!
//! Nothing is built of the deployments here: a [`Spec`] stands for itself, so that these rules do
//! not depend on any provider.

use std::time::Duration;

use proptest::prelude::*;

use super::check::{Parts, compile};
use super::gossip::Seed;
use super::problem::{Problem, Scope, Severity};
use super::source::Source;
use crate::lexicon::{PicoUsd, Substitute};
use crate::provider::{Misfit, Spec};
use crate::routing::attempts::patience::Limit;
use crate::routing::cooldown::{Rule, breaker};
use crate::routing::hedge;
use crate::routing::strategy::{LowestLatency, Usage};
use crate::routing::streams::{Recovery, Window};
use crate::routing::{Budget, Income, Rates, RouteTable};

fn environment(name: &str) -> Option<String> {
    match name {
        "KEY" => Some("sk-1".to_owned()),
        "MODEL" => Some("openai/gpt-4o".to_owned()),
        "PILLION_GOSSIP_ZONE" => Some("eu-1b".to_owned()),
        _ => None,
    }
}

/// Takes every model of a provider but those of `bad/` and `later/`.
fn build(spec: Spec, _: &dyn Fn(&str) -> Option<String>) -> Result<Spec, Misfit> {
    match spec.name.split_once('/') {
        Some(("bad", _)) => Err(Misfit::UnknownProvider { prefix: "bad".into(), nearest: None }),
        Some(("later", _)) => Err(Misfit::NotSpoken("later")),
        Some(("hosted", _)) if spec.api_base.is_none() => {
            Err(Misfit::BaseMissing { vendor: "hosted", variables: &[] })
        }
        Some(_) => Ok(spec),
        None => Err(Misfit::NoProvider(spec.name)),
    }
}

fn compiled(yaml: &str) -> (Parts<Spec>, Vec<Problem>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, yaml).unwrap();
    let (source, mut problems) = Source::read(&path);
    let (parts, found) = compile(&source, &environment, &build);
    problems.extend(found);
    (parts, problems)
}

/// The parts of a document that has nothing wrong with it.
#[track_caller]
fn clean(yaml: &str) -> Parts<Spec> {
    let (parts, problems) = compiled(yaml);
    assert_eq!(problems, [], "{yaml}");
    parts
}

/// One deployment with these parameters.
fn params(more: &str) -> String {
    format!("model_list: [{{model_name: a, litellm_params: {{model: openai/x, {more}}}}}]")
}

/// Settings below a usable deployment.
fn settings(section: &str, more: &str) -> String {
    format!("{}\n{section}: {{{more}}}", params(""))
}

/// Asserts that exactly one problem is told, and what of it matters.
#[track_caller]
fn told(yaml: &str, severity: Severity, scope: Scope, path: &str, what: &str) {
    let (_, problems) = compiled(yaml);
    let found: Vec<_> = problems
        .iter()
        .map(|it| (it.severity, it.scope, it.path.as_str(), it.to_string()))
        .collect();
    let [(is, reaches, at, said)] = found.as_slice() else { panic!("{yaml}: {problems:#?}") };
    assert_eq!((*is, *reaches, *at), (severity, scope, path), "{yaml}: {said}");
    assert!(said.contains(what), "{yaml}: {said}");
}

#[test]
fn every_parameter_of_a_deployment_reaches_its_place() {
    let mut parts = clean(
        r"
model_list:
  - model_name: a
    tpm: 80_000
    litellm_params:
      model: os.environ/MODEL
      api_key: os.environ/KEY
      base_url: http://x
      api_version: 2025-01-01
      organization: org
      weight: '3'
      order: 2
      timeout: '30'
      stream_timeout: 10
      num_retries: 4
      tags: [x, y]
      temperature: 0.1
      thinking: {type: disabled}
      space_id: abc
      stop: null
      extra_body: {deep: [1]}
      extra_headers: {X-A: 1}
      drop_params: true
      additional_drop_params: [n]
      input_cost_per_token: 0.000002
      mock_response: hello
    model_info: {id: 7, base_model: azure/gpt-4o, output_cost_per_token: '1e-5', mine: 1,
                 cooldown_time: 0, allowed_fails: 3}
",
    );
    let spec = parts.deployments.remove(0);
    assert_eq!((&*spec.id, &*spec.group, &*spec.name), ("7", "a", "openai/gpt-4o"));
    assert_eq!(spec.api_key.as_ref().unwrap().reveal(), "sk-1");
    assert_eq!(spec.api_base.as_deref(), Some("http://x"));
    assert_eq!(spec.api_version.as_deref(), Some("2025-01-01"));
    assert_eq!(spec.extra_headers, [("X-A".into(), "1".into())]);
    assert_eq!(spec.mock.as_deref(), Some("hello"));
    assert!(spec.drop_params);
    let defaults: Vec<_> =
        spec.defaults.iter().map(|(name, value)| (&**name, &value[..])).collect();
    assert_eq!(
        defaults,
        [
            ("temperature", &b"0.1"[..]),
            ("thinking", br#"{"type":"disabled"}"#),
            ("space_id", b"\"abc\""),
            ("deep", b"[1]"),
        ]
    );
    let (_, id, member) = &parts.entries[0];
    assert_eq!(&**id, "7");
    assert_eq!((member.weight, member.tpm, member.order), (Some(3.0), Some(80_000.0), Some(2)));
    assert_eq!(member.timeout, Some(Duration::from_secs(30)));
    assert_eq!(member.stream_timeout, Some(Duration::from_secs(10)));
    assert_eq!((member.num_retries, member.allowed_fails), (Some(4), Some(3)));
    assert_eq!(member.cooldown_time, Some(Duration::ZERO));
    assert_eq!(member.max_parallel_requests, Some(480));
    let (price, base_model) = &parts.prices[0];
    assert_eq!(price.input, Some(PicoUsd(2_000_000)));
    assert_eq!(price.output, Some(PicoUsd(10_000_000)));
    assert_eq!(base_model.as_deref(), Some("azure/gpt-4o"));
}

#[test]
fn concurrency_follows_from_the_first_limit_that_is_there() {
    for (more, want) in [
        ("max_parallel_requests: 3, rpm: 9, tpm: 5000", Some(3)),
        ("rpm: 9, tpm: 5000", Some(9)),
        ("tpm: 5000", Some(30)),
        ("tpm: 1", Some(1)),
        ("", None),
    ] {
        let parts = clean(&params(more));
        assert_eq!(parts.entries[0].2.max_parallel_requests, want, "{more}");
    }
    let parts = clean(&settings("router_settings", "default_max_parallel_requests: 5"));
    assert_eq!(parts.entries[0].2.max_parallel_requests, Some(5));
}

#[test]
fn one_deployment_stands_for_each_organization() {
    let parts = clean(&params("organization: [a, b]"));
    let organizations: Vec<_> =
        parts.deployments.iter().map(|spec| spec.organization.as_deref().unwrap()).collect();
    assert_eq!(organizations, ["a", "b"]);
    assert_ne!(parts.entries[0].1, parts.entries[1].1);
    assert_eq!(clean(&params("organization: []")).deployments.len(), 1);
}

#[test]
fn credentials_fill_in_what_a_deployment_leaves_open() {
    let list = "credential_list: [{credential_name: c, credential_values: {api_key: k, api_base: http://c}}]\n";
    let parts =
        clean(&format!("{list}{}", params("litellm_credential_name: c, api_base: http://own")));
    let spec = &parts.deployments[0];
    assert_eq!(spec.api_key.as_ref().unwrap().reveal(), "k");
    assert_eq!(spec.api_base.as_deref(), Some("http://own"));
    let yaml = format!("{list}{}", params("litellm_credential_name: d"));
    let path = "model_list[0].litellm_params.litellm_credential_name";
    told(&yaml, Severity::Error, Scope::Entry, path, "no `d`");
}

#[test]
fn anchors_and_carriage_returns_change_nothing() {
    let parts = clean(
        "x-usual: &usual\r\n  api_key: k\r\n  rpm: 5\r\nmodel_list:\r\n  - model_name: a\r\n    litellm_params:\r\n      <<: *usual\r\n      model: openai/x\r\n      rpm: 6\r\n",
    );
    assert_eq!(parts.entries[0].2.rpm, Some(6.0));
    assert_eq!(parts.deployments[0].api_key.as_ref().unwrap().reveal(), "k");
}

#[test]
fn wrong_values_of_a_deployment_leave_that_one_out() {
    for (more, field, what) in [
        ("rpm: lots", "rpm", "expected a number, found the string `lots`"),
        ("timeout: -1", "timeout", "zero or more"),
        ("num_retries: 1.5", "num_retries", "whole number"),
        ("drop_params: perhaps", "drop_params", "true or false"),
        ("extra_headers: [a]", "extra_headers", "a mapping"),
        ("weight: -2", "weight", "zero or more"),
        ("input_cost_per_token: free", "input_cost_per_token", "expected a number"),
    ] {
        let path = format!("model_list[0].litellm_params.{field}");
        told(&params(more), Severity::Error, Scope::Entry, &path, what);
        let both = params(more).replace(
            "model_list: [",
            "model_list: [{model_name: b, litellm_params: {model: openai/y}}, ",
        );
        assert_eq!(compiled(&both).0.deployments.len(), 1, "{more}");
    }
}

#[test]
fn an_entry_needs_a_name_and_a_model() {
    let error = |yaml: &str, path: &str, what: &str| {
        told(yaml, Severity::Error, Scope::Entry, path, what);
    };
    let at = |field: &str| format!("model_list[0]{field}");
    error("model_list: [{litellm_params: {model: openai/x}}]", &at(".model_name"), "missing");
    error("model_list: [{model_name: a}]", &at(".litellm_params"), "a mapping with a `model`");
    error(
        "model_list: [{model_name: a, litellm_params: {rpm: 1}}]",
        &at(".litellm_params.model"),
        "missing",
    );
    error("model_list: [a]", &at(""), "expected a mapping");
    error(
        "model_list: [{model_name: a, litellm_params: {model: x}}]",
        &at(".litellm_params.model"),
        "provider",
    );
    error(
        "model_list: [{model_name: a, litellm_params: {model: bad/x}}]",
        &at(".litellm_params.model"),
        "`bad`",
    );
    error(
        "model_list: [{model_name: a, litellm_params: {model: hosted/x}}]",
        &at(".litellm_params.api_base"),
        "api_base",
    );
}

#[test]
fn what_only_this_machine_lacks_is_a_warning() {
    let at = |field: &str| format!("model_list[0].litellm_params.{field}");
    told(
        &params("api_key: os.environ/NONE"),
        Severity::Warning,
        Scope::Field,
        &at("api_key"),
        "NONE is not set",
    );
    let model = "model_list: [{model_name: a, litellm_params: {model: os.environ/NONE}}]";
    told(model, Severity::Warning, Scope::Entry, &at("model"), "NONE is not set");
    let later = "model_list: [{model_name: a, litellm_params: {model: later/x}}]";
    told(later, Severity::Warning, Scope::Entry, &at("model"), "not served yet");
    let (_, problems) = compiled(
        "model_list: [{model_name: a, litellm_params: {model: hosted/x, api_base: os.environ/NONE}}]",
    );
    assert!(problems.len() == 2 && !problems.iter().any(Problem::is_error), "{problems:?}");
}

#[test]
fn ids_are_unique() {
    let two = |info: &str, other: &str| {
        format!(
            "model_list:\n  - {{model_name: a, litellm_params: {{model: openai/x}}, model_info: {{{info}}}}}\n  - {{model_name: a, litellm_params: {{model: openai/x}}, model_info: {{{other}}}}}\n"
        )
    };
    told(
        &two("id: same", "id: same"),
        Severity::Error,
        Scope::Entry,
        "model_list[1].model_info.id",
        "config.yaml:2:5",
    );
    told(
        &two("", ""),
        Severity::Warning,
        Scope::Field,
        "model_list[1]",
        "the same as model_list[0]",
    );
    let (parts, _) = compiled(&two("", ""));
    assert_eq!(*parts.entries[1].1, format!("{}-2", parts.entries[0].1));
    assert_eq!(clean(&two("id: one", "id: two")).deployments.len(), 2);
}

#[test]
fn a_slip_of_the_pen_is_an_error_and_a_strange_name_a_warning() {
    let field = |section: &str, name: &str, severity, what: &str| {
        let path = format!("{section}.{name}");
        told(&settings(section, &format!("{name}: 1")), severity, Scope::Field, &path, what);
    };
    field("router_settings", "num_retrys", Severity::Error, "did you mean `num_retries`?");
    field("general_settings", "debug", Severity::Warning, "nobody knows `debug`");
    field(
        "general_settings",
        "budget_duration",
        Severity::Warning,
        "move it to `litellm_settings`",
    );
    field("general_settings", "database_url", Severity::Warning, "no effect");
    field("litellm_settings", "success_callback", Severity::Warning, "not acted on");
    field("pillion", "banana", Severity::Error, "nobody knows");
    let top = |name: &str, severity, what: &str| {
        told(&format!("{}\n{name}: {{a: 1}}", params("")), severity, Scope::Field, name, what);
    };
    top("router_setting", Severity::Error, "did you mean `router_settings`?");
    top("cache_config", Severity::Warning, "nobody knows");
    top("guardrails", Severity::Warning, "not acted on");
    let path = "model_list[0].litellm_params.api_kye";
    told(&params("api_kye: k"), Severity::Warning, Scope::Field, path, "did you mean `api_key`?");
}

#[test]
fn shell_style_variables_are_literal_and_told() {
    let yaml = params("api_key: '${OPENAI_API_KEY:-sk-1}'");
    let path = "model_list[0].litellm_params.api_key";
    told(&yaml, Severity::Warning, Scope::Field, path, "os.environ/OPENAI_API_KEY");
    let (parts, _) = compiled(&yaml);
    assert_eq!(parts.deployments[0].api_key.as_ref().unwrap().reveal(), "${OPENAI_API_KEY:-sk-1}");
}

#[test]
fn a_section_of_the_wrong_type_refuses_the_file() {
    for (yaml, path) in [
        ("model_list: {a: 1}", "model_list"),
        ("model_list: []\nrouter_settings: [a]", "router_settings"),
        ("model_list: []\ngeneral_settings: yes", "general_settings"),
        ("model_list: []\nenvironment_variables: [a]", "environment_variables"),
        ("model_list: []\nrouter_settings: {timeout: soon}", "router_settings.timeout"),
        ("model_list: []\nrouter_settings: {fallbacks: {a: [b]}}", "router_settings.fallbacks"),
        ("model_list: []\npillion: {listen: here}", "pillion.listen"),
        ("model_list: []\ngeneral_settings: {master_key: [a]}", "general_settings.master_key"),
    ] {
        let (_, problems) = compiled(yaml);
        let fatal: Vec<_> =
            problems.iter().filter(|it| it.is_fatal()).map(|it| it.path.as_str()).collect();
        assert!(fatal.contains(&path), "{yaml}: {problems:#?}");
    }
}

#[test]
fn a_file_without_models_is_a_warning() {
    told("router_settings: {}", Severity::Warning, Scope::File, "model_list", "no models");
}

#[test]
fn router_settings_win_over_litellm_settings() {
    let routing = |router: &str, litellm: &str| {
        clean(&format!("{}\nlitellm_settings: {{{litellm}}}", settings("router_settings", router)))
            .router
    };
    let both = routing(
        "num_retries: 0, timeout: 30, allowed_fails: 1, cooldown_time: 60",
        "num_retries: 5, request_timeout: 90, allowed_fails: 7",
    );
    assert_eq!((both.num_retries, both.allowed_fails), (0, Some(1)));
    assert_eq!(both.timeout, Duration::from_secs(30));
    assert_eq!(both.stream_timeout, Some(Duration::from_secs(90)));
    assert_eq!(both.cooldown_time, Duration::from_secs(60));
    let library = routing("timeout: 0", "num_retries: 5, request_timeout: 90, allowed_fails: 7");
    assert_eq!((library.num_retries, library.allowed_fails), (5, Some(7)));
    assert_eq!(library.timeout, Duration::from_secs(90));
    let none = routing("", "");
    // What it is in the group, where nothing names a strategy.
    let group_strategies = [("a".into(), crate::routing::Strategy::Adaptive)].into();
    let usual = crate::routing::Settings { group_strategies, ..Default::default() };
    assert_eq!(none, usual);
    assert_eq!(none.timeout, Duration::from_secs(600));
}

#[test]
fn fallbacks_are_read_in_all_three_forms() {
    let model = Substitute::model;
    let read = |list: &str| {
        compiled(&settings("router_settings", &format!("fallbacks: {list}"))).0.router.fallbacks
    };
    assert_eq!(
        read("[{a: [b, c]}, {d: [e]}]"),
        [("a".into(), vec![model("b"), model("c")]), ("d".into(), vec![model("e")]),]
    );
    assert_eq!(read("[b, c]"), [("*".into(), vec![model("b"), model("c")])]);
    let fields = vec![("temperature".into(), bytes::Bytes::from_static(b"0.5"))];
    let with = Substitute { model: "b".into(), fields };
    assert_eq!(read("[{model: b, temperature: 0.5}]"), [("*".into(), vec![with.clone()])]);
    assert_eq!(read("[{a: [{model: b, temperature: 0.5}]}]"), [("a".into(), vec![with])]);
    let parts =
        clean(&settings("router_settings", "default_fallbacks: [a], fallbacks: [{a: [a]}]"));
    assert_eq!(parts.router.fallbacks[1], ("*".into(), vec![model("a")]));
    let parts = clean(&settings("litellm_settings", "context_window_fallbacks: [{a: [a]}]"));
    assert_eq!(parts.router.context_window_fallbacks.len(), 1);
}

#[test]
fn names_of_groups_that_are_not_there_are_warnings() {
    let router = |more: &str, path: &str, what: &str| {
        let yaml = settings("router_settings", more);
        told(&yaml, Severity::Warning, Scope::File, path, what);
    };
    router("fallbacks: [{a: [ghost]}]", "router_settings.fallbacks", "`ghost` is a fallback");
    router("fallbacks: [{ghost: [a]}]", "router_settings.fallbacks", "fallbacks for `ghost`");
    router("model_group_alias: {b: ghost}", "router_settings.model_group_alias.b", "`ghost`");
    let wild = "model_list: [{model_name: 'openai/*', litellm_params: {model: 'openai/*'}}]\nrouter_settings: {fallbacks: [{openai/gpt-4o: [openai/x]}, {gpt-4o: [openai/y]}]}";
    let (_, problems) = compiled(wild);
    assert!(!problems.iter().any(Problem::is_error), "{problems:?}");
}

#[test]
fn aliases_are_names_mappings_or_a_list_with_a_warning() {
    let parts = clean(&settings(
        "router_settings",
        "model_group_alias: {b: a, c: {model: a, hidden: true}}",
    ));
    assert_eq!(
        parts.router.aliases,
        [("b".into(), "a".into(), false), ("c".into(), "a".into(), true),]
    );
    let yaml = settings("router_settings", "model_group_alias: {b: [a]}");
    told(&yaml, Severity::Warning, Scope::File, "router_settings.model_group_alias.b", "one group");
    assert_eq!(compiled(&yaml).0.router.aliases.len(), 1);
}

#[test]
fn strategies_are_known_by_name() {
    let strategy = |name: &str| settings("router_settings", &format!("routing_strategy: {name}"));
    for name in super::known::STRATEGIES.iter().filter(|name| **name != "lar1") {
        let got = clean(&strategy(name)).router.strategy;
        let want = if *name == "provider-budget-routing" { "simple-shuffle" } else { *name };
        assert_eq!(got.name(), want);
    }
    let path = "router_settings.routing_strategy";
    told(&strategy("lar1"), Severity::Warning, Scope::File, path, "simple-shuffle is used");
    told(&strategy("least-buzy"), Severity::Error, Scope::File, path, "did you mean `least-busy`?");
    told(&strategy("best"), Severity::Error, Scope::File, path, "usage-based-routing-v2");
}

#[test]
fn groups_are_adaptive_where_nobody_names_a_strategy_or_asks_for_shares() {
    let list = "model_list:
  - {model_name: a, litellm_params: {model: openai/x}}
  - {model_name: a, litellm_params: {model: openai/y}}
  - {model_name: w, litellm_params: {model: openai/x}}
  - {model_name: w, litellm_params: {model: openai/y, weight: 2}}
  - {model_name: r, litellm_params: {model: openai/x, rpm: 10}}
  - {model_name: t, litellm_params: {model: openai/x, tpm: 10}}
";
    let of = |more: &str| {
        let router = clean(&format!("{list}{more}")).router;
        ["a", "w", "r", "t"]
            .map(|group| router.group_strategies.get(group).unwrap_or(&router.strategy).name())
    };
    let shuffle = "simple-shuffle";
    assert_eq!(of(""), ["adaptive", shuffle, shuffle, shuffle]);
    assert_eq!(of("pillion: {routing: {}}"), ["adaptive", shuffle, shuffle, shuffle]);
    assert_eq!(of("router_settings: {routing_strategy: simple-shuffle}"), [shuffle; 4]);
    assert_eq!(of("router_settings: {routing_strategy: least-busy}"), ["least-busy"; 4]);
    assert_eq!(of("pillion: {routing: {strategy: adaptive}}"), ["adaptive"; 4]);
    assert_eq!(of("pillion: {routing: {strategy: least-busy}}"), ["least-busy"; 4]);
    let both =
        "router_settings: {routing_strategy: least-busy}\npillion: {routing: {strategy: adaptive}}";
    assert_eq!(of(both), ["adaptive"; 4]);
}

#[test]
fn adaptive_is_named_where_litellm_does_not_look() {
    let yaml = settings("router_settings", "routing_strategy: adaptive");
    let path = "router_settings.routing_strategy";
    told(
        &yaml,
        Severity::Error,
        Scope::File,
        path,
        "say `pillion: {routing: {strategy: adaptive}}`",
    );
    let yaml = settings("pillion", "routing: {strategy: adaptiv}");
    let path = "pillion.routing.strategy";
    told(&yaml, Severity::Error, Scope::File, path, "did you mean `adaptive`?");
}

#[test]
fn strategies_have_arguments() {
    use crate::routing::Strategy;

    let with = |name: &str, args: &str| {
        let more = format!("routing_strategy: {name}, routing_strategy_args: {{{args}}}");
        settings("router_settings", &more)
    };
    let latency = |args: &str| clean(&with("latency-based-routing", args)).router.strategy;
    assert_eq!(latency(""), Strategy::LowestLatency(LowestLatency::default()));
    let all = "ttl: 60, lowest_latency_buffer: 0.5, max_latency_list_size: 5, ttft_percentile: 0.9";
    let want = LowestLatency {
        ttl: Duration::from_secs(60),
        lowest_latency_buffer: 0.5,
        max_latency_list_size: 5,
        ttft_percentile: Some(0.9),
    };
    assert_eq!(latency(all), Strategy::LowestLatency(want));
    let usage = Usage { ttl: Duration::from_secs(30) };
    let got = clean(&with("usage-based-routing", "ttl: 30")).router.strategy;
    assert_eq!(got, Strategy::Usage(usage));
    let path = |arg: &str| format!("router_settings.routing_strategy_args.{arg}");
    for (arg, value, what) in [
        ("ttl", "0", "more than zero"),
        ("ttl", "soon", "a number"),
        ("lowest_latency_buffer", "-1", "zero or more"),
        ("max_latency_list_size", "0", "at least 1"),
        ("max_latency_list_size", "2.5", "whole number"),
        ("ttft_percentile", "0", "above 0"),
        ("ttft_percentile", "95", "up to 1"),
    ] {
        let yaml = with("latency-based-routing", &format!("{arg}: {value}"));
        told(&yaml, Severity::Error, Scope::File, &path(arg), what);
    }
    let told = |name: &str, args: &str, severity, scope, what: &str| {
        let arg = args.split_once(':').unwrap().0;
        told(&with(name, args), severity, scope, &path(arg), what);
    };
    let latency = "latency-based-routing";
    told(latency, "tll: 60", Severity::Error, Scope::Field, "did you mean `ttl`?");
    told(latency, "banana: 1", Severity::Warning, Scope::Field, "nobody knows");
    told(latency, "max_latency_list_size: 500", Severity::Warning, Scope::File, "128");
    told("least-busy", "ttl: 60", Severity::Warning, Scope::Field, "does not read");
}

#[test]
fn checks_before_a_call_are_acted_on_or_told() {
    let checks =
        |list: &str| settings("router_settings", &format!("optional_pre_call_checks: [{list}]"));
    assert_eq!(clean(&checks("router_budget_limiting")).router.rates, Rates::Shares);
    assert_eq!(clean(&checks("enforce_model_rate_limits")).router.rates, Rates::Limits);
    let path = "router_settings.optional_pre_call_checks[1]";
    let told = |name: &str, severity, what: &str| {
        let yaml = checks(&format!("enforce_model_rate_limits, {name}"));
        told(&yaml, severity, Scope::Field, path, what);
        assert_eq!(compiled(&yaml).0.router.rates, Rates::Limits);
    };
    told("prompt_caching", Severity::Warning, "not acted on");
    told("session_afinity", Severity::Error, "did you mean `session_affinity`?");
    told("banana", Severity::Warning, "nobody knows");
}

#[test]
fn budgets_are_money_in_a_time() {
    use Severity::{Error, Warning};

    let budget = |most, seconds| Budget {
        most: PicoUsd(most * PicoUsd::PER_USD),
        period: Duration::from_secs(seconds),
    };
    let parts = clean(&params("max_budget: 5, budget_duration: 1d"));
    assert_eq!(parts.entries[0].2.budget, Some(budget(5, 86_400)));
    let providers = |config: &str| {
        settings("router_settings", &format!("provider_budget_config: {{{config}}}"))
    };
    let parts = clean(&providers(
        "openai: {budget_limit: 100, time_period: 1mo}, azure: {max_budget: '2', budget_duration: 1w}",
    ));
    let want =
        [("azure".into(), budget(2, 7 * 86_400)), ("openai".into(), budget(100, 30 * 86_400))];
    assert_eq!(parts.router.provider_budgets, want.into());
    let wrong = |config: &str, severity, scope, field: &str, what: &str| {
        let path = format!("router_settings.provider_budget_config.{field}");
        told(&providers(config), severity, scope, &path, what);
    };
    wrong("openai: {budget_limit: 1}", Error, Scope::File, "openai", "`time_period`");
    let config = "openai: {budget_limit: lots, time_period: 1d}";
    wrong(config, Error, Scope::File, "openai.budget_limit", "expected a number");
    let config = "openai: {budget_limit: 1, time_period: daily}";
    wrong(config, Error, Scope::File, "openai.time_period", "duration");
    let config = "opnai: {budget_limit: 1, time_period: 1d}";
    wrong(config, Error, Scope::Field, "opnai", "did you mean `openai`?");
    let config = "my-own: {budget_limit: 1, time_period: 1d}";
    wrong(config, Warning, Scope::Field, "my-own", "no provider");
    let path = "model_list[0].litellm_params.max_budget";
    told(&params("max_budget: 5"), Warning, Scope::Field, path, "`budget_duration`");
    let yaml = params("max_budget: 1e9, budget_duration: 1d");
    told(&yaml, Error, Scope::Entry, path, "18 million");
}

#[test]
fn policies_count_by_class() {
    let parts = clean(&settings(
        "router_settings",
        "retry_policy: {TimeoutErrorRetries: 3, DefaultRetries: 1}, allowed_fails_policy: {RateLimitErrorAllowedFails: 9}, model_group_retry_policy: {a: {BadRequestErrorRetries: 0}}",
    ));
    let policy = parts.router.retry_policy.unwrap();
    assert_eq!((policy.timeout, policy.other, policy.rate_limit), (Some(3), Some(1), None));
    assert_eq!(parts.router.allowed_fails_policy.unwrap().rate_limit, Some(9));
    assert_eq!(parts.router.model_group_retry_policy["a"].bad_request, Some(0));
    let yaml = settings("router_settings", "retry_policy: {TimeoutErrorRetry: 3}");
    let path = "router_settings.retry_policy.TimeoutErrorRetry";
    told(&yaml, Severity::Warning, Scope::Field, path, "nobody knows");
}

#[test]
fn the_sidecar_has_settings_of_its_own() {
    let parts = clean(&format!(
        "{}\npillion: {{listen: '127.0.0.1:1', admin: ['0.0.0.0:2'], state_dir: /s, shutdown: {{drain_timeout: 30s}}, limits: {{max_body_bytes: 1_000, max_queued_requests: 0, queue_timeout: 2m}}, log: {{level: DEBUG, format: text}}}}",
        params("")
    ));
    let own = parts.settings;
    assert_eq!(own.listen, ["127.0.0.1:1".parse().unwrap()]);
    assert_eq!(own.admin, ["0.0.0.0:2".parse().unwrap()]);
    assert_eq!(own.drain_timeout, Duration::from_secs(30));
    assert_eq!(own.limits.max_body_bytes, 1000);
    assert_eq!(own.limits.max_queued_requests, 0);
    assert_eq!(own.limits.queue_timeout, Duration::from_secs(120));
    assert_eq!((&*own.log.level, own.log.format), ("debug", super::LogFormat::Text));
    let parts = clean(&settings("general_settings", "max_request_size_mb: 2"));
    assert_eq!(parts.settings.limits.max_body_bytes, 2 << 20);
    let limits = |more: &str| clean(&format!("{}\n{more}", params(""))).settings.limits;
    let most = |more: &str| limits(more).max_parallel_requests;
    assert_eq!(most("general_settings: {global_max_parallel_requests: 7}"), Some(7));
    assert_eq!(most("general_settings: {global_max_parallel_requests: 0}"), None);
    let both = "general_settings: {global_max_parallel_requests: 7}\npillion: {limits: {max_parallel_requests: 9}}";
    assert_eq!(most(both), Some(9));
    let bytes = |more: &str| limits(more).max_buffered_bytes;
    assert_eq!(bytes("general_settings: {max_request_size_mb: 500}"), 500 << 20);
    let small = "pillion: {limits: {max_body_bytes: 10, max_buffered_bytes: 20}}";
    assert_eq!(bytes(small), 20);
    assert_eq!(clean(&params("")).settings, super::Settings::default());
    let hosts = |more: &str| clean(&settings("pillion", more)).settings.allowed_hosts;
    assert_eq!(hosts("allowed_hosts: llm.example.com"), ["llm.example.com".into()]);
    assert_eq!(hosts("allowed_hosts: [a.example, '*']"), ["a.example".into(), "*".into()]);
}

#[test]
fn a_limit_of_nothing_refuses_the_file_and_an_open_door_is_told() {
    let pillion = |more: &str| settings("pillion", more);
    let error = |more: &str, path: &str| {
        told(&pillion(more), Severity::Error, Scope::File, path, "more than zero");
    };
    error("limits: {max_body_bytes: 0}", "pillion.limits.max_body_bytes");
    error("limits: {head_timeout: 0s}", "pillion.limits.head_timeout");
    error("limits: {max_parallel_requests: 0}", "pillion.limits.max_parallel_requests");
    for (more, path, what) in [
        ("limits: {queue_timeout: 2h}", "pillion.limits.queue_timeout", "an hour at most"),
        ("limits: {max_buffered_bytes: 1000}", "pillion.limits.max_buffered_bytes", "one body"),
        ("limits: {max_queued_requests: 1.5}", "pillion.limits.max_queued_requests", "whole"),
        ("allowed_hosts: ['http://a']", "pillion.allowed_hosts", "`http://a` is not the name"),
        ("allowed_hosts: ['a:80']", "pillion.allowed_hosts", "`a:80` is not the name"),
        ("allowed_hosts: [' ']", "pillion.allowed_hosts", "is not the name"),
    ] {
        told(&pillion(more), Severity::Error, Scope::File, path, what);
    }
    let open = pillion("listen: '0.0.0.0:24080'");
    told(&open, Severity::Warning, Scope::File, "pillion.listen", "open to other machines");
    clean(&format!("{open}\ngeneral_settings: {{master_key: k}}"));
}

#[test]
fn gossip_needs_a_key_and_a_seed_and_no_more() {
    let gossip = |more: &str| clean(&settings("pillion", more)).settings.gossip;
    let least = gossip("gossip: {key_file: /k, seeds: a.b.svc}").unwrap();
    assert_eq!(least.seeds, [Seed { host: "a.b.svc".into(), port: 24082 }]);
    assert_eq!((least.listen.to_string(), least.advertise), ("[::]:24082".to_owned(), None));
    assert_eq!((&*least.cluster, &*least.namespace), ("default", "default"));
    assert_eq!((&*least.zone, least.interval), ("eu-1b", Duration::from_secs(1)));
    let all = gossip(
        "gossip: {listen: '10.0.0.1:7', advertise: '10.0.0.2', seeds: ['a:1', 10.0.0.3], key_file: /k, cluster: c, namespace: n, zone: ignored, interval: 500ms, discovery_interval: 20}",
    )
    .unwrap();
    assert_eq!(all.listen, "10.0.0.1:7".parse().unwrap());
    assert_eq!(all.advertise, Some("10.0.0.2:7".parse().unwrap()));
    let ports: Vec<_> = all.seeds.iter().map(|seed| seed.port).collect();
    assert_eq!(ports, [1, 7]);
    assert_eq!((&*all.cluster, &*all.namespace, &*all.zone), ("c", "n", "eu-1b"));
    assert_eq!(all.interval, Duration::from_millis(500));
    assert_eq!(all.discovery_interval, Duration::from_secs(20));
    let reached = |by: &str| {
        let more = format!("gossip: {{key_file: /k, seeds: a, advertise: '{by}'}}");
        gossip(&more).unwrap().advertise.unwrap().to_string()
    };
    assert_eq!(reached("fd00::7"), "[fd00::7]:24082");
    assert_eq!(reached("fd00::7:24083"), "[fd00::7]:24083");
    assert_eq!(reached("[fd00::7]:9"), "[fd00::7]:9");
    let off = |more: &str, what: &str| {
        let yaml = settings("pillion", &format!("gossip: {{{more}}}"));
        told(&yaml, Severity::Warning, Scope::File, "pillion.gossip", what);
    };
    off("seeds: a", "there is no key");
    off("zone: a", "there is no key");
    off("key_file: /k", "there are no seeds");
}

#[test]
fn what_is_wrong_with_gossip_is_said() {
    let error = |more: &str, path: &str, what: &str| {
        let usual = if more.contains("seeds") { "" } else { ", seeds: a" };
        let yaml = settings("pillion", &format!("gossip: {{key_file: /k{usual}, {more}}}"));
        let path = format!("pillion.gossip.{path}");
        told(&yaml, Severity::Error, Scope::File, &path, what);
    };
    error("listen: here", "listen", "`here` is not an address");
    error("advertise: 0.0.0.0", "advertise", "nobody can reach");
    error("seeds: 'http://a'", "seeds", "is no seed");
    error("interval: 1ms", "interval", "0.1 s to 60 s");
    error("discovery_interval: 2h", "discovery_interval", "1 s to 3600 s");
    error(&format!("cluster: {}", "c".repeat(64)), "cluster", "more than 63");
    let slip = settings("pillion", "gossip: {key_file: /k, seeds: a, seed: b}");
    told(&slip, Severity::Error, Scope::Field, "pillion.gossip.seed", "nobody knows");
}

#[test]
fn hedging_is_set_for_all_and_for_one_group() {
    let parts = clean(&settings(
        "pillion",
        "hedge: {mode: enabled, percentile: p99, budget: 0.1, max_prompt_tokens: 100, max_copies: 2, min_samples: 5, across: region, holdout: 0, stream_upstream: true}, groups: {a: {hedge: {mode: disabled, delay: 2s}}}, timeouts: {total: 90s}",
    ));
    let want = hedge::Settings {
        mode: hedge::Mode::Enabled,
        after: hedge::After::Percentile(0.99),
        budget: 0.1,
        max_prompt_tokens: 100,
        max_copies: 2,
        min_samples: 5,
        across: hedge::Across::Region,
        holdout: 0.0,
        stream_upstream: true,
    };
    let after = hedge::After::Delay(Duration::from_secs(2));
    let of_group = hedge::Settings { mode: hedge::Mode::Disabled, after, ..want.clone() };
    assert_eq!(parts.router.hedge, want);
    assert_eq!(parts.router.group_hedges["a"], of_group);
    assert_eq!(parts.router.timeouts.total, Some(Duration::from_secs(90)));
    assert_eq!(clean(&params("")).router.hedge, hedge::Settings::default());
    for number in ["95", "0.95", "p95", "'P95'"] {
        let parts = clean(&settings("pillion", &format!("hedge: {{percentile: {number}}}")));
        assert_eq!(parts.router.hedge.after, hedge::After::Percentile(0.95), "{number}");
    }
}

#[test]
fn limits_of_waiting_are_fixed_learned_or_none() {
    let limits = |more: &str| {
        let timeouts =
            clean(&settings("pillion", &format!("timeouts: {{{more}}}"))).router.timeouts;
        (timeouts.ttft, timeouts.stall)
    };
    let seconds = |seconds| Limit::Fixed(Duration::from_secs(seconds));
    assert_eq!(limits(""), (Limit::Learned, Limit::Learned));
    assert_eq!(limits("ttft: 20s, stall: 1m"), (seconds(20), seconds(60)));
    assert_eq!(limits("ttft: 15, stall: learned"), (seconds(15), Limit::Learned));
    assert_eq!(limits("ttft: none, stall: 0"), (Limit::None, Limit::None));
}

#[test]
fn extra_tries_have_a_budget() {
    let retries = |more: &str| clean(&settings("pillion", more)).router.retries;
    assert_eq!(retries("retries: {}"), Income { share: 0.2, per_second: 10.0 });
    let own = retries("retries: {budget: 0.5, per_second: 1}");
    assert_eq!(own, Income { share: 0.5, per_second: 1.0 });
    let yaml = settings("pillion", "retries: {budget: 3}");
    told(&yaml, Severity::Error, Scope::File, "pillion.retries.budget", "0 to 1");
}

#[test]
fn recovery_of_streams_is_set_for_all_and_for_one_group() {
    let parts = clean(&settings(
        "pillion",
        "streams: {recovery: hold, hold_tokens: 8, hold_time: 200ms}, groups: {a: {streams: {hold_tokens: 4}}}",
    ));
    let of = |tokens| Some(Window { tokens, time: Duration::from_millis(200) });
    assert_eq!(parts.router.streams.held(), of(8));
    assert_eq!(parts.router.group_streams["a"].held(), of(4));
    let restart = clean(&settings("pillion", "streams: {recovery: restart}"));
    assert_eq!(restart.router.streams.recovery, Recovery::Restart);
    assert_eq!(restart.router.streams.held(), None);
    let goes_on = clean(&settings("pillion", "streams: {recovery: continue}"));
    assert_eq!(goes_on.router.streams.recovery, Recovery::Continue);
    assert_eq!(clean(&params("")).router.streams.held(), None);
    let error = |more: &str, path: &str, what: &str| {
        told(&settings("pillion", more), Severity::Error, Scope::File, path, what);
    };
    error("streams: {recovery: later}", "pillion.streams.recovery", Recovery::NAMES);
    error("streams: {recovery: off}", "pillion.streams.recovery", Recovery::NAMES);
    error("streams: {hold_tokens: 0}", "pillion.streams.hold_tokens", "1 to 1024");
    error("streams: {hold_time: 2m}", "pillion.streams.hold_time", "at most a minute");
    error("streams: {hold_time: 0}", "pillion.streams.hold_time", "at most a minute");
    error("groups: {a: {streams: {recovery: 3}}}", "pillion.groups.a.streams.recovery", "");
    let slip = settings("pillion", "streams: {hold_token: 1}");
    told(&slip, Severity::Error, Scope::Field, "pillion.streams.hold_token", "");
}

#[test]
fn wrong_settings_of_hedging_refuse_the_file() {
    let error = |more: &str, path: &str, what: &str| {
        told(&settings("pillion", more), Severity::Error, Scope::File, path, what);
    };
    // To YAML 1.1 `on` is a boolean, to YAML 1.2 a text.
    error("hedge: {mode: on}", "pillion.hedge.mode", "disabled, enabled, observe");
    error("hedge: {mode: true}", "pillion.hedge.mode", "disabled, enabled, observe");
    error("hedge: {percentile: 20}", "pillion.hedge.percentile", "p50 to p99.9");
    error("hedge: {budget: 5}", "pillion.hedge.budget", "0 to 1");
    error("hedge: {max_copies: 9}", "pillion.hedge.max_copies", "0, 1 or 2");
    error("hedge: {across: zone}", "pillion.hedge.across", "deployment, provider, region");
    error("hedge: {delay: 1s, percentile: 95}", "pillion.hedge.delay", "not after both");
    error("timeouts: {total: soon}", "pillion.timeouts.total", "duration");
    error("timeouts: {ttft: soon}", "pillion.timeouts.ttft", "duration");
    let nobody = settings("pillion", "groups: {nobody: {hedge: {mode: observe}}}");
    told(&nobody, Severity::Warning, Scope::File, "pillion.groups.nobody", "no model group");
}

#[test]
fn the_numbers_of_pillions_cooldown_reach_their_place() {
    let parts = clean(&settings(
        "pillion",
        "cooldown: {failures: 5, window: 10s, base: 500ms, max: 5m, jitter: 0, probes: 1, ramp: 0, credentials: 1h, rule: none}",
    ));
    let seconds = Duration::from_secs;
    let want = breaker::Settings {
        failures: 5,
        window: seconds(10),
        base: Duration::from_millis(500),
        max: seconds(300),
        jitter: 0.0,
        probes: 1,
        probes_at_once: 1,
        ramp: Duration::ZERO,
        credentials: seconds(3600),
    };
    assert_eq!((parts.router.breaker, parts.router.cooldown), (want, Some(Rule::None)));
    let longer = clean(&settings("pillion", "cooldown: {base: 2m}")).router.breaker;
    assert_eq!((longer.base, longer.max), (seconds(120), seconds(120)));
}

#[test]
fn a_cooldown_that_could_not_work_refuses_the_file() {
    for (more, field, what) in [
        ("failures: 0", "failures", "at least 1"),
        ("probes: 0", "probes", "at least 1"),
        ("base: 0s", "base", "more than zero"),
        ("window: 0", "window", "more than zero"),
        ("credentials: 2h", "credentials", "an hour at most"),
        ("ramp: 1d", "ramp", "an hour at most"),
        ("max: 1s", "max", "shorter than `base`"),
        ("jitter: 1", "jitter", "a share"),
        ("rule: litelm", "rule", "pillion, litellm or none"),
    ] {
        let yaml = settings("pillion", &format!("cooldown: {{{more}}}"));
        let path = format!("pillion.cooldown.{field}");
        told(&yaml, Severity::Error, Scope::File, &path, what);
    }
    let yaml = settings("pillion", "cooldown: {failure: 3}");
    let path = "pillion.cooldown.failure";
    told(&yaml, Severity::Error, Scope::Field, path, "did you mean `failures`?");
}

/// The rule of a group with these settings, parameters and `pillion.cooldown`.
#[track_caller]
fn check_rule(settings: &str, more: &str, own: &str, want: Rule) {
    let yaml = format!("{}\n{settings}\npillion: {{cooldown: {{{own}}}}}", params(more));
    let parts = compiled(&yaml).0;
    let table = RouteTable::build(parts.entries, parts.router);
    assert_eq!(table.groups()[0].cooldown, want, "{yaml}");
}

#[test]
fn a_field_of_litellms_cooldown_keeps_its_rule() {
    check_rule("", "", "", Rule::Pillion);
    check_rule("router_settings: {num_retries: 3, allowed_fails: null}", "", "", Rule::Pillion);
    for field in [
        "router_settings: {allowed_fails: 3}",
        "router_settings: {allowed_fails_policy: {TimeoutErrorAllowedFails: 1}}",
        "router_settings: {cooldown_time: 5}",
        "router_settings: {disable_cooldowns: false}",
        "litellm_settings: {allowed_fails: 3}",
        "litellm_settings: {cooldown_time: 5}",
    ] {
        check_rule(field, "", "", Rule::LiteLlm);
        check_rule(field, "", "rule: pillion", Rule::Pillion);
    }
    check_rule("", "cooldown_time: 5", "", Rule::LiteLlm);
    check_rule("", "cooldown_time: 5", "rule: pillion", Rule::Pillion);
    check_rule("", "", "rule: litellm", Rule::LiteLlm);
    let both = "router_settings: {cooldown_time: 5}\npillion: {cooldown: {failures: 5}}";
    let yaml = format!("{}\n{both}", params(""));
    let what = "`router_settings.cooldown_time` asks for LiteLLM's rule";
    told(&yaml, Severity::Warning, Scope::Field, "pillion.cooldown", what);
}

#[test]
fn one_deployment_with_a_field_of_litellms_cooldown_decides_for_its_group() {
    let entry = |group: &str, more: &str| {
        format!("{{model_name: {group}, litellm_params: {{model: openai/{group}{more}}}}}")
    };
    let entries =
        [entry("a", ""), entry("a", ", weight: 2, cooldown_time: 1"), entry("b", "")].join(", ");
    let parts = clean(&format!("model_list: [{entries}]"));
    let table = RouteTable::build(parts.entries, parts.router);
    let rules: Vec<_> = table.groups().iter().map(|group| group.cooldown).collect();
    assert_eq!(rules, [Rule::LiteLlm, Rule::Pillion]);
}

#[test]
fn a_credential_whose_variable_is_not_set_is_told() {
    let yaml = format!(
        "credential_list: [{{credential_name: c, credential_values: {{api_key: os.environ/NONE}}}}]\n{}",
        params("litellm_credential_name: c")
    );
    let path = "credential_list[0].credential_values.api_key";
    told(&yaml, Severity::Warning, Scope::Field, path, "NONE is not set");
}

#[test]
fn a_master_key_that_is_not_set_is_told() {
    let parts = clean(&settings("general_settings", "master_key: os.environ/KEY"));
    assert_eq!(parts.master_key.unwrap().reveal(), "sk-1");
    let yaml = settings("general_settings", "master_key: os.environ/NONE");
    told(&yaml, Severity::Warning, Scope::File, "general_settings.master_key", "NONE is not set");
    assert!(compiled(&yaml).0.master_key.is_none());
}

#[test]
fn a_setting_whose_variable_is_not_set_is_told() {
    let yaml = settings("router_settings", "timeout: os.environ/NONE");
    told(&yaml, Severity::Warning, Scope::Field, "router_settings.timeout", "NONE is not set");
}

#[test]
fn what_is_turned_off_is_told_only_where_that_asks_for_something() {
    clean(&settings("litellm_settings", "cache: false, callbacks: null, guardrails: []"));
    let yaml = settings("litellm_settings", "ssl_verify: false");
    told(&yaml, Severity::Warning, Scope::Field, "litellm_settings.ssl_verify", "not acted on");
    let yaml = settings("litellm_settings", "callbacks: prometheus");
    told(&yaml, Severity::Warning, Scope::Field, "litellm_settings.callbacks", "not acted on");
}

#[test]
fn no_message_quotes_the_value_of_a_variable() {
    for yaml in
        [params("rpm: os.environ/KEY"), settings("router_settings", "timeout: os.environ/KEY")]
    {
        let (_, problems) = compiled(&yaml);
        assert_eq!(problems.len(), 1);
        assert!(!problems[0].to_string().contains("sk-1"), "{problems:?}");
        assert!(problems[0].what.contains("KEY"), "{problems:?}");
    }
}

#[test]
fn all_problems_are_told_and_each_has_its_line() {
    let (_, problems) = compiled(
        "model_list:\n  - model_name: a\n    litellm_params:\n      model: openai/x\n      rpm: lots\nrouter_settings:\n  timeout: soon\n  num_retrys: 1\n",
    );
    let mut lines: Vec<_> = problems.iter().map(|problem| (problem.line, problem.column)).collect();
    lines.sort_unstable();
    assert_eq!(lines, [(5, 7), (7, 3), (8, 3)]);
}

#[test]
fn real_configurations_have_no_errors() {
    let shared = super::reference::process_environment("PILLION_SHARED")
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").to_owned());
    let Ok(folder) = std::fs::read_dir(format!("{shared}/configs")) else {
        println!("skipped: {shared}/configs is not there");
        return;
    };
    let files = folder.map(|file| file.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|it| it == "yaml")) {
        let (source, mut problems) = Source::read(&path);
        problems.extend(compile(&source, &|_| None, &build).1);
        let errors: Vec<_> =
            problems.iter().filter(|it| it.is_error()).map(ToString::to_string).collect();
        assert_eq!(errors, [""; 0], "{}", path.display());
    }
}

#[test]
fn a_bottomless_or_exploding_file_is_refused() {
    let mut exploding = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (n, below) in (0..12).enumerate() {
        let list = vec![format!("*a{below}"); 10].join(", ");
        exploding.extend([format!("a{}: &a{} [{list}]\n", n + 1, n + 1)]);
    }
    for text in ["[".repeat(5_000), "{a: ".repeat(5_000), "- ".repeat(5_000), exploding] {
        assert!(compiled(&text).1.iter().any(Problem::is_fatal), "{text:.20}");
    }
}

const SAMPLE: &str = r"
x-usual: &usual {api_key: os.environ/KEY, rpm: '10'}
model_list:
  - model_name: 'openai/*'
    litellm_params: {<<: *usual, model: 'openai/*', organization: [a, b]}
    model_info: {id: one}
router_settings:
  fallbacks: [{a: [b, {model: c, n: 1}]}]
  retry_policy: {DefaultRetries: 3}
  model_group_alias: {x: {model: y, hidden: true}}
general_settings: {master_key: '${K}', max_request_size_mb: 1.5}
pillion: {listen: ['127.0.0.1:1'], log: {level: info}}
";

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutilated_file_never_panics(
        cuts in prop::collection::vec((0..SAMPLE.len(), 0..12_usize, "[\\[\\]{}:,&*<!|>'\"# a-z0-9\\-\n\t]{0,4}"), 1..6)
    ) {
        let mut text = SAMPLE.as_bytes().to_vec();
        for (at, length, with) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, with.into_bytes());
        }
        let (_, problems) = compiled(&String::from_utf8_lossy(&text));
        for problem in problems {
            prop_assert!(!problem.to_string().is_empty());
        }
    }

    #[test]
    fn any_value_in_any_place_never_panics(
        place in 0..8_usize,
        value in prop_oneof![
            Just("null".to_owned()), Just("[]".to_owned()), Just("{}".to_owned()),
            Just("[[{a: null}]]".to_owned()), Just("-1".to_owned()), Just("1e308".to_owned()),
            Just("99999999999999999999".to_owned()), Just("''".to_owned()), Just(".nan".to_owned()),
            Just("{model: {a: 1}, hidden: [1]}".to_owned()), "[a-z/*]{1,8}".prop_map(|it| format!("'{it}'")),
        ],
    ) {
        let places = [
            "model_list: @", "model_list: [@]", "model_list: [{model_name: a, litellm_params: @}]",
            "model_list: [{model_name: @, litellm_params: {model: @, rpm: @, tpm: @, order: @, organization: @, extra_body: @, headers: @, tags: @, timeout: @}, model_info: @}]",
            "router_settings: {fallbacks: @, default_fallbacks: @, model_group_alias: @, retry_policy: @, timeout: @, routing_strategy: @, routing_strategy_args: @, provider_budget_config: @, optional_pre_call_checks: @}",
            "router_settings: {fallbacks: [@], model_group_alias: {a: @}, model_group_retry_policy: {a: @}, optional_pre_call_checks: [@], provider_budget_config: {openai: {budget_limit: @, time_period: @}}, routing_strategy: latency-based-routing, routing_strategy_args: {ttl: @, max_latency_list_size: @, ttft_percentile: @}}",
            "pillion: {listen: @, limits: @, log: {level: @, format: @}, shutdown: {drain_timeout: @}, cooldown: {base: @, max: @, failures: @, jitter: @, rule: @}}",
            "pillion: {hedge: {mode: @, percentile: @, delay: @, budget: @, max_copies: @, across: @, holdout: @, stream_upstream: @}, streams: {recovery: @, hold_tokens: @, hold_time: @}, groups: {a: {hedge: @, streams: @}, b: @}, timeouts: {total: @, ttft: @, stall: @}, routing: {strategy: @}}",
            "credential_list: @\nenvironment_variables: @\ngeneral_settings: {master_key: @, max_request_size_mb: @}\nlitellm_settings: @\ninclude: @",
        ];
        compiled(&places[place].replace('@', &value));
    }
}
