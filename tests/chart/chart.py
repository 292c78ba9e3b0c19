"""The chart as Helm renders it: once per set of values, version of Kubernetes and version of Helm."""

import functools
import os
import subprocess
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHART = ROOT / "charts" / "pillion"
TOOLS = Path(os.environ.get("CHART_TOOLS", ROOT / "target" / "tools" / "chart"))
HELMS = {major: TOOLS / f"helm{major}" / "helm" for major in (3, 4)}
PROMTOOL = TOOLS / "prometheus" / "usr" / "bin" / "promtool"
UPDATE = "UPDATE" in os.environ

# The oldest that the chart takes, the first with policies, the first with native sidecars by
# itself, and the newest with schemas.
VERSIONS = ["1.25.0", "1.30.0", "1.33.0", "1.37.0"]
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
# Cases that need more than the chart does, and what is said where there is less.
NEEDS = {"ignore-enforce": ((1, 30), "enforce.enabled needs Kubernetes 1.30")}


def is_enough(case, version):
    needed, _ = NEEDS.get(case, ((0, 0), ""))
    return tuple(map(int, version.split(".")[:2])) >= needed


def helm(major, *arguments, **more):
    """Runs Helm without anything of the machine's own: no settings, no plugins, no cluster."""
    home = TOOLS / "home"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": os.devnull}
    command = [str(HELMS[major]), *map(str, arguments)]
    return subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=60)


def values_of(case):
    return CHART / "ci" / f"{case}-values.yaml"


@functools.cache
def text(case, version="1.33.0", major=4, *arguments):
    """What Helm prints for a file of `ci`."""
    done = helm(major, "template", "gw", CHART, "--namespace", "pillion-system", "--kube-version", version, "--values", values_of(case), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def parsed(text):
    documents = [document for document in yaml.safe_load_all(text) if document]
    return sorted(documents, key=identity)


def identity(document):
    metadata = document["metadata"]
    return document["apiVersion"], document["kind"], metadata.get("namespace", ""), metadata["name"]


def objects(case, version="1.33.0", major=4):
    return parsed(text(case, version, major))


def one(documents, kind, name=None):
    """The only object of a kind, or of a kind and name."""
    found = [each for each in documents if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    assert len(found) == 1, [identity(each) for each in documents]
    return found[0]


def pods(documents):
    """Names and specs of all pods, those of workloads included."""
    for each in documents:
        name, spec = f"{each['kind']}/{each['metadata']['name']}", each.get("spec", {})
        match each["kind"]:
            case "Pod":
                yield name, spec
            case "CronJob":
                yield name, spec["jobTemplate"]["spec"]["template"]["spec"]
            case "DaemonSet" | "Deployment" | "Job" | "ReplicaSet" | "StatefulSet":
                yield name, spec["template"]["spec"]
