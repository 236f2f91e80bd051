/** Damaged, hostile and unusual tables: recovered, reported or refused, never believed blindly. */
import { describe, expect, it } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { crc32 } from "#src/bytes/checksum.js";
import { DiskError } from "#src/errors.js";
import { planAdd } from "#src/partitions/changes/add.js";
import { planRepair, planSalvage } from "#src/partitions/changes/repair.js";
import { GPT_ENTRY, GPT_HEADER } from "#src/partitions/gpt/layout.js";
import { BOOT_SECTOR } from "#src/partitions/mbr/layout.js";
import { type GptTable, openPartition, type PartitionTable, readPartitionTable } from "#src/partitions/table.js";
import { writePlan } from "#src/partitions/write.js";
import { fixture } from "./fixtures.js";
import { add, disk, initialized, MIB, seededRandom } from "./support.js";

const read = (bytes: Uint8Array) => readPartitionTable(memoryDevice(bytes, { label: "a.dsk" }));
const codes = (table: PartitionTable | null) => table!.problems.map(({ code }) => code);

/** Changes header fields of one copy and gives it a right CRC again: damage that only checks of meaning can find. */
function forge(bytes: Uint8Array, offset: number, fields: Record<string, unknown>): void {
  const header = { ...GPT_HEADER.decode(bytes, offset), ...fields, headerCrc32: 0 };
  GPT_HEADER.encode(header, bytes, offset);
  const size = Math.max(92, Math.min(512, header.headerSize));
  GPT_HEADER.encode({ ...header, headerCrc32: crc32(bytes.subarray(offset, offset + size)) }, bytes, offset);
}

/** Changes one entry in both copies, with right CRCs. */
function forgeEntry(bytes: Uint8Array, slot: number, fields: Record<string, unknown>): void {
  for (const header of [512, bytes.length - 512]) {
    const { entriesLba, entryCount, entrySize } = GPT_HEADER.decode(bytes, header);
    const at = entriesLba * 512;
    GPT_ENTRY.encode({ ...GPT_ENTRY.decode(bytes, at + slot * entrySize), ...fields }, bytes, at + slot * entrySize);
    forge(bytes, header, { entriesCrc32: crc32(bytes.subarray(at, at + entryCount * entrySize)) });
  }
}

describe("a damaged GPT", () => {
  it("is read from its backup when the primary header or array is bad", async () => {
    for (const at of [512 + 8, 512 + 30, 512 + 91, 1024, 1024 + 200]) {
      const bytes = fixture("gpt");
      const before = await read(bytes);
      bytes[at]! ^= 1;
      const table = await read(bytes);
      expect(codes(table)).toEqual(["recovered-from-backup"]);
      expect(table!.partitions).toEqual(before!.partitions);
    }
  });

  it("is read from its primary when the backup is bad, and says so", async () => {
    const bytes = fixture("gpt");
    bytes.fill(0, bytes.length - 512);
    expect(codes(await read(bytes))).toEqual(["backup-damaged"]);
  });

  it("is refused when both are bad, also with a header that lies", async () => {
    const bytes = fixture("gpt");
    bytes[600]! ^= 1;
    bytes[bytes.length - 440]! ^= 1;
    await expect(read(bytes)).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("both copies are bad"),
    });
  });

  it.each([
    ["myLba", { myLba: 2 }],
    ["headerSize below 92", { headerSize: 91 }],
    ["headerSize above the block", { headerSize: 513 }],
    ["entrySize that is no power of two", { entrySize: 136 }],
    ["no entries", { entryCount: 0 }],
    ["array outside of the disk", { entriesLba: 2 ** 40 }],
    ["array on the header", { entriesLba: 1 }],
    ["usable space backwards", { firstUsableLba: 5000, lastUsableLba: 40 }],
  ])("%s in the primary leaves the backup", async (_what, fields) => {
    const bytes = fixture("gpt");
    forge(bytes, 512, fields);
    expect(codes(await read(bytes))).toContain("recovered-from-backup");
  });

  it("refuses an array that is too long to read, whoever says it is right", async () => {
    const bytes = fixture("gpt");
    forge(bytes, 512, { entryCount: 60000 });
    await expect(read(bytes)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("allowed up to 393216"),
    });
  });

  it("refuses partitions that end before they start, and numbers beyond 2^53", async () => {
    const backwards = fixture("gpt");
    forgeEntry(backwards, 1, { firstLba: 5000, lastLba: 4000 });
    await expect(read(backwards)).rejects.toThrow(/partition 2 has blocks 5000\.\.4000/);
    const huge = fixture("gpt");
    const { entriesLba } = GPT_HEADER.decode(huge, 512);
    huge.fill(0xff, entriesLba * 512 + 40, entriesLba * 512 + 48);
    for (const header of [512]) forge(huge, header, { entriesCrc32: crc32(huge.subarray(1024, 1024 + 16384)) });
    await expect(read(huge)).rejects.toMatchObject({ code: "CORRUPT" });
  });

  it("reports overlaps and partitions past the end, and repair refuses them with the list", async () => {
    const bytes = fixture("gpt");
    forgeEntry(bytes, 1, { firstLba: 2048 });
    forgeEntry(bytes, 2, { lastLba: 10 ** 6 });
    const table = await read(bytes);
    expect(codes(table)).toEqual(expect.arrayContaining(["overlap", "past-end"]));
    expect(() => planRepair(table!, seededRandom())).toThrow(/partitions 1 and 2 overlap.*partition 3 ends at byte/);
    expect(() => openPartition(memoryDevice(bytes), table!, 3)).toThrow(/it ends at byte/);
    expect(() => openPartition(memoryDevice(bytes), table!, 9)).toThrow(/none of this number, allowed 1 2 3/);
  });

  it("GUIDs given twice are reported and repaired", async () => {
    const target = disk(fixture("gpt"));
    forgeEntry(target.bytes, 1, { uniqueGuid: (await target.table()).partitions[0]!.uuid });
    expect(codes(await target.table())).toEqual(["same-guid"]);
    await writePlan(target.device, planRepair(await target.table(), seededRandom()));
    expect((await target.table()).problems).toEqual([]);
  });

  it("a truncated disk is told from a whole one", async () => {
    const table = await read(fixture("gpt").slice(0, 10 * MIB));
    expect(codes(table)).toEqual(expect.arrayContaining(["backup-damaged", "backup-not-at-end", "past-end"]));
    await expect(read(fixture("gpt").slice(0, 3 * MIB + 7))).resolves.toMatchObject({ label: "gpt" });
  });

  it("a wiped start is recovered, a start that holds something else is not", async () => {
    const bytes = fixture("gpt");
    bytes.fill(0, 0, 40 * 1024);
    expect(codes(await read(bytes))).toEqual(["recovered-from-backup", "protective-mbr"]);
    bytes.fill(0xa5, 0, 20000);
    expect(await read(bytes)).toBeNull();
  });

  it("what is left of both copies is a proposal when no CRC proves it", async () => {
    const bytes = fixture("gpt");
    const before = await read(bytes);
    bytes.fill(0, 512, 1024);
    bytes.fill(0, bytes.length - 512);
    const found = await planSalvage(memoryDevice(bytes), seededRandom());
    expect(found!.certain).toBe(false);
    expect(found!.plan.after.partitions).toEqual(before!.partitions);
    bytes.fill(0, 1024, 20000);
    bytes.fill(0, bytes.length - 20000);
    expect(await planSalvage(memoryDevice(bytes), seededRandom())).toBeNull();
  });
});

describe("an unusual GPT", () => {
  it("entries of 256 bytes and a header of 128: what follows the known bytes survives", async () => {
    const bytes = await longEntries();
    const table = (await read(bytes)) as GptTable;
    expect(table.partitions.map(({ number, name }) => [number, name])).toEqual([[1, "long"]]);
    expect(table.onDisk).toMatchObject({ entrySize: 256, entryCount: 128 });
    const device = memoryDevice(bytes);
    await writePlan(device, planAdd(table, { size: MIB }, seededRandom(3)));
    const after = (await read(bytes)) as GptTable;
    expect(after.problems).toEqual([]);
    expect(after.partitions).toHaveLength(2);
    for (const header of [512, bytes.length - 512]) {
      const { entriesLba } = GPT_HEADER.decode(bytes, header);
      expect(bytes[header + 100]).toBe(0x77);
      expect(bytes[entriesLba * 512 + 200]).toBe(0x55);
      expect(bytes[entriesLba * 512 + 256 + 200]).toBe(0);
    }
  });

  it("headers of both sector sizes: the good primary wins", async () => {
    const made = await initialized(8 * MIB, "gpt", 4096);
    await add(made, { size: MIB });
    expect((await made.table()).sectorSize).toBe(4096);
    made.bytes.set(fixture("gpt").subarray(512, 1024), 512); // another disk's header, with another disk's CRC
    expect((await made.table()).sectorSize).toBe(4096);
    expect(await readPartitionTable(made.device, { sectorSize: 4096 })).toMatchObject({ label: "gpt" });
  });
});

/** No tool at hand makes these, but UEFI allows them. */
async function longEntries(): Promise<Uint8Array> {
  const made = await initialized(16 * MIB, "gpt");
  await add(made, { start: 4 * MIB, size: MIB, name: "long" });
  const [old, entries] = [made.bytes, new Uint8Array(128 * 256)];
  for (let slot = 0; slot < 128; slot++)
    entries.set(old.subarray(1024 + slot * 128, 1024 + (slot + 1) * 128), slot * 256);
  entries.fill(0x55, 128, 256);
  const last = old.length / 512 - 1;
  for (const [header, entriesLba] of [
    [512, 2],
    [old.length - 512, last - 64],
  ] as const) {
    old.set(entries, entriesLba * 512);
    old.fill(0x77, header + 92, header + 128);
    forge(old, header, {
      headerSize: 128,
      entrySize: 256,
      entriesLba,
      firstUsableLba: 66,
      lastUsableLba: last - 65,
      entriesCrc32: crc32(entries),
    });
  }
  return old;
}

describe("a hostile MBR", () => {
  const chainOf = async (bytes: Uint8Array) => {
    const table = await read(bytes);
    return table?.label === "dos" ? table.onDisk.chain.map(({ lba }) => lba) : [];
  };

  it("chains that return, leave the extended partition, or break are refused", async () => {
    const whole = fixture("mbr-logical");
    const [first, second] = (await chainOf(whole)) as [number, number, number];
    const relink = (startLba: number) => {
      const bytes = whole.slice();
      const ebr = BOOT_SECTOR.decode(bytes, second * 512);
      BOOT_SECTOR.encode({ ...ebr, entry2: { ...ebr.entry2, startLba } }, bytes, second * 512);
      return bytes;
    };
    await expect(read(relink(0))).rejects.toThrow(/returns to a sector it has passed/);
    await expect(read(relink(second - first))).rejects.toThrow(/returns to a sector it has passed/);
    await expect(read(relink(0xffff_fff0))).rejects.toThrow(/outside the extended partition/);
    await expect(read(relink(second - first + 1))).rejects.toThrow(/it ends with 00 00, allowed 55 aa/);
  });

  it("an endless chain is cut off, in under 1 MiB of reads", async () => {
    const bytes = fixture("mbr-logical");
    const [first] = await chainOf(bytes);
    const ebr = BOOT_SECTOR.decode(bytes, first! * 512);
    for (let i = 0; i < 1000; i++)
      BOOT_SECTOR.encode(
        {
          ...ebr,
          entry1: { ...ebr.entry1, startLba: 2000, sectors: 1 },
          entry2: { ...ebr.entry2, type: 5, startLba: i + 1, sectors: 1 },
        },
        bytes,
        (first! + i) * 512,
      );
    await expect(read(bytes)).rejects.toThrow(/longer than 128/);
  });

  it("file systems without a table are none, although they end in 55 aa", async () => {
    const bytes = new Uint8Array(MIB);
    bytes.set([0xeb, 0x3c, 0x90]);
    bytes.set(Buffer.from("FAT16   "), 54);
    bytes.set([0x55, 0xaa], 510);
    expect(await read(bytes)).toBeNull();
    bytes.fill(0x41, 446, 510); // text where the entries would be
    expect(await read(bytes)).toBeNull();
  });

  it("an MBR with the headers of a former GPT is an MBR", async () => {
    const bytes = fixture("mbr");
    bytes.set(fixture("gpt").subarray(512, 20 * 1024), 512);
    const table = await read(bytes);
    expect(table).toMatchObject({ label: "dos" });
    expect(codes(table)).toContain("stale-gpt");
    const target = disk(bytes);
    await writePlan(target.device, planRepair((await target.table())!, seededRandom()));
    expect(codes(await target.table())).toEqual([]);
  });

  it("partitions that overlap or end past the disk are reported", async () => {
    const bytes = fixture("mbr");
    const boot = BOOT_SECTOR.decode(bytes);
    BOOT_SECTOR.encode({ ...boot, entry2: { ...boot.entry2, startLba: 2048, sectors: 10 ** 6 } }, bytes);
    expect(codes(await read(bytes))).toEqual(expect.arrayContaining(["overlap", "past-end"]));
  });
});

it("errors are DiskErrors with the house's form", async () => {
  const bytes = fixture("gpt");
  bytes[600]! ^= 1;
  bytes[bytes.length - 440]! ^= 1;
  const error = await read(bytes).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(DiskError);
  expect((error as Error).message).toMatch(/^Cannot .*: .*, .* \(.*\)$/);
});
