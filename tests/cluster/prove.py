"""The chart and the injector in a real cluster without nodes: see `run`."""

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import absence
import certificates
import copies
import pods
import releases
import rights
from kubelet import Kubelet
from server import VERSION, Server
from world import World

CHECKS = [
    releases.the_chart_installs,
    certificates.while_nobody_is_there_pods_that_ask_wait,
    certificates.two_that_begin_at_once_share_one_authority,
    releases.the_gossip_key_is_made_once,
    pods.a_cron_job_is_made,
    pods.every_workload_of_the_examples_gets_a_sidecar,
    pods.a_replica_set_that_asks_gets_sidecars,
    pods.who_does_not_ask_is_left_alone,
    pods.a_namespace_says_the_defaults_of_its_pods,
    pods.what_cannot_be_meant_is_refused_with_its_reason,
    pods.a_strange_annotation_is_a_warning,
    pods.a_native_sidecar_is_refused_loudly_by_a_server_that_knows_none,
    pods.a_dry_run_leaves_nothing_behind,
    pods.another_webhook_behind_ours_has_its_container_equipped_too,
    pods.a_second_call_about_the_same_pod_changes_nothing,
    copies.copies_are_where_sidecars_are,
    copies.a_namespace_keeps_its_own,
    copies.a_change_of_the_source_is_spread,
    copies.a_broken_source_is_not_spread,
    copies.a_copy_that_is_changed_or_deleted_is_put_right,
    copies.without_the_label_a_copy_stays_and_is_kept_right,
    pods.a_cron_job_that_fires_gets_a_sidecar,
    absence.with_fail_pods_wait_and_come_when_it_is_back,
    absence.with_ignore_pods_go_past_it,
    certificates.a_bundle_that_is_overwritten_is_put_right,
    certificates.certificates_are_renewed_before_they_end,
    releases.an_upgrade_never_leaves_pods_without_an_injector,
    pods.without_reinvocation_what_comes_later_is_left_alone,
    releases.a_rollback_brings_back_the_old_values,
    releases.a_webhook_that_is_deleted_in_an_emergency_comes_back,
    rights.it_may_do_what_it_needs,
    rights.it_may_do_nothing_else,
    rights.it_uses_every_right_and_no_other,
    releases.an_uninstall_leaves_what_the_guide_says,
    releases.the_plain_installation_is_taken,
    releases.with_helm_3_the_same_chart_installs,
    releases.a_forced_upgrade_of_helm_3_takes_the_bundle_which_comes_back,
    releases.helm_4_takes_over_a_release_of_helm_3,
    releases.helm_3_uninstalls,
    releases.a_certificate_of_somebody_elses_is_shown,
]
# What this cluster cannot show, and why.
MISSING = {
    "native sidecars at work": f"Kubernetes {VERSION} knows none; tests/clients validates them for 1.29 to 1.37",
    "Jobs beside native sidecars": "the same; here they quit, or are refused with the reason",
    "batch/v1 CronJobs": "they are batch/v1beta1 here",
    "PodDisruptionBudgets": "policy/v1 came with 1.21; rendered and validated by tests/chart",
    "autoscaling/v2": "came with 1.23; rendered and validated by tests/chart",
    "matchConditions and enforce.enabled": "CEL came with 1.28 and 1.30; tests/chart evaluates the policy",
    "the namespace's name as its label": "given by the API server since 1.21, by this run here",
    "Pod Security's refusals": "came with 1.22; tests/it and tests/chart check the profile",
    "cert-manager at work": "it is not to be had here; its objects are rendered by tests/chart",
    "the Service before the injector": "nothing routes to Services here; the webhook is called by URL",
    "seeds and sidecars at work": "there is no node; tests/fleet and tests/image run them",
    "helm test": "the same",
}


def play(world, checks):
    """Runs one check after another, and says of each what it found."""
    failed = 0
    for scene in checks:
        start, name = time.monotonic(), scene.__name__.replace("_", " ")
        try:
            said = scene(world)
            if world.kubelet.faults:
                raise AssertionError(f"the kubelet's own fault: {world.kubelet.faults.pop(0)}")
            print(f"   {name}: {said} ({time.monotonic() - start:.0f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"   FAILED: {name}: {type(error).__name__}: {error}", flush=True)
            tell(world)
    return failed


def tell(world):
    """The last words of who may know why."""
    for running in list(world.kubelet.running.values()):
        print(f"     {running.name}:", *running.log.read_text().splitlines()[-8:], sep="\n       ", flush=True)


def main(words):
    """All checks, or the installation and those named; many stand on those before them."""
    known = {scene.__name__: scene for scene in CHECKS}
    first = CHECKS[:3]
    checks = [*first, *(known[word] for word in words if known[word] not in first)] if words else CHECKS
    # Whatever ends this run ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    start, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="pillion-cluster-"))
    try:
        with Server(folder) as server, Kubelet(server, folder / "kubelet") as kubelet:
            print(f"Kubernetes {VERSION} is ready after {time.monotonic() - start:.0f} s", flush=True)
            failed = play(World(server, kubelet, folder), checks)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for what, why in MISSING.items():
        print(f"   not covered: {what}: {why}")
    print(
        f"{len(checks) - failed} of {len(checks)} checks passed, {failed} failed, {len(MISSING)} not covered;"
        f" {time.monotonic() - start:.0f} s"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
