/** A group that the real LVM2 wrote: read, printed, reported as LVM2 does. */
import { describe, expect, test } from "vitest";
import { checkGroup, unknownParts } from "#src/lvm/check-group.js";
import { dumpPv, foundLines } from "#src/lvm/dump.js";
import { printBackup, printGroup } from "#src/lvm/print-group.js";
import { readGroupText } from "#src/lvm/read-group.js";
import { type Field, makeTable, type Report } from "#src/lvm/report/engine.js";
import { GROUP_FIELDS, GROUPS_REPORT } from "#src/lvm/report/group-fields.js";
import { PV_FIELDS, PV_SEGMENT_FIELDS, PVS_REPORT, type PvRow, pvRuns } from "#src/lvm/report/pv-fields.js";
import { GroupFacts } from "#src/lvm/report/volume-facts.js";
import { SEGMENT_FIELDS, VOLUME_FIELDS, VOLUMES_REPORT, type VolumeRow } from "#src/lvm/report/volume-fields.js";
import { findGroup, scanDevices } from "#src/lvm/scan.js";
import { referenceDisks, referenceReports, referenceText } from "./support.js";

const BYTES = { unit: "b", suffix: false };
const reference = async () => findGroup(await scanDevices(referenceDisks()), "vgref");

test("is found on its disks, complete and without a complaint", async () => {
  const scan = await scanDevices(referenceDisks());
  expect(scan.warnings).toEqual([]);
  expect(scan.free).toEqual([]);
  const { group, members, damage } = findGroup(scan, "vgref");
  expect([...members.values()].map((pv) => pv?.name)).toEqual(["pv0", "pv1", "pv2"]);
  expect([group.logicalVolumes.length, group.extentSize, damage]).toEqual([45, 1 << 20, []]);
  expect([checkGroup(group), unknownParts(group)]).toEqual([[], []]);
});

test("both forms of text read back as the same group", async () => {
  const { group, header } = await reference();
  expect(readGroupText(printGroup(group, header), "text")).toEqual({ group, header });
  expect(readGroupText(printBackup(group, header), "text")).toEqual({ group, header });
  const backup = readGroupText(referenceText(), "backup").group;
  expect({ ...group, seqno: 0, physicalVolumes: [] }).toEqual({ ...backup, seqno: 0, physicalVolumes: [] });
});

/** Rows by what identifies them; every field that both know. */
function compared<Row>(
  report: Report<Row>,
  rows: readonly Row[],
  theirs: Record<string, string>[],
  key: (row: Record<string, string>) => string,
) {
  const table = makeTable(report, rows, {
    columns: [report.fields.map(({ name }) => name).join(",")],
    units: BYTES,
    sort: "",
  });
  const names = table.columns.map(({ name }) => name);
  const ours = table.rows.map((cells) => Object.fromEntries(cells.map((cell, i) => [names[i]!, cell])));
  const common = names.filter((name) => theirs[0]![name] !== undefined);
  const pick = (row: Record<string, string>) => Object.fromEntries(common.map((name) => [name, row[name]]));
  const sorted = (all: Record<string, string>[]) => all.toSorted((a, b) => (key(a) < key(b) ? -1 : 1)).map(pick);
  return { ours: sorted(ours), theirs: sorted(theirs), common };
}

/** Where LVM2 without a kernel says "unknown", we say what a volume that no kernel has open is. */
function withoutState(rows: Record<string, string | undefined>[]) {
  return rows.map((row) => ({
    ...row,
    lv_path: undefined, // ours is a name that our commands take
    lv_health_status: row.lv_health_status?.replace("unknown", ""),
    lv_attr: row.lv_attr?.replace(/^(.{4})..(..)./, "$1--$2-"),
  }));
}

describe("reports say what LVM2's say", () => {
  test("lvs, all volumes, all fields", async () => {
    const found = await reference();
    const facts = new GroupFacts(found);
    const rows = found.group.logicalVolumes
      .filter((volume) => !facts.isJoint(volume))
      .flatMap((volume) => volume.segments.map((segment): VolumeRow => ({ facts, volume, segment })));
    const report: Report<VolumeRow> = {
      ...VOLUMES_REPORT,
      fields: [...VOLUME_FIELDS, ...SEGMENT_FIELDS] as Field<VolumeRow>[],
    };
    const { ours, theirs, common } = compared(
      report,
      rows,
      referenceReports().lvs,
      (row) => `${row.lv_name}${row.seg_start_pe}`,
    );
    expect(common.length).toBeGreaterThan(55);
    expect(withoutState(ours)).toEqual(withoutState(theirs));
  });

  test("vgs, all fields", async () => {
    const { ours, theirs, common } = compared(
      GROUPS_REPORT,
      [{ facts: new GroupFacts(await reference()) }],
      referenceReports().vgs,
      () => "",
    );
    expect(common.length).toBeGreaterThan(30);
    expect(ours).toEqual(theirs);
  });

  test("pvs with their runs of extents", async () => {
    const found = await reference();
    const facts = new GroupFacts(found);
    const rows = found.group.physicalVolumes.flatMap((entry) =>
      pvRuns(found.group, entry).map(
        (run): PvRow => ({ facts, entry, found: found.members.get(entry.name)!, duplicate: false, run }),
      ),
    );
    const report: Report<PvRow> = { ...PVS_REPORT, fields: [...PV_FIELDS, ...PV_SEGMENT_FIELDS] };
    const { ours, theirs, common } = compared(
      report,
      rows,
      referenceReports().pvs,
      (row) => `${row.pv_name} ${row.pvseg_start!.padStart(6)}`,
    );
    expect(common.length).toBeGreaterThan(22);
    expect(ours).toEqual(theirs);
    expect(GROUP_FIELDS.length).toBeGreaterThan(30);
  });
});

test("pvck's dumps: headers, the text in force, texts found without headers", async () => {
  const [{ device }] = referenceDisks() as [ReturnType<typeof referenceDisks>[number]];
  const { lines } = await dumpPv(device, "headers");
  expect(lines).toContain("  pv_header.device_size 134217728");
  expect(lines).toContain("  mda_header_1.magic 0x204c564d3220785b35412572304e2a3e");
  expect(lines.at(-1)).toMatch(/metadata text at 4608 crc 0x[0-9a-f]+ # vgname vgref seqno \d+$/);
  const { texts } = await dumpPv(device, "metadata");
  expect(readGroupText(texts[0]!, "dump").group).toEqual((await reference()).group);
  await device.write(4096, new Uint8Array(512)); // no header leads to the text any more
  expect((await dumpPv(device, "metadata")).texts).toEqual([]);
  const searched = await dumpPv(device, "metadata_search");
  expect(searched.lines.join("\n")).toMatch(/metadata at 4608 length \d+ crc [0-9a-f]{8} vg vgref seqno \d+/);
  expect(await foundLines(device, "pv0")).toEqual([
    "  Found label on pv0, sector 1, type=LVM2 001",
    expect.stringContaining("WARNING: Cannot read LVM2 metadata area header: its checksum is 0x0"),
  ]);
});
