//! What to say about fields that Pillion does not act on, or that nobody knows.
//!
//! A field that nobody knows is an error where it is close to a known one: LiteLLM would ignore
//! it in silence, and the writer meant something else. Close to nothing it is a warning, since
//! LiteLLM ignores it too and the file works there. Either way the rest of the file is served.

use serde_json::Value;

use super::cursor::Cursor;
use super::known::{self, Section, Standing};
use super::problem::Scope;

/// The sections whose fields people write under one another's names.
const SETTINGS: [(&str, &Section); 3] = [
    ("litellm_settings", &known::LITELLM),
    ("general_settings", &known::GENERAL),
    ("router_settings", &known::ROUTER),
];

/// Tells about every field of a section of settings.
pub(super) fn check(section: &Cursor<'_>, table: &Section) {
    for (name, field) in section.fields() {
        let field = field.with_scope(Scope::Field);
        match table.standing(name) {
            Some(Standing::Acted | Standing::Body) => absent_here(name, &field),
            Some(standing) => known_but(name, &field, standing),
            None => unknown(name, &field, table),
        }
    }
}

/// Tells about every field whose variable is not set.
pub(super) fn check_variables(section: &Cursor<'_>) {
    for (name, field) in section.fields() {
        absent_here(name, &field.with_scope(Scope::Field));
    }
}

/// Tells about a field whose variable is not set.
pub(super) fn absent_here(name: &str, field: &Cursor<'_>) {
    // Without a master key nobody is asked for one: `settings` says so in words of its own.
    if let Some(variable) = field.missing_variable().filter(|_| name != "master_key") {
        let what = format!("the variable {variable} is not set: no `{name}`");
        field.warn(what, Some(format!("set {variable}")));
    }
}

/// Fields that are on unless they are turned off, so that `false` asks for something.
const ON_BY_DEFAULT: [&str; 7] = [
    "enforce_fallback_model_access",
    "expose_router_debug_in_errors",
    "fallback_on_unsupported_params",
    "health_check_details",
    "require_auth_for_metrics_endpoint",
    "ssl_verify",
    "user_url_validation",
];

/// Tells about a field that LiteLLM knows and Pillion does not act on.
pub(super) fn known_but(name: &str, field: &Cursor<'_>, standing: Standing) {
    let asks_nothing = match field.value {
        Value::Null => true,
        Value::Bool(on) => !on && !ON_BY_DEFAULT.contains(&name),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) | Value::String(_) => false,
    };
    if asks_nothing {
        return;
    }
    match standing {
        Standing::Known => {
            field.warn(format!("LiteLLM's `{name}` is not acted on by Pillion yet"), None);
        }
        Standing::Inert => field.warn(format!("`{name}` has no effect in Pillion"), None),
        Standing::Acted | Standing::Body => {}
    }
}

fn unknown(name: &str, field: &Cursor<'_>, table: &Section) {
    let elsewhere = SETTINGS.iter().find(|(section, other)| {
        !field.path.starts_with(section) && other.standing(name).is_some()
    });
    if let Some((section, _)) = elsewhere {
        let hint = format!("move it to `{section}`");
        field.warn(format!("`{name}` is not read here"), Some(hint));
    } else if let Some(near) = table.nearest(name) {
        field.error(format!("nobody knows `{name}`"), Some(format!("did you mean `{near}`?")));
    } else if field.path.starts_with("pillion.") {
        field.error(format!("nobody knows `{name}`"), None);
    } else {
        field.warn(format!("nobody knows `{name}`; LiteLLM ignores it too"), None);
    }
}

/// Tells about the sections themselves.
pub(super) fn check_top(name: &str, section: &Cursor<'_>) {
    match known::TOP.standing(name) {
        Some(Standing::Acted | Standing::Body) => {}
        Some(standing) => known_but(name, section, standing),
        // Compose's way to hold anchors, and some take it over.
        None if name.starts_with("x-") || name.starts_with('.') => {}
        None => unknown(name, section, &known::TOP),
    }
}
