//! The recovery of text completions and of Responses.

use serde_json::{Value, json};

use super::{
    BEGUN, CONTINUE, RESTART, SENT, check_whole, config, errors, events, recoveries, start, text,
};
use crate::support::chat;
use crate::support::responses::{asked, numbered, response, whole_response};
use crate::support::script::{Step, send};
use crate::support::sidecar::Start;
use crate::support::upstream::Upstream;

/// A stream of a text completion under this id, up to where something else is done.
fn texts(id: &str, words: &[&str], then: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let event = |choice: Value| {
        let event = json!({ "id": id, "object": "text_completion", "created": 1, "model": "m",
            "choices": [choice] });
        send(chat::event(&event.to_string()))
    };
    let mut steps = vec![send(chat::STREAM_HEAD)];
    steps.extend(words.iter().map(|word| {
        event(json!({ "index": 0, "text": word, "logprobs": null, "finish_reason": null }))
    }));
    steps.extend(then);
    steps
}

fn whole_texts(id: &str, words: &[&str]) -> Vec<Step> {
    // What ends a chat ends a text too.
    texts(id, words, [send(chat::ending().replace("\"id\":\"c\"", &format!("\"id\":\"{id}\"")))])
}

fn completion(more: &str) -> String {
    let body = format!("{{\"model\":\"gpt\",\"prompt\":\"Say it: \",\"stream\":true{more}}}");
    chat::post(&body).replace("/v1/chat/completions", "/v1/completions")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_text_completion_goes_on_where_the_first_broke_off() {
    let first = Upstream::playing(texts("c", &["one ", "two"], [Step::Close])).await;
    let same = (whole_texts("z", &["one", " two three"]), "restarted");
    let different = (whole_texts("z", &["one ", "to three"]), "differed");
    for (second, outcome) in [same, different] {
        let other = Upstream::playing(second).await;
        let sidecar = start(RESTART, &first, &other).await;
        let answer = sidecar.ask(completion("")).await;
        if outcome == "restarted" {
            check_whole(&answer, "one two three");
        } else {
            assert!(!answer.is_done() && text(&answer) == "one two", "{answer:?}");
            assert_eq!(errors(&answer).len(), 1, "{answer:?}");
        }
        assert_eq!(recoveries(&sidecar, outcome).await, 1);
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_completion_is_written_on_behind_its_prompt() {
    let first = Upstream::playing(texts("c", &BEGUN, [Step::Close])).await;
    let other = Upstream::playing(whole_texts("z", &[" continued", " here"])).await;
    let sidecar = start(CONTINUE, &first, &other).await;
    let more = ",\"max_tokens\":50,\"stream_options\":{\"include_usage\":true}";
    let answer = sidecar.ask(completion(more)).await;
    check_whole(&answer, &format!("{SENT}continued here"));
    assert_eq!(answer.body.matches(": pillion continued deployment=other\n").count(), 1);
    let asked: Value = serde_json::from_slice(&other.requests()[0].request.body).unwrap();
    assert_eq!(asked["prompt"], format!("Say it: {}", SENT.trim_end()));
    assert_eq!(asked["max_tokens"], 47);
    let usage = events(&answer).into_iter().find_map(|it| it.get("usage").cloned()).unwrap();
    assert_eq!(usage["completion_tokens"], 3 + chat::OUTPUT);
    let record = &sidecar.recorded(1).await[0];
    assert_eq!((&record["recovery"], &record["end"]), (&"continued".into(), &"complete".into()));
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_completion_that_is_more_than_its_text_is_not_written_on() {
    for more in [
        ",\"max_tokens\":50,\"echo\":true",
        ",\"max_tokens\":50,\"suffix\":\"end\"",
        ",\"max_tokens\":50,\"logprobs\":1",
        ",\"max_tokens\":50,\"n\":2",
        ",\"max_tokens\":50,\"best_of\":2",
        ",\"max_tokens\":50,\"prompt\":[\"a\",\"b\"]",
        // What is left of a bound that only the provider knows?
        "",
    ] {
        let first = Upstream::playing(texts("c", &BEGUN, [Step::Close])).await;
        let other = Upstream::silent().await;
        let sidecar = start(CONTINUE, &first, &other).await;
        let call = completion(more);
        let call = if more.contains("\"prompt\"") {
            chat::post(&format!("{{\"model\":\"gpt\",\"stream\":true{more}}}"))
                .replace("/v1/chat/completions", "/v1/completions")
        } else {
            call
        };
        let answer = sidecar.ask(call).await;
        assert!(!answer.is_done() && errors(&answer).len() == 1, "{more}: {answer:?}");
        sidecar.rests().await;
        assert!(other.requests().is_empty(), "{more}");
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_response_goes_on_under_its_first_names() {
    let error = json!({ "type": "error", "code": "server_error", "message": "overloaded" });
    for broken in [Step::Close, send(chat::LAST_CHUNK), numbered(5, &error)] {
        let first = Upstream::playing(response("a", &["one ", "two"], [broken])).await;
        let other = Upstream::playing(whole_response("b", &["one", " two", " three"])).await;
        let sidecar = start(RESTART, &first, &other).await;
        let answer = sidecar.ask(asked(",\"store\":false")).await;
        check_whole(&answer, "one two three");
        assert!(!answer.body.contains("_b\""), "{answer:?}");
        let all = events(&answer);
        let numbers: Vec<_> =
            all.iter().map(|it| it["sequence_number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{answer:?}");
        let last = &all.last().unwrap()["response"];
        assert_eq!((&last["id"], &last["created_at"]), (&"resp_a".into(), &1.into()));
        assert_eq!((&last["output"][0]["id"], &last["model"]), (&"msg_a".into(), &"gpt".into()));
        let record = &sidecar.recorded(1).await[0];
        assert_eq!(
            (&record["recovery"], &record["end"]),
            (&"restarted".into(), &"complete".into())
        );
        assert_eq!(record["gen_ai.usage.output_tokens"], 3, "{record}");
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_another_response_is_told_and_a_stored_one_is_not_asked_for_again() {
    let first = Upstream::playing(response("a", &["one ", "two"], [Step::Close])).await;
    let other = Upstream::playing(whole_response("b", &["one ", "to three"])).await;
    let sidecar = start(RESTART, &first, &other).await;
    let answer = sidecar.ask(asked(",\"store\":false")).await;
    assert!(text(&answer) == "one two" && errors(&answer).len() == 1, "{answer:?}");
    assert!(!answer.body.contains("response.completed"), "{answer:?}");
    assert_eq!((recoveries(&sidecar, "differed").await, other.requests().len()), (1, 1));
    // Its provider keeps it under its first name, and would keep the second as well.
    let answer = sidecar.ask(asked("")).await;
    assert!(text(&answer) == "one two" && errors(&answer).len() == 1, "{answer:?}");
    assert_eq!(other.requests().len(), 1);
    sidecar.rests().await;
    sidecar.stop().await;
    // An answer of Responses cannot be begun for another model.
    let begun = Upstream::playing(response("a", &BEGUN, [Step::Close])).await;
    let sidecar = Start::with(config(CONTINUE, "", &begun, &other)).ready().await;
    let answer = sidecar.ask(asked(",\"store\":false")).await;
    assert!(text(&answer) == SENT && errors(&answer).len() == 1, "{answer:?}");
    assert_eq!(other.requests().len(), 1);
    sidecar.stop().await;
}
