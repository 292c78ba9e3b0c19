"""Checks of what the injector's service account may do, by question and by use."""

import json

from server import check
from world import KUBECTL, RELEASE

ACCOUNT = f"system:serviceaccount:{RELEASE}:pillion-injector"
CONFIGURATION = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
MAY = {
    ("namespaces", None): ["get", "list", "watch"],
    ("configmaps/pillion-config", "team-a"): ["list", "watch", "create", "patch", "delete"],
    (f"{CONFIGURATION}/pillion-injector", None): ["list", "watch", "patch"],
    ("secrets/pillion-injector-tls", RELEASE): ["get", "create", "patch"],
}
MAY_NOT = {
    ("namespaces", None): ["create", "update", "patch", "delete"],
    ("configmaps", "team-a"): ["get", "list", "watch", "create", "update", "patch", "delete"],
    ("configmaps/other", "team-a"): ["get", "patch", "delete"],
    ("configmaps/pillion-injector", RELEASE): ["get", "patch"],
    (CONFIGURATION, None): ["list", "create", "deletecollection"],
    (f"{CONFIGURATION}/other", None): ["get", "patch"],
    (f"{CONFIGURATION}/pillion-injector", None): ["update", "delete"],
    ("configmaps/pillion-config", "team-a"): ["get", "update"],
    ("validatingwebhookconfigurations.admissionregistration.k8s.io", None): ["list", "patch"],
    ("secrets", RELEASE): ["get", "list", "watch", "create"],
    ("secrets/pillion-gossip-key", RELEASE): ["get", "patch"],
    ("secrets/pillion-injector-tls", RELEASE): ["list", "update", "delete"],
    ("secrets/pillion-injector-tls", "team-a"): ["get", "create"],
    ("secrets/pillion-provider-keys", "team-a"): ["get"],
    ("pods", "team-a"): ["get", "list", "create", "patch", "delete"],
    ("pods/exec", "team-a"): ["create"],
    ("deployments.apps", "team-a"): ["get", "patch"],
    ("nodes", None): ["get", "list"],
    ("events", "team-a"): ["create"],
    ("serviceaccounts/token", RELEASE): ["create"],
    ("clusterroles.rbac.authorization.k8s.io", None): ["get", "bind", "escalate"],
    ("users", None): ["impersonate"],
}


def answers(world, asked):
    """What kubectl says to each verb of each resource."""
    for (resource, namespace), verbs in asked.items():
        place = ["-n", namespace] if namespace else []
        for verb in verbs:
            # A resource with a subresource is asked for in another way than one with a name.
            name, _, part = resource.partition("/")
            of = [name, f"--subresource={part}"] if part in ("exec", "token") else [resource]
            done = world.run([KUBECTL, "auth", "can-i", verb, *of, *place, f"--as={ACCOUNT}"])
            yield f"{verb} {resource}", done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr


def it_may_do_what_it_needs(world):
    said = dict(answers(world, MAY))
    check(set(said.values()) == {"yes"}, {what: word for what, word in said.items() if word != "yes"})
    return f"kubectl auth can-i: {len(said)} questions, all yes"


def it_may_do_nothing_else(world):
    said = dict(answers(world, MAY_NOT))
    wrong = {what: word for what, word in said.items() if not word.startswith("no")}
    check(not wrong, wrong)
    return f"kubectl auth can-i: {len(said)} questions, all no"


def it_uses_every_right_and_no_other(world):
    """The API server's own record of every request of the account until here."""
    used, names, refused = set(), set(), []
    for line in world.server.audit.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"] != ACCOUNT or "objectRef" not in event or event["stage"] != "ResponseComplete":
            continue
        verb, of, code = event["verb"], event["objectRef"], event["responseStatus"].get("code")
        names.add(of.get("name", ""))
        used.add((verb, of["resource"]))
        if code == 201:
            # What apply makes needs the right to create as well.
            used.add(("create", of["resource"]))
        if code in (401, 403):
            refused.append((verb, event["requestURI"], event["responseStatus"].get("message")))
    check(used and not refused, refused)
    granted = {(verb, resource.partition("/")[0].partition(".")[0]) for (resource, _), verbs in MAY.items() for verb in verbs}
    # For a pod that comes sooner than the news of its namespace; here its account comes later still.
    spared = {("get", "namespaces")}
    check(used | spared == granted, f"used alone: {used - granted}; granted alone: {granted - used - spared}")
    known = {each["metadata"]["name"] for each in world.api.list("/api/v1/namespaces")} | {""}
    strange = {name for name in names - known if not name.startswith("pillion-")}
    check(not strange, f"it asked for {strange}")
    return f"{len(granted)} rights, {len(used)} of them used here (not: get namespaces); no request was refused"
