"""Checks of the chart as a release: install, upgrade, rollback, uninstall, with Helm 4 and Helm 3."""

import base64
import threading
import time

import certificates
import yaml
from chart import HELMS
from server import Refused, check, until
from world import LABEL, RELEASE, ROOT, containers, example, is_equipped, is_plain, variables

# Everything that a release has, cluster-wide or in namespaces.
EVERYWHERE = {
    "/api/v1": ["configmaps", "pods", "secrets", "serviceaccounts", "services"],
    "/apis/apps/v1": ["deployments", "replicasets"],
    "/apis/networking.k8s.io/v1": ["networkpolicies"],
    "/apis/rbac.authorization.k8s.io/v1": ["clusterroles", "clusterrolebindings", "roles", "rolebindings"],
    "/apis/admissionregistration.k8s.io/v1": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
}


def left(world):
    """What is named for Pillion, as kind, namespace and name; pods with sidecars are the applications'."""
    for group, kinds in EVERYWHERE.items():
        for kind in kinds:
            for each in world.api.list(f"{group}/{kind}"):
                metadata = each["metadata"]
                is_sidecars = metadata.get("labels", {}).get("pillion.dev/injected") == "true"
                if "pillion" in metadata["name"] and not is_sidecars:
                    yield kind, metadata.get("namespace", ""), metadata["name"]


def the_chart_installs(world):
    world.namespace(RELEASE)
    world.namespace("team-a", "enabled")
    world.namespace("team-b")
    world.namespace("default-keys")
    world.kubelet.is_held = True
    world.helm("install", "pillion", world.chart, "-n", RELEASE, *world.values, "--set", "gossip.keyNamespaces={default-keys}")
    check('"deployed"' in world.helm("status", "pillion", "-n", RELEASE, "-o", "json").replace(" ", ""), "it is not deployed")
    made = {kind for kind, _, _ in left(world)}
    check(made >= {"configmaps", "deployments", "secrets", "services", "roles", "networkpolicies"}, made)
    until("the Deployment's pods", lambda: len(pods(world)) == 2)
    return f"Helm 4, {len(list(left(world)))} objects"


def pods(world):
    return world.api.list(f"/api/v1/namespaces/{RELEASE}/pods?labelSelector=app.kubernetes.io%2Fcomponent%3Dinjector")


def gossip_key(world, namespace=RELEASE):
    return certificates.data(world.secret("pillion-gossip-key", namespace), "key")


def the_gossip_key_is_made_once(world):
    key = gossip_key(world)
    check(len(key) == 44, f"{len(key)} characters are no 32 bytes in Base64")
    check(gossip_key(world, "default-keys") == key, "the copy is another key")
    world.upgrade("--set", "gossip.keyNamespaces={default-keys,team-a}")
    check({gossip_key(world), gossip_key(world, "default-keys"), gossip_key(world, "team-a")} == {key}, "an upgrade made another key")
    return "32 bytes, the same after an upgrade and in two more namespaces"


class Load:
    """Pods that are made all the time, in a namespace that is opted in."""

    def __init__(self, world, namespace):
        self.world, self.namespace = world, namespace
        self.made, self.refused, self.over = [], [], threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        return self

    def work(self):
        while not self.over.wait(0.1):
            try:
                self.made.append(self.world.pod(self.namespace, f"load-{len(self.made) + len(self.refused)}"))
            except Refused as refused:
                self.refused.append(refused.message)

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def an_upgrade_never_leaves_pods_without_an_injector(world):
    world.namespace("load", "enabled")
    trusted, before = certificates.is_right(world), {pod["metadata"]["name"] for pod in pods(world)}
    with Load(world, "load") as load:
        world.helm(
            "upgrade", "pillion", world.chart, "-n", RELEASE, "--reset-then-reuse-values",
            "--set", "sidecar.logLevel=debug", "--set", "injector.webhook.reinvocationPolicy=Never",
        )
        start = time.monotonic()
        world.kubectl("-n", RELEASE, "rollout", "status", "deployment/pillion-injector", "--timeout=120s")
        took = time.monotonic() - start
        until("the old ones have ended", lambda: not before & {pod["metadata"]["name"] for pod in pods(world)}, 60)
    check(len(load.made) > 9, f"only {len(load.made)} pods were made")
    check(not load.refused, f"{len(load.refused)} of {len(load.made)} were refused: {load.refused[:1]}")
    for made in load.made:
        is_equipped(made)
    level = variables(world.pod("load", "last")["spec"]["containers"][0])["PILLION_LOG_LEVEL"]
    check(level == "debug", level)
    check({each["reinvocationPolicy"] for each in world.webhooks()} == {"Never"}, "the webhook is not upgraded")
    check(certificates.is_right(world) == trusted, "the caBundle is another one")
    return f"rolled in {took:.0f} s; {len(load.made)} pods were made in the meantime, each with its sidecar"


def a_rollback_brings_back_the_old_values(world):
    key, trusted = gossip_key(world), certificates.is_right(world)
    first = variables(world.pod("load", "before-rollback")["spec"]["containers"][0])["PILLION_LOG_LEVEL"]
    world.helm("rollback", "pillion", "-n", RELEASE)
    world.kubectl("-n", RELEASE, "rollout", "status", "deployment/pillion-injector", "--timeout=120s")
    made = until("pods by the old values", lambda: old_values(world), 60)
    is_equipped(made)
    check({each["reinvocationPolicy"] for each in world.webhooks()} == {"IfNeeded"}, "the webhook is not rolled back")
    check(gossip_key(world) == key and certificates.is_right(world) == trusted, "the key or the caBundle is another one")
    return f"log level {first}, then info; the same gossip key, certificate and caBundle"


def old_values(world):
    made = world.pod("load", f"rolled-{time.monotonic_ns()}")
    return made if variables(made["spec"]["containers"][0])["PILLION_LOG_LEVEL"] == "info" else None


def a_webhook_that_is_deleted_in_an_emergency_comes_back(world):
    """deploy/README.md, When the injector is away."""
    trusted = certificates.is_right(world)
    world.kubectl("delete", "mutatingwebhookconfiguration", "pillion-injector")
    until("the injectors say that nobody asks them", lambda: not world.kubelet.ready(RELEASE))
    is_plain(world.pod("load", "in-an-emergency"))
    world.upgrade()
    start = time.monotonic()
    world.all_ready()
    took = time.monotonic() - start
    check(certificates.is_right(world) == trusted, "the authority is another one")
    is_equipped(world.pod("load", "after-the-emergency"))
    return f"pods go past it; {took:.1f} s after helm upgrade it is trusted and asked again"


def an_uninstall_leaves_what_the_guide_says(world):
    """deploy/README.md, Uninstall: word for word."""
    copies = {namespace for kind, namespace, name in left(world) if (kind, name) == ("configmaps", "pillion-config")} - {RELEASE}
    world.kubectl("label", "namespace", "-l", LABEL, f"{LABEL}-")
    world.helm("uninstall", "pillion", "-n", RELEASE)
    until("the injectors have ended", lambda: not world.kubelet.running and not pods(world), 60)
    is_plain(world.pod("team-a", "after-the-end"))
    secrets = {("secrets", place, "pillion-gossip-key") for place in (RELEASE, "default-keys", "team-a")}
    kept = {("configmaps", place, "pillion-config") for place in copies} | secrets
    kept |= {("secrets", RELEASE, "pillion-injector-tls"), ("secrets", "team-a", "pillion-provider-keys")}
    found = settled(world, kept)
    running = [pod for pod in world.pods("team-a", "chat") if "pillion" in containers(pod)]
    check(len(running) == 3, "running pods have lost their sidecars")
    world.kubectl("delete", "configmap", "--all-namespaces", "-l", "app.kubernetes.io/managed-by=pillion-injector")
    world.kubectl("delete", "secret", "-n", RELEASE, "pillion-gossip-key", "pillion-injector-tls")
    rest = set(left(world))
    own = {("configmaps", "own-config", "pillion-config"), ("secrets", "team-a", "pillion-provider-keys")}
    check(rest == own | {("secrets", place, "pillion-gossip-key") for place in ("default-keys", "team-a")}, rest)
    return f"{len(found)} objects stay for running pods; after the guide's last step the namespaces' own"


def settled(world, kept, besides=()):
    """What is left once the controllers have taken away what went with the release."""

    def found():
        return {each for each in left(world) if each[1] not in besides}

    try:
        until("the controllers are done", lambda: found() == kept, 60)
    except AssertionError:
        now = found()
        check(now == kept, f"left over: {now - kept}; taken away: {kept - now}")
    return kept


NAME, PLACE = "gw-pillion", "llm"


def with_helm_3_the_same_chart_installs(world):
    """Under another name, in a namespace that Helm makes, with an address in place of a name."""
    address = f"https://127.0.0.1:{world.kubelet.port}/mutate"
    world.helm(
        "install", "gw", world.chart, "-n", PLACE, "--create-namespace", *world.values,
        "--set", f"injector.webhook.url={address}", major=3,
    )
    world.all_ready(PLACE)
    certificates.is_right(world, f"{NAME}-injector", f"{NAME}-injector-tls", PLACE)
    world.namespace("team-c", "enabled")
    is_equipped(world.pod("team-c", "one"))
    until("the copy", lambda: world.file("team-c") == world.file(PLACE))
    return f"called as {address.rsplit(':', 1)[0]}"


def bundle(world):
    return certificates.bundles(world, f"{NAME}-injector")


def a_forced_upgrade_of_helm_3_takes_the_bundle_which_comes_back(world):
    """It replaces objects whole. This API server lets no Service be replaced so, of whatever chart."""
    right, patches = bundle(world), world.kubelet.count("pillion_webhook_ca_bundle_patches_total")
    start = time.monotonic()
    done = world.run([HELMS[3], "upgrade", "gw", world.chart, "-n", PLACE, "--reuse-values", "--force"])
    check(done.returncode == 0 or "primary clusterIP can not be unset" in done.stderr, done.stderr)
    helm = time.monotonic() - start
    until("somebody has written it again", lambda: world.kubelet.count("pillion_webhook_ca_bundle_patches_total") > patches)
    until("the caBundle is right", lambda: bundle(world) == right)
    took = time.monotonic() - start
    is_equipped(world.pod("team-c", "after-force"))
    service = "" if done.returncode == 0 else "; Helm says that the Services cannot be replaced, and has replaced the rest"
    return f"written again {took:.1f} s after the upgrade began, of which Helm took {helm:.1f} s{service}"


def helm_4_takes_over_a_release_of_helm_3(world):
    right = bundle(world)
    world.helm("upgrade", "gw", world.chart, "-n", PLACE, "--reuse-values", "--set", "sidecar.drainSeconds=15")
    check(bundle(world) == right, "the caBundle is another one")
    world.all_ready(PLACE)
    is_equipped(world.pod("team-c", "after-helm-4"))
    return "the caBundle is left alone"


def helm_3_uninstalls(world):
    world.kubectl("label", "namespace", "team-c", f"{LABEL}-")
    world.helm("uninstall", "gw", "-n", PLACE, major=3)
    until("the injectors have ended", lambda: not world.kubelet.ready(PLACE), 60)
    is_plain(world.pod("team-c", "after-the-end"))
    kept = {("configmaps", "team-c", "pillion-config"), ("secrets", PLACE, f"{NAME}-gossip-key"), ("secrets", PLACE, f"{NAME}-injector-tls")}
    settled(world, kept, besides=("own-config", "team-a", "default-keys"))
    return "the copy, the gossip key and the certificate stay"


def a_certificate_of_somebody_elses_is_shown(world):
    """Mode `existing`: no Secret is made, no caBundle written, and the rights for both are not there."""
    place, address = "own-certificate", f"https://localhost:{world.kubelet.port}/mutate"
    world.namespace(place)
    folder = world.server.identities.folder
    secret = ["secret", "tls", "mine", f"--cert={folder / 'api.crt'}", f"--key={folder / 'api.key'}"]
    world.kubectl("-n", place, "create", *secret)
    authority = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
    values = {"certs.mode": "existing", "certs.secretName": "mine", "certs.caBundle": authority, "webhook.url": address, "pdb.enabled": "false"}
    flags = [flag for name, value in values.items() for flag in ("--set", f"injector.{name}={value}")]
    world.helm("install", "mine", world.chart, "-n", place, *flags, "--set", "gossip.enabled=false")
    world.all_ready(place)
    check(certificates.bundles(world, "mine-pillion-injector") == {authority}, "the caBundle is another one")
    world.namespace("team-d", "enabled")
    made = world.pod("team-d", "one")
    check(containers(made) == ["pillion", "app"], containers(made))
    ports = [each["name"] for each in made["spec"]["containers"][0]["ports"]]
    check(ports == ["pillion-admin"], ports)
    roles = [each for each in left(world) if each[1] == place and each[0] in ("roles", "rolebindings")]
    check(not roles, roles)
    world.helm("uninstall", "mine", "-n", place)
    until("the injectors have ended", lambda: not world.kubelet.ready(place), 60)
    return "the Secret's certificate, the chart's caBundle, no Role; without gossip no port for it"


def the_plain_installation_is_taken(world):
    """deploy/install.yaml, but for PodDisruptionBudgets of a later API; as a dry run, for there are no Services."""
    documents = [each for each in yaml.safe_load_all((ROOT / "deploy" / "install.yaml").read_text()) if each]
    for name in ("networkpolicy-egress", "networkpolicy-ingress"):
        documents += example(name)
    wanted = [each for each in documents if each["kind"] != "PodDisruptionBudget"]
    text = "---\n".join(yaml.safe_dump(each) for each in wanted)
    done = world.kubectl("apply", "--dry-run=server", "-f", "-", text=text)
    taken = done.stdout.count("(server dry run)")
    check(taken == len(wanted), done.stdout)
    return f"{taken} of {len(documents)} objects"
