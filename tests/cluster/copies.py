"""Checks of the configuration in each namespace: where it is, and that nothing else is touched."""

import time

from server import check, until
from world import RELEASE

BETTER = """\
model_list:
  - model_name: "openai/*"
    litellm_params: {model: "openai/*", api_key: os.environ/OPENAI_API_KEY}
router_settings: {num_retries: 3}
"""
MARK = {"app.kubernetes.io/managed-by": "pillion-injector"}


def path(namespace):
    return f"/api/v1/namespaces/{namespace}/configmaps/pillion-config"


def is_copied(world, *namespaces, seconds=30):
    """Everywhere as at the source; how long that took."""
    start = time.monotonic()
    for namespace in namespaces:
        until(f"the copy in {namespace}", lambda: world.file(namespace) == world.file(RELEASE), seconds)
    return time.monotonic() - start


def copies_are_where_sidecars_are(world):
    took = is_copied(world, "team-a", "team-b", "unlabelled", "defaults")
    copy = world.config_map("team-a")["metadata"]
    check(copy["labels"] == MARK, copy)
    check(copy["annotations"]["pillion.dev/source"] == f"{RELEASE}/pillion-config", copy)
    for namespace in ("shut", "default", "kube-system", "tried"):
        check(world.config_map(namespace) is None, f"there is one in {namespace}")
    others = [each["metadata"]["name"] for each in world.api.list("/api/v1/namespaces/team-b/secrets")]
    check(all(name.startswith("default-token") for name in others), f"Secrets in team-b: {others}")
    world.namespace("fresh", "enabled")
    start = time.monotonic()
    is_copied(world, "fresh")
    return f"none was missing after {took:.1f} s; in a new namespace {time.monotonic() - start:.1f} s after its label; no Secret went along"


def a_namespace_keeps_its_own(world):
    world.namespace("own-config")
    own = {"metadata": {"name": "pillion-config"}, "data": {"config.yaml": "model_list: []\n"}}
    world.api.create("/api/v1/namespaces/own-config/configmaps", own)
    world.label("own-config", "enabled")
    world.namespace("beside", "enabled")
    is_copied(world, "beside")
    world.pod("own-config", "one")
    return "labelled, and with a pod that has a sidecar"


def has_kept_its_own(world):
    held = world.config_map("own-config")
    check(held["data"] == {"config.yaml": "model_list: []\n"} and not held["metadata"].get("labels"), held)
    managers = {each["manager"] for each in held["metadata"]["managedFields"]}
    check("pillion-injector" not in managers, managers)


def a_change_of_the_source_is_spread(world):
    file = world.folder / "config.yaml"
    file.write_text(BETTER)
    world.upgrade("--set-file", f"config.data={file}")
    check("num_retries: 3" in world.file(RELEASE), world.file(RELEASE))
    took = is_copied(world, "team-a", "team-b", "unlabelled", "fresh")
    has_kept_its_own(world)
    return f"by helm upgrade, in four namespaces, {took:.1f} s after Helm was done"


def a_broken_source_is_not_spread(world):
    good = world.file("team-a")
    world.api.patch(path(RELEASE), {"data": {"config.yaml": "model_list: ["}})
    until("the injectors say so", lambda: world.kubelet.count("pillion_webhook_config_valid") == 0)
    time.sleep(1)
    check({world.file(name) for name in ("team-a", "team-b", "fresh")} == {good}, "it was copied")
    world.api.patch(path(RELEASE), {"data": {"config.yaml": good}})
    until("they say that it is good again", lambda: world.kubelet.count("pillion_webhook_config_valid") == 2)
    return "pillion_webhook_config_valid falls to 0 and rises again"


def a_copy_that_is_changed_or_deleted_is_put_right(world):
    world.api.patch(path("team-a"), {"data": {"config.yaml": "changed"}})
    changed = is_copied(world, "team-a")
    world.api.patch(path("team-a"), {"data": {"config.yaml": None, "other.yaml": "x"}})
    until("its keys are the source's", lambda: world.config_map("team-a")["data"] == world.config_map(RELEASE)["data"])
    world.api.delete(path("team-a"))
    gone = is_copied(world, "team-a")
    return f"after {changed:.1f} s, and {gone:.1f} s"


def without_the_label_a_copy_stays_and_is_kept_right(world):
    """Pods may still use it."""
    world.label("fresh", None)
    world.api.patch(path("fresh"), {"data": {"config.yaml": "changed"}})
    is_copied(world, "fresh")
    world.label("fresh", "disabled")
    start = time.monotonic()
    until("the copy goes", lambda: world.config_map("fresh") is None)
    took = time.monotonic() - start
    world.label("own-config", "disabled")
    world.label("beside", "disabled")
    until("the neighbour's goes", lambda: world.config_map("beside") is None)
    has_kept_its_own(world)
    return f"with `disabled` it goes, after {took:.1f} s; the namespace's own does not"
