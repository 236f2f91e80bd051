/** The metadata's text: grammar, what is kept, what is refused. Hostile bytes are read, or refused as CORRUPT. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DiskError } from "#src/errors.js";
import { openVolume } from "#src/lvm/activate.js";
import { requireChangeable } from "#src/lvm/changes/plan.js";
import { checkGroup, unknownParts } from "#src/lvm/check-group.js";
import { parseConfig } from "#src/lvm/config/parse.js";
import { printConfig } from "#src/lvm/config/print.js";
import { lvmCrc } from "#src/lvm/crc.js";
import { decodeLabel, encodeLabel, findLabel, type PvLabel } from "#src/lvm/label.js";
import { printGroup } from "#src/lvm/print-group.js";
import { readGroupText } from "#src/lvm/read-group.js";
import { scanDevices } from "#src/lvm/scan.js";
import { addVolume, extents, HEADER, MIB, makeGroup, memoryDisks, referenceText, valueGroup } from "./support.js";

describe("grammar", () => {
  test("assignments, sections, lists, both kinds of strings, comments anywhere", () => {
    const text = `# head\na = 1 # one\nb="x # no comment \\"q\\" \\\\"\nc = ['raw\\',-3, 2.50,]\nd{e=[]#x\n1f{}}\nbig = 9223372036854775807\0\0`;
    const tree = parseConfig(text, "text");
    expect(tree).toEqual([
      { kind: "assign", key: "a", value: 1 },
      { kind: "assign", key: "b", value: 'x # no comment "q" \\' },
      { kind: "assign", key: "c", value: ["raw\\", -3, { float: "2.50" }] },
      {
        kind: "section",
        key: "d",
        entries: [
          { kind: "assign", key: "e", value: [] },
          { kind: "section", key: "1f", entries: [] },
        ],
      },
      { kind: "assign", key: "big", value: 9223372036854775807n },
    ]);
    for (const indent of [false, true]) expect(parseConfig(printConfig(tree, { indent }), "again")).toEqual(tree);
  });

  test.each([
    ["a = ", /the end.*\(line 1\)/],
    ["a = 1\nb {", /the end.*\(line 2\)/],
    ['a = "x', /a string has no end/],
    ["a 1", /= or \{ after "a"/],
    ["a = [1 2]", /, or \]/],
    ["}", /an assignment or a section/],
    ["a = 0123", /a number, a string or a list/],
    ["a{".repeat(40) + "}".repeat(40), /nested deeper than 32/],
    [`a = ${"9".repeat(30)}`, /a number/],
  ])("%j is refused with its place", (text, pattern) => {
    expect(() => parseConfig(text, "text")).toThrow(pattern);
  });

  test("long strings and comments cost what they are long", () => {
    const long = `${"#\n".repeat(200_000)}a = "${"\\\\".repeat(500_000)}"`;
    expect(parseConfig(long, "text")).toHaveLength(1);
  });
});

const sample = () =>
  addVolume(addVolume(valueGroup([10, 10]), "a", { size: extents(3) }), "b", {
    size: extents(4),
    stripes: 2,
    tags: ["t"],
  });

describe("the group", () => {
  test("what nobody here knows is kept and written back", () => {
    const text = printGroup(sample(), HEADER)
      .replace("max_lv = 0", 'max_lv = 0\nnewkey = ["x", 7]\nnewsection {\ndeep = "y"\n}')
      .replace('device = "disk0"', 'device = "disk0"\ndevice_id_type = "loop_file"')
      .replace("segment_count", 'read_ahead = -1\nstrange = "z"\nsegment_count')
      .replace('type = "striped"', 'type = "striped"\nunknown_field = 3')
      .replace("flags = []", 'flags = ["FROM_THE_FUTURE"]');
    const first = readGroupText(text, "text");
    const again = printGroup(first.group, first.header);
    for (const kept of [
      "newkey",
      "deep",
      "device_id_type",
      "read_ahead = -1",
      "strange",
      "unknown_field",
      "FROM_THE_FUTURE",
    ])
      expect(again).toContain(kept);
    expect(readGroupText(again, "again")).toEqual(first);
    expect(() => requireChangeable(first.group)).not.toThrow();
  });

  test("an unknown type or status makes it read-only, and is named", async () => {
    const text = printGroup(sample(), HEADER);
    for (const [from, to, pattern] of [
      ['type = "striped"', 'type = "quantum"', /segment of the unknown type quantum/],
      ['type = "striped"', 'type = "striped+WARP"', /unknown type striped\+WARP/],
      ['"ALLOCATABLE"', '"ALLOCATABLE", "HAUNTED"', /unknown status "HAUNTED"/],
    ] as const) {
      const { group } = readGroupText(text.replace(from, to), "text");
      expect(unknownParts(group).join()).toMatch(pattern);
      expect(() => requireChangeable(group)).toThrow(expect.objectContaining({ code: "UNSUPPORTED" }));
      const disk = memoryDisks([4 * MIB])[0]!.device;
      const open = () => openVolume(group, "a", new Map([["pv0", disk]]), { writable: true });
      if (to.includes("type")) await expect(open()).rejects.toThrow(/of type (quantum|striped\+WARP)/);
      else expect((await open()).writable).toBe(false);
    }
  });

  test.each([
    ['contents = "Text Format Volume Group"', "", /contents is not/],
    ["version = 1", "version = 2", /version is not 1/],
    ["seqno = 0", "", /seqno is missing/],
    ["extent_size = 8192", "extent_size = 0", /extent_size is 0 sectors/],
    ["start_extent = 0", "start_extent = 1", /begins at extent 1, allowed 0/],
    ["segment_count = 1", "segment_count = 2", /has 1 segments, its segment_count is 2/],
    ["stripe_count = 1", "stripe_count = 2", /stripes lists 2 values, stripe_count 2 takes 4/],
    ['stripes = ["pv0", 0]', 'stripes = ["pv9", 0]', /names "pv9", which the group does not have/],
    ["extent_count = 4", "extent_count = 5", /5 extents do not divide among 2 stripes/],
    ["extent_count = 3", "extent_count = 99999999999", /extent_count is 99999999999/],
    ["pe_count = 10", "pe_count = -1", /pe_count is -1/],
    ["physical_volumes {", "physical_disks {", /physical_volumes is missing/],
    ['id = "', 'id = "short', /id is /],
  ])("%j as %j is refused", (from, to, pattern) => {
    const text = printGroup(sample(), HEADER);
    expect(text).toContain(from);
    expect(() => readGroupText(text.replace(from, to), "text")).toThrow(
      expect.objectContaining({ code: "CORRUPT", message: expect.stringMatching(pattern) }),
    );
  });

  test.each([
    ["extents used twice", ['"pv1", 0', '"pv0", 0'], /both use extent 0 of pv0/],
    ["extents behind the end", ["pe_count = 10", "pe_count = 2"], /uses extents 0\.\.2 of pv0, which has 2/],
    [
      "one id twice",
      [/id = "([^"]+)"(?=\nstatus = \["READ)/g, 'id = "000000-0000-0000-0000-0000-0000-000000"'],
      /logical volume id .* is used twice/,
    ],
    ["a stripe size that is none", ["stripe_size = 128", "stripe_size = 100"], /stripe size of 100 sectors/],
    ["volumes upon themselves", ['stripes = ["pv0", 0]', 'stripes = ["a", 0]'], /lies on itself/],
    ["bad names", ["\na {", "\n-a {"], /logical volume name "-a"/],
  ] as const)("%s: told, not changed, not opened", async (_what, [from, to], pattern) => {
    const { group } = readGroupText(printGroup(sample(), HEADER).replace(from, to), "text");
    expect(checkGroup(group).join("\n")).toMatch(pattern);
    expect(() => requireChangeable(group)).toThrow(/it is damaged/);
    await expect(openVolume(group, group.logicalVolumes[1]!.name, new Map())).rejects.toThrow(/is damaged/);
  });

  test("changed bytes of a real text are read, or refused as CORRUPT", () => {
    const text = referenceText();
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(text.length - 1), fc.constantFrom(...'{}[]=",0129 \n#pvx')), {
          minLength: 1,
          maxLength: 5,
        }),
        (changes) => {
          const changed = [...text];
          for (const [at, character] of changes) changed[at] = character;
          try {
            const { group } = readGroupText(changed.join(""), "text");
            checkGroup(group);
            unknownParts(group);
          } catch (error) {
            expect(error).toBeInstanceOf(DiskError);
            expect(error).toMatchObject({ code: "CORRUPT" });
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe("labels", () => {
  const label: PvLabel = {
    sector: 1,
    id: "o6AEQm-DOLC-p0ck-qb81-ADMx-pTkh-N2n4A9",
    deviceSize: 64 * MIB,
    dataAreas: [{ offset: MIB, size: 0 }],
    metadataAreas: [{ offset: 4096, size: MIB - 4096 }],
    bootAreas: [],
    extension: { version: 2, flags: 0x80000001 },
  };

  test("go to bytes and back, unknown flags too", () => {
    for (const variant of [
      label,
      { ...label, bootAreas: [{ offset: MIB, size: MIB }], metadataAreas: [] },
      { ...label, extension: null },
    ])
      expect(decodeLabel(encodeLabel(variant), 1)).toEqual(variant);
    const many = Array.from({ length: 30 }, () => ({ offset: 4096, size: 4096 }));
    expect(() => encodeLabel({ ...label, metadataAreas: many })).toThrow(/do not fit/);
  });

  test("LVM2's checksum", () => {
    expect(lvmCrc(new Uint8Array(0))).toBe(0xf597a6cf);
    expect(lvmCrc(Buffer.from("123456789"))).toBe(lvmCrc(Buffer.from("123456789")));
  });

  test("a wrong sector, a wrong checksum and a second label are told", () => {
    const head = new Uint8Array(2048);
    head.set(encodeLabel({ ...label, sector: 3 }), 512);
    head.set(encodeLabel({ ...label, sector: 2 }), 1024);
    head.set(encodeLabel({ ...label, sector: 3 }), 1536);
    const { label: found, problems } = findLabel(head);
    expect(found?.sector).toBe(2);
    expect(problems.join("\n")).toMatch(/sector 1 is not used.*lies in sector 3[\s\S]*sector 3 is a second one/);
    head[1024 + 100]! ^= 1;
    head[1536 + 100]! ^= 1;
    expect(findLabel(head)).toMatchObject({ label: null });
  });

  test("changed bytes on a disk never make a scan fail", async () => {
    const [disk] = memoryDisks([4 * MIB]) as [ReturnType<typeof memoryDisks>[number]];
    await makeGroup([disk]);
    const sound = disk.bytes.slice(0, 8192);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom(512, 4096, 4608), fc.nat(511), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        async (changes, mend) => {
          disk.bytes.set(sound);
          for (const [base, at, value] of changes) disk.bytes[base + at] = value;
          if (mend) {
            const view = new DataView(disk.bytes.buffer);
            view.setUint32(512 + 16, lvmCrc(disk.bytes.subarray(532, 1024)), true);
            view.setUint32(4096, lvmCrc(disk.bytes.subarray(4100, 4608)), true);
          }
          const scan = await scanDevices([disk]);
          expect(scan.groups.length).toBeLessThanOrEqual(1);
        },
      ),
      { numRuns: 150 },
    );
  });
});
