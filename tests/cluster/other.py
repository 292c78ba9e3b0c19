"""Another admission webhook, as clusters have several: it changes pods beside ours, and counts."""

import base64
import json
import ssl
import threading
from http.server import ThreadingHTTPServer

from answering import Answering
from server import until
from world import CONFIGURATIONS, IMAGE, LABEL


class Other:
    """Adds what `change` says to each pod of a namespace, once per pod, while it is entered."""

    def __init__(self, world, name, namespace, change):
        self.world, self.name, self.namespace, self.change = world, name, namespace, change
        self.seen = []
        other = self

        class Handler(Answering):
            def do_POST(self):
                review = json.loads(self.asked())
                self.answer(review | {"response": other.answer(review["request"])})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        identities = world.server.identities
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identities.folder / "api.crt", identities.folder / "api.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    def answer(self, request):
        pod = request["object"]
        self.seen.append([container["name"] for container in pod["spec"]["containers"]])
        response = {"uid": request["uid"], "allowed": True}
        if patch := self.change(pod):
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        return response

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        authority = base64.b64encode(self.world.server.identities.ca.read_bytes()).decode()
        address = f"https://localhost:{self.server.server_port}/"
        webhook = {
            "name": "other.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "reinvocationPolicy": "IfNeeded",
            "clientConfig": {"url": address, "caBundle": authority},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
        }
        self.world.api.create(CONFIGURATIONS, {"metadata": {"name": self.name}, "webhooks": [webhook]})
        try:
            self.is_called()
        except BaseException:
            self.__exit__()
            raise
        return self

    def is_called(self):
        """The API server takes a configuration up in its own time; ours is not asked about these pods."""
        spec = {"containers": [{"name": "app", "image": IMAGE}]}
        metadata = {"generateName": "first-", "labels": {LABEL: "false"}}
        path = f"/api/v1/namespaces/{self.namespace}/pods?dryRun=All"
        until("it is called", lambda: self.world.api.create(path, {"metadata": metadata, "spec": spec}) and self.seen)
        self.seen.clear()

    def __exit__(self, *_):
        self.world.api.delete(f"{CONFIGURATIONS}/{self.name}")
        self.server.shutdown()
        self.server.server_close()


def a_container(pod):
    if any(container["name"] == "late" for container in pod["spec"]["containers"]):
        return None
    return [{"op": "add", "path": "/spec/containers/-", "value": {"name": "late", "image": IMAGE}}]


def a_label(pod):
    """Something that is none of ours."""
    if "late" in pod["metadata"]["labels"]:
        return None
    return [{"op": "add", "path": "/metadata/labels/late", "value": "yes"}]
