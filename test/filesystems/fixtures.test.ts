/** Images made by the systems' tools (fixtures/filesystems/make.sh), read without those tools; then with their superblocks mutated. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import type { Fields, Layout } from "#src/bytes/layout.js";
import { DiskError } from "#src/errors.js";
import { BTRFS_SUPERBLOCK } from "#src/filesystems/btrfs.js";
import { EXT_SUPERBLOCK } from "#src/filesystems/ext/layout.js";
import { FAT_BOOT_SECTOR, FAT_INFO, FAT16_EXTENSION, FAT32_EXTENSION } from "#src/filesystems/fat/layout.js";
import { identifyFilesystem, newFilesystemId } from "#src/filesystems/identify.js";
import { SWAP_HEADER } from "#src/filesystems/swap.js";
import { LOG_RECORD, XFS_SUPERBLOCK } from "#src/filesystems/xfs/layout.js";

const FOLDER = new URL("../../fixtures/filesystems/", import.meta.url);

interface Expected {
  readonly TYPE: string;
  readonly UUID: string;
  readonly LABEL?: string;
  readonly VERSION?: string;
  readonly size: number;
}

const expected: Record<string, Expected> = JSON.parse(readFileSync(new URL("expected.json", FOLDER), "utf8"));
const image = (name: string): Buffer => gunzipSync(readFileSync(new URL(`${name}.gz`, FOLDER)));

describe("made by the systems' tools", () => {
  test.each(Object.entries(expected))("%s", async (name, { TYPE, UUID, LABEL, VERSION, size }) => {
    const told = await identifyFilesystem(memoryDevice(image(name)));
    expect(told).toMatchObject({ type: TYPE, uuid: UUID, label: LABEL ?? null });
    if (VERSION) expect(told?.version).toBe(VERSION);
    expect(told!.size).toBeLessThanOrEqual(size);
    expect(told!.size).toBeGreaterThan(size * 0.9);
    expect(told!.used ?? 0).toBeLessThanOrEqual(told!.size!);
  });

  const KEEPS: [string, string, Layout<Fields>, number][] = [
    ["ext4", "ext superblock", EXT_SUPERBLOCK, 1024],
    ["fat16", "FAT boot sector", FAT_BOOT_SECTOR, 0],
    ["fat16", "its second part", FAT16_EXTENSION, 36],
    ["fat32", "FAT32's second part", FAT32_EXTENSION, 36],
    ["fat32", "FSInfo", FAT_INFO, 512],
    ["xfs5", "XFS superblock", XFS_SUPERBLOCK, 0],
    ["btrfs", "btrfs superblock", BTRFS_SUPERBLOCK, 65536],
    ["swap", "swap header", SWAP_HEADER, 0],
  ];
  test.each(KEEPS)("%s: every byte of the %s is in its table", (name, _title, table, offset) => {
    const bytes = image(name);
    const decoded = table.decode(bytes, offset);
    // Labels are read only; all other fields written back must give the same bytes.
    const fields = Object.entries(table.fields).filter(([, field]) => !field.type.kind.startsWith("utf8"));
    const again = Buffer.from(bytes);
    const view = new DataView(again.buffer, again.byteOffset + offset, table.size);
    for (const [key, field] of fields) {
      again.fill(0, offset + field.offset, offset + field.offset + field.type.size);
      field.type.encode(view, field.offset, (decoded as Record<string, unknown>)[key], table.endian === "le");
    }
    expect(again.equals(bytes)).toBe(true);
    expect(table.describe(bytes, offset)).toContain(table.spec);
  });

  test("the log record's table ends where the basic block does", () => {
    expect(LOG_RECORD.size).toBe(512);
  });
});

describe("mutated", () => {
  test.each(Object.keys(expected))("%s is read or refused, and so is a new id", async (name) => {
    const original = image(name);
    const at = name === "btrfs" ? 65536 : name.startsWith("ext") ? 1024 : 0;
    const span = name === "swap" ? 4096 : 1024;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(span - 1), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 }),
        async (mutations) => {
          const bytes = Buffer.from(original);
          for (const [offset, byte] of mutations) bytes[at + offset] = byte;
          const found = await identifyFilesystem(memoryDevice(bytes));
          if (found?.size) expect(Number.isSafeInteger(found.size)).toBe(true);
          try {
            const change = await newFilesystemId(memoryDevice(bytes), (size) => new Uint8Array(size).fill(0x11));
            if (change) expect((await identifyFilesystem(memoryDevice(bytes)))?.uuid).toBe(change.new);
          } catch (error) {
            expect(error).toBeInstanceOf(DiskError);
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});
