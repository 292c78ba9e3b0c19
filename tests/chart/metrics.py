"""The metrics there are, as README lists them, and those that a query names."""

import re
from dataclasses import dataclass

from chart import ROOT

# What Prometheus and the PodMonitor add to every series.
TARGET = {"namespace", "pod", "container", "instance", "job"}
NAME = re.compile(r"\b((?:pillion|process)_[a-z0-9_]+)(?:\{([^}]*)\})?")
HISTOGRAM = re.compile(r"_(bucket|count|sum)$")


@dataclass(frozen=True)
class Metric:
    kind: str
    labels: frozenset


def table():
    """README's table, which is generated from src/telemetry/table.rs."""
    readme = (ROOT / "README.md").read_text()
    rows = readme.split("<!-- metrics -->\n")[1].split("<!-- /metrics -->")[0].splitlines()[2:]
    metrics = {}
    for row in rows:
        name, kind, labels, _ = (cell.strip() for cell in row.strip("|").split("|", 3))
        metrics[name.strip("`")] = Metric(kind, frozenset(re.findall(r"`(\w+)`", labels)))
    return metrics


def wrong(query, metrics):
    """What is wrong with the names in a query: metrics and labels that nobody exports."""
    found = NAME.findall(query)
    if not found:
        yield "it names no metric"
    labels = set()
    for name, selector in found:
        base = name
        if name not in metrics and HISTOGRAM.search(name):
            base = HISTOGRAM.sub("", name)
        metric = metrics.get(base)
        if metric is None or (metric.kind == "histogram") != (base != name):
            yield f"there is no metric {name}"
            continue
        own = metric.labels | TARGET | ({"le"} if name.endswith("_bucket") else set())
        labels |= own
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector):
            if label not in own:
                yield f"{name} has no label {label}"
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
        for label in filter(None, re.split(r"[,\s]+", group)):
            if label not in labels:
                yield f"nothing here has the label {label}"
