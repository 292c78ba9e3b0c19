"""Namespaces as pods, all on one bridge. It lives in one namespace more, the hub, in which the tests run.

A fleet has a second network for gossip: two bridges with one cable between them, so that it can be
cut in the middle while providers and callers stay in reach.
"""

import os
import pathlib
import shutil
import subprocess

SERVICE = "10.78.0.{}"
GOSSIP = "10.77.0.{}"
GOSSIP_SIX = "fd00:77::{}"
HUB = SERVICE.format(1)


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def missing():
    """Why there can be no namespaces here; None where there can."""
    if os.geteuid() != 0:
        return "it needs root for network namespaces"
    if not shutil.which("ip"):
        return "it needs `ip` (Debian: iproute2)"
    probe = f"pil{os.getpid()}probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode != 0:
        return f"namespaces cannot be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=False)
    return None


class Network:
    """So many pods with one address each."""

    def __init__(self, pods):
        self.tag = f"pil{os.getpid()}"
        self.hub = f"{self.tag}hub"
        self.pods = [f"{self.tag}p{at}" for at in range(pods)]

    def __enter__(self):
        for name in [self.hub, *self.pods]:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            # What `ip netns exec` shows as /etc/resolv.conf.
            folder = pathlib.Path("/etc/netns") / name
            folder.mkdir(parents=True)
            folder.joinpath("resolv.conf").write_text(
                f"nameserver {HUB}\nsearch fleet.test\noptions ndots:5\n"
            )
        self.bridge("service")
        self.of_hub("addr", "add", f"{HUB}/16", "dev", "service")
        for at, name in enumerate(self.pods):
            self.plug(at, name, f"s{at}", "service", SERVICE)
        return self

    def bridge(self, name):
        self.of_hub("link", "add", name, "type", "bridge")
        self.of_hub("link", "set", name, "up")

    def plug(self, at, name, port, bridge, address):
        self.of_hub("link", "add", port, "type", "veth", "peer", "name", f"{port}x", "netns", name)
        self.of_hub("link", "set", port, "master", bridge)
        self.of_hub("link", "set", port, "up")
        run("ip", "-n", name, "addr", "add", f"{address.format(10 + at)}/16", "dev", f"{port}x")
        run("ip", "-n", name, "link", "set", f"{port}x", "up")

    def of_hub(self, *words):
        run("ip", "-n", self.hub, *words)

    def __exit__(self, *_):
        for name in [*self.pods, self.hub]:
            subprocess.run(["ip", "netns", "delete", name], check=False)
            shutil.rmtree(pathlib.Path("/etc/netns") / name, ignore_errors=True)


class Halves(Network):
    """The same with gossip apart: the first half of the pods hangs on one bridge and the rest on the other."""

    def __enter__(self):
        super().__enter__()
        self.bridge("left")
        self.bridge("right")
        self.of_hub("link", "add", "cable", "type", "veth", "peer", "name", "elbac")
        for end, bridge in [("cable", "left"), ("elbac", "right")]:
            self.of_hub("link", "set", end, "master", bridge)
            self.of_hub("link", "set", end, "up")
        for at, name in enumerate(self.pods):
            side = "left" if at < len(self.pods) // 2 else "right"
            self.plug(at, name, f"g{at}", side, GOSSIP)
        return self


def only_six(at, name):
    """From within the hub: gives a pod an IPv6 address for gossip in the place of its other one."""
    run("ip", "-n", name, "-4", "addr", "flush", "dev", f"g{at}x")
    run("ip", "-n", name, "addr", "add", f"{GOSSIP_SIX.format(10 + at)}/64", "dev", f"g{at}x", "nodad")


def cut(is_cut):
    """From within the hub: takes the cable between the halves away, or plugs it in."""
    run("ip", "link", "set", "cable", "down" if is_cut else "up")
