"""Checks of what happens while no injector is there: with `Fail` pods wait, with `Ignore` they go past."""

import time

from pods import failed, refusal
from server import Refused, check, until
from world import LABEL, containers, example, is_equipped, is_plain


def policy(world):
    return {each["failurePolicy"] for each in world.webhooks()}


def with_fail_pods_wait_and_come_when_it_is_back(world):
    check(policy(world) == {"Fail"}, policy(world))
    world.kubelet.hold()
    said = refusal(world.pod, "team-a", "waits")
    check(said.startswith('Internal error occurred: failed calling webhook "namespace.inject.pillion.dev"'), said)
    said = refusal(world.pod, "unlabelled", "waits", {LABEL: "true"})
    check('failed calling webhook "pod.inject.pillion.dev"' in said, said)
    [owner] = example("deployment")
    owner["metadata"]["name"], owner["spec"]["replicas"] = "waits", 1
    owner["spec"]["selector"]["matchLabels"] = owner["spec"]["template"]["metadata"]["labels"] = {"app": "waits"}
    world.apply([owner])
    event = until("the ReplicaSet's event", lambda: failed(world, "team-a", "waits"))[0]
    check("failed calling webhook" in event, event)
    is_plain(world.pod("unlabelled", "nobody-asks"))
    is_plain(world.pod("team-a", "stays-out", {LABEL: "false"}))
    world.kubelet.resume()
    world.all_ready()
    start = time.monotonic()
    [made] = until("the Deployment's pod", lambda: world.pods("team-a", "waits"), 90)
    is_equipped(made)
    return f"{event.split(': ')[-1]}; pods that do not ask are made; the Deployment's came {time.monotonic() - start:.0f} s after the injector"


def let_in(world):
    """A pod, once the API server has taken up the other policy."""
    try:
        return world.pod("team-a", "ignore-and-away")
    except Refused:
        return None


def with_ignore_pods_go_past_it(world):
    world.upgrade("--set", "injector.webhook.failurePolicy=Ignore")
    check(policy(world) == {"Ignore"}, policy(world))
    is_equipped(world.pod("team-a", "ignore-and-there"))
    world.kubelet.hold()
    made = until("a pod is let in", lambda: let_in(world))
    is_plain(made)
    world.kubelet.resume()
    world.all_ready()
    world.upgrade("--set", "injector.webhook.failurePolicy=Fail")
    check(policy(world) == {"Fail"}, policy(world))
    is_equipped(world.pod("team-a", "fail-again"))
    return f"without an injector a pod is made with {containers(made)}"
