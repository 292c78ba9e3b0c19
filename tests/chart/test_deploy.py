"""What lies in deploy: the plain installation is the chart's, and the examples are valid and work."""

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import strict
import yaml
from chart import CHART, HELMS, PROMTOOL, ROOT, UPDATE, helm, identity, pods

DEPLOY = ROOT / "deploy"
INSTALL = DEPLOY / "install.yaml"
EXAMPLES = sorted((DEPLOY / "examples").glob("*.yaml"))
PILLION = Path(os.environ.get("PILLION_BIN", ROOT / "target" / "release" / "pillion"))
HEAD = """\
# The chart with its default values, written by tests/chart/run: for clusters without Helm.
#
#   kubectl apply -f deploy/install.yaml
#
# The gossip key is not in here, because a key that is written down is none; deploy/README.md says
# how to make it. Without it sidecars work, each by itself.
apiVersion: v1
kind: Namespace
metadata:
  name: pillion-system
"""


def install():
    done = helm(4, "template", "pillion", CHART, "--namespace", "pillion-system", "--kube-version", "1.33.0", "--no-hooks")
    assert done.returncode == 0, done.stderr
    # Helm's own marks would say that a release is here.
    lines = [line for line in done.stdout.splitlines() if not re.search(r"^\s+(app.kubernetes.io/managed-by|helm.sh/chart): ", line)]
    return HEAD + re.sub(r"\n\n(?=---)", "\n", "\n".join(lines)) + "\n"


def test_the_plain_installation_is_the_charts():
    if UPDATE:
        INSTALL.write_text(install())
    assert INSTALL.read_text() == install(), "UPDATE=1 tests/chart/run"


def test_kustomize_takes_it():
    kubectl = HELMS[4].parent / "kubectl"
    done = subprocess.run([str(kubectl), "kustomize", str(DEPLOY)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = {identity(each) for each in yaml.safe_load_all(done.stdout)}
    assert built == {identity(each) for each in yaml.safe_load_all(INSTALL.read_text())}


def test_kustomize_changes_the_image(tmp_path):
    """As the base says. kustomize takes no absolute paths, so the base lies beside."""
    (tmp_path / "base").mkdir()
    for name in ("install.yaml", "kustomization.yaml"):
        (tmp_path / "base" / name).write_text((DEPLOY / name).read_text())
    images = [{"name": "pillion", "newName": "registry.example.com/pillion", "newTag": "2"}]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["base"], "images": images}))
    done = subprocess.run([str(HELMS[4].parent / "kubectl"), "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    used = [container["image"] for _, spec in pods(yaml.safe_load_all(done.stdout)) for container in spec["containers"]]
    assert used == ["registry.example.com/pillion:2"] * 2


@pytest.mark.skipif(not PROMTOOL.exists(), reason="there is no promtool")
def test_prometheus_takes_the_jobs(tmp_path):
    """All but where pods are found: Debian builds Prometheus without Kubernetes."""
    jobs = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())
    for job in jobs["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    path = tmp_path / "prometheus.yaml"
    path.write_text(yaml.safe_dump(jobs))
    done = subprocess.run([str(PROMTOOL), "check", "config", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_keeps_the_ports_that_there_are():
    """By the names that the chart, the example and the PodMonitor give them."""
    names = {port["name"] for _, spec in pods(yaml.safe_load_all(INSTALL.read_text())) for port in spec["containers"][0]["ports"]}
    static = (DEPLOY / "examples" / "static-sidecar.yaml").read_text()
    jobs = (DEPLOY / "prometheus.yaml").read_text()
    assert {"pillion-admin", "admin"} <= names and "name: pillion-admin" in static
    assert "regex: pillion-admin\n" in jobs and "regex: pillion;injector;admin\n" in jobs


@pytest.mark.parametrize("path", [INSTALL, *EXAMPLES], ids=lambda path: path.name)
def test_everything_is_valid(path):
    for document in yaml.safe_load_all(path.read_text()):
        # Native sidecars are a field that Kubernetes 1.28 does not have.
        for version in ("1.29.0", "1.33.0", "1.37.0"):
            strict.check(document, version)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_pods_of_examples_fit_the_profile_restricted(path):
    for name, spec in pods(yaml.safe_load_all(path.read_text())):
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"], name
        for container in spec["containers"] + spec.get("initContainers", []):
            security = container["securityContext"]
            assert security["capabilities"] == {"drop": ["ALL"]} and not security["allowPrivilegeEscalation"], name


def test_there_is_an_example_for_every_kind_of_workload():
    kinds = {document["kind"] for path in EXAMPLES for document in yaml.safe_load_all(path.read_text())}
    assert kinds >= {"CronJob", "DaemonSet", "Deployment", "Job", "Namespace", "NetworkPolicy", "Pod", "ReplicaSet", "StatefulSet"}


def test_examples_have_labels_and_annotations_that_are_known():
    """As the guide lists them; a slip would be refused by the injector."""
    guide = (DEPLOY / "README.md").read_text()
    said = {name for path in EXAMPLES for name in re.findall(r"pillion\.dev/[a-z-]+", path.read_text())}
    assert said and not [name for name in said if name not in guide]


def test_the_guide_lists_the_annotations_that_there_are():
    readme = (ROOT / "README.md").read_text()
    if "<!-- annotations -->" not in readme:
        pytest.skip("README.md has no table of annotations yet")
    table = readme.split("<!-- annotations -->")[1].split("<!-- /annotations -->")[0]
    section = (DEPLOY / "README.md").read_text().split("\n## Annotations\n")[1].split("\n## ")[0]
    there, listed = (set(re.findall(r"pillion\.dev/[a-z-]+", text)) for text in (table, section))
    # What the injector writes is told where it is: in `What a pod gets`.
    assert listed == there - {"pillion.dev/status"}


@pytest.fixture(scope="module")
def static():
    """The parts of the example without the injector: the configuration and the container."""
    config, workload = yaml.safe_load_all((DEPLOY / "examples" / "static-sidecar.yaml").read_text())
    (container,) = workload["spec"]["template"]["spec"]["initContainers"]
    return config["data"]["config.yaml"], container


@pytest.mark.skipif(not PILLION.exists(), reason=f"{PILLION} is not there")
def test_configurations_have_no_errors(static, tmp_path):
    texts = {"static": static[0], "chart": (CHART / "files" / "config.yaml").read_text()}
    for name, text in texts.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        environment = {"OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": "x"}
        done = subprocess.run([PILLION, "check", "--format", "json", path], capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stdout
        assert json.loads(done.stdout)["problems"] == [], done.stdout


@pytest.mark.skipif(not PILLION.exists(), reason=f"{PILLION} is not there")
def test_the_static_sidecar_runs_and_answers_its_probes(static, tmp_path):
    text, container = static
    (tmp_path / "config.yaml").write_text(text)
    ports = {24080: free_port(), 24081: free_port()}
    environment = {"OPENAI_API_KEY": "sk-x", "ANTHROPIC_API_KEY": "sk-x"}
    for variable in container["env"]:
        value = variable["value"].replace("/etc/pillion/config", str(tmp_path))
        for port, free in ports.items():
            value = value.replace(f":{port}", f":{free}")
        environment[variable["name"]] = value
    with subprocess.Popen([PILLION, *container["args"]], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as pillion:
        try:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container[probe]["httpGet"]
                assert status(f"http://127.0.0.1:{ports[asked['port']]}{asked['path']}", pillion) == 200
            (scraped,) = container["ports"]
            assert status(f"http://127.0.0.1:{ports[scraped['containerPort']]}/metrics", pillion) == 200
            assert status(f"http://127.0.0.1:{ports[24080]}/v1/models", pillion) == 200
        finally:
            pillion.terminate()
            _, log = pillion.communicate(timeout=60)
    assert pillion.returncode == 0, log


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status(url, process):
    """The status of an answer, as soon as somebody listens."""
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until, f"nobody listens at {url}"
            time.sleep(0.05)
