"""As much of an API server as Helm's `lookup` asks for: what kinds there are, and single objects."""

import base64
import json
import threading
from http.server import ThreadingHTTPServer

from answering import Answering

# The kinds that the chart's defaults have, by group and version. Where they live does not matter here.
KINDS = {
    "v1": ["ConfigMap", "Namespace", "Pod", "Secret", "Service", "ServiceAccount"],
    "admissionregistration.k8s.io/v1": ["MutatingWebhookConfiguration"],
    "apps/v1": ["Deployment"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
    "rbac.authorization.k8s.io/v1": ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
}
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration", "Namespace"}


def resources(version):
    plural = lambda kind: "networkpolicies" if kind == "NetworkPolicy" else f"{kind.lower()}s"
    listed = [{"name": plural(kind), "kind": kind, "namespaced": kind not in CLUSTER_WIDE, "verbs": ["get", "create"]} for kind in KINDS[version]]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}


def groups():
    for name, version in (each.split("/") for each in KINDS if "/" in each):
        this = {"groupVersion": f"{name}/{version}", "version": version}
        yield {"name": name, "versions": [this], "preferredVersion": this}


class Cluster:
    """A cluster with these Secrets: {(namespace, name): {key: text}}."""

    def __init__(self, secrets=()):
        self.secrets = dict(secrets)
        cluster = self

        class Handler(Answering):
            def do_GET(self):
                if found := cluster.answer(self.path.split("?")[0]):
                    self.answer(found)
                else:
                    self.answer({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}, 404)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path):
        match path.strip("/").split("/"):
            case ["version"]:
                return {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
            case ["api"]:
                return {"kind": "APIVersions", "versions": ["v1"]}
            case ["apis"]:
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(groups())}
            case ["api", "v1"]:
                return resources("v1")
            case ["apis", group, version] if f"{group}/{version}" in KINDS:
                return resources(f"{group}/{version}")
            case ["api", "v1", "namespaces", name]:
                return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            case ["api", "v1", "namespaces", namespace, "secrets", name]:
                return self.secret(namespace, name)
        return None

    def secret(self, namespace, name):
        data = self.secrets.get((namespace, name))
        if data is None:
            return None
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name}, "data": encoded}

    def kubeconfig(self, folder):
        path = folder / "kubeconfig"
        address = f"http://127.0.0.1:{self.server.server_port}"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "test", "cluster": {"server": address}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                    "users": [{"name": "test", "user": {}}],
                }
            )
        )
        return path
