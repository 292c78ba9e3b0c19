//! `cost-based-routing`: the candidate whose tokens are cheapest.
//!
//! What counts is the price of a token of the prompt and one of the answer, together, as in
//! `LiteLLM`: how long the answer will be is not guessed.

use super::super::table::Member;
use super::{Candidates, least};
use crate::lexicon::PicoUsd;

/// What a token counts for whose price nobody knows, so that it comes last; `LiteLLM`'s number.
const UNKNOWN: PicoUsd = PicoUsd(5 * PicoUsd::PER_USD);

pub(super) fn choose<'g>(left: &Candidates<'g>, entropy: u64) -> Option<&'g Member> {
    least(left, entropy, |member| {
        member.input_cost.unwrap_or(UNKNOWN) + member.output_cost.unwrap_or(UNKNOWN)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Shape, Strategy};
    use super::*;
    use crate::routing::fixture::{World, members};

    #[track_caller]
    fn check(prices: &[(Option<u64>, Option<u64>)], want: &[u16]) {
        let mut members = members(u16::try_from(prices.len()).unwrap());
        for (member, (input, output)) in members.iter_mut().zip(prices) {
            member.input_cost = input.map(PicoUsd);
            member.output_cost = output.map(PicoUsd);
        }
        let world = World::default();
        assert_eq!(world.chosen(Strategy::Cost, &members, Shape::default()), want);
    }

    #[test]
    fn the_cheapest_is_chosen_and_of_several_any() {
        check(&[(Some(3), Some(9)), (Some(2), Some(8)), (Some(9), Some(2))], &[1]);
        check(&[(Some(1), Some(2)), (Some(2), Some(1)), (Some(2), Some(2))], &[0, 1]);
        check(&[(Some(0), Some(0)), (Some(1), Some(0))], &[0]);
    }

    #[test]
    fn without_a_price_one_comes_last() {
        check(&[(None, None), (Some(1_000_000), Some(9_000_000))], &[1]);
        check(&[(Some(0), None), (None, None)], &[0]);
        check(&[(None, None), (None, None)], &[0, 1]);
    }
}
