//! (placeholder)
pub mod table;
pub use table::{Member, Policy, RouteTable, Settings};
