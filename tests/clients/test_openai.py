"""The OpenAI Python SDK against OpenAI-compatible deployments."""

import asyncio
import base64
import json
from concurrent.futures import ThreadPoolExecutor

import fake as provider
import pytest
from pillion import HELLO, KEY, deployment

TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
    for name in ("get_weather", "get_time")
]
CALLS = [("call_1", "get_weather", '{"city":"Zürich"}'), ("call_2", "get_time", '{"city":"東京"}')]


def test_a_plain_answer_arrives_under_the_asked_name(gateway, lane):
    client = gateway(deployment("gpt", lane)).openai()
    got = client.chat.completions.create(model="gpt", messages=HELLO, temperature=0.5, seed=7)
    assert got.choices[0].message.content == "Hello from upstream."
    assert got.choices[0].finish_reason == "stop"
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (11, 7, 18)
    assert got.model == "gpt" and got.id == "chatcmpl-fake" and got.system_fingerprint == "fp_fake"
    assert lane.count == 1
    assert lane.last.json == {"model": "gpt-4o-mini", "messages": HELLO, "temperature": 0.5, "seed": 7}
    assert lane.last.path == f"/{lane.name}/v1/chat/completions"
    assert lane.last.headers["authorization"] == f"Bearer {KEY}"
    assert lane.last.headers["content-type"].startswith("application/json")


def test_the_clients_key_and_sdk_headers_stay_here(gateway, lane):
    gateway(deployment("gpt", lane)).openai(key="sk-client-own").chat.completions.create(model="gpt", messages=HELLO)
    assert "sk-client-own" not in json.dumps(lane.last.headers)
    assert not [name for name in lane.last.headers if name.startswith("x-stainless")]


def test_a_body_passes_as_it_came(gateway, lane):
    body = '{ "messages" : [{"role":"user","content":"caf\\u00e9 😀"}],\n "x_unknown": {"b":1.50,"a":[null]}, "model":"gpt", "seed":12345678901234567890 }'
    got = gateway(deployment("gpt", lane)).http.post("/v1/chat/completions", content=body.encode(), headers={"content-type": "application/json"})
    assert got.status_code == 200
    assert lane.last.raw.decode() == body.replace('"gpt"', '"gpt-4o-mini"')


def test_unknown_fields_of_an_answer_pass(gateway, lane):
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "x_vendor": {"deep": [1, None]},
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi", "x_more": 1}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "x_cost": 0.25}}
    lane.script(provider.raw(body))
    assert gateway(deployment("gpt", lane)).ask().json() == {**body, "model": "gpt"}


def test_a_stream_arrives_chunk_by_chunk(gateway, lane):
    client = gateway(deployment("gpt", lane)).openai()
    chunks = list(client.chat.completions.create(model="gpt", messages=HELLO, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello from upstream."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert {c.model for c in chunks} == {"gpt"}
    # It was not asked for: no chunk without choices, which clients trip over, and no usage.
    assert all(c.choices and not c.usage for c in chunks)
    assert lane.last.json["stream_options"]["include_usage"] is True


def test_usage_streams_when_asked_for(gateway, lane):
    client = gateway(deployment("gpt", lane)).openai()
    chunks = list(client.chat.completions.create(model="gpt", messages=HELLO, stream=True, stream_options={"include_usage": True}))
    assert [c.usage.total_tokens for c in chunks if c.usage] == [18]
    assert chunks[-1].choices == [] and chunks[-1].usage.prompt_tokens == 11
    assert lane.last.json["stream_options"] == {"include_usage": True}


def test_a_client_that_declines_usage_gets_none(gateway, lane):
    client = gateway(deployment("gpt", lane)).openai()
    chunks = list(client.chat.completions.create(model="gpt", messages=HELLO, stream=True, stream_options={"include_usage": False}))
    assert all(c.choices and not c.usage for c in chunks)
    assert lane.last.json["stream_options"]["include_usage"] is True


def test_other_stream_options_are_kept(gateway, lane):
    gateway(deployment("gpt", lane)).ask(stream=True, stream_options={"include_obfuscation": False}).read()
    assert lane.last.json["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_a_stream_ends_with_done_and_the_right_type(gateway, lane):
    got = gateway(deployment("gpt", lane)).ask(stream=True)
    assert got.headers["content-type"].startswith("text/event-stream")
    assert got.text.endswith("data: [DONE]\n\n") and got.text.count("[DONE]") == 1


def test_a_stream_without_done_gets_one(gateway, lane):
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    lane.script(provider.events({**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}]},
                                {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    got = gateway(deployment("gpt", lane)).ask(stream=True)
    assert got.text.endswith("data: [DONE]\n\n") and got.text.count("[DONE]") == 1


def test_events_arrive_as_they_are_sent(gateway, lane):
    """The second half of the answer is held back until the client has read the first."""
    lane.script(provider.chat("one two three four", hang=3))
    with gateway(deployment("gpt", lane)).http.stream("POST", "/v1/chat/completions", json={"model": "gpt", "messages": HELLO, "stream": True}) as got:
        text = ""
        for piece in got.iter_text():
            text += piece
            if '"two ' in text:
                break
    assert '"one ' in text and "three" not in text


def test_tools_pass_both_ways(gateway, lane):
    lane.script(provider.chat(tools=CALLS))
    client = gateway(deployment("gpt", lane)).openai()
    got = client.chat.completions.create(model="gpt", messages=HELLO, tools=TOOLS, tool_choice="required", parallel_tool_calls=True)
    assert got.choices[0].finish_reason == "tool_calls"
    assert [(c.id, c.function.name, c.function.arguments) for c in got.choices[0].message.tool_calls] == CALLS
    assert lane.last.json["tools"] == TOOLS and lane.last.json["tool_choice"] == "required" and lane.last.json["parallel_tool_calls"] is True


def test_streamed_tool_arguments_add_up(gateway, lane):
    lane.script(provider.chat(tools=CALLS))
    client = gateway(deployment("gpt", lane)).openai()
    with client.chat.completions.stream(model="gpt", messages=HELLO, tools=TOOLS) as stream:
        final = [event for event in stream][-1] and stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == CALLS
    assert final.choices[0].finish_reason == "tool_calls"


def test_a_tool_conversation_passes_whole(gateway, lane):
    history = HELLO + [
        {"role": "assistant", "content": None, "tool_calls": [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in CALLS]},
        {"role": "tool", "tool_call_id": "call_1", "content": "18 °C"},
        {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
    ]
    gateway(deployment("gpt", lane)).openai().chat.completions.create(model="gpt", messages=history, tools=TOOLS)
    assert lane.last.json["messages"] == history


def test_vision_parts_pass(gateway, lane):
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 2000, "detail": "low"}}]
    gateway(deployment("gpt", lane)).openai().chat.completions.create(model="gpt", messages=[{"role": "user", "content": parts}])
    assert lane.last.json["messages"][0]["content"] == parts


def test_several_choices_arrive(gateway, lane):
    client = gateway(deployment("gpt", lane)).openai()
    assert [c.index for c in client.chat.completions.create(model="gpt", messages=HELLO, n=3).choices] == [0, 1, 2]
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(model="gpt", messages=HELLO, n=3, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == ["Hello from upstream."] * 3


def test_reasoning_passes(gateway, lane):
    lane.script(provider.chat(reasoning="because it is so"))
    client = gateway(deployment("gpt", lane)).openai()
    assert client.chat.completions.create(model="gpt", messages=HELLO).choices[0].message.reasoning_content == "because it is so"
    chunks = list(client.chat.completions.create(model="gpt", messages=HELLO, stream=True))
    assert "".join(getattr(c.choices[0].delta, "reasoning_content", None) or "" for c in chunks) == "because it is so"


def test_response_format_passes(gateway, lane):
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"type": "object", "properties": {}}}}
    gateway(deployment("gpt", lane)).openai().chat.completions.create(model="gpt", messages=HELLO, response_format=wanted)
    assert lane.last.json["response_format"] == wanted


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_embeddings(gateway, lane, encoding):
    client = gateway(deployment("embed", lane, "openai/text-embedding-3-small")).openai()
    how = {"encoding_format": encoding} if encoding else {}
    got = client.embeddings.create(model="embed", input=["a", "b"], **how)
    vectors = [row.embedding for row in got.data]
    if encoding == "base64":
        import struct

        vectors = [list(struct.unpack("<4f", base64.b64decode(v))) if isinstance(v, str) else v for v in vectors]
    assert vectors == [[0, 0.125, 0.25, 0.375], [1, 1.125, 1.25, 1.375]]
    assert got.model == "embed" and got.usage.total_tokens == 6
    assert lane.last.json["model"] == "text-embedding-3-small" and lane.last.json["input"] == ["a", "b"]
    assert lane.last.path.endswith("/v1/embeddings")


def test_completions(gateway, lane):
    client = gateway(deployment("old", lane, "openai/gpt-3.5-turbo-instruct")).openai()
    got = client.completions.create(model="old", prompt="Once", max_tokens=5)
    assert got.choices[0].text == " there was a fake." and got.model == "old" and got.usage.total_tokens == 8
    assert lane.last.json == {"model": "gpt-3.5-turbo-instruct", "prompt": "Once", "max_tokens": 5}
    chunks = list(client.completions.create(model="old", prompt="Once", stream=True))
    assert "".join(c.choices[0].text for c in chunks) == " there was a fake."
    assert {c.model for c in chunks} == {"old"} and lane.last.path.endswith("/v1/completions")


def test_models_are_listed_and_got(gateway, lane):
    client = gateway(deployment("gpt", lane), deployment("embed", lane, "openai/text-embedding-3-small")).openai()
    assert sorted(m.id for m in client.models.list()) == ["embed", "gpt"]
    one = client.models.retrieve("gpt")
    assert one.id == "gpt" and one.object == "model"
    assert lane.count == 0


def test_a_model_name_with_a_slash_can_be_got(gateway, lane):
    client = gateway(deployment("team/gpt", lane)).openai()
    assert client.models.retrieve("team/gpt").id == "team/gpt"
    assert client.chat.completions.create(model="team/gpt", messages=HELLO).model == "team/gpt"


def test_responses_pass(gateway, lane):
    client = gateway(deployment("gpt", lane)).openai()
    got = client.responses.create(model="gpt", input="hello", instructions="be brief")
    assert got.output_text == "Hello from responses." and got.model == "gpt" and got.usage.total_tokens == 13
    assert lane.last.json == {"model": "gpt-4o-mini", "input": "hello", "instructions": "be brief"}
    assert lane.last.path.endswith("/v1/responses")


def test_streamed_responses_pass(gateway, lane):
    client = gateway(deployment("gpt", lane)).openai()
    with client.responses.stream(model="gpt", input="hello") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "Hello from responses." and final.model == "gpt"
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert "stream_options" not in lane.last.json, "the Responses API has no include_usage"


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings", "/responses", "/models", "/models/gpt"])
def test_the_version_may_be_left_out(gateway, lane, path):
    http = gateway(deployment("gpt", lane)).http
    body = {"model": "gpt", "messages": HELLO, "prompt": "x", "input": "x"}
    got = http.get(path) if "models" in path else http.post(path, json=body)
    assert got.status_code == 200, got.text


def test_azure_gets_its_paths_and_key(gateway, lane):
    entry = deployment("gpt", lane, "azure/my-deployment", api_version="2024-10-21")
    got = gateway(entry).openai().chat.completions.create(model="gpt", messages=HELLO)
    assert got.choices[0].message.content == "Hello from upstream." and got.model == "gpt"
    assert lane.last.path == f"/{lane.name}/openai/deployments/my-deployment/chat/completions"
    assert lane.last.query == {"api-version": ["2024-10-21"]}
    assert lane.last.headers["api-key"] == KEY and "authorization" not in lane.last.headers


def test_azure_streams(gateway, lane):
    client = gateway(deployment("gpt", lane, "azure/my-deployment", api_version="2024-10-21")).openai()
    chunks = list(client.chat.completions.create(model="gpt", messages=HELLO, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello from upstream."
    assert {c.model for c in chunks} == {"gpt"}


def test_azure_v1_has_no_deployment_in_its_path(gateway, lane):
    gateway(deployment("gpt", lane, "azure/my-deployment", api_version="v1")).openai().chat.completions.create(model="gpt", messages=HELLO)
    assert lane.last.path == f"/{lane.name}/openai/v1/chat/completions"
    assert lane.last.json["model"] == "my-deployment"


def test_azure_embeddings(gateway, lane):
    client = gateway(deployment("embed", lane, "azure/my-embedder", api_version="2024-10-21")).openai()
    assert client.embeddings.create(model="embed", input="a", encoding_format="float").data[0].embedding == [0, 0.125, 0.25, 0.375]
    assert lane.last.path == f"/{lane.name}/openai/deployments/my-embedder/embeddings"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_64_threads_at_once(gateway, lane, stream):
    lane.script(provider.chat(delay=0.1, gap=0.01))
    client = gateway(deployment("gpt", lane)).openai()

    def call(number: int) -> str:
        got = client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": f"call {number}"}], stream=stream)
        return "".join(c.choices[0].delta.content or "" for c in got) if stream else got.choices[0].message.content

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(call, range(64))) == {"Hello from upstream."}
    assert sorted(s.json["messages"][0]["content"] for s in lane.seen) == sorted(f"call {n}" for n in range(64))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_64_tasks_at_once(gateway, lane, stream):
    lane.script(provider.chat(delay=0.1, gap=0.01))
    running = gateway(deployment("gpt", lane))

    async def all_of_them() -> list[str]:
        async with running.async_openai() as client:

            async def call() -> str:
                got = await client.chat.completions.create(model="gpt", messages=HELLO, stream=stream)
                return "".join([c.choices[0].delta.content or "" async for c in got]) if stream else got.choices[0].message.content

            return await asyncio.gather(*[call() for _ in range(64)])

    assert asyncio.run(all_of_them()) == ["Hello from upstream."] * 64
    assert lane.count == 64


def test_configured_parameters_reach_the_provider_and_the_request_wins(gateway, lane):
    running = gateway(deployment("gpt", lane, temperature=0.1, max_tokens=50))
    running.ask()
    assert (lane.last.json["temperature"], lane.last.json["max_tokens"]) == (0.1, 50)
    running.ask(temperature=0.9)
    assert (lane.last.json["temperature"], lane.last.json["max_tokens"]) == (0.9, 50)


def test_extra_headers_and_organization_reach_the_provider(gateway, lane):
    gateway(deployment("gpt", lane, extra_headers={"x-team": "blue"}, organization="org-test")).ask()
    assert lane.last.headers["x-team"] == "blue" and lane.last.headers["openai-organization"] == "org-test"


def test_gateway_words_do_not_reach_the_provider(gateway, lane):
    gateway(deployment("gpt", lane)).ask(num_retries=1, timeout=5, fallbacks=[], tags=["a"], metadata={"tags": ["a"]})
    assert not {"num_retries", "timeout", "fallbacks", "tags"} & set(lane.last.json)


def test_dropped_parameters_are_left_out(gateway, lane):
    gateway(deployment("gpt", lane, additional_drop_params=["seed"])).ask(seed=3, user="u")
    assert "seed" not in lane.last.json and lane.last.json["user"] == "u"


def test_a_mocked_deployment_calls_nobody(gateway, lane):
    client = gateway(deployment("gpt", lane, mock_response="mocked!")).openai()
    assert client.chat.completions.create(model="gpt", messages=HELLO).choices[0].message.content == "mocked!"
    chunks = client.chat.completions.create(model="gpt", messages=HELLO, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "mocked!"
    assert lane.count == 0
