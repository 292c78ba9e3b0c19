"""The policy for `failurePolicy: Ignore`: which pods it looks at, and which it refuses, by its own CEL."""

import copy
import json

import cel
import pytest
import yaml
from chart import ROOT, objects, one

FIXTURES = ROOT / "tests" / "fixtures" / "inject"
OPTED = {"pillion.dev/inject": "enabled"}
POLICY = one(objects("ignore-enforce"), "ValidatingAdmissionPolicy")["spec"]


def pod(labels=None, annotations=None, **spec):
    metadata = {} if labels is None else {"labels": labels}
    metadata |= {} if annotations is None else {"annotations": annotations}
    return {"metadata": metadata, "spec": {"containers": [{"name": "app"}]} | spec}


def is_refused(pod, namespace, name="pillion"):
    metadata = {"name": "team-a"} if namespace is None else {"name": "team-a", "labels": namespace}
    known = {"object": pod, "namespaceObject": {"metadata": metadata}}
    if not all(cel.evaluate(condition["expression"], known) for condition in POLICY["matchConditions"]):
        return False
    # Where settings give the sidecar another name, the chart writes that into the policy.
    validations = (each["expression"].replace("'pillion'", f"'{name}'") for each in POLICY["validations"])
    return not all(cel.evaluate(validation, known) for validation in validations)


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


def with_sidecar(pod, patch):
    """The pod after the injector's operations, which only add and replace."""
    pod = copy.deepcopy(pod)
    for operation in patch:
        *way, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
        place = pod
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            at = len(place) if last == "-" else int(last)
            place[at : at + (operation["op"] == "replace")] = [operation["value"]]
        else:
            place[last] = operation["value"]
    return pod


def decoded(value):
    """As the API server hands it on: it reads a null as nothing."""
    if isinstance(value, dict):
        return {key: decoded(each) for key, each in value.items() if each is not None}
    return [decoded(each) for each in value] if isinstance(value, list) else value


# The API server itself refuses a pod without containers, before anybody looks at it.
CASES = sorted({path.stem for path in FIXTURES.glob("*.yaml")} - {"no-containers"})


@pytest.mark.parametrize("case", CASES)
def test_it_refuses_what_the_injector_would_have_equipped(case):
    around, pod = yaml.safe_load_all((FIXTURES / f"{case}.yaml").read_text())
    became = json.loads((FIXTURES / f"{case}.json").read_text())
    name = around.get("settings", {}).get("sidecar", {}).get("containerName", "pillion")
    # Without a namespace the fixture's pod was asked about by hand.
    labels = around["namespace"].get("labels") if "namespace" in around else OPTED
    if "patch" in became:
        changed = with_sidecar(pod, became["patch"])
        had_one = any(each["name"] == name for kind in ("containers", "initContainers") for each in pod["spec"].get(kind) or [])
        assert is_refused(decoded(pod), labels, name) is not had_one
        assert not is_refused(decoded(changed), labels, name)
    else:
        assert is_refused(decoded(pod), labels, name) is ("refused" in became)
