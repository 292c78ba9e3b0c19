//! Seeded simulations in virtual time: the code of `routing` against upstreams that are known, and
//! fleets of the nodes of `gossip`.
//!
//! `cargo test --test sim -- --nocapture` prints their tables. They are models: they rank
//! designs, and their milliseconds are those of the model.

mod censoring;
mod clock;
mod effect;
mod estimator;
mod gossip;
mod hedging;
mod herd;
mod table;
mod upstream;
