/** Any pile of wrappers behaves as a plain buffer, and leaves what lies outside of it alone. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { byteGranular } from "#src/block/aligned.js";
import { checksumDevice } from "#src/block/checksum.js";
import { compareDevices } from "#src/block/compare.js";
import { copyDevice } from "#src/block/copy.js";
import type { BlockDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { nullDevice } from "#src/block/null.js";
import { overlayDevice } from "#src/block/overlay.js";
import { slice } from "#src/block/slice.js";
import { pattern } from "../contract/block-device.js";

type Layer =
  | { kind: "slice"; from: number; cut: number }
  | { kind: "overlay"; unit: number; grow: number; onDevice: boolean }
  | { kind: "bytes" };

const layers: fc.Arbitrary<Layer[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("slice" as const), from: fc.nat(3), cut: fc.nat(3) }),
    fc.record({
      kind: fc.constant("overlay" as const),
      unit: fc.constantFrom(512, 1024, 4096),
      grow: fc.nat(4),
      onDevice: fc.boolean(),
    }),
    fc.record({ kind: fc.constant("bytes" as const) }),
  ),
  { maxLength: 5 },
);

const writes = fc.array(
  fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.nat(6000),
    seed: fc.integer({ min: 0, max: 200 }),
  }),
  { maxLength: 20 },
);

interface Pile {
  readonly device: BlockDevice;
  /** What it shows. */
  readonly model: Uint8Array;
}

function pile(base: Uint8Array, stack: readonly Layer[]): Pile {
  let device: BlockDevice = memoryDevice(base.slice(), { blockSize: 512 });
  let model = base.slice();
  for (const layer of stack) {
    if (layer.kind === "bytes") {
      device = byteGranular(device);
    } else if (layer.kind === "slice") {
      const from = Math.min(layer.from * 512, device.size - 512);
      const size = Math.max(512, device.size - from - layer.cut * 512);
      device = slice(device, from, size);
      model = model.slice(from, from + size);
    } else {
      const size = device.size + layer.grow * 512;
      const upper = layer.onDevice ? { upper: memoryDevice(size, { blockSize: 512 }) } : {};
      device = overlayDevice(device, { unit: layer.unit, size, ...upper });
      const grown = new Uint8Array(size);
      grown.set(model);
      model = grown;
    }
  }
  return { device, model };
}

test("any pile of wrappers, any writes: as a plain buffer; copies, digests and comparisons agree", () =>
  fc.assert(
    fc.asyncProperty(layers, writes, fc.integer({ min: 10, max: 40 }), async (stack, changes, sectors) => {
      const { device, model } = pile(pattern(sectors * 512, 9), stack);
      for (const { at, length, seed } of changes) {
        const unit = device.blockSize;
        const offset = Math.min(Math.floor((at * device.size) / unit) * unit, device.size - unit);
        const size = Math.min(Math.ceil(length / unit) * unit, device.size - offset);
        const data = pattern(size, seed);
        if (seed % 5 === 0) await device.zero(offset, size);
        else await device.write(offset, data);
        model.set(seed % 5 === 0 ? new Uint8Array(size) : data, offset);
      }
      const found = new Uint8Array(device.size);
      await device.read(0, found);
      expect(Buffer.compare(found, model)).toBe(0);

      const copy = overlayDevice(nullDevice(device.size), { unit: 512 });
      await copyDevice(device, copy, { targetIsZero: true, verify: true });
      expect(await compareDevices(copy, memoryDevice(model), { strict: true })).toEqual({
        same: true,
        firstDifference: null,
      });
      expect((await checksumDevice(device)).digest).toBe((await checksumDevice(memoryDevice(model))).digest);
    }),
    { numRuns: 150 },
  ));
