/**
 * What every image format owes: an empty disk of any size that reads as zeros, keeps what is written across opening and
 * across a cut at any write, is a good device, and never does more than refuse a file that somebody has tampered with.
 */
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fileDevice, openFileDevice } from "#src/block/file.js";
import { DiskError } from "#src/errors.js";
import { isCheckable } from "#src/formats/extensions.js";
import type { CreateOptions, ImageDevice, ImageFormat } from "#src/formats/format.js";
import { parseOptions } from "#src/formats/options.js";
import { createStaged } from "#src/os/staged.js";
import {
  createOptions,
  cutStates,
  type FileChange,
  imageBytes,
  memoryFile,
  openContext,
  openImageBytes,
  recordChanges,
} from "../support/images.js";
import { tempDir } from "../support/temp-dir.js";
import { describeBlockDevice, pattern } from "./block-device.js";

const MIB = 1 << 20;

export interface ImageFormatVariant {
  /** For the test's name: `with extended L2`. */
  readonly name?: string;
  /** Texts of `-o`. */
  readonly options?: Readonly<Record<string, string>>;
}

export function describeImageFormat(format: ImageFormat, variant: ImageFormatVariant = {}): void {
  const given = new Map(Object.entries(variant.options ?? {}));
  const options: Partial<CreateOptions> = { values: parseOptions(format.name, format.options, given) };

  describe(`format ${format.name} ${variant.name ?? ""}`.trim(), () => {
    describeFiles(format, options);
    describeSizes(format, options);
    describeTampering(format, options);
    describeCuts(format, options);
    describeBlockDevice(
      `image of ${format.name} ${variant.name ?? ""}`.trim(),
      async ({ size, writable }) => {
        const bytes = await imageBytes(format, size, options);
        return { device: (await openImageBytes(format, bytes, { writable })).image };
      },
      { blockSizes: [1], runs: 15 },
    );
  });
}

function describeFiles(format: ImageFormat, options: Partial<CreateOptions>): void {
  const dir = tempDir();
  let count = 0;

  /** A new image of `size` bytes in a file, closed. */
  async function made(size: number, more: Partial<CreateOptions> = {}): Promise<string> {
    const path = join(dir, `${count++}.${format.extensions[0]}`);
    const staged = await createStaged(path);
    await format.create(fileDevice(staged.file, { own: false }), size, createOptions({ ...options, ...more }));
    await staged.commit();
    return path;
  }

  const open = async (path: string, writable: boolean) =>
    format.open(await openFileDevice(path, { writable }), openContext());

  test("says its own magic, or none", async () => {
    const bytes = await imageBytes(format, MIB, options);
    expect(format.hasMagic(bytes.subarray(0, 512))).toBe(format.name !== "raw");
    expect(format.hasMagic(new Uint8Array(512))).toBe(false);
    expect(format.hasMagic(new Uint8Array(0))).toBe(false);
  });

  test.each(format.preallocations)("an empty disk, preallocation %s", async (preallocation) => {
    const device = await open(await made(3 * MIB + 512, { preallocation }), false);
    const bytes = new Uint8Array(device.size).fill(1);
    await device.read(0, bytes);
    await device.close();
    expect([bytes.length, bytes.every((byte) => byte === 0)]).toEqual([3 * MIB + 512, true]);
  });

  test("keeps what is written across opening", async () => {
    const path = await made(8 * MIB);
    const writing = await open(path, true);
    await writing.write(5 * MIB - 512, new Uint8Array(1024).fill(7));
    await writing.close();
    const reading = await open(path, false);
    const bytes = new Uint8Array(2048);
    await reading.read(5 * MIB - 1024, bytes);
    await reading.close();
    expect([
      ...new Set(bytes.subarray(0, 512)),
      ...new Set(bytes.subarray(512, 1536)),
      ...new Set(bytes.subarray(1536)),
    ]).toEqual([0, 7, 0]);
  });

  test("a disk of 15 TiB, or the largest there is, takes little space and little memory", async (context) => {
    const size = Math.min(format.maxSize, 15 * 2 ** 40);
    const outcome = await made(size).catch((error: unknown) => error as DiskError);
    if (outcome instanceof Error && /larger than the file system/.test(outcome.message))
      context.skip("the file system of the temporary folder refuses files of that size");
    if (outcome instanceof Error) throw outcome;
    const before = process.memoryUsage().arrayBuffers;
    const device = await open(outcome, true);
    expect(device.size).toBe(size);
    await device.write(size - 512, pattern(512, 3));
    const found = new Uint8Array(512);
    await device.read(size - 512, found);
    expect(Buffer.compare(found, pattern(512, 3))).toBe(0);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(192 * MIB);
    await device.close();
  });
}

/** Sizes around a cluster, and around what one table of 8-byte or 4-byte entries reaches. */
async function boundarySizes(format: ImageFormat, options: Partial<CreateOptions>): Promise<number[]> {
  const { image } = await openImageBytes(format, await imageBytes(format, MIB, options));
  const unit = image.image.clusterSize ?? 4096;
  await image.close();
  const edges = [unit, 2 * unit, (unit * unit) / 8, (unit * unit) / 4, 4 * MIB].filter((edge) => edge <= 2 ** 34);
  const near = edges.flatMap((edge) => [edge - 512, edge, edge + 512]);
  return [...new Set([512, 1024, ...near])].filter((size) => size > 0 && size <= format.maxSize && size % 512 === 0);
}

function describeSizes(format: ImageFormat, options: Partial<CreateOptions>): void {
  test("any size at the edges of its units and tables: exact, and good to its last byte", async () => {
    for (const size of await boundarySizes(format, options)) {
      if (format.name === "raw" && size > 64 * MIB) continue; // as large in memory as the disk is
      const { image, file } = await openImageBytes(format, await imageBytes(format, size, options));
      expect(image.size).toBe(size);
      const ends = [0, Math.max(0, size - 777)].map((at) => ({
        at,
        data: pattern(Math.min(700, size - at), at % 251),
      }));
      for (const { at, data } of ends) await image.write(at, data);
      await image.write(size - 1, Uint8Array.of(0xa5));
      await image.flush();
      await image.close();
      const again = await openImageBytes(format, file.bytes(), { writable: false });
      const found = new Uint8Array(1);
      await again.image.read(size - 1, found);
      expect([again.image.size, found[0]]).toEqual([size, 0xa5]);
      const last = ends[1]!;
      const tail = new Uint8Array(last.data.length);
      await again.image.read(last.at, tail);
      if (last.at > 0) expect(Buffer.compare(tail, last.data)).toBe(0);
      await expectClean(format, file.bytes());
      await again.image.close();
    }
  });
}

/** What the bytes of an image file may be besides what they are: a caller gets an answer or a typed refusal. */
function describeTampering(format: ImageFormat, options: Partial<CreateOptions>): void {
  test.skipIf(format.name === "raw")("tampered bytes are read, or refused with a code", async () => {
    const bytes = await sampleBytes(format, options);
    const places = fc.array(fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), value: fc.nat(255) }), {
      minLength: 1,
      maxLength: 8,
    });
    // Most of what decides lies at the begin of a file, some at its end.
    const region = fc.constantFrom([0, 128], [0, 4096], [0, bytes.length], [bytes.length - 512, bytes.length]);
    await fc.assert(
      fc.asyncProperty(region, places, async ([from, to], changes) => {
        const mutant = bytes.slice();
        const end = Math.min(to!, mutant.length);
        for (const { at, value } of changes) mutant[from! + Math.floor(at * (end - from! - 1))] = value;
        await useTampered(format, mutant);
      }),
      { numRuns: 150 },
    );
    for (const length of [0, 1, 511, 512, 1024, bytes.length >> 1, bytes.length - 1])
      await useTampered(format, bytes.slice(0, length));
  });
}

async function useTampered(format: ImageFormat, bytes: Uint8Array): Promise<void> {
  let image: ImageDevice | undefined;
  try {
    ({ image } = await openImageBytes(format, bytes));
    const { size } = image;
    const sample = new Uint8Array(Math.min(size, 64 * 1024));
    for (const at of [0, Math.max(0, size - sample.length)]) await image.read(at, sample);
    let runs = 0;
    for await (const extent of image.extents(0, Math.min(size, 64 * MIB)))
      if (extent.length <= 0 || ++runs > 5000) break;
    await image.write(0, sample.subarray(0, Math.min(512, sample.length)));
    await image.flush();
  } catch (error) {
    expectTyped(error);
  }
  await image?.close().catch(expectTyped);
  if (!isCheckable(format)) return;
  try {
    await format.check(memoryFile(bytes.slice(), { writable: true }), openContext(), { repair: "all", dryRun: false });
  } catch (error) {
    expectTyped(error);
  }
}

/** DENIED: it names another file now. NO_SPACE: no room below a limit. READ_ONLY: good for reading only. */
function expectTyped(error: unknown): void {
  if (!(error instanceof DiskError)) throw error;
  expect(["CORRUPT", "UNSUPPORTED", "DENIED", "NO_SPACE", "READ_ONLY"]).toContain(error.code);
}

async function sampleBytes(format: ImageFormat, options: Partial<CreateOptions>): Promise<Uint8Array> {
  const { image, file } = await openImageBytes(format, await imageBytes(format, 4 * MIB, options));
  await image.write(0, pattern(70_000, 1));
  await image.write(3 * MIB - 100, pattern(5000, 2));
  await image.zero(20_000, 4096);
  await image.close();
  return file.bytes().slice();
}

interface Step {
  readonly kind: "write" | "zero" | "discard" | "flush";
  readonly offset: number;
  readonly length: number;
}

/** Replays a log of what was written to the file, stopping everywhere. */
function describeCuts(format: ImageFormat, options: Partial<CreateOptions>): void {
  const size = 4 * MIB + 1536;
  const step: fc.Arbitrary<Step> = fc.record({
    kind: fc.constantFrom("write" as const, "write" as const, "zero" as const, "discard" as const, "flush" as const),
    offset: fc.oneof(fc.nat(size - 1), fc.constantFrom(0, 65_536, MIB - 512, 2 * MIB, size - 512)),
    length: fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.constantFrom(512, 65_536, 200_000)),
  });

  test("after a cut at any write it opens, is clean but for leaks, and has every flushed byte", () =>
    fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 7 }), async (steps) => {
        const before = await imageBytes(format, size, options);
        const file = recordChanges(memoryFile(before.slice()));
        const image = await format.open(file, openContext());
        const models: Model[] = [{ change: 0, flushed: new Uint8Array(size), loose: [] }];
        for (const [index, one] of [...steps, FLUSH].entries()) await take(image, one, index, models, file.changes);
        await image.close();
        let last = -1;
        for await (const { after, bytes } of cutStates(before, file.changes)) {
          // Of neighbouring states with the same expectation every one counts, but reading all of each would take minutes.
          if (file.changes.length > 60 && after === last && after % 3 !== 0) continue;
          last = after;
          await expectSurvived(format, bytes, models, after);
        }
      }),
      { numRuns: 6 },
    ));
}

const FLUSH: Step = { kind: "flush", offset: 0, length: 0 };

/** What is known of the contents from a change of the file on. */
interface Model {
  readonly change: number;
  /** What was durable at the last flush. */
  readonly flushed: Uint8Array;
  /** Ranges that were changed since then: old, new, or anything between in sectors. */
  readonly loose: readonly { readonly offset: number; readonly length: number }[];
}

async function take(
  image: ImageDevice,
  { kind, offset, length: wanted }: Step,
  index: number,
  models: Model[],
  changes: readonly FileChange[],
): Promise<void> {
  const length = Math.min(wanted, image.size - offset);
  const last = models.at(-1)!;
  if (kind === "flush") {
    await image.flush();
    const flushed = new Uint8Array(image.size);
    await image.read(0, flushed);
    models.push({ change: changes.length, flushed, loose: [] });
    return;
  }
  models.push({ ...last, change: changes.length, loose: [...last.loose, { offset, length }] });
  if (kind === "write") await image.write(offset, pattern(length, index + 1));
  else await image[kind](offset, length);
}

async function expectSurvived(
  format: ImageFormat,
  bytes: Uint8Array,
  models: readonly Model[],
  after: number,
): Promise<void> {
  const model = models.filter(({ change }) => change <= after).at(-1)!;
  const { image, file } = await openImageBytes(format, bytes.slice());
  const found = new Uint8Array(image.size);
  await image.read(0, found);
  const expected = model.flushed.slice();
  for (const { offset, length } of model.loose) expected.set(found.subarray(offset, offset + length), offset);
  const at = Buffer.compare(found, expected) === 0 ? -1 : found.findIndex((byte, i) => byte !== expected[i]);
  expect({ after, lost: at }).toEqual({ after, lost: -1 });
  await image.close();
  await expectClean(format, file.bytes());
}

/** Nothing but leaks. */
async function expectClean(format: ImageFormat, bytes: Uint8Array): Promise<void> {
  if (!isCheckable(format)) return;
  const report = await format.check(memoryFile(bytes, { writable: false }), openContext(), {
    repair: "none",
    dryRun: false,
  });
  expect({ ...report, leaks: 0 }).toMatchObject({ checkErrors: 0, corruptions: 0 });
}
