// What the page knows by name: fields of a twin, decisions, outcomes, backlog bands.

/** A mirrored field by name; undefined where the twin has none. */
export function field(device, name) {
  return device.fields.find((each) => each.name === name);
}

/** Epoch as last reported; null while idle or unknown. */
export function reportedEpoch(device) {
  return device.task ? field(device, "epoch")?.reported ?? null : null;
}

/** Position of the band that holds `backlog_s`, as plans count them. */
export function bandOf(edges_s, backlog_s) {
  return edges_s.filter((edge_s) => edge_s <= backlog_s).length;
}

/** Decisions of a plan's cells: their names in a snapshot, on the page, and what they mean. */
export const DECISIONS = {
  continue: ["go on", "to the next segment"],
  exit: ["exit", "answer of the last exit"],
  tensor: ["tensor", "sent to the edge"],
  input: ["input", "sent to the edge"],
};

export function decisionText(decision) {
  return DECISIONS[decision]?.[0] ?? decision ?? "cannot occur";
}

/** Where a task ended, in the order in which shares are drawn. */
export const OUTCOMES = {
  exit: "at an exit",
  device: "on the device",
  edge: "at the edge",
  dropped: "dropped",
  failed: "failed",
};

export function outcomeText(outcome) {
  return OUTCOMES[outcome] ?? outcome;
}
