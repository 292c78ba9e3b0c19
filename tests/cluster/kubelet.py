"""As much of a kubelet as the injector's pods need: they run as processes, as their own specs say.

Arguments, environment, ConfigMaps, Secrets and the service account's token are the pod's; only
folders lie elsewhere and ports are free ones of loopback. A pod is ready when its probe says so, and
a pod that is deleted is gone when its process has ended: so Deployments roll as they do in a cluster.
And one address stands before the pods that are ready, as a Service does.
"""

import base64
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

from ports import free_ports
from server import Refused

BINARY = os.environ["PILLION_BIN"]
NODE = "node"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
INJECTORS = "labelSelector=app.kubernetes.io%2Fcomponent%3Dinjector"


def path_of(pod):
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


class Running:
    """A pod's process."""

    def __init__(self, kubelet, pod):
        self.pod, self.name = pod, pod["metadata"]["name"]
        self.folder = Path(tempfile.mkdtemp(prefix=self.name, dir=kubelet.folder))
        self.port, self.admin = free_ports(2)
        self.is_ready = False
        self.log = self.folder / "log"
        self.is_told = False
        container = pod["spec"]["containers"][0]
        mounts = self.mount(kubelet, pod, container)
        command = [BINARY, *(self.argument(argument, mounts) for argument in container["args"])]
        for path, flag in ((ACCOUNT, "service-account"), ("/etc/pillion/tls", "tls-dir")):
            if path in mounts:
                command.append(f"--{flag}={mounts[path]}")
        host, _, port = kubelet.server.address.removeprefix("https://").partition(":")
        environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        environment |= {each["name"]: self.value(each) for each in container.get("env", [])}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def mount(self, kubelet, pod, container):
        """Where each folder of the container is here."""
        api, namespace, mounts = kubelet.server.api, pod["metadata"]["namespace"], {}
        volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
        for mount in container["volumeMounts"]:
            volume, folder = volumes[mount["name"]], self.folder / mount["name"]
            folder.mkdir(parents=True)
            mounts[mount["mountPath"]] = folder
            match volume:
                case {"configMap": {"name": name}}:
                    held = api.ask("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")["data"]
                    held = {key: text.encode() for key, text in held.items()}
                case {"secret": {"secretName": name}} if mount["mountPath"] != ACCOUNT:
                    held = api.ask("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")["data"]
                    held = {key: base64.b64decode(text) for key, text in held.items()}
                case _:
                    # As newer API servers have it: bound to this pod, and gone with it.
                    bound = {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": pod["metadata"]["uid"]}
                    asked = {"spec": {"expirationSeconds": 3600, "boundObjectRef": bound}}
                    account = pod["spec"]["serviceAccountName"]
                    token = api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", asked)
                    held = {"token": token["status"]["token"].encode(), "namespace": namespace.encode()}
                    held["ca.crt"] = kubelet.server.identities.ca.read_bytes()
            for key, content in held.items():
                (folder / key).write_bytes(content)
        return mounts

    def argument(self, argument, mounts):
        for path, folder in mounts.items():
            argument = argument.replace(path, str(folder))
        name, _, value = argument.partition("=")
        local = {"--listen": self.port, "--admin": self.admin}.get(name)
        return f"{name}=127.0.0.1:{local}" if local and value.startswith("[::]:") else argument

    def value(self, variable):
        if "value" in variable:
            return variable["value"]
        *_, field = variable["valueFrom"]["fieldRef"]["fieldPath"].split(".")
        return self.pod["metadata"][field]

    def probe(self, path="/readyz"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as answer:
                return answer.read().decode()
        except (OSError, urllib.error.HTTPError):
            return None


class Kubelet:
    """Runs the injector's pods of all namespaces, and stands before them at one address."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.port = free_ports(1)[0]
        self.running, self.faults = {}, []
        self.is_held = self.is_over = False
        self.listener, self.looking = None, threading.Lock()

    def __enter__(self):
        self.folder.mkdir()
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        self.server.api.create("/api/v1/nodes", node)
        # The taint of a node that has not told of itself.
        self.server.api.patch(f"/api/v1/nodes/{NODE}", {"spec": {"taints": None}})
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()
        for running in self.running.values():
            running.process.kill()
            running.process.wait()
        self.close()

    def ready(self, namespace=None):
        """Those that are, of all namespaces or of one."""
        ready = [running for running in list(self.running.values()) if running.is_ready]
        return [each for each in ready if namespace in (None, each.pod["metadata"]["namespace"])]

    def count(self, name, **labels):
        """Of a metric, the sum over all that run."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        total = 0
        for running in self.ready():
            for line in (running.probe("/metrics") or "").splitlines():
                series, _, value = line.rpartition(" ")
                if series.partition("{")[0] == name and all(each in series for each in wanted):
                    total += float(value)
        return int(total)

    def work(self):
        while not self.is_over:
            try:
                with self.looking:
                    if not self.is_held:
                        self.look()
            except Refused as refused:
                # Somebody else was faster, as in a cluster; the next look sees it.
                if refused.code not in (404, 409):
                    self.faults.append(str(refused))
            except Exception:
                self.faults.append(traceback.format_exc())
            time.sleep(0.1)

    def look(self):
        pods = {pod["metadata"]["uid"]: pod for pod in self.server.api.list(f"/api/v1/pods?{INJECTORS}")}
        for id, pod in pods.items():
            running = self.running.get(id)
            if pod["metadata"].get("deletionTimestamp"):
                self.end(id, running, pod)
            elif not pod["spec"].get("nodeName"):
                self.bind(pod)
            elif running is None:
                self.running[id] = Running(self, pod)
            else:
                self.tell(running, pod)
        for id in self.running.keys() - pods.keys():
            self.end(id, self.running[id], None)
        self.stand()

    def bind(self, pod):
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        name = {"name": pod["metadata"]["name"]}
        self.server.api.create(path_of(pod) + "/binding", {"apiVersion": "v1", "kind": "Binding", "metadata": name, "target": target})

    def end(self, id, running, pod):
        """Asks a process to end, and says that the pod is gone when it has."""
        if running:
            running.is_ready = False
            if running.process.poll() is None:
                if not running.is_told:
                    running.is_told = True
                    running.process.send_signal(signal.SIGTERM)
                return
            del self.running[id]
        if pod:
            self.server.api.delete(path_of(pod), {"gracePeriodSeconds": 0, "preconditions": {"uid": id}})

    def tell(self, running, pod):
        """Says whether the pod is ready, where that has changed."""
        is_ready = running.process.poll() is None and running.probe() == "ok\n"
        known = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", [])}
        running.is_ready = is_ready
        if (known.get("Ready") == "True") == is_ready:
            return
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": "Ready", "status": str(is_ready), "lastTransitionTime": now}
        # An address for documentation: nothing is sent there.
        status = {"phase": "Running", "conditions": [condition], "podIP": "192.0.2.7"}
        self.server.api.patch(path_of(pod) + "/status", {"status": status})

    def stand(self):
        """Listens while somebody is ready, so that connections are refused while nobody is."""
        if self.ready() and not self.listener:
            self.listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()
        elif not self.ready():
            self.close()

    def close(self):
        if self.listener:
            # Wakes whoever waits in accept, which closing alone does not.
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            ready = self.ready()
            try:
                server = socket.create_connection(("127.0.0.1", random.choice(ready).port), 5)
            except (IndexError, OSError):
                client.close()
                continue
            server.settimeout(None)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    def hold(self):
        """Kills what runs and looks away, as a node that is gone."""
        with self.looking:
            self.is_held = True
            for running in self.running.values():
                running.process.kill()
                running.process.wait()
            self.running.clear()
            self.close()

    def resume(self):
        """The node is back: its pods start again."""
        self.is_held = False


def carry(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
