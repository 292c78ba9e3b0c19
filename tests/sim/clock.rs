//! Virtual time: nanoseconds in a queue of events, so that they have an order, seconds elsewhere.

/// Seconds from zero as an event's moment.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hours, from zero")]
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// An event's moment in seconds.
#[expect(clippy::cast_precision_loss, reason = "hours")]
pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
