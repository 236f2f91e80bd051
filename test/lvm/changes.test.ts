/** Planners: where extents go by each policy, what sizes mean, what is refused. Pure. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DiskError } from "#src/errors.js";
import { type AllocationRequest, allocateExtents, freeRuns } from "#src/lvm/allocate.js";
import { diffGroups } from "#src/lvm/changes/diff.js";
import { parseExtents } from "#src/lvm/changes/extents.js";
import { planCreateGroup, planReduceGroup, planRenameGroup } from "#src/lvm/changes/group.js";
import { planResizeVolume } from "#src/lvm/changes/resize-volume.js";
import { planChangeVolume, planRemoveVolume, planRenameVolume } from "#src/lvm/changes/volume.js";
import { checkGroup } from "#src/lvm/check-group.js";
import { planPv } from "#src/lvm/create-pv.js";
import { freeExtents } from "#src/lvm/free.js";
import { extentCount, findVolume, type VolumeGroup } from "#src/lvm/metadata.js";
import { readGroupText } from "#src/lvm/read-group.js";
import { addVolume, extents, MIB, referenceText, seededRandom, valueGroup } from "./support.js";

const runs = (group: VolumeGroup, request: Partial<AllocationRequest> & { extents: number }) =>
  allocateExtents(group, { legs: 1, policy: "normal", ...request }).flatMap(({ runs: all }) =>
    all.map(({ pv, first, count }) => `${pv}:${first}+${count}`),
  );

describe("allocation", () => {
  test("normal: the first volume where it fits in one run, else the largest run first", () => {
    expect(runs(valueGroup([10, 20, 20]), { extents: 5 })).toEqual(["pv0:0+5"]);
    expect(runs(valueGroup([10, 20, 20]), { extents: 15 })).toEqual(["pv1:0+15"]);
    const holes = addVolume(addVolume(valueGroup([20]), "a", { size: extents(12) }), "b", { size: extents(2) });
    expect(runs(planRemoveVolume(holes, "a").group, { extents: 4 })).toEqual(["pv0:14+4"]); // the smaller hole of two
    expect(runs(valueGroup([10, 20, 15]), { extents: 40 })).toEqual(["pv1:0+20", "pv2:0+15", "pv0:0+5"]);
  });

  test("contiguous: one run, or directly behind", () => {
    const group = addVolume(valueGroup([10, 10]), "a", { size: extents(4) });
    expect(runs(group, { extents: 10, policy: "contiguous" })).toEqual(["pv1:0+10"]);
    expect(() => runs(group, { extents: 11, policy: "contiguous" })).toThrow(/Insufficient suitable free space/);
    const ends = [{ pv: "pv0", first: 0, count: 4 }];
    expect(runs(group, { extents: 6, policy: "contiguous", ends })).toEqual(["pv0:4+6"]);
    expect(() => runs(group, { extents: 7, policy: "contiguous", ends })).toThrow(/policy contiguous/);
  });

  test("cling: stays on its volume, or on one with a tag in common", () => {
    const group = valueGroup([10, 30, 20]);
    const ends = [{ pv: "pv0", first: 0, count: 2 }];
    expect(
      runs(group, {
        extents: 5,
        policy: "cling",
        ends,
        within: [
          { pv: "pv0", first: 5, count: 5 },
          { pv: "pv1", first: 0, count: 30 },
        ],
      }),
    ).toEqual(["pv0:5+5"]);
    expect(() => runs(group, { extents: 11, policy: "cling", ends })).toThrow(/Insufficient/);
    const tagged = {
      ...group,
      physicalVolumes: group.physicalVolumes.map((pv) => (pv.name === "pv1" ? pv : { ...pv, tags: ["rack"] })),
    };
    expect(runs(tagged, { extents: 12, policy: "cling", ends, clingTags: ["*"] })).toEqual(["pv0:0+10", "pv2:0+2"]);
  });

  test("stripes lie on different volumes; anywhere lets them share one", () => {
    expect(runs(valueGroup([10, 20, 15]), { extents: 5, legs: 2 })).toEqual(["pv0:0+5", "pv1:0+5"]);
    expect(() => runs(valueGroup([10]), { extents: 2, legs: 2 })).toThrow(/for each of 2 stripes/);
    expect(runs(valueGroup([10]), { extents: 5, legs: 2, policy: "anywhere" })).toEqual(["pv0:0+5", "pv0:5+5"]);
  });

  test("only within the ranges that are given, which may overlap; never on what may not be allocated", () => {
    const group = addVolume(valueGroup([10, 10]), "a", { size: extents(3) });
    const within = [
      { pv: "pv0", first: 2, count: 4 },
      { pv: "pv0", first: 5, count: 2 },
    ];
    expect([...freeRuns(group, within).values()].flat()).toEqual([
      { pv: "pv0", first: 3, count: 3 },
      { pv: "pv0", first: 6, count: 1 },
    ]);
    const locked = { ...group, physicalVolumes: group.physicalVolumes.map((pv) => ({ ...pv, status: [] })) };
    expect(freeRuns(locked).size).toBe(0);
  });

  test("whatever is asked for: no extent twice, every run free before, exactly as much as asked", () => {
    const request = fc.record({
      sizes: fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 5 }),
      volumes: fc.array(
        fc.record({
          count: fc.integer({ min: 1, max: 12 }),
          stripes: fc.integer({ min: 1, max: 3 }),
          policy: fc.constantFrom("contiguous", "cling", "normal", "anywhere"),
        }),
        { maxLength: 8 },
      ),
      removed: fc.nat(8),
      grown: fc.nat(8),
      shrunk: fc.nat(8),
    });
    fc.assert(
      fc.property(request, ({ sizes, volumes, removed, grown, shrunk }) => {
        let group = valueGroup(sizes);
        const attempt = (work: () => VolumeGroup) => {
          const before = group;
          try {
            group = work();
          } catch (error) {
            expect(error).toBeInstanceOf(DiskError);
            expect((error as DiskError).code).not.toBe("CORRUPT");
          }
          expect(checkGroup(group)).toEqual([]);
          return before;
        };
        for (const [i, { count, stripes, policy }] of volumes.entries()) {
          const before = attempt(() =>
            addVolume(group, `v${i}`, { size: extents(count), stripes, allocation: policy as "normal" }),
          );
          const volume = group.logicalVolumes.find(({ name }) => name === `v${i}`);
          const total = (value: VolumeGroup) => [...freeExtents(value).values()].reduce((sum, free) => sum + free, 0);
          if (volume) expect(total(before) - total(group)).toBe(extentCount(volume));
          if (volume) expect(extentCount(volume)).toBe(Math.ceil(count / stripes) * stripes);
        }
        attempt(() => planRemoveVolume(group, `v${removed}`).group);
        attempt(() => planResizeVolume(group, { name: `v${grown}`, size: extents(5, "+"), way: "extend" }).group);
        attempt(() => planResizeVolume(group, { name: `v${shrunk}`, size: extents(1, "-"), way: "reduce" }).group);
      }),
      { numRuns: 150 },
    );
  });
});

describe("volumes", () => {
  const group = () =>
    addVolume(addVolume(valueGroup([20, 20]), "a", { size: extents(4) }), "s", {
      size: extents(6),
      stripes: 2,
      stripeSize: 4096,
    });

  test("extending joins what is adjacent and keeps stripes and their size", () => {
    const plan = planResizeVolume(group(), { name: "s", size: extents(3, "+"), way: "extend" });
    const volume = findVolume(plan.group, "s");
    expect(volume.segments).toHaveLength(1);
    expect([volume.segments[0]!.count, volume.segments[0]!.fields]).toEqual([
      10,
      [{ kind: "assign", key: "stripe_size", value: 8 }],
    ]);
    expect(plan.steps).toEqual([
      "Rounding size 12.00 MiB (3 extents) up to stripe boundary size 16.00 MiB (4 extents).",
      "Size of logical volume vg/s changed from 24.00 MiB (6 extents) to 40.00 MiB (10 extents).",
      "Logical volume vg/s successfully resized.",
    ]);
  });

  test("sizes: rounded up to extents, shares, signs; what does not fit one way is refused", () => {
    const to = (text: string, way: "extend" | "reduce" | "resize" = "resize") =>
      planResizeVolume(group(), { name: "a", size: parseExtents(text), way }).to;
    expect([to("9"), to("+100%FREE"), to("50%VG"), to("200%LV"), to("-1")]).toEqual([9, 34, 20, 8, 3]);
    expect(
      addVolume(group(), "b", { size: { kind: "bytes", sign: "", bytes: 5 * MIB } }).logicalVolumes.at(-1)!.segments[0]!
        .count,
    ).toBe(2);
    for (const [text, way, pattern] of [
      ["4", "resize", /New size \(4 extents\) matches existing size/],
      ["3", "extend", /New size given \(3 extents\) not larger than existing size \(4 extents\)/],
      ["5", "reduce", /not less than existing size/],
      ["-4", "resize", /Unable to reduce/],
      ["+1000", "extend", /Insufficient free space: 1000 extents needed, but only 30 available/],
    ] as const)
      expect(() => to(text, way)).toThrow(pattern);
    expect(() => parseExtents("5%FOO")).toThrow(/allowed N/);
    expect(() => addVolume(group(), "big", { size: extents(31) })).toThrow(
      /insufficient free space \(30 extents\): 31 required/,
    );
  });

  test("names: taken, reserved, too long; numbered when none is given", () => {
    const base = group();
    for (const [name, pattern] of [
      ["a", /Logical Volume "a" already exists/],
      ["x_rimage_0", /LVM2 uses such names/],
      ["snapshot1", /LVM2 uses such names/],
      ["-x", /begins with a hyphen/],
      ["a b", /allowed are a-z/],
      ["x".repeat(124), /too long/],
    ] as const)
      expect(() => addVolume(base, name, { size: extents(1) })).toThrow(pattern);
    const next = addVolume(addVolume(base, "lvol7", { size: extents(1) }), "x", { size: extents(1) });
    expect(next.logicalVolumes).toHaveLength(4);
  });

  test("a virtual volume takes no extents; other types are refused by name", () => {
    const zero = addVolume(group(), "z", { size: extents(1000), type: "zero" });
    expect([...freeExtents(zero).values()]).toEqual([...freeExtents(group()).values()]);
    expect(planResizeVolume(zero, { name: "z", size: extents(500), way: "reduce" }).to).toBe(500);
    expect(() => addVolume(group(), "r", { size: extents(1), type: "raid1" })).toThrow(
      /of type raid1: this version creates/,
    );
    expect(() => addVolume(group(), "r", { size: extents(1), type: "nonsense" })).toThrow(/no such type/);
  });

  test("renaming takes parts and references along; removing takes parts away", () => {
    const { group: reference } = readGroupText(referenceText(), "text");
    const renamed = planRenameVolume(reference, "mir", "mirror2").group;
    expect(checkGroup(renamed)).toEqual([]);
    expect(renamed.logicalVolumes.filter(({ name }) => name.startsWith("mir_"))).toEqual([]);
    expect(findVolume(renamed, "mirror2").segments[0]!.fields).toContainEqual({
      kind: "assign",
      key: "mirror_log",
      value: "mirror2_mlog",
    });
    const origin = planRenameVolume(reference, "lin", "base").group;
    expect(findVolume(origin, "snapshot0").segments[0]!.fields).toContainEqual({
      kind: "assign",
      key: "origin",
      value: "base",
    });
    const { removed } = planRemoveVolume(reference, "r1");
    expect(removed.toSorted()).toEqual(["r1", "r1_rimage_0", "r1_rimage_1", "r1_rmeta_0", "r1_rmeta_1"]);
    expect(planRemoveVolume(reference, "lin").removed).toEqual(["snapshot0", "snap", "lin"]);
    expect(() => planRemoveVolume(reference, "r1_rimage_0")).toThrow(/internal logical volume/);
    expect(() => planResizeVolume(reference, { name: "r5", size: extents(1, "+"), way: "extend" })).toThrow(
      /of type raid5/,
    );
    expect(() => planResizeVolume(reference, { name: "pool_tdata", size: extents(1, "+"), way: "extend" })).toThrow(
      /pool \(thin-pool\) is made with it/,
    );
  });

  test("properties", () => {
    const changed = planChangeVolume(group(), "a", {
      permission: "r",
      addTags: ["x", "y"],
      skipActivation: true,
      autoactivation: false,
      allocation: "cling",
    }).group;
    expect(findVolume(changed, "a")).toMatchObject({
      status: ["READ", "VISIBLE"],
      tags: ["x", "y"],
      flags: ["ACTIVATION_SKIP", "NOAUTOACTIVATE"],
      allocation: "cling",
    });
    const back = planChangeVolume(changed, "a", {
      permission: "rw",
      deleteTags: ["x", "y"],
      skipActivation: false,
      autoactivation: true,
      allocation: "inherit",
    }).group;
    expect(back).toEqual(group());
    expect(() => planChangeVolume(changed, "a", { permission: "r" })).toThrow(/already read-only/);
    expect(diffGroups(group(), changed)).toContain('- vg/logical_volumes/a/status = ["READ", "WRITE", "VISIBLE"]');
    expect(diffGroups(null, null)).toEqual([]);
  });
});

describe("groups", () => {
  test("made, renamed, reduced; bad numbers refused", () => {
    const group = addVolume(valueGroup([4, 4]), "a", { size: extents(2) });
    expect(planRenameGroup(group, "other").steps).toEqual(['Volume group "vg" successfully renamed to "other"']);
    expect(() => planRenameGroup(group, "vg")).toThrow(/must differ/);
    expect(planReduceGroup(group, ["pv1"], ({ name }) => name).group.physicalVolumes).toHaveLength(1);
    expect(() => planReduceGroup(group, ["pv0"], ({ name }) => name)).toThrow(/"pv0" still in use/);
    expect(() => planReduceGroup({ ...group, logicalVolumes: [] }, ["pv0", "pv1"], ({ name }) => name)).toThrow(
      /Can't remove final/,
    );
    const label = planPv({ size: 8 * MIB, label: "d" }, { id: group.id }).label;
    const members = [{ device: "d", size: 8 * MIB, label }];
    for (const extentSize of [512, 3000, 96 << 10])
      expect(() => planCreateGroup({ name: "x", id: group.id, extentSize, members })).toThrow(/Physical extent size/);
    expect(
      planCreateGroup({ name: "x", id: group.id, extentSize: 384 << 10, members }).group.physicalVolumes[0]!.peCount,
    ).toBe(18);
    expect(() => planCreateGroup({ name: "x", id: group.id, extentSize: 64 * MIB, members })).toThrow(
      /no room for an extent/,
    );
    expect(() => planCreateGroup({ name: "..", id: group.id, extentSize: MIB, members })).toThrow(/volume group name/);
  });

  /** Found with pvcreate and pvck of LVM2 2.03.16 on 64 MiB devices. */
  test.each([
    [{}, [4096, 1044480], 1048576],
    [{ dataAlignment: 64 << 10 }, [4096, 1044480], 1048576],
    [{ dataAlignment: 3 * MIB }, [4096, 3141632], 3145728],
    [{ metadataSize: 64 << 10 }, [4096, 1044480], 1048576],
    [{ metadataSize: 3 * MIB }, [4096, 4190208], 4194304],
    [{ metadataCopies: 0 }, [], 1048576],
    [{ metadataCopies: 2 }, [4096, 1044480, 66060288, 1048576], 1048576],
    [{ metadataCopies: 2, metadataSize: 100 << 10 }, [4096, 1044480, 66060288, 1048576], 1048576],
    [{ metadataCopies: 2, dataAlignment: 3 * MIB }, [4096, 3141632, 66060288, 1048576], 3145728],
    [{ dataAlignmentOffset: 7 * 512 }, [4096, 1048064], 1052160],
    [{ metadataSize: 2 * MIB, dataAlignment: 64 << 10 }, [4096, 2158592], 2162688],
    [{ bootAreaSize: 512 << 10 }, [4096, 1044480], 2097152],
    [{ bootAreaSize: 512 << 10, dataAlignment: 64 << 10, metadataSize: 100 << 10 }, [4096, 126976], 655360],
  ] as const)("geometry of a physical volume with %j is LVM2's", (options, areas, peStart) => {
    const { label } = planPv(
      { size: 64 * MIB, label: "d" },
      { id: "o6AEQm-DOLC-p0ck-qb81-ADMx-pTkh-N2n4A9", ...options },
    );
    expect(label.metadataAreas.flatMap(({ offset, size }) => [offset, size])).toEqual([...areas]);
    expect(label.dataAreas[0]!.offset).toBe(peStart);
  });

  test("a disk that is too small, and numbers that do not go together", () => {
    const id = "o6AEQm-DOLC-p0ck-qb81-ADMx-pTkh-N2n4A9";
    expect(() => planPv({ size: MIB, label: "d" }, { id })).toThrow(/allowed from 2097152 on/);
    expect(() => planPv({ size: 4 * MIB, label: "d" }, { id, metadataSize: 8 * MIB })).toThrow(
      /data would begin at byte/,
    );
    expect(() => planPv({ size: 4 * MIB, label: "d" }, { id, labelSector: 4 })).toThrow(/allowed 0\.\.3/);
    expect(seededRandom(2)(1)).toHaveLength(1);
  });
});
