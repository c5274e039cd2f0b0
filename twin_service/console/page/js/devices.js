// The list of devices: filter, choice by mouse and keyboard, a small strip for each, pages where there are very many.

import { byId, element, keyed, mark, say } from "./dom.js";
import { count, expected, percent } from "./format.js";
import { Strip } from "./strip.js";

/** As many devices as one snapshot holds at most. */
const PAGE = 200;

let rowsMade = 0;

class Row {
  #device = null;
  #strip = new Strip(false);
  #name = element("span", { class: "row-name" });
  #queue = element("span", { class: "row-queue" });
  #mirror = element("span", { class: "row-mirror" });

  constructor(device) {
    const id = `device-option-${(rowsMade += 1)}`;
    const parts = [this.#name, this.#queue, this.#strip.element, this.#mirror];
    this.element = element("li", { class: "row", role: "option", id, "aria-selected": "false" }, ...parts);
    this.element.dataset.device = device.id;
  }

  update(device) {
    if (device === this.#device) return;
    this.#device = device;
    say(this.#name, device.id);
    say(this.#queue, device.is_attached ? `queue ${expected(device.queue_length)}` : "detached");
    say(this.#mirror, device.is_attached ? `mirror ${percent(device.mirror.accuracy, 0)}` : "");
    mark(this.element, "data-attached", device.is_attached ? "yes" : "no");
    this.#strip.take(device, performance.now());
  }

  draw(now, isStill) {
    this.#strip.draw(now, isStill);
  }
}

export class Devices {
  #list = byId("device-list");
  #filter = byId("filter");
  #rows = new Map();
  #inView = new Set();
  #devices = [];
  #shown = [];
  #chosen;
  #onChoice;
  #onPage;
  #observer;

  /** `onChoice(id)`: another device was chosen; `onPage(offset)`: devices from this one on are wanted. */
  constructor(onChoice, onPage) {
    this.#onChoice = onChoice;
    this.#onPage = onPage;
    this.#chosen = new URLSearchParams(location.hash.slice(1)).get("device") || null;
    this.#observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries)
        if (isIntersecting) this.#inView.add(target.dataset.device);
        else this.#inView.delete(target.dataset.device);
    });
    this.#filter.addEventListener("input", () => this.#render());
    this.#filter.addEventListener("keydown", (event) => this.#onKey(event));
    this.#list.addEventListener("keydown", (event) => this.#onKey(event));
    this.#list.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) this.choose(row.dataset.device);
    });
  }

  /** Id of the chosen device; null before there is one. */
  get chosen() {
    return this.#chosen;
  }

  update(snapshot) {
    this.#devices = snapshot.devices;
    if (this.#chosen === null && this.#devices.length) this.#chosen = this.#devices[0].id;
    this.#render();
    this.#pages(snapshot);
  }

  /** Moves what can be seen; the rest of a long list costs nothing. */
  draw(now, isStill) {
    for (const id of this.#inView) this.#rows.get(id)?.draw(now, isStill);
  }

  choose(id) {
    if (id === this.#chosen) return;
    this.#chosen = id;
    history.replaceState(null, "", `#${new URLSearchParams({ device: id })}`);
    this.#render();
    this.#rows.get(id)?.element.scrollIntoView({ block: "nearest" });
    this.#onChoice(id);
  }

  #render() {
    const wanted = this.#filter.value.trim().toLowerCase();
    this.#shown = this.#devices.filter((device) => `${device.id} ${device.model?.name ?? ""}`.toLowerCase().includes(wanted));
    this.#rows = keyed(this.#list, this.#shown, (device) => device.id, (device) => {
      const row = new Row(device);
      this.#observer.observe(row.element);
      return row;
    });
    for (const [id, row] of this.#rows) mark(row.element, "aria-selected", id === this.#chosen ? "true" : "false");
    mark(this.#list, "aria-activedescendant", this.#rows.get(this.#chosen)?.element.id);
    this.#list.hidden = this.#shown.length === 0;
    const none = byId("no-devices");
    none.hidden = this.#shown.length > 0 || this.#devices.length === 0;
    say(none, "No device is called so.");
  }

  #pages({ devices_total: total, devices_offset: offset }) {
    const last = offset + this.#devices.length;
    const isPaged = offset > 0 || last < total;
    say(byId("device-count"), isPaged ? `${count(offset + 1)} to ${count(last)} of ${count(total)}` : count(total));
    const pages = byId("device-pages");
    pages.hidden = !isPaged;
    const [before, after] = pages.querySelectorAll("button");
    before.disabled = offset === 0;
    after.disabled = last >= total;
    before.onclick = () => this.#onPage(Math.max(0, offset - PAGE));
    after.onclick = () => this.#onPage(last);
  }

  #onKey(event) {
    const last = this.#shown.length - 1;
    const at = this.#shown.findIndex((device) => device.id === this.#chosen);
    const steps = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0) };
    if (event.currentTarget === this.#list) Object.assign(steps, { Home: 0, End: last });
    const to = steps[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.choose(this.#shown[to].id);
  }
}
