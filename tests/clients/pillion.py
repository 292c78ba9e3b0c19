"""A running Pillion and the SDKs in front of it, for tests in Python.

`PILLION_BIN` names the binary; the default is the release build.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import anthropic
import httpx
import openai
from fake import Lane
from ports import free_ports

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("PILLION_BIN", ROOT / "target" / "release" / "pillion"))

# The provider's key in every configuration: no log, metric, header or error may hold it.
KEY = "sk-provider-secret-7f3a9c"


def deployment(group: str, lane: Lane, model: str = "openai/gpt-4o-mini", id: str | None = None, info: dict | None = None, **params) -> dict:
    """One `model_list` entry that calls the lane."""
    provider = model.split("/")[0]
    base = lane.base if provider in ("anthropic", "azure") else lane.url
    info = {**({"id": id} if id else {}), **(info or {})}
    entry = {"model_name": group, "litellm_params": {"model": model, "api_base": base, "api_key": KEY, **params}}
    return {**entry, "model_info": info} if info else entry


class Gateway:
    """A running Pillion; without a configuration it is the demo."""

    def __init__(self, config: dict | None, home: Path, env: dict | None = None, args: tuple = ()):
        self.port, self.admin_port = free_ports(2)
        self.base, self.admin = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.admin_port}"
        home.mkdir(parents=True, exist_ok=True)
        self._lines: list[tuple[str, str]] = []
        command = [str(BINARY), "demo"]
        if config is not None:
            self.file = home / "config.yaml"
            self.file.write_text(yaml(config) + "\n")
            command = [str(BINARY), "serve", "-c", str(self.file), "--state-dir", str(home / "state")]
        command += ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}", *args]
        # Only this environment: a key of the developer's own must never serve a test.
        clean = {"PATH": os.environ["PATH"], "HOME": str(home), **(env or {})}
        self.process = subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
        self._readers = [threading.Thread(target=self._read, args=(name, pipe), daemon=True)
                         for name, pipe in (("out", self.process.stdout), ("err", self.process.stderr))]
        for reader in self._readers:
            reader.start()
        self.http = httpx.Client(base_url=self.base, timeout=30, trust_env=False)
        until(self._ready, 10, lambda: f"the gateway was not ready in 10 s:\n{self.log}")

    def _read(self, name: str, pipe) -> None:
        for line in pipe:
            self._lines.append((name, line.rstrip("\n")))

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            time.sleep(0.1)  # let the readers take the last words
            raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.log}")
        try:
            return httpx.get(f"{self.admin}/health/ready", timeout=1, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def log(self) -> str:
        return "\n".join(line for _, line in list(self._lines))

    @property
    def records(self) -> list[dict]:
        """The lines of standard output that are JSON objects."""
        out = []
        for name, line in list(self._lines):
            if name == "out" and line.startswith("{"):
                out.append(json.loads(line))
        return out

    def record(self, call_id: str) -> dict:
        """The one access-log line of a call."""
        found = until(lambda: [r for r in self.records if call_id in json.dumps(r)], 3, lambda: f"no record of {call_id}:\n{self.log}")
        assert len(found) == 1, found
        return found[0]

    def metrics(self) -> str:
        got = httpx.get(f"{self.admin}/metrics", timeout=5, trust_env=False)
        assert got.status_code == 200
        return got.text

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        sum_ = 0.0
        for line in self.metrics().splitlines():
            head, _, value = line.rpartition(" ")
            if line.startswith("#") or head.split("{")[0] != name:
                continue
            if all(f'{key}="{want}"' in head for key, want in labels.items()):
                sum_ += float(value)
        return sum_

    def openai(self, key: str = "sk-client", **how) -> openai.OpenAI:
        how = {"max_retries": 0, "timeout": 30, **how}
        return openai.OpenAI(base_url=f"{self.base}/v1", api_key=key, **how)

    def async_openai(self, key: str = "sk-client") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.base}/v1", api_key=key, max_retries=0, timeout=30)

    def anthropic(self, key: str = "sk-client", **how) -> anthropic.Anthropic:
        how = {"max_retries": 0, "timeout": 30, **how}
        return anthropic.Anthropic(base_url=self.base, api_key=key, **how)

    def post(self, body: dict, path: str = "/v1/chat/completions", **how) -> httpx.Response:
        return self.http.post(path, json=body, **how)

    def ask(self, model: str = "gpt", **body) -> httpx.Response:
        """A small chat call without an SDK."""
        headers = body.pop("headers", None)
        return self.post({"model": model, "messages": HELLO, **body}, headers=headers)

    def stop(self) -> int:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        code = self.process.wait()
        for reader in self._readers:
            reader.join(2)
        return code


HELLO = [{"role": "user", "content": "hello"}]


def until(holds, within: float, complaint=lambda: "it never came true"):
    """Polls until `holds()` is true and returns that."""
    end = time.monotonic() + within
    while not (got := holds()):
        assert time.monotonic() < end, complaint()
        time.sleep(0.005)
    return got


def yaml(value, depth: int = 0) -> str:
    """The value as block YAML, as people write their configuration."""
    pad = "  " * depth
    if isinstance(value, dict) and value:
        lines = []
        for key, item in value.items():
            nested = isinstance(item, (dict, list)) and item
            name = key if key.replace("_", "").isalnum() else json.dumps(key)
            lines.append(f"{pad}{name}:" + ("\n" + yaml(item, depth + 1) if nested else " " + yaml(item)))
        return "\n".join(lines)
    if isinstance(value, list) and value:
        return "\n".join(f"{pad}- " + yaml(item, depth + 1).lstrip(" ") for item in value)
    return json.dumps(value, ensure_ascii=False)
