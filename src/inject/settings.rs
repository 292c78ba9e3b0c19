//! What the injector puts into pods where no annotation says otherwise: its settings file.
//!
//! The words are those of the chart's values. A key that nobody knows is refused, because whoever
//! writes it expects something of it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::field;

/// The settings of `pillion webhook` and `pillion inject`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// The sidecar's image, with its tag or digest.
    pub image: String,
    /// `Always`, `IfNotPresent` (the default) or `Never`.
    pub image_pull_policy: String,
    /// The configuration of all sidecars.
    pub config: Config,
    /// What is put into pods.
    pub sidecar: Sidecar,
    /// What sidecars tell each other.
    pub gossip: Gossip,
    /// Annotations that are refused unless they are named here: `image`, `json-patch`.
    pub allowed_annotations: Vec<String>,
    /// How much the webhook logs; `info` by default.
    pub log_level: String,
    /// The webhook's certificate.
    pub certs: Certs,
}

/// The `ConfigMap` with the configuration of all sidecars.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Its name in every namespace; `pillion-config` by default.
    pub name: String,
    /// Who brings it into other namespaces.
    pub distribution: Distribution,
}

/// Who brings the configuration into namespaces that are opted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Somebody else.
    None,
    /// The webhook; the default.
    Sync,
}

/// What is put into pods.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Sidecar {
    /// The container's name; `pillion` by default.
    pub container_name: String,
    /// Whether it is a native sidecar; `auto` by default.
    pub native: Native,
    /// Its ports.
    pub ports: Ports,
    /// Which variables applications get; all by default.
    pub app_env: AppEnv,
    /// The keys of providers.
    pub keys: Keys,
    /// Whether the application needs a key of its own.
    pub auth: Auth,
    /// `info` by default.
    pub log_level: String,
    /// How long it goes on after SIGTERM while the application is connected; 25 s by default.
    pub drain_seconds: u64,
    /// Requests and limits.
    pub resources: Map<String, Value>,
    /// User and group; 65532 by default, and null where the platform chooses.
    pub run_as_user: Option<u32>,
    /// Further variables.
    pub extra_env: Vec<Value>,
}

/// Whether the sidecar is an init container with `restartPolicy: Always`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Native {
    /// On every cluster.
    Always,
    /// From Kubernetes 1.33; the default.
    Auto,
    /// On none.
    Never,
}

/// The sidecar's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Ports {
    /// The LLM API, on loopback; 24080 by default.
    pub llm: u16,
    /// Probes and metrics, on the pod's addresses; 24081 by default.
    pub admin: u16,
    /// Gossip, on the pod's addresses; 24082 by default.
    pub gossip: u16,
}

/// Which variables applications get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppEnv {
    /// Those that the Anthropic SDK reads.
    pub anthropic: bool,
    /// Those that the `OpenAI` SDK reads.
    pub openai: bool,
}

/// The Secret with the keys of providers, one variable per key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Keys {
    /// `pillion-provider-keys` by default.
    pub secret_name: String,
}

/// Whether the application needs a key of its own.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Auth {
    /// `none` by default.
    pub mode: AuthMode,
    /// The Secret that holds it.
    pub secret_name: String,
    /// Its key in the Secret; `master-key` by default.
    pub secret_key: String,
}

/// Whether the application needs a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Whoever is in the pod may ask.
    None,
    /// It sends a key that both read from a Secret.
    Secret,
}

/// What sidecars tell each other; off by default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Gossip {
    /// Whether they do.
    pub enabled: bool,
    /// The Secret with their key, of the same name in each namespace.
    pub key_secret_name: String,
    /// The name of the fleet.
    pub cluster: String,
    /// The addresses they join by.
    pub seeds: Vec<String>,
}

/// The webhook's certificate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Certs {
    /// Where it comes from; `auto` by default.
    pub mode: CertMode,
    /// The Secret that it is kept in; `pillion-injector-tls` by default.
    pub secret_name: String,
    /// The Service that the API server calls; `pillion-injector` by default.
    pub service: String,
    /// The `MutatingWebhookConfiguration`; `pillion-injector` by default.
    pub webhook: String,
    /// Further names by which it is called, as where it is called by an address of its own.
    pub names: Vec<String>,
}

/// Where the webhook's certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum CertMode {
    /// The webhook makes and renews it, and keeps the caBundle right.
    #[serde(rename = "auto")]
    Auto,
    /// Files that cert-manager renews.
    #[serde(rename = "cert-manager")]
    CertManager,
    /// Files of somebody else's.
    #[serde(rename = "existing")]
    Existing,
}

impl Settings {
    /// Reads a settings file that has become plain values.
    ///
    /// Errs with what is wrong in one sentence.
    pub fn read(file: Value) -> Result<Self, String> {
        let file = if file.is_null() { json!({}) } else { file };
        let settings: Self = serde_json::from_value(file).map_err(|error| error.to_string())?;
        settings.checked()
    }

    fn checked(self) -> Result<Self, String> {
        let Ports { llm, admin, gossip } = self.sidecar.ports;
        if llm == admin || llm == gossip || admin == gossip {
            return Err("sidecar.ports: llm, admin and gossip must be three ports".to_owned());
        }
        if self.sidecar.auth.mode == AuthMode::Secret && self.sidecar.auth.secret_name.is_empty() {
            let what = "sidecar.auth.mode is `secret`: name the Secret in sidecar.auth.secretName";
            return Err(what.to_owned());
        }
        let named =
            |entry: &Value| field(entry, "/name").as_str().is_some_and(|name| !name.is_empty());
        if !self.sidecar.extra_env.iter().all(named) {
            return Err("sidecar.extraEnv: each variable needs a name".to_owned());
        }
        let known = |name: &String| matches!(&**name, "image" | "json-patch");
        if let Some(other) = self.allowed_annotations.iter().find(|name| !known(name)) {
            return Err(format!("allowedAnnotations: `{other}` is none of image, json-patch"));
        }
        Ok(self)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: concat!("pillion:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            config: Config::default(),
            sidecar: Sidecar::default(),
            gossip: Gossip::default(),
            allowed_annotations: Vec::new(),
            log_level: "info".to_owned(),
            certs: Certs::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { name: "pillion-config".to_owned(), distribution: Distribution::Sync }
    }
}

impl Default for Sidecar {
    fn default() -> Self {
        let resources = json!({
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "256Mi"},
        });
        Self {
            container_name: "pillion".to_owned(),
            native: Native::Auto,
            ports: Ports::default(),
            app_env: AppEnv::ALL,
            keys: Keys::default(),
            auth: Auth::default(),
            log_level: "info".to_owned(),
            drain_seconds: 25,
            resources: resources.as_object().cloned().unwrap_or_default(),
            run_as_user: Some(65532),
            extra_env: Vec::new(),
        }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self { llm: 24080, admin: 24081, gossip: 24082 }
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self { secret_name: "pillion-provider-keys".to_owned() }
    }
}

impl Default for Auth {
    fn default() -> Self {
        let secret_key = "master-key".to_owned();
        Self { mode: AuthMode::None, secret_name: String::new(), secret_key }
    }
}

impl Default for Certs {
    fn default() -> Self {
        Self {
            mode: CertMode::Auto,
            secret_name: "pillion-injector-tls".to_owned(),
            service: "pillion-injector".to_owned(),
            webhook: "pillion-injector".to_owned(),
            names: Vec::new(),
        }
    }
}

impl AppEnv {
    /// Everything there is.
    pub const ALL: Self = Self { anthropic: true, openai: true };

    /// Reads `all`, `none` or a comma-separated list.
    pub fn read(text: &str) -> Result<Self, String> {
        match text.trim() {
            "all" => return Ok(Self::ALL),
            "none" => return Ok(Self { anthropic: false, openai: false }),
            _ => {}
        }
        let mut read = Self { anthropic: false, openai: false };
        for word in text.split(',').map(str::trim) {
            match word {
                "anthropic" => read.anthropic = true,
                "openai" => read.openai = true,
                _ => return Err(format!("`{word}` is none of all, none, anthropic, openai")),
            }
        }
        Ok(read)
    }
}

impl<'de> Deserialize<'de> for AppEnv {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Several(Vec<String>),
            Word(String),
        }
        let text = match Written::deserialize(from)? {
            Written::Several(several) if several.is_empty() => "none".to_owned(),
            Written::Several(several) => several.join(","),
            Written::Word(word) => word,
        };
        Self::read(&text).map_err(|what| serde::de::Error::custom(format!("appEnv: {what}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_chart_are_read() {
        let file = json!({
            "image": "registry.example.com/pillion:1",
            "imagePullPolicy": "Always",
            "config": {"name": "c", "distribution": "none"},
            "sidecar": {
                "containerName": "llm", "native": "always",
                "ports": {"llm": 1, "admin": 2, "gossip": 3},
                "appEnv": ["openai"], "keys": {"secretName": "k"},
                "auth": {"mode": "secret", "secretName": "a", "secretKey": "b"},
                "logLevel": "debug", "drainSeconds": 5, "runAsUser": null,
                "resources": {"requests": {"cpu": "1"}},
                "extraEnv": [{"name": "A", "value": "b"}],
            },
            "gossip": {"enabled": true, "keySecretName": "g", "cluster": "x", "seeds": ["s:1"]},
            "allowedAnnotations": ["image"],
            "logLevel": "warn",
            "certs": {"mode": "cert-manager", "secretName": "t", "service": "s", "webhook": "w"},
        });
        let settings = Settings::read(file).unwrap();
        assert_eq!(settings.sidecar.app_env, AppEnv { anthropic: false, openai: true });
        assert_eq!((settings.sidecar.run_as_user, settings.sidecar.native), (None, Native::Always));
        assert_eq!(settings.certs.mode, CertMode::CertManager);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(Settings::read(Value::Null).unwrap(), Settings::default());
        assert_eq!(Settings::read(json!({"sidecar": {}})).unwrap(), Settings::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_reason() {
        for (file, says) in [
            (json!({"imagePullPolice": "x"}), "unknown field `imagePullPolice`"),
            (json!({"sidecar": {"native": "maybe"}}), "unknown variant `maybe`"),
            (json!({"sidecar": {"appEnv": "gemini"}}), "`gemini` is none of"),
            (json!({"sidecar": {"ports": {"llm": 24081}}}), "three ports"),
            (json!({"sidecar": {"auth": {"mode": "secret"}}}), "secretName"),
            (json!({"sidecar": {"extraEnv": [{"value": "x"}]}}), "needs a name"),
            (json!({"allowedAnnotations": ["cpu-limit"]}), "`cpu-limit` is none of"),
        ] {
            let said = Settings::read(file).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }
}
