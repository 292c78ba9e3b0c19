//! stub
use crate::lexicon::PicoUsd;
use crate::protocol::Usage;
use crate::registry::Price;
/// stub
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// stub
    pub total: PicoUsd,
}
/// stub
pub fn cost(_: &Price, _: &Usage) -> Option<Cost> {
    None
}
