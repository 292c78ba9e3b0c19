//! What randomness is made of: entropy is an argument, and here it becomes a number.

/// A number in `[0, 1)` from 53 random bits.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub(super) fn unit(entropy: u64) -> f64 {
    (entropy >> 11) as f64 / (1u64 << 53) as f64
}
