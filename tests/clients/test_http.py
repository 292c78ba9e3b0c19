"""The wire itself: disconnects, limits, authentication, health, shutdown."""

import gzip
import json
import signal
import socket
import threading
import time

import fake as provider
import httpx
import openai
import pytest
from pillion import HELLO, KEY, deployment, until

MASTER = "sk-master-2d9b"


def leave(gateway, body: dict, when) -> float:
    """Sends a call on a socket of its own, waits for `when`, hangs up; the moment it did."""
    raw = json.dumps(body).encode()
    link = socket.create_connection(("127.0.0.1", gateway.port), 5)
    link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(raw), raw))
    when(link)
    at = time.monotonic()
    link.close()
    return at


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_client_that_leaves_ends_its_call(gateway, lane, stream, capsys):
    lane.script(provider.chat(hang=0))
    running = gateway(deployment("gpt", lane), router={"num_retries": 3})
    at = leave(running, {"model": "gpt", "messages": HELLO, "stream": stream}, lambda _: lane.wait_seen())
    took = lane.wait_closed().closed_at - at
    with capsys.disabled():
        print(f"\n  the upstream call ended {took * 1000:.1f} ms after its client left", end=" ")
    assert took < 1
    assert lane.count == 1


def test_a_client_that_leaves_a_stream_ends_it(gateway, lane, capsys):
    lane.script(provider.chat("one two three four", hang=3))
    running = gateway(deployment("gpt", lane), router={"num_retries": 3})

    def first_words(link: socket.socket) -> None:
        got = b""
        while b"one " not in got:
            got += link.recv(65536)

    at = leave(running, {"model": "gpt", "messages": HELLO, "stream": True}, first_words)
    took = lane.wait_closed().closed_at - at
    with capsys.disabled():
        print(f"\n  the upstream stream ended {took * 1000:.1f} ms after its client left", end=" ")
    assert took < 1


def test_the_sdk_closing_a_stream_ends_it(gateway, lane):
    lane.script(provider.chat("one two three four", hang=3))
    stream = gateway(deployment("gpt", lane)).openai().chat.completions.create(model="gpt", messages=HELLO, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    at = time.monotonic()
    stream.close()
    assert lane.wait_closed().closed_at - at < 1


def test_no_try_starts_after_the_client_left(gateway, lanes):
    """It leaves during the pause before a retry; the pause would end 0.5 to 1.25 s after the failure."""
    bad, spare = lanes(2)
    bad.script(provider.error(500))
    running = gateway(deployment("gpt", bad), deployment("spare", spare),
                      router={"num_retries": 3, "disable_cooldowns": True, "fallbacks": [{"gpt": ["spare"]}]})
    leave(running, {"model": "gpt", "messages": HELLO}, lambda _: bad.wait(lambda lane: lane.seen and lane.last.answered_at))
    # A second call on a fresh deployment outlasts the pause, so that there is something to wait for.
    bad.script(provider.error(500), provider.error(500), provider.chat())
    running.ask(num_retries=2)
    assert bad.count == 4 and spare.count == 0


def test_every_client_that_leaves_is_recorded_once(gateway, lane):
    lane.script(provider.chat(hang=0))
    running = gateway(deployment("gpt", lane))
    for number in range(3):
        leave(running, {"model": "gpt", "messages": HELLO}, lambda _: lane.wait_seen(number + 1))
    until(lambda: running.total("pillion_requests_total") == 3, 3, lambda: running.metrics())


def test_a_body_over_the_limit_is_413(gateway, lane):
    running = gateway(deployment("gpt", lane), general={"max_request_size_mb": 1})
    got = running.ask(user="x" * 1_200_000)
    assert got.status_code == 413 and got.json()["error"]["message"]
    assert lane.count == 0
    assert running.ask(user="x" * 700_000).status_code == 200, "what is below the limit passes"


def test_a_chunked_body_over_the_limit_is_413(gateway, lane):
    running = gateway(deployment("gpt", lane), general={"max_request_size_mb": 1})
    pieces = (b"x" * 65536 for _ in range(40))
    try:
        assert running.http.post("/v1/chat/completions", content=pieces).status_code == 413
    except httpx.TransportError:
        pass  # it answered and hung up while we were still sending
    assert lane.count == 0


def test_a_large_body_passes(gateway, lane):
    text = "x" * 5_000_000
    got = gateway(deployment("gpt", lane)).post({"model": "gpt", "messages": [{"role": "user", "content": text}]})
    assert got.status_code == 200 and lane.last.json["messages"][0]["content"] == text


def test_a_large_answer_passes(gateway, lane):
    text = "word " * 400_000
    lane.script(provider.chat(text))
    assert gateway(deployment("gpt", lane)).ask().json()["choices"][0]["message"]["content"] == text


def test_a_chunked_request_passes(gateway, lane):
    body = json.dumps({"model": "gpt", "messages": HELLO}).encode()
    got = gateway(deployment("gpt", lane)).http.post("/v1/chat/completions", content=(body[i:i + 7] for i in range(0, len(body), 7)))
    assert got.status_code == 200 and lane.last.json["messages"] == HELLO


def test_an_endless_header_section_is_refused(gateway, lane):
    running = gateway(deployment("gpt", lane))
    got = running.http.get("/v1/models", headers={"x-long": "a" * 1_000_000})
    assert got.status_code in (400, 413, 431)


def test_a_slow_header_section_is_not_waited_for(gateway, lane):
    """Nothing is held for ever: the connection ends, and others are served meanwhile."""
    running = gateway(deployment("gpt", lane))
    with socket.create_connection(("127.0.0.1", running.port), 5) as link:
        link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        assert running.ask().status_code == 200
        link.settimeout(60)
        start = time.monotonic()
        rest = link.recv(4096)
        assert rest == b"" or b"408" in rest[:20]
        assert time.monotonic() - start < 60


def test_connections_are_kept(gateway, lane):
    running = gateway(deployment("gpt", lane))
    with socket.create_connection(("127.0.0.1", running.port), 5) as link:
        body = json.dumps({"model": "gpt", "messages": HELLO}).encode()
        for _ in range(3):
            link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            got = b""
            while b"\r\n\r\n" not in got:
                got += link.recv(65536)
            head, _, rest = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            length = int([line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")][0].split(b":")[1])
            while len(rest) < length:
                rest += link.recv(65536)


def test_a_compressed_answer_is_read(gateway, lane):
    whole = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
                        "choices": [{"index": 0, "message": {"role": "assistant", "content": "zipped"}, "finish_reason": "stop"}]}).encode()
    lane.script(provider.raw(gzip.compress(whole), headers={"content-encoding": "gzip"}))
    got = gateway(deployment("gpt", lane)).ask()
    asked = lane.last.headers.get("accept-encoding", "identity")
    if "gzip" in asked:
        assert got.json()["choices"][0]["message"]["content"] == "zipped"
    else:  # nobody asked for it: it must not be passed off as JSON
        assert got.status_code >= 500 or got.json()["choices"][0]["message"]["content"] == "zipped"


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eDp5"}, {"x-api-key": "wrong"}])
def test_a_master_key_is_asked_for(gateway, lane, headers):
    running = gateway(deployment("gpt", lane), general={"master_key": MASTER})
    got = running.ask(headers=headers)
    assert got.status_code == 401 and got.json()["error"]["message"]
    assert MASTER not in got.text and MASTER not in running.log and lane.count == 0


@pytest.mark.parametrize("headers", [{"authorization": f"Bearer {MASTER}"}, {"x-litellm-api-key": MASTER}, {"x-api-key": MASTER}, {"api-key": MASTER}])
def test_the_master_key_opens(gateway, lane, headers):
    running = gateway(deployment("gpt", lane), general={"master_key": MASTER})
    assert running.ask(headers=headers).status_code == 200
    assert MASTER not in json.dumps(lane.last.headers), "it goes no further"
    assert MASTER not in running.log and MASTER not in running.metrics()


def test_the_sdk_raises_on_a_wrong_master_key(gateway, lane):
    running = gateway(deployment("gpt", lane), general={"master_key": MASTER})
    with pytest.raises(openai.AuthenticationError):
        running.openai(key="wrong").chat.completions.create(model="gpt", messages=HELLO)
    with pytest.raises(openai.AuthenticationError):
        running.openai(key="wrong").models.list()
    assert running.openai(key=MASTER).chat.completions.create(model="gpt", messages=HELLO).model == "gpt"


def test_keys_come_from_the_environment(gateway, lane):
    entry = deployment("gpt", lane)
    entry["litellm_params"]["api_key"] = "os.environ/MY_KEY"
    assert gateway(entry, env={"MY_KEY": KEY}).ask().status_code == 200
    assert lane.last.headers["authorization"] == f"Bearer {KEY}"


def test_no_key_is_anywhere(gateway, lanes):
    """Good calls, failures of every kind, and a look at all that comes out of the gateway."""
    good, refused, cut, gone = lanes(4)
    refused.script(provider.error(401, f"bad key {KEY}"))
    cut.script(provider.chat(cut=3))
    dead = deployment("gone", gone)
    dead["litellm_params"]["api_base"] = f"http://user:{KEY}@127.0.0.1:9/v1"
    running = gateway(deployment("gpt", good), deployment("refused", refused), deployment("cut", cut), dead, general={"master_key": MASTER})
    headers = {"authorization": f"Bearer {MASTER}"}
    out = []
    for model in ("gpt", "refused", "cut", "gone", "nobody"):
        for stream in (False, True):
            try:
                got = running.ask(model, stream=stream, headers=headers)
                out.append(got.text + str(dict(got.headers)))
            except httpx.TransportError as e:
                out.append(str(e))
    for path in ("/health/ready", "/health/live", "/health/started", "/metrics", "/"):
        out.append(httpx.get(running.admin + path, trust_env=False).text)
    everything = "\n".join(out) + running.log
    assert KEY not in everything and MASTER not in everything


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health/started", "/livez", "/readyz", "/startupz"])
def test_health(gateway, lane, path):
    assert httpx.get(gateway(deployment("gpt", lane)).admin + path, trust_env=False).status_code == 200
    assert lane.count == 0


def test_readiness_does_not_depend_on_providers(gateway, lane):
    lane.script(provider.error(500))
    running = gateway(deployment("gpt", lane))
    running.ask()
    assert httpx.get(running.admin + "/health/ready", trust_env=False).status_code == 200


def test_both_loopbacks_are_not_the_world(gateway, lane):
    """It listens where it was told to, and only there."""
    running = gateway(deployment("gpt", lane))
    own = socket.gethostbyname(socket.gethostname())
    if not own.startswith("127."):
        with pytest.raises(OSError):
            socket.create_connection((own, running.port), 1).close()


def test_a_stop_lets_running_answers_finish(gateway, lane):
    lane.script(provider.chat("one two three four", gap=0.1))
    running = gateway(deployment("gpt", lane))
    out = []
    call = threading.Thread(target=lambda: out.append(running.ask(stream=True)))
    call.start()
    lane.wait_seen()
    running.process.send_signal(signal.SIGTERM)
    call.join()
    assert out[0].status_code == 200 and out[0].text.endswith("data: [DONE]\n\n") and "four" in out[0].text
    assert running.process.wait(5) == 0


def test_a_second_signal_ends_at_once(gateway, lane):
    lane.script(provider.chat("one two", hang=3))
    running = gateway(deployment("gpt", lane))

    def ask() -> None:
        try:
            running.ask(stream=True)
        except httpx.TransportError:
            pass

    call = threading.Thread(target=ask)
    call.start()
    lane.wait(lambda one: one.seen and one.last.pieces >= 3)
    running.process.send_signal(signal.SIGTERM)
    until(lambda: refuses(running.port), 3, lambda: "it still accepts")
    assert running.process.poll() is None, "it must wait for the stream"
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(2)
    call.join(5)
    running.process.returncode = 0 if running.process.returncode else running.process.returncode


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return False
    except OSError:
        return True


def test_a_new_file_is_used_and_a_broken_one_is_not(gateway, lanes):
    old, new = lanes(2)
    running = gateway(deployment("gpt", old))
    text = running.file.read_text()
    running.file.write_text(text.replace(old.name, new.name))
    until(lambda: running.ask().status_code == 200 and new.count, 10, lambda: f"never reloaded:\n{running.log}")
    running.file.write_text("model_list: [")
    until(lambda: "model_list" in running.log or "config" in running.log.lower(), 10)
    assert running.ask().status_code == 200


def test_the_order_of_keys_does_not_matter(gateway, lane):
    raw = json.dumps({"stream": True, "messages": HELLO, "stream_options": {"include_usage": True}, "model": "gpt"})
    got = gateway(deployment("gpt", lane)).http.post("/v1/chat/completions", content=raw)
    assert got.status_code == 200 and '"usage":{' in got.text
