//! Prices that rise with the length of the prompt.
//!
//! A crossed threshold changes the price of the whole request, not of the tokens beyond it. What
//! a tier does not name keeps its ordinary price.

use super::{Price, table::per_million};
use crate::lexicon::{PicoUsd, Tokens};

impl Price {
    /// The prices of a request whose prompt has this many tokens: those of the highest threshold
    /// that the prompt is longer than.
    ///
    /// A vendor who counts the threshold itself as crossed stands in the table with one token
    /// less; prices need not know vendors for that.
    #[must_use]
    pub fn of_prompt(self, prompt: Tokens) -> Self {
        let crossed = tiers(self.tiers).filter(|&(threshold, _)| prompt > threshold);
        let Some((_, prices)) = crossed.max_by_key(|&(threshold, _)| threshold) else {
            return self;
        };
        entries(prices).fold(self, |price, (name, amount)| price.with(name, amount))
    }

    fn with(mut self, name: &str, amount: PicoUsd) -> Self {
        let slot = match name {
            "i" => &mut self.input,
            "o" => &mut self.output,
            "cr" => &mut self.cache_read,
            "cw" => &mut self.cache_write,
            "ch" => &mut self.cache_write_1h,
            "r" => &mut self.reasoning,
            _ => return self,
        };
        *slot = Some(amount);
        self
    }
}

/// Thresholds and their price lists.
pub(super) fn tiers(text: &str) -> impl Iterator<Item = (Tokens, &str)> {
    text.split('|').filter_map(|tier| {
        let (threshold, prices) = tier.split_once(':')?;
        Some((threshold.parse().ok()?, prices))
    })
}

/// Names and amounts of one price list.
pub(super) fn entries(prices: &str) -> impl Iterator<Item = (&str, PicoUsd)> {
    prices.split(';').filter_map(|entry| {
        let (name, amount) = entry.split_once('=')?;
        Some((name, per_million(amount)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Price = Price {
        input: Some(PicoUsd(1)),
        output: Some(PicoUsd(2)),
        cache_read: Some(PicoUsd(3)),
        cache_write: None,
        cache_write_1h: None,
        reasoning: None,
        audio_in: None,
        audio_out: None,
        tiers: "32000:i=0.5;o=2.5|128000:i=0.8;cr=0.2|256000:i=1.6;o=9.6;cw=7;ch=8;r=9",
    };

    #[test]
    fn the_highest_crossed_threshold_prices_the_request() {
        assert_eq!(BASE.of_prompt(32_000), BASE);
        let first = BASE.of_prompt(32_001);
        assert_eq!((first.input, first.output), (Some(PicoUsd(500_000)), Some(PicoUsd(2_500_000))));
        assert_eq!(first.cache_read, Some(PicoUsd(3)));
        let second = BASE.of_prompt(200_000);
        assert_eq!((second.input, second.output), (Some(PicoUsd(800_000)), Some(PicoUsd(2))));
        assert_eq!(second.cache_read, Some(PicoUsd(200_000)));
        let third = BASE.of_prompt(Tokens::MAX);
        assert_eq!(
            (third.cache_write, third.cache_write_1h),
            (Some(PicoUsd(7_000_000)), Some(PicoUsd(8_000_000)))
        );
        assert_eq!(third.reasoning, Some(PicoUsd(9_000_000)));
    }

    #[test]
    fn the_order_in_which_tiers_are_written_means_nothing() {
        let price = Price { tiers: "200:i=2|100:i=1", ..BASE };
        assert_eq!(price.of_prompt(150).input, Some(PicoUsd(1_000_000)));
        assert_eq!(price.of_prompt(250).input, Some(PicoUsd(2_000_000)));
    }

    #[test]
    fn what_is_no_tier_changes_nothing() {
        for tiers in ["", "|", "x:i=1", "0:", "0:i", "0:zz=1", "0:i=abc"] {
            let price = Price { tiers, ..BASE };
            assert_eq!(price.of_prompt(1), price, "{tiers}");
        }
    }
}
