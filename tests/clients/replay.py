"""Recorded provider traffic through Pillion, read by the SDKs.

Each recorded exchange becomes one deployment whose provider answers with the recorded bytes, streams
in several splittings. The recorded request goes in; what the SDK makes of the answer is compared
with what this file reads out of the recorded body by itself. Some streams also break off at a byte,
with a clean end of the body or without: the SDK must raise, or give all of the content. A table says
what ran and what did not.

    replay.py [--provider P] [--api A] [--only ID] [--jobs N] [--all-failures]

The corpus is not part of this repository: `PILLION_CORPUS` names it, and without it nothing runs.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import anthropic
import httpx
import openai
from pillion import ROOT, Gateway, until
from ports import free_ports

CORPUS = Path(os.environ.get("PILLION_CORPUS", ROOT.parent / "shared" / "corpus"))

# Who has a prefix of its own; the others are reached as any server that speaks OpenAI's wire.
PREFIXES = {
    "alibaba": "dashscope", "anthropic": "anthropic", "azure": "azure", "cerebras": "cerebras", "crusoe": "crusoe",
    "deepseek": "deepseek", "fireworks": "fireworks_ai", "groq": "groq", "heroku": "heroku", "hyperbolic": "hyperbolic",
    "llamafile": "llamafile", "lmstudio": "lm_studio", "mistral": "mistral", "moonshot": "moonshot", "nebius": "nebius",
    "novita": "novita", "openai": "openai", "openrouter": "openrouter", "perplexity": "perplexity", "sambanova": "sambanova",
    "together": "together_ai", "venice": "veniceai", "vercel_gateway": "vercel_ai_gateway", "vllm": "hosted_vllm",
    "voyage": "voyage", "xai": "xai", "zai": "zai",
}
# Their own prefix is known to serve these; anything else that was recorded goes as `openai`.
RESPONSES = {"azure", "openai", "openrouter", "perplexity", "xai"}
PATHS = {"chat_completions": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings",
         "responses": "/responses", "messages": "/v1/messages"}
# Same name in the corpus, another wire.
OTHER_WIRE = {("cohere", "embeddings"), ("gemini", "embeddings"), ("vertex", "embeddings"), ("ollama", "embeddings"),
              ("bedrock", "messages"), ("anthropic", "chat_completions")}
# A status that may arrive in place of the recorded one.
MAPPED = {413: {400}, 422: {400}, 504: {408}, 529: {500, 503}}
# Streams longer than this are not cut into single bytes: it is only slow.
SMALL = 20_000
# So many streams of each provider and API break off.
BROKEN = 4


@dataclass
class Case:
    """One exchange in one splitting."""

    exchange: dict
    split: str
    name: str
    trouble: list[str] = field(default_factory=list)
    altered: str = ""

    @property
    def api(self) -> str:
        return self.exchange["api"]

    @property
    def streaming(self) -> bool:
        return self.exchange["streaming"]

    @property
    def carried(self) -> bool:
        return self.split == "carried"

    @property
    def path(self) -> str:
        """Under which the recorded provider serves it."""
        if self.breaks:
            end, at = self.split.split(":")
            return f"{self.exchange['id']};split=bytes:{at};{'truncate' if end == 'cut' else 'abort'}=1"
        return self.exchange["id"] + (f";split={self.split}" if self.split and not self.carried else "")

    @property
    def breaks(self) -> bool:
        """Whether the stream ends before its end: `cut` where the body does so cleanly, else `torn`."""
        return self.split.startswith(("cut:", "torn:"))

    @property
    def prefix(self) -> str:
        provider = self.exchange["provider"]
        if self.api == "responses" and provider not in RESPONSES:
            return "openai"
        return PREFIXES.get(provider, "openai")

    @property
    def upstream_model(self) -> str:
        """What the provider calls the model."""
        url = self.exchange["request"]["url"]
        if "/deployments/" in url:
            return url.split("/deployments/")[1].split("/")[0]
        return self.exchange["request"]["body"].get("model") or "unnamed"

    def deployments(self, port: int) -> list[dict]:
        """One, or two of which the first is always asked: only where there are others is a call carried."""
        params = {"model": f"{self.prefix}/{self.upstream_model}", "api_base": f"http://127.0.0.1:{port}/{self.path}",
                  "api_key": "sk-replayed"}
        if self.prefix == "azure":
            params["api_version"] = "2024-10-21" if "/deployments/" in self.exchange["request"]["url"] else "v1"
        if not self.carried:
            return [{"model_name": self.name, "litellm_params": params}]
        return [{"model_name": self.name, "litellm_params": {**params, "weight": weight}, "model_info": {"id": f"{self.name}-{weight}"}}
                for weight in (1, 0)]


# What was recorded, read without any SDK.


def data_of(body: str) -> list[tuple[str | None, str]]:
    """The (event name, data) pairs of an event stream, the last one also without its blank line."""
    out, name, data = [], None, []
    for line in body.replace("\r\n", "\n").replace("\r", "\n").split("\n") + [""]:
        if not line:
            if data:
                out.append((name, "\n".join(data)))
            name, data = None, []
        elif line.startswith("event:"):
            name = line[6:].removeprefix(" ")
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
    return out


def recorded_events(case: Case) -> tuple[list[dict], bool]:
    """The JSON events, and whether an error ends them."""
    out = []
    for name, data in data_of(case.exchange["response"]["body"]):
        if data.startswith("[DONE]"):
            break
        if not data.strip():
            continue
        event = json.loads(data)
        if name == "ping" or event.get("type") == "ping":
            continue
        if name == "error" or event.get("error") or event.get("type") == "error":
            return out, True
        out.append(event)
    return out, False


def recorded_words(case: Case) -> str:
    """The sentence a recorded error says, in whichever form."""
    body = case.exchange["response"]["body"]
    if isinstance(body, dict) and set(body) == {"base64"}:
        body = base64.b64decode(body["base64"]).decode("utf-8", "replace")
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError:
            return ""
    body = body[0] if isinstance(body, list) and body else body
    if not isinstance(body, dict):
        return ""
    error = body.get("error", body)
    for found in (error, isinstance(error, dict) and (error.get("message") or error.get("detail")), body.get("detail"), body.get("message")):
        if isinstance(found, str) and found:
            return found
    return ""


# What both sides must agree on.


def normal(case: Case, event: dict, wants_usage: bool) -> dict | None:
    """The event without the words that the gateway may change; `None` for one it may leave out."""
    event = dict(event)
    event.pop("model", None)
    for key in ("response", "message"):
        if isinstance(event.get(key), dict):
            event[key] = {k: v for k, v in event[key].items() if k != "model"}
    if case.api in ("chat_completions", "completions") and not wants_usage:
        event.pop("usage", None)
        if event.get("choices") == [] and "prompt_filter_results" not in event:
            return None
    return event


def gist(case: Case, events: list[dict]) -> dict:
    """What an application reads out of a stream: text, tools, reasons, usage."""
    out: dict = defaultdict(str)
    usage: dict = {}
    for event in events:
        for choice in event.get("choices") or []:
            at = choice.get("index") or 0
            out[f"{at}.text"] += choice.get("text") or ""
            out[f"{at}.finish"] = choice.get("finish_reason") or out[f"{at}.finish"]
            delta = choice.get("delta") or {}
            for key in ("content", "refusal", "reasoning_content", "reasoning"):
                value = delta.get(key)
                out[f"{at}.{key}"] += value if isinstance(value, str) else json.dumps(value) if value else ""
            for number, call in enumerate(delta.get("tool_calls") or []):
                n, function = call.get("index") or number, call.get("function") or {}
                out[f"{at}.tool{n}.id"] = out[f"{at}.tool{n}.id"] or call.get("id") or ""
                out[f"{at}.tool{n}.name"] += function.get("name") or ""
                arguments = function.get("arguments")
                out[f"{at}.tool{n}.arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else ""
        kind, index = event.get("type"), event.get("index")
        if case.api == "messages":
            if kind == "content_block_start":
                out[f"{index}.start"] = json.dumps(event["content_block"], sort_keys=True)
            delta = event.get("delta") or {}
            if kind == "content_block_delta":
                for key in ("text", "thinking", "partial_json", "signature"):
                    out[f"{index}.{key}"] += delta.get(key) or ""
            if kind == "message_delta":
                out["finish"] = delta.get("stop_reason") or ""
            usage |= {k: v for k, v in ((event.get("message") or {}).get("usage") or {}).items() if v is not None}
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            out["output"] = json.dumps(event["response"].get("output"), sort_keys=True)
            usage = event["response"].get("usage") or {}
        if isinstance(event.get("usage"), dict):
            usage |= {k: v for k, v in event["usage"].items() if v is not None}
    return {**{k: v for k, v in out.items() if v}, "usage": usage}


def difference(want, got, at: str = "") -> str:
    """Where two JSON values first differ."""
    if isinstance(want, dict) and isinstance(got, dict):
        for key in list(want) + [k for k in got if k not in want]:
            if key not in got or key not in want:
                return f"{at}.{key} is {'missing' if key not in got else 'new: ' + short(got[key])}"
            if found := difference(want[key], got[key], f"{at}.{key}"):
                return found
        return ""
    if isinstance(want, list) and isinstance(got, list):
        for n, (a, b) in enumerate(zip(want, got)):
            if found := difference(a, b, f"{at}[{n}]"):
                return found
        return "" if len(want) == len(got) else f"{at} has {len(got)} items, not {len(want)}"
    return "" if want == got and isinstance(want, bool) == isinstance(got, bool) else f"{at} is {short(got)}, not {short(want)}"


def short(value) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) < 120 else text[:117] + "…"


# One call.


class Caller:
    """The SDKs of one thread."""

    def __init__(self, base: str):
        how = {"api_key": "sk-client", "max_retries": 0, "timeout": 60}
        self.openai = openai.OpenAI(base_url=f"{base}/v1", **how)
        self.anthropic = anthropic.Anthropic(base_url=base, **how)

    def call(self, case: Case):
        """The parsed JSON of the answer, or the list of events; SDK exceptions pass."""
        sdk, client = (anthropic, self.anthropic) if case.api == "messages" else (openai, self.openai)
        body = {**case.exchange["request"]["body"], "model": case.name}
        headers = {k: v for k, v in (case.exchange["request"].get("headers") or {}).items() if k == "anthropic-beta"}
        types = {
            "chat_completions": (openai.types.chat.ChatCompletion, openai.types.chat.ChatCompletionChunk),
            "completions": (openai.types.Completion, openai.types.Completion),
            "embeddings": (openai.types.CreateEmbeddingResponse, None),
            "responses": (openai.types.responses.Response, openai.types.responses.ResponseStreamEvent),
            "messages": (anthropic.types.Message, anthropic.types.RawMessageStreamEvent),
        }[case.api]
        if case.carried:
            body = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
        elif case.streaming:
            events: list[dict] = []
            stream = client.post(PATHS[case.api], cast_to=types[1], body=body, options={"headers": headers}, stream=True, stream_cls=sdk.Stream[types[1]])
            try:
                for event in stream:
                    events.append(event.to_dict(warnings=False))
            except sdk.APIError as e:
                raise Ended(events, e) from e
            return events
        got = client.post(PATHS[case.api], cast_to=types[0], body=body, options={"headers": {**headers, "X-Stainless-Raw-Response": "true"}})
        got.parse()  # the SDK must be able to
        return json.loads(got.http_response.content)


class Ended(Exception):
    """A stream that an error ended, and what had come before."""

    def __init__(self, events: list[dict], why: Exception):
        super().__init__(str(why))
        self.events, self.why = events, why


def judge(case: Case, caller: Caller) -> None:
    """Runs a case and writes down what is wrong with it."""
    if case.breaks:
        return judge_broken(case, caller)
    status = case.exchange["response"]["status"]
    body = case.exchange["response"]["body"]
    in_200 = status < 400 and isinstance(body, dict) and isinstance(body.get("error"), dict) and not body.get("choices")
    try:
        got = caller.call(case)
    except (openai.APIStatusError, anthropic.APIStatusError) as e:
        return judge_error(case, status if status >= 400 else None, e, in_200)
    except Ended as e:
        return judge_ended(case, e)
    except Exception as e:  # noqa: BLE001: whatever the SDK trips over is a finding
        case.trouble.append(f"{type(e).__name__}: {e}")
        return
    if status >= 400 or in_200:
        case.trouble.append(f"recorded {'an error object' if in_200 else status}, got a good answer: {short(got)}")
    elif case.carried:
        judge_carried(case, got)
    elif case.streaming:
        judge_stream(case, got)
    else:
        judge_whole(case, got)


def judge_broken(case: Case, caller: Caller) -> None:
    """A stream that breaks off raises, or it was all there; only the usage may be missing then."""
    try:
        got = caller.call(case)
    except (openai.APIError, anthropic.APIError, Ended):
        return
    except Exception as e:  # noqa: BLE001: whatever else the SDK trips over is a finding
        case.trouble.append(f"{type(e).__name__}: {e}")
        return
    want, _ = recorded_events(case)
    said = lambda events: {k: v for k, v in gist(case, events).items() if k != "usage"}  # noqa: E731
    if found := difference(said(want), said(got)):
        case.trouble.append(f"a part passes for the whole: {found}")


def judge_error(case: Case, status: int | None, error, in_200: bool) -> None:
    if status is None and not in_200:
        if case.streaming and isinstance(case.exchange["response"]["body"], str) and not recorded_events(case)[0]:
            return  # the stream held nothing but an error: a status is the better way to say so
        if case.carried and (recorded_events(case)[1] or not is_finished(case, recorded_events(case)[0])):
            return  # half an answer is none
        case.trouble.append(f"recorded a good answer, got {error.status_code}: {error.message[:300]}")
        return
    allowed = range(400, 600) if in_200 else {status} | MAPPED.get(status, set())
    if error.status_code not in allowed:
        case.trouble.append(f"recorded {status}, got {error.status_code}: {error.message[:300]}")
    if type(error).__name__ == "APIStatusError" and error.status_code in (400, 401, 403, 404, 429, 500):
        case.trouble.append(f"{error.status_code} raised no class of its own")
    words = recorded_words(case)
    # A long text may be shortened; its start must be there.
    if words and words[:200] not in f"{error.message} {json.dumps(error.body, ensure_ascii=False)}" and words[:200] not in str(error):
        case.trouble.append(f"the words are lost: {short(words)} became {short(error.message)}")
    form = error.body if isinstance(error.body, dict) else {}
    if case.api == "messages":
        if form.get("type") != "error" or not (form.get("error") or {}).get("message"):
            case.trouble.append(f"not Anthropic's form of an error: {short(error.body)}")
    elif not isinstance(form.get("message"), str) or not form["message"]:
        case.trouble.append(f"not OpenAI's form of an error: {short(error.body)}")


def judge_ended(case: Case, ended: Ended) -> None:
    want, errs = recorded_events(case)
    if errs:
        return
    if is_finished(case, want):
        case.trouble.append(f"the stream ended with {type(ended.why).__name__}: {ended.why} after {len(ended.events)} of {len(want)} events")
    else:
        compare(case, want, ended.events)  # the recording breaks off, and the client was told so


def is_finished(case: Case, events: list[dict]) -> bool:
    return case.api in ("embeddings",) or any(
        e.get("type") in ("message_stop", "response.completed", "response.incomplete", "response.failed")
        or any(c.get("finish_reason") for c in e.get("choices") or []) for e in events)


def judge_carried(case: Case, got: dict) -> None:
    want, errs = recorded_events(case)
    if errs:
        case.trouble.append("the recorded stream holds an error, and the SDK raised none")
    elif found := difference(said_by_events(case, want), said_by_whole(case, got)):
        case.trouble.append(f"the answer differs: {found}")
    if got.get("model", case.name) != case.name:
        case.trouble.append(f"the provider's model leaks: {got['model']!r}")


def said_by_events(case: Case, events: list[dict]) -> dict:
    """The gist of a stream, as far as a whole answer says it in the same words."""
    if case.api == "completions":
        events = [{**e, "choices": [{**c, "delta": None} for c in e.get("choices") or []]} for e in events]
    out = in_order(gist(case, [in_words(e) for e in events]))
    for key in [key for key in out if key.endswith(".start")]:
        block = json.loads(out.pop(key))
        at = key.removesuffix(".start")
        out[f"{at}.type"] = block["type"]
        if text := block.get("text", "") + out.get(f"{at}.text", ""):
            out[f"{at}.text"] = text
        given = out.pop(f"{at}.partial_json", "")
        if "input" in block:
            out[f"{at}.input"] = json.loads(given) if given else block["input"]
    if not out["usage"]:
        nested = [e["x_groq"]["usage"] for e in events if (e.get("x_groq") or {}).get("usage")]
        nested += [c["usage"] for e in events for c in e.get("choices") or [] if c.get("usage")]
        out["usage"] = nested[-1] if nested else {}
    return out


def in_words(event: dict) -> dict:
    """The event with its contents as texts, also where they are lists of parts."""
    def words(value) -> str:
        if isinstance(value, list):
            return "".join(map(words, value))
        return value if isinstance(value, str) else "".join(words(v) for k, v in (value or {}).items() if k != "type")

    def plain(choice: dict) -> dict:
        delta = choice.get("delta")
        return {**choice, "delta": {**delta, "content": words(delta.get("content"))}} if delta else choice

    return {**event, "choices": [plain(choice) for choice in event["choices"]]} if event.get("choices") else event


def in_order(out: dict) -> dict:
    """Tools by their order: whole answers do not number them."""
    numbers = sorted({key.split(".")[1] for key in out if ".tool" in key}, key=lambda name: int(name[4:]))
    names = {name: f"tool{at}" for at, name in enumerate(numbers)}
    return {".".join(names.get(part, part) for part in key.split(".", 2)): value for key, value in out.items()}


def said_by_whole(case: Case, whole: dict) -> dict:
    """The gist of a whole answer in the words of :func:`gist`."""
    if case.api == "responses":
        out = {"output": json.dumps(whole.get("output"), sort_keys=True)}
    elif case.api == "messages":
        out = {"finish": whole["stop_reason"]}
        for at, block in enumerate(whole["content"]):
            out |= {f"{at}.{key}": block[key] for key in ("type", "text", "thinking", "signature") if block.get(key)}
            if "input" in block:
                out[f"{at}.input"] = block["input"]
    else:
        pieces = [{**choice, "delta": choice.get("message")} for choice in whole["choices"]]
        out = in_order(gist(case, [in_words({"choices": pieces})]))
    return {**out, "usage": {k: v for k, v in (whole.get("usage") or {}).items() if v is not None}}


def judge_stream(case: Case, got: list[dict]) -> None:
    want, errs = recorded_events(case)
    if errs:
        case.trouble.append("the recorded stream holds an error, and the SDK raised none")
        return
    compare(case, want, got)


def compare(case: Case, want: list[dict], got: list[dict]) -> None:
    asked = bool((case.exchange["request"]["body"].get("stream_options") or {}).get("include_usage"))
    keep = lambda events: [n for e in events if (n := normal(case, e, asked)) is not None]  # noqa: E731
    a, b = keep(want), keep(got)
    case.altered = difference(a, b)
    if found := difference(gist(case, a), gist(case, b)):
        case.trouble.append(f"the answer differs: {found}")
    names = {e["model"] for e in got if e.get("model")} | {e[k]["model"] for e in got for k in ("response", "message")
                                                       if isinstance(e.get(k), dict) and e[k].get("model")}
    if names - {case.name}:
        case.trouble.append(f"the provider's model leaks: {names}")


def judge_whole(case: Case, got: dict) -> None:
    want = case.exchange["response"]["body"]
    if "model" in want and got.get("model") != case.name:
        case.trouble.append(f"model is {got.get('model')!r}, not {case.name!r}")
    if found := difference({k: v for k, v in want.items() if k != "model"}, {k: v for k, v in got.items() if k != "model"}):
        case.trouble.append(f"the answer differs: {found}")


# All calls.


def load(arguments) -> tuple[list[Case], Counter]:
    cases, excluded = [], Counter()
    for file in sorted(CORPUS.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            exchanges = [json.loads(line) for line in lines if line.strip()]
        for x in exchanges:
            key = (x["provider"], x["api"], x["streaming"])
            if x["api"] not in PATHS or (arguments.provider or x["provider"]) != x["provider"] or (arguments.api or x["api"]) != x["api"]:
                continue
            if arguments.only and arguments.only != x["id"]:
                continue
            why = None
            if (x["provider"], x["api"]) in OTHER_WIRE:
                why = "another wire"
            elif x["request"]["body"] is None:
                why = "no recorded request"
            elif not isinstance(x["request"]["body"], dict):
                why = "request is not JSON"
            elif x["provider"] == "writer" and x["api"] == "completions" and x["streaming"]:
                why = "another wire"
            elif x["api"] == "chat_completions" and "messages" not in x["request"]["body"]:
                why = "refused before any provider: no messages"
            if why:
                excluded[(*key, why)] += 1
                continue
            splits = [""]
            if x["streaming"] and x["response"]["status"] < 400:
                splits = ["whole", "event", "carried", "bytes:1"]
                if len(x["response"]["body"]) > SMALL:
                    splits.pop()
                    excluded[(*key, "too long for single bytes")] += 1
            cases += [Case(x, split, f"case-{len(cases) + n}") for n, split in enumerate(splits)]
    return cases + broken(cases), excluded


def broken(cases: list[Case]) -> list[Case]:
    """Some of the whole streams, broken off where chance has it; the same chance each time."""
    chance, out, taken = random.Random(7), [], Counter()
    for case in (case for case in cases if case.split == "whole"):
        key = (case.exchange["provider"], case.api)
        body = case.exchange["response"]["body"]
        if taken[key] == BROKEN or not isinstance(body, str):
            continue
        want, errs = recorded_events(case)
        if errs or not is_finished(case, want):
            continue
        taken[key] += 1
        for end in ("cut", "torn"):
            length = len(body.encode())
            # Near the end, where a part is most like the whole, as often as anywhere else.
            for begin in (1, 1, length * 3 // 4, length * 19 // 20):
                at = chance.randrange(begin, length)
                out.append(Case(case.exchange, f"{end}:{at}", f"case-{len(cases) + len(out)}"))
    return out


def run(cases: list[Case], gateway: Gateway, jobs: int) -> None:
    waiting: queue.Queue = queue.Queue()
    # The long ones first, so that none is left alone at the end.
    for case in sorted(cases, key=lambda c: (c.split != "bytes:1", -len(str(c.exchange["response"]["body"])))):
        waiting.put(case)

    def work() -> None:
        caller = Caller(gateway.base)
        while True:
            try:
                case = waiting.get_nowait()
            except queue.Empty:
                return
            judge(case, caller)

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def check_requests(cases: list[Case], port: int, excluded: Counter) -> Counter:
    """Compares what the providers received with what was recorded; says what the gateway changed. Excludes the
    calls that were to be carried and went as they came, as the gateway does where a hedge could do harm."""
    log = httpx.get(f"http://127.0.0.1:{port}/__replay__/requests", timeout=60, trust_env=False).json()
    sent = {entry["path"].split("/")[1]: entry for entry in log}
    changed: Counter = Counter()
    for case in list(cases):
        entry = sent.get(case.path)
        if entry and case.carried and json.loads(entry["body"]).get("stream") is not True:
            excluded[(case.exchange["provider"], case.api, True, "not carried")] += 1
            cases.remove(case)
            continue
        if not entry:
            if not case.trouble:
                case.trouble.append("the provider was never asked")
            continue
        want, got = dict(case.exchange["request"]["body"]), json.loads(entry["body"])
        if (name := got.pop("model", None)) not in (case.upstream_model, None):
            case.trouble.append(f"the provider was asked for {name!r}, not {case.upstream_model!r}")
        want.pop("model", None)
        options = dict(got.pop("stream_options", None) or {})
        recorded = dict(want.pop("stream_options", None) or {})
        options.pop("include_usage", None), recorded.pop("include_usage", None)
        if options != recorded:
            case.trouble.append(f"stream_options became {options}")
        if found := difference(want, got):
            changed[(case.exchange["provider"], case.prefix, found.split(" is ")[0].strip(".") + (" missing" if "missing" in found else " changed"))] += 1
            if case.prefix in ("openai", "anthropic"):
                case.trouble.append(f"the request was changed: {found}")
    return changed


def report(cases: list[Case], excluded: Counter, changed: Counter, took: float, every: bool) -> bool:
    rows: dict = defaultdict(lambda: [0, 0, Counter()])
    for case in cases:
        row = rows[(case.exchange["provider"], case.api, case.streaming)]
        row[0] += 1
        row[1] += not case.trouble
    for (*key, why), count in excluded.items():
        rows[tuple(key)][2][why] += count
    print(f"{'provider':<16} {'api':<17} {'stream':<6} {'run':>5} {'passed':>6}  excluded")
    for (provider, api, streaming), (ran, passed, out) in sorted(rows.items()):
        words = ", ".join(f"{count} {why}" for why, count in sorted(out.items()))
        print(f"{provider:<16} {api:<17} {'yes' if streaming else 'no':<6} {ran:>5} {passed:>6}  {words}")
    splits = Counter(case.split.split(":")[0] if case.breaks else case.split or "not streamed" for case in cases)
    exchanges = len({case.exchange["id"] for case in cases})
    passed = sum(not case.trouble for case in cases)
    print(f"\n{exchanges} exchanges in {len(cases)} runs ({', '.join(f'{n} {s}' for s, n in sorted(splits.items()))}): "
          f"{passed} passed, {len(cases) - passed} failed, in {took:.0f} s")
    count = lambda *reasons: sum(n for (*_, why), n in excluded.items() if why in reasons)  # noqa: E731
    long, uncarried = count("too long for single bytes"), count("not carried")
    print(f"excluded: {sum(excluded.values()) - long - uncarried} exchanges; {long} streams over {SMALL} bytes from single bytes only; "
          f"{uncarried} streams from being carried, because their provider tells no usage in a stream or the call must not be made twice")
    altered = Counter((c.exchange["provider"], c.api, c.altered[:100]) for c in cases if c.altered and not c.trouble)
    for (provider, api, what), count in altered.most_common(20):
        print(f"  same meaning, other words: {provider} {api}: {what} ({count})")
    for (provider, prefix, what), count in sorted(changed.items()):
        print(f"  request changed for {provider} as {prefix}: {what} ({count})")
    failed = [case for case in cases if case.trouble]
    for case in failed[: None if every else 60]:
        print(f"  FAILED {case.exchange['id']} {case.split} as {case.prefix}: {'; '.join(case.trouble)}")
    if len(failed) > 60 and not every:
        print(f"  … and {len(failed) - 60} more")
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--provider")
    parser.add_argument("--api")
    parser.add_argument("--only", help="one exchange")
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--all-failures", action="store_true")
    arguments = parser.parse_args()
    server = CORPUS / "replay.py"
    if not server.exists():
        print("skipped: the corpus of recorded provider traffic is not here (PILLION_CORPUS names it)")
        return 0
    cases, excluded = load(arguments)
    if not cases:
        print("no exchange is like that")
        return 1
    (port,) = free_ports(1)
    upstream = subprocess.Popen([sys.executable, str(server), "serve", "--port", str(port)], stdout=subprocess.DEVNULL)
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as home:
            until(lambda: answers(port), 30, lambda: "the corpus is not served")
            config = {"model_list": [entry for case in cases for entry in case.deployments(port)],
                      "pillion": {"hedge": {"stream_upstream": True}},
                      "router_settings": {"num_retries": 0, "disable_cooldowns": True}, "litellm_settings": {"request_timeout": 60}}
            gateway = Gateway(config, Path(home))
            try:
                run(cases, gateway, arguments.jobs)
                changed = check_requests(cases, port, excluded)
            finally:
                log = gateway.log
                code = gateway.stop()
    finally:
        upstream.terminate()
        upstream.wait()
    good = report(cases, excluded, changed, time.monotonic() - start, arguments.all_failures)
    if code != 0 or "panicked" in log:
        print(f"the gateway ended with {code}:\n{log[-5000:]}")
        return 1
    return 0 if good else 1


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/__replay__/requests", timeout=1, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    sys.exit(main())
