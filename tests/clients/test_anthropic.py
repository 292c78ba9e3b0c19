"""The Anthropic dialect, and both translations."""

import json

import anthropic
import fake as provider
import openai
import pytest
from pillion import HELLO, KEY, deployment

CLAUDE = "anthropic/claude-sonnet-4-5"
ASK = {"model": "claude", "max_tokens": 64, "messages": HELLO}
TOOL = {"name": "get_weather", "description": "d", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
FUNCTION = {"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": TOOL["input_schema"]}}
USE = [("toolu_1", "get_weather", '{"city": "Zürich"}'), ("toolu_2", "get_weather", '{"city": "東京"}')]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


# The Anthropic SDK to an Anthropic deployment: nothing is translated.


def test_a_message_passes(gateway, lane):
    got = gateway(deployment("claude", lane, CLAUDE)).anthropic().messages.create(**ASK, system="be brief", extra_body={"temperature": 0.2})
    assert got.content[0].text == "Hello from Claude." and got.stop_reason == "end_turn" and got.model == "claude"
    assert (got.usage.input_tokens, got.usage.output_tokens) == (12, 6)
    assert lane.last.json == {**ASK, "model": "claude-sonnet-4-5", "system": "be brief", "temperature": 0.2}
    assert lane.last.path == f"/{lane.name}/v1/messages"
    # The client's own version of the protocol goes along; only without one is there a usual one.
    assert lane.last.headers["x-api-key"] == KEY and lane.last.headers["anthropic-version"] >= "2023-06-01"
    assert "authorization" not in lane.last.headers


def test_a_streamed_message_passes(gateway, lane):
    lane.script(provider.message(thinking="let me see", tools=USE))
    with gateway(deployment("claude", lane, CLAUDE)).anthropic().messages.stream(**ASK, tools=[TOOL]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert final.model == "claude" and final.stop_reason == "tool_use" and final.usage.output_tokens == 6
    assert [b.type for b in final.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert final.content[0].thinking == "let me see" and final.content[0].signature == "c2lnbmVk"
    assert [(b.id, b.name, json.dumps(b.input, ensure_ascii=False)) for b in final.content[2:]] == USE
    assert lane.last.json["tools"] == [TOOL]
    assert "stream_options" not in lane.last.json


def test_event_names_are_kept(gateway, lane):
    got = gateway(deployment("claude", lane, CLAUDE)).post({**ASK, "stream": True}, "/v1/messages")
    names = [line.removeprefix("event: ") for line in got.text.splitlines() if line.startswith("event: ")]
    assert names[0] == "message_start" and names[-1] == "message_stop" and "ping" in names
    assert "[DONE]" not in got.text


@pytest.mark.parametrize("status,kind", [
    (400, anthropic.BadRequestError), (401, anthropic.AuthenticationError), (403, anthropic.PermissionDeniedError),
    (404, anthropic.NotFoundError), (429, anthropic.RateLimitError), (500, anthropic.InternalServerError),
])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_errors_keep_their_class(gateway, lane, status, kind, stream):
    lane.script(provider.anthropic_error(status, "the reason is blue"))
    with pytest.raises(kind) as caught:
        gateway(deployment("claude", lane, CLAUDE)).anthropic().messages.create(**ASK, stream=stream)
    assert caught.value.status_code == status and "the reason is blue" in str(caught.value)
    body = caught.value.body
    assert body["type"] == "error" and set(body["error"]) >= {"type", "message"}


def test_overload_is_a_servers_error(gateway, lane):
    lane.script(provider.anthropic_error(529))
    with pytest.raises(anthropic.APIStatusError) as caught:
        gateway(deployment("claude", lane, CLAUDE)).anthropic().messages.create(**ASK)
    assert caught.value.status_code in (500, 503, 529)


def test_an_error_event_in_the_stream_raises(gateway, lane):
    lane.script(provider.message(fail="overloaded_error"))
    with pytest.raises(anthropic.APIStatusError) as caught:
        with gateway(deployment("claude", lane, CLAUDE)).anthropic().messages.stream(**ASK) as stream:
            for _ in stream.text_stream:
                pass
    assert "fake failure in the stream" in str(caught.value)


def test_a_cut_message_is_not_whole(gateway, lane):
    lane.script(provider.message("one two three", cut=5))
    with pytest.raises(anthropic.APIError):
        with gateway(deployment("claude", lane, CLAUDE)).anthropic().messages.stream(**ASK) as stream:
            stream.get_final_message()


def test_tokens_are_counted(gateway, lane):
    got = gateway(deployment("claude", lane, CLAUDE)).anthropic().messages.count_tokens(model="claude", messages=HELLO)
    assert got.input_tokens == 42
    assert lane.last.path.endswith("/v1/messages/count_tokens") and lane.last.json["model"] == "claude-sonnet-4-5"


def test_beta_headers_reach_anthropic(gateway, lane):
    gateway(deployment("claude", lane, CLAUDE)).anthropic().messages.create(**ASK, extra_headers={"anthropic-beta": "context-1m-2025-08-07"})
    assert "context-1m-2025-08-07" in lane.last.headers["anthropic-beta"]


def test_gateway_errors_speak_anthropic(gateway, lane):
    running = gateway(deployment("claude", lane, CLAUDE))
    with pytest.raises(anthropic.APIStatusError) as caught:
        running.anthropic().messages.create(**{**ASK, "model": "nobody"})
    assert caught.value.status_code in (400, 404) and "claude" in str(caught.value)
    got = running.http.post("/v1/messages", content=b"{")
    assert got.status_code == 400 and got.json()["type"] == "error" and got.json()["error"]["type"] == "invalid_request_error"


def test_a_message_is_retried_and_falls_back(gateway, lanes):
    bad, good = lanes(2)
    bad.script(provider.anthropic_error(529))
    running = gateway(deployment("claude", bad, CLAUDE), deployment("spare", good, CLAUDE), router={"fallbacks": [{"claude": ["spare"]}]})
    got = running.anthropic().messages.create(**ASK)
    assert got.model == "spare" and (bad.count, good.count) == (1, 1)


def test_the_master_key_comes_as_x_api_key(gateway, lane):
    running = gateway(deployment("claude", lane, CLAUDE), general={"master_key": "sk-master-9"})
    assert running.anthropic(key="sk-master-9").messages.create(**ASK).model == "claude"
    assert lane.last.headers["x-api-key"] == KEY
    with pytest.raises(anthropic.AuthenticationError) as caught:
        running.anthropic(key="wrong").messages.create(**ASK)
    assert caught.value.body["type"] == "error"


def test_message_costs_are_known(gateway, lane):
    lane.script(provider.message(usage={"input_tokens": 100, "output_tokens": 10, "cache_creation_input_tokens": 40, "cache_read_input_tokens": 1000}))
    got = gateway(deployment("claude", lane, CLAUDE)).post(ASK, "/v1/messages")
    assert float(got.headers["x-litellm-response-cost"]) == pytest.approx(100 * 3e-6 + 10 * 15e-6 + 40 * 3.75e-6 + 1000 * 0.3e-6)


# The OpenAI SDK to an Anthropic deployment: translated there and back.


def chat(gateway, lane, **how):
    how = {"model": "claude", "messages": HELLO, **how}
    return gateway(deployment("claude", lane, CLAUDE)).openai().chat.completions.create(**how)


def test_a_chat_becomes_a_message(gateway, lane):
    history = [{"role": "system", "content": "be brief"}, *HELLO, {"role": "assistant", "content": "yes?"}, {"role": "user", "content": "sing"}]
    got = chat(gateway, lane, messages=history, max_tokens=50, temperature=0.3, top_p=0.9, stop=["END"], user="u-17")
    assert got.choices[0].message.content == "Hello from Claude." and got.choices[0].finish_reason == "stop"
    assert got.model == "claude" and got.object == "chat.completion" and got.choices[0].message.role == "assistant"
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (12, 6, 18)
    sent = lane.last.json
    assert lane.last.path == f"/{lane.name}/v1/messages" and lane.last.headers["x-api-key"] == KEY
    assert sent["model"] == "claude-sonnet-4-5" and sent["max_tokens"] == 50
    assert (sent["temperature"], sent["top_p"], sent["stop_sequences"]) == (0.3, 0.9, ["END"])
    assert text_of(sent["system"]) == "be brief"
    assert [m["role"] for m in sent["messages"]] == ["user", "assistant", "user"]
    assert [text_of(m["content"]) for m in sent["messages"]] == ["hello", "yes?", "sing"]
    assert sent["metadata"] == {"user_id": "u-17"}
    assert not {"stop", "user", "n"} & set(sent)


def text_of(content) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content if block["type"] == "text")


def test_max_tokens_is_filled_in(gateway, lane):
    chat(gateway, lane)
    assert lane.last.json["max_tokens"] == 64000
    chat(gateway, lane, max_completion_tokens=99)
    assert lane.last.json["max_tokens"] == 99 and "max_completion_tokens" not in lane.last.json


def test_a_message_stream_becomes_chunks(gateway, lane):
    chunks = list(chat(gateway, lane, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello from Claude."
    assert chunks[0].choices[0].delta.role == "assistant" and {c.model for c in chunks} == {"claude"}
    assert len({c.id for c in chunks}) == 1 and {c.object for c in chunks} == {"chat.completion.chunk"}
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert [c.usage.total_tokens for c in chunks if c.usage] == [18] and chunks[-1].choices == []
    assert lane.last.json["stream"] is True and "stream_options" not in lane.last.json


def test_a_translated_stream_has_no_usage_unless_asked(gateway, lane):
    got = gateway(deployment("claude", lane, CLAUDE)).ask("claude", stream=True)
    assert '"usage":{' not in got.text and got.text.endswith("data: [DONE]\n\n")


def test_tools_translate_both_ways(gateway, lane):
    lane.script(provider.message(text="", tools=USE))
    got = chat(gateway, lane, tools=[FUNCTION], tool_choice="required", parallel_tool_calls=False)
    assert got.choices[0].finish_reason == "tool_calls"
    assert [(c.id, c.function.name, json.loads(c.function.arguments)) for c in got.choices[0].message.tool_calls] == [(i, n, json.loads(a)) for i, n, a in USE]
    sent = lane.last.json
    (tool,) = sent["tools"]
    assert {k: tool[k] for k in TOOL} == TOOL
    assert sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


@pytest.mark.parametrize("choice,want", [
    ("auto", {"type": "auto"}), ("none", {"type": "none"}), ({"type": "function", "function": {"name": "get_weather"}}, {"type": "tool", "name": "get_weather"}),
], ids=["auto", "none", "named"])
def test_tool_choice_translates(gateway, lane, choice, want):
    chat(gateway, lane, tools=[FUNCTION], tool_choice=choice)
    assert lane.last.json["tool_choice"] == want


def test_streamed_tools_translate(gateway, lane):
    lane.script(provider.message(tools=USE))
    client = gateway(deployment("claude", lane, CLAUDE)).openai()
    with client.chat.completions.stream(model="claude", messages=HELLO, tools=[FUNCTION]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert [(c.id, c.function.name, json.loads(c.function.arguments)) for c in calls] == [(i, n, json.loads(a)) for i, n, a in USE]
    assert [c.index for c in calls] == [0, 1] and final.choices[0].finish_reason == "tool_calls"


def test_a_tool_history_translates(gateway, lane):
    history = HELLO + [
        {"role": "assistant", "content": None, "tool_calls": [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in USE]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "18 °C"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": [{"type": "text", "text": "25 °C"}]},
        {"role": "user", "content": "thanks"},
    ]
    chat(gateway, lane, messages=history, tools=[FUNCTION])
    first, calls, results = lane.last.json["messages"]
    assert (first["role"], calls["role"], results["role"]) == ("user", "assistant", "user")
    assert [(b["id"], b["name"], b["input"]) for b in calls["content"] if b["type"] == "tool_use"] == [(i, n, json.loads(a)) for i, n, a in USE]
    answers = [b for b in results["content"] if b["type"] == "tool_result"]
    assert [b["tool_use_id"] for b in answers] == ["toolu_1", "toolu_2"]
    assert [text_of(b["content"]) for b in answers] == ["18 °C", "25 °C"]
    assert results["content"][-1] == {"type": "text", "text": "thanks"}


def test_images_translate(gateway, lane):
    parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
             {"type": "image_url", "image_url": {"url": "https://example.com/cat.jpg"}}]
    chat(gateway, lane, messages=[{"role": "user", "content": parts}])
    text, inline, linked = lane.last.json["messages"][0]["content"]
    assert text == {"type": "text", "text": "what?"}
    assert inline == {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    assert linked == {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.jpg"}}


def test_pdf_files_translate(gateway, lane):
    parts = [{"type": "text", "text": "sum it up"}, {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQK"}}]
    chat(gateway, lane, messages=[{"role": "user", "content": parts}])
    document = lane.last.json["messages"][0]["content"][1]
    assert document["type"] == "document"
    assert document["source"] == {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"}


def test_audio_is_refused_and_never_lost(gateway, lane):
    parts = [{"type": "text", "text": "listen"}, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]
    with pytest.raises(openai.BadRequestError, match="audio"):
        chat(gateway, lane, messages=[{"role": "user", "content": parts}])
    assert lane.count == 0


def test_a_parameter_anthropic_does_not_take_is_named(gateway, lane):
    with pytest.raises(openai.BadRequestError, match="logprobs"):
        chat(gateway, lane, logprobs=True)
    assert lane.count == 0


def test_a_parameter_may_be_dropped(gateway, lane):
    running = gateway(deployment("claude", lane, CLAUDE, drop_params=True))
    assert running.ask("claude", logprobs=True, seed=1).status_code == 200
    assert not {"logprobs", "seed"} & set(lane.last.json)


def test_a_schema_translates(gateway, lane):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
    chat(gateway, lane, response_format={"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": schema}})
    sent = lane.last.json
    found = sent.get("output_format") or (sent.get("output_config") or {}).get("format") or (sent.get("tools") or [None])[0]
    assert found, sent
    got = found.get("schema") or found.get("input_schema")
    assert got["properties"] == schema["properties"] and got["required"] == ["city"]


def test_reasoning_effort_becomes_thinking(gateway, lane):
    lane.script(provider.message(thinking="let me see"))
    got = chat(gateway, lane, reasoning_effort="medium", max_tokens=8000)
    assert lane.last.json["thinking"]["type"] == "enabled" and 1024 <= lane.last.json["thinking"]["budget_tokens"] < 8000
    assert got.choices[0].message.reasoning_content == "let me see"
    chat(gateway, lane, reasoning_effort="none")
    assert "thinking" not in lane.last.json or lane.last.json["thinking"]["type"] == "disabled"


def test_streamed_thinking_becomes_reasoning(gateway, lane):
    lane.script(provider.message(thinking="let me see"))
    chunks = list(chat(gateway, lane, reasoning_effort="low", stream=True))
    assert "".join(getattr(c.choices[0].delta, "reasoning_content", None) or "" for c in chunks) == "let me see"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello from Claude."


@pytest.mark.parametrize("stop,want", [("end_turn", "stop"), ("max_tokens", "length"), ("stop_sequence", "stop"), ("tool_use", "tool_calls"), ("refusal", "content_filter")])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_stop_reasons_translate(gateway, lane, stop, want, stream):
    lane.script(provider.message(stop=stop, tools=USE[:1] if stop == "tool_use" else None))
    got = chat(gateway, lane, stream=stream)
    reasons = [c.choices[0].finish_reason for c in got if c.choices[0].finish_reason] if stream else [got.choices[0].finish_reason]
    assert reasons == [want]


def test_cached_tokens_are_prompt_tokens(gateway, lane):
    lane.script(provider.message(usage={"input_tokens": 100, "output_tokens": 10, "cache_creation_input_tokens": 40, "cache_read_input_tokens": 1000}))
    got = chat(gateway, lane)
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (1140, 10, 1150)
    assert got.usage.prompt_tokens_details.cached_tokens == 1000


@pytest.mark.parametrize("status,kind", [
    (400, openai.BadRequestError), (401, openai.AuthenticationError), (403, openai.PermissionDeniedError), (404, openai.NotFoundError),
    (429, openai.RateLimitError), (500, openai.InternalServerError), (529, openai.InternalServerError),
])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_anthropics_errors_speak_openai(gateway, lane, status, kind, stream):
    lane.script(provider.anthropic_error(status, "the reason is blue"))
    with pytest.raises(kind, match="the reason is blue") as caught:
        chat(gateway, lane, stream=stream)
    assert isinstance(caught.value.body, dict) and caught.value.body["message"]


def test_an_anthropic_error_event_raises_in_the_openai_sdk(gateway, lane):
    lane.script(provider.message(fail="overloaded_error"))
    with pytest.raises(openai.APIError, match="fake failure in the stream"):
        list(chat(gateway, lane, stream=True))


def test_a_message_that_stops_in_the_middle_raises(gateway, lane):
    lane.script(provider.message("one two three", end=5))
    with pytest.raises(openai.APIError):
        list(chat(gateway, lane, stream=True))


# The Anthropic SDK to an OpenAI deployment.


def speak(gateway, lane, **how):
    how = {"model": "gpt", "max_tokens": 64, "messages": HELLO, **how}
    return gateway(deployment("gpt", lane)).anthropic().messages.create(**how)


def test_a_message_becomes_a_chat(gateway, lane):
    got = speak(gateway, lane, system="be brief", stop_sequences=["END"], extra_body={"temperature": 0.4})
    assert got.type == "message" and got.role == "assistant" and got.model == "gpt"
    assert got.content[0].text == "Hello from upstream." and got.stop_reason == "end_turn"
    assert (got.usage.input_tokens, got.usage.output_tokens) == (11, 7)
    sent = lane.last.json
    assert lane.last.path == f"/{lane.name}/v1/chat/completions" and lane.last.headers["authorization"] == f"Bearer {KEY}"
    assert sent["model"] == "gpt-4o-mini" and sent["temperature"] == 0.4 and sent["stop"] in (["END"], "END")
    assert 64 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
    assert sent["messages"][0]["role"] in ("system", "developer") and text_of(sent["messages"][0]["content"]) == "be brief"
    assert text_of(sent["messages"][1]["content"]) == "hello"


def test_a_chat_stream_becomes_a_message_stream(gateway, lane):
    running = gateway(deployment("gpt", lane))
    with running.anthropic().messages.stream(model="gpt", max_tokens=64, messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[0].text == "Hello from upstream." and final.stop_reason == "end_turn" and final.model == "gpt"
    assert final.usage.output_tokens == 7 and kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert lane.last.json["stream_options"]["include_usage"] is True


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_tools_of_a_chat_become_tool_use(gateway, lane, stream):
    lane.script(provider.chat(tools=USE))
    running = gateway(deployment("gpt", lane))
    how = {"model": "gpt", "max_tokens": 64, "messages": HELLO, "tools": [TOOL], "tool_choice": {"type": "any"}}
    if stream:
        with running.anthropic().messages.stream(**how) as events:
            got = events.get_final_message()
    else:
        got = running.anthropic().messages.create(**how)
    uses = [b for b in got.content if b.type == "tool_use"]
    assert [(b.id, b.name, b.input) for b in uses] == [(i, n, json.loads(a)) for i, n, a in USE] and got.stop_reason == "tool_use"
    assert lane.last.json["tools"][0]["function"]["name"] == "get_weather"
    assert lane.last.json["tools"][0]["function"]["parameters"] == TOOL["input_schema"]
    assert lane.last.json["tool_choice"] == "required"


def test_tool_results_become_tool_messages(gateway, lane):
    history = HELLO + [
        {"role": "assistant", "content": [{"type": "text", "text": "let me look"}, {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Zürich"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "18 °C"}, {"type": "text", "text": "well?"}]},
    ]
    speak(gateway, lane, messages=history, tools=[TOOL])
    roles = [m["role"] for m in lane.last.json["messages"]]
    assert roles == ["user", "assistant", "tool", "user"]
    assert json.loads(lane.last.json["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"city": "Zürich"}
    assert lane.last.json["messages"][2]["tool_call_id"] == "toolu_1" and text_of(lane.last.json["messages"][2]["content"]) == "18 °C"


def test_images_of_a_message_become_image_urls(gateway, lane):
    blocks = [{"type": "text", "text": "what?"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]
    speak(gateway, lane, messages=[{"role": "user", "content": blocks}])
    image = lane.last.json["messages"][0]["content"][1]
    assert image["type"] == "image_url" and image["image_url"]["url"] == f"data:image/png;base64,{PNG}"


@pytest.mark.parametrize("status,kind", [(400, anthropic.BadRequestError), (401, anthropic.AuthenticationError), (429, anthropic.RateLimitError), (500, anthropic.InternalServerError)])
def test_openais_errors_speak_anthropic(gateway, lane, status, kind):
    lane.script(provider.error(status, "the reason is blue"))
    with pytest.raises(kind, match="the reason is blue") as caught:
        speak(gateway, lane)
    assert caught.value.body["type"] == "error"


@pytest.mark.parametrize("finish,want", [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal")])
def test_finish_reasons_translate(gateway, lane, finish, want):
    lane.script(provider.chat(finish=finish))
    assert speak(gateway, lane).stop_reason == want


def test_a_cut_chat_stream_raises_in_the_anthropic_sdk(gateway, lane):
    lane.script(provider.chat("one two three", cut=3))
    running = gateway(deployment("gpt", lane))
    with pytest.raises(anthropic.APIError):
        with running.anthropic().messages.stream(model="gpt", max_tokens=64, messages=HELLO) as stream:
            stream.get_final_message()


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "azure/my-deployment"])
def test_a_group_may_mix_dialects(gateway, lanes, model):
    """The same client call is served by whichever deployment is picked, in the client's words."""
    pair = lanes(2)
    running = gateway(deployment("mixed", pair[0], CLAUDE, id="a"), deployment("mixed", pair[1], model, id="b"))
    client, texts = running.openai(), set()
    for name in ("a", "b"):
        texts.add(client.chat.completions.create(model=name, messages=HELLO).choices[0].message.content)
    assert texts == {"Hello from Claude.", "Hello from upstream."}
