/** Kernel devices as programs of the system see them: file systems made, mounted, filled and checked on them. */
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { openFileDevice } from "#src/block/file.js";
import { slice } from "#src/block/slice.js";
import { copyInto, expectNothingLeft, kernelPlace, kernelTakesDevices, MiB, output, run } from "./kernel-support.js";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const allocated = (path: string) => statSync(path).blocks * 512;

describe.skipIf(!kernelTakesDevices("mkfs.ext4", "e2fsck", "blockdev", "dd", "blkdiscard"))("a kernel device", () => {
  test.each([512, 4096])(
    "ext4 on a partition, sectors of %i bytes: made, filled, clean, and in the image",
    async (sector) => {
      const place = kernelPlace();
      const image = place.image("a.dsk", 256 * MiB);
      const inner = await openFileDevice(image, { writable: true });
      const device = sector === 512 ? inner : { ...over(inner), blockSize: sector };
      const kernel = await place.serve(image, { device, partitions: [{ number: 3, offset: MiB, size: 200 * MiB }] });
      const node = kernel.partitions.get(3)!;
      expect([...kernel.partitions]).toEqual([[3, `${kernel.path}3`]]);
      expect(await output("blockdev", "--getss", "--getsize64", node)).toBe(`${sector}\n${200 * MiB}`);
      await run("mkfs.ext4", ["-q", node]);
      expect(allocated(image)).toBeLessThan(40 * MiB); // what mkfs discards is not written
      const point = await place.mount(node);
      const data = randomBytes(20 * MiB);
      await copyInto(join(point, "data"), data);
      await place.unmount(point);
      await run("e2fsck", ["-fn", node]);
      await kernel.close();
      await expectNothingLeft(place);
      const partition = Buffer.alloc(200 * MiB);
      await slice(inner, MiB, partition.length).read(0, partition);
      await inner.close();
      await writeFile(join(place.dir, "p3"), partition);
      await run("e2fsck", ["-fn", join(place.dir, "p3")]);
      await run("debugfs", ["-R", `dump /data ${join(place.dir, "data")}`, join(place.dir, "p3")]);
      expect(sha256(await readFile(join(place.dir, "data")))).toBe(sha256(data));
      expect(place.messages).toEqual([]);
    },
  );

  test.skipIf(!kernelTakesDevices("mkfs.xfs", "xfs_repair"))(
    "XFS on the whole disk, trimmed after a deletion",
    async () => {
      const place = kernelPlace();
      const image = place.image("a.dsk", 320 * MiB);
      const kernel = await place.serve(image);
      await run("mkfs.xfs", ["-q", kernel.path]);
      const point = await place.mount(kernel.path);
      await copyInto(join(point, "data"), randomBytes(24 * MiB));
      await run("sync", ["-f", point]);
      const full = allocated(image);
      await run("rm", [join(point, "data")]);
      // XFS frees a removed file's blocks in the background; until then there is nothing to trim.
      const trimmed = async () => {
        await run("fstrim", [point]);
        return full - allocated(image) > 20 * MiB;
      };
      await vi.waitUntil(trimmed, { timeout: 20_000, interval: 100 });
      await place.unmount(point);
      await run("xfs_repair", ["-n", kernel.path]);
      await kernel.close();
      await expectNothingLeft(place);
    },
  );

  test("past the cache and through it, the same bytes", async () => {
    const place = kernelPlace();
    const image = place.image("a.dsk", 16 * MiB);
    const kernel = await place.serve(image);
    const data = randomBytes(3 * MiB);
    const source = join(place.dir, "source");
    await writeFile(source, data);
    await run("dd", [`if=${source}`, `of=${kernel.path}`, "bs=1M", "seek=2", "oflag=direct"]);
    await run("dd", [`if=${source}`, `of=${kernel.path}`, "bs=64K", "seek=128"]); // in the image when dd has closed it
    const expected = Buffer.alloc(16 * MiB);
    data.copy(expected, 2 * MiB);
    data.copy(expected, 8 * MiB);
    expect(sha256(readFileSync(image))).toBe(sha256(expected));
    for (const flags of [[], ["iflag=direct"]]) {
      await run("dd", [`if=${kernel.path}`, `of=${source}`, "bs=1M", ...flags]);
      expect(sha256(readFileSync(source))).toBe(sha256(expected));
    }
  });

  test("one that may only be read", async () => {
    const place = kernelPlace();
    const image = place.image("a.dsk", 16 * MiB);
    await run("mkfs.ext4", ["-q", image]);
    const kernel = await place.serve(image, { writable: false });
    expect(await output("blockdev", "--getro", kernel.path)).toBe("1");
    await expect(run("dd", ["if=/dev/zero", `of=${kernel.path}`, "bs=4K", "count=1"])).rejects.toThrow();
    const point = await place.mount(kernel.path, "-o", "ro");
    await expect(copyInto(join(point, "x"), "x")).rejects.toThrow("Read-only");
    await place.unmount(point);
    await kernel.close();
    await expectNothingLeft(place);
  });

  test("a sync is the device's flush; a discard gives space back, and reads as zeros", async () => {
    const place = kernelPlace();
    const image = place.image("a.dsk", 32 * MiB);
    const inner = await openFileDevice(image, { writable: true });
    let flushes = 0;
    const device = defineDevice({
      ...{ label: "counted", size: inner.size, blockSize: 512 },
      read: (offset, into) => inner.read(offset, into),
      write: (offset, data) => inner.write(offset, data),
      zero: (offset, length) => inner.zero(offset, length),
      discard: (offset, length) => inner.discard(offset, length),
      extents: (offset, length) => inner.extents(offset, length),
      async flush() {
        flushes++;
        await inner.flush();
      },
    });
    const kernel = await place.serve(image, { device });
    await run("dd", ["if=/dev/urandom", `of=${kernel.path}`, "bs=1M", "count=32", "oflag=direct"]);
    const before = flushes;
    await run("dd", ["if=/dev/zero", `of=${kernel.path}`, "bs=4K", "count=1", "conv=fsync"]);
    expect(flushes).toBeGreaterThan(before);
    expect(allocated(image)).toBe(32 * MiB);
    await run("blkdiscard", ["-o", String(8 * MiB), "-l", String(16 * MiB), kernel.path]);
    expect(allocated(image)).toBe(16 * MiB);
    expect(
      readFileSync(image)
        .subarray(8 * MiB, 24 * MiB)
        .equals(Buffer.alloc(16 * MiB)),
    ).toBe(true);
    await kernel.close();
    await inner.close();
  });

  test.skipIf(!kernelTakesDevices("mkfs.xfs", "xfs_growfs"))("a mounted file system grows with its disk", async () => {
    const place = kernelPlace();
    const inner = await openFileDevice(place.image("a.dsk", 480 * MiB), { writable: true });
    const device = { ...over(inner), size: 320 * MiB };
    const kernel = await place.serve("", { device });
    await run("mkfs.xfs", ["-q", kernel.path]);
    const point = await place.mount(kernel.path);
    device.size = inner.size;
    await kernel.resize(device.size);
    expect(await output("blockdev", "--getsize64", kernel.path)).toBe(String(480 * MiB));
    await run("xfs_growfs", [point]);
    expect(Number(await output("stat", "-f", "-c", "%b", point)) * 4096).toBeGreaterThan(380 * MiB);
    await place.unmount(point);
    await run("xfs_repair", ["-n", kernel.path]);
    await kernel.close();
    await inner.close();
    await expectNothingLeft(place);
  });
});

/** The device under another size or block size. */
function over(inner: BlockDevice) {
  return {
    ...{ label: "another", blockSize: 512, size: inner.size, writable: true },
    read: inner.read.bind(inner),
    write: inner.write.bind(inner),
    zero: inner.zero.bind(inner),
    discard: inner.discard.bind(inner),
    extents: inner.extents.bind(inner),
    flush: inner.flush.bind(inner),
    close: inner.close.bind(inner),
  };
}
