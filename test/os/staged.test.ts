/** A new file is there whole or not at all: refusals, races, kills, full disks. */
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { libc } from "#src/os/libc.js";
import { createStaged } from "#src/os/staged.js";
import { built, startNode } from "../support/child.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";

const MIB = 1 << 20;
const nameless = libc() !== null;

describe.each([
  ["without a name until then", { native: true }],
  ["under a hidden name until then", { native: false }],
  ["and not waited for until it is on the disk", { durable: false }],
])("a staged file %s", (_name, how) => {
  const stage = (path: string, options = {}) => createStaged(path, { ...how, ...options });

  test("appears at commit with all its bytes, and alone", async () => {
    const folder = tempDir();
    const path = join(folder, "a");
    const staged = await stage(path, { size: MIB });
    expect(staged.file.size).toBe(MIB);
    await staged.file.write(4096, new Uint8Array(4096).fill(7));
    expect(readdirSync(folder)).not.toContain("a");
    await staged.commit();
    await staged.abort();
    expect(readdirSync(folder)).toEqual(["a"]);
    expect(readFileSync(path)[4096]).toBe(7);
    expect(statSync(path).size).toBe(MIB);
    await expect(staged.commit()).rejects.toThrow(TypeError);
  });

  test("leaves nothing when given up", async () => {
    const folder = tempDir();
    const staged = await stage(join(folder, "a"), { size: MIB });
    await staged.abort();
    await staged.abort();
    expect(readdirSync(folder)).toEqual([]);
  });

  test("does not overwrite, neither what is there nor what came meanwhile", async () => {
    const folder = tempDir();
    const path = join(folder, "a");
    const staged = await stage(path);
    writeFileSync(path, "old");
    await expect(staged.commit()).rejects.toMatchObject({
      code: "DENIED",
      message: `Cannot create "${path}": it exists already, allowed with --force`,
    });
    await expect(stage(path)).rejects.toThrow(`Cannot create "${path}": it exists already, allowed with --force`);
    expect(readdirSync(folder)).toEqual(["a"]);
    expect(readFileSync(path, "utf8")).toBe("old");
  });

  test("with force it replaces at commit, not before, and keeps the mode", async () => {
    const folder = tempDir();
    const path = join(folder, "a");
    writeFileSync(path, "old");
    chmodSync(path, 0o640);
    const staged = await stage(path, { force: true });
    await staged.file.write(0, Buffer.from("new"));
    expect(readFileSync(path, "utf8")).toBe("old");
    await staged.commit();
    expect(readFileSync(path, "utf8")).toBe("new");
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(readdirSync(folder)).toEqual(["a"]);
    const fresh = await stage(join(folder, "b"), { force: true });
    await fresh.commit();
    expect(readdirSync(folder)).toEqual(["a", "b"]);
  });

  test.skipIf(process.getuid?.() !== 0)("with force the file stays its owner's, when root replaces it", async () => {
    const path = join(tempDir(), "a");
    writeFileSync(path, "old");
    chownSync(path, 12_345, 23_456);
    chmodSync(path, 0o4750);
    const staged = await stage(path, { force: true });
    await staged.commit();
    const { uid, gid, mode } = statSync(path);
    expect([uid, gid, mode & 0o7777]).toEqual([12_345, 23_456, 0o4750]);
  });

  test("through a symbolic link it replaces what the link names", async () => {
    const folder = tempDir();
    mkdirSync(join(folder, "real"));
    writeFileSync(join(folder, "real", "a"), "old");
    symlinkSync("real/a", join(folder, "link"));
    const staged = await stage(join(folder, "link"), { force: true });
    await staged.file.write(0, Buffer.from("new"));
    await staged.commit();
    expect(readFileSync(join(folder, "real", "a"), "utf8")).toBe("new");
  });

  test("two at once: one wins, the other leaves nothing", async () => {
    const folder = tempDir();
    const path = join(folder, "a");
    const both = [await stage(path), await stage(path)];
    await both[0]!.file.write(0, Buffer.from("first"));
    await both[1]!.file.write(0, Buffer.from("second"));
    const results = await Promise.allSettled(both.map((staged) => staged.commit()));
    expect(results.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(readdirSync(folder)).toEqual(["a"]);
  });

  test("refuses folders, and folders that are not there", async () => {
    const folder = tempDir();
    await expect(stage(folder, { force: true })).rejects.toThrow(`Cannot create "${folder}": it is a directory`);
    const missing = join(folder, "no", "a");
    await expect(stage(missing)).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: `Cannot create "${missing}": no such file or directory`,
    });
  });

  test("a size that the file system does not take leaves nothing", async () => {
    const folder = tempDir();
    await expect(stage(join(folder, "a"), { size: 2 ** 53 - 4096 })).rejects.toMatchObject({ code: "NO_SPACE" });
    expect(readdirSync(folder)).toEqual([]);
  });
});

/** A child that copies `source` to `target` and stops in the middle, waiting for its end. */
function copying(source: string, target: string, native: boolean, after = 10 * MIB) {
  return startNode(`
    import { openFileDevice, fileDevice } from ${built("block/file.js")};
    import { createStaged } from ${built("os/staged.js")};
    import { copyDevice } from ${built("block/copy.js")};
    const source = await openFileDevice(${JSON.stringify(source)}, { native: ${native} });
    const staged = await createStaged(${JSON.stringify(target)}, { size: source.size, force: true, native: ${native} });
    const onProgress = (done) => {
      if (done < ${after}) return;
      console.log("half way");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    };
    await copyDevice(source, fileDevice(staged.file), { targetIsZero: true, onProgress });
    await staged.commit();`);
}

describe.each([
  ["SIGKILL", true],
  ["SIGINT", true],
  ["SIGTERM", false],
  ["SIGKILL", false],
] as const)("%s in the middle of a copy, nameless %s", (signal, native) => {
  test("leaves the source and the old target as they were, and no result", async () => {
    const folder = tempDir();
    const [source, target] = [join(folder, "source"), join(folder, "target")];
    const bytes = Buffer.alloc(32 * MIB, 0xa5);
    writeFileSync(source, bytes);
    for (const old of [null, "old"]) {
      if (old) writeFileSync(target, old);
      const child = copying(source, target, native);
      expect(await child.line()).toBe("half way");
      expect(await child.end(signal)).toBe(signal);
      expect(Buffer.compare(readFileSync(source), bytes)).toBe(0);
      const visible = readdirSync(folder).filter((name) => !name.startsWith("."));
      expect(visible).toEqual(old ? ["source", "target"] : ["source"]);
      if (old) expect(readFileSync(target, "utf8")).toBe(old);
      if (native && nameless) expect(readdirSync(folder)).toEqual(visible); // not even a hidden file
    }
  });
});

describe.skipIf(!havePeer("prlimit"))("a disk that fills up in the middle of a copy", () => {
  // The limit on file sizes stands for the full disk: it needs no root and fails writes in the same way.
  test.each([true, false])("ends in NO_SPACE and leaves nothing, native %s", async (native) => {
    const folder = tempDir();
    const source = join(folder, "source");
    writeFileSync(source, Buffer.alloc(32 * MIB, 0xa5));
    const child = startNode(
      `
      import { openFileDevice, fileDevice } from ${built("block/file.js")};
      import { createStaged } from ${built("os/staged.js")};
      import { copyDevice } from ${built("block/copy.js")};
      const source = await openFileDevice(${JSON.stringify(source)});
      const staged = await createStaged(${JSON.stringify(join(folder, "target"))}, { native: ${native} });
      try {
        await copyDevice(source, fileDevice(staged.file, { sizeOverride: source.size, own: false }), { targetIsZero: true });
        await staged.commit();
      } catch (error) {
        await staged.abort();
        console.log(error.code, error.message);
      }`,
      ["prlimit", `--fsize=${20 * MIB}`],
    );
    expect(await child.line()).toMatch(/^NO_SPACE Cannot (write|copy to) ".*": the file would be larger/);
    expect(await child.end()).toBe(0);
    expect(readdirSync(folder)).toEqual(["source"]);
  });
});
