//! What to expect of the next answer of a deployment: read by requests, made by the learner.
//!
//! Small, immutable and cheap to ask: a reading is a search over 97 numbers and one line.

use std::time::Duration;

use super::regression::Line;
use super::seconds;
use super::survival::Curve;

/// The recent residuals may exceed those of the last hour by this factor. A deployment that has
/// become slow would otherwise raise its own threshold just when hedging helps.
const ABOVE_HOUR: f64 = 1.5;
/// The percentiles a threshold may stand at; p99.9 and above are not in the data.
const PERCENTILES: (f64, f64) = (0.5, 0.999);

/// Between what a threshold must lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// No hedge before this.
    pub least: Duration,
    /// No later than this, which wins over `least`; half the timeout of a try is a good choice.
    pub most: Duration,
}

impl Bounds {
    /// From 300 ms to `most`.
    pub const fn up_to(most: Duration) -> Self {
        Self { least: Duration::from_millis(300), most }
    }
}

/// A forecast for one deployment and kind of call.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    samples: f64,
    line: Line,
    recent: Curve,
    hour: Curve,
}

impl Forecast {
    pub(super) fn new(samples: f64, line: Line, recent: Curve, hour: Curve) -> Self {
        Self { samples, line, recent, hour }
    }

    /// How many waits of this deployment speak in it, decayed. The 95th percentile needs about 30
    /// to be of use and 100 to be good, the 99th 300 and 1000.
    pub fn samples(&self) -> f64 {
        self.samples
    }

    /// The line over prompt tokens.
    pub fn line(&self) -> Line {
        self.line
    }

    /// The mean time to first token, stragglers included.
    pub fn expected(&self, tokens: u32) -> Duration {
        seconds(self.line.at(tokens) * self.recent.mean())
    }

    /// When a request has waited longer than the share `percentile` of all (from 0.5 to 0.999):
    /// `pred · min(Q, 1.5 · Q of the hour)` within bounds.
    pub fn threshold(&self, tokens: u32, percentile: f64, bounds: Bounds) -> Duration {
        let (low, high) = PERCENTILES;
        let part = percentile.clamp(low, high);
        let residual = self.recent.quantile(part).min(ABOVE_HOUR * self.hour.quantile(part));
        seconds(self.line.at(tokens) * residual).max(bounds.least).min(bounds.most)
    }

    /// How much longer a request that has waited so long is expected to wait:
    /// `E[T − t | T > t]`.
    ///
    /// Of `n` waits seen, one more is none like them with a chance of `1/(n+1)` (Laplace's rule of
    /// succession), and such a one is expected to last as long again as it has lasted. Without
    /// it, who waits longer than anybody before would be due at any moment.
    pub fn rest(&self, tokens: u32, waited: Duration) -> Duration {
        let prediction = self.line.at(tokens);
        let residual = waited.as_secs_f64() / prediction;
        let unseen = 1.0 / (self.samples + 1.0);
        let seen = self.recent.survival(residual);
        let rest = (self.recent.beyond(residual) + unseen * residual) / (seen + unseen);
        seconds(prediction * rest)
    }

    /// The share of requests that wait longer than this.
    pub fn survival(&self, tokens: u32, waited: Duration) -> f64 {
        self.recent.survival(waited.as_secs_f64() / self.line.at(tokens))
    }
}
