/** What the contract of image formats asks, for overlays too: the model's bytes after random changes, and every flushed byte after a cut at any write. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CheckableFormat } from "#src/formats/extensions.js";
import { isCheckable } from "#src/formats/extensions.js";
import type { CreateOptions, ImageDevice, ImageFormat, OpenGate } from "#src/formats/format.js";
import { cutStates, imageBytes, memoryFile, openContext, recordChanges } from "../support/images.js";

export interface SuiteWorld {
  readonly size: number;
  /** For `create`. */
  readonly options?: Partial<CreateOptions>;
  readonly gate?: Partial<OpenGate>;
  /** What the disk reads as at first. */
  readonly initial?: Uint8Array;
}

type Op =
  | { readonly kind: "write"; readonly offset: number; readonly length: number; readonly fill: number }
  | { readonly kind: "zero"; readonly offset: number; readonly length: number }
  | { readonly kind: "flush" };

function ops(size: number, count: number): fc.Arbitrary<Op[]> {
  const range = fc
    .tuple(fc.nat(size - 1), fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: size })))
    .map(([offset, length]) => ({ offset, length: Math.min(length, size - offset) }));
  return fc.array(
    fc.oneof(
      {
        weight: 5,
        arbitrary: fc
          .tuple(range, fc.integer({ min: 1, max: 255 }))
          .map(([at, fill]) => ({ kind: "write" as const, ...at, fill })),
      },
      { weight: 2, arbitrary: range.map((at) => ({ kind: "zero" as const, ...at })) },
      { weight: 2, arbitrary: fc.constant({ kind: "flush" as const }) },
    ),
    { minLength: 1, maxLength: count },
  );
}

export function describeImage(name: string, format: ImageFormat, world: () => SuiteWorld): void {
  const open = (bytes: Uint8Array, gate: Partial<OpenGate> = {}) => format.open(memoryFile(bytes), openContext(gate));

  describe(name, () => {
    test("random changes read back as the model has them, now and after opening again", async () => {
      const { size, options, gate, initial } = world();
      await fc.assert(
        fc.asyncProperty(ops(size, 25), async (list) => {
          const file = memoryFile(await imageBytes(format, size, options));
          const image = await format.open(file, openContext(gate));
          const model = modelOf(size, initial);
          for (const op of list) await apply(image, model, op);
          expectSame(await contents(image), model);
          await image.close();
          const again = await open(file.bytes(), gate);
          expectSame(await contents(again), model);
          await again.close();
        }),
        { numRuns: 8, endOnFailure: true },
      );
    });

    test("after a cut at any write it opens, flushed bytes are there, and a check finds leaks at most", async () => {
      const { size, options, gate, initial } = world();
      await fc.assert(
        fc.asyncProperty(ops(size, 6), async (list) => {
          const before = await imageBytes(format, size, options);
          const file = recordChanges(memoryFile(before.slice()));
          const image = await format.open(file, openContext(gate));
          const model = modelOf(size, initial);
          // What is promised from a change on: the model as it was flushed, and which bytes may have changed since.
          const promises = [{ from: 0, flushed: model.slice(), touched: [] as [number, number][] }];
          for (const op of list) {
            await apply(image, model, op);
            if (op.kind === "flush") promises.push({ from: file.changes.length, flushed: model.slice(), touched: [] });
            else promises.at(-1)!.touched.push([op.offset, op.offset + op.length]);
          }
          await image.close();
          for await (const { after, bytes } of cutStates(before, file.changes)) {
            const { flushed, touched } = promises.findLast(({ from }) => from <= after)!;
            const found = await read(open, bytes, gate);
            for (const [begin, end] of touched) found.set(flushed.subarray(begin, end), begin);
            expect(Buffer.compare(found, flushed), `cut after change ${after}`).toBe(0);
            if (isCheckable(format)) expect(await corruptions(format, bytes)).toEqual([]);
          }
        }),
        { numRuns: 2, endOnFailure: true },
      );
    });

    test("mutated tables are used, or refused as damaged; nothing else happens", async () => {
      const { size, options, gate } = world();
      const file = memoryFile(await imageBytes(format, size, options));
      const image = await format.open(file, openContext(gate));
      for (let at = 0; at + 8192 <= size; at += Math.ceil(size / 7))
        await image.write(at, new Uint8Array(8192).fill(3));
      await image.close();
      const good = file.bytes().slice();
      const byte = fc.tuple(
        fc.oneof(
          fc.nat(2048),
          fc.nat(good.length - 1),
          fc.nat(511).map((i) => good.length - 1 - i),
        ),
        fc.nat(255),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(byte, { minLength: 1, maxLength: 6 }), async (changes) => {
          const bad = good.slice();
          for (const [at, value] of changes) bad[at] = value;
          const judged = async (work: () => Promise<unknown>) =>
            work().then(
              () => "used",
              (error) => error.code,
            );
          const use = async () => {
            const device = await open(bad.slice(), gate);
            await device.read(0, new Uint8Array(Math.min(device.size, 1 << 20)));
            await device.write(
              Math.max(0, Math.min(device.size, size) - 512),
              new Uint8Array(Math.min(device.size, 512)),
            );
            await device.close();
          };
          expect(["used", "CORRUPT", "UNSUPPORTED"]).toContain(await judged(use));
          if (isCheckable(format))
            for (const repair of ["none", "all"] as const)
              expect(["used", "CORRUPT", "UNSUPPORTED"]).toContain(
                await judged(() => format.check(memoryFile(bad.slice()), openContext(), { repair, dryRun: false })),
              );
        }),
        { numRuns: 60, endOnFailure: true },
      );
    });
  });
}

function modelOf(size: number, initial?: Uint8Array): Uint8Array {
  const model = new Uint8Array(size);
  if (initial) model.set(initial.subarray(0, size));
  return model;
}

async function apply(image: ImageDevice, model: Uint8Array, op: Op): Promise<void> {
  if (op.kind === "flush") return image.flush();
  const fill = op.kind === "write" ? op.fill : 0;
  if (op.kind === "write") await image.write(op.offset, new Uint8Array(op.length).fill(fill));
  else await image.zero(op.offset, op.length);
  model.fill(fill, op.offset, op.offset + op.length);
}

export async function contents(image: ImageDevice): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.size);
  await image.read(0, bytes);
  return bytes;
}

/** Compares as bytes: the matchers take minutes for megabytes. */
export function expectSame(found: Uint8Array, expected: Uint8Array): void {
  const at = found.findIndex((byte, i) => byte !== expected[i]);
  expect({ length: found.length, differsAt: Buffer.compare(found, expected) === 0 ? -1 : at }).toEqual({
    length: expected.length,
    differsAt: -1,
  });
}

async function read(
  open: (bytes: Uint8Array, gate?: Partial<OpenGate>) => Promise<ImageDevice>,
  bytes: Uint8Array,
  gate: Partial<OpenGate> = {},
): Promise<Uint8Array> {
  const image = await open(bytes.slice(), gate);
  const found = await contents(image);
  await image.close();
  return found;
}

async function corruptions(format: CheckableFormat, bytes: Uint8Array): Promise<readonly string[]> {
  const report = await format.check(memoryFile(bytes.slice()), openContext(), { repair: "none", dryRun: true });
  return report.corruptions > 0 ? report.problems : [];
}
