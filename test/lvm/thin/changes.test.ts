/** Plans of thin pools and volumes: the text as LVM2 has it, ids and messages of the transaction, what is refused. */
import { describe, expect, test } from "vitest";
import { planCreatePool } from "#src/lvm/changes/thin-pool.js";
import { planResizePool } from "#src/lvm/changes/thin-resize.js";
import {
  hasMessages,
  planCreateThin,
  planExternalSnapshot,
  planThinSnapshot,
  withoutMessages,
} from "#src/lvm/changes/thin-volume.js";
import { planChangeVolume, planRemoveVolume, planRenameVolume } from "#src/lvm/changes/volume.js";
import { checkGroup } from "#src/lvm/check-group.js";
import { newId } from "#src/lvm/id.js";
import { findVolume, type VolumeGroup } from "#src/lvm/metadata.js";
import { printGroup } from "#src/lvm/print-group.js";
import { readGroupText } from "#src/lvm/read-group.js";
import { poolMessages } from "#src/lvm/thin/message-fields.js";
import { addVolume, extents, HEADER, MIB, seededRandom, valueGroup } from "../support.js";

const random = seededRandom(31);
const common = { time: 5, host: "here", newId: () => newId(random) };
const bytes = (size: number, sign: "" | "+" = "") => ({ kind: "bytes", sign, bytes: size }) as const;

function withPool(extent = MIB): VolumeGroup {
  return planCreatePool(valueGroup([400, 400], extent), { ...common, name: "pool", size: bytes(64 * MIB) }).group;
}

const thin = (group: VolumeGroup, name: string, size = 100 * MIB) =>
  planCreateThin(group, { ...common, id: newId(random), name, pool: "pool", size });
const snapshot = (group: VolumeGroup, name: string, origin: string) =>
  planThinSnapshot(group, { ...common, id: newId(random), name, origin });
const messages = (group: VolumeGroup) => poolMessages(findVolume(group, "pool").segments[0]!);
const field = (group: VolumeGroup, name: string, key: string) => {
  const found = findVolume(group, name).segments[0]!.fields.find((entry) => entry.key === key);
  return found?.kind === "assign" ? found.value : undefined;
};
const names = ({ logicalVolumes }: VolumeGroup) => logicalVolumes.map((volume) => volume.name).sort();

describe("a pool", () => {
  test("has hidden data and metadata, and the group a spare", () => {
    const group = withPool();
    expect(names(group)).toEqual(["lvol0_pmspare", "pool", "pool_tdata", "pool_tmeta"]);
    expect(checkGroup(group)).toEqual([]);
    expect(readGroupText(printGroup(group, HEADER), "text").group).toEqual(group);
    expect(findVolume(group, "pool")).toMatchObject({
      status: ["READ", "WRITE", "VISIBLE"],
      segments: [{ type: "thin-pool", count: 64 }],
    });
    expect(findVolume(group, "pool_tmeta")).toMatchObject({ status: ["READ", "WRITE"], segments: [{ count: 2 }] });
    expect(findVolume(group, "pool").segments[0]!.fields.map(({ key }) => key)).toEqual(
      "metadata pool transaction_id chunk_size discards zero_new_blocks".split(" "),
    );
  });

  test.each([
    ["64 MiB", 64 * MIB, MIB, {}, 64 << 10, 2],
    ["4 GiB in extents of 4 MiB", 4096 * MIB, 4 * MIB, {}, 64 << 10, 1],
    ["1 TiB takes larger chunks rather than more metadata", 1024 * 1024 * MIB, 4 * MIB, {}, 512 << 10, 32],
    ["chunks that were asked for", 1024 * 1024 * MIB, 4 * MIB, { chunkSize: 64 << 10 }, 64 << 10, 256],
    ["metadata that was asked for", 64 * MIB, MIB, { metadataSize: 5 * MIB }, 64 << 10, 5],
  ])("of %s", (_what, size, extentSize, request, chunkSize, metadataExtents) => {
    const group = valueGroup([300_000, 300_000], extentSize);
    const plan = planCreatePool(group, { ...common, name: "pool", size: bytes(size), ...request });
    expect(field(plan.group, "pool", "chunk_size")).toBe(chunkSize / 512);
    expect(findVolume(plan.group, "pool_tmeta").segments[0]!.count).toBe(metadataExtents);
  });

  test("of all that is free leaves room for the metadata", () => {
    const all = { kind: "percent", sign: "", percent: 100, of: "FREE" } as const;
    const plan = planCreatePool(valueGroup([50], MIB), { ...common, name: "pool", size: all });
    expect(findVolume(plan.group, "pool").segments[0]!.count).toBe(50 - 2 - 2);
  });

  test("without room for a spare says so; a bad chunk size is refused", () => {
    const plan = planCreatePool(valueGroup([13], MIB), { ...common, name: "pool", size: bytes(10 * MIB) });
    expect(plan.warnings.join()).toMatch(/no room for 2.00 MiB of spare/);
    for (const chunkSize of [4096, 96 << 10, 2048 * MIB])
      expect(() =>
        planCreatePool(valueGroup([50], MIB), { ...common, name: "p", size: bytes(MIB), chunkSize }),
      ).toThrow(/Invalid chunk size/);
  });

  test("grows in data and metadata, the spare with it, and is not cut", () => {
    const group = withPool();
    const grown = planResizePool(group, {
      ...common,
      name: "pool",
      way: "extend",
      size: bytes(16 * MIB, "+"),
      metadataSize: bytes(3 * MIB, "+"),
    });
    expect(grown.steps.at(-1)).toBe("Logical volume vg/pool successfully resized.");
    for (const [name, count] of [
      ["pool", 80],
      ["pool_tmeta", 5],
      ["lvol0_pmspare", 5],
    ] as const)
      expect(findVolume(grown.group, name).segments.reduce((sum, segment) => sum + segment.count, 0)).toBe(count);
    expect(checkGroup(grown.group)).toEqual([]);
    expect(() =>
      planResizePool(group, { ...common, name: "pool", way: "reduce", size: bytes(MIB), metadataSize: null }),
    ).toThrow(/cannot be reduced/);
  });
});

describe("a thin volume", () => {
  test("is told to its pool, volumes of one change in one transaction", () => {
    const { group, volume } = thin(withPool(), "t1");
    expect(volume.segments[0]).toMatchObject({ type: "thin", count: 100 });
    expect(volume.segments[0]!.fields.map(({ key }) => key)).toEqual(["thin_pool", "transaction_id", "device_id"]);
    expect([field(group, "t1", "transaction_id"), field(group, "pool", "transaction_id")]).toEqual([0, 1]);
    const both = thin(group, "t2").group;
    expect(messages(both)).toEqual([
      { kind: "create", volume: "t1" },
      { kind: "create", volume: "t2" },
    ]);
    expect([field(both, "t2", "device_id"), field(both, "pool", "transaction_id")]).toEqual([2, 1]);
    expect(readGroupText(printGroup(both, HEADER), "text").group).toEqual(both);
    const told = withoutMessages(both);
    expect(told.logicalVolumes.some(hasMessages)).toBe(false);
    expect(field(thin(told, "t3").group, "pool", "transaction_id")).toBe(2);
  });

  test("larger than its pool is a warning", () => {
    expect(thin(withPool(), "t1", 64 * MIB).warnings).toEqual([]);
    expect(thin(withPool(), "t1", 65 * MIB).warnings.join()).toMatch(
      /Sum of all thin volume sizes \(65.00 MiB\) exceeds the size of thin pool vg\/pool \(64.00 MiB\)/,
    );
  });

  test("has snapshots as large as it is, left out at activation, which survive it", () => {
    const group = withoutMessages(snapshot(thin(withPool(), "t1").group, "s1", "t1").group);
    expect(findVolume(group, "s1")).toMatchObject({ flags: ["ACTIVATION_SKIP"], segments: [{ count: 100 }] });
    expect(field(group, "s1", "origin")).toBe("t1");
    const { group: left, removed } = planRemoveVolume(group, "t1");
    expect(removed).toEqual(["t1"]);
    expect(field(left, "s1", "origin")).toBe(undefined);
    expect(messages(left)).toEqual([{ kind: "delete", deviceId: 1 }]);
    // The id of a volume that is only going to be deleted is not given out again.
    const last = planRemoveVolume(left, "s1").group;
    expect(field(thin(last, "t9").group, "t9", "device_id")).toBe(3);
  });

  test("goes with its pool, and the last pool's spare too", () => {
    const group = withoutMessages(snapshot(thin(withPool(), "t1").group, "s1", "t1").group);
    const plan = planRemoveVolume(group, "pool");
    expect(plan.dependents).toEqual(["t1", "s1"]);
    expect(names(plan.group)).toEqual([]);
  });

  test("is renamed with all that names it", () => {
    const group = planRenameVolume(snapshot(thin(withPool(), "t1").group, "s1", "t1").group, "t1", "web").group;
    expect(field(group, "s1", "origin")).toBe("web");
    expect(messages(group)[0]).toEqual({ kind: "create", volume: "web" });
    const moved = planRenameVolume(group, "pool", "deep").group;
    expect(names(moved)).toEqual(["deep", "deep_tdata", "deep_tmeta", "lvol0_pmspare", "s1", "web"]);
    expect(field(moved, "web", "thin_pool")).toBe("deep");
    expect(field(moved, "deep", "metadata")).toBe("deep_tmeta");
  });

  test("begins as an external origin that cannot be written, and keeps it", () => {
    const group = addVolume(withPool(), "base", { size: extents(20) });
    const plan = (from: VolumeGroup) =>
      planExternalSnapshot(from, { ...common, id: newId(random), name: "e", origin: "base", pool: "pool" });
    expect(() => plan(group)).toThrow(/writable LV as the external origin/);
    const { group: after } = plan(planChangeVolume(group, "base", { permission: "r" }).group);
    expect(field(after, "e", "external_origin")).toBe("base");
    expect(messages(after)).toEqual([{ kind: "create", volume: "e" }]);
    expect(() => planRemoveVolume(after, "base")).toThrow(/e need it/);
  });

  test("of no pool, or of a volume that is no thin one, is refused", () => {
    const group = addVolume(withPool(), "lin", { size: extents(2) });
    expect(() => planCreateThin(group, { ...common, id: newId(random), pool: "lin", size: MIB })).toThrow(
      /not a thin pool/,
    );
    expect(() => snapshot(group, "s", "lin")).toThrow(/not a thin volume/);
    expect(() => thin(group, "lin")).toThrow(/already exists/);
  });
});
