"""A small fleet under traffic, watched by a real Prometheus: does every panel show something? And how does it look?

Pods of one namespace: `pillion demo`, whose deployments have a tail and fail now and then, and two
sidecars before a provider made of cardboard, for what the demo has no part in: queues, limits, broken
streams, fallbacks, hedges that are only observed, gossip. And the injector, which is asked about pods
as the API server would.
"""

import base64
import json
import math
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import dashboards
import draw
import yaml
from chart import CHART, ROOT, TOOLS
from draw import EXCUSED
from fake import Fake, chat, error
from ports import free_ports

BINARY = os.environ["PILLION_BIN"]
PROMETHEUS = TOOLS / "prometheus" / "usr" / "bin" / "prometheus"
# What Grafana would put in; scrapes are a second apart.
VARIABLES = {"$__rate_interval": "30s", "$__range": "5m", "$namespace": "demo", "$model_group": ".*"}
TEXT = "The answer is long enough to be cut in its middle. " * 4


def configuration(fake, gossip, key):
    """The others': one model group for each thing that can be seen."""
    tail = [chat(delay=1.2 if random.random() < 0.05 else 0.02) for _ in range(5000)]
    lanes = {
        "late-a": tail,
        "late-b": tail[::-1],
        "broken": [error(500)],
        "cut": [chat(TEXT, cut=6)],
        "full": [chat(delay=0.2)],
    }
    for name, script in lanes.items():
        fake.lane(name, *script)

    def deployment(group, lane, **more):
        params = {"model": "openai/gpt-4o-mini", "api_key": "sk-x", "api_base": f"{fake.base}/{lane}/v1"}
        return {"model_name": group, "litellm_params": params | more, "model_info": {"id": lane}}

    return {
        "model_list": [
            deployment("late", "late-a"),
            deployment("late", "late-b"),
            deployment("broken", "broken"),
            deployment("cut", "cut"),
            deployment("full", "full", max_parallel_requests=1),
        ],
        "router_settings": {"num_retries": 1, "fallbacks": [{"broken": ["late"]}]},
        "pillion": {
            "limits": {"max_queued_requests": 2, "queue_timeout": "1s"},
            "groups": {"cut": {"streams": {"recovery": "restart"}}},
            "gossip": {
                "listen": f"127.0.0.1:{gossip[0]}",
                "seeds": [f"127.0.0.1:{port}" for port in gossip],
                "key_file": str(key),
            },
        },
    }


def injector(folder, listen, admin):
    """The injector's command: a certificate of its own, and no API server that answers."""
    for name in ("tls", "account"):
        (folder / name).mkdir()
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key, certificate = folder / "tls" / "tls.key", folder / "tls" / "tls.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    subprocess.run([*command, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    (folder / "account" / "ca.crt").write_text(certificate.read_text())
    (folder / "account" / "token").write_text("token")
    (folder / "injector.yaml").write_text("certs: {mode: existing}\n")
    flags = {"config": folder / "injector.yaml", "listen": f"127.0.0.1:{listen}", "admin": f"127.0.0.1:{admin}"}
    flags |= {"tls-dir": folder / "tls", "service-account": folder / "account", "api-server": "https://127.0.0.1:1", "namespace": "demo"}
    return [BINARY, "webhook", *(f"--{name}={value}" for name, value in flags.items())]


def sidecar(command, listen, admin, *more):
    return [BINARY, command, "--listen", f"127.0.0.1:{listen}", "--admin", f"127.0.0.1:{admin}", *more]


class Fleet:
    """The processes: the sidecars, the injector, and Prometheus."""

    def __init__(self, folder, fake):
        self.demo, demo_admin, self.chat, chat_admin, peer, peer_admin = free_ports(6)
        self.prometheus, self.webhook, webhook_admin, *gossip = free_ports(5)
        (folder / "key").write_text(base64.b64encode(os.urandom(32)).decode())
        (folder / "config.yaml").write_text(json.dumps(configuration(fake, gossip, folder / "key")))
        scraped = {"demo-0": demo_admin, "chat-0": chat_admin, "chat-1": peer_admin, "injector-0": webhook_admin}
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(scraping(scraped)))
        self.commands = [
            sidecar("demo", self.demo, demo_admin),
            sidecar("serve", self.chat, chat_admin, "-c", folder / "config.yaml"),
            ["env", f"PILLION_GOSSIP_LISTEN=127.0.0.1:{gossip[1]}", *sidecar("serve", peer, peer_admin, "-c", folder / "config.yaml")],
            [
                PROMETHEUS, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.prometheus}", "--log.level=error",
            ],
            injector(folder, self.webhook, webhook_admin),
        ]
        self.running = []

    def __enter__(self):
        for command in self.commands:
            self.running.append(subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for url in (f"http://127.0.0.1:{self.demo}/v1/models", f"http://127.0.0.1:{self.chat}/v1/models", f"http://127.0.0.1:{self.prometheus}/-/ready"):
            self.wait(url)
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.send_signal(signal.SIGINT)
        for process in self.running:
            process.wait(60)

    def wait(self, url):
        until = time.monotonic() + 60
        while True:
            try:
                return urllib.request.urlopen(url, timeout=5).read()
            except OSError:
                if time.monotonic() > until or any(process.poll() is not None for process in self.running):
                    raise
                time.sleep(0.1)

    def ask(self, query):
        return [float(series["value"][1]) for series in self.query("query", query)]

    def query(self, kind, query, **span):
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/{kind}?" + urllib.parse.urlencode({"query": plain(query), **span})
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as refused:
            sys.exit(f"{query}: {refused.read().decode()}")


def plain(query):
    """The query as Grafana would send it."""
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query


def scraping(pods):
    labels = {pod: {"namespace": "demo", "pod": pod, "container": "pillion"} for pod in pods}
    targets = [{"targets": [f"127.0.0.1:{port}"], "labels": labels[pod]} for pod, port in pods.items()]
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [{"job_name": "pillion", "static_configs": targets}],
    }


def traffic(port, model, stop, stream, pause):
    """One caller, who asks again as soon as it has its answer, or what stands for one."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "stream": stream}
    while not stop.is_set():
        request = urllib.request.Request(url, json.dumps(asked).encode(), {"content-type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=30).read()
        except OSError:
            pass
        stop.wait(pause)


def reviews(port, stop):
    """The API server, which asks about a pod again and again, and about one that is refused."""
    # It is its own certificate, and nobody else listens there.
    trust = ssl._create_unverified_context()
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "app", "image": "x"}]}}
    wrong = pod | {"metadata": {"name": "x", "annotations": {"pillion.dev/native": "perhaps"}}}
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    while not stop.wait(0.2):
        for object in (pod, wrong):
            request = {"uid": "x", "kind": kind, "namespace": "demo", "operation": "CREATE", "object": object}
            body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
            asked = urllib.request.Request(f"https://127.0.0.1:{port}/mutate", body, {"content-type": "application/json"})
            try:
                urllib.request.urlopen(asked, timeout=30, context=trust).read()
            except OSError:
                pass


def callers(fleet, stop):
    yield threading.Thread(target=reviews, args=(fleet.webhook, stop))
    crowd = [(fleet.demo, "demo", at % 4 > 0, 0) for at in range(16)]
    crowd += [(fleet.chat, "late", True, 0.01) for _ in range(8)]
    # Most of them find no room, and ask again a little later.
    crowd += [(fleet.chat, "full", False, 0.1) for _ in range(5)]
    crowd += [(fleet.chat, "cut", True, 0.2), (fleet.chat, "broken", True, 0.2)]
    for port, model, stream, pause in crowd:
        yield threading.Thread(target=traffic, args=(port, model, stop, stream, pause))


def verdicts(fleet):
    """What each query says: `data` or `only zero`, or why there is nothing."""
    for dashboard, panel, query in dashboards.queries():
        values = [value for value in fleet.ask(query) if math.isfinite(value)]
        excuse = next((why for name, why in EXCUSED.items() if name in query), None)
        word = "excused" if excuse else "nothing"
        if values:
            word = "data" if any(values) else "only zero"
        yield word, f"{dashboard}: {panel}: {query}" + (f" ({excuse})" if word == "excused" else "")


def pictures(fleet, seconds, uplot, folder):
    """Draws every dashboard of the chart, and says what is wrong with any."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.time()
    span = {"start": end - seconds, "end": end, "step": max(1, seconds // 200)}
    for file in sorted((CHART / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text())
        for variable, query in draw.variables(dashboard):
            if not fleet.ask(query):
                yield f"{file.stem}: there is nothing to choose for {variable}"
        answers = {
            panel["id"]: [fleet.query("query_range", target["expr"], **span) for target in panel["targets"]]
            for panel in dashboard["panels"]
        }
        yield from (f"{file.stem}: {what}" for what in draw.picture(file.stem, dashboard, answers, uplot, folder))


def main(seconds):
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = stack.enter_context(Fleet(folder, stack.enter_context(Fake())))
        stop = threading.Event()
        crowd = list(callers(fleet, stop))
        print(f"{len(crowd)} callers ask two sidecars for {seconds} s")
        for caller in crowd:
            caller.start()
        time.sleep(seconds)
        found = list(verdicts(fleet))
        uplot, folder = Path(os.environ["UPLOT"]), ROOT / "target" / "dashboards"
        wrong = list(pictures(fleet, seconds, uplot, folder)) if uplot.exists() and draw.chromium() else None
        stop.set()
        for caller in crowd:
            caller.join()
    for word in ("data", "only zero", "excused", "nothing"):
        of_it = [what for verdict, what in found if verdict == word]
        print(f"{len(of_it)} of {len(found)} queries: {word}")
        for what in of_it if word != "data" else []:
            print(f"   {what}")
    if wrong is None:
        print("skipped: the pictures, because there is no Chromium or no uPlot")
    else:
        print(f"pictures of all dashboards are in {folder}", *wrong, sep="\n   ")
    return int(bool(wrong) or any(word == "nothing" for word, _ in found))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60))
