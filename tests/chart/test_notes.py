"""What Helm says after an installation: the next steps, and what should worry."""

import pytest
from chart import CHART, HELMS, helm
from cluster import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster() as cluster:
        yield str(cluster.kubeconfig(tmp_path_factory.mktemp("cluster")))


def notes(cluster, major, *values):
    sets = [part for value in values for part in ("--set", value)]
    command = ["install", "gw", CHART, "--namespace", "pillion-system", "--dry-run=client", "--disable-openapi-validation", *sets]
    done = helm(major, *command, KUBECONFIG=cluster)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("NOTES:\n")[1]


@pytest.mark.parametrize("major", HELMS)
def test_notes_say_the_next_steps_in_the_names_of_the_release(cluster, major):
    said = notes(cluster, major, "sidecar.ports.llm=4000", "sidecar.keys.secretName=mine")
    for words in ("deployment/gw-pillion-injector", "secret generic mine", "127.0.0.1:4000/v1", "gw-pillion-gossip-key"):
        assert words in said
    assert "WARNING" not in said
    assert "\n\n\n" not in said


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["injector.webhook.failurePolicy=Ignore"], "WARNING: with failurePolicy Ignore"),
        (["injector.replicas=1"], "WARNING: with 1 replica"),
        (["config.distribution=none"], "NOTE: config.distribution is none"),
        ([], "NOTE: image.registry is not set"),
    ],
)
def test_what_should_worry_is_said(cluster, values, says):
    assert says in notes(cluster, 4, *values)


@pytest.mark.parametrize(
    ("values", "hides"),
    [
        (["injector.replicas=1", "injector.autoscaling.enabled=true"], "WARNING"),
        (["injector.webhook.failurePolicy=Ignore", "enforce.enabled=true"], "WARNING"),
        (["image.registry=registry.example.com"], "image.registry"),
        (["gossip.enabled=false"], "gossip"),
    ],
)
def test_what_need_not_worry_is_not_said(cluster, values, hides):
    assert hides not in notes(cluster, 4, *values)
