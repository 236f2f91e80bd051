/** What every kind of partition table owes its users, as a suite over one entry of the registry. */
import { describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { DiskError } from "#src/errors.js";
import { planAdd } from "#src/partitions/changes/add.js";
import { planApply } from "#src/partitions/changes/apply.js";
import { planInit } from "#src/partitions/changes/init.js";
import { newPartitionIds } from "#src/partitions/changes/new-ids.js";
import { planRemove } from "#src/partitions/changes/remove.js";
import type { TableFormat } from "#src/partitions/registry.js";
import { parseLayout } from "#src/partitions/script/parse.js";
import { printScript } from "#src/partitions/script/sfdisk-script.js";
import { toSfdiskJson } from "#src/partitions/sfdisk-json.js";
import { openPartition, readPartitionTable } from "#src/partitions/table.js";
import { writePlan } from "#src/partitions/write.js";
import { expected, FIXTURES, fixture } from "../partitions/fixtures.js";
import { add, type Disk, disk, initialized, MIB, seededRandom, sparseDevice } from "../partitions/support.js";

export function describePartitionTable(format: TableFormat): void {
  const name = format.names[0] as "gpt" | "mbr";
  const fixtures = FIXTURES.filter((fixtureName) => fixtureName.startsWith(name));
  const made = async (sizes: readonly number[] = []): Promise<Disk> => {
    const target = await initialized(64 * MIB, name);
    for (const size of sizes) await add(target, { size });
    return target;
  };

  describe(`${name} as a partition table`, () => {
    test.each(fixtures)("reads %s as sfdisk does", async (fixtureName) => {
      const table = (await readPartitionTable(memoryDevice(fixture(fixtureName))))!;
      expect(toSfdiskJson(table, fixtureName)).toEqual(expected(fixtureName));
      expect(table.label).toBe(format.label);
      expect(table.problems.filter(({ level }) => level === "damage")).toEqual([]);
    });

    test.each(fixtures)(
      "applying %s to itself writes nothing, to an empty disk the same table",
      async (fixtureName) => {
        const bytes = fixture(fixtureName);
        const source = disk(bytes);
        const table = await source.table();
        for (const text of [printScript(table, "a.dsk"), JSON.stringify(toSfdiskJson(table, "a.dsk"))]) {
          expect(planApply(source.device, table, parseLayout(text), seededRandom()).steps).toEqual([]);
          if (table.partitions.some(({ number }) => number > 15)) continue;
          const target = disk(bytes.length);
          await writePlan(target.device, planApply(target.device, null, parseLayout(text), seededRandom()));
          expect(toSfdiskJson(await target.table(), "a.dsk")).toEqual(toSfdiskJson(table, "a.dsk"));
        }
      },
    );

    test.each(fixtures)("a rewrite of %s keeps what it has no name for", async (fixtureName) => {
      const target = disk(fixture(fixtureName));
      const before = target.bytes.slice();
      const table = await target.table();
      const renamed = { ...table, id: format.newId(seededRandom(8)) };
      await writePlan(target.device, {
        before: table,
        after: renamed,
        summary: [],
        steps: format.steps(table, renamed),
      });
      const back = await target.table();
      await writePlan(target.device, {
        before: back,
        after: { ...back, id: table.id },
        summary: [],
        steps: format.steps(back, { ...back, id: table.id } as typeof back),
      });
      expect(Buffer.compare(target.bytes, before)).toBe(0);
    });

    test("an empty disk has none, a disk too small is refused", async () => {
      for (const size of [0, 512, 1024, 64 * MIB]) expect(await readPartitionTable(memoryDevice(size))).toBeNull();
      expect(() => planInit(memoryDevice(512), null, { format: name }, seededRandom())).toThrow(DiskError);
    });

    test("an existing table is replaced by force only", async () => {
      const target = await made([MIB]);
      const table = await target.table();
      for (const kind of ["gpt", "mbr"])
        expect(() => planInit(target.device, table, { format: kind }, seededRandom())).toThrow(/--force replaces it/);
      await writePlan(target.device, planInit(target.device, table, { format: name, force: true }, seededRandom(4)));
      expect((await target.table()).partitions).toEqual([]);
    });

    test("partitions begin on a mebibyte, do not overlap, and read what was written", async () => {
      const target = await made([3 * MIB, 1000 * 512, 2 * MIB]);
      const { partitions } = await target.table();
      for (const [i, { offset }] of partitions.entries()) {
        expect(offset % MIB).toBe(0);
        if (i > 0) expect(offset).toBeGreaterThanOrEqual(partitions[i - 1]!.offset + partitions[i - 1]!.size);
      }
      const part = openPartition(target.device, await target.table(), 2);
      expect(part.label).toBe("a.dsk#p2");
      expect(part.size).toBe(1000 * 512);
      await part.write(0, new Uint8Array(part.size).fill(7));
      expect(target.bytes[partitions[1]!.offset - 1]).toBe(0);
      expect(target.bytes[partitions[1]!.offset]).toBe(7);
      expect(target.bytes[partitions[2]!.offset]).toBe(0);
    });

    test("removing one leaves the others as they are", async () => {
      const target = await made([MIB, MIB, MIB]);
      const before = (await target.table()).partitions;
      await writePlan(target.device, planRemove(await target.table(), 2));
      expect((await target.table()).partitions).toEqual([before[0], before[2]]);
      await add(target, { size: 512 });
      expect((await target.table()).partitions.map(({ number }) => number)).toEqual([1, 2, 3]);
      const table = await target.table();
      expect(() => planRemove(table, 9)).toThrow(/none of this number/);
    });

    test("what does not fit is refused with what is free", async () => {
      const target = await made([60 * MIB]);
      const table = await target.table();
      expect(() => planAdd(table, { size: 60 * MIB }, seededRandom())).toThrow(
        /fit nowhere, the largest free space has/,
      );
      expect(() => planAdd(table, { start: 2 * MIB, size: MIB }, seededRandom())).toThrow(/is used or outside/);
      expect(() => planAdd(table, { start: 62 * MIB, size: 30 * MIB }, seededRandom())).toThrow(/overlap/);
      expect(() => planAdd(table, { size: 0 }, seededRandom())).toThrow(/not above 0/);
      expect(() => planAdd(table, { size: MIB, number: 16 }, seededRandom())).toThrow(/fifteen/);
      expect(() => planAdd(table, { size: MIB, number: 1 }, seededRandom())).toThrow(/in use/);
      expect(() => planAdd(table, { size: MIB, type: "no such type" }, seededRandom())).toThrow(/allowed are/);
    });

    test("new ids change nothing else", async () => {
      const target = await made([MIB, MIB]);
      const before = await target.table();
      const changes = await newPartitionIds(target.device, seededRandom(99));
      const after = await target.table();
      expect(after.id).not.toBe(before.id);
      expect(after.partitions.map((partition, i) => ({ ...partition, uuid: before.partitions[i]!.uuid }))).toEqual(
        before.partitions,
      );
      expect(changes[0]).toMatchObject({ old: before.id, new: after.id });
      expect(after.problems).toEqual([]);
    });

    test("a disk of 16 TiB takes two reads, and under 1 MiB", async () => {
      const device = sparseDevice(16 * 2 ** 40);
      await writePlan(device, planInit(device, null, { format: name }, seededRandom()));
      for (let number = 1; number <= (name === "gpt" ? 15 : 4); number++) {
        const table = (await readPartitionTable(device))!;
        await writePlan(device, planAdd(table, { size: 128 * 2 ** 30, number }, seededRandom(number)));
      }
      Object.assign(device.counts, { reads: 0, bytes: 0 });
      expect((await readPartitionTable(device))!.partitions).toHaveLength(name === "gpt" ? 15 : 4);
      expect(device.counts.reads).toBe(2);
      expect(device.counts.bytes).toBeLessThan(MIB);
    });

    test("a device of 4096-byte blocks holds a table of 512-byte sectors", async () => {
      const source = await made([MIB, 2 * MIB]);
      const bytes = new Uint8Array(64 * MIB);
      const device = memoryDevice(bytes, { label: "a.dsk", blockSize: 4096 });
      await writePlan(device, planInit(device, null, { format: name }, seededRandom()));
      for (const size of [MIB, 2 * MIB])
        await writePlan(device, planAdd((await readPartitionTable(device))!, { size }, seededRandom(2)));
      const places = (table: Awaited<ReturnType<typeof readPartitionTable>>) =>
        table!.partitions.map(({ offset, size }) => [offset, size]);
      expect(places(await readPartitionTable(device))).toEqual(places(await source.table()));
      await writePlan(
        device,
        planAdd((await readPartitionTable(device))!, { start: 10 * MIB + 512, size: 1536 }, seededRandom(3)),
      );
      const part = openPartition(device, (await readPartitionTable(device))!, 3);
      await part.write(512, new Uint8Array(512).fill(9));
      expect(bytes[10 * MIB + 1023]).toBe(0);
      expect(bytes[10 * MIB + 1024]).toBe(9);
      expect(bytes[10 * MIB + 1536]).toBe(0);
    });

    test("a read-only disk is refused before anything is written", async () => {
      const device = memoryDevice(new Uint8Array(64 * MIB), { writable: false });
      await expect(writePlan(device, planInit(device, null, { format: name }, seededRandom()))).rejects.toThrow(
        /read-only/,
      );
    });
  });
}
