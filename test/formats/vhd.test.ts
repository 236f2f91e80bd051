/** VHD images in memory: model, cuts, mutations, differencing images and their locators, sizes, checks, footers. */
import { describe, expect, test } from "vitest";
import { isBacked, isResizable } from "#src/formats/extensions.js";
import type { BackingReference } from "#src/formats/format.js";
import { OptionValues } from "#src/formats/options.js";
import { geometryFor, visibleSize } from "#src/formats/vhd/geometry.js";
import { vhd } from "#src/formats/vhd/index.js";
import {
  encodeFooter,
  encodeHeader,
  MAX_SIZE,
  VHD_FOOTER,
  VHD_HEADER,
  type VhdFooter,
} from "#src/formats/vhd/layout.js";
import { imageBytes, memoryFile, openContext, openImageBytes } from "../support/images.js";
import { contents, describeImage, expectSame } from "./image-suite.js";

const MIB = 1 << 20;
const SIZE = 2 * MIB + 1024;
const FIXED = new OptionValues(new Map([["subformat", "fixed"]]));

const check = (bytes: Uint8Array, repair: "none" | "leaks" | "all" = "none") => {
  const file = memoryFile(bytes);
  return vhd
    .check(file, openContext(), { repair, dryRun: false })
    .then((report) => ({ report, bytes: file.bytes().slice() }));
};

describe("differencing", async () => {
  const initial = new Uint8Array(SIZE);
  initial.fill(0xb5, 0, SIZE - MIB);
  const base = memoryFile(await imageBytes(vhd, SIZE));
  const image = await vhd.open(base, openContext());
  await image.write(0, initial.subarray(0, SIZE - MIB));
  await image.close();
  const openBase = () => vhd.open(memoryFile(base.bytes(), { writable: false }), openContext());
  const gate = { openBacking: openBase };
  const backing = { name: "golden images/base.vhd", format: "vhd", device: await openBase() };

  describeImage("a VHD over another one", vhd, () => ({ size: SIZE, options: { backing }, gate, initial }));

  test("a write of part of a sector keeps the rest of it, and takes no more than that sector", async () => {
    const { image } = await openImageBytes(vhd, await imageBytes(vhd, SIZE, { backing }), { gate });
    await image.write(700, Uint8Array.of(1, 2, 3));
    const expected = initial.slice();
    expected.set([1, 2, 3], 700);
    expectSame(await contents(image), expected);
    if (!isBacked(image)) throw new TypeError("no backing");
    const own = [];
    for await (const run of image.ownExtents(0, SIZE)) if (run.own) own.push([run.offset, run.length]);
    expect(own).toEqual([[512, 512]]);
  });

  test.each([
    ["base.vhd", "./base.vhd"],
    ["../up/base.vhd", "../up/base.vhd"],
    ["/srv/golden images/base.vhd", "/srv/golden images/base.vhd"],
    ["söme/päth.vhd", "./söme/päth.vhd"],
  ])("says where %s is, and who", async (name, found) => {
    const asked: BackingReference[] = [];
    const child = await imageBytes(vhd, SIZE, { backing: { ...backing, name } });
    const openBacking = (reference: BackingReference) => {
      asked.push(reference);
      return openBase();
    };
    const opened = await vhd.open(memoryFile(child), openContext({ openBacking }));
    expect(asked).toMatchObject([{ name: found, format: "vhd" }]);
    await opened.close();
  });

  test("another image in the place of its own is refused", async () => {
    const child = await imageBytes(vhd, SIZE, { backing });
    const other = await imageBytes(vhd, SIZE, { random: (size) => new Uint8Array(size).fill(9) });
    const openBacking = () => vhd.open(memoryFile(other), openContext());
    await expect(vhd.open(memoryFile(child), openContext({ openBacking }))).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringMatching(/has the UUID .*, allowed/),
    });
  });

  test("another image beneath, none, and nothing of its own", async () => {
    const { image, file } = await openImageBytes(vhd, await imageBytes(vhd, SIZE, { backing }), { gate });
    if (!isBacked(image)) throw new TypeError("no backing");
    await image.write(SIZE - 512, new Uint8Array(512).fill(4));
    await image.setBacking({ ...backing, name: "moved.vhd" });
    expect(image.image.backing).toMatchObject({ name: "moved.vhd" });
    await image.empty();
    expectSame(await contents(image), initial);
    await image.setBacking(null);
    await image.close();
    const alone = await openImageBytes(vhd, file.bytes().slice());
    expect(alone.image.image.backing).toBeNull();
    expectSame(await contents(alone.image), new Uint8Array(SIZE));
    expect((await check(file.bytes().slice())).report).toMatchObject({ corruptions: 0 });
  });
});

describe("footers", () => {
  const dynamic = () => imageBytes(vhd, SIZE);

  test("the last one is missing: the copy at the begin counts, and it comes back with the next writer", async () => {
    const bytes = (await dynamic()).slice(0, -512);
    expect((await check(bytes.slice())).report).toMatchObject({
      corruptions: 0,
      leaks: 1,
      problems: ["the footer at the end is missing"],
    });
    const { image, file } = await openImageBytes(vhd, bytes);
    await image.close();
    expect((await check(file.bytes().slice())).report).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test("the copy at the begin is damaged: the last one counts, and repair restores it", async () => {
    const bytes = (await dynamic()).slice();
    bytes[30]! ^= 1;
    expect((await check(bytes.slice())).report).toMatchObject({ leaks: 1 });
    const mended = await check(bytes.slice(), "leaks");
    expect((await check(mended.bytes)).report).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  test("one of 511 bytes, as old programs wrote it", async () => {
    const bytes = await imageBytes(vhd, MIB, { values: FIXED });
    const { image } = await openImageBytes(vhd, bytes.slice(0, -1), { writable: false });
    expect(image.size).toBe(MIB);
  });

  test("none at all is refused", async () => {
    await expect(openImageBytes(vhd, new Uint8Array(MIB))).rejects.toMatchObject({ code: "CORRUPT" });
    await expect(openImageBytes(vhd, new Uint8Array(10))).rejects.toMatchObject({ code: "CORRUPT" });
  });
});

test("which size counts: that of the footer, but the geometry for programs whose guests see it", () => {
  const footer = { currentSize: 314572800, ...geometryFor(314572800) } as VhdFooter;
  expect(visibleSize({ ...footer, creator: "win " })).toBe(314572800);
  expect(visibleSize({ ...footer, creator: "tap" })).toBe(314572800);
  const { cylinders, heads, sectorsPerTrack } = footer;
  expect(visibleSize({ ...footer, creator: "qemu" })).toBe(cylinders * heads * sectorsPerTrack * 512);
  expect(visibleSize({ ...footer, creator: "qemu" })).toBeLessThan(314572800);
});

test("more than 2040 GiB is refused with the limit", async () => {
  const bytes = (await imageBytes(vhd, SIZE)).slice();
  const footer = { ...VHD_FOOTER.decode(bytes), currentSize: MAX_SIZE + 512 };
  const header = { ...VHD_HEADER.decode(bytes, 512), blocks: Math.ceil(footer.currentSize / (2 * MIB)) };
  const large = new Uint8Array(8 * MIB);
  large.set(bytes);
  large.set(encodeFooter(footer));
  large.set(encodeHeader(header), 512);
  await expect(openImageBytes(vhd, large)).rejects.toMatchObject({
    code: "UNSUPPORTED",
    message: expect.stringMatching(/2040 GiB/),
  });
});

describe("sizes", () => {
  test.each([
    ["dynamic", {}],
    ["fixed", { values: FIXED }],
  ])("a %s one grows and shrinks, and what was cut off does not come back", async (_name, options) => {
    const { image, file } = await openImageBytes(vhd, await imageBytes(vhd, 5 * MIB, options));
    if (!isResizable(image)) throw new TypeError("no resize");
    await image.write(0, new Uint8Array(5 * MIB).fill(7));
    await image.resize(3 * MIB + 512);
    await image.resize(9 * MIB);
    const expected = new Uint8Array(9 * MIB);
    expected.fill(7, 0, 3 * MIB + 512);
    expectSame(await contents(image), expected);
    await image.close();
    const again = await openImageBytes(vhd, file.bytes().slice());
    expectSame(await contents(again.image), expected);
    expect((await check(file.bytes().slice())).report).toMatchObject({ corruptions: 0 });
  });
});

describe("check", () => {
  async function written(): Promise<Uint8Array> {
    const { image, file } = await openImageBytes(vhd, await imageBytes(vhd, 6 * MIB));
    for (let block = 0; block < 3; block++) await image.write(block * 2 * MIB, new Uint8Array(2 * MIB).fill(block + 1));
    await image.close();
    return file.bytes().slice();
  }
  const entryAt = (bytes: Uint8Array, block: number) => VHD_HEADER.decode(bytes, 512).tableOffset + block * 4;

  test("a block outside the file, or over the tables, becomes absent", async () => {
    for (const entry of [0, 1, 0x7fff_ffff]) {
      const bytes = await written();
      Buffer.from(bytes.buffer).writeUInt32BE(entry, entryAt(bytes, 1));
      expect((await check(bytes.slice())).report).toMatchObject({ corruptions: 1 });
      const mended = await check(bytes, "all");
      expect(mended.report).toMatchObject({ corruptionsFixed: 1, corruptions: 0 });
      expect((await check(mended.bytes)).report).toMatchObject({ corruptions: 0 });
    }
  });

  test("two blocks in one place: the second gets a copy", async () => {
    const bytes = await written();
    Buffer.from(bytes.buffer).copyWithin(entryAt(bytes, 2), entryAt(bytes, 0), entryAt(bytes, 0) + 4);
    const mended = await check(bytes, "all");
    expect(mended.report).toMatchObject({ corruptionsFixed: 1 });
    expect((await check(mended.bytes.slice())).report).toMatchObject({ corruptions: 0 });
    const { image } = await openImageBytes(vhd, mended.bytes);
    await image.write(4 * MIB, new Uint8Array(512));
    const found = await contents(image);
    expect([found[0], found[4 * MIB], found[4 * MIB + 512]]).toEqual([1, 0, 1]);
  });
});
