//! One entry of a fallback list.

use bytes::Bytes;

/// Another model to ask instead, and fields to set in the body for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitute {
    /// The public name of the model group.
    pub model: Box<str>,
    /// Body fields as JSON texts that replace or join those of the request.
    pub fields: Vec<(Box<str>, Bytes)>,
}

impl Substitute {
    /// Another model with the request as it is.
    pub fn model(name: impl Into<Box<str>>) -> Self {
        Self { model: name.into(), fields: Vec::new() }
    }
}
