"""Dashboards and alerts: they ask for what there is, in words that Prometheus understands."""

import json
import re
import subprocess

import dashboards
import pytest
import yaml
from chart import CHART, HERE, PROMTOOL, ROOT, UPDATE, one, objects
from metrics import NAME, table, wrong

RULES = CHART / "rules" / "alerts.yaml"
needs_promtool = pytest.mark.skipif(not PROMTOOL.exists(), reason="there is no promtool")


def alerts():
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


def promtool(*arguments):
    return subprocess.run([str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True, timeout=60)


def plain(query):
    """A query without Grafana's variables."""
    for variable, value in [("$__rate_interval", "5m"), ("$__range", "1h"), ("$namespace", ".*"), ("$model_group", ".*")]:
        query = query.replace(variable, value)
    assert "$" not in query, query
    return query


def test_every_metric_and_label_of_a_query_exists():
    metrics = table()
    asked = [(f"{name}: {panel}", query) for name, panel, query in dashboards.queries()]
    asked += [(alert["alert"], alert["expr"]) for alert in alerts()]
    assert [(where, what) for where, query in asked for what in wrong(query, metrics)] == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("sum(rate(pillion_request_total[5m]))", "no metric pillion_request_total"),
        ("pillion_first_token_seconds", "no metric pillion_first_token_seconds"),
        ("pillion_requests_total_bucket", "no metric"),
        ('pillion_requests_total{model="x"}', "no label model"),
        ("sum by (deployment) (pillion_requests_total)", "label deployment"),
        ("1 + 1", "names no metric"),
    ],
)
def test_a_name_that_nobody_exports_is_found(query, says):
    assert any(says in what for what in wrong(query, table()))


def test_dashboards_are_written_from_their_table():
    folder = CHART / "dashboards"
    if UPDATE:
        for name, text in dashboards.files():
            (folder / name).write_text(text)
    written = {path.name: path.read_text() for path in folder.glob("*.json")}
    assert written == dict(dashboards.files()), "UPDATE=1 tests/chart/run"


def test_dashboards_are_whole():
    uids = set()
    for name, text in dashboards.files():
        dashboard = json.loads(text)
        uids.add(dashboard["uid"])
        panels = dashboard["panels"]
        assert len({panel["title"] for panel in panels}) == len(panels), name
        cells = set()
        for panel in panels:
            assert panel["description"] and panel["targets"], panel["title"]
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24, panel["title"]
            covered = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not covered & cells, f"{name}: {panel['title']} lies over another"
            cells |= covered
    assert len(uids) == len(dashboards.DASHBOARDS)


@needs_promtool
def test_every_query_is_understood(tmp_path):
    rules = [{"record": f"query:{at}", "expr": plain(query)} for at, (_, _, query) in enumerate(dashboards.queries())]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@needs_promtool
def test_rules_are_right():
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then(tmp_path):
    """Cases are in alerts.test.yaml; each alert has one where it fires and one where it does not."""
    expected = []
    for at, file in enumerate(yaml.safe_load_all((HERE / "alerts.test.yaml").read_text())):
        path = tmp_path / f"{at}.yaml"
        path.write_text(yaml.safe_dump(file | {"rule_files": [str(RULES)]}))
        done = promtool("test", "rules", path)
        assert done.returncode == 0, done.stdout + done.stderr
        expected += [case for test in file["tests"] for case in test["alert_rule_test"]]
    for alert in alerts():
        of_it = [bool(case.get("exp_alerts")) for case in expected if case["alertname"] == alert["alert"]]
        assert sorted(set(of_it)) == [False, True], f"{alert['alert']} has no case where it fires or none where not"


def test_alerts_say_what_to_do():
    for alert in alerts():
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert alert["annotations"]["summary"] and len(alert["annotations"]["description"]) > 60, alert["alert"]


def test_the_guide_says_where_to_look():
    guide = (ROOT / "deploy" / "README.md").read_text()
    assert [alert["alert"] for alert in alerts() if f"| {alert['alert']} |" not in guide] == []


def test_the_chart_carries_the_rules_as_they_are():
    rule = one(objects("full"), "PrometheusRule")
    plain = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    for each, alert in zip(plain, alerts(), strict=True):
        assert each["expr"].split() == alert["expr"].split()
        assert each.get("for") == alert.get("for")
        assert each["labels"] == alert["labels"] | {"team": "platform"}
        url = each["annotations"].pop("runbook_url")
        assert url == f"https://runbooks.example.com/pillion#{alert['alert'].lower()}"
        assert each["annotations"] == alert["annotations"]


def test_the_chart_carries_the_dashboards_as_they_are():
    carried = {}
    for each in objects("full"):
        if re.search("-dashboard-", each["metadata"]["name"]):
            assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
            carried |= each["data"]
    assert {name: json.loads(text) for name, text in carried.items()} == {name: json.loads(text) for name, text in dashboards.files()}
