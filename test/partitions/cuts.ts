/** What a disk shows while a plan is being written: after every sector the old table or the new one. */
import { expect } from "vitest";
import { DiskError } from "#src/errors.js";
import type { TablePlan } from "#src/partitions/plan.js";
import { readPartitionTable } from "#src/partitions/table.js";
import { disk, meaning } from "./support.js";

const SECTOR = 512;

/** The table of a disk, or the code with which it is refused. */
async function shown(bytes: Uint8Array): Promise<unknown> {
  try {
    return meaning(await readPartitionTable(disk(bytes).device));
  } catch (error) {
    if (error instanceof DiskError) return error.code;
    throw error;
  }
}

/** Applies the plan sector by sector and looks at the disk after each. Returns how many sectors there were. */
export async function tryAllCuts(
  before: Uint8Array,
  plan: TablePlan,
  exactly?: "but where the extended partition begins",
): Promise<number> {
  const text = (value: unknown) => JSON.stringify(value, exactly ? withoutExtended : bigints);
  const bytes = before.slice();
  const old = await shown(bytes);
  const wanted = meaning(plan.after);
  let cuts = 0;
  let switched = false;
  for (const step of plan.steps) {
    if (step.kind === "flush") continue;
    expect(step.offset % SECTOR).toBe(0);
    const data = step.kind === "zero" ? new Uint8Array(step.length) : step.data;
    for (let at = 0; at < data.length; at += SECTOR) {
      bytes.set(data.subarray(at, at + SECTOR), step.offset + at);
      cuts++;
      const now = await shown(bytes);
      const isNew = text(now) === text(wanted);
      if (!isNew) expect(now, `after sector ${cuts}, in "${step.what}"`).toEqual(old);
      // Once the new table has been seen, the old one must not come back.
      if (switched) expect(isNew, `after sector ${cuts}, in "${step.what}"`).toBe(true);
      switched ||= isNew;
    }
  }
  expect(await shown(bytes)).toEqual(wanted);
  return cuts;
}

const withoutExtended = (key: string, value: unknown) =>
  key !== "" && (value as { kind?: string } | null)?.kind === "extended" ? null : bigints(key, value);

const bigints = (_key: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);
