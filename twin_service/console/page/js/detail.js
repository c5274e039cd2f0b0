// The chosen device in full: its strip, how it does, its standing plan, what if, all mirrored fields.

import { bandOf, field } from "./device.js";
import { byId, element, keyed, mark, say } from "./dom.js";
import { bytesPerSecond, count, expected, fieldText, isKnown, number, percent, seconds, UNKNOWN } from "./format.js";
import { legend, PlanTable } from "./plan.js";
import { Strip } from "./strip.js";
import { WhatIf } from "./what_if.js";

/** Pairs of name and value. */
class Fact {
  #value = element("dd", {});

  constructor([name]) {
    this.element = element("div", { class: "fact" }, element("dt", {}, name), this.#value);
  }

  update([, value]) {
    say(this.#value, value);
  }
}

function facts(device) {
  const { uplink, mirror, health } = device;
  const some = [
    ["Queue", expected(device.queue_length)],
    ["Uplink", bytesPerSecond(uplink?.goodput_bytes_per_s)],
    ["Round trip", seconds(uplink?.round_trip_s)],
    ["On the way", count(uplink?.in_flight)],
    ["Mirror right", percent(mirror.accuracy)],
    ["Queue error", number(field(device, "queue_length")?.error)],
    ["Uplink error", bytesPerSecond(field(device, "goodput_bytes_per_s")?.error)],
    ["Report age", seconds(mirror.report_age_s)],
  ];
  if (isKnown(health.cpu_share)) some.push(["CPU", percent(health.cpu_share, 0)]);
  if (isKnown(health.memory_share)) some.push(["Memory", percent(health.memory_share, 0)]);
  if (isKnown(health.temperature_celsius)) some.push(["Temperature", `${Math.round(health.temperature_celsius)} °C`]);
  if (health.is_throttled) some.push(["Throttled", "yes"]);
  if (device.is_degraded) some.push(["Degraded", "yes"]);
  if (device.is_edge_reachable === false) some.push(["Edge", "not reachable"]);
  return some;
}

class FieldRow {
  #cells = Array.from({ length: 6 }, () => element("td"));

  constructor(field) {
    this.element = element("tr", {}, element("th", { scope: "row" }, field.name), ...this.#cells);
  }

  update(field) {
    const texts = [
      ...[field.reported, field.predicted, field.desired].map((value) => fieldText(field, value)),
      isKnown(field.reported) ? seconds(field.age_s) : UNKNOWN,
      fieldText(field, field.error),
      field.source,
    ];
    texts.forEach((text, column) => say(this.#cells[column], text));
  }
}

export class Detail {
  #strip = new Strip(true);
  #facts = element("dl", { class: "facts" });
  #device = null;
  #planTitle = element("h3", { id: "plan-title" }, "Standing plan");
  #planText = element("p", { class: "plan-text" });
  #plan = new PlanTable();
  #legend = legend();
  #answer = null;
  #whatIf = new WhatIf((answer) => this.#showAnswer(answer));
  #fields = element("tbody");
  #rest = element("p", { class: "hint" });

  constructor() {
    const heads = ["field", "reported", "predicted", "desired", "age", "error", "source"];
    const head = element("thead", {}, element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name))));
    const fields = element("table", { class: "fields" }, head, this.#fields);
    byId("device-body").append(
      this.#strip.element,
      this.#facts,
      element(
        "section",
        { class: "plan-part", "aria-labelledby": "plan-title" },
        element("div", { class: "plan-head" }, this.#planTitle, this.#planText),
        this.#whatIf.element, this.#plan.element, this.#legend,
      ),
      element(
        "details",
        { class: "more" },
        element("summary", {}, "All mirrored fields and counts"),
        element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Mirrored fields" }, fields),
        this.#rest,
      ),
    );
  }

  /** The chosen device; undefined where the snapshot has none of that name. */
  update(device, chosen) {
    byId("device-body").hidden = byId("device-state").hidden = device === undefined;
    const none = byId("no-device");
    none.hidden = device !== undefined;
    if (device === undefined) {
      say(byId("device-title"), chosen ?? "No device yet");
      say(byId("device-model"), "");
      say(none, chosen === null ? "A device appears here as soon as it attaches to this twin service; of several replicas each shows its own devices." : "The twin service knows no such device, or it is not among those listed.");
      return;
    }
    say(byId("device-title"), device.id);
    say(byId("device-state"), device.is_attached ? "attached" : "detached");
    mark(byId("device-state"), "data-attached", device.is_attached ? "yes" : "no");
    say(byId("device-model"), modelText(device));
    this.#strip.element.hidden = device.model === null;
    this.#strip.take(device, performance.now());
    keyed(this.#facts, facts(device), ([name]) => name, (fact) => new Fact(fact));
    this.#device = device;
    this.#whatIf.update(device);
    this.#showPlan(device);
    keyed(this.#fields, device.fields, (field) => field.name, (field) => new FieldRow(field));
    say(this.#rest, countsText(device));
  }

  draw(now, isStill) {
    this.#strip.draw(now, isStill);
    const position = this.#strip.position(now, isStill);
    this.#stand(position === null ? null : Math.floor(position));
  }

  #showAnswer(answer) {
    this.#answer = answer;
    if (this.#device) this.#showPlan(this.#device);
  }

  #showPlan({ plan, weights }) {
    const answer = plan && this.#answer;
    say(this.#planTitle, answer ? "Plan that would stand" : "Standing plan");
    say(this.#planText, weights ? planText(plan) : "No plan stands here: it has not attached since the twin service started.");
    this.#plan.element.hidden = this.#legend.hidden = this.#whatIf.element.hidden = plan === null;
    if (plan === null) return;
    if (answer) this.#plan.show("Plan that would stand", answer.then.rows, answer.band_edges_s, answer.now.rows);
    else this.#plan.show("Standing plan", plan.rows, plan.band_edges_s);
  }

  /** Marks the band and the epoch at which the task is drawn, so that strip and grid move together. */
  #stand(epoch) {
    const plan = this.#device?.plan;
    if (!plan) return;
    const edges_s = (this.#answer ?? plan).band_edges_s;
    this.#plan.stand(plan.backlog_s === null ? null : bandOf(edges_s, plan.backlog_s), epoch);
  }
}

function modelText({ model, is_tensors_only }) {
  if (model === null) return "its network is not known yet";
  const held = model.segments.length;
  const parts = [model.name, held < model.whole_segments ? `${held} of ${model.whole_segments} segments` : `${held} segments`];
  if (is_tensors_only) parts.push("frames never leave it");
  return parts.join(" · ");
}

function planText(plan) {
  if (plan === null) return "No plan stands here.";
  const queue = plan.queue_level === 3 ? "3 or more" : String(plan.queue_level);
  const parts = [
    `Plan ${plan.plan_id} by ${plan.rule}`,
    plan.edge_id === null ? "no edge holds the model" : `edge ${plan.edge_id}, backlog ${seconds(plan.backlog_s)}`,
    `shown for queue ${queue}`,
    `lease ${number(plan.lease_s)} s`,
  ];
  if (plan.busy_uplink_from_s !== null) parts.push(`uplink busy for less than ${seconds(plan.busy_uplink_from_s)}`);
  if (plan.age_edges_s.length) parts.push(`task of age ${seconds(plan.age_s ?? 0)}`);
  return parts.join(" · ");
}

function countsText(device) {
  const listed = (counts, text) => Object.entries(counts).map(([name, value]) => `${name} ${text(value)}`).join(", ") || "none yet";
  return [
    `Ended: ${listed(device.outcomes, count)}.`,
    `Reasons: ${listed(device.reasons, count)}.`,
    `Plans sent: ${listed(device.plan_revisions, count)}.`,
    `Messages per task: ${listed(device.messages_per_task, number)}.`,
  ].join(" ");
}
