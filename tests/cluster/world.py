"""What all checks work with: the cluster, Helm, kubectl, and what a namespace or a pod looks like."""

import json
import os
import shutil
import subprocess

import yaml
from chart import CHART, HELMS, ROOT
from server import check, until

RELEASE = "pillion-system"
LABEL = "pillion.dev/inject"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
KUBECTL = HELMS[4].parent / "kubectl"
EXAMPLES = ROOT / "deploy" / "examples"
IMAGE = "registry.example.com/app:1"


class World:
    def __init__(self, server, kubelet, folder):
        self.server, self.api, self.kubelet, self.folder = server, server.api, kubelet, folder
        self.chart = folder / "pillion"
        shutil.copytree(CHART, self.chart)
        own = self.chart / "Chart.yaml"
        # The chart asks for 1.25; what it makes by these values is taken by 1.20.
        own.write_text(own.read_text().replace('">=1.25.0-0"', '">=1.20.0-0"'))
        self.values = ["--set", "injector.pdb.enabled=false", "--set", f"injector.webhook.url=https://localhost:{kubelet.port}/mutate"]
        # As API servers do by themselves since 1.21; the chart excludes namespaces by it.
        for name in ("default", "kube-public", "kube-system"):
            labels = {"kubernetes.io/metadata.name": name}
            self.api.patch(f"/api/v1/namespaces/{name}", {"metadata": {"labels": labels}})
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(server.kubeconfig)}

    def run(self, command, text=None):
        return subprocess.run(list(map(str, command)), input=text, env=self.environment, capture_output=True, text=True, timeout=180)

    def kubectl(self, *arguments, text=None):
        done = self.run([KUBECTL, *arguments], text)
        check(done.returncode == 0, f"kubectl {' '.join(map(str, arguments))}: {done.stderr}")
        return done

    def helm(self, *arguments, major=4):
        done = self.run([HELMS[major], *arguments])
        check(done.returncode == 0, f"helm {' '.join(map(str, arguments))}: {done.stderr}")
        return done.stdout

    def upgrade(self, *more, major=4):
        """As deploy/README.md says it."""
        return self.helm("upgrade", "pillion", self.chart, "-n", RELEASE, "--reuse-values", *more, major=major)

    def namespace(self, name, label=None, annotations=None):
        """With the name as a label, as API servers give it since 1.21."""
        labels = {"kubernetes.io/metadata.name": name} | ({LABEL: label} if label else {})
        metadata = {"name": name, "labels": labels, "annotations": annotations or {}}
        self.api.create("/api/v1/namespaces", {"metadata": metadata})
        # Pods are refused until the controllers have made the account, and its token.
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        until(f"{name} has an account", lambda: (self.api.get(account) or {}).get("secrets"))

    def label(self, namespace, label):
        self.api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {LABEL: label}}})

    def pod(self, namespace, name, labels=None, annotations=None, spec=None):
        """A pod that is made now, as the API server keeps it."""
        metadata = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
        spec = {"containers": [{"name": "app", "image": IMAGE}]} | (spec or {})
        return self.api.create(f"/api/v1/namespaces/{namespace}/pods", {"metadata": metadata, "spec": spec})

    def pods(self, namespace, application):
        return self.api.list(f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{application}")

    def config_map(self, namespace, name="pillion-config"):
        return self.api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")

    def file(self, namespace):
        """The configuration's text in a namespace, or nothing."""
        held = self.config_map(namespace)
        return held and held["data"]["config.yaml"]

    def secret(self, name, namespace=RELEASE):
        return self.api.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")

    def webhooks(self, name="pillion-injector"):
        return self.api.ask("GET", f"{CONFIGURATIONS}/{name}")["webhooks"]

    def all_ready(self, namespace=RELEASE):
        """Both injectors of a release."""
        return until("both injectors are ready", lambda: len(self.kubelet.ready(namespace)) == 2, 60)

    def apply(self, documents):
        """kubectl apply, of manifests as they are read."""
        return self.kubectl("apply", "-f", "-", text="---\n".join(yaml.safe_dump(each) for each in documents))


def example(name):
    """The documents of a file of deploy/examples."""
    return list(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))


def containers(pod):
    return [container["name"] for container in pod["spec"]["containers"]]


def variables(container):
    """Of a container, each once."""
    named = [variable["name"] for variable in container.get("env", [])]
    check(len(named) == len(set(named)), f"variables that are there twice: {named}")
    return {variable["name"]: variable.get("value") for variable in container.get("env", [])}


def is_plain(pod):
    """Nothing of ours is in it."""
    text = json.dumps({key: pod["metadata"].get(key) for key in ("labels", "annotations")} | {"spec": pod["spec"]})
    ours = text.replace(f'"{LABEL}"', "").replace("pillion-system", "")
    check("pillion" not in ours.lower(), f"{pod['metadata']['name']} has something of Pillion's: {text}")


def is_equipped(pod, port=24080):
    """The sidecar is there as deploy/README.md says, and the application has no key."""
    name = pod["metadata"].get("name")
    sidecar, *others = pod["spec"]["containers"]
    check(sidecar["name"] == "pillion", f"{name}: {containers(pod)}")
    check(sidecar["image"] == "pillion:0.1.0" and sidecar["args"] == ["serve"], sidecar)
    check(pod["metadata"]["labels"]["pillion.dev/injected"] == "true", pod["metadata"])
    status = json.loads(pod["metadata"]["annotations"]["pillion.dev/status"])
    check((status["mode"], status["container"]) == ("container", "pillion"), status)
    ports = {each["name"]: (each["containerPort"], each["protocol"]) for each in sidecar["ports"]}
    check(ports == {"pillion-admin": (24081, "TCP"), "pillion-gossip": (24082, "UDP")}, ports)
    probes = [sidecar[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    check(probes == ["/startupz", "/readyz", "/livez"], probes)
    security = sidecar["securityContext"]
    check(security["runAsNonRoot"] and security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"], security)
    mounts = {each["mountPath"]: each["name"] for each in sidecar["volumeMounts"]}
    # The API server gives every container the pod's token, but where something is mounted already.
    check(mounts["/var/run/secrets/kubernetes.io/serviceaccount"] == "pillion-no-token", mounts)
    check(mounts["/etc/pillion/keys"] == "pillion-keys", mounts)
    variables(sidecar)
    for container in others:
        has_no_key(container, port)


def has_no_key(container, port):
    told = {name: value for name, value in variables(container).items() if name.startswith(("OPENAI_", "ANTHROPIC_"))}
    base = f"http://127.0.0.1:{port}"
    wanted = {"OPENAI_BASE_URL": f"{base}/v1", "OPENAI_API_BASE": f"{base}/v1", "ANTHROPIC_BASE_URL": base}
    check(told == wanted | {"OPENAI_API_KEY": "pillion", "ANTHROPIC_API_KEY": "pillion"}, told)
    ours = [each["name"] for each in container.get("volumeMounts", []) if each["name"].startswith("pillion-")]
    check(not ours and "envFrom" not in container, f"{container['name']} sees {ours}")
