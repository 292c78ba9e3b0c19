//! stub
use crate::lexicon::Failure;
/// stub
pub fn in_good_answer(_: &[u8]) -> Option<Failure> {
    None
}
