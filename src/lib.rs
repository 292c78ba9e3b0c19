//! Pillion: the LLM gateway that rides in the pod.

pub mod account;
pub mod admin;
pub mod admit;
pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
pub mod endpoint;
pub mod exchange;
pub mod lexicon;
pub mod listen;
pub mod logs;
pub mod protocol;
pub mod provider;
pub mod registry;
pub mod routing;
pub mod stats;
pub mod telemetry;
pub mod upstream;
