// A plan as a grid: a row per epoch and evidence, a column per backlog band; where the device stands is marked.

import { element, mark, say } from "./dom.js";
import { decisionText, DECISIONS } from "./device.js";
import { milliseconds } from "./format.js";

/** Neighbouring bands of which no row of any table tells a difference, as `[first, last]`. */
export function columnsOf(tables, bands) {
  const isAlike = (band) => tables.every((rows) => rows.every((row) => row.cells[band] === row.cells[band - 1]));
  const columns = [];
  for (let band = 0; band < bands; band += 1)
    if (band > 0 && isAlike(band)) columns.at(-1)[1] = band;
    else columns.push([band, band]);
  return columns;
}

/** Head of a column: short, and in full for whoever points at it or has it read. */
function bandHead(edges_s, [first, last]) {
  const from = first > 0 ? milliseconds(edges_s[first - 1]) : null;
  const to = last < edges_s.length ? milliseconds(edges_s[last]) : null;
  const [least, most] = [from, to].map((edge) => (Number(edge) > 10 ? String(Math.round(Number(edge))) : edge));
  const short = to !== null ? `< ${most}` : from === null ? "any" : `≥ ${least}`;
  const full = from !== null && to !== null ? `${from} to ${to} ms` : short;
  return element("th", { scope: "col", class: "band", title: full, abbr: full }, short);
}

/** What the colours mean. */
export function legend() {
  const keys = Object.entries(DECISIONS).map(([decision, [name, meaning]]) =>
    element("li", {}, element("span", { class: "key", "data-decision": decision }, name), meaning),
  );
  return element("ul", { class: "legend", "aria-label": "Decisions" }, ...keys);
}

export class PlanTable {
  #caption = element("caption", { class: "unseen" });
  #table = element("table", { class: "plan" }, this.#caption);
  #shape = "";
  #stood = "";
  #cells = [];
  #heads = [];
  #bodies = new Map();

  element = element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Plan" }, this.#table);

  /** `rows` and `band_edges_s` of a plan; `before`: the rows it is compared with, cell by cell. */
  show(name, rows, band_edges_s, before = null) {
    say(this.#caption, name);
    const shape = JSON.stringify([rows, band_edges_s, before]);
    if (shape === this.#shape) return;
    this.#shape = shape;
    this.#stood = "";
    this.#cells = [];
    this.#bodies = new Map();
    const columns = columnsOf(before ? [rows, before] : [rows], band_edges_s.length + 1);
    const hasPayload = rows.some((row) => row.payload);
    this.#table.replaceChildren(this.#caption, this.#head(columns, band_edges_s, hasPayload));
    for (const [index, row] of rows.entries()) {
      const body = this.#body(row.epoch, rows.filter((each) => each.epoch === row.epoch).length);
      body.lastElementChild.append(
        element("th", { scope: "row", class: "evidence" }, row.evidence_text),
        ...this.#runs(row, before?.[index] ?? row, columns),
        ...(hasPayload ? [element("td", { class: "payload" }, row.payload ?? "")] : []),
      );
    }
    this.#table.append(...this.#bodies.values());
  }

  /** Marks the band of the backlog and the epoch of the task; null: none. */
  stand(band, epoch) {
    if (this.#stood === `${band} ${epoch}`) return;
    this.#stood = `${band} ${epoch}`;
    for (const { node, first, last } of this.#heads) mark(node, "data-now", band !== null && first <= band && band <= last);
    for (const { node, first, last } of this.#cells) mark(node, "data-band", band !== null && first <= band && band <= last);
    for (const [of, body] of this.#bodies) mark(body, "data-now", of === epoch);
  }

  #head(columns, edges_s, hasPayload) {
    this.#heads = columns.map(([first, last]) => ({
      node: bandHead(edges_s, [first, last]),
      first,
      last,
    }));
    return element(
      "thead",
      {},
      element(
        "tr",
        {},
        element("th", { scope: "col", rowspan: "2" }, "epoch"),
        element("th", { scope: "col", rowspan: "2", class: "evidence" }, "evidence"),
        element("th", { scope: "colgroup", colspan: String(columns.length), class: "bands" }, "backlog of the edge, ms"),
        ...(hasPayload ? [element("th", { scope: "col", rowspan: "2", class: "payload" }, "what is sent")] : []),
      ),
      element("tr", {}, ...this.#heads.map((head) => head.node)),
    );
  }

  /** Body of an epoch with a new row in it, which the epoch's own head opens. */
  #body(epoch, rows) {
    let body = this.#bodies.get(epoch);
    const row = element("tr");
    if (!body) {
      body = element("tbody");
      this.#bodies.set(epoch, body);
      row.append(element("th", { scope: "rowgroup", rowspan: String(rows), class: "epoch" }, String(epoch)));
    }
    body.append(row);
    return body;
  }

  /** Cells of a row; columns that are decided alike become one cell. */
  #runs(row, before, columns) {
    const runs = [];
    for (const [first, last] of columns) {
      const decision = row.cells[first];
      const was = before.cells[first];
      const run = runs.at(-1);
      if (run && run.decision === decision && run.was === was) Object.assign(run, { last, width: run.width + 1 });
      else runs.push({ decision, was, first, last, width: 1 });
    }
    return runs.map(({ decision, was, first, last, width }) => {
      const node = element("td", { "data-decision": decision ?? "none", colspan: String(width) }, decisionText(decision));
      if (was !== decision) {
        node.dataset.changed = "";
        node.append(was === null ? element("small", { class: "new" }, "new") : element("small", {}, `was ${decisionText(was)}`));
      }
      this.#cells.push({ node, first, last });
      return node;
    });
  }
}
