/* Draws one dashboard as its JSON says: where each panel is, its title, its unit and its legends. It
 * stands in for Grafana where there is none; the curves are uPlot's, as Grafana's are.
 *
 * DASHBOARD is the file, DATA what Prometheus answered: of each panel, by its id, the answers to its
 * queries in their order. Each panel says in `data-state` what became of it. */
"use strict";

const COLOURS = ["#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642", "#cca300", "#447ebc", "#c15c17"];
const ROW = 38;
const seconds = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"]];
const thousands = [[1e9, "B"], [1e6, "M"], [1e3, "K"], [1, ""]];
const binary = [[2 ** 30, " GiB"], [2 ** 20, " MiB"], [2 ** 10, " KiB"], [1, " B"]];

function scaled(value, steps) {
  const [size, name] = steps.find(([size]) => Math.abs(value) >= size) || steps[steps.length - 1];
  return Number((value / size).toPrecision(3)) + name;
}

/** A value with a unit of Grafana's. */
function written(value, unit) {
  if (value === null || !Number.isFinite(value)) return "–";
  switch (unit) {
    case "s": return value === 0 ? "0 s" : scaled(value, seconds);
    case "percentunit": return Number((value * 100).toPrecision(3)) + " %";
    case "bytes": return scaled(value, binary);
    case "Bps": return scaled(value, thousands) + "B/s";
    case "reqps": return scaled(value, thousands) + " req/s";
    case "pps": return scaled(value, thousands) + " p/s";
    case "currencyUSD": return "$" + scaled(value, thousands);
    case "short": return scaled(value, thousands);
    default: throw new Error(`no such unit: ${unit}`);
  }
}

function legend(format, labels) {
  if (format !== "__auto") return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? "");
  const all = Object.entries(labels).filter(([name]) => name !== "__name__").map(([name, value]) => `${name}="${value}"`);
  return all.length ? `{${all.join(", ")}}` : "Value";
}

/** All series of a panel over the same moments. */
function together(panel) {
  const found = panel.targets.flatMap((target, at) =>
    DATA[panel.id][at].map(({ metric, values }) => ({ name: legend(target.legendFormat, metric), labels: metric, values })));
  const moments = [...new Set(found.flatMap((series) => series.values.map(([moment]) => moment)))].sort((a, b) => a - b);
  const number = (text) => (Number.isFinite(Number(text)) ? Number(text) : null);
  for (const series of found) {
    const by = new Map(series.values.map(([moment, text]) => [moment, number(text)]));
    series.values = moments.map((moment) => by.get(moment) ?? null);
  }
  return { moments, series: found.filter((series) => series.values.some((value) => value !== null)) };
}

function element(parent, kind, kinds, text) {
  const made = document.createElement(kind);
  made.className = kinds;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function canvas(body, height) {
  const made = element(body, "canvas", "");
  made.width = body.clientWidth;
  made.height = height;
  return [made.getContext("2d"), made.width, made.height];
}

const last = (values) => values.findLast((value) => value !== null);

const KINDS = {
  stat(body, panel, { series }, unit) {
    for (const one of series) element(body, "div", "value", written(last(one.values), unit));
  },

  timeseries(body, panel, { moments, series }, { unit, min, max }) {
    const lines = series.map((one, at) => ({ label: one.name, stroke: COLOURS[at % COLOURS.length], width: 1.5, points: { show: false } }));
    const axis = { stroke: "#9a9a9a", grid: { stroke: "#2c2e33" } };
    const range = (_, low, high) => [min ?? Math.min(low, 0), max ?? (high > 0 ? high * 1.05 : 1)];
    new uPlot({
      width: body.clientWidth, height: body.clientHeight - 22 * Math.min(3, Math.ceil(series.length / 3)) - 24,
      series: [{}, ...lines], scales: { y: { range } }, legend: { live: false }, cursor: { show: false },
      axes: [axis, { ...axis, size: 78, values: (_, ticks) => ticks.map((tick) => written(tick, unit)) }],
    }, [moments, ...series.map((one) => one.values)], body);
  },

  heatmap(body, panel, { moments, series }) {
    const bounds = series.map((one) => ({ le: Number(one.labels.le.replace("+Inf", "Infinity")), values: one.values })).sort((a, b) => a.le - b.le);
    const cells = bounds.map(({ values }, row) => values.map((value, at) => Math.max(0, (value ?? 0) - (row ? bounds[row - 1].values[at] ?? 0 : 0))));
    const most = Math.max(...cells.flat());
    const [draw, width, height] = canvas(body, body.clientHeight);
    const [x, y] = [(width - 60) / moments.length, height / bounds.length];
    cells.forEach((row, up) => row.forEach((value, at) => {
      draw.fillStyle = `rgba(87, 148, 242, ${value / most})`;
      draw.fillRect(60 + at * x, height - (up + 1) * y, x + 1, y);
    }));
    draw.fillStyle = "#9a9a9a";
    bounds.forEach(({ le }, up) => up % 3 || draw.fillText(le === Infinity ? "+Inf" : written(le, "s"), 2, height - up * y - 2));
  },

  "state-timeline"(body, panel, { moments, series }, { unit, color, max }) {
    if (color?.mode !== "continuous-GrYlRd") throw new Error("without a scale, Grafana paints all states alike");
    const [draw, width, height] = canvas(body, body.clientHeight);
    const y = height / series.length;
    series.forEach((one, row) => {
      one.values.forEach((value, at) => {
        draw.fillStyle = value === null ? "transparent" : `hsl(${110 - 110 * Math.min(1, value / max)}, 55%, 45%)`;
        draw.fillRect(150 + (at * (width - 150)) / moments.length, row * y + 2, (width - 150) / moments.length + 1, y - 4);
      });
      draw.fillStyle = "#c8c8c8";
      draw.fillText(`${one.name} (${written(last(one.values), unit)})`, 2, row * y + y / 2);
    });
  },
};

function drawn(panel) {
  const { x, y, w, h } = panel.gridPos;
  const box = element(document.querySelector("main"), "section", "panel");
  Object.assign(box.style, { left: `${(x / 24) * 100}%`, width: `calc(${(w / 24) * 100}% - 8px)`, top: `${y * ROW}px`, height: `${h * ROW - 8}px` });
  element(box, "h2", "", panel.title);
  element(box, "p", "", panel.description);
  const body = element(box, "div", "body");
  const found = together(panel);
  box.dataset.state = found.series.length ? "drawn" : "empty";
  box.dataset.title = panel.title;
  box.dataset.series = found.series.length;
  if (!found.series.length) return element(body, "div", "none", "No data");
  const defaults = panel.fieldConfig.defaults;
  KINDS[panel.type](body, panel, found, panel.type === "stat" ? defaults.unit : defaults);
}

window.addEventListener("error", (event) => {
  document.body.dataset.error = `${document.body.dataset.error ?? ""} ${event.message}`;
});
document.querySelector("h1").textContent = DASHBOARD.title;
DASHBOARD.panels.forEach(drawn);
document.querySelector("main").style.height = `${Math.max(...DASHBOARD.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * ROW}px`;
document.body.dataset.done = "true";
