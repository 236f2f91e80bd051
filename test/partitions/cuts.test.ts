/** A cut after any single sector leaves the old table or the new one: every prefix of every plan's sector writes is tried. */
import { describe, expect, it } from "vitest";
import { DiskError } from "#src/errors.js";
import { planAdd } from "#src/partitions/changes/add.js";
import { planInit } from "#src/partitions/changes/init.js";
import { planNewIds } from "#src/partitions/changes/new-ids.js";
import { planRemove } from "#src/partitions/changes/remove.js";
import type { TablePlan } from "#src/partitions/plan.js";
import { readPartitionTable } from "#src/partitions/table.js";
import { add, disk, initialized, MIB, meaning, seededRandom } from "./support.js";

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
export async function tryAllCuts(before: Uint8Array, plan: TablePlan): Promise<number> {
  const bytes = before.slice();
  const old = await shown(bytes);
  const wanted = meaning(plan.after);
  let cuts = 0;
  let switched = false;
  for (const step of plan.steps) {
    if (step.kind === "flush") continue;
    expect(step.offset % SECTOR).toBe(0);
    for (let at = 0; at < step.data.length; at += SECTOR) {
      bytes.set(step.data.subarray(at, at + SECTOR), step.offset + at);
      cuts++;
      const now = await shown(bytes);
      const isNew = JSON.stringify(now, bigints) === JSON.stringify(wanted, bigints);
      if (!isNew) expect(now, `after sector ${cuts}, in "${step.what}"`).toEqual(old);
      // Once the new table has been seen, the old one must not come back.
      if (switched) expect(isNew, `after sector ${cuts}, in "${step.what}"`).toBe(true);
      switched ||= isNew;
    }
  }
  expect(await shown(bytes)).toEqual(wanted);
  return cuts;
}

const bigints = (_key: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);

describe("every prefix of the writes shows the old table or the new one", () => {
  for (const sectorSize of [512, 4096] as const) {
    it(`init gpt on an empty disk, ${sectorSize}-byte sectors`, async () => {
      const { bytes, device } = disk(4 * MIB);
      expect(
        await tryAllCuts(bytes, planInit(device, null, { format: "gpt", sectorSize }, seededRandom())),
      ).toBeGreaterThan(60);
    });
    it(`add and rm, ${sectorSize}-byte sectors`, async () => {
      const made = await initialized(8 * MIB, "gpt", sectorSize);
      for (const name of ["one", "two", "three"]) {
        await tryAllCuts(made.bytes, planAdd(await made.table(), { size: MIB, name }, made.random));
        await add(made, { size: MIB, name });
      }
      await tryAllCuts(made.bytes, planRemove(await made.table(), 2));
      await tryAllCuts(made.bytes, planNewIds(await made.table(), seededRandom(9)).plan);
    });
  }

  it("init mbr on an empty disk", async () => {
    const { bytes, device } = disk(4 * MIB);
    expect(await tryAllCuts(bytes, planInit(device, null, { format: "mbr" }, seededRandom()))).toBe(1);
  });

  it("init gpt over an mbr with logical partitions, and back", async () => {
    const made = await initialized(16 * MIB, "mbr");
    await add(made, { size: MIB });
    await add(made, { size: MIB, logical: true });
    await add(made, { size: MIB, logical: true });
    const plan = planInit(made.device, await made.table(), { format: "gpt", force: true }, seededRandom(3));
    await tryAllCuts(made.bytes, plan);
    const gpt = await initialized(16 * MIB, "gpt");
    await add(gpt, { size: MIB });
    await tryAllCuts(
      gpt.bytes,
      planInit(gpt.device, await gpt.table(), { format: "mbr", force: true }, seededRandom(4)),
    );
  });

  it.each([
    [512, 4096],
    [4096, 512],
  ] as const)("init gpt of %i-byte sectors over one of %i", async (after, before) => {
    const made = await initialized(8 * MIB, "gpt", before);
    await add(made, { size: MIB });
    const plan = planInit(
      made.device,
      await made.table(),
      { format: "gpt", sectorSize: after, force: true },
      seededRandom(5),
    );
    await tryAllCuts(made.bytes, plan);
  });

  it.each(["primary", "backup"])("add with a bad %s copy", async (copy) => {
    for (const what of ["header", "entries"]) {
      const made = await initialized(8 * MIB, "gpt");
      await add(made, { size: MIB, name: "kept" });
      const header = copy === "primary" ? 512 : made.bytes.length - 512;
      const at = what === "header" ? header : copy === "primary" ? 1024 : header - 16384;
      made.bytes[at + 40]! ^= 0xff;
      await tryAllCuts(made.bytes, planAdd(await made.table(), { size: MIB }, made.random));
    }
  });

  it("add on a disk that has grown, also with its primary gone", async () => {
    for (const damaged of [false, true]) {
      const made = await initialized(8 * MIB, "gpt");
      await add(made, { size: MIB, name: "kept" });
      const grown = disk(16 * MIB);
      grown.bytes.set(made.bytes);
      if (damaged) grown.bytes.fill(0xa5, 512, 1024);
      await tryAllCuts(grown.bytes, planAdd(await grown.table(), { size: 8 * MIB }, made.random));
    }
  });

  it("mbr: primary and logical partitions, first, in the middle, last", async () => {
    const made = await initialized(32 * MIB, "mbr");
    for (const request of [
      { size: MIB },
      { size: MIB, number: 3 },
      { size: MIB, logical: true },
      { size: MIB, logical: true },
      { size: MIB, logical: true },
    ]) {
      await tryAllCuts(made.bytes, planAdd(await made.table(), request, made.random));
      await add(made, request);
    }
    for (const number of [1, 2, 5, 6, 7]) await tryAllCuts(made.bytes, planRemove(await made.table(), number));
    await tryAllCuts(made.bytes, planNewIds(await made.table(), seededRandom(2)).plan);
  });
});
