// Tasks that ended lately: answer, where it stopped and why, what was compared.

import { byId, element, keyed, mark, say } from "./dom.js";
import { outcomeText } from "./device.js";
import { clock, isKnown, joules, percent, seconds } from "./format.js";
import { tasksOf, thumbnail } from "./service.js";

const SHOWN = 30;
const OPTIONS = [
  ["continue_s", "go on"],
  ["exit_s", "exit"],
  ["offload_s", "edge"],
];
const TAKEN = { exit: "exit_s", edge: "offload_s", device: "continue_s" };
const SCALES_S = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];

/** Gains of a task's options over its least, seconds; empty where fewer than two were compared. */
function gains(payoffs) {
  const known = OPTIONS.filter(([name]) => isKnown(payoffs?.[name]));
  if (known.length < 2) return [];
  const least_s = Math.min(...known.map(([name]) => payoffs[name]));
  return known.map(([name, text]) => ({ name, text, payoff_s: payoffs[name], gain_s: payoffs[name] - least_s }));
}

/** Round length of the longest bar, so that bars of all tasks can be compared and seldom change their scale. */
function scaleOf(tasks) {
  const most_s = Math.max(0, ...tasks.flatMap((task) => gains(task.payoffs).map(({ gain_s }) => gain_s)));
  return SCALES_S.find((scale_s) => scale_s >= most_s) ?? most_s;
}

function where(task) {
  if (task.outcome === "exit" && task.exit !== null) return `exit after segment ${task.exit}`;
  if (task.outcome === "edge" && task.stop_epoch !== null) return `edge, from epoch ${task.stop_epoch}`;
  return outcomeText(task.outcome);
}

function how(task) {
  const parts = [task.reason_text];
  if (task.payload) parts.push(`sent the ${task.payload}${isKnown(task.wire_bytes) ? `, ${task.wire_bytes} bytes` : ""}`);
  if (task.is_degraded) parts.push("degraded");
  return parts.join("; ");
}

class Task {
  #scale_s = 0;
  #payoffs = null;
  #bars = element("ul", { class: "payoffs", "aria-label": "Payoffs compared: gain over the least" });

  constructor({ task }) {
    const picture = element("canvas", { class: "thumbnail", width: "96", height: "96", "aria-hidden": "true" });
    const answer = task.label === null ? "no answer" : task.label;
    const sure = isKnown(task.confidence) ? ` ${percent(task.confidence, 0)}` : "";
    const numbers = [seconds(task.latency_s), joules(task.energy_joules)].join(" · ");
    this.element = element(
      "li",
      { class: "task", "data-outcome": task.outcome },
      picture,
      element(
        "div",
        { class: "task-text" },
        element("p", { class: "task-head" }, element("b", {}, answer), element("span", { class: "sure" }, sure), element("span", { class: "badge" }, where(task))),
        element("p", { class: "task-why" }, how(task)),
        element("p", { class: "task-numbers" }, element("span", {}, task.device), ` · ${clock(task.time_unix_s)} · ${numbers}`),
      ),
      this.#bars,
    );
    if (task.thumbnail) draw(picture, task.thumbnail);
  }

  update({ task, scale_s }) {
    // Payoffs may come later than the task, when it has been replayed.
    if (scale_s === this.#scale_s && task.payoffs === this.#payoffs) return;
    this.#scale_s = scale_s;
    this.#payoffs = task.payoffs;
    const bars = gains(task.payoffs).map((option) => ({ ...option, share: option.gain_s / scale_s, isTaken: TAKEN[task.outcome] === option.name }));
    this.#bars.hidden = bars.length === 0;
    keyed(this.#bars, bars, (bar) => bar.name, () => new Bar());
  }
}

class Bar {
  #name = element("span", { class: "payoff-name" });
  #fill = element("span", { class: "payoff-fill" });
  #value = element("span", { class: "payoff-value" });

  constructor() {
    this.element = element("li", { class: "payoff" }, this.#name, element("span", { class: "payoff-track" }, this.#fill), this.#value);
  }

  update({ name, text, payoff_s, gain_s, share, isTaken }) {
    say(this.#name, text);
    say(this.#value, gain_s === 0 ? "least" : `+${seconds(gain_s)}`);
    this.#fill.style.width = `${(share * 100).toFixed(1)}%`;
    mark(this.element, "data-option", name);
    mark(this.element, "data-taken", isTaken);
    mark(this.element, "title", `${text}: expected utility ${seconds(payoff_s)}${isTaken ? ", taken" : ""}`);
  }
}

async function draw(picture, path) {
  try {
    const bitmap = await thumbnail(path);
    picture.getContext("2d").drawImage(bitmap, 0, 0, picture.width, picture.height);
    bitmap.close();
  } catch {
    // It is kept for a short while only: no picture then.
  }
}

export class Feed {
  #only = byId("feed-only");
  #snapshot = null;
  #chosen = null;
  #asked = null;

  constructor() {
    this.#only.addEventListener("change", () => this.#refresh());
  }

  update(snapshot, chosen) {
    this.#snapshot = snapshot;
    this.#chosen = chosen;
    this.#refresh();
  }

  #refresh() {
    if (this.#snapshot === null) return;
    if (this.#only.checked) this.#showOwn(this.#chosen);
    else this.#show(this.#snapshot.tasks);
  }

  /** Tasks of the chosen device, asked for one at a time. */
  async #showOwn(device) {
    if (device === null || this.#asked === device) return;
    this.#asked = device;
    try {
      const tasks = await tasksOf(device);
      if (this.#only.checked && this.#chosen === device) this.#show(tasks);
    } catch {
      // The stream says what is wrong with the service; what is shown stays until it is back.
    } finally {
      if (this.#asked === device) this.#asked = null;
    }
  }

  #show(all) {
    const tasks = all.slice(0, SHOWN);
    const scale_s = scaleOf(tasks);
    const items = tasks.map((task) => ({ task, scale_s }));
    mark(byId("feed"), "data-pictures", tasks.some((task) => task.thumbnail !== null));
    keyed(byId("feed"), items, ({ task }) => `${task.device}/${task.task_id}/${task.time_unix_s}`, (item) => new Task(item));
    byId("feed").hidden = tasks.length === 0;
    byId("no-tasks").hidden = tasks.length > 0;
  }
}
