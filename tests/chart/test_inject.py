"""The settings that the chart writes are those that the injector reads, and what it makes of them is valid."""

import os
import subprocess
from pathlib import Path

import pytest
import strict
import yaml
from chart import CASES, ROOT, objects, pods

PILLION = Path(os.environ.get("PILLION_BIN", ROOT / "target" / "release" / "pillion"))
EXAMPLES = ROOT / "deploy" / "examples"
WORKLOADS = ["cronjob", "daemonset", "deployment", "job", "pod", "statefulset"]


def can_inject():
    return PILLION.exists() and subprocess.run([PILLION, "inject", "--help"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_inject(), reason=f"{PILLION} has no command `inject`")


def settings(case):
    (found,) = (each["data"]["injector.yaml"] for each in objects(case) if "injector.yaml" in each.get("data", {}))
    return found


def injected(case, example, folder):
    path = folder / "injector.yaml"
    path.write_text(settings(case))
    command = [PILLION, "inject", "--config", path, "-f", EXAMPLES / f"{example}.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (document,) = yaml.safe_load_all(done.stdout)
    return document


def sidecar(document, name):
    ((_, spec),) = pods([document])
    return next((each for each in spec["containers"] + spec.get("initContainers", []) if each["name"] == name), None)


@pytest.mark.parametrize("case", CASES)
def test_the_settings_of_every_case_are_understood(case, tmp_path):
    values = yaml.safe_load(settings(case))
    container = sidecar(injected(case, "deployment", tmp_path), values["sidecar"]["containerName"])
    assert container["image"] == values["image"]
    assert container["imagePullPolicy"] == values["imagePullPolicy"]
    assert container["resources"] == values["sidecar"]["resources"]
    assert container["securityContext"].get("runAsUser") == values["sidecar"]["runAsUser"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert env["PILLION_ADMIN"].endswith(f":{values['sidecar']['ports']['admin']}")
    assert env.get("PILLION_GOSSIP_SEEDS", "") == ",".join(values["gossip"].get("seeds", []))
    assert [each["name"] for each in values["sidecar"]["extraEnv"]] == [name for name in env if name in ("HTTPS_PROXY", "NODE_IP")]


@pytest.mark.parametrize("example", WORKLOADS)
def test_every_kind_of_workload_gets_a_sidecar_that_is_valid(example, tmp_path):
    document = injected("default", example, tmp_path)
    assert sidecar(document, "pillion") is not None
    for version in ("1.29.0", "1.33.0", "1.37.0"):
        strict.check(document, version)


@pytest.mark.parametrize("example", ["replicaset"])
def test_who_stays_out_is_left_as_it_is(example, tmp_path):
    assert injected("default", example, tmp_path) == yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text())


def test_monitors_and_policies_select_what_the_injector_writes(tmp_path):
    document = injected("full", "deployment", tmp_path)
    labels = document["spec"]["template"]["metadata"]["labels"]
    container = sidecar(document, "llm")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    monitor = next(each for each in objects("full") if each["kind"] == "PodMonitor" and each["metadata"]["name"] == "gw-llm")
    (selected,) = monitor["spec"]["selector"]["matchExpressions"]
    assert labels[selected["key"]] in selected["values"]
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] in ports
    # The seeds and the sidecars read the same key, at the same place, for the same fleet.
    seed = next(spec for name, spec in pods(objects("full")) if name == "Deployment/gw-llm-seed")["containers"][0]
    both = [{each["name"]: each.get("value") for each in one["env"]} for one in (seed, container)]
    for name in ("PILLION_GOSSIP_ADVERTISE", "PILLION_GOSSIP_CLUSTER", "PILLION_GOSSIP_KEY_FILE", "PILLION_GOSSIP_LISTEN", "PILLION_GOSSIP_SEEDS"):
        assert both[0][name] == both[1][name], name
