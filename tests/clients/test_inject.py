"""What `pillion inject` prints is what Kubernetes takes: strict schemas of every version since 1.25.

The pods are those of tests/fixtures/inject, alone and as the templates of every kind of workload.
"""

import json
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pillion import BINARY

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "inject"
VERSIONS = [f"1.{minor}" for minor in range(25, 38)]
CASES = sorted(path.stem for path in FIXTURES.glob("*.yaml"))


def read(case):
    around, pod = yaml.safe_load_all((FIXTURES / f"{case}.yaml").read_text())
    return around, pod


def inject(tmp_path, manifest, version, settings=None):
    command = [str(BINARY), "inject", "--kube-version", version]
    if settings:
        file = tmp_path / "injector.yaml"
        file.write_text(json.dumps(settings))
        command += ["--config", str(file)]
    done = subprocess.run(command, input=yaml.safe_dump(manifest), capture_output=True, text=True, timeout=60)
    return yaml.safe_load(done.stdout) if done.returncode == 0 else None


def is_valid(manifest, version):
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError:
        return False
    return True


def forces_native(pod):
    return (pod["metadata"].get("annotations") or {}).get("pillion.dev/native") == "always"


@pytest.mark.parametrize("case", CASES)
def test_a_pod_that_was_valid_stays_so(case, tmp_path):
    around, pod = read(case)
    golden = json.loads((FIXTURES / f"{case}.json").read_text())
    checked = 0
    for version in ["1.25", "1.29", "1.33", "1.37"]:
        if not is_valid(pod, version) or (forces_native(pod) and version == "1.25"):
            continue
        injected = inject(tmp_path, pod, version, around.get("settings"))
        if injected is None:
            continue
        kubernetes_validate.validate(injected, version, strict=True)
        checked += 1
    assert checked or "patch" not in golden or case == "null-fields"


def workload(kind, pod):
    template = {"metadata": {"labels": {"app": "chat"}}, "spec": pod["spec"]}
    selector = {"matchLabels": {"app": "chat"}}
    one_shot = {**template, "spec": {**pod["spec"], "restartPolicy": "Never"}}
    apps = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "chat"}}
    batch = {**apps, "apiVersion": "batch/v1"}
    return {
        "CronJob": {**batch, "spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": one_shot}}}},
        "DaemonSet": {**apps, "spec": {"selector": selector, "template": template}},
        "Deployment": {**apps, "spec": {"selector": selector, "template": template}},
        "Job": {**batch, "spec": {"template": one_shot}},
        "ReplicaSet": {**apps, "spec": {"selector": selector, "template": template}},
        "StatefulSet": {**apps, "spec": {"serviceName": "chat", "selector": selector, "template": template}},
    }[kind]


@pytest.mark.parametrize("kind", ["CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"])
def test_every_workload_is_valid_in_every_version(kind, tmp_path):
    gossip = {"enabled": True, "keySecretName": "key", "cluster": "c", "seeds": ["s.ns.svc:24082"]}
    settings = {"gossip": gossip, "sidecar": {"auth": {"mode": "secret", "secretName": "a"}}}
    for version in VERSIONS:
        manifest = workload(kind, read("init-containers")[1])
        is_one_shot = kind in ("CronJob", "Job")
        is_native = int(version.split(".")[1]) >= 33
        injected = inject(tmp_path, manifest, version, settings)
        if is_one_shot and not is_native:
            assert injected is None, "a plain container would keep it from ending"
            continue
        kubernetes_validate.validate(injected, version, strict=True)
        spec = injected["spec"]
        spec = spec["jobTemplate"]["spec"] if kind == "CronJob" else spec
        containers = spec["template"]["spec"]["initContainers" if is_native else "containers"]
        assert containers[0]["name"] == "pillion"


def test_native_sidecars_are_valid_from_the_version_that_knows_them(tmp_path):
    _, pod = read("always-native")
    for version in VERSIONS:
        injected = inject(tmp_path, pod, version)
        assert is_valid(injected, version) == (int(version.split(".")[1]) >= 28), version
