/** Copies: whole or not at all, sparse, with identities of their own, and never over something that nobody offered. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Random } from "#src/filesystems/filesystem.js";
import { type CopyDiskOptions, copyDisk } from "#src/stack/copy-disk.js";
import { openDiskStack } from "#src/stack/disk.js";
import { seededRandom } from "../partitions/support.js";
import { tempDir } from "../support/temp-dir.js";
import { MIB, partitionedFile, poke, sparseFile } from "./support.js";

async function copy(source: string, target: string, options: Partial<CopyDiskOptions> = {}) {
  const disk = await openDiskStack(source);
  try {
    return await copyDisk(disk, target, { mode: "full", ...options });
  } finally {
    await disk.device.close();
  }
}

async function sample(dir: string): Promise<string> {
  const path = await partitionedFile(dir, "source.dsk", 64 * MIB, [10 * MIB, 20 * MIB]);
  await poke(path, 5 * MIB + 7, "five");
  await poke(path, 30 * MIB, new Uint8Array(300_000).fill(9));
  return path;
}

describe("into a new file", () => {
  test("the same bytes, as sparse, and told", async () => {
    const dir = tempDir();
    const source = await sample(dir);
    const target = join(dir, "target.dsk");
    const reports: number[] = [];
    const result = await copy(source, target, { verify: true, onProgress: (done) => reports.push(done) });
    expect(result).toMatchObject({ target, mode: "full", size: 64 * MIB, ids: [] });
    expect(readFileSync(target).equals(readFileSync(source))).toBe(true);
    expect(statSync(target).blocks).toBeLessThanOrEqual(statSync(source).blocks + 64);
    expect(reports.at(-1)).toBe(64 * MIB);
    expect(await copy(source, join(dir, "auto.dsk"), { mode: "auto" })).toMatchObject({ size: 64 * MIB });
    expect(readFileSync(join(dir, "auto.dsk")).equals(readFileSync(source))).toBe(true);
  });

  test("a partition becomes a file, a file a partition", async () => {
    const dir = tempDir();
    const source = await sample(dir);
    const part = join(dir, "part.img");
    await copy(`${source}#p1`, part);
    expect(readFileSync(part).equals(readFileSync(source).subarray(MIB, 11 * MIB))).toBe(true);
    const other = await partitionedFile(dir, "other.dsk", 64 * MIB, [2 * MIB, 12 * MIB]);
    await expect(copy(part, `${other}#p1`, { force: true })).rejects.toMatchObject({
      code: "NO_SPACE",
      message: expect.stringContaining("too small"),
    });
    await expect(copy(part, `${other}#p2`)).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("--force"),
    });
    await copy(part, `${other}#p2`, { force: true, verify: true });
    expect(
      readFileSync(other)
        .subarray(3 * MIB, 13 * MIB)
        .equals(readFileSync(part)),
    ).toBe(true);
    await expect(copy(`${other}#p1`, `${other}#p2`, { force: true })).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("both lie in one file"),
    });
    await expect(copy(part, `${other}#p2`, { mode: "reflink", force: true })).rejects.toMatchObject({
      code: "UNSUPPORTED",
    });
  });

  test("an existing file is replaced with force only, in one step", async () => {
    const dir = tempDir();
    const source = await sample(dir);
    const target = join(dir, "target.dsk");
    writeFileSync(target, "precious");
    await expect(copy(source, target)).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("exists"),
    });
    expect(readFileSync(target, "utf8")).toBe("precious");
    await copy(source, target, { force: true });
    expect(readFileSync(target).equals(readFileSync(source))).toBe(true);
    await expect(copy(source, source, { force: true })).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("same file"),
    });
    await expect(copy(source, dir, { force: true })).rejects.toMatchObject({ code: "DENIED" });
  });

  test("an abort or a failure leaves nothing, and a dry run does nothing", async () => {
    const dir = tempDir();
    const source = await sample(dir);
    const before = readdirSync(dir);
    const target = join(dir, "target.dsk");
    const stopping = new AbortController();
    await expect(
      copy(source, target, { signal: stopping.signal, onProgress: () => stopping.abort(new Error("stop")) }),
    ).rejects.toThrow("stop");
    const failing: Random = () => {
      throw new Error("no random numbers");
    };
    await expect(copy(source, target, { newIds: failing })).rejects.toThrow("no random numbers");
    expect(await copy(source, target, { dryRun: true })).toMatchObject({ size: 64 * MIB, copied: 0 });
    expect(readdirSync(dir)).toEqual(before);
    const { mode } = await copy(source, target, { mode: "auto", dryRun: true });
    expect(existsSync(target)).toBe(false);
    expect(await copy(source, join(tempDir(), "real.dsk"), { mode: "auto" })).toMatchObject({ mode });
    const forced = copy(source, target, { mode: "reflink", dryRun: true });
    if (mode === "reflink") expect(await forced).toMatchObject({ mode });
    else await expect(forced).rejects.toThrow(/by reflink: the file system cannot share blocks/);
    await expect(copy(source, join(dir, "x.qed"))).rejects.toMatchObject({ code: "UNSUPPORTED" });
    expect(readdirSync(dir)).toEqual(before);
    expect(existsSync(target)).toBe(false);
  });

  test("reflink only where blocks can be shared", async () => {
    const dir = tempDir();
    const source = await sample(dir);
    await expect(copy(`${source}#p1`, join(dir, "p.img"), { mode: "reflink" })).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("whole raw files"),
    });
    const outcome = await copy(source, join(dir, "r.dsk"), { mode: "reflink" }).catch((error: Error) => error.message);
    if (typeof outcome === "string") expect(outcome).toMatch(/cannot share blocks.*--mode full/);
    else expect(readFileSync(join(dir, "r.dsk")).equals(readFileSync(source))).toBe(true);
  });

  test("new identities: table, partitions, file systems; the source keeps its own", async () => {
    const dir = tempDir();
    const source = await sample(dir);
    const swap = Buffer.alloc(4096);
    swap.write("SWAPSPACE2", 4086);
    swap.writeUInt32LE(1, 1024);
    swap.writeUInt32LE(100, 1028);
    await poke(source, 11 * MIB, swap);
    const original = readFileSync(source);
    const { ids } = await copy(source, join(dir, "target.dsk"), { newIds: seededRandom(99), verify: true });
    expect(ids.map(({ what }) => what)).toEqual([
      "GPT disk GUID",
      "GUID of partition 1",
      "GUID of partition 2",
      "p2: swap UUID",
    ]);
    expect(new Set(ids.flatMap((id) => [id.old, id.new])).size).toBe(8);
    expect(readFileSync(source).equals(original)).toBe(true);
    const whole = sparseFile(dir, "plain.dsk", MIB);
    expect((await copy(whole, join(dir, "plain2.dsk"), { newIds: seededRandom() })).ids).toEqual([]);
  });
});
