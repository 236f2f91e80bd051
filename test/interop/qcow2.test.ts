/** qemu-img judges qcow2, both ways: it reads ours, we read its, and both write into each other's. All options: qcow2.long.test.ts. */
import { copyFileSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { havePeer } from "../support/peers.js";
import { describeOptions } from "./qcow2-options.js";
import { contents, createImage, expectClean, newBacking, openImage, qemuImg, qemuIo } from "./qcow2-support.js";
import { qcow2World, SIZE } from "./qcow2-world.js";

describe.skipIf(!havePeer("qemu-img", "qemu-io"))("qcow2 and qemu-img", () => {
  const { dir, path, disk, rawDisk, expectContents, change } = qcow2World();
  const name = (extension: string) => path(extension).slice(dir.length + 1);

  describeOptions(["", "cluster_size=512,refcount_bits=64", "extended_l2=on,compression_type=zstd"]);

  test("header fields and features as qemu-img has them", async () => {
    const o = "cluster_size=16k,extended_l2=on,lazy_refcounts=on,refcount_bits=8,compression_type=zstd";
    const [ours, theirs] = [path(), path()];
    await createImage(ours, SIZE, o);
    qemuImg("create", "-q", "-f", "qcow2", "-o", o, theirs, String(SIZE));
    const facts = (image: string) => {
      const {
        "format-specific": specific,
        "cluster-size": cluster,
        "virtual-size": size,
      } = JSON.parse(qemuImg("info", "--output=json", image));
      return { specific, cluster, size };
    };
    expect(facts(ours)).toEqual(facts(theirs));
    const device = await openImage(theirs);
    expect(device.image.formatSpecific).toEqual(facts(theirs).specific);
    await device.close();
  });

  test("a data file, plain and raw", async () => {
    for (const raw of ["off", "on"]) {
      const image = path();
      const data = name("data");
      await createImage(image, SIZE, `data_file=${data},data_file_raw=${raw}`);
      const model = Buffer.alloc(SIZE);
      await change(image, model, 8);
      expectClean(image);
      qemuIo(image, "write -P 5 1M 100k");
      model.fill(5, 1 << 20, (1 << 20) + 100 * 1024);
      const device = await openImage(image);
      expect((await contents(device)).equals(model)).toBe(true);
      await device.close();
      if (raw === "on") expect(readFileSync(join(dir, data)).subarray(0, SIZE).equals(model)).toBe(true);

      const theirs = path();
      const theirData = name("data");
      qemuImg(
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        `data_file=${join(dir, theirData)},data_file_raw=${raw}`,
        theirs,
        String(SIZE),
      );
      const again = Buffer.alloc(SIZE);
      await change(theirs, again, 9);
      expectClean(theirs);
      expectContents(theirs, again);
    }
  });

  test("another size", async () => {
    const image = path();
    qemuImg("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", rawDisk, image);
    const device = await openImage(image, true);
    await device.resize(64 << 20);
    await device.write((64 << 20) - 10, Buffer.alloc(10, 1));
    await device.resize(3 << 20);
    await device.resize(SIZE);
    await device.close();
    expectClean(image);
    const model = Buffer.alloc(SIZE);
    disk.copy(model, 0, 0, 3 << 20);
    expectContents(image, model);
  });

  test("growing shows zeros: behind the last cluster's end, and over a longer backing file", async () => {
    for (const o of ["", "compat=0.10"]) {
      const image = path();
      const backing = await newBacking(rawDisk, "raw");
      await createImage(image, (1 << 20) + 512, o, { backing });
      await backing.device.close();
      const device = await openImage(image, true);
      await device.write(1 << 20, Buffer.alloc(512, 1));
      await device.resize(SIZE);
      const model = Buffer.alloc(SIZE);
      disk.copy(model, 0, 0, 1 << 20);
      model.fill(1, 1 << 20, (1 << 20) + 512);
      expect((await contents(device)).equals(model)).toBe(true);
      await device.close();
      expectClean(image);
      expectContents(image, model);
    }
  });

  test("a file that ends within its last cluster", async () => {
    const image = path();
    qemuImg("create", "-q", "-f", "qcow2", image, "1M");
    qemuIo(image, "write -P 1 0 64k");
    const short = path();
    copyFileSync(image, short);
    truncateSync(short, readFileSync(image).length - 1000);
    const device = await openImage(short, true);
    const bytes = await contents(device, 65536);
    expect([bytes[0], bytes[65536 - 1001], bytes[65536 - 1000], bytes[65535]]).toEqual([1, 1, 0, 0]);
    await device.write(65530, Buffer.alloc(10, 2));
    await device.close();
    expectClean(short);
  });
});
