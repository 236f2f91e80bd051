/** Images that were made to hurt: whatever their bytes say, there is an answer or a DiskError, soon, in little memory. */
import { describe, expect, test } from "vitest";
import { DiskError } from "#src/errors.js";
import { parseOptions } from "#src/formats/options.js";
import { qcow2 } from "#src/formats/qcow2/index.js";
import { openDevice } from "#src/formats/qcow2/open-device.js";
import { randomNumbers } from "../../interop/qcow2-support.js";
import { createOptions, memoryFile, openContext } from "../../support/images.js";

const SIZE = 1 << 20;

/** An image with data, a snapshot, and a second one over the first. */
async function sample(o = ""): Promise<Uint8Array> {
  const given = new Map(
    o
      .split(",")
      .filter(Boolean)
      .map((pair) => pair.split("=") as [string, string]),
  );
  const file = memoryFile();
  await qcow2.create(file, SIZE, createOptions({ values: parseOptions("qcow2", qcow2.options, given) }));
  const device = await openDevice(file, openContext());
  for (let i = 0; i < 10; i++) await device.write(i * 100_000, new Uint8Array(50_000).fill(i + 1));
  await device.createSnapshot("one");
  await device.write(0, new Uint8Array(200_000).fill(99));
  await device.close();
  return file.bytes().slice();
}

/** Everything that can be asked of an image; errors must be ours. */
async function ask(bytes: Uint8Array): Promise<void> {
  const attempts = [
    async () => qcow2.check(memoryFile(bytes, { writable: false }), openContext(), { repair: "none", dryRun: false }),
    async () => qcow2.check(memoryFile(bytes.slice()), openContext(), { repair: "all", dryRun: false }),
    async () => {
      const device = await openDevice(memoryFile(bytes, { writable: false }), openContext());
      const length = Math.min(device.size, 2 * SIZE);
      for await (const extent of device.extents(0, length)) expect(extent.length).toBeGreaterThan(0);
      await device.read(0, new Uint8Array(length));
    },
    async () => {
      const device = await openDevice(memoryFile(bytes.slice()), openContext());
      const length = Math.min(device.size, SIZE);
      await device.write(0, new Uint8Array(Math.min(length, 70_000)).fill(1));
      await device.zero(0, length);
      await device.createSnapshot("more");
      await device.close();
    },
  ];
  for (const attempt of attempts) {
    try {
      await attempt();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      expect(["CORRUPT", "UNSUPPORTED", "DENIED", "NO_SPACE", "NOT_FOUND"]).toContain(error.code);
    }
  }
}

describe.each(["", "cluster_size=512", "cluster_size=16k,extended_l2=on"])("qcow2 -o %s", (o) => {
  test("mutants", async () => {
    const image = await sample(o);
    const next = randomNumbers(5);
    for (let i = 0; i < 60; i++) {
      const mutant = image.slice();
      const reach = [112, mutant.length, 5 << (o === "cluster_size=512" ? 9 : 16)][i % 3]!;
      for (let k = 0; k < 8; k++) mutant[next(Math.min(reach, mutant.length))] = [0, 0xff, 0x80, next(256)][next(4)]!;
      await ask(mutant);
    }
  });

  test("cut anywhere", async () => {
    const image = await sample(o);
    for (const length of [0, 1, 71, 72, 103, 104, 511, 512, 70_000, image.length - 1])
      await ask(image.slice(0, length));
  });
});

describe("numbers in the header", () => {
  const put = (image: Uint8Array, at: number, size: 4 | 8, value: number | bigint) => {
    const view = new DataView(image.buffer, image.byteOffset);
    if (size === 4) view.setUint32(at, Number(value));
    else view.setBigUint64(at, BigInt(value));
    return image;
  };
  const cases: [what: string, at: number, size: 4 | 8, value: number | bigint, code: string, text: RegExp][] = [
    ["version", 4, 4, 4, "UNSUPPORTED", /version is 4, allowed 2 and 3/],
    ["cluster_bits", 20, 4, 33, "CORRUPT", /cluster_bits is 33, allowed 9\.\.21 \(byte 20\)/],
    ["size", 24, 8, 1n << 62n, "CORRUPT", /size is \d+, allowed 0\.\.2\^53-1/],
    ["AES", 32, 4, 1, "UNSUPPORTED", /encrypted \(AES\)/],
    ["LUKS", 32, 4, 2, "UNSUPPORTED", /encrypted \(LUKS\)/],
    ["l1_size", 36, 4, 0xffff_ffff, "CORRUPT", /l1_size is 4294967295/],
    ["l1_size too small", 36, 4, 0, "CORRUPT", /l1_size is 0, allowed 1 and more/],
    ["l1_table_offset", 40, 8, 12345, "CORRUPT", /l1_table_offset is 12345/],
    ["l1_table_offset outside", 40, 8, 1n << 40n, "CORRUPT", /l1_table_offset/],
    ["refcount_table_offset", 48, 8, 1n << 40n, "CORRUPT", /refcount_table_offset/],
    ["refcount_table_clusters", 56, 4, 0xffff, "CORRUPT", /refcount_table_clusters is 65535/],
    ["nb_snapshots", 60, 4, 0x1000_0000, "CORRUPT", /nb_snapshots/],
    ["incompatible", 72, 8, 1n << 40n, "UNSUPPORTED", /"incompatible feature bit 40"/],
    ["refcount_order", 96, 4, 7, "CORRUPT", /refcount_order is 7, allowed 0\.\.6/],
    ["header_length", 100, 4, 100_000, "CORRUPT", /header_length is 100000/],
  ];

  test.each(cases)("%s", async (_what, at, size, value, code, text) => {
    const image = put(await sample(), at, size, value);
    await expect(openDevice(memoryFile(image), openContext())).rejects.toMatchObject({ code, message: text });
  });

  test("an unknown feature is called by the name that the image has for it", async () => {
    const image = put(await sample(), 72, 8, 1n << 4n);
    const table = Buffer.from(image.buffer).indexOf("extended L2 entries"); // make bit 4 another one
    image[table - 1] = 9;
    Buffer.from("time travel\0\0\0\0\0\0\0\0").copy(image, table);
    put(image, 72, 8, 1n << 9n);
    await expect(openDevice(memoryFile(image), openContext())).rejects.toMatchObject({
      message: /it uses "time travel"/,
    });
  });

  test("an entry that names a table for its data is not written to", async () => {
    const image = await sample();
    const view = new DataView(image.buffer);
    const l2 = Number(view.getBigUint64(Number(view.getBigUint64(40))) & 0xff_ffff_ffff_fe00n);
    view.setBigUint64(l2 + 8, 0x8000_0000_0000_0000n | view.getBigUint64(40)); // the L1 table
    const file = memoryFile(image);
    const device = await openDevice(file, openContext());
    await expect(device.write(65536, new Uint8Array(512).fill(0x41))).rejects.toMatchObject({ code: "CORRUPT" });
  });

  test("a thousand snapshots that share one L1 table, and an L1 table of one L2 table", async () => {
    const image = await sample("cluster_size=512");
    const view = new DataView(image.buffer);
    const l1 = Number(view.getBigUint64(40));
    const entry = view.getBigUint64(l1);
    for (let i = 0; i < view.getUint32(36); i++) view.setBigUint64(l1 + i * 8, entry);
    expect(
      (await qcow2.check(memoryFile(image, { writable: false }), openContext(), { repair: "none", dryRun: false }))
        .corruptions,
    ).toBeGreaterThan(0);
    await ask(image);
  });
});
