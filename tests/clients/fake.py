"""A provider made of cardboard: answers as it is told to and remembers everything it was asked.

One process serves any number of *lanes*. A lane is a path prefix, so that a test gives its own
deployments `api_base: http://127.0.0.1:PORT/<lane>/v1` and shares nothing with other tests. A lane
plays its script reply by reply and repeats the last one; without a script it answers every endpoint
with a small good answer. Each request is kept as a `Seen`, with the moment the client went away.

Standard library only. `python fake.py` serves it to other languages, with `PUT /__fake__/LANE`
(a JSON list of replies, each `{"kind": "chat", …}`) and `GET /__fake__/LANE` (what was seen).
"""

import base64
import itertools
import json
import select
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable
from urllib.parse import parse_qs, urlsplit

# No wait of the fake outlives a test run, however badly a client behaves.
PATIENCE = 30.0

# Added to the model a request named, as providers do; a client that sees it has seen a leak.
DATED = "-2026-01-01"


@dataclass
class Seen:
    """One request, and what became of its connection. Times are of the monotonic clock."""

    method: str
    path: str
    query: dict
    headers: dict
    raw: bytes
    at: float
    number: int
    answered_at: float | None = None
    closed_at: float | None = None
    pieces: int = 0
    json: Any = None

    @property
    def tail(self) -> str:
        """The endpoint: the path without lane, version and deployment."""
        for name in ENDPOINTS:
            if self.path.rstrip("/").endswith("/" + name):
                return name
        return self.path.rsplit("/", 1)[-1]

    @property
    def stream(self) -> bool:
        return isinstance(self.json, dict) and bool(self.json.get("stream"))


ENDPOINTS = ("chat/completions", "completions", "embeddings", "responses", "messages/count_tokens", "messages", "models")


@dataclass
class Reply:
    """What to answer, and how the connection misbehaves on the way."""

    render: Callable[[Seen], tuple[int, dict, bytes | list[bytes]]]
    delay: float = 0.0  # before the status line
    gap: float = 0.0  # before each event but the first
    cut: int | None = None  # after so many events the connection is reset; 0: before the status line
    end: int | None = None  # after so many events the body ends as if it were whole
    hang: int | None = None  # after so many events nothing comes any more; 0: not even the status line
    headers: dict = field(default_factory=dict)


class Lane:
    """One prefix: its script and what it saw."""

    def __init__(self, fake: "Fake", name: str):
        self.fake, self.name = fake, name
        self.base = f"{fake.base}/{name}"
        self.url = f"{self.base}/v1"
        self._seen: list[Seen] = []
        self._script: list[Reply] = []
        self._played = 0
        self._changed = threading.Condition()

    def script(self, *replies: Reply) -> "Lane":
        with self._changed:
            self._script, self._played = list(replies), 0
        return self

    @property
    def seen(self) -> list[Seen]:
        with self._changed:
            return list(self._seen)

    @property
    def count(self) -> int:
        return len(self.seen)

    @property
    def last(self) -> Seen:
        assert self.seen, f"lane {self.name} saw no request"
        return self.seen[-1]

    def wait(self, holds: Callable[["Lane"], Any], within: float = 5.0) -> Any:
        """Waits until `holds(self)` is true, woken by every event of the lane."""
        end = time.monotonic() + within
        while True:
            got = holds(self)
            left = end - time.monotonic()
            if got or left <= 0:
                assert got, f"lane {self.name}: not within {within} s; saw {[vars(s) for s in self.seen]}"
                return got
            with self._changed:
                self._changed.wait(min(left, 0.02))

    def wait_seen(self, count: int = 1, within: float = 5.0) -> list[Seen]:
        return self.wait(lambda lane: lane.seen if lane.count >= count else None, within)

    def wait_closed(self, within: float = 5.0) -> Seen:
        """The last request, once its client has gone away."""
        return self.wait(lambda lane: lane.last if lane.seen and lane.last.closed_at else None, within)

    def _next(self, seen: Seen) -> Reply:
        with self._changed:
            self._seen.append(seen)
            if self._script:
                reply = self._script[min(self._played, len(self._script) - 1)]
                self._played += 1
            else:
                reply = answer()
            self._changed.notify_all()
        return reply

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Fake:
    """The server. `with Fake() as fake:`"""

    def __init__(self, port: int = 0, address: str = "127.0.0.1"):
        self._lanes: dict[str, Lane] = {}
        self._lock = threading.Lock()
        self._names = itertools.count(1)
        self._numbers = itertools.count(1)
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server((address, port), handler)
        self.port = self._server.server_address[1]
        self.base = f"http://{address}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "Fake":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def lane(self, name: str | None = None, *replies: Reply) -> Lane:
        """The lane of that name; without one, a new lane."""
        with self._lock:
            name = name or f"lane{next(self._names)}"
            lane = self._lanes.setdefault(name, Lane(self, name))
        return lane.script(*replies) if replies else lane


class _Server(ThreadingHTTPServer):
    request_queue_size, daemon_threads, allow_reuse_address = 512, True, True

    def handle_error(self, request, client_address):  # a client that hangs up is normal here
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError, ValueError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fake: Fake

    def log_message(self, *_: object) -> None:
        pass

    def _any(self) -> None:
        at = time.monotonic()
        raw = self._body()
        url = urlsplit(self.path)
        if url.path.startswith("/__fake__/"):
            return self._control(url.path.removeprefix("/__fake__/"), raw)
        name = url.path.lstrip("/").split("/", 1)[0]
        headers = {key.lower(): value for key, value in self.headers.items()}
        seen = Seen(self.command, url.path, parse_qs(url.query), headers, raw, at, next(self.fake._numbers))
        try:
            seen.json = json.loads(raw) if raw else None
        except ValueError:
            seen.json = None
        lane = self.fake.lane(name)
        self._play(lane, lane._next(seen), seen)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _any

    def _body(self) -> bytes:
        if "chunked" not in (self.headers.get("transfer-encoding") or "").lower():
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _play(self, lane: Lane, reply: Reply, seen: Seen) -> None:
        try:
            if self._gone(lane, seen, reply.delay):
                return
            if reply.hang == 0:
                return self._hang(lane, seen)
            if reply.cut == 0:
                return self._reset()
            status, headers, body = reply.render(seen)
            self.send_response_only(status)
            for key, value in {**headers, **reply.headers}.items():
                self.send_header(key, value)
            if isinstance(body, bytes):
                if reply.cut is not None or reply.hang is not None:
                    half = len(body) // 2
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body[:half])
                    self.wfile.flush()
                    return self._hang(lane, seen) if reply.hang is not None else self._reset()
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            elif not self._stream(lane, reply, seen, body):
                return
            self.wfile.flush()
            seen.answered_at = time.monotonic()
            lane._wake()
        except (BrokenPipeError, ConnectionResetError):
            self._left(lane, seen)

    def _stream(self, lane: Lane, reply: Reply, seen: Seen, events: list[bytes]) -> bool:
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for number, event in enumerate(events):
            if number == reply.cut:
                self._reset()
                return False
            if number == reply.hang:
                self._hang(lane, seen)
                return False
            if number == reply.end:
                break
            if self._gone(lane, seen, reply.gap if number else 0):
                return False
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            seen.pieces += 1
            lane._wake()
        self.wfile.write(b"0\r\n\r\n")
        return True

    def _gone(self, lane: Lane, seen: Seen, wait: float) -> bool:
        """Waits, and says whether the client went away meanwhile."""
        end = time.monotonic() + wait
        while True:
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self.connection], [], [], left)
            if ready:
                try:
                    if self.connection.recv(1, socket.MSG_PEEK) == b"":
                        self._left(lane, seen)
                        return True
                except OSError:
                    self._left(lane, seen)
                    return True
                time.sleep(left)  # bytes of the next request: the client is there
            if left <= 0 or ready:
                return False

    def _hang(self, lane: Lane, seen: Seen) -> None:
        self._gone(lane, seen, PATIENCE)
        self.close_connection = True

    def _left(self, lane: Lane, seen: Seen) -> None:
        seen.closed_at = seen.closed_at or time.monotonic()
        self.close_connection = True
        lane._wake()

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # The reader and the writer hold the socket open; only without them does close() reset it.
        self.rfile.close()
        self.connection.close()

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            pass

    def _control(self, name: str, raw: bytes) -> None:
        lane = self.fake.lane(name)
        if self.command == "PUT":
            lane.script(*[reply(**spec) for spec in json.loads(raw)])
        if self.command == "DELETE":
            with lane._changed:
                lane._seen.clear()
        now = time.monotonic()
        out = [
            {
                "method": s.method, "path": s.path, "query": s.query, "headers": s.headers, "json": s.json,
                "pieces": s.pieces, "answered": s.answered_at is not None, "closed": s.closed_at is not None,
                "closed_ms_ago": s.closed_at and (now - s.closed_at) * 1000,
            }
            for s in lane.seen
        ]
        body = json.dumps(out).encode()
        self.send_response_only(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


# What can be answered. Each takes the fields of `Reply` as further keywords.


def reply(kind: str, **fields: Any) -> Reply:
    """A reply from words alone, for scripts that come as JSON."""
    return KINDS[kind](**fields)


def answer(**how: Any) -> Reply:
    """A good answer of whatever endpoint is asked."""

    def render(seen: Seen):
        make = {
            "chat/completions": chat, "completions": completion, "embeddings": embedding, "responses": response,
            "messages": message, "messages/count_tokens": tokens, "models": models,
        }.get(seen.tail)
        return (make() if make else error(404, f"no such path: {seen.path}")).render(seen)

    return Reply(render, **how)


def raw(body: bytes | str | dict, status: int = 200, kind: str = "application/json", **how: Any) -> Reply:
    """Exactly this body."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else dumps(body)
    return Reply(lambda _: (status, {"content-type": kind}, data), **how)


def events(*pieces: bytes | str | dict, status: int = 200, **how: Any) -> Reply:
    """A stream of exactly these pieces; a dict becomes a `data:` event."""
    out = [p if isinstance(p, bytes) else p.encode() if isinstance(p, str) else data(p) for p in pieces]
    return Reply(lambda _: (status, {"content-type": "text/event-stream"}, out), **how)


def error(status: int, message: str = "upstream says no", code: str | None = None, type: str | None = None,
          param: str | None = None, **how: Any) -> Reply:
    """An error in OpenAI's form, with the words OpenAI uses for that status."""
    kind, word = {
        400: ("invalid_request_error", None), 401: ("invalid_request_error", "invalid_api_key"),
        403: ("invalid_request_error", "unsupported_country_region_territory"),
        404: ("invalid_request_error", "model_not_found"), 408: ("timeout", None), 409: ("conflict", None),
        413: ("invalid_request_error", "request_too_large"), 422: ("invalid_request_error", None),
        429: ("requests", "rate_limit_exceeded"), 503: ("service_unavailable", None),
    }.get(status, ("server_error", None))
    body = {"error": {"message": message, "type": type or kind, "param": param, "code": code or word}}
    return Reply(lambda _: (status, {"content-type": "application/json", "x-request-id": "req_fake"}, dumps(body)), **how)


def context_window(**how: Any) -> Reply:
    return error(400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
                 code="context_length_exceeded", param="messages", **how)


def content_policy(**how: Any) -> Reply:
    return error(400, "Your request was rejected as a result of our safety system.", code="content_policy_violation", **how)


def chat(text: str = "Hello from upstream.", tools: list | None = None, finish: str | None = None,
         usage: dict | None = None, reasoning: str | None = None, empties: int = 0, **how: Any) -> Reply:
    """A chat completion, streamed if the request asks for it; `tools` are (id, name, arguments)."""
    usage = usage or {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    finish = finish or ("tool_calls" if tools else "stop")

    def render(seen: Seen):
        asked = seen.json or {}
        head = {"id": "chatcmpl-fake", "created": 1760000000, "model": str(asked.get("model", "deployed")) + DATED,
                "system_fingerprint": "fp_fake"}
        count = asked.get("n") or 1
        if not seen.stream:
            said = {"role": "assistant", "content": None if tools else text, "refusal": None}
            if reasoning:
                said["reasoning_content"] = reasoning
            if tools:
                said["tool_calls"] = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in tools]
            choices = [{"index": i, "message": said, "logprobs": None, "finish_reason": finish} for i in range(count)]
            body = {**head, "object": "chat.completion", "choices": choices, "usage": usage}
            return 200, openai_headers(), dumps(body)
        wants = (asked.get("stream_options") or {}).get("include_usage")
        rest = {"usage": None} if wants else {}
        chunk = lambda delta, end=None, index=0: data({**head, "object": "chat.completion.chunk", "choices": [  # noqa: E731
            {"index": index, "delta": delta, "logprobs": None, "finish_reason": end}], **rest})
        out = [chunk({"role": "assistant", "content": "", "refusal": None}, index=i) for i in range(count)]
        out += [chunk({}) for _ in range(empties)]
        out += [chunk({"reasoning_content": p}) for p in cut(reasoning or "", 9)]
        if tools:
            for index, (ident, name, arguments) in enumerate(tools):
                call = {"index": index, "id": ident, "type": "function", "function": {"name": name, "arguments": ""}}
                out.append(chunk({"tool_calls": [call]}))
                out += [chunk({"tool_calls": [{"index": index, "function": {"arguments": p}}]}) for p in cut(arguments, 5)]
        else:
            out += [chunk({"content": p}, index=i) for p in words(text) for i in range(count)]
        out += [chunk({}, finish, index=i) for i in range(count)]
        if wants:
            out.append(data({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}))
        out.append(b"data: [DONE]\n\n")
        return 200, {**openai_headers(), "content-type": "text/event-stream; charset=utf-8"}, out

    return Reply(render, **how)


def completion(text: str = " there was a fake.", **how: Any) -> Reply:
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}

    def render(seen: Seen):
        asked = seen.json or {}
        head = {"id": "cmpl-fake", "object": "text_completion", "created": 1760000000, "model": str(asked.get("model")) + DATED}
        if not seen.stream:
            choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}
            return 200, openai_headers(), dumps({**head, "choices": [choice], "usage": usage})
        wants = (asked.get("stream_options") or {}).get("include_usage")
        rest = {"usage": None} if wants else {}
        out = [data({**head, "choices": [{"text": p, "index": 0, "logprobs": None, "finish_reason": None}], **rest}) for p in words(text)]
        out.append(data({**head, "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}], **rest}))
        if wants:
            out.append(data({**head, "choices": [], "usage": usage}))
        return 200, {"content-type": "text/event-stream"}, out + [b"data: [DONE]\n\n"]

    return Reply(render, **how)


def embedding(size: int = 4, **how: Any) -> Reply:
    def render(seen: Seen):
        asked = seen.json or {}
        given = asked.get("input")
        given = given if isinstance(given, list) and not (given and isinstance(given[0], int)) else [given]
        rows = []
        for index, _ in enumerate(given):
            vector = [index + i / 8 for i in range(size)]  # exact in float32
            packed = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
            value = packed if asked.get("encoding_format") == "base64" else vector
            rows.append({"object": "embedding", "index": index, "embedding": value})
        body = {"object": "list", "data": rows, "model": str(asked.get("model")) + DATED, "usage": {"prompt_tokens": 6, "total_tokens": 6}}
        return 200, openai_headers(), dumps(body)

    return Reply(render, **how)


def response(text: str = "Hello from responses.", **how: Any) -> Reply:
    """OpenAI's /responses."""
    usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 4,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 13}

    def render(seen: Seen):
        asked = seen.json or {}
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "msg_fake", "status": "completed", "role": "assistant", "content": [part]}
        whole = {"id": "resp_fake", "object": "response", "created_at": 1760000000, "status": "completed", "error": None,
                 "model": str(asked.get("model")) + DATED, "output": [item], "usage": usage, "parallel_tool_calls": True,
                 "tool_choice": "auto", "tools": [], "metadata": {}}
        if not seen.stream:
            return 200, openai_headers(), dumps(whole)
        started = {**whole, "status": "in_progress", "output": [], "usage": None}
        at = {"item_id": "msg_fake", "output_index": 0, "content_index": 0}
        plan = [("response.created", {"response": started}), ("response.in_progress", {"response": started}),
                ("response.output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}}),
                ("response.content_part.added", {**at, "part": {**part, "text": ""}})]
        plan += [("response.output_text.delta", {**at, "delta": p, "logprobs": []}) for p in words(text)]
        plan += [("response.output_text.done", {**at, "text": text, "logprobs": []}), ("response.content_part.done", {**at, "part": part}),
                 ("response.output_item.done", {"output_index": 0, "item": item}), ("response.completed", {"response": whole})]
        return 200, {"content-type": "text/event-stream"}, [
            named(name, {"type": name, "sequence_number": n, **body}) for n, (name, body) in enumerate(plan)]

    return Reply(render, **how)


def message(text: str = "Hello from Claude.", tools: list | None = None, thinking: str | None = None,
            stop: str | None = None, usage: dict | None = None, fail: str | None = None, **how: Any) -> Reply:
    """Anthropic's /v1/messages; `fail` ends a stream with an error event of that type."""
    usage = usage or {"input_tokens": 12, "output_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    stop = stop or ("tool_use" if tools else "end_turn")

    def render(seen: Seen):
        asked = seen.json or {}
        blocks = []
        if thinking:
            blocks.append({"type": "thinking", "thinking": thinking, "signature": "c2lnbmVk"})
        if text:
            blocks.append({"type": "text", "text": text})
        blocks += [{"type": "tool_use", "id": i, "name": n, "input": json.loads(a or "{}")} for i, n, a in tools or []]
        head = {"id": "msg_fake", "type": "message", "role": "assistant", "model": str(asked.get("model")) + DATED}
        if not seen.stream:
            body = {**head, "content": blocks, "stop_reason": stop, "stop_sequence": None, "usage": usage}
            return 200, anthropic_headers(), dumps(body)
        first = {**usage, "output_tokens": 1}
        begun = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": first}
        out = [named("message_start", {"type": "message_start", "message": begun}), named("ping", {"type": "ping"})]
        for index, block in enumerate(blocks):
            kind = block["type"]
            empty = {"thinking": {"type": kind, "thinking": "", "signature": ""}, "text": {"type": kind, "text": ""},
                     "tool_use": {**block, "input": {}}}[kind]
            out.append(named("content_block_start", {"type": "content_block_start", "index": index, "content_block": empty}))
            deltas = {
                "thinking": lambda b: [{"type": "thinking_delta", "thinking": p} for p in words(b["thinking"])]
                + [{"type": "signature_delta", "signature": b["signature"]}],
                "text": lambda b: [{"type": "text_delta", "text": p} for p in words(b["text"])],
                "tool_use": lambda b: [{"type": "input_json_delta", "partial_json": p} for p in [""] + cut(json.dumps(b["input"]), 6)],
            }[kind](block)
            out += [named("content_block_delta", {"type": "content_block_delta", "index": index, "delta": d}) for d in deltas]
            out.append(named("content_block_stop", {"type": "content_block_stop", "index": index}))
        if fail:
            out.append(named("error", {"type": "error", "error": {"type": fail, "message": "fake failure in the stream"}}))
        else:
            end = {"stop_reason": stop, "stop_sequence": None}
            out.append(named("message_delta", {"type": "message_delta", "delta": end, "usage": {"output_tokens": usage["output_tokens"]}}))
            out.append(named("message_stop", {"type": "message_stop"}))
        return 200, {**anthropic_headers(), "content-type": "text/event-stream; charset=utf-8"}, out

    return Reply(render, **how)


def anthropic_error(status: int, message: str = "upstream says no", type: str | None = None, **how: Any) -> Reply:
    kind = type or {
        400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
        413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
    }.get(status, "api_error")
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake"}
    return Reply(lambda _: (status, anthropic_headers(), dumps(body)), **how)


def tokens(count: int = 42, **how: Any) -> Reply:
    return raw({"input_tokens": count}, **how)


def models(**how: Any) -> Reply:
    return raw({"object": "list", "data": [{"id": "fake", "object": "model", "created": 1760000000, "owned_by": "fake"}]}, **how)


KINDS = {
    "answer": answer, "anthropic_error": anthropic_error, "chat": chat, "completion": completion,
    "content_policy": content_policy, "context_window": context_window, "embedding": embedding, "error": error,
    "events": events, "message": message, "models": models, "raw": raw, "response": response, "tokens": tokens,
}


def openai_headers() -> dict:
    return {"content-type": "application/json", "x-request-id": "req_fake", "openai-processing-ms": "5",
            "x-ratelimit-remaining-requests": "4999"}


def anthropic_headers() -> dict:
    return {"content-type": "application/json", "request-id": "req_fake", "anthropic-ratelimit-requests-remaining": "4999"}


def dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def data(value: Any) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"


def named(name: str, value: Any) -> bytes:
    return b"event: " + name.encode() + b"\n" + data(value)


def words(text: str) -> list[str]:
    """The text in pieces that end after each space."""
    return [p for p in "\0".join(text.split(" ")).replace("\0", " \0").split("\0") if p]


def cut(text: str, size: int) -> list[str]:
    return [text[i:i + size] for i in range(0, len(text), size)]


if __name__ == "__main__":
    with Fake() as served:
        print(served.base, flush=True)
        sys.stdin.read()  # until whoever started it goes away
