//! What randomness is made of: entropy is an argument, and here it becomes a number.

/// A number in `[0, 1)` from 53 random bits.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub(super) fn unit(entropy: u64) -> f64 {
    (entropy >> 11) as f64 / (1u64 << 53) as f64
}

/// One of them, each as likely as the others.
pub(super) fn one_of<T: Copy>(all: &[T], entropy: u64) -> Option<T> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a position in a short list"
    )]
    let at = (unit(entropy) * all.len() as f64) as usize;
    all.get(at.min(all.len().saturating_sub(1))).copied()
}
