"""What values may be: wrong ones are refused with the reason, and each one is described."""

import json
import re
from itertools import product

import pytest
import yaml
from chart import CHART, HELMS, UPDATE, helm, objects, one

REFUSED = [
    ("sidecar.nativ=auto", "nativ"),
    ("replicas=2", "replicas"),
    ("injector.replicas=two", "replicas"),
    ("injector.port=443", "port"),
    ("injector.webhook.failurePolicy=fail", "failurePolicy"),
    ("injector.webhook.timeoutSeconds=31", "30"),
    ("injector.webhook.url=http://example.com", "url"),
    ("injector.certs.mode=certmanager", "mode"),
    ("injector.allowedAnnotations={cpu-limit}", "allowedAnnotations"),
    ("image.digest=sha256:12", "digest"),
    ("image.repository=", "repository"),
    ("sidecar.appEnv={gemini}", "appEnv"),
    ("sidecar.resources.request.cpu=1", "request"),
    ("sidecar.extraEnv[0].value=x", "name"),
    ("gossip.seeds={no-port}", "seeds"),
    ("config.profiles.a/b=x", "profiles"),
    ("enforce.actions={}", "actions"),
    ("metrics.podMonitor.interval=30", "interval"),
    # What a schema cannot say.
    ("injector.certs.mode=existing", "name its Secret in injector.certs.secretName"),
    ("injector.certs.mode=existing,injector.certs.secretName=x", "injector.certs.caBundle"),
    ("injector.certs.caBundle=AAAA", "belongs to mode `existing`; the mode is `auto`"),
    ("sidecar.auth.mode=secret", "name the Secret in sidecar.auth.secretName"),
    ("sidecar.ports.admin=24080", "three different ports"),
    ("injector.adminPort=24443", "must be different"),
    ("config.profiles.config=x", "that file is config.data"),
    ("gossip.seed.replicas=0", "gossip.seeds"),
]
TAKEN = [
    "global.imageRegistry=a,global.somebodyElses=b",
    "enabled=true",
    "sidecar.runAsUser=null",
    "config.data=null",
    "injector.pdb.minAvailable=50%",
    "sidecar.resources.requests.cpu=1",
]


def rendered(major, values):
    arguments = ["template", "gw", CHART, "--kube-version", "1.33.0"]
    return helm(major, *arguments, *([] if values is None else ["--set", values]))


@pytest.mark.parametrize(("major", "case"), list(product(HELMS, REFUSED)), ids=str)
def test_a_wrong_value_is_refused_with_the_reason(major, case):
    values, says = case
    done = rendered(major, values)
    assert done.returncode != 0, "it was taken"
    assert says in done.stderr, done.stderr


@pytest.mark.parametrize(("major", "values"), list(product(HELMS, TAKEN)))
def test_a_right_value_is_taken(major, values):
    done = rendered(major, values)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower(), done.stderr


@pytest.mark.parametrize("major", HELMS)
def test_the_configuration_is_a_text_or_a_map(major, tmp_path):
    written = tmp_path / "config.yaml"
    written.write_text("# mine\nmodel_list: []\n")
    for arguments, want in [
        (["--set-file", f"config.data={written}"], "# mine\nmodel_list: []\n"),
        (["--set", "config.data.model_list[0].model_name=x"], "model_list:\n- model_name: x\n"),
        ([], (CHART / "files" / "config.yaml").read_text()),
    ]:
        done = helm(major, "template", "gw", CHART, "--show-only", "templates/config.yaml", *arguments)
        assert done.returncode == 0 and "warning" not in done.stderr.lower(), done.stderr
        data = yaml.safe_load(done.stdout)["data"]["config.yaml"]
        assert data.strip() == want.strip()


def test_a_configuration_beyond_a_configmap_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("x: y\n" * 250_000)
    done = helm(4, "template", "gw", CHART, "--set-file", f"config.data={tmp_path / 'config.yaml'}")
    assert done.returncode != 0 and "1 MiB" in done.stderr


def test_profiles_are_files_beside_the_configuration():
    data = one(objects("full"), "ConfigMap", "llm-config")["data"]
    assert data.keys() == {"cheap.yaml", "config.yaml"}
    assert data["config.yaml"].startswith("# A text stays as it is")
    assert yaml.safe_load(data["cheap.yaml"])["model_list"][0]["model_name"] == "gpt-4o"


def test_an_address_of_its_own_is_a_name_of_the_certificate():
    done = rendered(4, "injector.webhook.url=https://hook.example.com:8443/mutate")
    settings = next(each for each in yaml.safe_load_all(done.stdout) if "injector.yaml" in each.get("data", {}))
    assert yaml.safe_load(settings["data"]["injector.yaml"])["certs"]["names"] == ["hook.example.com"]


def test_no_user_is_told_to_the_injector_and_not_left_out():
    """Helm drops what is null; left out, the injector would take its own default."""
    settings = next(each for each in objects("minimal") if each["kind"] == "ConfigMap" and "injector.yaml" in each["data"])
    assert yaml.safe_load(settings["data"]["injector.yaml"])["sidecar"]["runAsUser"] is None


def test_the_schema_knows_exactly_the_values():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    # Helm adds `global` to every chart, and a chart above may say `enabled`.
    assert set(known(schema)) - {"enabled"} == set(paths(values, set(known(schema))))


def known(schema, at=""):
    for name, inner in schema.get("properties", {}).items():
        path = f"{at}{name}"
        more = list(known(inner, f"{path}."))
        yield from more or [path]


def paths(values, known, at=""):
    for name, value in values.items():
        path = f"{at}{name}"
        is_leaf = path in known or not isinstance(value, dict)
        yield from [path] if is_leaf else paths(value, known, f"{path}.")


README = CHART / "README.md"
ROW = re.compile(r"^(?P<indent> *)(?P<name>\w+):(?: (?P<value>.*))?$")


def described():
    """Every value that has a description, as values.yaml says it: (path, default, description)."""
    path, said = [], []
    for line in (CHART / "values.yaml").read_text().splitlines():
        text = line.strip()
        if text.startswith("# "):
            said = [text[5:]] if text.startswith("# -- ") else [*said, text[2:]] if said else []
        elif row := ROW.match(line):
            path = [*path[: len(row["indent"]) // 2], row["name"]]
            if said:
                yield ".".join(path), row["value"] or "see values.yaml", " ".join(said)
            said = []


def test_every_value_is_described():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    told = {path for path, _, _ in described()}
    schema = json.loads((CHART / "values.schema.json").read_text())
    leaves = set(paths(values, set(known(schema))))
    # `resources` is one value to whoever reads, and several to the schema.
    assert [leaf for leaf in leaves if not any(leaf == path or leaf.startswith(f"{path}.") for path in told)] == []


def test_the_readme_lists_every_value():
    before, rest = README.read_text().split("<!-- values -->\n")
    _, after = rest.split("<!-- /values -->")
    rows = "".join(f"| `{path}` | `{value}` | {said.replace('|', chr(92) + '|')} |\n" for path, value, said in described())
    fresh = f"{before}<!-- values -->\n| value | default | what it says |\n|---|---|---|\n{rows}<!-- /values -->{after}"
    if UPDATE:
        README.write_text(fresh)
    assert README.read_text() == fresh, "UPDATE=1 tests/chart/run"
