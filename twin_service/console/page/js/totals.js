// Totals over all tasks, and where they ended.

import { byId, element, keyed, say } from "./dom.js";
import { OUTCOMES, outcomeText } from "./device.js";
import { count, joules, number, percent, seconds } from "./format.js";

function tiles(totals, weights) {
  return [
    ["Tasks ended", count(totals.tasks), `in ${seconds(totals.since_s)}`],
    ["Accuracy", percent(totals.accuracy), "as calibrated"],
    ["Latency, mean", seconds(totals.latency_mean_s), `answered: ${percent(totals.answered_share)}`],
    ["Latency, 95 %", seconds(totals.latency_p95_s), weights.deadline_s ? `deadline ${seconds(weights.deadline_s)}` : "no deadline"],
    ["Energy per task", joules(totals.energy_joules), `source: ${totals.energy_source ?? "unknown"}`],
    ["Messages per task", number(totals.messages_per_task), "to and from the twin"],
  ];
}

class Tile {
  #value = element("dd", { class: "tile-value" });
  #note = element("dd", { class: "tile-note" });

  constructor([name]) {
    this.element = element("div", { class: "tile" }, element("dt", {}, name), this.#value, this.#note);
  }

  update([, value, note]) {
    say(this.#value, value);
    say(this.#note, note);
  }
}

class Part {
  constructor([outcome]) {
    this.element = element("span", { "data-outcome": outcome });
  }

  update([, share]) {
    this.element.style.flexGrow = String(share);
  }
}

class Legend {
  #text = element("span");

  constructor([outcome]) {
    this.element = element("li", { "data-outcome": outcome }, this.#text);
  }

  update([outcome, share]) {
    say(this.#text, `${outcomeText(outcome)} ${percent(share, share < 0.01 ? 1 : 0)}`);
  }
}

export class Totals {
  #bar = element("div", { class: "outcome-bar", "aria-hidden": "true" });
  #legend = element("ul", { class: "outcome-legend", "aria-label": "Where tasks ended" });

  constructor() {
    byId("outcomes").append(this.#bar, this.#legend);
  }

  update(snapshot) {
    const { totals, weights } = snapshot;
    keyed(byId("totals"), tiles(totals, weights), ([name]) => name, (tile) => new Tile(tile));
    const all = Object.values(totals.outcomes).reduce((sum, tasks) => sum + tasks, 0);
    const names = [...new Set([...Object.keys(OUTCOMES), ...Object.keys(totals.outcomes)])];
    const shares = names.filter((name) => totals.outcomes[name] > 0).map((name) => [name, totals.outcomes[name] / all]);
    keyed(this.#bar, shares, ([name]) => name, (share) => new Part(share));
    keyed(this.#legend, shares, ([name]) => name, (share) => new Legend(share));
    say(byId("rule"), ruleText(snapshot));
  }
}

function ruleText({ rule, weights }) {
  const parts = [`rule ${rule}`, `alpha ${number(weights.alpha_s)} s`, `beta ${number(weights.beta_s_per_joule)} s/J`];
  return parts.join(" · ");
}
