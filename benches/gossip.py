#!/usr/bin/env python3
"""What gossip adds to a request, in instructions.

    cargo build --profile sim && benches/gossip.py [CALLS]      500 by default, of 1 KB each

Runs Pillion under callgrind, with gossip off and with a peer, before a provider that answers at
once, and counts what the connections of callers cost, from the first byte to the last: that is the
path of a request. The rounds of gossip and the learner go by time, of which callgrind takes some
fifty times as much, and are in the whole alone. Instructions are the same whatever else the machine
does. PILLION_BIN names the binary, which must have its symbols. The goal is 1.02 at most.
"""

import base64
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "tests/clients"))
from answering import Answering  # noqa: E402

BINARY = os.environ.get("PILLION_BIN", "target/sim/pillion")
MOST = 1.02
PATH = "pillion::listen::run::{{closure}}::{{closure}}"
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "It rises and falls."}}],
    "usage": {"prompt_tokens": 250, "completion_tokens": 6, "total_tokens": 256},
}
CALL = json.dumps({"model": "m", "messages": [{"role": "user", "content": "tide " * 200}]})


class Provider(Answering):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        self.asked()
        self.answer(ANSWER)


def free(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Gateway:
    """A Pillion, under callgrind where it is to be counted."""

    def __init__(self, folder, models, gossip, counted):
        self.port, self.admin, folder = free(), free(), pathlib.Path(folder)
        folder.mkdir()
        settings = {"model_list": models}
        if gossip:
            settings["pillion"] = {"gossip": gossip}
        config = folder / "config.yaml"
        config.write_text(json.dumps(settings))
        command = [
            BINARY, "serve", "-c", str(config),
            "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}",
        ]
        if counted:
            self.out = folder / "counted"
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.out}", *command]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=(folder / "log").open("wb"))
        until("it is ready", lambda: self.ask("/readyz") is not None)

    def ask(self, path):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=20)
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            return body if answer.status == 200 else None
        except OSError:
            return None

    def members(self):
        return len(json.loads(self.ask("/fleet") or "{}").get("members", []))

    def call(self, times):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for _ in range(times):
            connection.request(
                "POST", "/v1/chat/completions", CALL, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
        connection.close()

    def count(self, do):
        """Instructions while something is done: on the path of requests, and in all."""
        self.control("--zero")
        before = set(self.dumps())
        do()
        self.control("--dump")
        until("it is written", lambda: set(self.dumps()) - before)
        time.sleep(1)
        [dump] = set(self.dumps()) - before
        annotated = subprocess.run(
            ["callgrind_annotate", "--inclusive=yes", "--threshold=100", dump],
            check=True, capture_output=True, text=True).stdout
        return [instructions(annotated, name) for name in [PATH, "PROGRAM TOTALS"]]

    def control(self, what):
        subprocess.run(
            ["callgrind_control", what, str(self.process.pid)],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def dumps(self):
        return [it for it in self.out.parent.glob("counted*") if it.stat().st_size]

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def instructions(annotated, name):
    found = re.search(rf"^ *([0-9,]+) .*{re.escape(name)}(?: \[|$)", annotated, re.MULTILINE)
    if not found:
        raise SystemExit(f"{BINARY} has no symbol {name}")
    return int(found[1].replace(",", ""))


def until(what, is_so, seconds=120):
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"not within {seconds} s: {what}")
        time.sleep(0.2)


def per_call(folder, provider, calls, gossips):
    """Instructions of a call."""
    # By an address that is not loopback's by name: one's own is nobody else's, and not told.
    models = [
        {"model_name": "m", "litellm_params": {
            "model": f"openai/m{at}", "api_key": "k", "api_base": f"http://0.0.0.0:{provider}/v1"}}
        for at in range(2)
    ]
    folder, peer, settings = pathlib.Path(folder) / f"gossip-{gossips}", None, [None, None]
    folder.mkdir()
    if gossips:
        key = folder / "key"
        key.write_text(base64.b64encode(os.urandom(32)).decode())
        ports = [free(socket.SOCK_DGRAM) for _ in range(2)]
        settings = [
            {"key_file": str(key), "listen": f"127.0.0.1:{own}", "seeds": f"127.0.0.1:{other}"}
            for own, other in [ports, reversed(ports)]
        ]
        peer = Gateway(folder / "peer", models, settings[1], counted=False)
    gateway = Gateway(folder / "gateway", models, settings[0], counted=True)
    try:
        if gossips:
            until("they know each other", lambda: gateway.members() == 2)
        gateway.call(300)
        return [it / calls for it in gateway.count(lambda: gateway.call(calls))]
    finally:
        gateway.stop()
        if peer:
            peer.stop()


def main():
    if not shutil.which("valgrind"):
        print("skipped: it needs valgrind")
        return 0
    calls = int(sys.argv[1]) if sys.argv[1:] else 500
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="pillion-gossip-") as folder:
        off, all_off = per_call(folder, server.server_port, calls, False)
        on, all_on = per_call(folder, server.server_port, calls, True)
    ratio = on / off
    print(f"path of a request: {off:,.0f} instructions, {on:,.0f} with gossip: {ratio:.4f} times")
    print(f"all that ran meanwhile, by the call: {all_off:,.0f}, {all_on:,.0f} with gossip")
    if ratio > MOST:
        print(f"more than {MOST}")
    return int(ratio > MOST)


if __name__ == "__main__":
    sys.exit(main())
