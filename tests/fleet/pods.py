"""Sidecars, each a process in a namespace of its own."""

import http.client
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import network

BINARY = os.environ.get("PILLION_BIN", "target/release/pillion")
GOSSIP_PORT = 24082
LIMIT = 120  # requests a minute of the group `limited`
PROMPT = "x" * 20_000  # too long for a strategy to explore with


class Pod:
    """One sidecar: its files, its process, and what can be asked of it."""

    def __init__(self, at, space, folder, deployments=None, extra=""):
        self.at, self.space = at, space
        self.folder = pathlib.Path(folder) / f"pod{at}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.service = network.SERVICE.format(10 + at)
        self.gossip = network.GOSSIP.format(10 + at)
        self.key_file = self.folder / "key"
        self.config = None
        if deployments is not None:
            self.config = self.folder / "config.yaml"
            self.config.write_text(configuration(deployments) + extra)
        self.log = self.folder / "log"
        self.process = None

    def start(self, gossip=True, address=None, seed="pillion.fleet.test"):
        environment = {name: os.environ[name] for name in ["PATH", "HOME"] if name in os.environ}
        if gossip:
            environment |= {
                "PILLION_GOSSIP_SEEDS": f"{seed}:{GOSSIP_PORT}",
                "PILLION_GOSSIP_KEY_FILE": str(self.key_file),
                "PILLION_GOSSIP_ADVERTISE": address or self.gossip,
                "PILLION_GOSSIP_ZONE": "left" if self.at < 4 else "right",
            }
        command = [
            *(["ip", "netns", "exec", self.space] if self.space else []),
            BINARY, "serve", *(["-c", str(self.config)] if self.config else []),
            "--listen", f"{self.service}:24080", "--admin", f"{self.service}:24081",
            "--state-dir", str(self.folder / "state"),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=log
            )

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(20)

    def send(self, model, prompt="Hello"):
        """The status of a call."""
        connection = http.client.HTTPConnection(self.service, 24080, timeout=20)
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]})
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    def ask(self, path):
        connection = http.client.HTTPConnection(self.service, 24081, timeout=5)
        connection.request("GET", path)
        body = connection.getresponse().read()
        connection.close()
        return body

    def fleet(self):
        try:
            return json.loads(self.ask("/fleet"))
        except OSError:
            return {"gossip": "down", "members": [], "deployments": []}

    def alive(self):
        return sum(member["health"] == "alive" for member in self.fleet()["members"])

    def metric(self, name):
        lines = self.ask("/metrics").decode().splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(map(float, values))

    def dropped(self, reason):
        return self.metric(f'pillion_gossip_datagrams_dropped_total{{reason="{reason}"}}')


def configuration(deployments):
    """The groups and their deployments, by name and base. Who has a weight is drawn by lot, the others
    are chosen by what was learned."""
    models = [
        {
            "model_name": group,
            "litellm_params": {
                "model": "openai/m", "api_base": deployment.base, "api_key": "k",
                **({"weight": 1} if group == "m" else {}),
                **({"rpm": LIMIT} if group == "limited" else {}),
            },
            "model_info": {"id": name},
        }
        for group, members in deployments.items()
        for name, deployment in members.items()
    ]
    settings = {
        "model_list": models,
        "router_settings": {"optional_pre_call_checks": ["enforce_model_rate_limits"]},
        "pillion": {"log": {"format": "text"}, "shutdown": {"drain_timeout": "1s"}},
    }
    return json.dumps(settings, indent=1)


def until(what, is_so, seconds, step=0.05):
    """Waits for a condition, and says how long that took."""
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        if is_so():
            return time.monotonic() - start
        time.sleep(step)
    raise AssertionError(f"not within {seconds} s: {what}")


class Traffic:
    """Calls of every pod at a steady rate, until it is left; counts what they ended with."""

    def __init__(self, pods, model, rate):
        self.pods, self.model, self.rate = pods, model, rate
        self.statuses, self.over = {}, threading.Event()
        self.lock = threading.Lock()

    def __enter__(self):
        self.threads = [threading.Thread(target=self.call, args=(pod,)) for pod in self.pods]
        for thread in self.threads:
            thread.start()
        return self

    def call(self, pod):
        due = time.monotonic() + (pod.at % 8) / 8 / self.rate
        while not self.over.wait(max(0, due - time.monotonic())):
            due += 1 / self.rate
            try:
                status = pod.send(self.model)
            except OSError as error:
                status = type(error).__name__
            with self.lock:
                self.statuses[status] = self.statuses.get(status, 0) + 1

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
