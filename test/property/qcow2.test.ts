/** qcow2 against a Buffer: writes, zeros and discards at once, flushes, reopening, snapshots, resizing, over a backing image. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { type ImageDevice, PLAIN_FACTS, withFacts } from "#src/formats/format.js";
import { parseOptions } from "#src/formats/options.js";
import { qcow2 } from "#src/formats/qcow2/index.js";
import { openDevice, type Qcow2Device } from "#src/formats/qcow2/open-device.js";
import { createOptions, memoryFile, openContext } from "../support/images.js";

const SIZE = 300_032;
const BACKING_SIZE = 200_000;

const OPTIONS = [
  "cluster_size=512",
  "cluster_size=4k,refcount_bits=8",
  "cluster_size=16k,extended_l2=on",
  "cluster_size=1k,compat=0.10",
  "",
];

const range = fc.tuple(
  fc.nat(),
  fc.oneof(fc.constant(512), fc.integer({ min: 1, max: 90_000 })),
  fc.integer({ min: 1, max: 255 }),
);
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      ranges: fc.array(range, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("zero" as const),
      ranges: fc.array(range, { minLength: 1, maxLength: 2 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("discard" as const),
      ranges: fc.array(range, { minLength: 1, maxLength: 2 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("flush" as const, "reopen" as const), pick: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom("take" as const, "apply" as const, "drop" as const), pick: fc.nat() }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("resize" as const), size: fc.integer({ min: 1, max: 700 }) }) },
);

const backingBytes = Buffer.from(Array.from({ length: BACKING_SIZE }, (_, i) => (i >> 9) & 0xff));
const backing = (): ImageDevice => withFacts(memoryDevice(backingBytes, { writable: false }), () => PLAIN_FACTS);

test.each(OPTIONS)(
  "qcow2 -o %s behaves as a Buffer",
  async (o) => {
    const given = new Map(
      o
        .split(",")
        .filter(Boolean)
        .map((pair) => pair.split("=") as [string, string]),
    );
    const values = parseOptions("qcow2", qcow2.options, given);
    const context = openContext({ openBacking: async () => backing() });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), fc.boolean(), async (steps, backed) => {
        let file = memoryFile();
        const over = backed ? { name: "base.dsk", format: "raw", device: backing() } : null;
        await qcow2.create(file, SIZE, createOptions({ values, backing: over }));
        let device: Qcow2Device = await openDevice(file, context);
        let model = Buffer.alloc(SIZE);
        if (backed) backingBytes.copy(model);
        const snapshots: { name: string; state: Buffer }[] = [];
        let names = 0;

        const reopen = async () => {
          await device.close();
          file = memoryFile(file.bytes());
          device = await openDevice(file, context);
        };
        const within = ([at, length, value]: readonly [number, number, number]) => {
          const start = at % model.length;
          return { start, length: Math.min(length, model.length - start), value };
        };
        /** Those that do not touch each other run at once. */
        const disjoint = (ranges: readonly (readonly [number, number, number])[]) =>
          ranges
            .map(within)
            .filter(
              (one, i, all) =>
                !all
                  .slice(0, i)
                  .some((two) => one.start < two.start + two.length && two.start < one.start + one.length),
            );
        const expectSame = async () => {
          const bytes = Buffer.alloc(model.length);
          await device.read(0, bytes);
          expect(bytes.equals(model)).toBe(true);
        };

        for (const each of steps) {
          if (each.kind === "write") {
            const ranges = disjoint(each.ranges);
            await Promise.all(
              ranges.map(({ start, length, value }) => device.write(start, new Uint8Array(length).fill(value))),
            );
            for (const { start, length, value } of ranges) model.fill(value, start, start + length);
          } else if (each.kind === "zero" || each.kind === "discard") {
            const ranges = disjoint(each.ranges);
            if (each.kind === "discard")
              await Promise.all(ranges.map(({ start, length }) => device.discard(start, length)));
            await Promise.all(ranges.map(({ start, length }) => device.zero(start, length)));
            for (const { start, length } of ranges) model.fill(0, start, start + length);
          } else if (each.kind === "flush") await device.flush();
          else if (each.kind === "reopen") await reopen();
          else if (each.kind === "take") {
            const name = `s${names++}`;
            await device.createSnapshot(name);
            snapshots.push({ name, state: Buffer.from(model) });
          } else if (each.kind === "resize") {
            const size = each.size * 512;
            await device.resize(size);
            const next = Buffer.alloc(size);
            model.copy(next);
            model = next;
          } else if (snapshots.length > 0) {
            const picked = snapshots[each.pick % snapshots.length]!;
            if (each.kind === "apply") {
              await device.applySnapshot(picked.name);
              model = Buffer.from(picked.state);
            } else {
              await device.deleteSnapshot(picked.name);
              snapshots.splice(snapshots.indexOf(picked), 1);
            }
          }
          expect(device.size).toBe(model.length);
        }
        await expectSame();
        await reopen();
        await expectSame();
        for (const { name, state } of snapshots) {
          const bytes = Buffer.alloc(state.length);
          await (await device.openSnapshot(name)).read(0, bytes);
          expect(bytes.equals(state)).toBe(true);
        }
        await device.close();
        const clean = await qcow2.check(memoryFile(file.bytes(), { writable: false }), openContext(), {
          repair: "none",
          dryRun: false,
        });
        expect(clean).toMatchObject({ corruptions: 0, leaks: 0, problems: [] });
      }),
      { numRuns: 25 },
    );
  },
  60_000,
);
