//! A deployment as it might be: prompts, times to first token, and their true distribution.
//!
//! `TTFT = (base + slope · tokens) · LN(0, σ)`, with stragglers that take several times as long.

use fastrand::Rng;

/// Median and spread of prompt lengths, in tokens.
const PROMPT: (f64, f64) = (900.0, 1.1);
/// Steps of the integral over stragglers.
const STEPS: u32 = 40;

/// A deployment's times to first token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upstream {
    /// Seconds without a prompt.
    pub(crate) base: f64,
    /// Seconds per prompt token.
    pub(crate) slope: f64,
    /// The spread of the log-normal around that.
    pub(crate) sigma: f64,
    /// The share that takes several times as long.
    pub(crate) stragglers: f64,
    /// How many times, evenly between these.
    pub(crate) times: (f64, f64),
    /// All of it is so many times slower.
    pub(crate) slowdown: f64,
}

impl Upstream {
    /// The one the estimators are measured with: 0.4 s, 0.18 ms per token, 2.5 % stragglers.
    pub(crate) const USUAL: Self = Self {
        base: 0.4,
        slope: 0.000_18,
        sigma: 0.35,
        stragglers: 0.025,
        times: (4.0, 12.0),
        slowdown: 1.0,
    };

    /// The median for a prompt, in seconds.
    pub(crate) fn scale(&self, tokens: u32) -> f64 {
        self.slowdown * (self.base + self.slope * f64::from(tokens))
    }

    /// One time to first token, in seconds.
    pub(crate) fn sample(&self, tokens: u32, dice: &mut Rng) -> f64 {
        let (least, most) = self.times;
        let late =
            if dice.f64() < self.stragglers { least + (most - least) * dice.f64() } else { 1.0 };
        self.scale(tokens) * log_normal(1.0, self.sigma, dice) * late
    }

    /// The share of times that exceed `seconds`.
    pub(crate) fn survival(&self, tokens: u32, seconds: f64) -> f64 {
        let residual = seconds / self.scale(tokens);
        let above = |times: f64| normal(-(residual / times).ln() / self.sigma);
        let (least, most) = self.times;
        let step = |at: u32| least + (most - least) * (f64::from(at) + 0.5) / f64::from(STEPS);
        let late: f64 = (0..STEPS).map(|at| above(step(at))).sum::<f64>() / f64::from(STEPS);
        (1.0 - self.stragglers) * above(1.0) + self.stragglers * late
    }

    /// What the share `part` of the times does not exceed, in seconds.
    pub(crate) fn quantile(&self, tokens: u32, part: f64) -> f64 {
        let (mut low, mut high) = (0.0, 100.0 * self.scale(tokens));
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if self.survival(tokens, middle) > 1.0 - part { low = middle } else { high = middle }
        }
        high
    }
}

/// The length of a prompt.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
pub(crate) fn prompt(dice: &mut Rng) -> u32 {
    log_normal(PROMPT.0, PROMPT.1, dice).clamp(1.0, 200_000.0) as u32
}

/// The time to the next of `rate` arrivals per second.
pub(crate) fn pause(rate: f64, dice: &mut Rng) -> f64 {
    -(1.0 - dice.f64()).ln() / rate
}

/// A log-normal number with this median.
pub(crate) fn log_normal(median: f64, sigma: f64, dice: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - dice.f64()).ln()).sqrt();
    median * (sigma * radius * (std::f64::consts::TAU * dice.f64()).cos()).exp()
}

/// The share of a standard normal variable below `z`, by Simpson's rule from the middle.
fn normal(z: f64) -> f64 {
    let end = z.clamp(-8.0, 8.0);
    let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let width = end / 40.0;
    let sum: f64 = (0..20_u32)
        .map(|at| {
            let from = f64::from(2 * at) * width;
            density(from) + 4.0 * density(from + width) + density(from + 2.0 * width)
        })
        .sum();
    0.5 + sum * width / 3.0
}
