/** npm's `gpt` and `mbr` packages as second readers of our tables, and as writers of tables for us. */
import { createRequire } from "node:module";
import { describe, expect, it } from "vitest";
import { planRepair } from "#src/partitions/changes/repair.js";
import { add, disk, initialized, MIB, seededRandom } from "../partitions/support.js";

interface GptEntry {
  type: string;
  guid: string;
  name: string;
  firstLBA: bigint;
  lastLBA: bigint;
  attr: bigint;
}

interface Gpt {
  guid: string;
  currentLBA: bigint;
  backupLBA: bigint;
  firstLBA: bigint;
  lastLBA: bigint;
  tableOffset: bigint;
  headerChecksum: number;
  tableChecksum: number;
  partitions: GptEntry[];
  parse(buffer: Buffer, offset: number): Gpt;
  parseBackup(buffer: Buffer, offset: number): Gpt;
  verifyHeader(): boolean;
  checksumTable(buffer: Buffer, offset: number): number;
  write(buffer: Buffer, offset: number): Buffer;
  writeBackupFromPrimary(buffer: Buffer, offset: number): Buffer;
}

interface Mbr {
  partitions: { type: number; status: number; firstLBA: number; sectors: number }[];
  buffer: Buffer;
  getEFIPart(): { firstLBA: number } | null;
}

const require = createRequire(import.meta.url);
const GptPackage = require("gpt") as { new (): Gpt; PartitionEntry: new (options: Partial<GptEntry>) => GptEntry };
const MbrPackage = require("mbr") as { parse(buffer: Buffer): Mbr };
const ARRAY = 16384;

function emptySector(): Buffer {
  const sector = Buffer.alloc(512);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

const ofGpt = ({ partitions }: Gpt) =>
  partitions.map(({ type, guid, name, firstLBA, lastLBA, attr }) => ({
    type,
    guid,
    name: name.replace(/\0.*$/s, ""),
    first: Number(firstLBA),
    last: Number(lastLBA),
    attr,
  }));

describe("the gpt package", () => {
  it("reads both of our copies, and finds their checksums right", async () => {
    const made = await initialized(64 * MIB, "gpt");
    await add(made, { size: MIB, type: "efi", name: "EFI system ü" });
    await add(made, { size: 20 * MIB, number: 7, attributes: 1n | (1n << 60n) });
    await add(made, { type: "lvm" });
    const bytes = Buffer.from(made.bytes.buffer);
    const table = await made.table();
    const ours = table.partitions.map(({ type, uuid, name, offset, size, attributes }) => ({
      type,
      guid: uuid,
      name,
      first: offset / 512,
      last: (offset + size) / 512 - 1,
      attr: attributes,
    }));
    const place = MbrPackage.parse(bytes.subarray(0, 512)).getEFIPart()!;
    const primary = new GptPackage().parse(bytes, place.firstLBA * 512);
    const backup = new GptPackage().parseBackup(bytes, bytes.length - 512 - ARRAY);
    for (const [copy, array] of [
      [primary, 1024],
      [backup, bytes.length - 512 - ARRAY],
    ] as const) {
      expect(copy.verifyHeader()).toBe(true);
      expect(copy.checksumTable(bytes, array)).toBe(copy.tableChecksum);
      expect(copy.guid).toBe(table.id);
      expect(ofGpt(copy).sort((a, b) => a.first - b.first)).toEqual([...ours].sort((a, b) => a.first - b.first));
    }
    expect([primary.currentLBA, primary.backupLBA, backup.currentLBA, backup.backupLBA].map(Number)).toEqual([
      1, 131071, 131071, 1,
    ]);
  });

  it("writes a table that we read, and need not repair", async () => {
    const target = disk(16 * MIB);
    const bytes = Buffer.from(target.bytes.buffer);
    const last = BigInt(bytes.length / 512 - 1);
    const theirs = Object.assign(new GptPackage(), {
      guid: "C0FFEE00-1234-4ABC-8DEF-0123456789AB",
      currentLBA: 1n,
      backupLBA: last,
      firstLBA: 34n,
      lastLBA: last - 33n,
      tableOffset: 2n,
    });
    const entry = {
      type: "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
      guid: "11111111-1111-4111-8111-111111111111",
      name: "théirs",
      firstLBA: 2048n,
      lastLBA: 4095n,
      attr: 4n,
    };
    theirs.partitions.push(Object.assign(new GptPackage.PartitionEntry(entry), { guid: entry.guid }));
    theirs.write(bytes, 512);
    theirs.writeBackupFromPrimary(bytes, bytes.length - 512 - ARRAY);
    const mbr = MbrPackage.parse(emptySector());
    Object.assign(mbr.partitions[0]!, { type: 0xee, firstLBA: 1, sectors: Number(last) });
    mbr.buffer.copy(bytes, 0);
    bytes.writeUInt16LE(0xaa55, 510);
    const table = await target.table();
    expect(table.problems).toEqual([]);
    expect(table.partitions).toEqual([
      {
        number: 1,
        offset: MIB,
        size: MIB,
        type: entry.type,
        uuid: entry.guid,
        name: "théirs",
        attributes: 4n,
        bootable: true,
        kind: "primary",
      },
    ]);
    expect(planRepair(table, seededRandom()).steps).toEqual([]);
  });
});

describe("the mbr package", () => {
  it("reads our primary and extended partitions", async () => {
    const made = await initialized(64 * MIB, "mbr");
    await add(made, { size: MIB, type: "fat32", bootable: true });
    await add(made, { size: 2 * MIB, number: 3, type: "swap" });
    await add(made, { size: 4 * MIB, logical: true });
    const { partitions } = MbrPackage.parse(Buffer.from(made.bytes.slice(0, 512)));
    const ours = (await made.table()).partitions.filter(({ kind }) => kind !== "logical");
    for (const { number, type, bootable, offset, size } of ours)
      expect(partitions[number - 1]).toMatchObject({
        type: Number.parseInt(type, 16),
        status: bootable ? 0x80 : 0,
        firstLBA: offset / 512,
        sectors: size / 512,
      });
    expect(partitions.map(({ type }) => type)).toEqual([0x0c, 0x05, 0x82, 0]);
  });

  it("writes a table that we read", async () => {
    const target = disk(16 * MIB);
    const mbr = MbrPackage.parse(emptySector());
    Object.assign(mbr.partitions[1]!, { status: 0x80, type: 0x83, firstLBA: 2048, sectors: 4096 });
    target.bytes.set(mbr.buffer);
    target.bytes.set([0x55, 0xaa], 510);
    const table = await target.table();
    expect(table).toMatchObject({ label: "dos", problems: [] });
    expect(table.partitions).toMatchObject([{ number: 2, offset: MIB, size: 2 * MIB, type: "83", bootable: true }]);
  });
});
