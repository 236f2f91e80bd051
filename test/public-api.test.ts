/** The public API alone, as a program that depends on the package uses it: a disk made, partitioned, copied and changed without the command line. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  checksumDevice,
  compareDevices,
  copyDevice,
  createStaged,
  DiskError,
  describeSteps,
  fileJournal,
  findPartition,
  freeSpace,
  journalPath,
  memoryDevice,
  openDisk,
  openPartition,
  parseLayout,
  planAdd,
  planApply,
  planConvert,
  planInit,
  planMove,
  planRemove,
  planRepair,
  planResize,
  planSet,
  printScript,
  readPartitionTable,
  runMove,
  toSfdiskJson,
  writePlan,
} from "#src/index.js";
import { tempDir } from "./support/temp-dir.js";

const MIB = 1 << 20;

test("a disk from nothing to a moved, repaired and converted table", async () => {
  const path = join(tempDir(), "guest.dsk");
  await (await createStaged(path, { size: 64 * MIB })).commit();
  const disk = await openDisk(path, { writable: true });
  const table = async () => (await readPartitionTable(disk))!;

  expect(await readPartitionTable(disk)).toBeNull();
  await writePlan(disk, planInit(disk, null, { format: "gpt" }, randomBytes));
  await writePlan(disk, planApply(disk, await table(), parseLayout("efi:8M,linux:*"), randomBytes));
  await writePlan(disk, planResize(await table(), 2, 16 * MIB));
  await writePlan(disk, planAdd(await table(), { size: 4 * MIB, type: "swap", name: "swap" }, randomBytes));
  await writePlan(disk, planSet(await table(), 1, { name: "boot" }));
  const plan = planRemove(await table(), 3);
  expect(plan.summary.join()).toContain("3");
  expect(describeSteps(plan).length).toBeGreaterThan(3);
  await writePlan(disk, plan);

  const before = openPartition(disk, await table(), 2);
  await before.write(5 * MIB, new Uint8Array(MIB).fill(0x42));
  const digest = (await checksumDevice(before)).digest;
  const journal = fileJournal(journalPath(path));
  await runMove(disk, planMove(await table(), 2, { by: 8 * MIB }), table, journal);
  expect(findPartition(await table(), 2).offset).toBe(17 * MIB);
  expect((await checksumDevice(openPartition(disk, await table(), 2))).digest).toBe(digest);

  await disk.write(512, new Uint8Array(512).fill(0xff)); // the primary header is gone
  expect((await table()).problems.map(({ code }) => code)).toContain("recovered-from-backup");
  await writePlan(disk, planRepair(await table(), randomBytes));
  expect((await table()).problems).toEqual([]);
  expect(freeSpace(await table()).reduce((sum, { size }) => sum + size, 0)).toBeGreaterThan(30 * MIB);
  expect(printScript(await table(), "guest.dsk")).toContain("label: gpt");
  expect(toSfdiskJson(await table(), "guest.dsk").partitiontable.partitions.map(({ start }) => start)).toEqual([
    2048,
    (17 * MIB) / 512,
  ]);
  await writePlan(disk, planConvert(await table(), { label: "dos" }, randomBytes));
  expect(await table()).toMatchObject({ label: "dos", partitions: [{ size: 8 * MIB }, { offset: 17 * MIB }] });

  const copy = memoryDevice(disk.size);
  await copyDevice(disk, copy, { targetIsZero: true, verify: true });
  expect(await compareDevices(disk, copy)).toMatchObject({ same: true });
  await disk.close();
  await expect(openDisk(`${path}#p9`)).rejects.toBeInstanceOf(DiskError);
});
