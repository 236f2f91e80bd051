/** Units that a format's tables give up: whole ones by the tables, the rest by writing; their space is not used again too early. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { defineDevice } from "#src/block/device.js";
import { type Location, mapDevice } from "#src/block/mapped.js";
import { alignUp } from "#src/bytes/align.js";
import { pattern } from "../contract/block-device.js";

const UNIT = 512;
const UNITS = 24;
const SIZE = UNIT * UNITS - 100;

const soon = () => new Promise((resolve) => setImmediate(resolve));

/** A table of places; a place is used again as soon as the format may. Several units at once where they lie together. */
function reusingFormat() {
  const store = new Uint8Array(UNIT * (UNITS + 4));
  const table = new Map<number, number>();
  const free = Array.from({ length: UNITS + 4 }, (_, i) => i * UNIT);
  const cleared: [number, number][] = [];
  const allocated: number[] = [];
  const storeDevice = defineDevice({
    label: "store",
    size: store.length,
    async read(offset, into) {
      await soon();
      into.set(store.subarray(offset, offset + into.length));
    },
    async write(offset, data) {
      for (let turns = 0; turns < 6; turns++) await soon(); // slower than a change of the table
      store.set(data, offset);
    },
  });
  const device = mapDevice({
    label: "format",
    size: SIZE,
    blockSize: 1,
    writable: true,
    async locate(offset, length): Promise<Location> {
      const place = table.get(Math.floor(offset / UNIT));
      const within = offset % UNIT;
      if (place !== undefined)
        return { kind: "data", device: storeDevice, offset: place + within, length: UNIT - within, shared: false };
      let end = offset - within + UNIT;
      while (end < offset + length && !table.has(end / UNIT)) end += UNIT;
      return { kind: "zero", length: end - offset };
    },
    allocator: {
      unit: UNIT,
      async allocate(offset, length) {
        const places = [free.shift()!];
        while (places.length * UNIT < length && free[0] === places.at(-1)! + UNIT) places.push(free.shift()!);
        allocated.push(places.length);
        return {
          device: storeDevice,
          offset: places[0]!,
          length: Math.min(places.length * UNIT, length),
          async commit() {
            await soon();
            for (const [i, place] of places.entries()) table.set(offset / UNIT + i, place);
          },
        };
      },
    },
    clearer: {
      unit: UNIT,
      async clear(offset, length) {
        cleared.push([offset, length]);
        await soon();
        const places: number[] = [];
        for (let unit = offset / UNIT; unit * UNIT < offset + length; unit++) {
          if (table.has(unit)) places.push(table.get(unit)!);
          table.delete(unit);
        }
        return () => free.unshift(...places);
      },
    },
  });
  return { device, cleared, allocated, used: () => table.size };
}

describe("units that a table can give up", () => {
  test("zero and discard clear whole units by the table and leave what lies beside them", async () => {
    for (const how of ["zero", "discard"] as const) {
      const { device, cleared, used } = reusingFormat();
      const model = pattern(SIZE, 1);
      await device.write(0, model);
      await device[how](UNIT + 10, 3 * UNIT);
      await device[how](SIZE - UNIT - 3, UNIT + 3);
      const lastUnits = alignUp(SIZE - UNIT - 3, UNIT);
      expect(cleared).toEqual([
        [2 * UNIT, 2 * UNIT],
        [lastUnits, SIZE - lastUnits],
      ]);
      expect(used()).toBeLessThan(UNITS);
      const found = new Uint8Array(SIZE);
      await device.read(0, found);
      if (how === "zero") {
        model.fill(0, UNIT + 10, 4 * UNIT + 10);
        model.fill(0, SIZE - UNIT - 3);
        expect(Buffer.compare(found, model)).toBe(0);
      } else {
        expect(Buffer.compare(found.subarray(0, UNIT + 10), model.subarray(0, UNIT + 10))).toBe(0);
        expect(Buffer.compare(found.subarray(4 * UNIT + 10, 8 * UNIT), model.subarray(4 * UNIT + 10, 8 * UNIT))).toBe(
          0,
        );
      }
    }
  });

  test("a write over several units that lie together is one allocation", async () => {
    const { device, allocated } = reusingFormat();
    await device.write(UNIT, pattern(5 * UNIT, 1));
    expect(allocated).toEqual([5]);
  });

  test("what was given up is not used again while somebody has its address", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(actionOf(), { maxLength: 12 }), { minLength: 2, maxLength: 6 }),
        async (actors) => {
          const { device } = reusingFormat();
          const share = Math.floor(UNITS / actors.length) * UNIT;
          await Promise.all(
            actors.map((actions, actor) => act(device, actor * share, Math.min(share, SIZE - actor * share), actions)),
          );
        },
      ),
      { numRuns: 150 },
    ));
});

type Action = { kind: "write" | "zero" | "discard" | "read"; from: number; length: number; seed: number };

function actionOf(): fc.Arbitrary<Action> {
  return fc.record({
    kind: fc.constantFrom("write" as const, "write" as const, "zero" as const, "discard" as const, "read" as const),
    from: fc.nat(5 * UNIT),
    length: fc.integer({ min: 1, max: 4 * UNIT }),
    seed: fc.nat(250),
  });
}

/** One user of a range of its own: its bytes are always what it made them, whatever the others do beside it. */
async function act(
  device: ReturnType<typeof reusingFormat>["device"],
  start: number,
  size: number,
  actions: readonly Action[],
): Promise<void> {
  const model = new Uint8Array(size);
  for (const { kind, from, length: wanted, seed } of actions) {
    const offset = from % size;
    const length = Math.min(wanted, size - offset);
    const found = new Uint8Array(length);
    if (kind === "write") {
      const data = pattern(length, seed);
      model.set(data, offset);
      await device.write(start + offset, data);
    } else if (kind === "zero") {
      model.fill(0, offset, offset + length);
      await device.zero(start + offset, length);
    } else if (kind === "discard") {
      // A write that is under way while its units are given up may or may not be seen, but hits nobody else.
      const write = device.write(start + offset, pattern(length, seed));
      await Promise.all([write, device.discard(start + offset, length)]);
      await device.read(start + offset, model.subarray(offset, offset + length));
    } else {
      await device.read(start + offset, found);
      expect(Buffer.compare(found, model.subarray(offset, offset + length))).toBe(0);
    }
  }
  const found = new Uint8Array(size);
  await device.read(start, found);
  expect(Buffer.compare(found, model)).toBe(0);
}
