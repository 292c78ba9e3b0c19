"""As much of a kubelet as the pods need: it starts what a manifest says, in its order, and ends it.

A pod is a network namespace. A container has namespaces for mounts and processes besides, a root with
nothing but its image and its volumes, a user without rights, and the environment of the manifest. What
is left out: the container's profile of system calls, its limits of memory and CPU, and restarts.
"""

import http.client
import os
import re
import signal
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEARCH = "search team-a.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"


class Container:
    """A container of the manifest, and its process."""

    def __init__(self, spec, pod, image):
        self.spec, self.pod, self.name = spec, pod, spec["name"]
        security = pod.spec.get("securityContext", {}) | spec.get("securityContext", {})
        assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}, security
        assert security["allowPrivilegeEscalation"] is False, security
        self.user = security["runAsUser"]
        self.environment = image.environment | self.own_environment()
        self.command = [*spec.get("command", image.command), *spec.get("args", [])]
        self.files = image.files | {mount["mountPath"]: pod.volumes[mount["name"]] for mount in spec.get("volumeMounts", [])}
        self.files["/etc/resolv.conf"] = pod.folder / "resolv.conf"
        self.out, self.log = (pod.folder / f"{self.name}.{kind}" for kind in ("out", "log"))
        self.process = self.pid = None

    def own_environment(self):
        known = {}
        for variable in self.spec.get("env", []):
            if "valueFrom" in variable:
                value = self.pod.fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                value = re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], variable.get("value", ""))
            known[variable["name"]] = value
        return known

    def start(self):
        root = self.pod.folder / f"{self.name}.root"
        root.mkdir()
        files = [f"{source}={place}" for place, source in self.files.items()]
        apart = ["unshare", "--mount", "--pid", "--fork"]
        command = [*apart, str(HERE / "container"), str(root), str(self.user), *files, "--", *self.with_environment(self.command)]
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self.process = subprocess.Popen(["ip", "netns", "exec", self.pod.space, *command], stdout=out, stderr=log)
        # Its first process is the child of the one that made its namespaces; it is made once that has its root.
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while not (found := children.read_text().split()) or os.readlink(f"/proc/{found[0]}/root") == "/":
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.005)
        self.pid = int(found[0])

    def with_environment(self, command):
        return ["env", "-i", *(f"{name}={value}" for name, value in self.environment.items()), *command]

    def run(self, command, **how):
        """Runs a command in it, as `kubectl exec` does."""
        inside = ["nsenter", "--target", str(self.pid), "--mount", "--net", "--pid", "--root", "--wd"]
        user = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--no-new-privs", "--"]
        return subprocess.run([*inside, *user, *self.with_environment(command)], capture_output=True, text=True, timeout=150, **how)

    def signal(self, number=signal.SIGTERM):
        os.kill(self.pid, number)

    def ended(self, within):
        return self.process.wait(within)


class Image:
    """What stands for an image: files by their place in it, its environment and its command."""

    def __init__(self, files, environment, command=()):
        self.files, self.environment, self.command = files, {"PATH": "/usr/bin:/bin", **environment}, command


class Pod:
    """A pod of a manifest's template, in a network namespace that is there already."""

    def __init__(self, template, name, space, address, folder, objects, images):
        self.spec, self.name, self.space, self.address, self.folder = template["spec"], name, space, address, folder
        folder.mkdir()
        labels = template["metadata"].get("labels", {})
        self.fields = {
            "metadata.name": name, "metadata.namespace": "team-a", "metadata.uid": f"uid-of-{name}", "status.podIP": address,
            "spec.nodeName": "node", "spec.serviceAccountName": self.spec.get("serviceAccountName", "default"),
            "metadata.labels['topology.kubernetes.io/zone']": labels.get("topology.kubernetes.io/zone", ""),
        }  # fmt: skip
        nameserver = Path("/etc/netns") / space / "resolv.conf"
        folder.joinpath("resolv.conf").write_text(nameserver.read_text().splitlines()[0] + "\n" + SEARCH)
        self.volumes = {volume["name"]: mounted(volume, folder / volume["name"], objects) for volume in self.spec.get("volumes", [])}
        make = lambda spec: Container(spec, self, images[spec["image"]])  # noqa: E731
        self.before, self.beside = ([make(spec) for spec in self.spec.get(kind, [])] for kind in ("initContainers", "containers"))
        assert all(it.spec["restartPolicy"] == "Always" for it in self.before), "all of them are native sidecars"
        self.containers = {it.name: it for it in [*self.before, *self.beside]}

    def start(self):
        """A native sidecar has started before the next container starts; any other has run its hook."""
        for container in self.before:
            container.start()
            probe = container.spec["startupProbe"]
            end = time.monotonic() + probe["periodSeconds"] * probe["failureThreshold"]
            while self.asked(probe) != 200:
                assert time.monotonic() < end and container.process.poll() is None, container.log.read_text()
                time.sleep(0.02)
        for container in self.beside:
            container.start()
            if hook := container.spec.get("lifecycle", {}).get("postStart"):
                done = container.run(hook["exec"]["command"])
                assert done.returncode == 0, done.stderr

    def asked(self, probe):
        """The status of a probe, which comes from the node; None where nobody answers."""
        target = probe["httpGet"]
        connection = http.client.HTTPConnection(self.address, target["port"], timeout=probe.get("timeoutSeconds", 1))
        try:
            connection.request("GET", target["path"])
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def kill(self):
        # With the first of them all processes of a container end.
        for container in self.containers.values():
            if container.pid and container.process.poll() is None:
                container.signal(signal.SIGKILL)
                container.ended(20)


def mounted(volume, folder, objects):
    """The folder of a volume, written as the kubelet writes it: links to a folder that is swapped whole."""
    folder.mkdir()
    sources = volume.get("projected", {}).get("sources") or [volume]
    mode = volume.get("projected", {}).get("defaultMode") or volume.get("secret", {}).get("defaultMode", 0o644)
    data = folder / "..2026_01_01"
    data.mkdir()
    for source in sources:
        for path, text in content(source, objects).items():
            data.joinpath(path).write_text(text)
            data.joinpath(path).chmod(mode)
            folder.joinpath(path).symlink_to(f"..data/{path}")
    folder.joinpath("..data").symlink_to(data.name)
    return folder


def content(source, objects):
    """The files of one source of a volume."""
    if "emptyDir" in source:
        return {}
    kind, it = next((kind, source[kind]) for kind in ("configMap", "secret") if kind in source)
    there = objects.get((kind, it.get("secretName") or it["name"]))
    if there is None:
        assert it.get("optional"), f"a pod would wait for {it}"
        return {}
    items = it.get("items") or [{"key": key, "path": key} for key in there]
    return {item["path"]: there[item["key"]] for item in items if item["key"] in there}
