//! Deployments for the tests of this folder.

use super::Spec;
use crate::lexicon::Secret;

/// What a configuration with nothing but a name and a key says.
pub(super) fn spec(name: &str) -> Spec {
    Spec {
        id: "id".into(),
        group: "g".into(),
        name: name.into(),
        provider: None,
        api_base: None,
        api_key: Some(Secret::new("k")),
        api_version: None,
        organization: None,
        extra_headers: Vec::new(),
        defaults: Vec::new(),
        drop_params: false,
        additional_drop_params: Vec::new(),
        allowed_openai_params: Vec::new(),
        mock: None,
    }
}
