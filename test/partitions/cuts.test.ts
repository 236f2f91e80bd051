/** A cut after any single sector leaves the old table or the new one: every prefix of every plan's sector writes is tried. */
import { describe, expect, it } from "vitest";
import { planAdd } from "#src/partitions/changes/add.js";
import { planApply } from "#src/partitions/changes/apply.js";
import { planConvert } from "#src/partitions/changes/convert.js";
import { planInit } from "#src/partitions/changes/init.js";
import { planNewIds } from "#src/partitions/changes/new-ids.js";
import { planRemove } from "#src/partitions/changes/remove.js";
import { planRepair, planSalvage } from "#src/partitions/changes/repair.js";
import { planResize } from "#src/partitions/changes/resize.js";
import { planSet } from "#src/partitions/changes/set.js";
import { parseLayout } from "#src/partitions/script/parse.js";
import { printScript } from "#src/partitions/script/sfdisk-script.js";
import { LINUX_GUID } from "#src/partitions/type-codes.js";
import { writePlan } from "#src/partitions/write.js";
import { tryAllCuts } from "./cuts.js";
import { add, disk, initialized, MIB, seededRandom } from "./support.js";

describe("every prefix of the writes shows the old table or the new one", () => {
  for (const sectorSize of [512, 4096] as const) {
    it(`init gpt on an empty disk, ${sectorSize}-byte sectors`, async () => {
      const { bytes, device } = disk(4 * MIB);
      expect(
        await tryAllCuts(bytes, planInit(device, null, { format: "gpt", sectorSize }, seededRandom())),
      ).toBeGreaterThan(60);
    });
    it(`add and rm, ${sectorSize}-byte sectors`, async () => {
      const made = await initialized(8 * MIB, "gpt", sectorSize);
      for (const name of ["one", "two", "three"]) {
        await tryAllCuts(made.bytes, planAdd(await made.table(), { size: MIB, name }, made.random));
        await add(made, { size: MIB, name });
      }
      await tryAllCuts(made.bytes, planRemove(await made.table(), 2));
      await tryAllCuts(made.bytes, planNewIds(await made.table(), seededRandom(9)).plan);
    });
  }

  it("init mbr on an empty disk", async () => {
    const { bytes, device } = disk(4 * MIB);
    expect(await tryAllCuts(bytes, planInit(device, null, { format: "mbr" }, seededRandom()))).toBe(2048);
  });

  it("init gpt over an mbr with logical partitions, and back", async () => {
    const made = await initialized(16 * MIB, "mbr");
    await add(made, { size: MIB });
    await add(made, { size: MIB, logical: true });
    await add(made, { size: MIB, logical: true });
    const plan = planInit(made.device, await made.table(), { format: "gpt", force: true }, seededRandom(3));
    await tryAllCuts(made.bytes, plan);
    const gpt = await initialized(16 * MIB, "gpt");
    await add(gpt, { size: MIB });
    await tryAllCuts(
      gpt.bytes,
      planInit(gpt.device, await gpt.table(), { format: "mbr", force: true }, seededRandom(4)),
    );
  });

  it.each([
    [512, 4096],
    [4096, 512],
  ] as const)("init gpt of %i-byte sectors over one of %i", async (after, before) => {
    const made = await initialized(8 * MIB, "gpt", before);
    await add(made, { size: MIB });
    const plan = planInit(
      made.device,
      await made.table(),
      { format: "gpt", sectorSize: after, force: true },
      seededRandom(5),
    );
    await tryAllCuts(made.bytes, plan);
  });

  it.each(["primary", "backup"])("add with a bad %s copy", async (copy) => {
    for (const what of ["header", "entries"]) {
      const made = await initialized(8 * MIB, "gpt");
      await add(made, { size: MIB, name: "kept" });
      const header = copy === "primary" ? 512 : made.bytes.length - 512;
      const at = what === "header" ? header : copy === "primary" ? 1024 : header - 16384;
      made.bytes[at + 40]! ^= 0xff;
      await tryAllCuts(made.bytes, planAdd(await made.table(), { size: MIB }, made.random));
    }
  });

  it("add on a disk that has grown, also with its primary gone", async () => {
    for (const damaged of [false, true]) {
      const made = await initialized(8 * MIB, "gpt");
      await add(made, { size: MIB, name: "kept" });
      const grown = disk(16 * MIB);
      grown.bytes.set(made.bytes);
      if (damaged) grown.bytes.fill(0xa5, 512, 1024);
      await tryAllCuts(grown.bytes, planAdd(await grown.table(), { size: 8 * MIB }, made.random));
    }
  });

  it("mbr: primary and logical partitions, first, in the middle, last", async () => {
    const made = await initialized(32 * MIB, "mbr");
    for (const request of [
      { size: MIB },
      { size: MIB, number: 3 },
      { size: MIB, logical: true },
      { size: MIB, logical: true },
      { size: MIB, logical: true },
    ]) {
      await tryAllCuts(made.bytes, planAdd(await made.table(), request, made.random));
      await add(made, request);
    }
    for (const number of [1, 2, 5, 6, 7]) await tryAllCuts(made.bytes, planRemove(await made.table(), number));
    await tryAllCuts(made.bytes, planNewIds(await made.table(), seededRandom(2)).plan);
  });

  it("set, resize and apply on both kinds of table", async () => {
    for (const format of ["gpt", "mbr"] as const) {
      const made = await initialized(32 * MIB, format);
      await add(made, { size: 2 * MIB, start: 4 * MIB });
      await add(made, { size: 2 * MIB, start: 10 * MIB, logical: format === "mbr" });
      await add(made, { size: 2 * MIB, start: 16 * MIB, logical: format === "mbr" });
      const table = await made.table();
      const last = format === "mbr" ? 6 : 3;
      await tryAllCuts(made.bytes, planSet(table, 1, { type: "swap", bootable: true }));
      await tryAllCuts(made.bytes, planSet(table, last, { type: "lvm" }));
      for (const number of [1, last - 1, last]) {
        await tryAllCuts(made.bytes, planResize(table, number, MIB));
        await tryAllCuts(made.bytes, planResize(table, number, "all"));
      }
      const primaries = printScript(table, "a.dsk").replace("type=83", "type=82").replaceAll(LINUX_GUID, "swap");
      const script = parseLayout(primaries);
      await tryAllCuts(made.bytes, planApply(made.device, table, script, seededRandom(6)));
    }
  });

  it("mbr: several logical partitions at once", async () => {
    const made = await initialized(48 * MIB, "mbr");
    for (let i = 0; i < 5; i++) await add(made, { size: 2 * MIB, logical: true });
    const table = await made.table();
    const swap = printScript(table, "a.dsk").replaceAll("type=83", "type=82");
    expect(
      await tryAllCuts(made.bytes, planApply(made.device, table, parseLayout(swap), seededRandom())),
    ).toBeGreaterThan(4);
    const fewer = swap
      .split("\n")
      .filter((line) => !line.startsWith("a.dsk6") && !line.startsWith("a.dsk9"))
      .join("\n");
    const renumbered = fewer.replace("a.dsk7", "a.dsk6").replace("a.dsk8", "a.dsk7");
    await tryAllCuts(made.bytes, planApply(made.device, table, parseLayout(renumbered), seededRandom()));
  });

  it("mbr: primary and logical partitions at once, by way of another first EBR", async () => {
    const made = await initialized(48 * MIB, "mbr");
    await add(made, { size: 2 * MIB });
    for (let i = 0; i < 3; i++) await add(made, { size: 2 * MIB, logical: true });
    const table = await made.table();
    const both = parseLayout(printScript(table, "a.dsk").replaceAll("type=83", "type=82"));
    const plan = planApply(made.device, table, both, seededRandom());
    await tryAllCuts(made.bytes, plan, "but where the extended partition begins");
    await writePlan(made.device, plan);
    expect((await made.table()).partitions.map(({ type }) => type)).toEqual(["82", "5", "82", "82", "82"]);
  });

  it("mbr: and is refused when there is no sector for it", async () => {
    const made = await initialized(48 * MIB, "mbr");
    await add(made, { size: 2 * MIB });
    await add(made, { start: 4 * MIB, type: "extended" });
    await add(made, { start: 4 * MIB + 512, size: 2 * MIB, logical: true });
    const table = await made.table();
    const both = parseLayout(printScript(table, "a.dsk").replaceAll("type=83", "type=82"));
    expect(() => planApply(made.device, table, both, seededRandom())).toThrow(
      /sectors 0 and 8192 would change at once/,
    );
  });

  it("convert in every direction", async () => {
    const made = await initialized(48 * MIB, "mbr");
    await add(made, { size: 2 * MIB, bootable: true });
    await add(made, { size: 2 * MIB, logical: true });
    await add(made, { size: 2 * MIB, logical: true });
    for (const request of [
      { label: "gpt" },
      { sectorSize: 4096 },
      { sectorSize: 512 },
      { label: "dos" },
      { label: "gpt" },
    ] as const) {
      const plan = planConvert(await made.table(), request, made.random);
      await tryAllCuts(made.bytes, plan);
      await writePlan(made.device, plan);
    }
  });

  it("repair of either copy, of both halves, of the boot sector, after growth", async () => {
    const damages: readonly (readonly number[])[] = [
      [512 + 20],
      [1024 + 40],
      [-512 + 20],
      [-16896 + 40],
      [450],
      [512 + 20, 450],
      [-512 + 20, 450],
      [510],
    ];
    for (const damage of damages) {
      const made = await initialized(8 * MIB, "gpt");
      await add(made, { size: MIB, name: "kept" });
      for (const at of damage) made.bytes[at < 0 ? made.bytes.length + at : at]! ^= 0xff;
      const plan = planRepair(await made.table(), seededRandom());
      await tryAllCuts(made.bytes, plan);
      await writePlan(made.device, plan);
      expect((await made.table()).problems).toEqual([]);
    }
  });

  it("what is put together from two halves", async () => {
    for (const damage of [
      [512 + 20, -16896 + 40],
      [1024 + 40, -512 + 20],
    ]) {
      const made = await initialized(8 * MIB, "gpt");
      await add(made, { size: MIB, name: "kept" });
      const whole = made.bytes.slice();
      for (const at of damage) made.bytes[at < 0 ? made.bytes.length + at : at]! ^= 0xff;
      await expect(made.table()).rejects.toThrow(/both copies are bad/);
      const found = (await planSalvage(made.device, seededRandom()))!;
      expect(found.certain).toBe(true);
      await tryAllCuts(made.bytes, found.plan);
      await writePlan(made.device, found.plan);
      expect(Buffer.compare(made.bytes, whole)).toBe(0);
    }
  });
});
