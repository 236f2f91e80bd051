/** Compressed units: what is packed comes back, by other programs too, and bad or greedy bytes are refused. */
import { randomBytes } from "node:crypto";
import { inflateRawSync, inflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { loadCodec, type Packing } from "#src/bytes/packing.js";
import { zstdFrame } from "#src/bytes/zstd-frame.js";
import { DiskError } from "#src/errors.js";

const SIZE = 65536;
const unit = Buffer.concat([randomBytes(9000), Buffer.alloc(SIZE - 9000, "text that repeats ")]);
const PACKINGS: readonly Packing[] = [
  { method: "deflate", level: 6, windowBits: 12 },
  { method: "zlib", level: 6 },
  { method: "zstd", level: 3 },
];

describe.each(PACKINGS)("$method", (packing) => {
  test("what is packed comes back, also with other bytes behind it", async () => {
    const codec = await loadCodec(packing.method);
    for (const size of [512, 4096, SIZE]) {
      const packed = codec.pack(unit.subarray(SIZE - size), packing);
      expect(packed.length).toBeLessThan(size);
      const padded = Buffer.concat([packed, randomBytes(300)]);
      expect(Buffer.compare(await codec.unpack(padded, size), unit.subarray(SIZE - size))).toBe(0);
    }
  });

  test("other sizes, cut and foreign bytes are CORRUPT", async () => {
    const codec = await loadCodec(packing.method);
    const packed = codec.pack(unit, packing);
    const bad: [Uint8Array, number][] = [
      [packed, SIZE / 2],
      [packed, SIZE * 2],
      [packed.subarray(0, packed.length >> 1), SIZE],
      [Buffer.from("no such thing, and long enough to be looked at"), SIZE],
      [new Uint8Array(0), SIZE],
    ];
    for (const [bytes, size] of bad) {
      const error = await codec.unpack(bytes, size).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(DiskError);
      expect((error as DiskError).code).toBe("CORRUPT");
    }
  });
});

test("deflate and zlib are what their names say", async () => {
  const [deflate, zlib] = PACKINGS as [Packing, Packing, Packing];
  expect(Buffer.compare(inflateRawSync((await loadCodec("deflate")).pack(unit, deflate)), unit)).toBe(0);
  expect(Buffer.compare(inflateSync((await loadCodec("zlib")).pack(unit, zlib)), unit)).toBe(0);
});

test("the end and the size of a zstd frame are found without decoding it", async () => {
  const packed = (await loadCodec("zstd")).pack(unit, { method: "zstd", level: 1 });
  expect(zstdFrame(packed)).toEqual({ length: packed.length, contentSize: SIZE });
  expect(zstdFrame(packed.subarray(0, packed.length - 1))).toBe(null);
  // One empty raw block, window descriptor, no content size, a checksum (RFC 8878, 3.1.1).
  const frame = Buffer.from("28b52ffd04000100000000000000", "hex");
  expect(zstdFrame(frame)).toEqual({ length: 13, contentSize: null });
});
