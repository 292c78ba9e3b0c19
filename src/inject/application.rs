//! What the application's containers get: where the gateway is, and no key.
//!
//! A variable that is there already is never touched unless it is asked for, and none is ever
//! there twice. Where the application goes through a forward proxy, loopback must not.

use serde_json::{Value, json};

use super::edit::Edit;
use super::field;
use super::pod;
use super::settings::Settings;
use super::status::Status;
use super::wishes::Wishes;

/// What SDKs want to see in place of a key; distinctive, so that a provider's refusal of it says
/// that a call went round the sidecar.
const PLACEHOLDER: &str = "pillion";

/// The variables for applications.
pub(super) fn variables(settings: &Settings, wishes: &Wishes) -> Vec<Value> {
    let base = format!("http://127.0.0.1:{}", wishes.ports.llm);
    let key = |name: &str| match &wishes.auth_secret {
        Some(secret) => {
            let key = &settings.sidecar.auth.secret_key;
            json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
        }
        None => json!({"name": name, "value": PLACEHOLDER}),
    };
    let mut variables = Vec::new();
    if wishes.env.openai {
        let base = format!("{base}/v1");
        variables.push(json!({"name": "OPENAI_BASE_URL", "value": base}));
        variables.push(json!({"name": "OPENAI_API_BASE", "value": base}));
        variables.push(key("OPENAI_API_KEY"));
    }
    if wishes.env.anthropic {
        variables.push(json!({"name": "ANTHROPIC_BASE_URL", "value": base}));
        variables.push(key("ANTHROPIC_API_KEY"));
    }
    variables
}

/// A container of the pod: the list it is in, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) list: &'static str,
    pub(super) at: usize,
}

impl Place {
    pub(super) fn container(self, pod: &Value) -> &Value {
        pod::list(pod, self.list).get(self.at).unwrap_or(&Value::Null)
    }
}

/// Gives one container its variables; tells what it did in `status` and what it could not.
pub(super) fn equip(
    edit: &mut Edit,
    place: Place,
    variables: &[Value],
    wishes: &Wishes,
    status: &mut Status,
) -> Option<String> {
    let at = place.at.to_string();
    let path = ["spec", place.list, &at, "env"];
    let container = pod::name(place.container(edit.pod())).to_owned();
    for variable in variables {
        let there = entry(place.container(edit.pod()), pod::name(variable));
        match there.map(|(at, value)| (at, value.clone())) {
            None => {
                edit.push(&path, variable.clone());
                status.added(&container, pod::name(variable));
            }
            Some((at, value)) if wishes.override_env && value != *variable => {
                edit.replace(&[&path[..], &[&at.to_string()]].concat(), variable.clone());
                status.replaced(&container, value);
            }
            Some(_) => {}
        }
    }
    if variables.is_empty() { None } else { spare_loopback(edit, place, &container, status) }
}

/// The entry of a name and its position.
pub(super) fn entry<'a>(container: &'a Value, name: &str) -> Option<(usize, &'a Value)> {
    let env = field(container, "/env").as_array()?;
    env.iter().enumerate().find(|(_, entry)| field(entry, "/name") == name)
}

/// Pairs of variables: a forward proxy, and what does not go through it.
const PROXIES: [(&str, &str); 6] = [
    ("HTTP_PROXY", "NO_PROXY"),
    ("http_proxy", "no_proxy"),
    ("HTTPS_PROXY", "NO_PROXY"),
    ("https_proxy", "no_proxy"),
    ("ALL_PROXY", "NO_PROXY"),
    ("all_proxy", "no_proxy"),
];

/// What means this very pod.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// Where calls go through a forward proxy, those on loopback must not.
fn spare_loopback(
    edit: &mut Edit,
    place: Place,
    name: &str,
    status: &mut Status,
) -> Option<String> {
    let at = place.at.to_string();
    let path = ["spec", place.list, &at, "env"];
    let mut told = None;
    for (proxy, spared) in PROXIES {
        if entry(place.container(edit.pod()), proxy).is_none() {
            continue;
        }
        let there = entry(place.container(edit.pod()), spared);
        match there.map(|(at, value)| (at, value.clone())) {
            None => {
                edit.push(&path, json!({"name": spared, "value": LOOPBACK.join(",")}));
                status.added(name, spared);
            }
            Some((at, value)) => match field(&value, "/value").as_str().map(with_loopback) {
                Some(Some(longer)) => {
                    let longer = json!({"name": spared, "value": longer});
                    edit.replace(&[&path[..], &[&at.to_string()]].concat(), longer);
                    status.replaced(name, value);
                }
                Some(None) => {}
                None => {
                    told = Some(format!(
                        "container `{name}` has {proxy}, and its {spared} cannot be read here: it must \
                         name 127.0.0.1, else calls to Pillion go to that proxy"
                    ));
                }
            },
        }
    }
    told
}

/// The list with loopback at its end; `None` where it is in it already.
pub(super) fn with_loopback(list: &str) -> Option<String> {
    let names: Vec<_> = list.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    if names.contains(&"*") {
        return None;
    }
    let missing: Vec<_> = LOOPBACK.into_iter().filter(|name| !names.contains(name)).collect();
    // Anything that spares 127.0.0.1 is enough, for that is the address that is given out.
    if !missing.contains(&"127.0.0.1") {
        return None;
    }
    let separator = if names.is_empty() || list.trim_end().ends_with(',') { "" } else { "," };
    Some(format!("{}{separator}{}", list.trim_end(), missing.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_spared_once() {
        for (list, want) in [
            ("", Some("127.0.0.1,localhost,::1")),
            ("a.example", Some("a.example,127.0.0.1,localhost,::1")),
            ("a, localhost,", Some("a, localhost,127.0.0.1,::1")),
            ("127.0.0.1", None),
            ("*", None),
        ] {
            let longer = with_loopback(list);
            assert_eq!(longer.as_deref(), want, "{list}");
            assert!(longer.is_none_or(|longer| with_loopback(&longer).is_none()));
        }
    }
}
