/** Snapshots and pools that grow by policy before they are full (lvextend --use-policies). Pure. LVM2 lib/metadata/lv_manip.c, `_adjust_amount`. */
import { DiskError } from "../../errors.js";
import { parseConfig } from "../config/parse.js";
import type { Entry } from "../config/tree.js";

export interface AutoextendPolicy {
  /** Percent of use beyond which a volume grows; 100: never, below 50 counts as 50. */
  readonly threshold: number;
  /** By so many percent of its size, or what brings it below the threshold when that is more. */
  readonly percent: number;
}

export type AutoextendKind = "snapshot" | "thin_pool";

const LOWEST = 50;

/** Percent of its size by which a volume is to grow; 0: it is not full enough. */
export function autoextendAmount(used: number, { threshold, percent }: AutoextendPolicy): number {
  const limit = Math.max(LOWEST, threshold);
  if (limit >= 100 || used <= limit) return 0;
  return Math.max(percent, Math.ceil((100 * used) / limit - 100));
}

/**
 * The policy that LVM2's configuration states: `activation/snapshot_autoextend_threshold` and its like, as a path or in a section.
 * Of several texts the last one that says something counts; without any nothing grows.
 */
export function autoextendPolicy(kind: AutoextendKind, texts: readonly string[]): AutoextendPolicy {
  const values = new Map<string, unknown>();
  const collect = (entries: readonly Entry[], path: string): void => {
    for (const entry of entries) {
      const key = `${path}${entry.key}`;
      if (entry.kind === "section") collect(entry.entries, `${key}/`);
      else values.set(key, entry.value);
    }
  };
  for (const text of texts) collect(parseConfig(text, "configuration"), "");
  const number = (what: string, fallback: number): number => {
    const key = `activation/${kind}_autoextend_${what}`;
    const value = values.get(key) ?? fallback;
    if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 100_000) return value;
    throw new DiskError("UNSUPPORTED", `Cannot use ${key}: it is ${JSON.stringify(value)}, allowed whole percents`, {
      details: { usage: true },
    });
  };
  return { threshold: number("threshold", 100), percent: number("percent", 20) };
}
