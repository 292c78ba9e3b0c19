//! What randomness is made of: entropy is an argument, and here it becomes a number.

/// A number in `[0, 1)` from 53 random bits.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub(super) fn unit(entropy: u64) -> f64 {
    (entropy >> 11) as f64 / (1u64 << 53) as f64
}

/// Dice of their own for `salt`, so that two choices of one pick are independent.
pub(super) fn salted(entropy: u64, salt: u64) -> u64 {
    // The finalizer of SplitMix64.
    let mut mixed = entropy ^ salt.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
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
