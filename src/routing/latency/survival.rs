//! How long a wait lasts, out of answers and of waits that were cut short: Kaplan and Meier.
//!
//! A cancelled try is no answer, and leaving it out is worse: the slow ones are those that get
//! cancelled. Every bin counts who was still waiting when it began and who was answered in it;
//! the product of those shares is the curve (`S ← S · (1 − answered/waiting)`).

use super::histogram::{BINS, Histogram, LOWEST, bin, edge, single};

/// One bin of a product-limit estimate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Risk {
    /// Who was waiting and could be answered: of those cut short within the bin, half.
    pub waiting: f64,
    /// Who was answered within the bin.
    pub answered: f64,
}

/// Waiting and answered per bin. Of those who were cut short within a bin, half count as waiting
/// in it (the actuarial rule), since a bin knows no order.
pub fn risks(of: &Histogram) -> [Risk; BINS] {
    let mut left = of.total();
    let mut risks = [Risk::default(); BINS];
    for (risk, (answered, censored)) in risks.iter_mut().zip(of.bins()) {
        *risk = Risk { waiting: (left - censored / 2.0).max(answered), answered };
        left -= answered + censored;
    }
    risks
}

/// The share that waits longer, at every edge, and the area under it from there on.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    survival: [f32; BINS + 1],
    area: [f32; BINS + 1],
}

impl Curve {
    /// The curve of a histogram. The longest wait ends it, whether it was answered or not
    /// (Efron's rule); an empty histogram says that everything is answered at once.
    pub fn of(histogram: &Histogram) -> Self {
        let end = histogram
            .bins()
            .enumerate()
            .filter(|(_, (answered, censored))| answered + censored > 0.0)
            .map(|(at, _)| at)
            .last();
        let mut curve = Self { survival: [0.0; BINS + 1], area: [0.0; BINS + 1] };
        let mut share = 1.0;
        for (at, (point, risk)) in curve.survival.iter_mut().zip(risks(histogram)).enumerate() {
            if end.is_none_or(|end| at > end) {
                break;
            }
            *point = single(share);
            if risk.waiting > 0.0 {
                share *= 1.0 - risk.answered / risk.waiting;
            }
        }
        curve.sum_up();
        curve
    }

    fn sum_up(&mut self) {
        let mut sum = 0.0;
        for at in (0..BINS).rev() {
            let (here, next) = (self.point(at), self.point(at + 1));
            sum += f64::midpoint(here, next) * (edge(at + 1) - edge(at));
            if let Some(area) = self.area.get_mut(at) {
                *area = single(sum);
            }
        }
    }

    /// The share that waits longer than `value`; within a bin it falls evenly.
    pub fn survival(&self, value: f64) -> f64 {
        if value < LOWEST {
            return 1.0;
        }
        let at = bin(value);
        let (from, to) = (edge(at), edge(at + 1));
        let part = ((value - from) / (to - from)).clamp(0.0, 1.0);
        self.point(at) + (self.point(at + 1) - self.point(at)) * part
    }

    /// What the share `part` of all waits do not exceed.
    pub fn quantile(&self, part: f64) -> f64 {
        let wanted = 1.0 - part;
        let after = self.survival.partition_point(|share| f64::from(*share) > wanted);
        let Some(at) = after.checked_sub(1) else { return LOWEST };
        let (here, next) = (self.point(at), self.point(after));
        if here <= next {
            return edge(at);
        }
        edge(at) + (here - wanted) / (here - next) * (edge(at + 1) - edge(at))
    }

    /// The area under the curve beyond `value`: how much waiting lies there, per wait.
    pub fn beyond(&self, value: f64) -> f64 {
        if value < LOWEST {
            return self.area.first().map_or(0.0, |area| f64::from(*area)) + LOWEST
                - value.max(0.0);
        }
        let at = bin(value);
        let rest = self.area.get(at + 1).map_or(0.0, |area| f64::from(*area));
        let within = (edge(at + 1) - value).max(0.0);
        rest + f64::midpoint(self.survival(value), self.point(at + 1)) * within
    }

    /// The mean wait.
    pub fn mean(&self) -> f64 {
        self.beyond(0.0)
    }

    fn point(&self, at: usize) -> f64 {
        self.survival.get(at).map_or(0.0, |share| f64::from(*share))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::histogram::Seen;
    use super::*;

    fn curve(waits: &[(f64, Seen, f64)]) -> Curve {
        let mut counted = Histogram::default();
        for (value, seen, weight) in waits {
            counted.add(*value, *weight, *seen);
        }
        Curve::of(&counted)
    }

    #[track_caller]
    fn check(got: f64, want: f64) {
        assert!((got / want).ln().abs() < 0.05, "{got} is not {want}");
    }

    #[test]
    fn quantiles_of_answers_are_theirs() {
        let waits: Vec<_> =
            (1..=1000).map(|step| (f64::from(step) / 100.0, Seen::Answered, 1.0)).collect();
        let even = curve(&waits);
        check(even.quantile(0.5), 5.0);
        check(even.quantile(0.9), 9.0);
        check(even.quantile(0.99), 9.9);
        check(even.mean(), 5.0);
        check(even.survival(2.5), 0.75);
        check(even.beyond(5.0), 1.25);
    }

    #[test]
    fn the_cut_short_count_as_waiting_and_never_as_answered() {
        // Half of 100 are answered at 1. Of the rest, half are cut at 2; of those left, half
        // are answered at 4 and half at 8. So half of those cut would have waited until 8.
        let cut = curve(&[
            (1.0, Seen::Answered, 50.0),
            (2.0, Seen::Censored, 25.0),
            (4.0, Seen::Answered, 12.5),
            (8.0, Seen::Answered, 12.5),
        ]);
        check(cut.survival(1.5), 0.5);
        check(cut.survival(3.0), 0.5);
        check(cut.survival(6.0), 0.25);
        assert!(cut.survival(9.0) < 1e-9);
    }

    #[test]
    fn half_of_those_cut_within_a_bin_count_as_waiting_in_it() {
        let cut = curve(&[
            (1.0, Seen::Answered, 10.0),
            (1.0, Seen::Censored, 10.0),
            (4.0, Seen::Answered, 80.0),
        ]);
        assert!((cut.survival(2.0) - (1.0 - 10.0 / 95.0)).abs() < 1e-6);
    }

    #[test]
    fn nothing_counted_is_answered_at_once() {
        let empty = curve(&[]);
        assert!(empty.survival(1.0) < 1e-9);
        assert!((empty.quantile(0.95) - LOWEST).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn curves_fall_and_quantiles_rise(
            waits in prop::collection::vec((0.0f64..300.0, any::<bool>()), 1..80),
            one in 0.0f64..200.0,
            more in 0.0f64..50.0,
            part in 0.5f64..0.99,
        ) {
            let seen = |answered| if answered { Seen::Answered } else { Seen::Censored };
            let waits: Vec<_> = waits.iter().map(|(at, was)| (*at, seen(*was), 1.0)).collect();
            let curve = curve(&waits);
            prop_assert!(curve.survival(one + more) <= curve.survival(one) + 1e-6);
            prop_assert!(curve.beyond(one + more) <= curve.beyond(one) + 1e-4);
            prop_assert!(curve.quantile(part + 0.01) >= curve.quantile(part));
            prop_assert!((0.0..=1.0).contains(&curve.survival(one)));
        }
    }
}
