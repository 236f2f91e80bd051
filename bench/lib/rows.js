/**
 * One measured figure.
 * @typedef {object} Row
 * @property {string} name
 * @property {number | null} ours    median; null where ours was not measured
 * @property {number | null} peer    median in the same run; null where nobody else does it
 * @property {string} peerName       what was measured beside it, "" without a peer
 * @property {string} unit           "ms", "s", "MiB", "IOPS", "GB/s" ...
 * @property {"lower" | "higher"} better
 * @property {number | null} target  bound of the ratio ours/peer; of ours itself where there is no peer; null: told, not judged
 * @property {number} [slack]        in `unit`: with better "lower", ours within peer + slack is met whatever the ratio
 * @property {number | null} [ratio] ours/peer; filled in by completeRow
 * @property {string} [note]         why a figure is missing, or how to read it
 */

/** The row with its ratio, checked: a typing error in a module must not be printed as a result. */
export function completeRow(row) {
  for (const key of ["ours", "peer", "target"])
    if (row[key] !== null && !Number.isFinite(row[key]))
      throw new TypeError(`row '${row.name}': ${key} is ${row[key]}, a number or null is needed`);
  if (row.better !== "lower" && row.better !== "higher")
    throw new TypeError(`row '${row.name}': better is ${row.better}`);
  const ratio = row.ours !== null && row.peer !== null && row.peer > 0 ? row.ours / row.peer : null;
  return { ...row, ratio: ratio === null ? null : round(ratio, 3) };
}

/** Whether the target is met; null when there is nothing to judge. */
export function isMet(row) {
  if (row.target === null || row.ours === null) return null;
  if (row.peer === null) return row.better === "lower" ? row.ours <= row.target : row.ours >= row.target;
  if (row.slack !== undefined && row.better === "lower" && row.ours <= row.peer + row.slack) return true;
  return row.better === "lower" ? row.ratio <= row.target : row.ratio >= row.target;
}

/** The target in words: "at most 1.5x", "at least 200 000 IOPS". */
export function targetText(row) {
  if (row.target === null) return "";
  const bound = row.better === "lower" ? "at most" : "at least";
  const value = row.peer === null && row.peerName === "" ? `${figure(row.target)} ${row.unit}` : `${row.target}x`;
  return `${bound} ${value}${row.slack === undefined ? "" : ` or +${row.slack} ${row.unit}`}`;
}

/** Three significant digits, thousands apart; "-" for null. */
export function figure(value) {
  if (value === null) return "-";
  const rounded = value === 0 ? 0 : Number(value.toPrecision(3));
  const [whole, fraction] = String(rounded).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, "\u00a0");
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

export function round(value, digits) {
  return Number(value.toFixed(digits));
}
