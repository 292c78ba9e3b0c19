//! What the tokens of an answer cost.
//!
//! Promises exact sums, and no price where none is known: an unknown model costs `None`, not
//! nothing. Knows no model and no vendor, only their [`Price`].

use crate::lexicon::{PicoUsd, Tokens};
use crate::protocol::Usage;
use crate::registry::Price;

/// The cost of one answer in parts. The parts do not overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// The prompt, without what the cache had a share in; audio included.
    pub input: PicoUsd,
    /// The answer, without reasoning; audio included.
    pub output: PicoUsd,
    /// The part of the prompt that was read from the cache.
    pub cache_read: PicoUsd,
    /// The part of the prompt that was written to the cache, for minutes or for an hour.
    pub cache_write: PicoUsd,
    /// Reasoning.
    pub reasoning: PicoUsd,
    /// What is to be paid: the provider's own figure where it gave one, or else the sum of the
    /// parts.
    pub total: PicoUsd,
}

/// The cost of an answer; `None` where neither the provider nor the prices say any.
pub fn cost(price: &Price, usage: &Usage) -> Option<Cost> {
    let priced = price.input.is_some() || price.output.is_some();
    if !priced && usage.cost.is_none() {
        return None;
    }
    let mut cost = parts(&price.of_prompt(usage.prompt), usage);
    let sum = cost.input + cost.output + cost.cache_read + cost.cache_write + cost.reasoning;
    cost.total = usage.cost.unwrap_or(sum);
    Some(cost)
}

/// Each part at its own price, or at that of its whole. A price of zero is a price.
fn parts(price: &Price, usage: &Usage) -> Cost {
    let input = price.input.unwrap_or_default();
    let output = price.output.unwrap_or_default();
    let write = price.cache_write.unwrap_or(input);
    let prompt = Prompt::of(usage);
    let answer = usage.completion.saturating_sub(usage.reasoning);
    let spoken = usage.audio_out.min(answer);
    Cost {
        input: input.times(prompt.text) + price.audio_in.unwrap_or(input).times(prompt.audio),
        output: output.times(answer - spoken) + price.audio_out.unwrap_or(output).times(spoken),
        cache_read: price.cache_read.unwrap_or(input).times(usage.cache_read),
        cache_write: write.times(usage.cache_write)
            + price.cache_write_1h.unwrap_or(write).times(usage.cache_write_1h),
        reasoning: price.reasoning.unwrap_or(output).times(usage.reasoning),
        total: PicoUsd::ZERO,
    }
}

/// What is left of a prompt beside the cached tokens.
struct Prompt {
    text: Tokens,
    audio: Tokens,
}

impl Prompt {
    /// Some vendors count cached audio as both; the cache's share is taken off first, so that no
    /// token is paid twice. Shares greater than the whole are believed, as the vendor bills them.
    fn of(usage: &Usage) -> Self {
        let cached =
            usage.cache_read.saturating_add(usage.cache_write).saturating_add(usage.cache_write_1h);
        let fresh = usage.prompt.saturating_sub(cached);
        let audio = usage.audio_in.min(fresh);
        Self { text: fresh - audio, audio }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Three dollars a million in, fifteen out, as a common model has it.
    const PRICE: Price = Price {
        input: Some(PicoUsd(3_000_000)),
        output: Some(PicoUsd(15_000_000)),
        cache_read: Some(PicoUsd(300_000)),
        cache_write: Some(PicoUsd(3_750_000)),
        cache_write_1h: Some(PicoUsd(6_000_000)),
        reasoning: None,
        audio_in: None,
        audio_out: None,
        tiers: "",
    };
    const BARE: Price =
        Price { cache_read: None, cache_write: None, cache_write_1h: None, ..PRICE };
    const USED: Usage = Usage {
        prompt: 1000,
        completion: 500,
        cache_read: 0,
        cache_write: 0,
        cache_write_1h: 0,
        reasoning: 0,
        audio_in: 0,
        audio_out: 0,
        cost: None,
        estimated: false,
    };

    /// Parts in micro-dollars: input, output, cache read, cache write, reasoning.
    #[track_caller]
    fn check(price: Price, usage: Usage, want: [u64; 5]) {
        let micro = |units: u64| PicoUsd(units * 1_000_000);
        let got = cost(&price, &usage).unwrap();
        let parts = [got.input, got.output, got.cache_read, got.cache_write, got.reasoning];
        assert_eq!(parts, want.map(micro));
        assert_eq!(got.total, micro(want.iter().sum()));
    }

    #[test]
    fn plain_tokens_cost_their_price() {
        check(PRICE, USED, [3000, 7500, 0, 0, 0]);
        check(PRICE, Usage { completion: 0, ..USED }, [3000, 0, 0, 0, 0]);
    }

    #[test]
    fn cached_tokens_are_taken_out_of_the_prompt() {
        // 300 fresh at 3, 400 read at 0.3, 200 written at 3.75 and 100 at 6.
        let usage = Usage { cache_read: 400, cache_write: 200, cache_write_1h: 100, ..USED };
        check(PRICE, usage, [900, 7500, 120, 1350, 0]);
    }

    #[test]
    fn the_cache_without_a_price_costs_what_the_prompt_costs() {
        let usage = Usage { cache_read: 400, cache_write: 200, cache_write_1h: 100, ..USED };
        check(BARE, usage, [900, 7500, 1200, 900, 0]);
        let minutes_only = Price { cache_write_1h: None, ..PRICE };
        check(minutes_only, usage, [900, 7500, 120, 750 + 375, 0]);
    }

    #[test]
    fn a_price_of_zero_is_a_price() {
        let free = Price { cache_read: Some(PicoUsd(0)), ..PRICE };
        check(free, Usage { cache_read: 400, ..USED }, [1800, 7500, 0, 0, 0]);
        let free = Price { input: Some(PicoUsd(0)), output: Some(PicoUsd(0)), ..Price::default() };
        check(free, USED, [0, 0, 0, 0, 0]);
    }

    #[test]
    fn reasoning_and_audio_cost_their_own_price_where_they_have_one() {
        let usage = Usage { reasoning: 300, audio_in: 100, audio_out: 50, ..USED };
        check(PRICE, usage, [3000, 3000, 0, 0, 4500]);
        let own = Price {
            reasoning: Some(PicoUsd(20_000_000)),
            audio_in: Some(PicoUsd(40_000_000)),
            audio_out: Some(PicoUsd(80_000_000)),
            ..PRICE
        };
        // 900 at 3 and 100 at 40; 150 at 15 and 50 at 80; 300 at 20.
        check(own, usage, [2700 + 4000, 2250 + 4000, 0, 0, 6000]);
    }

    #[test]
    fn parts_greater_than_their_whole_never_go_below_zero() {
        check(PRICE, Usage { cache_read: 2000, ..USED }, [0, 7500, 600, 0, 0]);
        check(PRICE, Usage { reasoning: 700, audio_out: 9, ..USED }, [3000, 0, 0, 0, 10_500]);
        check(PRICE, Usage { audio_in: 5000, ..USED }, [3000, 7500, 0, 0, 0]);
        // Cached audio is paid as cached.
        check(PRICE, Usage { cache_read: 900, audio_in: 600, ..USED }, [300, 7500, 270, 0, 0]);
    }

    #[test]
    fn a_long_prompt_makes_the_whole_request_dearer() {
        let price = Price { tiers: "200000:i=6;o=22.5;cr=0.6|400000:i=9", ..PRICE };
        let usage = |prompt| Usage { prompt, completion: 1000, cache_read: 100_000, ..USED };
        check(price, usage(200_000), [300_000, 15_000, 30_000, 0, 0]);
        check(price, usage(200_001), [600_006, 22_500, 60_000, 0, 0]);
        check(price, usage(500_000), [3_600_000, 15_000, 30_000, 0, 0]);
    }

    #[test]
    fn the_providers_own_figure_is_the_total() {
        let usage = Usage { cost: Some(PicoUsd(42)), ..USED };
        let got = cost(&PRICE, &usage).unwrap();
        assert_eq!((got.total, got.input), (PicoUsd(42), PicoUsd(3_000_000_000)));
        let unpriced = cost(&Price::default(), &usage).unwrap();
        assert_eq!(unpriced, Cost { total: PicoUsd(42), ..Cost::default() });
    }

    #[test]
    fn without_any_price_there_is_no_cost() {
        assert_eq!(cost(&Price::default(), &USED), None);
        let cache_only = Price { cache_read: Some(PicoUsd(1)), ..Price::default() };
        assert_eq!(cost(&cache_only, &USED), None);
        let input_only = Price { input: Some(PicoUsd(3_000_000)), ..Price::default() };
        check(input_only, USED, [3000, 0, 0, 0, 0]);
    }

    fn tokens() -> impl Strategy<Value = Tokens> {
        prop_oneof![0..2_000_000u64, any::<u64>()]
    }

    prop_compose! {
        fn usage()(
            prompt in tokens(), completion in tokens(), cache_read in tokens(),
            cache_write in tokens(), cache_write_1h in tokens(), reasoning in tokens(),
            audio_in in tokens(), audio_out in tokens(),
        ) -> Usage {
            Usage {
                prompt, completion, cache_read, cache_write, cache_write_1h, reasoning, audio_in,
                audio_out, cost: None, estimated: false,
            }
        }
    }

    proptest! {
        #[test]
        fn more_tokens_never_cost_less(usage in usage(), more in tokens()) {
            let longer = Usage {
                prompt: usage.prompt.saturating_add(more),
                completion: usage.completion.saturating_add(more),
                ..usage
            };
            let price = Price { tiers: "1000:i=6;o=22.5", ..BARE };
            let total = |usage| cost(&price, usage).unwrap().total;
            prop_assert!(total(&usage) <= total(&longer));
        }

        #[test]
        fn one_price_for_all_parts_prices_the_wholes(
            prompt in 0..1_000_000u64, completion in 0..1_000_000u64,
            read in 0..300_000u64, written in 0..300_000u64, reasoning in 0..300_000u64,
            audio in 0..400_000u64,
        ) {
            let usage = Usage {
                prompt: prompt + read + written, completion: completion + reasoning,
                cache_read: read, cache_write: written, reasoning, audio_in: audio,
                audio_out: audio, ..USED
            };
            let want = PicoUsd(3_000_000).times(usage.prompt)
                + PicoUsd(15_000_000).times(usage.completion);
            prop_assert_eq!(cost(&BARE, &usage).unwrap().total, want);
        }
    }
}
