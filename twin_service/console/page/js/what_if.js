// What if: sliders whose plan the service reckons without touching the device, and weights applied apart from that.

import { element, mark, say } from "./dom.js";
import { bytesPerSecond, number } from "./format.js";
import { applyWeights, hasToken, Refused, whatIf } from "./service.js";
import { askToken, forgetToken } from "./token.js";

const PAUSE_MS = 250;
const TRY_AGAIN_MS = 1000;
/** Where a weight is 0 now, the slider's middle. */
const FALLBACK = { alpha_s: 2.5, beta_s_per_joule: 0.05 };

/** A slider from a tenth to ten times the present value; in the middle everything stays as it is. */
class Slider {
  #name;
  #text;
  #base = null;
  #isZero = false;
  /** No <output>: that is a live region, and a link rate moves all the time. */
  #shown = element("span", { class: "slider-value" });

  constructor(name, title, text, onInput) {
    this.#name = name;
    this.#text = text;
    const id = `what-if-${name.replaceAll("_", "-")}`;
    this.input = element("input", { type: "range", id, min: "-1", max: "1", step: "0.05", value: "0" });
    this.input.addEventListener("input", () => {
      this.#show();
      onInput();
    });
    this.element = element("div", { class: "slider" }, element("label", { for: id }, title), this.input, this.#shown);
  }

  /** The present value, which the middle stands for; it is not moved while the slider is off the middle. */
  anchor(value) {
    if (this.isMoved) return;
    this.#base = (value === 0 ? FALLBACK[this.#name] : value) ?? null;
    this.#isZero = value === 0;
    this.input.disabled = this.#base === null;
    this.#show();
  }

  get isMoved() {
    return Number(this.input.value) !== 0;
  }

  get value() {
    if (!this.isMoved) return this.#isZero ? 0 : this.#base;
    return Number((this.#base * 10 ** Number(this.input.value)).toPrecision(3));
  }

  reset() {
    this.input.value = "0";
  }

  #show() {
    const text = this.#text(this.value);
    say(this.#shown, text);
    mark(this.input, "aria-valuetext", this.isMoved ? text : `${text}, as it is`);
    mark(this.element, "data-moved", this.isMoved);
  }
}

export class WhatIf {
  #device = null;
  #timer = 0;
  #abort = null;
  #onAnswer;
  #status = element("p", { class: "what-if-status", role: "status" });
  #apply = element("button", { type: "button", class: "strong", id: "apply-weights" }, "Apply weights");
  #reset = element("button", { type: "button", class: "quiet" }, "As it is");
  #applied = element("p", { class: "applied", role: "status", id: "applied" });
  #sliders = {
    alpha_s: this.#slider("alpha_s", "alpha: a right answer", (value) => `${number(value)} s`),
    beta_s_per_joule: this.#slider("beta_s_per_joule", "beta: a joule", (value) => `${number(value)} s`),
    goodput_bytes_per_s: this.#slider("goodput_bytes_per_s", "link rate", bytesPerSecond),
  };

  /** `onAnswer(answer)`: the service's answer is to be shown; null: the standing plan again. */
  constructor(onAnswer) {
    this.#onAnswer = onAnswer;
    const sliders = Object.values(this.#sliders).map((slider) => slider.element);
    const buttons = element("div", { class: "what-if-buttons" }, this.#reset, this.#apply);
    this.element = element(
      "div",
      { class: "what-if", role: "group", "aria-labelledby": "what-if-title" },
      element("h4", { id: "what-if-title" }, "What if"),
      element("div", { class: "sliders" }, ...sliders),
      element("div", { class: "what-if-end" }, element("div", {}, this.#status, this.#applied), buttons),
    );
    this.#reset.addEventListener("click", () => this.#clear());
    this.#apply.addEventListener("click", () => this.#applyNow());
    this.#clear();
  }

  /** A snapshot of the chosen device. */
  update(device) {
    if (this.#device?.id !== device.id) {
      this.#device = device;
      say(this.#applied, "");
      this.#clear();
    }
    this.#device = device;
    this.#anchor();
    this.#buttons();
  }

  #slider(name, title, text) {
    return new Slider(name, title, text, () => this.#later(PAUSE_MS));
  }

  #anchor() {
    const { weights, uplink } = this.#device;
    this.#sliders.alpha_s.anchor(weights?.alpha_s);
    this.#sliders.beta_s_per_joule.anchor(weights?.beta_s_per_joule);
    this.#sliders.goodput_bytes_per_s.anchor(uplink?.goodput_bytes_per_s);
  }

  #wish() {
    const moved = Object.entries(this.#sliders).filter(([, slider]) => slider.isMoved);
    return Object.fromEntries(moved.map(([name, slider]) => [name, slider.value]));
  }

  #clear() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    for (const slider of Object.values(this.#sliders)) slider.reset();
    if (this.#device) this.#anchor();
    say(this.#status, "Move a slider to see the plan that would stand; the device goes on undisturbed.");
    this.#buttons();
    this.#onAnswer(null);
  }

  #buttons() {
    const wish = this.#wish();
    this.#reset.disabled = Object.keys(wish).length === 0;
    this.#apply.disabled = !("alpha_s" in wish || "beta_s_per_joule" in wish);
  }

  #later(pause_ms) {
    clearTimeout(this.#timer);
    this.#buttons();
    if (Object.keys(this.#wish()).length === 0) this.#clear();
    else this.#timer = setTimeout(() => this.#ask(), pause_ms);
  }

  async #ask() {
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    try {
      const answer = await whatIf(this.#device.id, this.#wish(), abort.signal);
      if (!abort.signal.aborted) this.#show(answer);
    } catch (error) {
      if (abort.signal.aborted) return;
      if (error.status === 429) {
        this.#later(TRY_AGAIN_MS);
        return;
      }
      this.#onAnswer(null);
      say(this.#status, error instanceof Refused ? error.message : "The twin service could not be asked.");
    }
  }

  #show(answer) {
    const changes = answer.differing.length;
    const exits = JSON.stringify(answer.now.exits_run) === JSON.stringify(answer.then.exits_run) ? "" : " Other exits would be run.";
    say(this.#status, `${changes} of ${answer.cells} cells would decide otherwise.${exits}`);
    this.#onAnswer(answer);
  }

  async #applyNow() {
    const device = this.#device;
    const { alpha_s, beta_s_per_joule } = this.#wish();
    const weights = { version: device.version, alpha_s, beta_s_per_joule };
    let why = "Applying weights changes a running system.";
    for (;;) {
      if (!hasToken() && !(await askToken(why))) return;
      try {
        await applyWeights(device.id, weights);
        this.#clear();
        say(this.#applied, `Applied to ${device.id}: the twin service plans with these weights from now on.`);
        return;
      } catch (error) {
        say(this.#applied, error instanceof Refused ? `Not applied: ${error.message}` : "Not applied: the twin service could not be reached.");
        if (!error.isAboutToken) return;
        forgetToken();
        why = error.message;
      }
    }
  }
}
