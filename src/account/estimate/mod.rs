//! How many tokens a request or an answer has, where the provider does not say.
//!
//! A guess for limits, routing and interrupted streams. Long texts of common languages come out
//! within a tenth or so, single sentences may be a third off; a bill is made from it only where
//! nothing better ever comes. Promises never to fail: what cannot be read counts nothing. Knows
//! no model; vocabularies differ less than the guess is off.

mod body;
mod text;

use crate::lexicon::Tokens;
use crate::protocol::{Endpoint, Fields};
use body::{Reading, Tally};

/// About how many tokens a text has.
///
/// A text never has fewer than its own beginning, and one that is more than line ends at least
/// one.
pub fn tokens(text: &str) -> Tokens {
    let mut count = text::Count::default();
    count.text(text);
    count.tokens()
}

/// About how many tokens the prompt of a request has: its texts, its tools and its framing.
///
/// Images, audio and files count fixed numbers; what is in them is not read.
pub fn prompt(endpoint: Endpoint, body: &[u8], fields: &Fields) -> Tokens {
    let mut tally = Tally::default();
    let mut read = |reading, names: &[&str]| {
        for name in names {
            if let Some(json) = fields.get(body, name) {
                tally.read(json, reading);
            }
        }
    };
    match endpoint {
        Endpoint::ChatCompletions => {
            read(Reading::Turns, &["messages"]);
            read(Reading::Json, &["functions", "response_format", "tools"]);
            tally.count.whole(REPLY);
        }
        Endpoint::Completions => read(Reading::Plain, &["prompt", "suffix"]),
        Endpoint::CountTokens | Endpoint::Messages => {
            read(Reading::Turns, &["messages"]);
            read(Reading::Content, &["system"]);
            read(Reading::Json, &["tools"]);
            tally.count.whole(REPLY);
        }
        Endpoint::Embeddings => read(Reading::Plain, &["input"]),
        Endpoint::Responses => {
            read(Reading::Turns, &["input"]);
            read(Reading::Content, &["instructions"]);
            read(Reading::Json, &["text", "tools"]);
            tally.count.whole(REPLY);
        }
    }
    tally.count.tokens()
}

/// What opens the answer in the prompt.
const REPLY: Tokens = 3;

/// About how many tokens the whole answer to a request has: its texts, its reasoning and its
/// calls of tools. An embedding has none.
pub fn completion(endpoint: Endpoint, body: &[u8], fields: &Fields) -> Tokens {
    let name = match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => "choices",
        Endpoint::CountTokens | Endpoint::Embeddings => return 0,
        Endpoint::Messages => "content",
        Endpoint::Responses => "output",
    };
    let mut tally = Tally::default();
    if let Some(json) = fields.get(body, name) {
        tally.read(json, Reading::Content);
    }
    tally.count.tokens()
}

#[cfg(test)]
mod samples;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn asks(endpoint: Endpoint, body: &str, want: Tokens) {
        let fields = Fields::of(body.as_bytes()).unwrap();
        assert_eq!(prompt(endpoint, body.as_bytes(), &fields), want, "{body}");
    }

    #[track_caller]
    fn answers(endpoint: Endpoint, body: &str, want: Tokens) {
        let fields = Fields::of(body.as_bytes()).unwrap();
        assert_eq!(completion(endpoint, body.as_bytes(), &fields), want, "{body}");
    }

    #[test]
    fn common_texts_are_estimated_within_fifteen_percent() {
        for (name, text, want) in samples::SAMPLES {
            let got = tokens(text);
            println!("{name}: {got} for {want}");
            assert!(got.abs_diff(*want) * 100 <= want * 15, "{name}: {got} for {want}");
        }
    }

    #[test]
    fn a_chat_costs_its_texts_and_its_framing() {
        use Endpoint::ChatCompletions as Chat;
        // Four for the turn, 0.96 for the word, three for the reply.
        asks(Chat, r#"{"messages":[{"role":"user","content":"hello"}]}"#, 8);
        asks(Chat, r#"{"messages":[{"content":[{"text":"hello","type":"text"}]}]}"#, 8);
        // Eight for two turns; 0.96, 0.96, 1.22 for a word of seven letters, 0.84; 0.96; three.
        let two = r#"{"messages":[{"role":"system","content":"You are helpful."},
            {"role":"user","content":"h\u0069"}]}"#;
        asks(Chat, two, 16);
        // 7.96 and, for the tool: 0.96 + 0.85, 1.48 + 0.85, 0.85.
        let tool = r#"{"messages":[{"content":"hello"}],"tools":[{"type":"function"}]}"#;
        asks(Chat, tool, 13);
        // Four, 0.96 for the name, 0.84 and 0.85 for its arguments, three.
        let called = r#"{"messages":[{"role":"assistant","content":null,"tool_calls":[
            {"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]}]}"#;
        asks(Chat, called, 10);
        asks(Chat, r#"{"messages":7}"#, 3);
    }

    #[test]
    fn pictures_and_files_cost_fixed_numbers_whatever_their_size() {
        let data = "QUJD".repeat(10_000);
        let chat = |part: &str| format!(r#"{{"messages":[{{"content":[{part}]}}]}}"#);
        let parts = [
            (r#"{"type":"image_url","image_url":{"url":"DATA","detail":"low"}}"#, 85),
            (r#"{"image_url":{"detail":"high","url":"data:image/png;base64,DATA"}}"#, 765),
            (r#"{"type":"image_url","image_url":"DATA"}"#, 765),
            (r#"{"type":"input_audio","input_audio":{"data":"DATA","format":"wav"}}"#, 300),
            (r#"{"type":"file","file":{"file_data":"DATA","filename":"a.pdf"}}"#, 2000),
            (r#"{"type":"video_url","video_url":{"url":"DATA"}}"#, 2100),
            (r#"{"type":"text","text":"data:image/png;base64,DATA"}"#, 765),
        ];
        for (part, want) in parts {
            asks(Endpoint::ChatCompletions, &chat(&part.replace("DATA", &data)), want + 7);
        }
        let blocks = [
            (r#"{"type":"image","source":{"type":"base64","data":"DATA"}}"#, 765),
            (r#"{"type":"document","source":{"data":"DATA","type":"base64"}}"#, 2000),
            (r#"{"type":"document","source":{"data":"hello","type":"text"}}"#, 1),
            (r#"{"type":"document","source":{"type":"content","content":"hello"}}"#, 1),
            (r#"{"type":"image","source":{"type":"file","file_id":"f"}}"#, 765),
            (r#"{"type":"text","text":"hello","image_url":null}"#, 1),
            (r#"{"type":"redacted_thinking","data":"DATA"}"#, 0),
        ];
        for (block, want) in blocks {
            asks(Endpoint::Messages, &chat(&block.replace("DATA", &data)), want + 7);
        }
        let low = r#"{"input":[{"role":"user","content":[
            {"type":"input_image","image_url":"https://a.example/b.png","detail":"low"}]}]}"#;
        asks(Endpoint::Responses, low, 92);
    }

    #[test]
    fn every_endpoint_has_its_own_fields() {
        asks(Endpoint::Completions, r#"{"prompt":"hello world","messages":"no"}"#, 2);
        asks(Endpoint::Completions, r#"{"prompt":[["hello"],[1,2,3]],"suffix":"x"}"#, 5);
        asks(Endpoint::Embeddings, r#"{"input":[[1,2],[3]]}"#, 3);
        asks(Endpoint::Embeddings, r#"{"input":["a","b"]}"#, 2);
        // 4.96 for the turn, 0.96 for the system prompt, three.
        let message = r#"{"system":[{"type":"text","text":"x"}],"messages":[{"content":"y"}]}"#;
        asks(Endpoint::Messages, message, 9);
        asks(Endpoint::CountTokens, message, 9);
        asks(Endpoint::Responses, r#"{"input":"hello","instructions":"x"}"#, 5);
    }

    #[test]
    fn an_answer_costs_its_texts_its_reasoning_and_its_calls() {
        let chat = |message: &str| {
            format!(r#"{{"id":"x","choices":[{{"index":0,"message":{message}}}]}}"#)
        };
        let messages = [
            (r#"{"role":"assistant","content":"hello world"}"#, 2),
            (r#"{"content":"a","reasoning_content":"b c","reasoning":"b c"}"#, 3),
            (r#"{"content":"a","reasoning":null,"reasoning_content":"b c"}"#, 3),
            // 0.96, 0.84 and 0.85.
            (r#"{"tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]}"#, 3),
            (r#"{"audio":{"data":"QUJD","transcript":"hello world"}}"#, 2),
            ("null", 0),
        ];
        for (message, want) in messages {
            answers(Endpoint::ChatCompletions, &chat(message), want);
        }
        answers(Endpoint::Completions, r#"{"choices":[{"text":"a b"},{"text":"c"}]}"#, 3);
        answers(Endpoint::Embeddings, r#"{"data":[{"embedding":[0.1]}]}"#, 0);
        // 1.92; 0.96 and the input: 0.96 + 0.85, 1.85, 0.85; 0.96.
        let blocks = r#"{"role":"assistant","content":[{"type":"text","text":"a b"},
            {"type":"tool_use","id":"t","name":"f","input":{"x":1}},
            {"type":"thinking","thinking":"c","signature":"QUJD"}]}"#;
        answers(Endpoint::Messages, blocks, 8);
        let items = r#"{"output":[
            {"type":"reasoning","summary":[{"text":"a"}],"encrypted_content":"Q"},
            {"type":"message","content":[{"type":"output_text","text":"b","annotations":[]}]},
            {"type":"function_call","name":"f","arguments":"{}","call_id":"c"}]}"#;
        answers(Endpoint::Responses, items, 5);
    }

    #[test]
    fn deep_nesting_counts_what_is_above_it() {
        let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
        asks(
            Endpoint::ChatCompletions,
            &format!(r#"{{"messages":[{{"content":"hello"}},{deep}]}}"#),
            8,
        );
        let nested = format!("{}1{}", r#"{"source":"#.repeat(50_000), "}".repeat(50_000));
        asks(Endpoint::Messages, &format!(r#"{{"messages":[{{"content":[{nested}]}}]}}"#), 7);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let name = prop::sample::select(vec![
            "content",
            "type",
            "text",
            "data",
            "source",
            "image_url",
            "detail",
            "input",
            "role",
            "tool_calls",
            "function",
            "arguments",
            "reasoning",
            "message",
            "odd",
        ]);
        let word =
            prop::sample::select(vec!["text", "image", "low", "document", "data:a;base64,Q"]);
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            word.prop_map(Into::into),
            "\\PC{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::vec((name.clone(), inner), 0..5).prop_map(|pairs| {
                    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_text_has_fewer_tokens_than_its_beginning(
            head in "(?s).{0,60}",
            tail in "(?s).{0,60}",
        ) {
            let whole = [&*head, &*tail].concat();
            prop_assert!(tokens(&head) <= tokens(&whole));
        }

        #[test]
        fn no_text_has_many_more_tokens_than_characters(text in "(?s).{0,200}") {
            prop_assert!(tokens(&text) <= 1 + 3 * text.chars().count() as u64);
        }

        #[test]
        fn no_body_is_too_strange_to_estimate(
            value in any_json(),
            cut in any::<prop::sample::Index>(),
        ) {
            let names =
                ["messages", "input", "prompt", "system", "tools", "choices", "content", "output"];
            let body: serde_json::Map<_, _> =
                names.into_iter().map(|name| (name.to_owned(), value.clone())).collect();
            let body = serde_json::to_vec(&body).unwrap();
            let fields = Fields::of(&body).unwrap();
            // Spans that belong to another text must not hurt either.
            for text in [&body[..], &body[..cut.index(body.len())], b"\xff\xfe{"] {
                for endpoint in Endpoint::ALL {
                    prompt(endpoint, text, &fields);
                    completion(endpoint, text, &fields);
                }
            }
        }
    }
}
