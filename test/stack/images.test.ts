/** Images in the stack: the gate, new images over others, commit and rebase, packed copies, snapshots, check; and what a cut leaves. */
import { copyFileSync, existsSync, readdirSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { checkImage } from "#src/stack/check-image.js";
import { commitImage } from "#src/stack/commit-image.js";
import { type CopyDiskOptions, copyDisk } from "#src/stack/copy-disk.js";
import { type OpenDisk, type OpenDiskOptions, openDiskStack } from "#src/stack/disk.js";
import { backingChain, imageDocument } from "#src/stack/image-facts.js";
import { makeImage, type NewImageRequest } from "#src/stack/new-image.js";
import { rebaseImage } from "#src/stack/rebase-image.js";
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "#src/stack/snapshots.js";
import { trimZeros } from "#src/stack/trim-disk.js";
import { pattern } from "../contract/block-device.js";
import { tempDir } from "../support/temp-dir.js";

const MIB = 1 << 20;
const SIZE = 8 * MIB;

async function create(path: string, request: NewImageRequest = {}, size = SIZE): Promise<string> {
  await makeImage(path, request, ({ format, file, options }) => format.create(file, size, options));
  return path;
}

async function using<T>(name: string, options: OpenDiskOptions, work: (disk: OpenDisk) => Promise<T>): Promise<T> {
  const disk = await openDiskStack(name, options);
  try {
    return await work(disk);
  } finally {
    await disk.device.close();
  }
}

const write = (name: string, offset: number, data: Uint8Array) =>
  using(name, { writable: true, allowBacking: true }, ({ device }) => device.write(offset, data));

async function contents(device: BlockDevice): Promise<Uint8Array> {
  const bytes = new Uint8Array(device.size);
  await device.read(0, bytes);
  return bytes;
}

const read = (name: string, options: OpenDiskOptions = { allowBacking: true }) =>
  using(name, options, ({ device }) => contents(device));

const copy = (from: string, to: string, options: Partial<CopyDiskOptions> = {}) =>
  using(from, { allowBacking: true }, (disk) => copyDisk(disk, to, { mode: "full", ...options }));

/** A raw disk with data here and there. */
async function sample(dir: string, name = "base.dsk"): Promise<string> {
  const path = await create(join(dir, name));
  await write(path, 0, pattern(MIB, 1));
  await write(path, 3 * MIB + 100, pattern(70_000, 2));
  await write(path, SIZE - 5000, pattern(5000, 3));
  return path;
}

describe("the gate", () => {
  test("what an image names is opened when it is allowed or named, and only then", async () => {
    const dir = tempDir();
    const base = await sample(dir);
    const over = await create(join(dir, "over.qcow2"), { backing: { name: "base.dsk" } });
    await expect(read(over, {})).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringMatching(/names a backing file, "base.dsk", allowed with --allow-backing/),
    });
    expect(Buffer.compare(await read(over, { named: [base] }), await read(base))).toBe(0);
    symlinkSync(base, join(dir, "other.dsk"));
    expect((await read(over, { named: [join(dir, "other.dsk")] })).length).toBe(SIZE);
    await expect(read(over, { named: [over] })).rejects.toMatchObject({ code: "DENIED" });
    await using(over, { sealed: true }, async ({ image, device }) => {
      expect(image!.image.backing).toEqual({ name: "base.dsk", format: "raw" });
      await expect(device.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: "DENIED" });
    });
  });

  test("a chain that leads back to itself, and one whose format nobody wrote down, are refused", async () => {
    const dir = tempDir();
    await create(join(dir, "a.qcow2"));
    await create(join(dir, "b.qcow2"), { backing: { name: "a.qcow2" } });
    await rebaseImage(join(dir, "a.qcow2"), { backing: { name: "b.qcow2" }, unsafe: true });
    await expect(read(join(dir, "a.qcow2"))).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringMatching(/leads back/),
    });
    await expect(create(join(dir, "c.qcow2"), { backing: { name: "disk.bin" } })).rejects.toThrow(/-F FORMAT/);
    expect(existsSync(join(dir, "c.qcow2"))).toBe(false);
  });
});

describe("new images", () => {
  test("a copy in another format has the bytes and the holes, plain and packed", async () => {
    const dir = tempDir();
    const base = await sample(dir);
    const expected = await read(base);
    for (const [name, options] of [
      ["plain.qcow2", {}],
      ["packed.qcow2", { compress: true }],
      ["zstd.qcow2", { compress: true, options: new Map([["compression_type", "zstd"]]) }],
      ["small.qcow2", { options: new Map([["cluster_size", "4k"]]) }],
    ] as const) {
      const { copied, stored, format } = await copy(base, join(dir, name), { ...options, verify: true });
      expect({ format, bytes: Buffer.compare(await read(join(dir, name)), expected) }).toEqual({
        format: "qcow2",
        bytes: 0,
      });
      expect(copied).toBeLessThan(2 * MIB);
      expect(stored!).toBeLessThan(2 * MIB);
      const { report } = await checkImage(join(dir, name), { repair: "none", dryRun: false });
      expect(report).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
      await copy(join(dir, name), join(dir, `${name}.dsk`));
      expect(Buffer.compare(await read(join(dir, `${name}.dsk`)), expected)).toBe(0);
      expect(statSync(join(dir, `${name}.dsk`)).blocks * 512).toBeLessThan(2 * MIB);
    }
  });

  test.each([false, true])("over a backing image only what differs is written (packed: %s)", async (compress) => {
    const dir = tempDir();
    const base = await sample(dir);
    const changed = join(dir, "changed.dsk");
    copyFileSync(base, changed);
    await write(changed, 5 * MIB, pattern(10_000, 9));
    await write(changed, 0, new Uint8Array(MIB)); // zeros over data
    const target = join(dir, "over.qcow2");
    const { copied } = await copy(changed, target, { compress, backing: { name: "base.dsk" }, allowBacking: true });
    expect(copied).toBeLessThanOrEqual(131_072);
    expect(Buffer.compare(await read(target), await read(changed))).toBe(0);
  });

  test("a linked clone is an overlay that records name and format", async () => {
    const dir = tempDir();
    const base = await sample(dir);
    const { mode, stored } = await copy(base, join(dir, "link.qcow2"), { mode: "linked" });
    expect({ mode, small: stored! < 512 * 1024 }).toEqual({ mode: "linked", small: true });
    const document = await using(join(dir, "link.qcow2"), { sealed: true }, async (disk) => imageDocument(disk));
    expect(document).toMatchObject({ "backing-filename": base, "backing-filename-format": "raw" });
    expect(Buffer.compare(await read(join(dir, "link.qcow2")), await read(base))).toBe(0);
  });

  test("a failure leaves nothing", async () => {
    const dir = tempDir();
    const base = await sample(dir);
    const before = readdirSync(dir);
    const refused: Partial<CopyDiskOptions>[] = [
      { options: new Map([["cluster_size", "3k"]]) },
      { options: new Map([["nothing", "1"]]) },
      { backing: { name: "missing.qcow2" } },
      { preallocation: "some" },
      { signal: AbortSignal.abort(new Error("stop")) },
    ];
    for (const options of refused) await expect(copy(base, join(dir, "new.qcow2"), options)).rejects.toThrow();
    await expect(copy(base, join(dir, "new.dsk"), { compress: true })).rejects.toThrow(/no compression/);
    expect(readdirSync(dir)).toEqual(before);
  });
});

describe("overlays", () => {
  async function chain(dir: string) {
    const base = await sample(dir);
    await copy(base, join(dir, "base.qcow2"));
    const over = await create(join(dir, "over.qcow2"), { backing: { name: "base.qcow2" } });
    await write(over, 2 * MIB, pattern(MIB, 4));
    await using(over, { writable: true, allowBacking: true }, ({ device }) => device.zero(0, 300_000));
    return { base: join(dir, "base.qcow2"), over };
  }

  test("commit: the backing image shows what the overlay showed, which is empty then", async () => {
    const dir = tempDir();
    const { base, over } = await chain(dir);
    const expected = await read(over);
    await expect(commitImage(over, {})).rejects.toMatchObject({ code: "DENIED" });
    const dry = await commitImage(over, { allowBacking: true, dryRun: true });
    expect(dry.emptied).toBe(false);
    const { copied, emptied } = await commitImage(over, { allowBacking: true });
    expect({ copied, emptied }).toEqual({ copied: MIB + 65_536, emptied: true }); // the last zeros share a cluster with data
    expect(Buffer.compare(await read(base), expected)).toBe(0);
    expect(Buffer.compare(await read(over), expected)).toBe(0);
    expect((await commitImage(over, { allowBacking: true })).copied).toBe(0);
    expect((await checkImage(over, { repair: "none", dryRun: false })).report).toMatchObject({
      corruptions: 0,
      leaks: 0,
    });
  });

  test("commit of a larger overlay makes the backing image as large", async () => {
    const dir = tempDir();
    await sample(dir);
    const over = await create(join(dir, "over.qcow2"), { backing: { name: "base.dsk" } }, SIZE + MIB);
    await write(over, SIZE, pattern(1000, 5));
    const expected = await read(over);
    await commitImage(over, { allowBacking: true });
    expect(Buffer.compare(await read(join(dir, "base.dsk")), expected)).toBe(0);
  });

  test("rebase: on another image, or none, it shows the same", async () => {
    const dir = tempDir();
    const { over } = await chain(dir);
    const expected = await read(over);
    await create(join(dir, "other.qcow2"));
    await write(join(dir, "other.qcow2"), 0, pattern(3 * MIB, 6));
    await rebaseImage(over, { backing: { name: "other.qcow2" }, allowBacking: true });
    expect(Buffer.compare(await read(over), expected)).toBe(0);
    const below = await using(over, { sealed: true }, async ({ image }) => image!.image.backing);
    expect(below).toEqual({ name: "other.qcow2", format: "qcow2" });
    await rebaseImage(over, { backing: null, allowBacking: true });
    expect(Buffer.compare(await read(over, {}), expected)).toBe(0);
    await rebaseImage(over, { backing: { name: "base.dsk" }, unsafe: true });
    const names: string[] = [];
    await using(over, { sealed: true }, async (disk) => {
      for await (const { path, format } of backingChain(disk, { allowBacking: true })) names.push(`${path} ${format}`);
    });
    expect(names).toEqual([`${join(dir, "base.dsk")} raw`]);
  });
});

test("snapshots: made, listed, gone back to, forgotten; refused with the names that there are", async () => {
  const dir = tempDir();
  const base = await sample(dir);
  const path = join(dir, "a.qcow2");
  await copy(base, path);
  const first = await read(path);
  await createSnapshot(path, "before", {});
  await write(path, MIB, pattern(MIB, 8));
  const second = await read(path);
  await createSnapshot(path, "after", {});
  expect((await listSnapshots(path, {})).map(({ name }) => name)).toEqual(["before", "after"]);
  await expect(createSnapshot(path, "after", {})).rejects.toMatchObject({ code: "DENIED" });
  await expect(applySnapshot(path, "never", {})).rejects.toThrow(/there are before, after/);
  await applySnapshot(path, "before", { dryRun: true });
  expect(Buffer.compare(await read(path), second)).toBe(0);
  await applySnapshot(path, "before", {});
  expect(Buffer.compare(await read(path), first)).toBe(0);
  await deleteSnapshot(path, "before", {});
  await applySnapshot(path, "after", {});
  expect(Buffer.compare(await read(path), second)).toBe(0);
  await expect(listSnapshots(base, {})).rejects.toThrow(/raw images have none/);
  expect((await checkImage(path, { repair: "none", dryRun: false })).report).toMatchObject({
    corruptions: 0,
    leaks: 0,
  });
});

test.each(["a.dsk", "a.qcow2"])("trim gives back stored zeros of %s and changes no byte", async (name) => {
  const path = await create(join(tempDir(), name));
  await write(path, 0, pattern(3 * MIB, 1));
  await write(path, MIB + 4096, new Uint8Array(MIB));
  const before = await read(path);
  const used = () => using(path, {}, async ({ file }) => file!.file.allocatedSize());
  const stored = await used();
  const unit = await using(path, {}, async ({ image }) => image!.image.clusterSize ?? 4096);
  const trim = (dryRun: boolean) =>
    using(path, { writable: !dryRun }, ({ device }) => trimZeros(device, { unit, dryRun }));
  expect((await trim(true)).zeros).toBeGreaterThan(900_000);
  expect(await used()).toBe(stored);
  expect((await trim(false)).zeros).toBeGreaterThan(900_000);
  expect(await used()).toBeLessThan(stored - 800_000);
  expect(Buffer.compare(await read(path), before)).toBe(0);
  expect((await trim(false)).zeros).toBe(0);
});
