"""What Helm makes of the chart: the same with both majors, valid for every Kubernetes, as written down."""

import json
import re
import subprocess
import sys
from itertools import product

import pytest
import strict
import yaml
from chart import CASES, CHART, HELMS, NEEDS, ROOT, UPDATE, VERSIONS, helm, identity, is_enough, objects, text, values_of

GOLDENS = ROOT / "tests" / "fixtures" / "chart"


@pytest.mark.parametrize(("major", "case"), list(product(HELMS, CASES)))
def test_lint_finds_nothing(major, case):
    done = helm(major, "lint", "--strict", CHART, "--kube-version", "1.33.0", "--values", values_of(case))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout and "[ERROR]" not in done.stdout


@pytest.mark.parametrize(("case", "version"), list(product(CASES, VERSIONS)))
def test_both_helms_render_the_same_and_it_is_valid(case, version):
    if not is_enough(case, version):
        for major in HELMS:
            done = helm(major, "template", "gw", CHART, "--kube-version", version, "--values", values_of(case))
            assert done.returncode != 0 and NEEDS[case][1] in done.stderr
        return
    rendered = objects(case, version)
    assert rendered == objects(case, version, 3)
    for document in rendered:
        strict.check(document, version)
    names = [identity(document) for document in rendered]
    assert len(names) == len(set(names)), names


def test_the_schemas_are_strict():
    document = objects("default")[0] | {"sepc": {}}
    with pytest.raises(Exception, match="sepc"):
        strict.check(document, "1.33.0")


@pytest.mark.parametrize("case", CASES)
def test_a_render_is_what_is_written_down(case):
    golden = GOLDENS / f"{case}.yaml"
    fresh = [short(document) for document in objects(case)]
    if UPDATE:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(yaml.dump_all(fresh, Dumper=Readable, sort_keys=False, width=120))
    assert list(yaml.safe_load_all(golden.read_text())) == fresh, "look at the difference, then UPDATE=1 tests/chart/run"


class Readable(yaml.SafeDumper):
    """Texts of several lines as such."""


def literal(dumper, text):
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Readable.add_representer(str, literal)


def short(document):
    """Without what is tested where it is made: dashboards, alerts, and sums of other objects."""
    document = json.loads(json.dumps(document))
    name = document["metadata"]["name"]
    if "-dashboard-" in name:
        document["data"] = {file: f"<charts/pillion/dashboards/{file}>" for file in document["data"]}
    if document["kind"] == "PrometheusRule":
        document["spec"] = "<charts/pillion/rules/alerts.yaml>"
    if document["kind"] == "Deployment":
        annotations = document["spec"]["template"]["metadata"].get("annotations", {})
        annotations.update((key, "<sum>") for key in annotations if key.startswith("checksum/"))
    return document


@pytest.mark.parametrize(("major", "case"), list(product(HELMS, ["default", "full"])))
def test_two_renders_are_the_same(major, case):
    text.cache_clear()
    first = text(case, "1.33.0", major)
    text.cache_clear()
    assert text(case, "1.33.0", major) == first


def test_a_change_of_the_configuration_restarts_nothing():
    """The sidecars take it up while they run, and so does the injector."""
    sets = [("--set", "config.data.model_list=null"), ("--set", "config.data.a=1")]
    pods = [[each["spec"]["template"] for each in _parsed(more) if each["kind"] == "Deployment"] for more in sets]
    assert pods[0] == pods[1]


def test_a_change_of_the_settings_restarts_the_injector():
    sets = [("--set", "sidecar.logLevel=info"), ("--set", "sidecar.logLevel=debug")]
    sums = [re.findall(r"checksum/injector: (\w+)", text("default", "1.33.0", 4, *more)) for more in sets]
    assert sums[0] != sums[1]


def _parsed(more):
    return [document for document in yaml.safe_load_all(text("default", "1.33.0", 4, *more)) if document]


def test_what_is_written_by_hand_is_tidy():
    rules = "{extends: default, rules: {line-length: {max: 260}, document-start: disable, braces: {max-spaces-inside: 1}, comments: {min-spaces-from-content: 1}}}"
    folders = [CHART / name for name in ("Chart.yaml", "values.yaml", "ci", "files", "rules")]
    done = subprocess.run([sys.executable, "-m", "yamllint", "--strict", "-d", rules, *map(str, folders)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
