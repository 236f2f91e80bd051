import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compareDevices } from "#src/block/compare.js";
import { defineDevice } from "#src/block/device.js";
import { openFileDevice } from "#src/block/file.js";
import { memoryDevice } from "#src/block/memory.js";
import { nullDevice } from "#src/block/null.js";
import { overlayDevice } from "#src/block/overlay.js";
import { slice } from "#src/block/slice.js";
import { pattern } from "../contract/block-device.js";
import { edgeOffsets } from "../support/edges.js";
import { tempDir } from "../support/temp-dir.js";

const MIB = 1 << 20;

describe("comparing devices", () => {
  test("any two contents: the first different byte", () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.nat(3 * MIB - 1), { maxLength: 4 }), async (places) => {
        const bytes = pattern(3 * MIB, 1);
        const changed = bytes.slice();
        for (const place of new Set(places)) changed[place]! ^= 0x40;
        const firstDifference = places.length > 0 ? Math.min(...places) : null;
        const found = await compareDevices(memoryDevice(bytes), memoryDevice(changed));
        expect(found).toEqual({ same: firstDifference === null, firstDifference });
      }),
      { numRuns: 20 },
    ));

  test.each(edgeOffsets(3 * MIB, 1, MIB))(
    "a difference in byte %i alone, against zeros that the map knows",
    async (place) => {
      const bytes = new Uint8Array(3 * MIB);
      bytes[place] = 1;
      const found = await compareDevices(nullDevice(3 * MIB), memoryDevice(bytes));
      expect(found).toEqual({ same: false, firstDifference: place });
    },
  );

  test("a tail of zeros is no difference, unless strict", async () => {
    const long = new Uint8Array(2 * MIB + 100);
    long.set(pattern(MIB, 1));
    const [a, b] = [memoryDevice(pattern(MIB, 1)), memoryDevice(long)];
    expect(await compareDevices(a, b)).toEqual({ same: true, firstDifference: null });
    expect(await compareDevices(b, a)).toEqual({ same: true, firstDifference: null });
    expect(await compareDevices(a, b, { strict: true })).toEqual({ same: false, firstDifference: MIB });
    long[2 * MIB + 99] = 1;
    expect(await compareDevices(a, b)).toEqual({ same: false, firstDifference: 2 * MIB + 99 });
    expect(await compareDevices(b, a)).toEqual({ same: false, firstDifference: 2 * MIB + 99 });
  });

  test("devices of different block sizes, one not a multiple of the other's", async () => {
    const bytes = new Uint8Array(8192);
    bytes.set(pattern(5000, 2));
    const found = await compareDevices(memoryDevice(pattern(5000, 2)), memoryDevice(bytes, { blockSize: 4096 }));
    expect(found.same).toBe(true);
  });

  test("16 TiB of zeros cost nothing; what lies in one place of one file is not read", async () => {
    expect((await compareDevices(nullDevice(2 ** 44), nullDevice(2 ** 44))).same).toBe(true);
    const path = join(tempDir(), "base");
    writeFileSync(path, pattern(MIB, 3));
    const base = await openFileDevice(path);
    base.read = () => Promise.reject(new Error("read"));
    const view = overlayDevice(slice(base, 0, MIB), { unit: 4096 });
    expect((await compareDevices(base, view)).same).toBe(true);
    await base.close();
  });

  test("an abort ends it", async () => {
    const signal = AbortSignal.abort(new Error("stop"));
    await expect(compareDevices(nullDevice(1), nullDevice(1), { signal })).rejects.toThrow("stop");
  });

  test("a map with a gap is an error, not an endless wait", async () => {
    const broken = defineDevice({
      label: "broken",
      size: 100,
      read: async () => {},
      async *extents() {
        yield { offset: 0, length: 50, data: false, zero: true, present: true, depth: 0, hostOffset: null };
      },
    });
    await expect(compareDevices(broken, nullDevice(100))).rejects.toThrow(
      "its map ends at byte 50, asked for up to 100",
    );
  });
});
