"""What must hold of everything that is rendered or lies in deploy, whatever the values."""

import pytest
from chart import CASES, objects, one, pods



@pytest.mark.parametrize("case", CASES)
def test_pods_fit_the_profile_restricted(case):
    for name, spec in pods(objects(case)):
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.get("hostPID") and not spec.get("hostIPC"), name
        assert all("hostPath" not in volume for volume in spec.get("volumes", [])), name
        for container in spec["containers"] + spec.get("initContainers", []):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


@pytest.mark.parametrize("case", CASES)
def test_only_the_injector_has_a_token(case):
    for name, spec in pods(objects(case)):
        assert spec["automountServiceAccountToken"] is name.endswith("-injector"), name


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_written_by_name(case):
    """`create` and `patch` on Secrets or ConfigMaps without a name would be all of the cluster's."""
    roles = [each for each in objects(case) if each["kind"] in ("ClusterRole", "Role")]
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            is_read = set(rule["verbs"]) <= {"get", "list", "watch"}
            assert rule.get("resourceNames") or (is_read and rule["resources"] == ["namespaces"]), rule
    secrets = [rule for role in roles for rule in role["rules"] if "secrets" in rule["resources"]]
    assert len(secrets) == (0 if case in ("cert-manager", "existing-cert") else 1)


@pytest.mark.parametrize("case", CASES)
def test_names_agree_across_objects(case):
    """The Service finds the pods, the webhook the Service, and the settings what they are told of."""
    rendered = objects(case)
    injector = next(each for each in rendered if each["kind"] == "Deployment" and each["metadata"]["name"].endswith("-injector"))
    webhook = one(rendered, "MutatingWebhookConfiguration")
    client = webhook["webhooks"][0]["clientConfig"]
    labels = injector["spec"]["template"]["metadata"]["labels"]
    assert injector["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & injector["spec"]["selector"]["matchLabels"].keys()
    if "service" in client:
        service = one(rendered, "Service", client["service"]["name"])
        assert service["spec"]["selector"].items() <= labels.items()
        target = next(port["targetPort"] for port in service["spec"]["ports"] if port["port"] == client["service"]["port"])
        ports = injector["spec"]["template"]["spec"]["containers"][0]["ports"]
        assert target in [port["containerPort"] for port in ports]
    assert len({str(entry["clientConfig"]) for entry in webhook["webhooks"]}) == 1


@pytest.mark.parametrize("case", CASES)
def test_ports_say_their_protocol_and_no_key_is_there_twice(case):
    """Server-side apply takes neither for granted."""
    for each in objects(case):
        if each["kind"] == "Service":
            assert all(port["protocol"] for port in each["spec"]["ports"])
    for name, spec in pods(objects(case)):
        for container in spec["containers"]:
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(names) == len(set(names)), name
            ports = [(port["containerPort"], port["protocol"]) for port in container.get("ports", [])]
            assert len(ports) == len(set(ports)), name


@pytest.mark.parametrize(
    ("namespace", "pod", "is_asked"),
    [
        ({"pillion.dev/inject": "enabled"}, {}, True),
        ({"pillion.dev/inject": "enabled"}, {"pillion.dev/inject": "true"}, True),
        ({"pillion.dev/inject": "enabled"}, {"pillion.dev/inject": "false"}, False),
        ({}, {"pillion.dev/inject": "true"}, True),
        ({}, {}, False),
        ({}, {"pillion.dev/inject": "false"}, False),
        ({"pillion.dev/inject": "disabled"}, {}, False),
        ({"pillion.dev/inject": "disabled"}, {"pillion.dev/inject": "true"}, False),
        ({"pillion.dev/inject": "enabled", "kubernetes.io/metadata.name": "kube-system"}, {}, False),
        ({"kubernetes.io/metadata.name": "pillion-system"}, {"pillion.dev/inject": "true"}, False),
    ],
)
def test_the_webhook_is_asked_about_pods_that_are_opted_in(namespace, pod, is_asked):
    """Once at most: two entries that both match would be two calls for one pod."""
    namespace = {"kubernetes.io/metadata.name": "team-a"} | namespace
    entries = one(objects("default"), "MutatingWebhookConfiguration")["webhooks"]
    calls = [each for each in entries if selects(each["namespaceSelector"], namespace) and selects(each["objectSelector"], pod)]
    assert len(calls) == int(is_asked)


def selects(selector, labels):
    for each in selector["matchExpressions"]:
        is_in = labels.get(each["key"]) in each["values"]
        if is_in != (each["operator"] == "In"):
            return False
    return True


def test_certificates_are_never_rendered_in_mode_auto():
    rendered = objects("default")
    assert "caBundle" not in str(one(rendered, "MutatingWebhookConfiguration"))
    assert not [each for each in rendered if each["kind"] == "Secret"]
