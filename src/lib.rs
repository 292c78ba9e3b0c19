//! Pillion: the LLM gateway that rides in the pod.
//!
//! # The map
//!
//! In the order in which a request meets them:
//!
//! * [`listen`] accepts its connection, bounded in number and patience;
//! * [`exchange`] leads it from its first byte to its last and calls all that follow;
//! * [`admit`] says whether the caller may ask;
//! * [`endpoint`] makes a call of its path and body, of which it reads as little as it can;
//! * [`routing`] says which deployment is asked, and what follows on a failure;
//! * [`provider`] puts the call into the provider's words and says what an error means;
//! * [`upstream`] carries it there over pooled connections;
//! * [`account`] counts its tokens and its money and makes one record of it.
//!
//! What they speak and know:
//!
//! * [`protocol`] the bodies, events, usage and errors of each dialect, and the way between them;
//! * [`registry`] limits, capabilities and prices of models, compiled in;
//! * [`stats`] what each deployment is doing now: the numbers that routing looks at;
//! * [`gossip`] what the deployments are doing now, as the sidecars tell each other;
//! * [`report`] what hedging was worth: its JSON, its table and its picture;
//! * [`config`] the file, checked and compiled into one snapshot, and taken up while it runs;
//! * [`inject`] what is added to a pod so that Pillion rides in it;
//! * [`cluster`] as little of Kubernetes' API as the injector needs;
//! * [`webhook`] the admission webhook: its questions, its certificate, what it keeps right;
//! * [`manifest`] the same in the text of manifests, which otherwise stays as it was;
//! * [`lexicon`] the nouns that all of them share.
//!
//! What others see:
//!
//! * [`telemetry`] metrics and the access log;
//! * [`admin`] probes and `/metrics`;
//! * [`logs`] the log of the process;
//! * [`cli`] the command line;
//! * [`demo`] simulated providers for `pillion demo`;
//! * [`app`] the one place that names them all: start, reload, drain, stop.
//!
//! # The layers
//!
//! Imports point down only, and two modules of one layer never see each other. `tests/it/layers.rs`
//! reads this table and fails where the code does otherwise. Tests inside a module may look at its
//! siblings.
//!
//! | layer | module | may import |
//! |---|---|---|
//! | 7 | `app`, `main` | everything |
//! | 6 | `logs` | `config` |
//! | 5 | `exchange` | `account`, `admit`, `endpoint`, `lexicon`, `protocol`, `provider`, `registry`, `report`, `routing`, `stats`, `upstream` |
//! | 5 | `admin`, `cli`, `demo` | nothing |
//! | 5 | `webhook` | `cluster`, `config`, `inject`, `lexicon` |
//! | 4 | `cluster` | `protocol`, `upstream` |
//! | 4 | `config` | `lexicon`, `provider`, `registry`, `routing` |
//! | 3 | `gossip`, `stats` | `lexicon`, `routing` |
//! | 3 | `telemetry` | `account`, `lexicon`, `protocol`, `report` |
//! | 3 | `upstream` | `lexicon`, `protocol` |
//! | 3 | `listen` | nothing |
//! | 2 | `account`, `provider` | `lexicon`, `protocol`, `registry` |
//! | 2 | `endpoint` | `lexicon`, `protocol` |
//! | 2 | `manifest` | `inject`, `lexicon` |
//! | 2 | `admit`, `routing` | `lexicon` |
//! | 1 | `protocol`, `registry`, `report` | `lexicon` |
//! | 1 | `inject` | nothing |
//! | 0 | `lexicon` | nothing |
//!
//! Three things follow. The pure half (layers 0 to 2) never awaits, locks, sleeps or opens a
//! socket; the moment and the dice are arguments. The core defines the shape and the shell fills
//! it: [`routing`] owns [`View`](routing::View) and [`stats`] implements it, [`account`] owns
//! [`Sink`](account::Sink) and [`telemetry`] implements it. And control never calls data:
//! [`config`] and [`stats`] publish, requests read.

pub mod account;
pub mod admin;
pub mod admit;
pub mod app;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod endpoint;
pub mod exchange;
pub mod gossip;
pub mod inject;
pub mod lexicon;
pub mod listen;
pub mod logs;
pub mod manifest;
pub mod protocol;
pub mod provider;
pub mod registry;
pub mod report;
pub mod routing;
pub mod stats;
pub mod telemetry;
pub mod upstream;
pub mod webhook;
