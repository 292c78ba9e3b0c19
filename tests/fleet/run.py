#!/usr/bin/env python3
"""A fleet for real: sidecars as processes in network namespaces, over real sockets and real HTTP.

    tests/fleet/run.py               all that tests/run asks for, in about two minutes
    tests/fleet/run.py outage        an outage of 60 s, with gossip off and on
    tests/fleet/run.py limit         a limit of requests that eight times as many calls meet
    tests/fleet/run.py many [N]      N sidecars, 50 by default: how soon they know each other, and
                                     what an idle one costs

It needs root and `ip`, and says so where they are missing. PILLION_BIN names the binary.
"""

import base64
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import names
import network
import pods as sidecars
import provider
from pods import Pod, Traffic, until

PODS = 8


def key():
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Fleet:
    """Eight pods, what they call, and what tells them of each other."""

    def __init__(self, spaces, folder):
        self.deployments = [provider.Deployment(network.HUB, 9001 + at) for at in range(5)]
        self.a, self.b, self.slow, self.fast, self.limited = self.deployments
        groups = {
            "m": {"a": self.a, "b": self.b},
            "lat": {"slow": self.slow, "fast": self.fast},
            "limited": {"c": self.limited},
        }
        self.zone = {"pillion.fleet.test": [network.GOSSIP.format(10 + at) for at in range(PODS)]}
        names.Names(network.HUB, self.zone)
        self.folder, self.groups, self.spaces = folder, groups, spaces
        self.pods = [Pod(at, spaces[at], folder, groups) for at in range(PODS)]
        self.key = key()

    def start(self, gossip=True):
        for pod in self.pods:
            pod.key_file.write_text(self.key)
            pod.start(gossip)
        for pod in self.pods:
            until(f"pod {pod.at} serves", lambda: is_up(pod), 20)

    def stop(self):
        for pod in self.pods:
            pod.stop()

    def all_know(self, count=PODS, seconds=30, of=None):
        known = of or self.pods
        return until(f"{count} members at all", lambda: all(it.alive() == count for it in known), seconds)

    def agree(self):
        """Whether all believe the same about cooldowns."""
        tables = set()
        for pod in self.pods:
            own = [it for it in pod.fleet()["members"] if it["is_me"]]
            tables.add(own and own[0]["believes"]["cooldowns"])
        return len(tables) == 1


def is_up(pod):
    try:
        return pod.ask("/livez") != b""
    except OSError:
        return False


def check(is_so, what):
    if not is_so:
        raise AssertionError(what)


def they_find_each_other(fleet):
    took = fleet.all_know()
    said = lambda name: {member[name] for member in fleet.pods[0].fleet()["members"]}
    until("they say where they are", lambda: said("zone") == {"left", "right"}, 20)
    check(len(said("hash")) == 1, "all have the same file")
    return f"by a name with {PODS} addresses, over TCP, {took:.1f} s after the last began"


def a_limit_seen_by_one_is_kept_by_all(fleet):
    fleet.a.mood = provider.Mood(status=429, retry_after="8")
    start = time.monotonic()
    while not fleet.a.since(start):
        check(fleet.pods[0].send("m") == 200, "the other deployment answers")
    seen = fleet.a.since(start)[0].when
    with Traffic(fleet.pods, "m", 10) as traffic:
        time.sleep(max(0, seen + 7 - time.monotonic()))
    fleet.a.mood = provider.Mood()
    late = [it for it in fleet.a.since(seen + 1) if it.when < seen + 7]
    early = len(fleet.a.since(seen)) - len(late)
    check(not late, f"{len(late)} calls came after the first second")
    check(set(traffic.statuses) == {200}, traffic.statuses)
    with Traffic(fleet.pods, "m", 4):
        back = until("it is used again", lambda: len({it.by for it in fleet.a.since(seen + 8)}) == PODS, 40)
    return f"of 80 calls a second {early - 1} more came, none after 1 s; back with all pods {back:.1f} s later"


def what_seven_have_learned_the_eighth_knows(fleet):
    fleet.slow.mood, fleet.fast.mood = provider.Mood(delay=1.0), provider.Mood(delay=0.02)
    with Traffic(fleet.pods[:7], "lat", 4):
        time.sleep(6)
    eighth = fleet.pods[7]
    until("the eighth has heard", lambda: chance(eighth, "fast") > 0.95, 15)
    start = time.monotonic()
    check(eighth.send("lat", sidecars.PROMPT) == 200, "it answers")
    check(len(fleet.fast.since(start, eighth.service)) == 1, "its first call goes to the fast one")
    check(not fleet.slow.since(start, eighth.service), "and not to the slow one")
    return f"before its first call it gave the fast one a chance of {chance(eighth, 'fast'):.3f}"


def chance(pod, name):
    explained = json.loads(pod.ask("/explain?model=lat"))
    return next(it["chance"] for it in explained["candidates"] if it["deployment"] == name)


def a_cut_in_the_middle_heals(fleet):
    left, right = fleet.pods[: PODS // 2], fleet.pods[PODS // 2 :]
    network.cut(True)
    with Traffic(fleet.pods, "m", 5) as traffic:
        apart = fleet.all_know(PODS // 2, 60)
    check(set(traffic.statuses) == {200}, traffic.statuses)
    fleet.b.mood = provider.Mood(status=429, retry_after="20")
    start = time.monotonic()
    while not fleet.b.since(start):
        left[0].send("m")
    fleet.b.mood = provider.Mood()
    until("the left half has heard", lambda: all(rests(pod, "b") for pod in left), 5)
    check(not any(rests(pod, "b") for pod in right), "the right half has not")
    network.cut(False)
    together = fleet.all_know(PODS, 60)
    agree = until("all believe the same", fleet.agree, 30)
    check(all(rests(pod, "b") for pod in right), "the right half has heard, too")
    return f"apart after {apart:.1f} s, {sum(traffic.statuses.values())} calls served; whole {together:.1f} s after, one view {agree:.1f} s later"


def rests(pod, name):
    """Whether a cooldown of a deployment is known."""
    known = [it["cooldown"] for it in pod.fleet()["deployments"] if it["deployment"] == name]
    return any(cooldown and cooldown["seconds"] is not None for cooldown in known)


def who_is_killed_comes_back(fleet):
    killed = fleet.pods[3]
    # Its state is kept every 15 s.
    until("a state is kept", lambda: (killed.folder / "state" / "gossip.state").exists(), 20)
    killed.stop(signal.SIGKILL)
    gone = fleet.all_know(PODS - 1, 60, of=[pod for pod in fleet.pods if pod is not killed])
    killed.start()
    until("it serves", lambda: is_up(killed), 20)
    back = fleet.all_know(PODS, 30)
    check(b"goes on with what was kept" in killed.log.read_bytes(), "it reads its state")
    return f"gone after {gone:.1f} s, back {back:.1f} s after it serves"


def keys_change_under_traffic(fleet):
    first, second = fleet.key, key()
    phases = [
        {"active": 1, "keys": {"1": first, "2": second}},
        {"active": 2, "keys": {"1": first, "2": second}},
        {"active": 2, "keys": {"2": second}},
    ]
    fewest = PODS
    with Traffic(fleet.pods, "m", 5) as traffic:
        for at, phase in enumerate(phases):
            for pod in fleet.pods:
                swap(pod.key_file, json.dumps(phase))
            have = sorted(map(int, phase["keys"]))
            sent = 1 if at == 0 else 2

            def is_done():
                nonlocal fewest
                fewest = min(fewest, *(pod.alive() for pod in fleet.pods))
                return all(
                    pod.fleet()["sending_key"] == sent
                    and all(member["keys"] == have for member in pod.fleet()["members"])
                    for pod in fleet.pods
                )

            until(f"phase {at + 1} is over", is_done, 40)
    check(fewest == PODS, f"only {fewest} members were seen")
    check(set(traffic.statuses) == {200}, traffic.statuses)
    lost = sum(pod.dropped("unknown_key") + pod.dropped("forged") for pod in fleet.pods)
    check(lost == 0, f"{lost} datagrams could not be read")
    fleet.key = second
    for pod in fleet.pods:
        swap(pod.key_file, json.dumps(phases[-1]))
    return "three phases, no member lost, no datagram unread"


def swap(path, text):
    """As a mount changes: whole, or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


def a_wrong_key_learns_and_harms_nothing(fleet):
    stranger = Pod(PODS, fleet.spaces[PODS], fleet.folder, fleet.groups)
    stranger.key_file.write_text(json.dumps({"active": 2, "keys": {"2": key()}}))
    stranger.start()
    try:
        until("it serves", lambda: is_up(stranger), 20)
        until("it is heard and refused", lambda: fleet.pods[0].dropped("forged") > 3, 30)
        check(stranger.send("m") == 200, "it serves by itself")
        check(stranger.alive() == 1, "it knows nobody")
        weights = [it["weight"] for it in stranger.fleet()["deployments"]]
        check(max(weights) < 3, weights)
        check(all(pod.alive() == PODS for pod in fleet.pods), "nobody knows it")
        forged = sum(pod.dropped("forged") for pod in fleet.pods)
        return f"{forged:.0f} datagrams refused, {PODS} members as before"
    finally:
        stranger.stop()


def an_outage(fleet, seconds, most):
    """Failed calls of an outage, with gossip off and on, by pods that are on already."""
    failed = {}
    for gossip in [False, True]:
        fleet.stop()
        fleet.start(gossip)
        if gossip:
            fleet.all_know()
        # Who has been there for a moment has its share.
        with Traffic(fleet.pods, "m", 4) as traffic:
            time.sleep(3)
            fleet.a.mood = provider.Mood(status=503)
            start = time.monotonic()
            time.sleep(seconds)
            fleet.a.mood = provider.Mood()
        failed[gossip] = sum(it.status == 503 for it in fleet.a.since(start))
        check(set(traffic.statuses) == {200}, traffic.statuses)
    ratio = failed[True] / max(1, failed[False])
    said = f"{seconds} s: {failed[False]} failed calls without gossip, {failed[True]} with it, ratio {ratio:.2f}"
    check(ratio <= most, f"{said}, more than {most}")
    return said


def the_short_outage(fleet):
    # The first failures of each pod weigh more in it than in a minute.
    return an_outage(fleet, 20, 0.6)


def the_long_outage(fleet):
    return an_outage(fleet, 60, 0.4)


def a_limit_holds_for_all(fleet):
    fleet.all_know()
    time.sleep(3)
    start = time.monotonic()
    with Traffic(fleet.pods, "limited", 2) as traffic:
        time.sleep(150)
    check(set(traffic.statuses) <= {200, 429}, traffic.statuses)
    moments = sorted(it.when for it in fleet.limited.since(start))
    most = max(sum(first <= it < first + 60 for it in moments) for first in moments)
    steady = sum(it >= start + 90 for it in moments)
    said = (
        f"of {sum(traffic.statuses.values())} calls in 150 s {len(moments)} came through,"
        f" {most} within the fullest minute of {sidecars.LIMIT} allowed, {steady} in the last one"
    )
    check(most <= sidecars.LIMIT * 1.1, said)
    check(steady >= sidecars.LIMIT * 0.8, said)
    return said


def a_seed_without_models_joins_two_over_ipv6_alone(fleet):
    fleet.stop()
    fleet.zone["seed.fleet.test"] = [network.GOSSIP_SIX.format(10)]
    folder = fleet.folder + "/six"
    pods = [Pod(0, fleet.spaces[0], folder)]
    pods += [Pod(at, fleet.spaces[at], folder, fleet.groups) for at in [1, PODS - 1]]
    try:
        for pod in pods:
            pod.key_file.write_text(fleet.key)
            network.only_six(pod.at, pod.space)
            pod.start(address=network.GOSSIP_SIX.format(10 + pod.at), seed="seed.fleet.test")
        for pod in pods:
            until(f"pod {pod.at} serves", lambda: is_up(pod), 20)
        took = fleet.all_know(len(pods), of=pods)
        addresses = {member["address"] for pod in pods for member in pod.fleet()["members"]}
        check(all(it.startswith("[fd00:77::") for it in addresses), addresses)
        fleet.a.mood = provider.Mood(status=429, retry_after="20")
        start = time.monotonic()
        while not fleet.a.since(start):
            pods[1].send("m")
        fleet.a.mood = provider.Mood()
        heard = until("the other has heard", lambda: rests(pods[2], "a"), 5)
        return f"three members after {took:.1f} s, a pause told after {heard:.2f} s"
    finally:
        for pod in pods:
            pod.stop()


SCENES = [
    they_find_each_other,
    a_limit_seen_by_one_is_kept_by_all,
    what_seven_have_learned_the_eighth_knows,
    a_cut_in_the_middle_heals,
    who_is_killed_comes_back,
    keys_change_under_traffic,
    a_wrong_key_learns_and_harms_nothing,
    the_short_outage,
    # The last one, since it takes addresses away.
    a_seed_without_models_joins_two_over_ipv6_alone,
]


def play(scenes, spaces, folder):
    fleet = Fleet(spaces, folder)
    try:
        fleet.start()
        for scene in scenes:
            start = time.monotonic()
            said = scene(fleet)
            name = scene.__name__.replace("_", " ")
            print(f"   {name}: {said} ({time.monotonic() - start:.0f} s)", flush=True)
    except BaseException:
        for pod in fleet.pods:
            tail = pod.log.read_text().splitlines()[-15:] if pod.log.exists() else []
            print(f"   pod {pod.at}:", *tail, sep="\n     ", file=sys.stderr)
        raise
    finally:
        fleet.stop()


def many(count, folder):
    """So many sidecars on the hub's own addresses."""
    groups = {"m": {f"d{at}": provider.Deployment(network.HUB, 9002 + at) for at in range(10)}}
    addresses = [f"10.78.{1 + at // 200}.{1 + at % 200}" for at in range(count)]
    for address in addresses:
        network.run("ip", "addr", "add", f"{address}/16", "dev", "service")
    names.Names(network.HUB, {"pillion.fleet.test": addresses})
    own, fleet = key(), []
    for at, address in enumerate(addresses):
        pod = Pod(at, None, folder, groups)
        pod.service = pod.gossip = address
        pod.config.write_text(
            pod.config.read_text().replace('"log"', f'"gossip": {{"listen": "{address}:24082"}}, "log"')
        )
        pod.key_file.write_text(own)
        fleet.append(pod)
    with open("/etc/resolv.conf") as conf:
        check(network.HUB in conf.read(), "names come from the hub")
    try:
        for pod in fleet:
            pod.start(address=pod.gossip)
        took = until("all know all", lambda: all(pod.alive() == count for pod in fleet), 180, 1)
        print(f"   {count} sidecars know each other, {took:.1f} s after the last began", flush=True)
        time.sleep(20)
        before, start = [cpu(pod) for pod in fleet], time.monotonic()
        sent = [pod.metric('pillion_gossip_bytes_total{direction="out"}') for pod in fleet]
        time.sleep(60)
        elapsed = time.monotonic() - start
        used = sorted((cpu(pod) - was) / elapsed * 100 for pod, was in zip(fleet, before))
        out = [pod.metric('pillion_gossip_bytes_total{direction="out"}') - was for pod, was in zip(fleet, sent)]
        print(
            f"   idle: {sum(used) / count:.3f} % of a core in the mean, {used[-1]:.3f} % at most;"
            f" {sum(out) / count / elapsed:.0f} bytes a second each",
            flush=True,
        )
        memory = sorted(resident(pod) for pod in fleet)
        for pod in fleet[1:]:
            pod.stop()
        alone = Pod(count, None, folder, groups)
        alone.service = addresses[1]
        alone.start(gossip=False)
        until("one without gossip serves", lambda: is_up(alone), 20)
        time.sleep(10)
        base = resident(alone)
        alone.stop()
        print(
            f"   resident: {memory[len(memory) // 2] / 1024:.1f} MiB in the median, {memory[-1] / 1024:.1f} at most,"
            f" {base / 1024:.1f} without gossip",
            flush=True,
        )
    finally:
        for pod in fleet:
            pod.stop()


def cpu(pod):
    """Seconds of CPU."""
    fields = pathlib.Path(f"/proc/{pod.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pod):
    """KiB."""
    status = pathlib.Path(f"/proc/{pod.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def main():
    if why := network.missing():
        print(f"   skipped: {why}")
        return 0
    words = sys.argv[1:]
    pods = 1 if words[:1] == ["many"] else PODS + 1
    with network.Halves(pods) as net:
        command = [sys.executable, __file__, "--inside", ",".join(net.pods), *words]
        return subprocess.run(["ip", "netns", "exec", net.hub, *command], check=False).returncode


def inside(spaces, words):
    folder = tempfile.mkdtemp(prefix="pillion-fleet-")
    try:
        match words:
            case []:
                play(SCENES, spaces, folder)
            case ["outage"]:
                play([the_long_outage], spaces, folder)
            case ["limit"]:
                play([a_limit_holds_for_all], spaces, folder)
            case ["many", *rest]:
                many(int(rest[0]) if rest else 50, folder)
            case _:
                known = {scene.__name__: scene for scene in SCENES}
                play([they_find_each_other, *(known[word] for word in words)], spaces, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(inside(sys.argv[2].split(","), sys.argv[3:]))
    sys.exit(main())
