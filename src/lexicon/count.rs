//! Counts, and the fractions in which is reckoned with them.

/// A count as a fraction; beyond 2⁵³ its last digits are lost.
#[expect(clippy::cast_precision_loss, reason = "said above")]
pub const fn float(count: u64) -> f64 {
    count as f64
}

/// What is whole of a fraction; what is below zero, or no number, is nothing, and what is too large
/// is the largest count.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "said above")]
pub const fn whole(fraction: f64) -> u64 {
    fraction as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_count_has_the_nearest() {
        for (fraction, count) in
            [(2.9, 2), (-2.9, 0), (f64::NAN, 0), (f64::INFINITY, u64::MAX), (float(7), 7)]
        {
            assert_eq!(whole(fraction), count, "{fraction}");
        }
    }
}
