/** Check, repair, snapshots and bitmaps of qcow2 beside qemu-img's. */
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { havePeer } from "../support/peers.js";
import {
  check,
  contents,
  createImage,
  expectClean,
  newBacking,
  openImage,
  qemuCheck,
  qemuImg,
  qemuIo,
} from "./qcow2-support.js";
import { qcow2World, SIZE } from "./qcow2-world.js";

const OPTIONS = ["", "cluster_size=512", "compat=0.10", "extended_l2=on", "refcount_bits=4", "refcount_bits=64"];

describe.skipIf(!havePeer("qemu-img", "qemu-io"))("qcow2, check and snapshots", () => {
  const { path, disk, rawDisk, expectContents, change } = qcow2World();

  /** Our report with qemu-img's keys, which leave out what is 0. */
  async function ourCheck(image: string) {
    const report = await check(image);
    const counts = {
      "image-end-offset": report.imageEndOffset,
      "total-clusters": report.totalClusters,
      "allocated-clusters": report.allocatedClusters,
      "fragmented-clusters": report.fragmentedClusters,
      "compressed-clusters": report.compressedClusters,
      "check-errors": report.checkErrors,
      leaks: report.leaks,
      corruptions: report.corruptions,
    };
    return Object.fromEntries(Object.entries(counts).filter(([key, value]) => value !== 0 || key === "check-errors"));
  }

  /** Both see the same, in images that are good, changed and broken. */
  async function expectSameCheck(image: string) {
    const { filename: _, format: __, ...theirs } = qemuCheck(image);
    expect(await ourCheck(image)).toEqual(theirs);
    return theirs as Record<string, number>;
  }

  const big = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt(value));
    return bytes;
  };

  function patch(image: string, at: number, bytes: Uint8Array): void {
    const all = readFileSync(image);
    all.set(bytes, at);
    writeFileSync(image, all);
  }

  const field = (image: string, at: number) => Number(readFileSync(image).readBigUInt64BE(at) & 0x00ff_ffff_ffff_fe00n);

  /** Byte of the first L1 entry that has a table. */
  function usedL1Entry(image: string): number {
    let at = field(image, 40);
    while (field(image, at) === 0) at += 8;
    return at;
  }

  describe.each(OPTIONS)("-o %s", (o) => {
    const args = o === "" ? [] : ["-o", o];
    const sample = (...more: string[]) => {
      const image = path();
      qemuImg("convert", ...more, "-f", "raw", "-O", "qcow2", ...args, rawDisk, image);
      return image;
    };

    test("the same numbers as qemu-img", async () => {
      await expectSameCheck(sample());
      await expectSameCheck(sample("-c"));
      const image = path();
      await createImage(image, SIZE, o);
      await change(image, Buffer.alloc(SIZE), 2);
      await expectSameCheck(image);
    });

    test("leaks are found and given back", async () => {
      const image = sample();
      patch(image, usedL1Entry(image), big(0));
      expect((await expectSameCheck(image)).leaks).toBeGreaterThan(0);
      const { leaks } = await check(image);
      expect(await check(image, "leaks", true)).toMatchObject({ leaks: 0, leaksFixed: leaks, corruptions: 0 });
      expect(await check(image)).toMatchObject({ leaks });
      expect(await check(image, "leaks")).toMatchObject({ leaks: 0, leaksFixed: leaks, corruptions: 0 });
      expectClean(image);
    });

    test("refcounts that are too low, and none at all", async () => {
      const image = sample();
      const model = Buffer.from(disk);
      const block = field(image, field(image, 48));
      patch(image, block, Buffer.alloc(16));
      expect((await expectSameCheck(image)).corruptions).toBeGreaterThan(0);
      expect(await check(image, "all")).toMatchObject({ leaks: 0, corruptions: 0 });
      expectClean(image);
      patch(image, field(image, 48), big(0));
      expect((await check(image)).corruptions).toBeGreaterThan(0);
      expect(await check(image, "all")).toMatchObject({ leaks: 0, corruptions: 0 });
      expectClean(image);
      expectContents(image, model);
      await change(image, model, 7);
      expectClean(image);
      expectContents(image, model);
    });

    test("COPIED flags", async () => {
      const image = sample();
      const l2 = field(image, usedL1Entry(image));
      const all = readFileSync(image);
      const size = o === "extended_l2=on" ? 16 : 8;
      for (let i = 0; i < 40; i++) all[l2 + i * size]! &= 0x7f;
      writeFileSync(image, all);
      expect((await expectSameCheck(image)).corruptions).toBeGreaterThan(0);
      expect(await check(image, "all")).toMatchObject({ leaks: 0, corruptions: 0 });
      expectClean(image);
      expectContents(image, disk);
    });

    test("a cut file", async () => {
      const image = sample();
      truncateSync(image, Math.floor(readFileSync(image).length / 3));
      expect((await check(image)).corruptions).toBeGreaterThan(0);
      const device = await openImage(image);
      await expect(contents(device)).rejects.toMatchObject({ code: "CORRUPT" });
      await device.close();
    });

    test.runIf(o !== "refcount_bits=1")("snapshots: ours for it, its for us", async () => {
      const image = o === "refcount_bits=4" ? sample() : sample("-c"); // many packed clusters in one need more bits
      const states = [Buffer.from(disk)];
      const take = async (name: string, theirs: boolean) => {
        if (theirs) return void qemuImg("snapshot", "-c", name, image);
        const device = await openImage(image, true);
        await device.createSnapshot(name);
        await device.close();
      };
      for (let i = 0; i < 4; i++) {
        await take(`s${i}`, i % 2 === 1);
        expectClean(image);
        await expectSameCheck(image);
        const model = Buffer.from(states.at(-1)!);
        await change(image, model, 20 + i);
        expectClean(image);
        states.push(model);
      }
      const device = await openImage(image, true);
      expect(device.image.snapshots.map(({ id, name }) => [id, name])).toEqual(
        [0, 1, 2, 3].map((i) => [String(i + 1), `s${i}`]),
      );
      await expect(device.createSnapshot("s1")).rejects.toMatchObject({ code: "DENIED" });
      await expect(device.applySnapshot("none")).rejects.toMatchObject({ code: "NOT_FOUND" });
      for (let i = 0; i < 4; i++) {
        const snapshot = await device.openSnapshot(`s${i}`);
        expect((await contents(snapshot)).equals(states[i]!)).toBe(true);
        await snapshot.close();
      }
      await device.deleteSnapshot("s2");
      await device.applySnapshot("s1");
      expect((await contents(device)).equals(states[1]!)).toBe(true);
      await device.write(100, Buffer.alloc(70_000, 0x55));
      await device.applySnapshot("4"); // an id
      expect((await contents(device)).equals(states[3]!)).toBe(true);
      await device.close();
      expectClean(image);
      expect(qemuImg("snapshot", "-l", image)).toMatch(/s0[\s\S]*s1[\s\S]*s3/);
      qemuImg("snapshot", "-a", "s0", image);
      expectContents(image, states[0]!);
      qemuImg("snapshot", "-d", "s0", image);
      const again = await openImage(image, true);
      expect((await contents(again)).equals(states[0]!)).toBe(true);
      for (const name of ["s1", "s3"]) await again.deleteSnapshot(name);
      await again.close();
      expectClean(image);
      expect((await expectSameCheck(image)).leaks).toBeUndefined();
      expectContents(image, states[0]!);
    });
  });

  test("refcounts of one bit allow no snapshot, and nothing has changed", async () => {
    const image = path();
    qemuImg("convert", "-f", "raw", "-O", "qcow2", "-o", "refcount_bits=1", rawDisk, image);
    const device = await openImage(image, true);
    await expect(device.createSnapshot("s")).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await device.close();
    expectClean(image);
    expectContents(image, disk);
    const packed = path();
    qemuImg("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "refcount_bits=4", rawDisk, packed);
    const other = await openImage(packed, true);
    await expect(other.createSnapshot("s")).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await other.close();
    expectClean(packed);
  });

  test("a snapshot keeps its size", async () => {
    const image = path();
    await createImage(image, 1 << 20);
    const device = await openImage(image, true);
    await device.write(0, Buffer.alloc(1 << 20, 1));
    await device.createSnapshot("small");
    await device.resize(3 << 20);
    await device.write(0, Buffer.alloc(3 << 20, 2));
    await device.createSnapshot("large");
    await device.applySnapshot("small");
    expect(device.size).toBe(1 << 20);
    expect((await contents(device)).every((byte) => byte === 1)).toBe(true);
    await device.applySnapshot("large");
    expect(device.size).toBe(3 << 20);
    expect((await contents(device)).every((byte) => byte === 2)).toBe(true);
    await device.close();
    expectClean(image);
  });

  test("a dirty image is repaired when it is opened for writing, and only then", async () => {
    const image = path();
    qemuImg("convert", "-f", "raw", "-O", "qcow2", "-o", "lazy_refcounts=on", rawDisk, image);
    patch(image, field(image, field(image, 48)) + 8, Buffer.alloc(64));
    patch(image, 79, Buffer.from([1]));
    const reading = await openImage(image);
    expect((await contents(reading)).equals(disk)).toBe(true);
    expect(reading.image.dirty).toBe(true);
    await reading.close();
    expect((await check(image)).corruptions).toBeGreaterThan(0);
    const writing = await openImage(image, true);
    expect(writing.image.dirty).toBe(false);
    await writing.close();
    expectClean(image);
    expectContents(image, disk);
  });

  test("a corrupt image can be read; writing needs a repair", async () => {
    const image = path();
    qemuImg("convert", "-f", "raw", "-O", "qcow2", rawDisk, image);
    patch(image, 79, Buffer.from([2]));
    await expect(openImage(image, true)).rejects.toMatchObject({ code: "CORRUPT", message: /marked corrupt/ });
    const reading = await openImage(image);
    expect((await contents(reading)).equals(disk)).toBe(true);
    await reading.close();
    await check(image, "all");
    await (await openImage(image, true)).close();
    expectClean(image);
  });

  test("bitmaps are listed, kept, and marked when nobody follows the writes", async () => {
    const image = path();
    qemuImg("convert", "-f", "raw", "-O", "qcow2", rawDisk, image);
    qemuImg("bitmap", "--add", "-g", "64k", image, "following");
    qemuImg("bitmap", "--add", "--disable", image, "still");
    await expectSameCheck(image);
    const theirs = () => JSON.parse(qemuImg("info", "--output=json", image))["format-specific"].data.bitmaps;
    const reading = await openImage(image);
    expect(reading.image.formatSpecific!.data.bitmaps).toEqual(theirs());
    await reading.close();
    const model = Buffer.from(disk);
    await change(image, model, 11);
    expectClean(image);
    expectContents(image, model);
    const after = await openImage(image);
    expect(after.image.formatSpecific!.data.bitmaps).toEqual(theirs());
    await after.close();
    expect(theirs()).toMatchObject([
      { name: "following", flags: ["in-use", "auto"] },
      { name: "still", flags: [] },
    ]);
    const resized = await openImage(image, true);
    await resized.resize(SIZE * 30);
    expect(resized.image.formatSpecific!.data.bitmaps).toMatchObject([{}, { name: "still", flags: ["in-use"] }]);
    await resized.close();
    expectClean(image);
    expect(theirs()).toMatchObject([{ flags: ["in-use", "auto"] }, { name: "still", flags: ["in-use"] }]);
  });

  test("empty gives everything up at once", async () => {
    const base = path();
    qemuImg("convert", "-f", "raw", "-O", "qcow2", rawDisk, base);
    const image = path();
    const backing = await newBacking(base, "qcow2");
    await createImage(image, SIZE, "", { backing });
    await backing.device.close();
    await change(image, Buffer.from(disk), 12);
    const device = await openImage(image, true);
    await device.empty();
    expect((await contents(device)).equals(disk)).toBe(true);
    await device.close();
    expectClean(image);
    expect(await check(image)).toMatchObject({ allocatedClusters: 0 });
  });

  test("another backing file, and none", async () => {
    const image = path();
    const backing = await newBacking(rawDisk, "raw");
    await createImage(image, SIZE, "", { backing });
    const copy = path("dsk");
    copyFileSync(rawDisk, copy);
    const device = await openImage(image, true);
    await device.setBacking({ name: copy, format: "raw", device: null });
    await device.close();
    expect(JSON.parse(qemuImg("info", "--output=json", image))).toMatchObject({ "backing-filename": copy });
    const again = await openImage(image, true);
    expect((await contents(again)).equals(disk)).toBe(true);
    await again.setBacking(null);
    await again.close();
    expect(JSON.parse(qemuImg("info", "--output=json", image))["backing-filename"]).toBeUndefined();
    qemuIo(image, "read -P 0 0 1M");
    await backing.device.close();
  });
});
