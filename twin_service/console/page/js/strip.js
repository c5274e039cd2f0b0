// The network of one device as a strip: segments as wide as they take time, exits, the task that moves along.

import { element, mark, say } from "./dom.js";
import { reportedEpoch } from "./device.js";
import { seconds } from "./format.js";
import { Position } from "./motion.js";

/** No segment is drawn narrower than this share, however fast it is. */
const LEAST_SHARE = 0.05;

export class Strip {
  #isLarge;
  #position = new Position();
  #bounds = [0];
  #shape = "";
  #segments = element("div", { class: "strip-segments" });
  #exits = element("div", { class: "strip-exits" });
  #fill = element("div", { class: "strip-fill" });
  #predicted = element("div", { class: "strip-marker strip-predicted" });
  #reported = element("div", { class: "strip-marker strip-reported" });
  #idle = element("p", { class: "strip-idle" }, "idle: no task in service");
  #predictedText = element("span", { class: "strip-text" });
  #reportedText = element("span", { class: "strip-text" });

  /** `isLarge`: with numbers, times and labels, for the chosen device. */
  constructor(isLarge) {
    this.#isLarge = isLarge;
    this.#predicted.append(this.#predictedText);
    this.#reported.append(this.#reportedText);
    const rail = element("div", { class: "strip-rail" }, this.#segments, this.#fill);
    const name = isLarge ? "strip strip-large" : "strip";
    this.element = element("div", { class: name, role: "img" }, this.#predicted, rail, this.#exits, this.#reported);
    if (isLarge) this.element.append(this.#idle);
  }

  /** A snapshot of the device at `now` (ms of performance.now). */
  take(device, now) {
    this.#rebuild(device.model);
    this.#position.take(device.task, now);
    const epoch = reportedEpoch(device);
    this.#place(this.#reported, epoch);
    this.#idle.hidden = device.task !== null || device.model === null;
    if (epoch !== null && this.#isLarge) say(this.#reportedText, `reported: epoch ${epoch}`);
    mark(this.element, "aria-label", this.#description(device, epoch));
  }

  /** Where the task is drawn, 0..segments; null while idle. Without motion: where the snapshot said. */
  position(now, isStill) {
    return isStill ? this.#position.told : this.#position.at(now);
  }

  draw(now, isStill) {
    const position = this.position(now, isStill);
    this.#place(this.#predicted, position);
    this.#place(this.#fill, position);
    if (position === null) return;
    const isThrough = position >= this.#bounds.length - 1;
    mark(this.#predicted, "data-through", isThrough);
    if (this.#isLarge) say(this.#predictedText, `predicted: ${isThrough ? "through" : `in segment ${Math.floor(position) + 1}`}`);
  }

  /** Share of the strip's width at a position 0..segments. */
  #share(position) {
    const last = this.#bounds.length - 1;
    const within = Math.min(Math.max(position, 0), last);
    const below = Math.min(Math.floor(within), last - 1);
    return this.#bounds[below] + (within - below) * (this.#bounds[below + 1] - this.#bounds[below]);
  }

  #place(node, position) {
    node.hidden = position === null || this.#bounds.length < 2;
    if (node.hidden) return;
    const share = this.#share(position);
    node.style.setProperty("--share", share.toFixed(4));
    mark(node, "data-side", share > 0.5 ? "left" : "right");
  }

  #rebuild(model) {
    const shape = JSON.stringify([model?.segments, model?.exits]);
    if (shape === this.#shape) return;
    this.#shape = shape;
    const segments = model?.segments ?? [];
    this.#bounds = bounds(segments.map((segment) => segment.service_s));
    this.#segments.replaceChildren(...segments.map((segment, k) => this.#segment(segment, k)));
    this.#exits.replaceChildren(...(model?.exits ?? []).map((exit) => this.#exit(exit)));
  }

  #segment(segment, k) {
    const node = element("div", { class: "strip-segment" });
    node.style.flexBasis = `${(this.#bounds[k + 1] - this.#bounds[k]) * 100}%`;
    if (this.#isLarge) {
      const time = seconds(segment.service_s);
      node.title = `${segment.name}: ${time}`;
      node.append(element("b", {}, String(k + 1)), element("span", { class: "strip-time" }, time));
    }
    return node;
  }

  #exit(exit) {
    const node = element("div", { class: "strip-exit", "data-run": exit.is_run === false ? "no" : "yes" });
    node.style.setProperty("--share", this.#share(exit.after_segment).toFixed(4));
    if (this.#isLarge) node.append(element("span", {}, `exit ${exit.after_segment}`));
    return node;
  }

  #description(device, epoch) {
    const segments = this.#bounds.length - 1;
    if (segments < 1) return "its network is not known yet";
    const named = device.model.exits.map((exit) => `${exit.after_segment}${exit.is_run === false ? " (not run)" : ""}`);
    const exits = named.join(" and ");
    const made = `${segments} segments${exits ? `, exits after ${exits}` : ""}`;
    if (device.task === null) return `${made}; idle`;
    const at = device.task.position >= segments ? "through" : `in segment ${Math.floor(device.task.position) + 1}`;
    return `${made}; task predicted ${at}${epoch === null ? "" : `, reported at epoch ${epoch}`}`;
  }
}

/** Borders of the segments as shares of the width: in proportion to service times, alike where those are unknown. */
function bounds(service_s) {
  const isKnown = service_s.every((time_s) => time_s > 0);
  const total_s = service_s.reduce((sum, time_s) => sum + time_s, 0);
  const shares = service_s.map((time_s) => Math.max(isKnown ? time_s / total_s : 1, LEAST_SHARE));
  const total = shares.reduce((sum, share) => sum + share, 0);
  const borders = [0];
  for (const share of shares) borders.push(borders.at(-1) + share / total);
  return borders;
}
