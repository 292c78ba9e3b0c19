"""Errors: the provider's, the gateway's own, and those of the wire."""

import json
import time

import fake as provider
import httpx
import openai
import pytest
from pillion import HELLO, KEY, deployment

CLASSES = [
    (400, openai.BadRequestError), (401, openai.AuthenticationError), (403, openai.PermissionDeniedError),
    (404, openai.NotFoundError), (408, openai.APIStatusError), (409, openai.ConflictError), (413, openai.APIStatusError),
    (422, openai.UnprocessableEntityError), (429, openai.RateLimitError), (500, openai.InternalServerError),
    (502, openai.InternalServerError), (503, openai.InternalServerError),
]


def fault(got: httpx.Response) -> dict:
    """The error object, after a look at its form."""
    assert got.headers["content-type"].startswith("application/json"), got.headers
    error = got.json()["error"]
    assert isinstance(error["message"], str) and error["message"], error
    assert isinstance(error["type"], str) and {"param", "code"} <= set(error), error
    return error


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("status,kind", CLASSES, ids=[str(s) for s, _ in CLASSES])
def test_a_providers_error_keeps_its_class_and_words(gateway, lane, status, kind, stream):
    lane.script(provider.error(status, "the reason is blue"))
    with pytest.raises(kind) as caught:
        gateway(deployment("gpt", lane)).openai().chat.completions.create(model="gpt", messages=HELLO, stream=stream)
    assert type(caught.value) is kind and caught.value.status_code == status
    assert "the reason is blue" in caught.value.message
    assert lane.count == 1


@pytest.mark.parametrize("body,kind", [
    (b"<html><body>Bad gateway</body></html>", "text/html"), (b"upstream connect error", "text/plain"), (b"", "text/plain"),
    (b'{"detail":"Not allowed"}', "application/json"), (b'{"message":"Not allowed"}', "application/json"),
    (b'{"error":"Not allowed"}', "application/json"), (b'[{"error":{"code":400,"message":"Not allowed"}}]', "application/json"),
], ids=["html", "text", "empty", "detail", "message", "error-string", "list"])
def test_errors_in_other_forms_become_openais(gateway, lane, body, kind):
    lane.script(provider.raw(body, status=400, kind=kind))
    got = gateway(deployment("gpt", lane)).ask()
    assert got.status_code == 400
    message = fault(got)["message"]
    assert ("Not allowed" in message) if b"Not allowed" in body else message


def test_an_error_in_a_200_is_an_error(gateway, lane):
    lane.script(provider.raw({"error": {"message": "Provider returned error", "code": 502}}))
    got = gateway(deployment("gpt", lane)).ask()
    assert got.status_code >= 400 and "Provider returned error" in fault(got)["message"]


def test_an_error_event_before_any_content_is_an_error(gateway, lane):
    lane.script(provider.events({"error": {"message": "overloaded just now", "type": "server_error", "code": 503}}))
    got = gateway(deployment("gpt", lane)).ask(stream=True)
    assert got.status_code >= 500 and "overloaded just now" in fault(got)["message"]


def test_an_answer_that_is_no_json_is_never_passed_off_as_one(gateway, lane):
    lane.script(provider.raw(b"<html>hello</html>", kind="text/html"))
    got = gateway(deployment("gpt", lane)).ask()
    assert got.status_code >= 500
    fault(got)


@pytest.mark.parametrize("after", [4, 6])
def test_a_cut_stream_says_so(gateway, lane, after):
    lane.script(provider.chat("one two three four five", cut=after))
    client = gateway(deployment("gpt", lane)).openai()
    text = ""
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(model="gpt", messages=HELLO, stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text.startswith("one two") and caught.value.message
    assert lane.count == 1


def test_a_stream_that_ends_without_a_finish_is_not_whole(gateway, lane):
    lane.script(provider.chat("one two three", end=3))
    client = gateway(deployment("gpt", lane)).openai()
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="gpt", messages=HELLO, stream=True))


def test_a_body_cut_short_is_not_whole(gateway, lane):
    lane.script(provider.chat(cut=1))
    got = gateway(deployment("gpt", lane)).ask()
    assert got.status_code >= 500
    fault(got)


def test_an_error_event_after_content_raises_in_the_sdk(gateway, lane):
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
             "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}]}
    lane.script(provider.events(chunk, {"error": {"message": "it broke", "type": "server_error", "code": None}}))
    client = gateway(deployment("gpt", lane)).openai()
    seen = []
    with pytest.raises(openai.APIError, match="it broke"):
        for got in client.chat.completions.create(model="gpt", messages=HELLO, stream=True):
            seen.append(got.choices[0].delta.content)
    assert seen == ["hi"]


def test_a_response_that_breaks_off_raises_in_the_sdk(gateway, lane):
    lane.script(provider.response("one two three", cut=6))
    client = gateway(deployment("gpt", lane)).openai()
    seen = []
    with pytest.raises(openai.APIError, match="not whole") as caught:
        for event in client.responses.create(model="gpt", input="hello", stream=True):
            seen.append(event.sequence_number)
    assert seen == list(range(6)) and caught.value.type == "internal_server_error"


def test_a_response_that_fails_raises_in_the_sdk_whenever_it_does(gateway, lane):
    response = {"id": "resp_x", "object": "response", "created_at": 1, "model": "m", "status": "failed", "output": [],
                "error": {"code": "server_error", "message": "it broke"}}
    failed = {"type": "response.failed", "sequence_number": 2, "response": response}
    created = {"type": "response.created", "sequence_number": 0, "response": {**response, "status": "in_progress", "error": None}}
    said = {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "m", "output_index": 0, "content_index": 0,
            "delta": "one", "logprobs": []}
    for events, seen in ([created, failed], []), ([created, said, failed], ["response.created", "response.output_text.delta"]):
        lane.script(provider.events(*events))
        client = gateway(deployment("gpt", lane)).openai()
        kinds = []
        with pytest.raises(openai.APIError, match="it broke"):
            for event in client.responses.create(model="gpt", input="hello", stream=True):
                kinds.append(event.type)
        assert kinds == seen


def test_a_provider_that_is_not_there_is_a_bad_gateway(gateway, lane):
    entry = deployment("gpt", lane)
    entry["litellm_params"]["api_base"] = "http://127.0.0.1:9/v1"
    got = gateway(entry).ask()
    assert got.status_code in (500, 502, 503)
    fault(got)


def test_a_connection_reset_is_an_error(gateway, lane):
    lane.script(provider.chat(cut=0))
    got = gateway(deployment("gpt", lane)).ask()
    assert got.status_code in (500, 502, 503)
    fault(got)


def test_an_unknown_model_names_the_models_there_are(gateway, lane):
    running = gateway(deployment("gpt", lane), deployment("claude", lane))
    with pytest.raises(openai.APIStatusError) as caught:
        running.openai().chat.completions.create(model="gtp", messages=HELLO)
    assert caught.value.status_code in (400, 404)
    assert all(name in caught.value.message for name in ("gtp", "gpt", "claude"))
    assert lane.count == 0


def test_a_missing_model_is_said(gateway, lane):
    got = gateway(deployment("gpt", lane)).post({"messages": HELLO})
    assert got.status_code == 400
    error = fault(got)
    assert "model" in error["message"] and lane.count == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model":"gpt",}', b'"x"', b'{"model":7}', b"\xff\xfe{}", b'{"model":"gpt"} {}'])
def test_bad_json_is_said(gateway, lane, body):
    got = gateway(deployment("gpt", lane)).http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert got.status_code == 400
    fault(got)
    assert lane.count == 0


def test_an_unknown_model_of_the_list_is_not_found(gateway, lane):
    with pytest.raises(openai.NotFoundError):
        gateway(deployment("gpt", lane)).openai().models.retrieve("nope")


@pytest.mark.parametrize("method,path", [("GET", "/v1/chat/completions"), ("DELETE", "/v1/embeddings"), ("POST", "/v1/models"), ("PUT", "/v1/messages")])
def test_a_wrong_method_is_405_and_names_the_right_one(gateway, lane, method, path):
    got = gateway(deployment("gpt", lane)).http.request(method, path)
    assert got.status_code == 405
    assert got.headers["allow"]
    if "messages" not in path:
        fault(got)


@pytest.mark.parametrize("path", ["/v1/nothing", "/", "/v2/chat/completions", "/v1/chat/completions/more"])
def test_an_unknown_path_is_404(gateway, lane, path):
    got = gateway(deployment("gpt", lane)).http.post(path, json={"model": "gpt"})
    assert got.status_code == 404
    fault(got)


def test_a_slow_provider_times_out(gateway, lane):
    lane.script(provider.chat(hang=0))
    running = gateway(deployment("gpt", lane, timeout=0.3))
    start = time.monotonic()
    with pytest.raises(openai.APIStatusError) as caught:
        running.openai().chat.completions.create(model="gpt", messages=HELLO)
    assert caught.value.status_code == 408 and 0.28 < time.monotonic() - start < 2
    lane.wait_closed()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_client_may_set_the_timeout_in_a_header(gateway, lane, stream):
    lane.script(provider.chat(hang=0))
    start = time.monotonic()
    got = gateway(deployment("gpt", lane)).ask(stream=stream, headers={"x-litellm-timeout": "0.2"})
    assert got.status_code == 408 and 0.18 < time.monotonic() - start < 2
    fault(got)
    lane.wait_closed()


def test_a_client_may_set_the_timeout_in_the_body(gateway, lane):
    lane.script(provider.chat(hang=0))
    start = time.monotonic()
    assert gateway(deployment("gpt", lane)).ask(timeout=0.2).status_code == 408
    assert time.monotonic() - start < 2
    assert "timeout" not in lane.last.json


def test_a_stalled_stream_is_not_waited_for_for_ever(gateway, lane):
    lane.script(provider.chat("one two three", hang=3))
    client = gateway(deployment("gpt", lane, stream_timeout=0.4)).openai()
    start, text = time.monotonic(), ""
    with pytest.raises(openai.APIError):
        for chunk in client.chat.completions.create(model="gpt", messages=HELLO, stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text.startswith("one ") and time.monotonic() - start < 3
    lane.wait_closed()


def test_a_missing_provider_key_is_said_here(gateway, lane):
    entry = deployment("gpt", lane, "groq/llama-3.1-8b-instant")
    del entry["litellm_params"]["api_key"]
    got = gateway(entry, env={"OPENAI_API_KEY": KEY}).ask()
    assert got.status_code in (401, 500) and "GROQ_API_KEY" in fault(got)["message"]
    assert lane.count == 0, "one provider's key must never go to another"


@pytest.mark.parametrize("path,body", [
    ("/v1/embeddings", {"input": "x"}), ("/v1/completions", {"prompt": "x"}), ("/v1/responses", {"input": "x"}),
])
def test_other_endpoints_fail_alike(gateway, lane, path, body):
    lane.script(provider.error(429, "slow down"))
    got = gateway(deployment("gpt", lane)).post({"model": "gpt", **body}, path)
    assert got.status_code == 429 and "slow down" in fault(got)["message"]


def test_no_key_is_in_any_error(gateway, lane):
    """Some providers quote the key they refuse."""
    lane.script(provider.error(401, f"Incorrect API key provided: {KEY}."))
    running = gateway(deployment("gpt", lane))
    got = running.ask()
    assert got.status_code == 401
    assert KEY not in got.text and KEY not in json.dumps(dict(got.headers))
    assert KEY not in running.metrics()
