//! What a pod and its namespace ask for: annotations, read once and checked.
//!
//! The pod's own annotation wins over its namespace's, and both over the settings. An annotation
//! that is a slip for a known one is refused like a wrong value: a typo must not let a pod run in
//! another way than its owner thinks.

use serde_json::{Map, Value};

use super::refused::Refused;
use super::settings::{AppEnv, AuthMode, Native, Ports, Settings};

/// What all our labels and annotations begin with.
pub const PREFIX: &str = "pillion.dev/";

/// The annotations that can be asked with, below [`PREFIX`], and what each says.
pub const ANNOTATIONS: [(&str, &str); 22] = [
    ("admin-port", "port of probes and metrics"),
    ("auth-secret", "Secret with the key that the application sends"),
    ("config", "ConfigMap with the configuration"),
    ("config-overlay", "ConfigMap with the namespace's own additions"),
    ("containers", "which containers get the variables; all but known sidecars by default"),
    ("cpu-limit", "CPU limit of the sidecar; none by default"),
    ("cpu-request", "CPU request of the sidecar"),
    (
        "drain-seconds",
        "how long the sidecar goes on after SIGTERM while the application is connected",
    ),
    ("env", "which variables applications get: all, none, openai, anthropic"),
    ("gossip-port", "port of gossip"),
    ("image", "image of the sidecar; only where the settings allow it"),
    ("job-mode", "`quit`: a plain container in a Job ends by POST /quitquitquit"),
    ("json-patch", "RFC 6902 patch of the sidecar; only where the settings allow it"),
    ("keys-secret", "Secret with the keys of providers"),
    ("llm-port", "port of the LLM API, on loopback"),
    ("log-level", "error, warn, info, debug or trace"),
    ("memory-limit", "memory limit of the sidecar"),
    ("memory-request", "memory request of the sidecar"),
    ("native", "auto, always or never a native sidecar"),
    ("override-env", "\"true\": variables that are set already are set anew"),
    ("profile", "key of the ConfigMap, without .yaml; `config` by default"),
    ("status", "written by the injector: what it did"),
];

/// What was asked for, with the settings below it.
#[derive(Debug, Clone)]
pub(super) struct Wishes {
    pub(super) config: String,
    pub(super) overlay: String,
    pub(super) profile: String,
    pub(super) keys_secret: String,
    /// The Secret with the application's key, if it needs one.
    pub(super) auth_secret: Option<String>,
    /// The containers that get the variables; `None` is all but known sidecars.
    pub(super) containers: Option<Vec<String>>,
    pub(super) env: AppEnv,
    pub(super) override_env: bool,
    pub(super) native: Native,
    pub(super) log_level: String,
    pub(super) resources: Value,
    pub(super) ports: Ports,
    pub(super) drain_seconds: u64,
    pub(super) job_may_quit: bool,
    pub(super) image: String,
    pub(super) patch: Option<json_patch::Patch>,
    /// Annotations that nobody knows.
    pub(super) unknown: Vec<String>,
}

/// Reads what a pod and its namespace say.
pub(super) fn read(
    pod: Option<&Map<String, Value>>,
    namespace: &Map<String, Value>,
    settings: &Settings,
) -> Result<Wishes, Refused> {
    let asked = Asked { pod, namespace };
    let unknown = asked.unknown()?;
    for name in ["image", "json-patch"] {
        let is_allowed = settings.allowed_annotations.iter().any(|allowed| allowed == name);
        if asked.text(name)?.is_some() && !is_allowed {
            return Err(Refused::NotAllowed { annotation: name });
        }
    }
    let sidecar = &settings.sidecar;
    let auth = (sidecar.auth.mode == AuthMode::Secret).then(|| sidecar.auth.secret_name.clone());
    Ok(Wishes {
        config: asked.object_name("config")?.unwrap_or_else(|| settings.config.name.clone()),
        overlay: asked.object_name("config-overlay")?.unwrap_or_else(|| OVERLAY.to_owned()),
        profile: asked.parsed("profile", profile)?.unwrap_or_else(|| "config".to_owned()),
        keys_secret: asked
            .object_name("keys-secret")?
            .unwrap_or_else(|| sidecar.keys.secret_name.clone()),
        auth_secret: asked.object_name("auth-secret")?.or(auth),
        containers: asked.parsed("containers", containers)?,
        env: asked.parsed("env", AppEnv::read)?.unwrap_or(sidecar.app_env),
        override_env: asked.parsed("override-env", truth)?.unwrap_or(false),
        native: asked.parsed("native", native)?.unwrap_or(sidecar.native),
        log_level: asked.parsed("log-level", level)?.unwrap_or_else(|| sidecar.log_level.clone()),
        resources: asked.resources(&sidecar.resources)?,
        ports: asked.ports(sidecar.ports)?,
        drain_seconds: asked.parsed("drain-seconds", seconds)?.unwrap_or(sidecar.drain_seconds),
        job_may_quit: asked.parsed("job-mode", quit)?.unwrap_or(false),
        image: asked.parsed("image", filled)?.unwrap_or_else(|| settings.image.clone()),
        patch: asked.parsed("json-patch", patch)?,
        unknown,
    })
}

/// The overlay's name where nobody says another.
const OVERLAY: &str = "pillion-config-local";

/// The annotations of a pod over those of its namespace.
struct Asked<'a> {
    pod: Option<&'a Map<String, Value>>,
    namespace: &'a Map<String, Value>,
}

impl Asked<'_> {
    fn text(&self, name: &str) -> Result<Option<(&str, bool)>, Refused> {
        let key = format!("{PREFIX}{name}");
        let own = self.pod.and_then(|pod| pod.get(&key));
        let Some(value) = own.or_else(|| self.namespace.get(&key)) else { return Ok(None) };
        let of_namespace = own.is_none();
        let Some(text) = value.as_str() else {
            let what = "annotations are texts: put it into quotes".to_owned();
            return Err(Refused::bad(name, &value.to_string(), of_namespace, what));
        };
        Ok(Some((text, of_namespace)))
    }

    fn parsed<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Refused> {
        let Some((text, of_namespace)) = self.text(name)? else { return Ok(None) };
        read(text).map(Some).map_err(|what| Refused::bad(name, text, of_namespace, what))
    }

    fn object_name(&self, name: &str) -> Result<Option<String>, Refused> {
        self.parsed(name, object_name)
    }

    fn ports(&self, default: Ports) -> Result<Ports, Refused> {
        let ports = Ports {
            llm: self.parsed("llm-port", port)?.unwrap_or(default.llm),
            admin: self.parsed("admin-port", port)?.unwrap_or(default.admin),
            gossip: self.parsed("gossip-port", port)?.unwrap_or(default.gossip),
        };
        let pairs = [
            ("admin-port", ports.admin, "LLM API's", ports.llm),
            ("gossip-port", ports.gossip, "LLM API's", ports.llm),
            ("gossip-port", ports.gossip, "admin", ports.admin),
        ];
        for (name, port, other, taken) in pairs {
            if port == taken {
                let what = format!("it is the {other} port as well");
                return Err(Refused::bad(name, &port.to_string(), false, what));
            }
        }
        Ok(ports)
    }

    /// The settings' requests and limits with what is asked over them.
    fn resources(&self, default: &Map<String, Value>) -> Result<Value, Refused> {
        let mut resources = default.clone();
        for (name, part, resource) in [
            ("cpu-request", "requests", "cpu"),
            ("memory-request", "requests", "memory"),
            ("cpu-limit", "limits", "cpu"),
            ("memory-limit", "limits", "memory"),
        ] {
            let Some(asked) = self.parsed(name, quantity)? else { continue };
            let part = resources.entry(part).or_insert_with(|| Value::Object(Map::new()));
            if let Some(part) = part.as_object_mut() {
                part.insert(resource.to_owned(), asked.into());
            }
        }
        Ok(Value::Object(resources))
    }

    /// Annotations of ours that nobody knows. One that is a slip for a known one is refused.
    fn unknown(&self) -> Result<Vec<String>, Refused> {
        let mut unknown = Vec::new();
        let of_pod = self.pod.into_iter().flatten().map(|(key, _)| (key, false));
        let all = of_pod.chain(self.namespace.keys().map(|key| (key, true)));
        for (key, of_namespace) in all {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            if ANNOTATIONS.iter().any(|(known, _)| *known == name) {
                continue;
            }
            if name == "inject" || name == "injected" {
                return Err(Refused::IsALabel { name: key.clone() });
            }
            match nearest(name, ANNOTATIONS.iter().map(|(known, _)| *known)) {
                Some(known) => {
                    let (name, nearest) = (key.clone(), format!("{PREFIX}{known}"));
                    return Err(Refused::Slip { name, nearest, of_namespace });
                }
                None => unknown.push(key.clone()),
            }
        }
        Ok(unknown)
    }
}

/// The known name that is a slip away, if there is one.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let far = 1 + name.chars().count() / 5;
    let distances = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    distances.filter(|(distance, _)| *distance <= far).min().map(|(_, known)| known)
}

fn filled(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(text.trim().to_owned()) }
}

fn object_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.len() <= 253 && text.chars().all(fits) && text.starts_with(ends) && text.ends_with(ends)
    {
        Ok(text.to_owned())
    } else {
        Err("it is no name of an object: lower-case letters, digits, `-` and `.`".to_owned())
    }
}

fn profile(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.len() <= 200 && text.chars().all(fits) {
        Ok(text.trim_end_matches(".yaml").to_owned())
    } else {
        Err("it is no key of a ConfigMap: letters, digits, `-`, `_` and `.`".to_owned())
    }
}

fn containers(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err("it is no list of names such as `app,worker`".to_owned());
    }
    Ok(names)
}

fn truth(text: &str) -> Result<bool, String> {
    one_of(text, [("false", false), ("true", true)])
}

fn native(text: &str) -> Result<Native, String> {
    one_of(text, [("always", Native::Always), ("auto", Native::Auto), ("never", Native::Never)])
}

fn quit(text: &str) -> Result<bool, String> {
    one_of(text, [("quit", true)])
}

fn level(text: &str) -> Result<String, String> {
    let words = ["error", "warn", "info", "debug", "trace"];
    one_of(text, words.map(|word| (word, word.to_owned())))
}

fn one_of<T, const N: usize>(text: &str, words: [(&str, T); N]) -> Result<T, String> {
    let known = words.each_ref().map(|(word, _)| *word);
    let found = words.into_iter().find(|(word, _)| *word == text).map(|(_, value)| value);
    found.ok_or_else(|| match nearest(text, known.into_iter()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("it is none of {}", known.join(", ")),
    })
}

fn seconds(text: &str) -> Result<u64, String> {
    let read = text.parse().ok().filter(|seconds| *seconds <= 86_400);
    read.ok_or_else(|| "it is no number of seconds from 0 to 86400".to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    let read = text.parse().ok().filter(|port| *port >= 1024);
    read.ok_or_else(|| "it is no port from 1024 to 65535".to_owned())
}

fn quantity(text: &str) -> Result<String, String> {
    const SUFFIXES: [&str; 15] =
        ["", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "u"];
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = text.get(number.len()..).unwrap_or_default();
    let is_number = number.parse::<f64>().is_ok_and(|value| value >= 0.0)
        && number.chars().all(|c| c.is_ascii_digit() || c == '.')
        && number.chars().any(|c| c.is_ascii_digit());
    if is_number && SUFFIXES.contains(&suffix) {
        Ok(text.to_owned())
    } else {
        Err("it is no quantity such as 100m, 0.5 or 64Mi".to_owned())
    }
}

fn patch(text: &str) -> Result<json_patch::Patch, String> {
    serde_json::from_str(text).map_err(|error| format!("it is no JSON patch (RFC 6902): {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(pod: &Value, namespace: &Value) -> Result<Wishes, Refused> {
        let settings =
            Settings { allowed_annotations: vec!["json-patch".to_owned()], ..Settings::default() };
        read(pod.as_object(), namespace.as_object().unwrap(), &settings)
    }

    #[test]
    fn the_pod_wins_over_its_namespace_and_that_over_the_settings() {
        let namespace = json!({"pillion.dev/log-level": "debug", "pillion.dev/cpu-request": "1"});
        let wishes = asked(&json!({"pillion.dev/log-level": "warn"}), &namespace).unwrap();
        assert_eq!((&*wishes.log_level, &*wishes.config), ("warn", "pillion-config"));
        let want = json!({
            "requests": {"cpu": "1", "memory": "32Mi"}, "limits": {"memory": "256Mi"},
        });
        assert_eq!(wishes.resources, want);
    }

    #[track_caller]
    fn check(name: &str, value: &str, says: &str) {
        let pod = json!({format!("{PREFIX}{name}"): value});
        match asked(&pod, &json!({})) {
            Ok(_) => panic!("{name}: {value} was taken"),
            Err(refused) => {
                let said = refused.to_string();
                assert!(said.contains(says) && said.contains(name), "{said}");
            }
        }
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_reason() {
        check("native", "allways", "did you mean `always`?");
        check("native", "perhaps", "none of always, auto, never");
        check("log-level", "inf", "did you mean `info`?");
        check("cpu-request", "fast", "no quantity");
        check("memory-limit", "64Mb", "no quantity");
        check("memory-limit", "", "no quantity");
        check("llm-port", "80", "no port from 1024");
        check("admin-port", "24080", "LLM API's port as well");
        check("drain-seconds", "5s", "no number of seconds");
        check("override-env", "True", "did you mean `true`?");
        check("env", "openai,gemini", "`gemini` is none of");
        check("containers", "a,,b", "list of names");
        check("config", "My_Config", "no name of an object");
        check("json-patch", "[{]", "no JSON patch");
        check("job-mode", "end", "none of quit");
        check("image", "x:1", "allowedAnnotations");
    }

    #[test]
    fn a_slip_is_refused_and_a_strange_name_is_told() {
        check("cpu-requests", "1", "pillion.dev/cpu-request");
        check("inject", "true", "label");
        let wishes = asked(&json!({"pillion.dev/team-colour": "red"}), &json!({})).unwrap();
        assert_eq!(wishes.unknown, ["pillion.dev/team-colour"]);
        let said = asked(&json!({}), &json!({"pillion.dev/log-levle": "x"})).unwrap_err();
        assert!(said.to_string().contains("namespace"), "{said}");
    }

    #[test]
    fn a_list_and_a_patch_are_read() {
        let wishes = asked(
            &json!({"pillion.dev/containers": "a, b", "pillion.dev/json-patch": "[]"}),
            &json!({}),
        );
        assert_eq!(wishes.unwrap().containers.unwrap(), ["a", "b"]);
        let said = asked(&json!({"pillion.dev/llm-port": 5}), &json!({})).unwrap_err();
        assert!(said.to_string().contains("quotes"), "{said}");
    }
}
