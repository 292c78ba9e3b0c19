"""A control plane on loopback: etcd, the API server and the controllers, as processes of this run.

There is no node, so no pod ever runs; kubelet.py stands in where one has to.
"""

import json
import os
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from ports import free_ports

BINARIES = Path(os.environ["KUBERNETES_BIN"])
VERSION = "v1.20.2"
# Everything that is asked is written down, by whom, and what the answer was; no bodies.
AUDIT = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]}
# No node is there whose life could be judged, or that needs addresses.
CONTROLLERS = "*,-nodelifecycle,-nodeipam,-attachdetach,-persistentvolume-binder,-csrsigning,-csrapproving"


def until(what, is_so, seconds=30):
    """Waits for a condition, and returns what it is then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := is_so():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def check(is_so, what):
    if not is_so:
        raise AssertionError(what)


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Identities:
    """A certificate authority, and who it has signed for."""

    def __init__(self, folder):
        self.folder, self.ca = folder, folder / "ca.crt"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        openssl("req", "-x509", *curve, "-subj", "/CN=test", "-keyout", folder / "ca.key", "-out", self.ca)
        openssl("genrsa", "-out", folder / "accounts.key", "2048")
        self.sign("api", "/CN=kube-apiserver", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self.sign("admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth")

    def sign(self, name, subject, extension):
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl("req", "-new", *curve, "-subj", subject, "-keyout", key, "-out", request)
        (self.folder / "extension").write_text(extension)
        signing = ["-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial", "-days", "2"]
        openssl("x509", "-req", "-in", request, *signing, "-extfile", self.folder / "extension", "-out", certificate)
        return certificate, key


class Refused(Exception):
    """The API server says no."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Api:
    """The API, as the administrator: plain JSON."""

    KINDS = {"merge": "application/merge-patch+json", "json": "application/json-patch+json"}

    def __init__(self, address, identities):
        self.address = address
        self.context = ssl.create_default_context(cafile=identities.ca)
        self.context.load_cert_chain(identities.folder / "admin.crt", identities.folder / "admin.key")

    def ask(self, method, path, body=None, kind="application/json"):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"content-type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refused:
            text = refused.read().decode()
            try:
                text = json.loads(text)["message"]
            except (ValueError, KeyError):
                pass
            raise Refused(refused.code, text) from None
        return json.loads(text) if text.startswith(b"{") else text.decode()

    def get(self, path):
        """An object, or nothing."""
        try:
            return self.ask("GET", path)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise

    def list(self, path):
        return self.ask("GET", path)["items"]

    def create(self, path, body):
        return self.ask("POST", path, body)

    def patch(self, path, body, kind="merge"):
        return self.ask("PATCH", path, body, self.KINDS[kind])

    def delete(self, path, body=None):
        try:
            return self.ask("DELETE", path, body)
        except Refused as refused:
            if refused.code != 404:
                raise


class Server:
    """The three processes, from the start of the first to the end of the last."""

    def __init__(self, folder):
        self.folder, self.running = folder, {}
        # In memory, where that can be: etcd waits for the disk at each write, and a busy one makes it give up.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else folder
        self.data = tempfile.TemporaryDirectory(prefix="pillion-etcd-", dir=memory)
        self.identities = Identities(folder)
        self.store, self.peers, self.port, self.controllers = free_ports(4)
        self.address = f"https://127.0.0.1:{self.port}"
        self.api = Api(self.address, self.identities)
        self.audit, self.kubeconfig = folder / "audit.log", folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(self.admin()))

    def admin(self):
        """How kubectl, Helm and the controllers find the server."""
        folder = self.folder
        user = {"client-certificate": str(folder / "admin.crt"), "client-key": str(folder / "admin.key")}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.address, "certificate-authority": str(self.identities.ca)}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "users": [{"name": "admin", "user": user}],
        }

    def start(self, name, flags):
        log = open(self.folder / f"{name}.log", "w")
        command = [str(BINARIES / name), *(f"--{flag}={value}" for flag, value in flags.items())]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        self.running[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)

    def __enter__(self):
        try:
            self.start("etcd", self.etcd())
            self.start("kube-apiserver", self.apiserver())
            until("the API server is ready", self.is_ready, 90)
            self.start("kube-controller-manager", self.manager())
            until("the controllers work", lambda: self.api.get("/api/v1/namespaces/default/serviceaccounts/default"), 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.running.values()):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.data.cleanup()

    def is_ready(self):
        for name, process in self.running.items():
            check(process.poll() is None, f"{name} has ended: {self.tail(name)}")
        try:
            return self.api.ask("GET", "/readyz") == "ok"
        except (OSError, Refused):
            return False

    def tail(self, name):
        return "\n".join((self.folder / f"{name}.log").read_text().splitlines()[-15:])

    def etcd(self):
        here, peer = f"http://127.0.0.1:{self.store}", f"http://127.0.0.1:{self.peers}"
        return {
            "data-dir": self.data.name,
            "listen-client-urls": here,
            "advertise-client-urls": here,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }

    def apiserver(self):
        folder = self.folder
        policy = folder / "audit-policy"
        policy.write_text(json.dumps(AUDIT))
        return {
            "etcd-servers": f"http://127.0.0.1:{self.store}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": self.port,
            "insecure-port": 0,
            "tls-cert-file": folder / "api.crt",
            "tls-private-key-file": folder / "api.key",
            "client-ca-file": self.identities.ca,
            "service-account-key-file": folder / "accounts.key",
            "service-account-signing-key-file": folder / "accounts.key",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-cluster-ip-range": "10.96.0.0/16",
            "authorization-mode": "RBAC",
            "allow-privileged": "true",
            "endpoint-reconciler-type": "none",
            "audit-policy-file": policy,
            "audit-log-path": self.audit,
        }

    def manager(self):
        return {
            "kubeconfig": self.kubeconfig,
            "service-account-private-key-file": self.folder / "accounts.key",
            "root-ca-file": self.identities.ca,
            "controllers": CONTROLLERS,
            "bind-address": "127.0.0.1",
            "secure-port": self.controllers,
            "port": 0,
            "cert-dir": self.folder / "manager",
            "leader-elect": "false",
        }
