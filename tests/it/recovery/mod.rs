//! Streams that break off, over real sockets: what of them is recovered, how, and what is not.

#![cfg(test)]

mod calls;
mod endpoints;

use serde_json::Value;

use crate::support::chat;
use crate::support::script::{Gate, Step, send};
use crate::support::sidecar::{Pillion, Start, deployment};
use crate::support::upstream::Upstream;
use crate::support::wire::Answer;

/// `first` is always asked first, `other` only after a failure. An hour's window ends by its
/// tokens alone.
fn config(streams: &str, router: &str, first: &Upstream, other: &Upstream) -> String {
    format!(
        "router_settings: {{routing_strategy: simple-shuffle, num_retries: 1{router}}}\n\
         pillion: {{streams: {{{streams}}}}}\nmodel_list:\n{}{}",
        deployment("gpt", "first", &first.base(), ", weight: 1"),
        deployment("gpt", "other", &other.base(), ", weight: 0"),
    )
}

const HOLD: &str = "recovery: hold, hold_tokens: 3, hold_time: 60s";

async fn start(streams: &str, first: &Upstream, other: &Upstream) -> Pillion {
    Start::with(config(streams, "", first, other)).ready().await
}

/// A stream of OpenAI's that says these words and then does something else.
fn chunks(words: &[&str], then: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let mut steps = vec![send(chat::STREAM_HEAD)];
    steps.extend(words.iter().map(|word| send(chat::delta(word))));
    steps.extend(then);
    steps
}

fn whole(words: &[&str]) -> Vec<Step> {
    chunks(words, [send(chat::ending())])
}

/// The same in Anthropic's words.
fn message(words: &[&str], then: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let mut steps = vec![
        send(chat::STREAM_HEAD),
        send(chat::event(
            r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}"#,
        )),
        send(chat::event(
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        )),
    ];
    steps.extend(words.iter().map(|word| {
        send(chat::event(&format!(
            r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{word}"}}}}"#
        )))
    }));
    steps.extend(then);
    steps
}

fn whole_message(words: &[&str]) -> Vec<Step> {
    let ending = [
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":4}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let ending = ending.map(|data| send(chat::event(data)));
    message(words, ending.into_iter().chain([send(chat::LAST_CHUNK)]))
}

/// A call of Messages.
fn messages(more: &str) -> String {
    let body = chat::body("gpt", &format!(",\"max_tokens\":90,\"stream\":true{more}"));
    chat::post(&body).replace("/v1/chat/completions", "/v1/messages")
}

/// What the events of an answer say.
fn events(answer: &Answer) -> Vec<Value> {
    let data = answer.body.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

/// The text that a client puts together, at any endpoint.
fn text(answer: &Answer) -> String {
    let said = |event: &Value| {
        let places = ["/choices/0/delta/content", "/choices/0/text", "/delta/text", "/delta"];
        places.iter().find_map(|place| event.pointer(place)?.as_str().map(str::to_owned))
    };
    events(answer).iter().filter_map(said).collect()
}

fn errors(answer: &Answer) -> Vec<Value> {
    events(answer).into_iter().filter(|event| event.get("error").is_some()).collect()
}

async fn recoveries(sidecar: &Pillion, outcome: &str) -> u64 {
    sidecar.metrics().await.sum("pillion_stream_recoveries_total", &[("outcome", outcome)])
}

/// Every way in which a stream can break off, but for silence.
fn breaks() -> Vec<Vec<Step>> {
    vec![
        vec![Step::Close],
        vec![send(chat::LAST_CHUNK)],
        vec![send(chat::event("{\"error\":{\"message\":\"overloaded\",\"code\":503}}"))],
        vec![send(chat::event("{broken"))],
        vec![send(chat::chunk("data: {\"error\":{\"message\":\"late\"}}")), send(chat::LAST_CHUNK)],
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_in_the_window_is_never_seen() {
    for broken in breaks() {
        let first = Upstream::playing(chunks(&["lost ", "too "], broken)).await;
        let other = Upstream::playing(whole(&["one ", "two ", "three ", "four"])).await;
        let sidecar = start(HOLD, &first, &other).await;
        let answer = sidecar.ask(chat::streamed("gpt")).await;
        assert!(answer.is_done() && errors(&answer).is_empty(), "{answer:?}");
        assert_eq!(text(&answer), "one two three four");
        assert_eq!(answer.head.header("x-litellm-attempted-retries"), Some("1"));
        let record = &sidecar.recorded(1).await[0];
        assert_eq!((&record["recovery"], &record["end"]), (&"unseen".into(), &"complete".into()));
        assert_eq!((&record["tries"], &record["deployment"]), (&2.into(), &"other".into()));
        assert_eq!(record["gen_ai.usage.output_tokens"], chat::OUTPUT, "{record}");
        assert_eq!(sidecar.tries("first", "success").await, 0);
        assert_eq!(recoveries(&sidecar, "unseen").await, 1);
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_in_the_window_is_never_seen_in_any_dialect() {
    let first = Upstream::playing(message(&["lost"], [Step::Close])).await;
    let other = Upstream::playing(whole_message(&["one ", "two"])).await;
    let to_anthropic =
        config(HOLD, "", &first, &other).replace("model: openai/", "model: anthropic/");
    let sidecar = Start::with(to_anthropic).ready().await;
    let answer = sidecar.ask(chat::streamed("gpt")).await;
    assert!(answer.is_done() && text(&answer) == "one two", "{answer:?}");
    let answer = sidecar.ask(messages("")).await;
    assert!(errors(&answer).is_empty() && text(&answer) == "one two", "{answer:?}");
    assert_eq!(answer.body.matches("\"message_start\"").count(), 1, "{answer:?}");
    sidecar.stop().await;

    let first = Upstream::playing(chunks(&["lost"], [Step::Close])).await;
    let other = Upstream::playing(whole(&["one ", "two"])).await;
    let sidecar = start(HOLD, &first, &other).await;
    let answer = sidecar.ask(messages("")).await;
    assert!(errors(&answer).is_empty() && text(&answer) == "one two", "{answer:?}");
    assert!(answer.body.contains("message_stop"), "{answer:?}");
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_after_the_window_ends_with_an_error() {
    let first = Upstream::playing(chunks(&["a ", "b ", "c"], [Step::Close])).await;
    let other = Upstream::silent().await;
    for streams in [HOLD, "recovery: hold, hold_time: 1ms, hold_tokens: 1", "recovery: none", ""] {
        let sidecar = start(streams, &first, &other).await;
        let answer = sidecar.ask(chat::streamed("gpt")).await;
        assert!(!answer.is_done() && text(&answer) == "a b c", "{answer:?}");
        assert_eq!(errors(&answer).len(), 1, "{answer:?}");
        let record = &sidecar.recorded(1).await[0];
        assert_eq!((&record["end"], &record["recovery"]), (&"truncated".into(), &Value::Null));
        assert!(other.requests().is_empty());
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_comes_at_the_end_of_the_window() {
    // By its tokens, with the rest still to come.
    let gate = Gate::shut();
    let rest = [Step::Gate(gate.clone()), send(chat::delta("d")), send(chat::ending())];
    let first = Upstream::playing(chunks(&["a ", "b ", "c "], rest)).await;
    let other = Upstream::silent().await;
    let sidecar = start(HOLD, &first, &other).await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::streamed("gpt")).await;
    wire.until_text("\"c \"").await;
    gate.open();
    let answer = wire.answer().await;
    assert!(answer.is_done() && text(&answer) == "a b c d", "{answer:?}");
    sidecar.stop().await;

    // By its time, with fewer tokens than it has room for.
    let gate = Gate::shut();
    let rest = [Step::Gate(gate.clone()), send(chat::delta("b")), send(chat::ending())];
    let first = Upstream::playing(chunks(&["a "], rest)).await;
    let sidecar = start("recovery: hold, hold_time: 50ms", &first, &other).await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::streamed("gpt")).await;
    wire.until_text("\"a \"").await;
    gate.open();
    let answer = wire.answer().await;
    assert!(answer.is_done() && text(&answer) == "a b", "{answer:?}");
    let record = &sidecar.recorded(1).await[0];
    assert!(record["ttft_ms"].as_f64().unwrap() >= 50.0, "{record}");
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_in_the_window_ends_the_call() {
    let first = Upstream::playing(chunks(&["a "], [])).await;
    let other = Upstream::silent().await;
    let sidecar = start(HOLD, &first, &other).await;
    let mut wire = sidecar.wire().await;
    wire.send(chat::streamed("gpt")).await;
    first.received(1).await;
    drop(wire);
    first.closed(0).await;
    let record = &sidecar.recorded(1).await[0];
    assert_eq!((&record["end"], &record["tries"]), (&"abandoned".into(), &1.into()), "{record}");
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_group_may_do_otherwise_than_all() {
    let first = Upstream::playing(chunks(&["a ", "b"], [Step::Close])).await;
    let other = Upstream::playing(whole(&["one"])).await;
    let text_of = config(HOLD, "", &first, &other)
        .replace("pillion: {", "pillion: {groups: {gpt: {streams: {recovery: none}}}, ");
    let sidecar = Start::with(text_of).ready().await;
    let answer = sidecar.ask(chat::streamed("gpt")).await;
    assert!(!answer.is_done() && text(&answer) == "a b", "{answer:?}");
    sidecar.stop().await;
}

const RESTART: &str = "recovery: restart";

/// Events of a stream under another id.
fn other_ids(steps: Vec<Step>) -> Vec<Step> {
    let renamed = |step| match step {
        Step::Send(bytes) => {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            send(
                text.replace("\"id\":\"c\"", "\"id\":\"z\"")
                    .replace("\"id\":\"m\"", "\"id\":\"z\""),
            )
        }
        other => other,
    };
    steps.into_iter().map(renamed).collect()
}

/// One answer and one end, under one id, with nothing said twice.
#[track_caller]
fn check_whole(answer: &Answer, want: &str) {
    assert_eq!(text(answer), want, "{answer:?}");
    assert!(errors(answer).is_empty(), "{answer:?}");
    assert!(!answer.body.contains("\"z\""), "one id: {answer:?}");
    let ends = if answer.body.contains("\"message_start\"") {
        ["\"type\":\"message_start\"", "\"type\":\"message_stop\""]
    } else if answer.body.contains("\"response.created\"") {
        ["\"type\":\"response.created\"", "\"type\":\"response.completed\""]
    } else {
        ["data: [DONE]\n", "\"finish_reason\":\"stop\""]
    };
    for end in ends {
        assert_eq!(answer.body.matches(end).count(), 1, "{end}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_answer_goes_on_where_the_first_broke_off() {
    for broken in breaks() {
        let first = Upstream::playing(chunks(&["one ", "two "], broken)).await;
        let other = Upstream::playing(other_ids(whole(&["one two", " three ", "four"]))).await;
        let sidecar = start(RESTART, &first, &other).await;
        let answer = sidecar.ask(chat::streamed("gpt")).await;
        check_whole(&answer, "one two three four");
        assert_eq!(answer.body.matches(": pillion restarted deployment=other\n").count(), 1);
        let record = &sidecar.recorded(1).await[0];
        assert_eq!(
            (&record["recovery"], &record["end"]),
            (&"restarted".into(), &"complete".into())
        );
        assert_eq!((&record["deployment"], &record["tries"]), (&"other".into(), &2.into()));
        assert_eq!(record["gen_ai.usage.output_tokens"], chat::OUTPUT, "{record}");
        assert_eq!((&record["retries"], &record["error.type"]), (&0.into(), &Value::Null));
        let metrics = sidecar.metrics().await;
        let of = |name, deployment| metrics.sum(name, &[("deployment", deployment)]);
        assert_eq!(of("pillion_tokens_total", "first"), 0);
        assert!(of("pillion_recovery_tokens_total", "first") > 2);
        assert_eq!(of("pillion_recovery_tokens_total", "other"), 0);
        assert_eq!(sidecar.tries("first", "success").await, 0);
        assert_eq!(sidecar.tries("other", "success").await, 1);
        assert_eq!(recoveries(&sidecar, "restarted").await, 1);
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_answer_goes_on_in_any_dialect() {
    let first = Upstream::playing(message(&["one ", "two"], [Step::Close])).await;
    let other = Upstream::playing(other_ids(whole_message(&["one", " two", " three"]))).await;
    let to_anthropic =
        config(RESTART, "", &first, &other).replace("model: openai/", "model: anthropic/");
    let sidecar = Start::with(to_anthropic).ready().await;
    check_whole(&sidecar.ask(messages("")).await, "one two three");
    check_whole(&sidecar.ask(chat::streamed("gpt")).await, "one two three");
    sidecar.rests().await;
    sidecar.stop().await;

    let first = Upstream::playing(chunks(&["one ", "two"], [Step::Close])).await;
    let other = Upstream::playing(other_ids(whole(&["one", " two", " three"]))).await;
    let sidecar = start(RESTART, &first, &other).await;
    check_whole(&sidecar.ask(messages("")).await, "one two three");
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_another_answer_is_told() {
    let first = Upstream::playing(chunks(&["one ", "two "], [Step::Close])).await;
    let refused = vec![send(chat::json(400, "{\"error\":{\"message\":\"no prefill\"}}"))];
    let seconds = [
        (whole(&["one ", "to three"]), "differed"),
        (whole(&["one "]), "differed"),
        (chunks(&["one ", "two"], [Step::Close]), "failed"),
        (refused, "failed"),
    ];
    for (steps, outcome) in seconds {
        let other = Upstream::playing(steps).await;
        let sidecar = start(RESTART, &first, &other).await;
        let answer = sidecar.ask(chat::streamed("gpt")).await;
        assert!(!answer.is_done() && text(&answer) == "one two ", "{answer:?}");
        let told = errors(&answer);
        assert_eq!(told.len(), 1, "{answer:?}");
        assert!(told[0]["error"]["message"].as_str().unwrap().contains("broke off"), "{told:?}");
        let record = &sidecar.recorded(1).await[0];
        assert_eq!((&record["recovery"], &record["end"]), (&outcome.into(), &"truncated".into()));
        assert_eq!((&record["deployment"], &record["tries"]), (&"first".into(), &2.into()));
        assert_eq!(record["error.type"], "connection");
        assert_eq!(recoveries(&sidecar, outcome).await, 1);
        assert_eq!(sidecar.tries("other", "success").await, 0);
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_stream_that_breaks_off_is_the_last() {
    let first = Upstream::playing(chunks(&["one "], [Step::Close])).await;
    let other = Upstream::playing(chunks(&["one ", "two"], [Step::Close])).await;
    let sidecar = start(RESTART, &first, &other).await;
    let answer = sidecar.ask(chat::streamed("gpt")).await;
    assert!(!answer.is_done() && text(&answer) == "one two", "{answer:?}");
    assert_eq!(errors(&answer).len(), 1, "{answer:?}");
    let record = &sidecar.recorded(1).await[0];
    assert_eq!((&record["end"], &record["deployment"]), (&"truncated".into(), &"other".into()));
    assert_eq!((first.requests().len(), other.requests().len()), (1, 1));
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_compared_or_would_act_twice_is_not_asked_for_again() {
    let signed = chat::event(
        "{\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"t\",\"extra_content\":{\"signature\":\"s\"},\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]},\"finish_reason\":null}]}",
    );
    let cases = [
        (chunks(&["one "], [send(signed), Step::Close]), "", "ineligible"),
        (chunks(&["one "], [Step::Close]), ",\"n\":2", ""),
        (chunks(&["one "], [Step::Close]), ",\"store\":true", ""),
        (
            chunks(
                &["one "],
                [send(chat::event(
                    "{\"error\":{\"message\":\"filtered\",\"code\":\"content_filter\"}}",
                ))],
            ),
            "",
            "ineligible",
        ),
    ];
    for (steps, more, outcome) in cases {
        let (first, other) = (Upstream::playing(steps).await, Upstream::silent().await);
        let sidecar = start(RESTART, &first, &other).await;
        let call = chat::post(&chat::body("gpt", &format!(",\"stream\":true{more}")));
        let answer = sidecar.ask(call).await;
        assert!(!answer.is_done() && errors(&answer).len() == 1, "{answer:?}");
        let record = &sidecar.recorded(1).await[0];
        assert_eq!(record["recovery"].as_str().unwrap_or_default(), outcome, "{record}");
        assert!(other.requests().is_empty());
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_during_a_recovery_ends_both() {
    // Before the second answers, and while it says again what was said.
    for second in [Vec::new(), chunks(&["one "], [])] {
        let first =
            Upstream::playing(chunks(&["one ", "two "], [Step::Pause(std::time::Duration::ZERO)]))
                .await;
        let other = Upstream::playing(second).await;
        let text_of = config(RESTART, "", &first, &other)
            .replace("pillion: {", "pillion: {timeouts: {stall: 100ms}, ");
        let sidecar = Start::with(text_of).ready().await;
        let mut wire = sidecar.wire().await;
        wire.send(chat::streamed("gpt")).await;
        wire.until_text("two ").await;
        other.received(1).await;
        // Who has stalled is closed before the client leaves.
        first.closed(0).await;
        drop(wire);
        other.closed(0).await;
        sidecar.rests().await;
        let record = &sidecar.recorded(1).await[0];
        assert_eq!(
            (&record["end"], &record["tries"]),
            (&"abandoned".into(), &2.into()),
            "{record}"
        );
        assert_eq!((&record["deployment"], &record["status"]), (&"first".into(), &499.into()));
        assert_eq!(sidecar.tries("first", "timeout").await, 1);
        sidecar.stop().await;
    }
}

const CONTINUE: &str = "recovery: continue";
const BEGUN: [&str; 3] = ["The first half of ", "an answer that is long ", "enough to be "];
const SENT: &str = "The first half of an answer that is long enough to be ";

/// `other` takes a prefill as vLLM does; `first` need not.
fn to_vllm(first: &Upstream, other: &Upstream) -> String {
    let text = config(CONTINUE, "", first, other);
    let (before, entry) = text.rsplit_once("model: openai/m").unwrap();
    format!("{before}model: hosted_vllm/m{entry}")
}

fn to_claude(model: &str, first: &Upstream, other: &Upstream) -> String {
    config(CONTINUE, "", first, other).replace("openai/m", &format!("anthropic/{model}"))
}

fn streamed(more: &str) -> String {
    chat::post(&chat::body("gpt", &format!(",\"stream\":true{more}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_can_writes_on_behind_what_was_sent() {
    for broken in breaks() {
        let first = Upstream::playing(chunks(&BEGUN, broken)).await;
        let other = Upstream::playing(other_ids(whole(&[" continued", " here"]))).await;
        let sidecar = Start::with(to_vllm(&first, &other)).ready().await;
        let more = ",\"max_tokens\":50,\"stream_options\":{\"include_usage\":true}";
        let answer = sidecar.ask(streamed(more)).await;
        check_whole(&answer, &format!("{SENT}continued here"));
        assert_eq!(answer.body.matches(": pillion continued deployment=other\n").count(), 1);
        let asked: Value = serde_json::from_slice(&other.requests()[0].request.body).unwrap();
        let last = &asked["messages"][1];
        assert_eq!(
            (&last["role"], &last["content"]),
            (&"assistant".into(), &SENT.trim_end().into())
        );
        assert_eq!(asked["continue_final_message"], true);
        assert_eq!(asked["add_generation_prompt"], false);
        assert_eq!(asked["max_tokens"], 47);
        let usage = events(&answer).into_iter().find_map(|it| it.get("usage").cloned()).unwrap();
        assert_eq!(usage["completion_tokens"], 3 + chat::OUTPUT);
        assert_eq!(usage["prompt_tokens"], chat::INPUT - 3);
        let record = &sidecar.recorded(1).await[0];
        assert_eq!(
            (&record["recovery"], &record["end"]),
            (&"continued".into(), &"complete".into())
        );
        assert_eq!((&record["deployment"], &record["tries"]), (&"other".into(), &2.into()));
        assert_eq!(record["gen_ai.usage.output_tokens"], chat::OUTPUT, "{record}");
        let metrics = sidecar.metrics().await;
        assert!(metrics.sum("pillion_recovery_tokens_total", &[("deployment", "first")]) > 3);
        assert_eq!(recoveries(&sidecar, "continued").await, 1);
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_writes_on_in_any_dialect() {
    let first = Upstream::playing(message(&BEGUN, [Step::Close])).await;
    let other =
        Upstream::playing(other_ids(whole_message(&[SENT.trim_end(), " continued", " here"])))
            .await;
    let sidecar = Start::with(to_claude("claude-sonnet-4-5", &first, &other)).ready().await;
    let want = format!("{SENT}continued here");
    let answer = sidecar.ask(messages("")).await;
    check_whole(&answer, &want);
    let asked: Value = serde_json::from_slice(&other.requests()[0].request.body).unwrap();
    assert_eq!(asked["messages"][1]["content"], SENT.trim_end(), "{asked}");
    assert_eq!(asked["max_tokens"], 87);
    let last = events(&answer).into_iter().find(|it| it["type"] == "message_delta").unwrap();
    assert_eq!(last["usage"]["output_tokens"], 3 + 4);
    check_whole(&sidecar.ask(chat::streamed("gpt")).await, &want);
    sidecar.rests().await;
    sidecar.stop().await;

    let first = Upstream::playing(chunks(&BEGUN, [Step::Close])).await;
    let other = Upstream::playing(other_ids(whole(&["continued", " here"]))).await;
    let sidecar = Start::with(to_vllm(&first, &other)).ready().await;
    check_whole(&sidecar.ask(messages("")).await, &want);
    let asked: Value = serde_json::from_slice(&other.requests()[0].request.body).unwrap();
    assert_eq!(asked["messages"][1]["content"], SENT.trim_end(), "{asked}");
    sidecar.rests().await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_prefill_never_hides_the_first_failure() {
    let first = Upstream::playing(chunks(&BEGUN, [Step::Close])).await;
    let refused = vec![send(chat::json(400, "{\"error\":{\"message\":\"no prefill here\"}}"))];
    let called = chunks(
        &[],
        [send(chat::event(
            "{\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\"}}]},\"finish_reason\":null}]}",
        ))],
    );
    for (second, outcome) in [(refused, "failed"), (called, "differed")] {
        let other = Upstream::playing(second).await;
        let sidecar = Start::with(to_vllm(&first, &other)).ready().await;
        let answer = sidecar.ask(streamed("")).await;
        assert!(!answer.is_done() && text(&answer) == SENT, "{answer:?}");
        let told = errors(&answer);
        assert!(told[0]["error"]["message"].as_str().unwrap().contains("broke off"), "{told:?}");
        assert!(!answer.body.contains("no prefill here") && told.len() == 1, "{answer:?}");
        let record = &sidecar.recorded(1).await[0];
        assert_eq!((&record["recovery"], &record["tries"]), (&outcome.into(), &2.into()));
        assert_eq!((&record["deployment"], &record["end"]), (&"first".into(), &"truncated".into()));
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_more_than_plain_text_is_not_written_on() {
    let thinking = chat::event(
        "{\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"Hm\"},\"finish_reason\":null}]}",
    );
    let long = || chunks(&BEGUN, [Step::Close]);
    let mut thought = vec![send(chat::STREAM_HEAD), send(thinking)];
    thought.extend(long().into_iter().skip(1));
    let cases = [
        (long(), ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"),
        (long(), ",\"response_format\":{\"type\":\"json_object\"}"),
        (long(), ",\"reasoning_effort\":\"low\""),
        (long(), ",\"stop\":[\"x\"]"),
        (long(), ",\"n\":2"),
        (thought, ""),
        (chunks(&["too short"], [Step::Close]), ""),
    ];
    for (steps, more) in cases {
        let (first, other) = (Upstream::playing(steps).await, Upstream::silent().await);
        let sidecar = Start::with(to_vllm(&first, &other)).ready().await;
        let answer = sidecar.ask(streamed(more)).await;
        assert!(!answer.is_done() && errors(&answer).len() == 1, "{more}: {answer:?}");
        sidecar.rests().await;
        assert!(other.requests().is_empty(), "{more}");
        sidecar.stop().await;
    }
    // Nobody of the group is known to take it: the newer models of Anthropic refuse it.
    let first = Upstream::playing(message(&BEGUN, [Step::Close])).await;
    let other = Upstream::silent().await;
    let sidecar = Start::with(to_claude("claude-opus-4-6", &first, &other)).ready().await;
    let answer = sidecar.ask(messages("")).await;
    assert_eq!((errors(&answer).len(), other.requests().len()), (1, 0), "{answer:?}");
    assert_eq!(sidecar.recorded(1).await[0]["recovery"], "failed");
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_off_behind_its_end_is_whole() {
    let ending = chat::ending();
    let open = ending.strip_suffix(chat::LAST_CHUNK).unwrap().to_owned();
    let first = Upstream::playing(chunks(&["one"], [send(open), Step::Close])).await;
    let other = Upstream::silent().await;
    for streams in ["", HOLD, RESTART, CONTINUE] {
        let sidecar = start(streams, &first, &other).await;
        let answer = sidecar.ask(chat::streamed("gpt")).await;
        assert!(answer.is_done() && errors(&answer).is_empty(), "{answer:?}");
        let record = &sidecar.recorded(1).await[0];
        assert_eq!((&record["end"], &record["recovery"]), (&"complete".into(), &Value::Null));
        assert_eq!(sidecar.tries("first", "success").await, 1);
        assert!(other.requests().is_empty());
        sidecar.rests().await;
        sidecar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_keeps_to_the_time_of_the_request() {
    // Its own time is over when the first stream is given up, or while the second is waited for.
    for total in ["1", "3"] {
        let first = Upstream::playing(chunks(&["one "], [])).await;
        let other = Upstream::silent().await;
        let text_of = config(RESTART, "", &first, &other)
            .replace("pillion: {", "pillion: {timeouts: {stall: 1500ms}, ");
        let sidecar = Start::with(text_of).ready().await;
        let header = format!("\r\nx-pillion-timeout-total: {total}\r\n");
        let answer = sidecar.ask(chat::streamed("gpt").replacen("\r\n", &header, 1)).await;
        let told = errors(&answer);
        assert!(told.len() == 1 && text(&answer) == "one ", "{answer:?}");
        let why = told[0]["error"]["message"].as_str().unwrap();
        assert!(why.contains("fell silent"), "the first failure: {why}");
        let tries = if total == "1" { 1 } else { 2 };
        let record = &sidecar.recorded(1).await[0];
        assert_eq!((&record["tries"], &record["recovery"]), (&tries.into(), &"failed".into()));
        assert_eq!(other.requests().len(), tries - 1);
        sidecar.rests().await;
        sidecar.stop().await;
    }
}
