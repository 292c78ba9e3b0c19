"""The policy for `failurePolicy: Ignore`: which pods it looks at, and which it refuses, by its own CEL."""

import cel
import pytest
from chart import objects, one

OPTED = {"pillion.dev/inject": "enabled"}
POLICY = one(objects("ignore-enforce"), "ValidatingAdmissionPolicy")["spec"]


def pod(labels=None, annotations=None, **spec):
    metadata = {} if labels is None else {"labels": labels}
    metadata |= {} if annotations is None else {"annotations": annotations}
    return {"metadata": metadata, "spec": {"containers": [{"name": "app"}]} | spec}


def is_refused(pod, namespace):
    metadata = {"name": "team-a"} if namespace is None else {"name": "team-a", "labels": namespace}
    known = {"object": pod, "namespaceObject": {"metadata": metadata}}
    if not all(cel.evaluate(condition["expression"], known) for condition in POLICY["matchConditions"]):
        return False
    return not all(cel.evaluate(validation["expression"], known) for validation in POLICY["validations"])


@pytest.mark.parametrize(
    ("labels", "namespace", "want"),
    [
        (None, OPTED, True),
        ({}, OPTED, True),
        ({"pillion.dev/inject": "true"}, OPTED, True),
        ({"pillion.dev/inject": "false"}, OPTED, False),
        ({"pillion.dev/inject": "true"}, None, True),
        ({"pillion.dev/inject": "true"}, {}, True),
        (None, None, False),
        ({"app": "x"}, {"team": "x"}, False),
        ({"pillion.dev/inject": "false"}, None, False),
        ({"pillion.dev/inject": "true"}, {"pillion.dev/inject": "disabled"}, False),
        (None, {"pillion.dev/inject": "disabled"}, False),
        # Neither enabled nor disabled is as good as none, for the webhook too.
        (None, {"pillion.dev/inject": "yes"}, False),
        ({"pillion.dev/inject": "true"}, {"pillion.dev/inject": "yes"}, True),
    ],
)
def test_a_pod_without_a_sidecar_is_refused_where_it_is_opted_in(labels, namespace, want):
    assert is_refused(pod(labels), namespace) is want


@pytest.mark.parametrize(
    "sidecar",
    [
        {"initContainers": [{"name": "migrate"}, {"name": "pillion", "restartPolicy": "Always"}]},
        {"containers": [{"name": "pillion"}, {"name": "app"}]},
    ],
)
def test_a_pod_with_a_sidecar_passes(sidecar):
    assert not is_refused(pod(**sidecar), OPTED)


@pytest.mark.parametrize(
    "other",
    [
        {"annotations": {"kubernetes.io/config.mirror": "x"}},
        {"os": {"name": "windows"}},
        {"nodeSelector": {"kubernetes.io/os": "windows"}},
    ],
)
def test_a_pod_that_cannot_have_one_passes(other):
    assert not is_refused(pod(**other), OPTED)
    assert is_refused(pod(annotations={"a": "b"}, os={"name": "linux"}, nodeSelector={"a": "b"}, initContainers=[{"name": "migrate"}]), OPTED)


def test_it_looks_at_the_same_pods_as_the_webhook():
    (rule,) = POLICY["matchConstraints"]["resourceRules"]
    webhook = one(objects("ignore-enforce"), "MutatingWebhookConfiguration")["webhooks"][0]
    assert [rule] == webhook["rules"]
    binding = one(objects("ignore-enforce"), "ValidatingAdmissionPolicyBinding")["spec"]
    excluded = binding["matchResources"]["namespaceSelector"]["matchExpressions"][0]
    assert excluded in webhook["namespaceSelector"]["matchExpressions"]
    assert binding["validationActions"] == ["Warn", "Audit"]
