"""Checks of pods as they are made: by whom, where, and what they come out with."""

import json
import time

import other
from server import Refused, check, until
from world import LABEL, RELEASE, containers, example, is_equipped, is_plain, variables

# Pods that are meant to end have no plain container beside them that does not end by itself.
QUITS = {"pillion.dev/job-mode": "quit"}


def refusal(make, *arguments, **more):
    try:
        make(*arguments, **more)
    except Refused as refused:
        return refused.message
    raise AssertionError("it was let in")


def failed(world, namespace, owner):
    """What controllers say that cannot make their pods."""
    events = world.api.list(f"/api/v1/namespaces/{namespace}/events?fieldSelector=reason%3DFailedCreate")
    return [each["message"] for each in events if each["involvedObject"]["name"].startswith(owner)]


def every_workload_of_the_examples_gets_a_sidecar(world):
    """deploy/examples, as they are; what is meant to end says that it quits, for want of native sidecars."""
    world.apply(example("namespace"))
    job = example("job")
    job[0]["spec"]["template"]["metadata"]["annotations"] = QUITS
    pod = example("pod")
    pod[0]["metadata"]["annotations"] = QUITS
    workloads = [each for name in ("daemonset", "deployment", "replicaset", "statefulset") for each in example(name)]
    world.apply(workloads + job + pod)
    found = {}
    # The second of the StatefulSet waits for the first to be ready, which is the kubelet's to say.
    for application, kind, count in (("chat", "Deployment", 3), ("summaries", "DaemonSet", 1), ("memory", "StatefulSet", 1), ("embed", "Job", 1)):
        made = until(f"pods of {application}", lambda: len(pods := world.pods("team-a", application)) == count and pods)
        for each in made:
            is_equipped(each, port=4000 if application == "memory" else 24080)
            workload = variables(each["spec"]["containers"][0])["PILLION_WORKLOAD"]
            check(workload == f"{kind}/{application}", workload)
        found[kind] = made
    memory = found["StatefulSet"][0]["spec"]["containers"][0]
    check(memory["resources"]["limits"]["memory"] == "512Mi", memory["resources"])
    check(variables(memory)["PILLION_LISTEN"].startswith("127.0.0.1:4000"), memory["env"])
    is_equipped(world.api.get("/api/v1/namespaces/team-b/pods/once"))
    is_plain(until("the pod of plain", lambda: world.pods("team-a", "plain"))[0])
    return "Deployment 3, DaemonSet 1, StatefulSet 1, Job 1, a pod by itself; a ReplicaSet that stays out"


def a_replica_set_that_asks_gets_sidecars(world):
    [owner] = example("replicaset")
    owner["metadata"]["name"] = "asks"
    owner["spec"]["selector"]["matchLabels"] = {"app": "asks"}
    owner["spec"]["template"]["metadata"]["labels"] = {"app": "asks"}
    world.apply([owner])
    [made] = until("its pod", lambda: world.pods("team-a", "asks"))
    is_equipped(made)
    workload = variables(made["spec"]["containers"][0])["PILLION_WORKLOAD"]
    check(workload == "ReplicaSet/asks", workload)
    return workload


def cron_jobs(world):
    """The example under the name that the API had then, every minute: one that quits, and one that does not."""
    for name, annotations in (("digest", QUITS), ("endless", {})):
        [owner] = example("cronjob")
        owner["apiVersion"], owner["metadata"]["name"] = "batch/v1beta1", name
        owner["spec"]["schedule"] = "* * * * *"
        template = owner["spec"]["jobTemplate"]["spec"]["template"]
        template["metadata"] = {"labels": {"app": name}, "annotations": annotations}
        yield owner


def a_cron_job_is_made(world):
    world.apply(cron_jobs(world))
    return "both are taken; what becomes of them is looked at further down"


def a_cron_job_that_fires_gets_a_sidecar(world):
    [made, *_] = until("its first pod", lambda: world.pods("team-a", "digest"), 100)
    is_equipped(made)
    check(variables(made["spec"]["containers"][0])["PILLION_QUIT"] == "true", made["spec"]["containers"][0]["env"])
    said = until("the other one's event", lambda: failed(world, "team-a", "endless"), 100)[0]
    check("denied the request: Pillion: the pod is meant to end" in said, said)
    for name in ("digest", "endless"):
        world.kubectl("-n", "team-a", "delete", "cronjob", name)
    return "one that quits; one that does not is refused, and its Job's event says why"


def who_does_not_ask_is_left_alone(world):
    world.namespace("unlabelled")
    world.namespace("shut", "disabled")
    reviews = world.kubelet.count("pillion_webhook_reviews_total")
    for namespace, label in (
        ("unlabelled", None),
        ("unlabelled", "false"),
        ("team-a", "false"),
        ("shut", None),
        ("shut", "true"),
        (RELEASE, "true"),
        ("kube-system", "true"),
    ):
        is_plain(world.pod(namespace, f"plain-{label}".lower(), {LABEL: label} if label else {}))
    check(world.kubelet.count("pillion_webhook_reviews_total") == reviews, "the injector was asked")
    is_equipped(world.pod("unlabelled", "by-itself", {LABEL: "true"}))
    return "seven pods, of which the injector was not asked once; an eighth that asks for itself"


def a_namespace_says_the_defaults_of_its_pods(world):
    world.namespace("defaults", "enabled", {"pillion.dev/log-level": "debug", "pillion.dev/memory-limit": "300Mi"})
    made = world.pod("defaults", "own", annotations={"pillion.dev/log-level": "warn"})
    sidecar = made["spec"]["containers"][0]
    check(variables(sidecar)["PILLION_LOG_LEVEL"] == "warn", sidecar["env"])
    check(sidecar["resources"]["limits"]["memory"] == "300Mi", sidecar["resources"])
    return "the pod's own wins"


def what_cannot_be_meant_is_refused_with_its_reason(world):
    said = [
        refusal(world.pod, "team-a", "wrong", annotations={"pillion.dev/native": "allways"}),
        refusal(world.pod, "team-a", "slip", annotations={"pillion.dev/cpu-requests": "1"}),
        refusal(world.pod, "team-a", "image", annotations={"pillion.dev/image": "evil:1"}),
        refusal(world.pod, "team-a", "host", spec={"hostNetwork": True}),
        refusal(world.pod, "unlabelled", "ends", {LABEL: "true"}, spec={"restartPolicy": "Never"}),
    ]
    for text, part in zip(said, ("did you mean `always`?", "pillion.dev/cpu-request", "allowedAnnotations", "hostNetwork", "meant to end")):
        check(text.startswith("admission webhook ") and "denied the request: Pillion: " in text and part in text, text)
    [owner] = example("deployment")
    owner["metadata"]["name"] = "wrong"
    owner["spec"]["selector"]["matchLabels"] = owner["spec"]["template"]["metadata"]["labels"] = {"app": "wrong"}
    owner["spec"]["template"]["metadata"]["annotations"] = {"pillion.dev/llm-port": "80"}
    world.apply([owner])
    event = until("the ReplicaSet's event", lambda: failed(world, "team-a", "wrong"))[0]
    check("denied the request: Pillion: " in event and "no port from 1024" in event, event)
    world.kubectl("-n", "team-a", "delete", "deployment", "wrong")
    return said[0].partition("request: ")[2]


def a_strange_annotation_is_a_warning(world):
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "strange", "namespace": "team-a", "annotations": {"pillion.dev/team-colour": "red"}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }
    said = world.apply([manifest]).stderr.strip()
    check(said.startswith("Warning: Pillion: annotation pillion.dev/team-colour"), said)
    return said.partition(": ")[2]


def a_native_sidecar_is_refused_loudly_by_a_server_that_knows_none(world):
    """Without the probes it would drop restartPolicy and wait for the sidecar's end for ever."""
    said = refusal(world.pod, "team-a", "native", annotations={"pillion.dev/native": "always"})
    check("must not be set for init containers" in said, said)
    return "its probes are what the server refuses"


def a_dry_run_leaves_nothing_behind(world):
    world.namespace("tried")
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tried", "namespace": "tried", "labels": {LABEL: "true"}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }
    shown = json.loads(world.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", text=json.dumps(manifest)).stdout)
    is_equipped(shown)
    check(world.api.get("/api/v1/namespaces/tried/pods/tried") is None, "the pod is there")
    # What a real one would have brought with it; a copy elsewhere shows that the injectors had the time.
    world.pod("unlabelled", "after-the-try", {LABEL: "true"})
    until("the injectors have gone on", lambda: world.file("unlabelled"))
    time.sleep(1)
    check(world.config_map("tried") is None, "the configuration was copied for a pod that was only tried")
    return "kubectl shows the sidecar; there is no pod and no copy"


def another_webhook_behind_ours_has_its_container_equipped_too(world):
    world.namespace("two-webhooks", "enabled")
    with other.Other(world, "zzz-other", "two-webhooks", other.a_container) as behind:
        made = world.pod("two-webhooks", "behind")
        is_equipped(made)
        check(containers(made) == ["pillion", "app", "late"], containers(made))
        check(behind.seen[0] == ["pillion", "app"], behind.seen)
    with other.Other(world, "aaa-other", "two-webhooks", other.a_container) as before:
        made = world.pod("two-webhooks", "before")
        is_equipped(made)
        check(containers(made) == ["pillion", "app", "late"] and before.seen[0] == ["app"], (containers(made), before.seen))
    return f"behind ours it was asked {len(behind.seen)} times, before ours {len(before.seen)}"


def a_second_call_about_the_same_pod_changes_nothing(world):
    def count(outcome):
        return world.kubelet.count("pillion_webhook_reviews_total", outcome=outcome)

    injected, unchanged = count("injected"), count("unchanged")
    with other.Other(world, "zzz-other", "two-webhooks", other.a_label):
        made = world.pod("two-webhooks", "again")
    is_equipped(made)
    check(made["metadata"]["labels"]["late"] == "yes", made["metadata"])
    found = count("injected") - injected, count("unchanged") - unchanged
    check(found == (1, 1), f"injected and unchanged: {found}")
    return "asked twice about one pod: injected once, unchanged once"


def without_reinvocation_what_comes_later_is_left_alone(world):
    """By the values of the upgrade before it."""
    with other.Other(world, "zzz-other", "two-webhooks", other.a_container):
        made = world.pod("two-webhooks", "never")
    check(containers(made) == ["pillion", "app", "late"], containers(made))
    check("OPENAI_BASE_URL" not in variables(made["spec"]["containers"][2]), made["spec"]["containers"][2])
    return "reinvocationPolicy: Never; the container of the webhook behind ours has no variables"
