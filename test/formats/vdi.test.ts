/** VDI images in memory: model, cuts, mutations, differencing images, sizes, checks. */
import { describe, expect, test } from "vitest";
import { isBacked, isResizable } from "#src/formats/extensions.js";
import { OptionValues } from "#src/formats/options.js";
import { vdi } from "#src/formats/vdi/index.js";
import { VDI_HEADER } from "#src/formats/vdi/layout.js";
import { imageBytes, memoryFile, openContext, openImageBytes } from "../support/images.js";
import { contents, describeImage, expectSame } from "./image-suite.js";

const MIB = 1 << 20;
const SIZE = 3 * MIB + 512;

describe("differencing", async () => {
  const base = await imageBytes(vdi, SIZE);
  const filled = memoryFile(base);
  const image = await vdi.open(filled, openContext());
  await image.write(0, new Uint8Array(SIZE - MIB).fill(0xb5));
  await image.close();
  const initial = new Uint8Array(SIZE);
  initial.fill(0xb5, 0, SIZE - MIB);
  const openBase = () => vdi.open(memoryFile(filled.bytes(), { writable: false }), openContext());
  const found = async () => ({ image: await openBase(), name: "base.vdi" });
  const gate = { openByIdentity: found };
  const backing = { name: "base.vdi", format: "vdi", device: await openBase() };

  describeImage("a VDI over another one", vdi, () => ({ size: SIZE, options: { backing }, gate, initial }));

  test("asks for the image beneath by its identity", async () => {
    const asked: unknown[] = [];
    const child = await imageBytes(vdi, SIZE, { backing });
    const openByIdentity = (reference: { identity: string }) => {
      asked.push(reference.identity);
      return found();
    };
    await (await vdi.open(memoryFile(child), openContext({ openByIdentity }))).close();
    expect(asked).toEqual([backing.device.image.identity]);
  });

  test("empty gives everything back to the image beneath, at once", async () => {
    const child = await imageBytes(vdi, SIZE, { backing });
    const { image, file } = await openImageBytes(vdi, child, { gate });
    if (!isBacked(image)) throw new TypeError("no backing");
    await image.write(MIB, new Uint8Array(2 * MIB).fill(1));
    await image.empty();
    expectSame(await contents(image), initial);
    await image.close();
    const again = await openImageBytes(vdi, file.bytes().slice(), { gate });
    expectSame(await contents(again.image), initial);
  });
});

test("a static one has all of its blocks from the start", async () => {
  const values = new OptionValues(new Map([["static", true]]));
  const bytes = await imageBytes(vdi, SIZE, { values });
  const header = VDI_HEADER.decode(bytes);
  expect(header).toMatchObject({ type: 2, blocks: 4, allocatedBlocks: 4, diskSize: SIZE });
  const report = await vdi.check(memoryFile(bytes), openContext(), { repair: "none", dryRun: false });
  expect(report).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: 4, totalClusters: 4 });
});

describe("sizes", () => {
  test("grows and shrinks, and what was cut off does not come back", async () => {
    const { image, file } = await openImageBytes(vdi, await imageBytes(vdi, SIZE));
    if (!isResizable(image)) throw new TypeError("no resize");
    await image.write(0, new Uint8Array(SIZE).fill(7));
    await image.resize(MIB + 1024);
    await image.resize(5 * MIB);
    const expected = new Uint8Array(5 * MIB);
    expected.fill(7, 0, MIB + 1024);
    expectSame(await contents(image), expected);
    await image.close();
    const again = await openImageBytes(vdi, file.bytes().slice());
    expectSame(await contents(again.image), expected);
    const report = await vdi.check(memoryFile(file.bytes()), openContext(), { repair: "none", dryRun: false });
    expect(report.corruptions).toBe(0);
  });

  test("larger than its map has room for is refused", async () => {
    const { image } = await openImageBytes(vdi, await imageBytes(vdi, SIZE));
    if (!isResizable(image)) throw new TypeError("no resize");
    await expect(image.resize(2 ** 40)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringMatching(/block map has room for/),
    });
  });
});

describe("check", () => {
  /** Blocks 0 to 3 of the disk in blocks 0 to 3 of the file. */
  async function written(): Promise<Uint8Array> {
    const { image, file } = await openImageBytes(vdi, await imageBytes(vdi, 4 * MIB));
    for (let block = 0; block < 4; block++) await image.write(block * MIB, new Uint8Array(MIB).fill(block + 1));
    await image.close();
    return file.bytes().slice();
  }
  const entry = (bytes: Uint8Array, block: number, number: number) =>
    Buffer.from(bytes.buffer).writeUInt32LE(number, VDI_HEADER.decode(bytes).mapOffset + block * 4);
  const check = (bytes: Uint8Array, repair: "none" | "leaks" | "all" = "none") => {
    const file = memoryFile(bytes);
    return vdi
      .check(file, openContext(), { repair, dryRun: false })
      .then((report) => ({ report, bytes: file.bytes().slice() }));
  };

  test("a block behind the end of the file is found, and becomes absent", async () => {
    const bytes = await written();
    entry(bytes, 2, 77);
    expect((await check(bytes)).report).toMatchObject({
      corruptions: 1,
      problems: expect.arrayContaining([expect.stringMatching(/^block 2 lies behind the end/)]),
    });
    const mended = await check(bytes.slice(), "all");
    expect(mended.report).toMatchObject({ corruptions: 0, corruptionsFixed: 1 });
    expect((await check(mended.bytes)).report).toMatchObject({ corruptions: 0 });
  });

  test("two blocks in one place are found, and the second gets a copy", async () => {
    const bytes = await written();
    entry(bytes, 3, 1);
    const mended = await check(bytes, "all");
    expect(mended.report).toMatchObject({ corruptionsFixed: 1 });
    const { image } = await openImageBytes(vdi, mended.bytes);
    const found = await contents(image);
    expect([found[MIB], found[3 * MIB]]).toEqual([2, 2]);
    await image.write(3 * MIB, new Uint8Array(512));
    expect((await contents(image))[MIB]).toBe(2);
  });

  test("a block of the file that nobody names is a leak; repairing gives its space back", async () => {
    const bytes = await written();
    entry(bytes, 1, 0xffff_ffff);
    const { report } = await check(bytes.slice());
    expect(report).toMatchObject({ corruptions: 0, leaks: 2 }); // the block, and the count
    const mended = await check(bytes, "leaks");
    expect(mended.report).toMatchObject({ leaksFixed: 2, leaks: 0 });
    expect(mended.bytes.length).toBe(bytes.length - MIB);
    expect((await check(mended.bytes)).report).toMatchObject({ corruptions: 0, leaks: 0 });
    const { image } = await openImageBytes(vdi, mended.bytes);
    const found = await contents(image);
    expect([found[0], found[MIB], found[2 * MIB], found[3 * MIB]]).toEqual([1, 0, 3, 4]);
  });
});
