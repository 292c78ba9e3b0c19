"""The metrics there are, as README lists them, and those that a query names."""

import re
from dataclasses import dataclass

from chart import ROOT

# What Prometheus and the PodMonitor add to every series.
TARGET = {"namespace", "pod", "container", "instance", "job"}
NAME = re.compile(r"\b((?:pillion|process)_[a-z0-9_]+)(?:\{([^}]*)\})?")
KINDS = {"counter", "gauge", "histogram", "summary"}
HISTOGRAM = re.compile(r"_(bucket|count|sum)$")


@dataclass(frozen=True)
class Metric:
    kind: str
    labels: frozenset


def table():
    """What README lists: the table that is generated from src/telemetry/table.rs, and any other."""
    metrics = {}
    for row in (ROOT / "README.md").read_text().splitlines():
        name, kind, labels, *_ = [*(cell.strip() for cell in row.strip("|").split("|", 3)), "", "", ""]
        if re.fullmatch(r"`(pillion|process)_[a-z_]+`", name) and kind in KINDS:
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
        if metric is None or (metric.kind in ("histogram", "summary")) != (base != name):
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
