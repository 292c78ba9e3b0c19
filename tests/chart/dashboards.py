"""The Grafana dashboards: what each panel asks and why, from which charts/pillion/dashboards is written.

One line per panel, so that a change is a change of one line and not of forty lines of JSON that
Grafana exports. `tests/chart/run` compares the files with this table and `UPDATE=1` writes them.
"""

import json
from dataclasses import dataclass

OF = 'namespace=~"$namespace"'
GROUP = f'{OF}, model_group=~"$model_group"'
RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """One picture: queries with their legends, a unit of Grafana's, and what it tells."""

    title: str
    queries: list[tuple[str, str]]
    tells: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8


def rate(metric, by="", select=GROUP):
    chosen = f"{{{select}}}" if select else ""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{chosen}{RATE}))"


def quantile(q, metric, by="", select=GROUP):
    by = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({by}) (rate({metric}_bucket{{{select}}}{RATE})))"


def quantiles(metric, select=GROUP):
    return [(quantile(q, metric, select=select), f"p{q[2:]:<02}") for q in ("0.5", "0.95", "0.99")]


def slower_than(seconds, metric):
    return f'1 - {rate(f"{metric}_bucket", select=f"""{GROUP}, le="{seconds}" """.strip())} / {rate(f"{metric}_count")}'


REQUESTS = [
    Panel("Requests", [(rate("pillion_requests_total"), "")], "Requests that ended, per second.", "reqps", "stat", 6),
    Panel(
        "Whole answers",
        [(rate("pillion_requests_total", select=f'{GROUP}, end="complete"') + " / " + rate("pillion_requests_total"), "")],
        "Share of requests whose answer was whole. Callers that went away count against it.",
        "percentunit", "stat", 6,
    ),
    Panel("In flight", [(f"sum(pillion_requests_in_flight{{{OF}}})", "")], "Requests being served now.", kind="stat", width=6),
    Panel("Waiting", [(f"sum(pillion_requests_queued{{{GROUP}}})", "")], "Requests that wait for a deployment.", kind="stat", width=6),
    Panel("Requests by end", [(rate("pillion_requests_total", "end"), "{{end}}")], "How requests ended. `truncated` is a stream that broke off.", "reqps"),
    Panel("Requests by status", [(rate("pillion_requests_total", "status"), "{{status}}")], "What callers were answered.", "reqps"),
    Panel("Requests by model group", [(rate("pillion_requests_total", "model_group"), "{{model_group}}")], "What callers asked for.", "reqps"),
    Panel("Requests by endpoint", [(rate("pillion_requests_total", "endpoint"), "{{endpoint}}")], "Which part of the API they used.", "reqps"),
    Panel(
        "Retries and fallbacks",
        [
            (rate("pillion_retries_total"), "retries"),
            (rate("pillion_fallbacks_total"), "fallbacks"),
            (rate("pillion_retries_denied_total"), "retries denied"),
        ],
        "Further tries behind one request. Denied are those beyond pillion.retries.", "reqps",
    ),
    Panel("Turned away", [(rate("pillion_requests_shed_total", "reason", OF), "{{reason}}")], "Requests there was no room for.", "reqps"),
    Panel("Time in the queue", quantiles("pillion_queue_wait_seconds"), "How long requests waited for a deployment, of those that did.", "s"),
    Panel("Memory of bodies", [(f"sum by (pod) (pillion_buffered_bytes{{{OF}}})", "{{pod}}")], "Against limits.max_buffered_bytes.", "bytes"),
]

LATENCY = [
    Panel("First token, p50", [(quantile("0.5", "pillion_first_token_seconds"), "")], "Half of all streams are faster.", "s", "stat", 6),
    Panel("First token, p95", [(quantile("0.95", "pillion_first_token_seconds"), "")], "One of twenty streams is slower.", "s", "stat", 6),
    Panel("First token, p99", [(quantile("0.99", "pillion_first_token_seconds"), "")], "One of a hundred streams is slower.", "s", "stat", 6),
    Panel(
        "Tail", [(quantile("0.99", "pillion_first_token_seconds") + " / " + quantile("0.5", "pillion_first_token_seconds"), "")],
        "How many times the median the p99 of the first token is.", kind="stat", width=6,
    ),
    Panel("Time to the first token", quantiles("pillion_first_token_seconds"), "From a request's head to the first content of its stream.", "s", width=12),
    Panel("First tokens", [(f"sum by (le) (rate(pillion_first_token_seconds_bucket{{{GROUP}}}{RATE}))", "{{le}}")], "How many streams had theirs after which time.", "s", "heatmap", 12),
    Panel("p95 by deployment", [(quantile("0.95", "pillion_first_token_seconds", "deployment"), "{{deployment}}")], "Who is slow to the first token.", "s"),
    Panel("p99 by deployment", [(quantile("0.99", "pillion_first_token_seconds", "deployment"), "{{deployment}}")], "Whose tail is long.", "s"),
    Panel("p95 by model group", [(quantile("0.95", "pillion_first_token_seconds", "model_group"), "{{model_group}}")], "Which callers wait.", "s"),
    Panel("Time to the last byte", quantiles("pillion_request_duration_seconds"), "Of all requests, streamed or not.", "s"),
    Panel(
        "Slow starts",
        [(slower_than(bound, "pillion_first_token_seconds"), f"> {bound} s") for bound in ("0.5", "1", "5")],
        "Share of streams whose first token took longer.", "percentunit",
    ),
    Panel("p95 by endpoint", [(quantile("0.95", "pillion_request_duration_seconds", "endpoint"), "{{endpoint}}")], "To the last byte.", "s"),
]

MADE = f'{GROUP}, hedges="made"'
OBSERVED = f'{GROUP}, hedges="observed"'
ENDED = f'{GROUP}, outcome=~"won|lost|failed"'


def waits(stream):
    """Percentiles with and without hedging."""
    select = f'{GROUP}, bound="estimate", stream="{stream}"'
    return [
        (f'avg by (hedging) (pillion_hedge_wait_seconds{{{select}, quantile="{quantile}"}})', f"{name} {{{{hedging}}}} hedging")
        for quantile, name in (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"))
    ]


def how_sure(stream):
    select = f'{GROUP}, quantile="0.95", stream="{stream}"'
    return [(f"avg by (hedging, bound) (pillion_hedge_wait_seconds{{{select}}})", "{{hedging}} hedging, {{bound}}")]


HEDGING = [
    Panel("Seconds saved", [(f"sum(pillion_hedge_saved_seconds{{{MADE}}})", "")], "What hedges saved their callers since the sidecars began, estimated.", "s", "stat", 6),
    Panel(
        "Win rate", [(rate("pillion_hedges_total", select=f'{GROUP}, outcome="won"') + " / " + rate("pillion_hedges_total", select=ENDED), "")],
        "Share of hedges that were first.", "percentunit", "stat", 6,
    ),
    Panel("Hedged", [(rate("pillion_hedges_total", select=ENDED) + " / " + rate("pillion_requests_total"), "")], "Share of requests that got a hedge.", "percentunit", "stat", 6),
    Panel(
        "Share of the cost", [(rate("pillion_hedge_cost_usd_total") + " / (" + rate("pillion_hedge_cost_usd_total") + " + " + rate("pillion_cost_usd_total") + ")", "")],
        "What tries that lost cost, of all that is spent.", "percentunit", "stat", 6,
    ),
    Panel("Streams: wait for the first token", waits("true"), "Since the sidecars began; the mean over sidecars.", "s", width=12),
    Panel("Streams: how sure that is", how_sure("true"), "The p95 and the ends of its interval of 95 %. Where the intervals do not meet, hedging helps.", "s", width=12),
    Panel("Other answers: wait for the whole", waits("false"), "Since the sidecars began; the mean over sidecars.", "s", width=12),
    Panel("Other answers: how sure that is", how_sure("false"), "The p95 and the ends of its interval of 95 %. Where the intervals do not meet, hedging helps.", "s", width=12),
    Panel("Late requests", [(rate("pillion_hedges_total", "outcome"), "{{outcome}}")], "What became of their hedges, or why there was none.", "reqps", width=12),
    Panel("Win rate by model group", [(f"avg by (model_group, hedges) (pillion_hedge_win_ratio{{{GROUP}}})", "{{model_group}} {{hedges}}")], "Since the sidecars began.", "percentunit", width=12),
    Panel("Extra tokens", [(rate("pillion_hedge_extra_tokens_total", "model_group, hedges"), "{{model_group}} {{hedges}}")], "Of tries that lost against or as a hedge, per second.", "short"),
    Panel("Extra dollars an hour", [(rate("pillion_hedge_extra_cost_usd_total", "model_group, hedges") + " * 3600", "{{model_group}} {{hedges}}")], "What those tokens cost, where prices are known.", "currencyUSD"),
    Panel("Price of a saved second", [(f"avg by (model_group, hedges) (pillion_hedge_usd_per_saved_second{{{GROUP}}})", "{{model_group}} {{hedges}}")], "Dollars.", "currencyUSD"),
    Panel("Tokens of tries that lost", [(rate("pillion_hedge_tokens_total", "deployment"), "{{deployment}}")], "Per second, estimated; not part of pillion_tokens_total."),
    Panel(
        "Would have saved", [(f"sum by (model_group) (pillion_hedge_saved_seconds{{{OBSERVED}}})", "{{model_group}}")],
        "Where hedging is only observed: seconds that it would have saved since the sidecars began.", "s",
    ),
]

COOLDOWNS = [
    Panel("In cooldown", [(f"sum(max by (namespace, deployment) (pillion_deployment_in_cooldown{{{OF}}}))", "")], "Deployments that at least one sidecar lets rest.", kind="stat", width=6),
    Panel(
        "Tries that succeed", [(rate("pillion_tries_total", select=f'{OF}, outcome="success"') + " / " + rate("pillion_tries_total", select=f'{OF}, outcome!~"lost|abandoned"'), "")],
        "Share of calls to deployments, without those that were given up for another.", "percentunit", "stat", 6,
    ),
    Panel("Begun in an hour", [(f"round(sum(increase(pillion_cooldowns_total{{{OF}}}[1h])))", "")], "Cooldowns, over all sidecars.", kind="stat", width=6),
    Panel("Against a cooldown", [(rate("pillion_cooldown_panics_total", select=OF), "")], "Calls because nobody else was left.", "reqps", "stat", 6),
    Panel(
        "Share of sidecars that let it rest", [(f"avg by (deployment) (pillion_deployment_in_cooldown{{{OF}}})", "{{deployment}}")],
        "Of each deployment.", "percentunit", "state-timeline", 12,
    ),
    Panel("States", [(f'sum by (state) (pillion_deployment_cooldown_state{{{OF}}})', "{{state}}")], "Deployments in each state, over all sidecars.", width=12),
    Panel("Cooldowns by class", [(f"sum by (class) (increase(pillion_cooldowns_total{{{OF}}}{RATE}))", "{{class}}")], "Which class of failure began them."),
    Panel("Cooldowns by deployment", [(f"sum by (deployment) (increase(pillion_cooldowns_total{{{OF}}}{RATE}))", "{{deployment}}")], "Who was let rest."),
    Panel("Failed tries", [(rate("pillion_tries_total", "deployment, outcome", f'{OF}, outcome!~"success|lost|abandoned"'), "{{deployment}} {{outcome}}")], "By the class of the failure.", "reqps"),
    Panel("Tries", [(rate("pillion_tries_total", "deployment", OF), "{{deployment}}")], "Who gets the traffic.", "reqps"),
    Panel("Tries in flight", [(f"sum by (deployment) (pillion_tries_in_flight{{{OF}}})", "{{deployment}}")], "Calls that run now."),
    Panel(
        "Streams that broke off",
        [
            (rate("pillion_requests_total", "model_group", f'{GROUP}, end="truncated"'), "{{model_group}} truncated"),
            (rate("pillion_stream_recoveries_total", "outcome"), "recovery {{outcome}}"),
        ],
        "What callers saw, and what recovery kept from them.", "reqps",
    ),
    Panel("Events passed over", [(rate("pillion_stream_events_skipped_total", "deployment", OF), "{{deployment}}")], "Events of streams that could not be read.", "reqps"),
]

COST = [
    Panel("Cost per hour", [(rate("pillion_cost_usd_total") + " * 3600", "")], "Dollars, at the rate of now.", "currencyUSD", "stat", 6),
    Panel("Cost in this range", [(f"sum(increase(pillion_cost_usd_total{{{GROUP}}}[$__range]))", "")], "Dollars.", "currencyUSD", "stat", 6),
    Panel("Cost of a thousand requests", [("1000 * " + rate("pillion_cost_usd_total") + " / " + rate("pillion_requests_total"), "")], "Dollars.", "currencyUSD", "stat", 6),
    Panel(
        "Tokens that are a guess", [(rate("pillion_usage_estimated_total") + " / " + rate("pillion_requests_total"), "")],
        "Share of answers whose tokens are an estimate because the provider did not say.", "percentunit", "stat", 6,
    ),
    Panel("Cost by model group", [(rate("pillion_cost_usd_total", "model_group") + " * 3600", "{{model_group}}")], "Dollars an hour.", "currencyUSD"),
    Panel("Cost by deployment", [(rate("pillion_cost_usd_total", "deployment") + " * 3600", "{{deployment}}")], "Dollars an hour.", "currencyUSD"),
    Panel("Cost by namespace", [(rate("pillion_cost_usd_total", "namespace") + " * 3600", "{{namespace}}")], "Dollars an hour.", "currencyUSD"),
    Panel(
        "Cost on top",
        [(rate("pillion_hedge_cost_usd_total") + " * 3600", "hedges"), (rate("pillion_recovery_cost_usd_total") + " * 3600", "recovery")],
        "Dollars an hour for tries whose answer nobody got; not part of the sums above.", "currencyUSD",
    ),
    Panel("Tokens", [(rate("pillion_tokens_total", "type"), "{{type}}")], "Per second. Input contains cache_read and cache_write, output contains reasoning."),
    Panel("Tokens by deployment", [(rate("pillion_tokens_total", "deployment", f'{GROUP}, type=~"input|output"'), "{{deployment}}")], "Input and output, per second."),
    Panel("Tokens of recovery", [(rate("pillion_recovery_tokens_total", "deployment"), "{{deployment}}")], "Of streams that broke off, or did not go on; per second."),
]

# Injectors have a version too, but no configuration to serve.
SIDECARS = f"pillion_build_info{{{OF}}} and on (namespace, pod, container) pillion_config_in_sync"

FLEET = [
    Panel("Sidecars", [(f"count({SIDECARS})", "")], "That are scraped.", kind="stat", width=6),
    Panel("Out of sync", [(f"count(pillion_config_in_sync{{{OF}}} == 0) or vector(0)", "")], "Sidecars that do not serve the configuration they are given.", kind="stat", width=6),
    Panel("Memory, largest", [(f"max(process_resident_memory_bytes{{{OF}}} and on (namespace, pod, container) pillion_build_info)", "")], "Resident memory.", "bytes", "stat", 6),
    Panel(
        "CPU of all", [(f"sum(rate(process_cpu_seconds_total{{{OF}}}{RATE}) and on (namespace, pod, container) pillion_build_info)", "")],
        "Cores.", kind="stat", width=6,
    ),
    Panel("Versions", [(f"count by (version) ({SIDECARS})", "{{version}}")], "Pods keep their sidecar until they are restarted."),
    Panel("Sidecars by namespace", [(f"count by (namespace) ({SIDECARS})", "{{namespace}}")], "Where they are."),
    Panel("Requests in flight by pod", [(f"sum by (pod) (pillion_requests_in_flight{{{OF}}})", "{{pod}}")], "Who is busy."),
    Panel("Memory", [(f"process_resident_memory_bytes{{{OF}}} and on (namespace, pod, container) pillion_build_info", "{{pod}}")], "Resident memory.", "bytes"),
    Panel("CPU", [(f"rate(process_cpu_seconds_total{{{OF}}}{RATE}) and on (namespace, pod, container) pillion_build_info", "{{pod}}")], "Cores."),
    Panel("Age", [(f"time() - (process_start_time_seconds{{{OF}}} and on (namespace, pod, container) pillion_build_info)", "{{pod}}")], "A line that falls to zero is a restart.", "s"),
    Panel("Configuration", [(f"pillion_config_generation{{{OF}}}", "{{pod}}")], "Its generation; each reload that changes something is one more."),
    Panel("Reloads", [(f"sum by (result) (increase(pillion_config_reloads_total{{{OF}}}{RATE}))", "{{result}}")], "Attempts to load the configuration again."),
    Panel("Last attempt to load", [(f"min by (pod) (pillion_config_last_reload_success{{{OF}}})", "{{pod}}")], "0 is a file that cannot be used."),
    Panel("Age of the configuration", [(f"time() - pillion_config_last_reload_timestamp_seconds{{{OF}}}", "{{pod}}")], "Since what is served was loaded.", "s"),
    Panel(
        "Connections to providers",
        [(f"sum(pillion_upstream_connections_open{{{OF}}})", "open"), (rate("pillion_upstream_connections_opened_total", select=OF), "opened per second")],
        "Many that are opened and few that are open mean that providers close them.",
    ),
    Panel(
        "Dropped", [(rate("pillion_lessons_dropped_total", select=OF), "lessons"), (rate("pillion_access_log_dropped_total", select=OF), "lines of the access log")],
        "What came faster than it could be taken.", "reqps",
    ),
    Panel("Members", [(f"pillion_gossip_members{{{OF}}}", "{{pod}}")], "Sidecars that each one knows. Lines apart are a fleet that is split."),
    Panel("Age of what peers said", [(f"pillion_gossip_view_age_seconds{{{OF}}}", "{{pod}}")], "Grows where nothing is heard.", "s"),
    Panel("Gossip", [(rate("pillion_gossip_bytes_total", "direction", OF), "{{direction}}")], "Bytes over all sidecars.", "Bps"),
    Panel("Datagrams", [(rate("pillion_gossip_datagrams_total", "direction", OF), "{{direction}}")], "Over all sidecars.", "pps"),
    Panel("Pods reviewed", [(rate("pillion_webhook_reviews_total", "outcome, reason", ""), "{{outcome}} {{reason}}")], "By the injectors, and what became of them.", "reqps"),
    Panel(
        "Time of a review",
        [(rate("pillion_webhook_review_duration_seconds_sum", select="") + " / " + rate("pillion_webhook_review_duration_seconds_count", select=""), "mean")],
        "Added to the start of each pod of an opted-in namespace.", "s",
    ),
    Panel("Copies of the configuration", [("max(pillion_webhook_config_copies)", "namespaces")], "Namespaces that the injector brings it to."),
    Panel("Certificate", [("min(pillion_webhook_certificate_expiry_timestamp_seconds) - time()", "left")], "Of the injector; it is renewed when a month is left.", "s"),
    Panel("Datagrams dropped", [(rate("pillion_gossip_datagrams_dropped_total", "reason", OF), "{{reason}}")], "By reason; another key or another fleet is one.", "pps"),
]

DASHBOARDS = {
    "requests": ("Pillion: requests", REQUESTS),
    "latency": ("Pillion: first token and tails", LATENCY),
    "hedging": ("Pillion: what hedging is worth", HEDGING),
    "cooldowns": ("Pillion: cooldowns and failures", COOLDOWNS),
    "cost": ("Pillion: tokens and cost", COST),
    "fleet": ("Pillion: fleet", FLEET),
}

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
HEIGHTS = {"stat": 4}


def queries():
    """Every query of every panel: (dashboard, panel, query)."""
    for name, (_, panels) in DASHBOARDS.items():
        for panel in panels:
            for query, _ in panel.queries:
                yield name, panel.title, query


def files():
    """The files' names and contents."""
    for name, (title, panels) in DASHBOARDS.items():
        yield f"{name}.json", json.dumps(dashboard(name, title, panels), indent=2) + "\n"


def dashboard(name, title, panels):
    variables = [variable("namespace", "pillion_build_info", "namespace")]
    if any("$model_group" in query for panel in panels for query, _ in panel.queries):
        variables.append(variable("model_group", 'pillion_requests_total{namespace=~"$namespace"}', "model_group"))
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    links = {"title": "Pillion", "type": "dashboards", "tags": ["pillion"], "asDropdown": True, "keepTime": True, "includeVars": True}
    return {
        "uid": f"pillion-{name}",
        "title": title,
        "tags": ["pillion"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [links],
        "templating": {"list": [source, *variables]},
        "panels": list(placed(panels)),
    }


def variable(name, series, label):
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": f"label_values({series}, {label})", "refId": name},
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def placed(panels):
    """Panels from left to right, and in a new row where one does not fit or is of another height."""
    x = y = row = 0
    for at, panel in enumerate(panels, 1):
        height = HEIGHTS.get(panel.kind, 8)
        if x + panel.width > 24 or (x and height != row):
            x, y = 0, y + row
        yield drawn(at, panel, {"x": x, "y": y, "w": panel.width, "h": height})
        x, row = x + panel.width, height


def drawn(at, panel, position):
    unit = {"unit": panel.unit}
    match panel.kind:
        case "timeseries":
            # Small shares are seen too, so there is no upper end.
            unit |= {"custom": {"fillOpacity": 10}} | ({"min": 0} if panel.unit == "percentunit" else {})
        case "state-timeline":
            # By its value: Grafana's own thresholds never part a share of nothing from one of all.
            unit |= {"custom": {"fillOpacity": 80}, "color": {"mode": "continuous-GrYlRd"}, "min": 0, "max": 1}
    return {
        "id": at,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.tells,
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": unit, "overrides": []},
        "options": options(panel.kind),
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": query}
            | {"legendFormat": legend or "__auto", "range": True}
            | ({"format": "heatmap"} if panel.kind == "heatmap" else {})
            for i, (query, legend) in enumerate(panel.queries)
        ],
    }


def options(kind):
    match kind:
        case "stat":
            return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "area"}
        case "heatmap":
            return {"calculate": False, "yAxis": {"unit": "s"}, "color": {"mode": "scheme", "scheme": "Blues"}}
        case "state-timeline":
            return {"mergeValues": True, "showValue": "never"}
        case _:
            return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
