//! Pillion: the LLM gateway that rides in the pod.

pub mod account;
pub mod config;
pub mod lexicon;
pub mod protocol;
pub mod provider;
pub mod registry;
pub mod routing;
