//! Who writes on behind the beginning of an answer, and how each is asked to.
//!
//! A text completion goes on behind whatever stands in its prompt. Of chats only what is known is
//! here: a provider that does not know of prefills answers the beginning as if somebody had said it,
//! and newer models of Anthropic refuse it.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Deployment;
use crate::protocol::{Endpoint, Rope};
use crate::registry;

/// How a provider is asked to write on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As it is, where the model is known to take it.
    ByModel,
    /// With two fields of vLLM's at the top.
    Fields,
    /// With `prefix: true` in the message.
    Prefix,
    /// In the prompt of a text completion; in all others the last message is the assistant's.
    Prompt,
}

/// By prefix of the provider.
const WAYS: [(&str, Way); 4] = [
    ("anthropic", Way::ByModel),
    ("deepseek", Way::Prefix),
    ("hosted_vllm", Way::Fields),
    ("mistral", Way::Prefix),
];

/// What the configuration may add to a call that makes of its answer more than text.
const HINDERS: [&str; 14] = [
    "best_of",
    "echo",
    "min_tokens",
    "n",
    "prompt_logprobs",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "stop_sequences",
    "suffix",
    "thinking",
    "tools",
    "logprobs",
];

/// The beginning of an answer that is to be written on.
#[derive(Debug)]
pub struct Prefill {
    /// Its text.
    pub text: String,
    /// How many tokens of the answer are used up.
    pub spent: u64,
}

impl Deployment {
    /// Whether `model`, as the provider calls it, is known to write on at an endpoint.
    pub fn takes_prefill(&self, endpoint: Endpoint, model: &str) -> bool {
        let can = match self.way(endpoint) {
            None => false,
            Some(Way::ByModel) => {
                registry::lookup(self.vendor.prefix, model).is_some_and(|model| model.can('f'))
            }
            // Elsewhere DeepSeek does not know the field.
            Some(Way::Prefix) if self.vendor.prefix == "deepseek" => {
                self.base.path().trim_end_matches('/').ends_with("/beta")
            }
            Some(Way::Prompt) => self.adapter.serves(self.vendor, endpoint),
            Some(Way::Fields | Way::Prefix) => true,
        };
        let adds = |name: &&str| self.defaults.iter().any(|(own, _)| **own == **name);
        can && self.mock.is_none() && !HINDERS.iter().any(adds)
    }

    fn way(&self, endpoint: Endpoint) -> Option<Way> {
        if endpoint == Endpoint::Completions {
            return Some(Way::Prompt);
        }
        let found = WAYS.iter().find(|(prefix, _)| *prefix == self.vendor.prefix);
        found.map(|(_, way)| *way)
    }

    /// A body in the provider's own words that asks to write on; `None` where it cannot.
    pub fn with_prefill(&self, endpoint: Endpoint, body: &Rope, prefill: &Prefill) -> Option<Rope> {
        let way = self.way(endpoint)?;
        let mut body: Map<String, Value> = serde_json::from_slice(&body.to_bytes()).ok()?;
        let mut is_bounded = false;
        for name in ["max_tokens", "max_completion_tokens"] {
            if let Some(most) = body.get(name).and_then(Value::as_u64) {
                let left = most.checked_sub(prefill.spent).filter(|left| *left > 0)?;
                body.insert(name.to_owned(), left.into());
                is_bounded = true;
            }
        }
        let mut message = json!({ "role": "assistant", "content": prefill.text });
        match way {
            // Text completions end by default after so few tokens that it would show.
            Way::Prompt if !is_bounded => return None,
            Way::Prompt => {
                let prompt = body.get("prompt")?.as_str()?;
                let longer = [prompt, &prefill.text].concat();
                body.insert("prompt".to_owned(), longer.into());
                return Some(Rope::from(Bytes::from(Value::Object(body).to_string())));
            }
            Way::ByModel => {}
            Way::Fields => {
                body.insert("add_generation_prompt".to_owned(), false.into());
                body.insert("continue_final_message".to_owned(), true.into());
            }
            Way::Prefix => {
                message.as_object_mut()?.insert("prefix".to_owned(), true.into());
            }
        }
        body.get_mut("messages")?.as_array_mut()?.push(message);
        Some(Rope::from(Bytes::from(Value::Object(body).to_string())))
    }
}

#[cfg(test)]
mod tests {
    use crate::provider::build;
    use crate::provider::fixture::spec;

    use super::*;
    use crate::provider::Spec;

    #[track_caller]
    fn check(name: &str, base: Option<&str>, want: Option<&str>) {
        let spec = Spec { api_base: base.map(Into::into), ..spec(name) };
        let deployment = build(spec, &|_| None).unwrap();
        let (_, model) = name.split_once('/').unwrap();
        let chat = Endpoint::ChatCompletions;
        assert_eq!(deployment.takes_prefill(chat, model), want.is_some(), "{name}");
        let Some(want) = want else { return };
        let body = Rope::from(Bytes::from_static(b"{\"messages\":[],\"max_tokens\":9}"));
        let prefill = Prefill { text: "so".to_owned(), spent: 4 };
        let said = deployment.with_prefill(chat, &body, &prefill).unwrap().to_bytes();
        assert_eq!(std::str::from_utf8(&said).unwrap(), want);
        let spent = Prefill { spent: 9, ..prefill };
        assert!(deployment.with_prefill(chat, &body, &spent).is_none(), "nothing is left to say");
    }

    #[test]
    fn each_provider_is_asked_in_its_own_way() {
        let plain = r#"{"messages":[{"role":"assistant","content":"so"}],"max_tokens":5}"#;
        let prefix =
            r#"{"messages":[{"role":"assistant","content":"so","prefix":true}],"max_tokens":5}"#;
        let fields = r#"{"messages":[{"role":"assistant","content":"so"}],"max_tokens":5,"add_generation_prompt":false,"continue_final_message":true}"#;
        check("anthropic/claude-sonnet-4-5", None, Some(plain));
        check("anthropic/claude-sonnet-4-6", None, None);
        check("anthropic/claude-opus-4-6", None, None);
        check("anthropic/nobody-knows", None, None);
        check("mistral/mistral-large-latest", None, Some(prefix));
        check("deepseek/deepseek-chat", None, Some(prefix));
        check("deepseek/deepseek-chat", Some("https://api.deepseek.com/v1"), None);
        check("hosted_vllm/qwen", Some("http://vllm:8000/v1"), Some(fields));
        check("openai/gpt-4o", None, None);
    }

    #[test]
    fn a_text_completion_goes_on_behind_its_prompt() {
        let built = |name: &str| build(spec(name), &|_| None).unwrap();
        let texts = Endpoint::Completions;
        let (openai, anthropic) = (built("openai/m"), built("anthropic/claude-sonnet-4-5"));
        assert!(openai.takes_prefill(texts, "m"));
        assert!(!anthropic.takes_prefill(texts, "claude-sonnet-4-5"));
        let echoing = Spec { defaults: vec![("echo".into(), "true".into())], ..spec("openai/m") };
        assert!(!build(echoing, &|_| None).unwrap().takes_prefill(texts, "m"));
        let ask = |body: &'static str| {
            let body = Rope::from(Bytes::from_static(body.as_bytes()));
            let prefill = Prefill { text: "so".to_owned(), spent: 4 };
            let said = openai.with_prefill(texts, &body, &prefill)?;
            Some(String::from_utf8(said.to_bytes().to_vec()).unwrap())
        };
        let want = r#"{"prompt":"is it so","max_tokens":5}"#;
        assert_eq!(ask(r#"{"prompt":"is it ","max_tokens":9}"#).as_deref(), Some(want));
        assert_eq!(ask(r#"{"prompt":"is it "}"#), None, "its bound would count anew");
        assert_eq!(ask(r#"{"prompt":["is it "],"max_tokens":9}"#), None);
    }
}
