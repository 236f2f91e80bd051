import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { checksumDevice } from "#src/block/checksum.js";
import { defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { nullDevice } from "#src/block/null.js";
import { overlayDevice } from "#src/block/overlay.js";
import { pattern } from "../contract/block-device.js";

const BLOCK = 4 << 20;

/** The definition, word for word and without any care for time or memory. */
function reference(bytes: Uint8Array): string {
  const outer = createHash("sha256");
  for (let at = 0; at < bytes.length; at += BLOCK)
    outer.update(
      createHash("sha256")
        .update(bytes.subarray(at, at + BLOCK))
        .digest(),
    );
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(bytes.length));
  return outer.update(size).digest("hex");
}

describe("checksum of a device", () => {
  test.each([0, 1, 512, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 5 * BLOCK + 4096])(
    "%i bytes by the definition",
    async (size) => {
      const bytes = pattern(size, 1);
      expect(await checksumDevice(memoryDevice(bytes))).toEqual({
        algorithm: "sha256-4m",
        digest: reference(bytes),
        size,
      });
      expect((await checksumDevice(nullDevice(size))).digest).toBe(reference(new Uint8Array(size)));
    },
  );

  test.each([
    ["in the middle of blocks", [[BLOCK + 5000, 100]]],
    ["across blocks", [[BLOCK * 2 - 4096, 8192]]],
    [
      "at both ends",
      [
        [0, 1],
        [BLOCK * 6 - 1, 1],
      ],
    ],
    [
      "in neighbours and not",
      [
        [0, 1],
        [BLOCK, 1],
        [BLOCK * 4, 1],
      ],
    ],
  ] as const)("sparse or not it is the same: data %s", async (_where, pieces) => {
    const dense = new Uint8Array(BLOCK * 6);
    const sparse = overlayDevice(nullDevice(dense.length), { unit: 4096 });
    for (const [offset, length] of pieces) {
      dense.set(pattern(length, 3), offset);
      await sparse.write(offset, pattern(length, 3));
    }
    const digest = reference(dense);
    expect((await checksumDevice(sparse)).digest).toBe(digest);
    expect((await checksumDevice(memoryDevice(dense))).digest).toBe(digest);
    expect((await checksumDevice(memoryDevice(dense, { blockSize: 4096 }))).digest).toBe(digest);
  });

  test("1 TiB of zeros by the definition, without reading", async () => {
    const outer = createHash("sha256");
    const zero = createHash("sha256").update(new Uint8Array(BLOCK)).digest();
    for (let i = 0; i < 2 ** 40 / BLOCK; i++) outer.update(zero);
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(2n ** 40n);
    expect((await checksumDevice(nullDevice(2 ** 40))).digest).toBe(outer.update(size).digest("hex"));
  });

  test("one bit changes it, and so does one byte of length", async () => {
    const bytes = pattern(10_000, 1);
    const before = (await checksumDevice(memoryDevice(bytes.slice()))).digest;
    bytes[9_999]! ^= 1;
    expect((await checksumDevice(memoryDevice(bytes))).digest).not.toBe(before);
    expect((await checksumDevice(nullDevice(100))).digest).not.toBe((await checksumDevice(nullDevice(101))).digest);
  });

  test("a failing read is its failure, with nothing in flight afterwards", async () => {
    let inFlight = 0;
    const device = defineDevice({
      label: "bad",
      size: BLOCK * 20,
      async read(offset) {
        inFlight++;
        await new Promise((resolve) => setImmediate(resolve));
        inFlight--;
        if (offset === BLOCK * 2) throw new Error("bad sector");
      },
    });
    await expect(checksumDevice(device)).rejects.toThrow("bad sector");
    expect(inFlight).toBe(0);
  });

  test("progress and abort", async () => {
    const controller = new AbortController();
    const seen: number[] = [];
    const onProgress = (done: number) => {
      seen.push(done);
      if (done > BLOCK * 3) controller.abort(new Error("stop"));
    };
    await expect(checksumDevice(memoryDevice(BLOCK * 12), { onProgress, signal: controller.signal })).rejects.toThrow(
      "stop",
    );
    expect(seen[0]).toBe(BLOCK);
  });
});
