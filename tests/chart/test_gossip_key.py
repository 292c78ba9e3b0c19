"""The key of the fleet is made once, kept for ever, and never a part of what is rendered without a cluster."""

import base64

import pytest
import yaml
from chart import CHART, HELMS, helm
from cluster import Cluster

NAME = "gw-pillion-gossip-key"
OWN = "pillion-system"


def rendered(major, cluster, folder, *arguments):
    """The Secrets with the key that an installation into a cluster would make: {namespace: key}."""
    command = ["template", "gw", CHART, "--namespace", OWN, "--dry-run=server", "--disable-openapi-validation", *arguments]
    done = helm(major, *command, KUBECONFIG=str(cluster.kubeconfig(folder)))
    assert done.returncode == 0, done.stderr
    return keys(done.stdout)


def keys(text):
    secrets = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "Secret"]
    for secret in secrets:
        annotations = secret["metadata"]["annotations"]
        # Not before an upgrade alone: gossip may be turned on later. Never deleted with the release.
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation"
        assert secret["metadata"]["name"] == NAME
    return {secret["metadata"]["namespace"]: base64.b64decode(secret["data"]["key"]) for secret in secrets}


@pytest.mark.parametrize("major", HELMS)
def test_a_key_is_made_by_chance_where_there_is_none(major, tmp_path):
    with Cluster() as cluster:
        first, second = (rendered(major, cluster, tmp_path)[OWN] for _ in range(2))
    # 32 bytes in Base64, as text in the file that sidecars read.
    assert len(base64.b64decode(first, validate=True)) == 32
    assert first != second


@pytest.mark.parametrize("major", HELMS)
def test_a_key_that_is_there_is_left_alone(major, tmp_path):
    with Cluster({(OWN, NAME): {"key": "secret"}}) as cluster:
        assert rendered(major, cluster, tmp_path) == {}


@pytest.mark.parametrize("major", HELMS)
def test_namespaces_get_the_key_of_the_release(major, tmp_path):
    secrets = {(OWN, NAME): {"key": "new"}, ("team-a", NAME): {"key": "old"}, ("team-b", NAME): {"key": "new"}}
    with Cluster(secrets) as cluster:
        sets = ["--set", "gossip.keyNamespaces={team-a,team-b,team-c}"]
        assert rendered(major, cluster, tmp_path, *sets) == {"team-a": b"new", "team-c": b"new"}


@pytest.mark.parametrize("major", HELMS)
def test_all_get_the_same_key_when_it_is_made(major, tmp_path):
    with Cluster() as cluster:
        made = rendered(major, cluster, tmp_path, "--set", "gossip.keyNamespaces={team-a}")
    assert made.keys() == {OWN, "team-a"} and len(set(made.values())) == 1


@pytest.mark.parametrize("sets", ["gossip.createKey=false", "gossip.enabled=false"])
def test_no_key_is_made_where_none_is_wanted(sets, tmp_path):
    with Cluster() as cluster:
        assert rendered(4, cluster, tmp_path, "--set", sets) == {}


@pytest.mark.parametrize("major", HELMS)
def test_without_a_cluster_there_is_no_key(major):
    """As in Argo CD, which renders again and again: each time would be another key."""
    done = helm(major, "template", "gw", CHART, "--namespace", OWN)
    assert done.returncode == 0 and keys(done.stdout) == {}
