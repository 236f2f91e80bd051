/** Kinds whose tools are rarely installed, from hand-made superblocks that blkid must read as we do; and hostile bytes. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { DiskError } from "#src/errors.js";
import { identifyFilesystem, newFilesystemId } from "#src/filesystems/identify.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { blkid } from "./support.js";

const MIB = 1 << 20;

function disk(size: number, ...parts: [offset: number, bytes: Uint8Array | string][]): Buffer {
  const bytes = Buffer.alloc(size);
  for (const [offset, part] of parts) bytes.set(typeof part === "string" ? Buffer.from(part, "latin1") : part, offset);
  return bytes;
}

function le(size: 2 | 4 | 8, value: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.subarray(0, size);
}

const BOOT_END: [number, string] = [510, "\x55\xaa"];

function ntfs(): Buffer {
  const volumeName = disk(
    24 + 16,
    [0, le(4, 0x60)],
    [4, le(4, 40)],
    [16, le(4, 12)],
    [20, le(2, 24)],
    [24, Buffer.from("Windoß", "utf16le")],
  );
  const record = disk(1024, [0, "FILE"], [20, le(2, 56)], [56, volumeName], [96, le(4, 0xffffffff)]);
  const other = disk(1024, [0, "FILE"], [20, le(2, 56)], [56, le(4, 0xffffffff)]);
  const boot = disk(
    512,
    [0, "\xebR\x90NTFS    "],
    [11, le(2, 512)],
    [13, le(2, 8)],
    [21, "\xf8"],
    [40, le(8, 16383)],
    [48, le(8, 4)],
    [56, le(8, 8)],
    [64, "\xf6"],
    [68, "\x01"],
    [72, le(8, 0x1234_5678_9abc)],
    BOOT_END,
  );
  const mft = 4 * 4096;
  return disk(8 * MIB, [0, boot], ...[0, 1, 2].map((i): [number, Buffer] => [mft + i * 1024, other]), [
    mft + 3 * 1024,
    record,
  ]);
}

function exfat(): Buffer {
  const boot = disk(
    512,
    [0, "\xebv\x90EXFAT   "],
    [72, le(8, 16384)],
    [80, le(4, 128)],
    [84, le(4, 128)],
    [88, le(4, 256)],
    [92, le(4, 2016)],
    [96, le(4, 4)],
    [100, le(4, 0xcafe_0123)],
    [104, le(2, 0x100)],
    [108, "\x09\x03\x01\x80\x00"],
    BOOT_END,
  );
  // blkid looks at the checksum of the first eleven sectors: each entry of sector 11 holds it.
  const region = disk(
    11 * 512,
    [0, boot],
    ...Array.from({ length: 8 }, (_, i): [number, string] => [(i + 2) * 512 - 2, "\x55\xaa"]),
  );
  let sum = 0;
  for (const [i, byte] of region.entries())
    if (i !== 106 && i !== 107 && i !== 112) sum = (((sum << 31) | (sum >>> 1)) + byte) >>> 0;
  const sums = Buffer.concat(Array.from({ length: 128 }, () => le(4, sum)));
  const root = 256 * 512 + 2 * 4096;
  return disk(
    8 * MIB,
    [0, region],
    [11 * 512, sums],
    [128 * 512 + 16, le(4, 0xffffffff)],
    [root, "\x85"],
    [root + 32, "\x83\x05"],
    [root + 34, Buffer.from("Stick", "utf16le")],
  );
}

const iso = (): Buffer =>
  disk(
    2 * MIB,
    [32768, "\x01CD001\x01"],
    [32768 + 40, "MY_DISC".padEnd(32)],
    [32768 + 80, le(4, 1024)],
    [32768 + 128, le(2, 2048)],
    [32768 + 813, "2026070412300000"],
    [32768 + 830, "2026070509081207"],
    [34816, "\xffCD001\x01"],
  );
const uuid = "c0ffee00-1234-4abc-8def-0123456789ab";
const luks1 = (): Buffer => disk(MIB, [0, "LUKS\xba\xbe\x00\x01"], [168, uuid]);
const luks2 = (): Buffer =>
  disk(MIB, [0, "LUKS\xba\xbe\x00\x02"], [8, Buffer.from([0, 0, 0, 0, 0, 0, 0x40, 0])], [24, "secret"], [168, uuid]);
const squashfs = (): Buffer =>
  disk(MIB, [0, "hsqs"], [12, le(4, 131072)], [22, le(2, 17)], [28, le(2, 4)], [40, le(8, 4096)]);
const lvm2 = (): Buffer => {
  const label = disk(
    512,
    [0, "LABELONE"],
    [8, le(8, 1)],
    [20, le(4, 32)],
    [24, "LVM2 001"],
    [32, "abcdefGHIJklmnOPQRstuvWXYZ012345"],
    [64, le(8, 4 * MIB)],
  );
  let crc = 0xf597a6cf;
  for (const byte of label.subarray(20)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1) >>> 0;
  }
  return disk(4 * MIB, [512, label], [512 + 16, le(4, crc)]);
};

const SAMPLES: Record<string, { make: () => Buffer; expected: object }> = {
  ntfs: {
    make: ntfs,
    expected: { type: "ntfs", label: "Windoß", uuid: "0000123456789ABC", size: 16383 * 512, blockSize: 4096 },
  },
  exfat: {
    make: exfat,
    expected: { type: "exfat", label: "Stick", uuid: "CAFE-0123", version: "1.0", size: 8 * MIB, blockSize: 4096 },
  },
  iso9660: {
    make: iso,
    expected: { type: "iso9660", label: "MY_DISC", uuid: "2026-07-05-09-08-12-07", size: 2 * MIB },
  },
  luks1: { make: luks1, expected: { type: "crypto_LUKS", label: null, uuid, version: "1" } },
  luks2: { make: luks2, expected: { type: "crypto_LUKS", label: "secret", uuid, version: "2" } },
  squashfs: { make: squashfs, expected: { type: "squashfs", label: null, uuid: null, version: "4.0", size: 4096 } },
  lvm2: {
    make: lvm2,
    expected: { type: "LVM2_member", uuid: "abcdef-GHIJ-klmn-OPQR-stuv-WXYZ-012345", size: 4 * MIB },
  },
};

describe("superblocks made by hand", () => {
  const dir = tempDir();
  const judged = havePeer("blkid");

  test.each(Object.entries(SAMPLES))("%s", async (name, { make, expected }) => {
    const told = await identifyFilesystem(memoryDevice(make()));
    expect(told).toMatchObject(expected);
    expect(await identifyFilesystem(memoryDevice(make(), { blockSize: 4096 }))).toEqual(told);
    if (!judged) return;
    const path = join(dir, `${name}.img`);
    writeFileSync(path, make());
    const theirs = blkid(path);
    expect(theirs.TYPE).toBe(told?.type);
    expect(theirs.UUID ?? null).toBe(told?.uuid);
    if (/^[ -~]*$/.test(told?.label ?? "")) expect(theirs.LABEL ?? null).toBe(told?.label);
  });

  test("a kind that keeps its id says so by null, and is not written", async () => {
    const bytes = ntfs();
    expect(await newFilesystemId(memoryDevice(bytes, { writable: false }), () => new Uint8Array(16))).toBeNull();
    expect(bytes.equals(ntfs())).toBe(true);
  });

  test("nothing is nothing", async () => {
    for (const size of [0, 1, 511, 512, 1024, 4096, 65536, MIB])
      expect(await identifyFilesystem(memoryDevice(size))).toBeNull();
    const mbr = disk(MIB, [0, "\xeb\x63\x90"], [446, "\x80\x20\x21\x00\x83"], BOOT_END);
    expect(await identifyFilesystem(memoryDevice(mbr))).toBeNull();
  });
});

describe("hostile bytes", () => {
  // The heads of all kinds at once: signatures of every driver lie where it looks, with any numbers around them.
  const signatures: [number, string][] = [
    [0, "XFSB"],
    [0, "hsqs"],
    [0, "LUKS\xba\xbe"],
    [512, "LABELONE"],
    [536, "LVM2 001"],
    [1080, "\x53\xef"],
    [4086, "SWAPSPACE2"],
    [3, "NTFS    "],
    [3, "EXFAT   "],
    [510, "\x55\xaa"],
    [0, "\xeb\x3c\x90"],
    [65600, "_BHRfS_M"],
    [32768, "\x01CD001"],
  ];

  test("are read, or are not; never anything else", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.subarray(signatures, { minLength: 1, maxLength: 3 }),
        fc.array(fc.tuple(fc.nat(70_000), fc.uint8Array({ minLength: 1, maxLength: 64 })), { maxLength: 24 }),
        fc.array(fc.tuple(fc.nat(600), fc.integer({ min: 0, max: 255 })), { maxLength: 64 }),
        async (chosen, blobs, bytes) => {
          const device = Buffer.alloc(128 * 1024);
          for (const [offset, blob] of blobs) device.set(blob, offset);
          for (const [offset, byte] of bytes) device[offset] = byte;
          for (const [offset, signature] of chosen) device.write(signature, offset, "latin1");
          const found = await identifyFilesystem(memoryDevice(device));
          if (found)
            for (const size of [found.size, found.used])
              expect(size === null || (Number.isSafeInteger(size) && size >= 0)).toBe(true);
          try {
            await newFilesystemId(memoryDevice(device), (size) => new Uint8Array(size).fill(7));
          } catch (error) {
            expect(error).toBeInstanceOf(DiskError);
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  test("a mutated superblock of each kind is read in bounded time and memory", async () => {
    for (const { make } of Object.values(SAMPLES)) {
      const original = make();
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(fc.nat(1023), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 8 }),
          async (mutations) => {
            const bytes = Buffer.from(original);
            for (const [offset, byte] of mutations) bytes[offset] = byte;
            await identifyFilesystem(memoryDevice(bytes));
          },
        ),
        { numRuns: 40 },
      );
    }
  });
});
