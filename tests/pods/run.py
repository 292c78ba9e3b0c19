#!/usr/bin/env python3
"""Pods as `pillion inject` makes them: an application with OpenAI's SDK, and its sidecar beside it.

    tests/pods/run.py [native] [container]     both modes, in about half a minute

The manifest is that of deploy/examples, injected by the command; three pods of it run at a time, in
network namespaces. It needs root and `ip`, and says so where they are missing, and a Python with the
packages of tests/clients. PILLION_BIN names the binary.
"""

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent / "fleet"), str(HERE.parent / "clients")]

import fake
import names
import network
import yaml
from kubelet import Image, Pod
from pods import until

BINARY = Path(os.environ.get("PILLION_BIN", ROOT / "target" / "release" / "pillion")).resolve()
# The last version without native sidecars by itself, and the first with them.
VERSIONS = {"native": "1.33", "container": "1.32"}
KEY = "sk-of-the-provider-5d1c70"
TEXT = "An answer is whole or it is none. " * 8
APPLICATION, SIDECAR, PODS = "chat", "pillion", 3
SEEDS = "gw-pillion-gossip.pillion-system.svc"
SETTINGS = {"gossip": {"enabled": True, "keySecretName": "pillion-gossip-key", "cluster": "pods", "seeds": [f"{SEEDS}:24082"]}}
PROVIDER = "api.example.com"


def injected(version, folder):
    """The template of the example's pods, and its manifest, after `pillion inject`."""
    settings = folder / "injector.yaml"
    settings.write_text(json.dumps(SETTINGS))
    command = [BINARY, "inject", "--config", settings, "--kube-version", version, "-f", ROOT / "deploy" / "examples" / "deployment.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (manifest,) = yaml.safe_load_all(done.stdout)
    return manifest["spec"]["template"]


def objects(port):
    """What people put into the namespace: the configuration, the provider's key, the key of gossip."""
    model = {"model": "openai/gpt-4o-mini", "api_base": f"http://{PROVIDER}:{port}/provider/v1", "api_key": "os.environ/OPENAI_API_KEY"}
    configuration = {"model_list": [{"model_name": "gpt", "litellm_params": model}]}
    return {
        ("configMap", "pillion-config"): {"config.yaml": json.dumps(configuration)},
        ("secret", "pillion-provider-keys"): {"OPENAI_API_KEY": KEY},
        ("secret", "pillion-gossip-key"): {"key": base64.b64encode(secrets.token_bytes(32)).decode()},
    }


def images(template):
    """The images that the manifest names: the binary, and a Python with the SDK and the application."""
    by_name = {it["name"]: it["image"] for kind in ("initContainers", "containers") for it in template["spec"].get(kind, [])}
    python = Path(sys.base_prefix).resolve()
    files = {"/venv": sys.prefix, "/app/chat.py": HERE / "chat.py"}
    if not python.is_relative_to("/usr") or python.is_relative_to("/usr/local"):
        files[str(python)] = python
    environment = {"PATH": "/venv/bin:/usr/bin:/bin", "PYTHONPATH": "/app", "PYTHONDONTWRITEBYTECODE": "1"}
    return {
        by_name[APPLICATION]: Image(files, environment),
        by_name[SIDECAR]: Image({"/pillion": BINARY}, {}, ["/pillion"]),
    }


def only_loopback(pod):
    """What is not the pod's own is out of reach of the application's user; its sidecar has another one."""
    user = pod.containers[APPLICATION].user
    assert user != pod.containers[SIDECAR].user
    for family in ("-4", "-6"):
        network.run("ip", family, "-n", pod.space, "rule", "add", "uidrange", f"{user}-{user}", "prohibit")


def stands_as_said(mode, template):
    """The mode is that of the version."""
    kind = {"native": "initContainers", "container": "containers"}[mode]
    assert template["spec"][kind][0]["name"] == SIDECAR, template


def probes_answer(pod):
    spec = pod.containers[SIDECAR].spec
    until("it is ready", lambda: pod.asked(spec["readinessProbe"]) == 200, 10)
    for probe in ("startupProbe", "livenessProbe"):
        assert pod.asked(spec[probe]) == 200, probe


def fleet(pod):
    done = pod.containers[SIDECAR].run(["/pillion", "fleet", "--format", "json"])
    return json.loads(done.stdout)["members"] if done.returncode == 0 else []


def they_know_each_other(pods):
    """By the seeds and the key that the manifest names, at the addresses that it gives them."""
    for pod in pods:
        known = lambda: {it["address"].rsplit(":")[0] for it in fleet(pod) if it["health"] == "alive"}  # noqa: B023
        until(f"{pod.name} knows all", lambda: known() == {it.address for it in pods}, 20)  # noqa: B023


def answers(pod):
    return [json.loads(line) for line in pod.containers[APPLICATION].out.read_text().splitlines()]


def it_gets_answers(pod):
    until(f"{pod.name} has answers of both kinds", lambda: {it["kind"] for it in answers(pod)} == {"plain", "streamed"}, 20)


def the_application_has_no_key(pod, lane):
    """Neither in what it is given nor in what it can open, and it cannot ask the provider by itself."""
    application, sidecar = pod.containers[APPLICATION], pod.containers[SIDECAR]
    # A pod may share its processes: what they have stays closed to another user.
    for path in (f"/proc/{sidecar.pid}/root/etc/pillion/keys/OPENAI_API_KEY", f"/proc/{sidecar.pid}/environ"):
        user = ["setpriv", f"--reuid={application.user}", f"--regid={application.user}", "--clear-groups"]
        tried = subprocess.run([*user, "cat", path], capture_output=True, text=True)
        assert tried.returncode != 0 and "Permission denied" in tried.stderr, tried
    done = application.run(["python", "-m", "chat", "search", "http://127.0.0.1:24081", network.HUB, str(lane.fake.port)], input=KEY)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["found"] == [], said
    assert said["direct"] == "PermissionError", said
    assert {"/proc/self/environ", "/etc/resolv.conf", "http://127.0.0.1:24081/metrics"} <= set(said["looked"]), said
    given = Path(f"/proc/{application.pid}/environ").read_text().split("\0")
    assert "OPENAI_API_KEY=pillion" in given and "OPENAI_BASE_URL=http://127.0.0.1:24080/v1" in given, given
    assert not any(KEY in variable for variable in given), given


def the_application_ends_first(application, sidecar):
    application.signal()
    application.ended(20)
    sidecar.signal()


def the_sidecar_is_told_first(application, sidecar):
    sidecar.signal()
    time.sleep(1)
    application.signal()


def both_are_told_at_once(application, sidecar):
    sidecar.signal()
    application.signal()


ORDERS = [the_application_ends_first, the_sidecar_is_told_first, both_are_told_at_once]


def nothing_is_lost(pod, order):
    """Both end well, and every answer that was asked for came, whole; says how many and how soon."""
    application, sidecar = pod.containers[APPLICATION], pod.containers[SIDECAR]
    told = time.monotonic()
    order(application, sidecar)
    assert application.ended(20) == 0, application.log.read_text()
    gone = time.monotonic()
    assert sidecar.ended(20) == 0, sidecar.log.read_text()
    late = time.monotonic() - gone
    all_of_them = answers(pod)
    lost = [it for it in all_of_them if (it.get("text"), it.get("finish")) != (TEXT, "stop")]
    assert not lost, f"{len(lost)} of {len(all_of_them)} answers are lost: {lost[:3]}"
    assert any(it["kind"] == "streamed" and it["begun"] < told < it["over"] for it in all_of_them), "a stream was on its way"
    assert any(it["begun"] > told for it in all_of_them), "calls came afterwards"
    name = order.__name__.replace("_", " ")
    return f"{name}: {len(all_of_them)} answers, all whole; the sidecar ended {late:.1f} s after the application"


def play(mode, spaces, folder, zone):
    folder.mkdir()
    template = injected(VERSIONS[mode], folder)
    stands_as_said(mode, template)
    with fake.Fake(address=network.HUB) as server:
        lane = server.lane("provider", fake.chat(TEXT, delay=0.1, gap=0.03))
        around = objects(server.port), images(template)
        addresses = [network.SERVICE.format(10 + at) for at in range(PODS)]
        zone[f"{SEEDS}.cluster.local"], zone[PROVIDER] = addresses, [network.HUB]
        pods = [Pod(template, f"chat-{at}", spaces[at], addresses[at], folder / f"pod{at}", *around) for at in range(PODS)]
        try:
            for pod in pods:
                only_loopback(pod)
                pod.start()
            for pod in pods:
                probes_answer(pod)
                it_gets_answers(pod)
            they_know_each_other(pods)
            the_application_has_no_key(pods[0], lane)
            print(f"   {mode}: {PODS} pods serve and know each other; the application has no key", flush=True)
            with ThreadPoolExecutor() as at_once:
                for said in at_once.map(nothing_is_lost, pods, ORDERS):
                    print(f"   {mode}: {said}", flush=True)
            sent = {it.headers["authorization"] for it in lane.seen}
            assert sent == {f"Bearer {KEY}"}, sent
        except BaseException:
            for pod in pods:
                for container in pod.containers.values():
                    tail = container.log.read_text().splitlines()[-15:] if container.log.exists() else []
                    print(f"   {pod.name} {container.name}:", *tail, sep="\n     ", file=sys.stderr)
            raise
        finally:
            for pod in pods:
                pod.kill()


def inside(spaces, modes):
    zone = {}
    names.Names(network.HUB, zone)
    folder = Path(tempfile.mkdtemp(prefix="pillion-pods-"))
    try:
        for mode in modes or VERSIONS:
            play(mode, spaces, folder / mode, zone)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def main(words):
    if why := network.missing():
        print(f"   skipped: {why}")
        return 0
    with network.Network(PODS) as net:
        command = [sys.executable, __file__, "--inside", ",".join(net.pods), *words]
        return subprocess.run(["ip", "netns", "exec", net.hub, *command], check=False).returncode


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(inside(sys.argv[2].split(","), sys.argv[3:]))
    sys.exit(main(sys.argv[1:]))
