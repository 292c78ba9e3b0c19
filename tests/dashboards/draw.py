"""The dashboards as pictures: their files, with what Prometheus knows, drawn by a headless Chromium.

Grafana is in no registry that this repository's tests use, so page.js stands in for it: it reads the
same JSON and puts the same panels at the same places, with their titles, units and legends.
"""

import json
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

# What the fleet of prove.py cannot show, and why.
EXCUSED = {
    "pillion_webhook_certificate_expiry_timestamp_seconds": "told of a certificate that the injector makes, for which it needs an API server",
}
HERE = Path(__file__).resolve().parent
# Without these it asks the network for things of its own.
QUIET = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
WIDTH, ROW = 1600, 38
STYLE = """
body { margin: 12px; background: #111217; color: #d8d9da; font: 12px sans-serif } main { position: relative }
h1 { font-size: 18px; margin: 4px 0 10px } h2 { font-size: 13px; margin: 0 } p { color: #8e8e8e; margin: 1px 0 4px; white-space: nowrap; overflow: hidden }
.panel { position: absolute; box-sizing: border-box; background: #181b1f; border: 1px solid #2c2e33; padding: 6px 8px; display: flex; flex-direction: column; overflow: hidden }
.body { flex: 1; min-height: 0; min-width: 0 } .value { font-size: 34px; text-align: center; margin-top: 10px } .none { text-align: center; color: #e24d42; margin-top: 20px }
.u-legend { text-align: left !important; font-size: 11px } .u-legend .u-marker { width: 12px; height: 3px }
"""


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser")


def page(dashboard, answers, uplot):
    """The page, whole: it asks nobody for anything."""
    script = (uplot / "uPlot.iife.min.js").read_text()
    data = f"const DASHBOARD = {json.dumps(dashboard)}, DATA = {json.dumps(answers)};".replace("</", "<\\/")
    style = (uplot / "uPlot.min.css").read_text() + STYLE
    scripts = "".join(f"<script>{text}</script>" for text in (script, data, (HERE / "page.js").read_text()))
    return f'<!doctype html><meta charset="utf-8"><style>{style}</style><h1></h1><main></main>{scripts}'


def is_excused(panel):
    return any(name in target["expr"] for name in EXCUSED for target in panel["targets"])


class Drawn(HTMLParser):
    """What a page says of itself when it is drawn."""

    def __init__(self, text):
        super().__init__()
        self.panels, self.curves, self.body = [], 0, {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        has = dict(attributes)
        if tag == "body":
            self.body = has
        elif tag == "section":
            self.panels.append((has["data-title"], has["data-state"], int(has["data-series"])))
        elif has.get("class") == "u-series":
            self.curves += 1


def browse(url, *flags):
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={profile}", "--hide-scrollbars", *flags, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def picture(name, dashboard, answers, uplot, folder):
    """Draws one, and says what is wrong with what came out."""
    file = folder / f"{name}.html"
    file.write_text(page(dashboard, answers, uplot))
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) * ROW + 60
    browse(file.as_uri(), f"--window-size={WIDTH},{height}", f"--screenshot={folder / name}.png")
    drawn = Drawn(browse(file.as_uri(), f"--window-size={WIDTH},{height}", "--dump-dom"))
    # Curves are drawn a moment later, so that the end alone proves nothing.
    if drawn.body.get("data-done") != "true" or "data-error" in drawn.body:
        yield f"it is not drawn to its end: {drawn.body.get('data-error')}"
    if [title for title, _, _ in drawn.panels] != [panel["title"] for panel in dashboard["panels"]]:
        yield f"{len(drawn.panels)} panels are there of {len(dashboard['panels'])}"
    both = list(zip(dashboard["panels"], drawn.panels))
    curves = [series for panel, (_, state, series) in both if panel["type"] == "timeseries" and state == "drawn"]
    if drawn.curves != sum(curves):
        yield f"{drawn.curves} curves are drawn of {sum(curves)}"
    yield from (f"{title} is empty" for panel, (title, state, _) in both if state == "empty" and not is_excused(panel))


def variables(dashboard):
    """The queries behind the drop-down lists, as Prometheus knows them."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            yield variable["name"], f"count by ({label}) ({series})"
