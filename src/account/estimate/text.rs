//! How many tokens a text has, without a vocabulary.
//!
//! One pass over the characters: runs of a class cost a weight per run, per character or per
//! group. The weights of English, code, Chinese, Japanese and Russian are a least-squares fit to
//! `o200k_base`, whose counts are within a few percent of most other families on English and
//! code; those of other scripts are set by hand on less text. Promises no heap, and that a text
//! never has fewer tokens than its beginning. Knows no JSON.

use crate::lexicon::Tokens;

/// Adds up texts. Whole tokens come out only at the end, so that many short texts do not each
/// round up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    hundredths: u64,
}

impl Count {
    /// Adds a text that stands for itself.
    pub(super) fn text(&mut self, text: &str) {
        let mut run = Run::default();
        for sign in text.chars() {
            self.hundredths(run.next(sign));
        }
    }

    /// Adds a number of whole tokens.
    pub(super) fn whole(&mut self, tokens: Tokens) {
        self.hundredths(tokens.saturating_mul(100));
    }

    /// Adds hundredths of a token.
    pub(super) fn hundredths(&mut self, hundredths: u64) {
        self.hundredths = self.hundredths.saturating_add(hundredths);
    }

    /// The sum to the nearest token; what was anything at all is at least one.
    pub(super) fn tokens(self) -> Tokens {
        match self.hundredths {
            0 => 0,
            1..100 => 1,
            more => more.saturating_add(50) / 100,
        }
    }
}

/// The run of characters of one class that the text is in.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    class: Option<Class>,
    /// Characters of the run so far; of a word, letters of the piece.
    length: u32,
    /// Whether the letter before was a small one.
    small: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Arabic.
    Arabic,
    /// A space or tab.
    Blank,
    /// Cyrillic.
    Cyrillic,
    /// A digit of ours.
    Digit,
    /// Greek.
    Greek,
    /// Han.
    Han,
    /// Hangul.
    Hangul,
    /// Hebrew.
    Hebrew,
    /// Devanagari and its relatives, Thai and Lao.
    Indic,
    /// Kana.
    Kana,
    /// A Latin letter with or without an accent.
    Latin,
    /// The end of a line.
    Line,
    /// ASCII punctuation.
    Punctuation,
    /// Anything else: emoji, symbols, rare scripts.
    Rare,
    /// Quotes, dashes, bullets and arrows as word processors set them.
    Typographic,
}

impl Run {
    /// What one more character costs, in hundredths of a token. Never below zero, which is why
    /// longer texts never cost less.
    fn next(&mut self, sign: char) -> u64 {
        // Most characters of most texts. `any` says the same of them and takes three times as long.
        if sign.is_ascii_lowercase() && self.class == Some(Class::Latin) {
            self.small = true;
            self.length = self.length.saturating_add(1);
            return if self.length > 6 { 26 } else { 0 };
        }
        self.any(sign)
    }

    /// The same for any character, by the tables below.
    fn any(&mut self, sign: char) -> u64 {
        let class = class(sign);
        let capital = sign.is_uppercase();
        // `camelCase` is two pieces, `HTTP` is one.
        let split = class == Class::Latin && capital && self.small;
        self.length = match self.class {
            Some(before) if before == class && !split => self.length.saturating_add(1),
            _ => 1,
        };
        self.class = Some(class);
        self.small = class == Class::Latin && !capital;
        weight(class, self.length) + accent(sign)
    }
}

/// The price of the character that makes a run this long.
const fn weight(class: Class, length: u32) -> u64 {
    // The price of the first, how many are paid with it, and the price of each one more.
    let (first, free, more) = match class {
        Class::Arabic => (36, 1, 36),
        // A single space belongs to the word behind it; only the second makes a run.
        Class::Blank => return if length == 2 { 132 } else { 0 },
        Class::Cyrillic => (115, 4, 17),
        // Groups of three.
        Class::Digit => return if length % 3 == 1 { 110 } else { 0 },
        Class::Greek => (120, 3, 32),
        Class::Han => (63, 1, 63),
        Class::Hangul => (73, 1, 73),
        Class::Hebrew => (43, 1, 43),
        Class::Indic => (40, 1, 40),
        Class::Kana => (67, 1, 67),
        Class::Latin => (96, 6, 26),
        Class::Line => (0, 1, 0),
        Class::Punctuation => (84, 2, 1),
        Class::Rare => (200, 1, 200),
        Class::Typographic => (60, 1, 60),
    };
    match length {
        1 => first,
        _ if length <= free => 0,
        _ => more,
    }
}

/// What a letter outside ASCII costs beside its place in the word: it breaks the common pieces,
/// most so those of central Europe.
const fn accent(sign: char) -> u64 {
    match sign {
        'À'..='ÿ' | '\u{180}'..='\u{36f}' | '\u{1e00}'..='\u{1eff}' => 30,
        '\u{100}'..='\u{17f}' => 150,
        _ => 0,
    }
}

fn class(sign: char) -> Class {
    match sign {
        'a'..='z' | 'A'..='Z' => Class::Latin,
        ' ' | '\t' | '\u{a0}' => Class::Blank,
        '\n' | '\r' => Class::Line,
        '0'..='9' => Class::Digit,
        '\0'..='\x7f' => Class::Punctuation,
        '×' | '÷' => Class::Rare,
        'À'..='\u{24f}' | '\u{300}'..='\u{36f}' | '\u{1e00}'..='\u{1eff}' => Class::Latin,
        '\u{370}'..='\u{3ff}' => Class::Greek,
        '\u{400}'..='\u{52f}' => Class::Cyrillic,
        '\u{590}'..='\u{5ff}' => Class::Hebrew,
        '\u{600}'..='\u{8ff}' => Class::Arabic,
        '\u{900}'..='\u{eff}' => Class::Indic,
        '\u{2010}'..='\u{2027}' | '\u{2190}'..='\u{21ff}' | '\u{2500}'..='\u{257f}' => {
            Class::Typographic
        }
        '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' => Class::Kana,
        '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7af}' => {
            Class::Hangul
        }
        '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Class::Han,
        _ => Class::Rare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, hundredths: u64) {
        let mut count = Count::default();
        count.text(text);
        assert_eq!(count.hundredths, hundredths, "{text:?}");
    }

    #[test]
    fn words_cost_a_piece_and_their_long_tails() {
        check("", 0);
        check("hello world", 96 + 96);
        check("planning", 96 + 2 * 26);
        check("getUserName", 96 * 3);
        check("HTTP", 96);
        check("x", 96);
    }

    #[test]
    fn digits_cost_in_groups_of_three() {
        check("1", 110);
        check("123", 110);
        check("1234", 220);
        check("1234567", 330);
        check("3.14", 110 + 84 + 110);
    }

    #[test]
    fn only_runs_of_blanks_cost() {
        check(" a", 96);
        check("  a", 132 + 96);
        check("a\n\t\t\tb", 96 + 132 + 96);
        check("\n\n\r\n", 0);
    }

    #[test]
    fn punctuation_costs_by_the_run() {
        check("a, b", 96 + 84 + 96);
        check("\":\"", 84 + 1);
        check("----------", 84 + 8);
    }

    #[test]
    fn other_scripts_cost_by_the_character_or_word() {
        check("北京", 2 * 63);
        check("ひらカタ", 4 * 67);
        check("한국", 2 * 73);
        check("привет мир", 115 + 2 * 17 + 115);
        check("été", 96 + 2 * 30);
        check("🎉", 200);
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_through_words_leads_to_the_same_sum(text in "[a-zA-Z0-9 é.ж]{0,80}") {
            let (mut short, mut long) = (Run::default(), Run::default());
            for sign in text.chars() {
                assert_eq!(short.next(sign), long.any(sign), "{sign} in {text}");
            }
        }
    }

    #[test]
    fn sums_come_out_to_the_nearest_token_and_never_vanish() {
        for (hundredths, want) in
            [(0, 0), (1, 1), (99, 1), (149, 1), (150, 2), (u64::MAX, u64::MAX / 100)]
        {
            assert_eq!(Count { hundredths }.tokens(), want, "{hundredths}");
        }
    }
}
