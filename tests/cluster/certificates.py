"""Checks of how the injector becomes trusted, and stays so."""

import base64
import json
import socket
import ssl
import time

from server import Refused, check, until
from world import CONFIGURATIONS, RELEASE, is_equipped

SECRET = "pillion-injector-tls"
HOST = f"pillion-injector.{RELEASE}.svc"
DAY = 24 * 60 * 60


def data(secret, key):
    return base64.b64decode(secret["data"][key]).decode()


def bundles(world, name="pillion-injector"):
    return {each["clientConfig"].get("caBundle") for each in world.webhooks(name)}


def shown(running, authority, host=HOST):
    """The certificate that an injector shows to who trusts this authority alone."""
    context = ssl.create_default_context(cadata=authority)
    with socket.create_connection(("127.0.0.1", running.port), 10) as plain:
        with context.wrap_socket(plain, server_hostname=host) as secure:
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True)).strip()


def is_right(world, name="pillion-injector", secret=SECRET, namespace=RELEASE):
    """Everybody agrees: the Secret, both webhooks, and what each injector shows."""
    kept = world.secret(secret, namespace)
    trusted = data(kept, "ca.crt") + data(kept, "previous-ca.crt")
    found = bundles(world, name)
    check(found == {base64.b64encode(trusted.encode()).decode()}, f"the caBundle is not the Secret's: {found}")
    for running in world.kubelet.ready(namespace):
        host = HOST if namespace == RELEASE else "127.0.0.1"
        check(shown(running, trusted, host) == data(kept, "tls.crt").strip(), f"{running.name} shows another certificate")
    return trusted


def agrees(world):
    try:
        return is_right(world)
    except (AssertionError, OSError):
        return None


def while_nobody_is_there_pods_that_ask_wait(world):
    """From the moment Helm has put the webhooks there until the injector answers."""
    try:
        world.pod("team-a", "too-early")
    except Refused as refused:
        check("failed calling webhook" in refused.message and "connection refused" in refused.message, refused.message)
        return refused.message[refused.message.index("dial tcp") :]
    raise AssertionError("it was let in")


def two_that_begin_at_once_share_one_authority(world):
    """They were started together, on a cluster that has no Secret yet."""
    check(world.secret(SECRET) is None and bundles(world) == {None}, "there is a certificate already")
    start = time.monotonic()
    world.kubelet.resume()
    world.all_ready()
    took = time.monotonic() - start
    is_right(world)
    events = [json.loads(line) for line in world.server.audit.read_text().splitlines()]
    writes = [each for each in events if each.get("objectRef", {}).get("name") == SECRET and each["verb"] == "patch"]
    codes = sorted(each["responseStatus"]["code"] for each in writes)
    check(codes.count(201) == 1 and set(codes) <= {201, 409}, f"the Secret was written {codes}")
    check(world.kubelet.count("pillion_webhook_ca_bundle_in_sync") == 2, "their metrics say otherwise")
    return f"both ready {took:.1f} s after their start; the Secret's answers were {codes}"


def a_bundle_that_is_overwritten_is_put_right(world):
    right = bundles(world)
    foreign = base64.b64encode(world.server.identities.ca.read_bytes()).decode()
    path = f"{CONFIGURATIONS}/pillion-injector"
    took = []
    for operations in (
        [{"op": "replace", "path": f"/webhooks/{at}/clientConfig/caBundle", "value": foreign} for at in (0, 1)],
        [{"op": "remove", "path": f"/webhooks/{at}/clientConfig/caBundle"} for at in (0, 1)],
    ):
        start = time.monotonic()
        world.api.patch(path, operations, "json")
        until("the caBundle is right again", lambda: bundles(world) == right)
        took.append(time.monotonic() - start)
    until("both say so", lambda: world.kubelet.count("pillion_webhook_ca_bundle_in_sync") == 2)
    is_right(world)
    is_equipped(world.pod("team-a", "after-the-bundle"))
    return f"overwritten, then taken out; back after {took[0]:.1f} s and {took[1]:.1f} s"


def age(world, **days):
    """Moves the births of what the Secret holds into the past, and lets the injectors begin anew."""
    secret = world.secret(SECRET)
    times = json.loads(data(secret, "times.json"))
    for what, old in days.items():
        times[what] = [moment - old * DAY for moment in times[what]]
    encoded = base64.b64encode(json.dumps(times).encode()).decode()
    world.api.patch(f"/api/v1/namespaces/{RELEASE}/secrets/{SECRET}", {"data": {"times.json": encoded}})
    world.kubelet.hold()
    world.kubelet.resume()
    world.all_ready()
    return secret


def certificates_are_renewed_before_they_end(world):
    before = age(world, leaf=61)
    until("all agree on a new certificate", lambda: data(world.secret(SECRET), "tls.crt") != data(before, "tls.crt") and agrees(world))
    check(data(world.secret(SECRET), "ca.crt") == data(before, "ca.crt"), "the authority is another one")
    is_equipped(world.pod("team-a", "after-the-leaf"))
    before = age(world, authority=2500, leaf=61)
    until("all agree on a new authority", lambda: data(world.secret(SECRET), "ca.crt") != data(before, "ca.crt") and agrees(world))
    check(data(world.secret(SECRET), "previous-ca.crt") == data(before, "ca.crt"), "the old authority is trusted no more")
    is_equipped(world.pod("team-a", "after-the-authority"))
    return "a certificate of 61 days by the same authority; an authority of 2500 days with the old one still trusted"
