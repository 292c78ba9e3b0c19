//! Under which names a model may stand in the table.
//!
//! A wrong price is worse than none: only names that mean the same model at the same price are
//! tried. Regions, sizes and `latest` are never guessed.

/// The keys to try for a name, best first, as what stands before and behind the slash.
pub(super) fn keys<'n>(
    vendor: &'n str,
    model: &'n str,
) -> impl Iterator<Item = (&'n str, &'n str)> {
    let anonymous = ANONYMOUS.contains(&vendor);
    let own = (!anonymous).then_some((vendor, model));
    let other = ALIASES.iter().filter(move |(name, _)| *name == vendor);
    own.into_iter().chain(other.map(move |&(_, other)| (other, model))).chain(model.split_once('/'))
}

/// Vendors that are only an address: what answers there has no price of theirs.
const ANONYMOUS: [&str; 3] = ["custom_openai", "litellm_proxy", "openai_like"];

/// Vendors, and under which other prefix the table lists what they serve.
const ALIASES: [(&str, &str); 9] = [
    ("anthropic_text", "anthropic"),
    ("azure", "openai"),
    ("azure_text", "azure"),
    ("azure_text", "openai"),
    ("cohere", "cohere_chat"),
    ("cohere_chat", "cohere"),
    ("ollama_chat", "ollama"),
    ("text-completion-openai", "openai"),
    ("vertex_ai_beta", "vertex_ai"),
];

/// The name without the day at its end: `-2024-08-06`, `-20250929` or `@20250929`.
pub(super) fn undated(model: &str) -> Option<&str> {
    ["-0000-00-00", "-00000000", "@00000000"].into_iter().find_map(|form| {
        let at = model.len().checked_sub(form.len()).filter(|&at| at > 0)?;
        let (name, date) = model.split_at_checked(at)?;
        is_date(date, form).then_some(name)
    })
}

/// Whether `text` is the form with digits for its zeros that make a day of this century.
fn is_date(text: &str, form: &str) -> bool {
    let fits = text.bytes().zip(form.bytes()).all(|(byte, want)| match want {
        b'0' => byte.is_ascii_digit(),
        sign => byte == sign,
    });
    let mut digits = text.bytes().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0'));
    let mut number = |count| digits.by_ref().take(count).fold(0, |sum, digit| sum * 10 + digit);
    fits && number(2) == 20
        && number(2) < 100
        && (1..=12).contains(&number(2))
        && (1..=31).contains(&number(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_removed_only_where_it_is_a_day_at_the_end() {
        let cases = [
            ("gpt-4o-2024-08-06", Some("gpt-4o")),
            ("claude-sonnet-4-5-20250929", Some("claude-sonnet-4-5")),
            ("claude-sonnet-4-5@20250929", Some("claude-sonnet-4-5")),
            ("gpt-4o-2024-13-06", None),
            ("gpt-4o-2024-08-06-eu", None),
            ("model-12345678", None),
            ("command-r-08-2024", None),
            ("-2024-08-06", None),
            ("日本-2024-08-06", Some("日本")),
            ("2024日本08-06", None),
            ("", None),
        ];
        for (model, want) in cases {
            assert_eq!(undated(model), want, "{model}");
        }
    }

    #[test]
    fn every_key_is_tried_in_the_order_of_its_worth() {
        let of = |vendor, model| {
            let keys: Vec<_> = keys(vendor, model).map(|(a, b)| format!("{a}/{b}")).collect();
            keys.join(" ")
        };
        assert_eq!(of("openai", "gpt-4o"), "openai/gpt-4o");
        assert_eq!(of("azure", "gpt-4o"), "azure/gpt-4o openai/gpt-4o");
        assert_eq!(of("openrouter", "openai/gpt-4o"), "openrouter/openai/gpt-4o openai/gpt-4o");
        assert_eq!(of("custom_openai", "gpt-4o"), "");
        assert_eq!(of("litellm_proxy", "openai/gpt-4o"), "openai/gpt-4o");
    }
}
