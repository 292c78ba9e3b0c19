//! Prices of the configuration: each one given there replaces the one that is compiled in.

use super::cursor::Cursor;
use crate::lexicon::PicoUsd;
use crate::registry::Price;

/// What `litellm_params` and `model_info` say a token costs; the first wins, field by field.
pub(super) fn configured(params: &Cursor<'_>, info: &Cursor<'_>) -> Price {
    let of = |name: &str| dollars(&params.get(name)).or_else(|| dollars(&info.get(name)));
    Price {
        input: of("input_cost_per_token"),
        output: of("output_cost_per_token"),
        cache_read: of("cache_read_input_token_cost"),
        cache_write: of("cache_creation_input_token_cost"),
        cache_write_1h: of("cache_creation_input_token_cost_above_1hr"),
        reasoning: of("output_cost_per_reasoning_token"),
        audio_in: of("input_cost_per_audio_token"),
        audio_out: of("output_cost_per_audio_token"),
        tiers: "",
    }
}

fn dollars(field: &Cursor<'_>) -> Option<PicoUsd> {
    let usd = field.amount()?;
    PicoUsd::from_usd(usd).or_else(|| field.expected("a price in dollars", field.value))
}

/// The price that holds; `None` where neither side knows any.
///
/// The prices for long prompts are those of the list. Who sets a price of their own for the
/// prompt or the answer means it for prompts of any length.
pub(super) fn merged(own: Price, listed: Option<Price>) -> Option<Price> {
    let list = listed.unwrap_or_default();
    let plain = own.input.is_some() || own.output.is_some();
    let price = Price {
        input: own.input.or(list.input),
        output: own.output.or(list.output),
        cache_read: own.cache_read.or(list.cache_read),
        cache_write: own.cache_write.or(list.cache_write),
        cache_write_1h: own.cache_write_1h.or(list.cache_write_1h),
        reasoning: own.reasoning.or(list.reasoning),
        audio_in: own.audio_in.or(list.audio_in),
        audio_out: own.audio_out.or(list.audio_out),
        tiers: if plain { "" } else { list.tiers },
    };
    (price != Price::default()).then_some(price)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_price_replaces_its_own_field_alone() {
        let own = Price { input: Some(PicoUsd(5)), ..Price::default() };
        let list = Price {
            input: Some(PicoUsd(1)),
            output: Some(PicoUsd(2)),
            tiers: "200000:i=9",
            ..Price::default()
        };
        let both = merged(own, Some(list)).unwrap();
        assert_eq!((both.input, both.output), (Some(PicoUsd(5)), Some(PicoUsd(2))));
        assert_eq!(both.tiers, "");
        assert_eq!(merged(Price::default(), Some(list)), Some(list));
        assert_eq!(merged(Price::default(), None), None);
        let free = Price { input: Some(PicoUsd(0)), ..Price::default() };
        assert_eq!(merged(free, None), Some(free));
    }
}
