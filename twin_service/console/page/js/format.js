// Numbers as people read them. Unknown is a dash, never zero.

export const UNKNOWN = "–";

export function isKnown(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function digits(value, significant) {
  const rounded = Number(value.toPrecision(significant));
  if (rounded === 0) return "0";
  const decimals = significant - 1 - Math.floor(Math.log10(Math.abs(rounded)));
  return rounded.toFixed(Math.min(Math.max(decimals, 0), 6));
}

/** Such as `87 ms`, `1.24 s`, `3 min`. */
export function seconds(value) {
  if (!isKnown(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size > 0 && size < 0.00095) return `${digits(value * 1e6, 2)} µs`;
  if (size < 0.9995) return `${digits(value * 1000, size < 0.01 ? 2 : 3)} ms`;
  if (size < 99.5) return `${digits(value, 3)} s`;
  if (size < 5400) return `${Math.round(value / 60)} min`;
  return `${Math.round(value / 3600)} h`;
}

export function milliseconds(value) {
  return isKnown(value) ? digits(value * 1000, Math.abs(value) < 0.01 ? 2 : 3) : UNKNOWN;
}

/** Such as `20.1 kB/s`. */
export function bytesPerSecond(value) {
  if (!isKnown(value)) return UNKNOWN;
  for (const [limit, divisor, unit] of [[999.5, 1, "B/s"], [999.5e3, 1e3, "kB/s"], [Infinity, 1e6, "MB/s"]])
    if (Math.abs(value) < limit) return `${digits(value / divisor, 3)} ${unit}`;
  return UNKNOWN;
}

export function joules(value) {
  if (!isKnown(value)) return UNKNOWN;
  return Math.abs(value) < 0.9995 ? `${digits(value * 1000, 3)} mJ` : `${digits(value, 3)} J`;
}

/** A share of 0..1 as per cent. */
export function percent(value, decimals = 1) {
  return isKnown(value) ? `${(value * 100).toFixed(decimals)} %` : UNKNOWN;
}

export function count(value) {
  return isKnown(value) ? Math.round(value).toLocaleString("en").replaceAll(",", "\u202f") : UNKNOWN;
}

/** An expected count, such as a queue between two reports. */
export function expected(value) {
  return isKnown(value) ? String(Number(value.toFixed(1))) : UNKNOWN;
}

/** Up to three significant digits, without unit. */
export function number(value) {
  return isKnown(value) ? String(Number(value.toPrecision(3))) : UNKNOWN;
}

/** Wall clock of the reader, `18:04:09`. */
export function clock(unix_s) {
  return new Date(unix_s * 1000).toLocaleTimeString("en-GB");
}

const UNITS = { s: seconds, "B/s": bytesPerSecond, J: joules };

/** A field of a twin in its unit; shares and yes-or-no are told by their names, as they have none. */
export function fieldText({ name, unit }, value) {
  if (!isKnown(value)) return UNKNOWN;
  if (name.startsWith("is_")) return value ? "yes" : "no";
  if (name.endsWith("_share")) return percent(value);
  return UNITS[unit]?.(value) ?? `${number(value)} ${unit}`.trim();
}
