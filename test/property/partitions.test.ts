/** Any sequence of changes keeps a table sound, and any mutated sector is read or refused. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { DiskError } from "#src/errors.js";
import { planAdd } from "#src/partitions/changes/add.js";
import { planApply } from "#src/partitions/changes/apply.js";
import { planConvert } from "#src/partitions/changes/convert.js";
import { planInit } from "#src/partitions/changes/init.js";
import { planRemove } from "#src/partitions/changes/remove.js";
import { planRepair, planSalvage } from "#src/partitions/changes/repair.js";
import { planResize } from "#src/partitions/changes/resize.js";
import { planSet } from "#src/partitions/changes/set.js";
import type { TablePlan } from "#src/partitions/plan.js";
import { parseLayout } from "#src/partitions/script/parse.js";
import { printScript } from "#src/partitions/script/sfdisk-script.js";
import { toSfdiskJson } from "#src/partitions/sfdisk-json.js";
import { type PartitionTable, readPartitionTable } from "#src/partitions/table.js";
import { writePlan } from "#src/partitions/write.js";
import { tryAllCuts } from "../partitions/cuts.js";
import { FIXTURES, fixture } from "../partitions/fixtures.js";
import { disk, MIB, meaning, seededRandom, sparseDevice } from "../partitions/support.js";

type Change =
  | { kind: "add"; size: number; logical: boolean; name: string; number: number | undefined }
  | { kind: "remove"; number: number }
  | { kind: "resize"; number: number; by: number }
  | { kind: "set"; number: number; bootable: boolean; type: string }
  | { kind: "convert"; label: "gpt" | "dos" };

const number = fc.integer({ min: 1, max: 16 });
const change: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("add" as const),
      size: fc.integer({ min: 1, max: 40 * MIB }),
      logical: fc.boolean(),
      name: fc.string({ unit: "grapheme", maxLength: 8 }),
      number: fc.option(number, { nil: undefined }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("remove" as const), number }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("resize" as const),
      number,
      by: fc.integer({ min: -20 * MIB, max: 20 * MIB }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("set" as const),
      number,
      bootable: fc.boolean(),
      type: fc.constantFrom("linux", "swap", "lvm", "fat32"),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("convert" as const),
      label: fc.constantFrom("gpt" as const, "dos" as const),
    }),
  },
);

function plan(table: PartitionTable, wanted: Change, random: (size: number) => Uint8Array): TablePlan {
  const isGpt = table.label === "gpt";
  switch (wanted.kind) {
    case "add":
      return planAdd(
        table,
        { size: wanted.size, number: wanted.number, ...(isGpt ? { name: wanted.name } : { logical: wanted.logical }) },
        random,
      );
    case "remove":
      return planRemove(table, wanted.number);
    case "resize":
      return planResize(table, wanted.number, { by: wanted.by });
    case "set":
      return planSet(table, wanted.number, wanted);
    case "convert":
      return planConvert(table, { label: wanted.label }, random);
  }
}

test("any sequence of changes gives the table that was planned, sound and convertible to a script and back", async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom("gpt", "mbr"), fc.array(change, { maxLength: 25 }), async (format, changes) => {
      const device = sparseDevice(512 * MIB, "a.dsk");
      const random = seededRandom();
      await writePlan(device, planInit(device, null, { format }, random));
      for (const wanted of changes) {
        const before = (await readPartitionTable(device))!;
        try {
          const planned = plan(before, wanted, random);
          await writePlan(device, planned);
          expect(meaning(await readPartitionTable(device))).toEqual(meaning(planned.after));
        } catch (error) {
          if (!(error instanceof DiskError)) throw error;
          expect(meaning(await readPartitionTable(device))).toEqual(meaning(before)); // refused: nothing was written
        }
      }
      const table = (await readPartitionTable(device))!;
      expect(table.problems).toEqual([]);
      expect(table.partitions.every((partition) => partition.number <= 15)).toBe(true);
      for (const text of [printScript(table, "a.dsk"), JSON.stringify(toSfdiskJson(table, "a.dsk"))])
        expect(planApply(device, table, parseLayout(text), random).steps).toEqual([]);
    }),
    { numRuns: 60 },
  );
});

test("any sequence of changes shows the old table or the new one after every sector", async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom("gpt", "mbr"), fc.array(change, { maxLength: 12 }), async (format, changes) => {
      const { bytes, device } = disk(64 * MIB);
      const random = seededRandom();
      await writePlan(device, planInit(device, null, { format }, random));
      for (const wanted of changes) {
        let planned: TablePlan;
        try {
          planned = plan((await readPartitionTable(device))!, wanted, random);
        } catch (error) {
          if (!(error instanceof DiskError)) throw error;
          continue;
        }
        await tryAllCuts(bytes, planned, "but where the extended partition begins");
        await writePlan(device, planned);
      }
    }),
    { numRuns: 10 },
  );
});

const mutations = fc.array(fc.record({ at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) }), {
  minLength: 1,
  maxLength: 12,
});

test("mutated sectors are read or refused, also by repair", async () => {
  const small = FIXTURES.filter((name) => !["gpt-twenty"].includes(name)).map((name) => [name, fixture(name)] as const);
  await fc.assert(
    fc.asyncProperty(fc.nat(small.length - 1), mutations, fc.boolean(), async (which, changes, everywhere) => {
      const [name, whole] = small[which]!;
      const bytes = whole.slice();
      const places = interesting(name, whole);
      for (const { at, value } of changes) bytes[everywhere ? at % bytes.length : places[at % places.length]!] = value;
      const device = memoryDevice(bytes);
      for (const attempt of [() => readPartitionTable(device), () => planSalvage(device, seededRandom())]) {
        try {
          const found = await attempt();
          if (found && "label" in found) {
            for (const partition of found.partitions)
              expect(Number.isSafeInteger(partition.offset + partition.size)).toBe(true);
            planRepair(found, seededRandom());
          }
        } catch (error) {
          if (!(error instanceof DiskError)) throw error;
          expect(["CORRUPT", "UNSUPPORTED", "DENIED", "NO_SPACE"]).toContain(error.code);
        }
      }
    }),
    { numRuns: 300 },
  );
});

/** Bytes that a table is made of: a change there is worth more than one in a hole. */
function interesting(name: string, bytes: Uint8Array): number[] {
  const range = (from: number, length: number) => Array.from({ length }, (_, i) => from + i);
  if (name.startsWith("gpt"))
    return [
      ...range(440, 72),
      ...range(512, 92),
      ...range(1024, 512),
      ...range(bytes.length - 512, 92),
      ...range(bytes.length - 16896, 256),
    ];
  const places = range(440, 72);
  for (let at = 512; at < bytes.length; at += 512) if (bytes[at + 510] === 0x55) places.push(...range(at + 440, 72));
  return places;
}

test("any text is a layout or refused as wrong usage", () => {
  const words = fc.constantFrom(
    "label: gpt\n",
    "label: dos\n",
    "start=",
    "size=",
    "2048",
    ",",
    "10M",
    "type=",
    "L",
    "\n",
    " : ",
    "a.dsk1",
    'name="',
    '"',
    "{",
    "partitiontable",
    "efi:",
    "*",
    "\\x22",
    ";",
    "bootable",
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(words).map((all) => all.join("")),
      ),
      (text) => {
        try {
          parseLayout(text);
        } catch (error) {
          if (!(error instanceof DiskError)) throw error;
          expect(error.code).toBe("UNSUPPORTED");
        }
      },
    ),
    { numRuns: 500 },
  );
});
