// Edges with their backlog drawn over the last two minutes.

import { byId, element, keyed, mark, say } from "./dom.js";
import { expected, isKnown, number, percent, seconds } from "./format.js";

const SPAN_S = 120;
const HEIGHT = 148;
/** A calm edge fills at least a part of its chart: the axis never ends below this backlog. */
const LEAST_TOP_S = 0.05;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function axisText(backlog_s) {
  return backlog_s === 0 || backlog_s >= 1 ? `${number(backlog_s)} s` : `${number(backlog_s * 1000)} ms`;
}

function chart(parent, width) {
  const axis = {
    stroke: () => colour("--muted"),
    font: "11px system-ui, sans-serif",
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false },
  };
  const options = {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 16, 0, 0],
    scales: {
      x: { time: false, range: [-SPAN_S, 0] },
      y: { range: (_, __, top_s) => [0, Math.max(LEAST_TOP_S, (top_s ?? 0) * 1.15)] },
    },
    axes: [
      { ...axis, size: 22, splits: () => [-120, -90, -60, -30, 0], values: () => ["2 min ago", "", "1 min", "", "now"] },
      { ...axis, size: 48, space: 22, values: (_, splits) => splits.map(axisText) },
    ],
    series: [
      {},
      { stroke: () => colour("--edge"), width: 1.5, fill: () => colour("--edge-soft"), points: { show: false } },
      { stroke: () => colour("--reported"), width: 0, paths: () => null, points: { show: true, size: 3, fill: () => colour("--reported") } },
    ],
  };
  return new uPlot(options, [[], [], []], parent);
}

/** What is known of an edge. */
function facts(edge) {
  const parts = [
    [edge.predicted_backlog_s, `backlog ${seconds(edge.predicted_backlog_s)}`],
    [edge.devices, edge.devices === 1 ? "1 device" : `${edge.devices} devices`],
    [edge.queue_length, `${expected(edge.queue_length)} waiting`],
    [edge.busy_share, `busy ${percent(edge.busy_share, 0)}`],
    [edge.speed_factor, `service × ${number(edge.speed_factor)}`],
    [edge.backlog_error_s, `error ${seconds(edge.backlog_error_s)}`],
    [edge.report_age_s, `reported ${seconds(edge.report_age_s)} ago`],
  ];
  return parts.filter(([value]) => isKnown(value)).map(([, text]) => text);
}

class Edge {
  #plot = null;
  #times = [];
  #predicted = [];
  #reported = [];
  #name = element("h3", {});
  #address = element("span", { class: "edge-address" });
  #facts = element("p", { class: "edge-facts" });
  #chart = element("div", { class: "edge-chart", role: "img" });

  constructor() {
    const head = element("div", { class: "edge-head" }, this.#name, this.#address);
    this.element = element("li", { class: "edge" }, head, this.#chart, this.#facts);
    new ResizeObserver(() => this.#resize()).observe(this.#chart);
  }

  update({ edge, time_unix_s, past }) {
    say(this.#name, edge.id);
    say(this.#address, edge.is_attached ? edge.address : "detached");
    mark(this.element, "data-attached", edge.is_attached ? "yes" : "no");
    say(this.#facts, facts(edge).join(" · "));
    this.#recall(past.filter(([time_s]) => time_s < time_unix_s));
    this.#remember(time_unix_s, edge);
    mark(this.#chart, "aria-label", this.#description(edge));
    this.#draw(time_unix_s);
  }

  /** What the service remembers stands for what was seen here from its beginning on. */
  #recall(points) {
    if (points.length === 0) return;
    const known = this.#times.findIndex((each_s) => each_s >= points[0][0]);
    if (known >= 0) for (const kept of this.#kept()) kept.splice(known);
    for (const point of points) this.#push(...point);
  }

  #remember(time_s, edge) {
    const isFresh = edge.report_age_s !== null && edge.report_age_s < 0.6;
    this.#push(time_s, edge.is_attached ? edge.predicted_backlog_s : null, isFresh ? edge.backlog_s : null);
    const gone = this.#times.findIndex((each_s) => each_s >= time_s - SPAN_S);
    for (const kept of this.#kept()) kept.splice(0, gone);
  }

  #kept() {
    return [this.#times, this.#predicted, this.#reported];
  }

  #push(time_s, predicted_s, reported_s) {
    // A gap in time is a gap in the curve: nothing is known of what lies in it.
    if (time_s - this.#times.at(-1) > 3) this.#push(time_s - 1, null, null);
    this.#times.push(time_s);
    this.#predicted.push(predicted_s);
    this.#reported.push(reported_s);
  }

  #draw(now_s) {
    if (this.#plot === null) {
      if (this.#chart.clientWidth === 0) return;
      this.#plot = chart(this.#chart, this.#chart.clientWidth);
    }
    this.#plot.setData([this.#times.map((time_s) => time_s - now_s), this.#predicted, this.#reported]);
  }

  #resize() {
    if (this.#plot && this.#chart.clientWidth) this.#plot.setSize({ width: this.#chart.clientWidth, height: HEIGHT });
  }

  #description(edge) {
    const top_s = Math.max(...this.#predicted.map((each_s) => each_s ?? 0));
    return `backlog of ${edge.id}: ${seconds(edge.predicted_backlog_s)} now, at most ${seconds(top_s)} in the last two minutes`;
  }
}

export class Edges {
  #past = new Map();

  /** What backlogs were before the next snapshot: points of time, predicted and reported backlog. */
  recall({ edges }) {
    this.#past = new Map(edges.map(({ id, points }) => [id, points]));
  }

  update({ edges, time_unix_s }) {
    const items = edges.map((edge) => ({ edge, time_unix_s, past: this.#past.get(edge.id) ?? [] }));
    this.#past.clear();
    keyed(byId("edge-list"), items, ({ edge }) => edge.id, () => new Edge());
    say(byId("edge-count"), String(edges.length));
    byId("no-edges").hidden = edges.length > 0;
  }
}
